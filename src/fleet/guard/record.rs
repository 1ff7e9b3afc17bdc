//! What speaks against one content for one device: a record of the guard, its evidence, and what that is
//! worth. Only [`super`] reads and writes these; everybody else sees [`super::Against`] and
//! [`GuardEntry`].

use crate::firmware::ContentId;
use crate::firmware::audience::DeviceId;
use crate::fleet::clock::Stamp;
use crate::fleet::entry::{Entry, GuardEntry};
use crate::fleet::network::Wide;
use crate::fleet::turns::Turn;
use crate::fleet::who::Downloader;

/// Whoever comes back sooner than this after a delivery has not tried what it got.
const TOO_SOON: u32 = 60;

/// One content that one device got.
#[derive(Clone, Debug)]
pub struct Record {
    /// Who, whatever version it runs.
    pub unit: Downloader,
    /// From where it asks.
    pub wide: Wide,
    /// What it got.
    pub content: ContentId,
    /// All that the device says of itself, its version included: another one ends the record.
    pub version: Downloader,
    /// 0: not known (the record comes from the journal).
    pub size: u64,
    /// The evidence so far.
    pub tally: Tally,
    /// It has the bytes before this one, without a gap.
    pub reached: u64,
    /// How often it was held.
    pub level: u32,
    /// Not offered before then.
    pub held_until: Option<Stamp>,
    /// When it first had all of it, since it last came back.
    pub delivered: Option<Stamp>,
    /// The journal has it.
    pub written: bool,
    /// When it may be dropped: its class is [`Record::rank`], and its number the same as long as it lives.
    pub turn: Turn,
}

/// Evidence that is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Times that it had all of it and came back with the version unchanged.
    pub reverts: u32,
    /// Times that it was sent elsewhere for it.
    pub redirects: u32,
    /// Bytes.
    pub sent: u64,
}

impl Tally {
    /// How often all this is worth a hold, if so many attempts are free: at so many reverts and at each
    /// one more; at two redirects, or sizes of the file, more than that, and at every other one more. So
    /// it all follows from sums, and a restart changes nothing.
    pub fn holds(self, size: u64, attempts: u32) -> u32 {
        let over = |count: u32, free: u32, each: u32| match count.checked_sub(free) {
            Some(more) => (more / each).saturating_add(1),
            None => 0,
        };
        let times = self.sent.checked_div(size).unwrap_or(0);
        let times = u32::try_from(times).unwrap_or(u32::MAX);
        let many = attempts.saturating_add(2);
        over(self.reverts, attempts, 1)
            .max(over(times, many, 2))
            .max(over(self.redirects, many, 2))
    }
}

impl Record {
    /// It comes back from a delivery with this check.
    pub fn comes_back(&self, now: Stamp) -> bool {
        self.delivered.is_some_and(|at| now.since(at) > TOO_SOON)
    }

    /// The evidence, with the check that is made now.
    pub fn evidence(&self, now: Stamp) -> Tally {
        let more = u32::from(self.comes_back(now));
        Tally {
            reverts: self.tally.reverts.saturating_add(more),
            ..self.tally
        }
    }

    /// Is it held back now?
    pub fn is_held(&self, now: Stamp) -> bool {
        self.held_until.is_some_and(|until| now < until)
    }

    /// Is it worth a line in the journal?
    pub fn is_worth_it(&self) -> bool {
        let tally = self.tally;
        let whole = self.size > 0 && tally.sent >= self.size;
        self.level > 0 || tally.reverts > 0 || tally.redirects > 0 || whole
    }

    /// Did twice its size go out?
    pub fn was_sent_twice(&self) -> bool {
        self.size > 0 && self.tally.sent / 2 >= self.size
    }

    /// How much would be lost with it: the least goes first.
    pub fn rank(&self) -> u8 {
        let tally = self.tally;
        let is_evidence = tally.reverts > 0 || tally.redirects > 1;
        match (self.level, self.is_worth_it()) {
            (0, false) => 0,
            (0, true) if !is_evidence && !self.was_sent_twice() => 1,
            (0, true) => 2,
            _ => 3,
        }
    }

    /// What the journal would be told anew: bytes only by whole sizes.
    pub fn notable(&self) -> impl PartialEq + use<> {
        let times = self.tally.sent.checked_div(self.size).unwrap_or(0);
        let (reverts, redirects) = (self.tally.reverts, self.tally.redirects);
        let held = (self.level, self.held_until, self.delivered.is_some());
        (reverts, redirects, times, held)
    }

    /// The same for the journal.
    pub fn entry(&self, device: DeviceId) -> Entry {
        Entry::Guard(GuardEntry {
            device,
            unit: self.unit,
            wide: self.wide,
            content: self.content,
            version: self.version.0,
            reverts: self.tally.reverts,
            redirects: self.tally.redirects,
            sent: self.tally.sent,
            level: self.level,
            held_until: self.held_until,
            delivered: self.delivered,
            used: self.turn.used,
        })
    }
}
