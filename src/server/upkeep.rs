//! What the fleet's memory needs while the server runs: its tick once a second, and the pauses that the
//! fuse asks for written into the firmware folder, off the serving thread (the folder may hang).

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use smol::channel::bounded;
use smol::future::FutureExt as _;
use smol::{LocalExecutor, Timer};

use crate::decision::Fused;
use crate::device::Service;
use crate::os::process::start_thread;

/// How often the fleet is looked after.
const TICK: Duration = Duration::from_secs(1);

/// Runs as long as the server. `executor` is the serving thread's, `folder` the firmware folder.
pub(super) async fn of_the_fleet(
    service: Rc<Service>,
    executor: std::rc::Weak<LocalExecutor<'static>>,
    folder: PathBuf,
) {
    loop {
        Timer::after(TICK).await;
        let tripped = service.fleet.borrow_mut().tick(Instant::now());
        for fused in tripped {
            log::warn!(
                target: "fuse",
                project = &*fused.project,
                version = &*fused.version;
                "the release pauses itself: {}", fused.sentence
            );
            // Not waited for: the next tick must come whatever the folder does.
            let pausing = pause(Rc::clone(&service), folder.clone(), fused);
            if let Some(executor) = executor.upgrade() {
                executor.spawn(pausing.boxed_local()).detach();
            }
        }
    }
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
            "the pause is kept in the state folder alone, since its release.json cannot be written: {why}"
        );
    }
    let mut fleet = service.fleet.borrow_mut();
    fleet.pause_written(&fused, written.is_ok());
}

/// Blocks.
fn write(_folder: &Path, _fused: &Fused) -> Result<(), String> {
    // FUSE: firmware::rules::edit::pause(folder, &fused.project, &fused.version, &fused.sentence)
    Err("this build cannot write it yet".to_owned())
}
