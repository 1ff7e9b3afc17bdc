//! The hash of tables whose keys come from outside and are looked up for every packet or download: a multiplication
//! for each word, under a key of this run. It costs a tenth of the standard library's SipHash. Nobody outside sees
//! a hash or an order that follows from one, so nobody can choose keys that collide; where a hash is seen, or
//! kept, it is SipHash (upgrade ids, the journal).

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};

/// A table under a key of its own.
pub type Table<K, V> = HashMap<K, V, Keyed>;

/// Makes hashes under one key.
#[derive(Clone, Copy, Debug)]
pub struct Keyed {
    start: u64,
    factor: u64,
}

impl Default for Keyed {
    /// Under a key that nobody knows.
    fn default() -> Keyed {
        let random = RandomState::new();
        Keyed {
            start: random.hash_one(0_u8),
            // Odd, so that no bit of a word is lost.
            factor: random.hash_one(1_u8) | 1,
        }
    }
}

impl Keyed {
    /// The hash of one number.
    pub fn number(&self, number: u64) -> u64 {
        let mut words = self.build_hasher();
        words.word(number);
        words.finish()
    }
}

impl BuildHasher for Keyed {
    type Hasher = Words;

    fn build_hasher(&self) -> Words {
        Words {
            state: self.start,
            factor: self.factor,
        }
    }
}

/// A hash on its way.
pub struct Words {
    state: u64,
    factor: u64,
}

impl Words {
    fn word(&mut self, word: u64) {
        // Both halves of the product: each bit of a word reaches every bit of the hash.
        let product = u128::from(self.state ^ word).wrapping_mul(u128::from(self.factor));
        let high = (product >> 64) as u64;
        self.state = (product as u64) ^ high.rotate_left(32);
    }
}

impl Hasher for Words {
    fn write(&mut self, bytes: &[u8]) {
        let (eights, rest) = bytes.as_chunks::<8>();
        for eight in eights {
            self.word(u64::from_le_bytes(*eight));
        }
        if !rest.is_empty() {
            let word = rest
                .iter()
                .fold(0, |word, byte| word << 8 | u64::from(*byte));
            // Leading zeros count.
            let length = u64::try_from(rest.len()).unwrap_or(0);
            self.word(length << 56 | word);
        }
    }

    fn write_u8(&mut self, number: u8) {
        self.word(number.into());
    }

    fn write_u16(&mut self, number: u16) {
        self.word(number.into());
    }

    fn write_u32(&mut self, number: u32) {
        self.word(number.into());
    }

    fn write_u64(&mut self, number: u64) {
        self.word(number);
    }

    fn write_usize(&mut self, number: usize) {
        self.word(number as u64);
    }

    fn finish(&self) -> u64 {
        // Once more, so that the last word reaches every bit as well.
        let mut last = Words { ..*self };
        last.word(self.factor.rotate_left(17));
        last.state
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::net::SocketAddr;

    #[test]
    fn neighbours_fall_far_apart_and_none_together() {
        let keyed = Keyed::default();
        let mut whole = HashSet::new();
        let mut slots = [0_u32; 256];
        for n in 0..65_536_u32 {
            let [_, _, c, d] = n.to_be_bytes();
            let peer = SocketAddr::from(([10, 0, c, d], 1000));
            let hash = keyed.hash_one((peer, 7_u32));
            assert!(whole.insert(hash));
            slots[hash as usize % 256] += 1;
        }
        // 256 of them on the average; five deviations are 80.
        assert!(slots.iter().all(|n| (150..400).contains(n)), "{slots:?}");
    }

    #[test]
    fn bytes_of_other_lengths_differ() {
        let keyed = Keyed::default();
        let of = |bytes: &[u8]| {
            let mut hasher = keyed.build_hasher();
            hasher.write(bytes);
            hasher.finish()
        };
        let all: HashSet<u64> = (0..40).map(|length| of(&vec![0; length])).collect();
        assert_eq!(all.len(), 40);
        let other = Keyed::default();
        assert_ne!(keyed.hash_one(1_u64), other.hash_one(1_u64));
    }
}
