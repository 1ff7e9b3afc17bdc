//! Time without progress after which a download is given up. There is no clock: the time is an argument of each call.
//!
//! A receiver's kernel acknowledges in steps of a window: it accepts what its buffer holds at once, and then nothing
//! until the program has read a part of that. A program that reads 400 bytes a second from a buffer of 8 KiB causes
//! pauses of half a minute, but is alive (docs/hazards.md 42). So the limit is never below the time that one window
//! takes at the rate seen so far.

use std::time::{Duration, Instant};

/// Rate in bytes per second that is assumed until one was seen. The limit then is the time for half of a window.
const ASSUMED_RATE: u64 = 40;

/// Maximum of the limit as a multiple of the configured one, until a rate was seen …
const UNKNOWN_RATE_FACTOR: u32 = 6;

/// … but at least this time …
const UNKNOWN_RATE_MIN: Duration = Duration::from_secs(12);

/// … and at most this time, unless a longer limit is configured.
const UNKNOWN_RATE_MAX: Duration = Duration::from_secs(300);

/// Shortest time that counts as a pause. In a shorter one, acknowledgements may be on their way.
const PAUSE: Duration = Duration::from_millis(500);

/// The acknowledgements of one download so far.
#[derive(Debug)]
pub(super) struct Silence {
    /// The configured limit, `--stall-timeout`.
    configured: Duration,
    acknowledged: u64,
    /// Time of the last measurement that found more acknowledged bytes.
    last_ack: Instant,
    /// Largest number of bytes that were acknowledged between two measurements.
    window: u64,
    /// Bytes and time of the last acknowledgement before the first pause. The bytes up to there filled the receiver's
    /// buffer and say nothing about its rate.
    base: Option<(u64, Instant)>,
}

impl Silence {
    /// Creates the state of a download that begins now. `configured` is the configured limit.
    pub fn new(configured: Duration, now: Instant) -> Silence {
        Silence {
            configured,
            acknowledged: 0,
            last_ack: now,
            window: 0,
            base: None,
        }
    }

    /// Restarts the time without progress, after a delay that the receiver did not cause.
    pub fn restart(&mut self, now: Instant) {
        self.last_ack = now;
    }

    /// Records a measurement of the bytes acknowledged by now. Returns whether there are more than before.
    pub fn record(&mut self, acknowledged: u64, now: Instant) -> bool {
        let step = acknowledged.saturating_sub(self.acknowledged);
        if step == 0 {
            if self.acknowledged > 0 && now.saturating_duration_since(self.last_ack) >= PAUSE {
                self.base.get_or_insert((self.acknowledged, self.last_ack));
            }
            return false;
        }
        self.window = self.window.max(step);
        self.acknowledged = acknowledged;
        self.last_ack = now;
        true
    }

    /// Time of the last acknowledgement.
    pub fn last_ack(&self) -> Instant {
        self.last_ack
    }

    /// Twice the time that one window takes at the rate seen so far; `None` if none was seen.
    pub fn window_time(&self) -> Option<Duration> {
        let (base, since) = self.base?;
        let bytes = self.acknowledged.checked_sub(base)?;
        let elapsed = self.last_ack.saturating_duration_since(since).as_millis();
        let elapsed = u64::try_from(elapsed).unwrap_or(u64::MAX);
        let window = self.window.saturating_mul(2).saturating_mul(elapsed);
        Some(Duration::from_millis(window.checked_div(bytes)?))
    }

    /// The limit in force. `answers`: whether the receiver's kernel answers. Otherwise the network is gone, and the
    /// configured limit applies.
    pub fn limit(&self, answers: bool) -> Duration {
        if !answers {
            return self.configured;
        }
        let expected = self.window_time().unwrap_or_else(|| {
            let window = self.window.checked_div(ASSUMED_RATE.saturating_mul(2));
            let bound = self.configured.saturating_mul(UNKNOWN_RATE_FACTOR);
            let bound = bound.clamp(UNKNOWN_RATE_MIN, UNKNOWN_RATE_MAX);
            Duration::from_secs(window.unwrap_or(0)).min(bound)
        });
        expected.max(self.configured)
    }

    /// Whether the time without progress has reached the limit.
    pub fn is_over(&self, answers: bool, now: Instant) -> bool {
        now.saturating_duration_since(self.last_ack) >= self.limit(answers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Measures every second the progress of a receiver with a buffer of `window` bytes that reads `rate` bytes a
    /// second. Its first two acknowledgements come when a third of the buffer is free, later ones when all of it is
    /// free. Returns the second in which it is given up, within `most`.
    fn given_up(limit: u64, window: u64, rate: u64, most: u64) -> Option<u64> {
        let start = Instant::now();
        let mut silence = Silence::new(Duration::from_secs(limit), start);
        let (mut acknowledged, mut acks) = (window, 0);
        for second in 1..=most {
            let now = start + SECOND * u32::try_from(second).unwrap();
            let read = rate * second;
            let step = if acks < 2 { window / 3 } else { window };
            if read >= acknowledged - window + step {
                acknowledged += step;
                acks += 1;
            }
            silence.record(acknowledged, now);
            if silence.is_over(true, now) {
                return Some(second);
            }
        }
        None
    }

    // Case 62.
    #[test]
    fn a_slow_reader_is_not_given_up_whatever_its_rate_and_the_limit() {
        for limit in [20, 30, 120] {
            for rate in [40, 100, 400, 1000] {
                assert_eq!(given_up(limit, 12_288, rate, 3000), None, "{limit} {rate}");
            }
        }
        for (limit, rate) in [(1, 400), (5, 400), (10, 100)] {
            assert_eq!(given_up(limit, 12_288, rate, 3000), None, "{limit} {rate}");
        }
    }

    #[test]
    fn a_reader_that_takes_nothing_after_its_first_window_is_given_up() {
        assert_eq!(given_up(2, 12_288, 0, 3000), Some(13));
        assert_eq!(given_up(20, 12_288, 0, 3000), Some(121));
        assert_eq!(given_up(120, 12_288, 0, 3000), Some(154));
        assert_eq!(given_up(120, 1 << 20, 0, 3000), Some(301));
        assert_eq!(given_up(600, 1 << 20, 0, 3000), Some(601));
    }

    #[test]
    fn a_reader_of_a_known_rate_is_given_up_soon_after_it_stops() {
        let start = Instant::now();
        let at = |seconds| start + SECOND * seconds;
        let mut silence = Silence::new(20 * SECOND, start);
        for second in 1..=100 {
            // 8 KiB every 20 s, after the buffer was filled.
            silence.record(12_288 + 8192 * u64::from((second - 1) / 20), at(second));
        }
        assert!(!silence.is_over(true, at(120)));
        assert!(silence.is_over(true, at(81 + 62)));
        // If the network is gone, the configured limit applies.
        assert!(silence.is_over(false, at(101)));
        // A fast reader gets no more time than configured.
        let mut fast = Silence::new(20 * SECOND, start);
        fast.record(100_000, at(1));
        fast.record(100_000, at(2));
        fast.record(1_000_000, at(3));
        assert!(!fast.is_over(true, at(22)) && fast.is_over(true, at(23)));
    }

    #[test]
    fn measurements_while_the_buffer_fills_do_not_count_for_the_rate() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut silence = Silence::new(8 * SECOND, start);
        for (milliseconds, acknowledged) in [(1, 4096), (2, 4096), (3, 4096), (1000, 12_288)] {
            silence.record(acknowledged, at(milliseconds));
        }
        for second in 2..30 {
            silence.record(12_288, at(second * 1000));
        }
        assert_eq!(silence.limit(true), 48 * SECOND);
    }

    #[test]
    fn a_receiver_that_never_acknowledged_has_the_configured_time() {
        let start = Instant::now();
        let mut silence = Silence::new(20 * SECOND, start);
        assert!(!silence.record(0, start + SECOND));
        assert!(!silence.is_over(true, start + 19 * SECOND));
        assert!(silence.is_over(true, start + 20 * SECOND));
    }
}
