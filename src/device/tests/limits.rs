//! Tests of time-outs, caps and the stop.

use super::*;
use crate::device::slots::Download;
use crate::fleet::network::Network;

fn limits() -> Limits {
    Limits::default()
}

#[test]
fn a_head_that_does_not_arrive_in_time_gets_408() {
    let server = Server::with(Limits {
        head_timeout: Duration::from_millis(200),
        ..limits()
    });
    let mut stream = server.connect();
    stream.write_all(b"GET /healthz HTTP/1.1\r\n").unwrap();
    assert_eq!(read_reply(stream).status, 408);
}

#[test]
fn a_download_of_which_nothing_is_acknowledged_is_given_up() {
    let server = Server::with(Limits {
        stall_timeout: Duration::from_millis(400),
        ..limits()
    });
    server.publish(&[("P/2.0.0/u.bin", &firmware(1, 8 << 20))]);
    let mut stream = server.connect();
    stream.write_all(check(IMEI, "").as_bytes()).unwrap();
    read_part(&mut stream, 1000);
    server.wait_for_downloads(0);
    // The download ended with a reset, so the memory that the kernel held for it is free.
    let mut rest = Vec::new();
    let ended = stream.read_to_end(&mut rest);
    assert!(ended.is_err() || rest.len() < 8 << 20);
}

#[test]
fn a_slow_download_with_progress_is_never_cut() {
    let server = Server::with(Limits {
        stall_timeout: Duration::from_millis(400),
        ..limits()
    });
    let bytes = firmware(1, 3 << 20);
    server.publish(&[("P/2.0.0/u.bin", &bytes)]);
    let mut stream = server.connect();
    stream.write_all(check(IMEI, "").as_bytes()).unwrap();
    let mut got = read_part(&mut stream, 0);
    // Five times the stall limit, with progress all the time.
    let mut part = vec![0; 150_000];
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(2) {
        std::thread::sleep(Duration::from_millis(100));
        stream.read_exact(&mut part).unwrap();
        got.extend(&part);
    }
    stream.read_to_end(&mut got).unwrap();
    assert!(got == bytes);
}

#[test]
fn at_the_cap_an_idle_connection_is_evicted() {
    let server = Server::with(Limits {
        max_connections: Some(2),
        ..limits()
    });
    server.publish(&[("P/2.0.0/u.bin", &firmware(1, 100))]);
    let mut idle = [server.connect(), server.connect()];
    for stream in &mut idle {
        stream.write_all(b"GET").unwrap();
    }
    wait_until("two connections", || {
        server.call(|service| service.seats.len()) == 2
    });
    let mut slow = server.connect();
    slow.write_all(b"GET /healthz").unwrap();
    // One of the idle connections is closed, and the new one is served.
    wait_until("an idle connection is closed", || {
        idle.iter().any(|stream| {
            stream.set_nonblocking(true).unwrap();
            !matches!((&*stream).read(&mut [0]), Err(e) if e.kind() == std::io::ErrorKind::WouldBlock)
        })
    });
    slow.write_all(b" HTTP/1.1\r\n\r\n").unwrap();
    assert_eq!(read_reply(slow).status, 200);
}

#[test]
fn without_an_evictable_connection_a_new_one_gets_503() {
    let server = Server::with(Limits {
        max_connections: Some(1),
        ..limits()
    });
    server.publish(&[("P/2.0.0/u.bin", &firmware(1, 8 << 20))]);
    let mut download = server.connect();
    download.write_all(check(IMEI, "").as_bytes()).unwrap();
    read_part(&mut download, 1000);
    let got = server.check("");
    assert_eq!(got.status, 503);
    assert!(got.header("Retry-After").is_some());
    assert!(got.body.starts_with(b"{\"code\":43,"));
}

#[test]
fn after_the_stop_downloads_continue_and_idle_connections_end() {
    let server = Server::start();
    let bytes = firmware(1, 8 << 20);
    server.publish(&[("P/2.0.0/u.bin", &bytes)]);
    let mut download = server.connect();
    download.write_all(check(IMEI, "").as_bytes()).unwrap();
    let mut got = read_part(&mut download, 1000);
    let mut idle = server.connect();
    let mut begun = server.connect();
    begun.write_all(b"GET /hea").unwrap();
    let mut packets = connect(server.tcp);
    wait_until("four connections", || {
        server.call(|service| service.seats.len()) == 4
    });
    server.stop.raise();
    assert_eq!(idle.read(&mut [0]).unwrap(), 0);
    assert_eq!(read_reply(begun).status, 503);
    assert_eq!(packets.read(&mut [0]).unwrap(), 0);
    assert_eq!(server.call(|service| service.running_downloads()), 1);
    download.read_to_end(&mut got).unwrap();
    assert!(got == bytes);
    server.wait_for_downloads(0);
    // The listener is dropped with its loop.
    wait_until("the listener is closed", || {
        TcpStream::connect(server.http).is_err()
    });
}

#[test]
fn the_end_of_the_last_download_can_be_waited_for() {
    let service = service();
    let executor = LocalExecutor::new();
    let begin = || {
        let network = Network::of(std::net::Ipv4Addr::LOCALHOST.into());
        Download::resume(&service, network, Instant::now())
    };
    let downloads = [begin(), begin()];
    let mut done = executor.spawn({
        let service = Rc::clone(&service);
        async move { service.downloads_done().await }
    });
    smol::block_on(executor.run(async {
        for download in downloads {
            smol::future::yield_now().await;
            assert!(smol::future::poll_once(&mut done).await.is_none());
            drop(download);
        }
        done.await;
    }));
}

#[test]
fn a_project_that_is_not_read_yet_gets_503() {
    let server = Server::start();
    server.publish(&[("Q/2.0.0/u.bin", &firmware(1, 100))]);
    assert_eq!(server.check("").status, 403);
    let socket = server.udp_client();
    socket.send(b"Get1,77").unwrap();
    let mut buffer = [0; 100];
    let length = socket.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"ERR");
    server.call(|service| {
        let mut found = ScanResult::default();
        found.waiting.push("P/2.0.0/u.bin".into());
        let catalog = Catalog::build(found);
        service.replace_catalog(Arc::new(catalog));
    });
    let got = server.check("");
    assert_eq!(got.status, 503);
    assert!(got.body.starts_with(b"{\"code\":43,"));
    // The Get is not answered: the next reply is that to the check.
    socket.send(b"Get1,77").unwrap();
    let check = format!("{IMEI},P_Luat_V0035_8955,1.0.0");
    socket.send(check.as_bytes()).unwrap();
    let length = socket.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"no upgrade");
}

#[test]
fn large_send_buffers_stay_within_their_memory_limit() {
    let server = Server::with(limits());
    // More than the client's side buffers unread.
    server.publish(&[("P/2.0.0/u.bin", &firmware(1, 1 << 20))]);
    let total = || server.call(|service| service.downloads.buffer_bytes.get());
    let begin = || {
        let mut stream = server.connect();
        stream.write_all(check(IMEI, "").as_bytes()).unwrap();
        read_part(&mut stream, 1000);
        stream
    };
    let large = begin();
    server.wait_for_downloads(1);
    assert!((1 << 20..2 << 20).contains(&total()), "{}", total());
    drop(large);
    wait_until("no large buffer is left", || total() == 0);
    // Other downloads use all of the memory for large buffers.
    let most = server.call(|service| {
        let downloads = &service.downloads;
        downloads.buffer_bytes.set(downloads.max_buffer_bytes);
        downloads.max_buffer_bytes
    });
    let large = begin();
    server.wait_for_downloads(1);
    assert_eq!(total(), most);
    drop(large);
    server.wait_for_downloads(0);
    assert_eq!(total(), most);
}

/// Starts a download by a client with a receive buffer of 8 KiB.
fn slow(server: &Server, project: u32) -> TcpStream {
    let mut stream = connect_with_small_buffer(server.http);
    let limit = Some(Duration::from_secs(60));
    stream.set_read_timeout(limit).unwrap();
    let request = format!(
        "GET /luat/update?project_key=k&imei={IMEI}&device_key=&firmware_name=P{project}&version=1.0.0 HTTP/1.1\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

fn start_of(stream: &mut TcpStream) -> String {
    let mut start = [0; 13];
    stream.read_exact(&mut start).unwrap();
    String::from_utf8_lossy(&start).into_owned()
}

// Case 58.
#[test]
fn stalled_downloads_are_evicted_for_a_new_one_and_live_ones_continue() {
    const SIZE: usize = 1 << 20;
    // Four contents fit, and there are no temporary files.
    let server = Server::build_with(Limits::default(), 4 << 20, false);
    let bytes: Vec<Vec<u8>> = (1..=6).map(|seed| firmware(seed, SIZE)).collect();
    let paths: Vec<String> = (1..=6).map(|n| format!("P{n}/2.0.0/u.bin")).collect();
    let files: Vec<(&str, &[u8])> = paths
        .iter()
        .map(|p| &**p)
        .zip(bytes.iter().map(|b| &**b))
        .collect();
    server.publish(&files);
    let began = Instant::now();
    let mut live: Vec<TcpStream> = [1, 2].map(|n| slow(&server, n)).into();
    let mut stalled: Vec<TcpStream> = [3, 4].map(|n| slow(&server, n)).into();
    for stream in live.iter_mut().chain(&mut stalled) {
        assert_eq!(start_of(stream), "HTTP/1.1 200 ");
    }
    // The live downloads are read at 2 KB/s.
    let reading = std::thread::spawn(move || {
        while began.elapsed() < Duration::from_secs(45) {
            for stream in &mut live {
                stream.read_exact(&mut [0; 500]).unwrap();
            }
            std::thread::sleep(Duration::from_millis(250));
        }
        live.len()
    });
    // The new download waits until another one has been stalled for 30 s.
    let mut waiting = slow(&server, 5);
    assert_eq!(start_of(&mut waiting), "HTTP/1.1 200 ");
    let waited = began.elapsed();
    assert!(waited > Duration::from_secs(28), "{waited:?}");
    assert_eq!(reading.join().unwrap(), 2);
    assert!(began.elapsed() < Duration::from_secs(60));
}

#[test]
fn the_server_is_ready_when_the_folder_was_read_and_it_is_not_drained() {
    let service = service();
    let peer = "127.0.0.1:5000".parse().unwrap();
    let status = || {
        let request = "GET /readyz HTTP/1.1\r\nHost: h\r\n\r\n";
        match answer(&service, request, peer, Instant::now()) {
            Answer::Reply(reply) => reply.status(),
            Answer::Deliver(_) => panic!("a file"),
        }
    };
    let publish = |reading, unread: &[&str]| {
        let unread = unread.iter().map(|&path| path.to_owned()).collect();
        service.replace_catalog(Arc::new(Catalog::build(ScanResult {
            reading,
            unread,
            ..ScanResult::default()
        })));
    };
    assert_eq!(status(), 503);
    publish(true, &[]);
    assert_eq!(status(), 503);
    publish(false, &[""]);
    assert_eq!(status(), 503);
    publish(false, &[]);
    assert_eq!(status(), 200);
    // The medium is gone. Other servers would not be better off, and loaded files are still served.
    publish(false, &[""]);
    assert_eq!(status(), 200);
    service.set_drained(true);
    assert_eq!(status(), 503);
    service.set_drained(false);
    assert_eq!(status(), 200);
}
