//! Rate limits by source network, over UDP (docs/hazards.md 8). Pure: the time comes with each call.
//!
//! The table has a fixed size whatever arrives, and its hash is keyed: networks that fall on the same
//! slot share it, but nobody outside knows which they are.

use std::hash::{BuildHasher, RandomState};
use std::time::Instant;

use crate::fleet::network::Network;

/// Slots of a table.
const SLOTS: usize = 4096;

/// A burst may be so many times what a second allows.
const BURST: u32 = 5;

/// What a token is in the slots: so a rate in tokens a second is one in these a millisecond.
const TOKEN: u32 = 1000;

/// What is limited by source network over UDP and TCP 2234.
#[derive(Debug)]
pub struct RateLimits {
    /// Checks.
    pub checks: Buckets,
    /// Replies to what is wrong.
    pub errors: Buckets,
    /// Packets.
    pub gets: Buckets,
    hasher: RandomState,
    start: Instant,
    /// The last time that was asked for, and what it is for the slots.
    last: (Instant, u32),
}

/// A network's bucket in each of the tables, at a time: looked up once for all of them.
#[derive(Clone, Copy, Debug)]
pub struct BucketIndex {
    slot: usize,
    /// Milliseconds since the start, modulo 2^32.
    at: u32,
}

/// Token buckets, one for each network (or a few of them together).
#[derive(Debug)]
pub struct Buckets {
    slots: Box<[TokenBucket]>,
    /// Tokens a second; 0: no limit.
    rate: u32,
    /// What a bucket holds.
    full: u32,
}

#[derive(Clone, Copy, Debug)]
struct TokenBucket {
    /// In thousandths.
    tokens: u32,
    /// When `tokens` was true, as in [`BucketIndex`].
    at: u32,
}

impl RateLimits {
    /// Full buckets that get so many tokens a second each and hold five times as many; 0: no limit.
    pub fn new(checks: u32, errors: u32, gets: u32, now: Instant) -> RateLimits {
        RateLimits {
            checks: Buckets::new(checks),
            errors: Buckets::new(errors),
            gets: Buckets::new(gets),
            hasher: RandomState::new(),
            start: now,
            last: (now, 0),
        }
    }

    /// A network's buckets, now.
    pub fn bucket(&mut self, network: Network, now: Instant) -> BucketIndex {
        // The same for all datagrams that came together.
        if self.last.0 != now {
            let elapsed = now.saturating_duration_since(self.start);
            // The low bits are enough: only the distance between two calls counts.
            self.last = (now, elapsed.as_millis() as u32);
        }
        BucketIndex {
            slot: (self.hasher.hash_one(network) as usize) % SLOTS,
            at: self.last.1,
        }
    }
}

impl Buckets {
    fn new(rate: u32) -> Buckets {
        let full = rate.saturating_mul(BURST * TOKEN);
        let slots = if rate > 0 { SLOTS } else { 0 };
        Buckets {
            slots: vec![
                TokenBucket {
                    tokens: full,
                    at: 0
                };
                slots
            ]
            .into_boxed_slice(),
            rate,
            full,
        }
    }

    /// Whether there is a token.
    pub fn has(&self, index: BucketIndex) -> bool {
        let slot = self.slots.get(index.slot);
        slot.is_none_or(|slot| self.tokens(*slot, index.at) >= TOKEN)
    }

    /// Takes a token, if there is one.
    pub fn take(&mut self, index: BucketIndex) -> bool {
        let Some(slot) = self.slots.get(index.slot) else {
            return true;
        };
        let tokens = self.tokens(*slot, index.at);
        let left = tokens.checked_sub(TOKEN);
        if let Some(slot) = self.slots.get_mut(index.slot) {
            *slot = TokenBucket {
                tokens: left.unwrap_or(tokens),
                at: index.at,
            };
        }
        left.is_some()
    }

    /// How much it holds by now.
    fn tokens(&self, slot: TokenBucket, at: u32) -> u32 {
        let come = at.wrapping_sub(slot.at).saturating_mul(self.rate);
        slot.tokens.saturating_add(come).min(self.full)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const HERE: Network = Network::V4([192, 0, 2]);

    fn errors(rate: u32, now: Instant) -> RateLimits {
        RateLimits::new(0, rate, 0, now)
    }

    fn take(limiters: &mut RateLimits, network: Network, now: Instant) -> bool {
        let place = limiters.bucket(network, now);
        limiters.errors.take(place)
    }

    fn has(limiters: &mut RateLimits, network: Network, now: Instant) -> bool {
        let place = limiters.bucket(network, now);
        limiters.errors.has(place)
    }

    #[test]
    fn a_burst_of_five_seconds_passes_and_then_the_rate() {
        let now = Instant::now();
        let mut limiters = errors(10, now);
        let mut passed = |now| (0..1000).filter(|_| take(&mut limiters, HERE, now)).count();
        assert_eq!(passed(now), 50);
        assert_eq!(passed(now + Duration::from_secs(2)), 20);
        // However long the pause was.
        assert_eq!(passed(now + Duration::from_secs(4_000_000)), 50);
    }

    #[test]
    fn many_calls_within_a_second_lose_no_time() {
        let now = Instant::now();
        let mut limiters = errors(10, now);
        while take(&mut limiters, HERE, now) {}
        let passed = (0..10_000)
            .filter(|ms| take(&mut limiters, HERE, now + Duration::from_millis(*ms)))
            .count();
        assert!((98..=100).contains(&passed), "{passed}");
    }

    #[test]
    fn another_network_has_a_bucket_of_its_own() {
        let now = Instant::now();
        let mut limiters = errors(1, now);
        while take(&mut limiters, HERE, now) {}
        let others = (0..=255).filter(|n| take(&mut limiters, Network::V4([198, 51, *n]), now));
        assert!(others.count() > 240);
    }

    #[test]
    fn each_kind_has_buckets_of_its_own() {
        let now = Instant::now();
        let mut limiters = RateLimits::new(3, 2, 1, now);
        let place = limiters.bucket(HERE, now);
        let all = |buckets: &mut Buckets| (0..100).filter(|_| buckets.take(place)).count();
        assert_eq!(all(&mut limiters.checks), 15);
        assert_eq!(all(&mut limiters.errors), 10);
        assert_eq!(all(&mut limiters.gets), 5);
    }

    #[test]
    fn to_ask_takes_nothing() {
        let now = Instant::now();
        let mut limiters = errors(10, now);
        assert!((0..1000).all(|_| has(&mut limiters, HERE, now)));
        while take(&mut limiters, HERE, now) {}
        assert!(!has(&mut limiters, HERE, now));
        let later = now + Duration::from_millis(200);
        assert!(has(&mut limiters, HERE, later));
        assert!(has(&mut errors(0, now), HERE, now));
    }

    #[test]
    fn zero_is_no_limit_and_the_most_is_none_either() {
        let now = Instant::now();
        for rate in [0, u32::MAX] {
            let mut limiters = errors(rate, now);
            assert!((0..100_000).all(|_| take(&mut limiters, HERE, now)));
        }
    }
}
