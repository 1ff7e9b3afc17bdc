use super::*;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::panic::Location;
use std::time::Instant;

const OPTIONS: TcpOptions = TcpOptions {
    receive_buffer: 8 << 10,
    send_buffer: Some(32 << 10),
    user_timeout: Duration::from_secs(120),
    defer_accept: None,
};

/// Returns both ends of a connection through a listener: ours and the client's.
fn connected(options: &TcpOptions) -> (TcpStream, TcpStream) {
    let listener = listen("127.0.0.1:0".parse().unwrap(), options).unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    if options.defer_accept.is_some() {
        client.write_all(b"GET").unwrap();
    }
    (wait_for(|| accept(&listener)).0, client)
}

/// Calls `f` until it no longer fails with `WouldBlock`, for at most 10 seconds.
#[track_caller]
fn wait_for<T>(mut f: impl FnMut() -> io::Result<T>) -> T {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        match f() {
            Err(e) if e.kind() == ErrorKind::WouldBlock && Instant::now() < end => {
                std::thread::yield_now();
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => {
                panic!("never so in 10 s: what {} waits for", Location::caller())
            }
            other => return other.unwrap(),
        }
    }
}

#[track_caller]
fn until(mut f: impl FnMut() -> bool) {
    wait_for(|| match f() {
        true => Ok(()),
        false => Err(ErrorKind::WouldBlock.into()),
    });
}

#[test]
fn accept_does_not_block() {
    let listener = listen("127.0.0.1:0".parse().unwrap(), &OPTIONS).unwrap();
    let error = accept(&listener).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
}

#[test]
fn a_connection_has_the_options_of_its_listener() {
    let (mut stream, client) = connected(&OPTIONS);
    // The kernel doubles the given size, for its own book-keeping.
    assert_eq!(sockopt::socket_recv_buffer_size(&stream).unwrap(), 16 << 10);
    assert_eq!(sockopt::socket_send_buffer_size(&stream).unwrap(), 64 << 10);
    assert_eq!(sockopt::tcp_user_timeout(&stream).unwrap(), 120_000);
    assert!(sockopt::tcp_nodelay(&stream).unwrap());
    let mut buffer = [0; 1];
    let error = stream.read(&mut buffer).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    let flags = rustix::io::fcntl_getfd(&stream).unwrap();
    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    drop(client);
}

#[test]
fn a_listener_from_elsewhere_gets_the_same_options() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    adopt_listener(&listener, &OPTIONS).unwrap();
    assert_eq!(accept(&listener).unwrap_err().kind(), ErrorKind::WouldBlock);
    let timeout = sockopt::tcp_user_timeout(&listener).unwrap();
    assert_eq!(timeout, 120_000);
}

#[test]
fn accept_is_deferred_only_with_syn_cookies() {
    let options = TcpOptions {
        defer_accept: Some(Duration::from_secs(3)),
        ..OPTIONS
    };
    let listener = listen("127.0.0.1:0".parse().unwrap(), &options).unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    if syncookies() {
        // For the client the connection exists, but it is silent: there is nothing to accept yet.
        assert_eq!(accept(&listener).unwrap_err().kind(), ErrorKind::WouldBlock);
    }
    client.write_all(b"GET").unwrap();
    let (mut stream, _) = wait_for(|| accept(&listener));
    let mut buffer = [0; 8];
    assert_eq!(wait_for(|| stream.read(&mut buffer)), 3);
    connected(&options);
}

#[test]
fn an_ipv6_wildcard_accepts_ipv4_with_unmapped_addresses() {
    let Ok(listener) = listen("[::]:0".parse().unwrap(), &OPTIONS) else {
        // The kernel has no IPv6, so the IPv4 wildcard must work.
        listen("0.0.0.0:0".parse().unwrap(), &OPTIONS).unwrap();
        return;
    };
    let port = listener.local_addr().unwrap().port();
    let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let (_, peer) = wait_for(|| accept(&listener));
    assert_eq!(peer, client.local_addr().unwrap());
    assert!(peer.is_ipv4());
    // The listener has also taken the same port of IPv4.
    let second = listen(SocketAddr::from(([0, 0, 0, 0], port)), &OPTIONS);
    assert_eq!(second.unwrap_err().kind(), ErrorKind::AddrInUse);
}

#[test]
fn a_specific_ipv6_address_leaves_ipv4_alone() {
    let Ok(listener) = listen("[::1]:0".parse().unwrap(), &OPTIONS) else {
        return;
    };
    assert!(sockopt::ipv6_v6only(&listener).unwrap());
}

#[test]
fn head_and_body_are_sent_as_one() {
    let (stream, mut client) = connected(&OPTIONS);
    assert_eq!(send(&stream, b"head", b"body", false).unwrap(), 8);
    let mut buffer = [0; 64];
    assert_eq!(client.read(&mut buffer).unwrap(), 8);
    assert_eq!(&buffer[..8], b"headbody");
    assert_eq!(send(&stream, b"", b"", false).unwrap(), 0);
}

#[test]
fn a_body_that_follows_is_sent_with_the_bytes_before_it() {
    let (stream, mut client) = connected(&OPTIONS);
    let mut file = tempfile();
    file.write_all(b"0123456789").unwrap();
    assert_eq!(send(&stream, b"head", b"", true).unwrap(), 4);
    assert_eq!(send_file(&stream, file.as_fd(), 3, 4).unwrap(), 4);
    let mut buffer = [0; 64];
    assert_eq!(client.read(&mut buffer).unwrap(), 8);
    assert_eq!(&buffer[..8], b"head3456");
    assert_eq!(send_file(&stream, file.as_fd(), 8, 100).unwrap(), 2);
    assert_eq!(send_file(&stream, file.as_fd(), 10, 100).unwrap(), 0);
    assert_eq!(send_file(&stream, file.as_fd(), 11, 100).unwrap(), 0);
}

fn tempfile() -> std::fs::File {
    crate::os::fs::unnamed_file(&std::env::temp_dir()).unwrap()
}

#[test]
fn a_full_socket_would_block_and_counts_unacknowledged_bytes() {
    let (stream, mut client) = connected(&OPTIONS);
    let chunk = [7; 4096];
    let mut sent = 0;
    let error = loop {
        match send(&stream, &chunk, &chunk, false) {
            Ok(count) => sent += count,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    assert!(unacknowledged(&stream).unwrap() > 0);
    let mut got = vec![0; sent];
    client.read_exact(&mut got).unwrap();
    until(|| unacknowledged(&stream).unwrap() == 0);
    stream.shutdown(Shutdown::Write).unwrap();
    until(|| unacknowledged(&stream).unwrap() == 0);
}

#[test]
fn a_closed_peer_causes_an_error_and_no_signal() {
    let (stream, client) = connected(&OPTIONS);
    // Because of unread bytes, the close resets the connection.
    send(&stream, b"x", b"", false).unwrap();
    until(|| unread(&client).unwrap() == 1);
    drop(client);
    let end = Instant::now() + Duration::from_secs(10);
    while send(&stream, b"x", b"", false).is_ok() {
        assert!(Instant::now() < end, "the reset of the peer is not seen");
    }
    assert!(send(&stream, b"x", b"", false).is_err());
}

#[test]
fn unread_bytes_are_counted() {
    let (stream, mut client) = connected(&OPTIONS);
    assert_eq!(unread(&stream).unwrap(), 0);
    client.write_all(b"12345").unwrap();
    until(|| unread(&stream).unwrap() == 5);
}

#[test]
fn keep_alive_takes_its_idle_time() {
    let (stream, _client) = connected(&OPTIONS);
    keep_alive(&stream, Duration::from_secs(77)).unwrap();
    assert!(sockopt::socket_keepalive(&stream).unwrap());
    let idle = sockopt::tcp_keepidle(&stream).unwrap();
    assert_eq!(idle, Duration::from_secs(77));
}

#[test]
fn a_connection_can_have_a_user_timeout_of_its_own() {
    let (stream, _client) = connected(&OPTIONS);
    user_timeout(&stream, Duration::from_secs(60)).unwrap();
    assert_eq!(sockopt::tcp_user_timeout(&stream).unwrap(), 60_000);
}

#[test]
fn a_connection_that_is_given_up_is_reset() {
    let (stream, mut client) = connected(&OPTIONS);
    reset_on_close(&stream).unwrap();
    drop(stream);
    let error = client.read(&mut [0; 8]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_udp_port_belongs_to_one_server() {
    let first = bind_udp("127.0.0.1:0".parse().unwrap()).unwrap();
    let second = bind_udp(first.local_addr().unwrap());
    assert_eq!(second.unwrap_err().kind(), ErrorKind::AddrInUse);
    let error = first.recv(&mut [0; 8]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
}

#[test]
fn only_mapped_addresses_are_changed_by_unmapping() {
    for (raw, clean) in [
        ("[::ffff:10.1.2.3]:5", "10.1.2.3:5"),
        ("[2001:db8::1]:5", "[2001:db8::1]:5"),
        ("10.1.2.3:5", "10.1.2.3:5"),
    ] {
        assert_eq!(unmapped(raw.parse().unwrap()), clean.parse().unwrap());
    }
}

#[test]
fn loopback_is_not_a_reachable_address_of_this_machine() {
    assert!(interface_addresses().contains(&IpAddr::from([127, 0, 0, 1])));
    assert!(own_addresses().iter().all(|address| !address.is_loopback()));
}
