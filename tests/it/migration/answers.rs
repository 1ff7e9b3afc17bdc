//! Tests of the guide's statements about paths, comparison and probing.

use super::common::packages::noise;
use super::common::{IMEI, Place, Rows, Server};
use super::old_http::{Answer, OldServer};
use super::*;

#[test]
fn the_paths_of_modules_in_the_field_are_answered_as_the_guide_says() {
    let place = Place::new();
    let bytes = noise(41, 3000);
    place.rules(
        "MYPROJECT/1.0.1/release.json",
        serde_json::json!({ "direct": true }),
    );
    place.drop_firmware("MYPROJECT/1.0.1/update.bin", &bytes);
    place.rules(
        "KEYED/release.json",
        serde_json::json!({ "project_key": "secret" }),
    );
    place.drop_firmware("KEYED/1.0.1/update.bin", &bytes);
    let server = Server::start_in(place, &[]);
    let name = format!("imei={IMEI}&firmware_name=MYPROJECT_Luat_V0017_ASR1802&version=1.0.0");
    server.wait_until_offered(&format!("/luat/update?{name}"), &bytes);
    let mut rows = Rows::default();
    for (target, status) in [
        (format!("/api/site/firmware_upgrade?{name}"), 200),
        (
            format!("/luat/update/MYPROJECT?imei={IMEI}&version=1.0.0"),
            200,
        ),
        (format!("/update.php?{name}"), 200),
        (format!("/ota/check?{name}"), 200),
        (
            format!("/ota/check?imei={IMEI}&project_key=secret&version=1.0.0"),
            200,
        ),
        (format!("/ota/check?imei={IMEI}&version=1.0.0"), 404),
        ("/firmware/MYPROJECT/1.0.1/update.bin".to_owned(), 200),
        ("/firmware/KEYED/1.0.1/update.bin".to_owned(), 404),
        ("/health".to_owned(), 404),
        ("/healthz".to_owned(), 200),
    ] {
        let got = server.get(&target).status;
        rows.row(
            &target,
            (got == status).then_some(()).ok_or(format!("{got}")),
        );
    }
    rows.finish();
}

/// An old server that offers `P` 1.0.1 with these bytes.
fn old(bytes: &[u8]) -> OldServer {
    let bytes = bytes.to_vec();
    OldServer::start(Box::new(move |check| match check.version.as_str() {
        "1.0.1" => Answer(404, "", Vec::new()),
        _ => Answer(200, "", bytes.clone()),
    }))
}

#[test]
fn the_comparison_of_the_guide_prints_only_what_differs() {
    if !has("curl") {
        return;
    }
    let place = Place::new();
    let bytes = noise(42, 3000);
    place.drop_firmware("P/1.0.1/update.bin", &bytes);
    let check =
        |version: &str| format!("/luat/update?imei={IMEI}&firmware_name=P&version={version}");
    let log: String = ["1.0.0", "1.0.1", "1.0.0"]
        .iter()
        .map(|version| {
            let target = check(version);
            format!(
                "10.0.0.1 - - [28/Nov/2026:10:00:00 +0800] \"GET {target} HTTP/1.1\" 200 3000\n"
            )
        })
        .chain([
            "10.0.0.2 - - [28/Nov/2026:10:00:01 +0800] \"GET /favicon.ico HTTP/1.1\" 404 0\n"
                .to_owned(),
        ])
        .collect();
    std::fs::write(place.root.join("access.log"), log).unwrap();
    shell(&place, &block(SERVERS, "access.log")).unwrap();
    let requests = std::fs::read_to_string(place.root.join("requests.txt")).unwrap();
    assert_eq!(
        requests,
        format!("{}\n{}\n", check("1.0.0"), check("1.0.1"))
    );
    let compare = |bytes: &[u8]| {
        let old = old(bytes);
        let compare = block(SERVERS, "explain");
        let compare = compare.replace("127.0.0.1:8000", &old.address.to_string());
        shell(&place, &compare).unwrap()
    };
    assert_eq!(compare(&bytes), "");
    let differs = compare(&noise(43, 3000));
    assert_eq!(differs.lines().count(), 1, "{differs}");
    assert!(
        differs.starts_with(&format!("{}: before ", check("1.0.0"))),
        "{differs}"
    );
}

#[test]
fn probe_states_the_faults_of_the_old_server() {
    let place = Place::new();
    // This server sends the file to every version, including newer ones.
    let old = old(&noise(44, 30_000));
    let probe = block(SERVERS, "luat-ota probe");
    let probe = probe.replace("127.0.0.1:8000", &old.address.to_string());
    let said = shell(&place, &probe).unwrap_err();
    assert!(said.contains("compare versions"), "{said}");
}
