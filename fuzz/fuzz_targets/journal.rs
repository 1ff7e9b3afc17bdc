//! Loads any file as the journal. Loading must neither panic, hang nor fail, and it must be possible to save the
//! loaded fleet again. `cargo fuzz run journal -- -detect_leaks=0`: a thread of the journal may outlive the run that
//! started it, which the search for leaks reports.
//!
//! A fuzzer does not find a CRC by trial, so each line that begins with `{` gets the right CRC instead of its own. All
//! other lines remain unchanged.
#![no_main]

use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use luat_ota::fleet::journal::FILE;
use luat_ota::fleet::{Fleet, FleetSettings};
use luat_ota::state::StateFolder;

const UNIX: i64 = 1_800_000_000;

fuzz_target!(|bytes: &[u8]| {
    let mut journal = Vec::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        journal.extend_from_slice(line);
        if line.starts_with(b"{") {
            let crc = crc32fast::hash(line);
            journal.extend_from_slice(format!(",\"crc\":\"{crc:08x}\"}}").as_bytes());
        }
        journal.push(b'\n');
    }
    // One folder for each process of the fuzzer, in memory if there is such a place.
    let root = ["/dev/shm", "/tmp"].map(std::path::Path::new);
    let root = root.iter().find(|root| root.is_dir()).unwrap();
    let folder = root.join(format!("luat-ota-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(FILE), &journal).unwrap();
    let settings = FleetSettings {
        max_devices: 16,
        ..FleetSettings::default()
    };
    let now = Instant::now();
    let mut fleet = Fleet::open(settings, Some(&StateFolder::new(&folder)), now, UNIX);
    fleet.tick(now);
    fleet.stop(now);
});
