use super::*;
use crate::fleet::journal::origin::Origin;
use crate::fleet::pins::LIFETIME;

/// The pins that a run at this origin finds, and whether each still permits a resume; then whether lines may be missing
/// at the end.
fn found(text: &str, here: Option<Origin>) -> (Vec<(u64, bool)>, bool) {
    let now = Wall {
        stamp: NOW,
        unix: UNIX,
    };
    let mut pins = Vec::new();
    let each = &mut |entry| match entry {
        JournalEntry::Pin(pin) => pins.push((pin.owner.0, NOW.since(pin.used) < LIFETIME)),
        other => panic!("{other:?}"),
    };
    let mut journal = io::Cursor::new(text.as_bytes());
    let loaded = load::read(&mut journal, io::Seek::rewind, here, now, each).unwrap();
    (pins, loaded.may_lack_lines)
}

/// The text of a journal after a run in this folder that wrote this pin.
fn run(test: &TestJournal, owner: u64, stopped: bool) -> String {
    let (mut journal, _) = test.start(NOW, UNIX);
    let written = journal
        .write_now(&pin(owner, NOW), Priority::Major)
        .unwrap();
    block_on(written.wait());
    match stopped {
        true => journal.stop(),
        // The server is killed.
        false => drop(journal),
    }
    fs::read_to_string(test.path()).unwrap()
}

#[test]
fn only_a_run_that_has_every_line_resumes_earlier_downloads() {
    let test = TestJournal::new();
    let here = Origin::here(test.scratch.path()).unwrap();
    for (stopped, there, is_resumable) in [
        (false, here, true),
        (true, here, true),
        // A power cut, and a regular restart of the machine.
        (false, here.next_boot(), false),
        (true, here.next_boot(), true),
        // A copy, however old it is.
        (false, here.in_copy(), false),
        (true, here.in_copy(), false),
        (false, here.in_copy().next_boot(), false),
    ] {
        fs::remove_file(test.path()).ok();
        let text = run(&test, 1, stopped);
        let expected = (vec![(1, is_resumable)], !is_resumable);
        assert_eq!(found(&text, Some(there)), expected, "{stopped} {there:?}");
        // A run of unknown origin reads all lines as before.
        assert_eq!(found(&text, None), (vec![(1, true)], false));
    }
}

#[test]
fn downloads_from_before_a_copy_cannot_be_resumed_and_later_ones_can() {
    let (primary, standby) = (TestJournal::new(), TestJournal::new());
    run(&primary, 1, false);
    fs::copy(primary.path(), standby.path()).unwrap();
    let here = Origin::here(standby.scratch.path());
    let text = run(&standby, 2, false);
    assert_eq!(found(&text, here), (vec![(1, false), (2, true)], false));
    let text = run(&standby, 3, true);
    let expected = vec![(1, false), (2, true), (3, true)];
    assert_eq!(found(&text, here), (expected, false));
    // The journal is copied back.
    fs::write(primary.path(), &text).unwrap();
    let here = Origin::here(primary.scratch.path());
    let text = run(&primary, 4, false);
    let expected = vec![(1, false), (2, false), (3, false), (4, true)];
    assert_eq!(found(&text, here), (expected, false));
}

#[test]
fn a_compacted_journal_still_states_its_origin() {
    let test = TestJournal::new();
    let (mut journal, _) = test.start(NOW, UNIX);
    journal.rewrite();
    assert!(compact(&mut journal, &[pin(1, NOW)]));
    wait_for(|| {
        fs::read_to_string(test.path())
            .ok()
            .filter(|text| text.contains("\"pin\""))
    });
    drop(journal);
    let text = fs::read_to_string(test.path()).unwrap();
    assert!(!text.contains("\"start\""), "{text}");
    let here = Origin::here(test.scratch.path()).unwrap();
    assert_eq!(found(&text, Some(here)), (vec![(1, true)], false));
    assert_eq!(found(&text, Some(here.in_copy())), (vec![(1, false)], true));
}

#[test]
fn a_journal_without_an_origin_counts_as_complete() {
    let text = text_of(&[pin(1, NOW)]);
    let here = Origin::here(Path::new("/"));
    assert!(here.is_some());
    assert_eq!(found(&text, here), (vec![(1, true)], false));
}

#[test]
fn every_beginning_of_a_journal_is_the_journal_of_an_earlier_moment() {
    let test = TestJournal::new();
    let (mut journal, _) = test.start(NOW, UNIX);
    for owner in 0..20 {
        let written = journal
            .write_now(&pin(owner, NOW), Priority::Major)
            .unwrap();
        block_on(written.wait());
    }
    drop(journal);
    let text = fs::read_to_string(test.path()).unwrap();
    for length in 0..=text.len() {
        let whole = text[..length].matches("\"pin\"").count();
        let (pins, _) = found(&text[..length], None);
        let is_torn = !text[..length].is_empty() && !text[..length].ends_with('\n');
        let count = pins.len();
        assert!(
            count == whole || is_torn && count + 1 == whole,
            "{length}: {count} of {whole}"
        );
        let expected: Vec<_> = (0..count as u64).map(|owner| (owner, true)).collect();
        assert_eq!(pins, expected);
    }
}
