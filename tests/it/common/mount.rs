//! File systems of our own, for tests of what a disk does when it is full, read-only or of another kind.
//! Where nothing may be mounted a test says that it was skipped.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use super::Place;

/// One line for a skipped test, written past the test runner, which shows nothing of a test that passes.
pub fn skipped(why: &str) {
    let thread = std::thread::current();
    let line = format!("skipped: {}: {why}\n", thread.name().unwrap_or("a test"));
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// Something mounted in a folder of its own; unmounted at the end.
pub struct Mount {
    pub path: PathBuf,
    place: Place,
}

impl Mount {
    /// None, and a line that says so, where it may not or cannot be mounted.
    pub fn new(kind: &str, arguments: &[&str]) -> Option<Mount> {
        let place = Place::new();
        let path = place.root.join("mounted");
        std::fs::create_dir(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let output = Command::new("mount").args(arguments).arg(&path).output();
        match output {
            Ok(output) if output.status.success() => Some(Mount { path, place }),
            Ok(output) => {
                let why = String::from_utf8_lossy(&output.stderr).into_owned();
                let why = why.lines().next().unwrap_or_default();
                skipped(&format!("{kind} cannot be mounted here: {why}"));
                None
            }
            Err(error) => {
                skipped(&format!("{kind} cannot be mounted here: {error}"));
                None
            }
        }
    }

    /// The program, with these arguments and the folder.
    pub fn run(&self, program: &str, arguments: &[&str]) {
        let status = Command::new(program)
            .args(arguments)
            .arg(&self.path)
            .status()
            .unwrap();
        assert!(status.success(), "{program} {arguments:?}: {status}");
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Before the folder that it lies in is removed.
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
        let _ = &self.place;
    }
}
