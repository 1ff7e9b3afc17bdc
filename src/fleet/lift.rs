//! `luat-ota lift`: a file in the state folder asks the server to take back what the loop guard holds
//! against a device. The command drops it, the running server finds it and removes it.
//!
//! What the file says is in its name (`lift-862991443753386`). So each user that may write into the folder
//! can lift, also where the server's user could not read the file. The server answers by removing the file;
//! if it knows no such device it creates `lift-862991443753386.unknown` first.

use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::firmware::audience::DeviceId;
use crate::state;

const PREFIX: &str = "lift-";

/// The end of the name of an answer. No id contains a dot.
const UNKNOWN: &str = ".unknown";

/// Files that are taken at one look.
const MOST: usize = 100;

/// Asks a server on this state folder to lift: drops the file; its path. `id` is what the device calls
/// itself, and an id by [`DeviceId::parse`].
pub fn ask(folder: &Path, id: &str) -> io::Result<PathBuf> {
    let Some((_, id)) = DeviceId::read(id) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let path = folder.join(format!("{PREFIX}{id}"));
    // To an earlier request.
    fs::remove_file(answer(&path)).ok();
    state::write_atomically(&path, format!("{id}\n").as_bytes())?;
    Ok(path)
}

/// The file with which the server says that it knows no such device. `request`: what [`ask`] returned.
pub fn answer(request: &Path) -> PathBuf {
    let mut path = request.as_os_str().to_owned();
    path.push(UNKNOWN);
    PathBuf::from(path)
}

/// Looks for such files.
#[derive(Debug, Default)]
pub struct Lifts {
    folder: Option<PathBuf>,
    /// It is to be looked for them.
    wanted: bool,
    /// A file could not be removed, and it was said.
    said: bool,
}

impl Lifts {
    /// Those in this state folder.
    pub fn open(folder: &Path) -> Lifts {
        Lifts {
            folder: Some(folder.to_owned()),
            wanted: true,
            ..Lifts::default()
        }
    }

    /// There may be some: the next tick looks.
    pub fn look(&mut self) {
        self.wanted = true;
    }

    /// Has [`Lifts::tick`] something to do?
    pub fn is_due(&self) -> bool {
        self.wanted
    }

    /// The devices that are to be lifted, with the ids that they call themselves; their files are gone. A
    /// request for a device that is not known gets its answer.
    pub fn tick(&mut self, is_known: &dyn Fn(DeviceId) -> bool) -> Vec<(DeviceId, String)> {
        if !std::mem::take(&mut self.wanted) {
            return Vec::new();
        }
        let entries = self.folder.as_deref().map(fs::read_dir);
        let Some(Ok(entries)) = entries else {
            return Vec::new();
        };
        let mut devices = Vec::new();
        for entry in entries.flatten() {
            let name = entry.file_name();
            let id = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
            let found = id.and_then(|id| Some((DeviceId::parse(id)?, id.to_owned())));
            let Some(device) = found else { continue };
            let is_known = is_known(device.0);
            if !is_known {
                // Without it the command says that it was lifted.
                fs::File::create(answer(&entry.path())).ok();
            }
            match fs::remove_file(entry.path()) {
                Ok(()) if is_known => devices.push(device),
                Ok(()) => log::info!(target: "lift", device = &*device.1; "no such device"),
                // Or it would be lifted again and again.
                Err(error) if !self.said => {
                    self.said = true;
                    log::warn!(
                        target: "lift",
                        "{} cannot be removed ({error}), so nothing is lifted",
                        entry.path().display()
                    );
                }
                Err(_) => {}
            }
            if devices.len() >= MOST {
                self.wanted = true;
                break;
            }
        }
        devices
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::scratch::Scratch;

    #[test]
    fn a_file_lifts_once_and_what_is_none_stays() {
        let scratch = Scratch::new();
        let mut lifts = Lifts::open(scratch.path());
        let imei = "862991443753386";
        let path = ask(scratch.path(), imei).unwrap();
        ask(scratch.path(), "sensor-7").unwrap();
        for other in ["lift-", "lift-not an id", "lift", ".lift-sensor-8.tmp"] {
            scratch.write(other, b"");
        }
        let mut devices: Vec<String> = lifts
            .tick(&|_| true)
            .into_iter()
            .map(|(_, id)| id)
            .collect();
        devices.sort();
        assert_eq!(devices, [imei, "sensor-7"]);
        assert!(!path.exists());
        ask(scratch.path(), imei).unwrap();
        // Not before somebody says that there is something.
        assert!(!lifts.is_due() && lifts.tick(&|_| true).is_empty());
        lifts.look();
        assert!(lifts.is_due());
        assert_eq!(lifts.tick(&|_| true).len(), 1);
        assert!(scratch.path().join("lift-not an id").exists());
    }

    #[test]
    fn more_than_are_taken_at_one_look_are_taken_at_the_next() {
        let scratch = Scratch::new();
        let mut lifts = Lifts::open(scratch.path());
        for number in 0..=MOST {
            scratch.write(&format!("lift-sensor-{number}"), b"");
        }
        assert_eq!((lifts.tick(&|_| true).len(), lifts.is_due()), (MOST, true));
        assert_eq!((lifts.tick(&|_| true).len(), lifts.is_due()), (1, false));
    }

    // Case 47.
    #[test]
    fn a_device_that_is_not_known_is_answered_and_not_lifted() {
        let scratch = Scratch::new();
        let mut lifts = Lifts::open(scratch.path());
        let path = ask(scratch.path(), "999").unwrap();
        assert!(lifts.tick(&|_| false).is_empty());
        assert!(!path.exists() && answer(&path).exists());
        // The answer is no request, and goes with the next one.
        lifts.look();
        assert!(lifts.tick(&|_| true).is_empty());
        ask(scratch.path(), "999").unwrap();
        assert!(path.exists() && !answer(&path).exists());
    }

    #[test]
    fn only_an_id_can_be_asked_for() {
        let scratch = Scratch::new();
        for wrong in ["", "../x", "a b", "a/b", &"x".repeat(65)] {
            assert!(ask(scratch.path(), wrong).is_err(), "{wrong}");
        }
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
    }
}
