//! The journal: the records that must outlive the process, as JSON lines in the state folder. A separate thread writes
//! them. docs/state.md describes the format.
//!
//! This module runs on the serving thread, which never waits: it makes the lines and hands them over ([`batcher`]). It
//! is not notified of errors: if the journal cannot be written, history is lost, but the service is not interrupted.
//!
//! Compaction: when the file is more than twice as long as its live content, the fleet gives all its records anew, some
//! at each tick ([`Journal::wants_records`], [`Journal::add_records`]). They are written into a second file, together
//! with all changes that happen meanwhile. When that file is complete, it is renamed to [`FILE`]. Therefore the file of
//! that name is complete at any moment.

mod batcher;
mod copy;
mod line;
mod load;
mod origin;
mod writer;

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use smol::channel::{Receiver, Sender, bounded};
use smol::future::FutureExt as _;

use self::batcher::{Batcher, live_bytes};
use self::line::ClockLine;
pub use self::load::{Loaded, load};
use self::origin::Origin;
use self::writer::Shared;
use super::clock::{Stamp, Wall, is_trusted};
use super::entry::{JournalEntry, Priority};
use crate::os::notify::Notify;
use crate::state::{self, StateFolder};
use smol::Timer;

/// Name of the journal in the state folder.
pub const FILE: &str = "journal.jsonl";

/// Name of the copy that a compaction writes.
pub const COPY_FILE: &str = "journal.new";

/// Longest time that a download waits for its pin to be written, and that the stopping server waits for everything to
/// be written.
const MAX_WAIT: Duration = Duration::from_secs(2);

/// Handle of the journal. Without a state folder its methods do nothing.
#[derive(Debug, Default)]
pub struct Journal {
    batcher: Option<Batcher>,
    /// All entries in the order in which they would be written; used instead of a file.
    #[cfg(test)]
    pub(super) record: Option<std::rc::Rc<std::cell::RefCell<Vec<JournalEntry>>>>,
}

impl Journal {
    /// Creates a handle without a journal: nothing outlives the process.
    pub fn none() -> Journal {
        Journal::default()
    }

    /// Continues the journal in this folder, which was loaded at `now` (`unix` by the machine's clock). `live` of its
    /// entries are not superseded. Fails if no thread can be started.
    pub fn start(
        folder: &Path,
        now: Stamp,
        unix: i64,
        loaded: &Loaded,
        live: usize,
    ) -> io::Result<Journal> {
        Journal::start_with(folder, None, Wall { stamp: now, unix }, loaded, live)
    }

    fn start_with(
        folder: &Path,
        lock: Option<StateFolder>,
        wall: Wall,
        loaded: &Loaded,
        live: usize,
    ) -> io::Result<Journal> {
        let (sender, commands) = mpsc::channel();
        let shared = Arc::new(Shared::default());
        let bytes = usize::try_from(loaded.bytes).unwrap_or(usize::MAX);
        shared.size.store(bytes, Ordering::Relaxed);
        writer::start(folder, lock, loaded.unread, Arc::clone(&shared), commands)?;
        let live = live_bytes(bytes, loaded.entries, live);
        let mut batcher = Batcher::new(sender, shared, wall, Origin::here(folder), live);
        batcher.write_clock_line(ClockLine::Start);
        Ok(Journal {
            batcher: Some(batcher),
            #[cfg(test)]
            record: None,
        })
    }

    /// Writes an entry in a batch, within 5 s.
    pub fn write_later(&mut self, entry: &JournalEntry, priority: Priority) {
        #[cfg(test)]
        if let Some(record) = &self.record {
            record.borrow_mut().push(entry.clone());
        }
        if let Some(batcher) = &mut self.batcher {
            batcher.add_line(entry, priority);
        }
    }

    /// Writes an entry at once. The result resolves when the entry is written; `None` if the entry will not be written,
    /// because the budget is used up (or there is no journal).
    pub fn write_now(&mut self, entry: &JournalEntry, priority: Priority) -> Option<Written> {
        #[cfg(test)]
        if let Some(record) = &self.record {
            record.borrow_mut().push(entry.clone());
            return Some(Written::complete());
        }
        let batcher = self.batcher.as_mut()?;
        if !batcher.add_line(entry, priority) {
            return None;
        }
        let (sender, written) = Written::pending();
        batcher.hand_over(Some(sender));
        Some(written)
    }

    /// Time at which [`Journal::tick`] or [`Journal::wants_records`] has work to do; `None`: not before something
    /// changes.
    pub fn due(&self) -> Option<Stamp> {
        Some(self.batcher.as_ref()?.due())
    }

    /// Sets the flag that the writing thread notifies when there is new work for [`Journal::tick`] or
    /// [`Journal::wants_records`].
    pub fn set_notify(&self, notify: Notify) {
        if let Some(batcher) = &self.batcher {
            batcher.set_notify(notify);
        }
    }

    /// Records the current time. Entries that state no time of their own get this one.
    pub fn advance(&mut self, now: Stamp) {
        if let Some(batcher) = &mut self.batcher {
            batcher.advance(now);
        }
    }

    /// Carries out the work that is due. `unix` is the time of the machine's clock. Extra calls are harmless.
    pub fn tick(&mut self, now: Stamp, unix: i64) {
        if let Some(batcher) = &mut self.batcher {
            batcher.tick(now, unix);
        }
    }

    /// Requests that everything is written anew, whatever the size is, because records may be missing in the journal.
    pub fn rewrite(&mut self) {
        if let Some(batcher) = &mut self.batcher {
            batcher.rewrite();
        }
    }

    /// Returns the first record that a compaction wants now; `None` if it wants none.
    pub fn wants_records(&mut self) -> Option<u64> {
        self.batcher.as_mut()?.wants_records()
    }

    /// Whether the compaction that runs wants more records, now or soon.
    pub fn is_copying(&self) -> bool {
        self.batcher.as_ref().is_some_and(Batcher::is_copying)
    }

    /// Adds some current records to the copy. `next` is the first of the following ones.
    pub fn add_records(&mut self, entries: &[JournalEntry], next: Option<u64>) {
        if let Some(batcher) = &mut self.batcher {
            batcher.add_records(entries, next);
        }
    }

    /// Writes the lines that wait, and waits until they are on the disk, or for 2 s. Nothing is written after this.
    pub fn stop(&mut self) {
        if let Some(batcher) = self.batcher.take() {
            // The thread may be blocked in a write, which the kernel may or may not complete later.
            batcher.stop().recv_timeout(MAX_WAIT).ok();
        }
    }
}

/// Loads the journal of a state folder at the start, and writes a line to the log. A journal that cannot be read is set
/// aside. If it cannot be renamed, it is left unchanged (`unread`).
pub fn open(
    folder: &StateFolder,
    now: Stamp,
    unix: i64,
    each: &mut dyn FnMut(JournalEntry),
) -> Loaded {
    let is_claimed = folder.is_claimed();
    let folder = folder.path();
    if is_claimed {
        // Left by a run that was killed during a compaction. The journal itself is complete.
        std::fs::remove_file(folder.join(COPY_FILE)).ok();
    }
    let path = folder.join(FILE);
    let began = Instant::now();
    let mut loaded =
        match load::load_in(&path, Origin::here(folder), Wall { stamp: now, unix }, each) {
            Ok(loaded) => loaded,
            Err(error) => {
                const COST: &str = "the records of earlier runs are lost";
                let trouble = format!("cannot be read ({error})");
                let is_free = is_claimed && state::set_aside_damaged(&path, &trouble, COST);
                Loaded {
                    unread: !is_free,
                    ..Loaded::default()
                }
            }
        };
    // There may be a journal when the folder becomes usable.
    loaded.unread |= !is_claimed && loaded == Loaded::default();
    if let Some(version) = loaded.newer {
        let aside = folder.join(format!("journal.version-{version}.jsonl"));
        let moved = match is_claimed {
            true => std::fs::rename(&path, &aside),
            false => Err(io::ErrorKind::PermissionDenied.into()),
        };
        log::warn!(
            target: "journal",
            "{} has format {version} of a later luat-ota: its records are not used. {}",
            path.display(),
            match &moved {
                Ok(()) => format!("It was renamed to {}.", aside.display()),
                Err(error) => format!("It cannot be renamed ({error}), so nothing is written now."),
            }
        );
        loaded = Loaded {
            unread: moved.is_err(),
            ..Loaded::default()
        };
    }
    if loaded.damaged > 0 {
        log::warn!(
            target: "journal",
            lines = loaded.damaged;
            "{} has damaged lines, which were skipped",
            path.display()
        );
    }
    if loaded.unknown > 0 {
        log::warn!(
            target: "journal",
            lines = loaded.unknown;
            "{} has lines of kinds that a later luat-ota writes; they were skipped",
            path.display()
        );
    }
    let seconds = (began.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
    log::info!(
        target: "journal",
        entries = loaded.entries, bytes = loaded.bytes, seconds = seconds;
        ""
    );
    if loaded.may_lack_lines {
        log::info!(
            target: "journal",
            "the last lines of the journal may be missing (it was copied, or the machine was restarted without stopping the \
             server): earlier HTTP downloads start again"
        );
    }
    if !is_trusted(unix) {
        log::info!(
            target: "journal",
            "the machine's clock was never set: the time while the server was down is not counted"
        );
    }
    loaded
}

/// Continues a journal that was loaded. `live` of its entries are not superseded.
pub fn continue_journal(folder: &StateFolder, wall: Wall, loaded: &Loaded, live: usize) -> Journal {
    let lock = Some(folder.clone());
    Journal::start_with(folder.path(), lock, wall, loaded, live).unwrap_or_else(|error| {
        log::warn!(target: "journal", "nothing can be written into the journal: {error}");
        Journal::none()
    })
}

/// Completes when an entry has been passed to the file system.
pub struct Written {
    receiver: Option<Receiver<()>>,
}

impl Written {
    /// Creates a result that is complete already.
    pub fn complete() -> Written {
        Written { receiver: None }
    }

    /// Creates a result that is pending. It completes when something is sent, or when the sender is dropped.
    pub fn pending() -> (Sender<()>, Written) {
        let (sender, receiver) = bounded(1);
        (
            sender,
            Written {
                receiver: Some(receiver),
            },
        )
    }

    /// Waits until the entry is written, at most 2 s. Also returns if the entry could not be written: then history is
    /// lost, but the service is not interrupted.
    pub async fn wait(self) {
        if let Some(receiver) = self.receiver {
            let written = async {
                let _written_or_given_up = receiver.recv().await;
            };
            let too_late = async {
                Timer::after(MAX_WAIT).await;
            };
            written.or(too_late).await;
        }
    }
}

impl fmt::Debug for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.receiver {
            None => "Written (already)",
            Some(_) => "Written (to come)",
        })
    }
}

#[cfg(test)]
mod tests;
