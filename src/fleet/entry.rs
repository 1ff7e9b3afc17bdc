//! What the journal holds: each entry is the whole of one record as it now stands, so that the last one
//! of a key wins and compaction is writing every record once. `journal` turns entries into lines and
//! back; the fleet turns its records into entries and back.
//!
//! What would surprise you: times are [`Stamp`]s here. In the journal's lines they are Unix seconds;
//! `journal` translates, and knows where the clock was stepped.

use super::clock::Stamp;
use super::journey::{Outcome, State};
use super::network::{CoarseNetwork, Network};
use super::profiles::Profile;
use super::requester::{IdentityHash, PinKey};
use crate::firmware::ContentId;
use crate::firmware::audience::DeviceId;

/// One record.
#[derive(Clone, Debug, PartialEq)]
pub enum JournalEntry {
    /// A device and its journey.
    Device(DeviceEntry),
    /// This device is forgotten.
    Forgotten(DeviceId),
    /// A download began with this content.
    Pin(PinEntry),
    /// All pins of this key are over.
    Unpinned(PinKey),
    /// What speaks against giving a device a content again.
    Guard(GuardEntry),
    /// Nothing does any more.
    Unguarded(IdentityHash, CoarseNetwork),
    /// A release, as the fleet knows it.
    Release(ReleaseEntry),
}

/// One device.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceEntry {
    /// The id.
    pub device: DeviceId,
    /// Its text; for an id that is neither IMEI nor MAC the only place where it stands.
    pub text: Box<str>,
    /// The project that it asks for.
    pub project: Box<str>,
    /// The version that it says it runs (at most 22 bytes).
    pub version: Box<str>,
    /// When it was first seen.
    pub first: Stamp,
    /// When it was last seen.
    pub last: Stamp,
    /// Seconds between its checks, as observed; 0: not known yet.
    pub interval: u32,
    /// The network it last asked from.
    pub network: Option<Network>,
    /// What it states of itself besides id and version; `None`: not known.
    pub profile: Option<Profile<'static>>,
    /// The releases that it was confirmed with before that of its journey (project and version), the earliest
    /// first.
    pub confirmed: Vec<(Box<str>, Box<str>)>,
    /// Where it stands on its way, and to what; `None`: nothing was offered yet.
    pub journey: Option<JourneyEntry>,
}

/// A device's way to one release.
#[derive(Clone, Debug, PartialEq)]
pub struct JourneyEntry {
    /// The release's project.
    pub project: Box<str>,
    /// The release's version, as its folder writes it.
    pub version: Box<str>,
    /// The file.
    pub content: ContentId,
    /// Its size in bytes.
    pub size: u64,
    /// Where it stands.
    pub state: State,
    /// Since when.
    pub since: Stamp,
    /// It has the bytes before this one.
    pub reached: u64,
    /// The last result.
    pub outcome: Option<Outcome>,
    /// Weak attempts in a row.
    pub weak: u8,
    /// The last delivery was a trusted proxy's.
    pub by_proxy: bool,
    /// The version that it ran when it was offered.
    pub from: Box<str>,
}

/// One pin.
#[derive(Clone, Debug, PartialEq)]
pub struct PinEntry {
    /// Key of the pin, with `said` and `content`.
    pub owner: PinKey,
    /// Hash of all that the device says of itself; 0 without an id.
    pub said: u64,
    /// The content that was begun.
    pub content: ContentId,
    /// Time of the last use.
    pub used: Stamp,
    /// Clients have at most the bytes before this one.
    pub reach: u64,
    /// [`PinWorth`](super::pins::PinWorth) as a number.
    pub worth: u8,
}

/// One whole download after which the device came back with its old version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Round {
    /// When it came back.
    pub at: Stamp,
    /// The download was a trusted proxy's.
    pub weak: bool,
}

/// One entry of the loop guard.
#[derive(Clone, Debug, PartialEq)]
pub struct GuardEntry {
    /// The device's id (to lift by).
    pub device: DeviceId,
    /// The key, with `wide`.
    pub identity_without_version: IdentityHash,
    /// Where it asks from.
    pub coarse_network: CoarseNetwork,
    /// The content.
    pub content: ContentId,
    /// A hash of the version that it runs all the while.
    pub version: u64,
    /// Times that it came back with the version unchanged after a delivery.
    pub reverts: u32,
    /// Redirects that it was given.
    pub redirects: u32,
    /// Bytes that were sent.
    pub sent: u64,
    /// How often it was held before.
    pub level: u32,
    /// Not offered again before; `None`: not held now.
    pub held_until: Option<Stamp>,
    /// When it last had all of it, if it has not come back since.
    pub delivered: Option<Stamp>,
    /// That delivery was a trusted proxy's.
    pub by_proxy: bool,
    /// When it was last redirected for it, if that was not counted yet.
    pub redirected: Option<Stamp>,
    /// When it came back with the new version, if the old one was not seen since.
    pub confirmed: Option<Stamp>,
    /// The last whole download was counted as a revert, and no other has come since.
    pub reverted: bool,
    /// The last rounds (a download and the old version again), oldest first.
    pub rounds: Vec<Round>,
    /// The version that the device ran when it last began to download.
    pub from: Box<str>,
    /// The version of the release.
    pub to: Box<str>,
    /// A hash of the version that it ran before `version`; 0: none.
    pub before: u64,
    /// When any of this last changed.
    pub used: Stamp,
}

/// One release.
#[derive(Clone, Debug, PartialEq)]
pub struct ReleaseEntry {
    /// The project.
    pub project: Box<str>,
    /// The version, as its folder writes it.
    pub version: Box<str>,
    /// When it was first in the folder.
    pub first: Stamp,
    /// The fuse has tripped; the sentence.
    pub fused: Option<Box<str>>,
    /// The SHA-256 of the release.json before that; `None`: there was none, or it has not tripped.
    pub before: Option<ContentId>,
    /// When a person last resumed it after the fuse: what devices made of it before counts no more.
    pub resumed: Option<Stamp>,
    /// Devices that were confirmed with it and whose own entry does not say so any more.
    pub confirmed: u32,
}
