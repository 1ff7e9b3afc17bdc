//! `Range: bytes=…` (RFC 9110 14) as far as modules and tools use it. Used by the HTTP side of the
//! device room.
//!
//! A module that resumes writes what it gets behind what it has, so a range that can be read is always
//! answered with 206 or 416; `bytes=0-` too, which Air720 and RDA8910 send with their first request
//! (docs/protocol.md 1d, 1e).

use nom::bytes::complete::tag_no_case;
use nom::character::complete::{char, digit1, space0};
use nom::combinator::{all_consuming, opt};
use nom::sequence::{delimited, preceded, terminated};
use nom::{IResult, Parser};

/// What a Range header asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// No range, one that cannot be read, or several: the whole file.
    Whole,
    /// `bytes=A-` or `bytes=A-B` (inclusive).
    From(u64, Option<u64>),
    /// `bytes=-N`: the last N bytes.
    Suffix(u64),
}

/// The same against a file of a known size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Answer 200 with everything.
    Whole,
    /// Answer 206 with bytes `start..end` (end not included, start < end).
    Bytes {
        /// First byte.
        start: u64,
        /// One after the last byte.
        end: u64,
    },
    /// Answer 416.
    Unsatisfiable,
}

impl Range {
    /// Reads the value of a Range header. Numbers over 64 bits count as the largest there is.
    pub fn parse(value: Option<&[u8]>) -> Range {
        value
            .and_then(|value| bytes_range(value).ok())
            .map_or(Range::Whole, |(_, range)| match range {
                // Invalid, not unsatisfiable (RFC 9110 14.1.1).
                Range::From(first, Some(last)) if first > last => Range::Whole,
                range => range,
            })
    }

    /// Against a file of `size` bytes.
    pub fn of(self, size: u64) -> Part {
        let (start, end) = match self {
            Range::Whole => return Part::Whole,
            Range::From(first, Some(last)) if first > last => return Part::Whole,
            Range::From(first, None) => (first, size),
            Range::From(first, Some(last)) => (first, last.saturating_add(1).min(size)),
            Range::Suffix(length) => (size.saturating_sub(length), size),
        };
        if start < end {
            Part::Bytes { start, end }
        } else {
            Part::Unsatisfiable
        }
    }
}

/// `"bytes" "=" ( first-last / suffix )`, white space anywhere between them.
fn bytes_range(input: &[u8]) -> IResult<&[u8], Range> {
    let unit = (space0, tag_no_case("bytes"), space0, char('='));
    all_consuming(delimited(unit, first_last.or(suffix), space0)).parse(input)
}

/// `1*DIGIT "-" [ 1*DIGIT ]`
fn first_last(input: &[u8]) -> IResult<&[u8], Range> {
    (terminated(position, dash), opt(position))
        .map(|(first, last)| Range::From(first, last))
        .parse(input)
}

/// `"-" 1*DIGIT`
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

    fn read(value: &str) -> Range {
        Range::parse(Some(value.as_bytes()))
    }

    #[test]
    fn ranges_of_modules_and_tools_are_read() {
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
            assert_eq!(read(value), range, "{value}");
        }
    }

    #[test]
    fn what_cannot_be_read_or_is_several_is_the_whole_file() {
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
            assert_eq!(read(value), Range::Whole, "{value}");
        }
        assert_eq!(Range::parse(None), Range::Whole);
        assert_eq!(Range::parse(Some(b"bytes=\xff-")), Range::Whole);
    }

    #[test]
    fn a_range_is_held_against_the_size() {
        let bytes = |start, end| Part::Bytes { start, end };
        for (range, part) in [
            (Range::Whole, Part::Whole),
            (Range::From(0, None), bytes(0, 100)),
            (Range::From(99, None), bytes(99, 100)),
            (Range::From(100, None), Part::Unsatisfiable),
            (Range::From(u64::MAX, Some(u64::MAX)), Part::Unsatisfiable),
            (Range::From(0, Some(0)), bytes(0, 1)),
            (Range::From(10, Some(19)), bytes(10, 20)),
            (Range::From(10, Some(99)), bytes(10, 100)),
            (Range::From(10, Some(100)), bytes(10, 100)),
            (Range::From(10, Some(u64::MAX)), bytes(10, 100)),
            (Range::From(10, Some(9)), Part::Whole),
            (Range::Suffix(1), bytes(99, 100)),
            (Range::Suffix(100), bytes(0, 100)),
            (Range::Suffix(u64::MAX), bytes(0, 100)),
            (Range::Suffix(0), Part::Unsatisfiable),
        ] {
            assert_eq!(range.of(100), part, "{range:?}");
        }
        assert_eq!(Range::From(0, None).of(0), Part::Unsatisfiable);
        assert_eq!(Range::Suffix(5).of(0), Part::Unsatisfiable);
    }

    proptest! {
        #[test]
        fn no_value_panics_and_every_part_lies_in_the_file(
            value in "(bytes=)?[0-9, \t=-]{0,24}", size: u64,
        ) {
            if let Part::Bytes { start, end } = read(&value).of(size) {
                prop_assert!(start < end && end <= size);
            }
        }

        #[test]
        fn no_bytes_panic(value in proptest::collection::vec(any::<u8>(), 0..40)) {
            Range::parse(Some(&[b"bytes=", &value[..]].concat())).of(1000);
        }
    }
}
