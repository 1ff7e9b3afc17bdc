//! What goes out: every reply is a [`Reply`], and one function makes bytes of it. Used by all of this
//! room.
//!
//! The surprise: http-types ends the process when a header value is not ASCII, and writes CR LF in one
//! as it is (docs/hazards.md 2). So no other place of the program touches its responses, and what could not
//! stand in a header is left out here.

use http_types::headers::HeaderValue;
use http_types::{Method, Response, StatusCode};
use serde_json::{Value, json};
use smol::io::AsyncReadExt as _;

use super::head::Bad;

/// A reply that was not sent yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// Its status.
    pub status: StatusCode,
    /// Content-Type.
    pub kind: &'static str,
    /// Other headers.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Body,
}

/// A body that is there already, or will come.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// These bytes.
    Bytes(Vec<u8>),
    /// Bytes that are part of the program.
    Fixed(&'static [u8]),
    /// It has no length yet; whoever sends the head sends it.
    Stream,
}

/// On every reply: nothing is run that is not ours, nothing is framed, nothing is guessed.
const ALWAYS: [(&str, &str); 6] = [
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
         connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    ("connection", "close"),
];

/// Content-Type of JSON.
pub const JSON: &str = "application/json";

impl Reply {
    /// 200 with these bytes.
    pub fn ok(kind: &'static str, body: Body) -> Reply {
        Reply {
            status: StatusCode::Ok,
            kind,
            headers: Vec::new(),
            body,
        }
    }

    /// 200 with JSON.
    pub fn json(value: &Value) -> Reply {
        Reply::ok(JSON, Body::Bytes(value.to_string().into_bytes()))
    }

    /// An error (RFC 9457); `detail` is a sentence.
    pub fn problem(status: StatusCode, detail: impl AsRef<str>) -> Reply {
        let value = json!({
            "type": "about:blank",
            "title": status.canonical_reason(),
            "status": u16::from(status),
            "detail": detail.as_ref(),
        });
        Reply {
            status,
            kind: "application/problem+json",
            ..Reply::json(&value)
        }
    }

    /// The error of a head that cannot be read.
    pub fn bad(bad: Bad) -> Reply {
        let status = match bad.status {
            405 => StatusCode::MethodNotAllowed,
            413 => StatusCode::PayloadTooLarge,
            417 => StatusCode::ExpectationFailed,
            431 => StatusCode::RequestHeaderFieldsTooLarge,
            501 => StatusCode::NotImplemented,
            505 => StatusCode::HttpVersionNotSupported,
            _ => StatusCode::BadRequest,
        };
        Reply::problem(status, bad.why)
    }

    /// The same with another status.
    pub fn with_status(self, status: StatusCode) -> Reply {
        Reply { status, ..self }
    }

    /// The same with one more header.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Reply {
        self.headers.push((name, value.into()));
        self
    }

    /// The bytes on the wire. `head_only`: of the head alone. `old`: for HTTP/1.0, where a stream ends
    /// with the connection.
    pub async fn encode(self, head_only: bool, old: bool) -> Vec<u8> {
        let is_stream = self.body == Body::Stream;
        let method = match head_only || is_stream {
            true => Method::Head,
            false => Method::Get,
        };
        let mut bytes = Vec::new();
        let mut encoder = async_h1::server::Encoder::new(self.response(), method);
        // It reads from memory alone.
        if encoder.read_to_end(&mut bytes).await.is_err() {
            bytes.clear();
        }
        if is_stream && old {
            without_chunks(&mut bytes);
        }
        bytes
    }

    /// The one place where http-types makes a response.
    #[allow(clippy::disallowed_methods)]
    fn response(self) -> Response {
        let mut response = Response::new(self.status);
        let cached = self
            .headers
            .iter()
            .any(|(name, _)| *name == "cache-control");
        let body = match self.body {
            Body::Bytes(bytes) => http_types::Body::from_bytes(bytes),
            Body::Fixed(bytes) => http_types::Body::from_bytes(bytes.to_vec()),
            Body::Stream => http_types::Body::from_reader(smol::io::empty(), None),
        };
        response.set_body(body);
        let all = ALWAYS
            .iter()
            .map(|&(name, value)| (name, value))
            .chain([("content-type", self.kind)])
            .chain((!cached).then_some(("cache-control", "no-store")))
            .chain(
                self.headers
                    .iter()
                    .map(|(name, value)| (*name, value.as_str())),
            );
        for (name, value) in all {
            let clean = value
                .bytes()
                .all(|byte| byte == b' ' || byte.is_ascii_graphic());
            if let (true, Ok(value)) = (clean, HeaderValue::from_bytes(value.as_bytes().to_vec())) {
                response.insert_header(name, value);
            }
        }
        response
    }
}

/// Takes `transfer-encoding: chunked` out of a head: an HTTP/1.0 client does not know it.
fn without_chunks(head: &mut Vec<u8>) {
    const LINE: &[u8] = b"transfer-encoding: chunked\r\n";
    let at = head.windows(LINE.len()).position(|window| window == LINE);
    if let Some(at) = at {
        head.drain(at..at.saturating_add(LINE.len()).min(head.len()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(reply: Reply, head_only: bool, old: bool) -> String {
        String::from_utf8(smol::block_on(reply.encode(head_only, old))).unwrap()
    }

    #[test]
    fn a_problem_says_what_it_is() {
        let reply = Reply::problem(StatusCode::NotFound, "there is no project \"é\"");
        let text = text(reply, false, false);
        assert!(text.starts_with("HTTP/1.1 404 Not Found\r\n"), "{text}");
        for line in [
            "content-type: application/problem+json\r\n",
            "cache-control: no-store\r\n",
            "x-content-type-options: nosniff\r\n",
            "connection: close\r\n",
            "referrer-policy: no-referrer\r\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}", body.len())));
        let body: Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["status"], 404);
        assert_eq!(body["detail"], "there is no project \"é\"");
    }

    #[test]
    fn a_value_that_could_break_a_head_is_left_out() {
        for value in ["a\r\nset-cookie: b", "é", "a\0", "a\n"] {
            let reply = Reply::ok("text/plain", Body::Fixed(b"x")).with("etag", value);
            let text = text(reply, false, false);
            assert!(!text.contains("etag") && !text.contains("cookie"), "{text}");
        }
        let reply = Reply::ok("text/plain", Body::Fixed(b"x")).with("etag", "\"a b\"");
        assert!(text(reply, false, false).contains("etag: \"a b\"\r\n"));
    }

    #[test]
    fn a_head_alone_has_the_length_of_the_body() {
        let reply = Reply::ok("text/plain", Body::Fixed(b"12345"));
        let text = text(reply, true, false);
        assert!(text.contains("content-length: 5\r\n") && text.ends_with("\r\n\r\n"));
    }

    #[test]
    fn a_stream_has_chunks_for_those_who_know_them() {
        let stream = || Reply::ok("text/event-stream", Body::Stream);
        let new = text(stream(), false, false);
        assert!(new.contains("transfer-encoding: chunked\r\n") && new.ends_with("\r\n\r\n"));
        let old = text(stream(), false, true);
        assert!(!old.contains("transfer-encoding") && !old.contains("content-length"));
        assert!(old.ends_with("\r\n\r\n"));
    }

    #[test]
    fn every_status_that_is_used_has_a_reason() {
        for status in [400, 405, 413, 417, 431, 501, 505] {
            let reply = Reply::bad(Bad { status, why: "x" });
            assert_eq!(u16::from(reply.status), status);
        }
    }
}
