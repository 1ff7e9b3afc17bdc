//! `luat-ota resume`: asks the server to end the pause of a release.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::fleet::{lift, resume};
use crate::state;

/// A running server looks every two seconds, and writes into the firmware folder.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two looks whether it has.
const LOOK: Duration = Duration::from_millis(100);

/// What to print, and the exit status. `release`: `PROJECT/VERSION`.
pub(super) fn run(folder: &Path, release: &str) -> Result<(String, u8), String> {
    let (project, version) = release.split_once('/').unwrap_or((release, ""));
    if !folder.is_dir() {
        return Err(format!(
            "there is no state folder {}: no server has used it yet; name another with --state",
            folder.display()
        ));
    }
    let is_running = state::is_in_use(folder);
    let file = resume::ask(folder, project, version).map_err(|error| {
        format!(
            "{} cannot be written: {error}; run this as the server's user, or as root",
            folder.display()
        )
    })?;
    if !is_running {
        let text = format!(
            "No server uses {} now: the next one that starts resumes {release}.\n",
            folder.display()
        );
        return Ok((text, 0));
    }
    let end = Instant::now().checked_add(PATIENCE);
    while end.is_some_and(|end| Instant::now() < end) {
        if !file.exists() {
            let answer = lift::answer(&file);
            if answer.exists() {
                std::fs::remove_file(answer).ok();
                return Err(format!(
                    "no such release: {release} (luat-ota check lists those that are served)"
                ));
            }
            let refusal = resume::refusal(&file);
            if refusal.exists() {
                let why = std::fs::read_to_string(&refusal).unwrap_or_else(|_| {
                    format!("{release} stays paused: the server's log says why and what to do")
                });
                std::fs::remove_file(refusal).ok();
                return Err(why);
            }
            return Ok((format!("Resumed: {release} is not paused now.\n"), 0));
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
