//! Whom a release is for: device ids, sets of them with ranges, and the cohorts of a rollout. Rules
//! are made of these, checks are held against them, and `fleet` keys its memory by [`DeviceId`].
//!
//! The text of an id is never kept here. An id is sixteen bytes whatever arrived, so that a hundred thousand
//! entries of `allow` are small and an id cannot carry anything into a log (docs/hazards.md 21).

use std::hash::Hasher;

use siphasher::sip::SipHasher24;

use super::version::Version;

mod group;
mod id;
mod set;
#[cfg(test)]
mod tests;

pub use group::{Group, group_of_file};
pub use id::DeviceId;
pub use set::DeviceSet;

/// Keys the cohorts; fixed, so that the devices in a rollout stay in it after a restart.
const COHORT_KEY: [u8; 16] = *b"luat-ota cohort1";

/// Where in 0..10_000 a device falls for a release: it is in a rollout of `p` percent if this is
/// below `p × 100`. Stable across restarts and machines, so 10 % are always among the 20 %; different
/// for each release, so that not the same devices are always first.
pub fn cohort(project: &str, version: Version, device: DeviceId) -> u32 {
    let mut hasher = SipHasher24::new_with_key(&COHORT_KEY);
    hasher.write(project.as_bytes());
    // No UTF-8 text holds this byte, so no project's end can be taken for a version's beginning.
    hasher.write(&[0xff]);
    // Numbers go in as little-endian bytes, so that every machine finds the same cohort.
    for field in version.fields() {
        hasher.write(&field.to_le_bytes());
    }
    let (kind, number) = device.parts();
    hasher.write(&[kind]);
    hasher.write(&number.to_le_bytes());
    u32::try_from(hasher.finish() % 10_000).unwrap_or_default()
}
