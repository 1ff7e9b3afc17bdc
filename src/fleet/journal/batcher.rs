//! Batches of journal lines for the writing thread, under a budget of bytes per minute. The budget keeps a flood of
//! invented devices from wearing out flash memory (docs/hazards.md 18). Also paces the records of a compaction. Used
//! only by [`super::Journal`].

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, Sender};

use super::line::{self, ClockLine};
use super::origin::Origin;
use super::writer::{COPIED, FAILED, MAX_WRITE, NO_COPY, NOT_BEGUN, Shared, WriterCommand};
use crate::fleet::clock::{Stamp, Wall};
use crate::fleet::entry::{JournalEntry, Priority, WrittenCommons};
use crate::os::notify::Notify;

/// Size at which a batch is handed over without waiting for more lines, in bytes.
const BATCH_SIZE: usize = 64 * 1024;

/// Longest time that a line waits for others, in seconds.
const MAX_DELAY: u32 = 5;

/// Period of the budget, in seconds.
const MINUTE: u32 = 60;

/// Budget in bytes per minute.
pub const BUDGET: usize = 4 * 1024 * 1024;

/// Largest number of bytes that wait for a disk that accepts none.
const MAX_WAITING: usize = 4 * 1024 * 1024;

/// Size below which a journal is never compacted, in bytes.
pub const MIN_COMPACTED: usize = 1024 * 1024;

/// Time between compactions that failed or that replace lost lines, in seconds.
const PAUSE: u32 = 600;

/// Time until a compaction that could not be begun is tried again, in seconds. Such an attempt writes nothing.
const RETRY: u32 = 5;

/// Longest time between two lines, in seconds, so that a reader knows that time has passed.
const HOUR: u32 = 3600;

/// Lines that are collected for the writing thread.
#[derive(Debug)]
pub struct Batcher {
    commands: Sender<WriterCommand>,
    shared: Arc<Shared>,
    wall: Wall,
    origin: Option<Origin>,
    /// Latest time that any call has stated.
    latest: Stamp,
    batch: String,
    /// Number of lines in `batch`.
    count: u32,
    /// Time of the first line in `batch`.
    since: Stamp,
    /// Time at which the last batch was handed over.
    last: Stamp,
    budget: Budget,
    compaction: Compaction,
}

/// Use of the budget in the current minute.
#[derive(Debug, Default)]
struct Budget {
    /// Beginning of the minute.
    minute: Stamp,
    /// Bytes of the lines that were put into batches.
    spent: usize,
    /// Dropped lines of [`Priority::Seen`].
    seen: u32,
    /// Other dropped lines.
    others: u32,
}

/// State of the compaction.
#[derive(Debug)]
struct Compaction {
    /// First of the records that are wanted next; `None`: no compaction is running, or it has all records.
    next: Option<u64>,
    is_running: bool,
    /// Common lines that the copy contains.
    commons: WrittenCommons,
    /// Estimate of the bytes in the journal that are not superseded.
    live: usize,
    /// Whether a compaction is wanted whatever the size is, because lines were lost.
    is_wanted: bool,
    /// Earliest start of the next compaction.
    not_before: Stamp,
}

/// Part of the budget that lines of a priority may use, in bytes per minute.
fn share(priority: Priority) -> usize {
    match priority {
        Priority::Seen => BUDGET / 2,
        Priority::Minor => BUDGET / 4 * 3,
        Priority::Major => BUDGET,
    }
}

impl Batcher {
    /// Creates a batcher for a journal in which `live` bytes are not superseded.
    pub fn new(
        commands: Sender<WriterCommand>,
        shared: Arc<Shared>,
        wall: Wall,
        origin: Option<Origin>,
        live: usize,
    ) -> Batcher {
        let now = wall.stamp;
        Batcher {
            commands,
            shared,
            wall,
            origin,
            latest: now,
            batch: String::new(),
            count: 0,
            since: now,
            last: now,
            budget: Budget {
                minute: now,
                ..Budget::default()
            },
            compaction: Compaction {
                next: None,
                is_running: false,
                commons: WrittenCommons::default(),
                live,
                is_wanted: false,
                not_before: now,
            },
        }
    }

    /// See [`super::Journal::rewrite`].
    pub fn rewrite(&mut self) {
        self.compaction.is_wanted = true;
    }

    /// Hands over everything. The receiver is disconnected once everything is on the disk.
    pub fn stop(mut self) -> Receiver<()> {
        self.write_clock_line(ClockLine::Stop);
        let (sender, done) = mpsc::channel();
        self.send(WriterCommand::Stop(sender));
        done
    }

    /// Sends a command. Sending does not fail, because the thread outlives the batcher.
    fn send(&self, command: WriterCommand) {
        self.commands.send(command).ok();
    }

    /// Puts a line into the batch. Returns `false` if the budget does not allow the line.
    pub fn add_line(&mut self, entry: &JournalEntry, priority: Priority) -> bool {
        self.advance(entry.latest().unwrap_or(self.latest));
        self.renew_budget();
        let before = self.batch.len();
        line::write_entry(&mut self.batch, self.wall, self.latest, entry);
        let length = self.batch.len() - before;
        if self.budget.spent + length > share(priority) {
            self.batch.truncate(before);
            self.count_dropped(priority, 1);
            return false;
        }
        self.budget.spent += length;
        if self.count == 0 {
            self.since = self.latest;
        }
        self.count += 1;
        if self.batch.len() >= BATCH_SIZE {
            self.hand_over(None);
        }
        true
    }

    fn count_dropped(&mut self, priority: Priority, lines: u32) {
        match priority {
            Priority::Seen => self.budget.seen += lines,
            Priority::Minor | Priority::Major => {
                self.budget.others += lines;
                self.compaction.is_wanted = true;
            }
        }
    }

    /// Hands over the batch and a line about the clock.
    pub fn write_clock_line(&mut self, event: ClockLine) {
        line::write_clock(&mut self.batch, self.wall, self.latest, event, self.origin);
        self.count += 1;
        self.hand_over(None);
    }

    /// Hands the batch to the thread, or drops the batch if too many bytes wait there. `written` is notified when the
    /// batch is written.
    pub fn hand_over(&mut self, written: Option<smol::channel::Sender<()>>) {
        let batch = std::mem::take(&mut self.batch);
        let count = std::mem::take(&mut self.count);
        if batch.is_empty() {
            return;
        }
        self.last = self.latest;
        if self.waiting() + batch.len() > MAX_WAITING {
            self.count_dropped(Priority::Major, count);
            return;
        }
        self.shared
            .waiting
            .fetch_add(batch.len(), Ordering::Relaxed);
        self.send(WriterCommand::Lines(batch, count, written));
    }

    fn waiting(&self) -> usize {
        self.shared.waiting.load(Ordering::Acquire)
    }

    /// See [`super::Journal::set_notify`].
    pub fn set_notify(&self, notify: Notify) {
        // Only the first call sets the value.
        self.shared.notify.set(notify).ok();
    }

    /// See [`super::Journal::advance`].
    pub fn advance(&mut self, now: Stamp) {
        self.latest = self.latest.max(now);
    }

    /// See [`super::Journal::due`]. There is always a due time: at the latest that of the hourly line.
    pub fn due(&self) -> Stamp {
        let is_reported = self.budget.seen == 0 && self.budget.others == 0;
        let lost_lines = self.shared.wants_copy.load(Ordering::Relaxed);
        let wants_copy = self.compaction.is_wanted || lost_lines || self.is_long();
        // The bytes that wait for the disk may still make a compaction necessary.
        let is_busy = self.compaction.is_running || self.waiting() > 0;
        [
            (self.count > 0).then(|| self.since.plus(MAX_DELAY)),
            (!is_reported).then(|| self.budget.minute.plus(MINUTE)),
            wants_copy.then_some(self.compaction.not_before),
            is_busy.then_some(Stamp::default()),
        ]
        .into_iter()
        .flatten()
        .fold(self.last.plus(HOUR), Stamp::min)
    }

    /// Whether the journal is long enough to be compacted.
    fn is_long(&self) -> bool {
        let size = self.shared.size.load(Ordering::Relaxed);
        size > MIN_COMPACTED && size > self.compaction.live.saturating_mul(2)
    }

    /// See [`super::Journal::tick`].
    pub fn tick(&mut self, now: Stamp, unix: i64) {
        self.advance(now);
        if let Some(by) = self.wall.stepped(now, unix) {
            // The times of the lines in the batch were made with the old clock.
            self.hand_over(None);
            self.wall = Wall { stamp: now, unix };
            self.write_clock_line(ClockLine::Step(by));
            log::info!(target: "journal", seconds = by; "the machine's clock was stepped");
        }
        if self.count > 0 && now.since(self.since) >= MAX_DELAY {
            self.hand_over(None);
        }
        if now.since(self.last) >= HOUR {
            self.write_clock_line(ClockLine::Hour);
        }
        self.renew_budget();
    }

    /// Begins a new budget when the minute is over.
    fn renew_budget(&mut self) {
        if self.latest.since(self.budget.minute) < MINUTE {
            return;
        }
        let budget = std::mem::take(&mut self.budget);
        self.budget.minute = self.latest;
        if budget.seen > 0 || budget.others > 0 {
            log::warn!(
                target: "journal",
                seen = budget.seen, others = budget.others;
                "more happened in a minute than the journal takes: these numbers of lines were not written"
            );
        }
    }

    /// See [`super::Journal::wants_records`].
    pub fn wants_records(&mut self) -> Option<u64> {
        let state = self.shared.copy.load(Ordering::Acquire);
        if self.compaction.is_running && matches!(state, COPIED | FAILED | NOT_BEGUN) {
            self.shared.copy.store(NO_COPY, Ordering::Release);
            let size = self.shared.size.load(Ordering::Relaxed);
            let pause = if state == NOT_BEGUN { RETRY } else { PAUSE };
            let compaction = &mut self.compaction;
            compaction.is_running = false;
            compaction.next = None;
            compaction.not_before = self.latest.plus(pause);
            if state == COPIED {
                compaction.live = size;
                log::info!(target: "journal", bytes = size; "the journal was compacted");
            } else {
                compaction.is_wanted = true;
            }
        }
        if self.compaction.is_running {
            return self.compaction.next.filter(|_| self.waiting() < MAX_WRITE);
        }
        self.compaction.is_wanted |= self.shared.wants_copy.swap(false, Ordering::Relaxed);
        let is_wanted = self.is_long() || self.compaction.is_wanted;
        if !is_wanted || self.latest < self.compaction.not_before {
            return None;
        }
        self.send(WriterCommand::BeginCopy);
        // The copy also states where it was written.
        self.write_clock_line(ClockLine::Hour);
        self.compaction.is_running = true;
        self.compaction.is_wanted = false;
        self.compaction.commons = WrittenCommons::default();
        self.compaction.next = Some(0);
        Some(0)
    }

    /// See [`super::Journal::is_copying`].
    pub fn is_copying(&self) -> bool {
        self.compaction.next.is_some()
    }

    /// See [`super::Journal::add_records`].
    pub fn add_records(&mut self, entries: &[JournalEntry], next: Option<u64>) {
        if !self.compaction.is_running {
            return;
        }
        // The batch may contain older lines about these records, which must not follow them.
        self.hand_over(None);
        let mut text = String::new();
        for entry in entries {
            let commons = &mut self.compaction.commons;
            line::write_record(&mut text, self.wall, self.latest, entry, commons);
        }
        self.compaction.next = next;
        self.shared.waiting.fetch_add(text.len(), Ordering::Relaxed);
        self.send(WriterCommand::Copy(text));
        if next.is_none() {
            self.compaction.commons = WrittenCommons::default();
            self.send(WriterCommand::FinishCopy(self.commands.clone()));
        }
    }
}

/// Estimates the bytes that `live` of a journal's entries take.
pub fn live_bytes(bytes: usize, entries: u64, live: usize) -> usize {
    let entries = usize::try_from(entries).unwrap_or(usize::MAX).max(1);
    (bytes / entries).saturating_mul(live.min(entries))
}

#[cfg(test)]
impl Batcher {
    /// Replaces the estimate of the bytes that are not superseded.
    pub fn set_live(&mut self, bytes: usize) {
        self.compaction.live = bytes;
    }
}
