//! Samples of one resolution.

use std::collections::BTreeMap;

use super::{VersionCounts, VersionKey};

/// Samples by number (of the hour or day since 1970). Each contains what changed since the one before, so that a quiet
/// fleet takes little memory.
#[derive(Debug)]
pub struct Samples {
    /// Number of samples at most.
    capacity: usize,
    /// Changes, sorted by version.
    taken: BTreeMap<u32, Vec<(VersionKey, VersionCounts)>>,
}

impl Samples {
    /// No samples; later at most `capacity`.
    pub fn new(capacity: usize) -> Samples {
        Samples {
            capacity,
            taken: BTreeMap::new(),
        }
    }

    /// Adds a sample, or a change to it. The last counts of a version count.
    pub fn put(&mut self, number: u32, change: Option<(VersionKey, VersionCounts)>) {
        let changes = self.taken.entry(number).or_default();
        if let Some(change) = change {
            match changes.binary_search_by_key(&change.0, |(key, _)| *key) {
                Ok(at) => changes.splice(at..=at, [change]),
                Err(at) => changes.splice(at..at, [change]),
            };
        }
        if self.taken.len() > self.capacity {
            self.drop_oldest();
        }
    }

    /// Drops the oldest sample if there is another one, which then contains the changes of both.
    pub fn drop_oldest(&mut self) -> bool {
        if self.taken.len() < 2 {
            return false;
        }
        let Some((_, changes)) = self.taken.pop_first() else {
            return false;
        };
        let Some(mut next) = self.taken.first_entry() else {
            return false;
        };
        let next = next.get_mut();
        for change in changes {
            if let Err(at) = next.binary_search_by_key(&change.0, |(key, _)| *key) {
                next.insert(at, change);
            }
        }
        // Nothing is before it.
        next.retain(|(_, counts)| *counts != VersionCounts::default());
        true
    }

    /// Drops the samples after this one.
    pub fn drop_after(&mut self, number: u32) {
        self.taken.retain(|taken, _| *taken <= number);
    }

    /// Number of the last sample.
    pub fn last(&self) -> Option<u32> {
        self.taken.keys().next_back().copied()
    }

    /// Number of changes in all samples.
    pub fn changes(&self) -> usize {
        self.taken.values().map(Vec::len).sum()
    }

    /// Number of lines of the journal that contain all samples.
    pub fn lines(&self) -> usize {
        self.taken.len().saturating_add(self.changes())
    }

    /// The samples from this number on, and what changed with each.
    pub fn from(&self, number: u32) -> impl Iterator<Item = (u32, &[(VersionKey, VersionCounts)])> {
        let taken = self.taken.range(number..);
        taken.map(|(number, changes)| (*number, changes.as_slice()))
    }

    /// The versions that any device ran, each as often as its counts changed.
    pub fn ran(&self) -> impl Iterator<Item = VersionKey> {
        let changes = self.from(0).flat_map(|(_, changes)| changes);
        let ran = changes.filter(|(_, counts)| counts.running > 0);
        ran.map(|(key, _)| *key)
    }

    /// The counts of a version in every sample, oldest first; `None`: it was not counted until then.
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
