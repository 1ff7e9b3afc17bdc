//! Counts over time. For each version of a project: the number of devices in each state of their update to the version,
//! of devices that are held, and of devices that run the version. There is one sample at the beginning of each hour for
//! two weeks, and the last one of each day for a year. Hours and days are those of the machine's clock, in UTC.
//!
//! Pure: times and counts come with each call. [`super::tick`] counts the devices, and the journal keeps the changes.
//! Bounds: [`HOURS`], [`DAYS`], [`VERSIONS`] and [`CHANGES`]; at most 4 MB of memory.

mod samples;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

pub use self::samples::Samples;
use super::clock::{Stamp, is_trusted};
use super::progress::State;
use super::releases::{ProjectId, StateCounts};
use super::short_version::ShortVersion;

/// Number of hourly samples that are kept: those of two weeks.
pub const HOURS: usize = 14 * 24;

/// Number of daily samples that are kept: those of a year.
pub const DAYS: usize = 365;

/// Largest number of versions in one sample: those with the most devices.
pub const VERSIONS: usize = 512;

/// Largest number of changes in all samples together: half for the hours, half for the days. Beyond that, the oldest
/// hours or days are dropped.
pub const CHANGES: usize = 32_768;

/// Number of hours for which the clock must show an earlier time than that of the last sample until the samples that
/// lie in the future are dropped, because they were taken while the clock was ahead.
const MAX_BEHIND: u32 = 24;

const HOUR: i64 = 60 * 60;
const HOURS_A_DAY: u32 = 24;

/// A version of a project, as the folder writes it or as devices report it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VersionKey {
    /// The project.
    pub project: ProjectId,
    /// The version.
    pub version: ShortVersion,
}

/// Numbers of devices at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VersionCounts {
    /// Devices with an update to the version, by state.
    pub states: StateCounts,
    /// Devices that the loop guard holds from the version.
    pub held: u32,
    /// Devices that report the version.
    pub running: u32,
}

impl VersionCounts {
    /// The counts as one list: the states in the order of [`State::ALL`], held, running.
    pub fn numbers(&self) -> Vec<u32> {
        let mut numbers = self.states.by_state.to_vec();
        numbers.extend([self.held, self.running]);
        numbers
    }

    /// Converts such a list to counts. Missing numbers are 0.
    pub fn of_numbers(numbers: &[u32]) -> VersionCounts {
        let mut numbers = numbers.iter().copied();
        let mut next = || numbers.next().unwrap_or_default();
        let mut counts = VersionCounts::default();
        for state in State::ALL {
            counts.states.add(state, next());
        }
        (counts.held, counts.running) = (next(), next());
        counts
    }

    /// Number of devices by which versions are chosen if not all can be kept.
    fn devices(&self) -> u32 {
        self.states.total().max(self.running)
    }
}

/// Counts by version.
pub type Counted = HashMap<VersionKey, VersionCounts>;

/// Hourly and daily samples.
#[derive(Debug)]
pub struct History {
    hours: Samples,
    days: Samples,
    /// Counts in the last sample that are not 0.
    current: BTreeMap<VersionKey, VersionCounts>,
    /// Hour (since 1970) of the last sample.
    last: Option<u32>,
    /// Time of the next sample; `None`: no samples are taken.
    next: Option<Stamp>,
    /// Number of hours for which the clock has shown a time before `last`.
    behind: u32,
}

impl Default for History {
    fn default() -> History {
        History {
            hours: Samples::new(HOURS),
            days: Samples::new(DAYS),
            current: BTreeMap::new(),
            last: None,
            next: None,
            behind: 0,
        }
    }
}

impl History {
    /// Starts to take samples, the first one at once unless one was taken in this hour.
    pub fn start(&mut self) {
        self.next = Some(Stamp::default());
        self.find_current();
        self.limit_changes();
    }

    fn find_current(&mut self) {
        let all = self.hours.from(0).flat_map(|(_, changes)| changes);
        self.current = all.copied().collect();
        self.current.retain(|_, counts| counts.devices() > 0);
    }

    /// Time at which [`History::advance`] may return `true`; `None`: no samples are taken.
    pub fn due(&self) -> Option<Stamp> {
        self.next
    }

    /// Updates the time; `unix` is the time of the machine's clock. Returns whether a sample is due.
    pub fn advance(&mut self, now: Stamp, unix: i64) -> bool {
        let Some(next) = self.next else { return false };
        // One more second, because both times are rounded down.
        let left = HOUR - unix.rem_euclid(HOUR) + 1;
        self.next = Some(now.plus(u32::try_from(left).unwrap_or_default()));
        if !is_trusted(unix) {
            return false;
        }
        let hour = hour_of(unix);
        if self.last.is_none_or(|last| last <= hour) {
            self.behind = 0;
            return self.last != Some(hour);
        }
        self.behind += u32::from(next <= now);
        self.behind > MAX_BEHIND
    }

    /// Takes the sample of an hour. Returns its number and the changes since the last sample; `None` if there is
    /// nothing to record yet.
    pub fn take(
        &mut self,
        unix: i64,
        counted: Counted,
    ) -> Option<(u32, Vec<(VersionKey, VersionCounts)>)> {
        let hour = hour_of(unix);
        self.last = Some(hour);
        let mut counted: Vec<_> = counted.into_iter().collect();
        counted.sort_unstable_by_key(|(key, counts)| (Reverse(counts.devices()), *key));
        counted.truncate(VERSIONS);
        counted.retain(|(_, counts)| counts.devices() > 0);
        let counted: BTreeMap<_, _> = counted.into_iter().collect();
        let before = std::mem::take(&mut self.current);
        let gone = before.keys().filter(|key| !counted.contains_key(key));
        let mut changes: Vec<_> = gone.map(|key| (*key, VersionCounts::default())).collect();
        let changed = counted
            .iter()
            .filter(|(key, counts)| before.get(key) != Some(counts));
        changes.extend(changed.map(|(key, counts)| (*key, *counts)));
        self.current = counted;
        if changes.is_empty() && self.hours.last().is_none() {
            return None;
        }
        self.put(hour, None);
        for change in &changes {
            self.put(hour, Some(*change));
        }
        self.limit_changes();
        Some((hour, changes))
    }

    /// Drops the samples that lie in the future, if there are any. Must be called before [`History::take`]. Returns
    /// whether the journal must be written anew.
    pub fn drop_future(&mut self, unix: i64) -> bool {
        let hour = hour_of(unix);
        let is_ahead = self.hours.last().is_some_and(|last| last > hour);
        if is_ahead {
            let day = hour / HOURS_A_DAY;
            self.hours.drop_after(hour);
            self.days.drop_after(day.saturating_sub(1));
            // Undo the changes that the dropped hours made to the sample of this day.
            for (_, changes) in self.hours.from(day * HOURS_A_DAY) {
                for change in changes {
                    self.days.put(day, Some(*change));
                }
            }
            self.find_current();
        }
        is_ahead
    }

    /// Loads a sample from the journal. `number` is that of the hour or day since 1970. `change` is a version whose
    /// counts changed with the sample.
    pub fn load(&mut self, number: u32, is_day: bool, change: Option<(VersionKey, VersionCounts)>) {
        if is_day {
            self.days.put(number, change);
            return;
        }
        self.last = self.last.max(Some(number));
        if self.last == Some(number) {
            self.put(number, change);
        } else {
            // A line of a compaction during which a later sample was taken. Lines with the daily samples follow.
            self.hours.put(number, change);
        }
    }

    fn put(&mut self, hour: u32, change: Option<(VersionKey, VersionCounts)>) {
        self.hours.put(hour, change);
        self.days.put(hour / HOURS_A_DAY, change);
    }

    fn limit_changes(&mut self) {
        for samples in [&mut self.hours, &mut self.days] {
            while samples.changes() > CHANGES / 2 && samples.drop_oldest() {}
        }
    }

    /// The hourly samples, by number of the hour since 1970.
    pub fn hours(&self) -> &Samples {
        &self.hours
    }

    /// The daily samples, by number of the day since 1970.
    pub fn days(&self) -> &Samples {
        &self.days
    }
}

/// Number of an hour since 1970.
fn hour_of(unix: i64) -> u32 {
    u32::try_from(unix.div_euclid(HOUR)).unwrap_or_default()
}
