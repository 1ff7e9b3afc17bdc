//! Locks that exclude other processes (flock): on a folder, for changes that depend on what was read before, such as an
//! edit of a release.json that another server on the same folder may edit too; and on the state folder's lock file.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::Folder;

/// Name of the file that is locked if the folder cannot be locked.
const FILE: &str = ".luat-ota-lock";

/// Time between two attempts.
const PAUSE: Duration = Duration::from_millis(5);

/// A lock, which is released on drop. It belongs to an open file, so threads of one process exclude each other, too.
#[derive(Debug)]
pub struct FileLock {
    /// The locked file; `None` if its file system has no locks.
    locked: Option<OwnedFd>,
}

impl FileLock {
    /// Takes the lock of an open file with a nonblocking operation, waiting at most `patience` for its release. Blocks.
    /// The error is `WOULDBLOCK` if the lock is still held, and another one if the file system has no locks for this
    /// file.
    pub fn take(
        file: impl Into<OwnedFd>,
        operation: FlockOperation,
        patience: Duration,
    ) -> Result<FileLock, Errno> {
        let file = file.into();
        let end = Instant::now().checked_add(patience);
        loop {
            match rustix::fs::flock(&file, operation) {
                Ok(()) => return Ok(FileLock { locked: Some(file) }),
                Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) if end.is_none_or(|end| Instant::now() < end) => {
                    std::thread::sleep(PAUSE);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Stands for the lock on a file system without locks, where nothing is excluded.
    pub fn unsupported() -> FileLock {
        FileLock { locked: None }
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        // Closing the file would not release the lock while a child process that another thread has just forked holds
        // the same open file, which it does until it executes its program.
        if let Some(file) = &self.locked {
            rustix::fs::flock(file, FlockOperation::Unlock).ok();
        }
    }
}

impl Folder {
    /// Locks the folder, waiting at most `patience` for its release; `None` if the lock is still held. Blocks. If the
    /// file system has no locks at all, nothing is excluded.
    ///
    /// The folder itself is locked: that needs no file, works in a folder that cannot be written, and outlives every
    /// rename in the folder. If a folder cannot be locked (NFS requires a file that is open for writing), a hidden file
    /// in the folder is locked instead.
    pub fn lock(&self, patience: Duration) -> Option<FileLock> {
        let itself = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let file = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for (name, flags) in [(".", itself), (FILE, file | OFlags::NONBLOCK)] {
            let mode = Mode::from_raw_mode(0o664);
            let Ok(fd) = rustix::fs::openat(&self.fd, name, flags, mode) else {
                continue;
            };
            match FileLock::take(fd, FlockOperation::NonBlockingLockExclusive, patience) {
                Ok(lock) => return Some(lock),
                Err(Errno::WOULDBLOCK) => return None,
                Err(_) => {}
            }
        }
        Some(FileLock::unsupported())
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
    fn a_lock_is_released_while_another_process_has_the_same_open_file() {
        let dir = Scratch::new();
        let folder = Folder::open(dir.path()).unwrap();
        let fd = rustix::fs::open(dir.path(), OFlags::RDONLY, Mode::empty()).unwrap();
        // Like a child between fork and exec.
        let copy = fd.try_clone().unwrap();
        let exclusive = FlockOperation::NonBlockingLockExclusive;
        let held = FileLock::take(fd, exclusive, Duration::ZERO).unwrap();
        assert!(folder.lock(Duration::ZERO).is_none());
        drop(held);
        assert!(folder.lock(Duration::ZERO).is_some());
        drop(copy);
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
