//! Promise: whatever bytes arrive on the device port, the server replies with a status and a reason
//! or closes the connection, and it neither exits, hangs, nor uses more memory.

mod heads;

use heads::heads;

use crate::common;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use common::packages::noise;
use common::{IMEI, Place, Rows, Server, get, luat, reply};

/// The replies that a head may get.
#[derive(Clone, Debug)]
enum Wanted {
    /// The update: the head is unusual, but unambiguous.
    File,
    /// A well-formed reply with one of these statuses.
    Status(&'static [u16]),
    /// A well-formed reply with one of these statuses, or a reset connection, because the client
    /// still sends while the server closes.
    StatusOrCut(&'static [u16]),
}

use Wanted::{File, Status, StatusOrCut};

/// The target of the valid check that the heads modify.
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

fn server(flags: &[&str]) -> (Server, Vec<u8>) {
    let place = Place::new();
    let bytes = noise(62, 1500);
    place.drop_firmware("P/1.0.1/update.bin", &bytes);
    let server = Server::start_in(place, flags);
    server.wait_until_offered(&target(), &bytes);
    (server, bytes)
}

/// Sends the bytes and reads the reply at the same time, so that neither side waits for the other.
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
    // The allocations of the first requests are made before the measurement.
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
    assert!(server.is_running());
    let grown = server.grown_since(before);
    rows.finish();
    assert!(grown <= 4 * 1024, "grew by {grown} KiB");
}

#[test]
fn a_head_that_arrives_byte_by_byte_gets_a_reply_if_it_is_complete_in_time() {
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
    let server = &server;
    let head = get(&target());
    let parts: [(&str, &[u8]); 4] = [
        ("half a head", &head[..head.len() / 2]),
        ("all but the last byte", &head[..head.len() - 1]),
        ("a first line", b"GET / HTTP/1.1\r\n"),
        ("one letter", b"G"),
    ];
    let mut rows = Rows::default();
    std::thread::scope(|scope| {
        let incomplete =
            parts.map(|(name, part)| (name, scope.spawn(|| must_get_408(server, part))));
        let endless = scope.spawn(|| must_close_despite_more_bytes(server));
        let silent = scope.spawn(|| must_close_silent_connection(server));
        for (name, result) in incomplete {
            rows.row(name, result.join().unwrap());
        }
        rows.row("byte by byte for ever", endless.join().unwrap());
        rows.row("silence", silent.join().unwrap());
    });
    rows.finish();
}

fn must_get_408(server: &Server, part: &[u8]) -> Result<(), String> {
    let start = Instant::now();
    let mut stream = TcpStream::connect(server.http).unwrap();
    stream.write_all(part).unwrap();
    let reply = reply::read(&mut stream, false)?;
    let took = start.elapsed();
    ensure!(reply.status == 408, "not 408: {}", reply.show());
    ensure!(
        (Duration::from_millis(900)..Duration::from_secs(8)).contains(&took),
        "after {took:?}"
    );
    Ok(())
}

/// Checks that the time-out applies to the whole head, not to each byte.
fn must_close_despite_more_bytes(server: &Server) -> Result<(), String> {
    let mut stream = TcpStream::connect(server.http).unwrap();
    let start = Instant::now();
    stream.write_all(b"GET / HTTP/1.1\r\nX: ").unwrap();
    stream
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    loop {
        if stream.write_all(b"a").is_err() {
            break;
        }
        match stream.read(&mut [0; 4096]) {
            Ok(0) => break,
            Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => break,
            _ => {}
        }
        if start.elapsed() > Duration::from_secs(10) {
            break;
        }
    }
    ensure!(
        start.elapsed() < Duration::from_secs(9),
        "still open after ten seconds"
    );
    Ok(())
}

/// Checks that a silent connection is closed, with or without a reply.
fn must_close_silent_connection(server: &Server) -> Result<(), String> {
    let start = Instant::now();
    let mut stream = TcpStream::connect(server.http).unwrap();
    let (raw, _) = reply::read_raw(&mut stream, Duration::from_secs(10))?;
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
    assert!(server.is_running());
}

#[test]
fn a_hundred_random_heads_of_each_kind_leave_the_server_running() {
    let (mut server, bytes) = server(&["--head-timeout", "1"]);
    let good = get(&target());
    let mut random = common::random::Random(99);
    let mut open = Vec::new();
    for round in 0..300 {
        let mut head = good.clone();
        // Modify a valid head in one to four places.
        for _ in 0..=round % 4 {
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
    assert!(server.is_running());
}
