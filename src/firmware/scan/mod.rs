//! Walks the firmware folder: what lies where, without opening a single file. [`now`] is one complete
//! scan for `luat-ota check` and `explain`; the watcher ([`super::watch`]) walks again and again and
//! keeps the results in a [`file_table`].
//!
//! Links are not followed, even where they lead to a file of this very folder, and a `release.json` or a
//! checksum that is a link is not skipped but counts as one that cannot be read: otherwise a link in its
//! place would release the firmware from its rules. For the same reason a folder that cannot be read counts
//! as one with a release.json that cannot be read.

pub(super) mod checksum;
pub(super) mod file_table;
pub(super) mod reading;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use rustix::io::Errno;

use self::file_table::{FileTable, Patience};
use super::audience::{Group, group_of_file};
use super::catalog::{Catalog, Groups, Unlisted};
use super::known::KnownFiles;
use super::name::{self, FileKind};
use crate::os::fs::{EntryKind, FileStamp, Folder, FolderEntry};

/// Folders are walked into so deep; the deepest that means anything is `PROJECT/VERSION/from-CORE`.
const DEPTH: usize = 8;

/// So many entries are looked at in one walk.
const ENTRIES: usize = 1_000_000;

/// So many files of a kind that is not served are listed; what there is beyond is counted.
pub(super) const LISTED: usize = 1000;

/// Classes of entries of which there may be very many in one folder, and how many of each are looked at:
/// what is quarantined by its name; what is no firmware; firmware that claims the same release for every
/// platform; what is ignored silently.
const CLASSES: [usize; 4] = [LISTED, LISTED, LISTED, 0];

/// At the first scan a file that has not changed for this long, by its own times, needs no settling.
const OLD: Duration = Duration::from_secs(10);

/// On a conflict copy. It must not quarantine the file of which it is a copy.
const CONFLICT: &str = "A program that synchronises folders made this copy because two machines changed the file at the \
    same time. It is not offered: compare the two, and remove this one.";

/// Device and inode of a folder.
pub(super) type FolderId = (u64, u64);

/// Device and inode of an open folder.
pub(super) fn folder_id(folder: &Folder) -> io::Result<FolderId> {
    let stamp = folder.stamp()?;
    Ok((stamp.dev, stamp.ino))
}

/// What lies at one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// A firmware file.
    Firmware(FileStamp),
    /// A checksum of the file beside it, or why it cannot be one.
    Checksum(Result<FileStamp, String>),
    /// A release.json, or why it cannot be one.
    Rules(Result<FileStamp, String>),
    /// A group of devices, or why it cannot be one.
    Group(Result<FileStamp, String>),
    /// Something that should not be there, and why.
    Quarantined(String),
    /// A folder that cannot be read, and why.
    Unread(String),
    /// Something that is no firmware.
    Ignored(String),
}

/// What one walk saw. Paths are relative to the firmware folder, their parts between `/`; what is not
/// UTF-8 is shown as near as can be.
#[derive(Debug, Default)]
pub(super) struct Walk {
    /// All that is neither a folder nor to be ignored silently.
    pub(super) seen: ByPath<Seen>,
    /// The folders walked into, the firmware folder itself (``) included when all of it was walked.
    pub(super) folders: ByPath<FolderId>,
    /// The folders that are there and cannot be read, and a sentence that says why.
    pub(super) unread: ByPath<String>,
    /// What was counted and is not in `seen`.
    pub(super) unlisted: Unlisted,
    /// How much of that kind is in `seen`.
    listed: Unlisted,
    entries: usize,
}

/// Values by path, relative to the firmware folder.
pub(super) type ByPath<T> = BTreeMap<String, T>;

/// One look at the folder as it lies there now, every file read to the end without waiting for it to
/// settle: for `luat-ota check` and `luat-ota explain`. Files that have long been as they are are added
/// to `known`, which the caller may save. The error is a sentence.
pub fn now(root: &Path, known: &mut KnownFiles) -> Result<Catalog, String> {
    let unreadable = |error: io::Error| {
        format!(
            "The firmware folder {} cannot be read: {error}.",
            root.display()
        )
    };
    let folder = Folder::open(root).map_err(unreadable)?;
    let walked = walk(&folder, None).map_err(unreadable)?;
    let mut files = FileTable::new(Patience::None);
    let start = Instant::now();
    files.walked(&folder, None, walked, Some(old_before()), start, known);
    loop {
        let jobs = files.jobs(start);
        if jobs.is_empty() {
            break;
        }
        for job in jobs {
            let outcome = reading::read(&folder, &job, &|| true);
            files.outcome(&job, outcome, start, known);
        }
    }
    Ok(Catalog::build(files.found()))
}

/// The groups of devices in the folder as it lies there now; those that cannot be used are left out.
pub fn groups(root: &Path) -> Groups {
    let class = |name: &OsStr, _: EntryKind| {
        let is_other = group_of_file(&name.to_string_lossy()).is_none();
        is_other.then_some(0)
    };
    let found = Folder::open(root).and_then(|folder| {
        let (entries, _) = folder.entries_by_class(&class, [0])?;
        let read = |entry: FolderEntry| {
            let path = entry.name.to_str()?.to_owned();
            let bytes = reading::small(&folder, &path, Group::MOST_BYTES);
            Some((path, Group::parse(&bytes.ok()??).ok()?))
        };
        Ok(Groups::new(entries.into_iter().filter_map(read)))
    });
    found.unwrap_or_default()
}

/// Walks the whole folder. `skip`: a folder that is not walked into (the state folder, if it lies
/// inside).
pub(super) fn walk(root: &Folder, skip: Option<FolderId>) -> io::Result<Walk> {
    let mut walk = Walk::default();
    walk.folders.insert(String::new(), folder_id(root)?);
    walk.folder(root, "", 1, skip)?;
    Ok(walk)
}

/// Looks at the entries with these names in the folder `parent` (empty: the firmware folder itself),
/// and walks everything beneath what is a folder. What is not seen is not there (or does not count). An error
/// for which [`has_gone`] is true: `parent` itself is not there.
pub(super) fn look(
    root: &Folder,
    parent: &str,
    names: &BTreeSet<String>,
    skip: Option<FolderId>,
) -> io::Result<Walk> {
    let mut walk = Walk::default();
    let folder = root.descend(parent)?;
    let depth = 1 + parent.split('/').filter(|part| !part.is_empty()).count();
    let is_named = |name: &OsStr| names.contains(&*name.to_string_lossy());
    let class = |name: &OsStr, _: EntryKind| (!is_named(name)).then_some(0);
    let (entries, _) = folder.entries_by_class(&class, [0])?;
    for entry in entries {
        if depth <= DEPTH {
            walk.entry(&folder, parent, depth, &entry, skip)?;
        }
    }
    Ok(walk)
}

impl Walk {
    /// Is there a firmware file, or a folder that may hold one and cannot be read?
    pub(super) fn has_firmware(&self) -> bool {
        let is_one = |seen: &Seen| matches!(seen, Seen::Firmware(_) | Seen::Unread(_));
        self.seen.values().any(is_one)
    }

    fn folder(
        &mut self,
        folder: &Folder,
        path: &str,
        depth: usize,
        skip: Option<FolderId>,
    ) -> io::Result<()> {
        let class = |name: &OsStr, kind: EntryKind| class(path, name, kind);
        let (entries, left_out) = folder.entries_by_class(&class, CLASSES)?;
        let [quarantined, ignored, rivals, silent] = left_out;
        self.unlisted.quarantined += quarantined + rivals;
        self.unlisted.ignored += ignored;
        self.entries += quarantined + ignored + rivals + silent;
        for entry in entries {
            self.entries += 1;
            if self.entries > ENTRIES {
                let text = format!(
                    "More than {ENTRIES} files and folders: what lies beyond is not looked at. \
                     Move away what is no firmware."
                );
                self.seen.insert(".".into(), Seen::Quarantined(text));
                return Ok(());
            }
            self.entry(folder, path, depth, &entry, skip)?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        folder: &Folder,
        parent: &str,
        depth: usize,
        entry: &FolderEntry,
        skip: Option<FolderId>,
    ) -> io::Result<()> {
        let name = entry.name.to_string_lossy();
        let kind = name::file_kind(&name);
        if kind == FileKind::Ignored {
            return Ok(());
        }
        let path = join(parent, &name);
        if entry.name.to_str().is_none() {
            let text = "The name is not UTF-8 (it is shown as near as can be): rename it.";
            self.list(path, Seen::Quarantined(text.into()));
            return Ok(());
        }
        let seen = match entry.kind {
            EntryKind::Folder => {
                if kind == FileKind::Rules {
                    let text = "This is a folder; a release.json is a file.";
                    self.seen.insert(path, Seen::Rules(Err(text.into())));
                    return Ok(());
                }
                return self.child(folder, path, depth, entry, skip);
            }
            EntryKind::File => match kind {
                FileKind::Firmware => match name::firmware_path(&path) {
                    Ok(_) => Seen::Firmware(entry.stamp),
                    // Whatever its bytes are: they are not read.
                    Err(text) => Seen::Quarantined(text),
                },
                FileKind::Rules => Seen::Rules(Ok(entry.stamp)),
                FileKind::Checksum => Seen::Checksum(Ok(entry.stamp)),
                FileKind::Group if parent.is_empty() => Seen::Group(Ok(entry.stamp)),
                FileKind::Group => Seen::Ignored(
                    "A group of devices is only read at the top of the firmware folder.".into(),
                ),
                FileKind::Mistake(_) | FileKind::Soc => {
                    Seen::Quarantined(kind.mistake(&path).unwrap_or_default())
                }
                FileKind::Ignored => return Ok(()),
                FileKind::Conflict => Seen::Ignored(CONFLICT.into()),
                FileKind::Other => Seen::Ignored("It is no firmware and is left alone.".into()),
            },
            EntryKind::Link | EntryKind::Special => {
                let text = if entry.kind == EntryKind::Link {
                    "This is a symbolic link, and links are never followed: put the file itself here."
                } else {
                    "This is a FIFO, a socket or a device, and such are never opened: remove it."
                };
                match kind {
                    FileKind::Rules => Seen::Rules(Err(text.into())),
                    FileKind::Checksum => Seen::Checksum(Err(text.into())),
                    FileKind::Group if parent.is_empty() => Seen::Group(Err(text.into())),
                    _ => Seen::Quarantined(text.into()),
                }
            }
        };
        self.list(path, seen);
        Ok(())
    }

    /// Adds what was seen, or counts it if there is much like it.
    fn list(&mut self, path: String, seen: Seen) {
        let counts = match seen {
            Seen::Quarantined(_) => {
                Some((&mut self.listed.quarantined, &mut self.unlisted.quarantined))
            }
            Seen::Ignored(_) => Some((&mut self.listed.ignored, &mut self.unlisted.ignored)),
            Seen::Firmware(_) | Seen::Checksum(_) | Seen::Rules(_) | Seen::Group(_) => None,
            Seen::Unread(_) => None,
        };
        match counts {
            Some((listed, unlisted)) if *listed >= LISTED => *unlisted += 1,
            Some((listed, _)) => {
                *listed += 1;
                self.seen.insert(path, seen);
            }
            None => drop(self.seen.insert(path, seen)),
        }
    }

    fn child(
        &mut self,
        parent: &Folder,
        path: String,
        depth: usize,
        entry: &FolderEntry,
        skip: Option<FolderId>,
    ) -> io::Result<()> {
        let identity = (entry.stamp.dev, entry.stamp.ino);
        if skip == Some(identity) || (depth == 1 && is_of_the_system(&path)) {
            return Ok(());
        }
        if depth >= DEPTH {
            let text = format!(
                "Folders lie in folders more than {DEPTH} deep: what is in this one is not looked at."
            );
            self.seen.insert(path, Seen::Quarantined(text));
            return Ok(());
        }
        let inside = parent.child(&entry.name).and_then(|folder| {
            // Into a map of its own: a folder that cannot be read to the end counts as unread.
            let mut inside = Walk {
                entries: self.entries,
                listed: self.listed,
                unlisted: self.unlisted,
                ..Walk::default()
            };
            inside.folder(&folder, &path, depth + 1, skip)?;
            Ok(inside)
        });
        match inside {
            Ok(inside) => {
                self.entries = inside.entries;
                self.listed = inside.listed;
                self.unlisted = inside.unlisted;
                self.seen.extend(inside.seen);
                self.folders.extend(inside.folders);
                self.unread.extend(inside.unread);
                self.folders.insert(path, identity);
            }
            Err(error) if is_ours(&error) => return Err(error),
            Err(error) if has_gone(&error) => {}
            Err(error) => self.unread(path, &error),
        }
        Ok(())
    }

    /// There is a folder that cannot be read.
    fn unread(&mut self, path: String, error: &io::Error) {
        let text = format!(
            "This folder cannot be read ({error}): let the user that the server runs as read and enter \
             it."
        );
        let why = format!("The folder {path} cannot be read ({error}).");
        self.unread.insert(path.clone(), why);
        self.seen.insert(path, Seen::Unread(text));
    }

    /// Why nobody knows whether there is something at this path, if that is so.
    pub(super) fn why_unknown(&self, path: &str) -> Option<&String> {
        let mut folder = path;
        while let Some((parent, _)) = folder.rsplit_once('/') {
            if let Some(why) = self.unread.get(parent) {
                return Some(why);
            }
            folder = parent;
        }
        None
    }
}

/// The class of an entry of the folder `parent` (an index of [`CLASSES`]); `None`: it is always looked at.
fn class(parent: &str, name: &OsStr, kind: EntryKind) -> Option<usize> {
    let (quarantined, ignored, rival, silent) = (Some(0), Some(1), Some(2), Some(3));
    let shown = name.to_string_lossy();
    let by_name = name::file_kind(&shown);
    match (by_name, kind) {
        (FileKind::Ignored, _) => silent,
        _ if name.to_str().is_none() => quarantined,
        (FileKind::Rules | FileKind::Checksum, _) | (_, EntryKind::Folder) => None,
        (FileKind::Group, _) if parent.is_empty() => None,
        (_, EntryKind::Link | EntryKind::Special) => quarantined,
        (FileKind::Mistake(_) | FileKind::Soc, EntryKind::File) => quarantined,
        (FileKind::Other | FileKind::Group | FileKind::Conflict, EntryKind::File) => ignored,
        (FileKind::Firmware, EntryKind::File) => match name::firmware_path(&join(parent, &shown)) {
            Err(_) => quarantined,
            Ok(place) if place.platform.is_none() => rival,
            Ok(_) => None,
        },
    }
}

/// A file whose times lie before this (nanoseconds since 1970) has not changed for ten seconds, as far
/// as its clock and ours agree.
pub(super) fn old_before() -> i128 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let since = since.unwrap_or_default().saturating_sub(OLD);
    i128::try_from(since.as_nanos()).unwrap_or(0)
}

/// The error says that what was there a moment ago is not there any more, or is something else.
pub(super) fn has_gone(error: &io::Error) -> bool {
    [Errno::NOENT, Errno::NOTDIR, Errno::LOOP].contains(&errno(error))
}

/// The error is a shortage of this process or machine: it says nothing about the file.
pub(super) fn is_ours(error: &io::Error) -> bool {
    [Errno::MFILE, Errno::NFILE, Errno::NOMEM].contains(&errno(error))
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

/// Folders that file systems and other computers make at the top of a stick.
pub(super) fn is_of_the_system(name: &str) -> bool {
    ["lost+found", "System Volume Information", "$RECYCLE.BIN"].contains(&name)
}

/// `name` in the folder `parent` (empty: the firmware folder itself).
pub(super) fn join(parent: &str, name: &str) -> String {
    if parent.is_empty() {
        name.to_owned()
    } else {
        format!("{parent}/{name}")
    }
}

#[cfg(test)]
mod tests;
