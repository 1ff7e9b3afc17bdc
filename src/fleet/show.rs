//! What people see of the fleet: the operator's API and page.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use super::Fleet;
use super::clock::Stamp;
use super::devices::{Beside, ESTABLISHED};
use super::releases::StateCounts;
use super::requester::Requester;
use super::view::{DeviceView, Filter, HoldView, Page};
use crate::decision::{Check, Known};
use crate::firmware::audience::DeviceId;

impl Fleet {
    /// Devices under way to a release.
    pub fn counts(&self, project: &str, version: &str) -> StateCounts {
        self.releases().counts(project, version)
    }

    /// What is not known yet of a project's devices, as far as its releases depend on it; a sentence.
    pub fn unknown(&self, project: &str) -> Option<String> {
        let listed = |device| self.is_listed(device);
        let established = self.devices.established_of(project, listed);
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

    /// How many devices are remembered.
    pub fn devices(&self) -> usize {
        self.devices.len()
    }

    /// Remembered devices that ask for a project.
    pub fn devices_of(&self, project: &str) -> u32 {
        self.releases().devices(project)
    }

    /// What the decision needs to know of the device of a check that somebody else asks about. It is taken to
    /// ask from where it was last seen. Whatever it is held back from counts, although the check may differ from
    /// its own in what the loop guard tells modules under one id apart by.
    pub fn known_of(&self, check: &Check<'_>, now: Instant) -> Known<'_> {
        let network = check.device.and_then(|device| self.devices.network(device));
        let address = network.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |network| {
            network.address()
        });
        let mut known = self.known(check, Requester::of(check, address).as_ref(), now);
        if let Some(device) = check.device
            && known.looping.is_empty()
        {
            let now = self.clock.stamp(now);
            let against = self.loop_guard.against(device);
            against
                .filter(|evidence| evidence.held_until(now).is_some())
                .for_each(|evidence| known.looping.add(evidence.entry.content, false));
        }
        known
    }

    /// One device.
    pub fn device(&self, device: DeviceId, now: Instant, unix: i64) -> Option<DeviceView> {
        let outlook = self.outlook(now, unix);
        let mut view = self.devices.view(device, &outlook)?;
        view.held = outlook.against(device);
        Some(view)
    }

    /// Some devices. Looks through a bounded number of records.
    pub fn page(
        &self,
        filter: &Filter,
        after: Option<u32>,
        most: usize,
        now: Instant,
        unix: i64,
    ) -> Page {
        let outlook = self.outlook(now, unix);
        let from = after.unwrap_or_default();
        let (found, next) = self.devices.page(filter, from, most, &outlook);
        let devices = found.into_iter().map(|(device, mut view)| {
            view.held = outlook.against(device);
            view
        });
        Page {
            devices: devices.collect(),
            next,
        }
    }

    fn outlook(&self, now: Instant, unix: i64) -> Outlook<'_> {
        Outlook {
            fleet: self,
            now: self.clock.stamp(now),
            unix,
        }
    }
}

/// What of a device's view the devices do not know themselves.
struct Outlook<'f> {
    fleet: &'f Fleet,
    now: Stamp,
    unix: i64,
}

impl Outlook<'_> {
    fn against(&self, device: DeviceId) -> Vec<HoldView> {
        let against = self.fleet.loop_guard.against(device);
        let views = against.map(|evidence| HoldView {
            content: evidence.entry.content.to_string(),
            until: evidence.held_until(self.now).map(|until| self.unix(until)),
            reverts: evidence.entry.reverts,
            sent: evidence.entry.sent,
        });
        views.collect()
    }
}

impl Beside for Outlook<'_> {
    fn unix(&self, stamp: Stamp) -> i64 {
        let ago = i64::from(self.now.0).saturating_sub(i64::from(stamp.0));
        self.unix.saturating_sub(ago)
    }

    fn listed(&self, device: DeviceId) -> bool {
        self.fleet.is_listed(device)
    }

    fn held(&self, device: DeviceId) -> bool {
        self.fleet.loop_guard.is_held(device, self.now)
    }
}
