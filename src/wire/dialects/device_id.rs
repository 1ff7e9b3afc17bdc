//! Parser of the device id in a value of a query, for the checks of libfota2 and libfota3.

use std::borrow::Cow;

use crate::firmware::audience::DeviceId;
use crate::wire::text::{decode, unescape};

/// Returns the id in a value, and the text by which the id is shown. `is_unique`: the value is the unique id of a chip,
/// which libfota3 sends as raw bytes on some chips (docs/protocol.md 9c).
pub(super) fn read(raw: &[u8], is_unique: bool) -> Option<(DeviceId, Cow<'_, str>)> {
    let own = match decode(raw.trim_ascii()) {
        Cow::Borrowed(text) => DeviceId::read(text),
        Cow::Owned(text) => {
            let read = DeviceId::read(&text);
            read.map(|(id, text)| (id, Cow::Owned(text.into_owned())))
        }
    };
    let is_raw = || {
        let bytes = unescape(raw);
        let is_text = bytes.iter().all(|byte| matches!(byte, b' '..=b'~'));
        let read = if is_text {
            None
        } else {
            DeviceId::of_raw_bytes(&bytes)
        };
        read.map(|(id, text)| (id, Cow::Owned(text)))
    };
    own.or_else(|| if is_unique { is_raw() } else { None })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(raw: &[u8], is_unique: bool) -> Option<String> {
        read(raw, is_unique).map(|(id, text)| {
            // The shown text is parsed as the same id.
            assert_eq!(DeviceId::parse(&text), Some(id));
            text.into_owned()
        })
    }

    #[test]
    fn an_id_is_parsed_without_quotes_spaces_and_separators() {
        for (raw, expected) in [
            (&b"862991443753386"[..], "862991443753386"),
            (b"%22862991443753386%22", "862991443753386"),
            (b"%2B862991443753386", "862991443753386"),
            (b"\"862991443753386\"", "862991443753386"),
            (b" 862991443753386 ", "862991443753386"),
            (b"a1%3Ab2%3Ac3%3Ad4%3Ae5%3Af6", "a1b2c3d4e5f6"),
            ("“862991443753386”".as_bytes(), "862991443753386"),
        ] {
            assert_eq!(
                text(raw, false).as_deref(),
                Some(expected),
                "{}",
                raw.escape_ascii()
            );
        }
    }

    #[test]
    fn only_a_unique_id_may_be_raw_bytes() {
        let raw = b"\x01\x02\x80\xff0A%00\x7f";
        assert_eq!(text(raw, true).as_deref(), Some("010280FF3041007F"));
        assert_eq!(text(raw, false), None);
        assert_eq!(text(b"../etc", true), None);
        assert_eq!(text(b"\0\0\0\0", true), None);
        assert_eq!(text(b"nil", true), None);
    }
}
