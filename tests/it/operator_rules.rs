//! Promise: rules that are changed over the API apply to devices, and no other person's change is lost.
#![cfg(feature = "operator")]

use crate::common;

use common::operator::Operator;
use common::packages::{EC7XX, noise, script_package};
use common::{IMEI, PATIENCE, Server, files_under, luat, wait_until};
use serde_json::{Value, json};

#[test]
fn pause_resume_and_percent_change_what_modules_get() {
    let (server, operator) = Operator::with_releases();
    // Another module each time, because one that downloads the file repeatedly would be held.
    let mut modules = 862_991_443_753_300_u64..;
    let mut check = || luat("P", &modules.next().unwrap().to_string(), "1.5.0");
    server.wait_until_offered(&check(), &noise(1, 5000));
    let reply = operator.post(
        "/api/v1/releases/P/2.0.0/pause",
        &json!({"reason": "waiting for Li"}),
    );
    let release = reply.json();
    assert_eq!(
        (release["state"].as_str(), release["reason"].as_str()),
        (Some("paused"), Some("waiting for Li"))
    );
    server.wait_until_refused(&check(), 404, 27);
    let file = server.place().firmware().join("P/2.0.0/release.json");
    let rules: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(rules, json!({"paused": "waiting for Li"}));
    let release = operator
        .post("/api/v1/releases/P/2.0.0/resume", &json!({}))
        .json();
    assert_eq!(release["state"], "live");
    server.wait_until_offered(&check(), &noise(1, 5000));
    let release = operator
        .post("/api/v1/releases/P/2.0.0/percent", &json!({"percent": 0}))
        .json();
    assert_eq!(
        (release["state"].as_str(), release["percent"].as_f64()),
        (Some("rolling_out"), Some(0.0))
    );
    server.wait_until_refused(&check(), 404, 27);
    operator.post(
        "/api/v1/releases/P/2.0.0/percent",
        &json!({"percent": null}),
    );
    server.wait_until_offered(&check(), &noise(1, 5000));
    // Resume works for a release that is paused by its whole project.
    server.rules("P/release.json", json!({"paused": true}));
    server.wait_until_refused(&check(), 404, 27);
    let release = operator
        .post("/api/v1/releases/P/2.0.0/resume", &json!({}))
        .json();
    assert_eq!(release["state"], "live", "{release}");
    server.wait_until_offered(&check(), &noise(1, 5000));
    // A release without its own folder gets one for its rules.
    let reply = operator.post("/api/v1/releases/Q/1.0.0/pause", &json!({}));
    assert_eq!(
        (reply.status, &reply.json()["state"]),
        (200, &json!("paused"))
    );
    operator.wait_for("/api/v1/releases?project=Q", "it is paused", |list| {
        list["releases"][0]["state"] == "paused"
    });
}

#[test]
fn rules_replace_only_the_version_that_was_read() {
    let (server, operator) = Operator::with_releases();
    let target = "/api/v1/rules/P/2.0.0";
    assert_eq!(operator.get(target).status, 404);
    let put = |headers: &str, rules: &Value| {
        operator.send("PUT", target, headers, rules.to_string().as_bytes())
    };
    assert_eq!(put("", &json!({})).status, 428);
    assert_eq!(put("If-Match: *\r\n", &json!({})).status, 412);
    let made = put("If-None-Match: *\r\n", &json!({"allow": [IMEI]}));
    assert_eq!(made.status, 201, "{}", made.text());
    let read = operator.get(target);
    assert_eq!(read.json(), json!({"allow": [IMEI]}));
    let tag = read.header("etag").unwrap().to_owned();
    assert_eq!(made.header("etag"), Some(tag.as_str()));
    let same = operator.request(
        &format!("GET {target}"),
        true,
        &format!("If-None-Match: {tag}\r\n"),
        b"",
    );
    assert_eq!(operator.ask(&same).status, 304);
    let list = operator.get("/api/v1/releases?project=P&limit=1").json();
    assert_eq!(list["releases"][0]["rules_etag"], tag.as_str());
    assert_eq!(list["releases"][0]["rules"], json!({"allow": [IMEI]}));
    let matching = format!("If-Match: {tag}\r\n");
    assert_eq!(put(&matching, &json!({"percent": 5})).status, 200);
    assert_eq!(
        put(&matching, &json!({"percent": 6})).status,
        412,
        "it is another now"
    );
    assert_eq!(operator.get(target).json(), json!({"percent": 5}));
    let wrong = put("If-Match: *\r\n", &json!({"precent": 5}));
    assert_eq!(wrong.status, 422);
    assert!(wrong.text().contains("percent"), "{}", wrong.text());
    assert_eq!(operator.get(target).json(), json!({"percent": 5}));
    drop(server);
}

// Case 38.
#[test]
fn a_key_that_is_there_twice_is_refused_by_its_name() {
    let (server, operator) = Operator::with_releases();
    let target = "/api/v1/rules/P/2.0.0";
    for (rules, key) in [
        ("{\"percent\":0,\"percent\":100}", "percent"),
        ("{\"paused\":true,\"paused\":false}", "paused"),
        (
            "{\"fuse\":{\"devices\":3,\"percent\":20,\"devices\":9}}",
            "devices",
        ),
        ("{\"paused\":true,\"pau\\u0073ed\":false}", "paused"),
    ] {
        let reply = operator.send("PUT", target, "If-None-Match: *\r\n", rules.as_bytes());
        assert_eq!(reply.status, 422, "{rules}");
        let named = format!("the key `{key}` appears twice");
        assert!(reply.text().contains(&named), "{rules}: {}", reply.text());
        assert_eq!(operator.get(target).status, 404);
        // Rules that a person wrote into the folder hold the release back, and a change of a key leaves
        // them unchanged.
        server.drop_firmware("P/2.0.0/release.json", rules.as_bytes());
        operator.wait_for("/api/v1/quarantine", "it is named", |list| {
            list["quarantined"].to_string().contains(&named)
                || list["warnings"].to_string().contains(&named)
        });
        server.wait_until_refused(&luat("P", IMEI, "1.9.0"), 404, 27);
        let reply = operator.post("/api/v1/releases/P/2.0.0/percent", &json!({"percent": 7}));
        assert_eq!(reply.status, 422, "{}", reply.text());
        std::fs::remove_file(server.place().firmware().join("P/2.0.0/release.json")).unwrap();
        server.wait_until_offered(&luat("P", IMEI, "1.9.0"), &noise(1, 5000));
    }
    let line = operator.request(
        "POST /api/v1/explain",
        true,
        "",
        b"{\"imei\":\"1\",\"imei\":\"2\"}",
    );
    let reply = operator.ask(&line);
    assert_eq!(reply.status, 400);
    assert!(
        reply.text().contains("`imei` appears twice"),
        "{}",
        reply.text()
    );
}

// Case 52.
#[test]
fn rules_that_come_before_a_release_or_with_it_hold_from_its_first_offer() {
    let server = Server::start(&[]);
    let operator = Operator::of(&server);
    const OTHER: &str = "862991443700017";
    let rules = json!({ "allow": [IMEI] }).to_string();
    let header = format!("Release-Rules: {rules}\r\n");
    let absent = "If-None-Match: *\r\n";
    let luatools = "LT_2012.001.004_LuatOS-SoC_Air780EPM.bin";
    // The first PUT (the rules of a release or a project), the file, and the header of its upload.
    for (n, (project, first, path, headers)) in [
        ("A", "A/2.0.1", "A/2.0.1/u.bin", ""),
        ("B", "B", "B/2.0.1/u.bin", ""),
        ("C", "", "C/2.0.1/u.bin", header.as_str()),
        ("D", "D/2.0.1", "D/2.0.1/from-2008/u.bin", header.as_str()),
        ("LT", "", luatools, header.as_str()),
    ]
    .into_iter()
    .enumerate()
    {
        let bytes = match path == luatools {
            true => script_package(EC7XX, 26),
            false => noise(n as u64, 30_000),
        };
        if !first.is_empty() {
            let target = format!("/api/v1/rules/{first}");
            let made = operator.send("PUT", &target, absent, rules.as_bytes());
            assert_eq!(made.status, 201, "{first}: {}", made.text());
            assert_eq!(operator.get(&target).json(), json!({ "allow": [IMEI] }));
        }
        let target = format!("/api/v1/firmware/{path}");
        let reply = operator.send("PUT", &target, headers, &bytes);
        assert_eq!(reply.status, 201, "{path}: {}", reply.text());
        let ask = |imei: &str| match path == luatools {
            true => format!(
                "/api/site/firmware_upgrade?imei={imei}&project_key=k\
                 &firmware_name=LT_LuatOS-SoC_Air780EPM&version=2012.1.3"
            ),
            // The folder of a core delta is for modules with that core.
            false if path.contains("from-") => format!(
                "/api/site/firmware_upgrade?imei={imei}&project_key=k\
                 &firmware_name={project}_Luat_V2008_RDA8910&version=1.0.0"
            ),
            false => luat(project, imei, "1.0.0"),
        };
        wait_until("the listed device is offered it", PATIENCE, || {
            assert_ne!(server.get(&ask(OTHER)).status, 200, "{path}");
            server.get(&ask(IMEI)).status == 200
        });
        for _ in 0..20 {
            assert_ne!(server.get(&ask(OTHER)).status, 200, "{path}");
        }
    }
}

#[test]
fn rules_that_come_with_a_file_are_taken_with_it_or_not_at_all() {
    let server = Server::start(&[]);
    let operator = Operator::of(&server);
    let send = |path: &str, rules: &str, bytes: &[u8]| {
        let target = format!("/api/v1/firmware/{path}");
        operator.send(
            "PUT",
            &target,
            &format!("Release-Rules: {rules}\r\n"),
            bytes,
        )
    };
    let bytes = noise(1, 3000);
    for (rules, part) in [
        ("{\"precent\": 5}", "percent"),
        (
            "{\"percent\": 5, \"percent\": 100}",
            "`percent` appears twice",
        ),
        ("nonsense", "not valid JSON"),
        ("[]", "object"),
        ("{\"paused\": \"a\\u202eb\"}", "U+202E"),
    ] {
        let reply = send("P/2.0.1/u.bin", rules, &bytes);
        assert_eq!(reply.status, 422, "{rules}");
        assert!(reply.text().contains(part), "{rules}: {}", reply.text());
    }
    let page = send(
        "P/2.0.1/u.bin",
        "{\"percent\": 5}",
        b"<!doctype html><title>404</title>",
    );
    assert_eq!(page.status, 422);
    assert_eq!(
        files_under(&server.place().firmware()),
        [""; 0],
        "what is refused leaves no rules either"
    );
    assert_eq!(
        send("P/2.0.1/u.bin", "{\"percent\": 5}", &bytes).status,
        201
    );
    assert_eq!(
        files_under(&server.place().firmware()),
        ["P/2.0.1/release.json", "P/2.0.1/u.bin"]
    );
    // The same upload again, and a second file of the release with the same rules.
    assert_eq!(
        send("P/2.0.1/u.bin", "{ \"percent\":5 }", &bytes).status,
        200
    );
    let second = "P/2.0.1/P_2.0.1_Luat_8955.bin";
    assert_eq!(send(second, "{\"percent\":5}", &noise(2, 3000)).status, 201);
    // Other rules would change a release that is already visible.
    let other = send(
        "P/2.0.1/P_2.0.1_Luat_8910.bin",
        "{\"percent\":6}",
        &noise(3, 3000),
    );
    assert_eq!(other.status, 409, "{}", other.text());
    assert!(other.text().contains("other rules"), "{}", other.text());
    assert_eq!(files_under(&server.place().firmware()).len(), 3);
    assert_eq!(
        operator.get("/api/v1/rules/P/2.0.1").json(),
        json!({ "percent": 5 })
    );
}
