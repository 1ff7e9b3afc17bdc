//! What speaks against one content for one device: a record of the guard, its evidence, and what that is
//! worth. Only [`super`] reads and writes these; everybody else sees [`super::Against`] and
//! [`GuardEntry`].

use super::Against;
use crate::decision::{Back, compare};
use crate::firmware::ContentId;
use crate::firmware::audience::DeviceId;
use crate::fleet::clock::Stamp;
use crate::fleet::entry::{GuardEntry, JournalEntry, Round};
use crate::fleet::journey::{Circumstances, FALLBACK};
use crate::fleet::network::CoarseNetwork;
use crate::fleet::requester::{IdentityHash, Requester};
use crate::fleet::short_version::ShortVersion;
use crate::fleet::turns::Turn;

/// A redirect is an attempt when the device comes back this long after it, in seconds.
const REDIRECTED: u32 = 60;

/// Rounds count for so long, in seconds.
const DAY: u32 = 24 * 60 * 60;

/// Rounds that a record keeps.
const ROUNDS: usize = 10;

/// So many weak rounds within a day are worth a hold.
const WEAK: usize = 9;

/// So many rounds of any kind within a day are worth a hold, whatever versions the device says, and
/// even if `allow` names it singly.
const MANY: usize = ROUNDS;

/// A device that `allow` names singly is held for its bytes only when they are worth so many files.
const MANY_SIZES: u64 = 20;

/// One content that one device got.
#[derive(Clone, Debug)]
pub struct Record {
    /// Who, whatever version it runs.
    pub identity_without_version: IdentityHash,
    /// From where it asks.
    pub coarse_network: CoarseNetwork,
    /// What it got.
    pub content: ContentId,
    /// All that the device says of itself, its version included: another one ends the record.
    pub version: IdentityHash,
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
    /// That delivery was a trusted proxy's.
    pub by_proxy: bool,
    /// When it was first redirected, since it last came back.
    pub redirected: Option<Stamp>,
    /// When it came back with the new version, if the old one was not seen since.
    pub confirmed: Option<Stamp>,
    /// The last whole download was counted as a revert, and no other has come since.
    pub reverted: bool,
    /// The last rounds, oldest first.
    pub rounds: Vec<Round>,
    /// The version that it ran when it last began to download.
    pub from: ShortVersion,
    /// The release's version; empty: not known.
    pub to: ShortVersion,
    /// `version` before it was what it is.
    pub before: IdentityHash,
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

/// What a check from byte 0 says besides its version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asks {
    /// It comes by packets from the source port of the download.
    pub same_session: bool,
    /// The rules give the version that it says to devices that run the new one.
    pub is_given: bool,
    /// The device may run its old version for so many seconds after the delivery of this content.
    pub waits: Option<(ContentId, u32)>,
}

/// What a check makes of a record.
#[derive(Debug)]
pub enum Judged {
    /// The record says nothing any more.
    Over,
    /// It becomes this. `counted`: one attempt more.
    Record { after: Record, counted: bool },
}

impl Asks {
    fn circumstances(self, reboot_within: u32) -> Circumstances {
        Circumstances {
            same_place: true,
            same_session: self.same_session,
            reboot_within,
            is_given: self.is_given,
        }
    }
}

impl Record {
    /// The record after a check from byte 0.
    pub fn judge(&self, who: &Requester, asks: Asks, attempts: u32, now: Stamp) -> Judged {
        let back = match self.version == who.identity {
            true => Back::Old,
            false => compare(
                self.from.as_str(),
                who.version.as_str(),
                who.first_field,
                self.to.as_str(),
            ),
        };
        let was_confirmed = self.confirmed.map(|at| now.since(at));
        let is_old_news = was_confirmed.is_some_and(|age| age > FALLBACK);
        let mut after = self.clone();
        let before = (
            after.tally.reverts,
            after.tally.redirects,
            after.last_round(),
        );
        match back {
            Back::New if is_old_news => return Judged::Over,
            Back::New => {
                after.comes_back_new(attempts, now);
                if after.tally.reverts == 0 && after.rounds.is_empty() {
                    return Judged::Over;
                }
            }
            Back::Old if is_old_news || was_confirmed.is_some() && asks.is_given => {
                return Judged::Over;
            }
            Back::Old => {
                after.comes_back_old(asks, now);
            }
            Back::Other => {
                let is_another = ![self.version, self.before].contains(&who.identity);
                if is_another && !self.is_frequent(attempts, now) {
                    after.clear();
                }
                let age = after.delivered.map(|at| now.since(at));
                if age.is_some_and(|age| !asks.circumstances(0).too_soon(age)) {
                    after.reverts(now);
                }
                if !after.is_worth_it() && after.rounds.is_empty() {
                    return Judged::Over;
                }
            }
        }
        let counted = before
            != (
                after.tally.reverts,
                after.tally.redirects,
                after.last_round(),
            );
        Judged::Record { after, counted }
    }

    /// The device begins to download.
    pub fn began(&mut self, who: &Requester) {
        if self.version != who.identity {
            self.before = self.version;
            self.version = who.identity;
        }
        self.from = who.version;
    }

    /// The device was confirmed, and says its old version again.
    pub fn falls_back(&mut self, now: Stamp) {
        self.reverts(now);
    }

    /// What speaks against the content, for people.
    pub fn against(&self, now: Stamp) -> Against {
        Against {
            content: self.content,
            until: self.held_until.filter(|until| now < *until),
            reverts: self.tally.reverts,
            sent: self.tally.sent,
        }
    }

    fn last_round(&self) -> Option<Stamp> {
        self.rounds.last().map(|round| round.at)
    }

    /// The device says the new version.
    fn comes_back_new(&mut self, attempts: u32, now: Stamp) {
        if self.reverted && self.delivered.is_none() && self.confirmed.is_none() {
            // It only took long.
            self.tally.reverts = self.tally.reverts.saturating_sub(1);
            self.rounds.pop();
        }
        (self.tally.sent, self.tally.redirects) = (0, 0);
        self.level = self.level.min(self.tally.holds(self.size, attempts));
        (self.held_until, self.redirected, self.delivered) = (None, None, None);
        (self.reverted, self.reached) = (false, 0);
        self.confirmed.get_or_insert(now);
    }

    /// The device says the version that it ran before.
    fn comes_back_old(&mut self, asks: Asks, now: Stamp) {
        if self
            .redirected
            .is_some_and(|at| now.since(at) >= REDIRECTED)
        {
            self.redirected = None;
            self.tally.redirects = self.tally.redirects.saturating_add(1);
        }
        if self.confirmed.take().is_some() {
            return self.reverts(now);
        }
        let Some(age) = self.delivered.map(|at| now.since(at)) else {
            return;
        };
        let within = match asks.waits {
            Some((content, within)) if content == self.content => within,
            _ => 0,
        };
        if asks.circumstances(within).too_soon(age) || age < within {
            return;
        }
        match self.by_proxy {
            true => self.round(true, now),
            false => self.reverts(now),
        }
    }

    fn reverts(&mut self, now: Stamp) {
        self.tally.reverts = self.tally.reverts.saturating_add(1);
        self.reverted = true;
        self.round(false, now);
    }

    fn round(&mut self, weak: bool, now: Stamp) {
        (self.delivered, self.reached) = (None, 0);
        if self.rounds.len() >= ROUNDS {
            self.rounds.remove(0);
        }
        self.rounds.push(Round { at: now, weak });
    }

    /// Takes back all but the rounds: the device was flashed with something else.
    fn clear(&mut self) {
        self.tally = Tally::default();
        self.level = 0;
        (self.held_until, self.redirected, self.confirmed) = (None, None, None);
        self.reverted = false;
    }

    /// It was counted so often within a day that it is held for an hour each time.
    pub fn is_frequent(&self, attempts: u32, now: Stamp) -> bool {
        let recent = || self.rounds.iter().filter(|r| now.since(r.at) <= DAY);
        recent().filter(|round| round.weak).count() >= WEAK
            // Unless more attempts are free.
            || recent().count() >= usize::try_from(attempts).unwrap_or(usize::MAX).max(MANY)
    }

    /// It is held from a device that `allow` names singly, too.
    pub fn is_extreme(&self, now: Stamp) -> bool {
        let recent = self.rounds.iter().filter(|r| now.since(r.at) <= DAY);
        let sizes = self.tally.sent.checked_div(self.size).unwrap_or(0);
        recent.count() >= MANY || sizes >= MANY_SIZES
    }

    /// Is it held back now?
    pub fn is_held(&self, now: Stamp) -> bool {
        self.held_until.is_some_and(|until| now < until)
    }

    /// Is it worth a line in the journal?
    pub fn is_worth_it(&self) -> bool {
        let tally = self.tally;
        let whole = self.size > 0 && tally.sent >= self.size;
        self.level > 0
            || tally.reverts > 0
            || tally.redirects > 0
            || !self.rounds.is_empty()
            || self.delivered.is_some()
            || whole
    }

    /// Did twice its size go out?
    pub fn was_sent_twice(&self) -> bool {
        self.size > 0 && self.tally.sent / 2 >= self.size
    }

    /// How much would be lost with it: the least goes first.
    pub fn rank(&self) -> u8 {
        let tally = self.tally;
        let is_evidence = tally.reverts > 0 || tally.redirects > 1 || self.rounds.len() > 1;
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
        let rest = (self.confirmed, self.last_round(), self.version);
        (reverts, redirects, times, held, rest)
    }

    /// The same for the journal.
    pub fn entry(&self, device: DeviceId) -> JournalEntry {
        JournalEntry::Guard(GuardEntry {
            device,
            identity_without_version: self.identity_without_version,
            coarse_network: self.coarse_network,
            content: self.content,
            version: self.version.0,
            reverts: self.tally.reverts,
            redirects: self.tally.redirects,
            sent: self.tally.sent,
            level: self.level,
            held_until: self.held_until,
            delivered: self.delivered,
            by_proxy: self.by_proxy,
            redirected: self.redirected,
            confirmed: self.confirmed,
            reverted: self.reverted,
            rounds: self.rounds.clone(),
            from: self.from.as_str().into(),
            to: self.to.as_str().into(),
            before: self.before.0,
            used: self.turn.used,
        })
    }
}
