//! Client of the first edition over UDP and TCP (docs/protocol.md 6), written from the protocol alone.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use super::random::Random;
use super::reply::show;
use crate::ensure;

/// Number of data bytes in a full packet.
pub const PACKET: usize = 1022;

/// `LUAUPDATE,<id>,<count>,<last>`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    pub id: u32,
    pub count: usize,
    pub last: usize,
}

impl Offer {
    /// Parses an offer as strictly as the strictest client.
    pub fn parse(bytes: &[u8]) -> Result<Offer, String> {
        let wrong = || format!("no offer: {}", show(bytes));
        let text = std::str::from_utf8(bytes).map_err(|_| wrong())?;
        let mut fields = text
            .strip_prefix("LUAUPDATE,")
            .ok_or_else(wrong)?
            .split(',');
        let mut number = || -> Result<usize, String> {
            let digits = fields.next().ok_or_else(wrong)?;
            ensure!(
                digits.bytes().all(|digit| digit.is_ascii_digit())
                    && (digits == "0" || !digits.starts_with('0')),
                "{}",
                wrong()
            );
            digits.parse().map_err(|_| wrong())
        };
        let (id, count, last) = (number()?, number()?, number()?);
        ensure!(fields.next().is_none(), "{}", wrong());
        ensure!(id <= 0x7FFF_FFFF, "an id over 31 bits: {text}");
        ensure!((1..=65535).contains(&count), "{text}");
        ensure!((1..=PACKET).contains(&last), "{text}");
        Ok(Offer {
            id: id as u32,
            count,
            last,
        })
    }

    pub fn size(&self) -> usize {
        (self.count - 1) * PACKET + self.last
    }

    /// Fails unless this is the offer of a file of this size. The id may be any number.
    pub fn must_be_for(&self, size: usize) -> Result<(), String> {
        let count = size.div_ceil(PACKET);
        let last = size - (count - 1) * PACKET;
        ensure!(
            (self.count, self.last) == (count, last),
            "{self:?} for a file of {size} bytes, which has {count} packets and {last} bytes in the last"
        );
        Ok(())
    }

    /// The data in the reply to a Get, checked as the Lua client checks it.
    pub fn data<'b>(&self, number: usize, reply: &'b [u8]) -> Result<&'b [u8], String> {
        let wanted = if number == self.count {
            self.last
        } else {
            PACKET
        };
        ensure!(
            reply.len() == 2 + wanted,
            "packet {number} has {} bytes instead of {}: {}",
            reply.len(),
            2 + wanted,
            show(&reply[..reply.len().min(40)])
        );
        ensure!(
            reply[..2] == (number as u16).to_be_bytes(),
            "packet {number} begins {}",
            show(&reply[..2])
        );
        Ok(&reply[2..])
    }
}

/// A module's UDP socket.
pub struct Device {
    pub socket: UdpSocket,
    pub server: SocketAddr,
}

impl Device {
    pub fn new(server: SocketAddr) -> Device {
        Device::at("127.0.0.1".parse().unwrap(), server)
    }

    /// A device with this local address.
    pub fn at(own: IpAddr, server: SocketAddr) -> Device {
        let socket = UdpSocket::bind((own, 0)).unwrap();
        let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 4 << 20);
        Device { socket, server }
    }

    /// Sends one message and waits up to 3 seconds for the reply.
    pub fn ask(&self, message: impl AsRef<[u8]>) -> Option<Vec<u8>> {
        self.ask_for(message, Duration::from_secs(3))
    }

    pub fn ask_for(&self, message: impl AsRef<[u8]>, patience: Duration) -> Option<Vec<u8>> {
        self.socket.send_to(message.as_ref(), self.server).unwrap();
        self.receive(patience)
    }

    pub fn receive(&self, patience: Duration) -> Option<Vec<u8>> {
        let mut buffer = [0; 2048];
        self.socket.set_read_timeout(Some(patience)).unwrap();
        let (length, from) = self.socket.recv_from(&mut buffer).ok()?;
        assert_eq!(from, self.server, "the answer came from another address");
        Some(buffer[..length].to_vec())
    }

    /// Fails unless the reply is this text.
    pub fn must_reply(&self, message: impl AsRef<[u8]>, answer: &str) -> Result<(), String> {
        let message = message.as_ref();
        match self.ask(message) {
            Some(got) if got == answer.as_bytes() => Ok(()),
            Some(got) => Err(format!(
                "{} got {} instead of {answer:?}",
                show(message),
                show(&got)
            )),
            None => Err(format!(
                "{} got no answer instead of {answer:?}",
                show(message)
            )),
        }
    }

    /// Fails if a reply arrives within 250 ms.
    pub fn must_be_silent(&self, message: impl AsRef<[u8]>) -> Result<(), String> {
        let message = message.as_ref();
        match self.ask_for(message, Duration::from_millis(250)) {
            None => Ok(()),
            Some(got) => Err(format!("{} got {}", show(message), show(&got))),
        }
    }

    /// Fails unless the reply is an offer.
    pub fn check(&self, message: impl AsRef<[u8]>) -> Result<Offer, String> {
        let message = message.as_ref();
        let answer = self
            .ask(message)
            .ok_or_else(|| format!("{} got no answer", show(message)))?;
        Offer::parse(&answer).map_err(|error| format!("{}: {error}", show(message)))
    }

    /// Downloads stop-and-wait, as the module does: it requests a packet again if none arrives.
    pub fn download(&self, offer: Offer) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        for number in 1..=offer.count {
            let mut tries = 0..5;
            let reply = loop {
                ensure!(tries.next().is_some(), "no packet {number}");
                let message = format!("Get{number},{}", offer.id);
                match self.ask_for(message, Duration::from_secs(1)) {
                    // The reply to an earlier request.
                    Some(late)
                        if number > 1 && late.starts_with(&(number as u16 - 1).to_be_bytes()) => {}
                    Some(reply) => break reply,
                    None => {}
                }
            };
            bytes.extend_from_slice(offer.data(number, &reply)?);
        }
        Ok(bytes)
    }

    /// Downloads over a bad network: `loss` percent of the messages in each direction are lost, `twice`
    /// percent arrive twice, and up to `window` are in flight at once and may be reordered. Fails if a
    /// packet arrives that is wrong, even if it was not needed.
    pub fn download_badly(
        &self,
        offer: Offer,
        random: &mut Random,
        window: usize,
        loss: u64,
        twice: u64,
    ) -> Result<Vec<u8>, String> {
        let mut missing: Vec<usize> = (1..=offer.count).rev().collect();
        let mut waiting: BTreeMap<usize, Instant> = BTreeMap::new();
        let mut packets: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
        // With many requests in flight, a reply may wait long behind others.
        let again = Duration::from_millis(match (loss, window) {
            (0, _) => 1000,
            (_, 256..) => 300,
            _ => 40,
        });
        let end = Instant::now() + Duration::from_secs(60);
        let mut buffer = [0; 2048];
        while packets.len() < offer.count {
            ensure!(
                Instant::now() < end,
                "only {} of {} packets within a minute",
                packets.len(),
                offer.count
            );
            let now = Instant::now();
            let late: Vec<usize> = waiting
                .iter()
                .filter(|(_, since)| now.duration_since(**since) > again)
                .map(|(number, _)| *number)
                .collect();
            for number in late {
                waiting.remove(&number);
                missing.push(number);
            }
            let mut sent = Vec::new();
            while waiting.len() < window {
                // Sometimes choose a packet other than the next one.
                let chosen = if random.percent(20) && missing.len() > 1 {
                    let at = missing.len() - 1 - random.index(missing.len().min(8));
                    missing.swap_remove(at)
                } else if let Some(number) = missing.pop() {
                    number
                } else {
                    break;
                };
                waiting.insert(chosen, Instant::now());
                sent.push(chosen);
            }
            for number in sent {
                let copies = if random.percent(loss) {
                    0
                } else {
                    1 + usize::from(random.percent(twice))
                };
                for _ in 0..copies {
                    let message = format!("Get{number},{}", offer.id);
                    self.socket
                        .send_to(message.as_bytes(), self.server)
                        .map_err(|error| error.to_string())?;
                }
            }
            self.socket
                .set_read_timeout(Some(Duration::from_millis(20)))
                .unwrap();
            let Ok(length) = self.socket.recv(&mut buffer) else {
                continue;
            };
            let reply = &buffer[..length];
            ensure!(length >= 2, "an answer of {length} bytes");
            let number = usize::from(u16::from_be_bytes([reply[0], reply[1]]));
            ensure!(
                (1..=offer.count).contains(&number),
                "an answer that is no packet: {}",
                show(reply)
            );
            let data = offer.data(number, reply)?;
            if random.percent(loss) {
                continue;
            }
            if let Some(earlier) = packets.get(&number) {
                ensure!(earlier == data, "packet {number} came with two contents");
            } else {
                packets.insert(number, data.to_vec());
            }
            if waiting.remove(&number).is_none() {
                missing.retain(|other| *other != number);
            }
        }
        Ok(packets.into_values().flatten().collect())
    }
}

/// A module's TCP connection.
pub struct Stream(pub TcpStream);

impl Stream {
    pub fn connect(server: SocketAddr) -> Stream {
        let stream = TcpStream::connect(server).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        Stream(stream)
    }

    pub fn send(&mut self, message: impl AsRef<[u8]>) -> Result<(), String> {
        self.0
            .write_all(message.as_ref())
            .map_err(|error| error.to_string())
    }

    /// Reads once: the next reply, if it arrives in one segment.
    pub fn receive(&mut self) -> Result<Vec<u8>, String> {
        let mut buffer = [0; 4096];
        let length = self
            .0
            .read(&mut buffer)
            .map_err(|error| format!("no answer: {error}"))?;
        Ok(buffer[..length].to_vec())
    }

    pub fn ask(&mut self, message: impl AsRef<[u8]>) -> Result<Vec<u8>, String> {
        self.send(message)?;
        self.receive()
    }
}
