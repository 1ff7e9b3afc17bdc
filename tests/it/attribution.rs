//! Promise: the log, the release and the list of changes show who changed what, also after a restart; and a token of
//! `operator-tokens` has the rights that its line states.
#![cfg(feature = "operator")]

use crate::common;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use common::browser_session::{BrowserSession, card};
use common::operator::Operator;
use common::packages::noise;
use common::{IMEI, PATIENCE, Place, Server, both, is_event, luat, run, wait_until};
use serde_json::{Value, json};

const ALICE: &str = "token-of-alice";
const BOB: &str = "token-of-bob";

fn write_tokens(state: &Path, text: &str) {
    let path = state.join("operator-tokens");
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// The same operator port with another token.
fn with_token(operator: &Operator, token: &str) -> Operator {
    Operator {
        address: operator.address,
        token: token.to_owned(),
        read_token: operator.read_token.clone(),
    }
}

/// Author, action, project and version of each change, newest first.
fn changes(operator: &Operator) -> Vec<(String, String, String, String)> {
    let list = operator.get("/api/v1/changes").json();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let changes = list["changes"].as_array().unwrap().iter();
    changes
        .map(|change| {
            assert!(change["time"].as_str().unwrap().ends_with('Z'));
            (
                text(&change["by"]),
                text(&change["action"]),
                text(&change["project"]),
                text(&change["version"]),
            )
        })
        .collect()
}

fn change(
    by: &str,
    action: &str,
    project: &str,
    version: &str,
) -> (String, String, String, String) {
    (by.into(), action.into(), project.into(), version.into())
}

#[test]
fn the_log_the_release_and_the_list_show_who_changed_what() {
    let place = Place::new();
    place.drop_firmware("P/1.0.0/u.bin", &noise(81, 5000));
    std::fs::write(place.path("@pumps.txt"), format!("{IMEI} # pump 7\n")).unwrap();
    write_tokens(
        &place.state(),
        &format!("alice {ALICE}\nbob {BOB} read\ncarol short\n"),
    );
    let server = Server::start_in(place, &[]);
    let operator = Operator::of(&server);
    let (alice, bob) = (with_token(&operator, ALICE), with_token(&operator, BOB));
    server.wait_for_log("names the bad line", |line| {
        line.contains("line 3 is not accepted") && !line.contains("short")
    });
    operator.wait_for("/api/v1/releases", "it is there", |list| {
        list["releases"][0]["version"] == "1.0.0"
    });
    assert_eq!(changes(&operator), []);

    assert_eq!(alice.put_file("P/2.0.0/u.bin", "", &noise(82, 5000)), 201);
    // An upload of the same bytes changes nothing.
    assert_eq!(alice.put_file("P/2.0.0/u.bin", "", &noise(82, 5000)), 200);
    let release = operator.wait_for("/api/v1/releases", "it is published", |list| {
        list["releases"][0]["version"] == "2.0.0"
    });
    let release = &release["releases"][0];
    assert_eq!(
        (&release["published_by"], &release["paused_by"]),
        (&json!("alice"), &Value::Null)
    );
    server.wait_for_log("is the event", |line| {
        is_event(line, "release_found") && line.contains("uploaded by alice")
    });

    // A read token can read and cannot change anything.
    assert_eq!(bob.get("/api/v1/releases").status, 200);
    for (method, target) in [
        ("POST", "/api/v1/releases/P/2.0.0/pause"),
        ("PUT", "/api/v1/rules/P"),
        ("PUT", "/api/v1/firmware/P/3.0.0/u.bin"),
        ("DELETE", "/api/v1/devices/862991443753386/hold"),
    ] {
        let reply = bob.send(method, target, "If-None-Match: *\r\n", b"{}");
        assert_eq!(reply.status, 403, "{method} {target}");
    }
    assert_eq!(
        with_token(&operator, "token-of-carol")
            .get("/api/v1/releases")
            .status,
        401
    );
    assert_eq!(
        with_token(&operator, "short")
            .get("/api/v1/releases")
            .status,
        401
    );

    let reply = alice.post("/api/v1/releases/P/2.0.0/pause", &json!({"reason": "wait"}));
    assert_eq!(reply.status, 200);
    let release = operator.wait_for("/api/v1/releases", "it is paused", |list| {
        list["releases"][0]["state"] == "paused"
    });
    assert_eq!(release["releases"][0]["paused_by"], "alice");
    let etag = operator.get("/api/v1/rules/P/2.0.0");
    let etag = format!("If-Match: {}\r\n", etag.header("etag").unwrap());
    let rules = json!({"paused": "wait", "percent": 5, "fuse": {"devices": 4, "percent": 30}});
    let reply = operator.send(
        "PUT",
        "/api/v1/rules/P/2.0.0",
        &etag,
        rules.to_string().as_bytes(),
    );
    assert_eq!(reply.status, 200);
    let reply = operator.post("/api/v1/releases/P/2.0.0/percent", &json!({"percent": 25}));
    assert_eq!(reply.status, 200);
    server.get(&luat("P", IMEI, "1.0.0"));
    assert_eq!(
        alice
            .send("DELETE", &format!("/api/v1/devices/{IMEI}/hold"), "", b"")
            .status,
        200
    );
    // Refused requests and pure queries are not listed as changes.
    assert_eq!(
        alice
            .post("/api/v1/releases/P/9.9.9/pause", &json!({}))
            .status,
        404
    );
    assert_eq!(alice.post("/api/v1/explain", &json!({})).status, 422);

    let expected = vec![
        change("alice", "lift", "", ""),
        change("operator", "percent", "P", "2.0.0"),
        change("operator", "rules", "P", "2.0.0"),
        change("alice", "pause", "P", "2.0.0"),
        change("alice", "upload", "P", "2.0.0"),
    ];
    assert_eq!(changes(&bob), expected);
    let list = operator.get("/api/v1/changes").json();
    let detail = |at: usize| list["changes"][at]["detail"].as_str().unwrap();
    assert_eq!(
        (detail(0), detail(1), detail(2), detail(3)),
        (IMEI, "25", "rules: set fuse, percent", "wait")
    );
    let name = |at: usize| list["changes"][at]["name"].as_str();
    assert_eq!((name(0), name(1)), (Some("pump 7"), None));
    assert!(
        detail(4).starts_with("P/2.0.0/u.bin, 5000 bytes, sha256 "),
        "{}",
        detail(4)
    );
    server.wait_for_log("shows who", |line| {
        is_event(line, "change") && is_event(line, "alice") && is_event(line, "pause")
    });

    // All changes survive SIGKILL.
    let server = Server::start_in(server.kill(), &[]);
    let operator = Operator::of(&server);
    assert_eq!(changes(&operator), expected);
    let release = operator.wait_for("/api/v1/releases", "it is there", |list| {
        list["releases"][0]["state"] == "paused"
    });
    let release = &release["releases"][0];
    assert_eq!(
        (&release["published_by"], &release["paused_by"]),
        (&json!("alice"), &json!("alice"))
    );
    // A change by the command line.
    let state = server.place().state().display().to_string();
    let output = run(&["resume", "P/2.0.0", "--state", &state]);
    assert!(output.status.success(), "{}", both(&output));
    wait_until("the command is in the list", PATIENCE, || {
        changes(&operator)[0] == change("command", "resume", "P", "2.0.0")
    });
    operator.wait_for("/api/v1/releases", "it is resumed", |list| {
        list["releases"][0]["paused_by"] == Value::Null && list["releases"][0]["state"] != "paused"
    });
}

#[test]
fn an_edit_that_pauses_or_resumes_is_listed_as_such_and_an_edit_by_hand_has_no_author() {
    let place = Place::new();
    place.drop_firmware("P/1.0.0/u.bin", &noise(83, 5000));
    let server = Server::start_in(place, &[]);
    let operator = Operator::of(&server);
    operator.wait_for("/api/v1/releases", "it is there", |list| {
        list["releases"][0]["version"] == "1.0.0"
    });
    let put = |header: &str, rules: Value| {
        let reply = operator.send(
            "PUT",
            "/api/v1/rules/P/1.0.0",
            header,
            rules.to_string().as_bytes(),
        );
        assert!(reply.status < 300, "{}", reply.text());
        format!("If-Match: {}\r\n", reply.header("etag").unwrap())
    };
    let etag = put(
        "If-None-Match: *\r\n",
        json!({"paused": true, "percent": 5}),
    );
    let etag = put(&etag, json!({"percent": 5}));
    put(&etag, json!({"reboot_within": "12h"}));
    let list = operator.get("/api/v1/changes").json();
    let shown = |at: usize| {
        let change = &list["changes"][at];
        (change["action"].clone(), change["detail"].clone())
    };
    assert_eq!(
        shown(0),
        (
            json!("rules"),
            json!("rules: set reboot_within; removed percent")
        )
    );
    assert_eq!(shown(1), (json!("resume"), json!("rules: removed paused")));
    assert_eq!(
        shown(2),
        (json!("pause"), json!("rules: set paused, percent"))
    );
    server.rules("P/1.0.0/release.json", json!({"paused": true}));
    let release = operator.wait_for("/api/v1/releases", "it is paused", |list| {
        list["releases"][0]["state"] == "paused"
    });
    assert_eq!(release["releases"][0]["paused_by"], Value::Null);
}

#[test]
fn tokens_are_valid_exactly_while_the_file_contains_them() {
    let server = Server::start(&["--rescan", "1"]);
    let operator = Operator::of(&server);
    let state = server.place().state();
    let status = |token: &str| with_token(&operator, token).get("/api/v1/summary").status;
    assert_eq!(status(ALICE), 401);
    write_tokens(&state, &format!("alice {ALICE}\n"));
    wait_until("alice is let in", PATIENCE, || status(ALICE) == 200);
    write_tokens(&state, &format!("# alice has left\nbob {BOB}\n"));
    wait_until("alice is not let in any more", PATIENCE, || {
        status(ALICE) == 401
    });
    assert_eq!(status(BOB), 200);
    // If others can read the file, all its tokens are rejected, and the log says why.
    let path = state.join("operator-tokens");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    wait_until("bob is not let in any more", PATIENCE, || {
        status(BOB) == 401
    });
    server.wait_for_log("says why", |line| line.contains("run chmod 600 on it"));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    wait_until("bob is let in again", PATIENCE, || status(BOB) == 200);
    std::fs::remove_file(&path).unwrap();
    wait_until("bob is not let in without the file", PATIENCE, || {
        status(BOB) == 401
    });
    // The operator token works throughout.
    assert_eq!(operator.get("/api/v1/summary").status, 200);
}

#[test]
fn the_page_says_who_uploaded_and_who_paused_a_release() {
    let tokens = format!("alice {ALICE}\n");
    let Some(session) = BrowserSession::open("who changed a release", |place| {
        write_tokens(&place.state(), &tokens);
    }) else {
        return;
    };
    let browser = &session.browser;
    let alice = with_token(&Operator::of(&session.server), ALICE);
    assert_eq!(alice.put_file("P/2.0.0/u.bin", "", &noise(86, 5000)), 201);
    let release = card("P", "2.0.0");
    browser.size(390, 900);
    browser.open(&session.url(&format!("#token={ALICE}")));
    browser.wait_text(&release, "uploaded by alice");
    browser.click(&format!("{release} [data-key=pause]"));
    browser.fill("#reason", "not yet");
    browser.click("dialog [type=submit]");
    for (language, paused, uploaded) in [
        ("zh-CN,zh", "由 alice 暂停", "由 alice 上传"),
        ("en-GB,en", "paused by alice", "uploaded by alice"),
    ] {
        browser.language(language);
        for (width, shown) in [(1440, ".wide-table tbody tr"), (390, &*release)] {
            browser.size(width, 900);
            browser.open(&session.url(&format!("#token={ALICE}")));
            browser.wait_text(shown, paused);
            browser.wait_text(shown, uploaded);
            browser.wait_text(shown, "not yet");
        }
    }
    // A resumed release no longer shows who paused it.
    browser.click(&format!("{release} [data-key=resume]"));
    browser.click("dialog [type=submit]");
    let is_gone = "
        const release = document.querySelector(arguments[0]);
        return release !== null && !release.textContent.includes('paused by');";
    browser.wait("it is resumed", is_gone, json!([release]));
    browser.wait_text(&release, "uploaded by alice");
    session.assert_console_empty();
}
