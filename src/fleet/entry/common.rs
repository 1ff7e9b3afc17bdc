//! What many devices have in common (project, version, profile and release). A compaction writes it once, in a line of its
//! own, and in the line of each such device the checksum of that line.
//!
//! A checksum and no number: a device whose common line is lost can never be taken for one of others.

use std::collections::HashMap;

use super::DeviceEntry;

/// Common lines that a reader keeps at least. A writer repeats a line before more than these were written since.
const COMMONS: usize = 4096;

/// The common lines of a journal that is read.
#[derive(Debug, Default)]
pub struct Commons {
    last: HashMap<u64, DeviceEntry>,
    before: HashMap<u64, DeviceEntry>,
}

impl Commons {
    /// Takes over the line with this checksum.
    pub fn define(&mut self, check: u64, common: DeviceEntry) {
        if self.last.len() >= COMMONS {
            self.before = std::mem::take(&mut self.last);
        }
        self.last.insert(check, common);
    }

    /// The line with this checksum.
    pub fn get(&self, check: u64) -> Option<&DeviceEntry> {
        self.last.get(&check).or_else(|| self.before.get(&check))
    }
}

/// The common lines of a compaction, with their checksums.
#[derive(Debug, Default)]
pub struct WrittenCommons {
    checks: HashMap<DeviceEntry, u32>,
}

impl WrittenCommons {
    /// The checksum of the line that has in common with a device what there is. `write` writes that line if there is none
    /// yet, and returns its checksum. `None`: another line has the same checksum.
    pub fn check(
        &mut self,
        device: &DeviceEntry,
        write: impl FnOnce(&DeviceEntry) -> u32,
    ) -> Option<u32> {
        let common = device.common();
        if let Some(check) = self.checks.get(&common) {
            return Some(*check);
        }
        let check = write(&common);
        if self.checks.values().any(|other| *other == check) {
            return None;
        }
        if self.checks.len() >= COMMONS {
            self.checks.clear();
        }
        self.checks.insert(common, check);
        Some(check)
    }
}
