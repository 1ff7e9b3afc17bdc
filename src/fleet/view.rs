//! What the fleet shows to people: the operator's API, and `luat-ota devices`.

use std::sync::Arc;

use super::clock::Wall;
use super::entry::DeviceEntry;
use super::progress::State;
use super::report::Report;
use crate::firmware::catalog::Groups;

/// One device, for people.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceView {
    /// What the journal keeps of it.
    pub entry: DeviceEntry,
    /// Turns the entry's stamps into Unix times.
    pub wall: Wall,
    /// It is on probation: seen once, and not in the journal.
    pub probation: bool,
    /// What it last reported about the release of its journey (libfota3); not kept over a restart of the server.
    pub reported: Option<Report>,
    /// It stands in the list of known devices.
    pub listed: bool,
    /// The name that a group gives it.
    pub name: Option<Box<str>>,
    /// What the loop guard holds it back from.
    pub held: Vec<HoldView>,
}

/// What the loop guard knows of one device and one content.
#[derive(Clone, Debug, PartialEq)]
pub struct HoldView {
    /// The file's hash, 64 hexadecimal digits.
    pub content: String,
    /// Not offered again before (Unix seconds); `None`: it is not held.
    pub until: Option<i64>,
    /// Times that it came back with the version unchanged.
    pub reverts: u32,
    /// Bytes that it was sent.
    pub sent: u64,
}

/// A filter of devices.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// The beginning of the id.
    pub prefix: String,
    /// The beginning or the end of the id, or a part of the name; letters of either case.
    pub search: String,
    /// Has the names of the devices.
    pub names: Option<Arc<Groups>>,
    /// The project that it asks for.
    pub project: Option<String>,
    /// The version that it runs.
    pub version: Option<String>,
    /// Its platform, in letters of either case.
    pub platform: Option<String>,
    /// The version of the release that it was last offered, or was confirmed with before.
    pub to: Option<String>,
    /// State of its journey. With `to`: its state as the release counts it.
    pub state: Option<State>,
    /// Only devices that the loop guard holds.
    pub held: bool,
}

/// A page of devices.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DevicePage {
    /// The devices.
    pub devices: Vec<DeviceView>,
    /// Where the next page begins; `None`: there is none. A page may be short, or empty, and not the
    /// last: only so many records are looked through at a time.
    pub next: Option<u32>,
}
