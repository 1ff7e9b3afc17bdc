//! Devices as people see them.

use super::Devices;
use super::record::DeviceRecord;
#[cfg(feature = "operator")]
use crate::decision::Check;
use crate::firmware::audience::DeviceId;
use crate::fleet::clock::Wall;
#[cfg(feature = "operator")]
use crate::fleet::entry::known_check;
use crate::fleet::network::Network;
#[cfg(feature = "operator")]
use crate::fleet::profiles::{Profile, ProfileId};
use crate::fleet::releases::ProjectId;
#[cfg(feature = "operator")]
use crate::fleet::short_version::ShortVersion;
use crate::fleet::view::{DeviceView, Filter};

/// Slots that one page looks through at most: about a tenth of a millisecond, so that devices never wait for it.
pub(super) const LOOKED_AT: u32 = 512;

/// A device of a project.
#[cfg(feature = "operator")]
#[derive(Clone, Copy, Debug)]
pub struct ProjectDevice<'d> {
    devices: &'d Devices,
    project: &'d str,
    slot: u32,
    record: &'d DeviceRecord,
}

/// The check of a device but for its id. Two devices of one project that have the same send the same check otherwise.
#[cfg(feature = "operator")]
pub type CheckWithoutId = (ProfileId, ShortVersion);

#[cfg(feature = "operator")]
impl ProjectDevice<'_> {
    /// Its id.
    pub fn id(&self) -> DeviceId {
        self.record.device
    }

    /// Its check but for the id.
    pub fn check_without_id(&self) -> CheckWithoutId {
        (self.record.profile, self.record.version)
    }

    /// Whether it has a whole file and may not run it yet. Only then is a file known that it waits with.
    pub fn may_wait(&self) -> bool {
        let journey = self.record.journey;
        journey.is_some_and(|journey| journey.state.has_all())
    }

    /// Calls `give` with the check that it sends, as far as it is known.
    pub fn check<T>(&self, give: impl FnOnce(Check<'_>) -> T) -> T {
        let text = self.devices.table.text(self.slot, self.record);
        let profile = self.devices.profiles.get(self.record.profile);
        give(known_check(
            self.record.device,
            &text,
            self.record.version.as_str(),
            self.project,
            profile.map(Profile::borrowed),
        ))
    }
}

impl Devices {
    /// One device, without what the rest of the fleet knows of it.
    pub fn view(&self, device: DeviceId, wall: Wall) -> Option<DeviceView> {
        let slot = self.table.find(device)?;
        self.view_at(slot, self.table.get(slot)?, wall)
    }

    /// The device at a slot, without what the rest of the fleet knows of it.
    pub fn view_of(&self, slot: u32, wall: Wall) -> Option<DeviceView> {
        self.view_at(slot, self.table.get(slot)?, wall)
    }

    fn view_at(&self, slot: u32, record: &DeviceRecord, wall: Wall) -> Option<DeviceView> {
        Some(DeviceView {
            entry: self.entry(slot)?,
            wall,
            probation: !record.is_established(),
            reported: record.report,
            listed: false,
            name: None,
            held: Vec::new(),
        })
    }

    /// The network in which a device was last seen.
    pub fn network(&self, device: DeviceId) -> Option<Network> {
        self.table.device(device)?.network
    }

    /// The project that a device asks for.
    pub fn project(&self, device: DeviceId) -> Option<ProjectId> {
        Some(self.table.device(device)?.project)
    }

    /// Calls `visit` with each device of a project, until it returns `false`. Looks at `most` slots from one on, and returns
    /// the next one; `None`: there is none.
    #[cfg(feature = "operator")]
    pub fn of_project<'d>(
        &'d self,
        project: &'d str,
        from: u32,
        most: u32,
        mut visit: impl FnMut(ProjectDevice<'d>) -> bool,
    ) -> Option<u32> {
        let id = self.releases.project_id(project)?;
        let mut end = from.saturating_add(most);
        let slice = self.table.from(from);
        for (slot, record) in slice.take_while(|(slot, _)| *slot < end) {
            let device = || ProjectDevice {
                devices: self,
                project,
                slot,
                record,
            };
            if record.project == id && !visit(device()) {
                end = slot.saturating_add(1);
                break;
            }
        }
        (end < self.table.end()).then_some(end)
    }

    /// At most `most` devices from a slot on that pass the filter, and the slot of the next page; `None`: there is none.
    /// A page may be short: only so many slots are looked at. `held`: whether the loop guard holds a device.
    pub fn page(
        &self,
        filter: &Filter,
        from: u32,
        most: usize,
        wall: Wall,
        held: impl Fn(DeviceId) -> bool,
    ) -> (Vec<DeviceView>, Option<u32>) {
        let mut page = Vec::new();
        let Some(wanted) = self.wanted(filter) else {
            return (page, None);
        };
        let until = from.saturating_add(LOOKED_AT);
        for (slot, record) in self.table.from(from) {
            if slot >= until {
                return (page, Some(slot));
            }
            if !self.passes(slot, record, &wanted, &held) {
                continue;
            }
            if page.len() >= most {
                return (page, Some(slot));
            }
            page.extend(self.view_at(slot, record, wall));
        }
        (page, None)
    }
}
