//! HTTP for modules: accept, read, answer and close in line, without the reactor ever hearing of the
//! connection (four system calls a check). Only what would have to wait becomes a task of its own, in
//! [`connection`].

use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;

use smol::LocalExecutor;

use super::accept::accept;
use super::answer::Answer;
use super::connection::{self, Stage};
use super::seats::Seat;
use super::stream::Body;
use super::{Service, Stop};
use crate::decision::Refusal;
use crate::os;
use crate::os::net::is_early;
use crate::wire::reply;
use smol::Async;

/// Serves a non-blocking listener until the signal to stop. Connections that are downloading then go on
/// as tasks of `executor`.
pub async fn serve(
    listener: TcpListener,
    service: Rc<Service>,
    executor: Rc<LocalExecutor<'static>>,
    stop: Stop,
) {
    let _slower_without = os::net::cork(&listener);
    let welcome = |stream: TcpStream, peer| {
        if let Some(stage) = in_line(&service, &stream, peer) {
            hand_over(&service, &executor, &stop, stream, peer, stage);
        }
    };
    accept(listener, &service, &stop, welcome).await;
}

/// Does what can be done without waiting; what is left to do. `None`: nothing, the connection may be
/// closed.
fn in_line(service: &Rc<Service>, mut stream: &TcpStream, peer: SocketAddr) -> Option<Stage> {
    let mut scratch = service.scratch.borrow_mut();
    let room = scratch.len();
    let got = match stream.read(&mut scratch) {
        Ok(0) => return None,
        Ok(got) => got,
        Err(error) if is_early(&error) => return Some(Stage::Head(Vec::new())),
        Err(_) => return None,
    };
    let bytes = scratch.get(..got).unwrap_or_default();
    let Some(mut answered) = connection::judge(service, bytes, peer, stream) else {
        return Some(Stage::Head(bytes.to_vec()));
    };
    if got == room {
        // There may be more, and closing with unread bytes would reset the connection.
        answered.body = Body::Unknown;
    }
    if let (Answer::Reply(reply), Body::None) = (&answered.answer, answered.body) {
        match os::net::send(stream, reply.bytes(), &[], false) {
            Ok(sent) if sent >= reply.bytes().len() => return None,
            Ok(sent) => answered.sent = sent,
            Err(error) if is_early(&error) => {}
            Err(_) => return None,
        }
    }
    Some(Stage::Answered(answered))
}

fn hand_over(
    service: &Rc<Service>,
    executor: &LocalExecutor<'static>,
    stop: &Stop,
    stream: TcpStream,
    peer: SocketAddr,
    stage: Stage,
) {
    let stream = match Async::new_nonblocking(stream) {
        Ok(stream) => stream,
        Err(error) => {
            log::error!(target: "device", "a connection cannot be waited for: {error}");
            return;
        }
    };
    let Some(seat) = Seat::take(service, peer) else {
        return turn_away(service, stream.get_ref(), &stage);
    };
    let (service, stop) = (Rc::clone(service), stop.clone());
    match stage {
        Stage::Head(bytes) => seat.run(executor, |seat| {
            connection::run(service, stream, seat, peer, bytes, stop)
        }),
        Stage::Answered(answered) => seat.run(executor, |seat| {
            connection::finish(service, stream, seat, answered, stop)
        }),
    }
}

/// Says what can be said without waiting to a client for which there is no room.
fn turn_away(service: &Service, stream: &TcpStream, stage: &Stage) {
    let full = || reply::refusal(Refusal::Full, false);
    let (reply, sent) = match stage {
        Stage::Head(_) => (&full(), 0),
        Stage::Answered(answered) => match &answered.answer {
            Answer::Reply(reply) => (reply, answered.sent),
            Answer::Deliver(plan) => {
                plan.log_refused(service, "no room for another connection");
                (&full(), 0)
            }
        },
    };
    let rest = reply.bytes().get(sent..).unwrap_or_default();
    let _too_bad = os::net::send(stream, rest, &[], false);
}
