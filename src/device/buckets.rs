//! Rate limits by source network, over UDP (hazards.md 8). Pure: the time comes with each call.
//!
//! The table has a fixed size whatever arrives, and its hash is keyed: networks that fall on the same
//! slot share it, but nobody outside knows which they are.

use std::hash::BuildHasher;
use std::time::Instant;

use crate::fleet::network::Network;
use crate::hash::Keyed;

/// Slots of a table.
const SLOTS: usize = 4096;

/// A burst may be so many times what a second allows.
const BURST: f32 = 5.0;

/// Token buckets, one for each network (or a few of them together).
#[derive(Debug)]
pub struct Buckets {
    slots: Box<[Slot]>,
    /// Tokens a second; 0: no limit.
    rate: f32,
    hasher: Keyed,
    start: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    tokens: f32,
    /// When `tokens` was true: milliseconds since the start, modulo 2^32.
    at: u32,
}

impl Buckets {
    /// Full buckets that get `rate` tokens a second each and hold five times as many; 0: no limit.
    pub fn new(rate: u32, now: Instant) -> Buckets {
        let rate = rate as f32;
        let full = Slot {
            tokens: rate * BURST,
            at: 0,
        };
        let slots = if rate > 0.0 { SLOTS } else { 0 };
        Buckets {
            slots: vec![full; slots].into_boxed_slice(),
            rate,
            hasher: Keyed::default(),
            start: now,
        }
    }

    /// Is there a token?
    pub fn has(&self, network: Network, now: Instant) -> bool {
        let index = self.index(network);
        let tokens = self
            .slots
            .get(index)
            .map(|slot| self.tokens(slot, self.at(now)));
        tokens.is_none_or(|tokens| tokens >= 1.0)
    }

    /// Takes a token, if there is one.
    pub fn take(&mut self, network: Network, now: Instant) -> bool {
        let (at, index) = (self.at(now), self.index(network));
        let Some(tokens) = self.slots.get(index).map(|slot| self.tokens(slot, at)) else {
            return true;
        };
        let taken = tokens >= 1.0;
        let tokens = if taken { tokens - 1.0 } else { tokens };
        if let Some(slot) = self.slots.get_mut(index) {
            *slot = Slot { tokens, at };
        }
        taken
    }

    fn index(&self, network: Network) -> usize {
        (self.hasher.hash_one(network) as usize) % SLOTS
    }

    fn at(&self, now: Instant) -> u32 {
        let elapsed = now.saturating_duration_since(self.start);
        // The low bits are enough: only the distance between two calls counts.
        (elapsed.as_secs() as u32)
            .wrapping_mul(1000)
            .wrapping_add(elapsed.subsec_millis())
    }

    /// How many it holds by now.
    fn tokens(&self, slot: &Slot, at: u32) -> f32 {
        let seconds = at.wrapping_sub(slot.at) as f32 / 1000.0;
        (slot.tokens + seconds * self.rate).min(self.rate * BURST)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const HERE: Network = Network::V4([192, 0, 2]);

    #[test]
    fn a_burst_of_five_seconds_passes_and_then_the_rate() {
        let now = Instant::now();
        let mut buckets = Buckets::new(10, now);
        let passed = (0..1000).filter(|_| buckets.take(HERE, now)).count();
        assert_eq!(passed, 50);
        let later = now + Duration::from_secs(2);
        let passed = (0..1000).filter(|_| buckets.take(HERE, later)).count();
        assert_eq!(passed, 20);
    }

    #[test]
    fn many_calls_within_a_second_lose_no_time() {
        let now = Instant::now();
        let mut buckets = Buckets::new(10, now);
        while buckets.take(HERE, now) {}
        let passed = (0..10_000)
            .filter(|ms| buckets.take(HERE, now + Duration::from_millis(*ms)))
            .count();
        assert!((98..=100).contains(&passed), "{passed}");
    }

    #[test]
    fn another_network_has_a_bucket_of_its_own() {
        let now = Instant::now();
        let mut buckets = Buckets::new(1, now);
        while buckets.take(HERE, now) {}
        let others = (0..=255).filter(|n| buckets.take(Network::V4([198, 51, *n]), now));
        assert!(others.count() > 240);
    }

    #[test]
    fn to_ask_takes_nothing() {
        let now = Instant::now();
        let mut buckets = Buckets::new(10, now);
        assert!((0..1000).all(|_| buckets.has(HERE, now)));
        while buckets.take(HERE, now) {}
        assert!(!buckets.has(HERE, now));
        assert!(buckets.has(HERE, now + Duration::from_millis(200)));
        assert!(Buckets::new(0, now).has(HERE, now));
    }

    #[test]
    fn zero_is_no_limit() {
        let now = Instant::now();
        let mut buckets = Buckets::new(0, now);
        assert!((0..100_000).all(|_| buckets.take(HERE, now)));
    }
}
