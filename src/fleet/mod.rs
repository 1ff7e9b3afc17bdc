//! MEMORY: what the server remembers of each device, so that no image is ever stitched from two files
//! and no module downloads the same thing for ever.
//!
//! [`Fleet`] is the face: the device room asks it before and tells it after each check and each download;
//! the operator's room reads it. Behind it: [`pins`] (which content a download began with), the devices
//! and their [`journey`], the loop guard and the release fuse, all kept over a restart by the
//! [`journal`]. Beside it, what is only counted: [`tally`], [`events`].
//!
//! An address is not an identity: carriers, proxies and Docker put five hundred modules behind one. A
//! [`network`] only tells apart two devices that claim the same id, and shares out limits.

pub mod clock;
pub mod entry;
pub mod events;
pub mod journal;
pub mod journey;
pub mod known_list;
pub mod lift;
pub mod network;
pub mod pins;
pub mod tally;
pub mod view;
pub mod who;

use std::path::Path;
use std::time::Instant;

use self::clock::{Clock, Stamp};
use self::entry::Entry;
use self::events::Events;
use self::journal::{Journal, Written};
use self::known_list::KnownList;
use self::lift::Lifts;
use self::pins::{Began, Hold, Pins};
use self::tally::Tally;
use self::view::{Counts, DeviceView, Filter, Page};
use self::who::Who;
use crate::decision::{Check, Fused, Known, Verdict};
use crate::firmware::ContentId;
use crate::firmware::audience::DeviceId;
use crate::firmware::catalog::Catalog;

/// What the flags say of the fleet.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Devices that are remembered at most.
    pub max_devices: usize,
    /// Attempts at one content that are free.
    pub attempts: u32,
    /// Only devices that are known already are served.
    pub known_only: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            max_devices: 200_000,
            attempts: 3,
            known_only: false,
        }
    }
}

/// All that is remembered. Pure but for the journal's handle: the time comes with each call.
#[derive(Debug)]
pub struct Fleet {
    settings: Settings,
    clock: Clock,
    pins: Pins,
    journal: Journal,
    known_list: KnownList,
    lifts: Lifts,
    /// Counts and rates.
    pub tally: Tally,
    /// Who looks on.
    pub events: Events,
}

/// Bytes of a content that are on their way to a device; to be given back with [`Fleet::end`].
#[derive(Debug)]
pub struct Transfer {
    who: Who,
    content: ContentId,
    size: u64,
    start: u64,
    /// The bytes before this one were sent.
    high: u64,
    hold: Option<Hold>,
}

/// Where the number of the table begins in a place among the records.
const TABLE: u32 = 56;

/// Records that the journal is given at a time: about two milliseconds' worth.
const RECORDS: usize = 2000;

/// What a transfer is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// The file.
    pub content: ContentId,
    /// Its size in bytes.
    pub size: u64,
    /// The first byte of the part.
    pub start: u64,
    /// Keep the device with this content (HTTP). UDP ids do that by themselves.
    pub pinned: bool,
}

/// A module's own word on an update that it got (libfota3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// It runs the new version.
    Updated,
    /// It does not.
    Failed,
}

impl Fleet {
    /// Nothing remembered yet, and no journal.
    pub fn new(settings: Settings, began: Instant) -> Fleet {
        Fleet {
            clock: Clock::new(began),
            pins: Pins::new(pins::CAPACITY),
            journal: Journal::none(),
            known_list: KnownList::default(),
            lifts: Lifts::default(),
            tally: Tally::default(),
            events: Events::default(),
            settings,
        }
    }

    /// What is remembered in this state folder, and from now on kept there. `unix`: what the machine's
    /// clock says.
    pub fn open(settings: Settings, folder: Option<&Path>, began: Instant, unix: i64) -> Fleet {
        let mut fleet = Fleet::new(settings, began);
        if let Some(folder) = folder {
            let now = fleet.clock.stamp(began);
            let loaded = journal::open(folder, now, unix, &mut |entry| fleet.load(entry, began));
            fleet.journal = journal::go_on(folder, now, unix, loaded, fleet.live());
            fleet.known_list = KnownList::open(folder);
            fleet.lifts = Lifts::open(folder);
        }
        fleet
    }

    /// Takes over one entry of the journal; the last one of a key wins.
    fn load(&mut self, entry: Entry, now: Instant) {
        match entry {
            Entry::Pin(pin) => self.pins.load(&pin, &self.clock, now),
            Entry::Unpinned(who, network, content) => self.pins.unload(who, network, content),
            Entry::Device(_)
            | Entry::Forgotten(_)
            | Entry::Guard(_)
            | Entry::Unguarded(..)
            | Entry::Release(_) => {}
        }
    }

    /// How many records the journal must have.
    fn live(&self) -> usize {
        self.pins.len()
    }

    /// Some records, for a compaction of the journal, and where the next ones begin. The first byte of
    /// `from` says which table, the rest is the table's.
    fn records(&self, from: u64, most: usize) -> (Vec<Entry>, Option<u64>) {
        let table = from >> TABLE;
        let at = from & !(u64::MAX << TABLE);
        let (entries, next) = match table {
            0 => self.pins.records(at, most, &self.clock),
            _ => return (Vec::new(), None),
        };
        let next = match next {
            Some(next) => Some(table << TABLE | next),
            None => Some(table.saturating_add(1) << TABLE),
        };
        (entries, next)
    }

    /// Writes what the journal has not been given yet, and waits for it, 2 s at most.
    pub fn stop(&mut self) {
        self.journal.stop();
    }

    /// A moment in the fleet's time, in which the [`tally`] counts as well.
    pub fn stamp(&self, now: Instant) -> Stamp {
        self.clock.stamp(now)
    }

    /// What the decision on a check needs to know of the device. To be asked before [`crate::decision::decide`].
    pub fn known(&self, _check: &Check<'_>, _who: Option<&Who>, _now: Instant) -> Known<'_> {
        let _only_for_now = self.settings.known_only;
        Known::default()
    }

    /// A check was decided: the device was seen, and perhaps offered something, or came back from
    /// something. Whoever has no id is not remembered, nor is anybody of an unknown project.
    pub fn checked(
        &mut self,
        _check: &Check<'_>,
        _who: Option<&Who>,
        _verdict: &Verdict<'_>,
        _now: Instant,
    ) {
    }

    /// With which content did this device's download begin, if it has its first `from` bytes?
    pub fn began(&self, who: &Who, from: u64, now: Instant) -> Began {
        self.pins.began(who.downloader, from, now)
    }

    /// Bytes are about to be sent. None may leave before what is returned has come true (or a short
    /// while has passed).
    pub fn begin(&mut self, who: &Who, part: Part, now: Instant) -> (Transfer, Written) {
        let mut written = Written::already();
        let hold = part.pinned.then(|| {
            let pins = &mut self.pins;
            match part.start {
                0 => pins.start(who.downloader, who.network, part.content, now),
                from => pins.resume(who.downloader, who.network, part.content, from, now),
            }
        });
        if let Some(hold) = &hold
            && let Some(pin) = self.pins.to_write(hold, &self.clock)
        {
            match self.journal.now(&Entry::Pin(pin)) {
                Some(promise) => written = promise,
                None => self.pins.not_written(hold),
            }
        }
        self.tell_of_pins();
        let transfer = Transfer {
            who: *who,
            content: part.content,
            size: part.size,
            start: part.start,
            high: part.start,
            hold,
        };
        (transfer, written)
    }

    /// What changed among the pins goes into the journal.
    fn tell_of_pins(&mut self) {
        for entry in self.pins.news(&self.clock) {
            self.journal.later(&entry);
        }
    }

    /// The file's bytes before `high` were sent.
    pub fn sent(&mut self, transfer: &mut Transfer, high: u64, now: Instant) {
        transfer.high = transfer.high.max(high);
        if let Some(hold) = &transfer.hold {
            self.pins.advance(hold, high, now);
        }
    }

    /// The file's bytes before `high` were acknowledged by the device.
    pub fn acknowledged(&mut self, _transfer: &mut Transfer, _high: u64, _now: Instant) {}

    /// The transfer is over. `whole`: it went to the end of the file, every byte of it was acknowledged,
    /// and the device's side was closed in good order (or, by packets, all were asked for in order).
    pub fn end(&mut self, mut transfer: Transfer, whole: bool, now: Instant) {
        if let Some(hold) = transfer.hold.take() {
            self.pins.end(hold, whole, now);
            self.tell_of_pins();
        }
        let _only_for_now = (
            transfer.who,
            transfer.content,
            transfer.size,
            transfer.start,
        );
    }

    /// The device was sent elsewhere for this content.
    pub fn redirected(&mut self, _who: &Who, _content: ContentId, _now: Instant) {}

    /// The device reports what became of an update.
    pub fn reported(
        &mut self,
        _device: DeviceId,
        _content: ContentId,
        _report: Report,
        _now: Instant,
    ) {
    }

    /// The folder is another now.
    pub fn catalog(&mut self, _catalog: &Catalog, _now: Instant) {}

    /// To be called about once a second: who has gone silent, what the journal must do, what a person
    /// has put into the state folder. Returns releases that must be paused.
    pub fn tick(&mut self, now: Instant) -> Vec<Fused> {
        self.journal.tick(self.clock.stamp(now), clock::unix_now());
        if let Some(from) = self.journal.wants_records() {
            let (entries, next) = self.records(from, RECORDS);
            self.journal.give(&entries, next);
        }
        self.known_list.tick(now);
        for (device, id) in self.lifts.tick(now) {
            let holds = self.lift(device, now);
            log::info!(target: "lift", device = &*id, holds = holds; "");
        }
        Vec::new()
    }

    /// Whether the folder could take the pause: else it is kept here, and the decision told.
    pub fn pause_written(&mut self, _tripped: &Fused, _in_the_folder: bool) {}

    /// Devices under way to a release.
    pub fn counts(&self, _project: &str, _version: &str) -> Counts {
        Counts::default()
    }

    /// How many downloads are remembered with what they began with.
    pub fn pinned(&self) -> usize {
        self.pins.len()
    }

    /// How many devices are remembered.
    pub fn devices(&self) -> usize {
        0
    }

    /// One device.
    pub fn device(&self, _device: DeviceId, _now: Instant, _unix: i64) -> Option<DeviceView> {
        None
    }

    /// Some devices. Looks through a bounded number of records.
    pub fn page(
        &self,
        _filter: &Filter,
        _after: Option<u32>,
        _most: usize,
        _now: Instant,
        _unix: i64,
    ) -> Page {
        let _only_for_now = &self.clock;
        Page::default()
    }

    /// Takes back all that the loop guard holds against a device; how many holds that were.
    pub fn lift(&mut self, _device: DeviceId, _now: Instant) -> usize {
        let _only_for_now = &self.journal;
        0
    }
}
