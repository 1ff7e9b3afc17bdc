//! The remembered devices, and the update progress of each (docs/hazards.md 18 and 19). Pure: the time comes with each
//! call, and entries for the journal wait in a queue ([`Devices::take`]).
//!
//! Anyone can invent ids, two hundred thousand a minute. Therefore a new device is on probation: it is not in the
//! journal, and is evicted first. It is established by a second sighting ten minutes later, a whole download, a GetN
//! with a valid upgrade id, or the list of known devices. After that it is evicted only after a long absence.
//!
//! Devices on probation may use all slots that established ones leave, and at least a tenth of the table. With a fixed
//! tenth, a larger fleet that sends checks once a day would never be established, because each device would be evicted
//! before its second sighting.

mod above;
mod census;
mod load;
mod progress;
mod record;
mod search;
mod shared;
#[cfg(feature = "operator")]
mod steps;
mod sweep;
mod table;
#[cfg(test)]
mod tests;
mod transfers;
mod versions;
mod views;

pub use self::progress::RESULTS;
use self::record::{DeviceRecord, Rank};
use self::sweep::Sweep;
use self::table::DeviceTable;
use super::clock::Stamp;
use super::entry::{JournalEntry, Priority, StageEntry};
use super::network::Network;
use super::notices::{Notice, NoticeKind};
use super::profiles::{Profile, Profiles};
use super::progress::{State, TargetId};
use super::releases::{ProjectId, Releases};
use super::shared::Shared;
use super::short_version::ShortVersion;
use crate::decision::{Check, Verdict};
use crate::firmware::ContentId;
use crate::firmware::audience::DeviceId;
use crate::firmware::catalog::Catalog;

pub use self::above::{Above, AboveWalk};
pub use self::census::{ESTABLISHED, EstablishedWalk};
pub use self::search::{DeviceColumn, DeviceOrder, DevicePlace, DeviceSearch};
#[cfg(feature = "operator")]
pub use self::steps::{StepView, StepsView};
pub use self::transfers::DeviceTransfer;
pub use self::versions::VersionWalk;
#[cfg(feature = "operator")]
pub use self::views::{CheckWithoutId, ProjectDevice};

const HOUR: u32 = 60 * 60;
const DAY: u32 = 24 * HOUR;

/// Time within which several checks of one device count as one visit, in seconds.
const VISIT: u32 = 60;

/// Longest interval between checks that is counted, in seconds.
const MAX_INTERVAL: u32 = 30 * DAY;

/// Time after which a second sighting ends the probation, in seconds.
const PROBATION: u32 = 10 * 60;

/// Absence after which an established device may be evicted, in seconds. Three of its intervals must have passed, too.
const STALE_AFTER: u32 = 7 * DAY;

/// Number of established devices, the first in eviction order, among which a stale one is searched.
const CANDIDATES: usize = 8;

/// Largest burst of devices that second sightings establish, and the rate per second.
const MAX_PROMOTIONS: u32 = 1000;
const PROMOTIONS_A_SECOND: u32 = 50;

/// The remembered devices.
#[derive(Debug)]
pub struct Devices {
    table: DeviceTable,
    /// The releases that devices were offered.
    releases: Releases,
    /// The statements of the devices besides id and version.
    profiles: Profiles,
    max: usize,
    /// Start of this run. The server received no check before it in this run.
    began: Stamp,
    /// Seconds before `began` in which no server ran.
    downtime: u32,
    promotions: Promotions,
    sweep: Sweep,
    #[cfg(feature = "operator")]
    steps: self::steps::StepRing,
    queue: Vec<(JournalEntry, Priority)>,
    notices: Vec<Notice>,
    /// Numbers of updates that ended in the states of [`RESULTS`].
    results: [u64; RESULTS.len()],
    /// State that is shared with other servers; `None`: nothing is shared.
    shared: Option<Box<Shared>>,
}

/// Rate limit of devices that are established by a second sighting.
#[derive(Debug)]
struct Promotions {
    left: u32,
    at: Stamp,
}

impl Promotions {
    fn take(&mut self, now: Stamp) -> bool {
        let more = now.since(self.at).saturating_mul(PROMOTIONS_A_SECOND);
        self.at = now;
        self.left = self.left.saturating_add(more).min(MAX_PROMOTIONS);
        let may = self.left > 0;
        self.left -= u32::from(may);
        may
    }
}

/// A check from the beginning of a file.
#[derive(Clone, Copy, Debug)]
pub struct Sighting<'a> {
    /// The device.
    pub device: DeviceId,
    /// The network from which the check comes.
    pub network: Network,
    /// The check.
    pub check: &'a Check<'a>,
    /// The reply to the check.
    pub verdict: &'a Verdict<'a>,
    /// Whether the device is in the list of known devices.
    pub listed: bool,
    /// Whether the check comes by packets from the source port of the device's last download.
    pub same_session: bool,
    /// Whether the rules offer the reported version to devices that run the version that this device ran before.
    pub is_given: bool,
}

/// A device that was confirmed and reports its old version within a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fallback {
    /// The content that the device received.
    pub content: ContentId,
    /// The version of the release.
    pub to: ShortVersion,
}

impl Devices {
    /// Creates an empty table for at most `max` devices. The run begins at `now`.
    pub fn new(max: usize, now: Stamp) -> Devices {
        Devices {
            table: DeviceTable::default(),
            releases: Releases::default(),
            profiles: Profiles::default(),
            // Slot numbers have 32 bits.
            max: max.min(1 << 30),
            began: now,
            downtime: 0,
            promotions: Promotions {
                left: MAX_PROMOTIONS,
                at: now,
            },
            sweep: Sweep::default(),
            #[cfg(feature = "operator")]
            steps: Default::default(),
            queue: Vec::new(),
            notices: Vec::new(),
            results: Default::default(),
            shared: None,
        }
    }

    /// Number of remembered devices.
    pub fn len(&self) -> usize {
        self.table.len(Rank::Established) + self.table.len(Rank::Probation)
    }

    /// Whether no device is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of established devices.
    pub fn established(&self) -> usize {
        self.table.len(Rank::Established)
    }

    /// Whether a device is remembered and not on probation.
    pub fn is_established(&self, device: DeviceId) -> bool {
        let record = self.table.device(device);
        record.is_some_and(DeviceRecord::is_established)
    }

    /// Whether a device may try a release that the fuse has paused. The device must be in the list of known devices, or
    /// be established and have been seen over at least an hour.
    pub fn may_try(&self, device: DeviceId, listed: bool) -> bool {
        let was_seen_for_an_hour = |record: &DeviceRecord| {
            record.is_established() && record.last.since(record.first) >= HOUR
        };
        listed || self.table.device(device).is_some_and(was_seen_for_an_hour)
    }

    /// Whether a device is remembered.
    pub fn knows(&self, device: DeviceId) -> bool {
        self.table.find(device).is_some()
    }

    /// The releases that devices were offered.
    pub fn releases(&self) -> &Releases {
        &self.releases
    }

    /// The releases that devices were offered, for changes by the fuse.
    pub fn releases_mut(&mut self) -> &mut Releases {
        &mut self.releases
    }

    /// Takes the entries that wait for the journal, oldest first.
    pub fn take(&mut self) -> impl Iterator<Item = (JournalEntry, Priority)> {
        self.queue.drain(..)
    }

    /// Takes the notices that are queued, oldest first.
    pub fn notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// Records a check in an existing project. Returns the release from which the device has just fallen back.
    pub fn record_check(&mut self, sighting: Sighting<'_>, now: Stamp) -> Option<Fallback> {
        let (device, check) = (sighting.device, sighting.check);
        let project = self.releases.intern_project(check.project())?;
        let known = self.table.find(device);
        let slot = match known {
            Some(slot) => slot,
            None => self.admit(device, &check.device_text, project, now)?,
        };
        let record = self.table.get_mut(slot)?;
        self.sweep.restart();
        let before = *record;
        if known.is_some() && before.last >= self.began {
            record.interval = interval(before.interval, now.since(before.last));
        }
        record.last = now;
        record.version = ShortVersion::of(&check.version);
        let on_probation = !before.is_established();
        let profile = self
            .profiles
            .replace(before.profile, Profile::of(check), on_probation);
        record.profile = profile;
        self.set_project(slot, project);
        self.table.touch(slot, before.rank);
        #[cfg(feature = "operator")]
        if known.is_some() {
            self.note_version(slot, before.version, now);
        }
        self.adopt_outcome(slot, check, now);
        let fallback = self.apply_check(slot, &sighting, now);
        self.begin_update(slot, &sighting, now);
        #[cfg(feature = "operator")]
        self.note_verdict(slot, sighting.verdict, now);
        if on_probation {
            let again = now.since(before.first) >= PROBATION;
            if sighting.listed || again && self.promotions.take(now) {
                self.promote(slot, now);
            }
            return fallback;
        }
        let is_queued = self.queue.iter().any(
            |(entry, _)| matches!(entry, JournalEntry::Device(queued) if queued.device == device),
        );
        if is_queued {
            return fallback;
        }
        let record = self.table.get(slot)?;
        if (record.version, record.project) != (before.version, before.project) {
            self.queue_entry(slot, Priority::Major);
        } else if profile != before.profile || day(device, before.last) != day(device, now) {
            self.queue_entry(slot, Priority::Seen);
        }
        fallback
    }

    /// Adds a device on probation. `text` is its id as the device writes it. Returns `None` if there is no free slot.
    fn admit(
        &mut self,
        device: DeviceId,
        text: &str,
        project: ProjectId,
        now: Stamp,
    ) -> Option<u32> {
        let room = self.max.saturating_sub(self.table.len(Rank::Established));
        while self.table.len(Rank::Probation) >= room {
            let first = self.table.in_order(Rank::Probation).next()?;
            self.forget(first);
        }
        let record = DeviceRecord::new(device, text, project, now);
        self.releases.count_project(None, Some(project));
        Some(self.table.insert(record, Rank::Probation, text))
    }

    /// Largest number of devices that may be established. A tenth of the table is reserved for the others.
    fn most_established(&self) -> usize {
        self.max - self.max.div_ceil(10)
    }

    /// Establishes a device, if there is a free slot for it.
    fn promote(&mut self, slot: u32, now: Stamp) {
        if self.table.len(Rank::Established) >= self.most_established() {
            let Some(stale) = self.stale(now) else { return };
            if let Some(&record) = self.table.get(stale) {
                let forgotten = JournalEntry::Forgotten(record.device);
                self.queue.push((forgotten, Priority::Major));
                let progress = record.progress;
                let last = progress.filter(|progress| progress.state == State::Confirmed);
                let last = last.map(|progress| progress.target);
                for target in last.into_iter().chain(record.confirmed) {
                    self.retire(target);
                }
            }
            self.forget(stale);
        }
        self.table.touch(slot, Rank::Established);
        self.queue_entry(slot, Priority::Major);
        let Some(&record) = self.table.get(slot) else {
            return;
        };
        let progress = record.progress;
        if let Some(progress) = progress.filter(|progress| progress.state == State::Confirmed) {
            let text = self.table.text(slot, &record);
            self.notice_confirmed(&text, progress.target, now);
        }
    }

    /// Returns an established device that may be evicted.
    fn stale(&self, now: Stamp) -> Option<u32> {
        let mut candidates = self.table.in_order(Rank::Established).take(CANDIDATES);
        candidates.find(|slot| {
            self.table.get(*slot).is_some_and(|record| {
                let mut absent = now.since(record.last);
                if record.last < self.began {
                    // The device could not be seen while no server ran.
                    absent = absent.saturating_sub(self.downtime);
                }
                absent > STALE_AFTER.max(record.interval.saturating_mul(3))
            })
        })
    }

    fn forget(&mut self, slot: u32) {
        self.put_progress(slot, None);
        self.set_confirmed(slot, [TargetId::NONE; 3]);
        if let Some(record) = self.table.remove(slot) {
            self.releases.count_project(Some(record.project), None);
            self.profiles.leave(record.profile);
        }
    }

    /// Changes the project of a device, and updates the projects' numbers of devices.
    fn set_project(&mut self, slot: u32, project: ProjectId) {
        if let Some(record) = self.table.get_mut(slot)
            && record.project != project
        {
            self.releases
                .count_project(Some(record.project), Some(project));
            record.project = project;
        }
    }

    /// Applies a new catalogue. Returns the first stages of contents, which must be given to the journal at once.
    pub fn catalog(&mut self, catalog: &Catalog, now: Stamp) -> Vec<StageEntry> {
        let changes = self.releases.catalog(catalog, now);
        for release in &changes.added {
            let (project, version) = (&release.project, &release.version);
            let notice = Notice::new(NoticeKind::ReleaseFound, project, version, "");
            self.notices.push(notice);
        }
        let added = changes.added.into_iter().map(JournalEntry::Release);
        self.queue.extend(added.map(|new| (new, Priority::Major)));
        for release in changes.resumed {
            self.forget_reverts(release);
        }
        changes.stages
    }

    /// Queues the entry of an established device for the journal.
    fn queue_established(&mut self, slot: u32) {
        let record = self.table.get(slot);
        if record.is_some_and(DeviceRecord::is_established) {
            self.queue_entry(slot, Priority::Major);
        }
    }

    /// Queues the entry of a device for the journal, once, with at most the priority `most`.
    fn queue_entry(&mut self, slot: u32, most: Priority) {
        let Some(entry) = self.entry(slot) else {
            return;
        };
        let device = entry.device;
        let entry = JournalEntry::Device(entry);
        let priority = entry.priority().min(most);
        let mut last = self.queue.iter_mut().rev().take(4);
        let queued = last.find(
            |(queued, _)| matches!(queued, JournalEntry::Device(other) if other.device == device),
        );
        match queued {
            Some((queued, kept)) => {
                *queued = entry;
                *kept = priority.max(*kept);
            }
            None => self.queue.push((entry, priority)),
        }
    }
}

/// Returns the interval between a device's checks after one more gap, as a moving average.
fn interval(known: u32, gap: u32) -> u32 {
    if gap < VISIT {
        return known;
    }
    let gap = gap.min(MAX_INTERVAL);
    match known {
        0 => gap,
        known => known.saturating_mul(3).saturating_add(gap) / 4,
    }
}

/// Returns the number of a day. It begins at a different time for each device, so that not all entries are written at
/// the same midnight.
fn day(device: DeviceId, moment: Stamp) -> u32 {
    let (_, id) = device.parts();
    let own = (id % u64::from(DAY)) as u32;
    moment.plus(own).0 / DAY
}
