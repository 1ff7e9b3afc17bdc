//! WHAT there is: the firmware folder as an immutable [`catalog::Catalog`], and the bytes of each
//! file as a [`snapshot::Snapshot`] that can never change.
//!
//! A file's way in: [`watch`] hears of it, [`scan`] walks to it, [`settle`] waits until no writer is
//! at work, [`package`] checks and hashes it in one reading, [`known`] remembers the hash for the
//! next start, [`name`] and [`rules`] say what it is for, and a new [`catalog`] is published.

pub mod audience;
pub mod catalog;
pub mod known;
pub mod name;
pub mod package;
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
}

/// 64 lower-case hexadecimal digits.
impl fmt::Display for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // As a whole: sixty-four calls of the formatter stand in every head of a download.
        let digit = |digit: u8| match digit {
            0..10 => b'0'.wrapping_add(digit),
            _ => b'a'.wrapping_add(digit.wrapping_sub(10)),
        };
        let mut digits = [0; 64];
        let (pairs, _) = digits.as_chunks_mut::<2>();
        for (pair, byte) in pairs.iter_mut().zip(self.0) {
            *pair = [digit(byte >> 4), digit(byte & 0xf)];
        }
        f.write_str(str::from_utf8(&digits).unwrap_or_default())
    }
}

/// The first eight digits are enough for a person.
impl fmt::Debug for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.8}…", self.to_string())
    }
}
