//! Promise: the API does what its description says, and what is changed there is changed for modules.
#![cfg(feature = "operator")]

use crate::common;

use std::io::{BufRead, BufReader, Write};
use std::time::Instant;

use common::operator::Operator;
use common::packages::noise;
use common::{IMEI, PATIENCE, Place, Rows, Server, luat, schema};
use serde_json::{Value, json};

fn start() -> (Server, Operator) {
    let place = Place::new();
    place.drop_firmware("P/2.0.0/u.bin", &noise(1, 5000));
    place.drop_firmware("P/1.5.0/u.bin", &noise(2, 5000));
    place.drop_firmware("Q_1.0.0_Luat_8955.bin", &noise(3, 5000));
    place.rules(
        "P/release.json",
        json!({"fuse": {"devices": 3, "percent": 20}}),
    );
    let server = Server::start_in(place, &[]);
    let operator = Operator::of(&server);
    operator.wait_for("/api/v1/summary", "all is read", |summary| {
        summary["releases"] == 3 && summary["waiting"] == 0
    });
    (server, operator)
}

#[test]
fn every_reply_is_what_the_description_says() {
    let (server, operator) = start();
    server.get(&luat("P", IMEI, "1.0.0"));
    let root = operator.get("/api/v1/openapi.json").json();
    assert_eq!(root["openapi"], "3.1.0");
    let etag = |target: &str| {
        let told = operator.get(target);
        told.header("etag").map(str::to_owned).unwrap_or_default()
    };
    let project_etag = format!("If-Match: {}\r\n", etag("/api/v1/rules/P"));
    let head = "AAAAAAAA";
    // Method, the path as described, the target, headers, body, status.
    let rows_of: Vec<(&str, &str, &str, String, Value, u16)> = vec![
        (
            "GET",
            "/api/v1/openapi.json",
            "",
            String::new(),
            Value::Null,
            200,
        ),
        (
            "GET",
            "/api/v1/summary",
            "",
            String::new(),
            Value::Null,
            200,
        ),
        (
            "GET",
            "/api/v1/releases",
            "",
            String::new(),
            Value::Null,
            200,
        ),
        (
            "GET",
            "/api/v1/releases",
            "?limit=0",
            String::new(),
            Value::Null,
            400,
        ),
        (
            "GET",
            "/api/v1/releases",
            "?after=x",
            String::new(),
            Value::Null,
            400,
        ),
        (
            "GET",
            "/api/v1/quarantine",
            "",
            String::new(),
            Value::Null,
            200,
        ),
        (
            "GET",
            "/api/v1/devices",
            "?imei=86&limit=3",
            String::new(),
            Value::Null,
            200,
        ),
        (
            "GET",
            "/api/v1/devices",
            "?state=asleep",
            String::new(),
            Value::Null,
            400,
        ),
        (
            "GET",
            "/api/v1/devices",
            "?after=x",
            String::new(),
            Value::Null,
            400,
        ),
        (
            "GET",
            "/api/v1/devices/{id}",
            "/api/v1/devices/000000000000000",
            String::new(),
            Value::Null,
            404,
        ),
        (
            "DELETE",
            "/api/v1/devices/{id}/hold",
            "/api/v1/devices/862991443753386/hold",
            String::new(),
            Value::Null,
            200,
        ),
        (
            "DELETE",
            "/api/v1/devices/{id}/hold",
            "/api/v1/devices/862991443750001/hold",
            String::new(),
            Value::Null,
            404,
        ),
        ("GET", "/api/v1/rates", "", String::new(), Value::Null, 200),
        (
            "GET",
            "/api/v1/rules/{project}",
            "/api/v1/rules/P",
            String::new(),
            Value::Null,
            200,
        ),
        (
            "GET",
            "/api/v1/rules/{project}",
            "/api/v1/rules/Z",
            String::new(),
            Value::Null,
            404,
        ),
        (
            "GET",
            "/api/v1/rules/{project}/{version}",
            "/api/v1/rules/P/2.0.0",
            String::new(),
            Value::Null,
            404,
        ),
        (
            "PUT",
            "/api/v1/rules/{project}",
            "/api/v1/rules/P",
            project_etag,
            json!({"percent": 50}),
            200,
        ),
        (
            "PUT",
            "/api/v1/rules/{project}",
            "/api/v1/rules/P",
            String::new(),
            json!({}),
            428,
        ),
        (
            "PUT",
            "/api/v1/rules/{project}/{version}",
            "/api/v1/rules/P/2.0.0",
            "If-None-Match: *\r\n".into(),
            json!({"percent": 5}),
            201,
        ),
        (
            "PUT",
            "/api/v1/rules/{project}/{version}",
            "/api/v1/rules/P/2.0.0",
            "If-None-Match: *\r\n".into(),
            json!({}),
            412,
        ),
        (
            "PUT",
            "/api/v1/rules/{project}/{version}",
            "/api/v1/rules/P/2.0.0",
            "If-Match: *\r\n".into(),
            json!({"precent": 5}),
            422,
        ),
        (
            "PUT",
            "/api/v1/rules/{project}/{version}",
            // Rules may come before the release (case 52).
            "/api/v1/rules/P/9.9.9",
            "If-None-Match: *\r\n".into(),
            json!({}),
            201,
        ),
        (
            "PUT",
            "/api/v1/rules/{project}/{version}",
            "/api/v1/rules/P/nine",
            "If-None-Match: *\r\n".into(),
            json!({}),
            422,
        ),
        (
            "POST",
            "/api/v1/releases/{project}/{version}/pause",
            "/api/v1/releases/P/2.0.0/pause",
            String::new(),
            json!({"reason": "waiting"}),
            200,
        ),
        (
            "POST",
            "/api/v1/releases/{project}/{version}/pause",
            "/api/v1/releases/P/2.0.0/pause",
            String::new(),
            json!({"reason": 5}),
            422,
        ),
        (
            "POST",
            "/api/v1/releases/{project}/{version}/pause",
            "/api/v1/releases/P/2.0.0/pause",
            String::new(),
            json!([]),
            400,
        ),
        (
            "POST",
            "/api/v1/releases/{project}/{version}/resume",
            "/api/v1/releases/P/2.0.0/resume",
            String::new(),
            json!({}),
            200,
        ),
        (
            "POST",
            "/api/v1/releases/{project}/{version}/percent",
            "/api/v1/releases/P/2.0.0/percent",
            String::new(),
            json!({"percent": 7.5}),
            200,
        ),
        (
            "POST",
            "/api/v1/releases/{project}/{version}/percent",
            "/api/v1/releases/P/2.0.0/percent",
            String::new(),
            json!({"percent": 101}),
            422,
        ),
        (
            "POST",
            "/api/v1/releases/{project}/{version}/percent",
            "/api/v1/releases/Z/2.0.0/percent",
            String::new(),
            json!({"percent": 1}),
            404,
        ),
        (
            "POST",
            "/api/v1/explain",
            "",
            String::new(),
            json!({"imei": IMEI, "firmware_name": "P_Luat_V0035_8955", "version": "1.0.0"}),
            200,
        ),
        (
            "POST",
            "/api/v1/explain",
            "",
            String::new(),
            json!({"request": "862991443753386,Z_Luat_V0035_8955,1.0.0"}),
            200,
        ),
        ("POST", "/api/v1/explain", "", String::new(), json!({}), 422),
        (
            "POST",
            "/api/v1/recognise",
            "",
            String::new(),
            json!({"path": "P/2.0.1/u.bin", "size": 9000, "head": head}),
            200,
        ),
        (
            "POST",
            "/api/v1/recognise",
            "",
            String::new(),
            json!({"path": "u.txt", "size": 0, "head": ""}),
            200,
        ),
        (
            "POST",
            "/api/v1/recognise",
            "",
            String::new(),
            json!({"path": "u.bin"}),
            422,
        ),
        (
            "PUT",
            "/api/v1/firmware/{project}/{version}/{name}",
            "/api/v1/firmware/P/2.0.1/u.bin",
            String::new(),
            json!("no firmware, and a text"),
            422,
        ),
        (
            "PUT",
            "/api/v1/firmware/{name}",
            "/api/v1/firmware/u.bin",
            String::new(),
            json!("x"),
            422,
        ),
    ];
    let mut rows = Rows::default();
    for (method, path, target, headers, body, status) in rows_of {
        let target = match target {
            "" => path.to_owned(),
            query if query.starts_with('?') => format!("{path}{query}"),
            target => target.to_owned(),
        };
        let bytes = match &body {
            Value::Null => Vec::new(),
            body => body.to_string().into_bytes(),
        };
        let told = operator.send(method, &target, &headers, &bytes);
        let described = schema::of_reply(&root, method, path, told.status);
        let result = match told.status {
            found if found == status => schema::check(&root, described, &told.json(), "reply"),
            other => Err(format!("{other} instead of {status}: {}", told.text())),
        };
        rows.row(&format!("{method} {target} {body}"), result);
    }
    let told = operator.send("PUT", "/api/v1/firmware/P/3.0.0/u.bin", "", &noise(5, 2000));
    let path = "/api/v1/firmware/{project}/{version}/{name}";
    let described = schema::of_reply(&root, "PUT", path, 201);
    rows.row(
        "upload",
        schema::check(&root, described, &told.json(), "reply"),
    );
    rows.finish();
    let long = vec![b' '; 65 * 1024];
    assert_eq!(
        operator.send("POST", "/api/v1/explain", "", &long).status,
        413
    );
    let deep = "[".repeat(60_000);
    assert_eq!(
        operator
            .send("POST", "/api/v1/explain", "", deep.as_bytes())
            .status,
        400
    );
}

#[test]
fn pause_resume_and_percent_change_what_modules_get() {
    let (server, operator) = start();
    // Another module each time: one that took the file again and again would be held back.
    let mut modules = 862_991_443_753_300_u64..;
    let mut check = || luat("P", &modules.next().unwrap().to_string(), "1.5.0");
    server.wait_until_offered(&check(), &noise(1, 5000));
    let told = operator.post(
        "/api/v1/releases/P/2.0.0/pause",
        &json!({"reason": "waiting for Li"}),
    );
    let release = told.json();
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
    // A release that a whole paused project holds back is resumed all the same.
    server.rules("P/release.json", json!({"paused": true}));
    server.wait_until_refused(&check(), 404, 27);
    let release = operator
        .post("/api/v1/releases/P/2.0.0/resume", &json!({}))
        .json();
    assert_eq!(release["state"], "live", "{release}");
    server.wait_until_offered(&check(), &noise(1, 5000));
    // One that has no folder of its own gets one for its rules.
    let told = operator.post("/api/v1/releases/Q/1.0.0/pause", &json!({}));
    assert_eq!(
        (told.status, &told.json()["state"]),
        (200, &json!("paused"))
    );
    operator.wait_for("/api/v1/releases?project=Q", "it is paused", |list| {
        list["releases"][0]["state"] == "paused"
    });
}

#[test]
fn rules_are_written_only_over_what_was_read() {
    let (server, operator) = start();
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
    let (server, operator) = start();
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
        let told = operator.send("PUT", target, "If-None-Match: *\r\n", rules.as_bytes());
        assert_eq!(told.status, 422, "{rules}");
        let named = format!("the key `{key}` is there twice");
        assert!(told.text().contains(&named), "{rules}: {}", told.text());
        assert_eq!(operator.get(target).status, 404);
        // What a person wrote into the folder holds the release back, and is not changed by a key.
        server.drop_firmware("P/2.0.0/release.json", rules.as_bytes());
        operator.wait_for("/api/v1/quarantine", "it is named", |list| {
            list["quarantined"].to_string().contains(&named)
                || list["warnings"].to_string().contains(&named)
        });
        server.wait_until_refused(&luat("P", IMEI, "1.9.0"), 404, 27);
        let told = operator.post("/api/v1/releases/P/2.0.0/percent", &json!({"percent": 7}));
        assert_eq!(told.status, 422, "{}", told.text());
        std::fs::remove_file(server.place().firmware().join("P/2.0.0/release.json")).unwrap();
        server.wait_until_offered(&luat("P", IMEI, "1.9.0"), &noise(1, 5000));
    }
    let line = operator.request(
        "POST /api/v1/explain",
        true,
        "",
        b"{\"imei\":\"1\",\"imei\":\"2\"}",
    );
    let told = operator.ask(&line);
    assert_eq!(told.status, 400);
    assert!(
        told.text().contains("`imei` is there twice"),
        "{}",
        told.text()
    );
}

#[test]
fn what_is_not_served_comes_in_pages() {
    let place = Place::new();
    for n in 0..12 {
        place.drop_firmware(&format!("wrong-{n:02}.bin"), &noise(n, 1000));
        place.drop_firmware(&format!("P/readme-{n:02}.txt"), b"text");
    }
    place.drop_firmware("P/1.0.0/u.bin", &noise(99, 1000));
    let server = Server::start_in(place, &[]);
    let operator = Operator::of(&server);
    operator.wait_for("/api/v1/summary", "all is read", |summary| {
        summary["releases"] == 1 && summary["waiting"] == 0
    });
    let (mut paths, mut after, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = operator
            .get(&format!("/api/v1/quarantine?limit=5{after}"))
            .json();
        assert_eq!(
            page["counts"],
            json!({"quarantined": 12, "warnings": 0, "ignored": 12, "waiting": 0})
        );
        let lists = ["quarantined", "ignored"].map(|list| page[list].as_array().unwrap());
        assert!(lists[0].len() + lists[1].len() <= 5);
        let entries = lists.into_iter().flatten();
        paths.extend(entries.map(|entry| entry["path"].as_str().unwrap().to_owned()));
        pages += 1;
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!((paths.len(), pages), (24, 5));
    assert!(paths.is_sorted_by_key(|path| !path.starts_with("wrong")));
    let told = operator.get("/api/v1/quarantine?after=nonsense");
    assert_eq!(told.status, 400);
    assert_eq!(operator.get("/api/v1/quarantine?limit=501").status, 400);
}

#[test]
fn releases_come_in_pages() {
    let place = Place::new();
    for version in 0..7 {
        place.drop_firmware(&format!("P/1.{version}.0/u.bin"), &noise(version, 1000));
    }
    place.drop_firmware("水表/1.0.0/u.bin", &noise(9, 1000));
    let server = Server::start_in(place, &[]);
    let operator = Operator::of(&server);
    operator.wait_for("/api/v1/summary", "all is read", |summary| {
        summary["releases"] == 8
    });
    let mut seen = Vec::new();
    let mut after = String::new();
    loop {
        let page = operator
            .get(&format!("/api/v1/releases?limit=3{after}"))
            .json();
        for release in page["releases"].as_array().unwrap() {
            seen.push(format!("{} {}", release["project"], release["version"]));
        }
        let Some(next) = page["next"].as_str() else {
            break;
        };
        let encoded: String = next.bytes().map(|byte| format!("%{byte:02X}")).collect();
        after = format!("&after={}", encoded.replace("%2E", "."));
    }
    assert_eq!(seen.len(), 8, "{seen:?}");
    assert!(
        seen[0].contains("1.6.0") && seen[7].contains("水表"),
        "{seen:?}"
    );
}

#[test]
fn explain_says_what_a_module_is_told_and_recognise_what_a_file_would_be() {
    let (server, operator) = start();
    let target = luat("P", IMEI, "1.0.0");
    let explained = operator
        .post(
            "/api/v1/explain",
            &json!({"request": format!("GET {target} HTTP/1.1")}),
        )
        .json();
    assert_eq!(
        (&explained["verdict"], &explained["package"]),
        (&json!("offer"), &json!("P/2.0.0/u.bin"))
    );
    assert_eq!(explained["http"]["status"], server.get(&target).status);
    assert!(explained["udp"].as_str().unwrap().starts_with("LUAUPDATE,"));
    let target = luat("Z", IMEI, "1.0.0");
    let explained = operator
        .post("/api/v1/explain", &json!({"request": target}))
        .json();
    let reply = server.get(&target);
    assert_eq!(explained["http"]["status"], reply.status);
    assert_eq!(
        explained["http"]["code"].as_u64(),
        reply.code().map(u64::from)
    );
    assert!(!explained["notes"].as_array().unwrap().is_empty());

    let recognise = |path: &str, size: u64, head: &str| {
        let body = json!({"path": path, "size": size, "head": head});
        operator.post("/api/v1/recognise", &body).json()
    };
    let good = recognise("P/2.0.1/u.bin", 9000, "/wABAgMEBQY=");
    assert_eq!(
        (&good["project"], &good["version"], &good["problem"]),
        (&json!("P"), &json!("2.0.1"), &Value::Null)
    );
    assert_eq!(
        (&good["kind"], &good["newest"]),
        (&json!("generic"), &json!("2.0.0"))
    );
    let named = recognise("Q_1.0.1_Luat_8955.bin", 9000, "/wABAgMEBQY=");
    assert_eq!(named["platform"], "8955");
    for (path, head, part) in [
        ("P/2.0.1/u.soc", "/wAB", "factory"),
        ("P/2.0.1/u.bin", "UEsDBA==", "archive"),
        ("P/2.0.0/u.bin", "/wAB", "there with other bytes"),
        ("u.bin", "/wAB", "Luatools"),
    ] {
        let bad = recognise(path, 9000, head);
        let problem = bad["problem"].as_str().unwrap_or_default();
        assert!(problem.contains(part), "{path}: {bad}");
    }
    let older = recognise("P/1.0.0/u.bin", 9000, "/wAB");
    assert!(older["warnings"].as_array().unwrap().len() == 1, "{older}");
}

#[test]
fn who_looks_on_sees_checks_and_downloads_as_they_happen() {
    let (server, operator) = start();
    let mut stream = operator.connect();
    let request = operator.request("GET /api/v1/events", true, "", b"");
    stream.write_all(&request).unwrap();
    let mut lines = BufReader::new(stream).lines();
    // It stands as soon as the first comment has come; what happens then is told.
    while !lines.next().unwrap().unwrap().starts_with(": hello") {}
    let mut next = |name: &str, fits: &dyn Fn(&Value) -> bool| -> Value {
        let start = Instant::now();
        let mut event = String::new();
        loop {
            assert!(start.elapsed() < PATIENCE, "no {name}");
            let line = lines.next().unwrap().unwrap();
            if let Some(found) = line.strip_prefix("event: ") {
                event = found.to_owned();
            }
            if let Some(data) = line.strip_prefix("data: ")
                && event == name
            {
                let data: Value = serde_json::from_str(data).unwrap();
                if fits(&data) {
                    return data;
                }
            }
        }
    };
    server.get(&luat("P", IMEI, "1.0.0"));
    let check = next("check", &|_| true);
    assert_eq!(
        (&check["device"], &check["verdict"], &check["to"]),
        (&json!(IMEI), &json!("offer"), &json!("2.0.0"))
    );
    let download = next("download", &|download| !download["result"].is_null());
    assert_eq!(
        (&download["result"], &download["bytes"], &download["size"]),
        (&json!("complete"), &json!(5000), &json!(5000))
    );
    server.get(&luat("Z", IMEI, "1.0.0"));
    let refused = next("check", &|check| check["verdict"] == "refuse");
    assert_eq!(refused["project"], "Z");
    operator.send("PUT", "/api/v1/firmware/P/4.0.0/u.bin", "", &noise(7, 1000));
    next("catalog", &|_| true);
}

#[test]
fn only_so_many_look_on_at_a_time_and_a_stop_ends_them() {
    let server = Server::start(&[]);
    let operator = Operator::of(&server);
    let request = operator.request("GET /api/v1/events", true, "", b"");
    let mut readers: Vec<_> = (0..16)
        .map(|_| {
            let mut stream = operator.connect();
            stream.write_all(&request).unwrap();
            let mut reader = BufReader::new(stream);
            let mut line = String::new();
            while !line.starts_with(": hello") {
                line.clear();
                assert!(reader.read_line(&mut line).unwrap() > 0);
            }
            reader
        })
        .collect();
    assert_eq!(operator.ask(&request).status, 503);
    readers.truncate(15);
    common::wait_until("one has room again", PATIENCE, || {
        let mut stream = operator.connect();
        stream.write_all(&request).unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        line.starts_with("HTTP/1.1 200")
    });
    let _place = server.terminate();
    for mut reader in readers {
        let mut line = String::new();
        while reader.read_line(&mut line).is_ok_and(|read| read > 0) {}
        assert!(line.ends_with("0\r\n\r\n"), "{line:?}");
    }
}
