//! The operator's interface: a page, an API and metrics on a socket of its own, apart from those of the devices.
//!
//! A request passes through [`connection`] (accept, read, send), [`head`] (parse), [`route`] and [`access`], then
//! through a function of [`api`], which makes a [`response::Response`] from the [`context`] and the request. A change
//! of releases or rules is a change of files in the firmware folder, where the watcher finds it like any other.
//!
//! The interface runs on the thread that serves devices; work that may wait for a disk runs on a thread of its own
//! ([`blocking`]).

pub mod access;
mod api;
mod blocking;
mod body;
pub mod codec;
pub mod connection;
pub mod context;
pub mod head;
pub mod histories;
pub mod named_tokens;
pub mod response;
pub mod route;
mod slice;
mod stream;
pub mod token;
