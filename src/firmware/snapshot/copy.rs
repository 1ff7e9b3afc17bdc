//! Copies a content on a separate thread, from a file that may change at any time to storage that
//! cannot change. The hash decides whether the copy is valid.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{LoadError, Snapshot, Storage};
use crate::firmware::ContentId;
use crate::firmware::catalog::ContentSource;
use crate::os::fs::{Folder, free_bytes, unnamed_file};
use crate::os::memory::Memfd;

/// Bytes copied at a time.
const CHUNK: usize = 64 << 10;

/// Bytes that a temporary file leaves free on its medium, because the state folder is there too.
const RESERVED_BYTES: u64 = 1 << 20;

/// Order for the copying thread.
pub(super) struct CopyJob {
    /// The hash that the copy must have.
    pub(super) id: ContentId,
    /// Size of the content in bytes.
    pub(super) size: u64,
    /// The firmware folder.
    pub(super) root: PathBuf,
    /// Files that may hold the content.
    pub(super) sources: Vec<ContentSource>,
    /// Creates the memory for the copy; `None` if the budget has no room.
    pub(super) memfd: Option<fn() -> io::Result<Memfd>>,
    /// Bytes that the copy may occupy in memory if that makes it faster. Otherwise it occupies as
    /// little as possible.
    pub(super) room: u64,
    /// Folder for a temporary file, if the copy is not stored in memory.
    pub(super) spill: Option<PathBuf>,
}

/// Reason why a copy failed.
enum CopyError {
    /// The file does not have the content; another may. A sentence.
    Source(String),
    /// The medium of the files cannot be read. A sentence.
    Medium(String),
    /// The target of the copy has no room.
    Room(io::Error),
}

impl CopyJob {
    pub(super) fn run(&self) -> Result<Snapshot, LoadError> {
        let memory = if let Some(memfd) = self.memfd {
            match self.copy_to(memfd, |memfd| memfd.seal(self.room)) {
                Ok(sealed) => return Ok(self.snapshot(Storage::Memory(sealed))),
                Err(CopyError::Source(text)) => return Err(LoadError::Gone(text)),
                Err(CopyError::Medium(text)) => return Err(LoadError::Unread(text)),
                // No memfd in the kernel (before 3.17), a sandbox forbids it, or no memory is left.
                Err(CopyError::Room(error)) => format!("memory cannot be allocated ({error})"),
            }
        } else {
            "not enough of the memory for snapshots is free".to_owned()
        };
        let size = self.size;
        let Some(folder) = &self.spill else {
            return Err(LoadError::Full(format!(
                "no room for {size} bytes: {memory}, and there is no state folder for a temporary \
                 file; name one with --state"
            )));
        };
        match self.copy_to(|| self.temporary_file(folder), Ok) {
            Ok(file) => Ok(self.snapshot(Storage::File(file, size))),
            Err(CopyError::Source(text)) => Err(LoadError::Gone(text)),
            Err(CopyError::Medium(text)) => Err(LoadError::Unread(text)),
            Err(CopyError::Room(error)) => Err(LoadError::Full(format!(
                "no room for {size} bytes: {memory}, and no temporary file can be made in {}: {error}",
                folder.display()
            ))),
        }
    }

    fn snapshot(&self, storage: Storage) -> Snapshot {
        Snapshot {
            id: self.id,
            storage,
        }
    }

    fn temporary_file(&self, folder: &Path) -> io::Result<File> {
        let file = unnamed_file(folder)?;
        // A file system that does not report its free space fails when it is full.
        if free_bytes(&file).is_ok_and(|free| free < self.size.saturating_add(RESERVED_BYTES)) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(file)
    }

    /// Copies the first source that has the correct bytes.
    fn copy_to<To: Write, Done>(
        &self,
        create: impl Fn() -> io::Result<To>,
        finish: impl Fn(To) -> io::Result<Done>,
    ) -> Result<Done, CopyError> {
        let mut reasons = Vec::new();
        let mut unread = false;
        for source in &self.sources {
            let mut to = create().map_err(CopyError::Room)?;
            match self.copy(source, &mut to) {
                Ok(()) => return finish(to).map_err(CopyError::Room),
                Err(CopyError::Source(text)) => reasons.push(text),
                Err(CopyError::Medium(text)) => {
                    unread = true;
                    reasons.push(text);
                }
                Err(room) => return Err(room),
            }
        }
        let reasons = reasons.join("; ");
        Err(match unread {
            true => CopyError::Medium(reasons),
            false => CopyError::Source(reasons),
        })
    }

    fn copy(&self, source: &ContentSource, to: &mut impl Write) -> Result<(), CopyError> {
        let path = &source.path;
        let changed = || {
            CopyError::Source(format!(
                "{path} has changed since it was checked; it is offered again once it has been read again"
            ))
        };
        let cannot = |what: &str, error: io::Error| {
            if is_shortage(&error) {
                CopyError::Room(error)
            } else {
                let text = format!("{path} cannot be {what}: {error}");
                match is_medium_error(&error) {
                    true => CopyError::Medium(text),
                    false => CopyError::Source(text),
                }
            }
        };
        // Opened by path each time, because the folder may have been created again.
        let root = Folder::open(&self.root).map_err(|error| match is_shortage(&error) {
            true => CopyError::Room(error),
            false => CopyError::Medium(format!("the firmware folder cannot be opened: {error}")),
        })?;
        let is_elsewhere = root.stamp().is_ok_and(|root| root.dev != source.stamp.dev);
        let mut file = root.open_file(path).map_err(|error| {
            // The file is missing and was on another device than the folder is: its medium was
            // removed.
            if error.kind() == io::ErrorKind::NotFound && is_elsewhere {
                return CopyError::Medium(format!("{path} is missing, and so is its medium"));
            }
            cannot("opened", error)
        })?;
        let size = |file: &File| crate::os::fs::stamp(file).map(|stamp| stamp.size);
        // A file of another size need not be read.
        if size(&file).map_err(|error| cannot("examined", error))? != self.size {
            return Err(changed());
        }
        let mut hash = Sha256::new();
        let mut buffer = vec![0; CHUNK];
        let mut left = self.size;
        loop {
            let chunk = match file.read(&mut buffer) {
                Ok(count) => buffer.get(..count).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(cannot("read", error)),
            };
            if chunk.is_empty() {
                break;
            }
            // A file that grows while it is read must not make the copy larger than its budget.
            left = left.checked_sub(chunk.len() as u64).ok_or_else(changed)?;
            hash.update(chunk);
            to.write_all(chunk).map_err(CopyError::Room)?;
        }
        let found: [u8; 32] = hash.finalize().into();
        if left == 0 && found == self.id.0 {
            Ok(())
        } else {
            Err(changed())
        }
    }
}

/// Whether the error concerns the medium and not the file.
fn is_medium_error(error: &io::Error) -> bool {
    let number = error.raw_os_error();
    matches!(
        number,
        Some(libc::EIO | libc::ESTALE | libc::ENODEV | libc::ENXIO | libc::ENOTCONN)
    )
}

/// Whether the error concerns this process or machine and not the file.
fn is_shortage(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM)
    )
}
