//! Promise: the event stream shows checks and downloads when they happen, and slow readers use no resources of others.
#![cfg(feature = "operator")]

use crate::common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use common::operator::Operator;
use common::packages::noise;
use common::{IMEI, PATIENCE, Server, connect_from, luat, wait_until};
use serde_json::{Value, json};

#[test]
fn the_event_stream_shows_checks_and_downloads_at_once() {
    let (server, operator) = Operator::with_releases();
    let mut stream = operator.connect();
    let request = operator.request("GET /api/v1/events", true, "", b"");
    stream.write_all(&request).unwrap();
    let mut lines = BufReader::new(stream).lines();
    // The stream is connected as soon as the first comment arrives. All later events are sent.
    while !lines.next().unwrap().unwrap().starts_with(": hello") {}
    let mut next = |name: &str, fits: &dyn Fn(&Value) -> bool| -> Value {
        let start = Instant::now();
        let mut event = String::new();
        loop {
            assert!(start.elapsed() < PATIENCE, "no {name}");
            let line = lines.next().unwrap().unwrap();
            if let Some(found) = line.strip_prefix("event: ") {
                event = found.to_owned();
            }
            if let Some(data) = line.strip_prefix("data: ")
                && event == name
            {
                let data: Value = serde_json::from_str(data).unwrap();
                if fits(&data) {
                    return data;
                }
            }
        }
    };
    server.get(&luat("P", IMEI, "1.0.0"));
    let check = next("check", &|_| true);
    assert_eq!(
        (&check["device"], &check["verdict"], &check["to"]),
        (&json!(IMEI), &json!("offer"), &json!("2.0.0"))
    );
    let download = next("download", &|download| !download["result"].is_null());
    assert_eq!(
        (&download["result"], &download["bytes"], &download["size"]),
        (&json!("complete"), &json!(5000), &json!(5000))
    );
    server.get(&luat("Z", IMEI, "1.0.0"));
    let refused = next("check", &|check| check["verdict"] == "refuse");
    assert_eq!(refused["project"], "Z");
    operator.send("PUT", "/api/v1/firmware/P/4.0.0/u.bin", "", &noise(7, 1000));
    next("catalog", &|_| true);
}

#[test]
fn event_streams_are_limited_and_end_at_a_stop() {
    let server = Server::start(&[]);
    let operator = Operator::of(&server);
    let request = operator.request("GET /api/v1/events", true, "", b"");
    let mut readers: Vec<_> = (0..16)
        .map(|_| {
            let mut stream = operator.connect();
            stream.write_all(&request).unwrap();
            let mut reader = BufReader::new(stream);
            let mut line = String::new();
            while !line.starts_with(": hello") {
                line.clear();
                assert!(reader.read_line(&mut line).unwrap() > 0);
            }
            reader
        })
        .collect();
    assert_eq!(operator.ask(&request).status, 503);
    readers.truncate(15);
    common::wait_until("one has room again", PATIENCE, || {
        let mut stream = operator.connect();
        stream.write_all(&request).unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        line.starts_with("HTTP/1.1 200")
    });
    let _place = server.terminate();
    for mut reader in readers {
        let mut line = String::new();
        while reader.read_line(&mut line).is_ok_and(|read| read > 0) {}
        assert!(line.ends_with("0\r\n\r\n"), "{line:?}");
    }
}

#[test]
fn a_reader_of_events_that_stops_is_closed_and_costs_no_memory() {
    let (server, operator) = Operator::with_releases();
    let request = operator.request("GET /api/v1/events", true, "", b"");
    let looks_on = || -> Option<TcpStream> {
        let mut stream = connect_from(None, operator.address, 4096);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&request).unwrap();
        let mut word = [0; 12];
        stream.read_exact(&mut word).unwrap();
        (&word == b"HTTP/1.1 200").then_some(stream)
    };
    let stopped: Vec<_> = (0..16).map(|_| looks_on().unwrap()).collect();
    assert!(looks_on().is_none(), "there is room for sixteen");
    let before = server.resident();
    // Far more bytes than the socket buffers hold.
    let refused = luat("P", IMEI, "2.0.0");
    let start = Instant::now();
    let mut asked = 0;
    let mut slowest = Duration::ZERO;
    while start.elapsed() < Duration::from_secs(10) && asked < 20_000 {
        let one = Instant::now();
        assert_eq!(server.get(&refused).status, 404);
        slowest = slowest.max(one.elapsed());
        asked += 1;
    }
    let grown = server.resident().saturating_sub(before);
    println!("{asked} checks, the slowest {slowest:?}, {grown} KiB more");
    assert!(grown < 16 * 1024, "{grown} KiB more after {asked} checks");
    // Streams whose readers read nothing for half a minute have been closed.
    wait_until("there is room again", PATIENCE * 3, || {
        server.get(&refused);
        looks_on().is_some()
    });
    drop(stopped);
}
