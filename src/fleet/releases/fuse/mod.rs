//! The release fuse: pauses a release from which too many devices come back with their old version.
//! [`crate::fleet::devices`] determines which devices count and how many came back. This module judges these numbers
//! and keeps the pause.
//!
//! A pause is written into the release's release.json, for people to see. It is kept here and in the journal as well,
//! so that a mirror that restores an old release.json does not undo the pause (docs/hazards.md 38). A pause ends by
//! [`Releases::resume`] (page, API, `luat-ota resume`), or by a release.json that says `"paused": false` and is not
//! byte for byte the one from before the pause. A pause of which only the folder knows, because the state was lost, ends
//! when release.json no longer states it. Then all counting starts anew.
//!
//! One device every ten minutes still tries a paused release. Otherwise three forged devices could stop a rollout
//! permanently. The trials show a person whether the release is really bad.

use std::sync::Arc;

use super::Releases;
use crate::decision::{FUSE, Fused, SET_TO_FALSE};
use crate::firmware::ContentId;
use crate::firmware::audience::DeviceId;
use crate::firmware::catalog::Release;
use crate::firmware::rules::{Paused, Rules};
use crate::fleet::clock::Stamp;
use crate::fleet::entry::ReleaseEntry;
use crate::fleet::progress::{State, TargetId};
use crate::fleet::shared::SharedContent;

/// Number of devices that must come back with their old version, unless release.json says otherwise.
const DEFAULT_DEVICES: u32 = 3;
/// Percentage of the heard devices that must come back with their old version, unless release.json says otherwise.
const DEFAULT_PERCENT: f64 = 20.0;

/// Number of devices that count and must be heard before a release is judged; fewer if all that count were heard.
const MIN_HEARD: u32 = 16;

/// Minimum time between two judgements of a release, in seconds.
const JUDGE_INTERVAL: u32 = 1;

/// Minimum time between trials of paused releases of one project by different devices, in seconds.
const TRIAL: u32 = 10 * 60;

/// Time from a start to the next attempt to write a pause that the folder does not state, in seconds.
const RETRY_AFTER_START: u32 = 60;

/// Time between attempts to write a pause into a folder that could not be written, in seconds.
const RETRY_INTERVAL: u32 = 60 * 60;

/// Devices that count when a release is judged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Number of listed and established devices of the project.
    pub established: u32,
    /// Group of the whole release, and after it the group of each of its contents.
    pub groups: Vec<Group>,
}

/// Devices that count for a release or one of its contents, with their results.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// Number of devices by result.
    pub outcomes: OutcomeCounts,
    /// Number of devices that count and were heard or can still be heard.
    pub admitted: u32,
    /// Whether the devices that count are in at least two networks.
    pub spread: bool,
    /// Whether the reverted devices are in at least two networks.
    pub reverted_spread: bool,
}

/// Number of devices by result, for a release or one of its contents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutcomeCounts {
    /// Devices that came back with the new version.
    pub confirmed: u32,
    /// Devices that came back with the old version.
    pub reverted: u32,
    /// Devices that did not come back within three of their intervals.
    pub silent: u32,
}

impl OutcomeCounts {
    /// Number of devices that were heard; silent ones count as heard.
    pub fn heard(self) -> u32 {
        self.confirmed + self.reverted + self.silent
    }
}

/// A release from which enough devices came back with their old version to judge it.
#[derive(Clone, Debug)]
pub struct Suspect {
    /// The project.
    pub project: Box<str>,
    /// The version, as the folder writes it.
    pub version: Box<str>,
    /// The rules of the release.
    pub rules: Arc<Rules>,
}

/// Result of a judgement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FuseVerdict {
    /// The release is not paused.
    Fine,
    /// A warning sentence for the operator: the fuse would trip, but all devices that came back are in one network, so
    /// that one person may have caused this. Returned once.
    Suspect(String),
    /// The release is paused from now on, and the pause is to be written into the folder.
    Tripped(Fused),
}

/// The fuse of one release.
#[derive(Debug, Default)]
pub(super) struct ReleaseFuse {
    /// Rules of the release; `None` if the release is not in the folder.
    rules: Option<Arc<Rules>>,
    pause: Option<Pause>,
    /// Whether a [`FuseVerdict::Suspect`] was returned.
    warned: bool,
    /// Time of the last judgement.
    judged: Option<Stamp>,
}

#[derive(Debug)]
struct Pause {
    sentence: Box<str>,
    /// Time at which the pause began, or was last written into the folder or failed to be.
    at: Stamp,
    /// Content of the release.json before the pause; `None` if there was none.
    before: Option<ContentId>,
    /// Whether only the folder states the pause: the state of the run that paused the release is lost.
    adopted: bool,
    /// Whether the pause was written into the folder.
    written: bool,
    /// Whether the folder states the pause now.
    seen: bool,
    /// Time of the next attempt to write the pause into the folder.
    retry_at: Stamp,
}

impl ReleaseFuse {
    pub(super) fn is_paused(&self) -> bool {
        self.pause.is_some()
    }

    /// Rules of the release; `None` if the release is not in the folder.
    pub(super) fn rules(&self) -> Option<&Arc<Rules>> {
        self.rules.as_ref()
    }

    pub(super) fn is_in_folder(&self) -> bool {
        self.rules.is_some()
    }

    /// Marks the release as not in the folder. Returns whether it was in the folder.
    pub(super) fn leave_folder(&mut self) -> bool {
        self.rules.take().is_some()
    }

    /// Forgets everything about a release that has left the folder, except a pause that the folder alone did not state.
    pub(super) fn forget_folder(&mut self) {
        let pause = self.pause.take().filter(|pause| !pause.adopted);
        *self = ReleaseFuse {
            pause,
            ..ReleaseFuse::default()
        };
    }

    /// Takes over the release of a project as the folder now has it. Returns whether a person has ended its pause.
    pub(super) fn enter_folder(&mut self, project: &str, release: &Release, now: Stamp) -> bool {
        self.rules = Some(Arc::clone(&release.rules));
        let by_fuse = match &release.rules.paused {
            Some(Paused::Because(sentence)) if sentence.starts_with(FUSE) => Some(sentence),
            _ => None,
        };
        let Some(pause) = &mut self.pause else {
            // The release was paused by an earlier run.
            self.pause = by_fuse.map(|sentence| Pause {
                sentence: sentence.as_str().into(),
                at: now,
                before: None,
                adopted: true,
                written: true,
                seen: true,
                retry_at: now,
            });
            return false;
        };
        if by_fuse.is_some() {
            (pause.written, pause.seen) = (true, true);
            return false;
        }
        let is_unpaused = release.rules.paused == Some(Paused::No);
        if pause.adopted || (is_unpaused && release.rules.digest.0 != pause.before) {
            (self.pause, self.warned) = (None, false);
            return true;
        }
        if std::mem::replace(&mut pause.seen, false) {
            log::warn!(
                target: "fuse",
                project, version = &*release.version_text;
                "release.json no longer contains the pause by the fuse. The release stays paused until \
                 it is resumed on the page or with luat-ota resume, or until release.json \
                 contains \"paused\": false and is not the one from before the pause"
            );
        }
        false
    }

    /// Takes over a pause from the journal, with the content of the release.json before the pause, or the end of a
    /// pause.
    pub(super) fn load(
        &mut self,
        sentence: Option<Box<str>>,
        before: Option<ContentId>,
        now: Stamp,
    ) {
        self.pause = sentence.map(|sentence| Pause {
            sentence,
            at: now,
            before,
            adopted: false,
            written: false,
            seen: false,
            retry_at: now.plus(RETRY_AFTER_START),
        });
    }

    /// Sentence of the pause for the journal, and content of the release.json before the pause.
    pub(super) fn entry(&self) -> (Option<Box<str>>, Option<ContentId>) {
        match &self.pause {
            Some(pause) if !pause.adopted => (Some(pause.sentence.clone()), pause.before),
            _ => (None, None),
        }
    }

    /// Returns the rules of the release if its fuse may trip with this number of devices that came back.
    fn may_trip(&mut self, reverted: u32, now: Stamp) -> Option<Arc<Rules>> {
        let rules = self.rules.as_ref()?;
        let is_paused = matches!(rules.paused, Some(Paused::Yes | Paused::Because(_)));
        let (devices, _) = limits(rules);
        let is_due = self.judged.is_none_or(|at| now.since(at) >= JUDGE_INTERVAL);
        if self.pause.is_some() || is_paused || reverted < devices || !is_due {
            return None;
        }
        self.judged = Some(now);
        Some(Arc::clone(rules))
    }

    fn judge(
        &mut self,
        (project, version): (&str, &str),
        census: &Census,
        now: Stamp,
    ) -> FuseVerdict {
        let Some(rules) = &self.rules else {
            return FuseVerdict::Fine;
        };
        let (devices, percent) = limits(rules);
        let is_bad = |group: &&Group| {
            let (heard, reverted) = (group.outcomes.heard(), group.outcomes.reverted);
            heard >= MIN_HEARD.min(group.admitted)
                && reverted >= devices
                && f64::from(reverted) * 100.0 >= percent * f64::from(heard)
        };
        let is_spread = |group: &&Group| group.reverted_spread || !group.spread;
        let mut bad = census.groups.iter().filter(is_bad);
        let Some(group) = bad.clone().find(is_spread).or_else(|| bad.next()) else {
            return FuseVerdict::Fine;
        };
        let what = format!(
            "{} of {} devices that had {version} came back with their old version",
            group.outcomes.reverted,
            group.outcomes.heard()
        );
        if !is_spread(&group) {
            if std::mem::replace(&mut self.warned, true) {
                return FuseVerdict::Fine;
            }
            return FuseVerdict::Suspect(format!(
                "{project} {version}: {what}, all from one network: the release is not paused; check why"
            ));
        }
        let sentence = format!("{FUSE}{what}{SET_TO_FALSE}").into_boxed_str();
        self.pause = Some(Pause {
            sentence: sentence.clone(),
            at: now,
            before: rules.digest.0,
            adopted: false,
            written: false,
            seen: false,
            retry_at: now.plus(RETRY_INTERVAL),
        });
        FuseVerdict::Tripped(Fused {
            project: project.into(),
            version: version.into(),
            sentence,
        })
    }

    /// Time of the next attempt to write the pause into the folder; `None` if it was written, or there is no pause.
    fn retry_at(&self) -> Option<Stamp> {
        let pause = self.pause.as_ref().filter(|pause| !pause.written)?;
        Some(pause.retry_at)
    }
}

impl Releases {
    /// Releases from which enough devices came back with their old version to judge them now.
    pub fn suspects(&mut self, now: Stamp) -> Vec<Suspect> {
        let mut suspects = Vec::new();
        for project in &mut self.projects {
            for (version, release) in &mut project.releases {
                let targets = release.targets.iter();
                let targets =
                    targets.filter_map(|id| self.targets.get(usize::from(id.0))?.as_ref());
                let reverted: u32 = targets.map(|target| target.reverted).sum();
                let reverted = reverted.saturating_add(release.peer_reverts);
                if reverted > 0
                    && let Some(rules) = release.fuse.may_trip(reverted, now)
                {
                    suspects.push(Suspect {
                        project: (*project.name).into(),
                        version: version.clone(),
                        rules,
                    });
                }
            }
        }
        suspects
    }

    /// Takes over the numbers of devices that came back with their old version at other servers, by content.
    pub fn set_peer_reverts(&mut self, contents: &[(SharedContent, u32)]) {
        for project in &mut self.projects {
            for release in project.releases.values_mut() {
                release.peer_reverts = 0;
            }
        }
        for (content, reverted) in contents {
            if let Some(release) = self.release_mut(&content.project, &content.version) {
                release.peer_reverts = release.peer_reverts.saturating_add(*reverted);
            }
        }
    }

    /// Judges a suspect by the devices that count.
    pub fn judge(
        &mut self,
        project: &str,
        version: &str,
        census: &Census,
        now: Stamp,
    ) -> FuseVerdict {
        let Some(release) = self.release_mut(project, version) else {
            return FuseVerdict::Fine;
        };
        let verdict = release.fuse.judge((project, version), census, now);
        self.collect_pauses();
        verdict
    }

    /// Judges a release after another device has become silent that got this content. If too many are silent now, returns
    /// the journal's entry of the release and a sentence, once until a person resumes the release. The limits are those at
    /// which devices that come back with their old version trip the fuse.
    pub fn too_many_silent(&mut self, id: TargetId, now: Stamp) -> Option<(ReleaseEntry, String)> {
        let (project, version) = self.names(id)?;
        let counts = self.counts(&project, &version);
        let [silent, confirmed, reverted] =
            [State::Silent, State::Confirmed, State::Reverted].map(|state| counts.of(state));
        let heard = silent + confirmed + reverted;
        let release = self.release_mut(&project, &version)?;
        let (devices, percent) = limits(release.fuse.rules.as_ref()?);
        let is_bad = silent >= devices && f64::from(silent) * 100.0 >= percent * f64::from(heard);
        if !is_bad || release.noticed.too_many_silent.is_some() {
            return None;
        }
        release.noticed.too_many_silent = Some(now);
        let reason = format!(
            "{silent} devices that got {version} are silent; {confirmed} are confirmed, {reverted} reverted"
        );
        Some((self.entry(&project, &version)?, reason))
    }

    /// Records whether a pause could be written into the folder.
    pub fn pause_written(&mut self, fused: &Fused, in_the_folder: bool, now: Stamp) {
        let release = self.release_mut(&fused.project, &fused.version);
        if let Some(pause) = release.and_then(|release| release.fuse.pause.as_mut()) {
            (pause.written, pause.at) = (in_the_folder, now);
            self.collect_pauses();
        }
    }

    /// Ends the pause of a release at the request of a person. Results before this moment no longer count. Returns the
    /// journal's entry; `None` if the fuse has not paused the release.
    pub fn resume(&mut self, project: &str, version: &str, now: Stamp) -> Option<ReleaseEntry> {
        let release = self.release_mut(project, version)?;
        release.fuse.warned = false;
        release.fuse.pause.take()?;
        release.resumed = Some(now);
        release.noticed.too_many_silent = None;
        self.collect_pauses();
        self.entry(project, version)
    }

    /// Returns the pauses that are now to be written into the folder once more.
    pub fn pauses_to_retry(&mut self, now: Stamp) -> Vec<Fused> {
        let mut due = self.unstated.clone();
        due.retain(|fused| {
            let release = self.release_mut(&fused.project, &fused.version);
            let pause = release.and_then(|release| release.fuse.pause.as_mut());
            match pause.filter(|pause| !pause.written && pause.retry_at <= now) {
                Some(pause) => {
                    pause.retry_at = now.plus(RETRY_INTERVAL);
                    true
                }
                None => false,
            }
        });
        due
    }

    /// Time at which [`Releases::pauses_to_retry`] returns something, or a stage's time is over; `None` until something
    /// changes.
    pub fn due(&self) -> Option<Stamp> {
        let at = |fused: &Fused| {
            let project = self.project_named(&fused.project)?;
            project.releases.get(&fused.version)?.fuse.retry_at()
        };
        let stage = self.stages_due.into_iter();
        self.unstated.iter().filter_map(at).chain(stage).min()
    }

    /// Pauses that release.json does not state, either not yet or no longer.
    pub fn unstated_pauses(&self) -> &[Fused] {
        &self.unstated
    }

    /// Whether this device may try the releases of its project that the fuse has paused. The caller must check that the
    /// device counts.
    pub fn may_try(&self, project: &str, device: DeviceId, now: Stamp) -> bool {
        let Some(project) = self.project_named(project) else {
            return false;
        };
        match project.trial {
            // The same device may begin again after its download was cut.
            Some((last, at)) => last == device || now.since(at) >= TRIAL,
            None => project.first_pause.is_some_and(|at| now.since(at) >= TRIAL),
        }
    }

    /// Records that a device was offered a release. If the fuse has paused the release, the offer was a trial.
    pub fn record_offer(&mut self, project: &str, version: &str, device: DeviceId, now: Stamp) {
        let project = self.project_id(project);
        let Some(project) = project.and_then(|id| self.project_mut(id)) else {
            return;
        };
        let release = project.releases.get(version);
        if release.is_none_or(|release| !release.fuse.is_paused()) {
            return;
        }
        let continues_trial = |(last, at)| last == device && now.since(at) < TRIAL;
        if !project.trial.is_some_and(continues_trial) {
            project.trial = Some((device, now));
        }
    }

    /// Collects the pauses that every decision uses.
    pub(super) fn collect_pauses(&mut self) {
        self.unstated.clear();
        for project in &mut self.projects {
            project.first_pause = None;
            for (version, release) in &project.releases {
                let Some(pause) = &release.fuse.pause else {
                    continue;
                };
                let first = project.first_pause.unwrap_or(pause.at);
                project.first_pause = Some(first.min(pause.at));
                if !pause.seen {
                    self.unstated.push(Fused {
                        project: (*project.name).into(),
                        version: version.clone(),
                        sentence: pause.sentence.clone(),
                    });
                }
            }
        }
    }
}

/// Number of devices that must come back from a release, and their percentage of the heard devices.
pub(super) fn limits(rules: &Rules) -> (u32, f64) {
    match rules.fuse {
        Some(fuse) => (fuse.devices.max(1), fuse.percent),
        None => (DEFAULT_DEVICES, DEFAULT_PERCENT),
    }
}

#[cfg(test)]
mod tests;
