//! Queries of the fleet, which change nothing.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use super::Fleet;
use super::clock::{Stamp, Wall};
use super::devices::{Above, DeviceSearch, ESTABLISHED, EstablishedWalk, RESULTS};
#[cfg(feature = "operator")]
use super::devices::{ProjectDevice, StepsView};
use super::entry::Authors;
use super::loop_guard::CheckFacts;
use super::pins::Began;
use super::progress::State;
use super::releases::{StageView, StateCounts};
use super::requester::{PinOwner, Requester};
use super::short_version::ShortVersion;
use super::view::{DevicePage, DeviceView, Filter, HoldView};
#[cfg(feature = "operator")]
use crate::decision::DeviceFact;
use crate::decision::{Check, Fetched, Fused, Known, Reached};
use crate::firmware::ContentId;
use crate::firmware::audience::DeviceId;
use crate::firmware::catalog::{Project, Release};

impl Fleet {
    /// Returns the facts about a device that the decision on its check depends on. Must be called before
    /// [`crate::decision::decide`].
    pub fn known(&self, check: &Check<'_>, who: Option<&Requester>, now: Instant) -> Known<'_> {
        let Some(who) = who else {
            return Known {
                is_unknown_device: self.settings.known_only,
                fused: self.releases().unstated_pauses(),
                reached: self.releases().reached(),
                ..Known::default()
            };
        };
        let now = self.clock.stamp(now);
        let (device, listed) = (who.device, self.is_listed(who.device));
        let facts = self.check_facts(check, who, false, now);
        let is_known = || listed || self.devices.knows(device);
        Known {
            is_unknown_device: self.settings.known_only && !is_known(),
            held: self.loop_guard.held(who, facts, now),
            fetched: facts.awaited.map(|awaited| Fetched {
                content: awaited.content,
                seconds: awaited.age,
            }),
            fused: self.releases().unstated_pauses(),
            reached: self.releases().reached(),
            may_try_fused: self.may_try_fused(check.project(), device, now),
        }
    }

    /// Whether a device may try a release of a project that the fuse has paused.
    fn may_try_fused(&self, project: &str, device: DeviceId, now: Stamp) -> bool {
        self.releases().may_try(project, device, now)
            && self.devices.may_try(device, self.is_listed(device))
    }

    /// Version that the device was last confirmed with, if it now reports the previous one. Whether the device has fallen
    /// back also depends on the time since then, and on whether the rules give the previous version to devices with the
    /// confirmed one.
    pub fn fallen_from(&self, check: &Check<'_>, who: Option<&Requester>) -> Option<ShortVersion> {
        self.devices.fallen_from(who?.device, check)
    }

    pub(super) fn check_facts(
        &self,
        check: &Check<'_>,
        who: &Requester,
        is_given: bool,
        now: Stamp,
    ) -> CheckFacts {
        CheckFacts {
            same_session: self.sessions.holds(who, now),
            is_given,
            awaited: self
                .devices
                .awaited_reboot(who.device, who.network, check, now),
        }
    }

    /// Returns the content of a download of which the client has the first `from` bytes.
    pub fn began(&self, owner: &PinOwner, from: u64, now: Instant) -> Began {
        self.pins.began(owner, from, self.clock.stamp(now))
    }

    /// Whether a download of this content was begun within the last day.
    pub fn has_begun(&self, owner: &PinOwner, content: ContentId, now: Instant) -> bool {
        self.pins.has(owner, content, self.clock.stamp(now))
    }

    /// Whether anything is remembered about a device, or the list of known devices contains it.
    pub fn remembers(&self, device: DeviceId) -> bool {
        self.devices.knows(device)
            || self.is_listed(device)
            || self.loop_guard.against(device).next().is_some()
    }

    /// Whether the list of known devices contains a device.
    pub(super) fn is_listed(&self, device: DeviceId) -> bool {
        self.known_list.contains(device)
    }

    /// Versions of devices that are higher than every remaining release, as of the last change of the firmware folder.
    pub fn versions_above(&self) -> &[Above] {
        self.versions_above.as_deref().unwrap_or_default()
    }

    /// Pauses by the fuse that release.json does not state, either not yet or no longer.
    pub fn fused(&self) -> &[Fused] {
        self.releases().unstated_pauses()
    }

    /// The stages that contents have reached, by content.
    pub fn reached(&self) -> &[Reached] {
        self.releases().reached()
    }

    /// The name that a group of the firmware folder gives a device.
    pub fn device_name(&self, device: DeviceId) -> Option<&str> {
        self.groups.device_name(device)
    }

    /// The name that a group of the firmware folder gives the sender of a check.
    pub fn device_name_of(&self, who: Option<&Requester>) -> Option<&str> {
        self.device_name(who?.device)
    }

    /// Number of pins.
    pub fn pinned(&self) -> usize {
        self.pins.len()
    }
}

/// Queries for the operator's API and page, and for `luat-ota explain`.
impl Fleet {
    /// Authors of the last upload and of the pause of a release.
    pub fn authors(&self, project: &str, version: &str) -> Authors {
        let authors = self.releases().authors(project, version);
        authors.cloned().unwrap_or_default()
    }

    /// Number of devices in each state on their way to a release.
    pub fn counts(&self, project: &str, version: &str) -> StateCounts {
        self.releases().counts(project, version)
    }

    /// Sentence about a project with too few established devices, where every device with a whole download counts in
    /// the fuse; `None` if the project has enough of them.
    pub fn few_established(&self, project: &str) -> Option<String> {
        let mut walk = self.established_walk(std::iter::once(project));
        self.walk_established(&mut walk, u32::MAX);
        self.few_established_after(&walk, project)
    }

    /// Begins a walk over the devices, for [`Fleet::few_established_after`] with one of these projects.
    pub fn established_walk<'p>(&self, projects: impl Iterator<Item = &'p str>) -> EstablishedWalk {
        self.devices.established_walk(projects)
    }

    /// Examines at most `most` more slots. Returns whether the walk has ended.
    pub fn walk_established(&self, walk: &mut EstablishedWalk, most: u32) -> bool {
        let listed = |device| self.is_listed(device);
        self.devices.walk_established(walk, most, listed)
    }

    /// Variant of [`Fleet::few_established`] after a walk that has ended.
    pub fn few_established_after(&self, walk: &EstablishedWalk, project: &str) -> Option<String> {
        let established = self.devices.established_of(project, walk);
        let how_many = match established {
            ESTABLISHED.. => return None,
            0 => "no device of this project is established yet".to_owned(),
            1 => "only 1 device of this project is established yet".to_owned(),
            few => format!("only {few} devices of this project are established yet"),
        };
        Some(format!(
            "{how_many}: every device with a whole download counts in the fuse"
        ))
    }

    /// Stage of the content of a release that has advanced least; `None` if the release has no stages.
    pub fn stage(
        &self,
        (project, version): (&str, &str),
        now: Instant,
        unix: i64,
    ) -> Option<StageView> {
        let wall = self.wall(now, unix);
        self.releases().stage(project, version, wall)
    }

    /// Stages of the releases of a project, each as `VERSION: stage`.
    pub fn stage_texts(&self, project: &Project, now: Instant, unix: i64) -> Vec<String> {
        let releases = project.releases.iter();
        let text = |release: &Release| {
            let version = &*release.version_text;
            let stage = self.stage((&project.name, version), now, unix)?;
            Some(format!("{version}: {stage}"))
        };
        releases.filter_map(text).collect()
    }

    /// Number of remembered devices.
    pub fn devices(&self) -> usize {
        self.devices.len()
    }

    /// Number of updates since the start that had a result, by state.
    pub fn results(&self) -> impl Iterator<Item = (State, u64)> {
        RESULTS.into_iter().zip(self.devices.results())
    }

    /// Number of remembered devices that ask for a project.
    pub fn devices_of(&self, project: &str) -> u32 {
        self.releases().devices(project)
    }

    /// Variant of [`Fleet::known`] for a check that a person asks about. The device is assumed to ask from the network
    /// where it was last seen. All of its holds count, although the check may differ from the device's own one in the
    /// facts by which the loop guard distinguishes devices under one id.
    pub fn known_for_operator(&self, check: &Check<'_>, now: Instant) -> Known<'_> {
        let network = check.device.and_then(|device| self.devices.network(device));
        let address = network.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |network| {
            network.address()
        });
        let mut known = self.known(check, Requester::of(check, address).as_ref(), now);
        if let Some(device) = check.device
            && known.held.is_empty()
        {
            let now = self.clock.stamp(now);
            let against = self.loop_guard.against(device);
            against
                .filter(|evidence| evidence.held_until(now).is_some())
                .for_each(|evidence| known.held.add(evidence.entry.content, false));
        }
        known
    }

    /// View of one device.
    pub fn device(&self, device: DeviceId, now: Instant, unix: i64) -> Option<DeviceView> {
        let wall = self.wall(now, unix);
        let view = self.devices.view(device, wall)?;
        Some(self.complete(view))
    }

    /// Most recent steps of a device.
    #[cfg(feature = "operator")]
    pub fn steps(&self, device: DeviceId) -> Option<StepsView> {
        self.devices.steps(device)
    }

    /// Calls `visit` with each device of a project, until it returns `false`. Examines at most `most` slots from slot
    /// `from` on. Returns the slot to continue with; `None` at the end of the table.
    #[cfg(feature = "operator")]
    pub fn of_project<'f>(
        &'f self,
        project: &'f str,
        from: u32,
        most: u32,
        visit: impl FnMut(ProjectDevice<'f>) -> bool,
    ) -> Option<u32> {
        self.devices.of_project(project, from, most, visit)
    }

    /// Whether a fact is true of a device, as [`Fleet::known_for_operator`] determines it; `None` if only that function
    /// can tell. `project`: the project that the device's check asks for.
    #[cfg(feature = "operator")]
    pub fn is_true(
        &self,
        fact: &DeviceFact<'_>,
        device: &ProjectDevice<'_>,
        project: &str,
        now: Instant,
    ) -> Option<bool> {
        let id = device.id();
        match fact {
            DeviceFact::Held { .. } if !self.loop_guard.knows(id) => Some(false),
            DeviceFact::Fetched { .. } if !device.may_wait() => Some(false),
            DeviceFact::MayTryFused => Some(self.may_try_fused(project, id, self.clock.stamp(now))),
            fact => fact.of_id(Some(id)),
        }
    }

    /// Page of devices from slot `after` on. Examines a bounded number of records.
    pub fn page(
        &self,
        filter: &Filter,
        after: Option<u32>,
        most: usize,
        now: Instant,
        unix: i64,
    ) -> DevicePage {
        let wall = self.wall(now, unix);
        let held = |device| self.loop_guard.is_held(device, wall.stamp);
        let from = after.unwrap_or_default();
        let (found, next) = self.devices.page(filter, from, most, wall, held);
        let devices = found.into_iter().map(|view| self.complete(view)).collect();
        DevicePage { devices, next }
    }

    /// Examines the next slice of a search. Returns whether there are more slices.
    pub fn search(&self, search: &mut DeviceSearch, now: Instant) -> bool {
        let now = self.clock.stamp(now);
        let held = |device| self.loop_guard.is_held(device, now);
        self.devices.search(search, held)
    }

    /// View of the device at a slot that a search has found.
    pub fn device_at(&self, slot: u32, now: Instant, unix: i64) -> Option<DeviceView> {
        let view = self.devices.view_of(slot, self.wall(now, unix))?;
        Some(self.complete(view))
    }

    fn wall(&self, now: Instant, unix: i64) -> Wall {
        let stamp = self.clock.stamp(now);
        Wall { stamp, unix }
    }

    /// Adds the facts that the table of devices does not have: the list of known devices, the name and the holds.
    fn complete(&self, mut view: DeviceView) -> DeviceView {
        let (device, wall) = (view.entry.device, view.wall);
        view.listed = self.is_listed(device);
        view.name = self.device_name(device).map(Box::from);
        let against = self.loop_guard.against(device);
        let holds = against.map(|evidence| HoldView {
            content: evidence.entry.content.to_string(),
            until: evidence
                .held_until(wall.stamp)
                .map(|until| wall.unix_of(until)),
            reverts: evidence.entry.reverts,
            sent: evidence.entry.sent,
        });
        view.held = holds.collect();
        view
    }
}
