//! An HTTP connection that has to wait for something: the rest of its head, room for the reply, bytes of
//! a file, or the client's last bytes.
//!
//! What would surprise you: closing a socket that has unread bytes resets the connection, and the reset
//! can eat the last bytes of the reply on their way. Hence the care at the end.

use std::io::Read;
use std::net::{Shutdown, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use smol::Timer;
use smol::future::or;

use super::answer::{self, Answer};
use super::http::is_early;
use super::{Seat, Service, Stop, Stream, delivery, within};
use crate::os;
use crate::wire::head::{self, BadHead, Head, HeadLimits, Progress};
use crate::wire::reply::{self, Status};

/// Bytes of a body that are read, at most, before the connection is closed whatever comes.
const LINGER_BYTES: u64 = 64 * 1024;

/// The time for that.
const LINGER_TIME: Duration = Duration::from_secs(5);

/// Where a connection stands.
pub(super) enum Stage {
    /// These bytes of the head have arrived.
    Head(Vec<u8>),
    /// The head was complete.
    Answered(Box<Answered>),
}

/// A head that has its answer.
pub(super) struct Answered {
    pub answer: Answer,
    /// Bytes of a plain reply that were sent already.
    pub sent: usize,
    /// What is still to come from the client.
    pub body: Body,
}

/// What follows the head and was not read yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// Nothing.
    None,
    /// So many bytes.
    Bytes(u64),
    /// Nobody knows.
    Unknown,
}

impl Body {
    /// `beyond`: bytes that were read after the head.
    fn of(head: &Head<'_>, beyond: usize) -> Body {
        if head.header("transfer-encoding").is_some() {
            return Body::Unknown;
        }
        let Some(length) = head.header("content-length") else {
            return Body::None;
        };
        let length: Option<u64> = std::str::from_utf8(length)
            .ok()
            .and_then(|text| text.parse().ok());
        let read = u64::try_from(beyond).unwrap_or(u64::MAX);
        match length.map(|length| length.saturating_sub(read)) {
            Some(0) => Body::None,
            Some(left) => Body::Bytes(left),
            None => Body::Unknown,
        }
    }
}

/// Answers the bytes so far; `None` if they are not a complete head yet.
pub(super) fn judge(service: &Service, bytes: &[u8], peer: SocketAddr) -> Option<Answered> {
    let limits = HeadLimits {
        bytes: service.limits.head_bytes,
        headers: service.limits.head_lines,
    };
    let bad = |bad| Answered {
        answer: Answer::Reply(answer::to_bad_head(bad)),
        sent: 0,
        body: Body::Unknown,
    };
    match head::read(bytes, limits) {
        Progress::Partial if bytes.len() > limits.bytes => Some(bad(BadHead::TooLarge)),
        Progress::Partial => None,
        Progress::Bad(why) => Some(bad(why)),
        Progress::Complete(head, used) => Some(Answered {
            answer: answer::answer(service, &head, peer),
            sent: 0,
            body: Body::of(&head, bytes.len().saturating_sub(used)),
        }),
    }
}

/// Goes on from a stage to the end of the connection.
pub(super) async fn run(
    service: Rc<Service>,
    stream: Rc<Stream>,
    seat: Seat,
    peer: SocketAddr,
    stage: Stage,
    stop: Stop,
) {
    let answered = match stage {
        Stage::Head(bytes) => read_head(&service, &stream, peer, bytes, &stop).await,
        Stage::Answered(answered) => Some(answered),
    };
    if let Some(answered) = answered {
        // In a box, so that the many that wait for a head do not hold the room for what comes after.
        Box::pin(finish(&service, &stream, &seat, *answered)).await;
    }
}

/// Waits for the rest of the head; `None` if the client has gone, or nothing came before the stop.
async fn read_head(
    service: &Service,
    stream: &Stream,
    peer: SocketAddr,
    mut bytes: Vec<u8>,
    stop: &Stop,
) -> Option<Box<Answered>> {
    enum Woken {
        Readable(bool),
        Late,
        Stopped,
    }
    let instead = |status| {
        let answer = Answer::Reply(reply::plain(status, false));
        Some(Box::new(Answered {
            answer,
            sent: 0,
            body: Body::None,
        }))
    };
    let mut deadline = Timer::after(service.limits.head_timeout);
    loop {
        let readable = async { Woken::Readable(stream.readable().await.is_ok()) };
        let late = async {
            (&mut deadline).await;
            Woken::Late
        };
        let stopped = async {
            stop.raised().await;
            Woken::Stopped
        };
        match or(readable, or(late, stopped)).await {
            Woken::Readable(true) => {}
            Woken::Readable(false) => return None,
            Woken::Late => return instead(Status::Timeout),
            Woken::Stopped if bytes.is_empty() => return None,
            Woken::Stopped => return instead(Status::Unavailable),
        }
        let mut scratch = service.scratch.borrow_mut();
        let room = scratch.len();
        match stream.get_ref().read(&mut scratch) {
            Ok(0) => return None,
            Ok(got) => {
                bytes.extend_from_slice(scratch.get(..got).unwrap_or_default());
                if let Some(mut answered) = judge(service, &bytes, peer) {
                    if got == room {
                        answered.body = Body::Unknown;
                    }
                    return Some(Box::new(answered));
                }
            }
            Err(error) if is_early(&error) => {}
            Err(_) => return None,
        }
    }
}

async fn finish(service: &Rc<Service>, stream: &Stream, seat: &Seat, answered: Answered) {
    let Answered { answer, sent, body } = answered;
    match answer {
        Answer::Reply(reply) => {
            let left = reply.bytes().get(sent..).unwrap_or_default();
            if send_all(service, stream, left).await {
                close(stream, body).await;
            }
        }
        Answer::Deliver(plan) => {
            // What the client says first is read first: some do not listen while they speak.
            if let Body::Bytes(_) = body {
                read_body(stream, body).await;
            }
            delivery::deliver(service, stream, seat, &plan).await;
        }
    }
}

/// Sends a short reply; false if the client has gone or takes nothing for the time of a stall.
pub(super) async fn send_all(service: &Service, stream: &Stream, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        match os::net::send(stream.get_ref(), bytes, &[], false) {
            Ok(0) => return false,
            Ok(sent) => bytes = bytes.get(sent..).unwrap_or_default(),
            Err(error) if is_early(&error) => {
                let writable = within(service.limits.stall_timeout, stream.writable()).await;
                if !matches!(writable, Some(Ok(()))) {
                    return false;
                }
            }
            Err(_) => return false,
        }
    }
    true
}

/// Ends a connection so that the client gets all that was sent: FIN, and where it may still be sending,
/// reading that for a while. The socket itself closes when it is dropped.
pub(super) async fn close(stream: &Stream, body: Body) {
    let unread = os::net::unread(stream.get_ref()).unwrap_or(0);
    if body == Body::None && unread == 0 {
        return;
    }
    let _gone_already = stream.get_ref().shutdown(Shutdown::Write);
    read_body(stream, Body::Unknown).await;
}

/// Reads what the client still sends, and ignores it: all of the body, if its length is known, else until
/// the client ends; within bounds.
async fn read_body(stream: &Stream, body: Body) {
    let mut left = match body {
        Body::None => return,
        Body::Bytes(left) => left.min(LINGER_BYTES),
        Body::Unknown => LINGER_BYTES,
    };
    let reading = async {
        while left > 0 {
            match discard(stream) {
                Discarded::Bytes(read) => left = left.saturating_sub(read),
                Discarded::Early => {
                    if stream.readable().await.is_err() {
                        return;
                    }
                }
                Discarded::End | Discarded::Failed(_) => return,
            }
        }
    };
    within(LINGER_TIME, reading).await;
}

/// What a read into nowhere found.
pub(super) enum Discarded {
    Bytes(u64),
    Early,
    End,
    Failed(std::io::Error),
}

/// Reads once what has arrived, into nowhere.
pub(super) fn discard(stream: &Stream) -> Discarded {
    let mut nowhere = [0; 2048];
    match stream.get_ref().read(&mut nowhere) {
        Ok(0) => Discarded::End,
        Ok(read) => Discarded::Bytes(u64::try_from(read).unwrap_or(u64::MAX)),
        Err(error) if is_early(&error) => Discarded::Early,
        Err(error) => Discarded::Failed(error),
    }
}
