//! Edits of the firmware folder by the server: a pause when a fuse trips, and its end by `luat-ota resume`; also the
//! other request that the server takes from the state folder (`luat-ota drain`). The folders may hang, so they are not
//! used on the serving thread.

use std::path::{Path, PathBuf};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Instant;

use smol::LocalExecutor;

use crate::decision::Fused;
use crate::device::Service;
use crate::firmware::rules::edit::{self, EditError};
use crate::fleet::entry::ChangeEntry;
use crate::fleet::{changes, clear_hold, resume};
use crate::os::process::unblock;
use crate::state::drain;

/// Maximum number of attempts to edit a file that another program writes meanwhile.
const ATTEMPTS: u32 = 3;

/// Edits rules for the server.
#[derive(Clone)]
pub(super) struct RulesEdits {
    pub service: Rc<Service>,
    executor: Weak<LocalExecutor<'static>>,
    /// The firmware folder.
    folder: PathBuf,
}

impl RulesEdits {
    pub fn new(
        service: &Rc<Service>,
        executor: &Rc<LocalExecutor<'static>>,
        folder: &Path,
    ) -> RulesEdits {
        RulesEdits {
            service: Rc::clone(service),
            executor: Rc::downgrade(executor),
            folder: folder.to_owned(),
        }
    }

    /// Spawns an edit, unless the server stops.
    pub fn spawn(&self, edit: impl Future<Output = ()> + 'static) {
        if let Some(executor) = self.executor.upgrade() {
            executor.spawn(edit).detach();
        }
    }

    /// Takes the requests of `luat-ota drain` and `luat-ota resume` in the state folder.
    pub async fn take_requests(self, state: PathBuf) {
        let look = move || (drain::take(&state), resume::requests(&state));
        let taken = unblock("requests", look).await;
        let (drain, requests) = taken.unwrap_or_else(|error| {
            log::warn!(target: "state", "no thread can be started: {error}");
            (None, Vec::new())
        });
        match drain {
            Some(true) => log::info!(target: "drain", "drained: /readyz answers 503"),
            Some(false) => log::info!(target: "drain", "no longer drained"),
            None => {}
        }
        if let Some(is_drained) = drain {
            self.service.set_drained(is_drained);
        }
        for request in requests {
            let resume::ResumeRequest {
                project,
                version,
                path,
            } = request;
            let (project, version) = (project.as_str(), version.as_str());
            let catalog = Arc::clone(&self.service.catalog.borrow());
            let exists = catalog.project(project).is_some_and(|project| {
                let mut releases = project.releases.iter();
                releases.any(|release| *release.version_text == *version)
            });
            // Only if the release exists: otherwise the edit would create a folder for it.
            let written = match exists {
                true => {
                    let (root, of, to) =
                        (self.folder.clone(), project.to_owned(), version.to_owned());
                    with_retries("resuming", move || edit::resume(&root, &of, &to)).await
                }
                false => Ok(()),
            };
            let was_paused = {
                let mut fleet = self.service.fleet.borrow_mut();
                fleet.resume_release(project, version, Instant::now())
            };
            match written {
                Ok(()) if exists || was_paused => {
                    log::info!(target: "resume", project = project, version = version; "resumed");
                    let change = ChangeEntry::new(ChangeEntry::RESUME, project, version, "");
                    let mut fleet = self.service.fleet.borrow_mut();
                    fleet.changed(changes::COMMAND, change, Instant::now());
                }
                Ok(()) => {
                    std::fs::File::create(clear_hold::unknown_reply_path(&path)).ok();
                    log::info!(target: "resume", project = project, version = version; "no such release");
                }
                Err(why) => {
                    let sentence = format!(
                        "{project}/{version} stays paused, because its release.json says so and cannot be \
                         changed here ({why}): set \"paused\": false in it by hand, or let the server's user \
                         write into the firmware folder and run luat-ota resume again"
                    );
                    log::warn!(target: "resume", project = project, version = version; "{sentence}");
                    std::fs::write(resume::refused_reply_path(&path), sentence).ok();
                }
            }
            if let Err(error) = std::fs::remove_file(&path) {
                log::warn!(target: "resume", "{} cannot be removed: {error}", path.display());
            }
        }
    }

    /// Pauses a release in its release.json. If that fails, the fleet keeps the pause.
    pub async fn pause(self, fused: Fused) {
        let (root, paused) = (self.folder, fused.clone());
        let pause = move || edit::pause(&root, &paused.project, &paused.version, &paused.sentence);
        let written = with_retries("pausing", pause).await;
        if let Err(why) = &written {
            log::warn!(
                target: "fuse",
                project = &*fused.project,
                version = &*fused.version;
                "the pause is kept in the state folder alone, because its release.json cannot be written: {why}"
            );
        }
        let mut fleet = self.service.fleet.borrow_mut();
        fleet.pause_written(&fused, written.is_ok(), Instant::now());
    }
}

/// Edits a file on a thread of this name, and tries again if another program changes the file. The error is a sentence.
async fn with_retries(
    thread: &str,
    edit: impl Fn() -> Result<(), EditError> + Send + 'static,
) -> Result<(), String> {
    let attempts = move || {
        let mut result = edit();
        for _ in 1..ATTEMPTS {
            if result == Err(EditError::Changed) {
                result = edit();
            }
        }
        result
    };
    match unblock(thread, attempts).await {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(error) => Err(format!("no thread can be started: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::device::Limits;
    use crate::firmware::snapshot::Snapshots;
    use crate::fleet::{Fleet, FleetSettings};
    use crate::os::scratch::Scratch;
    use smol::block_on;

    #[test]
    fn a_tripped_fuse_is_written_into_the_folder() {
        let folder = Scratch::new();
        folder.write("P/2.0.0/u.bin", b"\x00firmware");
        folder.write("P/2.0.0/release.json", br#"{"percent": 10}"#);
        let fleet = Fleet::new(FleetSettings::default(), Instant::now());
        let service = Service::new(
            Limits::default(),
            Snapshots::new(folder.path().to_owned(), 0, None),
            Rc::new(RefCell::new(fleet)),
            &[0; 32],
            Box::new(|_| {}),
        );
        let fused = Fused {
            project: "P".into(),
            version: "2.0.0".into(),
            sentence: "fuse: 3 of 9 devices came back with 1.0.0".into(),
        };
        let executor = Rc::new(LocalExecutor::new());
        let edits = RulesEdits::new(&Rc::new(service), &executor, folder.path());
        block_on(edits.pause(fused.clone()));
        let path = folder.path().join("P/2.0.0/release.json");
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.contains("\"percent\": 10"), "{text}");
        assert!(text.contains(&*fused.sentence), "{text}");
    }
}
