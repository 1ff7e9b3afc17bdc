//! A decoder of base64 (RFC 4648 section 4).

/// Decodes a text; `None` if it is not base64. The padding may be missing.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    if text.len().saturating_sub(digits.len()) > 2 || digits.len() % 4 == 1 {
        return None;
    }
    let mut bytes = Vec::with_capacity(digits.len() / 4 * 3 + 2);
    for group in digits.as_bytes().chunks(4) {
        let mut bits: u32 = 0;
        for &digit in group {
            bits = bits << 6 | value(digit)?;
        }
        // A short group at the end is decoded as if zeros followed.
        let missing = 4_usize.saturating_sub(group.len());
        for _ in 0..missing {
            bits <<= 6;
        }
        let [_, first, second, third] = bits.to_be_bytes();
        let whole = [first, second, third];
        let count = 3_usize.saturating_sub(missing);
        bytes.extend(whole.iter().take(count));
    }
    Some(bytes)
}

fn value(digit: u8) -> Option<u32> {
    Some(match digit {
        b'A'..=b'Z' => u32::from(digit - b'A'),
        b'a'..=b'z' => u32::from(digit - b'a') + 26,
        b'0'..=b'9' => u32::from(digit - b'0') + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_rfc_are_decoded() {
        for (text, bytes) in [
            ("", ""),
            ("Zg==", "f"),
            ("Zm8=", "fo"),
            ("Zm9v", "foo"),
            ("Zm9vYg==", "foob"),
            ("Zm9vYmE=", "fooba"),
            ("Zm9vYmFy", "foobar"),
            ("Zm9vYg", "foob"),
        ] {
            assert_eq!(decode(text).unwrap(), bytes.as_bytes(), "{text}");
        }
        assert_eq!(decode("+/+/").unwrap(), [0xfb, 0xff, 0xbf]);
        for text in ["Z", "Zg===", "Zm9v!", "Zm 9", "Zm9vZ", "Zg=a", "é"] {
            assert_eq!(decode(text), None, "{text}");
        }
    }
}
