//! Client of the operator port, and a strict parser of its replies.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::packages::noise;
use super::{PATIENCE, Place, Server, listens};
use crate::ensure;

/// A reply that passed all checks.
#[derive(Clone, Debug)]
pub struct ApiReply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl ApiReply {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| {
            panic!("no JSON ({error}), status {}: {}", self.status, self.text())
        })
    }
}

/// A client of the operator port.
pub struct Operator {
    pub address: SocketAddr,
    pub token: String,
    /// Content of the file `read-token`; empty if there is none.
    pub read_token: String,
}

impl Operator {
    /// A server with three releases of two projects.
    pub fn with_releases() -> (Server, Operator) {
        let place = Place::new();
        place.drop_firmware("P/2.0.0/u.bin", &noise(1, 5000));
        place.drop_firmware("P/1.5.0/u.bin", &noise(2, 5000));
        place.drop_firmware("Q_1.0.0_Luat_8955.bin", &noise(3, 5000));
        place.rules(
            "P/release.json",
            json!({"fuse": {"devices": 3, "percent": 20}}),
        );
        let server = Server::start_in(place, &[]);
        let operator = Operator::of(&server);
        operator.wait_for("/api/v1/summary", "all is read", |summary| {
            summary["releases"] == 3 && summary["waiting"] == 0
        });
        (server, operator)
    }

    /// Uploads a file and returns the status.
    pub fn put_file(&self, path: &str, headers: &str, bytes: &[u8]) -> u16 {
        let target = format!("/api/v1/firmware/{path}");
        self.send("PUT", &target, headers, bytes).status
    }

    pub fn of(server: &Server) -> Operator {
        let line = server.wait_for_log("says where the operator is", |line| {
            listens(line, "operator").is_some()
        });
        let kept = |name: &str| {
            let token = std::fs::read_to_string(server.place().state().join(name));
            token.unwrap_or_default().trim().to_owned()
        };
        Operator {
            address: listens(&line, "operator").unwrap(),
            token: kept("operator-token"),
            read_token: kept("read-token"),
        }
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE * 2)).unwrap();
        stream
    }

    /// A request with the right Host, the token if requested, and these headers, each of which ends with CRLF.
    pub fn request(&self, line: &str, token: bool, headers: &str, body: &[u8]) -> Vec<u8> {
        let mut request = format!("{line} HTTP/1.1\r\nHost: {}\r\n{headers}", self.address);
        if token {
            request += &format!("Authorization: Bearer {}\r\n", self.token);
        }
        if !body.is_empty() {
            request += &format!("Content-Length: {}\r\n", body.len());
        }
        let mut bytes = (request + "\r\n").into_bytes();
        bytes.extend_from_slice(body);
        bytes
    }

    /// Sends bytes unchanged, and returns all bytes of the reply.
    pub fn raw(&self, request: &[u8]) -> Result<Vec<u8>, String> {
        let mut stream = self.connect();
        let mut writer = stream.try_clone().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(move || writer.write_all(request));
            let mut raw = Vec::new();
            match stream.read_to_end(&mut raw) {
                Ok(_) => Ok(raw),
                Err(error) => Err(format!("after {} bytes: {error}", raw.len())),
            }
        })
    }

    pub fn try_ask(&self, request: &[u8]) -> Result<ApiReply, String> {
        parse(&self.raw(request)?, request.starts_with(b"HEAD "))
    }

    pub fn ask(&self, request: &[u8]) -> ApiReply {
        self.try_ask(request)
            .unwrap_or_else(|error| panic!("{error}\nrequest: {}", request.escape_ascii()))
    }

    /// Sends a GET with the token.
    pub fn get(&self, target: &str) -> ApiReply {
        self.ask(&self.request(&format!("GET {target}"), true, "", b""))
    }

    /// Sends a GET without a token.
    pub fn get_without_token(&self, target: &str) -> ApiReply {
        self.ask(&self.request(&format!("GET {target}"), false, "", b""))
    }

    /// Sends a request of any method, with the token and a body.
    pub fn send(&self, method: &str, target: &str, headers: &str, body: &[u8]) -> ApiReply {
        let line = format!("{method} {target}");
        let headers = match body.is_empty() && !headers.contains("Content-Length") {
            true => format!("{headers}Content-Length: 0\r\n"),
            false => headers.to_owned(),
        };
        self.ask(&self.request(&line, true, &headers, body))
    }

    pub fn post(&self, target: &str, body: &Value) -> ApiReply {
        self.send("POST", target, "", body.to_string().as_bytes())
    }

    /// Repeats a GET until its JSON fits.
    pub fn wait_for(&self, target: &str, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            let value = self.get(target).json();
            if fits(&value) {
                return value;
            }
            assert!(Instant::now() < end, "never so: {what}: {value}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// The body in chunks (RFC 9112 section 7.1). `None` if the last chunk is missing or bytes follow it.
fn decode_chunks(mut chunks: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = chunks.windows(2).position(|two| two == b"\r\n")?;
        let length = std::str::from_utf8(&chunks[..end]).ok()?;
        let length = usize::from_str_radix(length, 16).ok()?;
        let (data, rest) = chunks[end + 2..].split_at_checked(length)?;
        chunks = rest.strip_prefix(b"\r\n")?;
        match (length, chunks) {
            (0, []) => return Some(body),
            (0, _) => return None,
            _ => body.extend_from_slice(data),
        }
    }
}

/// Parses a reply strictly: status line, headers, and a body of the stated length.
pub fn parse(raw: &[u8], head_only: bool) -> Result<ApiReply, String> {
    let end = raw.windows(4).position(|four| four == b"\r\n\r\n");
    let end = end.ok_or_else(|| format!("no head: {}", raw.escape_ascii()))?;
    let head = std::str::from_utf8(&raw[..end]).map_err(|_| "a head that is no text")?;
    let body = raw[end + 4..].to_vec();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap_or_default();
    let mut words = status.splitn(3, ' ');
    ensure!(words.next() == Some("HTTP/1.1"), "version: {status}");
    let code: u16 = words
        .next()
        .and_then(|code| code.parse().ok())
        .ok_or_else(|| format!("status: {status}"))?;
    ensure!(
        words.next().is_some_and(|r| !r.is_empty()),
        "reason: {status}"
    );
    let mut headers: Vec<(String, String)> = Vec::new();
    for line in lines {
        let (name, value) = line
            .split_once(": ")
            .ok_or_else(|| format!("header: {line}"))?;
        ensure!(
            !headers.iter().any(|(n, _)| n == name),
            "{name} is there twice"
        );
        headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    let reply = ApiReply {
        status: code,
        headers,
        body,
    };
    if reply.header("transfer-encoding").is_some() {
        // A stream of events has no last chunk.
        let body = decode_chunks(&reply.body).unwrap_or(reply.body);
        return Ok(ApiReply { body, ..reply });
    }
    let length: usize = reply
        .header("content-length")
        .and_then(|length| length.parse().ok())
        .ok_or("no length")?;
    let expected = if head_only { 0 } else { length };
    ensure!(
        reply.body.len() == expected,
        "{} bytes of {expected}",
        reply.body.len()
    );
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        ("connection", "close"),
    ] {
        ensure!(reply.header(name) == Some(value), "{name} in {head}");
    }
    let policy = reply.header("content-security-policy").unwrap_or_default();
    ensure!(
        policy.starts_with("default-src 'none'; script-src 'self';"),
        "CSP: {policy}"
    );
    if code >= 400 {
        let problem: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        ensure!(
            head_only || problem.get("status").and_then(Value::as_u64) == Some(code.into()),
            "no problem: {}",
            reply.text()
        );
        ensure!(
            reply.header("content-type") == Some("application/problem+json"),
            "type: {head}"
        );
    }
    Ok(reply)
}
