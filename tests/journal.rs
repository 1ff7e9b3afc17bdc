//! Promise: what a download began with outlives the server. After a kill a module goes on in the very
//! file that it began, wherever that lies now, or hears 416; it never gets other bytes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![allow(missing_docs)]

mod common;

use common::packages::noise;
use common::{IMEI, Place, Server, SlowDownload, get, get_with, luat, wait_until};

const OTHER: &str = "862991443750002";
const SIZE: usize = 3_000_000;

fn check(imei: &str) -> String {
    luat("P", imei, "1.0.0")
}

/// A server that was killed in the middle of a download, and a place that the download has passed.
fn killed(bytes: &[u8]) -> (Place, usize) {
    let server = Server::start(&[]);
    server.drop_firmware("P/2.0.0/update.bin", bytes);
    server.wait_until_offered(&check(OTHER), bytes);
    let download = SlowDownload::begin(server.http, &get(&check(IMEI)), 100_000);
    let journal = server.place().state().join("journal.jsonl");
    wait_until("the pin is in the journal", common::PATIENCE, || {
        // The other's pin, and ours.
        let text = std::fs::read_to_string(&journal).unwrap_or_default();
        text.matches("{\"pin\"").count() >= 2
    });
    let place = server.kill();
    assert!(download.finish().is_err());
    (place, 50_000)
}

fn resume(from: usize) -> Vec<u8> {
    get_with(&check(IMEI), &format!("Range: bytes={from}-\r\n"))
}

#[test]
fn a_module_goes_on_after_a_kill_in_the_file_that_it_began() {
    let bytes = noise(1, SIZE);
    let (place, from) = killed(&bytes);
    let server = Server::start_in(place, &[]);
    // A file that was dropped a moment before the kill has to settle again.
    server.wait_until_offered(&check(OTHER), &bytes);
    let reply = server.http(&resume(from));
    reply.must_be_part(&bytes, from, bytes.len()).unwrap();
}

#[test]
fn a_file_that_was_renamed_while_the_server_was_down_is_the_same_file() {
    let bytes = noise(2, SIZE);
    let (place, from) = killed(&bytes);
    let firmware = place.firmware();
    std::fs::create_dir_all(firmware.join("P/3.0.0")).unwrap();
    std::fs::rename(
        firmware.join("P/2.0.0/update.bin"),
        firmware.join("P/3.0.0/renamed.bin"),
    )
    .unwrap();
    // And something newer lies beside it.
    place.drop_firmware("P/4.0.0/update.bin", &noise(3, SIZE));
    let server = Server::start_in(place, &[]);
    server.wait_until_offered(&check(OTHER), &noise(3, SIZE));
    let reply = server.http(&resume(from));
    reply.must_be_part(&bytes, from, bytes.len()).unwrap();
}

#[test]
fn a_module_whose_file_is_gone_after_a_kill_gets_no_other_bytes() {
    let bytes = noise(4, SIZE);
    let (place, from) = killed(&bytes);
    std::fs::remove_file(place.firmware().join("P/2.0.0/update.bin")).unwrap();
    let other = noise(5, SIZE);
    place.drop_firmware("P/2.0.1/update.bin", &other);
    let server = Server::start_in(place, &[]);
    server.wait_until_offered(&check(OTHER), &other);
    assert_eq!(server.http(&resume(from)).status, 416);
}
