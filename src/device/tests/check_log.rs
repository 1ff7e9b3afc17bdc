//! Tests of the records of checks and downloads: counters, events, and the fleet's data.

use std::cell::RefCell;

use smol::channel::Receiver;

use super::*;
use crate::device::delivery::Transmission;
use crate::device::plan::Answer;
use crate::device::seats::Seat;
use crate::device::slots::Download;
use crate::firmware::audience::DeviceId;
use crate::fleet::events::Event;
use crate::fleet::journal::Written;
use crate::fleet::network::Network;
use crate::fleet::progress::State;
use crate::fleet::tally::{ENDINGS, Tally};

thread_local! {
    /// The reader of events on the serving thread.
    static READER: RefCell<Option<Receiver<Rc<Event>>>> = const { RefCell::new(None) };
}

fn subscribe(server: &Server) {
    server.call(|service| {
        let reader = service.fleet.borrow_mut().events.subscribe();
        READER.set(reader);
    });
}

fn take_events(server: &Server) -> Vec<Event> {
    server.call(|_| {
        READER.with_borrow(|reader| {
            let reader = reader.as_ref().unwrap();
            std::iter::from_fn(|| reader.try_recv().ok())
                .map(|event| (*event).clone())
                .collect()
        })
    })
}

/// Number of times that this verdict was given by this protocol (0: http, 1: udp, 2: tcp).
fn counted(server: &Server, proto: usize, verdict: &str) -> u64 {
    let at = Tally::VERDICTS.iter().position(|word| *word == verdict);
    let at = at.unwrap();
    server.call(move |service| service.fleet.borrow().tally.checks[proto][at])
}

fn ended(server: &Server, ending: &str) -> u64 {
    let at = ENDINGS.iter().position(|word| *word == ending).unwrap();
    server.call(move |service| service.fleet.borrow().tally.downloads[at])
}

fn no_seats(server: &Server) {
    wait_until("no connection is left", || {
        server.call(|service| service.seats.is_empty())
    });
}

#[test]
fn every_kind_of_check_is_counted() {
    let server = Server::start();
    subscribe(&server);
    let ask = |project: &str, version: &str, headers: &str| {
        let request = check(IMEI, headers)
            .replace("=P_", &format!("={project}_"))
            .replace("1.0.0", version);
        server.ask(&request).status
    };
    assert_eq!(ask("P", "1.0.0", ""), 503);
    server.publish(&[
        ("P/2.0.0/u.bin", &firmware(1, 3000)),
        ("PAUSED/2.0.0/u.bin", &firmware(2, 3000)),
        ("PAUSED/release.json", br#"{"paused": true}"#),
        ("OTHERS/2.0.0/u.bin", &firmware(3, 3000)),
        ("OTHERS/release.json", br#"{"allow": ["862991440000000"]}"#),
        ("KEYED/2.0.0/u.bin", &firmware(4, 3000)),
        ("KEYED/release.json", br#"{"project_key": "k"}"#),
        (
            "CHIP/2.0.0/CHIP_2.0.0_Luat_V0035_8955.bin",
            &firmware(5, 3000),
        ),
    ]);
    for (project, version, headers, status, verdict) in [
        ("P", "1.0.0", "Range: bytes=0-999\r\n", 206, "offer"),
        ("P", "1.0.0", "Range: bytes=1000-\r\n", 206, "resume"),
        ("P", "2.0.0", "", 404, "nothing_newer"),
        ("PAUSED", "1.0.0", "", 404, "not_now"),
        ("OTHERS", "1.0.0", "", 403, "not_this_device"),
        ("NONE", "1.0.0", "", 403, "unknown_project"),
        ("KEYED", "1.0.0", "", 403, "wrong_key"),
        ("CHIP", "1.0.0", "", 404, "no_package"),
        ("P", "what", "", 404, "version_unreadable"),
        ("PAUSED", "1.0.0", "Range: bytes=7-\r\n", 404, "not_now"),
        ("P", "1.1.0", "Range: bytes=7-\r\n", 416, "cannot_resume"),
    ] {
        let before = counted(&server, 0, verdict);
        let got = ask(project, version, headers);
        assert_eq!(counted(&server, 0, verdict), before + 1, "{verdict} {got}");
        assert!(got == status || verdict != "offer", "{verdict} {got}");
    }
    assert_eq!(counted(&server, 0, "full"), 1);
    let checks: u64 = server.call(|s| s.fleet.borrow().tally.checks[0].iter().sum());
    assert_eq!(checks, 12);
    no_seats(&server);
    let events = take_events(&server);
    let of_checks = events.iter().filter(|e| matches!(e, Event::Check { .. }));
    assert_eq!(of_checks.count(), 12);
    let resumed = events.iter().any(|event| {
        matches!(event, Event::Check { verdict: "resume", subject, .. }
            if subject.proto == "http" && &*subject.to == "2.0.0" && &*subject.device == IMEI)
    });
    assert!(resumed, "{events:?}");

    let socket = server.udp_client();
    for check in [
        "P_Luat_V0035_8955,1.0.0",
        "P_Luat_V0035_8955,2.0.0",
        "hello, here I am",
    ] {
        socket
            .send(
                format!("{IMEI},{check}")
                    .replace(&format!("{IMEI},hello"), "hello")
                    .as_bytes(),
            )
            .unwrap();
        socket.recv(&mut [0; 100]).unwrap();
    }
    assert_eq!(counted(&server, 1, "offer"), 1);
    assert_eq!(counted(&server, 1, "nothing_newer"), 1);
    let mut stream = connect(server.tcp);
    stream
        .write_all(format!("{IMEI},P_Luat_V0035_8955,2.0.0").as_bytes())
        .unwrap();
    assert!(stream.read(&mut [0; 100]).unwrap() > 0);
    assert_eq!(counted(&server, 2, "nothing_newer"), 1);
    assert_eq!(server.ask("what is this\r\n\r\n").status, 400);
    assert_eq!(server.call(|s| s.fleet.borrow().tally.malformed), 2);
}

#[test]
fn every_download_is_counted_with_its_bytes() {
    let server = Server::with(Limits {
        stall_timeout: Duration::from_millis(400),
        ..Limits::default()
    });
    subscribe(&server);
    server.publish(&[("P/2.0.0/u.bin", &firmware(1, 8 << 20))]);
    assert_eq!(server.check("Range: bytes=0-99999\r\n").body.len(), 100_000);
    wait_until("one download is complete", || {
        ended(&server, "complete") == 1
    });
    assert_eq!(server.call(|s| s.fleet.borrow().tally.bytes[0]), 100_000);
    let mut cut = server.connect();
    cut.write_all(check(IMEI, "").as_bytes()).unwrap();
    read_part(&mut cut, 1000);
    drop(cut);
    wait_until("one download is cut", || ended(&server, "cut") == 1);
    let mut stalls = server.connect();
    stalls.write_all(check(IMEI, "").as_bytes()).unwrap();
    read_part(&mut stalls, 1000);
    wait_until("one download has stalled", || {
        ended(&server, "stalled") == 1
    });
    let results: Vec<_> = take_events(&server)
        .iter()
        .filter_map(|event| match event {
            Event::Download {
                number,
                size,
                result: Some(result),
                ..
            } => Some((*number, *size, *result)),
            _ => None,
        })
        .collect();
    let size = 8 << 20;
    assert_eq!(
        results,
        [
            (1, size, "complete"),
            (2, size, "cut"),
            (3, size, "stalled")
        ]
    );
}

#[test]
fn repeated_downloads_without_an_id_are_counted_never_refused() {
    let server = Server::start();
    let bytes = firmware(1, 20_000);
    server.publish(&[("P/2.0.0/u.bin", &bytes)]);
    let repeated = || server.call(|service| service.fleet.borrow().tally.repeated);
    let without_id = check(IMEI, "").replacen("imei=", "x=", 1);
    for time in 1..=7_u64 {
        assert!(server.ask(&without_id).body == bytes);
        wait_until("the repetition is counted", || {
            repeated() == time.saturating_sub(4)
        });
    }
    // A module with an id is left to the loop guard.
    assert!(server.check("").body == bytes);
    wait_until("eight downloads are complete", || {
        ended(&server, "complete") == 8
    });
    assert_eq!(repeated(), 3);
}

#[test]
fn progress_counts_acknowledged_bytes() {
    let server = Server::with(Limits {
        // With this limit, the progress is measured every second.
        stall_timeout: Duration::from_secs(8),
        ..Limits::default()
    });
    subscribe(&server);
    let size = 8 << 20;
    server.publish(&[("P/2.0.0/u.bin", &firmware(1, size))]);
    let mut stream = connect_with_small_buffer(server.http);
    let sent = Instant::now();
    stream.write_all(check(IMEI, "").as_bytes()).unwrap();
    // The download runs when its first bytes have come.
    let mut got = read_part(&mut stream, 1);
    let start = Instant::now();
    let mut progress: Vec<u64> = Vec::new();
    // For four seconds, or until a busy machine has measured the progress once.
    while start.elapsed() < Duration::from_secs(4) || progress.is_empty() {
        assert!(start.elapsed() < Duration::from_secs(60), "no progress");
        let mut part = [0; 1000];
        let read = stream.read(&mut part).unwrap();
        got.extend(&part[..read]);
        std::thread::sleep(Duration::from_millis(100));
        progress.extend(take_events(&server).iter().filter_map(|event| match event {
            Event::Download {
                bytes,
                result: None,
                ..
            } => Some(*bytes),
            _ => None,
        }));
    }
    // At most one event in each second of the download.
    let seconds = sent.elapsed().as_secs();
    // The server's socket accepted at least a quarter of a megabyte at once.
    assert!(progress.len() as u64 <= seconds, "{progress:?}");
    assert!(progress.is_sorted(), "{progress:?}");
    let most = *progress.last().unwrap();
    assert!(most >= 1000 && most < got.len() as u64 + 40_000, "{most}");
    stream.read_to_end(&mut got).unwrap();
    wait_until("one download is complete", || {
        ended(&server, "complete") == 1
    });
    let last = take_events(&server).pop();
    let whole = Some((size as u64, Some("complete")));
    let last = last.and_then(|event| match event {
        Event::Download { bytes, result, .. } => Some((bytes, result)),
        _ => None,
    });
    assert_eq!(last, whole);
}

/// Whether the fleet regards the file as delivered to the device.
fn is_whole(server: &Server) -> bool {
    server.call(|service| {
        let device = DeviceId::Imei(IMEI.parse().unwrap());
        let fleet = service.fleet.borrow();
        let view = fleet.device(device, Instant::now(), 0).unwrap();
        view.entry
            .progress
            .is_some_and(|progress| progress.state == State::Delivered)
    })
}

#[test]
fn a_download_is_whole_once_the_module_closes_its_side() {
    for (closes, size) in [(true, 5000), (true, 1 << 20), (false, 5000)] {
        let server = Server::start();
        server.publish(&[("P/2.0.0/u.bin", &firmware(1, size))]);
        let mut stream = server.connect();
        stream.write_all(check(IMEI, "").as_bytes()).unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        // Everything is acknowledged, and the log line is written.
        server.wait_for_downloads(0);
        assert_eq!(ended(&server, "complete"), 1);
        if closes {
            drop(stream);
            no_seats(&server);
            assert!(is_whole(&server), "{size}");
        } else {
            assert!(!is_whole(&server), "{size}");
        }
    }
}

#[test]
fn a_reset_after_everything_was_acknowledged_is_a_close() {
    let server = Server::start();
    server.publish(&[("P/2.0.0/u.bin", &firmware(1, 5000))]);
    let mut stream = server.connect();
    stream.write_all(check(IMEI, "").as_bytes()).unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    server.wait_for_downloads(0);
    os::net::reset_on_close(&stream).unwrap();
    drop(stream);
    no_seats(&server);
    assert!(is_whole(&server));
}

#[test]
fn the_stop_ends_the_wait_for_the_clients_close() {
    let server = Server::start();
    server.publish(&[("P/2.0.0/u.bin", &firmware(1, 5000))]);
    let mut stream = server.connect();
    stream.write_all(check(IMEI, "").as_bytes()).unwrap();
    stream.read_to_end(&mut Vec::new()).unwrap();
    assert_eq!(server.call(|service| service.seats.len()), 1);
    server.stop.raise();
    no_seats(&server);
}

#[test]
fn a_download_by_kilobyte_ranges_counts_as_one() {
    let server = Server::start();
    let bytes = firmware(1, 100_000);
    server.publish(&[("P/2.0.0/u.bin", &bytes)]);
    let mut got = Vec::new();
    while got.len() < bytes.len() {
        let range = format!("Range: bytes={}-{}\r\n", got.len(), got.len() + 999);
        let part = server.check(&range);
        assert_eq!(part.status, 206);
        got.extend(part.body);
        // Over a network, the next request would arrive a round trip after the close.
        server.wait_for_downloads(0);
    }
    assert!(got == bytes);
    assert_eq!(counted(&server, 0, "offer"), 1);
    assert_eq!(counted(&server, 0, "resume"), 99);
    assert_eq!(server.call(|service| service.fleet.borrow().pinned()), 1);
    no_seats(&server);
    assert!(is_whole(&server));
}

#[test]
fn no_byte_leaves_before_the_pin_is_written() {
    let server = Server::start();
    let bytes = firmware(1, 5000);
    server.publish(&[("P/2.0.0/u.bin", &bytes)]);
    // A connection of the test, with a pin whose record the test controls.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut other = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let ours = listener.accept().unwrap().0;
    let (pending, written) = Written::pending();
    let (sender, started) = mpsc::channel();
    server.call(move |service| {
        let service = Rc::clone(service);
        let peer = ours.peer_addr().unwrap();
        let run = async move {
            let stream = Async::new_nonblocking(ours).unwrap();
            let seat = Seat::take(&service, peer).unwrap();
            let head = check(IMEI, "");
            let Answer::Deliver(plan) = answer(&service, &head, peer, Instant::now()) else {
                panic!("no offer");
            };
            let snapshot = service.load(plan.content).await.unwrap();
            let download = Download::resume(&service, Network::of(peer.ip()), Instant::now());
            let mut sending = Transmission::new(&service, &stream, &seat, &plan, download);
            sending.written = Some(written);
            sender.send(()).unwrap();
            let await_close = sending.run(&snapshot).await;
            assert!(await_close.is_some());
        };
        EXECUTOR.with_borrow(|executor| executor.spawn(run).detach());
    });
    started.recv().unwrap();
    other
        .set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    assert!(other.read(&mut [0]).is_err(), "a byte left before");
    other
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    pending.send_blocking(()).unwrap();
    let got = read_reply(other);
    assert!(got.body == bytes);
}
