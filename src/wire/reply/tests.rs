use proptest::prelude::*;

use super::*;

const CONTENT: ContentId = ContentId([0xa5; 32]);
const HEX: &str = "a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5";

const STATUSES: [Status; 9] = [
    Status::Healthy,
    Status::BadRequest,
    Status::NotFound,
    Status::MethodNotAllowed,
    Status::Timeout,
    Status::HeadTooLarge,
    Status::NotImplemented,
    Status::Unavailable,
    Status::Version,
];

fn text(reply: &Reply) -> &str {
    std::str::from_utf8(reply.bytes()).unwrap()
}

/// Checks what the strictest modules require (docs/protocol.md 0, 2). Returns headers and body.
fn checked(reply: &Reply) -> (Vec<(&str, &str)>, &str) {
    let (head, body) = text(reply).split_once("\r\n\r\n").unwrap();
    let mut lines = head.split("\r\n");
    let status_line = lines.next().unwrap();
    let before = format!("HTTP/1.1 {} ", reply.status());
    let reason = status_line.strip_prefix(&before).unwrap();
    assert!(reason.starts_with(|c: char| c.is_ascii_uppercase()));
    let headers: Vec<_> = lines.map(|line| line.split_once(": ").unwrap()).collect();
    for (name, value) in &headers {
        for word in name.split('-') {
            // ETag is the one name that is not in title case.
            let title = word[..1].to_ascii_uppercase() + &word[1..].to_ascii_lowercase();
            assert!(word == title || *name == "ETag", "{name}");
        }
        assert!(!value.is_empty() && value.trim() == *value, "{name}");
        assert!(value.is_ascii() && !value.contains(['\r', '\n']), "{name}");
    }
    let names = |name| headers.iter().filter(|(n, _)| *n == name).count();
    assert_eq!(names("Content-Length"), 1);
    assert_eq!(headers.last(), Some(&("Connection", "close")));
    assert_eq!(head.matches('\n').count(), head.matches("\r\n").count());
    if reply.status() != 302 {
        assert!(head.len() < 512);
    }
    (headers, body)
}

fn value<'a>(headers: &[(&str, &'a str)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(n, _)| *n == name).map(|(_, v)| *v)
}

#[test]
fn a_whole_file_has_this_head() {
    let reply = file(CONTENT, 12345, None);
    checked(&reply);
    assert_eq!(
        text(&reply),
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: 12345\r\n\
             Accept-Ranges: bytes\r\nETag: \"{HEX}\"\r\nConnection: close\r\n\r\n"
        )
    );
}

#[test]
fn a_part_of_a_file_has_this_head() {
    let reply = file(CONTENT, 1000, Some((200, 1000)));
    checked(&reply);
    assert_eq!(
        text(&reply),
        format!(
            "HTTP/1.1 206 Partial Content\r\nContent-Type: application/octet-stream\r\n\
             Content-Length: 800\r\nContent-Range: bytes 200-999/1000\r\nAccept-Ranges: bytes\r\n\
             ETag: \"{HEX}\"\r\nConnection: close\r\n\r\n"
        )
    );
}

#[test]
fn an_invalid_part_is_never_a_206_and_an_empty_file_never_a_200() {
    for part in [(5, 5), (6, 5), (0, 1001), (u64::MAX, 0)] {
        assert_eq!(file(CONTENT, 1000, Some(part)).status(), 416);
    }
    assert_eq!(file(CONTENT, 0, None).status(), 404);
}

#[test]
fn heads_without_a_body_are_exact() {
    for (reply, expected) in [
        (
            not_modified(CONTENT, 77),
            format!("HTTP/1.1 304 Not Modified\r\nContent-Length: 77\r\nETag: \"{HEX}\"\r\nConnection: close\r\n\r\n"),
        ),
        (
            unsatisfiable(Some(77)),
            "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Length: 0\r\nContent-Range: bytes */77\r\nConnection: close\r\n\r\n".into(),
        ),
        (
            unsatisfiable(None),
            "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".into(),
        ),
        (
            redirect("http://cdn.example.com:8080/a/b.bin?x=1").unwrap(),
            "HTTP/1.1 302 Found\r\nLocation: http://cdn.example.com:8080/a/b.bin?x=1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".into(),
        ),
    ] {
        checked(&reply);
        assert_eq!(text(&reply), expected);
    }
}

#[test]
fn a_redirect_may_be_long_but_must_fit_a_head() {
    let long = |length: usize| format!("https://h/{}", "a".repeat(length - 10));
    for length in [400, 512, 1200] {
        let url = long(length);
        let reply = redirect(&url).unwrap();
        assert!(reply.bytes().len() < 1400);
        assert_eq!(value(&checked(&reply).0, "Location"), Some(url.as_str()));
    }
    for url in [
        &long(1201),
        "",
        "/relative",
        "cdn.example.com/x",
        "ftp://h/x",
        "http://",
        "http:///x",
        "http://:80/x",
        "http://h/a b",
        "http://h/\r\nX: y",
        "http://h/水.bin",
        "http://h/\0",
    ] {
        assert!(redirect(url).is_none(), "{url}");
    }
}

#[test]
fn every_refusal_is_as_in_the_table() {
    // docs/decision.md "Verdict on the wire": status, code, UDP.
    let table = [
        (Refusal::NothingNewer, 404, 27, "version error"),
        (Refusal::NotNow, 404, 27, "no upgrade"),
        (Refusal::NotThisDevice, 403, 21, "imei range error"),
        (Refusal::UnknownDevice, 403, 3, "no upgrade"),
        (Refusal::NoProject, 404, 25, "no upgrade"),
        (Refusal::UnknownProject, 403, 25, "no upgrade"),
        (Refusal::WrongKey, 403, 25, "no upgrade"),
        (Refusal::NoPackage, 404, 26, "no upgrade"),
        (Refusal::VersionUnreadable, 404, 27, "version error"),
        (Refusal::Looping, 403, 40, "no upgrade"),
        (Refusal::Full, 503, 43, "no upgrade"),
    ];
    for (kind, status, code, udp) in table {
        let reply = refusal(kind, false);
        let (headers, body) = checked(&reply);
        assert_eq!(reply.status(), status);
        assert_eq!(value(&headers, "Content-Type"), Some("application/json"));
        let json: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(json["code"], code);
        assert_eq!(kind.wording().packet, udp);
        assert_eq!(value(&headers, "Retry-After").is_some(), status == 503);
    }
    assert_eq!(refusal(Refusal::CannotResume, false).status(), 416);
    assert_eq!(
        refusal(Refusal::CannotResume, false).bytes(),
        unsatisfiable(None).bytes()
    );
    assert_eq!(Refusal::CannotResume.wording().packet, "ERR");
}

#[test]
fn nothing_newer_has_the_wording_of_the_official_platform() {
    let reply = refusal(Refusal::NothingNewer, false);
    assert_eq!(
        checked(&reply).1,
        r#"{"code":27,"msg":"\u5df2\u662f\u6700\u65b0\u7248\u672c"}"#
    );
}

#[test]
fn bodies_of_refusals_are_small_and_their_message_has_only_escapes() {
    for kind in Refusal::ALL {
        let reply = refusal(kind, false);
        let (headers, body) = checked(&reply);
        let length = value(&headers, "Content-Length").unwrap();
        assert_eq!(length, body.len().to_string());
        assert!(body.len() <= 200);
        if body.is_empty() {
            continue;
        }
        let (_, message) = body.split_once("\"msg\":\"").unwrap();
        let message = message.strip_suffix("\"}").unwrap();
        for escape in message.as_bytes().chunks(6) {
            assert!(escape.starts_with(b"\\u") && escape.len() == 6);
            assert!(escape[2..].iter().all(u8::is_ascii_hexdigit));
        }
    }
}

#[test]
fn ascii_and_rare_characters_are_escaped_too() {
    assert_eq!(
        encode(1, "a\"水𝄞"),
        r#"{"code":1,"msg":"\u0061\u0022\u6c34\ud834\udd1e"}"#
    );
}

#[test]
fn plain_statuses_have_a_body_of_text() {
    for (status, code) in STATUSES
        .into_iter()
        .zip([200, 400, 404, 405, 408, 431, 501, 503, 505])
    {
        let reply = plain(status, false);
        let (headers, body) = checked(&reply);
        assert_eq!(reply.status(), code);
        assert!(!body.is_empty() && body.is_ascii());
        assert!(!body.contains("msg"));
        assert_eq!(
            value(&headers, "Content-Length"),
            Some(&*body.len().to_string())
        );
        assert_eq!(value(&headers, "Allow").is_some(), code == 405);
        assert_eq!(value(&headers, "Retry-After").is_some(), code == 503);
    }
}

#[test]
fn a_head_request_gets_the_same_head_and_no_body() {
    let pairs = Refusal::ALL
        .map(|kind| (refusal(kind, false), refusal(kind, true)))
        .into_iter()
        .chain(STATUSES.map(|status| (plain(status, false), plain(status, true))));
    for (full, head) in pairs {
        assert_eq!(checked(&full).0, checked(&head).0);
        assert_eq!(checked(&head).1, "");
    }
}

proptest! {
    #[test]
    fn heads_of_files_are_right_for_every_size(size: u64, a: u64, b: u64, part: bool) {
        let part = part.then_some((a.min(b), a.max(b)));
        let reply = file(CONTENT, size, part);
        let (headers, _) = checked(&reply);
        let length: u64 = value(&headers, "Content-Length").unwrap().parse().unwrap();
        match (reply.status(), part) {
            (200, None) => prop_assert_eq!(length, size),
            (206, Some((start, end))) => prop_assert_eq!(length, end - start),
            (416, Some((start, end))) => prop_assert!(start >= end || end > size),
            (404, _) => prop_assert_eq!(size, 0),
            other => panic!("{other:?}"),
        }
    }
}
