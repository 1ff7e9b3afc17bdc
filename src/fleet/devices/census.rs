//! Census of the devices of a project for the fuse of one release (docs/hazards.md 29): the devices that count, their
//! outcomes, and whether they are in more than one network. One walk over the table.
//!
//! docs/evidence.md states which devices count, and why.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::Devices;
use super::record::DeviceRecord;
use super::shared::PeerOutcome;
use crate::firmware::audience::{DeviceId, cohort};
use crate::firmware::rules::Rules;
use crate::firmware::version::Version;
use crate::fleet::clock::Stamp;
use crate::fleet::progress::{TargetId, patience};
use crate::fleet::releases::ProjectId;
use crate::fleet::releases::fuse::{Census, Group, OutcomeCounts};
use crate::fleet::shared::OutcomeKind;

/// Number of listed and established devices of a project below which every device with a whole download counts.
pub const ESTABLISHED: u32 = 10;

/// A walk over the devices, some at a time, that counts the listed and established ones of some projects.
#[derive(Debug, Default)]
pub struct EstablishedWalk {
    /// Slot at which the next call continues.
    next: u32,
    found: HashMap<ProjectId, u32>,
    /// Number of projects for which fewer than [`ESTABLISHED`] devices were found so far.
    missing: usize,
}

/// Up to two different networks, as numbers.
#[derive(Default)]
struct NetworkPair(BTreeSet<u64>);

impl NetworkPair {
    fn add(&mut self, network: Option<u64>) {
        if !self.is_two() {
            self.0.extend(network);
        }
    }

    fn is_two(&self) -> bool {
        self.0.len() == 2
    }
}

/// Counts for a release or for one of its contents.
#[derive(Default)]
struct Count {
    outcomes: OutcomeCounts,
    admitted: u32,
    reverted_in: NetworkPair,
}

impl Count {
    fn add(&mut self, device: &CensusDevice) {
        self.admitted += 1;
        match device.outcome {
            Some(OutcomeKind::Confirmed) => self.outcomes.confirmed += 1,
            Some(OutcomeKind::Reverted | OutcomeKind::FellBack) => {
                self.outcomes.reverted += 1;
                self.reverted_in.add(device.network);
            }
            Some(OutcomeKind::Silent) => self.outcomes.silent += 1,
            Some(OutcomeKind::Delivered | OutcomeKind::Sent) | None => {}
        }
    }

    fn group(&self, networks: &NetworkPair) -> Group {
        Group {
            outcomes: self.outcomes,
            admitted: self.admitted,
            spread: networks.is_two(),
            reverted_spread: self.reverted_in.is_two(),
        }
    }
}

/// A device in a census.
struct CensusDevice {
    /// Number of its network, if that is known.
    network: Option<u64>,
    /// Outcome of its delivery; `None` if it has not got a whole file of the release.
    outcome: Option<OutcomeKind>,
    /// Place of its target in the release; `None` if it may be offered any of them.
    target: Option<usize>,
}

impl CensusDevice {
    /// Whether the update has a result, or the device is silent.
    fn is_heard(&self) -> bool {
        !matches!(
            self.outcome,
            None | Some(OutcomeKind::Delivered | OutcomeKind::Sent)
        )
    }
}

/// Counts for one choice of devices.
struct CensusCounts {
    /// Counts for the release, then for each of its targets.
    groups: Vec<Count>,
    networks: NetworkPair,
}

impl CensusCounts {
    /// Adds a device to the counts.
    fn add(&mut self, device: &CensusDevice) {
        for (place, count) in self.groups.iter_mut().enumerate() {
            let is_of = place == 0 || device.target.is_none_or(|at| at + 1 == place);
            if is_of {
                count.add(device);
            }
        }
    }
}

/// Counts of the established devices, and of all devices that have a whole file. A census is the former if there are
/// enough established devices, otherwise the latter.
struct CensusTotals {
    /// Number of listed and established devices.
    established: u32,
    of_established: CensusCounts,
    /// Counts whose networks include those of the established devices.
    of_all: CensusCounts,
}

impl CensusTotals {
    fn new(targets: usize) -> CensusTotals {
        let counts = || CensusCounts {
            groups: (0..=targets).map(|_| Count::default()).collect(),
            networks: NetworkPair::default(),
        };
        CensusTotals {
            established: 0,
            of_established: counts(),
            of_all: counts(),
        }
    }

    /// Adds a listed or established device. `is_admitted`: whether the release is or will be offered to it.
    fn add_established(&mut self, device: &CensusDevice, is_admitted: bool) {
        self.established += 1;
        self.of_established.networks.add(device.network);
        self.of_all.networks.add(device.network);
        if is_admitted {
            self.of_established.add(device);
        }
    }

    /// Adds a device that has a whole file of the release.
    fn add_with_file(&mut self, device: &CensusDevice) {
        self.of_all.networks.add(device.network);
        self.of_all.add(device);
    }

    fn into_census(self) -> Census {
        let counts = match self.established < ESTABLISHED {
            true => self.of_all,
            false => self.of_established,
        };
        let groups = counts.groups.iter();
        Census {
            established: self.established,
            groups: groups.map(|count| count.group(&counts.networks)).collect(),
        }
    }
}

impl Devices {
    /// Begins a walk that counts the listed and established devices of some projects.
    pub fn established_walk<'p>(&self, projects: impl Iterator<Item = &'p str>) -> EstablishedWalk {
        let ids = projects.filter_map(|project| self.releases.project_id(project));
        let found: HashMap<_, _> = ids.map(|id| (id, 0)).collect();
        let missing = found.len();
        EstablishedWalk {
            next: 0,
            found,
            missing,
        }
    }

    /// Examines `most` more slots. Returns whether the walk has ended. `listed` returns whether a device is in the list
    /// of known devices.
    pub fn walk_established(
        &self,
        walk: &mut EstablishedWalk,
        most: u32,
        listed: impl Fn(DeviceId) -> bool,
    ) -> bool {
        let end = walk.next.saturating_add(most);
        for (slot, record) in self.table.from(walk.next) {
            if slot >= end || walk.missing == 0 {
                break;
            }
            if let Some(found) = walk.found.get_mut(&record.project)
                && *found < ESTABLISHED
                && (record.counts_for(record.last) || listed(record.device))
            {
                *found += 1;
                walk.missing -= usize::from(*found == ESTABLISHED);
            }
        }
        walk.next = end;
        walk.missing == 0 || end >= self.table.end()
    }

    /// Returns the number of listed and established devices of a project that a walk has found, for a release that
    /// would be published now. At most [`ESTABLISHED`] are counted.
    pub fn established_of(&self, project: &str, walk: &EstablishedWalk) -> u32 {
        let project = self.releases.project_id(project);
        let found = project.and_then(|project| walk.found.get(&project));
        found.copied().unwrap_or_default()
    }

    /// Counts the devices that matter to the fuse of a release with these rules. `listed`: whether a device is listed.
    pub fn census(
        &self,
        (project_name, version): (&str, &str),
        rules: &Rules,
        listed: impl Fn(DeviceId) -> bool,
        now: Stamp,
    ) -> Option<Census> {
        let project = self.releases.project_id(project_name)?;
        let release = self.releases.release(project, version)?;
        let targets: &[TargetId] = release.targets();
        let number = Version::parse(version);
        let admitted = (rules, self.releases.max_percent(rules, release));
        let mut totals = CensusTotals::new(targets.len());
        // Devices with an outcome of a peer: `established_peers` are the established ones that are counted by that
        // outcome, `counted_here` those that are counted by this server's own record.
        let (mut established_peers, mut counted_here) = (HashSet::new(), HashSet::new());
        let records = self.table.from(0).map(|(_, record)| record);
        for record in records.filter(|record| record.project == project) {
            let is_counted = record.counts_for(release.first) || listed(record.device);
            let peer = self.peer_outcome(record.device);
            let is_newer = peer.is_some_and(|peer| self.is_newer(record, &peer));
            // An unfinished download here does not cancel the outcome that the peer has seen.
            let is_only = record.progress.and_then(OutcomeKind::of).is_none();
            let is_of = |peer: &PeerOutcome<'_>| peer.is_of(project_name, version);
            if let Some(peer) = peer.filter(is_of).filter(|_| is_newer || is_only) {
                // Counted in the loop over the peers' outcomes below.
                if is_counted {
                    established_peers.insert(peer.device);
                }
                continue;
            }
            let progress = record.progress.filter(|_| !is_newer);
            let target = progress.and_then(|p| targets.iter().position(|id| *id == p.target));
            let progress = progress.filter(|_| target.is_some());
            counted_here.extend(peer.filter(|_| target.is_some()).map(|peer| peer.device));
            let device = CensusDevice {
                network: self.census_network(record),
                outcome: progress.and_then(OutcomeKind::of),
                target,
            };
            if is_counted || device.is_heard() && self.is_established_at_peers(record.device) {
                // The device was not seen for three of its intervals.
                let is_absent = now.since(record.last.max(self.began)) > patience(record.interval);
                // A device that sent a check since the release was published, and was not offered it, is not admitted.
                let may_update = || {
                    record.last < release.first
                        && admits(admitted, project_name, number, record.device)
                };
                let may_get = !is_absent && (target.is_some() || may_update());
                totals.add_established(&device, device.is_heard() || may_get);
            }
            if device.outcome.is_some() {
                totals.add_with_file(&device);
            }
        }
        for peer in self.peer_outcomes((project_name, version), release.resumed) {
            if counted_here.contains(&peer.device) {
                continue;
            }
            let device = self.census_peer(&peer, targets);
            if peer.outcome.established || established_peers.contains(&peer.device) {
                totals.add_established(&device, true);
            }
            totals.add_with_file(&device);
        }
        Some(totals.into_census())
    }

    /// Number of the network in which a device was last seen, comparable with those of the peers.
    fn census_network(&self, record: &DeviceRecord) -> Option<u64> {
        let network = record.network?;
        Some(match &self.shared {
            Some(shared) => shared.network(network),
            None => network.number(),
        })
    }

    /// The device that has an outcome at a peer.
    fn census_peer(&self, peer: &PeerOutcome<'_>, targets: &[TargetId]) -> CensusDevice {
        let network = peer.outcome.network;
        // The content may differ from those that were offered here.
        let target = targets
            .iter()
            .position(|id| self.has_content(*id, peer.content.content));
        CensusDevice {
            network: (network != 0).then_some(network),
            outcome: Some(peer.outcome.kind),
            target: Some(target.unwrap_or(targets.len())),
        }
    }
}

/// Whether the rules that depend only on the device admit it.
fn admits(
    (rules, percent): (&Rules, Option<f64>),
    project: &str,
    version: Option<Version>,
    device: DeviceId,
) -> bool {
    let (allow, deny) = (rules.allow.as_ref(), rules.deny.as_ref());
    let is_named = allow.is_some_and(|allow| allow.lists_singly(device));
    let is_in_rollout = || match (percent, version) {
        (Some(percent), Some(version)) => {
            f64::from(cohort(project, version, device)) < percent * 100.0
        }
        _ => true,
    };
    allow.is_none_or(|allow| allow.contains(device))
        && !deny.is_some_and(|deny| deny.contains(device))
        && (is_named || is_in_rollout())
}
