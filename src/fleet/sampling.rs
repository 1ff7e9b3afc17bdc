//! Takes the samples of the [`history`](super::history), writes them to the journal and loads them from it.

use std::collections::HashSet;
use std::time::Instant;

use super::Fleet;
use super::clock::Stamp;
use super::devices::VersionWalk;
use super::entry::{JournalEntry, Priority, SampleChange, SampleEntry};
use super::history::{Counted, History, VersionCounts, VersionKey};
use super::releases::ProjectId;
use super::short_version::ShortVersion;
use crate::firmware::audience::DeviceId;

/// Number of device slots that are examined in one tick: about 2 ms of work.
const SAMPLE_SLOTS: u32 = 32_768;

/// New counts of one version.
type Change = (VersionKey, VersionCounts);

impl Fleet {
    /// Takes a sample for the history at the beginning of each hour. The walk over the devices may take several ticks.
    pub(super) fn sample(&mut self, now: Stamp, unix: i64) {
        let is_due = self.history.advance(now, unix);
        let begun = self.walk.take();
        let Some(mut walk) = begun.or_else(|| is_due.then(VersionWalk::default)) else {
            return;
        };
        if !self.devices.walk_versions(&mut walk, SAMPLE_SLOTS) {
            self.walk = Some(walk);
            return;
        }
        if self.history.drop_future(unix) {
            log::warn!(
                target: "history",
                "the machine's clock has been behind for more than a day: the counts of later times are dropped"
            );
            self.journal.rewrite();
        }
        let counted = self.count_versions(&walk, now);
        let Some((hour, changes)) = self.history.take(unix, counted) else {
            return;
        };
        for change in std::iter::once(None).chain(changes.into_iter().map(Some)) {
            if let Some(entry) = self.sample_entry(hour, false, change) {
                self.journal.write_later(&entry, Priority::Major);
            }
        }
    }

    /// Counts of all versions. `walk`: the number of devices that run each.
    fn count_versions(&self, walk: &VersionWalk, now: Stamp) -> Counted {
        let mut counted = Counted::new();
        for (key, devices) in &walk.running {
            counted.entry(*key).or_default().running = *devices;
        }
        for (project, version, states) in self.releases().all_counts() {
            let version = ShortVersion::of(version);
            if states.total() > 0 {
                let key = VersionKey { project, version };
                counted.entry(key).or_default().states = states;
            }
        }
        let held: HashSet<_> = self.held_devices(now).collect();
        for (_, key) in held {
            counted.entry(key).or_default().held += 1;
        }
        counted
    }

    /// Devices that the loop guard holds, each with the release that is held back. Some devices occur more than once.
    fn held_devices(&self, now: Stamp) -> impl Iterator<Item = (DeviceId, VersionKey)> {
        let held = self.loop_guard.all_held(now);
        held.filter_map(|(device, version)| {
            let key = VersionKey {
                project: self.devices.project(device)?,
                version: ShortVersion::of(version),
            };
            Some((device, key))
        })
    }

    fn sample_entry(
        &self,
        number: u32,
        is_day: bool,
        change: Option<Change>,
    ) -> Option<JournalEntry> {
        let change = match change {
            None => None,
            Some((key, counts)) => Some(SampleChange {
                project: self.project_name(key.project)?.into(),
                version: key.version.as_str().into(),
                counts: counts.numbers(),
            }),
        };
        Some(JournalEntry::Sample(SampleEntry {
            number,
            is_day,
            change,
        }))
    }

    pub(super) fn load_sample(&mut self, sample: &SampleEntry) {
        let mut change = None;
        if let Some(changed) = &sample.change {
            let Some(project) = self.releases_mut().intern_project(&changed.project) else {
                return;
            };
            let version = ShortVersion::of(&changed.version);
            let counts = VersionCounts::of_numbers(&changed.counts);
            change = Some((VersionKey { project, version }, counts));
        }
        self.history.load(sample.number, sample.is_day, change);
    }

    /// Returns the samples from number `from` on as journal entries, and the number of the next sample. Returns all
    /// entries of at least one hour or day, even if these are more than `most`.
    pub(super) fn samples(
        &self,
        is_day: bool,
        from: u64,
        most: usize,
    ) -> (Vec<JournalEntry>, Option<u64>) {
        let samples = match is_day {
            true => self.history.days(),
            false => self.history.hours(),
        };
        let mut entries = Vec::new();
        for (number, changes) in samples.from(u32::try_from(from).unwrap_or(u32::MAX)) {
            if entries.len() >= most {
                return (entries, Some(number.into()));
            }
            entries.extend(self.sample_entry(number, is_day, None));
            let changes = changes.iter().copied().map(Some);
            entries.extend(changes.filter_map(|change| self.sample_entry(number, is_day, change)));
        }
        (entries, None)
    }
}

/// Queries for the operator's API and page.
impl Fleet {
    /// Samples of the counts.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Key of a version of a project; `None` if the project was never in the firmware folder.
    pub fn version_key(&self, project: &str, version: &str) -> Option<VersionKey> {
        Some(VersionKey {
            project: self.releases().project_id(project)?,
            version: ShortVersion::of(version),
        })
    }

    /// The name of a project.
    pub fn project_name(&self, project: ProjectId) -> Option<&str> {
        Some(&self.releases().project(project)?.name)
    }

    /// Number of devices from which the loop guard holds a release back now.
    pub fn held_from(&self, key: VersionKey, now: Instant) -> usize {
        let held = self.held_devices(self.clock.stamp(now));
        let held = held.filter(|(_, other)| *other == key);
        held.collect::<HashSet<_>>().len()
    }

    /// Counts the devices in at most `most` more slots by the version that they run. Returns whether all are counted.
    pub fn walk_versions(&self, walk: &mut VersionWalk, most: u32) -> bool {
        self.devices.walk_versions(walk, most)
    }
}
