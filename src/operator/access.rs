//! Who may do what: one table, of the request's Host, where it comes from and its token. Pure; asked by
//! [`super::plane`] before anything is looked up.
//!
//! A listener on the loopback is reachable by every page in every browser on this machine (DNS rebinding,
//! forms), by every local user, and through every proxy on this machine. Therefore the Host must be ours, a
//! page of another site is refused by what its browser says of it, and everything but the page's own files
//! needs a token, on loopback too (docs/hazards.md 4 and 31).

use std::net::{IpAddr, SocketAddr};

use sha2::{Digest, Sha256};

/// What is asked for, as far as access goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matter {
    /// The page itself, and whether the server lives: there is no data in them.
    Open,
    /// Something is looked at.
    Read,
    /// Something is changed.
    Write,
}

/// What a request says of itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bearing<'r> {
    /// `Host`.
    pub host: &'r str,
    /// `Origin`.
    pub origin: Option<&'r str>,
    /// `Sec-Fetch-Site`.
    pub site: Option<&'r str>,
    /// `Authorization`.
    pub authorization: Option<&'r str>,
}

/// Why a request is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// 400: `Host` is no host.
    BadHost,
    /// 421: `Host` is not one of ours.
    NotOurs,
    /// 403: another site asks through somebody's browser.
    OtherSite,
    /// 401: no token.
    NoToken,
    /// 401: a token that is not one of ours.
    WrongToken,
    /// 403: the read token, for a request that changes something.
    ReadOnly,
}

/// The hash of a token: hashes have one length, so comparing them takes the same time for every token.
type TokenHash = [u8; 32];

/// Who may do what.
pub struct Access {
    /// The operator's token: reads and writes.
    operator: TokenHash,
    /// The read token, if there is one.
    read: Option<TokenHash>,
    /// Hosts that a proxy answers to, in small letters.
    names: Vec<String>,
    /// Only this machine can connect.
    loopback: bool,
    port: u16,
}

/// A host that may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// This machine, asked by itself.
    Local,
    /// An address of ours, or a name that was given for a proxy.
    Named,
}

impl Access {
    /// For the listener at `address`. `names`: hosts to answer to besides the local ones.
    pub fn new(
        operator: &str,
        read: Option<&str>,
        names: &[String],
        address: SocketAddr,
    ) -> Access {
        Access {
            operator: Sha256::digest(operator).into(),
            read: read.map(|token| Sha256::digest(token).into()),
            names: names.iter().map(|name| name.to_ascii_lowercase()).collect(),
            loopback: address.ip().to_canonical().is_loopback(),
            port: address.port(),
        }
    }

    /// May this be done?
    pub fn judge(&self, matter: Matter, bearing: &Bearing<'_>) -> Result<(), Denied> {
        let host = Authority::parse(bearing.host).ok_or(Denied::BadHost)?;
        self.place(&host).ok_or(Denied::NotOurs)?;
        if matter == Matter::Open {
            return Ok(());
        }
        if let Some(origin) = bearing.origin
            && !self.is_own(origin, &host)
        {
            return Err(Denied::OtherSite);
        }
        if !matches!(bearing.site, None | Some("none" | "same-origin")) {
            return Err(Denied::OtherSite);
        }
        let token = bearing.authorization.ok_or(Denied::NoToken)?;
        let token = bearer(token).ok_or(Denied::WrongToken)?;
        // Both are compared, whatever the first comparison says.
        let operator = same(&self.operator, &token);
        let read = self.read.as_ref().is_some_and(|read| same(read, &token));
        match (operator, read, matter) {
            (true, _, _) | (_, true, Matter::Read) => Ok(()),
            (false, true, _) => Err(Denied::ReadOnly),
            (false, false, _) => Err(Denied::WrongToken),
        }
    }

    fn place(&self, host: &Authority) -> Option<Place> {
        let is_local = match host.address {
            Some(address) => address.is_loopback(),
            None => host.name == "localhost",
        };
        let ours = host.port.is_none_or(|port| port == self.port);
        if is_local && ours {
            return Some(Place::Local);
        }
        if self.names.iter().any(|name| host.is(name)) {
            return Some(Place::Named);
        }
        // No name can be made to point here by somebody else if there is no name.
        let by_address = host.address.is_some() && ours && !self.loopback;
        by_address.then_some(Place::Named)
    }

    /// Is this the origin of our own page, asked for under this host?
    fn is_own(&self, origin: &str, host: &Authority) -> bool {
        let (authority, default) = match (
            origin.strip_prefix("http://"),
            origin.strip_prefix("https://"),
        ) {
            (Some(authority), _) => (authority, 80),
            (_, Some(authority)) => (authority, 443),
            _ => return false,
        };
        let Some(origin) = Authority::parse(authority) else {
            return false;
        };
        match self.place(&origin) {
            Some(Place::Local) => origin.port.unwrap_or(default) == self.port,
            // Behind a proxy, which has a port of its own.
            Some(Place::Named) => origin.port.is_none() || origin == *host,
            None => false,
        }
    }
}

/// The hash of the token in `Bearer TOKEN` (RFC 6750 section 2.1).
fn bearer(authorization: &str) -> Option<TokenHash> {
    let (scheme, token) = authorization.split_once(' ')?;
    let is_bearer = scheme.eq_ignore_ascii_case("bearer");
    is_bearer.then(|| Sha256::digest(token.trim()).into())
}

/// Compares two hashes, in a time that does not depend on them.
fn same(one: &TokenHash, other: &TokenHash) -> bool {
    let pairs = one.iter().zip(other);
    let different = pairs.fold(0, |sum, (a, b)| sum | (a ^ b));
    std::hint::black_box(different) == 0
}

/// `host[:port]`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Authority {
    /// In small letters; of an IPv6 address what is between the brackets.
    name: String,
    /// The same, if it is an address.
    address: Option<IpAddr>,
    port: Option<u16>,
}

impl Authority {
    /// Letters, digits, `-`, `.`, `_`, or an address; nothing that a URL could be broken with.
    fn parse(text: &str) -> Option<Authority> {
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, Some(port)),
            _ => (text, None),
        };
        let port = match port {
            Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(port.parse().ok()?)
            }
            Some(_) => return None,
            None => None,
        };
        let bracketed = host
            .strip_prefix('[')
            .map(|rest| rest.strip_suffix(']').unwrap_or_default());
        let address: Option<IpAddr> = match bracketed {
            Some(inside) => Some(IpAddr::V6(inside.parse().ok()?)),
            None => host.parse().ok().map(IpAddr::V4),
        };
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if address.is_none() && (host.is_empty() || !host.bytes().all(letter)) {
            return None;
        }
        Some(Authority {
            name: bracketed.unwrap_or(host).to_ascii_lowercase(),
            address: address.map(|address| address.to_canonical()),
            port,
        })
    }

    /// Is it the host that a person named, with a port or without?
    fn is(&self, named: &str) -> bool {
        Authority::parse(named).is_some_and(|named| {
            named.name == self.name && (named.port.is_none() || named.port == self.port)
        })
    }
}

/// Can this be named with `--operator-host`?
pub fn is_host(text: &str) -> bool {
    Authority::parse(text).is_some()
}

/// Is this a token that can be sent in a header, and that nobody guesses at once?
pub fn is_token(text: &str) -> bool {
    (8..=256).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;
    use Matter::{Open, Read, Write};

    const TOKEN: &str = "0123456789abcdef";

    const READ_TOKEN: &str = "fedcba9876543210";

    fn local() -> Access {
        Access::new(
            TOKEN,
            Some(READ_TOKEN),
            &["ota.example.com".to_owned()],
            "127.0.0.1:8081".parse().unwrap(),
        )
    }

    fn public() -> Access {
        Access::new(TOKEN, None, &[], "0.0.0.0:8081".parse().unwrap())
    }

    fn at(host: &str) -> Bearing<'_> {
        Bearing {
            host,
            ..Bearing::default()
        }
    }

    fn with_token(host: &str) -> Bearing<'_> {
        Bearing {
            authorization: Some("Bearer 0123456789abcdef"),
            ..at(host)
        }
    }

    #[test]
    fn hosts_are_ours_or_not() {
        for (host, access, read) in [
            ("127.0.0.1:8081", local(), Err(Denied::NoToken)),
            ("127.0.0.1", local(), Err(Denied::NoToken)),
            ("127.0.0.9:8081", local(), Err(Denied::NoToken)),
            ("localhost:8081", local(), Err(Denied::NoToken)),
            ("LocalHost", local(), Err(Denied::NoToken)),
            ("[::1]:8081", local(), Err(Denied::NoToken)),
            ("[::1]", local(), Err(Denied::NoToken)),
            ("localhost:8080", local(), Err(Denied::NotOurs)),
            ("localhost.:8081", local(), Err(Denied::NotOurs)),
            ("localhost.evil.example", local(), Err(Denied::NotOurs)),
            ("evil.example:8081", local(), Err(Denied::NotOurs)),
            ("192.168.1.1:8081", local(), Err(Denied::NotOurs)),
            ("ota.example.com", local(), Err(Denied::NoToken)),
            ("OTA.example.com:443", local(), Err(Denied::NoToken)),
            ("192.168.1.1:8081", public(), Err(Denied::NoToken)),
            ("localhost:8081", public(), Err(Denied::NoToken)),
            ("router.lan:8081", public(), Err(Denied::NotOurs)),
            ("", local(), Err(Denied::BadHost)),
            ("evil/x?", local(), Err(Denied::BadHost)),
            ("user@localhost", local(), Err(Denied::BadHost)),
            ("localhost:", local(), Err(Denied::BadHost)),
            ("localhost:+8081", local(), Err(Denied::BadHost)),
            ("localhost:99999", local(), Err(Denied::BadHost)),
            ("[::1", local(), Err(Denied::BadHost)),
            ("[::1]x", local(), Err(Denied::BadHost)),
            ("::1", local(), Err(Denied::BadHost)),
            ("a b", local(), Err(Denied::BadHost)),
            ("a,b", local(), Err(Denied::BadHost)),
        ] {
            assert_eq!(access.judge(Read, &at(host)), read, "{host}");
        }
    }

    #[test]
    fn all_but_the_page_needs_a_token_and_changes_need_the_operators() {
        let reading = |host| Bearing {
            authorization: Some("Bearer fedcba9876543210"),
            ..at(host)
        };
        let wrong = |host| Bearing {
            authorization: Some("Bearer 0123456789abcdeX"),
            ..at(host)
        };
        for (matter, bearing, answer) in [
            (Open, at("localhost"), Ok(())),
            (Open, at("ota.example.com"), Ok(())),
            (Open, wrong("localhost"), Ok(())),
            (Open, at("evil.example"), Err(Denied::NotOurs)),
            (Read, at("localhost"), Err(Denied::NoToken)),
            (Read, wrong("localhost"), Err(Denied::WrongToken)),
            (Read, reading("localhost"), Ok(())),
            (Read, reading("ota.example.com"), Ok(())),
            (Read, with_token("localhost"), Ok(())),
            (Read, with_token("ota.example.com"), Ok(())),
            (Write, at("localhost"), Err(Denied::NoToken)),
            (Write, wrong("localhost"), Err(Denied::WrongToken)),
            (Write, reading("localhost"), Err(Denied::ReadOnly)),
            (Write, with_token("localhost"), Ok(())),
            (Write, with_token("ota.example.com"), Ok(())),
            (Write, with_token("evil.example"), Err(Denied::NotOurs)),
            (Read, reading("evil.example"), Err(Denied::NotOurs)),
        ] {
            let judged = local().judge(matter, &bearing);
            assert_eq!(judged, answer, "{matter:?} {bearing:?}");
        }
        // Without a read token there is none that an empty one could match.
        let empty = Bearing {
            authorization: Some("Bearer "),
            ..at("localhost:8081")
        };
        assert_eq!(public().judge(Read, &empty), Err(Denied::WrongToken));
    }

    #[test]
    fn only_our_own_page_may_ask_through_a_browser() {
        let from = |host, origin, site| Bearing {
            origin,
            site,
            ..with_token(host)
        };
        let (ours, theirs) = (Ok(()), Err(Denied::OtherSite));
        for (host, origin, site, answer) in [
            ("localhost:8081", Some("http://localhost:8081"), None, ours),
            ("localhost:8081", Some("http://127.0.0.1:8081"), None, ours),
            (
                "localhost:8081",
                Some("http://localhost:3000"),
                None,
                theirs,
            ),
            ("localhost:8081", Some("http://localhost"), None, theirs),
            ("localhost:8081", Some("http://evil.example"), None, theirs),
            ("localhost:8081", Some("null"), None, theirs),
            ("localhost:8081", Some(""), None, theirs),
            (
                "localhost:8081",
                Some("file://localhost:8081"),
                None,
                theirs,
            ),
            (
                "ota.example.com",
                Some("https://ota.example.com"),
                Some("same-origin"),
                ours,
            ),
            (
                "ota.example.com:8443",
                Some("https://ota.example.com:8443"),
                None,
                ours,
            ),
            (
                "ota.example.com",
                Some("https://ota.example.com:8443"),
                None,
                theirs,
            ),
            (
                "ota.example.com",
                Some("https://ota.example.com.evil"),
                None,
                theirs,
            ),
            ("localhost:8081", None, Some("none"), ours),
            ("localhost:8081", None, Some("same-site"), theirs),
            ("localhost:8081", None, Some("cross-site"), theirs),
        ] {
            for matter in [Read, Write] {
                let judged = local().judge(matter, &from(host, origin, site));
                assert_eq!(judged, answer, "{matter:?} {host} {origin:?} {site:?}");
            }
            let page = local().judge(Open, &from(host, origin, site));
            assert_eq!(page, Ok(()), "a link from elsewhere leads to the page");
        }
    }

    #[test]
    fn a_token_is_known_by_all_of_it() {
        let access = local();
        for (said, known) in [
            ("Bearer 0123456789abcdef", true),
            ("bearer 0123456789abcdef", true),
            ("Bearer  0123456789abcdef", true),
            ("Bearer 0123456789abcdeF", false),
            ("Bearer 0123456789abcde", false),
            ("Bearer 0123456789abcdef0", false),
            ("Bearer ", false),
            ("Bearer", false),
            ("", false),
            ("Basic 0123456789abcdef", false),
            ("0123456789abcdef", false),
        ] {
            let bearing = Bearing {
                authorization: Some(said),
                ..at("localhost")
            };
            let judged = access.judge(Write, &bearing);
            assert_eq!(judged.is_ok(), known, "{said:?}");
        }
    }

    #[test]
    fn tokens_can_be_sent_in_a_header() {
        assert!(is_token(TOKEN));
        for text in [
            "",
            "short",
            "with a space in it",
            "n\u{f6}n-ascii-token",
            &"x".repeat(257),
        ] {
            assert!(!is_token(text), "{text:?}");
        }
        assert!(is_host("ota.example.com") && is_host("[fd00::1]") && is_host("10.0.0.1:99"));
        assert!(!is_host("http://ota.example.com") && !is_host("a/b") && !is_host(""));
    }
}
