//! Storage of the version that a device reports, in a few bytes without an allocation.
//!
//! A longer text is abbreviated to its beginning and a hash of the whole text, so that two long versions with the same
//! beginning remain different.

use std::fmt;
use std::hash::Hasher;

use siphasher::sip::SipHasher24;

/// Maximum length of a text, in bytes.
pub const MAX_LENGTH: usize = 22;

/// Maximum number of bytes that are kept of a longer text. `~` and eight hexadecimal digits follow.
const MAX_KEPT: usize = MAX_LENGTH - 9;

/// Version of at most 22 bytes of UTF-8.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShortVersion {
    bytes: [u8; MAX_LENGTH],
    len: u8,
}

impl ShortVersion {
    /// The text, abbreviated if it is longer than 22 bytes.
    pub fn of(text: &str) -> ShortVersion {
        match ShortVersion::whole(text) {
            Some(short) => short,
            None => ShortVersion::whole(&abbreviated(text)).unwrap_or_default(),
        }
    }

    fn whole(text: &str) -> Option<ShortVersion> {
        let mut bytes = [0; MAX_LENGTH];
        bytes
            .get_mut(..text.len())?
            .copy_from_slice(text.as_bytes());
        let len = u8::try_from(text.len()).ok()?;
        Some(ShortVersion { bytes, len })
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        let text = self.bytes.get(..usize::from(self.len)).unwrap_or_default();
        std::str::from_utf8(text).unwrap_or_default()
    }

    /// Whether a text of at most 22 bytes looks like the abbreviation of a longer one.
    pub fn is_abbreviated(text: &str) -> bool {
        // An abbreviation may be up to 3 bytes shorter, if a character of up to 4 bytes did not fit.
        let is_long = text.len() + 3 >= MAX_LENGTH;
        let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let ends = |[mark, hash @ ..]: &[u8; 9]| *mark == b'~' && hash.iter().all(is_digit);
        is_long && text.as_bytes().last_chunk().is_some_and(ends)
    }

    /// Whether a text is stored without abbreviation.
    pub fn holds(text: &str) -> bool {
        text.len() <= MAX_LENGTH
    }
}

fn abbreviated(text: &str) -> String {
    let mut hasher = SipHasher24::new();
    hasher.write(text.as_bytes());
    let hash = hasher.finish() >> 32;
    // Cut at the last boundary between characters.
    let beginning = (0..=MAX_KEPT).rev().find_map(|end| text.get(..end));
    let beginning = beginning.unwrap_or_default();
    format!("{beginning}~{hash:08x}")
}

impl fmt::Debug for ShortVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn long_texts_with_the_same_beginning_stay_different() {
        let (one, other) = ("1.2.3-release-candidate-1", "1.2.3-release-candidate-2");
        assert_ne!(ShortVersion::of(one), ShortVersion::of(other));
        assert_eq!(ShortVersion::of(one), ShortVersion::of(one));
        assert!(ShortVersion::of(one).as_str().starts_with("1.2.3-release~"));
        assert_eq!(ShortVersion::of("999.999.999").as_str(), "999.999.999");
        for whole in [
            "999.999.999",
            "1.0~12345678",
            "2012.001.999-release-1",
            "1.2.3-release~1234567x",
        ] {
            assert!(!ShortVersion::is_abbreviated(whole), "{whole}");
        }
    }

    proptest! {
        #[test]
        fn any_text_can_be_stored(text in any::<String>()) {
            let short = ShortVersion::of(&text);
            prop_assert_eq!(ShortVersion::holds(&text), short.as_str() == text);
            prop_assert!(ShortVersion::holds(&text) || ShortVersion::is_abbreviated(short.as_str()));
            prop_assert_eq!(ShortVersion::of(short.as_str()), short);
            prop_assert_eq!(text.is_empty(), short.as_str().is_empty());
        }
    }
}
