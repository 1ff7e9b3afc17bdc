//! The devices that asked, and where each stands on its way (docs/hazards.md 18 and 19). Pure: the time comes
//! with each call, and what the journal should know waits in a list ([`Devices::take`]).
//!
//! Anyone can invent ids, two hundred thousand a minute. So a new one is on probation: not in the
//! journal, and the first to go when the table is full. It is established by being seen again ten
//! minutes later, by fetching a whole file, by a GetN with a good upgrade id, or by standing in the list
//! of known devices; and once it is, only its own long absence makes it leave.
//!
//! What would surprise you: whoever is on probation may use all the room that the established leave, a
//! tenth of the table at least. With a fixed tenth, a fleet larger than that which asks once a day would
//! never be established: each device would be gone before it is seen again.

mod above;
mod census;
mod index;
mod load;
mod record;
mod show;
mod table;
#[cfg(test)]
mod tests;
mod texts;
mod transfers;

use self::record::{Kind, Rank, Record};
use self::table::Table;
use self::texts::Texts;
use super::clock::Stamp;
use super::entry::{JournalEntry, Priority, ReleaseEntry};
use super::journey::{Circumstances, Journey, Outcome, State, TargetId};
use super::network::{CoarseNetwork, Network};
use super::profiles::{Profile, Profiles};
use super::releases::{ProjectId, Releases};
use super::short_version::ShortVersion;
use crate::decision::{Back, Check, Offer, Verdict, came_back};
use crate::firmware::ContentId;
use crate::firmware::audience::DeviceId;
use crate::firmware::catalog::Catalog;

pub use self::above::Above;
pub use self::census::ESTABLISHED;
pub use self::show::Beside;
pub use self::transfers::DeviceTransfer;

const HOUR: u32 = 60 * 60;
const DAY: u32 = 24 * HOUR;

/// Checks of one device that are closer together than this are one visit, in seconds.
const VISIT: u32 = 60;

/// The longest interval between checks that is believed, in seconds.
const LONGEST_INTERVAL: u32 = 30 * DAY;

/// A device that is seen again after this is no longer on probation, in seconds.
const PROBATION: u32 = 10 * 60;

/// An established device is stale when it was not seen for so long, and for three of its intervals.
const STALE: u32 = 7 * DAY;

/// Of the established that were not seen for longest, so many are looked at for a stale one.
const CANDIDATES: usize = 8;

/// Records that one call of [`Devices::sweep_silent`] looks at.
const ROUND: u32 = 2000;

/// Devices that may be established by a second sighting at once, and a second.
const PROMOTIONS: u32 = 1000;
const PROMOTIONS_A_SECOND: u32 = 50;

/// The devices.
#[derive(Debug)]
pub struct Devices {
    table: Table,
    /// The text of ids from whose number it does not follow, by slot.
    texts: Texts,
    /// What they are on their way to.
    targets: Releases,
    /// What they state of themselves.
    profiles: Profiles,
    max: usize,
    /// When this run began: nobody was waited for before.
    began: Stamp,
    /// How long nothing was listening before that, in seconds.
    downtime: u32,
    promotions: Promotions,
    round: Round,
    out: Vec<(JournalEntry, Priority)>,
}

/// How far [`Devices::sweep_silent`] is.
#[derive(Debug, Default)]
struct Round {
    /// Where it goes on.
    at: u32,
    /// Something has changed since it began.
    changed: bool,
    /// Of those that it has seen, when the first will be silent.
    soonest: Option<Stamp>,
    /// It has come round and nothing has changed since it began: nobody is silent before `soonest`.
    settled: bool,
}

impl Round {
    /// A record is another now, and may have been passed already.
    fn unsettle(&mut self) {
        (self.changed, self.settled) = (true, false);
    }

    /// When it must go on; `None`: not before something changes.
    fn due(&self) -> Option<Stamp> {
        match self.settled {
            true => self.soonest,
            false => Some(Stamp::default()),
        }
    }
}

/// How many devices may still be established by a second sighting.
#[derive(Debug)]
struct Promotions {
    left: u32,
    at: Stamp,
}

impl Promotions {
    fn take(&mut self, now: Stamp) -> bool {
        let more = now.since(self.at).saturating_mul(PROMOTIONS_A_SECOND);
        self.at = now;
        self.left = self.left.saturating_add(more).min(PROMOTIONS);
        let may = self.left > 0;
        self.left = self.left.saturating_sub(1);
        may
    }
}

/// A device that asks, from the beginning.
#[derive(Clone, Copy, Debug)]
pub struct Sighting<'a> {
    /// The device.
    pub device: DeviceId,
    /// From where.
    pub network: Network,
    /// What.
    pub check: &'a Check<'a>,
    /// What it gets.
    pub verdict: &'a Verdict<'a>,
    /// It stands in the list of known devices.
    pub listed: bool,
    /// It comes by packets from the source port of its last download.
    pub same_session: bool,
    /// The rules give the version that it says to devices that run what it ran.
    pub is_given: bool,
}

/// A device that was confirmed and says its old version within a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fallen {
    /// The content that it got.
    pub content: ContentId,
    /// The version of the release.
    pub to: ShortVersion,
}

impl Devices {
    /// No devices, of so many at most; the run begins now.
    pub fn new(max: usize, now: Stamp) -> Devices {
        Devices {
            table: Table::default(),
            texts: Texts::default(),
            targets: Releases::default(),
            profiles: Profiles::default(),
            // So that slots are 32 bits.
            max: max.min(1 << 30),
            began: now,
            downtime: 0,
            promotions: Promotions {
                left: PROMOTIONS,
                at: now,
            },
            round: Round::default(),
            out: Vec::new(),
        }
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        let established = self.table.len(Rank::Established);
        established.saturating_add(self.table.len(Rank::Probation))
    }

    /// None at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many of them are not on probation.
    pub fn established(&self) -> usize {
        self.table.len(Rank::Established)
    }

    /// Is it remembered, and not on probation?
    pub fn is_established(&self, device: DeviceId) -> bool {
        let slot = self.table.find(device);
        let record = slot.and_then(|slot| self.table.get(slot));
        record.is_some_and(|record| record.rank == Rank::Established)
    }

    /// May it be the one that tries what the fuse has paused? It must have been there for an hour, and
    /// not on probation; or stand in the list.
    pub fn may_try(&self, device: DeviceId, listed: bool) -> bool {
        let record = self
            .table
            .find(device)
            .and_then(|slot| self.table.get(slot));
        let was_there = |record: &Record| {
            record.rank == Rank::Established && record.last.since(record.first) >= HOUR
        };
        listed || record.is_some_and(was_there)
    }

    /// Is it remembered?
    pub fn knows(&self, device: DeviceId) -> bool {
        self.table.find(device).is_some()
    }

    /// What they are on their way to.
    pub fn targets(&self) -> &Releases {
        &self.targets
    }

    /// The same, for the fuse.
    pub fn targets_mut(&mut self) -> &mut Releases {
        &mut self.targets
    }

    /// What the journal should know, oldest first.
    pub fn take(&mut self) -> impl Iterator<Item = (JournalEntry, Priority)> {
        self.out.drain(..)
    }

    /// A device asks, of a project that there is. Returns what it has fallen back from just now.
    pub fn seen(&mut self, sighting: Sighting<'_>, now: Stamp) -> Option<Fallen> {
        let project = sighting.check.project();
        let project = self.targets.intern_project(project)?;
        let device = sighting.device;
        let (slot, is_new) = match self.table.find(device) {
            Some(slot) => (slot, false),
            None => {
                let kind = Kind::of(device, &sighting.check.device_text);
                let mut record = Record::new(device, kind, project, now);
                record.set_network(sighting.network);
                let slot = self.admit(record)?;
                if kind == Kind::Other {
                    let text = &*sighting.check.device_text;
                    self.texts.insert(slot, text.into());
                }
                (slot, true)
            }
        };
        let record = self.table.get_mut(slot)?;
        self.round.unsettle();
        let before = *record;
        if !is_new && before.last >= self.began {
            record.interval = interval(before.interval, now.since(before.last));
        }
        record.last = now;
        record.version = ShortVersion::of(&sighting.check.version);
        let stated = Profile::of(sighting.check);
        let on_probation = before.rank == Rank::Probation;
        record.profile = self.profiles.replace(before.profile, stated, on_probation);
        let profile = record.profile;
        self.ask_for(slot, project);
        self.table.touch(slot, before.rank);
        let fallen = self.come_back(slot, &sighting, now);
        self.be_offered(slot, &sighting, now);
        let again = now.since(before.first) >= PROBATION;
        let promoted = before.rank == Rank::Probation
            && (sighting.listed || (again && self.promotions.take(now)))
            && self.promote(slot, now);
        if promoted {
            return fallen;
        }
        let record = self.table.get(slot)?;
        if record.rank == Rank::Established {
            let is_told = self.is_told_of(slot);
            let other = record.version != before.version || record.project != before.project;
            if !is_told && other {
                self.tell(slot, Priority::Major);
            } else if !is_told
                && (profile != before.profile || day(device, before.last) != day(device, now))
            {
                self.tell(slot, Priority::Seen);
            }
        }
        fallen
    }

    /// A place on probation for a device that is not in the table.
    fn admit(&mut self, record: Record) -> Option<u32> {
        let room = self.max.saturating_sub(self.table.len(Rank::Established));
        while self.table.len(Rank::Probation) >= room {
            let oldest = self.table.oldest(Rank::Probation)?;
            self.forget(oldest);
        }
        let slot = self.table.insert(record, Rank::Probation)?;
        self.targets.asks_for(None, Some(record.project));
        Some(slot)
    }

    /// How many may be established: the others must have a tenth.
    fn most_established(&self) -> usize {
        self.max.saturating_sub(self.max.div_ceil(10))
    }

    /// It is established from now on, if there is room for it.
    fn promote(&mut self, slot: u32, now: Stamp) -> bool {
        if self.table.len(Rank::Established) >= self.most_established() {
            let Some(stale) = self.stale(now) else {
                return false;
            };
            if let Some(&record) = self.table.get(stale) {
                let gone = JournalEntry::Forgotten(record.device());
                self.out.push((gone, Priority::Major));
                let journey = record.journey();
                let last = journey.filter(|journey| journey.state == State::Confirmed);
                for target in last
                    .map(|journey| journey.target)
                    .into_iter()
                    .chain(record.confirmed)
                {
                    self.retire(target);
                }
            }
            self.forget(stale);
        }
        self.table.touch(slot, Rank::Established);
        self.tell(slot, Priority::Major);
        true
    }

    /// An established device that may leave.
    fn stale(&self, now: Stamp) -> Option<u32> {
        let first = self.table.oldest(Rank::Established);
        std::iter::successors(first, |slot| self.table.next(*slot))
            .take(CANDIDATES)
            .find(|slot| {
                self.table.get(*slot).is_some_and(|record| {
                    let mut absent = now.since(record.last);
                    if record.last < self.began {
                        // It could not be seen while nobody looked.
                        absent = absent.saturating_sub(self.downtime);
                    }
                    absent > STALE.max(record.interval.saturating_mul(3))
                })
            })
    }

    fn forget(&mut self, slot: u32) {
        self.put_journey(slot, None);
        self.set_confirmed(slot, [TargetId::NONE; 3]);
        if let Some(record) = self.table.remove(slot) {
            self.targets.asks_for(Some(record.project), None);
            self.profiles.leave(record.profile);
        }
        self.texts.remove(slot);
    }

    /// The one place where the project of a device changes.
    fn ask_for(&mut self, slot: u32, project: ProjectId) {
        if let Some(record) = self.table.get_mut(slot)
            && record.project != project
        {
            self.targets.asks_for(Some(record.project), Some(project));
            record.project = project;
        }
    }

    /// The device is on this journey now. A release that it was confirmed with and leaves for another one stays
    /// in its record.
    fn set_journey(&mut self, slot: u32, journey: Option<Journey>) {
        let Some(record) = self.table.get(slot) else {
            return;
        };
        let (before, mut confirmed) = (record.journey(), record.confirmed);
        self.put_journey(slot, journey);
        let target = |journey: Option<Journey>| journey.map(|journey| journey.target);
        if target(before) == target(journey) {
            return;
        }
        let is_same = |one: TargetId| {
            target(journey).is_some_and(|other| self.targets.is_same_release(one, other))
        };
        let left = target(before.filter(|before| before.state == State::Confirmed));
        let left = left.filter(|left| !is_same(*left));
        // Each device stands in one state of a release.
        for place in confirmed.iter_mut().filter(|place| is_same(**place)) {
            *place = TargetId::NONE;
        }
        if let Some(left) = left {
            let is_free = |place: &TargetId| *place == TargetId::NONE;
            let at = confirmed.iter().position(is_free).unwrap_or(0);
            if let Some(rest) = confirmed.get_mut(at..) {
                rest.rotate_left(1);
            }
            let [.., last] = &mut confirmed;
            let gone = std::mem::replace(last, left);
            self.retire(gone);
        }
        self.set_confirmed(slot, confirmed);
    }

    /// The one place where the releases that a device was confirmed with change, so that the targets' numbers
    /// are always the sums.
    fn set_confirmed(&mut self, slot: u32, confirmed: [TargetId; 3]) {
        let Some(record) = self.table.get_mut(slot) else {
            return;
        };
        if record.confirmed == confirmed {
            return;
        }
        for target in std::mem::replace(&mut record.confirmed, confirmed) {
            self.targets.drop_confirmed(target);
        }
        for target in confirmed {
            self.targets.keep_confirmed(target);
        }
    }

    /// A device was confirmed with this release, and its record does not say so any more.
    fn retire(&mut self, target: TargetId) {
        if let Some(entry) = self.targets.retire_confirmed(target) {
            self.out
                .push((JournalEntry::Release(entry), Priority::Major));
        }
    }

    /// The one place where a journey changes, so that the targets' numbers are always the sums.
    fn put_journey(&mut self, slot: u32, journey: Option<Journey>) {
        if let Some(record) = self.table.get_mut(slot) {
            self.targets.moved(record.journey(), journey);
            record.set_journey(journey);
            self.round.unsettle();
        }
    }

    /// Another state, or another target: the journal hears of it.
    fn step(&mut self, slot: u32, before: Option<Journey>, after: Option<Journey>) {
        self.set_journey(slot, after);
        let place = |journey: Option<Journey>| journey.map(|j| (j.target, j.state));
        if place(before) != place(after) {
            self.tell_established(slot);
        }
    }

    /// Judges the check by the journey that the device was on.
    fn come_back(&mut self, slot: u32, sighting: &Sighting<'_>, now: Stamp) -> Option<Fallen> {
        let record = *self.table.get(slot)?;
        let Some(journey) = record.journey() else {
            self.move_to(slot, sighting.network);
            return None;
        };
        let check = Circumstances {
            same_place: is_at(&record, sighting.network),
            same_session: sighting.same_session,
            reboot_within: self.targets.reboot_within(journey.target),
            is_given: sighting.is_given,
        };
        let back = self.verdict_of(journey, &record, sighting.check);
        let after = journey.back(back, check, now);
        // Where it was delivered to is where it is believed; or one check from elsewhere would hide what the
        // device itself has to say.
        let is_awaited = !matches!(
            journey.state,
            State::Offered | State::Downloading | State::Reverted
        );
        self.step(slot, Some(journey), after);
        if check.same_place || !is_awaited {
            self.move_to(slot, sighting.network);
        }
        let has_fallen = journey.state == State::Confirmed
            && after.is_some_and(|after| after.state == State::Reverted);
        let target = self.targets.get(journey.target).filter(|_| has_fallen)?;
        Some(Fallen {
            content: target.content,
            to: ShortVersion::of(&target.version),
        })
    }

    /// The version that a device was confirmed with less than a day ago, if this check says the one before:
    /// what the rules give to that version decides whether it has fallen back.
    pub fn ran(&self, device: DeviceId, check: &Check<'_>) -> Option<ShortVersion> {
        let record = self.table.get(self.table.find(device)?)?;
        let journey = record.journey()?;
        let is_old = || self.verdict_of(journey, record, check) == Back::Old;
        (journey.state == State::Confirmed && is_old()).then_some(record.version)
    }

    /// What the device has all of and may not run yet, by `reboot_within`, if it asks this from there; with
    /// the seconds since the delivery, and `reboot_within`.
    pub fn waits(
        &self,
        device: DeviceId,
        network: Network,
        check: &Check<'_>,
        now: Stamp,
    ) -> Option<(ContentId, u32, u32)> {
        let record = self.table.get(self.table.find(device)?)?;
        let journey = record.journey()?;
        let has_all = matches!(journey.state, State::Delivered | State::Waiting);
        if !has_all || !is_at(record, network) {
            return None;
        }
        let within = self.targets.reboot_within(journey.target);
        let age = now.since(journey.since);
        let waits = age < within && self.verdict_of(journey, record, check) == Back::Old;
        let target = self.targets.get(journey.target).filter(|_| waits)?;
        Some((target.content, age, within))
    }

    fn move_to(&mut self, slot: u32, network: Network) {
        if let Some(record) = self.table.get_mut(slot) {
            record.set_network(network);
        }
    }

    fn verdict_of(&self, journey: Journey, record: &Record, check: &Check<'_>) -> Back {
        let Some(target) = self.targets.get(journey.target) else {
            return Back::Other;
        };
        if target.project != record.project {
            return Back::Other;
        }
        if !ShortVersion::holds(&check.version) && record.version == journey.from {
            return Back::Old;
        }
        came_back(journey.from.as_str(), check, &target.version)
    }

    /// It is offered something, perhaps the same as before.
    fn be_offered(&mut self, slot: u32, sighting: &Sighting<'_>, now: Stamp) {
        let Verdict::Offer(Offer {
            project,
            release,
            package,
        }) = sighting.verdict
        else {
            return;
        };
        let Some(record) = self.table.get(slot) else {
            return;
        };
        let (before, version) = (record.journey(), record.version);
        let Some(project) = self.targets.intern_project(&project.name) else {
            return;
        };
        let version_text = &release.version_text;
        let target = self
            .targets
            .intern(project, version_text, package.content, package.size, now);
        if target.is_some() && target == before.map(|journey| journey.target) {
            return;
        }
        let after = target.map(|target| Journey::offered(target, version, now));
        self.step(slot, before, after);
    }

    /// A person ends the pause of a release; `false`: the fuse has not paused it.
    pub fn resume(&mut self, project: &str, version: &str, now: Stamp) -> bool {
        let resumed = self.targets.resume(project, version, now);
        let was_paused = resumed.is_some();
        if let Some(entry) = resumed {
            self.forget_reverts(entry);
        }
        was_paused
    }

    /// What devices made of a release that a person has resumed counts no more.
    fn forget_reverts(&mut self, release: ReleaseEntry) {
        let project = self.targets.project_id(&release.project);
        for slot in 0..self.table.end() {
            let Some(journey) = self.table.get(slot).and_then(Record::journey) else {
                continue;
            };
            let target = self.targets.get(journey.target);
            let is_of = target.is_some_and(|target| {
                Some(target.project) == project && target.version == release.version
            });
            if is_of && journey.outcome.is_some_and(Outcome::is_revert) {
                let after = Journey {
                    outcome: None,
                    ..journey
                };
                self.set_journey(slot, Some(after));
            }
        }
        self.out
            .push((JournalEntry::Release(release), Priority::Major));
    }

    /// Takes over a new catalogue.
    pub fn catalog(&mut self, catalog: &Catalog, now: Stamp) {
        let changes = self.targets.catalog(catalog, now);
        let added = changes.added.into_iter().map(JournalEntry::Release);
        self.out.extend(added.map(|entry| (entry, Priority::Major)));
        for release in changes.resumed {
            self.forget_reverts(release);
        }
    }

    /// Looks at some of the devices, for those that have gone silent; each call goes on where the last
    /// one stopped. When all were seen and nothing changed, they are let be until the first can be silent.
    pub fn sweep_silent(&mut self, now: Stamp) {
        if self.due().is_none_or(|due| now < due) {
            return;
        }
        let end = self.table.end();
        let from = if self.round.at < end {
            self.round.at
        } else {
            0
        };
        let until = from.saturating_add(ROUND).min(end);
        if from == 0 {
            self.round = Round::default();
        }
        self.round.at = until;
        for slot in from..until {
            let Some(record) = self.table.get(slot) else {
                continue;
            };
            let Some(journey) = record.journey() else {
                continue;
            };
            let reboot_within = self.targets.reboot_within(journey.target);
            let Some(patience) = journey.patience(record.interval, reboot_within) else {
                continue;
            };
            let last = record.last.max(journey.since).max(self.began);
            let after = journey.waited(now.since(last), record.interval, reboot_within, now);
            if after != journey {
                self.step(slot, Some(journey), Some(after));
            } else {
                let silent = last.plus(patience).plus(1);
                let soonest = self.round.soonest.unwrap_or(silent);
                self.round.soonest = Some(soonest.min(silent));
            }
        }
        if until == end {
            self.round.settled = !self.round.changed;
        }
    }

    /// When [`Devices::sweep_silent`] has something to do; `None`: not before something changes.
    pub fn due(&self) -> Option<Stamp> {
        self.round.due()
    }

    fn tell_established(&mut self, slot: u32) {
        let is_established = |record: &Record| record.rank == Rank::Established;
        if self.table.get(slot).is_some_and(is_established) {
            self.tell(slot, Priority::Major);
        }
    }

    /// Queues the device's entry for the journal, once, with at most this priority.
    fn tell(&mut self, slot: u32, most: Priority) {
        let Some(entry) = self.entry(slot) else {
            return;
        };
        let device = entry.device;
        let entry = JournalEntry::Device(entry);
        let priority = entry.priority().min(most);
        let mut last = self.out.iter_mut().rev().take(4);
        let is_of = |queued: &JournalEntry| matches!(queued, JournalEntry::Device(other) if other.device == device);
        match last.find(|(queued, _)| is_of(queued)) {
            Some((queued, kept)) => {
                *queued = entry;
                *kept = priority.max(*kept);
            }
            None => self.out.push((entry, priority)),
        }
    }

    fn is_told_of(&self, slot: u32) -> bool {
        let Some(record) = self.table.get(slot) else {
            return false;
        };
        let device = record.device();
        self.out.iter().any(
            |(entry, _)| matches!(entry, JournalEntry::Device(entry) if entry.device == device),
        )
    }
}

/// Is this where the device was last seen, or delivered to?
fn is_at(record: &Record, network: Network) -> bool {
    let known = record.network();
    known.is_none_or(|known| CoarseNetwork::from(known) == CoarseNetwork::from(network))
}

/// The interval between a device's checks, after one more gap.
fn interval(known: u32, gap: u32) -> u32 {
    if gap < VISIT {
        return known;
    }
    let gap = gap.min(LONGEST_INTERVAL);
    match known {
        0 => gap,
        known => known.saturating_mul(3).saturating_add(gap) / 4,
    }
}

/// A day of a device's own, so that not all are written at the same midnight.
fn day(device: DeviceId, moment: Stamp) -> u32 {
    let (DeviceId::Imei(id) | DeviceId::Mac(id) | DeviceId::Other(id)) = device;
    let own = (id % u64::from(DAY)) as u32;
    moment.plus(own).0 / DAY
}
