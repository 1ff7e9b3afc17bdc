//! `luat-ota lift`: a file in the state folder asks the server to take back what the loop guard holds
//! against a device. The command drops it, the running server finds it and removes it.
//!
//! What would surprise you: what the file says is in its name (`lift-862991443753386`). So whoever may
//! write into the folder can lift, also where the server's user could not read the file.

use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::firmware::audience::DeviceId;
use crate::state;

const PREFIX: &str = "lift-";

/// Files that are taken at one look.
const MOST: usize = 100;

/// Asks a server on this state folder to lift: drops the file; its path. `id` is what the device calls
/// itself, and an id by [`DeviceId::parse`].
pub fn ask(folder: &Path, id: &str) -> io::Result<PathBuf> {
    let Some((_, id)) = DeviceId::read(id) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let path = folder.join(format!("{PREFIX}{id}"));
    state::write_atomically(&path, format!("{id}\n").as_bytes())?;
    Ok(path)
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

    /// The devices that are to be lifted, with the ids that they call themselves; their files are gone.
    pub fn tick(&mut self) -> Vec<(DeviceId, String)> {
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
            match fs::remove_file(entry.path()) {
                Ok(()) => devices.push(device),
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
        let mut devices: Vec<String> = lifts.tick().into_iter().map(|(_, id)| id).collect();
        devices.sort();
        assert_eq!(devices, [imei, "sensor-7"]);
        assert!(!path.exists());
        ask(scratch.path(), imei).unwrap();
        // Not before somebody says that there is something.
        assert!(!lifts.is_due() && lifts.tick().is_empty());
        lifts.look();
        assert!(lifts.is_due());
        assert_eq!(lifts.tick().len(), 1);
        assert!(scratch.path().join("lift-not an id").exists());
    }

    #[test]
    fn more_than_are_taken_at_one_look_are_taken_at_the_next() {
        let scratch = Scratch::new();
        let mut lifts = Lifts::open(scratch.path());
        for number in 0..=MOST {
            scratch.write(&format!("lift-sensor-{number}"), b"");
        }
        assert_eq!((lifts.tick().len(), lifts.is_due()), (MOST, true));
        assert_eq!((lifts.tick().len(), lifts.is_due()), (1, false));
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
