//! Promise: a file that is put into the folder in any way is offered within moments after it is complete and never
//! earlier; a file that is not firmware is quarantined with a reason and blocks nothing.

mod layouts;
mod medium;
mod quarantine;

use crate::common;

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use common::datagrams::Device;
use common::mount::Mount;
use common::packages::{EC7XX, delta_package, luadb, mistakes, noise, script_package};
use common::{
    IMEI, PATIENCE, Place, Rows, Server, SlowDownload, both, get, get_with, luat, luatos, run,
    serve_arguments, wait_until,
};
use serde_json::json;
use sha2::{Digest, Sha256};

/// Time limit of an offer. A file of one megabyte is offered within 1.5 s on an idle PC; a machine
/// that builds at the same time gets more time.
const SOON: Duration = Duration::from_secs(5);

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn md5(bytes: &[u8]) -> String {
    <md5::Md5 as md5::Digest>::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Runs `luat-ota check` on the folder. Returns whether it succeeded, and its output.
fn check(place: &Place) -> (bool, String) {
    let output = run(&["check", place.firmware().to_str().unwrap()]);
    (output.status.success(), both(&output))
}

#[test]
fn a_file_is_offered_soon_after_it_is_complete_by_every_way_of_copying() {
    let server = Server::start(&[]);
    let firmware = server.place().firmware();
    let outside = server.place().root.join("outside");
    let mut slow = Vec::new();
    let mut must_be_soon = |how: &str, project: &str, bytes: &[u8]| {
        let took = server.wait_until_offered(&luat(project, IMEI, "1.0.0"), bytes);
        println!("{how}: offered after {took:.2?}");
        if took > SOON {
            slow.push(format!("{how}: {took:.2?}"));
        }
    };
    // .part, then mv
    let bytes = noise(110, 1 << 20);
    server.drop_firmware("renamed/1.0.1/update.bin", &bytes);
    must_be_soon("mv of a .part", "renamed", &bytes);
    // cp
    let bytes = noise(111, 1 << 20);
    std::fs::write(server.place().path("copied/1.0.1/update.bin"), &bytes).unwrap();
    must_be_soon("cp", "copied", &bytes);
    // cp over an existing file
    let bytes = noise(112, 1 << 20);
    std::fs::write(server.place().path("copied/1.0.1/update.bin"), &bytes).unwrap();
    must_be_soon("cp over it", "copied", &bytes);
    // mv of a file from elsewhere
    let bytes = noise(113, 1 << 20);
    std::fs::create_dir_all(&outside).unwrap();
    std::fs::write(outside.join("file"), &bytes).unwrap();
    std::fs::rename(
        outside.join("file"),
        server.place().path("moved/1.0.1/update.bin"),
    )
    .unwrap();
    must_be_soon("mv of a file", "moved", &bytes);
    // mv of a tree
    let bytes = noise(114, 1 << 20);
    std::fs::create_dir_all(outside.join("tree/1.0.1")).unwrap();
    std::fs::write(outside.join("tree/1.0.1/update.bin"), &bytes).unwrap();
    std::fs::rename(outside.join("tree"), firmware.join("tree")).unwrap();
    must_be_soon("mv of a tree", "tree", &bytes);
    // hard link
    let bytes = noise(115, 1 << 20);
    std::fs::write(outside.join("file"), &bytes).unwrap();
    std::fs::hard_link(
        outside.join("file"),
        server.place().path("linked/1.0.1/update.bin"),
    )
    .unwrap();
    must_be_soon("a hard link", "linked", &bytes);
    // rsync -t and mv keep an old mtime: replacing a file by yesterday's file is a change, too.
    let bytes = noise(116, 1 << 20);
    let path = outside.join("old");
    std::fs::write(&path, &bytes).unwrap();
    let yesterday = std::time::SystemTime::now() - Duration::from_secs(86_400);
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(yesterday).unwrap();
    drop(file);
    std::fs::rename(&path, server.place().path("moved/1.0.1/update.bin")).unwrap();
    must_be_soon("mv of an older file over a newer", "moved", &bytes);
    // remove
    std::fs::remove_dir_all(firmware.join("tree")).unwrap();
    let start = Instant::now();
    server
        .wait_for_reply(&get(&luat("tree", IMEI, "1.0.0")), PATIENCE, |reply| {
            reply.status != 200
        })
        .unwrap();
    println!("rm: not offered any more after {:.2?}", start.elapsed());
    assert!(slow.is_empty(), "too slow: {slow:?}");
}

#[test]
fn a_slowly_written_file_is_not_offered_before_its_writer_closes_it() {
    let server = Server::start(&[]);
    let bytes = noise(117, 40_000);
    let mut file = std::fs::File::create(server.place().path("P/1.0.1/update.bin")).unwrap();
    let target = luat("P", IMEI, "1.0.0");
    for (number, piece) in bytes.chunks(1000).enumerate() {
        file.write_all(piece).unwrap();
        // Pause twice for longer than the time in which events must settle.
        let pause = if number == 10 || number == 30 {
            1700
        } else {
            40
        };
        let end = Instant::now() + Duration::from_millis(pause);
        while Instant::now() < end {
            let reply = server.get(&target);
            assert!(
                reply.status != 200,
                "offered after {} of {} bytes, while it is being written: {}",
                (number + 1) * 1000,
                bytes.len(),
                reply.head
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    drop(file);
    let took = server.wait_until_offered(&target, &bytes);
    println!("offered {took:.2?} after it was closed");
    assert!(took <= SOON, "{took:?}");
}

#[test]
fn a_known_package_that_was_cut_off_is_not_offered_until_it_is_whole() {
    let server = Server::start(&[]);
    let bytes = script_package(EC7XX, 118);
    let target = luatos("P", "Air780EPM", IMEI, "2012.1.3");
    let path = server
        .place()
        .path("P/2012.001.004/P_2012.001.004_LuatOS-SoC_Air780EPM.bin");
    // A copy that was cut off and closed.
    std::fs::write(&path, &bytes[..bytes.len() - 500]).unwrap();
    server.drop_firmware("mark/1.0.1/update.bin", &noise(119, 100));
    server.wait_until_offered(&luat("mark", IMEI, "1.0.0"), &noise(119, 100));
    assert_ne!(server.get(&target).status, 200);
    let (good, said) = check(server.place());
    assert!(!good && said.contains("P_2012.001.004"), "{said}");
    // rsync --inplace continues where it stopped.
    let mut file = std::fs::File::options().append(true).open(&path).unwrap();
    file.write_all(&bytes[bytes.len() - 500..]).unwrap();
    drop(file);
    server.wait_until_offered(&target, &bytes);
}

#[test]
fn unfinished_and_hidden_files_are_ignored() {
    let place = Place::new();
    let bytes = noise(120, 2000);
    for (number, name) in [
        "update.bin.part",
        "update.bin.tmp",
        "update.bin.filepart",
        "update.bin.crdownload",
        "update.bin~",
        ".update.bin",
        ".update.bin.Xy12Zw",
        "README.md",
    ]
    .iter()
    .enumerate()
    {
        std::fs::write(place.path(&format!("P{number}/1.0.1/{name}")), &bytes).unwrap();
    }
    place.drop_firmware("mark/1.0.1/update.bin", &bytes);
    let (good, said) = check(&place);
    assert!(good, "none of them is an error: {said}");
    assert!(
        said.contains("README.md"),
        "what is left alone is listed: {said}"
    );
    let server = Server::start_in(place, &[]);
    server.wait_until_offered(&luat("mark", IMEI, "1.0.0"), &bytes);
    for number in 0..8 {
        let reply = server.get(&luat(&format!("P{number}"), IMEI, "1.0.0"));
        assert!(
            matches!(reply.status, 403 | 404),
            "P{number}: {}",
            reply.show()
        );
    }
    // The file is served after it is renamed to its real name.
    let folder = server.place().firmware().join("P0/1.0.1");
    std::fs::rename(folder.join("update.bin.part"), folder.join("update.bin")).unwrap();
    server.wait_until_offered(&luat("P0", IMEI, "1.0.0"), &bytes);
}

#[test]
fn a_checksum_beside_a_file_must_be_right() {
    let place = Place::new();
    let bytes = noise(125, 3000);
    let wrong = "0".repeat(64);
    for (project, name, text) in [
        (
            "sha",
            "update.bin.sha256",
            format!("{}  update.bin\n", sha256(&bytes)),
        ),
        ("bare", "update.bin.sha256", sha256(&bytes).to_uppercase()),
        (
            "star",
            "update.bin.sha256",
            format!("{} *update.bin\r\n", sha256(&bytes)),
        ),
        (
            "md5",
            "update.bin.md5",
            format!("{}  update.bin\n", md5(&bytes)),
        ),
        (
            "wrong",
            "update.bin.sha256",
            format!("{wrong}  update.bin\n"),
        ),
        ("wrongmd5", "update.bin.md5", format!("{}\n", &wrong[..32])),
        (
            "broken",
            "update.bin.sha256",
            "it was right when I left\n".to_owned(),
        ),
    ] {
        place.drop_firmware(&format!("{project}/1.0.1/{name}"), text.as_bytes());
        place.drop_firmware(&format!("{project}/1.0.1/update.bin"), &bytes);
    }
    let (good, said) = check(&place);
    assert!(!good && said.contains("wrong/"), "{said}");
    let server = Server::start_in(place, &[]);
    for project in ["sha", "bare", "star", "md5"] {
        server.wait_until_offered(&luat(project, IMEI, "1.0.0"), &bytes);
    }
    for project in ["wrong", "wrongmd5", "broken"] {
        assert_ne!(
            server.get(&luat(project, IMEI, "1.0.0")).status,
            200,
            "{project}"
        );
    }
    // Correct the checksum.
    server.drop_firmware("wrong/1.0.1/update.bin.sha256", sha256(&bytes).as_bytes());
    server.wait_until_offered(&luat("wrong", IMEI, "1.0.0"), &bytes);
    // Spoil a correct checksum.
    server.drop_firmware("sha/1.0.1/update.bin.sha256", wrong.as_bytes());
    server
        .wait_for_reply(&get(&luat("sha", IMEI, "1.0.0")), PATIENCE, |reply| {
            reply.status != 200
        })
        .unwrap();
}

#[test]
fn the_folder_itself_may_be_deleted_and_made_again() {
    let mut server = Server::start(&[]);
    let target = luat("P", IMEI, "1.0.0");
    let (first, second, third) = (noise(126, 900), noise(127, 901), noise(128, 902));
    server.drop_firmware("P/1.0.1/update.bin", &first);
    server.wait_until_offered(&target, &first);
    std::fs::remove_dir_all(server.place().firmware()).unwrap();
    // The rescan every 30 s notices this at the latest.
    server
        .wait_for_reply(&get(&target), Duration::from_secs(45), |reply| {
            reply.status != 200
        })
        .unwrap();
    std::fs::create_dir(server.place().firmware()).unwrap();
    server.drop_firmware("P/1.0.1/update.bin", &second);
    let start = Instant::now();
    server
        .wait_for_reply(&get(&target), Duration::from_secs(45), |reply| {
            reply.body == second
        })
        .unwrap();
    println!("seen again after {:.2?}", start.elapsed());
    // The new folder is watched, too.
    server.drop_firmware("P/1.0.2/update.bin", &third);
    let took = server.wait_until_offered(&target, &third);
    println!("watched again: {took:.2?}");
    assert!(server.is_running());
}

#[test]
fn rules_that_cannot_be_read_change_nothing_and_release_nothing() {
    let place = Place::new();
    let bytes = noise(129, 800);
    let other = "862991443750002";
    place.rules("P/1.0.1/release.json", json!({ "allow": [IMEI] }));
    place.drop_firmware("P/1.0.1/update.bin", &bytes);
    // Rules that were never valid: the release is held back.
    place.drop_firmware("Q/1.0.1/release.json", b"{ \"alow\": [] }");
    place.drop_firmware("Q/1.0.1/update.bin", &bytes);
    let (good, said) = check(&place);
    assert!(
        !good && said.contains("alow") && said.contains("allow"),
        "an unknown key and the nearest known one: {said}"
    );
    let server = Server::start_in(place, &[]);
    server.wait_until_offered(&luat("P", IMEI, "1.0.0"), &bytes);
    server.wait_until_refused(&luat("P", other, "1.0.0"), 403, 21);
    assert_ne!(server.get(&luat("Q", IMEI, "1.0.0")).status, 200);
    for broken in [
        &b"{ \"allow\": ["[..],
        b"",
        b"[]",
        b"{ \"percent\": 101 }",
        b"{ \"paused\": 1 }",
        b"{ \"allow\": \"862991443753386\" }",
        b"{ \"allwo\": [] }",
        b"\xff\xfe{}",
    ] {
        let mark = server.log_mark();
        server.drop_firmware("P/1.0.1/release.json", broken);
        let line = server.log.wait(mark, PATIENCE, |line| {
            line.contains("release.json") && !line.contains("\"info\"")
        });
        assert!(line.is_some(), "{} is not reported", broken.escape_ascii());
        server
            .get(&luat("P", IMEI, "1.0.0"))
            .must_be_file(&bytes)
            .unwrap();
        server
            .get(&luat("P", other, "1.0.0"))
            .must_refuse(403, 21)
            .unwrap();
    }
    // Correct the rules.
    server.rules("P/1.0.1/release.json", json!({ "allow": [other] }));
    server.wait_until_offered(&luat("P", other, "1.0.0"), &bytes);
    server.rules("Q/1.0.1/release.json", json!({}));
    server.wait_until_offered(&luat("Q", IMEI, "1.0.0"), &bytes);
    // Without rules every device may have the release.
    std::fs::remove_file(server.place().path("P/1.0.1/release.json")).unwrap();
    server.wait_until_offered(&luat("P", IMEI, "1.0.0"), &bytes);
}

#[test]
fn thousands_of_files_at_once_are_all_seen() {
    let server = Server::start(&[]);
    // Create the files outside the folder, then move the tree in, which causes a single event.
    let outside = server.place().root.join("outside");
    for project in 0..60 {
        for version in 0..50 {
            let folder = outside.join(format!("T{project}/1.0.{version}"));
            std::fs::create_dir_all(&folder).unwrap();
            let bytes = noise(project * 100 + version, 64);
            std::fs::write(folder.join("update.bin"), bytes).unwrap();
        }
    }
    for project in 0..60 {
        let name = format!("T{project}");
        std::fs::rename(outside.join(&name), server.place().firmware().join(&name)).unwrap();
    }
    let start = Instant::now();
    for project in 0..60 {
        let target = luat(&format!("T{project}"), IMEI, "1.0.48");
        server
            .wait_for_reply(&get(&target), Duration::from_secs(90), |reply| {
                reply.status == 200
            })
            .unwrap()
            .must_be_file(&noise(project * 100 + 49, 64))
            .unwrap();
    }
    println!("3000 releases offered after {:.2?}", start.elapsed());
}

#[test]
fn a_folder_that_cannot_be_written_is_served() {
    let place = Place::new();
    let bytes = noise(143, 500);
    place.drop_firmware("P/1.0.1/update.bin", &bytes);
    let folders = ["P/1.0.1", "P", ""].map(|path| place.firmware().join(path));
    for folder in &folders {
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o555)).unwrap();
    }
    let server = Server::start_in(place, &[]);
    server.wait_until_offered(&luat("P", IMEI, "1.0.0"), &bytes);
    for folder in folders.iter().rev() {
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
}

#[test]
fn a_state_folder_inside_the_firmware_folder_is_no_firmware() {
    let place = Place::new();
    let bytes = noise(144, 500);
    place.drop_firmware("P/1.0.1/update.bin", &bytes);
    let state = place.firmware().join(".luat-ota");
    let server = Server::start_in(place, &["--state", state.to_str().unwrap()]);
    server.wait_until_offered(&luat("P", IMEI, "1.0.0"), &bytes);
    wait_until("the state is written", PATIENCE, || {
        !common::files_under(&state).is_empty()
    });
    assert_ne!(server.get("/firmware/.luat-ota/secret").status, 200);
}
