//! Promise: `/firmware/<path>` serves one catalogued file where its release says `direct`, and is
//! otherwise a wall; `/healthz` says that the server is well.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![allow(missing_docs)]

mod common;

use common::packages::{EC7XX, noise, script_package};
use common::{IMEI, PATIENCE, Place, Rows, Server, get, get_with, luat};
use serde_json::json;

fn server() -> (Server, Vec<u8>) {
    let place = Place::new();
    let bytes = noise(100, 4000);
    place.drop_firmware("open/1.0.1/update.bin", &bytes);
    place.drop_firmware("open/1.0.1/说明 一.txt", b"for people");
    let mut cut_off = script_package(EC7XX, 101);
    cut_off.pop();
    place.drop_firmware("open/1.0.1/open_1.0.1_LuatOS-SoC_Air780EPM.bin", &cut_off);
    place.rules("open/1.0.1/release.json", json!({ "direct": true }));
    // Directly there, though nobody may have it as an update.
    place.drop_firmware("held/1.0.1/固件 一.bin", &bytes);
    place.rules(
        "held/1.0.1/release.json",
        json!({ "direct": true, "allow": [], "paused": true }),
    );
    place.drop_firmware("closed/1.0.1/update.bin", &bytes);
    place.drop_firmware("closed/1.0.2/update.bin", &bytes);
    place.rules("closed/1.0.2/release.json", json!({ "direct": false }));
    // A project may say it for all of its releases.
    place.drop_firmware("all/1.0.1/update.bin", &bytes);
    place.rules("all/release.json", json!({ "direct": true }));
    let server = Server::start_in(place, &[]);
    for project in ["open", "closed", "all"] {
        server.wait_until_offered(&luat(project, IMEI, "1.0.0"), &bytes);
    }
    (server, bytes)
}

#[test]
fn a_file_is_served_directly_only_where_its_release_says_so() {
    let (server, bytes) = server();
    let mut rows = Rows::default();
    for path in [
        "/firmware/open/1.0.1/update.bin",
        "/firmware/open/1.0.1/update.bin?imei=862991443753386",
        "/firmware/all/1.0.1/update.bin",
        "/firmware/held/1.0.1/%E5%9B%BA%E4%BB%B6%20%E4%B8%80.bin",
        "/firmware/held/1.0.1/固件 一.bin",
    ] {
        rows.row(
            path,
            server
                .wait_for_reply(&get(path), PATIENCE, |reply| reply.status == 200)
                .and_then(|reply| reply.must_be_file(&bytes)),
        );
    }
    for path in [
        "/firmware",
        "/firmware/",
        "/firmware/open",
        "/firmware/open/",
        "/firmware/open/1.0.1",
        "/firmware/open/1.0.1/",
        "/firmware/open/1.0.1/release.json",
        "/firmware/open/1.0.1/%E8%AF%B4%E6%98%8E%20%E4%B8%80.txt",
        "/firmware/open/1.0.1/open_1.0.1_LuatOS-SoC_Air780EPM.bin",
        "/firmware/open/1.0.1/update.bin/",
        "/firmware/open/1.0.1/Update.bin",
        "/firmware/open//1.0.1/update.bin",
        "/firmware/open/./1.0.1/update.bin",
        "/firmware/open/1.0.2/../1.0.1/update.bin",
        "/firmware/open/1.0.1/../../closed/1.0.1/update.bin",
        "/firmware/%2e%2e/firmware/open/1.0.1/update.bin",
        "/firmware/..%2Ffirmware/open/1.0.1/update.bin",
        "/firmware/open%5c1.0.1%5cupdate.bin",
        "/firmware//etc/passwd",
        "/firmware/../../../../../../etc/passwd",
        "/firmware/%2Fetc%2Fpasswd",
        "/firmware/.luat-ota/secret",
        "/firmware/../state/secret",
        "/firmware/closed/1.0.1/update.bin",
        "/firmware/closed/1.0.2/update.bin",
        "/firmware/nowhere/1.0.1/update.bin",
        "/open/1.0.1/update.bin",
    ] {
        rows.row(
            path,
            server.try_http(&get(path)).and_then(|reply| {
                ensure!(
                    matches!(reply.status, 400 | 403 | 404),
                    "status {}: {}",
                    reply.status,
                    reply.show()
                );
                Ok(())
            }),
        );
    }
    rows.finish();
}

#[test]
fn a_direct_file_stops_being_there_when_its_release_says_no_more() {
    let (server, bytes) = server();
    let path = get("/firmware/open/1.0.1/update.bin");
    server
        .wait_for_reply(&path, PATIENCE, |reply| reply.status == 200)
        .unwrap()
        .must_be_file(&bytes)
        .unwrap();
    server.rules("open/1.0.1/release.json", json!({}));
    server
        .wait_for_reply(&path, PATIENCE, |reply| reply.status == 404)
        .unwrap();
}

#[test]
fn tools_can_go_on_with_a_direct_file() {
    let (server, bytes) = server();
    let path = "/firmware/open/1.0.1/update.bin";
    let reply = server
        .wait_for_reply(&get(path), PATIENCE, |reply| reply.status == 200)
        .unwrap();
    let tag = reply.header("ETag").expect("an ETag").to_owned();
    server
        .http(&get_with(path, "Range: bytes=0-99\r\n"))
        .must_be_part(&bytes, 0, 100)
        .unwrap();
    server
        .http(&get_with(
            path,
            &format!("Range: bytes=1000-\r\nIf-Range: {tag}\r\n"),
        ))
        .must_be_part(&bytes, 1000, bytes.len())
        .unwrap();
    server
        .http(&get_with(
            path,
            "Range: bytes=0-99\r\nIf-Range: \"other\"\r\n",
        ))
        .must_be_file(&bytes)
        .unwrap();
    let reply = server.http(&get_with(path, &format!("If-None-Match: {tag}\r\n")));
    assert_eq!(reply.status, 304);
    let reply = server.http(&get_with(path, "Range: bytes=4000-\r\n"));
    assert_eq!(reply.status, 416, "{}", reply.show());
}

#[test]
fn healthz_is_well_and_never_empty() {
    let (server, _) = server();
    for request in [
        get("/healthz"),
        get("/healthz?from=balancer"),
        b"GET /healthz HTTP/1.0\r\n\r\n".to_vec(),
    ] {
        let reply = server.http(&request);
        assert_eq!(reply.status, 200, "{}", reply.show());
        assert!(!reply.body.is_empty());
    }
    let reply = server.http(b"HEAD /healthz HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(reply.status, 200);
    // It is no way to an update.
    assert_ne!(server.get("/healthzz").status, 200);
    assert_ne!(
        server
            .get("/healthz/../firmware/closed/1.0.1/update.bin")
            .status,
        200
    );
}
