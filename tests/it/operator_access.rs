//! Promise: the operator port accepts only requests with a permitted host, origin and token, and none of its
//! functions is reachable on the ports for devices.
#![cfg(feature = "operator")]

use crate::common;

use std::os::unix::fs::PermissionsExt;

use common::operator::{Operator, parse};
use common::{Place, Rows, Server, both, get, luat_ota, run_command, serve_arguments};

/// Request line, headers with `{port}`, `{token}` and `{read}`, and status.
const TABLE: &[(&str, &str, u16)] = &[
    ("GET /", "Host: localhost:{port}\r\n", 200),
    ("GET /healthz", "Host: localhost\r\n", 200),
    ("GET /readyz", "Host: ota.example.com\r\n", 200),
    ("GET /", "Host: ota.example.com\r\n", 200),
    ("GET /", "Host: evil.example\r\n", 421),
    ("GET /healthz", "Host: evil.example:{port}\r\n", 421),
    // Case 49: headers that an HTTP/1.1 proxy on this machine sends.
    ("GET /api/v1/summary", "Host: 127.0.0.1:{port}\r\n", 401),
    ("GET /metrics", "Host: 127.0.0.1:{port}\r\n", 401),
    ("HEAD /metrics", "Host: localhost\r\n", 401),
    ("GET /api/v1/events", "Host: localhost\r\n", 401),
    ("GET /api/v1/openapi.json", "Host: [::1]:{port}\r\n", 401),
    ("GET /api/v1/devices", "Host: localhost\r\n", 401),
    ("POST /api/v1/explain", "Host: localhost\r\n", 401),
    ("HEAD /", "Host: localhost\r\n", 200),
    ("GET /app.js", "Host: localhost\r\n", 200),
    (
        "GET /api/v1/summary",
        "Host: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n",
        200,
    ),
    (
        "HEAD /api/v1/summary",
        "Host: 127.0.0.1:{port}\r\nAuthorization: Bearer {read}\r\n",
        200,
    ),
    (
        "GET /api/v1/summary",
        "Host: [::1]:{port}\r\nAuthorization: Bearer {read}\r\n",
        200,
    ),
    (
        "GET /metrics",
        "Host: localhost:{port}\r\nAuthorization: Bearer {read}\r\n",
        200,
    ),
    (
        "GET /metrics",
        "Host: localhost:{port}\r\nAuthorization: Basic {read}\r\n",
        401,
    ),
    (
        "POST /api/v1/explain",
        "Host: localhost\r\nAuthorization: Bearer {read}\r\n",
        422,
    ),
    (
        "PUT /api/v1/firmware/P/1.0.0/u.bin",
        "Host: localhost\r\nAuthorization: Bearer {read}\r\nContent-Length: 0\r\n",
        403,
    ),
    (
        "PUT /api/v1/rules/P",
        "Host: localhost\r\nAuthorization: Bearer {read}\r\nIf-None-Match: *\r\n",
        403,
    ),
    (
        "POST /api/v1/releases/P/1.0.0/pause",
        "Host: localhost\r\nAuthorization: Bearer {read}\r\n",
        403,
    ),
    (
        "DELETE /api/v1/devices/862991443753386/hold",
        "Host: localhost\r\nAuthorization: Bearer {read}\r\n",
        403,
    ),
    ("GET /api/v1/summary", "Host: localhost:1\r\n", 421),
    (
        "GET /api/v1/summary",
        "Host: rebound.example:{port}\r\n",
        421,
    ),
    ("GET /api/v1/summary", "Host: a/b\r\n", 400),
    ("GET /api/v1/summary", "", 400),
    (
        "GET /api/v1/summary",
        "Host: localhost\r\nHost: localhost\r\n",
        400,
    ),
    (
        "GET /api/v1/summary",
        "Host: localhost\r\nX-Forwarded-For: 1.2.3.4\r\n",
        401,
    ),
    (
        "GET /api/v1/summary",
        "Host: localhost\r\nForwarded: for=1.2.3.4\r\n",
        401,
    ),
    (
        "GET /metrics",
        "Host: localhost\r\nX-Forwarded-Proto: https\r\n",
        401,
    ),
    ("GET /api/v1/summary", "Host: ota.example.com\r\n", 401),
    ("GET /api/v1/nothing", "Host: ota.example.com\r\n", 401),
    (
        "GET /api/v1/summary",
        "Host: ota.example.com\r\nAuthorization: Bearer {token}\r\n",
        200,
    ),
    (
        "GET /api/v1/summary",
        "Host: ota.example.com\r\nAuthorization: Bearer {token}x\r\n",
        401,
    ),
    (
        "GET /api/v1/summary?token={token}",
        "Host: ota.example.com\r\n",
        401,
    ),
    (
        "GET /api/v1/summary",
        "Host: localhost\r\nOrigin: http://evil.example\r\n",
        403,
    ),
    (
        "GET /api/v1/summary",
        "Host: localhost\r\nOrigin: null\r\n",
        403,
    ),
    (
        "GET /api/v1/summary",
        "Host: localhost\r\nSec-Fetch-Site: cross-site\r\n",
        403,
    ),
    (
        "GET /",
        "Host: localhost\r\nSec-Fetch-Site: cross-site\r\n",
        200,
    ),
    (
        "GET /api/v1/summary",
        "Host: localhost:{port}\r\nAuthorization: Bearer {token}\r\nOrigin: http://localhost:{port}\r\nSec-Fetch-Site: same-origin\r\n",
        200,
    ),
    (
        "DELETE /api/v1/devices/862991443753386/hold",
        "Host: localhost\r\n",
        401,
    ),
    (
        "DELETE /api/v1/devices/862991443753386/hold",
        "Host: localhost\r\nAuthorization: Bearer {token}\r\n",
        // The device does not exist.
        404,
    ),
    (
        "DELETE /api/v1/devices/862991443753386/hold",
        "Host: localhost\r\nAuthorization: Bearer {token}\r\nOrigin: http://evil.example\r\n",
        403,
    ),
    (
        "PUT /api/v1/firmware/P/1.0.0/u.bin",
        "Host: localhost\r\nContent-Length: 0\r\n",
        401,
    ),
    (
        "POST /api/v1/releases/P/1.0.0/pause",
        "Host: localhost\r\n",
        401,
    ),
    (
        "PUT /api/v1/rules/P",
        "Host: localhost\r\nIf-None-Match: *\r\n",
        401,
    ),
    (
        "POST /",
        "Host: localhost\r\nAuthorization: Bearer {token}\r\n",
        405,
    ),
    (
        "GET /api/v1/explain",
        "Host: localhost\r\nAuthorization: Bearer {token}\r\n",
        405,
    ),
    (
        "GET /api/v1/nothing",
        "Host: localhost\r\nAuthorization: Bearer {token}\r\n",
        404,
    ),
    ("GET /api/v1/nothing", "Host: localhost\r\n", 401),
];

#[test]
fn each_row_of_the_table_of_access_gets_its_status() {
    let server = Server::start(&["--operator-host", "ota.example.com"]);
    let operator = Operator::of(&server);
    let port = operator.address.port().to_string();
    let mut rows = Rows::default();
    for (line, headers, status) in TABLE {
        let fill = |text: &str| {
            text.replace("{port}", &port)
                .replace("{token}", &operator.token)
                .replace("{read}", &operator.read_token)
        };
        let request = format!("{} HTTP/1.1\r\n{}\r\n", fill(line), fill(headers));
        let result = operator.try_ask(request.as_bytes()).and_then(|reply| {
            ensure!(
                reply.status == *status,
                "{} instead of {status}: {}",
                reply.status,
                reply.text()
            );
            let asks = reply.header("www-authenticate").is_some();
            let read_only = *status == 403 && headers.contains("{read}");
            ensure!(asks == (*status == 401 || read_only), "WWW-Authenticate");
            Ok(())
        });
        rows.row(&format!("{line} {headers:?}"), result);
    }
    rows.finish();
    let old = format!("GET /metrics HTTP/1.0\r\nHost: localhost:{port}\r\n\r\n");
    assert_eq!(operator.ask(old.as_bytes()).status, 401);
    let log = server.log.all().join("\n");
    let links = log.matches(operator.token.as_str()).count();
    assert_eq!(links, 1, "the token is said once, when it is made");
    assert!(!log.contains(&operator.read_token), "{log}");
    assert!(
        !log.contains("now need a token"),
        "a first start is no upgrade: {log}"
    );
}

#[test]
fn the_token_is_kept_and_not_logged_again() {
    let server = Server::start(&[]);
    let first = Operator::of(&server);
    let file = server.place().state().join("operator-token");
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let read = server.place().state().join("read-token");
    let mode = std::fs::metadata(&read).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    assert!(first.token.len() >= 32 && first.read_token.len() >= 32);
    assert_ne!(first.token, first.read_token);
    let place = server.terminate();
    let server = Server::start_in(place, &[]);
    let second = Operator::of(&server);
    assert_eq!(second.token, first.token);
    let log = server.log.all().join("\n");
    assert!(!log.contains(&first.token), "{log}");
    assert!(log.contains("operator-token"), "{log}");
}

#[test]
fn after_an_upgrade_the_log_says_that_reading_needs_a_token_now() {
    for left in ["operator-token", "journal.jsonl"] {
        let place = Place::new();
        std::fs::create_dir_all(place.state()).unwrap();
        let text = if left == "operator-token" {
            "a-token-of-before\n"
        } else {
            ""
        };
        std::fs::write(place.state().join(left), text).unwrap();
        let server = Server::start_in(place, &[]);
        let operator = Operator::of(&server);
        let lines = |server: &Server| {
            let log = server.log.all();
            let about = log
                .into_iter()
                .filter(|line| line.contains("now need a token"));
            about.collect::<Vec<_>>()
        };
        let said = lines(&server);
        assert_eq!(said.len(), 1, "{left}: {said:?}");
        assert!(said[0].contains("/read-token"), "{said:?}");
        assert_eq!(operator.get_without_token("/metrics").status, 401);
        // The next start is not an upgrade from an earlier version.
        let server = Server::start_in(server.terminate(), &[]);
        let again = Operator::of(&server);
        assert_eq!(again.read_token, operator.read_token);
        assert_eq!(lines(&server), [""; 0], "{left}");
    }
}

/// The compose file names this file, and docs/guide-docker.md has the operator write it before the first start.
#[test]
fn a_token_file_in_the_state_folder_may_be_written_before_the_first_start() {
    let place = Place::new();
    std::fs::create_dir_all(place.state()).unwrap();
    let file = place.state().join("operator-token");
    std::fs::write(&file, "19c93557-413f-4826-a5a1-200ce7d2004f\n").unwrap();
    let server = Server::start_in(place, &["--operator-token-file", file.to_str().unwrap()]);
    let operator = Operator::of(&server);
    assert_eq!(operator.token, "19c93557-413f-4826-a5a1-200ce7d2004f");
    assert_eq!(operator.get("/api/v1/releases").status, 200);
    let log = server.log.all().join("\n");
    assert!(!log.contains("now need a token"), "{log}");
}

#[test]
fn a_damaged_read_token_is_replaced_and_serving_continues() {
    for bytes in [&b""[..], b"abc", b"\xff\xfe\0"] {
        let place = Place::new();
        std::fs::create_dir_all(place.state()).unwrap();
        std::fs::write(place.state().join("read-token"), bytes).unwrap();
        let server = Server::start_in(place, &[]);
        let operator = Operator::of(&server);
        let head = format!("Authorization: Bearer {}\r\n", operator.read_token);
        let request = operator.request("GET /metrics", false, &head, b"");
        assert_eq!(operator.ask(&request).status, 200);
    }
}

#[test]
fn a_listener_beyond_this_machine_needs_a_token() {
    let place = Place::new();
    let token = place.root.join("token");
    std::fs::write(&token, "a-token-of-our-own\n").unwrap();
    let arguments = serve_arguments(&place, &["--operator", "0.0.0.0:0"]);
    let output = run_command(luat_ota().args(&arguments));
    assert_eq!(output.status.code(), Some(1));
    assert!(
        both(&output).contains("--operator-token-file"),
        "{}",
        both(&output)
    );
    let file = token.to_str().unwrap().to_owned();
    let server = Server::start_in(
        place,
        &["--operator", "0.0.0.0:0", "--operator-token-file", &file],
    );
    let mut operator = Operator::of(&server);
    operator.address.set_ip([127, 0, 0, 1].into());
    assert_eq!(operator.get_without_token("/api/v1/summary").status, 401);
    assert_eq!(operator.get_without_token("/healthz").status, 200);
    operator.token = "a-token-of-our-own".to_owned();
    assert_eq!(operator.send("GET", "/api/v1/summary", "", b"").status, 200);
    assert!(!server.log.all().join("\n").contains("a-token-of-our-own"));
}

#[test]
fn off_opens_no_operator_port() {
    let server = Server::start(&["--operator", "off"]);
    let log = server.log.all().join("\n");
    assert!(!log.contains("\"operator\""), "{log}");
    assert!(!server.place().state().join("operator-token").exists());
}

#[test]
fn the_two_ports_serve_nothing_of_each_other() {
    let server = Server::start(&[]);
    let operator = Operator::of(&server);
    for target in ["/api/v1/summary", "/metrics", "/"] {
        let reply = server.http(&get(target));
        assert!(reply.status >= 400, "{target}: {}", reply.show());
    }
    for target in [
        "/luat/update?imei=1&version=1.0.0",
        "/upgrade?version=1.0.0",
        "/firmware/P/1.0.0/u.bin",
    ] {
        assert_eq!(operator.get(target).status, 404, "{target}");
    }
    let reply = operator
        .raw(b"862991443753386,P_Luat_V0035_8955,1.0.0\r\n\r\n")
        .unwrap();
    assert_eq!(parse(&reply, false).unwrap().status, 400);
}
