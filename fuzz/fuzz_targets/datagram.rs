//! Parses any bytes of the modules' UDP port (or of a message over TCP). Parsing must not panic, and a
//! message that begins like one of the server's own replies is never answered, because two servers would
//! otherwise answer each other endlessly. `cargo fuzz run datagram`.
#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use luat_ota::fleet::requester::Requester;
use luat_ota::wire::dialects::datagram::{Datagram, packets, parse, write_offer};

fuzz_target!(|bytes: &[u8]| {
    let message = parse(bytes);
    for reply in ["LUAUPDATE", "ERR", "no upgrade", "unknown function", "OK"] {
        if bytes.starts_with(reply.as_bytes()) {
            assert_eq!(message, Datagram::NoReply);
        }
    }
    // Padding of UDP and line ends of terminals are ignored.
    let padded = [bytes, b"\r\n\0"].concat();
    assert_eq!(parse(&padded), message);
    match message {
        Datagram::Check(check) => {
            let _ = check.project();
            let _ = Requester::of(&check, IpAddr::from([192, 0, 2, 1]));
        }
        Datagram::Get(get) => {
            assert!(get.id.is_none_or(|id| id <= i32::MAX as u32));
            let number = get.number.unwrap_or(1);
            assert!(number > 0);
            if let Some((count, last)) = packets(u64::from(number) * 977) {
                let mut offer = [0; 40];
                let length = write_offer(&mut offer, get.id.unwrap_or(0), count, last);
                assert_eq!(parse(&offer[..length]), Datagram::NoReply);
            }
        }
        Datagram::Unknown | Datagram::NoReply => {}
    }
});
