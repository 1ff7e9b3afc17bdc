//! The page: files that are part of the program, each with a tag that changes with its bytes.
//!
//! What would surprise you: there is only gzip of them, made by build.rs. Every browser takes it, and so
//! does whoever says nothing (RFC 9110 section 12.5.3).

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use super::reply::{Body, Reply};
use http_types::StatusCode;

const CSS: &str = "text/css; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";

/// The bytes of a file of www/, packed.
macro_rules! packed {
    ($name:literal) => {
        include_bytes!(concat!(env!("OUT_DIR"), "/", $name, ".gz"))
    };
}

/// A file of www/: name, Content-Type, bytes.
macro_rules! file {
    ($name:literal, $kind:expr) => {
        ($name, $kind, packed!($name))
    };
}

/// Name, Content-Type, bytes. The empty name is the page itself.
const FILES: &[(&str, &str, &[u8])] = &[
    ("", HTML, packed!("index.html")),
    file!("app.css", CSS),
    file!("app.js", JS),
    file!("base.js", JS),
    file!("devices.js", JS),
    file!("drop.js", JS),
    file!("explain.js", JS),
    file!("live.js", JS),
    file!("releases.js", JS),
    file!("words.js", JS),
];

/// The file of this name, or 304 if the browser has it, or 406 if it takes no gzip. `known` and `takes`:
/// its If-None-Match and Accept-Encoding.
pub fn page(name: &str, known: Option<&str>, takes: Option<&str>) -> Option<Reply> {
    let (_, kind, bytes) = FILES.iter().find(|(other, ..)| *other == name)?;
    let tag = tag(bytes);
    let same = known.is_some_and(|known| known.split(',').any(|known| known.trim() == tag));
    let reply = match same {
        true => Reply::ok(kind, Body::Fixed(b"")).with_status(StatusCode::NotModified),
        false if takes_gzip(takes) => {
            Reply::ok(kind, Body::Fixed(bytes)).with("content-encoding", "gzip")
        }
        false => {
            let why =
                "this file is sent in gzip only: allow it in Accept-Encoding (curl --compressed)";
            let reply = Reply::problem(StatusCode::NotAcceptable, why);
            return Some(reply.with("vary", "accept-encoding"));
        }
    };
    let reply = reply.with("cache-control", "no-cache").with("etag", tag);
    Some(reply.with("vary", "accept-encoding"))
}

/// Does this Accept-Encoding allow gzip (RFC 9110 section 12.5.3)?
fn takes_gzip(takes: Option<&str>) -> bool {
    let Some(takes) = takes else {
        return true;
    };
    let mut any = false;
    for coding in takes.split(',') {
        let mut parts = coding.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let weight = parts.find_map(|part| part.strip_prefix(['q', 'Q'])?.strip_prefix('='));
        let allowed = weight.is_none_or(|weight| weight.bytes().any(|b| matches!(b, b'1'..=b'9')));
        if name.eq_ignore_ascii_case("gzip") || name.eq_ignore_ascii_case("x-gzip") {
            return allowed;
        }
        any |= name == "*" && allowed;
    }
    any
}

/// A strong entity tag (RFC 9110 section 8.8.3): the beginning of the SHA-256, between quotes.
pub fn tag(bytes: &[u8]) -> String {
    let mut tag = String::from("\"");
    for byte in Sha256::digest(bytes).iter().take(12) {
        // Writing to a String cannot fail.
        let _ = write!(tag, "{byte:02x}");
    }
    tag.push('"');
    tag
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_that_has_the_page_gets_no_second_one() {
        let first = page("", None, None).unwrap();
        assert_eq!(first.status, StatusCode::Ok);
        let (_, tag) = first
            .headers
            .iter()
            .find(|(name, _)| *name == "etag")
            .unwrap();
        let again = page("", Some(&format!("\"x\", {tag}")), Some("br")).unwrap();
        assert_eq!(again.status, StatusCode::NotModified);
        assert_eq!(
            page("", Some("\"x\""), None).unwrap().status,
            StatusCode::Ok
        );
        assert!(page("nothing", None, None).is_none());
    }

    #[test]
    fn what_is_packed_goes_to_whoever_takes_it() {
        for takes in [
            None,
            Some("gzip, deflate, br"),
            Some("br;q=1.0, GZIP;q=0.1"),
            Some("*"),
            Some("identity, *;q=0.5"),
        ] {
            let reply = page("app.js", None, takes).unwrap();
            assert_eq!(reply.status, StatusCode::Ok, "{takes:?}");
            let Body::Fixed(bytes) = reply.body else {
                panic!("{:?}", reply.body)
            };
            assert!(bytes.starts_with(&[0x1f, 0x8b]));
            assert!(reply.headers.contains(&("content-encoding", "gzip".into())));
        }
        for takes in [
            "",
            "identity",
            "br",
            "gzip;q=0",
            "*, gzip; q=0.000",
            "*;q=0",
        ] {
            let reply = page("app.js", None, Some(takes)).unwrap();
            assert_eq!(reply.status, StatusCode::NotAcceptable, "{takes}");
        }
    }
}
