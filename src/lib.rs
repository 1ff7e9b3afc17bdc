//! luat-ota: the update server for Luat / LuatOS cellular modules.
//!
//! Firmware lies in folders whose names say project and version; every module that asks over HTTP,
//! UDP or TCP gets exactly the right bytes. The rooms, in the order a request walks through them
//! (each may import only those below it):
//!
//! - [`cli`]: the command line; `serve`, `check`, `explain`, and with the lab `probe` and `simulate`.
//! - [`server`]: wires the rooms together; signals, graceful stop.
//! - `operator`: a page, an API and metrics for the people who run it (feature `operator`).
//! - [`device`]: the public sockets that modules talk to.
//! - [`mod@explain`]: why a module gets what it gets, for the command line and the operator.
//! - [`wire`]: the bytes. Pure parsers and encoders; nothing here touches a socket.
//! - [`fleet`]: the memory of devices: what each download began with, how far each device has come.
//! - [`decision`]: who gets what. One pure function, [`decision::decide`].
//! - [`firmware`]: what there is. The folder as an immutable catalogue, and snapshots of its bytes.
//! - [`state`]: the state folder: its lock, the secret, atomically written files.
//! - [`logging`]: log lines, as text or JSON, written in batches.
//! - `modems`: the modules themselves, emulated (feature `lab`). Shares nothing with the rooms above.
//! - [`os`]: the only room with `unsafe` or raw system calls.
//!
//! `docs/architecture.md` shows how a file, a check, a packet and a device move through them.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)
)]

pub mod cli;
pub mod decision;
pub mod device;
pub mod explain;
pub mod firmware;
pub mod fleet;
pub mod logging;
#[cfg(feature = "lab")]
pub mod modems;
#[cfg(feature = "operator")]
pub mod operator;
pub mod os;
pub mod server;
pub mod state;
pub mod wire;
