use super::*;

/// Loads everything that was given to the journal into a new run.
fn restarted(fleet: &TestDevices) -> TestDevices {
    let mut next = TestDevices {
        devices: Devices::new(100, fleet.now),
        catalog: folder(&[]),
        now: fleet.now,
        written: Vec::new(),
        listed: false,
    };
    for (entry, _) in &fleet.written {
        match entry.clone() {
            JournalEntry::Device(device) => next.devices.load(device),
            JournalEntry::Forgotten(device) => next.devices.load_forgotten(device),
            JournalEntry::Release(release) => next.devices.load_release(release),
            _ => {}
        }
    }
    next.devices.finish_loading(0);
    next
}

/// Loads a compacted journal into a new run.
fn compacted(fleet: &TestDevices) -> TestDevices {
    let mut entries = fleet.devices.releases.records(0, 100).0;
    entries.extend(fleet.devices.records(0, 100).0);
    let written = entries.into_iter().map(|entry| (entry, Priority::Major));
    restarted(&TestDevices {
        devices: Devices::new(100, fleet.now),
        catalog: folder(&[]),
        now: fleet.now,
        written: written.collect(),
        listed: false,
    })
}

/// Numbers of devices that are counted as confirmed with 1.0.N, for each N from 1 on.
fn confirmed<const N: usize>(fleet: &TestDevices) -> [u32; N] {
    std::array::from_fn(|n| {
        let counts = fleet
            .devices
            .releases
            .counts("P", &format!("1.0.{}", n + 1));
        counts.of(State::Confirmed)
    })
}

/// Offers only 1.0.N to a device that reports another version, and lets the device come back with 1.0.N.
fn confirm(fleet: &mut TestDevices, id: &str, n: u8, before: &str) {
    let version = format!("1.0.{n}");
    let path = format!("P/{version}/a.bin");
    fleet.catalog = folder(&[(&path, n)]);
    let now = fleet.now;
    fleet.devices.catalog(&fleet.catalog, now);
    fleet.wait(100).check(id, before, HOME);
    fleet.download_all(id, n, HOME);
    fleet.wait(100).check(id, &version, HOME);
    assert_eq!(fleet.state(id), Some(State::Confirmed), "{version}");
}

// Case 44.
#[test]
fn confirmed_counts_survive_any_number_of_newer_releases_and_a_restart() {
    let mut fleet = TestDevices::with(100, &[("P/1.0.0/a.bin", 99)]);
    for n in 1..=6 {
        for id in [A, "862991443750000"] {
            confirm(&mut fleet, id, n, &format!("1.0.{}", n - 1));
        }
        let expected: [u32; 6] = std::array::from_fn(|at| if at < n.into() { 2 } else { 0 });
        assert_eq!(confirmed::<6>(&fleet), expected, "after 1.0.{n}");
        assert_eq!(
            confirmed::<6>(&restarted(&fleet)),
            expected,
            "after 1.0.{n}"
        );
        assert_eq!(
            confirmed::<6>(&compacted(&fleet)),
            expected,
            "after 1.0.{n}"
        );
    }
    // The devices send more checks, and nothing is counted twice.
    fleet.wait(600).check(A, "1.0.6", HOME);
    fleet.wait(600).check(A, "1.0.6", HOME);
    assert_eq!(confirmed::<6>(&fleet), [2; 6]);
}

#[test]
fn a_device_that_confirms_before_the_end_of_its_download_is_noted_stays_counted_after_a_restart() {
    let mut fleet = TestDevices::with(100, &[("P/1.0.1/a.bin", 1)]);
    let _release_found = fleet.devices.notices();
    fleet.check(A, "1.0.0", HOME);
    fleet.download(A, 1, 0, SIZE - 10);
    fleet.wait(5).check(A, "1.0.1", HOME);
    assert_eq!(fleet.state(A), Some(State::Confirmed));
    // An invented device can send all these requests.
    assert_eq!(fleet.is_established(A), Some(false));
    assert!(fleet.devices.notices().is_empty());
    fleet.wait(1).download_all(A, 1, HOME);
    assert_eq!(fleet.state(A), Some(State::Confirmed));
    assert_eq!(fleet.is_established(A), Some(true));
    let notices = fleet.devices.notices();
    assert!(
        matches!(&notices[..], [notice] if notice.kind == NoticeKind::FirstConfirmed && &*notice.device == A),
        "{notices:?}"
    );
    assert_eq!(confirmed::<1>(&fleet), [1]);
    assert_eq!(confirmed::<1>(&restarted(&fleet)), [1]);
    assert_eq!(confirmed::<1>(&compacted(&fleet)), [1]);
}

// Case 44.
#[test]
fn a_device_that_installs_a_release_twice_is_confirmed_with_it_once() {
    let mut fleet = TestDevices::with(100, &[("P/1.0.0/a.bin", 99)]);
    confirm(&mut fleet, A, 1, "1.0.0");
    confirm(&mut fleet, A, 2, "1.0.1");
    // Two days later the device is flashed over a cable.
    fleet.wait(2 * DAY);
    confirm(&mut fleet, A, 1, "0.9.0");
    confirm(&mut fleet, A, 2, "1.0.1");
    assert_eq!(confirmed::<2>(&fleet), [1, 1]);
    assert_eq!(confirmed::<2>(&restarted(&fleet)), [1, 1]);
    // The same release with another file.
    fleet.wait(2 * DAY);
    fleet.catalog = folder(&[("P/1.0.2/a.bin", 9)]);
    let now = fleet.now;
    fleet.devices.catalog(&fleet.catalog, now);
    fleet.wait(100).check(A, "1.0.0", HOME);
    let counts = fleet.devices.releases.counts("P", "1.0.2");
    assert_eq!((counts.of(State::Confirmed), counts.total()), (0, 1));
    fleet.download_all(A, 9, HOME);
    fleet.wait(100).check(A, "1.0.2", HOME);
    assert_eq!(confirmed::<2>(&fleet), [1, 1]);
}

// Case 44.
#[test]
fn a_device_that_falls_back_is_not_confirmed_and_one_that_is_forgotten_stays_counted() {
    let mut fleet = TestDevices::with(10, &[("P/1.0.0/a.bin", 99)]);
    for n in 0..9 {
        confirm(&mut fleet, &imei(n), 1, "1.0.0");
    }
    fleet.wait(100).check(&imei(0), "1.0.0", HOME);
    assert_eq!(fleet.state(&imei(0)), Some(State::Reverted));
    assert_eq!(confirmed::<1>(&fleet), [8]);
    // Two new devices replace the two that were not seen for the longest time.
    fleet.wait(8 * DAY);
    for n in [100, 101] {
        fleet.listed = true;
        fleet.check(&imei(n), "1.0.1", HOME);
    }
    let known = |n| fleet.devices.knows(device(&imei(n)));
    assert_eq!([known(0), known(1), known(2)], [true, false, false]);
    assert_eq!(confirmed::<1>(&fleet), [8]);
    assert_eq!(confirmed::<1>(&restarted(&fleet)), [8]);
}

// Case 42.
#[test]
fn the_check_of_a_device_is_known_in_full_also_after_a_restart() {
    let mut fleet = TestDevices::new(100);
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
            catalog: &fleet.catalog,
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
        fleet.devices.record_check(sighting, fleet.now);
        fleet.wait(100).write();
        for devices in [
            &fleet.devices,
            &restarted(&fleet).devices,
            &compacted(&fleet).devices,
        ] {
            let view = devices.view(device(A), Wall::default()).unwrap();
            assert_eq!(view.entry.check(), check);
            assert!(view.entry.profile.is_some());
            assert_eq!(view.entry.network, Some(HOME));
            assert_eq!(devices.releases.devices("P"), 1);
        }
        assert_eq!(fleet.devices.profiles.len(), 1);
    }
    // A journal of an earlier version only states the project, until the device sends its next check.
    let mut old = Devices::new(100, fleet.now);
    for (entry, _) in &fleet.written {
        if let JournalEntry::Device(device) = entry {
            let profile = None;
            old.load(DeviceEntry {
                profile,
                ..device.clone()
            });
        }
    }
    let view = old.view(device(A), Wall::default()).unwrap();
    let check = view.entry.check();
    assert_eq!((check.project(), &view.entry.profile), ("P", &None));
    assert_eq!(check.version, "2012.1.2");
}
