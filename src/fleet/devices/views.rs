//! Devices as people see them.

use super::Devices;
use super::record::DeviceRecord;
use crate::decision::Check;
use crate::firmware::audience::DeviceId;
use crate::fleet::clock::Wall;
use crate::fleet::entry::known_check;
use crate::fleet::network::Network;
use crate::fleet::profiles::Profile;
use crate::fleet::releases::ProjectId;
use crate::fleet::view::{DeviceView, Filter};

/// Slots that one page looks through at most: about a tenth of a millisecond, so that devices never wait for it.
pub(super) const LOOKED_AT: u32 = 512;

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

    /// Calls `visit` with the check that each device of a project sends, as far as it is known. Looks at `most` slots from
    /// one on, and returns the next one; `None`: there is none.
    pub fn checks(
        &self,
        project: &str,
        from: u32,
        most: u32,
        mut visit: impl FnMut(Check<'_>),
    ) -> Option<u32> {
        let id = self.releases.project_id(project)?;
        let end = from.saturating_add(most);
        let slice = self.table.from(from);
        for (slot, record) in slice.take_while(|(slot, _)| *slot < end) {
            if record.project == id {
                let text = self.table.text(slot, record);
                let version = record.version.as_str();
                let profile = self.profiles.get(record.profile);
                let profile = profile.map(Profile::borrowed);
                visit(known_check(record.device, &text, version, project, profile));
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
