//! Access rules: the Host, origin and token that a request needs. They are checked before anything is looked up.
//!
//! A listener on the loopback is reachable by every page in every browser on this machine (DNS rebinding, forms), by
//! every local user, and through every proxy on this machine. Therefore the Host must name this server, a request from
//! a page of another site is refused by the headers that browsers send, and everything but the page's own files,
//! `/healthz` and `/readyz` needs a token, on loopback too (docs/hazards.md 4 and 31).

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use sha2::{Digest, Sha256};

use super::codec::StatusCode;
use super::response::Response;

/// The permission that a request needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// No permission: the page's own files and the health of the server.
    Public,
    /// A token that allows reading.
    Read,
    /// A token that allows everything.
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

/// Reason why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// `Host` is missing or not a host.
    BadHost,
    /// `Host` does not name this server.
    UnknownHost,
    /// A page of another site sends the request through a browser.
    OtherSite,
    /// The request has no token.
    NoToken,
    /// The token is not a token of this server.
    WrongToken,
    /// The token allows only reading, but the request changes something.
    ReadOnly,
}

impl Denied {
    /// Returns the response to the request.
    pub fn response(self) -> Response {
        let (status, sentence, challenge) = match self {
            Denied::BadHost => (StatusCode::BadRequest, "Host is missing or invalid", ""),
            Denied::UnknownHost => (
                StatusCode::MisdirectedRequest,
                "this host is not accepted: add it with --operator-host if it is yours",
                "",
            ),
            Denied::OtherSite => (
                StatusCode::Forbidden,
                "only this server's own page may send requests from a browser",
                "",
            ),
            Denied::NoToken => (
                StatusCode::Unauthorized,
                "this needs a token, as `Authorization: Bearer TOKEN`: the one in the file operator-token of \
                 the state folder, or for reading the one in read-token",
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
                "this token only reads: a change needs the operator token, or a token of operator-tokens without `read`",
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

/// The hash of a token. All hashes have one length, so a comparison takes the same time for every token.
type TokenHash = [u8; 32];

/// Name of the operator token in the log and in the list of changes.
pub const OPERATOR_NAME: &str = "operator";

/// Name of the read token in the log and in the list of changes.
pub const READ_NAME: &str = "read";

/// A token of the file `operator-tokens`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedToken {
    /// The name of the person who uses the token.
    pub name: String,
    /// The text after `Bearer` in `Authorization: Bearer TEXT`.
    pub text: String,
    /// Whether the token only reads.
    pub is_reader: bool,
}

/// A valid token.
struct KnownToken {
    name: Rc<str>,
    hash: TokenHash,
    /// Whether the token only reads.
    is_reader: bool,
}

impl KnownToken {
    fn new(name: &str, text: &str, is_reader: bool) -> KnownToken {
        KnownToken {
            name: name.into(),
            hash: Sha256::digest(text).into(),
            is_reader,
        }
    }
}

/// The access rules of a listener.
pub struct Access {
    /// The operator token and the read token.
    own: Vec<KnownToken>,
    /// The tokens of the file `operator-tokens`.
    named: RefCell<Vec<KnownToken>>,
    /// The hosts of `--operator-host`.
    names: Vec<Authority>,
    /// Whether only this machine can connect.
    is_loopback: bool,
    port: u16,
}

/// Kinds of hosts that name this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HostKind {
    /// The local machine (localhost or a loopback address); a port must be that of the listener.
    Local,
    /// An IP address with the port of the listener, or a host of `--operator-host`, such as the name of a proxy.
    Named,
}

impl Access {
    /// Creates the rules of the listener at `address`. `names`: accepted hosts besides the local ones.
    pub fn new(
        operator: &str,
        read: Option<&str>,
        names: &[String],
        address: SocketAddr,
    ) -> Access {
        Access {
            own: [
                Some(KnownToken::new(OPERATOR_NAME, operator, false)),
                read.map(|token| KnownToken::new(READ_NAME, token, true)),
            ]
            .into_iter()
            .flatten()
            .collect(),
            named: RefCell::default(),
            names: names
                .iter()
                .flat_map(|name| Authority::parse(name))
                .collect(),
            is_loopback: address.ip().to_canonical().is_loopback(),
            port: address.port(),
        }
    }

    /// Replaces the named tokens.
    pub fn set_named(&self, tokens: &[NamedToken]) {
        let known = tokens
            .iter()
            .map(|token| KnownToken::new(&token.name, &token.text, token.is_reader));
        *self.named.borrow_mut() = known.collect();
    }

    /// Decides whether a request is allowed. Returns the name of the request's token; empty if the request needs none.
    pub fn authorise(
        &self,
        permission: Permission,
        credentials: &Credentials<'_>,
    ) -> Result<Rc<str>, Denied> {
        let host = Authority::parse(credentials.host).ok_or(Denied::BadHost)?;
        self.kind_of(&host).ok_or(Denied::UnknownHost)?;
        if permission == Permission::Public {
            return Ok("".into());
        }
        let origin = credentials.origin;
        let is_own_origin = origin.is_none_or(|origin| self.is_own(origin, &host));
        if !is_own_origin || !matches!(credentials.site, None | Some("none" | "same-origin")) {
            return Err(Denied::OtherSite);
        }
        let token = credentials.authorization.ok_or(Denied::NoToken)?;
        let token = bearer(token).ok_or(Denied::WrongToken)?;
        let named = self.named.borrow();
        // All tokens are compared, even after a match, so that the time does not depend on the token.
        let found = self
            .own
            .iter()
            .chain(named.iter())
            .fold(None, |found, known| {
                let matches = is_same(&known.hash, &token);
                found.or(matches.then_some(known))
            });
        match found {
            None => Err(Denied::WrongToken),
            Some(known) if known.is_reader && permission == Permission::Write => {
                Err(Denied::ReadOnly)
            }
            Some(known) => Ok(Rc::clone(&known.name)),
        }
    }

    /// Returns the kind of `host`; `None` if it does not name this server.
    fn kind_of(&self, host: &Authority) -> Option<HostKind> {
        let is_local = match host.address {
            Some(address) => address.is_loopback(),
            None => host.name == "localhost",
        };
        let is_our_port = host.port.is_none_or(|port| port == self.port);
        if is_local && is_our_port {
            return Some(HostKind::Local);
        }
        // DNS rebinding can direct a name to this server, but not an address.
        let is_our_address = host.address.is_some() && is_our_port && !self.is_loopback;
        let is_named = self.names.iter().any(|name| name.covers(host));
        (is_named || is_our_address).then_some(HostKind::Named)
    }

    /// Whether `origin` is the origin of this server's page under this host.
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
            // A proxy may use another port than the listener.
            Some(HostKind::Named) => origin.port.is_none() || origin == *host,
            None => false,
        }
    }
}

/// Returns the hash of the token in `Bearer TOKEN` (RFC 6750 section 2.1).
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
    /// The host in lower case, without the brackets of an IPv6 address.
    name: String,
    /// The address, if `name` is one.
    address: Option<IpAddr>,
    port: Option<u16>,
}

impl Authority {
    /// Parses a host of letters, digits, `-`, `.`, `_`, or an address.
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

    /// Whether this authority matches `host`, with the same port or without one.
    fn covers(&self, host: &Authority) -> bool {
        self.name == host.name && (self.port.is_none() || self.port == host.port)
    }
}

/// Whether a text is a token that fits in a header and is not too short: 8 to 256 visible ASCII characters.
pub fn is_token(text: &str) -> bool {
    (8..=256).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests;
