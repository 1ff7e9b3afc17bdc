//! State of a device on its way to a release: offered → n % → delivered → confirmed, reverted or
//! silent. Pure; the time comes with each call. Kept by [`super::devices`].
//!
//! A device that reports its old version after a delivery is not always reverted: within [`TOO_SOON`] it asks
//! again without having booted, from another network it may be another device under the same id, and with
//! `reboot_within` in the rules it waits for its time to reboot. No state is final: a device that reports the new
//! version has it, and one that had it and reports the old one within a day fell back. docs/evidence.md has the table.

use super::clock::Stamp;
use super::short_version::ShortVersion;
use crate::decision::Back;
use crate::firmware::ContentId;

/// A delivered content that the rules (`reboot_within`) do not expect the device to run yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AwaitedReboot {
    /// The content.
    pub content: ContentId,
    /// Seconds since the delivery.
    pub age: u32,
    /// Seconds that the device may take from the delivery.
    pub within: u32,
}

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

    /// Whether the device has the whole file and did not come back with either version.
    pub fn has_all(self) -> bool {
        matches!(self, State::Delivered | State::Waiting)
    }

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
            // It came back before the end of its download was noted.
            State::Confirmed if start <= self.reached => self.at(self.reached.max(high)),
            _ => self,
        }
    }

    /// Whether it has the whole file, of this size.
    pub fn has_all(self, size: u64) -> bool {
        self.reached == capped(size) && size > 0
    }

    /// A transfer brought the end of the file, of this size, in good order. `by_proxy`: to a trusted
    /// proxy.
    pub fn delivered(self, size: u64, by_proxy: bool, now: Stamp) -> Journey {
        let has_all = self.has_all(size);
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
mod tests;
