//! CRC-32 (IEEE, reflected polynomial 0xedb88320): over the lines of the journal, and over the headers
//! of firmware packages, which leave out the final inversion (protocol.md 5a).
//!
//! What would surprise you: it takes four bytes at a time out of 4 kB of tables and is no faster than
//! that. A crate that uses the processor's own instructions is, and costs five times the space.

/// `TABLES[n][b]`: what byte `b` does to the sum with `n` zero bytes after it.
static TABLES: [[u32; 256]; 4] = tables();

#[allow(clippy::indexing_slicing)] // Evaluated by the compiler, which checks each of them.
const fn tables() -> [[u32; 256]; 4] {
    let mut tables = [[0; 256]; 4];
    let mut byte = 0;
    while byte < 256 {
        let mut sum = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            sum = sum >> 1 ^ if sum & 1 == 1 { 0xedb8_8320 } else { 0 };
            bit += 1;
        }
        tables[0][byte] = sum;
        byte += 1;
    }
    let mut after = 1;
    while after < 4 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[after - 1][byte];
            tables[after][byte] = before >> 8 ^ tables[0][(before & 0xff) as usize];
            byte += 1;
        }
        after += 1;
    }
    tables
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
        let [one, two, three, four] = &TABLES;
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
