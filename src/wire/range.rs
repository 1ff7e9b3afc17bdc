//! Range, If-Range and If-None-Match (RFC 9110 13.1 and 14): the part of a file that a request asks for.
//!
//! A module that resumes appends the bytes that it receives, so a valid range always gets 206 or 416. This includes
//! `bytes=0-`, which Air720 and RDA8910 send with their first request (docs/protocol.md 1d, 1e).

use nom::bytes::complete::tag_no_case;
use nom::character::complete::{char, digit1, space0};
use nom::combinator::{all_consuming, opt};
use nom::sequence::{delimited, preceded, terminated};
use nom::{IResult, Parser};

use super::head::Head;
use crate::firmware::ContentId;

/// A Range header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// The whole file: no range, an invalid one, or several.
    Whole,
    /// `bytes=A-` or `bytes=A-B` (inclusive).
    From(u64, Option<u64>),
    /// `bytes=-N`: the last N bytes.
    Suffix(u64),
}

/// A range applied to a file of a known size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SelectedRange {
    /// Reply 200 with the whole file.
    Whole,
    /// Reply 206 with bytes `start..end` (end not included, start < end).
    Bytes {
        /// First byte.
        start: u64,
        /// One after the last byte.
        end: u64,
    },
    /// Reply 416.
    Unsatisfiable,
}

impl Range {
    /// Parses the value of a Range header. Numbers over 64 bits are read as the largest 64-bit number.
    pub fn parse(value: Option<&[u8]>) -> Range {
        value
            .and_then(|value| bytes_range(value).ok())
            .map_or(Range::Whole, |(_, range)| match range {
                // Such a range is invalid, not unsatisfiable (RFC 9110 14.1.1).
                Range::From(first, Some(last)) if first > last => Range::Whole,
                range => range,
            })
    }

    /// Applies the range to a file of `size` bytes.
    pub fn of(self, size: u64) -> SelectedRange {
        let (start, end) = match self {
            Range::Whole => return SelectedRange::Whole,
            Range::From(first, Some(last)) if first > last => return SelectedRange::Whole,
            Range::From(first, None) => (first, size),
            Range::From(first, Some(last)) => (first, last.saturating_add(1).min(size)),
            Range::Suffix(length) => (size.saturating_sub(length), size),
        };
        if start < end {
            SelectedRange::Bytes { start, end }
        } else {
            SelectedRange::Unsatisfiable
        }
    }
}

/// Range headers of a request.
pub struct RangeRequest<'a> {
    /// Whether this is a HEAD request, whose reply has no body.
    pub head_only: bool,
    /// The Range header; [`Range::Whole`] for a HEAD request.
    pub range: Range,
    /// The If-Range header.
    pub if_range: IfRange,
    if_none_match: Option<&'a [u8]>,
}

/// An If-Range header: the range is only valid for this content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfRange {
    /// No such header.
    Absent,
    /// A strong ETag of this server.
    Names(ContentId),
    /// A date, a weak ETag or a foreign one, which matches no content.
    Other,
}

impl<'a> RangeRequest<'a> {
    /// Reads the headers of `head`.
    pub fn of(head: &Head<'a>, head_only: bool) -> RangeRequest<'a> {
        let range = match head_only {
            true => Range::Whole,
            false => Range::parse(head.header("range")),
        };
        let if_range = match head.header("if-range") {
            None => IfRange::Absent,
            Some(tag) => content_of_tag(tag).map_or(IfRange::Other, IfRange::Names),
        };
        RangeRequest {
            head_only,
            range,
            if_range,
            if_none_match: head.header("if-none-match"),
        }
    }

    /// Returns the number of bytes that the client must already have for the range to make sense; `None` if the range
    /// starts at the beginning. For a suffix, which may begin anywhere, this is 0.
    pub fn required_prefix(&self) -> Option<u64> {
        match self.range {
            Range::Whole | Range::From(0, _) => None,
            Range::From(first, _) => Some(first),
            Range::Suffix(_) => Some(0),
        }
    }

    /// Whether If-None-Match names this content.
    pub fn if_none_match_names(&self, content: ContentId) -> bool {
        self.if_none_match.is_some_and(|tags| {
            tags.trim_ascii() == b"*"
                || tags.split(|byte| *byte == b',').any(|tag| {
                    let tag = tag.trim_ascii();
                    content_of_tag(tag.strip_prefix(b"W/").unwrap_or(tag)) == Some(content)
                })
        })
    }

    /// Returns the part to send of a content that the URL names: the whole content if If-Range names another one.
    pub fn part_of_named(&self, content: ContentId, size: u64) -> SelectedRange {
        match self.if_range {
            IfRange::Absent => self.range.of(size),
            IfRange::Names(named) if named == content => self.range.of(size),
            IfRange::Names(_) | IfRange::Other => SelectedRange::Whole,
        }
    }

    /// Returns the part to send of the current file to a client whose download is unknown: any part with an If-Range
    /// that names the file, otherwise only a part from the beginning.
    pub fn part(&self, content: ContentId, size: u64) -> SelectedRange {
        match self.if_range {
            IfRange::Absent if self.required_prefix().is_some() => SelectedRange::Unsatisfiable,
            _ => self.part_of_named(content, size),
        }
    }
}

/// Returns the content that a strong ETag of this server names: the hash in quotes.
fn content_of_tag(tag: &[u8]) -> Option<ContentId> {
    let tag = tag.trim_ascii().strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    ContentId::parse(std::str::from_utf8(tag).ok()?)
}

/// Parses `"bytes" "=" ( first-last / suffix )`, with white space anywhere between them.
fn bytes_range(input: &[u8]) -> IResult<&[u8], Range> {
    let unit = (space0, tag_no_case("bytes"), space0, char('='));
    all_consuming(delimited(unit, first_last.or(suffix), space0)).parse(input)
}

/// Parses `1*DIGIT "-" [ 1*DIGIT ]`.
fn first_last(input: &[u8]) -> IResult<&[u8], Range> {
    (terminated(position, dash), opt(position))
        .map(|(first, last)| Range::From(first, last))
        .parse(input)
}

/// Parses `"-" 1*DIGIT`.
fn suffix(input: &[u8]) -> IResult<&[u8], Range> {
    preceded(dash, position).map(Range::Suffix).parse(input)
}

fn dash(input: &[u8]) -> IResult<&[u8], char> {
    delimited(space0, char('-'), space0).parse(input)
}

fn position(input: &[u8]) -> IResult<&[u8], u64> {
    preceded(space0, digit1)
        .map(|digits: &[u8]| {
            digits.iter().fold(0, |number: u64, digit| {
                number
                    .saturating_mul(10)
                    .saturating_add(u64::from(digit.saturating_sub(b'0')))
            })
        })
        .parse(input)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const A: ContentId = ContentId([0xaa; 32]);
    const B: ContentId = ContentId([0xbb; 32]);

    fn request(range: Range, if_range: IfRange) -> RangeRequest<'static> {
        RangeRequest {
            head_only: false,
            range,
            if_range,
            if_none_match: None,
        }
    }

    fn part(range: Range, if_range: IfRange) -> SelectedRange {
        request(range, if_range).part(A, 1000)
    }

    fn part_of_named(range: Range, if_range: IfRange) -> SelectedRange {
        request(range, if_range).part_of_named(A, 1000)
    }

    fn parse(value: &str) -> Range {
        Range::parse(Some(value.as_bytes()))
    }

    #[test]
    fn ranges_of_modules_and_tools_are_parsed() {
        for (value, range) in [
            ("bytes=0-", Range::From(0, None)),
            ("bytes=1022-", Range::From(1022, None)),
            ("bytes=0-0", Range::From(0, Some(0))),
            ("bytes=10-99", Range::From(10, Some(99))),
            ("bytes=-500", Range::Suffix(500)),
            ("BYTES=7-", Range::From(7, None)),
            (" bytes = 7 - 9 ", Range::From(7, Some(9))),
            ("bytes=\t-9", Range::Suffix(9)),
            ("bytes=99999999999999999999-", Range::From(u64::MAX, None)),
            ("bytes=-99999999999999999999", Range::Suffix(u64::MAX)),
        ] {
            assert_eq!(parse(value), range, "{value}");
        }
    }

    #[test]
    fn an_invalid_or_multiple_range_is_the_whole_file() {
        for value in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=a-",
            "bytes=1",
            "bytes=9-7",
            "bytes=0-1,3-4",
            "bytes=0-,",
            "bytes=+1-",
            "bytes=1--2",
            "bytes=1-2x",
            "lines=1-2",
            "bytes:1-2",
            "0-9",
        ] {
            assert_eq!(parse(value), Range::Whole, "{value}");
        }
        assert_eq!(Range::parse(None), Range::Whole);
        assert_eq!(Range::parse(Some(b"bytes=\xff-")), Range::Whole);
    }

    #[test]
    fn a_range_is_applied_to_the_size() {
        let bytes = |start, end| SelectedRange::Bytes { start, end };
        for (range, part) in [
            (Range::Whole, SelectedRange::Whole),
            (Range::From(0, None), bytes(0, 100)),
            (Range::From(99, None), bytes(99, 100)),
            (Range::From(100, None), SelectedRange::Unsatisfiable),
            (
                Range::From(u64::MAX, Some(u64::MAX)),
                SelectedRange::Unsatisfiable,
            ),
            (Range::From(0, Some(0)), bytes(0, 1)),
            (Range::From(10, Some(19)), bytes(10, 20)),
            (Range::From(10, Some(99)), bytes(10, 100)),
            (Range::From(10, Some(100)), bytes(10, 100)),
            (Range::From(10, Some(u64::MAX)), bytes(10, 100)),
            (Range::From(10, Some(9)), SelectedRange::Whole),
            (Range::Suffix(1), bytes(99, 100)),
            (Range::Suffix(100), bytes(0, 100)),
            (Range::Suffix(u64::MAX), bytes(0, 100)),
            (Range::Suffix(0), SelectedRange::Unsatisfiable),
        ] {
            assert_eq!(range.of(100), part, "{range:?}");
        }
        assert_eq!(Range::From(0, None).of(0), SelectedRange::Unsatisfiable);
        assert_eq!(Range::Suffix(5).of(0), SelectedRange::Unsatisfiable);
    }

    #[test]
    fn every_client_gets_a_part_from_the_beginning() {
        let from_0 = SelectedRange::Bytes {
            start: 0,
            end: 1000,
        };
        assert_eq!(part(Range::Whole, IfRange::Absent), SelectedRange::Whole);
        assert_eq!(part(Range::From(0, None), IfRange::Absent), from_0);
    }

    #[test]
    fn a_later_part_is_sent_to_a_client_that_names_the_content() {
        let rest = SelectedRange::Bytes {
            start: 9,
            end: 1000,
        };
        assert_eq!(part(Range::From(9, None), IfRange::Names(A)), rest);
        assert_eq!(part_of_named(Range::From(9, None), IfRange::Absent), rest);
        for other in [IfRange::Names(B), IfRange::Other] {
            assert_eq!(part(Range::From(9, None), other), SelectedRange::Whole);
            assert_eq!(
                part_of_named(Range::From(9, None), other),
                SelectedRange::Whole
            );
        }
    }

    #[test]
    fn a_client_that_names_no_content_gets_no_later_part() {
        let refused = SelectedRange::Unsatisfiable;
        assert_eq!(part(Range::From(9, None), IfRange::Absent), refused);
        assert_eq!(part(Range::Suffix(9), IfRange::Absent), refused);
    }

    #[test]
    fn a_known_etag_saves_sending_the_file() {
        let has = |tags: &str| {
            let mut request = request(Range::Whole, IfRange::Absent);
            let tags = tags
                .replace('A', &A.to_string())
                .replace('B', &B.to_string());
            request.if_none_match = Some(tags.leak().as_bytes());
            request.if_none_match_names(A)
        };
        assert!(has("\"A\""));
        assert!(has("*"));
        assert!(has("\"B\" , W/\"A\""));
        assert!(!has("\"B\""));
        assert!(!has("A"));
        assert!(!has(""));
    }

    #[test]
    fn only_a_strong_tag_names_a_content() {
        assert_eq!(content_of_tag(format!("\"{A}\"").as_bytes()), Some(A));
        assert_eq!(content_of_tag(format!("W/\"{A}\"").as_bytes()), None);
        assert_eq!(content_of_tag(b"Wed, 21 Oct 2026 07:28:00 GMT"), None);
        assert_eq!(content_of_tag(b"\xff\""), None);
    }

    proptest! {
        #[test]
        fn no_value_panics_and_every_part_lies_in_the_file(
            value in "(bytes=)?[0-9, \t=-]{0,24}", size: u64,
        ) {
            if let SelectedRange::Bytes { start, end } = parse(&value).of(size) {
                prop_assert!(start < end && end <= size);
            }
        }

        #[test]
        fn no_bytes_panic(value in proptest::collection::vec(any::<u8>(), 0..40)) {
            Range::parse(Some(&[b"bytes=", &value[..]].concat())).of(1000);
        }
    }
}
