//! Walks the firmware folder: determines which files exist, without opening any of them. [`catalog`] makes one complete
//! scan for `luat-ota check` and `explain`; the watcher ([`super::watch`]) walks repeatedly and keeps the results in a
//! [`file_table`].
//!
//! Links are not followed, even if they lead to a file in the same folder. A `release.json` or a checksum that is a
//! link is not skipped but treated as unreadable. Otherwise a link in its place would free the firmware from its rules.
//! For the same reason an unreadable folder is treated as one with an unreadable release.json.

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

/// Maximum depth of folders that are walked; the deepest one with a meaning is `PROJECT/VERSION/from-CORE`.
const MAX_DEPTH: usize = 8;

/// Maximum number of entries that one walk examines.
const MAX_ENTRIES: usize = 1_000_000;

/// Maximum number of files that are listed of each kind that is not served; further files are counted.
pub(super) const MAX_LISTED: usize = 1000;

/// Maximum number of entries that are examined per folder of each class that may be very large: files quarantined by
/// their name; files that are no firmware; firmware that claims the same release without a platform; silently ignored
/// entries.
const CLASSES: [usize; 4] = [MAX_LISTED, MAX_LISTED, MAX_LISTED, 0];

/// Age of a file, by its own times, from which it needs no settling at the first scan.
const OLD_AGE: Duration = Duration::from_secs(10);

/// Sentence about a conflict copy. The copy must not cause the quarantine of the original file.
const CONFLICT: &str = "A program that synchronises folders made this copy because two machines changed the file at the \
    same time. It is not offered: compare the two, and remove this one.";

/// Device and inode of a folder.
pub(super) type FolderId = (u64, u64);

/// Device and inode of an open folder.
pub(super) fn folder_id(folder: &Folder) -> io::Result<FolderId> {
    let stamp = folder.stamp()?;
    Ok((stamp.dev, stamp.ino))
}

/// Entry at one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// A firmware file.
    Firmware(FileStamp),
    /// A checksum of the file beside it, or the reason why the entry cannot be used as one.
    Checksum(Result<FileStamp, String>),
    /// A release.json, or the reason why the entry cannot be used as one.
    Rules(Result<FileStamp, String>),
    /// A group of devices, or the reason why the entry cannot be used as one.
    Group(Result<FileStamp, String>),
    /// An entry that should not exist, and the reason.
    Quarantined(String),
    /// A folder that cannot be read, and the reason.
    Unread(String),
    /// An entry that is no firmware.
    Ignored(String),
}

/// Result of one walk. Paths are relative to the firmware folder, with `/` as separator. Names that are not UTF-8 are
/// approximated.
#[derive(Debug, Default)]
pub(super) struct Walk {
    /// All entries except folders and silently ignored ones.
    pub(super) seen: ByPath<Seen>,
    /// Folders that were walked, including the firmware folder itself (``) if all of it was walked.
    pub(super) folders: ByPath<FolderId>,
    /// Folders that exist and cannot be read, each with a sentence that states the reason.
    pub(super) unread: ByPath<String>,
    /// Entries that were counted and are not in `seen`.
    pub(super) unlisted: Unlisted,
    /// Entries of the counted kinds that are in `seen`.
    listed: Unlisted,
    entries: usize,
}

/// Values by path, relative to the firmware folder.
pub(super) type ByPath<T> = BTreeMap<String, T>;

/// Scans the folder once for `luat-ota check` and `luat-ota explain`, and reads every file without waiting for it to
/// settle. Files with old times are added to `known`, which the caller may save. The error is a sentence.
pub fn catalog(root: &Path, known: &mut KnownFiles) -> Result<Catalog, String> {
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
    files.add_walk(&folder, None, walked, Some(old_before()), start, known);
    loop {
        let jobs = files.jobs(start);
        if jobs.is_empty() {
            break;
        }
        for job in jobs {
            let outcome = reading::read(&folder, &job, &|| true);
            files.add_outcome(&job, outcome, start, known);
        }
    }
    Ok(Catalog::build(files.scan_result()))
}

/// Returns the groups of devices in the folder at present; those that cannot be used are omitted.
pub fn groups(root: &Path) -> Groups {
    let class = |name: &OsStr, _: EntryKind| {
        let is_other = group_of_file(&name.to_string_lossy()).is_none();
        is_other.then_some(0)
    };
    let found = Folder::open(root).and_then(|folder| {
        let (entries, _) = folder.entries_by_class(&class, [0])?;
        let read = |entry: FolderEntry| {
            let path = entry.name.to_str()?.to_owned();
            let bytes = reading::read_small(&folder, &path, Group::MAX_BYTES);
            Some((path, Group::parse(&bytes.ok()??).ok()?))
        };
        Ok(Groups::new(entries.into_iter().filter_map(read)))
    });
    found.unwrap_or_default()
}

/// Walks the whole folder. `skip` is a folder that is not walked (the state folder, if it is inside).
pub(super) fn walk(root: &Folder, skip: Option<FolderId>) -> io::Result<Walk> {
    let mut walk = Walk::default();
    walk.folders.insert(String::new(), folder_id(root)?);
    walk.add_folder(root, "", 1, skip)?;
    Ok(walk)
}

/// Examines the entries with these names in the folder `parent` (empty for the firmware folder itself), and walks all
/// folders among them. Entries that are missing in the result do not exist or are ignored. If [`is_gone`] is true for
/// the error, `parent` itself does not exist.
pub(super) fn walk_entries(
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
        if depth <= MAX_DEPTH {
            walk.add_entry(&folder, parent, depth, &entry, skip)?;
        }
    }
    Ok(walk)
}

impl Walk {
    /// Whether there is a firmware file, or an unreadable folder that may contain one.
    pub(super) fn has_firmware(&self) -> bool {
        let is_one = |seen: &Seen| matches!(seen, Seen::Firmware(_) | Seen::Unread(_));
        self.seen.values().any(is_one)
    }

    fn add_folder(
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
            if self.entries > MAX_ENTRIES {
                let text = format!(
                    "More than {MAX_ENTRIES} files and folders: the rest is ignored. Move away what is \
                     not firmware."
                );
                self.seen.insert(".".into(), Seen::Quarantined(text));
                return Ok(());
            }
            self.add_entry(folder, path, depth, &entry, skip)?;
        }
        Ok(())
    }

    fn add_entry(
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
            let text = "The name is not UTF-8 (it is shown approximately): rename it.";
            self.add_item(path, Seen::Quarantined(text.into()));
            return Ok(());
        }
        let seen = match entry.kind {
            EntryKind::Folder => {
                if kind == FileKind::Rules {
                    let text = "This is a folder; a release.json is a file.";
                    self.seen.insert(path, Seen::Rules(Err(text.into())));
                    return Ok(());
                }
                return self.add_child(folder, path, depth, entry, skip);
            }
            EntryKind::File => match kind {
                FileKind::Firmware => match name::firmware_path(&path) {
                    Ok(_) => Seen::Firmware(entry.stamp),
                    // The bytes do not matter, so they are not read.
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
                FileKind::Other => Seen::Ignored("It is not firmware and is ignored.".into()),
            },
            EntryKind::Link | EntryKind::Special => {
                let text = if entry.kind == EntryKind::Link {
                    "This is a symbolic link, and links are never followed: put the file itself here."
                } else {
                    "This is a FIFO, a socket or a device, which the server never opens: remove it."
                };
                match kind {
                    FileKind::Rules => Seen::Rules(Err(text.into())),
                    FileKind::Checksum => Seen::Checksum(Err(text.into())),
                    FileKind::Group if parent.is_empty() => Seen::Group(Err(text.into())),
                    _ => Seen::Quarantined(text.into()),
                }
            }
        };
        self.add_item(path, seen);
        Ok(())
    }

    /// Adds an entry, or counts it if there are too many of its kind.
    fn add_item(&mut self, path: String, seen: Seen) {
        let counts = match seen {
            Seen::Quarantined(_) => {
                Some((&mut self.listed.quarantined, &mut self.unlisted.quarantined))
            }
            Seen::Ignored(_) => Some((&mut self.listed.ignored, &mut self.unlisted.ignored)),
            Seen::Firmware(_) | Seen::Checksum(_) | Seen::Rules(_) | Seen::Group(_) => None,
            Seen::Unread(_) => None,
        };
        match counts {
            Some((listed, unlisted)) if *listed >= MAX_LISTED => *unlisted += 1,
            Some((listed, _)) => {
                *listed += 1;
                self.seen.insert(path, seen);
            }
            None => drop(self.seen.insert(path, seen)),
        }
    }

    fn add_child(
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
        if depth >= MAX_DEPTH {
            let text = format!(
                "Folders are nested more than {MAX_DEPTH} deep: the content of this one is ignored."
            );
            self.seen.insert(path, Seen::Quarantined(text));
            return Ok(());
        }
        let inside = parent.child(&entry.name).and_then(|folder| {
            // Use a separate map, because a folder that cannot be read to the end counts as unread.
            let mut inside = Walk {
                entries: self.entries,
                listed: self.listed,
                unlisted: self.unlisted,
                ..Walk::default()
            };
            inside.add_folder(&folder, &path, depth + 1, skip)?;
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
            Err(error) if is_resource_shortage(&error) => return Err(error),
            Err(error) if is_gone(&error) => {}
            Err(error) => self.add_unread(path, &error),
        }
        Ok(())
    }

    /// Records a folder that cannot be read.
    fn add_unread(&mut self, path: String, error: &io::Error) {
        let text = format!(
            "This folder cannot be read ({error}): let the user that the server runs as read and enter \
             it."
        );
        let why = format!("The folder {path} cannot be read ({error}).");
        self.unread.insert(path.clone(), why);
        self.seen.insert(path, Seen::Unread(text));
    }

    /// The reason why it is unknown whether this path exists, if it is unknown.
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

/// Returns the class of an entry of the folder `parent` (an index of [`CLASSES`]); `None` if it is always examined.
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

/// Returns the time (nanoseconds since 1970) that is ten seconds ago. A file with older times has not changed since
/// then, as far as its clock and the server's agree.
pub(super) fn old_before() -> i128 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let since = since.unwrap_or_default().saturating_sub(OLD_AGE);
    i128::try_from(since.as_nanos()).unwrap_or(0)
}

/// Whether the error means that the entry no longer exists, or is of another kind now.
pub(super) fn is_gone(error: &io::Error) -> bool {
    [Errno::NOENT, Errno::NOTDIR, Errno::LOOP].contains(&errno(error))
}

/// Whether the error is a shortage of this process or machine, which does not concern the file.
pub(super) fn is_resource_shortage(error: &io::Error) -> bool {
    [Errno::MFILE, Errno::NFILE, Errno::NOMEM].contains(&errno(error))
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

/// Whether this is the name of a folder that file systems and other computers create at the top of a removable medium.
pub(super) fn is_of_the_system(name: &str) -> bool {
    ["lost+found", "System Volume Information", "$RECYCLE.BIN"].contains(&name)
}

/// Returns the path of `name` in the folder `parent` (empty for the firmware folder itself).
pub(super) fn join(parent: &str, name: &str) -> String {
    if parent.is_empty() {
        name.to_owned()
    } else {
        format!("{parent}/{name}")
    }
}

#[cfg(test)]
mod tests;
