//! Promise: a client that holds connections open does not exclude other clients; a download is ended
//! only when its reader has stopped, never because it is slow.

use crate::common;

use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};
use std::time::{Duration, Instant};

use common::packages::noise;
use common::{IMEI, Place, Server, SlowDownload, connect_from, get, luat, reply};

fn server(size: usize, flags: &[&str]) -> (Server, Vec<u8>) {
    let place = Place::new();
    let bytes = noise(150, size);
    place.drop_firmware("P/1.0.1/update.bin", &bytes);
    let server = Server::start_in(place, flags);
    server.wait_until_offered(&target(), &bytes);
    (server, bytes)
}

fn target() -> String {
    luat("P", IMEI, "1.0.0")
}

/// Connections whose heads are never complete.
fn half_open(server: &Server, source: IpAddr, count: usize) -> Vec<TcpStream> {
    (0..count)
        .map(|_| {
            let mut stream = connect_from(Some(source), server.http, 0);
            // The server may already have closed the connection, because its cap is reached.
            let _ = stream.write_all(b"GET /luat/update?imei=1 HTTP/1.1\r\nX: ");
            stream
        })
        .collect()
}

fn check_from(server: &Server, source: IpAddr) -> Result<reply::Reply, String> {
    let mut stream = connect_from(Some(source), server.http, 0);
    stream
        .write_all(&get(&target()))
        .map_err(|error| error.to_string())?;
    reply::read(&mut stream, false)
}

#[test]
fn half_open_heads_at_the_cap_do_not_shut_out_an_honest_check() {
    let (mut server, bytes) = server(1000, &["--max-connections", "50"]);
    let attacker: IpAddr = "127.0.0.1".parse().unwrap();
    let held = half_open(&server, attacker, 60);
    // From the same address, from a neighbouring network, and from a distant one.
    for source in ["127.0.0.1", "127.0.3.4", "127.77.0.1"] {
        for _ in 0..5 {
            check_from(&server, source.parse().unwrap())
                .and_then(|reply| reply.must_be_file(&bytes))
                .unwrap_or_else(|error| panic!("from {source}: {error}"));
        }
    }
    drop(held);
    assert!(server.is_running());
}

#[test]
fn the_connections_of_one_address_are_capped_and_others_are_not_harmed() {
    let flags = common::flags_in_help();
    let (flag, _) = flags
        .iter()
        .find(|(flag, line)| {
            flag.contains("per-address")
                || flag.contains("per-ip")
                || flag.contains("per-source")
                || line.to_lowercase().contains("per address")
                || line.to_lowercase().contains("one address")
        })
        .unwrap_or_else(|| panic!("no flag caps the connections of an address: {flags:?}"));
    let (server, bytes) = server(1000, &[flag, "10"]);
    let fds = || {
        std::fs::read_dir(format!("/proc/{}/fd", server.pid()))
            .unwrap()
            .count()
    };
    let idle = fds();
    let held = half_open(&server, "127.0.5.5".parse().unwrap(), 40);
    common::wait_until("no more than the cap are held", common::PATIENCE, || {
        fds() <= idle + 12
    });
    for source in ["127.0.0.1", "127.0.9.9"] {
        check_from(&server, source.parse().unwrap())
            .and_then(|reply| reply.must_be_file(&bytes))
            .unwrap_or_else(|error| panic!("from {source}: {error}"));
    }
    drop(held);
    // When the connections are closed, the address is served again.
    common::wait_until("the address is welcome again", common::PATIENCE, || {
        check_from(&server, "127.0.5.5".parse().unwrap()).is_ok_and(|reply| reply.status == 200)
    });
}

#[test]
fn a_download_whose_reader_stopped_is_ended() {
    let (server, bytes) = server(4 << 20, &["--stall-timeout", "2"]);
    let sockets = || {
        std::fs::read_dir(format!("/proc/{}/fd", server.pid()))
            .unwrap()
            .flatten()
            .filter(|entry| {
                std::fs::read_link(entry.path())
                    .is_ok_and(|target| target.to_string_lossy().starts_with("socket:"))
            })
            .count()
    };
    // The connections of the checks above are closed within moments.
    let idle = (0..10)
        .map(|_| {
            std::thread::sleep(Duration::from_millis(30));
            sockets()
        })
        .min()
        .unwrap();
    let start = Instant::now();
    let mut stalled = SlowDownload::begin(server.http, &get(&target()), 8000);
    assert!(sockets() > idle, "the download holds a socket");
    common::wait_until(
        "the stalled download is ended",
        Duration::from_secs(30),
        || sockets() <= idle,
    );
    let took = start.elapsed();
    println!("ended after {took:.1?}");
    assert!(
        took >= Duration::from_millis(1500),
        "ended after {took:?}, before its time"
    );
    // The rest of the download is cut short, and the client can see that.
    while stalled.read(1 << 16).is_ok_and(|count| count > 0) {}
    assert!(stalled.received() < bytes.len());
    server.get(&target()).must_be_file(&bytes).unwrap();
}

#[test]
fn a_slow_reader_that_continues_to_read_is_not_closed() {
    let (server, bytes) = server(4 << 20, &["--stall-timeout", "2", "--head-timeout", "2"]);
    let start = Instant::now();
    let mut download = SlowDownload::begin(server.http, &get(&target()), 1000);
    // Four times the time limits. (On loopback the kernel reads 160 kB ahead and opens the window again
    // only when these bytes are read, so a shorter time would look like a stall.)
    while start.elapsed() < Duration::from_secs(8) {
        let count = download.read(16 * 1024).expect("still there");
        assert!(count > 0, "closed after {:?}", start.elapsed());
        std::thread::sleep(Duration::from_millis(60));
    }
    assert!(download.received() < bytes.len(), "it was not slow at all");
    let reply = download.finish().unwrap();
    reply.must_be_file(&bytes).unwrap();
}

#[test]
fn many_stalled_downloads_of_many_files_stay_within_the_memory_for_snapshots() {
    let place = Place::new();
    let files: Vec<Vec<u8>> = (0..12).map(|n| noise(152 + n, 1 << 20)).collect();
    for (number, bytes) in files.iter().enumerate() {
        place.drop_firmware(&format!("S{number}/1.0.1/update.bin"), bytes);
    }
    let server = Server::start_in(place, &["--snapshot-memory", "4M"]);
    let target = |number: usize| luat(&format!("S{number}"), IMEI, "1.0.0");
    let mut downloads = Vec::new();
    for number in 0..files.len() {
        let head = [b"HEAD ", &get(&target(number))[4..]].concat();
        server
            .wait_for_reply(&head, common::PATIENCE, |reply| reply.status == 200)
            .unwrap();
        downloads.push(SlowDownload::begin(
            server.http,
            &get(&target(number)),
            10_000,
        ));
        let held: u64 = std::fs::read_dir(format!("/proc/{}/fd", server.pid()))
            .unwrap()
            .flatten()
            .filter(|entry| {
                std::fs::read_link(entry.path())
                    .is_ok_and(|target| target.to_string_lossy().contains("memfd"))
            })
            .map(|entry| std::fs::metadata(entry.path()).map_or(0, |about| about.len()))
            .sum();
        assert!(held <= 4 << 20, "{held} bytes of memory after {number}");
    }
    for (download, bytes) in downloads.into_iter().zip(&files) {
        download.finish().unwrap().must_be_file(bytes).unwrap();
    }
}

#[test]
fn five_hundred_modules_behind_one_address_are_all_served() {
    let (server, bytes) = server(2000, &[]);
    // All are connected before the first of them sends a request.
    let streams: Vec<TcpStream> = (0..500)
        .map(|_| connect_from(None, server.http, 0))
        .collect();
    for (number, mut stream) in streams.into_iter().enumerate() {
        let request = get(&luat("P", &format!("8629914437{number:05}"), "1.0.0"));
        stream.write_all(&request).unwrap();
        reply::read(&mut stream, false)
            .and_then(|reply| reply.must_be_file(&bytes))
            .unwrap_or_else(|error| panic!("module {number}: {error}"));
    }
}

#[test]
fn a_server_without_descriptors_waits_instead_of_spinning() {
    let (mut server, _) = server_with_files(64, &["--head-timeout", "3"]);
    let held = half_open(&server, "127.0.0.1".parse().unwrap(), 150);
    let cpu = |server: &Server| -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.pid())).unwrap();
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .unwrap()
            .split_whitespace()
            .collect();
        // utime and stime, in ticks of 10 ms.
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    let before = cpu(&server);
    std::thread::sleep(Duration::from_secs(2));
    let used = cpu(&server) - before;
    println!("{used} ticks of 200");
    assert!(used < 100, "{used} of 200 ticks: it spins");
    assert!(server.is_running());
    drop(held);
    common::wait_until("it serves again", common::PATIENCE, || {
        check_from(&server, "127.0.0.1".parse().unwrap()).is_ok_and(|reply| reply.status == 200)
    });
}

/// File descriptors that the server has open.
fn open_files(server: &Server) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", server.pid()))
        .unwrap()
        .count()
}

#[test]
fn connections_closed_by_clients_that_wait_for_a_reply_are_freed() {
    let (server, bytes) = server(1000, &["--max-connections", "100"]);
    let idle = open_files(&server);
    // The rate of replies to unknown texts is limited: most of these connections are closed while they
    // wait for theirs.
    for _ in 0..600 {
        let mut stream = connect_from(None, server.tcp, 0);
        let _ = stream.write_all(b"rubbish\n");
    }
    common::wait_until("no more than the cap are open", common::PATIENCE, || {
        open_files(&server) <= idle + 110
    });
    check_from(&server, "127.77.0.1".parse().unwrap())
        .and_then(|reply| reply.must_be_file(&bytes))
        .unwrap();
    // Much sooner than their replies would be due.
    common::wait_until("all are let go", Duration::from_secs(5), || {
        open_files(&server) <= idle + 5
    });
}

/// A server with a limit of open files. The limit is a hard one, so that the server cannot raise it.
fn server_with_files(files: u32, flags: &[&str]) -> (Server, Vec<u8>) {
    let place = Place::new();
    let bytes = noise(151, 1000);
    place.drop_firmware("P/1.0.1/update.bin", &bytes);
    let mut command = std::process::Command::new("sh");
    command
        .arg("-c")
        .arg(format!("ulimit -n {files} && exec \"$0\" \"$@\""))
        .arg(env!("CARGO_BIN_EXE_luat-ota"))
        .args(common::serve_arguments(&place, flags));
    common::clean(&mut command);
    let server = Server::from_command(place, &mut command);
    server.wait_until_offered(&target(), &bytes);
    (server, bytes)
}

#[test]
fn the_cap_comes_before_the_files_run_out_whatever_the_flag_says() {
    let (server, bytes) = server_with_files(128, &["--max-connections", "1000"]);
    server.wait_for_log("the flag is more than the files allow", |line| {
        line.contains("--max-connections 1000 is more than the limit of open files (128) allows")
    });
    let held = half_open(&server, "127.0.0.1".parse().unwrap(), 200);
    for source in ["127.0.0.1", "127.77.0.1"] {
        for _ in 0..5 {
            check_from(&server, source.parse().unwrap())
                .and_then(|reply| reply.must_be_file(&bytes))
                .unwrap_or_else(|error| panic!("from {source}: {error}"));
        }
    }
    drop(held);
}

#[test]
fn downloads_of_one_network_leave_room_for_others() {
    let (server, bytes) = server(4 << 20, &["--max-connections", "20"]);
    let begin = |source: &str| {
        let mut stream = connect_from(Some(source.parse().unwrap()), server.http, 8000);
        stream.write_all(&get(&target())).unwrap();
        stream
    };
    let admitted = |stream: &TcpStream| {
        stream.set_read_timeout(Some(common::PATIENCE)).unwrap();
        let mut line = [0; 12];
        (&*stream).read_exact(&mut line).is_ok() && line.ends_with(b" 200")
    };
    let attack: Vec<TcpStream> = (0..19).map(|_| begin("127.5.5.5")).collect();
    assert!(attack.iter().all(admitted));
    // Two connections from elsewhere: one takes the last place, the other a place that the heavy network must give up.
    let mut first = begin("127.6.6.6");
    assert!(admitted(&first));
    assert!(admitted(&begin("127.7.7.7")));
    // A new connection from the heavy network replaces one of its own, or is refused.
    let _more: Vec<TcpStream> = (0..10).map(|_| begin("127.5.5.6")).collect();
    let mut rest = Vec::new();
    first.read_to_end(&mut rest).unwrap();
    assert!(rest.ends_with(&bytes), "an honest download was cut");
}

#[test]
fn a_half_received_head_is_answered_at_the_stop() {
    let (server, bytes) = server(1000, &[]);
    let mut half = connect_from(None, server.http, 0);
    half.write_all(b"GET /luat/update?imei=1").unwrap();
    // This request is accepted after the other one.
    server.get(&target()).must_be_file(&bytes).unwrap();
    server.signal(rustix::process::Signal::TERM);
    let reply = reply::read(&mut half, false).unwrap();
    assert_eq!(reply.status, 503);
}

/// The first 12 bytes of the reply to these segments, which are sent with short gaps; waits for five seconds.
fn first_words(server: &Server, segments: &[&str]) -> String {
    let mut stream = connect_from(None, server.http, 0);
    for segment in segments {
        stream.write_all(segment.as_bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(60));
    }
    stream
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    let mut bytes = [0; 12];
    match stream.read_exact(&mut bytes) {
        Ok(()) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => format!("nothing: {error}"),
    }
}

// Case 60.
#[test]
fn a_client_that_waits_for_100_continue_gets_a_reply_at_once() {
    let (server, _) = server(100_000, &[]);
    let mut rows = common::Rows::default();
    let check = target();
    let report = "/api/site/turnkey_fota_result";
    for (path, expected) in [
        (&*check, "HTTP/1.1 200"),
        (&*luat("P", IMEI, "1.0.1"), "HTTP/1.1 404"),
        (&*luat("NONE", IMEI, "1.0.1"), "HTTP/1.1 403"),
        ("/firmware/P/1.0.1/update.bin", "HTTP/1.1 404"),
        ("/nothing/here", "HTTP/1.1 404"),
        ("/healthz", "HTTP/1.1 200"),
        (report, "HTTP/1.1 "),
    ] {
        for method in ["POST", "PUT"] {
            for body in [
                "Content-Length: 500",
                "Content-Length: 90000",
                "Transfer-Encoding: chunked",
            ] {
                let head = format!(
                    "{method} {path} HTTP/1.1\r\nHost: a\r\nexpect: 100-Continue\r\n{body}\r\n\r\n"
                );
                let (first, rest) = head.split_at(head.len() - 7);
                for segments in [vec![&*head], vec![first, rest]] {
                    let words = first_words(&server, &segments);
                    rows.row(
                        &format!("{method} {path} {body} in {}", segments.len()),
                        match words.starts_with(expected) {
                            true => Ok(()),
                            false => Err(words),
                        },
                    );
                }
            }
        }
    }
    rows.finish();
}

// Case 62.
#[test]
fn a_slow_reader_with_a_small_buffer_is_not_closed() {
    let (server, _) = server(4 << 20, &["--stall-timeout", "8"]);
    let said = |line: &str| line.contains("--stall-timeout 8 is below the default");
    assert!(server.log.wait(0, common::PATIENCE, said).is_some());
    let readers: Vec<_> = [150, 400, 1000]
        .map(|rate: usize| {
            let http = server.http;
            std::thread::spawn(move || {
                let mut stream = connect_from(None, http, 8 * 1024);
                stream.set_read_timeout(Some(common::PATIENCE)).unwrap();
                stream.write_all(&get(&target())).unwrap();
                let start = Instant::now();
                let mut part = vec![0; rate / 5];
                while start.elapsed() < Duration::from_secs(50) {
                    stream.read_exact(&mut part).map_err(|error| {
                        format!("{rate} B/s: {error} after {:?}", start.elapsed())
                    })?;
                    std::thread::sleep(Duration::from_millis(200));
                }
                Ok::<(), String>(())
            })
        })
        .into();
    for reader in readers {
        reader.join().unwrap().unwrap();
    }
    let log = server.log.all();
    let stalled = log.iter().find(|line| line.contains("\"stalled\""));
    assert_eq!(stalled, None);
}
