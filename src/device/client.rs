//! Client address behind trusted proxies.

use std::net::{IpAddr, SocketAddr};

use super::Limits;
use crate::wire::head::Head;

/// Returns the client's address: the peer's or, if the peer is a trusted proxy, the last address in X-Forwarded-For
/// that is not a trusted proxy's. The header may occur several times (HAProxy adds its own line). Earlier addresses
/// come from the client and are not trusted.
pub(super) fn client_of(limits: &Limits, head: &Head<'_>, peer: SocketAddr) -> SocketAddr {
    if !limits.trusts(peer.ip()) {
        return peer;
    }
    let mut client = peer.ip();
    let values: Vec<&[u8]> = head
        .headers()
        .filter(|(name, _)| name.eq_ignore_ascii_case(b"x-forwarded-for"))
        .map(|(_, value)| value)
        .collect();
    for value in values.into_iter().rev() {
        for text in value.rsplit(|byte| *byte == b',') {
            let Some(address) = address(text) else {
                return SocketAddr::new(client, 0);
            };
            client = address;
            if !limits.trusts(client) {
                return SocketAddr::new(client, 0);
            }
        }
    }
    match client == peer.ip() {
        true => peer,
        false => SocketAddr::new(client, 0),
    }
}

/// Parses an address in one of the forms `192.0.2.7`, `192.0.2.7:1234`, `2001:db8::1`, `[2001:db8::1]` and
/// `[2001:db8::1]:1234`.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text.trim_ascii()).ok()?;
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    let parsed = bare
        .unwrap_or(text)
        .parse()
        .or_else(|_| text.parse().map(|socket: SocketAddr| socket.ip()));
    parsed.ok().map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::super::Cidr;
    use super::*;
    use crate::wire::head::{self, HeadLimits, HeadProgress};

    fn client(block: &str, peer: &str) -> String {
        let limits = Limits {
            trusted_proxies: vec![Cidr::parse("10.0.0.0/8").unwrap()],
            ..Limits::default()
        };
        let bytes = format!("GET / HTTP/1.1\r\n{block}\r\n");
        let limits_of_head = HeadLimits {
            bytes: 1024,
            headers: 8,
        };
        let HeadProgress::Complete(head, _) = head::read(bytes.as_bytes(), limits_of_head) else {
            panic!("no head: {bytes}");
        };
        let peer = SocketAddr::new(peer.parse().unwrap(), 9);
        client_of(&limits, &head, peer).ip().to_string()
    }

    #[test]
    fn only_a_trusted_proxy_is_believed() {
        let block = "X-Forwarded-For: 203.0.113.9\r\n";
        assert_eq!(client(block, "10.0.0.1"), "203.0.113.9");
        assert_eq!(client(block, "192.0.2.1"), "192.0.2.1");
        assert_eq!(client("Host: x\r\n", "10.0.0.1"), "10.0.0.1");
    }

    #[test]
    fn an_address_written_by_the_client_is_not_believed() {
        let one = "x-forwarded-for: 1.1.1.1, 203.0.113.9, 10.0.0.5\r\n";
        assert_eq!(client(one, "10.0.0.1"), "203.0.113.9");
        let two = "X-Forwarded-For: 1.1.1.1\r\nHost: x\nX-FORWARDED-FOR:203.0.113.9\r\n";
        assert_eq!(client(two, "10.0.0.1"), "203.0.113.9");
        let odd = "X-Forwarded-For: 1.1.1.1, unknown\r\n";
        assert_eq!(client(odd, "10.0.0.1"), "10.0.0.1");
    }

    #[test]
    fn ports_and_brackets_do_not_matter() {
        let block = |value: &str| format!("X-Forwarded-For: {value}\r\n");
        assert_eq!(client(&block("203.0.113.9:80"), "10.0.0.1"), "203.0.113.9");
        assert_eq!(
            client(&block("[2001:db8::1]:80"), "10.0.0.1"),
            "2001:db8::1"
        );
        assert_eq!(client(&block("[2001:db8::1]"), "10.0.0.1"), "2001:db8::1");
        assert_eq!(
            client(&block("::ffff:203.0.113.9"), "10.0.0.1"),
            "203.0.113.9"
        );
    }
}
