//! Devices as people see them.

use super::Devices;
use super::record::DeviceRecord;
use crate::firmware::audience::DeviceId;
use crate::fleet::clock::Wall;
use crate::fleet::network::Network;
use crate::fleet::releases::ProjectId;
use crate::fleet::short_version::ShortVersion;
use crate::fleet::view::{DeviceView, Filter};

/// Slots that one page looks through at most.
const LOOKED_AT: u32 = 65_536;

impl Devices {
    /// One device, without what the rest of the fleet knows of it.
    pub fn view(&self, device: DeviceId, wall: Wall) -> Option<DeviceView> {
        let slot = self.table.find(device)?;
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
        let wanted = filter.project.as_deref();
        // A project that nobody asked for has no devices.
        let project = match wanted.map(|name| self.releases.project_id(name)) {
            Some(None) => return (page, None),
            Some(Some(project)) => Some(project),
            None => None,
        };
        let version = filter.version.as_deref().map(ShortVersion::of);
        let is_in_state = |record: &DeviceRecord| {
            let state = record.journey.map(|journey| journey.state);
            filter.state.is_none() || filter.state == state
        };
        let until = from.saturating_add(LOOKED_AT);
        for (slot, record) in self.table.from(from) {
            if slot >= until {
                return (page, Some(slot));
            }
            let passes = project.is_none_or(|project| record.project == project)
                && version.is_none_or(|version| record.version == version)
                && is_in_state(record)
                && self.begins_with(slot, record, &filter.prefix)
                && (!filter.held || held(record.device));
            if !passes {
                continue;
            }
            if page.len() >= most {
                return (page, Some(slot));
            }
            page.extend(self.view_at(slot, record, wall));
        }
        (page, None)
    }

    fn begins_with(&self, slot: u32, record: &DeviceRecord, prefix: &str) -> bool {
        if prefix.is_empty() {
            return true;
        }
        let text = self.table.text(slot, record);
        let beginning = text.as_bytes().get(..prefix.len());
        // A MAC may be written in small letters, and is shown in capital ones.
        match (beginning, record.device) {
            (Some(beginning), DeviceId::Mac(_)) => {
                beginning.eq_ignore_ascii_case(prefix.as_bytes())
            }
            (Some(beginning), _) => beginning == prefix.as_bytes(),
            (None, _) => false,
        }
    }
}
