//! The release fuse: a release from which too many devices come back pauses itself. Used by the fleet's
//! face; pure, the time comes with each call. Who has a say and how many came back is counted elsewhere
//! (with the devices); here it is judged, and remembered what became of it.
//!
//! The folder stays the truth: what trips is written into the release's release.json, and whoever edits
//! `paused` there resumes the release, after which all counting starts anew. Where the folder cannot be
//! written the pause is kept here, and any edit of the release's rules ends it.
//!
//! What would surprise you: a paused release is still tried by one device every ten minutes. Otherwise
//! three forged devices could freeze a rollout for good; so a person sees whether it is as bad as it
//! looked.

use std::sync::Arc;

use super::clock::Stamp;
use super::devices::{Census, Group};
use crate::decision::{FUSE, Fused};
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

/// The scan must have seen a pause that was written so long ago.
const SEEN_WITHIN: u32 = 60;

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
    /// Whether the folder took it.
    written: bool,
    /// The scan has seen it there.
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
            known || watched.tripped.as_ref().is_some_and(|t| !t.written)
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
        let sentence = format!("{FUSE}{what}; set this to false to go on");
        watched.tripped = Some(Tripped {
            sentence: sentence.as_str().into(),
            at: now,
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

    /// A pause that the journal remembers because the folder could not take it.
    pub fn load(&mut self, fused: Fused, now: Stamp) {
        let Some(watched) = self.releases.entry((fused.project, fused.version)) else {
            return;
        };
        watched.tripped = Some(Tripped {
            sentence: fused.sentence,
            at: now,
            written: false,
            seen: false,
            again: now.plus(SEEN_WITHIN),
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

    /// What is to be written into the folder once more; and what was written there and taken back before
    /// the scan could see it, so that it is over. To be called when it is due.
    pub fn tick(&mut self, now: Stamp) -> (Vec<Fused>, Vec<Fused>) {
        let (mut again, mut over) = (Vec::new(), Vec::new());
        // Nearly always there is nothing.
        for fused in &self.kept {
            let watched = self.releases.get_mut(&name(&fused.project, &fused.version));
            let Some(watched) = watched else { continue };
            let Some(tripped) = watched.tripped.as_mut() else {
                continue;
            };
            if tripped.written && now.since(tripped.at) >= SEEN_WITHIN {
                watched.tripped = None;
                over.push(fused.clone());
            } else if !tripped.written && tripped.again <= now {
                tripped.again = now.plus(AGAIN);
                again.push(fused.clone());
            }
        }
        self.keep();
        (again, over)
    }

    /// When [`Fuses::tick`] has something to do; `None`: not before something changes.
    pub fn due(&self) -> Option<Stamp> {
        let due = |fused: &Fused| {
            let watched = self.releases.get(&name(&fused.project, &fused.version))?;
            let tripped = watched.tripped.as_ref()?;
            Some(match tripped.written {
                true => tripped.at.plus(SEEN_WITHIN),
                false => tripped.again,
            })
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
        let before = self.rules.replace(Arc::clone(&release.rules));
        let by_fuse = match &release.rules.paused {
            Some(Paused::Because(sentence)) if sentence.starts_with(FUSE) => Some(sentence),
            _ => None,
        };
        let edited = before.is_some_and(|before| before != release.rules);
        let Some(tripped) = &mut self.tripped else {
            // By an earlier run.
            self.tripped = by_fuse.map(|sentence| Tripped {
                sentence: sentence.as_str().into(),
                at: now,
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
        let is_over = match tripped.written {
            true => tripped.seen || now.since(tripped.at) >= SEEN_WITHIN,
            false => edited,
        };
        if !is_over {
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
