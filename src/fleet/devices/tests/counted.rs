use super::*;

#[test]
fn a_report_is_displayed_and_changes_neither_the_progress_nor_the_fuse() {
    let mut fleet = TestDevices::with(100, &[("P/1.0.0/a.bin", 9), ("P/2.0.0/a.bin", 1)]);
    fleet.listed = true;
    fleet.check(A, "1.0.0", HOME);
    fleet.download_all(A, 1, HOME);
    for report in [Report::Failed, Report::Other, Report::Updated] {
        fleet.wait(90);
        fleet.devices.reported(device(A), content_id(1), report);
        // A report about another content has no effect.
        fleet
            .devices
            .reported(device(A), content_id(9), Report::Other);
        assert_eq!(fleet.report(A), Some(report));
        assert_eq!(fleet.state(A), Some(State::Delivered));
        assert_eq!(fleet.results(1), (0, 0));
    }
    fleet.wait(90).check(A, "1.0.0", HOME);
    assert_eq!(fleet.state(A), Some(State::Reverted));
    assert_eq!(fleet.results(1), (0, 1), "the check is the evidence");
}

// Case 22.
#[test]
fn six_devices_that_report_a_failure_and_run_the_new_version_are_confirmed() {
    let mut fleet = TestDevices::with(100, &[("P/1.0.0/a.bin", 9), ("P/2.0.0/a.bin", 1)]);
    fleet.listed = true;
    let home = |number: u64| Network::V4([10, number as u8, 1]);
    for number in 0..6 {
        let id = imei(number);
        fleet.check(&id, "1.0.0", home(number));
        fleet.download_all(&id, 1, home(number));
    }
    fleet.wait(300);
    for number in 0..6 {
        let id = imei(number);
        let (device, content) = (device(&id), content_id(1));
        fleet.devices.reported(device, content, Report::Failed);
        assert_eq!(fleet.state(&id), Some(State::Delivered));
    }
    assert_eq!(fleet.results(1), (0, 0), "a report alone is no evidence");
    fleet.wait(5);
    for number in 0..6 {
        let id = imei(number);
        fleet.check(&id, "2.0.0", home(number));
        assert_eq!(fleet.state(&id), Some(State::Confirmed));
        assert_eq!(fleet.report(&id), Some(Report::Failed));
    }
    assert_eq!(fleet.results(1), (6, 0));
}

#[test]
fn a_release_that_a_person_resumed_is_counted_anew() {
    let mut fleet = TestDevices::with(100, &[("P/1.0.0/a.bin", 9), ("P/2.0.0/a.bin", 1)]);
    for id in [A, &imei(2)] {
        fleet.check(id, "1.0.0", HOME);
        fleet.download_all(id, 1, HOME);
        fleet.wait(90).check(id, "1.0.0", HOME);
    }
    assert_eq!(fleet.results(1), (0, 2));
    let now = fleet.now;
    fleet.pause();
    assert!(fleet.devices.resume("P", "2.0.0", now));
    assert_eq!(fleet.results(1), (0, 0));
    fleet.check(A, "2.0.0", HOME);
    assert_eq!(fleet.results(1), (1, 0));
    fleet.wait(90).check(A, "1.0.0", HOME);
    assert_eq!(fleet.results(1), (0, 1));
}

/// Devices that were first seen three days ago, and a release that has just been published.
fn with_established(numbers: std::ops::Range<u64>) -> TestDevices {
    let mut fleet = TestDevices::with(1000, &[("P/1.0.0/a.bin", 9)]);
    for _ in 0..3 {
        fleet.check_many(numbers.clone(), HOME);
        fleet.wait(DAY);
    }
    fleet.check_many(numbers, HOME);
    fleet.wait(60);
    let files = [("P/1.0.0/a.bin", 9), ("P/2.0.0/a.bin", 1)];
    fleet.catalog = folder(&files);
    let now = fleet.now;
    fleet.devices.catalog(&folder(&files), now);
    fleet
}

#[test]
fn only_established_devices_count_if_there_are_ten() {
    let mut fleet = with_established(0..10);
    for n in 0..5 {
        let id = imei(100 + n);
        fleet.wait(60).check(&id, "1.0.0", AWAY);
        fleet.download_all(&id, 1, AWAY);
        fleet.wait(60).check(&id, "1.0.0", AWAY);
    }
    let census = fleet.census("{}");
    assert_eq!(census.established, 10);
    let group = &census.groups[0];
    assert_eq!(
        (group.outcomes.heard(), group.admitted, group.spread),
        (0, 10, false)
    );
    // The server does not wait for devices that the rules exclude.
    assert_eq!(fleet.census(r#"{ "percent": 0 }"#).groups[0].admitted, 0);
    // Nor for a device that has sent a check since then and was not offered the release.
    fleet.check(&imei(0), "2.0.0", HOME);
    assert_eq!(fleet.census("{}").groups[0].admitted, 9);
    // Nor for devices that were not seen for three of their intervals.
    fleet.wait(4 * DAY);
    assert_eq!(fleet.census("{}").groups[0].admitted, 0);
}

#[test]
fn every_device_with_a_whole_download_counts_if_fewer_than_ten_are_established() {
    let mut fleet = with_established(0..9);
    let versions = ["1.0.0", "1.0.0", "2.0.0", "1.0.0", "1.0.0"];
    for (n, version) in (100..).zip(versions) {
        let (id, network) = (imei(n), if n == 100 { AWAY } else { HOME });
        fleet.wait(60).check(&id, "1.0.0", network);
        fleet.download_all(&id, 1, network);
        fleet.wait(60).check(&id, version, network);
    }
    fleet.check(&imei(200), "1.0.0", HOME);
    let census = fleet.census("{}");
    assert_eq!(census.established, 9);
    let [all, content_group] = &census.groups[..] else {
        panic!("one content");
    };
    assert_eq!(
        (all.outcomes.confirmed, all.outcomes.reverted, all.admitted),
        (1, 4, 5)
    );
    assert!(all.reverted_spread && all.spread);
    assert_eq!(content_group, all);
    // Silence is an outcome, too.
    fleet.check(&imei(101), "1.0.0", HOME);
    fleet.download_all(&imei(200), 1, HOME);
    assert_eq!(fleet.census("{}").groups[0].outcomes.heard(), 5);
    fleet.wait(3 * DAY + 1);
    for _ in 0..2 {
        fleet.devices.sweep_silent(fleet.now);
    }
    assert_eq!(fleet.census("{}").groups[0].outcomes.silent, 1);
}

// Case 56.
#[test]
fn devices_with_a_version_above_every_remaining_release_are_counted() {
    let mut fleet = TestDevices::with(100, &[("P/1.0.2/a.bin", 1), ("P/2012.1.4/b.bin", 2)]);
    for (n, version) in [
        (1, "2012.1.4"),
        (2, "2012.1.4"),
        (3, "2012.001.004"),
        (4, "2012.1.2"),
        (5, "2012.0.9"),
        (6, "beta"),
        (7, "2012.2.0"),
    ] {
        fleet.check(&imei(n), version, HOME);
    }
    let above = |fleet: &TestDevices, files: &[(&str, u8)]| -> Vec<(String, u32)> {
        let mut walk = fleet.devices.above_walk(&folder(files));
        while !fleet.devices.walk_above(&mut walk, 2) {}
        let above = fleet.devices.above(&walk).into_iter();
        above
            .map(|above| (above.version.to_string(), above.devices))
            .collect()
    };
    let newest = ("2012.2.0".to_owned(), 1);
    assert_eq!(
        above(&fleet, &[("P/1.0.2/a.bin", 1), ("P/2012.1.4/b.bin", 2)]),
        std::slice::from_ref(&newest)
    );
    assert_eq!(
        above(&fleet, &[("P/1.0.2/a.bin", 1)]),
        [
            ("2012.001.004".to_owned(), 1),
            ("2012.1.4".to_owned(), 2),
            newest
        ]
    );
    // The whole project was removed. Another project has the release.
    assert_eq!(above(&fleet, &[("Q/1.0.2/a.bin", 1)]), []);
}
