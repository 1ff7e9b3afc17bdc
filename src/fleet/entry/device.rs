//! The journal's entry of a device and of its journey.

use std::borrow::Cow;

use super::fields::{Fields, LineWriter};
use crate::decision::Check;
use crate::firmware::ContentId;
use crate::firmware::audience::DeviceId;
use crate::fleet::clock::Stamp;
use crate::fleet::journey::{Outcome, State};
use crate::fleet::network::Network;
use crate::fleet::profiles::Profile;

/// One device, as the journal keeps it and people see it.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceEntry {
    /// The id.
    pub device: DeviceId,
    /// The id as the device writes it. An id that is neither an IMEI nor a MAC is kept nowhere else.
    pub text: Box<str>,
    /// The project that it asks for.
    pub project: Box<str>,
    /// The version that it reports (at most 22 bytes).
    pub version: Box<str>,
    /// When it was first seen.
    pub first: Stamp,
    /// When it was last seen.
    pub last: Stamp,
    /// Observed time between its checks in seconds; 0: not known yet.
    pub interval: u32,
    /// The network that it last asked from.
    pub network: Option<Network>,
    /// What it states besides id and version; `None`: not known.
    pub profile: Option<Profile<'static>>,
    /// Releases (project and version) that it was confirmed with before that of its journey, earliest first.
    pub confirmed: Vec<(Box<str>, Box<str>)>,
    /// Progress towards the release that was last offered; `None`: nothing was offered yet.
    pub journey: Option<JourneyEntry>,
}

/// Progress of a device towards one release.
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
    /// State of the journey.
    pub state: State,
    /// When that state began.
    pub since: Stamp,
    /// Number of bytes that the device has, without a gap.
    pub reached: u64,
    /// The last result.
    pub outcome: Option<Outcome>,
    /// Consecutive weak attempts.
    pub weak: u8,
    /// The last delivery was to a trusted proxy.
    pub by_proxy: bool,
    /// The version that the device ran when it was offered.
    pub from: Box<str>,
}

impl DeviceEntry {
    /// A device that was seen once. `text`: its id as it writes it.
    pub fn new(
        device: DeviceId,
        text: &str,
        project: &str,
        version: &str,
        seen: Stamp,
    ) -> DeviceEntry {
        DeviceEntry {
            device,
            text: text.into(),
            project: project.into(),
            version: version.into(),
            first: seen,
            last: seen,
            interval: 0,
            network: None,
            profile: None,
            confirmed: Vec::new(),
            journey: None,
        }
    }

    /// The check that the device sends, as far as it is known.
    pub fn check(&self) -> Check<'_> {
        let profile = self.profile.as_ref().map(Profile::borrowed);
        known_check(
            self.device,
            &self.text,
            &self.version,
            &self.project,
            profile,
        )
    }

    pub(super) fn write(&self, line: &mut LineWriter<'_>) {
        write_id(line, "device", self.device);
        if *self.text != *usual_text(self.device) {
            line.text("text", &self.text);
        }
        line.text("project", &self.project);
        line.text("version", &self.version);
        line.time("first", self.first);
        line.time("last", self.last);
        line.count("interval", self.interval);
        if let Some(network) = self.network {
            line.word("network", network);
        }
        if let Some(profile) = &self.profile {
            write_profile(line, profile);
        }
        if !self.confirmed.is_empty() {
            line.text("confirmed", &self.confirmed_text());
        }
        if let Some(journey) = &self.journey {
            journey.write(line, &self.project);
        }
    }

    pub(super) fn read(fields: &Fields) -> Option<DeviceEntry> {
        let device = parse_id(fields.text("device")?)?;
        let project = fields.text("project")?;
        Some(DeviceEntry {
            device,
            text: match fields.text("text") {
                Some(text) => text.into(),
                None => usual_text(device).into(),
            },
            project: project.into(),
            version: fields.text("version")?.into(),
            first: fields.time("first")?,
            last: fields.time("last")?,
            interval: fields.count("interval")?,
            network: match fields.has("network") {
                true => Some(Network::parse(fields.text("network")?)?),
                false => None,
            },
            profile: read_profile(fields),
            confirmed: read_confirmed(fields.text("confirmed").unwrap_or_default(), project),
            journey: match fields.has("to") {
                true => Some(JourneyEntry::read(fields, project)?),
                false => None,
            },
        })
    }

    /// `1.0.1,1.0.2`; a release of another project follows its name: `OTHER/1.0.1`. Neither name has a comma.
    fn confirmed_text(&self) -> String {
        let texts = self.confirmed.iter().map(|(project, version)| {
            let is_own = *project == self.project;
            match is_own {
                true => version.to_string(),
                false => format!("{project}/{version}"),
            }
        });
        texts.collect::<Vec<String>>().join(",")
    }
}

/// The check that a device sends, as far as it is known.
pub fn known_check<'a>(
    device: DeviceId,
    text: &'a str,
    version: &'a str,
    project: &'a str,
    profile: Option<Profile<'a>>,
) -> Check<'a> {
    let mut check = Check {
        device: Some(device),
        device_text: text.into(),
        version: version.into(),
        ..Check::default()
    };
    match profile {
        Some(profile) => profile.fill(&mut check),
        None => check.path_project = Some(project.into()),
    }
    check
}

fn read_confirmed(text: &str, project: &str) -> Vec<(Box<str>, Box<str>)> {
    let releases = text.split(',').filter(|release| !release.is_empty());
    releases
        .map(|release| release.rsplit_once('/').unwrap_or((project, release)))
        .map(|(project, version)| (project.into(), version.into()))
        .collect()
}

impl JourneyEntry {
    /// An offer. `from`: the version that the device runs.
    pub fn new(
        project: &str,
        version: &str,
        content: ContentId,
        size: u64,
        from: &str,
        since: Stamp,
    ) -> JourneyEntry {
        JourneyEntry {
            project: project.into(),
            version: version.into(),
            content,
            size,
            state: State::Offered,
            since,
            reached: 0,
            outcome: None,
            weak: 0,
            by_proxy: false,
            from: from.into(),
        }
    }

    /// `project`: the one that the device asks for.
    fn write(&self, line: &mut LineWriter<'_>, project: &str) {
        line.text("to", &self.version);
        if *self.project != *project {
            line.text("to_project", &self.project);
        }
        line.word("content", self.content);
        line.plain("size", self.size);
        line.word("state", self.state.word());
        line.time("since", self.since);
        line.count("reached", self.reached);
        if self.outcome != usual_outcome(self.state) {
            line.word("outcome", self.outcome.map_or("none", Outcome::word));
        }
        line.count("weak", self.weak);
        line.flag("by_proxy", self.by_proxy);
        line.text("from", &self.from);
    }

    fn read(fields: &Fields, project: &str) -> Option<JourneyEntry> {
        let state = State::of_word(fields.text("state")?)?;
        Some(JourneyEntry {
            project: fields.text("to_project").unwrap_or(project).into(),
            version: fields.text("to")?.into(),
            content: fields.content("content")?,
            size: fields.number("size")?,
            state,
            outcome: match fields.text("outcome") {
                Some(word) => Outcome::of_word(word),
                None => usual_outcome(state),
            },
            weak: fields.count("weak")?,
            by_proxy: fields.flag("by_proxy"),
            since: fields.time("since")?,
            reached: fields.count("reached")?,
            from: fields.text("from")?.into(),
        })
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

fn write_profile(line: &mut LineWriter<'_>, profile: &Profile<'_>) {
    let texts = [
        ("name", &profile.firmware_name),
        ("path", &profile.path_project),
        ("key", &profile.project_key),
    ];
    for (key, text) in texts {
        if let Some(text) = text {
            line.text(key, text);
        }
    }
    if let Some(core) = profile.core_version {
        line.plain("core", core);
    }
    line.flag("redirect", profile.need_oss_url);
    if let Some(largest) = profile.largest {
        line.plain("largest", largest);
    }
}

/// The profile. No check is without a name in it and in its path.
fn read_profile(fields: &Fields) -> Option<Profile<'static>> {
    let text = |key| fields.text(key).map(|text| Cow::Owned(text.to_owned()));
    let (firmware_name, path_project) = (text("name"), text("path"));
    let is_there = firmware_name.is_some() || path_project.is_some();
    is_there.then(|| Profile {
        firmware_name,
        path_project,
        core_version: fields.number("core"),
        project_key: text("key"),
        need_oss_url: fields.flag("redirect"),
        largest: fields.number("largest"),
    })
}

/// Writes an id: `"imei:862991443753386"`, `"mac:0123456789AB"`, or the hash of any other, `"other:0123456789abcdef"`.
pub(super) fn write_id(line: &mut LineWriter<'_>, key: &str, device: DeviceId) {
    match device {
        DeviceId::Imei(number) => line.word(key, format_args!("imei:{number:015}")),
        DeviceId::Mac(number) => line.word(key, format_args!("mac:{number:012X}")),
        DeviceId::Other(hash) => line.word(key, format_args!("other:{hash:016x}")),
    }
}

pub(super) fn parse_id(text: &str) -> Option<DeviceId> {
    let (kind, number) = text.split_once(':')?;
    match kind {
        "imei" => number.parse().ok().map(DeviceId::Imei),
        "mac" => u64::from_str_radix(number, 16).ok().map(DeviceId::Mac),
        "other" => u64::from_str_radix(number, 16).ok().map(DeviceId::Other),
        _ => None,
    }
}

/// The text of an id that follows from the id, and is not written.
fn usual_text(device: DeviceId) -> String {
    match device {
        DeviceId::Imei(number) => format!("{number:015}"),
        DeviceId::Mac(number) => format!("{number:012X}"),
        DeviceId::Other(_) => String::new(),
    }
}
