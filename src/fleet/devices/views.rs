//! Views of devices for people.

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

/// Largest number of slots that are examined for one page: about 0.1 ms, so that devices never wait for it.
pub(super) const MAX_EXAMINED: u32 = 512;

/// A device of a project.
#[cfg(feature = "operator")]
#[derive(Clone, Copy, Debug)]
pub struct ProjectDevice<'d> {
    devices: &'d Devices,
    project: &'d str,
    slot: u32,
    record: &'d DeviceRecord,
}

/// The check of a device without the id. Devices of one project with the same value send the same check but for the id.
#[cfg(feature = "operator")]
pub type CheckWithoutId = (ProfileId, ShortVersion);

#[cfg(feature = "operator")]
impl ProjectDevice<'_> {
    /// Id of the device.
    pub fn id(&self) -> DeviceId {
        self.record.device
    }

    /// The check without the id.
    pub fn check_without_id(&self) -> CheckWithoutId {
        (self.record.profile, self.record.version)
    }

    /// Whether the device has a whole file that it need not run yet. Only then is the file that it waits with known.
    pub fn may_wait(&self) -> bool {
        let progress = self.record.progress;
        progress.is_some_and(|progress| progress.state.has_all())
    }

    /// Calls `visit` with the check that the device sends, as far as it is known.
    pub fn check<T>(&self, visit: impl FnOnce(Check<'_>) -> T) -> T {
        let text = self.devices.table.text(self.slot, self.record);
        let profile = self.devices.profiles.get(self.record.profile);
        visit(known_check(
            self.record.device,
            &text,
            self.record.version.as_str(),
            self.project,
            profile.map(Profile::borrowed),
        ))
    }
}

impl Devices {
    /// One device, without the fields that other parts of the fleet provide.
    pub fn view(&self, device: DeviceId, wall: Wall) -> Option<DeviceView> {
        let slot = self.table.find(device)?;
        self.view_at(slot, self.table.get(slot)?, wall)
    }

    /// The device at a slot, without the fields that other parts of the fleet provide.
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

    /// Calls `visit` with each device of a project, until it returns `false`. Examines `most` slots, starting at
    /// `from`. Returns the next slot; `None` if no slots are left.
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

    /// Returns at most `most` devices that pass the filter, starting at the slot `from`, and the slot of the next page,
    /// or `None` after the last page. A page may be short, because at most [`MAX_EXAMINED`] slots are examined. `held`
    /// returns whether the loop guard holds a device.
    pub fn page(
        &self,
        filter: &Filter,
        from: u32,
        most: usize,
        wall: Wall,
        held: impl Fn(DeviceId) -> bool,
    ) -> (Vec<DeviceView>, Option<u32>) {
        let mut page = Vec::new();
        let Some(resolved) = self.resolve(filter) else {
            return (page, None);
        };
        let until = from.saturating_add(MAX_EXAMINED);
        for (slot, record) in self.table.from(from) {
            if slot >= until {
                return (page, Some(slot));
            }
            if !self.passes(slot, record, &resolved, &held) {
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
