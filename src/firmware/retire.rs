//! Takes a release out of service without deleting it: moves its folders and files into [`RETIRED`], keeping their
//! paths below that folder. The scan skips folders whose names begin with a dot.

use std::path::Path;

use super::catalog::Release;
use super::name::{RulesOwner, rules_owner};
use super::new_folders::NewFolders;
use super::rules::edit::{self, EditError, RulesScope};
use super::scan;
use crate::os::fs::Folder;

/// Folder for retired releases. If the path exists there already, `.retired-2` and so on are tried.
pub const RETIRED: &str = ".retired";

/// Maximum number of folders that are tried.
const MAX_FOLDERS: u32 = 1000;

/// Endings of a file and of the checksum files beside it.
const ENDINGS: [&str; 3] = ["", ".sha256", ".md5"];

/// A folder or file that was moved, relative to the firmware folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Former path.
    pub from: String,
    /// New path.
    pub to: String,
}

/// Retires a release of a project. If a part cannot be moved, the parts that were moved before are moved back. `root`
/// is the firmware folder. Blocks.
pub fn retire(root: &Path, project: &str, release: &Release) -> Result<Vec<Moved>, EditError> {
    let (folder, _lock) = edit::lock_folder(root)?;
    let mut moved = Vec::new();
    for path in parts(root, project, release)? {
        match retire_one(&folder, &path) {
            Ok(Some(to)) => moved.push(Moved { from: path, to }),
            Ok(None) => {}
            Err(error) => {
                for Moved { from, to } in &moved {
                    move_to(&folder, to, from).ok();
                }
                return Err(edit::unwritable(&path, error));
            }
        }
    }
    match moved.is_empty() {
        true => Err(EditError::Changed),
        false => Ok(moved),
    }
}

/// Returns the folders of a release, and those of its files that are in none of these folders.
fn parts(root: &Path, project: &str, release: &Release) -> Result<Vec<String>, EditError> {
    let owner = RulesOwner {
        project,
        version: Some(release.version),
    };
    let is_own = |folder: &str| rules_owner(&scan::join(folder, "release.json")) == Ok(owner);
    let scope = RulesScope {
        project,
        version: Some(&release.version_text),
    };
    let rules = edit::read(root, scope)?.map(|present| present.path);
    let files = release.packages.iter().map(|package| &*package.path);
    let mut parts = Vec::new();
    for path in files.chain(rules.as_deref()) {
        let slashes = path.match_indices('/').filter_map(|(at, _)| path.get(..at));
        match slashes.into_iter().find(|folder| is_own(folder)) {
            Some(folder) => parts.push(folder.to_owned()),
            None => parts.extend(ENDINGS.map(|ending| format!("{path}{ending}"))),
        }
    }
    parts.sort();
    parts.dedup();
    Ok(parts)
}

/// Moves one folder or file. Returns its new path, or `None` if it does not exist.
fn retire_one(folder: &Folder, path: &str) -> std::io::Result<Option<String>> {
    for number in 1..=MAX_FOLDERS {
        let to = match number {
            1 => scan::join(RETIRED, path),
            number => scan::join(&format!("{RETIRED}-{number}"), path),
        };
        match move_to(folder, path, &to) {
            Ok(true) => return Ok(Some(to)),
            Ok(false) => {}
            Err(error) if scan::is_gone(&error) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    Err(std::io::ErrorKind::AlreadyExists.into())
}

/// Moves a folder or file, creating the parent folders of the new path. Returns `false` if the new path exists.
fn move_to(root: &Folder, from: &str, to: &str) -> std::io::Result<bool> {
    let split = |path: &str| match path.rsplit_once('/') {
        Some((folder, name)) => (folder.to_owned(), name.to_owned()),
        None => (String::new(), path.to_owned()),
    };
    let ((above, name), (new, new_name)) = (split(from), split(to));
    let source = root.descend(&above)?;
    let parts = new.split('/').filter(|part| !part.is_empty());
    let target = NewFolders::open(root.descend("")?, parts).map_err(|(_, error)| error)?;
    let moved = source.move_child(&name, target.folder(), &new_name);
    if !matches!(moved, Ok(true)) {
        target.remove();
    }
    moved
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firmware::catalog::Package;
    use crate::firmware::package::PackageKind;
    use crate::firmware::version::Version;
    use crate::firmware::{ContentId, rules::Rules};
    use crate::os::scratch::Scratch;

    fn release(version: &str, paths: &[&str]) -> Release {
        let package = |path: &&str| Package {
            path: (*path).into(),
            content: ContentId([0; 32]),
            size: 1,
            kind: PackageKind::Generic,
            platform: None,
            base_core: None,
        };
        Release {
            version: Version::parse(version).unwrap(),
            version_text: version.into(),
            rules: Rules::default().into(),
            held_back: None,
            packages: paths.iter().map(package).collect(),
        }
    }

    fn retired(folder: &Scratch, version: &str, paths: &[&str]) -> Vec<String> {
        let moved = retire(folder.path(), "P", &release(version, paths)).unwrap();
        let is_there = |path: &str| folder.path().join(path).exists();
        assert!(
            moved
                .iter()
                .all(|one| is_there(&one.to) && !is_there(&one.from))
        );
        moved.into_iter().map(|one| one.to).collect()
    }

    #[test]
    fn a_release_is_moved_with_everything_in_its_folders() {
        let folder = Scratch::new();
        for path in [
            "P/2.0.0/u.bin",
            "P/2.0.0/from-2008/d.bin",
            "P_2.0.0/v.bin",
            "P/1.0.0/u.bin",
        ] {
            folder.write(path, b"x");
        }
        folder.write("P/2.0.0/release.json", b"{\"percent\": 5}");
        let paths = ["P/2.0.0/u.bin", "P/2.0.0/from-2008/d.bin", "P_2.0.0/v.bin"];
        let moved = retired(&folder, "2.0.0", &paths);
        assert_eq!(moved, [".retired/P/2.0.0", ".retired/P_2.0.0"]);
        assert!(folder.path().join(".retired/P/2.0.0/release.json").exists());
        assert!(folder.path().join("P/1.0.0/u.bin").exists());
        // The same version is retired a second time.
        folder.write("P/2.0.0/u.bin", b"y");
        let moved = retired(&folder, "2.0.0", &["P/2.0.0/u.bin"]);
        assert_eq!(moved, [".retired-2/P/2.0.0"]);
        assert!(!folder.path().join(".retired-2/P_2.0.0").exists());
    }

    #[test]
    fn a_file_without_a_folder_is_moved_with_its_checksum_and_its_rules() {
        let folder = Scratch::new();
        let file = "P_2012.001.004_LuatOS-SoC_Air780EPM.bin";
        folder.write(file, b"x");
        folder.write(&format!("{file}.sha256"), b"x");
        folder.write("P/2012.001.004/release.json", b"{}");
        let moved = retired(&folder, "2012.001.004", &[file]);
        assert_eq!(moved.len(), 3, "{moved:?}");
        let nothing = retire(folder.path(), "P", &release("2012.001.004", &[file]));
        assert_eq!(nothing, Err(EditError::Changed));
    }
}
