//! Where the watcher looks: at what the hints name, or at the whole folder.

use std::io;
use std::time::Instant;

use super::hints::{Dirty, Watches};
use super::{RETRY, TELL, Watch, rest};
use crate::firmware::scan::{self, ByPath, Identity};
use crate::order;
use crate::os::fs::Folder;

impl Watch {
    /// Looks where something happened.
    pub(super) fn look(&mut self, dirty: Dirty) {
        let start = Instant::now();
        let root = Folder::open(&self.root);
        let identity = root.as_ref().ok().and_then(|root| root.stamp().ok());
        let identity = identity.map(|stamp| (stamp.dev, stamp.ino));
        let (Ok(root), false) = (root, dirty.everything || identity != self.identity) else {
            self.everything = true;
            self.distrust(&dirty);
            return;
        };
        let skip = self.skip();
        // By folder, so that each is read once; the last one first.
        let in_parent = |path: &str| {
            let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
            (parent.to_owned(), name.to_owned())
        };
        let mut left: Vec<_> = dirty
            .paths
            .iter()
            .map(|(path, ())| in_parent(path))
            .collect();
        order::sort(&mut left);
        while let Some((parent, _)) = left.last().cloned() {
            let first = left.partition_point(|(other, _)| *other < parent);
            let names = left.split_off(first).into_iter().map(|(_, name)| name);
            match self.look_at(&root, &parent, &Vec::from_iter(names), skip) {
                Ok(()) => {}
                // The folder is gone, and so perhaps is the one that it was in.
                Err(error) if scan::has_gone(&error) && !parent.is_empty() => {
                    let parent = in_parent(&parent);
                    if let Err(place) = left.binary_search(&parent) {
                        left.insert(place, parent);
                    }
                }
                Err(error) => {
                    self.shortage(&error);
                    self.everything = true;
                    break;
                }
            }
        }
        self.no_look_before = rest(start);
    }

    fn look_at(
        &mut self,
        root: &Folder,
        parent: &str,
        names: &[String],
        skip: Option<Identity>,
    ) -> io::Result<()> {
        let paths: Vec<String> = names.iter().map(|name| scan::join(parent, name)).collect();
        let mut seen = scan::look(root, parent, names, skip)?;
        if self.follow(Some(&paths), &seen.folders) {
            seen = scan::look(root, parent, names, skip)?;
        }
        let (now, known) = (Instant::now(), &mut self.known);
        self.shelf
            .walked(root, Some(&paths), seen, None, now, known);
        Ok(())
    }

    /// Walks the whole folder.
    pub(super) fn scan(&mut self) {
        match self.try_scan() {
            Ok(()) => {
                self.missing = None;
                self.next_scan = self.no_scan_before.max(Instant::now() + self.rescan);
            }
            Err(error) => {
                self.next_scan = Instant::now() + RETRY;
                if scan::is_ours(&error) {
                    // What is known stays true until the folder can be walked again.
                    self.shortage(&error);
                } else {
                    self.lost(&error);
                }
            }
        }
    }

    fn try_scan(&mut self) -> io::Result<()> {
        let root = Folder::open(&self.root)?;
        let stamp = root.stamp()?;
        let identity = (stamp.dev, stamp.ino);
        let mut old_before = None;
        if self.identity != Some(identity) {
            // The first scan of this folder: the one before it may have been moved away, and a stick
            // may have been put in.
            old_before = Some(scan::old_before());
            self.watches = None;
        }
        let skip = self.skip();
        // What happens between a walk and its watches is seen by the next walk; should new folders
        // come faster than this, so do their events.
        for _ in 0..3 {
            let start = Instant::now();
            let mut seen = scan::walk(&root, skip)?;
            self.no_scan_before = rest(start);
            if self.device.is_some_and(|device| device != stamp.dev) && !seen.has_firmware() {
                let text = "it holds no firmware and is on another device than before: is its medium mounted?";
                return Err(io::Error::other(text));
            }
            self.device = Some(stamp.dev);
            let folders = std::mem::take(&mut seen.folders);
            let (now, known) = (Instant::now(), &mut self.known);
            self.shelf.walked(&root, None, seen, old_before, now, known);
            self.identity = Some(identity);
            if self.last.is_none() {
                // Setting ten thousand watches takes a while, and modules are waiting.
                self.missing = None;
                self.publish();
            }
            if !self.follow(None, &folders) {
                break;
            }
        }
        Ok(())
    }

    /// Watches the folders that were seen; true: look again.
    fn follow(&mut self, scope: Option<&[String]>, folders: &ByPath<Identity>) -> bool {
        let followed = match &mut self.watches {
            Some(watches) => watches.follow(scope, folders),
            None => Watches::start(&self.root, self.hints.clone()).and_then(|watches| {
                let watches = self.watches.insert(watches);
                watches.follow(scope, folders)
            }),
        };
        followed.unwrap_or_else(|error| {
            if !self.told_no_events {
                self.told_no_events = true;
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

    /// There were hints that are not looked at one by one: any watch may be lost.
    pub(super) fn distrust(&mut self, dirty: &Dirty) {
        if let Some(watches) = &mut self.watches
            && (dirty.everything || !dirty.paths.is_empty())
        {
            watches.distrust();
        }
    }

    /// The folder that is not walked into. (Asked each time: it may be made later.)
    fn skip(&self) -> Option<Identity> {
        let stamp = Folder::open(self.skip.as_ref()?).ok()?.stamp().ok()?;
        Some((stamp.dev, stamp.ino))
    }

    /// The folder is not there: there is nothing to offer.
    fn lost(&mut self, error: &io::Error) {
        let text = format!(
            "The firmware folder {} cannot be read ({error}): nothing is offered until it is back.",
            self.root.display()
        );
        self.shelf.clear();
        self.watches = None;
        self.identity = None;
        self.missing = Some(text);
    }

    fn shortage(&mut self, error: &io::Error) {
        let now = Instant::now();
        if self.told_shortage.is_none_or(|told| now >= told + TELL) {
            self.told_shortage = Some(now);
            log::warn!(target: "firmware", "the folder cannot be scanned now, and will be soon: {error}");
        }
    }
}
