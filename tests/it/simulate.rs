//! Promise: `luat-ota simulate` runs a fleet against a server and counts the results correctly, with
//! equal results for an equal seed, and no image that this server sends is ever corrupt.
#![cfg(feature = "lab")]

use crate::common;

use std::io::{Read, Write};
use std::net::TcpListener;

use common::packages::noise;
use common::{Place, Server, both, luat, run};
use serde_json::{Value, json};

const FIRST: &str = "862991440000000";

fn server(rules: Value, size: usize) -> (Server, Vec<u8>) {
    let place = Place::new();
    let bytes = noise(60, size);
    place.rules("P/release.json", rules);
    place.drop_firmware("P/1.0.3/update.bin", &bytes);
    let server = Server::start_in(place, &[]);
    server.wait_until_offered(&luat("P", FIRST, "1.0.0"), &bytes);
    (server, bytes)
}

fn simulate(flags: &[&str]) -> (Value, i32) {
    let mut arguments = vec!["simulate", "--json", "--project", "P", "--imei", FIRST];
    arguments.extend(flags);
    let output = run(&arguments);
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let report = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{}", both(&output)));
    (report, output.status.code().unwrap())
}

/// The counts that must be equal for the same seed: all except the times.
fn counts(report: &Value) -> Vec<(String, u64)> {
    let names = [
        "updated",
        "refused",
        "failed",
        "fell_back",
        "unfinished",
        "cut",
        "corrupt_images",
    ];
    names
        .iter()
        .map(|name| ((*name).to_owned(), report[*name].as_u64().unwrap()))
        .collect()
}

#[test]
fn three_hundred_devices_update_over_http_in_spite_of_lost_links() {
    let (server, bytes) = server(
        // For the server, the second fleet is the first one, which has fallen back to its old version.
        json!({ "fuse": { "devices": 1000, "percent": 100 } }),
        40_000,
    );
    let file = server.place().root.join("expected");
    std::fs::write(&file, &bytes).unwrap();
    let url = format!("http://{}/luat/update", server.http);
    let flags = [
        "--http",
        &url,
        "--devices",
        "300",
        "--to",
        "1.0.3",
        "--cut",
        "20",
        "--fail",
        "5",
        "--interval",
        "20",
        "--speed",
        "20",
        "--latency",
        "50",
        "--bandwidth",
        "20000",
        "--seed",
        "7",
        "--expect",
        file.to_str().unwrap(),
    ];
    let (report, status) = simulate(&flags);
    assert_eq!(status, 0, "{report:#}");
    let number = |name: &str| report[name].as_u64().unwrap();
    assert_eq!(number("updated") + number("fell_back"), 300);
    assert!((5..=30).contains(&number("fell_back")), "{report:#}");
    assert!((30..=90).contains(&number("cut")), "{report:#}");
    assert_eq!((number("corrupt_images"), number("server_errors")), (0, 0));
    let images = number("updates") * bytes.len() as u64;
    assert!(number("received_bytes") >= images && number("wasted_bytes") > 0);
    let [half, all] = ["seconds_to_50", "seconds_to_100"].map(|it| report[it].as_f64().unwrap());
    assert!(
        half > 2.0 && half <= all && all <= report["seconds"].as_f64().unwrap(),
        "{report:#}"
    );
    // The same seed creates the same fleet.
    let (again, _) = simulate(&flags);
    assert_eq!(counts(&report), counts(&again));
    let other: Vec<&str> = flags
        .iter()
        .map(|f| if *f == "7" { "8" } else { f })
        .collect();
    assert_ne!(counts(&report), counts(&simulate(&other).0));
}

#[test]
fn a_hundred_devices_update_over_udp_with_loss() {
    let (server, _) = server(json!({}), 20_440);
    let udp = server.udp.to_string();
    let (report, status) = simulate(&[
        "--udp",
        &udp,
        "--devices",
        "100",
        "--loss",
        "2",
        "--interval",
        "30",
        "--speed",
        "100",
        "--to",
        "1.0.3",
        "--mix",
        "udp",
        "--cut",
        "10",
        "--seed",
        "3",
    ]);
    assert_eq!(status, 0, "{report:#}");
    assert_eq!(
        (
            report["updated"].as_u64(),
            report["corrupt_images"].as_u64()
        ),
        (Some(100), Some(0))
    );
}

#[test]
fn refused_modules_are_counted_and_stay_within_their_rounds() {
    let (server, _) = server(
        json!({ "allow": [format!("{FIRST}-862991440000019")] }),
        5_000,
    );
    let (http, udp) = (format!("http://{}/u", server.http), server.udp.to_string());
    let (report, status) = simulate(&[
        "--http",
        &http,
        "--udp",
        &udp,
        "--devices",
        "50",
        "--interval",
        "1",
        "--rounds",
        "2",
        "--speed",
        "10",
    ]);
    assert_eq!(status, 0, "{report:#}");
    assert_eq!(
        (report["updated"].as_u64(), report["refused"].as_u64()),
        (Some(20), Some(30))
    );
    assert_eq!(report["attempts"].as_u64(), Some(20 + 2 * 30));
}

#[test]
fn a_server_that_sends_wrong_bytes_is_reported() {
    // Every third reply has one changed byte with the same ETag; after 30 replies the server sends 503.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/u", listener.local_addr().unwrap());
    let file = noise(61, 3000);
    std::thread::spawn(move || {
        for (count, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n > 0) {
                request.push(byte[0]);
            }
            let mut body = file.clone();
            if count % 3 == 2 {
                body[1500] ^= 1;
            }
            let head = format!(
                "HTTP/1.1 200 OK\r\nETag: \"a\"\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            let reply = match count {
                30.. => {
                    b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec()
                }
                _ => [head.as_bytes(), &body].concat(),
            };
            let _ = stream.write_all(&reply);
        }
    });
    let (report, status) = simulate(&[
        "--http",
        &url,
        "--devices",
        "40",
        "--mix",
        "luatask-2g",
        "--interval",
        "1",
        "--rounds",
        "1",
    ]);
    assert_eq!(status, 1, "{report:#}");
    assert_eq!(report["corrupt_images"].as_u64(), Some(10));
    assert_eq!(report["server_errors"].as_u64(), Some(10));
    assert_eq!(report["wasted_bytes"].as_u64(), Some(0));
}

#[test]
fn a_run_ends_when_its_time_is_over() {
    // A server that accepts connections and sends nothing.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/u", listener.local_addr().unwrap());
    let (report, status) = simulate(&[
        "--http",
        &url,
        "--devices",
        "20",
        "--interval",
        "1",
        "--duration",
        "10",
        "--speed",
        "10",
    ]);
    assert_eq!(
        (status, report["unfinished"].as_u64()),
        (1, Some(20)),
        "{report:#}"
    );
}

#[test]
fn no_address_of_another_machine_gets_requests() {
    // An address of the range for documentation, which no machine has.
    let output = run(&["simulate", "--http", "http://192.0.2.1/u"]);
    let text = both(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("is not on this machine") && text.contains("--yes-really"),
        "{text}"
    );
    // A redirect to such an address is not followed.
    let (server, _) = server(json!({ "redirect": "http://192.0.2.1/{file}" }), 3_000);
    let url = format!("http://{}/u", server.http);
    let output = run(&[
        "simulate",
        "--http",
        &url,
        "--project",
        "P",
        "--imei",
        FIRST,
        "--devices",
        "20",
        "--interval",
        "1",
    ]);
    let text = both(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("updated         20"), "{text}");
    assert!(text.contains("corrupt images  0"), "{text}");
}
