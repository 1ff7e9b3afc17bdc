//! What the devices get: bytes that arrive, whole files, and a module's own report on them.

use super::Devices;
use super::record::Rank;
use crate::firmware::ContentId;
use crate::firmware::audience::DeviceId;
use crate::fleet::clock::Stamp;
use crate::fleet::journey::{Journey, REBOOT};
use crate::fleet::network::{Network, Wide};

/// Of a transfer, what concerns its device's journey.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    /// The device.
    pub device: DeviceId,
    /// The file.
    pub content: ContentId,
    /// The first byte.
    pub start: u64,
}

/// A module's own word on an update.
#[derive(Clone, Copy, Debug)]
pub struct Said {
    /// Of what.
    pub piece: Piece,
    /// It runs the new version.
    pub updated: bool,
    /// From where it said so.
    pub network: Network,
}

impl Devices {
    /// The journey of a transfer, if its device is on one to this content.
    fn under_way(&self, piece: Piece) -> Option<(u32, Journey)> {
        let slot = self.table.find(piece.device)?;
        let journey = self.table.get(slot)?.journey()?;
        let target = self.targets.get(journey.target)?;
        (target.content == piece.content).then_some((slot, journey))
    }

    /// A transfer begins.
    pub fn begun(&mut self, piece: Piece) {
        if let (0, Some((slot, journey))) = (piece.start, self.under_way(piece)) {
            self.set_journey(slot, Some(journey.begun()));
        }
    }

    /// A device has shown by a GetN that it can read our answers.
    pub fn answered(&mut self, device: DeviceId, now: Stamp) {
        if let Some(slot) = self.table.find(device)
            && let Some(record) = self.table.get(slot)
            && record.rank == Rank::Probation
            && self.promotions.take(now)
        {
            self.promote(slot, now);
        }
    }

    /// Of a transfer, the bytes before `high` have arrived.
    pub fn acknowledged(&mut self, piece: Piece, high: u64, now: Stamp) {
        if let Some((slot, journey)) = self.under_way(piece) {
            let after = journey.acknowledged(piece.start, high, now);
            self.step(slot, Some(journey), Some(after));
        }
    }

    /// A transfer went to the end of the file in good order.
    pub fn delivered(&mut self, piece: Piece, size: u64, network: Network, now: Stamp) {
        let Some((slot, journey)) = self.under_way(piece) else {
            return;
        };
        let after = journey.delivered(size, now);
        if after == journey {
            return;
        }
        self.move_to(slot, network);
        self.set_journey(slot, Some(after));
        self.tell_established(slot);
        self.answered(piece.device, now);
    }

    /// A module's own word on an update. From elsewhere than it was delivered to it says nothing.
    pub fn reported(&mut self, said: &Said, listed: bool, now: Stamp) {
        let Some((slot, journey)) = self.under_way(said.piece) else {
            return;
        };
        let Some(&record) = self.table.get(slot) else {
            return;
        };
        let same = |network| Wide::from(network) == Wide::from(said.network);
        if !record.network().is_none_or(same) {
            return;
        }
        let mut after = journey.reported(said.updated, now);
        if after.state != journey.state {
            // A word within a minute of the delivery is noted, not counted.
            let late = now.since(journey.since) >= REBOOT;
            let counts = late && self.may_be_counted(&record, journey.target, listed);
            after.heard = counts
                .then(|| {
                    self.targets
                        .hear(journey.target, !said.updated, Some(said.network))
                })
                .flatten();
        }
        self.step(slot, Some(journey), Some(after));
    }
}
