//! `luat-ota lift`: asks the server to take back what the loop guard holds against a device.

use std::path::Path;
use std::time::{Duration, Instant};

use super::Asked;
use crate::fleet::lift;
use crate::state::State;

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
    let file = lift::ask(folder, id).map_err(|error| {
        format!(
            "{} cannot be written: {error}; run this as the server's user, or as root",
            folder.display()
        )
    })?;
    if !State::is_in_use(folder) {
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
