//! Files beneath a folder, opened without ever following a link, and their stamps. The scan and the
//! snapshots read the firmware folder only through here.
//!
//! A path is walked part by part, each part opened relative to the one before with O_NOFOLLOW: kernels before 5.6 do not
//! have openat2 (`RESOLVE_BENEATH`).

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

pub use lock::FolderLock;
pub use unfinished::{Unfinished, sweep_unfinished};

/// Which file, and in which state: two equal stamps mean the same bytes, as far as the file system
/// can say.
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

/// What an entry of a folder is.
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

/// One entry of a folder. `stamp` is of the entry itself (links are not followed).
#[derive(Clone, Debug)]
pub struct FolderEntry {
    /// Its name, as bytes of any kind.
    pub name: OsString,
    /// What it is.
    pub kind: EntryKind,
    /// Its stamp.
    pub stamp: FileStamp,
}

/// An open folder.
#[derive(Debug)]
pub struct Folder {
    fd: OwnedFd,
}

/// Opening a folder that is not followed if it is a link.
const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Opening a folder only to walk through it: that needs no permission to list it.
const PASSAGE: OFlags = OFlags::PATH
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Opening a file to read it. O_NONBLOCK and O_NOCTTY matter if something else was put in its place
/// a moment ago.
const FILE: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

/// Looking at an entry itself, without setting off an automount.
const LOOK: AtFlags = AtFlags::SYMLINK_NOFOLLOW.union(AtFlags::NO_AUTOMOUNT);

impl Folder {
    /// Opens the root of a tree (following links: the person named it).
    pub fn open(path: &Path) -> io::Result<Folder> {
        let fd = rustix::fs::openat(
            CWD,
            path,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        Ok(Folder { fd })
    }

    /// Opens a folder directly inside, unless it is a link.
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

    /// Its entries, without `.` and `..`, sorted by name. One that vanishes meanwhile is left out.
    pub fn entries(&self) -> io::Result<Vec<FolderEntry>> {
        let mut entries = Vec::new();
        self.for_each_entry(|entry| entries.push(entry))?;
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// The same without most of what there may be very much of: of each class the first `most` by name are kept,
    /// and the others counted. `class` gives the class of an entry; `None`: it is kept in any case. So that a
    /// folder of a million files takes no more memory than one of a few.
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

    fn for_each_entry(&self, mut use_it: impl FnMut(FolderEntry)) -> io::Result<()> {
        for entry in Dir::read_from(&self.fd)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            // Not the type that getdents reports: some file systems do not know it.
            let stat = match rustix::fs::statat(&self.fd, name, LOOK) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(error.into()),
            };
            use_it(FolderEntry {
                name: OsString::from_vec(name.to_bytes().to_vec()),
                kind: kind_of(&stat),
                stamp: stamp_of(&stat),
            });
        }
        Ok(())
    }

    /// The folder's own stamp: another `(dev, ino)` at the same path is another folder.
    pub fn stamp(&self) -> io::Result<FileStamp> {
        Ok(stamp_of(&rustix::fs::fstat(&self.fd)?))
    }

    /// Opens a regular file beneath this folder for reading: part by part, following no link, never
    /// blocking on a FIFO. Anything but a regular file is an error (`InvalidInput`), and so is a path
    /// that is empty, absolute, or has an empty part, `.` or `..` in it.
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
        // The first part is opened from here, each other one from the part before it.
        for part in parts.by_ref() {
            let from = folder.as_ref().map_or(self.fd.as_fd(), AsFd::as_fd);
            folder = Some(rustix::fs::openat(from, part, PASSAGE, Mode::empty())?);
        }
        let last = folder.as_ref().map_or(self.fd.as_fd(), AsFd::as_fd);
        open_regular(last, name)
    }
}

/// Opens `name` in `folder` if it is a regular file.
fn open_regular(folder: impl AsFd, name: &str) -> io::Result<File> {
    let folder = folder.as_fd();
    // Looked at before it is opened, because opening some devices does something; and again after,
    // because it may have been exchanged in between.
    if kind_of(&rustix::fs::statat(folder, name, LOOK)?) != EntryKind::File {
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

/// The error of what is no regular file where one is needed.
pub fn not_regular() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")
}

/// Whether the error is that a file is a folder, FIFO, socket, device or dangling chain of links.
pub fn is_not_regular(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidInput
        || matches!(
            Errno::from_io_error(error),
            Some(Errno::LOOP | Errno::ISDIR | Errno::NXIO)
        )
}

/// Opens a file of the state folder to read it, if it is regular (links are followed). Never waits, as
/// opening a FIFO would.
pub fn open_to_read(path: &Path) -> io::Result<File> {
    // Looked at before it is opened and again after, as in `open_regular`.
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

/// The content of a file without its holes. A hole reads as one line end, so that the time to read a
/// file depends on what is stored in it and not on its length.
#[derive(Debug)]
pub struct Content {
    file: File,
    /// Where the next byte is, and where the next hole begins (0: not looked for yet).
    at: u64,
    hole: u64,
}

impl Content {
    /// Reads from the beginning.
    pub fn new(file: File) -> Content {
        Content {
            file,
            at: 0,
            hole: 0,
        }
    }

    /// Begins again.
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
                // Nothing but a hole, or nothing at all, up to the end.
                Err(Errno::NXIO) => return Ok(0),
                // A file system without holes.
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
            // Cut short meanwhile.
            self.hole = self.at;
        }
        Ok(read)
    }
}

/// The stamp of an open file.
pub fn stamp(file: &File) -> io::Result<FileStamp> {
    Ok(stamp_of(&rustix::fs::fstat(file)?))
}

/// Creates a file in `folder` that has no name (O_TMPFILE, or create and unlink where that is not
/// known). Only its owner may open it while it still has one. The error of the folder itself: not
/// there, read-only, not ours.
pub fn unnamed_file(folder: &Path) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::EXCL | OFlags::CLOEXEC;
    match rustix::fs::openat(CWD, folder, flags, Mode::RUSR | Mode::WUSR) {
        Ok(fd) => Ok(File::from(fd)),
        // FUSE, some overlays and kernels before 3.11: the file system, or the kernel, does not know
        // O_TMPFILE (docs/hazards.md 12).
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT | Errno::NOSYS) => {
            create_and_unlink(folder)
        }
        Err(error) => Err(error.into()),
    }
}

/// The way of file systems without O_TMPFILE. The name begins with a dot, so a scan never takes it
/// for firmware if a kill comes between the two calls.
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
            // Left by a process of the same number that was killed: the next number is free.
            Err(Errno::EXIST) if number < u32::MAX => continue,
            Err(error) => return Err(error.into()),
        }
    }
}

/// Bytes that this process may still write into the file system of an open file.
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

// The types of the fields differ from one machine to the next; a size is never negative.
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
