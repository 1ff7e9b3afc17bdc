//! Parser of the target of an HTTP request: health or readiness check, file, or a module's check in one of the HTTP
//! dialects.
//!
//! A target is not a URL: modules percent-encode nothing, and a query may begin without a `?` or contain three.

use std::borrow::Cow;

use memchr::memchr;

use super::dialects::parameters::{without_authority, without_slashes};
use super::dialects::{libfota3, query};
use super::text::decode;
use crate::decision::Check;
use crate::firmware::ContentId;

/// A parsed request target.
#[derive(Clone, Debug, PartialEq)]
pub enum HttpTarget<'a> {
    /// `/healthz`
    Health,
    /// `/readyz`
    Ready,
    /// `/firmware/<path>`, unless the query is that of a check. Contains the decoded path, no part of which is empty,
    /// `.` or `..`, and the content that `sha256=` in the query names.
    File(Cow<'a, str>, Option<NamedContent>),
    /// A check.
    Check(Check<'a>),
    /// A request of libfota3.
    Libfota3(libfota3::Libfota3Request<'a>),
    /// Anything else.
    Unknown,
}

/// The content that `sha256=` names; `None` if the value is not a SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamedContent(pub Option<ContentId>);

/// Parses a target as written in the request line.
pub fn http_target(target: &[u8]) -> HttpTarget<'_> {
    if let Some(request) = libfota3::read(target) {
        return HttpTarget::Libfota3(request);
    }
    let target = without_authority(target.trim_ascii());
    let strict = target.strip_prefix(b"/").unwrap_or(target);
    let end = memchr(b'?', strict).unwrap_or(strict.len());
    let path = strict.get(..end).unwrap_or_default();
    match path {
        b"healthz" => return HttpTarget::Health,
        b"readyz" => return HttpTarget::Ready,
        _ => {}
    }
    // Checks are tried before files, since a check may be sent to any path.
    if let Some(check) = query::check(without_slashes(target)) {
        return HttpTarget::Check(check);
    }
    path.strip_prefix(b"firmware/")
        .and_then(file)
        .map_or(HttpTarget::Unknown, |path| {
            let query = target.get(end..).unwrap_or_default();
            HttpTarget::File(path, named_content(query))
        })
}

/// Decodes the path of a file; `None` if the path could leave the firmware folder.
fn file(raw: &[u8]) -> Option<Cow<'_, str>> {
    let path = decode(raw);
    let is_name = |part| !matches!(part, "" | "." | "..");
    let safe = path.split('/').all(is_name) && !path.contains(['\\', '\0']);
    safe.then_some(path)
}

/// Returns the content of the last `sha256=` in the query of a file.
fn named_content(query: &[u8]) -> Option<NamedContent> {
    let fields = query.split(|byte| matches!(byte, b'?' | b'&'));
    let value = fields
        .filter_map(|field| field.strip_prefix(b"sha256="))
        .next_back()?;
    let text = decode(value).to_ascii_lowercase();
    Some(NamedContent(ContentId::parse(&text)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn healthz_is_health_and_nothing_else_is() {
        for target in [
            &b"/healthz"[..],
            b"/healthz?x=1",
            b"healthz",
            b"HTTP://h:80/healthz",
        ] {
            assert_eq!(http_target(target), HttpTarget::Health);
        }
        assert_eq!(http_target(b"/readyz?from=balancer"), HttpTarget::Ready);
        for target in [
            &b"/healthz/"[..],
            b"/readyz/",
            b"/Healthz",
            b"//healthz",
            b"http://healthz",
        ] {
            assert_eq!(http_target(target), HttpTarget::Unknown);
        }
    }

    #[test]
    fn a_file_is_named_by_its_path_in_the_folder() {
        for (target, path) in [
            (&b"/firmware/P/2.0.1/update.bin"[..], "P/2.0.1/update.bin"),
            (b"/firmware/a%20b/%E6%B0%B4.bin?v=1", "a b/水.bin"),
            (b"/firmware/a b.bin", "a b.bin"),
            (b"/firmware/%2541.bin", "%41.bin"),
            (b"/firmware/..a/...", "..a/..."),
            (b"/firmware/x?firmware_name=P", "x"),
            (b"http://h/firmware/x", "x"),
        ] {
            assert_eq!(
                http_target(target),
                HttpTarget::File(path.into(), None),
                "{path}"
            );
        }
    }

    #[test]
    fn no_path_leads_out_of_the_folder() {
        for target in [
            &b"/firmware/"[..],
            b"/firmware/../x",
            b"/firmware/a/../x",
            b"/firmware/%2e%2E/x",
            b"/firmware/a%2f..%2fx",
            b"/firmware/a/..",
            b"/firmware/./x",
            b"/firmware//x",
            b"/firmware//etc/passwd",
            b"/firmware/a/",
            b"/firmware/a\\..\\x",
            b"/firmware/a%5cx",
            b"/firmware/a%00.bin",
        ] {
            assert_eq!(
                http_target(target),
                HttpTarget::Unknown,
                "{}",
                target.escape_ascii()
            );
        }
    }

    proptest! {
        #[test]
        fn no_target_panics(
            target in proptest::collection::vec(any::<u8>(), 0..200),
            prefix in prop_oneof![Just("/"), Just("/firmware/"), Just("/luat/update"), Just("http://h")],
        ) {
            let target = [prefix.as_bytes(), &target].concat();
            if let HttpTarget::File(path, _) = http_target(&target) {
                prop_assert!(path.split('/').all(|part| !["", ".", ".."].contains(&part)));
            }
        }
    }
}
