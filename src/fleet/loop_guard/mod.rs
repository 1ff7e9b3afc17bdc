//! The loop guard: holds a content back from a device that got it repeatedly and came back with its old version each
//! time.
//!
//! Two kinds of evidence count against a content: the device had all of it and reported its old version (a revert), or
//! bytes or redirects worth several files were sent while the version stayed the same. A hold applies to one content,
//! one device and one coarse network, and ends when the device reports another version.
//!
//! A hold begins with the check that it refuses, not with the evidence. Otherwise a hold of one hour would never refuse
//! a device that sends a check every four hours. So [`LoopGuard::held`] answers as if that check had been counted, and
//! [`LoopGuard::count_check`] counts it.

mod evidence;

use std::collections::HashMap;

pub use self::evidence::CheckFacts;
use self::evidence::{Evidence, deserved_holds};
use super::bounded::{Bounded, Ranked};
use super::clock::Stamp;
use super::entry::{GuardEntry, JournalEntry};
use super::network::CoarseNetwork;
use super::requester::{IdentityHash, Requester};
use super::short_version::ShortVersion;
use super::{FileRange, TransferOutcome};
use crate::decision::HeldContents;
use crate::firmware::ContentId;
use crate::firmware::audience::DeviceId;

/// Capacity of the table; 16 MB when it is full.
pub const CAPACITY: usize = 65_536;

/// Maximum number of records of one id. A forger can invent contents, networks and all other facts under it.
const MAX_PER_ID: usize = 16;

/// Maximum number of contents of one device in one network. Offers of one content do not evict the hold of another, and
/// held contents do not evict the evidence against a new one.
const MAX_CONTENTS: usize = HeldContents::MAX;

/// Divisor of the evidence of an id from all networks together, which holds a device that moves between networks.
/// [`LoopGuard::deserved`] states the devices to which it does not apply.
const SUM_DIVISOR: u32 = 4;

/// Divisor of the bytes that a trusted proxy acknowledged of an incomplete download: a proxy takes the whole file each
/// time, even for a device whose downloads are cut repeatedly.
const PROXIED_DIVISOR: u64 = 4;

/// Class of new evidence while it is inserted, so that it displaces any other.
const HIGHEST_CLASS: u8 = u8::MAX;

/// All evidence. Pure: callers pass the time.
#[derive(Debug)]
pub struct LoopGuard {
    attempts: u32,
    table: Bounded<DeviceId, Evidence>,
    /// Device of each identity without version, while the journal is being read.
    loaded: HashMap<IdentityHash, DeviceId>,
    /// Entries that the journal does not have yet.
    changes: Vec<JournalEntry>,
    /// Holds that began since the last call of [`LoopGuard::holds_begun`].
    begun: Vec<GuardEntry>,
}

impl LoopGuard {
    /// Creates an empty table of this capacity. `attempts`: number of free attempts at one content (at least one).
    pub fn new(attempts: u32, capacity: usize) -> LoopGuard {
        LoopGuard {
            attempts: attempts.max(1),
            table: Bounded::new(capacity.max(MAX_PER_ID), MAX_PER_ID),
            loaded: HashMap::new(),
            changes: Vec::new(),
            begun: Vec::new(),
        }
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there are no records.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Returns the contents that are held back from this device if it asks now from byte 0.
    pub fn held(&self, who: &Requester, facts: CheckFacts, now: Stamp) -> HeldContents {
        let mut held = HeldContents::default();
        for slot in self.own(who) {
            let judged = slot.record.judge(who, facts, self.attempts, now);
            let Some((after, counted)) = judged else {
                continue;
            };
            let is_held = after.held_until(now).is_some()
                || self.deserved(who.device, slot.serial(), &after) > after.entry.level
                || counted && after.is_frequent(self.attempts, now);
            if is_held {
                held.add(after.entry.content, after.is_extreme(now));
            }
        }
        held
    }

    /// Counts a check from byte 0, in reply to which the device is offered a content. Must be called after
    /// [`LoopGuard::held`] and the decision. Returns the evidence against contents that were offered only because
    /// `allow` names the device.
    pub fn count_check(
        &mut self,
        who: &Requester,
        facts: CheckFacts,
        offered: Option<ContentId>,
        now: Stamp,
    ) -> Vec<GuardEntry> {
        let (mut judged, mut begun) = (Vec::new(), Vec::new());
        for slot in self.own(who) {
            let after = slot.record.judge(who, facts, self.attempts, now);
            let after = after.map(|(mut after, counted)| {
                let is_spared = offered == Some(after.entry.content);
                let deserved = self.deserved(who.device, slot.serial(), &after);
                let is_due = deserved > after.entry.level
                    || counted && after.is_frequent(self.attempts, now);
                if is_due && !is_spared && after.held_until(now).is_none() {
                    after.hold(deserved, now);
                    begun.push(after.entry.clone());
                }
                (after, counted && is_due && is_spared)
            });
            judged.push((slot.serial(), after));
        }
        self.begun = begun;
        let (mut spared, mut was_written) = (Vec::new(), false);
        for (serial, after) in judged {
            let Some((after, is_spared)) = after else {
                let over = self.table.remove(who.device, serial);
                was_written |= over.is_some_and(|over| over.written);
                continue;
            };
            if is_spared {
                spared.push(after.entry.clone());
            }
            let Some(evidence) = self.table.get_mut(who.device, serial) else {
                continue;
            };
            match evidence.notable() == after.notable() && evidence.reached == after.reached {
                true => *evidence = after,
                false => self.update(who.device, serial, now, |evidence| *evidence = after),
            }
        }
        if was_written {
            self.changes.push(JournalEntry::Unguarded(
                who.identity_without_version,
                who.coarse_network,
            ));
            // That entry removes all evidence of the device in this network, so the rest is written again.
            let left = self.own(who).map(|slot| &slot.record);
            let left = left.filter(|evidence| evidence.written && evidence.is_worth_recording());
            let left: Vec<JournalEntry> = left.map(Evidence::to_entry).collect();
            self.changes.extend(left);
        }
        spared
    }

    /// Records that a device fell back from a content that it was confirmed with. Has no effect if there is evidence
    /// against the content already.
    pub fn fallback(&mut self, who: &Requester, content: ContentId, to: ShortVersion, now: Stamp) {
        let is_known = self
            .own(who)
            .any(|slot| slot.record.entry.content == content);
        if !is_known {
            self.change(who, content, to, now, |evidence| {
                evidence.begin(who);
                evidence.count_revert(now);
            });
        }
    }

    /// Records that bytes of a file were sent to the device.
    pub fn record_transfer(
        &mut self,
        who: &Requester,
        range: FileRange,
        outcome: TransferOutcome,
        now: Stamp,
    ) {
        let sent = range.end.saturating_sub(range.start);
        let (has_all, bytes) = match outcome {
            TransferOutcome::Whole => (true, sent),
            // A proxy accepts far more bytes than it can pass on.
            TransferOutcome::Sent => (true, 0),
            TransferOutcome::Incomplete { proxied: true } => (false, sent / PROXIED_DIVISOR),
            TransferOutcome::Incomplete { proxied: false } => (false, sent),
        };
        if bytes == 0 && !has_all {
            return;
        }
        if has_all {
            // From now on, an old version may be a result of this content.
            for slot in self.table.of_mut(who.device) {
                let entry = &mut slot.record.entry;
                if is_of(entry, who) && entry.content != range.content {
                    entry.confirmed = None;
                }
            }
        }
        self.change(who, range.content, range.to, now, |evidence| {
            evidence.size = range.size;
            evidence.begin(who);
            if range.start <= evidence.reached {
                evidence.reached = evidence.reached.max(range.end);
            }
            let entry = &mut evidence.entry;
            entry.sent = entry.sent.saturating_add(bytes);
            // The device must have the whole file. The last byte alone would be evidence of nothing.
            if has_all && evidence.reached >= range.size {
                entry.delivered = Some(now);
                entry.by_proxy = outcome == TransferOutcome::Sent;
                (entry.confirmed, entry.reverted) = (None, false);
            }
        });
    }

    /// Records that the device was redirected for a content of the release `to`. The redirect counts as an attempt if
    /// the device comes back with its old version a minute or more later.
    pub fn record_redirect(
        &mut self,
        who: &Requester,
        content: ContentId,
        to: ShortVersion,
        now: Stamp,
    ) {
        self.change(who, content, to, now, |evidence| {
            evidence.begin(who);
            evidence.entry.redirected.get_or_insert(now);
        });
    }

    /// Drops all evidence against a device; returns the number of contents that were held.
    pub fn clear(&mut self, device: DeviceId, now: Stamp) -> usize {
        let removed = self.table.retain(device, |_| false);
        let written = removed.iter().filter(|evidence| evidence.written);
        let mut over: Vec<_> = written
            .map(|evidence| {
                JournalEntry::Unguarded(
                    evidence.entry.identity_without_version,
                    evidence.entry.coarse_network,
                )
            })
            .collect();
        over.dedup();
        self.changes.append(&mut over);
        let held = removed.iter().filter(|e| e.held_until(now).is_some());
        held.count()
    }

    /// Evidence for which the last check began a hold.
    pub fn holds_begun(&mut self) -> Vec<GuardEntry> {
        std::mem::take(&mut self.begun)
    }

    /// Whether anything is known against a device.
    pub fn knows(&self, device: DeviceId) -> bool {
        !self.table.of(device).is_empty()
    }

    /// Evidence against a device that is worth showing.
    pub fn against(&self, device: DeviceId) -> impl Iterator<Item = &Evidence> {
        let all = self.table.of(device).iter().map(|slot| &slot.record);
        all.filter(|evidence| evidence.is_worth_recording())
    }

    /// Whether any content is held back from this device now.
    pub fn is_held(&self, device: DeviceId, now: Stamp) -> bool {
        let mut all = self.against(device);
        all.any(|evidence| evidence.held_until(now).is_some())
    }

    /// Devices with a current hold, each with the version that is held back. Some devices occur more than once.
    pub fn all_held(&self, now: Stamp) -> impl Iterator<Item = (DeviceId, &str)> {
        let all = self.table.iter();
        let held = all.filter(move |(_, slot)| slot.record.held_until(now).is_some());
        held.map(|(device, slot)| (device, &*slot.record.entry.to))
    }

    /// Entries for the journal about changes since the last call.
    pub fn changes(&mut self) -> Vec<JournalEntry> {
        std::mem::take(&mut self.changes)
    }

    /// Takes over an entry of the journal. The size of its file is unknown until [`LoopGuard::set_sizes`] or a transfer
    /// sets it.
    pub fn load(&mut self, entry: GuardEntry) {
        let device = entry.device;
        let key = (
            entry.identity_without_version,
            entry.coarse_network,
            entry.content,
        );
        self.table.retain(device, |slot| {
            let known = &slot.record.entry;
            (
                known.identity_without_version,
                known.coarse_network,
                known.content,
            ) != key
        });
        self.loaded.insert(entry.identity_without_version, device);
        self.insert(Evidence {
            entry,
            size: 0,
            reached: 0,
            written: true,
        });
    }

    /// Drops the evidence against an identity in a network, as an entry of the journal states.
    pub fn unload(&mut self, identity: IdentityHash, coarse_network: CoarseNetwork) {
        if let Some(device) = self.loaded.get(&identity) {
            self.table.retain(*device, |slot| {
                let entry = &slot.record.entry;
                (entry.identity_without_version, entry.coarse_network) != (identity, coarse_network)
            });
        }
    }

    /// Drops the data that is only needed while the journal is being read.
    pub fn all_loaded(&mut self) {
        self.loaded = HashMap::new();
    }

    /// Sets the file sizes that are still unknown.
    pub fn set_sizes(&mut self, size: impl Fn(ContentId) -> Option<u64>) {
        let mut ranked = Vec::new();
        for (device, slot) in self.table.iter_mut() {
            let serial = slot.serial();
            let evidence = &mut slot.record;
            if evidence.size == 0
                && let Some(size) = size(evidence.entry.content)
            {
                // Only with the size is it known how many files the bytes are worth.
                evidence.size = size;
                ranked.push((device, serial, evidence.class(), evidence.entry.used));
            }
        }
        for (device, serial, class, used) in ranked {
            self.table.touch(device, serial, class, used);
        }
    }

    /// Returns at most `most` entries for the journal, from the serial `from` on, and the serial of the next one.
    pub fn records(&self, from: u64, most: usize) -> (Vec<JournalEntry>, Option<u64>) {
        let (page, next) = self.table.page(from, most, Evidence::is_worth_recording);
        let entries = page.into_iter().map(|(_, slot)| slot.record.to_entry());
        (entries.collect(), next)
    }

    /// Records of a requester in its coarse network.
    fn own(&self, who: &Requester) -> impl Iterator<Item = &Ranked<Evidence>> {
        let all = self.table.of(who.device).iter();
        all.filter(|slot| is_of(&slot.record.entry, who))
    }

    /// Number of holds that a record deserves: by itself, or by all evidence under the id from any network. A forger in
    /// another network can create that evidence, so it only counts for a record with repeated attempts of its own. A
    /// device that takes its update at the first or second attempt has none.
    fn deserved(&self, device: DeviceId, serial: u64, evidence: &Evidence) -> u32 {
        let own = &evidence.entry;
        let sums = (own.reverts, own.redirects, own.sent);
        let alone = deserved_holds(sums, evidence.size, self.attempts);
        if !evidence.is_repeated() {
            return alone;
        }
        let others = self.table.of(device).iter();
        let others = others.filter(|other| other.serial() != serial);
        let others = others.map(|other| &other.record.entry);
        let same = others.filter(|o| o.content == own.content && o.version == own.version);
        let (reverts, sent) = same.fold((own.reverts, own.sent), |(reverts, sent), other| {
            (
                reverts.saturating_add(other.reverts),
                sent.saturating_add(other.sent),
            )
        });
        // A redirect costs a forger nothing, so it counts only in its own network.
        let reduced = (reverts / SUM_DIVISOR, 0, sent / u64::from(SUM_DIVISOR));
        alone.max(deserved_holds(reduced, evidence.size, self.attempts))
    }

    /// Changes the record of a content, which is created if necessary.
    fn change(
        &mut self,
        who: &Requester,
        content: ContentId,
        to: ShortVersion,
        now: Stamp,
        change: impl FnOnce(&mut Evidence),
    ) {
        let known = self.own(who);
        let known = known
            .filter(|slot| slot.record.entry.content == content)
            .map(|slot| slot.serial())
            .next();
        let serial = known.or_else(|| self.insert(Evidence::new(who, content, now)));
        let Some(serial) = serial else { return };
        self.update(who.device, serial, now, |evidence| {
            if to != ShortVersion::default() {
                evidence.entry.to = to.as_str().into();
            }
            change(evidence);
        });
    }

    /// Changes a record, moves it to its new place in the eviction order, and adds an entry for the journal if the
    /// change is notable.
    fn update(
        &mut self,
        device: DeviceId,
        serial: u64,
        now: Stamp,
        change: impl FnOnce(&mut Evidence),
    ) {
        let Some(evidence) = self.table.get_mut(device, serial) else {
            return;
        };
        let before = evidence.notable();
        change(evidence);
        evidence.entry.used = now;
        if evidence.is_worth_recording() && !(evidence.written && before == evidence.notable()) {
            evidence.written = true;
            self.changes.push(evidence.to_entry());
        }
        let class = evidence.class();
        self.table.touch(device, serial, class, now);
    }

    /// Inserts a record, and returns its serial.
    fn insert(&mut self, evidence: Evidence) -> Option<u64> {
        let entry = &evidence.entry;
        let (device, used, class) = (entry.device, entry.used, evidence.class());
        let own = self.table.of(device).iter();
        let own = own.filter(|slot| {
            let other = &slot.record.entry;
            (other.identity_without_version, other.coarse_network)
                == (entry.identity_without_version, entry.coarse_network)
        });
        if own.clone().count() >= MAX_CONTENTS {
            // Evicts the least recently used record, whatever its class. If the one with the least evidence were
            // evicted, contents that are offered alternately while enough others are held would evict each other
            // endlessly.
            let oldest = own.min_by_key(|slot| (slot.place().used, slot.serial()));
            let oldest = oldest.map(Ranked::serial);
            oldest.and_then(|serial| self.table.remove(device, serial));
        }
        let inserted = self.table.insert(device, HIGHEST_CLASS, used, evidence);
        let serial = inserted.serial?;
        self.table.touch(device, serial, class, used);
        Some(serial)
    }
}

/// Whether an entry belongs to the requester in its coarse network.
fn is_of(entry: &GuardEntry, who: &Requester) -> bool {
    entry.identity_without_version == who.identity_without_version
        && entry.coarse_network == who.coarse_network
}

#[cfg(test)]
mod tests;
