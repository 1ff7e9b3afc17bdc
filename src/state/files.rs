//! Files of the state folder: atomic writing, and renaming of damaged files.

use std::ffi::OsString;
use std::fmt::Display;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::os::process;

/// Permissions of a file that only its owner can read.
pub const PRIVATE: u32 = 0o600;

/// Sets a damaged file aside with a warning, and returns whether its name is free now. `cost`: the consequence for
/// devices or people.
pub fn set_aside_damaged(path: &Path, error: &dyn Display, cost: &str) -> bool {
    match set_aside(path) {
        Ok(aside) => {
            log::warn!(
                target: "state",
                "{} {error}: it was renamed to {} and is replaced by a new one; {cost}",
                path.display(),
                aside.display()
            );
            true
        }
        Err(why) => {
            log::warn!(
                target: "state",
                "{} {error}, and cannot be renamed ({why}): it is not used in this run; {cost}",
                path.display()
            );
            false
        }
    }
}

/// Renames a damaged file to `NAME.damaged` (or `NAME.damaged-2` and so on) and returns the new path.
pub fn set_aside(path: &Path) -> io::Result<PathBuf> {
    const MAX_DAMAGED: u32 = 100;
    let named = |number: u32| {
        let mut aside = path.as_os_str().to_owned();
        aside.push(match number {
            1 => ".damaged".to_owned(),
            number => format!(".damaged-{number}"),
        });
        PathBuf::from(aside)
    };
    let is_free = |aside: &PathBuf| std::fs::symlink_metadata(aside).is_err();
    let aside = (1..=MAX_DAMAGED).map(named).find(is_free);
    let aside = aside.ok_or(ErrorKind::AlreadyExists)?;
    std::fs::rename(path, &aside)?;
    Ok(aside)
}

/// Replaces a file: writes `.NAME.tmp` in the same folder, syncs and renames it, and syncs the folder. Only the owner
/// can read the new file. The next call removes what a killed process left behind.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_with_mode(path, bytes, PRIVATE)
}

/// Replaces a file like [`write_atomically`], with these permissions regardless of the umask.
pub fn write_with_mode(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(ErrorKind::InvalidInput.into());
    };
    let mut temporary = OsString::from(".");
    temporary.push(name);
    temporary.push(".tmp");
    let temporary = folder.join(temporary);
    match std::fs::remove_file(&temporary) {
        // Not a file: for example a folder.
        Err(error) if error.kind() != ErrorKind::NotFound => {
            set_aside(&temporary)?;
        }
        _ => {}
    }
    let written = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(PRIVATE)
            .open(&temporary)?;
        if mode != PRIVATE {
            // Not every file system supports permissions.
            file.set_permissions(Permissions::from_mode(mode)).ok();
        }
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    })();
    if written.is_err() {
        std::fs::remove_file(&temporary).ok();
        return written;
    }
    sync_folder(folder);
    Ok(())
}

/// Creates a private file with this content, unless a file of this name exists. If several processes do so at the same
/// time, also on several machines that share the folder, one succeeds, and none of them sees a part of the file.
pub(super) fn create_once(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(ErrorKind::InvalidInput.into());
    };
    let mut number = [0; 8];
    process::random(&mut number)?;
    // Each process has its own temporary file.
    let mut temporary = OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{:016x}.tmp", u64::from_ne_bytes(number)));
    let temporary = folder.join(temporary);
    let created = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(PRIVATE)
            .open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        // Unlike a rename, a hard link replaces nothing on any file system.
        std::fs::hard_link(&temporary, path)
    })();
    std::fs::remove_file(&temporary).ok();
    match created {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => sync_folder(folder),
    }
    Ok(())
}

/// Syncs a folder, after a change of its entries. Not every file system lets a folder be synced.
fn sync_folder(folder: &Path) {
    let folder = match folder.as_os_str().is_empty() {
        true => Path::new("."),
        false => folder,
    };
    if let Ok(folder) = File::open(folder) {
        folder.sync_all().ok();
    }
}
