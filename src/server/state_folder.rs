//! When it is worth a look into the state folder: for what a person drops there (`lift-ID`), and for a changed
//! list of known devices. Waited for by `upkeep`.
//!
//! What would surprise you: the kernel's events are only events, as those of the firmware folder are. So there is
//! a look at every rescan as well, and where there are no events there are only those.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use smol::future;

use crate::fleet::known_list;
use crate::os::inotify::{FileEvents, WatchedPath};
use smol::Timer;

/// The state folder, watched.
pub(super) struct StateFolder {
    path: PathBuf,
    list: PathBuf,
    /// `None`: there are no events here.
    events: Option<FileEvents>,
    watches: [Option<WatchedPath>; 2],
    rescan: Duration,
    /// The latest moment of the next look; `None`: beyond all time.
    next: Option<Instant>,
}

impl StateFolder {
    /// This folder is worth a look when something happens in it, and so long after the last one.
    pub fn new(path: &Path, rescan: Duration) -> StateFolder {
        let events = FileEvents::new().inspect_err(|error| {
            log::info!(
                target: "state",
                "file system events are not available here: {error}; the state folder is looked at every \
                 {} s",
                rescan.as_secs()
            );
        });
        let mut folder = StateFolder {
            path: path.to_owned(),
            list: path.join(known_list::FILE),
            events: events.ok(),
            watches: [None, None],
            rescan,
            next: None,
        };
        folder.watch();
        folder
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// To be done before each look, so that nothing is missed after it.
    fn watch(&mut self) {
        self.next = Instant::now().checked_add(self.rescan);
        if let Some(events) = &self.events {
            // Where one is not to be had there is the rescan; most have no list.
            let [folder, list] = &mut self.watches;
            *folder = events.folder(&self.path, folder.take()).ok();
            *list = events.file(&self.list, list.take()).ok();
        }
    }

    /// Waits until a look is worth it.
    pub async fn stirs(&mut self) {
        let happened = async {
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
        if !future::or(happened, rescanned).await {
            self.events = None;
        }
        self.watch();
    }
}
