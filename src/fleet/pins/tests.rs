use super::*;
use crate::firmware::audience::DeviceId;
use crate::fleet::requester::IdentityHash;
use crate::fleet::short_version::ShortVersion;

const A: ContentId = ContentId([1; 32]);
const B: ContentId = ContentId([2; 32]);
const NOW: Stamp = Stamp(1 << 31);

fn owner(number: u64) -> PinOwner {
    PinOwner::of_device(DeviceId::Imei(number), IdentityHash(!number))
}

fn device() -> PinOwner {
    owner(862_991_443_753_386)
}

fn content(number: u8) -> ContentId {
    ContentId([number; 32])
}

fn begin_at(
    pins: &mut Pins,
    owner: &PinOwner,
    worth: PinWorth,
    content: ContentId,
    range: std::ops::Range<u64>,
    now: Stamp,
) -> Option<PinnedDownload> {
    let range = FileRange {
        content,
        to: ShortVersion::default(),
        size: 5000,
        start: range.start,
        end: range.end,
    };
    pins.begin(owner, worth, range, now)
}

fn begin(pins: &mut Pins, owner: &PinOwner, content: ContentId, now: Stamp) -> PinnedDownload {
    begin_at(pins, owner, PinWorth::Stranger, content, 0..5000, now).unwrap()
}

/// A download from byte 0 that is cut after `sent` bytes.
fn cut(pins: &mut Pins, owner: &PinOwner, content: ContentId, sent: u64, now: Stamp) {
    let download = begin(pins, owner, content, now);
    pins.sent(&download, sent);
    pins.end(download, now);
}

#[test]
fn a_download_continues_with_its_first_content_as_far_as_bytes_were_sent() {
    let mut pins = Pins::new(8);
    cut(&mut pins, &device(), A, 1000, NOW);
    assert_eq!(pins.began(&device(), 600, NOW), Began::With(A));
    assert_eq!(pins.began(&device(), 1000, NOW), Began::With(A));
    assert_eq!(pins.began(&device(), 1001, NOW), Began::Unknown);
    assert_eq!(pins.began(&owner(1), 1, NOW), Began::Unknown);
    assert!(pins.has(&device(), A, NOW) && !pins.has(&device(), B, NOW));
}

// Case 23.
#[test]
fn another_content_never_ends_the_pin_of_an_earlier_one() {
    let mut pins = Pins::new(8);
    cut(&mut pins, &device(), A, 5000, NOW);
    let later = NOW.plus(LIFETIME / 2);
    cut(&mut pins, &device(), B, 2000, later);
    assert_eq!(pins.began(&device(), 2000, later), Began::Unclear);
    assert_eq!(pins.began(&device(), 2001, later), Began::With(A));
    // Each content can be resumed for a day after its own last use, and prevents a resume of the other for a week.
    let old = NOW.plus(LIFETIME);
    assert_eq!(pins.began(&device(), 2000, old), Began::Unclear);
    assert_eq!(pins.began(&device(), 2001, old), Began::Unknown);
    assert!(!pins.has(&device(), A, old) && pins.has(&device(), B, old));
    let later = NOW.plus(KEPT - 1);
    cut(&mut pins, &device(), B, 2000, later);
    assert_eq!(pins.began(&device(), 2000, later), Began::Unclear);
    let over = NOW.plus(KEPT);
    assert_eq!(pins.began(&device(), 2000, over), Began::With(B));
    cut(&mut pins, &owner(1), A, 1, over);
    assert_eq!(pins.len(), 2);
}

// Case 27.
#[test]
fn a_device_that_states_other_facts_than_at_the_beginning_cannot_resume() {
    let mut pins = Pins::new(8);
    let imei = DeviceId::Imei(862_991_443_753_386);
    let [v17, v18] = [17, 18].map(|core| PinOwner::of_device(imei, IdentityHash(core)));
    cut(&mut pins, &v17, A, 1000, NOW);
    assert_eq!(pins.began(&v18, 500, NOW), Began::Unknown);
    cut(&mut pins, &v18, B, 600, NOW);
    for owner in [&v17, &v18] {
        assert_eq!(pins.began(owner, 600, NOW), Began::Unclear);
    }
    assert_eq!(pins.began(&v17, 601, NOW), Began::With(A));
    assert_eq!(pins.began(&v18, 601, NOW), Began::Unknown);
    // Both core versions may have begun the same content.
    cut(&mut pins, &v18, A, 1000, NOW);
    assert_eq!(pins.began(&v18, 601, NOW), Began::With(A));
}

#[test]
fn an_old_pin_prevents_a_resume_and_is_evicted_first() {
    let imei = DeviceId::Imei(862_991_443_753_386);
    let [one, updated] = [1, 2].map(|version| PinOwner::of_device(imei, IdentityHash(version)));
    let mut pins = Pins::new(3);
    let download = begin_at(&mut pins, &one, PinWorth::Established, A, 0..5000, NOW).unwrap();
    pins.sent(&download, 5000);
    pins.end(download, NOW);
    // The next release comes some days later.
    let now = NOW.plus(2 * LIFETIME);
    cut(&mut pins, &updated, B, 1000, now);
    assert_eq!(pins.began(&updated, 1000, now), Began::With(B));
    assert_eq!(pins.began(&one, 1000, now), Began::Unclear);
    cut(&mut pins, &owner(1), A, 1, now);
    // A pin of the lowest worth replaces the old pin, and the other pin of the same id stays.
    let download = begin_at(&mut pins, &owner(2), PinWorth::Anonymous, A, 0..1, now);
    assert!(download.is_some());
    assert_eq!(pins.len(), 3);
    assert_eq!(pins.began(&updated, 1000, now), Began::With(B));
    // One id downloads many releases, half a day apart.
    let mut pins = Pins::new(64);
    let mut now = NOW;
    for number in 0..50 {
        cut(
            &mut pins,
            &device(),
            content(number),
            u64::from(number),
            now,
        );
        assert_eq!(
            pins.began(&device(), u64::from(number), now),
            Began::With(content(number))
        );
        now = now.plus(LIFETIME / 2);
    }
    assert!(pins.len() <= MAX_CONTENTS);
}

#[test]
fn a_pin_does_not_end_while_its_download_runs() {
    let mut pins = Pins::new(8);
    let download = begin(&mut pins, &device(), A, NOW);
    pins.sent(&download, 1000);
    let later = NOW.plus(2 * LIFETIME);
    cut(&mut pins, &owner(1), A, 1, later);
    assert_eq!(pins.began(&device(), 1000, later), Began::With(A));
    pins.end(download, later);
    let almost = later.plus(LIFETIME - 1);
    assert_eq!(pins.began(&device(), 1000, almost), Began::With(A));
    assert_eq!(pins.began(&device(), 1000, almost.plus(1)), Began::Unknown);
}

#[test]
fn beginning_again_with_the_same_content_keeps_the_highest_byte() {
    let mut pins = Pins::new(8);
    cut(&mut pins, &device(), A, 1000, NOW);
    cut(&mut pins, &device(), A, 10, NOW);
    assert_eq!(pins.len(), 1);
    assert_eq!(pins.began(&device(), 1000, NOW), Began::With(A));
}

#[test]
fn an_id_with_too_many_contents_resumes_nothing_for_a_day() {
    let mut pins = Pins::new(64);
    let most = u8::try_from(MAX_CONTENTS).unwrap();
    for number in 0..=most {
        cut(
            &mut pins,
            &device(),
            content(number),
            u64::from(number),
            NOW.plus(1),
        );
    }
    assert_eq!(pins.len(), MAX_CONTENTS);
    for from in [1, u64::from(most), 5000] {
        assert_eq!(pins.began(&device(), from, NOW), Began::Unclear);
    }
    assert_eq!(pins.began(&device(), 1, NOW.plus(1 + KEPT)), Began::Unknown);
}

#[test]
fn pins_of_an_id_are_evicted_together() {
    let mut pins = Pins::new(3);
    cut(&mut pins, &device(), A, 1000, NOW);
    cut(&mut pins, &owner(1), A, 1000, NOW.plus(1));
    cut(&mut pins, &device(), B, 2000, NOW.plus(2));
    cut(&mut pins, &owner(2), A, 1000, NOW.plus(3));
    // A was least recently used. B alone could be taken for it.
    assert_eq!(pins.began(&device(), 500, NOW.plus(3)), Began::Unknown);
    assert_eq!(pins.began(&owner(1), 500, NOW.plus(3)), Began::With(A));
    // The same happens if the new pin replaces one of its own id.
    let mut pins = Pins::new(2);
    cut(&mut pins, &device(), A, 1000, NOW);
    cut(&mut pins, &owner(1), A, 1000, NOW.plus(1));
    let range = 0..5000;
    let download = begin_at(
        &mut pins,
        &device(),
        PinWorth::Stranger,
        B,
        range,
        NOW.plus(2),
    );
    assert!(download.is_none());
    assert_eq!(pins.began(&device(), 0, NOW.plus(2)), Began::Unknown);
}

#[test]
fn the_longest_unused_pin_is_evicted_and_one_with_a_running_download_after_the_others() {
    let mut pins = Pins::new(3);
    let running = begin(&mut pins, &owner(1), A, NOW);
    cut(&mut pins, &owner(2), A, 10, NOW.plus(1));
    cut(&mut pins, &owner(3), A, 10, NOW.plus(2));
    cut(&mut pins, &owner(2), A, 10, NOW.plus(3));
    let now = NOW.plus(4);
    let four = begin(&mut pins, &owner(4), A, now);
    let live = |pins: &Pins, number| pins.began(&owner(number), 0, now) == Began::With(A);
    assert!(live(&pins, 1) && live(&pins, 2) && !live(&pins, 3));
    // All pins have running downloads: the oldest is still evicted, and the end of its download has no effect.
    let five = begin(&mut pins, &owner(5), A, now);
    let six = begin(&mut pins, &owner(6), A, now);
    assert!(!live(&pins, 1) && live(&pins, 4));
    for download in [running, four, five, six] {
        pins.end(download, now);
    }
    assert_eq!(pins.len(), 3);
}

#[test]
fn no_flood_evicts_pins_of_more_worth() {
    let mut pins = Pins::new(10);
    for number in 0..10 {
        let worth = match number {
            0..5 => PinWorth::Established,
            _ => PinWorth::Stranger,
        };
        let download = begin_at(&mut pins, &owner(number), worth, A, 0..5000, NOW);
        let download = download.unwrap();
        pins.sent(&download, 1000);
        pins.end(download, NOW);
    }
    let began = |pins: &Pins, number| pins.began(&owner(number), 1000, NOW.plus(9));
    for number in 100..200 {
        let download = begin_at(
            &mut pins,
            &owner(number),
            PinWorth::Anonymous,
            B,
            0..9,
            NOW.plus(9),
        );
        assert!(download.is_none());
    }
    assert!((0..10).all(|number| began(&pins, number) == Began::With(A)));
    let mut running = Vec::new();
    for number in 100..200 {
        running.extend(begin_at(
            &mut pins,
            &owner(number),
            PinWorth::Stranger,
            B,
            0..9,
            NOW.plus(9),
        ));
    }
    assert!((0..5).all(|number| began(&pins, number) == Began::With(A)));
    assert!((5..10).all(|number| began(&pins, number) == Began::Unknown));
    assert_eq!(pins.len(), 10);
}

#[test]
fn a_download_without_room_for_a_pin_leaves_no_pin_of_its_key() {
    let mut pins = Pins::new(2);
    let begin = |pins: &mut Pins, number, worth, content| {
        begin_at(pins, &owner(number), worth, content, 0..5000, NOW)
    };
    let first = begin(&mut pins, 1, PinWorth::Stranger, A).unwrap();
    pins.sent(&first, 1000);
    begin(&mut pins, 2, PinWorth::Established, A).unwrap();
    // The key is the same, but the request is worth less than all pins in the table.
    assert!(begin(&mut pins, 1, PinWorth::Anonymous, B).is_none());
    assert_eq!(pins.began(&owner(1), 500, NOW), Began::Unknown);
    pins.end(first, NOW);
}

#[test]
fn pins_of_the_key_of_version_0_1_0_still_count() {
    let mut pins = Pins::new(8);
    let entry = PinEntry {
        owner: device().keys().nth(1).unwrap(),
        statement: device().statement(),
        content: A,
        used: NOW,
        reach: u64::MAX,
        worth: 2,
    };
    pins.load(&entry, NOW);
    assert_eq!(pins.began(&device(), 700, NOW), Began::With(A));
    cut(&mut pins, &device(), B, 1000, NOW);
    assert_eq!(pins.began(&device(), 700, NOW), Began::Unclear);
}

/// Creates pins from these entries of the journal.
fn reloaded(entries: &[JournalEntry], now: Stamp) -> Pins {
    let mut pins = Pins::new(8);
    for entry in entries {
        match entry {
            JournalEntry::Pin(pin) => pins.load(pin, now),
            JournalEntry::Unpinned(key) => pins.unload(*key),
            _ => unreachable!(),
        }
    }
    assert!(pins.changes().is_empty());
    pins
}

fn entries(pins: &Pins) -> Vec<JournalEntry> {
    let (mut all, mut from) = (Vec::new(), Some(0));
    while let Some(at) = from {
        let (some, next) = pins.records(at, 2);
        assert!(some.len() <= 2);
        all.extend(some);
        from = next;
    }
    all
}

#[test]
fn pins_survive_a_restart() {
    let mut pins = Pins::new(8);
    cut(&mut pins, &device(), A, 1000, NOW);
    for number in 1..=4 {
        cut(&mut pins, &owner(number), B, 5000, NOW);
    }
    let written = entries(&pins);
    assert_eq!(written.len(), 5);
    // Each entry occurs twice; the last one counts.
    let twice = [&*written, &*written].concat();
    let mut loaded = reloaded(&twice, NOW);
    assert_eq!(entries(&loaded), written);
    assert_eq!(loaded.began(&device(), 1000, NOW), Began::With(A));
    assert_eq!(loaded.began(&device(), 1001, NOW), Began::Unknown);
    loaded.unload(device().key());
    assert_eq!(loaded.began(&device(), 1, NOW), Began::Unknown);
    let mut late = reloaded(&written, NOW.plus(LIFETIME));
    assert_eq!(
        late.began(&device(), 1000, NOW.plus(LIFETIME)),
        Began::Unknown
    );
    cut(&mut late, &device(), B, 2000, NOW.plus(LIFETIME));
    assert_eq!(
        late.began(&device(), 1000, NOW.plus(LIFETIME)),
        Began::Unclear
    );
    let late = reloaded(&written, NOW.plus(KEPT));
    assert!(late.is_empty());
}

#[test]
fn one_line_covers_all_bytes_that_may_be_sent_before_the_next() {
    let mut pins = Pins::new(8);
    let mut journal = Vec::new();
    let download = begin(&mut pins, &device(), A, NOW);
    journal.extend(pins.to_write(&download).map(JournalEntry::Pin));
    assert_eq!(journal.len(), 1);
    assert!(pins.to_write(&download).is_none());
    pins.mark_unwritten(&download);
    assert!(pins.to_write(&download).is_some());
    pins.sent(&download, 3000);
    // After a kill now, all bytes that may have been sent count.
    let after_kill = reloaded(&journal, NOW);
    assert_eq!(after_kill.began(&device(), 5000, NOW), Began::With(A));
    assert_eq!(after_kill.began(&device(), 5001, NOW), Began::Unknown);
    // After the end of the download, only the bytes that were sent count.
    pins.end(download, NOW);
    journal.extend(pins.changes());
    assert_eq!(journal.len(), 2);
    let after_kill = reloaded(&journal, NOW);
    assert_eq!(after_kill.began(&device(), 3000, NOW), Began::With(A));
    assert_eq!(after_kill.began(&device(), 3001, NOW), Began::Unknown);
    // The rest of the file needs another line.
    let rest = begin_at(&mut pins, &device(), PinWorth::Stranger, A, 3000..5000, NOW).unwrap();
    journal.extend(pins.to_write(&rest).map(JournalEntry::Pin));
    assert_eq!(journal.len(), 3);
    let after_kill = reloaded(&journal, NOW);
    assert_eq!(after_kill.began(&device(), 5000, NOW), Began::With(A));
    pins.sent(&rest, 5000);
    pins.end(rest, NOW);
    assert!(pins.changes().is_empty());
}

#[test]
fn the_ranges_of_one_download_are_one_line_an_hour() {
    let mut pins = Pins::new(8);
    let mut lines = 0;
    for from in (0..4000).step_by(100) {
        let now = NOW.plus(u32::try_from(from).unwrap() / 100);
        let range = from..from + 100;
        let download = begin_at(&mut pins, &device(), PinWorth::Stranger, A, range, now).unwrap();
        lines += usize::from(pins.to_write(&download).is_some());
        pins.sent(&download, from + 100);
        pins.end(download, now);
        lines += pins.changes().len();
    }
    assert_eq!(lines, 1);
    let later = NOW.plus(MAX_LAG);
    let download = begin_at(
        &mut pins,
        &device(),
        PinWorth::Stranger,
        A,
        4000..4100,
        later,
    )
    .unwrap();
    assert!(pins.to_write(&download).is_some());
    pins.sent(&download, 4100);
    // The download takes an hour.
    pins.end(download, later.plus(MAX_LAG));
    assert_eq!(pins.changes().len(), 1);
}

#[test]
fn the_journal_is_told_of_evicted_pins_that_it_has() {
    let mut pins = Pins::new(1);
    let download = begin(&mut pins, &device(), A, NOW);
    assert!(pins.to_write(&download).is_some());
    pins.end(download, NOW);
    pins.changes();
    cut(&mut pins, &owner(1), A, 1, NOW.plus(1));
    assert_eq!(pins.changes(), [JournalEntry::Unpinned(device().key())]);
    // The journal never had this pin.
    cut(&mut pins, &owner(2), A, 1, NOW.plus(2));
    assert!(pins.changes().is_empty());
}
