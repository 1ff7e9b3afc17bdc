//! Receiving half: a batch of datagrams with one recvmmsg.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use super::{BATCH, Control, Envelope, ReplyPath, buffers, transfer};
use crate::os::net::unmapped;

/// Maximum number of bytes that are kept of a datagram.
pub(super) const MAX_ARRIVAL: usize = 1500;

/// Size of a batch below which hardly any further datagram has arrived meanwhile.
const DRAINED_BELOW: usize = 4;

/// One batch of received datagrams.
pub struct Inbox {
    buffers: Box<[[u8; MAX_ARRIVAL]]>,
    envelopes: Box<[Envelope]>,
    /// Number of datagrams in the last batch.
    count: usize,
}

/// One received datagram.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// Content of the datagram, cut at 1500 bytes.
    pub bytes: &'a [u8],
    /// Source address, un-mapped.
    pub from: SocketAddr,
    /// Path of a reply to the datagram.
    pub path: ReplyPath,
}

impl Inbox {
    /// Creates an empty inbox.
    pub fn new() -> Inbox {
        Inbox {
            buffers: buffers(),
            envelopes: vec![Envelope::EMPTY; BATCH].into_boxed_slice(),
            count: 0,
        }
    }

    /// Whether the last batch was so small that waiting costs less than receiving again at once.
    pub fn is_drained(&self) -> bool {
        self.count < DRAINED_BELOW
    }

    /// Receives the datagrams that have arrived, at most [`BATCH`], and returns their number. Fails with `WouldBlock`
    /// if there are none. The previous batch is discarded.
    pub fn receive(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        self.count = 0;
        self.envelopes.fill(Envelope::TO_FILL);
        let mut buffers = self.buffers.iter_mut();
        let mut parts = std::array::from_fn(|_| {
            IoSliceMut::new(buffers.next().map_or(&mut [], |buffer| buffer))
        });
        self.count = transfer(libc::SYS_recvmmsg, socket, &mut self.envelopes, &mut parts)?;
        Ok(self.count)
    }

    /// Returns the datagrams of the last batch, in order, without those that have no source address.
    pub fn arrivals(&self) -> impl Iterator<Item = Arrival<'_>> {
        let arrived = self.buffers.iter().zip(&self.envelopes).take(self.count);
        arrived.filter_map(|(buffer, envelope)| {
            let peer = envelope.name.address(envelope.name_length)?;
            let (local, interface) = asked_address(&envelope.control, envelope.control_length);
            Some(Arrival {
                bytes: buffer.get(..envelope.length).unwrap_or(buffer),
                from: unmapped(peer),
                path: ReplyPath {
                    peer,
                    local,
                    interface,
                },
            })
        })
    }
}

impl Default for Inbox {
    fn default() -> Inbox {
        Inbox::new()
    }
}

/// Returns the address of ours to which a datagram was sent (`None` if the kernel did not report one, or if nothing can
/// be sent from it), and the interface that a reply must leave through (0 if the routes decide).
fn asked_address(control: &Control, length: usize) -> (Option<IpAddr>, u32) {
    let mut asked = None;
    let mut arrived_at = 0;
    for message in control.messages(length) {
        match message {
            // in_pktinfo: the interface, then ipi_spec_dst. ipi_addr is not used: it is the broadcast address if the
            // datagram was sent to that.
            (libc::IPPROTO_IP, libc::IP_PKTINFO, [i, j, k, l, a, b, c, d, ..]) => {
                asked = Some(IpAddr::V4(Ipv4Addr::new(*a, *b, *c, *d)));
                arrived_at = u32::from_ne_bytes([*i, *j, *k, *l]);
            }
            // in6_pktinfo: the address, then the interface.
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, data) => {
                if let Some((ip, rest)) = data.split_first_chunk::<16>() {
                    asked = Some(IpAddr::V6(Ipv6Addr::from(*ip)));
                    arrived_at = rest.first_chunk().map_or(0, |i| u32::from_ne_bytes(*i));
                }
            }
            _ => {}
        }
    }
    let local = asked.filter(|address| can_send_from(*address));
    // The routes determine the interface of a reply (a router may be asked on one interface and answer on another).
    // Only a link-local address has no meaning without an interface.
    let on_link = matches!(local, Some(IpAddr::V6(v6)) if v6.is_unicast_link_local());
    (local, if on_link { arrived_at } else { 0 })
}

/// Whether datagrams can be sent from an address: it is neither unspecified nor broadcast nor multicast.
pub(super) fn can_send_from(address: IpAddr) -> bool {
    let address = address.to_canonical();
    let is_broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    !(address.is_unspecified() || address.is_multicast() || is_broadcast)
}
