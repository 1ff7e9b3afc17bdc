//! An HTTP connection that has to wait for something: the rest of its head, room for the reply, bytes of
//! a file, or the client's last bytes. Handed over by [`http`](mod@super::http).

use std::future::poll_fn;
use std::io::Read;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Instant;

use super::answer::{self, Answer};
use super::seats::Seat;
use super::stream::{Body, close, read_body, send_all};
use super::{Service, Stop, Stream, delivery, libfota3};
use crate::os;
use crate::os::net::is_early;
use crate::wire::head::{self, BadHead, HeadLimits, HeadProgress};
use crate::wire::reply::{self, Status};
use smol::Timer;

/// The leave to send a body that we want to have.
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Where a connection stands.
pub(super) enum Stage {
    /// These bytes of the head have arrived.
    Head(Vec<u8>),
    /// The head was complete.
    Answered(Answered),
}

/// A head that has its answer.
pub(super) struct Answered {
    pub answer: Answer,
    /// Bytes of a plain reply that were sent already.
    pub sent: usize,
    /// What is still to come from the client.
    pub body: Body,
}

/// Answers the bytes so far; `None` if they are not a complete head yet (for a report: not its body).
pub(super) fn judge(
    service: &Service,
    bytes: &[u8],
    peer: SocketAddr,
    stream: &std::net::TcpStream,
) -> Option<Answered> {
    let limits = HeadLimits {
        bytes: service.limits.head_bytes,
        headers: service.limits.head_lines,
    };
    let bad = |bad| Answered {
        answer: Answer::Reply(answer::to_bad_head(service, bad)),
        sent: 0,
        body: Body::Unknown,
    };
    match head::read(bytes, limits) {
        HeadProgress::Partial if bytes.len() > limits.bytes => Some(bad(BadHead::TooLarge)),
        HeadProgress::Partial => None,
        HeadProgress::Bad(why) => Some(bad(why)),
        HeadProgress::Complete(head, used) => {
            let body = bytes.get(used..).unwrap_or_default();
            let expects = head.minor > 0 && expects_continue(&head);
            if libfota3::waits_for_body(&head, body) {
                if expects && body.is_empty() {
                    // Once: what follows is body. What cannot be sent now, the client does without.
                    let _gone_already = os::net::send_at_once(stream, CONTINUE);
                }
                return None;
            }
            // Only asked where there is no Host.
            let local = match head.header("host") {
                Some(_) => None,
                None => stream.local_addr().ok(),
            };
            Some(Answered {
                answer: answer::answer(service, &head, body, (peer, local), Instant::now()),
                sent: 0,
                body: match Body::of(&head, body.len()) {
                    // It may send the body or not, and waits for our answer first.
                    Body::Bytes(_) if expects => Body::Unknown,
                    other => other,
                },
            })
        }
    }
}

/// Does the client wait for leave to send its body (RFC 9110 10.1.1)?
fn expects_continue(head: &head::Head<'_>) -> bool {
    let value = head.header("expect");
    value.is_some_and(|value| value.eq_ignore_ascii_case(b"100-continue"))
}

/// Goes on after these bytes of a head, to the end of the connection.
#[allow(clippy::manual_async_fn)] // Which would hold its arguments twice, for each of very many.
pub(super) fn run(
    service: Rc<Service>,
    stream: Stream,
    seat: Seat,
    peer: SocketAddr,
    mut bytes: Vec<u8>,
    stop: Stop,
) -> impl Future<Output = ()> {
    async move {
        if let Some(answered) = read_head(&service, &stream, &peer, &mut bytes, &stop).await {
            // In a box, so that the many that wait for a head do not hold the room for what comes after.
            Box::pin(finish(service, stream, seat, *answered, stop)).await;
        }
    }
}

/// Waits for the rest of the head; `None` if the client has gone, or nothing came before the stop.
#[allow(clippy::manual_async_fn)] // As with `run`.
fn read_head(
    service: &Service,
    stream: &Stream,
    peer: &SocketAddr,
    bytes: &mut Vec<u8>,
    stop: &Stop,
) -> impl Future<Output = Option<Box<Answered>>> {
    async move {
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
        let mut stopped = pin!(stop.raised());
        loop {
            let mut readable = pin!(stream.readable());
            // As one: there may be tens of thousands of these.
            let woken = poll_fn(|context| {
                if let Poll::Ready(readable) = readable.as_mut().poll(context) {
                    return Poll::Ready(Woken::Readable(readable.is_ok()));
                }
                if pin!(&mut deadline).poll(context).is_ready() {
                    return Poll::Ready(Woken::Late);
                }
                stopped.as_mut().poll(context).map(|()| Woken::Stopped)
            });
            match woken.await {
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
                    if let Some(mut answered) = judge(service, bytes, *peer, stream.get_ref()) {
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
}

/// Goes on from an answered head to the end of the connection.
#[allow(clippy::manual_async_fn)] // As with `run`.
pub(super) fn finish(
    service: Rc<Service>,
    stream: Stream,
    seat: Seat,
    answered: Answered,
    stop: Stop,
) -> impl Future<Output = ()> {
    async move {
        let Answered { answer, sent, body } = &answered;
        match answer {
            Answer::Reply(reply) => {
                let left = reply.bytes().get(*sent..).unwrap_or_default();
                if send_all(&service, &stream, left).await {
                    close(&stream, *body).await;
                }
            }
            Answer::Deliver(plan) => {
                // What the client says first is read first: some do not listen while they speak.
                if let Body::Bytes(_) = body {
                    read_body(&stream, *body).await;
                }
                delivery::deliver(&service, &stream, &seat, plan, &stop).await;
            }
        }
    }
}
