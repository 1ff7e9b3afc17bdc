//! CRC-32 (IEEE, reflected polynomial 0xedb88320): over the lines of the journal, and over the headers
//! of firmware packages, which leave out the final inversion (docs/protocol.md 5a).
//!
//! What would surprise you: it takes four bytes at a time out of 4 kB of tables and is no faster than
//! that. A crate that uses the processor's own instructions is, and costs five times the space. The tables
//! are made when they are first needed: in the file they would take their 4 kB as well.

use std::array::from_fn;
use std::sync::OnceLock;

/// `tables[n][b]`: what byte `b` does to the sum with `n` zero bytes after it.
type Tables = [[u32; 256]; 4];

/// Boxed: what is not zero from the beginning, and a `OnceLock` is not, stands in the file with all its bytes.
static TABLES: OnceLock<Box<Tables>> = OnceLock::new();

fn tables() -> Box<Tables> {
    let with_a_bit = |sum: u32| sum >> 1 ^ if sum & 1 == 1 { 0xedb8_8320 } else { 0 };
    let with_bytes = |byte: usize, bytes: usize| {
        let bits = 0..bytes.saturating_mul(8);
        bits.fold(byte as u32, |sum, _| with_a_bit(sum))
    };
    let table = |after: usize| from_fn(|byte| with_bytes(byte, after.saturating_add(1)));
    Box::new(from_fn(table))
}

/// A sum that grows.
#[derive(Clone, Copy)]
pub struct Crc32(u32);

impl Crc32 {
    /// Of no bytes.
    pub fn new() -> Crc32 {
        Crc32(!0)
    }

    /// Of these bytes too.
    pub fn update(&mut self, bytes: &[u8]) {
        let [one, two, three, four] = &**TABLES.get_or_init(tables);
        let at = |table: &[u32; 256], byte: u8| {
            // Every byte has its entry.
            table.get(usize::from(byte)).copied().unwrap_or_default()
        };
        let mut sum = self.0;
        let (words, rest) = bytes.as_chunks::<4>();
        for word in words {
            let [a, b, c, d] = (sum ^ u32::from_le_bytes(*word)).to_le_bytes();
            sum = at(four, a) ^ at(three, b) ^ at(two, c) ^ at(one, d);
        }
        for &byte in rest {
            let [low, ..] = sum.to_le_bytes();
            sum = sum >> 8 ^ at(one, low ^ byte);
        }
        self.0 = sum;
    }

    /// The sum as packages have it: without the final inversion.
    pub fn bare(self) -> u32 {
        self.0
    }
}

impl Default for Crc32 {
    fn default() -> Crc32 {
        Crc32::new()
    }
}

/// The usual CRC-32, that of zip.
pub fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = Crc32::new();
    crc.update(bytes);
    !crc.bare()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_that_of_zip_however_the_bytes_are_cut() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        let bytes: Vec<u8> = (0..1000u32).map(|n| (n * 7 + n / 9) as u8).collect();
        for length in 0..64 {
            assert_eq!(crc32(&bytes[..length]), crc32fast::hash(&bytes[..length]));
        }
        for cut in 0..64 {
            let (start, rest) = bytes.split_at(cut);
            let mut crc = Crc32::new();
            crc.update(start);
            crc.update(rest);
            assert_eq!(!crc.bare(), crc32fast::hash(&bytes));
        }
    }
}
