//! Dialects in which modules ask for updates, one submodule each. Every dialect converts a request to a
//! [`Check`](crate::decision::Check); only the form of the reply differs.
//!
//! - [`query`]: HTTP checks of all Lua libraries but libfota3, parameters in the query (docs/protocol.md 1, 3).
//! - [`libfota3`]: HTTP checks with replies in JSON, and result reports (docs/protocol.md 7).
//! - [`datagram`]: the packet protocol over UDP and TCP (docs/protocol.md 6).
//! - [`updatehttp`]: recognises the one client that needs head and body in separate segments (docs/protocol.md 9g).
//!
//! To add an HTTP dialect, write its parser here and add a branch to [`super::http_target`].

pub mod datagram;
mod device_id;
pub mod libfota3;
pub(super) mod parameters;
pub mod query;
pub mod updatehttp;
