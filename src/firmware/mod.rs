//! The contents of the firmware folder as an immutable [`catalog::Catalog`], and the bytes of each
//! file as an immutable [`snapshot::Snapshot`].
//!
//! A file passes through these modules: [`watch`] receives the event, [`scan`] finds the file,
//! [`settle`] waits until no process writes to it, [`package`] validates and hashes it in one
//! reading, [`known`] keeps the hash for the next start, [`name`] and [`rules`] determine which
//! modules it is for, and a new [`catalog`] is published.

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
pub mod retire;
pub mod rules;
pub mod scan;
pub mod settle;
pub mod snapshot;
pub mod version;
pub mod watch;
pub mod words;

use std::fmt::{self, Write as _};

/// SHA-256 of a file's bytes. Identifies a content independently of its path and name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContentId(pub [u8; 32]);

impl ContentId {
    /// Parses 64 hexadecimal digits in either case.
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

    /// The first 12 bits (0..=4095), by which a UDP upgrade id identifies the content.
    pub fn short(&self) -> u16 {
        let [first, second, ..] = self.0;
        u16::from(first) << 4 | u16::from(second) >> 4
    }

    /// The smallest of the ids with these first 12 bits.
    pub fn least_with_short(short: u16) -> ContentId {
        let mut id = [0; 32];
        let begin = (short << 4).to_be_bytes();
        id.iter_mut()
            .zip(begin)
            .for_each(|(byte, value)| *byte = value);
        ContentId(id)
    }
}

/// Writes 64 lower-case hexadecimal digits.
impl fmt::Display for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        let mut digits = digits.filter_map(|digit| char::from_digit(digit.into(), 16));
        digits.try_for_each(|digit| f.write_char(digit))
    }
}

/// Writes the first eight digits, which are enough to read a log.
impl fmt::Debug for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.8}…", self.to_string())
    }
}
