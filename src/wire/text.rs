//! Decoding of received texts: UTF-8 or GBK, with or without percent-encoding. Used by all dialects.
//!
//! Modules encode nothing, so nearly every text is returned as a slice of the buffer. In GBK the second
//! byte of a character is never one of `% & , / = ?`, so bytes may be split at those before they are
//! decoded; it may be `\` or a letter.
//!
//! A few texts are valid in both encodings (`水` alone in GBK is `ˮ` in UTF-8); those are read as UTF-8.

use std::borrow::Cow;

use memchr::memchr;
use nom::character::complete::char;
use nom::combinator::map_opt;
use nom::number::complete::u8 as any_byte;
use nom::sequence::preceded;
use nom::{IResult, Parser};

use super::gbk;

/// Decodes valid `%XX` (anything else stays; `+` stays `+`), then reads the bytes as UTF-8, or as GBK
/// if they are not UTF-8. The result is borrowed if nothing had to change.
pub fn decode(raw: &[u8]) -> Cow<'_, str> {
    match unescape(raw) {
        Cow::Borrowed(bytes) => read(bytes),
        Cow::Owned(bytes) => Cow::Owned(match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => from_gbk(error.as_bytes()),
        }),
    }
}

/// Reads the bytes like [`decode`], but without `%XX`: for UDP and TCP, where a `%` stands for itself.
pub fn read(raw: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(raw) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(from_gbk(raw)),
    }
}

/// Whether these bytes are valid in one of the two encodings.
pub fn is_readable(raw: &[u8]) -> bool {
    std::str::from_utf8(raw).is_ok() || gbk::characters(raw).all(|character| character.is_some())
}

/// Decodes GBK. Bytes that are not GBK either become U+FFFD.
fn from_gbk(raw: &[u8]) -> String {
    gbk::characters(raw)
        .map(|character| character.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect()
}

/// Decodes valid `%XX`.
pub(super) fn unescape(raw: &[u8]) -> Cow<'_, [u8]> {
    // Most texts contain no `%`, so the search for it is the only work.
    if memchr(b'%', raw).is_none() || !raw.windows(3).any(|window| escape(window).is_ok()) {
        return Cow::Borrowed(raw);
    }
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((&first, after)) = rest.split_first() {
        let (after, byte) = escape(rest).unwrap_or((after, first));
        bytes.push(byte);
        rest = after;
    }
    Cow::Owned(bytes)
}

/// Parses `"%" HEXDIG HEXDIG`.
fn escape(input: &[u8]) -> IResult<&[u8], u8> {
    preceded(char('%'), (hex_digit, hex_digit))
        .map(|(high, low)| high << 4 | low)
        .parse(input)
}

fn hex_digit(input: &[u8]) -> IResult<&[u8], u8> {
    map_opt(any_byte, |byte| {
        (byte as char)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    })
    .parse(input)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_that_needs_no_change_is_borrowed() {
        for raw in [
            "",
            "ALIYUN_Luat_V0017_ASR1802",
            "水表 +1",
            "100%",
            "%zz%2",
            "%%4",
        ] {
            assert!(matches!(decode(raw.as_bytes()), Cow::Borrowed(text) if text == raw));
        }
    }

    #[test]
    fn valid_escapes_are_decoded_and_others_stay() {
        for (raw, text) in [
            ("a%20b", "a b"),
            ("%41%zz%4", "A%zz%4"),
            ("%%41", "%A"),
            ("%2541", "%41"),
            ("a+b%2B", "a+b+"),
            ("%E6%b0%B4", "水"),
        ] {
            assert_eq!(decode(raw.as_bytes()), text);
        }
    }

    #[test]
    fn bytes_that_are_not_utf_8_are_gbk() {
        assert_eq!(decode(b"\xcb\xae\xb1\xed"), "水表");
        assert_eq!(decode(b"%CB%ae\xb1%ED"), "水表");
        assert_eq!(decode(b"\xff"), "\u{fffd}");
        // The first three bytes are a byte order mark in UTF-8 and a text in GBK; nothing is lost.
        assert_eq!(read("\u{feff}a".as_bytes()), "\u{feff}a");
    }

    #[test]
    fn a_percent_sign_is_itself_where_nothing_is_encoded() {
        assert_eq!(read(b"100%25"), "100%25");
        assert_eq!(read(b"\xb1\xed"), "表");
    }

    #[test]
    fn readable_bytes_are_utf_8_or_gbk() {
        assert!(is_readable("水".as_bytes()) && is_readable(b"\xb1\xed") && is_readable(b""));
        assert!(!is_readable(b"\xff\xff") && !is_readable(b"\xcb"));
    }

    #[test]
    fn gbk_never_hides_a_byte_at_which_texts_are_split() {
        for separator in b"%&,/=?" {
            for lead in 0x81..=0xfe {
                assert!(!is_readable(&[lead, *separator]));
            }
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(raw in proptest::collection::vec(any::<u8>(), 0..60)) {
            decode(&raw);
            read(&raw);
            is_readable(&raw);
        }

        #[test]
        fn encoded_text_is_decoded_to_the_same(text in ".{0,20}") {
            let encoded: String = text.bytes().map(|b| format!("%{b:02X}")).collect();
            prop_assert_eq!(decode(encoded.as_bytes()), text);
        }
    }
}
