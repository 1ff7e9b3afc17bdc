use super::*;

/// A journal whose entries are mostly superseded.
fn long_journal() -> (TestJournal, Vec<JournalEntry>) {
    let test = TestJournal::new();
    let mut entries: Vec<JournalEntry> = (0..10_000).map(|n| pin(n % 300, NOW)).collect();
    fs::write(test.path(), text_of(&entries)).unwrap();
    entries.truncate(300);
    (test, entries)
}

#[test]
fn a_journal_that_is_mostly_superseded_is_compacted_without_loss() {
    let (test, live) = long_journal();
    let before = fs::metadata(test.path()).unwrap().len();
    assert!(before > MIN_COMPACTED as u64);
    let (mut journal, _) = test.start(NOW, UNIX);
    // The test's `start` counts every line as live.
    journal.batcher.as_mut().unwrap().set_live(300 * 150);
    let from = journal.wants_records().unwrap();
    assert_eq!(from, 0);
    journal.add_records(&live[..100], Some(100));
    // Meanwhile, a record that was given already changes, and a new one is added.
    journal.write_later(&pin(7, NOW.plus(5)), Priority::Minor);
    let written = journal
        .write_now(&pin(1000, NOW.plus(5)), Priority::Major)
        .unwrap();
    block_on(written.wait());
    wait_for(|| journal.wants_records());
    journal.add_records(&live[100..], None);
    journal.tick(NOW.plus(5), UNIX + 5);
    wait_for(|| (fs::metadata(test.path()).unwrap().len() < before / 4).then_some(()));
    journal.write_later(&pin(1001, NOW.plus(6)), Priority::Minor);
    journal.tick(NOW.plus(6), UNIX + 6);
    assert_eq!(journal.wants_records(), None);
    journal.stop();
    assert!(!test.scratch.path().join(COPY_FILE).exists());
    let mut used = std::collections::HashMap::new();
    for entry in test.load_at(NOW.plus(6), UNIX + 6).1 {
        let JournalEntry::Pin(pin) = entry else {
            panic!()
        };
        used.insert(pin.owner.0, pin.used);
    }
    assert_eq!(used.len(), 302);
    assert_eq!(used[&7], NOW.plus(5));
    assert_eq!(used[&1001], NOW.plus(6));
    assert_eq!(used[&8], NOW);
}

#[test]
fn a_short_journal_and_one_without_superseded_lines_are_not_compacted() {
    let (test, _) = long_journal();
    let (mut journal, _) = test.start(NOW, UNIX);
    assert_eq!(journal.wants_records(), None);
    journal.stop();
    let small = TestJournal::new();
    let (mut journal, _) = small.start(NOW, UNIX);
    assert!(!compact(&mut journal, &[]));
    journal.stop();
}

#[test]
fn a_kill_at_any_moment_of_a_compaction_leaves_a_complete_journal() {
    use super::writer::Writer;
    let (test, live) = long_journal();
    let shared = Arc::new(Shared::default());
    let mut writer = Writer::new(test.scratch.path(), Arc::clone(&shared));
    // The records that a server which starts now must find: those of the old journal and those added meanwhile.
    let mut expected: std::collections::BTreeSet<u64> = (0..300).collect();
    let check = |expected: &std::collections::BTreeSet<u64>| {
        let killed = TestJournal::new();
        for name in [FILE, COPY_FILE] {
            let from = test.scratch.path().join(name);
            if from.exists() {
                fs::copy(from, killed.scratch.path().join(name)).unwrap();
            }
        }
        let (mut journal, entries) = killed.start(NOW, UNIX);
        journal.stop();
        let known = entries.iter().map(|entry| match entry {
            JournalEntry::Pin(pin) => pin.owner.0,
            other => panic!("{other:?}"),
        });
        assert_eq!(
            &known.collect::<std::collections::BTreeSet<u64>>(),
            expected
        );
        assert!(!killed.scratch.path().join(COPY_FILE).exists());
    };
    writer.begin_copy();
    check(&expected);
    for (n, some) in live.chunks(50).enumerate() {
        writer.append_to_copy(&lines_of(some));
        check(&expected);
        let new = 1000 + n as u64;
        writer.write_lines(&lines_of(&[pin(new, NOW)]), 1);
        expected.insert(new);
        check(&expected);
    }
    writer.replace_journal(&mut |_| {
        check(&expected);
        Ok(())
    });
    check(&expected);
    writer.write_lines(&lines_of(&[pin(2000, NOW)]), 1);
    expected.insert(2000);
    check(&expected);
    assert_eq!(shared.copy.load(Ordering::Relaxed), COPIED);
}

#[test]
fn a_compaction_that_fails_at_any_step_leaves_the_journal_as_it_was() {
    use super::writer::Writer;
    for failing in ["sync the copy", "rename it"] {
        let (test, _) = long_journal();
        let shared = Arc::new(Shared::default());
        let mut writer = Writer::new(test.scratch.path(), Arc::clone(&shared));
        writer.begin_copy();
        writer.replace_journal(&mut |step| match step == failing {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        });
        assert_eq!(shared.copy.load(Ordering::Relaxed), FAILED);
        writer.write_lines(&text_of(&[pin(999, NOW)]), 1);
        assert!(!test.scratch.path().join(COPY_FILE).exists());
        let entries = test.load();
        assert_eq!(
            (entries.len(), entries.last()),
            (10_001, Some(&pin(999, NOW)))
        );
    }
}

#[test]
fn after_a_full_disk_the_next_line_is_whole_and_a_copy_is_wanted() {
    use super::writer::Writer;
    let test = TestJournal::new();
    let shared = Arc::new(Shared::default());
    let mut writer = Writer::new(test.scratch.path(), Arc::clone(&shared));
    writer.write_lines(&lines_of(&[pin(1, NOW)]), 1);
    // The disk accepts half a line, and then nothing.
    let half = lines_of(&[pin(2, NOW)]);
    let mut text = fs::read_to_string(test.path()).unwrap();
    text.push_str(&half[..half.len() - 20]);
    fs::write(test.path(), text).unwrap();
    writer.fill_disk();
    writer.write_lines(&lines_of(&[pin(3, NOW)]), 1);
    assert!(!shared.wants_copy.load(Ordering::Relaxed));
    writer.free_disk();
    writer.write_lines(&lines_of(&[pin(4, NOW)]), 1);
    assert!(shared.wants_copy.load(Ordering::Relaxed));
    let text = fs::read_to_string(test.path()).unwrap();
    assert_eq!(
        text.lines()
            .filter(|line| line::intact_text(line.as_bytes()).is_some())
            .count(),
        3
    );
    assert_eq!(test.load(), [pin(1, NOW), pin(4, NOW)]);
}
