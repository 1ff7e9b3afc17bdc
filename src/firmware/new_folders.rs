//! Makes the missing folders on the path of a new file, and removes them again if the file cannot be
//! written. Used by [`super::receive`] and [`super::rules::edit`].

use std::io;

use super::scan;
use crate::os::fs::Folder;

/// A folder that was opened, and those on the way to it that were made.
pub(super) struct NewFolders {
    folder: Folder,
    /// Each with its parent.
    made: Vec<(Folder, String)>,
}

impl NewFolders {
    /// Opens the folder with these parts beneath `root`, making what is missing. The error: the path of
    /// the part that cannot be opened or made, and why. Then nothing new is left.
    pub(super) fn open<'p>(
        root: Folder,
        parts: impl IntoIterator<Item = &'p str>,
    ) -> Result<NewFolders, (String, io::Error)> {
        let mut folders = NewFolders {
            folder: root,
            made: Vec::new(),
        };
        let mut path = String::new();
        for part in parts {
            path = scan::join(&path, part);
            match open_or_make(&folders.folder, part) {
                Ok((child, is_new)) => {
                    let parent = std::mem::replace(&mut folders.folder, child);
                    if is_new {
                        folders.made.push((parent, part.to_owned()));
                    }
                }
                Err(error) => {
                    folders.remove();
                    return Err((path, error));
                }
            }
        }
        Ok(folders)
    }

    pub(super) fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Removes the folders that were made, as far as they are empty.
    pub(super) fn remove(self) {
        for (parent, name) in self.made.iter().rev() {
            parent.remove_child(name).ok();
        }
    }
}

/// True: it was made.
fn open_or_make(parent: &Folder, name: &str) -> io::Result<(Folder, bool)> {
    match parent.child(name.as_ref()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        child => return Ok((child?, false)),
    }
    match parent.make_child(name) {
        // Another program made it meanwhile.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Ok((parent.child(name.as_ref())?, false))
        }
        child => Ok((child?, true)),
    }
}
