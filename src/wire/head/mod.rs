//! Parser of HTTP request heads as modules send them: in any number of segments, with lines that end in CRLF or a bare
//! LF, and targets with raw spaces and any other bytes (docs/protocol.md 1h, 3).
//!
//! The parser rejects ambiguous input: a folded header line, white space before a colon, a control character. Bytes
//! that can never become a head are rejected at once, not after the time-out.

use std::iter;

use memchr::{memchr, memrchr_iter};
use nom::bytes::complete::{tag, take_while_m_n};
use nom::character::complete::{char, digit1, line_ending};
use nom::combinator::{all_consuming, eof};
use nom::multi::many0_count;
use nom::sequence::{preceded, separated_pair, terminated};
use nom::{IResult, Parser};

/// Length of the longest method, in bytes.
const MAX_METHOD: usize = 16;

/// Text between target and version.
const BEFORE_VERSION: &[u8] = b" HTTP/";

/// Bounds of a head.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Bytes, request line and empty line included.
    pub bytes: usize,
    /// Header lines.
    pub headers: usize,
}

/// Result of parsing the bytes received so far.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum HeadProgress<'a> {
    /// An incomplete head without an error so far.
    Partial,
    /// A complete head and its length in bytes; the bytes after it are the body.
    Complete(Head<'a>, usize),
    /// Bytes that cannot become a head.
    Bad(BadHead),
}

/// Reason why bytes are not a head. Each reason has its own status on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadHead {
    /// 400: no request line, a header line without a colon, a NUL byte …
    Malformed,
    /// 431: more bytes or header lines than the limits allow (414 is not used, because modules know neither status).
    TooLarge,
    /// 505: `HTTP/2.0` and the like.
    Version,
}

/// A parsed head, which borrows from the bytes. A search for a header walks the block again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Head<'a> {
    /// `GET`, `POST`, …: a token of at most 16 bytes.
    pub method: &'a [u8],
    /// The target, as sent: the bytes between the first space and the last ` HTTP/`.
    pub target: &'a [u8],
    /// Minor version: 0 for HTTP/1.0, 1 for HTTP/1.1.
    pub minor: u8,
    /// The header lines, without the empty one.
    pub block: &'a [u8],
}

impl<'a> Head<'a> {
    /// Returns the value of the first header of this name (in any case), without the white space around it.
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        // Every line was checked when the head was parsed: the part before the colon is the name.
        lines(self.block).find_map(|line| {
            let (found, rest) = line.split_at_checked(name.len())?;
            let value = rest.strip_prefix(b":")?;
            (found.eq_ignore_ascii_case(name.as_bytes())).then(|| value.trim_ascii())
        })
    }

    /// Returns all headers as they were sent, name and value.
    pub fn headers(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        lines(self.block).map_while(header_line)
    }
}

/// Parses a head at the beginning of `bytes`. Empty lines before it are skipped (RFC 9112 2.2). Repeated calls with
/// more bytes are cheap: until the empty line arrives, header lines are only counted.
pub fn read(bytes: &[u8], limits: HeadLimits) -> HeadProgress<'_> {
    let window = bytes.get(..limits.bytes).unwrap_or(bytes);
    let unfinished = if bytes.len() < limits.bytes {
        HeadProgress::Partial
    } else {
        HeadProgress::Bad(BadHead::TooLarge)
    };
    let start = match window.first() {
        Some(b'\r' | b'\n') => match empty_lines(window) {
            Ok((start, _)) => start,
            Err(_) => return unfinished,
        },
        _ => window,
    };
    let Some((after, first)) = line(start) else {
        return if can_begin(start) {
            unfinished
        } else {
            HeadProgress::Bad(BadHead::Malformed)
        };
    };
    let request = match request_line(first) {
        Ok(request) => request,
        Err(bad) => return HeadProgress::Bad(bad),
    };
    let (block, length) = match block(after, limits.headers) {
        Block::Complete(block, rest) => (block, window.len().saturating_sub(rest.len())),
        Block::Unfinished => return unfinished,
        Block::TooManyLines => return HeadProgress::Bad(BadHead::TooLarge),
    };
    if !lines(block).all(|line| header_line(line).is_some()) {
        return HeadProgress::Bad(BadHead::Malformed);
    }
    let head = Head { block, ..request };
    HeadProgress::Complete(head, length)
}

/// The header lines received so far.
enum Block<'a> {
    /// All header lines, and the bytes after the empty line.
    Complete(&'a [u8], &'a [u8]),
    /// No empty line yet.
    Unfinished,
    TooManyLines,
}

/// Finds the empty line. Header lines are not parsed, so a head in many segments stays cheap.
fn block(input: &[u8], most: usize) -> Block<'_> {
    let mut rest = input;
    let mut count = 0;
    while let Some((after, line)) = line(rest) {
        if line.is_empty() {
            let length = input.len().saturating_sub(rest.len());
            return Block::Complete(input.get(..length).unwrap_or_default(), after);
        }
        if count == most {
            return Block::TooManyLines;
        }
        count += 1;
        rest = after;
    }
    Block::Unfinished
}

fn lines(mut block: &[u8]) -> impl Iterator<Item = &[u8]> {
    iter::from_fn(move || {
        let (after, line) = line(block)?;
        block = after;
        Some(line)
    })
}

/// Parses `*( [ CR ] LF )`.
fn empty_lines(input: &[u8]) -> IResult<&[u8], usize> {
    many0_count(line_ending).parse(input)
}

/// Splits off a line, without its LF or CRLF. Like [`header_line`], this function uses no combinators: both process
/// every byte of every head, and combinators cost twenty instructions per byte.
fn line(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr(b'\n', input)?;
    let (line, after) = input.split_at_checked(end)?;
    let (_, after) = after.split_first()?;
    Some((after, line.strip_suffix(b"\r").unwrap_or(line)))
}

/// Whether these bytes, which are not a whole line yet, can become a request line. A TLS ClientHello, for example,
/// cannot.
fn can_begin(input: &[u8]) -> bool {
    let whole = |rest: &[u8]| rest.is_empty() || rest.starts_with(b" ");
    // A lone CR belongs to an empty line whose LF has not arrived.
    input.is_empty() || input == b"\r" || method(input).is_ok_and(|(rest, _)| whole(rest))
}

fn method(input: &[u8]) -> IResult<&[u8], &[u8]> {
    take_while_m_n(1, MAX_METHOD, is_token).parse(input)
}

/// Parses `method SP target SP "HTTP/" version`, split at the first space and at the last ` HTTP/`: the target between
/// them may contain spaces. The block of the returned head is still empty.
fn request_line(line: &[u8]) -> Result<Head<'_>, BadHead> {
    let (rest, method) = terminated(method, char(' '))
        .parse(line)
        .map_err(|_: nom::Err<nom::error::Error<&[u8]>>| BadHead::Malformed)?;
    let (target, version) = memrchr_iter(b' ', rest)
        .filter_map(|at| rest.split_at_checked(at))
        .find(|(_, version)| version.starts_with(BEFORE_VERSION))
        .ok_or(BadHead::Malformed)?;
    if target.is_empty() || !(is_all_text(target) || may_have_controls(target)) {
        return Err(BadHead::Malformed);
    }
    Ok(Head {
        method,
        target,
        minor: minor(version)?,
        block: b"",
    })
}

/// Whether the target is a check of libfota3, in which some modules send the unique id of their chip as raw bytes
/// (docs/protocol.md 9c).
fn may_have_controls(target: &[u8]) -> bool {
    target.starts_with(b"/api/site/turnkey_fota?") && !target.contains(&b'\r')
}

/// Returns the minor version. HTTP/1.2 and later are read as 1.1 (RFC 9110 2.5).
fn minor(version: &[u8]) -> Result<u8, BadHead> {
    match http_version(version) {
        Ok((_, (b"1", b"0"))) => Ok(0),
        Ok((_, (b"1", [_]))) => Ok(1),
        Ok((_, (b"1", _))) | Err(_) => Err(BadHead::Malformed),
        Ok(_) => Err(BadHead::Version),
    }
}

/// Parses ` HTTP/`, digits, and after an optional dot digits again.
fn http_version(input: &[u8]) -> IResult<&[u8], (&[u8], &[u8])> {
    preceded(
        tag(BEFORE_VERSION),
        all_consuming(
            separated_pair(digit1, char('.'), digit1).or(terminated(digit1, eof).map(
                // `HTTP/2` is an unsupported version without a minor number.
                |major: &[u8]| (major, &b""[..]),
            )),
        ),
    )
    .parse(input)
}

/// Parses `name ":" OWS value OWS`. The name must begin the line (no folding), and the colon must follow it directly.
fn header_line(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = memchr(b':', line).filter(|at| *at > 0)?;
    let (name, value) = line.split_at_checked(colon)?;
    let value = value.strip_prefix(b":")?;
    let is_header = name.iter().copied().all(is_token) && is_all_text(value);
    is_header.then(|| (name, value.trim_ascii()))
}

/// Whether the byte is a tchar (RFC 9110 5.6.2).
fn is_token(byte: u8) -> bool {
    let is_mark = matches!(
        byte,
        b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~'
    );
    byte.is_ascii_alphanumeric() || is_mark
}

/// Whether all bytes are text. Without an early exit the compiler can test many bytes at once.
fn is_all_text(bytes: &[u8]) -> bool {
    bytes.iter().fold(true, |all, byte| all & is_text(*byte))
}

/// Whether the byte is not a control character; HTAB does not count as one.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || !byte.is_ascii_control()
}

#[cfg(test)]
mod tests;
