//! Flaws in the replies of a first-edition server (docs/protocol.md 6), over UDP or TCP.

use crate::modems::driver::{End, Exchange};
use crate::modems::lua;

/// Data bytes in a full packet.
const DATA: u64 = 1022;

/// Greatest packet number: it is sent in two bytes.
const GREATEST: u64 = 65_535;

/// Returns what the server must change, if the exchanges show it.
pub(super) fn sentence(exchanges: &[Exchange], over_udp: bool) -> Option<String> {
    let last = exchanges.last()?;
    let offer = exchanges
        .iter()
        .find_map(|exchange| Offer::read(&exchange.reply));
    if let End::NotConnected(why) = &last.end {
        return Some(format!(
            "make the server reachable here: no connection could be made ({why})"
        ));
    }
    let Some(offer) = offer else {
        return Some(
            if last.received == 0 && last.end == End::Reset && over_udp {
                format!("listen on UDP at {}: the port is closed", last.to)
            } else if last.received == 0 {
                "answer every check, also with `no upgrade`: silence costs the module 50 s"
                    .to_owned()
            } else {
                "begin the answer to a check with `LUAUPDATE,<id>,<count>,<last>`".to_owned()
            },
        );
    };
    let requested = requested(&last.request);
    let what = match (requested, last.received) {
        (_, _) if offer.flaw().is_some() => return offer.flaw(),
        (None, _) => return None,
        (Some(packet), 0) if over_udp || last.end == End::Open => {
            format!("answer `Get{packet},{}`: there was no reply", offer.id)
        }
        (Some(packet), 0) => {
            format!("keep the TCP connection open: it ended before packet {packet}")
        }
        (Some(packet), _) => offer.packet_flaw(packet, last)?,
    };
    Some(what)
}

struct Offer {
    id: u64,
    count: u64,
    last: u64,
}

impl Offer {
    fn read(reply: &[u8]) -> Option<Offer> {
        let (id, rest) = lua::digits(reply.strip_prefix(b"LUAUPDATE,")?)?;
        let (count, rest) = lua::digits(rest.strip_prefix(b",")?)?;
        let (last, _) = lua::digits(rest.strip_prefix(b",")?)?;
        Some(Offer {
            id: lua::number(id),
            count: lua::number(count),
            last: lua::number(last),
        })
    }

    /// Returns the flaw of the offer itself, if any.
    fn flaw(&self) -> Option<String> {
        if self.last == 0 {
            Some(
                "give 1022 as the last packet's size, not 0, when the file is a multiple of 1022"
                    .into(),
            )
        } else if self.last > DATA {
            Some(format!(
                "give 1 to 1022 as the last packet's size, not {}: a packet has 1022 bytes of data",
                self.last
            ))
        } else if self.count == 0 || self.count > GREATEST {
            Some(format!(
                "offer 1 to {GREATEST} packets, not {}: the number has two bytes",
                self.count
            ))
        } else if self.id > 2_147_483_647 {
            Some(format!("use an id below 2147483648, not {}", self.id))
        } else {
            None
        }
    }

    /// Returns the flaw of the reply to `Get<packet>`, if any.
    fn packet_flaw(&self, packet: u64, exchange: &Exchange) -> Option<String> {
        if exchange.reply == b"ERR" {
            return Some(format!(
                "answer `Get{packet},{}` with the packet: `ERR` ends the download",
                self.id
            ));
        }
        let expected = if packet < self.count { DATA } else { self.last };
        let got = u64::try_from(exchange.first).unwrap_or(u64::MAX);
        if got != expected.saturating_add(2) {
            return Some(format!(
                "send 2 bytes of number and {expected} of data in packet {packet} of {}, not {got}",
                self.count
            ));
        }
        let (number, _) = exchange.reply.split_first_chunk::<2>()?;
        let received = u64::from(u16::from_be_bytes(*number));
        if received == packet {
            return (exchange.end == End::Closed)
                .then(|| "keep the TCP connection open until the last packet".to_owned());
        }
        Some(if u64::from(u16::from_le_bytes(*number)) == packet {
            "write the packet's number big-endian (high byte first)".to_owned()
        } else if received.checked_add(1) == Some(packet) {
            "count packets from 1, not from 0".to_owned()
        } else {
            format!("answer `Get{packet}` with packet {packet}, not {received}")
        })
    }
}

/// Returns n of `Get<n>,<id>`.
fn requested(request: &[u8]) -> Option<u64> {
    lua::digits_after(request, b"Get").map(lua::number)
}
