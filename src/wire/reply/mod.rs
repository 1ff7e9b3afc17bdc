//! Replies to modules: exact status lines, header names in their exact case with one space, always a length, always
//! `Connection: close` (docs/protocol.md 0).
//!
//! A reply cannot be written without a length: [`Draft::new`] requires one, and only a draft becomes a [`Reply`].

use std::borrow::Cow;
use std::fmt::{Arguments, Write as _};
use std::sync::LazyLock;

use crate::decision::Refusal;
use crate::firmware::ContentId;

/// Capacity for a head and a generated body, in bytes; only a redirect may exceed it.
const CAPACITY: usize = 512;

/// Length of the longest URL of a redirect, in bytes: the head must stay below the 1.4 kB of one segment.
const MAX_LOCATION: usize = 1200;

/// Header of every JSON body.
const JSON: &str = "Content-Type: application/json\r\n";

/// The head of a reply, with the body unless that is a file.
pub struct Reply {
    text: Cow<'static, str>,
    status: u16,
}

impl Reply {
    /// Returns the bytes to send.
    pub fn bytes(&self) -> &[u8] {
        self.text.as_bytes()
    }

    /// Returns the status, for the log.
    pub fn status(&self) -> u16 {
        self.status
    }
}

/// Returns 200 (`part` is `None`) or 206 for a file of this content and size; the body follows. `part`: the first byte
/// and one after the last. Returns 416 for a part outside the file, and 404 for an empty file, because a module would
/// flash an empty 200 (docs/protocol.md 2b).
pub fn file(content: ContentId, size: u64, part: Option<(u64, u64)>) -> Reply {
    if size == 0 {
        return plain(Status::NotFound, true);
    }
    let (status, start, end) = match part {
        None => (200, 0, size),
        Some((start, end)) if start < end && end <= size => (206, start, end),
        Some(_) => return unsatisfiable(Some(size)),
    };
    let mut draft = Draft::new(
        status,
        "Content-Type: application/octet-stream\r\n",
        end - start,
    );
    if part.is_some() {
        let last = end - 1;
        draft = draft.header(format_args!("Content-Range: bytes {start}-{last}/{size}"));
    }
    draft
        .header(format_args!("Accept-Ranges: bytes"))
        .etag(content)
        .close()
}

/// Returns 304 for a tool that has the content already; no body follows. The length is that of the 200 that the tool
/// would have got (RFC 9110 8.6).
pub fn not_modified(content: ContentId, size: u64) -> Reply {
    Draft::new(304, "", size).etag(content).close()
}

/// Returns 416 for a file of this size; `None`: the file no longer exists.
pub fn unsatisfiable(size: Option<u64>) -> Reply {
    let draft = Draft::new(416, "", 0);
    match size {
        Some(size) => draft.header(format_args!("Content-Range: bytes */{size}")),
        None => draft,
    }
    .close()
}

/// Returns 412 for a tool that asks for the rest of a file without naming the content.
pub fn precondition_failed() -> Reply {
    Draft::new(412, "", 0).close()
}

/// Returns 302 to an absolute URL; `None` if a head cannot contain the URL: not `http://host…` or `https://host…`, over
/// 1200 bytes, or not only visible ASCII. Modules use the URL unchanged (docs/protocol.md 2b).
pub fn redirect(location: &str) -> Option<Reply> {
    let host = location
        .strip_prefix("http://")
        .or_else(|| location.strip_prefix("https://"))?;
    let fit = location.len() <= MAX_LOCATION
        && location.bytes().all(|b| b.is_ascii_graphic())
        && !host.is_empty()
        && !host.starts_with(['/', '?', '#', ':']);
    fit.then(|| Draft::new(302, &format!("Location: {location}\r\n"), 0).close())
}

/// Returns a refusal. `head_only`: the reply to HEAD, with the length of the body and without the body.
pub fn refusal(refusal: Refusal, head_only: bool) -> Reply {
    // Most checks are refused, so each refusal is written only once.
    static ALL: LazyLock<[[Reply; 2]; Refusal::ALL.len()]> = LazyLock::new(|| {
        let both = |refusal| [false, true].map(|head_only| new_refusal(refusal, head_only));
        Refusal::ALL.map(both)
    });
    let written = ALL.get(refusal as usize);
    match written.and_then(|both| both.get(usize::from(head_only))) {
        Some(reply) => Reply {
            text: Cow::Borrowed(&reply.text),
            status: reply.status,
        },
        None => new_refusal(refusal, head_only),
    }
}

fn new_refusal(refusal: Refusal, head_only: bool) -> Reply {
    let wording = refusal.wording();
    match wording.body {
        Some((code, message)) => with_body(wording.status, JSON, &encode(code, message), head_only),
        None => Draft::new(wording.status, "", 0).close(),
    }
}

/// Returns a refusal for libfota3: always 200, unless the refusal has no code.
pub fn refusal_in_json(refusal: Refusal, head_only: bool) -> Reply {
    match refusal.wording().body {
        Some((code, message)) => json(&encode(code, message), head_only),
        None => self::refusal(refusal, head_only),
    }
}

/// Returns 200 with this JSON.
pub fn json(json: &str, head_only: bool) -> Reply {
    with_body(200, JSON, json, head_only)
}

/// Returns the JSON of a refusal. The message consists only of `\uXXXX` escapes, also for ASCII: the first edition
/// restarts on anything else (docs/protocol.md 2a).
fn encode(code: u32, message: &str) -> String {
    let mut body = String::with_capacity(CAPACITY);
    let mut write = |text: Arguments<'_>| {
        // Writing to a String cannot fail.
        let _ = body.write_fmt(text);
    };
    write(format_args!("{{\"code\":{code},\"msg\":\""));
    for unit in message.encode_utf16() {
        write(format_args!("\\u{unit:04x}"));
    }
    body.push_str("\"}");
    body
}

/// Returns a status that is not about a file, with a short ASCII text. The text is never empty with 200.
pub fn plain(status: Status, head_only: bool) -> Reply {
    let (code, text) = match status {
        Status::Healthy => (200, "ok\n"),
        Status::BadRequest => (400, "bad request\n"),
        Status::NotFound => (404, "not found\n"),
        Status::MethodNotAllowed => (405, "method not allowed\n"),
        Status::LengthRequired => (411, "content-length required\n"),
        Status::BodyTooLarge => (413, "request body too large\n"),
        Status::Timeout => (408, "request timeout\n"),
        Status::HeadTooLarge => (431, "request header too large\n"),
        Status::NotImplemented => (501, "not implemented\n"),
        Status::Unavailable => (503, "busy, come back\n"),
        Status::Reading => (503, "the firmware folder is being read\n"),
        Status::Drained => (503, "drained\n"),
        Status::Version => (505, "HTTP/1.1 only\n"),
    };
    let headers = match status {
        Status::MethodNotAllowed => {
            "Content-Type: text/plain\r\nAllow: GET, HEAD, POST, PUT, DELETE, PATCH\r\n"
        }
        _ => "Content-Type: text/plain\r\n",
    };
    with_body(code, headers, text, head_only)
}

/// Statuses that are not about a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// 200, for `/healthz` and `/readyz`.
    Healthy,
    /// 400
    BadRequest,
    /// 404, for an unknown path.
    NotFound,
    /// 405, with `Allow`.
    MethodNotAllowed,
    /// 408: the head did not arrive in time.
    Timeout,
    /// 411: a body without a length.
    LengthRequired,
    /// 413
    BodyTooLarge,
    /// 431
    HeadTooLarge,
    /// 501: an unsupported transfer coding.
    NotImplemented,
    /// 503 with Retry-After, while stopping or at the connection cap.
    Unavailable,
    /// 503, for `/readyz` while the firmware folder is being read.
    Reading,
    /// 503, for `/readyz` after `luat-ota drain`.
    Drained,
    /// 505
    Version,
}

fn with_body(status: u16, headers: &str, body: &str, head_only: bool) -> Reply {
    let mut reply = Draft::new(status, headers, body.len() as u64).close();
    if !head_only {
        reply.text.to_mut().push_str(body);
    }
    reply
}

/// A head without `Connection` and the empty line.
struct Draft {
    text: String,
    status: u16,
}

impl Draft {
    /// Creates a head with the status line, `headers` (whole lines) and the length of the body. 503 always has
    /// `Retry-After`.
    fn new(status: u16, headers: &str, length: u64) -> Draft {
        let mut text = String::with_capacity(CAPACITY);
        text.push_str(status_line(status));
        text.push_str("\r\n");
        if status == 503 {
            text.push_str("Retry-After: 30\r\n");
        }
        text.push_str(headers);
        Draft { text, status }.header(format_args!("Content-Length: {length}"))
    }

    fn header(mut self, header: Arguments<'_>) -> Draft {
        // Writing to a String cannot fail.
        let _ = write!(self.text, "{header}\r\n");
        self
    }

    /// Adds the content's id as a strong ETag.
    fn etag(self, content: ContentId) -> Draft {
        self.header(format_args!("ETag: \"{content}\""))
    }

    fn close(mut self) -> Reply {
        self.text.push_str("Connection: close\r\n\r\n");
        Reply {
            text: Cow::Owned(self.text),
            status: self.status,
        }
    }
}

/// Returns the status line. The reason phrase is never empty, because without one LuaTask swallows the first header
/// line (docs/protocol.md 2b).
fn status_line(status: u16) -> &'static str {
    match status {
        200 => "HTTP/1.1 200 OK",
        206 => "HTTP/1.1 206 Partial Content",
        302 => "HTTP/1.1 302 Found",
        304 => "HTTP/1.1 304 Not Modified",
        400 => "HTTP/1.1 400 Bad Request",
        403 => "HTTP/1.1 403 Forbidden",
        404 => "HTTP/1.1 404 Not Found",
        405 => "HTTP/1.1 405 Method Not Allowed",
        408 => "HTTP/1.1 408 Request Timeout",
        411 => "HTTP/1.1 411 Length Required",
        413 => "HTTP/1.1 413 Content Too Large",
        412 => "HTTP/1.1 412 Precondition Failed",
        416 => "HTTP/1.1 416 Range Not Satisfiable",
        431 => "HTTP/1.1 431 Request Header Fields Too Large",
        501 => "HTTP/1.1 501 Not Implemented",
        503 => "HTTP/1.1 503 Service Unavailable",
        505 => "HTTP/1.1 505 HTTP Version Not Supported",
        _ => "HTTP/1.1 500 Internal Server Error",
    }
}

#[cfg(test)]
mod tests;
