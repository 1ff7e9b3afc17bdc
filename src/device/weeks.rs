//! The weeks in which upgrade ids and marks are valid. There is no clock: the times are arguments of each call.
//!
//! The week is that of the machine's clock, so that ids survive a restart and are the same on a replica. The clock may
//! be set while a module downloads: from 1970 to now, or by an ordinary step. What was made before stays valid for a
//! week of real time (docs/hazards.md 41).

use std::time::{Duration, Instant};

use crate::fleet::clock;

/// Length of a week in seconds.
pub(super) const WEEK: i64 = 604_800;

/// Real time for which an id or mark stays valid after the clock was set: a week.
const VALID_FOR: Duration = Duration::from_secs(WEEK.unsigned_abs());

/// Maximum number of weeks that are remembered. If the clock steps more often in one week, the oldest is lost.
const MAX_WEEKS: usize = 4;

/// The week of everything that is made before the clock was ever set.
const UNSET: i64 = 0;

/// The weeks in which something was made in this run.
#[derive(Debug)]
pub(super) struct Weeks {
    began: Instant,
    /// Each week with the time at which something was last made in it, in the order of these times.
    issued: Vec<(i64, Instant)>,
}

impl Weeks {
    /// Creates the weeks of a run that begins now.
    pub fn new(began: Instant) -> Weeks {
        Weeks {
            began,
            issued: Vec::new(),
        }
    }

    /// Returns the week of something that is made now. `unix` is the time of the machine's clock in Unix seconds.
    pub fn issue(&mut self, unix: i64, now: Instant) -> i64 {
        let week = week_number(unix);
        match self.issued.last_mut() {
            Some((last, at)) if *last == week => *at = now,
            _ => {
                self.issued.retain(|(other, _)| *other != week);
                if self.issued.len() >= MAX_WEEKS {
                    self.issued.remove(0);
                }
                self.issued.push((week, now));
            }
        }
        week
    }

    /// The weeks that are valid now, of which one may occur twice: this week and the last by the clock; the weeks in
    /// which something was made within a week of real time; and, for a week after the start, that of a clock that was
    /// never set, since an earlier run may have had no other.
    pub fn valid(&self, unix: i64, now: Instant) -> impl Iterator<Item = i64> + Clone + use<> {
        let week = week_number(unix);
        let is_recent = |since: Instant| now.saturating_duration_since(since) < VALID_FOR;
        let mut valid = [
            Some(week),
            Some(week.saturating_sub(1)),
            None,
            None,
            None,
            None,
            None,
        ];
        let earlier = self.issued.iter().filter(|(_, at)| is_recent(*at));
        let earlier = earlier.map(|(week, _)| *week);
        let unset = is_recent(self.began).then_some(UNSET);
        for (place, week) in valid.iter_mut().skip(2).zip(earlier.chain(unset)) {
            *place = Some(week);
        }
        valid.into_iter().flatten()
    }
}

fn week_number(unix: i64) -> i64 {
    match clock::is_trusted(unix) {
        true => unix.div_euclid(WEEK),
        false => UNSET,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_795_420_800;

    fn is_valid(weeks: &Weeks, week: i64, unix: i64, now: Instant) -> bool {
        weeks.valid(unix, now).any(|valid| valid == week)
    }

    // Case 61.
    #[test]
    fn an_id_made_before_the_clock_was_set_is_valid_for_a_week_of_real_time() {
        let start = Instant::now();
        for (made, then) in [(30, NOW), (NOW, NOW - 10 * WEEK), (NOW, NOW + 10 * WEEK)] {
            let mut weeks = Weeks::new(start);
            let week = weeks.issue(made, start);
            assert!(is_valid(&weeks, week, then, start + VALID_FOR / 2));
            assert!(!is_valid(&weeks, week, then, start + VALID_FOR));
            // Something newer does not end its validity earlier.
            weeks.issue(then, start + VALID_FOR / 4);
            assert!(is_valid(&weeks, week, then, start + VALID_FOR / 2));
        }
    }

    #[test]
    fn an_id_made_without_a_clock_survives_a_restart() {
        let start = Instant::now();
        let week = Weeks::new(start).issue(3 * WEEK, start);
        let weeks = Weeks::new(start);
        assert!(is_valid(&weeks, week, NOW, start));
        assert!(!is_valid(&weeks, week, NOW, start + VALID_FOR));
    }

    #[test]
    fn a_clock_that_steps_often_is_remembered_within_bounds() {
        let start = Instant::now();
        let mut weeks = Weeks::new(start);
        for step in 0..100 {
            weeks.issue(NOW + step * WEEK, start);
        }
        assert_eq!(weeks.issued.len(), MAX_WEEKS);
        let last = week_number(NOW + 99 * WEEK);
        assert!(is_valid(&weeks, last, 0, start) && is_valid(&weeks, last - 3, 0, start));
        assert!(!is_valid(&weeks, last - 50, 0, start));
    }
}
