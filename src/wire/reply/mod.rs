//! What we answer: exact status lines, header names in their exact case with one space, a length
//! always, `Connection: close` always (docs/protocol.md 0). A reply cannot be written without a length.
//! Used by the HTTP side of the device room.
//!
//! The order of the types is the grammar: a [`Draft`] takes headers, its length makes it a
//! [`Measured`], and only that can be closed into a [`Reply`].

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::sync::OnceLock;

use crate::decimal::{self, decimal};
use crate::decision::Refusal;
use crate::firmware::ContentId;

/// Every head fits in, and every body that is ours; only a redirect may not.
const ROOM: usize = 512;

/// The longest URL that we redirect to, in bytes: the head must stay below the 1.4 kB of one segment.
const LOCATION: usize = 1200;

/// How long a client that understands it should wait, in seconds.
const RETRY_AFTER: &str = "30";

/// The head of a reply (and, for small ones, the body). The refusals are always the same and are made once;
/// any other reply is made in a buffer of its own.
pub struct Reply {
    bytes: Cow<'static, [u8]>,
    status: u16,
}

impl Reply {
    /// The bytes to send.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The status, for the log.
    pub fn status(&self) -> u16 {
        self.status
    }
}

/// 200 (`part` is `None`) or 206, for a file of this content and size. The body follows. `part` is as in
/// [`super::range::Part::Bytes`]: the first byte and one after the last. A part that is none of this
/// file gets 416, and a file without bytes 404: a module would flash an empty 200 (docs/protocol.md 2b).
pub fn file(content: ContentId, size: u64, part: Option<(u64, u64)>) -> Reply {
    if size == 0 {
        return plain(Status::NotFound, true);
    }
    let (status, start, end) = match part {
        None => (200, 0, size),
        Some((start, end)) if start < end && end <= size => (206, start, end),
        Some(_) => return unsatisfiable(Some(size)),
    };
    let mut reply = Draft::new(status)
        .header(&["Content-Type: application/octet-stream"])
        .length(end.saturating_sub(start));
    if part.is_some() {
        let mut room = [[0; decimal::ROOM]; 3];
        let [first, last, all] = &mut room;
        let first = decimal(start, first);
        let last = decimal(end.saturating_sub(1), last);
        let all = decimal(size, all);
        reply = reply.header(&["Content-Range: bytes ", first, "-", last, "/", all]);
    }
    reply.header(&["Accept-Ranges: bytes"]).tag(content).close()
}

/// 304 for a tool that has the content already. The length is that of the 200 it did not get
/// (RFC 9110 8.6); no body follows.
pub fn not_modified(content: ContentId, size: u64) -> Reply {
    Draft::new(304).length(size).tag(content).close()
}

/// 416 for a file of this size (or of one that is gone: `None`).
pub fn unsatisfiable(size: Option<u64>) -> Reply {
    let reply = Draft::new(416).length(0);
    match size {
        Some(size) => {
            let mut room = [0; decimal::ROOM];
            let size = decimal(size, &mut room);
            reply.header(&["Content-Range: bytes */", size])
        }
        None => reply,
    }
    .close()
}

/// 412 for a tool that asks for the rest of a file that nothing names.
pub fn precondition_failed() -> Reply {
    Draft::new(412).length(0).close()
}

/// 302 to an absolute URL; `None` if it is not fit to stand in a head: not `http://host…` or
/// `https://host…`, over 1200 bytes, or with anything but visible ASCII. Modules take it as it stands
/// (docs/protocol.md 2b).
pub fn redirect(location: &str) -> Option<Reply> {
    let host = location
        .strip_prefix("http://")
        .or_else(|| location.strip_prefix("https://"))?;
    let fit = location.len() <= LOCATION
        && location.bytes().all(|b| b.is_ascii_graphic())
        && !host.is_empty()
        && !host.starts_with(['/', '?', '#', ':']);
    fit.then(|| {
        Draft::new(302)
            .header(&["Location: ", location])
            .length(0)
            .close()
    })
}

/// A refusal: status, code and message by docs/decision.md "Verdict on the wire", with its body. `head_only`: a HEAD
/// request's, the length kept, the body left out.
pub fn refusal(refusal: Refusal, head_only: bool) -> Reply {
    if refusal == Refusal::Unread {
        return unread();
    }
    static MADE: [OnceLock<(Reply, usize)>; KINDS] = [const { OnceLock::new() }; KINDS];
    let Some((status, code, message)) = said(refusal) else {
        return unsatisfiable(None);
    };
    let make = || {
        let draft = Draft::new(status).header(&["Content-Type: application/json"]);
        draft.body_behind(&coded(code, message))
    };
    // One place for each kind.
    let Some(made) = MADE.get(refusal as usize) else {
        return make().0;
    };
    let (reply, head) = made.get_or_init(make);
    let bytes = match head_only {
        true => reply.bytes.get(..*head).unwrap_or_default(),
        false => &reply.bytes,
    };
    Reply {
        bytes: Cow::Borrowed(bytes),
        status,
    }
}

/// Kinds of refusal.
const KINDS: usize = Refusal::CannotResume as usize + 1;

/// The same refusal as libfota3 takes it: always 200.
pub fn refusal_in_json(refusal: Refusal, head_only: bool) -> Reply {
    if refusal == Refusal::Unread {
        return unread();
    }
    let (_, code, message) = said(refusal).unwrap_or((416, 27, "无法续传"));
    Draft::new(200)
        .header(&["Content-Type: application/json"])
        .body(&coded(code, message), head_only)
}

/// 503 without a body: what is in the folder is not known now, and a code would say something of it.
fn unread() -> Reply {
    Draft::new(503).length(0).close()
}

/// 200 with this JSON.
pub fn json(json: &str, head_only: bool) -> Reply {
    Draft::new(200)
        .header(&["Content-Type: application/json"])
        .body(json, head_only)
}

/// Status, code and message of a refusal; `None`: it has no words.
fn said(refusal: Refusal) -> Option<(u16, u32, &'static str)> {
    // The texts of 3, 21, 25, 26, 27, 40 and 43 are the official platform's (docs/protocol.md 4), where the
    // code says no more than they do.
    Some(match refusal {
        Refusal::NothingNewer => (404, 27, "已是最新版本"),
        Refusal::NotNow => (404, 27, "暂未开放升级"),
        Refusal::VersionUnreadable => (404, 27, "无法识别版本号"),
        Refusal::NotThisDevice => (403, 21, "不允许升级"),
        Refusal::UnknownDevice => (403, 3, "无效的设备"),
        Refusal::NoProject => (404, 25, "未指明项目"),
        Refusal::UnknownProject | Refusal::WrongKey => (403, 25, "无效的项目"),
        Refusal::NoPackage => (404, 26, "无效的固件"),
        Refusal::Looping => (403, 40, "循环升级"),
        Refusal::Full => (503, 43, "请等待"),
        Refusal::Unread | Refusal::CannotResume => return None,
    })
}

fn coded(code: u32, message: &str) -> String {
    format!(
        "{{\"code\":{code},\"msg\":\"{}\"}}",
        UnicodeEscapes(message)
    )
}

/// The same refusal over UDP and TCP.
pub fn refusal_text(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::NothingNewer | Refusal::VersionUnreadable => "version error",
        Refusal::NotThisDevice => "imei range error",
        Refusal::CannotResume => "ERR",
        Refusal::NotNow
        | Refusal::UnknownDevice
        | Refusal::NoProject
        | Refusal::UnknownProject
        | Refusal::WrongKey
        | Refusal::NoPackage
        | Refusal::Looping
        | Refusal::Full
        | Refusal::Unread => "no upgrade",
    }
}

/// A status of our own (200 for /healthz, 400, 404, 405, 408, 411, 413, 431, 501, 503, 505) with a short ASCII text
/// (never empty with 200).
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
        Status::Version => (505, "HTTP/1.1 only\n"),
    };
    let mut reply = Draft::new(code).header(&["Content-Type: text/plain"]);
    if status == Status::MethodNotAllowed {
        reply = reply.header(&["Allow: GET, HEAD, POST, PUT, DELETE, PATCH"]);
    }
    reply.body(text, head_only)
}

/// Statuses that are not about a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// 200, `/healthz`.
    Healthy,
    /// 400
    BadRequest,
    /// 404, for a path that is nothing of ours.
    NotFound,
    /// 405, with `Allow`.
    MethodNotAllowed,
    /// 408: the head did not arrive in time.
    Timeout,
    /// 411: a body whose length is not said.
    LengthRequired,
    /// 413
    BodyTooLarge,
    /// 431
    HeadTooLarge,
    /// 501: a way of sending a body that is not read here.
    NotImplemented,
    /// 503 with Retry-After, while stopping or at the connection cap.
    Unavailable,
    /// 505
    Version,
}

/// A head without a length yet.
struct Draft(Vec<u8>, u16);

/// A head that may be closed.
struct Measured(Draft);

impl Draft {
    /// The status line. 503 always says when to come back.
    fn new(status: u16) -> Draft {
        let mut draft = Draft(Vec::with_capacity(ROOM), status);
        draft.put(&[status_line(status)]);
        match status {
            503 => draft.header(&["Retry-After: ", RETRY_AFTER]),
            _ => draft,
        }
    }

    /// A header, in pieces. (Without the formatter: every download has a head.)
    fn header(mut self, pieces: &[&str]) -> Draft {
        self.put(pieces);
        self.put(&["\r\n"]);
        self
    }

    fn put(&mut self, pieces: &[&str]) {
        for piece in pieces {
            self.0.extend_from_slice(piece.as_bytes());
        }
    }

    fn length(self, bytes: u64) -> Measured {
        let mut room = [0; decimal::ROOM];
        Measured(self.header(&["Content-Length: ", decimal(bytes, &mut room)]))
    }

    /// Closes the head and puts this body behind it.
    fn body(self, body: &str, head_only: bool) -> Reply {
        let (mut reply, head) = self.body_behind(body);
        if head_only {
            reply.bytes.to_mut().truncate(head);
        }
        reply
    }

    /// The same, and the length of the head.
    fn body_behind(self, body: &str) -> (Reply, usize) {
        let length = u64::try_from(body.len()).unwrap_or(u64::MAX);
        let mut reply = self.length(length).close();
        let head = reply.bytes.len();
        reply.bytes.to_mut().extend_from_slice(body.as_bytes());
        (reply, head)
    }
}

impl Measured {
    fn header(self, pieces: &[&str]) -> Measured {
        Measured(self.0.header(pieces))
    }

    /// The content's, as a strong one.
    fn tag(self, content: ContentId) -> Measured {
        self.header(&["ETag: \"", content.hex().as_str(), "\""])
    }

    fn close(self) -> Reply {
        let Draft(mut bytes, status) = self.0;
        bytes.extend_from_slice(b"Connection: close\r\n\r\n");
        Reply {
            bytes: Cow::Owned(bytes),
            status,
        }
    }
}

/// Never empty: without a reason phrase LuaTask swallows the first header line (docs/protocol.md 2b).
fn status_line(status: u16) -> &'static str {
    match status {
        200 => "HTTP/1.1 200 OK\r\n",
        206 => "HTTP/1.1 206 Partial Content\r\n",
        302 => "HTTP/1.1 302 Found\r\n",
        304 => "HTTP/1.1 304 Not Modified\r\n",
        400 => "HTTP/1.1 400 Bad Request\r\n",
        403 => "HTTP/1.1 403 Forbidden\r\n",
        404 => "HTTP/1.1 404 Not Found\r\n",
        405 => "HTTP/1.1 405 Method Not Allowed\r\n",
        408 => "HTTP/1.1 408 Request Timeout\r\n",
        411 => "HTTP/1.1 411 Length Required\r\n",
        413 => "HTTP/1.1 413 Content Too Large\r\n",
        412 => "HTTP/1.1 412 Precondition Failed\r\n",
        416 => "HTTP/1.1 416 Range Not Satisfiable\r\n",
        431 => "HTTP/1.1 431 Request Header Fields Too Large\r\n",
        501 => "HTTP/1.1 501 Not Implemented\r\n",
        503 => "HTTP/1.1 503 Service Unavailable\r\n",
        505 => "HTTP/1.1 505 HTTP Version Not Supported\r\n",
        _ => "HTTP/1.1 500 Internal Server Error\r\n",
    }
}

/// A text as `\uXXXX` alone, ASCII letters too: the first edition restarts on anything else in a `msg`
/// (docs/protocol.md 2a).
struct UnicodeEscapes<'a>(&'a str);

impl fmt::Display for UnicodeEscapes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digit = |unit: u16, shift: u32| {
            let digit = u32::from(unit >> shift & 0xf);
            char::from_digit(digit, 16).unwrap_or_default()
        };
        self.0.encode_utf16().try_for_each(|unit| {
            f.write_str("\\u")?;
            [12, 8, 4, 0]
                .into_iter()
                .try_for_each(|shift| f.write_char(digit(unit, shift)))
        })
    }
}

#[cfg(test)]
mod tests;
