//! A connection of the operator's side, from its first byte to its last: head, access, body, reply,
//! close. One request each.
//!
//! What would surprise you: at the cap it is not the newcomer who must go but the oldest connection whose
//! head is not complete. Sixty-four silent ones would otherwise shut people out.

use std::convert::Infallible;
use std::io::{self, Read};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::rc::{Rc, Weak};
use std::time::Duration;

use http_types::StatusCode;
use smol::LocalExecutor;
use smol::channel::{Receiver, Sender, bounded};
use smol::future::{self, FutureExt as _, or};

use super::access::Denied;
use super::api::{self, Answer};
use super::body::Incoming;
use super::head::{self, Asked, Found};
use super::reply::Reply;
use super::route::{self, NoRoute};
use super::{Desk, events};
use crate::os;
use crate::os::net::is_early;
use crate::os::reactor::{Async, Timer, yield_now};

/// A connection's socket.
pub(super) type Stream = Async<TcpStream>;

/// How long to wait where a connection cannot be accepted.
const PAUSE: Duration = Duration::from_millis(200);

/// Bytes of a body that nobody wanted that are read, at most, so that the client reads our reply.
const LINGER_BYTES: u64 = 512 << 20;

/// The time for that.
const LINGER: Duration = Duration::from_secs(10);

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
    let listener = match listener.and_then(Async::new) {
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
            Ok((stream, _)) => return Async::new(stream),
            Err(error) if is_early(&error) => listener.readable().await?,
            Err(error) => return Err(error),
        }
    }
}

/// Who is connected.
#[derive(Default)]
pub(super) struct Seats {
    count: usize,
    next: u64,
    /// Those whose head is not complete, oldest first; a word to one ends it.
    waiting: Vec<(u64, Sender<()>)>,
}

/// A place among the connections, given back on drop.
struct Seat {
    desk: Rc<Desk>,
    number: u64,
}

impl Seat {
    /// A place, and where to hear that it must be given up; `None` if all are being answered.
    fn take(desk: &Rc<Desk>) -> Option<(Seat, Receiver<()>)> {
        let mut seats = desk.seats.borrow_mut();
        if seats.count >= desk.limits.connections {
            if seats.waiting.is_empty() {
                return None;
            }
            let (_, oldest) = seats.waiting.remove(0);
            let _gone_already = oldest.try_send(());
        }
        let (sender, evicted) = bounded(1);
        let number = seats.next;
        seats.next = seats.next.wrapping_add(1);
        seats.count = seats.count.saturating_add(1);
        seats.waiting.push((number, sender));
        drop(seats);
        let desk = Rc::clone(desk);
        Some((Seat { desk, number }, evicted))
    }

    /// The head is complete: from now on nobody takes the place away.
    fn keep(&self) {
        let mut seats = self.desk.seats.borrow_mut();
        seats.waiting.retain(|(number, _)| *number != self.number);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.keep();
        let mut seats = self.desk.seats.borrow_mut();
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
    seat.keep();
    // In a box, so that those that wait for a head do not hold the room for what comes after.
    Box::pin(answer(&desk, &stream, found, bytes, &ended)).await;
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
    found: Result<(Box<Asked>, usize), Reply>,
    mut bytes: Vec<u8>,
    ended: &Receiver<Infallible>,
) {
    let (asked, used) = match found {
        Ok(found) => found,
        Err(reply) => {
            if send(stream, &reply.encode(false, false).await).await {
                close(stream, LINGER_BYTES).await;
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
    let answer = match allowed(desk, &asked) {
        Ok(route) => api::answer(desk, &asked, route, &mut body).await,
        Err(reply) => Answer::Reply(reply),
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
        close(stream, body.outstanding()).await;
    }
}

/// The route, if it may be taken.
fn allowed<'a>(desk: &Desk, asked: &'a Asked) -> Result<route::Route<'a>, Reply> {
    let method = asked.method();
    let route = route::route(method, &asked.target);
    let bearing = asked.bearing().map_err(Reply::bad)?;
    desk.access
        .judge(route::matter(method, &route), &bearing)
        .map_err(denied)?;
    route.map_err(|no| match no {
        NoRoute::NotFound => Reply::problem(StatusCode::NotFound, "there is nothing at this path"),
        NoRoute::Method(methods) => Reply::problem(
            StatusCode::MethodNotAllowed,
            format!("this path takes {methods}"),
        )
        .with("allow", methods),
    })
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
        Denied::Token => Reply::problem(
            StatusCode::Unauthorized,
            "this needs the operator's token, as `Authorization: Bearer TOKEN`",
        )
        .with("www-authenticate", "Bearer"),
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
async fn close(stream: &Stream, outstanding: u64) {
    let _gone_already = stream.get_ref().shutdown(Shutdown::Write);
    let mut left = match outstanding {
        // Whatever else it may have sent behind its request.
        0 if os::net::unread(stream.get_ref()).unwrap_or(0) == 0 => return,
        0 => 64 * 1024,
        outstanding => outstanding.min(LINGER_BYTES),
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
        Timer::after(LINGER).await;
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
