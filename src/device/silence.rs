//! Time without progress after which a download is given up. There is no clock: the time is an argument of each call.
//!
//! A receiver's kernel acknowledges in steps of a window: it accepts what its buffer holds at once, and then nothing
//! until the program has read a part of that. A program that reads 400 bytes a second from a buffer of 8 KiB causes
//! pauses of half a minute, but is alive (docs/hazards.md 42). So the limit is never below the time that one window
//! takes at the rate seen so far.

use std::time::{Duration, Instant};

/// Rate in bytes per second that is assumed until one was seen. The limit then is the time for half of a window.
const SLOWEST: u64 = 40;

/// Maximum of the limit as a multiple of the configured one, until a rate was seen …
const PATIENCE: u32 = 6;

/// … but at least this time …
const AT_LEAST: Duration = Duration::from_secs(12);

/// … and at most this time, unless a longer limit is configured.
const AT_MOST: Duration = Duration::from_secs(300);

/// Shortest time that counts as a pause. In a shorter one, acknowledgements may be on their way.
const PAUSE: Duration = Duration::from_millis(500);

/// The acknowledgements of one download so far.
#[derive(Debug)]
pub(super) struct Silence {
    /// The configured limit, `--stall-timeout`.
    set: Duration,
    acknowledged: u64,
    /// Time of the last measurement that found more acknowledged bytes.
    moved: Instant,
    /// Largest number of bytes that were acknowledged between two measurements.
    window: u64,
    /// Bytes and time of the last acknowledgement before the first pause. The bytes up to there filled the receiver's
    /// buffer and say nothing about its rate.
    filled: Option<(u64, Instant)>,
}

impl Silence {
    /// Creates the state of a download that begins now. `set` is the configured limit.
    pub fn new(set: Duration, now: Instant) -> Silence {
        Silence {
            set,
            acknowledged: 0,
            moved: now,
            window: 0,
            filled: None,
        }
    }

    /// Restarts the time without progress, after a delay that the receiver did not cause.
    pub fn excuse(&mut self, now: Instant) {
        self.moved = now;
    }

    /// Records a measurement of the bytes acknowledged by now. Returns whether there are more than before.
    pub fn look(&mut self, acknowledged: u64, now: Instant) -> bool {
        let step = acknowledged.saturating_sub(self.acknowledged);
        if step == 0 {
            if self.acknowledged > 0 && now.saturating_duration_since(self.moved) >= PAUSE {
                self.filled.get_or_insert((self.acknowledged, self.moved));
            }
            return false;
        }
        self.window = self.window.max(step);
        self.acknowledged = acknowledged;
        self.moved = now;
        true
    }

    /// Time of the last acknowledgement.
    pub fn moved(&self) -> Instant {
        self.moved
    }

    /// Twice the time that one window takes at the rate seen so far; `None` if none was seen.
    pub fn window_time(&self) -> Option<Duration> {
        let (filled, since) = self.filled?;
        let bytes = self
            .acknowledged
            .checked_sub(filled)
            .filter(|more| *more > 0)?;
        let took = self.moved.saturating_duration_since(since).as_millis();
        let took = u64::try_from(took).unwrap_or(u64::MAX);
        let window = self.window.saturating_mul(2).saturating_mul(took);
        Some(Duration::from_millis(window.checked_div(bytes)?))
    }

    /// The limit in force. `answers`: whether the receiver's kernel answers. Otherwise the network is gone, and the
    /// configured limit applies.
    pub fn limit(&self, answers: bool) -> Duration {
        if !answers {
            return self.set;
        }
        let expected = self.window_time().unwrap_or_else(|| {
            let window = self.window.checked_div(SLOWEST.saturating_mul(2));
            let bound = self.set.saturating_mul(PATIENCE).clamp(AT_LEAST, AT_MOST);
            Duration::from_secs(window.unwrap_or(0)).min(bound)
        });
        expected.max(self.set)
    }

    /// Whether the time without progress has reached the limit.
    pub fn is_over(&self, answers: bool, now: Instant) -> bool {
        now.saturating_duration_since(self.moved) >= self.limit(answers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Measures every second the progress of a receiver with a buffer of `window` bytes that reads `rate` bytes a
    /// second. Its first two acknowledgements come when a third of the buffer is free, later ones when all of it is
    /// free. Returns the second in which it is given up, within `most`.
    fn given_up(set: u64, window: u64, rate: u64, most: u64) -> Option<u64> {
        let start = Instant::now();
        let mut silence = Silence::new(Duration::from_secs(set), start);
        let (mut acknowledged, mut told) = (window, 0);
        for second in 1..=most {
            let now = start + SECOND * u32::try_from(second).unwrap();
            let read = rate * second;
            let step = if told < 2 { window / 3 } else { window };
            if read >= acknowledged - window + step {
                acknowledged += step;
                told += 1;
            }
            silence.look(acknowledged, now);
            if silence.is_over(true, now) {
                return Some(second);
            }
        }
        None
    }

    // Case 62.
    #[test]
    fn a_slow_reader_is_not_given_up_whatever_its_rate_and_the_limit() {
        for set in [20, 30, 120] {
            for rate in [40, 100, 400, 1000] {
                assert_eq!(given_up(set, 12_288, rate, 3000), None, "{set} {rate}");
            }
        }
        for (set, rate) in [(1, 400), (5, 400), (10, 100)] {
            assert_eq!(given_up(set, 12_288, rate, 3000), None, "{set} {rate}");
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
            silence.look(12_288 + 8192 * u64::from((second - 1) / 20), at(second));
        }
        assert!(!silence.is_over(true, at(120)));
        assert!(silence.is_over(true, at(81 + 62)));
        // If the network is gone, the configured limit applies.
        assert!(silence.is_over(false, at(101)));
        // A fast reader gets no more time than configured.
        let mut fast = Silence::new(20 * SECOND, start);
        fast.look(100_000, at(1));
        fast.look(100_000, at(2));
        fast.look(1_000_000, at(3));
        assert!(!fast.is_over(true, at(22)) && fast.is_over(true, at(23)));
    }

    #[test]
    fn looks_in_quick_succession_while_the_buffer_fills_say_nothing_of_the_rate() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut silence = Silence::new(8 * SECOND, start);
        for (milliseconds, acknowledged) in [(1, 4096), (2, 4096), (3, 4096), (1000, 12_288)] {
            silence.look(acknowledged, at(milliseconds));
        }
        for second in 2..30 {
            silence.look(12_288, at(second * 1000));
        }
        assert_eq!(silence.limit(true), 48 * SECOND);
    }

    #[test]
    fn one_that_was_never_heard_has_the_time_that_was_set() {
        let start = Instant::now();
        let mut silence = Silence::new(20 * SECOND, start);
        assert!(!silence.look(0, start + SECOND));
        assert!(!silence.is_over(true, start + 19 * SECOND));
        assert!(silence.is_over(true, start + 20 * SECOND));
    }
}
