//! What outlives the process: everything the fleet remembers, out of the journal at the start, and into
//! it again when it is compacted.

use std::io;
use std::path::Path;
use std::time::Instant;

use super::clear_hold::HoldRequests;
use super::clock::Wall;
use super::entry::JournalEntry;
use super::known_list::KnownList;
use super::{Fleet, FleetSettings, clock, journal};
use crate::state::StateFolder;

/// Where the number of the table begins in a place among the records.
const TABLE: u32 = 56;

/// Bytes of a usual line of a device at least.
const SHORTEST_LINE: u64 = 160;

impl Fleet {
    /// What is remembered in this state folder, and from now on kept there. `unix`: what the machine's
    /// clock says.
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
            fleet.is_acquainted = !fleet.releases().is_empty();
            let wall = Wall { stamp: now, unix };
            fleet.journal = journal::continue_journal(folder, wall, &loaded, fleet.live());
            fleet.journal.set_notify(fleet.due_changed.clone());
            fleet.hold_requests = HoldRequests::open(folder.path());
            // Only the operator's page and API show it.
            if cfg!(feature = "operator") {
                fleet.history.start();
            }
        }
        fleet
    }

    /// What is remembered in this state folder, to be looked at: nothing is written, so that it does no harm
    /// beside a running server. The error is the journal's.
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

    /// Reserves capacity for the devices of a journal, by its length.
    fn reserve_for(&mut self, journal: &Path) {
        let bytes = std::fs::metadata(journal).map_or(0, |about| about.len());
        let devices = bytes / SHORTEST_LINE;
        self.devices.reserve(usize::try_from(devices).unwrap_or(0));
    }

    /// A fleet that has read these entries, and adds its own to them. `began`: as in the run that wrote them.
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

    /// Lets so many devices of project P check with a version, which are refused.
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
            self.checked(&check, who.as_ref(), &refused, false, now);
        }
    }

    /// Takes over one entry of the journal; the last one of a key wins.
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

    /// How many records the journal must have.
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

    /// Some records, for a compaction of the journal, and where the next ones begin. The first byte of
    /// `from` says which table, the rest is the table's.
    pub(super) fn records(&self, from: u64, most: usize) -> (Vec<JournalEntry>, Option<u64>) {
        let table = from >> TABLE;
        let at = from & !(u64::MAX << TABLE);
        let (entries, next) = match table {
            0 => self.releases().records(at, most),
            1 => self.pins.records(at, most),
            2 => self.devices.records(at, most),
            3 => self.loop_guard.records(at, most),
            4 => (self.changes.records(), None),
            // Days last: what the lines of hours make of a day is not complete if a sample is taken in between.
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

    /// Writes what the journal has not been given yet, and waits for it, 2 s at most.
    pub fn stop(&mut self, now: Instant) {
        // It may have slept for long.
        self.journal.tick(self.clock.stamp(now), clock::unix_now());
        self.journal.stop();
    }
}
