use super::receive::{MAX_ARRIVAL, can_send_from};
use super::send::send_all;
use super::*;
use crate::os::net::bind_udp;
use std::time::{Duration, Instant};

fn client(address: &str) -> UdpSocket {
    let client = UdpSocket::bind(address).unwrap();
    client
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    client
}

/// Receives one batch, as soon as there is one.
fn receive(inbox: &mut Inbox, socket: &UdpSocket) -> usize {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        match inbox.receive(socket) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock && Instant::now() < end => {
                std::thread::yield_now();
            }
            other => return other.unwrap(),
        }
    }
}

fn push(outbox: &mut Outbox, path: ReplyPath, bytes: &[u8]) -> bool {
    outbox.push(path, |buffer| {
        buffer[..bytes.len()].copy_from_slice(bytes);
        bytes.len()
    })
}

/// Asks the server at `asked` and returns the reply and its source address.
fn ask(server: &UdpSocket, asked: SocketAddr) -> (Vec<u8>, SocketAddr) {
    let client = client(if asked.is_ipv4() {
        "127.0.0.1:0"
    } else {
        "[::1]:0"
    });
    client.send_to(b"question", asked).unwrap();
    let (mut inbox, mut outbox) = (Inbox::new(), Outbox::new());
    assert_eq!(receive(&mut inbox, server), 1);
    let arrival = inbox.arrivals().next().unwrap();
    assert_eq!(arrival.bytes, b"question");
    assert_eq!(arrival.from, client.local_addr().unwrap());
    assert_eq!(
        arrival.path.local.map(|ip| ip.to_canonical()),
        Some(asked.ip())
    );
    assert!(push(&mut outbox, arrival.path, b"answer"));
    outbox.send(server).unwrap();
    let mut buffer = [0; 64];
    let (count, from) = client.recv_from(&mut buffer).unwrap();
    (buffer[..count].to_vec(), from)
}

#[test]
fn a_reply_leaves_from_the_address_that_was_asked() {
    let server = bind_udp("0.0.0.0:0".parse().unwrap()).unwrap();
    let port = server.local_addr().unwrap().port();
    for ip in [[127, 0, 0, 2], [127, 0, 0, 1], [127, 9, 8, 7]] {
        let asked = SocketAddr::from((ip, port));
        assert_eq!(ask(&server, asked), (b"answer".to_vec(), asked));
    }
}

#[test]
fn a_reply_leaves_from_the_address_that_was_asked_on_a_socket_of_both_families() {
    let Ok(server) = bind_udp("[::]:0".parse().unwrap()) else {
        return; // A kernel without IPv6.
    };
    let port = server.local_addr().unwrap().port();
    for ip in [[127, 0, 0, 2], [127, 0, 0, 1], [127, 9, 8, 7]] {
        let asked = SocketAddr::from((ip, port));
        assert_eq!(ask(&server, asked), (b"answer".to_vec(), asked));
    }
    if UdpSocket::bind("[::1]:0").is_ok() {
        let asked = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
        assert_eq!(ask(&server, asked), (b"answer".to_vec(), asked));
    }
}

#[test]
fn several_batches_arrive_whole_and_in_order() {
    let server = bind_udp("127.0.0.1:0".parse().unwrap()).unwrap();
    let client = client("127.0.0.1:0");
    let (mut inbox, mut outbox) = (Inbox::new(), Outbox::new());
    let error = inbox.receive(&server).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    let total = 2 * BATCH + 22;
    for number in 0..total {
        let question = format!("{number}");
        let to = server.local_addr().unwrap();
        client.send_to(question.as_bytes(), to).unwrap();
    }
    let (mut seen, mut batches) = (0, Vec::new());
    while seen < total {
        batches.push(receive(&mut inbox, &server));
        for arrival in inbox.arrivals() {
            assert_eq!(arrival.bytes, seen.to_string().as_bytes());
            assert!(push(&mut outbox, arrival.path, arrival.bytes));
            seen += 1;
        }
        outbox.send(&server).unwrap();
        assert!(outbox.is_empty());
    }
    assert_eq!(batches, [BATCH, BATCH, 22]);
    let mut buffer = [0; 64];
    for number in 0..total {
        let count = client.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..count], number.to_string().as_bytes());
    }
}

#[test]
fn a_long_datagram_is_cut_and_an_empty_one_is_received() {
    let server = bind_udp("127.0.0.1:0".parse().unwrap()).unwrap();
    let client = client("127.0.0.1:0");
    let to = server.local_addr().unwrap();
    client.send_to(&[7; 4000], to).unwrap();
    client.send_to(&[], to).unwrap();
    let mut inbox = Inbox::new();
    assert_eq!(receive(&mut inbox, &server), 2);
    let lengths: Vec<_> = inbox.arrivals().map(|a| a.bytes.len()).collect();
    assert_eq!(lengths, [MAX_ARRIVAL, 0]);
}

#[test]
fn a_reply_that_the_network_refuses_does_not_hold_up_the_others() {
    let server = bind_udp("127.0.0.1:0".parse().unwrap()).unwrap();
    let client = client("127.0.0.1:0");
    let good = ReplyPath {
        peer: client.local_addr().unwrap(),
        local: None,
        interface: 0,
    };
    let bad = [
        // A source address of another machine; a peer of the other family; port 0; broadcast.
        ReplyPath {
            local: Some("192.0.2.1".parse().unwrap()),
            ..good
        },
        ReplyPath {
            peer: "[2001:db8::1]:9".parse().unwrap(),
            ..good
        },
        ReplyPath {
            peer: "127.0.0.1:0".parse().unwrap(),
            ..good
        },
        ReplyPath {
            peer: "255.255.255.255:9".parse().unwrap(),
            ..good
        },
    ];
    let mut outbox = Outbox::new();
    for (number, path) in bad.into_iter().enumerate() {
        assert!(push(&mut outbox, path, b"lost"));
        assert!(push(&mut outbox, good, number.to_string().as_bytes()));
    }
    outbox.send(&server).unwrap();
    assert!(outbox.is_empty());
    let mut buffer = [0; 64];
    for number in 0..bad.len() {
        let count = client.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..count], number.to_string().as_bytes());
    }
}

#[test]
fn a_full_outbox_refuses_replies_and_an_empty_reply_is_dropped() {
    let path = ReplyPath {
        peer: "127.0.0.1:9".parse().unwrap(),
        local: None,
        interface: 0,
    };
    let mut outbox = Outbox::new();
    assert!(outbox.push(path, |_| 0));
    assert!(outbox.is_empty());
    for _ in 0..BATCH {
        assert!(push(&mut outbox, path, b"x"));
    }
    assert!(!outbox.push(path, |_| panic!("no room for this")));
}

#[test]
fn unsent_replies_are_sent_later_and_none_twice() {
    use io::ErrorKind::{Interrupted, NetworkUnreachable, WouldBlock};
    // The results of sendmmsg, in order, and the indices from which it was asked to send.
    let mut results = vec![
        Ok(3),
        Err(Interrupted),
        Err(NetworkUnreachable),
        Err(WouldBlock),
        Ok(5),
        Ok(1),
    ];
    results.reverse();
    let mut asked = Vec::new();
    let mut sent = 0;
    let mut call = |from| {
        asked.push(from);
        results.pop().unwrap().map_err(io::Error::from)
    };
    let error = send_all(10, &mut sent, &mut call).unwrap_err();
    assert_eq!((error.kind(), sent), (WouldBlock, 4));
    send_all(10, &mut sent, &mut call).unwrap();
    assert_eq!(asked, [0, 3, 3, 4, 4, 9]);
}

#[test]
fn replies_are_never_sent_from_broadcast_or_multicast() {
    for bad in [
        "255.255.255.255",
        "224.0.0.1",
        "0.0.0.0",
        "::",
        "ff02::1",
        "::ffff:224.0.0.1",
    ] {
        assert!(!can_send_from(bad.parse().unwrap()), "{bad}");
    }
    for good in ["10.0.0.1", "::ffff:10.0.0.1", "fe80::1", "2001:db8::1"] {
        assert!(can_send_from(good.parse().unwrap()), "{good}");
    }
}

/// Returns a reply of this length that contains its number.
fn numbered(number: usize, length: usize) -> Vec<u8> {
    let mut bytes = vec![number as u8; length];
    bytes[length / 2] = 0xaa;
    bytes
}

/// Sends replies of several lengths to two clients, one of which asked two addresses. Each client gets its own replies
/// in order, from the address that it asked.
fn sends_all_in_order(server: &UdpSocket, asks: [&str; 2]) {
    let port = server.local_addr().unwrap().port();
    let clients = [client("127.0.0.1:0"), client("127.0.0.1:0")];
    let (mut inbox, mut outbox) = (Inbox::new(), Outbox::new());
    let mut paths = Vec::new();
    for (client, asked) in [(0, asks[0]), (0, asks[1]), (1, asks[0])] {
        let asked = SocketAddr::new(asked.parse().unwrap(), port);
        clients[client].send_to(b"?", asked).unwrap();
        assert_eq!(receive(&mut inbox, server), 1);
        let path = inbox.arrivals().next().unwrap().path;
        paths.push((client, asked, path));
    }
    let full = |path, count| std::iter::repeat_n((path, MAX_REPLY), count);
    let plan: Vec<(usize, usize)> = full(0, 3)
        .chain([
            (0, 17),
            (0, 17),
            (0, MAX_REPLY),
            (0, MAX_REPLY - 1),
            (0, MAX_REPLY),
        ])
        .chain(full(1, 2).chain(full(2, 1)).chain(full(1, 1)))
        .chain(full(2, 35))
        .chain([(2, 1), (0, MAX_REPLY)])
        .collect();
    let mut expected = [Vec::new(), Vec::new()];
    for (number, &(path, length)) in plan.iter().enumerate() {
        let (client, asked, path) = paths[path];
        assert!(push(&mut outbox, path, &numbered(number, length)));
        expected[client].push((numbered(number, length), asked));
    }
    outbox.send(server).unwrap();
    assert!(outbox.is_empty());
    let mut buffer = [0; 65_536];
    for (client, expected) in clients.iter().zip(expected) {
        for (number, expected) in expected.into_iter().enumerate() {
            let (count, from) = client.recv_from(&mut buffer).unwrap();
            assert!((buffer[..count].to_vec(), from) == expected, "{number}");
        }
        client.set_nonblocking(true).unwrap();
        assert!(client.recv(&mut buffer).is_err());
    }
}

#[test]
fn many_replies_arrive_in_their_order() {
    let asks = ["127.0.0.1", "127.9.8.7"];
    sends_all_in_order(&bind_udp("0.0.0.0:0".parse().unwrap()).unwrap(), asks);
    if let Ok(server) = bind_udp("[::]:0".parse().unwrap()) {
        sends_all_in_order(&server, asks);
    }
}
