//! Samples of one resolution: hours or days.

use std::collections::BTreeMap;

use super::{VersionCounts, VersionKey};

/// Samples by number (of the hour or day since 1970). Each contains the changes since the one before, so that samples
/// without changes take little memory.
#[derive(Debug)]
pub struct Samples {
    /// Largest number of samples.
    capacity: usize,
    /// Changes, sorted by version.
    by_number: BTreeMap<u32, Vec<(VersionKey, VersionCounts)>>,
}

impl Samples {
    /// Creates an empty collection of at most `capacity` samples.
    pub fn new(capacity: usize) -> Samples {
        Samples {
            capacity,
            by_number: BTreeMap::new(),
        }
    }

    /// Adds a sample, or a change to a sample. Of several counts of a version the last ones count.
    pub fn put(&mut self, number: u32, change: Option<(VersionKey, VersionCounts)>) {
        let changes = self.by_number.entry(number).or_default();
        if let Some(change) = change {
            match changes.binary_search_by_key(&change.0, |(key, _)| *key) {
                Ok(at) => changes.splice(at..=at, [change]),
                Err(at) => changes.splice(at..at, [change]),
            };
        }
        if self.by_number.len() > self.capacity {
            self.drop_oldest();
        }
    }

    /// Drops the oldest sample if there is another one, which then contains the changes of both. Returns whether a
    /// sample was dropped.
    pub fn drop_oldest(&mut self) -> bool {
        if self.by_number.len() < 2 {
            return false;
        }
        let Some((_, changes)) = self.by_number.pop_first() else {
            return false;
        };
        let Some(mut next) = self.by_number.first_entry() else {
            return false;
        };
        let next = next.get_mut();
        for change in changes {
            if let Err(at) = next.binary_search_by_key(&change.0, |(key, _)| *key) {
                next.insert(at, change);
            }
        }
        // No sample is before this one, so counts of 0 are no changes.
        next.retain(|(_, counts)| *counts != VersionCounts::default());
        true
    }

    /// Drops the samples after `number`.
    pub fn drop_after(&mut self, number: u32) {
        self.by_number.retain(|taken, _| *taken <= number);
    }

    /// Number of the last sample.
    pub fn last(&self) -> Option<u32> {
        self.by_number.keys().next_back().copied()
    }

    /// Number of changes in all samples.
    pub fn changes(&self) -> usize {
        self.by_number.values().map(Vec::len).sum()
    }

    /// Number of lines of the journal that contain all samples.
    pub fn lines(&self) -> usize {
        self.by_number.len().saturating_add(self.changes())
    }

    /// Returns the samples from this number on, with the changes of each.
    pub fn from(&self, number: u32) -> impl Iterator<Item = (u32, &[(VersionKey, VersionCounts)])> {
        let taken = self.by_number.range(number..);
        taken.map(|(number, changes)| (*number, changes.as_slice()))
    }

    /// Returns the versions that any device ran, each as often as its counts changed.
    pub fn run_versions(&self) -> impl Iterator<Item = VersionKey> {
        let changes = self.from(0).flat_map(|(_, changes)| changes);
        let ran = changes.filter(|(_, counts)| counts.running > 0);
        ran.map(|(key, _)| *key)
    }

    /// Returns the counts of a version in every sample, oldest first; `None`: the version was not counted yet.
    pub fn of(&self, key: VersionKey) -> impl Iterator<Item = (u32, Option<VersionCounts>)> {
        let mut counts = None;
        self.from(0).map(move |(number, changes)| {
            if let Ok(at) = changes.binary_search_by_key(&key, |(key, _)| *key) {
                counts = changes.get(at).map(|(_, counts)| *counts);
            }
            (number, counts)
        })
    }
}
