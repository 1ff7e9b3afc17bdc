//! Recording of checks, transfers, reports, new catalogues and commands of the operator in the fleet.

use std::sync::Arc;
use std::time::Instant;

use super::Fleet;
use super::changes::Changes;
use super::clock::{Stamp, unix_now};
use super::devices::{Above, DeviceTransfer, Fallback, Sighting};
use super::entry::{ChangeEntry, JournalEntry, Priority};
use super::journal::Written;
use super::notices::{Notice, NoticeKind};
use super::pins::{PinWorth, PinnedDownload};
use super::report::Report;
use super::requester::{PinOwner, Requester};
use super::short_version::ShortVersion;
use super::transfer::{FileRange, TransferOutcome};
use crate::decision::{Check, Fused, Verdict};
use crate::firmware::ContentId;
use crate::firmware::audience::DeviceId;
use crate::firmware::catalog::{Catalog, Groups};
use crate::logging::log_named;

/// A running transfer; consumed by [`Fleet::end`].
#[derive(Debug)]
pub struct Transfer {
    /// Requester; `None` if the client has no id.
    who: Option<Requester>,
    /// Bytes that were acknowledged so far.
    arrived: FileRange,
    pinned: Option<PinnedDownload>,
}

impl Transfer {
    /// Whether the client has a device id.
    pub fn is_to_a_device(&self) -> bool {
        self.who.is_some()
    }

    /// Returns the transfer as the table of devices identifies it; `None` if the client has no id.
    fn device_transfer(&self) -> Option<DeviceTransfer> {
        Some(DeviceTransfer {
            device: self.who?.device,
            content: self.arrived.content,
            start: self.arrived.start,
        })
    }
}

/// Number of device slots that [`Fleet::continue_above_walk`] examines in one tick: about 2 ms of work.
pub(super) const ABOVE_SLOTS: u32 = 32_768;

impl Fleet {
    /// Records a check and its verdict: the sighting of the device, an offer, and the result of an earlier delivery.
    /// Checks without an id or for an unknown project are not recorded. Must not be called for a check that continues a
    /// download: that device has not come back yet.
    pub fn record_check(
        &mut self,
        check: &Check<'_>,
        who: Option<&Requester>,
        verdict: &Verdict<'_>,
        is_given: bool,
        now: Instant,
    ) {
        let is_ignored =
            matches!(verdict, Verdict::Refuse(refused) if !refused.refusal.is_remembered());
        let Some(who) = who.filter(|_| !is_ignored && !check.project().is_empty()) else {
            return;
        };
        self.mark_dirty(now);
        let now = self.clock.stamp(now);
        let facts = self.check_facts(check, who, is_given, now);
        let sighting = Sighting {
            device: who.device,
            network: who.network,
            check,
            verdict,
            listed: self.is_listed(who.device),
            same_session: facts.same_session,
            is_given,
        };
        let fallen = self.devices.record_check(sighting, now);
        self.journal_devices();
        let offered = match verdict {
            Verdict::Offer(offer) => Some(offer.package.content),
            Verdict::Refuse(_) => None,
        };
        for against in self.loop_guard.count_check(who, facts, offered, now) {
            log_named!(
                warn,
                self.device_name(who.device),
                "it came back with its old version again; it is still offered the file, because \
                 `allow` names it: after ten attempts in a day it is held, and `luat-ota lift` lifts the hold",
                target: "loop",
                device = &*check.device_text,
                content = against.content.to_string().get(..16).unwrap_or_default(),
                reverts = against.reverts
            );
        }
        for hold in self.loop_guard.holds_begun() {
            if self.devices.is_established(who.device) {
                let hours = hold.held_until.map_or(0, |until| until.since(now) / 3600);
                let reason = format!(
                    "it got the file repeatedly and still runs its old version; it is not offered the file for {hours} h"
                );
                let notice = Notice::new(NoticeKind::Held, check.project(), &hold.to, &reason);
                self.notify(notice.of_device(&check.device_text));
            }
        }
        if let Some(Fallback { content, to }) = fallen {
            self.loop_guard.fallback(who, content, to, now);
        }
        self.journal_loop_guard();
        if let Verdict::Offer(offer) = verdict {
            let (project, version) = (&offer.project.name, &offer.release.version_text);
            self.releases_mut()
                .record_offer(project, version, who.device, now);
        }
    }

    /// Records that bytes are about to be sent, to a device (`who`) or to a client without an id. The caller must not
    /// send any before it has waited for the returned [`Written`], which takes at most 2 s.
    pub fn begin(
        &mut self,
        who: Option<&Requester>,
        owner: Option<&PinOwner>,
        range: FileRange,
        now: Instant,
    ) -> (Transfer, Written) {
        self.mark_dirty(now);
        let stamp = self.clock.stamp(now);
        let mut written = Written::complete();
        let priority = who.map_or(Priority::Minor, |who| self.priority(who.device));
        let pinned = owner.and_then(|owner| {
            let worth = match priority {
                _ if owner.is_anonymous() => PinWorth::Anonymous,
                Priority::Major => PinWorth::Established,
                _ => PinWorth::Stranger,
            };
            self.pins.begin(owner, worth, range, stamp)
        });
        if let Some(pinned) = &pinned
            && let Some(pin) = self.pins.to_write(pinned)
        {
            match self.journal.write_now(&JournalEntry::Pin(pin), priority) {
                Some(promise) => written = promise,
                None => self.pins.mark_unwritten(pinned),
            }
        }
        self.journal_pins();
        let transfer = Transfer {
            who: who.copied(),
            arrived: FileRange {
                end: range.start,
                ..range
            },
            pinned,
        };
        if let Some(piece) = transfer.device_transfer() {
            self.devices.begun(piece);
            if owner.is_none() {
                // A device that requests packets has read the upgrade id in the reply to its check.
                self.devices.answered(piece.device, stamp);
            }
        }
        self.journal_devices();
        (transfer, written)
    }

    /// Records that the file's bytes before `high` were sent.
    pub fn sent(&mut self, transfer: &Transfer, high: u64) {
        if let Some(pinned) = &transfer.pinned {
            self.pins.sent(pinned, high);
        }
    }

    /// Records that the device acknowledged the file's bytes before `high`.
    pub fn acknowledged(&mut self, transfer: &mut Transfer, high: u64, now: Instant) {
        self.mark_dirty(now);
        transfer.arrived.end = transfer.arrived.end.max(high);
        let now = self.clock.stamp(now);
        if let Some(piece) = transfer.device_transfer() {
            self.devices.acknowledged(piece, high, now);
            self.journal_devices();
        }
    }

    /// Records the end of a transfer.
    pub fn end(&mut self, mut transfer: Transfer, outcome: TransferOutcome, now: Instant) {
        self.mark_dirty(now);
        let is_whole = matches!(outcome, TransferOutcome::Whole | TransferOutcome::Sent);
        let now = self.clock.stamp(now);
        if let Some(pinned) = transfer.pinned.take() {
            self.pins.end(pinned, now);
            self.journal_pins();
        }
        let (Some(who), Some(piece)) = (transfer.who, transfer.device_transfer()) else {
            return;
        };
        if is_whole {
            // In the packet protocol no request follows the last packet, so nothing acknowledges it.
            let size = transfer.arrived.size;
            transfer.arrived.end = size;
            self.devices.acknowledged(piece, size, now);
            let what = (size, outcome == TransferOutcome::Sent);
            self.devices.delivered(piece, what, who.network, now);
            self.journal_devices();
            self.sessions.ended(&who, now);
        }
        self.loop_guard
            .record_transfer(&who, transfer.arrived, outcome, now);
        self.journal_loop_guard();
    }

    /// Records that the device was redirected for this content of the release `to`.
    pub fn record_redirect(&mut self, who: &Requester, content: ContentId, to: &str, now: Instant) {
        self.mark_dirty(now);
        let now = self.clock.stamp(now);
        self.loop_guard
            .record_redirect(who, content, ShortVersion::of(to), now);
        self.journal_loop_guard();
    }

    /// Records the result that a device reports for an update (libfota3), for display only: the version
    /// in the next check is the evidence (docs/protocol.md 9d).
    pub fn reported(&mut self, device: DeviceId, content: ContentId, report: Report) {
        self.devices.reported(device, content, report);
    }

    /// Takes over a new catalogue.
    pub fn catalog(&mut self, catalog: &Catalog, now: Instant) {
        self.mark_dirty(now);
        self.set_groups(Arc::clone(&catalog.groups));
        let now = self.clock.stamp(now);
        let begun = self.devices.catalog(catalog, now);
        let mut uploaded = Vec::new();
        for notice in self.devices.notices() {
            let is_found = notice.kind == NoticeKind::ReleaseFound;
            let publisher = self.changes.publisher(&notice.project, &notice.version);
            let notice = match publisher.filter(|_| is_found) {
                Some(by) => {
                    let change = ChangeEntry {
                        by: by.into(),
                        ..ChangeEntry::new(
                            ChangeEntry::UPLOAD,
                            &notice.project,
                            &notice.version,
                            "",
                        )
                    };
                    let reason = format!("uploaded by {by}").into();
                    uploaded.push(change);
                    Notice { reason, ..notice }
                }
                None => notice,
            };
            if self.is_folder_known || !is_found {
                self.notify(notice);
            }
        }
        self.is_folder_known |= catalog.waiting.is_empty();
        self.journal_devices();
        for stage in begun {
            let entry = JournalEntry::Stage(stage);
            let _written = self.journal.write_now(&entry, entry.priority());
        }
        for change in uploaded {
            self.attribute(&change, now);
        }
        self.begin_above_walk(catalog);
        let size = |content| catalog.sources(content).first().map(|source| source.size);
        self.loop_guard.set_sizes(size);
    }

    /// Whether a release or file that appears in the firmware folder now is new: the folder was read completely in this
    /// run, or its releases were known from an earlier one.
    pub fn is_folder_known(&self) -> bool {
        self.is_folder_known
    }

    /// Begins a walk that finds devices with a version above every remaining release. While a file is waiting to
    /// settle, no walk begins, because that file may contain the missing release.
    fn begin_above_walk(&mut self, catalog: &Catalog) {
        let may_have_changed = match &self.versions_above {
            None => true,
            Some(above) => !above.is_empty() || self.releases().has_lost(),
        };
        if !may_have_changed && self.above_walk.is_none() {
            return;
        }
        self.above_walk = match catalog.waiting.is_empty() {
            true => Some(self.devices.above_walk(catalog)),
            false => {
                self.versions_above = None;
                None
            }
        };
    }

    /// Examines some more devices; at the end of the walk, warns of versions above every remaining release.
    pub(super) fn continue_above_walk(&mut self, now: Instant) {
        let Some(mut walk) = self.above_walk.take() else {
            return;
        };
        if !self.devices.walk_above(&mut walk, ABOVE_SLOTS) {
            self.above_walk = Some(walk);
            // The next tick continues the walk.
            self.dirty_since = Some(now);
            return;
        }
        let above = self.devices.above(&walk);
        let known = self.versions_above.take().unwrap_or_default();
        let is_known = |new: &&Above| {
            let mut known = known.iter();
            known.any(|old| (&old.project, &old.version) == (&new.project, &new.version))
        };
        for new in above.iter().filter(|new| !is_known(new)) {
            log::warn!(
                target: "above",
                project = &*new.project,
                version = &*new.version,
                devices = new.devices;
                "devices run a version above every remaining release: they get no offer until there is a higher \
                 one"
            );
        }
        self.versions_above = Some(above);
    }

    /// Sets the groups that give devices their names.
    pub fn set_groups(&mut self, groups: Arc<Groups>) {
        self.groups = groups;
    }

    /// Records a change, also in the log. `by`: the name of the token, [`changes::COMMAND`](super::changes::COMMAND) or
    /// [`changes::FUSE`](super::changes::FUSE).
    pub fn changed(&mut self, by: &str, change: ChangeEntry, now: Instant) {
        log::info!(
            target: "change",
            by = by, action = &*change.action, project = &*change.project, version = &*change.version;
            "{}", change.detail
        );
        self.mark_dirty(now);
        let entry = self.changes.add(by, change, unix_now());
        // Written at once: the record of the change must survive a kill.
        let _written = self.journal.write_now(&entry, entry.priority());
        if let JournalEntry::Change(change) = entry {
            self.attribute(&change, self.clock.stamp(now));
        }
    }

    /// Records in a release who uploaded or paused it.
    fn attribute(&mut self, change: &ChangeEntry, now: Stamp) {
        if let Some(release) = self.releases_mut().attribute(change, now) {
            let entry = JournalEntry::Release(release);
            self.journal.write_later(&entry, entry.priority());
        }
    }

    /// The most recent changes by people, commands and the fuse.
    pub fn changes(&self) -> &Changes {
        &self.changes
    }

    /// Ends the pause of a release at the request of a person. Returns `false` if the fuse has not paused the release.
    pub fn resume_release(&mut self, project: &str, version: &str, now: Instant) -> bool {
        self.mark_dirty(now);
        let now = self.clock.stamp(now);
        let was_paused = self.devices.resume(project, version, now);
        self.journal_devices();
        was_paused
    }

    /// Records whether a pause that [`Fleet::tick`] returned could be written into the firmware folder.
    pub fn pause_written(&mut self, fused: &Fused, in_the_folder: bool, now: Instant) {
        self.mark_dirty(now);
        let now = self.clock.stamp(now);
        self.releases_mut().pause_written(fused, in_the_folder, now);
    }

    /// Drops all evidence of the loop guard against a device; returns the number of contents that were held.
    pub fn clear_hold(&mut self, device: DeviceId, now: Instant) -> usize {
        self.mark_dirty(now);
        let holds = self.loop_guard.clear(device, self.clock.stamp(now));
        self.journal_loop_guard();
        holds
    }
}
