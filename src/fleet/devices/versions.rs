//! Numbers of devices by the version that they run.

use std::collections::HashMap;

use super::Devices;
use crate::fleet::history::VersionKey;

/// Largest number of versions that are counted. Devices can report any version.
const MAX_VERSIONS: usize = 4096;

/// A walk over the devices, some at a time, that counts them by the version that they run.
#[derive(Debug, Default)]
pub struct VersionWalk {
    /// Slot at which the next call continues.
    next: u32,
    /// Number of devices by version.
    pub running: HashMap<VersionKey, u32>,
}

impl Devices {
    /// Examines `most` more slots. Returns whether the walk has ended.
    pub fn walk_versions(&self, walk: &mut VersionWalk, most: u32) -> bool {
        let end = walk.next.saturating_add(most);
        for (slot, record) in self.table.from(walk.next) {
            if slot >= end {
                break;
            }
            let key = VersionKey {
                project: record.project,
                version: record.version,
            };
            if let Some(devices) = walk.running.get_mut(&key) {
                *devices += 1;
            } else if walk.running.len() < MAX_VERSIONS {
                walk.running.insert(key, 1);
            }
        }
        walk.next = end;
        end >= self.table.end()
    }
}
