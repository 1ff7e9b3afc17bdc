//! Which content a download began with, so that it never changes its file (hazards.md 17). Used by the
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

use std::collections::{BTreeMap, HashMap};
use std::hash::Hasher;
use std::time::{Duration, Instant};

use siphasher::sip::SipHasher24;

use super::clock::Clock;
use super::entry::{Entry, PinEntry};
use super::network::Network;
use crate::firmware::ContentId;
use crate::firmware::audience::DeviceId;
use crate::order;

/// Pins kept at most, unless told otherwise.
pub const CAPACITY: usize = 16_384;

/// A pin ends so long after its last use.
pub const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// A pin whose device began something else keeps its say for so long after its last use.
pub const RIVAL: Duration = Duration::from_secs(5 * 60);

/// The journal may know of a use that is older by less than this.
const STALE: Duration = Duration::from_secs(60 * 60);

/// Who downloads: the id of a device, and what it says that it runs. Two modules under one id are told
/// apart if they differ in any of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Downloader(pub(super) u64);

impl Downloader {
    /// `said`: what a check says of the module besides its id, in any fixed order.
    pub fn of(device: DeviceId, said: &[&str]) -> Downloader {
        // Byte by byte, not by what `Hash` makes of it: it stands in the journal, which may be read on
        // another machine.
        let mut hasher = SipHasher24::new();
        let (kind, number) = device.parts();
        hasher.write(&[kind]);
        hasher.write(&number.to_le_bytes());
        for text in said {
            let length = u64::try_from(text.len()).unwrap_or(u64::MAX);
            hasher.write(&length.to_le_bytes());
            hasher.write(text.as_bytes());
        }
        Downloader(hasher.finish())
    }

    /// The same as a number, for who signs it.
    pub fn number(self) -> u64 {
        self.0
    }
}

/// What the pins of an id say about a download that goes on at some byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Began {
    /// It began with this content.
    With(ContentId),
    /// Several contents reach that far under this id: nobody can know which it has.
    Unclear,
    /// Nothing is known of it.
    Unknown,
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
    by_id: HashMap<Downloader, Vec<Pin>>,
    /// All pins in the order in which they may be dropped: those without a running download first, the
    /// longest unused of them first.
    order: BTreeMap<Turn, Downloader>,
    capacity: usize,
    next: u64,
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

/// A pin's place in the order. The number is used once only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    running: bool,
    number: u64,
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
            by_id: HashMap::new(),
            order: BTreeMap::new(),
            capacity: capacity.max(1),
            next: 0,
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
        pin.turn = Turn {
            running: false,
            number,
        };
        let after = pin.turn;
        self.order.remove(&before);
        self.order.insert(after, hold.id);
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
        if now.saturating_duration_since(used) >= LIFETIME {
            return;
        }
        self.make_room();
        let number = self.number();
        let turn = Turn {
            running: false,
            number,
        };
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
        self.order.insert(turn, entry.who);
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
        let turn = Turn {
            running: true,
            number,
        };
        let own = |pin: &&mut Pin| pin.network == network && pin.content == content;
        let known = self.by_id.get_mut(&id).into_iter().flatten().find(own);
        if let Some(pin) = known {
            // The highest mark stays, even from byte 0 on: a mark that is too high never gives wrong
            // bytes away.
            pin.high = pin.high.max(high);
            pin.used = now;
            pin.running = pin.running.saturating_add(1);
            let before = std::mem::replace(&mut pin.turn, turn);
            let serial = pin.serial;
            self.order.remove(&before);
            self.order.insert(turn, id);
            return Hold { id, serial };
        }
        self.make_room();
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
        self.order.insert(turn, id);
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
            self.order.remove(&pin.turn);
            if pin.written.is_some() {
                self.news.push(News::Over(id, pin.network, pin.content));
            }
        }
        if pins.is_empty() {
            self.by_id.remove(&id);
        }
    }

    fn make_room(&mut self) {
        while self.order.len() >= self.capacity {
            let Some((turn, id)) = self.order.pop_first() else {
                return;
            };
            self.drop_turn(id, turn);
        }
    }

    /// Drops what was last used too long ago. Those come first in the order.
    fn expire(&mut self, now: Instant) {
        while let Some((&turn, &id)) = self.order.first_key_value() {
            let pins = self.by_id.get(&id);
            let pin = pins.and_then(|pins| pins.iter().find(|pin| pin.turn == turn));
            if pin.is_some_and(|pin| !pin.expired(now)) {
                return;
            }
            self.order.remove(&turn);
            self.drop_turn(id, turn);
        }
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
        self.running == 0 && now.saturating_duration_since(self.used) >= LIFETIME
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ContentId = ContentId([1; 32]);
    const B: ContentId = ContentId([2; 32]);
    const DEVICE: Downloader = Downloader(862_991_443_753_386);
    const HOME: Network = Network::V4([192, 0, 2]);
    const AWAY: Network = Network::V4([198, 51, 100]);

    /// A download from byte 0 that was cut after `sent` bytes.
    fn cut(pins: &mut Pins, network: Network, content: ContentId, sent: u64, now: Instant) {
        let hold = pins.start(DEVICE, network, content, now);
        pins.advance(&hold, sent, now);
        pins.end(hold, false, now);
    }

    #[test]
    fn a_download_goes_on_with_the_content_that_it_began_with() {
        let (mut pins, now) = (Pins::new(8), Instant::now());
        cut(&mut pins, HOME, A, 1000, now);
        assert_eq!(pins.began(DEVICE, 600, now), Began::With(A));
        assert_eq!(pins.began(DEVICE, 1000, now), Began::With(A));
    }

    #[test]
    fn a_pin_does_not_speak_for_bytes_that_were_never_sent() {
        let (mut pins, now) = (Pins::new(8), Instant::now());
        cut(&mut pins, HOME, A, 1000, now);
        assert_eq!(pins.began(DEVICE, 1001, now), Began::Unknown);
        assert_eq!(pins.began(Downloader(1), 1, now), Began::Unknown);
    }

    #[test]
    fn a_device_that_roams_keeps_its_content() {
        let (mut pins, now) = (Pins::new(8), Instant::now());
        cut(&mut pins, HOME, A, 1000, now);
        let hold = pins.resume(DEVICE, AWAY, A, 900, now);
        pins.advance(&hold, 2000, now);
        pins.end(hold, false, now);
        assert_eq!(pins.began(DEVICE, 1500, now), Began::With(A));
        // Another device with the same id takes the old network: the roamer is still known.
        cut(&mut pins, HOME, B, 10, now);
        assert_eq!(pins.began(DEVICE, 1500, now), Began::With(A));
    }

    #[test]
    fn byte_0_replaces_only_the_pin_of_its_own_network() {
        let (mut pins, now) = (Pins::new(8), Instant::now());
        cut(&mut pins, HOME, A, 1000, now);
        cut(&mut pins, AWAY, B, 100, now);
        assert_eq!(pins.len(), 2);
        assert_eq!(pins.began(DEVICE, 500, now), Began::With(A));
        let later = now + RIVAL;
        cut(&mut pins, HOME, B, 1000, later);
        assert_eq!(pins.began(DEVICE, 500, later), Began::With(B));
    }

    #[test]
    fn a_pin_that_was_just_used_is_not_replaced_by_another_device_under_its_id() {
        let (mut pins, now) = (Pins::new(8), Instant::now());
        cut(&mut pins, HOME, A, 1000, now);
        let soon = now + RIVAL - Duration::from_secs(1);
        cut(&mut pins, HOME, B, 2000, soon);
        assert_eq!(pins.began(DEVICE, 1000, soon), Began::Unclear);
        assert_eq!(pins.began(DEVICE, 1500, soon), Began::With(B));
    }

    #[test]
    fn who_has_the_whole_file_may_begin_another_at_once() {
        let (mut pins, now) = (Pins::new(8), Instant::now());
        let hold = pins.start(DEVICE, HOME, A, now);
        pins.advance(&hold, 1000, now);
        pins.end(hold, true, now);
        cut(&mut pins, HOME, B, 500, now);
        assert_eq!(pins.began(DEVICE, 400, now), Began::With(B));
    }

    #[test]
    fn modules_that_run_different_things_are_told_apart_under_one_id() {
        let imei = DeviceId::Imei(862_991_443_753_386);
        let said = [
            ["P", "1.0.0"],
            ["P", "1.0.1"],
            ["Q", "1.0.0"],
            ["P1", ".0.0"],
        ];
        for (at, one) in said.iter().enumerate() {
            for (other_at, other) in said.iter().enumerate() {
                let same = Downloader::of(imei, one) == Downloader::of(imei, other);
                assert_eq!(same, at == other_at);
            }
        }
    }

    #[test]
    fn two_contents_that_reach_as_far_are_unclear() {
        let (mut pins, now) = (Pins::new(8), Instant::now());
        cut(&mut pins, HOME, A, 1000, now);
        cut(&mut pins, AWAY, B, 1000, now);
        assert_eq!(pins.began(DEVICE, 500, now), Began::Unclear);
    }

    #[test]
    fn byte_0_does_not_replace_a_pin_while_its_download_runs() {
        let (mut pins, now) = (Pins::new(8), Instant::now());
        let running = pins.start(DEVICE, HOME, A, now);
        pins.advance(&running, 1000, now);
        cut(&mut pins, HOME, B, 100, now);
        assert_eq!(pins.began(DEVICE, 1000, now), Began::With(A));
        pins.end(running, false, now);
        assert_eq!(pins.began(DEVICE, 1000, now), Began::With(A));
    }

    #[test]
    fn the_same_device_behind_a_dead_connection_never_gets_the_rest_of_the_other_file() {
        let (mut pins, now) = (Pins::new(8), Instant::now());
        let dead = pins.start(DEVICE, HOME, A, now);
        pins.advance(&dead, 1000, now);
        cut(&mut pins, HOME, B, 600, now);
        assert_eq!(pins.began(DEVICE, 600, now), Began::Unclear);
        pins.end(dead, false, now);
        // It starts again after a while, and from then on it is clear.
        let later = now + RIVAL;
        cut(&mut pins, HOME, B, 300, later);
        assert_eq!(pins.began(DEVICE, 300, later), Began::With(B));
    }

    #[test]
    fn a_second_download_that_seems_complete_keeps_its_say() {
        let (mut pins, now) = (Pins::new(8), Instant::now());
        let first = pins.start(DEVICE, HOME, A, now);
        pins.advance(&first, 500, now);
        let second = pins.start(DEVICE, HOME, B, now);
        pins.advance(&second, 1000, now);
        pins.end(second, true, now);
        pins.end(first, false, now);
        assert_eq!(pins.began(DEVICE, 400, now), Began::Unclear);
    }

    #[test]
    fn a_pin_holds_until_its_last_download_ends() {
        let (mut pins, now) = (Pins::new(8), Instant::now());
        let first = pins.start(DEVICE, HOME, A, now);
        let second = pins.start(DEVICE, HOME, A, now);
        assert_eq!(pins.len(), 1);
        pins.advance(&first, 500, now);
        pins.end(first, false, now);
        cut(&mut pins, HOME, B, 10, now);
        assert_eq!(pins.began(DEVICE, 500, now), Began::With(A));
        pins.end(second, false, now);
        let later = now + RIVAL;
        cut(&mut pins, HOME, B, 10, later);
        assert_eq!(pins.began(DEVICE, 500, later), Began::Unknown);
    }

    #[test]
    fn starting_again_with_the_same_content_keeps_the_mark() {
        let (mut pins, now) = (Pins::new(8), Instant::now());
        cut(&mut pins, HOME, A, 1000, now);
        cut(&mut pins, HOME, A, 10, now);
        assert_eq!(pins.began(DEVICE, 1000, now), Began::With(A));
    }

    #[test]
    fn a_pin_ends_a_day_after_its_last_use() {
        let (mut pins, now) = (Pins::new(8), Instant::now());
        cut(&mut pins, HOME, A, 1000, now);
        let almost = now + LIFETIME - Duration::from_secs(1);
        assert_eq!(pins.began(DEVICE, 1, almost), Began::With(A));
        let over = now + LIFETIME;
        assert_eq!(pins.began(DEVICE, 1, over), Began::Unknown);
        let hold = pins.start(Downloader(1), HOME, A, over);
        assert_eq!(pins.len(), 1);
        pins.end(hold, false, over);
    }

    #[test]
    fn the_longest_unused_pin_makes_room_and_never_one_that_a_download_holds() {
        let (mut pins, now) = (Pins::new(3), Instant::now());
        let device = |n| Downloader(n);
        let running = pins.start(device(1), HOME, A, now);
        for n in 2..=3 {
            let hold = pins.start(device(n), HOME, A, now);
            pins.end(hold, false, now);
        }
        let again = pins.start(device(2), HOME, A, now);
        pins.end(again, false, now);
        let hold = pins.start(device(4), HOME, A, now);
        assert_eq!(pins.len(), 3);
        assert_eq!(pins.began(device(1), 0, now), Began::With(A));
        assert_eq!(pins.began(device(2), 0, now), Began::With(A));
        assert_eq!(pins.began(device(3), 0, now), Began::Unknown);
        // All are held: then the oldest goes all the same, and its end does no harm.
        let third = pins.start(device(5), HOME, A, now);
        let fourth = pins.start(device(6), HOME, A, now);
        assert_eq!(pins.len(), 3);
        assert_eq!(pins.began(device(1), 0, now), Began::Unknown);
        for hold in [running, hold, third, fourth] {
            pins.end(hold, true, now);
        }
        assert_eq!(pins.len(), 3);
    }

    fn entries(pins: &Pins, clock: &Clock) -> Vec<Entry> {
        let (mut all, mut from) = (Vec::new(), Some(0));
        while let Some(at) = from {
            let (some, next) = pins.records(at, 2, clock);
            assert!(some.len() <= 2);
            all.extend(some);
            from = next;
        }
        all
    }

    #[test]
    fn a_pin_out_of_the_journal_speaks_for_any_byte() {
        let now = Instant::now();
        let clock = Clock::new(now);
        let mut pins = Pins::new(8);
        cut(&mut pins, HOME, A, 1000, now);
        for n in 1..=4 {
            let hold = pins.start(Downloader(n), AWAY, B, now);
            pins.end(hold, true, now);
        }
        let written = entries(&pins, &clock);
        assert_eq!(written.len(), 5);
        let mut loaded = Pins::new(8);
        // Each twice: the last one wins.
        for entry in written.iter().chain(&written) {
            let Entry::Pin(pin) = entry else { panic!() };
            loaded.load(pin, &clock, now);
        }
        assert_eq!(entries(&loaded, &clock), written);
        assert_eq!(loaded.began(DEVICE, 1001, now), Began::With(A));
        assert_eq!(loaded.began(Downloader(2), u64::MAX, now), Began::With(B));
        loaded.unload(DEVICE, HOME, A);
        assert_eq!(loaded.began(DEVICE, 1, now), Began::Unknown);
        assert!(loaded.news(&clock).is_empty());
    }

    #[test]
    fn a_pin_out_of_the_journal_ends_a_day_after_its_last_use() {
        let now = Instant::now();
        let clock = Clock::new(now);
        let entry = |ago: u64| PinEntry {
            who: DEVICE,
            network: HOME,
            content: A,
            used: clock.stamp(now).minus(ago as u32),
            complete: false,
        };
        let day = LIFETIME.as_secs();
        let mut pins = Pins::new(8);
        pins.load(&entry(day), &clock, now);
        assert!(pins.is_empty());
        pins.load(&entry(day - 10), &clock, now);
        assert_eq!(pins.began(DEVICE, 1, now), Began::With(A));
        let later = now + Duration::from_secs(10);
        assert_eq!(pins.began(DEVICE, 1, later), Began::Unknown);
    }

    #[test]
    fn the_journal_hears_of_a_download_once_and_of_its_end_if_that_is_news() {
        let now = Instant::now();
        let clock = Clock::new(now);
        let mut pins = Pins::new(8);
        let hold = pins.start(DEVICE, HOME, A, now);
        assert!(pins.to_write(&hold, &clock).is_some());
        assert!(pins.to_write(&hold, &clock).is_none());
        pins.not_written(&hold);
        assert!(pins.to_write(&hold, &clock).is_some());
        pins.end(hold, false, now);
        assert!(pins.news(&clock).is_empty());
        // The ranges of one download.
        for from in [100, 200, 300] {
            let hold = pins.resume(DEVICE, HOME, A, from, now);
            assert!(pins.to_write(&hold, &clock).is_none());
            pins.end(hold, false, now);
        }
        let later = now + STALE;
        let hold = pins.resume(DEVICE, HOME, A, 400, later);
        assert!(pins.to_write(&hold, &clock).is_some());
        pins.end(hold, true, later);
        let news = pins.news(&clock);
        assert!(
            matches!(&*news, [Entry::Pin(pin)] if pin.complete),
            "{news:?}"
        );
        // Another content takes its place.
        let later = later + RIVAL;
        let hold = pins.start(DEVICE, HOME, B, later);
        assert_eq!(pins.news(&clock), [Entry::Unpinned(DEVICE, HOME, A)]);
        assert!(pins.to_write(&hold, &clock).is_some());
        pins.end(hold, false, later);
    }

    #[test]
    fn the_key_of_a_pin_is_the_same_on_every_machine() {
        let imei = DeviceId::Imei(862_991_443_753_386);
        let key = Downloader::of(imei, &["P", "P_Luat_V0017_ASR1802", "1.0.0"]);
        assert_eq!(key, Downloader(11_846_807_408_319_002_151));
    }
}
