//! The requester of a check: the device, the facts that it states, and the network that it asks from. Created once for
//! each check. All state of the fleet is keyed by parts of the requester.

use std::hash::Hasher;
use std::net::IpAddr;

use siphasher::sip::SipHasher24;

use super::network::{CoarseNetwork, Network};
use super::short_version::ShortVersion;
use crate::decision::Check;
use crate::firmware::audience::DeviceId;
use crate::firmware::version::FirstField;

/// Hash of the id of a device and the facts that it states. Two modules under one id are distinguished if any of these
/// facts differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct IdentityHash(pub(super) u64);

impl IdentityHash {
    /// Hashes an id and the facts that a check states besides the id (`stated`), in any fixed order.
    pub fn of(device: DeviceId, stated: &[&str]) -> IdentityHash {
        let hasher = StableHasher::new(&[]).device(device).texts(stated);
        IdentityHash(hasher.finish())
    }

    /// The hash, to be signed.
    pub fn number(self) -> u64 {
        self.0
    }
}

/// Hasher with the same result on every machine, because the hashes are written to the journal.
#[derive(Clone)]
struct StableHasher(SipHasher24);

impl StableHasher {
    /// Creates a hasher whose first input is the purpose of the hash.
    fn new(purpose: &[u8]) -> StableHasher {
        StableHasher(SipHasher24::new()).bytes(purpose)
    }

    fn bytes(mut self, bytes: &[u8]) -> StableHasher {
        self.0.write(bytes);
        self
    }

    fn device(self, device: DeviceId) -> StableHasher {
        let (kind, number) = device.parts();
        self.bytes(&[kind]).bytes(&number.to_le_bytes())
    }

    fn texts(self, texts: &[&str]) -> StableHasher {
        texts.iter().fold(self, |hasher, text| {
            let length = text.len() as u64;
            hasher.bytes(&length.to_le_bytes()).bytes(text.as_bytes())
        })
    }

    fn finish(&self) -> u64 {
        self.0.finish()
    }
}

/// Key of pins: a hash of an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PinKey(pub(super) u64);

/// Owner of pins: the identity under which a download is begun and resumed.
///
/// A device with an id owns its pins by that id alone: devices that share an id may state the same facts, and the facts
/// of one device may change between the beginning of a download and its resume. A request without an id is identified
/// by the exact client address and the facts that it states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PinOwner {
    key: PinKey,
    /// Hash of the id, project, `firmware_name`, version and core version; 0 without an id. Before 0.1.0 this was the key of the
    /// device's pins.
    statement: u64,
}

impl PinOwner {
    /// Owner of the pins of a check. `address`: client address after trusted proxies.
    pub fn of_check(check: &Check<'_>, who: Option<&Requester>, address: IpAddr) -> PinOwner {
        if let Some(who) = who {
            return PinOwner::of_device(who.device, who.identity);
        }
        let mut digits = itoa::Buffer::new();
        let core = digits.format(check.core_version.unwrap_or_default());
        let name = check.firmware_name.as_deref().unwrap_or_default();
        let stated = [check.project(), name, &check.version, core];
        PinOwner::anonymous(b"ask", address, &stated)
    }

    /// Owner of the pins of a device. `identity`: hash of the id and all facts that the device states.
    pub(super) fn of_device(device: DeviceId, identity: IdentityHash) -> PinOwner {
        PinOwner {
            key: PinKey(StableHasher::new(b"pin").device(device).finish()),
            statement: identity.0,
        }
    }

    /// Owner of the pins of a file at a fixed path that was requested from this address.
    pub fn of_file(path: &str, address: IpAddr) -> PinOwner {
        PinOwner::anonymous(b"get", address, &[path])
    }

    fn anonymous(kind: &[u8; 3], address: IpAddr, stated: &[&str]) -> PinOwner {
        // An IPv4 client has the same key if it connects to an IPv6 socket.
        let address = match address.to_canonical() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        };
        let hasher = StableHasher::new(kind).bytes(&address).texts(stated);
        PinOwner {
            key: PinKey(hasher.finish()),
            statement: 0,
        }
    }

    /// Whether the request has no device id.
    pub fn is_anonymous(&self) -> bool {
        self.statement == 0
    }

    /// Hash of the id, project, `firmware_name`, version and core version; 0 without an id.
    pub(super) fn statement(&self) -> u64 {
        self.statement
    }

    /// Key of new pins.
    pub(super) fn key(&self) -> PinKey {
        self.key
    }

    /// Keys under which the owner may have pins.
    pub(super) fn keys(&self) -> impl Iterator<Item = PinKey> {
        [self.key, PinKey(self.statement)].into_iter()
    }
}

/// The requester of a check with an id. Checks without an id are never remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requester {
    /// Id that the device claims.
    pub device: DeviceId,
    /// Hash of the id, project, `firmware_name`, version and core version. A file URL of libfota3 states no more.
    pub identity: IdentityHash,
    /// Hash as in `identity`, but without version and core version. Together with `coarse_network`, it is the key of
    /// the device's evidence in the loop guard.
    pub identity_without_version: IdentityHash,
    /// Network that the check comes from.
    pub network: Network,
    /// Version that the device reports.
    pub version: ShortVersion,
    /// Possible meaning of the first field of the version.
    pub first_field: FirstField,
    /// Source port of a check over the packet protocol; 0 over HTTP.
    pub session: u16,
    /// Coarse network, used by the loop guard because carriers move a module between /24s.
    pub coarse_network: CoarseNetwork,
}

impl Requester {
    /// Returns the requester of a check from this address; `None` without an id. Allocates nothing.
    pub fn of(check: &Check<'_>, address: IpAddr) -> Option<Requester> {
        let device = check.device?;
        let mut digits = itoa::Buffer::new();
        let core = digits.format(check.core_version.unwrap_or_default());
        let name = check.firmware_name.as_deref().unwrap_or_default();
        let hasher = StableHasher::new(&[])
            .device(device)
            .texts(&[check.project(), name]);
        Some(Requester {
            device,
            identity_without_version: IdentityHash(hasher.finish()),
            identity: IdentityHash(hasher.texts(&[&check.version, core]).finish()),
            version: ShortVersion::of(&check.version),
            first_field: check.first_field(),
            session: 0,
            network: Network::of(address),
            coarse_network: CoarseNetwork::of(address),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_that_state_different_facts_have_different_identities() {
        let imei = DeviceId::Imei(862_991_443_753_386);
        let stated = [
            ["P", "1.0.0"],
            ["P", "1.0.1"],
            ["Q", "1.0.0"],
            ["P1", ".0.0"],
        ];
        for (at, one) in stated.iter().enumerate() {
            for (other_at, other) in stated.iter().enumerate() {
                let same = IdentityHash::of(imei, one) == IdentityHash::of(imei, other);
                assert_eq!(same, at == other_at);
            }
        }
    }

    #[test]
    fn the_hash_of_an_identity_is_the_same_on_every_machine() {
        let imei = DeviceId::Imei(862_991_443_753_386);
        let key = IdentityHash::of(imei, &["P", "P_Luat_V0017_ASR1802", "1.0.0"]);
        assert_eq!(key, IdentityHash(11_846_807_408_319_002_151));
    }
}
