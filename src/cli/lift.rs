//! `luat-ota lift`: asks the server to take back what the loop guard holds against a device.

use std::path::Path;
use std::time::{Duration, Instant};

use super::Asked;
use crate::firmware::audience::DeviceId;
use crate::fleet::clock::{Stamp, unix_now};
use crate::fleet::entry::JournalEntry;
use crate::fleet::known_list::KnownList;
use crate::fleet::{journal, lift};
use crate::os::notify::Notify;
use crate::state;

/// A running server looks every two seconds.
const PATIENCE: Duration = Duration::from_secs(6);

/// Between two looks whether it has.
const LOOK: Duration = Duration::from_millis(100);

/// What to print, and the exit status.
pub(super) fn run(folder: &Path, asked: &Asked) -> Result<(String, u8), String> {
    let id = asked.device.as_deref().unwrap_or_default();
    if !folder.is_dir() {
        return Err(format!(
            "there is no state folder {}: no server has used it yet; name another with --state",
            folder.display()
        ));
    }
    let nobody = || {
        Err(format!(
            "no such device: nothing is remembered of {id} (luat-ota devices lists those that are)"
        ))
    };
    let is_running = state::is_in_use(folder);
    if !is_running && !is_remembered(folder, id)? {
        return nobody();
    }
    let file = lift::ask(folder, id).map_err(|error| {
        format!(
            "{} cannot be written: {error}; run this as the server's user, or as root",
            folder.display()
        )
    })?;
    if !is_running {
        return Ok((
            format!(
                "No server uses {} now: the next one that starts lifts what is held against {id}.\n",
                folder.display()
            ),
            0,
        ));
    }
    let end = Instant::now().checked_add(PATIENCE);
    while end.is_some_and(|end| Instant::now() < end) {
        if !file.exists() {
            let answer = lift::answer(&file);
            if answer.exists() {
                // The next request removes it as well.
                std::fs::remove_file(answer).ok();
                return nobody();
            }
            return Ok((format!("Lifted: nothing is held against {id} now.\n"), 0));
        }
        std::thread::sleep(LOOK);
    }
    Err(format!(
        "the server has not taken {} yet: it is very busy, may not remove files from its state folder, or \
         hears of no file system events there; then it takes it at its next rescan (--rescan), or after \
         a SIGHUP",
        file.display()
    ))
}

/// Whether the journal or the list of known devices has the device.
fn is_remembered(folder: &Path, id: &str) -> Result<bool, String> {
    let Some(device) = DeviceId::parse(id) else {
        return Ok(false);
    };
    let (mut is_there, mut is_guarded) = (false, false);
    let path = folder.join(journal::FILE);
    let loaded = journal::load(
        &path,
        Stamp::default(),
        unix_now(),
        &mut |entry| match entry {
            JournalEntry::Device(entry) if entry.device == device => is_there = true,
            JournalEntry::Forgotten(other) if other == device => is_there = false,
            JournalEntry::Guard(entry) if entry.device == device => is_guarded = true,
            _ => {}
        },
    );
    loaded.map_err(|error| {
        format!(
            "the journal {} cannot be read: {error}; run this as the server's user, or as root",
            path.display()
        )
    })?;
    let is_listed = || KnownList::open(folder, Notify::default()).contains(device);
    Ok(is_there || is_guarded || is_listed())
}
