//! Watches the state folder for requests of the command line (`lift-ID`, `resume-RELEASE`, `drain`), a changed list of
//! known devices and changed tokens. Events of the kernel are only hints, so the folder is also checked after each
//! rescan interval.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use smol::{Timer, future};

use crate::os::inotify::{FileEvents, WatchedPath};

/// Watch of the state folder.
pub(super) struct StateWatch {
    path: PathBuf,
    /// Files in the folder that a person edits in place, each with its watch.
    files: Vec<(PathBuf, Option<WatchedPath>)>,
    /// Source of events; `None` if this system has no events.
    events: Option<FileEvents>,
    watch: Option<WatchedPath>,
    rescan: Duration,
    /// Time of the next check without an event; `None` for never.
    next: Option<Instant>,
}

impl StateWatch {
    /// Watches this folder and these files in it, with a check at least every `rescan`.
    pub fn new(path: &Path, files: &[&str], rescan: Duration) -> StateWatch {
        let events = FileEvents::new().inspect_err(|error| {
            log::info!(
                target: "state",
                "file system events are not available here: {error}; the state folder is scanned every \
                 {} s",
                rescan.as_secs()
            );
        });
        let mut folder = StateWatch {
            path: path.to_owned(),
            files: files.iter().map(|file| (path.join(file), None)).collect(),
            events: events.ok(),
            watch: None,
            rescan,
            next: None,
        };
        folder.renew();
        folder
    }

    /// Path of the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Renews the watches. Called before each check, so that no later change is missed.
    fn renew(&mut self) {
        self.next = Instant::now().checked_add(self.rescan);
        if let Some(events) = &self.events {
            // Without a watch, the rescan interval remains. Most servers have none of the files.
            self.watch = events.folder(&self.path, self.watch.take()).ok();
            for (file, watch) in &mut self.files {
                *watch = events.file(file, watch.take()).ok();
            }
        }
    }

    /// Waits until the folder may have changed.
    pub async fn changed(&mut self) {
        let notified = async {
            let event = match &self.events {
                Some(events) => events.next().await,
                None => future::pending().await,
            };
            event.is_ok()
        };
        let rescanned = async {
            self.next.map_or_else(Timer::never, Timer::at).await;
            true
        };
        if !future::or(notified, rescanned).await {
            self.events = None;
        }
        self.renew();
    }
}
