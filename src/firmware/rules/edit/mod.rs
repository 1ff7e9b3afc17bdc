//! Writes a release.json: for the fuse, which pauses a release, and for the operator, who pauses,
//! resumes, widens a rollout or writes the whole file. The folder stays the truth: what is written here
//! is read back by the scan like what a person wrote.
//!
//! What would surprise you: a release may have no folder of its own (a file that Luatools made, dropped
//! as it is). Then one is made for its rules alone. And nothing is ever written that could not be read
//! back, or over something that cannot be read now: whoever wrote that meant something by it.

use std::fmt;
use std::io;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{MOST_BYTES, Paused, Rules};
use crate::firmware::ContentId;
use crate::firmware::name::{FileKind, RulesPlace, file_kind, rules_place};
use crate::firmware::scan;
use crate::firmware::version::Version;
use crate::os::fs::{self, Entry, EntryKind, Folder, Stamp};

mod text;

/// The name of a file that is made.
const NAME: &str = "release.json";

/// Whose rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    /// The project.
    pub project: &'a str,
    /// The release's version in whatever way it is written; `None`: the rules of the whole project.
    pub version: Option<&'a str>,
}

/// What is to become of the file.
#[derive(Clone, Copy, Debug)]
pub enum Edit<'a> {
    /// These keys get these values, or with `None` go. All else stays as it is written.
    Keys(&'a [(&'a str, Option<Value>)]),
    /// It becomes this.
    Whole(&'a [u8]),
}

/// What must be there for the edit to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Anything, or nothing.
    Anything,
    /// No file (`If-None-Match: *`).
    Nothing,
    /// A file with this tag (`If-Match`).
    Tag(ContentId),
}

/// A release.json as it lies there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Present {
    /// Relative to the firmware folder.
    pub path: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its SHA-256, for ETag and If-Match.
    pub tag: ContentId,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edited {
    /// The file now.
    pub file: Present,
    /// There was none before.
    pub created: bool,
}

/// Why nothing was written. The sentences are for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// What lies there is not what was expected, or was changed at the same moment: read it again.
    Changed,
    /// It would not be rules that the scan can read, or the place is none.
    Wrong(String),
    /// The folder does not let it be read or written.
    Unwritable(String),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Changed => f.write_str("somebody else has changed the file meanwhile"),
            Refused::Wrong(sentence) | Refused::Unwritable(sentence) => f.write_str(sentence),
        }
    }
}

/// The release.json of a place as it lies in the firmware folder `root`; `None`: there is none.
pub fn read(root: &Path, place: Place<'_>) -> Result<Option<Present>, Refused> {
    let found = Found::look(root, place)?;
    Ok(found.read()?.map(|(present, _)| present))
}

/// How long an edit waits for another process that edits rules in the same firmware folder.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// Attempts of an edit that expects nothing, where a program that knows no lock changes the file meanwhile.
const ATTEMPTS: usize = 5;

/// Changes it, or makes it. Whole or not at all; no link is followed; on the way a file lies beside it
/// whose name the scan ignores. Reads the firmware folder's names, so a call may take milliseconds.
///
/// From reading the file to replacing it the firmware folder is locked, across threads and processes: of two
/// edits that read the same file, one would be lost.
///
/// Whether the project and the release are there is not looked at: the caller knows the catalogue.
pub fn edit(
    root: &Path,
    place: Place<'_>,
    edit: Edit<'_>,
    expected: Expected,
) -> Result<Edited, Refused> {
    let folder =
        Folder::open(root).map_err(|error| unwritable(&root.display().to_string(), error))?;
    let Some(_lock) = folder.lock(LOCK_PATIENCE) else {
        return Err(Refused::Unwritable(format!(
            "another program has had {} locked for {} s: try again",
            root.display(),
            LOCK_PATIENCE.as_secs()
        )));
    };
    let mut edited = Err(Refused::Changed);
    for _ in 0..ATTEMPTS {
        edited = edit_locked(root, place, edit, expected);
        if expected != Expected::Anything || edited != Err(Refused::Changed) {
            break;
        }
    }
    edited
}

/// One attempt, with the lock.
fn edit_locked(
    root: &Path,
    place: Place<'_>,
    edit: Edit<'_>,
    expected: Expected,
) -> Result<Edited, Refused> {
    let found = Found::look(root, place)?;
    let present = found.read()?;
    let tag = present.as_ref().map(|(present, _)| present.tag);
    match (expected, tag) {
        (Expected::Anything, _) | (Expected::Nothing, None) => {}
        (Expected::Tag(wanted), Some(tag)) if wanted == tag => {}
        _ => return Err(Refused::Changed),
    }
    let bytes = match edit {
        Edit::Whole(bytes) => bytes.to_vec(),
        Edit::Keys(changes) => {
            let old = present.as_ref().map(|(present, _)| present);
            changed(old, changes)?
        }
    };
    let target = found.target(place)?;
    if let Err(why) = Rules::parse(&bytes) {
        let path = target.path();
        return Err(Refused::Wrong(format!("{path} would not be read: {why}")));
    }
    let file = |bytes: Vec<u8>| Present {
        path: target.path(),
        tag: tag_of(&bytes),
        bytes,
    };
    let created = present.is_none();
    let (old, stamp) = present.unzip();
    if old.is_none_or(|old| old.bytes != bytes) {
        found.write(&target, &bytes, stamp)?;
    }
    Ok(Edited {
        file: file(bytes),
        created,
    })
}

/// Pauses a release with this sentence, unless it is paused already.
pub fn pause(root: &Path, project: &str, version: &str, sentence: &str) -> Result<(), Refused> {
    let place = Place {
        project,
        version: Some(version),
    };
    let present = read(root, place)?;
    let rules = present.as_ref().and_then(|p| Rules::parse(&p.bytes).ok());
    if let Some(Paused::Yes | Paused::Because(_)) = rules.and_then(|rules| rules.paused) {
        return Ok(());
    }
    let expected = present.map_or(Expected::Nothing, |p| Expected::Tag(p.tag));
    let keys = [("paused", Some(Value::from(sentence)))];
    edit(root, place, Edit::Keys(&keys), expected).map(drop)
}

/// Ends the pause of a release, if its release.json (or, where that says nothing, the project's) says that it
/// is paused. An error means that it stays paused.
pub fn resume(root: &Path, project: &str, version: &str) -> Result<(), Refused> {
    let place = Place {
        project,
        version: Some(version),
    };
    let of_project = Place {
        version: None,
        ..place
    };
    let paused = |present: Option<&Present>| Rules::parse(&present?.bytes).ok()?.paused;
    let own = read(root, place)?;
    let says = match paused(own.as_ref()) {
        Some(says) => Some(says),
        None => paused(read(root, of_project)?.as_ref()),
    };
    if let None | Some(Paused::No) = says {
        return Ok(());
    }
    let keys = [("paused", Some(Value::Bool(false)))];
    let expected = own.map_or(Expected::Nothing, |present| Expected::Tag(present.tag));
    edit(root, place, Edit::Keys(&keys), expected).map(drop)
}

/// The tag of a release.json with these bytes.
pub fn tag_of(bytes: &[u8]) -> ContentId {
    ContentId(Sha256::digest(bytes).into())
}

/// The bytes of a file with some keys changed.
fn changed(old: Option<&Present>, changes: &[(&str, Option<Value>)]) -> Result<Vec<u8>, Refused> {
    let (path, bytes) = old.map_or((NAME, &b"{}"[..]), |p| (p.path.as_str(), &p.bytes));
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let by_hand = |why: String| {
        Refused::Wrong(format!(
            "{path} cannot be changed by one key, because {why}: set the file right first, or replace it \
             whole"
        ))
    };
    let text = std::str::from_utf8(bytes).map_err(|_| by_hand("it is not UTF-8".to_owned()))?;
    let text = text::changed(text, changes).map_err(by_hand)?;
    Ok(text.into_bytes())
}

/// What lies in the firmware folder for one place.
struct Found {
    root: Folder,
    /// The folders that mean it, relative to the firmware folder; sorted.
    folders: Vec<String>,
    /// The rules in them: the folder, and the file.
    rules: Option<(String, Entry)>,
}

/// Where a release.json is to lie.
struct Target {
    /// Its folder, relative to the firmware folder.
    folder: String,
    /// Its name.
    name: String,
}

impl Target {
    fn path(&self) -> String {
        scan::join(&self.folder, &self.name)
    }
}

impl Found {
    /// Looks for the folders of a place, and for its rules.
    fn look(root: &Path, place: Place<'_>) -> Result<Found, Refused> {
        let wanted = Wanted::of(place)?;
        let at_root = |error| unwritable(&root.display().to_string(), error);
        let root = Folder::open(root).map_err(at_root)?;
        let mut folders = Vec::new();
        for entry in root.entries().map_err(at_root)? {
            let Some(name) = entry.name.to_str() else {
                continue;
            };
            if wanted.is_meant_by(name) {
                folders.push(name.to_owned());
            }
            // A version's folder can only lie in its project's.
            if wanted.version.is_some() && name == place.project && entry.kind == EntryKind::Folder
            {
                let inside = entries(&root, name)?;
                let names = inside.iter().filter_map(|entry| entry.name.to_str());
                let paths = names.map(|inner| scan::join(name, inner));
                folders.extend(paths.filter(|path| wanted.is_meant_by(path)));
            }
        }
        folders.sort();
        let mut found = Found {
            root,
            folders: Vec::new(),
            rules: None,
        };
        for folder in folders {
            let inside = match entries(&found.root, &folder) {
                // A file, such as firmware without an ending; or a link, which the scan passes over.
                Err(NoFolder::Not) => continue,
                inside => inside?,
            };
            for entry in inside {
                let name = entry.name.to_string_lossy();
                if file_kind(&name) != FileKind::Rules {
                    continue;
                }
                let path = scan::join(&folder, &name);
                if let Some((other, entry)) = &found.rules {
                    let other = scan::join(other, &entry.name.to_string_lossy());
                    return Err(Refused::Wrong(format!(
                        "{other} and {path} both rule it, and nobody knows which is meant: remove one of \
                         them first"
                    )));
                }
                found.rules = Some((folder.clone(), entry));
            }
            found.folders.push(folder);
        }
        Ok(found)
    }

    /// The rules, with the stamp of the file that was read.
    fn read(&self) -> Result<Option<(Present, Stamp)>, Refused> {
        let Some((folder, entry)) = &self.rules else {
            return Ok(None);
        };
        let path = scan::join(folder, &entry.name.to_string_lossy());
        if entry.kind != EntryKind::File {
            return Err(Refused::Unwritable(format!(
                "{path} is no regular file (links are never followed): remove it first"
            )));
        }
        let unreadable = |error| unwritable(&path, error);
        // The stamp first: what changes while it is read is then seen to be another.
        let file = self.root.open_file(&path).map_err(unreadable)?;
        let stamp = fs::stamp(&file).map_err(unreadable)?;
        let bytes = scan::reading::small(&self.root, &path, MOST_BYTES).map_err(unreadable)?;
        let Some(bytes) = bytes else {
            return Err(Refused::Unwritable(format!(
                "{path} is larger than 16 MiB: remove it first"
            )));
        };
        let tag = tag_of(&bytes);
        Ok(Some((Present { path, bytes, tag }, stamp)))
    }

    /// Where it is to be written: over the one that is there, else in a folder that means the place, else
    /// in one that is to be made.
    fn target(&self, place: Place<'_>) -> Result<Target, Refused> {
        if let Some((folder, entry)) = &self.rules {
            return Ok(Target {
                folder: folder.clone(),
                name: entry.name.to_string_lossy().into_owned(),
            });
        }
        let folder = match self.folders.first() {
            Some(folder) => folder.clone(),
            None => new_folder(place)?,
        };
        let name = NAME.to_owned();
        Ok(Target { folder, name })
    }

    /// Writes it, making the folders that it needs; those go again if it cannot be written.
    fn write(&self, target: &Target, bytes: &[u8], old: Option<Stamp>) -> Result<(), Refused> {
        let mut made: Vec<(String, String)> = Vec::new();
        let written = self.write_inside(target, bytes, old, &mut made);
        if written.is_err() {
            for (parent, name) in made.iter().rev() {
                let parent = open(&self.root, parent).ok().flatten();
                let parent = parent.as_ref().unwrap_or(&self.root);
                parent.remove_child(name).ok();
            }
        }
        written
    }

    fn write_inside(
        &self,
        target: &Target,
        bytes: &[u8],
        old: Option<Stamp>,
        made: &mut Vec<(String, String)>,
    ) -> Result<(), Refused> {
        let mut folder = None;
        let mut path = String::new();
        for part in target.folder.split('/') {
            let parent = folder.as_ref().unwrap_or(&self.root);
            let inner = scan::join(&path, part);
            let child = match parent.child(part.as_ref()) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let child = parent.make_child(part);
                    if child.is_ok() {
                        made.push((path, part.to_owned()));
                    }
                    child
                }
                child => child,
            };
            folder = Some(child.map_err(|error| unwritable(&inner, error))?);
            path = inner;
        }
        let folder = folder.as_ref().unwrap_or(&self.root);
        match folder.put_file(&target.name, bytes, old) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Refused::Changed),
            Err(error) => Err(unwritable(&target.path(), error)),
        }
    }
}

/// A place, its version read.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    project: &'a str,
    version: Option<Version>,
}

impl<'a> Wanted<'a> {
    fn of(place: Place<'a>) -> Result<Wanted<'a>, Refused> {
        let version = match place.version {
            None => None,
            Some(text) => match Version::parse(text) {
                Some(version) => Some(version),
                None => return Err(Refused::Wrong(format!("`{text}` is no version"))),
            },
        };
        Ok(Wanted {
            project: place.project,
            version,
        })
    }

    /// Does the scan take rules in this folder for those of the place?
    fn is_meant_by(&self, folder: &str) -> bool {
        let mut parts = folder.split('/');
        if scan::is_of_the_system(parts.next().unwrap_or_default())
            || folder.split('/').any(|p| file_kind(p) == FileKind::Ignored)
        {
            return false;
        }
        match rules_place(&scan::join(folder, NAME)) {
            Ok(RulesPlace::Project(project)) => self.version.is_none() && project == self.project,
            Ok(RulesPlace::Release(project, version)) => {
                self.version == Some(version) && project == self.project
            }
            Err(_) => false,
        }
    }
}

/// A folder to be made for a place that has none: the first name that means it. (In a folder `X_1.0` there
/// are no versions of a project of that name, and a single number behind a `_` is none.)
fn new_folder(place: Place<'_>) -> Result<String, Refused> {
    let wanted = Wanted::of(place)?;
    let project = place.project;
    let names = match place.version {
        None => vec![project.to_owned()],
        Some(version) => vec![
            format!("{project}/{version}"),
            format!("{project}_{version}"),
            format!("{project}_v{version}"),
        ],
    };
    let named = names.into_iter().find(|name| wanted.is_meant_by(name));
    named.ok_or_else(|| {
        Refused::Wrong(format!(
            "no folder can be named so that it means {project:?}{}",
            match place.version {
                Some(version) => format!(", version {version}"),
                None => String::new(),
            }
        ))
    })
}

/// Why there are no entries.
enum NoFolder {
    /// It is a link, a file, or gone.
    Not,
    Unreadable(Refused),
}

impl From<NoFolder> for Refused {
    fn from(why: NoFolder) -> Refused {
        match why {
            NoFolder::Not => Refused::Changed,
            NoFolder::Unreadable(refused) => refused,
        }
    }
}

/// What lies in a folder beneath the firmware folder.
fn entries(root: &Folder, path: &str) -> Result<Vec<Entry>, NoFolder> {
    let unreadable = |error: io::Error| match scan::has_gone(&error) {
        true => NoFolder::Not,
        false => NoFolder::Unreadable(unwritable(path, error)),
    };
    let folder = open(root, path).map_err(unreadable)?;
    let entries = folder.as_ref().unwrap_or(root).entries();
    entries.map_err(unreadable)
}

/// Opens a folder beneath the firmware folder; `None`: it is that itself.
fn open(root: &Folder, path: &str) -> io::Result<Option<Folder>> {
    let mut folder = None;
    for part in path.split('/').filter(|part| !part.is_empty()) {
        let from = folder.as_ref().unwrap_or(root);
        folder = Some(from.child(part.as_ref())?);
    }
    Ok(folder)
}

fn unwritable(path: &str, error: io::Error) -> Refused {
    Refused::Unwritable(if scan::has_gone(&error) {
        format!(
            "{path} is not a folder that can be written into ({error}); links are never followed"
        )
    } else {
        format!(
            "{path} cannot be read and written ({error}): let the user that the server runs as do that"
        )
    })
}

#[cfg(test)]
mod tests;
