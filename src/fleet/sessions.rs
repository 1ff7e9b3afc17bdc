//! Downloads over the packet protocol that ended within the last minute, by device and source port. A check from the
//! same port is made by the session that has just ended, before any reboot (docs/hazards.md 28).

use std::collections::HashMap;

use super::clock::Stamp;
use super::progress::TOO_SOON_IN_SESSION;
use super::requester::Requester;
use crate::firmware::audience::DeviceId;

/// Maximum number of sessions. All are dropped if it is reached within a minute.
const MAX_SESSIONS: usize = 4096;

/// Sessions that have just ended.
#[derive(Debug, Default)]
pub struct Sessions {
    ended: HashMap<(DeviceId, u16), Stamp>,
}

impl Sessions {
    /// Records the end of a whole download.
    pub fn ended(&mut self, who: &Requester, now: Stamp) {
        if who.session == 0 {
            return;
        }
        if self.ended.len() >= MAX_SESSIONS {
            self.ended
                .retain(|_, at| now.since(*at) <= TOO_SOON_IN_SESSION);
        }
        if self.ended.len() >= MAX_SESSIONS {
            // Either a flood or a large fleet ends this many sessions in a minute. After all are dropped, only the
            // shorter limit of three seconds applies to their checks.
            self.ended.clear();
        }
        self.ended.insert((who.device, who.session), now);
    }

    /// Whether a check is made by a session that has just ended.
    pub fn holds(&self, who: &Requester, now: Stamp) -> bool {
        let ended = self.ended.get(&(who.device, who.session));
        ended.is_some_and(|at| now.since(*at) <= TOO_SOON_IN_SESSION)
    }
}
