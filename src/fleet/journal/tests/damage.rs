use super::*;

/// Whether `some` is `all` with some entries removed.
fn is_part(some: &[JournalEntry], all: &[JournalEntry]) -> bool {
    let mut rest = all.iter();
    some.iter().all(|one| rest.any(|other| other == one))
}

#[test]
fn a_damaged_byte_costs_the_line_that_it_is_in() {
    let all = samples();
    let text = text_of(&all).into_bytes();
    for at in 0..text.len() {
        for wrong in [b'\n', b'{', text[at] ^ 1] {
            if wrong == text[at] {
                continue;
            }
            let mut damaged = text.clone();
            damaged[at] = wrong;
            let (loaded, entries) = read(&damaged);
            assert!(is_part(&entries, &all), "{at} {wrong}");
            // The header is not an entry. A lost newline affects two lines, but costs none.
            assert!(entries.len() + 1 >= all.len(), "{at} {wrong}");
            assert!(
                loaded.newer.is_none() && loaded.damaged <= 2,
                "{at} {wrong}"
            );
            assert!(loaded.damaged > 0, "{at} {wrong}");
        }
    }
}

#[test]
fn a_journal_that_is_cut_at_any_byte_keeps_all_earlier_lines() {
    let all = samples();
    let text = text_of(&all).into_bytes();
    for end in 0..=text.len() {
        let complete = text[..end].iter().filter(|byte| **byte == b'\n').count();
        let (_, entries) = read(&text[..end]);
        // The header is a line, and a line without its newline is complete.
        let at_end = text.get(end) == Some(&b'\n');
        let expected = (complete + usize::from(at_end)).saturating_sub(1);
        assert_eq!(entries, all[..expected], "{end}");
    }
}

#[test]
fn a_line_that_is_joined_to_a_torn_one_is_read() {
    let test = TestJournal::new();
    let all = samples();
    let text = text_of(&all);
    let lines: Vec<&str> = text.lines().collect();
    for cut in [1, 2, 10, lines[1].len() - 1] {
        let glued = format!(
            "{}\n{}{}\n{}\n",
            lines[0],
            &lines[1][..cut],
            lines[2],
            lines[3]
        );
        fs::write(test.path(), glued).unwrap();
        let (loaded, entries) = test.load_at(NOW, UNIX);
        assert_eq!(entries, all[1..3], "{cut}");
        assert_eq!(loaded.damaged, 1);
    }
    // Whole lines whose newlines were lost.
    fs::write(test.path(), text.replace('\n', "\0")).unwrap();
    assert_eq!(test.load(), all);
}

#[test]
fn an_endless_line_is_one_damaged_line_and_takes_no_memory() {
    let test = TestJournal::new();
    let all = samples();
    let mut text = vec![b'{'; 10 * line::MAX_LINE + 7];
    text.push(b'\n');
    text.extend_from_slice(text_of(&all).as_bytes());
    text.extend(std::iter::repeat_n(0, 3 * line::MAX_LINE));
    fs::write(test.path(), &text).unwrap();
    let (loaded, entries) = test.load_at(NOW, UNIX);
    assert_eq!((loaded.damaged, entries), (2, all));
}

#[test]
fn kinds_of_a_later_version_are_counted_and_a_later_format_is_set_aside() {
    let test = TestJournal::new();
    let mut text = text_of(&[pin(1, NOW)]);
    text += &with_checksum(&format!("{{\"weather\":[\"{{\"],\"at\":{UNIX}"));
    text += &with_checksum(&format!("{{\"pin\":\"no\",\"at\":{UNIX}"));
    text += text_of(&[pin(2, NOW)]).lines().nth(1).unwrap();
    fs::write(test.path(), &text).unwrap();
    let (loaded, entries) = test.load_at(NOW, UNIX);
    assert_eq!(entries, [pin(1, NOW), pin(2, NOW)]);
    assert_eq!((loaded.unknown, loaded.damaged, loaded.newer), (1, 1, None));

    let later = with_checksum("{\"luat-ota-journal\":3") + &text;
    fs::write(test.path(), &later).unwrap();
    let (mut journal, entries) = test.start(NOW, UNIX);
    assert!(entries.is_empty());
    journal.write_later(&pin(3, NOW), Priority::Minor);
    journal.stop();
    let aside = test.scratch.path().join("journal.version-3.jsonl");
    assert_eq!(fs::read_to_string(aside).unwrap(), later);
    assert_eq!(test.load(), [pin(3, NOW)]);
}

#[test]
fn a_folder_that_cannot_be_written_costs_only_history() {
    let test = TestJournal::new();
    let nowhere = StateFolder::new(&test.scratch.write("file", b"").join("is not there"));
    let loaded = open(&nowhere, NOW, UNIX, &mut |_| panic!());
    assert!(loaded.unread);
    let wall = Wall {
        stamp: NOW,
        unix: UNIX,
    };
    let mut journal = continue_journal(&nowhere, wall, &loaded, 0);
    let written = journal.write_now(&pin(1, NOW), Priority::Major).unwrap();
    let began = Instant::now();
    block_on(written.wait());
    assert!(began.elapsed() < MAX_WAIT);
    journal.stop();
}

// Case 50.
#[test]
fn a_fifo_folder_or_device_with_the_name_of_the_journal_is_set_aside() {
    let fifo = |path: &std::path::Path| {
        let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU);
        rustix::fs::mknodat(rustix::fs::CWD, path, kind, mode, 0).unwrap();
    };
    let folder = |path: &std::path::Path| fs::create_dir(path).unwrap();
    let device = |path: &std::path::Path| std::os::unix::fs::symlink("/dev/zero", path).unwrap();
    let kinds: [&dyn Fn(&std::path::Path); 3] = [&fifo, &folder, &device];
    for make in kinds {
        for name in [FILE, COPY_FILE] {
            let test = TestJournal::new();
            make(&test.scratch.path().join(name));
            let (mut journal, entries) = test.start(NOW, UNIX);
            assert!(entries.is_empty());
            let written = journal.write_now(&pin(1, NOW), Priority::Major).unwrap();
            block_on(written.wait());
            journal.rewrite();
            compact(&mut journal, &[pin(1, NOW)]);
            journal.stop();
            assert_eq!(test.load(), [pin(1, NOW)]);
        }
    }
}

#[test]
fn a_journal_of_holes_or_zeros_is_read_at_once() {
    let test = TestJournal::new();
    fs::write(test.path(), text_of(&[pin(1, NOW)])).unwrap();
    let file = fs::OpenOptions::new()
        .write(true)
        .open(test.path())
        .unwrap();
    if file.set_len(1 << 40).is_err() {
        return;
    }
    drop(file);
    let began = Instant::now();
    let (mut journal, entries) = test.start(NOW, UNIX);
    assert_eq!(entries, [pin(1, NOW)]);
    assert!(began.elapsed() < MAX_WAIT, "{:?}", began.elapsed());
    journal.stop();
    // Stored zeros: the rest of the file is not read.
    let mut bytes = text_of(&[pin(1, NOW)]).into_bytes();
    bytes.resize(40 << 20, 0);
    bytes.extend_from_slice(lines_of(&[pin(2, NOW)]).as_bytes());
    fs::write(test.path(), bytes).unwrap();
    assert_eq!(test.load(), [pin(1, NOW)]);
}

#[test]
fn a_journal_that_appears_when_the_folder_can_be_used_is_kept() {
    let test = TestJournal::new();
    let file = test.scratch.write("state", b"in the way");
    let folder = StateFolder::new(&file);
    let loaded = open(&folder, NOW, UNIX, &mut |_| panic!());
    let wall = Wall {
        stamp: NOW,
        unix: UNIX,
    };
    let mut journal = continue_journal(&folder, wall, &loaded, 0);
    // There is no promise once the writer has found that there is no folder.
    if let Some(written) = journal.write_now(&pin(2, NOW), Priority::Major) {
        block_on(written.wait());
    }
    fs::remove_file(&file).unwrap();
    let path = test
        .scratch
        .write("state/journal.jsonl", text_of(&[pin(1, NOW)]).as_bytes());
    // The folder is tried again after at most one second.
    let end = Instant::now() + MAX_WAIT;
    while !folder.is_claimed() && Instant::now() < end {
        if let Some(written) = journal.write_now(&pin(3, NOW), Priority::Major) {
            block_on(written.wait());
        }
    }
    assert!(compact(&mut journal, &[pin(2, NOW), pin(3, NOW)]));
    journal.stop();
    let mut entries = Vec::new();
    load(&path, NOW, UNIX, &mut |entry| {
        if !entries.contains(&entry) {
            entries.push(entry);
        }
    })
    .unwrap();
    entries.sort_by_key(|entry| match entry {
        JournalEntry::Pin(pin) => pin.owner.0,
        other => panic!("{other:?}"),
    });
    assert_eq!(entries, [pin(1, NOW), pin(2, NOW), pin(3, NOW)]);
}
