use super::*;

/// The step, its version and its reason, newest first.
fn texts(fleet: &TestDevices, id: &str) -> Vec<String> {
    let steps = fleet.devices.steps(device(id)).unwrap().steps;
    let text = |step: StepView| {
        let reason = step.reason.unwrap_or_default();
        format!("{} {}{reason}", step.word, step.version)
    };
    steps.into_iter().map(text).collect()
}

#[test]
fn steps_are_shown_newest_first_and_a_repeated_reply_once() {
    let mut fleet = TestDevices::new(100);
    fleet.check(A, "1.0.0", HOME);
    fleet.wait(5).download_all(A, 1, HOME);
    for _ in 0..3 {
        fleet.wait(600).check(A, "2.0.0", HOME);
    }
    let expected = [
        "refused nothing newer",
        "confirmed 2.0.0",
        "version 2.0.0",
        "delivered 2.0.0",
        "downloading 2.0.0",
        "offered 2.0.0",
        "seen ",
    ];
    assert_eq!(texts(&fleet, A), expected);
    let view = fleet.devices.steps(device(A)).unwrap();
    assert_eq!(view.since, START);
    assert_eq!(view.refusal, Some(("nothing newer".into(), fleet.now)));
    let times: Vec<u32> = view.steps.iter().map(|step| step.at.since(START)).collect();
    assert_eq!(times, [605, 605, 605, 5, 5, 0, 0]);
    assert_eq!(fleet.devices.steps(device(&imei(1))), None);
    // Another device has its own steps.
    fleet.wait(1).check(&imei(2), "2.0.0", HOME);
    assert_eq!(texts(&fleet, &imei(2)), ["refused nothing newer", "seen "]);
    assert_eq!(texts(&fleet, A), expected);
}

#[test]
fn a_refusal_between_two_offers_of_the_same_release_is_a_step_and_so_is_the_second_offer() {
    let mut fleet = TestDevices::new(100);
    fleet.check(A, "1.0.0", HOME);
    fleet.catalog = folder(&[("P/0.9.0/a.bin", 2)]);
    fleet.wait(60).check(A, "1.0.0", HOME);
    let refused = fleet.now;
    fleet.catalog = folder(&[("P/2.0.0/a.bin", 1)]);
    fleet.wait(60).check(A, "1.0.0", HOME);
    fleet.wait(60).check(A, "1.0.0", HOME);
    let steps = [
        "offered 2.0.0",
        "refused nothing newer",
        "offered 2.0.0",
        "seen ",
    ];
    assert_eq!(texts(&fleet, A), steps);
    let refusal = fleet.devices.steps(device(A)).unwrap().refusal;
    assert_eq!(refusal, Some(("nothing newer".into(), refused)));
}

#[test]
fn no_more_than_twenty_steps_are_shown() {
    let mut fleet = TestDevices::new(100);
    for n in 0..12 {
        fleet.wait(60).check(A, &format!("3.0.{n}"), HOME);
    }
    let steps = texts(&fleet, A);
    assert_eq!(steps.len(), 20);
    assert_eq!(
        (&*steps[0], &*steps[1]),
        ("refused nothing newer", "version 3.0.11")
    );
}

#[test]
fn a_device_of_an_earlier_run_shows_the_steps_in_its_record() {
    let mut fleet = TestDevices::new(100);
    fleet.listed = true;
    fleet.check(A, "1.0.0", HOME);
    fleet.wait(60).download_all(A, 1, HOME);
    fleet.write();
    let mut loaded = Devices::new(100, fleet.now);
    for (entry, _) in std::mem::take(&mut fleet.written) {
        if let JournalEntry::Device(entry) = entry {
            loaded.load(entry);
        }
    }
    fleet.devices = loaded;
    assert_eq!(texts(&fleet, A), ["delivered 2.0.0", "seen "]);
    let view = fleet.devices.steps(device(A)).unwrap();
    assert_eq!((view.since, view.refusal), (fleet.now, None));
}

#[test]
fn invented_devices_evict_no_step_and_a_full_memory_is_searched_fast() {
    let mut fleet = TestDevices::new(100_000);
    fleet.listed = true;
    fleet.check(A, "1.0.0", HOME);
    let steps = texts(&fleet, A);
    fleet.listed = false;
    // Each device makes one step.
    fleet.wait(60).check_many(0..66_000, AWAY);
    assert_eq!(texts(&fleet, A), steps);
    assert_eq!(fleet.devices.steps(device(A)).unwrap().since, START);
    // The steps of an established device are still recorded, and evict the oldest ones.
    fleet.wait(60).check(A, "2.0.0", HOME);
    assert_eq!(
        texts(&fleet, A)[..2],
        ["refused nothing newer", "confirmed 2.0.0"]
    );
    let began = std::time::Instant::now();
    for _ in 0..20 {
        assert!(!texts(&fleet, A).is_empty());
    }
    println!("{:?} for one device among all steps", began.elapsed() / 20);
}
