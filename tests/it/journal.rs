//! Promise: the content with which a download began is known after a restart: after SIGKILL a module
//! resumes the same file, wherever it is now, or gets 416, and never gets other bytes; a full or
//! missing disk costs history, never service.

use crate::common;

use std::io::Write;
use std::path::Path;

use common::mount::{Mount, skipped};
use common::packages::noise;
use common::wait_until;
use common::{
    IMEI, PATIENCE, Place, Server, SlowDownload, both, get, get_with, is_event, luat, luat_ota,
    run, serve_arguments,
};
use luat_ota::firmware::ContentId;
use luat_ota::firmware::audience::DeviceId;
use luat_ota::fleet::clock::{Stamp, unix_now};
use luat_ota::fleet::entry::{DeviceEntry, JournalEntry, Priority, ProgressEntry};
use luat_ota::fleet::journal::{Journal, Loaded};
use luat_ota::fleet::progress::State;
use rustix::process::{Pid, Resource, Rlimit, prlimit};

const OTHER: &str = "862991443750002";
/// Size of the file in bytes: more than the kernel still sends after the server has ended.
const SIZE: usize = 12_000_000;

fn check(imei: &str) -> String {
    luat("P", imei, "1.0.0")
}

/// Kills a server in the middle of a download. Returns its folder and an offset that the download has passed.
fn killed(bytes: &[u8]) -> (Place, usize) {
    let server = Server::start(&[]);
    server.drop_firmware("P/2.0.0/update.bin", bytes);
    server.wait_until_offered(&check(OTHER), bytes);
    let download = SlowDownload::begin(server.http, &get(&check(IMEI)), 100_000);
    let journal = server.place().state().join("journal.jsonl");
    wait_until("the pin is in the journal", PATIENCE, || {
        // The pins of both devices.
        let text = std::fs::read_to_string(&journal).unwrap_or_default();
        text.matches("{\"pin\"").count() >= 2
    });
    let place = server.kill();
    assert!(download.finish().is_err());
    (place, 50_000)
}

fn resume(from: usize) -> Vec<u8> {
    get_with(&check(IMEI), &format!("Range: bytes={from}-\r\n"))
}

#[test]
fn a_module_resumes_the_file_that_it_began_after_a_kill() {
    let bytes = noise(1, SIZE);
    let (place, from) = killed(&bytes);
    let server = Server::start_in(place, &[]);
    // A file that was dropped just before the kill has to settle again.
    server.wait_until_offered(&check(OTHER), &bytes);
    let reply = server.http(&resume(from));
    reply.must_be_part(&bytes, from, bytes.len()).unwrap();
}

#[test]
fn a_file_that_was_renamed_while_the_server_was_down_is_the_same_file() {
    let bytes = noise(2, SIZE);
    let (place, from) = killed(&bytes);
    let firmware = place.firmware();
    std::fs::create_dir_all(firmware.join("P/3.0.0")).unwrap();
    std::fs::rename(
        firmware.join("P/2.0.0/update.bin"),
        firmware.join("P/3.0.0/renamed.bin"),
    )
    .unwrap();
    // A newer release exists as well.
    place.drop_firmware("P/4.0.0/update.bin", &noise(3, SIZE));
    let server = Server::start_in(place, &[]);
    server.wait_until_offered(&check(OTHER), &noise(3, SIZE));
    let reply = server.http(&resume(from));
    reply.must_be_part(&bytes, from, bytes.len()).unwrap();
}

#[test]
fn a_module_whose_file_is_gone_after_a_kill_gets_no_other_bytes() {
    let bytes = noise(4, SIZE);
    let (place, from) = killed(&bytes);
    std::fs::remove_file(place.firmware().join("P/2.0.0/update.bin")).unwrap();
    let other = noise(5, SIZE);
    place.drop_firmware("P/2.0.1/update.bin", &other);
    let server = Server::start_in(place, &[]);
    server.wait_until_offered(&check(OTHER), &other);
    assert_eq!(server.http(&resume(from)).status, 416);
}

/// A server with one small release, which is already offered.
fn server() -> (Server, Vec<u8>) {
    let bytes = noise(6, 5000);
    let server = Server::start(&[]);
    server.drop_firmware("P/2.0.0/update.bin", &bytes);
    server.wait_until_offered(&check(OTHER), &bytes);
    (server, bytes)
}

fn download(server: &Server, number: u64, bytes: &[u8]) {
    let imei = (862_991_440_000_000 + number).to_string();
    server.get(&check(&imei)).must_be_file(bytes).unwrap();
}

/// Number of pins in the journal of this state folder.
fn pins(state: &Path) -> usize {
    let mut who = std::collections::HashSet::new();
    luat_ota::fleet::journal::load(
        &state.join("journal.jsonl"),
        Stamp(1 << 31),
        unix_now(),
        &mut |entry| {
            if let JournalEntry::Pin(pin) = entry {
                who.insert(pin.owner);
            }
        },
    )
    .unwrap();
    who.len()
}

fn count_write_errors(server: &Server) -> usize {
    let lines = server.log.all();
    let is_trouble = |line: &&String| line.contains("journal.jsonl cannot be written");
    lines.iter().filter(is_trouble).count()
}

#[test]
fn a_full_disk_costs_no_download_and_lost_lines_are_written_when_there_is_room() {
    let (server, bytes) = server();
    let state = server.place().state();
    wait_until("the first pin is written", PATIENCE, || pins(&state) == 1);
    let size = std::fs::metadata(state.join("journal.jsonl"))
        .unwrap()
        .len();
    let pid = Pid::from_raw(server.pid() as i32);
    let limit = |bytes: Option<u64>| Rlimit {
        current: bytes,
        maximum: None,
    };
    // A limit in the middle of the next line.
    prlimit(pid, Resource::Fsize, limit(Some(size + 50))).unwrap();
    for number in 0..20 {
        download(&server, number, &bytes);
    }
    server.wait_for_log("says that the journal cannot be written", |line| {
        line.contains("journal.jsonl cannot be written")
    });
    for number in 20..40 {
        download(&server, number, &bytes);
    }
    assert_eq!(count_write_errors(&server), 1);
    assert_eq!(pins(&state), 1);
    prlimit(pid, Resource::Fsize, limit(None)).unwrap();
    download(&server, 40, &bytes);
    // All pins are written, including those that could not be written earlier.
    wait_until("the journal is written anew", PATIENCE, || {
        pins(&state) == 42
    });
    server.terminate();
}

#[test]
fn a_removed_journal_is_rewritten() {
    let (server, bytes) = server();
    let state = server.place().state();
    wait_until("the first pin is written", PATIENCE, || pins(&state) == 1);
    std::fs::remove_file(state.join("journal.jsonl")).unwrap();
    download(&server, 1, &bytes);
    wait_until("the journal is there again", PATIENCE, || pins(&state) == 2);
    server.terminate();
}

#[test]
fn a_journal_that_cannot_be_read_costs_only_history() {
    let place = Place::new();
    std::fs::create_dir(place.state().join("journal.jsonl")).unwrap();
    let bytes = noise(6, 5000);
    place.drop_firmware("P/2.0.0/update.bin", &bytes);
    let server = Server::start_in(place, &[]);
    server.wait_until_offered(&check(OTHER), &bytes);
    server.wait_for_log("says so", |line| {
        line.contains("journal.jsonl cannot be read")
    });
    server.terminate();
}

/// A server whose journal is on a disk of 256 KiB, with one small release, which is already offered.
fn server_on(mount: &Mount) -> (Server, Vec<u8>) {
    let bytes = noise(6, 5000);
    let place = Place::new();
    place.drop_firmware("P/2.0.0/update.bin", &bytes);
    let state = mount.path.display().to_string();
    let server = Server::start_in(place, &["--state", &state]);
    server.wait_until_offered(&check(OTHER), &bytes);
    wait_until("the first pin is written", PATIENCE, || {
        pins(&mount.path) == 1
    });
    (server, bytes)
}

/// Fills the disk. Returns the file to be removed.
fn fill(folder: &Path) -> std::path::PathBuf {
    let path = folder.join("ballast");
    let mut ballast = std::fs::File::create(&path).unwrap();
    while ballast.write(&[0; 512]).is_ok_and(|written| written > 0) {}
    path
}

#[test]
fn a_full_disk_tears_at_most_one_line_and_later_lines_are_whole() {
    let Some(mount) = Mount::new("tmpfs", &["-t", "tmpfs", "-o", "size=256k", "tmpfs"]) else {
        return;
    };
    let (server, bytes) = server_on(&mount);
    let ballast = fill(&mount.path);
    // Enough lines to exceed the rest of the journal's last page.
    for number in 0..60 {
        download(&server, number, &bytes);
    }
    server.wait_for_log("says that the journal cannot be written", |line| {
        line.contains("journal.jsonl cannot be written")
    });
    assert!(pins(&mount.path) < 60);
    // After SIGKILL the journal ends with a torn line. When there is space again, the next line must
    // not be appended to it.
    let place = server.kill();
    std::fs::remove_file(&ballast).unwrap();
    let state = mount.path.display().to_string();
    let server = Server::start_in(place, &["--state", &state]);
    server.wait_until_offered(&check(IMEI), &bytes);
    let before = pins(&mount.path);
    for number in 100..110 {
        download(&server, number, &bytes);
    }
    wait_until("all of them are written", PATIENCE, || {
        pins(&mount.path) == before + 10
    });
    // Fill the disk and free it while the server runs: all lost lines are then written.
    let ballast = fill(&mount.path);
    for number in 200..260 {
        download(&server, number, &bytes);
    }
    server.wait_for_log("says that the journal cannot be written", |line| {
        line.contains("journal.jsonl cannot be written")
    });
    std::fs::remove_file(&ballast).unwrap();
    download(&server, 300, &bytes);
    wait_until("the journal is written anew", PATIENCE, || {
        pins(&mount.path) == before + 10 + 61
    });
    let mut nothing = |_| {};
    let path = mount.path.join("journal.jsonl");
    let loaded = luat_ota::fleet::journal::load(&path, Stamp(1 << 31), unix_now(), &mut nothing);
    assert_eq!(loaded.unwrap().damaged, 0);
    drop(server.terminate());
}

/// A user who owns no files, because root may write anywhere.
const NOBODY: u32 = 65534;

#[test]
fn a_folder_that_has_become_read_only_costs_no_download() {
    use std::os::unix::fs::{PermissionsExt, chown};
    use std::os::unix::process::CommandExt;
    let is_root = rustix::process::geteuid().is_root();
    let place = Place::new();
    let mut command = luat_ota();
    if is_root {
        chown(place.state(), Some(NOBODY), Some(NOBODY)).unwrap();
        let reaches = luat_ota().arg("--version").uid(NOBODY).output();
        if !reaches.is_ok_and(|output| output.status.success()) {
            skipped("nobody but root may run the binary where it lies");
            return;
        }
        command.uid(NOBODY).gid(NOBODY);
    }
    let bytes = noise(6, 5000);
    place.drop_firmware("P/2.0.0/update.bin", &bytes);
    command.args(serve_arguments(&place, &[]));
    let server = Server::from_command(place, &mut command);
    server.wait_until_offered(&check(OTHER), &bytes);
    let state = server.place().state();
    let mode = |mode| {
        std::fs::set_permissions(&state, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    wait_until("the first pin is written", PATIENCE, || pins(&state) == 1);
    // An open file can still be written, but a new one cannot be created.
    std::fs::remove_file(state.join("journal.jsonl")).unwrap();
    mode(0o500);
    wait_until("it finds that out", PATIENCE, || {
        download(&server, 1, &bytes);
        count_write_errors(&server) == 1
    });
    for number in 2..20 {
        download(&server, number, &bytes);
    }
    assert_eq!(count_write_errors(&server), 1);
    mode(0o700);
    wait_until("all of them are written", PATIENCE, || {
        download(&server, 20, &bytes);
        state.join("journal.jsonl").exists() && pins(&state) == 21
    });
    drop(server.terminate());
}

#[test]
fn pending_lines_are_written_when_the_server_stops() {
    let (server, _) = server();
    let place = server.terminate();
    let text = std::fs::read_to_string(place.state().join("journal.jsonl")).unwrap();
    assert!(text.contains("{\"release\":\"2.0.0\""), "{text}");
    assert!(text.lines().last().unwrap().contains("\"stop\""), "{text}");
}

#[test]
fn devices_shows_the_journal_and_accepts_a_missing_one() {
    let place = Place::new();
    let state = place.state().display().to_string();
    let output = run(&["devices", "--state", &state]);
    assert!(output.status.success(), "{}", both(&output));
    assert!(both(&output).contains("No device"), "{}", both(&output));
    let now = Stamp(1 << 31);
    let loaded = Loaded::default();
    let mut journal = Journal::start(&place.state(), now, unix_now(), &loaded, 0).unwrap();
    for n in 0..3_u64 {
        let text = (862_991_443_753_386 + n).to_string();
        journal.write_later(
            &JournalEntry::Device(DeviceEntry {
                interval: 3600,
                progress: (n == 1).then(|| ProgressEntry {
                    state: State::Downloading,
                    reached: 250,
                    ..ProgressEntry::new("P", "2.0.0", ContentId([7; 32]), 1000, "1.0.0", now)
                }),
                ..DeviceEntry::new(DeviceId::parse(&text).unwrap(), &text, "P", "1.0.0", now)
            }),
            Priority::Major,
        );
    }
    journal.stop();
    let text = both(&run(&["devices", "--state", &state]));
    assert!(
        text.contains("3 devices.") && text.contains("2.0.0 downloading 25 %"),
        "{text}"
    );
    let text = both(&run(&[
        "devices",
        "--state",
        &state,
        "--imei",
        "862991443753387",
    ]));
    assert!(text.contains("1 device."), "{text}");
    let output = run(&["devices", "--state", "/nowhere/at/all"]);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn lift_reaches_the_running_server_or_the_next_one() {
    // A device on probation is accepted as well, because it may be held.
    let (server, bytes) = server();
    let state = server.place().state().display().to_string();
    server.wait_until_offered(&check(IMEI), &bytes);
    let output = run(&["lift", "--state", &state, "--imei", IMEI]);
    assert!(output.status.success(), "{}", both(&output));
    assert!(both(&output).contains("Lifted"), "{}", both(&output));
    server.wait_for_log("says what was lifted", |line| is_event(line, "lift"));
    let place = server.terminate();
    let output = run(&["lift", "--state", &state, "--imei", IMEI]);
    assert!(
        output.status.success() && both(&output).contains("No server"),
        "{}",
        both(&output)
    );
    let server = Server::start_in(place, &[]);
    server.wait_for_log("says what was lifted", |line| is_event(line, "lift"));
    for wrong in [&["lift"][..], &["lift", "--imei", "not an id"]] {
        assert_eq!(run(wrong).status.code(), Some(2));
    }
    server.terminate();
}

// Case 47.
#[test]
fn lift_of_an_unknown_device_fails_with_and_without_a_server() {
    let (server, bytes) = server();
    let place = server.terminate();
    let state = place.state();
    let lift = |id: &str| {
        run(&[
            "lift",
            "--state",
            &state.display().to_string(),
            "--imei",
            id,
        ])
    };
    let fails = |id: &str| {
        let output = lift(id);
        assert_eq!(output.status.code(), Some(1), "{}", both(&output));
        assert!(
            both(&output).contains("no such device"),
            "{}",
            both(&output)
        );
        let left = std::fs::read_dir(&state).unwrap().flatten();
        let mut left =
            left.filter(|entry| entry.file_name().to_string_lossy().starts_with("lift-"));
        assert!(left.next().is_none());
    };
    for id in ["999", "862991440099999", "sensor-7", "286C07AABBCC"] {
        fails(id);
    }
    let server = Server::start_in(place, &[]);
    server.wait_until_offered(&check(OTHER), &bytes);
    for id in ["999", "862991440099999", "sensor-7"] {
        fails(id);
        // Again: no reply file is left over.
        fails(id);
    }
    assert!(lift(OTHER).status.success());
    let place = server.terminate();
    // Without a running server, the list of known devices counts as well.
    std::fs::write(place.state().join("known-devices.txt"), "sensor-7\n").unwrap();
    assert!(lift("sensor-7").status.success());
}

#[test]
fn the_list_of_known_devices_is_read_again_when_it_changes() {
    let place = Place::new();
    let list = place.state().join("known-devices.txt");
    std::fs::write(&list, "862991443753386\nnot an id\n").unwrap();
    let server = Server::start_in(place, &[]);
    server.wait_for_log("counts the ids", |line| {
        is_event(line, "known-devices") && line.contains("\"ids\":1")
    });
    server.wait_for_log("names the bad line", |line| {
        line.contains("line 2: not an id")
    });
    std::fs::write(&list, "862991443753386\n862991443753387\n").unwrap();
    server.wait_for_log("counts the ids", |line| line.contains("\"ids\":2"));
}
