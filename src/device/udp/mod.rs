//! The server of the UDP protocol. It receives all waiting datagrams with one system call, answers them, and sends the
//! answers with one.
//!
//! There are no sessions: an upgrade id names content and network. Much of this file decides when *not* to answer:
//! every answer can be directed at a victim that never asked, or at the server itself (docs/hazards.md 5).

mod own_addresses;

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use smol::future::{or, pending, yield_now};
use smol::{Async, LocalExecutor, Timer};

use self::own_addresses::OwnAddresses;
use super::check_log::{NO_MESSAGE, log_unknown};
use super::message::{self, CheckReply, ERR, PacketRequest, UNKNOWN};
use super::packets::PacketDownloads;
use super::{Service, Stop};
use crate::decision::Refusal;
use crate::firmware::ContentId;
use crate::firmware::snapshot::{LoadError, Snapshot};
use crate::fleet::clock::unix_now;
use crate::fleet::network::Network;
use crate::os::datagrams::{Arrival, Inbox, Outbox, ReplyPath};
use crate::os::net::is_retryable;
use crate::wire::dialects::datagram::{self, Datagram};

/// Maximum number of requests that wait for their file to be loaded. Others are dropped: the module asks again.
const MAX_PENDING: usize = 256;

/// Maximum number of files that are loaded ahead because they were offered.
const MAX_AHEAD: usize = 16;

/// Interval at which the downloads are tidied ([`PacketDownloads::tidy`]).
const TIDY_INTERVAL: Duration = Duration::from_secs(1);

/// Pause after an error of the socket itself.
const PAUSE: Duration = Duration::from_millis(100);

/// Interval at which a persistent error is logged.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Serves a non-blocking socket. After the signal to stop only running downloads continue; returns when there are none.
pub async fn serve(socket: UdpSocket, service: Rc<Service>, stop: Stop) {
    let socket = match Async::new_nonblocking(socket) {
        Ok(socket) => socket,
        Err(error) => {
            log::error!(target: "device", "cannot wait for datagrams: {error}");
            return;
        }
    };
    let server = UdpServer {
        own: RefCell::new(OwnAddresses::of(&socket)),
        socket,
        service,
        stop,
        pending: Cell::new(0),
        ahead: RefCell::default(),
        downloads: RefCell::default(),
    };
    // Loads run concurrently with the loop, and end with it.
    let loads = LocalExecutor::new();
    loads.run(server.run(&loads)).await;
}

struct UdpServer {
    socket: Async<UdpSocket>,
    service: Rc<Service>,
    stop: Stop,
    own: RefCell<OwnAddresses>,
    /// Number of requests that wait for a load.
    pending: Cell<usize>,
    /// Contents that are being loaded ahead.
    ahead: RefCell<HashSet<ContentId>>,
    downloads: RefCell<PacketDownloads>,
}

/// A request for a packet, with the path of the answer.
#[derive(Clone, Copy)]
struct PendingGet {
    request: PacketRequest,
    path: ReplyPath,
    from: SocketAddr,
}

impl UdpServer {
    async fn run<'s>(&'s self, loads: &LocalExecutor<'s>) {
        let mut inbox = Inbox::new();
        let mut outbox = Outbox::new();
        let mut logged: Option<Instant> = None;
        let mut tidied = Instant::now();
        // Reused for all waits: if they were created for each wait, every packet would cost allocations.
        let mut stopped = pin!(self.stop.raised());
        let mut tick = Timer::never();
        let mut is_ticking = false;
        loop {
            let is_stopping = self.stop.is_raised();
            // If no datagram was left unread, the loop waits for a new one at once. Otherwise every packet of a
            // download would cost one more call that finds nothing.
            let is_drained = match inbox.receive(self.socket.get_ref()) {
                Ok(_) => {
                    let now = (Instant::now(), unix_now());
                    for arrival in inbox.arrivals() {
                        self.answer(&arrival, &mut outbox, is_stopping, now, loads);
                    }
                    self.flush(&mut outbox).await;
                    inbox.is_drained()
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => true,
                Err(error) => {
                    if logged.is_none_or(|logged| logged.elapsed() >= LOG_INTERVAL) {
                        logged = Some(Instant::now());
                        log::error!(target: "device", "the UDP socket cannot be read: {error}");
                    }
                    Timer::after(PAUSE).await;
                    false
                }
            };
            if tidied.elapsed() >= TIDY_INTERVAL {
                tidied = Instant::now();
                let stall = self.service.limits.stall_timeout;
                self.downloads.borrow_mut().tidy(stall, tidied);
            }
            if is_stopping && !self.downloads.borrow().any_running() {
                return;
            }
            if !is_drained {
                yield_now().await;
                continue;
            }
            if !is_ticking && self.downloads.borrow().needs_tidying() {
                is_ticking = true;
                tick.set_after(TIDY_INTERVAL);
            }
            let ticked = async {
                match is_ticking {
                    true => (&mut tick).await,
                    false => pending().await,
                };
                is_ticking = false;
            };
            let stopped = async {
                match is_stopping {
                    true => pending().await,
                    false => stopped.as_mut().await,
                }
            };
            let arrived = async {
                // An error shows again when the socket is read.
                let _ready = self.socket.readable().await;
            };
            or(stopped, or(arrived, ticked)).await;
        }
    }

    fn answer<'s>(
        &'s self,
        arrival: &Arrival<'_>,
        outbox: &mut Outbox,
        is_stopping: bool,
        (now, unix): (Instant, i64),
        loads: &LocalExecutor<'s>,
    ) {
        let (from, path) = (arrival.from, arrival.path);
        if is_never_answered(from.port()) || self.own.borrow_mut().is_own(from) {
            return;
        }
        let service = &self.service;
        let network = Network::of(from.ip());
        let mut buckets = service.buckets.borrow_mut();
        let bucket = buckets.bucket(network, now);
        let mut error = |text: &str| {
            // Never longer than the datagram that it answers, and rate-limited.
            let is_sent = text.len() <= arrival.bytes.len() && buckets.errors.take(bucket);
            if is_sent {
                outbox.push(path, |buffer| message::write_text(text, buffer));
            }
            is_sent
        };
        match datagram::parse(arrival.bytes) {
            Datagram::NoReply => {}
            Datagram::Unknown => {
                service.count_malformed();
                if error(UNKNOWN) {
                    log_unknown("udp", arrival.bytes, (UNKNOWN, NO_MESSAGE), from);
                }
            }
            Datagram::Check(check) => {
                if !buckets.checks.take(bucket) {
                    return;
                }
                let reply = match is_stopping {
                    true => CheckReply::No(Refusal::Full.wording().packet),
                    false => message::reply_to_check(service, check, from, "udp"),
                };
                self.answer_check(reply, arrival, outbox, now, loads);
            }
            Datagram::Get(get) => match message::find_packet(service, get, network, unix) {
                // After `ERR` the module gives up; without an answer it asks again in ten seconds.
                None if get.id.is_some() && service.has_unread_files() => {}
                None => {
                    error(ERR);
                }
                // The id is valid, but no download by it has begun in this network. While wrong ids come from there as
                // well, it was found by trial.
                Some((request, _))
                    if !buckets.errors.has(bucket)
                        && !self.downloads.borrow().knows(from, request.id) => {}
                Some((request, loaded)) if buckets.gets.take(bucket) => {
                    let get = PendingGet {
                        request,
                        path,
                        from,
                    };
                    match loaded {
                        Some(snapshot) => self.send_packet(&snapshot, get, outbox, now),
                        None => self.load_and_send(get, loads),
                    }
                }
                Some(_) => {}
            },
        }
    }

    fn answer_check<'s>(
        &'s self,
        reply: CheckReply,
        arrival: &Arrival<'_>,
        outbox: &mut Outbox,
        now: Instant,
        loads: &LocalExecutor<'s>,
    ) {
        match reply {
            CheckReply::No(text) => {
                outbox.push(arrival.path, |buffer| message::write_text(text, buffer));
            }
            CheckReply::Offer(offer) => {
                outbox.push(arrival.path, |buffer| {
                    datagram::write_offer(buffer, offer.id, offer.count, offer.last)
                });
                let mut downloads = self.downloads.borrow_mut();
                downloads.add(&self.service, (arrival.from, offer.id), offer.subject, now);
                self.load_ahead(offer.content, loads);
            }
        }
    }

    fn send_packet(&self, snapshot: &Snapshot, get: PendingGet, outbox: &mut Outbox, now: Instant) {
        let mut data = None;
        outbox.push(get.path, |buffer| {
            let written = message::write_packet(snapshot, get.request.number, buffer);
            data = written.and_then(|length| length.checked_sub(2));
            written.unwrap_or_else(|| message::write_text(ERR, buffer))
        });
        if let Some(bytes) = data {
            let mut downloads = self.downloads.borrow_mut();
            downloads.record_packet(&self.service, get.from, (&get.request, bytes as u64), now);
        }
    }

    /// Loads the file of a request, and then answers it.
    fn load_and_send<'s>(&'s self, get: PendingGet, loads: &LocalExecutor<'s>) {
        if self.pending.get() >= MAX_PENDING {
            return;
        }
        self.pending.set(self.pending.get() + 1);
        let load = async move {
            let loaded = self.service.load(get.request.content).await;
            self.pending.set(self.pending.get() - 1);
            let mut outbox = Outbox::new();
            match loaded {
                Ok(snapshot) => self.send_packet(&snapshot, get, &mut outbox, Instant::now()),
                Err(LoadError::Gone(_)) => {
                    outbox.push(get.path, |buffer| message::write_text(ERR, buffer));
                }
                // There may be room when the module asks again.
                Err(LoadError::Unread(_) | LoadError::Full(_)) => {}
            }
            self.flush(&mut outbox).await;
        };
        loads.spawn(load).detach();
    }

    /// Loads a file that was offered, so that it is ready when the first packet is requested.
    fn load_ahead<'s>(&'s self, content: ContentId, loads: &LocalExecutor<'s>) {
        let mut ahead = self.ahead.borrow_mut();
        if self.service.snapshots.get(content).is_some()
            || ahead.len() >= MAX_AHEAD
            || !ahead.insert(content)
        {
            return;
        }
        let load = async move {
            // If this fails, the request for a packet fails in the same way.
            let _loaded = self.service.load(content).await;
            self.ahead.borrow_mut().remove(&content);
        };
        loads.spawn(load).detach();
    }

    async fn flush(&self, outbox: &mut Outbox) {
        while !outbox.is_empty() {
            match outbox.send(self.socket.get_ref()) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_retryable(&error) && self.socket.writable().await.is_ok() => {}
                Err(error) => {
                    log::warn!(target: "device", "UDP replies cannot be sent: {error}");
                    *outbox = Outbox::new();
                }
            }
        }
    }
}

/// Whether a port is that of a service that answers everything (echo, chargen, DNS, NTP), or 0, which cannot be
/// reached.
fn is_never_answered(port: u16) -> bool {
    matches!(port, 0 | 7 | 19 | 53 | 123)
}
