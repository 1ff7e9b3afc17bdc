//! Evidence against offering one content to one device again, and the hold that the evidence deserves.

use crate::decision::{Back, compare};
use crate::firmware::ContentId;
use crate::fleet::clock::Stamp;
use crate::fleet::entry::{GuardEntry, JournalEntry, Round};
use crate::fleet::progress::{AwaitedReboot, Circumstances, FALLBACK};
use crate::fleet::requester::Requester;

/// Minimum time from a redirect to the device's next check for the redirect to count as an attempt, in seconds.
const MIN_REDIRECT_AGE: u32 = 60;

/// Time during which a round counts, in seconds.
const DAY: u32 = 24 * 60 * 60;

/// Maximum number of rounds that are kept.
const KEPT_ROUNDS: usize = 10;

/// Number of weak rounds within a day that deserve a hold.
const MAX_WEAK_ROUNDS: usize = 9;

/// Number of rounds of any kind within a day that deserve a hold, whatever versions the device reports, and even if
/// `allow` names the device.
const MAX_ROUNDS: usize = KEPT_ROUNDS;

/// Number of file sizes whose bytes must be sent before a device that `allow` names is held for them.
const MAX_SIZES: u64 = 20;

/// Duration of a hold in seconds, by the number of earlier holds of the content.
pub const HOLDS: [u32; 3] = [60 * 60, 6 * 60 * 60, 24 * 60 * 60];

/// Evidence against one content for one device: the journal's entry, and facts that are only known while the server
/// runs.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// The part that the journal keeps.
    pub entry: GuardEntry,
    /// Size of the file in bytes; 0 if unknown (the entry was loaded from the journal).
    pub size: u64,
    /// End of the bytes that the device has without a gap.
    pub reached: u64,
    /// Whether the journal has an entry of this evidence.
    pub written: bool,
}

/// The facts of a check from byte 0, besides the version that it reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckFacts {
    /// Whether the check comes over the packet protocol from the source port of the download.
    pub same_session: bool,
    /// Whether the rules give the reported version to devices that run the new one.
    pub is_given: bool,
    /// Content that the device has and need not run yet.
    pub awaited: Option<AwaitedReboot>,
}

impl CheckFacts {
    fn circumstances(self, reboot_within: u32) -> Circumstances {
        Circumstances {
            same_place: true,
            same_session: self.same_session,
            reboot_within,
            is_given: self.is_given,
        }
    }
}

/// Number of holds that attempts deserve if `free` of them are free: one at `free` reverts and one at each further
/// revert; one at `free` + 2 redirects, or file sizes sent, and one at every second further one. The number depends on
/// sums alone, so a restart changes nothing.
pub fn deserved_holds((reverts, redirects, sent): (u32, u32, u64), size: u64, free: u32) -> u32 {
    let over = |count: u32, free: u32, each: u32| match count.checked_sub(free) {
        Some(more) => more / each + 1,
        None => 0,
    };
    let times = sent.checked_div(size).unwrap_or(0);
    let times = u32::try_from(times).unwrap_or(u32::MAX);
    let limit = free.saturating_add(2);
    over(reverts, free, 1)
        .max(over(times, limit, 2))
        .max(over(redirects, limit, 2))
}

impl Evidence {
    /// Creates a record without any evidence yet.
    pub fn new(who: &Requester, content: ContentId, now: Stamp) -> Evidence {
        let key = (who.identity_without_version, who.coarse_network);
        let entry = GuardEntry::new(who.device, key, content, who.identity.0, now);
        Evidence {
            entry,
            size: 0,
            reached: 0,
            written: false,
        }
    }

    /// Returns the evidence after a check from byte 0, and whether the check was counted as one more attempt; `None` if
    /// nothing counts against the content any more.
    pub fn judge(
        &self,
        who: &Requester,
        facts: CheckFacts,
        attempts: u32,
        now: Stamp,
    ) -> Option<(Evidence, bool)> {
        let entry = &self.entry;
        let back = match entry.version == who.identity.0 {
            true => Back::Old,
            false => compare(
                &entry.from,
                who.version.as_str(),
                who.first_field,
                &entry.to,
            ),
        };
        let confirmed_age = entry.confirmed.map(|at| now.since(at));
        let is_long_ago = confirmed_age.is_some_and(|age| age > FALLBACK);
        let mut after = self.clone();
        match back {
            Back::New if is_long_ago => return None,
            Back::New => {
                after.count_new_version(attempts, now);
                if after.entry.reverts == 0 && after.entry.rounds.is_empty() {
                    return None;
                }
            }
            Back::Old if is_long_ago || confirmed_age.is_some() && facts.is_given => return None,
            Back::Old => after.count_old_version(facts, now),
            Back::Other => {
                let is_another = ![entry.version, entry.before].contains(&who.identity.0);
                if is_another && !self.is_frequent(attempts, now) {
                    after.clear();
                }
                let age = after.entry.delivered.map(|at| now.since(at));
                if age.is_some_and(|age| !facts.circumstances(0).is_too_soon(age)) {
                    after.count_revert(now);
                }
                if !after.is_worth_recording() {
                    return None;
                }
            }
        }
        let attempts = |evidence: &Evidence| {
            let entry = &evidence.entry;
            (entry.reverts, entry.redirects, evidence.last_round())
        };
        let counted = attempts(self) != attempts(&after);
        Some((after, counted))
    }

    /// Records that the device begins to download.
    pub fn begin(&mut self, who: &Requester) {
        if self.entry.version != who.identity.0 {
            self.entry.before = self.entry.version;
            self.entry.version = who.identity.0;
        }
        if *self.entry.from != *who.version.as_str() {
            self.entry.from = who.version.as_str().into();
        }
    }

    /// Begins a hold with this check. `deserved`: number of holds that the evidence deserves.
    pub fn hold(&mut self, deserved: u32, now: Stamp) {
        let [shortest, .., longest] = HOLDS;
        let seconds = match deserved.checked_sub(1) {
            Some(before) if deserved > self.entry.level => {
                let at = usize::try_from(before).unwrap_or(usize::MAX);
                HOLDS.get(at).copied().unwrap_or(longest)
            }
            _ => shortest,
        };
        self.entry.level = self.entry.level.max(deserved);
        self.entry.held_until = Some(now.plus(seconds));
    }

    /// Counts a download after which the device reported its old version.
    pub fn count_revert(&mut self, now: Stamp) {
        self.entry.reverts = self.entry.reverts.saturating_add(1);
        self.entry.reverted = true;
        self.add_round(false, now);
    }

    fn add_round(&mut self, weak: bool, now: Stamp) {
        (self.entry.delivered, self.reached) = (None, 0);
        let rounds = &mut self.entry.rounds;
        if rounds.len() >= KEPT_ROUNDS {
            rounds.remove(0);
        }
        rounds.push(Round { at: now, weak });
    }

    /// Counts a check with the new version.
    fn count_new_version(&mut self, attempts: u32, now: Stamp) {
        let entry = &mut self.entry;
        if entry.reverted && entry.delivered.is_none() && entry.confirmed.is_none() {
            // The update only took long, so the revert is taken back.
            entry.reverts = entry.reverts.saturating_sub(1);
            entry.rounds.pop();
        }
        (entry.sent, entry.redirects) = (0, 0);
        let deserved = deserved_holds((entry.reverts, 0, 0), self.size, attempts);
        entry.level = entry.level.min(deserved);
        (entry.held_until, entry.redirected, entry.delivered) = (None, None, None);
        (entry.reverted, self.reached) = (false, 0);
        entry.confirmed.get_or_insert(now);
    }

    /// Counts a check with the version that the device ran before.
    fn count_old_version(&mut self, facts: CheckFacts, now: Stamp) {
        let entry = &mut self.entry;
        if entry
            .redirected
            .is_some_and(|at| now.since(at) >= MIN_REDIRECT_AGE)
        {
            entry.redirected = None;
            entry.redirects = entry.redirects.saturating_add(1);
        }
        if entry.confirmed.take().is_some() {
            return self.count_revert(now);
        }
        let Some(age) = entry.delivered.map(|at| now.since(at)) else {
            return;
        };
        let awaited = facts.awaited.filter(|wait| wait.content == entry.content);
        let within = awaited.map_or(0, |wait| wait.within);
        if facts.circumstances(within).is_too_soon(age) || age < within {
            return;
        }
        match entry.by_proxy {
            true => self.add_round(true, now),
            false => self.count_revert(now),
        }
    }

    /// Drops the evidence except for the rounds and the last delivery, because another version was flashed to the
    /// device.
    fn clear(&mut self) {
        let entry = &mut self.entry;
        (entry.reverts, entry.redirects, entry.sent, entry.level) = (0, 0, 0, 0);
        (entry.held_until, entry.redirected, entry.confirmed) = (None, None, None);
        entry.reverted = false;
    }

    fn last_round(&self) -> Option<Stamp> {
        self.entry.rounds.last().map(|round| round.at)
    }

    fn recent_rounds(&self, now: Stamp) -> impl Iterator<Item = &Round> {
        let rounds = self.entry.rounds.iter();
        rounds.filter(move |round| now.since(round.at) <= DAY)
    }

    /// Whether the rounds within a day are frequent enough for each further attempt to deserve a hold of one hour.
    pub fn is_frequent(&self, attempts: u32, now: Stamp) -> bool {
        let weak = self.recent_rounds(now).filter(|round| round.weak);
        // The limit is higher if more attempts are free.
        let limit = usize::try_from(attempts).map_or(MAX_ROUNDS, |n| n.max(MAX_ROUNDS));
        weak.count() >= MAX_WEAK_ROUNDS || self.recent_rounds(now).count() >= limit
    }

    /// Whether the content is also held back from a device that `allow` names.
    pub fn is_extreme(&self, now: Stamp) -> bool {
        self.recent_rounds(now).count() >= MAX_ROUNDS || self.sizes_sent() >= MAX_SIZES
    }

    /// End of the current hold; `None` if the content is not held.
    pub fn held_until(&self, now: Stamp) -> Option<Stamp> {
        self.entry.held_until.filter(|until| now < *until)
    }

    /// Number of times that the bytes sent make up the file; 0 if its size is unknown.
    fn sizes_sent(&self) -> u64 {
        self.entry.sent.checked_div(self.size).unwrap_or(0)
    }

    /// Whether the evidence is worth an entry in the journal.
    pub fn is_worth_recording(&self) -> bool {
        let entry = &self.entry;
        entry.level > 0
            || entry.reverts > 0
            || entry.redirects > 0
            || !entry.rounds.is_empty()
            || entry.delivered.is_some()
            || self.sizes_sent() > 0
    }

    /// Whether the evidence is more than a first attempt: two redirects or file sizes, or a revert.
    pub fn is_repeated(&self) -> bool {
        let entry = &self.entry;
        entry.reverts > 0 || entry.redirects > 1 || self.sizes_sent() > 1
    }

    /// Class in the eviction order: the least evidence is evicted first.
    pub fn class(&self) -> u8 {
        if self.entry.level > 0 {
            3
        } else if !self.is_worth_recording() {
            0
        } else if self.is_repeated() || self.entry.rounds.len() > 1 {
            2
        } else {
            1
        }
    }

    /// Facts whose change is worth a new entry in the journal; bytes count only by whole file sizes.
    pub fn notable(&self) -> impl PartialEq + use<> {
        let entry = &self.entry;
        (
            (entry.reverts, entry.redirects, self.sizes_sent()),
            (entry.level, entry.held_until, entry.delivered.is_some()),
            (entry.confirmed, self.last_round(), entry.version),
        )
    }

    /// The entry for the journal.
    pub fn to_entry(&self) -> JournalEntry {
        JournalEntry::Guard(self.entry.clone())
    }
}
