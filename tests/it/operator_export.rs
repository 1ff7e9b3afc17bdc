//! Promise: an export has every row of its list, equal to those of the API and the command line, in both formats; a
//! spreadsheet executes none of its cells; and during the transfer devices are served and memory stays bounded.
#![cfg(feature = "operator")]

use crate::common;

use std::time::{Duration, Instant};

pub use common::csv::rows;
use common::operator::Operator;
use common::packages::noise;
use common::{Place, Rows, Server, both, luat, remember_fleet, run};
use serde_json::{Value, json};

fn imei_of(number: u64) -> String {
    (862_991_443_700_000 + number).to_string()
}

/// A server with 300 devices of two projects, some of which send texts that are not versions.
fn a_fleet() -> (Server, Operator) {
    let (server, operator) = Operator::with_releases();
    for n in 0..297 {
        let project = if n % 3 == 0 { "Q" } else { "P" };
        server.get(&luat(project, &imei_of(n), "1.0.0"));
    }
    for (n, version) in ["%3D1%2B1", "a%22,b", "%40SUM(A1)"].into_iter().enumerate() {
        server.get(&luat("P", &imei_of(1000 + n as u64), version));
    }
    (server, operator)
}

/// A device without its times, which are rounded to seconds each time, and without the fields that only its own page
/// shows.
fn without_times(mut device: Value) -> Value {
    for name in ["first_seen", "last_seen"] {
        device[name] = Value::Null;
    }
    if device["journey"].is_object() {
        device["journey"]["since"] = Value::Null;
    }
    let fields = device.as_object_mut().unwrap();
    for name in ["steps", "steps_since", "last_refusal", "now"] {
        fields.remove(name);
    }
    device
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[test]
fn an_export_has_every_device_in_both_formats() {
    let (server, operator) = a_fleet();
    let reply = operator.get("/api/v1/devices?format=json");
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert_eq!(
        reply.header("content-disposition"),
        Some("attachment; filename=\"devices.json\"")
    );
    let json = reply.json();
    assert_eq!((&json["total"], &json["next"]), (&json!(300), &Value::Null));
    let devices = json["devices"].as_array().unwrap();
    assert_eq!(devices.len(), 300);
    let reply = operator.get("/api/v1/devices?format=csv");
    assert_eq!(
        reply.header("content-type"),
        Some("text/csv; charset=utf-8; header=present")
    );
    let csv = rows(&reply.text());
    let mut compared = Rows::default();
    for (device, row) in devices.iter().zip(&csv) {
        let one = operator.get(&format!(
            "/api/v1/devices/{}",
            device["id"].as_str().unwrap()
        ));
        let mut cells = vec![("state", text(&device["journey"]["state"]))];
        for name in ["id", "project", "firmware_name", "core", "probation"] {
            cells.push((name, text(&device[name])));
        }
        let is_same = without_times(one.json()) == without_times(device.clone())
            && cells.iter().all(|(name, cell)| row[*name] == *cell);
        let id = text(&device["id"]);
        compared.row(
            &id,
            is_same
                .then_some(())
                .ok_or(format!("{row:?} is not {device}")),
        );
    }
    compared.finish();
    let versions: Vec<&str> = csv[297..]
        .iter()
        .map(|row| row["version"].as_str())
        .collect();
    assert_eq!(versions, ["'=1+1", "a\",b", "'@SUM(A1)"]);
    assert_eq!(devices[297]["version"], "=1+1");
    // The header selects CSV, and the filter selects the rows.
    let accept = "Accept: text/csv\r\n";
    let reply = operator.send("GET", "/api/v1/devices?project=Q", accept, b"");
    assert_eq!(rows(&reply.text()).len(), 99);
    let page = operator.send("GET", "/api/v1/devices", "Accept: */*\r\n", b"");
    assert_eq!(page.json()["devices"].as_array().unwrap().len(), 100);
    for query in ["format=xml", "format=csv&limit=5", "format=json&after=7"] {
        let reply = operator.get(&format!("/api/v1/devices?{query}"));
        assert_eq!(reply.status, 400, "{query}: {}", reply.text());
    }
    let head = operator.send("HEAD", "/api/v1/devices?format=csv", "", b"");
    assert_eq!((head.status, head.body.len()), (200, 0));
    drop(server);
}

#[test]
fn an_export_of_releases_agrees_with_the_list() {
    let (_server, operator) = a_fleet();
    let listed = operator.get("/api/v1/releases").json();
    let exported = operator.get("/api/v1/releases?format=json").json();
    assert_eq!(exported, listed);
    let csv = rows(&operator.get("/api/v1/releases?format=csv").text());
    assert_eq!(csv.len(), 3);
    for (row, release) in csv.iter().zip(listed["releases"].as_array().unwrap()) {
        for (name, value) in [
            ("version", &release["version"]),
            ("offered", &release["counts"]["offered"]),
            ("files", &release["packages"][0]["path"]),
            ("devices", &release["devices"]),
        ] {
            assert_eq!(row[name], text(value), "{name}");
        }
        let whom = release["for"].as_array().unwrap();
        assert_eq!(
            row["for"],
            whom.iter().map(text).collect::<Vec<_>>().join("; ")
        );
    }
    let of_one = operator.get("/api/v1/releases?format=csv&project=Q");
    assert_eq!(rows(&of_one.text()).len(), 1);
}

#[test]
fn the_command_line_prints_the_rows_of_the_api() {
    let place = Place::new();
    place.drop_firmware("P/2.0.0/u.bin", &noise(1, 5000));
    place.drop_firmware("P/2.0.1/page.bin", b"<!DOCTYPE html><html>404</html>");
    remember_fleet(&place, 40);
    let server = Server::start_in(place, &[]);
    let operator = Operator::of(&server);
    operator.wait_for("/api/v1/summary", "all is read", |summary| {
        summary["releases"] == 1 && summary["quarantined"] == 1
    });
    let reply = operator
        .get("/api/v1/devices?format=csv&imei=8629914")
        .text();
    let folder = server.place().firmware().display().to_string();
    let state = server.place().state().display().to_string();
    let said = |arguments: &[&str]| String::from_utf8(run(arguments).stdout).unwrap();
    let printed = said(&[
        "devices", &folder, "--state", &state, "--imei", "8629914", "--csv",
    ]);
    let timeless_rows = |csv: &str| {
        let mut rows = rows(csv);
        for row in &mut rows {
            row.retain(|name, _| !name.ends_with("_seen"));
        }
        rows
    };
    assert_eq!(rows(&reply).len(), 40);
    assert_eq!(timeless_rows(&printed), timeless_rows(&reply));
    let printed = said(&["devices", &folder, "--state", &state, "--json"]);
    let printed: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(printed["devices"].as_array().unwrap().len(), 40);
    let id = printed["devices"][7]["id"].as_str().unwrap();
    let shown = operator.get(&format!("/api/v1/devices/{id}")).json();
    assert_eq!(
        without_times(printed["devices"][7].clone()),
        without_times(shown)
    );
    // The same explanation and the same exit status as without the flag.
    let request = luat("P", id, "1.0.0");
    let output = run(&["explain", &folder, &request, "--state", &state, "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", both(&output));
    let explained: Value = serde_json::from_slice(&output.stdout).unwrap();
    let of_api = operator.post("/api/v1/explain", &json!({ "request": request }));
    assert_eq!(explained, of_api.json());
    let csv = rows(&said(&[
        "explain", &folder, &request, "--state", &state, "--csv",
    ]));
    assert_eq!(
        (csv[0]["release"].as_str(), csv[0]["http_status"].as_str()),
        ("2.0.0", "200")
    );
    let refused = luat("P", id, "2.0.0");
    let output = run(&["explain", &folder, &refused, "--state", &state, "--csv"]);
    assert_eq!(output.status.code(), Some(3));
    // One row for each file, and for each remark.
    let output = run(&["check", &folder, "--csv"]);
    assert_eq!(output.status.code(), Some(1), "one is quarantined");
    let csv = rows(&String::from_utf8(output.stdout).unwrap());
    let statuses: Vec<(&str, &str)> = csv
        .iter()
        .map(|row| (row["status"].as_str(), row["path"].as_str()))
        .collect();
    let expected = [
        ("served", "P/2.0.0/u.bin"),
        ("quarantined", "P/2.0.1/page.bin"),
    ];
    assert_eq!(statuses, expected);
    assert!(csv[1]["text"].contains("web page"), "{csv:?}");
    let files: Value = serde_json::from_str(&said(&["check", &folder, "--json"])).unwrap();
    assert_eq!(files["files"][0]["size"], 5000);
}

#[test]
fn while_a_large_fleet_is_exported_devices_are_served_and_memory_stays_bounded() {
    // A debug build is many times slower.
    let fleet = if cfg!(debug_assertions) {
        5_000
    } else {
        200_000
    };
    let place = Place::new();
    place.drop_firmware("P/2.0.0/u.bin", &noise(1, 5000));
    remember_fleet(&place, fleet);
    let server = Server::start_in(place, &["--max-devices", "400000"]);
    let operator = Operator::of(&server);
    let check = luat("P", common::IMEI, "2.0.0");
    // The reply is 503 until the release is known.
    server
        .wait_for_reply(&common::get(&check), common::PATIENCE, |reply| {
            reply.status == 404
        })
        .unwrap();
    let before = server.resident();
    for format in ["csv", "json"] {
        let begun = Instant::now();
        let target = format!("GET /api/v1/devices?format={format}");
        let (export, slowest, most, checks) = std::thread::scope(|scope| {
            let export = scope.spawn(|| operator.ask(&operator.request(&target, true, "", b"")));
            let (mut slowest, mut most, mut checks) = (Duration::ZERO, 0, 0);
            while !export.is_finished() {
                let start = Instant::now();
                assert_eq!(server.get(&check).status, 404);
                slowest = slowest.max(start.elapsed());
                checks += 1;
                most = most.max(server.resident());
            }
            (export.join().unwrap(), slowest, most, checks)
        });
        let took = begun.elapsed();
        let count = match format {
            "csv" => export.text().lines().count() as u64 - 1,
            _ => export.json()["devices"].as_array().unwrap().len() as u64,
        };
        // The device that sends the checks is recorded, too.
        assert_eq!(count, fleet + 1);
        let grown = most.saturating_sub(before);
        println!(
            "{format}: {count} devices, {} bytes in {took:?}; {checks} checks meanwhile, the slowest took {slowest:?}; {grown} KiB more",
            export.body.len()
        );
        assert!(grown < 16 * 1024, "{grown} KiB more");
        // The time of a single check depends more on other work of the machine.
        assert!(checks > 20, "only {checks} checks were answered meanwhile");
    }
}
