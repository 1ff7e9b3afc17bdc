//! System calls behind small safe interfaces: the only module with `unsafe` or raw system calls. Each file covers one
//! function of the kernel, and states what happens on a kernel without that function.

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
