//! The first edition of Luat's update client over HTTP.
//!
//! Follows 2G script/lib/updatehttp.lua (2018-02 to 2018-11), as described in docs/protocol.md 1b
//! and 2a (\[H\]; the restart after a script error is \[I\]).
//!
//! The client collects received bytes until the blank line, and only a later recv can complete the
//! download (docs/protocol.md 9g). A file whose last byte arrives together with the end of the head
//! is therefore never complete.
//!
//! Where docs/protocol.md says nothing, the emulation assumes the strict reading \[I\]: silence
//! after the request is treated like a missing `Content-Length`. The client has no time-out of its
//! own for a download that makes no progress: the emulation waits for [`STALL_LIMIT`] and calls
//! that hung.

use super::{Action, Attempt, Endpoint, Event, Failure, Identity, Outcome, lua};
use std::time::Duration;

/// Pause before the next connection.
const PAUSE: Duration = Duration::from_secs(10);

/// Maximum number of connections, and of requests.
const TRIES: u32 = 5;

/// Time without progress after which the emulation calls a download hung.
pub const STALL_LIMIT: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Idle,
    Connecting,
    /// Waits to connect again, after a failed connection or an unusable head.
    Pausing,
    /// The request has been sent.
    Requested,
    /// The head was usable. Contains the stated length, and the number of body bytes received.
    Receiving {
        length: u64,
        got: u64,
    },
    Over,
}

/// Fault in the head of a 200.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unusable {
    /// `Content-Length: 0`.
    Empty,
    /// No valid `Content-Length: N`.
    NoLength,
}

/// One attempt of updatehttp.lua.
#[derive(Debug)]
pub struct UpdateHttp {
    host: String,
    port: u16,
    request: Vec<u8>,
    stage: Stage,
    begun: Duration,
    deadline: Option<Duration>,
    /// Number of consecutive failed connections.
    failed_connects: u32,
    /// Number of requests without a usable reply.
    failed_requests: u32,
    /// Reason why the last reply was not usable.
    why: Option<Unusable>,
    /// Received part of the head.
    head: Vec<u8>,
    image: Vec<u8>,
}

impl UpdateHttp {
    /// Creates a client with this identity; `bsp: None` is `8955`. Nothing is encoded; the version
    /// is sent as the script has it.
    pub fn new(identity: &Identity, endpoint: &Endpoint) -> UpdateHttp {
        let request = format!(
            "GET {}?project_key={}&imei={}&device_key={}&firmware_name={}_Luat_V{:04}_{}&version={} \
             HTTP/1.1\r\nConnection: keep-alive\r\nHost: {}\r\n\r\n",
            endpoint.path,
            identity.key,
            identity.imei,
            identity.serial,
            identity.project,
            identity.core,
            identity.bsp.as_deref().unwrap_or("8955"),
            identity.version,
            endpoint.host,
        );
        UpdateHttp {
            host: endpoint.host.clone(),
            port: endpoint.port,
            request: request.into_bytes(),
            stage: Stage::Idle,
            begun: Duration::ZERO,
            deadline: None,
            failed_connects: 0,
            failed_requests: 0,
            why: None,
            head: Vec::new(),
            image: Vec::new(),
        }
    }

    fn connect(&mut self) -> Vec<Action> {
        self.stage = Stage::Connecting;
        self.why = None;
        self.head.clear();
        self.deadline = None;
        vec![
            Action::Connect {
                datagrams: false,
                host: self.host.clone(),
                port: self.port,
            },
            Action::WakeAt(None),
        ]
    }

    fn wait(&mut self, now: Duration, span: Duration) -> Action {
        self.deadline = now.checked_add(span);
        Action::WakeAt(self.deadline)
    }

    fn finish(&mut self, outcome: Outcome) -> Vec<Action> {
        self.stage = Stage::Over;
        self.deadline = None;
        vec![Action::WakeAt(None), Action::Close, Action::Finish(outcome)]
    }

    fn fail(&mut self, failure: Failure) -> Vec<Action> {
        self.finish(Outcome::Failed(failure))
    }

    /// Handles a part of the head: the reply is parsed when its blank line has been received.
    fn take_head(&mut self, now: Duration, data: &[u8]) -> Vec<Action> {
        self.head.extend_from_slice(data);
        let Some(end) = lua::find(&self.head, b"\r\n\r\n", 0) else {
            return vec![self.wait(now, PAUSE)];
        };
        let answer = std::mem::take(&mut self.head);
        let body = end.checked_add(4).and_then(|start| answer.get(start..));
        let status = lua::digits_after(&answer, b"HTTP/1.1 ");
        if status != Some(b"200") {
            return self.refusal(status, &answer);
        }
        let why = match lua::digits_after(&answer, b"Content-Length: ").map(lua::number) {
            Some(0) => Unusable::Empty,
            None => Unusable::NoLength,
            Some(length) => {
                self.image = body.unwrap_or_default().to_vec();
                let got = u64::try_from(self.image.len()).unwrap_or(u64::MAX);
                self.stage = Stage::Receiving { length, got };
                return vec![self.wait(now, STALL_LIMIT)];
            }
        };
        self.why = Some(why);
        self.stage = Stage::Pausing;
        self.failed_requests = self.failed_requests.saturating_add(1);
        vec![self.wait(now, PAUSE)]
    }

    /// Ends the attempt after an unusable head.
    fn end_unusable(&mut self, why: Unusable, how: &str) -> Vec<Action> {
        match why {
            Unusable::Empty => {
                self.finish(Outcome::NoUpdate(format!("{how}: Content-Length is 0")))
            }
            Unusable::NoLength => self.fail(Failure::GaveUp(format!(
                "{how}: no \"Content-Length: N\" in the head"
            ))),
        }
    }

    /// Handles any reply other than `HTTP/1.1 200`, which ends the session. Its `msg` is decoded
    /// for the log; a `msg` that the decoder cannot handle causes a script error.
    fn refusal(&mut self, status: Option<&[u8]>, data: &[u8]) -> Vec<Action> {
        let msg = lua::quoted(data, b"\"msg\":").filter(|msg| msg.len() <= 200);
        if let Some(msg) = msg
            && !is_only_escapes(msg)
        {
            return self.fail(Failure::ScriptError(format!(
                "msg is not only \\uXXXX: hexstobins returns nil for \"{}\", and iconv fails on nil",
                lua::excerpt(msg)
            )));
        }
        match status {
            Some(status) => {
                let status = String::from_utf8_lossy(status);
                let msg = msg.map_or(String::new(), |msg| format!(", msg {}", lua::excerpt(msg)));
                self.finish(Outcome::NoUpdate(format!("status {status}{msg}")))
            }
            None => self.fail(Failure::GaveUp(format!(
                "there is no \"HTTP/1.1 <status>\" in the answer: \"{}\"",
                lua::excerpt(data)
            ))),
        }
    }

    /// Handles every recv after the first of the body: only here the client checks for the end.
    fn take_body(&mut self, now: Duration, length: u64, got: u64, data: &[u8]) -> Vec<Action> {
        if got > length {
            // The sizes can never become equal again. The time-out that has started continues.
            return Vec::new();
        }
        self.image.extend_from_slice(data);
        let got = got.saturating_add(u64::try_from(data.len()).unwrap_or(u64::MAX));
        if got != length {
            self.stage = Stage::Receiving { length, got };
            return vec![self.wait(now, STALL_LIMIT)];
        }
        let image = std::mem::take(&mut self.image);
        if lua::is_text(&image) {
            let why = format!("the file is text: \"{}\"", lua::excerpt(&image));
            return self.fail(Failure::FlashedGarbage(image, why));
        }
        self.finish(Outcome::Updated(image))
    }

    /// Returns what the client waits for in a download.
    fn awaited(length: u64, got: u64) -> String {
        if got == length {
            format!(
                "a second recv (all {length} bytes came with the head, where it does not check for \
                 the end)"
            )
        } else if got > length {
            format!("exactly {length} bytes, but got {got}")
        } else {
            format!("{length} bytes, but got {got}")
        }
    }

    fn on_wake(&mut self, now: Duration) -> Vec<Action> {
        if self.deadline.is_none_or(|deadline| now < deadline) {
            return Vec::new();
        }
        let after = now.saturating_sub(self.begun);
        match self.stage {
            Stage::Pausing if self.failed_requests >= TRIES => {
                let why = self.why.unwrap_or(Unusable::NoLength);
                self.end_unusable(why, &format!("asked {TRIES} times"))
            }
            Stage::Pausing => self.connect(),
            Stage::Requested => {
                self.failed_requests = self.failed_requests.saturating_add(1);
                if self.failed_requests >= TRIES {
                    return self.fail(Failure::Hung {
                        after,
                        waiting_for: "an answer to its request".into(),
                    });
                }
                self.connect()
            }
            Stage::Receiving { length, got } => self.fail(Failure::Hung {
                after,
                waiting_for: UpdateHttp::awaited(length, got),
            }),
            Stage::Idle | Stage::Connecting | Stage::Over => Vec::new(),
        }
    }
}

impl Attempt for UpdateHttp {
    fn step(&mut self, now: Duration, event: Event<'_>) -> Vec<Action> {
        match (event, self.stage) {
            (Event::Start, Stage::Idle) => {
                self.begun = now;
                self.connect()
            }
            (Event::Connected, Stage::Connecting) => {
                self.failed_connects = 0;
                self.stage = Stage::Requested;
                vec![Action::Send(self.request.clone()), self.wait(now, PAUSE)]
            }
            (Event::ConnectFailed, Stage::Connecting) => {
                self.failed_connects = self.failed_connects.saturating_add(1);
                if self.failed_connects >= TRIES {
                    return self.fail(Failure::GaveUp(format!("could not connect, {TRIES} times")));
                }
                self.stage = Stage::Pausing;
                vec![self.wait(now, PAUSE)]
            }
            (Event::Received(data), Stage::Requested) => self.take_head(now, data),
            (Event::Received(data), Stage::Receiving { length, got }) => {
                self.take_body(now, length, got, data)
            }
            (Event::Closed | Event::Reset, Stage::Requested) => {
                self.fail(Failure::GaveUp(if self.head.is_empty() {
                    "the server closed the connection without an answer".into()
                } else {
                    "the server closed the connection before the blank line of its answer".into()
                }))
            }
            // After an unusable head the client does not retry.
            (Event::Closed | Event::Reset, Stage::Pausing) => match self.why {
                Some(why) => self.end_unusable(why, "the server closed the connection"),
                None => Vec::new(),
            },
            (Event::Closed | Event::Reset, Stage::Receiving { length, got }) => {
                self.fail(Failure::GaveUp(format!(
                    "the server closed the connection while it waited for {}",
                    UpdateHttp::awaited(length, got)
                )))
            }
            (Event::Wake, _) => self.on_wake(now),
            _ => Vec::new(),
        }
    }
}

/// Whether `msg` consists of `\uXXXX` only: then the rest without the `\u` is hexadecimal.
fn is_only_escapes(msg: &[u8]) -> bool {
    let mut escapes = msg.chunks_exact(6);
    escapes.by_ref().all(|escape| {
        escape
            .strip_prefix(br"\u")
            .is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit))
    }) && escapes.remainder().is_empty()
}

#[cfg(test)]
mod tests;
