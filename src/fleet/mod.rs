//! What the server remembers of devices, so that no image is ever spliced from two files and no device downloads the
//! same file for ever.
//!
//! [`Fleet`] has three faces:
//!
//! * what is known (`lookup`): asked before each decision and each download, and for people;
//! * what happened (`record`): checks, transfers, reports, new catalogues, the words of people;
//! * what is due (`tick`): the work that follows from time alone.
//!
//! Behind it: [`pins`] (the content that each download began with), [`devices`] with their [`progress`], [`releases`]
//! with their counts and fuse, the [`loop_guard`], and the [`history`] of counts, all kept over a restart by the
//! [`journal`]. [`tally`] and [`events`] are only counted and shown.
//!
//! An address is not an identity: carriers, proxies and Docker put five hundred devices behind one. A [`network`] only
//! tells apart two devices that claim the same id, and shares out limits.

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

/// The flags of the fleet.
#[derive(Clone, Debug)]
pub struct FleetSettings {
    /// Capacity of the table of devices.
    pub max_devices: usize,
    /// Attempts at one content that are free.
    pub attempts: u32,
    /// Serve only devices that are known already.
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

/// All that is remembered. Pure but for the journal's handle: the time comes with each call.
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
    /// The count of devices by version for the next sample, while it is made.
    walk: Option<VersionWalk>,
    /// Versions that devices run above every release that is left; `None`: not determined yet.
    above: Option<Vec<Above>>,
    /// The walk that determines it anew, while it is made.
    above_walk: Option<AboveWalk>,
    /// Time of the last tick.
    ticked: Option<Instant>,
    /// Time of the next portion of records for a compaction; `None`: not before the next tick.
    next_records: Option<Instant>,
    /// Time of the first change since then.
    dirty_since: Option<Instant>,
    /// Notified when [`Fleet::due`] may be sooner than it was.
    due_changed: Notify,
    /// The releases and files in the folder are known: what appears now is new. Until then, the folder is being read
    /// for the first time.
    is_acquainted: bool,
    /// The last changes.
    changes: Changes,
    /// Counts and rates.
    pub tally: Tally,
    /// Readers of the live view.
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
            above: None,
            above_walk: None,
            ticked: None,
            next_records: None,
            dirty_since: None,
            due_changed: Notify::default(),
            is_acquainted: false,
            clock,
            changes: Changes::default(),
            tally: Tally::default(),
            events: Events::default(),
            settings,
        }
    }

    /// A moment in the fleet's time, which the [`tally`] uses as well.
    pub fn stamp(&self, now: Instant) -> Stamp {
        self.clock.stamp(now)
    }

    fn releases(&self) -> &Releases {
        self.devices.releases()
    }

    fn releases_mut(&mut self) -> &mut Releases {
        self.devices.releases_mut()
    }

    /// Priority of a line about a device that is written at once: invented devices leave room for established ones.
    fn priority(&self, device: DeviceId) -> Priority {
        match self.devices.is_established(device) {
            true => Priority::Major,
            false => Priority::Minor,
        }
    }

    /// Something changed: a tick is due within [`tick::TICK`].
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

    /// Raises a notice: in the log, for the readers of events, and for the program of `--on-event`. Adds the name of its
    /// device.
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

    /// Writes changes of the loop guard into the journal at once: a server that is killed again and again would forget
    /// them again and again otherwise. Nothing waits for it.
    fn journal_loop_guard(&mut self) {
        for entry in self.loop_guard.changes() {
            let priority = match &entry {
                JournalEntry::Guard(guard) => self.priority(guard.device),
                _ => Priority::Major,
            };
            let _nobody_waits = self.journal.write_now(&entry, priority);
        }
    }
}

#[cfg(test)]
mod tests;
