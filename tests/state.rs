//! Promise: what the state folder holds may be lost, old or wrong, and no module gets a wrong byte for
//! it; the server heals what it can.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![allow(missing_docs)]

mod common;

use common::{IMEI, PATIENCE, Place, Server, luat};

/// Not text, so that it is taken for firmware.
fn firmware(seed: u8) -> Vec<u8> {
    (0..5000u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8 ^ seed)
        .collect()
}

/// A folder whose one release was offered by a server that has stopped since.
fn served_once(bytes: &[u8]) -> Place {
    let server = Server::start(&[]);
    server.drop_firmware("P/2.0.0/update.bin", bytes);
    server.wait_until_offered(&luat("P", IMEI, "1.0.0"), bytes);
    server.terminate()
}

#[test]
fn a_wrong_recorded_hash_heals_and_serves_no_wrong_byte() {
    let bytes = firmware(1);
    let place = served_once(&bytes);
    let table = place.state().join("hashes.jsonl");
    let text = std::fs::read_to_string(&table).unwrap();
    let at = text.find("\"sha256\":\"").unwrap() + "\"sha256\":\"".len();
    let wrong = format!("{}{}{}", &text[..at], "ab".repeat(32), &text[at + 64..]);
    std::fs::write(&table, wrong).unwrap();
    let server = Server::start_in(place, &[]);
    let target = luat("P", IMEI, "1.0.0");
    let healed = server.wait_for_reply(&common::get(&target), PATIENCE, |reply| {
        assert!(reply.status != 200 || reply.body == bytes, "wrong bytes");
        reply.status == 200
    });
    assert_eq!(healed.unwrap().body, bytes);
}

#[test]
fn a_damaged_table_of_hashes_only_costs_reading_the_files_again() {
    let bytes = firmware(2);
    let mut place = served_once(&bytes);
    for damage in [
        "",
        "not JSON\n",
        "\u{0}\u{0}{\"luat-ota\":\"hashes\"",
        "{}\n{}\n[1,2",
    ] {
        std::fs::write(place.state().join("hashes.jsonl"), damage).unwrap();
        let server = Server::start_in(place, &[]);
        server.wait_until_offered(&luat("P", IMEI, "1.0.0"), &bytes);
        place = server.terminate();
    }
}

#[test]
fn a_secret_that_cannot_be_read_is_said_and_nothing_is_served_with_another() {
    let place = served_once(&firmware(3));
    std::fs::write(place.state().join("secret"), "half").unwrap();
    let arguments = common::serve_arguments(&place, &[]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let output = common::run(&arguments);
    assert_eq!(output.status.code(), Some(1));
    let said = common::both(&output);
    assert!(said.contains("secret") && said.contains("delete"), "{said}");
}
