//! The downloads by packets that ended within the last minute, by device and source port. A check from the
//! same port is made by the session that has just ended, before any reboot (docs/hazards.md 28).

use std::collections::HashMap;

use super::clock::Stamp;
use super::progress::TOO_SOON_IN_SESSION;
use super::requester::Requester;
use crate::firmware::audience::DeviceId;

/// Sessions at most: beyond that the oldest are forgotten.
const MOST: usize = 4096;

/// The sessions that have just ended.
#[derive(Debug, Default)]
pub struct Sessions {
    ended: HashMap<(DeviceId, u16), Stamp>,
}

impl Sessions {
    /// A whole download has ended.
    pub fn ended(&mut self, who: &Requester, now: Stamp) {
        if who.session == 0 {
            return;
        }
        if self.ended.len() >= MOST {
            self.ended
                .retain(|_, at| now.since(*at) <= TOO_SOON_IN_SESSION);
        }
        if self.ended.len() >= MOST {
            // A minute in which so many end is a flood, or a fleet: three seconds do for them.
            self.ended.clear();
        }
        self.ended.insert((who.device, who.session), now);
    }

    /// Is this check made by a session that has just ended?
    pub fn holds(&self, who: &Requester, now: Stamp) -> bool {
        let ended = self.ended.get(&(who.device, who.session));
        ended.is_some_and(|at| now.since(*at) <= TOO_SOON_IN_SESSION)
    }
}
