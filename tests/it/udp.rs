//! Promise: both dialects of the first edition's UDP protocol (docs/protocol.md 6) work on a network that loses,
//! repeats and reorders packets; upgrade ids cannot be guessed and always refer to the same content.

use crate::common;

use std::io::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use common::datagrams::{Device, Offer, PACKET};
use common::packages::noise;
use common::random::Random;
use common::{IMEI, Place, Rows, Server, luat, reply};
use serde_json::json;

const OTHER: &str = "862991443750002";

fn user(project: &str, version: &str) -> String {
    format!("{IMEI},{project}_Luat_V0035_8955,{version}")
}

fn official(project: &str, version: &str) -> String {
    format!("0,KEY,{IMEI},SN,{project}_Luat_V0035_8955,{version}")
}

/// A server with one release whose file has this size.
fn server(size: usize, flags: &[&str]) -> (Server, Vec<u8>) {
    let place = Place::new();
    let bytes = noise(40 + size as u64, size);
    place.drop_firmware("P/1.0.1/update.bin", &bytes);
    let server = Server::start_in(place, flags);
    server.wait_until_offered(&luat("P", OTHER, "1.0.0"), &bytes);
    (server, bytes)
}

#[test]
fn files_of_awkward_sizes_arrive_whole_over_a_bad_network() {
    let place = Place::new();
    let sizes = [1, 2, 1021, 1022, 1023, 2043, 2044, 2045, 10_220, 1 << 20];
    let files: Vec<Vec<u8>> = sizes.iter().map(|&size| noise(size as u64, size)).collect();
    for (size, bytes) in sizes.iter().zip(&files) {
        place.drop_firmware(&format!("size{size}/1.0.1/update.bin"), bytes);
    }
    let server = Server::start_in(place, &[]);
    let mut rows = Rows::default();
    let mut random = Random(20_261_122);
    for (size, bytes) in sizes.iter().zip(&files) {
        server.wait_until_offered(&luat(&format!("size{size}"), OTHER, "1.0.0"), bytes);
        for message in [
            user(&format!("size{size}"), "1.0.0"),
            official(&format!("size{size}"), "1.0.0"),
        ] {
            let device = Device::new(server.udp);
            rows.row(
                &message,
                device.check(&message).and_then(|offer| {
                    offer.must_be_for(*size)?;
                    let got = device.download_badly(offer, &mut random, 16, 5, 10)?;
                    ensure!(got == *bytes, "other bytes");
                    Ok(())
                }),
            );
        }
    }
    rows.finish();
}

#[test]
fn a_module_that_waits_for_each_packet_gets_the_file_in_both_dialects() {
    let (server, bytes) = server(20_000, &[]);
    let device = Device::new(server.udp);
    let offer = device.check(user("P", "1.0.0")).unwrap();
    assert_eq!(device.download(offer).unwrap(), bytes);
    let prefix = official("P", "1.0.0");
    let offer = device.check(&prefix).unwrap();
    let mut got = Vec::new();
    for number in 1..=offer.count {
        let reply = device
            .ask(format!("{prefix},Get{number},{}", offer.id))
            .unwrap();
        got.extend_from_slice(offer.data(number, &reply).unwrap());
    }
    assert_eq!(got, bytes);
}

#[test]
fn the_largest_file_of_65535_packets_arrives_whole_over_a_bad_network() {
    let place = Place::new();
    let bytes = noise(41, 65535 * PACKET);
    place.drop_firmware("large/1.0.1/update.bin", &bytes);
    let server = Server::start_in(place, &[]);
    let device = Device::new(server.udp);
    let mut offer = None;
    common::wait_until("the file is offered", Duration::from_secs(60), || {
        offer = device.check(user("large", "1.0.0")).ok();
        offer.is_some()
    });
    let offer = offer.unwrap();
    assert_eq!((offer.count, offer.last), (65535, PACKET));
    let start = Instant::now();
    let got = device
        .download_badly(offer, &mut Random(7), 256, 1, 1)
        .unwrap();
    assert!(got == bytes, "other bytes");
    println!("65535 packets in {:.1?}", start.elapsed());
    assert!(
        device
            .must_reply(format!("Get65536,{}", offer.id), "ERR")
            .is_ok(),
        "packet 65536"
    );
}

#[test]
fn a_file_of_more_than_65535_packets_is_for_http_alone() {
    let place = Place::new();
    let size = 65535 * PACKET as u64 + 1;
    let path = place.path("huge/1.0.1/update.bin");
    let mut file = std::fs::File::create(path.with_extension("part")).unwrap();
    file.write_all(&noise(42, 4096)).unwrap();
    file.set_len(size).unwrap();
    drop(file);
    std::fs::rename(path.with_extension("part"), &path).unwrap();
    let small = noise(43, 500);
    place.drop_firmware("huge/1.0.0/update.bin", &small);
    let server = Server::start_in(place, &[]);
    let target = luat("huge", OTHER, "1.0.0");
    let head = format!("HEAD {target} HTTP/1.1\r\nHost: h\r\n\r\n");
    let reply = server
        .wait_for_reply(head.as_bytes(), Duration::from_secs(60), |reply| {
            reply.status == 200
        })
        .unwrap();
    assert_eq!(reply.content_length(), size);
    let reply = server.get(&target);
    assert_eq!((reply.status, reply.body.len() as u64), (200, size));
    let device = Device::new(server.udp);
    device
        .must_reply(user("huge", "1.0.0"), "no upgrade")
        .unwrap();
    // An older release that the protocol can transfer is offered instead.
    let offer = device.check(user("huge", "0.9.9")).unwrap();
    assert_eq!(device.download(offer).unwrap(), small);
}

#[test]
fn a_request_for_an_unknown_packet_gets_err() {
    let (server, _) = server(3000, &[]);
    let device = Device::new(server.udp);
    let offer = device.check(user("P", "1.0.0")).unwrap();
    assert_eq!(offer.count, 3);
    let id = offer.id;
    let mut rows = Rows::default();
    let prefix = official("P", "1.0.0");
    for message in [
        format!("Get0,{id}"),
        format!("Get4,{id}"),
        format!("Get65535,{id}"),
        format!("Get65536,{id}"),
        format!("Get99999999999999999999,{id}"),
        format!("Get1,{}", id ^ 1),
        "Get1,2147483648".to_owned(),
        "Get1,99999999999999999999".to_owned(),
        format!("{prefix},Get0,{id}"),
    ] {
        rows.row(&message, device.must_reply(&message, "ERR"));
        // Wait, because the rate limit of wrong ids is low. This test is not about the limit.
        std::thread::sleep(Duration::from_millis(150));
    }
    for good in 1..=3 {
        let reply = device.ask(format!("Get{good},{id}"));
        rows.row(
            &format!("packet {good}"),
            reply
                .ok_or_else(|| "no answer".to_owned())
                .and_then(|reply| offer.data(good, &reply).map(|_| ())),
        );
    }
    rows.finish();
}

#[test]
fn a_packet_may_be_asked_for_at_any_time_and_any_number_of_times() {
    let (server, bytes) = server(5000, &[]);
    let device = Device::new(server.udp);
    let offer = device.check(user("P", "1.0.0")).unwrap();
    for number in [5, 1, 3, 3, 3, 2, 5, 1, 4] {
        let reply = device.ask(format!("Get{number},{}", offer.id)).unwrap();
        let data = offer.data(number, &reply).unwrap();
        let start = (number - 1) * PACKET;
        assert_eq!(data, &bytes[start..start + data.len()]);
    }
}

#[test]
fn names_and_versions_are_taken_as_modules_write_them() {
    let place = Place::new();
    let bytes = noise(44, 1500);
    for project in ["USER_SERVER_UPDATE", "my-app.v2", "two words", "中文_项目"] {
        place.drop_firmware(&format!("{project}/1.0.1/update.bin"), &bytes);
    }
    let server = Server::start_in(place, &[]);
    let device = Device::new(server.udp);
    let mut rows = Rows::default();
    for project in ["USER_SERVER_UPDATE", "my-app.v2", "two words", "中文_项目"] {
        server.wait_until_offered(&luat(&project.replace(' ', "%20"), OTHER, "1.0.0"), &bytes);
        for message in [
            format!("{IMEI},{project}_Luat_V0035_8955,1.0.0"),
            format!("{IMEI},{project}_Luat_V0035_8955,1.0"),
            format!("{IMEI},{project}_Luat_V0035_8955,0.9.9\r\n"),
            format!("0,KEY,{IMEI},,{project}_Luat_V0035_8955,1.0.0"),
            format!("0,KEY,{IMEI},SN 仓库,{project}_Luat_V0035_8955,1.0.0"),
        ] {
            rows.row(&message, device.check(&message).map(|_| ()));
        }
        for message in [
            format!("{IMEI},{project}_Luat_V0035_8955,1.0.1"),
            format!("{IMEI},{project}_Luat_V0035_8955,factory"),
            format!("{IMEI},{project}_Luat_V0035_8955,"),
        ] {
            rows.row(&message, device.must_reply(&message, "version error"));
        }
    }
    rows.finish();
}

#[test]
fn unknown_text_is_answered_by_unknown_function_and_never_by_more_than_was_sent() {
    let (server, _) = server(100, &[]);
    let device = Device::new(server.udp);
    let mut rows = Rows::default();
    for text in [
        "what is the time, please?",
        "hello hello hello hello",
        "862991443753386;P_Luat_V0035_8955;1.0.0",
    ] {
        rows.row(text, device.must_reply(text, "unknown function"));
    }
    for text in [
        "a",
        "hello",
        "Get",
        "?",
        "M-SEARCH",
        "GetGetGetGetGetGetGet",
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    ] {
        let answer = device.ask_for(text, Duration::from_millis(250));
        rows.row(
            text,
            match answer {
                Some(answer) if answer.len() > text.len() => {
                    Err(format!("a longer answer: {}", reply::show(&answer)))
                }
                _ => Ok(()),
            },
        );
    }
    rows.finish();
}

#[test]
fn replies_of_the_server_and_non_text_get_no_reply() {
    let (server, _) = server(100, &[]);
    let device = Device::new(server.udp);
    let mut rows = Rows::default();
    for own in [
        "LUAUPDATE,7,151,47",
        "LUAUPDATE",
        "LUAUPDATE,and what not, 1.0.0",
        "ERR",
        "ERR and more of it, to be long enough",
        "no upgrade",
        "no upgrade, really, none at all",
        "unknown function",
        "unknown function unknown function",
        "version error",
        "version error version error",
        "imei range error",
        "imei range error imei range error",
        "error all",
        "error all of them are wrong here",
        "OK",
        "OK, this is a longer one, 1.0.0",
    ] {
        rows.row(own, device.must_be_silent(own));
    }
    let packet = [&[0, 1][..], &noise(45, 1022)].concat();
    let tls = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    let nul = b"Get1,7\0\0\0\x01\x02";
    for (name, binary) in [
        ("nothing", &b""[..]),
        ("a packet", &packet),
        ("TLS", tls),
        ("control characters", nul),
        ("one byte", b"\xff"),
        ("a DNS query", b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x03com\x00\x00\x01\x00\x01"),
    ] {
        rows.row(name, device.must_be_silent(binary));
    }
    // The server still replies.
    rows.row("a check", device.check(user("P", "1.0.0")).map(|_| ()));
    rows.finish();
}

#[test]
fn an_id_keeps_its_bytes_after_a_rename_a_newer_release_and_a_restart() {
    let (server, old) = server(6000, &[]);
    let device = Device::new(server.udp);
    let offer = device.check(user("P", "1.0.0")).unwrap();
    let must_still_be = |server: &Server, when: &str| {
        let device = Device::new(server.udp);
        let got = device
            .download(offer)
            .unwrap_or_else(|error| panic!("{when}: {error}"));
        assert!(got == old, "{when}: other bytes");
    };
    must_still_be(&server, "at first");
    // After the file is renamed, the release has another version.
    let folder = server.place().firmware().join("P");
    std::fs::rename(folder.join("1.0.1"), folder.join("1.0.3")).unwrap();
    server.wait_until_offered(&luat("P", OTHER, "1.0.2"), &old);
    must_still_be(&server, "after a rename");
    let again = device.check(user("P", "1.0.0")).unwrap();
    assert_eq!(again, offer, "the same content has another id");
    // A newer release.
    let new = noise(46, 8000);
    server.drop_firmware("P/1.0.4/update.bin", &new);
    server.wait_until_offered(&luat("P", OTHER, "1.0.2"), &new);
    must_still_be(&server, "after a newer release");
    let newer = device.check(user("P", "1.0.0")).unwrap();
    assert_ne!(newer.id, offer.id, "two contents with one id");
    assert_eq!(device.download(newer).unwrap(), new);
    // One orderly restart, and one after SIGKILL.
    let server = Server::start_in(server.terminate(), &[]);
    server.wait_until_offered(&luat("P", OTHER, "1.0.2"), &new);
    must_still_be(&server, "after a restart");
    let server = Server::start_in(server.kill(), &[]);
    server.wait_until_offered(&luat("P", OTHER, "1.0.2"), &new);
    must_still_be(&server, "after a kill");
}

#[test]
fn an_id_never_names_other_bytes_after_its_file_was_replaced() {
    let (server, old) = server(4000, &[]);
    let device = Device::new(server.udp);
    let offer = device.check(user("P", "1.0.0")).unwrap();
    let new = noise(47, 4000);
    server.drop_firmware("P/1.0.1/update.bin", &new);
    server.wait_until_offered(&luat("P", OTHER, "1.0.0"), &new);
    for number in 1..=offer.count {
        let reply = device.ask(format!("Get{number},{}", offer.id)).unwrap();
        if reply != b"ERR" {
            let start = (number - 1) * PACKET;
            let data = offer.data(number, &reply).unwrap();
            assert!(
                data == &old[start..start + data.len()],
                "bytes of another file"
            );
        }
    }
}

#[test]
fn a_reply_leaves_from_the_address_that_was_asked() {
    let (server, _) = server(100, &["--udp", "0.0.0.0:0"]);
    for own in ["127.0.0.1", "127.0.0.2", "127.8.9.10"] {
        let asked = SocketAddr::new(own.parse().unwrap(), server.udp.port());
        // `receive` rejects a reply from any other address.
        Device::new(asked).check(user("P", "1.0.0")).unwrap();
    }
}

#[test]
fn ipv6_modules_are_served_as_well_and_ipv4_ones_on_the_same_socket() {
    if std::net::UdpSocket::bind("[::1]:0").is_err() {
        println!("no IPv6 on this machine: nothing to test");
        return;
    }
    let (server, bytes) = server(3000, &["--udp", "[::]:0", "--http", "[::]:0"]);
    let port = server.udp.port();
    for (own, asked) in [
        ("::1", "::1"),
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1", "127.0.0.2"),
    ] {
        let asked = SocketAddr::new(asked.parse().unwrap(), port);
        let device = Device::at(own.parse().unwrap(), asked);
        let offer = device.check(user("P", "1.0.0")).unwrap();
        assert_eq!(device.download(offer).unwrap(), bytes);
    }
    // On such a socket an IPv4 address appears as an IPv6 address, whose networks are larger.
    let asked = SocketAddr::new("127.0.0.1".parse().unwrap(), port);
    let offer = Device::new(asked).check(user("P", "1.0.0")).unwrap();
    Device::at("127.0.1.1".parse().unwrap(), asked)
        .must_reply(format!("Get1,{}", offer.id), "ERR")
        .unwrap();
}

#[test]
fn an_id_is_valid_only_in_the_network_that_received_it() {
    let (server, bytes) = server(3000, &["--udp", "0.0.0.0:0"]);
    let asked = SocketAddr::new("127.0.0.1".parse().unwrap(), server.udp.port());
    let device = Device::at("127.0.0.1".parse().unwrap(), asked);
    let offer = device.check(user("P", "1.0.0")).unwrap();
    // A neighbour behind the same carrier's NAT has another address in the same /24.
    let neighbour = Device::at("127.0.0.77".parse().unwrap(), asked);
    assert_eq!(neighbour.download(offer).unwrap(), bytes);
    // A device from another network, or with a forged source address, cannot use the id.
    let stranger = Device::at("127.0.1.1".parse().unwrap(), asked);
    stranger
        .must_reply(format!("Get1,{}", offer.id), "ERR")
        .unwrap();
    // A check of this device gets a separate id.
    let own = stranger.check(user("P", "1.0.0")).unwrap();
    assert_ne!(own.id, offer.id);
    assert_eq!(stranger.download(own).unwrap(), bytes);
}

#[test]
fn with_udp_roaming_an_id_is_valid_everywhere() {
    let (server, bytes) = server(3000, &["--udp", "0.0.0.0:0", "--udp-roaming"]);
    let asked = SocketAddr::new("127.0.0.1".parse().unwrap(), server.udp.port());
    let offer = Device::new(asked).check(user("P", "1.0.0")).unwrap();
    let roamed = Device::at("127.0.1.1".parse().unwrap(), asked);
    assert_eq!(roamed.download(offer).unwrap(), bytes);
    roamed
        .must_reply(format!("Get1,{}", offer.id ^ 1), "ERR")
        .unwrap();
}

#[test]
fn a_client_that_guesses_ids_gets_few_replies_and_disturbs_no_module() {
    let (server, bytes) = server(3000, &["--udp", "0.0.0.0:0"]);
    let asked = SocketAddr::new("127.0.0.1".parse().unwrap(), server.udp.port());
    let honest = Device::at("127.0.0.1".parse().unwrap(), asked);
    let offer = honest.check(user("P", "1.0.0")).unwrap();
    let guesser = Device::at("127.0.5.5".parse().unwrap(), asked);
    for id in 0..3000 {
        guesser
            .socket
            .send_to(format!("Get1,{id}").as_bytes(), asked)
            .unwrap();
    }
    assert_eq!(honest.download(offer).unwrap(), bytes);
    let mut answers = 0;
    while let Some(answer) = guesser.receive(Duration::from_millis(200)) {
        assert_eq!(answer, b"ERR", "a guess was right?");
        answers += 1;
    }
    assert!(answers < 500, "{answers} answers to 3000 guesses");
}

#[test]
fn a_release_for_other_devices_is_refused_in_the_words_of_the_first_server() {
    let (server, _) = server(100, &[]);
    let device = Device::new(server.udp);
    device
        .must_reply(user("nowhere", "1.0.0"), "no upgrade")
        .unwrap();
    device
        .must_reply(user("P", "1.0.1"), "version error")
        .unwrap();
    server.rules("P/1.0.1/release.json", json!({ "allow": [OTHER] }));
    server.wait_until_refused(&luat("P", IMEI, "1.0.0"), 403, 21);
    device
        .must_reply(user("P", "1.0.0"), "imei range error")
        .unwrap();
    let answer = device
        .ask(format!("{OTHER},P_Luat_V0035_8955,1.0.0"))
        .unwrap();
    Offer::parse(&answer).unwrap();
}

#[test]
fn a_download_that_the_stop_cuts_short_has_its_line_in_the_log() {
    let (server, _) = server(20_000, &["--grace", "1"]);
    let device = Device::new(server.udp);
    let offer = device.check(user("P", "1.0.0")).unwrap();
    let reply = device.ask(format!("Get1,{}", offer.id)).unwrap();
    offer.data(1, &reply).unwrap();
    server.signal(rustix::process::Signal::TERM);
    server.wait_for_log("says how the download ended", |line| {
        common::is_event(line, "download") && common::texts(line).contains(&"stopped".to_owned())
    });
}
