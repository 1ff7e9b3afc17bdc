//! `luat-ota drain`: a file in the state folder asks the server to tell load balancers to send no more requests, or
//! with `--undo` to end that. The server removes the file when it has taken the request, and remembers the request
//! until it stops.

use std::path::{Path, PathBuf};
use std::{fs, io};

use super::write_atomically;

/// File names of the requests: to drain, and to end that.
const DRAIN: &str = "drain";
const UNDO: &str = "drain-undo";

/// Creates a request in a state folder, replacing an earlier one; returns its path.
pub fn ask(folder: &Path, undo: bool) -> io::Result<PathBuf> {
    let (name, other) = match undo {
        false => (DRAIN, UNDO),
        true => (UNDO, DRAIN),
    };
    fs::remove_file(folder.join(other)).ok();
    let path = folder.join(name);
    write_atomically(&path, b"")?;
    Ok(path)
}

/// Takes the request in a state folder. Returns whether the server is to be drained, or `None` if there is no request.
/// Blocks.
pub fn take(folder: &Path) -> Option<bool> {
    let taken = |name| {
        let removed = fs::remove_file(folder.join(name));
        // A file that cannot be removed is taken repeatedly, with the same result.
        !matches!(removed, Err(error) if error.kind() == io::ErrorKind::NotFound)
    };
    let (is_undone, is_drained) = (taken(UNDO), taken(DRAIN));
    (is_undone || is_drained).then_some(is_drained)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::scratch::Scratch;

    #[test]
    fn the_last_request_is_taken_once() {
        let scratch = Scratch::new();
        let folder = scratch.path();
        assert_eq!(take(folder), None);
        ask(folder, false).unwrap();
        assert_eq!(take(folder), Some(true));
        assert_eq!(take(folder), None);
        ask(folder, false).unwrap();
        let path = ask(folder, true).unwrap();
        assert_eq!(take(folder), Some(false));
        assert!(!path.exists());
        ask(folder, true).unwrap();
        ask(folder, false).unwrap();
        assert_eq!(take(folder), Some(true));
        assert_eq!(take(&folder.join("gone")), None);
    }
}
