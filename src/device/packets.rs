//! Progress of downloads by packets (UDP, TCP 2234). The protocol does not need it. It is for the fleet, the log and
//! the events, and lets the server know which downloads run when it is to stop.
//!
//! A module asks for packet n + 1 when it has packet n: this is the only acknowledgement. The last packet has none. It
//! counts as arrived, since the module's next check will show the result.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Service;
use super::check_log::{DownloadEvents, EndedDownload, LogSubject};
use super::message::PacketRequest;
use super::slots::Download;
use crate::fleet::network::Network;
use crate::fleet::short_version::ShortVersion;
use crate::fleet::{FileRange, Transfer, TransferOutcome};
use crate::wire::dialects::datagram::PACKET;

/// Maximum number of downloads over UDP that are remembered.
const MAX_REMEMBERED: usize = 1024;

/// Number of places that a clean-up must free. If it frees fewer, the table counts as crowded and is not searched for
/// each packet, which would cost more than the packets.
const MIN_FREED: usize = 64;

/// Time without a request after which a download no longer counts as running. A lost packet costs a module ten seconds
/// (docs/protocol.md 6).
pub(super) const PAUSE_AFTER: Duration = Duration::from_secs(15);

/// Interval at which the progress of a download is reported to events and slots.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// One download by packets.
pub(super) struct PacketDownload {
    service: Rc<Service>,
    subject: LogSubject<'static>,
    /// Set when packet 1 is given, until the download is recorded.
    begun: Option<BegunTransfer>,
    /// Time of the last request.
    last_request: Instant,
    /// Number of the first packet that was not given in order yet.
    next_packet: u32,
    /// Data bytes of the packets that were given in order.
    bytes: u64,
    /// Time of the next report to events and slots. The fleet gets a report for each packet.
    next_report: Instant,
    running: Option<Download>,
}

struct BegunTransfer {
    at: Instant,
    size: u64,
    events: DownloadEvents,
    /// The transfer in the fleet; `None` if the module has no id.
    transfer: Option<Transfer>,
}

impl PacketDownload {
    /// Creates a download that was offered and has not begun.
    pub fn new(
        service: &Rc<Service>,
        subject: LogSubject<'static>,
        now: Instant,
    ) -> PacketDownload {
        PacketDownload {
            service: Rc::clone(service),
            subject,
            begun: None,
            last_request: now,
            next_packet: 1,
            bytes: 0,
            next_report: now,
            running: None,
        }
    }

    /// Counts a packet of `bytes` data bytes that was sent. Returns true after the last one, when the download is
    /// recorded.
    pub fn record_packet(&mut self, request: &PacketRequest, bytes: u64, now: Instant) -> bool {
        self.last_request = now;
        let due = now >= self.next_report;
        if due {
            self.next_report = now + REPORT_INTERVAL;
        }
        let number = u32::from(request.number);
        if number == 1 && self.begun.is_none() {
            self.begin(request, now);
        }
        if number == self.next_packet && self.begun.is_some() {
            // By asking for this packet, the module acknowledges those before.
            self.acknowledged(due, now);
            self.next_packet += 1;
            self.bytes += bytes;
            if let Some(BegunTransfer {
                transfer: Some(transfer),
                ..
            }) = &mut self.begun
            {
                let mut fleet = self.service.fleet.borrow_mut();
                fleet.sent(transfer, self.bytes);
            }
        }
        if number == u32::from(request.count) {
            let whole = self.next_packet > number;
            if whole {
                self.acknowledged(due, now);
            }
            self.record(if whole { "complete" } else { "with gaps" }, whole);
            self.running = None;
            return true;
        }
        let running = self.running.get_or_insert_with(|| {
            // It was admitted with its check.
            Download::resume(&self.service, Network::of(self.subject.peer.ip()), now)
        });
        if due {
            running.acknowledged(self.bytes, now);
        }
        false
    }

    fn begin(&mut self, request: &PacketRequest, now: Instant) {
        let part = FileRange {
            content: request.content,
            to: ShortVersion::of(&self.subject.to),
            size: request.size,
            start: 0,
            end: request.size,
        };
        let transfer = self.subject.requester.as_ref().map(|requester| {
            // The upgrade id names the content that the download began with, so there is no pin to wait for.
            let mut fleet = self.service.fleet.borrow_mut();
            fleet.begin(Some(requester), None, part, now).0
        });
        self.begun = Some(BegunTransfer {
            at: now,
            size: request.size,
            events: DownloadEvents::new(&self.service, now),
            transfer,
        });
    }

    /// Records that the module has all data that was given in order so far. `due`: also reports to the events.
    fn acknowledged(&mut self, due: bool, now: Instant) {
        let Some(begun) = &mut self.begun else { return };
        if let Some(transfer) = &mut begun.transfer {
            let mut fleet = self.service.fleet.borrow_mut();
            fleet.acknowledged(transfer, self.bytes, now);
        }
        if due {
            let of = (self.bytes, begun.size);
            begun.events.progress(&self.service, &self.subject, of, now);
        }
    }

    /// Records a download that will not continue, if it began and is not recorded yet.
    pub fn end(&mut self, result: &'static str) {
        self.record(result, false);
    }

    fn record(&mut self, result: &'static str, whole: bool) {
        let Some(begun) = self.begun.take() else {
            return;
        };
        let outcome = match whole {
            true => TransferOutcome::Whole,
            // Each packet was requested by the module itself.
            false => TransferOutcome::Incomplete { proxied: false },
        };
        // A request for the next packet acknowledges a packet. The packet that was given last has no such request yet.
        let reached = match whole {
            true => self.bytes,
            false => u64::from(self.next_packet.saturating_sub(2)) * PACKET as u64,
        };
        let ended = EndedDownload {
            number: begun.events.number,
            bytes: self.bytes,
            reached: reached.min(self.bytes),
            size: begun.size,
            duration: self.last_request.saturating_duration_since(begun.at),
            result,
            transfer: begun.transfer.map(|transfer| (transfer, outcome)),
        };
        self.subject
            .record_download(&self.service, ended, self.last_request);
    }

    /// Whether the download counts as running.
    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Makes the download no longer count as running.
    pub fn pause(&mut self) {
        self.running = None;
    }
}

impl Drop for PacketDownload {
    /// Records a download that still runs at the end as stopped.
    fn drop(&mut self) {
        self.end("stopped");
    }
}

/// The downloads over one UDP socket, by peer and upgrade id. The table is bounded: a download that is forgotten is
/// only missing in the log.
#[derive(Default)]
pub(super) struct PacketDownloads {
    table: HashMap<(SocketAddr, u32), PacketDownload>,
    /// Number of downloads in the table that count as running.
    running: usize,
    /// Whether downloads may have begun that have no line in the log yet.
    has_unlogged: bool,
    /// Whether the last clean-up freed fewer than [`MIN_FREED`] places.
    is_crowded: bool,
}

impl PacketDownloads {
    /// Adds the download of a check that was answered with this id. An earlier download of the peer by this id starts
    /// again.
    pub fn add(
        &mut self,
        service: &Rc<Service>,
        (peer, id): (SocketAddr, u32),
        subject: LogSubject<'static>,
        now: Instant,
    ) {
        self.make_room(now);
        let download = PacketDownload::new(service, subject, now);
        // Either a packet arrived before its check, and only now the device is known. Or the download starts again, and
        // packets that were given before do not count.
        if let Some(mut before) = self.table.insert((peer, id), download) {
            before.end("cut");
            self.running -= usize::from(before.is_running());
        }
    }

    /// Counts a packet that was given.
    pub fn record_packet(
        &mut self,
        service: &Rc<Service>,
        peer: SocketAddr,
        (request, bytes): (&PacketRequest, u64),
        now: Instant,
    ) {
        let key = (peer, request.id);
        if self.table.len() >= MAX_REMEMBERED && !self.table.contains_key(&key) {
            // The log line of a new entry would say only that it was forgotten again.
            if self.is_crowded && request.number > 1 {
                return;
            }
            self.make_room(now);
        }
        let new = || PacketDownload::new(service, LogSubject::of_peer("udp", peer), now);
        let download = self.table.entry(key).or_insert_with(new);
        let before = download.is_running();
        let finished = download.record_packet(request, bytes, now);
        self.running += usize::from(download.is_running());
        self.running -= usize::from(before);
        if finished {
            self.table.remove(&key);
        } else {
            self.has_unlogged = true;
        }
    }

    /// Whether this id was given to this peer, or a download by this id has begun in the peer's network.
    pub fn knows(&self, peer: SocketAddr, id: u32) -> bool {
        let network = Network::of(peer.ip());
        self.table.contains_key(&(peer, id))
            || self.table.iter().any(|((other, begun), one)| {
                one.begun.is_some() && *begun == id && Network::of(other.ip()) == network
            })
    }

    /// Whether there is, or will be, work for [`PacketDownloads::tidy`].
    pub fn needs_tidying(&self) -> bool {
        self.has_unlogged
    }

    /// Whether any download counts as running.
    pub fn any_running(&self) -> bool {
        self.running > 0
    }

    /// Ends the downloads of which no packet was requested for the time `stall`, and pauses those that were quiet for
    /// [`PAUSE_AFTER`]. To be called at intervals while there is need.
    pub fn tidy(&mut self, stall: Duration, now: Instant) {
        self.table.retain(|_, one| {
            let silent = now.saturating_duration_since(one.last_request);
            if silent >= PAUSE_AFTER {
                one.pause();
            }
            if one.begun.is_some() && silent >= stall {
                one.end("stalled");
                return false;
            }
            true
        });
        self.count_running();
        self.is_crowded = false;
        let unfinished = |one: &PacketDownload| one.is_running() || one.begun.is_some();
        self.has_unlogged = self.table.values().any(unfinished);
    }

    /// Makes room for one more. First evicts downloads that did not begin, since offers cost a forger nothing: those
    /// that were silent for at least half of the longest silence. If there are none, evicts the one download that was
    /// silent for longest.
    fn make_room(&mut self, now: Instant) {
        if self.table.len() < MAX_REMEMBERED {
            return;
        }
        let waiting = self.table.values().filter(|one| one.begun.is_none());
        let oldest = waiting.map(|one| one.last_request).min();
        let half = oldest.map(|oldest| now.saturating_duration_since(oldest) / 2);
        self.table.retain(|_, one| {
            let silent = now.saturating_duration_since(one.last_request);
            one.begun.is_some() || half.is_some_and(|half| silent < half)
        });
        self.is_crowded = self.table.len() > MAX_REMEMBERED - MIN_FREED;
        if self.table.len() >= MAX_REMEMBERED {
            let begun = self.table.iter().min_by_key(|(_, one)| one.last_request);
            let key = begun.map(|(key, _)| *key);
            if let Some(mut evicted) = key.and_then(|key| self.table.remove(&key)) {
                evicted.end("forgotten");
            }
        }
        self.count_running();
    }

    fn count_running(&mut self) {
        self.running = self.table.values().filter(|one| one.is_running()).count();
    }
}
