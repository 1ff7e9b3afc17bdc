//! Promise: before rules are written, the API reports their faults and the number of devices that they affect, and
//! the devices then get exactly what was counted.
#![cfg(feature = "operator")]

use crate::common;

use common::operator::Operator;
use common::packages::noise;
use common::{Place, Server, luat, schema};
use serde_json::{Value, json};

/// The ids of `count` devices.
fn imeis(count: u64) -> Vec<String> {
    let imei = |n: u64| (862_991_443_700_000 + n * 7919).to_string();
    (0..count).map(imei).collect()
}

/// A server with these rules of P 2.0.0, and devices that run 1.5.0 and were not offered 2.0.0.
fn with_devices(rules: Value, devices: &[String]) -> (Server, Operator) {
    let place = Place::new();
    place.drop_firmware("P/2.0.0/u.bin", &noise(1, 5000));
    place.drop_firmware("P/1.5.0/u.bin", &noise(2, 5000));
    place.rules("P/2.0.0/release.json", rules);
    let server = Server::start_in(place, &[]);
    let operator = Operator::of(&server);
    operator.wait_for("/api/v1/summary", "all is read", |summary| {
        summary["releases"] == 2 && summary["waiting"] == 0
    });
    for imei in devices {
        assert_ne!(server.get(&luat("P", imei, "1.5.0")).status, 200);
    }
    (server, operator)
}

/// The counts of a preview of one edit of P 2.0.0.
fn preview(operator: &Operator, edit: Value) -> Value {
    let mut edit = edit;
    edit["version"] = json!("2.0.0");
    let body = json!({"project": "P", "edits": [edit]});
    let reply = operator.post("/api/v1/preview", &body);
    assert_eq!(reply.status, 200, "{}", reply.text());
    let root = operator.get("/api/v1/openapi.json").json();
    let described = schema::of_reply(&root, "POST", "/api/v1/preview", 200);
    schema::check(&root, described, &reply.json(), "reply").unwrap();
    reply.json()
}

#[test]
fn devices_get_what_was_counted_before_the_rules_were_written() {
    let devices = imeis(40);
    let (server, operator) = with_devices(json!({"paused": true}), &devices);
    let edit = json!({"keys": {"paused": null, "percent": 30}});
    let answer = preview(&operator, edit.clone());
    let counts = &answer["counts"];
    assert_eq!(counts["devices"], 40);
    assert_eq!(counts["releases"][0]["before"], 0);
    let expected = counts["releases"][0]["after"].as_u64().unwrap();
    assert!((1..40).contains(&expected), "{counts}");
    assert_eq!(counts["changed"], expected);
    let reason = "not in the percent that may have it yet";
    assert_eq!(
        counts["others"],
        json!([{"reason": reason, "devices": 40 - expected}])
    );
    // Nothing was written, and a second preview gives the same counts.
    let target = "/api/v1/rules/P/2.0.0";
    assert_eq!(operator.get(target).json(), json!({"paused": true}));
    let again = preview(&operator, edit);
    assert_eq!(again["counts"]["releases"], counts["releases"]);
    let edit = &answer["edits"][0];
    let headers = format!("If-Match: {}\r\n", edit["etag"].as_str().unwrap());
    let text = edit["text"].as_str().unwrap();
    let written = operator.send("PUT", target, &headers, text.as_bytes());
    assert_eq!(written.status, 200, "{}", written.text());
    let state = |list: &Value| list["releases"][0]["state"] == "rolling_out";
    operator.wait_for("/api/v1/releases?project=P&limit=1", "it is live", state);
    let offered = devices
        .iter()
        .filter(|imei| server.get(&luat("P", imei, "1.5.0")).status == 200);
    assert_eq!(offered.count() as u64, expected);
}

#[test]
fn every_wrong_key_is_named_with_its_message_and_nothing_else_is_touched() {
    let text = "{\n\t\"project_key\" : \"k\",\n\t\"percent\": 1e1\n}\r\n";
    let (server, operator) = with_devices(json!({"paused": true}), &[]);
    server.drop_firmware("P/2.0.0/release.json", text.as_bytes());
    let edit = json!({"keys": {"window": "1-5", "percent": 101, "allow": 5}});
    let answer = preview(&operator, edit);
    let errors = answer["edits"][0]["errors"].as_array().unwrap().clone();
    let keys: Vec<&str> = errors.iter().filter_map(|e| e["key"].as_str()).collect();
    assert_eq!(keys, ["allow", "percent", "window"]);
    for error in &errors {
        let key = format!("`{}`", error["key"].as_str().unwrap());
        assert!(error["text"].as_str().unwrap().contains(&key), "{error}");
    }
    assert_eq!(answer["counts"], Value::Null);
    // Keys that the edit does not name keep every character.
    let answer = preview(&operator, json!({"keys": {"percent": 20, "deny": null}}));
    assert_eq!(answer["edits"][0]["text"], text.replace("1e1", "20"));
    assert_eq!(answer["edits"][0]["errors"], json!([]));
    // An incomplete text, as while it is typed.
    let answer = preview(&operator, json!({"text": "{\"percent\": 5"}));
    assert_eq!(answer["edits"][0]["errors"][0]["key"], Value::Null);
    let answer = preview(&operator, json!({"text": "{\"precent\": 5}"}));
    assert_eq!(answer["edits"][0]["errors"][0]["key"], "precent");
    for (body, part) in [
        (json!({}), "give project"),
        (json!({"project": "P", "edits": []}), "1 to 8"),
        (
            json!({"project": "Z", "edits": [{"version": "1"}]}),
            "no release of",
        ),
        (
            json!({"project": "P", "edits": [{"version": "9"}]}),
            "no release 9 of P",
        ),
        (json!({"project": "P", "edits": [{}]}), "version"),
    ] {
        let reply = operator.post("/api/v1/preview", &body);
        assert_eq!(reply.status, 422, "{body}");
        assert!(reply.text().contains(part), "{body}: {}", reply.text());
    }
}

#[test]
fn a_release_that_opens_later_is_counted_for_that_time() {
    let devices = imeis(10);
    let (_server, operator) = with_devices(json!({"paused": true}), &devices);
    // A window of one hour that begins two hours from now.
    let summary = operator.get("/api/v1/summary").json();
    let now = summary["unix"].as_i64().unwrap();
    let hour = |n: i64| (now / 3600 + n).rem_euclid(24);
    let window = format!("{:02}:00-{:02}:59Z", hour(2), hour(2));
    let keys = json!({"paused": null, "window": window});
    let counts = preview(&operator, json!({"keys": keys}))["counts"].clone();
    assert_eq!(counts["releases"][0]["after"], 10, "{counts}");
    let at = counts["at"]["after"].as_str().unwrap();
    assert_eq!(at[11..13], format!("{:02}", hour(2)), "{counts}");
    let keys = json!({"paused": null, "not_before": "2099-01-01T00:00:00Z"});
    let counts = preview(&operator, json!({"keys": keys}))["counts"].clone();
    assert_eq!(counts["releases"][0]["after"], 10, "{counts}");
    assert_eq!(counts["at"]["after"], "2099-01-01T00:00:00Z");
}

#[test]
fn reading_is_enough_to_count() {
    let (_server, operator) = with_devices(json!({"paused": true}), &imeis(1));
    let body = json!({"project": "P", "edits": [{"version": "2.0.0"}]}).to_string();
    let headers = format!("Authorization: Bearer {}\r\n", operator.read_token);
    let line = "POST /api/v1/preview";
    let reply = operator.ask(&operator.request(line, false, &headers, body.as_bytes()));
    assert_eq!(reply.status, 200, "{}", reply.text());
    let reply = operator.ask(&operator.request(line, false, "", body.as_bytes()));
    assert_eq!(reply.status, 401);
}

#[test]
fn a_release_is_retired_and_counted_before() {
    let (server, operator) = with_devices(json!({"paused": true}), &imeis(3));
    let edits = json!([{"version": "2.0.0", "keys": {"paused": null}}, {"version": "1.5.0", "retire": true}]);
    let body = json!({"project": "P", "edits": edits});
    let counts = operator.post("/api/v1/preview", &body).json()["counts"].clone();
    let expected = json!([{"version": "2.0.0", "before": 0, "after": 3}, {"version": "1.5.0", "before": 0, "after": 0}]);
    assert_eq!(counts["releases"], expected, "{counts}");
    assert_eq!(counts["running"][1]["devices"], 3, "{counts}");
    let root = operator.get("/api/v1/openapi.json").json();
    for (version, status) in [("1.5.0", 200), ("9", 404)] {
        let target = format!("/api/v1/releases/P/{version}/retire");
        let reply = operator.post(&target, &json!({}));
        assert_eq!(reply.status, status, "{}", reply.text());
        let path = "/api/v1/releases/{project}/{version}/retire";
        let described = schema::of_reply(&root, "POST", path, status);
        schema::check(&root, described, &reply.json(), "reply").unwrap();
    }
    operator.wait_for("/api/v1/summary", "one is left", |s| s["releases"] == 1);
    assert!(server.place().path(".retired/P/1.5.0/u.bin").exists());
    assert_eq!(
        operator.get("/api/v1/quarantine").json()["counts"]["ignored"],
        0
    );
}
