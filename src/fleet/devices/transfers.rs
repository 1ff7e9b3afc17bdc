//! Transfers to the devices: bytes that arrive, whole files, and result reports.

use super::Devices;
use crate::firmware::ContentId;
use crate::firmware::audience::DeviceId;
use crate::fleet::clock::Stamp;
use crate::fleet::network::Network;
use crate::fleet::progress::{Progress, State};
use crate::fleet::report::Report;

/// The part of a transfer that concerns the update progress of its device.
#[derive(Clone, Copy, Debug)]
pub struct DeviceTransfer {
    /// The device.
    pub device: DeviceId,
    /// The file.
    pub content: ContentId,
    /// Offset of the first byte.
    pub start: u64,
}

impl Devices {
    /// The slot and the update progress of a transfer's device, if it was offered this content.
    fn find_update(&self, transfer: DeviceTransfer) -> Option<(u32, Progress)> {
        let slot = self.table.find(transfer.device)?;
        let progress = self.table.get(slot)?.progress?;
        let target = self.releases.get(progress.target)?;
        (target.content == transfer.content).then_some((slot, progress))
    }

    /// Records that a transfer begins.
    pub fn begun(&mut self, transfer: DeviceTransfer) {
        if let (0, Some((slot, progress))) = (transfer.start, self.find_update(transfer)) {
            self.set_progress(slot, Some(progress.begun()));
        }
    }

    /// Records that a device has shown, by a GetN or a whole file, that it receives the server's replies.
    pub fn answered(&mut self, device: DeviceId, now: Stamp) {
        if let Some(slot) = self.table.find(device)
            && let Some(record) = self.table.get(slot)
            && !record.is_established()
            && self.promotions.take(now)
        {
            self.promote(slot, now);
        }
    }

    /// Records that the bytes before `high` of a transfer have arrived.
    pub fn acknowledged(&mut self, transfer: DeviceTransfer, high: u64, now: Stamp) {
        if let Some((slot, progress)) = self.find_update(transfer) {
            let after = progress.acknowledged(transfer.start, high, now);
            self.step(slot, Some(progress), Some(after));
        }
    }

    /// Records that a transfer reached the end of the file in good order. `by_proxy`: it was to a trusted proxy.
    pub fn delivered(
        &mut self,
        transfer: DeviceTransfer,
        (size, by_proxy): (u64, bool),
        network: Network,
        now: Stamp,
    ) {
        let Some((slot, progress)) = self.find_update(transfer) else {
            return;
        };
        let after = progress.delivered(size, by_proxy, now);
        if after == progress {
            // The device came back with the new version before this was noted.
            if progress.state == State::Confirmed && progress.has_all(size) {
                self.answered(transfer.device, now);
            }
            return;
        }
        self.set_network(slot, network);
        self.set_progress(slot, Some(after));
        self.queue_established(slot);
        self.answered(transfer.device, now);
    }

    /// Records the result report of a device about the content that it was last offered.
    pub fn reported(&mut self, device: DeviceId, content: ContentId, report: Report) {
        let transfer = DeviceTransfer {
            device,
            content,
            start: 0,
        };
        if let Some((slot, _)) = self.find_update(transfer)
            && let Some(record) = self.table.get_mut(slot)
        {
            record.report = Some(report);
        }
    }
}
