//! Device ids, sets of devices with ranges, and the cohorts of a rollout. Rules consist of these types, checks are
//! compared with them, and `fleet` stores its records by [`DeviceId`].
//!
//! The text of an id is never kept here. An id takes sixteen bytes, whatever was received, so a hundred thousand
//! entries of `allow` are small, and an id cannot inject text into a log (docs/hazards.md 21).

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

/// Key of the cohorts. It is fixed, so that the devices in a rollout remain in it after a restart.
const COHORT_KEY: [u8; 16] = *b"luat-ota cohort1";

/// Position of a device in 0..10_000 for a release. The device is in a rollout of `p` percent if the position is below
/// `p × 100`. Stable across restarts and machines, so the first 10 % are always among the first 20 %; different for
/// each release, so that the first devices are not always the same.
pub fn cohort(project: &str, version: Version, device: DeviceId) -> u32 {
    let mut hasher = SipHasher24::new_with_key(&COHORT_KEY);
    hasher.write(project.as_bytes());
    // No UTF-8 text contains this byte, so the end of a project cannot be taken for the beginning of a version.
    hasher.write(&[0xff]);
    // Numbers are hashed as little-endian bytes, so that every machine computes the same cohort.
    for field in version.fields() {
        hasher.write(&field.to_le_bytes());
    }
    let (kind, number) = device.parts();
    hasher.write(&[kind]);
    hasher.write(&number.to_le_bytes());
    u32::try_from(hasher.finish() % 10_000).unwrap_or_default()
}
