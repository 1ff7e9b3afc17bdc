//! Promise: each event that an operator wants to know reaches the program of `--on-event`, the log and the event stream
//! alike, once, and a program that fails or hangs delays no check.
#![cfg(all(feature = "lab", feature = "operator"))]

mod recipes;

use crate::common;

use std::io::{BufRead, BufReader, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use common::decisions::decide_and_record;
use common::documents;
use common::operator::Operator;
use common::packages::noise;
use common::{
    IMEI, PATIENCE, Place, Rows, Server, is_event, luat, luat_ota, serve_arguments, wait_until,
    write_executable,
};
use luat_ota::decision::{Check, Verdict};
use luat_ota::firmware::audience::DeviceId;
use luat_ota::firmware::known::KnownFiles;
use luat_ota::firmware::scan;
use luat_ota::fleet::clock::unix_now;
use luat_ota::fleet::events::Event;
use luat_ota::fleet::notices::{Notice, NoticeKind, QUEUE};
use luat_ota::fleet::requester::{PinOwner, Requester};
use luat_ota::fleet::short_version::ShortVersion;
use luat_ota::fleet::{FileRange, Fleet, FleetSettings, TransferOutcome};
use luat_ota::state::StateFolder;
use serde_json::{Value, json};

/// Writes an executable script into the root of a place.
fn script(place: &Place, name: &str, text: &str) -> PathBuf {
    let path = place.root.join(name);
    write_executable(&path, &format!("#!/bin/sh\n{text}\n"));
    path
}

/// Writes a script that appends each event to the file `events` in the same folder. Returns the command that runs it,
/// and the path of that file.
fn recorder(place: &Place) -> (String, PathBuf) {
    let program = script(place, "record.sh", "cat >> \"$1\"\nenv > \"$1.env\"");
    let file = place.root.join("events");
    (format!("{} {}", program.display(), file.display()), file)
}

/// The events in a file, one per line.
fn recorded(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let lines = text
        .split_inclusive('\n')
        .filter(|line| line.ends_with('\n'));
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn with_name<'e>(events: &'e [Value], name: &str) -> Vec<&'e Value> {
    events
        .iter()
        .filter(|event| event["event"] == name)
        .collect()
}

/// The events of the stream from now on.
fn stream(operator: &Operator) -> mpsc::Receiver<Value> {
    let mut stream = operator.connect();
    let request = operator.request("GET /api/v1/events", true, "", b"");
    stream.write_all(&request).unwrap();
    let mut lines = BufReader::new(stream).lines();
    while !lines.next().unwrap().unwrap().starts_with(": hello") {}
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut name = String::new();
        for line in lines.map_while(Result::ok) {
            if let Some(event) = line.strip_prefix("event: ") {
                name = event.to_owned();
            }
            let data = line.strip_prefix("data: ");
            let data = data.map(|data| serde_json::from_str::<Value>(data).unwrap());
            if let Some(data) = data.filter(|data| data["event"] == name.as_str())
                && sender.send(data).is_err()
            {
                return;
            }
        }
    });
    receiver
}

#[test]
fn the_program_the_log_and_the_stream_get_the_same_events_and_a_restart_repeats_none() {
    let place = Place::new();
    let (old, new) = (noise(71, 20_000), noise(72, 20_000));
    place.drop_firmware("P/1.5.0/update.bin", &old);
    place.drop_firmware("P/0.1.0/was-there.soc", &noise(1, 500));
    let looping = "862991443753394";
    let group = format!("{looping} # pump 7\n");
    std::fs::write(place.path("@pumps.txt"), group).unwrap();
    let (command, file) = recorder(&place);
    let flags = ["--on-event", command.as_str(), "--attempts", "3"];
    let mut server = luat_ota();
    server.args(serve_arguments(&place, &flags));
    server.env("LUAT_OTA_OPERATOR_TOKEN", "0123456789-secret");
    let server = Server::from_command(place, &mut server);
    server.wait_until_refused(&luat("P", IMEI, "1.5.0"), 404, 27);
    let mut operator = Operator::of(&server);
    operator.token = "0123456789-secret".to_owned();
    let streamed = stream(&operator);

    server.drop_firmware("P/2.0.0/update.bin", &new);
    wait_until("the release is found", PATIENCE, || {
        !with_name(&recorded(&file), "release_found").is_empty()
    });
    server.drop_firmware("P/2.0.1/factory.soc", &noise(1, 600));
    assert_eq!(server.get(&luat("P", IMEI, "1.0.0")).body, new);
    wait_until("the first device is confirmed", PATIENCE, || {
        server.get(&luat("P", IMEI, "2.0.0"));
        !with_name(&recorded(&file), "first_confirmed").is_empty()
    });
    for _ in 0..5 {
        assert_eq!(server.get(&luat("P", looping, "1.0.0")).body, new);
    }
    server.wait_until_refused(&luat("P", looping, "1.0.0"), 403, 40);
    server.rules("P/2.0.0/release.json", json!({"paused": "wait"}));
    operator.wait_for("/api/v1/releases", "it is paused", |list| {
        list["releases"][0]["state"] == "paused"
    });
    server.rules("P/2.0.0/release.json", json!({}));
    wait_until("every event has come", PATIENCE, || {
        recorded(&file).len() >= 5
    });

    let events = recorded(&file);
    let mut rows = Rows::default();
    for (name, version, device, reason) in [
        ("release_found", "2.0.0", None, ""),
        ("quarantined", "2.0.1", None, "P/2.0.1/factory.soc: "),
        ("first_confirmed", "2.0.0", Some(IMEI), ""),
        (
            "held",
            "2.0.0",
            Some(looping),
            "it is not offered the file for 1 h",
        ),
        ("resumed", "2.0.0", None, ""),
    ] {
        let found = with_name(&events, name);
        let fits = matches!(found[..], [event] if event["project"] == "P"
            && event["version"] == version
            && event["device"].as_str() == device
            && event["name"].as_str() == device.filter(|id| *id == looping).map(|_| "pump 7")
            && event["reason"].as_str().unwrap_or_default().contains(reason));
        rows.row(name, fits.then_some(()).ok_or(format!("{events:?}")));
    }
    rows.finish();
    assert_eq!(events.len(), 5, "{events:?}");
    for event in &events {
        let time = event["time"].as_str().unwrap();
        assert!(time.len() == 20 && time.ends_with('Z'), "{time}");
        let sent = streamed.recv_timeout(PATIENCE).unwrap();
        assert_eq!(sent, *event);
        let keys = ["event", "project", "version", "device", "name", "reason"];
        server.wait_for_log("has the same event", |line| {
            let line: Value = serde_json::from_str(line).unwrap_or_default();
            keys.iter().all(|key| line[key] == event[key])
        });
    }
    // The program of the last event may still be writing the file.
    wait_until("the environment is written", PATIENCE, || {
        let environment = std::fs::read_to_string(file.with_extension("env")).unwrap();
        assert!(!environment.contains("secret"));
        environment.contains("PATH=")
    });

    let server = Server::start_in(server.terminate(), &flags);
    server.wait_until_refused(&luat("P", IMEI, "2.0.0"), 404, 27);
    server.wait_until_refused(&luat("P", looping, "1.0.0"), 403, 40);
    let newest = noise(73, 20_000);
    server.drop_firmware("P/3.0.0/update.bin", &newest);
    wait_until("the next release is found", PATIENCE, || {
        recorded(&file).len() > 5
    });
    let events = recorded(&file);
    assert_eq!(events.len(), 6, "{events:?}");
    assert_eq!(
        (&events[5]["event"], &events[5]["version"]),
        (&json!("release_found"), &json!("3.0.0"))
    );
    // Files that were in the folder before are logged at each start anyway.
    server.wait_for_log("names the quarantined file", |line| {
        is_event(line, "quarantined") && line.contains("P/0.1.0/was-there.soc")
    });
}

#[test]
fn a_program_that_hangs_or_fails_slows_no_check_and_is_counted() {
    let place = Place::new();
    let bytes = noise(74, 5000);
    place.drop_firmware("P/1.5.0/update.bin", &bytes);
    let program = script(&place, "hang.sh", "sleep 3; exit 9");
    let server = Server::start_in(place, &["--on-event", program.to_str().unwrap()]);
    let ask = luat("P", IMEI, "1.0.0");
    server.wait_until_offered(&ask, &bytes);
    let operator = Operator::of(&server);
    // One program runs, and the queue is full.
    for project in 0..QUEUE + 20 {
        server.drop_firmware(&format!("Q{project}/1.0.0/u.bin"), &noise(75, 500));
    }
    let metric = |name: &str| -> u32 {
        let text = operator.get("/metrics").text();
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("{name}: {text}"))
            .trim()
            .parse()
            .unwrap()
    };
    wait_until("events are dropped and counted", PATIENCE * 2, || {
        metric("luat_ota_events_dropped_total") > 0
    });
    let start = Instant::now();
    for _ in 0..20 {
        assert_eq!(server.get(&ask).status, 200);
    }
    // No check waits for the program, which runs for three seconds.
    let took = start.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}");
    assert!(
        metric("luat_ota_events_total{event=\"release_found\"}") > u32::try_from(QUEUE).unwrap()
    );
    let line = server.wait_for_log("says what failed", |line| is_event(line, "on-event"));
    assert!(line.contains("exit status: 9"), "{line}");
    wait_until("failures are counted", PATIENCE, || {
        metric("luat_ota_event_program_failures_total") >= 2
    });
    let lines = server.log.all();
    let reports = lines.iter().filter(|line| is_event(line, "on-event"));
    assert_eq!(reports.count(), 1, "at most once a minute");
}

/// Records a device that downloads the file of 2.0.0.
fn record_download(fleet: &mut Fleet, place: &Place, id: &str, now: Instant) {
    let catalog = scan::catalog(&place.firmware(), &mut KnownFiles::open(None)).unwrap();
    let check = check(id, "1.0.0");
    let address = IpAddr::from([127, 0, 0, 1]);
    let who = Requester::of(&check, address).unwrap();
    let owner = PinOwner::of_check(&check, Some(&who), address);
    let Verdict::Offer(offer) = decide_and_record(fleet, &catalog, &check, &who, now) else {
        panic!("no offer");
    };
    let part = FileRange {
        content: offer.package.content,
        to: ShortVersion::of(&offer.release.version_text),
        size: offer.package.size,
        start: 0,
        end: offer.package.size,
    };
    let (mut transfer, _written) = fleet.begin(Some(&who), Some(&owner), part, now);
    fleet.acknowledged(&mut transfer, part.size, now);
    fleet.end(transfer, TransferOutcome::Whole, now);
}

fn check<'a>(id: &'a str, version: &'a str) -> Check<'a> {
    Check {
        device: DeviceId::parse(id),
        device_text: id.into(),
        firmware_name: Some("P_LuatOS-SoC_Air780EPM".into()),
        version: version.into(),
        ..Check::default()
    }
}

#[test]
fn silent_devices_and_the_first_confirmed_one_are_reported_once_across_restarts() {
    let place = Place::new();
    place.drop_firmware("P/2.0.0/update.bin", &noise(76, 5000));
    let catalog = scan::catalog(&place.firmware(), &mut KnownFiles::open(None)).unwrap();
    let began = Instant::now();
    let day = |days: u64| began + Duration::from_secs(days * 24 * 60 * 60);
    let open = |now| {
        Fleet::open(
            FleetSettings::default(),
            Some(&StateFolder::new(&place.state())),
            now,
            unix_now(),
        )
    };
    let mut fleet = open(began);
    let reader = fleet.events.subscribe().unwrap();
    let notices = || -> Vec<Notice> {
        let events = std::iter::from_fn(|| reader.try_recv().ok());
        let notices = events.filter_map(|event| match &*event {
            Event::Notice { notice, .. } => Some(notice.clone()),
            _ => None,
        });
        notices.collect()
    };
    let ids = [
        "862991443750017",
        "862991443750025",
        "862991443750033",
        "862991443750041",
    ];
    fleet.catalog(&catalog, began);
    for id in ids {
        record_download(&mut fleet, &place, id, began);
    }
    assert_eq!(
        notices(),
        [],
        "what was there at the first start is no news"
    );
    let comes_back = |fleet: &mut Fleet, id: &str, now: Instant| {
        let check = check(id, "2.0.0");
        let who = Requester::of(&check, IpAddr::from([127, 0, 0, 1])).unwrap();
        decide_and_record(fleet, &catalog, &check, &who, now);
    };
    comes_back(&mut fleet, ids[3], day(1));
    let found = notices();
    assert!(
        matches!(&found[..], [notice] if notice.kind == NoticeKind::FirstConfirmed && *notice.device == *ids[3]),
        "{found:?}"
    );
    // Their interval is unknown, so they are silent after three days.
    fleet.tick(day(2));
    assert_eq!(notices(), []);
    fleet.tick(day(5));
    let found = notices();
    assert!(
        matches!(&found[..], [notice] if notice.kind == NoticeKind::TooManySilent
            && (&*notice.project, &*notice.version) == ("P", "2.0.0")
            && notice.reason.starts_with("3 devices that got 2.0.0 are silent; 1 are confirmed")),
        "{found:?}"
    );
    fleet.stop(day(5));
    drop(fleet);

    let mut fleet = open(day(6));
    let reader = fleet.events.subscribe().unwrap();
    fleet.catalog(&catalog, day(6));
    comes_back(&mut fleet, ids[0], day(6));
    record_download(&mut fleet, &place, "862991443750058", day(6));
    fleet.tick(day(12));
    assert!(reader.try_recv().is_err(), "nothing is told again");
}

#[test]
fn every_event_is_in_the_documents() {
    let mut rows = Rows::default();
    for name in ["docs/events.md", "docs/zh-CN/events.md"] {
        let text = documents::read(name);
        for kind in NoticeKind::ALL {
            let row = format!("| `{}` | ", kind.word());
            let result = text.contains(&row).then_some(());
            rows.row(
                &format!("{name}: {row}"),
                result.ok_or("missing".to_owned()),
            );
        }
        for key in [
            "event", "time", "project", "version", "device", "name", "reason",
        ] {
            let result = text.contains(&format!("| `{key}` | ")).then_some(());
            rows.row(
                &format!("{name}: {key}"),
                result.ok_or("missing".to_owned()),
            );
        }
        let same = recipes::commands(name) == recipes::commands("docs/events.md");
        rows.row(name, same.then_some(()).ok_or("other commands".to_owned()));
    }
    rows.finish();
}
