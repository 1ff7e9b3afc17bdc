//! Promise: the server replies to any bytes on the operator port with a status and a sentence, or closes the
//! connection; it neither exits nor hangs, and its memory does not grow.
#![cfg(feature = "operator")]

use crate::common;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use common::operator::{Operator, parse};
use common::packages::noise;
use common::random::Random;
use common::{PATIENCE, Rows, Server, wait_until};

const BAD: &[u16] = &[400];

const TOKEN: &str = "a-token-of-the-test";
const BEARER: &str = "Authorization: Bearer a-token-of-the-test";

/// A server with the token of this test.
fn start() -> (Server, Operator) {
    let server = Server::start(&["--operator-token", TOKEN]);
    let mut operator = Operator::of(&server);
    operator.token = TOKEN.to_owned();
    (server, operator)
}

fn head_with(headers: &[u8]) -> Vec<u8> {
    let line = "GET /api/v1/summary HTTP/1.1";
    let mut head = format!("{line}\r\nHost: localhost\r\n{BEARER}\r\n").into_bytes();
    head.extend_from_slice(headers);
    head.extend_from_slice(b"\r\n");
    head
}

fn line(line: &str) -> Vec<u8> {
    format!("{line}\r\nHost: localhost\r\n{BEARER}\r\n\r\n").into_bytes()
}

fn target(target: &str) -> Vec<u8> {
    line(&format!("GET {target} HTTP/1.1"))
}

/// Name, bytes, statuses, and whether the connection may also be reset while the client still sends.
fn heads() -> Vec<(&'static str, Vec<u8>, &'static [u16], bool)> {
    let many = |count: usize| -> Vec<u8> {
        (0..count)
            .flat_map(|n| format!("X-{n}: v\r\n").into_bytes())
            .collect()
    };
    type Statuses = &'static [u16];
    let sure = |name, bytes: Vec<u8>, statuses: Statuses| (name, bytes, statuses, false);
    let maybe = |name, bytes: Vec<u8>, statuses: Statuses| (name, bytes, statuses, true);
    vec![
        // --- too much
        maybe("a megabyte without a line feed", vec![b'A'; 1 << 20], &[400, 431]),
        maybe(
            "a megabyte of one header",
            [b"GET / HTTP/1.1\r\nX: ".as_slice(), &vec![b'a'; 1 << 20]].concat(),
            &[431],
        ),
        maybe("a megabyte of empty lines", b"\r\n".repeat(1 << 19), &[400, 431]),
        maybe("a megabyte of LF LF", b"\n".repeat(1 << 20), &[400, 431]),
        sure("65 header lines", head_with(&many(63)), &[431]),
        sure("64 header lines", head_with(&many(62)), &[200]),
        sure("9 kB of head", head_with(format!("X: {}\r\n", "a".repeat(9000)).as_bytes()), &[431]),
        sure("a target of 9 kB", target(&format!("/{}", "a".repeat(9000))), &[431]),
        sure("a method of 3 kB", line(&format!("{} / HTTP/1.1", "M".repeat(3000))), &[400, 405]),
        // --- bytes that end or hang async-h1 (docs/hazards.md 1)
        sure("LF LF", b"GET / HTTP/1.1\nHost: localhost\n\n".to_vec(), BAD),
        sure("CRLF LF", b"GET / HTTP/1.1\r\nHost: localhost\r\n\n".to_vec(), BAD),
        sure(
            "a chunked body with a trailer that is no ASCII",
            [
                head_with(b"Transfer-Encoding: chunked\r\nTrailer: X\r\n"),
                b"5\r\nhello\r\n0\r\nX: \xc3\xa9\r\n\r\n".to_vec(),
            ]
            .concat(),
            &[501],
        ),
        sure("a terabyte announced to a GET", head_with(b"Content-Length: 1099511627776\r\n"), &[200]),
        sure("Content-Length: +5", head_with(b"Content-Length: +5\r\n"), BAD),
        sure("Content-Length: -1", head_with(b"Content-Length: -1\r\n"), BAD),
        sure("Content-Length: 2^66", head_with(b"Content-Length: 99999999999999999999\r\n"), &[413]),
        sure("two Content-Lengths", head_with(b"Content-Length: 0\r\nContent-Length: 0\r\n"), BAD),
        sure("Expect: 100-continue to a GET", head_with(b"Expect: 100-continue\r\n"), &[200]),
        sure("Expect: more", head_with(b"Expect: more\r\n"), &[417]),
        sure("a header that is no ASCII", head_with("X: é\r\n".as_bytes()), BAD),
        sure("a header in no encoding", head_with(b"X: \xff\xfe\r\n"), BAD),
        sure("a target that is no ASCII", target("/é"), BAD),
        sure(
            "headers that http-types would read",
            head_with(b"Traceparent: \r\nServer-Timing: \"\r\nContent-Encoding: \r\n"),
            &[501],
        ),
        // --- another path than the checked one (docs/hazards.md 3)
        sure("absolute-form", target("http://localhost/api/v1/summary"), BAD),
        sure("absolute-form elsewhere", target("http://evil.example/"), BAD),
        sure("../", target("/healthz/../api/v1/rules/P"), BAD),
        sure("%2e%2e", target("/healthz/%2e%2e/api/v1/rules/P"), BAD),
        sure("%2E.", target("/healthz/%2E./api"), BAD),
        sure("a backslash", target("/healthz/\\..\\api"), BAD),
        sure("%5c", target("/a%5c..%5cb"), BAD),
        sure("%2f", target("/api%2fv1/summary"), BAD),
        sure("%00", target("/api/v1/rules/P%00"), BAD),
        sure("//", target("//evil.example/"), BAD),
        sure("Host: a/b?", b"GET / HTTP/1.1\r\nHost: evil/x?\r\n\r\n".to_vec(), BAD),
        sure("Host: a@b", b"GET / HTTP/1.1\r\nHost: a@localhost\r\n\r\n".to_vec(), BAD),
        sure("two Hosts", head_with(b"Host: localhost\r\n"), BAD),
        sure("an empty Host", b"GET / HTTP/1.1\r\nHost:\r\n\r\n".to_vec(), BAD),
        sure("Host: a%41", b"GET / HTTP/1.1\r\nHost: a%41\r\n\r\n".to_vec(), BAD),
        sure("Host: xn--", b"GET / HTTP/1.1\r\nHost: xn--a\r\n\r\n".to_vec(), &[400, 421]),
        // --- not HTTP
        sure("a NUL in a header", head_with(b"X: a\0b\r\n"), BAD),
        sure("NULs alone", [vec![0; 500], b"\r\n\r\n".to_vec()].concat(), BAD),
        sure(
            "a TLS ClientHello",
            [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".as_slice(), &noise(61, 506)].concat(),
            &[400, 408],
        ),
        sure("an HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), &[400, 405, 505]),
        sure("HTTP/0.9", b"GET /\r\n\r\n".to_vec(), &[400, 505]),
        sure("HTTP/2.0", line("GET / HTTP/2.0"), &[400, 505]),
        sure("HTTP/9999999999.1", line("GET / HTTP/9999999999.1"), &[400, 505]),
        sure("a header without a colon", head_with(b"nonsense\r\n"), BAD),
        sure("a header without a name", head_with(b": value\r\n"), BAD),
        sure("a folded header", head_with(b"X: a\r\n folded\r\n"), BAD),
        sure("a space before the colon", head_with(b"Range : bytes=0-1\r\n"), BAD),
        sure("a bare CR", head_with(b"X: a\rY: b\r\n"), BAD),
        sure("an empty line for a request", b" \r\n\r\n".to_vec(), BAD),
        sure("GET alone", b"GET\r\n\r\n".to_vec(), BAD),
        sure("CONNECT", line("CONNECT evil.example:443 HTTP/1.1"), &[405]),
        sure("OPTIONS *", line("OPTIONS * HTTP/1.1"), &[405]),
        sure("TRACE", line("TRACE / HTTP/1.1"), &[405]),
        sure("PATCH", line("PATCH / HTTP/1.1"), &[405]),
        // --- unusual, but unambiguous
        sure("an empty line first", [b"\r\n".as_slice(), &target("/")].concat(), &[200]),
        sure("two requests at once", [target("/"), target("/healthz")].concat(), &[200]),
        sure("rubbish behind it", [target("/"), noise(60, 3000)].concat(), &[200]),
        sure(
            "Upgrade: h2c",
            head_with(b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAAB\r\n"),
            &[200],
        ),
        sure(
            "a query of 2000 pairs",
            target(&format!("/api/v1/devices?{}", "a=b&".repeat(1900))),
            &[200],
        ),
        sure("a query of broken percents", target("/api/v1/devices?imei=%F"), BAD),
    ]
}

#[test]
fn each_hostile_head_gets_a_status_and_the_server_stays_as_it_was() {
    let (mut server, operator) = start();
    for _ in 0..50 {
        assert_eq!(operator.get("/api/v1/summary").status, 200);
    }
    let before = server.resident();
    let mut rows = Rows::default();
    for _ in 0..2 {
        for (name, head, statuses, may_be_cut) in heads() {
            let result = match operator.try_ask(&head) {
                Ok(reply) if statuses.contains(&reply.status) => Ok(()),
                Ok(reply) => Err(format!("{}: {}", reply.status, reply.text())),
                Err(_) if may_be_cut => Ok(()),
                Err(error) => Err(error),
            };
            rows.row(name, result);
        }
        assert_eq!(operator.get("/api/v1/summary").status, 200);
    }
    assert!(server.is_running());
    let grown = server.grown_since(before);
    rows.finish();
    assert!(grown <= 4 * 1024, "grew by {grown} KiB");
}

#[test]
fn a_head_that_comes_byte_by_byte_is_answered() {
    let (_server, operator) = start();
    let mut stream = operator.connect();
    stream.set_nodelay(true).unwrap();
    for byte in target("/healthz") {
        stream.write_all(&[byte]).unwrap();
        std::thread::sleep(Duration::from_millis(2));
    }
    let mut raw = Vec::new();
    stream.read_to_end(&mut raw).unwrap();
    assert_eq!(parse(&raw, false).unwrap().body, b"ok\n");
}

#[test]
fn silent_connections_shut_out_no_client_and_are_closed() {
    let (mut server, operator) = start();
    let silent: Vec<_> = (0..200)
        .map(|n| {
            let mut stream = operator.connect();
            if n % 2 == 0 {
                let _ = stream.write_all(b"GET / HTTP/1.1\r\nX: ");
            }
            stream
        })
        .collect();
    let start = Instant::now();
    assert_eq!(operator.get("/healthz").status, 200);
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
    // The last connection keeps its place, and gets a reply when its time is over.
    let mut last = silent.into_iter().next_back().unwrap();
    let mut raw = Vec::new();
    last.read_to_end(&mut raw).unwrap();
    assert_eq!(parse(&raw, false).unwrap().status, 408);
    assert!(
        start.elapsed() < Duration::from_secs(25),
        "{:?}",
        start.elapsed()
    );
    assert!(server.is_running());
}

#[test]
fn connections_that_end_early_leave_nothing_behind() {
    let (server, operator) = start();
    let fds = || {
        std::fs::read_dir(format!("/proc/{}/fd", server.pid()))
            .unwrap()
            .count()
    };
    assert_eq!(operator.get("/healthz").status, 200);
    let before = fds();
    let head = target("/api/v1/summary");
    for cut in (0..head.len()).step_by(2) {
        let mut stream = operator.connect();
        let _ = stream.write_all(&head[..cut]);
        if cut % 4 == 0 {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
    assert_eq!(operator.get("/healthz").status, 200);
    wait_until("all descriptors are closed", PATIENCE, || {
        fds() <= before + 2
    });
}

#[test]
fn three_hundred_damaged_heads_leave_the_server_running() {
    let (mut server, operator) = start();
    let good = head_with(b"Origin: http://localhost\r\nContent-Length: 3\r\n");
    let mut random = Random(99);
    for round in 0..300 {
        let mut head = good.clone();
        for _ in 0..=round % 4 {
            if head.is_empty() {
                break;
            }
            let at = random.index(head.len());
            match random.below(4) {
                0 => head[at] = random.next_u64() as u8,
                1 => {
                    head.remove(at);
                }
                2 => head.insert(at, *b"\r\n\0 :%&=?/\xff\x7f".get(random.index(12)).unwrap()),
                _ => head.truncate(at.max(1)),
            }
        }
        let mut stream = operator.connect();
        let _ = stream.write_all(&head);
        let _ = stream.shutdown(Shutdown::Write);
        let mut raw = Vec::new();
        if stream.read_to_end(&mut raw).is_ok() && !raw.is_empty() {
            parse(&raw, head.starts_with(b"HEAD "))
                .unwrap_or_else(|error| panic!("{error} for {}", head.escape_ascii()));
        }
    }
    assert_eq!(operator.get("/healthz").status, 200);
    assert!(server.is_running());
}
