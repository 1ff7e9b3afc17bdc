//! Promise: `luat-ota probe` reports no fault of this server, and for any other server states in one sentence
//! what breaks which module. The other servers are small ones in the test that behave like common servers.
#![cfg(feature = "lab")]

mod behaviours;
mod explains;

use crate::common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use common::packages::noise;
use common::{IMEI, Place, Rows, Server, both, luat, run, run_command};
use serde_json::Value;

/// A request as a test server parses it.
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

/// Behaviour of a test server: the pieces that it writes for a request, and whether it closes the connection
/// afterwards.
type Behave = fn(&Request, &[u8]) -> (Vec<Vec<u8>>, bool);

/// Starts a server on a free port, which replies until the test ends.
fn start_server(behave: Behave, file: &[u8]) -> SocketAddr {
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
                    let (pieces, closes) = behave(&request, &file);
                    for (number, piece) in pieces.iter().enumerate() {
                        if number > 0 {
                            // The client must receive each piece separately, also on a busy machine. With many
                            // pieces, some may arrive together.
                            let gap = if pieces.len() <= 3 { 200 } else { 20 };
                            std::thread::sleep(Duration::from_millis(gap));
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

/// Runs a probe. Returns its report as JSON, and its exit status.
fn probe(flags: &[&str]) -> (Value, i32) {
    let mut arguments = vec!["probe", "--json", "--patience", "1"];
    arguments.extend(flags);
    let output = run(&arguments);
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let report = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{}", both(&output)));
    (report, output.status.code().unwrap())
}

fn probe_http(behave: Behave, size: usize, more: &[&str]) -> (Value, i32) {
    let url = format!("http://{}/update", start_server(behave, &noise(1, size)));
    let mut flags = vec!["--http", &url];
    flags.extend(more);
    probe(&flags)
}

/// The required changes in the rows of clients with this verdict whose names contain this word.
fn found<'r>(report: &'r Value, verdict: &str, name: &str) -> Vec<&'r str> {
    let clients = report["clients"].as_array().unwrap().iter();
    clients
        .filter(|row| row["verdict"] == verdict && row["client"].as_str().unwrap().contains(name))
        .map(|row| row["change"].as_str().unwrap_or_default())
        .collect()
}

/// Fails unless exactly these clients fail, each with these words in its required change.
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
fn this_server_passes_for_every_client() {
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
    // The additional client with the newest version, once for each protocol.
    assert_eq!(report["no_update"], 3);
    // The newest version or a later one; libfota2 sends its own form.
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
    // With another file than the expected one, all clients fail.
    std::fs::write(&file, noise(31, 20_000)).unwrap();
    let (report, status) = probe(&flags_with_expect(
        &with(&["--version", "1.0.0"]),
        file.to_str().unwrap(),
    ));
    assert_eq!((status, report["failed"].as_u64()), (1, Some(42)));
    let change = found(&report, "failed", "updatehttp")[0];
    assert!(
        change.starts_with("serve the expected file: received 20000 bytes"),
        "{change}"
    );
}

fn flags_with_expect<'f>(flags: &[&'f str], file: &'f str) -> Vec<&'f str> {
    [flags, &["--expect", file]].concat()
}

fn found_file(head: &str, file: &[u8]) -> Vec<Vec<u8>> {
    let head = head.replace("LENGTH", &file.len().to_string());
    // Two segments, so that one recv does not return the whole file.
    let middle = file.len() / 2;
    vec![
        [head.as_bytes(), &file[..middle]].concat(),
        file[middle..].to_vec(),
    ]
}

/// Whether a server that compares versions has a newer version (1.0.3).
fn is_old(request: &Request) -> bool {
    matches!(request.version(), "1.0.0" | "2012.1.0")
}

const NOT_FOUND: &str = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

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
fn a_udp_server_with_a_wrong_last_packet_is_explained() {
    // last=0 for a multiple of 1022, as the Python server of the article sends.
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
        &[("2G", "give 1022 as the last packet's size, not 0")],
    )
    .unwrap();
    // An address without a server.
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
        start_server(|_, _| (vec![NOT_FOUND.into()], true), &[])
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
    // A terminal gets colours, unless NO_COLOR is set.
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
