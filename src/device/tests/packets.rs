//! Tests of the UDP protocol, over UDP and over TCP.

use smol::channel::bounded;

use super::*;
use crate::device::check_log::LogSubject;
use crate::device::message::PacketRequest;
use crate::device::packets::PacketDownloads;
use crate::firmware::ContentId;
use crate::fleet::events::Event;
use crate::fleet::network::Network;

/// Acts as a module by docs/protocol.md 6: sends a check, and requests all packets. Returns the file.
fn take(mut ask: impl FnMut(&str) -> Vec<u8>, dialect: &str) -> Result<Vec<u8>, String> {
    let check = match dialect {
        "" => format!("{IMEI},P_Luat_V0035_8955,1.0.0"),
        _ => format!("{dialect}{IMEI},SN,P_Luat_V0035_8955,1.0.0"),
    };
    let reply = String::from_utf8(ask(&check)).unwrap();
    let Some(numbers) = reply.strip_prefix("LUAUPDATE,") else {
        return Err(reply);
    };
    let numbers: Vec<usize> = numbers.split(',').map(|n| n.parse().unwrap()).collect();
    let [id, count, last] = numbers[..] else {
        panic!("{reply}")
    };
    let mut file = Vec::new();
    for number in 1..=count {
        let get = match dialect {
            "" => format!("Get{number},{id}"),
            _ => format!("{check},Get{number},{id}"),
        };
        let packet = ask(&get);
        assert_eq!(packet[..2], (number as u16).to_be_bytes());
        let length = if number == count { last } else { 1022 };
        assert_eq!(packet.len(), length + 2);
        file.extend(&packet[2..]);
    }
    Ok(file)
}

fn packet(id: u32, number: u16, count: u16) -> PacketRequest {
    PacketRequest {
        content: ContentId([7; 32]),
        size: u64::from(count - 1) * 1022 + 1,
        id,
        number,
        count,
    }
}

fn udp_ask(socket: &UdpSocket) -> impl FnMut(&str) -> Vec<u8> {
    move |text| {
        socket.send(text.as_bytes()).unwrap();
        let mut buffer = [0; 2000];
        let length = socket.recv(&mut buffer).unwrap();
        buffer[..length].to_vec()
    }
}

fn tcp_ask(mut stream: &TcpStream) -> impl FnMut(&str) -> Vec<u8> {
    move |text| {
        stream.write_all(text.as_bytes()).unwrap();
        let mut buffer = [0; 2000];
        let length = stream.read(&mut buffer).unwrap();
        buffer[..length].to_vec()
    }
}

#[test]
fn files_of_every_size_arrive_over_udp_in_both_dialects() {
    for size in [1, 1021, 1022, 1023, 2044, 100_000] {
        let server = Server::start();
        let bytes = firmware(1, size);
        server.publish(&[("P/2.0.0/u.bin", &bytes)]);
        let socket = server.udp_client();
        for dialect in ["", "0,KEY,"] {
            let got = take(udp_ask(&socket), dialect).unwrap();
            assert!(got == bytes, "{size} {dialect}");
        }
        assert_eq!(server.call(|service| service.running_downloads()), 0);
    }
}

#[test]
fn files_of_every_size_arrive_over_tcp_in_both_dialects() {
    for size in [1, 1022, 2044, 50_000] {
        let server = Server::start();
        let bytes = firmware(1, size);
        server.publish(&[("P/2.0.0/u.bin", &bytes)]);
        let stream = connect(server.tcp);
        for dialect in ["", "0,KEY,"] {
            let got = take(tcp_ask(&stream), dialect).unwrap();
            assert!(got == bytes, "{size} {dialect}");
        }
    }
}

#[test]
fn a_message_over_tcp_may_arrive_in_pieces() {
    let server = Server::start();
    let bytes = firmware(1, 3000);
    server.publish(&[("P/2.0.0/u.bin", &bytes)]);
    let mut stream = connect(server.tcp);
    let in_pieces = |text: &str| {
        for piece in text.as_bytes().chunks(7) {
            stream.write_all(piece).unwrap();
            std::thread::sleep(Duration::from_millis(2));
        }
        let mut buffer = [0; 2000];
        let length = stream.read(&mut buffer).unwrap();
        buffer[..length].to_vec()
    };
    assert!(take(in_pieces, "").unwrap() == bytes);
}

#[test]
fn a_check_that_is_refused_is_always_answered() {
    let server = Server::start();
    server.publish(&[
        ("P/1.0.0/u.bin", &firmware(1, 100)),
        ("Q/1.0.0/u.bin", &firmware(2, 100)),
        ("Q/release.json", br#"{"allow": ["862991440000000"]}"#),
    ]);
    let socket = server.udp_client();
    let mut ask = udp_ask(&socket);
    for (name, version, reply) in [
        ("P_Luat_V0035_8955", "1.0.0", "version error"),
        ("P_Luat_V0035_8955", "what", "version error"),
        ("Q_Luat_V0035_8955", "0.1.0", "imei range error"),
        ("none_Luat_V0035_8955", "0.1.0", "no upgrade"),
    ] {
        let got = ask(&format!("{IMEI},{name},{version}"));
        assert_eq!(String::from_utf8(got).unwrap(), reply);
    }
}

#[test]
fn an_unknown_id_or_packet_number_gets_err() {
    let server = Server::start();
    server.publish(&[("P/2.0.0/u.bin", &firmware(1, 2000))]);
    let socket = server.udp_client();
    let mut ask = udp_ask(&socket);
    let offer = String::from_utf8(ask(&format!("{IMEI},P_Luat_V0035_8955,1.0.0"))).unwrap();
    let id: u32 = offer.split(',').nth(1).unwrap().parse().unwrap();
    for get in [
        format!("Get1,{}", id ^ 1),
        format!("Get1,{}", id ^ 1 << 30),
        format!("Get0,{id}"),
        format!("Get3,{id}"),
        format!("Get65536,{id}"),
        "Get1,".to_owned(),
    ] {
        assert_eq!(ask(&get), b"ERR", "{get}");
    }
    assert_eq!(ask(&format!("Get2,{id}")).len(), 2 + 2000 - 1022);
}

#[test]
fn an_id_names_the_same_bytes_after_a_newer_release() {
    let server = Server::start();
    let bytes = firmware(1, 3000);
    server.publish(&[("P/2.0.0/u.bin", &bytes)]);
    let socket = server.udp_client();
    let mut ask = udp_ask(&socket);
    let offer = String::from_utf8(ask(&format!("{IMEI},P_Luat_V0035_8955,1.0.0"))).unwrap();
    let id: u32 = offer.split(',').nth(1).unwrap().parse().unwrap();
    assert_eq!(ask(&format!("Get1,{id}"))[2..], bytes[..1022]);
    server.publish(&[("P/2.0.0/u.bin", &firmware(2, 5000))]);
    assert_eq!(ask(&format!("Get2,{id}"))[2..], bytes[1022..2044]);
    assert_eq!(ask(&format!("Get3,{id}"))[2..], bytes[2044..]);
}

#[test]
fn a_datagram_like_our_own_reply_is_never_answered() {
    let server = Server::start();
    server.publish(&[("P/2.0.0/u.bin", &firmware(1, 100))]);
    let socket = server.udp_client();
    for text in [
        "LUAUPDATE,1,2,3",
        "ERR",
        "no upgrade",
        "unknown function",
        "version error",
        "imei range error",
        "error all",
        "OK",
        "",
        "\u{1}\u{2} binary",
        "short text",
    ] {
        socket.send(text.as_bytes()).unwrap();
    }
    // Only the last text is answered: an error is never longer than the datagram that it answers.
    let mut ask = udp_ask(&socket);
    assert_eq!(ask("something else altogether"), b"unknown function");
    assert_eq!(ask("Get1,1"), b"ERR");
}

#[test]
fn errors_over_udp_are_limited_and_checks_are_answered() {
    let server = Server::with(Limits {
        udp_errors_per_second: 1,
        ..Limits::default()
    });
    server.publish(&[("P/2.0.0/u.bin", &firmware(1, 100))]);
    let socket = server.udp_client();
    for _ in 0..50 {
        socket.send(b"Get1,1").unwrap();
    }
    let check = format!("{IMEI},P_Luat_V0035_8955,1.0.0");
    socket.send(check.as_bytes()).unwrap();
    let mut errors = 0;
    let mut buffer = [0; 2000];
    loop {
        let length = socket.recv(&mut buffer).unwrap();
        match &buffer[..length] {
            b"ERR" => errors += 1,
            other => break assert!(other.starts_with(b"LUAUPDATE,")),
        }
    }
    assert!((5..=7).contains(&errors), "{errors}");
}

#[test]
fn over_tcp_the_server_does_not_close_first() {
    let server = Server::start();
    server.publish(&[("P/2.0.0/u.bin", &firmware(1, 100))]);
    let stream = connect(server.tcp);
    let mut ask = tcp_ask(&stream);
    assert_eq!(ask("hello"), b"unknown function");
    assert_eq!(ask("Get1,1"), b"ERR");
    assert!(ask(&format!("{IMEI},P_Luat_V0035_8955,1.0.0")).starts_with(b"LUAUPDATE,"));
    // But a message that does not end closes the connection.
    (&stream).write_all(&[b'x'; 1600]).unwrap();
    assert_eq!((&stream).read(&mut [0; 10]).unwrap_or(0), 0);
}

#[test]
fn a_running_download_over_udp_is_finished_after_the_stop() {
    let server = Server::start();
    let bytes = firmware(1, 5000);
    server.publish(&[("P/2.0.0/u.bin", &bytes)]);
    let socket = server.udp_client();
    let mut asked = 0;
    let mut ask = udp_ask(&socket);
    let stopping = |text: &str| {
        asked += 1;
        if asked == 3 {
            assert_eq!(server.call(|service| service.running_downloads()), 1);
            server.stop.raise();
        }
        ask(text)
    };
    assert!(take(stopping, "").unwrap() == bytes);
    server.wait_for_downloads(0);
}

#[test]
fn unused_offers_evict_no_download() {
    use super::super::check_log::LogSubject;
    use super::super::packets::PacketDownloads;

    let service = service();
    let mut downloads = PacketDownloads::default();
    let peer = |port| SocketAddr::from(([192, 0, 2, 1], port));
    let subject = || LogSubject::of_peer("udp", peer(1));
    downloads.add(&service, (peer(1), 7), subject(), Instant::now());
    downloads.record_packet(&service, peer(1), (&packet(7, 1, 3), 1022), Instant::now());
    assert_eq!(service.running_downloads(), 1);
    for port in 2..5000 {
        downloads.add(&service, (peer(port), 8), subject(), Instant::now());
    }
    assert!(downloads.any_running());
    downloads.record_packet(&service, peer(1), (&packet(7, 2, 3), 1022), Instant::now());
    downloads.record_packet(&service, peer(1), (&packet(7, 3, 3), 1), Instant::now());
    assert!(!downloads.any_running());
    assert_eq!(service.running_downloads(), 0);
}

#[test]
fn an_abandoned_download_stops_running() {
    use super::super::packets::PacketDownloads;

    let service = service();
    let mut downloads = PacketDownloads::default();
    let peer = SocketAddr::from(([192, 0, 2, 1], 9));
    downloads.record_packet(&service, peer, (&packet(7, 1, 3), 1022), Instant::now());
    downloads.tidy(Duration::from_secs(120), Instant::now());
    assert!(downloads.any_running());
    downloads.tidy(Duration::ZERO, Instant::now());
    assert!(!downloads.any_running());
    assert_eq!(service.running_downloads(), 0);
}

#[test]
fn a_quiet_download_is_tidied_until_its_log_line_is_written() {
    let service = service();
    let mut all = PacketDownloads::default();
    let peer = SocketAddr::from(([192, 0, 2, 1], 9));
    let stall = Duration::from_secs(120);
    let now = Instant::now();
    all.add(&service, (peer, 1), LogSubject::of_peer("udp", peer), now);
    assert!(!all.needs_tidying(), "only offered");
    all.record_packet(&service, peer, (&packet(1, 1, 9), 1022), Instant::now());
    assert!(all.any_running() && all.needs_tidying());
    all.tidy(stall, now + Duration::from_secs(30));
    assert!(!all.any_running() && all.needs_tidying());
    assert_eq!(service.running_downloads(), 0);
    all.tidy(stall, now + Duration::from_secs(130));
    assert!(!all.needs_tidying(), "its line is written");
}

#[test]
fn a_new_check_restarts_the_download() {
    let service = service();
    let mut all = PacketDownloads::default();
    let peer = SocketAddr::from(([192, 0, 2, 1], 9));
    let subject = || LogSubject::of_peer("udp", peer);
    let counted = || service.fleet.borrow().tally.downloads;
    for attempt in 1..=3 {
        all.add(&service, (peer, 1), subject(), Instant::now());
        assert_eq!(service.running_downloads(), 0);
        assert!(!all.any_running());
        all.record_packet(&service, peer, (&packet(1, 1, 3), 1022), Instant::now());
        all.record_packet(&service, peer, (&packet(1, 2, 3), 1022), Instant::now());
        assert_eq!(counted()[2], attempt - 1, "cut");
    }
    all.record_packet(&service, peer, (&packet(1, 3, 3), 1), Instant::now());
    assert_eq!(counted()[..3], [1, 0, 2]);
    assert_eq!(service.fleet.borrow().tally.bytes[1], 3 * 2044 + 1);
}

#[test]
fn an_event_reader_gets_packet_progress_once_a_second() {
    let service = service();
    let reader = service.fleet.borrow_mut().events.subscribe().unwrap();
    let mut all = PacketDownloads::default();
    let peer = SocketAddr::from(([192, 0, 2, 1], 9));
    let begun = Instant::now();
    for number in 1..=25_u16 {
        // Ten packets a second.
        let now = begun + Duration::from_millis(100 * u64::from(number - 1));
        all.record_packet(&service, peer, (&packet(1, number, 99), 1022), now);
    }
    let progress: Vec<u64> = std::iter::from_fn(|| reader.try_recv().ok())
        .filter_map(|event| match *event {
            Event::Download { bytes, .. } => Some(bytes),
            _ => None,
        })
        .collect();
    assert_eq!(progress, [10 * 1022, 20 * 1022]);
}

#[test]
fn a_slow_download_by_packets_yields_its_slot_and_a_fast_one_does_not() {
    let here = Network::of([192, 0, 2, 1].into());
    for (interval, yields) in [(500, false), (1500, true)] {
        let service = service_with(Limits {
            max_downloads: 1,
            ..Limits::default()
        });
        let mut all = PacketDownloads::default();
        let peer = SocketAddr::from(([192, 0, 2, 1], 9));
        let begun = Instant::now();
        for number in 1..=40_000 / interval {
            let now = begun + Duration::from_millis(u64::from(interval * number));
            all.record_packet(&service, peer, (&packet(1, number, 999), 1022), now);
        }
        let now = begun + Duration::from_secs(40);
        let mut slots = service.downloads.slots.borrow_mut();
        let (waker, _woken) = bounded(1);
        slots.enqueue(here, now, waker);
        assert_eq!(slots.assign(now).len(), usize::from(yields), "{interval}");
    }
}

#[test]
fn a_full_table_evicts_the_older_half_of_the_offers() {
    let service = service();
    let mut all = PacketDownloads::default();
    let peer = |port| SocketAddr::from(([192, 0, 2, 1], port));
    let subject = || LogSubject::of_peer("udp", peer(1));
    let begun = Instant::now();
    let at = |n| begun + Duration::from_millis(u64::from(n));
    for n in 1..=1024 {
        all.add(&service, (peer(n), 1), subject(), at(n));
    }
    assert!((1..=1024).all(|n| all.knows(peer(n), 1)));
    all.add(&service, (peer(1025), 1), subject(), at(1025));
    assert!((1..=513).all(|n| !all.knows(peer(n), 1)));
    assert!((514..=1025).all(|n| all.knows(peer(n), 1)));
}

#[test]
fn in_a_crowded_table_only_new_downloads_are_remembered() {
    let service = service();
    let mut all = PacketDownloads::default();
    let peer = |port| SocketAddr::from(([192, 0, 2, 1], port));
    let begun = Instant::now();
    let given = |all: &mut PacketDownloads, n, number| {
        let (wanted, now) = (
            packet(n, number, 9),
            begun + Duration::from_millis(n.into()),
        );
        all.record_packet(&service, peer(1), (&wanted, 1022), now);
        all.knows(peer(1), n)
    };
    assert!((1..=1024).all(|n| given(&mut all, n, 1)));
    // One clean-up takes place, which costs the oldest download its place.
    assert!(given(&mut all, 1025, 5));
    assert!(!all.knows(peer(1), 1));
    assert!((1026..2000).all(|n| !given(&mut all, n, 5)));
    // A download that begins takes the place of the one that did not.
    assert!(given(&mut all, 2000, 1));
    assert!(!all.knows(peer(1), 1025) && all.knows(peer(1), 2));
    assert_eq!(service.running_downloads(), 1024);
    // After the table was tidied, one more clean-up takes place.
    all.tidy(Duration::from_secs(120), begun + Duration::from_secs(2));
    assert!(given(&mut all, 2001, 5) && !given(&mut all, 2002, 5));
}
