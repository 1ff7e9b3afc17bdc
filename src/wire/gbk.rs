//! GBK decoder: one byte for an ASCII character, two for any other.
//!
//! The table contains only the rows of GB 2312. GBK assigns the rows and columns around them to all other Chinese
//! characters of Unicode 1.1, in Unicode's order, so those are computed.
//!
//! Pairs are decoded as in the Encoding Standard, including its private-use pairs. The four-byte characters of GB 18030
//! are not part of GBK. The table is written by `cargo test --lib writes_the_table -- --ignored`, which uses
//! encoding_rs.

use std::sync::LazyLock;

/// Code points, two bytes each, low byte first, starting with all columns of the rows 0xa1 to 0xa9.
static TABLE: &[u8] = include_bytes!("gbk.bin");

/// Index of the first code point of the rows 0xb0 to 0xf7, of which the table contains only the columns of GB 2312.
const HANZI_START: usize = 9 * COLUMNS;

/// Index of the code points that follow the last of the [`OUTSIDE_GB2312`].
const TAIL_START: usize = HANZI_START + 72 * OF_GB2312;

/// Number of columns in a row: second bytes from 0x40 to 0xfe without 0x7f.
const COLUMNS: usize = 190;

/// Number of the columns of GB 2312, which are the last of a row.
const OF_GB2312: usize = 94;

/// Number of the columns to the left of those of GB 2312.
const LEFT_COLUMNS: usize = COLUMNS - OF_GB2312;

/// The Chinese characters that are not in GB 2312. Computed at the first use, since few texts contain one.
static OUTSIDE_GB2312: LazyLock<Vec<u16>> = LazyLock::new(|| {
    let all = 0x4e00..=0x9fa5_u16;
    let mut is_listed = vec![false; all.len()];
    for code in (HANZI_START..TAIL_START).filter_map(listed) {
        let at = usize::from(code.wrapping_sub(*all.start()));
        if let Some(mark) = is_listed.get_mut(at) {
            *mark = true;
        }
    }
    all.zip(is_listed)
        .filter(|(_, is_listed)| !is_listed)
        .map(|(code, _)| code)
        .collect()
});

/// Decodes the characters of a text; `None` for bytes that are not GBK.
pub fn characters(mut raw: &[u8]) -> impl Iterator<Item = Option<char>> {
    std::iter::from_fn(move || {
        let (&first, rest) = raw.split_first()?;
        raw = rest;
        let code = match (first, rest.split_first()) {
            (0..0x80, _) => return Some(Some(char::from(first))),
            (0x80, _) => return Some(Some('€')),
            (0x81..=0xfe, Some((&second, after))) => {
                let code = pair(first, second);
                // An ASCII byte that does not complete a pair is a character by itself.
                if code.is_some() || !second.is_ascii() {
                    raw = after;
                }
                code
            }
            _ => None,
        };
        Some(code.and_then(|code| char::from_u32(code.into())))
    })
}

fn pair(first: u8, second: u8) -> Option<u16> {
    let column = usize::from(match second {
        0x40..=0x7e => second - 0x40,
        0x80..=0xfe => second - 0x41,
        _ => return None,
    });
    let row = usize::from(first);
    match (first, column.checked_sub(LEFT_COLUMNS)) {
        (0x81..=0xa0, _) => other((row - 0x81) * COLUMNS + column),
        (0xa1..=0xa9, _) => listed((row - 0xa1) * COLUMNS + column),
        (0xaa..=0xaf, Some(column)) => private((row - 0xaa) * OF_GB2312 + column),
        (0xb0..=0xf7, Some(column)) => listed(HANZI_START + (row - 0xb0) * OF_GB2312 + column),
        (0xf8..=0xfe, Some(column)) => private((row - 0xf8 + 6) * OF_GB2312 + column),
        (0xaa..=0xfe, None) => other(32 * COLUMNS + (row - 0xaa) * LEFT_COLUMNS + column),
        _ => None,
    }
}

fn listed(at: usize) -> Option<u16> {
    TABLE.as_chunks().0.get(at).copied().map(u16::from_le_bytes)
}

fn other(at: usize) -> Option<u16> {
    OUTSIDE_GB2312
        .get(at)
        .copied()
        .or_else(|| listed(TAIL_START + at.checked_sub(OUTSIDE_GB2312.len())?))
}

fn private(at: usize) -> Option<u16> {
    u16::try_from(0xe000 + at).ok()
}

#[cfg(test)]
mod tests {
    use encoding_rs::GBK;
    use proptest::prelude::*;

    use super::*;

    fn text(raw: &[u8]) -> String {
        characters(raw)
            .map(|character| character.unwrap_or(char::REPLACEMENT_CHARACTER))
            .collect()
    }

    #[test]
    fn every_pair_of_bytes_means_what_the_encoding_standard_says() {
        // A second byte that is a digit belongs to a four-byte character of GB 18030.
        for first in 0..=u8::MAX {
            for second in (0..=u8::MAX).filter(|second| !second.is_ascii_digit()) {
                let raw = [first, second];
                assert_eq!(
                    text(&raw),
                    GBK.decode_without_bom_handling(&raw).0,
                    "{raw:x?}"
                );
            }
        }
    }

    #[test]
    #[ignore = "writes gbk.bin"]
    fn writes_the_table() {
        let code = |first: u8, second: u8| -> [u8; 2] {
            let raw = [first, second];
            let text = GBK.decode_without_bom_handling(&raw).0;
            let code = u16::try_from(u32::from(text.chars().next().unwrap())).unwrap();
            code.to_le_bytes()
        };
        let mut table = Vec::new();
        let columns = (0x40..=0xfe).filter(|&second| second != 0x7f);
        for first in 0xa1..=0xa9 {
            table.extend(columns.clone().map(|second| code(first, second)));
        }
        for first in 0xb0..=0xf7 {
            table.extend((0xa1..=0xfe).map(|second| code(first, second)));
        }
        table.extend((0x9c..=0xa0).map(|second| code(0xfd, second)));
        table.extend(
            columns
                .filter(|&second| second <= 0xa0)
                .map(|second| code(0xfe, second)),
        );
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/wire/gbk.bin");
        std::fs::write(path, table.concat()).unwrap();
    }

    proptest! {
        #[test]
        fn any_bytes_mean_what_the_encoding_standard_says(
            raw in proptest::collection::vec(0x3a..=u8::MAX, 0..60)
        ) {
            prop_assert_eq!(text(&raw), GBK.decode_without_bom_handling(&raw).0);
        }
    }
}
