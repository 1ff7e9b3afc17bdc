mod properties;
mod table;

use std::net::IpAddr;

use super::*;
use crate::decision::Check;
use crate::fleet::progress::AwaitedReboot;

const A: ContentId = ContentId([1; 32]);
const B: ContentId = ContentId([2; 32]);
const C: ContentId = ContentId([3; 32]);
const SIZE: u64 = 100_000;
const START: Stamp = Stamp(1 << 31);
const HOUR: u32 = 60 * 60;

/// Facts of an ordinary check.
const FACTS: CheckFacts = CheckFacts {
    same_session: false,
    is_given: false,
    awaited: None,
};

fn to() -> ShortVersion {
    ShortVersion::of("2.0.0")
}

/// Outcome of a transfer without a proxy.
fn outcome(whole: bool) -> TransferOutcome {
    match whole {
        true => TransferOutcome::Whole,
        false => TransferOutcome::Incomplete { proxied: false },
    }
}

fn who(id: &str, version: &str, address: &str) -> Requester {
    let check = Check {
        device: DeviceId::parse(id),
        device_text: id.into(),
        firmware_name: Some("P_LuatOS-SoC_Air780EPM".into()),
        version: version.into(),
        ..Check::default()
    };
    Requester::of(&check, address.parse::<IpAddr>().unwrap()).unwrap()
}

fn old() -> Requester {
    who("862991443753386", "1.0.0", "100.64.1.2")
}

fn guard() -> LoopGuard {
    LoopGuard::new(3, CAPACITY)
}

fn part(content: ContentId, start: u64, end: u64) -> FileRange {
    FileRange {
        content,
        to: to(),
        size: SIZE,
        start,
        end,
    }
}

/// Records a transfer without a proxy, which is complete if it reaches the end of the file.
fn spend(guard: &mut LoopGuard, who: &Requester, range: FileRange, now: Stamp) {
    guard.record_transfer(who, range, outcome(range.end == range.size), now);
}

fn reverts(guard: &LoopGuard) -> u32 {
    let mut against = guard.against(old().device);
    against.next().map_or(0, |evidence| evidence.entry.reverts)
}

/// Sends a check from byte 0. Returns whether the content may be offered.
fn ask(guard: &mut LoopGuard, who: &Requester, content: ContentId, now: Stamp) -> bool {
    let held = guard.held(who, FACTS, now).contains(content, false);
    guard.count_check(who, FACTS, (!held).then_some(content), now);
    // The same query again returns the same result.
    assert_eq!(guard.held(who, FACTS, now).contains(content, false), held);
    !held
}

/// Sends a check, and downloads the whole file if the content may be offered. Returns whether it may.
fn take(guard: &mut LoopGuard, who: &Requester, content: ContentId, now: Stamp) -> bool {
    let may = ask(guard, who, content, now);
    if may {
        spend(guard, who, part(content, 0, SIZE), now.plus(30));
    }
    may
}

#[test]
fn three_attempts_are_free_then_there_is_one_for_each_hold() {
    let (mut guard, mut now) = (guard(), START);
    let mut given = Vec::new();
    // The device comes back every ten minutes for five days.
    for _ in 0..5 * 24 * 6 {
        if take(&mut guard, &old(), A, now) {
            given.push(now.since(START) / 60);
        }
        now = now.plus(600);
    }
    // The hold begins with the check that it refuses, ten minutes after the last attempt.
    let hold = |minutes: u32| 10 + minutes;
    let mut expected = vec![0, 10, 20];
    for minutes in [60, 360, 24 * 60, 24 * 60, 24 * 60, 24 * 60] {
        expected.push(expected.last().unwrap() + hold(minutes));
    }
    expected.retain(|minutes| *minutes < 5 * 24 * 60);
    assert_eq!(given, expected);
}

#[test]
fn a_module_that_checks_rarely_is_held() {
    let (mut guard, mut now) = (guard(), START);
    let mut given = 0;
    for _ in 0..6 {
        given += u32::from(take(&mut guard, &old(), A, now));
        now = now.plus(4 * HOUR);
    }
    // The fourth check is refused although it comes four hours later, the fifth is not, and the sixth is.
    assert_eq!(given, 4);
}

#[test]
fn another_version_ends_a_hold_and_another_content_begins_anew() {
    let (mut guard, mut now) = (guard(), START);
    let looped = |guard: &mut LoopGuard, content: ContentId, now: &mut Stamp| {
        let mut given = 0;
        while take(guard, &old(), content, *now) {
            given += 1;
            *now = now.plus(600);
        }
        given
    };
    assert_eq!(looped(&mut guard, A, &mut now), 3);
    assert_eq!(looped(&mut guard, B, &mut now), 3);
    // Neither hold removes the other.
    assert!(!ask(&mut guard, &old(), A, now));
    assert!(!ask(&mut guard, &old(), B, now));
    // The new version ends the evidence only a day later: until then the old version is a fallback.
    let new = who("862991443753386", "2.0.0", "100.64.1.2");
    assert!(ask(&mut guard, &new, A, now));
    assert!(!guard.is_held(old().device, now));
    guard.changes();
    now = now.plus(25 * HOUR);
    assert!(ask(&mut guard, &new, A, now));
    assert_eq!(
        guard.changes(),
        [JournalEntry::Unguarded(
            new.identity_without_version,
            new.coarse_network
        )]
    );
    assert!(ask(&mut guard, &old(), A, now));
    assert!(guard.is_empty());
    // Any other version was flashed, which ends the evidence at once.
    assert_eq!(looped(&mut guard, A, &mut now), 3);
    let flashed = who("862991443753386", "1.5.0", "100.64.1.2");
    assert!(ask(&mut guard, &flashed, A, now));
    assert!(ask(&mut guard, &old(), A, now));
}

#[test]
fn a_person_can_clear_a_hold() {
    let (mut guard, mut now) = (guard(), START);
    while take(&mut guard, &old(), A, now) {
        now = now.plus(600);
    }
    assert!(guard.is_held(old().device, now));
    assert_eq!(guard.against(old().device).count(), 1);
    assert_eq!(guard.clear(old().device, now), 1);
    assert!(!guard.is_held(old().device, now));
    assert!(ask(&mut guard, &old(), A, now));
    assert_eq!(guard.clear(old().device, now), 0);
}

// Case 30.
#[test]
fn the_old_version_is_a_revert_however_soon_but_not_within_three_seconds() {
    let mut guard = guard();
    spend(&mut guard, &old(), part(A, 0, SIZE), START);
    guard.count_check(&old(), FACTS, None, START.plus(3));
    assert_eq!(reverts(&guard), 0);
    let in_session = CheckFacts {
        same_session: true,
        ..FACTS
    };
    guard.count_check(&old(), in_session, None, START.plus(59));
    assert_eq!(reverts(&guard), 0);
    // A check from another network may come from another device.
    let elsewhere = who("862991443753386", "1.0.0", "203.0.113.5");
    guard.count_check(&elsewhere, FACTS, None, START.plus(12));
    assert_eq!(reverts(&guard), 0);
    guard.count_check(&old(), FACTS, None, START.plus(12));
    assert_eq!(reverts(&guard), 1);
    guard.count_check(&old(), FACTS, None, START.plus(1000));
    assert_eq!(reverts(&guard), 1, "one for each whole download");
}

// Case 30b.
#[test]
fn a_postponed_reboot_is_no_revert_until_its_time_is_over() {
    let mut guard = guard();
    let waits = CheckFacts {
        awaited: Some(AwaitedReboot {
            content: A,
            age: 0,
            within: 12 * HOUR,
        }),
        ..FACTS
    };
    spend(&mut guard, &old(), part(A, 0, SIZE), START);
    for hours in [4, 8, 11] {
        guard.count_check(&old(), waits, None, START.plus(hours * HOUR));
    }
    assert_eq!(reverts(&guard), 0);
    guard.count_check(&old(), FACTS, None, START.plus(13 * HOUR));
    assert_eq!(reverts(&guard), 1);
}

#[test]
fn the_new_version_takes_a_revert_back() {
    let mut guard = guard();
    let new = who("862991443753386", "2.0.0", "100.64.1.2");
    spend(&mut guard, &old(), part(A, 0, SIZE), START);
    guard.count_check(&old(), FACTS, None, START.plus(60));
    assert_eq!(reverts(&guard), 1);
    guard.count_check(&new, FACTS, None, START.plus(90));
    assert!(guard.is_empty());
}

/// Simulates a whole download, a check with the new version, and one with the old version again.
fn falls_back(guard: &mut LoopGuard, now: &mut Stamp) -> bool {
    let new = who("862991443753386", "2.0.0", "100.64.1.2");
    let may = take(guard, &old(), A, *now);
    if may {
        *now = now.plus(60);
        ask(guard, &new, B, *now);
        *now = now.plus(40);
        // The state of the device reports this even if the loop guard has no evidence.
        guard.fallback(&old(), A, to(), *now);
    }
    may
}

// Case 29.
#[test]
fn a_module_that_reports_the_new_version_and_falls_back_is_held_after_the_third_round() {
    let (mut guard, mut now) = (guard(), START);
    for round in 0..3 {
        assert!(falls_back(&mut guard, &mut now), "{round}");
    }
    assert!(!falls_back(&mut guard, &mut now));
    assert_eq!(reverts(&guard), 3);
    // The hold survives a restart.
    let mut loaded = LoopGuard::new(3, CAPACITY);
    for entry in guard.records(0, 9).0 {
        let JournalEntry::Guard(entry) = entry else {
            panic!()
        };
        loaded.load(entry);
    }
    loaded.set_sizes(|_| Some(SIZE));
    assert!(!ask(&mut loaded, &old(), A, now));
}

#[test]
fn a_fallback_after_a_day_is_not_counted() {
    for (hours, reverts) in [(23, 2), (25, 0)] {
        let (mut guard, mut now) = (guard(), START);
        let new = who("862991443753386", "2.0.0", "100.64.1.2");
        assert!(falls_back(&mut guard, &mut now));
        ask(&mut guard, &old(), A, now);
        spend(&mut guard, &old(), part(A, 0, SIZE), now);
        ask(&mut guard, &new, B, now.plus(60));
        guard.count_check(&old(), FACTS, None, now.plus(60 + hours * HOUR));
        assert_eq!(super::tests::reverts(&guard), reverts);
    }
}

// Case 28b.
#[test]
fn a_module_that_loops_behind_a_proxy_is_held_after_the_ninth_round() {
    let (mut guard, mut now, mut given) = (guard(), START, 0);
    for _ in 0..12 {
        if ask(&mut guard, &old(), A, now) {
            guard.record_transfer(&old(), part(A, 0, SIZE), TransferOutcome::Sent, now);
            given += 1;
        }
        now = now.plus(240);
    }
    assert_eq!(given, 9);
    now = now.plus(HOUR);
    assert!(ask(&mut guard, &old(), A, now), "after an hour once more");
    // A round every three hours is not a loop.
    let (mut guard, mut now) = (LoopGuard::new(3, CAPACITY), START);
    for _ in 0..20 {
        assert!(ask(&mut guard, &old(), A, now));
        guard.record_transfer(&old(), part(A, 0, SIZE), TransferOutcome::Sent, now);
        now = now.plus(3 * HOUR + 60);
    }
}

#[test]
fn a_module_that_alternates_between_two_old_versions_is_held() {
    let (mut guard, mut now, mut given) = (guard(), START, 0);
    let other = who("862991443753386", "1.0.1", "100.64.1.2");
    for round in 0..20 {
        let who = if round % 2 == 0 { old() } else { other };
        given += u32::from(take(&mut guard, &who, A, now));
        now = now.plus(600);
    }
    assert!(given <= 4, "{given}");
}

#[test]
fn a_module_that_always_reports_new_versions_is_held_after_its_tenth_round() {
    let (mut guard, mut now, mut given) = (guard(), START, 0);
    for round in 0..30 {
        let version = format!("1.0.{}", round % 7);
        let who = who("862991443753386", &version, "100.64.1.2");
        given += u32::from(take(&mut guard, &who, A, now));
        now = now.plus(100);
    }
    assert_eq!(given, 10);
}

// Case 29c.
#[test]
fn a_device_that_allow_names_singly_is_held_after_its_tenth_round_alone() {
    let (mut guard, mut now, mut given) = (guard(), START, 0);
    let mut warned = 0;
    for _ in 0..20 {
        let held = guard.held(&old(), FACTS, now);
        let may = !held.contains(A, true);
        let spared = guard.count_check(&old(), FACTS, may.then_some(A), now);
        warned += spared.len();
        if may {
            spend(&mut guard, &old(), part(A, 0, SIZE), now);
            given += 1;
        }
        now = now.plus(300);
    }
    assert_eq!((given, warned), (10, 7), "warned from the third round on");
}

#[test]
fn the_last_byte_alone_is_no_delivery() {
    let mut guard = guard();
    for n in 0..100 {
        let now = START.plus(n * 600);
        assert!(ask(&mut guard, &old(), A, now));
        spend(&mut guard, &old(), part(A, SIZE - 1, SIZE), now);
    }
    assert!(guard.against(old().device).next().is_none());
}

#[test]
fn a_resumed_download_is_one_delivery() {
    let mut guard = guard();
    guard.count_check(&old(), FACTS, None, START);
    spend(&mut guard, &old(), part(A, 0, 60_000), START);
    spend(&mut guard, &old(), part(A, 60_000, 80_000), START);
    spend(&mut guard, &old(), part(A, 70_000, SIZE), START);
    guard.count_check(&old(), FACTS, None, START.plus(600));
    assert_eq!(reverts(&guard), 1);
}

#[test]
fn a_package_that_is_never_finished_is_held_by_its_bytes() {
    let (mut guard, mut now, mut sent) = (guard(), START, 0);
    while ask(&mut guard, &old(), A, now) {
        spend(&mut guard, &old(), part(A, 0, 70_000), now);
        sent += 70_000;
        now = now.plus(120);
    }
    assert_eq!(sent, 8 * 70_000);
    // After the hold, bytes of two more file sizes may be sent.
    now = now.plus(HOUR);
    while ask(&mut guard, &old(), A, now) {
        spend(&mut guard, &old(), part(A, 0, 70_000), now);
        sent += 70_000;
        now = now.plus(120);
    }
    assert_eq!(sent, 10 * 70_000);
}

#[test]
fn redirects_are_counted() {
    let (mut guard, mut now, mut given) = (guard(), START, 0);
    for _ in 0..100 {
        if ask(&mut guard, &old(), A, now) {
            guard.record_redirect(&old(), A, to(), now);
            given += 1;
        }
        now = now.plus(60);
    }
    assert_eq!(given, 5 + 2, "five, and two after the hour");
    // A redirect is not an attempt if the device comes back in less than a minute.
    // Case 33.
    let mut guard = LoopGuard::new(3, CAPACITY);
    for second in 0..8 {
        let now = START.plus(second);
        assert!(ask(&mut guard, &old(), A, now));
        guard.record_redirect(&old(), A, to(), now);
    }
    assert!(ask(&mut guard, &old(), A, START.plus(600)));
}

#[test]
fn a_module_that_moves_between_networks_is_held() {
    let (mut guard, mut now, mut given) = (guard(), START, 0);
    for n in 0..59 {
        // The device uses twelve networks in turn.
        let address = format!("10.{}.0.1", n % 12);
        let wandering = who("862991443753386", "1.0.0", &address);
        given += u32::from(take(&mut guard, &wandering, A, now));
        now = now.plus(60);
    }
    // By itself, each network would allow three downloads. The bytes of all networks cause a hold after four times five
    // file sizes.
    assert_eq!(given, 20);
}

#[test]
fn alternating_contents_are_all_held() {
    let (mut guard, mut now) = (guard(), START);
    let content = |n: usize| ContentId([u8::try_from(n).unwrap() + 1; 32]);
    // All but two of the contents for which there is room are held.
    for n in 0..MAX_CONTENTS - 2 {
        while take(&mut guard, &old(), content(n), now) {
            now = now.plus(61);
        }
    }
    // Two more contents are offered alternately, as if a person paused and resumed a release.
    let mut given = 0;
    for turn in 0..40 {
        let next = content(MAX_CONTENTS - 2 + turn % 2);
        given += u32::from(take(&mut guard, &old(), next, now));
        now = now.plus(61);
    }
    assert_eq!(given, 2 * 3);
    // There is one content too many: the least recently used one is evicted, not the one whose evidence grows.
    let given = (0..40).filter(|turn| {
        let next = content(MAX_CONTENTS + turn % 2);
        now = now.plus(61);
        take(&mut guard, &old(), next, now)
    });
    assert_eq!(given.count(), 2 * 3);
}

#[test]
fn a_module_behind_a_proxy_is_not_held_for_bytes_that_the_proxy_took() {
    for outcome in [
        TransferOutcome::Sent,
        TransferOutcome::Incomplete { proxied: true },
    ] {
        let (mut guard, who) = (guard(), old());
        for round in 0..8 {
            let now = START.plus(round * 100);
            guard.record_transfer(&who, part(A, 0, SIZE), outcome, now);
            assert!(
                guard.held(&who, FACTS, now.plus(90)).is_empty(),
                "{outcome:?} {round}"
            );
            guard.count_check(&who, FACTS, None, now.plus(90));
        }
    }
}
