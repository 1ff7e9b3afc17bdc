//! How far a download by packets has come (UDP, TCP 2234). The protocol needs none of this: it is for the
//! fleet and the log, and for the server to know whether somebody is still downloading when it is to
//! stop.
//!
//! A module asks for packet n + 1 when it has packet n: that is all the acknowledgement there is. The last
//! packet has none; it is taken as arrived, since what the module does next will tell.

use std::collections::hash_map::Entry;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Service;
use super::lines::{About, Ended, Progress};
use super::message::Wanted;
use super::slots::Download;
use crate::fleet::network::Network;
use crate::fleet::short_version::ShortVersion;
use crate::fleet::{FileRange, Transfer, TransferOutcome};
use crate::hash::Table;
use crate::wire::dialects::datagram::PACKET;

/// Downloads over UDP that are remembered.
const REMEMBERED: usize = 1024;

/// Places that are free when there was something to forget. To look through all for each packet would cost more
/// than the packets.
const FREED: usize = 64;

/// Without a request for so long, a download does not count as running any more. A lost packet costs a
/// module ten seconds (docs/protocol.md 6).
pub(super) const QUIET: Duration = Duration::from_secs(15);

/// How often those who look on, and who share the slots, are told how far a download has come.
const TOLD: Duration = Duration::from_secs(1);

/// One download.
pub(super) struct PacketDownload {
    service: Rc<Service>,
    about: About,
    /// Since packet 1 was first given.
    begun: Option<Begun>,
    /// When anything last happened.
    last: Instant,
    /// The packet that was not given yet, though all before it were.
    next: u32,
    /// Data bytes of the packets that were given in order.
    bytes: u64,
    /// When others are to be told of it again. The fleet is told of each packet.
    due: Instant,
    running: Option<Download>,
}

/// A download that has begun and has no line in the log yet.
struct Begun {
    at: Instant,
    size: u64,
    progress: Progress,
    transfer: Option<Transfer>,
}

impl PacketDownload {
    /// One that was offered.
    pub fn offered(service: &Rc<Service>, about: About, now: Instant) -> PacketDownload {
        PacketDownload {
            service: Rc::clone(service),
            about,
            begun: None,
            last: now,
            next: 1,
            bytes: 0,
            due: now,
            running: None,
        }
    }

    /// This packet was given, with so many data bytes. True once the last one was, and the download's
    /// line is in the log.
    pub fn given(&mut self, wanted: &Wanted, bytes: u64, now: Instant) -> bool {
        self.last = now;
        let due = now >= self.due;
        if due {
            self.due = now.checked_add(TOLD).unwrap_or(now);
        }
        let number = u32::from(wanted.number);
        if number == 1 && self.begun.is_none() {
            self.begin(wanted, now);
        }
        if number == self.next && self.begun.is_some() {
            // It has what came before.
            self.acknowledged(due, now);
            self.next = self.next.saturating_add(1);
            self.bytes = self.bytes.saturating_add(bytes);
            self.sent();
        }
        if number == u32::from(wanted.count) {
            let whole = self.next > number;
            if whole {
                self.acknowledged(due, now);
            }
            self.finish(if whole { "complete" } else { "with gaps" }, whole);
            self.running = None;
            return true;
        }
        let running = self.running.get_or_insert_with(|| {
            // It was admitted with its check.
            Download::resume(&self.service, Network::of(self.about.peer.ip()), now)
        });
        if due {
            running.acknowledged(self.bytes, now);
        }
        false
    }

    fn begin(&mut self, wanted: &Wanted, now: Instant) {
        let part = FileRange {
            content: wanted.content,
            to: ShortVersion::of(&self.about.to),
            size: wanted.size,
            start: 0,
            end: wanted.size,
        };
        let transfer = self.about.who.as_ref().map(|who| {
            // Its id says what it began with: there is no pin to wait for.
            self.service
                .fleet
                .borrow_mut()
                .begin(Some(who), None, part, now)
                .0
        });
        self.begun = Some(Begun {
            at: now,
            size: wanted.size,
            progress: Progress::new(&self.service, now),
            transfer,
        });
    }

    fn sent(&mut self) {
        let transfer = self
            .begun
            .as_mut()
            .and_then(|begun| begun.transfer.as_mut());
        if let Some(transfer) = transfer {
            let mut fleet = self.service.fleet.borrow_mut();
            fleet.sent(transfer, self.bytes);
        }
    }

    /// It has all that was given in order so far. `due`: who looks on is to be told.
    fn acknowledged(&mut self, due: bool, now: Instant) {
        let Some(begun) = &mut self.begun else { return };
        if let Some(transfer) = &mut begun.transfer {
            let mut fleet = self.service.fleet.borrow_mut();
            fleet.acknowledged(transfer, self.bytes, now);
        }
        if due {
            let reached = (self.bytes, begun.size);
            begun
                .progress
                .reached(&self.service, &self.about, reached, now);
        }
    }

    /// Ends one that will not go on: writes its line, if it began and has none yet.
    pub fn log(&mut self, result: &'static str) {
        self.finish(result, false);
    }

    fn finish(&mut self, result: &'static str, whole: bool) {
        let Some(begun) = self.begun.take() else {
            return;
        };
        if let Some(transfer) = begun.transfer {
            let mut fleet = self.service.fleet.borrow_mut();
            let outcome = match whole {
                true => TransferOutcome::Whole,
                // What a packet carried was asked for by the module itself.
                false => TransferOutcome::Incomplete { proxied: false },
            };
            fleet.end(transfer, outcome, self.last);
        }
        // What was asked for after it says that it arrived; the packet that was given last has nothing
        // after it yet.
        let packet = u64::try_from(PACKET).unwrap_or(u64::MAX);
        let reached = match whole {
            true => self.bytes,
            false => u64::from(self.next.saturating_sub(2)).saturating_mul(packet),
        };
        let took = self.last.saturating_duration_since(begun.at);
        let ended = Ended {
            bytes: self.bytes,
            reached: reached.min(self.bytes),
            size: begun.size,
            took,
            result,
        };
        let number = begun.progress.number;
        self.about
            .ended(&self.service, &ended, number, Instant::now());
    }

    /// Does somebody ask for it now?
    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Nobody asks for it now.
    pub fn rest(&mut self) {
        self.running = None;
    }
}

impl Drop for PacketDownload {
    /// What still runs at the end is ended by the stop.
    fn drop(&mut self) {
        self.log("stopped");
    }
}

/// A peer and an upgrade id, in as few words as they fit into: they are hashed for each packet.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key([u64; 3]);

impl Key {
    /// The peer comes un-mapped.
    fn of(peer: SocketAddr, id: u32) -> Key {
        let address = match peer.ip() {
            // As it would be mapped, so that none is like it.
            IpAddr::V4(v4) => 0xffff << 32 | u128::from(v4.to_bits()),
            IpAddr::V6(v6) => v6.to_bits(),
        };
        Key([
            (address >> 64) as u64,
            address as u64,
            u64::from(id) << 16 | u64::from(peer.port()),
        ])
    }

    fn id(&self) -> u32 {
        let Key([_, _, last]) = self;
        (last >> 16) as u32
    }
}

/// The downloads over one UDP socket, by peer and upgrade id. Bounded: what is forgotten is only missing
/// in the log.
#[derive(Default)]
pub(super) struct PacketDownloads {
    table: Table<Key, PacketDownload>,
    /// How many of them count as running.
    running: usize,
    /// Some may have begun, and have no line in the log yet.
    open: bool,
    /// When room was last made, there was hardly anything to forget.
    crowded: bool,
}

impl PacketDownloads {
    /// A check was answered with this id: whatever this peer downloads by it begins anew.
    pub fn offered(
        &mut self,
        service: &Rc<Service>,
        (peer, id): (SocketAddr, u32),
        about: About,
        now: Instant,
    ) {
        self.make_room(now);
        match self.table.entry(Key::of(peer, id)) {
            Entry::Vacant(place) => {
                place.insert(PacketDownload::offered(service, about, now));
            }
            // It was a packet that came first, and now we know whose it is; or it begins again, and what
            // it was given before does not count as given.
            Entry::Occupied(mut known) => {
                let mut before = known.insert(PacketDownload::offered(service, about, now));
                before.log("cut");
                if before.is_running() {
                    self.running = self.running.saturating_sub(1);
                }
            }
        }
    }

    /// A packet was given.
    pub fn given(
        &mut self,
        service: &Rc<Service>,
        peer: SocketAddr,
        (wanted, bytes): (&Wanted, u64),
        now: Instant,
    ) {
        let key = Key::of(peer, wanted.id);
        if self.table.len() >= REMEMBERED && !self.table.contains_key(&key) {
            // Its line would say nothing but that it was forgotten again.
            if self.crowded && wanted.number > 1 {
                return;
            }
            self.make_room(now);
        }
        let download = self
            .table
            .entry(key)
            .or_insert_with(|| PacketDownload::offered(service, About::nobody("udp", peer), now));
        let before = download.is_running();
        let finished = download.given(wanted, bytes, now);
        match (before, download.is_running()) {
            (false, true) => self.running = self.running.saturating_add(1),
            (true, false) => self.running = self.running.saturating_sub(1),
            _ => {}
        }
        if finished {
            self.table.remove(&key);
        } else {
            self.open = true;
        }
    }

    /// Was this id given to this peer, or is anybody in its network downloading by it?
    pub fn knows(&self, peer: SocketAddr, id: u32) -> bool {
        let network = Network::of(peer.ip());
        let begun_there = |(key, one): (&Key, &PacketDownload)| {
            one.begun.is_some() && key.id() == id && Network::of(one.about.peer.ip()) == network
        };
        self.table.contains_key(&Key::of(peer, id)) || self.table.iter().any(begun_there)
    }

    /// Is there anything for [`PacketDownloads::tidy`] to do, sooner or later?
    pub fn need_tidying(&self) -> bool {
        self.open
    }

    /// Does any count as running?
    pub fn any_running(&self) -> bool {
        self.running > 0
    }

    /// Forgets those that were given up: nothing was asked for since `stall`. To be called now and then
    /// while there is need.
    pub fn tidy(&mut self, stall: Duration, now: Instant) {
        self.table.retain(|_, one| {
            let silent = now.saturating_duration_since(one.last);
            if silent >= QUIET {
                one.rest();
            }
            if one.begun.is_some() && silent >= stall {
                one.log("stalled");
                return false;
            }
            true
        });
        self.count_running();
        self.crowded = false;
        let unfinished = |one: &PacketDownload| one.is_running() || one.begun.is_some();
        self.open = self.table.values().any(unfinished);
    }

    /// What did not begin goes first, those that were silent for longest, since offers cost a forger nothing; if
    /// there is none, the download that was.
    fn make_room(&mut self, now: Instant) {
        if self.table.len() < REMEMBERED {
            return;
        }
        let waiting = self.table.values().filter(|one| one.begun.is_none());
        let oldest = waiting.map(|one| one.last).min();
        let half = oldest.map(|oldest| now.saturating_duration_since(oldest) / 2);
        self.table.retain(|_, one| {
            let silent = now.saturating_duration_since(one.last);
            one.begun.is_some() || half.is_some_and(|half| silent < half)
        });
        self.crowded = self.table.len() > REMEMBERED.saturating_sub(FREED);
        if self.table.len() >= REMEMBERED {
            let begun = self.table.iter().min_by_key(|(_, one)| one.last);
            let key = begun.map(|(key, _)| *key);
            if let Some(mut gone) = key.and_then(|key| self.table.remove(&key)) {
                gone.log("forgotten");
            }
        }
        self.count_running();
    }

    fn count_running(&mut self) {
        self.running = self.table.values().filter(|one| one.is_running()).count();
    }
}
