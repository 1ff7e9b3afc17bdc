//! Promise: a release from which too many devices return with their old version pauses itself, and its
//! release.json shows the pause; an edit of that file resumes the release; if the folder cannot be
//! written, the pause still holds, also after SIGKILL.

use crate::common;

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use common::mount::Mount;
use common::packages::noise;
use common::{
    PATIENCE, Place, Reply, Server, both, connect_from, get, is_event, luat, luat_ota, reply, run,
    serve_arguments, wait_until,
};
use luat_ota::firmware::audience::DeviceId;
use luat_ota::firmware::known::KnownFiles;
use luat_ota::firmware::scan;
use luat_ota::fleet::clock::{Stamp, unix_now};
use luat_ota::fleet::entry::{
    Authors, DeviceEntry, JournalEntry, Noticed, Priority, ProgressEntry, ReleaseEntry,
};
use luat_ota::fleet::journal::{Journal, Loaded};
use luat_ota::fleet::network::Network;
use luat_ota::fleet::progress::State;
use serde_json::{Value, json};

const SIZE: usize = 20_000;

/// The id of a device that the journal does not contain.
const NEW: &str = "862991443750099";

const DAY: u32 = 24 * 60 * 60;

fn imei(number: u8) -> String {
    format!("86299144375000{number}")
}

/// A separate address, and therefore a separate network, for each device.
fn address(number: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, number, 1).into()
}

fn check(number: u8, version: &str) -> String {
    luat("P", &imei(number), version)
}

/// Writes a state folder in which ten devices have been known for days, release 2.0.0 is newer, and five
/// of the devices were sent its file two minutes ago.
fn remember(state: &Path, firmware: &Path) {
    let catalog = scan::catalog(firmware, &mut KnownFiles::open(None)).unwrap();
    let content = catalog.project("P").unwrap().releases[0].packages[0].content;
    let now = Stamp(1 << 31);
    let mut journal = Journal::start(state, now, unix_now(), &Loaded::default(), 0).unwrap();
    journal.write_later(
        &JournalEntry::Release(ReleaseEntry {
            project: "P".into(),
            version: "2.0.0".into(),
            first: now.minus(DAY),
            fused: None,
            before: None,
            resumed: None,
            confirmed: 0,
            noticed: Noticed::default(),
            authors: Authors::default(),
        }),
        Priority::Major,
    );
    for number in 0..=9 {
        let Network::V4(network) = Network::of(address(number)) else {
            panic!();
        };
        journal.write_later(
            &JournalEntry::Device(DeviceEntry {
                first: now.minus(5 * DAY),
                interval: 600,
                network: Some(Network::V4(network)),
                progress: (1..=5).contains(&number).then(|| ProgressEntry {
                    state: State::Delivered,
                    reached: SIZE as u64,
                    ..ProgressEntry::new(
                        "P",
                        "2.0.0",
                        content,
                        SIZE as u64,
                        "1.0.0",
                        now.minus(120),
                    )
                }),
                ..DeviceEntry::new(
                    DeviceId::parse(&imei(number)).unwrap(),
                    &imei(number),
                    "P",
                    "1.0.0",
                    now.minus(120),
                )
            }),
            Priority::Major,
        );
    }
    journal.stop();
}

/// Sends a device's check from its own address.
fn ask(server: &Server, number: u8, version: &str) -> Reply {
    let mut stream = connect_from(Some(address(number)), server.http, 0);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&get(&check(number, version))).unwrap();
    reply::read(&mut stream, false).unwrap()
}

fn rules(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

#[test]
fn three_reverts_pause_a_release_in_its_own_release_json_and_an_edit_resumes_it() {
    let place = Place::new();
    let bytes = noise(61, SIZE);
    place.drop_firmware("P/2.0.0/update.bin", &bytes);
    let own = json!({"percent": 100, "fuse": {"devices": 3, "percent": 60}});
    place.rules("P/2.0.0/release.json", own.clone());
    let path = place.path("P/2.0.0/release.json");
    remember(&place.state(), &place.firmware());
    let server = Server::start_in(place, &[]);
    let new = luat("P", NEW, "1.0.0");
    server.wait_until_offered(&new, &bytes);
    // Two devices are updated. Two devices with the old version are too few, also if one of them reports it twice.
    for number in 1..=2 {
        ask(&server, number, "2.0.0").must_refuse(404, 27).unwrap();
        ask(&server, 2 + number, "1.0.0")
            .must_be_file(&bytes)
            .unwrap();
    }
    ask(&server, 3, "1.0.0").must_be_file(&bytes).unwrap();
    server.wait_until_offered(&new, &bytes);
    assert_eq!(rules(&path), own);
    ask(&server, 5, "1.0.0").must_be_file(&bytes).unwrap();
    // The release is paused although no further check arrives.
    wait_until("release.json says why", PATIENCE, || {
        let paused = rules(&path)["paused"].clone();
        let sentence = paused.as_str().unwrap_or_default();
        sentence.contains("3 of 5 devices that had 2.0.0 came back with their old version")
    });
    server.wait_for_log("is the event", |line| {
        is_event(line, "fused")
            && is_event(
                line,
                "3 of 5 devices that had 2.0.0 came back with their old version",
            )
    });
    server.wait_until_refused(&new, 404, 27);
    let mut paused = rules(&path);
    assert_eq!(
        (&paused["percent"], &paused["fuse"]),
        (&own["percent"], &own["fuse"])
    );
    // SIGKILL changes nothing, because the pause is in the folder.
    let server = Server::start_in(server.kill(), &[]);
    server.wait_until_refused(&new, 404, 27);
    paused["paused"] = json!(false);
    server.rules("P/2.0.0/release.json", paused.clone());
    server.wait_until_offered(&new, &bytes);
    server.wait_for_log("is the event", |line| {
        is_event(line, "resumed") && is_event(line, "2.0.0")
    });
    // Earlier results of devices are no longer counted.
    ask(&server, 3, "1.0.0").must_be_file(&bytes).unwrap();
    server.wait_until_offered(&new, &bytes);
    assert_eq!(rules(&path), paused);
}

// Case 59.
#[test]
fn where_the_folder_is_read_only_the_pause_is_kept_in_the_state() {
    pause_on_a_read_only_folder(false);
    pause_on_a_read_only_folder(true);
}

/// Tests the pause on a read-only folder, which release.json ends, or the page (in a build without it: the command).
fn pause_on_a_read_only_folder(by_page: bool) {
    let Some(mount) = Mount::new("tmpfs", &["-t", "tmpfs", "tmpfs"]) else {
        return;
    };
    let bytes = noise(62, SIZE);
    std::fs::create_dir_all(mount.path.join("P/2.0.0")).unwrap();
    std::fs::write(mount.path.join("P/2.0.0/update.bin"), &bytes).unwrap();
    mount.run("mount", &["-o", "remount,ro"]);
    let place = Place::new();
    remember(&place.state(), &mount.path);
    let serve = |place: Place| {
        let mut arguments = serve_arguments(&place, &["--rescan", "1"]);
        arguments[1] = mount.path.display().to_string();
        let mut command = luat_ota();
        command.args(arguments);
        Server::from_command(place, &mut command)
    };
    let server = serve(place);
    let state = server.place().state().display().to_string();
    let new = luat("P", NEW, "1.0.0");
    server.wait_until_offered(&new, &bytes);
    for number in 1..=3 {
        ask(&server, number, "1.0.0").must_be_file(&bytes).unwrap();
    }
    // The release is judged after all five devices have checked.
    for number in 4..=5 {
        ask(&server, number, "2.0.0").must_refuse(404, 27).unwrap();
    }
    server.wait_until_refused(&new, 404, 27);
    server.wait_for_log("says where the pause is kept", |line| {
        line.contains("the pause is kept in the state folder alone")
    });
    let journal = server.place().state().join("journal.jsonl");
    wait_until("the journal has it", PATIENCE, || {
        let text = std::fs::read_to_string(&journal).unwrap();
        text.contains("\"fused\":\"fuse: 3 of 5 devices")
    });
    let server = serve(server.kill());
    server.wait_until_refused(&new, 404, 27);
    #[cfg(feature = "operator")]
    {
        let operator = common::operator::Operator::of(&server);
        let shown = operator.get("/api/v1/releases").json()["releases"][0].clone();
        assert_eq!(shown["state"], "fused", "{shown}");
        let reason = shown["reason"].as_str().unwrap();
        assert!(reason.starts_with("fuse: 3 of 5 devices"), "{reason}");
        assert!(reason.contains("luat-ota resume P/2.0.0"), "{reason}");
        let metrics = operator.get("/metrics").text();
        assert!(metrics.contains("state=\"fused\"} 1"), "{metrics}");
    }
    if by_page {
        #[cfg(feature = "operator")]
        {
            let operator = common::operator::Operator::of(&server);
            let reply = operator.post("/api/v1/releases/P/2.0.0/resume", &json!({}));
            let state = reply.json()["state"].clone();
            assert_eq!((reply.status, state), (200, json!("live")));
        }
        #[cfg(not(feature = "operator"))]
        assert!(
            run(&["resume", "P/2.0.0", "--state", &state])
                .status
                .success()
        );
        server.wait_until_offered(&new, &bytes);
        mount.run("mount", &["-o", "remount,rw"]);
    } else {
        mount.run("mount", &["-o", "remount,rw"]);
        std::fs::write(
            mount.path.join("P/2.0.0/release.json"),
            "{\"percent\": 100, \"paused\": false}",
        )
        .unwrap();
        server.wait_until_offered(&new, &bytes);
    }
    // A pause in release.json cannot be ended while that file cannot be changed.
    std::fs::write(mount.path.join("P/release.json"), "{\"paused\": true}").unwrap();
    std::fs::remove_file(mount.path.join("P/2.0.0/release.json")).ok();
    server.wait_until_refused(&new, 404, 27);
    mount.run("mount", &["-o", "remount,ro"]);
    let output = run(&["resume", "P/2.0.0", "--state", &state]);
    assert_eq!(output.status.code(), Some(1), "{}", both(&output));
    let said = both(&output);
    assert!(
        said.contains("stays paused") && !said.contains("Resumed"),
        "{said}"
    );
    assert!(said.contains("by hand"), "{said}");
    #[cfg(feature = "operator")]
    {
        let operator = common::operator::Operator::of(&server);
        let reply = operator.post("/api/v1/releases/P/2.0.0/resume", &json!({}));
        assert_eq!(reply.status, 500, "{}", reply.text());
    }
    mount.run("mount", &["-o", "remount,rw"]);
    let output = run(&["resume", "P/2.0.0", "--state", &state]);
    assert!(output.status.success(), "{}", both(&output));
    server.wait_until_offered(&new, &bytes);
    drop(server.terminate());
    mount.run("mount", &["-o", "remount,rw"]);
}

/// Simulates a fleet in which two of five modules fall back, on a fresh server. Returns `paused` of the
/// release afterwards.
#[cfg(feature = "lab")]
fn simulated(server: &Server, flags: &[&str]) -> String {
    let url = format!("http://{}/luat/update", server.http);
    let mut arguments = vec![
        "simulate",
        "--project",
        "P",
        "--to",
        "2.0.0",
        "--http",
        &url,
    ];
    arguments.extend(["--fail", "40", "--imei", "862991440000000", "--json"]);
    arguments.extend(flags);
    common::run(&arguments);
    let path = server.place().path("P/2.0.0/release.json");
    wait_until("the release is paused", PATIENCE, || {
        rules(&path)["paused"].is_string()
    });
    rules(&path)["paused"].as_str().unwrap().to_owned()
}

// Case 31.
#[cfg(feature = "lab")]
#[test]
fn a_fresh_server_pauses_a_release_that_fails_on_two_of_five_modules() {
    let place = Place::new();
    let bytes = noise(63, SIZE);
    place.drop_firmware("P/2.0.0/update.bin", &bytes);
    let server = Server::start_in(place, &[]);
    server.wait_until_refused(&luat("P", NEW, "3.0.0"), 404, 27);
    let flags = [
        "--devices",
        "300",
        "--interval",
        "8",
        "--rounds",
        "2",
        "--seed",
        "1",
    ];
    let sentence = simulated(&server, &flags);
    let reverted: u32 = sentence.split(' ').nth(1).unwrap().parse().unwrap();
    assert!(reverted < 100, "{sentence}");
}

// Case 29 for a fleet.
#[cfg(feature = "lab")]
#[test]
fn modules_that_report_the_new_version_and_fall_back_pause_the_release() {
    let place = Place::new();
    place.drop_firmware("P/2.0.0/update.bin", &noise(64, SIZE));
    let server = Server::start_in(place, &[]);
    server.wait_until_refused(&luat("P", NEW, "3.0.0"), 404, 27);
    let flags = [
        "--devices",
        "40",
        "--interval",
        "5",
        "--rounds",
        "2",
        "--back-within",
        "1",
        "--fallback-after-report",
    ];
    let sentence = simulated(&server, &flags);
    assert!(
        sentence.contains("came back with their old version"),
        "{sentence}"
    );
}

// Case 28c.
#[cfg(feature = "lab")]
#[test]
fn behind_a_proxy_a_release_is_paused_by_second_attempts() {
    let place = Place::new();
    place.drop_firmware("P/2.0.0/update.bin", &noise(65, SIZE));
    // As from a proxy: the acknowledgements come from the proxy and do not show what modules have received.
    let server = Server::start_in(place, &["--trusted-proxy", "127.0.0.0/8"]);
    server.wait_until_refused(&luat("P", NEW, "3.0.0"), 404, 27);
    simulated(
        &server,
        &["--devices", "40", "--interval", "5", "--rounds", "3"],
    );
}

// Case 59.
#[test]
fn a_mirror_cannot_undo_a_pause_and_resume_ends_it() {
    let place = Place::new();
    let bytes = noise(63, SIZE);
    place.drop_firmware("P/2.0.0/update.bin", &bytes);
    let own = json!({"paused": false, "fuse": {"devices": 3, "percent": 60}});
    place.rules("P/2.0.0/release.json", own.clone());
    let path = place.path("P/2.0.0/release.json");
    remember(&place.state(), &place.firmware());
    let mut server = Server::start_in(place, &[]);
    let new = luat("P", NEW, "1.0.0");
    server.wait_until_offered(&new, &bytes);
    for number in 1..=2 {
        ask(&server, number, "2.0.0").must_refuse(404, 27).unwrap();
    }
    for number in 3..=5 {
        ask(&server, number, "1.0.0").must_be_file(&bytes).unwrap();
    }
    server.wait_for_log("says how to go on", |line| {
        line.contains("luat-ota resume P/2.0.0") && line.contains("the fuse paused")
    });
    for _ in 0..2 {
        wait_until("the pause is in release.json or kept", PATIENCE, || {
            let paused = rules(&path)["paused"].clone();
            server.get(&new).status == 404 && paused.is_string()
        });
        server.rules("P/2.0.0/release.json", own.clone());
        // With the old file, and after a restart.
        server.wait_until_refused(&new, 404, 27);
        assert_eq!(rules(&path), own);
        #[cfg(feature = "operator")]
        common::operator::Operator::of(&server).wait_for(
            "/api/v1/releases",
            "the pause is shown, though release.json does not say it",
            |list| list["releases"][0]["state"] == "fused",
        );
        server = Server::start_in(server.kill(), &[]);
        server.wait_until_refused(&new, 404, 27);
        let rules = json!({"paused": "fuse: of the test"});
        server.rules("P/2.0.0/release.json", rules);
        server.wait_until_refused(&new, 404, 27);
    }
    let state = server.place().state().display().to_string();
    let resume = |release: &str| run(&["resume", release, "--state", &state]);
    let unknown = resume("P/9.9.9");
    assert_eq!(unknown.status.code(), Some(1), "{}", both(&unknown));
    assert!(both(&unknown).contains("no such release"));
    let output = resume("P/2.0.0");
    assert!(output.status.success(), "{}", both(&output));
    server.wait_until_offered(&new, &bytes);
    // The mirror may now restore the old file.
    server.rules("P/2.0.0/release.json", own);
    server.wait_until_offered(&new, &bytes);
    // Without a running server, the next one resumes the release.
    server.rules("P/2.0.0/release.json", json!({"paused": true}));
    server.wait_until_refused(&new, 404, 27);
    let place = server.terminate();
    let output = resume("P/2.0.0");
    assert!(
        both(&output).contains("the next server"),
        "{}",
        both(&output)
    );
    let server = Server::start_in(place, &[]);
    server.wait_until_offered(&new, &bytes);
    assert_eq!(rules(&path)["paused"], json!(false));
    for wrong in [&["resume"][..], &["resume", "P"], &["resume", "P/1/2"]] {
        assert_eq!(run(wrong).status.code(), Some(2));
    }
}
