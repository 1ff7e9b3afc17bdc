//! State that the server keeps about devices, so that no image is ever spliced from two files and no device downloads
//! the same file endlessly.
//!
//! [`Fleet`] has three parts:
//!
//! * `lookup` answers queries: before each decision and each download, and for the operator;
//! * `record` records events: checks, transfers, reports, new catalogues, commands of the operator;
//! * `tick` does the work that becomes due with time.
//!
//! All three use [`pins`] (the content that each download began with), [`devices`] with their [`progress`], [`releases`]
//! with their counts and fuse, the [`loop_guard`], and the [`history`] of counts, all of which the [`journal`] keeps
//! over a restart. [`tally`] and [`events`] are only counted and shown.
//!
//! An address does not identify a device: carriers, proxies and Docker put five hundred devices behind one address. A
//! [`network`] only distinguishes devices that claim the same id, and is the unit of limits.

pub mod bounded;
pub mod changes;
pub mod clear_hold;
pub mod clock;
pub mod devices;
pub mod entry;
pub mod events;
pub mod history;
pub mod journal;
pub mod known_list;
mod lookup;
pub mod loop_guard;
pub mod network;
pub mod notices;
pub mod pins;
pub mod profiles;
pub mod progress;
mod record;
pub mod releases;
pub mod report;
pub mod requester;
mod restore;
pub mod resume;
mod sampling;
mod sessions;
pub mod shared;
mod sharing;
pub mod short_version;
pub mod tally;
mod tick;
pub mod transfer;
pub mod view;

use std::sync::Arc;
use std::time::Instant;

use self::changes::Changes;
use self::clear_hold::HoldRequests;
use self::clock::{Clock, Stamp};
use self::devices::{Above, AboveWalk, Devices, VersionWalk};
use self::entry::{JournalEntry, Priority};
use self::events::Events;
use self::history::History;
use self::journal::Journal;
use self::known_list::KnownList;
use self::loop_guard::LoopGuard;
use self::notices::Notice;
use self::pins::Pins;
pub use self::record::Transfer;
use self::releases::Releases;
use self::sessions::Sessions;
use self::tally::Tally;
pub use self::transfer::{FileRange, TransferOutcome};
use crate::firmware::audience::DeviceId;
use crate::firmware::catalog::Groups;
use crate::os::notify::Notify;

/// Settings of the fleet, from the command line.
#[derive(Clone, Debug)]
pub struct FleetSettings {
    /// Capacity of the table of devices.
    pub max_devices: usize,
    /// Number of free attempts at one content. The loop guard holds the content after them.
    pub attempts: u32,
    /// Whether only known devices are served.
    pub known_only: bool,
}

impl Default for FleetSettings {
    fn default() -> FleetSettings {
        FleetSettings {
            max_devices: 200_000,
            attempts: 3,
            known_only: false,
        }
    }
}

/// All state about devices and releases. Callers pass the current time. All input and output goes through the journal,
/// the files of the state folder, the log and the event queues.
#[derive(Debug)]
pub struct Fleet {
    settings: FleetSettings,
    clock: Clock,
    pins: Pins,
    devices: Devices,
    loop_guard: LoopGuard,
    sessions: Sessions,
    journal: Journal,
    known_list: KnownList,
    /// Groups of the firmware folder, for the names of devices.
    groups: Arc<Groups>,
    hold_requests: HoldRequests,
    history: History,
    /// Running count of devices by version, for the next sample.
    walk: Option<VersionWalk>,
    /// Versions of devices that are higher than every remaining release; `None` until determined.
    versions_above: Option<Vec<Above>>,
    /// Running walk that determines `versions_above` anew.
    above_walk: Option<AboveWalk>,
    /// Time of the last tick.
    ticked: Option<Instant>,
    /// Time of the next portion of records for a compaction; `None` if there is none before the next tick.
    next_records: Option<Instant>,
    /// Time of the first change since the last tick.
    dirty_since: Option<Instant>,
    /// Notified when [`Fleet::due`] may be earlier than before.
    due_changed: Notify,
    /// Whether the releases and files in the firmware folder are known, so that any other is new; false while the
    /// folder is read for the first time.
    is_folder_known: bool,
    /// The most recent changes by people, commands and the fuse.
    changes: Changes,
    /// Counters and rates.
    pub tally: Tally,
    /// Readers of live events.
    pub events: Events,
}

impl Fleet {
    /// Creates an empty fleet without a journal.
    pub fn new(settings: FleetSettings, began: Instant) -> Fleet {
        let clock = Clock::new(began);
        Fleet {
            devices: Devices::new(settings.max_devices, clock.stamp(began)),
            loop_guard: LoopGuard::new(settings.attempts, loop_guard::CAPACITY),
            sessions: Sessions::default(),
            pins: Pins::new(pins::CAPACITY),
            journal: Journal::none(),
            known_list: KnownList::default(),
            groups: Arc::default(),
            hold_requests: HoldRequests::default(),
            history: History::default(),
            walk: None,
            versions_above: None,
            above_walk: None,
            ticked: None,
            next_records: None,
            dirty_since: None,
            due_changed: Notify::default(),
            is_folder_known: false,
            clock,
            changes: Changes::default(),
            tally: Tally::default(),
            events: Events::default(),
            settings,
        }
    }

    /// Converts a moment to the fleet's time, which the [`tally`] uses as well.
    pub fn stamp(&self, now: Instant) -> Stamp {
        self.clock.stamp(now)
    }

    fn releases(&self) -> &Releases {
        self.devices.releases()
    }

    fn releases_mut(&mut self) -> &mut Releases {
        self.devices.releases_mut()
    }

    /// Priority of a journal line about a device that is written at once. Lines about established devices come before
    /// those about other devices, which may be invented.
    fn priority(&self, device: DeviceId) -> Priority {
        match self.devices.is_established(device) {
            true => Priority::Major,
            false => Priority::Minor,
        }
    }

    /// Records that something has changed, so that a tick is due within [`tick::TICK`].
    fn mark_dirty(&mut self, now: Instant) {
        if self.dirty_since.is_none() {
            self.dirty_since = Some(now);
            self.journal.advance(self.clock.stamp(now));
            self.due_changed.notify();
        }
    }

    /// Writes changes of devices into the journal, and raises the notices about them.
    fn journal_devices(&mut self) {
        for (entry, priority) in self.devices.take() {
            self.journal.write_later(&entry, priority);
        }
        for notice in self.devices.notices() {
            self.notify(notice);
        }
    }

    /// Raises a notice in the log, for the readers of events and for the program of `--on-event`. Adds the name of the
    /// notice's device.
    pub fn notify(&mut self, mut notice: Notice) {
        let device = DeviceId::parse(&notice.device);
        let name = device.and_then(|device| self.groups.device_name(device));
        notice.name = name.unwrap_or_default().into();
        self.tally.notice(notice.kind);
        self.events.notify(notice, clock::unix_now());
    }

    /// Writes changes of pins into the journal.
    fn journal_pins(&mut self) {
        for entry in self.pins.changes() {
            self.journal.write_later(&entry, entry.priority());
        }
    }

    /// Writes changes of the loop guard into the journal at once. Otherwise a server that is killed repeatedly would
    /// lose them each time. Does not wait for the write.
    fn journal_loop_guard(&mut self) {
        for entry in self.loop_guard.changes() {
            let priority = match &entry {
                JournalEntry::Guard(guard) => self.priority(guard.device),
                _ => Priority::Major,
            };
            let _written = self.journal.write_now(&entry, priority);
        }
    }
}

#[cfg(test)]
mod tests;
