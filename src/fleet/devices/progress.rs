//! Changes of update progress: by checks, by offers, and by a person who resumes a release.

use super::record::DeviceRecord;
use super::{Devices, Fallback, Sighting};
use crate::decision::{Back, Check, Offer, Verdict, came_back};
use crate::firmware::audience::DeviceId;
use crate::fleet::clock::Stamp;
use crate::fleet::entry::{JournalEntry, Priority, ReleaseEntry};
use crate::fleet::network::Network;
use crate::fleet::notices::{Notice, NoticeKind};
use crate::fleet::progress::{AwaitedReboot, Circumstances, Outcome, Progress, State, TargetId};
use crate::fleet::short_version::ShortVersion;

/// States in which an update has a result, in the order of [`Devices::results`].
pub const RESULTS: [State; 3] = [State::Confirmed, State::Reverted, State::Silent];

impl Devices {
    /// Numbers of updates since the start that ended in each state of [`RESULTS`], in that order.
    pub fn results(&self) -> [u64; RESULTS.len()] {
        self.results
    }

    /// Changes the update progress of a device. A release that the device was confirmed with and leaves for another one
    /// stays in its record.
    pub(super) fn set_progress(&mut self, slot: u32, progress: Option<Progress>) {
        let Some(record) = self.table.get(slot) else {
            return;
        };
        let (before, mut confirmed) = (record.progress, record.confirmed);
        self.put_progress(slot, progress);
        #[cfg(feature = "operator")]
        self.note_progress(slot, before, progress);
        let target = |progress: Option<Progress>| progress.map(|progress| progress.target);
        if target(before) == target(progress) {
            return;
        }
        let is_same = |one: TargetId| {
            target(progress).is_some_and(|other| self.releases.is_same_release(one, other))
        };
        let left = target(before.filter(|before| before.state == State::Confirmed));
        let left = left.filter(|left| !is_same(*left));
        // A device counts in one state of a release only.
        for place in confirmed.iter_mut().filter(|place| is_same(**place)) {
            *place = TargetId::NONE;
        }
        if let Some(left) = left {
            let is_free = |place: &TargetId| *place == TargetId::NONE;
            let at = confirmed.iter().position(is_free).unwrap_or(0);
            if let Some(rest) = confirmed.get_mut(at..) {
                rest.rotate_left(1);
            }
            let [.., last] = &mut confirmed;
            let gone = std::mem::replace(last, left);
            self.retire(gone);
        }
        self.set_confirmed(slot, confirmed);
    }

    /// Changes the releases that a device was confirmed with, and updates the targets' numbers.
    pub(super) fn set_confirmed(&mut self, slot: u32, confirmed: [TargetId; 3]) {
        let Some(record) = self.table.get_mut(slot) else {
            return;
        };
        if record.confirmed == confirmed {
            return;
        }
        for target in std::mem::replace(&mut record.confirmed, confirmed) {
            self.releases.drop_confirmed(target);
        }
        for target in confirmed {
            self.releases.keep_confirmed(target);
        }
    }

    /// Counts a device as confirmed with a release that its record no longer contains.
    pub(super) fn retire(&mut self, target: TargetId) {
        if let Some(entry) = self.releases.retire_confirmed(target) {
            self.queue
                .push((JournalEntry::Release(entry), Priority::Major));
        }
    }

    /// Changes the update progress of a device, and updates the targets' numbers. Another target discards the report.
    pub(super) fn put_progress(&mut self, slot: u32, progress: Option<Progress>) {
        self.share_change(slot, progress);
        if let Some(record) = self.table.get_mut(slot) {
            self.releases.count_progress(record.progress, progress);
            let target = |progress: Option<Progress>| progress.map(|progress| progress.target);
            if target(record.progress) != target(progress) {
                record.report = None;
            }
            record.progress = progress;
            self.sweep.restart();
        }
    }

    /// Changes the update progress of a device. A change of state or target is queued for the journal.
    pub(super) fn step(&mut self, slot: u32, before: Option<Progress>, after: Option<Progress>) {
        self.set_progress(slot, after);
        let place = |progress: Option<Progress>| progress.map(|j| (j.target, j.state));
        if place(before) != place(after) {
            self.queue_established(slot);
            let state = after.map(|after| after.state);
            let at = RESULTS.iter().position(|known| Some(*known) == state);
            if let Some(count) = at.and_then(|at| self.results.get_mut(at)) {
                *count = count.wrapping_add(1);
            }
        }
    }

    /// Applies a check to the update progress of its device.
    pub(super) fn apply_check(
        &mut self,
        slot: u32,
        sighting: &Sighting<'_>,
        now: Stamp,
    ) -> Option<Fallback> {
        let record = *self.table.get(slot)?;
        let Some(progress) = record.progress else {
            self.set_network(slot, sighting.network);
            return None;
        };
        let check = Circumstances {
            same_place: record.is_near(sighting.network),
            same_session: sighting.same_session,
            reboot_within: self.releases.reboot_within(progress.target),
            is_given: sighting.is_given,
        };
        let back = self.judge(progress, &record, sighting.check);
        let after = progress.back(back, check, now);
        self.step(slot, Some(progress), after);
        let is_confirmed = after.is_some_and(|after| after.state == State::Confirmed);
        if is_confirmed && progress.state != State::Confirmed && record.is_established() {
            self.notice_confirmed(&sighting.check.device_text, progress.target, now);
        }
        // A device that has the file is believed only in the network of the delivery. Otherwise one check from
        // elsewhere would hide the reports of the real device.
        if check.same_place || !progress.had_all() {
            self.set_network(slot, sighting.network);
        }
        let is_fallback = progress.state == State::Confirmed
            && after.is_some_and(|after| after.state == State::Reverted);
        let target = self.releases.get(progress.target).filter(|_| is_fallback)?;
        Some(Fallback {
            content: target.content,
            to: ShortVersion::of(&target.version),
        })
    }

    /// Raises the notice about the first established device that is confirmed with a release.
    pub(super) fn notice_confirmed(&mut self, device: &str, target: TargetId, now: Stamp) {
        if let Some(entry) = self.releases.first_confirmed(target, now) {
            let (project, version) = (&entry.project, &entry.version);
            let notice = Notice::new(NoticeKind::FirstConfirmed, project, version, "");
            self.notices.push(notice.of_device(device));
            self.queue
                .push((JournalEntry::Release(entry), Priority::Major));
        }
    }

    /// Returns the version that a device was last confirmed with, if this check reports the version before it. Whether
    /// the device has fallen back also depends on the time since then, and on what the rules offer to that version.
    pub fn fallen_from(&self, device: DeviceId, check: &Check<'_>) -> Option<ShortVersion> {
        let record = self.table.device(device)?;
        let progress = record.progress?;
        let is_old = || self.judge(progress, record, check) == Back::Old;
        (progress.state == State::Confirmed && is_old()).then_some(record.version)
    }

    /// Returns the content that a device has completely and need not run yet because of `reboot_within`, if the device
    /// sends this check from the network of the delivery; with the seconds since the delivery, and `reboot_within`.
    pub fn awaited_reboot(
        &self,
        device: DeviceId,
        network: Network,
        check: &Check<'_>,
        now: Stamp,
    ) -> Option<AwaitedReboot> {
        let record = self.table.device(device)?;
        let progress = record.progress?;
        if !progress.state.has_all() || !record.is_near(network) {
            return None;
        }
        let within = self.releases.reboot_within(progress.target);
        let age = now.since(progress.since);
        let is_awaited = age < within && self.judge(progress, record, check) == Back::Old;
        let target = self.releases.get(progress.target).filter(|_| is_awaited)?;
        Some(AwaitedReboot {
            content: target.content,
            age,
            within,
        })
    }

    pub(super) fn set_network(&mut self, slot: u32, network: Network) {
        if let Some(record) = self.table.get_mut(slot) {
            record.network = Some(network);
        }
    }

    /// Compares a check with the update progress of its device.
    fn judge(&self, progress: Progress, record: &DeviceRecord, check: &Check<'_>) -> Back {
        let target = self.releases.get(progress.target);
        let Some(target) = target.filter(|target| target.project == record.project) else {
            return Back::Other;
        };
        if !ShortVersion::holds(&check.version) && record.version == progress.from {
            return Back::Old;
        }
        came_back(progress.from.as_str(), check, &target.version)
    }

    /// Begins the update to the release that a device is offered, unless that has already begun.
    pub(super) fn begin_update(
        &mut self,
        slot: u32,
        sighting: &Sighting<'_>,
        now: Stamp,
    ) -> Option<()> {
        let Verdict::Offer(Offer {
            project,
            release,
            package,
        }) = sighting.verdict
        else {
            return None;
        };
        let record = self.table.get(slot)?;
        let (before, version) = (record.progress, record.version);
        let project = self.releases.intern_project(&project.name)?;
        let version_text = &release.version_text;
        let target =
            self.releases
                .intern(project, version_text, package.content, package.size, now);
        if target.is_none() || target != before.map(|progress| progress.target) {
            let after = target.map(|target| Progress::offered(target, version, now));
            self.step(slot, before, after);
        }
        None
    }

    /// Ends the pause of a release that a person has resumed. Returns `false` if the fuse has not paused it.
    pub fn resume(&mut self, project: &str, version: &str, now: Stamp) -> bool {
        let resumed = self.releases.resume(project, version, now);
        let was_paused = resumed.is_some();
        if let Some(release) = resumed {
            self.forget_reverts(release);
        }
        was_paused
    }

    /// Removes the reverts of a release that a person has resumed, and raises the notice.
    pub(super) fn forget_reverts(&mut self, release: ReleaseEntry) {
        let (of, version) = (&release.project, &release.version);
        self.notices
            .push(Notice::new(NoticeKind::Resumed, of, version, ""));
        let project = self.releases.project_id(&release.project);
        for slot in 0..self.table.end() {
            let Some(progress) = self.progress(slot) else {
                continue;
            };
            let target = self.releases.get(progress.target);
            let is_of = target.is_some_and(|target| {
                Some(target.project) == project && *target.version == *release.version
            });
            if is_of && progress.outcome.is_some_and(Outcome::is_revert) {
                self.forget_outcome(slot, progress);
            }
        }
        self.queue
            .push((JournalEntry::Release(release), Priority::Major));
    }

    pub(super) fn progress(&self, slot: u32) -> Option<Progress> {
        self.table.get(slot)?.progress
    }

    pub(super) fn forget_outcome(&mut self, slot: u32, progress: Progress) {
        let after = Progress {
            outcome: None,
            ..progress
        };
        self.set_progress(slot, Some(after));
    }
}
