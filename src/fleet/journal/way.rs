//! What goes to the journal's thread, and when: lines are gathered into batches, kept to a budget (a flood
//! must fill no flash, docs/hazards.md 18), and the records of a compaction follow when there is room. Used by
//! [`super::Journal`] alone.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use smol::channel::Sender;

use super::line::{self, Tick};
use super::queue::{self, queue};
use super::writer::{COPIED, COPY, FAILED, Message, NO_COPY, NOT_BEGUN, Shared};
use crate::fleet::clock::{Stamp, Wall};
use crate::fleet::entry::JournalEntry;
use crate::fleet::journey::State;
use crate::os::notify::Notify;

/// Bytes of a batch that is not waited for any longer.
const BATCH: usize = 64 * 1024;

/// Seconds that a line may wait for others.
const PATIENCE: u32 = 5;

/// Seconds that the budget is for.
const MINUTE: u32 = 60;

/// Bytes a minute.
pub const BUDGET: usize = 4 * 1024 * 1024;

/// Bytes that may be on their way to a disk that takes none.
const WAITING: usize = 4 * 1024 * 1024;

/// A journal is not compacted before it is so long, in bytes.
pub const SHORT: usize = 1024 * 1024;

/// Seconds until a compaction that failed, or one that makes good for lost lines, is tried again.
const PAUSE: u32 = 600;

/// The same for one that could not be begun, which costs the disk nothing.
const SOON: u32 = 5;

/// Seconds after which a line is written although nothing happened, so that a reader knows that time
/// went on.
const HOUR: u32 = 3600;

/// The way to the thread.
#[derive(Debug)]
pub struct Way {
    messages: queue::Sender<Message>,
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
    /// When the minute began.
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
    /// None begins before this.
    not_before: Stamp,
}

/// What goes first when the budget is short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// A device was seen.
    Seen,
    /// It was offered something; or a pin is of nobody who is known, or is over, or not quite as before.
    /// Anyone can bring about thousands of these.
    Minor,
    /// All else.
    Heavy,
}

impl Weight {
    /// Of a line that is not waited for.
    pub fn of(entry: &JournalEntry) -> Weight {
        let device = match entry {
            JournalEntry::Device(device) => device,
            JournalEntry::Pin(_) | JournalEntry::Unpinned(..) => return Weight::Minor,
            _ => return Weight::Heavy,
        };
        match &device.journey {
            None => Weight::Seen,
            Some(journey) if journey.state == State::Offered => Weight::Minor,
            Some(_) => Weight::Heavy,
        }
    }

    /// Bytes of the budget that lines of this weight may be written with.
    fn share(self) -> usize {
        match self {
            Weight::Seen => BUDGET / 2,
            Weight::Minor => BUDGET / 4 * 3,
            Weight::Heavy => BUDGET,
        }
    }
}

impl Way {
    /// Nothing was said yet; `live` bytes of the journal still stand.
    pub fn new(
        messages: queue::Sender<Message>,
        shared: Arc<Shared>,
        wall: Wall,
        live: usize,
    ) -> Way {
        let now = wall.stamp;
        Way {
            messages,
            shared,
            wall,
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
                live,
                wanted: false,
                not_before: now,
            },
        }
    }

    /// See [`super::Journal::rewrite`].
    pub fn rewrite(&mut self) {
        self.copy.wanted = true;
    }

    /// All that waits goes to the thread, and nothing after it. What is returned is over when that is on the
    /// disk.
    pub fn stop(mut self) -> queue::Receiver<Infallible> {
        self.tell(Tick::Stop);
        let (sender, answer) = queue();
        self.messages.send(Message::Stop(sender));
        answer
    }

    /// Puts a line into the batch; false: the budget does not allow it.
    pub fn line(&mut self, entry: &JournalEntry, weight: Weight) -> bool {
        self.latest = self.latest.max(moment(entry).unwrap_or(self.latest));
        self.minute_passes();
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
            Weight::Minor | Weight::Heavy => {
                budget.others = budget.others.saturating_add(lines);
                self.copy.wanted = true;
            }
        }
    }

    /// A line about the clock, at once.
    pub fn tell(&mut self, tick: Tick) {
        line::tick(&mut self.batch, self.wall, self.latest, tick);
        self.count = self.count.saturating_add(1);
        self.hand_over(None);
    }

    /// The batch goes to the thread. If too much waits there already it is dropped.
    pub fn hand_over(&mut self, waits: Option<Sender<()>>) {
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
        self.messages.send(Message::Lines(batch, count, waits));
    }

    fn waiting(&self) -> usize {
        self.shared.waiting.load(Ordering::Acquire)
    }

    /// See [`super::Journal::notifies`].
    pub fn notifies(&self, notify: Notify) {
        // Only the first one counts.
        let _one_already = self.shared.notify.set(notify);
    }

    /// See [`super::Journal::passed`].
    pub fn passed(&mut self, now: Stamp) {
        self.latest = self.latest.max(now);
    }

    /// See [`super::Journal::due`]. There is always something: the line of each hour.
    pub fn due(&self) -> Stamp {
        let at_once = Stamp::default();
        let budget = &self.budget;
        let is_told = budget.seen == 0 && budget.others == 0;
        let torn = self.shared.torn.load(Ordering::Relaxed);
        let wants_copy = self.copy.wanted || torn || self.is_long();
        // What is on its way to the disk may yet make a compaction necessary.
        let is_busy = self.copy.running || self.waiting() > 0;
        [
            (self.count > 0).then(|| self.since.plus(PATIENCE)),
            (!is_told).then(|| budget.minute.plus(MINUTE)),
            wants_copy.then_some(self.copy.not_before),
            is_busy.then_some(at_once),
        ]
        .into_iter()
        .flatten()
        .fold(self.last.plus(HOUR), Stamp::min)
    }

    /// Is the journal so long that it is worth a compaction?
    fn is_long(&self) -> bool {
        let size = self.shared.size.load(Ordering::Relaxed);
        size > SHORT && size > self.copy.live.saturating_mul(2)
    }

    /// See [`super::Journal::tick`].
    pub fn tick(&mut self, now: Stamp, unix: i64) {
        self.passed(now);
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
        self.minute_passes();
    }

    /// When the minute is over there is a new budget.
    fn minute_passes(&mut self) {
        if self.latest.since(self.budget.minute) < MINUTE {
            return;
        }
        let budget = std::mem::take(&mut self.budget);
        self.budget.minute = self.latest;
        if budget.seen > 0 || budget.others > 0 {
            log::warn!(
                target: "journal",
                seen = budget.seen, others = budget.others;
                "more happened in a minute than the journal takes: so many lines were left out"
            );
        }
    }

    /// See [`super::Journal::wants_records`].
    pub fn wants_records(&mut self) -> Option<u64> {
        let state = self.shared.copy.load(Ordering::Acquire);
        if self.copy.running && matches!(state, COPIED | FAILED | NOT_BEGUN) {
            self.shared.copy.store(NO_COPY, Ordering::Release);
            self.copy.running = false;
            self.copy.next = None;
            let pause = if state == NOT_BEGUN { SOON } else { PAUSE };
            self.copy.not_before = self.latest.plus(pause);
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
        self.copy.wanted |= self.shared.torn.swap(false, Ordering::Relaxed);
        if !(self.is_long() || self.copy.wanted) || self.latest < self.copy.not_before {
            return None;
        }
        self.messages.send(Message::Copy);
        self.copy.running = true;
        self.copy.wanted = false;
        self.copy.next = Some(0);
        Some(0)
    }

    /// See [`super::Journal::give`].
    pub fn give(&mut self, entries: &[JournalEntry], next: Option<u64>) {
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
        self.messages.send(Message::Copied(text));
        if next.is_none() {
            self.messages.send(Message::Finish);
        }
    }
}

/// The latest moment in an entry that has passed.
fn moment(entry: &JournalEntry) -> Option<Stamp> {
    match entry {
        JournalEntry::Device(device) => {
            let since = device.journey.as_ref().map(|journey| journey.since);
            Some(device.last.max(since.unwrap_or(device.last)))
        }
        JournalEntry::Pin(pin) => Some(pin.used),
        JournalEntry::Guard(guard) => Some(guard.used.max(guard.delivered.unwrap_or(guard.used))),
        JournalEntry::Release(release) => Some(release.first),
        JournalEntry::Forgotten(_) | JournalEntry::Unpinned(..) | JournalEntry::Unguarded(..) => {
            None
        }
    }
}

/// The bytes of a journal that its live entries take.
pub fn live_bytes(bytes: usize, entries: u64, live: usize) -> usize {
    let entries = usize::try_from(entries).unwrap_or(usize::MAX).max(1);
    (bytes / entries).saturating_mul(live.min(entries))
}

#[cfg(test)]
impl Way {
    /// As if so many bytes of the journal still stood.
    pub fn set_live(&mut self, bytes: usize) {
        self.copy.live = bytes;
    }
}
