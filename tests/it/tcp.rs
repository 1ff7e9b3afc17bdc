//! Promise: port 2234 accepts the same messages over TCP, without framing, in any segments.

use crate::common;

use std::time::Duration;

use common::datagrams::{Device, Offer, Stream};
use common::packages::noise;
use common::{IMEI, Place, Rows, Server, luat, reply};

fn server() -> (Server, Vec<u8>) {
    let place = Place::new();
    let bytes = noise(50, 5110);
    place.drop_firmware("P/1.0.1/update.bin", &bytes);
    let server = Server::start_in(place, &[]);
    server.wait_until_offered(&luat("P", "862991443750002", "1.0.0"), &bytes);
    (server, bytes)
}

fn user(version: &str) -> String {
    format!("{IMEI},P_Luat_V0035_8955,{version}")
}

fn official(version: &str) -> String {
    format!("0,KEY,{IMEI},SN,P_Luat_V0035_8955,{version}")
}

#[test]
fn a_whole_update_runs_over_one_connection_in_both_dialects() {
    let (server, bytes) = server();
    for (check, prefix) in [
        (user("1.0.0"), String::new()),
        (official("1.0.0"), format!("{},", official("1.0.0"))),
    ] {
        let mut stream = Stream::connect(server.tcp);
        let offer = Offer::parse(&stream.ask(&check).unwrap()).unwrap();
        offer.must_be_for(bytes.len()).unwrap();
        let mut got = Vec::new();
        for number in 1..=offer.count {
            // One message in one segment.
            let answer = stream
                .ask(format!("{prefix}Get{number},{}", offer.id))
                .unwrap();
            got.extend_from_slice(offer.data(number, &answer).unwrap());
        }
        assert!(got == bytes, "other bytes");
    }
}

#[test]
fn every_kind_of_message_is_answered_on_one_connection() {
    let (server, _) = server();
    let mut stream = Stream::connect(server.tcp);
    let offer = Offer::parse(&stream.ask(user("1.0.0")).unwrap()).unwrap();
    let mut rows = Rows::default();
    for (message, answer) in [
        (user("1.0.1"), "version error"),
        (user("factory"), "version error"),
        (
            format!("{IMEI},nowhere_Luat_V0035_8955,1.0.0"),
            "no upgrade",
        ),
        (format!("Get0,{}", offer.id), "ERR"),
        (format!("Get{},{}", offer.count + 1, offer.id), "ERR"),
        (format!("Get1,{}", offer.id ^ 1), "ERR"),
        (official("1.0.1"), "version error"),
    ] {
        rows.row(
            &message,
            stream.ask(&message).and_then(|got| {
                ensure!(
                    got == answer.as_bytes(),
                    "{} instead of {answer:?}",
                    reply::show(&got)
                );
                Ok(())
            }),
        );
    }
    rows.finish();
}

#[test]
fn a_message_may_come_in_two_segments() {
    let (server, bytes) = server();
    let mut rows = Rows::default();
    let gap = Duration::from_millis(15);
    for check in [user("1.0.0"), official("1.0.0")] {
        for cut in [1, 5, 16, 25] {
            let mut stream = Stream::connect(server.tcp);
            let result = (|| {
                stream.send(&check[..cut])?;
                std::thread::sleep(gap);
                let offer = Offer::parse(&stream.ask(&check[cut..])?)?;
                offer.must_be_for(bytes.len())?;
                let message = format!("Get2,{}", offer.id);
                for cut in [1, 3, 4, 5] {
                    stream.send(&message[..cut])?;
                    std::thread::sleep(gap);
                    let answer = stream.ask(&message[cut..])?;
                    offer.data(2, &answer)?;
                }
                Ok(())
            })();
            rows.row(&format!("{check} cut at {cut}"), result);
        }
    }
    rows.finish();
}

#[test]
fn an_id_from_udp_is_valid_over_tcp_and_the_reverse() {
    let (server, bytes) = server();
    let device = Device::new(server.udp);
    let offer = device.check(user("1.0.0")).unwrap();
    let mut stream = Stream::connect(server.tcp);
    let answer = stream.ask(format!("Get1,{}", offer.id)).unwrap();
    assert_eq!(offer.data(1, &answer).unwrap(), &bytes[..1022]);
    let offer = Offer::parse(&stream.ask(user("1.0.0")).unwrap()).unwrap();
    assert_eq!(device.download(offer).unwrap(), bytes);
}

#[test]
fn nonsense_ends_only_its_own_connection() {
    let (server, _) = server();
    for nonsense in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        &noise(51, 20_000),
        &[b'A'; 100_000],
        &[b','; 5000],
        b"\0\0\0\0",
        b"LUAUPDATE,1,2,3",
    ] {
        let mut stream = Stream::connect(server.tcp);
        let _ = stream.send(nonsense);
        let _ = stream.0.set_read_timeout(Some(Duration::from_millis(200)));
        let _ = stream.receive();
    }
    let mut stream = Stream::connect(server.tcp);
    Offer::parse(&stream.ask(user("1.0.0")).unwrap()).unwrap();
}

#[test]
fn a_module_that_asks_for_the_next_packet_before_it_read_the_last_gets_both() {
    let (server, bytes) = server();
    let mut stream = Stream::connect(server.tcp);
    let offer = Offer::parse(&stream.ask(user("1.0.0")).unwrap()).unwrap();
    stream.send(format!("Get1,{}", offer.id)).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    stream.send(format!("Get2,{}", offer.id)).unwrap();
    let mut got = Vec::new();
    while got.len() < 2 * 1024 {
        got.extend(stream.receive().unwrap());
    }
    assert_eq!(offer.data(1, &got[..1024]).unwrap(), &bytes[..1022]);
    assert_eq!(offer.data(2, &got[1024..]).unwrap(), &bytes[1022..2044]);
}
