mod confirmed;
mod counted;
#[cfg(feature = "operator")]
mod last_steps;
mod membership;
mod steps;

use super::*;
use crate::decision::{Known, Notes, Question, decide};
use crate::firmware::catalog::sample::{self, content_id};
use crate::firmware::rules::Rules;
use crate::fleet::clock::Wall;
use crate::fleet::entry::DeviceEntry;
use crate::fleet::progress::{Outcome, State, TargetId};
use crate::fleet::releases::StateCounts;
use crate::fleet::releases::fuse::Census;
use crate::fleet::report::Report;
use crate::fleet::view::Filter;
use proptest::prelude::*;
use std::collections::BTreeMap;
const SIZE: u64 = 100_000;

const START: Stamp = Stamp(1 << 31);

const HOME: Network = Network::V4([192, 0, 2]);

/// A /24 next to [`HOME`] in the same /16.
const NEXT_DOOR: Network = Network::V4([192, 0, 3]);

const AWAY: Network = Network::V4([198, 51, 100]);

/// Catalogue of a folder with these files.
fn folder(files: &[(&str, u8)]) -> Catalog {
    sample::catalogue(files, SIZE, ("P/release.json", "{}"))
}

/// The devices of one server, and the entries that were written about them.
struct TestDevices {
    devices: Devices,
    catalog: Catalog,
    now: Stamp,
    written: Vec<(JournalEntry, Priority)>,
    listed: bool,
}

impl TestDevices {
    fn new(max: usize) -> TestDevices {
        TestDevices::with(max, &[("P/2.0.0/a.bin", 1)])
    }

    fn with(max: usize, files: &[(&str, u8)]) -> TestDevices {
        let mut fleet = TestDevices {
            devices: Devices::new(max, START),
            catalog: folder(files),
            now: START,
            written: Vec::new(),
            listed: false,
        };
        fleet.devices.catalog(&fleet.catalog, START);
        fleet.devices.take().for_each(drop);
        fleet
    }

    fn wait(&mut self, seconds: u32) -> &mut TestDevices {
        self.now = self.now.plus(seconds);
        self
    }

    fn check(&mut self, id: &str, version: &str, network: Network) {
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
        self.devices.record_check(sighting, self.now);
        self.write();
    }

    /// Lets many devices send the same check.
    fn check_many(&mut self, numbers: std::ops::Range<u64>, network: Network) {
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
            self.devices.record_check(sighting, self.now);
            self.written.extend(self.devices.take());
        }
    }

    fn write(&mut self) {
        self.written.extend(self.devices.take());
    }

    fn download(&mut self, id: &str, content: u8, start: u64, high: u64) {
        let transfer = device_transfer(id, content, start);
        self.devices.begun(transfer);
        self.devices.acknowledged(transfer, high, self.now);
        self.write();
    }

    fn download_all(&mut self, id: &str, content: u8, network: Network) {
        self.download(id, content, 0, SIZE);
        let transfer = device_transfer(id, content, 0);
        self.devices
            .delivered(transfer, (SIZE, false), network, self.now);
        self.write();
    }

    fn report(&self, id: &str) -> Option<Report> {
        self.devices.table.device(device(id))?.report
    }

    fn state(&self, id: &str) -> Option<State> {
        Some(self.devices.table.device(device(id))?.progress?.state)
    }

    fn is_established(&self, id: &str) -> Option<bool> {
        let record = self.devices.table.device(device(id))?;
        Some(record.is_established())
    }

    /// Lets the fuse pause release 2.0.0, if there is one.
    fn pause(&mut self) {
        if let Some(mut entry) = self.devices.releases.entry("P", "2.0.0") {
            entry.fused = Some("fuse: 3 of 9 devices".into());
            self.devices.load_release(entry);
        }
    }

    /// Numbers of devices whose last result with a content is "confirmed" and "reverted".
    fn results(&self, content: u8) -> (u32, u32) {
        let all = self
            .devices
            .table
            .from(0)
            .filter_map(|(_, record)| record.progress);
        let of_content = all.filter(|progress| {
            let target = self.devices.releases.get(progress.target).unwrap();
            target.content == content_id(content)
        });
        of_content.fold((0, 0), |(confirmed, reverted), progress| {
            match progress.outcome {
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

const A: &str = "862991443753386";

#[test]
fn an_update_goes_from_offered_to_confirmed() {
    let mut fleet = TestDevices::new(100);
    fleet.check(A, "1.0.0", HOME);
    assert_eq!(fleet.state(A), Some(State::Offered));
    fleet.download(A, 1, 0, 40_000);
    assert_eq!(fleet.state(A), Some(State::Downloading));
    assert!(fleet.written.is_empty());
    // A range of the same download.
    fleet.download(A, 1, 40_000, SIZE);
    let rest = device_transfer(A, 1, 40_000);
    fleet
        .devices
        .delivered(rest, (SIZE, false), HOME, fleet.now);
    assert_eq!(fleet.state(A), Some(State::Delivered));
    fleet.wait(30).check(A, "2.0.0", NEXT_DOOR);
    assert_eq!(fleet.state(A), Some(State::Confirmed));
    let counts = fleet.devices.releases.counts("P", "2.0.0");
    assert_eq!((counts.of(State::Confirmed), counts.total()), (1, 1));
    // The device is offered nothing more, and no further entry is written about it that day.
    fleet.write();
    let written = fleet.written.len();
    fleet.wait(3600).check(A, "2.0.0", HOME);
    assert_eq!(fleet.written.len(), written);
}

#[test]
fn a_repeated_offer_continues_the_update_and_another_content_begins_a_new_one() {
    let mut fleet = TestDevices::new(100);
    fleet.check(A, "1.0.0", HOME);
    fleet.download(A, 1, 0, 40_000);
    fleet.wait(600).check(A, "1.0.0", HOME);
    assert_eq!(fleet.state(A), Some(State::Downloading));
    fleet.catalog = folder(&[("P/2.0.0/a.bin", 2)]);
    let (catalog, now) = (folder(&[("P/2.0.0/a.bin", 2)]), fleet.now);
    fleet.devices.catalog(&catalog, now);
    fleet.check(A, "1.0.0", HOME);
    assert_eq!(fleet.state(A), Some(State::Offered));
    // Bytes of the other content have no effect.
    fleet.download(A, 1, 0, 50_000);
    assert_eq!(fleet.state(A), Some(State::Offered));
}

#[test]
fn only_a_check_from_the_network_of_the_delivery_is_a_revert() {
    let mut fleet = TestDevices::new(100);
    fleet.check(A, "1.0.0", HOME);
    fleet.download_all(A, 1, HOME);
    fleet.wait(3).check(A, "1.0.0", HOME);
    assert_eq!(fleet.state(A), Some(State::Delivered));
    // A forger sends two checks. Its network does not replace that of the device.
    fleet.wait(100).check(A, "1.0.0", AWAY);
    fleet.wait(100).check(A, "1.0.0", AWAY);
    assert_eq!(fleet.state(A), Some(State::Delivered));
    fleet.wait(100).check(A, "0.9.0", NEXT_DOOR);
    assert_eq!(fleet.state(A), Some(State::Reverted));
}

#[test]
fn a_forged_check_with_the_new_version_hides_no_revert() {
    let mut fleet = TestDevices::with(100, &[("P/1.0.0/a.bin", 9), ("P/2.0.0/a.bin", 1)]);
    fleet.listed = true;
    fleet.check(A, "1.0.0", HOME);
    fleet.download_all(A, 1, HOME);
    fleet.wait(90).check(A, "2.0.0", AWAY);
    fleet.wait(90).check(A, "1.0.0", HOME);
    assert_eq!(fleet.state(A), Some(State::Reverted));
    assert_eq!(fleet.results(1), (0, 1));
}

#[test]
fn a_device_without_a_check_is_silent_after_three_intervals_of_uptime() {
    let mut fleet = TestDevices::new(100);
    fleet.check(A, "1.0.0", HOME);
    fleet.wait(700).check(A, "1.0.0", HOME);
    fleet.download_all(A, 1, HOME);
    assert!(fleet.devices.due().unwrap() < fleet.now);
    fleet.wait(3 * 700);
    fleet.devices.sweep_silent(fleet.now);
    assert_eq!(fleet.state(A), Some(State::Delivered));
    // There is nothing to search for until then.
    assert_eq!(fleet.devices.due(), Some(fleet.now.plus(1)));
    fleet.wait(1);
    fleet.devices.sweep_silent(fleet.now);
    assert_eq!(fleet.state(A), Some(State::Silent));
    fleet.devices.sweep_silent(fleet.now);
    assert_eq!(fleet.devices.due(), None);
    // After a restart the waiting time begins anew.
    let (mut entries, _) = fleet.devices.records(0, 1000);
    let Some(JournalEntry::Device(mut entry)) = entries.pop() else {
        panic!("one device was written");
    };
    entry.progress.as_mut().unwrap().state = State::Delivered;
    let began = fleet.now.plus(30 * DAY);
    fleet.devices = Devices::new(100, began);
    fleet.devices.load(entry);
    fleet.devices.finish_loading(30 * DAY);
    fleet.devices.sweep_silent(began.plus(3 * 700));
    assert_eq!(fleet.state(A), Some(State::Delivered));
    fleet.devices.sweep_silent(began.plus(3 * 700 + 1));
    assert_eq!(fleet.state(A), Some(State::Silent));
}

#[test]
fn a_sweep_during_which_a_device_changed_is_repeated() {
    let mut fleet = TestDevices::new(10_000);
    for number in 0..3000 {
        let imei = (862_991_440_000_000_u64 + number).to_string();
        fleet.check(&imei, "1.0.0", HOME);
    }
    let first = "862991440000000";
    fleet.devices.sweep_silent(fleet.now);
    assert!(fleet.devices.due().unwrap() < fleet.now);
    // The sweep has already passed this device.
    fleet.download_all(first, 1, HOME);
    fleet.devices.sweep_silent(fleet.now);
    assert!(fleet.devices.due().unwrap() < fleet.now);
    fleet.devices.sweep_silent(fleet.now);
    fleet.devices.sweep_silent(fleet.now);
    assert_eq!(fleet.devices.due(), Some(fleet.now.plus(3 * DAY + 1)));
    fleet.wait(3 * DAY + 1);
    for _ in 0..2 {
        fleet.devices.sweep_silent(fleet.now);
    }
    assert_eq!(fleet.state(first), Some(State::Silent));
}
