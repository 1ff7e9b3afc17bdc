//! Which downloads may begin now, and who waits for the next slot (docs/hazards.md 16). Pure bookkeeping,
//! without sockets: the time comes with each call, and `H` is whatever wakes one who waits.
//!
//! Modules give a download so and so many minutes in all, so a slow download is a wasted one: it is
//! better that some begin later. But nobody who has begun is ever stopped:
//! - What goes on with a download that has begun gets a slot at once, and if there is none, one beyond
//!   the cap. Only downloads from byte 0 wait, in the order in which they came, and not for long.
//! - A download below 1 KB/s over 30 s gives its slot to who waits, and goes on without one.
//! - One network holds at most half of the slots while others wait: it gets no further one then, and
//!   where it holds more, its youngest download goes on without one.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::ranking::Ranking;
use crate::fleet::network::Network;
use crate::hash::Table;
use crate::order;

/// A download is judged by its speed over so long.
const WINDOW: Duration = Duration::from_secs(30);

/// Below so many bytes a second it is slow.
const SLOW: u64 = 1024;

/// How often slow downloads are looked for, at most: the look goes through all slots.
const LOOK: Duration = Duration::from_secs(1);

/// How many of those who wait are looked at, at most, to find one of a network that holds little.
const LOOKED_AT: usize = 1024;

/// A download's place, here or in the queue. Used once only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// All slots, and the queue.
#[derive(Debug)]
pub struct Slots<H> {
    most: usize,
    patience: Duration,
    /// Who holds a slot.
    holders: Table<Ticket, Holder>,
    /// Slots of each network.
    shares: Ranking,
    /// A network with more than half of the slots.
    heavy: Option<Network>,
    /// Who waits, in order.
    queue: VecDeque<Waiting<H>>,
    /// When slow downloads were last looked for.
    looked: Option<Instant>,
    next: u64,
}

#[derive(Debug)]
struct Holder {
    network: Network,
    /// The beginning of the time that it is judged by, and its bytes then.
    since: Instant,
    base: u64,
    /// Bytes that were acknowledged.
    bytes: u64,
    /// It was, in the time before.
    slow: bool,
}

impl Holder {
    fn is_slow(&self, now: Instant) -> bool {
        let time = now.saturating_duration_since(self.since);
        match time >= WINDOW {
            true => self.bytes.saturating_sub(self.base) < SLOW.saturating_mul(time.as_secs()),
            false => self.slow,
        }
    }
}

#[derive(Debug)]
struct Waiting<H> {
    ticket: Ticket,
    network: Network,
    until: Instant,
    wake: H,
}

/// Where a download stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It holds a slot.
    Holds,
    /// It waits, for so long at most.
    Waits(Duration),
    /// It waits no longer, or goes on without a slot.
    Nowhere,
}

impl<H> Slots<H> {
    /// So many slots (at least one), all free. `patience`: the longest time in the queue.
    pub fn new(most: usize, patience: Duration) -> Slots<H> {
        Slots {
            most: most.max(1),
            patience,
            holders: Table::default(),
            shares: Ranking::default(),
            heavy: None,
            queue: VecDeque::new(),
            looked: None,
            next: 0,
        }
    }

    /// How many slots are held; more than there are, if downloads went on meanwhile that had begun.
    pub fn held(&self) -> usize {
        self.holders.len()
    }

    /// A slot for a download from byte 0, if it need not wait for one.
    pub fn enter(&mut self, network: Network, now: Instant) -> Option<Ticket> {
        let free = self.queue.is_empty() && self.holders.len() < self.most;
        let may = free || (self.is_light(network) && self.heaviest_yields(network));
        may.then(|| self.take(network, now))
    }

    /// Would [`Slots::enter`] give it one?
    pub fn has_room(&self, network: Network) -> bool {
        (self.queue.is_empty() && self.holders.len() < self.most)
            || (self.is_light(network) && self.heavy.is_some_and(|heavy| heavy != network))
    }

    /// A slot for what goes on with a download that has begun, whether there is one or not.
    pub fn go_on(&mut self, network: Network, now: Instant) -> Ticket {
        self.take(network, now)
    }

    /// A place at the end of the queue. `wake`: comes back from [`Slots::call`] when it is its turn.
    pub fn wait(&mut self, network: Network, now: Instant, wake: H) -> Ticket {
        let ticket = self.ticket();
        self.queue.push_back(Waiting {
            ticket,
            network,
            until: now.checked_add(self.patience).unwrap_or(now),
            wake,
        });
        ticket
    }

    /// Gives free slots to who waits. To be called after somebody has left; while somebody waits see
    /// [`Slots::look`]. Who has one now is to be woken.
    pub fn call(&mut self, now: Instant) -> Vec<H> {
        let mut called = Vec::new();
        loop {
            while self.queue.front().is_some_and(|one| one.until <= now) {
                self.queue.pop_front();
            }
            if self.queue.is_empty() {
                break;
            }
            let full = self.holders.len() >= self.most && !self.slow_one_yields(now);
            if full && self.heavy.is_none() {
                break;
            }
            let light = |waiting: &Waiting<H>| self.is_light(waiting.network);
            let light = self.queue.iter().take(LOOKED_AT).position(light);
            let network = light.and_then(|place| self.queue.get(place).map(|one| one.network));
            if full && !network.is_some_and(|network| self.heaviest_yields(network)) {
                break;
            }
            let Some(next) = self.queue.remove(light.unwrap_or(0)) else {
                break;
            };
            self.hold(next.ticket, next.network, now);
            called.push(next.wake);
        }
        called
    }

    /// The same for those who wait, as often as they like.
    pub fn look(&mut self, now: Instant) -> Vec<H> {
        let recent = |looked| now.saturating_duration_since(looked) < LOOK;
        match self.looked.is_some_and(recent) {
            true => Vec::new(),
            false => self.call(now),
        }
    }

    /// Where does it stand now?
    pub fn place(&self, ticket: Ticket, now: Instant) -> Place {
        if self.holders.contains_key(&ticket) {
            return Place::Holds;
        }
        let waiting = self.waiting_at(ticket).and_then(|at| self.queue.get(at));
        match waiting.map(|one| one.until.saturating_duration_since(now)) {
            None | Some(Duration::ZERO) => Place::Nowhere,
            Some(left) => Place::Waits(left),
        }
    }

    /// So many bytes of its download have been acknowledged by now.
    pub fn acknowledged(&mut self, ticket: Ticket, bytes: u64, now: Instant) {
        let Some(holder) = self.holders.get_mut(&ticket) else {
            return;
        };
        holder.bytes = bytes;
        if now.saturating_duration_since(holder.since) >= WINDOW {
            holder.slow = holder.is_slow(now);
            (holder.since, holder.base) = (now, bytes);
        }
    }

    /// Its download has ended, or it does not wait any longer.
    pub fn leave(&mut self, ticket: Ticket) {
        self.release(ticket);
        if let Some(place) = self.waiting_at(ticket) {
            self.queue.remove(place);
        }
    }

    /// Does anybody wait?
    pub fn is_waited_for(&self) -> bool {
        !self.queue.is_empty()
    }

    fn waiting_at(&self, ticket: Ticket) -> Option<usize> {
        // Tickets stand in the queue in their order.
        let place = self.queue.binary_search_by_key(&ticket, |one| one.ticket);
        place.ok()
    }

    fn ticket(&mut self) -> Ticket {
        self.next = self.next.wrapping_add(1);
        Ticket(self.next)
    }

    fn take(&mut self, network: Network, now: Instant) -> Ticket {
        let ticket = self.ticket();
        self.hold(ticket, network, now);
        ticket
    }

    fn hold(&mut self, ticket: Ticket, network: Network, now: Instant) {
        let holder = Holder {
            network,
            since: now,
            base: 0,
            bytes: 0,
            slow: false,
        };
        self.holders.insert(ticket, holder);
        self.shares.add(network);
        if self.shares.count(network) > self.most.div_ceil(2) {
            self.heavy = Some(network);
        }
    }

    fn release(&mut self, ticket: Ticket) {
        let Some(holder) = self.holders.remove(&ticket) else {
            return;
        };
        self.shares.take(holder.network);
        let share = self.shares.count(holder.network);
        if share <= self.most.div_ceil(2) && self.heavy == Some(holder.network) {
            self.heavy = None;
        }
    }

    /// May a network have one more slot while others wait?
    fn is_light(&self, network: Network) -> bool {
        self.shares.count(network) < self.most.div_ceil(2)
    }

    /// A slow download goes on without its slot; false if there is none.
    fn slow_one_yields(&mut self, now: Instant) -> bool {
        let recent = |looked| now.saturating_duration_since(looked) < LOOK;
        if self.looked.is_some_and(recent) {
            return false;
        }
        let slow = self
            .holders
            .iter()
            .filter(|(_, holder)| holder.is_slow(now));
        let mut slow: Vec<Ticket> = slow.map(|(ticket, _)| *ticket).collect();
        order::sort(&mut slow);
        // The oldest, and no more than are waited for.
        let beyond = self.holders.len().saturating_sub(self.most);
        slow.truncate(beyond.saturating_add(self.queue.len()));
        self.looked = Some(now);
        for ticket in slow {
            self.release(ticket);
        }
        self.holders.len() < self.most
    }

    /// The youngest download of a network with more than half of the slots goes on without its own, for
    /// one of another network.
    fn heaviest_yields(&mut self, to: Network) -> bool {
        let Some(heavy) = self.heavy.filter(|heavy| *heavy != to) else {
            return false;
        };
        let of_heavy = self
            .holders
            .iter()
            .filter(|(_, holder)| holder.network == heavy);
        let Some(ticket) = of_heavy.map(|(ticket, _)| *ticket).max() else {
            return false;
        };
        self.release(ticket);
        true
    }
}

#[cfg(test)]
mod tests;
