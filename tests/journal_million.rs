//! A measurement, not a test: the journal of a million devices. To be run by hand:
//!
//!     cargo test --release --test journal_million -- --ignored --nocapture
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![allow(missing_docs)]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use luat_ota::firmware::ContentId;
use luat_ota::firmware::audience::DeviceId;
use luat_ota::fleet::clock::{Stamp, unix_now};
use luat_ota::fleet::entry::{DeviceEntry, JournalEntry, JourneyEntry};
use luat_ota::fleet::journal::{self, FILE, Journal, Loaded};
use luat_ota::fleet::journey::State;
use luat_ota::fleet::network::Network;
use luat_ota::fleet::{Fleet, FleetSettings};
use luat_ota::state::StateFolder;

const NOW: Stamp = Stamp(1 << 31);

/// A device on the way to a release, as most of a fleet are most of the time: there.
fn device(number: u64) -> JournalEntry {
    let imei = 862_990_000_000_000 + number;
    JournalEntry::Device(DeviceEntry {
        first: NOW.minus(1_000_000),
        interval: 86_400,
        network: Some(Network::V4([10, (number >> 8) as u8, number as u8])),
        journey: Some(JourneyEntry {
            state: State::Confirmed,
            reached: 400_000,
            ..JourneyEntry::new(
                "ALIYUN",
                "2.0.0",
                ContentId([7; 32]),
                400_000,
                "1.0.0",
                NOW.minus(50_000),
            )
        }),
        ..DeviceEntry::new(
            DeviceId::Imei(imei),
            &imei.to_string(),
            "ALIYUN",
            "2.0.0",
            NOW,
        )
    })
}

/// Gives all records, as the server's ticks do but without a second between them.
fn compact(journal: &mut Journal, devices: u64) {
    let mut at = 0;
    while at < devices {
        if journal.wants_records().is_none() {
            std::thread::sleep(Duration::from_millis(1));
            continue;
        }
        let some: Vec<JournalEntry> = (at..devices.min(at + 2000)).map(device).collect();
        at += 2000;
        journal.give(&some, (at < devices).then_some(at));
    }
}

#[test]
#[ignore = "a measurement: takes half a gigabyte of disk"]
fn the_journal_of_a_million_devices() {
    for devices in [200_000, 1_000_000] {
        measure(devices);
    }
}

/// Time that passed, and processor time of all threads: on a busy machine only the second says much.
struct Watch(Instant, Duration);

impl Watch {
    fn start() -> Watch {
        Watch(Instant::now(), processor())
    }

    fn took(&self) -> String {
        let used = processor() - self.1;
        format!("{:.2?} (processor time {used:.2?})", self.0.elapsed())
    }
}

fn processor() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn measure(devices: u64) {
    let folder: PathBuf =
        std::env::temp_dir().join(format!("luat-ota-million-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join(FILE);
    let size = || std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
    let unix = unix_now();
    println!("{devices} devices");

    // Lines were lost: a compaction is wanted at once, whatever the size.
    let mut journal = Journal::start(&folder, NOW, unix, &Loaded::default(), 0).unwrap();
    journal.rewrite();
    let watch = Watch::start();
    compact(&mut journal, devices);
    // The copy has the journal's name only when it is whole.
    while size() < 100 * devices {
        std::thread::sleep(Duration::from_millis(1));
    }
    println!("  compacted in {}: {} bytes", watch.took(), size());
    journal.stop();
    let line = size() / devices;
    println!("  {line} bytes per device");
    // A device that polls is written once a day; one that updates, at five more steps of its way.
    println!(
        "  {line} bytes per device and day, {} on the day of its update",
        6 * line
    );

    let watch = Watch::start();
    let mut count = 0_u64;
    let loaded = journal::load(&path, NOW, unix, &mut |_| count += 1).unwrap();
    println!("  read in {}", watch.took());
    assert_eq!((count, loaded.damaged), (devices, 0));

    let settings = FleetSettings {
        // A tenth of the table is for those on probation.
        max_devices: devices as usize * 10 / 9 + 10,
        ..FleetSettings::default()
    };
    let watch = Watch::start();
    let mut fleet = Fleet::open(
        settings,
        Some(&StateFolder::new(&folder)),
        Instant::now(),
        unix,
    );
    println!("  loaded into the fleet in {}", watch.took());
    assert_eq!(fleet.devices() as u64, devices);
    fleet.stop(Instant::now());
    std::fs::remove_dir_all(&folder).unwrap();
}
