//! The uplink, shared among the downloads by the kernel (SO_MAX_PACING_RATE): each may send at the rate of the uplink
//! divided by the number of slots held. A download without a slot gets [`MIN_RATE`].

use crate::device::Limits;

/// Minimum rate of each download in bytes per second, since a module's time-out is for the whole download
/// (docs/protocol.md 2c).
const MIN_RATE: u64 = 4096;

/// Maximum number of downloads at once.
pub(super) fn download_cap(limits: &Limits) -> usize {
    let by_uplink = limits.uplink.map_or(u64::MAX, |uplink| uplink / MIN_RATE);
    let by_uplink = usize::try_from(by_uplink).unwrap_or(usize::MAX);
    limits.max_downloads.min(by_uplink).max(1)
}

/// Rate of one download in bytes per second. `held`: number of slots held.
pub(super) fn share(uplink: u64, held: usize, has_slot: bool) -> u64 {
    match has_slot {
        true => (uplink / held.max(1) as u64).max(MIN_RATE),
        false => MIN_RATE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_uplink_bounds_the_downloads() {
        let with = |max_downloads, uplink| {
            download_cap(&Limits {
                max_downloads,
                uplink,
                ..Limits::default()
            })
        };
        assert_eq!(with(4096, None), 4096);
        assert_eq!(with(4096, Some(1 << 20)), 256);
        assert_eq!(with(100, Some(1 << 20)), 100);
        assert_eq!(with(100, Some(1)), 1);
    }
}
