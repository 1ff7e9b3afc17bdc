//! Counts of devices by state for each release.

use super::{ProjectId, ReleaseRecord, Releases};
use crate::fleet::clock::Stamp;
use crate::fleet::entry::ReleaseEntry;
use crate::fleet::progress::{Outcome, Progress, State, TargetId};

/// Number of devices in each state on their way to one release.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateCounts {
    /// Counts in the order of [`State::ALL`].
    pub by_state: [u32; State::ALL.len()],
}

impl StateCounts {
    /// Number of devices in this state.
    pub fn of(&self, state: State) -> u32 {
        let at = usize::from(state as u8);
        self.by_state.get(at).copied().unwrap_or_default()
    }

    /// Adds devices to a state.
    pub fn add(&mut self, state: State, devices: u32) {
        if let Some(count) = self.by_state.get_mut(usize::from(state as u8)) {
            *count = count.saturating_add(devices);
        }
    }

    /// Removes a device from a state.
    fn remove(&mut self, state: State) {
        if let Some(count) = self.by_state.get_mut(usize::from(state as u8)) {
            debug_assert!(*count > 0, "a device was removed twice");
            *count = count.wrapping_sub(1);
        }
    }

    /// Number of devices in all states.
    pub fn total(&self) -> u32 {
        self.by_state.iter().sum()
    }
}

impl Releases {
    /// Counts a change of a device from one [`Progress`] to another. The counts by state change only here.
    pub fn count_progress(&mut self, before: Option<Progress>, after: Option<Progress>) {
        let is_revert = |progress: Progress| progress.outcome.is_some_and(Outcome::is_revert);
        if let Some(progress) = before
            && let Some(target) = self.get_mut(progress.target)
        {
            target.counts.remove(progress.state);
            target.reverted -= u32::from(is_revert(progress));
        }
        if let Some(progress) = after
            && let Some(target) = self.get_mut(progress.target)
        {
            target.counts.add(progress.state, 1);
            target.reverted += u32::from(is_revert(progress));
        }
    }

    /// Counts a change of the project that a remembered device asks for.
    pub fn count_project(&mut self, before: Option<ProjectId>, after: Option<ProjectId>) {
        if let Some(project) = before.and_then(|id| self.project_mut(id)) {
            project.devices -= 1;
        }
        if let Some(project) = after.and_then(|id| self.project_mut(id)) {
            project.devices += 1;
        }
    }

    /// Counts a device whose record says that it was confirmed with this content before.
    pub fn keep_confirmed(&mut self, id: TargetId) {
        if let Some(target) = self.get_mut(id) {
            target.confirmed += 1;
        }
    }

    /// Stops counting a device whose record no longer says that it was confirmed with this content before.
    pub fn drop_confirmed(&mut self, id: TargetId) {
        if let Some(target) = self.get_mut(id) {
            target.confirmed -= 1;
        }
    }

    /// Adds a device to the count of a release, because the device was confirmed with this content, and its record no
    /// longer says so. Returns the journal's entry of the release.
    pub fn retire_confirmed(&mut self, id: TargetId) -> Option<ReleaseEntry> {
        let target = self.get(id)?;
        let (project, version) = (target.project, target.version.clone());
        let project = self.project_mut(project)?;
        let release = project.releases.get_mut(&*version)?;
        release.confirmed = release.confirmed.saturating_add(1);
        Some(release.entry(&project.name, &version))
    }

    /// Project and version of a content.
    pub(super) fn names(&self, id: TargetId) -> Option<(Box<str>, Box<str>)> {
        let target = self.get(id)?;
        let project = self.project(target.project)?;
        Some(((*project.name).into(), (*target.version).into()))
    }

    /// Records that an established device is confirmed with this content. Returns the journal's entry if it is the
    /// first such device of the release.
    pub fn first_confirmed(&mut self, id: TargetId, now: Stamp) -> Option<ReleaseEntry> {
        let target = self.get(id)?;
        let release = self.release(target.project, &target.version)?;
        if release.noticed.first_confirmed.is_some() {
            return None;
        }
        let (project, version) = self.names(id)?;
        let release = self.release_mut(&project, &version)?;
        release.noticed.first_confirmed = Some(now);
        self.entry(&project, &version)
    }

    /// Completes the records after the journal has been read: sets missing times of the first confirmation, which
    /// versions up to 0.1.0 did not write.
    pub fn all_loaded(&mut self, now: Stamp) {
        let with_devices: Vec<_> = self
            .iter()
            .filter(|(_, target)| target.counts.of(State::Confirmed) + target.confirmed > 0)
            .map(|(id, _)| id)
            .collect();
        for id in with_devices {
            let _known_already = self.first_confirmed(id, now);
        }
        for project in &mut self.projects {
            for release in project.releases.values_mut() {
                if release.confirmed > 0 {
                    release.noticed.first_confirmed.get_or_insert(now);
                }
            }
        }
    }

    /// Number of remembered devices that ask for a project.
    pub fn devices(&self, project: &str) -> u32 {
        let project = self.project_named(project);
        project.map_or(0, |project| project.devices)
    }

    /// Number of devices in each state on their way to any content of a release. Devices that were confirmed with the
    /// release and are now on their way to another one count as confirmed.
    pub fn counts(&self, project: &str, version: &str) -> StateCounts {
        let project = self.project_named(project);
        let release = project.and_then(|project| project.releases.get(version));
        release.map_or(StateCounts::default(), |release| self.counts_of(release))
    }

    /// Counts of every release as in [`Releases::counts`], with project and version.
    pub fn all_counts(&self) -> impl Iterator<Item = (ProjectId, &str, StateCounts)> {
        let ids = (0..u16::MAX).map(ProjectId);
        let projects = ids.zip(&self.projects);
        projects.flat_map(move |(id, project)| {
            let releases = project.releases.iter();
            releases.map(move |(version, release)| (id, &**version, self.counts_of(release)))
        })
    }

    fn counts_of(&self, release: &ReleaseRecord) -> StateCounts {
        let mut sum = StateCounts::default();
        for target in release.targets.iter().filter_map(|id| self.get(*id)) {
            for state in State::ALL {
                sum.add(state, target.counts.of(state));
            }
            sum.add(State::Confirmed, target.confirmed);
        }
        sum.add(State::Confirmed, release.confirmed);
        sum
    }
}
