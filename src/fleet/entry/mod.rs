//! Entries of the journal. Each contains a whole record in its current form. Of several entries with the same key, the
//! last one counts, and compaction writes every record once. An entry writes itself as a line of JSON and reads itself
//! from one. The modules of the fleet convert their records to entries and back.
//!
//! Times are [`Stamp`]s in an entry and Unix seconds in a line.

mod common;
mod device;
pub mod fields;
mod loop_guard;
mod sample;
mod stage;

use self::device::{parse_id, write_id};
use self::fields::{Fields, LineWriter};
use super::clock::Stamp;
use super::network::CoarseNetwork;
use super::progress::State;
use super::requester::{IdentityHash, PinKey};
use crate::firmware::ContentId;
use crate::firmware::audience::DeviceId;

pub use self::common::{Commons, WrittenCommons};
pub use self::device::{DeviceEntry, IndividualFields, ProgressEntry, known_check};
pub use self::loop_guard::{GuardEntry, Round};
pub use self::sample::{SampleChange, SampleEntry};
pub use self::stage::StageEntry;

/// Class of the pins of builds before 0.1.0, which stated none: the class of established devices.
pub const OLD_PIN_WORTH: u8 = 2;

/// One entry.
#[derive(Clone, Debug, PartialEq)]
pub enum JournalEntry {
    /// A device and its update progress.
    Device(DeviceEntry),
    /// The end of a device's record.
    Forgotten(DeviceId),
    /// A content that a download began with.
    Pin(PinEntry),
    /// The end of all pins of a key.
    Unpinned(PinKey),
    /// Evidence against offering a content to a device again.
    Guard(GuardEntry),
    /// The end of such evidence.
    Unguarded(IdentityHash, CoarseNetwork),
    /// A release, as the fleet knows it.
    Release(ReleaseEntry),
    /// A sample of counts.
    Sample(SampleEntry),
    /// The stage that a content of a release has reached.
    Stage(StageEntry),
    /// A change by a person, a command or the fuse.
    Change(ChangeEntry),
}

/// Order in which lines are dropped when the journal's budget is short, least important first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// A sighting of a device.
    Seen,
    /// An offer to a device, a pin of an unknown device, or a pin that has ended or barely changed. Anyone can cause
    /// thousands of these.
    Minor,
    /// All other lines.
    Major,
}

/// One pin.
#[derive(Clone, Debug, PartialEq)]
pub struct PinEntry {
    /// Key of the pin, with `statement` and `content`.
    pub owner: PinKey,
    /// Hash of everything that the device states about itself; 0 without an id.
    pub statement: u64,
    /// The content that was begun.
    pub content: ContentId,
    /// Time of the last use.
    pub used: Stamp,
    /// Offset before which bytes may have been sent. Clients have at most these bytes.
    pub reach: u64,
    /// [`PinWorth`](super::pins::PinWorth) as a number.
    pub worth: u8,
}

/// One release.
#[derive(Clone, Debug, PartialEq)]
pub struct ReleaseEntry {
    /// The project.
    pub project: Box<str>,
    /// The version, as its folder writes it.
    pub version: Box<str>,
    /// Time at which the release was first in the folder.
    pub first: Stamp,
    /// Reason for which the fuse has paused the release; `None`: not paused by the fuse.
    pub fused: Option<Box<str>>,
    /// SHA-256 of the release.json before the pause of the fuse; `None`: there was none, or the fuse has not paused the
    /// release.
    pub before: Option<ContentId>,
    /// Time at which a person last resumed the release after the fuse. Earlier results no longer count.
    pub resumed: Option<Stamp>,
    /// Number of devices that were confirmed with the release and whose own entry no longer states that.
    pub confirmed: u32,
    /// Times at which the release's notices were raised.
    pub noticed: Noticed,
    /// Names of those who changed the release.
    pub authors: Authors,
}

/// Names of the tokens with which a release was changed through the operator port. Empty: no change, or unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Authors {
    /// Name of the token of the last upload to the release.
    pub published: Box<str>,
    /// Name of the token of the pause.
    pub paused: Box<str>,
}

/// One change by a person, a command or the fuse.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangeEntry {
    /// Number of the change; later changes have higher numbers.
    pub serial: u64,
    /// Time of the change by the machine's clock, in Unix seconds.
    pub unix: i64,
    /// Name of the token; [`super::changes`] describes the changes without one.
    pub by: Box<str>,
    /// Action in one word.
    pub action: Box<str>,
    /// The project; empty if it does not apply.
    pub project: Box<str>,
    /// The version; empty if it does not apply.
    pub version: Box<str>,
    /// Details in a form for people.
    pub detail: Box<str>,
}

/// Times at which the notices that a release raises once were raised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Noticed {
    /// Time of the first confirmation of an established device.
    pub first_confirmed: Option<Stamp>,
    /// Time at which too many devices were silent.
    pub too_many_silent: Option<Stamp>,
}

impl JournalEntry {
    /// First keys of the lines of entries.
    pub const KINDS: [&str; 10] = [
        "device",
        "forgotten",
        "pin",
        "unpinned",
        "guard",
        "unguarded",
        "release",
        "sample",
        "stage",
        "change",
    ];

    /// Priority of a line whose writing nothing waits for.
    pub fn priority(&self) -> Priority {
        match self {
            JournalEntry::Device(device) => match &device.progress {
                None => Priority::Seen,
                Some(progress) if progress.state == State::Offered => Priority::Minor,
                Some(_) => Priority::Major,
            },
            JournalEntry::Pin(_) | JournalEntry::Unpinned(_) => Priority::Minor,
            _ => Priority::Major,
        }
    }

    /// Returns the latest past time in the entry.
    pub fn latest(&self) -> Option<Stamp> {
        match self {
            JournalEntry::Device(device) => {
                let since = device.progress.as_ref().map(|progress| progress.since);
                since.max(Some(device.last))
            }
            JournalEntry::Pin(pin) => Some(pin.used),
            JournalEntry::Guard(guard) => guard.delivered.max(Some(guard.used)),
            JournalEntry::Release(release) => Some(release.first),
            JournalEntry::Stage(stage) => Some(stage.since),
            _ => None,
        }
    }

    /// Writes the fields of the entry's line.
    pub fn write(&self, line: &mut LineWriter<'_>) {
        match self {
            JournalEntry::Device(device) => {
                device.write_individual(line);
                device.write_common(line, "project");
            }
            JournalEntry::Forgotten(device) => write_id(line, "forgotten", *device),
            JournalEntry::Pin(pin) => pin.write(line),
            JournalEntry::Unpinned(owner) => line.hash("unpinned", owner.0),
            JournalEntry::Guard(guard) => guard.write(line),
            JournalEntry::Unguarded(identity, network) => {
                line.hash("unguarded", identity.0);
                line.plain("wide", network.0);
            }
            JournalEntry::Release(release) => release.write(line),
            JournalEntry::Sample(sample) => sample.write(line),
            JournalEntry::Stage(stage) => stage.write(line),
            JournalEntry::Change(change) => change.write(line),
        }
    }

    /// Reads a line of one of [`JournalEntry::KINDS`]; `None` if a field is missing or invalid.
    pub fn read(kind: &str, fields: &Fields<'_>) -> Option<JournalEntry> {
        Some(match kind {
            "device" => JournalEntry::Device(DeviceEntry::read(fields)?),
            "forgotten" => JournalEntry::Forgotten(parse_id(fields.text("forgotten")?)?),
            "pin" => JournalEntry::Pin(PinEntry::read(fields)?),
            "unpinned" => JournalEntry::Unpinned(PinKey(fields.hash("unpinned")?)),
            "guard" => JournalEntry::Guard(GuardEntry::read(fields)?),
            "unguarded" => JournalEntry::Unguarded(
                IdentityHash(fields.hash("unguarded")?),
                CoarseNetwork(fields.number("wide")?),
            ),
            "release" => JournalEntry::Release(ReleaseEntry::read(fields)?),
            "sample" => JournalEntry::Sample(SampleEntry::read(fields)?),
            "stage" => JournalEntry::Stage(StageEntry::read(fields)?),
            "change" => JournalEntry::Change(ChangeEntry::read(fields)?),
            _ => return None,
        })
    }
}

impl PinEntry {
    fn write(&self, line: &mut LineWriter<'_>) {
        line.hash("pin", self.owner.0);
        if self.statement != 0 {
            line.hash("said", self.statement);
        }
        line.word("content", self.content);
        line.time("used", self.used);
        line.count("reach", self.reach);
        line.count("worth", self.worth);
    }

    fn read(fields: &Fields<'_>) -> Option<PinEntry> {
        let owner = fields.hash("pin")?;
        // Before 0.1.0 a pin belonged to one network and had no reach, and its key was the hash that is now `said`.
        let is_old = fields.has("network");
        Some(PinEntry {
            owner: PinKey(owner),
            statement: match fields.has("said") {
                true => fields.hash("said")?,
                false if is_old => owner,
                false => 0,
            },
            content: fields.content("content")?,
            used: fields.time("used")?,
            reach: match is_old {
                true => u64::MAX,
                false => fields.number("reach").unwrap_or(0),
            },
            worth: match is_old {
                true => OLD_PIN_WORTH,
                false => fields.number("worth").unwrap_or(0),
            },
        })
    }
}

impl ReleaseEntry {
    fn write(&self, line: &mut LineWriter<'_>) {
        line.text("release", &self.version);
        line.text("project", &self.project);
        line.time("first", self.first);
        if let Some(fused) = &self.fused {
            line.text("fused", fused);
        }
        if let Some(before) = self.before {
            line.word("before", before);
        }
        line.optional_time("resumed", self.resumed);
        line.count("confirmed", self.confirmed);
        line.optional_time("first_confirmed", self.noticed.first_confirmed);
        line.optional_time("too_many_silent", self.noticed.too_many_silent);
        line.optional_text("published_by", &self.authors.published);
        line.optional_text("paused_by", &self.authors.paused);
    }

    fn read(fields: &Fields<'_>) -> Option<ReleaseEntry> {
        Some(ReleaseEntry {
            project: fields.text("project")?.into(),
            version: fields.text("release")?.into(),
            first: fields.time("first")?,
            fused: fields.text("fused").map(Box::from),
            before: fields.content("before"),
            resumed: fields.time("resumed"),
            confirmed: fields.count("confirmed")?,
            noticed: Noticed {
                first_confirmed: fields.time("first_confirmed"),
                too_many_silent: fields.time("too_many_silent"),
            },
            authors: Authors {
                published: fields.text("published_by").unwrap_or_default().into(),
                paused: fields.text("paused_by").unwrap_or_default().into(),
            },
        })
    }
}

impl ChangeEntry {
    /// Action of an upload.
    pub const UPLOAD: &str = "upload";

    /// Action of lifting a device's hold.
    pub const LIFT: &str = "lift";

    /// Action of a pause.
    pub const PAUSE: &str = "pause";

    /// Action of the end of a pause.
    pub const RESUME: &str = "resume";

    /// Largest number of characters of a detail.
    const MAX_DETAIL: usize = 512;

    /// Creates a change without number, time and author.
    pub fn new(action: &str, project: &str, version: &str, detail: &str) -> ChangeEntry {
        ChangeEntry {
            action: action.into(),
            project: project.into(),
            version: version.into(),
            detail: detail.chars().take(ChangeEntry::MAX_DETAIL).collect(),
            ..ChangeEntry::default()
        }
    }

    fn write(&self, line: &mut LineWriter<'_>) {
        line.plain("change", self.serial);
        line.plain("when", self.unix);
        line.text("by", &self.by);
        line.text("action", &self.action);
        line.optional_text("project", &self.project);
        line.optional_text("version", &self.version);
        line.optional_text("detail", &self.detail);
    }

    fn read(fields: &Fields<'_>) -> Option<ChangeEntry> {
        let text = |key| -> Box<str> { fields.text(key).unwrap_or_default().into() };
        Some(ChangeEntry {
            serial: fields.number("change")?,
            unix: fields.signed("when")?,
            by: text("by"),
            action: text("action"),
            project: text("project"),
            version: text("version"),
            detail: text("detail"),
        })
    }
}
