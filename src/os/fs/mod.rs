//! Files beneath a folder, opened without ever following a link, and their stamps. The scan and the
//! snapshots read the firmware folder only through here.
//!
//! What would surprise you: openat2 (`RESOLVE_BENEATH`) is not used, because kernels before 5.6 do
//! not have it. A path is walked part by part instead, each part opened relative to the one before
//! with O_NOFOLLOW, which is just as tight.

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

use crate::order;

mod lock;
mod unfinished;
mod write;

pub use lock::FolderLock;
pub use unfinished::{Unfinished, sweep_unfinished};

/// Which file, and in which state: two equal stamps mean the same bytes, as far as the file system
/// can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Stamp {
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
pub struct Entry {
    /// Its name, as bytes of any kind.
    pub name: OsString,
    /// What it is.
    pub kind: EntryKind,
    /// Its stamp.
    pub stamp: Stamp,
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
    pub fn entries(&self) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
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
            entries.push(Entry {
                name: OsString::from_vec(name.to_bytes().to_vec()),
                kind: kind_of(&stat),
                stamp: stamp_of(&stat),
            });
        }
        order::sort_by(&mut entries, |a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// The same without most of what there may be very much of: of each class the first `most` by name are kept,
    /// and the others counted. `class` gives the class of an entry; `None`: it is kept in any case. So that a
    /// folder of a million files takes no more memory than one of a few.
    pub fn entries_by_class<const N: usize>(
        &self,
        class: &dyn Fn(&OsStr, EntryKind) -> Option<usize>,
        most: [usize; N],
    ) -> io::Result<(Vec<Entry>, [usize; N])> {
        let mut entries = Vec::new();
        let mut kept: [BTreeMap<OsString, Entry>; N] = std::array::from_fn(|_| BTreeMap::new());
        let mut left_out = [0_usize; N];
        for entry in Dir::read_from(&self.fd)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let stat = match rustix::fs::statat(&self.fd, name, LOOK) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(error.into()),
            };
            let entry = Entry {
                name: OsString::from_vec(name.to_bytes().to_vec()),
                kind: kind_of(&stat),
                stamp: stamp_of(&stat),
            };
            let class = class(&entry.name, entry.kind);
            let of_class = class.and_then(|at| Some((kept.get_mut(at)?, *most.get(at)?, at)));
            let Some((kept, most, at)) = of_class else {
                entries.push(entry);
                continue;
            };
            kept.insert(entry.name.clone(), entry);
            if kept.len() > most {
                kept.pop_last();
                if let Some(count) = left_out.get_mut(at) {
                    *count = count.saturating_add(1);
                }
            }
        }
        entries.extend(kept.into_iter().flat_map(BTreeMap::into_values));
        order::sort_by(&mut entries, |a, b| a.name.cmp(&b.name));
        Ok((entries, left_out))
    }

    /// The folder's own stamp: another `(dev, ino)` at the same path is another folder.
    pub fn stamp(&self) -> io::Result<Stamp> {
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
pub fn stamp(file: &File) -> io::Result<Stamp> {
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
fn stamp_of(stat: &rustix::fs::Stat) -> Stamp {
    let time = |seconds: i128, nanoseconds: i128| seconds * 1_000_000_000 + nanoseconds;
    Stamp {
        dev: stat.st_dev as u64,
        ino: stat.st_ino as u64,
        size: stat.st_size as u64,
        mtime: time(stat.st_mtime as i128, stat.st_mtime_nsec as i128),
        ctime: time(stat.st_ctime as i128, stat.st_ctime_nsec as i128),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::scratch::Scratch;
    use std::io::{Read, Seek, Write};
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn fifo(path: &Path) {
        rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    }

    #[test]
    fn a_file_deep_beneath_the_folder_is_opened() {
        let dir = Scratch::new();
        dir.write("a/b/c.bin", b"deep");
        dir.write("top.bin", b"top");
        let folder = Folder::open(dir.path()).unwrap();
        for (path, bytes) in [("a/b/c.bin", "deep"), ("top.bin", "top")] {
            let mut text = String::new();
            let mut file = folder.open_file(path).unwrap();
            file.read_to_string(&mut text).unwrap();
            assert_eq!(text, bytes);
        }
    }

    #[test]
    fn paths_that_leave_the_folder_or_pass_through_a_link_are_refused() {
        let dir = Scratch::new();
        dir.write("secret.bin", b"secret");
        dir.write("root/in/real.bin", b"real");
        symlink("../secret.bin", dir.path().join("root/link.bin")).unwrap();
        symlink("in", dir.path().join("root/alias")).unwrap();
        let folder = Folder::open(&dir.path().join("root")).unwrap();
        let absolute = dir.path().join("secret.bin");
        for path in [
            "../secret.bin",
            "in/../../secret.bin",
            "./in/real.bin",
            "in//real.bin",
            "in/real.bin/",
            "",
            ".",
            "..",
            "/",
            "in/real.bin\0",
            absolute.to_str().unwrap(),
            "link.bin",
            "alias/real.bin",
            "in",
            "in/missing.bin",
            "in/real.bin/x",
        ] {
            assert!(folder.open_file(path).is_err(), "{path:?} was opened");
        }
        assert!(folder.child(OsStr::new("alias")).is_err());
        assert!(folder.child(OsStr::new("..")).is_err());
        assert!(folder.child(OsStr::new("in/..")).is_err());
        assert!(folder.child(OsStr::new("in")).is_ok());
    }

    #[test]
    fn a_fifo_is_refused_at_once() {
        let dir = Scratch::new();
        fifo(&dir.path().join("pipe.bin"));
        let folder = Folder::open(dir.path()).unwrap();
        // Without the look before it and O_NONBLOCK this would wait for a writer for ever.
        let error = folder.open_file("pipe.bin").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn a_hole_is_one_line_end_and_takes_no_time() {
        use std::os::unix::fs::FileExt;
        let dir = Scratch::new();
        let path = dir.write("holes", b"one\n");
        let file = File::options().write(true).open(&path).unwrap();
        let far = 1 << 40;
        if file.set_len(2 * far).is_err() {
            return;
        }
        file.write_all_at(b"two\n", far).unwrap();
        let mut content = Content::new(open_to_read(&path).unwrap());
        for _ in 0..2 {
            let mut bytes = Vec::new();
            content.read_to_end(&mut bytes).unwrap();
            bytes.retain(|byte| *byte != 0);
            assert_eq!(String::from_utf8(bytes).unwrap(), "one\n\ntwo\n");
            content.rewind().unwrap();
        }
    }

    #[test]
    fn a_file_without_holes_is_read_as_it_is() {
        let dir = Scratch::new();
        let bytes: Vec<u8> = (0..100_000_u32).map(|n| n as u8).collect();
        for bytes in [&bytes[..], b"", b"x"] {
            let path = dir.write("plain", bytes);
            let mut read = Vec::new();
            let mut content = Content::new(open_to_read(&path).unwrap());
            content.read_to_end(&mut read).unwrap();
            assert!(read == bytes);
        }
    }

    #[test]
    fn only_a_regular_file_is_opened_to_be_read() {
        let dir = Scratch::new();
        fifo(&dir.path().join("fifo"));
        symlink("fifo", dir.path().join("to-fifo")).unwrap();
        symlink("loop", dir.path().join("loop")).unwrap();
        for path in ["fifo", "to-fifo", "loop", "."] {
            let error = open_to_read(&dir.path().join(path)).unwrap_err();
            assert!(is_not_regular(&error), "{path}: {error}");
        }
        assert!(is_not_regular(
            &open_to_read(Path::new("/dev/zero")).unwrap_err()
        ));
        dir.write("file", b"");
        symlink("file", dir.path().join("to-file")).unwrap();
        assert!(open_to_read(&dir.path().join("to-file")).is_ok());
    }

    #[test]
    fn entries_are_sorted_and_say_what_they_are() {
        let dir = Scratch::new();
        dir.write("b.bin", b"12345");
        dir.write("folder/x", b"");
        symlink("/dev/null", dir.path().join("a-link")).unwrap();
        fifo(&dir.path().join("pipe"));
        let odd = OsStr::from_bytes(b"\xff\xfe.bin");
        std::fs::write(dir.path().join(odd), b"").unwrap();
        let entries = Folder::open(dir.path()).unwrap().entries().unwrap();
        let seen: Vec<_> = entries
            .iter()
            .map(|e| (e.name.as_os_str(), e.kind))
            .collect();
        assert_eq!(
            seen,
            [
                (OsStr::new("a-link"), EntryKind::Link),
                (OsStr::new("b.bin"), EntryKind::File),
                (OsStr::new("folder"), EntryKind::Folder),
                (OsStr::new("pipe"), EntryKind::Special),
                (odd, EntryKind::File),
            ]
        );
        assert_eq!(entries[1].stamp.size, 5);
    }

    #[test]
    fn the_stamp_of_an_entry_is_that_of_the_open_file_and_changes_with_its_bytes() {
        let dir = Scratch::new();
        dir.write("a.bin", b"one");
        let folder = Folder::open(dir.path()).unwrap();
        let before = folder.entries().unwrap()[0].stamp;
        let file = folder.open_file("a.bin").unwrap();
        assert_eq!(stamp(&file).unwrap(), before);
        assert!(before.mtime > 1_500_000_000 * 1_000_000_000);
        dir.write("a.bin", b"three");
        let after = stamp(&file).unwrap();
        assert_ne!(after, before);
        assert_eq!(
            (after.dev, after.ino, after.size),
            (before.dev, before.ino, 5)
        );
    }

    #[test]
    fn a_folder_that_was_made_again_has_another_stamp() {
        let dir = Scratch::new();
        dir.write("root/a", b"");
        let root = dir.path().join("root");
        let old = Folder::open(&root).unwrap();
        std::fs::rename(&root, dir.path().join("old")).unwrap();
        std::fs::create_dir(&root).unwrap();
        let new = Folder::open(&root).unwrap();
        assert_ne!(old.stamp().unwrap().ino, new.stamp().unwrap().ino);
    }

    #[test]
    fn an_unnamed_file_holds_bytes_and_leaves_no_name() {
        let dir = Scratch::new();
        for make in [unnamed_file, create_and_unlink] {
            let mut file = make(dir.path()).unwrap();
            file.write_all(b"kept").unwrap();
            file.rewind().unwrap();
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            assert_eq!(text, "kept");
            let mode = file.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0);
            assert!(free_bytes(&file).unwrap() > 0);
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(unnamed_file(&dir.path().join("missing")).is_err());
    }
}
