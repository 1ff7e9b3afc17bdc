//! Search for devices that have become silent.

use super::Devices;
use crate::fleet::clock::Stamp;
use crate::fleet::entry::{JournalEntry, Priority};
use crate::fleet::notices::{Notice, NoticeKind};
use crate::fleet::progress::TargetId;

/// Number of slots that one call of [`Devices::sweep_silent`] examines.
const SLICE: u32 = 2000;

/// Progress of a sweep over the table.
#[derive(Debug, Default)]
pub struct Sweep {
    /// Slot at which the next call continues.
    next: u32,
    /// Whether a record has changed since the sweep began, perhaps one that was already examined.
    has_changed: bool,
    /// Earliest time at which one of the examined devices becomes silent.
    soonest: Option<Stamp>,
    /// Whether the sweep has ended without changes since it began, so that no device becomes silent before `soonest`.
    is_settled: bool,
}

impl Sweep {
    /// Makes another sweep necessary, because a record has changed.
    pub fn restart(&mut self) {
        (self.has_changed, self.is_settled) = (true, false);
    }
}

impl Devices {
    /// Examines the next devices for those that have become silent. A sweep in which nothing changed is not repeated
    /// before the first device can become silent.
    pub fn sweep_silent(&mut self, now: Stamp) {
        if self.due().is_none_or(|due| now < due) {
            return;
        }
        let end = self.table.end();
        if self.sweep.next >= end {
            self.sweep.next = 0;
        }
        if self.sweep.next == 0 {
            self.sweep = Sweep::default();
        }
        let from = self.sweep.next;
        let until = end.min(from + SLICE);
        self.sweep.next = until;
        for slot in from..until {
            let Some(&record) = self.table.get(slot) else {
                continue;
            };
            let Some(progress) = record.progress else {
                continue;
            };
            let reboot_within = self.releases.reboot_within(progress.target);
            let Some(patience) = progress.patience(record.interval, reboot_within) else {
                continue;
            };
            let last = record.last.max(progress.since).max(self.began);
            let after = progress.waited(now.since(last), record.interval, reboot_within, now);
            if after != progress && self.newer_peer_outcome(&record).is_some() {
                // The device came back to another server.
                self.step(slot, Some(progress), None);
            } else if after != progress {
                self.step(slot, Some(progress), Some(after));
                self.notice_silent(progress.target, now);
            } else {
                let silent = last.plus(patience).plus(1);
                let soonest = self.sweep.soonest.unwrap_or(silent);
                self.sweep.soonest = Some(soonest.min(silent));
            }
        }
        if until == end {
            self.sweep.is_settled = !self.sweep.has_changed;
        }
    }

    /// Raises the notice about a release with too many silent devices.
    fn notice_silent(&mut self, target: TargetId, now: Stamp) {
        if let Some((entry, reason)) = self.releases.too_many_silent(target, now) {
            let (project, version) = (&entry.project, &entry.version);
            let kind = NoticeKind::TooManySilent;
            self.notices
                .push(Notice::new(kind, project, version, &reason));
            self.queue
                .push((JournalEntry::Release(entry), Priority::Major));
        }
    }

    /// Time at which [`Devices::sweep_silent`] has work to do; `None`: not before something changes.
    pub fn due(&self) -> Option<Stamp> {
        match self.sweep.is_settled {
            true => self.sweep.soonest,
            false => Some(Stamp::default()),
        }
    }
}
