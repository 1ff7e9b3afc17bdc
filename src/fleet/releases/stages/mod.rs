//! Stages of a rollout: how far each content of a release has come. A stage is left for the next one when its time is
//! over, the fuse is quiet and enough devices were confirmed in it; otherwise the content stays where it is, and
//! [`StageView`] says why.
//!
//! What was reached is kept in the journal and never taken back, whatever the clock does and however the list of stages
//! is edited. A decision sees a stage only a tick after its line was given to the journal, so that a server that is
//! killed does not forget what devices were offered.

use std::fmt;

use super::fuse::limits;
use super::{ReleaseRecord, Releases};
use crate::decision::{Reached, hundredths, percent_in_force};
use crate::firmware::ContentId;
use crate::firmware::catalog::{Catalog, Release};
use crate::firmware::rules::{Paused, Rules, Stage};
use crate::fleet::clock::{Stamp, Wall};
use crate::fleet::entry::StageEntry;
use crate::fleet::progress::State;
use crate::logging::Civil;

/// Contents of one release that are remembered.
const CONTENTS: usize = 32;

/// How far one content of a release has come.
#[derive(Debug)]
pub(super) struct StageRecord {
    content: ContentId,
    /// The share of the devices that may have it, in hundredths of a percent.
    reached: u16,
    /// The same as decisions see it.
    in_force: u16,
    since: Stamp,
    /// Devices that were confirmed with it when the stage was reached.
    confirmed: u32,
    /// It is a content of the release in the folder.
    in_folder: bool,
    /// The kind of [`StageWait`] that was last told.
    told: Option<std::mem::Discriminant<StageWait>>,
}

/// The devices that were ever offered a content.
#[derive(Clone, Copy, Debug, Default)]
struct StageEvidence {
    /// They may still be receiving it.
    under_way: u32,
    /// They have the whole file.
    had: u32,
    /// Of these, those that came back with the new version.
    confirmed: u32,
}

/// Why a content stays in its stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StageWait {
    /// Its time is not over.
    Until(Stamp),
    /// The fuse has paused the release.
    Fused,
    /// A person has paused it.
    Paused,
    /// No device may have it, because its rules or their groups cannot be used.
    HeldBack,
    /// No device was confirmed with it.
    NoneConfirmed,
    /// Too few devices were confirmed in this stage: how many, and how many are needed.
    Few(u32, u32),
    /// Too few of the devices that have the file are confirmed: how many, and of how many.
    Share(u32, u32),
}

/// How far a content has come, for people.
#[derive(Clone, Debug, PartialEq)]
pub struct StageView {
    /// The percent of the devices that may have it.
    pub percent: f64,
    /// When that was reached, in Unix seconds.
    pub since: i64,
    /// The percent of the next stage; `None`: this is the last one.
    pub next: Option<f64>,
    /// Before this moment (Unix seconds) the next one does not begin.
    pub due: Option<i64>,
    /// Why it waits although its time has come; a sentence.
    pub waits: Option<String>,
}

/// `10 percent of the devices; next stage: 100 percent, not before 2026-12-01T02:00:00Z`
impl fmt::Display for StageView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} percent of the devices; ", self.percent)?;
        let Some(next) = self.next else {
            return f.write_str("this is the last stage");
        };
        write!(f, "next stage: {next} percent")?;
        match (&self.waits, self.due) {
            (Some(waits), _) => write!(f, "; it waits: {waits}"),
            (None, Some(due)) => {
                let due = Civil::of(u64::try_from(due).unwrap_or_default());
                write!(f, ", not before {due}Z")
            }
            (None, None) => Ok(()),
        }
    }
}

/// What is due in the stages of a release.
#[derive(Debug, Default)]
pub struct StageChanges {
    /// Stages that were reached.
    pub reached: Vec<StageEntry>,
    /// Releases that stay in their stage although its time is over: project, version and the reason; each reason once.
    pub waits: Vec<(Box<str>, Box<str>, StageWait)>,
}

impl StageWait {
    /// The reason in a sentence; empty while only the time is not over.
    pub fn sentence(&self) -> String {
        match self {
            StageWait::Until(_) => String::new(),
            StageWait::Fused => "the fuse has paused the release".to_owned(),
            StageWait::Paused => "the release is paused".to_owned(),
            StageWait::HeldBack => "the release is held back".to_owned(),
            StageWait::NoneConfirmed => "no device has been confirmed with it yet".to_owned(),
            StageWait::Few(confirmed, needed) => {
                format!("{confirmed} of the {needed} devices that this stage needs are confirmed")
            }
            StageWait::Share(confirmed, had) => format!(
                "{confirmed} of the {had} devices that were given it are confirmed, and half are needed"
            ),
        }
    }
}

impl StageEvidence {
    /// Whether so many devices are enough for the next stage. `before`: those that were confirmed when this stage was
    /// reached. The error is why not.
    fn is_enough(self, before: u32, rules: &Rules) -> Result<(), StageWait> {
        let (needed, _) = limits(rules);
        let here = self.confirmed.saturating_sub(before);
        let all_confirmed = self.under_way == 0 && self.confirmed >= self.had;
        if self.confirmed == 0 {
            Err(StageWait::NoneConfirmed)
        } else if self.confirmed.saturating_mul(2) < self.had {
            Err(StageWait::Share(self.confirmed, self.had))
        } else if here < needed && !all_confirmed {
            Err(StageWait::Few(here, needed))
        } else {
            Ok(())
        }
    }
}

impl StageRecord {
    /// The first stage that is not reached.
    fn next<'r>(&self, rules: &'r Rules) -> Option<&'r Stage> {
        let mut stages = rules.stages.iter().flatten();
        stages.find(|stage| hundredths(stage.percent) > self.reached)
    }

    pub(super) fn entry(&self, project: &str, version: &str) -> StageEntry {
        StageEntry {
            project: project.into(),
            version: version.into(),
            content: self.content,
            reached: self.reached,
            since: self.since,
            confirmed: self.confirmed,
        }
    }
}

impl ReleaseRecord {
    /// Whether the stage after `record` may begin now. The error is why not.
    fn may_advance(
        &self,
        record: &StageRecord,
        (stage, rules): (&Stage, &Rules),
        heard: StageEvidence,
        now: Stamp,
    ) -> Result<(), StageWait> {
        // What devices made of it before a person resumed it counts no more.
        let since = self.resumed.map_or(record.since, |at| at.max(record.since));
        let due = since.plus(stage.after);
        if self.fuse.is_paused() {
            Err(StageWait::Fused)
        } else if matches!(rules.paused, Some(Paused::Yes | Paused::Because(_))) {
            Err(StageWait::Paused)
        } else if self.held_back {
            Err(StageWait::HeldBack)
        } else if now < due {
            Err(StageWait::Until(due))
        } else {
            heard.is_enough(record.confirmed, rules)
        }
    }
}

impl Releases {
    /// Takes over the stages of a new catalogue: a content that is new begins with the first one. Returns what is new.
    pub(super) fn enter_stages(&mut self, catalog: &Catalog, now: Stamp) -> Vec<StageEntry> {
        let mut entries = Vec::new();
        for (project, version) in std::mem::take(&mut self.staged) {
            let release = self.release_mut(&project, &version);
            let stages = release.into_iter().flat_map(|release| &mut release.stages);
            stages.for_each(|stage| stage.in_folder = false);
        }
        for project in catalog.projects() {
            for release in &project.releases {
                if let Some(stages) = &release.rules.stages {
                    let first = stages.first().map_or(0, |stage| hundredths(stage.percent));
                    entries.extend(self.enter_release(&project.name, release, first, now));
                }
            }
        }
        self.collect_reached();
        entries
    }

    /// `first`: the share of the first stage.
    fn enter_release(
        &mut self,
        project: &str,
        release: &Release,
        first: u16,
        now: Stamp,
    ) -> Vec<StageEntry> {
        let version = &*release.version_text;
        let contents = release.packages.iter().map(|package| {
            let content = package.content;
            (content, self.heard(project, version, content).confirmed)
        });
        let contents: Vec<(ContentId, u32)> = contents.collect();
        let mut entries = Vec::new();
        let Some(record) = self.release_mut(project, version) else {
            return entries;
        };
        for (content, confirmed) in contents {
            let begun = StageRecord {
                content,
                reached: first,
                in_force: first,
                since: now,
                confirmed,
                in_folder: true,
                told: None,
            };
            let known = record
                .stages
                .iter()
                .position(|stage| stage.content == content);
            let known = known.and_then(|at| record.stages.get_mut(at));
            match known {
                Some(known) if known.reached >= first => {
                    known.in_folder = true;
                    // Decisions see the first stage of this list at once; the next list must not take it back.
                    known.in_force = known.in_force.max(first);
                    continue;
                }
                Some(known) => {
                    entries.push(begun.entry(project, version));
                    *known = begun;
                }
                None => {
                    entries.push(begun.entry(project, version));
                    record.stages.push(begun);
                }
            }
        }
        // The oldest that are not in the folder any more.
        while record.stages.len() > CONTENTS
            && let Some(at) = record.stages.iter().position(|stage| !stage.in_folder)
        {
            record.stages.remove(at);
        }
        self.staged.push((project.into(), version.into()));
        entries
    }

    /// Lets the decisions see what was reached before, and each content that may reach its next stage. Entries are to
    /// be given to the journal at once.
    pub fn advance_stages(&mut self, now: Stamp) -> StageChanges {
        let mut changes = StageChanges::default();
        self.stages_due = None;
        let staged = std::mem::take(&mut self.staged);
        for (project, version) in &staged {
            for at in 0.. {
                let Some((wait, heard, stage)) = self.stage_at(project, version, at, now) else {
                    break;
                };
                let record = self.release_mut(project, version);
                let Some(record) = record.and_then(|release| release.stages.get_mut(at)) else {
                    break;
                };
                record.in_force = record.reached;
                match (stage, wait) {
                    (Some(stage), None) => {
                        record.reached = hundredths(stage.percent);
                        (record.since, record.confirmed, record.told) =
                            (now, heard.confirmed, None);
                        changes.reached.push(record.entry(project, version));
                    }
                    (Some(_), Some(wait)) => {
                        let kind = Some(std::mem::discriminant(&wait));
                        let is_new = std::mem::replace(&mut record.told, kind) != kind;
                        if let StageWait::Until(due) = wait {
                            let first = self.stages_due.map_or(due, |other| other.min(due));
                            self.stages_due = Some(first);
                        } else if is_new {
                            changes.waits.push((project.clone(), version.clone(), wait));
                        }
                    }
                    (None, _) => {}
                }
            }
        }
        self.staged = staged;
        self.collect_reached();
        changes
    }

    /// Of the content at this place of a release: why it may not reach its next stage, the devices that were offered it,
    /// and that stage.
    fn stage_at(
        &self,
        project: &str,
        version: &str,
        at: usize,
        now: Stamp,
    ) -> Option<(Option<StageWait>, StageEvidence, Option<Stage>)> {
        let release = self.release(self.project_id(project)?, version)?;
        let record = release.stages.get(at)?;
        let heard = self.heard(project, version, record.content);
        let rules = release.fuse.rules()?;
        let stage = record.next(rules).filter(|_| record.in_folder).copied();
        let wait = stage.and_then(|stage| {
            release
                .may_advance(record, (&stage, rules), heard, now)
                .err()
        });
        Some((wait, heard, stage))
    }

    /// The devices that were offered a content of a release.
    fn heard(&self, project: &str, version: &str, content: ContentId) -> StageEvidence {
        let release = self
            .project_id(project)
            .and_then(|id| self.release(id, version));
        let targets = release.into_iter().flat_map(ReleaseRecord::targets);
        let targets = targets.filter_map(|id| self.get(*id));
        let mut heard = StageEvidence::default();
        for target in targets.filter(|target| target.content == content) {
            for state in State::ALL {
                let count = target.counts.of(state);
                match state {
                    State::Offered | State::Downloading => heard.under_way += count,
                    _ => heard.had += count,
                }
            }
            heard.had += target.confirmed;
            heard.confirmed += target.counts.of(State::Confirmed) + target.confirmed;
        }
        heard
    }

    /// How far that content of a release in the folder has come that has come least. `wall`: now.
    pub fn stage(&self, project: &str, version: &str, wall: Wall) -> Option<StageView> {
        let release = self.release(self.project_id(project)?, version)?;
        let in_folder = (0..)
            .zip(&release.stages)
            .filter(|(_, record)| record.in_folder);
        let (at, record) = in_folder.min_by_key(|(_, record)| record.reached)?;
        let (wait, _, stage) = self.stage_at(project, version, at, wall.stamp)?;
        let mut view = StageView {
            percent: f64::from(record.reached) / 100.0,
            since: wall.unix_of(record.since),
            next: stage.map(|stage| stage.percent),
            due: None,
            waits: None,
        };
        match wait {
            Some(StageWait::Until(due)) => view.due = Some(wall.unix_of(due)),
            Some(wait) => view.waits = Some(wait.sentence()),
            None => {}
        }
        Some(view)
    }

    /// The percent of the devices that may have some content of a release; `None`: all.
    pub fn most_percent(&self, rules: &Rules, release: &ReleaseRecord) -> Option<f64> {
        let reached = release.stages.iter().filter(|stage| stage.in_folder);
        percent_in_force(rules, reached.map(|stage| stage.in_force).max())
    }

    /// Takes over a stage that the journal remembers.
    pub fn load_stage(&mut self, entry: StageEntry) {
        let Some(project) = self
            .intern_project(&entry.project)
            .and_then(|id| self.project_mut(id))
        else {
            return;
        };
        let release = project
            .releases
            .entry(entry.version)
            .or_insert_with(|| ReleaseRecord {
                first: entry.since,
                ..ReleaseRecord::default()
            });
        release
            .stages
            .retain(|stage| stage.content != entry.content);
        release.stages.push(StageRecord {
            content: entry.content,
            reached: entry.reached,
            in_force: entry.reached,
            since: entry.since,
            confirmed: entry.confirmed,
            in_folder: false,
            told: None,
        });
    }

    /// Collects what each decision must know.
    fn collect_reached(&mut self) {
        let mut reached = std::mem::take(&mut self.reached);
        reached.clear();
        for (project, version) in &self.staged {
            let release = self
                .project_id(project)
                .and_then(|id| self.release(id, version));
            let stages = release.into_iter().flat_map(|release| &release.stages);
            reached.extend(stages.filter(|stage| stage.in_folder).map(|stage| Reached {
                project: project.clone(),
                version: version.clone(),
                content: stage.content,
                hundredths: stage.in_force,
            }));
        }
        reached.sort_by_key(|reached| reached.content);
        self.reached = reached;
    }

    /// What each decision must know of the stages.
    pub fn reached(&self) -> &[Reached] {
        &self.reached
    }
}

#[cfg(test)]
mod tests;
