//! Promise: mistakes of users in their scripts and folders (docs/protocol.md 3) get the reply that the
//! user intended, if it can be determined, and no other mistake harms a module.

use crate::common;

use common::packages::noise;
use common::{IMEI, Place, Rows, Server, get, luat, luatos, reply, texts};
use serde_json::json;

/// A server whose only release of `demo` is for one IMEI, so that the reply shows whether the IMEI was
/// parsed correctly; `open` is for every device.
fn server() -> (Server, Vec<u8>) {
    let place = Place::new();
    let bytes = noise(2, 2500);
    place.rules("demo/release.json", json!({ "allow": [IMEI] }));
    place.drop_firmware("demo/1.0.9/update.bin", &bytes);
    place.drop_firmware("open/1.0.9/update.bin", &bytes);
    place.drop_firmware("open/1.0.10/update.bin", &bytes);
    let server = Server::start_in(place, &[]);
    server.wait_until_offered(&luat("demo", IMEI, "1.0.0"), &bytes);
    server.wait_until_offered(&luat("open", IMEI, "1.0.9"), &bytes);
    (server, bytes)
}

#[test]
fn every_malformed_url_is_understood() {
    let (server, bytes) = server();
    let mut rows = Rows::default();
    let rest = "project_key=k&firmware_name=demo_LuatOS-SoC_EC618&version=1103.1.2";
    let task = "firmware_name=demo_Luat_V0035_8955&version=1.0.0";
    for (mistake, target) in [
        ("no ?", format!("/upgradeimei={IMEI}&{rest}")),
        ("no ? and no path", format!("/imei={IMEI}&{rest}")),
        (
            "no ? behind a folder",
            format!("/site/upgrade/imei={IMEI}&{rest}"),
        ),
        ("??", format!("/upgrade??imei={IMEI}&{rest}")),
        (
            "a later ?",
            format!("/upgrade?imei={IMEI}&{rest}?imei=111111111111111&{rest}"),
        ),
        (
            "a later ? in front of the first name",
            format!("/upgrade?a=b?imei={IMEI}&{rest}"),
        ),
        ("?a=1 without &", format!("/upgrade?a=1imei={IMEI}&{rest}")),
        (
            "LuaTask with ??",
            format!("/update??project_key=k&imei={IMEI}&device_key=&{task}"),
        ),
        (
            "an SN with a space",
            format!("/update?project_key=k&imei={IMEI}&device_key=SN 0042 B&{task}"),
        ),
        (
            "an SN with spaces at the end",
            format!("/update?project_key=k&imei={IMEI}&{task}&device_key=SN  "),
        ),
        (
            "a Chinese SN",
            format!("/update?project_key=k&imei={IMEI}&device_key=仓库 一号&{task}"),
        ),
        (
            "an SN that looks like the end of the line",
            format!("/update?project_key=k&imei={IMEI}&device_key=a HTTP/1.1 b&{task}"),
        ),
        (
            "an SN with a broken %",
            format!("/update?project_key=k&imei={IMEI}&device_key=100%&{task}"),
        ),
        (
            "the same name twice: the first counts",
            format!("/update?imei={IMEI}&imei=111111111111111&{task}&version=9.9.9"),
        ),
        (
            "encoded by a careful library",
            format!("/update?imei={IMEI}&firmware_name=demo%5FLuat_V0035_8955&version=1%2E0%2e0"),
        ),
        (
            "empty values and lone &",
            format!("/update?&&project_key=&imei={IMEI}&&{task}&"),
        ),
    ] {
        rows.row(
            mistake,
            server
                .try_http(&get(&target))
                .and_then(|reply| reply.must_be_file(&bytes)),
        );
    }
    rows.finish();
}

#[test]
fn gbk_bytes_in_the_target_are_accepted() {
    let (server, bytes) = server();
    // "仓库" in GBK.
    let mut request = format!("GET /update?imei={IMEI}&device_key=").into_bytes();
    request.extend_from_slice(&[0xB2, 0xD6, 0xBF, 0xE2]);
    request.extend_from_slice(
        b"&firmware_name=demo_Luat_V0035_8955&version=1.0.0 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    );
    server.http(&request).must_be_file(&bytes).unwrap();
    // Bytes that are neither UTF-8 nor GBK.
    let mut request = format!("GET /update?imei={IMEI}&device_key=").into_bytes();
    request.extend_from_slice(&[0xFF, 0xFE, 0x80]);
    request.extend_from_slice(
        b"&firmware_name=demo_Luat_V0035_8955&version=1.0.0 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    );
    server.http(&request).must_be_file(&bytes).unwrap();
}

#[test]
fn a_plus_sign_is_not_decoded_as_a_space() {
    let place = Place::new();
    let bytes = noise(3, 1000);
    place.drop_firmware("a+b/1.0.1/update.bin", &bytes);
    let server = Server::start_in(place, &[]);
    server.wait_until_offered(&luat("a+b", IMEI, "1.0.0"), &bytes);
    server
        .get(&luat("a b", IMEI, "1.0.0"))
        .must_refuse(403, 25)
        .unwrap();
}

#[test]
fn a_model_that_libfota2_does_not_know_is_answered_by_name_and_version() {
    let (server, bytes) = server();
    let query = |project: &str, version: &str| {
        format!(
            "/upgrade?nil&project_key=k&firmware_name={project}_LuatOS-SoC_Air201&version={version}"
        )
    };
    server
        .get(&query("open", "1103.1.2"))
        .must_be_file(&bytes)
        .unwrap();
    server
        .get(&query("open", "1103.1.10"))
        .must_refuse(404, 27)
        .unwrap();
    // A check without an id is not from the permitted device.
    server
        .get(&query("demo", "1103.1.2"))
        .must_refuse(403, 21)
        .unwrap();
}

#[test]
fn versions_are_numbers_field_by_field() {
    let (server, bytes) = server();
    let mut rows = Rows::default();
    for version in [
        "1.0.9",
        "1.0.09",
        "001.000.009",
        "v1.0.9",
        "1.0",
        "1",
        "0.99.99",
    ] {
        rows.row(
            version,
            server
                .try_get(&luat("open", IMEI, version))
                .and_then(|reply| reply.must_be_file(&bytes)),
        );
    }
    for version in ["1.0.10", "001.000.010", "1.0.11", "1.1", "2", "1.0.10.1"] {
        rows.row(
            version,
            server
                .try_get(&luat("open", IMEI, version))
                .and_then(|reply| reply.must_refuse(404, 27)),
        );
    }
    rows.finish();
}

#[test]
fn no_request_that_names_no_project_gets_a_file_or_a_redirect() {
    let (server, _) = server();
    let mut rows = Rows::default();
    for target in [
        "/",
        "/upgrade",
        "/upgrade?",
        "/upgrade?version=1.0.0",
        "/luat/update",
        "/luat/update?version=1.0.0",
        "/luat/update?imei=862991443753386&version=1.0.0",
        "/luat/update?imei=862991443753386&firmware_name=&version=1.0.0",
        "/luat/update/?version=1.0.0",
        "/upgrade?nil",
        "/upgradeimei=",
        "/favicon.ico",
        "/index.html",
    ] {
        rows.row(
            target,
            server.try_http(&get(target)).and_then(|reply| {
                if matches!(reply.status, 400 | 403 | 404) {
                    Ok(())
                } else {
                    Err(format!("status {}: {}", reply.status, reply.show()))
                }
            }),
        );
    }
    // The clients of this path treat every status except 200 as a transmission error. The code states the refusal.
    let reply = server.get("/api/site/turnkey_fota?imei=862991443753386");
    let body = serde_json::from_slice::<serde_json::Value>(&reply.body).unwrap();
    assert_eq!((reply.status, &body["code"]), (200, &25.into()));
    assert!(body.get("url").is_none(), "{body}");
    rows.finish();
}

#[test]
fn a_server_that_no_module_can_reach_reports_it() {
    let server = Server::start(&[]);
    server.wait_for_log("warns of an address that modules cannot reach", |line| {
        let line = line.to_lowercase();
        line.contains("warn") && line.contains("reach")
    });
}

#[test]
fn a_url_without_its_question_mark_is_hinted_at_in_the_log() {
    let (server, bytes) = server();
    let mark = server.log_mark();
    server
        .get(&format!(
            "/upgradeimei={IMEI}&project_key=k&firmware_name=open_LuatOS-SoC_EC618&version=1103.1.2"
        ))
        .must_be_file(&bytes)
        .unwrap();
    let line = server.log.wait(mark, common::PATIENCE, |line| {
        texts(line).iter().any(|text| text.contains('?'))
    });
    assert!(line.is_some(), "no line mentions the missing `?`");
}

#[test]
fn no_request_can_forge_or_colour_a_log_line() {
    let (server, _) = server();
    let mark = server.log_mark();
    let target = format!(
        "/update?imei={IMEI}%0A%7B%22event%22:%22forged%22%7D&firmware_name=x%1B[31m%0D%0A{{\"level\":\"error\"}}_Luat_V0035_8955&version=1.0.0"
    );
    server.get(&target).must_refuse(403, 25).unwrap();
    server
        .log
        .wait(mark, common::PATIENCE, |line| line.contains("[31m"))
        .expect("a line about the check");
    for line in &server.log.all()[mark..] {
        assert!(
            serde_json::from_str::<serde_json::Value>(line).is_ok_and(|value| value.is_object()),
            "no JSON object: {line:?}"
        );
        assert!(
            !line.bytes().any(|byte| byte < 0x20 || byte == 0x7F),
            "a control character: {}",
            reply::show(line.as_bytes())
        );
    }
}

#[test]
fn a_device_with_many_names_is_never_an_error() {
    let (server, bytes) = server();
    let mut rows = Rows::default();
    for id in [
        "imei=862991443753386",
        "imei=86902342332452",
        "imei=",
        "imei=nil",
        "imei=hello%00world",
        "mac=A0B1C2D3E4F5",
        "mac=a0:b1:c2:d3:e4:f5",
        "uid=3230353533470F0A",
        "uid=%F0%9F%98%80",
        "muid=20230101120000A000000A0000000000",
    ] {
        let target = format!("/update?{id}&firmware_name=open_Luat_V0035_8955&version=1.0.0");
        rows.row(
            id,
            server
                .try_get(&target)
                .and_then(|reply| reply.must_be_file(&bytes)),
        );
    }
    let long = "9".repeat(2000);
    rows.row(
        "an imei of 2000 digits",
        server
            .try_get(&luatos("open", "EC618", &long, "1103.1.2"))
            .and_then(|reply| reply.must_be_file(&bytes)),
    );
    rows.finish();
}
