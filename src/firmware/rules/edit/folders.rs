//! Finds the path of the release.json of a project or release, whether it exists or not.

use std::io;
use std::path::Path;

use super::{EditError, Present, RulesScope, tag_of};
use crate::firmware::name::{FileKind, RulesOwner, file_kind, rules_owner};
use crate::firmware::new_folders::NewFolders;
use crate::firmware::rules::MAX_BYTES;
use crate::firmware::scan;
use crate::firmware::version::Version;
use crate::os::fs::{self, EntryKind, FileStamp, Folder, FolderEntry};

/// Name of a new file.
pub(super) const NAME: &str = "release.json";

/// The folders of one project or release, and its rules.
pub(super) struct RulesFolders<'a> {
    scope: RulesScope<'a>,
    owner: RulesOwner<'a>,
    root: Folder,
    /// Paths relative to the firmware folder; sorted.
    folders: Vec<String>,
    /// Path and kind of the rules file in one of the folders.
    rules: Option<(String, EntryKind)>,
}

impl<'a> RulesFolders<'a> {
    /// Finds the folders and the rules in them.
    pub(super) fn find(root: &Path, scope: RulesScope<'a>) -> Result<RulesFolders<'a>, EditError> {
        let owner = owner_of(scope)?;
        let at_root = |error| unwritable(&root.display().to_string(), error);
        let root = Folder::open(root).map_err(at_root)?;
        let mut candidates = Vec::new();
        for entry in root.entries().map_err(at_root)? {
            let Some(name) = entry.name.to_str() else {
                continue;
            };
            if is_owned_by(name, owner) {
                candidates.push(name.to_owned());
            }
            // A version's folder can only be in its project's folder.
            let may_hold_it = owner.version.is_some() && name == owner.project;
            if may_hold_it && entry.kind == EntryKind::Folder {
                let inside = entries(&root, name).map_err(|error| match scan::is_gone(&error) {
                    true => EditError::Changed,
                    false => unwritable(name, error),
                })?;
                let names = inside.iter().filter_map(|entry| entry.name.to_str());
                let paths = names.map(|inner| scan::join(name, inner));
                candidates.extend(paths.filter(|path| is_owned_by(path, owner)));
            }
        }
        candidates.sort();
        let mut found = RulesFolders {
            scope,
            owner,
            root,
            folders: Vec::new(),
            rules: None,
        };
        for folder in candidates {
            match entries(&found.root, &folder) {
                Ok(inside) => found.add(folder, &inside)?,
                // A file, such as firmware without an ending; or a link, which the scan skips.
                Err(error) if scan::is_gone(&error) => {}
                Err(error) => return Err(unwritable(&folder, error)),
            }
        }
        Ok(found)
    }

    fn add(&mut self, folder: String, inside: &[FolderEntry]) -> Result<(), EditError> {
        for entry in inside {
            let name = entry.name.to_string_lossy();
            if file_kind(&name) != FileKind::Rules {
                continue;
            }
            let path = scan::join(&folder, &name);
            if let Some((other, _)) = &self.rules {
                return Err(EditError::Wrong(format!(
                    "{other} and {path} both have rules for it: remove one of them first"
                )));
            }
            self.rules = Some((path, entry.kind));
        }
        self.folders.push(folder);
        Ok(())
    }

    /// Reads the rules. Returns them with the stamp of the file.
    pub(super) fn read(&self) -> Result<Option<(Present, FileStamp)>, EditError> {
        let Some((path, kind)) = &self.rules else {
            return Ok(None);
        };
        if *kind != EntryKind::File {
            return Err(EditError::Unwritable(format!(
                "{path} is not a regular file (links are never followed): remove it first"
            )));
        }
        let unreadable = |error| unwritable(path, error);
        // Take the stamp first, so that a change during the reading is noticed.
        let file = self.root.open_file(path).map_err(unreadable)?;
        let stamp = fs::stamp(&file).map_err(unreadable)?;
        let bytes = scan::reading::read_small(&self.root, path, MAX_BYTES).map_err(unreadable)?;
        let Some(bytes) = bytes else {
            return Err(EditError::Unwritable(format!(
                "{path} is larger than 16 MiB: remove it first"
            )));
        };
        let present = Present {
            path: path.clone(),
            tag: tag_of(&bytes),
            bytes,
        };
        Ok(Some((present, stamp)))
    }

    /// Returns the path to write: that of the existing file, otherwise a path in an existing folder, otherwise one in a
    /// new folder.
    pub(super) fn target(&self) -> Result<String, EditError> {
        if let Some((path, _)) = &self.rules {
            return Ok(path.clone());
        }
        match self.folders.first() {
            Some(folder) => Ok(scan::join(folder, NAME)),
            None => Ok(scan::join(&self.new_folder()?, NAME)),
        }
    }

    /// Returns the first name for a new folder that means the project or release. A folder `X_1.0` cannot hold versions
    /// of a project of that name, and a single number after `_` is no version.
    fn new_folder(&self) -> Result<String, EditError> {
        let project = self.scope.project;
        let names = match self.scope.version {
            None => vec![project.to_owned()],
            Some(version) => vec![
                format!("{project}/{version}"),
                format!("{project}_{version}"),
                format!("{project}_v{version}"),
            ],
        };
        let mut names = names.into_iter();
        let named = names.find(|name| is_owned_by(name, self.owner));
        named.ok_or_else(|| {
            let version = self.scope.version.map(|text| format!(", version {text}"));
            EditError::Wrong(format!(
                "no folder can be named so that it means {project:?}{}",
                version.unwrap_or_default()
            ))
        })
    }

    /// Writes the file and creates missing folders. These are removed again if the file cannot be written. `old` is the
    /// stamp of the file to be replaced.
    pub(super) fn write(
        self,
        path: &str,
        bytes: &[u8],
        old: Option<FileStamp>,
    ) -> Result<(), EditError> {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let folders = NewFolders::open(self.root, folder.split('/'))
            .map_err(|(path, error)| unwritable(&path, error))?;
        let written = folders.folder().put_file(name, bytes, old);
        if !matches!(written, Ok(true)) {
            folders.remove();
        }
        match written {
            Ok(true) => Ok(()),
            Ok(false) => Err(EditError::Changed),
            Err(error) => Err(unwritable(path, error)),
        }
    }
}

fn owner_of(scope: RulesScope<'_>) -> Result<RulesOwner<'_>, EditError> {
    let read = |text| {
        Version::parse(text).ok_or_else(|| EditError::Wrong(format!("`{text}` is not a version")))
    };
    Ok(RulesOwner {
        project: scope.project,
        version: scope.version.map(read).transpose()?,
    })
}

/// Whether the scan assigns rules in this folder to the owner.
fn is_owned_by(folder: &str, owner: RulesOwner<'_>) -> bool {
    let top = folder.split('/').next().unwrap_or_default();
    let is_ignored = |part| file_kind(part) == FileKind::Ignored;
    !scan::is_of_the_system(top)
        && !folder.split('/').any(is_ignored)
        && rules_owner(&scan::join(folder, NAME)).is_ok_and(|other| other == owner)
}

/// Returns the entries of a folder below the firmware folder.
fn entries(root: &Folder, path: &str) -> io::Result<Vec<FolderEntry>> {
    root.descend(path)?.entries()
}

pub(in crate::firmware) fn unwritable(path: &str, error: io::Error) -> EditError {
    EditError::Unwritable(if scan::is_gone(&error) {
        format!("{path} is not a writable folder ({error}); links are never followed")
    } else {
        format!(
            "{path} cannot be read and written ({error}): let the user that the server runs as do that"
        )
    })
}
