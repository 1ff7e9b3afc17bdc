//! Lua patterns of the vendor's scripts, applied to the bytes of a reply and matched by hand. Used
//! by the three Luat clients ([`super::first_edition`], [`super::updatehttp`], [`super::luatask`]).
//!
//! The functions are not parsers. A pattern is anchored only if it says so, does not know lines,
//! and its `%s*` matches CR and LF like any other space. The worst failures of the scripts result
//! from this, so each function does exactly what its pattern does.

#[cfg(test)]
pub(super) mod playback;

/// Whether a byte matches `%s` of Lua in the C locale.
pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

/// Equivalent of `string.find(text, needle, from, true)`, with offsets from 0.
pub(super) fn find(text: &[u8], needle: &[u8], from: usize) -> Option<usize> {
    let rest = text.get(from..)?;
    rest.windows(needle.len())
        .position(|window| window == needle)
        .and_then(|offset| from.checked_add(offset))
}

/// Matches `^(%d+)`: returns the leading digits and the rest.
pub(super) fn digits(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let count = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if count == 0 {
        return None;
    }
    text.split_at_checked(count)
}

/// Equivalent of `tonumber` for a string of digits; saturates at `u64::MAX`.
pub(super) fn number(digits: &[u8]) -> u64 {
    digits.iter().fold(0_u64, |value, digit| {
        value
            .saturating_mul(10)
            .saturating_add(u64::from(digit.wrapping_sub(b'0')))
    })
}

/// Matches `needle(%d+)` at the first possible place; `needle` is plain text.
pub(super) fn digits_after<'t>(text: &'t [u8], needle: &[u8]) -> Option<&'t [u8]> {
    let mut from = 0;
    loop {
        let at = find(text, needle, from)?;
        let behind = text.get(at.checked_add(needle.len())?..)?;
        if let Some((found, _)) = digits(behind) {
            return Some(found);
        }
        from = at.checked_add(1)?;
    }
}

/// Matches `"name":%s*"(.-)"`; `name` includes its quotation marks and the colon. The value ends at
/// the next quotation mark, even at an escaped one: Lua does not know escapes.
pub(super) fn quoted<'t>(text: &'t [u8], name: &[u8]) -> Option<&'t [u8]> {
    let mut from = 0;
    loop {
        let at = find(text, name, from)?;
        let behind = skip_space(text.get(at.checked_add(name.len())?..)?);
        if let Some(value) = behind.strip_prefix(b"\"")
            && let Some(end) = value.iter().position(|&byte| byte == b'"')
        {
            return value.get(..end);
        }
        from = at.checked_add(1)?;
    }
}

/// Matches `"name":%s*(%d+)`; `name` includes its quotation marks and the colon.
pub(super) fn number_value(text: &[u8], name: &[u8]) -> Option<u64> {
    let mut from = 0;
    loop {
        let at = find(text, name, from)?;
        let behind = skip_space(text.get(at.checked_add(name.len())?..)?);
        if let Some((found, _)) = digits(behind) {
            return Some(number(found));
        }
        from = at.checked_add(1)?;
    }
}

/// Returns the text after the longest leading run of `%s`.
pub(super) fn skip_space(text: &[u8]) -> &[u8] {
    let count = text.iter().take_while(|&&byte| is_space(byte)).count();
    text.get(count..).unwrap_or_default()
}

/// Whether the bytes are text of a person or a web server (HTML, JSON, plain text in any encoding)
/// and therefore not firmware: they contain no control character except tab, CR and LF. Every
/// package of docs/protocol.md section 5 begins with a binary head and is not taken for text. The
/// module itself has no such test: it flashes the text.
pub(super) fn is_text(body: &[u8]) -> bool {
    !body.is_empty()
        && body
            .iter()
            .all(|&byte| matches!(byte, b'\t' | b'\r' | b'\n') || (byte >= 0x20 && byte != 0x7f))
}

/// Returns the first characters of a body as printable text, at most 60, for use in a sentence.
pub(super) fn excerpt(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let mut short: String = text
        .chars()
        .take(60)
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect();
    if text.chars().nth(60).is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_ends_at_the_next_quotation_mark_even_an_escaped_one() {
        let body = br#"{"code": 27, "msg":
            "\u5df2"}"#;
        assert_eq!(quoted(body, b"\"msg\":"), Some(&br"\u5df2"[..]));
        assert_eq!(quoted(br#""msg":"a\"b""#, b"\"msg\":"), Some(&br"a\"[..]));
        assert_eq!(quoted(br#""msg": 5"#, b"\"msg\":"), None);
        assert_eq!(number_value(body, b"\"code\":"), Some(27));
        assert_eq!(number_value(br#""code":"27""#, b"\"code\":"), None);
    }

    #[test]
    fn digits_are_searched_at_every_place_of_the_needle() {
        assert_eq!(
            digits_after(
                b"Content-Length: x Content-Length: 12;",
                b"Content-Length: "
            ),
            Some(&b"12"[..])
        );
        assert_eq!(
            digits_after(b"Content-Length:12", b"Content-Length: "),
            None
        );
        assert_eq!(number(b"0042"), 42);
        assert_eq!(number(b"99999999999999999999999"), u64::MAX);
    }

    #[test]
    fn text_is_distinguished_from_firmware() {
        assert!(is_text(b"<html>\r\n\tno</html>"));
        assert!(is_text("没有新版本".as_bytes()));
        assert!(!is_text(b""));
        assert!(!is_text(b"\x18\x72\xc3\xea"));
        assert_eq!(excerpt(&[b'a'; 61]).chars().count(), 61);
    }
}
