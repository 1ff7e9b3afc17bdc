//! Views of devices for the operator's API and `luat-ota devices`.

use std::sync::Arc;

use super::clock::Wall;
use super::entry::DeviceEntry;
use super::progress::State;
use super::report::Report;
use crate::firmware::catalog::Groups;

/// One device, as shown to the operator.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceView {
    /// The part of the device's record that the journal keeps.
    pub entry: DeviceEntry,
    /// Reference for the conversion of the entry's stamps to Unix times.
    pub wall: Wall,
    /// Whether the device is on probation: seen once, and not in the journal.
    pub probation: bool,
    /// Last result report of the device (libfota3) about the release that it is on its way to; lost when the server
    /// restarts.
    pub reported: Option<Report>,
    /// Whether the list of known devices contains the device.
    pub listed: bool,
    /// Name that a group gives the device.
    pub name: Option<Box<str>>,
    /// Contents against which the loop guard has evidence for this device, held or not.
    pub held: Vec<HoldView>,
}

/// Evidence of the loop guard against one content for one device.
#[derive(Clone, Debug, PartialEq)]
pub struct HoldView {
    /// Content id of the file, 64 hexadecimal digits.
    pub content: String,
    /// End of the hold, in Unix seconds; `None` if the content is not held.
    pub until: Option<i64>,
    /// Number of times that the device came back with its version unchanged.
    pub reverts: u32,
    /// Number of bytes of the content that were sent to the device.
    pub sent: u64,
}

/// Filter for devices.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Beginning of the id.
    pub prefix: String,
    /// Beginning or end of the id, or part of the name; case-insensitive.
    pub search: String,
    /// Groups that give the devices the names for `search`.
    pub names: Option<Arc<Groups>>,
    /// Project that the device asks for.
    pub project: Option<String>,
    /// Version that the device runs.
    pub version: Option<String>,
    /// Platform of the device; case-insensitive.
    pub platform: Option<String>,
    /// Version of the release that the device was last offered, or was confirmed with before.
    pub to: Option<String>,
    /// State of the device on its way to a release. With `to`: its state as that release counts it.
    pub state: Option<State>,
    /// Whether only devices with a hold match.
    pub held: bool,
}

/// A page of devices.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DevicePage {
    /// The devices.
    pub devices: Vec<DeviceView>,
    /// Start of the next page; `None` if this is the last one. A page may be short or empty without being the last,
    /// because only a bounded number of records is examined for each page.
    pub next: Option<u32>,
}
