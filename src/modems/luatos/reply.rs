//! Reply parser of the C client: Node's http_parser, as far as the modules depend on it. Used by
//! the [client](super) only. It is tolerant (lower-case names, no reason phrase, HTTP/1.0, an empty
//! value); the faults of the cores are in the code around it.

/// Head of a reply, as far as the client examines it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Status code.
    pub status: u16,
    /// Content-Length.
    pub length: Option<u64>,
    /// Whether a space was between `Content-Length:` and its number.
    pub has_space: bool,
    /// Whether the header is `Transfer-Encoding: chunked`.
    pub chunked: bool,
    /// First byte position of Content-Range. The client ignores it. The emulation uses it to find
    /// out whether the assembled parts are a firmware.
    pub range_start: Option<u64>,
}

/// Returns the end of the head: the index after the empty line.
pub(super) fn end_of_head(bytes: &[u8]) -> Option<usize> {
    bytes
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .map(|at| at.saturating_add(4))
}

/// Parses a complete head, including its empty line. The error says what is invalid.
pub(super) fn read_head(block: &[u8]) -> Result<Head, String> {
    let mut lines = block
        .split(|&byte| byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let mut head = Head {
        status: read_status(lines.next().unwrap_or_default())?,
        length: None,
        has_space: true,
        chunked: false,
        range_start: None,
    };
    for line in lines {
        // A line that begins with a space continues the previous line.
        if line.is_empty() || line.first().is_some_and(|&byte| is_blank(byte)) {
            continue;
        }
        let mut halves = line.splitn(2, |&byte| byte == b':');
        let name = halves.next().unwrap_or_default();
        let Some(raw) = halves.next() else {
            return Err(format!(
                "a header line without a colon: {}",
                printable(line)
            ));
        };
        let value = raw.trim_ascii();
        if name.eq_ignore_ascii_case(b"content-length") {
            head.length = Some(number(value).ok_or("Content-Length is not a number")?);
            head.has_space = raw.first() == Some(&b' ');
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            head.chunked = value.eq_ignore_ascii_case(b"chunked");
        } else if name.eq_ignore_ascii_case(b"content-range") {
            head.range_start = value
                .strip_prefix(b"bytes ")
                .and_then(|range| range.split(|&byte| byte == b'-').next())
                .and_then(number);
        }
    }
    Ok(head)
}

/// Parses `HTTP/1.1 200 OK`: any version, with or without a reason phrase.
fn read_status(line: &[u8]) -> Result<u16, String> {
    let wrong = || format!("no status line: {}", printable(line));
    let rest = line.strip_prefix(b"HTTP/").ok_or_else(wrong)?;
    let mut words = rest.split(|&byte| byte == b' ');
    match words.next().unwrap_or_default() {
        [major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {}
        _ => return Err(wrong()),
    }
    let code = words.next().unwrap_or_default();
    if code.len() != 3 {
        return Err(wrong());
    }
    number(code)
        .and_then(|status| u16::try_from(status).ok())
        .ok_or_else(wrong)
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Returns the first bytes as printable text, for use in a sentence.
fn printable(bytes: &[u8]) -> String {
    let mut text = String::new();
    for &byte in bytes.iter().take(40) {
        text.extend(std::ascii::escape_default(byte).map(char::from));
    }
    text
}

/// Decoder of a body.
#[derive(Debug)]
pub(super) enum Body {
    /// Body with this number of bytes still missing; later bytes are dropped.
    Counted(u64),
    /// Chunked body.
    Chunked(Chunks),
    /// Body that lasts until the close.
    Rest,
}

impl Body {
    /// Takes the body's bytes out of one recv. Returns `Ok(true)` if the body is complete.
    pub fn feed(&mut self, bytes: &[u8], into: &mut Vec<u8>) -> Result<bool, String> {
        match self {
            Body::Counted(left) => {
                let missing = usize::try_from(*left).unwrap_or(usize::MAX);
                let taken = bytes.get(..missing).unwrap_or(bytes);
                into.extend_from_slice(taken);
                *left = left.saturating_sub(u64::try_from(taken.len()).unwrap_or(u64::MAX));
                Ok(*left == 0)
            }
            Body::Chunked(chunks) => chunks.feed(bytes, into),
            Body::Rest => {
                into.extend_from_slice(bytes);
                Ok(false)
            }
        }
    }
}

/// State of the decoder of a chunked body.
#[derive(Debug, Default)]
pub(super) enum Chunks {
    /// The first digit of a size follows.
    #[default]
    Begin,
    /// Digits of a size follow; contains their value so far.
    Size(u64),
    /// An extension or the CR after the size follows.
    AfterSize(u64),
    /// Data follows; contains the number of missing bytes.
    Data(u64),
    /// The CRLF after the data follows.
    AfterData,
    /// Lines after the last chunk follow; true if the current line is not empty.
    Trailer(bool),
    /// The body is complete.
    Done,
}

impl Chunks {
    fn feed(&mut self, mut bytes: &[u8], into: &mut Vec<u8>) -> Result<bool, String> {
        while let Some((&byte, rest)) = bytes.split_first() {
            if let Chunks::Data(left) = self {
                let missing = usize::try_from(*left).unwrap_or(usize::MAX);
                let (taken, after) = bytes.split_at_checked(missing).unwrap_or((bytes, &[]));
                into.extend_from_slice(taken);
                *left = left.saturating_sub(u64::try_from(taken.len()).unwrap_or(u64::MAX));
                if *left == 0 {
                    *self = Chunks::AfterData;
                }
                bytes = after;
                continue;
            }
            *self = self.after(byte)?;
            bytes = rest;
        }
        Ok(matches!(self, Chunks::Done))
    }

    /// Returns the state after one byte that is not data.
    fn after(&self, byte: u8) -> Result<Chunks, String> {
        let digit = char::from(byte).to_digit(16).map(u64::from);
        Ok(match (self, byte) {
            (Chunks::Begin, _) => {
                Chunks::Size(digit.ok_or("a chunk begins without a hexadecimal size")?)
            }
            (Chunks::Size(size), _) if digit.is_some() => Chunks::Size(
                size.checked_mul(16)
                    .and_then(|size| size.checked_add(digit.unwrap_or_default()))
                    .ok_or("a chunk's size is too large")?,
            ),
            (Chunks::Size(size) | Chunks::AfterSize(size), b'\n') => match size {
                0 => Chunks::Trailer(false),
                _ => Chunks::Data(*size),
            },
            (Chunks::Size(size), b'\r' | b';' | b' ') => Chunks::AfterSize(*size),
            (Chunks::Size(_), _) => return Err("a chunk's size is not a hexadecimal number".into()),
            (Chunks::AfterSize(size), _) => Chunks::AfterSize(*size),
            (Chunks::AfterData, b'\r') => Chunks::AfterData,
            (Chunks::AfterData, b'\n') => Chunks::Begin,
            (Chunks::AfterData, _) => {
                return Err("a chunk is longer than its size says".into());
            }
            (Chunks::Trailer(false), b'\n') => Chunks::Done,
            (Chunks::Trailer(true), b'\n') => Chunks::Trailer(false),
            (Chunks::Trailer(filled), b'\r') => Chunks::Trailer(*filled),
            (Chunks::Trailer(_), _) => Chunks::Trailer(true),
            (Chunks::Data(left), _) => Chunks::Data(*left),
            (Chunks::Done, _) => Chunks::Done,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(chunked: &[u8], step: usize) -> (Vec<u8>, bool) {
        let mut body = Body::Chunked(Chunks::default());
        let mut into = Vec::new();
        let mut complete = false;
        for piece in chunked.chunks(step) {
            complete = body.feed(piece, &mut into).unwrap();
        }
        (into, complete)
    }

    #[test]
    fn chunks_are_decoded_however_they_are_split() {
        let sent = b"4;x=1\r\nWiki\r\nA\r\n0123456789\r\n0\r\nA: b\r\n\r\n";
        for step in 1..sent.len() {
            assert_eq!(decoded(sent, step), (b"Wiki0123456789".to_vec(), true));
        }
        assert_eq!(decoded(b"4\r\nWiki\r\n0\r\n", 3), (b"Wiki".to_vec(), false));
    }

    #[test]
    fn an_invalid_chunk_is_refused() {
        for wrong in [&b"zz\r\n"[..], b"1\r\nab\r\n", b"ffffffffffffffffff\r\n"] {
            let mut body = Body::Chunked(Chunks::default());
            assert!(body.feed(wrong, &mut Vec::new()).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_head_is_parsed_as_tolerantly_as_by_http_parser() {
        let head = read_head(
            b"HTTP/1.0 206\r\nx:\r\nCONTENT-length:7\r\n b\r\ncontent-range: bytes 5-11/12\r\n\r\n",
        );
        assert_eq!(
            head,
            Ok(Head {
                status: 206,
                length: Some(7),
                has_space: false,
                chunked: false,
                range_start: Some(5)
            })
        );
        for wrong in [
            &b"<html>\r\n\r\n"[..],
            b"HTTP/1.1\r\n\r\n",
            b"HTTP/1.1 20 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nnonsense\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        ] {
            assert!(read_head(wrong).is_err(), "{wrong:?}");
        }
    }
}
