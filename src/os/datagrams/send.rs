//! Sending half: a batch of replies with one sendmmsg.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, UdpSocket};

use super::{BATCH, Control, Envelope, MAX_REPLY, ReplyPath, buffers, transfer};

/// Replies to send, at most [`BATCH`].
pub struct Outbox {
    buffers: Box<[[u8; MAX_REPLY]]>,
    /// One envelope for each reply.
    envelopes: Vec<Envelope>,
    /// Number of replies that are already sent.
    sent: usize,
}

impl Outbox {
    /// Creates an empty outbox.
    pub fn new() -> Outbox {
        Outbox {
            buffers: buffers(),
            envelopes: Vec::with_capacity(BATCH),
            sent: 0,
        }
    }

    /// Adds a reply: `write` writes it into the buffer and returns its length in bytes (0 if there is no reply after
    /// all). Returns false, without calling `write`, if the outbox is full. An outbox that was sent only in part counts
    /// as full until the rest is sent.
    pub fn push(
        &mut self,
        path: ReplyPath,
        write: impl FnOnce(&mut [u8; MAX_REPLY]) -> usize,
    ) -> bool {
        let Some(buffer) = self.buffers.get_mut(self.envelopes.len()) else {
            return false;
        };
        let mut envelope = Envelope::EMPTY;
        envelope.length = write(buffer).min(MAX_REPLY);
        if envelope.length > 0 {
            envelope.name_length = envelope.name.set(path.peer);
            envelope.control_length = set_local(&mut envelope.control, path);
            self.envelopes.push(envelope);
        }
        true
    }

    /// Sends all replies in the outbox and empties it. A reply that the network refuses is dropped (the client asks
    /// again). If it fails with `WouldBlock`, the rest stays in the outbox.
    pub fn send(&mut self, socket: &UdpSocket) -> io::Result<()> {
        send_all(self.envelopes.len(), &mut self.sent, |from| {
            let mut pending = self.buffers.iter_mut().zip(&self.envelopes).skip(from);
            let mut parts = std::array::from_fn(|_| {
                let part = pending.next();
                let bytes = part.and_then(|(buffer, envelope)| buffer.get_mut(..envelope.length));
                IoSliceMut::new(bytes.unwrap_or_default())
            });
            let envelopes = self.envelopes.get_mut(from..).unwrap_or_default();
            transfer(libc::SYS_sendmmsg, socket, envelopes, &mut parts)
        })?;
        self.envelopes.clear();
        self.sent = 0;
        Ok(())
    }

    /// Whether the outbox contains no replies.
    pub fn is_empty(&self) -> bool {
        self.envelopes.is_empty()
    }
}

impl Default for Outbox {
    fn default() -> Outbox {
        Outbox::new()
    }
}

/// Calls `send_from(sent)` until `sent` is `total`. `send_from` sends the replies from this index on and returns the
/// number of those sent, or the error of the first one.
pub(super) fn send_all(
    total: usize,
    sent: &mut usize,
    mut send_from: impl FnMut(usize) -> io::Result<usize>,
) -> io::Result<()> {
    while *sent < total {
        *sent += match send_from(*sent) {
            Ok(count) => count.max(1),
            Err(error) => match error.kind() {
                io::ErrorKind::Interrupted => 0,
                io::ErrorKind::WouldBlock => return Err(error),
                // The error belongs to the first of the remaining replies (no route, a firewall, a local address that
                // no longer exists). The others are still sent.
                _ => 1,
            },
        };
    }
    Ok(())
}

/// Writes the control message with the source address; returns its length with padding, or 0 if none is needed.
fn set_local(control: &mut Control, path: ReplyPath) -> usize {
    let interface = path.interface.to_ne_bytes();
    match path.local {
        None => 0,
        // in_pktinfo
        Some(IpAddr::V4(local)) => {
            let data: [&[u8]; 3] = [&interface, &local.octets(), &[0; 4]];
            control.set(libc::IPPROTO_IP, libc::IP_PKTINFO, data)
        }
        // in6_pktinfo
        Some(IpAddr::V6(local)) => {
            let data: [&[u8]; 3] = [&local.octets(), &interface, &[]];
            control.set(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, data)
        }
    }
}
