//! A lock on a folder across processes, for changes that depend on what was read before. It is used where the server
//! edits a release.json that another server on the same folder may edit too.
//!
//! The folder itself is locked (flock): that needs no file, works in a folder that cannot be written, and outlives
//! every rename in the folder. If a folder cannot be locked (NFS requires a file that is open for writing), a hidden
//! file in the folder is locked instead.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::Folder;

/// Name of the file that is locked if the folder cannot be locked.
const FILE: &str = ".luat-ota-lock";

/// Time between two attempts.
const PAUSE: Duration = Duration::from_millis(5);

/// A lock, which is released on drop.
#[derive(Debug)]
pub struct FolderLock {
    /// The locked descriptor; `None` if this file system has no locks.
    _locked: Option<OwnedFd>,
}

impl Folder {
    /// Locks the folder, waiting at most `patience` for its release; `None` if another process still holds the lock.
    /// Blocks. Threads of one process exclude each other, too. If the file system has no locks at all, nothing is
    /// excluded.
    pub fn lock(&self, patience: Duration) -> Option<FolderLock> {
        let end = Instant::now().checked_add(patience);
        let itself = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let file = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for (name, flags) in [(".", itself), (FILE, file | OFlags::NONBLOCK)] {
            // The lock belongs to a descriptor, so each lock needs its own.
            let mode = Mode::from_raw_mode(0o664);
            let Ok(fd) = rustix::fs::openat(&self.fd, name, flags, mode) else {
                continue;
            };
            loop {
                match rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
                    Ok(()) => return Some(FolderLock { _locked: Some(fd) }),
                    Err(Errno::INTR) => {}
                    Err(Errno::WOULDBLOCK) if end.is_some_and(|end| Instant::now() >= end) => {
                        return None;
                    }
                    Err(Errno::WOULDBLOCK) => std::thread::sleep(PAUSE),
                    Err(_) => break,
                }
            }
        }
        Some(FolderLock { _locked: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::scratch::Scratch;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_folder_has_one_lock_at_a_time_and_no_lock_file() {
        let dir = Scratch::new();
        let (one, other) = (Folder::open(dir.path()), Folder::open(dir.path()));
        let (one, other) = (one.unwrap(), other.unwrap());
        let held = one.lock(Duration::ZERO).unwrap();
        assert!(other.lock(Duration::from_millis(20)).is_none());
        assert!(one.lock(Duration::ZERO).is_none());
        drop(held);
        assert!(other.lock(Duration::ZERO).is_some());
        assert!(one.entries().unwrap().is_empty());
    }

    #[test]
    fn a_read_only_folder_can_be_locked() {
        let dir = Scratch::new();
        let folder = Folder::open(dir.path()).unwrap();
        let mode = |mode| std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(dir.path(), mode(0o555)).unwrap();
        let held = folder.lock(Duration::ZERO);
        let second = folder.lock(Duration::ZERO);
        std::fs::set_permissions(dir.path(), mode(0o755)).unwrap();
        assert!(held.is_some() && second.is_none());
    }
}
