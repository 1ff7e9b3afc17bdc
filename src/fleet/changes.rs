//! The most recent changes that people, commands and the fuse made, with author and time, for the operator. Kept in the
//! journal.

use std::collections::VecDeque;

use super::entry::{ChangeEntry, JournalEntry};

/// Maximum number of changes that are kept.
pub const MAX_CHANGES: usize = 100;

/// Author of changes by `luat-ota resume` or `luat-ota lift`.
pub const COMMAND: &str = "command";

/// Author of pauses by the fuse.
pub const FUSE: &str = "fuse";

/// The most recent changes, oldest first.
#[derive(Debug, Default)]
pub struct Changes {
    entries: VecDeque<ChangeEntry>,
}

impl Changes {
    /// Adds a change; returns its entry for the journal. `unix`: the time, in Unix seconds.
    pub fn add(&mut self, by: &str, change: ChangeEntry, unix: i64) -> JournalEntry {
        let last = self.entries.back();
        let entry = ChangeEntry {
            serial: last.map_or(1, |last| last.serial.saturating_add(1)),
            unix,
            by: by.into(),
            ..change
        };
        self.entries.push_back(entry.clone());
        self.trim();
        JournalEntry::Change(entry)
    }

    /// Takes over a change of an earlier run.
    pub fn load(&mut self, entry: ChangeEntry) {
        self.entries.retain(|known| known.serial != entry.serial);
        let at = self
            .entries
            .partition_point(|known| known.serial < entry.serial);
        self.entries.insert(at, entry);
        self.trim();
    }

    fn trim(&mut self) {
        while self.entries.len() > MAX_CHANGES {
            self.entries.pop_front();
        }
    }

    /// Number of changes.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no changes.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The changes, newest first.
    pub fn newest_first(&self) -> impl Iterator<Item = &ChangeEntry> {
        self.entries.iter().rev()
    }

    /// Author of the last upload of a file of a release.
    pub fn publisher(&self, project: &str, version: &str) -> Option<&str> {
        let mut uploads = self.newest_first().filter(|change| {
            *change.action == *ChangeEntry::UPLOAD
                && (&*change.project, &*change.version) == (project, version)
        });
        uploads.next().map(|change| &*change.by)
    }

    /// All changes, for the journal.
    pub fn records(&self) -> Vec<JournalEntry> {
        let entries = self.entries.iter().cloned();
        entries.map(JournalEntry::Change).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_hundred_changes_survive_a_restart() {
        let mut changes = Changes::default();
        let mut journal = Vec::new();
        for number in 0..MAX_CHANGES as i64 + 20 {
            let change = ChangeEntry::new(ChangeEntry::UPLOAD, "P", &number.to_string(), "");
            journal.push(changes.add("alice", change, number));
        }
        // A journal that was compacted may name a change twice.
        journal.extend(changes.records().into_iter().take(3));
        let mut loaded = Changes::default();
        for entry in journal {
            let JournalEntry::Change(entry) = entry else {
                panic!();
            };
            loaded.load(entry);
        }
        for changes in [&changes, &loaded] {
            assert_eq!(changes.len(), MAX_CHANGES);
            let times: Vec<i64> = changes.newest_first().map(|change| change.unix).collect();
            assert_eq!(times, (20..120).rev().collect::<Vec<_>>());
            assert_eq!(changes.publisher("P", "119"), Some("alice"));
            assert_eq!(changes.publisher("P", "19"), None);
        }
        let next = loaded.add("bob", ChangeEntry::new("pause", "P", "119", ""), 500);
        assert!(matches!(next, JournalEntry::Change(entry) if entry.serial == 121));
    }
}
