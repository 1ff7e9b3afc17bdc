//! The HTTP library: decodes request heads and encodes responses. This is the only module that uses
//! async-h1 and http-types.
//!
//! The decoder never sees a socket: it reads a head without a body from memory (docs/hazards.md 1).
//! http-types panics on a header value that is not ASCII and writes CR LF in a value unchanged
//! (docs/hazards.md 2); [`encode`] omits such headers.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use http_types::Body;
use http_types::headers::HeaderValue;
use smol::io::{AsyncReadExt as _, Cursor};

pub use http_types::{Method, Request, StatusCode};

/// Decodes a head that announces no body. Returns `None` if the head is invalid.
pub fn decode(head: Vec<u8>) -> Option<Request> {
    match ready(async_h1::server::decode(Cursor::new(head))) {
        Some(Ok(Some((request, _no_body)))) => Some(request),
        _ => None,
    }
}

/// Encodes a response. `body`: `None` for a stream, whose head has neither a length nor, with `is_http10`,
/// `transfer-encoding: chunked`. `head_only`: omits the body.
#[expect(
    clippy::disallowed_methods,
    reason = "the status is a constant, values are checked"
)]
pub fn encode<'a>(
    status: StatusCode,
    headers: impl Iterator<Item = (&'static str, &'a str)>,
    body: Option<Vec<u8>>,
    head_only: bool,
    is_http10: bool,
) -> Vec<u8> {
    let mut response = http_types::Response::new(status);
    let is_stream = body.is_none();
    response.set_body(match body {
        Some(bytes) => Body::from_bytes(bytes),
        None => Body::from_reader(smol::io::empty(), None),
    });
    for (name, value) in headers {
        let is_clean = value.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
        if let (true, Ok(value)) = (is_clean, HeaderValue::from_bytes(value.into())) {
            response.insert_header(name, value);
        }
    }
    let method = match head_only || is_stream {
        true => Method::Head,
        false => Method::Get,
    };
    let mut bytes = Vec::new();
    let mut encoder = async_h1::server::Encoder::new(response, method);
    let read = ready(encoder.read_to_end(&mut bytes));
    debug_assert!(matches!(read, Some(Ok(_))), "{read:?}");
    if is_stream && is_http10 {
        remove(&mut bytes, b"transfer-encoding: chunked\r\n");
    }
    bytes
}

/// Removes the first occurrence of `line`.
fn remove(head: &mut Vec<u8>, line: &[u8]) {
    if let Some(at) = head.windows(line.len()).position(|found| found == line) {
        head.drain(at..at + line.len());
    }
}

/// Returns the output of a future that only uses memory and is therefore ready at the first poll.
fn ready<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}
