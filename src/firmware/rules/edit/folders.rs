//! Where the release.json of a project or release lies, or is to lie.

use std::io;
use std::path::Path;

use super::{EditError, Present, RulesScope, tag_of};
use crate::firmware::name::{FileKind, RulesOwner, file_kind, rules_owner};
use crate::firmware::new_folders::NewFolders;
use crate::firmware::rules::MOST_BYTES;
use crate::firmware::scan;
use crate::firmware::version::Version;
use crate::os::fs::{self, EntryKind, FileStamp, Folder, FolderEntry};

/// The name of a new file.
pub(super) const NAME: &str = "release.json";

/// The folders of one project or release, and its rules.
pub(super) struct RulesFolders<'a> {
    scope: RulesScope<'a>,
    owner: RulesOwner<'a>,
    root: Folder,
    /// Relative to the firmware folder; sorted.
    folders: Vec<String>,
    /// The path of the rules in one of them.
    rules: Option<(String, EntryKind)>,
}

impl<'a> RulesFolders<'a> {
    /// Looks for the folders, and for the rules in them.
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
            // A version's folder can only lie in its project's.
            let may_hold_it = owner.version.is_some() && name == owner.project;
            if may_hold_it && entry.kind == EntryKind::Folder {
                let inside =
                    entries(&root, name).map_err(|error| match scan::has_gone(&error) {
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
                // A file, such as firmware without an ending; or a link, which the scan passes over.
                Err(error) if scan::has_gone(&error) => {}
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
                    "{other} and {path} both rule it, and nobody knows which is meant: remove one of \
                     them first"
                )));
            }
            self.rules = Some((path, entry.kind));
        }
        self.folders.push(folder);
        Ok(())
    }

    /// The rules, with the stamp of the file that was read.
    pub(super) fn read(&self) -> Result<Option<(Present, FileStamp)>, EditError> {
        let Some((path, kind)) = &self.rules else {
            return Ok(None);
        };
        if *kind != EntryKind::File {
            return Err(EditError::Unwritable(format!(
                "{path} is no regular file (links are never followed): remove it first"
            )));
        }
        let unreadable = |error| unwritable(path, error);
        // The stamp first: a change while it is read is then noticed.
        let file = self.root.open_file(path).map_err(unreadable)?;
        let stamp = fs::stamp(&file).map_err(unreadable)?;
        let bytes = scan::reading::small(&self.root, path, MOST_BYTES).map_err(unreadable)?;
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

    /// The path to be written: the file that is there, else one in a folder that is there, else one in a
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

    /// A name for the folder: the first that means the project or release. (In a folder `X_1.0` there are
    /// no versions of a project of that name, and a single number after a `_` is none.)
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

    /// Writes the file, making the folders that it needs; they are removed again if it cannot be
    /// written. `old`: the file that is replaced.
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
        Version::parse(text).ok_or_else(|| EditError::Wrong(format!("`{text}` is no version")))
    };
    Ok(RulesOwner {
        project: scope.project,
        version: scope.version.map(read).transpose()?,
    })
}

/// Whether the scan takes rules in this folder for those of the owner.
fn is_owned_by(folder: &str, owner: RulesOwner<'_>) -> bool {
    let top = folder.split('/').next().unwrap_or_default();
    let is_ignored = |part| file_kind(part) == FileKind::Ignored;
    !scan::is_of_the_system(top)
        && !folder.split('/').any(is_ignored)
        && rules_owner(&scan::join(folder, NAME)).is_ok_and(|other| other == owner)
}

/// The entries of a folder beneath the firmware folder.
fn entries(root: &Folder, path: &str) -> io::Result<Vec<FolderEntry>> {
    root.descend(path)?.entries()
}

pub(in crate::firmware) fn unwritable(path: &str, error: io::Error) -> EditError {
    EditError::Unwritable(if scan::has_gone(&error) {
        format!(
            "{path} is not a folder that can be written into ({error}); links are never followed"
        )
    } else {
        format!(
            "{path} cannot be read and written ({error}): let the user that the server runs as do that"
        )
    })
}
