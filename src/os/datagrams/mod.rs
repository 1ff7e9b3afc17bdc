//! Many datagrams with one system call: recvmmsg in, sendmmsg out, each reply from the address that
//! was asked (IP_PKTINFO, docs/hazards.md 7). The UDP side of the device port lives on this.
//!
//! What would surprise you: both calls are made directly, not through the C library. musl sends a
//! batch one datagram at a time (it cannot trust the padding that others leave in the headers), which
//! would undo all of this on the routers; ours are zeroed, so the kernel reads them as they are.
//!
//! Replies that follow each other on the same way are handed over as one long datagram, which the kernel cuts
//! again (UDP_SEGMENT, Linux 4.18): it looks for the route once for all of them, and what arrives is the same. A kernel
//! without it is told apart before, one that refuses it for some interface gets the replies singly.
#![allow(unsafe_code)]

use std::io;
use std::mem::{MaybeUninit, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::AsRawFd;

use super::net::is_early;
use super::without::Feature;

/// Datagrams taken or sent with one system call.
pub const BATCH: usize = 64;

/// Datagrams that there is always room for.
const FEW: usize = 4;

/// The largest reply in bytes.
pub const REPLY: usize = 1024;

/// Replies that are handed to the kernel as one, at most: with their heads they must be less than 64 KiB.
const JOINED: usize = 32;

/// linux/udp.h: the kernel cuts what it is handed into datagrams of so many bytes, the last one of what is left
/// (Linux 4.18).
const UDP_SEGMENT: libc::c_int = 103;

const SOL_UDP: libc::c_int = libc::IPPROTO_UDP;

/// The most of an arrival that is kept, in bytes.
const ARRIVAL: usize = 1500;

/// Room for one batch of arrivals, of up to 1500 bytes each.
pub struct Inbox {
    /// BATCH buffers of ARRIVAL bytes. Of this memory only what is written to is taken from the
    /// machine, so an idle server pays for a page or two.
    bytes: Box<[u8]>,
    /// What is in it: length, and how to answer.
    taken: Vec<(usize, Way)>,
    /// For how many the next call makes room. To make it for a whole batch costs as much as a datagram does,
    /// and a module that asks for packet after packet sends one at a time.
    room: usize,
    /// The last call found so few that hardly any more can have come meanwhile.
    drained: bool,
}

/// One datagram.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// Its bytes (cut at 1500).
    pub bytes: &'a [u8],
    /// Where it came from, un-mapped.
    pub from: SocketAddr,
    /// How to answer it.
    pub way: &'a Way,
}

/// The way back: to whom, from which of our addresses, through which interface. Addresses are as
/// the socket writes them: mapped, on an IPv6 socket that takes IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    pub(super) peer: SocketAddr,
    pub(super) local: Option<IpAddr>,
    /// 0: whichever the routes say.
    pub(super) interface: u32,
}

impl Way {
    /// The address of ours that was asked, un-mapped; `None` if the kernel did not say, or if it is
    /// one that nothing can be sent from (broadcast, multicast).
    pub fn asked(&self) -> Option<IpAddr> {
        self.local.map(|address| address.to_canonical())
    }
}

/// A socket address of either family, as the kernel reads and writes it. `sockaddr_storage` would be
/// 128 bytes, of which a batch has 64.
#[repr(C)]
#[derive(Clone, Copy)]
union Name {
    family: libc::sa_family_t,
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

/// Room for the control messages of one datagram, aligned as the kernel wants it. One in6_pktinfo
/// takes 40 bytes, one in_pktinfo 32.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; 80]);

const EMPTY_CONTROL: Control = Control([0; 80]);

// Joined replies without their mark would leave as one: there is always room for both messages.
const _: () = {
    let address = size_of::<libc::in6_pktinfo>() as libc::c_uint;
    let mark = size_of::<u16>() as libc::c_uint;
    // SAFETY: both only compute with sizes.
    let both = unsafe { libc::CMSG_SPACE(address) + libc::CMSG_SPACE(mark) };
    assert!(both as usize <= size_of::<Control>());
};

impl Inbox {
    /// An empty one.
    pub fn new() -> Inbox {
        Inbox {
            bytes: room(ARRIVAL),
            taken: Vec::with_capacity(BATCH),
            room: BATCH,
            drained: false,
        }
    }

    /// Nothing was left when the last batch was taken, and it was so small that asking again at once would hardly
    /// find more: what comes after it is new.
    pub fn is_drained(&self) -> bool {
        self.drained
    }

    /// Takes what has arrived, at most [`BATCH`]; how many. `WouldBlock` if nothing has. The batch
    /// before it is forgotten.
    pub fn receive(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        self.taken.clear();
        let room = self.room;
        let mut names = [const { MaybeUninit::<Name>::uninit() }; BATCH];
        let mut parts = [const { MaybeUninit::<libc::iovec>::uninit() }; BATCH];
        let mut headers = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; BATCH];
        let mut controls = [const { MaybeUninit::<Control>::uninit() }; BATCH];
        for ((((header, part), name), control), bytes) in headers
            .iter_mut()
            .zip(&mut parts)
            .zip(&mut names)
            .zip(&mut controls)
            .zip(self.bytes.as_chunks_mut::<ARRIVAL>().0)
            .take(room)
        {
            let part = part.write(libc::iovec {
                iov_base: bytes.as_mut_ptr().cast(),
                iov_len: bytes.len(),
            });
            // SAFETY: all-zero bytes are values of these C structures: numbers that are 0 and pointers that
            // are null.
            let (header, name) = unsafe { (header.write(zeroed()), name.write(zeroed())) };
            let header = &mut header.msg_hdr;
            header.msg_name = (&raw mut *name).cast();
            header.msg_namelen = size_of::<Name>() as libc::socklen_t;
            header.msg_iov = part;
            header.msg_iovlen = 1;
            // Nothing is read but what the kernel writes.
            header.msg_control = control.as_mut_ptr().cast();
            header.msg_controllen = size_of::<Control>() as _;
        }
        let count = loop {
            // SAFETY: the kernel gets the `room` headers that were written above; each points to a name, one part and a control
            // buffer of the sizes it says, and the part to a buffer of the size it says. All of them
            // are different, writable, and live until the end of this function. No timeout (null).
            let count = unsafe {
                libc::syscall(
                    libc::SYS_recvmmsg,
                    socket.as_raw_fd() as libc::c_long,
                    headers.as_mut_ptr(),
                    room as libc::c_long,
                    libc::MSG_DONTWAIT as libc::c_long,
                    std::ptr::null_mut::<libc::timespec>(),
                )
            };
            match usize::try_from(count) {
                Ok(count) => break count,
                Err(_) => {
                    let error = io::Error::last_os_error();
                    if error.kind() != io::ErrorKind::Interrupted {
                        return Err(error);
                    }
                }
            }
        };
        // What is not full is a sign that fewer come; what is, that more do.
        self.drained = count < FEW.min(room);
        self.room = match count < room {
            true => count.saturating_mul(2).clamp(FEW, BATCH),
            false => room.saturating_mul(4).min(BATCH),
        };
        for (header, name) in headers.iter().zip(&names).take(count.min(room)) {
            // SAFETY: the first `room` of both were written above.
            let (header, name) = unsafe { (header.assume_init_ref(), name.assume_init_ref()) };
            let (local, interface) = asked_address(&header.msg_hdr);
            // A datagram from nowhere keeps its place, so that buffers and ways stay in step; it has
            // no bytes, and nobody is answered at port 0.
            let (length, peer) = match peer(name, header.msg_hdr.msg_namelen) {
                Some(peer) => (header.msg_len as usize, peer),
                None => (0, SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))),
            };
            let way = Way {
                peer,
                local,
                interface,
            };
            self.taken.push((length, way));
        }
        Ok(self.taken.len())
    }

    /// The datagrams of the last batch, in order.
    pub fn arrivals(&self) -> impl Iterator<Item = Arrival<'_>> {
        let buffers = self.bytes.as_chunks::<ARRIVAL>().0;
        buffers.iter().zip(&self.taken).map(|(bytes, taken)| {
            let (length, way) = taken;
            Arrival {
                bytes: bytes.get(..*length).unwrap_or(bytes),
                from: super::net::unmapped(way.peer),
                way,
            }
        })
    }
}

impl Default for Inbox {
    fn default() -> Inbox {
        Inbox::new()
    }
}

/// Room for a batch of buffers of `size` bytes. One flat vector, because only that is asked for
/// zeroed: pages that nobody has written to cost nothing.
fn room(size: usize) -> Box<[u8]> {
    vec![0; BATCH * size].into_boxed_slice()
}

/// The sender that the kernel wrote.
fn peer(name: &Name, length: libc::socklen_t) -> Option<SocketAddr> {
    let length = length as usize;
    // SAFETY: the family is the first field of both; the name was zeroed before the kernel wrote to
    // it, so all of it is initialised whatever was written.
    let family = i32::from(unsafe { name.family });
    if family == libc::AF_INET && length >= size_of::<libc::sockaddr_in>() {
        // SAFETY: initialised as above, and every field may have any value.
        let v4 = unsafe { name.v4 };
        let ip = Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes());
        Some(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
    } else if family == libc::AF_INET6 && length >= size_of::<libc::sockaddr_in6>() {
        // SAFETY: initialised as above, and every field may have any value.
        let v6 = unsafe { name.v6 };
        let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
        // The scope says on which link a link-local address is meant.
        Some(SocketAddrV6::new(ip, u16::from_be(v6.sin6_port), 0, v6.sin6_scope_id).into())
    } else {
        None
    }
}

/// To which of our addresses it was sent, and the interface that a reply must leave through.
fn asked_address(header: &libc::msghdr) -> (Option<IpAddr>, u32) {
    let mut asked = None;
    let mut arrived_at = 0;
    // SAFETY: the kernel has filled the control buffer and set msg_controllen to what it wrote, so
    // CMSG_FIRSTHDR and CMSG_NXTHDR give null or a message that lies wholly inside it.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(header) };
    // SAFETY: as above; the buffer is aligned for cmsghdr (Control), and it outlives the header.
    while let Some(message) = unsafe { next.as_ref() } {
        // SAFETY: CMSG_DATA is the address of the message's data, inside the same buffer.
        let data = unsafe { libc::CMSG_DATA(message) };
        match (message.cmsg_level, message.cmsg_type) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                // SAFETY: this type of message carries a whole in_pktinfo; it may lie unaligned.
                let info = unsafe { data.cast::<libc::in_pktinfo>().read_unaligned() };
                // Not ipi_addr, which is the broadcast address if it was sent to that.
                let ip = Ipv4Addr::from(info.ipi_spec_dst.s_addr.to_ne_bytes());
                asked = Some(IpAddr::V4(ip));
                arrived_at = u32::try_from(info.ipi_ifindex).unwrap_or(0);
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                // SAFETY: this type of message carries a whole in6_pktinfo; it may lie unaligned.
                let info = unsafe { data.cast::<libc::in6_pktinfo>().read_unaligned() };
                asked = Some(IpAddr::V6(Ipv6Addr::from(info.ipi6_addr.s6_addr)));
                arrived_at = info.ipi6_ifindex as u32;
            }
            _ => {}
        }
        // SAFETY: as for CMSG_FIRSTHDR.
        next = unsafe { libc::CMSG_NXTHDR(header, message) };
    }
    let local = asked.filter(|address| can_send_from(*address));
    // Routes know better than we do through which interface a reply goes (a router may well be
    // asked on one and answer on another); only a link-local address means nothing without one.
    let on_link = matches!(local, Some(IpAddr::V6(v6)) if v6.is_unicast_link_local());
    (local, if on_link { arrived_at } else { 0 })
}

fn can_send_from(address: IpAddr) -> bool {
    let bad = match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_unspecified() || v4.is_multicast() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unspecified() || v6.is_multicast(),
    };
    !bad
}

/// Replies on their way out, at most [`BATCH`].
pub struct Outbox {
    /// BATCH buffers of REPLY bytes.
    bytes: Box<[u8]>,
    /// Length and way of each that was put in.
    put: Vec<(usize, Way)>,
    /// So many of them are sent already.
    sent: usize,
    /// The kernel takes joined replies; asked when there first are some.
    joins: Option<bool>,
}

impl Outbox {
    /// An empty one.
    pub fn new() -> Outbox {
        Outbox {
            bytes: room(REPLY),
            put: Vec::with_capacity(BATCH),
            sent: 0,
            joins: None,
        }
    }

    /// Adds a reply: `fill` writes it into the buffer and says how long it is (0: none after all).
    /// False, and `fill` not called, if the box is full. (A box that could not be sent as a whole
    /// counts as full until the rest is sent.)
    pub fn push(&mut self, way: &Way, fill: impl FnOnce(&mut [u8; REPLY]) -> usize) -> bool {
        let buffers = self.bytes.as_chunks_mut::<REPLY>().0;
        let Some(buffer) = buffers.get_mut(self.put.len()) else {
            return false;
        };
        let length = fill(buffer).min(REPLY);
        if length > 0 {
            self.put.push((length, *way));
        }
        true
    }

    /// Sends what is in the box and empties it. A reply that the network refuses is dropped (the
    /// client asks again); `WouldBlock` leaves the rest in the box.
    pub fn send(&mut self, socket: &UdpSocket) -> io::Result<()> {
        let mut joined = self.put.len() > 1 && *self.joins.get_or_insert_with(|| can_join(socket));
        send_all(self.put.len(), &mut self.sent, |from| {
            let sent = send_from(&self.bytes, &self.put, from, joined, socket);
            match sent {
                // Perhaps only because they came joined: not every interface can do it, and on none may its
                // packets be smaller than ours.
                Err(error) if joined && !is_early(&error) => {
                    joined = false;
                    send_from(&self.bytes, &self.put, from, joined, socket)
                }
                sent => sent,
            }
        })?;
        self.put.clear();
        self.sent = 0;
        Ok(())
    }

    /// Nothing in it.
    pub fn is_empty(&self) -> bool {
        self.put.is_empty()
    }
}

impl Default for Outbox {
    fn default() -> Outbox {
        Outbox::new()
    }
}

/// Sends the replies from this one on with one call; how many went out. `joined`: those that follow each other
/// on the same way are handed over as one.
fn send_from(
    bytes: &[u8],
    put: &[(usize, Way)],
    from: usize,
    joined: bool,
    socket: &UdpSocket,
) -> io::Result<usize> {
    let mut names = [const { MaybeUninit::<Name>::uninit() }; BATCH];
    let mut parts = [const { MaybeUninit::<libc::iovec>::uninit() }; BATCH];
    let mut headers = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; BATCH];
    let mut controls = [const { MaybeUninit::<Control>::uninit() }; BATCH];
    // How far into `put` each message reaches.
    let mut ends = [0_usize; BATCH];
    let mut messages = 0_usize;
    let mut next = from;
    for ((((header, part), name), control), end) in headers
        .iter_mut()
        .zip(&mut parts)
        .zip(&mut names)
        .zip(&mut controls)
        .zip(&mut ends)
    {
        let Some(((first, way), rest)) = put.get(next..).and_then(<[_]>::split_first) else {
            break;
        };
        let more = if joined {
            joining(*first, way, rest)
        } else {
            0
        };
        // All but the last fill their buffers, which lie one behind the other.
        let last = next.saturating_add(more);
        let length = put.get(last).map_or(0, |(length, _)| *length);
        let length = length.saturating_add(more.saturating_mul(REPLY));
        let bytes = bytes.get(next.saturating_mul(REPLY)..).unwrap_or_default();
        let bytes = bytes.get(..length).unwrap_or_default();
        let part = part.write(libc::iovec {
            iov_base: bytes.as_ptr().cast_mut().cast(),
            iov_len: bytes.len(),
        });
        // SAFETY: all-zero bytes are values of these C structures: numbers that are 0 and pointers that
        // are null.
        let (header, name) = unsafe { (header.write(zeroed()), name.write(zeroed())) };
        let header = &mut header.msg_hdr;
        header.msg_namelen = set_peer(name, way.peer);
        header.msg_name = (&raw mut *name).cast();
        header.msg_iov = part;
        header.msg_iovlen = 1;
        let control = control.write(EMPTY_CONTROL);
        let mut used = set_local(control, way);
        if more > 0 {
            used = set_message(control, used, SOL_UDP, UDP_SEGMENT, REPLY as u16);
        }
        if used > 0 {
            header.msg_control = (&raw mut *control).cast();
            header.msg_controllen = used as _;
        }
        next = last.saturating_add(1);
        *end = next;
        messages = messages.saturating_add(1);
    }
    // SAFETY: the kernel gets the `messages` headers that were filled above; each points to a name, one part and
    // perhaps a control buffer of the sizes it says, and the part to as many bytes as it says, which are only
    // read. All of them live until the end of this function.
    let count = unsafe {
        libc::syscall(
            libc::SYS_sendmmsg,
            socket.as_raw_fd() as libc::c_long,
            headers.as_mut_ptr(),
            messages as libc::c_long,
            (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as libc::c_long,
        )
    };
    let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
    let end = count.checked_sub(1).and_then(|last| ends.get(last));
    Ok(end.map_or(0, |end| end.saturating_sub(from)))
}

/// How many of those behind a reply can leave with it: they go the same way, and none but the last is short.
fn joining(first: usize, way: &Way, rest: &[(usize, Way)]) -> usize {
    let mut before = first;
    let fits = |(length, its): &&(usize, Way)| {
        let fits = before == REPLY && its == way;
        before = *length;
        fits
    };
    rest.iter().take(JOINED - 1).take_while(fits).count()
}

/// Does the kernel know of joined replies? One that does not would overlook that they are, and send one long
/// datagram.
fn can_join(socket: &UdpSocket) -> bool {
    if Feature::Joining.available().is_err() {
        return false;
    }
    let mut size: libc::c_int = 0;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the kernel writes no more than `length` bytes, which is what `size` has, and how many they were.
    let asked = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            SOL_UDP,
            UDP_SEGMENT,
            (&raw mut size).cast(),
            &raw mut length,
        )
    };
    asked == 0
}

/// Calls `send_from(sent)` until `sent` is `total`: it sends from that one on and says how many went
/// out, or why the first of them did not.
fn send_all(
    total: usize,
    sent: &mut usize,
    mut send_from: impl FnMut(usize) -> io::Result<usize>,
) -> io::Result<()> {
    while *sent < total {
        let gone = match send_from(*sent) {
            Ok(count) => count.max(1),
            Err(error) => match error.kind() {
                io::ErrorKind::Interrupted => 0,
                io::ErrorKind::WouldBlock => return Err(error),
                // It belongs to the first of the rest (no route, a firewall, an address of ours that
                // has gone): the others still go out.
                _ => 1,
            },
        };
        *sent = sent.saturating_add(gone);
    }
    Ok(())
}

/// Writes the address; its length.
fn set_peer(name: &mut Name, peer: SocketAddr) -> libc::socklen_t {
    match peer {
        SocketAddr::V4(peer) => {
            name.v4 = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: peer.port().to_be(),
                sin_addr: libc::in_addr {
                    s_addr: u32::from_ne_bytes(peer.ip().octets()),
                },
                sin_zero: [0; 8],
            };
            size_of::<libc::sockaddr_in>() as libc::socklen_t
        }
        SocketAddr::V6(peer) => {
            name.v6 = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: peer.port().to_be(),
                sin6_flowinfo: 0,
                sin6_addr: libc::in6_addr {
                    s6_addr: peer.ip().octets(),
                },
                sin6_scope_id: peer.scope_id(),
            };
            size_of::<libc::sockaddr_in6>() as libc::socklen_t
        }
    }
}

/// Writes the control message that says from which address to send; its length with padding, 0 for
/// none.
fn set_local(control: &mut Control, way: &Way) -> usize {
    match way.local {
        None => 0,
        Some(IpAddr::V4(local)) => {
            let info = libc::in_pktinfo {
                ipi_ifindex: libc::c_int::try_from(way.interface).unwrap_or(0),
                ipi_spec_dst: libc::in_addr {
                    s_addr: u32::from_ne_bytes(local.octets()),
                },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            set_message(control, 0, libc::IPPROTO_IP, libc::IP_PKTINFO, info)
        }
        Some(IpAddr::V6(local)) => {
            let info = libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr {
                    s6_addr: local.octets(),
                },
                ipi6_ifindex: way.interface as _,
            };
            set_message(control, 0, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info)
        }
    }
}

/// Writes one control message (cmsg(3)) with this structure as its data, behind those that take `used` bytes;
/// how many all of them take.
fn set_message<T: Copy>(
    control: &mut Control,
    used: usize,
    level: i32,
    kind: i32,
    data: T,
) -> usize {
    const { assert!(size_of::<T>() <= size_of::<libc::in6_pktinfo>()) };
    // SAFETY: both only compute with sizes.
    let (length, space) = unsafe {
        let size = size_of::<T>() as libc::c_uint;
        (libc::CMSG_LEN(size), libc::CMSG_SPACE(size) as usize)
    };
    let Some(place) = control
        .0
        .get_mut(used..)
        .filter(|place| place.len() >= space)
    else {
        return used;
    };
    let mut message = MaybeUninit::<libc::cmsghdr>::zeroed();
    // SAFETY: all-zero bytes are a cmsghdr, which is nothing but numbers.
    let header = unsafe { message.assume_init_mut() };
    header.cmsg_len = length as _;
    header.cmsg_level = level;
    header.cmsg_type = kind;
    let place = place.as_mut_ptr().cast::<libc::cmsghdr>();
    // SAFETY: the buffer is aligned for cmsghdr, and so is what is behind messages with their padding; it has
    // `space` bytes: the header, padding and data. CMSG_DATA is where the data begin; they may lie unaligned.
    unsafe {
        place.write(*header);
        libc::CMSG_DATA(place).cast::<T>().write_unaligned(data);
    }
    used.saturating_add(space)
}

#[cfg(test)]
mod tests;
