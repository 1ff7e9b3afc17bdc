//! What the fleet's memory needs while the server runs: its tick when it is due, a look into the state folder
//! when something happens there, and the pauses that the fuse asks for written into the firmware folder, off
//! the serving thread (the folder may hang).
//!
//! Nothing is periodic: a server that nobody asks sleeps until the next thing that is due, and what brings that
//! nearer is notified (`Fleet::due_changed`).

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Instant;

use smol::LocalExecutor;
use smol::channel::bounded;
use smol::future::{self, FutureExt as _};

use super::state_folder::StateFolder;
use crate::decision::Fused;
use crate::device::Service;
use crate::firmware::rules::edit::{self, EditError};
use crate::fleet::{clear_hold, resume};
use crate::os::process::start_thread;
use smol::Timer;

/// How often a pause is tried while somebody else writes the same file.
const ATTEMPTS: u32 = 3;

/// Why one wakes up.
enum Woken {
    /// The tick is due.
    Due,
    /// It may be due sooner than it was.
    Notified,
    /// There may be something new in the state folder.
    Stirred,
}

/// Runs as long as the server. `executor` is the serving thread's, `folder` the firmware folder.
pub(super) async fn of_the_fleet(
    service: Rc<Service>,
    executor: std::rc::Weak<LocalExecutor<'static>>,
    folder: PathBuf,
    mut state: Option<StateFolder>,
) {
    let due_changed = service.fleet.borrow().due_changed();
    let state_folder = state.as_ref().map(|state| state.path().to_owned());
    let take_requests = || {
        if let (Some(executor), Some(state)) = (executor.upgrade(), state_folder.clone()) {
            let resuming = resume(Rc::clone(&service), folder.clone(), state);
            executor.spawn(resuming.boxed_local()).detach();
        }
    };
    take_requests();
    loop {
        let due = service.fleet.borrow().due();
        let is_due = async {
            due.map_or_else(Timer::never, Timer::at).await;
            Woken::Due
        };
        let notified = async {
            due_changed.notified().await;
            Woken::Notified
        };
        let stirred = async {
            match &mut state {
                Some(state) => state.stirs().await,
                None => future::pending().await,
            }
            Woken::Stirred
        };
        match is_due.or(notified).or(stirred).await {
            Woken::Due => {}
            Woken::Notified => continue,
            Woken::Stirred => {
                service.fleet.borrow_mut().state_folder_changed();
                take_requests();
                continue;
            }
        }
        let tripped = service.fleet.borrow_mut().tick(Instant::now());
        for fused in tripped {
            log::warn!(
                target: "fuse",
                project = &*fused.project,
                version = &*fused.version;
                "the release pauses itself: {}. It goes on when it is resumed on the page or with luat-ota \
                 resume {}/{}, or when release.json says \"paused\": false and is not the one from before",
                fused.sentence, fused.project, fused.version
            );
            // Not waited for: the next tick must come whatever the folder does.
            let pausing = pause(Rc::clone(&service), folder.clone(), fused);
            if let Some(executor) = executor.upgrade() {
                executor.spawn(pausing.boxed_local()).detach();
            }
        }
    }
}

/// Takes the requests of `luat-ota resume` in the state folder.
async fn resume(service: Rc<Service>, folder: PathBuf, state: PathBuf) {
    let (say, said) = bounded(1);
    let catalog = std::sync::Arc::clone(&service.catalog.borrow());
    let run = move || {
        for request in resume::requests(&state) {
            let project = catalog.project(&request.project);
            let is_there = project.is_some_and(|project| {
                let mut releases = project.releases.iter();
                releases.any(|release| *release.version_text == *request.version)
            });
            // Else it would make a folder for a release that is not there.
            let resumed = match is_there {
                true => write_resumed(&folder, &request).map(|()| true),
                false => Ok(false),
            };
            if say.send_blocking((request, resumed)).is_err() {
                return;
            }
        }
    };
    if let Err(error) = start_thread("resuming", Box::new(run)) {
        log::warn!(target: "resume", "no thread can be had: {error}");
    }
    while let Ok((request, resumed)) = said.recv().await {
        let resume::ResumeRequest {
            project,
            version,
            path,
        } = &request;
        let now = Instant::now();
        let was_kept = {
            let mut fleet = service.fleet.borrow_mut();
            fleet.resume_release(project, version, now)
        };
        let (project, version) = (project.as_str(), version.as_str());
        match resumed {
            Ok(is_there) if is_there || was_kept => {
                log::info!(target: "resume", project = project, version = version; "resumed");
            }
            Ok(_) => {
                std::fs::File::create(clear_hold::answer(path)).ok();
                log::info!(target: "resume", project = project, version = version; "no such release");
            }
            Err(why) => {
                let sentence = format!(
                    "{project}/{version} stays paused, because its release.json says so and cannot be \
                     changed here ({why}): set \"paused\": false in it by hand, or let the server's user \
                     write into the firmware folder and run luat-ota resume again"
                );
                log::warn!(target: "resume", project = project, version = version; "{sentence}");
                std::fs::write(resume::refusal(path), sentence).ok();
            }
        }
        if let Err(error) = std::fs::remove_file(path) {
            log::warn!(target: "resume", "{} cannot be removed: {error}", path.display());
        }
    }
}

/// Blocks.
fn write_resumed(folder: &Path, request: &resume::ResumeRequest) -> Result<(), String> {
    let mut written = Err(EditError::Changed);
    for _ in 0..ATTEMPTS {
        written = edit::resume(folder, &request.project, &request.version);
        if written != Err(EditError::Changed) {
            break;
        }
    }
    written.map_err(|refused| refused.to_string())
}

/// Pauses a release in its release.json. Where that cannot be done the fleet keeps the pause itself.
async fn pause(service: Rc<Service>, folder: PathBuf, fused: Fused) {
    let (say, said) = bounded(1);
    let asked = fused.clone();
    let writing = move || {
        let _nobody_waits_after_the_stop = say.try_send(write(&folder, &asked));
    };
    let started = start_thread("pausing", Box::new(writing));
    let written = match (started, said.recv().await) {
        (Ok(()), Ok(written)) => written,
        (Err(error), _) => Err(format!("no thread can be had: {error}")),
        (Ok(()), Err(_)) => Err("the thread has ended".to_owned()),
    };
    if let Err(why) = &written {
        log::warn!(
            target: "fuse",
            project = &*fused.project,
            version = &*fused.version;
            "the pause is kept in the state folder alone, because its release.json cannot be written: {why}"
        );
    }
    let mut fleet = service.fleet.borrow_mut();
    fleet.pause_written(&fused, written.is_ok(), Instant::now());
}

/// Blocks.
fn write(folder: &Path, fused: &Fused) -> Result<(), String> {
    let mut written = Err(EditError::Changed);
    for _ in 0..ATTEMPTS {
        written = edit::pause(folder, &fused.project, &fused.version, &fused.sentence);
        if written != Err(EditError::Changed) {
            break;
        }
    }
    written.map_err(|refused| refused.to_string())
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
        let root = folder.path().to_owned();
        block_on(pause(Rc::new(service), root, fused.clone()));
        let path = folder.path().join("P/2.0.0/release.json");
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.contains("\"percent\": 10"), "{text}");
        assert!(text.contains(&*fused.sentence), "{text}");
    }
}
