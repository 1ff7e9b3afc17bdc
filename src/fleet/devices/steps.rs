//! The last steps of all devices, and the last refusal of each, for people. They are only kept in memory, so they start
//! empty in each run.
//!
//! A check with the same reply as the one before it is not a step, so a fleet that only sends checks makes none. Anyone
//! can invent devices on probation. Therefore their steps are not recorded once the memory is full, so that they never
//! evict those of other devices.

use std::cmp::Reverse;
use std::collections::VecDeque;

use super::Devices;
use super::record::{DeviceRecord, LastRefusal};
use crate::decision::{RefusedCheck, Verdict};
use crate::firmware::audience::DeviceId;
use crate::fleet::clock::Stamp;
use crate::fleet::progress::{Progress, State};
use crate::fleet::short_version::ShortVersion;

/// Largest number of steps, of 48 bytes each: 3 MB. The memory is allocated as it is filled.
const MAX_STEPS: usize = 65_536;

/// Largest number of steps that are shown for one device.
const SHOWN: usize = 20;

/// Largest number of reasons of refusals, each a rule with the version of a release. Further ones count as [`OTHER`].
const MAX_REASONS: usize = 1024;

/// Text that replaces the reasons beyond [`MAX_REASONS`].
const OTHER: &str = "another reason";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StepKind {
    /// The device reports another version.
    Version,
    /// The device was refused, with the number of the reason.
    Refused(u16),
    /// The update of the device is in another state.
    State(State),
}

#[derive(Clone, Copy, Debug)]
struct DeviceStep {
    device: DeviceId,
    at: Stamp,
    kind: StepKind,
    /// The version that the device reports, or that of the release; empty for a refusal.
    version: ShortVersion,
}

/// The steps of all devices, oldest first, and the reasons of refusals.
#[derive(Debug, Default)]
pub(super) struct StepRing {
    steps: VecDeque<DeviceStep>,
    reasons: Vec<Box<str>>,
}

/// A step of one device.
#[derive(Clone, Debug, PartialEq)]
pub struct StepView {
    /// Time of the step.
    pub at: Stamp,
    /// `seen` (first sighting), `version` (another version), `refused`, or the word of a [`State`].
    pub word: &'static str,
    /// The version that the device reports, or that of the release; empty for a refusal.
    pub version: Box<str>,
    /// Reason of a refusal.
    pub reason: Option<Box<str>>,
}

/// The last steps of one device.
#[derive(Clone, Debug, PartialEq)]
pub struct StepsView {
    /// The last twenty steps, newest first.
    pub steps: Vec<StepView>,
    /// Time before which steps may be missing.
    pub since: Stamp,
    /// Reason and time of the last refusal in this run.
    pub refusal: Option<(Box<str>, Stamp)>,
}

impl StepRing {
    fn is_full(&self) -> bool {
        self.steps.len() >= MAX_STEPS
    }

    fn push(&mut self, step: DeviceStep) {
        if self.is_full() {
            self.steps.pop_front();
        }
        self.steps.push_back(step);
    }

    /// Returns the number of the reason of a refusal. `last` is tried first, because it is the most likely one.
    fn number(&mut self, refused: &RefusedCheck<'_>, last: u16) -> u16 {
        if self.reason(last).is_some_and(|text| is_text(text, refused)) {
            return last;
        }
        let known = self.reasons.iter();
        let at = known.rev().position(|text| is_text(text, refused));
        let number = match at {
            Some(from_end) => self.reasons.len() - from_end,
            None if self.reasons.len() >= MAX_REASONS => MAX_REASONS + 1,
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
        text.or((at == MAX_REASONS).then_some(OTHER))
    }
}

/// Whether `text` is the text of this refusal.
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

    /// Records a change of state of a device's update.
    pub(super) fn note_progress(
        &mut self,
        slot: u32,
        before: Option<Progress>,
        after: Option<Progress>,
    ) {
        let place = |progress: Option<Progress>| progress.map(|j| (j.target, j.state));
        if place(before) != place(after)
            && let Some(progress) = after
            && let Some(target) = self.releases.get(progress.target)
        {
            let version = ShortVersion::of(&target.version);
            let kind = StepKind::State(progress.state);
            self.add_step(slot, kind, version, progress.since);
        }
    }

    /// Records the reply to a check, if it differs from the one before.
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
            // The device is offered the release of its current update again, after a refusal in between.
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

    /// Returns the last steps of a device. Searches all steps, which takes 0.1 ms (65,536 steps, one core of a server).
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

    /// Returns the steps that follow from the record itself, including those of earlier runs, except those that are
    /// shown already.
    fn remembered_steps(&self, record: &DeviceRecord, shown: &[StepView]) -> Vec<StepView> {
        let progress = record.progress.and_then(|progress| {
            let target = self.releases.get(progress.target)?;
            Some(StepView {
                at: progress.since,
                word: progress.state.word(),
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
        let progress = progress.filter(is_new);
        progress.into_iter().chain([seen]).collect()
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
        for n in 0..=MAX_STEPS {
            ring.push(DeviceStep {
                device: DeviceId::Imei(n as u64),
                at: Stamp(n as u32),
                kind: StepKind::Version,
                version: ShortVersion::default(),
            });
        }
        assert_eq!(ring.steps.len(), MAX_STEPS);
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
        for n in 1..MAX_REASONS {
            let rule = format!("paused {n}");
            assert_eq!(number(&rule), (n as u16 + 1, rule));
        }
        for rule in ["one more", "and another"] {
            assert_eq!(number(rule), (MAX_REASONS as u16 + 1, OTHER.to_owned()));
        }
        assert_eq!(number("paused 7").0, 8);
        assert_eq!(number("nothing newer"), first);
        assert_eq!(ring.reason(0), None);
    }
}
