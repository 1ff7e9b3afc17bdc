use super::*;

/// Seconds from the last use of each pin of a journal to `now`.
fn ages(entries: &[JournalEntry], now: Stamp) -> Vec<u32> {
    let used = |entry: &JournalEntry| match entry {
        JournalEntry::Pin(pin) => now.since(pin.used),
        other => panic!("{other:?}"),
    };
    entries.iter().map(used).collect()
}

#[test]
fn at_most_thirty_days_of_downtime_count() {
    let test = TestJournal::new();
    let (mut journal, _) = test.start(NOW, UNIX);
    journal.write_later(&pin(1, NOW), Priority::Minor);
    journal.tick(NOW.plus(100), UNIX + 100);
    journal.stop();
    for (down, counted) in [(0, 0), (50, 50), (100 * 86_400, 30 * 86_400), (-5000, 0)] {
        let (loaded, entries) = test.load_at(NOW, UNIX + 100 + down);
        assert_eq!(ages(&entries, NOW), [100 + counted], "{down}");
        assert_eq!(loaded.downtime, counted);
    }
    // If the clock was never set, the downtime is unknown and does not count.
    assert_eq!(ages(&test.load_at(NOW, 1000).1, NOW), [100]);
}

#[test]
fn a_clock_that_jumps_fifty_six_years_makes_nothing_older() {
    let test = TestJournal::new();
    // A run with a correct clock.
    let (mut journal, _) = test.start(NOW, UNIX);
    journal.write_later(&pin(1, NOW), Priority::Minor);
    journal.stop();
    // A Raspberry Pi without a battery starts in 1970, and its clock is set later.
    let (mut journal, entries) = test.start(NOW, 30);
    assert_eq!(ages(&entries, NOW), [0]);
    journal.write_later(&pin(2, NOW.plus(10)), Priority::Minor);
    journal.tick(NOW.plus(60), 90);
    journal.tick(NOW.plus(100), UNIX + 5000);
    journal.write_later(&pin(3, NOW.plus(100)), Priority::Minor);
    journal.tick(NOW.plus(101), UNIX + 5001);
    // The clock is stepped back by a year.
    journal.tick(NOW.plus(110), UNIX + 5010 - 31_536_000);
    journal.write_later(&pin(4, NOW.plus(120)), Priority::Minor);
    journal.tick(NOW.plus(130), UNIX + 5030 - 31_536_000);
    journal.stop();
    let text = fs::read_to_string(test.path()).unwrap();
    assert_eq!(text.matches("\"clock\":\"step\"").count(), 2, "{text}");
    assert!(text.contains("\"trusted\":false") && text.contains("\"trusted\":true"));
    let (_, entries) = test.load_at(NOW, UNIX + 5030 - 31_536_000);
    assert_eq!(ages(&entries, NOW), [130, 120, 30, 10]);
    // Whichever line is lost, no pin becomes years older.
    let lines: Vec<&str> = text.lines().collect();
    for lost in 0..lines.len() {
        let mut some = lines.clone();
        some.remove(lost);
        fs::write(test.path(), some.join("\n")).unwrap();
        let (_, entries) = test.load_at(NOW, UNIX + 5030 - 31_536_000);
        for age in ages(&entries, NOW) {
            assert!(age <= 2 * 7200 + 200, "without line {lost}: {age}");
        }
    }
}

#[test]
fn a_run_in_1970_that_was_killed_before_the_clock_was_set_holds_no_device_for_56_years() {
    let test = TestJournal::new();
    let held = |until: Stamp| {
        let device = DeviceId::Imei(862_991_443_753_386);
        JournalEntry::Guard(GuardEntry {
            reverts: 3,
            level: 1,
            held_until: Some(until),
            ..GuardEntry::new(device, (IdentityHash(1), CoarseNetwork(2)), A, 3, NOW)
        })
    };
    for (before, after) in [
        (30, UNIX),
        (UNIX, 30),
        (UNIX + 1_000_000_000, UNIX),
        (30, 30),
    ] {
        let path = test.path();
        let _ = fs::remove_file(path);
        let (mut journal, _) = test.start(NOW, before);
        let written = journal
            .write_now(&held(NOW.plus(3600)), Priority::Major)
            .unwrap();
        block_on(written.wait());
        // The server is killed.
        drop(journal);
        let (_, entries) = test.load_at(NOW, after);
        let JournalEntry::Guard(guard) = &entries[0] else {
            panic!()
        };
        let left = guard.held_until.unwrap().since(NOW);
        assert_eq!(left, 3600, "{before} {after}");
        assert_eq!(NOW.since(guard.used), 0);
    }
}

#[test]
fn a_line_is_written_every_hour_so_that_a_quiet_day_is_a_day() {
    let test = TestJournal::new();
    let (mut journal, _) = test.start(NOW, UNIX);
    journal.write_later(&pin(1, NOW), Priority::Minor);
    for minute in 1..=24 * 60 {
        journal.tick(NOW.plus(minute * 60), UNIX + i64::from(minute) * 60);
    }
    journal.stop();
    assert_eq!(ages(&test.load_at(NOW, UNIX + 86_400).1, NOW), [86_400]);
    let text = fs::read_to_string(test.path()).unwrap();
    assert!(text.matches("\"hour\"").count() >= 23, "{text}");
}

#[test]
fn a_quiet_journal_is_due_when_a_line_waits_and_after_an_hour() {
    let test = TestJournal::new();
    let (mut journal, _) = test.start(NOW, UNIX);
    let quiet_due = |journal: &Journal| {
        let due = wait_for(|| journal.due().filter(|due| *due > NOW));
        due.since(NOW)
    };
    assert_eq!(quiet_due(&journal), 3600);
    journal.advance(NOW.plus(100));
    journal.write_later(&pin(1, NOW.plus(100)), Priority::Minor);
    assert_eq!(quiet_due(&journal), 105);
    journal.tick(NOW.plus(105), UNIX + 105);
    assert_eq!(quiet_due(&journal), 3705);
    journal.tick(NOW.plus(3705), UNIX + 3705);
    assert_eq!(quiet_due(&journal), 7305);
    // After `rewrite` records may be missing, so there is work to do until everything is written anew.
    journal.rewrite();
    assert!(journal.due().is_some_and(|due| due <= NOW));
    assert!(compact(&mut journal, &[pin(1, NOW.plus(100))]));
    wait_for(|| {
        let _none = journal.wants_records();
        journal.due().filter(|due| *due > NOW)
    });
    journal.stop();
    assert_eq!(journal.due(), None);
}
