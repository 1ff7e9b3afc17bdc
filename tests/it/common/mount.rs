//! File systems that tests mount to see how a full, read-only or different disk behaves. Where mounting
//! is not allowed, a test reports that it was skipped.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use super::Place;

/// Reports a skipped test in one line, written to stderr directly because the test runner hides the
/// output of tests that pass.
pub fn skipped(why: &str) {
    let thread = std::thread::current();
    let line = format!("skipped: {}: {why}\n", thread.name().unwrap_or("a test"));
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// A file system mounted in its own folder; unmounted when this value is dropped.
pub struct Mount {
    pub path: PathBuf,
    place: Place,
}

impl Mount {
    /// Returns `None`, and reports that the test was skipped, if the file system cannot be mounted.
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

    /// Runs a program with these arguments, followed by the mounted folder.
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
        // Unmounts before `place` removes the folder that contains the mount point.
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
        let _ = &self.place;
    }
}
