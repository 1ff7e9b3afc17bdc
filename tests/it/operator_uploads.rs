//! Promise: an uploaded file is in the folder completely or not at all; no file is replaced, no link is
//! followed, and a file that would be quarantined is refused with the reason.
#![cfg(feature = "operator")]

use crate::common;

use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::process::Command;

use common::operator::{Operator, parse};
use common::packages::noise;
use common::{IMEI, PATIENCE, Place, Rows, Server, files_under, luat, wait_until};
use serde_json::json;

fn start() -> (Server, Operator) {
    let server = Server::start(&[]);
    let operator = Operator::of(&server);
    (server, operator)
}

/// All files in the firmware folder, including hidden ones.
fn files(server: &Server) -> Vec<String> {
    files_under(&server.place().firmware())
}

#[test]
fn an_uploaded_file_is_offered_and_may_be_uploaded_again() {
    let (server, operator) = start();
    let bytes = noise(1, 300_000);
    let reply = operator.send("PUT", "/api/v1/firmware/P/2.0.1/u.bin", "", &bytes);
    assert_eq!(reply.status, 201, "{}", reply.text());
    let said = reply.json();
    assert_eq!(said["path"], "P/2.0.1/u.bin");
    assert_eq!(said["size"], 300_000);
    server.wait_until_offered(&luat("P", IMEI, "1.0.0"), &bytes);
    let again = operator.send("PUT", "/api/v1/firmware/P/2.0.1/u.bin", "", &bytes);
    assert_eq!((again.status, again.json()), (200, said));
    assert_eq!(
        operator.put_file("P/2.0.1/u.bin", "If-None-Match: *\r\n", &bytes),
        412
    );
    let other = noise(2, 300_000);
    assert_eq!(operator.put_file("P/2.0.1/u.bin", "", &other), 409);
    assert_eq!(operator.put_file("P/2.0.1/u.bin", "", &other[..5000]), 409);
    assert_eq!(
        std::fs::read(server.place().path("P/2.0.1/u.bin")).unwrap(),
        bytes
    );
    assert_eq!(files(&server), ["P/2.0.1/u.bin"]);
    // A file that Luatools made is uploaded with its own name.
    let name = "Q_2.0.1_Luat_8955.bin";
    assert_eq!(operator.put_file(name, "", &other), 201);
    let chinese = "%E6%B0%B4%E8%A1%A8/2.0.1/u.bin";
    assert_eq!(operator.put_file(chinese, "", &other), 201);
    assert_eq!(files(&server).len(), 3);
}

#[test]
fn an_upload_that_would_be_quarantined_is_refused_with_the_reason() {
    let (server, operator) = start();
    assert_eq!(operator.put_file("P/2.0.1/u.bin", "", &noise(1, 5000)), 201);
    server.wait_until_offered(&luat("P", IMEI, "1.0.0"), &noise(1, 5000));
    let page = b"<!doctype html><html><title>404 not found</title></html>".repeat(30);
    let mut delta = vec![0x18, 0x72, 0xc3, 0xea];
    delta.extend(noise(3, 3000));
    let mut rows = Rows::default();
    for (path, bytes, part) in [
        ("P/2.0.2/u.bin", page.as_slice(), "web page"),
        ("P/2.0.2/u.soc", &noise(4, 100), "factory file"),
        ("P/2.0.2/u.txt", &noise(4, 100), "not named as firmware"),
        ("P/2.0.2/release.json", b"{}", "not named as firmware"),
        ("P/2.0.2/.u.bin", &noise(4, 100), "hidden"),
        ("P/2.0.2/u.bin.part", &noise(4, 100), "hidden"),
        ("P/two/u.bin", &noise(4, 100), "is not a version"),
        ("u.bin", &noise(4, 100), "Luatools"),
        ("P/2.0.2/u.bin", &delta, "damaged"),
        ("P/2.0.2/u.bin", b"", "empty"),
        ("P/2.0.1/other.bin", &noise(4, 100), "P/2.0.1/u.bin"),
        (".luat-ota/2.0.1/u.bin", &noise(4, 100), "server ignores"),
        (
            "lost+found/2.0.1/u.bin",
            &noise(4, 100),
            "belongs to the system",
        ),
    ] {
        let target = format!("/api/v1/firmware/{path}");
        let reply = operator.send("PUT", &target, "", bytes);
        let result = match reply.status {
            422 if reply.text().contains(part) => Ok(()),
            status => Err(format!("{status}: {}", reply.text())),
        };
        rows.row(&format!("{path} ({part})"), result);
    }
    rows.finish();
    assert_eq!(files(&server), ["P/2.0.1/u.bin"]);
    assert!(!server.place().firmware().join("P/2.0.2").exists());
}

#[test]
fn a_wrong_length_or_digest_is_refused() {
    let (server, operator) = start();
    let bytes = noise(1, 1000);
    let request =
        |headers: &str| operator.request("PUT /api/v1/firmware/P/2.0.1/u.bin", true, headers, b"");
    let reply = operator.ask(&request(""));
    assert_eq!(reply.status, 411, "{}", reply.text());
    for (length, status) in [
        ("268435457", 413),
        ("99999999999999999999", 413),
        ("x", 400),
    ] {
        let reply = operator.ask(&request(&format!("Content-Length: {length}\r\n")));
        assert_eq!(reply.status, status, "{length}");
    }
    let chunked = request("Transfer-Encoding: chunked\r\n");
    assert_eq!(operator.ask(&chunked).status, 501);
    let wrong = format!("Repr-Digest: sha-256=:{}=:\r\n", "A".repeat(43));
    assert_eq!(operator.put_file("P/2.0.1/u.bin", &wrong, &bytes), 422);
    assert_eq!(
        operator.put_file("P/2.0.1/u.bin", "Repr-Digest: sha-256=:x:\r\n", &bytes),
        400
    );
    assert_eq!(files(&server), [""; 0]);
    // The server replies to 100-continue before the body is sent.
    let head = operator.request(
        "PUT /api/v1/firmware/P/2.0.1/u.bin",
        true,
        "Expect: 100-continue\r\nContent-Length: 1000\r\n",
        b"",
    );
    let mut stream = operator.connect();
    stream.write_all(&head).unwrap();
    let mut word = [0; 25];
    stream.read_exact(&mut word).unwrap();
    assert_eq!(&word, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(&bytes).unwrap();
    let mut raw = Vec::new();
    stream.read_to_end(&mut raw).unwrap();
    assert_eq!(parse(&raw, false).unwrap().status, 201);
}

#[test]
fn a_refusal_reaches_a_client_that_is_still_sending() {
    let (server, operator) = start();
    // After the reply the server reads 64 KiB without a token, and the whole file with a token.
    let target = "/api/v1/firmware/P/2.0.1/u.bin";
    let request = operator.request(&format!("PUT {target}"), false, "", &noise(1, 64 << 10));
    assert_eq!(operator.ask(&request).status, 401);
    let bytes = noise(1, 4 << 20);
    let reply = operator.send("PUT", "/api/v1/firmware/P/two/u.bin", "", &bytes);
    assert_eq!(reply.status, 422);
    assert_eq!(files(&server), [""; 0]);
}

#[test]
fn a_cut_upload_leaves_nothing() {
    let (server, operator) = start();
    let bytes = noise(1, 200_000);
    let request = operator.request("PUT /api/v1/firmware/P/2.0.1/u.bin", true, "", &bytes);
    let part = request.len() - 50_000;
    for half in [false, true] {
        let mut stream = operator.connect();
        stream.write_all(&request[..part]).unwrap();
        wait_until("it is being written", PATIENCE, || {
            files(&server).iter().any(|name| name.contains(".upload-"))
        });
        if half {
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let mut raw = Vec::new();
            stream.read_to_end(&mut raw).unwrap();
            assert_eq!(parse(&raw, false).unwrap().status, 408);
        }
        drop(stream);
        wait_until("nothing is left", PATIENCE, || files(&server).is_empty());
    }
    assert!(!server.place().firmware().join("P").exists());
    assert_eq!(operator.ask(&request).status, 201);
}

#[test]
fn a_kill_in_the_middle_leaves_nothing_after_the_next_start() {
    let (server, operator) = start();
    let bytes = noise(1, 200_000);
    std::fs::create_dir_all(server.place().firmware().join("P/2.0.0")).unwrap();
    for path in ["P/2.0.0/u.bin", "Q/2.0.1/u.bin"] {
        let line = format!("PUT /api/v1/firmware/{path}");
        let request = operator.request(&line, true, "", &bytes);
        let mut stream = operator.connect();
        stream
            .write_all(&request[..request.len() - 50_000])
            .unwrap();
        std::mem::forget(stream);
    }
    let unfinished = |place: &Place| -> usize {
        let files = files_under(&place.firmware());
        files
            .iter()
            .filter(|name| name.contains(".upload-"))
            .count()
    };
    wait_until("both are being written", PATIENCE, || {
        unfinished(server.place()) == 2
    });
    let place = server.kill();
    assert_eq!(unfinished(&place), 2);
    let server = Server::start_in(place, &[]);
    wait_until("they are swept", PATIENCE, || {
        unfinished(server.place()) == 0
    });
    let operator = Operator::of(&server);
    assert_eq!(operator.put_file("Q/2.0.1/u.bin", "", &bytes), 201);
}

#[test]
fn no_link_is_followed() {
    let place = Place::new();
    let elsewhere = place.root.join("elsewhere");
    std::fs::create_dir_all(elsewhere.join("2.0.1")).unwrap();
    symlink(&elsewhere, place.firmware().join("L")).unwrap();
    std::fs::create_dir_all(place.firmware().join("P/2.0.1")).unwrap();
    symlink(
        elsewhere.join("target"),
        place.firmware().join("P/2.0.1/u.bin"),
    )
    .unwrap();
    symlink(&elsewhere, place.firmware().join("P/2.0.2")).unwrap();
    let server = Server::start_in(place, &[]);
    let operator = Operator::of(&server);
    for path in ["L/2.0.1/u.bin", "P/2.0.1/u.bin", "P/2.0.2/u.bin"] {
        assert_eq!(operator.put_file(path, "", &noise(1, 1000)), 409, "{path}");
    }
    assert_eq!(files_under(&elsewhere), [""; 0]);
}

#[test]
fn no_path_leads_out_of_the_folder() {
    let (server, operator) = start();
    let mut rows = Rows::default();
    for path in [
        "../2.0.1/u.bin",
        "P/../u.bin",
        "P/2.0.1/..",
        "%2e%2e/2.0.1/u.bin",
        "P/%2e%2e/u.bin",
        "P/2.0.1/..%2fu.bin",
        "P/2.0.1/%2fetc%2fpasswd",
        "P\\2.0.1/u.bin",
        "P/2.0.1/a%5cu.bin",
        "P/2.0.1/u.bin%00.txt",
        "P/2.0.1/u%0a.bin",
        "P//u.bin",
        "P/2.0.1/",
        "P/2.0.1/from-1/x/u.bin",
        "P/2.0.1/%ff.bin",
    ] {
        let line = format!("PUT /api/v1/firmware/{path}");
        let request = operator.request(&line, true, "", &noise(1, 1000));
        let result = match operator.try_ask(&request) {
            Ok(reply) if [400, 404, 422].contains(&reply.status) => Ok(()),
            Ok(reply) => Err(format!("{}: {}", reply.status, reply.text())),
            Err(error) => Err(error),
        };
        rows.row(path, result);
    }
    let long = format!("P/2.0.1/{}.bin", "x".repeat(300));
    rows.row(
        "a long name",
        match operator.put_file(&long, "", &noise(1, 100)) {
            422 => Ok(()),
            status => Err(status.to_string()),
        },
    );
    rows.finish();
    let everything = files_under(&server.place().root);
    assert!(
        !everything.iter().any(|name| name.ends_with(".bin")),
        "{everything:?}"
    );
}

#[test]
fn a_full_disk_is_reported_and_leaves_nothing() {
    let place = Place::new();
    let mount = |arguments: &[&str]| {
        let done = Command::new("mount").args(arguments).output();
        done.is_ok_and(|output| output.status.success())
    };
    let folder = place.firmware();
    if !mount(&[
        "-t",
        "tmpfs",
        "-o",
        "size=3m",
        "none",
        folder.to_str().unwrap(),
    ]) {
        common::mount::skipped("no small tmpfs can be mounted here");
        return;
    }
    struct Mounted(std::path::PathBuf);
    impl Drop for Mounted {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg("-l").arg(&self.0).status();
        }
    }
    let _mounted = Mounted(folder);
    let server = Server::start_in(place, &[]);
    let operator = Operator::of(&server);
    assert_eq!(
        operator.put_file("P/2.0.1/u.bin", "", &noise(1, 8 << 20)),
        507
    );
    assert_eq!(files(&server), [""; 0]);
    assert_eq!(
        operator.put_file("P/2.0.1/u.bin", "", &noise(1, 100_000)),
        201
    );
    server.wait_until_offered(&luat("P", IMEI, "1.0.0"), &noise(1, 100_000));
}

#[test]
fn more_uploads_than_may_run_are_asked_to_wait() {
    let (server, operator) = start();
    let slow: Vec<_> = (0..4)
        .map(|n| {
            let line = format!("PUT /api/v1/firmware/P/1.0.{n}/u.bin");
            let request = operator.request(&line, true, "", &noise(n, 100_000));
            let mut stream = operator.connect();
            stream.write_all(&request[..50_000]).unwrap();
            stream
        })
        .collect();
    wait_until("all are being written", PATIENCE, || {
        files(&server).len() == 4
    });
    let reply = operator.send("PUT", "/api/v1/firmware/P/2.0.0/u.bin", "", &noise(9, 100));
    assert_eq!(
        (reply.status, reply.header("retry-after").is_some()),
        (503, true)
    );
    drop(slow);
    wait_until("nothing is left", PATIENCE, || files(&server).is_empty());
    assert_eq!(operator.put_file("P/2.0.0/u.bin", "", &noise(9, 100)), 201);
}

// Case 55.
#[test]
fn deceptive_and_invalid_names_are_refused_with_a_sentence() {
    let (server, operator) = start();
    let bytes = noise(1, 3000);
    let mut rows = Rows::default();
    for path in [
        "%E2%80%AE/1.0.0/u.bin",
        "P/1.0.0/a%E2%80%AEnib.bin",
        "P%E2%80%8B/1.0.0/u.bin",
        "%E2%81%A6P%E2%81%A9/1.0.0/u.bin",
        "P%E2%80%8F/1.0.0/u.bin",
        "P%C2%A0/1.0.0/u.bin",
        "con/1.0.0/u.bin",
        "CON/1.0.0/u.bin",
        "P/1.0.0/nul.bin",
        "P/1.0.0/com1.bin",
        "lpt9.x/1.0.0/u.bin",
        "aux_1.0.0_Luat_8955.bin",
        "P_1.0.0_Luat_con.bin",
        "P./1.0.0/u.bin",
        "P%20/1.0.0/u.bin",
        "%20P/1.0.0/u.bin",
        "-rf/1.0.0/u.bin",
        "P/1.0.0/-rf.bin",
        "~root/1.0.0/u.bin",
        "a:b/1.0.0/u.bin",
        "a*/1.0.0/u.bin",
        "a%3F/1.0.0/u.bin",
        "a%22b/1.0.0/u.bin",
        "a%3Cb%3E/1.0.0/u.bin",
        "a%7Cb/1.0.0/u.bin",
        "$(reboot)/1.0.0/u.bin",
        "%60id%60/1.0.0/u.bin",
        "a;b/1.0.0/u.bin",
        "P/1.0.0%E2%80%8B/u.bin",
    ] {
        let target = format!("/api/v1/firmware/{path}");
        let reply = operator.send("PUT", &target, "", &bytes);
        let plain = |text: &str| !text.contains(['\u{202e}', '\u{200b}', '\u{2066}', '\u{200f}']);
        let fits = reply.status == 422
            && reply.json()["detail"]
                .as_str()
                .is_some_and(|text| text.len() > 20)
            && plain(&reply.text());
        rows.row(
            path,
            fits.then_some(())
                .ok_or_else(|| format!("{} {}", reply.status, reply.text())),
        );
    }
    for project in ["con", "%E2%80%AE", "-rf", "a%20", "a:b", "nul.txt"] {
        for target in [
            format!("/api/v1/rules/{project}"),
            format!("/api/v1/rules/{project}/1.0.0"),
        ] {
            let reply = operator.send("PUT", &target, "If-None-Match: *\r\n", b"{}");
            let fits = reply.status == 422;
            rows.row(
                &target,
                fits.then_some(())
                    .ok_or_else(|| format!("{} {}", reply.status, reply.text())),
            );
        }
    }
    rows.finish();
    let recognised = operator.post(
        "/api/v1/recognise",
        &json!({"path": "con/1.0.0/u.bin", "size": 3000, "head": "/wAB"}),
    );
    let problem = recognised.json()["problem"].to_string();
    assert!(problem.contains("device on Windows"), "{problem}");
    assert_eq!(files(&server), [""; 0]);
    assert_eq!(
        operator.put_file("%E6%B0%B4%E8%A1%A8/1.0.0/u.bin", "", &bytes),
        201
    );
}
