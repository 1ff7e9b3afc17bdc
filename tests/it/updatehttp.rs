//! Promise: the first edition's 2G client over HTTP installs files of any size. The client fails if it receives the
//! end of the head together with the whole body, so only this client gets them in separate segments; every other
//! client gets both at once. The module is the strict emulation of `luat_ota::modems`, over real sockets.
#![cfg(feature = "lab")]

use crate::common;

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use common::packages::noise;
use common::{PATIENCE, Place, Server, connect_from, luat, reply};
use luat_ota::modems::driver::{Played, Settings, play};
use luat_ota::modems::updatehttp::UpdateHttp;
use luat_ota::modems::{Endpoint, Identity, Outcome};

/// A server with a project for each of these sizes, and the files.
fn server(sizes: &[usize]) -> (Server, Vec<Vec<u8>>) {
    let place = Place::new();
    // Noise of one or two bytes would be a text to the module.
    let file = |size: &usize| match size {
        1 | 2 => vec![0; *size],
        _ => noise(*size as u64, *size),
    };
    let files: Vec<_> = sizes.iter().map(file).collect();
    for (size, bytes) in sizes.iter().zip(&files) {
        place.drop_firmware(&format!("P{size}/1.0.1/update.bin"), bytes);
    }
    let server = Server::start_in(place, &[]);
    for (size, bytes) in sizes.iter().zip(&files) {
        let asks = luat(&format!("P{size}"), "862991443750002", "1.0.0");
        server.wait_until_offered(&asks, bytes);
    }
    (server, files)
}

fn update(server: &Server, project: &str, settings: &Settings) -> Played {
    let endpoint = Endpoint {
        host: server.http.ip().to_string(),
        port: server.http.port(),
        path: "/api/site/firmware_upgrade".to_owned(),
    };
    let identity = Identity {
        imei: common::IMEI.to_owned(),
        project: project.to_owned(),
        version: "1.0.0".to_owned(),
        core: 35,
        bsp: None,
        key: "KEY".to_owned(),
        serial: String::new(),
    };
    let mut module = UpdateHttp::new(&identity, &endpoint);
    smol::block_on(play(&mut module, settings))
}

fn request(size: usize, last: &str) -> Vec<u8> {
    format!(
        "GET /api/site/firmware_upgrade?project_key=KEY&imei={}&device_key=&firmware_name=\
         P{size}_Luat_V0035_8955&version=1.0.0 HTTP/1.1\r\nConnection: keep-alive\r\nHost: x\r\n{last}\r\n",
        common::IMEI
    )
    .into_bytes()
}

// Case 34.
#[test]
fn a_file_of_300_bytes_and_every_other_small_file_updates() {
    let sizes = [1, 2, 300, 900, 1100, 1300, 1400, 1500, 16_384, 40_000];
    let (server, files) = server(&sizes);
    for (size, bytes) in sizes.iter().zip(&files) {
        let played = update(
            &server,
            &format!("P{size}"),
            &Settings::probing(Duration::from_secs(20)),
        );
        assert_eq!(played.outcome, Outcome::Updated(bytes.clone()), "{size}");
    }
}

// Case 34.
#[test]
fn a_module_with_a_slow_link_updates() {
    let (server, files) = server(&[300]);
    for latency in [50, 400] {
        let settings = Settings {
            latency: Duration::from_millis(latency),
            ..Settings::probing(Duration::from_secs(20))
        };
        let played = update(&server, "P300", &settings);
        assert_eq!(played.outcome, Outcome::Updated(files[0].clone()));
    }
}

// Case 34.
#[test]
fn the_head_arrives_alone_and_the_body_later() {
    let (server, files) = server(&[300]);
    let mut stream = connect_from(None, server.http, 0);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&request(300, "")).unwrap();
    let mut head = [0; 4096];
    let read = stream.read(&mut head).unwrap();
    let came = Instant::now();
    assert!(head[..read].ends_with(b"\r\n\r\n"), "the head alone");
    assert!(head.starts_with(b"HTTP/1.1 200 OK\r\n"));
    let mut body = Vec::new();
    stream.read_to_end(&mut body).unwrap();
    assert_eq!(body, files[0]);
    assert!(came.elapsed() >= Duration::from_millis(100));
}

#[test]
fn every_other_client_gets_head_and_body_at_once() {
    let (server, files) = server(&[300]);
    let luatask = common::get(&luat("P300", common::IMEI, "1.0.0"));
    for request in [luatask, request(300, "Range: bytes=0-\r\n")] {
        let mut stream = connect_from(None, server.http, 0);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&request).unwrap();
        let mut first = [0; 4096];
        let read = stream.read(&mut first).unwrap();
        assert!(first[..read].ends_with(&files[0]), "all in one segment");
    }
}

#[test]
fn a_refusal_stays_in_one_segment_and_a_client_that_closes_early_leaves_nothing() {
    let (server, files) = server(&[300]);
    let newest = String::from_utf8(request(300, "")).unwrap();
    let newest = newest.replace("version=1.0.0", "version=1.0.1");
    server.http(newest.as_bytes()).must_refuse(404, 27).unwrap();
    let mut stream = connect_from(None, server.http, 0);
    stream.write_all(&request(300, "")).unwrap();
    let mut byte = [0];
    stream.read_exact(&mut byte).unwrap();
    let mark = server.log_mark();
    drop(stream);
    let line = server.log.wait(mark, PATIENCE, |line| {
        line.contains("\"event\":\"download\"") && line.contains(common::IMEI)
    });
    let line = line.expect("its end is logged");
    assert!(line.contains("\"result\":\"cut\""), "{line}");
    // The next request is served as usual.
    let mut stream = connect_from(None, server.http, 0);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&request(300, "")).unwrap();
    let reply = reply::read(&mut stream, false).unwrap();
    assert_eq!(reply.body, files[0]);
}
