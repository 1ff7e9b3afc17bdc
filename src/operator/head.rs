//! From bytes to a request: our own strict reading of the head, then async-h1's decoder on a copy of it
//! that holds nothing which makes that decoder wait, start threads or trust a length (docs/hazards.md 1).
//! Used by [`super::plane`]; this is what the fuzz target feeds.
//!
//! The surprise: the decoder never sees the socket. It reads from memory, a head alone, written anew
//! line by line, always HTTP/1.1, without a body and without every header that speaks of one.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use http_types::{Method, Request};
use smol::io::{AsyncRead, AsyncWrite};

use super::access::Bearing;
use super::target::Target;
use crate::wire::head::{self, BadHead, HeadLimits, Progress};

/// Bytes of a head, at most: what async-h1 takes is one byte less than 8 KiB.
pub const LONGEST: usize = 8 * 1024 - 1;

/// Header lines, at most; async-h1 has room for 128.
const LINES: usize = 64;

/// What the decoder must not see, because it would act on it.
const KEPT_BACK: [&[u8]; 8] = [
    b"content-length",
    b"transfer-encoding",
    b"expect",
    b"trailer",
    b"te",
    b"upgrade",
    b"connection",
    b"content-encoding",
];

/// A request whose head was understood.
#[derive(Debug)]
pub struct Asked {
    /// Method and headers.
    pub request: Request,
    /// Where to.
    pub target: Target,
    /// It was HTTP/1.0.
    pub old: bool,
    /// Bytes of the body.
    pub length: Length,
    /// The client waits for our word before it sends the body.
    pub expects: bool,
}

/// What the head says of the body's length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// Nothing: there is no body.
    Missing,
    /// So many bytes.
    Bytes(u64),
}

/// Why there is no request in these bytes: a status, a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bad {
    /// 400, 405, 413, 417, 431, 501 or 505.
    pub status: u16,
    /// What is wrong.
    pub why: &'static str,
}

impl Bad {
    const fn new(status: u16, why: &'static str) -> Bad {
        Bad { status, why }
    }
}

/// What the bytes so far are.
#[derive(Debug)]
pub enum Found {
    /// Not complete yet.
    Partial,
    /// A request, and the bytes that its head has.
    Asked(Box<Asked>, usize),
    /// It will never be one.
    Bad(Bad),
}

/// Reads a head from the beginning of `bytes`. Only what is complete is looked at closely.
pub fn read(bytes: &[u8]) -> Found {
    let limits = HeadLimits {
        bytes: LONGEST,
        headers: LINES,
    };
    let (head, used) = match head::read(bytes, limits) {
        Progress::Partial => return Found::Partial,
        Progress::Complete(head, used) => (head, used),
        Progress::Bad(BadHead::Malformed) => {
            return Found::Bad(Bad::new(400, "this is no HTTP request"));
        }
        Progress::Bad(BadHead::TooLarge) => {
            return Found::Bad(Bad::new(431, "the head has more than 8 KiB or 64 lines"));
        }
        Progress::Bad(BadHead::Version) => {
            return Found::Bad(Bad::new(505, "only HTTP/1.0 and HTTP/1.1 are spoken here"));
        }
    };
    let raw = bytes.get(..used).unwrap_or_default();
    match asked(&head, raw) {
        Ok(asked) => Found::Asked(Box::new(asked), used),
        Err(bad) => Found::Bad(bad),
    }
}

fn asked(head: &head::Head<'_>, raw: &[u8]) -> Result<Asked, Bad> {
    strict(raw)?;
    if !matches!(head.method, b"GET" | b"HEAD" | b"PUT" | b"POST" | b"DELETE") {
        return Err(Bad::new(
            405,
            "GET, HEAD, PUT, POST and DELETE are all there is",
        ));
    }
    // The bytes are ASCII.
    let text = str::from_utf8(head.target).unwrap_or_default();
    let target = Target::parse(text).map_err(|why| Bad::new(400, why))?;
    let length = length(head)?;
    let expects = expects(head)?;
    let request = decode(head).ok_or(Bad::new(400, "the head cannot be read"))?;
    // What is routed and authorised is `target`: a decoder that came to another path would mean that
    // one of us is wrong.
    let path = text.split('?').next().unwrap_or_default();
    if request.url().path() != path {
        return Err(Bad::new(400, "the path can be read in two ways"));
    }
    Ok(Asked {
        request,
        target,
        old: head.minor == 0,
        length,
        expects,
    })
}

/// ASCII alone, every line ended by CRLF.
fn strict(raw: &[u8]) -> Result<(), Bad> {
    if !raw.is_ascii() {
        return Err(Bad::new(400, "the head has a byte that is not ASCII"));
    }
    let mut before = 0;
    for &byte in raw {
        if (byte == b'\n') != (before == b'\r') {
            return Err(Bad::new(400, "lines must end with CR LF"));
        }
        before = byte;
    }
    Ok(())
}

/// One Content-Length of digits alone; no Transfer-Encoding.
fn length(head: &head::Head<'_>) -> Result<Length, Bad> {
    if head.header("transfer-encoding").is_some() {
        return Err(Bad::new(
            501,
            "send the body with a Content-Length, in one piece",
        ));
    }
    if head.header("content-encoding").is_some() {
        return Err(Bad::new(
            501,
            "send the body as it is, without Content-Encoding",
        ));
    }
    let mut said = values(head, "content-length");
    let (first, second) = (said.next(), said.next());
    let Some(first) = first else {
        return Ok(Length::Missing);
    };
    let digits = !first.is_empty() && first.iter().all(u8::is_ascii_digit);
    let text = str::from_utf8(first).unwrap_or_default();
    match text.parse() {
        _ if second.is_some() || !digits => Err(Bad::new(400, "Content-Length must be one number")),
        Ok(length) => Ok(Length::Bytes(length)),
        Err(_) => Err(Bad::new(413, "no body is that long")),
    }
}

/// `Expect: 100-continue`, or nothing.
fn expects(head: &head::Head<'_>) -> Result<bool, Bad> {
    match head.header("expect") {
        None => Ok(false),
        // RFC 9110 section 10.1.1: an HTTP/1.0 client's is ignored.
        Some(said) if said.eq_ignore_ascii_case(b"100-continue") => Ok(head.minor > 0),
        Some(_) => Err(Bad::new(417, "only 100-continue can be expected")),
    }
}

fn values<'a>(head: &head::Head<'a>, name: &'static str) -> impl Iterator<Item = &'a [u8]> {
    head.headers()
        .filter(|(found, _)| found.eq_ignore_ascii_case(name.as_bytes()))
        .map(|(_, value)| value)
}

/// Lets async-h1 take the head apart.
fn decode(head: &head::Head<'_>) -> Option<Request> {
    let mut bytes = Vec::with_capacity(LONGEST);
    bytes.extend_from_slice(head.method);
    bytes.push(b' ');
    bytes.extend_from_slice(head.target);
    bytes.extend_from_slice(b" HTTP/1.1\r\n");
    for (name, value) in head.headers() {
        if KEPT_BACK.iter().any(|kept| name.eq_ignore_ascii_case(kept)) {
            continue;
        }
        bytes.extend_from_slice(name);
        // No space, so that it never gets longer than it was.
        bytes.push(b':');
        bytes.extend_from_slice(value);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    let mut decoding = Box::pin(async_h1::server::decode(Memory { bytes, read: 0 }));
    // It never waits: all that it reads is there.
    match decoding
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(Ok(Some((request, _no_body)))) => Some(request),
        _ => None,
    }
}

/// A head in memory, where the decoder wants a connection.
#[derive(Clone, Debug)]
struct Memory {
    bytes: Vec<u8>,
    read: usize,
}

impl AsyncRead for Memory {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let left = self.bytes.get(self.read..).unwrap_or_default();
        let count = left.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), left.get(..count)) {
            to.copy_from_slice(from);
        }
        self.read = self.read.saturating_add(count);
        Poll::Ready(Ok(count))
    }
}

/// The decoder writes nothing where nobody expects anything.
impl AsyncWrite for Memory {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Asked {
    /// The method; HEAD is read as GET.
    pub fn method(&self) -> Method {
        match self.request.method() {
            Method::Head => Method::Get,
            other => other,
        }
    }

    /// Only the head of the reply is wanted.
    pub fn head_only(&self) -> bool {
        self.request.method() == Method::Head
    }

    /// A header that may be there once. An empty one counts, too.
    pub fn header(&self, name: &'static str) -> Result<Option<&str>, Bad> {
        let Some(values) = self.request.header(name) else {
            return Ok(None);
        };
        let mut values = values.iter();
        let (first, second) = (values.next(), values.next());
        if second.is_some() {
            return Err(Bad::new(400, "a header is there twice"));
        }
        Ok(first.map(|value| value.as_str()))
    }

    /// Who asks, as far as access goes.
    pub fn bearing(&self) -> Result<Bearing<'_>, Bad> {
        Ok(Bearing {
            host: self.header("host")?.unwrap_or_default(),
            origin: self.header("origin")?,
            site: self.header("sec-fetch-site")?,
            authorization: self.header("authorization")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bad(bytes: &[u8]) -> Option<u16> {
        match read(bytes) {
            Found::Bad(bad) => Some(bad.status),
            _ => None,
        }
    }

    fn good(bytes: &[u8]) -> Asked {
        match read(bytes) {
            Found::Asked(asked, used) => {
                assert!(used <= bytes.len());
                *asked
            }
            other => panic!("{other:?} for {}", bytes.escape_ascii()),
        }
    }

    fn with(headers: &str) -> Vec<u8> {
        format!("GET /api/v1/summary?a=b HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n").into_bytes()
    }

    #[test]
    fn a_head_is_read_and_decoded() {
        let asked = good(&with("X-Y:  z \r\nAuthorization: Bearer t\r\n"));
        assert_eq!(asked.method(), Method::Get);
        assert_eq!(asked.target.parts, ["api", "v1", "summary"]);
        assert_eq!(asked.header("x-y"), Ok(Some("z")));
        assert_eq!(asked.header("x-z"), Ok(None));
        let bearing = asked.bearing().unwrap();
        assert_eq!(bearing.authorization, Some("Bearer t"));
        assert_eq!(asked.length, Length::Missing);
    }

    #[test]
    fn a_body_has_one_length_of_digits() {
        let length = |headers: &str| match read(&with(headers)) {
            Found::Asked(asked, _) => Ok(asked.length),
            Found::Bad(bad) => Err(bad.status),
            Found::Partial => panic!("partial"),
        };
        for (headers, expected) in [
            ("Content-Length: 5\r\n", Ok(Length::Bytes(5))),
            ("Content-Length: 0\r\n", Ok(Length::Bytes(0))),
            (
                "Content-Length: 1099511627776\r\n",
                Ok(Length::Bytes(1 << 40)),
            ),
            ("Content-Length: +5\r\n", Err(400)),
            ("Content-Length: -5\r\n", Err(400)),
            ("Content-Length: \r\n", Err(400)),
            ("Content-Length: 5, 5\r\n", Err(400)),
            ("Content-Length: 0x5\r\n", Err(400)),
            ("Content-Length: 5\r\nContent-Length: 5\r\n", Err(400)),
            ("Content-Length: 99999999999999999999\r\n", Err(413)),
            ("Transfer-Encoding: chunked\r\n", Err(501)),
            (
                "Transfer-Encoding: identity\r\nContent-Length: 5\r\n",
                Err(501),
            ),
            ("Content-Encoding: gzip\r\nContent-Length: 5\r\n", Err(501)),
        ] {
            assert_eq!(length(headers), expected, "{headers}");
        }
    }

    #[test]
    fn only_100_continue_is_expected() {
        assert!(good(&with("Expect: 100-Continue\r\n")).expects);
        assert!(!good(&with("")).expects);
        assert_eq!(bad(&with("Expect: a miracle\r\n")), Some(417));
    }

    #[test]
    fn this_port_is_strict_about_lines_and_letters() {
        for bytes in [
            b"GET / HTTP/1.1\nHost: localhost\n\n".as_slice(),
            b"GET / HTTP/1.1\r\nHost: localhost\n\r\n",
            b"GET / HTTP/1.1\r\nHost: localhost\r\n\n",
            b"\nGET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: localhost\r\nX: \xc3\xa9\r\n\r\n",
            b"GET /\xc3\xa9 HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"GET / HTTP/1.1\r\nX: y\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
            b"GET http://localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"GET /healthz/../api/v1/rules HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"GET /a b HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: localhost\r\n folded\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost : localhost\r\n\r\n",
        ] {
            assert_eq!(bad(bytes), Some(400), "{}", bytes.escape_ascii());
        }
        assert_eq!(
            bad(b"TRACE / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
            Some(405)
        );
        assert_eq!(
            bad(b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n"),
            Some(405)
        );
        assert_eq!(bad(b"GET / HTTP/2.0\r\nHost: localhost\r\n\r\n"), Some(505));
        assert_eq!(
            bad(&with(&format!("X: {}\r\n", "a".repeat(9000)))),
            Some(431)
        );
        assert_eq!(bad(&with(&"X: y\r\n".repeat(64))), Some(431));
    }

    #[test]
    fn the_longest_head_is_decoded() {
        let rest = LONGEST - with("X: \r\n").len();
        let longest = with(&format!("X: {}\r\n", "a".repeat(rest)));
        assert_eq!(longest.len(), LONGEST);
        good(&longest);
        // Written anew with a space that was not there it would be longer than what the decoder takes.
        let tight = with(&format!("X:{}\r\n", "a".repeat(rest + 1)));
        assert_eq!(tight.len(), LONGEST);
        good(&tight);
        good(&with(&"X:y\r\n".repeat(63)));
    }

    #[test]
    fn two_headers_of_one_name_are_no_header() {
        let asked = good(&with("If-Match: a\r\nIf-Match: b\r\n"));
        assert_eq!(asked.header("if-match").unwrap_err().status, 400);
        let asked = good(&with("Host: evil.example\r\n"));
        assert_eq!(asked.bearing().unwrap_err().status, 400);
    }

    /// The same numbers each time (xorshift).
    struct Dice(u32);

    impl Dice {
        fn below(&mut self, most: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 17;
            self.0 ^= self.0 << 5;
            self.0 as usize % most.max(1)
        }
    }

    #[test]
    fn no_spoiled_head_panics_or_decodes_to_what_was_not_looked_at() {
        let seeds: Vec<Vec<u8>> = vec![
            with("Authorization: Bearer t\r\nOrigin: http://localhost\r\nSec-Fetch-Site: none\r\n"),
            with("Content-Length: 5\r\nExpect: 100-continue\r\nTrailer: X\r\nTE: trailers\r\n"),
            with("Content-Type: text/plain; charset=\"a\"\r\nCookie: a=b\r\nAccept: */*;q=0.1\r\n"),
            with(
                "Date: Mon, 23 Nov 2026 08:00:00 GMT\r\nTraceparent: 00-a-b-01\r\nHost2: [::1\r\n",
            ),
            b"PUT /api/v1/firmware/P/%E6%B0%B4/u.bin HTTP/1.0\r\nHost: [::1]:8081\r\n\r\n".to_vec(),
        ];
        const PIECES: [&[u8]; 16] = [
            b"\r\n",
            b"\n",
            b"\r",
            b"\0",
            b"\xc3\xa9",
            b"%2e%2e/",
            b"..",
            b"\\",
            b"http://",
            b":",
            b" ",
            b"Host: x",
            b"\t",
            b"%",
            b"xn--",
            b"@",
        ];
        let mut dice = Dice(2_463_534_242);
        let mut decoded = 0;
        let end = std::time::Instant::now() + std::time::Duration::from_secs(3);
        for round in 0..60_000_usize {
            if round % 256 == 0 && std::time::Instant::now() > end {
                break;
            }
            let mut head = seeds[round % seeds.len()].clone();
            for _ in 0..=dice.below(3) {
                let at = dice.below(head.len());
                if head.is_empty() {
                    break;
                }
                match dice.below(6) {
                    0 => head[at] = (dice.below(96) + 32) as u8,
                    1 => head[at] = dice.below(256) as u8,
                    2 => {
                        head.remove(at);
                    }
                    3 => {
                        let piece = PIECES[dice.below(PIECES.len())];
                        head.splice(at..at, piece.iter().copied());
                    }
                    4 => {
                        let from = dice.below(head.len());
                        let piece = head[from.min(at)..from.max(at)].to_vec();
                        head.splice(at..at, piece);
                    }
                    _ => head.truncate(at.max(1)),
                }
            }
            let Found::Asked(asked, used) = read(&head) else {
                continue;
            };
            decoded += 1;
            assert!(head[..used].is_ascii() && head[..used].ends_with(b"\r\n\r\n"));
            for part in &asked.target.parts {
                assert!(!part.contains(['/', '\\', '\0']) && part != ".." && !part.is_empty());
            }
            let _ = asked.bearing();
        }
        assert!(decoded > 300, "only {decoded} got as far as the decoder");
    }

    #[test]
    fn what_the_decoder_would_act_on_does_not_reach_it() {
        let asked = good(&with(
            "Expect: 100-continue\r\nTrailer: X\r\nTE: trailers\r\nUpgrade: h2c\r\nConnection: upgrade\r\nContent-Length: 1099511627776\r\n",
        ));
        for name in ["expect", "trailer", "te", "upgrade", "connection"] {
            assert!(asked.request.header(name).is_none(), "{name}");
        }
        assert_eq!(asked.request.len(), Some(0));
    }
}
