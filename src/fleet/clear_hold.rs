//! Requests of `luat-ota lift`: a file in the state folder asks the server to clear the holds of the loop guard on a
//! device.
//!
//! The name of the file contains the request (`lift-862991443753386`). So every user that may write into the folder can
//! make a request, even if the server's user cannot read the file. The server replies by removing the file. If it does
//! not know the device, it creates `lift-862991443753386.unknown` first.

use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::firmware::audience::DeviceId;
use crate::state;

const PREFIX: &str = "lift-";

/// Suffix of a reply file. No id contains a dot.
const UNKNOWN: &str = ".unknown";

/// Maximum number of requests that are handled in one tick.
const MAX_REQUESTS: usize = 100;

/// Creates a request in a state folder, and returns its path. `id`: as the device writes it. Fails if `id` is not an
/// id, or the file cannot be written.
pub fn create_request(folder: &Path, id: &str) -> io::Result<PathBuf> {
    let Some((_, id)) = DeviceId::read(id) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let path = folder.join(format!("{PREFIX}{id}"));
    // Reply to an earlier request.
    fs::remove_file(unknown_reply_path(&path)).ok();
    state::write_atomically(&path, format!("{id}\n").as_bytes())?;
    Ok(path)
}

/// Path of the reply file that states that the server does not know the device. `request`: the path that
/// [`create_request`] returned.
pub fn unknown_reply_path(request: &Path) -> PathBuf {
    let mut path = request.as_os_str().to_owned();
    path.push(UNKNOWN);
    PathBuf::from(path)
}

/// Reader of the requests in a state folder.
#[derive(Debug, Default)]
pub struct HoldRequests {
    folder: Option<PathBuf>,
    /// Whether the next tick reads the folder.
    is_read_due: bool,
    /// Whether a warning was logged that a file could not be removed.
    is_warned: bool,
}

impl HoldRequests {
    /// Creates a reader of this state folder. The first tick reads the folder.
    pub fn open(folder: &Path) -> HoldRequests {
        HoldRequests {
            folder: Some(folder.to_owned()),
            is_read_due: true,
            ..HoldRequests::default()
        }
    }

    /// Makes the next tick read the folder, which may have changed.
    pub fn schedule_read(&mut self) {
        self.is_read_due = true;
    }

    /// Whether [`HoldRequests::tick`] has something to do.
    pub fn is_due(&self) -> bool {
        self.is_read_due
    }

    /// Handles the requests: removes their files, and creates the reply files for unknown devices. Returns each device
    /// with its id as the file's name contains it, and whether the device is known.
    pub fn tick(&mut self, is_known: &dyn Fn(DeviceId) -> bool) -> Vec<(DeviceId, String, bool)> {
        if !std::mem::take(&mut self.is_read_due) {
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
                // Without the reply file, the command would report a lifted hold.
                fs::File::create(unknown_reply_path(&entry.path())).ok();
            }
            match fs::remove_file(entry.path()) {
                Ok(()) => devices.push((device, id, is_known)),
                // The request is not handled, because its file would lift the hold again and again.
                Err(error) if !self.is_warned => {
                    self.is_warned = true;
                    log::warn!(
                        target: "lift",
                        "{} cannot be removed ({error}), so nothing is lifted",
                        entry.path().display()
                    );
                }
                Err(_) => {}
            }
            if devices.len() >= MAX_REQUESTS {
                self.is_read_due = true;
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
    fn a_request_is_handled_once_and_other_files_stay() {
        let scratch = Scratch::new();
        let mut requests = HoldRequests::open(scratch.path());
        let imei = "862991443753386";
        let path = create_request(scratch.path(), imei).unwrap();
        create_request(scratch.path(), "sensor-7").unwrap();
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
        create_request(scratch.path(), imei).unwrap();
        // The folder is not read before `schedule_read` is called.
        assert!(!requests.is_due() && requests.tick(&|_| true).is_empty());
        requests.schedule_read();
        assert!(requests.is_due());
        assert_eq!(requests.tick(&|_| true).len(), 1);
        assert!(scratch.path().join("lift-not an id").exists());
    }

    #[test]
    fn excess_requests_are_handled_in_the_next_tick() {
        let scratch = Scratch::new();
        let mut requests = HoldRequests::open(scratch.path());
        for number in 0..=MAX_REQUESTS {
            scratch.write(&format!("lift-sensor-{number}"), b"");
        }
        assert_eq!(
            (requests.tick(&|_| true).len(), requests.is_due()),
            (MAX_REQUESTS, true)
        );
        assert_eq!(
            (requests.tick(&|_| true).len(), requests.is_due()),
            (1, false)
        );
    }

    // Case 47.
    #[test]
    fn an_unknown_device_gets_a_reply_file_and_no_lift() {
        let scratch = Scratch::new();
        let mut requests = HoldRequests::open(scratch.path());
        let path = create_request(scratch.path(), "999").unwrap();
        let [(_, _, is_known)] = *requests.tick(&|_| false) else {
            panic!("not taken");
        };
        assert!(!is_known && !path.exists() && unknown_reply_path(&path).exists());
        // The reply file is not a request. The next request removes it.
        requests.schedule_read();
        assert!(requests.tick(&|_| true).is_empty());
        create_request(scratch.path(), "999").unwrap();
        assert!(path.exists() && !unknown_reply_path(&path).exists());
    }

    #[test]
    fn a_request_needs_a_valid_id() {
        let scratch = Scratch::new();
        for wrong in ["", "../x", "a b", "a/b", &"x".repeat(65)] {
            assert!(create_request(scratch.path(), wrong).is_err(), "{wrong}");
        }
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
    }
}
