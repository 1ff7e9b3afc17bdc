//! The files of the page. They are part of the program, compressed with gzip by build.rs. Every browser accepts gzip,
//! and a client without Accept-Encoding accepts it too (RFC 9110 section 12.5.3).

use crate::firmware::rules::edit::tag_of;
use crate::operator::codec::StatusCode;
use crate::operator::head::RequestHead;
use crate::operator::response::{Response, etag};

const CSS: &str = "text/css; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";

/// Expands to name, Content-Type and compressed bytes of a file of www/.
macro_rules! file {
    ($name:literal, $source:literal, $kind:expr) => {
        (
            $name,
            $kind,
            include_bytes!(concat!(env!("OUT_DIR"), "/", $source, ".gz")),
        )
    };
}

/// The files. The empty name is the page itself.
const FILES: &[(&str, &str, &[u8])] = &[
    file!("", "index.html", HTML),
    file!("app.css", "app.css", CSS),
    file!("app.js", "app.js", JS),
    file!("base.js", "base.js", JS),
    file!("devices.js", "devices.js", JS),
    file!("drop.js", "drop.js", JS),
    file!("explain.js", "explain.js", JS),
    file!("history.js", "history.js", JS),
    file!("live.js", "live.js", JS),
    file!("releases.js", "releases.js", JS),
    file!("rules.js", "rules.js", JS),
    file!("words.js", "words.js", JS),
];

/// Returns the file of this name.
pub(super) fn get(name: &str, head: &RequestHead) -> Option<Response> {
    let known = head.header("if-none-match").unwrap_or_default();
    let accepted = head.header("accept-encoding").unwrap_or_default();
    file(name, known, accepted)
}

/// Returns the file of this name, 304 if it is among the tags `known` (If-None-Match), or 406 if `accepted`
/// (Accept-Encoding) excludes gzip.
fn file(name: &str, known: Option<&str>, accepted: Option<&str>) -> Option<Response> {
    let (_, kind, bytes) = FILES.iter().find(|(other, ..)| *other == name)?;
    let tag = etag(tag_of(bytes));
    let is_known = known.is_some_and(|known| known.split(',').any(|known| known.trim() == tag));
    let response = match is_known {
        true => Response::ok(kind, "").with_status(StatusCode::NotModified),
        false if accepts_gzip(accepted) => {
            Response::ok(kind, *bytes).with("content-encoding", "gzip")
        }
        false => {
            let sentence =
                "this file is sent in gzip only: allow it in Accept-Encoding (curl --compressed)";
            let response = Response::problem(StatusCode::NotAcceptable, sentence);
            return Some(response.with("vary", "accept-encoding"));
        }
    };
    let response = response.with("cache-control", "no-cache").with("etag", tag);
    Some(response.with("vary", "accept-encoding"))
}

/// Whether Accept-Encoding allows gzip (RFC 9110 section 12.5.3).
fn accepts_gzip(accepted: Option<&str>) -> bool {
    let Some(accepted) = accepted else {
        return true;
    };
    let mut any = false;
    for coding in accepted.split(',') {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::response::ResponseBody;

    #[test]
    fn the_page_has_at_most_60_kb() {
        let bytes: usize = FILES.iter().map(|(.., bytes)| bytes.len()).sum();
        assert!(bytes <= 60_000, "{bytes}");
    }

    #[test]
    fn a_browser_with_the_current_page_gets_no_second_copy() {
        let first = file("", None, None).unwrap();
        assert_eq!(first.status, StatusCode::Ok);
        let (_, tag) = first
            .headers
            .iter()
            .find(|(name, _)| *name == "etag")
            .unwrap();
        let again = file("", Some(&format!("\"x\", {tag}")), Some("br")).unwrap();
        assert_eq!(again.status, StatusCode::NotModified);
        assert_eq!(
            file("", Some("\"x\""), None).unwrap().status,
            StatusCode::Ok
        );
        assert!(file("nothing", None, None).is_none());
    }

    #[test]
    fn gzip_is_sent_only_if_accepted() {
        for takes in [
            None,
            Some("gzip, deflate, br"),
            Some("br;q=1.0, GZIP;q=0.1"),
            Some("*"),
            Some("identity, *;q=0.5"),
        ] {
            let response = file("app.js", None, takes).unwrap();
            assert_eq!(response.status, StatusCode::Ok, "{takes:?}");
            let ResponseBody::Bytes(bytes) = response.body else {
                panic!("{:?}", response.body)
            };
            assert!(bytes.starts_with(&[0x1f, 0x8b]));
            assert!(
                response
                    .headers
                    .contains(&("content-encoding", "gzip".into()))
            );
        }
        for takes in [
            "",
            "identity",
            "br",
            "gzip;q=0",
            "*, gzip; q=0.000",
            "*;q=0",
        ] {
            let response = file("app.js", None, Some(takes)).unwrap();
            assert_eq!(response.status, StatusCode::NotAcceptable, "{takes}");
        }
    }
}
