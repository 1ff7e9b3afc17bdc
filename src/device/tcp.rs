//! The UDP protocol's messages over TCP, without framing (docs/protocol.md 6, "TCP variant"): one request and one send
//! in answer, repeated on the same connection until the module closes it.
//!
//! The end of a message can only be guessed. A Get with a valid upgrade id is complete, and a line end is an end.
//! Otherwise a message ends when nothing more arrives for [`MESSAGE_TIMEOUT`].

use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::time::{Duration, Instant};

use smol::LocalExecutor;
use smol::future::{or, pending};

use super::accept::accept;
use super::buckets::{Buckets, RateLimits};
use super::check_log::{LogSubject, NO_MESSAGE, log_unknown};
use super::message::{self, CheckReply, ERR, PacketRequest, UNKNOWN};
use super::packets::PacketDownload;
use super::seats::Seat;
use super::stream::send_all;
use super::{Service, Stop, Stream};
use crate::firmware::snapshot::LoadError;
use crate::fleet::clock::unix_now;
use crate::fleet::network::Network;
use crate::os;
use crate::os::datagrams::MAX_REPLY;
use crate::os::net::is_retryable;
use crate::wire::dialects::datagram::{self, Datagram};
use smol::{Async, Timer};

/// Time after which a message is complete, if nothing follows it.
const MESSAGE_TIMEOUT: Duration = Duration::from_millis(50);

/// Time of silence after which a connection counts as idle.
const IDLE_AFTER: Duration = Duration::from_secs(60);

/// Maximum length of a message in bytes.
const MAX_MESSAGE: usize = 1500;

/// Interval at which a rate limit is tried again.
const RETRY_INTERVAL: Duration = Duration::from_millis(200);

/// Longest wait for the rate limit before an error is sent.
const ERROR_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves a non-blocking listener until the signal to stop. Connections that are downloading then continue as tasks of
/// `executor`.
pub async fn serve(
    listener: TcpListener,
    service: Rc<Service>,
    executor: Rc<LocalExecutor<'static>>,
    stop: Stop,
) {
    let serve_connection = |stream: TcpStream, peer| {
        let stream = match Async::new_nonblocking(stream) {
            Ok(stream) => stream,
            Err(error) => {
                log::error!(target: "device", "cannot wait for data of a connection: {error}");
                return;
            }
        };
        let Some(seat) = Seat::take(&service, peer) else {
            return;
        };
        // Otherwise the connection of a module that lost its network would stay here endlessly.
        let _optional = os::net::keep_alive(stream.get_ref(), IDLE_AFTER);
        seat.run(&executor, |seat| {
            let session = TcpSession {
                service: Rc::clone(&service),
                stream,
                seat,
                peer,
                last_offer: None,
                download: None,
                sent: 0,
                result: "stopped",
                stop: stop.clone(),
            };
            session.run()
        });
    };
    accept(listener, &service, &stop, serve_connection).await;
}

/// A connection and the messages on it.
struct TcpSession {
    service: Rc<Service>,
    stream: Stream,
    seat: Seat,
    peer: SocketAddr,
    /// Upgrade id and subject of the last offer.
    last_offer: Option<(u32, LogSubject<'static>)>,
    /// The running download, and its upgrade id.
    download: Option<(u32, PacketDownload)>,
    /// Bytes sent since the client was last silent.
    sent: u64,
    /// Result of a download that still runs at the end.
    result: &'static str,
    stop: Stop,
}

/// Event that ended a wait of a session.
enum SessionEvent {
    Readable(bool),
    Silence,
    Stopped,
}

impl TcpSession {
    async fn run(mut self) {
        let mut bytes = Vec::new();
        let mut idle = false;
        loop {
            let time = match (bytes.is_empty(), idle) {
                (false, _) => Some(MESSAGE_TIMEOUT),
                (true, false) => Some(IDLE_AFTER),
                (true, true) => None,
            };
            match self.wait(time).await {
                SessionEvent::Readable(true) => {
                    idle = false;
                    let ended = !self.read(&mut bytes);
                    let complete = ended || bytes.ends_with(b"\n") || self.is_valid_get(&bytes);
                    let answered = !complete || self.answer(&mut bytes).await;
                    if ended || !answered || bytes.len() > MAX_MESSAGE {
                        break;
                    }
                }
                SessionEvent::Silence if bytes.is_empty() => {
                    idle = true;
                    self.seat.end_download();
                    // The next answer begins a new download for the seat, with a new time and a new count of bytes.
                    self.sent = 0;
                    if let Some((_, download)) = &mut self.download {
                        download.pause();
                    }
                }
                SessionEvent::Silence => {
                    if !self.answer(&mut bytes).await {
                        break;
                    }
                }
                SessionEvent::Readable(false) => break,
                SessionEvent::Stopped => return,
            }
        }
        self.result = "cut";
    }

    async fn wait(&self, time: Option<Duration>) -> SessionEvent {
        let is_downloading = self
            .download
            .as_ref()
            .is_some_and(|(_, download)| download.is_running());
        let readable = async { SessionEvent::Readable(self.stream.readable().await.is_ok()) };
        let silence = async {
            match time {
                Some(time) => Timer::after(time).await,
                None => pending().await,
            };
            SessionEvent::Silence
        };
        let stopped = async {
            match is_downloading {
                true => pending().await,
                false => self.stop.raised().await,
            }
            SessionEvent::Stopped
        };
        or(readable, or(silence, stopped)).await
    }

    /// Appends the bytes that have arrived. Returns false at the end of the connection.
    fn read(&self, bytes: &mut Vec<u8>) -> bool {
        let mut scratch = self.service.scratch.borrow_mut();
        match self.stream.get_ref().read(&mut scratch) {
            Ok(0) => false,
            Ok(got) => {
                bytes.extend_from_slice(scratch.get(..got).unwrap_or_default());
                true
            }
            Err(error) => is_retryable(&error),
        }
    }

    fn is_valid_get(&self, bytes: &[u8]) -> bool {
        match datagram::parse(bytes) {
            Datagram::Get(get) => {
                message::find_packet(&self.service, get, self.network(), unix_now()).is_some()
            }
            _ => false,
        }
    }

    /// Answers a complete message and empties the buffer. Returns false if the connection must end.
    async fn answer(&mut self, bytes: &mut Vec<u8>) -> bool {
        let message = std::mem::take(bytes);
        if message.len() > MAX_MESSAGE {
            return false;
        }
        match datagram::parse(&message) {
            Datagram::NoReply => true,
            Datagram::Unknown => {
                self.service.count_malformed();
                log_unknown("tcp", &message, (UNKNOWN, NO_MESSAGE), self.peer);
                self.error(UNKNOWN).await
            }
            Datagram::Check(check) => {
                if !self.wait_for_token(|limits| &mut limits.checks, None).await {
                    return false;
                }
                let reply = message::reply_to_check(&self.service, check, self.peer, "tcp");
                self.answer_check(reply).await
            }
            Datagram::Get(get) => {
                match message::find_packet(&self.service, get, self.network(), unix_now()) {
                    Some((get, _)) => self.may_request(get).await && self.send_packet(get).await,
                    // After `ERR` the module gives up; without an answer it asks again in ten seconds.
                    None if get.id.is_some() && self.service.has_unread_files() => true,
                    None => self.error(ERR).await,
                }
            }
        }
    }

    /// Applies the rate limit for errors to ids that this connection was not given, while its network sends wrong ids.
    /// Otherwise valid ids could be found by trial.
    async fn may_request(&self, request: PacketRequest) -> bool {
        let offered = self.last_offer.as_ref().map(|(id, _)| *id);
        let running = self.download.as_ref().map(|(id, _)| *id);
        if [offered, running].contains(&Some(request.id)) {
            return true;
        }
        let network = self.network();
        let few = {
            let mut limits = self.service.buckets.borrow_mut();
            let place = limits.bucket(network, Instant::now());
            limits.errors.has(place)
        };
        few || self
            .wait_for_token(|limits| &mut limits.errors, Some(ERROR_TIMEOUT))
            .await
    }

    async fn error(&mut self, text: &str) -> bool {
        self.wait_for_token(|limits| &mut limits.errors, Some(ERROR_TIMEOUT))
            .await
            && self.send(text.as_bytes()).await
    }

    /// Waits for a token of this network. Over TCP a message above the rate limit is delayed, not dropped. Returns
    /// false if the client is gone meanwhile, the server stops, or the wait takes longer than `max_wait`.
    async fn wait_for_token(
        &self,
        bucket: impl Fn(&mut RateLimits) -> &mut Buckets,
        max_wait: Option<Duration>,
    ) -> bool {
        let began = Instant::now();
        let network = self.network();
        let taken = || {
            let mut limits = self.service.buckets.borrow_mut();
            let place = limits.bucket(network, Instant::now());
            bucket(&mut limits).take(place)
        };
        while !taken() {
            if self.has_ended()
                || self.stop.is_raised()
                || max_wait.is_some_and(|max_wait| began.elapsed() >= max_wait)
            {
                return false;
            }
            Timer::after(RETRY_INTERVAL).await;
        }
        true
    }

    fn network(&self) -> Network {
        Network::of(self.peer.ip())
    }

    /// Whether the client has closed its side, or is gone.
    fn has_ended(&self) -> bool {
        match self.stream.get_ref().peek(&mut [0]) {
            Ok(unread) => unread == 0,
            Err(error) => !is_retryable(&error),
        }
    }

    async fn answer_check(&mut self, reply: CheckReply) -> bool {
        let offer = match reply {
            CheckReply::No(text) => return self.send(text.as_bytes()).await,
            CheckReply::Offer(offer) => offer,
        };
        let (id, count, last) = (offer.id, offer.count, offer.last);
        self.last_offer = Some((id, offer.subject));
        if let Some((_, mut before)) = self.download.take_if(|(running, _)| *running == id) {
            // The download starts again.
            before.end("cut");
        }
        let mut buffer = [0; 64];
        let length = datagram::write_offer(&mut buffer, id, count, last);
        let sent = self.send(buffer.get(..length).unwrap_or_default()).await;
        if sent {
            // Loaded ahead for the first Get. If this fails, the Get fails in the same way.
            let _loaded = self.service.load(offer.content).await;
        }
        sent
    }

    async fn send_packet(&mut self, request: PacketRequest) -> bool {
        let snapshot = match self.service.load(request.content).await {
            Ok(snapshot) => snapshot,
            Err(LoadError::Gone(_)) => return self.send(ERR.as_bytes()).await,
            // There may be room when the module asks again.
            Err(LoadError::Unread(_) | LoadError::Full(_)) => return true,
        };
        let mut buffer = [0; MAX_REPLY];
        let Some(length) = message::write_packet(&snapshot, request.number, &mut buffer) else {
            return self.send(ERR.as_bytes()).await;
        };
        if !self.send(buffer.get(..length).unwrap_or_default()).await {
            return false;
        }
        self.record_packet(request, length - 2);
        true
    }

    fn record_packet(&mut self, request: PacketRequest, data: usize) {
        let now = Instant::now();
        if self
            .download
            .as_ref()
            .is_none_or(|(id, _)| *id != request.id)
        {
            let subject = self.last_offer.as_ref().filter(|(id, _)| *id == request.id);
            let subject = subject.map_or_else(
                || LogSubject::of_peer("tcp", self.peer),
                |(_, subject)| subject.clone(),
            );
            if let Some((_, other)) = &mut self.download {
                other.end("cut");
            }
            let download = PacketDownload::new(&self.service, subject, now);
            self.download = Some((request.id, download));
        }
        if let Some((_, download)) = &mut self.download
            && download.record_packet(&request, data as u64, now)
        {
            self.download = None;
        }
    }

    /// Sends an answer. From then until it is silent, the client's connection counts as a download.
    async fn send(&mut self, bytes: &[u8]) -> bool {
        self.seat.begin_download(Instant::now());
        let sent = send_all(&self.service, &self.stream, bytes).await;
        self.sent += bytes.len() as u64;
        self.seat.acknowledged(self.sent);
        sent
    }
}

impl Drop for TcpSession {
    fn drop(&mut self) {
        let result = match self.seat.is_held() {
            true => self.result,
            false => "replaced by cap",
        };
        if let Some((_, download)) = &mut self.download {
            download.end(result);
        }
    }
}
