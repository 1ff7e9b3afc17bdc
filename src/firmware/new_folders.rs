//! Creates the missing folders on the path of a new file, and removes them again if the file cannot be written. Used by
//! [`super::receive`] and [`super::rules::edit`].

use std::io;

use super::scan;
use crate::os::fs::Folder;

/// An open folder, with the folders that were created on the path to it.
pub(super) struct NewFolders {
    folder: Folder,
    /// The created folders, outermost first, each as its parent and its name.
    created: Vec<(Folder, String)>,
}

impl NewFolders {
    /// Opens the folder at this path below `root` and creates the missing folders. The error is the path of the folder
    /// that cannot be opened or created, and the cause. After an error no created folder remains.
    pub(super) fn open<'p>(
        root: Folder,
        parts: impl IntoIterator<Item = &'p str>,
    ) -> Result<NewFolders, (String, io::Error)> {
        let mut folders = NewFolders {
            folder: root,
            created: Vec::new(),
        };
        let mut path = String::new();
        for part in parts {
            path = scan::join(&path, part);
            match open_or_create(&folders.folder, part) {
                Ok((child, is_new)) => {
                    let parent = std::mem::replace(&mut folders.folder, child);
                    if is_new {
                        folders.created.push((parent, part.to_owned()));
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

    /// Removes the created folders that are empty.
    pub(super) fn remove(self) {
        for (parent, name) in self.created.iter().rev() {
            parent.remove_child(name).ok();
        }
    }
}

/// Opens a folder, or creates it if it is missing. The boolean is true if the folder was created.
fn open_or_create(parent: &Folder, name: &str) -> io::Result<(Folder, bool)> {
    match parent.child(name.as_ref()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        child => return Ok((child?, false)),
    }
    match parent.make_child(name) {
        // Another program has created it in the meantime.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Ok((parent.child(name.as_ref())?, false))
        }
        child => Ok((child?, true)),
    }
}
