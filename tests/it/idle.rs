//! Promise: a server without requests sleeps, and only the rescan and timers that are due wake it; whatever is
//! due still happens in time: an operator's command in the state folder, the compaction of the journal, the
//! detection of a silent device.

use crate::common;

use std::path::Path;
use std::time::{Duration, Instant};

use common::datagrams::Device;
use common::packages::noise;
use common::{IMEI, PATIENCE, Place, Server, both, is_event, luat, run, wait_until};
use luat_ota::firmware::ContentId;
use luat_ota::firmware::audience::DeviceId;
use luat_ota::fleet::clock::{Stamp, unix_now};
use luat_ota::fleet::entry::{DeviceEntry, JournalEntry, Priority, ProgressEntry};
use luat_ota::fleet::journal::{Journal, Loaded};
use luat_ota::fleet::progress::State;

/// Flags that prevent a rescan of the firmware folder during the test.
const NO_RESCAN: [&str; 2] = ["--rescan", "86400"];

/// Longest time between one event and the next one that it causes (a batch of the journal, its fsync, saving hashes).
const QUIET_TIME: Duration = Duration::from_secs(7);

/// Number of times that each thread of the server has slept voluntarily so far: one for each wake-up.
fn wake_ups(server: &Server) -> Vec<(String, u64)> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap();
    let mut threads: Vec<_> = tasks
        .filter_map(|task| {
            let task = task.unwrap().path();
            // A thread may end after it was listed.
            let name = std::fs::read_to_string(task.join("comm")).ok()?;
            let status = std::fs::read_to_string(task.join("status")).ok()?;
            let count = status
                .lines()
                .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))
                .and_then(|count| count.trim().parse().ok())
                .unwrap();
            Some((format!("{} {}", task.display(), name.trim()), count))
        })
        .collect();
    threads.sort();
    threads
}

/// Waits until all consequences of earlier events are done.
fn wait_until_idle(server: &Server) {
    let end = Instant::now() + Duration::from_secs(60);
    let (mut before, mut since) = (wake_ups(server), Instant::now());
    while since.elapsed() < QUIET_TIME {
        assert!(Instant::now() < end, "it does not come to rest: {before:?}");
        std::thread::sleep(Duration::from_millis(250));
        let now = wake_ups(server);
        if now != before {
            (before, since) = (now, Instant::now());
        }
    }
}

#[test]
fn nothing_wakes_a_server_without_requests() {
    let bytes = noise(81, 5000);
    let server = Server::start(&NO_RESCAN);
    server.drop_firmware("P/2.0.0/update.bin", &bytes);
    server.wait_until_offered(&luat("P", IMEI, "1.0.0"), &bytes);
    let message = format!("{IMEI},P_Luat_V0035_8955,1.0.0");
    Device::new(server.udp).check(message).unwrap();
    server.get(&luat("P", IMEI, "3.0.0"));
    loop {
        wait_until_idle(&server);
        let (before, hour) = (wake_ups(&server), unix_now() / 3600);
        std::thread::sleep(Duration::from_secs(10));
        // The server counts devices at the beginning of an hour.
        if unix_now() / 3600 == hour {
            assert_eq!(wake_ups(&server), before);
            break;
        }
    }
    // The server still replies.
    server
        .get(&luat("P", IMEI, "1.0.0"))
        .must_be_file(&bytes)
        .unwrap();
}

#[test]
fn a_lift_reaches_an_idle_server_within_a_second_or_two() {
    let place = Place::new();
    let state = place.state();
    std::fs::write(
        state.join("known-devices.txt"),
        format!("{IMEI}\nsensor-7\n"),
    )
    .unwrap();
    let server = Server::start_in(place, &NO_RESCAN);
    wait_until_idle(&server);
    for _ in 0..2 {
        let asked = Instant::now();
        let output = run(&[
            "lift",
            "--state",
            &state.display().to_string(),
            "--imei",
            IMEI,
        ]);
        assert!(both(&output).contains("Lifted"), "{}", both(&output));
        assert!(asked.elapsed() < Duration::from_secs(5));
    }
    // A request file that a person creates by hand.
    let path = state.join("lift-sensor-7");
    std::fs::write(&path, "").unwrap();
    server.wait_for_log("says what was lifted", |line| {
        is_event(line, "lift") && line.contains("sensor-7")
    });
    assert!(!path.exists());
}

#[test]
fn without_events_a_lift_and_the_list_are_found_by_the_rescan_and_after_a_sighup() {
    let quick = Server::start(&["--without", "inotify", "--rescan", "1"]);
    let slow = Server::start(&["--without", "inotify", "--rescan", "86400"]);
    wait_until_idle(&slow);
    for server in [&quick, &slow] {
        let state = server.place().state();
        std::fs::write(state.join("lift-sensor-7"), "").unwrap();
        std::fs::write(state.join("known-devices.txt"), format!("{IMEI}\n")).unwrap();
    }
    slow.signal(rustix::process::Signal::HUP);
    for server in [&quick, &slow] {
        server.wait_for_log("says what was lifted", |line| is_event(line, "lift"));
        server.wait_for_log("counts the ids", |line| {
            is_event(line, "known-devices") && line.contains("\"ids\":1")
        });
    }
}

#[test]
fn a_changed_list_reaches_an_idle_server_also_from_another_folder() {
    let place = Place::new();
    let path = place.root.join("ids");
    std::fs::write(&path, "").unwrap();
    let list = place.state().join("known-devices.txt");
    std::os::unix::fs::symlink(&path, &list).unwrap();
    let server = Server::start_in(place, &NO_RESCAN);
    let has = |ids: u32| {
        server.wait_for_log("counts the ids", |line| {
            is_event(line, "known-devices") && line.contains(&format!("\"ids\":{ids}"))
        });
    };
    has(0);
    wait_until_idle(&server);
    std::fs::write(&path, "sensor-1\n").unwrap();
    has(1);
    // Editors replace the file in this way.
    let beside = server.place().root.join("ids.new");
    std::fs::write(&beside, "sensor-1\nsensor-2\n").unwrap();
    std::fs::rename(&beside, &path).unwrap();
    has(2);
    std::fs::write(&path, "sensor-1\nsensor-2\nsensor-3\n").unwrap();
    has(3);
    std::fs::remove_file(&list).unwrap();
    std::fs::write(&list, "sensor-1\nsensor-2\nsensor-3\nsensor-4\n").unwrap();
    has(4);
}

#[test]
fn an_idle_server_rewrites_a_removed_journal() {
    let bytes = noise(82, 5000);
    let server = Server::start(&NO_RESCAN);
    server.drop_firmware("P/2.0.0/update.bin", &bytes);
    server.wait_until_offered(&luat("P", IMEI, "1.0.0"), &bytes);
    let path = server.place().state().join("journal.jsonl");
    wait_until("it is written", PATIENCE, || {
        std::fs::read_to_string(&path).is_ok_and(|text| text.contains("\"release\":\"2.0.0\""))
    });
    std::fs::remove_file(&path).unwrap();
    wait_until("it is there again", PATIENCE, || {
        std::fs::read_to_string(&path).is_ok_and(|text| text.contains("\"release\":\"2.0.0\""))
    });
    wait_until_idle(&server);
}

/// Writes a state folder in which a device with an interval of eight seconds was sent a file.
fn remember(state: &Path) {
    let now = Stamp(1 << 31);
    let mut journal = Journal::start(state, now, unix_now(), &Loaded::default(), 0).unwrap();
    journal.write_later(
        &JournalEntry::Device(DeviceEntry {
            first: now.minus(86_400),
            interval: 8,
            progress: Some(ProgressEntry {
                state: State::Delivered,
                reached: 5000,
                ..ProgressEntry::new(
                    "P",
                    "2.0.0",
                    ContentId([7; 32]),
                    5000,
                    "1.0.0",
                    now.minus(120),
                )
            }),
            ..DeviceEntry::new(
                DeviceId::parse(IMEI).unwrap(),
                IMEI,
                "P",
                "1.0.0",
                now.minus(120),
            )
        }),
        Priority::Major,
    );
    journal.stop();
}

#[test]
fn a_device_without_checks_becomes_silent_on_time() {
    let place = Place::new();
    remember(&place.state());
    let journal = place.state().join("journal.jsonl");
    let server = Server::start_in(place, &NO_RESCAN);
    let began = Instant::now();
    let is_silent = || {
        let text = std::fs::read_to_string(&journal).unwrap();
        text.contains("\"state\":\"silent\"")
    };
    wait_until_idle(&server);
    assert!(!is_silent());
    wait_until("it is silent", Duration::from_secs(60), is_silent);
    let took = began.elapsed();
    // Three intervals of the device, and up to five seconds until the line is written.
    assert!(took >= Duration::from_secs(23), "{took:?}");
    assert!(took < Duration::from_secs(40), "{took:?}");
    wait_until_idle(&server);
}
