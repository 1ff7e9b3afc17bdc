//! How far a download by packets has come (UDP, TCP 2234). The protocol needs none of this: it is for the
//! log, and for the server to know whether somebody is still downloading when it is to stop.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::asked::About;
use super::{Download, Service};

/// Downloads over UDP that are remembered.
const REMEMBERED: usize = 1024;

/// Without a request for so long, a download does not count as running any more. A lost packet costs a
/// module ten seconds (protocol.md 6).
pub(super) const QUIET: Duration = Duration::from_secs(15);

/// One download.
pub(super) struct PacketDownload {
    about: About,
    /// When packet 1 was first given.
    started: Option<Instant>,
    /// When anything last happened.
    last: Instant,
    /// The packet that was not given yet, though all before it were.
    next: u32,
    /// Data bytes of the packets that were given in order.
    bytes: u64,
    running: Option<Download>,
}

impl PacketDownload {
    /// One that was offered.
    pub fn offered(about: About, now: Instant) -> PacketDownload {
        PacketDownload {
            about,
            started: None,
            last: now,
            next: 1,
            bytes: 0,
            running: None,
        }
    }

    /// Packet `number` of `count` was given, with so many data bytes. True once the last one was, and
    /// the download's line is in the log.
    pub fn given(
        &mut self,
        service: &Rc<Service>,
        number: u16,
        count: u16,
        bytes: u64,
        now: Instant,
    ) -> bool {
        self.last = now;
        let number = u32::from(number);
        if number == 1 && self.started.is_none() {
            self.started = Some(now);
        }
        if number == self.next && self.started.is_some() {
            self.next = self.next.saturating_add(1);
            self.bytes = self.bytes.saturating_add(bytes);
        }
        if number == u32::from(count) {
            let result = match self.next > number {
                true => "complete",
                false => "with gaps",
            };
            self.log(result);
            self.running = None;
            return true;
        }
        self.running
            .get_or_insert_with(|| service.download_begins());
        false
    }

    /// Writes the line of one that will not go on, if it began and has none yet.
    pub fn log(&mut self, result: &str) {
        if let Some(started) = self.started.take() {
            let seconds = self.last.saturating_duration_since(started).as_secs_f64();
            self.about.log(self.bytes, seconds, result);
        }
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

/// The downloads over one UDP socket, by peer and upgrade id. Bounded: what is forgotten is only missing
/// in the log.
#[derive(Default)]
pub(super) struct PacketDownloads {
    table: HashMap<(SocketAddr, u32), PacketDownload>,
    /// How many of them count as running.
    running: usize,
    /// Some may have begun, and have no line in the log yet.
    open: bool,
}

impl PacketDownloads {
    /// A check was answered with this id.
    pub fn offered(&mut self, peer: SocketAddr, id: u32, about: About, now: Instant) {
        self.make_room();
        self.table
            .entry((peer, id))
            .or_insert_with(|| PacketDownload::offered(about, now));
    }

    /// A packet was given.
    pub fn given(
        &mut self,
        service: &Rc<Service>,
        (peer, id): (SocketAddr, u32),
        (number, count): (u16, u16),
        bytes: u64,
    ) {
        let now = Instant::now();
        if !self.table.contains_key(&(peer, id)) {
            self.make_room();
        }
        let download = self
            .table
            .entry((peer, id))
            .or_insert_with(|| PacketDownload::offered(About::nobody("udp", peer), now));
        let before = download.is_running();
        let finished = download.given(service, number, count, bytes, now);
        match (before, download.is_running()) {
            (false, true) => self.running = self.running.saturating_add(1),
            (true, false) => self.running = self.running.saturating_sub(1),
            _ => {}
        }
        if finished {
            self.table.remove(&(peer, id));
        } else {
            self.open = true;
        }
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
            if one.started.is_some() && silent >= stall {
                one.log("stalled");
                return false;
            }
            true
        });
        self.running = self.table.values().filter(|one| one.is_running()).count();
        let unfinished = |one: &PacketDownload| one.is_running() || one.started.is_some();
        self.open = self.table.values().any(unfinished);
    }

    /// The longest silent one goes, an offer that nobody took up before any that began: offers cost a
    /// forger nothing.
    fn make_room(&mut self) {
        if self.table.len() < REMEMBERED {
            return;
        }
        let oldest = self
            .table
            .iter()
            .min_by_key(|(_, one)| (one.started.is_some(), one.last))
            .map(|(key, _)| *key);
        let Some(mut gone) = oldest.and_then(|key| self.table.remove(&key)) else {
            return;
        };
        gone.log("forgotten");
        if gone.is_running() {
            self.running = self.running.saturating_sub(1);
        }
    }
}
