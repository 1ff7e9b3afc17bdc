//! Repeated downloads by modules without an id: of a file at a fixed address, or by a check that names no device. The
//! loop guard cannot recognise such a module, and one address may hide hundreds, so nothing is refused here. But the
//! operator is told when one network takes the same file again and again: a module that is given a fixed address loads
//! the file after each start (docs/protocol.md 3).

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::Service;
use super::check_log::LogSubject;
use crate::firmware::ContentId;
use crate::fleet::network::Network;

/// Maximum number of remembered pairs of network and content. The least recently used one is evicted first.
const MAX_REMEMBERED: usize = 1024;

/// Time over which bytes are counted, with at most one warning.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Multiple of a file's size from which on the file counts as sent too often.
const REPEAT_FACTOR: u64 = 5;

/// Records a download of a file (its content and size) by a module without an id, and the bytes that arrived.
pub(super) fn record(
    service: &Service,
    subject: &LogSubject<'_>,
    file: (ContentId, u64),
    bytes: u64,
    now: Instant,
) {
    let network = Network::of(subject.peer.ip());
    let mut repeats = service.repeats.borrow_mut();
    let Some(repeated) = repeats.count(network, file, bytes, now) else {
        return;
    };
    let tally = &mut service.fleet.borrow_mut().tally;
    tally.repeated = tally.repeated.wrapping_add(1);
    if repeated.is_first {
        log::warn!(
            target: "repeats",
            network:% = network,
            project = &*subject.project,
            bytes = repeated.bytes,
            size = file.1;
            "one network downloaded the same file repeatedly within a day: a module without an id, \
             or with a fixed URL, downloads it again after each start"
        );
    }
}

/// Bytes of each file that each network was sent. There is no clock: the time is an argument of each call.
#[derive(Debug, Default)]
pub struct Repeats {
    table: HashMap<(Network, ContentId), SentBytes>,
}

/// A file that was sent too often to one network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repeated {
    /// Bytes of the file that the network was sent in this day.
    pub bytes: u64,
    /// Whether this is the first report in this day, which is to be logged.
    pub is_first: bool,
}

#[derive(Debug)]
struct SentBytes {
    since: Instant,
    last_used: Instant,
    bytes: u64,
    reported: bool,
}

impl Repeats {
    /// Counts bytes of a file (of `size` bytes) that one download sent. `None` if the file was not sent too often yet.
    pub fn count(
        &mut self,
        network: Network,
        (content, size): (ContentId, u64),
        bytes: u64,
        now: Instant,
    ) -> Option<Repeated> {
        let key = (network, content);
        if !self.table.contains_key(&key) {
            self.make_room();
        }
        let new = || SentBytes {
            since: now,
            last_used: now,
            bytes: 0,
            reported: false,
        };
        let sent = self.table.entry(key).or_insert_with(new);
        if now.saturating_duration_since(sent.since) >= DAY {
            *sent = new();
        }
        sent.last_used = now;
        sent.bytes = sent.bytes.saturating_add(bytes);
        let too_much = sent.bytes >= size.saturating_mul(REPEAT_FACTOR);
        too_much.then(|| Repeated {
            bytes: sent.bytes,
            is_first: !std::mem::replace(&mut sent.reported, true),
        })
    }

    fn make_room(&mut self) {
        if self.table.len() < MAX_REMEMBERED {
            return;
        }
        let oldest = self.table.iter().min_by_key(|(_, sent)| sent.last_used);
        if let Some(key) = oldest.map(|(key, _)| *key) {
            self.table.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Network = Network::V4([192, 0, 2]);
    const FILE: (ContentId, u64) = (ContentId([1; 32]), 1000);

    fn repeated(bytes: u64, is_first: bool) -> Option<Repeated> {
        Some(Repeated { bytes, is_first })
    }

    #[test]
    fn each_repetition_is_counted_and_reported_once_a_day() {
        let mut repeats = Repeats::default();
        let start = Instant::now();
        for time in 0..4 {
            let now = start + Duration::from_secs(time);
            assert_eq!(repeats.count(HERE, FILE, 1000, now), None);
        }
        let fifth = repeats.count(HERE, FILE, 1000, start);
        assert_eq!(fifth, repeated(5000, true));
        let more = repeats.count(HERE, FILE, 9000, start);
        assert_eq!(more, repeated(14_000, false));
        let tomorrow = start + DAY;
        assert_eq!(repeats.count(HERE, FILE, 4999, tomorrow), None);
        let again = repeats.count(HERE, FILE, 1, tomorrow);
        assert_eq!(again, repeated(5000, true));
    }

    #[test]
    fn networks_and_files_are_counted_separately() {
        let mut repeats = Repeats::default();
        let now = Instant::now();
        let other = (ContentId([2; 32]), 1000);
        for network in (0..3).map(|n| Network::V4([10, 0, n])) {
            assert_eq!(repeats.count(network, FILE, 4000, now), None);
            assert_eq!(repeats.count(network, other, 4000, now), None);
        }
    }

    #[test]
    fn the_least_recently_used_pair_is_evicted() {
        let mut repeats = Repeats::default();
        let start = Instant::now();
        repeats.count(HERE, FILE, 4000, start);
        for n in 0..2000u16 {
            let now = start + Duration::from_millis(n.into());
            let [a, b] = n.to_be_bytes();
            repeats.count(Network::V4([10, a, b]), FILE, 1, now);
            if n % 100 == 0 {
                repeats.count(HERE, FILE, 0, now);
            }
        }
        assert_eq!(repeats.table.len(), MAX_REMEMBERED);
        let fifth = repeats.count(HERE, FILE, 1000, start);
        assert_eq!(fifth, repeated(5000, true));
    }
}
