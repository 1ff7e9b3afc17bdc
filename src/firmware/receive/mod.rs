//! Receives an uploaded file into the firmware folder. The file is validated while it grows, and gets its name only if
//! it is complete, is firmware, and conflicts with no other file. Used by the operator API, on a thread of its own.
//!
//! No folder is created before the file is complete, so that an interrupted upload leaves nothing. The unfinished file
//! is in the deepest existing folder of its path.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::path::Path;

use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::ContentId;
use super::catalog::Catalog;
use super::catalog::candidate::{Candidate, candidate_path};
use super::name::FirmwarePath;
use super::new_folders::NewFolders;
use super::package::{Inspected, Inspector};
use super::plain;
use super::rules::{Rules, edit};
use super::scan;
use crate::os::fs::{Folder, Unfinished};

/// Bytes left free on the file system, so that the state folder can still be written.
const RESERVED_BYTES: u64 = 1 << 20;

/// A file that is being received.
pub struct Intake {
    /// Future path, relative to the firmware folder.
    path: String,
    /// Deepest existing folder of the path.
    folder: Folder,
    /// Folders of the path that must be created in `folder`.
    missing: Vec<String>,
    name: String,
    /// The unfinished file; `None` if a file with this name and size exists, so that the bytes are only compared.
    unfinished: Option<Unfinished>,
    inspector: Inspector,
    /// Hash of the existing file.
    present: Option<ContentId>,
}

/// A file that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredFile {
    /// Result of the validation.
    pub inspected: Inspected,
    /// Whether the file existed before, with the same bytes.
    pub existed: bool,
}

/// Reason why a file was not received. The sentences are for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UploadError {
    /// The file would be quarantined, or no such file can exist.
    Wrong(String),
    /// The name is taken by another file.
    NameTaken(String),
    /// The file system is full.
    Full(String),
    /// The folder cannot be written.
    Unwritable(String),
}

impl Intake {
    /// Prepares to receive a file of `size` bytes at `path`. `root` is the firmware folder.
    pub fn begin(root: &Path, path: &str, size: u64) -> Result<Intake, UploadError> {
        upload_path(path).map_err(UploadError::Wrong)?;
        let mut parts: Vec<&str> = path.split('/').collect();
        let name = parts.pop().unwrap_or_default();
        if parts
            .first()
            .is_some_and(|first| scan::is_of_the_system(first))
        {
            let sentence = "this folder belongs to the system and is ignored";
            return Err(UploadError::Wrong(sentence.to_owned()));
        }
        let mut folder =
            Folder::open(root).map_err(|error| unwritable(&root.display().to_string(), &error))?;
        let present = existing_hash(&folder, path, size)?;
        let mut missing = parts.iter();
        while let [part, ..] = missing.as_slice() {
            match folder.child(OsStr::new(part)) {
                Ok(child) => folder = child,
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) => return Err(no_folder(part, &error)),
            }
            missing.next();
        }
        let unfinished = match present {
            Some(_) => None,
            None => Some(create_unfinished(&folder, path, size)?),
        };
        Ok(Intake {
            path: path.to_owned(),
            folder,
            missing: missing.map(|&part| part.to_owned()).collect(),
            name: name.to_owned(),
            unfinished,
            inspector: Inspector::new(name),
            present,
        })
    }

    /// Adds the next bytes.
    pub fn add(&mut self, bytes: &[u8]) -> Result<(), UploadError> {
        self.inspector.update(bytes);
        match &mut self.unfinished {
            Some(file) => file
                .write(bytes)
                .map_err(|error| unwritable(&self.path, &error)),
            None => Ok(()),
        }
    }

    /// Gives the complete file its name. `catalog` is the current catalogue, `digest` the SHA-256 that the sender
    /// states, and `rules` the release.json of the release, which is written before the file gets its name. Blocks.
    pub fn finish(
        self,
        root: &Path,
        catalog: &Catalog,
        digest: Option<ContentId>,
        rules: Option<&[u8]>,
    ) -> Result<StoredFile, UploadError> {
        let inspected = self.inspector.finish().map_err(UploadError::Wrong)?;
        if digest.is_some_and(|digest| digest != inspected.content) {
            let sentence = "the received bytes do not match Repr-Digest: send them again";
            return Err(UploadError::Wrong(sentence.to_owned()));
        }
        let Some(unfinished) = self.unfinished else {
            if self.present != Some(inspected.content) {
                return Err(name_taken(&self.path));
            }
            write_rules(root, &self.path, rules)?;
            return Ok(StoredFile {
                inspected,
                existed: true,
            });
        };
        let candidate = Candidate {
            path: &self.path,
            kind: inspected.kind,
            content: Some(inspected.content),
        };
        let in_force = match rules {
            None => rules_of(root, &self.path),
            Some(rules) => {
                let own = Rules::parse(rules).map_err(UploadError::Wrong)?;
                over_project(own, root, &self.path)
            }
        };
        catalog
            .check_candidate(candidate, &in_force)
            .map_err(UploadError::Wrong)?;
        write_rules(root, &self.path, rules)?;
        let stored = |existed| StoredFile { inspected, existed };
        let failed = |error| unwritable(&self.path, &error);
        let missing = self.missing.iter().map(String::as_str);
        let folders = NewFolders::open(self.folder, missing).map_err(|(_, error)| failed(error))?;
        let finished = unfinished.finish(folders.folder(), &self.name);
        let present = match finished {
            Ok(true) => return Ok(stored(false)),
            // Another program has created the file in the meantime.
            Ok(false) => hash(folders.folder(), &self.name),
            Err(_) => None,
        };
        folders.remove();
        match finished {
            Err(error) => Err(failed(error)),
            Ok(_) if present == Some(inspected.content) => Ok(stored(true)),
            Ok(_) => Err(name_taken(&self.path)),
        }
    }
}

/// Parses the path of a new file, if the API accepts it: it is a path of firmware, and no name in it is deceptive or
/// has another meaning for Windows or a shell. The error is a sentence.
pub fn upload_path(path: &str) -> Result<FirmwarePath<'_>, String> {
    // Checked first, because the sentences of the other checks show the path.
    path.split('/').try_for_each(plain::name)?;
    let place = candidate_path(path)?;
    plain::name(place.project)?;
    plain::name(place.version_text)?;
    place.platform.map_or(Ok(()), plain::name)?;
    Ok(place)
}

/// The rules in force for a file at this path, as found in the folder. Unreadable rules are treated as empty, because
/// they hold the release back anyway.
pub fn rules_of(root: &Path, path: &str) -> Rules {
    let own = read_rules(root, path, |place| Some(place.version_text));
    over_project(own.unwrap_or_default(), root, path)
}

/// The rules in force for a file at this path that is uploaded with rules of its release. The error is a sentence.
pub fn rules_with(root: &Path, path: &str, own: &[u8]) -> Result<Rules, String> {
    let own = Rules::parse(own).map_err(|error| error.to_string())?;
    Ok(over_project(own, root, path))
}

/// Merges a release's own rules over those of its project.
fn over_project(own: Rules, root: &Path, path: &str) -> Rules {
    match read_rules(root, path, |_| None) {
        Some(project) => own.over(&project),
        None => own,
    }
}

/// Reads the release.json of the release of a file at this path, or without a version that of its project.
fn read_rules<'p>(
    root: &Path,
    path: &'p str,
    version: impl Fn(&FirmwarePath<'p>) -> Option<&'p str>,
) -> Option<Rules> {
    let place = candidate_path(path).ok()?;
    let place = edit::RulesScope {
        project: place.project,
        version: version(&place),
    };
    let present = edit::read(root, place).ok()??;
    Rules::parse(&present.bytes).ok()
}

/// Writes the rules that are uploaded with a file, unless the release has the same rules. Other rules are never
/// replaced, because that would change a release that people see.
fn write_rules(root: &Path, path: &str, rules: Option<&[u8]>) -> Result<(), UploadError> {
    let Some(rules) = rules else {
        return Ok(());
    };
    let place = candidate_path(path).map_err(UploadError::Wrong)?;
    let place = edit::RulesScope {
        project: place.project,
        version: Some(place.version_text),
    };
    match edit::edit(
        root,
        place,
        edit::Edit::Whole(rules),
        edit::Expected::Nothing,
    ) {
        Ok(_) => Ok(()),
        Err(edit::EditError::Wrong(sentence)) => Err(UploadError::Wrong(sentence)),
        Err(edit::EditError::Unwritable(sentence)) => Err(UploadError::Unwritable(sentence)),
        Err(edit::EditError::Changed) => {
            let present = edit::read(root, place).ok().flatten();
            let same = |present: &edit::Present| {
                let value = |bytes| serde_json::from_slice::<serde_json::Value>(bytes).ok();
                value(&present.bytes).is_some() && value(&present.bytes) == value(rules)
            };
            match present.is_some_and(|present| same(&present)) {
                true => Ok(()),
                false => Err(UploadError::NameTaken(format!(
                    "{} {} has other rules already: change those with PUT /api/v1/rules, then send the file \
                     without rules",
                    place.project,
                    place.version.unwrap_or_default()
                ))),
            }
        }
    }
}

/// Returns the hash of the existing file at this path, if it has the size of the new file. Otherwise an existing file
/// is an error.
fn existing_hash(root: &Folder, path: &str, size: u64) -> Result<Option<ContentId>, UploadError> {
    let file = match root.open_file(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(None);
        }
        // A link, a folder, or a file in place of a folder; the last is reported for the folder later.
        Err(_) => {
            return match path.rsplit_once('/') {
                Some((folders, _)) if root.descend(folders).is_err() => Ok(None),
                _ => Err(UploadError::NameTaken(format!(
                    "{path} exists and is not a regular file (links are never followed): remove it first"
                ))),
            };
        }
    };
    if file.metadata().ok().map(|metadata| metadata.len()) != Some(size) {
        return Err(name_taken(path));
    }
    hash(root, path).map(Some).ok_or_else(|| name_taken(path))
}

fn create_unfinished(folder: &Folder, path: &str, size: u64) -> Result<Unfinished, UploadError> {
    let unfinished = folder
        .create_unfinished()
        .map_err(|error| unwritable(path, &error))?;
    // A file system that does not report its free space fails when it is full.
    let free = unfinished.free_bytes().unwrap_or(u64::MAX);
    if free < size.saturating_add(RESERVED_BYTES) {
        return Err(no_space(path));
    }
    Ok(unfinished)
}

fn hash(folder: &Folder, path: &str) -> Option<ContentId> {
    let mut file = folder.open_file(path).ok()?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Some(ContentId(hasher.finalize().into())),
            Ok(got) => hasher.update(buffer.get(..got)?),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}

fn name_taken(path: &str) -> UploadError {
    UploadError::NameTaken(format!(
        "{path} exists with other content, and files are never replaced: raise the version, or remove that \
         one first"
    ))
}

fn no_space(path: &str) -> UploadError {
    UploadError::Full(format!(
        "there is no room for {path} on the file system of the firmware folder: remove old releases"
    ))
}

fn no_folder(part: &str, error: &io::Error) -> UploadError {
    match Errno::from_io_error(error) {
        Some(Errno::LOOP | Errno::NOTDIR) => UploadError::NameTaken(format!(
            "{part} is a file or a link, and links are never followed: remove it first"
        )),
        _ => unwritable(part, error),
    }
}

fn unwritable(path: &str, error: &io::Error) -> UploadError {
    match Errno::from_io_error(error) {
        Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => no_space(path),
        _ => UploadError::Unwritable(format!(
            "{path} cannot be written ({error}): let the user that the server runs as write into the \
             firmware folder"
        )),
    }
}

#[cfg(test)]
mod tests;
