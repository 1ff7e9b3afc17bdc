//! The C HTTP client of LuatOS in fota mode (LOS components/network/libhttp/luat_http_client.c):
//! one state machine with a row of behaviours for each commit date (docs/protocol.md 1h and 2c).
//! libfota, libfota2 and libfota3 use it. Its package check follows SOC23
//! interface/src/luat_fota_ec7xx.c.
//!
//! The time-out counts from the start, not since the last byte. The rule for the end of a body
//! differs in almost every row, so a cut can be taken for a success.
//!
//! Where docs/protocol.md says nothing, the emulation follows the nearest statement: a reply that
//! ends before its head is complete is -5; a refusal without a length ends as a 200 without a
//! length does; a length that a core does not understand counts as missing.

mod behaviour;
mod machine;
mod package;
mod reply;

pub use self::behaviour::Core;
pub use self::package::Package;

use self::behaviour::Behaviour;
use self::machine::State;
use super::{Action, Attempt, Endpoint, Event, Failure, Outcome};
use std::time::Duration;

/// Maximum size of the header block on most platforms, in bytes.
const HEADERS: usize = 8191;

/// Maximum size of the header block on Air101 and Air103, in bytes.
const HEADERS_SMALL: usize = 2047;

/// Use of the body that the script requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    /// Fota mode: the body is firmware, and any status other than 200 and 206 is -9.
    Firmware,
    /// Dst mode, on platforms without `fota`: the body is written to a file, and any status above
    /// 299 deletes the file. A body that is cut short is reported as 200 immediately
    /// (docs/protocol.md 2c, 9d).
    File,
    /// The body is passed to the script, whatever the status.
    Text,
}

/// Result of a request of the client.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// The client reports the server's status and has the body.
    Received {
        /// Status of the reply: 200 or 206; any status for [`Want::Text`].
        status: u16,
        /// Body as the client received it.
        bytes: Vec<u8>,
        /// Reason why the body cannot be what the server meant to send, if there is one.
        flaw: Option<String>,
    },
    /// The client reports a negative code.
    Failed {
        /// -4 connect, -5 closed early, -6 headers, -8 time-out, -9 everything else.
        code: i32,
        /// Description of what happened.
        why: String,
        /// Whether the reply had no firmware: a status other than 200, 206 and the redirects, or an
        /// empty body. The module takes no update and continues.
        refused: bool,
        /// Time since the start, if the time-out caused the report.
        hung: Option<Duration>,
    },
    /// The client never reports a result to the script.
    Never {
        /// Time since the start at which the emulation stops.
        after: Duration,
        /// Description of what the client waits for.
        why: String,
    },
}

impl Ended {
    /// Converts the result to an outcome of fota mode. `named` gives the script's name of a code
    /// (`result 4 (code -9)`).
    pub(super) fn outcome(self, named: impl Fn(i32) -> String) -> Outcome {
        match self {
            Ended::Received {
                bytes,
                flaw: Some(flaw),
                ..
            } => Outcome::Failed(Failure::FlashedGarbage(bytes, flaw)),
            Ended::Received { bytes, .. } => Outcome::Updated(bytes),
            Ended::Failed {
                code,
                why,
                hung: Some(after),
                refused: true,
            } => Outcome::NoUpdate(format!(
                "{} after {} s: {why}",
                named(code),
                after.as_secs()
            )),
            Ended::Failed {
                code,
                why,
                hung: Some(after),
                ..
            } => Outcome::Failed(Failure::Hung {
                after,
                waiting_for: format!("{why}: {}", named(code)),
            }),
            Ended::Failed {
                code,
                why,
                refused: true,
                ..
            } => Outcome::NoUpdate(format!("{}: {why}", named(code))),
            Ended::Failed { code, why, .. } => {
                Outcome::Failed(Failure::GaveUp(format!("{}: {why}", named(code))))
            }
            Ended::Never { after, why } => Outcome::Failed(Failure::Hung {
                after,
                waiting_for: why,
            }),
        }
    }
}

/// One `http.request` of a script. As an [`Attempt`], it is a script that makes the request in fota
/// mode without a library, and sees the codes themselves.
#[derive(Debug)]
pub struct Client {
    behaviour: Behaviour,
    server: Endpoint,
    method: &'static str,
    lines: Vec<String>,
    payload: Vec<u8>,
    want: Want,
    package: Package,
    header_limit: usize,
    total: Duration,
    started: Duration,
    deadline: Duration,
    state: State,
    head: Vec<u8>,
    requests: u32,
    head_seen: bool,
    /// Whether the reply has no firmware: see [`Ended::Failed`].
    refused: bool,
    received: Vec<u8>,
    flaw: Option<String>,
}

impl Client {
    /// Creates a GET of the server's path (including the query, sent verbatim) for firmware,
    /// without a package check, with the core's own time-out.
    pub fn new(core: Core, server: Endpoint) -> Client {
        Client {
            behaviour: core.behaviour(),
            server,
            method: "GET",
            lines: Vec::new(),
            payload: Vec::new(),
            want: Want::Firmware,
            package: Package::Unchecked,
            header_limit: HEADERS,
            total: core.timeout(),
            started: Duration::ZERO,
            deadline: Duration::ZERO,
            state: State::Idle,
            head: Vec::new(),
            requests: 0,
            head_seen: false,
            refused: false,
            received: Vec::new(),
            flaw: None,
        }
    }

    /// Sets the platform whose package check is done.
    #[must_use]
    pub fn checking(mut self, package: Package) -> Client {
        self.package = package;
        self
    }

    /// Sets the platform's limit on headers: 2047 bytes on Air101 and Air103, otherwise 8191.
    #[must_use]
    pub fn on_platform(mut self, bsp: &str) -> Client {
        let bsp = bsp.to_ascii_uppercase();
        let small = bsp.starts_with("AIR101") || bsp.starts_with("AIR103");
        self.header_limit = if small { HEADERS_SMALL } else { HEADERS };
        self
    }

    /// Sets the time-out that the script gives, counted from the start.
    #[must_use]
    pub fn within(mut self, total: Duration) -> Client {
        self.total = total;
        self
    }

    /// Selects dst mode, as on a platform without `fota`.
    #[must_use]
    pub fn into_file(mut self) -> Client {
        self.want = Want::File;
        self
    }

    /// Requests text for the script instead of firmware.
    pub(super) fn for_text(mut self) -> Client {
        self.want = Want::Text;
        self
    }

    /// Makes the request a POST with a body and its content type.
    pub(super) fn posting(mut self, kind: &str, payload: Vec<u8>) -> Client {
        self.method = "POST";
        self.lines = vec![
            format!("Content-Type: {kind}\r\n"),
            format!("Content-Length: {}\r\n", payload.len()),
        ];
        self.payload = payload;
        self
    }

    /// Returns the sends of http_send_message: one for each line.
    fn request(&self) -> Vec<Action> {
        let Endpoint { host, port, path } = &self.server;
        let path = if path.is_empty() { "/" } else { path };
        let mut lines = vec![format!("{} {path} HTTP/1.1\r\n", self.method)];
        if self.behaviour.sends_close {
            lines.push("Connection: Close\r\n".to_owned());
        }
        lines.push(if self.behaviour.port_in_host {
            format!("Host: {host}:{port}\r\n")
        } else {
            format!("Host: {host}\r\n")
        });
        if self.requests > 1 {
            lines.push(format!("Range: bytes={}-\r\n", self.received.len()));
        }
        lines.extend(self.lines.iter().cloned());
        lines.push("\r\n".to_owned());
        let mut sends: Vec<Action> = lines
            .into_iter()
            .map(|line| Action::Send(line.into_bytes()))
            .collect();
        if !self.payload.is_empty() {
            sends.push(Action::Send(self.payload.clone()));
        }
        sends
    }
}

impl Attempt for Client {
    fn step(&mut self, now: Duration, event: Event<'_>) -> Vec<Action> {
        let (mut actions, ended) = self.advance(now, event);
        actions.extend(
            ended.map(|ended| Action::Finish(ended.outcome(|code| format!("code {code}")))),
        );
        actions
    }
}

#[cfg(test)]
pub(super) mod tests;
