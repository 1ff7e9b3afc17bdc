//! Atomic writing of a small file beneath a folder, following no link. Used where the server changes the firmware
//! folder itself (a release.json).
//!
//! The new bytes are first written to another file in the same folder, whose name begins with a dot, so that a scan
//! ignores it. A file that a killed process left behind is removed the next time that something is written there.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, RenameFlags, Uid};
use rustix::io::Errno;

use super::{EntryKind, FileStamp, Folder, STAT_FLAGS, kind_of, not_a_path, stamp_of};

/// Prefix of the name of an unfinished file.
const UNFINISHED: &str = ".luat-ota-new-";

/// Time without changes after which an unfinished file counts as left behind by a killed process.
const STALE: Duration = Duration::from_secs(60 * 60);

/// The permissions of a new file and of a new folder, before the umask.
const FILE_MODE: u32 = 0o644;
const FOLDER_MODE: u32 = 0o755;

impl Folder {
    /// Creates a folder directly inside and opens it.
    pub fn make_child(&self, name: &str) -> io::Result<Folder> {
        rustix::fs::mkdirat(&self.fd, one_part(name)?, Mode::from_raw_mode(FOLDER_MODE))?;
        self.child(OsStr::new(name))
    }

    /// Removes a folder directly inside, if it is empty.
    pub fn remove_child(&self, name: &str) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(
            &self.fd,
            one_part(name)?,
            AtFlags::REMOVEDIR,
        )?)
    }

    /// Moves the entry of this name into another folder of the same file system. Returns `false` if something of the
    /// new name exists.
    pub fn move_child(&self, name: &str, to: &Folder, new_name: &str) -> io::Result<bool> {
        let (name, new_name) = (one_part(name)?, one_part(new_name)?);
        rename_new(&self.fd, name, &to.fd, new_name)
    }

    /// Writes a file with these bytes directly inside. `expected`: stamp of the current file (its owner and permissions
    /// are kept), or `None` if no file may exist. Returns `false`, without a change, if the current entry is another
    /// one.
    pub fn put_file(
        &self,
        name: &str,
        bytes: &[u8],
        expected: Option<FileStamp>,
    ) -> io::Result<bool> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = one_part(name)?;
        self.sweep();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let temp = format!("{UNFINISHED}{}-{number}", std::process::id());
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(FILE_MODE);
        let file = File::from(rustix::fs::openat(&self.fd, &temp, flags, mode)?);
        let result = self
            .fill(file, name, bytes, expected)
            .and_then(|()| self.exchange(&temp, name, expected));
        if !matches!(result, Ok(true)) {
            rustix::fs::unlinkat(&self.fd, &temp, AtFlags::empty()).ok();
        }
        // Not every file system lets a folder be synced; the file exists all the same. The folder may be open to walk
        // through only, so it is opened again.
        let again = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        if let Ok(folder) = rustix::fs::openat(&self.fd, ".", again, Mode::empty()) {
            rustix::fs::fsync(&folder).ok();
        }
        result
    }

    /// Writes the new file, with the owner and permissions of the old one as far as permitted.
    fn fill(
        &self,
        mut file: File,
        name: &str,
        bytes: &[u8],
        expected: Option<FileStamp>,
    ) -> io::Result<()> {
        if expected.is_some()
            && let Ok(old) = rustix::fs::statat(&self.fd, name, STAT_FLAGS)
        {
            let (owner, group) = (Uid::from_raw(old.st_uid), Gid::from_raw(old.st_gid));
            rustix::fs::fchown(&file, Some(owner), Some(group)).ok();
            let mode = Mode::from_raw_mode(old.st_mode & 0o777);
            rustix::fs::fchmod(&file, mode).ok();
        }
        file.write_all(bytes)?;
        file.sync_all()
    }

    /// Gives the new file its name, if the current entry is the expected one.
    fn exchange(&self, temp: &str, name: &str, expected: Option<FileStamp>) -> io::Result<bool> {
        let fd = &self.fd;
        let there = match rustix::fs::statat(fd, name, STAT_FLAGS) {
            Ok(stat) => Some(stat),
            Err(Errno::NOENT) => None,
            Err(error) => return Err(error.into()),
        };
        match (there, expected) {
            (Some(stat), Some(stamp)) => {
                if kind_of(&stat) != EntryKind::File || stamp_of(&stat) != stamp {
                    return Ok(false);
                }
                rustix::fs::renameat(fd, temp, fd, name)?;
            }
            (None, None) => {
                return rename_new(fd, temp, fd, name);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Removes files that killed processes left behind.
    fn sweep(&self) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let Some(before) = now.ok().and_then(|now| now.checked_sub(STALE)) else {
            return;
        };
        let before = i128::try_from(before.as_nanos()).unwrap_or(0);
        for entry in self.entries().unwrap_or_default() {
            let is_ours = entry
                .name
                .to_str()
                .is_some_and(|n| n.starts_with(UNFINISHED));
            if is_ours && entry.kind == EntryKind::File && entry.stamp.mtime < before {
                rustix::fs::unlinkat(&self.fd, &entry.name, AtFlags::empty()).ok();
            }
        }
    }
}

/// Renames a file or folder to a name that is free. Returns `false` if the name is not free.
fn rename_new(from: &OwnedFd, name: &str, to: &OwnedFd, new: &str) -> io::Result<bool> {
    match rustix::fs::renameat_with(from, name, to, new, RenameFlags::NOREPLACE) {
        Ok(()) => return Ok(true),
        Err(Errno::EXIST) => return Ok(false),
        // Several FUSE file systems and kernels before 3.15 do not support RENAME_NOREPLACE (docs/hazards.md 12).
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    match rustix::fs::statat(to, new, STAT_FLAGS) {
        Err(Errno::NOENT) => {}
        Ok(_) => return Ok(false),
        Err(error) => return Err(error.into()),
    }
    rustix::fs::renameat(from, name, to, new)?;
    Ok(true)
}

/// Returns the name, or fails if the name is not a single part of a path inside the folder.
fn one_part(name: &str) -> io::Result<&str> {
    if matches!(name, "" | "." | "..") || name.contains(['/', '\0']) {
        return Err(not_a_path());
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::scratch::Scratch;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    fn names(dir: &Scratch) -> Vec<String> {
        let entries = Folder::open(dir.path()).unwrap().entries().unwrap();
        let name = |entry: super::super::FolderEntry| entry.name.into_string().unwrap();
        entries.into_iter().map(name).collect()
    }

    fn stamp(dir: &Scratch, name: &str) -> FileStamp {
        let file = File::open(dir.path().join(name)).unwrap();
        super::super::stamp(&file).unwrap()
    }

    #[test]
    fn a_file_is_created_and_replaced_whole_with_its_permissions() {
        let dir = Scratch::new();
        let folder = Folder::open(dir.path()).unwrap();
        assert!(folder.put_file("a.json", b"one", None).unwrap());
        let path = dir.path().join("a.json");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let before = stamp(&dir, "a.json");
        assert!(folder.put_file("a.json", b"three", Some(before)).unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), b"three");
        let about = std::fs::metadata(&path).unwrap();
        assert_eq!(about.permissions().mode() & 0o777, 0o640);
        assert_ne!(about.ino(), before.ino);
        assert_eq!(names(&dir), ["a.json"]);
    }

    #[test]
    fn a_file_that_another_program_has_changed_is_kept() {
        let dir = Scratch::new();
        let folder = Folder::open(dir.path()).unwrap();
        dir.write("a.json", b"theirs");
        assert!(!folder.put_file("a.json", b"ours", None).unwrap());
        let seen = stamp(&dir, "a.json");
        dir.write("a.json", b"theirs again");
        assert!(!folder.put_file("a.json", b"ours", Some(seen)).unwrap());
        std::fs::remove_file(dir.path().join("a.json")).unwrap();
        assert!(!folder.put_file("a.json", b"ours", Some(seen)).unwrap());
        symlink("/dev/null", dir.path().join("a.json")).unwrap();
        assert!(!folder.put_file("a.json", b"ours", None).unwrap());
        assert_eq!(names(&dir), ["a.json"]);
    }

    #[test]
    fn names_outside_the_folder_are_refused() {
        let dir = Scratch::new();
        dir.write("in/x", b"");
        let folder = Folder::open(&dir.path().join("in")).unwrap();
        for name in ["", ".", "..", "../a", "a/b", "/a", "a\0"] {
            assert!(folder.put_file(name, b"x", None).is_err(), "{name:?}");
            assert!(folder.make_child(name).is_err(), "{name:?}");
            assert!(folder.remove_child(name).is_err(), "{name:?}");
        }
        assert_eq!(names(&dir), ["in"]);
    }

    #[test]
    fn only_old_files_of_killed_processes_are_removed() {
        let dir = Scratch::new();
        let old = dir.write(&format!("{UNFINISHED}1-2"), b"half");
        dir.write(&format!("{UNFINISHED}3-4"), b"being written");
        let long_ago = SystemTime::now() - STALE - Duration::from_secs(60);
        let file = std::fs::OpenOptions::new().write(true).open(old).unwrap();
        file.set_modified(long_ago).unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        assert!(folder.put_file("a.json", b"one", None).unwrap());
        assert_eq!(names(&dir), [&format!("{UNFINISHED}3-4"), "a.json"]);
    }

    #[test]
    fn folders_are_made_and_removed_only_if_they_are_empty() {
        let dir = Scratch::new();
        let folder = Folder::open(dir.path()).unwrap();
        let child = folder.make_child("in").unwrap();
        assert!(child.put_file("a", b"", None).unwrap());
        assert!(folder.remove_child("in").is_err());
        assert!(folder.make_child("in").is_err());
        std::fs::remove_file(dir.path().join("in/a")).unwrap();
        folder.remove_child("in").unwrap();
        assert!(names(&dir).is_empty());
    }
}
