//! Files beneath a folder, opened without ever following a link, and their stamps. The scan and the snapshots read the
//! firmware folder only through this module.
//!
//! A path is opened part by part, each part relative to the one before with O_NOFOLLOW: kernels before 5.6 do not have
//! openat2 (`RESOLVE_BENEATH`).

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, SeekFrom};
use rustix::io::Errno;

mod lock;
mod unfinished;
mod write;

pub use lock::FileLock;
pub use unfinished::{Unfinished, sweep_unfinished};

/// Identity and state of a file: two equal stamps mean the same bytes, as far as the file system can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileStamp {
    /// Device number.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Size in bytes.
    pub size: u64,
    /// Last change of the bytes, nanoseconds since 1970.
    pub mtime: i128,
    /// Last change of the bytes or the inode, nanoseconds since 1970.
    pub ctime: i128,
}

/// Kind of an entry of a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link (never followed).
    Link,
    /// A FIFO, socket or device (never opened).
    Special,
}

/// One entry of a folder. `stamp` belongs to the entry itself (links are not followed).
#[derive(Clone, Debug)]
pub struct FolderEntry {
    /// Name of the entry, as arbitrary bytes.
    pub name: OsString,
    /// Kind of the entry.
    pub kind: EntryKind,
    /// Stamp of the entry.
    pub stamp: FileStamp,
}

/// An open folder.
#[derive(Debug)]
pub struct Folder {
    fd: OwnedFd,
}

/// Flags to open a folder, but not through a link.
const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Flags to open a folder only to walk through it, which needs no permission to list it.
const TRAVERSE: OFlags = OFlags::PATH
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Flags to open a file for reading. O_NONBLOCK and O_NOCTTY matter if something else has just been put in its place.
const FILE: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

/// Flags to examine an entry itself, without triggering an automount.
const STAT_FLAGS: AtFlags = AtFlags::SYMLINK_NOFOLLOW.union(AtFlags::NO_AUTOMOUNT);

impl Folder {
    /// Opens the root of a tree. Links are followed, because a person named the path.
    pub fn open(path: &Path) -> io::Result<Folder> {
        let fd = rustix::fs::openat(
            CWD,
            path,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        Ok(Folder { fd })
    }

    /// Opens a folder directly inside this one, unless it is a link.
    pub fn child(&self, name: &OsStr) -> io::Result<Folder> {
        if name.as_encoded_bytes().contains(&b'/') || name == "." || name == ".." || name.is_empty()
        {
            return Err(not_a_path());
        }
        let fd = rustix::fs::openat(&self.fd, name, FOLDER, Mode::empty())?;
        Ok(Folder { fd })
    }

    /// Opens the folder at a relative path, part by part, following no link. An empty path is the folder itself.
    pub fn descend(&self, path: &str) -> io::Result<Folder> {
        let itself = Folder {
            fd: self.fd.try_clone()?,
        };
        let mut parts = path.split('/').filter(|part| !part.is_empty());
        parts.try_fold(itself, |folder, part| folder.child(part.as_ref()))
    }

    /// Returns the entries, without `.` and `..`, sorted by name. Entries that vanish meanwhile are left out.
    pub fn entries(&self) -> io::Result<Vec<FolderEntry>> {
        let mut entries = Vec::new();
        self.for_each_entry(|entry| entries.push(entry))?;
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// Returns the entries in bounded memory, so that a folder of a million files takes no more than one of a few. Of
    /// each class the first `most` entries by name are kept, and the others are counted. `class` returns the class of
    /// an entry, or `None` to keep it in any case.
    pub fn entries_by_class<const N: usize>(
        &self,
        class: &dyn Fn(&OsStr, EntryKind) -> Option<usize>,
        most: [usize; N],
    ) -> io::Result<(Vec<FolderEntry>, [usize; N])> {
        let mut entries = Vec::new();
        let mut kept: [BTreeMap<OsString, FolderEntry>; N] =
            std::array::from_fn(|_| BTreeMap::new());
        let mut left_out = [0_usize; N];
        self.for_each_entry(|entry| {
            let class = class(&entry.name, entry.kind);
            let of_class = class
                .and_then(|at| Some((kept.get_mut(at)?, most.get(at)?, left_out.get_mut(at)?)));
            let Some((kept, most, left_out)) = of_class else {
                entries.push(entry);
                return;
            };
            kept.insert(entry.name.clone(), entry);
            if kept.len() > *most {
                kept.pop_last();
                *left_out += 1;
            }
        })?;
        entries.extend(kept.into_iter().flat_map(BTreeMap::into_values));
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok((entries, left_out))
    }

    fn for_each_entry(&self, mut receive: impl FnMut(FolderEntry)) -> io::Result<()> {
        for entry in Dir::read_from(&self.fd)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            // The type that getdents reports is not used: some file systems do not know it.
            let stat = match rustix::fs::statat(&self.fd, name, STAT_FLAGS) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(error.into()),
            };
            receive(FolderEntry {
                name: OsString::from_vec(name.to_bytes().to_vec()),
                kind: kind_of(&stat),
                stamp: stamp_of(&stat),
            });
        }
        Ok(())
    }

    /// Returns the stamp of the folder. Another `(dev, ino)` at the same path means another folder.
    pub fn stamp(&self) -> io::Result<FileStamp> {
        Ok(stamp_of(&rustix::fs::fstat(&self.fd)?))
    }

    /// Opens a regular file beneath this folder for reading: part by part, following no link, never blocking on a FIFO.
    /// Fails with `InvalidInput` for anything but a regular file, and for a path that is empty, absolute, or has an
    /// empty part, `.` or `..` in it.
    pub fn open_file(&self, path: &str) -> io::Result<File> {
        if path
            .split('/')
            .any(|part| matches!(part, "" | "." | "..") || part.contains('\0'))
        {
            return Err(not_a_path());
        }
        let Some((folders, name)) = path.rsplit_once('/') else {
            return open_regular(self.fd.as_fd(), path);
        };
        let mut parts = folders.split('/');
        let mut folder: Option<OwnedFd> = None;
        // The first part is opened from this folder, each other part from the one before it.
        for part in parts.by_ref() {
            let from = folder.as_ref().map_or(self.fd.as_fd(), AsFd::as_fd);
            folder = Some(rustix::fs::openat(from, part, TRAVERSE, Mode::empty())?);
        }
        let last = folder.as_ref().map_or(self.fd.as_fd(), AsFd::as_fd);
        open_regular(last, name)
    }
}

/// Opens `name` in `folder` if it is a regular file.
fn open_regular(folder: impl AsFd, name: &str) -> io::Result<File> {
    let folder = folder.as_fd();
    // The kind is checked before opening, because opening some devices has an effect, and again afterwards, because the
    // entry may have been exchanged in between.
    if kind_of(&rustix::fs::statat(folder, name, STAT_FLAGS)?) != EntryKind::File {
        return Err(not_regular());
    }
    let fd = rustix::fs::openat(folder, name, FILE, Mode::empty())?;
    if kind_of(&rustix::fs::fstat(&fd)?) != EntryKind::File {
        return Err(not_regular());
    }
    Ok(File::from(fd))
}

fn not_a_path() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        "not a path beneath the firmware folder",
    )
}

/// Returns the error for an entry that is not a regular file where one is needed.
pub fn not_regular() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")
}

/// Whether the error means that a file is a folder, FIFO, socket, device or dangling chain of links.
pub fn is_not_regular(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidInput
        || matches!(
            Errno::from_io_error(error),
            Some(Errno::LOOP | Errno::ISDIR | Errno::NXIO)
        )
}

/// Opens a file of the state folder for reading, if it is regular (links are followed). Never waits, as opening a FIFO
/// would.
pub fn open_to_read(path: &Path) -> io::Result<File> {
    // The kind is checked before opening and again afterwards, as in `open_regular`.
    if !std::fs::metadata(path)?.is_file() {
        return Err(not_regular());
    }
    let flags = FILE.difference(OFlags::NOFOLLOW);
    let fd = rustix::fs::openat(CWD, path, flags, Mode::empty())?;
    if kind_of(&rustix::fs::fstat(&fd)?) != EntryKind::File {
        return Err(not_regular());
    }
    Ok(File::from(fd))
}

/// The content of a file without its holes. A hole is read as one line end, so that the time to read a file depends on
/// what is stored in it and not on its length.
#[derive(Debug)]
pub struct Content {
    file: File,
    /// Offsets of the next byte and of the next hole (0: not determined yet).
    at: u64,
    hole: u64,
}

impl Content {
    /// Creates a reader at the beginning of the file.
    pub fn new(file: File) -> Content {
        Content {
            file,
            at: 0,
            hole: 0,
        }
    }

    /// Moves the reader back to the beginning of the file.
    pub fn rewind(&mut self) -> io::Result<()> {
        (self.at, self.hole) = (0, 0);
        io::Seek::rewind(&mut self.file)
    }
}

impl io::Read for Content {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.at >= self.hole {
            let data = match rustix::fs::seek(&self.file, SeekFrom::Data(self.at)) {
                Ok(data) => data,
                // There is only a hole, or nothing at all, up to the end.
                Err(Errno::NXIO) => return Ok(0),
                // The file system does not support holes.
                Err(_) => return self.read_on(into, u64::MAX),
            };
            self.hole = match rustix::fs::seek(&self.file, SeekFrom::Hole(data)) {
                Ok(hole) if hole > data => hole,
                _ => u64::MAX,
            };
            rustix::fs::seek(&self.file, SeekFrom::Start(data))?;
            let skipped = data > self.at;
            self.at = data;
            if let (true, Some(first)) = (skipped, into.first_mut()) {
                *first = b'\n';
                return Ok(1);
            }
        }
        let left = self.hole.saturating_sub(self.at);
        self.read_on(into, left)
    }
}

impl Content {
    fn read_on(&mut self, into: &mut [u8], most: u64) -> io::Result<usize> {
        let most = usize::try_from(most).map_or(into.len(), |most| most.min(into.len()));
        let read = io::Read::read(&mut self.file, into.get_mut(..most).unwrap_or_default())?;
        self.at = self.at.saturating_add(read as u64);
        if read == 0 {
            // The file was truncated meanwhile.
            self.hole = self.at;
        }
        Ok(read)
    }
}

/// Returns the stamp of an open file.
pub fn stamp(file: &File) -> io::Result<FileStamp> {
    Ok(stamp_of(&rustix::fs::fstat(file)?))
}

/// Creates a file in `folder` that has no name (O_TMPFILE, or create and unlink if that is not supported). Only the
/// owner may open it while it still has a name. Fails with the error of the folder: missing, read-only, not ours.
pub fn unnamed_file(folder: &Path) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::EXCL | OFlags::CLOEXEC;
    match rustix::fs::openat(CWD, folder, flags, Mode::RUSR | Mode::WUSR) {
        Ok(fd) => Ok(File::from(fd)),
        // FUSE, some overlays and kernels before 3.11: the file system, or the kernel, does not support O_TMPFILE
        // (docs/hazards.md 12).
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT | Errno::NOSYS) => {
            create_and_unlink(folder)
        }
        Err(error) => Err(error.into()),
    }
}

/// Creates a file without a name on a file system without O_TMPFILE. The temporary name begins with a dot, so that a
/// scan never mistakes the file for firmware if the process is killed between the two calls.
fn create_and_unlink(folder: &Path) -> io::Result<File> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::RDWR | OFlags::CLOEXEC;
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(format!(".luat-ota-{}-{number}.tmp", std::process::id()));
        match rustix::fs::openat(CWD, &path, flags, Mode::RUSR | Mode::WUSR) {
            Ok(fd) => {
                rustix::fs::unlink(&path)?;
                return Ok(File::from(fd));
            }
            // Left by a killed process with the same id. The next number may be free.
            Err(Errno::EXIST) if number < u32::MAX => continue,
            Err(error) => return Err(error.into()),
        }
    }
}

/// Returns the number of bytes that this process may still write into the file system of an open file.
pub fn free_bytes(file: &File) -> io::Result<u64> {
    let about = rustix::fs::fstatvfs(file)?;
    Ok(about.f_bavail.saturating_mul(about.f_frsize))
}

fn kind_of(stat: &rustix::fs::Stat) -> EntryKind {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => EntryKind::File,
        FileType::Directory => EntryKind::Folder,
        FileType::Symlink => EntryKind::Link,
        _ => EntryKind::Special,
    }
}

// The types of the fields differ between machines; a size is never negative.
#[allow(clippy::unnecessary_cast)]
fn stamp_of(stat: &rustix::fs::Stat) -> FileStamp {
    let time = |seconds: i128, nanoseconds: i128| seconds * 1_000_000_000 + nanoseconds;
    FileStamp {
        dev: stat.st_dev as u64,
        ino: stat.st_ino as u64,
        size: stat.st_size as u64,
        mtime: time(stat.st_mtime as i128, stat.st_mtime_nsec as i128),
        ctime: time(stat.st_ctime as i128, stat.st_ctime_nsec as i128),
    }
}

#[cfg(test)]
mod tests;
