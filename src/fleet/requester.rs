//! Who asks: the device, what it says that it runs, and where it asks from. Made once for each check by
//! the device room; everything that the fleet remembers is keyed by parts of it.

use std::hash::Hasher;
use std::net::IpAddr;

use siphasher::sip::SipHasher24;

use super::network::{CoarseNetwork, Network};
use super::short_version::ShortVersion;
use crate::decimal::{self, decimal};
use crate::decision::Check;
use crate::firmware::audience::DeviceId;
use crate::firmware::version::FirstField;

/// Who downloads: the id of a device, and what it says that it runs. Two modules under one id are told
/// apart if they differ in any of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct IdentityHash(pub(super) u64);

impl IdentityHash {
    /// `said`: what a check says of the module besides its id, in any fixed order.
    pub fn of(device: DeviceId, said: &[&str]) -> IdentityHash {
        Saying::by(device).and(said).done()
    }

    /// The same as a number, for who signs it.
    pub fn number(self) -> u64 {
        self.0
    }
}

/// What makes a [`IdentityHash`]. Byte by byte, not by what `Hash` makes of it: it stands in the journal, which
/// may be read on another machine.
#[derive(Clone)]
struct Saying(SipHasher24);

impl Saying {
    /// Begins with what the hash is for.
    fn new(purpose: &[u8]) -> Saying {
        let mut hasher = SipHasher24::new();
        hasher.write(purpose);
        Saying(hasher)
    }

    fn by(device: DeviceId) -> Saying {
        Saying::new(&[]).device(device)
    }

    fn device(mut self, device: DeviceId) -> Saying {
        let (kind, number) = device.parts();
        self.0.write(&[kind]);
        self.0.write(&number.to_le_bytes());
        self
    }

    fn and(mut self, said: &[&str]) -> Saying {
        for text in said {
            let length = u64::try_from(text.len()).unwrap_or(u64::MAX);
            self.0.write(&length.to_le_bytes());
            self.0.write(text.as_bytes());
        }
        self
    }

    fn done(&self) -> IdentityHash {
        IdentityHash(self.0.finish())
    }
}

/// Key of pins: a hash of an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PinKey(pub(super) u64);

/// Owner of pins: the identity under which a download is begun and resumed.
///
/// A device with an id owns its pins by that id alone: devices that share it may say the same, and what one says may
/// change between the beginning of a download and its resume. A request without an id is identified by the exact
/// client address and by what it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PinOwner {
    key: PinKey,
    /// Hash of the id and all that the device says; 0 without an id. Up to 0.1.0 the key of its pins.
    said: u64,
}

impl PinOwner {
    /// Owner of the pins of a check from this address (behind trusted proxies).
    pub fn of_check(check: &Check<'_>, who: Option<&Requester>, address: IpAddr) -> PinOwner {
        if let Some(who) = who {
            return PinOwner::of_device(who.device, who.identity);
        }
        let mut room = [0; decimal::ROOM];
        let core = decimal(check.core_version.unwrap_or_default().into(), &mut room);
        let name = check.firmware_name.as_deref().unwrap_or_default();
        let said = [check.project(), name, &check.version, core];
        PinOwner::anonymous(b"ask", address, &said)
    }

    /// Owner of the pins of a device; `downloader`: hash of all that it says.
    pub(super) fn of_device(device: DeviceId, identity: IdentityHash) -> PinOwner {
        PinOwner {
            key: PinKey(Saying::new(b"pin").device(device).done().0),
            said: identity.0,
        }
    }

    /// Owner of the pins of a file at a fixed path, asked for from this address.
    pub fn of_file(path: &str, address: IpAddr) -> PinOwner {
        PinOwner::anonymous(b"get", address, &[path])
    }

    fn anonymous(kind: &[u8; 3], address: IpAddr, said: &[&str]) -> PinOwner {
        // An IPv4 address is the same when it arrives at an IPv6 socket.
        let address = match address.to_canonical() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        };
        let mut saying = Saying::new(kind);
        saying.0.write(&address);
        PinOwner {
            key: PinKey(saying.and(said).done().0),
            said: 0,
        }
    }

    /// Whether there is no id.
    pub fn is_anonymous(&self) -> bool {
        self.said == 0
    }

    /// Hash of all that the device says.
    pub(super) fn said(&self) -> u64 {
        self.said
    }

    /// Key of new pins.
    pub(super) fn key(&self) -> PinKey {
        self.key
    }

    /// Keys under which there may be pins.
    pub(super) fn keys(&self) -> impl Iterator<Item = PinKey> {
        [self.key, PinKey(self.said)].into_iter()
    }
}

/// One asker. Only checks with an id have one; whoever has none is never remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requester {
    /// The id that it claims.
    pub device: DeviceId,
    /// The id and all that it says of itself, its version included: the key of its pins.
    pub identity: IdentityHash,
    /// The id and what it says of itself without its version: the key of its guard, with `wide`.
    pub identity_without_version: IdentityHash,
    /// Where it asks from, for pins.
    pub network: Network,
    /// The version that it says it runs.
    pub version: ShortVersion,
    /// What the first field of that may be.
    pub first_field: FirstField,
    /// The source port, where it asks by packets; else 0.
    pub session: u16,
    /// The same as `network` more coarsely, for the loop guard: carriers move a module between /24s.
    pub coarse_network: CoarseNetwork,
}

impl Requester {
    /// Who asks this from there; `None` without an id.
    pub fn of(check: &Check<'_>, address: IpAddr) -> Option<Requester> {
        let device = check.device?;
        // Every check comes this way, so nothing is allocated for it.
        let mut room = [0; decimal::ROOM];
        let core = decimal(check.core_version.unwrap_or_default().into(), &mut room);
        let name = check.firmware_name.as_deref().unwrap_or_default();
        let project = check.project();
        let saying = Saying::by(device).and(&[project, name]);
        Some(Requester {
            device,
            identity_without_version: saying.done(),
            identity: saying.and(&[&check.version, core]).done(),
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
    fn modules_that_run_different_things_are_told_apart_under_one_id() {
        let imei = DeviceId::Imei(862_991_443_753_386);
        let said = [
            ["P", "1.0.0"],
            ["P", "1.0.1"],
            ["Q", "1.0.0"],
            ["P1", ".0.0"],
        ];
        for (at, one) in said.iter().enumerate() {
            for (other_at, other) in said.iter().enumerate() {
                let same = IdentityHash::of(imei, one) == IdentityHash::of(imei, other);
                assert_eq!(same, at == other_at);
            }
        }
    }

    #[test]
    fn the_key_of_a_downloader_is_the_same_on_every_machine() {
        let imei = DeviceId::Imei(862_991_443_753_386);
        let key = IdentityHash::of(imei, &["P", "P_Luat_V0017_ASR1802", "1.0.0"]);
        assert_eq!(key, IdentityHash(11_846_807_408_319_002_151));
    }
}
