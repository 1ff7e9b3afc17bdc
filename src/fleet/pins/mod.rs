//! Pins: the content that each download began with, so that no image is ever spliced from two files (docs/hazards.md
//! 23, 24).
//!
//! A pin states that, under its key, bytes of its content before `reach` were sent. A client that asks for bytes from N
//! on has N bytes of some content. If all pins of its key that reach N have the same content, and a client that stated
//! the same facts was among those that began it, the client gets the rest of that content. If the pins have different
//! contents, or there is no such pin, the server cannot know which content the client has, and the client must begin
//! again.
//!
//! All contents that were begun under a key count for a day after their last use, complete or not: bytes that a
//! client's kernel acknowledged may be lost to its program, and a request for byte 0 may come from another device with
//! the same id. For the same reason, pins of one key that are younger than a day are only evicted together: the
//! remaining ones could be taken for the evicted one. For the rest of a week, no download is resumed by a pin, but the
//! pin still prevents a resume with another content that clients with the same facts have begun.

use super::FileRange;
use super::bounded::Bounded;
use super::clock::Stamp;
use super::entry::{JournalEntry, PinEntry};
use super::requester::{PinKey, PinOwner};
use crate::firmware::ContentId;

/// Capacity of the table.
pub const CAPACITY: usize = 16_384;

/// Maximum number of pins of one key. Beyond that, no resume is served under the key.
const MAX_CONTENTS: usize = 8;

/// Time after the last use of a pin during which downloads can be resumed with it, in seconds.
pub const LIFETIME: u32 = 24 * 60 * 60;

/// Time after the last use of a pin until it is dropped, in seconds. After [`LIFETIME`] the pin only prevents a resume
/// with another content that a client with the same facts has begun since, and is evicted first.
const KEPT: u32 = 7 * LIFETIME;

/// Class of pins older than [`LIFETIME`] in the eviction order: before all others.
const OLD: u8 = 0;

/// Maximum lag of the time of the last use in the journal, in seconds.
const MAX_LAG: u32 = 60 * 60;

/// Content of a download that a client wants to resume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Began {
    /// The download began with this content.
    With(ContentId),
    /// Several contents under this key reach the requested byte.
    Unclear,
    /// No pin of a client with the same facts reaches the requested byte: never begun here, older than a day, evicted
    /// or lost.
    Unknown,
}

/// Worth of a pin when the table is full; the lowest is evicted first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PinWorth {
    /// Request without an id.
    Anonymous,
    /// Device id that may be invented.
    Stranger,
    /// Established device.
    Established,
}

impl PinWorth {
    /// Returns the worth with this number in the journal.
    pub fn of_number(number: u8) -> PinWorth {
        match number {
            0 => PinWorth::Anonymous,
            1 => PinWorth::Stranger,
            _ => PinWorth::Established,
        }
    }

    /// Class in the eviction order. Running downloads are evicted after idle ones of the same worth.
    fn class(self, running: bool) -> u8 {
        OLD + 1 + 2 * self as u8 + u8::from(running)
    }

    /// Classes of pins without a running download.
    fn idle() -> [u8; 3] {
        [
            PinWorth::Anonymous,
            PinWorth::Stranger,
            PinWorth::Established,
        ]
        .map(|worth| worth.class(false))
    }
}

/// A running download with a pin; returned by [`Pins::begin`], consumed by [`Pins::end`].
#[derive(Debug)]
pub struct PinnedDownload {
    key: PinKey,
    serial: u64,
    /// End of the bytes that the download may send.
    end: u64,
}

/// The table of pins. Pure: callers pass the time.
#[derive(Debug)]
pub struct Pins {
    table: Bounded<PinKey, Pin>,
    /// Changes that the journal does not have yet.
    changes: Vec<PinChange>,
}

/// A change for the journal.
#[derive(Debug)]
enum PinChange {
    /// All pins of the key were dropped.
    Dropped(PinKey),
    /// The pin with this serial has changed.
    Changed(PinKey, u64),
}

/// A content that was begun under a key.
#[derive(Debug)]
struct Pin {
    content: ContentId,
    /// Hash of the id and the facts that the device stated ([`PinOwner::statement`]); 0 without an id.
    statement: u64,
    /// Clients have at most the bytes before this one.
    reach: u64,
    size: u64,
    worth: PinWorth,
    /// Number of running downloads.
    running: u32,
    /// Whether the class of the pin is [`OLD`].
    is_old: bool,
    /// State of the pin in the journal; `None` if the journal does not have it.
    written: Option<Written>,
}

/// State of a pin in the journal.
#[derive(Clone, Copy, Debug)]
struct Written {
    used: Stamp,
    /// Reach in the journal. Always at least the pin's `reach`, since more bytes are sent without another line.
    reach: u64,
}

impl Pin {
    /// Returns the entry for the journal. While a download is running, the entry covers all bytes that may be sent
    /// without another line.
    fn entry(&self, key: PinKey, used: Stamp) -> PinEntry {
        let reach = match (self.running, self.written) {
            (0, Some(written)) => written.reach.max(self.reach),
            (0, None) => self.reach,
            _ => self.size.max(self.reach),
        };
        PinEntry {
            owner: key,
            statement: self.statement,
            content: self.content,
            used,
            reach,
            worth: self.worth as u8,
        }
    }

    fn class(&self) -> u8 {
        match self.is_old {
            true => OLD,
            false => self.worth.class(self.running > 0),
        }
    }

    fn is_younger(&self, than: u32, used: Stamp, now: Stamp) -> bool {
        self.running > 0 || now.since(used) < than
    }
}

impl Pins {
    /// Creates an empty table of this capacity (at least one).
    pub fn new(capacity: usize) -> Pins {
        Pins {
            table: Bounded::new(capacity, MAX_CONTENTS),
            changes: Vec::new(),
        }
    }

    /// Number of pins.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there are no pins.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Returns the content of a download of which the client has the first `from` bytes.
    pub fn began(&self, owner: &PinOwner, from: u64, now: Stamp) -> Began {
        let statement = owner.statement();
        let reaching = || {
            let kept = self.kept(owner, KEPT, now);
            let young = |(pin, is_young): &(&Pin, bool)| *is_young || pin.statement == statement;
            kept.filter(young).filter(|(pin, _)| pin.reach >= from)
        };
        let Some(content) = reaching().map(|(pin, _)| pin.content).next() else {
            return Began::Unknown;
        };
        let is_own = |(pin, is_young): (&Pin, bool)| is_young && pin.statement == statement;
        match reaching().all(|(pin, _)| pin.content == content) {
            false => Began::Unclear,
            // Otherwise it may be another device with this id, whose download is unknown.
            true if reaching().any(is_own) => Began::With(content),
            true => Began::Unknown,
        }
    }

    /// Whether this content was begun within [`LIFETIME`].
    pub fn has(&self, owner: &PinOwner, content: ContentId, now: Stamp) -> bool {
        let mut young = self.kept(owner, LIFETIME, now);
        young.any(|(pin, _)| pin.content == content)
    }

    /// Pins younger than `than` seconds, each with whether downloads can be resumed with it.
    fn kept(&self, owner: &PinOwner, than: u32, now: Stamp) -> impl Iterator<Item = (&Pin, bool)> {
        let all = owner.keys().flat_map(|key| self.table.of(key));
        all.filter_map(move |slot| {
            let (pin, used) = (&slot.record, slot.place().used);
            pin.is_younger(than, used, now)
                .then(|| (pin, pin.is_younger(LIFETIME, used, now)))
        })
    }

    /// Records the beginning of a download. Must be called before the first byte is sent. Returns `None` if there is no
    /// room for a pin; the download can then not be resumed.
    pub fn begin(
        &mut self,
        owner: &PinOwner,
        worth: PinWorth,
        range: FileRange,
        now: Stamp,
    ) -> Option<PinnedDownload> {
        self.expire(now);
        let key = owner.key();
        let known = self.table.of(key).iter();
        let begun = (range.content, owner.statement());
        let known = known
            .filter(|slot| (slot.record.content, slot.record.statement) == begun)
            .map(|slot| slot.serial())
            .next();
        let serial = match known {
            Some(serial) => serial,
            None => self.insert(
                key,
                worth.class(true),
                now,
                Pin {
                    content: range.content,
                    statement: begun.1,
                    reach: range.start,
                    size: range.size,
                    worth,
                    running: 0,
                    is_old: false,
                    written: None,
                },
            )?,
        };
        let pin = self.table.get_mut(key, serial)?;
        // The highest byte counts, even if a download begins again: there may be two clients.
        pin.reach = pin.reach.max(range.start);
        pin.size = range.size;
        pin.worth = pin.worth.max(worth);
        pin.running += 1;
        pin.is_old = false;
        let class = pin.class();
        self.table.touch(key, serial, class, now);
        Some(PinnedDownload {
            key,
            serial,
            end: range.end,
        })
    }

    /// Records that the bytes before `high` were sent.
    pub fn sent(&mut self, download: &PinnedDownload, high: u64) {
        if let Some(pin) = self.table.get_mut(download.key, download.serial) {
            pin.reach = pin.reach.max(high);
        }
    }

    /// Records the end of a download, complete or not.
    pub fn end(&mut self, download: PinnedDownload, now: Stamp) {
        let (key, serial) = (download.key, download.serial);
        let Some(pin) = self.table.get_mut(key, serial) else {
            return;
        };
        debug_assert!(pin.running > 0, "a download ended twice");
        pin.running -= 1;
        if let Some(written) = &mut pin.written {
            let was_cut = pin.running == 0 && pin.reach < download.end;
            if was_cut {
                // Otherwise a resume of another content after a restart would be refused for bytes that were never
                // sent.
                written.reach = pin.reach;
            }
            if was_cut || now.since(written.used) >= MAX_LAG {
                self.changes.push(PinChange::Changed(key, serial));
            }
        }
        let class = pin.class();
        self.table.touch(key, serial, class, now);
    }

    /// Returns the line that the journal must have before bytes are sent; `None` if it has one that covers them. The
    /// ranges of one download share a line.
    pub fn to_write(&mut self, download: &PinnedDownload) -> Option<PinEntry> {
        let mut slots = self.table.of_mut(download.key);
        let slot = slots.find(|slot| slot.serial() == download.serial)?;
        let used = slot.place().used;
        let covers =
            |written: Written| written.reach >= download.end && used.since(written.used) < MAX_LAG;
        let pin = &mut slot.record;
        if pin.written.is_some_and(covers) {
            return None;
        }
        let entry = pin.entry(download.key, used);
        pin.written = Some(Written {
            used,
            reach: entry.reach,
        });
        Some(entry)
    }

    /// Records that the journal did not accept the line.
    pub fn mark_unwritten(&mut self, download: &PinnedDownload) {
        if let Some(pin) = self.table.get_mut(download.key, download.serial) {
            pin.written = None;
        }
    }

    /// Entries for the journal about pins that were changed or dropped since the last call.
    pub fn changes(&mut self) -> Vec<JournalEntry> {
        let changes = std::mem::take(&mut self.changes);
        let entry = |change| match change {
            PinChange::Dropped(key) => Some(JournalEntry::Unpinned(key)),
            PinChange::Changed(key, serial) => {
                let mut slots = self.table.of_mut(key);
                let slot = slots.find(|slot| slot.serial() == serial)?;
                let entry = slot.record.entry(key, slot.place().used);
                slot.record.written = Some(Written {
                    used: entry.used,
                    reach: entry.reach,
                });
                Some(JournalEntry::Pin(entry))
            }
        };
        changes.into_iter().filter_map(entry).collect()
    }

    /// Takes over a pin from the journal; the last entry with the same key, content and facts counts.
    pub fn load(&mut self, entry: &PinEntry, now: Stamp) {
        let key = entry.owner;
        self.table.retain(key, |slot| {
            (slot.record.content, slot.record.statement) != (entry.content, entry.statement)
        });
        if now.since(entry.used) < KEPT {
            let written = Written {
                used: entry.used,
                reach: entry.reach,
            };
            let pin = Pin {
                content: entry.content,
                statement: entry.statement,
                reach: entry.reach,
                size: entry.reach,
                worth: PinWorth::of_number(entry.worth),
                running: 0,
                is_old: now.since(entry.used) >= LIFETIME,
                written: Some(written),
            };
            self.insert(key, pin.class(), entry.used, pin);
        }
        // The journal has the pin already.
        self.changes.clear();
    }

    /// Drops all pins of a key, as an entry of the journal states.
    pub fn unload(&mut self, key: PinKey) {
        self.table.retain(key, |_| false);
    }

    /// Returns at most `most` pins for the journal, from the serial `from` on, and the serial of the next one.
    pub fn records(&self, from: u64, most: usize) -> (Vec<JournalEntry>, Option<u64>) {
        let (page, next) = self.table.page(from, most, |_| true);
        let entries = page
            .into_iter()
            .map(|(key, slot)| JournalEntry::Pin(slot.record.entry(key, slot.place().used)));
        (entries.collect(), next)
    }

    /// Inserts a pin. Returns its serial, or `None` if there is no room for it.
    fn insert(&mut self, key: PinKey, class: u8, used: Stamp, pin: Pin) -> Option<u64> {
        let is_full = self.table.is_full(key);
        let inserted = self.table.insert(key, class, used, pin);
        if is_full && inserted.evicted.iter().all(|(_, pin)| pin.is_old) {
            return inserted.serial;
        }
        if is_full {
            // There are more contents than can be distinguished. The other pins now reach any byte, so that no resume
            // is served.
            for slot in self.table.of_mut(key) {
                if Some(slot.serial()) != inserted.serial {
                    slot.record.reach = u64::MAX;
                    self.changes.push(PinChange::Changed(key, slot.serial()));
                }
            }
            return inserted.serial;
        }
        for (evicted, pin) in inserted.evicted.into_iter().filter(|(_, pin)| !pin.is_old) {
            self.forget(evicted, pin.written.is_some());
        }
        if inserted.serial.is_none() && class != OLD {
            self.forget(key, false);
        }
        // The pin may have been dropped together with its own key.
        let serial = inserted.serial?;
        self.table.get_mut(key, serial).map(|_| serial)
    }

    /// Drops all pins of a key, because the remaining ones could be taken for the one that has no room. `written`:
    /// whether the journal has that one.
    fn forget(&mut self, key: PinKey, written: bool) {
        let removed = self.table.retain(key, |_| false);
        if written || removed.iter().any(|pin| pin.written.is_some()) {
            self.changes.push(PinChange::Dropped(key));
        }
    }

    /// Drops pins older than [`KEPT`], and moves those older than [`LIFETIME`] to the front of the eviction order.
    fn expire(&mut self, now: Stamp) {
        for class in PinWorth::idle() {
            while let Some((key, serial, used)) = self.table.longest_unused(class)
                && now.since(used) >= LIFETIME
            {
                if let Some(pin) = self.table.get_mut(key, serial) {
                    pin.is_old = true;
                }
                self.table.touch(key, serial, OLD, used);
            }
        }
        while let Some((key, serial, used)) = self.table.longest_unused(OLD)
            && now.since(used) >= KEPT
        {
            self.table.remove(key, serial);
        }
    }
}

#[cfg(test)]
mod tests;
