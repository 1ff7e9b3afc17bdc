//! A large file that is being written into a folder. It grows under a name that a scan ignores, and gets its own name
//! when it is complete, never replacing another file. Used for the operator's uploads.
//!
//! An unfinished file is locked as long as its writer lives. The lock distinguishes a file that a killed process left
//! behind from one that another server is writing.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::{EntryKind, FILE, Folder, free_bytes};

/// Prefix and suffix of the name of an unfinished file.
const PREFIX: &str = ".upload-";
const SUFFIX: &str = ".part";

/// Number of levels of folders that are searched for files of killed processes.
const SWEEP_DEPTH: usize = 3;

/// A file that grows. It is removed if it is dropped before [`Unfinished::finish`] has named it.
#[derive(Debug)]
pub struct Unfinished {
    folder: OwnedFd,
    /// Temporary name; empty when the file has its own name.
    name: String,
    file: File,
}

impl Folder {
    /// Creates a file that will be placed in this folder, or in one below it on the same file system.
    pub fn create_unfinished(&self) -> io::Result<Unfinished> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = self.fd.try_clone()?;
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("{PREFIX}{}-{number}{SUFFIX}", std::process::id());
            match rustix::fs::openat(&folder, &name, flags, Mode::from_raw_mode(0o644)) {
                Ok(fd) => {
                    let file = File::from(fd);
                    // Without locks, a sweep considers all unfinished files stale, but it runs only at a start.
                    let _unsupported =
                        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive);
                    return Ok(Unfinished { folder, name, file });
                }
                // Left by a killed process with the same id. The next number may be free.
                Err(Errno::EXIST) if number < u32::MAX => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Unfinished {
    /// Number of bytes that are free in the file system of the file.
    pub fn free_bytes(&self) -> io::Result<u64> {
        free_bytes(&self.file)
    }

    /// Appends bytes.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    /// Syncs the file, so that it survives a power cut, and gives it its name in `folder`. Returns `false`, and removes
    /// the file, if something of this name exists.
    pub fn finish(mut self, folder: &Folder, name: &str) -> io::Result<bool> {
        self.file.sync_all()?;
        let from = &self.folder;
        let to = &folder.fd;
        match rustix::fs::renameat_with(from, &self.name, to, name, RenameFlags::NOREPLACE) {
            Ok(()) => self.name.clear(),
            Err(Errno::EXIST) => return Ok(false),
            // Several FUSE file systems and kernels before 3.15 do not support RENAME_NOREPLACE (docs/hazards.md 12).
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => {
                if !self.rename_without_replacing(folder, name)? {
                    return Ok(false);
                }
            }
            Err(error) => return Err(error.into()),
        }
        // Not every file system lets a folder be synced.
        rustix::fs::fsync(to).ok();
        Ok(true)
    }

    /// Names the file by link and unlink, or on a file system without links by a check and a rename.
    fn rename_without_replacing(&mut self, folder: &Folder, name: &str) -> io::Result<bool> {
        let (from, to) = (&self.folder, &folder.fd);
        match rustix::fs::linkat(from, &self.name, to, name, AtFlags::empty()) {
            Ok(()) => return Ok(true),
            Err(Errno::EXIST) => return Ok(false),
            Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::MLINK) => {}
            Err(error) => return Err(error.into()),
        }
        match rustix::fs::statat(to, name, super::STAT_FLAGS) {
            Err(Errno::NOENT) => {}
            Ok(_) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        rustix::fs::renameat(from, &self.name, to, name)?;
        self.name.clear();
        Ok(true)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.name.is_empty() {
            rustix::fs::unlinkat(&self.folder, &self.name, AtFlags::empty()).ok();
        }
    }
}

/// Removes the unfinished files that killed processes left behind in a folder and those below it; returns their number.
pub fn sweep_unfinished(folder: &Folder) -> usize {
    sweep(folder, SWEEP_DEPTH)
}

fn sweep(folder: &Folder, depth: usize) -> usize {
    let mut removed: usize = 0;
    for entry in folder.entries().unwrap_or_default() {
        let name = entry.name.to_str().unwrap_or_default();
        match entry.kind {
            EntryKind::File if name.starts_with(PREFIX) && name.ends_with(SUFFIX) => {
                removed = removed.saturating_add(usize::from(remove_stale(folder, &entry.name)));
            }
            EntryKind::Folder if depth > 0 => {
                if let Ok(child) = folder.child(&entry.name) {
                    removed = removed.saturating_add(sweep(&child, depth.saturating_sub(1)));
                }
            }
            _ => {}
        }
    }
    removed
}

/// Removes an unfinished file, unless its writer lives.
fn remove_stale(folder: &Folder, name: &OsStr) -> bool {
    let Ok(file) = rustix::fs::openat(&folder.fd, name, FILE, Mode::empty()) else {
        return false;
    };
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => false,
        _ => rustix::fs::unlinkat(&folder.fd, name, AtFlags::empty()).is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::scratch::Scratch;

    fn names(dir: &Scratch) -> Vec<String> {
        let folder = Folder::open(dir.path()).unwrap();
        let entries = folder.entries().unwrap();
        entries
            .into_iter()
            .map(|entry| entry.name.into_string().unwrap())
            .collect()
    }

    #[test]
    fn a_file_has_its_name_when_it_is_complete_and_not_before() {
        let dir = Scratch::new();
        let folder = Folder::open(dir.path()).unwrap();
        let mut file = folder.create_unfinished().unwrap();
        file.write(b"firm").unwrap();
        assert!(names(&dir).iter().all(|name| name.starts_with(".upload-")));
        file.write(b"ware").unwrap();
        assert!(file.finish(&folder, "u.bin").unwrap());
        assert_eq!(names(&dir), ["u.bin"]);
        assert_eq!(
            std::fs::read(dir.path().join("u.bin")).unwrap(),
            b"firmware"
        );
    }

    #[test]
    fn an_abandoned_file_is_removed() {
        let dir = Scratch::new();
        let folder = Folder::open(dir.path()).unwrap();
        let mut file = folder.create_unfinished().unwrap();
        file.write(b"firm").unwrap();
        drop(file);
        assert_eq!(names(&dir), [""; 0]);
    }

    #[test]
    fn an_upload_never_replaces_a_file() {
        let dir = Scratch::new();
        dir.write("u.bin", b"old");
        let folder = Folder::open(dir.path()).unwrap();
        let mut file = folder.create_unfinished().unwrap();
        file.write(b"new").unwrap();
        assert!(!file.finish(&folder, "u.bin").unwrap());
        let mut file = folder.create_unfinished().unwrap();
        file.write(b"new").unwrap();
        assert!(!file.rename_without_replacing(&folder, "u.bin").unwrap());
        assert!(file.rename_without_replacing(&folder, "v.bin").unwrap());
        drop(file);
        assert_eq!(names(&dir), ["u.bin", "v.bin"]);
        assert_eq!(std::fs::read(dir.path().join("u.bin")).unwrap(), b"old");
    }

    #[test]
    fn a_sweep_removes_stale_files_and_no_growing_one() {
        let dir = Scratch::new();
        dir.write(".upload-1-0.part", b"x");
        dir.write("P/2.0.1/.upload-1-1.part", b"x");
        dir.write("P/2.0.1/from-2008/.upload-1-2.part", b"x");
        dir.write("P/2.0.1/u.bin.part", b"x");
        let folder = Folder::open(dir.path()).unwrap();
        let growing = folder.create_unfinished().unwrap();
        assert_eq!(sweep_unfinished(&folder), 3);
        assert_eq!(names(&dir).len(), 2);
        assert!(dir.path().join("P/2.0.1/u.bin.part").exists());
        drop(growing);
        assert_eq!(names(&dir), ["P"]);
    }
}
