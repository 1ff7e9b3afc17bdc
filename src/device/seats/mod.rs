//! Seats for connections, HTTP and TCP together, and the choice of the connection to evict when all seats are taken
//! (docs/hazards.md 16).
//!
//! A connection takes a seat only when it cannot be answered in line, so a connection with a seat is waiting for
//! something. At the cap:
//! - If one network holds more than half of the seats, one of its own connections is evicted: a random one that waits
//!   with an unfinished head (the oldest may be an honest 2G module), otherwise its slowest download.
//! - Otherwise a random unfinished head of the network with the most of them is evicted. If there is none, the slowest
//!   download of a network that holds more seats than that of the new connection (or of the same network).
//! - Otherwise the new connection is refused. A network never gains a seat by the download of a lighter one.
//!
//! This module keeps the records, without sockets: `H` is a handle whose drop ends a connection. [`seat`] connects it
//! with the tasks of the connections.

mod seat;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::{Duration, Instant};

pub(super) use self::seat::{Seat, Seats};
use super::network_counts::NetworkCounts;
use crate::fleet::network::Network;

/// Age from which on a download is judged by its speed.
const MIN_AGE: Duration = Duration::from_secs(10);

/// Maximum number of seats that are searched for the slowest download, or for a connection of one address.
const MAX_SCAN: usize = 4096;

/// Random number of a seat. No two connections have the same one, and nobody outside can predict it, so the order of
/// the ids is a random order of the connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SeatId(u64);

/// All seats that are taken.
#[derive(Debug)]
pub struct SeatTable<H> {
    max: usize,
    max_per_address: usize,
    seats: BTreeMap<SeatId, TakenSeat<H>>,
    /// Connections without a download: unfinished heads and idle connections.
    waiting: BTreeSet<(Network, SeatId)>,
    per_address: HashMap<IpAddr, usize>,
    per_network: NetworkCounts,
    waiting_per_network: NetworkCounts,
    hasher: RandomState,
    /// Number of random numbers drawn so far.
    drawn: u64,
}

#[derive(Debug)]
struct TakenSeat<H> {
    address: IpAddr,
    /// Start of the download, and bytes acknowledged since; `None` while the connection waits.
    download: Option<(Instant, u64)>,
    handle: H,
}

impl<H> SeatTable<H> {
    /// Creates an empty table for `max` connections in all, `max_per_address` of one address.
    pub fn new(max: usize, max_per_address: usize) -> SeatTable<H> {
        SeatTable {
            max,
            max_per_address,
            seats: BTreeMap::new(),
            waiting: BTreeSet::new(),
            per_address: HashMap::new(),
            per_network: NetworkCounts::default(),
            waiting_per_network: NetworkCounts::default(),
            hasher: RandomState::new(),
            drawn: 0,
        }
    }

    /// Number of seats taken.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.seats.len()
    }

    /// Whether no seat is taken.
    pub fn is_empty(&self) -> bool {
        self.seats.is_empty()
    }

    /// Takes a seat for a connection whose head is not complete. Returns the seat, and the handle of the connection
    /// that was evicted for it; `None` if there is no seat and no connection may be evicted. `shared`: the address is a
    /// proxy's, to which the limit per address does not apply.
    pub fn take(
        &mut self,
        address: IpAddr,
        shared: bool,
        now: Instant,
        handle: H,
    ) -> Option<(SeatId, Option<H>)> {
        let address = address.to_canonical();
        let network = Network::of(address);
        let own = self.per_address.get(&address).copied().unwrap_or(0);
        let evicted = if !shared && own >= self.max_per_address {
            Some(self.waiting_of_address(address)?)
        } else if self.seats.len() >= self.max {
            Some(self.eviction_candidate(Some(network), now)?)
        } else {
            None
        };
        let evicted = evicted.and_then(|id| self.remove(id));

        let mut id = SeatId(self.random());
        while self.seats.contains_key(&id) {
            id = SeatId(self.random());
        }
        let seat = TakenSeat {
            address,
            download: None,
            handle,
        };
        self.seats.insert(id, seat);
        *self.per_address.entry(address).or_default() += 1;
        self.per_network.add(network);
        self.add_waiting(network, id);
        Some((id, evicted))
    }

    /// Sets the handle of a connection and returns the earlier one, or returns `handle` if the seat is gone.
    pub fn set_handle(&mut self, id: SeatId, handle: H) -> Option<H> {
        match self.seats.get_mut(&id) {
            Some(seat) => Some(std::mem::replace(&mut seat.handle, handle)),
            None => Some(handle),
        }
    }

    /// Evicts a connection although seats are left, for a new connection of which nothing is known: a waiting
    /// connection, or a download of a network that holds more than half of the seats taken.
    pub fn evict_any(&mut self, now: Instant) -> Option<H> {
        let id = self.eviction_candidate(None, now)?;
        self.remove(id)
    }

    /// Frees a seat, because its connection has ended or is to be ended. `None` if the seat is free already.
    pub fn remove(&mut self, id: SeatId) -> Option<H> {
        let seat = self.seats.remove(&id)?;
        let network = Network::of(seat.address);
        if seat.download.is_none() {
            self.remove_waiting(network, id);
        }
        self.per_network.remove(network);
        if let Some(count) = self.per_address.get_mut(&seat.address) {
            *count -= 1;
            if *count == 0 {
                self.per_address.remove(&seat.address);
            }
        }
        Some(seat.handle)
    }

    /// Whether the seat is still taken: false once its connection was evicted.
    pub fn contains(&self, id: SeatId) -> bool {
        self.seats.contains_key(&id)
    }

    /// Records that bytes are sent from now on.
    pub fn begin_download(&mut self, id: SeatId, now: Instant) {
        if let Some(seat) = self.seats.get_mut(&id)
            && seat.download.is_none()
        {
            seat.download = Some((now, 0));
            let network = Network::of(seat.address);
            self.remove_waiting(network, id);
        }
    }

    /// Records the bytes that were acknowledged since the download began.
    pub fn acknowledged(&mut self, id: SeatId, bytes: u64) {
        let seat = self.seats.get_mut(&id);
        if let Some((_, acknowledged)) = seat.and_then(|seat| seat.download.as_mut()) {
            *acknowledged = bytes;
        }
    }

    /// Records that the connection waits again, as one whose head is not complete.
    pub fn end_download(&mut self, id: SeatId) {
        if let Some(seat) = self.seats.get_mut(&id)
            && seat.download.take().is_some()
        {
            let network = Network::of(seat.address);
            self.add_waiting(network, id);
        }
    }

    fn add_waiting(&mut self, network: Network, id: SeatId) {
        self.waiting.insert((network, id));
        self.waiting_per_network.add(network);
    }

    fn remove_waiting(&mut self, network: Network, id: SeatId) {
        self.waiting.remove(&(network, id));
        self.waiting_per_network.remove(network);
    }

    /// The connection to evict for a new one from the network `new_network` (`None`: unknown).
    fn eviction_candidate(&mut self, new_network: Option<Network>, now: Instant) -> Option<SeatId> {
        let start = SeatId(self.random());
        if let Some((count, heaviest)) = self.per_network.most()
            && count * 2 > self.seats.len()
        {
            let of_heaviest = |network| network == heaviest;
            // For a new connection of another network, even young downloads are evicted. Otherwise a network could keep
            // the seats endlessly by starting its downloads again often enough.
            let min_age = match new_network {
                Some(new_network) if new_network != heaviest => Duration::ZERO,
                _ => MIN_AGE,
            };
            let candidate = self
                .waiting_of(heaviest, start)
                .next()
                .or_else(|| self.slowest(start, now, MIN_AGE, of_heaviest))
                .or_else(|| self.slowest(start, now, min_age, of_heaviest));
            if candidate.is_some() {
                return candidate;
            }
        }
        if let Some((_, network)) = self.waiting_per_network.most() {
            return self.waiting_of(network, start).next();
        }
        let new_network = new_network?;
        let own = self.per_network.count(new_network);
        self.slowest(start, now, MIN_AGE, |network| {
            network == new_network || self.per_network.count(network) > own
        })
    }

    /// The waiting connections of a network, starting at a random one.
    fn waiting_of(&self, network: Network, start: SeatId) -> impl Iterator<Item = SeatId> {
        let start = (network, start);
        let (first, last) = ((network, SeatId(0)), (network, SeatId(u64::MAX)));
        let all = self.waiting.range(start..=last);
        all.chain(self.waiting.range(first..start))
            .map(|(_, id)| *id)
    }

    /// A random waiting connection of an address.
    fn waiting_of_address(&mut self, address: IpAddr) -> Option<SeatId> {
        let start = SeatId(self.random());
        let of_address = |id: &SeatId| {
            let seat = self.seats.get(id);
            seat.is_some_and(|seat| seat.address == address)
        };
        let mut searched = self.waiting_of(Network::of(address), start).take(MAX_SCAN);
        searched.find(of_address)
    }

    /// The download with the fewest acknowledged bytes per second, among those of eligible networks that are at least
    /// `min_age` old. Of very many seats only some are searched, starting at a random one.
    fn slowest(
        &self,
        start: SeatId,
        now: Instant,
        min_age: Duration,
        is_eligible: impl Fn(Network) -> bool,
    ) -> Option<SeatId> {
        let rate = |seat: &TakenSeat<H>| {
            let (since, acknowledged) = seat.download?;
            let age = now.saturating_duration_since(since);
            // A download in its first millisecond must not count as infinitely fast.
            let seconds = age.max(Duration::from_millis(1)).as_secs_f64();
            (age >= min_age && is_eligible(Network::of(seat.address)))
                .then(|| acknowledged as f64 / seconds)
        };
        let all = self.seats.range(start..).chain(self.seats.range(..start));
        all.take(MAX_SCAN)
            .filter_map(|(id, seat)| Some((rate(seat)?, *id)))
            .min_by(|(a, _), (b, _)| a.total_cmp(b))
            .map(|(_, id)| id)
    }

    /// A number that nobody outside can predict.
    fn random(&mut self) -> u64 {
        self.drawn += 1;
        self.hasher.hash_one(self.drawn)
    }
}

#[cfg(test)]
mod tests;
