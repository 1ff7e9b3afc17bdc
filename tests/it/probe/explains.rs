//! Promise: the probe names the cause of every failure that another server provokes.

use super::*;

#[test]
fn pythons_http_server_is_explained() {
    // HTTP/1.0, closes the connection, ignores Range and the query, sends 404 as HTML.
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
    // A missing file, which the other clients treat as "no update".
    let url = format!("http://{}/missing", start_server(python, &[]));
    let (report, status) = probe(&["--http", &url]);
    assert_eq!((status, report["updated"].as_u64()), (1, Some(0)));
    must_fail(&report, &[("updatehttp", "HTTP/1.1")]).unwrap();
}

#[test]
fn a_static_nginx_is_explained() {
    // Keeps the connection open, ignores the query, always sends 200, supports Range.
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
    for (behave, words) in [
        (text as Behave, "answer 404 instead of 200 with a text body"),
        (
            empty as Behave,
            "answer 404 instead of 200 with an empty body",
        ),
    ] {
        let (report, status) = probe_http(behave, 0, &[]);
        let all = [
            ("LuaTask", words),
            ("libfota ", words),
            ("libfota2 ", words),
            ("updatehttp", words),
        ];
        // Only LuaTask restarts after an empty body. The others treat it as "no update".
        let failing = if std::ptr::fn_addr_eq(behave, empty as Behave) {
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
fn smaller_faults_of_a_reply_are_each_named() {
    /// A server that is correct except for its replies `$file` and `$no`.
    macro_rules! faulty_server {
        ($file:expr, $no:expr) => {{
            fn behave(request: &Request, file: &[u8]) -> (Vec<Vec<u8>>, bool) {
                if !is_old(request) {
                    return (vec![$no.into()], true);
                }
                (found_file($file, file), true)
            }
            behave as Behave
        }};
    }
    const GOOD: &str = "HTTP/1.1 200 OK\r\nContent-Length: LENGTH\r\nConnection: close\r\n\r\n";
    let mut rows = Rows::default();
    for (name, behave, version, wanted) in [
        (
            "no reason",
            faulty_server!(
                "HTTP/1.1 200\r\nContent-Length: LENGTH\r\nConnection: close\r\n\r\n",
                NOT_FOUND
            ),
            "1.0.0",
            &[("4G LuaTask", "send a reason phrase")][..],
        ),
        (
            "no space",
            faulty_server!(
                "HTTP/1.1 200 OK\r\nContent-Length:LENGTH\r\nConnection: close\r\n\r\n",
                NOT_FOUND
            ),
            "1.0.0",
            &[
                (
                    "updatehttp",
                    "put exactly one space after the colon of `Content-Length:`",
                ),
                ("core 2025-12-02", "one space"),
                ("core 2025-12-19", "one space"),
                ("core 2026-01-14", "one space"),
            ],
        ),
        (
            "an empty value",
            faulty_server!(
                "HTTP/1.1 200 OK\r\nX-Powered-By: \r\nContent-Length: LENGTH\r\nConnection: close\r\n\r\n",
                NOT_FOUND
            ),
            "1.0.0",
            &[("4G LuaTask", "leave out the header `X-Powered-By`")],
        ),
        (
            "a message in ASCII",
            faulty_server!(
                GOOD,
                "HTTP/1.1 404 Not Found\r\nContent-Length: 25\r\nConnection: close\r\n\r\n\
                 {\"code\":27,\"msg\":\"newest\"}"
            ),
            "1.0.3",
            &[("updatehttp", "write `msg` as \\uXXXX escapes alone")],
        ),
        (
            "code 43",
            faulty_server!(
                GOOD,
                "HTTP/1.1 404 Not Found\r\nContent-Length: 11\r\nConnection: close\r\n\r\n{\"code\":43}"
            ),
            "1.0.3",
            &[("RDA8910", "never send `\"code\": 43`")],
        ),
        (
            "a redirect for all",
            faulty_server!(
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
        let (report, _) = probe_http(behave, 20_000, &["--version", version]);
        rows.row(name, must_fail(&report, wanted));
    }
    rows.finish();
}
