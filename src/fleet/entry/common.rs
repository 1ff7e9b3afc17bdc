//! Fields that many devices have in common (project, version, profile and release). A compaction writes them once, in a
//! common line. The line of each such device contains the checksum of the common line.
//!
//! The reference is a checksum and not a number, so that a device whose common line is lost is never read with another
//! one.

use std::collections::HashMap;

use super::DeviceEntry;

/// Smallest number of common lines that a reader keeps. A writer repeats a common line before more than this number of
/// others follow it.
const MIN_KEPT: usize = 4096;

/// The common lines of a journal that is read.
#[derive(Debug, Default)]
pub struct Commons {
    last: HashMap<u64, DeviceEntry>,
    before: HashMap<u64, DeviceEntry>,
}

impl Commons {
    /// Adds the line with this checksum.
    pub fn define(&mut self, check: u64, common: DeviceEntry) {
        if self.last.len() >= MIN_KEPT {
            self.before = std::mem::take(&mut self.last);
        }
        self.last.insert(check, common);
    }

    /// Returns the line with this checksum.
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
    /// Returns the checksum of the common line of a device. If there is no such line yet, `write` writes it and returns
    /// its checksum. `None` if another line has the same checksum.
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
        if self.checks.len() >= MIN_KEPT {
            self.checks.clear();
        }
        self.checks.insert(common, check);
        Some(check)
    }
}
