//! `luat-ota lift`: a file in the state folder asks the server to clear the holds of the loop guard on a device.
//!
//! The request is in the file's name (`lift-862991443753386`), so every user that may write into the folder can ask,
//! also where the server's user could not read the file. The server answers by removing the file; if it knows no such
//! device it creates `lift-862991443753386.unknown` first.

use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::firmware::audience::DeviceId;
use crate::state;

const PREFIX: &str = "lift-";

/// Suffix of an answer. No id contains a dot.
const UNKNOWN: &str = ".unknown";

/// Requests that are taken in one tick.
const MOST: usize = 100;

/// Creates a request in a state folder; its path. `id`: as the device writes it; an error if it is no id.
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

/// The file that says that the server knows no such device. `request`: what [`ask`] returned.
pub fn answer(request: &Path) -> PathBuf {
    let mut path = request.as_os_str().to_owned();
    path.push(UNKNOWN);
    PathBuf::from(path)
}

/// The requests in a state folder.
#[derive(Debug, Default)]
pub struct HoldRequests {
    folder: Option<PathBuf>,
    /// The next tick reads the folder.
    wanted: bool,
    /// A file could not be removed, and a warning was logged.
    said: bool,
}

impl HoldRequests {
    /// Watches this state folder.
    pub fn open(folder: &Path) -> HoldRequests {
        HoldRequests {
            folder: Some(folder.to_owned()),
            wanted: true,
            ..HoldRequests::default()
        }
    }

    /// The folder may have changed: the next tick reads it.
    pub fn look(&mut self) {
        self.wanted = true;
    }

    /// Whether [`HoldRequests::tick`] has something to do.
    pub fn is_due(&self) -> bool {
        self.wanted
    }

    /// Takes the requests: the devices, with their ids as they write them, and whether each is known. Answers those for
    /// unknown devices.
    pub fn tick(&mut self, is_known: &dyn Fn(DeviceId) -> bool) -> Vec<(DeviceId, String, bool)> {
        if !std::mem::take(&mut self.wanted) {
            return Vec::new();
        }
        let Some(Ok(entries)) = self.folder.as_deref().map(fs::read_dir) else {
            return Vec::new();
        };
        let mut devices = Vec::new();
        for entry in entries.flatten() {
            let name = entry.file_name();
            let id = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
            let found = id.and_then(|id| Some((DeviceId::parse(id)?, id.to_owned())));
            let Some((device, id)) = found else { continue };
            let is_known = is_known(device);
            if !is_known {
                // Without it the command says that it was lifted.
                fs::File::create(answer(&entry.path())).ok();
            }
            match fs::remove_file(entry.path()) {
                Ok(()) => devices.push((device, id, is_known)),
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
        let mut requests = HoldRequests::open(scratch.path());
        let imei = "862991443753386";
        let path = ask(scratch.path(), imei).unwrap();
        ask(scratch.path(), "sensor-7").unwrap();
        for other in ["lift-", "lift-not an id", "lift", ".lift-sensor-8.tmp"] {
            scratch.write(other, b"");
        }
        let mut devices: Vec<String> = requests
            .tick(&|_| true)
            .into_iter()
            .map(|(_, id, _)| id)
            .collect();
        devices.sort();
        assert_eq!(devices, [imei, "sensor-7"]);
        assert!(!path.exists());
        ask(scratch.path(), imei).unwrap();
        // Not before somebody says that there is something.
        assert!(!requests.is_due() && requests.tick(&|_| true).is_empty());
        requests.look();
        assert!(requests.is_due());
        assert_eq!(requests.tick(&|_| true).len(), 1);
        assert!(scratch.path().join("lift-not an id").exists());
    }

    #[test]
    fn more_than_are_taken_at_one_look_are_taken_at_the_next() {
        let scratch = Scratch::new();
        let mut requests = HoldRequests::open(scratch.path());
        for number in 0..=MOST {
            scratch.write(&format!("lift-sensor-{number}"), b"");
        }
        assert_eq!(
            (requests.tick(&|_| true).len(), requests.is_due()),
            (MOST, true)
        );
        assert_eq!(
            (requests.tick(&|_| true).len(), requests.is_due()),
            (1, false)
        );
    }

    // Case 47.
    #[test]
    fn a_device_that_is_not_known_is_answered_and_not_lifted() {
        let scratch = Scratch::new();
        let mut requests = HoldRequests::open(scratch.path());
        let path = ask(scratch.path(), "999").unwrap();
        let [(_, _, is_known)] = *requests.tick(&|_| false) else {
            panic!("not taken");
        };
        assert!(!is_known && !path.exists() && answer(&path).exists());
        // The answer is no request, and goes with the next one.
        requests.look();
        assert!(requests.tick(&|_| true).is_empty());
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
