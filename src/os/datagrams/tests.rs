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

/// Takes one batch, as soon as there is one.
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

fn put(outbox: &mut Outbox, way: Way, bytes: &[u8]) -> bool {
    outbox.push(way, |buffer| {
        buffer[..bytes.len()].copy_from_slice(bytes);
        bytes.len()
    })
}

/// Asks the server at `asked` and gives what answered, from where.
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
    assert_eq!(arrival.way.asked(), Some(asked.ip()));
    assert!(put(&mut outbox, arrival.way, b"answer"));
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
fn more_than_one_batch_arrives_whole_and_in_order() {
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
            assert!(put(&mut outbox, arrival.way, arrival.bytes));
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
fn a_long_datagram_is_cut_and_an_empty_one_is_an_arrival_too() {
    let server = bind_udp("127.0.0.1:0".parse().unwrap()).unwrap();
    let client = client("127.0.0.1:0");
    let to = server.local_addr().unwrap();
    client.send_to(&[7; 4000], to).unwrap();
    client.send_to(&[], to).unwrap();
    let mut inbox = Inbox::new();
    assert_eq!(receive(&mut inbox, &server), 2);
    let lengths: Vec<_> = inbox.arrivals().map(|a| a.bytes.len()).collect();
    assert_eq!(lengths, [ARRIVAL, 0]);
}

#[test]
fn a_reply_that_the_network_refuses_does_not_hold_up_the_others() {
    let server = bind_udp("127.0.0.1:0".parse().unwrap()).unwrap();
    let client = client("127.0.0.1:0");
    let good = Way {
        peer: client.local_addr().unwrap(),
        local: None,
        interface: 0,
    };
    let bad = [
        // Not an address of ours; a peer of the other family; nobody; everybody.
        Way {
            local: Some("192.0.2.1".parse().unwrap()),
            ..good
        },
        Way {
            peer: "[2001:db8::1]:9".parse().unwrap(),
            ..good
        },
        Way {
            peer: "127.0.0.1:0".parse().unwrap(),
            ..good
        },
        Way {
            peer: "255.255.255.255:9".parse().unwrap(),
            ..good
        },
    ];
    let mut outbox = Outbox::new();
    for (number, way) in bad.into_iter().enumerate() {
        assert!(put(&mut outbox, way, b"lost"));
        assert!(put(&mut outbox, good, number.to_string().as_bytes()));
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
fn a_full_box_takes_no_more_and_an_empty_reply_takes_no_room() {
    let way = Way {
        peer: "127.0.0.1:9".parse().unwrap(),
        local: None,
        interface: 0,
    };
    let mut outbox = Outbox::new();
    assert!(outbox.push(way, |_| 0));
    assert!(outbox.is_empty());
    for _ in 0..BATCH {
        assert!(put(&mut outbox, way, b"x"));
    }
    assert!(!outbox.push(way, |_| panic!("no room for this")));
}

#[test]
fn what_the_socket_cannot_take_yet_is_sent_later_and_nothing_twice() {
    use io::ErrorKind::{Interrupted, NetworkUnreachable, WouldBlock};
    // What sendmmsg says in turn; from where it was asked to send.
    let mut says = vec![
        Ok(3),
        Err(Interrupted),
        Err(NetworkUnreachable),
        Err(WouldBlock),
        Ok(5),
        Ok(1),
    ];
    says.reverse();
    let mut asked = Vec::new();
    let mut sent = 0;
    let mut call = |from| {
        asked.push(from);
        says.pop().unwrap().map_err(io::Error::from)
    };
    let error = send_all(10, &mut sent, &mut call).unwrap_err();
    assert_eq!((error.kind(), sent), (WouldBlock, 4));
    send_all(10, &mut sent, &mut call).unwrap();
    assert_eq!(asked, [0, 3, 3, 4, 4, 9]);
}

#[test]
fn broadcast_and_multicast_are_never_answered_from() {
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
