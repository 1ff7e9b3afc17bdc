//! Detects writers of a file: a read lease (fcntl F_SETLEASE) is granted only if nobody has the file open for writing
//! (docs/hazards.md 11). The scan asks for a lease before it considers a file complete.
//!
//! `Granted` holds only while the lease is held, a lease can be revoked after /proc/sys/fs/lease-break-time (45 s), and
//! overlayfs grants one in spite of a writer on its upper layer. So a lease only saves time; the proof that a file is
//! complete is its hash.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Once;

use super::without::Feature;

/// Answer of the kernel about writers of a file.
#[derive(Debug)]
pub enum Lease<'a> {
    /// The file is not open for writing, and cannot be opened for writing while this is held (a writer's open waits, at
    /// most the system's lease-break-time).
    Granted(HeldLease<'a>),
    /// The file is open for writing (some network file systems always say so).
    Writer,
    /// The kernel or the file system cannot tell (not the owner, not supported).
    Unknown,
}

/// A lease, which is released on drop.
#[derive(Debug)]
pub struct HeldLease<'a> {
    file: &'a File,
}

impl HeldLease<'_> {
    /// Whether the lease is still valid: no writer is waiting for it, and it was not revoked. If this is true after a
    /// read of the file, nobody wrote during that read.
    pub fn is_valid(&self) -> bool {
        control(self.file, libc::F_GETLEASE, 0) == libc::F_RDLCK
    }
}

impl Drop for HeldLease<'_> {
    fn drop(&mut self) {
        // Fails only if the kernel has already revoked the lease.
        set(self.file, libc::F_UNLCK).ok();
    }
}

/// Asks for a read lease on a file opened read-only. Never blocks. The first call makes the process ignore SIGIO.
pub fn request(file: &File) -> Lease<'_> {
    if Feature::Leases.available().is_err() {
        return Lease::Unknown;
    }
    static IGNORED: Once = Once::new();
    // The kernel announces a waiting writer with SIGIO, which by default ends the process.
    IGNORED.call_once(|| super::process::ignore(libc::SIGIO));
    match set(file, libc::F_RDLCK) {
        Ok(()) => Lease::Granted(HeldLease { file }),
        Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => Lease::Writer,
        Err(_) => Lease::Unknown,
    }
}

fn set(file: &File, kind: libc::c_int) -> io::Result<()> {
    match control(file, libc::F_SETLEASE, kind) {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Calls F_SETLEASE, or F_GETLEASE, which takes no argument.
fn control(file: &File, command: libc::c_int, argument: libc::c_int) -> libc::c_int {
    // SAFETY: the descriptor is open as long as the borrowed file; both commands touch no memory of ours.
    unsafe { libc::fcntl(file.as_raw_fd(), command, argument) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::scratch::Scratch;
    use std::fs::OpenOptions;
    use std::os::unix::fs::OpenOptionsExt;

    #[test]
    fn a_lease_is_granted_only_without_a_writer() {
        let dir = Scratch::new();
        let path = dir.write("a.bin", b"bytes");
        let file = File::open(&path).unwrap();
        let Lease::Granted(held) = request(&file) else {
            // Not every file system under a temporary folder has leases. If this one has none, it must not claim that
            // there is a writer.
            assert!(matches!(request(&file), Lease::Unknown));
            return;
        };
        assert!(held.is_valid());
        drop(held);

        let writer = OpenOptions::new().append(true).open(&path).unwrap();
        assert!(matches!(request(&file), Lease::Writer));
        drop(writer);
        assert!(matches!(request(&file), Lease::Granted(_)));
    }

    #[test]
    fn a_lease_delays_a_new_writer_and_becomes_invalid() {
        let dir = Scratch::new();
        let path = dir.write("a.bin", b"bytes");
        let file = File::open(&path).unwrap();
        let Lease::Granted(held) = request(&file) else {
            return;
        };
        // With O_NONBLOCK, open fails instead of waiting for the lease.
        let mut writing = OpenOptions::new();
        writing.append(true).custom_flags(libc::O_NONBLOCK);
        let refused = writing.open(&path).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        assert!(!held.is_valid());
        drop(held);
        assert!(writing.open(&path).is_ok());
    }

    #[test]
    fn the_writers_of_a_special_file_are_unknown() {
        let file = File::open("/dev/null").unwrap();
        assert!(matches!(request(&file), Lease::Unknown));
    }
}
