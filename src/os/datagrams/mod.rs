//! Batches of datagrams that are received ([`Inbox`]) or sent ([`Outbox`]) with one system call: recvmmsg or sendmmsg.
//! Each reply is sent from the address that was asked (IP_PKTINFO, docs/hazards.md 7).
//!
//! Both calls are made directly, not through the C library: musl sends a batch one datagram at a time, because it
//! cannot rely on the padding in the headers of its callers. The headers here are zeroed, so the kernel can read them
//! directly. The memory that the kernel reads and writes has the layout of the kernel's own headers (`linux/in.h`,
//! `linux/in6.h`, `linux/socket.h`).
#![allow(unsafe_code)]

mod receive;
mod send;

use std::io::{self, IoSliceMut};
use std::mem::zeroed;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::AsRawFd;

pub use receive::{Arrival, Inbox};
pub use send::Outbox;

/// Maximum number of datagrams that are received or sent with one system call.
pub const BATCH: usize = 64;

/// Maximum size of a reply in bytes.
pub const MAX_REPLY: usize = 1024;

/// Path of a reply to a datagram: its destination, its source address and its interface. Addresses have the form that
/// the socket uses: mapped, on an IPv6 socket that takes IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyPath {
    peer: SocketAddr,
    /// Source address of the reply; `None` if the routes decide.
    local: Option<IpAddr>,
    /// Index of the interface; 0 if the routes decide.
    interface: u32,
}

/// Sizes of a sockaddr_in and a sockaddr_in6 in bytes.
const IPV4_NAME: usize = 16;
const IPV6_NAME: usize = 28;

/// A socket address of either family: sockaddr_in or sockaddr_in6.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug)]
struct SocketName([u8; IPV6_NAME]);

impl SocketName {
    /// Returns the address in the first `length` bytes.
    fn address(&self, length: usize) -> Option<SocketAddr> {
        let [family_0, family_1, port_0, port_1, rest @ ..] = self.0;
        let port = u16::from_be_bytes([port_0, port_1]);
        match i32::from(u16::from_ne_bytes([family_0, family_1])) {
            libc::AF_INET if length >= IPV4_NAME => {
                let [a, b, c, d, ..] = rest;
                Some(SocketAddr::from((Ipv4Addr::new(a, b, c, d), port)))
            }
            libc::AF_INET6 if length >= IPV6_NAME => {
                let [_, _, _, _, ip @ .., s, t, u, v] = rest;
                // The scope is the interface of a link-local address.
                let scope = u32::from_ne_bytes([s, t, u, v]);
                Some(SocketAddrV6::new(Ipv6Addr::from(ip), port, 0, scope).into())
            }
            _ => None,
        }
    }

    /// Writes an address; returns its length in bytes.
    fn set(&mut self, address: SocketAddr) -> usize {
        let port = address.port().to_be_bytes();
        match address {
            SocketAddr::V4(v4) => {
                let family = (libc::AF_INET as u16).to_ne_bytes();
                fill(&mut self.0, &[&family, &port, &v4.ip().octets(), &[0; 8]])
            }
            SocketAddr::V6(v6) => {
                let family = (libc::AF_INET6 as u16).to_ne_bytes();
                let scope = v6.scope_id().to_ne_bytes();
                let ip = v6.ip().octets();
                fill(&mut self.0, &[&family, &port, &[0; 4], &ip, &scope])
            }
        }
    }
}

/// Buffer for the control messages of one datagram. One in6_pktinfo takes 40 bytes, one in_pktinfo 32.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug)]
struct Control([u8; 64]);

/// Size of a cmsghdr in bytes: its length, level and type.
const CONTROL_HEADER: usize = size_of::<usize>() + 8;

impl Control {
    /// Returns level, type and data of each message in the first `length` bytes (cmsg(3)).
    fn messages(&self, length: usize) -> impl Iterator<Item = (i32, i32, &[u8])> {
        let mut left = self.0.get(..length).unwrap_or(&self.0);
        std::iter::from_fn(move || {
            let (length, rest) = left.split_first_chunk()?;
            let (level, rest) = rest.split_first_chunk()?;
            let (kind, rest) = rest.split_first_chunk()?;
            let length = usize::from_ne_bytes(*length);
            let data = rest.get(..length.checked_sub(CONTROL_HEADER)?)?;
            let next = length.next_multiple_of(size_of::<usize>());
            left = left.get(next..).unwrap_or_default();
            Some((i32::from_ne_bytes(*level), i32::from_ne_bytes(*kind), data))
        })
    }

    /// Writes one message with this data; returns the number of bytes used, with padding.
    fn set(&mut self, level: i32, kind: i32, data: [&[u8]; 3]) -> usize {
        let [a, b, c] = data;
        let length = CONTROL_HEADER + a.len() + b.len() + c.len();
        let (level, kind) = (level.to_ne_bytes(), kind.to_ne_bytes());
        fill(
            &mut self.0,
            &[&length.to_ne_bytes(), &level, &kind, a, b, c],
        );
        length.next_multiple_of(size_of::<usize>())
    }
}

/// Writes the parts one after the other; returns the number of bytes written.
fn fill(into: &mut [u8], parts: &[&[u8]]) -> usize {
    let bytes = parts.iter().copied().flatten();
    into.iter_mut()
        .zip(bytes)
        .map(|(to, from)| *to = *from)
        .count()
}

/// Address, control messages and length of a datagram.
#[derive(Clone, Copy, Debug)]
struct Envelope {
    name: SocketName,
    name_length: usize,
    control: Control,
    control_length: usize,
    /// Size of the datagram in bytes.
    length: usize,
}

impl Envelope {
    const EMPTY: Envelope = Envelope {
        name: SocketName([0; IPV6_NAME]),
        name_length: 0,
        control: Control([0; 64]),
        control_length: 0,
        length: 0,
    };

    /// An envelope for the kernel to fill.
    const TO_FILL: Envelope = Envelope {
        name_length: IPV6_NAME,
        control_length: 64,
        ..Envelope::EMPTY
    };
}

/// Calls recvmmsg or sendmmsg (`call`: the number of the system call) without waiting: receives or sends as many
/// datagrams as there are envelopes, at most [`BATCH`]. Returns the number of datagrams transferred. `parts`: their
/// bytes.
fn transfer(
    call: libc::c_long,
    socket: &UdpSocket,
    envelopes: &mut [Envelope],
    parts: &mut [IoSliceMut<'_>; BATCH],
) -> io::Result<usize> {
    // SAFETY: all-zero bytes are a valid mmsghdr: numbers that are 0 and pointers that are null.
    let mut headers = [const { unsafe { zeroed::<libc::mmsghdr>() } }; BATCH];
    for ((header, part), envelope) in headers.iter_mut().zip(parts).zip(envelopes.iter_mut()) {
        let header = &mut header.msg_hdr;
        header.msg_name = (&raw mut envelope.name).cast();
        header.msg_namelen = envelope.name_length as libc::socklen_t;
        // IoSliceMut and iovec have the same layout, as the standard library promises.
        header.msg_iov = (&raw mut *part).cast::<libc::iovec>();
        header.msg_iovlen = 1;
        if envelope.control_length > 0 {
            header.msg_control = (&raw mut envelope.control).cast();
            header.msg_controllen = envelope.control_length as _;
        }
    }
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the kernel gets the headers that were filled above. Each points to a name, one part and possibly a
    // control buffer, and states no larger sizes than these have; the part points to a buffer of the size that it
    // states. All of them are distinct, writable, and live until the end of this function. There is no timeout (null).
    let count = unsafe {
        libc::syscall(
            call,
            socket.as_raw_fd() as libc::c_long,
            headers.as_mut_ptr(),
            envelopes.len().min(BATCH) as libc::c_long,
            flags as libc::c_long,
            std::ptr::null_mut::<libc::timespec>(),
        )
    };
    let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
    // The types of the fields differ between C libraries.
    #[allow(clippy::unnecessary_cast)]
    for (envelope, header) in envelopes.iter_mut().zip(&headers).take(count) {
        envelope.name_length = header.msg_hdr.msg_namelen as usize;
        envelope.control_length = header.msg_hdr.msg_controllen as usize;
        envelope.length = header.msg_len as usize;
    }
    Ok(count)
}

/// Allocates a batch of buffers. Pages that were never written take no memory.
fn buffers<const SIZE: usize>() -> Box<[[u8; SIZE]]> {
    vec![[0; SIZE]; BATCH].into_boxed_slice()
}

#[cfg(test)]
mod tests;
