//! File system events (notify): collects the paths that changed since the last scan.
//!
//! The recursive mode of notify is not used. It would follow links out of the folder, stop at the first folder that it
//! may not read, and miss files that are put into a new folder before its watch is set. So each folder that a walk has
//! seen is watched separately, and after setting a new watch the walk is repeated.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use notify::event::{AccessKind, AccessMode};
use notify::{ErrorKind, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use crate::firmware::name::{self, FileKind};
use crate::firmware::scan::{ByPath, FolderId};
use crate::os::without::Feature;

/// Maximum number of changed paths; above it the whole folder is walked.
const MAX_PATHS: usize = 500;

/// Paths that changed since the last scan.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Paths relative to the firmware folder. Empty if `everything` is set.
    pub(super) paths: BTreeSet<String>,
    /// Whether anything may have changed.
    pub(super) everything: bool,
}

impl Changes {
    pub(super) fn is_empty(&self) -> bool {
        !self.everything && self.paths.is_empty()
    }

    fn add(&mut self, base: &Path, event: notify::Result<notify::Event>) {
        match event {
            // The server's own opening and reading of files causes events, too.
            Ok(event) if is_reading(event.kind) && !event.need_rescan() => {}
            Ok(event) if !event.need_rescan() && !event.paths.is_empty() => {
                for path in &event.paths {
                    match path.strip_prefix(base).ok().map(relative) {
                        Some(path) if path.is_empty() => self.everything = true,
                        Some(path) if path.split('/').any(is_ignored) => {}
                        Some(path) => drop(self.paths.insert(path)),
                        None => self.everything = true,
                    }
                }
            }
            // An overflow or an error.
            Ok(_) | Err(_) => self.everything = true,
        }
        self.everything |= self.paths.len() > MAX_PATHS;
        if self.everything {
            self.paths.clear();
        }
    }
}

/// Collects changes on notify's thread until the watching thread takes them.
pub(super) struct ChangeCollector {
    changes: Mutex<Changes>,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl ChangeCollector {
    /// `wake` is called for the first change after each [`ChangeCollector::take`].
    pub(super) fn new(wake: impl Fn() + Send + Sync + 'static) -> ChangeCollector {
        ChangeCollector {
            changes: Mutex::default(),
            wake: Box::new(wake),
        }
    }

    /// Returns all changes since the last call.
    pub(super) fn take(&self) -> Changes {
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *changes)
    }

    fn add(&self, base: &Path, event: notify::Result<notify::Event>) {
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let was_empty = changes.is_empty();
        changes.add(base, event);
        let is_first = was_empty && !changes.is_empty();
        drop(changes);
        if is_first {
            (self.wake)();
        }
    }
}

fn is_reading(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => false,
        EventKind::Access(_) => true,
        _ => false,
    }
}

fn is_ignored(name: &str) -> bool {
    name::file_kind(name) == FileKind::Ignored
}

/// Returns a path in the form that walks use.
fn relative(path: &Path) -> String {
    let parts: Vec<_> = path
        .components()
        .map(|part| part.as_os_str().to_string_lossy())
        .collect();
    parts.join("/")
}

/// The watches that are set.
pub(super) struct FolderWatches {
    watcher: RecommendedWatcher,
    base: PathBuf,
    watched: ByPath<FolderId>,
}

impl FolderWatches {
    /// Starts without any watched folder. The error is one of the kernel's (too many watchers of this user).
    pub(super) fn start(
        root: &Path,
        changes: Arc<ChangeCollector>,
    ) -> notify::Result<FolderWatches> {
        Feature::Inotify.available().map_err(notify::Error::io)?;
        let base = root.canonicalize().map_err(notify::Error::io)?;
        let handler_base = base.clone();
        let watcher = notify::recommended_watcher(move |event| changes.add(&handler_base, event))?;
        Ok(FolderWatches {
            watcher,
            base,
            watched: ByPath::new(),
        })
    }

    /// Watches the folders that a walk saw. `scope` holds the paths that were examined because of events; with `None`
    /// the whole folder was walked. Returns `true` if a watch is new, so that changes before it was set may have been
    /// missed. Fails if no more folders can be watched.
    pub(super) fn watch_folders(
        &mut self,
        scope: Option<&[String]>,
        folders: &ByPath<FolderId>,
    ) -> notify::Result<bool> {
        // notify itself drops the watch of a removed folder.
        self.watched.retain(|path, _| {
            let is_outside =
                |scope: &[String]| !scope.iter().any(|top| is_at_or_beneath(path, top));
            folders.contains_key(path) || scope.is_some_and(is_outside)
        });
        let mut is_any_new = false;
        for (path, id) in folders {
            // After an event the folder may be a different one with the same inode number (inode numbers are reused),
            // and notify may have dropped the watch. So the watch is set again.
            if scope.is_none() && self.watched.get(path) == Some(id) {
                continue;
            }
            let folder = self.base.join(path);
            match self.watcher.watch(&folder, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.watched.insert(path.clone(), *id);
                    is_any_new = true;
                }
                Err(error) if matches!(error.kind, ErrorKind::MaxFilesWatch) => return Err(error),
                // The folder is gone again or may not be read. The walk reports this, too.
                Err(_) => drop(self.watched.remove(path)),
            }
        }
        Ok(is_any_new)
    }

    /// Makes the next walk set all watches again, because some may be lost. A watch is removed with its folder, and a
    /// new folder may have the inode number of the former one.
    pub(super) fn invalidate(&mut self) {
        self.watched.clear();
    }
}

fn is_at_or_beneath(path: &str, top: &str) -> bool {
    path.strip_prefix(top)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use notify::event::{CreateKind, DataChange, Flag, ModifyKind};
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn collector() -> (ChangeCollector, Arc<AtomicUsize>) {
        let woken = Arc::new(AtomicUsize::new(0));
        let counter = woken.clone();
        let wake = move || {
            counter.fetch_add(1, Ordering::Relaxed);
        };
        (ChangeCollector::new(wake), woken)
    }

    fn event(kind: EventKind, path: &str) -> notify::Result<notify::Event> {
        Ok(notify::Event::new(kind).add_path(path.into()))
    }

    const DATA: EventKind = EventKind::Modify(ModifyKind::Data(DataChange::Any));

    #[test]
    fn many_events_wake_the_watcher_once_until_it_takes_the_changes() {
        let (changes, woken) = collector();
        for _ in 0..10 {
            changes.add("/f".as_ref(), event(DATA, "/f/A/1.0.0/update.bin"));
        }
        assert_eq!(woken.load(Ordering::Relaxed), 1);
        let taken = changes.take();
        assert!(taken.paths.contains("A/1.0.0/update.bin"));
        assert_eq!(taken.paths.len(), 1);
        assert!(!taken.everything);
        changes.add("/f".as_ref(), event(DATA, "/f/A"));
        assert_eq!(woken.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn reading_and_ignored_names_are_no_changes() {
        let (changes, woken) = collector();
        let open = EventKind::Access(AccessKind::Open(AccessMode::Any));
        changes.add("/f".as_ref(), event(open, "/f/A/update.bin"));
        changes.add("/f".as_ref(), event(DATA, "/f/.luat-ota/hashes.jsonl"));
        changes.add("/f".as_ref(), event(DATA, "/f/A/update.bin.part"));
        assert_eq!(woken.load(Ordering::Relaxed), 0);
        let close = EventKind::Access(AccessKind::Close(AccessMode::Write));
        changes.add("/f".as_ref(), event(close, "/f/A/update.bin"));
        assert_eq!(changes.take().paths.len(), 1);
    }

    #[test]
    fn an_overflow_an_error_the_root_and_too_many_changes_mean_everything() {
        let (changes, _) = collector();
        let overflow = notify::Event::new(EventKind::Other).set_flag(Flag::Rescan);
        changes.add("/f".as_ref(), Ok(overflow));
        assert!(changes.take().everything);
        changes.add("/f".as_ref(), Err(notify::Error::generic("?")));
        assert!(changes.take().everything);
        changes.add("/f".as_ref(), event(EventKind::Any, "/f"));
        assert!(changes.take().everything);
        for number in 0..=MAX_PATHS {
            let path = format!("/f/{number}.bin");
            let create = EventKind::Create(CreateKind::File);
            changes.add("/f".as_ref(), event(create, &path));
        }
        let taken = changes.take();
        assert!(taken.everything && taken.paths.is_empty());
        assert!(!changes.take().everything);
    }
}
