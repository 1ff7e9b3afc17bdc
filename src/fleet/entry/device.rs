//! The journal's entry of a device and of its update progress.

use std::borrow::Cow;
use std::rc::Rc;

use super::fields::{Fields, LineWriter};
use crate::decision::Check;
use crate::firmware::ContentId;
use crate::firmware::audience::DeviceId;
use crate::fleet::clock::Stamp;
use crate::fleet::network::Network;
use crate::fleet::profiles::Profile;
use crate::fleet::progress::{Outcome, State};

/// One device, as the journal keeps it and people see it. Copies share the texts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DeviceEntry {
    /// The id.
    pub device: DeviceId,
    /// The id as the device writes it. Of an id that is neither an IMEI nor a MAC, this is the only copy.
    pub text: Box<str>,
    /// The project that the device asks for.
    pub project: Rc<str>,
    /// The version that the device reports (at most 22 bytes).
    pub version: Rc<str>,
    /// Time at which the device was first seen.
    pub first: Stamp,
    /// Time at which the device was last seen.
    pub last: Stamp,
    /// Observed time between the device's checks in seconds; 0: unknown.
    pub interval: u32,
    /// The network from which the last check came.
    pub network: Option<Network>,
    /// Statements of the device besides its id and version; `None`: unknown.
    pub profile: Option<Rc<Profile<'static>>>,
    /// Releases (project and version) that the device was confirmed with before that of `progress`, earliest first.
    pub confirmed: Vec<(Rc<str>, Rc<str>)>,
    /// Progress towards the release that was last offered; `None`: nothing was offered yet.
    pub progress: Option<ProgressEntry>,
}

/// Progress of a device towards one release.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ProgressEntry {
    /// The release's project.
    pub project: Rc<str>,
    /// The release's version, as its folder writes it.
    pub version: Rc<str>,
    /// The file.
    pub content: ContentId,
    /// Size of the file in bytes.
    pub size: u64,
    /// State of the update.
    pub state: State,
    /// Time at which `state` began.
    pub since: Stamp,
    /// Number of bytes that the device has, without a gap.
    pub reached: u64,
    /// Last result of the device.
    pub outcome: Option<Outcome>,
    /// Number of consecutive weak attempts.
    pub weak: u8,
    /// Whether the last delivery was to a trusted proxy.
    pub by_proxy: bool,
    /// Version that the device ran when it was offered the release.
    pub from: Rc<str>,
}

impl DeviceEntry {
    /// Creates the entry of a device that was seen once. `text` is its id as the device writes it.
    pub fn new(
        device: DeviceId,
        text: &str,
        project: impl Into<Rc<str>>,
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
            progress: None,
        }
    }

    /// Returns the check that the device sends, as far as it is known.
    pub fn check(&self) -> Check<'_> {
        let profile = self.profile.as_deref().map(Profile::borrowed);
        known_check(
            self.device,
            &self.text,
            &self.version,
            &self.project,
            profile,
        )
    }

    /// Returns the fields that the device may have in common with others, in an entry whose other fields are empty.
    pub fn common(&self) -> DeviceEntry {
        DeviceEntry {
            device: DeviceId::Other(0),
            text: Box::default(),
            project: self.project.clone(),
            version: self.version.clone(),
            first: Stamp::default(),
            last: Stamp::default(),
            interval: 0,
            network: None,
            profile: self.profile.clone(),
            confirmed: self.confirmed.clone(),
            progress: self.progress.as_ref().map(ProgressEntry::common),
        }
    }

    /// Writes all fields except those that [`DeviceEntry::common`] returns.
    pub fn write_individual(&self, line: &mut LineWriter<'_>) {
        write_id(line, "device", self.device);
        if self.text != default_text(self.device) {
            line.text("text", &self.text);
        }
        line.time("first", self.first);
        line.time("last", self.last);
        line.count("interval", self.interval);
        if let Some(network) = self.network {
            line.word("network", network);
        }
        if let Some(progress) = &self.progress {
            line.time("since", progress.since);
            line.count("weak", progress.weak);
            if progress.reached != progress.size {
                line.count("reached", progress.reached);
            }
        }
    }

    /// Writes the fields that [`DeviceEntry::common`] returns. `key` is the key of the project.
    pub fn write_common(&self, line: &mut LineWriter<'_>, key: &str) {
        line.text(key, &self.project);
        line.text("version", &self.version);
        if let Some(profile) = &self.profile {
            write_profile(line, profile);
        }
        if !self.confirmed.is_empty() {
            line.text("confirmed", &self.confirmed_text());
        }
        if let Some(progress) = &self.progress {
            progress.write_common(line, &self.project);
        }
    }

    pub(super) fn read(fields: &Fields<'_>) -> Option<DeviceEntry> {
        let common = DeviceEntry::read_common(fields, "project")?;
        IndividualFields::read(fields)?.with(common)
    }

    /// Reads the fields that [`DeviceEntry::write_common`] wrote.
    pub fn read_common(fields: &Fields<'_>, key: &str) -> Option<DeviceEntry> {
        let project: Rc<str> = fields.text(key)?.into();
        let progress = match fields.has("to") {
            true => Some(ProgressEntry::read_common(fields, &project)?),
            false => None,
        };
        let confirmed = fields.text("confirmed").unwrap_or_default();
        Some(DeviceEntry {
            version: fields.text("version")?.into(),
            profile: read_profile(fields).map(Rc::new),
            confirmed: read_confirmed(confirmed, &project),
            progress,
            ..DeviceEntry::new(DeviceId::Other(0), "", project, "", Stamp::default())
        })
    }

    /// Returns a text such as `1.0.1,1.0.2`. A release of another project follows the project's name: `OTHER/1.0.1`.
    /// Neither name contains a comma.
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

/// The fields of a device that others do not share; [`DeviceEntry::common`] returns the rest.
#[derive(Debug)]
pub struct IndividualFields {
    device: DeviceId,
    /// The id as the device writes it; `None`: the usual form.
    text: Option<Box<str>>,
    first: Stamp,
    last: Stamp,
    interval: u32,
    network: Option<Network>,
    /// Time at which the state of the update began.
    since: Option<Stamp>,
    weak: u8,
    /// Number of bytes that the device has; `None`: as in the common line.
    reached: Option<u64>,
}

impl IndividualFields {
    /// Reads the fields that [`DeviceEntry::write_individual`] wrote.
    pub fn read(fields: &Fields<'_>) -> Option<IndividualFields> {
        Some(IndividualFields {
            device: parse_id(fields.text("device")?)?,
            text: fields.text("text").map(Box::from),
            first: fields.time("first")?,
            last: fields.time("last")?,
            interval: fields.count("interval")?,
            network: match fields.has("network") {
                true => Some(Network::parse(fields.text("network")?)?),
                false => None,
            },
            since: fields.time("since"),
            weak: fields.count("weak")?,
            reached: match fields.has("reached") {
                true => Some(fields.number("reached")?),
                false => None,
            },
        })
    }

    /// Returns the entry of a device with these common fields; `None` if a field is missing.
    pub fn with(self, common: DeviceEntry) -> Option<DeviceEntry> {
        let progress = match common.progress {
            Some(progress) => Some(ProgressEntry {
                since: self.since?,
                weak: self.weak,
                reached: self.reached.unwrap_or(progress.reached),
                ..progress
            }),
            None => None,
        };
        Some(DeviceEntry {
            device: self.device,
            text: self.text.unwrap_or_else(|| default_text(self.device)),
            first: self.first,
            last: self.last,
            interval: self.interval,
            network: self.network,
            progress,
            ..common
        })
    }
}

/// Returns the check that a device sends, as far as it is known.
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

fn read_confirmed(text: &str, project: &Rc<str>) -> Vec<(Rc<str>, Rc<str>)> {
    let releases = text.split(',').filter(|release| !release.is_empty());
    releases
        .map(|release| match release.rsplit_once('/') {
            Some((project, version)) => (project.into(), version.into()),
            None => (project.clone(), release.into()),
        })
        .collect()
}

impl ProgressEntry {
    /// Creates the progress of a device that was offered the release. `from` is the version that the device runs.
    pub fn new(
        project: &str,
        version: &str,
        content: ContentId,
        size: u64,
        from: &str,
        since: Stamp,
    ) -> ProgressEntry {
        ProgressEntry {
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

    /// See [`DeviceEntry::common`]. `reached` is common only if the device has the whole file, which is the usual case.
    fn common(&self) -> ProgressEntry {
        let has_all = self.reached == self.size;
        ProgressEntry {
            since: Stamp::default(),
            weak: 0,
            reached: if has_all { self.size } else { 0 },
            ..self.clone()
        }
    }

    /// Writes the common fields. `project` is the one that the device asks for.
    fn write_common(&self, line: &mut LineWriter<'_>, project: &str) {
        line.text("to", &self.version);
        if *self.project != *project {
            line.text("to_project", &self.project);
        }
        line.word("content", self.content);
        line.plain("size", self.size);
        line.word("state", self.state.word());
        if self.reached == self.size {
            line.count("reached", self.reached);
        }
        if self.outcome != default_outcome(self.state) {
            line.word("outcome", self.outcome.map_or("none", Outcome::word));
        }
        line.flag("by_proxy", self.by_proxy);
        line.text("from", &self.from);
    }

    fn read_common(fields: &Fields<'_>, project: &Rc<str>) -> Option<ProgressEntry> {
        let state = State::of_word(fields.text("state")?)?;
        Some(ProgressEntry {
            project: match fields.text("to_project") {
                Some(other) => other.into(),
                None => project.clone(),
            },
            version: fields.text("to")?.into(),
            content: fields.content("content")?,
            size: fields.number("size")?,
            state,
            outcome: match fields.text("outcome") {
                Some(word) => Outcome::of_word(word),
                None => default_outcome(state),
            },
            by_proxy: fields.flag("by_proxy"),
            reached: fields.count("reached")?,
            from: fields.text("from")?.into(),
            since: Stamp::default(),
            weak: 0,
        })
    }
}

/// Returns the outcome that follows from a state and is therefore not written.
fn default_outcome(state: State) -> Option<Outcome> {
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

/// Reads the profile; `None` if there is none. Every profile has a firmware name or a project in the path.
fn read_profile(fields: &Fields<'_>) -> Option<Profile<'static>> {
    let text = |key| fields.text(key).map(|text| Cow::Owned(text.to_owned()));
    let (firmware_name, path_project) = (text("name"), text("path"));
    let has_profile = firmware_name.is_some() || path_project.is_some();
    has_profile.then(|| Profile {
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

/// Returns the text that follows from an id and is therefore not written.
fn default_text(device: DeviceId) -> Box<str> {
    match device {
        DeviceId::Imei(number) => match itoa::Buffer::new().format(number) {
            whole if whole.len() == 15 => whole.into(),
            _ => format!("{number:015}").into(),
        },
        DeviceId::Mac(number) => format!("{number:012X}").into(),
        DeviceId::Other(_) => Box::default(),
    }
}
