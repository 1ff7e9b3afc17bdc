//! Outcomes that the servers of one fleet share through a folder (`--fleet`): the results of the devices to which each
//! of them delivered a file. Each server writes its own outcomes into a file of its own ([`mod@file`]), and reads the
//! files of all others, its peers. Pure; `server::shared_outcomes` reads and writes the files.
//!
//! The state of a device is that of its newest outcome from any server; the greater of two [`SharedOutcome`]s is newer.
//! An outcome that a server adds after it has read one of a peer is always newer than that one
//! ([`Shared::time_after`]), even if the clocks of the two servers differ.

pub mod file;

use std::collections::{HashMap, HashSet};
use std::hash::Hasher;

use siphasher::sip::SipHasher24;

use self::file::OutcomeFile;
use super::clock::{Stamp, Wall};
use super::network::Network;
use super::progress::{Outcome, Progress, State, TargetId};
use super::releases::StateCounts;
use super::short_version::ShortVersion;
use crate::firmware::ContentId;
use crate::firmware::audience::DeviceId;

/// Maximum number of outcomes of one content that a server shares; the newest ones are shared.
pub const MAX_PER_CONTENT: usize = 10_000;

/// Maximum number of outcomes that a server shares; the newest ones are shared.
pub const MAX_SHARED: usize = 100_000;

/// Maximum number of changed devices that are processed in one exchange: about 5 ms of work.
const MAX_CHANGES: usize = 20_000;

/// States of devices whose outcome is shared.
pub const SHARED_STATES: [State; 5] = [
    State::Delivered,
    State::Sent,
    State::Silent,
    State::Confirmed,
    State::Reverted,
];

/// Keyed hash of a device's id. Without the secret, the device cannot be determined from the hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceKey(pub u64);

/// Result of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OutcomeKind {
    /// The device has the whole file, and has not come back yet.
    Delivered,
    /// A trusted proxy has the whole file, and the device has not come back yet.
    Sent,
    /// The device is silent: it has not come back within three of its intervals.
    Silent,
    /// [`Outcome::Confirmed`]
    Confirmed,
    /// [`Outcome::Reverted`]
    Reverted,
    /// [`Outcome::FellBack`]
    FellBack,
}

impl OutcomeKind {
    /// All kinds of outcomes.
    pub const ALL: [OutcomeKind; 6] = [
        OutcomeKind::Delivered,
        OutcomeKind::Sent,
        OutcomeKind::Silent,
        OutcomeKind::Confirmed,
        OutcomeKind::Reverted,
        OutcomeKind::FellBack,
    ];

    /// Kind of the outcome of an update; `None` if the device never had the whole file.
    pub fn of(progress: Progress) -> Option<OutcomeKind> {
        match (progress.outcome, progress.state) {
            (Some(Outcome::Confirmed), _) => Some(OutcomeKind::Confirmed),
            (Some(Outcome::Reverted), _) => Some(OutcomeKind::Reverted),
            (Some(Outcome::FellBack), _) => Some(OutcomeKind::FellBack),
            (None, State::Delivered | State::Waiting) => Some(OutcomeKind::Delivered),
            (None, State::Sent) => Some(OutcomeKind::Sent),
            (None, State::Silent) => Some(OutcomeKind::Silent),
            _ => None,
        }
    }

    /// Result of an update with this outcome; `None` if the update has no result yet.
    pub fn outcome(self) -> Option<Outcome> {
        match self {
            OutcomeKind::Confirmed => Some(Outcome::Confirmed),
            OutcomeKind::Reverted => Some(Outcome::Reverted),
            OutcomeKind::FellBack => Some(Outcome::FellBack),
            OutcomeKind::Delivered | OutcomeKind::Sent | OutcomeKind::Silent => None,
        }
    }

    /// The state of a device with this outcome.
    pub fn state(self) -> State {
        match self {
            OutcomeKind::Delivered => State::Delivered,
            OutcomeKind::Sent => State::Sent,
            OutcomeKind::Silent => State::Silent,
            OutcomeKind::Confirmed => State::Confirmed,
            OutcomeKind::Reverted | OutcomeKind::FellBack => State::Reverted,
        }
    }

    /// Name of the kind in the file.
    pub fn word(self) -> &'static str {
        match self.outcome() {
            Some(outcome) => outcome.word(),
            None => self.state().word(),
        }
    }
}

/// Result of the last delivery to a device. The greater one of two is newer; the order is total, so that the servers
/// agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SharedOutcome {
    /// Time of the outcome, in Unix seconds.
    pub time: i64,
    /// Kind of the outcome.
    pub kind: OutcomeKind,
    /// Keyed hash of the device's network; 0 if unknown.
    pub network: u64,
    /// Whether the device counts in the fuse of every project (docs/evidence.md).
    pub established: bool,
    /// The version that the device ran before.
    pub from: ShortVersion,
}

/// A content of a release.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SharedContent {
    /// The project.
    pub project: Box<str>,
    /// The version, as the folder writes it.
    pub version: Box<str>,
    /// The file.
    pub content: ContentId,
    /// Size of the file in bytes.
    pub size: u64,
}

/// Outcomes by content.
pub type Outcomes = Vec<(SharedContent, Vec<(DeviceKey, SharedOutcome)>)>;

/// The outcomes of the peers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerOutcomes {
    /// Contents, each with the number of devices that came back with their old version.
    pub contents: Vec<(SharedContent, u32)>,
    /// The newest outcome of each device, with the index of its content in `contents`.
    pub devices: HashMap<DeviceKey, (usize, SharedOutcome)>,
}

impl PeerOutcomes {
    /// Merges files. The result depends neither on their order nor on repetitions.
    pub fn merge<'f>(files: impl IntoIterator<Item = &'f OutcomeFile>) -> PeerOutcomes {
        let lists: Vec<_> = files.into_iter().flat_map(|file| &file.outcomes).collect();
        let mut contents: Vec<&SharedContent> = lists.iter().map(|(content, _)| content).collect();
        contents.sort_unstable();
        contents.dedup();
        let mut devices: HashMap<DeviceKey, (usize, SharedOutcome)> = HashMap::new();
        for (content, outcomes) in lists {
            let Ok(place) = contents.binary_search(&content) else {
                continue;
            };
            for (device, outcome) in outcomes {
                let newest = devices.entry(*device).or_insert((place, *outcome));
                if (*outcome, place) > (newest.1, newest.0) {
                    *newest = (place, *outcome);
                }
            }
        }
        let mut counted: Vec<_> = contents.into_iter().cloned().map(|one| (one, 0)).collect();
        for (place, outcome) in devices.values() {
            if outcome.kind.state() == State::Reverted
                && let Some((_, reverted)) = counted.get_mut(*place)
            {
                *reverted += 1;
            }
        }
        PeerOutcomes {
            contents: counted,
            devices,
        }
    }

    /// Number of devices in each state, for each release.
    pub fn counts(&self) -> ReleaseCounts {
        let mut counts = ReleaseCounts::new();
        for (place, outcome) in self.devices.values() {
            if let Some((content, _)) = self.contents.get(*place) {
                let release = (content.project.clone(), content.version.clone());
                let of_release = counts.entry(release).or_default();
                of_release.add(outcome.kind.state(), 1);
            }
        }
        counts
    }
}

/// Number of devices in each state, by project and version.
pub type ReleaseCounts = HashMap<(Box<str>, Box<str>), StateCounts>;

/// States of the files of the peers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerStates {
    /// Number of peers whose file changes.
    pub live: u32,
    /// Number of peers whose file has not changed for [`file::SILENT_AFTER`].
    pub silent: u32,
    /// Number of files that cannot be used, plus 1 if the folder itself cannot be used.
    pub unusable: u32,
}

/// Result of one exchange with the folder.
#[derive(Debug)]
pub struct Exchanged {
    /// The outcomes of the peers; `None` if they have not changed.
    pub peers: Option<PeerOutcomes>,
    /// Counts of all servers together; `None` if they have not changed.
    pub counts: Option<ReleaseCounts>,
    /// States of the files of the peers.
    pub states: PeerStates,
}

/// An outcome that this server has seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct OwnOutcome {
    pub target: TargetId,
    pub outcome: SharedOutcome,
}

/// Outcomes that this server shares, and those that its peers have shared.
#[derive(Debug)]
pub struct Shared {
    key: [u8; 16],
    pub(super) own: HashMap<DeviceKey, OwnOutcome>,
    /// Devices whose outcome has changed since the last exchange.
    pub(super) changed: HashSet<DeviceId>,
    pub(super) peers: PeerOutcomes,
    pub(super) counts: ReleaseCounts,
    pub(super) states: PeerStates,
    /// The time of the last exchange.
    pub(super) wall: Wall,
}

impl Shared {
    /// Creates a state without outcomes. `secret`: the same for all servers.
    pub fn new(secret: &[u8; 32], wall: Wall) -> Shared {
        let mut key = [0; 16];
        // The first half of the secret signs upgrade ids.
        for (byte, secret) in key.iter_mut().zip(secret.iter().skip(16)) {
            *byte = *secret;
        }
        Shared {
            key,
            own: HashMap::new(),
            changed: HashSet::new(),
            peers: PeerOutcomes::default(),
            counts: ReleaseCounts::new(),
            states: PeerStates::default(),
            wall,
        }
    }

    fn hash(&self, purpose: &[u8; 8], number: u64) -> u64 {
        let mut hasher = SipHasher24::new_with_key(&self.key);
        hasher.write(purpose);
        hasher.write(&number.to_le_bytes());
        hasher.finish()
    }

    /// A number that is the same for servers with the same secret.
    pub fn check(&self) -> u64 {
        self.hash(b"outcomes", 0)
    }

    /// The key of a device.
    pub fn device(&self, device: DeviceId) -> DeviceKey {
        let (kind, number) = device.parts();
        let purpose = [b'd', b'e', b'v', b'i', b'c', b'e', b' ', kind];
        DeviceKey(self.hash(&purpose, number))
    }

    /// The keyed hash of a network.
    pub fn network(&self, network: Network) -> u64 {
        self.hash(b"network ", network.number())
    }

    /// Whether the outcome of a peer is newer than the state of the device at this server. `since`: beginning of that
    /// state.
    pub(super) fn is_newer(
        &self,
        device: DeviceKey,
        outcome: SharedOutcome,
        since: Option<Stamp>,
    ) -> bool {
        let own = self.own.get(&device);
        own.is_none_or(|own| outcome > own.outcome)
            && since.is_none_or(|since| outcome.time > self.wall.unix_of(since))
    }

    /// Returns the Unix time for an outcome at this moment, later than all outcomes of the device at the peers.
    pub(super) fn time_after(&self, device: DeviceKey, moment: Stamp) -> i64 {
        let moment = self.wall.unix_of(moment);
        let known = self.peers.devices.get(&device);
        known.map_or(moment, |(_, known)| {
            moment.max(known.time.saturating_add(1))
        })
    }

    /// Takes up to [`MAX_CHANGES`] devices whose outcome has changed.
    pub(super) fn take_changed(&mut self) -> Vec<DeviceId> {
        let changed: Vec<DeviceId> = self.changed.iter().take(MAX_CHANGES).copied().collect();
        for device in &changed {
            self.changed.remove(device);
        }
        changed
    }

    /// Whether a peer has shared anything.
    pub(super) fn has_peers(&self) -> bool {
        !self.peers.devices.is_empty()
    }

    /// Whether this server or a peer has seen that a device is established.
    pub(super) fn is_established(&self, device: DeviceKey) -> bool {
        let own = self.own.get(&device);
        let peer = self.peers.devices.get(&device);
        own.is_some_and(|own| own.outcome.established)
            || peer.is_some_and(|(_, outcome)| outcome.established)
    }

    /// Forgets the oldest outcomes if there are more than twice [`MAX_SHARED`].
    pub(super) fn prune(&mut self) {
        if self.own.len() > 2 * MAX_SHARED {
            let mut times: Vec<i64> = self.own.values().map(|own| own.outcome.time).collect();
            let (_, oldest, _) = times.select_nth_unstable(MAX_SHARED);
            let oldest = *oldest;
            self.own.retain(|_, own| own.outcome.time > oldest);
        }
    }
}

#[cfg(test)]
mod tests;
