//! Takes a file into the firmware folder that somebody sends: it is checked while it grows, and lies under
//! its name only if it is whole, is firmware, and is in nobody's way. Used by the operator's side, on a
//! thread of its own.
//!
//! The surprise: nothing is made before the file is complete, no folder either; so a cut upload leaves
//! nothing. The unfinished file lies in the deepest folder of its path that is there.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::path::Path;

use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::ContentId;
use super::catalog::Catalog;
use super::catalog::newcomer::{Newcomer, firmware_place};
use super::name::Place;
use super::package::{Inspected, Inspector};
use super::plain;
use super::rules::{Rules, edit};
use super::scan;
use crate::os::fs::{Folder, Unfinished};

/// Left free on the file system, in bytes, so that the state folder can still be written.
const LEAVE_FREE: u64 = 1 << 20;

/// A file on its way in.
pub struct Intake {
    /// Where it will lie, relative to the firmware folder.
    path: String,
    /// The deepest folder of the path that is there.
    folder: Folder,
    /// Those that are still to be made in it.
    missing: Vec<String>,
    name: String,
    /// `None` where a file of this name and length is there already: then the bytes are only compared.
    unfinished: Option<Unfinished>,
    inspector: Inspector,
    /// What is there already.
    present: Option<ContentId>,
}

/// A file that was taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// What it is.
    pub inspected: Inspected,
    /// It was there before, with the same bytes.
    pub was_there: bool,
}

/// Why it was not. The sentences are for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It would be quarantined, or there can be no such file.
    Wrong(String),
    /// Another file has this name.
    Taken(String),
    /// The file system is full.
    Full(String),
    /// The folder cannot be written.
    Unwritable(String),
}

impl Intake {
    /// Prepares for a file of `size` bytes at `path`. `root`: the firmware folder.
    pub fn begin(root: &Path, path: &str, size: u64) -> Result<Intake, Refused> {
        place(path).map_err(Refused::Wrong)?;
        let mut parts: Vec<&str> = path.split('/').collect();
        let name = parts.pop().unwrap_or_default();
        if parts
            .first()
            .is_some_and(|first| scan::is_of_the_system(first))
        {
            let sentence = "this folder belongs to the system and is not looked at";
            return Err(Refused::Wrong(sentence.to_owned()));
        }
        let mut folder =
            Folder::open(root).map_err(|error| unwritable(&root.display().to_string(), &error))?;
        let present = present(&folder, path, size)?;
        let mut missing = parts.as_slice();
        while let Some((part, rest)) = missing.split_first() {
            match folder.child(OsStr::new(part)) {
                Ok(child) => folder = child,
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) => return Err(no_folder(part, &error)),
            }
            missing = rest;
        }
        let unfinished = match present {
            Some(_) => None,
            None => Some(begin_in(&folder, path, size)?),
        };
        Ok(Intake {
            path: path.to_owned(),
            folder,
            missing: missing.iter().map(|&part| part.to_owned()).collect(),
            name: name.to_owned(),
            unfinished,
            inspector: Inspector::new(name),
            present,
        })
    }

    /// The next bytes.
    pub fn add(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        self.inspector.update(bytes);
        match &mut self.unfinished {
            Some(file) => file
                .write(bytes)
                .map_err(|error| unwritable(&self.path, &error)),
            None => Ok(()),
        }
    }

    /// All bytes are there: the file gets its name. `catalog`: as it is now; `digest`: what the sender
    /// says that the bytes' SHA-256 is; `rules`: the release.json of its release, which is in the folder before
    /// the file has its name. Blocks.
    pub fn finish(
        self,
        root: &Path,
        catalog: &Catalog,
        digest: Option<ContentId>,
        rules: Option<&[u8]>,
    ) -> Result<Taken, Refused> {
        let inspected = self.inspector.finish().map_err(Refused::Wrong)?;
        if digest.is_some_and(|digest| digest != inspected.content) {
            let sentence =
                "the bytes that arrived are not those that Repr-Digest is of: send them again";
            return Err(Refused::Wrong(sentence.to_owned()));
        }
        let Some(unfinished) = self.unfinished else {
            if self.present != Some(inspected.content) {
                return Err(taken(&self.path));
            }
            put_rules(root, &self.path, rules)?;
            return Ok(Taken {
                inspected,
                was_there: true,
            });
        };
        let newcomer = Newcomer {
            path: &self.path,
            kind: inspected.kind,
            content: Some(inspected.content),
        };
        let in_force = match rules {
            None => rules_of(root, &self.path),
            Some(rules) => {
                let own = Rules::parse(rules).map_err(Refused::Wrong)?;
                over_project(own, root, &self.path)
            }
        };
        catalog
            .may_come(newcomer, &in_force)
            .map_err(Refused::Wrong)?;
        put_rules(root, &self.path, rules)?;
        let mut made: Vec<(Folder, String)> = Vec::new();
        let mut folder = self.folder;
        let mut put = Ok(true);
        for part in &self.missing {
            match make(&folder, part) {
                Ok((child, is_new)) => {
                    let parent = std::mem::replace(&mut folder, child);
                    if is_new {
                        made.push((parent, part.clone()));
                    }
                }
                Err(error) => {
                    put = Err(error);
                    break;
                }
            }
        }
        if put.is_ok() {
            put = unfinished.finish(&folder, &self.name);
        }
        if !matches!(put, Ok(true)) {
            for (parent, name) in made.iter().rev() {
                parent.remove_child(name).ok();
            }
        }
        match put {
            Ok(true) => Ok(Taken {
                inspected,
                was_there: false,
            }),
            // Somebody else was quicker.
            Ok(false) => match hash(&folder, &self.name) {
                Some(content) if content == inspected.content => Ok(Taken {
                    inspected,
                    was_there: true,
                }),
                _ => Err(taken(&self.path)),
            },
            Err(error) => Err(unwritable(&self.path, &error)),
        }
    }
}

/// What the path of a new file says, if it may come by the API: firmware, and no name in it deceives or trips
/// somebody. The error is a sentence.
pub fn place(path: &str) -> Result<Place<'_>, String> {
    // Before anything is said of the path: a sentence about it would show it.
    path.split('/').try_for_each(plain::name)?;
    let place = firmware_place(path)?;
    plain::name(place.project)?;
    plain::name(place.version_text)?;
    place.platform.map_or(Ok(()), plain::name)?;
    Ok(place)
}

/// The rules in force for a file at this path, as they lie in the folder. What cannot be read rules
/// nothing here: it holds the release back anyway.
pub fn rules_of(root: &Path, path: &str) -> Rules {
    let own = read_rules(root, path, |place| Some(place.version_text));
    over_project(own.unwrap_or_default(), root, path)
}

/// The rules in force for a file at this path that comes with these rules of its release. The error is a
/// sentence.
pub fn rules_with(root: &Path, path: &str, own: &[u8]) -> Result<Rules, String> {
    let own = Rules::parse(own).map_err(|error| error.to_string())?;
    Ok(over_project(own, root, path))
}

/// A release's own rules on top of its project's.
fn over_project(own: Rules, root: &Path, path: &str) -> Rules {
    match read_rules(root, path, |_| None) {
        Some(project) => own.over(&project),
        None => own,
    }
}

/// The release.json of the release or (without a version) of the project of a file at this path.
fn read_rules<'p>(
    root: &Path,
    path: &'p str,
    version: impl Fn(&Place<'p>) -> Option<&'p str>,
) -> Option<Rules> {
    let place = firmware_place(path).ok()?;
    let place = edit::Place {
        project: place.project,
        version: version(&place),
    };
    let present = edit::read(root, place).ok()??;
    Rules::parse(&present.bytes).ok()
}

/// Writes the rules that come with a file, unless the release has the same already. Other rules are never
/// replaced: a release that people see would change.
fn put_rules(root: &Path, path: &str, rules: Option<&[u8]>) -> Result<(), Refused> {
    let Some(rules) = rules else {
        return Ok(());
    };
    let place = firmware_place(path).map_err(Refused::Wrong)?;
    let place = edit::Place {
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
        Err(edit::Refused::Wrong(sentence)) => Err(Refused::Wrong(sentence)),
        Err(edit::Refused::Unwritable(sentence)) => Err(Refused::Unwritable(sentence)),
        Err(edit::Refused::Changed) => {
            let present = edit::read(root, place).ok().flatten();
            let same = |present: &edit::Present| {
                let value = |bytes| serde_json::from_slice::<serde_json::Value>(bytes).ok();
                value(&present.bytes).is_some() && value(&present.bytes) == value(rules)
            };
            match present.is_some_and(|present| same(&present)) {
                true => Ok(()),
                false => Err(Refused::Taken(format!(
                    "{} {} has other rules already: change those with PUT /api/v1/rules, then send the file \
                     without rules",
                    place.project,
                    place.version.unwrap_or_default()
                ))),
            }
        }
    }
}

/// The hash of the file of this name, if it is as long as the one that comes.
fn present(root: &Folder, path: &str, size: u64) -> Result<Option<ContentId>, Refused> {
    let file = match root.open_file(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(None);
        }
        // A link, a folder, or a file where a folder should be: said of the folders below.
        Err(_) => {
            return match path.rsplit_once('/') {
                Some((folders, _)) if !is_folder(root, folders) => Ok(None),
                _ => Err(Refused::Taken(format!(
                    "{path} is there and is no regular file (links are never followed): remove it first"
                ))),
            };
        }
    };
    let length = file.metadata().map(|metadata| metadata.len()).ok();
    if length != Some(size) {
        return Err(taken(path));
    }
    match hash(root, path) {
        Some(content) => Ok(Some(content)),
        None => Err(taken(path)),
    }
}

fn is_folder(root: &Folder, path: &str) -> bool {
    let mut folder = None;
    for part in path.split('/') {
        match folder.as_ref().unwrap_or(root).child(OsStr::new(part)) {
            Ok(child) => folder = Some(child),
            Err(_) => return false,
        }
    }
    true
}

fn begin_in(folder: &Folder, path: &str, size: u64) -> Result<Unfinished, Refused> {
    let unfinished = folder
        .unfinished()
        .map_err(|error| unwritable(path, &error))?;
    // A file system that does not say how much is free says so when it is full.
    let free = unfinished.free_bytes().unwrap_or(u64::MAX);
    if free < size.saturating_add(LEAVE_FREE) {
        return Err(full(path));
    }
    Ok(unfinished)
}

/// Opens a folder, made if it is not there; was it?
fn make(folder: &Folder, part: &str) -> io::Result<(Folder, bool)> {
    match folder.make_child(part) {
        Ok(child) => Ok((child, true)),
        // Made by somebody else meanwhile.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Ok((folder.child(OsStr::new(part))?, false))
        }
        Err(error) => Err(error),
    }
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

fn taken(path: &str) -> Refused {
    Refused::Taken(format!(
        "{path} is there with other bytes, and no file is ever replaced: raise the version, or remove that \
         one first"
    ))
}

fn full(path: &str) -> Refused {
    Refused::Full(format!(
        "there is no room for {path} on the file system of the firmware folder: remove old releases"
    ))
}

fn no_folder(part: &str, error: &io::Error) -> Refused {
    match Errno::from_io_error(error) {
        Some(Errno::LOOP | Errno::NOTDIR) => Refused::Taken(format!(
            "{part} is a file or a link, and links are never followed: remove it first"
        )),
        _ => unwritable(part, error),
    }
}

fn unwritable(path: &str, error: &io::Error) -> Refused {
    match Errno::from_io_error(error) {
        Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => full(path),
        _ => Refused::Unwritable(format!(
            "{path} cannot be written ({error}): let the user that the server runs as write into the \
             firmware folder"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::scratch::Scratch;

    fn bytes(seed: u8) -> Vec<u8> {
        (0..3000_u32)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8 ^ seed)
            .collect()
    }

    fn send(dir: &Scratch, path: &str, bytes: &[u8]) -> Result<Taken, Refused> {
        let mut intake = Intake::begin(dir.path(), path, bytes.len() as u64)?;
        for piece in bytes.chunks(700) {
            intake.add(piece)?;
        }
        intake.finish(dir.path(), &Catalog::default(), None, None)
    }

    fn files(dir: &Scratch) -> Vec<String> {
        fn walk(folder: &Path, prefix: &str, found: &mut Vec<String>) {
            for entry in std::fs::read_dir(folder).unwrap().flatten() {
                let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
                found.push(name.clone());
                if entry.file_type().unwrap().is_dir() {
                    walk(&entry.path(), &format!("{name}/"), found);
                }
            }
        }
        let mut found = Vec::new();
        walk(dir.path(), "", &mut found);
        found.sort();
        found
    }

    #[test]
    fn a_file_lies_there_when_it_is_complete() {
        let dir = Scratch::new();
        let taken = send(&dir, "P/2.0.1/from-2008/u.bin", &bytes(1)).unwrap();
        assert!(!taken.was_there && taken.inspected.size == 3000);
        let path = dir.path().join("P/2.0.1/from-2008/u.bin");
        assert_eq!(std::fs::read(path).unwrap(), bytes(1));
        assert_eq!(files(&dir).len(), 4);
    }

    #[test]
    fn the_same_bytes_again_are_no_trouble_and_others_are() {
        let dir = Scratch::new();
        send(&dir, "P/2.0.1/u.bin", &bytes(1)).unwrap();
        assert!(send(&dir, "P/2.0.1/u.bin", &bytes(1)).unwrap().was_there);
        for other in [bytes(2), bytes(1)[..2999].to_vec()] {
            let refused = send(&dir, "P/2.0.1/u.bin", &other).unwrap_err();
            assert!(matches!(refused, Refused::Taken(_)), "{refused:?}");
        }
        let path = dir.path().join("P/2.0.1/u.bin");
        assert_eq!(std::fs::read(path).unwrap(), bytes(1));
        assert_eq!(files(&dir), ["P", "P/2.0.1", "P/2.0.1/u.bin"]);
    }

    #[test]
    fn what_is_cut_or_refused_leaves_nothing() {
        let dir = Scratch::new();
        let mut intake = Intake::begin(dir.path(), "P/2.0.1/u.bin", 3000).unwrap();
        intake.add(&bytes(1)[..1000]).unwrap();
        drop(intake);
        assert_eq!(files(&dir), [""; 0]);
        let page = b"<!doctype html><title>404</title>".repeat(20);
        let refused = send(&dir, "P/2.0.1/u.bin", &page).unwrap_err();
        assert!(matches!(refused, Refused::Wrong(_)), "{refused:?}");
        assert_eq!(files(&dir), [""; 0]);
        let mut intake = Intake::begin(dir.path(), "P/2.0.1/u.bin", 3000).unwrap();
        intake.add(&bytes(1)).unwrap();
        let digest = Some(ContentId([0; 32]));
        assert!(
            intake
                .finish(dir.path(), &Catalog::default(), digest, None)
                .is_err()
        );
        assert_eq!(files(&dir), [""; 0]);
    }

    #[test]
    fn no_link_is_followed() {
        let dir = Scratch::new();
        let elsewhere = Scratch::new();
        std::os::unix::fs::symlink(elsewhere.path(), dir.path().join("P")).unwrap();
        for path in ["P/2.0.1/u.bin", "P/2.0.1/from-2008/u.bin"] {
            let refused = send(&dir, path, &bytes(1)).unwrap_err();
            assert!(matches!(refused, Refused::Taken(_)), "{refused:?}");
        }
        dir.write("Q/2.0.1/v.bin", b"x");
        let target = elsewhere.write("target.bin", &bytes(1));
        std::os::unix::fs::symlink(&target, dir.path().join("Q/2.0.1/u.bin")).unwrap();
        let refused = send(&dir, "Q/2.0.1/u.bin", &bytes(1)).unwrap_err();
        assert!(matches!(refused, Refused::Taken(_)), "{refused:?}");
        assert_eq!(files(&elsewhere), ["target.bin"]);
    }

    #[test]
    fn a_file_in_a_folders_place_is_said() {
        let dir = Scratch::new();
        dir.write("P", b"a file");
        let refused = send(&dir, "P/2.0.1/u.bin", &bytes(1)).unwrap_err();
        assert!(matches!(refused, Refused::Taken(_)), "{refused:?}");
        std::fs::create_dir_all(dir.path().join("Q/2.0.1/u.bin")).unwrap();
        let refused = send(&dir, "Q/2.0.1/u.bin", &bytes(1)).unwrap_err();
        assert!(matches!(refused, Refused::Taken(_)), "{refused:?}");
    }

    #[test]
    fn the_rules_that_lie_there_say_the_base() {
        let dir = Scratch::new();
        dir.write("P/release.json", br#"{"base_core": 2008, "percent": 5}"#);
        dir.write("P/2012.1.4/release.json", br#"{"percent": 10}"#);
        let rules = rules_of(dir.path(), "P/2012.001.004/u.bin");
        assert_eq!((rules.base_core, rules.percent), (Some(2008), Some(10.0)));
        assert_eq!(rules_of(dir.path(), "Q/1.0.0/u.bin"), Rules::default());
    }
}
