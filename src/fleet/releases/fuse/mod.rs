//! The release fuse: a release from which too many devices come back pauses itself. Which devices count and how many
//! came back is counted by [`crate::fleet::devices`]; here it is judged, and the pause is kept.
//!
//! A pause is written into the release's release.json, for people to see, and is kept here and in the journal as
//! well, so that a mirror that restores an old release.json does not undo it (docs/hazards.md 38). It ends by
//! [`Releases::resume`] (page, API, `luat-ota resume`), or by a release.json that says `"paused": false` and is not
//! byte for byte the one from before the pause. Then all counting starts anew.
//!
//! A paused release is still tried by one device every ten minutes. Otherwise three forged devices could freeze a
//! rollout for good; so a person sees whether it is as bad as it looked.

use std::sync::Arc;

use super::Releases;
use crate::decision::{FUSE, Fused, SET_TO_FALSE};
use crate::firmware::ContentId;
use crate::firmware::audience::DeviceId;
use crate::firmware::catalog::Release;
use crate::firmware::rules::{Paused, Rules};
use crate::fleet::clock::Stamp;
use crate::fleet::entry::ReleaseEntry;
use crate::fleet::journey::{State, TargetId};
use crate::fleet::shared::SharedContent;

/// Devices that must come back, unless release.json says otherwise …
const DEVICES: u32 = 3;
/// … and percent of the devices that were heard.
const PERCENT: f64 = 20.0;

/// A release is judged once so many of the devices that count were heard, or all of them.
const HEARD: u32 = 16;

/// A release is judged at most so often, in seconds.
const JUDGED: u32 = 1;

/// A paused release is tried by a device at most so often, in seconds.
const TRIAL: u32 = 10 * 60;

/// Seconds from a start to the next attempt to write a pause that the folder does not state.
const AFTER_START: u32 = 60;

/// Seconds between attempts to write a pause into a folder that could not be written.
const AGAIN: u32 = 60 * 60;

/// The devices that count for a release.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Listed and established devices of the project.
    pub established: u32,
    /// The release, and after it each of its contents.
    pub groups: Vec<Group>,
}

/// What became of the devices that count, of a release or of one of its contents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// Results.
    pub outcomes: OutcomeCounts,
    /// Devices that count, and that were or can still be heard.
    pub admitted: u32,
    /// The devices that count are in at least two networks.
    pub spread: bool,
    /// Those that were reverted are.
    pub reverted_spread: bool,
}

/// The results of the deliveries to a release, or of one content of it.
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
    /// Devices that were heard.
    pub fn heard(self) -> u32 {
        self.confirmed + self.reverted + self.silent
    }
}

/// A release from which enough devices came back to judge it.
#[derive(Clone, Debug)]
pub struct Suspect {
    /// The project.
    pub project: Box<str>,
    /// The version, as the folder writes it.
    pub version: Box<str>,
    /// The rules of the release.
    pub rules: Arc<Rules>,
}

/// What follows from a judgement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FuseVerdict {
    /// Nothing.
    Fine,
    /// A person should look: the fuse would trip, but all devices that came back are in one network, which may be one
    /// person's doing. Returned once. A sentence.
    Suspect(String),
    /// The release is paused from now on, and this is to be written into the folder.
    Tripped(Fused),
}

/// The fuse of one release.
#[derive(Debug, Default)]
pub(super) struct ReleaseFuse {
    /// The release's rules; `None`: it is not in the folder.
    rules: Option<Arc<Rules>>,
    pause: Option<Pause>,
    /// A [`FuseVerdict::Suspect`] was returned.
    warned: bool,
    /// When it was last judged.
    judged: Option<Stamp>,
}

#[derive(Debug)]
struct Pause {
    sentence: Box<str>,
    /// When it began, or was last written.
    at: Stamp,
    /// The release.json before that; `None`: there was none.
    before: Option<ContentId>,
    /// Only the folder says so: the state of the run that paused it is lost.
    adopted: bool,
    /// Whether the folder took it.
    written: bool,
    /// The folder states it now.
    seen: bool,
    /// When the folder is tried again.
    again: Stamp,
}

impl ReleaseFuse {
    pub(super) fn is_paused(&self) -> bool {
        self.pause.is_some()
    }

    /// The rules of the release; `None`: it is not in the folder.
    pub(super) fn rules(&self) -> Option<&Arc<Rules>> {
        self.rules.as_ref()
    }

    pub(super) fn is_in_folder(&self) -> bool {
        self.rules.is_some()
    }

    /// The release may have left the folder; whether it was there.
    pub(super) fn leave_folder(&mut self) -> bool {
        self.rules.take().is_some()
    }

    /// The release has left the folder: all is forgotten but a pause that only we know of.
    pub(super) fn forget_folder(&mut self) {
        let pause = self.pause.take().filter(|pause| !pause.adopted);
        *self = ReleaseFuse {
            pause,
            ..ReleaseFuse::default()
        };
    }

    /// Takes over the release as it is in the folder now. True: a person has ended its pause.
    pub(super) fn enter_folder(&mut self, release: &Release, now: Stamp) -> bool {
        self.rules = Some(Arc::clone(&release.rules));
        let by_fuse = match &release.rules.paused {
            Some(Paused::Because(sentence)) if sentence.starts_with(FUSE) => Some(sentence),
            _ => None,
        };
        let Some(pause) = &mut self.pause else {
            // By an earlier run.
            self.pause = by_fuse.map(|sentence| Pause {
                sentence: sentence.as_str().into(),
                at: now,
                before: None,
                adopted: true,
                written: true,
                seen: true,
                again: now,
            });
            return false;
        };
        if by_fuse.is_some() {
            (pause.written, pause.seen) = (true, true);
            return false;
        }
        let says_no = release.rules.paused == Some(Paused::No);
        if pause.adopted || (says_no && release.rules.digest.0 != pause.before) {
            (self.pause, self.warned) = (None, false);
            return true;
        }
        if std::mem::replace(&mut pause.seen, false) {
            log::warn!(
                target: "fuse",
                version = &*release.version_text;
                "release.json no longer contains the pause by the fuse. The release stays paused until \
                 it is resumed on the page or with luat-ota resume, or until release.json \
                 contains \"paused\": false and is not the one from before the pause"
            );
        }
        false
    }

    /// Takes over a pause that the journal remembers, with the release.json before it, or its end.
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
            again: now.plus(AFTER_START),
        });
    }

    /// The pause for the journal, and the release.json before it.
    pub(super) fn entry(&self) -> (Option<Box<str>>, Option<ContentId>) {
        match &self.pause {
            Some(pause) if !pause.adopted => (Some(pause.sentence.clone()), pause.before),
            _ => (None, None),
        }
    }

    /// The rules of a release whose fuse may trip, if so many devices came back from it.
    fn may_trip(&mut self, reverted: u32, now: Stamp) -> Option<Arc<Rules>> {
        let rules = self.rules.as_ref()?;
        let is_paused = matches!(rules.paused, Some(Paused::Yes | Paused::Because(_)));
        let (devices, _) = limits(rules);
        let again = self.judged.is_none_or(|at| now.since(at) >= JUDGED);
        if self.pause.is_some() || is_paused || reverted < devices || !again {
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
            heard >= HEARD.min(group.admitted)
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
            again: now.plus(AGAIN),
        });
        FuseVerdict::Tripped(Fused {
            project: project.into(),
            version: version.into(),
            sentence,
        })
    }

    /// When the folder is to be tried again; `None`: it took the pause, or there is none.
    fn retry_at(&self) -> Option<Stamp> {
        let pause = self.pause.as_ref().filter(|pause| !pause.written)?;
        Some(pause.again)
    }
}

impl Releases {
    /// Releases from which enough devices came back to judge them now.
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

    /// Takes over the devices that fell back at other servers, by content.
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

    /// A device has become silent after it got this content. Returns the journal's entry of the release and a sentence
    /// if too many are silent now, once until a person resumes the release: as many as must come back with their old
    /// version for the fuse to trip.
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

    /// Records whether the folder could take a pause.
    pub fn pause_written(&mut self, fused: &Fused, in_the_folder: bool, now: Stamp) {
        let release = self.release_mut(&fused.project, &fused.version);
        if let Some(pause) = release.and_then(|release| release.fuse.pause.as_mut()) {
            (pause.written, pause.at) = (in_the_folder, now);
            self.collect_pauses();
        }
    }

    /// A person ends the pause of a release: what devices made of it before this moment counts no more. Returns the
    /// journal's entry; `None`: the fuse has not paused it.
    pub fn resume(&mut self, project: &str, version: &str, now: Stamp) -> Option<ReleaseEntry> {
        let release = self.release_mut(project, version)?;
        release.fuse.warned = false;
        release.fuse.pause.take()?;
        release.resumed = Some(now);
        release.noticed.too_many_silent = None;
        self.collect_pauses();
        self.entry(project, version)
    }

    /// Pauses that are to be written into the folder once more.
    pub fn pauses_to_retry(&mut self, now: Stamp) -> Vec<Fused> {
        let mut due = self.unstated.clone();
        due.retain(|fused| {
            let release = self.release_mut(&fused.project, &fused.version);
            let pause = release.and_then(|release| release.fuse.pause.as_mut());
            match pause.filter(|pause| !pause.written && pause.again <= now) {
                Some(pause) => {
                    pause.again = now.plus(AGAIN);
                    true
                }
                None => false,
            }
        });
        due
    }

    /// When [`Releases::pauses_to_retry`] returns something or a stage's time is over; `None`: not before something changes.
    pub fn due(&self) -> Option<Stamp> {
        let at = |fused: &Fused| {
            let project = self.project_named(&fused.project)?;
            project.releases.get(&fused.version)?.fuse.retry_at()
        };
        let stage = self.stages_due.into_iter();
        self.unstated.iter().filter_map(at).chain(stage).min()
    }

    /// Pauses that release.json does not state (any more, or yet).
    pub fn unstated_pauses(&self) -> &[Fused] {
        &self.unstated
    }

    /// Whether this device may try what the fuse has paused in its project. It must be one that counts.
    pub fn may_try(&self, project: &str, device: DeviceId, now: Stamp) -> bool {
        let Some(project) = self.project_named(project) else {
            return false;
        };
        match project.trial {
            // The same one may begin again what was cut.
            Some((last, at)) => last == device || now.since(at) >= TRIAL,
            None => project.first_pause.is_some_and(|at| now.since(at) >= TRIAL),
        }
    }

    /// Records that a device was offered a release: if the fuse has paused that, this was the trial.
    pub fn offered(&mut self, project: &str, version: &str, device: DeviceId, now: Stamp) {
        let project = self.project_id(project);
        let Some(project) = project.and_then(|id| self.project_mut(id)) else {
            return;
        };
        let release = project.releases.get(version);
        if release.is_none_or(|release| !release.fuse.is_paused()) {
            return;
        }
        let goes_on = |(last, at)| last == device && now.since(at) < TRIAL;
        if !project.trial.is_some_and(goes_on) {
            project.trial = Some((device, now));
        }
    }

    /// Collects what each decision must know of the pauses.
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

/// Devices that must come back from a release, and percent of those that were heard.
pub(super) fn limits(rules: &Rules) -> (u32, f64) {
    match rules.fuse {
        Some(fuse) => (fuse.devices.max(1), fuse.percent),
        None => (DEVICES, PERCENT),
    }
}

#[cfg(test)]
mod tests;
