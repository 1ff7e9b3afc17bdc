//! Promise: `luat-ota probe` finds nothing to complain of in this server, and says of any other in one
//! sentence what breaks which module. The other servers are small ones in the test that behave like
//! those people use.
#![cfg(feature = "lab")]

use crate::common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use common::packages::noise;
use common::{IMEI, Place, Rows, Server, both, luat, run, run_command};
use serde_json::Value;

/// A request as a server of the test sees it.
struct Request {
    line: String,
    /// N of `Range: bytes=N-`.
    from: Option<usize>,
}

impl Request {
    fn version(&self) -> &str {
        let rest = self.line.split("version=").nth(1).unwrap_or_default();
        rest.split([' ', '&']).next().unwrap_or_default()
    }

    fn read(stream: &mut TcpStream) -> Option<Request> {
        let mut raw = Vec::new();
        let mut byte = [0];
        while !raw.ends_with(b"\r\n\r\n") {
            if stream.read(&mut byte).ok()? == 0 {
                return None;
            }
            raw.push(byte[0]);
        }
        let text = String::from_utf8_lossy(&raw).into_owned();
        let range = text.split("Range: bytes=").nth(1);
        Some(Request {
            line: text.lines().next().unwrap_or_default().to_owned(),
            from: range.and_then(|rest| rest.split('-').next()?.parse().ok()),
        })
    }
}

/// What a server of the test does with a request: the pieces it writes, and whether it closes then.
type Does = fn(&Request, &[u8]) -> (Vec<Vec<u8>>, bool);

/// A server on a free port; it answers until the test ends.
fn server_that(does: Does, file: &[u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let file = file.to_vec();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (Ok(mut stream), file) = (stream, file.clone()) else {
                return;
            };
            stream.set_nodelay(true).unwrap();
            std::thread::spawn(move || {
                while let Some(request) = Request::read(&mut stream) {
                    let (pieces, closes) = does(&request, &file);
                    for (number, piece) in pieces.iter().enumerate() {
                        if number > 0 {
                            // So that the pieces are segments of their own.
                            std::thread::sleep(Duration::from_millis(20));
                        }
                        if stream.write_all(piece).is_err() {
                            return;
                        }
                    }
                    if closes {
                        let _ = stream.shutdown(std::net::Shutdown::Write);
                        while stream.read(&mut [0; 512]).is_ok_and(|count| count > 0) {}
                        return;
                    }
                }
            });
        }
    });
    address
}

/// Runs a probe; its report as JSON, and its exit status.
fn probe(flags: &[&str]) -> (Value, i32) {
    let mut arguments = vec!["probe", "--json", "--patience", "1"];
    arguments.extend(flags);
    let output = run(&arguments);
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let report = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{}", both(&output)));
    (report, output.status.code().unwrap())
}

fn probe_http(does: Does, size: usize, more: &[&str]) -> (Value, i32) {
    let url = format!("http://{}/update", server_that(does, &noise(1, size)));
    let mut flags = vec!["--http", &url];
    flags.extend(more);
    probe(&flags)
}

/// The clients with this verdict whose name has this word, and what they say must change.
fn found<'r>(report: &'r Value, verdict: &str, name: &str) -> Vec<&'r str> {
    let clients = report["clients"].as_array().unwrap().iter();
    clients
        .filter(|row| row["verdict"] == verdict && row["client"].as_str().unwrap().contains(name))
        .map(|row| row["change"].as_str().unwrap_or_default())
        .collect()
}

/// Exactly these clients fail, each with these words in what must change.
fn must_fail(report: &Value, wanted: &[(&str, &str)]) -> Result<(), String> {
    for (client, words) in wanted {
        let changes = found(report, "failed", client);
        ensure!(!changes.is_empty(), "{client} does not fail: {report:#}");
        for change in changes {
            ensure!(
                change.contains(words),
                "{client}: {change:?} has no {words:?}"
            );
        }
    }
    for row in report["clients"].as_array().unwrap() {
        let name = row["client"].as_str().unwrap();
        let known = wanted.iter().any(|(client, _)| name.contains(client));
        ensure!(row["verdict"] != "failed" || known, "fails as well: {row}");
    }
    Ok(())
}

#[test]
fn this_server_is_good_for_every_client() {
    let place = Place::new();
    let bytes = noise(30, 20_000);
    place.drop_firmware("P/1.0.3/update.bin", &bytes);
    let file = place.root.join("expected");
    std::fs::write(&file, &bytes).unwrap();
    let server = Server::start_in(place, &[]);
    server.wait_until_offered(&luat("P", IMEI, "1.0.0"), &bytes);
    let url = format!("http://{}/luat/update", server.http);
    let (udp, tcp) = (server.udp.to_string(), server.tcp.to_string());
    let flags = [
        "--http",
        &url,
        "--udp",
        &udp,
        "--tcp",
        &tcp,
        "--project",
        "P",
        "--imei",
        IMEI,
    ];
    let with = |more: &[&'static str]| [&flags[..], more].concat();
    let mut flags = with(&["--version", "1.0.0", "--expect"]);
    flags.push(file.to_str().unwrap());
    let (report, status) = probe(&flags);
    assert_eq!(
        (status, report["ok"].as_bool()),
        (0, Some(true)),
        "{report:#}"
    );
    assert_eq!(
        (report["updated"].as_u64(), report["not_offered"].as_u64()),
        (Some(42), Some(0))
    );
    // The three that ask once more.
    assert_eq!(report["no_update"], 3);
    // The newest already; libfota2 in its own form.
    for version in ["1.0.3", "001.000.003", "1.0.4"] {
        let (report, status) = probe(&[&with(&["--version"])[..], &[version]].concat());
        assert_eq!(status, 0, "{report:#}");
        assert_eq!(
            (report["updated"].as_u64(), report["failed"].as_u64()),
            (Some(0), Some(0))
        );
        assert_eq!(
            report["no_update"].as_u64().unwrap() + report["client_bug"].as_u64().unwrap(),
            42
        );
    }
    // Another file than the expected one is a failure of all.
    std::fs::write(&file, noise(31, 20_000)).unwrap();
    let (report, status) = probe(&flags_with_expect(
        &with(&["--version", "1.0.0"]),
        file.to_str().unwrap(),
    ));
    assert_eq!((status, report["failed"].as_u64()), (1, Some(42)));
    let change = found(&report, "failed", "updatehttp")[0];
    assert!(
        change.starts_with("serve the expected file: 20000 bytes came"),
        "{change}"
    );
}

fn flags_with_expect<'f>(flags: &[&'f str], file: &'f str) -> Vec<&'f str> {
    [flags, &["--expect", file]].concat()
}

fn found_file(head: &str, file: &[u8]) -> Vec<Vec<u8>> {
    let head = head.replace("LENGTH", &file.len().to_string());
    // In two segments, so that the file is no single recv.
    let middle = file.len() / 2;
    vec![
        [head.as_bytes(), &file[..middle]].concat(),
        file[middle..].to_vec(),
    ]
}

/// Whether a server that compares versions has something newer (1.0.3).
fn is_old(request: &Request) -> bool {
    matches!(request.version(), "1.0.0" | "2012.1.0")
}

const NOT_FOUND: &str = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

#[test]
fn pythons_http_server_is_explained() {
    // HTTP/1.0, closes, ignores Range and the query, 404 as HTML.
    fn python(request: &Request, file: &[u8]) -> (Vec<Vec<u8>>, bool) {
        if !request.line.starts_with("GET /update") || request.line.contains("turnkey") {
            let page = "<!DOCTYPE HTML>\n<html><body><h1>Error response</h1></body></html>\n";
            let head = format!(
                "HTTP/1.0 404 File not found\r\nServer: SimpleHTTP/0.6 Python/3.12\r\n\
                 Connection: close\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\r\n",
                page.len()
            );
            return (vec![head.into_bytes(), page.as_bytes().to_vec()], true);
        }
        let head = "HTTP/1.0 200 OK\r\nServer: SimpleHTTP/0.6 Python/3.12\r\n\
                    Content-type: application/octet-stream\r\nContent-Length: LENGTH\r\n\r\n";
        (found_file(head, file), true)
    }
    let (report, status) = probe_http(python, 50_000, &[]);
    assert_eq!(status, 1);
    must_fail(
        &report,
        &[
            (
                "updatehttp",
                "write `HTTP/1.1` into the status line, not `HTTP/1.0`",
            ),
            ("any client with version 999", "compare versions"),
        ],
    )
    .unwrap();
    assert_eq!(report["updated"], 35);
    // A name that is not there: for the others that is a good "no update".
    let url = format!("http://{}/missing", server_that(python, &[]));
    let (report, status) = probe(&["--http", &url]);
    assert_eq!((status, report["updated"].as_u64()), (1, Some(0)));
    must_fail(&report, &[("updatehttp", "HTTP/1.1")]).unwrap();
}

#[test]
fn a_static_nginx_is_explained() {
    // Keeps the connection, ignores the query, 200 always, honours Range.
    fn nginx(request: &Request, file: &[u8]) -> (Vec<Vec<u8>>, bool) {
        if request.line.contains("turnkey") {
            let head = "HTTP/1.1 404 Not Found\r\nServer: nginx\r\nContent-Length: 4\r\n\
                        Connection: keep-alive\r\n\r\n<ht>";
            return (vec![head.into()], false);
        }
        match request.from {
            Some(from) => {
                let head = format!(
                    "HTTP/1.1 206 Partial Content\r\nServer: nginx\r\n\
                     Content-Type: application/octet-stream\r\nContent-Length: LENGTH\r\n\
                     Connection: keep-alive\r\nContent-Range: bytes {from}-{}/{}\r\n\r\n",
                    file.len() - 1,
                    file.len()
                );
                (found_file(&head, &file[from..]), false)
            }
            None => {
                let head = "HTTP/1.1 200 OK\r\nServer: nginx\r\nContent-Length: LENGTH\r\n\
                            Connection: keep-alive\r\nAccept-Ranges: bytes\r\n\r\n";
                (found_file(head, file), false)
            }
        }
    }
    let (report, status) = probe_http(nginx, 50_000, &[]);
    assert_eq!(status, 1);
    must_fail(
        &report,
        &[
            ("core 2026-02-02", "close the connection after the reply"),
            ("core 2026-02-11", "close the connection after the reply"),
            ("any client with version 999", "compare versions"),
        ],
    )
    .unwrap();
}

#[test]
fn a_proxy_that_lowers_names_is_explained() {
    fn lower(request: &Request, file: &[u8]) -> (Vec<Vec<u8>>, bool) {
        if !is_old(request) {
            let head = "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            return (vec![head.into()], true);
        }
        let from = request.from.unwrap_or(0);
        let head = match request.from {
            None => "HTTP/1.1 200 OK\r\ncontent-length: LENGTH\r\nconnection: close\r\n\r\n".into(),
            Some(from) => format!(
                "HTTP/1.1 206 Partial Content\r\ncontent-length: LENGTH\r\n\
                 content-range: bytes {from}-{}/{}\r\nconnection: close\r\n\r\n",
                file.len() - 1,
                file.len()
            ),
        };
        (found_file(&head, &file[from..]), true)
    }
    let (report, status) = probe_http(lower, 30_000, &[]);
    assert_eq!(status, 1);
    must_fail(
        &report,
        &[
            (
                "updatehttp",
                "write header names as `Content-Length`, not `content-length`",
            ),
            (
                "4G LuaTask",
                "write header names as `Content-Length`, not `content-length`",
            ),
        ],
    )
    .unwrap();
    assert_eq!(
        found(&report, "updated", "LuaTask").len(),
        1,
        "2G reads to the end"
    );
}

#[test]
fn a_php_that_sends_chunks_is_explained() {
    fn php(request: &Request, file: &[u8]) -> (Vec<Vec<u8>>, bool) {
        if !is_old(request) {
            return (vec![NOT_FOUND.into()], true);
        }
        let mut pieces = vec![
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n".to_vec(),
        ];
        for chunk in file.chunks(8192) {
            let mut piece = format!("{:x}\r\n", chunk.len()).into_bytes();
            piece.extend_from_slice(chunk);
            piece.extend_from_slice(b"\r\n");
            pieces.push(piece);
        }
        pieces.push(b"0\r\n\r\n".to_vec());
        (pieces, true)
    }
    let (report, status) = probe_http(php, 30_000, &[]);
    assert_eq!(status, 1);
    let words = "send Content-Length and no chunks";
    must_fail(
        &report,
        &[
            ("updatehttp", words),
            ("4G LuaTask", words),
            ("core 2025-12-02", words),
            ("core 2025-12-19", words),
        ],
    )
    .unwrap();
}

#[test]
fn a_200_that_means_no_is_explained() {
    fn text(_: &Request, _: &[u8]) -> (Vec<Vec<u8>>, bool) {
        let reply = "HTTP/1.1 200 OK\r\nContent-Length: 23\r\nConnection: close\r\n\r\n\
                     {\"msg\":\"no update yet\"}";
        (vec![reply.into()], true)
    }
    fn empty(_: &Request, _: &[u8]) -> (Vec<Vec<u8>>, bool) {
        let reply = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        (vec![reply.into()], true)
    }
    let mut rows = Rows::default();
    for (does, words) in [
        (text as Does, "answer 404 instead of 200 with a text body"),
        (
            empty as Does,
            "answer 404 instead of 200 with an empty body",
        ),
    ] {
        let (report, status) = probe_http(does, 0, &[]);
        let all = [
            ("LuaTask", words),
            ("libfota ", words),
            ("libfota2 ", words),
            ("updatehttp", words),
        ];
        // Only LuaTask restarts for an empty body; the others take it for "no update".
        let failing = if std::ptr::fn_addr_eq(does, empty as Does) {
            &all[..1]
        } else {
            &all
        };
        rows.row(words, must_fail(&report, failing));
        rows.row(
            words,
            (status == 1).then_some(()).ok_or("status".to_owned()),
        );
    }
    rows.finish();
}

#[test]
fn smaller_sins_of_a_reply_are_each_named() {
    /// A server that is right but for what `$file` and `$no` are.
    macro_rules! sinner {
        ($file:expr, $no:expr) => {{
            fn does(request: &Request, file: &[u8]) -> (Vec<Vec<u8>>, bool) {
                if !is_old(request) {
                    return (vec![$no.into()], true);
                }
                (found_file($file, file), true)
            }
            does as Does
        }};
    }
    const GOOD: &str = "HTTP/1.1 200 OK\r\nContent-Length: LENGTH\r\nConnection: close\r\n\r\n";
    let mut rows = Rows::default();
    for (name, does, version, wanted) in [
        (
            "no reason",
            sinner!(
                "HTTP/1.1 200\r\nContent-Length: LENGTH\r\nConnection: close\r\n\r\n",
                NOT_FOUND
            ),
            "1.0.0",
            &[("4G LuaTask", "send a reason phrase")][..],
        ),
        (
            "no space",
            sinner!(
                "HTTP/1.1 200 OK\r\nContent-Length:LENGTH\r\nConnection: close\r\n\r\n",
                NOT_FOUND
            ),
            "1.0.0",
            &[
                (
                    "updatehttp",
                    "put exactly one space behind the colon of `Content-Length:`",
                ),
                ("core 2025-12-02", "one space"),
                ("core 2025-12-19", "one space"),
                ("core 2026-01-14", "one space"),
            ],
        ),
        (
            "an empty value",
            sinner!(
                "HTTP/1.1 200 OK\r\nX-Powered-By: \r\nContent-Length: LENGTH\r\nConnection: close\r\n\r\n",
                NOT_FOUND
            ),
            "1.0.0",
            &[("4G LuaTask", "leave out the header `X-Powered-By`")],
        ),
        (
            "a message in ASCII",
            sinner!(
                GOOD,
                "HTTP/1.1 404 Not Found\r\nContent-Length: 25\r\nConnection: close\r\n\r\n\
                 {\"code\":27,\"msg\":\"newest\"}"
            ),
            "1.0.3",
            &[("updatehttp", "write `msg` as \\uXXXX escapes alone")],
        ),
        (
            "code 43",
            sinner!(
                GOOD,
                "HTTP/1.1 404 Not Found\r\nContent-Length: 11\r\nConnection: close\r\n\r\n{\"code\":43}"
            ),
            "1.0.3",
            &[("RDA8910", "never send `\"code\": 43`")],
        ),
        (
            "a redirect for all",
            sinner!(
                GOOD,
                "HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            ),
            "1.0.3",
            &[
                ("libfota", "answer with the file itself instead of 302"),
                ("LuaTask", "redirect with an absolute"),
            ],
        ),
    ] {
        let (report, _) = probe_http(does, 20_000, &["--version", version]);
        rows.row(name, must_fail(&report, wanted));
    }
    rows.finish();
}

/// One way in which a server answers; what it does with any request.
struct Behaviour {
    name: &'static str,
    does: Does,
}

/// The head and the file, with nothing else wrong.
fn good_reply(request: &Request, file: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let from = request.from.unwrap_or(0);
    let head = match request.from {
        None => format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            file.len()
        ),
        Some(_) => format!(
            "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {from}-{}/{}\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n",
            file.len() - 1,
            file.len(),
            file.len() - from
        ),
    };
    (head.into_bytes(), file[from..].to_vec())
}

/// The reply of a good server with a head that was changed so.
fn with_head(request: &Request, file: &[u8], change: fn(String) -> String) -> (Vec<Vec<u8>>, bool) {
    let (head, body) = good_reply(request, file);
    let head = change(String::from_utf8(head).unwrap()).into_bytes();
    let (one, two) = body.split_at(body.len() / 2);
    (vec![[&head, one].concat(), two.to_vec()], true)
}

/// The ways of answering of docs/protocol.md 2.
fn behaviours() -> Vec<Behaviour> {
    macro_rules! all {
        ($($name:literal: $does:expr,)*) => {
            vec![$(Behaviour { name: $name, does: $does }),*]
        };
    }
    fn words(text: &str, closes: bool) -> (Vec<Vec<u8>>, bool) {
        (vec![text.replace('\n', "\r\n").into_bytes()], closes)
    }
    all! {
        "all as it should be": |r, f| with_head(r, f, |head| head),
        "head and file in one segment": |r, f| {
            let (head, body) = good_reply(r, f);
            (vec![[head, body].concat()], true)
        },
        "head in two segments": |r, f| {
            let (head, body) = good_reply(r, f);
            let (one, two) = head.split_at(20);
            (vec![one.to_vec(), two.to_vec(), body], true)
        },
        "head byte by byte": |r, f| {
            let (head, body) = good_reply(r, f);
            let bytes = head.iter().map(|byte| vec![*byte]);
            (bytes.chain([body]).collect(), true)
        },
        "head of 9 kB": |r, f| with_head(r, f, |head| {
            head.replacen("\r\n", &format!("\r\nX-Long: {}\r\n", "x".repeat(9000)), 1)
        }),
        "HTTP/1.0": |r, f| with_head(r, f, |head| head.replace("HTTP/1.1", "HTTP/1.0")),
        "no reason phrase": |r, f| with_head(r, f, |head| {
            head.replace(" OK", "").replace(" Partial Content", "")
        }),
        "lower-case header names": |r, f| with_head(r, f, |head| {
            head.replace("Content", "content").replace("Length", "length").replace("Range:", "range:")
        }),
        "no space after the colon": |r, f| with_head(r, f, |head| head.replace(": ", ":")),
        "a header without a value": |r, f| with_head(r, f, |head| {
            head.replacen("\r\n", "\r\nX-Empty: \r\n", 1)
        }),
        "no Content-Length": |r, f| with_head(r, f, |head| {
            let lines = head.split_inclusive("\r\n");
            lines.filter(|line| !line.starts_with("Content-Length")).collect()
        }),
        "chunked": |r, f| {
            let (head, body) = good_reply(r, f);
            let head = String::from_utf8(head).unwrap();
            let lines = head.split_inclusive("\r\n");
            let head: String = lines
                .map(|line| match line.starts_with("Content-Length") {
                    true => "Transfer-Encoding: chunked\r\n",
                    false => line,
                })
                .collect();
            let size = format!("{:x}\r\n", body.len());
            (vec![head.into(), [size.as_bytes(), &body, b"\r\n0\r\n\r\n"].concat()], true)
        },
        "connection kept open": |r, f| (with_head(r, f, |head| head).0, false),
        "cut after 70 kB": |r, f| {
            let (head, body) = good_reply(r, f);
            let part = &body[..body.len().min(70_000)];
            (vec![head, part.to_vec()], true)
        },
        "Range ignored": |_, f| {
            let whole = Request { line: String::new(), from: None };
            with_head(&whole, f, |head| head)
        },
        "302 with a Location": |_, _| {
            words("HTTP/1.1 302 Found\nLocation: http://127.0.0.1:9/f\nContent-Length: 0\n\n", true)
        },
        "404": |_, _| words("HTTP/1.1 404 Not Found\nContent-Length: 0\n\n", true),
        "404 without Content-Length": |_, _| words("HTTP/1.1 404 Not Found\n\nno update", true),
        "404 kept open": |_, _| words("HTTP/1.1 404 Not Found\nContent-Length: 0\n\n", false),
        "404 with an ASCII msg": |_, _| {
            words("HTTP/1.1 404 Not Found\nContent-Length: 16\n\n{\"msg\":\"newest\"}", true)
        },
        "500": |_, _| words("HTTP/1.1 500 Internal Server Error\nContent-Length: 0\n\n", true),
        "304": |_, _| words("HTTP/1.1 304 Not Modified\n\n", true),
        "204": |_, _| words("HTTP/1.1 204 No Content\n\n", true),
        "200 with an empty body": |_, _| words("HTTP/1.1 200 OK\nContent-Length: 0\n\n", true),
        "200 with words": |_, _| {
            words("HTTP/1.1 200 OK\nContent-Length: 9\nConnection: close\n\nno update", true)
        },
        "nothing, closed": |_, _| (Vec::new(), true),
        "nothing, kept open": |_, _| (Vec::new(), false),
    }
}

/// Every behaviour of docs/protocol.md 2 against every client over HTTP: the table of docs/probe.md is this one.
/// `cargo test --test probe every_behaviour -- --nocapture` prints it.
#[test]
fn every_behaviour_of_a_server_has_the_results_that_the_document_says() {
    // The newest version is no matter here: the last row of a report asks with another.
    let rows: Vec<String> =
        std::thread::scope(|scope| {
            let all = behaviours().into_iter();
            let threads: Vec<_> = all
                .map(|Behaviour { name, does }| {
                    scope.spawn(move || {
                    let (report, _) = probe_http(does, 100_000, &[]);
                    let count = |verdict: &str| {
                        let clients = report["clients"].as_array().unwrap().iter();
                        let rows = clients.filter(|row| {
                            let name = row["client"].as_str().unwrap();
                            row["verdict"] == verdict && !name.starts_with("any client")
                        });
                        rows.count()
                    };
                    let [updated, no_update, bug, failed, not_offered] =
                        ["updated", "no_update", "client_bug", "failed", "not_offered"].map(count);
                    format!(
                        "| {name} | {updated} | {no_update} | {bug} | {failed} | {not_offered} |"
                    )
                })
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
    for row in &rows {
        println!("{row}");
    }
    for document in ["docs/probe.md", "docs/zh-CN/probe.md"] {
        let text = common::documents::read(document);
        let (_, table) = text.split_once("<!-- behaviours -->").unwrap();
        let (table, _) = table.split_once("<!-- /behaviours -->").unwrap();
        let told: Vec<Vec<&str>> = table
            .lines()
            .filter(|line| line.starts_with("| "))
            .skip(1)
            .map(|line| line.split('|').map(str::trim).skip(1).take(6).collect())
            .collect();
        assert_eq!(told.len(), rows.len(), "{document}");
        for (told, row) in told.iter().zip(&rows) {
            let row: Vec<&str> = row.split('|').map(str::trim).skip(1).take(6).collect();
            // The names are translated in the Chinese text.
            assert_eq!(told[1..], row[1..], "{document}: {told:?}");
            assert!(document != "docs/probe.md" || told[0] == row[0], "{told:?}");
        }
    }
}

#[test]
fn a_url_with_a_query_is_refused_with_the_reason() {
    for url in [
        "http://127.0.0.1:1/u?a=b",
        "http://127.0.0.1:1/u?",
        "http://127.0.0.1:1?a",
    ] {
        let output = run(&["probe", "--http", url]);
        assert_eq!(output.status.code(), Some(2), "{url}");
        assert!(
            both(&output).contains("without a query"),
            "{}",
            both(&output)
        );
    }
}

#[test]
fn a_udp_server_with_the_seeds_mistake_is_explained() {
    // last=0 for a multiple of 1022: what the seed's Python server says.
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let file = noise(40, 2044);
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            let answer = match text.split("Get").nth(1) {
                None => {
                    format!("LUAUPDATE,7,{},{}", file.len() / 1022, file.len() % 1022).into_bytes()
                }
                Some(get) => {
                    let number: usize = get.split(',').next().unwrap().parse().unwrap();
                    let data = &file[(number - 1) * 1022..number * 1022];
                    [&(number as u16).to_be_bytes()[..], data].concat()
                }
            };
            socket.send_to(&answer, from).unwrap();
        }
    });
    let (report, status) = probe(&["--udp", &address]);
    assert_eq!(status, 1);
    must_fail(
        &report,
        &[("2G", "say 1022 for the last packet's size, not 0")],
    )
    .unwrap();
    // Nobody there at all.
    let free = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    let (report, _) = probe(&["--udp", &address, "--tcp", &address]);
    must_fail(
        &report,
        &[
            ("UDP", "the port is closed"),
            ("TCP", "make the server reachable here"),
        ],
    )
    .unwrap();
}

#[test]
fn the_table_has_colours_only_on_a_terminal_and_mistakes_are_usage() {
    let url = format!(
        "http://{}/u",
        server_that(|_, _| (vec![NOT_FOUND.into()], true), &[])
    );
    let output = run(&["probe", "--http", &url]);
    let text = both(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(
        text.starts_with("CLIENT ") && !text.contains('\x1b'),
        "{text}"
    );
    assert!(text.contains("no update (client bug)"), "{text}");
    for arguments in [
        &["probe"][..],
        &["probe", "--http", "ftp://h/"],
        &["probe", "--udp", "nowhere"],
        &["probe", "--http", &url, "fw"],
    ] {
        assert_eq!(run(arguments).status.code(), Some(2), "{arguments:?}");
    }
    // On a terminal there are colours, and none where NO_COLOR is set.
    for (variable, coloured) in [("", true), ("1", false)] {
        let command = format!("{} probe --http {url}", env!("CARGO_BIN_EXE_luat-ota"));
        let mut script = std::process::Command::new("script");
        script.args(["-qec", &command, "/dev/null"]);
        common::clean(&mut script);
        script.env("NO_COLOR", variable).env("TERM", "xterm");
        if std::process::Command::new("script")
            .arg("--version")
            .output()
            .is_err()
        {
            common::mount::skipped("no program named script here (package bsdutils)");
            return;
        }
        let text = both(&run_command(&mut script));
        assert_eq!(text.contains('\x1b'), coloured, "{text}");
    }
}
