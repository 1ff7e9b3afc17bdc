//! Answers to the messages of the UDP protocol (docs/protocol.md 6), the same over UDP and TCP. Touches no socket.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use super::Service;
use super::check_log::{CheckResult, LogSubject};
use super::plan::IncomingCheck;
use super::upgrade_id::UpgradeIds;
use crate::decision::{Check, Refusal, Verdict};
use crate::firmware::ContentId;
use crate::firmware::snapshot::Snapshot;
use crate::fleet::clock::unix_now;
use crate::fleet::network::Network;
use crate::wire::dialects::datagram::{self, Get, LARGEST, PACKET};

/// The answer to a Get that can never become valid: the module gives up at once.
pub(super) const ERR: &str = "ERR";

/// The answer to a text that is no message of the protocol.
pub(super) const UNKNOWN: &str = "unknown function";

/// The answer to a check.
pub(super) enum CheckReply {
    /// An offer of a file.
    Offer(PacketOffer),
    /// A refusal, as the text to send.
    No(&'static str),
}

/// A file that is offered in packets.
pub(super) struct PacketOffer {
    pub content: ContentId,
    /// The upgrade id.
    pub id: u32,
    /// Number of packets.
    pub count: u16,
    /// Data bytes of the last packet.
    pub last: u16,
    pub subject: LogSubject<'static>,
}

/// Decides on a check, and records the answer. `proto` is `udp` or `tcp`.
pub(super) fn reply_to_check(
    service: &Service,
    mut check: Check<'_>,
    peer: SocketAddr,
    proto: &'static str,
) -> CheckReply {
    check.largest = Some(LARGEST);
    let catalog = service.catalog();
    check.complete(&catalog);
    let incoming = IncomingCheck::new(proto, peer, &check, Instant::now());
    let verdict = incoming.decide(service, &catalog, true);
    let offer = match verdict {
        Verdict::Refuse(refused) => {
            incoming.record_refused(service, &refused);
            return CheckReply::No(refused.refusal.wording().packet);
        }
        Verdict::Offer(offer) => offer,
    };
    let to = &*offer.release.version_text;
    incoming.record(service, CheckResult::OFFER, to, &offer.package.path);
    let Some((count, last)) = datagram::packets(offer.package.size) else {
        return CheckReply::No(Refusal::NoPackage.wording().packet);
    };
    let content = offer.package.content;
    CheckReply::Offer(PacketOffer {
        content,
        id: service
            .ids
            .make(content, Network::of(peer.ip()), unix_now()),
        count,
        last,
        subject: incoming.subject(to).into_owned(),
    })
}

/// Returns the packet that a Get asks for, and the content's snapshot if it is loaded. `None` if the id was not given
/// to this network, or if no packet has this number. `unix` is the time in Unix seconds.
pub(super) fn find_packet(
    service: &Service,
    get: Get,
    network: Network,
    unix: i64,
) -> Option<(PacketRequest, Option<Arc<Snapshot>>)> {
    let (number, id) = (get.number?, get.id?);
    let known = service.ids.known(id, network, unix);
    let content = known.or_else(|| find(service, id, network, unix))?;
    let loaded = service.snapshots.get(content);
    let size = match &loaded {
        Some(snapshot) => snapshot.size(),
        None => service.catalog.borrow().sources(content).first()?.size,
    };
    let (count, _) = datagram::packets(size)?;
    let wanted = PacketRequest {
        content,
        size,
        id,
        number,
        count,
    };
    (number >= 1 && number <= count).then_some((wanted, loaded))
}

fn find(service: &Service, id: u32, network: Network, unix: i64) -> Option<ContentId> {
    let short = UpgradeIds::short(id);
    let catalog = service.catalog.borrow();
    // A content that is gone from the folder may still be loaded, and a module may be downloading it.
    service.snapshots.with_short(short, |loaded| {
        let candidates = catalog.with_short(short).chain(loaded);
        service.ids.find(id, network, unix, candidates)
    })
}

/// A request for a packet that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PacketRequest {
    pub content: ContentId,
    /// Size of the whole file in bytes.
    pub size: u64,
    pub id: u32,
    /// Number of the packet, 1..=count.
    pub number: u16,
    pub count: u16,
}

/// Writes a packet: its number as two bytes, most significant first, and its data. Returns the number of bytes written;
/// `None` if the snapshot cannot supply them.
pub(super) fn write_packet(snapshot: &Snapshot, number: u16, buffer: &mut [u8]) -> Option<usize> {
    let packet = u64::try_from(PACKET).ok()?;
    let offset = u64::from(number.checked_sub(1)?).checked_mul(packet)?;
    let left = snapshot.size().checked_sub(offset)?.min(packet);
    let left = usize::try_from(left).ok().filter(|left| *left > 0)?;
    let (head, data) = buffer.split_at_mut_checked(2)?;
    head.copy_from_slice(&number.to_be_bytes());
    let data = data.get_mut(..left)?;
    let read = snapshot.read_at(data, offset).ok()?;
    (read == left).then_some(left + 2)
}

/// Writes a text and returns its length; 0 if the buffer is too small.
pub(super) fn write_text(text: &str, buffer: &mut [u8]) -> usize {
    match buffer.get_mut(..text.len()) {
        Some(place) => {
            place.copy_from_slice(text.as_bytes());
            text.len()
        }
        None => 0,
    }
}
