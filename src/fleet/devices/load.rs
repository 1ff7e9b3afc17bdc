//! Conversion of devices to journal entries and back.

use std::rc::Rc;

use super::Devices;
use super::record::{DeviceRecord, Rank};
use crate::firmware::audience::DeviceId;
use crate::fleet::entry::{DeviceEntry, JournalEntry, ProgressEntry, ReleaseEntry};
use crate::fleet::profiles::Profile;
use crate::fleet::progress::{Progress, State, TargetId, capped};
use crate::fleet::short_version::ShortVersion;

impl Devices {
    /// Returns the entry of a device.
    pub(super) fn entry(&self, slot: u32) -> Option<DeviceEntry> {
        let record = self.table.get(slot)?;
        let project = self.releases.project(record.project)?;
        Some(DeviceEntry {
            device: record.device,
            text: self.table.text(slot, record),
            project: project.name.clone(),
            version: record.version.as_str().into(),
            first: record.first,
            last: record.last,
            interval: record.interval,
            network: record.network,
            profile: self.profiles.shared(record.profile).cloned(),
            confirmed: self.confirmed_before(record),
            progress: record.progress.and_then(|p| self.progress_entry(p)),
        })
    }

    /// Returns the releases that a device was confirmed with before that of its current update.
    fn confirmed_before(&self, record: &DeviceRecord) -> Vec<(Rc<str>, Rc<str>)> {
        let targets = record.confirmed.into_iter();
        let targets = targets.filter_map(|id| self.releases.get(id));
        targets
            .filter_map(|target| {
                let project = self.releases.project(target.project)?;
                Some((project.name.clone(), target.version.clone()))
            })
            .collect()
    }

    fn progress_entry(&self, progress: Progress) -> Option<ProgressEntry> {
        let target = self.releases.get(progress.target)?;
        // `reached` counts up to 4 GiB.
        let has_all = matches!(
            progress.state,
            State::Delivered | State::Sent | State::Waiting | State::Confirmed
        ) && progress.reached == capped(target.size);
        Some(ProgressEntry {
            project: self.releases.project(target.project)?.name.clone(),
            version: target.version.clone(),
            content: target.content,
            size: target.size,
            state: progress.state,
            since: progress.since,
            reached: match has_all {
                true => target.size,
                false => progress.reached.into(),
            },
            outcome: progress.outcome,
            weak: progress.weak,
            by_proxy: progress.by_proxy,
            from: progress.from.as_str().into(),
        })
    }

    /// Returns the entries of the established devices among `most` slots, starting at `from`, and the next slot, or
    /// `None` after the last one.
    pub fn records(&self, from: u64, most: usize) -> (Vec<JournalEntry>, Option<u64>) {
        let end = u64::from(self.table.end());
        let until = end.min(from.saturating_add(most as u64));
        let first = u32::try_from(from).unwrap_or(u32::MAX);
        let records = self
            .table
            .from(first)
            .take_while(|(slot, _)| u64::from(*slot) < until);
        let established = records.filter(|(_, record)| record.is_established());
        let entries = established.filter_map(|(slot, _)| self.entry(slot));
        let entries = entries.map(JournalEntry::Device).collect();
        (entries, (until < end).then_some(until))
    }

    /// Reserves capacity for this many devices of earlier runs, at most for the number that may be established.
    pub fn reserve(&mut self, devices: usize) {
        self.table.reserve(devices.min(self.most_established()));
    }

    /// Loads a device of an earlier run. If a device has several entries, the last one counts.
    pub fn load(&mut self, entry: DeviceEntry) {
        let Some(project) = self.releases.intern_project(&entry.project) else {
            return;
        };
        let slot = match self.table.find(entry.device) {
            Some(slot) => {
                self.table.touch(slot, Rank::Established);
                slot
            }
            None => {
                // --max-devices may be lower than in the earlier run.
                let most = self.most_established();
                while self.table.len(Rank::Established) >= most {
                    let Some(first) = self.table.in_order(Rank::Established).next() else {
                        return;
                    };
                    self.forget(first);
                }
                self.releases.count_project(None, Some(project));
                let record = DeviceRecord::new(entry.device, &entry.text, project, entry.first);
                self.table.insert(record, Rank::Established, &entry.text)
            }
        };
        let mut confirmed = [TargetId::NONE; 3];
        for (place, (project, version)) in confirmed.iter_mut().zip(&entry.confirmed) {
            let target = self.releases.confirmed_before(project, version, self.began);
            *place = target.unwrap_or(TargetId::NONE);
        }
        self.set_confirmed(slot, confirmed);
        self.set_project(slot, project);
        if let Some(record) = self.table.get_mut(slot) {
            let profile = entry.profile.as_deref().map(Profile::borrowed);
            record.profile = self.profiles.replace(record.profile, profile, false);
            record.version = ShortVersion::of(&entry.version);
            record.first = entry.first;
            record.last = entry.last;
            record.interval = entry.interval;
            record.network = entry.network.or(record.network);
        }
        let progress = entry.progress.and_then(|p| self.progress_of(p));
        self.put_progress(slot, progress);
    }

    fn progress_of(&mut self, entry: ProgressEntry) -> Option<Progress> {
        let project = self.releases.intern_project(&entry.project)?;
        let (content, size) = (entry.content, entry.size);
        let target = self
            .releases
            .intern(project, &entry.version, content, size, self.began)?;
        Some(Progress {
            target,
            state: entry.state,
            since: entry.since,
            reached: capped(entry.reached),
            outcome: entry.outcome,
            weak: entry.weak,
            by_proxy: entry.by_proxy,
            from: ShortVersion::of(&entry.from),
        })
    }

    /// Removes a device that was forgotten in an earlier run.
    pub fn load_forgotten(&mut self, device: DeviceId) {
        if let Some(slot) = self.table.find(device) {
            self.forget(slot);
        }
    }

    /// Loads a release of an earlier run.
    pub fn load_release(&mut self, entry: ReleaseEntry) {
        self.releases.load(entry, self.began);
    }

    /// Ends the loading. `downtime` is the number of seconds before this run in which no server ran.
    pub fn finish_loading(&mut self, downtime: u32) {
        self.downtime = downtime;
        self.table.sort();
        self.releases.all_loaded(self.began);
        if !self.releases.is_any_resumed() {
            return;
        }
        for slot in 0..self.table.end() {
            let Some(progress) = self.progress(slot) else {
                continue;
            };
            // Results from before a person resumed the release no longer count.
            let target = self.releases.get(progress.target);
            let release =
                target.and_then(|target| self.releases.release(target.project, &target.version));
            let resumed = release.and_then(|release| release.resumed);
            if resumed.is_some_and(|at| progress.since < at) && progress.outcome.is_some() {
                self.forget_outcome(slot, progress);
            }
        }
    }
}
