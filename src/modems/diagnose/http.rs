//! Flaws of one HTTP reply, found in its raw bytes. This parser is independent of all others: it
//! assumes nothing about the server, and keeps names and spaces as received.

use super::Flaw;
use crate::modems::driver::{End, Exchange};
use crate::modems::lua;

/// Headers whose names modules compare in exact case.
const NAMES: [&str; 3] = ["Content-Length", "Content-Range", "Location"];

/// Bytes of head that fit into one segment together with the start of the body, on every network.
const SAFE_HEAD: usize = 1400;

/// Returns the flaws of a reply, the worst first.
pub fn flaws(exchange: &Exchange) -> Vec<Flaw> {
    if let End::NotConnected(why) = &exchange.end {
        return vec![Flaw::NotReached(why.clone())];
    }
    if exchange.received == 0 {
        return vec![match exchange.end {
            End::Open => Flaw::Silent,
            _ => Flaw::ClosedSilently,
        }];
    }
    let Some((head, body)) = exchange.http() else {
        let http = exchange.reply.starts_with(b"HTTP/");
        return vec![if http && exchange.end == End::Open {
            Flaw::Silent
        } else if http {
            Flaw::HeadLong(exchange.reply.len())
        } else {
            Flaw::NotHttp
        }];
    };
    Reply::read(exchange, head, body).flaws()
}

/// One line of a head, as received.
struct Line<'r> {
    name: &'r str,
    /// Text after the colon, with its spaces.
    rest: &'r str,
}

impl Line<'_> {
    fn is_named(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }
}

struct Reply<'r> {
    exchange: &'r Exchange,
    first_line: String,
    status: u16,
    head: &'r [u8],
    lines: Vec<Line<'r>>,
    body: &'r [u8],
    /// Number of body bytes that were received.
    got: u64,
}

impl<'r> Reply<'r> {
    fn read(exchange: &'r Exchange, head: &'r [u8], body: &'r [u8]) -> Reply<'r> {
        let text = std::str::from_utf8(head).unwrap_or_default();
        let mut lines = text.split("\r\n");
        let first_line = lines.next().unwrap_or_default().to_owned();
        let head_bytes = u64::try_from(head.len()).unwrap_or(u64::MAX);
        Reply {
            exchange,
            first_line,
            status: exchange.status().unwrap_or_default(),
            head,
            lines: lines
                .filter_map(|line| line.split_once(':'))
                .map(|(name, rest)| Line { name, rest })
                .collect(),
            body,
            got: exchange.received.saturating_sub(head_bytes),
        }
    }

    fn value(&self, name: &str) -> Option<&str> {
        let line = self.lines.iter().find(|line| line.is_named(name))?;
        Some(line.rest.trim())
    }

    fn length(&self) -> Option<u64> {
        self.value("Content-Length")?.parse().ok()
    }

    fn is_chunked(&self) -> bool {
        self.value("Transfer-Encoding")
            .is_some_and(|value| value.to_ascii_lowercase().contains("chunked"))
    }

    /// Returns N of `Range: bytes=N-` in the request.
    fn requested_start(&self) -> Option<u64> {
        let digits = lua::digits_after(&self.exchange.request, b"Range: bytes=")?;
        Some(lua::number(digits))
    }

    fn flaws(&self) -> Vec<Flaw> {
        let mut found = Vec::new();
        let file = matches!(self.status, 200 | 206);
        if self.status == 400 || self.status >= 500 {
            found.push(Flaw::Error(self.status));
        }
        self.head_flaws(&mut found);
        if file {
            self.file_flaws(&mut found);
        } else {
            self.refusal_flaws(&mut found);
        }
        if self.exchange.end == End::Open && self.is_complete() {
            found.push(Flaw::NotClosed);
        }
        found
    }

    fn is_complete(&self) -> bool {
        match self.length() {
            Some(length) => self.got >= length,
            None => !self.is_chunked() || self.exchange.reply.ends_with(b"0\r\n\r\n"),
        }
    }

    fn head_flaws(&self, found: &mut Vec<Flaw>) {
        if self.first_line.starts_with("HTTP/1.0") {
            found.push(Flaw::Http10);
        }
        // All clients can parse `HTTP/1.1 200 ` with nothing after the space.
        if self.first_line.split(' ').nth(2).is_none() {
            found.push(Flaw::NoReason(self.status));
        }
        for line in &self.lines {
            if line.rest.trim().is_empty() {
                found.push(Flaw::EmptyValue(line.name.to_owned()));
            }
            let Some(expected) = NAMES.iter().find(|name| line.is_named(name)) else {
                continue;
            };
            if line.name != *expected {
                found.push(Flaw::NameCase(line.name.to_owned(), expected));
            } else if !line.rest.starts_with(' ') || line.rest.starts_with("  ") {
                found.push(Flaw::Spaces(expected));
            }
        }
        if self.exchange.first < self.head.len() {
            found.push(Flaw::HeadSplit);
        }
        if self.head.len() > SAFE_HEAD {
            found.push(Flaw::HeadLong(self.head.len()));
        }
    }

    fn file_flaws(&self, found: &mut Vec<Flaw>) {
        let length = self.length();
        if length == Some(0) || (self.got == 0 && self.exchange.end == End::Closed) {
            found.insert(0, Flaw::EmptyBody);
        } else if lua::is_text(self.body) && !self.is_chunked() {
            found.insert(0, Flaw::TextBody(lua::excerpt(self.body)));
        }
        if self.is_chunked() {
            found.push(Flaw::Chunked);
        } else if length.is_none() {
            found.push(Flaw::NoLength);
        }
        if self
            .value("Content-Encoding")
            .is_some_and(|way| way != "identity")
        {
            found.push(Flaw::Encoded);
        }
        if let Some(length) = length
            && self.got < length
            && matches!(self.exchange.end, End::Closed | End::Reset)
        {
            found.push(Flaw::CutShort(self.got, length));
        }
        if let Some(from) = self.requested_start().filter(|&from| from > 0) {
            if self.status == 200 {
                found.insert(0, Flaw::RangeIgnored(from));
            } else if self.starts_at() != Some(from) {
                found.insert(0, Flaw::RangeWrong(from));
            }
        }
        let whole = length.is_some_and(|length| length == self.got && length > 0);
        if whole && self.exchange.recvs == 1 {
            found.push(Flaw::OneRecv);
        }
    }

    /// Returns N of `Content-Range: bytes N-`.
    fn starts_at(&self) -> Option<u64> {
        let range = self.value("Content-Range")?.strip_prefix("bytes ")?;
        range.split('-').next()?.parse().ok()
    }

    fn refusal_flaws(&self, found: &mut Vec<Flaw>) {
        if (300..400).contains(&self.status) {
            let asked = contains(&self.exchange.request, b"need_oss_url=1");
            if !asked {
                found.insert(0, Flaw::Redirect(self.status));
            }
            let absolute = |to: &str| to.starts_with("http://") || to.starts_with("https://");
            if !self.value("Location").is_some_and(absolute) {
                found.push(Flaw::Location);
            }
        }
        if lua::number_value(self.body, b"\"code\":") == Some(43) {
            found.push(Flaw::Code43);
        }
        let only_escapes = |msg: &[u8]| {
            msg.len().is_multiple_of(6)
                && msg.chunks(6).all(|unit| {
                    unit.strip_prefix(b"\\u")
                        .is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit))
                })
        };
        if lua::quoted(self.body, b"\"msg\":").is_some_and(|msg| !only_escapes(msg)) {
            found.push(Flaw::Message);
        }
    }
}

fn contains(text: &[u8], needle: &[u8]) -> bool {
    lua::find(text, needle, 0).is_some()
}
