//! The UDP protocol's server: takes what has arrived with one system call, answers it, sends the answers
//! with one.
//!
//! There are no sessions; the upgrade id says it all. What would surprise you: much of this file is about
//! when *not* to answer. Every answer can be aimed at somebody who never asked, or at ourselves
//! (docs/hazards.md 5).

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use smol::LocalExecutor;
use smol::channel::{Receiver, Sender, bounded};
use smol::future::FutureExt as _;
use smol::future::or;
use smol::stream::StreamExt as _;

use super::check_log::{NO_MESSAGE, log_unknown};
use super::message::{self, CheckReply, ERR, PacketRequest, UNKNOWN};
use super::packets::PacketDownloads;
use super::{Service, Stop};
use crate::decision::Refusal;
use crate::firmware::ContentId;
use crate::firmware::snapshot::{LoadError, Snapshot};
use crate::fleet::clock::unix_now;
use crate::fleet::network::Network;
use crate::os;
use crate::os::datagrams::{Arrival, BATCH, Inbox, Outbox, ReplyPath};
use crate::os::net::is_early;
use crate::wire::dialects::datagram::{self, Datagram};
use smol::future::yield_now;
use smol::{Async, Timer};

/// Requests that wait for their file to be loaded. Beyond that they are dropped: the module asks again.
const PARKED: usize = 256;

/// Files that are loaded ahead because they were offered.
const AHEAD: usize = 16;

/// How often the running downloads are looked through.
const TIDY: Duration = Duration::from_secs(1);

/// How long to wait after an error of the socket itself.
const PAUSE: Duration = Duration::from_millis(100);

/// A trouble that lasts is logged so often.
const SAID: Duration = Duration::from_secs(60);

/// Serves a non-blocking socket. After the signal to stop only running downloads go on; returns when
/// there are none.
pub async fn serve(socket: UdpSocket, service: Rc<Service>, stop: Stop) {
    let socket = match Async::new_nonblocking(socket) {
        Ok(socket) => socket,
        Err(error) => {
            log::error!(target: "device", "a UDP socket cannot be waited for: {error}");
            return;
        }
    };
    let (sender, receiver) = bounded(PARKED);
    // Loads run here, beside the loop, and end with it.
    let loads = LocalExecutor::new();
    let own = OwnAddresses::of(&socket);
    let room = Room {
        socket,
        service,
        stop,
        loads: &loads,
        own: RefCell::new(own),
        parked: Cell::new(0),
        ahead: Rc::default(),
        downloads: RefCell::default(),
        sender,
        receiver,
    };
    loads.run(room.run()).await;
}

struct Room<'e> {
    socket: Async<UdpSocket>,
    service: Rc<Service>,
    stop: Stop,
    loads: &'e LocalExecutor<'static>,
    own: RefCell<OwnAddresses>,
    /// Requests that wait for a load, or for their answer after it.
    parked: Cell<usize>,
    /// Contents that are being loaded ahead.
    ahead: Rc<RefCell<HashSet<ContentId>>>,
    downloads: RefCell<PacketDownloads>,
    sender: Sender<Parked>,
    receiver: Receiver<Parked>,
}

/// A request whose file had to be loaded.
struct Parked {
    path: ReplyPath,
    from: SocketAddr,
    wanted: PacketRequest,
    loaded: Result<Arc<Snapshot>, LoadError>,
}

/// What ended a wait.
enum Woken {
    Socket,
    Loaded(Option<Parked>),
    Stopped,
    Tick,
}

/// What a wait waits for besides the socket.
struct Waits<'w, S> {
    loaded: Pin<&'w mut Receiver<Parked>>,
    stopped: Pin<&'w mut S>,
    tick: Timer,
    /// The timer is set.
    ticks: bool,
}

impl Room<'_> {
    async fn run(&self) {
        let mut inbox = Inbox::new();
        let mut outbox = Outbox::new();
        let mut said: Option<Instant> = None;
        let mut stopping = false;
        // Nothing was left unread: only then is a new arrival what is to be waited for.
        let mut drained = false;
        let mut tidied = Instant::now();
        // They last from one wait to the next: made anew for each, they would cost a packet three
        // allocations and the reactor a timer.
        let mut waits = Waits {
            loaded: pin!(self.receiver.clone()),
            stopped: pin!(self.stop.raised()),
            tick: Timer::never(),
            ticks: false,
        };
        loop {
            match inbox.receive(self.socket.get_ref()) {
                Ok(_) => {
                    let now = (Instant::now(), unix_now());
                    for arrival in inbox.arrivals() {
                        self.answer(&arrival, &mut outbox, stopping, now);
                    }
                    self.flush(&mut outbox).await;
                    if inbox.is_drained() {
                        // A module that asks for packet after packet is not asked in vain after each.
                        drained = true;
                    } else {
                        yield_now().await;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => drained = true,
                Err(error) => {
                    if said.is_none_or(|said| said.elapsed() >= SAID) {
                        said = Some(Instant::now());
                        log::error!(target: "device", "the UDP socket cannot be read: {error}");
                    }
                    Timer::after(PAUSE).await;
                }
            }
            let drained = std::mem::take(&mut drained);
            match self.wait((stopping, drained), &mut waits).await {
                Woken::Socket => {}
                Woken::Loaded(parked) => {
                    for parked in parked.into_iter().chain(self.more_loaded()) {
                        self.answer_parked(&parked, &mut outbox);
                    }
                    self.flush(&mut outbox).await;
                }
                Woken::Stopped => stopping = true,
                Woken::Tick => {}
            }
            if tidied.elapsed() >= TIDY {
                tidied = Instant::now();
                let stall = self.service.limits.stall_timeout;
                self.downloads.borrow_mut().tidy(stall, tidied);
            }
            if stopping && !self.downloads.borrow().any_running() {
                return;
            }
        }
    }

    async fn wait<S: Future>(
        &self,
        (stopping, drained): (bool, bool),
        waits: &mut Waits<'_, S>,
    ) -> Woken {
        let untidy = self.downloads.borrow().need_tidying();
        if untidy && !waits.ticks {
            waits.ticks = true;
            waits.tick.set_after(TIDY);
        }
        let socket = async {
            if drained {
                // An error shows again when the socket is read.
                let _ready = self.socket.readable().await;
            }
            Woken::Socket
        };
        let loaded = async { Woken::Loaded(waits.loaded.next().await) };
        let stopped = async {
            // Once it is raised it is not asked again.
            match stopping {
                true => smol::future::pending().await,
                false => waits.stopped.as_mut().await,
            };
            Woken::Stopped
        };
        let tick = async {
            match waits.ticks {
                true => (&mut waits.tick).await,
                false => smol::future::pending().await,
            };
            waits.ticks = false;
            Woken::Tick
        };
        // The socket comes last: it may always be ready.
        or(stopped, or(loaded, or(socket, tick))).await
    }

    /// What else has been loaded, no more than fits into an empty outbox.
    fn more_loaded(&self) -> impl Iterator<Item = Parked> {
        std::iter::from_fn(|| self.receiver.try_recv().ok()).take(BATCH.saturating_sub(1))
    }

    fn answer(
        &self,
        arrival: &Arrival<'_>,
        outbox: &mut Outbox,
        stopping: bool,
        (now, unix): (Instant, i64),
    ) {
        let from = arrival.from;
        if is_never_answered(from.port()) || self.own.borrow_mut().is_ours(from) {
            return;
        }
        let service = &self.service;
        let network = Network::of(from.ip());
        let mut buckets = service.buckets.borrow_mut();
        let place = buckets.place(network, now);
        let mut error = |text: &str| {
            // Never more than was sent to us, and not often.
            let is_sent = text.len() <= arrival.bytes.len() && buckets.errors.take(place);
            if is_sent {
                outbox.push(arrival.path, |buffer| message::write_text(text, buffer));
            }
            is_sent
        };
        match datagram::parse(arrival.bytes) {
            Datagram::Silence => {}
            Datagram::Unknown => {
                service.malformed();
                if error(UNKNOWN) {
                    log_unknown("udp", arrival.bytes, (UNKNOWN, NO_MESSAGE), from);
                }
            }
            Datagram::Check(check) => {
                if !buckets.checks.take(place) {
                    return;
                }
                let reply = match stopping {
                    true => CheckReply::No(Refusal::Full.wording().packet),
                    false => message::to_check(service, check, from, "udp"),
                };
                self.answer_check(reply, arrival, outbox, now);
            }
            Datagram::Get(get) => match message::named(service, get, network, unix) {
                // After `ERR` the module gives up; without an answer it asks again in ten seconds.
                None if get.id.is_some() && service.still_reads() => {}
                None => {
                    error(ERR);
                }
                Some((wanted, _))
                    if !buckets.errors.has(place) && self.is_guess(from, wanted.id) => {}
                Some((wanted, loaded)) if buckets.gets.take(place) => match loaded {
                    Some(snapshot) => {
                        self.give((&snapshot, &wanted), arrival.path, from, outbox, now);
                    }
                    None => self.park(wanted, arrival.path, from),
                },
                Some(_) => {}
            },
        }
    }

    /// An id that is good, but that nobody in this network downloads by. While wrong ids come from there
    /// as well, it was found by trying them.
    fn is_guess(&self, from: SocketAddr, id: u32) -> bool {
        !self.downloads.borrow().knows(from, id)
    }

    fn answer_check(
        &self,
        reply: CheckReply,
        arrival: &Arrival<'_>,
        outbox: &mut Outbox,
        now: Instant,
    ) {
        match reply {
            CheckReply::No(text) => {
                outbox.push(arrival.path, |buffer| message::write_text(text, buffer));
            }
            CheckReply::Offer {
                content,
                id,
                count,
                last,
                subject,
            } => {
                outbox.push(arrival.path, |buffer| {
                    datagram::write_offer(buffer, id, count, last)
                });
                let mut downloads = self.downloads.borrow_mut();
                downloads.offered(&self.service, (arrival.from, id), subject, now);
                self.load_ahead(content);
            }
        }
    }

    fn answer_parked(&self, parked: &Parked, outbox: &mut Outbox) {
        self.parked.set(self.parked.get().saturating_sub(1));
        match &parked.loaded {
            Ok(snapshot) => {
                let (what, now) = ((&**snapshot, &parked.wanted), Instant::now());
                self.give(what, parked.path, parked.from, outbox, now);
            }
            Err(LoadError::Gone(_)) => {
                outbox.push(parked.path, |buffer| message::write_text(ERR, buffer));
            }
            // There may be room when it asks again.
            Err(LoadError::Unread(_) | LoadError::Full(_)) => {}
        }
    }

    fn give(
        &self,
        (snapshot, wanted): (&Snapshot, &PacketRequest),
        path: ReplyPath,
        from: SocketAddr,
        outbox: &mut Outbox,
        now: Instant,
    ) {
        let mut data = None;
        outbox.push(path, |buffer| {
            let written = message::write_packet(snapshot, wanted.number, buffer);
            data = written.and_then(|length| length.checked_sub(2));
            written.unwrap_or_else(|| message::write_text(ERR, buffer))
        });
        if let Some(bytes) = data.and_then(|bytes| u64::try_from(bytes).ok()) {
            let mut downloads = self.downloads.borrow_mut();
            downloads.given(&self.service, from, (wanted, bytes), now);
        }
    }

    /// Loads the file of a request, and answers then.
    fn park(&self, wanted: PacketRequest, path: ReplyPath, from: SocketAddr) {
        if self.parked.get() >= PARKED {
            return;
        }
        self.parked.set(self.parked.get().saturating_add(1));
        let service = Rc::clone(&self.service);
        let sender = self.sender.clone();
        let load = async move {
            let loaded = service.load(wanted.content).await;
            let parked = Parked {
                path,
                from,
                wanted,
                loaded,
            };
            // There is room for as many as may be parked.
            let _always_room = sender.try_send(parked);
        };
        self.loads.spawn(load.boxed_local()).detach();
    }

    /// Loads a file that was offered, so that it is there when the first packet is asked for.
    fn load_ahead(&self, content: ContentId) {
        let mut ahead = self.ahead.borrow_mut();
        if self.service.snapshots.get(content).is_some()
            || ahead.len() >= AHEAD
            || !ahead.insert(content)
        {
            return;
        }
        let service = Rc::clone(&self.service);
        let ahead = Rc::clone(&self.ahead);
        let load = async move {
            // If it fails, the request for a packet says so.
            let _loaded = service.load(content).await;
            ahead.borrow_mut().remove(&content);
        };
        self.loads.spawn(load.boxed_local()).detach();
    }

    async fn flush(&self, outbox: &mut Outbox) {
        while !outbox.is_empty() {
            match outbox.send(self.socket.get_ref()) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_early(&error) && self.socket.writable().await.is_ok() => {}
                Err(error) => {
                    log::warn!(target: "device", "UDP replies cannot be sent: {error}");
                    *outbox = Outbox::new();
                }
            }
        }
    }
}

/// Services that answer whatever they get: echo, discard … and 0, which nobody can be reached at.
fn is_never_answered(port: u16) -> bool {
    matches!(port, 0 | 7 | 19 | 53 | 123)
}

/// Our own socket, as others would see it. A datagram from there is our own reply, or a forgery that
/// would have us talk to ourselves.
struct OwnAddresses {
    local: Option<SocketAddr>,
    addresses: Vec<IpAddr>,
    asked: Instant,
}

impl OwnAddresses {
    fn of(socket: &Async<UdpSocket>) -> OwnAddresses {
        let local = socket.get_ref().local_addr().map(os::net::unmapped).ok();
        OwnAddresses {
            local,
            // Of use only to a socket on all addresses.
            addresses: match local.is_some_and(|local| local.ip().is_unspecified()) {
                true => os::net::own_addresses(),
                false => Vec::new(),
            },
            asked: Instant::now(),
        }
    }

    fn is_ours(&mut self, from: SocketAddr) -> bool {
        let Some(local) = self.local.filter(|local| local.port() == from.port()) else {
            return false;
        };
        if !local.ip().is_unspecified() {
            return local.ip() == from.ip();
        }
        // Interfaces come and go.
        if self.asked.elapsed() >= SAID {
            self.addresses = os::net::own_addresses();
            self.asked = Instant::now();
        }
        from.ip().is_loopback() || self.addresses.contains(&from.ip())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_address_is_known_whichever_it_is() {
        let address = |text: &str| -> SocketAddr { text.parse().unwrap() };
        let mut wildcard = OwnAddresses {
            local: Some(address("[::]:2234")),
            addresses: vec!["192.0.2.1".parse().unwrap()],
            asked: Instant::now(),
        };
        assert!(wildcard.is_ours(address("192.0.2.1:2234")));
        assert!(wildcard.is_ours(address("127.0.0.1:2234")));
        assert!(wildcard.is_ours(address("[::1]:2234")));
        assert!(!wildcard.is_ours(address("192.0.2.1:2233")));
        assert!(!wildcard.is_ours(address("192.0.2.2:2234")));
        let mut one = OwnAddresses {
            local: Some(address("127.0.0.1:2234")),
            ..wildcard
        };
        assert!(one.is_ours(address("127.0.0.1:2234")));
        assert!(!one.is_ours(address("127.0.0.2:2234")));
    }
}
