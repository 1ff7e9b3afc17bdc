//! One line of the journal: an object of JSON whose first key says what it is, whose last two are `at`
//! (when it was written, Unix seconds) and `crc` (the CRC-32 of all that stands before it). Written for
//! people too; docs/state.md shows each kind.
//!
//! What would surprise you: neither `{"` nor `,"crc":"` can stand inside a line (in a text the quotes
//! have a backslash before them, and one that ends with a brace ends with `\u007b`). So a line that was
//! glued to a torn one is found all the same.

use std::borrow::Cow;
use std::fmt::{self, Write};

use super::json::{Fields, quote};
use crate::firmware::ContentId;
use crate::firmware::audience::DeviceId;
use crate::fleet::clock::{Stamp, Wall};
use crate::fleet::entry::{
    DeviceEntry, GuardEntry, JournalEntry, JourneyEntry, PinEntry, ReleaseEntry, Round,
};
use crate::fleet::journey::{Outcome, State};
use crate::fleet::network::{CoarseNetwork, Network};
use crate::fleet::pins::PinWorth;
use crate::fleet::profiles::Profile;
use crate::fleet::requester::{IdentityHash, PinKey};

/// The version of the format, in the first line.
pub(super) const VERSION: u32 = 1;

/// The first line's key.
pub(super) const HEADER: &str = "luat-ota-journal";

/// A longer line is damaged, in bytes.
pub(super) const LONGEST: usize = 64 * 1024;

const CHECK: &str = ",\"crc\":\"";

/// Bytes of `,"crc":"0123abcd"}`.
const TAIL: usize = CHECK.len() + 8 + 2;

/// Nothing is held for longer than this, whatever a line says, in seconds.
const LONGEST_HOLD: i64 = 30 * 86_400;

/// The body (all before the check) of a line without its newline; `None`: it is damaged.
pub(super) fn intact(line: &[u8]) -> Option<&str> {
    let (body, tail) = line.split_at_checked(line.len().checked_sub(TAIL)?)?;
    let digits = tail.strip_prefix(CHECK.as_bytes())?.strip_suffix(b"\"}")?;
    let is_hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if !digits.iter().all(is_hex) {
        return None;
    }
    let said = u32::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?;
    if crc32fast::hash(body) != said {
        return None;
    }
    str::from_utf8(body).ok()
}

/// The intact lines inside what is none as a whole: what a short write or a lost newline glued together.
pub(super) fn salvaged(glued: &[u8]) -> impl Iterator<Item = &str> {
    let mut rest = glued;
    std::iter::from_fn(move || {
        loop {
            let check = find(rest, CHECK.as_bytes())?;
            let piece = rest.get(..check.saturating_add(TAIL))?;
            // If the check itself is torn, the next line may begin within it.
            rest = rest.get(check.saturating_add(CHECK.len())..)?;
            // The last beginning before the check: an earlier one is that of a torn line.
            let start = piece.windows(2).rposition(|pair| pair == b"{\"")?;
            if let Some(body) = piece.get(start..).and_then(intact) {
                return Some(body);
            }
        }
    })
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|here| here == what)
}

/// What a clock line tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tick {
    /// A run begins: before it the server did not listen.
    Start,
    /// The clock was stepped by so many seconds.
    Step(i64),
    /// Time goes on, and nothing else happened.
    Hour,
    /// A run ends in good order.
    Stop,
}

impl Tick {
    fn word(self) -> &'static str {
        match self {
            Tick::Start => "start",
            Tick::Step(_) => "step",
            Tick::Hour => "hour",
            Tick::Stop => "stop",
        }
    }
}

/// Writes lines into a buffer.
pub(super) struct Pen<'b> {
    out: &'b mut String,
    start: usize,
    wall: Wall,
}

/// The first line of a journal.
pub(super) fn header(out: &mut String) {
    // It has no time in it.
    let pen = Pen::new(out, Wall::default());
    let _ = write!(pen.out, "{{\"{HEADER}\":{VERSION}");
    pen.check();
}

/// One entry.
pub(super) fn entry(out: &mut String, wall: Wall, at: Stamp, entry: &JournalEntry) {
    let mut pen = Pen::new(out, wall);
    match entry {
        JournalEntry::Device(device) => pen.device(device),
        JournalEntry::Forgotten(device) => pen.put("{\"forgotten\":", Id(*device)),
        JournalEntry::Pin(pin) => pen.pin(pin),
        JournalEntry::Unpinned(owner) => pen.hash("{\"unpinned\":", owner.0),
        JournalEntry::Guard(guard) => pen.guard(guard),
        JournalEntry::Unguarded(identity_without_version, coarse_network) => {
            pen.hash("{\"unguarded\":", identity_without_version.0);
            pen.put(",\"wide\":", coarse_network.0);
        }
        JournalEntry::Release(release) => pen.release(release),
    }
    pen.end(at);
}

/// A clock line.
pub(super) fn tick(out: &mut String, wall: Wall, at: Stamp, tick: Tick) {
    let mut pen = Pen::new(out, wall);
    pen.put("{\"clock\":", Quoted(tick.word()));
    if let Tick::Step(by) = tick {
        pen.put(",\"step\":", by);
    }
    pen.put(
        ",\"trusted\":",
        crate::fleet::clock::is_trusted(wall.unix_of(at)),
    );
    pen.end(at);
}

/// A value between quotes that needs no escaping.
struct Quoted<T>(T);

impl<T: fmt::Display> fmt::Display for Quoted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0)
    }
}

/// An id as the journal names it: `"imei:862991443753386"`, `"mac:0123456789AB"`, and the hash of any
/// other, `"other:0123456789abcdef"`.
struct Id(DeviceId);

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            DeviceId::Imei(number) => write!(f, "\"imei:{number:015}\""),
            DeviceId::Mac(number) => write!(f, "\"mac:{number:012X}\""),
            DeviceId::Other(hash) => write!(f, "\"other:{hash:016x}\""),
        }
    }
}

fn id(text: &str) -> Option<DeviceId> {
    let (kind, number) = text.split_once(':')?;
    match kind {
        "imei" => number.parse().ok().map(DeviceId::Imei),
        "mac" => u64::from_str_radix(number, 16).ok().map(DeviceId::Mac),
        "other" => u64::from_str_radix(number, 16).ok().map(DeviceId::Other),
        _ => None,
    }
}

/// The text of an id that needs no place of its own in the line, because it is known from the id.
fn usual_text(device: DeviceId) -> String {
    match device {
        DeviceId::Imei(number) => format!("{number:015}"),
        DeviceId::Mac(number) => format!("{number:012X}"),
        DeviceId::Other(_) => String::new(),
    }
}

impl<'b> Pen<'b> {
    fn new(out: &'b mut String, wall: Wall) -> Pen<'b> {
        let start = out.len();
        Pen { out, start, wall }
    }

    // Writing to a String does not fail.
    fn put(&mut self, key: &str, value: impl fmt::Display) {
        let _ = write!(self.out, "{key}{value}");
    }

    fn hash(&mut self, key: &str, hash: u64) {
        let _ = write!(self.out, "{key}\"{hash:016x}\"");
    }

    fn text(&mut self, key: &str, text: &str) {
        self.out.push_str(key);
        quote(self.out, text);
    }

    fn time(&mut self, key: &str, stamp: Stamp) {
        self.put(key, self.wall.unix_of(stamp));
    }

    fn number(&mut self, key: &str, number: u64) {
        if number != 0 {
            self.put(key, number);
        }
    }

    fn flag(&mut self, key: &str, is_true: bool) {
        if is_true {
            self.put(key, true);
        }
    }

    fn maybe_time(&mut self, key: &str, stamp: Option<Stamp>) {
        if let Some(stamp) = stamp {
            self.time(key, stamp);
        }
    }

    fn end(mut self, at: Stamp) {
        self.time(",\"at\":", at);
        self.check();
    }

    fn check(self) {
        let body = self.out.as_bytes().get(self.start..).unwrap_or_default();
        let crc = crc32fast::hash(body);
        let _ = writeln!(self.out, "{CHECK}{crc:08x}\"}}");
    }

    fn device(&mut self, device: &DeviceEntry) {
        self.put("{\"device\":", Id(device.device));
        if *device.text != *usual_text(device.device) {
            self.text(",\"text\":", &device.text);
        }
        self.text(",\"project\":", &device.project);
        self.text(",\"version\":", &device.version);
        self.time(",\"first\":", device.first);
        self.time(",\"last\":", device.last);
        self.number(",\"interval\":", device.interval.into());
        if let Some(network) = device.network {
            self.put(",\"network\":", Quoted(network));
        }
        if let Some(profile) = &device.profile {
            self.profile(profile);
        }
        if !device.confirmed.is_empty() {
            self.text(",\"confirmed\":", &confirmed_text(device));
        }
        let Some(journey) = &device.journey else {
            return;
        };
        self.text(",\"to\":", &journey.version);
        if journey.project != device.project {
            self.text(",\"to_project\":", &journey.project);
        }
        self.put(",\"content\":", Quoted(journey.content));
        self.put(",\"size\":", journey.size);
        self.put(",\"state\":", Quoted(journey.state.word()));
        self.time(",\"since\":", journey.since);
        self.number(",\"reached\":", journey.reached);
        if journey.outcome != usual_outcome(journey.state) {
            let outcome = journey.outcome.map_or("none", outcome_word);
            self.put(",\"outcome\":", Quoted(outcome));
        }
        self.number(",\"weak\":", journey.weak.into());
        self.flag(",\"by_proxy\":", journey.by_proxy);
        self.text(",\"from\":", &journey.from);
    }

    fn profile(&mut self, profile: &Profile<'_>) {
        let texts = [
            (",\"name\":", &profile.firmware_name),
            (",\"path\":", &profile.path_project),
            (",\"key\":", &profile.project_key),
        ];
        for (key, text) in texts {
            if let Some(text) = text {
                self.text(key, text);
            }
        }
        if let Some(core) = profile.core_version {
            self.put(",\"core\":", core);
        }
        if profile.need_oss_url {
            self.put(",\"redirect\":", true);
        }
        if let Some(largest) = profile.largest {
            self.put(",\"largest\":", largest);
        }
    }

    fn pin(&mut self, pin: &PinEntry) {
        self.hash("{\"pin\":", pin.owner.0);
        if pin.said != 0 {
            self.hash(",\"said\":", pin.said);
        }
        self.put(",\"content\":", Quoted(pin.content));
        self.time(",\"used\":", pin.used);
        self.number(",\"reach\":", pin.reach);
        self.number(",\"worth\":", pin.worth.into());
    }

    fn guard(&mut self, guard: &GuardEntry) {
        self.hash("{\"guard\":", guard.identity_without_version.0);
        self.put(",\"device\":", Id(guard.device));
        self.put(",\"wide\":", guard.coarse_network.0);
        self.put(",\"content\":", Quoted(guard.content));
        self.hash(",\"version\":", guard.version);
        self.number(",\"reverts\":", guard.reverts.into());
        self.number(",\"redirects\":", guard.redirects.into());
        self.number(",\"sent\":", guard.sent);
        self.number(",\"level\":", guard.level.into());
        if let Some(until) = guard.held_until {
            self.time(",\"held_until\":", until);
        }
        self.maybe_time(",\"delivered\":", guard.delivered);
        self.flag(",\"by_proxy\":", guard.by_proxy);
        self.maybe_time(",\"redirected\":", guard.redirected);
        self.maybe_time(",\"confirmed\":", guard.confirmed);
        self.flag(",\"reverted\":", guard.reverted);
        if !guard.rounds.is_empty() {
            // Times, those of weak rounds with a `w` behind them.
            let word = |round: &Round| {
                let weak = if round.weak { "w" } else { "" };
                format!("{}{weak}", self.wall.unix_of(round.at))
            };
            let words: Vec<String> = guard.rounds.iter().map(word).collect();
            self.text(",\"rounds\":", &words.join(" "));
        }
        if !guard.from.is_empty() {
            self.text(",\"from\":", &guard.from);
        }
        if !guard.to.is_empty() {
            self.text(",\"to\":", &guard.to);
        }
        if guard.before != 0 {
            self.hash(",\"before\":", guard.before);
        }
        self.time(",\"used\":", guard.used);
    }

    fn release(&mut self, release: &ReleaseEntry) {
        self.text("{\"release\":", &release.version);
        self.text(",\"project\":", &release.project);
        self.time(",\"first\":", release.first);
        if let Some(fused) = &release.fused {
            self.text(",\"fused\":", fused);
        }
        if let Some(before) = release.before {
            self.put(",\"before\":", Quoted(before));
        }
        if let Some(resumed) = release.resumed {
            self.time(",\"resumed\":", resumed);
        }
        self.number(",\"confirmed\":", release.confirmed.into());
    }
}

/// The outcome that follows from a state, and is not written.
fn usual_outcome(state: State) -> Option<Outcome> {
    match state {
        State::Confirmed => Some(Outcome::Confirmed),
        State::Reverted => Some(Outcome::Reverted),
        _ => None,
    }
}

fn outcome_word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Confirmed => "confirmed",
        Outcome::Reverted => "reverted",
        Outcome::FellBack => "fell_back",
    }
}

/// When a line was written, by both clocks: turns its Unix times into stamps.
#[derive(Clone, Copy, Debug)]
pub(super) struct When {
    /// By the fleet's.
    pub stamp: Stamp,
    /// By the machine's, as it stood then.
    pub unix: i64,
}

impl When {
    /// A time that lay in the past when the line was written.
    fn past(&self, unix: i64) -> Stamp {
        let ago = self.unix.saturating_sub(unix).max(0);
        self.stamp.minus(u32::try_from(ago).unwrap_or(u32::MAX))
    }

    /// One that may have lain in the future.
    fn until(&self, unix: i64) -> Stamp {
        match unix.saturating_sub(self.unix) {
            ..=0 => self.past(unix),
            ahead => {
                let ahead = u32::try_from(ahead.min(LONGEST_HOLD)).unwrap_or(0);
                self.stamp.plus(ahead)
            }
        }
    }
}

/// What a line's fields come to.
#[derive(Debug, PartialEq)]
pub(super) enum Said {
    /// This.
    JournalEntry(JournalEntry),
    /// Something about the journal itself: nothing to remember.
    Nothing,
    /// A kind that a later version writes.
    Unknown,
}

/// The version in a first line.
pub(super) fn version(fields: &Fields<'_>) -> Option<u32> {
    fields.number(HEADER)
}

/// What a clock line tells; `None`: it is none.
pub(super) fn tick_of(fields: &Fields<'_>) -> Option<Tick> {
    match fields.text("clock")? {
        "start" => Some(Tick::Start),
        "step" => fields.number("step").map(Tick::Step),
        "stop" => Some(Tick::Stop),
        _ => Some(Tick::Hour),
    }
}

/// What an intact line says; `None`: a field is missing or makes no sense.
pub(super) fn said(fields: &Fields<'_>, when: When) -> Option<Said> {
    let entry = match fields.kind() {
        "device" => JournalEntry::Device(device(fields, when)?),
        "forgotten" => JournalEntry::Forgotten(id(fields.text("forgotten")?)?),
        "pin" => JournalEntry::Pin(pin(fields, when)?),
        // Up to 0.1.0 one content of one network: what was begun still counts for its day.
        "unpinned" if fields.has("network") => return Some(Said::Nothing),
        "unpinned" => JournalEntry::Unpinned(PinKey(hash(fields, "unpinned")?)),
        "guard" => JournalEntry::Guard(guard(fields, when)?),
        "unguarded" => JournalEntry::Unguarded(
            identity(fields, "unguarded")?,
            CoarseNetwork(fields.number("wide")?),
        ),
        "release" => JournalEntry::Release(ReleaseEntry {
            project: fields.text("project")?.into(),
            version: fields.text("release")?.into(),
            first: when.past(fields.number("first")?),
            fused: fields.text("fused").map(Box::from),
            before: fields.text("before").and_then(ContentId::parse),
            resumed: fields.number("resumed").map(|unix| when.past(unix)),
            confirmed: count(fields, "confirmed")?,
        }),
        "clock" | HEADER => return Some(Said::Nothing),
        _ => return Some(Said::Unknown),
    };
    Some(Said::JournalEntry(entry))
}

fn pin(fields: &Fields<'_>, when: When) -> Option<PinEntry> {
    // Up to 0.1.0: of one network, without a reach.
    let (reach, worth) = match fields.has("network") {
        true => (u64::MAX, PinWorth::Established as u8),
        false => (
            fields.number("reach").unwrap_or(0),
            fields.number("worth").unwrap_or(0),
        ),
    };
    let owner = hash(fields, "pin")?;
    Some(PinEntry {
        owner: PinKey(owner),
        said: match fields.has("said") {
            true => hash(fields, "said")?,
            // Up to 0.1.0 the key was this hash.
            false if fields.has("network") => owner,
            false => 0,
        },
        content: content(fields)?,
        used: when.past(fields.number("used")?),
        reach,
        worth,
    })
}

fn hash(fields: &Fields<'_>, key: &str) -> Option<u64> {
    u64::from_str_radix(fields.text(key)?, 16).ok()
}

fn identity(fields: &Fields<'_>, key: &str) -> Option<IdentityHash> {
    hash(fields, key).map(IdentityHash)
}

fn content(fields: &Fields<'_>) -> Option<ContentId> {
    ContentId::parse(fields.text("content")?)
}

/// A number that is left out where it is 0.
fn count<N: TryFrom<i128> + Default>(fields: &Fields<'_>, key: &str) -> Option<N> {
    match fields.has(key) {
        true => fields.number(key),
        false => Some(N::default()),
    }
}

/// A time that may be left out.
fn maybe(fields: &Fields<'_>, key: &str, stamp: impl Fn(i64) -> Stamp) -> Option<Option<Stamp>> {
    match fields.has(key) {
        true => fields.number(key).map(|unix| Some(stamp(unix))),
        false => Some(None),
    }
}

fn device(fields: &Fields<'_>, when: When) -> Option<DeviceEntry> {
    let device = id(fields.text("device")?)?;
    let text = match fields.text("text") {
        Some(text) => text.into(),
        None => usual_text(device).into(),
    };
    let project: Box<str> = fields.text("project")?.into();
    let journey = match fields.has("to") {
        true => Some(journey(fields, &project, when)?),
        false => None,
    };
    Some(DeviceEntry {
        device,
        text,
        version: fields.text("version")?.into(),
        first: when.past(fields.number("first")?),
        last: when.past(fields.number("last")?),
        interval: count(fields, "interval")?,
        network: match fields.has("network") {
            true => Some(Network::parse(fields.text("network")?)?),
            false => None,
        },
        profile: profile(fields),
        confirmed: confirmed(fields, &project),
        journey,
        project,
    })
}

/// What the device states; a check without a name in it or in its path there is none.
fn profile(fields: &Fields<'_>) -> Option<Profile<'static>> {
    let text = |key| fields.text(key).map(|text| Cow::Owned(text.to_owned()));
    let (firmware_name, path_project) = (text("name"), text("path"));
    let is_there = firmware_name.is_some() || path_project.is_some();
    is_there.then(|| Profile {
        firmware_name,
        path_project,
        core_version: fields.number("core"),
        project_key: text("key"),
        need_oss_url: fields.is_true("redirect"),
        largest: fields.number("largest"),
    })
}

/// `1.0.1,1.0.2`; a release of another project has that before it: `OTHER/1.0.1`. No name of either has a comma.
fn confirmed_text(device: &DeviceEntry) -> String {
    let mut text = String::new();
    for (project, version) in &device.confirmed {
        if !text.is_empty() {
            text.push(',');
        }
        if *project != device.project {
            text.push_str(project);
            text.push('/');
        }
        text.push_str(version);
    }
    text
}

fn confirmed(fields: &Fields<'_>, project: &str) -> Vec<(Box<str>, Box<str>)> {
    let text = fields.text("confirmed").unwrap_or_default();
    let releases = text.split(',').filter(|release| !release.is_empty());
    releases
        .map(|release| match release.rsplit_once('/') {
            Some((project, version)) => (project.into(), version.into()),
            None => (project.into(), release.into()),
        })
        .collect()
}

fn journey(fields: &Fields<'_>, project: &str, when: When) -> Option<JourneyEntry> {
    let state = State::of_word(fields.text("state")?)?;
    Some(JourneyEntry {
        project: fields.text("to_project").unwrap_or(project).into(),
        version: fields.text("to")?.into(),
        content: content(fields)?,
        size: fields.number("size")?,
        state,
        outcome: match fields.text("outcome") {
            None => usual_outcome(state),
            Some("confirmed") => Some(Outcome::Confirmed),
            Some("reverted") => Some(Outcome::Reverted),
            Some("fell_back") => Some(Outcome::FellBack),
            Some(_) => None,
        },
        weak: count(fields, "weak")?,
        by_proxy: fields.is_true("by_proxy"),
        since: when.past(fields.number("since")?),
        reached: count(fields, "reached")?,
        from: fields.text("from")?.into(),
    })
}

/// Rounds beyond this are not read.
const ROUNDS: usize = 32;

fn rounds(text: &str, when: When) -> Option<Vec<Round>> {
    let round = |word: &str| {
        let (unix, weak) = match word.strip_suffix('w') {
            Some(unix) => (unix, true),
            None => (word, false),
        };
        let at = when.past(unix.parse().ok()?);
        Some(Round { at, weak })
    };
    text.split(' ')
        .filter(|word| !word.is_empty())
        .take(ROUNDS)
        .map(round)
        .collect()
}

fn guard(fields: &Fields<'_>, when: When) -> Option<GuardEntry> {
    Some(GuardEntry {
        device: id(fields.text("device")?)?,
        identity_without_version: identity(fields, "guard")?,
        coarse_network: CoarseNetwork(fields.number("wide")?),
        content: content(fields)?,
        version: hash(fields, "version")?,
        reverts: count(fields, "reverts")?,
        redirects: count(fields, "redirects")?,
        sent: count(fields, "sent")?,
        level: count(fields, "level")?,
        held_until: maybe(fields, "held_until", |unix| when.until(unix))?,
        delivered: maybe(fields, "delivered", |unix| when.past(unix))?,
        by_proxy: fields.is_true("by_proxy"),
        redirected: maybe(fields, "redirected", |unix| when.past(unix))?,
        confirmed: maybe(fields, "confirmed", |unix| when.past(unix))?,
        reverted: fields.is_true("reverted"),
        rounds: rounds(fields.text("rounds").unwrap_or_default(), when)?,
        from: fields.text("from").unwrap_or_default().into(),
        to: fields.text("to").unwrap_or_default().into(),
        before: match fields.has("before") {
            true => hash(fields, "before")?,
            false => 0,
        },
        used: when.past(fields.number("used")?),
    })
}
