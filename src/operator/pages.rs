//! The page: plain files that are part of the program, each with a tag that changes with its bytes.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use super::reply::{Body, Reply};
use http_types::StatusCode;

const CSS: &str = "text/css; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";

/// A file of www/: name, Content-Type, bytes.
macro_rules! file {
    ($name:literal, $kind:expr) => {
        ($name, $kind, include_bytes!(concat!("../../www/", $name)))
    };
}

/// Name, Content-Type, bytes. The empty name is the page itself.
const FILES: &[(&str, &str, &[u8])] = &[
    ("", HTML, include_bytes!("../../www/index.html")),
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

/// The file of this name, or 304 if the browser has it.
pub fn page(name: &str, known: Option<&str>) -> Option<Reply> {
    let (_, kind, bytes) = FILES.iter().find(|(other, ..)| *other == name)?;
    let tag = tag(bytes);
    let same = known.is_some_and(|known| known.split(',').any(|known| known.trim() == tag));
    let reply = match same {
        true => Reply::ok(kind, Body::Fixed(b"")).with_status(StatusCode::NotModified),
        false => Reply::ok(kind, Body::Fixed(bytes)),
    };
    Some(reply.with("cache-control", "no-cache").with("etag", tag))
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
        let first = page("", None).unwrap();
        assert_eq!(first.status, StatusCode::Ok);
        let (_, tag) = first
            .headers
            .iter()
            .find(|(name, _)| *name == "etag")
            .unwrap();
        let again = page("", Some(&format!("\"x\", {tag}"))).unwrap();
        assert_eq!(again.status, StatusCode::NotModified);
        assert_eq!(page("", Some("\"x\"")).unwrap().status, StatusCode::Ok);
        assert!(page("nothing", None).is_none());
    }
}
