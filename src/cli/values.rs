//! Parsers of the values of flags. They return `None` for an invalid value; the flag has the error message.

use std::ffi::OsStr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

#[cfg(feature = "lab")]
use crate::modems::Endpoint;

/// Stores a value, if it is valid.
pub(super) fn put<T>(field: &mut T, value: Option<T>) -> Option<()> {
    *field = value?;
    Some(())
}

/// Stores a value of an optional setting, if it is valid.
pub(super) fn put_some<T>(field: &mut Option<T>, value: Option<T>) -> Option<()> {
    put(field, value.map(Some))
}

/// Adds a value of a repeatable flag, if it is valid.
pub(super) fn push<T>(field: &mut Vec<T>, value: Option<T>) -> Option<()> {
    field.push(value?);
    Some(())
}

/// Parses a path that is not empty.
pub(super) fn path(value: &OsStr) -> Option<PathBuf> {
    (!value.is_empty()).then(|| PathBuf::from(value))
}

/// Parses a text that is UTF-8 and not empty, without the spaces around it.
pub(super) fn text(value: &OsStr) -> Option<&str> {
    let text = value.to_str()?.trim();
    (!text.is_empty()).then_some(text)
}

/// Parses a text like [`text`] and copies it.
pub(super) fn owned(value: &OsStr) -> Option<String> {
    text(value).map(str::to_owned)
}

/// Parses `8080`, `:8080`, `1.2.3.4:8080`, `[::]:8080` or `localhost:8080`. A port alone means all addresses; port 0
/// means a free one.
pub(super) fn address(value: &OsStr) -> Option<SocketAddr> {
    let text = text(value)?;
    let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
    let address = match host {
        "" | "*" => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        // This also parses an IPv6 address in brackets, with or without a zone.
        _ => return text.parse().ok(),
    };
    Some(SocketAddr::new(address, digits(port)?))
}

/// Whether this can be sent as a bearer token. `operator::token` has the same rule for a file.
pub(super) fn is_token(text: &str) -> bool {
    (8..=256).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Whether this is a host with or without a port, as a browser sends it.
pub(super) fn is_host_name(text: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    !text.is_empty() && text.bytes().all(good)
}

/// Parses `http://host[:port][/path]`. The path is at least `/`.
#[cfg(feature = "lab")]
pub(super) fn url(value: &OsStr) -> Option<Endpoint> {
    let rest = text(value)?.strip_prefix("http://")?;
    let (authority, path) = rest.split_at_checked(rest.find(['/', '?']).unwrap_or(rest.len()))?;
    let path = match path {
        "" => "/",
        path => path,
    };
    let is_good = |c: char| !c.is_whitespace() && !matches!(c, '#' | '?');
    // The colons of an IPv6 address are between brackets.
    let after_brackets = authority.rsplit(']').next()?;
    let (host, port) = match after_brackets.contains(':') {
        true => split_port(authority)?,
        false => (authority, 80),
    };
    (path.chars().all(is_good) && is_host(host)).then(|| Endpoint {
        host: host.to_owned(),
        port,
        path: path.to_owned(),
    })
}

/// Parses `host:port`, `1.2.3.4:2234` or `[::1]:2234`.
#[cfg(feature = "lab")]
pub(super) fn host_port(value: &OsStr) -> Option<Endpoint> {
    let (host, port) = split_port(text(value)?)?;
    is_host(host).then(|| Endpoint {
        host: host.to_owned(),
        port,
        path: String::new(),
    })
}

#[cfg(feature = "lab")]
fn split_port(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    Some((host, digits(port).filter(|&port| port > 0)?))
}

/// Whether this is a name, an IPv4 address or an IPv6 address in brackets.
#[cfg(feature = "lab")]
fn is_host(host: &str) -> bool {
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    match bare {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => {
            let is_good = |c: char| c.is_alphanumeric() || matches!(c, '-' | '.' | '_');
            !host.is_empty() && host.chars().all(is_good)
        }
    }
}

/// Parses a number within these bounds, both included.
pub(super) fn number<N: FromStr + PartialOrd>(value: &OsStr, least: N, most: N) -> Option<N> {
    let number = digits(text(value)?)?;
    (least <= number && number <= most).then_some(number)
}

/// Parses whole seconds from `least` to a day, with or without an `s` after them.
pub(super) fn seconds(value: &OsStr, least: u64) -> Option<Duration> {
    let text = text(value)?;
    let seconds = digits(text.strip_suffix('s').unwrap_or(text).trim_end())?;
    (least..=86_400)
        .contains(&seconds)
        .then(|| Duration::from_secs(seconds))
}

/// Parses a number of bytes within these bounds, both included: `67108864`, `65536K`, `64M`, `64MB`, `64MiB`, `1G`. All
/// units are powers of 1024.
pub(super) fn size(value: &OsStr, least: u64, most: u64) -> Option<u64> {
    let text = text(value)?;
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end)?;
    let unit = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        _ => return None,
    };
    let size = digits::<u64>(number)?.checked_mul(unit)?;
    (least..=most).contains(&size).then_some(size)
}

/// Parses the value of a switch, from the environment or after `=`.
pub(super) fn yes(value: &OsStr) -> Option<bool> {
    match text(value)?.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Some(true),
        "0" | "false" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// Parses digits only. The standard library would also accept a `+`.
fn digits<N: FromStr>(text: &str) -> Option<N> {
    text.bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| text.parse().ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn an_address_has_many_forms() {
        for (text, address_) in [
            ("8080", Some("[::]:8080")),
            (":8080", Some("[::]:8080")),
            ("*:8080", Some("[::]:8080")),
            (" 8080 ", Some("[::]:8080")),
            ("0", Some("[::]:0")),
            ("1.2.3.4:8080", Some("1.2.3.4:8080")),
            ("0.0.0.0:80", Some("0.0.0.0:80")),
            ("[::]:8080", Some("[::]:8080")),
            ("[::1]:8080", Some("[::1]:8080")),
            ("localhost:8080", Some("127.0.0.1:8080")),
            ("", None),
            (":", None),
            ("65536", None),
            ("+80", None),
            ("-80", None),
            ("http", None),
            ("1.2.3.4", None),
            ("1.2.3.256:80", None),
            ("::1:80", None),
            ("example.com:80", None),
            ("http://1.2.3.4:80", None),
        ] {
            let found = address(OsStr::new(text));
            assert_eq!(found, address_.map(|a| a.parse().unwrap()), "{text:?}");
        }
        assert_eq!(address(OsStr::from_bytes(b"\xff:80")), None);
    }

    #[cfg(feature = "lab")]
    #[test]
    fn a_url_is_split_into_host_port_and_path() {
        for (text, parts) in [
            ("http://h", Some(("h", 80, "/"))),
            ("http://h:8080", Some(("h", 8080, "/"))),
            ("http://h:8080/a/b:1", Some(("h", 8080, "/a/b:1"))),
            ("http://1.2.3.4?x", None),
            ("http://[::1]/u", Some(("[::1]", 80, "/u"))),
            ("http://[::1]:81/u", Some(("[::1]", 81, "/u"))),
            ("https://h/", None),
            ("h:8080/u", None),
            ("http://", None),
            ("http://:80/", None),
            ("http://u:p@h/", None),
            ("http://h:0/", None),
            ("http://h:65536/", None),
            ("http://h/a b", None),
            ("http://h/#x", None),
            ("http://::1/", None),
        ] {
            let found = url(OsStr::new(text));
            let found = found
                .as_ref()
                .map(|e| (e.host.as_str(), e.port, e.path.as_str()));
            assert_eq!(found, parts, "{text}");
        }
        let endpoint = host_port(OsStr::new("h:1")).unwrap();
        assert_eq!((endpoint.host.as_str(), endpoint.port), ("h", 1));
        assert_eq!(host_port(OsStr::new("h")), None);
        assert_eq!(host_port(OsStr::new("h:x")), None);
    }

    #[test]
    fn a_size_has_many_units() {
        for (text, bytes) in [
            ("0", Some(0)),
            ("67108864", Some(64 << 20)),
            ("65536K", Some(64 << 20)),
            ("64M", Some(64 << 20)),
            ("64m", Some(64 << 20)),
            ("64 MB", Some(64 << 20)),
            ("64MiB", Some(64 << 20)),
            ("1g", Some(1 << 30)),
            ("7b", Some(7)),
            ("", None),
            ("M", None),
            ("-1", None),
            ("1.5M", None),
            ("64X", None),
            ("64MM", None),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("17179869184G", None),
        ] {
            assert_eq!(size(OsStr::new(text), 0, u64::MAX), bytes, "{text:?}");
        }
        assert_eq!(size(OsStr::new("1023"), 1024, 2048), None);
        assert_eq!(size(OsStr::new("2K"), 1024, 2048), Some(2048));
        assert_eq!(size(OsStr::new("2049"), 1024, 2048), None);
    }

    #[test]
    fn numbers_and_seconds_have_bounds() {
        assert_eq!(number(OsStr::new("8"), 8, 1000), Some(8_u32));
        assert_eq!(number(OsStr::new("7"), 8, 1000), None::<u32>);
        assert_eq!(number(OsStr::new("+9"), 8, 1000), None::<u32>);
        assert_eq!(number(OsStr::new("4294967304"), 8, 1000), None::<u32>);
        assert_eq!(seconds(OsStr::new("0"), 0), Some(Duration::ZERO));
        assert_eq!(seconds(OsStr::new("30s"), 1), Some(Duration::from_secs(30)));
        assert_eq!(seconds(OsStr::new("0"), 1), None);
        assert_eq!(seconds(OsStr::new("86401"), 1), None);
        assert_eq!(seconds(OsStr::new("1m"), 1), None);
    }

    #[test]
    fn a_switch_is_on_or_off() {
        for (text, on) in [
            ("1", Some(true)),
            ("TRUE", Some(true)),
            ("off", Some(false)),
            ("0", Some(false)),
            ("maybe", None),
        ] {
            assert_eq!(yes(OsStr::new(text)), on, "{text}");
        }
    }
}
