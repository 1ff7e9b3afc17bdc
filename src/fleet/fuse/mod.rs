//! The release fuse: a release from which too many devices come back pauses itself. Used by the fleet's
//! face; pure, the time comes with each call. Who has a say and how many came back is counted elsewhere
//! (with the devices); here it is judged, and remembered what became of it.
//!
//! A pause is written into the release's release.json, for people to see, and is kept here and in the
//! journal as well, so that a mirror that puts an old release.json back does not undo it (docs/hazards.md
//! 38). It ends by [`Fuses::resume`] (page, API, `luat-ota resume`), or by a release.json that says
//! `"paused": false` and is not byte for byte the one from before the pause. Then all counting starts anew.
//!
//! What would surprise you: a paused release is still tried by one device every ten minutes. Otherwise
//! three forged devices could freeze a rollout for good; so a person sees whether it is as bad as it
//! looked.

use std::sync::Arc;

use super::clock::Stamp;
use super::devices::{Census, Group};
use crate::decision::{FUSE, Fused, SET_TO_FALSE};
use crate::firmware::ContentId;
use crate::firmware::audience::DeviceId;
use crate::firmware::catalog::{Catalog, Release};
use crate::firmware::rules::{Paused, Rules};
use crate::sorted::Sorted;

/// Unless release.json says otherwise: so many devices …
const DEVICES: u32 = 3;
/// … and so many percent of those that were heard from.
const PERCENT: f64 = 20.0;

/// A release is judged once so many of the devices that count were heard, or all of them.
const HEARD: u32 = 16;

/// A release is judged at most so often, in seconds.
const JUDGED: u32 = 1;

/// One device may try a paused release so often, in seconds.
const TRIAL: u32 = 10 * 60;

/// After a start a pause is written into the folder again after so long, if that does not say it.
const AFTER_START: u32 = 60;

/// A folder that could not be written is tried again after so long.
const AGAIN: u32 = 60 * 60;

/// What is to be done about a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judged {
    /// Nothing.
    Fine,
    /// A person should look: it would trip, but all who came back sit in one network, which may be one
    /// person's doing. Said once. A sentence.
    Suspect(String),
    /// It is paused from now on, and this is to be written into the folder.
    Tripped(Fused),
}

/// A project and a version as its folder writes it.
type Name = (Box<str>, Box<str>);

/// The fuses of all releases.
#[derive(Debug, Default)]
pub struct Fuses {
    releases: Sorted<Name, Watched>,
    /// The last trial of each project.
    trials: Sorted<Box<str>, (DeviceId, Stamp)>,
    /// What the folder does not say (yet).
    kept: Vec<Fused>,
    /// The projects with a release that has tripped, and when: every check asks for its own.
    paused: Vec<(Box<str>, Stamp)>,
}

/// One release.
#[derive(Debug, Default)]
struct Watched {
    /// `None`: it was not in the folder since this run began.
    rules: Option<Arc<Rules>>,
    tripped: Option<Tripped>,
    warned: bool,
    /// When it was last judged.
    judged: Option<Stamp>,
}

#[derive(Debug)]
struct Tripped {
    sentence: Box<str>,
    /// When it tripped, or was last written.
    at: Stamp,
    /// The release.json before that; `None`: there was none.
    before: Option<ContentId>,
    /// Only the folder says so: the state of the run that paused it is lost.
    adopted: bool,
    /// Whether the folder took it.
    written: bool,
    /// The folder says it now.
    seen: bool,
    /// When the folder is tried again.
    again: Stamp,
}

impl Fuses {
    /// The folder is another now. Returns the releases that a person has resumed: for those all counting
    /// starts anew.
    pub fn catalog(&mut self, catalog: &Catalog, now: Stamp) -> Vec<Fused> {
        let mut resumed = Vec::new();
        for project in catalog.projects() {
            let first = resumed.len();
            // The oldest first: most go to the end of the list.
            for release in project.releases.iter().rev() {
                let name = (project.name.clone(), release.version_text.clone());
                let Some(watched) = self.releases.entry(name) else {
                    continue;
                };
                if let Some(sentence) = watched.look(release, now) {
                    resumed.push(Fused {
                        project: project.name.clone(),
                        version: release.version_text.clone(),
                        sentence,
                    });
                }
            }
            if let Some(of_one) = resumed.get_mut(first..) {
                of_one.reverse();
            }
        }
        // One that is gone is forgotten, but for a pause that only we know of.
        self.releases.retain(|(project, version), watched| {
            let known = catalog.project(project).is_some_and(|project| {
                let mut releases = project.releases.iter();
                releases.any(|release| release.version_text == *version)
            });
            known || watched.tripped.as_ref().is_some_and(|t| !t.adopted)
        });
        self.trials
            .retain(|project, _| catalog.project(project).is_some());
        self.keep();
        resumed
    }

    /// The rules of a release whose fuse may trip, if so many devices came back from it.
    pub fn may_trip(
        &mut self,
        project: &str,
        version: &str,
        reverted: u32,
        now: Stamp,
    ) -> Option<Arc<Rules>> {
        let watched = self.releases.get_mut(&name(project, version))?;
        let rules = watched.rules.as_ref()?;
        let is_paused = matches!(rules.paused, Some(Paused::Yes | Paused::Because(_)));
        let (devices, _) = limits(rules);
        let again = watched.judged.is_none_or(|at| now.since(at) >= JUDGED);
        if watched.tripped.is_some() || is_paused || reverted < devices || !again {
            return None;
        }
        watched.judged = Some(now);
        Some(Arc::clone(rules))
    }

    /// Judges a release by the devices that count. To be called with what [`Fuses::may_trip`] gave.
    pub fn judge(
        &mut self,
        (project, version): (&str, &str),
        rules: &Rules,
        census: &Census,
        now: Stamp,
    ) -> Judged {
        let Some(watched) = self.releases.get_mut(&name(project, version)) else {
            return Judged::Fine;
        };
        let (devices, percent) = limits(rules);
        let is_bad = |group: &&Group| {
            let Group {
                outcomes, admitted, ..
            } = group;
            let heard = outcomes.heard();
            let share = f64::from(outcomes.reverted) * 100.0;
            heard >= HEARD.min(*admitted)
                && outcomes.reverted >= devices
                && share >= percent * f64::from(heard)
        };
        let is_spread = |group: &&Group| group.reverted_spread || !group.spread;
        let mut bad = census.groups.iter().filter(is_bad);
        let Some(group) = bad.clone().find(is_spread).or_else(|| bad.next()) else {
            return Judged::Fine;
        };
        let what = format!(
            "{} of {} devices that had {version} came back with their old version",
            group.outcomes.reverted,
            group.outcomes.heard()
        );
        if !is_spread(&group) {
            if std::mem::replace(&mut watched.warned, true) {
                return Judged::Fine;
            }
            return Judged::Suspect(format!(
                "{project} {version}: {what}, all from one network: it is not paused for that, look at it"
            ));
        }
        let sentence = format!("{FUSE}{what}{SET_TO_FALSE}");
        watched.tripped = Some(Tripped {
            sentence: sentence.as_str().into(),
            at: now,
            before: rules.digest.0,
            adopted: false,
            written: false,
            seen: false,
            again: now.plus(AGAIN),
        });
        self.keep();
        Judged::Tripped(Fused {
            project: project.into(),
            version: version.into(),
            sentence: sentence.into(),
        })
    }

    /// Whether the folder could take a pause.
    pub fn written(&mut self, fused: &Fused, in_the_folder: bool, now: Stamp) {
        let watched = self.releases.get_mut(&name(&fused.project, &fused.version));
        if let Some(tripped) = watched.and_then(|watched| watched.tripped.as_mut()) {
            tripped.written = in_the_folder;
            tripped.at = now;
        }
        self.keep();
    }

    /// The release.json before the pause of a release; `None`: there was none, or it is not paused.
    pub fn before(&self, project: &str, version: &str) -> Option<ContentId> {
        let watched = self.releases.get(&name(project, version))?;
        watched.tripped.as_ref()?.before
    }

    /// A person ends the pause of a release; `false`: the fuse has not paused it.
    pub fn resume(&mut self, project: &str, version: &str) -> bool {
        let watched = self.releases.get_mut(&name(project, version));
        let ended = watched.and_then(|watched| {
            watched.warned = false;
            watched.tripped.take()
        });
        self.keep();
        ended.is_some()
    }

    /// A pause that the journal remembers, and the release.json before it.
    pub fn load(&mut self, fused: Fused, before: Option<ContentId>, now: Stamp) {
        let Some(watched) = self.releases.entry((fused.project, fused.version)) else {
            return;
        };
        watched.tripped = Some(Tripped {
            sentence: fused.sentence,
            at: now,
            before,
            adopted: false,
            written: false,
            seen: false,
            again: now.plus(AFTER_START),
        });
        self.keep();
    }

    /// The journal says that it is over: a person resumed the release, or the folder took the pause.
    pub fn unload(&mut self, project: &str, version: &str) {
        if let Some(watched) = self.releases.get_mut(&name(project, version)) {
            watched.tripped = None;
            self.keep();
        }
    }

    /// What is to be written into the folder once more. To be called when it is due.
    pub fn tick(&mut self, now: Stamp) -> Vec<Fused> {
        let mut again = Vec::new();
        // Nearly always there is nothing.
        for fused in &self.kept {
            let watched = self.releases.get_mut(&name(&fused.project, &fused.version));
            let Some(watched) = watched else { continue };
            let Some(tripped) = watched.tripped.as_mut() else {
                continue;
            };
            if !tripped.written && tripped.again <= now {
                tripped.again = now.plus(AGAIN);
                again.push(fused.clone());
            }
        }
        self.keep();
        again
    }

    /// When [`Fuses::tick`] has something to do; `None`: not before something changes.
    pub fn due(&self) -> Option<Stamp> {
        let due = |fused: &Fused| {
            let watched = self.releases.get(&name(&fused.project, &fused.version))?;
            let tripped = watched.tripped.as_ref()?;
            (!tripped.written).then_some(tripped.again)
        };
        self.kept.iter().filter_map(due).min()
    }

    /// Releases that are paused and whose release.json does not say so.
    pub fn kept(&self) -> &[Fused] {
        &self.kept
    }

    /// May this device try what the fuse has paused in its project? It must be one that has a say.
    pub fn may_try(&self, project: &str, device: DeviceId, now: Stamp) -> bool {
        match self.trials.get(project) {
            // The same one may begin again what was cut.
            Some((last, at)) => *last == device || now.since(*at) >= TRIAL,
            None => self
                .paused
                .iter()
                .any(|(paused, at)| **paused == *project && now.since(*at) >= TRIAL),
        }
    }

    /// A device was offered a release; if the fuse has paused that, this was the trial.
    pub fn offered(&mut self, project: &str, version: &str, device: DeviceId, now: Stamp) {
        let watched = self.releases.get(&name(project, version));
        if watched.is_none_or(|watched| watched.tripped.is_none()) {
            return;
        }
        match self.trials.get_mut(project) {
            Some((last, at)) if *last == device && now.since(*at) < TRIAL => {}
            Some(trial) => *trial = (device, now),
            None => {
                self.trials.insert(project.into(), (device, now));
            }
        }
    }

    fn keep(&mut self) {
        self.kept.clear();
        self.paused.clear();
        for ((project, version), watched) in &self.releases {
            let Some(tripped) = &watched.tripped else {
                continue;
            };
            self.paused.push((project.clone(), tripped.at));
            if !tripped.seen {
                self.kept.push(Fused {
                    project: project.clone(),
                    version: version.clone(),
                    sentence: tripped.sentence.clone(),
                });
            }
        }
    }
}

impl Watched {
    /// Looks at a release as it is in the folder now; the sentence of a pause that a person has ended.
    fn look(&mut self, release: &Release, now: Stamp) -> Option<Box<str>> {
        self.rules = Some(Arc::clone(&release.rules));
        let by_fuse = match &release.rules.paused {
            Some(Paused::Because(sentence)) if sentence.starts_with(FUSE) => Some(sentence),
            _ => None,
        };
        let Some(tripped) = &mut self.tripped else {
            // By an earlier run.
            self.tripped = by_fuse.map(|sentence| Tripped {
                sentence: sentence.as_str().into(),
                at: now,
                before: None,
                adopted: true,
                written: true,
                seen: true,
                again: now,
            });
            return None;
        };
        if by_fuse.is_some() {
            (tripped.written, tripped.seen) = (true, true);
            return None;
        }
        let says_no = release.rules.paused == Some(Paused::No);
        let is_over = tripped.adopted || (says_no && release.rules.digest.0 != tripped.before);
        if !is_over {
            if std::mem::replace(&mut tripped.seen, false) {
                log::warn!(
                    target: "fuse",
                    version = &*release.version_text;
                    "release.json does not say any more that the fuse has paused the release. It stays \
                     paused until it is resumed on the page or with luat-ota resume, or until release.json \
                     says \"paused\": false and is not the one from before the pause"
                );
            }
            return None;
        }
        self.warned = false;
        self.tripped.take().map(|tripped| tripped.sentence)
    }
}

/// How many devices must come back from a release, and how many percent of those that were heard.
fn limits(rules: &Rules) -> (u32, f64) {
    match rules.fuse {
        Some(fuse) => (fuse.devices.max(1), fuse.percent),
        None => (DEVICES, PERCENT),
    }
}

fn name(project: &str, version: &str) -> Name {
    (project.into(), version.into())
}

#[cfg(test)]
mod tests;
