use super::*;
use crate::firmware::ContentId;
use crate::firmware::package::PackageKind;

fn stamp(size: u64) -> FileStamp {
    FileStamp {
        dev: 1,
        ino: 2,
        size,
        mtime: i128::from(size),
        ctime: i128::from(size),
    }
}

fn found(byte: u8) -> Result<Inspected, String> {
    Ok(Inspected {
        content: ContentId([byte; 32]),
        md5: [byte; 16],
        size: 1,
        kind: PackageKind::Generic,
    })
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// The trust with which the file may be read.
fn trust(file: &Settling, now: Instant) -> Option<Trust> {
    let trust = file.attempt(false, now)?.trust;
    (trust != Trust::Ask).then_some(trust)
}

/// A file that the kernel was asked about and that no writer has open.
fn asked(stamp: FileStamp, now: Instant) -> Settling {
    let mut file = Settling::new(stamp, now, false);
    file.granted();
    file
}

const SURE: KernelAnswer = KernelAnswer::Writer { is_certain: true };
const DOUBTED: KernelAnswer = KernelAnswer::Writer { is_certain: false };

#[test]
fn under_a_lease_a_file_is_read_once_when_it_was_still_for_a_second() {
    let start = Instant::now();
    let mut file = Settling::new(stamp(1), start, false);
    assert_eq!(trust(&file, start + ms(1099)), None);
    assert_eq!(trust(&file, start + ms(1100)), Some(Trust::Lease));
    assert!(file.read(false, true, &found(1), ms(10), start + ms(1100)));
}

#[test]
fn each_change_starts_the_second_again() {
    let start = Instant::now();
    let mut file = Settling::new(stamp(1), start, false);
    file.seen(stamp(2), start + ms(300));
    file.seen(stamp(2), start + ms(900));
    file.granted();
    assert_eq!(file.due(false), start + ms(1400));
    assert_eq!(file.stamp(), stamp(2));
}

#[test]
fn a_slow_writer_is_waited_for_three_of_its_pauses_and_ten_seconds_at_most() {
    let start = Instant::now();
    let mut file = Settling::new(stamp(1), start, false);
    file.seen(stamp(2), start + ms(1000));
    file.granted();
    assert_eq!(file.due(false), start + ms(4000));
    file.seen(stamp(3), start + ms(9000));
    file.granted();
    assert_eq!(file.due(false), start + ms(19_000));
}

#[test]
fn the_pauses_of_a_writer_that_has_the_file_open_do_not_count() {
    let start = Instant::now();
    let mut file = Settling::new(stamp(1), start, false);
    for second in 1..10 {
        let now = start + ms(1000 * second);
        let asking = now - ms(700);
        assert_eq!(file.due(false), asking);
        assert_eq!(file.attempt(false, asking).unwrap().trust, Trust::Ask);
        file.not_granted(SURE, asking);
        file.seen(stamp(1 + second), now);
    }
    file.granted();
    assert_eq!(file.due(false), start + ms(9000 + 1100));
}

#[test]
fn the_pauses_of_a_file_that_was_replaced_do_not_count() {
    let start = Instant::now();
    let mut file = Settling::new(stamp(1), start, false);
    let other = FileStamp { ino: 3, ..stamp(1) };
    file.seen(other, start + ms(8000));
    file.granted();
    assert_eq!(file.due(false), start + ms(9100));
}

#[test]
fn a_chmod_is_no_pause_of_a_writer() {
    let start = Instant::now();
    let mut file = Settling::new(stamp(1), start, false);
    let other = FileStamp {
        ctime: 99,
        ..stamp(1)
    };
    file.seen(other, start + ms(8000));
    file.granted();
    assert_eq!(file.due(false), start + ms(9100));
}

#[test]
fn a_writer_on_a_local_disk_is_waited_for_without_a_limit() {
    let start = Instant::now();
    let mut file = asked(stamp(1), start);
    let mut now = start;
    for _ in 0..1000 {
        now = file.due(false).max(now);
        assert_eq!(trust(&file, now), Some(Trust::Lease));
        file.not_granted(SURE, now);
        assert_eq!(file.due(false), now + ms(500));
    }
    // The writer closes the file: there is an event, and the stamp is unchanged.
    file.seen(stamp(1), now + ms(10));
    assert_eq!(trust(&file, now + ms(10)), Some(Trust::Lease));
}

#[test]
fn a_file_system_that_always_says_writer_is_read_twice_after_ten_seconds() {
    let start = Instant::now();
    let mut file = asked(stamp(1), start);
    let mut now = start;
    loop {
        now = file.due(false).max(now);
        if trust(&file, now) == Some(Trust::Any) {
            break;
        }
        file.not_granted(DOUBTED, now);
    }
    assert!(now >= start + ms(10_000) && now < start + ms(10_600));
    assert!(!file.read(false, false, &found(1), ms(10), now));
    assert_eq!(trust(&file, now + ms(999)), None);
    assert_eq!(trust(&file, now + ms(1000)), Some(Trust::Any));
    assert!(file.read(false, false, &found(1), ms(10), now + ms(1000)));
}

#[test]
fn without_a_lease_a_file_is_still_for_four_seconds_and_read_twice() {
    let start = Instant::now();
    let mut file = Settling::new(stamp(1), start, false);
    file.not_granted(KernelAnswer::Unknown, start + ms(1100));
    assert_eq!(trust(&file, start + ms(3999)), None);
    assert_eq!(trust(&file, start + ms(4000)), Some(Trust::NoWriter));
    assert!(!file.read(false, false, &found(1), ms(10), start + ms(4100)));
    assert_eq!(trust(&file, start + ms(5099)), None);
    assert_eq!(trust(&file, start + ms(5100)), Some(Trust::NoWriter));
    assert!(file.read(false, false, &found(1), ms(10), start + ms(5200)));
}

#[test]
fn two_readings_that_differ_begin_the_slow_way_again() {
    let start = Instant::now();
    let mut file = Settling::new(stamp(1), start, false);
    file.not_granted(KernelAnswer::Unknown, start + ms(1100));
    assert!(!file.read(false, false, &found(1), ms(10), start + ms(4000)));
    assert!(!file.read(false, false, &found(2), ms(10), start + ms(5000)));
    assert_eq!(trust(&file, start + ms(8999)), None);
    assert!(!file.read(false, false, &found(2), ms(10), start + ms(9000)));
    assert!(file.read(false, false, &found(2), ms(10), start + ms(10_000)));
}

#[test]
fn a_change_between_the_readings_begins_the_slow_way_again_without_asking_for_a_lease() {
    let start = Instant::now();
    let mut file = Settling::new(stamp(1), start, false);
    file.not_granted(KernelAnswer::Unknown, start + ms(1100));
    assert!(!file.read(false, false, &found(1), ms(10), start + ms(4000)));
    file.seen(stamp(2), start + ms(4500));
    assert!(file.due(false) >= start + ms(8500));
}

#[test]
fn a_file_that_was_there_at_the_start_is_read_at_once_and_without_a_lease_twice() {
    let start = Instant::now();
    let mut file = Settling::new(stamp(1), start, true);
    assert_eq!(trust(&file, start), Some(Trust::NoWriter));
    assert!(file.clone().read(false, true, &found(1), ms(10), start));
    // Without a lease it is unknown whether an upload only paused while the server was restarted.
    let mut unleased = file.clone();
    assert!(!unleased.read(false, false, &found(1), ms(10), start));
    assert_eq!(trust(&unleased, start + ms(999)), None);
    assert!(unleased.read(false, false, &found(1), ms(10), start + ms(1000)));
    // A writer has the file open.
    file.not_granted(SURE, start);
    assert_eq!(trust(&file, start + ms(500)), None);
    assert_eq!(trust(&file, start + ms(1100)), Some(Trust::Lease));
}

#[test]
fn a_checksum_is_worth_one_early_reading_of_each_state() {
    let start = Instant::now();
    let mut file = Settling::new(stamp(1), start, false);
    assert_eq!(file.attempt(true, start + ms(99)), None);
    let early = ReadAttempt {
        trust: Trust::Any,
        for_proof: true,
    };
    assert_eq!(file.attempt(true, start + ms(100)), Some(early));
    assert!(!file.read(true, true, &found(1), ms(10), start + ms(150)));
    file.granted();
    assert_eq!(file.attempt(true, start + ms(1099)), None);
    assert_eq!(trust(&file, start + ms(1100)), Some(Trust::Lease));
    file.seen(stamp(2), start + ms(2000));
    assert_eq!(file.attempt(true, start + ms(2100)), Some(early));
    assert!(!file.read(true, true, &found(1), ms(100), start + ms(2200)));
    // The reading took a tenth of a second: no further one within a second.
    file.seen(stamp(3), start + ms(2300));
    file.granted();
    assert_eq!(file.due(true), start + ms(3200));
}

#[test]
fn a_delayed_file_is_not_due_before_its_time() {
    let start = Instant::now();
    let mut file = Settling::new(stamp(1), start, true);
    file.delay(start + ms(30_000));
    assert_eq!(file.due(true), start + ms(30_000));
    file.seen(stamp(2), start + ms(1000));
    assert!(file.due(false) < start + ms(3000));
}
