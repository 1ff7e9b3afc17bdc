use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::firmware::audience::DeviceId;
use crate::fleet::clock::TRUSTED_FROM;
use crate::fleet::devices::VersionWalk;
use crate::fleet::entry::{DeviceEntry, JournalEntry, Priority, ProgressEntry};
use crate::fleet::journal::{Journal, Loaded};
use crate::fleet::{Fleet, FleetSettings};
use crate::os::scratch::Scratch;
use crate::state::StateFolder;

const NOW: Stamp = Stamp(1 << 31);

/// Time at which an hour and a day begin.
const UNIX: i64 = TRUSTED_FROM + 100 * 86_400;

fn key(version: &str) -> VersionKey {
    VersionKey {
        project: ProjectId::default(),
        version: ShortVersion::of(version),
    }
}

fn counted(counts: &[(&str, u32)]) -> Counted {
    let counts = counts.iter().map(|(version, running)| {
        let counts = VersionCounts {
            running: *running,
            ..VersionCounts::default()
        };
        (key(version), counts)
    });
    counts.collect()
}

fn started() -> History {
    let mut history = History::default();
    history.start();
    history
}

/// Numbers of devices that ran a version, by number of the sample.
fn running(samples: &Samples, version: &str) -> Vec<(u32, u32)> {
    let counts = samples.of(key(version));
    let counts = counts.filter_map(|(number, counts)| Some((number, counts?.running)));
    counts.collect()
}

#[test]
fn hours_become_days_and_no_more_are_kept_than_two_weeks_and_a_year() {
    let mut history = started();
    let first = hour_of(UNIX);
    let hours = 400 * 24;
    for hour in 0..hours {
        let unix = UNIX + i64::from(hour) * HOUR;
        history.take(unix, counted(&[("1.0.0", 1 + hour)])).unwrap();
    }
    let kept = running(history.hours(), "1.0.0");
    assert_eq!(kept.len(), HOURS);
    assert_eq!(kept.first(), Some(&(first + hours - 336, 1 + hours - 336)));
    assert_eq!(kept.last(), Some(&(first + hours - 1, hours)));
    let kept = running(history.days(), "1.0.0");
    assert_eq!(kept.len(), DAYS);
    // Each day has the last count of that day.
    for (day, devices) in kept {
        assert_eq!(devices, (day + 1) * 24 - first);
    }
}

#[test]
fn an_hour_without_a_sample_is_missing_and_one_without_a_change_is_not() {
    let mut history = started();
    let at = |hour: i64| UNIX + hour * HOUR;
    assert_eq!(history.take(at(0), Counted::new()), None);
    for hour in [1, 2, 5] {
        let (_, changes) = history.take(at(hour), counted(&[("1.0.0", 7)])).unwrap();
        assert_eq!(changes.len(), usize::from(hour == 1));
    }
    let first = hour_of(UNIX);
    let expected = [(first + 1, 7), (first + 2, 7), (first + 5, 7)];
    assert_eq!(running(history.hours(), "1.0.0"), expected);
    assert_eq!(running(history.hours(), "2.0.0"), []);
    // A version without devices ends with a 0.
    history.take(at(6), Counted::new()).unwrap();
    assert_eq!(
        running(history.hours(), "1.0.0").last(),
        Some(&(first + 6, 0))
    );
}

#[test]
fn samples_are_due_at_the_beginning_of_an_hour_and_once_in_each() {
    let mut history = History::default();
    assert_eq!(history.due(), None);
    assert!(!history.advance(NOW, UNIX));
    history.start();
    assert_eq!(history.due(), Some(Stamp::default()));
    // A clock that was never set.
    assert!(!history.advance(NOW, 600));
    assert!(history.advance(NOW, UNIX + 600));
    assert_eq!(history.due(), Some(NOW.plus(3001)));
    history.take(UNIX + 600, Counted::new());
    assert!(!history.advance(NOW.plus(3000), UNIX + 3599));
    assert_eq!(history.due(), Some(NOW.plus(3002)));
    assert!(history.advance(NOW.plus(3002), UNIX + 3601));
}

#[test]
fn a_clock_that_steps_back_causes_no_second_sample_of_an_hour() {
    let mut history = started();
    let at = |hour: i64| UNIX + hour * HOUR;
    for hour in 0..10 {
        history.take(at(hour), counted(&[("1.0.0", 1)])).unwrap();
    }
    // The clock steps back by three hours, and again within an hour.
    for (n, hour) in [6, 6, 7, 8, 9].into_iter().enumerate() {
        let now = NOW.plus(n as u32 * 1800);
        assert!(!history.advance(now, at(hour)), "{hour}");
    }
    assert!(history.advance(NOW.plus(9000), at(10)));
    history.take(at(10), counted(&[("1.0.0", 2)])).unwrap();
    let hours = running(history.hours(), "1.0.0");
    assert!(hours.is_sorted() && hours.len() == 11, "{hours:?}");
}

#[test]
fn samples_of_the_future_are_dropped_when_the_clock_was_behind_them_for_a_day() {
    let mut history = started();
    let at = |hour: i64| UNIX + hour * HOUR;
    history.take(at(0), counted(&[("1.0.0", 1)])).unwrap();
    history.take(at(1), counted(&[("1.0.0", 2)])).unwrap();
    for hour in [12, 24 * 9000] {
        history.take(at(hour), counted(&[("1.0.0", 9)])).unwrap();
    }
    let is_due =
        |history: &mut History, hour: u32| history.advance(NOW.plus(hour * 3602), at(hour.into()));
    let waited = (2..).take_while(|hour| !is_due(&mut history, *hour));
    assert_eq!(waited.count(), MAX_BEHIND as usize);
    let hour = i64::from(2 + MAX_BEHIND);
    assert!(history.drop_future(at(hour)));
    // The sample of hour 12 now lies in the past.
    history.take(at(hour), counted(&[("1.0.0", 3)])).unwrap();
    let first = hour_of(UNIX);
    let expected = [(first, 1), (first + 1, 2), (first + 12, 9), (first + 26, 3)];
    assert_eq!(running(history.hours(), "1.0.0"), expected);
    let day = first / 24;
    assert_eq!(running(history.days(), "1.0.0"), [(day, 9), (day + 1, 3)]);
    assert!(!is_due(&mut history, 26) && is_due(&mut history, 27));
}

#[test]
fn changes_that_future_hours_made_to_this_day_are_undone() {
    let mut history = started();
    let at = |hour: i64| UNIX + hour * HOUR;
    history
        .take(at(0), counted(&[("1.0.0", 1), ("2.0.0", 5)]))
        .unwrap();
    history.take(at(9), counted(&[("1.0.0", 9)])).unwrap();
    assert!(history.drop_future(at(3)));
    history
        .take(at(3), counted(&[("1.0.0", 1), ("2.0.0", 5)]))
        .unwrap();
    let day = hour_of(UNIX) / 24;
    assert_eq!(running(history.days(), "1.0.0"), [(day, 1)]);
    assert_eq!(running(history.days(), "2.0.0"), [(day, 5)]);
}

#[test]
fn of_invented_versions_those_with_the_most_devices_are_kept_and_memory_is_bounded() {
    let mut history = started();
    for hour in 0..60_u32 {
        let invented = (0..600_u32).map(|n| (format!("{hour}.{n}"), 1));
        let real = (0..100_u32).map(|n| (format!("real-{n}"), 2 + n));
        let versions = invented.chain(real).map(|(version, running)| {
            let counts = VersionCounts {
                running,
                ..VersionCounts::default()
            };
            (key(&version), counts)
        });
        let unix = UNIX + i64::from(hour) * HOUR;
        let (_, changes) = history.take(unix, versions.collect()).unwrap();
        assert!(changes.len() <= 2 * VERSIONS);
        assert!(history.hours().changes() + history.days().changes() <= CHANGES + 2 * VERSIONS);
    }
    for n in 0..100_u32 {
        let of = running(history.hours(), &format!("real-{n}"));
        assert_eq!(of.last().map(|(_, devices)| *devices), Some(2 + n));
    }
}

/// Lines of a journal for a history: each sample, followed by its changes.
type Lines = Vec<(u32, bool, Option<(VersionKey, VersionCounts)>)>;

fn lines(samples: &Samples, is_day: bool) -> Lines {
    let each = samples.from(0).flat_map(|(number, changes)| {
        let changes = changes.iter().map(|change| Some(*change));
        std::iter::once(None)
            .chain(changes)
            .map(move |change| (number, is_day, change))
    });
    each.collect()
}

fn loaded(lines: &Lines) -> History {
    let mut history = History::default();
    for (number, is_day, change) in lines {
        history.load(*number, *is_day, *change);
    }
    history.start();
    history
}

const NAMES: [&str; 4] = ["1.0.0", "1.1.0", "2.0.0", "2.0.1"];

proptest! {
    #[test]
    fn samples_have_the_counts_also_after_a_restart(
        counts in proptest::collection::vec(
            (1u32..40, proptest::array::uniform4(0u32..3)), 1..120
        ),
        cut in 0usize..1000,
    ) {
        let mut history = started();
        let (mut hour, mut journal) = (0, Lines::new());
        let mut hours: BTreeMap<u32, [u32; 4]> = BTreeMap::new();
        for (gap, devices) in &counts {
            hour += gap;
            let some: Vec<_> = NAMES.into_iter().zip(*devices).collect();
            let taken = history.take(UNIX + i64::from(hour) * HOUR, counted(&some));
            if let Some((number, changes)) = taken {
                journal.push((number, false, None));
                journal.extend(changes.into_iter().map(|change| (number, false, Some(change))));
                hours.insert(number, *devices);
            }
        }
        let days: BTreeMap<u32, [u32; 4]> = hours.iter().map(|(hour, n)| (hour / 24, *n)).collect();
        // A compaction, and a sample that is taken during it.
        let mut compacted = lines(history.hours(), false);
        compacted.extend(lines(history.days(), true));
        let last = hours.keys().next_back().copied();
        let at = cut % (compacted.len() + 1);
        let tail: Lines = journal.iter().filter(|(number, ..)| Some(*number) == last).copied().collect();
        compacted.splice(at..at, tail);
        for history in [&history, &loaded(&journal), &loaded(&compacted)] {
            for (at, name) in NAMES.into_iter().enumerate() {
                for (samples, model, most) in [(history.hours(), &hours, HOURS), (history.days(), &days, DAYS)] {
                    let kept = samples.of(key(name)).map(|(n, c)| (n, c.map_or(0, |c| c.running)));
                    let kept: Vec<_> = kept.collect();
                    let expected: Vec<_> = model.iter().map(|(n, devices)| (*n, devices[at])).collect();
                    let from = expected.len().saturating_sub(most);
                    prop_assert_eq!(kept, expected[from..].to_vec(), "{}", name);
                }
            }
            let current: Vec<_> = hours.values().next_back().into_iter().flatten().copied().collect();
            let known = NAMES.map(|name| history.current.get(&key(name)).map_or(0, |c| c.running));
            prop_assert!(current.is_empty() || current == known);
        }
    }
}

/// Fills a state folder with devices, some of which run 1.0.0 and some 2.0.0.
fn write_devices(folder: &StateFolder, devices: u64) {
    let mut journal = Journal::start(folder.path(), NOW, UNIX, &Loaded::default(), 0).unwrap();
    for n in 0..devices {
        let text = (862_991_443_000_000 + n).to_string();
        let device = DeviceId::parse(&text).unwrap();
        let version = if n % 3 == 0 { "2.0.0" } else { "1.0.0" };
        let entry = JournalEntry::Device(DeviceEntry {
            progress: Some(ProgressEntry {
                state: if n % 3 == 0 {
                    State::Confirmed
                } else {
                    State::Reverted
                },
                ..ProgressEntry::new(
                    "P",
                    "2.0.0",
                    crate::firmware::ContentId([7; 32]),
                    10,
                    "1.0.0",
                    NOW,
                )
            }),
            ..DeviceEntry::new(device, &text, "P", version, NOW)
        });
        journal.write_later(&entry, Priority::Major);
    }
    journal.stop();
}

#[test]
fn a_fleet_counts_once_an_hour_and_remembers_over_restarts() {
    let scratch = Scratch::new();
    let folder = StateFolder::new(scratch.path());
    folder.claim().unwrap();
    write_devices(&folder, 300);
    let mut unix = UNIX + 7 * HOUR + 120;
    for run in 0..3 {
        let began = Instant::now();
        let mut fleet = Fleet::open(FleetSettings::default(), Some(&folder), began, unix);
        // Two and a half hours, in steps of one second.
        for second in 0..9000 {
            fleet.tick_at(began + Duration::from_secs(second), unix + second as i64);
        }
        unix += 9000 - 120;
        // Runs begin at 07:02, 09:30 and 11:58.
        let key = |version| fleet.version_key("P", version).unwrap();
        let hours: Vec<_> = fleet.history().hours().of(key("2.0.0")).collect();
        if !cfg!(feature = "operator") {
            // Builds without the operator page take no samples.
            assert_eq!(hours.len(), 0);
            return;
        }
        let expected: &[u32] = match run {
            0 => &[7, 8, 9],
            1 => &[7, 8, 9, 10, 11],
            _ => &[7, 8, 9, 10, 11, 12, 13, 14],
        };
        let numbers: Vec<_> = hours.iter().map(|(n, _)| n - hour_of(UNIX)).collect();
        assert_eq!(numbers, expected, "run {run}");
        for (_, counts) in hours {
            let counts = counts.unwrap();
            assert_eq!(counts.running, 100);
            assert_eq!(counts.states.of(State::Confirmed), 100);
            assert_eq!(counts.states.of(State::Reverted), 200);
        }
        let old = fleet.history().hours().of(key("1.0.0")).last().unwrap();
        assert_eq!(old.1.unwrap().running, 200);
        fleet.stop(began + Duration::from_secs(9000));
    }
}

#[test]
fn the_devices_of_a_large_fleet_are_counted_in_parts() {
    let scratch = Scratch::new();
    let folder = StateFolder::new(scratch.path());
    folder.claim().unwrap();
    write_devices(&folder, 300);
    let fleet = Fleet::open(
        FleetSettings::default(),
        Some(&folder),
        Instant::now(),
        UNIX,
    );
    let mut walk = VersionWalk::default();
    let parts = (1..).find(|_| fleet.walk_versions(&mut walk, 100)).unwrap();
    assert_eq!(parts, 3);
    let mut running: Vec<_> = walk.running.values().copied().collect();
    running.sort_unstable();
    assert_eq!(running, [100, 200]);
}
