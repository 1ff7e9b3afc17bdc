//! Promise: servers with `--fleet` know the outcomes of each other's deliveries: a release that fails on a few devices
//! of each server is paused by all, the devices of a lost server are judged by the server to which they move, and an
//! unusable folder changes nothing for devices.
#![cfg(feature = "operator")]

use crate::common;

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use common::mount::Mount;
use common::packages::noise;
use common::{
    PATIENCE, Place, Reply, Server, connect_from, get, is_event, luat, reply, wait_until,
};
use luat_ota::firmware::audience::DeviceId;
use luat_ota::firmware::known::KnownFiles;
use luat_ota::firmware::scan;
use luat_ota::fleet::clock::{Stamp, unix_now};
use luat_ota::fleet::entry::{DeviceEntry, JournalEntry, Priority, ProgressEntry};
use luat_ota::fleet::journal::{Journal, Loaded};
use luat_ota::fleet::network::Network;
use luat_ota::fleet::progress::State;
use serde_json::Value;

const SIZE: usize = 20_000;

/// Time for several exchanges of five seconds on a slow machine.
const EXCHANGES: Duration = Duration::from_secs(90);

/// The id of a device that no journal contains.
const NEW: &str = "862991443750099";

fn imei(number: u8) -> String {
    format!("86299144375000{number}")
}

/// A separate address, and therefore a separate network, for each device.
fn address(number: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, number, 1).into()
}

/// A place with a release whose file was delivered to these devices two minutes ago.
fn place(bytes: &[u8], delivered: &[u8]) -> Place {
    let place = Place::new();
    place.drop_firmware("P/2.0.0/update.bin", bytes);
    let catalog = scan::catalog(&place.firmware(), &mut KnownFiles::open(None)).unwrap();
    let content = catalog.project("P").unwrap().releases[0].packages[0].content;
    let now = Stamp(1 << 31);
    let state = place.state();
    let mut journal = Journal::start(&state, now, unix_now(), &Loaded::default(), 0).unwrap();
    for &number in delivered {
        let since = now.minus(120);
        let progress = ProgressEntry::new("P", "2.0.0", content, SIZE as u64, "1.0.0", since);
        let id = imei(number);
        let device = DeviceId::parse(&id).unwrap();
        journal.write_later(
            &JournalEntry::Device(DeviceEntry {
                interval: 600,
                network: Some(Network::of(address(number))),
                progress: Some(ProgressEntry {
                    state: State::Delivered,
                    reached: SIZE as u64,
                    ..progress
                }),
                ..DeviceEntry::new(device, &id, "P", "1.0.0", since)
            }),
            Priority::Major,
        );
    }
    journal.stop();
    place
}

/// The shared folder of the servers.
struct Share {
    root: Place,
}

impl Share {
    fn new() -> Share {
        let root = Place::new();
        std::fs::create_dir(root.root.join("fleet")).unwrap();
        Share { root }
    }

    fn start(&self, place: Place) -> Server {
        self.start_with(place, &self.root.root.join("fleet"), "secret")
    }

    fn start_with(&self, place: Place, folder: &Path, secret: &str) -> Server {
        let secret = self.root.root.join(secret);
        let (secret, folder) = (secret.to_str().unwrap(), folder.to_str().unwrap());
        Server::start_in(place, &["--secret-file", secret, "--fleet", folder])
    }

    /// The contents of the servers' files.
    fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.root.root.join("fleet")).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        // A new file has a temporary name until it is complete.
        let is_new = |path: &Path| path.file_name().unwrap().as_bytes().starts_with(b".");
        let paths = paths.filter(|path| !is_new(path));
        let texts = paths.map(std::fs::read_to_string);
        // A file that is being replaced may be missing.
        texts.filter_map(Result::ok).collect()
    }

    fn wait_until_outcome(&self, outcome: &str) {
        let outcome = format!("\t{outcome}\t");
        wait_until(&outcome, EXCHANGES, || {
            self.files().iter().any(|text| text.contains(&outcome))
        });
    }

    fn wait_until_written(&self, servers: usize, outcome: &str, devices: usize) {
        wait_until("the outcomes are written", EXCHANGES, || {
            let files = self.files();
            let lines = files.iter().flat_map(|text| text.lines());
            let found = lines.filter(|line| line.contains(&format!("\t{outcome}\t")));
            files.len() == servers && found.count() == devices
        });
    }
}

/// Sends a device's check from its own address.
fn ask(server: &Server, number: u8, version: &str) -> Reply {
    let mut stream = connect_from(Some(address(number)), server.http, 0);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let target = luat("P", &imei(number), version);
    stream.write_all(&get(&target)).unwrap();
    reply::read(&mut stream, false).unwrap()
}

/// Waits for the release without a download, which the fuse would count.
fn wait_for_release(server: &Server) {
    server.wait_for_log("says that the release is there", |line| {
        is_event(line, "release")
    });
}

fn wait_until_paused(server: &Server) {
    let path = server.place().path("P/2.0.0/release.json");
    wait_until("release.json says why", EXCHANGES, || {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let rules: Value = serde_json::from_str(&text).unwrap_or_default();
        let paused = rules["paused"].as_str().unwrap_or_default().to_owned();
        paused.contains("of 4 devices that had 2.0.0 came back with their old version")
    });
    server.wait_until_refused(&luat("P", NEW, "1.0.0"), 404, 27);
}

#[test]
fn four_failing_devices_that_are_split_two_and_two_pause_the_release_on_both_servers() {
    let (bytes, share) = (noise(94, SIZE), Share::new());
    let servers = [[1, 2], [3, 4]].map(|devices| share.start(place(&bytes, &devices)));
    servers.iter().for_each(wait_for_release);
    share.wait_until_written(2, "delivered", 4);
    for (server, devices) in servers.iter().zip([[1, 2], [3, 4]]) {
        for number in devices {
            ask(server, number, "1.0.0").must_be_file(&bytes).unwrap();
        }
    }
    // Each server has its own firmware folder, and therefore decides separately.
    for server in &servers {
        wait_until_paused(server);
    }
    for text in share.files() {
        assert!(!text.contains("86299144"), "an id is in\n{text}");
    }
}

#[test]
fn devices_of_a_lost_server_are_judged_by_the_other_server() {
    let (bytes, share) = (noise(95, SIZE), Share::new());
    let one = share.start(place(&bytes, &[1, 2, 3, 4]));
    share.wait_until_written(1, "delivered", 4);
    let _place = one.kill();
    let other = share.start(place(&bytes, &[]));
    wait_for_release(&other);
    share.wait_until_written(2, "delivered", 4);
    wait_until_metric(&other, "luat_ota_fleet_servers{state=\"live\"} 1");
    // One of the devices runs the new version.
    ask(&other, 1, "2.0.0").must_refuse(404, 27).unwrap();
    for number in 2..=4 {
        ask(&other, number, "1.0.0").must_be_file(&bytes).unwrap();
    }
    wait_until_paused(&other);
    share.wait_until_written(2, "reverted", 3);
    for sample in ["confirmed\"} 1", "reverted\"} 3"] {
        let labels = "luat_ota_fleet_release_devices{project=\"P\",version=\"2.0.0\",state=\"";
        wait_until_metric(&other, &format!("{labels}{sample}"));
    }
}

fn wait_until_metric(server: &Server, sample: &str) {
    let operator = common::operator::Operator::of(server);
    wait_until(sample, EXCHANGES, || {
        let text = operator.get("/metrics").text();
        text.lines().any(|line| line == sample)
    });
}

#[test]
fn files_that_cannot_be_used_are_reported_once_and_change_nothing() {
    let (bytes, share) = (noise(96, SIZE), Share::new());
    let folder = share.root.root.join("fleet");
    std::fs::write(folder.join("damaged.outcomes"), "luat-ota outcomes\t1").unwrap();
    std::fs::write(folder.join("newer.outcomes"), "luat-ota outcomes\t9\t0\n").unwrap();
    std::fs::create_dir(folder.join("folder.outcomes")).unwrap();
    std::fs::write(folder.join("notes.txt"), "not looked at").unwrap();
    let foreign = share.start_with(place(&bytes, &[1, 2, 3, 4]), &folder, "another-secret");
    let server = share.start(place(&bytes, &[5]));
    wait_for_release(&server);
    let reported = |words: &str| {
        let log = server.log.all();
        log.iter().filter(|line| line.contains(words)).count()
    };
    let words = [
        "damaged.outcomes is damaged",
        "newer.outcomes was written by another version",
        "folder.outcomes cannot be read",
        "was written with another secret",
    ];
    wait_until("all are reported", EXCHANGES, || {
        words.iter().all(|words| reported(words) > 0)
    });

    wait_until_metric(&server, "luat_ota_fleet_servers{state=\"unusable\"} 4");
    drop(foreign);
    // Wait for two more exchanges.
    ask(&server, 5, "2.0.0").must_refuse(404, 27).unwrap();
    share.wait_until_outcome("confirmed");
    ask(&server, 5, "1.0.0").must_be_file(&bytes).unwrap();
    share.wait_until_outcome("fell_back");
    for words in words {
        assert_eq!(reported(words), 1, "{words}");
    }
    server.wait_until_offered(&luat("P", NEW, "1.0.0"), &bytes);
}

#[test]
fn a_missing_folder_is_reported_once_and_used_when_it_is_there() {
    let (bytes, share) = (noise(97, SIZE), Share::new());
    let folder = share.root.root.join("later");
    let server = share.start_with(place(&bytes, &[1]), &folder, "secret");
    server.wait_for_log("says that the folder cannot be used", |line| {
        line.contains("later cannot be read")
    });
    server.wait_until_offered(&luat("P", NEW, "1.0.0"), &bytes);
    assert!(!folder.exists());
    std::fs::create_dir(&folder).unwrap();
    server.wait_for_log("says that it can", |line| {
        line.contains("shared with the other servers again")
    });
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
    let log = server.log.all();
    let reports = log.iter().filter(|line| line.contains("cannot be read"));
    assert_eq!(reports.count(), 1);
}

#[test]
fn a_full_folder_is_reported_and_disturbs_no_device() {
    let options = ["-t", "tmpfs", "-o", "size=16k", "tmpfs"];
    let Some(mount) = Mount::new("tmpfs", &options) else {
        return;
    };
    std::fs::write(mount.path.join("full"), [0; 16384]).unwrap();
    let (bytes, share) = (noise(98, SIZE), Share::new());
    let server = share.start_with(place(&bytes, &[1]), &mount.path, "secret");
    server.wait_for_log("says that it is full", |line| {
        line.contains("cannot be written") && line.contains("outcomes are not shared")
    });
    server.wait_until_offered(&luat("P", NEW, "1.0.0"), &bytes);
    std::fs::remove_file(mount.path.join("full")).unwrap();
    server.wait_for_log("says that it can be used", |line| {
        line.contains("shared with the other servers again")
    });
}

#[test]
fn a_folder_that_cannot_be_right_is_refused_at_the_start() {
    let place = Place::new();
    let inside = place.firmware().join("fleet");
    let (firmware, secret) = (place.firmware(), place.root.join("secret"));
    let (firmware, inside) = (firmware.to_str().unwrap(), inside.to_str().unwrap());
    let serve = |flags: &[&str]| {
        let output = common::run(&[&["serve", firmware, "--fleet", inside], flags].concat());
        assert!(!output.status.success());
        common::both(&output)
    };
    assert!(serve(&[]).contains("--fleet needs --secret-file"));
    let secret = ["--secret-file", secret.to_str().unwrap()];
    assert!(serve(&secret).contains("is inside the firmware folder"));
}

#[test]
fn two_servers_with_copies_of_one_state_folder_are_reported() {
    let (bytes, share) = (noise(99, SIZE), Share::new());
    let servers = [1, 2].map(|number| {
        let place = place(&bytes, &[number]);
        std::fs::write(place.state().join("fleet-name"), "0123456789abcdef\n").unwrap();
        share.start(place)
    });
    servers.iter().for_each(wait_for_release);
    // Both servers write again.
    for (server, number) in servers.iter().zip(1..) {
        ask(server, number, "2.0.0").must_refuse(404, 27).unwrap();
    }
    wait_until("one of them says so", EXCHANGES, || {
        let logs = servers.iter().flat_map(|server| server.log.all());
        logs.into_iter()
            .any(|line| line.contains("another server writes"))
    });
}
