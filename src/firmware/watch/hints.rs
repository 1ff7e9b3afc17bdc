//! What the kernel says happened in the folder (notify): hints where to look.
//!
//! The surprise: notify is not asked to watch recursively. It would follow links out of the folder,
//! stop at the first folder that it may not read, and miss what lands in a new folder before its watch
//! does. So each folder that a walk has seen is watched singly, and where a watch is new the walk is
//! made again.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use notify::event::{AccessKind, AccessMode};
use notify::{ErrorKind, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use crate::firmware::name::{self, FileKind};
use crate::firmware::scan::{self, ByPath, Identity};
use crate::order;
use crate::os::without::Feature;
use crate::sorted::Sorted;

/// With more hints than this the whole folder is walked.
const MOST: usize = 500;

/// Where something happened since the last look.
#[derive(Debug, Default)]
pub(super) struct Dirty {
    /// Relative to the firmware folder.
    pub(super) paths: Sorted<String, ()>,
    /// Nobody knows where.
    pub(super) everything: bool,
}

/// Hints as they arrive, on notify's thread; taken by the watcher's.
pub(super) struct Hints {
    dirty: Mutex<Dirty>,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl Hints {
    /// `wake` is called when there is something to take where there was nothing.
    pub(super) fn new(wake: impl Fn() + Send + Sync + 'static) -> Hints {
        Hints {
            dirty: Mutex::default(),
            wake: Box::new(wake),
        }
    }

    /// All hints since the last call.
    pub(super) fn take(&self) -> Dirty {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Dirty> {
        self.dirty.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn event(&self, base: &Path, event: notify::Result<notify::Event>) {
        let mut dirty = self.lock();
        let was_clean = !dirty.everything && dirty.paths.is_empty();
        match event {
            // Our own opening and reading makes events, too.
            Ok(event) if is_reading(event.kind) && !event.need_rescan() => {}
            Ok(event) if !event.need_rescan() && !event.paths.is_empty() => {
                for path in &event.paths {
                    match path.strip_prefix(base).ok().map(relative) {
                        Some(path) if path.is_empty() => dirty.everything = true,
                        Some(path) if path.split('/').any(is_ignored) => {}
                        Some(path) => {
                            dirty.paths.insert(path, ());
                        }
                        None => dirty.everything = true,
                    }
                }
            }
            // An overflow or an error: whatever happened, it can be seen.
            Ok(_) | Err(_) => dirty.everything = true,
        }
        if dirty.paths.len() > MOST {
            dirty.everything = true;
        }
        if dirty.everything {
            dirty.paths.clear();
        }
        let is_clean = !dirty.everything && dirty.paths.is_empty();
        drop(dirty);
        if was_clean && !is_clean {
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

/// A path as a walk names it.
fn relative(path: &Path) -> String {
    let parts: Vec<_> = path
        .components()
        .map(|part| part.as_os_str().to_string_lossy())
        .collect();
    parts.join("/")
}

/// The folders being watched.
pub(super) struct Watches {
    watcher: RecommendedWatcher,
    base: PathBuf,
    watched: ByPath<Identity>,
}

impl Watches {
    /// Watches nothing yet. The error is one of the kernel's (too many watchers of this user).
    pub(super) fn start(root: &Path, hints: Arc<Hints>) -> notify::Result<Watches> {
        Feature::Inotify.available().map_err(notify::Error::io)?;
        let base = root.canonicalize().map_err(notify::Error::io)?;
        let handler_base = base.clone();
        let watcher = notify::recommended_watcher(move |event| hints.event(&handler_base, event))?;
        Ok(Watches {
            watcher,
            base,
            watched: Vec::new(),
        })
    }

    /// Watches the folders that a walk saw. `scope`: the paths that were looked at because something
    /// happened there; `None`: the whole folder. True: some watch is new, and what happened before it
    /// was set may have been missed. The error: no more folders can be watched.
    pub(super) fn follow(
        &mut self,
        scope: Option<&[String]>,
        folders: &ByPath<Identity>,
    ) -> notify::Result<bool> {
        // notify itself drops the watch of a folder that is gone.
        self.watched.retain(|(path, _)| {
            let is_in_scope =
                |scope: &[String]| scope.iter().any(|top| is_at_or_beneath(path, top));
            scan::at(folders, path).is_some() || !scope.is_none_or(is_in_scope)
        });
        let mut tried: ByPath<Option<Identity>> = Vec::new();
        let mut result = Ok(());
        for (path, identity) in folders {
            // Where something happened the folder may be another one in spite of its number (they are
            // used again), and notify may have dropped the watch: so it is set again.
            let is_new = scope.is_some() || scan::at(&self.watched, path) != Some(identity);
            if !is_new {
                continue;
            }
            let folder = self.base.join(path);
            match self.watcher.watch(&folder, RecursiveMode::NonRecursive) {
                Ok(()) => tried.push((path.clone(), Some(*identity))),
                Err(error) if matches!(error.kind, ErrorKind::MaxFilesWatch) => {
                    result = Err(error);
                    break;
                }
                // It is gone again, or may not be read: the walk says so, too.
                Err(_) => tried.push((path.clone(), None)),
            }
        }
        self.watched
            .retain(|(path, _)| scan::at(&tried, path).is_none());
        let before = self.watched.len();
        let set = |(path, identity): (String, Option<Identity>)| Some((path, identity?));
        self.watched.extend(tried.into_iter().filter_map(set));
        let is_any_new = self.watched.len() > before;
        order::sort(&mut self.watched);
        result.map(|()| is_any_new)
    }

    /// Some watches may be lost: the next walk sets them all again. (A watch goes with its folder, and
    /// a new folder may have the number of the one before.)
    pub(super) fn distrust(&mut self) {
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

    fn hints() -> (Hints, Arc<AtomicUsize>) {
        let woken = Arc::new(AtomicUsize::new(0));
        let counter = woken.clone();
        let wake = move || {
            counter.fetch_add(1, Ordering::Relaxed);
        };
        (Hints::new(wake), woken)
    }

    fn event(kind: EventKind, path: &str) -> notify::Result<notify::Event> {
        Ok(notify::Event::new(kind).add_path(path.into()))
    }

    const DATA: EventKind = EventKind::Modify(ModifyKind::Data(DataChange::Any));

    #[test]
    fn many_events_wake_the_watcher_once_until_it_has_looked() {
        let (hints, woken) = hints();
        for _ in 0..10 {
            hints.event("/f".as_ref(), event(DATA, "/f/A/1.0.0/update.bin"));
        }
        assert_eq!(woken.load(Ordering::Relaxed), 1);
        let dirty = hints.take();
        assert!(dirty.paths.contains("A/1.0.0/update.bin"));
        assert_eq!(dirty.paths.len(), 1);
        assert!(!dirty.everything);
        hints.event("/f".as_ref(), event(DATA, "/f/A"));
        assert_eq!(woken.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn reading_and_ignored_names_are_no_hints() {
        let (hints, woken) = hints();
        let open = EventKind::Access(AccessKind::Open(AccessMode::Any));
        hints.event("/f".as_ref(), event(open, "/f/A/update.bin"));
        hints.event("/f".as_ref(), event(DATA, "/f/.luat-ota/hashes.jsonl"));
        hints.event("/f".as_ref(), event(DATA, "/f/A/update.bin.part"));
        assert_eq!(woken.load(Ordering::Relaxed), 0);
        let close = EventKind::Access(AccessKind::Close(AccessMode::Write));
        hints.event("/f".as_ref(), event(close, "/f/A/update.bin"));
        assert_eq!(hints.take().paths.len(), 1);
    }

    #[test]
    fn an_overflow_an_error_the_root_and_too_many_hints_mean_everything() {
        let (hints, _) = hints();
        let overflow = notify::Event::new(EventKind::Other).set_flag(Flag::Rescan);
        hints.event("/f".as_ref(), Ok(overflow));
        assert!(hints.take().everything);
        hints.event("/f".as_ref(), Err(notify::Error::generic("?")));
        assert!(hints.take().everything);
        hints.event("/f".as_ref(), event(EventKind::Any, "/f"));
        assert!(hints.take().everything);
        for number in 0..=MOST {
            let path = format!("/f/{number}.bin");
            let create = EventKind::Create(CreateKind::File);
            hints.event("/f".as_ref(), event(create, &path));
        }
        let dirty = hints.take();
        assert!(dirty.everything && dirty.paths.is_empty());
        assert!(!hints.take().everything);
    }
}
