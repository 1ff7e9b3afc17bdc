//! Warning if cellular modules cannot reach the listeners.

use std::net::{IpAddr, SocketAddr};

/// Area from which a listener can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    ThisMachine,
    ThisNetwork,
    World,
}

fn reach(address: IpAddr) -> Reach {
    match address.to_canonical() {
        address if address.is_loopback() => Reach::ThisMachine,
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            // 100.64.0.0/10 is behind a carrier's NAT.
            let carrier = a == 100 && (64..128).contains(&b);
            match v4.is_private() || v4.is_link_local() || carrier {
                true => Reach::ThisNetwork,
                false => Reach::World,
            }
        }
        IpAddr::V6(v6) => match v6.is_unique_local() || v6.is_unicast_link_local() {
            true => Reach::ThisNetwork,
            false => Reach::World,
        },
    }
}

/// Returns a warning if no cellular module can reach any of these listeners. `own`: addresses of this machine, for
/// listeners on all addresses.
pub(super) fn warning(listeners: &[SocketAddr], own: &[IpAddr]) -> Option<String> {
    let mut best: Option<(Reach, SocketAddr)> = None;
    for listener in listeners {
        let wildcard = listener.ip().to_canonical().is_unspecified();
        // 0.0.0.0 cannot be reached over IPv6.
        let fits = |address: &&IpAddr| listener.is_ipv6() || address.is_ipv4();
        let at = match wildcard {
            true => own.iter().filter(fits).copied().max_by_key(|ip| reach(*ip)),
            false => Some(listener.ip()),
        };
        let (reach, ip) = match at {
            Some(ip) => (reach(ip), ip),
            None => (Reach::ThisMachine, listener.ip()),
        };
        if best.is_none_or(|(known, _)| reach > known) {
            best = Some((reach, SocketAddr::new(ip, listener.port())));
        }
    }
    match best? {
        (Reach::World, _) => None,
        (Reach::ThisNetwork, at) => Some(format!(
            "a cellular module cannot reach {at}: it needs a public address or a port forwarded from \
             one"
        )),
        (Reach::ThisMachine, at) => Some(format!(
            "a cellular module cannot reach {at}, nor can any other machine: it needs a public \
             address or a port forwarded from one"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sentence(listeners: &[&str], own: &[&str]) -> String {
        let listeners: Vec<SocketAddr> = listeners.iter().map(|a| a.parse().unwrap()).collect();
        let own: Vec<IpAddr> = own.iter().map(|a| a.parse().unwrap()).collect();
        warning(&listeners, &own).unwrap_or_default()
    }

    #[test]
    fn a_listener_that_modules_cannot_reach_causes_a_warning() {
        for (listeners, own, place) in [
            (
                &["127.0.0.1:8080"][..],
                &["8.8.8.8"][..],
                "127.0.0.1:8080, nor",
            ),
            (&["[::1]:8080"], &["8.8.8.8"], "[::1]:8080, nor"),
            (&["192.168.1.2:8080"], &[], "192.168.1.2:8080:"),
            (&["[::]:8080"], &["192.168.1.2"], "192.168.1.2:8080:"),
            (&["[::]:8080"], &["172.17.0.2", "fe80::1"], "fe80::1]:8080:"),
            (
                &["0.0.0.0:8080"],
                &["10.0.0.1", "2a00::1"],
                "10.0.0.1:8080:",
            ),
            (&["0.0.0.0:8080"], &[], "0.0.0.0:8080, nor"),
            (&["100.64.0.1:80"], &[], "100.64.0.1:80:"),
            (&["[fd00::1]:80", "127.0.0.1:80"], &[], "[fd00::1]:80:"),
        ] {
            let sentence = sentence(listeners, own);
            assert!(
                sentence.contains(place),
                "{listeners:?} {own:?}: {sentence}"
            );
        }
    }

    #[test]
    fn a_listener_that_modules_can_reach_causes_no_warning() {
        for (listeners, own) in [
            (&["[::]:8080"][..], &["192.168.1.2", "8.8.8.8"][..]),
            (&["[::]:8080"], &["2a00::1"]),
            (&["0.0.0.0:8080"], &["8.8.8.8"]),
            (&["8.8.8.8:8080", "127.0.0.1:80"], &[]),
            (&[], &[]),
        ] {
            assert_eq!(sentence(listeners, own), "", "{listeners:?} {own:?}");
        }
    }
}
