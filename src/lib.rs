//! luat-ota: the update server for Luat / LuatOS cellular modules.
//!
//! Firmware files are in folders named after project and version. A module that asks over HTTP, UDP or TCP gets the
//! bytes of the package that is meant for it. The modules, in the order in which a newcomer needs them:
//!
//! - [`cli`]: parses the command line and runs a command; `serve` starts the server.
//! - [`server`]: opens everything, starts the tasks, and stops gracefully.
//! - [`device`]: the public sockets, from the first byte of a request to the last byte of a file.
//! - [`wire`]: parsers and encoders of what modules send and receive, without input or output.
//! - [`firmware`]: the firmware folder as an immutable catalogue, the watcher that renews it, and snapshots of files.
//! - [`decision`]: decides which device is offered which release, in one pure function, [`decision::decide`].
//! - `pack`: builds packages from a `.soc` file or from scripts (feature `pack`).
//! - [`fleet`]: the recorded state of devices and releases, and its journal.
//! - [`mod@explain`]: explains what a device gets and why, for the command line and the operator.
//! - [`export`]: devices, releases, files and explanations as JSON and CSV, for the command line and the operator.
//! - `operator`: the page, the API and the metrics for people (feature `operator`).
//! - [`state`]: the state folder with its lock, the secret and files that are written atomically.
//! - [`logging`]: log lines as text or JSON, written in batches.
//! - [`os`]: system calls behind a safe interface; the only module with `unsafe`.
//! - `modems`: emulated clients for `probe`, `simulate` and tests (feature `lab`).
//!
//! A module imports only modules that a request reaches after it. `os`, `logging` and `state` may be imported by all,
//! and `modems` imports nothing else of the crate. `docs/architecture.md` follows a file, a check, a packet and a
//! device through them.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)
)]

pub mod cli;
pub mod decision;
pub mod device;
pub mod explain;
pub mod export;
pub mod firmware;
pub mod fleet;
pub mod logging;
#[cfg(feature = "lab")]
pub mod modems;
#[cfg(feature = "operator")]
pub mod operator;
pub mod os;
#[cfg(feature = "pack")]
pub mod pack;
pub mod server;
pub mod state;
pub mod wire;
