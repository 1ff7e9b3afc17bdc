//! The journal: what must outlive the process, as JSON lines in the state folder, written by a thread of its own.
//! docs/state.md has its format.
//!
//! This module is the side of the serving thread, which never waits: it makes the lines and hands them over
//! ([`batcher`]). It is not told of errors: a journal that cannot be written costs history, never service.
//!
//! Compaction: when the file is more than twice as long as what is not superseded in it, the fleet gives all its records
//! anew, some at each tick ([`Journal::wants_records`], [`Journal::give`]). They go into a second file, as does all that
//! happens meanwhile; when it is complete it is renamed to [`FILE`]. So a file of that name is complete at any moment.

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

/// The journal's name in the state folder.
pub const FILE: &str = "journal.jsonl";

/// What it is called while it is being compacted.
pub const COPY_FILE: &str = "journal.new";

/// Longest wait of a download for its pin to be written, and of the stopping server for everything.
const GIVE_UP: Duration = Duration::from_secs(2);

/// Handle of the journal. Without a state folder its methods do nothing.
#[derive(Debug, Default)]
pub struct Journal {
    batcher: Option<Batcher>,
    /// In place of a file: all entries, in the order in which they would be written.
    #[cfg(test)]
    pub(super) record: Option<std::rc::Rc<std::cell::RefCell<Vec<JournalEntry>>>>,
}

impl Journal {
    /// No journal: nothing outlives the process.
    pub fn none() -> Journal {
        Journal::default()
    }

    /// Goes on with the journal in this folder, which was loaded at `now` (`unix` by the machine's
    /// clock); `live` of the entries in it still stand. The error: there can be no thread for it.
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
        batcher.clock_line(ClockLine::Start);
        Ok(Journal {
            batcher: Some(batcher),
            #[cfg(test)]
            record: None,
        })
    }

    /// Writes an entry in a batch, within 5 s.
    pub fn later(&mut self, entry: &JournalEntry, priority: Priority) {
        #[cfg(test)]
        if let Some(record) = &self.record {
            record.borrow_mut().push(entry.clone());
        }
        if let Some(batcher) = &mut self.batcher {
            batcher.line(entry, priority);
        }
    }

    /// Writes an entry at once. The result resolves when it is written; `None`: it will not be, because the budget is
    /// used up (or there is no journal).
    pub fn now(&mut self, entry: &JournalEntry, priority: Priority) -> Option<Written> {
        #[cfg(test)]
        if let Some(record) = &self.record {
            record.borrow_mut().push(entry.clone());
            return Some(Written::already());
        }
        let batcher = self.batcher.as_mut()?;
        if !batcher.line(entry, priority) {
            return None;
        }
        let (sender, written) = Written::promise();
        batcher.hand_over(Some(sender));
        Some(written)
    }

    /// When [`Journal::tick`] or [`Journal::wants_records`] has something to do; `None`: not before
    /// something changes.
    pub fn due(&self) -> Option<Stamp> {
        Some(self.batcher.as_ref()?.due())
    }

    /// Notifies this one when the writing thread finds something to be due.
    pub fn notifies(&self, notify: Notify) {
        if let Some(batcher) = &self.batcher {
            batcher.notifies(notify);
        }
    }

    /// It is that late: lines that do not say so themselves are of this moment.
    pub fn passed(&mut self, now: Stamp) {
        if let Some(batcher) = &mut self.batcher {
            batcher.passed(now);
        }
    }

    /// To be called when it is due, with what the machine's clock says. More often does no harm.
    pub fn tick(&mut self, now: Stamp, unix: i64) {
        if let Some(batcher) = &mut self.batcher {
            batcher.tick(now, unix);
        }
    }

    /// All is to be written anew, whatever the size: something may be missing in it.
    pub fn rewrite(&mut self) {
        if let Some(batcher) = &mut self.batcher {
            batcher.rewrite();
        }
    }

    /// From where on records are wanted now, for a compaction; `None`: none are.
    pub fn wants_records(&mut self) -> Option<u64> {
        self.batcher.as_mut()?.wants_records()
    }

    /// Whether more records are wanted for the compaction that runs, now or soon.
    pub fn is_copying(&self) -> bool {
        self.batcher.as_ref().is_some_and(Batcher::is_copying)
    }

    /// Some records, as they now stand, and where the next ones begin.
    pub fn give(&mut self, entries: &[JournalEntry], next: Option<u64>) {
        if let Some(batcher) = &mut self.batcher {
            batcher.give(entries, next);
        }
    }

    /// Writes what waits, and waits until it is on the disk, or 2 s. Nothing is written after this.
    pub fn stop(&mut self) {
        if let Some(batcher) = self.batcher.take() {
            // It may be stuck in a write; then the kernel may still do it, or not.
            batcher.stop().recv_timeout(GIVE_UP).ok();
        }
    }
}

/// Loads the journal of a state folder at the start, with a line in the log. One that cannot be read is
/// set aside, or if it cannot be renamed either, left as it is (`unread`).
pub fn open(
    folder: &StateFolder,
    now: Stamp,
    unix: i64,
    each: &mut dyn FnMut(JournalEntry),
) -> Loaded {
    let is_claimed = folder.is_claimed();
    let folder = folder.path();
    if is_claimed {
        // Left by a run that was killed while it compacted: the journal itself is complete.
        std::fs::remove_file(folder.join(COPY_FILE)).ok();
    }
    let path = folder.join(FILE);
    let began = Instant::now();
    let mut loaded =
        match load::load_in(&path, Origin::here(folder), Wall { stamp: now, unix }, each) {
            Ok(loaded) => loaded,
            Err(error) => {
                const COST: &str = "nothing is remembered of earlier runs";
                let trouble = format!("cannot be read ({error})");
                let is_free = is_claimed && state::set_aside_damaged(&path, &trouble, COST);
                Loaded {
                    unread: !is_free,
                    ..Loaded::default()
                }
            }
        };
    // It may be there when the folder can be used.
    loaded.unread |= !is_claimed && loaded == Loaded::default();
    if let Some(version) = loaded.newer {
        let aside = folder.join(format!("journal.version-{version}.jsonl"));
        let moved = match is_claimed {
            true => std::fs::rename(&path, &aside),
            false => Err(io::ErrorKind::PermissionDenied.into()),
        };
        log::warn!(
            target: "journal",
            "{} is of format {version}, which a later luat-ota writes: nothing in it is remembered. {}",
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
    if loaded.is_cut {
        log::info!(
            target: "journal",
            "the last lines of the journal may be missing (it was copied, or the machine was restarted without stopping the \
             server): HTTP downloads that began before begin again"
        );
    }
    if !is_trusted(unix) {
        log::info!(
            target: "journal",
            "the machine's clock was never set: no time is counted for while the server was down"
        );
    }
    loaded
}

/// Goes on with a journal that was loaded; `live` of its entries still stand.
pub fn go_on(folder: &StateFolder, wall: Wall, loaded: &Loaded, live: usize) -> Journal {
    let lock = Some(folder.clone());
    Journal::start_with(folder.path(), lock, wall, loaded, live).unwrap_or_else(|error| {
        log::warn!(target: "journal", "nothing can be written into the journal: {error}");
        Journal::none()
    })
}

/// Tells when an entry has been handed to the file system.
pub struct Written {
    receiver: Option<Receiver<()>>,
}

impl Written {
    /// Nothing to wait for.
    pub fn already() -> Written {
        Written { receiver: None }
    }

    /// One that is still to come: it has when something is sent, or the sender is dropped.
    pub fn promise() -> (Sender<()>, Written) {
        let (sender, receiver) = bounded(1);
        (
            sender,
            Written {
                receiver: Some(receiver),
            },
        )
    }

    /// Waits for it, 2 s at most. Returns as well if it could not be written: that costs history, never
    /// service.
    pub async fn wait(self) {
        if let Some(receiver) = self.receiver {
            let written = async {
                let _written_or_given_up = receiver.recv().await;
            };
            let too_late = async {
                Timer::after(GIVE_UP).await;
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
