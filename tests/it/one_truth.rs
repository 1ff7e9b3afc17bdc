//! Promise: the page, the API and the command line reply with the decision that modules get, for the check that
//! the device really sends.
#![cfg(feature = "operator")]

use crate::common;

use common::operator::Operator;
use common::packages::{EC618, noise, script_package};
use common::{IMEI, PATIENCE, Place, Server, both, luat, luatos, run, wait_until};
use serde_json::{Value, json};

fn imei(n: u64) -> String {
    (862_991_443_700_000 + n * 7919).to_string()
}

/// The API's record of a device.
fn device(operator: &Operator, id: &str) -> Value {
    operator.get(&format!("/api/v1/devices/{id}")).json()
}

/// The API's explanation of the check that a device really sends.
fn why(operator: &Operator, id: &str) -> Value {
    let request = device(operator, id)["request"].clone();
    operator
        .post("/api/v1/explain", &json!({ "request": request }))
        .json()
}

/// The API's description of a file at this path, without its own rules.
fn recognise(operator: &Operator, path: &str, bytes: &[u8]) -> Value {
    let head = base64(&bytes[..bytes.len().min(4096)]);
    let body = json!({ "path": path, "size": bytes.len(), "head": head });
    operator.post("/api/v1/recognise", &body).json()
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let byte = |at: usize| u32::from(three.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let value = bits >> (18 - 6 * digit) & 63;
            match digit <= three.len() {
                true => text.push(char::from(DIGITS[value as usize])),
                false => text.push('='),
            }
        }
    }
    text
}

// Case 41.
#[test]
fn a_file_before_its_upload_is_for_as_many_devices_as_explain_states_afterwards() {
    let place = Place::new();
    place.drop_firmware("P/1.0.3/u.bin", &noise(1, 5000));
    let server = Server::start_in(place, &[]);
    let operator = Operator::of(&server);
    server.wait_until_offered(&luat("P", &imei(99), "1.0.0"), &noise(1, 5000));
    // Checks of 20 devices: CORE.A.C versions (7 of them already have the newest release, 3 are above the new
    // file), plain versions, and checks of libfota, which have no marker.
    let mut ids = vec![imei(99)];
    for (n, target) in (0..7)
        .map(|n| luatos("P", "Air780E", &imei(n), "2012.1.2"))
        .chain((7..10).map(|n| luatos("P", "Air780E", &imei(n), "2012.2.0")))
        .chain((10..14).map(|n| luat("P", &imei(n), "1.0.3")))
        .chain((14..17).map(|n| format!("/luat/update/P?imei={}&version=1.0.3", imei(n))))
        .chain((17..19).map(|n| luat("P", &imei(n), "1.1.0")))
        .enumerate()
    {
        server.get(&target);
        ids.push(imei(n as u64));
    }
    let bytes = noise(2, 6000);
    for (rules, expected) in [
        (json!({}), 15),
        (json!({ "deny": [imei(0), imei(10)] }), 13),
        (json!({ "paused": true }), 0),
        (json!({ "firmware_name": ["P_LuatOS-SoC_Air780E"] }), 7),
        (json!({ "percent": 50 }), usize::MAX),
    ] {
        server.rules("P/1.0.9/release.json", rules.clone());
        let looked = recognise(&operator, "P/1.0.9/new.bin", &bytes);
        // The number is the same if these rules are uploaded with the file.
        let head = base64(&bytes[..4096]);
        let with = json!({ "path": "P/1.0.8/new.bin", "size": 6000, "head": head, "rules": rules });
        let with = operator.post("/api/v1/recognise", &with).json();
        if rules.get("percent").is_none() {
            assert_eq!(with["bill"], looked["bill"], "{rules}: {with}");
        }
        let bill = &looked["bill"];
        assert_eq!(looked["problem"], Value::Null, "{looked}");
        assert_eq!(bill["of"], 20, "{rules}: {looked}");
        let others = bill["others"].as_array().unwrap();
        let others: u64 = others.iter().map(|o| o["devices"].as_u64().unwrap()).sum();
        let takes = bill["devices"].as_u64().unwrap();
        assert_eq!(takes + others, 20, "{rules}: {looked}");
        if expected != usize::MAX {
            assert_eq!(takes, expected as u64, "{rules}: {looked}");
        }
        server.drop_firmware("P/1.0.9/new.bin", &bytes);
        let seen = format!("/api/v1/releases?project=P&{takes}");
        operator.wait_for(&seen, "1.0.9 is there with its rules", |list| {
            list["releases"][0]["version"] == "1.0.9" && list["releases"][0]["rules"] == rules
        });
        let explained = || {
            let gets = |id: &&String| {
                let answer = why(&operator, id);
                answer["verdict"] == "offer" && answer["release"] == "1.0.9"
            };
            ids.iter().filter(gets).count() as u64
        };
        wait_until(
            &format!("explain says {takes} with {rules}"),
            PATIENCE,
            || explained() == takes,
        );
        std::fs::remove_file(server.place().path("P/1.0.9/new.bin")).unwrap();
        operator.wait_for("/api/v1/releases?project=P", "1.0.9 is gone", |list| {
            list["releases"][0]["version"] == "1.0.3"
        });
    }
}

// Case 42.
#[test]
fn the_explanation_of_a_device_uses_its_own_check_also_after_a_restart() {
    let place = Place::new();
    let good = script_package(EC618, 3);
    place.drop_firmware("GOOD_2012.001.004_LuatOS-SoC_Air780E.bin", &good);
    place.drop_firmware("PLAIN/1.0.1/u.bin", &noise(4, 5000));
    place.rules("PLAIN/release.json", json!({ "project_key": "k 1&" }));
    // Each device checks more than once, and must be offered the file every time.
    let flags = ["--attempts", "50"];
    let mut server = Server::start_in(place, &flags);
    let asks = [
        (
            imei(1),
            luatos("GOOD", "Air780E", &imei(1), "2012.1.3"),
            "offer",
        ),
        // The platform of another file, and another core.
        (
            imei(2),
            luatos("GOOD", "Air780EPM", &imei(2), "2012.1.3"),
            "refuse",
        ),
        (
            imei(3),
            luatos("GOOD", "Air780E", &imei(3), "2014.1.3"),
            "refuse",
        ),
        // A check of libfota without a marker states neither core nor platform.
        (
            imei(4),
            format!("/luat/update/GOOD?imei={}&version=1.0.0", imei(4)),
            "refuse",
        ),
        (
            imei(5),
            format!(
                "/luat/update/PLAIN?project_key=k%201%26&imei={}&version=1.0.0",
                imei(5)
            ),
            "offer",
        ),
        (imei(6), luat("PLAIN", &imei(6), "1.0.0"), "refuse"),
    ];
    for round in 0..2 {
        // Wait until both projects have been read.
        for (project, file) in [("GOOD", &good), ("PLAIN", &noise(4, 5000))] {
            let key = "&project_key=k%201%26";
            let target =
                luatos(project, "Air780E", &imei(9), "2012.1.0").replace("&project_key=k", key);
            server.wait_until_offered(&target, file);
        }
        let operator = Operator::of(&server);
        for (id, target, verdict) in &asks {
            let reply = server.get(target);
            let answer = why(&operator, id);
            assert_eq!(answer["verdict"], *verdict, "{target}: {answer}");
            assert_eq!(answer["http"]["status"], reply.status, "{target}: {answer}");
        }
        let shown = device(&operator, &imei(1));
        assert_eq!(
            (&shown["platform"], &shown["core"]),
            (&json!("Air780E"), &json!(2012))
        );
        assert_eq!(shown["network"], "127.0.0.0/24");
        assert_eq!(shown["request_known"], true);
        assert_eq!(device(&operator, &imei(4))["platform"], Value::Null);
        if round == 0 {
            server = Server::start_in(server.terminate(), &flags);
        }
    }
}

// Case 44.
#[test]
fn a_release_states_how_many_devices_confirmed_it_when_a_newer_one_is_offered() {
    let place = Place::new();
    place.drop_firmware("P/1.0.2/u.bin", &noise(5, 3000));
    let mut server = Server::start_in(place, &[]);
    server.wait_until_offered(&luat("P", &imei(0), "1.0.1"), &noise(5, 3000));
    for n in 0..12 {
        server.get(&luat("P", &imei(n), "1.0.1"));
        server.get(&luat("P", &imei(n), "1.0.2"));
    }
    let confirmed = |server: &Server| {
        let list = Operator::of(server)
            .get("/api/v1/releases?project=P")
            .json();
        let releases = list["releases"].as_array().unwrap().clone();
        releases
            .iter()
            .map(|release| {
                (
                    release["version"].clone(),
                    release["counts"]["confirmed"].clone(),
                )
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(confirmed(&server), [(json!("1.0.2"), json!(12))]);
    server.drop_firmware("P/1.0.3/u.bin", &noise(6, 3000));
    server.wait_until_offered(&luat("P", &imei(0), "1.0.2"), &noise(6, 3000));
    for n in 0..12 {
        server.get(&luat("P", &imei(n), "1.0.2"));
    }
    let both = |newer: u32| [(json!("1.0.3"), json!(newer)), (json!("1.0.2"), json!(12))];
    assert_eq!(confirmed(&server), both(0));
    for n in 0..5 {
        server.get(&luat("P", &imei(n), "1.0.3"));
    }
    assert_eq!(confirmed(&server), both(5));
    server = Server::start_in(server.terminate(), &[]);
    wait_until("the files are read again", PATIENCE, || {
        confirmed(&server).len() == 2
    });
    assert_eq!(confirmed(&server), both(5));
}

// Case 57.
#[test]
fn explain_on_the_command_line_states_a_hold_as_the_page_does() {
    let place = Place::new();
    place.drop_firmware("P/2.0.0/u.bin", &noise(7, 3000));
    let server = Server::start_in(place, &["--attempts", "2"]);
    let operator = Operator::of(&server);
    let target = luat("P", IMEI, "1.0.0");
    server.wait_until_offered(&target, &noise(7, 3000));
    wait_until("it is held back", PATIENCE, || {
        server.get(&target).status == 403
    });
    let (folder, state) = (server.place().firmware(), server.place().state());
    let (folder, state) = (folder.to_str().unwrap(), state.to_str().unwrap());
    let described = [
        "explain",
        "--state",
        state,
        folder,
        "--imei",
        IMEI,
        "--firmware-name",
        "P",
        "--version",
        "1.0.0",
    ];
    let asked = ["explain", "--state", state, folder, target.as_str()];
    for arguments in [&asked[..], &described[..]] {
        let mut said = String::new();
        wait_until("the journal has it", PATIENCE, || {
            let output = run(arguments);
            said = both(&output);
            output.status.code() == Some(3) && said.contains("held")
        });
        let answer = why(&operator, IMEI);
        let reason = answer["reason"].as_str().unwrap();
        assert!(reason.starts_with("2.0.0: held: "), "{answer}");
        assert!(said.contains(&format!("refused: {reason}\n")), "{said}");
        assert!(said.contains("HTTP     403, code 40"), "{said}");
        assert!(said.contains("  held     until "), "{said}");
        let unknown = "every device with a whole download counts in the fuse";
        assert!(said.contains(unknown), "{said}");
    }
    // The command only reads: the server continues, and the command shows a lifted hold, too.
    let lifted = operator.send("DELETE", &format!("/api/v1/devices/{IMEI}/hold"), "", b"");
    assert_eq!(lifted.status, 200, "{}", lifted.text());
    wait_until("the lift is seen", PATIENCE, || {
        run(&asked).status.code() == Some(0)
    });
    assert_eq!(server.get(&target).status, 200);
    // Without a state folder the command states what is unknown.
    let said = both(&run(&[
        "explain",
        "--state",
        "/nowhere/at/all",
        folder,
        &target,
    ]));
    assert!(said.contains("no state folder"), "{said}");
}

// Case 56.
#[test]
fn devices_above_every_remaining_release_are_in_the_log_and_the_summary() {
    let place = Place::new();
    place.drop_firmware("P/1.0.2/u.bin", &noise(1, 5000));
    place.drop_firmware("P/1.0.3/u.bin", &noise(2, 5000));
    let server = Server::start_in(place, &[]);
    let operator = Operator::of(&server);
    server.wait_until_offered(&luat("P", &imei(1), "1.0.2"), &noise(2, 5000));
    for n in 1..=3 {
        server.get(&luat("P", &imei(n), "1.0.3"));
    }
    server.get(&luat("P", &imei(4), "1.0.2"));
    let above = |operator: &Operator| operator.get("/api/v1/summary").json()["above"].clone();
    assert_eq!(above(&operator), json!([]));
    std::fs::remove_dir_all(server.place().firmware().join("P/1.0.3")).unwrap();
    let line = server.wait_for_log("devices above all that is left", |line| {
        line.contains("above every remaining release")
    });
    assert!(line.contains("\"devices\":3"), "{line}");
    let wanted = json!([{ "project": "P", "version": "1.0.3", "devices": 3 }]);
    assert_eq!(above(&operator), wanted);
    // A higher release removes the warning.
    server
        .place()
        .drop_firmware("P/1.0.4/u.bin", &noise(3, 5000));
    operator.wait_for("/api/v1/summary", "nothing is above", |summary| {
        summary["above"] == json!([])
    });
}
