//! The last steps of all devices together, and the last refusal of each, for people. In memory only: they begin anew with
//! each run.
//!
//! A check that is answered as the one before it is no step, so a fleet that only asks makes none. Devices on probation
//! are anybody's invention: once the steps are full, theirs are not recorded, and so never evict those of others.

use std::cmp::Reverse;
use std::collections::VecDeque;

use super::Devices;
use super::record::{DeviceRecord, LastRefusal};
use crate::decision::{RefusedCheck, Verdict};
use crate::firmware::audience::DeviceId;
use crate::fleet::clock::Stamp;
use crate::fleet::journey::{Journey, State};
use crate::fleet::short_version::ShortVersion;

/// Steps at most, of 48 bytes each: 3 MB. The memory is allocated as they fill it.
const MOST: usize = 65_536;

/// Steps that are shown of one device.
const SHOWN: usize = 20;

/// Reasons of refusals at most, each a rule with the version of a release. Further ones count as [`OTHER`].
const REASONS: usize = 1024;

/// The text in place of the reasons beyond [`REASONS`].
const OTHER: &str = "another reason";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StepKind {
    /// It reports another version.
    Version,
    /// It was refused; the number of the reason.
    Refused(u16),
    /// Its journey is in another state.
    State(State),
}

#[derive(Clone, Copy, Debug)]
struct DeviceStep {
    device: DeviceId,
    at: Stamp,
    kind: StepKind,
    /// The version that it reports, or that of the release; empty for a refusal.
    version: ShortVersion,
}

/// The steps, oldest first, and the reasons of refusals.
#[derive(Debug, Default)]
pub(super) struct StepRing {
    steps: VecDeque<DeviceStep>,
    reasons: Vec<Box<str>>,
}

/// A step of one device.
#[derive(Clone, Debug, PartialEq)]
pub struct StepView {
    /// When.
    pub at: Stamp,
    /// `seen` for the first time, another `version`, `refused`, or the word of a [`State`].
    pub word: &'static str,
    /// The version that it reports, or that of the release; empty for a refusal.
    pub version: Box<str>,
    /// Why it was refused.
    pub reason: Option<Box<str>>,
}

/// The last steps of one device.
#[derive(Clone, Debug, PartialEq)]
pub struct StepsView {
    /// The last twenty, newest first.
    pub steps: Vec<StepView>,
    /// Earlier steps may be missing.
    pub since: Stamp,
    /// The last refusal in this run: why, and when.
    pub refusal: Option<(Box<str>, Stamp)>,
}

impl StepRing {
    fn is_full(&self) -> bool {
        self.steps.len() >= MOST
    }

    fn push(&mut self, step: DeviceStep) {
        if self.is_full() {
            self.steps.pop_front();
        }
        self.steps.push_back(step);
    }

    /// The number of the reason of a refusal; `last` is likely.
    fn number(&mut self, refused: &RefusedCheck<'_>, last: u16) -> u16 {
        if self.reason(last).is_some_and(|text| is_text(text, refused)) {
            return last;
        }
        let known = self.reasons.iter();
        let at = known.rev().position(|text| is_text(text, refused));
        let number = match at {
            Some(from_end) => self.reasons.len() - from_end,
            None if self.reasons.len() >= REASONS => REASONS + 1,
            None => {
                self.reasons.push(refused.to_string().into());
                self.reasons.len()
            }
        };
        u16::try_from(number).unwrap_or_default()
    }

    fn reason(&self, number: u16) -> Option<&str> {
        let at = usize::from(number).checked_sub(1)?;
        let text = self.reasons.get(at).map(|text| &**text);
        text.or((at == REASONS).then_some(OTHER))
    }
}

/// Whether a refusal is shown as this text.
fn is_text(text: &str, refused: &RefusedCheck<'_>) -> bool {
    let rule = match refused.release {
        Some(release) => {
            let rest = text.strip_prefix(&*release.version_text);
            rest.and_then(|rest| rest.strip_prefix(": "))
        }
        None => Some(text),
    };
    rule == Some(refused.rule)
}

impl Devices {
    /// Records that a known device reports another version than `before`.
    pub(super) fn note_version(&mut self, slot: u32, before: ShortVersion, now: Stamp) {
        if let Some(record) = self.table.get(slot)
            && record.version != before
        {
            self.add_step(slot, StepKind::Version, record.version, now);
        }
    }

    /// Records another state of a device's journey.
    pub(super) fn note_journey(
        &mut self,
        slot: u32,
        before: Option<Journey>,
        after: Option<Journey>,
    ) {
        let place = |journey: Option<Journey>| journey.map(|j| (j.target, j.state));
        if place(before) != place(after)
            && let Some(journey) = after
            && let Some(target) = self.releases.get(journey.target)
        {
            let version = ShortVersion::of(&target.version);
            self.add_step(slot, StepKind::State(journey.state), version, journey.since);
        }
    }

    /// Records the answer to a check, if it is another one than before.
    pub(super) fn note_verdict(&mut self, slot: u32, verdict: &Verdict<'_>, now: Stamp) {
        let Some(record) = self.table.get_mut(slot) else {
            return;
        };
        let last = record.refused;
        match verdict {
            Verdict::Refuse(refused) => {
                let reason = self.steps.number(refused, last.reason);
                record.refused = LastRefusal {
                    reason,
                    is_past: false,
                    at: now,
                };
                if last.is_past || last.reason != reason {
                    self.add_step(
                        slot,
                        StepKind::Refused(reason),
                        ShortVersion::default(),
                        now,
                    );
                }
            }
            // An offer of what it is under way to already, after a refusal in between.
            Verdict::Offer(offer) if last.reason > 0 && !last.is_past => {
                let version = ShortVersion::of(&offer.release.version_text);
                self.add_step(slot, StepKind::State(State::Offered), version, now);
            }
            Verdict::Offer(_) => {}
        }
    }

    fn add_step(&mut self, slot: u32, kind: StepKind, version: ShortVersion, at: Stamp) {
        let Some(record) = self.table.get_mut(slot) else {
            return;
        };
        record.refused.is_past = !matches!(kind, StepKind::Refused(_));
        if record.is_established() || !self.steps.is_full() {
            self.steps.push(DeviceStep {
                device: record.device,
                at,
                kind,
                version,
            });
        }
    }

    /// The last steps of a device. Looks through all steps: 0.1 ms (65,536 steps, one core of a server).
    pub fn steps(&self, device: DeviceId) -> Option<StepsView> {
        let record = self.table.device(device)?;
        let StepRing { steps, .. } = &self.steps;
        let own = steps.iter().rev().filter(|step| step.device == device);
        let mut shown: Vec<StepView> = own.take(SHOWN).map(|step| self.step_view(step)).collect();
        shown.extend(self.remembered_steps(record, &shown));
        shown.sort_by_key(|step| Reverse(step.at));
        shown.truncate(SHOWN);
        let oldest = steps.front().filter(|_| self.steps.is_full());
        let refusal = self.steps.reason(record.refused.reason);
        Some(StepsView {
            steps: shown,
            since: oldest.map_or(self.began, |step| step.at),
            refusal: refusal.map(|reason| (reason.into(), record.refused.at)),
        })
    }

    /// The steps that follow from the record itself, those of earlier runs too, as far as they are not shown.
    fn remembered_steps(&self, record: &DeviceRecord, shown: &[StepView]) -> Vec<StepView> {
        let journey = record.journey.and_then(|journey| {
            let target = self.releases.get(journey.target)?;
            Some(StepView {
                at: journey.since,
                word: journey.state.word(),
                version: (*target.version).into(),
                reason: None,
            })
        });
        let is_new = |step: &StepView| {
            let mut shown = shown.iter();
            !shown.any(|other| (other.at, other.word) == (step.at, step.word))
        };
        let seen = StepView {
            at: record.first,
            word: "seen",
            version: "".into(),
            reason: None,
        };
        let journey = journey.filter(is_new);
        journey.into_iter().chain([seen]).collect()
    }

    fn step_view(&self, step: &DeviceStep) -> StepView {
        let (word, reason) = match step.kind {
            StepKind::Version => ("version", None),
            StepKind::Refused(number) => ("refused", self.steps.reason(number)),
            StepKind::State(state) => (state.word(), None),
        };
        StepView {
            at: step.at,
            word,
            version: step.version.as_str().into(),
            reason: reason.map(Into::into),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::Refusal;

    #[test]
    fn steps_and_reasons_are_bounded() {
        assert_eq!(size_of::<DeviceStep>(), 48);
        let mut ring = StepRing::default();
        for n in 0..=MOST {
            ring.push(DeviceStep {
                device: DeviceId::Imei(n as u64),
                at: Stamp(n as u32),
                kind: StepKind::Version,
                version: ShortVersion::default(),
            });
        }
        assert_eq!(ring.steps.len(), MOST);
        assert_eq!(ring.steps.front().unwrap().at, Stamp(1));
        let mut number = |rule: &str| {
            let refused = RefusedCheck {
                refusal: Refusal::NotNow,
                release: None,
                rule,
            };
            let number = ring.number(&refused, 1);
            (number, ring.reason(number).unwrap().to_owned())
        };
        let first = number("nothing newer");
        for n in 1..REASONS {
            let rule = format!("paused {n}");
            assert_eq!(number(&rule), (n as u16 + 1, rule));
        }
        for rule in ["one more", "and another"] {
            assert_eq!(number(rule), (REASONS as u16 + 1, OTHER.to_owned()));
        }
        assert_eq!(number("paused 7").0, 8);
        assert_eq!(number("nothing newer"), first);
        assert_eq!(ring.reason(0), None);
    }
}
