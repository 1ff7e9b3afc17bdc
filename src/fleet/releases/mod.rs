//! The table of releases: names of projects and versions, the contents that were ever offered with the number of
//! devices in each state, and the release fuse ([`fuse`]). Owned by [`super::devices`].
//!
//! Every count is a sum over the current records of devices, so it decreases when a device is forgotten. The one
//! exception is the number of devices that were confirmed with a release, which must survive newer releases: the record
//! of a device has room for three older releases, and confirmations that no longer fit are added to the release
//! ([`Releases::retire_confirmed`]).

mod counts;
pub mod fuse;
mod stages;

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

pub use self::counts::StateCounts;
use self::fuse::ReleaseFuse;
use self::stages::StageRecord;
pub use self::stages::StageView;
use super::clock::Stamp;
use super::entry::{Authors, ChangeEntry, JournalEntry, Noticed, ReleaseEntry, StageEntry};
use super::progress::TargetId;
use crate::decision::{Fused, Reached};
use crate::firmware::ContentId;
use crate::firmware::audience::DeviceId;
use crate::firmware::catalog::Catalog;
use crate::firmware::rules::Paused;

/// Maximum number of contents. The update progress to any further content is not remembered.
const MAX_TARGETS: usize = 16_384;

/// Maximum number of projects. A device of any further project is not remembered.
const MAX_PROJECTS: usize = 65_535;

/// Maximum time from a pause until the catalogue contains it, in seconds.
const PAUSE_DELAY: u32 = 30;

/// Number of a project.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProjectId(u16);

/// The table of releases. Pure: callers pass the time.
#[derive(Debug, Default)]
pub struct Releases {
    projects: Vec<ProjectRecord>,
    names: HashMap<Box<str>, ProjectId>,
    targets: Vec<Option<TargetRecord>>,
    free: Vec<TargetId>,
    has_lost: bool,
    /// Pauses that release.json does not state (yet); used by every decision.
    unstated: Vec<Fused>,
    /// Releases in the folder whose rules have stages: project and version.
    staged: Vec<(Box<str>, Box<str>)>,
    /// Earliest time at which the time of a stage is over; `None` if no stage only waits for its time.
    stages_due: Option<Stamp>,
    /// Stages that were reached, sorted by content; used by every decision.
    reached: Vec<Reached>,
}

/// A project that was ever in the folder.
#[derive(Debug, Default)]
pub struct ProjectRecord {
    /// Name of the project.
    pub name: Rc<str>,
    /// Releases of the project, by version as the folder writes it.
    releases: BTreeMap<Box<str>, ReleaseRecord>,
    /// Number of remembered devices that ask for the project.
    devices: u32,
    /// Last device that tried a release that the fuse has paused, and the time of the trial.
    trial: Option<(DeviceId, Stamp)>,
    /// Time of the first pause that has not ended.
    first_pause: Option<Stamp>,
}

/// A release.
#[derive(Debug, Default)]
pub struct ReleaseRecord {
    /// Time at which the release was first in the folder.
    pub first: Stamp,
    /// Time at which a person last resumed the release after a pause by the fuse. Only results since then count.
    pub resumed: Option<Stamp>,
    /// `reboot_within` of the release's rules, in seconds.
    reboot_within: u32,
    /// Number of devices that were confirmed with the release and whose own record no longer says so: they were
    /// forgotten, or were confirmed with several releases since.
    confirmed: u32,
    noticed: Noticed,
    authors: Authors,
    /// Time of the last recorded pause by a person or the fuse.
    paused_at: Stamp,
    fuse: ReleaseFuse,
    stages: Vec<StageRecord>,
    /// Whether no device may have the release, because its rules or their groups cannot be used.
    held_back: bool,
    was_in_folder: bool,
    /// Number of devices that came back with their old version at other servers.
    peer_reverts: u32,
    targets: Vec<TargetId>,
}

/// A content of a release.
#[derive(Debug)]
pub struct TargetRecord {
    /// The project.
    pub project: ProjectId,
    /// The version, as the folder writes it.
    pub version: Rc<str>,
    /// The file.
    pub content: ContentId,
    /// Size of the file in bytes.
    pub size: u64,
    /// Number of devices in each state.
    pub counts: StateCounts,
    /// Number of devices that were confirmed with the content before, and are on their way to another release.
    confirmed: u32,
    /// Number of devices whose last result is a revert.
    pub reverted: u32,
}

/// Entries for the journal about the changes of a new catalogue.
#[derive(Debug, Default)]
pub struct CatalogChanges {
    /// Releases that are new.
    pub added: Vec<ReleaseEntry>,
    /// Releases whose pause a person has ended. Results before that no longer count.
    pub resumed: Vec<ReleaseEntry>,
    /// Contents that have begun with the first stage.
    pub stages: Vec<StageEntry>,
}

impl Releases {
    /// Number of the project with this name; `None` if it was never in the folder.
    pub fn project_id(&self, name: &str) -> Option<ProjectId> {
        self.names.get(name).copied()
    }

    /// Number of the project with this name, which is inserted if necessary; `None` if there is no room.
    pub fn intern_project(&mut self, name: &str) -> Option<ProjectId> {
        if let Some(known) = self.project_id(name) {
            return Some(known);
        }
        if self.projects.len() >= MAX_PROJECTS {
            return None;
        }
        let id = ProjectId(u16::try_from(self.projects.len()).ok()?);
        self.projects.push(ProjectRecord {
            name: name.into(),
            ..ProjectRecord::default()
        });
        self.names.insert(name.into(), id);
        Some(id)
    }

    /// Project with this number.
    pub fn project(&self, id: ProjectId) -> Option<&ProjectRecord> {
        self.projects.get(usize::from(id.0))
    }

    fn project_mut(&mut self, id: ProjectId) -> Option<&mut ProjectRecord> {
        self.projects.get_mut(usize::from(id.0))
    }

    fn project_named(&self, name: &str) -> Option<&ProjectRecord> {
        self.project(self.project_id(name)?)
    }

    /// Release of a project.
    pub fn release(&self, project: ProjectId, version: &str) -> Option<&ReleaseRecord> {
        self.project(project)?.releases.get(version)
    }

    fn release_mut(&mut self, project: &str, version: &str) -> Option<&mut ReleaseRecord> {
        let project = self.project_id(project)?;
        self.project_mut(project)?.releases.get_mut(version)
    }

    /// Number of a content of a release, which is inserted if necessary; `None` if there is no room.
    pub fn intern(
        &mut self,
        project: ProjectId,
        version: &str,
        content: ContentId,
        size: u64,
        now: Stamp,
    ) -> Option<TargetId> {
        let known = self.release(project, version).into_iter();
        let known = known
            .flat_map(|release| release.targets.iter().copied())
            .find(|id| self.get(*id).is_some_and(|t| t.content == content));
        if known.is_some() {
            return known;
        }
        if self.free.is_empty() && self.targets.len() >= MAX_TARGETS {
            self.sweep();
        }
        let id = match self.free.pop() {
            Some(id) => id,
            None if self.targets.len() < MAX_TARGETS => {
                let id = TargetId(u16::try_from(self.targets.len()).ok()?);
                self.targets.push(None);
                id
            }
            None => return None,
        };
        let releases = &mut self.project_mut(project)?.releases;
        let release = releases
            .entry(version.into())
            .or_insert_with(|| ReleaseRecord {
                first: now,
                ..ReleaseRecord::default()
            });
        release.targets.push(id);
        *self.targets.get_mut(usize::from(id.0))? = Some(TargetRecord {
            project,
            version: version.into(),
            content,
            size,
            counts: StateCounts::default(),
            confirmed: 0,
            reverted: 0,
        });
        Some(id)
    }

    /// Content with this number.
    pub fn get(&self, id: TargetId) -> Option<&TargetRecord> {
        self.targets.get(usize::from(id.0))?.as_ref()
    }

    fn get_mut(&mut self, id: TargetId) -> Option<&mut TargetRecord> {
        self.targets.get_mut(usize::from(id.0))?.as_mut()
    }

    /// All contents.
    pub fn iter(&self) -> impl Iterator<Item = (TargetId, &TargetRecord)> {
        let ids = (0..u16::MAX).map(TargetId);
        ids.zip(&self.targets)
            .filter_map(|(id, target)| Some((id, target.as_ref()?)))
    }

    /// Whether these are two contents of the same release.
    pub fn is_same_release(&self, one: TargetId, other: TargetId) -> bool {
        let release = |id| {
            let target = self.get(id)?;
            Some((target.project, &target.version))
        };
        one == other || (release(one).is_some() && release(one) == release(other))
    }

    /// Number of a content for a device that was confirmed with a release in an earlier run: any content of the
    /// release, or a placeholder if there is none.
    pub fn confirmed_before(
        &mut self,
        project: &str,
        version: &str,
        now: Stamp,
    ) -> Option<TargetId> {
        let project = self.intern_project(project)?;
        let known = self.release(project, version);
        match known.and_then(|release| release.targets.first().copied()) {
            Some(id) => Some(id),
            None => self.intern(project, version, ContentId([0; 32]), 0, now),
        }
    }

    /// Whether a person has resumed any of the releases.
    pub fn is_any_resumed(&self) -> bool {
        let mut releases = self
            .projects
            .iter()
            .flat_map(|project| project.releases.values());
        releases.any(|release| release.resumed.is_some())
    }

    /// Time after a delivery during which the rules of a content's release allow the old version, in seconds.
    pub fn reboot_within(&self, id: TargetId) -> u32 {
        let release = self
            .get(id)
            .and_then(|target| self.release(target.project, &target.version));
        release.map_or(0, |release| release.reboot_within)
    }

    /// Takes over a new catalogue.
    pub fn catalog(&mut self, catalog: &Catalog, now: Stamp) -> CatalogChanges {
        for project in &mut self.projects {
            for release in project.releases.values_mut() {
                release.was_in_folder = release.fuse.leave_folder();
            }
        }
        let mut changes = CatalogChanges::default();
        for project in catalog.projects() {
            let Some(id) = self.intern_project(&project.name) else {
                continue;
            };
            let Some(known) = self.project_mut(id) else {
                continue;
            };
            for release in &project.releases {
                let version = &release.version_text;
                let is_new = !known.releases.contains_key(version);
                let record = known.releases.entry(version.clone()).or_default();
                record.reboot_within = release.rules.reboot_within.unwrap_or(0);
                record.held_back = release.held_back.is_some();
                let is_resumed = record.fuse.enter_folder(&project.name, release, now);
                let is_paused = release
                    .rules
                    .paused
                    .as_ref()
                    .is_some_and(|paused| *paused != Paused::No);
                if !is_paused && now.since(record.paused_at) > PAUSE_DELAY {
                    // A person has ended the pause in the folder.
                    record.authors.paused = "".into();
                }
                if is_new {
                    record.first = now;
                    changes.added.push(record.entry(&project.name, version));
                } else if is_resumed {
                    record.resumed = Some(now);
                    record.noticed.too_many_silent = None;
                    changes.resumed.push(record.entry(&project.name, version));
                }
            }
        }
        self.has_lost = false;
        for project in &mut self.projects {
            if catalog.project(&project.name).is_none() {
                project.trial = None;
            }
            for release in project.releases.values_mut() {
                if !release.fuse.is_in_folder() {
                    release.fuse.forget_folder();
                    self.has_lost |= release.was_in_folder;
                }
            }
        }
        if catalog.waiting.is_empty() {
            // Otherwise the release of a file that waits would be forgotten, and be new a moment later.
            self.sweep();
        }
        self.collect_pauses();
        changes.stages = self.enter_stages(catalog, now);
        changes
    }

    /// Records who uploaded or paused a release. Returns the journal's entry if that is new.
    pub fn attribute(&mut self, change: &ChangeEntry, now: Stamp) -> Option<ReleaseEntry> {
        let release = self.release_mut(&change.project, &change.version)?;
        let before = release.authors.clone();
        match &*change.action {
            ChangeEntry::UPLOAD => release.authors.published = change.by.clone(),
            ChangeEntry::PAUSE => {
                (release.authors.paused, release.paused_at) = (change.by.clone(), now);
            }
            ChangeEntry::RESUME => release.authors.paused = "".into(),
            _ => {}
        }
        let is_new = before != release.authors;
        self.entry(&change.project, &change.version)
            .filter(|_| is_new)
    }

    /// Authors of the last upload and of the pause of a release.
    pub fn authors(&self, project: &str, version: &str) -> Option<&Authors> {
        let release = self.project_named(project)?.releases.get(version)?;
        Some(&release.authors)
    }

    /// Whether the last catalogue lacks a release that was in the folder before.
    pub fn has_lost(&self) -> bool {
        self.has_lost
    }

    /// Removes the contents to which no device is on its way, and the releases that are not in the folder, have no
    /// contents, are not paused by the fuse, and have no confirmed devices.
    fn sweep(&mut self) {
        for (place, id) in self.targets.iter_mut().zip((0..u16::MAX).map(TargetId)) {
            let is_unused =
                |target: &TargetRecord| target.counts.total() == 0 && target.confirmed == 0;
            if place.as_ref().is_some_and(is_unused) {
                *place = None;
                self.free.push(id);
            }
        }
        let is_left = |id: &TargetId| matches!(self.targets.get(usize::from(id.0)), Some(Some(_)));
        for project in &mut self.projects {
            project.releases.retain(|_, release| {
                release.targets.retain(is_left);
                release.fuse.is_in_folder()
                    || release.fuse.is_paused()
                    || !release.targets.is_empty()
                    || release.confirmed > 0
            });
        }
    }

    /// Takes over a release from the journal.
    pub fn load(&mut self, entry: ReleaseEntry, now: Stamp) {
        let id = self.intern_project(&entry.project);
        if let Some(project) = id.and_then(|id| self.project_mut(id)) {
            let release = project.releases.entry(entry.version).or_default();
            release.first = entry.first;
            release.resumed = entry.resumed;
            release.confirmed = entry.confirmed;
            release.noticed = entry.noticed;
            release.authors = entry.authors;
            let was_paused = release.fuse.is_paused();
            release.fuse.load(entry.fused, entry.before, now);
            if was_paused || release.fuse.is_paused() {
                self.collect_pauses();
            }
        }
    }

    /// The journal's entry of a release.
    pub fn entry(&self, project: &str, version: &str) -> Option<ReleaseEntry> {
        let project = self.project_named(project)?;
        let (version, release) = project.releases.get_key_value(version)?;
        Some(release.entry(&project.name, version))
    }

    /// Number of releases.
    pub fn len(&self) -> usize {
        let counts = self.projects.iter().map(|project| project.releases.len());
        counts.sum()
    }

    /// Whether there are no releases.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the entries of releases and their stages for the journal, from the project with number `from` on, and
    /// the number of the next project. Returns all entries of at least one project, even if these are more than `most`.
    pub fn records(&self, from: u64, most: usize) -> (Vec<JournalEntry>, Option<u64>) {
        let mut entries = Vec::new();
        for (at, project) in (0..).zip(&self.projects) {
            if at < from {
                continue;
            }
            if entries.len() >= most {
                return (entries, Some(at));
            }
            let releases = project.releases.iter();
            let of_one = releases.map(|(version, release)| release.entry(&project.name, version));
            entries.extend(of_one.map(JournalEntry::Release));
            let releases = project.releases.iter();
            let stages = releases.flat_map(|(version, release)| {
                let stages = release.stages.iter();
                stages.map(|stage| stage.entry(&project.name, version))
            });
            entries.extend(stages.map(JournalEntry::Stage));
        }
        (entries, None)
    }
}

impl ReleaseRecord {
    /// Contents of the release that devices were ever offered.
    pub fn targets(&self) -> &[TargetId] {
        &self.targets
    }

    fn entry(&self, project: &str, version: &str) -> ReleaseEntry {
        let (fused, before) = self.fuse.entry();
        ReleaseEntry {
            project: project.into(),
            version: version.into(),
            first: self.first,
            fused,
            before,
            resumed: self.resumed,
            confirmed: self.confirmed,
            noticed: self.noticed,
            authors: self.authors.clone(),
        }
    }
}
