//! A parser of HTTP replies as strict as the strictest generation of modules (docs/protocol.md 0):
//! every module accepts a reply that it accepts.

use std::io::Read;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::ensure;

/// Every status that this server uses, with its reason phrase.
const REASONS: [(u16, &str); 19] = [
    (200, "OK"),
    (206, "Partial Content"),
    (302, "Found"),
    (304, "Not Modified"),
    (400, "Bad Request"),
    (403, "Forbidden"),
    (404, "Not Found"),
    (405, "Method Not Allowed"),
    (411, "Length Required"),
    (413, "Content Too Large"),
    (408, "Request Timeout"),
    (413, "Content Too Large"),
    (412, "Precondition Failed"),
    (416, "Range Not Satisfiable"),
    (417, "Expectation Failed"),
    (431, "Request Header Fields Too Large"),
    (501, "Not Implemented"),
    (503, "Service Unavailable"),
    (505, "HTTP Version Not Supported"),
];

/// A reply that passed all checks.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub head: String,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(other, _)| other == name)
            .map(|(_, value)| value.as_str())
    }

    pub fn content_length(&self) -> u64 {
        self.header("Content-Length").unwrap().parse().unwrap()
    }

    /// The code in the body of a refusal.
    pub fn code(&self) -> Option<u32> {
        let body: serde_json::Value = serde_json::from_slice(&self.body).ok()?;
        u32::try_from(body.get("code")?.as_u64()?).ok()
    }

    /// The head and up to 200 bytes of the body, for messages.
    pub fn show(&self) -> String {
        let body = &self.body[..self.body.len().min(200)];
        format!("{}{}", show(self.head.as_bytes()), show(body))
    }

    /// Fails unless this is a refusal that every client accepts: this status and code, at most 200
    /// bytes, `msg` made of `\uXXXX` only.
    pub fn must_refuse(&self, status: u16, code: u32) -> Result<(), String> {
        ensure!(
            self.status == status,
            "status {} instead of {status}: {}",
            self.status,
            self.show()
        );
        ensure!(
            self.body.len() <= 200,
            "a body of {} bytes",
            self.body.len()
        );
        let body = std::str::from_utf8(&self.body).map_err(|_| "no text".to_owned())?;
        let rest = body
            .strip_prefix(&format!("{{\"code\":{code},\"msg\":\""))
            .or_else(|| body.strip_prefix(&format!("{{\"code\": {code}, \"msg\": \"")))
            .ok_or_else(|| format!("not code {code}: {body}"))?;
        let message = rest
            .strip_suffix("\"}")
            .ok_or_else(|| format!("no end: {body}"))?;
        ensure!(!message.is_empty(), "an empty msg: {body}");
        // The 2G client removes each `\u` and reads the rest as hexadecimal digits.
        for unit in message.as_bytes().chunks(6) {
            ensure!(
                unit.len() == 6
                    && unit.starts_with(b"\\u")
                    && unit[2..].iter().all(u8::is_ascii_hexdigit),
                "msg holds more than \\uXXXX: {body}"
            );
        }
        Ok(())
    }

    /// Fails unless this is the whole file with status 200, in the form that every client accepts.
    pub fn must_be_file(&self, bytes: &[u8]) -> Result<(), String> {
        ensure!(self.status == 200, "not 200: {}", self.show());
        ensure!(
            self.body == bytes,
            "{} bytes that are not the file's {}",
            self.body.len(),
            bytes.len()
        );
        Ok(())
    }

    /// Fails unless this is bytes `start..end` of the file with status 206.
    pub fn must_be_part(&self, bytes: &[u8], start: usize, end: usize) -> Result<(), String> {
        ensure!(self.status == 206, "not 206: {}", self.show());
        let range = format!("bytes {start}-{}/{}", end - 1, bytes.len());
        ensure!(
            self.header("Content-Range") == Some(range.as_str()),
            "not `Content-Range: {range}`: {}",
            show(self.head.as_bytes())
        );
        ensure!(
            self.body == bytes[start..end],
            "other bytes than {start}..{end} of the file"
        );
        Ok(())
    }
}

/// Bytes as text for a message, cut after 700 bytes.
pub fn show(bytes: &[u8]) -> String {
    let cut = bytes.len().min(700);
    let dots = if cut < bytes.len() { "…" } else { "" };
    format!("{}{dots}", bytes[..cut].escape_ascii())
}

/// Reads to the end of the stream and checks the whole reply. A reset is an error.
pub fn read(stream: &mut TcpStream, head_only: bool) -> Result<Reply, String> {
    let (raw, first) = read_raw(stream, Duration::from_secs(20))?;
    let reply = parse(&raw, head_only)?;
    // The head must arrive in one write: the oldest LuatOS cores lose a head that arrives in two segments.
    ensure!(
        first >= reply.head.len(),
        "the head came in pieces, the first of {first} bytes: {}",
        reply.show()
    );
    if reply.body.len() <= 200 {
        ensure!(
            first == raw.len(),
            "a small body came apart from its head: {}",
            reply.show()
        );
    }
    Ok(reply)
}

/// All bytes up to the end of the stream, and the number of bytes that the first read returned.
pub fn read_raw(stream: &mut TcpStream, patience: Duration) -> Result<(Vec<u8>, usize), String> {
    let end = Instant::now() + patience;
    let mut raw = Vec::new();
    let mut first = 0;
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let left = end
            .checked_duration_since(Instant::now())
            .filter(|left| !left.is_zero())
            .ok_or_else(|| format!("not closed within {patience:?}; so far: {}", show(&raw)))?;
        stream.set_read_timeout(Some(left)).unwrap();
        match stream.read(&mut buffer) {
            Ok(0) => return Ok((raw, first)),
            Ok(count) => {
                raw.extend_from_slice(&buffer[..count]);
                if first == 0 {
                    first = count;
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => {
                return Err(format!("{error} after {} bytes: {}", raw.len(), show(&raw)));
            }
        }
    }
}

/// Parses a whole reply and checks every byte.
pub fn parse(raw: &[u8], head_only: bool) -> Result<Reply, String> {
    let whole = || show(raw);
    let end = raw
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .ok_or_else(|| format!("no head: {}", whole()))?
        + 4;
    let (head, body) = raw.split_at(end);
    ensure!(head.len() < 1400, "a head of {} bytes", head.len());
    let head = std::str::from_utf8(head).map_err(|_| format!("not ASCII: {}", whole()))?;
    ensure!(
        head.replace("\r\n", "")
            .bytes()
            .all(|byte| (b' '..=b'~').contains(&byte)),
        "a bare CR or LF, or a character that is no ASCII text: {}",
        whole()
    );
    let mut lines = head[..head.len() - 4].split("\r\n");
    let status_line = lines.next().unwrap();
    let status: u16 = status_line
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3))
        .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_digit()))
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| format!("no status line: {}", whole()))?;
    let reason = REASONS
        .iter()
        .find(|(other, _)| *other == status)
        .map(|(_, reason)| *reason)
        .ok_or_else(|| format!("an unexpected status: {}", whole()))?;
    ensure!(
        status_line == format!("HTTP/1.1 {status} {reason}"),
        "not exactly `HTTP/1.1 {status} {reason}`: {}",
        whole()
    );
    let mut headers: Vec<(String, String)> = Vec::new();
    for line in lines {
        let (name, value) = line
            .split_once(": ")
            .ok_or_else(|| format!("not `Name: value`: {line:?} in {}", whole()))?;
        let title_case = name.split('-').all(|word| {
            word.starts_with(|c: char| c.is_ascii_uppercase())
                && word
                    .chars()
                    .skip(1)
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
        });
        ensure!(
            title_case || name == "ETag",
            "not in Title-Case: {name:?} in {}",
            whole()
        );
        ensure!(
            !value.is_empty() && value.trim() == value,
            "an empty value or more than one space: {line:?} in {}",
            whole()
        );
        ensure!(
            headers.iter().all(|(other, _)| other != name),
            "twice {name}: {}",
            whole()
        );
        headers.push((name.to_owned(), value.to_owned()));
    }
    let reply = Reply {
        status,
        headers,
        body: body.to_vec(),
        head: head.to_owned(),
    };
    ensure!(
        reply.header("Connection") == Some("close"),
        "no `Connection: close`: {}",
        whole()
    );
    for name in ["Transfer-Encoding", "Content-Encoding"] {
        ensure!(reply.header(name).is_none(), "{name}: {}", whole());
    }
    let length = reply
        .header("Content-Length")
        .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_digit()))
        .and_then(|digits| digits.parse::<u64>().ok())
        .ok_or_else(|| format!("no Content-Length: {}", whole()))?;
    if head_only || status == 304 {
        ensure!(body.is_empty(), "a body where none may be: {}", whole());
    } else {
        ensure!(
            length == body.len() as u64,
            "Content-Length {length}, but {} bytes: {}",
            body.len(),
            whole()
        );
    }
    ensure!(
        !(matches!(status, 200 | 206) && length == 0),
        "{status} with nothing in it: {}",
        whole()
    );
    let needs = match status {
        206 => Some("Content-Range"),
        302 => Some("Location"),
        304 => Some("ETag"),
        405 => Some("Allow"),
        503 => Some("Retry-After"),
        _ => None,
    };
    if let Some(name) = needs {
        ensure!(
            reply.header(name).is_some(),
            "{status} without {name}: {}",
            whole()
        );
    }
    Ok(reply)
}
