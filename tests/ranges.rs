//! Promise: a download goes on where it stopped, and always in the file that it began with; for
//! tools, ranges and conditions are what RFC 9110 says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![allow(missing_docs)]

mod common;

use common::packages::noise;
use common::{IMEI, PATIENCE, Place, Rows, Server, get, get_with, luat, reply};
use sha2::{Digest, Sha256};

const OTHER: &str = "862991443750002";

/// A server with one release, offered, and its bytes.
fn server() -> (Server, Vec<u8>) {
    let place = Place::new();
    let bytes = noise(10, 5000);
    place.drop_firmware("P/2.0.1/update.bin", &bytes);
    let server = Server::start_in(place, &[]);
    server.wait_until_offered(&check(OTHER), &bytes);
    (server, bytes)
}

fn check(imei: &str) -> String {
    luat("P", imei, "2.0.0")
}

fn range(imei: &str, range: &str) -> Vec<u8> {
    get_with(&check(imei), &format!("Range: {range}\r\n"))
}

#[test]
fn every_kind_of_range_gets_what_it_asks_for() {
    let (server, bytes) = server();
    let whole = bytes.len();
    // This device was given everything: it may have any part of it again.
    server.get(&check(IMEI)).must_be_file(&bytes).unwrap();
    let mut rows = Rows::default();
    for (text, start, end) in [
        ("bytes=0-", 0, whole),
        ("bytes=1-", 1, whole),
        ("bytes=1022-", 1022, whole),
        ("bytes=4999-", 4999, whole),
        ("bytes=0-0", 0, 1),
        ("bytes=0-4999", 0, whole),
        ("bytes=100-199", 100, 200),
        ("bytes=100-9999999", 100, whole),
        ("bytes=100-99999999999999999999999", 100, whole),
        ("bytes=-1", whole - 1, whole),
        ("bytes=-500", whole - 500, whole),
        ("bytes=-5000", 0, whole),
        ("bytes=-99999", 0, whole),
    ] {
        rows.row(
            text,
            server
                .try_http(&range(IMEI, text))
                .and_then(|reply| reply.must_be_part(&bytes, start, end)),
        );
    }
    for text in [
        "bytes=5000-",
        "bytes=5001-6000",
        "bytes=99999999999999999999-",
    ] {
        rows.row(
            text,
            server.try_http(&range(IMEI, text)).and_then(|reply| {
                ensure!(reply.status == 416, "not 416: {}", reply.show());
                ensure!(
                    reply.header("Content-Range") == Some("bytes */5000"),
                    "no `bytes */5000`: {}",
                    reply.show()
                );
                Ok(())
            }),
        );
    }
    for text in [
        "bytes=0-1,3-4",
        "bytes=0-0, -1",
        "bytes=5-4",
        "bytes=x-",
        "bytes=-",
        "bytes=",
        "bytes 0-5",
        "items=0-5",
        "bytes=0x10-",
        "bytes=1-2-3",
    ] {
        rows.row(
            text,
            server
                .try_http(&range(IMEI, text))
                .and_then(|reply| reply.must_be_file(&bytes)),
        );
    }
    rows.finish();
}

#[test]
fn conditions_of_tools_are_honoured() {
    let (server, bytes) = server();
    let reply = server.get(&check(IMEI));
    let tag = reply.header("ETag").expect("an ETag").to_owned();
    let hash: String = Sha256::digest(&bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let bare = tag
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    let bare = bare.unwrap_or_else(|| panic!("not a strong tag: {tag}"));
    assert!(
        bare.len() >= 16 && hash.starts_with(bare),
        "the ETag is not the content id: {tag} for {hash}"
    );
    let mut rows = Rows::default();
    // If-None-Match: nothing to send.
    for value in [tag.clone(), format!("\"other\", {tag}"), "*".to_owned()] {
        rows.row(
            &format!("If-None-Match: {value}"),
            server
                .try_http(&get_with(
                    &check(IMEI),
                    &format!("If-None-Match: {value}\r\n"),
                ))
                .and_then(|reply| {
                    ensure!(reply.status == 304, "not 304: {}", reply.show());
                    ensure!(
                        reply.header("ETag") == Some(tag.as_str()),
                        "another ETag: {}",
                        reply.show()
                    );
                    Ok(())
                }),
        );
    }
    rows.row(
        "If-None-Match with another tag",
        server
            .try_http(&get_with(&check(IMEI), "If-None-Match: \"0123\"\r\n"))
            .and_then(|reply| reply.must_be_file(&bytes)),
    );
    // If-Range: the part if it is the same content, everything if not. Nobody pinned this device.
    let fresh = "862991443750099";
    rows.row(
        "If-Range with its tag",
        server
            .try_http(&get_with(
                &check(fresh),
                &format!("Range: bytes=1000-\r\nIf-Range: {tag}\r\n"),
            ))
            .and_then(|reply| reply.must_be_part(&bytes, 1000, bytes.len())),
    );
    for value in ["\"0123\"", "Tue, 01 Dec 2026 00:00:00 GMT", "W/\"0123\""] {
        rows.row(
            &format!("If-Range: {value}"),
            server
                .try_http(&get_with(
                    &check(IMEI),
                    &format!("Range: bytes=1000-\r\nIf-Range: {value}\r\n"),
                ))
                .and_then(|reply| reply.must_be_file(&bytes)),
        );
    }
    rows.finish();
}

#[test]
fn head_says_what_get_would_send() {
    let (server, bytes) = server();
    let request = |target: &str| {
        let mut request = get(target);
        request.splice(..3, *b"HEAD");
        request
    };
    let reply = server.http(&request(&check(IMEI)));
    assert_eq!(reply.status, 200);
    assert_eq!(reply.content_length(), bytes.len() as u64);
    let reply = server.http(&request(&luat("P", IMEI, "2.0.1")));
    assert_eq!(reply.status, 404);
    let get = server.get(&luat("P", IMEI, "2.0.1"));
    assert_eq!(reply.content_length(), get.content_length());
}

#[test]
fn a_download_goes_on_in_the_file_that_it_began_with() {
    let (server, old) = server();
    let mut rows = Rows::default();
    // One began plainly, one with a range, as the generations do.
    let ranged = "862991443750003";
    server.get(&check(IMEI)).must_be_file(&old).unwrap();
    server
        .http(&range(ranged, "bytes=0-"))
        .must_be_part(&old, 0, old.len())
        .unwrap();
    let new = noise(11, 7000);
    server.drop_firmware("P/2.0.2/update.bin", &new);
    server.wait_until_offered(&check(OTHER), &new);
    for imei in [IMEI, ranged] {
        rows.row(
            imei,
            server
                .try_http(&range(imei, "bytes=1000-"))
                .and_then(|reply| reply.must_be_part(&old, 1000, old.len())),
        );
    }
    // Who never began gets no bytes of either file.
    for imei in ["862991443750004", ""] {
        rows.row(
            &format!("stranger {imei:?}"),
            server
                .try_http(&range(imei, "bytes=1000-"))
                .and_then(|reply| {
                    ensure!(reply.status == 416, "not 416: {}", reply.show());
                    Ok(())
                }),
        );
    }
    // From the beginning it is the new one, and then the rest of that.
    rows.row(
        "begins anew",
        server
            .try_http(&range(IMEI, "bytes=0-"))
            .and_then(|reply| reply.must_be_part(&new, 0, new.len())),
    );
    rows.row(
        "goes on in the new one",
        server
            .try_http(&range(IMEI, "bytes=1000-"))
            .and_then(|reply| reply.must_be_part(&new, 1000, new.len())),
    );
    rows.finish();
}

#[test]
fn a_download_goes_on_after_its_file_was_renamed() {
    let (server, bytes) = server();
    server.get(&check(IMEI)).must_be_file(&bytes).unwrap();
    let folder = server.place().firmware().join("P");
    std::fs::rename(folder.join("2.0.1"), folder.join("2.0.3")).unwrap();
    // 2.0.2 shows that the new name was seen.
    server.wait_until_offered(&luat("P", OTHER, "2.0.2"), &bytes);
    server
        .http(&range(IMEI, "bytes=1234-"))
        .must_be_part(&bytes, 1234, bytes.len())
        .unwrap();
}

#[test]
fn a_download_never_goes_on_in_other_bytes_after_its_file_was_replaced() {
    let (server, old) = server();
    server.get(&check(IMEI)).must_be_file(&old).unwrap();
    let new = noise(12, 5000);
    server.drop_firmware("P/2.0.1/update.bin", &new);
    server.wait_until_offered(&check(OTHER), &new);
    let reply = server.http(&range(IMEI, "bytes=1000-"));
    if reply.status != 416 {
        reply.must_be_part(&old, 1000, old.len()).unwrap();
    }
}

#[test]
fn a_download_that_was_cut_off_goes_on_after_a_restart() {
    let (server, old) = server();
    server.get(&check(IMEI)).must_be_file(&old).unwrap();
    let new = noise(13, 6000);
    server.drop_firmware("P/2.0.2/update.bin", &new);
    server.wait_until_offered(&check(OTHER), &new);
    let server = Server::start_in(server.terminate(), &[]);
    server.wait_until_offered(&check(OTHER), &new);
    let reply = server.http(&range(IMEI, "bytes=1000-"));
    // Without the memory of pins this must be a refusal; never the new file.
    if reply.status != 416 {
        reply.must_be_part(&old, 1000, old.len()).unwrap();
    }
}

#[test]
fn a_clone_that_begins_anew_does_not_tear_the_download_of_the_original() {
    let (server, old) = server();
    // The original, from 127.0.0.1, is in the middle of its download.
    let mut original = common::SlowDownload::begin(server.http, &get(&check(IMEI)), 300);
    let new = noise(14, 8000);
    server.drop_firmware("P/2.0.2/update.bin", &new);
    server.wait_until_offered(&check(OTHER), &new);
    // A clone with the same IMEI, from another network, begins with the newer one.
    let mut clone = common::connect_from(Some("127.9.9.9".parse().unwrap()), server.http, 0);
    std::io::Write::write_all(&mut clone, &get(&check(IMEI))).unwrap();
    reply::read(&mut clone, false)
        .unwrap()
        .must_be_file(&new)
        .unwrap();
    original.read(100).unwrap();
    original.finish().unwrap().must_be_file(&old).unwrap();
    // Its retry gets the rest of the old one, or is told to begin anew; never the new one.
    let reply = server
        .wait_for_reply(&range(IMEI, "bytes=2000-"), PATIENCE, |_| true)
        .unwrap();
    if reply.status != 416 {
        reply.must_be_part(&old, 2000, old.len()).unwrap();
    }
}
