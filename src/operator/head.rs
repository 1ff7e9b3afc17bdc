//! Parser of the head of a request: a strict parser of our own, then async-h1 on a rewritten copy (docs/hazards.md 1).
//! Covered by the fuzz target `operator_head`.
//!
//! The copy is always HTTP/1.1 without a body, and lacks every header that would make the decoder wait, start threads
//! or trust a length.

use super::access::Credentials;
use super::codec::{self, Method, Request, StatusCode};
use super::response::{ApiResult, Response};
use super::route::RequestTarget;
use crate::wire::head::{self, BadHead, Head, HeadLimits, HeadProgress};

/// Maximum number of bytes of a head: async-h1 takes one byte less than 8 KiB.
pub const LONGEST: usize = 8 * 1024 - 1;

/// Maximum number of header lines; async-h1 accepts 128.
const LINES: usize = 64;

/// Headers on which the decoder would act.
const WITHHELD: [&[u8]; 8] = [
    b"content-length",
    b"transfer-encoding",
    b"expect",
    b"trailer",
    b"te",
    b"upgrade",
    b"connection",
    b"content-encoding",
];

/// A valid head.
#[derive(Debug)]
pub struct RequestHead {
    /// The path and query.
    pub target: RequestTarget,
    /// Whether the request is HTTP/1.0.
    pub is_http10: bool,
    /// Length of the body in bytes, if there is one.
    pub content_length: Option<u64>,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
    /// The decoded request, used for the method and headers.
    request: Request,
}

/// Parses a head at the beginning of `bytes`. Returns the head and its length, or `None` if it is incomplete. The error
/// is the response.
pub fn read(bytes: &[u8]) -> ApiResult<Option<(Box<RequestHead>, usize)>> {
    let limits = HeadLimits {
        bytes: LONGEST,
        headers: LINES,
    };
    match head::read(bytes, limits) {
        HeadProgress::Partial => Ok(None),
        HeadProgress::Complete(head, used) => {
            let raw = bytes.get(..used).unwrap_or_default();
            Ok(Some((Box::new(RequestHead::new(&head, raw)?), used)))
        }
        HeadProgress::Bad(BadHead::Malformed) => {
            Err(Response::bad_request("this is not an HTTP request"))
        }
        HeadProgress::Bad(BadHead::TooLarge) => Err(Response::problem(
            StatusCode::RequestHeaderFieldsTooLarge,
            "the head has more than 8 KiB or 64 lines",
        )),
        HeadProgress::Bad(BadHead::Version) => Err(Response::problem(
            StatusCode::HttpVersionNotSupported,
            "only HTTP/1.0 and HTTP/1.1 are supported",
        )),
    }
}

impl RequestHead {
    fn new(head: &Head<'_>, raw: &[u8]) -> ApiResult<RequestHead> {
        check_lines(raw)?;
        if !matches!(head.method, b"GET" | b"HEAD" | b"PUT" | b"POST" | b"DELETE") {
            return Err(Response::problem(
                StatusCode::MethodNotAllowed,
                "only GET, HEAD, PUT, POST and DELETE are supported",
            ));
        }
        // `check_lines` has found only ASCII.
        let text = str::from_utf8(head.target).unwrap_or_default();
        let target = RequestTarget::parse(text).map_err(Response::bad_request)?;
        let content_length = content_length(head)?;
        let expects_continue = expects_continue(head)?;
        let request = codec::decode(rewrite(head));
        let request = request.ok_or_else(|| Response::bad_request("the head cannot be read"))?;
        // `target` is routed and authorised. If the decoder finds another path, one of the two is wrong.
        if request.url().path() != text.split('?').next().unwrap_or_default() {
            return Err(Response::bad_request("the path is ambiguous"));
        }
        Ok(RequestHead {
            target,
            is_http10: head.minor == 0,
            content_length,
            expects_continue,
            request,
        })
    }

    /// Returns the method, GET for HEAD.
    pub fn method(&self) -> Method {
        match self.request.method() {
            Method::Head => Method::Get,
            other => other,
        }
    }

    /// Whether the client wants only the head of the response.
    pub fn head_only(&self) -> bool {
        self.request.method() == Method::Head
    }

    /// Returns the value, possibly empty, of a header that may occur once. The error is the response to a repeated one.
    pub fn header(&self, name: &'static str) -> ApiResult<Option<&str>> {
        let mut values = self.request.header(name).into_iter().flatten();
        match (values.next(), values.next()) {
            (value, None) => Ok(value.map(|value| value.as_str())),
            _ => Err(Response::bad_request("a header appears twice")),
        }
    }

    /// Returns the headers that decide about access.
    pub fn credentials(&self) -> ApiResult<Credentials<'_>> {
        Ok(Credentials {
            host: self.header("host")?.unwrap_or_default(),
            origin: self.header("origin")?,
            site: self.header("sec-fetch-site")?,
            authorization: self.header("authorization")?,
        })
    }
}

/// Checks that the head is ASCII and that every line ends with CRLF.
fn check_lines(raw: &[u8]) -> ApiResult<()> {
    if !raw.is_ascii() {
        return Err(Response::bad_request(
            "the head has a byte that is not ASCII",
        ));
    }
    let mut before = 0;
    for &byte in raw {
        if (byte == b'\n') != (before == b'\r') {
            return Err(Response::bad_request("lines must end with CR LF"));
        }
        before = byte;
    }
    Ok(())
}

/// Returns the length of the body, from at most one Content-Length of digits. Fails if there is a Transfer-Encoding or
/// Content-Encoding.
fn content_length(head: &Head<'_>) -> ApiResult<Option<u64>> {
    for (name, sentence) in [
        (
            "transfer-encoding",
            "send the body with a Content-Length, in one piece",
        ),
        (
            "content-encoding",
            "send the body as it is, without Content-Encoding",
        ),
    ] {
        if head.header(name).is_some() {
            return Err(Response::problem(StatusCode::NotImplemented, sentence));
        }
    }
    let is_length = |name: &[u8]| name.eq_ignore_ascii_case(b"content-length");
    let mut lengths = head.headers().filter(|(name, _)| is_length(name));
    let (first, second) = (lengths.next(), lengths.next());
    let Some((_, length)) = first else {
        return Ok(None);
    };
    let is_number = !length.is_empty() && length.iter().all(u8::is_ascii_digit);
    if second.is_some() || !is_number {
        return Err(Response::bad_request("Content-Length must be one number"));
    }
    let length = str::from_utf8(length).unwrap_or_default().parse();
    let too_large =
        |_| Response::problem(StatusCode::PayloadTooLarge, "Content-Length is too large");
    length.map(Some).map_err(too_large)
}

/// Whether the client sent `Expect: 100-continue`. Fails for any other expectation.
fn expects_continue(head: &Head<'_>) -> ApiResult<bool> {
    match head.header("expect") {
        None => Ok(false),
        // The expectation of an HTTP/1.0 client is ignored (RFC 9110 section 10.1.1).
        Some(value) if value.eq_ignore_ascii_case(b"100-continue") => Ok(head.minor > 0),
        Some(_) => Err(Response::problem(
            StatusCode::ExpectationFailed,
            "only 100-continue can be expected",
        )),
    }
}

/// Returns the copy of the head for the decoder.
fn rewrite(head: &Head<'_>) -> Vec<u8> {
    let mut bytes = [head.method, b" ", head.target, b" HTTP/1.1\r\n"].concat();
    for (name, value) in head.headers() {
        if !WITHHELD
            .iter()
            .any(|other| name.eq_ignore_ascii_case(other))
        {
            // Without a space after the colon the copy is never longer than the original.
            bytes.extend([name, b":", value, b"\r\n"].concat());
        }
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bad(bytes: &[u8]) -> Option<u16> {
        read(bytes).err().map(|response| response.status.into())
    }

    fn good(bytes: &[u8]) -> RequestHead {
        match read(bytes) {
            Ok(Some((head, used))) => {
                assert!(used <= bytes.len());
                *head
            }
            other => panic!("{other:?} for {}", bytes.escape_ascii()),
        }
    }

    fn with(headers: &str) -> Vec<u8> {
        format!("GET /api/v1/summary?a=b HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n").into_bytes()
    }

    #[test]
    fn a_head_is_read_and_decoded() {
        let head = good(&with("X-Y:  z \r\nAuthorization: Bearer t\r\n"));
        assert_eq!(head.method(), Method::Get);
        assert_eq!(head.target.parts, ["api", "v1", "summary"]);
        assert_eq!(head.header("x-y").unwrap(), Some("z"));
        assert_eq!(head.header("x-z").unwrap(), None);
        let credentials = head.credentials().unwrap();
        assert_eq!(credentials.authorization, Some("Bearer t"));
        assert_eq!(head.content_length, None);
    }

    #[test]
    fn a_body_has_one_length_of_digits() {
        let length = |headers: &str| match read(&with(headers)) {
            Ok(Some((head, _))) => Ok(head.content_length.unwrap()),
            Ok(None) => panic!("partial"),
            Err(response) => Err(response.status.into()),
        };
        for (headers, expected) in [
            ("Content-Length: 5\r\n", Ok(5)),
            ("Content-Length: 0\r\n", Ok(0)),
            ("Content-Length: 1099511627776\r\n", Ok(1 << 40)),
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
        assert!(good(&with("Expect: 100-Continue\r\n")).expects_continue);
        assert!(!good(&with("")).expects_continue);
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
        // With an added space after the colon, the copy would be longer than the decoder accepts.
        let tight = with(&format!("X:{}\r\n", "a".repeat(rest + 1)));
        assert_eq!(tight.len(), LONGEST);
        good(&tight);
        good(&with(&"X:y\r\n".repeat(63)));
    }

    #[test]
    fn a_repeated_header_is_refused() {
        let head = good(&with("If-Match: a\r\nIf-Match: b\r\n"));
        assert_eq!(head.header("if-match").unwrap_err().status, 400);
        let head = good(&with("Host: evil.example\r\n"));
        assert_eq!(head.credentials().unwrap_err().status, 400);
    }

    /// A generator of the same pseudo-random numbers in each run (xorshift).
    struct XorShift(u32);

    impl XorShift {
        fn below(&mut self, most: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 17;
            self.0 ^= self.0 << 5;
            self.0 as usize % most.max(1)
        }
    }

    #[test]
    fn no_damaged_head_panics_or_decodes_to_an_unchecked_request() {
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
        let mut rng = XorShift(2_463_534_242);
        let mut decoded = 0;
        let end = std::time::Instant::now() + std::time::Duration::from_secs(3);
        for round in 0..60_000_usize {
            if round % 256 == 0 && std::time::Instant::now() > end {
                break;
            }
            let mut head = seeds[round % seeds.len()].clone();
            for _ in 0..=rng.below(3) {
                let at = rng.below(head.len());
                if head.is_empty() {
                    break;
                }
                match rng.below(6) {
                    0 => head[at] = (rng.below(96) + 32) as u8,
                    1 => head[at] = rng.below(256) as u8,
                    2 => {
                        head.remove(at);
                    }
                    3 => {
                        let piece = PIECES[rng.below(PIECES.len())];
                        head.splice(at..at, piece.iter().copied());
                    }
                    4 => {
                        let from = rng.below(head.len());
                        let piece = head[from.min(at)..from.max(at)].to_vec();
                        head.splice(at..at, piece);
                    }
                    _ => head.truncate(at.max(1)),
                }
            }
            let Ok(Some((decoded_head, used))) = read(&head) else {
                continue;
            };
            decoded += 1;
            assert!(head[..used].is_ascii() && head[..used].ends_with(b"\r\n\r\n"));
            for part in &decoded_head.target.parts {
                assert!(!part.contains(['/', '\\', '\0']) && part != ".." && !part.is_empty());
            }
            let _ = decoded_head.credentials();
        }
        assert!(decoded > 300, "only {decoded} got as far as the decoder");
    }

    #[test]
    fn headers_that_the_decoder_would_act_on_are_withheld() {
        let head = good(&with(
            "Expect: 100-continue\r\nTrailer: X\r\nTE: trailers\r\nUpgrade: h2c\r\nConnection: upgrade\r\nContent-Length: 1099511627776\r\n",
        ));
        for name in ["expect", "trailer", "te", "upgrade", "connection"] {
            assert!(head.request.header(name).is_none(), "{name}");
        }
        assert_eq!(head.request.len(), Some(0));
    }
}
