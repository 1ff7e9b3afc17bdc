//! `luat-ota lift`, `luat-ota resume` and `luat-ota drain`: leave a request to the server in a file in the state
//! folder.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, io};

use super::CommandResult;
use super::args::ModuleQuery;

use crate::firmware::audience::DeviceId;
use crate::fleet::clock::{Stamp, unix_now};
use crate::fleet::entry::JournalEntry;
use crate::fleet::known_list::KnownList;
use crate::fleet::{clear_hold, journal, resume};
use crate::os::notify::Notify;
use crate::state::{self, drain};

/// Time to wait for a running server, which looks every two seconds and may write into the firmware folder.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Interval of polling whether the server has removed the file.
const POLL: Duration = Duration::from_millis(100);

/// Asks the server to lift the holds of the loop guard on a device.
pub(super) fn clear_hold(folder: &Path, query: &ModuleQuery) -> CommandResult {
    let id = query.device.as_deref().unwrap_or_default();
    let unknown =
        format!("no such device: {id} has no record (luat-ota devices lists the known devices)");
    check_state_folder(folder)?;
    let is_running = state::is_in_use(folder);
    if !is_running && !is_known(folder, id)? {
        return Err(unknown);
    }
    let file =
        clear_hold::create_request(folder, id).map_err(|error| unwritable(folder, &error))?;
    if !is_running {
        return Ok((
            format!(
                "No server uses {} now: the next server that starts lifts the holds of {id}.\n",
                folder.display()
            ),
            0,
        ));
    }
    wait_until_taken(&file)?;
    match take_answer(&clear_hold::unknown_reply_path(&file)) {
        Some(_) => Err(unknown),
        None => Ok((format!("Lifted: {id} has no hold now.\n"), 0)),
    }
}

/// Asks the server to end the pause of a release (`PROJECT/VERSION`).
pub(super) fn resume(folder: &Path, release: &str) -> CommandResult {
    let (project, version) = release.split_once('/').unwrap_or((release, ""));
    check_state_folder(folder)?;
    let is_running = state::is_in_use(folder);
    let file = resume::create_request(folder, project, version)
        .map_err(|error| unwritable(folder, &error))?;
    if !is_running {
        return Ok((
            format!(
                "No server uses {} now: the next server that starts resumes {release}.\n",
                folder.display()
            ),
            0,
        ));
    }
    wait_until_taken(&file)?;
    if take_answer(&clear_hold::unknown_reply_path(&file)).is_some() {
        return Err(format!(
            "no such release: {release} (luat-ota check lists those that are served)"
        ));
    }
    match take_answer(&resume::refused_reply_path(&file)) {
        Some(Ok(why)) => Err(why),
        Some(Err(_)) => Err(format!(
            "{release} stays paused: the server's log says why and what to do"
        )),
        None => Ok((format!("Resumed: {release} is not paused now.\n"), 0)),
    }
}

/// Asks the server to tell load balancers to send no more requests, or with `undo` to send requests again.
pub(super) fn drain(folder: &Path, undo: bool) -> CommandResult {
    check_state_folder(folder)?;
    if !state::is_in_use(folder) {
        return Err(format!("no server uses {} now", folder.display()));
    }
    let file = drain::ask(folder, undo).map_err(|error| unwritable(folder, &error))?;
    wait_until_taken(&file)?;
    let text = match undo {
        false => "Drained: /readyz answers 503 until luat-ota drain --undo or a restart.\n",
        true => "No longer drained: /readyz answers 200 when the firmware folder was read.\n",
    };
    Ok((text.to_owned(), 0))
}

/// Fails if there is no state folder.
pub(super) fn check_state_folder(folder: &Path) -> Result<(), String> {
    match folder.is_dir() {
        true => Ok(()),
        false => Err(format!(
            "there is no state folder {}: no server has used it yet; name another with --state",
            folder.display()
        )),
    }
}

fn unwritable(folder: &Path, error: &io::Error) -> String {
    format!(
        "{} cannot be written: {error}; run this as the server's user, or as root",
        folder.display()
    )
}

/// Waits until the running server has removed the file of a request.
fn wait_until_taken(file: &Path) -> Result<(), String> {
    let began = Instant::now();
    while began.elapsed() < TIMEOUT {
        if !file.exists() {
            return Ok(());
        }
        std::thread::sleep(POLL);
    }
    Err(format!(
        "the server has not taken {} yet. It may be busy, may lack permission to remove files from its \
         state folder, or may get no file events there; then it takes the request at its next rescan \
         (--rescan), or after a SIGHUP",
        file.display()
    ))
}

/// Reads and removes a reply of the server; `None` if there is none.
fn take_answer(answer: &PathBuf) -> Option<io::Result<String>> {
    if !answer.exists() {
        return None;
    }
    let text = fs::read_to_string(answer);
    // If this fails, the next request removes the file.
    fs::remove_file(answer).ok();
    Some(text)
}

/// Whether the journal or the list of known devices has the device.
fn is_known(folder: &Path, id: &str) -> Result<bool, String> {
    let Some(device) = DeviceId::parse(id) else {
        return Ok(false);
    };
    let (mut is_recorded, mut is_guarded) = (false, false);
    let path = folder.join(journal::FILE);
    let loaded = journal::load(
        &path,
        Stamp::default(),
        unix_now(),
        &mut |entry| match entry {
            JournalEntry::Device(entry) if entry.device == device => is_recorded = true,
            JournalEntry::Forgotten(other) if other == device => is_recorded = false,
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
    let is_in_list = || KnownList::open(folder, Notify::default()).contains(device);
    Ok(is_recorded || is_guarded || is_in_list())
}
