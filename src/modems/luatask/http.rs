//! Parsing of a reply as in LuaTask's http.lua (docs/protocol.md 2b). Used by [`super::LuaTask`].

use crate::modems::lua;
use crate::modems::rng::Rng;

/// Number of bytes of a refusal's body that are kept. The client examines at most 200 of them.
const MAX_REFUSAL_BODY: usize = 64 * 1024;

/// Server and path of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) host: String,
    pub(super) port: u16,
    /// Path with the query, in the original bytes.
    pub(super) path: Vec<u8>,
}

impl Target {
    /// Parses a Location, which must be absolute; the scheme may be missing. Returns `None` if it
    /// names no host to connect to, as with every relative Location. Fails for an address that the
    /// emulation cannot request.
    pub(super) fn of_location(location: &[u8]) -> Result<Option<Target>, &'static str> {
        if location.starts_with(b"https://") {
            return Err("the Location is https, which this emulation does not support");
        }
        let rest = location.strip_prefix(b"http://").unwrap_or(location);
        let slash = rest.iter().position(|&byte| byte == b'/');
        let (authority, path) = rest
            .split_at_checked(slash.unwrap_or(rest.len()))
            .unwrap_or((rest, b""));
        let address = authority
            .rsplit(|&byte| byte == b'@')
            .next()
            .unwrap_or_default();
        let address = String::from_utf8_lossy(address);
        let (host, port) = match address.split_once(':') {
            Some((host, port)) => (host, port.parse().ok()),
            None => (&*address, Some(80)),
        };
        Ok(match port {
            Some(port) if !host.is_empty() => Some(Target {
                host: host.to_owned(),
                port,
                path: if path.is_empty() { b"/" } else { path }.to_vec(),
            }),
            _ => None,
        })
    }
}

/// A reply whose head has been received.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// Digits that the status pattern matched.
    pub(super) status: String,
    pub(super) location: Option<Vec<u8>>,
    /// `Content-Length`; `None` if missing, where http.lua uses 0x7FFFFFFF.
    pub(super) length: Option<u64>,
    /// `Content-Range: bytes <first>-..`.
    first: Option<u64>,
    /// `Content-Range: ../<total>`.
    range_total: Option<u64>,
    pub(super) chunked: bool,
    /// Received bytes of a chunked body that are not decoded yet.
    pub(super) undecoded: Vec<u8>,
    /// 2G: the file. Otherwise the body of a refusal.
    pub(super) body: Vec<u8>,
    /// Number of body bytes received, at most `length`.
    pub(super) got: u64,
    /// Number of recvs that contained a part of the body.
    pub(super) pieces: u32,
}

impl Answer {
    /// Parses the head in `buffer`. `end` is the offset of the CRLF of the last header, which the
    /// blank line follows.
    pub(super) fn read(buffer: &[u8], end: usize) -> Result<Answer, &'static str> {
        let (status, from) = status(buffer).ok_or("no status in the answer")?;
        let mut answer = Answer {
            status: String::from_utf8_lossy(status).into_owned(),
            ..Answer::default()
        };
        let until = end.saturating_add(2);
        for (name, value) in headers(buffer.get(from..until).unwrap_or_default()) {
            match name {
                b"Content-Length" => {
                    let digits = value.trim_ascii();
                    match lua::digits(digits) {
                        Some((digits, b"")) => answer.length = Some(lua::number(digits)),
                        _ => return Err("Content-Length is not a number"),
                    }
                }
                b"Content-Range" => {
                    answer.range_total = lua::digits_after(value, b"/").map(lua::number);
                    answer.first = lua::digits_after(value, b"bytes ").map(lua::number);
                }
                b"Location" => answer.location = Some(value.to_vec()),
                name if name.eq_ignore_ascii_case(b"Transfer-Encoding") => {
                    answer.chunked |= value.eq_ignore_ascii_case(b"chunked");
                }
                _ => {}
            }
        }
        Ok(answer)
    }

    pub(super) fn is_200_or_206(&self) -> bool {
        self.status == "200" || self.status == "206"
    }

    /// Returns the size of the file as 4G determines it: the number after the `/` of
    /// `Content-Range`, or else `Content-Length`.
    pub(super) fn total(&self) -> Option<u64> {
        self.range_total.or(self.length)
    }

    /// Returns the position of the body in the file, as stated in the reply. The client ignores it.
    pub(super) fn starts_at(&self) -> u64 {
        match self.first {
            Some(first) if self.status == "206" => first,
            _ => 0,
        }
    }

    pub(super) fn store(&mut self, bytes: &[u8]) {
        if self.status == "200" || self.body.len() < MAX_REFUSAL_BODY {
            self.body.extend_from_slice(bytes);
        }
    }
}

/// Finds the first match of `%s(%d+)%s.-\r\n`: returns the digits and the offset after the CRLF.
fn status(buffer: &[u8]) -> Option<(&[u8], usize)> {
    let mut at = 0_usize;
    loop {
        let space = at.checked_add(
            buffer
                .get(at..)?
                .iter()
                .position(|&byte| lua::is_space(byte))?,
        )?;
        at = space.checked_add(1)?;
        let Some((digits, behind)) = buffer.get(at..).and_then(lua::digits) else {
            continue;
        };
        if !behind.first().is_some_and(|&byte| lua::is_space(byte)) {
            continue;
        }
        let from = at.checked_add(digits.len())?.checked_add(1)?;
        if let Some(line_end) = lua::find(buffer, b"\r\n", from) {
            return Some((digits, line_end.checked_add(2)?));
        }
    }
}

/// Equivalent of `string.gmatch(text, "(.-):%s*(.-)\r\n")`. If the match fails at one colon, the
/// next colon is tried, so a name can contain line ends. `%s*` gives up spaces only if no CRLF
/// follows otherwise.
fn headers(text: &[u8]) -> Vec<(&[u8], &[u8])> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((name, value, behind)) = header(rest) {
        found.push((name, value));
        rest = behind;
    }
    found
}

type Header<'t> = (&'t [u8], &'t [u8], &'t [u8]);

/// Returns one match at the beginning of `text`: name, value and the rest.
fn header(text: &[u8]) -> Option<Header<'_>> {
    let mut from = 0;
    loop {
        let colon = lua::find(text, b":", from)?;
        let name = text.get(..colon)?;
        from = colon.checked_add(1)?;
        let behind = text.get(from..)?;
        let spaces = behind.len().saturating_sub(lua::skip_space(behind).len());
        for eaten in (0..=spaces).rev() {
            let value = behind.get(eaten..)?;
            if let Some(end) = lua::find(value, b"\r\n", 0) {
                return Some((name, value.get(..end)?, value.get(end.checked_add(2)?..)?));
            }
        }
    }
}

/// Parses the first chunk: returns its content and its length including the frame; `None` while the
/// chunk is incomplete. The content of the last chunk is empty. Fails if the size is missing.
pub(super) fn chunk(text: &[u8]) -> Result<Option<(&[u8], usize)>, &'static str> {
    let Some(line_end) = lua::find(text, b"\r\n", 0) else {
        return Ok(None);
    };
    let line = text.get(..line_end).unwrap_or_default();
    let digits = line
        .iter()
        .take_while(|byte| byte.is_ascii_hexdigit())
        .count();
    let size = line
        .get(..digits)
        .and_then(|hex| std::str::from_utf8(hex).ok())
        .and_then(|hex| u64::from_str_radix(hex, 16).ok())
        .ok_or("a chunk without a size")?;
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    let start = line_end.saturating_add(2);
    let end = start.saturating_add(size);
    let used = end.saturating_add(2);
    if size == 0 {
        return Ok(Some((&[], start)));
    }
    if text.len() < used {
        return Ok(None);
    }
    Ok(text.get(start..end).map(|content| (content, used)))
}

/// Shuffles the headers with `seed`; 0 keeps their order.
pub(super) fn shuffle(headers: &mut [String], seed: u64) {
    if seed == 0 {
        return;
    }
    let mut rng = Rng::new(seed);
    for last in (1..headers.len()).rev() {
        let choices = u64::try_from(last).unwrap_or(0).saturating_add(1);
        let other = usize::try_from(rng.below(choices)).unwrap_or(0);
        headers.swap(last, other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_without_reason_swallows_the_first_header() {
        let head = b"HTTP/1.1 200\r\nServer: x\r\nContent-Length: 5\r\n\r\n";
        let (digits, from) = status(head).unwrap();
        assert_eq!(digits, b"200");
        assert!(head[from..].starts_with(b"Content-Length"));
        let (_, from) = status(b"HTTP/1.1 200 \r\nServer: x\r\n\r\n").unwrap();
        assert_eq!(from, 15, "with the space it does not");
        assert_eq!(status(b"HTTP/1.0 404 Not Found\r\n\r\n").unwrap().0, b"404");
        assert!(status(b"HTTP/1.1 OK\r\n\r\n").is_none());
        // Without headers, the pattern extends into the blank line but not beyond it.
        assert_eq!(status(b"HTTP/1.1 200\r\n\r\nbody\r\n").unwrap().1, 16);
    }

    #[test]
    fn an_empty_value_swallows_the_next_header_unless_it_is_the_last() {
        let read = headers(b"X-A: \r\nContent-Length: 5\r\nServer:x\r\nX-B:\r\n");
        assert_eq!(
            read,
            [
                (&b"X-A"[..], &b"Content-Length: 5"[..]),
                (b"Server", b"x"),
                (b"X-B", b""),
            ]
        );
        assert_eq!(
            headers(b"no colon\r\nA: b\r\n"),
            [(&b"no colon\r\nA"[..], &b"b"[..])]
        );
    }

    #[test]
    fn a_location_names_a_host_only_if_it_is_absolute() {
        let at = |location: &[u8]| Target::of_location(location).unwrap();
        let there = |host: &str, port, path: &[u8]| {
            Some(Target {
                host: host.into(),
                port,
                path: path.to_vec(),
            })
        };
        assert_eq!(at(b"http://h:81/p?q=1"), there("h", 81, b"/p?q=1"));
        assert_eq!(at(b"h/p"), there("h", 80, b"/p"));
        assert_eq!(at(b"http://u:p@h"), there("h", 80, b"/"));
        assert_eq!(at(b"/p"), None);
        assert_eq!(at(b"h:none/p"), None);
        assert!(Target::of_location(b"https://h/p").is_err());
    }

    #[test]
    fn chunks_are_parsed_one_at_a_time() {
        assert_eq!(chunk(b"5\r\nhel"), Ok(None));
        assert_eq!(chunk(b"5;x=1\r\nhello\r\n0"), Ok(Some((&b"hello"[..], 14))));
        assert_eq!(chunk(b"0\r\n\r\n"), Ok(Some((&b""[..], 3))));
        assert!(chunk(b"hello\r\n").is_err());
        assert_eq!(chunk(b"ffffffffffffffff\r\nx"), Ok(None));
    }

    #[test]
    fn seeds_give_every_order_and_zero_keeps_the_order() {
        let order = |seed| {
            let mut headers = vec!["a".to_owned(), "b".into(), "c".into()];
            shuffle(&mut headers, seed);
            headers.concat()
        };
        assert_eq!(order(0), "abc");
        let drawn: std::collections::BTreeSet<String> = (1..100).map(order).collect();
        assert_eq!(drawn.len(), 6);
        assert_eq!(order(7), order(7));
    }
}
