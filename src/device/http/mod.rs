//! HTTP for modules. Accepts, reads, answers and closes a connection in line, without registering it with the reactor
//! (four system calls for each check). Only a connection that would have to wait becomes a task, in [`connection`].

mod connection;

use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::time::Instant;

use smol::{Async, LocalExecutor};

use super::accept::accept;
use super::check_log::log_unknown;
use super::client::client_of;
use super::plan::{self, Answer, IncomingCheck};
use super::seats::Seat;
use super::stream::{UnreadBody, close_at_once};
use super::{Service, Stop, Stream, direct_file, libfota3};
use crate::decision::Refusal;
use crate::os;
use crate::os::net::is_retryable;
use crate::wire::dialects::updatehttp;
use crate::wire::head::{self, BadHead, Head, HeadLimits, HeadProgress};
use crate::wire::http_target::{HttpTarget, http_target};
use crate::wire::range::RangeRequest;
use crate::wire::reply::{self, Status};

/// Methods of a check. All are treated alike; a body is ignored.
const METHODS: [&[u8]; 6] = [b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"PATCH"];

/// The reply to `Expect: 100-continue`.
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Remaining work for a connection.
enum PendingConnection {
    /// The head is not complete; these bytes have arrived.
    Head(Vec<u8>),
    /// The head is complete.
    Answer(PendingAnswer),
}

/// The answer to a head.
struct PendingAnswer {
    answer: Answer,
    /// Bytes of a plain reply that were sent already.
    sent: usize,
    /// Body that the client may still be sending.
    body: UnreadBody,
}

impl PendingAnswer {
    fn reply(reply: reply::Reply, body: UnreadBody) -> PendingAnswer {
        PendingAnswer {
            answer: Answer::Reply(reply),
            sent: 0,
            body,
        }
    }
}

/// Serves a non-blocking listener until the signal to stop. Connections that are downloading then continue as tasks of
/// `executor`.
pub async fn serve(
    listener: TcpListener,
    service: Rc<Service>,
    executor: Rc<LocalExecutor<'static>>,
    stop: Stop,
) {
    let _optional = os::net::cork(&listener);
    let serve_connection = |stream: TcpStream, peer| {
        if let Some(pending) = serve_in_line(&service, &stream, peer) {
            hand_over(&service, &executor, &stop, stream, peer, pending);
        }
    };
    accept(listener, &service, &stop, serve_connection).await;
}

/// Serves a connection as far as possible without waiting. `None` if nothing is left to do and it may be closed.
fn serve_in_line(
    service: &Rc<Service>,
    mut stream: &TcpStream,
    peer: SocketAddr,
) -> Option<PendingConnection> {
    let mut scratch = service.scratch.borrow_mut();
    let got = match stream.read(&mut scratch) {
        Ok(0) => return None,
        Ok(got) => got,
        Err(error) if is_retryable(&error) => return Some(PendingConnection::Head(Vec::new())),
        Err(_) => return None,
    };
    let is_full = got == scratch.len();
    let bytes = scratch.get(..got).unwrap_or_default();
    let Some(mut pending) = answer_bytes(service, bytes, is_full, peer, stream) else {
        return Some(PendingConnection::Head(bytes.to_vec()));
    };
    if let (Answer::Reply(reply), UnreadBody::None) = (&pending.answer, pending.body) {
        match os::net::send(stream, reply.bytes(), &[], false) {
            Ok(sent) if sent >= reply.bytes().len() => return None,
            Ok(sent) => pending.sent = sent,
            Err(error) if is_retryable(&error) => {}
            Err(_) => return None,
        }
    }
    Some(PendingConnection::Answer(pending))
}

fn hand_over(
    service: &Rc<Service>,
    executor: &LocalExecutor<'static>,
    stop: &Stop,
    stream: TcpStream,
    peer: SocketAddr,
    pending: PendingConnection,
) {
    let stream = match Async::new_nonblocking(stream) {
        Ok(stream) => stream,
        Err(error) => {
            log::error!(target: "device", "cannot wait for data of a connection: {error}");
            return;
        }
    };
    let Some(seat) = Seat::take(service, peer) else {
        return refuse_connection(service, &stream, &pending);
    };
    let (service, stop) = (Rc::clone(service), stop.clone());
    match pending {
        PendingConnection::Head(bytes) => seat.run(executor, |seat| {
            connection::run(service, stream, seat, peer, bytes, stop)
        }),
        PendingConnection::Answer(pending) => seat.run(executor, |seat| {
            connection::finish(service, stream, seat, pending, stop)
        }),
    }
}

/// Answers a client for which there is no room, without waiting.
fn refuse_connection(service: &Service, stream: &Stream, pending: &PendingConnection) {
    let full = || {
        let reply = reply::refusal(Refusal::Full, false);
        service.count_reply(&reply);
        reply
    };
    let (reply, sent) = match pending {
        PendingConnection::Head(_) => (&full(), 0),
        PendingConnection::Answer(pending) => match &pending.answer {
            Answer::Reply(reply) => (reply, pending.sent),
            Answer::Deliver(plan) => {
                plan.record_no_room(service, "no room for another connection");
                (&full(), 0)
            }
        },
    };
    let rest = reply.bytes().get(sent..).unwrap_or_default();
    let _gone_already = os::net::send(stream.get_ref(), rest, &[], false);
    close_at_once(stream);
}

/// Answers the bytes that have arrived; `None` if they are not a complete head yet, or not a complete body of a report.
/// `is_full` tells that the read filled its buffer, so there may be more.
fn answer_bytes(
    service: &Service,
    bytes: &[u8],
    is_full: bool,
    peer: SocketAddr,
    stream: &TcpStream,
) -> Option<PendingAnswer> {
    let limits = HeadLimits {
        bytes: service.limits.head_bytes,
        headers: service.limits.head_lines,
    };
    let (head, used) = match head::read(bytes, limits) {
        HeadProgress::Partial if bytes.len() > limits.bytes => {
            return Some(answer_bad_head(service, BadHead::TooLarge));
        }
        HeadProgress::Partial => return None,
        HeadProgress::Bad(bad) => return Some(answer_bad_head(service, bad)),
        HeadProgress::Complete(head, used) => (head, used),
    };
    let body = bytes.get(used..).unwrap_or_default();
    let expects = head.minor > 0 && expects_continue(&head);
    if libfota3::waits_for_body(&head, body) {
        if expects && body.is_empty() {
            // Sent only once, since the body follows. If it cannot be sent now, it is not sent again.
            let _gone_already = os::net::send_at_once(stream, CONTINUE);
        }
        return None;
    }
    // The local address is needed only without a Host.
    let local = match head.header("host") {
        Some(_) => None,
        None => stream.local_addr().ok(),
    };
    Some(PendingAnswer {
        answer: answer(service, &head, body, (peer, local), Instant::now()),
        sent: 0,
        body: match UnreadBody::of(&head, body.len()) {
            // There may be more bytes, and closing with unread bytes would reset the connection.
            _ if is_full => UnreadBody::Unknown,
            // The client waits for the answer first, and then may or may not send the body.
            UnreadBody::Bytes(_) if expects => UnreadBody::Unknown,
            other => other,
        },
    })
}

/// Answers bytes that cannot become a valid head.
fn answer_bad_head(service: &Service, bad: BadHead) -> PendingAnswer {
    service.count_malformed();
    let status = match bad {
        BadHead::Malformed => Status::BadRequest,
        BadHead::TooLarge => Status::HeadTooLarge,
        BadHead::Version => Status::Version,
    };
    PendingAnswer::reply(reply::plain(status, false), UnreadBody::Unknown)
}

/// Whether the client waits for permission to send its body (RFC 9110 10.1.1).
fn expects_continue(head: &Head<'_>) -> bool {
    let value = head.header("expect");
    value.is_some_and(|value| value.eq_ignore_ascii_case(b"100-continue"))
}

/// Answers a head that arrived from `peer` at `local`, with the part of its body that came with it. `now` is the time
/// of arrival. Touches no socket.
pub(super) fn answer(
    service: &Service,
    head: &Head<'_>,
    body: &[u8],
    (peer, local): (SocketAddr, Option<SocketAddr>),
    now: Instant,
) -> Answer {
    let head_only = head.method == b"HEAD";
    if !METHODS.contains(&head.method) {
        return Answer::Reply(reply::plain(Status::MethodNotAllowed, false));
    }
    let range = RangeRequest::of(head, head_only);
    let client = client_of(&service.limits, head, peer);
    let mut answer = match http_target(head.target) {
        HttpTarget::Check(mut check) => {
            check.complete(&service.catalog());
            let incoming = IncomingCheck::new("http", client, &check, now);
            plan::answer(service, &incoming, &range)
        }
        HttpTarget::Libfota3(request) => {
            let http = libfota3::HttpRequest {
                head,
                body,
                client,
                peer,
                local,
                now,
            };
            libfota3::answer(service, request, &http, &range)
        }
        HttpTarget::File(path, named) => {
            direct_file::answer(service, (&path, named), &range, (client, now))
        }
        HttpTarget::Health => Answer::Reply(reply::plain(Status::Healthy, head_only)),
        // Not counted: a 503 here refuses no check.
        HttpTarget::Ready => return Answer::Reply(reply::plain(service.readiness(), head_only)),
        HttpTarget::Unknown => {
            // Logged, since it may be a check with a mistake in its path.
            let reason = "neither a path of this server nor a check with a project";
            log_unknown("http", head.target, ("404", reason), client);
            Answer::Reply(reply::plain(Status::NotFound, head_only))
        }
    };
    match &mut answer {
        Answer::Reply(reply) => service.count_reply(reply),
        Answer::Deliver(plan) => {
            plan.proxied = service.limits.trusts(peer.ip());
            plan.head_alone = updatehttp::is_from_updatehttp(head);
        }
    }
    answer
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;
    use crate::device::tests::service;

    /// The request may arrive between the read that found nothing and the close, which then would reset the connection.
    #[test]
    fn a_refused_client_gets_its_reply_whatever_it_sent_meanwhile() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        os::net::cork(&listener).unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        client.write_all(&[b'x'; 40_000]).unwrap();
        // Waits until the bytes have arrived.
        stream.peek(&mut [0]).unwrap();
        let stream = Async::new(stream).unwrap();
        let pending = PendingConnection::Head(Vec::new());
        refuse_connection(&service(), &stream, &pending);
        drop(stream);
        let mut got = [0; 12];
        client.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"HTTP/1.1 503");
    }
}
