//! Promise: a download resumes where it stopped, always in the file with which it began; for tools, ranges and
//! conditions follow RFC 9110.

use crate::common;

use common::packages::noise;
use common::{IMEI, PATIENCE, Place, Rows, Server, get, get_with, luat, reply};
use sha2::{Digest, Sha256};

const OTHER: &str = "862991443750002";

/// A server with one release, which is already offered, and the bytes of its file.
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
    // This device received the whole file, so it may request any part again.
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
    // If-None-Match: the server sends no body.
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
    // If-Range: the part for the same content, otherwise the whole file. There is no pin for this device.
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
fn head_describes_what_get_would_send() {
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
fn a_download_resumes_in_the_file_that_it_began_with() {
    let (server, old) = server();
    let mut rows = Rows::default();
    // One download began without a range and one with a range, as the generations do.
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
    // A device that began no download gets no bytes of either file.
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
    // A download from byte 0 gets the new file, and then the rest of that file.
    rows.row(
        "begins anew",
        server
            .try_http(&range(IMEI, "bytes=0-"))
            .and_then(|reply| reply.must_be_part(&new, 0, new.len())),
    );
    // Two files of this length were begun with this id: a clone of the module would send the same request.
    rows.row(
        "goes on in either",
        server
            .try_http(&range(IMEI, "bytes=1000-"))
            .and_then(|reply| {
                ensure!(reply.status == 416, "not 416: {}", reply.show());
                Ok(())
            }),
    );
    // Only the new file is this long.
    rows.row(
        "goes on in the new one",
        server
            .try_http(&range(IMEI, "bytes=6000-"))
            .and_then(|reply| reply.must_be_part(&new, 6000, new.len())),
    );
    rows.finish();
}

#[test]
fn a_download_resumes_after_its_file_was_renamed() {
    let (server, bytes) = server();
    server.get(&check(IMEI)).must_be_file(&bytes).unwrap();
    let folder = server.place().firmware().join("P");
    std::fs::rename(folder.join("2.0.1"), folder.join("2.0.3")).unwrap();
    // An offer of 2.0.2 shows that the server has noticed the new name.
    server.wait_until_offered(&luat("P", OTHER, "2.0.2"), &bytes);
    server
        .http(&range(IMEI, "bytes=1234-"))
        .must_be_part(&bytes, 1234, bytes.len())
        .unwrap();
}

#[test]
fn a_download_never_resumes_with_other_bytes_after_its_file_was_replaced() {
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
fn a_download_that_was_cut_off_resumes_after_a_restart() {
    let (server, old) = server();
    server.get(&check(IMEI)).must_be_file(&old).unwrap();
    let new = noise(13, 6000);
    server.drop_firmware("P/2.0.2/update.bin", &new);
    server.wait_until_offered(&check(OTHER), &new);
    let server = Server::start_in(server.terminate(), &[]);
    server.wait_until_offered(&check(OTHER), &new);
    let reply = server.http(&range(IMEI, "bytes=1000-"));
    // Without the pins of earlier downloads this must be a refusal, and never the new file.
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
    // A clone with the same IMEI, from another network, begins with the newer file.
    let mut clone = common::connect_from(Some("127.9.9.9".parse().unwrap()), server.http, 0);
    std::io::Write::write_all(&mut clone, &get(&check(IMEI))).unwrap();
    reply::read(&mut clone, false)
        .unwrap()
        .must_be_file(&new)
        .unwrap();
    original.read(100).unwrap();
    original.finish().unwrap().must_be_file(&old).unwrap();
    // The retry of the original gets the rest of the old file or a refusal, and never the new file.
    let reply = server
        .wait_for_reply(&range(IMEI, "bytes=2000-"), PATIENCE, |_| true)
        .unwrap();
    if reply.status != 416 {
        reply.must_be_part(&old, 2000, old.len()).unwrap();
    }
}

/// Sends a request from this loopback address, reads `body` bytes of the reply's body and resets the connection.
fn cut(server: &Server, from: &str, request: &[u8], body: usize) -> Vec<u8> {
    let mut stream = common::connect_from(Some(from.parse().unwrap()), server.http, 0);
    std::io::Write::write_all(&mut stream, request).unwrap();
    let mut got = Vec::new();
    let mut head = 0;
    while head == 0 || got.len() < head + body {
        let mut piece = [0; 512];
        let read = std::io::Read::read(&mut stream, &mut piece).unwrap();
        assert!(read > 0, "the server closed early");
        got.extend_from_slice(&piece[..read]);
        let end = got.windows(4).position(|four| four == b"\r\n\r\n");
        head = end.map_or(0, |end| end + 4);
    }
    drop(stream);
    got[head..head + body].to_vec()
}

fn ask_from(server: &Server, from: &str, request: &[u8]) -> reply::Reply {
    let mut stream = common::connect_from(Some(from.parse().unwrap()), server.http, 0);
    std::io::Write::write_all(&mut stream, request).unwrap();
    reply::read(&mut stream, false).unwrap()
}

/// Fails unless the reply is the rest of `old` or a refusal.
fn must_be_rest_or_416(reply: &reply::Reply, old: &[u8], from: usize) {
    if reply.status != 416 {
        reply.must_be_part(old, from, old.len()).unwrap();
    }
}

// Case 23.
#[test]
fn a_clone_in_the_same_network_never_tears_a_download_whose_bytes_were_all_acknowledged() {
    let place = Place::new();
    let (old, new) = (noise(20, 400_000), noise(21, 400_000));
    place.drop_firmware("P/2.0.1/update.bin", &old);
    let server = Server::start_in(place, &[]);
    server.wait_until_offered(&check(OTHER), &old);
    let first = cut(&server, "127.5.5.5", &get(&check(IMEI)), 51_002);
    assert_eq!(first, old[..51_002]);
    server.drop_firmware("P/2.0.2/update.bin", &new);
    server.wait_until_offered(&check(OTHER), &new);
    let clone = ask_from(&server, "127.5.5.6", &get(&check(IMEI)));
    clone.must_be_file(&new).unwrap();
    for _ in 0..2 {
        let rest = ask_from(&server, "127.5.5.5", &range(IMEI, "bytes=51002-"));
        must_be_rest_or_416(&rest, &old, 51_002);
        assert_eq!(rest.status, 416, "both reach that far");
    }
}

// Case 26.
#[test]
fn a_module_without_an_id_resumes_by_its_address_and_never_in_another_file() {
    let (server, old) = server();
    let begin = get(&check(""));
    let rest = range("", "bytes=1000-");
    let first = cut(&server, "127.6.6.6", &begin, 1000);
    assert_eq!(first, old[..1000]);
    ask_from(&server, "127.6.6.6", &rest)
        .must_be_part(&old, 1000, old.len())
        .unwrap();
    // Neither another device nor a different check gets the rest.
    assert_eq!(ask_from(&server, "127.6.6.7", &rest).status, 416);
    let other = get_with(&luat("P", "", "1.9.9"), "Range: bytes=1000-\r\n");
    assert_eq!(ask_from(&server, "127.6.6.6", &other).status, 416);
    let new = noise(22, 6000);
    server.drop_firmware("P/2.0.2/update.bin", &new);
    server.wait_until_offered(&check(OTHER), &new);
    ask_from(&server, "127.6.6.6", &rest)
        .must_be_part(&old, 1000, old.len())
        .unwrap();
    // Another module behind the same address begins the new file.
    ask_from(&server, "127.6.6.6", &begin)
        .must_be_file(&new)
        .unwrap();
    let reply = ask_from(&server, "127.6.6.6", &rest);
    must_be_rest_or_416(&reply, &old, 1000);
    assert_eq!(reply.status, 416);
}

// Case 27.
#[test]
fn an_id_that_resumes_under_another_core_never_gets_the_rest_of_another_file() {
    let (server, old) = server();
    let core = |core: &str| {
        format!(
            "/luat/update?project_key=k&imei={IMEI}&firmware_name=P_Luat_{core}_ASR1802&version=2.0.0"
        )
    };
    let rest = |name: &str| server.http(&get_with(&core(name), "Range: bytes=1000-\r\n"));
    server.get(&core("V0017")).must_be_file(&old).unwrap();
    let new = noise(23, 7000);
    server.drop_firmware("P/2.0.2/update.bin", &new);
    server.wait_until_offered(&check(OTHER), &new);
    must_be_rest_or_416(&rest("V0018"), &old, 1000);
    rest("V0017").must_be_part(&old, 1000, old.len()).unwrap();
    // Also if another device with this id and that core begins the new file.
    server.get(&core("V0018")).must_be_file(&new).unwrap();
    for name in ["V0017", "V0018"] {
        assert_eq!(rest(name).status, 416);
    }
}
