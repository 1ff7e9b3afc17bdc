//! Outcomes that are shared with other servers ([`crate::fleet::shared`]): the choice of the outcomes that this server
//! shares, and the use of the outcomes that a peer has seen.

use super::Devices;
use super::record::DeviceRecord;
use crate::decision::Check;
use crate::firmware::ContentId;
use crate::firmware::audience::DeviceId;
use crate::fleet::clock::{Stamp, Wall};
use crate::fleet::progress::{Progress, State, TargetId, capped};
use crate::fleet::shared::{
    DeviceKey, Exchanged, OutcomeKind, Outcomes, OwnOutcome, Shared, SharedContent, SharedOutcome,
};

/// An outcome that a peer has seen.
#[derive(Clone, Copy)]
pub(super) struct PeerOutcome<'a> {
    pub device: DeviceKey,
    pub content: &'a SharedContent,
    pub outcome: SharedOutcome,
}

impl PeerOutcome<'_> {
    /// Whether the outcome belongs to this release.
    pub fn is_of(&self, project: &str, version: &str) -> bool {
        (&*self.content.project, &*self.content.version) == (project, version)
    }
}

impl Devices {
    /// Starts to share outcomes, including those that are already known.
    pub fn start_sharing(&mut self, secret: &[u8; 32], wall: Wall) {
        let mut shared = Shared::new(secret, wall);
        let known = self.table.from(0);
        let known = known.filter(|(_, record)| record.progress.and_then(OutcomeKind::of).is_some());
        shared.changed = known.map(|(_, record)| record.device).collect();
        self.shared = Some(Box::new(shared));
    }

    /// State that is shared with other servers; `None`: nothing is shared.
    pub fn shared(&self) -> Option<&Shared> {
        self.shared.as_deref()
    }

    /// Marks the outcome of a device as changed, if this new update progress changes it.
    pub(super) fn share_change(&mut self, slot: u32, after: Option<Progress>) {
        if let (Some(shared), Some(record)) = (&mut self.shared, self.table.get(slot)) {
            let outcome = |progress: Option<Progress>| {
                progress.and_then(|progress| Some((progress.target, OutcomeKind::of(progress)?)))
            };
            if outcome(record.progress) != outcome(after) {
                shared.changed.insert(record.device);
            }
        }
    }

    /// Returns the outcomes that this server has seen; `None` if they have not changed. `listed` returns whether a
    /// device is in the list of known devices.
    pub fn own_outcomes(
        &mut self,
        listed: impl Fn(DeviceId) -> bool,
        wall: Wall,
    ) -> Option<Outcomes> {
        let shared = self.shared.as_mut()?;
        shared.wall = wall;
        let changed = shared.take_changed();
        if changed.is_empty() {
            return None;
        }
        for device in changed {
            let key = shared.device(device);
            let record = self.table.device(device);
            let progress = record.and_then(|record| record.progress);
            let kind = progress.and_then(OutcomeKind::of);
            let (Some(record), Some(progress), Some(kind)) = (record, progress, kind) else {
                shared.own.remove(&key);
                continue;
            };
            let known = shared.own.get(&key);
            let known = known.filter(|own| own.target == progress.target);
            let is_new = known.is_none_or(|own| own.outcome.kind != kind);
            let time = match known {
                Some(own) if !is_new => own.outcome.time,
                _ => shared.time_after(key, progress.since),
            };
            let target = self.releases.get(progress.target);
            let release =
                target.and_then(|target| self.releases.release(target.project, &target.version));
            let first = release.map_or(wall.stamp, |release| release.first);
            let outcome = SharedOutcome {
                time,
                kind,
                network: record.network.map_or(0, |network| shared.network(network)),
                established: shared.is_established(key)
                    || record.counts_for(first)
                    || listed(device),
                from: progress.from,
            };
            let target = progress.target;
            shared.own.insert(key, OwnOutcome { target, outcome });
        }
        shared.prune();
        let mut own: Vec<_> = shared.own.iter().collect();
        own.sort_unstable_by_key(|(_, own)| own.target);
        let lists = own.chunk_by(|(_, one), (_, other)| one.target == other.target);
        let lists = lists.filter_map(|list| {
            let (_, first) = list.first()?;
            let target = self.releases.get(first.target)?;
            let content = SharedContent {
                project: (*self.releases.project(target.project)?.name).into(),
                version: (*target.version).into(),
                content: target.content,
                size: target.size,
            };
            let outcomes = list.iter().map(|(key, own)| (**key, own.outcome));
            Some((content, outcomes.collect()))
        });
        Some(lists.collect())
    }

    /// Applies the result of an exchange. Returns whether the outcomes of the peers have changed.
    pub fn apply_exchange(&mut self, exchanged: Exchanged) -> bool {
        let Some(shared) = &mut self.shared else {
            return false;
        };
        shared.states = exchanged.states;
        if let Some(counts) = exchanged.counts {
            shared.counts = counts;
        }
        let Some(peers) = exchanged.peers else {
            return false;
        };
        self.releases.set_peer_reverts(&peers.contents);
        shared.peers = peers;
        true
    }

    /// The newest outcome of a device, if a peer has seen that outcome.
    pub(super) fn newer_peer_outcome(&self, record: &DeviceRecord) -> Option<PeerOutcome<'_>> {
        self.peer_outcome(record.device)
            .filter(|peer| self.is_newer(record, peer))
    }

    /// Whether a peer's outcome of a device is newer than the one that this server knows.
    pub(super) fn is_newer(&self, record: &DeviceRecord, peer: &PeerOutcome<'_>) -> bool {
        let since = record.progress.map(|progress| progress.since);
        let shared = self.shared.as_ref();
        shared.is_some_and(|shared| shared.is_newer(peer.device, peer.outcome, since))
    }

    /// The newest outcome of a device that a peer has seen. The one that this server knows may be newer.
    pub(super) fn peer_outcome(&self, device: DeviceId) -> Option<PeerOutcome<'_>> {
        let shared = self.shared.as_ref().filter(|shared| shared.has_peers())?;
        let device = shared.device(device);
        let (place, outcome) = *shared.peers.devices.get(&device)?;
        let (content, _) = shared.peers.contents.get(place)?;
        Some(PeerOutcome {
            device,
            content,
            outcome,
        })
    }

    /// Whether this server or a peer has already seen that a device counts in the fuse.
    pub(super) fn is_established_at_peers(&self, device: DeviceId) -> bool {
        let shared = self.shared.as_ref().filter(|shared| shared.has_peers());
        shared.is_some_and(|shared| shared.is_established(shared.device(device)))
    }

    /// Whether the target has this content.
    pub(super) fn has_content(&self, id: TargetId, content: ContentId) -> bool {
        let target = self.releases.get(id);
        target.is_some_and(|target| target.content == content)
    }

    /// The outcomes of a release that peers have seen, and for which this server knows no newer ones. Reverts from
    /// before a person resumed the release do not count.
    pub(super) fn peer_outcomes<'a>(
        &'a self,
        (project, version): (&'a str, &'a str),
        resumed: Option<Stamp>,
    ) -> impl Iterator<Item = PeerOutcome<'a>> {
        let shared = self.shared.as_deref();
        let resumed = resumed.zip(shared);
        let resumed = resumed.map(|(at, shared)| shared.wall.unix_of(at));
        let found = shared.into_iter().flat_map(move |shared| {
            shared.peers.devices.iter().filter_map(move |(key, found)| {
                let (place, outcome) = *found;
                let (content, _) = shared.peers.contents.get(place)?;
                let peer = PeerOutcome {
                    device: *key,
                    content,
                    outcome,
                };
                let own = shared.own.get(key);
                let is_newest = own.is_none_or(|own| outcome > own.outcome);
                (is_newest && peer.is_of(project, version)).then_some(peer)
            })
        });
        found.filter(move |peer| {
            let is_revert = peer.outcome.kind.state() == State::Reverted;
            !is_revert || resumed.is_none_or(|resumed| peer.outcome.time > resumed)
        })
    }

    /// Takes the outcome of a peer as the update progress of a device that sends a check, if the peer has delivered to
    /// the device since.
    pub(super) fn adopt_outcome(&mut self, slot: u32, check: &Check<'_>, now: Stamp) -> Option<()> {
        let record = self.table.get(slot)?;
        let peer = self.newer_peer_outcome(record)?;
        let (content, outcome) = (peer.content, peer.outcome);
        let shared = self.shared.as_ref()?;
        let (project, before) = (record.project, record.progress);
        let release = self.releases.release(project, &content.version);
        let resumed = release
            .filter(|_| *content.project == *check.project())?
            .resumed;
        let is_old = resumed.is_some_and(|at| outcome.time <= shared.wall.unix_of(at));
        if is_old && outcome.kind.state() == State::Reverted {
            return None;
        }
        let age = shared.wall.unix_of(now).saturating_sub(outcome.time);
        let age = u32::try_from(age).unwrap_or_default();
        let (version, id, size) = (content.version.clone(), content.content, content.size);
        let target = self.releases.intern(project, &version, id, size, now)?;
        let progress = Progress {
            state: outcome.kind.state(),
            reached: capped(size),
            outcome: outcome.kind.outcome(),
            by_proxy: outcome.kind == OutcomeKind::Sent,
            ..Progress::offered(target, outcome.from, now.minus(age))
        };
        if before != Some(progress) {
            self.set_progress(slot, Some(progress));
            self.queue_established(slot);
        }
        Some(())
    }
}
