//! Tests of which downloads may begin, which wait, and how the uplink is shared.

use sha2::{Digest, Sha256};

use super::*;
use crate::firmware::ContentId;
use crate::fleet::network::Network;

/// Starts a download, reads a part of it, and leaves it running.
fn begin(server: &Server, imei: &str) -> TcpStream {
    let mut stream = server.connect();
    stream.write_all(check(imei, "").as_bytes()).unwrap();
    read_part(&mut stream, 1000);
    stream
}

fn one_at_a_time(wait: Duration) -> Server {
    let server = Server::with(Limits {
        max_downloads: 1,
        download_wait: wait,
        ..Limits::default()
    });
    server.publish(&[("P/2.0.0/u.bin", &firmware(1, 8 << 20))]);
    server
}

const LONG: Duration = Duration::from_secs(60);

/// Sends a request, and waits until its connection has a seat. Another thread reads the reply.
fn ask_and_wait(server: &Server, request: String) -> JoinHandle<ReceivedReply> {
    let before = server.call(|service| service.seats.len());
    let mut stream = server.connect();
    stream.write_all(request.as_bytes()).unwrap();
    wait_until("one more connection", || {
        server.call(|service| service.seats.len()) > before
    });
    std::thread::spawn(move || read_reply(stream))
}

#[test]
fn the_next_download_waits_until_one_ends() {
    let server = one_at_a_time(LONG);
    let first = begin(&server, IMEI);
    let second = ask_and_wait(&server, check("862991443753387", ""));
    let third = ask_and_wait(&server, check("862991443753388", ""));
    assert_eq!(server.call(|service| service.running_downloads()), 1);
    std::thread::sleep(Duration::from_millis(100));
    assert!(!second.is_finished() && !third.is_finished());
    drop(first);
    for waited in [second, third] {
        let got = waited.join().unwrap();
        assert_eq!((got.status, got.body.len()), (200, 8 << 20));
    }
    server.wait_for_downloads(0);
    assert_eq!(server.call(|service| service.downloads.slots_held()), 0);
}

#[test]
fn a_download_that_waits_too_long_gets_503_and_is_counted() {
    let server = one_at_a_time(Duration::from_millis(300));
    let _first = begin(&server, IMEI);
    let start = Instant::now();
    let got = server.ask(&check("862991443753387", ""));
    assert!(start.elapsed() >= Duration::from_millis(300));
    assert_eq!(got.status, 503);
    assert!(got.header("Retry-After").is_some());
    assert!(got.body.starts_with(b"{\"code\":43,"));
    let full = server.call(|service| service.fleet.borrow().tally.checks[0][11]);
    assert_eq!(full, 1);
    let refusals = server.call(|service| service.fleet.borrow().tally.refusals);
    assert_eq!(refusals, [0, 1]);
}

#[test]
fn refusals_are_immediate_while_downloads_wait() {
    let server = one_at_a_time(LONG);
    let _first = begin(&server, IMEI);
    let waits = ask_and_wait(&server, check("862991443753387", ""));
    let start = Instant::now();
    let newest = check("862991443753388", "").replace("1.0.0", "2.0.0");
    assert_eq!(server.ask(&newest).status, 404);
    assert_eq!(server.ask(&newest.replace("=P_", "=Q_")).status, 403);
    assert!(start.elapsed() < Duration::from_secs(5));
    assert!(!waits.is_finished());
    server.stop.raise();
    assert_eq!(waits.join().unwrap().status, 503, "the server stops");
}

#[test]
fn a_resumed_download_goes_before_waiting_ones() {
    let server = one_at_a_time(LONG);
    let begun = "862991443753387";
    assert_eq!(
        server.ask(&check(begun, "Range: bytes=0-99\r\n")).status,
        206
    );
    server.wait_for_downloads(0);
    let _first = begin(&server, IMEI);
    let waits = ask_and_wait(&server, check("862991443753388", ""));
    let rest = server.ask(&check(begun, "Range: bytes=100-299\r\n"));
    assert_eq!((rest.status, rest.body.len()), (206, 200));
    assert!(!waits.is_finished());
    server.stop.raise();
    waits.join().unwrap();
}

#[test]
fn a_module_that_asks_by_packets_is_refused_at_once() {
    let server = one_at_a_time(LONG);
    let socket = server.udp_client();
    let ask = |text: &str| {
        socket.send(text.as_bytes()).unwrap();
        let mut buffer = [0; 2000];
        let length = socket.recv(&mut buffer).unwrap();
        buffer[..length].to_vec()
    };
    let check = format!("{IMEI},P_Luat_V0035_8955,1.0.0");
    let offer = String::from_utf8(ask(&check)).unwrap();
    let id = offer.split(',').nth(1).unwrap().to_owned();
    let first = begin(&server, "862991443753387");
    assert_eq!(ask(&check), b"no upgrade");
    // The packets of an earlier offer are still sent.
    assert_eq!(ask(&format!("Get1,{id}")).len(), 1024);
    drop(first);
    // Now the download by packets is the one that runs.
    server.wait_for_downloads(1);
    wait_until("one slot is held", || {
        server.call(|service| service.downloads.slots_held()) == 1
    });
    let waits = ask_and_wait(&server, super::check("862991443753388", ""));
    assert!(!waits.is_finished());
    server.stop.raise();
    waits.join().unwrap();
}

#[test]
fn two_downloads_share_the_uplink() {
    const UPLINK: u64 = 2 << 20;
    let server = Server::with(Limits {
        uplink: Some(UPLINK),
        ..Limits::default()
    });
    server.publish(&[("P/2.0.0/u.bin", &firmware(1, 32 << 20))]);
    let streams = [IMEI, "862991443753387"].map(|imei| begin(&server, imei));
    // Both downloads run now.
    let start = Instant::now();
    let downloads: Vec<JoinHandle<u64>> = streams
        .map(|mut stream| {
            std::thread::spawn(move || {
                // Bytes that were buffered before both downloads ran are not counted.
                let mut buffer = vec![0; 64 * 1024];
                let mut read = 0;
                while start.elapsed() < Duration::from_secs(5) {
                    let got = stream.read(&mut buffer).unwrap() as u64;
                    if start.elapsed() > Duration::from_secs(2) {
                        read += got;
                    }
                }
                read
            })
        })
        .into();
    let read: Vec<u64> = downloads
        .into_iter()
        .map(|download| download.join().unwrap())
        .collect();
    let fair = UPLINK / 2 * 3;
    for got in &read {
        assert!((fair / 2..fair * 2).contains(got), "{read:?}, fair: {fair}");
    }
}

#[test]
fn ids_cannot_be_found_by_trial_and_a_running_download_continues() {
    let server = Server::with(Limits {
        udp_errors_per_second: 1,
        ..Limits::default()
    });
    let (one, other) = (firmware(1, 50_000), firmware(2, 50_000));
    server.publish(&[("P/2.0.0/u.bin", &one), ("Q/2.0.0/u.bin", &other)]);
    let socket = server.udp_client();
    let mut buffer = [0; 2000];
    let mut ask = |text: &str| {
        socket.send(text.as_bytes()).unwrap();
        let length = socket.recv(&mut buffer).unwrap();
        buffer[..length].to_vec()
    };
    let offer = String::from_utf8(ask(&format!("{IMEI},P_Luat_V0035_8955,1.0.0"))).unwrap();
    let id: u32 = offer.split(',').nth(1).unwrap().parse().unwrap();
    assert_eq!(ask(&format!("Get1,{id}")).len(), 1024);
    // A valid id that was given to no client.
    let content = ContentId(Sha256::digest(&other).into());
    let secret = server.call(move |service| {
        let here = Network::of(std::net::Ipv4Addr::LOCALHOST.into());
        service
            .ids
            .make(content, here, crate::fleet::clock::unix_now())
    });
    let guess = format!("Get2,{secret}");
    assert_eq!(
        ask(&guess)[2..],
        other[1022..2044],
        "while there are tokens"
    );
    // Another client in this network tries ids.
    let guesser = server.udp_client();
    for wrong in 0..200 {
        let wrong = format!("Get1,{}", id ^ (1 + wrong));
        guesser.send(wrong.as_bytes()).unwrap();
    }
    guesser.send(guess.as_bytes()).unwrap();
    let mut packets = 0;
    for number in 2..=49 {
        assert_eq!(
            ask(&format!("Get{number},{id}")).len(),
            if number == 49 { 946 } else { 1024 }
        );
        packets += 1;
    }
    assert_eq!(packets, 48);
    guesser.set_nonblocking(true).unwrap();
    let mut errors = 0;
    while let Ok(length) = guesser.recv(&mut [0; 2000]) {
        assert_eq!(length, 3, "a guess was answered");
        errors += 1;
    }
    assert!((4..=8).contains(&errors), "{errors}");
}

#[test]
fn a_connection_evicted_while_it_waited_is_recorded() {
    let server = Server::with(Limits {
        max_downloads: 1,
        download_wait: LONG,
        max_connections: Some(2),
        ..Limits::default()
    });
    server.publish(&[("P/2.0.0/u.bin", &firmware(1, 8 << 20))]);
    let _first = begin(&server, IMEI);
    let mut waits = server.connect();
    waits
        .write_all(check("862991443753387", "").as_bytes())
        .unwrap();
    wait_until("two connections", || {
        server.call(|service| service.seats.len()) == 2
    });
    let mut new = server.connect();
    new.write_all(b"GET /healthz").unwrap();
    assert_eq!(waits.read(&mut [0]).unwrap_or(0), 0);
    let full = server.call(|service| service.fleet.borrow().tally.checks[0][11]);
    assert_eq!(full, 1);
    new.write_all(b" HTTP/1.1\r\n\r\n").unwrap();
    assert_eq!(read_reply(new).status, 200);
}
