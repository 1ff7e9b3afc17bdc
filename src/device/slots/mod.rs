//! Slots for downloads: which downloads may begin now, and which wait (docs/hazards.md 16). This module keeps the
//! records, without sockets: the time is an argument of each call, and `H` wakes a waiting download. [`download`] holds
//! a slot for a download, [`pacing`] shares the uplink.
//!
//! Modules limit the duration of a download, so a slow one is wasted: it is better that some begin later. A download
//! that has begun is never ended because of slots:
//! - A download that continues after a cut gets a slot at once, beyond the cap if none is free. Only downloads from
//!   byte 0 wait, in the order of their arrival, and for a limited time.
//! - A download below 1 KB/s over 30 s gives its slot to one that waits, and continues without a slot.
//! - One network holds at most half of the slots while others wait: it gets no further slot then, and if it holds more,
//!   its youngest download continues without one.

mod download;
mod pacing;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

pub(super) use self::download::{Download, Downloads};
use super::network_counts::NetworkCounts;
use crate::fleet::network::Network;

/// Time over which the speed of a download is judged.
const WINDOW: Duration = Duration::from_secs(30);

/// Bytes a second below which a download is slow.
const SLOW_RATE: u64 = 1024;

/// Shortest time between two searches for slow downloads, which go through all slots.
const SEARCH_INTERVAL: Duration = Duration::from_secs(1);

/// Maximum number of waiting downloads that are searched for one of a network that holds few slots.
const MAX_SCAN: usize = 1024;

/// Number of a download, never used again. Later downloads have higher numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// All slots, and the queue for them.
#[derive(Debug)]
pub struct Slots<H> {
    capacity: usize,
    max_wait: Duration,
    held: BTreeMap<Ticket, HeldSlot>,
    held_per_network: NetworkCounts,
    queue: BTreeMap<Ticket, QueuedDownload<H>>,
    /// Time of the last search for slow downloads.
    last_search: Option<Instant>,
    last_ticket: Ticket,
}

#[derive(Debug)]
struct HeldSlot {
    network: Network,
    /// Beginning of the window in which the speed is measured, and the bytes acknowledged by then.
    since: Instant,
    base: u64,
    /// Bytes acknowledged by now.
    bytes: u64,
    /// Whether the download was slow in the previous window.
    slow: bool,
}

impl HeldSlot {
    fn is_slow(&self, now: Instant) -> bool {
        let time = now.saturating_duration_since(self.since);
        match time >= WINDOW {
            true => self.bytes.saturating_sub(self.base) < SLOW_RATE.saturating_mul(time.as_secs()),
            false => self.slow,
        }
    }
}

#[derive(Debug)]
struct QueuedDownload<H> {
    network: Network,
    until: Instant,
    wake: H,
}

/// State of a download among the slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotState {
    /// The download holds a slot.
    Held,
    /// The download waits, for at most this time.
    Queued(Duration),
    /// The download has waited too long, or continues without a slot.
    NoSlot,
}

impl<H> Slots<H> {
    /// Creates free slots (at least one). `max_wait`: longest time in the queue.
    pub fn new(capacity: usize, max_wait: Duration) -> Slots<H> {
        Slots {
            capacity: capacity.max(1),
            max_wait,
            held: BTreeMap::new(),
            held_per_network: NetworkCounts::default(),
            queue: BTreeMap::new(),
            last_search: None,
            last_ticket: Ticket(0),
        }
    }

    /// Number of slots held. May exceed the cap because of downloads that continue.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Takes a slot for a download from byte 0; `None` if it must wait for one.
    pub fn take(&mut self, network: Network, now: Instant) -> Option<Ticket> {
        if !self.has_room(network) {
            return None;
        }
        if !self.is_free() {
            self.release_youngest_of_heaviest();
        }
        Some(self.take_uncapped(network, now))
    }

    /// Whether [`Slots::take`] would give a slot.
    pub fn has_room(&self, network: Network) -> bool {
        self.is_free() || (self.is_light(network) && self.heaviest().is_some())
    }

    /// Takes a slot for a download that continues, beyond the cap if none is free.
    pub fn take_uncapped(&mut self, network: Network, now: Instant) -> Ticket {
        let ticket = self.next_ticket();
        self.hold(ticket, network, now);
        ticket
    }

    /// Queues a download. [`Slots::assign`] returns `wake` when the download has a slot.
    pub fn enqueue(&mut self, network: Network, now: Instant, wake: H) -> Ticket {
        let ticket = self.next_ticket();
        let queued = QueuedDownload {
            network,
            until: now + self.max_wait,
            wake,
        };
        self.queue.insert(ticket, queued);
        ticket
    }

    /// Gives free slots to waiting downloads, and returns their handles, to be woken. To be called after a slot was
    /// freed, and at intervals while downloads wait ([`Slots::assign_if_due`]).
    pub fn assign(&mut self, now: Instant) -> Vec<H> {
        let mut assigned = Vec::new();
        loop {
            while let Some(first) = self.queue.first_entry()
                && first.get().until <= now
            {
                first.remove();
            }
            if self.queue.is_empty() {
                break;
            }
            let is_full = self.held.len() >= self.capacity && !self.release_slow(now);
            if is_full && self.heaviest().is_none() {
                break;
            }
            let mut queue = self.queue.iter().take(MAX_SCAN);
            let light = queue.find(|(_, queued)| self.is_light(queued.network));
            let light = light.map(|(ticket, _)| *ticket);
            if is_full {
                if light.is_none() {
                    break;
                }
                self.release_youngest_of_heaviest();
            }
            let next = match light {
                Some(ticket) => self.queue.remove_entry(&ticket),
                None => self.queue.pop_first(),
            };
            let Some((ticket, queued)) = next else { break };
            self.hold(ticket, queued.network, now);
            assigned.push(queued.wake);
        }
        assigned
    }

    /// The same as [`Slots::assign`], but does nothing if slow downloads were searched less than a second ago.
    pub fn assign_if_due(&mut self, now: Instant) -> Vec<H> {
        match self.searched_recently(now) {
            true => Vec::new(),
            false => self.assign(now),
        }
    }

    /// State of a download.
    pub fn state(&self, ticket: Ticket, now: Instant) -> SlotState {
        if self.held.contains_key(&ticket) {
            return SlotState::Held;
        }
        let queued = self.queue.get(&ticket);
        match queued.map(|queued| queued.until.saturating_duration_since(now)) {
            None | Some(Duration::ZERO) => SlotState::NoSlot,
            Some(left) => SlotState::Queued(left),
        }
    }

    /// Records the bytes of a download that were acknowledged by now.
    pub fn acknowledged(&mut self, ticket: Ticket, bytes: u64, now: Instant) {
        let Some(slot) = self.held.get_mut(&ticket) else {
            return;
        };
        slot.bytes = bytes;
        if now.saturating_duration_since(slot.since) >= WINDOW {
            slot.slow = slot.is_slow(now);
            (slot.since, slot.base) = (now, bytes);
        }
    }

    /// Removes a download that has ended or no longer waits.
    pub fn leave(&mut self, ticket: Ticket) {
        self.release(ticket);
        self.queue.remove(&ticket);
    }

    /// Whether any download waits.
    pub fn has_queue(&self) -> bool {
        !self.queue.is_empty()
    }

    fn next_ticket(&mut self) -> Ticket {
        self.last_ticket.0 += 1;
        self.last_ticket
    }

    fn hold(&mut self, ticket: Ticket, network: Network, now: Instant) {
        let slot = HeldSlot {
            network,
            since: now,
            base: 0,
            bytes: 0,
            slow: false,
        };
        self.held.insert(ticket, slot);
        self.held_per_network.add(network);
    }

    fn release(&mut self, ticket: Ticket) {
        if let Some(slot) = self.held.remove(&ticket) {
            self.held_per_network.remove(slot.network);
        }
    }

    /// Whether a slot is free and no download waits.
    fn is_free(&self) -> bool {
        self.queue.is_empty() && self.held.len() < self.capacity
    }

    /// Whether a network may get one more slot while others wait.
    fn is_light(&self, network: Network) -> bool {
        self.held_per_network.count(network) < self.capacity.div_ceil(2)
    }

    /// A network that holds more than half of the slots.
    fn heaviest(&self) -> Option<Network> {
        let (count, network) = self.held_per_network.most()?;
        (count > self.capacity.div_ceil(2)).then_some(network)
    }

    /// Releases the slot of the youngest download of the network that holds more than half of the slots.
    fn release_youngest_of_heaviest(&mut self) {
        let heaviest = self.heaviest();
        let mut youngest = self.held.iter().rev();
        let youngest = youngest.find(|(_, slot)| Some(slot.network) == heaviest);
        if let Some(ticket) = youngest.map(|(ticket, _)| *ticket) {
            self.release(ticket);
        }
    }

    /// Releases the slots of slow downloads, the oldest first, at most the number that waiting downloads need. Returns
    /// whether a slot is free then.
    fn release_slow(&mut self, now: Instant) -> bool {
        if self.searched_recently(now) {
            return false;
        }
        self.last_search = Some(now);
        let wanted = self.held.len() - self.capacity + self.queue.len();
        let slow = self.held.iter().filter(|(_, slot)| slot.is_slow(now));
        let slow: Vec<Ticket> = slow.map(|(ticket, _)| *ticket).take(wanted).collect();
        for ticket in slow {
            self.release(ticket);
        }
        self.held.len() < self.capacity
    }

    fn searched_recently(&self, now: Instant) -> bool {
        let recent = |searched| now.saturating_duration_since(searched) < SEARCH_INTERVAL;
        self.last_search.is_some_and(recent)
    }
}

#[cfg(test)]
mod tests;
