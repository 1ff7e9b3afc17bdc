//! Promise: the contents of the state folder may be lost, old or wrong, and still no module gets a
//! wrong byte; the server repairs what it can.

use crate::common;

use std::path::Path;

use common::mount::Mount;
use common::{IMEI, PATIENCE, Place, Server, luat, wait_until};

/// Bytes that are not text, so that the server takes them for firmware.
fn firmware(seed: u8) -> Vec<u8> {
    (0..5000u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8 ^ seed)
        .collect()
}

/// A folder whose only release was offered by a server that has stopped since.
fn served_once(bytes: &[u8]) -> Place {
    let server = Server::start(&[]);
    server.drop_firmware("P/2.0.0/update.bin", bytes);
    server.wait_until_offered(&luat("P", IMEI, "1.0.0"), bytes);
    server.terminate()
}

#[test]
fn a_wrong_recorded_hash_heals_and_serves_no_wrong_byte() {
    let bytes = firmware(1);
    let place = served_once(&bytes);
    let table = place.state().join("hashes.jsonl");
    let text = std::fs::read_to_string(&table).unwrap();
    let at = text.find("\"sha256\":\"").unwrap() + "\"sha256\":\"".len();
    let wrong = format!("{}{}{}", &text[..at], "ab".repeat(32), &text[at + 64..]);
    std::fs::write(&table, wrong).unwrap();
    let server = Server::start_in(place, &[]);
    let target = luat("P", IMEI, "1.0.0");
    let healed = server.wait_for_reply(&common::get(&target), PATIENCE, |reply| {
        assert!(reply.status != 200 || reply.body == bytes, "wrong bytes");
        reply.status == 200
    });
    assert_eq!(healed.unwrap().body, bytes);
}

#[test]
fn a_damaged_table_of_hashes_only_costs_reading_the_files_again() {
    let bytes = firmware(2);
    let mut place = served_once(&bytes);
    for damage in [
        "",
        "not JSON\n",
        "\u{0}\u{0}{\"luat-ota\":\"hashes\"",
        "{}\n{}\n[1,2",
    ] {
        std::fs::write(place.state().join("hashes.jsonl"), damage).unwrap();
        let server = Server::start_in(place, &[]);
        server.wait_until_offered(&luat("P", IMEI, "1.0.0"), &bytes);
        place = server.terminate();
    }
}

/// Starts a server, which must offer the release to a module within a second of being ready (and must
/// be ready within PATIENCE, on a machine that is busy with other work).
fn must_serve(place: Place, flags: &[&str], bytes: &[u8]) -> Server {
    let server = Server::start_in(place, flags);
    server.wait_until_offered(&luat("P", IMEI, "1.0.0"), bytes);
    server
}

/// A folder that was served once, with `change` applied to its state folder.
fn with_state(change: impl FnOnce(&Path)) -> (Place, Vec<u8>) {
    let bytes = firmware(3);
    let place = served_once(&bytes);
    change(&place.state());
    (place, bytes)
}

fn fifo_at(path: &Path) {
    let _ = std::fs::remove_file(path);
    let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU);
    rustix::fs::mknodat(rustix::fs::CWD, path, kind, mode, 0).unwrap();
}

fn folder_at(path: &Path) {
    let _ = std::fs::remove_file(path);
    std::fs::create_dir(path).unwrap();
    std::fs::write(path.join("x"), "").unwrap();
}

fn device_at(path: &Path) {
    let _ = std::fs::remove_file(path);
    std::os::unix::fs::symlink("/dev/zero", path).unwrap();
}

fn holes_at(path: &Path) {
    let file = std::fs::File::create(path).unwrap();
    // A file system without such large files does not have this problem.
    let _ = file.set_len(1 << 40);
}

fn empty_at(path: &Path) {
    std::fs::write(path, "").unwrap();
}

fn short_at(path: &Path) {
    std::fs::write(path, "abc").unwrap();
}

// Case 50.
#[test]
fn damaged_files_in_the_state_folder_stop_nothing_and_the_log_states_the_loss() {
    type Damage = fn(&Path);
    const NO_FILE: [Damage; 3] = [fifo_at, folder_at, device_at];
    const NO_TEXT: [Damage; 3] = [holes_at, empty_at, short_at];
    let names = [
        "secret",
        "operator-token",
        "journal.jsonl",
        "hashes.jsonl",
        "known-devices.txt",
        "lock",
        ".secret.tmp",
        "journal.new",
        "lift-862991443753386",
    ];
    for (number, damage) in NO_FILE.iter().chain(&NO_TEXT).enumerate() {
        let (place, bytes) = with_state(|state| {
            names.iter().for_each(|name| damage(&state.join(name)));
        });
        let server = must_serve(place, &[], &bytes);
        let said = [
            "UDP downloads that were running",
            "is no longer accepted",
            "the records of earlier runs",
        ];
        // A journal that is empty or has damaged lines is still used.
        let is_file = number >= NO_FILE.len();
        for said in said.iter().take(if is_file { 2 } else { 3 }) {
            let what = format!("says {said:?}, damage {number}");
            server.wait_for_log(&what, |line| line.contains(said));
        }
        // Replaced secrets remain the same after the next start.
        let before = secrets(&server.place().state());
        let server = must_serve(server.terminate(), &[], &bytes);
        let after = secrets(&server.place().state());
        assert_eq!(before, after, "damage {number}");
        let lengths = before.map(|text| text.trim().len());
        assert_eq!(lengths, [64, 32], "damage {number}");
    }
}

fn secrets(state: &Path) -> [String; 2] {
    ["secret", "operator-token"].map(|name| std::fs::read_to_string(state.join(name)).unwrap())
}

// Case 50.
#[test]
fn a_state_folder_on_a_read_only_disk_is_read_and_is_written_when_that_is_possible() {
    let Some(mount) = Mount::new("tmpfs", &["-t", "tmpfs", "tmpfs"]) else {
        return;
    };
    let state = mount.path.display().to_string();
    let bytes = firmware(4);
    for is_new in [true, false] {
        let place = Place::new();
        place.drop_firmware("P/2.0.0/update.bin", &bytes);
        mount.run("mount", &["-o", "remount,ro"]);
        let server = must_serve(place, &["--state", &state], &bytes);
        server.wait_for_log("says what is lost", |line| {
            line.contains("cannot be used") && line.contains("restart forgets")
        });
        let devices = common::datagrams::Device::new(server.udp);
        let check = format!("{IMEI},P_Luat_V0035_8955,1.0.0");
        let offer = devices.check(&check).unwrap();
        assert_eq!(devices.download(offer).unwrap(), bytes);
        let before = std::fs::read_dir(&mount.path).unwrap().count();
        assert_eq!(before == 0, is_new);
        mount.run("mount", &["-o", "remount,rw"]);
        server.wait_for_log("says that it is used", |line| line.contains("is used now"));
        let mut number = 0_u64;
        wait_until(
            "the journal and the hashes are written",
            PATIENCE * 4,
            || {
                number += 1;
                let imei = (862_991_440_000_000 + number).to_string();
                server.get(&luat("P", &imei, "1.0.0"));
                let has = |name: &str| {
                    std::fs::metadata(mount.path.join(name)).is_ok_and(|f| f.len() > 0)
                };
                has("journal.jsonl") && (has("hashes.jsonl") || number > 50)
            },
        );
        let [secret, token] = secrets(&mount.path).map(|text| text.trim().len());
        assert_eq!((secret, token), (64, 32));
        if cfg!(feature = "operator") {
            let read = std::fs::read_to_string(mount.path.join("read-token")).unwrap();
            assert_eq!(read.trim().len(), 32);
        }
        // The ids of running downloads remain valid after the restart.
        let server = Server::start_in(server.terminate(), &["--state", &state]);
        server.wait_until_offered(&luat("P", IMEI, "1.0.0"), &bytes);
        let devices = common::datagrams::Device::new(server.udp);
        assert_eq!(devices.download(offer).unwrap(), bytes);
        server.terminate();
    }
}

// Case 50.
#[test]
fn a_full_disk_at_the_first_start_stops_nothing() {
    // Space for nothing, or for folders and empty files only.
    for options in [
        "size=4k,nr_inodes=1",
        "size=4k,nr_inodes=2",
        "size=4k,nr_inodes=3",
        "size=4k",
    ] {
        let Some(mount) = Mount::new("tmpfs", &["-t", "tmpfs", "-o", options, "tmpfs"]) else {
            return;
        };
        let _ = std::fs::write(mount.path.join("ballast"), [1; 8192]);
        let bytes = firmware(5);
        let place = Place::new();
        place.drop_firmware("P/2.0.0/update.bin", &bytes);
        let state = mount.path.join("state").display().to_string();
        let server = must_serve(place, &["--state", &state], &bytes);
        server.wait_for_log("says what is lost", |line| {
            line.contains("cannot be used") && line.contains("restart forgets")
        });
        server.terminate();
    }
}

// Case 50.
#[test]
fn a_named_state_folder_that_is_no_folder_stops_nothing() {
    let bytes = firmware(6);
    for make in [fifo_at, empty_at, device_at] {
        let place = Place::new();
        place.drop_firmware("P/2.0.0/update.bin", &bytes);
        let path = place.root.join("odd");
        make(&path);
        let state = path.display().to_string();
        let server = must_serve(place, &["--state", &state], &bytes);
        server.wait_for_log("says what is lost", |line| {
            line.contains("odd cannot be used") && line.contains("--state")
        });
        // The folder is used as soon as possible.
        std::fs::remove_file(&path).unwrap();
        server.wait_for_log("says that it is used", |line| line.contains("is used now"));
        wait_until("the secret is kept", PATIENCE, || {
            path.join("secret").exists()
        });
        server.terminate();
    }
}

#[test]
fn only_the_lock_of_another_server_stops_the_start() {
    let (place, bytes) = with_state(|_| {});
    let arguments = common::serve_arguments(&place, &[]);
    let server = must_serve(place, &[], &bytes);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let output = common::run(&arguments);
    assert_eq!(output.status.code(), Some(1));
    let said = common::both(&output);
    assert!(said.contains("Another luat-ota is using"), "{said}");
    server.terminate();
}

#[test]
fn commands_that_read_the_state_do_not_hang_on_special_files() {
    for damage in [fifo_at, folder_at, device_at] {
        let (place, _) = with_state(|state| {
            for name in ["journal.jsonl", "hashes.jsonl", "lock"] {
                damage(&state.join(name));
            }
        });
        let state = place.state().display().to_string();
        let firmware = place.firmware().display().to_string();
        assert_eq!(
            common::run(&["devices", "--state", &state]).status.code(),
            Some(1)
        );
        std::fs::rename(place.state(), place.firmware().join(".luat-ota")).unwrap();
        assert!(common::run(&["check", &firmware]).status.success());
    }
}
