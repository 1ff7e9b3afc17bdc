//! Promise: the journal of a large fleet is compacted without making a check wait, takes at most 200 bytes per device,
//! and is loaded quickly after a restart.
//!
//! This build serves 4,000 devices, and only the content of its state folder is verified. With a release build, the
//! figures of docs/performance.md are measured against their bounds; the second variable names an earlier build to
//! compare with:
//!
//!     LUAT_OTA_FLEET_BINARY=target/release/luat-ota LUAT_OTA_BEFORE_BINARY=… cargo test --test journal_million -- --nocapture
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![allow(missing_docs)]

#[path = "it/common/mod.rs"]
mod common;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, UNIX_EPOCH};

use common::waits::{Waits, beside_checks};
use common::{IMEI, PATIENCE, Place, Rows, Server, clean, get, luat, run_command, serve_arguments};

/// Bytes of journal per device after a compaction.
const BYTES: u64 = 200;

/// Bytes of the lines that are written once, whatever the number of devices.
const ONCE: u64 = 250_000;

/// Number of starts of each kind. The shortest one counts: load on the machine only adds time.
const STARTS: usize = 5;

/// A number of devices, and the longest permitted time of a start with them.
struct Bounds {
    devices: u64,
    start: Duration,
}

/// Appends a line with its checksum to a journal.
fn line(journal: &mut String, text: &str) {
    let crc = crc32fast::hash(text.as_bytes());
    writeln!(journal, "{text},\"crc\":\"{crc:08x}\"}}").unwrap();
}

/// A journal as earlier versions wrote it: a fleet of several projects, platforms and versions, of which four fifths
/// have been updated to a release or are being updated.
fn journal(devices: u64) -> String {
    let now = UNIX_EPOCH.elapsed().unwrap().as_secs();
    let mut journal = String::new();
    line(&mut journal, "{\"luat-ota-journal\":1");
    for n in 0..devices {
        let (imei, seen) = (862_991_400_000_000 + n * 7, now - 3600 - n % 80_000);
        let project = ["PUMP", "METER", "TRACKER-4G", "LOCK"][n as usize % 4];
        let platform = ["8955", "ASR1802", "RDA8910", "EC618"][n as usize / 4 % 4];
        let state = ["confirmed", "confirmed", "delivered", "silent", ""][n as usize % 5];
        let version = match state {
            "confirmed" => "2.0.0".to_owned(),
            _ => format!("1.{}.0", n % 9),
        };
        let mut text = format!(
            "{{\"device\":\"imei:{imei}\",\"project\":\"{project}\",\"version\":\"{version}\",\"first\":{},\
             \"last\":{seen},\"interval\":{},\"network\":\"10.{}.{}.0/24\",\
             \"name\":\"{project}_LuatOS-SoC_V2013_{platform}\",\"key\":\"a81d0b6c9f2e47c5b3d9e0f1a2b3c4d5\",\"core\":2013",
            seen - 86_400 * 90 - n,
            3600 + n % 300,
            n % 200,
            n % 251,
        );
        if !state.is_empty() {
            let project = project.as_bytes()[0];
            write!(
                text,
                ",\"to\":\"2.0.0\",\"content\":\"{}\",\"size\":413696,\"state\":\"{state}\",\"since\":{},\
                 \"reached\":413696,\"from\":\"1.{}.0\"",
                format!("{project:02x}").repeat(32),
                seen - 7200,
                n % 9,
            )
            .unwrap();
        }
        write!(text, ",\"at\":{now}").unwrap();
        line(&mut journal, &text);
    }
    journal
}

/// Lines that make a journal more than twice as long as the server expects for its devices.
fn superseded(devices: u64) -> String {
    let now = UNIX_EPOCH.elapsed().unwrap().as_secs();
    let mut journal = String::new();
    for n in 0..devices * 3 / 2 {
        line(
            &mut journal,
            &format!("{{\"unpinned\":\"{n:016x}\",\"at\":{now}"),
        );
    }
    journal
}

fn binary() -> Option<PathBuf> {
    std::env::var_os("LUAT_OTA_FLEET_BINARY").map(PathBuf::from)
}

fn start(place: Place, binary: &Path, devices: u64) -> Server {
    let mut command = Command::new(binary);
    clean(&mut command);
    let most = (devices * 5 / 4).to_string();
    command.args(serve_arguments(&place, &["--max-devices", &most]));
    Server::from_command(place, &mut command)
}

/// The shortest time from the start of the process to the reply to a check.
fn starts(what: &str, mut place: Place, binary: &Path, devices: u64) -> (Place, Duration) {
    let (mut best, mut work, mut memory) = (Duration::MAX, Duration::MAX, 0);
    for _ in 0..STARTS {
        let begin = Instant::now();
        let server = start(place, binary, devices);
        wait_for_check(&server);
        best = best.min(begin.elapsed());
        work = work.min(cpu(&server));
        memory = server.resident();
        place = server.kill();
    }
    println!("  {what}: {best:.2?}, CPU time {work:.2?}, {memory} KiB");
    (place, best)
}

/// Waits until a check gets the reply that there is nothing newer.
fn wait_for_check(server: &Server) {
    let check = get(&luat("PUMP", IMEI, "9.0.0"));
    let answered = server.wait_for_reply(&check, PATIENCE, |reply| reply.status == 404);
    answered.unwrap();
}

/// CPU time of a server so far, which is meaningful on a busy machine, too.
fn cpu(server: &Server) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.pid())).unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let fields: Vec<i64> = fields.split(' ').filter_map(|n| n.parse().ok()).collect();
    // User and system time, in fields after the name and the state of the process.
    Duration::from_millis(10 * (fields[10] + fields[11]) as u64)
}

/// The data of all devices that a state folder contains.
fn remembered(place: &Place, binary: &Path) -> Vec<String> {
    let mut command = Command::new(binary);
    clean(&mut command);
    command.args(["devices", "--json", "--state"]);
    let output = run_command(command.arg(place.state()).arg(place.firmware()));
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines: Vec<String> = text.lines().map(String::from).collect();
    lines.sort_unstable();
    lines
}

fn show(what: &str, waits: &Waits) -> Duration {
    println!(
        "  {} checks {what}: p50 {:.2?}, p99 {:.2?}, max {:.2?}",
        waits.count(),
        waits.percentile(50),
        waits.percentile(99),
        waits.percentile(100)
    );
    waits.percentile(99)
}

/// Compacts a fleet while devices check, and starts a server with it. Returns the time of a start and the bytes of the
/// journal.
fn measure(bounds: &Bounds, rows: &mut Rows) -> (Duration, u64) {
    let devices = bounds.devices;
    let is_strict = binary().is_some();
    let binary = binary().unwrap_or_else(|| env!("CARGO_BIN_EXE_luat-ota").into());
    let place = Place::new();
    place.drop_firmware("PUMP/2.0.0/u.bin", &common::packages::noise(1, 5000));
    let path = place.state().join("journal.jsonl");
    let size = || std::fs::metadata(&path).unwrap().len();
    std::fs::write(&path, journal(devices)).unwrap();
    println!(
        "{devices} devices\n  journal of the former format: {} bytes",
        size()
    );
    // The lists of a million devices would take a gigabyte of memory.
    let before = (!is_strict).then(|| remembered(&place, &binary));
    let mut place = place;
    if is_strict {
        (place, _) = starts("start with it", place, &binary, devices);
        if let Some(former) = std::env::var_os("LUAT_OTA_BEFORE_BINARY") {
            (place, _) = starts(
                "start of the earlier build",
                place,
                Path::new(&former),
                devices,
            );
        }
    }

    let mut text = std::fs::read_to_string(&path).unwrap();
    text.push_str(&superseded(devices));
    std::fs::write(&path, text).unwrap();
    let long = size();
    let server = start(place, &binary, devices);
    wait_for_check(&server);
    let begin = Instant::now();
    let ((), compacted) = beside_checks(&server, "PUMP", || {
        let is_over = || size() < long / 2;
        common::wait_until("compacted", PATIENCE * 15, is_over);
    });
    let took = begin.elapsed();
    let ((), quiet) = beside_checks(&server, "PUMP", || {
        std::thread::sleep(Duration::from_secs(3))
    });
    let place = server.terminate();
    let bytes = size();
    println!(
        "  compacted in {took:.2?}: {bytes} bytes, {} per device",
        bytes / devices
    );
    let usual = show("without a compaction", &quiet);
    let p99 = show("during the compaction", &compacted);
    if let Some(before) = before {
        assert!(before.len() as u64 >= devices);
        assert!(remembered(&place, &binary) == before, "something is lost");
    }
    assert!(bytes <= BYTES * devices + ONCE, "{bytes} bytes");

    let (place, best) = starts("start", place, &binary, devices);
    drop(place);
    if is_strict {
        // On a busy machine, checks are slow without a compaction, too.
        let check = Duration::from_millis(5).max(usual * 2);
        for (what, took, most) in [
            ("compaction", took, Duration::from_secs(60)),
            ("p99 of checks during the compaction", p99, check),
            ("start", best, bounds.start),
        ] {
            let fits = took <= most;
            rows.row(
                what,
                fits.then_some(())
                    .ok_or(format!("{took:.2?} of at most {most:.2?}")),
            );
        }
    }
    (best, bytes)
}

#[test]
fn a_large_fleet_is_compacted_while_devices_check_and_is_loaded_at_once_after_a_restart() {
    let mut rows = Rows::default();
    if binary().is_none() {
        let start = Duration::MAX;
        measure(
            &Bounds {
                devices: 4000,
                start,
            },
            &mut rows,
        );
        return;
    }
    let bounds = [(200_000, 500), (1_000_000, 2500)].map(|(devices, start)| Bounds {
        devices,
        start: Duration::from_millis(start),
    });
    let [(few, few_bytes), (many, many_bytes)] =
        bounds.each_ref().map(|bounds| measure(bounds, &mut rows));
    let steps =
        (10_000_000 - bounds[1].devices) as f64 / (bounds[1].devices - bounds[0].devices) as f64;
    let more = |few: f64, many: f64| many + (many - few) * steps;
    println!(
        "10,000,000 devices, by the slope between these: start {:.1} s, journal {:.2} GB",
        more(few.as_secs_f64(), many.as_secs_f64()),
        more(few_bytes as f64, many_bytes as f64) / 1e9
    );
    rows.finish();
}
