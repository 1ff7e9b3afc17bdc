//! Hostile heads, each with its name, its bytes and the expected reply.

use super::*;

/// Name, bytes and permitted reply of each head.
pub(super) fn heads() -> Vec<(&'static str, Vec<u8>, Wanted)> {
    let t = target();
    let many = |count: usize| -> Vec<u8> {
        (0..count)
            .flat_map(|n| format!("X-{n}: v\r\n").into_bytes())
            .collect()
    };
    // A mistake in the target leads to a refusal or a bad request.
    const NO: &[u16] = &[400, 403, 404];
    const BAD: &[u16] = &[400];
    vec![
        // --- too much
        (
            "a megabyte without a line feed",
            vec![b'A'; 1 << 20],
            StatusOrCut(&[400, 431]),
        ),
        (
            "a megabyte of one header",
            [
                format!("GET {t} HTTP/1.1\r\nX: ").as_bytes(),
                &vec![b'a'; 1 << 20],
            ]
            .concat(),
            StatusOrCut(&[431]),
        ),
        (
            "a megabyte of empty lines",
            b"\r\n".repeat(1 << 19),
            StatusOrCut(&[400, 431]),
        ),
        ("65 header lines", with_headers(&many(64)), Status(&[431])),
        ("64 header lines", with_headers(&many(63)), File),
        (
            "9 kB of head",
            with_headers(format!("X: {}\r\n", "a".repeat(9000)).as_bytes()),
            Status(&[431]),
        ),
        (
            "a target of 9 kB",
            get(&format!("/{}", "a".repeat(9000))),
            Status(&[414, 431]),
        ),
        (
            "a method of 3 kB",
            line(&format!("{} / HTTP/1.1", "M".repeat(3000))),
            Status(&[400, 405, 431, 501]),
        ),
        // --- unusual, but unambiguous
        (
            "a header value in UTF-8",
            with_headers("X-Name: é 模块\r\n".as_bytes()),
            File,
        ),
        (
            "a header value in no encoding",
            with_headers(b"X-Name: \xff\xfe\x80\r\n"),
            File,
        ),
        (
            "empty lines first",
            [b"\r\n\r\n\n".as_slice(), &get(&t)].concat(),
            File,
        ),
        (
            "Expect: 100-continue",
            with_headers(b"Expect: 100-continue\r\n"),
            File,
        ),
        (
            "two Hosts",
            with_headers(b"Host: evil\r\nHost: \xe6\x96\x87\r\n"),
            File,
        ),
        (
            "two requests at once",
            [get(&t), get("/healthz")].concat(),
            File,
        ),
        (
            "a check and rubbish behind it",
            [get(&t), noise(60, 3000)].concat(),
            File,
        ),
        (
            "Upgrade: h2c",
            with_headers(b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n"),
            File,
        ),
        // --- not HTTP, or no longer HTTP
        (
            "a NUL in a header",
            with_headers(b"X: a\0b\r\n"),
            Status(BAD),
        ),
        (
            "a NUL in the target",
            get(&t.replace("project_key=k", "project_key=\0")),
            Status(BAD),
        ),
        (
            "NULs alone",
            [vec![0; 500], b"\r\n\r\n".to_vec()].concat(),
            Status(BAD),
        ),
        (
            "a TLS ClientHello",
            [
                b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".as_slice(),
                &noise(61, 506),
            ]
            .concat(),
            Status(&[400, 408]),
        ),
        (
            "an HTTP/2 preface",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00".to_vec(),
            Status(&[400, 405, 501, 505]),
        ),
        (
            "HTTP/0.9",
            format!("GET {t}\r\n\r\n").into_bytes(),
            Status(&[400, 505]),
        ),
        (
            "HTTP/2.0",
            line(&format!("GET {t} HTTP/2.0")),
            Status(&[400, 505]),
        ),
        (
            "HTTP/1.2",
            line(&format!("GET {t} HTTP/1.2")),
            Status(&[200, 400, 505]),
        ),
        (
            "HTTP/9999999999.1",
            line(&format!("GET {t} HTTP/9999999999.1")),
            Status(&[400, 505]),
        ),
        (
            "http/1.1",
            line(&format!("GET {t} http/1.1")),
            Status(&[200, 400, 505]),
        ),
        ("a header without a colon", with_headers(b"nonsense\r\n"), Status(BAD)),
        ("a header without a name", with_headers(b": value\r\n"), Status(BAD)),
        (
            "a folded header",
            with_headers(b"X: a\r\n folded\r\n"),
            Status(&[200, 400]),
        ),
        (
            "a space before the colon",
            with_headers(b"Range : bytes=0-1\r\n"),
            Status(&[200, 400]),
        ),
        (
            "a bare CR in a header",
            with_headers(b"X: a\rRange: bytes=0-1\r\n"),
            Status(BAD),
        ),
        ("an empty line for a request", b" \r\n\r\n".to_vec(), Status(BAD)),
        (
            "a request line of spaces",
            b"     \r\nHost: x\r\n\r\n".to_vec(),
            Status(BAD),
        ),
        ("GET alone", b"GET\r\n\r\n".to_vec(), Status(BAD)),
        (
            "a lower-case method",
            line(&format!("get {t} HTTP/1.1")),
            Status(&[200, 400, 405, 501]),
        ),
        (
            "a method with a colon",
            line(&format!("G:T {t} HTTP/1.1")),
            Status(&[400, 405, 501]),
        ),
        // --- bodies
        (
            "Content-Length: -1",
            with_headers(b"Content-Length: -1\r\n"),
            Status(&[200, 400]),
        ),
        (
            "Content-Length: 99999999999999999999",
            with_headers(b"Content-Length: 99999999999999999999\r\n"),
            Status(&[200, 400, 413]),
        ),
        (
            "two Content-Lengths",
            with_headers(b"Content-Length: 5\r\nContent-Length: 6\r\n"),
            Status(&[200, 400]),
        ),
        (
            "a chunked body",
            [
                with_headers(b"Transfer-Encoding: chunked\r\n"),
                b"5\r\nhello\r\n0\r\nX: \xc3\xa9\r\n\r\n".to_vec(),
            ]
            .concat(),
            Status(&[200, 400, 501]),
        ),
        (
            "chunked and a length",
            [
                with_headers(b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n"),
                b"0\r\n\r\n".to_vec(),
            ]
            .concat(),
            Status(&[200, 400, 501]),
        ),
        (
            "a chunk of 2^64 bytes",
            [
                with_headers(b"Transfer-Encoding: chunked\r\n"),
                b"ffffffffffffffffff\r\nx".to_vec(),
            ]
            .concat(),
            Status(&[200, 400, 501]),
        ),
        // --- other methods and targets
        (
            "absolute-form",
            get(&format!("http://evil.example{t}")),
            Status(&[200, 400, 404]),
        ),
        (
            "CONNECT",
            line("CONNECT evil.example:443 HTTP/1.1"),
            Status(&[400, 404, 405, 501]),
        ),
        (
            "OPTIONS *",
            line("OPTIONS * HTTP/1.1"),
            Status(&[400, 404, 405, 501]),
        ),
        (
            "TRACE",
            line(&format!("TRACE {t} HTTP/1.1")),
            Status(&[400, 405, 501]),
        ),
        (
            "DELETE of a file",
            line("DELETE /firmware/P/1.0.1/update.bin HTTP/1.1"),
            Status(&[400, 404, 405, 501]),
        ),
        (
            "../ in a path",
            get("/firmware/../state/secret"),
            Status(NO),
        ),
        (
            "%2e%2e in a path",
            get("/firmware/%2e%2e/%2e%2e/etc/passwd"),
            Status(NO),
        ),
        (
            "%00 in a path",
            get("/firmware/P%00/1.0.1/update.bin"),
            Status(NO),
        ),
        (
            "%2f in a path",
            get("/firmware/..%2f..%2fetc%2fpasswd"),
            Status(NO),
        ),
        ("// in front", get("//etc/passwd"), Status(NO)),
        (
            "a query of 2000 pairs",
            get(&format!("/luat/update?{}", "a=b&".repeat(2000))),
            Status(&[400, 403, 404, 431]),
        ),
        (
            "a query of broken percents",
            get(&format!("/luat/update?firmware_name={}&version=%", "%F".repeat(2000))),
            Status(NO),
        ),
        (
            "a range of a thousand parts",
            with_headers(format!("Range: bytes={}\r\n", "0-0,".repeat(1000)).as_bytes()),
            File,
        ),
        (
            "a version of a thousand fields",
            get(&luat("P", IMEI, &"1.".repeat(1000))),
            Status(&[404]),
        ),
        (
            "a version of huge numbers",
            get(&luat("P", IMEI, "99999999999999999999.99999999999999999999.9")),
            Status(&[404]),
        ),
    ]
}
