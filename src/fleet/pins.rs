//! Which content a download began with, so that it never changes its file (docs/hazards.md 17). Used by the
//! HTTP side of the device room.
//!
//! A pin says: "a device that calls itself this and says that it runs this, asking from this network, was
//! given the first so many bytes of this content". A device that asks for bytes from N on has N bytes of
//! something; the pins of its id that reach N say of what. If they name one content, it is that one; if
//! they name several, the id is cloned or forged, nobody can know, and the answer is 416.
//!
//! What would surprise you: one device in one network can have two pins. If byte 0 of another content is
//! asked for while a download runs, the running one keeps its pin, but the newcomer may be the same
//! device behind a connection that we do not know to be dead yet. So both are remembered; otherwise the
//! newcomer, when it resumes, would be given the rest of the wrong file. And a pin that is replaced goes
//! on speaking for some minutes: it may have been another device's, under the same id. One that is complete
//! goes when its device begins something else, not before: a module whose side acknowledged every byte
//! and closed need not have read them all, and may go on.

use std::time::{Duration, Instant};

use super::clock::{Clock, Stamp};
use super::entry::{Entry, PinEntry};
use super::network::Network;
use super::turns::{Turn, Turns};
use super::who::Downloader;
use crate::firmware::ContentId;
use crate::hash::Table;
use crate::order;

/// Pins kept at most, unless told otherwise.
pub const CAPACITY: usize = 16_384;

/// A pin ends so long after its last use.
pub const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// A pin whose device began something else keeps its say for so long after its last use.
pub const RIVAL: Duration = Duration::from_secs(5 * 60);

/// The journal may know of a use that is older by less than this.
const STALE: Duration = Duration::from_secs(60 * 60);

/// What the pins of an id say about a download that goes on at some byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Began {
    /// It began with this content.
    With(ContentId),
    /// Several contents reach that far under this id: nobody can know which it has.
    Unclear,
    /// Nothing is known of it, nor ever was in the last day.
    Unknown,
    /// Nothing is known of it now; but what is known of some downloads had to make room for others.
    Forgotten,
}

/// A download that holds a pin. To be given back with [`Pins::end`].
#[derive(Debug)]
pub struct Hold {
    id: Downloader,
    serial: u64,
}

/// The table of pins. Pure: the time comes with each call.
#[derive(Debug)]
pub struct Pins {
    by_id: Table<Downloader, Vec<Pin>>,
    /// All pins in the order in which they may be dropped: those without a running download first, of
    /// them those of strangers, of them the longest unused.
    order: Turns,
    capacity: usize,
    next: u64,
    /// When a pin last had to make room that was not over.
    forgot: Option<Instant>,
    /// What the journal does not know yet.
    news: Vec<News>,
}

/// Something that the journal is to know in time.
#[derive(Debug)]
enum News {
    /// A pin that it has is over.
    Over(Downloader, Network, ContentId),
    /// A pin that it has, by its number, is another now.
    Changed(Downloader, u64),
}

/// In the class of a turn: a download runs.
const RUNNING: u8 = 2;

/// In the class of a turn: the device is established.
const ESTABLISHED: u8 = 1;

/// A pin's place in the order. Its number is used once only, and grows, so it needs no moment.
fn turn(class: u8, number: u64) -> Turn {
    Turn {
        class,
        used: Stamp::default(),
        number,
    }
}

#[derive(Debug)]
struct Pin {
    serial: u64,
    network: Network,
    content: ContentId,
    /// The device has at most the bytes before this one.
    high: u64,
    used: Instant,
    /// Downloads that run on this pin now.
    running: u32,
    /// Its last download brought the whole file.
    complete: bool,
    /// When it was last used by what the journal says; `None`: the journal does not have it.
    written: Option<Instant>,
    turn: Turn,
}

impl Pins {
    /// An empty table for so many pins (at least one).
    pub fn new(capacity: usize) -> Pins {
        Pins {
            by_id: Table::default(),
            order: Turns::default(),
            capacity: capacity.max(1),
            next: 0,
            forgot: None,
            news: Vec::new(),
        }
    }

    /// How many pins there are.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// None at all.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// With which content did this device's download begin, if it has its first `from` bytes?
    pub fn began(&self, id: Downloader, from: u64, now: Instant) -> Began {
        let mut contents = self
            .by_id
            .get(&id)
            .into_iter()
            .flatten()
            .filter(|pin| pin.high >= from && !pin.expired(now))
            .map(|pin| pin.content);
        match contents.next() {
            None if self.forgot.is_some_and(|at| !is_over(at, now)) => Began::Forgotten,
            None => Began::Unknown,
            Some(first) if contents.all(|other| other == first) => Began::With(first),
            Some(_) => Began::Unclear,
        }
    }

    /// The device is about to be given byte 0 of this content. To be called before that byte is sent.
    pub fn start(
        &mut self,
        id: Downloader,
        network: Network,
        content: ContentId,
        now: Instant,
    ) -> Hold {
        self.expire(now);
        // A device that begins again has nothing of what it had; but one whose download runs may have.
        let pins = self.by_id.get(&id).into_iter().flatten();
        let stale: Vec<u64> = pins
            .filter(|pin| pin.network == network && pin.content != content && pin.running == 0)
            // Or was that another device under the same id, which is only cut for the moment?
            .filter(|pin| pin.complete || now.saturating_duration_since(pin.used) >= RIVAL)
            .map(|pin| pin.serial)
            .collect();
        for serial in stale {
            self.remove(id, serial);
        }
        self.hold(id, network, content, 0, now)
    }

    /// The device is about to be given this content from byte `from` on, which it has the beginning of.
    pub fn resume(
        &mut self,
        id: Downloader,
        network: Network,
        content: ContentId,
        from: u64,
        now: Instant,
    ) -> Hold {
        self.expire(now);
        // Pinned to the network that it asks from now, too: the one it began in may be lost to another
        // device that starts there.
        self.hold(id, network, content, from, now)
    }

    /// Its device is established: the pin makes room after those of all who may have been made up.
    pub fn keep_longer(&mut self, hold: &Hold) {
        let Some(pin) = self.find(hold) else { return };
        let before = pin.turn;
        pin.turn.class |= ESTABLISHED;
        let after = pin.turn;
        self.order.change(before, after, (0, hold.id.0));
    }

    /// The bytes before `high` have been sent.
    pub fn advance(&mut self, hold: &Hold, high: u64, now: Instant) {
        if let Some(pin) = self.find(hold) {
            pin.high = pin.high.max(high);
            pin.used = now;
        }
    }

    /// A download ends. `complete`: it went to the end of the file, and all its bytes arrived.
    pub fn end(&mut self, hold: Hold, complete: bool, now: Instant) {
        let number = self.number();
        let Some(pin) = self.find(&hold) else { return };
        pin.running = pin.running.saturating_sub(1);
        pin.used = now;
        let is_news = pin.complete != complete || pin.is_stale();
        pin.complete = complete;
        if is_news && pin.written.is_some() {
            self.news.push(News::Changed(hold.id, hold.serial));
        }
        let Some(pin) = self.find(&hold) else { return };
        let before = pin.turn;
        if pin.running > 0 {
            return;
        }
        // Also one that is complete keeps its say: that its bytes were acknowledged, and the connection
        // closed, does not mean that the module read them all. It may go on with this one.
        pin.turn = turn(before.class & ESTABLISHED, number);
        let after = pin.turn;
        self.order.change(before, after, (0, hold.id.0));
    }

    /// What the journal is to know of the pin that a download holds; `None`: it has it already, nearly
    /// as it is. The ranges of one download are one line.
    pub fn to_write(&mut self, hold: &Hold, clock: &Clock) -> Option<PinEntry> {
        let pin = self.find(hold)?;
        if !pin.is_stale() {
            return None;
        }
        pin.written = Some(pin.used);
        Some(pin.entry(hold.id, clock))
    }

    /// The journal did not take it.
    pub fn not_written(&mut self, hold: &Hold) {
        if let Some(pin) = self.find(hold) {
            pin.written = None;
        }
    }

    /// What the journal is to know of pins that changed or are over, since this was last asked.
    pub fn news(&mut self, clock: &Clock) -> Vec<Entry> {
        let news = std::mem::take(&mut self.news);
        let entry = |news| match news {
            News::Over(id, network, content) => Some(Entry::Unpinned(id, network, content)),
            News::Changed(id, serial) => {
                let pin = self.find(&Hold { id, serial })?;
                pin.written = Some(pin.used);
                Some(Entry::Pin(pin.entry(id, clock)))
            }
        };
        news.into_iter().filter_map(entry).collect()
    }

    /// A pin out of the journal. How far its download came is not known any more: it speaks for any
    /// byte, since a mark that is too high never gives wrong bytes away.
    pub fn load(&mut self, entry: &PinEntry, clock: &Clock, now: Instant) {
        let used = clock.instant(entry.used);
        self.unload(entry.who, entry.network, entry.content);
        if is_over(used, now) {
            return;
        }
        self.make_room(now);
        let number = self.number();
        // Who that is does not stand there. What was pinned before a flood goes last.
        let turn = turn(ESTABLISHED, number);
        self.by_id.entry(entry.who).or_default().push(Pin {
            serial: number,
            network: entry.network,
            content: entry.content,
            high: u64::MAX,
            used,
            running: 0,
            complete: entry.complete,
            written: Some(used),
            turn,
        });
        self.order.insert(turn, (0, entry.who.0));
    }

    /// A pin that the journal says is over.
    pub fn unload(&mut self, id: Downloader, network: Network, content: ContentId) {
        let mut pins = self.by_id.get(&id).into_iter().flatten();
        let same = pins.find(|pin| pin.network == network && pin.content == content);
        if let Some(serial) = same.map(|pin| pin.serial) {
            self.remove(id, serial);
            // It knows.
            self.news.clear();
        }
    }

    /// Some pins for the journal, from the one with the number `from` on, and where the next begin.
    pub fn records(&self, from: u64, most: usize, clock: &Clock) -> (Vec<Entry>, Option<u64>) {
        let pins = self
            .by_id
            .iter()
            .flat_map(|(id, pins)| pins.iter().map(move |pin| (pin.serial, *id, pin)));
        let mut pins: Vec<_> = pins.filter(|(serial, ..)| *serial >= from).collect();
        order::sort_by(&mut pins, |(one, ..), (other, ..)| one.cmp(other));
        let next = pins.get(most).map(|(serial, ..)| *serial);
        let some = pins.into_iter().take(most);
        let entries = some.map(|(_, id, pin)| Entry::Pin(pin.entry(id, clock)));
        (entries.collect(), next)
    }

    fn hold(
        &mut self,
        id: Downloader,
        network: Network,
        content: ContentId,
        high: u64,
        now: Instant,
    ) -> Hold {
        let number = self.number();
        let own = |pin: &&mut Pin| pin.network == network && pin.content == content;
        let known = self.by_id.get_mut(&id).into_iter().flatten().find(own);
        if let Some(pin) = known {
            // The highest mark stays, even from byte 0 on: a mark that is too high never gives wrong
            // bytes away.
            pin.high = pin.high.max(high);
            pin.used = now;
            pin.running = pin.running.saturating_add(1);
            let before = pin.turn;
            pin.turn = turn(before.class | RUNNING, number);
            let (after, serial) = (pin.turn, pin.serial);
            self.order.change(before, after, (0, id.0));
            return Hold { id, serial };
        }
        self.make_room(now);
        let turn = turn(RUNNING, number);
        let pins = self.by_id.entry(id).or_default();
        pins.push(Pin {
            serial: number,
            network,
            content,
            high,
            used: now,
            running: 1,
            complete: false,
            written: None,
            turn,
        });
        self.order.insert(turn, (0, id.0));
        Hold { id, serial: number }
    }

    fn number(&mut self) -> u64 {
        self.next = self.next.wrapping_add(1);
        self.next
    }

    fn find(&mut self, hold: &Hold) -> Option<&mut Pin> {
        let pins = self.by_id.get_mut(&hold.id)?;
        pins.iter_mut().find(|pin| pin.serial == hold.serial)
    }

    fn remove(&mut self, id: Downloader, serial: u64) {
        let Some(pins) = self.by_id.get_mut(&id) else {
            return;
        };
        if let Some(at) = pins.iter().position(|pin| pin.serial == serial) {
            let pin = pins.swap_remove(at);
            self.order.remove(pin.turn);
            if pin.written.is_some() {
                self.news.push(News::Over(id, pin.network, pin.content));
            }
        }
        if pins.is_empty() {
            self.by_id.remove(&id);
        }
    }

    /// A flood of downloads must not make us believe that we never knew of the others.
    fn make_room(&mut self, now: Instant) {
        while self.order.len() >= self.capacity {
            let Some((turn, (_, id))) = self.order.first() else {
                return;
            };
            self.order.remove(turn);
            self.drop_turn(Downloader(id), turn);
            self.forgot = Some(now);
        }
    }

    /// Drops what was last used too long ago.
    fn expire(&mut self, now: Instant) {
        for class in [0, ESTABLISHED] {
            while let Some((turn, id)) = self.longest_unused(class) {
                let pins = self.by_id.get(&id);
                let pin = pins.and_then(|pins| pins.iter().find(|pin| pin.turn == turn));
                if pin.is_some_and(|pin| !pin.expired(now)) {
                    break;
                }
                self.order.remove(turn);
                self.drop_turn(id, turn);
            }
        }
    }

    /// Of the pins of one class.
    fn longest_unused(&self, class: u8) -> Option<(Turn, Downloader)> {
        let first = self.order.from(turn(class, 0));
        let (turn, (_, id)) = first.filter(|(turn, _)| turn.class == class)?;
        Some((turn, Downloader(id)))
    }

    fn drop_turn(&mut self, id: Downloader, turn: Turn) {
        if let Some(pins) = self.by_id.get_mut(&id) {
            pins.retain(|pin| pin.turn != turn);
            if pins.is_empty() {
                self.by_id.remove(&id);
            }
        }
    }
}

impl Pin {
    /// The journal does not know of it, or of an old use alone.
    fn is_stale(&self) -> bool {
        let knows = |written| self.used.saturating_duration_since(written) < STALE;
        !self.written.is_some_and(knows)
    }

    fn entry(&self, who: Downloader, clock: &Clock) -> PinEntry {
        PinEntry {
            who,
            network: self.network,
            content: self.content,
            used: clock.stamp_of(self.used),
            complete: self.complete,
        }
    }

    fn expired(&self, now: Instant) -> bool {
        self.running == 0 && is_over(self.used, now)
    }
}

/// Is this longer ago than anything is remembered?
fn is_over(used: Instant, now: Instant) -> bool {
    now.saturating_duration_since(used) >= LIFETIME
}

#[cfg(test)]
mod tests;
