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
        // Every check comes this way, so nothing is allocated for it.
        let mut core = [0; 10];
        let core = decimal(check.core_version.unwrap_or_default(), &mut core);
        let name = check.firmware_name.as_deref().unwrap_or_default();
        let project = check.project();
        Some(Who {
            device,
            downloader: Downloader::of(device, &[project, name, &check.version, core]),
            unit: Downloader::of(device, &[project, name]),
            network: Network::of(address),
            wide: Wide::of(address),
        })
    }
}

/// A number as text, as `to_string` would write it.
fn decimal(mut number: u32, room: &mut [u8; 10]) -> &str {
    let mut used: usize = 0;
    for digit in room.iter_mut().rev() {
        *digit = b'0'.wrapping_add((number % 10) as u8);
        used = used.wrapping_add(1);
        number /= 10;
        if number == 0 {
            break;
        }
    }
    let digits = room.get(room.len().saturating_sub(used)..);
    std::str::from_utf8(digits.unwrap_or_default()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_written_as_everywhere() {
        for number in [0, 7, 10, 3033, 999_999_999, u32::MAX] {
            assert_eq!(decimal(number, &mut [0; 10]), number.to_string());
        }
    }
}
