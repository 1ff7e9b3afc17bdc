//! A connection of the operator's side, from its first byte to its last: head, access, body, reply,
//! close. One request each.
//!
//! At the cap a new connection evicts the oldest one whose request carries no valid token, or, if every
//! request does, the oldest one whose reply is written. Connections without a token can therefore never fill
//! the port (docs/hazards.md 30).

use std::convert::Infallible;
use std::io::{self, Read};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::rc::{Rc, Weak};
use std::time::Duration;

use http_types::StatusCode;
use smol::LocalExecutor;
use smol::channel::{Receiver, Sender, bounded};
use smol::future::{self, FutureExt as _, or};

use super::access::{Denied, Matter};
use super::api::{self, Answer};
use super::body::Incoming;
use super::head::{self, Asked, Found};
use super::reply::Reply;
use super::route::{self, NoRoute};
use super::{Desk, events};
use crate::os;
use crate::os::net::is_early;
use smol::future::yield_now;
use smol::{Async, Timer};

/// A connection's socket.
pub(super) type Stream = Async<TcpStream>;

/// How long to wait where a connection cannot be accepted.
const PAUSE: Duration = Duration::from_millis(200);

/// How much of a body that is not wanted is read, and for how long, so that the client reads our reply
/// before the connection ends.
#[derive(Clone, Copy)]
struct Linger {
    bytes: u64,
    time: Duration,
}

/// For a request without a valid token.
const BRIEFLY: Linger = Linger {
    bytes: 64 * 1024,
    time: Duration::from_secs(1),
};

/// For a request with one: an upload of the largest size still gets its reply.
const PATIENTLY: Linger = Linger {
    bytes: 512 << 20,
    time: Duration::from_secs(10),
};

/// The time for the rest of the head's bytes, and for a client that takes no byte of a reply.
const SILENCE: Duration = Duration::from_secs(30);

/// Bytes that wait in the kernel for a client that does not read, about.
const SEND_BUFFER: usize = 64 * 1024;

/// Takes connections until `ended` is closed.
pub(super) async fn accept(
    listener: TcpListener,
    desk: Rc<Desk>,
    executor: Weak<LocalExecutor<'static>>,
    ended: Receiver<Infallible>,
) {
    let listener = listener.set_nonblocking(true).map(|()| listener);
    let listener = match listener.and_then(Async::new_nonblocking) {
        Ok(listener) => listener,
        Err(error) => {
            log::error!(target: "operator", "the listener cannot be waited for: {error}");
            return;
        }
    };
    loop {
        let arrived = async { Some(next(&listener).await) };
        let stopped = async {
            let _closed = ended.recv().await;
            None
        };
        match or(stopped, arrived).await {
            None => return,
            Some(Ok(stream)) => {
                // async-h1 and we write more than once; without it each waits for the other side
                // to acknowledge the one before.
                let _not_needed_to_be_right = stream.get_ref().set_nodelay(true);
                match Seat::take(&desk) {
                    Some((seat, evicted)) => {
                        let run = run(Rc::clone(&desk), stream, seat, ended.clone());
                        let end = async move {
                            match evicted.recv().await {
                                Ok(()) => {}
                                Err(_) => future::pending().await,
                            }
                        };
                        // Held weakly: it holds this very task.
                        if let Some(executor) = executor.upgrade() {
                            executor.spawn(or(end, run).boxed_local()).detach();
                        }
                    }
                    None => turn_away(&stream).await,
                }
            }
            Some(Err(error)) => {
                log::debug!(target: "operator", "a connection cannot be accepted: {error}");
                Timer::after(PAUSE).await;
            }
        }
        yield_now().await;
    }
}

/// The next connection.
async fn next(listener: &Async<TcpListener>) -> io::Result<Stream> {
    loop {
        match os::net::accept(listener.get_ref()) {
            Ok((stream, _)) => return Async::new_nonblocking(stream),
            Err(error) if is_early(&error) => listener.readable().await?,
            Err(error) => return Err(error),
        }
    }
}

/// The connections, as far as eviction goes. A message to a connection's sender ends it.
#[derive(Default)]
pub(super) struct Seats {
    count: usize,
    next: u64,
    /// Without a valid token: an unfinished head, a reply to a request that needs none, or a refusal. Oldest
    /// first.
    unauthorised: Vec<(u64, Sender<()>)>,
    /// With a valid token and a reply that is written. Oldest first.
    answered: Vec<(u64, Sender<()>)>,
}

impl Seats {
    /// Takes the connection that is to make room.
    fn evict(&mut self) -> Option<Sender<()>> {
        let from = match self.unauthorised.is_empty() {
            false => &mut self.unauthorised,
            true => &mut self.answered,
        };
        (!from.is_empty()).then(|| from.remove(0).1)
    }
}

/// A place among the connections, given back on drop.
struct Seat {
    desk: Rc<Desk>,
    number: u64,
    evict: Sender<()>,
}

impl Seat {
    /// A place, and the channel that says when it must be given up; `None` if all are taken by requests with a
    /// valid token that are being answered.
    fn take(desk: &Rc<Desk>) -> Option<(Seat, Receiver<()>)> {
        let mut seats = desk.seats.borrow_mut();
        if seats.count >= desk.limits.connections {
            let _gone_already = seats.evict()?.try_send(());
        }
        let (sender, evicted) = bounded(1);
        let number = seats.next;
        seats.next = seats.next.wrapping_add(1);
        seats.count = seats.count.saturating_add(1);
        seats.unauthorised.push((number, sender.clone()));
        drop(seats);
        let seat = Seat {
            desk: Rc::clone(desk),
            number,
            evict: sender,
        };
        Some((seat, evicted))
    }

    /// Marks the request as one with a valid token: it is not evicted before its reply is written.
    fn authorised(&self) {
        let mut seats = self.desk.seats.borrow_mut();
        seats
            .unauthorised
            .retain(|(other, _)| *other != self.number);
    }

    /// Marks the reply as written: the connection may be evicted from now on.
    fn answered(&self) {
        let mut seats = self.desk.seats.borrow_mut();
        let is_listed = seats
            .unauthorised
            .iter()
            .any(|(other, _)| *other == self.number);
        if !is_listed {
            seats.answered.push((self.number, self.evict.clone()));
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = self.desk.seats.borrow_mut();
        seats
            .unauthorised
            .retain(|(other, _)| *other != self.number);
        seats.answered.retain(|(other, _)| *other != self.number);
        seats.count = seats.count.saturating_sub(1);
    }
}

/// Says what can be said without waiting to a client for which there is no room.
async fn turn_away(stream: &Stream) {
    let reply = Reply::problem(
        StatusCode::ServiceUnavailable,
        "too many connections at once",
    );
    let bytes = reply.with("retry-after", "2").encode(false, false).await;
    let _too_bad = os::net::send(stream.get_ref(), &bytes, &[], false);
}

async fn run(desk: Rc<Desk>, stream: Stream, seat: Seat, ended: Receiver<Infallible>) {
    let mut bytes = Vec::new();
    let found = or(read_head(&desk, &stream, &mut bytes), async {
        let _closed = ended.recv().await;
        None
    });
    let Some(found) = found.await else {
        return;
    };
    // In a box, so that those that wait for a head do not hold the room for what comes after.
    Box::pin(answer(&desk, &stream, &seat, found, bytes, &ended)).await;
}

/// A complete head and its length, or the reply instead; `None` if the client has gone.
async fn read_head(
    desk: &Desk,
    stream: &Stream,
    bytes: &mut Vec<u8>,
) -> Option<Result<(Box<Asked>, usize), Reply>> {
    let reading = async {
        let mut buffer = vec![0; head::LONGEST];
        loop {
            match stream.get_ref().read(&mut buffer) {
                Ok(0) => return None,
                Ok(got) => {
                    bytes.extend_from_slice(buffer.get(..got).unwrap_or_default());
                    match head::read(bytes) {
                        Found::Partial => {}
                        Found::Asked(asked, used) => return Some(Ok((asked, used))),
                        Found::Bad(bad) => return Some(Err(Reply::bad(bad))),
                    }
                }
                Err(error) if is_early(&error) => stream.readable().await.ok()?,
                Err(_) => return None,
            }
        }
    };
    let late = async {
        Timer::after(desk.limits.head).await;
        Some(Err(Reply::problem(
            StatusCode::RequestTimeout,
            "the head was not complete in time",
        )))
    };
    or(reading, late).await
}

async fn answer(
    desk: &Rc<Desk>,
    stream: &Stream,
    seat: &Seat,
    found: Result<(Box<Asked>, usize), Reply>,
    mut bytes: Vec<u8>,
    ended: &Receiver<Infallible>,
) {
    let (asked, used) = match found {
        Ok(found) => found,
        Err(reply) => {
            if send(stream, &reply.encode(false, false).await).await {
                close(stream, BRIEFLY.bytes, BRIEFLY).await;
            }
            return;
        }
    };
    let early = match bytes.len() > used {
        true => bytes.split_off(used),
        false => Vec::new(),
    };
    let mut body = Incoming::new(
        stream,
        early,
        asked.length,
        asked.expects,
        desk.limits.stall,
    );
    let mut linger = BRIEFLY;
    let answer = match allowed(desk, &asked) {
        Err(reply) => Answer::Reply(reply),
        Ok((matter, route)) => {
            if matter != Matter::Open {
                seat.authorised();
                linger = PATIENTLY;
            }
            match route {
                Ok(route) => api::answer(desk, &asked, route, &mut body).await,
                Err(no) => Answer::Reply(no_route(no)),
            }
        }
    };
    let reply = match answer {
        Answer::Reply(reply) => reply,
        // Goes on until one side ends it.
        Answer::Events(reader) => {
            events::send(stream, reader, asked.old, ended).await;
            return;
        }
    };
    let encoded = reply.encode(asked.head_only(), asked.old).await;
    if send(stream, &encoded).await {
        seat.answered();
        close(stream, body.outstanding(), linger).await;
    }
}

/// The route, if there is one, and what it needed; the error is the reply to a request that may not be made.
fn allowed<'a>(
    desk: &Desk,
    asked: &'a Asked,
) -> Result<(Matter, Result<route::Route<'a>, NoRoute>), Reply> {
    let method = asked.method();
    let route = route::route(method, &asked.target);
    let bearing = asked.bearing().map_err(Reply::bad)?;
    let matter = route::matter(method, &route);
    desk.access.judge(matter, &bearing).map_err(denied)?;
    Ok((matter, route))
}

fn no_route(no: NoRoute) -> Reply {
    match no {
        NoRoute::NotFound => api::nothing_here(),
        NoRoute::Method(methods) => Reply::problem(
            StatusCode::MethodNotAllowed,
            format!("this path takes {methods}"),
        )
        .with("allow", methods),
    }
}

fn denied(denied: Denied) -> Reply {
    match denied {
        Denied::BadHost => Reply::problem(StatusCode::BadRequest, "Host is missing or no host"),
        Denied::NotOurs => Reply::problem(
            StatusCode::MisdirectedRequest,
            "this host is not answered to: name it with --operator-host if it is yours",
        ),
        Denied::OtherSite => Reply::problem(
            StatusCode::Forbidden,
            "only this server's own page may ask through a browser",
        ),
        Denied::NoToken => Reply::problem(
            StatusCode::Unauthorized,
            "this needs a token, as `Authorization: Bearer TOKEN`: that of the file operator-token in the \
             state folder, or for reading that of read-token",
        )
        .with("www-authenticate", "Bearer"),
        Denied::WrongToken => Reply::problem(
            StatusCode::Unauthorized,
            "this token is not valid here: the right ones are in the files operator-token and read-token of \
             the state folder, unless --operator-token or --operator-token-file gives another",
        )
        .with("www-authenticate", "Bearer error=\"invalid_token\""),
        Denied::ReadOnly => Reply::problem(
            StatusCode::Forbidden,
            "the read token changes nothing: this needs the operator's token",
        )
        .with("www-authenticate", "Bearer error=\"insufficient_scope\""),
    }
}

/// Sends bytes; false if the client has gone or takes nothing for too long.
pub(super) async fn send(stream: &Stream, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        match os::net::send(stream.get_ref(), bytes, &[], false) {
            Ok(0) => return false,
            Ok(sent) => bytes = bytes.get(sent..).unwrap_or_default(),
            Err(error) if is_early(&error) => {
                let writable = async { stream.writable().await.is_ok() };
                let late = async {
                    Timer::after(SILENCE).await;
                    false
                };
                if !or(writable, late).await {
                    return false;
                }
            }
            Err(_) => return false,
        }
    }
    true
}

/// Ends a connection so that the client gets all that was sent: closing with unread bytes would reset
/// it, and the reset can eat the reply. `outstanding`: bytes that the client may still send.
async fn close(stream: &Stream, outstanding: u64, linger: Linger) {
    let _gone_already = stream.get_ref().shutdown(Shutdown::Write);
    let mut left = match outstanding {
        // Whatever else it may have sent behind its request.
        0 if os::net::unread(stream.get_ref()).unwrap_or(0) == 0 => return,
        0 => 64 * 1024,
        outstanding => outstanding.min(linger.bytes),
    };
    let reading = async {
        let mut nowhere = vec![0; 16 * 1024];
        while left > 0 {
            match stream.get_ref().read(&mut nowhere) {
                Ok(0) => return,
                Ok(got) => {
                    left = left.saturating_sub(u64::try_from(got).unwrap_or(u64::MAX));
                    // Others are to get their turn, however fast it talks.
                    yield_now().await;
                }
                Err(error) if is_early(&error) => {
                    if stream.readable().await.is_err() {
                        return;
                    }
                }
                Err(_) => return,
            }
        }
    };
    let late = async {
        Timer::after(linger.time).await;
    };
    or(reading, late).await;
}

/// Opens the listener. The error is a sentence with the flag to change.
pub(super) fn listen(address: std::net::SocketAddr) -> Result<TcpListener, String> {
    let listener = TcpListener::bind(address).map_err(|error| sentence(address, &error))?;
    // Without it the kernel keeps up to 4 MiB for each who looks on and does not read.
    let _the_kernel_s_own = os::net::send_buffer(&listener, SEND_BUFFER);
    Ok(listener)
}

fn sentence(address: std::net::SocketAddr, error: &io::Error) -> String {
    let why = match error.kind() {
        io::ErrorKind::AddrInUse => "address in use by another program".to_owned(),
        _ => error.to_string(),
    };
    format!(
        "cannot listen on {address} for the operator: {why}; choose another with --operator, or --operator off"
    )
}
