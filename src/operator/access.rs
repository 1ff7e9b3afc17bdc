//! Access rules: which Host, origin and token a request needs. Checked before anything is looked up.
//!
//! A listener on the loopback is reachable by every page in every browser on this machine (DNS rebinding,
//! forms), by every local user, and through every proxy on this machine. Therefore the Host must be ours, a
//! page of another site is refused by its browser's headers, and everything but the page's own files needs a
//! token, on loopback too (docs/hazards.md 4 and 31).

use std::net::{IpAddr, SocketAddr};

use sha2::{Digest, Sha256};

use super::codec::StatusCode;
use super::response::Response;

/// What a request needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// Nothing: the page's own files and the health of the server.
    Public,
    /// A token for reading.
    Read,
    /// The operator's token.
    Write,
}

/// The headers that decide about access.
#[derive(Clone, Copy, Debug, Default)]
pub struct Credentials<'r> {
    /// `Host`.
    pub host: &'r str,
    /// `Origin`.
    pub origin: Option<&'r str>,
    /// `Sec-Fetch-Site`.
    pub site: Option<&'r str>,
    /// `Authorization`.
    pub authorization: Option<&'r str>,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// `Host` is no host.
    BadHost,
    /// `Host` is not one of ours.
    NotOurs,
    /// A page of another site asks through a browser.
    OtherSite,
    /// There is no token.
    NoToken,
    /// The token is not one of ours.
    WrongToken,
    /// The read token, for a request that changes something.
    ReadOnly,
}

impl Denied {
    /// The response to the request.
    pub fn response(self) -> Response {
        let (status, sentence, challenge) = match self {
            Denied::BadHost => (StatusCode::BadRequest, "Host is missing or no host", ""),
            Denied::NotOurs => (
                StatusCode::MisdirectedRequest,
                "this host is not answered to: name it with --operator-host if it is yours",
                "",
            ),
            Denied::OtherSite => (
                StatusCode::Forbidden,
                "only this server's own page may ask through a browser",
                "",
            ),
            Denied::NoToken => (
                StatusCode::Unauthorized,
                "this needs a token, as `Authorization: Bearer TOKEN`: that of the file operator-token in the \
                 state folder, or for reading that of read-token",
                "Bearer",
            ),
            Denied::WrongToken => (
                StatusCode::Unauthorized,
                "this token is not valid here: the right ones are in the files operator-token and read-token of \
                 the state folder, unless --operator-token or --operator-token-file gives another",
                "Bearer error=\"invalid_token\"",
            ),
            Denied::ReadOnly => (
                StatusCode::Forbidden,
                "the read token changes nothing: this needs the operator token",
                "Bearer error=\"insufficient_scope\"",
            ),
        };
        let response = Response::problem(status, sentence);
        match challenge {
            "" => response,
            challenge => response.with("www-authenticate", challenge),
        }
    }
}

/// The hash of a token: hashes have one length, so comparing them takes the same time for every token.
type TokenHash = [u8; 32];

/// The access rules of a listener.
pub struct Access {
    operator: TokenHash,
    read: Option<TokenHash>,
    /// The hosts of `--operator-host`.
    names: Vec<Authority>,
    /// Only this machine can connect.
    is_loopback: bool,
    port: u16,
}

/// How a host names this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HostKind {
    /// As this machine itself, with our port.
    Local,
    /// By an address of ours, or by the name of a proxy.
    Named,
}

impl Access {
    /// The rules of the listener at `address`. `names`: accepted hosts besides the local ones.
    pub fn new(
        operator: &str,
        read: Option<&str>,
        names: &[String],
        address: SocketAddr,
    ) -> Access {
        Access {
            operator: Sha256::digest(operator).into(),
            read: read.map(|token| Sha256::digest(token).into()),
            names: names
                .iter()
                .flat_map(|name| Authority::parse(name))
                .collect(),
            is_loopback: address.ip().to_canonical().is_loopback(),
            port: address.port(),
        }
    }

    /// Decides about a request.
    pub fn judge(
        &self,
        permission: Permission,
        credentials: &Credentials<'_>,
    ) -> Result<(), Denied> {
        let host = Authority::parse(credentials.host).ok_or(Denied::BadHost)?;
        self.kind_of(&host).ok_or(Denied::NotOurs)?;
        if permission == Permission::Public {
            return Ok(());
        }
        let origin = credentials.origin;
        let is_own_origin = origin.is_none_or(|origin| self.is_own(origin, &host));
        if !is_own_origin || !matches!(credentials.site, None | Some("none" | "same-origin")) {
            return Err(Denied::OtherSite);
        }
        let token = credentials.authorization.ok_or(Denied::NoToken)?;
        let token = bearer(token).ok_or(Denied::WrongToken)?;
        // Both are compared, whatever the first comparison says.
        let is_operator = is_same(&self.operator, &token);
        let is_reader = self.read.as_ref().is_some_and(|read| is_same(read, &token));
        match (is_operator, is_reader, permission) {
            (true, _, _) | (_, true, Permission::Read) => Ok(()),
            (false, true, _) => Err(Denied::ReadOnly),
            (false, false, _) => Err(Denied::WrongToken),
        }
    }

    /// How `host` names this server; `None` if it does not.
    fn kind_of(&self, host: &Authority) -> Option<HostKind> {
        let is_local = match host.address {
            Some(address) => address.is_loopback(),
            None => host.name == "localhost",
        };
        let is_our_port = host.port.is_none_or(|port| port == self.port);
        if is_local && is_our_port {
            return Some(HostKind::Local);
        }
        // An address cannot be rebound to this server as a name can.
        let is_our_address = host.address.is_some() && is_our_port && !self.is_loopback;
        let is_named = self.names.iter().any(|name| name.covers(host));
        (is_named || is_our_address).then_some(HostKind::Named)
    }

    /// Whether this is the origin of our own page under this host.
    fn is_own(&self, origin: &str, host: &Authority) -> bool {
        let (authority, default) = match origin.split_once("://") {
            Some(("http", authority)) => (authority, 80),
            Some(("https", authority)) => (authority, 443),
            _ => return false,
        };
        let Some(origin) = Authority::parse(authority) else {
            return false;
        };
        match self.kind_of(&origin) {
            Some(HostKind::Local) => origin.port.unwrap_or(default) == self.port,
            // A proxy has a port of its own.
            Some(HostKind::Named) => origin.port.is_none() || origin == *host,
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

/// Compares two hashes in constant time.
fn is_same(one: &TokenHash, other: &TokenHash) -> bool {
    let pairs = one.iter().zip(other);
    let different = pairs.fold(0, |sum, (a, b)| sum | (a ^ b));
    std::hint::black_box(different) == 0
}

/// `host[:port]`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Authority {
    /// In lower case; of an IPv6 address the part between the brackets.
    name: String,
    /// The address, if `name` is one.
    address: Option<IpAddr>,
    port: Option<u16>,
}

impl Authority {
    /// Accepts letters, digits, `-`, `.`, `_`, or an address.
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

    /// Whether this is `host`, with its port or without one.
    fn covers(&self, host: &Authority) -> bool {
        self.name == host.name && (self.port.is_none() || self.port == host.port)
    }
}

/// Whether this is a token that fits in a header and is not guessed at once.
pub fn is_token(text: &str) -> bool {
    (8..=256).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;
    use Permission::{Public, Read, Write};

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

    fn at(host: &str) -> Credentials<'_> {
        Credentials {
            host,
            ..Credentials::default()
        }
    }

    fn with_token(host: &str) -> Credentials<'_> {
        Credentials {
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
        let reading = |host| Credentials {
            authorization: Some("Bearer fedcba9876543210"),
            ..at(host)
        };
        let wrong = |host| Credentials {
            authorization: Some("Bearer 0123456789abcdeX"),
            ..at(host)
        };
        for (permission, credentials, answer) in [
            (Public, at("localhost"), Ok(())),
            (Public, at("ota.example.com"), Ok(())),
            (Public, wrong("localhost"), Ok(())),
            (Public, at("evil.example"), Err(Denied::NotOurs)),
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
            let judged = local().judge(permission, &credentials);
            assert_eq!(judged, answer, "{permission:?} {credentials:?}");
        }
        // Without a read token there is none that an empty one could match.
        let empty = Credentials {
            authorization: Some("Bearer "),
            ..at("localhost:8081")
        };
        assert_eq!(public().judge(Read, &empty), Err(Denied::WrongToken));
    }

    #[test]
    fn only_our_own_page_may_ask_through_a_browser() {
        let from = |host, origin, site| Credentials {
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
            for permission in [Read, Write] {
                let judged = local().judge(permission, &from(host, origin, site));
                assert_eq!(judged, answer, "{permission:?} {host} {origin:?} {site:?}");
            }
            let page = local().judge(Public, &from(host, origin, site));
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
            let credentials = Credentials {
                authorization: Some(said),
                ..at("localhost")
            };
            let judged = access.judge(Write, &credentials);
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
    }
}
