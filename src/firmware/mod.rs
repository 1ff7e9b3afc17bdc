//! WHAT there is: the firmware folder as an immutable [`catalog::Catalog`], and the bytes of each
//! file as a [`snapshot::Snapshot`] that can never change.
//!
//! A file's way in: [`watch`] hears of it, [`scan`] walks to it, [`settle`] waits until no writer is
//! at work, [`package`] checks and hashes it in one reading, [`known`] remembers the hash for the
//! next start, [`name`] and [`rules`] say what it is for, and a new [`catalog`] is published.

pub mod audience;
pub mod catalog;
mod date;
pub mod json;
pub mod known;
pub mod name;
mod new_folders;
pub mod package;
pub mod plain;
pub mod receive;
pub mod rules;
pub mod scan;
pub mod settle;
pub mod snapshot;
pub mod version;
pub mod watch;
pub mod words;

use std::fmt;

/// SHA-256 of a file's bytes: the name of a content, wherever it lies and whatever it is called.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContentId(pub [u8; 32]);

impl ContentId {
    /// Reads 64 hexadecimal digits, either case.
    pub fn parse(hex: &str) -> Option<ContentId> {
        let hex = hex.as_bytes();
        if hex.len() != 64 {
            return None;
        }
        let digit = |b: u8| (b as char).to_digit(16).map(|d| d as u8);
        let mut id = [0; 32];
        for (byte, pair) in id.iter_mut().zip(hex.chunks_exact(2)) {
            let &[high, low] = pair else { return None };
            *byte = digit(high)? << 4 | digit(low)?;
        }
        Some(ContentId(id))
    }

    /// The first 12 bits: the part of a UDP upgrade id that names the content (0..=4095).
    pub fn short(&self) -> u16 {
        let [first, second, ..] = self.0;
        u16::from(first) << 4 | u16::from(second) >> 4
    }

    /// The least of the ids with these first 12 bits.
    pub fn least_with_short(short: u16) -> ContentId {
        let mut id = [0; 32];
        let begin = (short << 4).to_be_bytes();
        id.iter_mut()
            .zip(begin)
            .for_each(|(byte, value)| *byte = value);
        ContentId(id)
    }

    /// 64 lower-case hexadecimal digits, without the formatter: they stand in the head of every download.
    pub fn hex(&self) -> Hex {
        let mut digits = [0; 64];
        let (pairs, _) = digits.as_chunks_mut::<2>();
        for (pair, byte) in pairs.iter_mut().zip(self.0) {
            *pair = PAIRS.get(usize::from(byte)).copied().unwrap_or_default();
        }
        Hex(digits)
    }
}

/// Two digits for each byte.
#[allow(clippy::indexing_slicing)] // While the table is made, when the program is compiled.
static PAIRS: [[u8; 2]; 256] = {
    let digits = *b"0123456789abcdef";
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < pairs.len() {
        pairs[byte] = [digits[byte >> 4], digits[byte & 0xf]];
        byte += 1;
    }
    pairs
};

/// The digits of a [`ContentId`].
pub struct Hex([u8; 64]);

impl Hex {
    /// As a text.
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// 64 lower-case hexadecimal digits.
impl fmt::Display for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.hex().as_str())
    }
}

/// The first eight digits are enough for a person.
impl fmt::Debug for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.8}…", self.to_string())
    }
}
