//! Promise: the replies of the API match its description.
#![cfg(feature = "operator")]

use crate::common;

use common::operator::Operator;
use common::packages::noise;
use common::{IMEI, Place, Rows, Server, luat, schema};
use serde_json::{Value, json};

#[test]
fn every_reply_is_what_the_description_says() {
    let (server, operator) = Operator::with_releases();
    server.get(&luat("P", IMEI, "1.0.0"));
    let root = operator.get("/api/v1/openapi.json").json();
    assert_eq!(root["openapi"], "3.1.0");
    let etag = |target: &str| {
        let reply = operator.get(target);
        reply.header("etag").map(str::to_owned).unwrap_or_default()
    };
    let project_etag = format!("If-Match: {}\r\n", etag("/api/v1/rules/P"));
    let head = "AAAAAAAA";
    // Method, path in the description, target, headers, body, status.
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
            "/api/v1/changes",
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
            // Rules may be written before the release exists (case 52).
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
        let reply = operator.send(method, &target, &headers, &bytes);
        let described = schema::of_reply(&root, method, path, reply.status);
        let result = match reply.status {
            found if found == status => schema::check(&root, described, &reply.json(), "reply"),
            other => Err(format!("{other} instead of {status}: {}", reply.text())),
        };
        rows.row(&format!("{method} {target} {body}"), result);
    }
    let reply = operator.send("PUT", "/api/v1/firmware/P/3.0.0/u.bin", "", &noise(5, 2000));
    let path = "/api/v1/firmware/{project}/{version}/{name}";
    let described = schema::of_reply(&root, "PUT", path, 201);
    rows.row(
        "upload",
        schema::check(&root, described, &reply.json(), "reply"),
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
fn the_quarantine_comes_in_pages() {
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
    let reply = operator.get("/api/v1/quarantine?after=nonsense");
    assert_eq!(reply.status, 400);
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
fn explain_states_the_reply_to_a_module_and_recognise_the_release_of_a_file() {
    let (server, operator) = Operator::with_releases();
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
        ("P/2.0.0/u.bin", "/wAB", "exists with other content"),
        ("u.bin", "/wAB", "Luatools"),
    ] {
        let bad = recognise(path, 9000, head);
        let problem = bad["problem"].as_str().unwrap_or_default();
        assert!(problem.contains(part), "{path}: {bad}");
    }
    let older = recognise("P/1.0.0/u.bin", 9000, "/wAB");
    assert!(older["warnings"].as_array().unwrap().len() == 1, "{older}");
}
