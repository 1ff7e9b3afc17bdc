//! Who asks: the device, what it says that it runs, and where it asks from. Made once for each check by
//! the device room; everything that the fleet remembers is keyed by parts of it.

use super::network::{Network, Wide};
use super::pins::Downloader;
use crate::decision::Check;
use crate::firmware::audience::DeviceId;

/// One asker. Only checks with an id have one; whoever has none is never remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Who {
    /// The id that it claims.
    pub device: DeviceId,
    /// The id and all that it says of itself, its version included: the key of its pins.
    pub downloader: Downloader,
    /// The id and what it says of itself without its version: the key of its guard, with `wide`.
    pub unit: Downloader,
    /// Where it asks from, for pins.
    pub network: Network,
    /// The same more coarsely, for the loop guard: carriers move a module between /24s.
    pub wide: Wide,
}

impl Who {
    /// Who asks this from there; `None` without an id.
    pub fn of(check: &Check<'_>, address: std::net::IpAddr) -> Option<Who> {
        let device = check.device?;
        let core = check.core_version.unwrap_or_default().to_string();
        let name = check.firmware_name.as_deref().unwrap_or_default();
        let project = check.project();
        Some(Who {
            device,
            downloader: Downloader::of(device, &[project, name, &check.version, &core]),
            unit: Downloader::of(device, &[project, name]),
            network: Network::of(address),
            wide: Wide::of(address),
        })
    }
}
