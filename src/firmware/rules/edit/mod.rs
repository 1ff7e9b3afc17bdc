//! Writes a release.json: for the fuse, which pauses a release, and for the operator, who pauses, resumes, extends a
//! rollout or writes the whole file. The folder remains the only source: the scan reads what is written here like what
//! a person wrote.
//!
//! A release without a folder of its own (a file at the top, named by Luatools) gets one for its rules only. Nothing is
//! written that could not be read back, and no file is replaced that cannot be read at present.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use sha2::{Digest, Sha256};

pub(in crate::firmware) use self::folders::unwritable;
use self::folders::{NAME, RulesFolders};
use super::{Paused, Rules};
use crate::firmware::ContentId;
use crate::os::fs::{FileLock, Folder};

mod folders;
mod text;

/// Project or release whose rules are edited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RulesScope<'a> {
    /// Name of the project.
    pub project: &'a str,
    /// Version of the release in any notation; `None` for the rules of the whole project.
    pub version: Option<&'a str>,
}

/// A change of the file.
#[derive(Clone, Copy, Debug)]
pub enum Edit<'a> {
    /// Sets these keys to these values, or removes them (`None`). All other text stays as written.
    Keys(&'a [(&'a str, Option<Value>)]),
    /// Replaces the whole file.
    Whole(&'a [u8]),
}

/// Condition for the edit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// No condition.
    Anything,
    /// No file may exist (`If-None-Match: *`).
    Nothing,
    /// A file with this tag must exist (`If-Match`).
    Tag(ContentId),
}

/// An existing release.json.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Present {
    /// Path relative to the firmware folder.
    pub path: String,
    /// Bytes of the file.
    pub bytes: Vec<u8>,
    /// SHA-256 of the bytes, for ETag and If-Match.
    pub tag: ContentId,
}

/// Result of an edit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edited {
    /// The file after the edit.
    pub file: Present,
    /// Whether the file did not exist before.
    pub created: bool,
}

/// Reason why nothing was written. The sentences are for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EditError {
    /// The file does not meet the condition, or was changed at the same time: read it again.
    Changed,
    /// The result would not be valid rules, or there can be no rules at this place.
    Wrong(String),
    /// The folder cannot be read or written.
    Unwritable(String),
}

impl fmt::Display for EditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EditError::Changed => f.write_str("the file was changed in the meantime"),
            EditError::Wrong(sentence) | EditError::Unwritable(sentence) => f.write_str(sentence),
        }
    }
}

/// Reads the release.json of a project or release in the firmware folder `root`; `None` if there is none.
pub fn read(root: &Path, scope: RulesScope<'_>) -> Result<Option<Present>, EditError> {
    let found = RulesFolders::find(root, scope)?;
    Ok(found.read()?.map(|(present, _)| present))
}

/// Returns the text of a release.json with some keys set, or removed (`None`), and all other text as written. Writes no
/// file.
pub fn with_keys(text: &str, changes: &[(&str, Option<Value>)]) -> Result<String, String> {
    text::change_keys(text, changes)
}

/// Time that an edit waits for another process that edits rules in the same firmware folder.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// Maximum number of attempts of an edit without a condition, if a program that ignores the lock changes the file.
const ATTEMPTS: usize = 5;

/// Changes or creates the file, atomically. Links are not followed. The temporary file beside it has a name that the
/// scan ignores. Reads the names in the firmware folder, so a call may take milliseconds.
///
/// The firmware folder is locked, across threads and processes, from the reading of the file to its replacement.
/// Otherwise one of two edits that read the same file would be lost.
///
/// Does not check that the project and the release exist, because the caller knows the catalogue.
pub fn edit(
    root: &Path,
    scope: RulesScope<'_>,
    edit: Edit<'_>,
    expected: Expected,
) -> Result<Edited, EditError> {
    let _locked = lock_folder(root)?;
    let mut edited = Err(EditError::Changed);
    for _ in 0..ATTEMPTS {
        edited = edit_locked(root, scope, edit, expected);
        if expected != Expected::Anything || edited != Err(EditError::Changed) {
            break;
        }
    }
    edited
}

/// Opens the firmware folder and locks it against other edits.
pub(in crate::firmware) fn lock_folder(root: &Path) -> Result<(Folder, FileLock), EditError> {
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

/// Makes one attempt, while the lock is held.
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

/// Pauses a release, with this sentence as the reason, unless it is paused already.
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

/// Ends the pause of a release if its release.json (or, if that has no `paused`, the project's) pauses it. After an
/// error the release remains paused.
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
    let state = match paused(own.as_ref()) {
        Some(state) => Some(state),
        None => paused(read(root, of_project)?.as_ref()),
    };
    if let None | Some(Paused::No) = state {
        return Ok(());
    }
    let keys = [("paused", Some(Value::Bool(false)))];
    let expected = own.map_or(Expected::Nothing, |present| Expected::Tag(present.tag));
    edit(root, scope, Edit::Keys(&keys), expected).map(drop)
}

/// Returns the tag of a release.json with these bytes.
pub fn tag_of(bytes: &[u8]) -> ContentId {
    ContentId(Sha256::digest(bytes).into())
}

/// Returns the bytes of a file with some keys changed.
fn changed(old: Option<&Present>, changes: &[(&str, Option<Value>)]) -> Result<Vec<u8>, EditError> {
    let (path, bytes) = old.map_or((NAME, &b"{}"[..]), |p| (p.path.as_str(), &p.bytes));
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let by_hand = |why: String| {
        EditError::Wrong(format!(
            "{path} cannot be changed by one key, because {why}: correct the file first, or replace all \
             of it"
        ))
    };
    let text = std::str::from_utf8(bytes).map_err(|_| by_hand("it is not UTF-8".to_owned()))?;
    let text = text::change_keys(text, changes).map_err(by_hand)?;
    Ok(text.into_bytes())
}

#[cfg(test)]
mod tests;
