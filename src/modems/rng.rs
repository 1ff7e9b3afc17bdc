//! Reproducible random numbers: the same seed gives the same numbers on every machine. Used by the
//! driver (datagram loss), LuaTask (order of headers) and `simulate` (generation and course of each
//! module).

/// Sequence of random numbers (SplitMix64).
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// Creates the sequence of this seed.
    pub fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    /// Creates an independent sequence for item `number`.
    pub fn for_item(seed: u64, number: u64) -> Rng {
        let mut rng = Rng(seed ^ number.wrapping_mul(0xD134_2543_DE82_EF95));
        Rng(rng.next_u64())
    }

    /// Returns the next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number from 0 to `end` - 1; 0 if `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next_u64().checked_rem(end).unwrap_or(0)
    }

    /// Returns true with a probability of `percent` %.
    pub fn chance(&mut self, percent: u32) -> bool {
        // A number is drawn also for 0 %, so that one more flag does not change all later numbers.
        self.below(100) < u64::from(percent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_seed_gives_the_same_numbers() {
        let numbers = |mut rng: Rng| -> Vec<u64> { (0..20).map(|_| rng.next_u64()).collect() };
        assert_eq!(numbers(Rng::new(7)), numbers(Rng::new(7)));
        assert_ne!(numbers(Rng::new(7)), numbers(Rng::new(8)));
        assert_ne!(numbers(Rng::for_item(7, 1)), numbers(Rng::for_item(7, 2)));
        assert_eq!(Rng::new(0).below(0), 0);
    }

    #[test]
    fn a_share_is_about_its_percentage() {
        let mut rng = Rng::new(3);
        let hits = (0..10_000).filter(|_| rng.chance(30)).count();
        assert!((2_800..3_200).contains(&hits), "{hits}");
        assert!((0..1000).all(|_| !rng.chance(0) && rng.chance(100)));
    }
}
