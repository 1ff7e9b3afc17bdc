use proptest::prelude::*;

use super::file::OutcomeFile;
use super::*;

fn content(number: u8) -> SharedContent {
    SharedContent {
        project: "水表 A".into(),
        version: format!("1.0.{number}").into(),
        content: ContentId([number; 32]),
        size: u64::from(number) * 1000,
    }
}

fn outcome(time: i64, kind: OutcomeKind) -> SharedOutcome {
    SharedOutcome {
        time,
        kind,
        network: 7,
        established: true,
        from: ShortVersion::of("1.0.0"),
    }
}

/// A file with these outcomes: content, device, time, kind.
fn file(outcomes: &[(u8, u64, i64, usize)]) -> OutcomeFile {
    let of = |number: u8| {
        let of_content = outcomes.iter().filter(move |one| one.0 == number);
        let list = of_content.map(|(_, device, time, kind)| {
            let kind = OutcomeKind::ALL[*kind];
            (DeviceKey(*device), outcome(*time, kind))
        });
        (content(number), list.collect())
    };
    OutcomeFile::newest((1..=3).map(of).collect())
}

#[test]
fn a_file_is_read_as_it_was_written() {
    let file = file(&[(1, 5, 1_800_000_000, 0), (1, 6, -3, 5), (3, 7, 9, 2)]);
    assert_eq!(file.outcomes.len(), 2);
    let text = file.write(42, 7);
    assert_eq!(OutcomeFile::read(text.as_bytes(), 42), Ok(file));
    let empty = OutcomeFile::default();
    assert_eq!(
        OutcomeFile::read(empty.write(42, 8).as_bytes(), 42),
        Ok(empty)
    );
}

#[test]
fn names_and_versions_with_control_characters_are_left_out() {
    let mut odd = content(1);
    odd.project = "a\tb".into();
    let version = SharedOutcome {
        from: ShortVersion::of("1\n2"),
        ..outcome(1, OutcomeKind::Silent)
    };
    let lists = vec![
        (odd, vec![(DeviceKey(1), outcome(1, OutcomeKind::Sent))]),
        (content(2), vec![(DeviceKey(1), version)]),
    ];
    let text = OutcomeFile::newest(lists).write(1, 1);
    let read = OutcomeFile::read(text.as_bytes(), 1).unwrap();
    let [(content, list)] = &read.outcomes[..] else {
        panic!("{read:?}");
    };
    assert_eq!(*content, self::content(2));
    assert_eq!(list[0].1.from, ShortVersion::default());
}

#[test]
fn a_file_that_cannot_be_used_says_why() {
    let text = file(&[(1, 5, 9, 0)]).write(42, 7);
    for (bytes, why) in [
        (&b""[..], "is damaged"),
        (b"\xff\n", "is damaged"),
        (b"hello\n", "is not a file of outcomes"),
        (
            b"luat-ota outcomes\t2\tx\n",
            "was written by another version of luat-ota",
        ),
        (&text.as_bytes()[..text.len() - 1], "is damaged"),
    ] {
        assert_eq!(OutcomeFile::read(bytes, 42), Err(why));
    }
    assert_eq!(
        OutcomeFile::read(text.as_bytes(), 43),
        Err("was written with another secret (--secret-file)")
    );
    for cut in 60..text.len() {
        assert!(OutcomeFile::read(&text.as_bytes()[..cut], 42).is_err());
    }
    // Lines that cannot be parsed are rejected even if the checksum is right.
    for line in ["content\tx", "5\tdelivered", "content\t\t\t\t\t"] {
        let mut text = format!("luat-ota outcomes\t1\t2a\t0\n{line}\n");
        text += &format!("end\t{:08x}\n", crc32fast::hash(text.as_bytes()));
        assert_eq!(
            OutcomeFile::read(text.as_bytes(), 42),
            Err("is damaged"),
            "{line}"
        );
    }
}

#[test]
fn the_newest_outcomes_of_each_content_are_shared() {
    let many = |number: u8| {
        let outcomes = (0..20_000).map(|n| (DeviceKey(n), outcome(n as i64, OutcomeKind::Silent)));
        (content(number), outcomes.collect())
    };
    let file = OutcomeFile::newest(vec![many(1)]);
    let list = &file.outcomes[0].1;
    assert_eq!(list.len(), MAX_PER_CONTENT);
    assert!(list.iter().all(|(_, outcome)| outcome.time >= 10_000));
    let file = OutcomeFile::newest((1..=12).map(many).collect());
    let count: usize = file.outcomes.iter().map(|(_, list)| list.len()).sum();
    assert!(count <= MAX_SHARED && count > MAX_SHARED - 20, "{count}");
    let text = file.write(1, 1);
    assert_eq!(OutcomeFile::read(text.as_bytes(), 1), Ok(file));
}

#[test]
fn an_outcome_after_one_of_a_peer_is_newer_whatever_the_clocks_say() {
    let wall = Wall {
        stamp: Stamp(1000),
        unix: 1_800_000_000,
    };
    let mut shared = Shared::new(&[1; 32], wall);
    let device = shared.device(DeviceId::Imei(862_991_443_753_386));
    assert_eq!(shared.time_after(device, Stamp(1010)), 1_800_000_010);
    let ahead = file(&[(1, device.0, 1_800_009_999, 4)]);
    shared.peers = PeerOutcomes::merge([&ahead]);
    assert_eq!(shared.time_after(device, Stamp(1010)), 1_800_010_000);
    let (_, outcome) = shared.peers.devices[&device];
    assert!(shared.is_newer(device, outcome, Some(Stamp(1010))));
    let other = Shared::new(&[2; 32], wall);
    assert_ne!(
        other.device(DeviceId::Imei(862_991_443_753_386)),
        device,
        "the key depends on the secret"
    );
    assert_ne!(other.check(), shared.check());
}

fn any_file() -> impl Strategy<Value = OutcomeFile> {
    // Devices and times are few, so that several outcomes have the same ones.
    let one = (1..=3u8, 0..6u64, 0..4i64, 0..6usize);
    proptest::collection::vec(one, 0..12).prop_map(|outcomes| file(&outcomes))
}

proptest! {
    #[test]
    fn the_merge_depends_neither_on_the_order_nor_on_repetitions(
        files in proptest::collection::vec(any_file(), 0..5), turn in 0..5usize
    ) {
        let merged = PeerOutcomes::merge(&files);
        let mut turned = files.clone();
        turned.reverse();
        turned.rotate_left(turn.min(files.len()));
        turned.extend(files.iter().take(turn).cloned());
        prop_assert_eq!(&PeerOutcomes::merge(&turned), &merged);
        // Each device is counted once.
        let counts = merged.counts();
        let counted: u32 = counts.values().map(|counts| counts.total()).sum();
        prop_assert_eq!(counted as usize, merged.devices.len());
        for (key, (_, newest)) in &merged.devices {
            let all = files.iter().flat_map(|file| &file.outcomes);
            let all = all.flat_map(|(_, list)| list).filter(|(device, _)| device == key);
            prop_assert_eq!(all.map(|(_, outcome)| *outcome).max(), Some(*newest));
        }
    }

    #[test]
    fn any_text_can_be_parsed(text in "(luat-ota outcomes\t1\t2a\t0\n)?([a-z0-9\t\n]{0,60})") {
        let _no_panic = OutcomeFile::read(text.as_bytes(), 42);
    }
}
