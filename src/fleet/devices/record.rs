//! One device in memory, in 120 bytes; 128 with the last refusal, which only the operator's page shows.

use super::{DAY, HOUR};
use crate::firmware::audience::DeviceId;
use crate::fleet::clock::Stamp;
use crate::fleet::journey::{Journey, TargetId};
use crate::fleet::network::{CoarseNetwork, Network};
use crate::fleet::profiles::ProfileId;
use crate::fleet::releases::ProjectId;
use crate::fleet::report::Report;
use crate::fleet::short_version::ShortVersion;

/// Eviction class of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rank {
    /// Seen, but anybody may have invented it: not in the journal, and evicted first.
    Probation,
    /// Evicted only after a long absence.
    Established,
}

/// One device.
#[derive(Clone, Copy, Debug)]
pub struct DeviceRecord {
    /// Its id.
    pub device: DeviceId,
    /// Number of digits of an IMEI, as the device writes it (14 to 17).
    pub digits: u8,
    /// Eviction class; changed by the table alone.
    pub rank: Rank,
    /// Place in the eviction order of its class; changed by the table alone.
    pub touched: u64,
    /// When it was first seen.
    pub first: Stamp,
    /// When it was last seen.
    pub last: Stamp,
    /// Seconds between its checks; 0: not known.
    pub interval: u32,
    /// The version that it runs.
    pub version: ShortVersion,
    /// The project that it asks for.
    pub project: ProjectId,
    /// What it states besides id and version.
    pub profile: ProfileId,
    /// The network that it was last seen in; once it has a whole file, the one that it got it in.
    pub network: Option<Network>,
    /// Progress towards the release that was last offered.
    pub journey: Option<Journey>,
    /// What it reported about that release.
    pub report: Option<Report>,
    /// Up to three releases that it was confirmed with before, each by one of its contents, the earliest first; never
    /// that of `journey`.
    pub confirmed: [TargetId; 3],
    /// Its last refusal; not kept over a restart.
    #[cfg(feature = "operator")]
    pub refused: LastRefusal,
}

/// The last refusal of a device in this run.
#[cfg(feature = "operator")]
#[derive(Clone, Copy, Debug, Default)]
pub struct LastRefusal {
    /// Number of the reason, from 1 on; 0: it was not refused.
    pub reason: u16,
    /// Another step followed.
    pub is_past: bool,
    /// When it was last refused.
    pub at: Stamp,
}

impl DeviceRecord {
    /// A device that was never seen before. `text`: its id as it writes it.
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
            journey: None,
            report: None,
            confirmed: [TargetId::NONE; 3],
            #[cfg(feature = "operator")]
            refused: LastRefusal::default(),
        }
    }

    /// Whether it is established.
    pub fn is_established(&self) -> bool {
        self.rank == Rank::Established
    }

    /// Whether it counts in the fuse of a release of this time: it was there for an hour, and a day before.
    pub fn counts_for(&self, release: Stamp) -> bool {
        self.is_established()
            && self.last.since(self.first) >= HOUR
            && self.first.plus(DAY) <= release
    }

    /// Whether a network is near the one where the device was last seen, or got its file.
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
