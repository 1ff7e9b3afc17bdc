//! Promise: whatever arrives on the device port is answered with a status and a reason or is closed,
//! and the server neither dies, hangs, nor grows.

use crate::common;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use common::packages::noise;
use common::{IMEI, Place, Rows, Server, get, luat, reply};

/// What may come back.
#[derive(Clone, Debug)]
enum Wanted {
    /// The update: the head is odd, but it is clear what it asks.
    File,
    /// A well-formed reply with one of these statuses.
    Status(&'static [u16]),
    /// A well-formed reply with one of these statuses, or, because we still send while it closes,
    /// a connection that is cut.
    StatusOrCut(&'static [u16]),
}

use Wanted::{File, Status, StatusOrCut};

/// The good check, whose head is then spoiled.
fn target() -> String {
    luat("P", IMEI, "1.0.0")
}

fn with_headers(headers: &[u8]) -> Vec<u8> {
    let mut head = format!("GET {} HTTP/1.1\r\nHost: 127.0.0.1\r\n", target()).into_bytes();
    head.extend_from_slice(headers);
    head.extend_from_slice(b"\r\n");
    head
}

fn line(line: &str) -> Vec<u8> {
    format!("{line}\r\nHost: 127.0.0.1\r\n\r\n").into_bytes()
}

/// Name, bytes, what may come back.
fn heads() -> Vec<(&'static str, Vec<u8>, Wanted)> {
    let t = target();
    let many = |count: usize| -> Vec<u8> {
        (0..count)
            .flat_map(|n| format!("X-{n}: v\r\n").into_bytes())
            .collect()
    };
    // An error in the target is a no or a bad request.
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
        // --- odd, but clear
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
        // --- not HTTP, or not any more
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

fn server(flags: &[&str]) -> (Server, Vec<u8>) {
    let place = Place::new();
    let bytes = noise(62, 1500);
    place.drop_firmware("P/1.0.1/update.bin", &bytes);
    let server = Server::start_in(place, flags);
    server.wait_until_offered(&target(), &bytes);
    (server, bytes)
}

/// Sends the bytes while reading what comes back, so that neither side waits for the other.
fn exchange(server: &Server, bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut stream = TcpStream::connect(server.http).map_err(|error| error.to_string())?;
    let mut writer = stream.try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || writer.write_all(bytes));
        reply::read_raw(&mut stream, Duration::from_secs(15)).map(|(raw, _)| raw)
    })
}

fn judge(got: Result<Vec<u8>, String>, wanted: &Wanted, bytes: &[u8]) -> Result<(), String> {
    if let (Err(_), StatusOrCut(_)) = (&got, wanted) {
        return Ok(());
    }
    let raw = got?;
    if raw.is_empty() && matches!(wanted, StatusOrCut(_)) {
        return Ok(());
    }
    let reply = reply::parse(&raw, false)?;
    match wanted {
        File => reply.must_be_file(bytes),
        Status(statuses) | StatusOrCut(statuses) => {
            ensure!(
                statuses.contains(&reply.status),
                "none of {statuses:?}: {}",
                reply.show()
            );
            Ok(())
        }
    }
}

#[test]
fn each_hostile_head_gets_a_status_and_a_reason_and_the_server_stays_as_it_was() {
    let (mut server, bytes) = server(&["--head-timeout", "2"]);
    let heads = heads();
    assert!(heads.len() >= 30);
    // What the first requests need is paid before it is measured.
    for _ in 0..50 {
        server.get(&target()).must_be_file(&bytes).unwrap();
    }
    let before = server.resident();
    let mut rows = Rows::default();
    for round in 0..3 {
        for (name, head, wanted) in &heads {
            let result = judge(exchange(&server, head), wanted, &bytes)
                .map_err(|error| format!("{error}\n    request: {}", reply::show(head)));
            if round == 0 || result.is_err() {
                rows.row(name, result);
            }
            if round == 0 {
                rows.row(
                    &format!("a good check after {name}"),
                    server
                        .try_get(&target())
                        .and_then(|reply| reply.must_be_file(&bytes)),
                );
            }
        }
    }
    assert!(server.lives());
    let after = server.resident();
    println!("VmRSS {before} KiB before, {after} KiB after");
    rows.finish();
    assert!(
        after <= before + 4 * 1024,
        "grew from {before} to {after} KiB"
    );
}

#[test]
fn a_head_that_comes_byte_by_byte_is_answered_if_it_is_complete_in_time() {
    let (server, bytes) = server(&["--head-timeout", "5"]);
    let head = get(&target());
    let segments: Vec<&[u8]> = head.chunks(1).collect();
    server
        .try_http_segments(&segments, Duration::from_millis(4))
        .and_then(|reply| reply.must_be_file(&bytes))
        .unwrap();
}

#[test]
fn a_head_that_is_never_complete_gets_408_when_its_time_is_over() {
    let (server, _) = server(&["--head-timeout", "1"]);
    let head = get(&target());
    let mut rows = Rows::default();
    for (name, part) in [
        ("half a head", &head[..head.len() / 2]),
        ("all but the last byte", &head[..head.len() - 1]),
        ("a first line", b"GET / HTTP/1.1\r\n"),
        ("one letter", b"G"),
    ] {
        let start = Instant::now();
        let mut stream = TcpStream::connect(server.http).unwrap();
        stream.write_all(part).unwrap();
        let result = reply::read(&mut stream, false).and_then(|reply| {
            let took = start.elapsed();
            ensure!(reply.status == 408, "not 408: {}", reply.show());
            ensure!(
                (Duration::from_millis(900)..Duration::from_secs(8)).contains(&took),
                "after {took:?}"
            );
            Ok(())
        });
        rows.row(name, result);
    }
    // Byte by byte for ever: the time is for the whole head, not for each byte.
    let mut stream = TcpStream::connect(server.http).unwrap();
    let start = Instant::now();
    stream.write_all(b"GET / HTTP/1.1\r\nX: ").unwrap();
    stream
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    let mut raw = Vec::new();
    loop {
        if stream.write_all(b"a").is_err() {
            break;
        }
        let mut buffer = [0; 4096];
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => raw.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
        if start.elapsed() > Duration::from_secs(10) {
            break;
        }
    }
    rows.row(
        "byte by byte for ever",
        if start.elapsed() < Duration::from_secs(9) {
            Ok(())
        } else {
            Err("still open after ten seconds".to_owned())
        },
    );
    // Silence: closed, with or without a word.
    let start = Instant::now();
    let mut stream = TcpStream::connect(server.http).unwrap();
    rows.row(
        "silence",
        reply::read_raw(&mut stream, Duration::from_secs(10)).and_then(|(raw, _)| {
            ensure!(
                start.elapsed() >= Duration::from_millis(900),
                "closed after {:?}",
                start.elapsed()
            );
            if raw.is_empty() {
                return Ok(());
            }
            let reply = reply::parse(&raw, false)?;
            ensure!(reply.status == 408, "not 408: {}", reply.show());
            Ok(())
        }),
    );
    rows.finish();
}

#[test]
fn connections_that_end_early_leave_nothing_behind() {
    let (mut server, bytes) = server(&[]);
    let head = get(&target());
    let fds = |server: &Server| {
        std::fs::read_dir(format!("/proc/{}/fd", server.pid()))
            .unwrap()
            .count()
    };
    let before = fds(&server);
    for cut in (0..head.len()).step_by(3) {
        let mut stream = TcpStream::connect(server.http).unwrap();
        stream.write_all(&head[..cut]).unwrap();
        if cut % 2 == 0 {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
    server.get(&target()).must_be_file(&bytes).unwrap();
    common::wait_until("all descriptors are closed", common::PATIENCE, || {
        fds(&server) <= before + 2
    });
    assert!(server.lives());
}

#[test]
fn a_hundred_random_heads_of_each_kind_do_no_harm() {
    let (mut server, bytes) = server(&["--head-timeout", "1"]);
    let good = get(&target());
    let mut dice = common::datagrams::Dice::new(99);
    let mut open = Vec::new();
    for round in 0..300 {
        let mut head = good.clone();
        // Spoil a good head in one to four places.
        for _ in 0..=round % 4 {
            let at = dice.below(head.len());
            match dice.below(4) {
                0 => head[at] = dice.roll() as u8,
                1 => {
                    head.remove(at);
                }
                2 => head.insert(at, *b"\r\n\0 :%&=?/\xff\x7f".get(dice.below(12)).unwrap()),
                _ => head.truncate(at.max(1)),
            }
        }
        let mut stream = TcpStream::connect(server.http).unwrap();
        let _ = stream.write_all(&head);
        open.push((head, stream));
        if open.len() == 50 {
            for (head, mut stream) in open.drain(..) {
                let _ = stream.shutdown(Shutdown::Write);
                let (raw, _) = reply::read_raw(&mut stream, Duration::from_secs(15))
                    .unwrap_or_else(|error| panic!("{error} for {}", reply::show(&head)));
                if !raw.is_empty() {
                    reply::parse(&raw, head.starts_with(b"HEAD "))
                        .unwrap_or_else(|error| panic!("{error} for {}", reply::show(&head)));
                }
            }
        }
    }
    server.get(&target()).must_be_file(&bytes).unwrap();
    assert!(server.lives());
}
