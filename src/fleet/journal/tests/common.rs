use super::*;
use crate::fleet::entry::{Round, SampleChange, SampleEntry};

/// A compacted journal with these entries.
fn compacted(entries: &[JournalEntry]) -> String {
    let mut text = String::new();
    line::write_header(&mut text);
    let wall = Wall {
        stamp: NOW,
        unix: UNIX,
    };
    let mut commons = WrittenCommons::default();
    for entry in entries {
        line::write_record(&mut text, wall, NOW, entry, &mut commons);
    }
    text
}

fn device(number: u64, version: &str) -> JournalEntry {
    let (id, text) = (DeviceId::Imei(number), format!("{number:015}"));
    JournalEntry::Device(DeviceEntry::new(id, &text, "P", version, NOW))
}

/// Entries whose devices share few sets of common fields, so that most of their lines refer to a common line.
fn fleets() -> impl Strategy<Value = Vec<JournalEntry>> {
    let commons = proptest::collection::vec(entries::devices(), 1..4);
    let own = proptest::collection::vec((entries::entries(), any::<usize>()), 0..30);
    (commons, own).prop_map(|(commons, own)| {
        let entries = own.into_iter().map(|(entry, number)| {
            let common = &commons[number % commons.len()];
            let (JournalEntry::Device(own), JournalEntry::Device(common)) = (&entry, common) else {
                return entry;
            };
            let progress = common.progress.clone().map(|progress| ProgressEntry {
                since: own.first,
                weak: (number % 7) as u8,
                reached: [0, 1, progress.size][number % 3],
                ..progress
            });
            JournalEntry::Device(DeviceEntry {
                device: own.device,
                text: own.text.clone(),
                first: own.first,
                last: own.last,
                interval: own.interval,
                network: own.network,
                progress,
                ..common.clone()
            })
        });
        entries.collect()
    })
}

proptest! {
    #[test]
    fn a_compacted_journal_has_the_same_entries_as_one_with_whole_lines(fleet in fleets()) {
        let (loaded, entries) = read(compacted(&fleet).as_bytes());
        prop_assert_eq!((loaded.damaged, loaded.unknown), (0, 0));
        prop_assert_eq!(&entries, &fleet);
        let (_, entries) = read(text_of(&fleet).as_bytes());
        prop_assert_eq!(&entries, &fleet);
    }
}

#[test]
fn common_fields_of_devices_are_written_once() {
    let fleet: Vec<JournalEntry> = (0..10).map(|n| device(n, "1.0.0")).collect();
    let text = compacted(&fleet);
    assert_eq!(text.lines().count(), 1 + 1 + 10, "{text}");
    assert_eq!(text.matches("\"version\"").count(), 1, "{text}");
}

#[test]
fn a_common_line_is_repeated_before_a_reader_drops_it() {
    // Long enough to be read by two threads.
    let versions = (0..12_000).chain(0..12_000).chain([11_999, 5_000]);
    let fleet: Vec<JournalEntry> = versions.map(|n| device(n, &format!("1.{n}"))).collect();
    let text = compacted(&fleet);
    assert!(text.len() > 4 * 1024 * 1024);
    let (loaded, entries) = read(text.as_bytes());
    assert_eq!(loaded.damaged, 0);
    assert!(entries == fleet);
}

#[test]
fn a_device_without_its_common_line_is_damaged_and_never_gets_another() {
    let fleet = [
        device(1, "1.0.0"),
        device(2, "2.0.0"),
        device(3, "1.0.0"),
        device(4, "2.0.0"),
    ];
    let text = compacted(&fleet);
    for at in 0..text.len() {
        let mut damaged = text.clone().into_bytes();
        damaged[at] ^= 1;
        let (loaded, entries) = read(&damaged);
        assert!(loaded.damaged > 0, "{at}");
        assert!(entries.iter().all(|entry| fleet.contains(entry)), "{at}");
        assert!(entries.len() >= 2, "{at}");
    }
    let first = text
        .lines()
        .position(|line| line.starts_with("{\"common\""));
    let lines = text.lines().enumerate();
    let rest: Vec<&str> = lines
        .filter(|(at, _)| Some(*at) != first)
        .map(|(_, line)| line)
        .collect();
    let (loaded, entries) = read(rest.join("\n").as_bytes());
    assert_eq!(loaded.damaged, 2);
    assert_eq!(entries, [device(2, "2.0.0"), device(4, "2.0.0")]);
}

#[test]
fn whole_lines_may_precede_and_follow_a_compaction() {
    let text = compacted(&[device(1, "1.0.0")])
        + &lines_of(&[device(2, "1.0.0")])
        + &compacted(&[device(3, "3.0.0"), device(1, "1.0.0")]);
    let (loaded, entries) = read(text.as_bytes());
    assert_eq!((loaded.entries, loaded.damaged), (4, 0));
    assert_eq!(entries[2..], [device(3, "3.0.0"), device(1, "1.0.0")]);
}

#[test]
fn a_journal_of_version_1_is_read_to_the_last_field() {
    let text = include_str!("version-1.jsonl");
    let now = Wall {
        stamp: NOW,
        unix: UNIX,
    };
    let content = ContentId([7; 32]);
    let ago = |seconds| NOW.minus(seconds);
    let long = DeviceEntry {
        last: ago(3600),
        ..DeviceEntry::new(
            DeviceId::Imei(862_991_443_753_386),
            "862991443753386",
            "P",
            "1.0.0",
            ago(93_600),
        )
    };
    let expected = [
        JournalEntry::Release(ReleaseEntry {
            project: "P".into(),
            version: "2.0.0".into(),
            first: ago(86_400),
            fused: Some("fuse: 3 of 9 devices came back".into()),
            before: None,
            resumed: None,
            confirmed: 4,
            noticed: Noticed::default(),
            authors: Authors::default(),
        }),
        JournalEntry::Stage(StageEntry {
            project: "P".into(),
            version: "2.0.0".into(),
            content,
            reached: 1000,
            since: ago(82_800),
            confirmed: 12,
        }),
        JournalEntry::Device(DeviceEntry {
            interval: 3600,
            network: Some(HOME),
            profile: Some(Rc::new(Profile {
                firmware_name: Some("P_Luat_V0017_ASR1802".into()),
                project_key: Some("k".into()),
                core_version: Some(17),
                ..Profile::default()
            })),
            confirmed: vec![
                ("P".into(), "0.9.0".into()),
                ("OTHER".into(), "0.8.0".into()),
            ],
            progress: Some(ProgressEntry {
                state: State::Downloading,
                reached: 131_072,
                weak: 1,
                ..ProgressEntry::new("P", "2.0.0", content, 413_696, "1.0.0", ago(3600))
            }),
            ..long.clone()
        }),
        JournalEntry::Device(DeviceEntry {
            device: DeviceId::Other(0x0123_4567_89ab_cdef),
            text: "pump-7".into(),
            profile: Some(Rc::new(Profile {
                path_project: Some("P".into()),
                ..Profile::default()
            })),
            ..long.clone()
        }),
        JournalEntry::Device(DeviceEntry {
            device: DeviceId::Mac(0x0123_4567_89ab),
            text: "0123456789AB".into(),
            version: "2.0.0".into(),
            progress: Some(ProgressEntry {
                state: State::Confirmed,
                outcome: Some(Outcome::Confirmed),
                reached: 5,
                by_proxy: true,
                ..ProgressEntry::new("Q", "2.0.0", content, 5, "1.0.0", ago(3600))
            }),
            ..long
        }),
        JournalEntry::Forgotten(DeviceId::Mac(0x0123_4567_89ac)),
        JournalEntry::Pin(PinEntry {
            owner: PinKey(0xa468_20a5_be17_c067),
            statement: 0x5b7f_0c1d_92e4_a836,
            content,
            used: ago(3600),
            reach: 131_072,
            worth: 1,
        }),
        JournalEntry::Unpinned(PinKey(0xa468_20a5_be17_c068)),
        JournalEntry::Guard(GuardEntry {
            reverts: 3,
            sent: 1_241_088,
            level: 1,
            held_until: Some(NOW.plus(3600)),
            delivered: Some(ago(3600)),
            rounds: vec![
                Round {
                    at: ago(85_600),
                    weak: false,
                },
                Round {
                    at: ago(75_600),
                    weak: true,
                },
            ],
            from: "1.0.0".into(),
            to: "2.0.0".into(),
            ..GuardEntry::new(
                DeviceId::Imei(862_991_443_753_386),
                (IdentityHash(0xa7), CoarseNetwork(49_152)),
                content,
                1,
                ago(3600),
            )
        }),
        JournalEntry::Unguarded(IdentityHash(0xa8), CoarseNetwork(49_152)),
        JournalEntry::Sample(SampleEntry {
            number: 1_797_224_400 / 3600,
            is_day: false,
            change: Some(SampleChange {
                project: "P".into(),
                version: "2.0.0".into(),
                counts: vec![12, 3, 0, 250],
            }),
        }),
        JournalEntry::Change(ChangeEntry {
            serial: 17,
            unix: 1_797_222_000,
            by: "alice".into(),
            action: "pause".into(),
            project: "P".into(),
            version: "2.0.0".into(),
            detail: "{\"a\"".into(),
        }),
    ];
    assert_eq!(UNIX, 1_797_225_600);
    let mut entries = Vec::new();
    let each = &mut |entry| entries.push(entry);
    let mut file = io::Cursor::new(text);
    let loaded = load::read(&mut file, io::Seek::rewind, None, now, each).unwrap();
    assert_eq!((loaded.damaged, loaded.unknown), (0, 0));
    assert_eq!(entries, expected);
}
