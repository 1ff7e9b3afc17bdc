//! Promise: the server filters, sorts and pages the list of devices and states how many devices match, and each number
//! on the page equals the number of devices in its list.
#![cfg(feature = "operator")]

use crate::common;

use common::datagrams::Device;
use common::operator::Operator;
use common::packages::{EC618, noise, script_package};
use common::{PATIENCE, Place, Rows, Server, luat, luatos, wait_until};
use serde_json::{Value, json};

fn imei_of(number: u64) -> String {
    (862_991_443_700_000 + number).to_string()
}

/// Devices of two projects, in several states of two releases. A group contains three of them.
fn a_fleet() -> (Server, Operator) {
    let place = Place::new();
    place.drop_firmware("P/2.0.0/u.bin", &noise(1, 5000));
    place.drop_firmware(
        "GOOD_2012.001.004_LuatOS-SoC_Air780E.bin",
        &script_package(EC618, 62),
    );
    let group = format!(
        "{} # Pump 7\n{} # valve\n{} # pump 12\n",
        imei_of(3),
        imei_of(4),
        imei_of(5)
    );
    place.drop_firmware("@pilot.txt", group.as_bytes());
    let server = Server::start_in(place, &[]);
    let operator = Operator::of(&server);
    operator.wait_for("/api/v1/summary", "all is read", |summary| {
        summary["releases"] == 2 && summary["waiting"] == 0
    });
    for n in 0..40 {
        server.get(&luat("P", &imei_of(n), ["1.9.0", "1.10.0"][n as usize % 2]));
        if n % 4 == 0 {
            server.get(&luat("P", &imei_of(n), "2.0.0"));
        }
    }
    for n in 100..105 {
        server.get(&luatos("GOOD", "Air780E", &imei_of(n), "2012.1.3"));
    }
    (server, operator)
}

fn ids(page: &Value) -> Vec<&str> {
    let devices = page["devices"].as_array().unwrap();
    devices
        .iter()
        .map(|device| device["id"].as_str().unwrap())
        .collect()
}

#[test]
fn a_filter_finds_matching_devices_and_counts_them() {
    let (_server, operator) = a_fleet();
    let mut rows = Rows::default();
    for (query, matching) in [
        ("", 45),
        ("project=P", 40),
        ("project=P&version=1.10.0", 20),
        ("version=2.0.0", 10),
        ("platform=air780e", 5),
        ("platform=ASR1802&state=confirmed", 10),
        ("search=700039", 1),
        ("search=39", 1),
        ("search=8629914437001", 5),
        ("search=pump", 2),
        ("search=VALVE", 1),
        ("search=pump&version=1.10.0", 2),
        ("search=nobody", 0),
        ("imei=86299144370003", 10),
        ("to=2.0.0", 40),
        ("to=2.0.0&project=GOOD", 0),
        ("to=2012.001.004", 5),
        ("held=1", 0),
        ("project=Q", 0),
    ] {
        let page = operator.get(&format!("/api/v1/devices?{query}")).json();
        let counts = (ids(&page).len(), &page["matching"], &page["total"]);
        let is_so = counts == (matching, &json!(matching), &json!(45));
        rows.row(query, is_so.then_some(()).ok_or(format!("{counts:?}")));
    }
    rows.finish();
    let named = operator.get("/api/v1/devices?search=valve").json();
    assert_eq!(named["devices"][0]["name"], "valve");
    let one = operator
        .get(&format!("/api/v1/devices/{}", imei_of(3)))
        .json();
    assert_eq!(one["name"], "Pump 7");
}

#[test]
fn pages_follow_one_another_in_every_order() {
    let (_server, operator) = a_fleet();
    let all = operator.get("/api/v1/devices?format=json").json();
    for (sort, field) in [
        ("id", "/id"),
        ("project", "/project"),
        ("platform", "/platform"),
        ("first_seen", "/first_seen"),
        ("last_seen", "/last_seen"),
    ] {
        let mut listed = Vec::new();
        for sign in ["", "-"] {
            let (mut found, mut after) = (Vec::new(), String::new());
            loop {
                let page = operator
                    .get(&format!("/api/v1/devices?limit=7&sort={sign}{sort}{after}"))
                    .json();
                assert_eq!(page["matching"], 45);
                found.extend(page["devices"].as_array().unwrap().clone());
                match page["next"].as_str() {
                    Some(next) => after = format!("&after={next}"),
                    None => break,
                }
            }
            let mut ids: Vec<&str> = found
                .iter()
                .map(|one| one["id"].as_str().unwrap())
                .collect();
            ids.sort_unstable();
            ids.dedup();
            assert_eq!(ids.len(), 45, "{sign}{sort}");
            let keys = found
                .iter()
                .map(|device| device.pointer(field).unwrap().to_string());
            listed.push(keys.collect::<Vec<String>>());
        }
        // Each page rounds the times to seconds again.
        if !sort.ends_with("_seen") {
            assert!(listed[0].is_sorted(), "{sort}: {:?}", listed[0]);
            assert!(
                listed[1].iter().rev().is_sorted(),
                "{sort}: {:?}",
                listed[1]
            );
        }
    }
    assert_eq!(all["devices"].as_array().unwrap().len(), 45);
    // Versions are sorted by their numbers, not as text. Devices without an offer are last.
    let versions = operator
        .get("/api/v1/devices?sort=version&project=P")
        .json();
    let versions: Vec<&str> = versions["devices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|device| device["version"].as_str().unwrap())
        .collect();
    assert_eq!(
        (versions[0], versions[10], versions[39]),
        ("1.9.0", "1.10.0", "2.0.0")
    );
    for query in ["sort=size", "sort=", "after=12", "after=-x", "sort=--id"] {
        let status = operator.get(&format!("/api/v1/devices?{query}")).status;
        assert_eq!(status, if query == "sort=" { 200 } else { 400 }, "{query}");
    }
}

#[test]
fn each_number_of_a_release_has_as_many_devices() {
    let (server, operator) = a_fleet();
    // A newer release: the devices that have the older one are being updated to it, and still count as confirmed.
    server.drop_firmware("P/2.0.1/u.bin", &noise(5, 5000));
    server.wait_until_offered(&luat("P", &imei_of(0), "2.0.0"), &noise(5, 5000));
    server.get(&luat("P", &imei_of(8), "2.0.0"));
    let mut releases = Value::Null;
    wait_until("both downloads are counted", PATIENCE, || {
        releases = operator.get("/api/v1/releases?project=P").json();
        let mut all = releases["releases"].as_array().unwrap().iter();
        let newest = all.find(|one| one["version"] == "2.0.1");
        newest.is_some_and(|newest| newest["counts"]["delivered"] == 2)
    });
    let mut rows = Rows::default();
    for release in releases["releases"].as_array().unwrap() {
        let version = release["version"].as_str().unwrap();
        for (state, count) in release["counts"].as_object().unwrap() {
            let query = format!("project=P&to={version}&state={state}");
            let page = operator.get(&format!("/api/v1/devices?{query}")).json();
            let is_same = page["matching"] == *count;
            let why = format!("{count} on the card, {} in the list", page["matching"]);
            rows.row(&query, is_same.then_some(()).ok_or(why));
        }
    }
    rows.finish();
    let counts = &releases["releases"][1]["counts"];
    assert_eq!(counts["confirmed"], 10, "{counts}");
}

#[test]
fn a_device_shows_its_last_steps_its_last_refusal_and_what_it_would_get_now() {
    let place = Place::new();
    let bytes = noise(1, 5000);
    place.drop_firmware("P/2.0.0/u.bin", &bytes);
    let server = Server::start_in(place, &[]);
    let operator = Operator::of(&server);
    operator.wait_for("/api/v1/summary", "all is read", |summary| {
        summary["releases"] == 1 && summary["waiting"] == 0
    });
    let path = format!("/api/v1/devices/{}", imei_of(1));
    server.get(&luat("P", &imei_of(1), "1.0.0"));
    operator.wait_for(&path, "it has all of the file", |device| {
        device["journey"]["state"] == "delivered"
    });
    for _ in 0..3 {
        server.get(&luat("P", &imei_of(1), "2.0.0"));
    }
    let device = operator.get(&path).json();
    let words = |device: &Value| -> Vec<String> {
        let text = |step: &Value| {
            assert!(step["time"].as_str().unwrap().ends_with('Z'), "{step}");
            let text = |key: &str| step[key].as_str().unwrap_or_default().to_owned();
            format!("{} {}{}", text("step"), text("version"), text("reason"))
        };
        let steps = device["steps"].as_array().unwrap();
        steps.iter().map(text).collect()
    };
    // Three identical refusals are one step.
    let expected = [
        "refused nothing newer",
        "confirmed 2.0.0",
        "version 2.0.0",
        "delivered 2.0.0",
        "downloading 2.0.0",
        "offered 2.0.0",
        "seen ",
    ];
    assert_eq!(words(&device), expected);
    assert_eq!(device["last_refusal"]["reason"], "nothing newer");
    assert_eq!(device["last_refusal"]["time"], device["last_seen"]);
    assert_eq!(device["now"]["reason"], "nothing newer");
    assert_eq!(device["protocol"], "http");

    let csv = operator.get(&format!("{path}?format=csv"));
    let same = operator.send("GET", &path, "Accept: text/csv\r\n", b"");
    assert_eq!(csv.text(), same.text());
    let csv = crate::operator_export::rows(&csv.text());
    assert_eq!(csv.len(), expected.len());
    let (step, version) = (&csv[1]["step"], &csv[1]["version"]);
    assert_eq!((&**step, &**version), ("confirmed", "2.0.0"));
    let json = operator.get(&format!("{path}?format=json")).json();
    assert_eq!(words(&json), expected);
    assert!(json["steps_since"].is_string());

    // The current decision follows the rules and the device's own last check.
    server.drop_firmware("P/3.0.0/u.bin", &noise(2, 5000));
    operator.wait_for(&path, "it would get the new release", |device| {
        device["now"]["verdict"] == "offer" && device["now"]["release"] == "3.0.0"
    });
    server.rules("P/3.0.0/release.json", json!({"paused": "wait"}));
    let device = operator.wait_for(&path, "it would get nothing", |device| {
        device["now"]["verdict"] == "refuse"
    });
    assert_eq!(device["now"]["reason"], "3.0.0: wait");
    // None of this is recorded as a step.
    assert_eq!(words(&device), expected);
    let reply = server.get(&luat("P", &imei_of(1), "2.0.0"));
    assert_eq!(
        reply.status,
        device["now"]["http"]["status"].as_u64().unwrap() as u16
    );
    let device = operator.get(&path).json();
    assert_eq!(words(&device)[0], "refused 3.0.0: wait");
    assert_eq!(device["last_refusal"]["reason"], "3.0.0: wait");

    // A version that is too long to be stored in full: the check cannot be repeated exactly.
    let long = "2.0.0-a-version-that-is-not-kept-whole";
    server.get(&luat("P", &imei_of(2), long));
    let other = operator
        .get(&format!("/api/v1/devices/{}", imei_of(2)))
        .json();
    assert_eq!(other["request_known"], false);
    assert_eq!(other["now"], Value::Null);
    assert_eq!(words(&other).last().unwrap(), "seen ");
}

#[test]
fn a_device_that_uses_udp_shows_its_message_and_what_that_would_get() {
    let place = Place::new();
    place.drop_firmware("P/2.0.0/u.bin", &noise(3, 5000));
    place.rules("P/2.0.0/release.json", json!({"project_key": "key"}));
    let server = Server::start_in(place, &[]);
    let operator = Operator::of(&server);
    operator.wait_for("/api/v1/summary", "all is read", |summary| {
        summary["releases"] == 1 && summary["waiting"] == 0
    });
    let device = Device::new(server.udp);
    let mut rows = Rows::default();
    for (key, verdict) in [("key", "offer"), ("other", "refuse")] {
        let asks = format!("0,{key},{},,P_Luat_V0035_8955,1.0.0", imei_of(1));
        wait_until("it is answered", PATIENCE, || device.ask(&asks).is_some());
        let shown = operator
            .get(&format!("/api/v1/devices/{}", imei_of(1)))
            .json();
        let shown = (
            &shown["protocol"],
            &shown["request"],
            &shown["now"]["verdict"],
        );
        let is_so = shown == (&json!("udp"), &json!(asks), &json!(verdict));
        rows.row(key, is_so.then_some(()).ok_or(format!("{shown:?}")));
    }
    rows.finish();
}
