//! The upgrade id of the UDP protocol: 31 bits that a module echoes with each request for a packet, and all that it
//! echoes (docs/protocol.md 6). So the id names the content and proves that the requester received our reply to a
//! check. There is no session table, and a download continues after a restart or on a replica with the same secret.
//!
//! 12 bits are the beginning of the content's hash; 19 are a keyed MAC over the whole hash, the source network and the
//! week (docs/hazards.md 8). Ids of this week and of the last one are valid, and those that were made before the clock
//! was set ([`Weeks`]).

use std::cell::RefCell;
use std::hash::Hasher;
use std::ops::Range;
use std::time::Instant;

use siphasher::sip::SipHasher24;

use super::weeks::{WEEK, Weeks};
use crate::firmware::ContentId;
use crate::fleet::network::Network;

/// Number of bits of the MAC.
const MAC_BITS: u32 = 19;

/// Maximum number of verified ids that are remembered.
const RECENT: usize = 64;

/// Keys and state for making and verifying upgrade ids.
pub struct UpgradeIds {
    key: [u8; 16],
    /// Key of marks, from the other half of the secret.
    mark_key: [u8; 16],
    roaming: bool,
    weeks: RefCell<Weeks>,
    /// Recently verified ids, each at its `place`.
    recent: RefCell<[Option<Recent>; RECENT]>,
}

/// A verified id, with everything that its validity depends on except the candidates.
#[derive(Clone)]
struct Recent {
    id: u32,
    /// [`Network::number`] of the source network; 0 with roaming.
    network: u64,
    /// First second of the week and of the next one, in Unix seconds. Kept to save a division for each packet.
    week: Range<i64>,
    content: ContentId,
}

impl UpgradeIds {
    /// Creates the keys. `roaming`: ids do not depend on the source network, so that a download may continue from
    /// another one.
    pub fn new(secret: &[u8; 32], roaming: bool) -> UpgradeIds {
        let (mut key, mut mark_key) = ([0; 16], [0; 16]);
        for (byte, secret) in key.iter_mut().chain(&mut mark_key).zip(secret) {
            *byte = *secret;
        }
        UpgradeIds {
            key,
            mark_key,
            roaming,
            weeks: RefCell::new(Weeks::new(Instant::now())),
            recent: RefCell::new([const { None }; RECENT]),
        }
    }

    /// Forgets the verified ids. To be called when the candidates have changed.
    pub fn forget(&self) {
        self.recent.replace([const { None }; RECENT]);
    }

    /// A keyed MAC over a content and the numbers in `numbers`, which cannot be made without the secret (libfota3).
    /// `purpose` keeps marks of one kind from being valid as another kind.
    pub fn mark(&self, purpose: &[u8; 8], content: ContentId, numbers: &[u64]) -> u64 {
        let mut hasher = SipHasher24::new_with_key(&self.mark_key);
        hasher.write(purpose);
        hasher.write(&content.0);
        for number in numbers {
            hasher.write(&number.to_le_bytes());
        }
        hasher.finish()
    }

    /// The week of something that is made now. [`valid_weeks`](UpgradeIds::valid_weeks) will contain it while it is
    /// valid.
    pub fn week(&self, unix: i64) -> i64 {
        self.weeks.borrow_mut().issue(unix, Instant::now())
    }

    /// The weeks whose ids and marks are valid now.
    pub fn valid_weeks(&self, unix: i64) -> impl Iterator<Item = i64> + Clone + use<> {
        self.weeks.borrow().valid(unix, Instant::now())
    }

    /// The id of this content for a module in this network at `unix` (Unix seconds); 0..=2147483647.
    pub fn make(&self, content: ContentId, network: Network, unix: i64) -> u32 {
        let mac = self.mac(content, network, self.week(unix));
        u32::from(content.short()) << MAC_BITS | mac
    }

    /// The part of an id that names the content, as [`ContentId::short`] does.
    pub fn short(id: u32) -> u16 {
        u16::try_from(id >> MAC_BITS).unwrap_or(u16::MAX)
    }

    /// The last result of [`UpgradeIds::find`] for this id, if it is still valid. Saves the search for each packet.
    pub fn known(&self, id: u32, network: Network, unix: i64) -> Option<ContentId> {
        let recent = self.recent.borrow();
        let known = recent.get(place(id))?.as_ref()?;
        let is_match =
            known.id == id && known.network == self.number(network) && known.week.contains(&unix);
        is_match.then_some(known.content)
    }

    /// Returns the candidate that the id names: the one whose MAC matches. `None` if there is none, and also if two
    /// different ones match, since a guess may be wrong. [`forget`](UpgradeIds::forget) must be called when the
    /// candidates change.
    pub fn find(
        &self,
        id: u32,
        network: Network,
        unix: i64,
        candidates: impl Iterator<Item = ContentId>,
    ) -> Option<ContentId> {
        let weeks = self.valid_weeks(unix);
        let matches = |content: &ContentId| {
            let id_in =
                |week| u32::from(content.short()) << MAC_BITS | self.mac(*content, network, week);
            weeks.clone().any(|week| id_in(week) == id)
        };
        let mut found = candidates.filter(matches);
        let content = found.next()?;
        if !found.all(|other| other == content) {
            return None;
        }
        let begins = unix.div_euclid(WEEK).saturating_mul(WEEK);
        if let Some(place) = self.recent.borrow_mut().get_mut(place(id)) {
            *place = Some(Recent {
                id,
                network: self.number(network),
                week: begins..begins.saturating_add(WEEK),
                content,
            });
        }
        Some(content)
    }

    fn number(&self, network: Network) -> u64 {
        if self.roaming { 0 } else { network.number() }
    }

    fn mac(&self, content: ContentId, network: Network, week: i64) -> u32 {
        let mut hasher = SipHasher24::new_with_key(&self.key);
        hasher.write(&content.0);
        if !self.roaming {
            hasher.write(network.bytes());
        }
        hasher.write(&week.to_le_bytes());
        let [a, b, c, ..] = hasher.finish().to_le_bytes();
        u32::from_le_bytes([a, b, c, 0]) & ((1 << MAC_BITS) - 1)
    }
}

/// Position of an id among those that are remembered.
fn place(id: u32) -> usize {
    usize::try_from(id).unwrap_or(0) % RECENT
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_795_420_800;

    fn content(first: u8, last: u8) -> ContentId {
        let mut hash = [0x5a; 32];
        hash[0] = first;
        hash[31] = last;
        ContentId(hash)
    }

    fn network(text: &str) -> Network {
        Network::of(text.parse().unwrap())
    }

    fn ids() -> UpgradeIds {
        UpgradeIds::new(&[7; 32], false)
    }

    fn is_valid(ids: &UpgradeIds, id: u32, from: &str, unix: i64) -> bool {
        let one = content(1, 1);
        ids.find(id, network(from), unix, [one].into_iter()) == Some(one)
    }

    #[test]
    fn an_id_has_31_bits_and_names_its_content() {
        for first in 0..=255 {
            let id = ids().make(content(first, 0), network("192.0.2.7"), NOW);
            assert!(id <= 0x7fff_ffff);
            assert_eq!(UpgradeIds::short(id), content(first, 0).short());
        }
    }

    #[test]
    fn an_id_is_valid_only_in_its_network() {
        let id = ids().make(content(1, 1), network("192.0.2.7"), NOW);
        assert!(is_valid(&ids(), id, "192.0.2.99", NOW));
        assert!(is_valid(&ids(), id, "::ffff:192.0.2.7", NOW));
        assert!(!is_valid(&ids(), id, "192.0.3.7", NOW));
    }

    #[test]
    fn with_roaming_an_id_is_valid_everywhere() {
        let ids = UpgradeIds::new(&[7; 32], true);
        let id = ids.make(content(1, 1), network("192.0.2.7"), NOW);
        assert!(is_valid(&ids, id, "2001:db8::1", NOW));
    }

    #[test]
    fn an_id_is_valid_this_week_and_the_next() {
        let id = ids().make(content(1, 1), network("192.0.2.7"), NOW);
        assert!(is_valid(&ids(), id, "192.0.2.7", NOW + WEEK));
        assert!(!is_valid(&ids(), id, "192.0.2.7", NOW + 2 * WEEK));
        assert!(!is_valid(&ids(), id, "192.0.2.7", NOW - WEEK));
    }

    // Case 61.
    #[test]
    fn an_id_stays_valid_when_the_clock_is_set() {
        let from = network("192.0.2.7");
        let one = content(1, 1);
        for (made, then) in [
            (30, NOW),
            (NOW - 400 * 86_400, NOW),
            (NOW, NOW - 3 * WEEK),
            (NOW, 30),
            (-30, NOW),
        ] {
            let ids = ids();
            let id = ids.make(one, from, made);
            assert!(is_valid(&ids, id, "192.0.2.7", made));
            for _ in 0..2 {
                assert!(is_valid(&ids, id, "192.0.2.7", then), "{made} {then}");
                assert_eq!(ids.known(id, from, then), Some(one));
            }
            assert!(!is_valid(&ids, id, "192.0.3.7", then));
        }
    }

    #[test]
    fn another_secret_makes_other_ids() {
        let id = UpgradeIds::new(&[8; 32], false).make(content(1, 1), network("192.0.2.7"), NOW);
        assert!(!is_valid(&ids(), id, "192.0.2.7", NOW));
    }

    #[test]
    fn an_id_that_matches_two_contents_names_neither() {
        let from = network("192.0.2.7");
        // The same first 12 bits. The last bytes are varied until the MACs are equal too.
        let make = |n: u32| {
            let mut hash = [0x5a; 32];
            hash[28..].copy_from_slice(&n.to_le_bytes());
            ContentId(hash)
        };
        let mut seen = std::collections::HashMap::new();
        let (one, two) = (0..)
            .find_map(|n| {
                let earlier = seen.insert(ids().make(make(n), from, NOW), n);
                earlier.map(|m| (make(m), make(n)))
            })
            .unwrap();
        let id = ids().make(one, from, NOW);
        let ids = ids();
        let find = |list: &[ContentId]| ids.find(id, from, NOW, list.iter().copied());
        assert_eq!(find(&[one, two]), None);
        assert_eq!(find(&[one]), Some(one));
        assert_eq!(find(&[one, one]), Some(one));
        // The id is remembered until the candidates change.
        assert_eq!(ids.known(id, from, NOW), Some(one));
        ids.forget();
        assert_eq!(ids.known(id, from, NOW), None);
        assert_eq!(find(&[one, two]), None);
        assert_eq!(ids.known(id, from, NOW), None);
    }

    #[test]
    fn a_remembered_id_is_valid_only_in_its_network_and_week() {
        let (here, there) = (network("192.0.2.7"), network("192.0.3.7"));
        let begins = NOW.div_euclid(WEEK) * WEEK;
        let one = content(1, 1);
        let id = ids().make(one, here, begins);
        for roaming in [false, true] {
            let ids = UpgradeIds::new(&[7; 32], roaming);
            let id = ids.make(one, here, begins);
            assert_eq!(ids.known(id, here, begins), None);
            assert_eq!(ids.find(id, here, begins, [one].into_iter()), Some(one));
            for unix in [begins, begins + WEEK - 1] {
                assert_eq!(ids.known(id, here, unix), Some(one));
                assert_eq!(ids.known(id, there, unix), roaming.then_some(one));
            }
            // Another id with the same position.
            assert_eq!(ids.known(id ^ 64, here, begins), None);
            for unix in [begins - 1, begins + WEEK] {
                assert_eq!(ids.known(id, here, unix), None);
            }
        }
        let ids = ids();
        // In the next week the id is found again, but is not valid for longer.
        assert!(is_valid(&ids, id, "192.0.2.7", begins + WEEK));
        assert_eq!(ids.known(id, here, begins + WEEK), Some(one));
        assert_eq!(ids.known(id, here, begins + 2 * WEEK), None);
    }
}
