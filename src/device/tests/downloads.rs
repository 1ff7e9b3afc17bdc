//! Tests of requests, replies and ranges over HTTP.

use std::sync::atomic::Ordering;

use super::*;

#[test]
fn a_device_with_an_older_version_gets_the_whole_file() {
    for size in [100, 16 * 1024, 16 * 1024 + 1, 3 << 20] {
        let server = Server::start();
        let bytes = firmware(1, size);
        server.publish(&[("P/2.0.0/u.bin", &bytes)]);
        let got = server.check("");
        assert_eq!(got.status, 200);
        assert_eq!(got.header("Content-Length"), Some(&*size.to_string()));
        assert_eq!(got.header("Connection"), Some("close"));
        assert!(got.body == bytes && got.clean, "{size}");
    }
}

#[test]
fn no_check_is_refused_before_the_folder_was_read() {
    let server = Server::start();
    let got = server.check("");
    assert_eq!(got.status, 503);
    assert_eq!(server.ask("GET /healthz HTTP/1.1\r\n\r\n").status, 200);
}

#[test]
fn a_head_may_arrive_byte_by_byte() {
    let server = Server::start();
    let bytes = firmware(1, 5000);
    server.publish(&[("P/2.0.0/u.bin", &bytes)]);
    let mut stream = server.connect();
    for byte in check(IMEI, "").bytes() {
        stream.write_all(&[byte]).unwrap();
        std::thread::yield_now();
    }
    let got = read_reply(stream);
    assert_eq!(got.status, 200);
    assert!(got.body == bytes && got.clean);
}

#[test]
fn a_refusal_arrives_whole_even_if_a_body_is_never_read() {
    let server = Server::start();
    server.publish(&[("P/0.9.0/u.bin", &firmware(1, 100))]);
    for body in [0, 1, 3000, 60_000, 3_000_000] {
        let head = check(IMEI, &format!("Content-Length: {body}\r\n"));
        let mut stream = server.connect();
        stream
            .write_all(head.replacen("GET", "POST", 1).as_bytes())
            .unwrap();
        // The largest body is more than is ever read: the rest of it is cut off, but the reply is complete.
        let sent = stream.write_all(&vec![b'x'; body]);
        assert!(sent.is_ok() || body > 64 * 1024);
        let mut bytes = Vec::new();
        let ended = stream.read_to_end(&mut bytes);
        assert!(ended.is_ok() || body > 64 * 1024);
        let got = ReceivedReply::of(&bytes, true);
        assert_eq!(got.status, 404, "{body}");
        let length: usize = got.header("Content-Length").unwrap().parse().unwrap();
        assert_eq!(got.body.len(), length);
    }
}

#[test]
fn a_post_with_a_body_gets_its_file() {
    let server = Server::start();
    let bytes = firmware(1, 300_000);
    server.publish(&[("P/2.0.0/u.bin", &bytes)]);
    let head = check(IMEI, "Content-Length: 30000\r\n").replacen("GET", "POST", 1);
    let mut stream = server.connect();
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&[b'x'; 30_000]).unwrap();
    let got = read_reply(stream);
    assert_eq!(got.status, 200);
    assert!(got.body == bytes && got.clean);
}

#[test]
fn other_methods_paths_and_heads_get_a_status_of_their_own() {
    let server = Server::start();
    server.publish(&[("P/2.0.0/u.bin", &firmware(1, 100))]);
    for (request, status) in [
        ("OPTIONS / HTTP/1.1\r\n\r\n", 405),
        ("GET /nothing HTTP/1.1\r\n\r\n", 404),
        ("GET /firmware/P/2.0.0/u.bin HTTP/1.1\r\n\r\n", 404),
        ("GET / HTTP/2.0\r\n\r\n", 505),
        ("\0\r\n\r\n", 400),
        (
            &format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(9000)),
            431,
        ),
        (
            &format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(65)),
            431,
        ),
    ] {
        let got = server.ask(request);
        assert_eq!(got.status, status, "{request:.40}");
        assert!(got.clean, "{request:.40}");
    }
}

#[test]
fn a_download_continues_with_the_file_it_began_with_whatever_the_folder_holds_now() {
    let server = Server::start();
    let (old, new) = (firmware(1, 400_000), firmware(2, 500_000));
    server.publish(&[("P/2.0.0/u.bin", &old)]);
    let mut stream = server.connect();
    stream
        .write_all(check(IMEI, "Range: bytes=0-\r\n").as_bytes())
        .unwrap();
    let mut got = read_part(&mut stream, 100_000);
    assert_eq!(got, old[..100_000]);
    drop(stream);
    server.wait_for_downloads(0);
    // The same name with other bytes, and a newer release as well.
    server.publish(&[
        ("P/2.0.0/u.bin", &new),
        ("P/3.0.0/u.bin", &firmware(3, 100)),
    ]);
    let rest = server.check("Range: bytes=100000-\r\n");
    assert_eq!(rest.status, 206);
    assert_eq!(
        rest.header("Content-Range"),
        Some("bytes 100000-399999/400000")
    );
    got.extend(&rest.body);
    assert!(got == old && rest.clean);
    // The download starts again with the new file. An offset beyond the end of that can only be of the old one.
    assert_eq!(server.check("").body, firmware(3, 100));
    assert_eq!(server.check("Range: bytes=50-\r\n").status, 416);
    assert_eq!(server.check("Range: bytes=101-\r\n").body, old[101..]);
}

#[test]
fn a_download_continues_although_its_release_is_refused_now() {
    let server = Server::start();
    let bytes = firmware(1, 50_000);
    server.publish(&[("P/2.0.0/u.bin", &bytes)]);
    server.check("Range: bytes=0-9999\r\n");
    let paused = br#"{"paused": true}"#;
    server.publish(&[("P/2.0.0/u.bin", &bytes), ("P/2.0.0/release.json", paused)]);
    assert_eq!(server.check("").status, 404);
    let rest = server.check("Range: bytes=10000-\r\n");
    assert_eq!(rest.status, 206);
    assert_eq!(rest.body, bytes[10_000..]);
}

#[test]
fn a_resume_of_an_unknown_download_is_refused() {
    let server = Server::start();
    let bytes = firmware(1, 50_000);
    server.publish(&[("P/2.0.0/u.bin", &bytes)]);
    // The server knows no such download, and the release is new.
    assert_eq!(server.check("Range: bytes=1-\r\n").status, 416);
    assert_eq!(server.check("Range: bytes=-10\r\n").status, 416);
    let got = server.check("Range: bytes=0-99\r\n");
    assert_eq!((got.status, &*got.body), (206, &bytes[..100]));
    assert_eq!(
        server.check("Range: bytes=100-199\r\n").body,
        bytes[100..200]
    );
    assert_eq!(server.check("Range: bytes=300-\r\n").status, 416);
    // The same for another device, and for one without an id.
    let other = server.ask(&check("862991443753387", "Range: bytes=50-\r\n"));
    assert_eq!(other.status, 416);
    let without_id = |range: &str| {
        let headers = format!("Range: bytes={range}\r\n");
        server.ask(&check(IMEI, &headers).replacen("imei=", "x=", 1))
    };
    assert_eq!(without_id("50-").status, 416);
    // A module without an id is known by its address once it has begun.
    assert_eq!(without_id("0-99").body, bytes[..100]);
    assert_eq!(without_id("50-").body, bytes[50..]);
    // A range after the end of the file.
    server.check("");
    let after = server.check("Range: bytes=50000-\r\n");
    assert_eq!(after.status, 416);
    assert_eq!(after.header("Content-Range"), Some("bytes */50000"));
}

#[test]
fn two_devices_with_one_id_never_get_the_rest_of_each_others_file() {
    let server = Server::start();
    let (old, new) = (firmware(1, 3 << 20), firmware(2, 3 << 20));
    server.publish(&[("P/2.0.0/u.bin", &old)]);
    let mut first = server.connect();
    first.write_all(check(IMEI, "").as_bytes()).unwrap();
    assert_eq!(read_part(&mut first, 1000), old[..1000]);
    server.publish(&[("P/3.0.0/u.bin", &new)]);
    // The clone takes all of the new file while the first device is still downloading. But its program may not have
    // read everything that its kernel acknowledged. Both may want to resume, and the server cannot know which one asks.
    assert!(server.check("").body == new);
    drop(first);
    server.wait_for_downloads(0);
    let rest = server.check("Range: bytes=1000-1999\r\n");
    assert_eq!((rest.status, rest.body.len()), (416, 0));
}

#[test]
fn conditional_requests_of_tools_are_honoured() {
    let server = Server::start();
    let bytes = firmware(1, 50_000);
    server.publish(&[("P/2.0.0/u.bin", &bytes)]);
    let tag = server.check("").header("ETag").unwrap().to_owned();
    let got = server.check(&format!("If-None-Match: \"x\", W/{tag}\r\n"));
    assert_eq!((got.status, got.body.len()), (304, 0));
    let tool = "862991443753380";
    let range = "Range: bytes=49990-\r\n";
    let got = server.ask(&check(tool, &format!("{range}If-Range: {tag}\r\n")));
    assert_eq!((got.status, &*got.body), (206, &bytes[49_990..]));
    let got = server.ask(&check("1", &format!("{range}If-Range: \"x\"\r\n")));
    assert_eq!((got.status, got.body.len()), (200, 50_000));
}

#[test]
fn a_head_request_gets_the_head_alone_and_begins_no_download() {
    let server = Server::start();
    server.publish(&[("P/2.0.0/u.bin", &firmware(1, 50_000))]);
    let got = server.ask(&check(IMEI, "Range: bytes=5-\r\n").replacen("GET", "HEAD", 1));
    assert_eq!(got.status, 200);
    assert_eq!(got.header("Content-Length"), Some("50000"));
    assert_eq!(got.body, b"");
    assert!(server.call(|service| service.fleet.borrow().pinned() == 0));
}

#[test]
fn a_device_that_follows_redirects_is_sent_to_the_cdn() {
    let server = Server::start();
    let rules =
        br#"{"redirect": "http://cdn.example.com/{project}/{version}/{file}?i={imei}&f={from}"}"#;
    let bytes = firmware(1, 100);
    server.publish(&[("P/2.0.0/u.bin", &bytes), ("P/2.0.0/release.json", rules)]);
    let follows = check(IMEI, "").replacen("&version", "&need_oss_url=1&version", 1);
    let got = server.ask(&follows);
    assert_eq!(got.status, 302);
    let url = "http://cdn.example.com/P/2.0.0/u.bin?i=862991443753386&f=1.0.0";
    assert_eq!(got.header("Location"), Some(url));
    assert_eq!(server.check("").status, 200);
}

#[test]
fn a_direct_file_has_a_fixed_address() {
    let server = Server::start();
    let bytes = firmware(1, 5000);
    let direct = br#"{"direct": true, "paused": true}"#;
    server.publish(&[("P/2.0.0/u.bin", &bytes), ("P/2.0.0/release.json", direct)]);
    let ask = |headers: &str| {
        server.ask(&format!(
            "GET /firmware/P/2.0.0/u.bin HTTP/1.0\r\n{headers}\r\n"
        ))
    };
    let rest = ask("Range: bytes=10-\r\n");
    assert_eq!(
        (rest.status, rest.header("Content-Length")),
        (412, Some("0"))
    );
    assert_eq!(ask("Range: bytes=0-9\r\n").body, bytes[..10]);
    assert_eq!(ask("Range: bytes=10-\r\n").body, bytes[10..]);
    let got = ask("");
    assert!(got.status == 200 && got.body == bytes);
    let tag = got.header("ETag").unwrap();
    let rest = ask(&format!("Range: bytes=10-\r\nIf-Range: {tag}\r\n"));
    assert_eq!(rest.body, bytes[10..]);
    assert_eq!(ask(&format!("If-None-Match: {tag}\r\n")).status, 304);
}

#[test]
fn a_file_that_vanished_gets_503_and_is_read_again() {
    let server = Server::start();
    server.publish(&[("P/2.0.0/u.bin", &firmware(1, 5000))]);
    std::fs::remove_dir_all(server.folder.path().join("P")).unwrap();
    // The medium may be gone.
    let reply = server.check("");
    assert!(reply.status == 503 && reply.body.is_empty());
    assert_eq!(server.rereads.load(Ordering::Relaxed), 1);
    let counts = server.call(|service| {
        let tally = &service.fleet.borrow().tally;
        (tally.refusals, tally.snapshots)
    });
    assert_eq!(counts, ([0, 1], [0, 1, 0]));
    server.wait_for_downloads(0);
}

#[test]
fn a_download_from_a_temporary_file_is_whole_or_cut_never_wrong() {
    let server = Server::build(Limits::default(), 0);
    let bytes = firmware(1, 8 << 20);
    server.publish(&[("P/2.0.0/u.bin", &bytes)]);
    assert!(server.check("").body == bytes);
    let mut stream = server.connect();
    stream.write_all(check(IMEI, "").as_bytes()).unwrap();
    let mut got = read_part(&mut stream, 1000);
    // Simulates the loss of the medium: the file has no name, but this process has it open and can truncate it.
    let name = server.folder.path().to_str().unwrap();
    let of_snapshot = |fd: &std::fs::DirEntry| {
        let target = std::fs::read_link(fd.path()).unwrap_or_default();
        let target = target.to_string_lossy();
        target.starts_with(name) && target.ends_with("(deleted)")
    };
    let fd = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let fd = fd.into_iter().find(of_snapshot).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(fd.path());
    file.unwrap().set_len(0).unwrap();
    let ended = stream.read_to_end(&mut got);
    assert!(ended.is_err() || got.len() < bytes.len());
    assert!(bytes.starts_with(&got));
    server.wait_for_downloads(0);
}

#[test]
fn a_clone_in_another_network_makes_a_resume_impossible_not_wrong() {
    let server = Server::start();
    let (old, new) = (firmware(1, 60_000), firmware(2, 60_000));
    server.publish(&[("P/2.0.0/u.bin", &old)]);
    server.check("Range: bytes=0-9999\r\n");
    server.publish(&[("P/2.0.0/u.bin", &new)]);
    let from_elsewhere = |headers: &str| {
        let elsewhere = SocketAddr::from(([127, 0, 9, 1], 0));
        let stream = connect_from(elsewhere, server.http);
        (&stream)
            .write_all(check(IMEI, headers).as_bytes())
            .unwrap();
        read_reply(stream)
    };
    assert_eq!(from_elsewhere("Range: bytes=0-999\r\n").body, new[..1000]);
    // The clone has not received as much as the first device.
    assert_eq!(
        server.check("Range: bytes=9000-9099\r\n").body,
        old[9000..9100]
    );
    assert_eq!(from_elsewhere("Range: bytes=500-\r\n").status, 416);
    assert_eq!(server.check("Range: bytes=500-\r\n").status, 416);
    // A download that starts again gets the current file.
    assert_eq!(server.check("Range: bytes=0-999\r\n").body, new[..1000]);
    // But for a day it is unknown which device has the old beginning.
    assert_eq!(server.check("Range: bytes=500-999\r\n").status, 416);
}

#[test]
fn modules_under_one_id_that_ask_for_different_projects_are_not_mixed_up() {
    let server = Server::start();
    let (p, q) = (firmware(1, 60_000), firmware(2, 60_000));
    server.publish(&[("P/2.0.0/u.bin", &p), ("Q/2.0.0/u.bin", &q)]);
    let other = |headers: &str| {
        server.ask(&check(IMEI, headers).replace("firmware_name=P", "firmware_name=Q"))
    };
    assert_eq!(server.check("Range: bytes=0-9999\r\n").body, p[..10_000]);
    assert_eq!(other("Range: bytes=0-19999\r\n").body, q[..20_000]);
    // What a device reports may change between a beginning and its resume, so the other project's download counts as
    // well.
    assert_eq!(server.check("Range: bytes=10000-\r\n").status, 416);
    assert_eq!(other("Range: bytes=20000-\r\n").body, q[20_000..]);
    assert_eq!(server.check("Range: bytes=59000-\r\n").status, 416);
}

#[test]
fn a_range_that_is_complete_does_not_end_the_pin_of_its_file() {
    let server = Server::start();
    let (old, new) = (firmware(1, 400_000), firmware(2, 400_000));
    server.publish(&[("P/2.0.0/u.bin", &old)]);
    let mut running = server.connect();
    running.write_all(check(IMEI, "").as_bytes()).unwrap();
    let mut got = read_part(&mut running, 100);
    server.publish(&[("P/2.0.0/u.bin", &new)]);
    assert_eq!(server.check("Range: bytes=0-9999\r\n").body, new[..10_000]);
    // The same id has begun both contents, so the rest could be of the wrong one.
    assert_eq!(server.check("Range: bytes=10000-19999\r\n").status, 416);
    running.read_to_end(&mut got).unwrap();
    assert!(got.ends_with(&old[300_000..]));
}
