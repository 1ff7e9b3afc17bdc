//! Who may hold a connection, and who has to go when all places are taken (docs/hazards.md 16). Pure
//! bookkeeping, without sockets: `H` is whatever shuts a connection.
//!
//! A connection takes a seat only when it could not be answered in line, so what sits here is waiting
//! for something. At the cap:
//! - Where one network holds more than half of the seats, one of its own goes: a random unfinished head
//!   (the oldest may be an honest 2G module), else its slowest download.
//! - Else a random unfinished head of the network with the most of them goes; if there is none, the
//!   slowest download of a network that holds more seats than the newcomer's (or of the same).
//! - Else the newcomer is refused. A network never gains a seat by the download of a lighter one.

use std::hash::BuildHasher;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::ranking::Ranking;
use crate::fleet::network::Network;
use crate::hash::{Keyed, Table};

/// A download is not judged by its speed before it is so old.
const JUDGED_AFTER: Duration = Duration::from_secs(10);

/// Seats that are looked at, at most, to find the slowest download or one of the same address.
const LOOKED_AT: usize = 4096;

/// A seat. Taken once: the serial number tells it from a later one in the same place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeatId {
    index: usize,
    serial: u64,
}

/// All seats.
#[derive(Debug)]
pub struct Admission<H> {
    seats: Vec<Option<Taken<H>>>,
    free: Vec<usize>,
    count: usize,
    max: usize,
    max_per_address: usize,
    addresses: Table<IpAddr, usize>,
    /// Unfinished heads of each network, by seat.
    heads: Table<Network, Vec<usize>>,
    /// How many those are.
    weights: Ranking,
    /// Seats of each network, whatever sits there.
    shares: Ranking,
    random: Keyed,
    serial: u64,
}

#[derive(Debug)]
struct Taken<H> {
    serial: u64,
    address: IpAddr,
    network: Network,
    phase: Phase,
    handle: H,
}

#[derive(Debug)]
enum Phase {
    /// The head is not complete; its place in its network's list.
    Head(usize),
    /// Bytes are on their way out.
    Download { since: Instant, acknowledged: u64 },
}

/// A seat was found.
#[derive(Debug, PartialEq, Eq)]
pub struct Admitted<H> {
    /// The seat.
    pub seat: SeatId,
    /// Who had to go for it. Its seat is gone already; its connection is to be shut.
    pub dropped: Option<H>,
}

impl<H> Admission<H> {
    /// No one sits. `max` seats in all, `max_per_address` for one address.
    pub fn new(max: usize, max_per_address: usize) -> Admission<H> {
        Admission {
            seats: Vec::new(),
            free: Vec::new(),
            count: 0,
            max,
            max_per_address,
            addresses: Table::default(),
            heads: Table::default(),
            weights: Ranking::default(),
            shares: Ranking::default(),
            random: Keyed::default(),
            serial: 0,
        }
    }

    /// Seats taken.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Nobody sits.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// A seat for a connection whose head is not complete. `shared`: the address is a proxy's, for which
    /// the limit per address does not count. `None`: there is no room, and nobody can be dropped.
    pub fn enter(
        &mut self,
        address: IpAddr,
        shared: bool,
        now: Instant,
        handle: H,
    ) -> Option<Admitted<H>> {
        let address = address.to_canonical();
        let network = Network::of(address);
        let own = self.addresses.get(&address).copied().unwrap_or(0);
        let victim = if !shared && own >= self.max_per_address {
            Some(self.unfinished_of(address)?)
        } else if self.count >= self.max {
            Some(self.victim(network, now)?)
        } else {
            None
        };
        let dropped = victim.and_then(|index| self.take_away(index));

        self.serial = self.serial.wrapping_add(1);
        let index = self.free.pop().unwrap_or_else(|| {
            self.seats.push(None);
            self.seats.len().saturating_sub(1)
        });
        let place = self.add_head(network, index);
        if let Some(seat) = self.seats.get_mut(index) {
            *seat = Some(Taken {
                serial: self.serial,
                address,
                network,
                phase: Phase::Head(place),
                handle,
            });
        }
        let count = self.addresses.entry(address).or_default();
        *count = count.saturating_add(1);
        self.count = self.count.saturating_add(1);
        self.shares.add(network);
        Some(Admitted {
            seat: SeatId {
                index,
                serial: self.serial,
            },
            dropped,
        })
    }

    /// Drops one though there are seats left, for a newcomer of whom nothing is known: an unfinished
    /// head, or a download of a network that holds more than half of what is taken.
    pub fn drop_one(&mut self, now: Instant) -> Option<H> {
        let index = self
            .of_the_heaviest(None, now)
            .or_else(|| self.unfinished())?;
        // So that the dice fall differently the next time.
        self.serial = self.serial.wrapping_add(1);
        self.take_away(index)
    }

    /// Drops a connection; `None` if it has ended.
    pub fn evict(&mut self, seat: SeatId) -> Option<H> {
        let taken = self.holds(seat).then_some(seat.index)?;
        self.take_away(taken)
    }

    /// The connection has ended (or had been dropped).
    pub fn leave(&mut self, seat: SeatId) {
        if self.holds(seat) {
            self.take_away(seat.index);
        }
    }

    /// False once the connection was dropped for another one.
    pub fn holds(&self, seat: SeatId) -> bool {
        self.seats
            .get(seat.index)
            .and_then(Option::as_ref)
            .is_some_and(|taken| taken.serial == seat.serial)
    }

    /// Its head is complete and bytes go out.
    pub fn downloads(&mut self, seat: SeatId, now: Instant) {
        let Some(taken) = self.taken(seat) else {
            return;
        };
        let began = Phase::Download {
            since: now,
            acknowledged: 0,
        };
        let network = taken.network;
        match std::mem::replace(&mut taken.phase, began) {
            Phase::Head(place) => self.remove_head(network, place),
            going_on => taken.phase = going_on,
        }
    }

    /// So many bytes of its download have been acknowledged.
    pub fn acknowledged(&mut self, seat: SeatId, bytes: u64) {
        if let Some(Taken {
            phase: Phase::Download { acknowledged, .. },
            ..
        }) = self.taken(seat)
        {
            *acknowledged = bytes;
        }
    }

    /// It waits again for something to be sent: as good as an unfinished head.
    pub fn waits(&mut self, seat: SeatId) {
        let Some(Taken {
            network,
            phase: Phase::Download { .. },
            ..
        }) = self.taken(seat)
        else {
            return;
        };
        let network = *network;
        let place = self.add_head(network, seat.index);
        if let Some(taken) = self.taken(seat) {
            taken.phase = Phase::Head(place);
        }
    }

    fn taken(&mut self, seat: SeatId) -> Option<&mut Taken<H>> {
        self.seats
            .get_mut(seat.index)?
            .as_mut()
            .filter(|taken| taken.serial == seat.serial)
    }

    fn take_away(&mut self, index: usize) -> Option<H> {
        let taken = self.seats.get_mut(index)?.take()?;
        if let Phase::Head(place) = taken.phase {
            self.remove_head(taken.network, place);
        }
        if let Some(count) = self.addresses.get_mut(&taken.address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.addresses.remove(&taken.address);
            }
        }
        self.free.push(index);
        self.count = self.count.saturating_sub(1);
        self.shares.take(taken.network);
        Some(taken.handle)
    }

    /// Who has to go for a newcomer from this network.
    fn victim(&self, newcomer: Network, now: Instant) -> Option<usize> {
        let own = self.shares.count(newcomer);
        let may_go = |network| network == newcomer || self.shares.count(network) > own;
        self.of_the_heaviest(Some(newcomer), now)
            .or_else(|| self.unfinished())
            .or_else(|| self.slowest(now, JUDGED_AFTER, may_go))
    }

    /// One of the network that holds more than half of the seats taken, if there is such a network. For
    /// a newcomer from elsewhere its downloads go however young they are: else whoever begins them anew
    /// often enough would keep the seats for ever.
    fn of_the_heaviest(&self, newcomer: Option<Network>, now: Instant) -> Option<usize> {
        let (share, heaviest) = self.shares.heaviest()?;
        if share.saturating_mul(2) <= self.count {
            return None;
        }
        let young = match newcomer {
            Some(newcomer) if newcomer != heaviest => Duration::ZERO,
            _ => JUDGED_AFTER,
        };
        self.unfinished_in(heaviest)
            .or_else(|| self.slowest(now, JUDGED_AFTER, |network| network == heaviest))
            .or_else(|| self.slowest(now, young, |network| network == heaviest))
    }

    /// Adds a seat to its network's list; its place there.
    fn add_head(&mut self, network: Network, index: usize) -> usize {
        let list = self.heads.entry(network).or_default();
        let place = list.len();
        list.push(index);
        self.weights.add(network);
        place
    }

    fn remove_head(&mut self, network: Network, place: usize) {
        let Some(list) = self.heads.get_mut(&network) else {
            return;
        };
        let before = list.len();
        if place >= before {
            return;
        }
        list.swap_remove(place);
        let moved = list.get(place).copied();
        let left = list.len();
        if left == 0 {
            self.heads.remove(&network);
        }
        self.weights.take(network);
        let seat = moved.and_then(|index| self.seats.get_mut(index));
        if let Some(Some(taken)) = seat {
            taken.phase = Phase::Head(place);
        }
    }

    /// A number below `bound`, which nobody outside can foresee.
    fn dice(&self, bound: usize) -> usize {
        (self.random.hash_one(self.serial) as usize)
            .checked_rem(bound)
            .unwrap_or(0)
    }

    /// A random unfinished head of the network with the most of them.
    fn unfinished(&self) -> Option<usize> {
        let (_, network) = self.weights.heaviest()?;
        self.unfinished_in(network)
    }

    /// A random unfinished head of this network.
    fn unfinished_in(&self, network: Network) -> Option<usize> {
        let list = self.heads.get(&network)?;
        list.get(self.dice(list.len())).copied()
    }

    /// An unfinished head of this very address, from a random place on.
    fn unfinished_of(&self, address: IpAddr) -> Option<usize> {
        let list = self.heads.get(&Network::of(address))?;
        let of_address = |index: &&usize| {
            let seat = self.seats.get(**index).and_then(Option::as_ref);
            seat.is_some_and(|taken| taken.address == address)
        };
        around(list, self.dice(list.len()))
            .take(LOOKED_AT)
            .find(of_address)
            .copied()
    }

    /// The download with the fewest acknowledged bytes a second, among those of such networks that are
    /// so old (and, where there are very many, among those looked at).
    fn slowest(&self, now: Instant, old: Duration, of: impl Fn(Network) -> bool) -> Option<usize> {
        let rate = |seat: &Option<Taken<H>>| {
            let taken = seat.as_ref()?;
            let Phase::Download {
                since,
                acknowledged,
            } = taken.phase
            else {
                return None;
            };
            let age = now.saturating_duration_since(since);
            // A download in its first millisecond is not infinitely fast.
            let seconds = age.max(Duration::from_millis(1)).as_secs_f64();
            (age >= old && of(taken.network)).then(|| acknowledged as f64 / seconds)
        };
        let start = self.dice(self.seats.len());
        let (before, after) = self.seats.split_at_checked(start)?;
        let first = after.iter().zip(start..);
        first
            .chain(before.iter().zip(0..))
            .take(LOOKED_AT)
            .filter_map(|(seat, index)| Some((rate(seat)?, index)))
            .min_by(|(a, _), (b, _)| a.total_cmp(b))
            .map(|(_, index)| index)
    }
}

/// All of a list, from a place in it on and then from its beginning.
fn around<T>(list: &[T], start: usize) -> impl Iterator<Item = &T> {
    let (before, after) = list.split_at_checked(start).unwrap_or((&[], list));
    after.iter().chain(before)
}

#[cfg(test)]
mod tests;
