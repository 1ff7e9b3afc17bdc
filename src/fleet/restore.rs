//! State that survives a restart: loads the fleet from the journal at the start, and returns the records for a
//! compaction of the journal.

use std::io;
use std::path::Path;
use std::time::Instant;

use super::clear_hold::HoldRequests;
use super::clock::Wall;
use super::entry::JournalEntry;
use super::known_list::KnownList;
use super::{Fleet, FleetSettings, clock, journal};
use crate::state::StateFolder;

/// Lowest bit of the table's number in a position among the records.
const TABLE: u32 = 56;

/// Minimum length of a usual line about a device, in bytes.
const SHORTEST_LINE: u64 = 160;

impl Fleet {
    /// Loads the fleet from a state folder, and keeps its state there from now on. `unix`: time of the machine's clock.
    pub fn open(
        settings: FleetSettings,
        folder: Option<&StateFolder>,
        began: Instant,
        unix: i64,
    ) -> Fleet {
        let mut fleet = Fleet::new(settings, began);
        if let Some(folder) = folder {
            fleet.reserve_for(&folder.path().join(journal::FILE));
            let now = fleet.clock.stamp(began);
            let loaded = journal::open(folder, now, unix, &mut |entry| fleet.load(entry, began));
            fleet.loop_guard.all_loaded();
            fleet.known_list = KnownList::open(folder.path(), fleet.due_changed.clone());
            fleet.devices.finish_loading(loaded.downtime);
            fleet.is_folder_known = !fleet.releases().is_empty();
            let wall = Wall { stamp: now, unix };
            fleet.journal = journal::continue_journal(folder, wall, &loaded, fleet.live());
            fleet.journal.set_notify(fleet.due_changed.clone());
            fleet.hold_requests = HoldRequests::open(folder.path());
            // Only the operator's page and API show the history.
            if cfg!(feature = "operator") {
                fleet.history.start();
            }
        }
        fleet
    }

    /// Loads the fleet from a state folder for reading only. Writes nothing, so that it can be used beside a running
    /// server. Fails if the journal cannot be read.
    pub fn read(
        settings: FleetSettings,
        folder: &Path,
        began: Instant,
        unix: i64,
    ) -> io::Result<(Fleet, journal::Loaded)> {
        let mut fleet = Fleet::new(settings, began);
        let now = fleet.clock.stamp(began);
        let path = folder.join(journal::FILE);
        let loaded = journal::load(&path, now, unix, &mut |entry| fleet.load(entry, began))?;
        fleet.loop_guard.all_loaded();
        fleet.known_list = KnownList::open(folder, fleet.due_changed.clone());
        fleet.devices.finish_loading(loaded.downtime);
        Ok((fleet, loaded))
    }

    /// Reserves capacity for the devices of a journal, estimated from its length.
    fn reserve_for(&mut self, journal: &Path) {
        let bytes = std::fs::metadata(journal).map_or(0, |about| about.len());
        let devices = bytes / SHORTEST_LINE;
        self.devices.reserve(usize::try_from(devices).unwrap_or(0));
    }

    /// Creates a fleet that has read these entries, and adds its own entries to them. `began`: as in the run that wrote
    /// the entries.
    #[cfg(test)]
    pub(crate) fn replayed(
        began: Instant,
        record: &std::rc::Rc<std::cell::RefCell<Vec<JournalEntry>>>,
        now: Instant,
    ) -> Fleet {
        let mut fleet = Fleet::new(FleetSettings::default(), began);
        for entry in record.borrow().iter() {
            fleet.load(entry.clone(), now);
        }
        fleet.loop_guard.all_loaded();
        fleet.journal.record = Some(record.clone());
        fleet
    }

    /// Records a refused check with this version for each of `devices` devices of project P.
    #[cfg(test)]
    pub(crate) fn refuse_devices(&mut self, devices: u64, version: &str, now: Instant) {
        use crate::decision::{Refusal, RefusedCheck, Verdict};
        use crate::firmware::audience::DeviceId;

        for n in 0..devices {
            let id = (862_991_400_000_000 + n).to_string();
            let device = DeviceId::parse(&id).unwrap();
            let check = super::entry::known_check(device, &id, version, "P", None);
            let who = super::requester::Requester::of(&check, [127, 0, 0, 1].into());
            let refused = Verdict::Refuse(RefusedCheck {
                refusal: Refusal::NothingNewer,
                release: None,
                rule: "",
            });
            self.record_check(&check, who.as_ref(), &refused, false, now);
        }
    }

    /// Takes over one entry of the journal; the last entry of a key wins.
    fn load(&mut self, entry: JournalEntry, now: Instant) {
        match entry {
            JournalEntry::Pin(pin) => self.pins.load(&pin, self.clock.stamp(now)),
            JournalEntry::Unpinned(owner) => self.pins.unload(owner),
            JournalEntry::Device(device) => self.devices.load(device),
            JournalEntry::Forgotten(device) => self.devices.load_forgotten(device),
            JournalEntry::Release(release) => self.devices.load_release(release),
            JournalEntry::Stage(stage) => self.releases_mut().load_stage(stage),
            JournalEntry::Guard(guard) => self.loop_guard.load(guard),
            JournalEntry::Change(change) => self.changes.load(change),
            JournalEntry::Unguarded(identity_without_version, coarse_network) => self
                .loop_guard
                .unload(identity_without_version, coarse_network),
            JournalEntry::Sample(sample) => self.load_sample(&sample),
        }
    }

    /// Number of records that the journal must have.
    fn live(&self) -> usize {
        [
            self.pins.len(),
            self.devices.established(),
            self.releases().len(),
            self.loop_guard.len(),
            self.history.days().lines(),
            self.history.hours().lines(),
            self.changes.len(),
        ]
        .into_iter()
        .sum()
    }

    /// Returns some records for a compaction of the journal, from the position `from` on, and the position of the next
    /// ones. The first byte of a position is the number of the table, the rest is the position in the table.
    pub(super) fn records(&self, from: u64, most: usize) -> (Vec<JournalEntry>, Option<u64>) {
        let table = from >> TABLE;
        let at = from & !(u64::MAX << TABLE);
        let (entries, next) = match table {
            0 => self.releases().records(at, most),
            1 => self.pins.records(at, most),
            2 => self.devices.records(at, most),
            3 => self.loop_guard.records(at, most),
            4 => (self.changes.records(), None),
            // Days come last: a day that is computed from the lines of its hours is incomplete if a sample is taken in
            // between.
            5 => self.samples(false, at, most),
            6 => self.samples(true, at, most),
            _ => return (Vec::new(), None),
        };
        let next = match next {
            Some(next) => Some(table << TABLE | next),
            None => Some(table.saturating_add(1) << TABLE),
        };
        (entries, next)
    }

    /// Gives the journal everything that it does not have yet, and waits at most 2 s until it is written.
    pub fn stop(&mut self, now: Instant) {
        // The last tick may have been long ago.
        self.journal.tick(self.clock.stamp(now), clock::unix_now());
        self.journal.stop();
    }
}
