//! The journal: what must outlive the process, as JSON lines in the state folder, written by a thread of
//! its own. docs/state.md has its format.
//!
//! This is the side of the thread that serves, which never waits: it makes the lines, gathers them in
//! batches, keeps to a budget, and hands them over. What would surprise you: the writer is not asked
//! whether it worked. A journal that cannot be written costs history, never service.
//!
//! Compaction: when the file is more than twice as long as what is live in it, the fleet gives all its
//! records anew, some at each tick ([`Journal::wants_records`], [`Journal::give`]). They go into a second
//! file, and so does all that happens meanwhile; when it is complete it takes the first one's name. So at
//! any moment a file of the name [`FILE`] is complete.

mod json;
mod line;
mod load;
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

use self::line::Tick;
pub use self::load::{Loaded, load};
use self::writer::{COPIED, FAILED, Message, NO_COPY, Shared};
use super::clock::{Stamp, Wall, is_trusted};
use super::entry::Entry;
use super::journey::State;

/// The journal's name in the state folder.
pub const FILE: &str = "journal.jsonl";

/// What it is called while it is being compacted.
pub const COPY_FILE: &str = "journal.new";

/// Bytes of a batch that is not waited for any longer.
const BATCH: usize = 64 * 1024;

/// Seconds that a line may wait for others.
const PATIENCE: u32 = 5;

/// Bytes a minute.
const BUDGET: usize = 4 * 1024 * 1024;

/// Bytes that may be on their way to a disk that takes none.
const WAITING: usize = 4 * 1024 * 1024;

/// Bytes on their way from which on the records of a compaction have to wait.
const COPY: usize = 1024 * 1024;

/// A journal is not compacted before it is so long, in bytes.
const SHORT: usize = 1024 * 1024;

/// Seconds until a compaction that failed, or one that makes good for lost lines, is tried again.
const PAUSE: u32 = 600;

/// Seconds after which a line is written although nothing happened, so that a reader knows that time
/// went on.
const HOUR: u32 = 3600;

/// How long somebody waits for a line to be written, and the stopping server for all.
const GIVE_UP: Duration = Duration::from_secs(2);

/// The way to the journal's thread. Without a state folder everything here does nothing.
#[derive(Debug, Default)]
pub struct Journal {
    way: Option<Way>,
}

#[derive(Debug)]
struct Way {
    messages: mpsc::Sender<Message>,
    shared: Arc<Shared>,
    wall: Wall,
    /// The latest moment that was heard of.
    latest: Stamp,
    batch: String,
    /// Lines in it.
    count: u32,
    /// When the first line was put into it.
    since: Stamp,
    /// When the last line was handed over.
    last: Stamp,
    budget: Budget,
    copy: Copy,
}

/// Bytes that were written in this minute, and lines that were not.
#[derive(Debug, Default)]
struct Budget {
    minute: Stamp,
    spent: usize,
    seen: u32,
    others: u32,
}

/// Where a compaction stands.
#[derive(Debug)]
struct Copy {
    /// The next records that are wanted; `None`: no compaction, or all were given.
    next: Option<u64>,
    /// One is under way.
    running: bool,
    /// What is live in the journal, in bytes.
    live: usize,
    /// Lines were lost: the next one is wanted whatever the size.
    wanted: bool,
    not_before: Stamp,
}

/// What goes first when the budget is short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weight {
    /// A device was seen.
    Seen,
    /// It was offered something.
    Offered,
    /// All else.
    Heavy,
}

impl Weight {
    fn of(entry: &Entry) -> Weight {
        let Entry::Device(device) = entry else {
            return Weight::Heavy;
        };
        match &device.journey {
            None => Weight::Seen,
            Some(journey) if journey.state == State::Offered => Weight::Offered,
            Some(_) => Weight::Heavy,
        }
    }

    /// Bytes of the budget that lines of this weight may be written with.
    fn share(self) -> usize {
        match self {
            Weight::Seen => BUDGET / 2,
            Weight::Offered => BUDGET / 4 * 3,
            Weight::Heavy => BUDGET,
        }
    }
}

impl Journal {
    /// No journal: nothing outlives the process.
    pub fn none() -> Journal {
        Journal { way: None }
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
        let (messages, inbox) = mpsc::channel();
        let shared = Arc::new(Shared::default());
        let bytes = usize::try_from(loaded.bytes).unwrap_or(usize::MAX);
        shared.size.store(bytes, Ordering::Relaxed);
        writer::start(folder, Arc::clone(&shared), inbox)?;
        let mut way = Way {
            messages,
            shared,
            wall: Wall { stamp: now, unix },
            latest: now,
            batch: String::new(),
            count: 0,
            since: now,
            last: now,
            budget: Budget {
                minute: now,
                ..Budget::default()
            },
            copy: Copy {
                next: None,
                running: false,
                live: live_bytes(bytes, loaded.entries, live),
                wanted: false,
                not_before: now,
            },
        };
        way.tell(Tick::Start);
        Ok(Journal { way: Some(way) })
    }

    /// To be written in a batch, within 5 s.
    pub fn later(&mut self, entry: &Entry) {
        if let Some(way) = &mut self.way {
            way.line(entry, Weight::of(entry));
        }
    }

    /// The same for an entry that tells nothing new but when a device was last seen: the first that is
    /// left out when there is too much to write.
    pub fn seen(&mut self, entry: &Entry) {
        if let Some(way) = &mut self.way {
            way.line(entry, Weight::Seen);
        }
    }

    /// To be written at once. The answer tells when it is; `None`: it will not be, there is too much to
    /// write (or no journal).
    pub fn now(&mut self, entry: &Entry) -> Option<Written> {
        let way = self.way.as_mut()?;
        if !way.line(entry, Weight::Heavy) {
            return None;
        }
        let (sender, written) = Written::promise();
        way.hand_over(Some(sender));
        Some(written)
    }

    /// To be called about once a second, with what the machine's clock says.
    pub fn tick(&mut self, now: Stamp, unix: i64) {
        if let Some(way) = &mut self.way {
            way.tick(now, unix);
        }
    }

    /// All is to be written anew, whatever the size: something may be missing in it.
    pub fn rewrite(&mut self) {
        if let Some(way) = &mut self.way {
            way.copy.wanted = true;
        }
    }

    /// From where on records are wanted now, for a compaction; `None`: none are.
    pub fn wants_records(&mut self) -> Option<u64> {
        self.way.as_mut()?.wants_records()
    }

    /// Some records, as they now stand, and where the next ones begin.
    pub fn give(&mut self, entries: &[Entry], next: Option<u64>) {
        if let Some(way) = &mut self.way {
            way.give(entries, next);
        }
    }

    /// Writes what waits, and waits until it is on the disk, or 2 s. Nothing is written after this.
    pub fn stop(&mut self) {
        let Some(mut way) = self.way.take() else {
            return;
        };
        way.tell(Tick::Stop);
        let (sender, answer) = mpsc::sync_channel(1);
        if way.messages.send(Message::Stop(sender)).is_ok() {
            // It may be stuck in a write; then the kernel may still do it, or not.
            answer.recv_timeout(GIVE_UP).ok();
        }
    }
}

/// Loads the journal of a state folder at the start, with a line in the log. `None`: it must not be
/// written, because it could not be read.
pub fn open(folder: &Path, now: Stamp, unix: i64, each: &mut dyn FnMut(Entry)) -> Option<Loaded> {
    // Left by a run that was killed while it compacted: the journal itself is complete.
    std::fs::remove_file(folder.join(COPY_FILE)).ok();
    let path = folder.join(FILE);
    let began = Instant::now();
    let mut loaded = match load(&path, now, unix, each) {
        Ok(loaded) => loaded,
        Err(error) => {
            log::warn!(
                target: "journal",
                "{} cannot be read: {error}. Nothing is remembered of earlier runs, and nothing of this                  one. Let the server's user read and write it, or move it away.",
                path.display()
            );
            return None;
        }
    };
    if let Some(version) = loaded.newer {
        let aside = folder.join(format!("journal.version-{version}.jsonl"));
        let moved = std::fs::rename(&path, &aside);
        log::warn!(
            target: "journal",
            "{} is of format {version}, which a later luat-ota writes: nothing in it is remembered. {}",
            path.display(),
            match &moved {
                Ok(()) => format!("It was renamed to {}.", aside.display()),
                Err(error) => format!("It cannot be renamed ({error}), so nothing is written."),
            }
        );
        moved.ok()?;
        loaded = Loaded::default();
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
    if !is_trusted(unix) {
        log::info!(
            target: "journal",
            "the machine's clock was never set: no time is counted for while the server was down"
        );
    }
    Some(loaded)
}

/// Goes on with a journal that was loaded; `live` of its entries still stand.
pub fn go_on(folder: &Path, now: Stamp, unix: i64, loaded: Option<Loaded>, live: usize) -> Journal {
    let Some(loaded) = loaded else {
        return Journal::none();
    };
    Journal::start(folder, now, unix, &loaded, live).unwrap_or_else(|error| {
        log::warn!(target: "journal", "nothing can be written into the journal: {error}");
        Journal::none()
    })
}

/// The bytes of a journal that its live entries take.
fn live_bytes(bytes: usize, entries: u64, live: usize) -> usize {
    let entries = usize::try_from(entries).unwrap_or(usize::MAX).max(1);
    (bytes / entries).saturating_mul(live.min(entries))
}

impl Way {
    /// Puts a line into the batch; false: the budget does not allow it.
    fn line(&mut self, entry: &Entry, weight: Weight) -> bool {
        self.latest = self.latest.max(moment(entry).unwrap_or(self.latest));
        let before = self.batch.len();
        line::entry(&mut self.batch, self.wall, self.latest, entry);
        let length = self.batch.len().saturating_sub(before);
        if self.budget.spent.saturating_add(length) > weight.share() {
            self.batch.truncate(before);
            self.left_out(weight, 1);
            return false;
        }
        self.budget.spent = self.budget.spent.saturating_add(length);
        if self.count == 0 {
            self.since = self.latest;
        }
        self.count = self.count.saturating_add(1);
        if self.batch.len() >= BATCH {
            self.hand_over(None);
        }
        true
    }

    fn left_out(&mut self, weight: Weight, lines: u32) {
        let budget = &mut self.budget;
        match weight {
            Weight::Seen => budget.seen = budget.seen.saturating_add(lines),
            Weight::Offered | Weight::Heavy => {
                budget.others = budget.others.saturating_add(lines);
                self.copy.wanted = true;
            }
        }
    }

    /// A line about the clock, at once.
    fn tell(&mut self, tick: Tick) {
        line::tick(&mut self.batch, self.wall, self.latest, tick);
        self.count = self.count.saturating_add(1);
        self.hand_over(None);
    }

    /// The batch goes to the thread. If too much waits there already it is dropped.
    fn hand_over(&mut self, waits: Option<Sender<()>>) {
        let batch = std::mem::take(&mut self.batch);
        let count = std::mem::take(&mut self.count);
        if batch.is_empty() {
            return;
        }
        self.last = self.latest;
        let length = batch.len();
        if self.waiting().saturating_add(length) > WAITING {
            self.left_out(Weight::Heavy, count);
            return;
        }
        self.shared.waiting.fetch_add(length, Ordering::Relaxed);
        // It fails if the thread is gone, which it never is before us.
        let _ = self.messages.send(Message::Lines(batch, count, waits));
    }

    fn waiting(&self) -> usize {
        self.shared.waiting.load(Ordering::Relaxed)
    }

    fn tick(&mut self, now: Stamp, unix: i64) {
        self.latest = self.latest.max(now);
        if let Some(by) = self.wall.stepped(now, unix) {
            // What was said before was said by the old clock.
            self.hand_over(None);
            self.wall = Wall { stamp: now, unix };
            self.tell(Tick::Step(by));
            log::info!(target: "journal", seconds = by; "the machine's clock was stepped");
        }
        if self.count > 0 && now.since(self.since) >= PATIENCE {
            self.hand_over(None);
        }
        if now.since(self.last) >= HOUR {
            self.tell(Tick::Hour);
        }
        if now.since(self.budget.minute) >= 60 {
            let budget = std::mem::take(&mut self.budget);
            self.budget.minute = now;
            if budget.seen > 0 || budget.others > 0 {
                log::warn!(
                    target: "journal",
                    seen = budget.seen, others = budget.others;
                    "more happened in a minute than the journal takes: so many lines were left out"
                );
            }
        }
    }

    fn wants_records(&mut self) -> Option<u64> {
        let state = self.shared.copy.load(Ordering::Acquire);
        if self.copy.running && matches!(state, COPIED | FAILED) {
            self.shared.copy.store(NO_COPY, Ordering::Release);
            self.copy.running = false;
            self.copy.next = None;
            self.copy.not_before = self.latest.plus(PAUSE);
            let size = self.shared.size.load(Ordering::Relaxed);
            if state == COPIED {
                self.copy.live = size;
                log::info!(target: "journal", bytes = size; "the journal was compacted");
            } else {
                self.copy.wanted = true;
            }
        }
        if self.copy.running {
            return self.copy.next.filter(|_| self.waiting() < COPY);
        }
        let size = self.shared.size.load(Ordering::Relaxed);
        let is_long = size > SHORT && size > self.copy.live.saturating_mul(2);
        self.copy.wanted |= self.shared.torn.swap(false, Ordering::Relaxed);
        if !(is_long || self.copy.wanted) || self.latest < self.copy.not_before {
            return None;
        }
        self.messages.send(Message::Copy).ok()?;
        self.copy.running = true;
        self.copy.wanted = false;
        self.copy.next = Some(0);
        Some(0)
    }

    fn give(&mut self, entries: &[Entry], next: Option<u64>) {
        if !self.copy.running {
            return;
        }
        // What was said of these records before must not come after them.
        self.hand_over(None);
        let mut text = String::new();
        for entry in entries {
            line::entry(&mut text, self.wall, self.latest, entry);
        }
        self.copy.next = next;
        self.shared.waiting.fetch_add(text.len(), Ordering::Relaxed);
        let _ = self.messages.send(Message::Copied(text));
        if next.is_none() {
            let _ = self.messages.send(Message::Finish);
        }
    }
}

/// The latest moment in an entry that has passed.
fn moment(entry: &Entry) -> Option<Stamp> {
    match entry {
        Entry::Device(device) => {
            let since = device.journey.as_ref().map(|journey| journey.since);
            Some(device.last.max(since.unwrap_or(device.last)))
        }
        Entry::Pin(pin) => Some(pin.used),
        Entry::Guard(guard) => Some(guard.used.max(guard.delivered.unwrap_or(guard.used))),
        Entry::Release(release) => Some(release.first),
        Entry::Forgotten(_) | Entry::Unpinned(..) | Entry::Unguarded(..) => None,
    }
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
                smol::Timer::after(GIVE_UP).await;
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
