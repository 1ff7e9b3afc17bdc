//! Events of the state folder and of single files, awaited like a socket. (The firmware folder, with its many folders,
//! is watched by notify.) An event says only that something happened, not what.
//!
//! Changes by another machine on a network drive, or through a memory mapping of a program, cause no event. If the
//! kernel has no inotify, or this user has too many watches, there is an error (ENOSYS, EMFILE, ENOSPC), and the caller
//! must poll.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;

use super::without::Feature;
use smol::Async;

/// An inotify instance.
pub struct FileEvents {
    source: Async<OwnedFd>,
}

/// A watched file or folder, resolved when its path was last looked up.
pub struct WatchedPath {
    number: i32,
}

/// Watched events of a folder. Single writes are left out: the journal in the folder is written all the time.
const IN_FOLDER: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::ONLYDIR);

/// Watched events of a file. Removing one of its names is a change of its attributes.
const TO_FILE: WatchFlags = WatchFlags::MODIFY
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::DELETE_SELF);

impl FileEvents {
    /// Creates an instance that watches nothing yet.
    pub fn new() -> io::Result<FileEvents> {
        Feature::Inotify.available()?;
        let descriptor = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        Ok(FileEvents {
            source: Async::new_nonblocking(descriptor)?,
        })
    }

    /// Watches a folder, but not the folders below. `before`: the previous watch of this path, which is removed if the
    /// path refers to another folder by now.
    pub fn folder(&self, path: &Path, before: Option<WatchedPath>) -> io::Result<WatchedPath> {
        self.watch(path, IN_FOLDER, before)
    }

    /// Watches a file, following links. `before`: as in [`FileEvents::folder`].
    pub fn file(&self, path: &Path, before: Option<WatchedPath>) -> io::Result<WatchedPath> {
        self.watch(path, TO_FILE, before)
    }

    fn watch(
        &self,
        path: &Path,
        what: WatchFlags,
        before: Option<WatchedPath>,
    ) -> io::Result<WatchedPath> {
        let watched = inotify::add_watch(self.source.get_ref(), path, what);
        let number = watched.as_ref().ok();
        if let Some(before) = before.filter(|before| Some(&before.number) != number) {
            // An error means that the watch ended with the watched file.
            let _gone = inotify::remove_watch(self.source.get_ref(), before.number);
        }
        Ok(watched.map(|number| WatchedPath { number })?)
    }

    /// Waits until something has happened since the last call, and takes all events.
    pub async fn next(&self) -> io::Result<()> {
        // The buffer has room for at least one event. The content of the events does not matter.
        let mut buffer = [0; 4096];
        let mut happened = false;
        loop {
            match rustix::io::read(self.source.get_ref(), &mut buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => happened = true,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if happened => return Ok(()),
                Err(Errno::AGAIN) => self.source.readable().await?,
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::*;
    use crate::os::scratch::Scratch;
    use smol::{Timer, block_on};

    /// Whether something happened.
    fn has_event(events: &FileEvents) -> bool {
        block_on(smol::future::or(
            async {
                events.next().await.unwrap();
                true
            },
            async {
                Timer::after(Duration::from_millis(1)).await;
                false
            },
        ))
    }

    #[test]
    fn a_new_entry_of_a_folder_is_an_event_and_a_write_is_not() {
        use std::io::Write as _;

        let scratch = Scratch::new();
        let path = scratch.write("journal.jsonl", b"");
        let mut journal = fs::OpenOptions::new().append(true).open(&path).unwrap();
        let events = FileEvents::new().unwrap();
        let watch = events.folder(scratch.path(), None).unwrap();
        assert!(!has_event(&events));
        journal.write_all(b"a line\n").unwrap();
        fs::read_dir(scratch.path()).unwrap().for_each(drop);
        fs::read(&path).unwrap();
        assert!(!has_event(&events));
        scratch.write("lift-1", b"");
        assert!(has_event(&events));
        assert!(!has_event(&events));
        fs::rename(scratch.path().join("lift-1"), scratch.path().join("lift-2")).unwrap();
        assert!(has_event(&events));
        // Watching the same folder twice gives the same watch.
        let number = watch.number;
        let watch = events.folder(scratch.path(), Some(watch)).unwrap();
        assert_eq!(watch.number, number);
        assert!(events.folder(&path, None).is_err());
    }

    #[test]
    fn the_watch_follows_a_link_to_its_new_file() {
        let (scratch, elsewhere) = (Scratch::new(), Scratch::new());
        let path = elsewhere.write("ids", b"1\n");
        let link = scratch.path().join("known-devices.txt");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let events = FileEvents::new().unwrap();
        let watch = events.file(&link, None).unwrap();
        fs::write(&path, b"2\n").unwrap();
        assert!(has_event(&events));
        let before = elsewhere.path().join("ids.before");
        fs::rename(&path, &before).unwrap();
        assert!(has_event(&events));
        elsewhere.write("ids", b"3\n");
        let watch = events.file(&link, Some(watch)).unwrap();
        // The end of a watch is an event as well.
        assert!(has_event(&events));
        fs::write(&before, b"4\n").unwrap();
        assert!(!has_event(&events));
        fs::write(&path, b"5\n").unwrap();
        assert!(has_event(&events));
        fs::remove_file(&path).unwrap();
        assert!(events.file(&link, Some(watch)).is_err());
    }
}
