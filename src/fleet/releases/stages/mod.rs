//! Stages of a staged rollout: the stage that each content of a release has reached. The next stage begins when the
//! time of the current one is over, the fuse has not paused the release, and enough devices were confirmed in the
//! current one. Otherwise the content stays in its stage, and [`StageView`] says why.
//!
//! Reached stages are kept in the journal and never taken back, whatever the clock does and however the list of stages
//! is edited. Decisions use a stage only a tick after its line was given to the journal, so that a server that is
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

/// Number of contents of one release whose stages are remembered. Contents in the folder are never dropped.
const MAX_CONTENTS: usize = 32;

/// Stage that one content of a release has reached.
#[derive(Debug)]
pub(super) struct StageRecord {
    content: ContentId,
    /// Share of the devices that may have the content, in hundredths of a percent.
    reached: u16,
    /// Share that decisions use, in hundredths of a percent.
    in_force: u16,
    since: Stamp,
    /// Number of devices that were confirmed with the content when the stage was reached.
    confirmed: u32,
    /// Whether the release in the folder has the content.
    in_folder: bool,
    /// Kind of the last [`StageWait`] that was reported.
    reported: Option<std::mem::Discriminant<StageWait>>,
}

/// Numbers of devices that were ever offered a content.
#[derive(Clone, Copy, Debug, Default)]
struct StageEvidence {
    /// Devices that may still be receiving the content.
    under_way: u32,
    /// Devices that have the whole file.
    delivered: u32,
    /// Devices that have the whole file and came back with the new version.
    confirmed: u32,
}

/// Reason why a content stays in its stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StageWait {
    /// The time of the stage is not over; it ends at this stamp.
    Until(Stamp),
    /// The fuse has paused the release.
    Fused,
    /// A person has paused the release.
    Paused,
    /// No device may have the release, because its rules or their groups cannot be used.
    HeldBack,
    /// No device was confirmed with the content.
    NoneConfirmed,
    /// Too few devices were confirmed in this stage: the number of these, and the number that is needed.
    Few(u32, u32),
    /// Too few of the devices that have the file are confirmed: the number of these, and of all that have the file.
    Share(u32, u32),
}

/// Stage of a content, as shown to people.
#[derive(Clone, Debug, PartialEq)]
pub struct StageView {
    /// Percentage of the devices that may have the content.
    pub percent: f64,
    /// Time at which the stage was reached, in Unix seconds.
    pub since: i64,
    /// Percentage of the next stage; `None` if this is the last one.
    pub next: Option<f64>,
    /// Earliest time of the next stage, in Unix seconds, if only the time of the current one is not over.
    pub due: Option<i64>,
    /// Reason why the next stage does not begin, as a sentence, unless only the time of the current stage is not over.
    pub waits: Option<String>,
}

/// Writes `10 percent of the devices; next stage: 100 percent, not before 2026-12-01T02:00:00Z`.
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

/// Changes in the stages of all releases.
#[derive(Debug, Default)]
pub struct StageChanges {
    /// Stages that were reached.
    pub reached: Vec<StageEntry>,
    /// Releases that stay in their stage although its time is over: project, version and the reason; each reason once.
    pub waits: Vec<(Box<str>, Box<str>, StageWait)>,
}

impl StageWait {
    /// Returns the reason as a sentence; empty if only the time of the stage is not over.
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
    /// Checks that enough devices are confirmed for the next stage. `before`: number of devices that were confirmed
    /// when this stage was reached. Fails with the reason to wait.
    fn is_enough(self, before: u32, rules: &Rules) -> Result<(), StageWait> {
        let (needed, _) = limits(rules);
        let here = self.confirmed.saturating_sub(before);
        let all_confirmed = self.under_way == 0 && self.confirmed >= self.delivered;
        if self.confirmed == 0 {
            Err(StageWait::NoneConfirmed)
        } else if self.confirmed.saturating_mul(2) < self.delivered {
            Err(StageWait::Share(self.confirmed, self.delivered))
        } else if here < needed && !all_confirmed {
            Err(StageWait::Few(here, needed))
        } else {
            Ok(())
        }
    }
}

impl StageRecord {
    /// First stage that is not reached yet.
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
    /// Checks that the stage after `record` may begin now. Fails with the reason to wait.
    fn may_advance(
        &self,
        record: &StageRecord,
        (stage, rules): (&Stage, &Rules),
        evidence: StageEvidence,
        now: Stamp,
    ) -> Result<(), StageWait> {
        // The time before a person resumed the release does not count.
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
            evidence.is_enough(record.confirmed, rules)
        }
    }
}

impl Releases {
    /// Takes over the stages of a new catalogue. A new content begins with the first stage. Returns the entries of new
    /// stages.
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

    /// Takes over the contents of one release. `first`: share of the first stage, in hundredths of a percent.
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
            (content, self.evidence(project, version, content).confirmed)
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
                reported: None,
            };
            let known = record
                .stages
                .iter()
                .position(|stage| stage.content == content);
            let known = known.and_then(|at| record.stages.get_mut(at));
            match known {
                Some(known) if known.reached >= first => {
                    known.in_folder = true;
                    // Decisions use the first stage of this list at once; the next list must not take it back.
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
        // Removes the oldest contents that are not in the folder any more.
        while record.stages.len() > MAX_CONTENTS
            && let Some(at) = record.stages.iter().position(|stage| !stage.in_folder)
        {
            record.stages.remove(at);
        }
        self.staged.push((project.into(), version.into()));
        entries
    }

    /// Puts the stages that were reached before into force, and advances each content that may reach its next stage.
    /// The returned entries must be given to the journal at once.
    pub fn advance_stages(&mut self, now: Stamp) -> StageChanges {
        let mut changes = StageChanges::default();
        self.stages_due = None;
        let staged = std::mem::take(&mut self.staged);
        for (project, version) in &staged {
            for at in 0.. {
                let Some((wait, evidence, stage)) = self.stage_at(project, version, at, now) else {
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
                        (record.since, record.confirmed, record.reported) =
                            (now, evidence.confirmed, None);
                        changes.reached.push(record.entry(project, version));
                    }
                    (Some(_), Some(wait)) => {
                        let kind = Some(std::mem::discriminant(&wait));
                        let is_new = std::mem::replace(&mut record.reported, kind) != kind;
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

    /// Returns, for the content at index `at` of a release, the reason why it may not reach its next stage, the devices
    /// that were offered it, and that stage.
    fn stage_at(
        &self,
        project: &str,
        version: &str,
        at: usize,
        now: Stamp,
    ) -> Option<(Option<StageWait>, StageEvidence, Option<Stage>)> {
        let release = self.release(self.project_id(project)?, version)?;
        let record = release.stages.get(at)?;
        let evidence = self.evidence(project, version, record.content);
        let rules = release.fuse.rules()?;
        let stage = record.next(rules).filter(|_| record.in_folder).copied();
        let wait = stage.and_then(|stage| {
            release
                .may_advance(record, (&stage, rules), evidence, now)
                .err()
        });
        Some((wait, evidence, stage))
    }

    /// Counts the devices that were offered a content of a release.
    fn evidence(&self, project: &str, version: &str, content: ContentId) -> StageEvidence {
        let release = self
            .project_id(project)
            .and_then(|id| self.release(id, version));
        let targets = release.into_iter().flat_map(ReleaseRecord::targets);
        let targets = targets.filter_map(|id| self.get(*id));
        let mut evidence = StageEvidence::default();
        for target in targets.filter(|target| target.content == content) {
            for state in State::ALL {
                let count = target.counts.of(state);
                match state {
                    State::Offered | State::Downloading => evidence.under_way += count,
                    _ => evidence.delivered += count,
                }
            }
            evidence.delivered += target.confirmed;
            evidence.confirmed += target.counts.of(State::Confirmed) + target.confirmed;
        }
        evidence
    }

    /// Stage of the content in the folder that has advanced least. `wall`: current time.
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

    /// Percentage of the devices that may have any content of a release; `None` if all devices may.
    pub fn max_percent(&self, rules: &Rules, release: &ReleaseRecord) -> Option<f64> {
        let reached = release.stages.iter().filter(|stage| stage.in_folder);
        percent_in_force(rules, reached.map(|stage| stage.in_force).max())
    }

    /// Takes over a stage from the journal.
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
            reported: None,
        });
    }

    /// Collects the stages that every decision uses.
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

    /// Stages that every decision uses, sorted by content.
    pub fn reached(&self) -> &[Reached] {
        &self.reached
    }
}

#[cfg(test)]
mod tests;
