//! Networks of clients: the unit in which devices, UDP upgrade ids, rate limits and connection caps distinguish client
//! addresses. Used by the modules `fleet` and `device`.
//!
//! An IPv4 address that arrives mapped (`::ffff:a.b.c.d`, every IPv4 client of a dual-stack socket) counts as IPv4.
//! Otherwise all of these clients would be in one IPv6 network (docs/hazards.md 6).

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An IPv4 /24 or an IPv6 /48.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Network {
    /// The first 24 bits of an IPv4 address.
    V4([u8; 3]),
    /// The first 48 bits of an IPv6 address.
    V6([u8; 6]),
}

impl Network {
    /// Network of an address. A mapped IPv4 address counts as IPv4.
    pub fn of(address: IpAddr) -> Network {
        match address.to_canonical() {
            IpAddr::V4(v4) => {
                let [a, b, c, _] = v4.octets();
                Network::V4([a, b, c])
            }
            IpAddr::V6(v6) => {
                let [a, b, c, d, e, f, ..] = v6.octets();
                Network::V6([a, b, c, d, e, f])
            }
        }
    }

    /// Parses the text form of a [`Network`].
    pub fn parse(text: &str) -> Option<Network> {
        let (first, bits) = text.split_once('/')?;
        let network = Network::of(first.parse().ok()?);
        match (network, bits) {
            (Network::V4(_), "24") | (Network::V6(_), "48") => Some(network),
            _ => None,
        }
    }

    /// First address of the network.
    pub fn address(&self) -> IpAddr {
        match *self {
            Network::V4([a, b, c]) => IpAddr::V4(Ipv4Addr::new(a, b, c, 0)),
            Network::V6([a, b, c, d, e, f]) => {
                let octets = [a, b, c, d, e, f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
                IpAddr::V6(Ipv6Addr::from(octets))
            }
        }
    }

    /// Bits of the network, 3 or 6 bytes, most significant first.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Network::V4(bits) => bits,
            Network::V6(bits) => bits,
        }
    }

    /// Unique number of the network; hashed and compared for every packet.
    pub fn number(&self) -> u64 {
        match *self {
            Network::V4([a, b, c]) => u64::from_be_bytes([4, 0, 0, 0, 0, a, b, c]),
            Network::V6([a, b, c, d, e, f]) => u64::from_be_bytes([6, 0, a, b, c, d, e, f]),
        }
    }
}

impl Hash for Network {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.number());
    }
}

/// An IPv4 /16 or an IPv6 /32, as one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CoarseNetwork(pub u64);

impl CoarseNetwork {
    /// Coarse network of an address. A mapped IPv4 address counts as IPv4.
    pub fn of(address: IpAddr) -> CoarseNetwork {
        CoarseNetwork::from(Network::of(address))
    }
}

impl From<Network> for CoarseNetwork {
    fn from(network: Network) -> CoarseNetwork {
        match network {
            Network::V4([a, b, _]) => CoarseNetwork(u64::from(u16::from_be_bytes([a, b]))),
            Network::V6([a, b, c, d, ..]) => {
                CoarseNetwork(1 << 32 | u64::from(u32::from_be_bytes([a, b, c, d])))
            }
        }
    }
}

/// Writes `192.0.2.0/24` or `2001:db8:1::/48`.
impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Network::V4([a, b, c]) => write!(f, "{}/24", Ipv4Addr::new(a, b, c, 0)),
            Network::V6([a, b, c, d, e, g]) => {
                let pair = u16::from_be_bytes;
                let first = Ipv6Addr::new(pair([a, b]), pair([c, d]), pair([e, g]), 0, 0, 0, 0, 0);
                write!(f, "{first}/48")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(address: &str) -> Network {
        Network::of(address.parse().unwrap())
    }

    #[test]
    fn a_mapped_ipv4_address_counts_as_ipv4() {
        assert_eq!(of("::ffff:192.0.2.7"), of("192.0.2.200"));
        assert_ne!(of("::ffff:192.0.2.7"), of("::ffff:192.0.3.7"));
    }

    #[test]
    fn ipv6_networks_are_48_bits_long() {
        assert_eq!(of("2001:db8:1:2::3"), of("2001:db8:1:ffff::4"));
        assert_ne!(of("2001:db8:1::1"), of("2001:db8:2::1"));
        assert_eq!(of("2001:db8:1:2::3").to_string(), "2001:db8:1::/48");
        assert_eq!(of("10.1.2.3").to_string(), "10.1.2.0/24");
        for address in ["10.1.2.3", "2001:db8:1:2::3", "::"] {
            let network = of(address);
            assert_eq!(Network::parse(&network.to_string()), Some(network));
            assert_eq!(Network::of(network.address()), network);
        }
        for wrong in ["", "10.1.2.0", "10.1.2.0/48", "::/24", "x/24"] {
            assert_eq!(Network::parse(wrong), None, "{wrong}");
        }
    }
}
