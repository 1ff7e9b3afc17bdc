//! The loop guard: a device that gets the same content again and again and comes back as before is not
//! offered it for a while. Used by the fleet's face; pure, the time comes with each call.
//!
//! Two things speak against giving a device a content once more: it had all of it and came back with
//! the version unchanged (a revert), or bytes and redirects of several times the file went out with
//! the version unchanged. What is held back is this content, from this device, asking from this wide
//! network; all of it goes when the device says another version.
//!
//! What would surprise you: a hold begins with the check that is refused by it, not with the evidence.
//! A module that asks every four hours would never meet a hold of one hour otherwise. So [`Guard::held`]
//! answers as if that check had been counted, and [`Guard::came_back`] counts it.

mod record;

pub use self::record::Asks;
use self::record::{Judged, Record, Tally};
use super::Outcome;
use super::clock::Stamp;
use super::entry::{GuardEntry, JournalEntry};
use super::network::CoarseNetwork;
use super::requester::{IdentityHash, Requester};
use super::short_version::ShortVersion;
use super::turns::{Turn, Turns};
use crate::decision::Looping;
use crate::firmware::ContentId;
use crate::firmware::audience::DeviceId;
use crate::hash::Table;
use crate::order;

/// Records kept at most: 16 MB of them.
pub const CAPACITY: usize = 65_536;

/// Records of one id: contents, networks and whatever else a forger makes up.
const PER_ID: usize = 16;

/// Contents of one device in one network: the hold of one is not washed away by an offer of another, nor
/// is what a new one has cost so far by those that are held.
const CONTENTS: usize = Looping::MOST;

/// For how long a content is held, by how often it was.
const HOLDS: [u32; 3] = [60 * 60, 6 * 60 * 60, 24 * 60 * 60];

/// So many times as much evidence counts for an id whatever its networks. A module that wanders between
/// them is held by it; see [`Guard::deserved`] for whom it does not touch.
const LOOSE: u32 = 4;

/// Bytes that a trusted proxy acknowledged of an incomplete download count for one in so many: of a module
/// that is cut again and again, a proxy takes the whole file each time.
const PROXIED: u64 = 4;

/// What a transfer cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spent {
    /// The file.
    pub content: ContentId,
    /// The version of its release; empty: not known.
    pub to: ShortVersion,
    /// Its size in bytes.
    pub size: u64,
    /// The first byte that was sent.
    pub start: u64,
    /// The bytes before this one arrived.
    pub end: u64,
    /// How it ended.
    pub outcome: Outcome,
}

/// What speaks against one content, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Against {
    /// The content.
    pub content: ContentId,
    /// Held until then; `None`: not held now.
    pub until: Option<Stamp>,
    /// Times that it came back with the version unchanged.
    pub reverts: u32,
    /// Bytes that it got.
    pub sent: u64,
}

/// Is it a record of this unit, in this network?
fn is_own(record: &Record, who: &Requester) -> bool {
    record.identity_without_version == who.identity_without_version
        && record.coarse_network == who.coarse_network
}

/// All that the guard remembers.
#[derive(Debug)]
pub struct Guard {
    attempts: u32,
    capacity: usize,
    records: Table<DeviceId, Vec<Record>>,
    /// All records in the order in which they may be dropped: the least evidence first, then the longest
    /// unused.
    order: Turns,
    next: u64,
    /// While the journal is read: whose each unit is.
    loaded: Table<IdentityHash, DeviceId>,
    /// What the journal is still to be told.
    changes: Vec<JournalEntry>,
}

impl Guard {
    /// Nothing against anybody. `attempts` at one content are free (at least one); so many records at
    /// most.
    pub fn new(attempts: u32, capacity: usize) -> Guard {
        Guard {
            attempts: attempts.max(1),
            capacity: capacity.max(PER_ID),
            records: Table::default(),
            order: Turns::default(),
            next: 0,
            loaded: Table::default(),
            changes: Vec::new(),
        }
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// None at all.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// What this device is not to be offered, if it asks now from byte 0.
    pub fn held(&self, who: &Requester, asks: Asks, now: Stamp) -> Looping {
        let mut looping = Looping::default();
        let own = self
            .of(who.device)
            .iter()
            .filter(|record| is_own(record, who));
        for record in own {
            let Judged::Record { after, counted } = record.judge(who, asks, self.attempts, now)
            else {
                continue;
            };
            let held = after.is_held(now)
                || self.deserved(who.device, &after) > after.level
                || counted && after.is_frequent(self.attempts, now);
            if held {
                looping.add(after.content, after.is_extreme(now));
            }
        }
        looping
    }

    /// The device asks from byte 0, and is offered this content. To be called after [`Guard::held`] and
    /// the decision. Returns contents that were offered though they would be held from a device that
    /// `allow` does not name singly.
    pub fn came_back(
        &mut self,
        who: &Requester,
        asks: Asks,
        offered: Option<ContentId>,
        now: Stamp,
    ) -> Vec<Against> {
        let (mut over, mut changed) = (Vec::new(), Vec::new());
        let own = self
            .of(who.device)
            .iter()
            .filter(|record| is_own(record, who));
        for record in own {
            match record.judge(who, asks, self.attempts, now) {
                Judged::Over => over.push(record.turn),
                Judged::Record { mut after, counted } => {
                    let deserved = self.deserved(who.device, &after);
                    let is_due =
                        deserved > after.level || counted && after.is_frequent(self.attempts, now);
                    let is_spared = is_due && offered == Some(after.content);
                    if is_due && !is_spared && !after.is_held(now) {
                        let at = usize::try_from(deserved.saturating_sub(1)).unwrap_or(usize::MAX);
                        let [shortest, .., longest] = HOLDS;
                        let hold = match deserved > after.level {
                            true => HOLDS.get(at).copied().unwrap_or(longest),
                            false => shortest,
                        };
                        after.level = after.level.max(deserved);
                        after.held_until = Some(now.plus(hold));
                    }
                    changed.push((after, counted && is_spared));
                }
            }
        }
        let mut spared = Vec::new();
        for (after, is_spared) in changed {
            if is_spared {
                spared.push(after.against(now));
            }
            self.put(who.device, after, now);
        }
        if over.is_empty() {
            return spared;
        }
        let mut was_written = false;
        self.drop_where(who.device, |record| {
            let goes = over.contains(&record.turn);
            was_written |= goes && record.written;
            goes
        });
        if was_written {
            self.changes.push(JournalEntry::Unguarded(
                who.identity_without_version,
                who.coarse_network,
            ));
            // The line takes back all of the unit's in that network.
            let left = self.of(who.device).iter();
            let left = left.filter(|r| is_own(r, who) && r.written && r.is_worth_it());
            let left: Vec<JournalEntry> = left.map(|record| record.entry(who.device)).collect();
            self.changes.extend(left);
        }
        spared
    }

    /// The device was confirmed with this content, of which nothing is known here, and has fallen back.
    pub fn fell_back(&mut self, who: &Requester, content: ContentId, to: ShortVersion, now: Stamp) {
        let mut records = self.of(who.device).iter();
        if records.any(|record| is_own(record, who) && record.content == content) {
            return;
        }
        self.change(who, (content, to), now, |record| {
            record.began(who);
            record.falls_back(now);
        });
    }

    /// Puts a record that was changed back into its place.
    fn put(&mut self, device: DeviceId, after: Record, now: Stamp) {
        let records = self.records.get_mut(&device).into_iter().flatten();
        let turn = after.turn;
        let Some(record) = records.into_iter().find(|record| record.turn == turn) else {
            return;
        };
        if record.notable() == after.notable() && record.reached == after.reached {
            let redirected = after.redirected;
            record.redirected = redirected;
            return;
        }
        let before = record.notable();
        *record = after;
        record.turn = Turn {
            class: record.rank(),
            used: now,
            number: turn.number,
        };
        if record.is_worth_it() && !(record.written && before == record.notable()) {
            record.written = true;
            self.changes.push(record.entry(device));
        }
        let new = record.turn;
        self.order.change(turn, new, device.parts());
    }

    /// Bytes of a content went to the device.
    pub fn spent(&mut self, who: &Requester, spent: Spent, now: Stamp) {
        let whole = spent.outcome == Outcome::Whole;
        let bytes = match spent.outcome {
            Outcome::Whole | Outcome::Incomplete { proxied: false } => {
                spent.end.saturating_sub(spent.start)
            }
            // A proxy takes far more than it can pass on.
            Outcome::Incomplete { proxied: true } => {
                spent.end.saturating_sub(spent.start) / PROXIED
            }
            Outcome::Sent => 0,
        };
        let has_all = matches!(spent.outcome, Outcome::Whole | Outcome::Sent);
        if bytes == 0 && !has_all {
            return;
        }
        if has_all {
            // From now on the old version may be this one's doing.
            let records = self.records.get_mut(&who.device).into_iter().flatten();
            for record in records.filter(|r| is_own(r, who) && r.content != spent.content) {
                record.confirmed = None;
            }
        }
        self.change(who, (spent.content, spent.to), now, |record| {
            record.size = spent.size;
            record.began(who);
            record.tally.sent = record.tally.sent.saturating_add(bytes);
            if spent.start <= record.reached {
                record.reached = record.reached.max(spent.end);
            }
            // All of it, not the last byte alone: that would be evidence for nothing.
            if has_all && record.reached >= spent.size {
                record.delivered = Some(now);
                record.by_proxy = !whole;
                (record.confirmed, record.reverted) = (None, false);
            }
        });
    }

    /// The device was sent elsewhere for a content of the release `to`. It is an attempt when it comes
    /// back as before a minute or more later.
    pub fn redirected(
        &mut self,
        who: &Requester,
        content: ContentId,
        to: ShortVersion,
        now: Stamp,
    ) {
        self.change(who, (content, to), now, |record| {
            record.began(who);
            record.redirected.get_or_insert(now);
        });
    }

    /// Takes back all that is held against a device; how many contents were held back.
    pub fn lift(&mut self, device: DeviceId, now: Stamp) -> usize {
        let holds = self.of(device).iter().filter(|r| r.is_held(now)).count();
        let mut over = Vec::new();
        self.drop_where(device, |record| {
            if record.written {
                over.push(JournalEntry::Unguarded(
                    record.identity_without_version,
                    record.coarse_network,
                ));
            }
            true
        });
        over.dedup();
        self.changes.append(&mut over);
        holds
    }

    /// What speaks against a device, for people.
    pub fn against(&self, device: DeviceId, now: Stamp) -> Vec<Against> {
        let worth = self.of(device).iter().filter(|r| r.is_worth_it());
        worth.map(|record| record.against(now)).collect()
    }

    /// Is any content held back from this device now?
    pub fn holds(&self, device: DeviceId, now: Stamp) -> bool {
        self.of(device).iter().any(|record| record.is_held(now))
    }

    /// What the journal is to be told, since this was last asked.
    pub fn changes(&mut self) -> Vec<JournalEntry> {
        std::mem::take(&mut self.changes)
    }

    /// A record out of the journal. Its size is not known until [`Guard::sizes`] or a transfer says it.
    pub fn load(&mut self, entry: &GuardEntry) {
        let who = (
            entry.identity_without_version,
            entry.coarse_network,
            IdentityHash(entry.version),
        );
        let same = |record: &Record| {
            (
                record.identity_without_version,
                record.coarse_network,
                record.content,
            ) == (
                entry.identity_without_version,
                entry.coarse_network,
                entry.content,
            )
        };
        self.drop_where(entry.device, same);
        self.loaded
            .insert(entry.identity_without_version, entry.device);
        let key = (entry.content, ShortVersion::of(&entry.to));
        self.change_at(entry.device, who, key, entry.used, |record| {
            record.tally = Tally {
                reverts: entry.reverts,
                redirects: entry.redirects,
                sent: entry.sent,
            };
            record.level = entry.level;
            record.held_until = entry.held_until;
            record.delivered = entry.delivered;
            record.by_proxy = entry.by_proxy;
            record.redirected = entry.redirected;
            record.confirmed = entry.confirmed;
            record.reverted = entry.reverted;
            record.rounds.clone_from(&entry.rounds);
            record.from = ShortVersion::of(&entry.from);
            record.before = IdentityHash(entry.before);
            record.written = true;
        });
        self.changes.clear();
    }

    /// The journal says that nothing speaks against it any more. For loading alone.
    pub fn unload(
        &mut self,
        identity_without_version: IdentityHash,
        coarse_network: CoarseNetwork,
    ) {
        if let Some(device) = self.loaded.get(&identity_without_version).copied() {
            self.drop_where(device, |record| {
                record.identity_without_version == identity_without_version
                    && record.coarse_network == coarse_network
            });
        }
    }

    /// The journal has been read.
    pub fn all_loaded(&mut self) {
        self.loaded = Table::default();
    }

    /// Sets the sizes of records out of the journal.
    pub fn sizes(&mut self, size: impl Fn(ContentId) -> Option<u64>) {
        for (device, records) in &mut self.records {
            for record in records.iter_mut().filter(|record| record.size == 0) {
                record.size = size(record.content).unwrap_or(0);
                // What its bytes are worth shows only now.
                let old = record.turn;
                record.turn.class = record.rank();
                self.order.change(old, record.turn, device.parts());
            }
        }
    }

    /// Some records for the journal, from the number `from` on, and where the next begin.
    pub fn records(&self, from: u64, most: usize) -> (Vec<JournalEntry>, Option<u64>) {
        // In the order of their numbers, which never change while nothing happens to them; what changes
        // meanwhile is written anyhow.
        let all = self
            .records
            .iter()
            .flat_map(|(device, records)| records.iter().map(move |r| (r.turn.number, *device, r)))
            .filter(|(number, _, record)| *number >= from && record.is_worth_it());
        let mut all: Vec<_> = all.collect();
        order::sort_by(&mut all, |(one, ..), (other, ..)| one.cmp(other));
        let next = all.get(most).map(|(number, ..)| *number);
        let some = all.into_iter().take(most);
        (some.map(|(_, device, r)| r.entry(device)).collect(), next)
    }

    fn of(&self, device: DeviceId) -> &[Record] {
        self.records.get(&device).map_or(&[], Vec::as_slice)
    }

    /// How often a record is worth a hold by now: by itself, or by all that the id costs wherever it asks
    /// from. The latter is what a forger can bring about from elsewhere, so it only touches a record that
    /// has evidence of its own: a device that takes its update at the first or second try has none.
    fn deserved(&self, device: DeviceId, record: &Record) -> u32 {
        let own = record.tally;
        let alone = own.holds(record.size, self.attempts);
        if own.reverts == 0 && own.redirects < 2 && !record.was_sent_twice() {
            return alone;
        }
        let same = |r: &&Record| r.content == record.content && r.version == record.version;
        let others = self.of(device).iter().filter(same);
        let others = others.filter(|other| other.turn.number != record.turn.number);
        // A redirect costs nothing, so it counts in its own network alone.
        let sum = others.fold(own, |sum, other| Tally {
            reverts: sum.reverts.saturating_add(other.tally.reverts),
            redirects: 0,
            sent: sum.sent.saturating_add(other.tally.sent),
        });
        let loose = Tally {
            reverts: sum.reverts / LOOSE,
            redirects: 0,
            sent: sum.sent / u64::from(LOOSE),
        };
        alone.max(loose.holds(record.size, self.attempts))
    }

    fn change(
        &mut self,
        who: &Requester,
        what: (ContentId, ShortVersion),
        now: Stamp,
        change: impl FnOnce(&mut Record),
    ) {
        let key = (
            who.identity_without_version,
            who.coarse_network,
            who.identity,
        );
        self.change_at(who.device, key, what, now, change);
    }

    /// Changes a record, or makes it, and notes what the journal is to know.
    fn change_at(
        &mut self,
        device: DeviceId,
        (identity_without_version, coarse_network, version): (
            IdentityHash,
            CoarseNetwork,
            IdentityHash,
        ),
        (content, to): (ContentId, ShortVersion),
        now: Stamp,
        change: impl FnOnce(&mut Record),
    ) {
        self.next = self.next.wrapping_add(1);
        let number = self.next;
        let own = |record: &Record| {
            record.identity_without_version == identity_without_version
                && record.coarse_network == coarse_network
        };
        let known = self
            .of(device)
            .iter()
            .any(|r| own(r) && r.content == content);
        if !known {
            self.make_room(device, own);
            let turn = Turn {
                class: 0,
                used: now,
                number,
            };
            self.order.insert(turn, device.parts());
            self.records.entry(device).or_default().push(Record {
                identity_without_version,
                coarse_network,
                content,
                version,
                size: 0,
                tally: Tally::default(),
                reached: 0,
                level: 0,
                held_until: None,
                delivered: None,
                by_proxy: false,
                redirected: None,
                confirmed: None,
                reverted: false,
                rounds: Vec::new(),
                from: ShortVersion::default(),
                to,
                before: IdentityHash::default(),
                written: false,
                turn,
            });
        }
        let records = self.records.get_mut(&device).into_iter().flatten();
        let Some(record) = records.into_iter().find(|r| own(r) && r.content == content) else {
            return;
        };
        let before = record.notable();
        if to != ShortVersion::default() {
            record.to = to;
        }
        change(record);
        let old = record.turn;
        // Its number stays as long as its line does: what walks through the records by number then
        // neither misses nor repeats it.
        record.turn = Turn {
            class: record.rank(),
            used: now,
            number: old.number,
        };
        if record.is_worth_it() && !(record.written && before == record.notable()) {
            record.written = true;
            self.changes.push(record.entry(device));
        }
        let new = record.turn;
        self.order.change(old, new, device.parts());
    }

    /// Makes room for one more record of this device, which `own` says are of the same network and so on.
    fn make_room(&mut self, device: DeviceId, own: impl Fn(&Record) -> bool) {
        let records = self.of(device);
        let of_its_own = || records.iter().filter(|r| own(r)).map(|r| r.turn);
        let gone = if of_its_own().count() >= CONTENTS {
            // The longest unused, whatever speaks against it: if the least evidence went first, contents
            // that take turns beside enough held ones would push each other out for ever.
            of_its_own().min_by_key(|turn| (turn.used, turn.number))
        } else if records.len() >= PER_ID {
            records.iter().map(|r| r.turn).min()
        } else {
            None
        };
        if let Some(turn) = gone {
            self.drop_where(device, |record| record.turn == turn);
        }
        while self.order.len() >= self.capacity {
            let Some((turn, whose)) = self.order.first() else {
                return;
            };
            self.order.remove(turn);
            self.drop_where(DeviceId::of_parts(whose), |record| record.turn == turn);
        }
    }

    fn drop_where(&mut self, device: DeviceId, mut is_it: impl FnMut(&Record) -> bool) {
        let Some(records) = self.records.get_mut(&device) else {
            return;
        };
        let order = &mut self.order;
        records.retain(|record| {
            let goes = is_it(record);
            if goes {
                order.remove(record.turn);
            }
            !goes
        });
        if records.is_empty() {
            self.records.remove(&device);
        }
    }
}

#[cfg(test)]
mod tests;
