use proptest::prelude::*;

use super::*;

const LIMITS: HeadLimits = HeadLimits {
    bytes: 8192,
    headers: 64,
};

fn complete(bytes: &[u8]) -> (Head<'_>, usize) {
    match read(bytes, LIMITS) {
        HeadProgress::Complete(head, length) => (head, length),
        other => panic!("{other:?}"),
    }
}

fn bad(bytes: &[u8]) -> BadHead {
    match read(bytes, LIMITS) {
        HeadProgress::Bad(bad) => bad,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_luatask_request_is_read() {
    let bytes = b"GET /luat/update?imei=862991443753386 HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: short\r\n\r\n";
    let (head, length) = complete(bytes);
    assert_eq!(head.method, b"GET");
    assert_eq!(head.target, b"/luat/update?imei=862991443753386");
    assert_eq!(head.minor, 1);
    assert_eq!(head.block, b"Host: 127.0.0.1\r\nConnection: short\r\n");
    assert_eq!(head.header("connection"), Some(&b"short"[..]));
    assert_eq!(head.header("Range"), None);
    assert_eq!(length, bytes.len());
}

#[test]
fn line_ends_may_be_lf_or_crlf_and_mixed() {
    let (head, length) = complete(b"GET / HTTP/1.0\nA: 1\r\nB:2\n\r\nbody");
    assert_eq!((head.minor, length), (0, 27));
    let headers: Vec<_> = head.headers().collect();
    assert_eq!(headers, [(&b"A"[..], &b"1"[..]), (b"B", b"2")]);
    assert_eq!(complete(b"GET / HTTP/1.1\r\n\n").1, 17);
    assert_eq!(complete(b"GET / HTTP/1.1\n\n\n").1, 16);
}

#[test]
fn a_request_needs_no_header() {
    let (head, length) = complete(b"GET / HTTP/1.1\r\n\r\n");
    assert_eq!((head.block, length), (&b""[..], 18));
}

#[test]
fn empty_lines_before_a_head_are_skipped_and_counted() {
    let (head, length) = complete(b"\r\n\n\r\nGET / HTTP/1.1\r\n\r\n");
    assert_eq!((head.method, length), (&b"GET"[..], 23));
    assert_eq!(read(b"\r\n\r", LIMITS), HeadProgress::Partial);
    assert_eq!(bad(b"\r\n\rGET"), BadHead::Malformed);
}

#[test]
fn a_target_may_contain_spaces_bytes_of_any_kind_and_even_a_version() {
    let target = |bytes| complete(bytes).0.target;
    assert_eq!(target(b"GET /u?sn=a b HTTP/1.1\n\n"), b"/u?sn=a b");
    assert_eq!(target(b"GET /\xb2\xe2\xff HTTP/1.1\n\n"), b"/\xb2\xe2\xff");
    assert_eq!(target(b"GET /a HTTP/9 HTTP/1.1\n\n"), b"/a HTTP/9");
    assert_eq!(target(b"GET  /a HTTP/1.1\n\n"), b" /a");
}

#[test]
fn a_value_may_be_empty_or_contain_tabs_and_bytes_over_127() {
    let (head, _) = complete(b"GET / HTTP/1.1\r\nA:\r\nB: \t x\ty \xe9 \r\na: 2\r\n\r\n");
    assert_eq!(head.header("A"), Some(&b""[..]));
    assert_eq!(head.header("b"), Some(&b"x\ty \xe9"[..]));
}

#[test]
fn an_invalid_request_line_is_malformed_as_soon_as_that_is_certain() {
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00"[..], // a TLS ClientHello
        b"\x16",
        b" GET / HTTP/1.1",
        b"\0",
        b"\xff",
        b"GET\t/ ",
        b"ABCDEFGHIJKLMNOPQ",
        b"LUAUPDATE,7,1",
        b"GET /\r\n",
        b"GET\r\n",
        b"GET / \r\n",
        b"GET HTTP/1.1\r\n",
        b"GET  HTTP/1.1\r\n",
        b"GET / http/1.1\r\n",
        b"GET / HTTP/\r\n",
        b"GET / HTTP/1\r\n",
        b"GET / HTTP/1.\r\n",
        b"GET / HTTP/1.10\r\n",
        b"GET / HTTP/1.1 \r\n",
        b"GET / HTTP/x.y\r\n",
        b"GET /\0 HTTP/1.1\r\n",
        b"GET /a\rb HTTP/1.1\r\n",
        b"GET /\x7f HTTP/1.1\r\n",
    ] {
        assert_eq!(bad(bytes), BadHead::Malformed, "{}", bytes.escape_ascii());
    }
}

#[test]
fn an_ambiguous_head_is_malformed() {
    for line in [
        &b"no colon"[..],
        b": no name",
        b"Space before : colon",
        b"Tab\t: colon",
        b" folded: line",
        b"\tfolded: line",
        b"A: b\0c",
        b"A: b\rc",
        b"A: b\x0bc",
        b"A: b\x7fc",
        b"\xe9: a",
        b"A(b): c",
        b"\r",
        b"A: b\r",
    ] {
        let bytes = [b"GET / HTTP/1.1\r\nHost: h\r\n", line, b"\r\n\r\n"].concat();
        assert_eq!(bad(&bytes), BadHead::Malformed, "{}", line.escape_ascii());
    }
}

#[test]
fn only_http_1_is_accepted() {
    for version in ["2.0", "2", "3", "0.9", "0.0", "10.1", "11.1"] {
        let bytes = format!("GET / HTTP/{version}\r\n");
        assert_eq!(bad(bytes.as_bytes()), BadHead::Version, "{version}");
    }
    assert_eq!(bad(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), BadHead::Version);
    assert_eq!(complete(b"GET / HTTP/1.0\n\n").0.minor, 0);
    assert_eq!(complete(b"GET / HTTP/1.7\n\n").0.minor, 1);
}

#[test]
fn a_head_may_be_as_long_as_its_limit_and_no_longer() {
    let bytes = b"GET / HTTP/1.1\r\nA: b\r\n\r\n";
    let limit = |bytes| HeadLimits { bytes, headers: 1 };
    assert!(matches!(
        read(bytes, limit(bytes.len())),
        HeadProgress::Complete(_, 24)
    ));
    let too_large = HeadProgress::Bad(BadHead::TooLarge);
    assert_eq!(read(bytes, limit(bytes.len() - 1)), too_large);
    assert_eq!(read(&bytes[..10], limit(10)), too_large);
    assert_eq!(read(&bytes[..9], limit(10)), HeadProgress::Partial);
    assert_eq!(read(&[b'\n'; 8192], LIMITS), too_large);
    assert_eq!(
        read(&[b'A'; 8192], LIMITS),
        HeadProgress::Bad(BadHead::Malformed)
    );
}

#[test]
fn header_lines_are_counted_while_they_arrive() {
    let head = |lines| format!("GET / HTTP/1.1\r\n{}", "A: b\r\n".repeat(lines));
    assert!(matches!(
        read((head(64) + "\r\n").as_bytes(), LIMITS),
        HeadProgress::Complete(..)
    ));
    assert_eq!(read(head(64).as_bytes(), LIMITS), HeadProgress::Partial);
    assert_eq!(bad(head(65).as_bytes()), BadHead::TooLarge);
}

fn token() -> impl Strategy<Value = String> {
    "[!#$%&'*+.^_`|~0-9A-Za-z-]{1,16}"
}

/// Generates well-formed heads.
fn well_formed() -> impl Strategy<Value = Vec<u8>> {
    let end = prop_oneof![Just("\r\n"), Just("\n")];
    let value = proptest::collection::vec(
        prop_oneof![0x20..=0x7eu8, 0x80..=0xffu8, Just(b'\t')],
        0..20,
    );
    let header =
        (token(), "[ \t]{0,2}", value, end.clone()).prop_map(|(name, space, value, end)| {
            [
                name.as_bytes(),
                b":",
                space.as_bytes(),
                &value,
                end.as_bytes(),
            ]
            .concat()
        });
    let headers = proptest::collection::vec(header, 0..8);
    (token(), "/[!-~]{0,40}", 0..=1u8, end.clone(), headers, end).prop_map(
        |(method, target, minor, end, headers, last)| {
            let line = format!("{method} {target} HTTP/1.{minor}{end}");
            [line.as_bytes(), &headers.concat(), last.as_bytes()].concat()
        },
    )
}

proptest! {
    #[test]
    fn text_is_checked_the_same_in_blocks_of_eight_bytes(
        mut bytes in proptest::collection::vec(0x20_u8..=0xff, 0..40),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let one_by_one = bytes.iter().copied().all(is_text);
        prop_assert_eq!(is_all_text(&bytes), one_by_one);
    }

    #[test]
    fn the_parser_agrees_with_httparse_on_well_formed_heads(bytes in well_formed(), body in ".{0,20}") {
        let bytes = [&bytes, body.as_bytes()].concat();
        let mut slots = [httparse::EMPTY_HEADER; 16];
        let mut theirs = httparse::Request::new(&mut slots);
        let httparse::Status::Complete(their_length) = theirs.parse(&bytes).unwrap() else {
            panic!("partial");
        };
        let (ours, length) = complete(&bytes);
        prop_assert_eq!(length, their_length);
        prop_assert_eq!(ours.method, theirs.method.unwrap().as_bytes());
        prop_assert_eq!(ours.target, theirs.path.unwrap().as_bytes());
        prop_assert_eq!(Some(ours.minor), theirs.version);
        let ours: Vec<_> = ours.headers().collect();
        let theirs: Vec<_> = theirs
            .headers
            .iter()
            .map(|header| (header.name.as_bytes(), header.value.trim_ascii()))
            .collect();
        prop_assert_eq!(ours, theirs);
    }

    #[test]
    fn a_head_cut_anywhere_is_partial_and_then_the_same(bytes in well_formed(), more in ".{0,20}") {
        let whole = read(&bytes, LIMITS);
        for cut in 0..bytes.len() {
            prop_assert_eq!(read(&bytes[..cut], LIMITS), HeadProgress::Partial);
        }
        let longer = [&bytes, more.as_bytes()].concat();
        prop_assert_eq!(read(&longer, LIMITS), whole);
        prop_assert!(matches!(whole, HeadProgress::Complete(..)));
    }

    #[test]
    fn no_bytes_panic_and_a_decision_never_changes(
        bytes in proptest::collection::vec(
            prop_oneof![any::<u8>(), Just(b'\r'), Just(b'\n'), Just(b' '), Just(b':'), Just(b'A')],
            0..200,
        ),
        line in prop_oneof![Just(""), Just("GET / HTTP/1.1\r\n")],
        limit in 1..150usize,
    ) {
        let bytes = [line.as_bytes(), &bytes].concat();
        let limits = HeadLimits { bytes: limit, headers: 3 };
        let whole = read(&bytes, limits);
        for cut in 0..bytes.len() {
            match read(&bytes[..cut], limits) {
                HeadProgress::Partial => {}
                decided => prop_assert_eq!(decided, whole),
            }
        }
        if bytes.len() >= limit {
            prop_assert_ne!(whole, HeadProgress::Partial);
        }
    }
}
