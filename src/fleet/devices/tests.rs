use std::collections::BTreeMap;
use std::time::Instant;

use proptest::prelude::*;

use super::*;
use crate::decision::{Known, Notes, Question, decide};
use crate::firmware::ContentId;
use crate::firmware::catalog::{ScanResult, ScannedFile};
use crate::firmware::package::{Inspected, PackageKind};
use crate::firmware::rules::Rules;
use crate::fleet::entry::DeviceEntry;
use crate::fleet::journey::{State, TargetId};
use crate::fleet::releases::StateCounts;
use crate::fleet::releases::fuse::Census;
use crate::fleet::report::Report;
use crate::fleet::view::Filter;
use crate::os::fs;

const SIZE: u64 = 100_000;
const START: Stamp = Stamp(1 << 31);
const HOME: Network = Network::V4([192, 0, 2]);
/// Another /24 of the same /16.
const NEXT_DOOR: Network = Network::V4([192, 0, 3]);
const AWAY: Network = Network::V4([198, 51, 100]);

/// A folder with these files; each one's content is told by the last byte of its id, from 1 on.
fn folder(files: &[(&str, u8)]) -> Catalog {
    let files = files.iter().map(|(path, content)| ScannedFile {
        path: (*path).to_owned(),
        stamp: fs::Stamp {
            dev: 1,
            ino: u64::from(*content),
            size: SIZE,
            mtime: 0,
            ctime: 0,
        },
        inspected: Inspected {
            content: content_id(*content),
            md5: [0; 16],
            size: SIZE,
            kind: PackageKind::Generic,
        },
    });
    let found = ScanResult {
        files: files.collect(),
        ..ScanResult::default()
    };
    Catalog::build(found, None, Instant::now())
}

fn content_id(last: u8) -> ContentId {
    let mut id = [0; 32];
    id[31] = last;
    ContentId(id)
}

/// The devices of one server, and what was written of them.
struct House {
    devices: Devices,
    catalog: Catalog,
    now: Stamp,
    written: Vec<(JournalEntry, Priority)>,
    listed: bool,
}

impl House {
    fn new(max: usize) -> House {
        House::with(max, &[("P/2.0.0/a.bin", 1)])
    }

    fn with(max: usize, files: &[(&str, u8)]) -> House {
        let mut house = House {
            devices: Devices::new(max, START),
            catalog: folder(files),
            now: START,
            written: Vec::new(),
            listed: false,
        };
        house.devices.catalog(&house.catalog, START);
        house.devices.take().for_each(drop);
        house
    }

    fn later(&mut self, seconds: u32) -> &mut House {
        self.now = self.now.plus(seconds);
        self
    }

    fn asks(&mut self, id: &str, version: &str, network: Network) {
        let check = Check {
            device: DeviceId::parse(id),
            device_text: id.into(),
            firmware_name: Some("P_LuatOS-SoC_Air780E".into()),
            version: version.into(),
            ..Check::default()
        };
        let question = Question {
            catalog: &self.catalog,
            known: Known::default(),
            check: &check,
            unix: 1_795_435_200,
        };
        let verdict = decide(&question, &mut Notes::off());
        let sighting = Sighting {
            device: device(id),
            network,
            check: &check,
            verdict: &verdict,
            listed: self.listed,
            same_session: false,
            is_given: false,
        };
        self.devices.seen(sighting, self.now);
        self.write();
    }

    /// Many devices ask, all the same.
    fn ask(&mut self, numbers: std::ops::Range<u64>, network: Network) {
        let mut check = Check {
            firmware_name: Some("P_LuatOS-SoC_Air780E".into()),
            version: "1.0.0".into(),
            ..Check::default()
        };
        let question = Question {
            catalog: &self.catalog,
            known: Known::default(),
            check: &check,
            unix: 1_795_435_200,
        };
        let verdict = decide(&question, &mut Notes::off());
        for number in numbers {
            check.device_text = imei(number).into();
            let sighting = Sighting {
                device: device(&check.device_text),
                network,
                check: &check,
                verdict: &verdict,
                listed: self.listed,
                same_session: false,
                is_given: false,
            };
            self.devices.seen(sighting, self.now);
            self.written.extend(self.devices.take());
        }
    }

    fn write(&mut self) {
        self.written.extend(self.devices.take());
    }

    fn gets(&mut self, id: &str, content: u8, start: u64, high: u64) {
        let piece = device_transfer(id, content, start);
        self.devices.begun(piece);
        self.devices.acknowledged(piece, high, self.now);
        self.write();
    }

    fn gets_all(&mut self, id: &str, content: u8, network: Network) {
        self.gets(id, content, 0, SIZE);
        let piece = device_transfer(id, content, 0);
        self.devices
            .delivered(piece, (SIZE, false), network, self.now);
        self.write();
    }

    fn report(&self, id: &str) -> Option<Report> {
        let slot = self.devices.table.find(device(id))?;
        self.devices.table.get(slot)?.report()
    }

    fn state(&self, id: &str) -> Option<State> {
        let slot = self.devices.table.find(device(id))?;
        Some(self.devices.table.get(slot)?.journey()?.state)
    }

    fn is_established(&self, id: &str) -> Option<bool> {
        let slot = self.devices.table.find(device(id))?;
        Some(self.devices.table.get(slot)?.rank == Rank::Established)
    }

    /// The fuse has paused release 2.0.0, if there is one.
    fn pauses(&mut self) {
        if let Some(mut entry) = self.devices.targets.entry("P", "2.0.0") {
            entry.fused = Some("fuse: 3 of 9 devices".into());
            self.devices.load_release(entry);
        }
    }

    /// Devices whose last result with a content is that it was confirmed, and reverted.
    fn tried(&self, content: u8) -> (u32, u32) {
        let all = self
            .devices
            .table
            .from(0)
            .filter_map(|(_, record)| record.journey());
        let of_content = all.filter(|journey| {
            let target = self.devices.targets.get(journey.target).unwrap();
            target.content == content_id(content)
        });
        of_content.fold((0, 0), |(confirmed, reverted), journey| {
            match journey.outcome {
                None => (confirmed, reverted),
                Some(Outcome::Confirmed) => (confirmed + 1, reverted),
                Some(Outcome::Reverted | Outcome::FellBack) => (confirmed, reverted + 1),
            }
        })
    }

    fn census(&self, rules: &str) -> Census {
        let rules = Rules::parse(rules.as_bytes()).unwrap();
        let listed = |_| self.listed;
        self.devices
            .census(("P", "2.0.0"), &rules, listed, self.now)
            .unwrap()
    }
}

fn device(id: &str) -> DeviceId {
    DeviceId::parse(id).unwrap()
}

fn device_transfer(id: &str, content: u8, start: u64) -> DeviceTransfer {
    DeviceTransfer {
        device: device(id),
        content: content_id(content),
        start,
    }
}

fn imei(number: u64) -> String {
    format!("{:015}", 860_000_000_000_000 + number)
}

struct Plain;

impl Beside for Plain {
    fn unix(&self, stamp: Stamp) -> i64 {
        i64::from(stamp.0)
    }
    fn listed(&self, _: DeviceId) -> bool {
        false
    }
    fn held(&self, _: DeviceId) -> bool {
        false
    }
}

const A: &str = "862991443753386";

#[test]
fn a_new_device_is_established_by_its_second_sighting_ten_minutes_later() {
    let mut house = House::new(100);
    house.asks(A, "1.0.0", HOME);
    house.later(PROBATION - 1).asks(A, "1.0.0", HOME);
    assert_eq!(house.is_established(A), Some(false));
    assert!(house.written.is_empty());
    house.later(1).asks(A, "1.0.0", HOME);
    assert_eq!(house.is_established(A), Some(true));
    assert_eq!(house.written.len(), 1);
}

#[test]
fn a_whole_download_a_good_getn_or_a_place_in_the_list_establish_at_once() {
    let mut house = House::new(100);
    for id in ["86299144375338", "A1B2C3D4E5F6", "pump-7"] {
        house.asks(id, "1.0.0", HOME);
        assert_eq!(house.is_established(id), Some(false));
    }
    house.gets_all("86299144375338", 1, HOME);
    house.devices.answered(device("A1B2C3D4E5F6"), house.now);
    house.listed = true;
    house.asks("pump-7", "1.0.0", HOME);
    house.asks(A, "1.0.0", HOME);
    house.write();
    for id in ["86299144375338", "A1B2C3D4E5F6", "pump-7", A] {
        assert_eq!(house.is_established(id), Some(true), "{id}");
    }
    let mut texts = Vec::new();
    for (entry, _) in &house.written {
        if let JournalEntry::Device(device) = entry {
            texts.push(&*device.text);
        }
    }
    // Its offer, and then all of it.
    assert_eq!(texts, ["86299144375338", "A1B2C3D4E5F6", "pump-7", A]);
}

#[test]
fn a_device_goes_its_way_to_the_end() {
    let mut house = House::new(100);
    house.asks(A, "1.0.0", HOME);
    assert_eq!(house.state(A), Some(State::Offered));
    house.gets(A, 1, 0, 40_000);
    assert_eq!(house.state(A), Some(State::Downloading));
    assert!(house.written.is_empty());
    // A range of the same download.
    house.gets(A, 1, 40_000, SIZE);
    let rest = device_transfer(A, 1, 40_000);
    house
        .devices
        .delivered(rest, (SIZE, false), HOME, house.now);
    assert_eq!(house.state(A), Some(State::Delivered));
    house.later(30).asks(A, "2.0.0", NEXT_DOOR);
    assert_eq!(house.state(A), Some(State::Confirmed));
    let counts = house.devices.targets.counts("P", "2.0.0");
    assert_eq!((counts.of(State::Confirmed), counts.total()), (1, 1));
    // It is asked for nothing again, and nothing more is written of it that day.
    house.write();
    let written = house.written.len();
    house.later(3600).asks(A, "2.0.0", HOME);
    assert_eq!(house.written.len(), written);
}

/// Everything that the journal was told, read by a new run.
fn restarted(house: &House) -> House {
    let mut next = House {
        devices: Devices::new(100, house.now),
        catalog: folder(&[]),
        now: house.now,
        written: Vec::new(),
        listed: false,
    };
    for (entry, _) in &house.written {
        match entry.clone() {
            JournalEntry::Device(device) => next.devices.load(device),
            JournalEntry::Forgotten(device) => next.devices.load_forgotten(device),
            JournalEntry::Release(release) => next.devices.load_release(release),
            _ => {}
        }
    }
    next.devices.loaded(0);
    next
}

/// A compacted journal, read by a new run.
fn compacted(house: &House) -> House {
    let mut entries = house.devices.targets.records(0, 100).0;
    entries.extend(house.devices.records(0, 100).0);
    let written = entries.into_iter().map(|entry| (entry, Priority::Major));
    restarted(&House {
        devices: Devices::new(100, house.now),
        catalog: folder(&[]),
        now: house.now,
        written: written.collect(),
        listed: false,
    })
}

/// Devices that are counted as confirmed with 1.0.N, for each N from 1 on.
fn confirmed<const N: usize>(house: &House) -> [u32; N] {
    std::array::from_fn(|n| {
        let counts = house.devices.targets.counts("P", &format!("1.0.{}", n + 1));
        counts.of(State::Confirmed)
    })
}

/// Offers 1.0.N alone, to a device that says another version, and lets it come back with that.
fn takes(house: &mut House, id: &str, n: u8, before: &str) {
    let version = format!("1.0.{n}");
    let path = format!("P/{version}/a.bin");
    house.catalog = folder(&[(&path, n)]);
    let now = house.now;
    house.devices.catalog(&house.catalog, now);
    house.later(100).asks(id, before, HOME);
    house.gets_all(id, n, HOME);
    house.later(100).asks(id, &version, HOME);
    assert_eq!(house.state(id), Some(State::Confirmed), "{version}");
}

// Case 44.
#[test]
fn confirmed_counts_survive_any_number_of_newer_releases_and_a_restart() {
    let mut house = House::with(100, &[("P/1.0.0/a.bin", 99)]);
    for n in 1..=6 {
        for id in [A, "862991443750000"] {
            takes(&mut house, id, n, &format!("1.0.{}", n - 1));
        }
        let expected: [u32; 6] = std::array::from_fn(|at| if at < n.into() { 2 } else { 0 });
        assert_eq!(confirmed::<6>(&house), expected, "after 1.0.{n}");
        assert_eq!(
            confirmed::<6>(&restarted(&house)),
            expected,
            "after 1.0.{n}"
        );
        assert_eq!(
            confirmed::<6>(&compacted(&house)),
            expected,
            "after 1.0.{n}"
        );
    }
    // They ask on, and nothing is counted twice.
    house.later(600).asks(A, "1.0.6", HOME);
    house.later(600).asks(A, "1.0.6", HOME);
    assert_eq!(confirmed::<6>(&house), [2; 6]);
}

// Case 44.
#[test]
fn a_device_that_takes_the_same_release_again_is_confirmed_with_it_once() {
    let mut house = House::with(100, &[("P/1.0.0/a.bin", 99)]);
    takes(&mut house, A, 1, "1.0.0");
    takes(&mut house, A, 2, "1.0.1");
    // Flashed over a cable, two days later.
    house.later(2 * DAY);
    takes(&mut house, A, 1, "0.9.0");
    takes(&mut house, A, 2, "1.0.1");
    assert_eq!(confirmed::<2>(&house), [1, 1]);
    assert_eq!(confirmed::<2>(&restarted(&house)), [1, 1]);
    // The same release with another file.
    house.later(2 * DAY);
    house.catalog = folder(&[("P/1.0.2/a.bin", 9)]);
    let now = house.now;
    house.devices.catalog(&house.catalog, now);
    house.later(100).asks(A, "1.0.0", HOME);
    let counts = house.devices.targets.counts("P", "1.0.2");
    assert_eq!((counts.of(State::Confirmed), counts.total()), (0, 1));
    house.gets_all(A, 9, HOME);
    house.later(100).asks(A, "1.0.2", HOME);
    assert_eq!(confirmed::<2>(&house), [1, 1]);
}

// Case 44.
#[test]
fn a_device_that_falls_back_is_not_confirmed_and_one_that_is_forgotten_stays_counted() {
    let mut house = House::with(10, &[("P/1.0.0/a.bin", 99)]);
    for n in 0..9 {
        takes(&mut house, &imei(n), 1, "1.0.0");
    }
    house.later(100).asks(&imei(0), "1.0.0", HOME);
    assert_eq!(house.state(&imei(0)), Some(State::Reverted));
    assert_eq!(confirmed::<1>(&house), [8]);
    // Two new ones take the places of the two that were not seen for longest.
    house.later(8 * DAY);
    for n in [100, 101] {
        house.listed = true;
        house.asks(&imei(n), "1.0.1", HOME);
    }
    let known = |n| house.devices.knows(device(&imei(n)));
    assert_eq!([known(0), known(1), known(2)], [true, false, false]);
    assert_eq!(confirmed::<1>(&house), [8]);
    assert_eq!(confirmed::<1>(&restarted(&house)), [8]);
}

// Case 42.
#[test]
fn a_device_is_asked_about_with_all_that_it_states_also_after_a_restart() {
    let mut house = House::new(100);
    for name in ["P_LuatOS-SoC_Air780E", "P_LuatOS-SoC_Air780EPM", "P"] {
        let check = Check {
            device: DeviceId::parse(A),
            device_text: A.into(),
            firmware_name: Some(name.into()),
            version: "2012.1.2".into(),
            core_version: Some(2012),
            project_key: Some("k".into()),
            need_oss_url: true,
            ..Check::default()
        };
        let question = Question {
            catalog: &house.catalog,
            known: Known::default(),
            check: &check,
            unix: 1_795_435_200,
        };
        let verdict = decide(&question, &mut Notes::off());
        let sighting = Sighting {
            device: device(A),
            network: HOME,
            check: &check,
            verdict: &verdict,
            listed: true,
            same_session: false,
            is_given: false,
        };
        house.devices.seen(sighting, house.now);
        house.later(100).write();
        for devices in [
            &house.devices,
            &restarted(&house).devices,
            &compacted(&house).devices,
        ] {
            let view = devices.view(device(A), &Plain).unwrap();
            assert_eq!((view.check, view.is_whole), (check.clone(), true));
            assert_eq!(view.network, Some(HOME));
            assert_eq!(devices.targets.devices("P"), 1);
        }
        assert_eq!(house.devices.profiles.len(), 1);
    }
    // Of an earlier version's journal only the project is known, until the device asks again.
    let mut old = Devices::new(100, house.now);
    for (entry, _) in &house.written {
        if let JournalEntry::Device(device) = entry {
            let profile = None;
            old.load(DeviceEntry {
                profile,
                ..device.clone()
            });
        }
    }
    let view = old.view(device(A), &Plain).unwrap();
    assert_eq!((view.check.project(), view.is_whole), ("P", false));
    assert_eq!(view.check.version, "2012.1.2");
}

#[test]
fn the_same_offer_again_is_the_same_way_and_another_content_a_new_one() {
    let mut house = House::new(100);
    house.asks(A, "1.0.0", HOME);
    house.gets(A, 1, 0, 40_000);
    house.later(600).asks(A, "1.0.0", HOME);
    assert_eq!(house.state(A), Some(State::Downloading));
    house.catalog = folder(&[("P/2.0.0/a.bin", 2)]);
    let (catalog, now) = (folder(&[("P/2.0.0/a.bin", 2)]), house.now);
    house.devices.catalog(&catalog, now);
    house.asks(A, "1.0.0", HOME);
    assert_eq!(house.state(A), Some(State::Offered));
    // Bytes of the other one say nothing of this.
    house.gets(A, 1, 0, 50_000);
    assert_eq!(house.state(A), Some(State::Offered));
}

#[test]
fn a_revert_counts_from_the_place_of_the_delivery_alone() {
    let mut house = House::new(100);
    house.asks(A, "1.0.0", HOME);
    house.gets_all(A, 1, HOME);
    house.later(3).asks(A, "1.0.0", HOME);
    assert_eq!(house.state(A), Some(State::Delivered));
    // A forger asks twice; its network is not taken for the device's.
    house.later(100).asks(A, "1.0.0", AWAY);
    house.later(100).asks(A, "1.0.0", AWAY);
    assert_eq!(house.state(A), Some(State::Delivered));
    house.later(100).asks(A, "0.9.0", NEXT_DOOR);
    assert_eq!(house.state(A), Some(State::Reverted));
}

#[test]
fn a_stranger_who_says_the_new_version_hides_no_revert() {
    let mut house = House::with(100, &[("P/1.0.0/a.bin", 9), ("P/2.0.0/a.bin", 1)]);
    house.listed = true;
    house.asks(A, "1.0.0", HOME);
    house.gets_all(A, 1, HOME);
    house.later(90).asks(A, "2.0.0", AWAY);
    house.later(90).asks(A, "1.0.0", HOME);
    assert_eq!(house.state(A), Some(State::Reverted));
    assert_eq!(house.tried(1), (0, 1));
}

#[test]
fn a_report_is_displayed_and_changes_neither_the_journey_nor_the_fuse() {
    let mut house = House::with(100, &[("P/1.0.0/a.bin", 9), ("P/2.0.0/a.bin", 1)]);
    house.listed = true;
    house.asks(A, "1.0.0", HOME);
    house.gets_all(A, 1, HOME);
    for report in [Report::Failed, Report::Other, Report::Updated] {
        house.later(90);
        house.devices.reported(device(A), content_id(1), report);
        // Of another content it says nothing.
        house
            .devices
            .reported(device(A), content_id(9), Report::Other);
        assert_eq!(house.report(A), Some(report));
        assert_eq!(house.state(A), Some(State::Delivered));
        assert_eq!(house.tried(1), (0, 0));
    }
    house.later(90).asks(A, "1.0.0", HOME);
    assert_eq!(house.state(A), Some(State::Reverted));
    assert_eq!(house.tried(1), (0, 1), "the check is the evidence");
}

// Case 22.
#[test]
fn six_devices_that_report_a_failure_and_run_the_new_version_are_confirmed() {
    let mut house = House::with(100, &[("P/1.0.0/a.bin", 9), ("P/2.0.0/a.bin", 1)]);
    house.listed = true;
    let home = |number: u64| Network::V4([10, number as u8, 1]);
    for number in 0..6 {
        let id = imei(number);
        house.asks(&id, "1.0.0", home(number));
        house.gets_all(&id, 1, home(number));
    }
    house.later(300);
    for number in 0..6 {
        let id = imei(number);
        let (device, content) = (device(&id), content_id(1));
        house.devices.reported(device, content, Report::Failed);
        assert_eq!(house.state(&id), Some(State::Delivered));
    }
    assert_eq!(house.tried(1), (0, 0), "a report alone is no evidence");
    house.later(5);
    for number in 0..6 {
        let id = imei(number);
        house.asks(&id, "2.0.0", home(number));
        assert_eq!(house.state(&id), Some(State::Confirmed));
        assert_eq!(house.report(&id), Some(Report::Failed));
    }
    assert_eq!(house.tried(1), (6, 0));
}

#[test]
fn invented_ids_that_fetch_a_packet_each_are_established_at_a_bounded_rate() {
    let mut house = House::with(100_000, &[("P/1.0.0/a.bin", 9), ("P/2.0.0/a.bin", 1)]);
    for number in 0..5_000 {
        let id = imei(number);
        house.asks(&id, "1.0.0", HOME);
        let now = house.now;
        house.devices.answered(device(&id), now);
    }
    let established = (0..5_000)
        .filter(|n| house.is_established(&imei(*n)) == Some(true))
        .count();
    assert_eq!(established, 1000);
}

#[test]
fn a_release_that_a_person_resumed_is_counted_anew() {
    let mut house = House::with(100, &[("P/1.0.0/a.bin", 9), ("P/2.0.0/a.bin", 1)]);
    for id in [A, &imei(2)] {
        house.asks(id, "1.0.0", HOME);
        house.gets_all(id, 1, HOME);
        house.later(90).asks(id, "1.0.0", HOME);
    }
    assert_eq!(house.tried(1), (0, 2));
    let now = house.now;
    house.pauses();
    assert!(house.devices.resume("P", "2.0.0", now));
    assert_eq!(house.tried(1), (0, 0));
    house.asks(A, "2.0.0", HOME);
    assert_eq!(house.tried(1), (1, 0));
    house.later(90).asks(A, "1.0.0", HOME);
    assert_eq!(house.tried(1), (0, 1));
}

/// Devices that were there for two days, and a release that has just come.
fn with_established(numbers: std::ops::Range<u64>) -> House {
    let mut house = House::with(1000, &[("P/1.0.0/a.bin", 9)]);
    for _ in 0..3 {
        house.ask(numbers.clone(), HOME);
        house.later(DAY);
    }
    house.ask(numbers, HOME);
    house.later(60);
    let files = [("P/1.0.0/a.bin", 9), ("P/2.0.0/a.bin", 1)];
    house.catalog = folder(&files);
    let now = house.now;
    house.devices.catalog(&folder(&files), now);
    house
}

#[test]
fn established_devices_count_and_others_do_not_beside_ten_of_them() {
    let mut house = with_established(0..10);
    for n in 0..5 {
        let id = imei(100 + n);
        house.later(60).asks(&id, "1.0.0", AWAY);
        house.gets_all(&id, 1, AWAY);
        house.later(60).asks(&id, "1.0.0", AWAY);
    }
    let census = house.census("{}");
    assert_eq!(census.established, 10);
    let group = &census.groups[0];
    assert_eq!(
        (group.outcomes.heard(), group.admitted, group.spread),
        (0, 10, false)
    );
    // Those that the rules leave out are not waited for.
    assert_eq!(house.census(r#"{ "percent": 0 }"#).groups[0].admitted, 0);
    // Nor is one that asked since, and was not offered it.
    house.asks(&imei(0), "2.0.0", HOME);
    assert_eq!(house.census("{}").groups[0].admitted, 9);
    // Nor are those that were not seen for three of their intervals.
    house.later(4 * DAY);
    assert_eq!(house.census("{}").groups[0].admitted, 0);
}

#[test]
fn every_device_with_a_whole_download_counts_beside_fewer_than_ten_established() {
    let mut house = with_established(0..9);
    let versions = ["1.0.0", "1.0.0", "2.0.0", "1.0.0", "1.0.0"];
    for (n, version) in (100..).zip(versions) {
        let (id, network) = (imei(n), if n == 100 { AWAY } else { HOME });
        house.later(60).asks(&id, "1.0.0", network);
        house.gets_all(&id, 1, network);
        house.later(60).asks(&id, version, network);
    }
    house.asks(&imei(200), "1.0.0", HOME);
    let census = house.census("{}");
    assert_eq!(census.established, 9);
    let [all, of_content] = &census.groups[..] else {
        panic!("one content");
    };
    assert_eq!(
        (all.outcomes.confirmed, all.outcomes.reverted, all.admitted),
        (1, 4, 5)
    );
    assert!(all.reverted_spread && all.spread);
    assert_eq!(of_content, all);
    // Silence is heard, too.
    house.asks(&imei(101), "1.0.0", HOME);
    house.gets_all(&imei(200), 1, HOME);
    assert_eq!(house.census("{}").groups[0].outcomes.heard(), 5);
    house.later(3 * DAY + 1);
    for _ in 0..2 {
        house.devices.sweep_silent(house.now);
    }
    assert_eq!(house.census("{}").groups[0].outcomes.silent, 1);
}

#[test]
fn who_does_not_come_back_is_silent_after_three_intervals_of_listening() {
    let mut house = House::new(100);
    house.asks(A, "1.0.0", HOME);
    house.later(700).asks(A, "1.0.0", HOME);
    house.gets_all(A, 1, HOME);
    assert!(house.devices.due().unwrap() < house.now);
    house.later(3 * 700);
    house.devices.sweep_silent(house.now);
    assert_eq!(house.state(A), Some(State::Delivered));
    // Until then nobody need look.
    assert_eq!(house.devices.due(), Some(house.now.plus(1)));
    house.later(1);
    house.devices.sweep_silent(house.now);
    assert_eq!(house.state(A), Some(State::Silent));
    house.devices.sweep_silent(house.now);
    assert_eq!(house.devices.due(), None);
    // After a restart it is waited for anew.
    let (mut entries, _) = house.devices.records(0, 1000);
    let Some(JournalEntry::Device(mut entry)) = entries.pop() else {
        panic!("one device was written");
    };
    entry.journey.as_mut().unwrap().state = State::Delivered;
    let began = house.now.plus(30 * DAY);
    house.devices = Devices::new(100, began);
    house.devices.load(entry);
    house.devices.loaded(30 * DAY);
    house.devices.sweep_silent(began.plus(3 * 700));
    assert_eq!(house.state(A), Some(State::Delivered));
    house.devices.sweep_silent(began.plus(3 * 700 + 1));
    assert_eq!(house.state(A), Some(State::Silent));
}

#[test]
fn a_round_in_which_something_changed_is_followed_by_another() {
    let mut house = House::new(10_000);
    for number in 0..3000 {
        let imei = (862_991_440_000_000_u64 + number).to_string();
        house.asks(&imei, "1.0.0", HOME);
    }
    let first = "862991440000000";
    house.devices.sweep_silent(house.now);
    assert!(house.devices.due().unwrap() < house.now);
    // It has been passed already.
    house.gets_all(first, 1, HOME);
    house.devices.sweep_silent(house.now);
    assert!(house.devices.due().unwrap() < house.now);
    house.devices.sweep_silent(house.now);
    house.devices.sweep_silent(house.now);
    assert_eq!(house.devices.due(), Some(house.now.plus(3 * DAY + 1)));
    house.later(3 * DAY + 1);
    for _ in 0..2 {
        house.devices.sweep_silent(house.now);
    }
    assert_eq!(house.state(first), Some(State::Silent));
}

#[test]
fn the_interval_is_what_lies_between_visits() {
    let mut house = House::new(100);
    let known = |house: &House| house.devices.view(device(A), &Plain).unwrap().interval;
    house.asks(A, "1.0.0", HOME);
    house.later(5).asks(A, "1.0.0", HOME);
    assert_eq!(known(&house), 0);
    house.later(600).asks(A, "1.0.0", HOME);
    assert_eq!(known(&house), 600);
    house.later(3).asks(A, "1.0.0", HOME);
    house.later(1000).asks(A, "1.0.0", HOME);
    assert_eq!(known(&house), (3 * 600 + 1000) / 4);
    assert_eq!(interval(0, u32::MAX), LONGEST_INTERVAL);
}

#[test]
fn a_device_is_written_as_seen_once_a_day_of_its_own() {
    let mut house = House::new(100);
    house.listed = true;
    for _ in 0..6 * 24 * 10 {
        house.later(600).asks(A, "2.0.0", HOME);
    }
    // Once more when it is established, also without any journey.
    assert_eq!(house.written.len(), 11);
    let mut priorities = house.written.iter().map(|(_, priority)| *priority);
    assert!(priorities.all(|priority| priority == Priority::Seen));
}

#[test]
fn established_devices_leave_only_when_they_are_stale() {
    let mut house = House::new(10);
    house.listed = true;
    for n in 0..9 {
        house.asks(&imei(n), "1.0.0", HOME);
    }
    assert_eq!(house.devices.established(), 9);
    house.asks(&imei(20), "1.0.0", HOME);
    assert_eq!(house.is_established(&imei(20)), Some(false));
    house.later(STALE).asks(&imei(0), "1.0.0", HOME);
    house.asks(&imei(20), "1.0.0", HOME);
    assert_eq!(house.is_established(&imei(20)), Some(false));
    house.later(1).asks(&imei(20), "1.0.0", HOME);
    assert_eq!(house.is_established(&imei(20)), Some(true));
    // The one that was not seen for longest, and is not stale by its own interval of a week.
    assert_eq!(house.is_established(&imei(0)), Some(true));
    assert_eq!(house.is_established(&imei(1)), None);
    let gone = JournalEntry::Forgotten(device(&imei(1)));
    assert!(house.written.iter().any(|(entry, _)| *entry == gone));
    assert!(house.devices.len() <= 10);
}

#[test]
fn a_flood_of_invented_ids_neither_pushes_out_the_fleet_nor_is_written() {
    let mut house = House::new(200_000);
    house.listed = true;
    house.ask(0..100_000, HOME);
    house.listed = false;
    // Some of the fleet are in the middle of it.
    house.gets(&imei(7), 1, 0, 40_000);
    house.written.clear();
    for second in 0..500 {
        let from = 1_000_000 + second * 400;
        house.later(1).ask(from..from + 400, AWAY);
    }
    assert_eq!(house.written.len(), 0);
    assert_eq!(house.devices.established(), 100_000);
    assert_eq!(house.devices.len(), 200_000);
    assert!((0..100_000).all(|n| house.is_established(&imei(n)) == Some(true)));
    assert_eq!(house.state(&imei(7)), Some(State::Downloading));
    // The same ids again, ten minutes later: they are let in slowly.
    house.later(PROBATION);
    house.ask(1_190_000..1_200_000, AWAY);
    assert_eq!(house.devices.established(), 101_000);
    assert_eq!(house.written.len(), 1000);
}

#[test]
fn a_page_goes_on_where_the_last_one_stopped() {
    let mut house = House::new(1000);
    for n in 0..100 {
        house.asks(&imei(n), if n % 2 == 0 { "1.0.0" } else { "2.0.0" }, HOME);
    }
    house.asks("a1b2c3d4e5f6", "1.0.0", HOME);
    house.asks("pump-7", "1.0.0", HOME);
    let all = |filter: Filter| {
        let (mut ids, mut from) = (Vec::new(), 0);
        loop {
            let (page, next) = house.devices.page(&filter, from, 7, &Plain);
            assert!(page.len() <= 7);
            ids.extend(page.into_iter().map(|(_, view)| view.id));
            match next {
                Some(next) => from = next,
                None => return ids,
            }
        }
    };
    assert_eq!(all(Filter::default()).len(), 102);
    let prefix = |text: &str| Filter {
        prefix: text.to_owned(),
        ..Filter::default()
    };
    assert_eq!(all(prefix("86000000000001")).len(), 10);
    assert_eq!(all(prefix("a1B2")), ["A1B2C3D4E5F6"]);
    assert_eq!(all(prefix("pump")), ["pump-7"]);
    assert_eq!(all(prefix("8600000000000001")), [""; 0]);
    let state = Filter {
        state: Some(State::Offered),
        project: Some("P".to_owned()),
        ..Filter::default()
    };
    assert_eq!(all(state).len(), 52);
    let version = Filter {
        version: Some("2.0.0".to_owned()),
        ..Filter::default()
    };
    assert_eq!(all(version).len(), 50);
    let nowhere = Filter {
        project: Some("Q".to_owned()),
        ..Filter::default()
    };
    assert!(all(nowhere).is_empty());
}

/// Every number that is kept is the sum over the records, and no bound is passed.
fn check_sums(devices: &Devices, max: usize) {
    let mut counts: BTreeMap<TargetId, StateCounts> = BTreeMap::new();
    let mut reverted: BTreeMap<TargetId, u32> = BTreeMap::new();
    let mut ranks = [0, 0];
    let mut others = 0;
    for (slot, record) in devices.table.from(0) {
        ranks[record.rank as usize] += 1;
        assert_eq!(devices.table.find(record.device()), Some(slot));
        others += usize::from(record.text().is_none());
        let Some(journey) = record.journey() else {
            continue;
        };
        let target = devices.targets.get(journey.target).unwrap();
        assert!(u64::from(journey.reached) <= target.size);
        counts.entry(journey.target).or_default().by_state[journey.state as usize] += 1;
        if journey.outcome.is_some_and(Outcome::is_revert) {
            *reverted.entry(journey.target).or_default() += 1;
        }
    }
    for (id, target) in devices.targets.iter() {
        assert_eq!(target.counts, counts.remove(&id).unwrap_or_default());
        assert_eq!(target.reverted, reverted.remove(&id).unwrap_or_default());
    }
    assert!(counts.is_empty() && reverted.is_empty());
    assert_eq!(devices.texts.len(), others);
    assert_eq!(devices.len(), ranks[0] + ranks[1]);
    assert_eq!(devices.established(), ranks[1]);
    assert!(devices.len() <= max);
    assert!(devices.established() <= devices.most_established());
}

#[derive(Clone, Debug)]
enum Step {
    Asks(u64, usize, usize, bool),
    Gets(u64, u8, u64, u64, bool),
    Answered(u64),
    Reports(u64, u8, i64),
    Later(u32),
    Look,
    Folder(usize),
    Lifted,
    Reload,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let id = 0u64..14;
    let place = prop_oneof![Just(0), Just(SIZE / 2), Just(SIZE)];
    let step = prop_oneof![
        8 => (id.clone(), 0usize..6, 0usize..3, proptest::bool::weighted(0.2))
            .prop_map(|(id, version, place, listed)| Step::Asks(id, version, place, listed)),
        6 => (id.clone(), 1u8..4, place.clone(), place, any::<bool>())
            .prop_map(|(id, content, start, high, whole)| Step::Gets(id, content, start, high, whole)),
        1 => id.clone().prop_map(Step::Answered),
        1 => (id, 1u8..4, 0i64..4).prop_map(|(id, content, code)| Step::Reports(id, content, code)),
        4 => prop_oneof![Just(1u32), Just(61), Just(700), Just(DAY), Just(9 * DAY)].prop_map(Step::Later),
        1 => Just(Step::Look),
        1 => (0usize..3).prop_map(Step::Folder),
        1 => Just(Step::Lifted),
        1 => Just(Step::Reload),
    ];
    proptest::collection::vec(step, 1..120)
}

const FOLDERS: [&[(&str, u8)]; 3] = [
    &[("P/2.0.0/a.bin", 1)],
    &[("P/2.0.0/a.bin", 2), ("P/3.0.0/a.bin", 3)],
    &[("P/1.0.0/a.bin", 1)],
];

/// Ids of all kinds.
fn id_of(number: u64) -> String {
    match number % 3 {
        0 => imei(number),
        1 => format!("A1B2C3D4E5{number:02X}"),
        _ => format!("pump-{number}"),
    }
}

proptest! {
    #[test]
    fn numbers_are_sums_and_bounds_hold_whatever_happens(steps in steps(), max in 0usize..12) {
        const VERSIONS: [&str; 6] = ["1.0.0", "2.0.0", "3.0.0", "0.9.0", "factory", "2012.3.0"];
        let mut house = House::new(max);
        for step in steps {
            let now = house.now;
            match step {
                Step::Asks(id, version, place, listed) => {
                    house.listed = listed;
                    let network = [HOME, NEXT_DOOR, AWAY][place];
                    house.asks(&id_of(id), VERSIONS[version], network);
                }
                Step::Gets(id, content, start, high, whole) => {
                    house.gets(&id_of(id), content, start, high);
                    if whole {
                        let piece = device_transfer(&id_of(id), content, start);
                        house.devices.delivered(piece, (SIZE, false), HOME, now);
                    }
                }
                Step::Answered(id) => house.devices.answered(device(&id_of(id)), now),
                Step::Reports(id, content, code) => {
                    let report = Report::of_code(code);
                    house.devices.reported(device(&id_of(id)), content_id(content), report);
                }
                Step::Later(seconds) => {
                    house.later(seconds);
                }
                Step::Look => house.devices.sweep_silent(now),
                Step::Folder(which) => {
                    house.catalog = folder(FOLDERS[which]);
                    house.devices.catalog(&folder(FOLDERS[which]), now);
                }
                Step::Lifted => {
                    house.pauses();
                    house.devices.targets.resume("P", "2.0.0", now);
                }
                Step::Reload => {
                    // What was written is what would be loaded: the established, as they stand.
                    house.write();
                    let mut loaded = Devices::new(max, now);
                    for (entry, _) in std::mem::take(&mut house.written) {
                        match entry {
                            JournalEntry::Device(entry) => loaded.load(entry),
                            JournalEntry::Forgotten(device) => loaded.load_forgotten(device),
                            _ => {}
                        }
                    }
                    check_sums(&loaded, max);
                    prop_assert_eq!(loaded.established(), loaded.len());
                    let (mut entries, next) = house.devices.records(0, 1000);
                    prop_assert_eq!(next, None);
                    prop_assert_eq!(entries.len(), house.devices.established());
                    let mut fresh = Devices::new(max, now);
                    for entry in entries.clone() {
                        if let JournalEntry::Device(entry) = entry {
                            fresh.load(entry);
                        }
                    }
                    fresh.loaded(0);
                    check_sums(&fresh, max);
                    let (again, _) = fresh.records(0, 1000);
                    prop_assert_eq!(&again, &entries);
                    // From here on as after a restart, but with the journal as far as it was written.
                    house.written = entries.drain(..).map(|entry| (entry, Priority::Major)).collect();
                }
            }
            house.write();
            check_sums(&house.devices, max);
            for (entry, _) in &house.written {
                if let JournalEntry::Device(entry) = entry {
                    prop_assert!(DeviceId::parse(&entry.text) == Some(entry.device));
                }
            }
        }
    }
}

// Case 56.
#[test]
fn devices_are_counted_that_run_a_version_above_every_release_that_is_left() {
    let mut house = House::with(100, &[("P/1.0.2/a.bin", 1), ("P/2012.1.4/b.bin", 2)]);
    for (n, version) in [
        (1, "2012.1.4"),
        (2, "2012.1.4"),
        (3, "2012.001.004"),
        (4, "2012.1.2"),
        (5, "2012.0.9"),
        (6, "beta"),
        (7, "2012.2.0"),
    ] {
        house.asks(&imei(n), version, HOME);
    }
    let above = |house: &House, files: &[(&str, u8)]| -> Vec<(String, u32)> {
        let above = house.devices.above(&folder(files)).into_iter();
        above
            .map(|above| (above.version.to_string(), above.devices))
            .collect()
    };
    let newest = ("2012.2.0".to_owned(), 1);
    assert_eq!(
        above(&house, &[("P/1.0.2/a.bin", 1), ("P/2012.1.4/b.bin", 2)]),
        std::slice::from_ref(&newest)
    );
    assert_eq!(
        above(&house, &[("P/1.0.2/a.bin", 1)]),
        [
            ("2012.001.004".to_owned(), 1),
            ("2012.1.4".to_owned(), 2),
            newest
        ]
    );
    // The whole project was removed; another one has the release.
    assert_eq!(above(&house, &[("Q/1.0.2/a.bin", 1)]), []);
}
