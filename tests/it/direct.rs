//! Promise: `/firmware/<path>` serves a catalogued file if its release has `direct`, and refuses every
//! other request; `/healthz` reports that the server is healthy.

use crate::common;

use common::packages::{EC7XX, noise, script_package};
use common::reply::Reply;
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
    // Available directly, although no device may have this release as an update.
    place.drop_firmware("held/1.0.1/固件 一.bin", &bytes);
    place.rules(
        "held/1.0.1/release.json",
        json!({ "direct": true, "allow": [], "paused": true }),
    );
    place.drop_firmware("closed/1.0.1/update.bin", &bytes);
    place.drop_firmware("closed/1.0.2/update.bin", &bytes);
    place.rules("closed/1.0.2/release.json", json!({ "direct": false }));
    // A project may set `direct` for all its releases.
    place.drop_firmware("all/1.0.1/update.bin", &bytes);
    place.rules("all/release.json", json!({ "direct": true }));
    let server = Server::start_in(place, &[]);
    for project in ["open", "closed", "all"] {
        server.wait_until_offered(&luat(project, IMEI, "1.0.0"), &bytes);
    }
    (server, bytes)
}

#[test]
fn a_file_is_served_directly_only_if_its_release_allows_it() {
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
fn a_direct_file_disappears_when_its_release_no_longer_allows_it() {
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
fn tools_can_resume_a_direct_file() {
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
    // The server knows the address that began the download.
    server
        .http(&get_with(path, "Range: bytes=1000-\r\n"))
        .must_be_part(&bytes, 1000, bytes.len())
        .unwrap();
}

/// Sends a request from an address that began no download.
fn from_elsewhere(server: &Server, request: &[u8]) -> Reply {
    let elsewhere = Some("127.9.9.9".parse().unwrap());
    let mut stream = common::connect_from(elsewhere, server.http, 0);
    std::io::Write::write_all(&mut stream, request).unwrap();
    common::reply::read(&mut stream, false).unwrap()
}

// Case 63.
#[test]
fn the_rest_of_a_direct_file_needs_its_content_id_or_its_beginning() {
    let (server, bytes) = server();
    let path = "/firmware/open/1.0.1/update.bin";
    server
        .wait_for_reply(&get(path), PATIENCE, |reply| reply.status == 200)
        .unwrap();
    let size = bytes.len();
    let sha256 = hex(&bytes);
    let other = hex(b"other");
    let rest = |query: &str, from: usize| {
        let target = format!("{path}{query}");
        let range = format!("Range: bytes={from}-\r\n");
        from_elsewhere(&server, &get_with(&target, &range))
    };
    // Tools take 416 as a sign that they have the whole file.
    for query in [
        "",
        "?imei=1",
        "?sha256=",
        "?sha256=0",
        &format!("?sha256={other}"),
        &format!("?sha256={sha256}&sha256={other}"),
    ] {
        for from in [1000, size, size + 1] {
            let reply = rest(query, from);
            assert_eq!(reply.status, 412, "{query} {from}: {}", reply.show());
            assert_eq!(reply.content_length(), 0);
        }
    }
    for query in [
        format!("?sha256={sha256}"),
        format!("?sha256={}", sha256.to_uppercase()),
        format!("?a=b&sha256={sha256}"),
    ] {
        rest(&query, 1000).must_be_part(&bytes, 1000, size).unwrap();
        // A tool that has the whole file may get 416.
        let reply = rest(&query, size);
        assert_eq!(reply.status, 416);
        let range = format!("bytes */{size}");
        assert_eq!(reply.header("Content-Range"), Some(range.as_str()));
        assert_eq!(rest(&query, size + 1).status, 412);
        let whole = from_elsewhere(&server, &get(&format!("{path}{query}")));
        whole.must_be_file(&bytes).unwrap();
    }
    // A URL that names a content must not serve the beginning of another, because the download would be
    // resumed with the same URL.
    for wrong in [&other, "0"] {
        let target = format!("{path}?sha256={wrong}");
        assert_eq!(from_elsewhere(&server, &get(&target)).status, 404);
        let range = get_with(&target, "Range: bytes=0-\r\n");
        assert_eq!(from_elsewhere(&server, &range).status, 404);
    }
}

// Case 63.
#[test]
fn a_replaced_direct_file_resumes_only_for_the_client_that_began_it() {
    let (server, old) = server();
    let path = "/firmware/open/1.0.1/update.bin";
    let part = server
        .wait_for_reply(
            &get_with(path, "Range: bytes=0-1999\r\n"),
            PATIENCE,
            |reply| reply.status == 206,
        )
        .unwrap();
    assert_eq!(part.body, old[..2000]);
    // The server still has the old bytes, under another path.
    server.drop_firmware("closed/1.0.9/same.bin", &old);
    let new = noise(62, 5000);
    server.drop_firmware("open/1.0.1/update.bin", &new);
    server.wait_until_offered(&luat("open", IMEI, "1.0.0"), &new);
    let rest = get_with(path, "Range: bytes=1000-\r\n");
    server
        .http(&rest)
        .must_be_part(&old, 1000, old.len())
        .unwrap();
    assert_eq!(from_elsewhere(&server, &rest).status, 412);
    from_elsewhere(&server, &get(path))
        .must_be_file(&new)
        .unwrap();
    from_elsewhere(&server, &rest)
        .must_be_part(&new, 1000, new.len())
        .unwrap();
    // The URL that names the old bytes serves them, from any byte and to any address.
    let named = format!("{path}?sha256={}", hex(&old));
    from_elsewhere(&server, &get_with(&named, "Range: bytes=3000-\r\n"))
        .must_be_part(&old, 3000, old.len())
        .unwrap();
    from_elsewhere(&server, &get(&named))
        .must_be_file(&old)
        .unwrap();
    // Once this address has begun both contents, the server cannot tell which of them is resumed.
    server.http(&get(path)).must_be_file(&new).unwrap();
    assert_eq!(server.http(&rest).status, 412);
}

// Case 63.
#[test]
fn curl_and_wget_resume_the_named_content_and_fail_without_a_name() {
    for (tool, arguments) in [
        ("curl", ["-sf", "-C", "-", "-o"]),
        ("wget", ["-q", "-t1", "-c", "-O"]),
    ] {
        let (server, bytes) = server();
        let path = "/firmware/open/1.0.1/update.bin";
        let half = &bytes[..bytes.len() / 2];
        let run = |query: &str| {
            let file = server.place().path(&format!("../{tool}.part"));
            std::fs::write(&file, half).unwrap();
            let mut command = std::process::Command::new(tool);
            command
                .args(arguments)
                .arg(&file)
                .arg(format!("http://{}{path}{query}", server.http));
            common::clean(&mut command);
            let status = command.status().ok()?.success();
            Some((status, std::fs::read(&file).unwrap()))
        };
        // Without a name first, because afterwards the server knows the download by its address.
        for query in [String::new(), format!("?sha256={}", hex(&bytes))] {
            let Some((is_ok, got)) = run(&query) else {
                println!("skipped: no {tool} here");
                break;
            };
            match query.is_empty() {
                true => assert!(!is_ok, "{tool} takes half a file for the whole"),
                false => assert!(is_ok && got == bytes, "{tool}"),
            }
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn healthz_returns_200_and_a_body() {
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
    // A longer path does not lead to an update.
    assert_ne!(server.get("/healthzz").status, 200);
    assert_ne!(
        server
            .get("/healthz/../firmware/closed/1.0.1/update.bin")
            .status,
        200
    );
}
