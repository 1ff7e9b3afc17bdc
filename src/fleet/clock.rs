//! The fleet's own time: whole seconds of a monotonic clock, independent of the machine's clock.
//!
//! A [`Stamp`] is not a Unix time. Stamps count from long before this run began, so that the stamps of earlier runs,
//! which the journal remembers, are smaller. They are converted to Unix times only for people and the journal. A router
//! without a battery starts in 1970, and its clock jumps 56 years when it first gets the time. No device may become
//! silent, and no hold may end, because of that (docs/hazards.md 20).

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A moment in the fleet's time, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp(pub u32);

/// The stamp at which every run begins.
const ORIGIN: u32 = 1 << 31;

/// Unix time of 2026-01-01. A clock that shows an earlier time was never set, and is not trusted.
pub const TRUSTED_FROM: i64 = 1_767_225_600;

impl Stamp {
    /// Seconds from `earlier` to this stamp; 0 if `earlier` is not earlier.
    pub fn since(self, earlier: Stamp) -> u32 {
        self.0.saturating_sub(earlier.0)
    }

    /// The stamp `seconds` later.
    pub fn plus(self, seconds: u32) -> Stamp {
        Stamp(self.0.saturating_add(seconds))
    }

    /// The stamp `seconds` earlier.
    pub fn minus(self, seconds: u32) -> Stamp {
        Stamp(self.0.saturating_sub(seconds))
    }
}

/// Converts moments of this run to stamps and back.
#[derive(Debug)]
pub struct Clock {
    began: Instant,
}

impl Clock {
    /// Creates the clock of a run that began at this moment.
    pub fn new(began: Instant) -> Clock {
        Clock { began }
    }

    /// The stamp of a moment of this run.
    pub fn stamp(&self, now: Instant) -> Stamp {
        let since = now.saturating_duration_since(self.began);
        Stamp(ORIGIN).plus(u32::try_from(since.as_secs()).unwrap_or(u32::MAX))
    }

    /// The stamp of a moment that may lie before this run.
    pub fn stamp_of(&self, moment: Instant) -> Stamp {
        let before = self.began.saturating_duration_since(moment);
        let before = u32::try_from(before.as_secs()).unwrap_or(u32::MAX);
        self.stamp(moment).minus(before)
    }

    /// The moment of a stamp; the beginning of the run if `Instant` cannot represent that moment on this machine.
    pub fn instant(&self, stamp: Stamp) -> Instant {
        let run = |seconds: u32| Duration::from_secs(u64::from(seconds));
        match stamp.0.checked_sub(ORIGIN) {
            Some(after) => self.began.checked_add(run(after)).unwrap_or(self.began),
            None => {
                let before = run(ORIGIN.saturating_sub(stamp.0));
                self.began.checked_sub(before).unwrap_or(self.began)
            }
        }
    }

    /// The Unix time of a stamp, if the machine's clock shows `unix` now.
    pub fn unix(&self, stamp: Stamp, now: Instant, unix: i64) -> i64 {
        let now = i64::from(self.stamp(now).0);
        unix.saturating_sub(now.saturating_sub(i64::from(stamp.0)))
    }
}

/// The machine's clock at one stamp, for the conversion of stamps to the Unix times of the journal. The journal's
/// reference changes only together with a line in the journal that states the change, so that a reader can follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wall {
    /// Stamp of the reference.
    pub stamp: Stamp,
    /// Time of the machine's clock at `stamp`, in Unix seconds.
    pub unix: i64,
}

impl Wall {
    /// The Unix time of a stamp.
    pub fn unix_of(&self, stamp: Stamp) -> i64 {
        let after = i64::from(stamp.0).saturating_sub(i64::from(self.stamp.0));
        self.unix.saturating_add(after)
    }

    /// Seconds by which the machine's clock was stepped if it shows `unix` at `stamp`; `None` if the difference is at
    /// most [`STEP`], which is not a step.
    pub fn stepped(&self, stamp: Stamp, unix: i64) -> Option<i64> {
        let by = unix.saturating_sub(self.unix_of(stamp));
        (by.saturating_abs() > STEP).then_some(by)
    }
}

/// Largest difference of a clock that is not a step, in seconds.
pub const STEP: i64 = 5;

/// Whether a clock that shows this time was ever set.
pub fn is_trusted(unix: i64) -> bool {
    unix >= TRUSTED_FROM
}

/// Time of the machine's clock, in Unix seconds.
pub fn unix_now() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        Err(before) => {
            i64::try_from(before.duration().as_secs()).map_or(i64::MIN, |seconds| -seconds)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_of_the_machines_clock_moves_no_stamp() {
        let began = Instant::now();
        let clock = Clock::new(began);
        let later = began + Duration::from_secs(90);
        let stamp = clock.stamp(later);
        assert_eq!(stamp.since(clock.stamp(began)), 90);
        assert_eq!(clock.unix(stamp, later, 1_800_000_000), 1_800_000_000);
        assert_eq!(clock.unix(stamp.minus(30), later, 60), 30);
        assert_eq!(clock.instant(stamp), later);
    }

    #[test]
    fn a_step_is_seen_and_slow_drift_is_not() {
        let wall = Wall {
            stamp: Stamp(1000),
            unix: 30,
        };
        assert_eq!(wall.unix_of(Stamp(1010)), 40);
        assert_eq!(wall.unix_of(Stamp(900)), -70);
        assert_eq!(wall.stepped(Stamp(1010), 45), None);
        assert_eq!(wall.stepped(Stamp(1010), 34), Some(-6));
        let years = 56 * 365 * 86_400;
        assert_eq!(wall.stepped(Stamp(1010), 40 + years), Some(years));
        assert!(!is_trusted(40) && is_trusted(TRUSTED_FROM));
    }
}
