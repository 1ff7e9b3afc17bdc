//! Update progress of a device to one release: offered → n % → delivered → confirmed, reverted or silent. Pure: the
//! time comes with each call. [`super::devices`] keeps the state of each device.
//!
//! A device that reports its old version after a delivery has not always reverted. Within [`TOO_SOON`] it has not
//! booted yet. A check from another network may come from another device with the same id. With `reboot_within` in the
//! rules, the device may postpone its reboot. No state is final: a device that reports the new version has it, and one
//! that was confirmed and reports the old version within a day has fallen back. docs/evidence.md has the table.

use super::clock::Stamp;
use super::short_version::ShortVersion;
use crate::decision::Back;
use crate::firmware::ContentId;

/// A delivered content that the device need not run yet, by the rules (`reboot_within`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AwaitedReboot {
    /// The content.
    pub content: ContentId,
    /// Seconds since the delivery.
    pub age: u32,
    /// Seconds after the delivery within which the rules allow the old version.
    pub within: u32,
}

/// Number of the content of a release, in [`super::releases`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetId(pub(super) u16);

impl TargetId {
    /// No content.
    pub const NONE: TargetId = TargetId(u16::MAX);
}

/// State of an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum State {
    /// The device was offered the release, and has no bytes yet.
    Offered = 0,
    /// The device has some of the bytes.
    Downloading = 1,
    /// The device has all bytes, and has not sent a check since.
    Delivered = 2,
    /// The device reports the new version.
    Confirmed = 3,
    /// The device reports the version that it ran before, or an older one.
    Reverted = 4,
    /// The device has sent no check for three of its own intervals since the delivery.
    Silent = 5,
    /// A trusted proxy has all bytes; the number of bytes that the device has is unknown.
    Sent = 6,
    /// The device has all bytes and still reports its old version, as `reboot_within` allows.
    Waiting = 7,
}

impl State {
    /// All states, in the order of their numbers.
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

    /// Whether the device has the whole file and its result is still awaited.
    pub fn has_all(self) -> bool {
        matches!(self, State::Delivered | State::Waiting)
    }

    /// Returns the state's name in the journal, the API and the metrics.
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

    /// Returns the state of this name.
    pub fn of_word(word: &str) -> Option<State> {
        State::ALL.into_iter().find(|state| state.word() == word)
    }
}

/// Time after a whole download within which a check counts as made before the reboot, in seconds.
pub const TOO_SOON: u32 = 3;

/// The same time for a check by packets from the source port of the download, in seconds.
pub const TOO_SOON_IN_SESSION: u32 = 60;

/// Time after the confirmation within which a device that reports its old version has fallen back, in seconds. After
/// that the device was flashed.
pub const FALLBACK: u32 = 24 * 60 * 60;

/// Number of consecutive weak attempts from which on a device counts as reverted.
const WEAK_LIMIT: u8 = 2;

/// Update progress of a device to one release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Content of the release that the device was offered.
    pub target: TargetId,
    /// State of the update.
    pub state: State,
    /// Time at which `state` began.
    pub since: Stamp,
    /// Offset up to which the device has all bytes, at most 4 GiB.
    pub reached: u32,
    /// Last result, which stays until the next one.
    pub outcome: Option<Outcome>,
    /// Number of consecutive weak attempts, 0 to 3. In a weak attempt the whole file was sent through a proxy, and the
    /// device came back with the old version.
    pub weak: u8,
    /// Whether the last delivery was to a trusted proxy.
    pub by_proxy: bool,
    /// Version that the device ran when it was offered the release.
    pub from: ShortVersion,
}

/// The result of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The device came back with the new version.
    Confirmed,
    /// The device came back with the old version.
    Reverted,
    /// The device came back with the new version, and fell back to the old one. After another download its new version
    /// is no evidence, because such a device always reports the new version first.
    FellBack,
}

impl Outcome {
    /// Returns the outcome's name in the journal.
    pub fn word(self) -> &'static str {
        match self {
            Outcome::Confirmed => "confirmed",
            Outcome::Reverted => "reverted",
            Outcome::FellBack => "fell_back",
        }
    }

    /// Returns the outcome of this name.
    pub fn of_word(word: &str) -> Option<Outcome> {
        let all = [Outcome::Confirmed, Outcome::Reverted, Outcome::FellBack];
        all.into_iter().find(|outcome| outcome.word() == word)
    }

    /// Whether the outcome counts as a revert.
    pub fn is_revert(self) -> bool {
        matches!(self, Outcome::Reverted | Outcome::FellBack)
    }
}

/// Circumstances of a check that reports the old version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Circumstances {
    /// Whether the check comes from the network to which the file was delivered, or where the device was last seen.
    pub same_place: bool,
    /// Whether the check comes by packets from the source port of the download.
    pub same_session: bool,
    /// Seconds after the delivery within which the rules allow the old version.
    pub reboot_within: u32,
    /// Whether the rules offer the old version to devices that run the new one.
    pub is_given: bool,
}

impl Circumstances {
    /// Whether a check that comes `age` seconds after the delivery was made before the reboot.
    pub fn is_too_soon(self, age: u32) -> bool {
        age <= TOO_SOON || self.same_session && age <= TOO_SOON_IN_SESSION
    }
}

impl Progress {
    /// Creates the update progress of a device that is offered `target` and runs the version `from`.
    pub fn offered(target: TargetId, from: ShortVersion, now: Stamp) -> Progress {
        Progress {
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

    /// Returns the progress after a download begins from byte 0: the bytes that the device had no longer count.
    pub fn begun(self) -> Progress {
        match self.state {
            State::Offered | State::Downloading | State::Reverted => self.with_reached(0),
            // The device had the whole file. Only bytes that arrive show that it downloads again.
            State::Delivered | State::Sent | State::Waiting | State::Silent | State::Confirmed => {
                self
            }
        }
    }

    /// Returns the progress after the bytes before `high` arrived in a transfer that began at byte `start`.
    pub fn acknowledged(self, start: u64, high: u64, now: Stamp) -> Progress {
        let (start, high) = (capped(start), capped(high));
        if high <= start {
            return self;
        }
        match self.state {
            State::Downloading if start <= self.reached => Progress {
                reached: self.reached.max(high),
                ..self
            },
            State::Offered if start <= self.reached => {
                let reached = self.reached.max(high);
                self.in_state(State::Downloading, now).with_reached(reached)
            }
            State::Delivered | State::Sent | State::Waiting | State::Silent | State::Reverted
                if start == 0 =>
            {
                self.in_state(State::Downloading, now).with_reached(high)
            }
            State::Reverted if start <= self.reached => {
                let reached = self.reached.max(high);
                self.in_state(State::Downloading, now).with_reached(reached)
            }
            // The device came back before the end of its download was noted.
            State::Confirmed if start <= self.reached => self.with_reached(self.reached.max(high)),
            _ => self,
        }
    }

    /// Whether the device has the whole file, whose size is `size` bytes.
    pub fn has_all(self, size: u64) -> bool {
        self.reached == capped(size) && size > 0
    }

    /// Returns the progress after a transfer brought the end of the file of `size` bytes in good order. `by_proxy`: the
    /// transfer was to a trusted proxy.
    pub fn delivered(self, size: u64, by_proxy: bool, now: Stamp) -> Progress {
        let has_all = self.has_all(size);
        let state = match by_proxy {
            true => State::Sent,
            false => State::Delivered,
        };
        match self.state {
            State::Downloading if has_all => Progress {
                by_proxy,
                ..self.in_state(state, now)
            },
            _ => self,
        }
    }

    /// Returns the progress after a check from the beginning of the file; `None` if the update ends without a result.
    pub fn back(self, back: Back, check: Circumstances, now: Stamp) -> Option<Progress> {
        let age = now.since(self.since);
        let had_all = self.had_all();
        match back {
            Back::New if self.state == State::Confirmed => Some(match age > FALLBACK {
                true => Progress {
                    outcome: Some(Outcome::Confirmed),
                    ..self
                },
                false => self,
            }),
            Back::New => Some(Progress {
                outcome: match (self.outcome, self.state) {
                    (Some(Outcome::FellBack), State::Reverted) => Some(Outcome::Confirmed),
                    (Some(Outcome::FellBack), _) => Some(Outcome::FellBack),
                    _ => Some(Outcome::Confirmed),
                },
                weak: 0,
                ..self.in_state(State::Confirmed, now)
            }),
            // Any device can claim this id, so a check from elsewhere is no evidence.
            Back::Old | Back::Other if had_all && !check.same_place => Some(self),
            Back::Other => None,
            Back::Old => match self.state {
                State::Offered | State::Downloading | State::Reverted => Some(self),
                State::Confirmed if age > FALLBACK || check.is_given => None,
                State::Confirmed => Some(Progress {
                    outcome: Some(Outcome::FellBack),
                    ..self.reverted(now)
                }),
                State::Delivered | State::Sent | State::Waiting if check.is_too_soon(age) => {
                    Some(self)
                }
                // `reboot_within` still counts from the delivery.
                State::Delivered | State::Waiting if age < check.reboot_within => Some(Progress {
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

    fn reverted(self, now: Stamp) -> Progress {
        Progress {
            outcome: Some(Outcome::Reverted),
            ..self.in_state(State::Reverted, now)
        }
    }

    /// Counts one more weak attempt. The first one is no evidence yet.
    fn weak_attempt(self, now: Stamp) -> Progress {
        let weak = self.weak.saturating_add(1).min(3);
        match weak {
            ..WEAK_LIMIT => Progress {
                weak,
                ..self.in_state(State::Offered, now).with_reached(0)
            },
            _ => Progress {
                weak,
                ..self.reverted(now)
            },
        }
    }

    /// Returns the progress after `silence` seconds in which the device could have sent a check and did not.
    /// `interval` and `reboot_within` are as for [`Progress::patience`].
    pub fn waited(self, silence: u32, interval: u32, reboot_within: u32, now: Stamp) -> Progress {
        match self.patience(interval, reboot_within) {
            Some(patience) if silence > patience => self.in_state(State::Silent, now),
            _ => self,
        }
    }

    /// Returns the number of seconds without a check after which the device becomes silent, if its check is awaited. It
    /// sends a check about every `interval` seconds (0: unknown), and may reboot within `reboot_within` seconds.
    pub fn patience(self, interval: u32, reboot_within: u32) -> Option<u32> {
        let awaited = matches!(self.state, State::Delivered | State::Sent | State::Waiting);
        awaited.then(|| patience(interval).max(reboot_within))
    }

    fn in_state(self, state: State, now: Stamp) -> Progress {
        Progress {
            state,
            since: now,
            ..self
        }
    }

    fn with_reached(self, reached: u32) -> Progress {
        Progress { reached, ..self }
    }
}

/// Returns three of a device's intervals in seconds, or three days if the interval is unknown.
pub fn patience(interval: u32) -> u32 {
    const DAY: u32 = 24 * 60 * 60;
    match interval {
        0 => 3 * DAY,
        known => known.saturating_mul(3),
    }
}

/// Returns an offset in a file as [`Progress`] stores it: at most 4 GiB.
pub fn capped(bytes: u64) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
