//! State machine of the [client](Client): its action at each event, and its judgement of a reply by
//! the row of its core. Every decision here is a column of the table in docs/protocol.md 2c.
//! "Complete" is what the client assumes, which may be wrong; in that case the outcome says so.

use super::behaviour::{Busy, Cut, Empty, Refusal, Unmeasured};
use super::package::Package;
use super::reply::{self, Body, Chunks, Head};
use super::{Client, Ended, Want};
use crate::modems::{Action, Event};
use std::time::Duration;

/// Maximum number of requests: the first one and three for the rest.
const REQUESTS: u32 = 4;

/// Time that the newer cores wait for luat_fota_done.
const BUSY_LIMIT: Duration = Duration::from_secs(12);

/// State of the client.
#[derive(Debug)]
pub(super) enum State {
    Idle,
    Connecting,
    Head,
    Body(Receiving),
    /// Waits for the time-out only, and then ends in this way.
    Stalled(Stall),
    Over,
}

/// A body that is being received.
#[derive(Debug)]
pub(super) struct Receiving {
    status: u16,
    /// Number of bytes received before this reply.
    from: usize,
    body: Body,
    /// Whether the client can tell where the body ends.
    measured: bool,
    complete: bool,
}

#[derive(Debug)]
pub(super) enum Stall {
    /// Never reports.
    Never(String),
    /// Reports -9 when the time-out fires.
    UntilTimeout(String),
    /// Reports -9 after the short wait for luat_fota_done.
    UntilBusyLimit(String),
}

type ClientStep = (Vec<Action>, Option<Ended>);

impl Client {
    /// Handles one event. Returns the actions, without [`Action::Finish`], and the result at the
    /// end.
    pub(in crate::modems) fn advance(&mut self, now: Duration, event: Event<'_>) -> ClientStep {
        match event {
            Event::Start => match self.state {
                State::Idle => {
                    self.started = now;
                    (self.connect(now, true), None)
                }
                _ => ClientStep::default(),
            },
            Event::Connected => match self.state {
                State::Connecting => {
                    self.state = State::Head;
                    self.head.clear();
                    (self.request(), None)
                }
                _ => ClientStep::default(),
            },
            Event::ConnectFailed => match self.state {
                State::Connecting => self.fail(-4, "the connection could not be made"),
                _ => ClientStep::default(),
            },
            Event::Received(bytes) => match self.state {
                State::Head => self.take_head(now, bytes),
                State::Body(_) => self.take_body(now, bytes),
                _ => ClientStep::default(),
            },
            Event::Closed => self.on_close(now, false),
            Event::Reset => self.on_close(now, true),
            Event::Wake => self.on_wake(now),
        }
    }

    /// Opens a connection, and restarts the time-out if `restart_timeout`.
    fn connect(&mut self, now: Duration, restart_timeout: bool) -> Vec<Action> {
        self.state = State::Connecting;
        self.requests = self.requests.saturating_add(1);
        let mut actions = vec![Action::Connect {
            datagrams: false,
            host: self.server.host.clone(),
            port: self.server.port,
        }];
        if restart_timeout {
            self.deadline = now.saturating_add(self.total);
            actions.push(Action::WakeAt(Some(self.deadline)));
        }
        actions
    }

    fn take_head(&mut self, now: Duration, bytes: &[u8]) -> ClientStep {
        if self.behaviour.overwrites_head && !self.head.is_empty() {
            if !bytes.starts_with(b"HTTP/") {
                return self.fail(-6, "the second segment of the headers overwrote the first");
            }
            self.head.clear();
        }
        self.head.extend_from_slice(bytes);
        let end = reply::end_of_head(&self.head);
        if end.unwrap_or(self.head.len()) > self.header_limit {
            let why = format!("the headers are longer than {} bytes", self.header_limit);
            return self.fail(-6, &why);
        }
        let Some((block, rest)) = end.and_then(|end| self.head.split_at_checked(end)) else {
            return ClientStep::default();
        };
        let (read, rest) = (reply::read_head(block), rest.to_vec());
        self.head = Vec::new();
        match read {
            Ok(head) => self.begin_body(now, &head, &rest),
            Err(why) => self.fail(-6, &why),
        }
    }

    fn begin_body(&mut self, now: Duration, head: &Head, rest: &[u8]) -> ClientStep {
        let status = head.status;
        self.head_seen = true;
        let redirect = matches!(status, 301..=303 | 307 | 308);
        self.refused = !self.is_good(status) && !redirect;
        let bare = status < 200 || status == 204 || status == 304;
        let length = head
            .length
            .filter(|_| head.has_space || !self.behaviour.needs_space);
        let (body, measured) = if bare {
            (Body::Counted(0), true)
        } else if head.chunked {
            (
                Body::Chunked(Chunks::default()),
                self.behaviour.knows_chunks,
            )
        } else {
            (length.map_or(Body::Rest, Body::Counted), length.is_some())
        };
        if !self.is_good(status) {
            match self.behaviour.refusal {
                Refusal::AtHead => return self.refuse(status, None),
                Refusal::NotReported if length.is_some() => {
                    return self.stall(
                        now,
                        Stall::Never(format!(
                            "its callback: this core never reports a status {status} that has a \
                             Content-Length"
                        )),
                    );
                }
                _ => {}
            }
        } else if self.requests > 1 && !self.received.is_empty() {
            // The client does not check this. If the parts do not fit, the result is no firmware.
            let had = u64::try_from(self.received.len()).unwrap_or(u64::MAX);
            if status == 200 {
                self.flaw = Some(format!(
                    "asked for the rest from byte {had}, was sent the whole file and appended it: Range \
                     was ignored"
                ));
            } else if head.range_start.is_some_and(|start| start != had) {
                self.flaw = Some(format!(
                    "asked for the rest from byte {had}, was sent another part and appended it"
                ));
            }
        }
        self.state = State::Body(Receiving {
            status,
            from: self.received.len(),
            body,
            measured,
            complete: false,
        });
        self.take_body(now, rest)
    }

    fn take_body(&mut self, now: Duration, bytes: &[u8]) -> ClientStep {
        let State::Body(Receiving { status, .. }) = self.state else {
            return ClientStep::default();
        };
        let good = self.is_good(status);
        let State::Body(receiving) = &mut self.state else {
            return ClientStep::default();
        };
        let before = self.received.len();
        let from = receiving.from;
        let mut dropped = Vec::new();
        let into = if good || self.behaviour.refusal == Refusal::WithBody {
            &mut self.received
        } else {
            &mut dropped
        };
        match receiving.body.feed(bytes, into) {
            Ok(complete) => receiving.complete = complete,
            Err(why) => return self.fail(-9, &why),
        }
        let (complete, measured) = (receiving.complete, receiving.measured);
        if !good {
            return if complete && measured && self.behaviour.refusal == Refusal::WithBody {
                let words = self.received.len().saturating_sub(from);
                self.refuse(status, Some(words))
            } else {
                ClientStep::default()
            };
        }
        if self.want == Want::Firmware
            && let Some(why) = self.package.rejection(&self.received)
        {
            return self.fail(-9, &why);
        }
        if measured {
            if complete && !self.behaviour.needs_close {
                return self.accept(now);
            }
        } else if self.behaviour.unmeasured == Unmeasured::FirstSegment
            && self.received.len() > before
        {
            if self.want != Want::Text && !Package::is_whole(&self.received) {
                self.flaw = Some(
                    "took the first segment of the body for the whole body: it found no valid \
                     length"
                        .to_owned(),
                );
            }
            return self.accept(now);
        }
        ClientStep::default()
    }

    fn on_close(&mut self, now: Duration, reset: bool) -> ClientStep {
        let receiving = match &self.state {
            State::Connecting => return self.fail(-4, "the connection could not be made"),
            State::Head => return self.on_cut(now, "closed before the end of the headers"),
            State::Body(receiving) => receiving,
            State::Idle | State::Stalled(_) | State::Over => return ClientStep::default(),
        };
        let Receiving {
            status,
            measured,
            complete,
            ..
        } = *receiving;
        if !self.is_good(status) {
            match self.behaviour.refusal {
                Refusal::AtClose | Refusal::AtCloseOnly => return self.refuse(status, None),
                Refusal::NotReported => {
                    return self.fail(-5, &format!("status {status} without a length, closed"));
                }
                Refusal::WithBody | Refusal::AtHead => {}
            }
        } else if measured && complete {
            return self.accept(now);
        } else if !measured && !reset {
            match self.behaviour.unmeasured {
                Unmeasured::Complete => return self.accept(now),
                Unmeasured::FirstSegment => {
                    self.refused = true;
                    return self.fail(-9, "0 bytes");
                }
                Unmeasured::AsCut => {}
            }
        }
        let how = if measured {
            "closed before the end of the body"
        } else {
            "closed, and without a length the end is unknown"
        };
        self.on_cut(now, how)
    }

    /// Handles a reply that ended too early.
    fn on_cut(&mut self, now: Duration, how: &str) -> ClientStep {
        let in_body = matches!(self.state, State::Body(_));
        if in_body && self.want == Want::File && !self.refused {
            let had = self.received.len();
            self.flaw = Some(format!("{how}; reports 200 with {had} bytes"));
            return self.accept(now);
        }
        match self.behaviour.cut {
            Cut::Resume if self.head_seen && self.requests < REQUESTS => {
                (self.connect(now, false), None)
            }
            Cut::Resume if self.head_seen => {
                self.fail(-5, &format!("{how}, {REQUESTS} requests long"))
            }
            Cut::Claims200 if in_body => {
                let had = self.received.len();
                self.flaw = Some(format!("{how}; reports 200 with {had} bytes"));
                self.accept(now)
            }
            Cut::UntilTimeout if in_body && self.want == Want::Firmware => {
                let had = self.received.len();
                self.stall(
                    now,
                    Stall::UntilTimeout(format!("the rest of the body ({how}, {had} bytes)")),
                )
            }
            _ => self.fail(-5, how),
        }
    }

    fn on_wake(&mut self, now: Duration) -> ClientStep {
        if matches!(self.state, State::Idle | State::Over) {
            return ClientStep::default();
        }
        if now < self.deadline {
            return (vec![Action::WakeAt(Some(self.deadline))], None);
        }
        let after = now.saturating_sub(self.started);
        let why = match &self.state {
            State::Stalled(Stall::Never(why)) => {
                let why = why.clone();
                return self.end(Ended::Never { after, why });
            }
            State::Stalled(Stall::UntilTimeout(why)) => {
                let why = why.clone();
                return self.hang(-9, &why, after);
            }
            State::Stalled(Stall::UntilBusyLimit(why)) => {
                let why = why.clone();
                return self.fail(-9, &why);
            }
            State::Connecting => "the connection",
            State::Head => "the end of the headers",
            State::Body(receiving) => {
                let status = receiving.status;
                if !self.is_good(status) {
                    let why = format!("status {status}, and the server does not close");
                    match self.behaviour.refusal {
                        Refusal::AtCloseOnly => return self.end(Ended::Never { after, why }),
                        Refusal::AtClose => return self.hang(-9, &why, after),
                        Refusal::WithBody | Refusal::NotReported | Refusal::AtHead => {}
                    }
                    "the server's close after its refusal"
                } else if receiving.measured && receiving.complete {
                    "the server's close after the last byte"
                } else {
                    "the rest of the body"
                }
            }
            State::Idle | State::Over => return ClientStep::default(),
        };
        if self.behaviour.cut == Cut::Resume && self.head_seen && self.requests < REQUESTS {
            return (self.connect(now, true), None);
        }
        self.hang(-8, why, after)
    }

    fn is_good(&self, status: u16) -> bool {
        match self.want {
            Want::Text => true,
            Want::File => (200..300).contains(&status),
            Want::Firmware => status == 200 || status == 206,
        }
    }

    /// Handles a body that the client assumes to be complete.
    fn accept(&mut self, now: Duration) -> ClientStep {
        let State::Body(Receiving { status, .. }) = self.state else {
            return ClientStep::default();
        };
        let mut flaw = self.flaw.take();
        if self.want != Want::Text && self.received.is_empty() {
            self.refused = true;
            let why = format!("status {status} with 0 bytes");
            return match self.behaviour.empty {
                Empty::Code(code) => self.fail(code, &why),
                Empty::UntilTimeout => self.stall(now, Stall::UntilTimeout(why)),
            };
        }
        if self.want == Want::Firmware {
            if self.package.is_too_short(&self.received) {
                return self.fail(-9, "the body is too short for a package");
            }
            if let Some(promised) = self.package.promised_if_short(&self.received) {
                let had = self.received.len();
                let why = format!(
                    "luat_fota_done, busy: the package has {had} bytes, its header says {promised}"
                );
                return match self.behaviour.busy {
                    Busy::Spins => self.stall(now, Stall::Never(why)),
                    Busy::TwelveSeconds => {
                        self.deadline = now.saturating_add(BUSY_LIMIT);
                        self.stall(now, Stall::UntilBusyLimit(why))
                    }
                    Busy::UntilTimeout => self.stall(now, Stall::UntilTimeout(why)),
                };
            }
        }
        if self.want != Want::Text && flaw.is_none() && is_markup(&self.received) {
            flaw = Some("took a text reply (JSON or HTML) for firmware".to_owned());
        }
        let bytes = std::mem::take(&mut self.received);
        self.end(Ended::Received {
            status,
            bytes,
            flaw,
        })
    }

    /// Ends with -9 for a status other than 200 and 206; the script gets `words` bytes of the body.
    fn refuse(&mut self, status: u16, words: Option<usize>) -> ClientStep {
        let why = match (status / 100, words) {
            (3, _) => format!("status {status}, and this client follows no redirect"),
            (_, Some(words)) => format!("status {status}, its body of {words} bytes given to Lua"),
            (_, None) => format!("status {status}, its body dropped"),
        };
        self.end(Ended::Failed {
            code: -9,
            why,
            refused: self.refused,
            hung: None,
        })
    }

    fn fail(&mut self, code: i32, why: &str) -> ClientStep {
        self.end(Ended::Failed {
            code,
            why: why.to_owned(),
            refused: self.refused,
            hung: None,
        })
    }

    fn hang(&mut self, code: i32, why: &str, after: Duration) -> ClientStep {
        self.end(Ended::Failed {
            code,
            why: why.to_owned(),
            refused: self.refused,
            hung: Some(after),
        })
    }

    fn stall(&mut self, now: Duration, stall: Stall) -> ClientStep {
        self.state = State::Stalled(stall);
        let until = self.deadline.max(now);
        (vec![Action::WakeAt(Some(until))], None)
    }

    fn end(&mut self, ended: Ended) -> ClientStep {
        self.state = State::Over;
        (vec![Action::Close], Some(ended))
    }
}

/// Whether the bytes are JSON or HTML, judged by the first character. No firmware begins with it.
fn is_markup(bytes: &[u8]) -> bool {
    matches!(bytes.trim_ascii_start().first(), Some(b'{' | b'<'))
}
