use super::*;

#[test]
fn a_new_device_is_established_by_its_second_sighting_ten_minutes_later() {
    let mut fleet = TestDevices::new(100);
    fleet.check(A, "1.0.0", HOME);
    fleet.wait(PROBATION - 1).check(A, "1.0.0", HOME);
    assert_eq!(fleet.is_established(A), Some(false));
    assert!(fleet.written.is_empty());
    fleet.wait(1).check(A, "1.0.0", HOME);
    assert_eq!(fleet.is_established(A), Some(true));
    assert_eq!(fleet.written.len(), 1);
}

#[test]
fn a_whole_download_a_good_getn_or_the_list_establishes_a_device_at_once() {
    let mut fleet = TestDevices::new(100);
    for id in ["86299144375338", "A1B2C3D4E5F6", "pump-7"] {
        fleet.check(id, "1.0.0", HOME);
        assert_eq!(fleet.is_established(id), Some(false));
    }
    fleet.download_all("86299144375338", 1, HOME);
    fleet.devices.answered(device("A1B2C3D4E5F6"), fleet.now);
    fleet.listed = true;
    fleet.check("pump-7", "1.0.0", HOME);
    fleet.check(A, "1.0.0", HOME);
    fleet.write();
    for id in ["86299144375338", "A1B2C3D4E5F6", "pump-7", A] {
        assert_eq!(fleet.is_established(id), Some(true), "{id}");
    }
    let mut texts = Vec::new();
    for (entry, _) in &fleet.written {
        if let JournalEntry::Device(device) = entry {
            texts.push(&*device.text);
        }
    }
    // Each device is written once, when it is established.
    assert_eq!(texts, ["86299144375338", "A1B2C3D4E5F6", "pump-7", A]);
}

#[test]
fn invented_ids_that_fetch_a_packet_each_are_established_at_a_bounded_rate() {
    let mut fleet = TestDevices::with(100_000, &[("P/1.0.0/a.bin", 9), ("P/2.0.0/a.bin", 1)]);
    for number in 0..5_000 {
        let id = imei(number);
        fleet.check(&id, "1.0.0", HOME);
        let now = fleet.now;
        fleet.devices.answered(device(&id), now);
    }
    let established = (0..5_000)
        .filter(|n| fleet.is_established(&imei(*n)) == Some(true))
        .count();
    assert_eq!(established, 1000);
}

#[test]
fn the_interval_is_the_average_time_between_visits() {
    let mut fleet = TestDevices::new(100);
    let known = |fleet: &TestDevices| {
        fleet
            .devices
            .view(device(A), Wall::default())
            .unwrap()
            .entry
            .interval
    };
    fleet.check(A, "1.0.0", HOME);
    fleet.wait(5).check(A, "1.0.0", HOME);
    assert_eq!(known(&fleet), 0);
    fleet.wait(600).check(A, "1.0.0", HOME);
    assert_eq!(known(&fleet), 600);
    fleet.wait(3).check(A, "1.0.0", HOME);
    fleet.wait(1000).check(A, "1.0.0", HOME);
    assert_eq!(known(&fleet), (3 * 600 + 1000) / 4);
    assert_eq!(interval(0, u32::MAX), MAX_INTERVAL);
}

#[test]
fn a_device_is_written_as_seen_once_a_day() {
    let mut fleet = TestDevices::new(100);
    fleet.listed = true;
    for _ in 0..6 * 24 * 10 {
        fleet.wait(600).check(A, "2.0.0", HOME);
    }
    // One more entry is written when the device is established, although it has no update.
    assert_eq!(fleet.written.len(), 11);
    let mut priorities = fleet.written.iter().map(|(_, priority)| *priority);
    assert!(priorities.all(|priority| priority == Priority::Seen));
}

#[test]
fn established_devices_are_evicted_only_when_they_are_stale() {
    let mut fleet = TestDevices::new(10);
    fleet.listed = true;
    for n in 0..9 {
        fleet.check(&imei(n), "1.0.0", HOME);
    }
    assert_eq!(fleet.devices.established(), 9);
    fleet.check(&imei(20), "1.0.0", HOME);
    assert_eq!(fleet.is_established(&imei(20)), Some(false));
    fleet.wait(STALE_AFTER).check(&imei(0), "1.0.0", HOME);
    fleet.check(&imei(20), "1.0.0", HOME);
    assert_eq!(fleet.is_established(&imei(20)), Some(false));
    fleet.wait(1).check(&imei(20), "1.0.0", HOME);
    assert_eq!(fleet.is_established(&imei(20)), Some(true));
    // Device 1 was not seen for the longest time. Device 0 was seen again and is not stale.
    assert_eq!(fleet.is_established(&imei(0)), Some(true));
    assert_eq!(fleet.is_established(&imei(1)), None);
    let gone = JournalEntry::Forgotten(device(&imei(1)));
    assert!(fleet.written.iter().any(|(entry, _)| *entry == gone));
    assert!(fleet.devices.len() <= 10);
}

#[test]
fn a_flood_of_invented_ids_evicts_no_established_device_and_is_not_written() {
    let mut fleet = TestDevices::new(200_000);
    fleet.listed = true;
    fleet.check_many(0..100_000, HOME);
    fleet.listed = false;
    // One device of the fleet is in the middle of its download.
    fleet.download(&imei(7), 1, 0, 40_000);
    fleet.written.clear();
    for second in 0..500 {
        let from = 1_000_000 + second * 400;
        fleet.wait(1).check_many(from..from + 400, AWAY);
    }
    assert_eq!(fleet.written.len(), 0);
    assert_eq!(fleet.devices.established(), 100_000);
    assert_eq!(fleet.devices.len(), 200_000);
    assert!((0..100_000).all(|n| fleet.is_established(&imei(n)) == Some(true)));
    assert_eq!(fleet.state(&imei(7)), Some(State::Downloading));
    // The same ids are seen again ten minutes later. They are established at a limited rate.
    fleet.wait(PROBATION);
    fleet.check_many(1_190_000..1_200_000, AWAY);
    assert_eq!(fleet.devices.established(), 101_000);
    assert_eq!(fleet.written.len(), 1000);
}

#[test]
fn a_page_begins_where_the_last_one_ended() {
    let mut fleet = TestDevices::new(1000);
    for n in 0..100 {
        fleet.check(&imei(n), if n % 2 == 0 { "1.0.0" } else { "2.0.0" }, HOME);
    }
    fleet.check("a1b2c3d4e5f6", "1.0.0", HOME);
    fleet.check("pump-7", "1.0.0", HOME);
    let all = |filter: Filter| {
        let (mut ids, mut from) = (Vec::new(), 0);
        loop {
            let (page, next) = fleet
                .devices
                .page(&filter, from, 7, Wall::default(), |_| false);
            assert!(page.len() <= 7);
            ids.extend(page.into_iter().map(|view| view.entry.text.into_string()));
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
