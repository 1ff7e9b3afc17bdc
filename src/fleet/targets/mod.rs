//! Where devices are on their way to: the releases of the folder, the contents of them that were ever
//! offered, and how many devices stand where. Kept by [`super::devices`]; asked by the fuse and for
//! [`super::Fleet::counts`].
//!
//! What would surprise you: hardly anything here is counted by events. Every number is the sum over the devices'
//! records as they stand now, so it goes down when a device is forgotten. The one exception is how many devices
//! were confirmed with a release: it must survive newer releases, and a record has room for three older ones. What
//! no longer stands in a record is added to the release ([`Targets::retire_confirmed`]).

use super::clock::Stamp;
use super::entry::{JournalEntry, ReleaseEntry};
use super::interned::{ProjectId, TargetId};
use super::journey::{Journey, Outcome, State};
use super::network::Network;
use super::view::Counts;
use crate::firmware::ContentId;
use crate::firmware::catalog::Catalog;
use crate::sorted::Sorted;

/// Targets at most. Beyond that a journey is not remembered.
const TARGETS: usize = 16_384;

/// Projects at most; a device of one more is not remembered.
const PROJECTS: usize = 65_535;

/// All of them.
#[derive(Debug, Default)]
pub struct Targets {
    projects: Vec<Project>,
    names: Sorted<Box<str>, ProjectId>,
    targets: Vec<Option<Target>>,
    free: Vec<TargetId>,
    has_lost: bool,
}

/// A project that was ever in the folder.
#[derive(Debug, Default)]
pub struct Project {
    /// Its name.
    pub name: Box<str>,
    /// Its releases, by version as the folder writes it.
    pub releases: Sorted<Box<str>, Release>,
    /// Remembered devices that ask for it.
    pub devices: u32,
}

/// One release.
#[derive(Debug, Default)]
pub struct Release {
    /// When it was first in the folder.
    pub first: Stamp,
    /// The fuse has tripped; the sentence.
    pub fused: Option<Box<str>>,
    /// The release.json before that.
    pub before: Option<ContentId>,
    /// When a person last resumed it after the fuse: only what devices made of it since counts.
    pub resumed: Option<Stamp>,
    /// `reboot_within` of its rules, in seconds.
    pub reboot_within: u32,
    /// Devices that were confirmed with it and whose own record does not say so any more: they were forgotten,
    /// or were confirmed with several releases since.
    confirmed: u32,
    in_folder: bool,
    was_in_folder: bool,
    targets: Vec<TargetId>,
}

/// One content of a release.
#[derive(Debug)]
pub struct Target {
    /// The project.
    pub project: ProjectId,
    /// The version, as the folder writes it.
    pub version: Box<str>,
    /// The file.
    pub content: ContentId,
    /// Its size in bytes.
    pub size: u64,
    /// Devices by state.
    pub counts: Counts,
    /// Devices that were confirmed with it before, and are on their way to another release.
    confirmed: u32,
    /// Devices whose last result is a revert.
    pub reverted: u32,
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
        self.confirmed
            .saturating_add(self.reverted)
            .saturating_add(self.silent)
    }
}

/// Up to two different networks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pair([Option<Network>; 2]);

impl Pair {
    /// One more.
    pub fn add(&mut self, network: Network) {
        match &mut self.0 {
            [one @ None, _] => *one = Some(network),
            [Some(one), two @ None] if *one != network => *two = Some(network),
            _ => {}
        }
    }

    /// Were there two?
    pub fn is_two(&self) -> bool {
        self.0.iter().all(Option::is_some)
    }
}

impl Targets {
    /// The project of this name, if it was ever in the folder.
    pub fn project_id(&self, name: &str) -> Option<ProjectId> {
        self.names.get(name).copied()
    }

    /// The same; it is made if there is room.
    pub fn intern_project(&mut self, name: &str) -> Option<ProjectId> {
        if let Some(known) = self.project_id(name) {
            return Some(known);
        }
        if self.projects.len() >= PROJECTS {
            return None;
        }
        let id = ProjectId(u16::try_from(self.projects.len()).ok()?);
        self.projects.push(Project {
            name: name.into(),
            ..Project::default()
        });
        self.names.insert(name.into(), id);
        Some(id)
    }

    /// A project.
    pub fn project(&self, id: ProjectId) -> Option<&Project> {
        self.projects.get(usize::from(id.0))
    }

    /// A release.
    pub fn release(&self, project: ProjectId, version: &str) -> Option<&Release> {
        self.project(project)?.releases.get(version)
    }

    /// A release that is known, to be changed.
    fn release_mut(&mut self, project: ProjectId, version: &str) -> Option<&mut Release> {
        let project = self.projects.get_mut(usize::from(project.0))?;
        project.releases.get_mut(version)
    }

    /// The content of a release; it is made if there is room.
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
        if self.free.is_empty() && self.targets.len() >= TARGETS {
            self.sweep();
        }
        let id = match self.free.pop() {
            Some(id) => id,
            None if self.targets.len() < TARGETS => {
                let id = TargetId(u16::try_from(self.targets.len()).ok()?);
                self.targets.push(None);
                id
            }
            None => return None,
        };
        let releases = &mut self.projects.get_mut(usize::from(project.0))?.releases;
        if !releases.contains(version) {
            let new = Release {
                first: now,
                ..Release::default()
            };
            releases.insert(version.into(), new);
        }
        releases.get_mut(version)?.targets.push(id);
        *self.targets.get_mut(usize::from(id.0))? = Some(Target {
            project,
            version: version.into(),
            content,
            size,
            counts: Counts::default(),
            confirmed: 0,
            reverted: 0,
        });
        Some(id)
    }

    /// A target.
    pub fn get(&self, id: TargetId) -> Option<&Target> {
        self.targets.get(usize::from(id.0))?.as_ref()
    }

    fn get_mut(&mut self, id: TargetId) -> Option<&mut Target> {
        self.targets.get_mut(usize::from(id.0))?.as_mut()
    }

    /// All targets.
    pub fn iter(&self) -> impl Iterator<Item = (TargetId, &Target)> {
        let ids = (0..u16::MAX).map(TargetId);
        ids.zip(&self.targets)
            .filter_map(|(id, target)| Some((id, target.as_ref()?)))
    }

    /// The journey of one device was this and is now that: the one place where the numbers change.
    pub fn moved(&mut self, before: Option<Journey>, after: Option<Journey>) {
        if let Some(journey) = before {
            self.count(journey, u32::saturating_sub);
        }
        if let Some(journey) = after {
            self.count(journey, u32::saturating_add);
        }
    }

    fn count(&mut self, journey: Journey, change: impl Fn(u32, u32) -> u32) {
        let Some(target) = self.get_mut(journey.target) else {
            return;
        };
        let at = usize::from(journey.state as u8);
        if let Some(count) = target.counts.by_state.get_mut(at) {
            *count = change(*count, 1);
        }
        if journey.outcome.is_some_and(Outcome::is_revert) {
            target.reverted = change(target.reverted, 1);
        }
    }

    /// A remembered device that asked for the one project asks for the other now.
    pub fn asks_for(&mut self, before: Option<ProjectId>, after: Option<ProjectId>) {
        let mut change = |id: Option<ProjectId>, by: fn(u32, u32) -> u32| {
            if let Some(project) = id.and_then(|id| self.projects.get_mut(usize::from(id.0))) {
                project.devices = by(project.devices, 1);
            }
        };
        change(before, u32::saturating_sub);
        change(after, u32::saturating_add);
    }

    /// Are these two contents of the same release?
    pub fn is_same_release(&self, one: TargetId, other: TargetId) -> bool {
        let release = |id| {
            let target = self.get(id)?;
            Some((target.project, &target.version))
        };
        one == other || (release(one).is_some() && release(one) == release(other))
    }

    /// A record says that its device was confirmed with this one before.
    pub fn keep_confirmed(&mut self, id: TargetId) {
        if let Some(target) = self.get_mut(id) {
            target.confirmed = target.confirmed.saturating_add(1);
        }
    }

    /// It does not say so any more.
    pub fn drop_confirmed(&mut self, id: TargetId) {
        if let Some(target) = self.get_mut(id) {
            target.confirmed = target.confirmed.saturating_sub(1);
        }
    }

    /// A device was confirmed with this one, which its record is not to say any more. Returns what the journal
    /// is to remember.
    pub fn retire_confirmed(&mut self, id: TargetId) -> Option<ReleaseEntry> {
        let target = self.get(id)?;
        let (project, version) = (target.project, target.version.clone());
        let release = self.release_mut(project, &version)?;
        release.confirmed = release.confirmed.saturating_add(1);
        self.entry(project, &version)
    }

    /// The target of a release that a device was confirmed with in an earlier run: any content of it.
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

    /// A person has resumed a release that the fuse had paused: what devices made of it before this
    /// moment counts no more. Returns what the journal is to remember.
    pub fn resumed(&mut self, project: &str, version: &str, now: Stamp) -> Option<ReleaseEntry> {
        let project = self.project_id(project)?;
        let release = self.release_mut(project, version)?;
        release.fused = None;
        release.before = None;
        release.resumed = Some(now);
        self.entry(project, version)
    }

    /// The fuse of a release has tripped, with this sentence; `before`: the release.json until then.
    /// Returns what the journal is to remember, if that is something new.
    pub fn fused(
        &mut self,
        project: &str,
        version: &str,
        sentence: Option<Box<str>>,
        before: Option<ContentId>,
    ) -> Option<ReleaseEntry> {
        let project = self.project_id(project)?;
        let release = self.release_mut(project, version)?;
        if release.fused == sentence {
            return None;
        }
        release.fused = sentence;
        release.before = before;
        self.entry(project, version)
    }

    /// The releases from which devices came back: project, version, and how many devices did.
    pub fn suspects(&self) -> impl Iterator<Item = (&str, &str, u32)> {
        self.projects.iter().flat_map(move |project| {
            let releases = project.releases.iter();
            releases.filter_map(move |(version, release)| {
                let targets = release.targets.iter().filter_map(|id| self.get(*id));
                let reverted = targets.map(|target| target.reverted);
                let reverted = reverted.fold(0, u32::saturating_add);
                (reverted > 0).then_some((&*project.name, &**version, reverted))
            })
        })
    }

    /// For so many seconds after a delivery the rules of a target's release allow the old version.
    pub fn reboot_within(&self, id: TargetId) -> u32 {
        let release = self
            .get(id)
            .and_then(|target| self.release(target.project, &target.version));
        release.map_or(0, |release| release.reboot_within)
    }

    /// Remembered devices that ask for a project.
    pub fn devices(&self, project: &str) -> u32 {
        let project = self.project_id(project).and_then(|id| self.project(id));
        project.map_or(0, |project| project.devices)
    }

    /// Devices by state, on their way to any content of a release. Those that were confirmed with it and are
    /// on their way to another one since count as confirmed.
    pub fn counts(&self, project: &str, version: &str) -> Counts {
        let mut sum = Counts::default();
        let release = self
            .project_id(project)
            .and_then(|project| self.release(project, version));
        let mut confirmed = release.map_or(0, |release| release.confirmed);
        let targets = release.into_iter().flat_map(|release| &release.targets);
        for target in targets.filter_map(|id| self.get(*id)) {
            for (sum, count) in sum.by_state.iter_mut().zip(target.counts.by_state) {
                *sum = sum.saturating_add(count);
            }
            confirmed = confirmed.saturating_add(target.confirmed);
        }
        sum.add(State::Confirmed, confirmed);
        sum
    }

    /// The folder is another now. Returns the releases that are new, to be remembered.
    pub fn catalog(&mut self, catalog: &Catalog, now: Stamp) -> Vec<ReleaseEntry> {
        for project in &mut self.projects {
            for release in project.releases.values_mut() {
                release.was_in_folder = std::mem::take(&mut release.in_folder);
            }
        }
        let mut added = Vec::new();
        for project in catalog.projects() {
            let Some(id) = self.intern_project(&project.name) else {
                continue;
            };
            let Some(known) = self.projects.get_mut(usize::from(id.0)) else {
                continue;
            };
            // The oldest first: most go to the end of the list.
            for release in project.releases.iter().rev() {
                let version = &release.version_text;
                let reboot_within = release.rules.reboot_within.unwrap_or(0);
                if let Some(release) = known.releases.get_mut(version) {
                    release.in_folder = true;
                    release.reboot_within = reboot_within;
                    continue;
                }
                let new = Release {
                    first: now,
                    reboot_within,
                    in_folder: true,
                    ..Release::default()
                };
                added.push(new.entry(&project.name, version));
                known.releases.insert(version.clone(), new);
            }
        }
        let mut releases = self.projects.iter().flat_map(|project| &project.releases);
        self.has_lost = releases.any(|(_, release)| release.was_in_folder && !release.in_folder);
        self.sweep();
        added
    }

    /// Whether a release that was in the folder before is not there any more.
    pub fn has_lost(&self) -> bool {
        self.has_lost
    }

    /// Forgets the contents to which no device is on its way, and the releases that are not in the
    /// folder and have none, and with which no device was confirmed.
    fn sweep(&mut self) {
        // In order, so that they are found.
        let mut gone = Vec::new();
        for (place, id) in self.targets.iter_mut().zip((0..u16::MAX).map(TargetId)) {
            let is_unused = |target: &Target| target.counts.total() == 0 && target.confirmed == 0;
            if place.as_ref().is_some_and(is_unused) {
                *place = None;
                gone.push(id);
                self.free.push(id);
            }
        }
        for project in &mut self.projects {
            project.releases.retain(|_, release| {
                release.targets.retain(|id| gone.binary_search(id).is_err());
                release.in_folder
                    || release.fused.is_some()
                    || !release.targets.is_empty()
                    || release.confirmed > 0
            });
        }
    }

    /// A release as the journal remembers it.
    pub fn load(&mut self, entry: ReleaseEntry) {
        let Some(id) = self.intern_project(&entry.project) else {
            return;
        };
        let Some(project) = self.projects.get_mut(usize::from(id.0)) else {
            return;
        };
        let Some(release) = project.releases.entry(entry.version) else {
            return;
        };
        release.first = entry.first;
        release.fused = entry.fused;
        release.before = entry.before;
        release.resumed = entry.resumed;
        release.confirmed = entry.confirmed;
    }

    /// What the journal is to remember of a release.
    fn entry(&self, project: ProjectId, version: &str) -> Option<ReleaseEntry> {
        let release = self.release(project, version)?;
        Some(release.entry(&self.project(project)?.name, version))
    }

    /// How many releases there are.
    pub fn releases(&self) -> usize {
        let counts = self.projects.iter().map(|project| project.releases.len());
        counts.sum()
    }

    /// Some releases for the journal, those of at least one project, from the one with this number on;
    /// and where the next begin.
    pub fn records(&self, from: u64, most: usize) -> (Vec<JournalEntry>, Option<u64>) {
        let mut entries = Vec::new();
        let mut at = usize::try_from(from).unwrap_or(usize::MAX);
        while let Some(project) = self.projects.get(at) {
            if entries.len() >= most {
                return (entries, u64::try_from(at).ok());
            }
            let releases = project.releases.iter();
            let of_one = releases.map(|(version, release)| release.entry(&project.name, version));
            entries.extend(of_one.map(JournalEntry::Release));
            at = at.saturating_add(1);
        }
        (entries, None)
    }
}

impl Release {
    /// Its contents that devices were ever offered.
    pub fn targets(&self) -> &[TargetId] {
        &self.targets
    }

    fn entry(&self, project: &str, version: &str) -> ReleaseEntry {
        ReleaseEntry {
            project: project.into(),
            version: version.into(),
            first: self.first,
            fused: self.fused.clone(),
            before: self.before,
            resumed: self.resumed,
            confirmed: self.confirmed,
        }
    }
}

#[cfg(test)]
mod tests;
