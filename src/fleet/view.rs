//! What the fleet shows to people: the operator's API, and `luat-ota devices`.

use super::journey::State;
use super::network::Network;
use super::report::Report;
use crate::decision::Check;

/// One device, for people. Times are Unix seconds.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceView {
    /// Its id as it writes it.
    pub id: String,
    /// `imei`, `mac` or `other`.
    pub kind: &'static str,
    /// The project that it asks for.
    pub project: String,
    /// The version that it says it runs.
    pub version: String,
    /// When it was first seen.
    pub first: i64,
    /// When it was last seen.
    pub last: i64,
    /// Seconds between its checks; 0: not known yet.
    pub interval: u32,
    /// It is on probation: seen once, and not in the journal.
    pub probation: bool,
    /// It stands in the list of known devices.
    pub listed: bool,
    /// Its way to the release that was last offered.
    pub journey: Option<JourneyView>,
    /// The network from which it was last seen.
    pub network: Option<Network>,
    /// The check that it sends.
    pub check: Check<'static>,
    /// The check is all that it sent; otherwise only id, project and version are known.
    pub is_whole: bool,
    /// What it is held back from, if the loop guard holds it.
    pub held: Vec<HoldView>,
}

/// A way to one release.
#[derive(Clone, Debug, PartialEq)]
pub struct JourneyView {
    /// The release's version.
    pub version: String,
    /// The file's hash, 64 hexadecimal digits.
    pub content: String,
    /// Where it stands.
    pub state: State,
    /// Since when.
    pub since: i64,
    /// Bytes that it has.
    pub reached: u64,
    /// Bytes of the whole file.
    pub size: u64,
    /// The version that it ran before.
    pub from: String,
    /// The result that the module last reported (libfota3); not kept over a restart of the server.
    pub reported: Option<Report>,
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

/// Which devices are wanted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// The beginning of the id.
    pub prefix: String,
    /// The project that it asks for.
    pub project: Option<String>,
    /// The version that it runs.
    pub version: Option<String>,
    /// Where its journey stands.
    pub state: Option<State>,
    /// Only those that the loop guard holds.
    pub held: bool,
}

/// Some devices, and where to go on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DevicePage {
    /// The devices.
    pub devices: Vec<DeviceView>,
    /// Where the next page begins; `None`: there is none. A page may be short, or empty, and not the
    /// last: only so many records are looked through at a time.
    pub next: Option<u32>,
}
