//! HTTP connections that have to wait for the rest of the head, for room to send the reply, for bytes of a file, or for
//! the client's last bytes.

use std::future::poll_fn;
use std::io::Read;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use smol::Timer;

use super::{PendingAnswer, answer_bytes};
use crate::device::plan::Answer;
use crate::device::seats::Seat;
use crate::device::stream::{UnreadBody, close, read_body, send_all};
use crate::device::{Service, Stop, Stream, delivery};
use crate::os::net::is_retryable;
use crate::wire::reply::{self, Status};

/// Serves a connection from an unfinished head, of which `bytes` have arrived, to its end.
#[allow(clippy::manual_async_fn)] // An async fn would hold its arguments twice, for each of very many.
pub(super) fn run(
    service: Rc<Service>,
    stream: Stream,
    seat: Seat,
    peer: SocketAddr,
    mut bytes: Vec<u8>,
    stop: Stop,
) -> impl Future<Output = ()> {
    async move {
        if let Some(pending) = read_head(&service, &stream, &peer, &mut bytes, &stop).await {
            // Boxed, so that the many connections that wait for a head do not take up the space that later steps need.
            Box::pin(finish(service, stream, seat, *pending, stop)).await;
        }
    }
}

/// Waits for the rest of the head. `None` if the client is gone, or if nothing arrived before the signal to stop.
#[allow(clippy::manual_async_fn)] // For the same reason as `run`.
fn read_head(
    service: &Service,
    stream: &Stream,
    peer: &SocketAddr,
    bytes: &mut Vec<u8>,
    stop: &Stop,
) -> impl Future<Output = Option<Box<PendingAnswer>>> {
    async move {
        enum HeadWait {
            Readable(bool),
            Late,
            Stopped,
        }
        let reply_with = |status| {
            let reply = reply::plain(status, false);
            service.count_reply(&reply);
            Some(Box::new(PendingAnswer::reply(reply, UnreadBody::None)))
        };
        let mut deadline = Timer::after(service.limits.head_timeout);
        let mut stopped = pin!(stop.raised());
        loop {
            let mut readable = pin!(stream.readable());
            // One future for all three, since there may be tens of thousands of waiting connections.
            let waited = poll_fn(|context| {
                if let Poll::Ready(readable) = readable.as_mut().poll(context) {
                    return Poll::Ready(HeadWait::Readable(readable.is_ok()));
                }
                if pin!(&mut deadline).poll(context).is_ready() {
                    return Poll::Ready(HeadWait::Late);
                }
                stopped.as_mut().poll(context).map(|()| HeadWait::Stopped)
            });
            match waited.await {
                HeadWait::Readable(true) => {}
                HeadWait::Readable(false) => return None,
                HeadWait::Late => return reply_with(Status::Timeout),
                HeadWait::Stopped if bytes.is_empty() => return None,
                HeadWait::Stopped => return reply_with(Status::Unavailable),
            }
            let mut scratch = service.scratch.borrow_mut();
            match stream.get_ref().read(&mut scratch) {
                Ok(0) => return None,
                Ok(got) => {
                    let is_full = got == scratch.len();
                    bytes.extend_from_slice(scratch.get(..got).unwrap_or_default());
                    let socket = stream.get_ref();
                    if let Some(pending) = answer_bytes(service, bytes, is_full, *peer, socket) {
                        return Some(Box::new(pending));
                    }
                }
                Err(error) if is_retryable(&error) => {}
                Err(_) => return None,
            }
        }
    }
}

/// Sends the answer to a head, and serves the connection to its end.
#[allow(clippy::manual_async_fn)] // For the same reason as `run`.
pub(super) fn finish(
    service: Rc<Service>,
    stream: Stream,
    seat: Seat,
    pending: PendingAnswer,
    stop: Stop,
) -> impl Future<Output = ()> {
    async move {
        let PendingAnswer { answer, sent, body } = &pending;
        match answer {
            Answer::Reply(reply) => {
                let left = reply.bytes().get(*sent..).unwrap_or_default();
                if send_all(&service, &stream, left).await {
                    close(&stream, *body).await;
                }
            }
            Answer::Deliver(plan) => {
                // The body is read before the reply: some clients read nothing until their body is sent.
                if let UnreadBody::Bytes(_) = body {
                    read_body(&stream, *body).await;
                }
                delivery::deliver(&service, &stream, &seat, plan, &stop).await;
            }
        }
    }
}
