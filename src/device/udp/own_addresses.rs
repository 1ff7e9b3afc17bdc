//! The addresses at which a UDP socket of the server can be reached (docs/hazards.md 5).

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use smol::Async;

use crate::os;

/// Age at which the addresses of the interfaces are looked up again, since they can change.
const REFRESH: Duration = Duration::from_secs(60);

/// Addresses of a socket of the server. A datagram from one of them is a reply of the server, or a forgery that would
/// make the server talk to itself.
pub(super) struct OwnAddresses {
    local: Option<SocketAddr>,
    addresses: Vec<IpAddr>,
    /// Time at which the interfaces were last looked up.
    looked_up: Instant,
}

impl OwnAddresses {
    /// Addresses of a socket.
    pub fn of(socket: &Async<UdpSocket>) -> OwnAddresses {
        let local = socket.get_ref().local_addr().map(os::net::unmapped).ok();
        OwnAddresses {
            local,
            // Needed only for a socket on all addresses.
            addresses: match local.is_some_and(|local| local.ip().is_unspecified()) {
                true => os::net::own_addresses(),
                false => Vec::new(),
            },
            looked_up: Instant::now(),
        }
    }

    /// Whether a datagram comes from the socket itself.
    pub fn is_own(&mut self, from: SocketAddr) -> bool {
        let Some(local) = self.local.filter(|local| local.port() == from.port()) else {
            return false;
        };
        if !local.ip().is_unspecified() {
            return local.ip() == from.ip();
        }
        // The addresses of the interfaces can change.
        if self.looked_up.elapsed() >= REFRESH {
            self.addresses = os::net::own_addresses();
            self.looked_up = Instant::now();
        }
        from.ip().is_loopback() || self.addresses.contains(&from.ip())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_own_address_is_recognised() {
        let address = |text: &str| -> SocketAddr { text.parse().unwrap() };
        let mut wildcard = OwnAddresses {
            local: Some(address("[::]:2234")),
            addresses: vec!["192.0.2.1".parse().unwrap()],
            looked_up: Instant::now(),
        };
        assert!(wildcard.is_own(address("192.0.2.1:2234")));
        assert!(wildcard.is_own(address("127.0.0.1:2234")));
        assert!(wildcard.is_own(address("[::1]:2234")));
        assert!(!wildcard.is_own(address("192.0.2.1:2233")));
        assert!(!wildcard.is_own(address("192.0.2.2:2234")));
        let mut one = OwnAddresses {
            local: Some(address("127.0.0.1:2234")),
            ..wildcard
        };
        assert!(one.is_own(address("127.0.0.1:2234")));
        assert!(!one.is_own(address("127.0.0.2:2234")));
    }
}
