//! Devices and their steps as JSON, in the form that the API shows, and the columns of their CSV.

use serde_json::{Value, json};

use super::{Column, rfc3339};
use crate::explain::request_of;
use crate::firmware::audience::DeviceId;
#[cfg(feature = "operator")]
use crate::fleet::clock::Wall;
#[cfg(feature = "operator")]
use crate::fleet::devices::StepsView;
use crate::fleet::report::Report;
use crate::fleet::short_version::ShortVersion;
use crate::fleet::view::DeviceView;

/// The columns of a device.
pub const DEVICE: &[Column] = &[
    ("id", "/id"),
    ("name", "/name"),
    ("kind", "/kind"),
    ("project", "/project"),
    ("version", "/version"),
    ("platform", "/platform"),
    ("core", "/core"),
    ("network", "/network"),
    ("first_seen", "/first_seen"),
    ("last_seen", "/last_seen"),
    ("interval_seconds", "/interval_seconds"),
    ("probation", "/probation"),
    ("listed", "/listed"),
    ("offered_version", "/journey/version"),
    ("from_version", "/journey/from"),
    ("state", "/journey/state"),
    ("since", "/journey/since"),
    ("reached", "/journey/reached"),
    ("size", "/journey/size"),
    ("reported", "/journey/reported"),
    ("held_until", "/held/*/until"),
    ("firmware_name", "/firmware_name"),
    ("request", "/request"),
    ("protocol", "/protocol"),
];

/// The columns of a step of a device.
#[cfg(feature = "operator")]
pub const STEP: &[Column] = &[
    ("time", "/time"),
    ("step", "/step"),
    ("version", "/version"),
    ("reason", "/reason"),
];

/// Returns the steps of a device as the API shows them: the steps, the time before which some may be missing, and the
/// last refusal.
#[cfg(feature = "operator")]
pub fn steps(view: &StepsView, wall: Wall) -> [Value; 3] {
    let time = |stamp| rfc3339(wall.unix_of(stamp));
    let steps = view.steps.iter().map(|step| {
        json!({
            "time": time(step.at),
            "step": step.word,
            "version": Some(&step.version).filter(|version| !version.is_empty()),
            "reason": step.reason,
        })
    });
    let refusal = view.refusal.as_ref();
    let refusal = refusal.map(|(reason, at)| json!({"reason": reason, "time": time(*at)}));
    [steps.collect(), time(view.since), refusal.into()]
}

/// Returns a device as the API shows it.
pub fn device(view: &DeviceView) -> Value {
    let entry = &view.entry;
    let check = entry.check();
    let kind = match entry.device {
        DeviceId::Imei(_) => "imei",
        DeviceId::Mac(_) => "mac",
        DeviceId::Other(_) => "other",
    };
    let progress = entry.progress.as_ref().map(|progress| {
        json!({
            "version": &*progress.version,
            "from": &*progress.from,
            "sha256": progress.content.to_string(),
            "state": progress.state.word(),
            "since": rfc3339(view.wall.unix_of(progress.since)),
            "reached": progress.reached,
            "size": progress.size,
            "reported": view.reported.map(Report::word),
        })
    });
    let held = view.held.iter().map(|hold| {
        json!({
            "sha256": hold.content,
            "until": hold.until.map(rfc3339),
            "reverts": hold.reverts,
            "sent": hold.sent,
        })
    });
    json!({
        "id": entry.text,
        "name": view.name,
        "kind": kind,
        "project": &*entry.project,
        "version": &*entry.version,
        "first_seen": rfc3339(view.wall.unix_of(entry.first)),
        "last_seen": rfc3339(view.wall.unix_of(entry.last)),
        "interval_seconds": Some(entry.interval).filter(|seconds| *seconds > 0),
        "probation": view.probation,
        "listed": view.listed,
        "journey": progress,
        "held": held.collect::<Value>(),
        "network": entry.network.map(|network| network.to_string()),
        "firmware_name": check.firmware_name.as_deref(),
        "platform": check.name().platform,
        "core": check.core(),
        "protocol": if check.largest.is_some() { "udp" } else { "http" },
        "request": request_of(&check),
        "request_known": entry.profile.is_some() && !ShortVersion::is_abbreviated(&entry.version),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firmware::ContentId;
    use crate::fleet::clock::{Stamp, Wall};
    use crate::fleet::entry::{DeviceEntry, ProgressEntry};
    use crate::fleet::network::Network;
    use crate::fleet::profiles::Profile;
    use crate::fleet::progress::State;
    use crate::fleet::view::HoldView;

    const NOW: Stamp = Stamp(1 << 31);

    #[test]
    fn a_device_is_exported_with_all_known_values() {
        let unix = 1_795_420_800;
        let mut view = DeviceView {
            entry: DeviceEntry {
                first: NOW,
                network: Some(Network::V4([10, 0, 1])),
                profile: Some(Profile::default().into()),
                ..DeviceEntry::new(
                    DeviceId::parse("862991443753386").unwrap(),
                    "862991443753386",
                    "P",
                    "1.0.0",
                    NOW.minus(unix as u32),
                )
            },
            wall: Wall { stamp: NOW, unix },
            probation: true,
            reported: Some(Report::Failed),
            listed: false,
            name: Some("pump 7".into()),
            held: Vec::new(),
        };
        let shown = device(&view);
        assert_eq!(
            (&shown["id"], &shown["name"]),
            (&json!("862991443753386"), &json!("pump 7"))
        );
        assert_eq!(shown["kind"], "imei");
        assert_eq!(shown["first_seen"], "2026-11-23T08:00:00Z");
        assert_eq!(shown["last_seen"], Value::Null);
        assert_eq!(shown["interval_seconds"], Value::Null);
        assert_eq!(shown["journey"], Value::Null);
        assert_eq!(shown["network"], "10.0.1.0/24");
        assert_eq!(
            (&shown["protocol"], &shown["request_known"]),
            (&json!("http"), &json!(true))
        );
        view.entry.version = ShortVersion::of("a version that is much too long")
            .as_str()
            .into();
        assert_eq!(device(&view)["request_known"], false);
        view.entry.interval = 60;
        view.entry.progress = Some(ProgressEntry {
            state: State::Downloading,
            reached: 5,
            ..ProgressEntry::new("P", "2.0.0", ContentId([7; 32]), 10, "1.0.0", NOW)
        });
        view.held.push(HoldView {
            content: "ab".into(),
            until: None,
            reverts: 2,
            sent: 9,
        });
        let shown = device(&view);
        assert_eq!(shown["journey"]["state"], "downloading");
        assert_eq!(shown["journey"]["reported"], "failed");
        assert_eq!(shown["journey"]["since"], "2026-11-23T08:00:00Z");
        assert_eq!(shown["held"][0]["until"], Value::Null);
        assert_eq!(shown["interval_seconds"], 60);
    }
}
