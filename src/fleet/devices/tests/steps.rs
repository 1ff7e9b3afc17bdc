use super::*;

/// Checks that every number that is kept is the sum over the records, and that no bound is exceeded.
fn check_sums(devices: &Devices, max: usize) {
    let mut counts: BTreeMap<TargetId, StateCounts> = BTreeMap::new();
    let mut reverted: BTreeMap<TargetId, u32> = BTreeMap::new();
    let mut ranks = [0, 0];
    let mut others = 0;
    for (slot, record) in devices.table.from(0) {
        ranks[record.rank as usize] += 1;
        assert_eq!(devices.table.find(record.device), Some(slot));
        others += usize::from(matches!(record.device, DeviceId::Other(_)));
        let Some(progress) = record.progress else {
            continue;
        };
        let target = devices.releases.get(progress.target).unwrap();
        assert!(u64::from(progress.reached) <= target.size);
        counts.entry(progress.target).or_default().by_state[progress.state as usize] += 1;
        if progress.outcome.is_some_and(Outcome::is_revert) {
            *reverted.entry(progress.target).or_default() += 1;
        }
    }
    for (id, target) in devices.releases.iter() {
        assert_eq!(target.counts, counts.remove(&id).unwrap_or_default());
        assert_eq!(target.reverted, reverted.remove(&id).unwrap_or_default());
    }
    assert!(counts.is_empty() && reverted.is_empty());
    assert_eq!(devices.table.texts(), others);
    assert_eq!(devices.len(), ranks[0] + ranks[1]);
    assert_eq!(devices.established(), ranks[1]);
    assert!(devices.len() <= max);
    assert!(devices.established() <= devices.most_established());
}

#[derive(Clone, Debug)]
enum Step {
    Check(u64, usize, usize, bool),
    Download(u64, u8, u64, u64, bool),
    Answer(u64),
    Report(u64, u8, i64),
    Wait(u32),
    Sweep,
    Folder(usize),
    Resume,
    Reload,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let id = 0u64..14;
    let place = prop_oneof![Just(0), Just(SIZE / 2), Just(SIZE)];
    let step = prop_oneof![
        8 => (id.clone(), 0usize..6, 0usize..3, proptest::bool::weighted(0.2))
            .prop_map(|(id, version, place, listed)| Step::Check(id, version, place, listed)),
        6 => (id.clone(), 1u8..4, place.clone(), place, any::<bool>())
            .prop_map(|(id, content, start, high, whole)| Step::Download(id, content, start, high, whole)),
        1 => id.clone().prop_map(Step::Answer),
        1 => (id, 1u8..4, 0i64..4).prop_map(|(id, content, code)| Step::Report(id, content, code)),
        4 => prop_oneof![Just(1u32), Just(61), Just(700), Just(DAY), Just(9 * DAY)].prop_map(Step::Wait),
        1 => Just(Step::Sweep),
        1 => (0usize..3).prop_map(Step::Folder),
        1 => Just(Step::Resume),
        1 => Just(Step::Reload),
    ];
    proptest::collection::vec(step, 1..120)
}

const FOLDERS: [&[(&str, u8)]; 3] = [
    &[("P/2.0.0/a.bin", 1)],
    &[("P/2.0.0/a.bin", 2), ("P/3.0.0/a.bin", 3)],
    &[("P/1.0.0/a.bin", 1)],
];

/// Returns ids of all kinds.
fn id_of(number: u64) -> String {
    match number % 3 {
        0 => imei(number),
        1 => format!("A1B2C3D4E5{number:02X}"),
        _ => format!("pump-{number}"),
    }
}

proptest! {
    #[test]
    fn numbers_are_sums_and_bounds_hold_after_any_steps(steps in steps(), max in 0usize..12) {
        const VERSIONS: [&str; 6] = ["1.0.0", "2.0.0", "3.0.0", "0.9.0", "factory", "2012.3.0"];
        let mut fleet = TestDevices::new(max);
        for step in steps {
            let now = fleet.now;
            match step {
                Step::Check(id, version, place, listed) => {
                    fleet.listed = listed;
                    let network = [HOME, NEXT_DOOR, AWAY][place];
                    fleet.check(&id_of(id), VERSIONS[version], network);
                }
                Step::Download(id, content, start, high, whole) => {
                    fleet.download(&id_of(id), content, start, high);
                    if whole {
                        let transfer = device_transfer(&id_of(id), content, start);
                        fleet.devices.delivered(transfer, (SIZE, false), HOME, now);
                    }
                }
                Step::Answer(id) => fleet.devices.answered(device(&id_of(id)), now),
                Step::Report(id, content, code) => {
                    let report = Report::of_code(code);
                    fleet.devices.reported(device(&id_of(id)), content_id(content), report);
                }
                Step::Wait(seconds) => {
                    fleet.wait(seconds);
                }
                Step::Sweep => fleet.devices.sweep_silent(now),
                Step::Folder(which) => {
                    fleet.catalog = folder(FOLDERS[which]);
                    fleet.devices.catalog(&folder(FOLDERS[which]), now);
                }
                Step::Resume => {
                    fleet.pause();
                    fleet.devices.releases.resume("P", "2.0.0", now);
                }
                Step::Reload => {
                    // A restart loads the entries that were written: the established devices, in their current form.
                    fleet.write();
                    let mut loaded = Devices::new(max, now);
                    for (entry, _) in std::mem::take(&mut fleet.written) {
                        match entry {
                            JournalEntry::Device(entry) => loaded.load(entry),
                            JournalEntry::Forgotten(device) => loaded.load_forgotten(device),
                            _ => {}
                        }
                    }
                    check_sums(&loaded, max);
                    prop_assert_eq!(loaded.established(), loaded.len());
                    let (mut entries, next) = fleet.devices.records(0, 1000);
                    prop_assert_eq!(next, None);
                    prop_assert_eq!(entries.len(), fleet.devices.established());
                    let mut fresh = Devices::new(max, now);
                    for entry in entries.clone() {
                        if let JournalEntry::Device(entry) = entry {
                            fresh.load(entry);
                        }
                    }
                    fresh.finish_loading(0);
                    check_sums(&fresh, max);
                    let (again, _) = fresh.records(0, 1000);
                    prop_assert_eq!(&again, &entries);
                    // Continue as after a restart, but with everything written to the journal.
                    fleet.written = entries.drain(..).map(|entry| (entry, Priority::Major)).collect();
                }
            }
            fleet.write();
            check_sums(&fleet.devices, max);
            for (entry, _) in &fleet.written {
                if let JournalEntry::Device(entry) = entry {
                    prop_assert!(DeviceId::parse(&entry.text) == Some(entry.device));
                }
            }
        }
    }
}
