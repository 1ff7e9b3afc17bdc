//! The record of one device in memory, in 120 bytes, or 128 with the last refusal, which only the operator page shows.

use super::{DAY, HOUR};
use crate::firmware::audience::DeviceId;
use crate::fleet::clock::Stamp;
use crate::fleet::network::{CoarseNetwork, Network};
use crate::fleet::profiles::ProfileId;
use crate::fleet::progress::{Progress, TargetId};
use crate::fleet::releases::ProjectId;
use crate::fleet::report::Report;
use crate::fleet::short_version::ShortVersion;

/// Eviction class of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rank {
    /// Class of devices on probation, which anyone may have invented: not in the journal, and evicted first.
    Probation,
    /// Class of established devices: evicted only after a long absence.
    Established,
}

/// The record of one device.
#[derive(Clone, Copy, Debug)]
pub struct DeviceRecord {
    /// Id of the device.
    pub device: DeviceId,
    /// Number of digits of an IMEI, as the device writes it (14 to 17).
    pub digits: u8,
    /// Eviction class. Only the table changes it.
    pub rank: Rank,
    /// Place in the eviction order of the class. Only the table changes it.
    pub touched: u64,
    /// Time at which the device was first seen.
    pub first: Stamp,
    /// Time at which the device was last seen.
    pub last: Stamp,
    /// Seconds between the device's checks; 0: unknown.
    pub interval: u32,
    /// The version that the device runs.
    pub version: ShortVersion,
    /// The project that the device asks for.
    pub project: ProjectId,
    /// The statements of the device besides its id and version.
    pub profile: ProfileId,
    /// The network in which the device was last seen. Once the device has a whole file, the network of that delivery.
    pub network: Option<Network>,
    /// Progress towards the release that was last offered.
    pub progress: Option<Progress>,
    /// The device's result report about that release.
    pub report: Option<Report>,
    /// Up to three releases that the device was confirmed with before, each as one of its contents, earliest first. The
    /// release of `progress` is never among them.
    pub confirmed: [TargetId; 3],
    /// The last refusal of the device in this run.
    #[cfg(feature = "operator")]
    pub refused: LastRefusal,
}

/// The last refusal of a device in this run.
#[cfg(feature = "operator")]
#[derive(Clone, Copy, Debug, Default)]
pub struct LastRefusal {
    /// Number of the reason, starting at 1; 0: not refused in this run.
    pub reason: u16,
    /// Whether another step followed.
    pub is_past: bool,
    /// Time of the last refusal.
    pub at: Stamp,
}

impl DeviceRecord {
    /// Creates the record of a device that was never seen before. `text` is its id as the device writes it.
    pub fn new(device: DeviceId, text: &str, project: ProjectId, now: Stamp) -> DeviceRecord {
        let digits = u8::try_from(text.len()).ok();
        DeviceRecord {
            device,
            digits: digits.filter(|n| (14..=17).contains(n)).unwrap_or(15),
            rank: Rank::Probation,
            touched: 0,
            first: now,
            last: now,
            interval: 0,
            version: ShortVersion::default(),
            project,
            profile: ProfileId::NONE,
            network: None,
            progress: None,
            report: None,
            confirmed: [TargetId::NONE; 3],
            #[cfg(feature = "operator")]
            refused: LastRefusal::default(),
        }
    }

    /// Whether the device is established.
    pub fn is_established(&self) -> bool {
        self.rank == Rank::Established
    }

    /// Whether the device counts in the fuse of a release that was published at `release`: it is established, was seen
    /// over at least an hour, and was first seen a day before the release.
    pub fn counts_for(&self, release: Stamp) -> bool {
        self.is_established()
            && self.last.since(self.first) >= HOUR
            && self.first.plus(DAY) <= release
    }

    /// Whether a network is in the same /16 (IPv6: /32) as `self.network`, or the latter is unknown.
    pub fn is_near(&self, network: Network) -> bool {
        let known = self.network.map(CoarseNetwork::from);
        known.is_none_or(|known| known == CoarseNetwork::from(network))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_small() {
        let size = if cfg!(feature = "operator") { 128 } else { 120 };
        assert_eq!(std::mem::size_of::<Option<DeviceRecord>>(), size);
    }
}
