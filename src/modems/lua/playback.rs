//! Simulated server for tests: a closure that returns what happens after each send of a client, and
//! a clock that jumps to the next event. Without sockets and without waiting.

use crate::modems::{Action, Attempt, Endpoint, Event, Identity, Outcome};
use std::collections::VecDeque;
use std::time::Duration;

/// Action of the server or the network.
#[derive(Clone, Debug)]
pub(in crate::modems) enum ServerAction {
    /// One recv of the client returns these bytes.
    Recv(Vec<u8>),
    /// Time that passes before the next action.
    Wait(Duration),
    /// The server closes the connection with a FIN.
    Close,
    /// The connection is reset.
    Reset,
}

/// One send of the client.
#[derive(Clone, Debug)]
pub(in crate::modems) struct Request {
    /// Number of connections before this one.
    pub(in crate::modems) connection: usize,
    pub(in crate::modems) host: String,
    pub(in crate::modems) port: u16,
    pub(in crate::modems) bytes: Vec<u8>,
}

impl Request {
    pub(in crate::modems) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// Returns N of `Range: bytes=N-`.
    pub(in crate::modems) fn range(&self) -> Option<usize> {
        let text = self.text();
        let (_, rest) = text.split_once("Range: bytes=")?;
        rest.split_once("-\r\n")?.0.parse().ok()
    }
}

/// Result of an attempt.
#[derive(Clone, Debug)]
pub(in crate::modems) struct Played {
    pub(in crate::modems) outcome: Outcome,
    /// Time from the start of the attempt to its end.
    pub(in crate::modems) at: Duration,
    pub(in crate::modems) requests: Vec<Request>,
    /// Number of requested connections, including refused ones.
    pub(in crate::modems) connects: usize,
}

/// Plays `client` against `server` until the attempt ends.
pub(in crate::modems) fn play(
    client: &mut dyn Attempt,
    server: impl FnMut(&Request) -> Vec<ServerAction>,
) -> Played {
    play_with(client, |_| true, server)
}

/// Plays `client` against `server`; `accepts` decides about each connection, by its number from 0.
pub(in crate::modems) fn play_with(
    client: &mut dyn Attempt,
    mut accepts: impl FnMut(usize) -> bool,
    mut server: impl FnMut(&Request) -> Vec<ServerAction>,
) -> Played {
    // The clock does not start at zero, because no client may depend on that.
    let begun = Duration::from_secs(1000);
    let mut now = begun;
    let mut wake: Option<Duration> = None;
    let mut coming: VecDeque<(Duration, Option<ServerAction>, bool)> = VecDeque::new();
    let mut requests = Vec::new();
    let mut connects = 0_usize;
    let mut peer = (String::new(), 0_u16);
    let mut open = false;
    let mut todo = client.step(now, Event::Start);
    for _ in 0..100_000 {
        for action in std::mem::take(&mut todo) {
            match action {
                Action::Connect { host, port, .. } => {
                    coming.clear();
                    let accepted = accepts(connects);
                    connects += 1;
                    open = accepted;
                    peer = (host, port);
                    coming.push_back((now, None, accepted));
                }
                Action::Send(bytes) => {
                    assert!(open, "a send without a connection");
                    let request = Request {
                        connection: connects - 1,
                        host: peer.0.clone(),
                        port: peer.1,
                        bytes,
                    };
                    let mut at = now;
                    for then in server(&request) {
                        if let ServerAction::Wait(span) = then {
                            at += span;
                        } else {
                            coming.push_back((at, Some(then), true));
                        }
                    }
                    requests.push(request);
                }
                Action::Close => {
                    open = false;
                    coming.clear();
                }
                Action::WakeAt(moment) => wake = moment,
                Action::Finish(outcome) => {
                    assert!(
                        client.step(now, Event::Wake).is_empty(),
                        "after the end it does nothing"
                    );
                    return Played {
                        outcome,
                        at: now - begun,
                        requests,
                        connects,
                    };
                }
            }
        }
        let first = coming
            .iter()
            .enumerate()
            .min_by_key(|(_, entry)| entry.0)
            .map(|(index, entry)| (index, entry.0));
        todo = match (first, wake) {
            (Some((index, at)), limit) if limit.is_none_or(|limit| at <= limit) => {
                now = now.max(at);
                match coming.remove(index).expect("it is there") {
                    (_, None, true) => client.step(now, Event::Connected),
                    (_, None, false) => client.step(now, Event::ConnectFailed),
                    (_, Some(ServerAction::Recv(bytes)), _) => {
                        client.step(now, Event::Received(&bytes))
                    }
                    (_, Some(ServerAction::Close), _) => client.step(now, Event::Closed),
                    (_, Some(ServerAction::Reset), _) => client.step(now, Event::Reset),
                    (_, Some(ServerAction::Wait(_)), _) => unreachable!("waits are not queued"),
                }
            }
            (_, Some(limit)) => {
                now = now.max(limit);
                wake = None;
                client.step(now, Event::Wake)
            }
            (_, None) => panic!("the client waits for an event that cannot happen"),
        };
    }
    panic!("the client does not end");
}

/// Returns the module of the tests, with this VERSION.
pub(in crate::modems) fn identity(version: &str) -> Identity {
    Identity {
        imei: "862991443753386".into(),
        project: "DEMO".into(),
        version: version.into(),
        core: 35,
        bsp: None,
        key: "KEY".into(),
        serial: "SN".into(),
    }
}

/// Returns the server of the tests, with this path.
pub(in crate::modems) fn endpoint(path: &str) -> Endpoint {
    Endpoint {
        host: "ota.test".into(),
        port: 2234,
        path: path.into(),
    }
}

/// Returns bytes that are taken for firmware: with control characters, and without repetition.
pub(in crate::modems) fn image(size: usize) -> Vec<u8> {
    (0..size)
        .map(|at| u8::try_from((at.wrapping_mul(31) ^ (at >> 8)) & 0xff).unwrap())
        .collect()
}

/// Returns a word for an outcome, for tables.
pub(in crate::modems) fn verdict(outcome: &Outcome) -> &'static str {
    use crate::modems::Failure;
    match outcome {
        Outcome::Updated(_) => "updated",
        Outcome::NoUpdate(_) => "no update",
        Outcome::Failed(Failure::Hung { .. }) => "hung",
        Outcome::Failed(Failure::ScriptError(_)) => "script error",
        Outcome::Failed(Failure::FlashedGarbage(..)) => "garbage",
        Outcome::Failed(Failure::RebootLoop(_)) => "reboot loop",
        Outcome::Failed(Failure::AsksEndlessly(_)) => "asks endlessly",
        Outcome::Failed(Failure::GaveUp(_)) => "gave up",
    }
}
