//! How long a download may stand still before it is given up. Pure: the time comes with each call.
//!
//! A receiver's kernel acknowledges in steps of a window: it takes what its buffer holds at once, and nothing
//! more until the program has read a part of that. A program that reads 400 bytes a second from a buffer of
//! 8 KiB is silent for half a minute and alive (docs/hazards.md 42). So the limit is never below the time that one
//! window takes at the rate seen so far.

use std::time::{Duration, Instant};

/// The rate assumed until one was seen, in bytes a second.
const SLOWEST: u64 = 40;

/// Until a rate was seen the limit is at most this many times the one that was set …
const PATIENCE: u32 = 6;

/// … but not bounded below this …
const AT_LEAST: Duration = Duration::from_secs(12);

/// … and bounded by this, unless a longer one was set.
const AT_MOST: Duration = Duration::from_secs(300);

/// A shorter silence is none: acknowledgements are on their way.
const PAUSE: Duration = Duration::from_millis(500);

/// What the acknowledgements of one download looked like so far.
#[derive(Debug)]
pub(super) struct Silence {
    /// `--stall-timeout`.
    set: Duration,
    acknowledged: u64,
    /// When the last byte was acknowledged, as far as was looked.
    moved: Instant,
    /// The most bytes that were acknowledged between two looks.
    window: u64,
    /// Bytes and time of the last acknowledgement before the first pause: what was taken up to there filled the
    /// receiver's buffer and says nothing of its rate.
    filled: Option<(u64, Instant)>,
}

impl Silence {
    /// A download that begins now, with the limit that was set.
    pub fn new(set: Duration, now: Instant) -> Silence {
        Silence {
            set,
            acknowledged: 0,
            moved: now,
            window: 0,
            filled: None,
        }
    }

    /// Restarts the silence, for what the receiver was not to blame for.
    pub fn excuse(&mut self, now: Instant) {
        self.moved = now;
    }

    /// A look: these bytes were acknowledged by now. Returns whether they are more than before.
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

    /// When the last byte was acknowledged.
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

    /// The limit in force. `answers`: the receiver's kernel does answer; else the network is gone, and what was
    /// set counts.
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

    /// Has it stood still for longer than the limit by now?
    pub fn is_over(&self, answers: bool, now: Instant) -> bool {
        now.saturating_duration_since(self.moved) >= self.limit(answers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Looks every second at a receiver with a buffer of `window` bytes that reads `rate` bytes a second and
    /// tells of it when a third of the buffer is free, then only when all of it is; gives the second in which it
    /// is given up, within `most`.
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
            // 8 KiB each 20 s, after the buffer was filled.
            silence.look(12_288 + 8192 * u64::from((second - 1) / 20), at(second));
        }
        assert!(!silence.is_over(true, at(120)));
        assert!(silence.is_over(true, at(81 + 62)));
        // Where the network is gone, the limit that was set counts.
        assert!(silence.is_over(false, at(101)));
        // A fast reader has no more time than was set.
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
