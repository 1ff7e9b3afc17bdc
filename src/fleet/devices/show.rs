//! Devices as people see them.

use super::Devices;
use super::record::{Rank, Record};
use crate::decision::Check;
use crate::firmware::audience::DeviceId;
use crate::fleet::clock::Stamp;
use crate::fleet::network::Network;
use crate::fleet::profiles::ProfileId;
use crate::fleet::view::{DeviceView, Filter, JourneyView};

/// Records that one page looks through at most.
const LOOKED_AT: u32 = 65_536;

/// What of a view the devices do not know themselves.
pub trait Beside {
    /// The Unix time of a stamp.
    fn unix(&self, stamp: Stamp) -> i64;
    /// Does it stand in the list of known devices?
    fn listed(&self, device: DeviceId) -> bool;
    /// Does the loop guard hold it?
    fn held(&self, device: DeviceId) -> bool;
}

impl Devices {
    /// One device.
    pub fn view(&self, device: DeviceId, beside: &impl Beside) -> Option<DeviceView> {
        let slot = self.table.find(device)?;
        self.view_at(slot, self.table.get(slot)?, beside)
    }

    fn view_at(&self, slot: u32, record: &Record, beside: &impl Beside) -> Option<DeviceView> {
        let device = record.device();
        let journey = record.journey().and_then(|journey| {
            let target = self.targets.get(journey.target)?;
            let entry = self.journey_entry(journey)?;
            Some(JourneyView {
                version: target.version.to_string(),
                content: target.content.to_string(),
                state: journey.state,
                since: beside.unix(journey.since),
                reached: entry.reached,
                size: target.size,
                from: journey.from.as_str().to_owned(),
                reported: record.report(),
            })
        });
        Some(DeviceView {
            id: self.text(slot, record).into(),
            kind: record.kind_word(),
            project: self.targets.project(record.project)?.name.to_string(),
            version: record.version.as_str().to_owned(),
            first: beside.unix(record.first),
            last: beside.unix(record.last),
            interval: record.interval,
            probation: record.rank == Rank::Probation,
            listed: beside.listed(device),
            journey,
            network: record.network(),
            check: self.check_at(slot, record)?,
            is_whole: record.profile != ProfileId::NONE,
            held: Vec::new(),
        })
    }

    /// The check that the device sends, as far as it is known.
    fn check_at(&self, slot: u32, record: &Record) -> Option<Check<'static>> {
        let mut check = Check {
            device: Some(record.device()),
            device_text: self.text(slot, record).into_string().into(),
            version: record.version.as_str().to_owned().into(),
            ..Check::default()
        };
        match self.profiles.get(record.profile) {
            Some(profile) => profile.clone().fill(&mut check),
            None => {
                let project = &*self.targets.project(record.project)?.name;
                check.path_project = Some(project.to_owned().into());
            }
        }
        Some(check)
    }

    /// The network from which a device was last seen.
    pub fn network(&self, device: DeviceId) -> Option<Network> {
        self.table.get(self.table.find(device)?)?.network()
    }

    /// At most `most` devices from a slot on that pass the filter, with their ids. Where to go on;
    /// `None`: that was all.
    pub fn page(
        &self,
        filter: &Filter,
        from: u32,
        most: usize,
        beside: &impl Beside,
    ) -> (Vec<(DeviceId, DeviceView)>, Option<u32>) {
        let mut page = Vec::new();
        let wanted = filter.project.as_deref();
        // A project that nobody asked for has no devices.
        let project = match wanted.map(|name| self.targets.project_id(name)) {
            Some(None) => return (page, None),
            Some(Some(project)) => Some(project),
            None => None,
        };
        let version = filter.version.as_deref().map(super::ShortVersion::of);
        let prefix = filter.prefix.as_str();
        let end = self.table.end();
        let until = from.saturating_add(LOOKED_AT).min(end);
        for slot in from..until {
            let Some(record) = self.table.get(slot) else {
                continue;
            };
            let passes = project.is_none_or(|project| record.project == project)
                && version.is_none_or(|version| record.version == version)
                && filter
                    .state
                    .is_none_or(|state| record.journey().is_some_and(|j| j.state == state))
                && self.begins_with(slot, record, prefix)
                && (!filter.held || beside.held(record.device()));
            if !passes {
                continue;
            }
            if page.len() >= most {
                return (page, Some(slot));
            }
            if let Some(view) = self.view_at(slot, record, beside) {
                page.push((record.device(), view));
            }
        }
        (page, (until < end).then_some(until))
    }

    fn begins_with(&self, slot: u32, record: &Record, prefix: &str) -> bool {
        if prefix.is_empty() {
            return true;
        }
        let begins = |text: &str| {
            let beginning = text.as_bytes().get(..prefix.len());
            // A MAC may be written in small letters, and is shown in capital ones.
            let is_mac = record.kind_word() == "mac";
            match beginning {
                Some(beginning) if is_mac => beginning.eq_ignore_ascii_case(prefix.as_bytes()),
                Some(beginning) => beginning == prefix.as_bytes(),
                None => false,
            }
        };
        match record.text() {
            Some(digits) => begins(digits.as_str()),
            None => self.texts.get(slot).is_some_and(begins),
        }
    }
}
