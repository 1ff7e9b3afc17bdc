//! Promise: packaging/ci/push.sh publishes a file together with its rules, tolerates lost connections, never shows the
//! token, and exits with the status that its first lines state.
//!
//! packaging/ci/test.sh plays a whole rollout. The tests need curl and jq. Without them each test reports that it was
//! skipped; with CI=true it fails.
#![cfg(feature = "operator")]

use crate::common;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use common::documents::ROOT;
use common::operator::Operator;
use common::packages::noise;
use common::{IMEI, Place, Server, both, files_under, luat, run_command};
use serde_json::json;

const OTHER: &str = "862991443700017";

/// Runs the script with this address and token. Returns `None` if curl or jq is not installed.
fn push(place: &Place, address: SocketAddr, token: &str, arguments: &[&str]) -> Option<Output> {
    for program in ["curl", "jq"] {
        if Command::new(program).arg("--version").output().is_err() {
            assert!(std::env::var("CI").is_err(), "{program} is not installed");
            common::mount::skipped(&format!("{program} is not installed"));
            return None;
        }
    }
    let mut command = Command::new("sh");
    common::clean(&mut command);
    command
        .arg(format!("{ROOT}/packaging/ci/push.sh"))
        .args(arguments)
        .current_dir(&place.root)
        .env("OTA_URL", format!("http://{address}"))
        .env("OTA_TOKEN", token)
        .env("OTA_INTERVAL", "1");
    Some(run_command(&mut command))
}

/// A server, its operator, and the file `update.bin` next to its folder.
fn start(bytes: &[u8]) -> (Server, Operator) {
    // Also permitted behind a proxy, which has another port.
    let server = Server::start(&["--operator-host", "127.0.0.1"]);
    let operator = Operator::of(&server);
    std::fs::write(server.place().root.join("update.bin"), bytes).unwrap();
    (server, operator)
}

fn status(output: &Output) -> Option<i32> {
    output.status.code()
}

#[test]
fn no_other_device_is_offered_a_file_between_its_upload_and_its_rules() {
    let (server, operator) = start(b"");
    let rules = json!({ "allow": [IMEI] }).to_string();
    let (stop, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let reply = server.get(&luat("P", OTHER, "1.0.0"));
                    assert_ne!(reply.status, 200, "another device was offered it");
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let header = format!("Release-Rules: {rules}\r\n");
        for n in 1..=5 {
            let bytes = noise(n, 20_000);
            let path = format!("P/2.0.{n}/u.bin");
            assert_eq!(operator.put_file(&path, &header, &bytes), 201);
            server.wait_until_offered(&luat("P", IMEI, "1.0.0"), &bytes);
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(asked.load(Ordering::Relaxed) > 50, "{asked:?}");
}

/// Forwards connections to `to`. The first upload is cut after 50 kB, and the second gets no reply.
fn unreliable_proxy(to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let mut uploads = 0;
        for client in listener.incoming() {
            let (mut client, mut server) = (client.unwrap(), TcpStream::connect(to).unwrap());
            let mut head = [0; 8192];
            let got = client.read(&mut head).unwrap_or(0);
            let is_upload = head.starts_with(b"PUT /api/v1/firmware/");
            uploads += usize::from(is_upload);
            let fault = if is_upload { uploads } else { 0 };
            server.write_all(&head[..got]).unwrap();
            let (mut from, mut into) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            let limit = if fault == 1 { 50_000 } else { u64::MAX };
            thread::spawn(move || {
                let _ = std::io::copy(&mut (&mut from).take(limit), &mut into);
                if fault == 1 {
                    let _ = from.shutdown(Shutdown::Both);
                    let _ = into.shutdown(Shutdown::Both);
                }
            });
            thread::spawn(move || match fault {
                2 => {
                    // 100 Continue is forwarded if curl waits for it. The reply is not.
                    let mut reply = [0; 25];
                    let _ = server.read_exact(&mut reply);
                    if reply.starts_with(b"HTTP/1.1 100 ") {
                        let _ = client.write_all(&reply);
                    }
                    let _ = server.read_to_end(&mut Vec::new());
                    let _ = client.shutdown(Shutdown::Both);
                }
                _ => drop(std::io::copy(&mut server, &mut client)),
            });
        }
    });
    address
}

#[test]
fn a_file_is_sent_again_after_a_lost_connection() {
    let bytes = noise(1, 2_000_000);
    let (server, operator) = start(&bytes);
    let proxy = unreliable_proxy(operator.address);
    let rules = json!({ "allow": [IMEI] }).to_string();
    let arguments = ["--to", "P/2.0.1", "--rules", &rules, "update.bin"];
    let Some(output) = push(server.place(), proxy, &operator.token, &arguments) else {
        return;
    };
    let said = both(&output);
    assert_eq!(status(&output), Some(0), "{said}");
    assert_eq!(said.matches("trying again").count(), 2, "{said}");
    assert!(said.contains("uploaded P/2.0.1/update.bin"), "{said}");
    let landed = std::fs::read(server.place().path("P/2.0.1/update.bin")).unwrap();
    assert_eq!(landed, bytes);
    assert_ne!(server.get(&luat("P", OTHER, "1.0.0")).status, 200);
    server.wait_until_offered(&luat("P", IMEI, "1.0.0"), &bytes);
}

#[test]
fn the_token_is_on_no_command_line() {
    let (server, operator) = start(&noise(1, 5000));
    let place = server.place();
    // A substitute for curl, which records its arguments.
    let bin = place.root.join("bin");
    std::fs::create_dir(&bin).unwrap();
    let real = Command::new("sh").args(["-c", "command -v curl"]).output();
    let real = String::from_utf8(real.unwrap().stdout).unwrap();
    let text = format!(
        "#!/bin/sh\necho \"$@\" >>{}/calls\nexec {} \"$@\"\n",
        place.root.display(),
        real.trim()
    );
    std::fs::write(bin.join("curl"), text).unwrap();
    let executable = Command::new("chmod")
        .arg("+x")
        .arg(bin.join("curl"))
        .status();
    assert!(executable.unwrap().success());
    std::fs::write(place.root.join("token"), &operator.token).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("sh");
    common::clean(&mut command);
    command
        .arg(format!("{ROOT}/packaging/ci/push.sh"))
        .args(["--url", &format!("http://{}", operator.address)])
        .args(["--token-file", "token", "--to", "P/2.0.1", "--rules", "{}"])
        .arg("update.bin")
        .current_dir(&place.root)
        .env("PATH", path);
    if push(place, operator.address, "", &[]).is_none() {
        return;
    }
    let output = run_command(&mut command);
    assert_eq!(status(&output), Some(0), "{}", both(&output));
    let calls = std::fs::read_to_string(place.root.join("calls")).unwrap();
    assert!(
        calls.contains("PUT") && !calls.contains(&operator.token),
        "{calls}"
    );
}

#[test]
fn the_next_stage_replaces_the_rules_unless_the_release_is_paused() {
    let bytes = noise(1, 5000);
    let (server, operator) = start(&bytes);
    let stage = |rules: &str, wait: &[&str]| {
        let arguments = [
            &["--to", "P/2.0.1", "--rules", rules],
            wait,
            &["update.bin"],
        ]
        .concat();
        push(
            server.place(),
            operator.address,
            &operator.token,
            &arguments,
        )
    };
    let rules = || operator.get("/api/v1/rules/P/2.0.1").json();
    let Some(first) = stage(&json!({ "allow": [IMEI] }).to_string(), &[]) else {
        return;
    };
    assert_eq!(status(&first), Some(0), "{}", both(&first));
    server.wait_until_offered(&luat("P", IMEI, "1.0.0"), &bytes);
    let late = stage(
        r#"{"percent": 5}"#,
        &["--wait", "confirmed=1", "--for", "1s"],
    )
    .unwrap();
    assert_eq!(status(&late), Some(4), "{}", both(&late));
    assert_eq!(rules(), json!({ "percent": 5 }));
    server.get(&luat("P", IMEI, "2.0.1"));
    let done = stage(
        r#"{"percent": 6}"#,
        &["--wait", "confirmed=1", "--for", "1m"],
    )
    .unwrap();
    assert_eq!(status(&done), Some(0), "{}", both(&done));
    assert!(both(&done).contains("confirmed 1"), "{}", both(&done));

    // An operator pauses the release, and the next stage does not resume it.
    operator.post(
        "/api/v1/releases/P/2.0.1/pause",
        &json!({"reason": "no sensor"}),
    );
    operator.wait_for("/api/v1/releases", "it is paused", |list| {
        list["releases"][0]["state"] == "paused"
    });
    let paused = stage("{}", &[]).unwrap();
    assert_eq!(status(&paused), Some(3), "{}", both(&paused));
    assert!(both(&paused).contains("paused (no sensor)"));
    assert_eq!(rules(), json!({ "paused": "no sensor", "percent": 6 }));
}

#[test]
fn a_release_that_is_paused_while_the_script_waits_ends_it() {
    let (server, operator) = start(&noise(1, 5000));
    let token = operator.token.clone();
    let waits = thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let wait = ["--wait", "confirmed=1", "--for", "10m"];
            let arguments = [
                &["--to", "P/2.0.1", "--rules", "{}", "update.bin"],
                &wait[..],
            ];
            push(
                server.place(),
                operator.address,
                &token,
                &arguments.concat(),
            )
        });
        operator.wait_for("/api/v1/releases", "it is there", |list| {
            list["releases"][0]["state"] == "live" || waiting.is_finished()
        });
        operator.post("/api/v1/releases/P/2.0.1/pause", &json!({}));
        waiting.join().unwrap()
    });
    let Some(output) = waits else { return };
    assert_eq!(status(&output), Some(3), "{}", both(&output));
}

#[test]
fn a_mistake_is_reported_and_changes_nothing() {
    let (server, operator) = start(&noise(1, 5000));
    let place = server.place();
    std::fs::write(
        place.root.join("page.bin"),
        b"<!doctype html><title>x</title>",
    )
    .unwrap();
    operator.put_file("P/1.0.0/update.bin", "", &noise(2, 5000));
    let before = files_under(&place.firmware());
    let to = ["--to", "P/2.0.1"];
    let rules = ["--rules", "{}"];
    let mut rows = common::Rows::default();
    for (token, arguments, code, words) in [
        (
            "",
            [&to[..], &rules, &["update.bin"]].concat(),
            2,
            "--token-file",
        ),
        (
            "wrong",
            [&to[..], &rules, &["update.bin"]].concat(),
            1,
            "401",
        ),
        (
            &operator.token,
            [&to[..], &["update.bin"]].concat(),
            2,
            "--rules",
        ),
        (
            &operator.token,
            [&to[..], &rules, &["none.bin"]].concat(),
            2,
            "no such file",
        ),
        (
            &operator.token,
            [&to[..], &rules, &["page.bin"]].concat(),
            1,
            "web page",
        ),
        (
            &operator.token,
            [&rules[..], &["update.bin"]].concat(),
            1,
            "Luatools",
        ),
        (
            &operator.token,
            vec!["--to", "P/1.0.0", "--rules", "{}", "update.bin"],
            1,
            "raise the version",
        ),
        (
            &operator.token,
            vec![
                "--to",
                "P/2.0.1",
                "--rules",
                "{\"precent\": 5}",
                "update.bin",
            ],
            1,
            "percent",
        ),
        (
            &operator.token,
            vec!["--rules", "nonsense", "update.bin"],
            2,
            "no JSON object",
        ),
        (
            &operator.token,
            vec!["--rules", "{\"paused\": \"等\"}", "update.bin"],
            2,
            "ASCII",
        ),
        (
            &operator.token,
            vec!["--rules", "{}", "--wait", "delivered=3", "update.bin"],
            2,
            "confirmed=N",
        ),
        (
            &operator.token,
            vec!["--rules", "{}", "--for", "soon", "update.bin"],
            2,
            "--for",
        ),
        (
            &operator.token,
            vec!["--frobnicate", "update.bin"],
            2,
            "--help",
        ),
    ] {
        let Some(output) = push(place, operator.address, token, &arguments) else {
            return;
        };
        let said = both(&output);
        let fits = status(&output) == Some(code) && said.contains(words);
        rows.row(
            &format!("{arguments:?}"),
            fits.then_some(()).ok_or(format!("{output:?}")),
        );
    }
    rows.finish();
    assert_eq!(files_under(&place.firmware()), before);
}
