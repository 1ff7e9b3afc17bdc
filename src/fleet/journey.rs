//! Where a device stands on its way to a release: offered → n % → delivered → confirmed, reverted or
//! silent. Pure; the time comes with each call. Kept by [`super::devices`].
//!
//! What would surprise you: a device that says its old version after a delivery is not always reverted.
//! Within [`TOO_SOON`] it asks again without having booted, from another network it may be another
//! device under the same id, and where the rules say `reboot_within` it waits for its time to reboot.
//! No state is final: a device that comes back with the new version has it, and one that had it and
//! says the old one within a day fell back. docs/evidence.md has the table.

use super::clock::Stamp;
use super::short_version::ShortVersion;
use crate::decision::Back;

/// Number of the content of a release, in [`super::releases`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetId(pub(super) u16);

impl TargetId {
    /// No content.
    pub const NONE: TargetId = TargetId(u16::MAX);
}

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
    /// A trusted proxy has all of the bytes; how many the device has is not known.
    Sent = 6,
    /// It has all of them and still says its old version, as `reboot_within` allows.
    Waiting = 7,
}

impl State {
    /// All of them, in order.
    pub const ALL: [State; 8] = [
        State::Offered,
        State::Downloading,
        State::Delivered,
        State::Confirmed,
        State::Reverted,
        State::Silent,
        State::Sent,
        State::Waiting,
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
            State::Sent => "sent",
            State::Waiting => "waiting",
        }
    }

    /// The state of this name.
    pub fn of_word(word: &str) -> Option<State> {
        State::ALL.into_iter().find(|state| state.word() == word)
    }
}

/// A check this soon after a whole download is made before the reboot, in seconds.
pub const TOO_SOON: u32 = 3;

/// The same for a check by packets from the source port of the download.
pub const TOO_SOON_IN_SESSION: u32 = 60;

/// A device that says its old version within this time after it was confirmed has fallen back, in
/// seconds. Later it was flashed.
pub const FALLBACK: u32 = 24 * 60 * 60;

/// From this weak attempt in a row on a device counts as reverted.
const WEAK: u8 = 2;

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
    /// The last result, which stays until the next one.
    pub outcome: Option<Outcome>,
    /// Weak attempts in a row: a proxy had sent all of it, and the device came back with the old
    /// version. 0 to 3.
    pub weak: u8,
    /// The last delivery was a trusted proxy's.
    pub by_proxy: bool,
    /// The version that it ran when it was offered.
    pub from: ShortVersion,
}

/// The result of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The device came back with the new version.
    Confirmed,
    /// The device came back with the old version.
    Reverted,
    /// The device came back with the new version, and fell back to the old one. After another download the
    /// new version says nothing: such a device always reports it first.
    FellBack,
}

impl Outcome {
    /// Its name in the journal.
    pub fn word(self) -> &'static str {
        match self {
            Outcome::Confirmed => "confirmed",
            Outcome::Reverted => "reverted",
            Outcome::FellBack => "fell_back",
        }
    }

    /// The outcome of this name.
    pub fn of_word(word: &str) -> Option<Outcome> {
        let all = [Outcome::Confirmed, Outcome::Reverted, Outcome::FellBack];
        all.into_iter().find(|outcome| outcome.word() == word)
    }

    /// Does it count as a revert?
    pub fn is_revert(self) -> bool {
        matches!(self, Outcome::Reverted | Outcome::FellBack)
    }
}

/// Circumstances of a check that says the old version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Circumstances {
    /// It comes from where the file was delivered to, or where the device was last seen.
    pub same_place: bool,
    /// It comes by packets from the source port of the download.
    pub same_session: bool,
    /// For so many seconds after the delivery the rules allow it to run the old version.
    pub reboot_within: u32,
    /// The rules give the old version to devices that run the new one.
    pub is_given: bool,
}

impl Circumstances {
    /// Is a check that comes so many seconds after the delivery made before the reboot?
    pub fn too_soon(self, age: u32) -> bool {
        age <= TOO_SOON || self.same_session && age <= TOO_SOON_IN_SESSION
    }
}

impl Journey {
    /// It is offered this.
    pub fn offered(target: TargetId, from: ShortVersion, now: Stamp) -> Journey {
        Journey {
            target,
            state: State::Offered,
            since: now,
            reached: 0,
            outcome: None,
            weak: 0,
            by_proxy: false,
            from,
        }
    }

    /// It begins from byte 0: it has nothing of what it had.
    pub fn begun(self) -> Journey {
        match self.state {
            State::Offered | State::Downloading | State::Reverted => Journey { reached: 0, ..self },
            // All of it was there, and only bytes that arrive show that it is wanted again.
            State::Delivered | State::Sent | State::Waiting | State::Silent | State::Confirmed => {
                self
            }
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
            State::Delivered | State::Sent | State::Waiting | State::Silent | State::Reverted
                if start == 0 =>
            {
                self.step(State::Downloading, now).at(high)
            }
            State::Reverted if start <= self.reached => {
                let reached = self.reached.max(high);
                self.step(State::Downloading, now).at(reached)
            }
            _ => self,
        }
    }

    /// A transfer brought the end of the file, of this size, in good order. `by_proxy`: to a trusted
    /// proxy.
    pub fn delivered(self, size: u64, by_proxy: bool, now: Stamp) -> Journey {
        let has_all = self.reached == capped(size) && size > 0;
        let state = match by_proxy {
            true => State::Sent,
            false => State::Delivered,
        };
        match self.state {
            State::Downloading if has_all => Journey {
                by_proxy,
                ..self.step(state, now)
            },
            _ => self,
        }
    }

    /// The device asks again, from the beginning. `None`: the journey is over without a result.
    pub fn back(self, back: Back, check: Circumstances, now: Stamp) -> Option<Journey> {
        let age = now.since(self.since);
        let had_all = self.had_all();
        match back {
            Back::New if self.state == State::Confirmed => Some(match age > FALLBACK {
                true => Journey {
                    outcome: Some(Outcome::Confirmed),
                    ..self
                },
                false => self,
            }),
            Back::New => Some(Journey {
                outcome: match (self.outcome, self.state) {
                    (Some(Outcome::FellBack), State::Reverted) => Some(Outcome::Confirmed),
                    (Some(Outcome::FellBack), _) => Some(Outcome::FellBack),
                    _ => Some(Outcome::Confirmed),
                },
                weak: 0,
                ..self.step(State::Confirmed, now)
            }),
            // Any device can claim this id.
            Back::Old | Back::Other if had_all && !check.same_place => Some(self),
            Back::Other => None,
            Back::Old => match self.state {
                State::Offered | State::Downloading | State::Reverted => Some(self),
                State::Confirmed if age > FALLBACK || check.is_given => None,
                State::Confirmed => Some(Journey {
                    outcome: Some(Outcome::FellBack),
                    ..self.reverted(now)
                }),
                State::Delivered | State::Sent | State::Waiting if check.too_soon(age) => {
                    Some(self)
                }
                // The time still counts from the delivery.
                State::Delivered | State::Waiting if age < check.reboot_within => Some(Journey {
                    state: State::Waiting,
                    ..self
                }),
                State::Sent if age < check.reboot_within => Some(self),
                _ if self.by_proxy => Some(self.weak_attempt(now)),
                _ => Some(self.reverted(now)),
            },
        }
    }

    /// Whether the device had the whole file, and its next check is awaited or was judged.
    pub fn had_all(self) -> bool {
        !matches!(
            self.state,
            State::Offered | State::Downloading | State::Reverted
        )
    }

    fn reverted(self, now: Stamp) -> Journey {
        Journey {
            outcome: Some(Outcome::Reverted),
            ..self.step(State::Reverted, now)
        }
    }

    /// One weak attempt more; the first says nothing yet.
    fn weak_attempt(self, now: Stamp) -> Journey {
        let weak = self.weak.saturating_add(1).min(3);
        match weak {
            ..WEAK => Journey {
                weak,
                ..self.step(State::Offered, now).at(0)
            },
            _ => Journey {
                weak,
                ..self.reverted(now)
            },
        }
    }

    /// It has been waited for, for `heard_nothing` seconds in which it could have come. `interval` and
    /// `reboot_within` as for [`Journey::patience`].
    pub fn waited(
        self,
        heard_nothing: u32,
        interval: u32,
        reboot_within: u32,
        now: Stamp,
    ) -> Journey {
        match self.patience(interval, reboot_within) {
            Some(patience) if heard_nothing > patience => self.step(State::Silent, now),
            _ => self,
        }
    }

    /// For how many seconds the device is waited for, if it is: one more, and it is silent. It asks about
    /// every `interval` seconds (0: not known), and may reboot within `reboot_within`.
    pub fn patience(self, interval: u32, reboot_within: u32) -> Option<u32> {
        let awaited = matches!(self.state, State::Delivered | State::Sent | State::Waiting);
        awaited.then(|| patience(interval).max(reboot_within))
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

/// Three of a device's intervals, or three days where that is not known, in seconds.
pub fn patience(interval: u32) -> u32 {
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
        Journey::offered(TargetId(3), ShortVersion::of("1.0.0"), NOW)
    }

    fn delivered() -> Journey {
        let journey = offered().begun().acknowledged(0, SIZE, NOW);
        journey.delivered(SIZE, false, NOW)
    }

    fn sent() -> Journey {
        let journey = offered().begun().acknowledged(0, SIZE, NOW);
        journey.delivered(SIZE, true, NOW)
    }

    const HERE: Circumstances = Circumstances {
        same_place: true,
        same_session: false,
        reboot_within: 0,
        is_given: false,
    };

    const ELSEWHERE: Circumstances = Circumstances {
        same_place: false,
        ..HERE
    };

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
        assert_eq!(
            journey.delivered(SIZE, false, NOW).state,
            State::Downloading
        );
        let journey = journey
            .acknowledged(300, 700, NOW)
            .acknowledged(700, SIZE, NOW);
        assert_eq!(journey.delivered(SIZE, false, NOW).state, State::Delivered);
    }

    #[test]
    fn a_file_of_kilobyte_ranges_is_one_way() {
        let mut journey = offered().begun();
        for start in (0..SIZE).step_by(100) {
            journey = journey.acknowledged(start, start + 100, NOW);
        }
        assert_eq!(journey.delivered(SIZE, false, NOW).state, State::Delivered);
    }

    #[test]
    fn who_begins_again_has_nothing() {
        let journey = offered().acknowledged(0, 900, NOW).begun();
        assert_eq!(journey.reached, 0);
        let journey = journey.acknowledged(900, SIZE, NOW);
        assert_eq!(
            journey.delivered(SIZE, false, NOW).state,
            State::Downloading
        );
    }

    #[test]
    fn the_new_version_confirms_in_every_state_and_takes_a_revert_back() {
        for journey in [
            offered(),
            offered().acknowledged(0, 5, NOW),
            delivered(),
            sent(),
        ] {
            let back = journey.back(Back::New, ELSEWHERE, NOW.plus(1)).unwrap();
            assert_eq!(back.state, State::Confirmed);
            assert_eq!(back.outcome, Some(Outcome::Confirmed));
        }
        let reverted = delivered().back(Back::Old, HERE, NOW.plus(90)).unwrap();
        assert_eq!(reverted.outcome, Some(Outcome::Reverted));
        let back = reverted.back(Back::New, HERE, NOW.plus(500)).unwrap();
        assert_eq!(back.state, State::Confirmed);
        assert_eq!(back.outcome, Some(Outcome::Confirmed));
    }

    // Case 30.
    #[test]
    fn the_old_version_is_a_revert_however_soon_but_not_within_three_seconds() {
        let old = |check, after| state(delivered().back(Back::Old, check, NOW.plus(after)));
        assert_eq!(old(HERE, TOO_SOON), Some(State::Delivered));
        assert_eq!(old(HERE, 12), Some(State::Reverted));
        assert_eq!(old(ELSEWHERE, 12), Some(State::Delivered));
        let in_session = Circumstances {
            same_session: true,
            ..HERE
        };
        assert_eq!(old(in_session, 60), Some(State::Delivered));
        assert_eq!(old(in_session, 61), Some(State::Reverted));
        let under_way = offered().acknowledged(0, 999, NOW);
        let back = under_way.back(Back::Old, HERE, NOW.plus(999));
        assert_eq!(state(back), Some(State::Downloading));
    }

    // Case 30b.
    #[test]
    fn a_postponed_reboot_is_waited_for_as_long_as_the_rules_allow() {
        let check = Circumstances {
            reboot_within: 12 * 3600,
            ..HERE
        };
        let mut journey = delivered();
        for hours in [1, 5, 9, 11] {
            journey = journey
                .back(Back::Old, check, NOW.plus(hours * 3600))
                .unwrap();
            assert_eq!((journey.state, journey.outcome), (State::Waiting, None));
        }
        let late = journey.back(Back::Old, check, NOW.plus(12 * 3600));
        assert_eq!(state(late), Some(State::Reverted));
        let new = journey.back(Back::New, check, NOW.plus(12 * 3600 - 1));
        assert_eq!(state(new), Some(State::Confirmed));
        let silent = delivered().waited(3 * 600 + 1, 600, 12 * 3600, NOW);
        assert_eq!(silent.state, State::Delivered);
    }

    #[test]
    fn a_fallback_within_a_day_of_the_confirmation_is_a_revert() {
        let confirmed = delivered().back(Back::New, HERE, NOW).unwrap();
        let old = |check, after| state(confirmed.back(Back::Old, check, NOW.plus(after)));
        assert_eq!(old(HERE, 5), Some(State::Reverted));
        assert_eq!(old(HERE, 23 * 3600), Some(State::Reverted));
        assert_eq!(old(ELSEWHERE, 600), Some(State::Confirmed));
        assert_eq!(old(HERE, 25 * 3600), None);
        // The proxy did deliver all of it.
        let confirmed = sent().back(Back::New, HERE, NOW).unwrap();
        let back = confirmed.back(Back::Old, HERE, NOW.plus(600));
        assert_eq!(state(back), Some(State::Reverted));
    }

    // Case 29.
    #[test]
    fn a_device_that_always_reports_the_new_version_first_stays_reverted_for_a_day() {
        let confirmed = delivered().back(Back::New, HERE, NOW).unwrap();
        let fallen = confirmed.back(Back::Old, HERE, NOW.plus(40)).unwrap();
        assert_eq!(fallen.outcome, Some(Outcome::FellBack));
        // Without another download the new version takes it back.
        let back = fallen.back(Back::New, HERE, NOW.plus(80)).unwrap();
        assert_eq!(back.outcome, Some(Outcome::Confirmed));
        let again = fallen.begun().acknowledged(0, SIZE, NOW.plus(80));
        let again = again.delivered(SIZE, false, NOW.plus(80));
        let again = again.back(Back::New, HERE, NOW.plus(120)).unwrap();
        assert_eq!(
            (again.state, again.outcome),
            (State::Confirmed, Some(Outcome::FellBack))
        );
        let later = again
            .back(Back::New, HERE, NOW.plus(121 + FALLBACK))
            .unwrap();
        assert_eq!(later.outcome, Some(Outcome::Confirmed));
    }

    // Case 29b.
    #[test]
    fn a_rollback_that_the_rules_give_is_no_revert() {
        let confirmed = delivered().back(Back::New, HERE, NOW).unwrap();
        let given = Circumstances {
            is_given: true,
            ..HERE
        };
        assert_eq!(confirmed.back(Back::Old, given, NOW.plus(600)), None);
    }

    #[test]
    fn a_device_behind_a_proxy_is_reverted_from_its_second_weak_attempt_in_a_row() {
        let again = |journey: Journey| {
            let journey = journey.begun().acknowledged(0, SIZE, NOW);
            journey.delivered(SIZE, true, NOW)
        };
        let first = sent().back(Back::Old, HERE, NOW.plus(30)).unwrap();
        assert_eq!((first.state, first.outcome), (State::Offered, None));
        let second = again(first).back(Back::Old, HERE, NOW.plus(30)).unwrap();
        assert_eq!(second.outcome, Some(Outcome::Reverted));
        let confirmed = again(first).back(Back::New, HERE, NOW.plus(30)).unwrap();
        assert_eq!((confirmed.state, confirmed.weak), (State::Confirmed, 0));
        // Silence in between changes nothing.
        let silent = again(first).waited(9999, 60, 0, NOW);
        let back = silent.back(Back::Old, HERE, NOW.plus(9999));
        assert_eq!(state(back), Some(State::Reverted));
    }

    #[test]
    fn a_version_that_says_nothing_ends_the_journey() {
        assert_eq!(delivered().back(Back::Other, HERE, NOW), None);
        assert_eq!(offered().back(Back::Other, ELSEWHERE, NOW), None);
        let elsewhere = delivered().back(Back::Other, ELSEWHERE, NOW);
        assert_eq!(state(elsewhere), Some(State::Delivered));
    }

    #[test]
    fn it_is_silent_after_three_of_its_intervals_and_never_before_it_has_all() {
        assert_eq!(
            delivered().waited(3 * 600, 600, 0, NOW).state,
            State::Delivered
        );
        let silent = delivered().waited(3 * 600 + 1, 600, 0, NOW);
        assert_eq!(silent.state, State::Silent);
        assert_eq!(
            delivered().waited(3 * 86_400, 0, 0, NOW).state,
            State::Delivered
        );
        assert_eq!(
            offered().waited(u32::MAX, 600, 0, NOW).state,
            State::Offered
        );
        let back = silent.back(Back::Old, HERE, NOW.plus(9999));
        assert_eq!(state(back), Some(State::Reverted));
    }

    #[test]
    fn a_second_download_after_a_revert_is_under_way_again() {
        let reverted = delivered().back(Back::Old, HERE, NOW.plus(90)).unwrap();
        let again = reverted.begun().acknowledged(0, 10, NOW.plus(91));
        assert_eq!((again.state, again.reached), (State::Downloading, 10));
    }
}
