//! The exchange of outcomes with other servers, for [`Fleet`].

use std::time::Instant;

use super::Fleet;
use super::clock::{Wall, is_trusted};
use super::releases::StateCounts;
use super::shared::{Exchanged, Outcomes, PeerStates};

impl Fleet {
    /// Shares outcomes with other servers from now on. `secret`: the same for all servers. Returns the number that
    /// distinguishes their files from those with another secret.
    pub fn share(&mut self, secret: &[u8; 32], now: Instant, unix: i64) -> u64 {
        let stamp = self.clock.stamp(now);
        self.devices.start_sharing(secret, Wall { stamp, unix });
        let shared = self.devices.shared();
        shared.map_or(0, |shared| shared.check())
    }

    /// Returns the outcomes to write into this server's file; `None` if they have not changed, or the clock of this
    /// machine was never set. `unix`: time of that clock.
    pub fn own_outcomes(&mut self, now: Instant, unix: i64) -> Option<Outcomes> {
        let stamp = self.clock.stamp(now);
        let known_list = &self.known_list;
        let listed = |device| known_list.contains(device);
        is_trusted(unix).then(|| self.devices.own_outcomes(listed, Wall { stamp, unix }))?
    }

    /// Takes over the result of an exchange with the shared folder.
    pub fn exchanged(&mut self, exchanged: Exchanged, now: Instant) {
        if self.devices.apply_exchange(exchanged) {
            self.mark_dirty(now);
        }
    }

    /// Number of devices in each state on their way to a release, at all servers together; `None` if nothing is shared.
    pub fn shared_counts(&self, project: &str, version: &str) -> Option<StateCounts> {
        let counts = &self.devices.shared()?.counts;
        let counts = counts.get(&(project.into(), version.into()));
        Some(counts.copied().unwrap_or_default())
    }

    /// States of the files of the other servers; `None` if nothing is shared.
    pub fn peer_states(&self) -> Option<PeerStates> {
        Some(self.devices.shared()?.states)
    }
}
