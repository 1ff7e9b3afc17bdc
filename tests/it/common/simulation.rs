//! Parts that the simulations of the fuse share: a folder and the visit of a device.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use luat_ota::decision::{Check, Verdict};
use luat_ota::firmware::ContentId;
use luat_ota::firmware::audience::DeviceId;
use luat_ota::firmware::catalog::{Catalog, ScanResult, ScannedFile};
use luat_ota::firmware::package::{Inspected, PackageKind};
use luat_ota::fleet::requester::{PinOwner, Requester};
use luat_ota::fleet::short_version::ShortVersion;
use luat_ota::fleet::{FileRange, Fleet, TransferOutcome};
use luat_ota::os::fs::FileStamp;

use super::decisions::decide_and_record;

/// Size of each file in bytes.
const SIZE: u64 = 100_000;

/// Time from the offer to the last byte, and from there to the next check, in seconds.
pub const DOWNLOAD: u64 = 30;
pub const REBOOT: u64 = 25;

/// A catalog with these versions of project P.
pub fn folder(versions: &[&str]) -> Catalog {
    let file = |(number, version): (u8, &&str)| ScannedFile {
        path: format!("P/{version}/u.bin"),
        stamp: FileStamp {
            dev: 1,
            ino: u64::from(number),
            size: SIZE,
            mtime: 0,
            ctime: 0,
        },
        inspected: Inspected {
            content: ContentId([number; 32]),
            md5: [0; 16],
            size: SIZE,
            kind: PackageKind::Generic,
        },
    };
    let found = ScanResult {
        files: (1..).zip(versions).map(file).collect(),
        ..ScanResult::default()
    };
    Catalog::build(found)
}

/// Sends a device's check, and downloads the offered file. `outcome` is the end of the transfer as the server sees it.
/// Returns whether there was an offer.
pub fn visit(
    fleet: &mut Fleet,
    catalog: &Catalog,
    (id, address): (&str, IpAddr),
    version: &str,
    outcome: TransferOutcome,
    now: Instant,
) -> bool {
    let check = Check {
        device: DeviceId::parse(id),
        device_text: id.into(),
        firmware_name: Some("P_LuatOS-SoC_Air780E".into()),
        version: version.into(),
        ..Check::default()
    };
    let who = Requester::of(&check, address).unwrap();
    let owner = PinOwner::of_check(&check, Some(&who), address);
    let Verdict::Offer(offer) = decide_and_record(fleet, catalog, &check, &who, now) else {
        return false;
    };
    let part = FileRange {
        content: offer.package.content,
        to: ShortVersion::of(&offer.release.version_text),
        size: SIZE,
        start: 0,
        end: SIZE,
    };
    let (mut transfer, _written) = fleet.begin(Some(&who), Some(&owner), part, now);
    let end = now + Duration::from_secs(DOWNLOAD);
    fleet.sent(&transfer, SIZE);
    fleet.acknowledged(&mut transfer, SIZE, end);
    fleet.end(transfer, outcome, end);
    true
}
