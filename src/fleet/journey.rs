//! Where a device stands on its way to a release: offered → n % → delivered → confirmed, reverted or
//! silent. Pure; the time comes with each call. Kept by [`super::devices`].
//!
//! What would surprise you: a device that says its old version after a delivery is not always reverted.
//! Within a minute it may just not have booted yet, and from elsewhere it may be another one under the
//! same id (docs/hazards.md 19): such a check changes nothing. And no state is the last word: whoever comes
//! back with the new version has it, and one that had it and says the old one within a day fell back.

use super::brief::Brief;
use super::clock::Stamp;
use super::interned::TargetId;
use crate::decision::Back;

/// A step of the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum State {
    /// It was offered the release, and has nothing of it yet.
    Offered = 0,
    /// It has some of the bytes.
    Downloading = 1,
    /// It has all of them, and has not come back yet.
    Delivered = 2,
    /// It came back with the new version.
    Confirmed = 3,
    /// It came back with the old one, or an older.
    Reverted = 4,
    /// It has not come back within three of its own poll intervals.
    Silent = 5,
}

impl State {
    /// All of them, in order.
    pub const ALL: [State; 6] = [
        State::Offered,
        State::Downloading,
        State::Delivered,
        State::Confirmed,
        State::Reverted,
        State::Silent,
    ];

    /// Its name in the journal, the API and the metrics.
    pub fn word(self) -> &'static str {
        match self {
            State::Offered => "offered",
            State::Downloading => "downloading",
            State::Delivered => "delivered",
            State::Confirmed => "confirmed",
            State::Reverted => "reverted",
            State::Silent => "silent",
        }
    }

    /// The state of this name.
    pub fn of_word(word: &str) -> Option<State> {
        State::ALL.into_iter().find(|state| state.word() == word)
    }
}

/// A device that was just delivered to may say its old version for so long without having failed, in
/// seconds.
pub const REBOOT: u32 = 60;

/// One that was confirmed and says its old version within this has fallen back, in seconds; later it
/// was flashed by somebody.
pub const FALLBACK: u32 = 24 * 60 * 60;

/// A device's way to one release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Journey {
    /// Where to.
    pub target: TargetId,
    /// How far.
    pub state: State,
    /// Since when it is in this state.
    pub since: Stamp,
    /// It has the bytes before this one. What is beyond 4 GiB counts as 4 GiB.
    pub reached: u32,
    /// What it is counted as in the release's fuse, if it is counted there.
    pub heard: Option<Heard>,
    /// The version that it ran when it was offered.
    pub from: Brief,
}

/// A device's say in the fuse of a release: its last word on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// It came back with the old version; else with the new one.
    pub reverted: bool,
    /// In which of the target's rounds of counting, 1 to 127: a fuse that was lifted begins a new one.
    pub round: u8,
}

impl Journey {
    /// It is offered this.
    pub fn offered(target: TargetId, from: Brief, now: Stamp) -> Journey {
        Journey {
            target,
            state: State::Offered,
            since: now,
            reached: 0,
            heard: None,
            from,
        }
    }

    /// It begins from byte 0: it has nothing of what it had.
    pub fn begun(self) -> Journey {
        match self.state {
            State::Offered | State::Downloading | State::Reverted => Journey { reached: 0, ..self },
            // All of it was there, and only bytes that arrive show that it is wanted again.
            State::Delivered | State::Silent | State::Confirmed => self,
        }
    }

    /// Of a transfer that began at byte `start`, the bytes before `high` have arrived.
    pub fn acknowledged(self, start: u64, high: u64, now: Stamp) -> Journey {
        let (start, high) = (capped(start), capped(high));
        if high <= start {
            return self;
        }
        match self.state {
            State::Downloading if start <= self.reached => Journey {
                reached: self.reached.max(high),
                ..self
            },
            State::Offered if start <= self.reached => {
                let reached = self.reached.max(high);
                self.step(State::Downloading, now).at(reached)
            }
            State::Delivered | State::Silent | State::Reverted if start == 0 => {
                self.step(State::Downloading, now).at(high)
            }
            State::Reverted if start <= self.reached => {
                let reached = self.reached.max(high);
                self.step(State::Downloading, now).at(reached)
            }
            _ => self,
        }
    }

    /// A transfer brought the end of the file, of this size, in good order.
    pub fn delivered(self, size: u64, now: Stamp) -> Journey {
        let has_all = self.reached == capped(size) && size > 0;
        match self.state {
            State::Downloading if has_all => self.step(State::Delivered, now),
            _ => self,
        }
    }

    /// It asks again, from the beginning. `same_place`: from where it was delivered to, or was last
    /// seen. `None`: the journey is over without a verdict.
    pub fn back(self, back: Back, same_place: bool, now: Stamp) -> Option<Journey> {
        let age = now.since(self.since);
        let had_all = matches!(
            self.state,
            State::Delivered | State::Silent | State::Confirmed
        );
        match back {
            Back::New if self.state == State::Confirmed => Some(self),
            Back::New => Some(self.step(State::Confirmed, now)),
            // Anyone can say so of it.
            Back::Old | Back::Other if had_all && !same_place => Some(self),
            Back::Other => None,
            Back::Old => match self.state {
                State::Delivered if age < REBOOT => Some(self),
                State::Confirmed if age > FALLBACK => None,
                _ if had_all => Some(self.step(State::Reverted, now)),
                _ => Some(self),
            },
        }
    }

    /// It has been waited for, for `heard_nothing` seconds in which it could have come; it asks about
    /// every `interval` seconds (0: not known).
    pub fn waited(self, heard_nothing: u32, interval: u32, now: Stamp) -> Journey {
        match self.patience(interval) {
            Some(patience) if heard_nothing > patience => self.step(State::Silent, now),
            _ => self,
        }
    }

    /// For how many seconds it is waited for, if it is: one more, and it is silent.
    pub fn patience(self, interval: u32) -> Option<u32> {
        (self.state == State::Delivered).then(|| patience(interval))
    }

    fn step(self, state: State, now: Stamp) -> Journey {
        Journey {
            state,
            since: now,
            ..self
        }
    }

    fn at(self, reached: u32) -> Journey {
        Journey { reached, ..self }
    }
}

/// Three of a device's intervals, or three days, in seconds.
fn patience(interval: u32) -> u32 {
    const DAY: u32 = 24 * 60 * 60;
    match interval {
        0 => 3 * DAY,
        known => known.saturating_mul(3),
    }
}

/// A place in a file, as far as a journey knows it.
pub fn capped(bytes: u64) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Stamp = Stamp(1_000_000);
    const SIZE: u64 = 1000;

    fn offered() -> Journey {
        Journey::offered(TargetId(3), Brief::of("1.0.0"), NOW)
    }

    fn delivered() -> Journey {
        let journey = offered().begun().acknowledged(0, SIZE, NOW);
        journey.delivered(SIZE, NOW)
    }

    fn state(journey: Option<Journey>) -> Option<State> {
        journey.map(|journey| journey.state)
    }

    #[test]
    fn bytes_count_only_where_they_join_those_before() {
        let journey = offered().acknowledged(500, 600, NOW);
        assert_eq!((journey.state, journey.reached), (State::Offered, 0));
        let journey = offered()
            .acknowledged(0, 400, NOW)
            .acknowledged(500, SIZE, NOW);
        assert_eq!((journey.state, journey.reached), (State::Downloading, 400));
        assert_eq!(journey.delivered(SIZE, NOW).state, State::Downloading);
        let journey = journey
            .acknowledged(300, 700, NOW)
            .acknowledged(700, SIZE, NOW);
        assert_eq!(journey.delivered(SIZE, NOW).state, State::Delivered);
    }

    #[test]
    fn a_file_of_kilobyte_ranges_is_one_way() {
        let mut journey = offered().begun();
        for start in (0..SIZE).step_by(100) {
            journey = journey.acknowledged(start, start + 100, NOW);
        }
        assert_eq!(journey.delivered(SIZE, NOW).state, State::Delivered);
    }

    #[test]
    fn who_begins_again_has_nothing() {
        let journey = offered().acknowledged(0, 900, NOW).begun();
        assert_eq!(journey.reached, 0);
        let journey = journey.acknowledged(900, SIZE, NOW);
        assert_eq!(journey.delivered(SIZE, NOW).state, State::Downloading);
    }

    #[test]
    fn who_comes_back_with_the_new_version_is_confirmed_wherever_it_stood() {
        for journey in [offered(), offered().acknowledged(0, 5, NOW), delivered()] {
            let back = journey.back(Back::New, false, NOW.plus(1));
            assert_eq!(state(back), Some(State::Confirmed));
        }
        let reverted = delivered().back(Back::Old, true, NOW.plus(90)).unwrap();
        let back = reverted.back(Back::New, true, NOW.plus(500));
        assert_eq!(state(back), Some(State::Confirmed));
    }

    #[test]
    fn the_old_version_is_a_revert_only_a_minute_after_the_delivery_and_from_the_same_place() {
        let old =
            |same_place, after| state(delivered().back(Back::Old, same_place, NOW.plus(after)));
        assert_eq!(old(true, REBOOT - 1), Some(State::Delivered));
        assert_eq!(old(true, REBOOT), Some(State::Reverted));
        assert_eq!(old(false, REBOOT), Some(State::Delivered));
        let waiting = offered().acknowledged(0, 999, NOW);
        let back = waiting.back(Back::Old, true, NOW.plus(999));
        assert_eq!(state(back), Some(State::Downloading));
    }

    #[test]
    fn who_was_confirmed_and_falls_back_within_a_day_is_reverted() {
        let confirmed = delivered().back(Back::New, true, NOW).unwrap();
        let old = |same_place, after| state(confirmed.back(Back::Old, same_place, NOW.plus(after)));
        assert_eq!(old(true, 600), Some(State::Reverted));
        assert_eq!(old(false, 600), Some(State::Confirmed));
        assert_eq!(old(true, FALLBACK + 1), None);
    }

    #[test]
    fn a_version_that_says_nothing_ends_the_journey() {
        assert_eq!(delivered().back(Back::Other, true, NOW), None);
        assert_eq!(offered().back(Back::Other, false, NOW), None);
        let elsewhere = delivered().back(Back::Other, false, NOW);
        assert_eq!(state(elsewhere), Some(State::Delivered));
    }

    #[test]
    fn it_is_silent_after_three_of_its_intervals_and_never_before_it_has_all() {
        assert_eq!(
            delivered().waited(3 * 600, 600, NOW).state,
            State::Delivered
        );
        let silent = delivered().waited(3 * 600 + 1, 600, NOW);
        assert_eq!(silent.state, State::Silent);
        assert_eq!(
            delivered().waited(3 * 86_400, 0, NOW).state,
            State::Delivered
        );
        assert_eq!(offered().waited(u32::MAX, 600, NOW).state, State::Offered);
        let back = silent.back(Back::Old, true, NOW.plus(9999));
        assert_eq!(state(back), Some(State::Reverted));
    }

    #[test]
    fn a_second_download_after_a_revert_is_under_way_again() {
        let reverted = delivered().back(Back::Old, true, NOW.plus(90)).unwrap();
        let again = reverted.begun().acknowledged(0, 10, NOW.plus(91));
        assert_eq!((again.state, again.reached), (State::Downloading, 10));
    }
}
