//! Promise: what is dropped into the folder, however it gets there, is offered within moments of
//! being complete and never sooner; what is no firmware is kept out with a reason and blocks nothing.

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

/// A megabyte on a PC is offered within 1.5 s; a machine that builds at the same time gets more.
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

/// `luat-ota check` on the folder: its exit status and what it says.
fn check(place: &Place) -> (bool, String) {
    let output = run(&["check", place.firmware().to_str().unwrap()]);
    (output.status.success(), both(&output))
}

#[test]
fn a_file_is_offered_soon_after_it_is_complete_however_it_came() {
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
    // cp over it
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
    // A hard link
    let bytes = noise(115, 1 << 20);
    std::fs::write(outside.join("file"), &bytes).unwrap();
    std::fs::hard_link(
        outside.join("file"),
        server.place().path("linked/1.0.1/update.bin"),
    )
    .unwrap();
    must_be_soon("a hard link", "linked", &bytes);
    // rsync -t and mv keep an old mtime: going back to yesterday's file is a change as well.
    let bytes = noise(116, 1 << 20);
    let path = outside.join("old");
    std::fs::write(&path, &bytes).unwrap();
    let yesterday = std::time::SystemTime::now() - Duration::from_secs(86_400);
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(yesterday).unwrap();
    drop(file);
    std::fs::rename(&path, server.place().path("moved/1.0.1/update.bin")).unwrap();
    must_be_soon("mv of an older file over a newer", "moved", &bytes);
    // Gone again
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
fn a_file_that_trickles_in_is_not_offered_before_its_writer_closes_it() {
    let server = Server::start(&[]);
    let bytes = noise(117, 40_000);
    let mut file = std::fs::File::create(server.place().path("P/1.0.1/update.bin")).unwrap();
    let target = luat("P", IMEI, "1.0.0");
    for (number, piece) in bytes.chunks(1000).enumerate() {
        file.write_all(piece).unwrap();
        // Twice it pauses for longer than any settling of the events.
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
    // rsync --inplace goes on where it stopped.
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
    // Renamed to its real name it is there.
    let folder = server.place().firmware().join("P0/1.0.1");
    std::fs::rename(folder.join("update.bin.part"), folder.join("update.bin")).unwrap();
    server.wait_until_offered(&luat("P0", IMEI, "1.0.0"), &bytes);
}

#[test]
fn what_people_drop_by_mistake_is_refused_and_blocks_nothing() {
    let place = Place::new();
    let mistakes = mistakes();
    for (number, (name, bytes)) in mistakes.iter().enumerate() {
        place.drop_firmware(&format!("M{number}/1.0.1/{name}"), bytes);
    }
    let bytes = noise(121, 2000);
    place.drop_firmware("mark/1.0.1/update.bin", &bytes);
    let (good, said) = check(&place);
    assert!(!good, "check must fail: {said}");
    let mut rows = Rows::default();
    for (number, (name, _)) in mistakes.iter().enumerate() {
        let listed = said.contains(&format!("M{number}/1.0.1/{name}"))
            || said.lines().any(|line| line.contains(name));
        rows.row(
            name,
            if listed {
                Ok(())
            } else {
                Err("not listed by `check`".to_owned())
            },
        );
    }
    let server = Server::start_in(place, &[]);
    server.wait_until_offered(&luat("mark", IMEI, "1.0.0"), &bytes);
    for (number, (name, _)) in mistakes.iter().enumerate() {
        for target in [
            luat(&format!("M{number}"), IMEI, "1.0.0"),
            luatos(&format!("M{number}"), "Air780EPM", IMEI, "2012.1.0"),
        ] {
            rows.row(
                name,
                server.try_get(&target).and_then(|reply| {
                    ensure!(
                        matches!(reply.status, 403 | 404),
                        "served: {}",
                        reply.show()
                    );
                    Ok(())
                }),
            );
        }
    }
    rows.finish();
}

#[test]
fn files_that_are_no_plain_files_are_kept_out_and_block_nothing() {
    let place = Place::new();
    let bytes = noise(122, 2000);
    let secret = place.root.join("secret.bin");
    std::fs::write(&secret, noise(123, 1000)).unwrap();
    std::fs::create_dir_all(place.root.join("elsewhere/1.0.1")).unwrap();
    std::fs::write(place.root.join("elsewhere/1.0.1/update.bin"), &bytes).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        place.path("fifo/1.0.1/update.bin"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o644),
        0,
    )
    .unwrap();
    std::os::unix::fs::symlink(&secret, place.path("link/1.0.1/update.bin")).unwrap();
    std::os::unix::fs::symlink(place.root.join("elsewhere"), place.path("linked-folder")).unwrap();
    std::os::unix::fs::symlink(".", place.path("loop/1.0.1")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", place.path("zero/1.0.1/update.bin")).unwrap();
    std::os::unix::fs::symlink("nowhere", place.path("dangling/1.0.1/update.bin")).unwrap();
    let _socket =
        std::os::unix::net::UnixListener::bind(place.path("socket/1.0.1/update.bin")).unwrap();
    std::fs::create_dir_all(place.path("folder/1.0.1/update.bin")).unwrap();
    let odd = place.path("odd/1.0.1/x");
    std::fs::write(
        odd.with_file_name(OsStr::from_bytes(b"\xff\xfe.bin")),
        &bytes,
    )
    .unwrap();
    place.drop_firmware("mark/1.0.1/update.bin", &bytes);
    let (good, said) = check(&place);
    assert!(!good, "check must fail: {said}");
    for name in ["fifo", "link/", "linked-folder", "zero", "socket", "odd"] {
        assert!(said.contains(name), "{name} is not listed: {said}");
    }
    let server = Server::start_in(place, &[]);
    server.wait_until_offered(&luat("mark", IMEI, "1.0.0"), &bytes);
    for project in [
        "fifo",
        "link",
        "linked-folder",
        "loop",
        "zero",
        "dangling",
        "socket",
        "folder",
        "odd",
    ] {
        let reply = server.get(&luat(project, IMEI, "1.0.0"));
        assert!(
            matches!(reply.status, 403 | 404),
            "{project}: {}",
            reply.show()
        );
    }
    // And the folder is still looked at.
    server.drop_firmware("mark/1.0.2/update.bin", &noise(124, 300));
    server.wait_until_offered(&luat("mark", IMEI, "1.0.0"), &noise(124, 300));
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
    // Mended.
    server.drop_firmware("wrong/1.0.1/update.bin.sha256", sha256(&bytes).as_bytes());
    server.wait_until_offered(&luat("wrong", IMEI, "1.0.0"), &bytes);
    // And spoiled.
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
    // At the latest the rescan of every 30 s sees it.
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
    // And is watched again.
    server.drop_firmware("P/1.0.2/update.bin", &third);
    let took = server.wait_until_offered(&target, &third);
    println!("watched again: {took:.2?}");
    assert!(server.lives());
}

#[test]
fn rules_that_cannot_be_read_change_nothing_and_release_nothing() {
    let place = Place::new();
    let bytes = noise(129, 800);
    let other = "862991443750002";
    place.rules("P/1.0.1/release.json", json!({ "allow": [IMEI] }));
    place.drop_firmware("P/1.0.1/update.bin", &bytes);
    // Never good: held back.
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
    // Mended.
    server.rules("P/1.0.1/release.json", json!({ "allow": [other] }));
    server.wait_until_offered(&luat("P", other, "1.0.0"), &bytes);
    server.rules("Q/1.0.1/release.json", json!({}));
    server.wait_until_offered(&luat("Q", IMEI, "1.0.0"), &bytes);
    // Without any file everybody may have it.
    std::fs::remove_file(server.place().path("P/1.0.1/release.json")).unwrap();
    server.wait_until_offered(&luat("P", IMEI, "1.0.0"), &bytes);
}

#[test]
fn all_layouts_of_the_folder_mean_the_same_and_may_be_mixed() {
    let place = Place::new();
    let script = script_package(EC7XX, 130);
    let delta = delta_package(EC7XX, 131);
    let plain: Vec<Vec<u8>> = (0..6).map(|n| noise(132 + n, 700 + n as usize)).collect();
    place.drop_firmware("ALIYUN/0.2.1/update.bin", &plain[0]);
    place.drop_firmware(
        "ALIYUN/2012.001.004/ALIYUN_2012.001.004_LuatOS-SoC_Air780EPM.bin",
        &script,
    );
    place.drop_firmware(
        "ALIYUN/2012.001.004/from-2008/ALIYUN_2012.001.004_LuatOS-SoC_Air780EPM.bin",
        &delta,
    );
    place.drop_firmware("ALIYUN_0.2.2/update.bin", &plain[1]);
    place.drop_firmware("FOTA2_DEMO_2012.001.001_LuatOS-SoC_Air780EPM.bin", &script);
    place.drop_firmware("my_app/v1.2/固件.ota", &plain[2]);
    place.drop_firmware("中文_项目_3.1.0/update.dfota.bin", &plain[3]);
    place.drop_firmware("app_3.0.5_Luat_V0022_RDA8910.dfota.bin", &plain[4]);
    place.drop_firmware("esp/1.0.1/image.BIN", &luadb(140));
    let (good, said) = check(&place);
    assert!(good, "nothing is wrong here: {said}");
    let server = Server::start_in(place, &[]);
    let rda = format!(
        "/luat/update?imei={IMEI}&firmware_name=app_Luat_RDA8910&core_version=22&dfota=1&version=3.0.4"
    );
    let soc = |project, version| luatos(project, "Air780EPM", IMEI, version);
    let mut rows = Rows::default();
    for (what, target, bytes) in [
        (
            "a folder in a project",
            luat("ALIYUN", IMEI, "0.2.0"),
            &plain[1],
        ),
        (
            "project and version in one name",
            luat("ALIYUN", IMEI, "0.2.1"),
            &plain[1],
        ),
        ("only for its platform", soc("ALIYUN", "2012.1.3"), &script),
        ("a delta from its core", soc("ALIYUN", "2008.1.3"), &delta),
        (
            "Luatools' file as it is",
            soc("FOTA2_DEMO", "2012.1.0"),
            &script,
        ),
        (
            "underscores and a v",
            luat("my_app", IMEI, "1.1.9"),
            &plain[2],
        ),
        ("Chinese", luat("中文_项目", IMEI, "3.0.9"), &plain[3]),
        (
            "Chinese, encoded",
            luat("%E4%B8%AD%E6%96%87_%E9%A1%B9%E7%9B%AE", IMEI, "3.0.9"),
            &plain[3],
        ),
        ("an 8910's file", rda, &plain[4]),
        (
            "any case of the ending",
            luat("esp", IMEI, "1.0.0"),
            &luadb(140),
        ),
    ] {
        rows.row(
            what,
            server
                .wait_for_reply(&get(&target), PATIENCE, |reply| reply.body == *bytes)
                .and_then(|reply| reply.must_be_file(bytes)),
        );
    }
    // The same in GBK.
    let mut request = b"GET /luat/update?imei=1&firmware_name=".to_vec();
    request.extend_from_slice(&[0xD6, 0xD0, 0xCE, 0xC4, b'_', 0xCF, 0xEE, 0xC4, 0xBF]);
    request.extend_from_slice(b"_Luat_V0017_ASR1802&version=3.0.9 HTTP/1.1\r\nHost: h\r\n\r\n");
    rows.row(
        "Chinese in GBK",
        server
            .try_http(&request)
            .and_then(|reply| reply.must_be_file(&plain[3])),
    );
    rows.finish();
}

#[test]
fn a_project_whose_name_ends_like_a_version_can_have_a_folder() {
    let place = Place::new();
    let bytes = noise(145, 700);
    place.drop_firmware("GPS_4G_2/1.0.1/update.bin", &bytes);
    let server = Server::start_in(place, &[]);
    server.wait_until_offered(&luat("GPS_4G_2", IMEI, "1.0.0"), &bytes);
}

#[test]
fn names_that_contradict_or_say_nothing_are_quarantined() {
    let place = Place::new();
    let bytes = noise(141, 600);
    // Another version or project than its folder's.
    place.drop_firmware("A/1.0.1/A_1.0.2_LuatOS-SoC_Air780EPM.bin", &bytes);
    place.drop_firmware("B/1.0.1/C_1.0.1_LuatOS-SoC_Air780EPM.bin", &bytes);
    // No version at all.
    place.drop_firmware("D/update.bin", &bytes);
    place.drop_firmware("stray.bin", &bytes);
    place.drop_firmware("E/latest/update.bin", &bytes);
    place.drop_firmware("F/1.0.1/from-nowhere/update.bin", &bytes);
    // Two files for the same modules.
    place.drop_firmware("G/1.0.1/update.bin", &bytes);
    place.drop_firmware("G/1.0.1/other.bin", &noise(142, 600));
    // The same twice is no contradiction.
    place.drop_firmware("H/1.0.1/update.bin", &bytes);
    place.drop_firmware("H/1.0.1/other.bin", &bytes);
    let (good, said) = check(&place);
    assert!(!good, "{said}");
    let server = Server::start_in(place, &[]);
    server.wait_until_offered(&luat("H", IMEI, "1.0.0"), &bytes);
    let mut rows = Rows::default();
    for name in [
        "A_1.0.2_LuatOS-SoC_Air780EPM.bin",
        "C_1.0.1_LuatOS-SoC_Air780EPM.bin",
        "D/update.bin",
        "stray.bin",
        "latest",
        "from-nowhere",
        "G/1.0.1/update.bin",
        "G/1.0.1/other.bin",
    ] {
        rows.row(
            name,
            if said.contains(name) {
                Ok(())
            } else {
                Err(format!("not named by `check`: {said}"))
            },
        );
    }
    for project in ["A", "B", "C", "D", "E", "F", "G", "stray"] {
        for target in [
            luat(project, IMEI, "0.0.1"),
            luatos(project, "Air780EPM", IMEI, "1103.0.1"),
        ] {
            rows.row(
                project,
                server.try_get(&target).and_then(|reply| {
                    ensure!(reply.status != 200, "served: {}", reply.head);
                    Ok(())
                }),
            );
        }
    }
    rows.finish();
}

#[test]
fn thousands_of_files_at_once_are_all_seen() {
    let server = Server::start(&[]);
    // Beside the folder, then moved in: one event for all of them.
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

// Case 61.
#[test]
fn modules_are_told_to_come_back_while_the_medium_is_gone() {
    let Some(mount) = Mount::new("tmpfs", &["-t", "tmpfs", "none"]) else {
        return;
    };
    let place = Place::new();
    let bytes = noise(160, 50_000);
    std::fs::create_dir_all(mount.path.join("P/1.0.1")).unwrap();
    std::fs::write(mount.path.join("P/1.0.1/update.bin"), &bytes).unwrap();
    let rules = json!({"direct": true}).to_string();
    std::fs::write(mount.path.join("P/release.json"), rules).unwrap();
    let mut command = common::luat_ota();
    let flags = [
        mount.path.to_str().unwrap(),
        "--http=127.0.0.1:0",
        "--udp=127.0.0.1:0",
        "--operator=off",
        "--rescan=1",
        "--log-format=json",
        "--state",
        place.state().to_str().unwrap(),
    ]
    .map(str::to_owned);
    command.args(flags);
    let server = Server::from_command(place, &mut command);
    let target = luat("P", IMEI, "1.0.0");
    server.wait_until_offered(&target, &bytes);
    let path = mount.path.clone();
    mount.run("umount", &["-l"]);
    let asks = [
        target.clone(),
        luat("Q", IMEI, "1.0.0"),
        "/firmware/P/1.0.1/update.bin".to_owned(),
    ];
    for ask in &asks {
        let gone = server
            .wait_for_reply(&get(ask), PATIENCE, |reply| reply.status == 503)
            .unwrap();
        assert!(gone.body.is_empty(), "{ask}: {gone:?}");
    }
    // A folder that a person makes there, and what lies in it, is served.
    let (other, third) = (noise(161, 900), noise(162, 901));
    std::fs::create_dir_all(path.join("Q/1.0.1")).unwrap();
    std::fs::write(path.join("Q/1.0.1/update.bin"), &other).unwrap();
    server.wait_until_offered(&luat("Q", IMEI, "1.0.0"), &other);
    let refused = server
        .wait_for_reply(&get(&target), PATIENCE, |reply| reply.status == 403)
        .unwrap();
    assert!(String::from_utf8_lossy(&refused.body).contains("25"));
    // What a person removes there is gone: it is the same device.
    std::fs::remove_dir_all(path.join("Q")).unwrap();
    server
        .wait_for_reply(&get(&asks[1]), PATIENCE, |reply| reply.status == 403)
        .unwrap();
    // The folder itself vanishes.
    std::fs::remove_dir(&path).unwrap();
    server
        .wait_for_reply(&get(&target), PATIENCE, |reply| {
            reply.status == 503 && reply.body.is_empty()
        })
        .unwrap();
    std::fs::create_dir_all(path.join("P/1.0.1")).unwrap();
    std::fs::write(path.join("P/1.0.1/update.bin"), &third).unwrap();
    server.wait_until_offered(&target, &third);
}

/// The path of the URL in libfota3's offer.
fn libfota3_path(server: &Server) -> String {
    let request = format!(
        "/api/site/turnkey_fota?imei={IMEI}&project_key=k&model=Air780EPM&core_id=1&core_version=2046\
         &script_name=P&script_version=001.000.000"
    );
    let offer: serde_json::Value = serde_json::from_slice(&server.get(&request).body).unwrap();
    let url = offer["url"].as_str().unwrap();
    let rest = url.strip_prefix("http://").unwrap();
    rest[rest.find('/').unwrap()..].to_owned()
}

// Case 61.
#[test]
fn a_download_goes_on_after_its_medium_was_gone() {
    let Some(medium) = Mount::new("tmpfs", &["-t", "tmpfs", "none"]) else {
        return;
    };
    let bytes = noise(163, 400_000);
    std::fs::create_dir_all(medium.path.join("P/1.0.1")).unwrap();
    std::fs::write(medium.path.join("P/1.0.1/update.bin"), &bytes).unwrap();
    let rules = json!({"direct": true}).to_string();
    std::fs::write(medium.path.join("P/release.json"), rules).unwrap();
    let from = medium.path.to_str().unwrap();
    let Some(mount) = Mount::new("bind", &["--bind", from]) else {
        return;
    };
    let start = |place: Place| {
        let mut arguments = serve_arguments(&place, &["--rescan", "1"]);
        arguments[1] = mount.path.display().to_string();
        let mut command = common::luat_ota();
        command.args(arguments);
        Server::from_command(place, &mut command)
    };
    let server = start(Place::new());
    let check = luat("P", IMEI, "1.0.0");
    let direct = "/firmware/P/1.0.1/update.bin".to_owned();
    server.wait_until_offered(&luat("P", "862991443750002", "1.0.0"), &bytes);
    let libfota3 = libfota3_path(&server);
    let named = format!("{direct}?sha256={}", sha256(&bytes));
    let all = [&check, &direct, &libfota3, &named];
    for target in all {
        // Cut in the middle.
        SlowDownload::begin(server.http, &get(target), 50_000);
    }
    let device = Device::new(server.udp);
    let offer = device
        .check(format!("{IMEI},P_Luat_V0035_8955,1.0.0"))
        .unwrap();
    let packet = |number: usize| format!("Get{number},{}", offer.id);
    assert!(device.ask(packet(1)).is_some());
    // After a restart nothing of the file is loaded.
    let server = start(server.kill());
    server.wait_until_refused(&luat("P", IMEI, "1.0.1"), 404, 27);
    let device = Device::new(server.udp);
    let ask = |target: &str| server.http(&get_with(target, "Range: bytes=40000-\r\n"));
    mount.run("umount", &["-l"]);
    let is_told_to_come_back = || {
        for target in all {
            let reply = ask(target);
            assert!(
                reply.status == 503 && reply.header("Content-Length") == Some("0"),
                "{target}: {}",
                reply.show()
            );
        }
        device.must_be_silent(packet(2)).unwrap();
        let whole = server.get(&check);
        assert!(whole.status == 503 && whole.body.is_empty());
    };
    // At once, and when the folder has been scanned again.
    is_told_to_come_back();
    server.wait_for_log("the medium is missed", |line| {
        line.contains("cannot be read (")
    });
    is_told_to_come_back();
    mount.run("mount", &["--bind", from]);
    for target in all {
        let goes_on = get_with(target, "Range: bytes=40000-\r\n");
        let reply = server
            .wait_for_reply(&goes_on, PATIENCE, |reply| reply.status != 503)
            .unwrap();
        reply.must_be_part(&bytes, 40_000, bytes.len()).unwrap();
    }
    assert_eq!(device.ask(packet(2)).unwrap()[2..], bytes[1022..2044]);
}

#[test]
fn a_direct_file_that_is_written_anew_is_to_be_asked_for_again() {
    let place = Place::new();
    let (old, new) = (noise(164, 40_000), noise(165, 40_000));
    place.drop_firmware("P/1.0.1/update.bin", &old);
    place.rules("P/release.json", json!({"direct": true}));
    let server = Server::start_in(place, &[]);
    server.wait_until_refused(&luat("P", IMEI, "1.0.1"), 404, 27);
    let path = server.place().path("P/1.0.1/update.bin");
    // Somebody writes it, and takes a while.
    let mut file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all(&new[..1000]).unwrap();
    let direct = get("/firmware/P/1.0.1/update.bin");
    let reply = server
        .wait_for_reply(&direct, PATIENCE, |reply| reply.status != 200)
        .unwrap();
    assert_eq!(reply.status, 503, "{}", reply.show());
    file.write_all(&new[1000..]).unwrap();
    drop(file);
    let reply = server
        .wait_for_reply(&direct, PATIENCE, |reply| reply.status != 503)
        .unwrap();
    reply.must_be_file(&new).unwrap();
}
