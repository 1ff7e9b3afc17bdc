//! Rate limits by source network, over UDP and TCP 2234 (docs/hazards.md 8). There is no I/O and no clock: the time
//! is an argument of each call.
//!
//! The tables have a fixed size, and their hash has a secret key: networks with the same hash share a bucket, but
//! nobody outside knows which ones.

use std::hash::{BuildHasher, RandomState};
use std::time::Instant;

use crate::fleet::network::Network;

/// Number of buckets in a table.
const TABLE_SIZE: usize = 4096;

/// Size of a burst, as a multiple of the tokens that a second adds.
const BURST: u32 = 5;

/// One token in the unit of the buckets, thousandths. In this unit, a rate in tokens per second is the rate per
/// millisecond.
const TOKEN: u32 = 1000;

/// The tables of buckets, one for each kind of limited message over UDP and TCP 2234.
#[derive(Debug)]
pub struct RateLimits {
    /// Checks.
    pub checks: Buckets,
    /// Error replies.
    pub errors: Buckets,
    /// Packets.
    pub gets: Buckets,
    hasher: RandomState,
    start: Instant,
    /// The time of the last call, and the same time in the form of [`BucketIndex`].
    last: (Instant, u32),
}

/// The position of a network's bucket, the same in each table, and the time of the access.
#[derive(Clone, Copy, Debug)]
pub struct BucketIndex {
    bucket: usize,
    /// Milliseconds since the start, modulo 2^32.
    at: u32,
}

/// Token buckets, one for each network, or for a few networks together.
#[derive(Debug)]
pub struct Buckets {
    table: Box<[TokenBucket]>,
    /// Tokens per second; 0: no limit.
    rate: u32,
    /// Capacity of a bucket, in thousandths of a token.
    full: u32,
}

#[derive(Clone, Copy, Debug)]
struct TokenBucket {
    /// Content at the time `at`, in thousandths of a token.
    tokens: u32,
    /// Time of the last change, as in [`BucketIndex`].
    at: u32,
}

impl RateLimits {
    /// Creates full buckets. Each gets the given number of tokens per second and holds five times that number; 0: no
    /// limit.
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

    /// Returns the position of a network's buckets at `now`.
    pub fn bucket(&mut self, network: Network, now: Instant) -> BucketIndex {
        // All datagrams of one batch have the same time.
        if self.last.0 != now {
            let elapsed = now.saturating_duration_since(self.start);
            // The low bits are enough: only the difference between two calls matters.
            self.last = (now, elapsed.as_millis() as u32);
        }
        BucketIndex {
            bucket: (self.hasher.hash_one(network) as usize) % TABLE_SIZE,
            at: self.last.1,
        }
    }
}

impl Buckets {
    fn new(rate: u32) -> Buckets {
        let full = rate.saturating_mul(BURST * TOKEN);
        let size = if rate > 0 { TABLE_SIZE } else { 0 };
        Buckets {
            table: vec![
                TokenBucket {
                    tokens: full,
                    at: 0
                };
                size
            ]
            .into_boxed_slice(),
            rate,
            full,
        }
    }

    /// Whether the bucket has a token.
    pub fn has(&self, index: BucketIndex) -> bool {
        let bucket = self.table.get(index.bucket);
        bucket.is_none_or(|bucket| self.tokens(*bucket, index.at) >= TOKEN)
    }

    /// Takes a token. Returns false if there is none.
    pub fn take(&mut self, index: BucketIndex) -> bool {
        let Some(bucket) = self.table.get(index.bucket) else {
            return true;
        };
        let tokens = self.tokens(*bucket, index.at);
        let left = tokens.checked_sub(TOKEN);
        if let Some(bucket) = self.table.get_mut(index.bucket) {
            *bucket = TokenBucket {
                tokens: left.unwrap_or(tokens),
                at: index.at,
            };
        }
        left.is_some()
    }

    /// Content of a bucket at the time `at`, in thousandths of a token.
    fn tokens(&self, bucket: TokenBucket, at: u32) -> u32 {
        let added = at.wrapping_sub(bucket.at).saturating_mul(self.rate);
        bucket.tokens.saturating_add(added).min(self.full)
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

    fn take(limits: &mut RateLimits, network: Network, now: Instant) -> bool {
        let index = limits.bucket(network, now);
        limits.errors.take(index)
    }

    fn has(limits: &mut RateLimits, network: Network, now: Instant) -> bool {
        let index = limits.bucket(network, now);
        limits.errors.has(index)
    }

    #[test]
    fn a_burst_of_five_seconds_passes_and_then_the_rate() {
        let now = Instant::now();
        let mut limits = errors(10, now);
        let mut passed = |now| (0..1000).filter(|_| take(&mut limits, HERE, now)).count();
        assert_eq!(passed(now), 50);
        assert_eq!(passed(now + Duration::from_secs(2)), 20);
        // A longer pause does not fill the bucket further.
        assert_eq!(passed(now + Duration::from_secs(4_000_000)), 50);
    }

    #[test]
    fn many_calls_within_a_second_lose_no_time() {
        let now = Instant::now();
        let mut limits = errors(10, now);
        while take(&mut limits, HERE, now) {}
        let passed = (0..10_000)
            .filter(|ms| take(&mut limits, HERE, now + Duration::from_millis(*ms)))
            .count();
        assert!((98..=100).contains(&passed), "{passed}");
    }

    #[test]
    fn another_network_has_a_bucket_of_its_own() {
        let now = Instant::now();
        let mut limits = errors(1, now);
        while take(&mut limits, HERE, now) {}
        let others = (0..=255).filter(|n| take(&mut limits, Network::V4([198, 51, *n]), now));
        assert!(others.count() > 240);
    }

    #[test]
    fn each_kind_has_buckets_of_its_own() {
        let now = Instant::now();
        let mut limits = RateLimits::new(3, 2, 1, now);
        let index = limits.bucket(HERE, now);
        let all = |buckets: &mut Buckets| (0..100).filter(|_| buckets.take(index)).count();
        assert_eq!(all(&mut limits.checks), 15);
        assert_eq!(all(&mut limits.errors), 10);
        assert_eq!(all(&mut limits.gets), 5);
    }

    #[test]
    fn a_query_takes_no_token() {
        let now = Instant::now();
        let mut limits = errors(10, now);
        assert!((0..1000).all(|_| has(&mut limits, HERE, now)));
        while take(&mut limits, HERE, now) {}
        assert!(!has(&mut limits, HERE, now));
        let later = now + Duration::from_millis(200);
        assert!(has(&mut limits, HERE, later));
        assert!(has(&mut errors(0, now), HERE, now));
    }

    #[test]
    fn zero_and_the_maximum_rate_are_no_limit() {
        let now = Instant::now();
        for rate in [0, u32::MAX] {
            let mut limits = errors(rate, now);
            assert!((0..100_000).all(|_| take(&mut limits, HERE, now)));
        }
    }
}
