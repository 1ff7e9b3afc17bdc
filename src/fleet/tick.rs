//! Timed work of the fleet: computes when it is due, and does it.

use std::time::{Duration, Instant};

use super::Fleet;
use super::changes;
use super::clock::{self, Stamp};
use super::entry::{ChangeEntry, JournalEntry, StageEntry};
use super::notices::{Notice, NoticeKind};
use super::releases::fuse::FuseVerdict;
use crate::decision::{FUSE, Fused, SET_TO_FALSE};
use crate::logging::log_named;
use crate::os::notify::Notify;

/// Minimum time between two ticks, and maximum time from a change to the next tick.
pub(super) const TICK: Duration = Duration::from_secs(1);

/// Number of records in one portion of a compaction: about 1 ms of work.
const RECORDS: usize = 500;

/// Time between two portions of a compaction.
const PACE: Duration = Duration::from_millis(15);

impl Fleet {
    /// Time at which [`Fleet::on_due`] has work to do; `None` until something changes. There is no periodic timer:
    /// while devices send checks, each tick follows one second after the last one; otherwise each part of the fleet
    /// states its own time.
    pub fn due(&self) -> Option<Instant> {
        let is_read_due = self.known_list.is_due() || self.hold_requests.is_due();
        let stamps = [
            is_read_due.then_some(Stamp::default()),
            self.devices.due(),
            self.releases().due(),
            self.journal.due(),
            self.history.due(),
            self.walk.is_some().then_some(Stamp::default()),
        ];
        let first = stamps.into_iter().flatten().min();
        let first = first.map(|stamp| self.clock.instant(stamp));
        let dirty_since = self.dirty_since.map(|at| at + TICK);
        let due = [first, dirty_since].into_iter().flatten().min();
        let tick = due.map(|due| self.ticked.map_or(due, |ticked| due.max(ticked + TICK)));
        [tick, self.next_records].into_iter().flatten().min()
    }

    /// Runs a tick, or the next portion of a compaction if the last tick was less than a second ago. Returns the pauses
    /// that are to be written into the firmware folder.
    pub fn on_due(&mut self, now: Instant) -> Vec<Fused> {
        if self.ticked.is_some_and(|ticked| now < ticked + TICK) {
            self.continue_compaction(now);
            return Vec::new();
        }
        self.tick(now)
    }

    /// Gives the journal the next portion of the records that it wants for a compaction.
    fn continue_compaction(&mut self, now: Instant) {
        if let Some(from) = self.journal.wants_records() {
            let (entries, next) = self.records(from, RECORDS);
            self.journal.add_records(&entries, next);
        }
        self.next_records = self.journal.is_copying().then(|| now + PACE);
    }

    /// Notification that [`Fleet::due`] may be earlier than before.
    pub fn due_changed(&self) -> Notify {
        self.due_changed.clone()
    }

    /// Makes the next tick read the state folder, which may have changed.
    pub fn state_folder_changed(&mut self) {
        self.known_list.schedule_read();
        self.hold_requests.schedule_read();
        self.due_changed.notify();
    }

    /// Runs a tick: finds silent devices, judges releases, advances stages, counts for the history, gives the journal
    /// its records, and handles the requests in the state folder. Returns the pauses that are to be written into the
    /// firmware folder.
    pub fn tick(&mut self, now: Instant) -> Vec<Fused> {
        self.tick_at(now, clock::unix_now())
    }

    /// Variant of [`Fleet::tick`] with the time of the machine's clock (`unix`).
    pub(super) fn tick_at(&mut self, now: Instant, unix: i64) -> Vec<Fused> {
        let stamp = self.clock.stamp(now);
        self.ticked = Some(now);
        self.dirty_since = None;
        self.devices.sweep_silent(stamp);
        self.journal_devices();
        let pauses = self.judge(now);
        self.advance_stages(now);
        self.continue_above_walk(now);
        self.journal.tick(stamp, unix);
        self.sample(stamp, unix);
        self.continue_compaction(now);
        self.known_list.tick();
        let mut requests = std::mem::take(&mut self.hold_requests);
        for (device, id, is_known) in requests.tick(&|device| self.remembers(device)) {
            if !is_known {
                log_named!(info, self.device_name(device), "no such device", target: "lift", device = &*id);
                continue;
            }
            let holds = self.clear_hold(device, now);
            log_named!(info, self.device_name(device), "", target: "lift", device = &*id, holds = holds);
            let change = ChangeEntry::new(ChangeEntry::LIFT, "", "", &id);
            self.changed(changes::COMMAND, change, now);
        }
        self.hold_requests = requests;
        pauses
    }

    /// Advances contents to their next stage, and logs why others stay in theirs.
    fn advance_stages(&mut self, now: Instant) {
        let stamp = self.clock.stamp(now);
        let changes = self.releases_mut().advance_stages(stamp);
        for (project, version, wait) in changes.waits {
            log::info!(
                target: "stage",
                project = &*project,
                version = &*version,
                reason:% = wait.sentence();
                "the next stage waits"
            );
        }
        for stage in changes.reached {
            // The next tick puts the stage into force for decisions.
            self.mark_dirty(now);
            self.stage_reached(stage);
        }
    }

    /// Records that a content of a release has reached a stage. Writes it to the journal at once, because a server that
    /// is killed now must remember it.
    fn stage_reached(&mut self, stage: StageEntry) {
        let percent = f64::from(stage.reached) / 100.0;
        let reason = format!("{percent} percent of the devices");
        let (project, version) = (&*stage.project, &*stage.version);
        let notice = Notice::new(NoticeKind::StageReached, project, version, &reason);
        let entry = JournalEntry::Stage(stage);
        let _written = self.journal.write_now(&entry, entry.priority());
        self.notify(notice);
    }

    /// Judges the releases from which enough devices came back. Returns the pauses that are to be written into the
    /// firmware folder.
    fn judge(&mut self, instant: Instant) -> Vec<Fused> {
        let now = self.clock.stamp(instant);
        let mut to_write = self.releases_mut().pauses_to_retry(now);
        for suspect in self.releases_mut().suspects(now) {
            let (project, version) = (&*suspect.project, &*suspect.version);
            let listed = |device| self.known_list.contains(device);
            let census = self
                .devices
                .census((project, version), &suspect.rules, listed, now);
            let Some(census) = census else { continue };
            match self.releases_mut().judge(project, version, &census, now) {
                FuseVerdict::Fine => {}
                FuseVerdict::Suspect(sentence) => log::warn!(target: "fuse", "{sentence}"),
                FuseVerdict::Tripped(fused) => {
                    if let Some(entry) = self.releases().entry(project, version) {
                        // Written at once: a server that is killed now must remember the pause.
                        let entry = JournalEntry::Release(entry);
                        let _written = self.journal.write_now(&entry, entry.priority());
                    }
                    let reason = fused.sentence.strip_prefix(FUSE).unwrap_or(&fused.sentence);
                    let reason = reason.strip_suffix(SET_TO_FALSE).unwrap_or(reason);
                    self.notify(Notice::new(NoticeKind::Fused, project, version, reason));
                    let change = ChangeEntry::new(ChangeEntry::PAUSE, project, version, reason);
                    self.changed(changes::FUSE, change, instant);
                    to_write.push(fused);
                }
            }
        }
        to_write
    }
}
