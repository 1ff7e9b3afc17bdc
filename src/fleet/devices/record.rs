//! One device in 104 bytes. Only [`super`] reads and writes these; everybody else sees
//! [`super::super::view`] and [`super::super::entry`].

use crate::firmware::audience::DeviceId;
use crate::fleet::clock::Stamp;
use crate::fleet::journey::{Journey, Outcome, State, TargetId};
use crate::fleet::network::Network;
use crate::fleet::profiles::ProfileId;
use crate::fleet::releases::ProjectId;
use crate::fleet::report::Report;
use crate::fleet::short_version::ShortVersion;

/// No slot.
pub const NONE: u32 = u32::MAX;

/// Which list a record is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Rank {
    /// Seen, and not yet believed: not in the journal, and the first to go.
    Probation = 0,
    /// It leaves only when it has not been seen for long.
    Established = 1,
    /// No device: the record waits for one.
    Free = 2,
}

/// How an id was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// An IMEI of 14 digits.
    Imei14 = 0,
    /// Of 15, as they should be.
    Imei15,
    /// Of 16.
    Imei16,
    /// Of 17.
    Imei17,
    /// A MAC.
    Mac,
    /// Anything else: its text stands beside the table.
    Other,
}

/// Bits that a [`Kind`] needs.
const KIND_BITS: u8 = 3;

/// Where the report begins in [`Record::bits`]: above the kind and the length of the network.
const REPORT_AT: u8 = 6;

/// Where the weak attempts begin in [`Record::result`], and where the mark of a proxy is.
const WEAK_AT: u8 = 2;
const PROXY_AT: u8 = 4;

impl Kind {
    const ALL: [Kind; 6] = [
        Kind::Imei14,
        Kind::Imei15,
        Kind::Imei16,
        Kind::Imei17,
        Kind::Mac,
        Kind::Other,
    ];

    /// Of an id and its text; an empty text is of the usual length.
    pub fn of(device: DeviceId, text: &str) -> Kind {
        match (device, text.len()) {
            (DeviceId::Imei(_), 14) => Kind::Imei14,
            (DeviceId::Imei(_), 16) => Kind::Imei16,
            (DeviceId::Imei(_), 17) => Kind::Imei17,
            (DeviceId::Imei(_), _) => Kind::Imei15,
            (DeviceId::Mac(_), _) => Kind::Mac,
            (DeviceId::Other(_), _) => Kind::Other,
        }
    }
}

/// One device.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    id: u64,
    /// When it was first seen.
    pub first: Stamp,
    /// When it was last seen.
    pub last: Stamp,
    /// Seconds between its checks; 0: not known.
    pub interval: u32,
    /// Its neighbours in its list: the one seen before it, and the next.
    pub before: u32,
    /// The same; of a free record the next free one.
    pub after: u32,
    since: Stamp,
    reached: u32,
    /// The version that it runs.
    pub version: ShortVersion,
    from: ShortVersion,
    /// The project that it asks for.
    pub project: ProjectId,
    target: TargetId,
    /// What it states of itself.
    pub profile: ProfileId,
    /// Up to three releases that it was confirmed with before, each by one of its contents, the earliest
    /// first; never that of `target`.
    pub confirmed: [TargetId; 3],
    network: [u8; 6],
    /// Three fields in one byte, so that a record ends at 104 bytes. From the lowest bit: how its id was
    /// written ([`Kind`], 3 bits), how many bytes of `network` count (0, 3 or 6; 3 bits), and the
    /// [`Report`] on its journey's target (0: none; 2 bits).
    bits: u8,
    /// Its list.
    pub rank: Rank,
    state: State,
    /// The journey's outcome (0: none; 2 bits), its weak attempts in a row (2 bits), and whether its last
    /// delivery was a proxy's (1 bit).
    result: u8,
}

impl Record {
    /// A device that was never seen before.
    pub fn new(device: DeviceId, kind: Kind, project: ProjectId, now: Stamp) -> Record {
        let (DeviceId::Imei(id) | DeviceId::Mac(id) | DeviceId::Other(id)) = device;
        Record {
            id,
            first: now,
            last: now,
            interval: 0,
            before: NONE,
            after: NONE,
            since: now,
            reached: 0,
            version: ShortVersion::default(),
            from: ShortVersion::default(),
            project,
            target: TargetId::NONE,
            profile: ProfileId::NONE,
            confirmed: [TargetId::NONE; 3],
            network: [0; 6],
            bits: kind as u8,
            rank: Rank::Free,
            state: State::Offered,
            result: 0,
        }
    }

    fn kind(&self) -> Kind {
        let at = usize::from(self.bits & !(u8::MAX << KIND_BITS));
        Kind::ALL.get(at).copied().unwrap_or(Kind::Other)
    }

    /// Its id.
    pub fn device(&self) -> DeviceId {
        match self.kind() {
            Kind::Imei14 | Kind::Imei15 | Kind::Imei16 | Kind::Imei17 => DeviceId::Imei(self.id),
            Kind::Mac => DeviceId::Mac(self.id),
            Kind::Other => DeviceId::Other(self.id),
        }
    }

    /// Its id as text, if that follows from the number.
    pub fn text(&self) -> Option<Digits> {
        match self.kind() {
            Kind::Imei14 => Some(Digits::of(self.id, 10, 14)),
            Kind::Imei15 => Some(Digits::of(self.id, 10, 15)),
            Kind::Imei16 => Some(Digits::of(self.id, 10, 16)),
            Kind::Imei17 => Some(Digits::of(self.id, 10, 17)),
            Kind::Mac => Some(Digits::of(self.id, 16, 12)),
            Kind::Other => None,
        }
    }

    /// What sort of id that is, for people.
    pub fn kind_word(&self) -> &'static str {
        match self.kind() {
            Kind::Mac => "mac",
            Kind::Other => "other",
            _ => "imei",
        }
    }

    /// From where it was last seen; on its way, from where it got the file.
    pub fn network(&self) -> Option<Network> {
        let [a, b, c, d, e, f] = self.network;
        match self.bits >> KIND_BITS & 0b111 {
            3 => Some(Network::V4([a, b, c])),
            6 => Some(Network::V6([a, b, c, d, e, f])),
            _ => None,
        }
    }

    /// It is seen there.
    pub fn set_network(&mut self, network: Network) {
        let bits = network.bytes();
        for (place, bit) in self.network.iter_mut().zip(bits) {
            *place = *bit;
        }
        let len = if bits.len() == 3 { 3 } else { 6 };
        let report = self.bits & u8::MAX << REPORT_AT;
        self.bits = self.kind() as u8 | len << KIND_BITS | report;
    }

    /// The last report on its journey's target.
    pub fn report(&self) -> Option<Report> {
        match self.bits >> REPORT_AT {
            1 => Some(Report::Updated),
            2 => Some(Report::Failed),
            3 => Some(Report::Other),
            _ => None,
        }
    }

    /// Replaces the report.
    pub fn set_report(&mut self, report: Option<Report>) {
        let report = report.map_or(0, |report| report as u8);
        self.bits = self.bits & !(u8::MAX << REPORT_AT) | report << REPORT_AT;
    }

    /// Its way, if it is on any.
    pub fn journey(&self) -> Option<Journey> {
        (self.target != TargetId::NONE).then_some(Journey {
            target: self.target,
            state: self.state,
            since: self.since,
            reached: self.reached,
            outcome: match self.result & 0b11 {
                1 => Some(Outcome::Confirmed),
                2 => Some(Outcome::Reverted),
                3 => Some(Outcome::FellBack),
                _ => None,
            },
            weak: self.result >> WEAK_AT & 0b11,
            by_proxy: self.result >> PROXY_AT & 1 == 1,
            from: self.from,
        })
    }

    /// Only for [`super::Devices`], which keeps the targets' counts in step.
    pub fn set_journey(&mut self, journey: Option<Journey>) {
        let target = journey.map_or(TargetId::NONE, |journey| journey.target);
        if target != self.target {
            self.set_report(None);
        }
        let Some(journey) = journey else {
            self.target = TargetId::NONE;
            return;
        };
        self.target = journey.target;
        self.state = journey.state;
        self.since = journey.since;
        self.reached = journey.reached;
        self.from = journey.from;
        let outcome = match journey.outcome {
            None => 0,
            Some(Outcome::Confirmed) => 1,
            Some(Outcome::Reverted) => 2,
            Some(Outcome::FellBack) => 3,
        };
        self.result =
            outcome | journey.weak.min(0b11) << WEAK_AT | u8::from(journey.by_proxy) << PROXY_AT;
    }
}

/// A number as text, without an allocation.
#[derive(Clone, Copy, Debug)]
pub struct Digits {
    bytes: [u8; 17],
    len: usize,
}

impl Digits {
    fn of(number: u64, base: u8, len: usize) -> Digits {
        let mut bytes = [b'0'; 17];
        let mut rest = number;
        for place in bytes.iter_mut().take(len).rev() {
            // Below the base, so it is a byte.
            let digit = (rest % u64::from(base)) as u8;
            *place = match digit {
                0..=9 => b'0'.saturating_add(digit),
                _ => b'A'.saturating_add(digit.saturating_sub(10)),
            };
            rest /= u64::from(base);
        }
        Digits { bytes, len }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        let digits = self.bytes.get(..self.len).unwrap_or_default();
        std::str::from_utf8(digits).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_104_bytes() {
        assert_eq!(std::mem::size_of::<Record>(), 104);
    }

    #[test]
    fn an_id_is_shown_as_it_was_written() {
        for text in [
            "86299144375338",
            "862991443753386",
            "012991443753386",
            "8629914437533861",
            "86299144375338612",
            "A1B2C3D4E5F6",
            "00B2C3D4E5F6",
        ] {
            let device = DeviceId::parse(text).unwrap();
            let kind = Kind::of(device, text);
            let record = Record::new(device, kind, ProjectId::default(), Stamp(0));
            assert_eq!(record.device(), device);
            assert_eq!(record.text().unwrap().as_str(), text);
            assert_eq!(record.network(), None);
        }
    }

    #[test]
    fn what_is_put_in_comes_out() {
        let device = DeviceId::Mac(7);
        let mut record = Record::new(device, Kind::Mac, ProjectId::default(), Stamp(5));
        for network in [Network::V6([9, 8, 7, 6, 5, 4]), Network::V4([1, 2, 3])] {
            record.set_network(network);
            assert_eq!(record.network(), Some(network));
            assert_eq!(record.device(), device);
        }
        for (outcome, weak, by_proxy) in [
            (Some(Outcome::Confirmed), 0, true),
            (Some(Outcome::Reverted), 3, false),
            (Some(Outcome::FellBack), 0, false),
            (None, 1, true),
        ] {
            let journey = Journey {
                target: TargetId(3),
                state: State::Silent,
                since: Stamp(9),
                reached: 77,
                outcome,
                weak,
                by_proxy,
                from: ShortVersion::of("1.0.0"),
            };
            record.set_journey(Some(journey));
            assert_eq!(record.journey(), Some(journey));
            assert_eq!(record.network(), Some(Network::V4([1, 2, 3])));
        }
        record.set_journey(None);
        assert_eq!(record.journey(), None);
    }

    #[test]
    fn a_report_stays_as_long_as_the_target_and_touches_nothing_else() {
        let device = DeviceId::Mac(7);
        let mut record = Record::new(device, Kind::Mac, ProjectId::default(), Stamp(5));
        let to = |target| Journey::offered(TargetId(target), ShortVersion::of("1.0.0"), Stamp(9));
        record.set_journey(Some(to(3)));
        for report in [Report::Updated, Report::Failed, Report::Other] {
            record.set_report(Some(report));
            record.set_network(Network::V6([9, 8, 7, 6, 5, 4]));
            record.set_journey(Some(to(3)));
            assert_eq!(record.report(), Some(report));
            assert_eq!(record.network(), Some(Network::V6([9, 8, 7, 6, 5, 4])));
            assert_eq!(record.device(), device);
        }
        record.set_journey(Some(to(4)));
        assert_eq!(record.report(), None);
    }
}
