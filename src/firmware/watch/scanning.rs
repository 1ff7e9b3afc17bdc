//! Examines the firmware folder on the watching thread: the changed paths, or the whole folder.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Instant;

use super::changes::{Changes, FolderWatches};
use super::{LOG_PAUSE, RETRY_DELAY, WatchLoop, pause_until};
use crate::firmware::scan::{self, ByPath, FolderId, folder_id};
use crate::os::fs::Folder;

impl WatchLoop {
    /// Examines the changed paths.
    pub(super) fn partial_scan(&mut self, changes: Changes) {
        let start = Instant::now();
        let root = Folder::open(&self.root);
        let root_id = root.as_ref().ok().and_then(|root| folder_id(root).ok());
        let (Ok(root), false) = (root, changes.everything || root_id != self.root_id) else {
            self.scan_wanted = true;
            self.invalidate_watches(&changes);
            return;
        };
        let skip = self.skip();
        // Grouped by folder, so that each folder is read once.
        let mut left: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let add = |left: &mut BTreeMap<String, BTreeSet<String>>, path: &str| {
            let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
            let names = left.entry(parent.to_owned()).or_default();
            names.insert(name.to_owned());
        };
        for path in &changes.paths {
            add(&mut left, path);
        }
        // A folder sorts after its parent, so the deepest folders are taken first.
        while let Some((parent, names)) = left.pop_last() {
            match self.scan_entries(&root, &parent, &names, skip) {
                Ok(()) => {}
                // The folder is gone, and its parent may be gone, too.
                Err(error) if scan::is_gone(&error) && !parent.is_empty() => {
                    add(&mut left, &parent);
                }
                Err(error) => {
                    self.log_shortage(&error);
                    self.scan_wanted = true;
                    break;
                }
            }
        }
        self.no_partial_scan_before = pause_until(start);
    }

    fn scan_entries(
        &mut self,
        root: &Folder,
        parent: &str,
        names: &BTreeSet<String>,
        skip: Option<FolderId>,
    ) -> io::Result<()> {
        let paths: Vec<String> = names.iter().map(|name| scan::join(parent, name)).collect();
        let mut seen = scan::walk_entries(root, parent, names, skip)?;
        if self.watch_folders(Some(&paths), &seen.folders) {
            seen = scan::walk_entries(root, parent, names, skip)?;
        }
        let (now, known) = (Instant::now(), &mut self.known);
        self.files
            .add_walk(root, Some(&paths), seen, None, now, known);
        Ok(())
    }

    /// Walks the whole folder.
    pub(super) fn full_scan(&mut self) {
        match self.try_full_scan() {
            Ok(()) => {
                self.missing = None;
                self.next_scan = self.no_scan_before.max(Instant::now() + self.rescan);
            }
            Err(error) => {
                self.next_scan = Instant::now() + RETRY_DELAY;
                if scan::is_resource_shortage(&error) {
                    // What is known remains valid until the folder can be walked again.
                    self.log_shortage(&error);
                } else {
                    self.set_missing(&error);
                }
            }
        }
    }

    fn try_full_scan(&mut self) -> io::Result<()> {
        let root = Folder::open(&self.root)?;
        let stamp = root.stamp()?;
        let root_id = (stamp.dev, stamp.ino);
        let mut old_before = None;
        if self.root_id != Some(root_id) {
            // First scan of this folder. The former folder may have been moved away, or a removable
            // medium mounted.
            old_before = Some(scan::old_before());
            self.watches = None;
        }
        let skip = self.skip();
        // Changes between a walk and the setting of its watches are seen by the next walk. If new
        // folders appear faster than three walks, events for them arrive as well.
        for _ in 0..3 {
            let start = Instant::now();
            let mut seen = scan::walk(&root, skip)?;
            self.no_scan_before = pause_until(start);
            if self.device.is_some_and(|device| device != stamp.dev) && !seen.has_firmware() {
                let text = "it contains no firmware and is on another device than before: check that its medium is mounted";
                return Err(io::Error::other(text));
            }
            self.device = Some(stamp.dev);
            let folders = std::mem::take(&mut seen.folders);
            let (now, known) = (Instant::now(), &mut self.known);
            self.files
                .add_walk(&root, None, seen, old_before, now, known);
            self.root_id = Some(root_id);
            if self.last.is_none() {
                // Publish before setting the watches: ten thousand of them take long, and modules
                // are waiting.
                self.missing = None;
                self.publish();
            }
            if !self.watch_folders(None, &folders) {
                break;
            }
        }
        Ok(())
    }

    /// Watches the folders that were seen. Returns `true` if the walk must be repeated.
    fn watch_folders(&mut self, scope: Option<&[String]>, folders: &ByPath<FolderId>) -> bool {
        let followed = match &mut self.watches {
            Some(watches) => watches.watch_folders(scope, folders),
            None => FolderWatches::start(&self.root, self.changes.clone()).and_then(|watches| {
                let watches = self.watches.insert(watches);
                watches.watch_folders(scope, folders)
            }),
        };
        followed.unwrap_or_else(|error| {
            if !self.logged_no_events {
                self.logged_no_events = true;
                log::warn!(
                    target: "firmware",
                    "file system events are not available here, or not for every folder: {error}; the \
                     folder is scanned every {} s",
                    self.rescan.as_secs()
                );
            }
            false
        })
    }

    /// Makes all watches be set again after changes that are not examined one by one, because any
    /// watch may be lost.
    pub(super) fn invalidate_watches(&mut self, changes: &Changes) {
        if let Some(watches) = &mut self.watches
            && !changes.is_empty()
        {
            watches.invalidate();
        }
    }

    /// Returns the folder that walks skip. Looked up each time, because it may be created later.
    fn skip(&self) -> Option<FolderId> {
        folder_id(&Folder::open(self.skip.as_ref()?).ok()?).ok()
    }

    /// Records that the firmware folder is missing, so that nothing is offered.
    fn set_missing(&mut self, error: &io::Error) {
        let text = format!(
            "The firmware folder {} cannot be read ({error}): nothing is offered until it is back.",
            self.root.display()
        );
        self.files.clear();
        self.watches = None;
        self.root_id = None;
        self.missing = Some(text);
    }

    fn log_shortage(&mut self, error: &io::Error) {
        let now = Instant::now();
        if self.logged_shortage.is_none_or(|at| now >= at + LOG_PAUSE) {
            self.logged_shortage = Some(now);
            log::warn!(target: "firmware", "the folder cannot be scanned now; the server tries again soon: {error}");
        }
    }
}
