//! Writes a release.json: for the fuse, which pauses a release, and for the operator, who pauses,
//! resumes, widens a rollout or writes the whole file. The folder stays the only truth: what is written
//! here is read back by the scan like what a person wrote.
//!
//! A release without a folder of its own (a file at the top, named by Luatools) gets one for its rules
//! alone. Nothing is ever written that could not be read back, or over something that cannot be read now.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use sha2::{Digest, Sha256};

pub(in crate::firmware) use self::folders::unwritable;
use self::folders::{NAME, RulesFolders};
use super::{Paused, Rules};
use crate::firmware::ContentId;
use crate::os::fs::{Folder, FolderLock};

mod folders;
mod text;

/// Whose rules are edited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RulesScope<'a> {
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
pub enum EditError {
    /// What lies there is not what was expected, or was changed at the same moment: read it again.
    Changed,
    /// It would not be rules that the scan can read, or the place is none.
    Wrong(String),
    /// The folder does not let it be read or written.
    Unwritable(String),
}

impl fmt::Display for EditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EditError::Changed => f.write_str("somebody else has changed the file meanwhile"),
            EditError::Wrong(sentence) | EditError::Unwritable(sentence) => f.write_str(sentence),
        }
    }
}

/// The release.json of a project or release as it lies in the firmware folder `root`; `None`: there is none.
pub fn read(root: &Path, scope: RulesScope<'_>) -> Result<Option<Present>, EditError> {
    let found = RulesFolders::find(root, scope)?;
    Ok(found.read()?.map(|(present, _)| present))
}

/// The text of a release.json with some keys set, or with `None` removed; nothing is written. All else stays as it is
/// written.
pub fn with_keys(text: &str, changes: &[(&str, Option<Value>)]) -> Result<String, String> {
    text::changed(text, changes)
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
    scope: RulesScope<'_>,
    edit: Edit<'_>,
    expected: Expected,
) -> Result<Edited, EditError> {
    let _locked = locked(root)?;
    let mut edited = Err(EditError::Changed);
    for _ in 0..ATTEMPTS {
        edited = edit_locked(root, scope, edit, expected);
        if expected != Expected::Anything || edited != Err(EditError::Changed) {
            break;
        }
    }
    edited
}

/// The firmware folder, locked against other edits.
pub(in crate::firmware) fn locked(root: &Path) -> Result<(Folder, FolderLock), EditError> {
    let folder =
        Folder::open(root).map_err(|error| unwritable(&root.display().to_string(), error))?;
    match folder.lock(LOCK_PATIENCE) {
        Some(lock) => Ok((folder, lock)),
        None => Err(EditError::Unwritable(format!(
            "another program has had {} locked for {} s: try again",
            root.display(),
            LOCK_PATIENCE.as_secs()
        ))),
    }
}

/// One attempt, with the lock.
fn edit_locked(
    root: &Path,
    scope: RulesScope<'_>,
    edit: Edit<'_>,
    expected: Expected,
) -> Result<Edited, EditError> {
    let folders = RulesFolders::find(root, scope)?;
    let (old, stamp) = folders.read()?.unzip();
    let is_expected = match expected {
        Expected::Anything => true,
        Expected::Nothing => old.is_none(),
        Expected::Tag(tag) => old.as_ref().is_some_and(|old| old.tag == tag),
    };
    if !is_expected {
        return Err(EditError::Changed);
    }
    let bytes = match edit {
        Edit::Whole(bytes) => bytes.to_vec(),
        Edit::Keys(changes) => changed(old.as_ref(), changes)?,
    };
    let path = folders.target()?;
    if let Err(why) = Rules::parse(&bytes) {
        return Err(EditError::Wrong(format!("{path} would not be read: {why}")));
    }
    let created = old.is_none();
    if old.is_none_or(|old| old.bytes != bytes) {
        folders.write(&path, &bytes, stamp)?;
    }
    let tag = tag_of(&bytes);
    Ok(Edited {
        file: Present { path, bytes, tag },
        created,
    })
}

/// Pauses a release with this sentence, unless it is paused already.
pub fn pause(root: &Path, project: &str, version: &str, sentence: &str) -> Result<(), EditError> {
    let scope = RulesScope {
        project,
        version: Some(version),
    };
    let present = read(root, scope)?;
    let rules = present.as_ref().and_then(|p| Rules::parse(&p.bytes).ok());
    if let Some(Paused::Yes | Paused::Because(_)) = rules.and_then(|rules| rules.paused) {
        return Ok(());
    }
    let expected = present.map_or(Expected::Nothing, |p| Expected::Tag(p.tag));
    let keys = [("paused", Some(Value::from(sentence)))];
    edit(root, scope, Edit::Keys(&keys), expected).map(drop)
}

/// Ends the pause of a release, if its release.json (or, where that says nothing, the project's) says that it
/// is paused. An error means that it stays paused.
pub fn resume(root: &Path, project: &str, version: &str) -> Result<(), EditError> {
    let scope = RulesScope {
        project,
        version: Some(version),
    };
    let of_project = RulesScope {
        version: None,
        ..scope
    };
    let paused = |present: Option<&Present>| Rules::parse(&present?.bytes).ok()?.paused;
    let own = read(root, scope)?;
    let says = match paused(own.as_ref()) {
        Some(says) => Some(says),
        None => paused(read(root, of_project)?.as_ref()),
    };
    if let None | Some(Paused::No) = says {
        return Ok(());
    }
    let keys = [("paused", Some(Value::Bool(false)))];
    let expected = own.map_or(Expected::Nothing, |present| Expected::Tag(present.tag));
    edit(root, scope, Edit::Keys(&keys), expected).map(drop)
}

/// The tag of a release.json with these bytes.
pub fn tag_of(bytes: &[u8]) -> ContentId {
    ContentId(Sha256::digest(bytes).into())
}

/// The bytes of a file with some keys changed.
fn changed(old: Option<&Present>, changes: &[(&str, Option<Value>)]) -> Result<Vec<u8>, EditError> {
    let (path, bytes) = old.map_or((NAME, &b"{}"[..]), |p| (p.path.as_str(), &p.bytes));
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let by_hand = |why: String| {
        EditError::Wrong(format!(
            "{path} cannot be changed by one key, because {why}: set the file right first, or replace it \
             whole"
        ))
    };
    let text = std::str::from_utf8(bytes).map_err(|_| by_hand("it is not UTF-8".to_owned()))?;
    let text = text::changed(text, changes).map_err(by_hand)?;
    Ok(text.into_bytes())
}

#[cfg(test)]
mod tests;
