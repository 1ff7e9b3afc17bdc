//! Promise: a module with libfota3 updates from this server at the official paths: check, file, report.
//! The module is the strict emulation of `luat_ota::modems`, over real sockets, against the real binary.
#![cfg(feature = "lab")]

use crate::common;

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use common::packages::{EC7XX, noise, script_package};
use common::{IMEI, PATIENCE, Place, Reply, Server, connect_from, luatos, reply};
use luat_ota::modems::driver::{Played, Settings, play};
use luat_ota::modems::libfota3::{Libfota3, Update};
use luat_ota::modems::luatos::Core;
use luat_ota::modems::{Endpoint, Identity, Outcome};
use serde_json::{Value, json};

fn identity(version: &str) -> Identity {
    Identity {
        imei: IMEI.to_owned(),
        project: "A B&C".to_owned(),
        version: version.to_owned(),
        core: 2012,
        bsp: None,
        key: "KEY".to_owned(),
        serial: String::new(),
    }
}

fn update(server: &Server, edition: Libfota3, version: &str) -> Update {
    let endpoint = Endpoint {
        host: server.http.ip().to_string(),
        port: server.http.port(),
        path: "/unused".to_owned(),
    };
    edition.update(Core::D2026_05_08, &identity(version), None, endpoint)
}

fn settings() -> Settings {
    Settings::probing(Duration::from_secs(20))
}

fn run(update: &mut Update, settings: &Settings) -> Played {
    smol::block_on(play(update, settings))
}

fn server(bytes: &[u8], flags: &[&str]) -> Server {
    let place = Place::new();
    place.drop_firmware("A B&C/1.0.3/update.bin", bytes);
    let server = Server::start_in(place, flags);
    server.wait_until_offered(
        &luatos("A%20B%26C", "Air780EPM", "862991443753387", "2012.1.0"),
        bytes,
    );
    server
}

/// The check in the form that the library sends.
fn check(version: &str) -> String {
    format!(
        "/api/site/turnkey_fota?imei={IMEI}&project_key=KEY&model=Air780EPM&core_id=1&core_version=2012\
         &script_name=A%20B%26C&script_version={version}"
    )
}

fn ask(server: &Server, version: &str, headers: &str) -> Value {
    let request = format!(
        "GET {} HTTP/1.1\r\nConnection: Close\r\n{headers}\r\n",
        check(version)
    );
    let reply = server.http(request.as_bytes());
    assert_eq!(reply.status, 200);
    serde_json::from_slice(&reply.body).unwrap()
}

fn path_of(url: &str) -> &str {
    let rest = url.strip_prefix("http://").unwrap();
    &rest[rest.find('/').unwrap()..]
}

fn post(server: &Server, body: &[u8]) -> Reply {
    let head = format!(
        "POST /api/site/turnkey_fota_result HTTP/1.1\r\nConnection: Close\r\nHost: x\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    server.http(&[head.as_bytes(), body].concat())
}

#[test]
fn both_editions_update_and_report() {
    let bytes = noise(3, 30_000);
    let server = server(&bytes, &[]);
    for edition in Libfota3::ALL {
        let mark = server.log_mark();
        let mut module = update(&server, edition, "001.000.000");
        let played = run(&mut module, &settings());
        assert_eq!(played.outcome, Outcome::Updated(bytes.clone()));
        assert_eq!(module.report_error(), None);
        let reported = server.log.wait(mark, common::PATIENCE, |line| {
            line.contains("\"event\":\"report\"") && line.contains("\"result\":1")
        });
        assert!(
            reported.is_some_and(|line| line.contains(IMEI)),
            "{edition:?}"
        );
    }
}

#[test]
fn the_reply_without_an_update_is_json_with_status_200() {
    let bytes = noise(3, 3000);
    let server = server(&bytes, &[]);
    for version in ["001.000.003", "001.000.004", "beta"] {
        let played = run(&mut update(&server, Libfota3::V2, version), &settings());
        let Outcome::NoUpdate(why) = &played.outcome else {
            panic!("{version}: {:?}", played.outcome);
        };
        assert!(why.starts_with("code 27: "), "{why}");
    }
    let nothing = server.get("/api/site/turnkey_fota?imei=862991443753386");
    assert_eq!(nothing.status, 200);
    let nothing: Value = serde_json::from_slice(&nothing.body).unwrap();
    assert_eq!(nothing["code"], 25);
}

#[test]
fn a_download_that_was_cut_begins_again_and_is_the_same_file() {
    let bytes = noise(3, 60_000);
    let server = server(&bytes, &[]);
    let cut = Settings {
        cut_after: Some(20_000),
        ..settings()
    };
    let played = run(&mut update(&server, Libfota3::V2, "001.000.000"), &cut);
    assert!(played.was_cut);
    if !matches!(played.outcome, Outcome::Updated(_)) {
        // This core gives up; its script checks again later.
        let again = run(
            &mut update(&server, Libfota3::V2, "001.000.000"),
            &settings(),
        );
        assert_eq!(again.outcome, Outcome::Updated(bytes.clone()));
    } else {
        assert_eq!(played.outcome, Outcome::Updated(bytes.clone()));
    }
    // The server sends a part only to a client that requests one, and only of the same content.
    let offer = ask(&server, "001.000.000", "Host: x\r\n");
    let path = path_of(offer["url"].as_str().unwrap()).to_owned();
    let whole = server.get(&path);
    assert_eq!((whole.status, &whole.body), (200, &bytes));
    server.drop_firmware("A B&C/1.0.4/update.bin", &noise(4, 50_000));
    let newest = luatos("A%20B%26C", "Air780EPM", "862991443753387", "2012.1.0");
    server.wait_until_offered(&newest, &noise(4, 50_000));
    let part = common::get_with(&path, "Range: bytes=20000-\r\n");
    let part = server.http(&part);
    assert_eq!((part.status, &part.body[..]), (206, &bytes[20_000..]));
}

#[test]
fn the_url_has_the_address_that_the_module_used_and_cannot_be_forged() {
    let bytes = noise(3, 3000);
    let server = server(&bytes, &["--trusted-proxy", "10.0.0.0/8"]);
    let at = |headers: &str| {
        let offer = ask(&server, "001.000.000", headers);
        let url = offer["url"].as_str().map(str::to_owned);
        url.ok_or(offer["code"].as_i64().unwrap())
    };
    let begins = |headers: &str, beginning: &str| {
        let url = at(headers).unwrap();
        let beginning = format!("http://{beginning}/api/site/turnkey_fota_file?imei={IMEI}&");
        assert!(url.starts_with(&beginning), "{url}");
    };
    begins("Host: iot.openluat.com\r\n", "iot.openluat.com");
    begins("Host: iot.openluat.com:80\r\n", "iot.openluat.com:80");
    begins("", &server.http.to_string());
    // No trusted proxy is configured.
    begins(
        "Host: a\r\nX-Forwarded-Host: b\r\nX-Forwarded-Proto: https\r\n",
        "a",
    );
    for host in ["a/b", "a\"b", "a@b", "a b"] {
        assert_eq!(at(&format!("Host: {host}\r\n")), Err(26), "{host}");
    }
    let url = at("Host: x\r\n").unwrap();
    let path = path_of(&url);
    assert_eq!(server.get(path).body, bytes);
    let other_device = path.replace(IMEI, "862991443753387");
    let other_version = path.replace("001.000.000", "001.000.001");
    let cut = &path[..path.len() - 1];
    let no_mark = &path[..path.find("&mark").unwrap()];
    for wrong in [&other_device, &other_version, cut, no_mark] {
        assert_eq!(server.get(wrong).status, 404, "{wrong}");
    }
}

#[test]
fn libfota3_updates_behind_a_trusted_proxy() {
    let bytes = noise(3, 3000);
    let server = server(&bytes, &["--trusted-proxy", "127.0.0.0/8"]);
    let offer = ask(
        &server,
        "001.000.000",
        "Host: inner\r\nX-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Host: ota.example.com\r\n\
         X-Forwarded-Proto: https\r\n",
    );
    let url = offer["url"].as_str().unwrap();
    assert!(
        url.starts_with("https://ota.example.com/api/site/"),
        "{url}"
    );
}

#[test]
fn any_report_gets_the_same_answer_and_only_a_good_one_counts() {
    let bytes = noise(3, 3000);
    let server = server(&bytes, &[]);
    let offer = ask(&server, "001.000.000", "Host: x\r\n");
    let serial = offer["fota_sn"].as_str().unwrap().to_owned();
    let wrong = format!(
        "{}{}",
        &serial[..serial.len() - 1],
        if serial.ends_with('0') { '1' } else { '0' }
    );
    for (serial, word) in [(&wrong, "not one of ours"), (&serial, IMEI)] {
        let mark = server.log_mark();
        let reply = post(
            &server,
            json!({"fota_sn": serial, "result_code": 2})
                .to_string()
                .as_bytes(),
        );
        assert_eq!((reply.status, &reply.body[..]), (200, &b"{\"code\":0}"[..]));
        server
            .log
            .wait(mark, common::PATIENCE, |line| {
                line.contains("report") && line.contains(word)
            })
            .expect("the report's line");
    }
    assert_eq!(post(&server, b"nonsense").status, 200);
    assert_eq!(post(&server, b"").status, 200);
    assert_eq!(post(&server, &[b' '; 4097]).status, 413);
    let raw = |headers: &str| {
        let head =
            format!("POST /api/site/turnkey_fota_result HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
        server.http(head.as_bytes()).status
    };
    assert_eq!(raw(""), 411);
    assert_eq!(raw("Content-Length: +5\r\n"), 400);
    assert_eq!(raw("Transfer-Encoding: chunked\r\n"), 501);
    assert_eq!(server.get("/api/site/turnkey_fota_result").status, 405);
    // The body may arrive in any number of segments.
    let body = json!({"fota_sn": serial, "result_code": 1}).to_string();
    let head = format!(
        "POST /api/site/turnkey_fota_result HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let (first, second) = body.as_bytes().split_at(20);
    let segments = [head.as_bytes(), first, second];
    let reply = server
        .try_http_segments(&segments, Duration::from_millis(30))
        .unwrap();
    assert_eq!((reply.status, &reply.body[..]), (200, &b"{\"code\":0}"[..]));
    server.wait_for_log("the report", |line| {
        line.contains("report") && line.contains("\"result\":1")
    });
}

/// A module of project TURNKEY on core 2046.
fn libfota3(server: &Server, edition: Libfota3, version: &str, becomes: &str) -> Update {
    let endpoint = Endpoint {
        host: server.http.ip().to_string(),
        port: server.http.port(),
        path: "/unused".to_owned(),
    };
    let identity = Identity {
        project: "TURNKEY".to_owned(),
        core: 2046,
        ..identity(version)
    };
    edition.update(Core::D2026_05_08, &identity, Some(becomes), endpoint)
}

// Cases 20 and 21.
#[test]
fn a_module_that_runs_the_new_version_accepts_the_reply() {
    for (path, version, becomes) in [
        (
            "TURNKEY_2046.001.001_LuatOS-SoC_Air780EPM.bin",
            "001.999.000",
            "001.999.001",
        ),
        ("TURNKEY/1.0.1/u.bin", "001.000.000", "001.000.001"),
        ("TURNKEY/001.000.010/u.bin", "1.0.9", "1.0.10"),
    ] {
        let bytes = script_package(EC7XX, 5);
        let place = Place::new();
        place.drop_firmware(path, &bytes);
        let server = Server::start_in(place, &[]);
        let asks = luatos("TURNKEY", "Air780EPM", "862991443753387", "2046.1.0");
        server.wait_until_offered(&asks, &bytes);
        for edition in Libfota3::ALL {
            let mark = server.log_mark();
            let mut module = libfota3(&server, edition, version, becomes);
            let played = run(&mut module, &settings());
            assert_eq!(played.outcome, Outcome::Updated(bytes.clone()));
            let line = server
                .log
                .wait(mark, common::PATIENCE, |line| {
                    line.contains("\"event\":\"report\"")
                })
                .expect("the report's line");
            assert!(line.contains("\"result\":1"), "{path} {edition:?}: {line}");
        }
    }
}

/// Sends a request from this address and reads the reply.
fn from_address(server: &Server, address: IpAddr, request: &[u8]) -> Reply {
    let mut stream = connect_from(Some(address), server.http, 0);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request).unwrap();
    reply::read(&mut stream, false).unwrap()
}

// Case 22.
#[test]
fn six_modules_that_report_a_failure_and_run_the_new_version_are_confirmed_and_pause_nothing() {
    let bytes = noise(22, 6000);
    let imei = |number: u8| format!("86299144375000{number}");
    let place = Place::new();
    place.drop_firmware("TURNKEY/1.0.1/u.bin", &bytes);
    let rules = json!({"fuse": {"devices": 1, "percent": 1}});
    place.rules("TURNKEY/1.0.1/release.json", rules);
    let listed: Vec<String> = (0..6).map(imei).collect();
    std::fs::write(place.state().join("known-devices.txt"), listed.join("\n")).unwrap();
    let server = Server::start_in(place, &[]);
    let newcomer = luatos("TURNKEY", "Air780EPM", "862991443753387", "2046.1.0");
    server.wait_until_offered(&newcomer, &bytes);
    let check = |number: u8, version: &str| {
        let request = format!(
            "GET /api/site/turnkey_fota?imei={}&project_key=k&model=Air780EPM&core_id=1\
             &core_version=2046&script_name=TURNKEY&script_version={version} HTTP/1.1\r\n\
             Connection: Close\r\nHost: x\r\n\r\n",
            imei(number)
        );
        let address = Ipv4Addr::new(127, 0, number + 1, 1).into();
        let reply = from_address(&server, address, request.as_bytes());
        serde_json::from_slice::<Value>(&reply.body).unwrap()
    };
    for number in 0..6 {
        let address = Ipv4Addr::new(127, 0, number + 1, 1).into();
        let offer = check(number, "001.000.000");
        assert_eq!(offer["script_version"], "001.000.001");
        let path = path_of(offer["url"].as_str().unwrap()).to_owned();
        let file = from_address(&server, address, &common::get(&path));
        assert_eq!(file.body, bytes);
        let body = json!({"fota_sn": offer["fota_sn"], "result_code": 2}).to_string();
        let report = format!(
            "POST /api/site/turnkey_fota_result HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let reply = from_address(&server, address, report.as_bytes());
        assert_eq!(reply.body, b"{\"code\":0}");
    }
    for number in 0..6 {
        assert_eq!(check(number, "001.000.001")["code"], 27);
    }
    let journal = server.place().state().join("journal.jsonl");
    common::wait_until("all are confirmed", PATIENCE, || {
        let text = std::fs::read_to_string(&journal).unwrap_or_default();
        (0..6).all(|number| {
            text.lines()
                .any(|line| line.contains(&imei(number)) && line.contains("\"confirmed\""))
        })
    });
    let text = std::fs::read_to_string(&journal).unwrap();
    assert!(!text.contains("\"reverted\""), "{text}");
    server.wait_until_offered(&newcomer, &bytes);
}

/// The code in the reply to a check with this query after `imei=…&`.
fn code(server: &Server, query: &str) -> Value {
    let request = format!(
        "GET /api/site/turnkey_fota?imei=862991443753386&{query} HTTP/1.1\r\nHost: x\r\n\r\n"
    );
    let reply = from_address(server, Ipv4Addr::LOCALHOST.into(), request.as_bytes());
    let answer: Value = serde_json::from_slice(&reply.body).unwrap();
    answer["code"].clone()
}

// Case 21.
#[test]
fn the_middle_number_of_the_script_counts_because_libfota3_sends_it() {
    let bytes = script_package(EC7XX, 21);
    let place = Place::new();
    for release in [
        "MIDDLE/1.1.0/u.bin",
        "FOUR/2046.1.1.0/u.bin",
        "CORED_2046.001.001_LuatOS-SoC_Air780EPM.bin",
        "ONE/2.0.0/u.bin",
        "RANGE/2.0.0/u.bin",
    ] {
        place.drop_firmware(release, &bytes);
    }
    place.rules("ONE/2.0.0/release.json", json!({"from": "2046.1.0"}));
    place.rules(
        "RANGE/2.0.0/release.json",
        json!({"from": "2046.1.0-2046.1.1"}),
    );
    let server = Server::start_in(place, &[]);
    let newcomer = luatos("MIDDLE", "Air780EPM", "862991443753387", "2046.0.0");
    server.wait_until_offered(&newcomer, &bytes);
    for (project, version, expected) in [
        ("MIDDLE", "1.0.0", 0),
        ("MIDDLE", "001.000.009", 0),
        ("MIDDLE", "1.1.0", 27),
        ("MIDDLE", "001.002.000", 27),
        ("FOUR", "1.0.9", 0),
        ("FOUR", "1.1.0", 27),
        // The release does not state its middle number.
        ("CORED", "001.999.000", 0),
        ("CORED", "001.000.000", 0),
        ("CORED", "001.999.001", 27),
        // As libfota2 would send it.
        ("ONE", "001.999.000", 0),
        ("ONE", "001.999.001", 21),
        ("RANGE", "001.999.001", 0),
        ("RANGE", "001.999.002", 21),
    ] {
        let query = format!(
            "project_key=k&model=Air780EPM&core_id=1&core_version=2046&script_name={project}\
             &script_version={version}"
        );
        assert_eq!(code(&server, &query), expected, "{project} {version}");
    }
}

// Case 10.
#[test]
fn the_project_key_names_the_project_of_a_check_without_a_script_name() {
    let bytes = script_package(EC7XX, 10);
    let place = Place::new();
    let release = "KEYED/2046.001.001/KEYED_2046.001.001_LuatOS-SoC_Air780EPM.bin";
    place.drop_firmware(release, &bytes);
    place.rules("KEYED/release.json", json!({"project_key": "k1"}));
    let server = Server::start_in(place, &[]);
    let newcomer = luatos("KEYED", "Air780EPM", "862991443753387", "2046.0.0")
        .replace("project_key=k&", "project_key=k1&");
    server.wait_until_offered(&newcomer, &bytes);
    for (query, expected) in [
        ("project_key=k1&model=Air780EPM", 0),
        ("project_key=k1&model=Air780EPM&script_name=", 0),
        ("project_key=k1&model=Air8000", 26),
        ("project_key=k2&model=Air780EPM", 25),
        ("model=Air780EPM", 25),
    ] {
        let query = format!("{query}&core_id=1&core_version=2046&script_version=001.000.000");
        assert_eq!(code(&server, &query), expected, "{query}");
    }
}
