//! The C http client of LuatOS in fota mode (LOS components/network/libhttp/luat_http_client.c), one
//! machine with a row of behaviours for each commit date: docs/protocol.md 1h and 2c. What libfota,
//! libfota2 and libfota3 stand on. The package check behind it is SOC23
//! interface/src/luat_fota_ec7xx.c.
//!
//! Its timeout counts from the very start, not since the last byte; and whether a body
//! is complete is decided differently in almost every row, so a cut can pass for a success.
//!
//! Where docs/protocol.md is silent this follows the nearest thing it says: an answer that ends before its
//! head is whole is -5; a refusal without a length ends as a 200 without a length does; a length that
//! a core does not understand is no length.

mod machine;
mod manners;
mod package;
mod reply;

pub use self::manners::Core;
pub use self::package::Package;

use self::machine::State;
use self::manners::Manners;
use super::{Action, Attempt, Endpoint, Event, Failure, Outcome};
use std::time::Duration;

/// Header block of most platforms, bytes.
const HEADERS: usize = 8191;

/// Header block of Air101 and Air103, bytes.
const HEADERS_SMALL: usize = 2047;

/// What the script wants of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    /// Fota mode: the body is a firmware, any status but 200 and 206 is -9.
    Firmware,
    /// Dst mode, on platforms without `fota`: the body goes into a file, any status over 299 deletes it.
    /// A body that is cut short is reported as 200 at once (docs/protocol.md 2c, 9d).
    File,
    /// The body goes to the script, whatever the status.
    Words,
}

/// How a request of the client ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// The client reports the server's status and has these bytes; why they are no firmware, if so.
    Took {
        /// 200 or 206; any for [`Want::Words`].
        status: u16,
        /// The body as the client has it.
        bytes: Vec<u8>,
        /// Why this cannot be what the server meant to send.
        doubt: Option<String>,
    },
    /// The client reports a code below zero.
    Failed {
        /// -4 connect, -5 closed early, -6 headers, -8 timeout, -9 all else.
        code: i32,
        /// What happened.
        why: String,
        /// The answer held no firmware: a status other than 200, 206 and the redirects, or no bytes. The
        /// module takes no update and carries on.
        refused: bool,
        /// Since the start, when the timeout brought it to light.
        hung: Option<Duration>,
    },
    /// The script never hears of it.
    Never {
        /// Since the start; here the emulation stops.
        after: Duration,
        /// What it waits for.
        why: String,
    },
}

impl Ended {
    /// As an outcome of fota mode; `named` says how the script sees a code (`result 4 (code -9)`).
    pub(super) fn outcome(self, named: impl Fn(i32) -> String) -> Outcome {
        match self {
            Ended::Took {
                bytes,
                doubt: Some(doubt),
                ..
            } => Outcome::Failed(Failure::FlashedGarbage(bytes, doubt)),
            Ended::Took { bytes, .. } => Outcome::Updated(bytes),
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

/// One `http.request` of a script. As an [`Attempt`] of its own: a script that calls it in fota mode
/// without any library, and sees the bare codes.
#[derive(Debug)]
pub struct Client {
    manners: Manners,
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
    /// The answer holds no firmware: see [`Ended::Failed`].
    refused: bool,
    received: Vec<u8>,
    doubt: Option<String>,
}

impl Client {
    /// A GET of the server's path (which holds the query, as it is sent) for a firmware, without a
    /// package check, with the core's own timeout.
    pub fn new(core: Core, server: Endpoint) -> Client {
        Client {
            manners: core.manners(),
            server,
            method: "GET",
            lines: Vec::new(),
            payload: Vec::new(),
            want: Want::Firmware,
            package: Package::Unchecked,
            header_limit: HEADERS,
            total: core.patience(),
            started: Duration::ZERO,
            deadline: Duration::ZERO,
            state: State::Idle,
            head: Vec::new(),
            requests: 0,
            head_seen: false,
            refused: false,
            received: Vec::new(),
            doubt: None,
        }
    }

    /// Checks the package as this platform does.
    #[must_use]
    pub fn checking(mut self, package: Package) -> Client {
        self.package = package;
        self
    }

    /// With the platform's limit on headers: 2047 bytes on Air101 and Air103, else 8191.
    #[must_use]
    pub fn on_platform(mut self, bsp: &str) -> Client {
        let bsp = bsp.to_ascii_uppercase();
        let small = bsp.starts_with("AIR101") || bsp.starts_with("AIR103");
        self.header_limit = if small { HEADERS_SMALL } else { HEADERS };
        self
    }

    /// With the timeout that the script names; it counts from the start.
    #[must_use]
    pub fn within(mut self, total: Duration) -> Client {
        self.total = total;
        self
    }

    /// In dst mode, on a platform without `fota`.
    #[must_use]
    pub fn into_file(mut self) -> Client {
        self.want = Want::File;
        self
    }

    /// For words instead of a firmware.
    pub(super) fn for_words(mut self) -> Client {
        self.want = Want::Words;
        self
    }

    /// As a POST with a body and its type.
    pub(super) fn posting(mut self, kind: &str, payload: Vec<u8>) -> Client {
        self.method = "POST";
        self.lines = vec![
            format!("Content-Type: {kind}\r\n"),
            format!("Content-Length: {}\r\n", payload.len()),
        ];
        self.payload = payload;
        self
    }

    /// http_send_message: every line is a send of its own.
    fn request(&self) -> Vec<Action> {
        let Endpoint { host, port, path } = &self.server;
        let path = if path.is_empty() { "/" } else { path };
        let mut lines = vec![format!("{} {path} HTTP/1.1\r\n", self.method)];
        if self.manners.says_close {
            lines.push("Connection: Close\r\n".to_owned());
        }
        lines.push(if self.manners.port_in_host {
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
