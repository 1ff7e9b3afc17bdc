//! The only module with `unsafe` or raw system calls. Each file is a small safe interface to one thing that the kernel
//! does, and says what happens on a kernel that does not have it.

pub mod datagrams;
pub mod fs;
mod huge_pages;
pub mod inotify;
pub mod lease;
pub mod memory;
pub mod net;
pub mod notify;
pub mod process;
pub mod systemd;
pub mod without;

#[cfg(test)]
pub(crate) mod scratch;
