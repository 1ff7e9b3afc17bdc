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
    (pins, loaded.is_cut)
}

/// The text of a journal after a run in this folder that wrote this pin.
fn run(book: &Book, owner: u64, stopped: bool) -> String {
    let (mut journal, _) = book.start(NOW, UNIX);
    block_on(
        journal
            .now(&pin(owner, NOW), Priority::Major)
            .unwrap()
            .wait(),
    );
    match stopped {
        true => journal.stop(),
        // The server is killed.
        false => drop(journal),
    }
    fs::read_to_string(book.path()).unwrap()
}

#[test]
fn only_a_run_that_has_every_line_goes_on_with_downloads_that_began_before() {
    let book = Book::new();
    let here = Origin::here(book.scratch.path()).unwrap();
    for (stopped, there, goes_on) in [
        (false, here, true),
        (true, here, true),
        // A power cut, and a regular restart of the machine.
        (false, here.next_boot(), false),
        (true, here.next_boot(), true),
        // A copy, however old it is.
        (false, here.copied(), false),
        (true, here.copied(), false),
        (false, here.copied().next_boot(), false),
    ] {
        fs::remove_file(book.path()).ok();
        let text = run(&book, 1, stopped);
        let expected = (vec![(1, goes_on)], !goes_on);
        assert_eq!(found(&text, Some(there)), expected, "{stopped} {there:?}");
        // A run of unknown origin reads all lines as before.
        assert_eq!(found(&text, None), (vec![(1, true)], false));
    }
}

#[test]
fn downloads_from_before_a_copy_stay_doubtful_and_later_ones_do_not() {
    let (primary, standby) = (Book::new(), Book::new());
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
fn a_compacted_journal_still_says_where_it_was_written() {
    let book = Book::new();
    let (mut journal, _) = book.start(NOW, UNIX);
    journal.rewrite();
    assert!(compact(&mut journal, &[pin(1, NOW)]));
    wait_for(|| {
        fs::read_to_string(book.path())
            .ok()
            .filter(|text| text.contains("\"pin\""))
    });
    drop(journal);
    let text = fs::read_to_string(book.path()).unwrap();
    assert!(!text.contains("\"start\""), "{text}");
    let here = Origin::here(book.scratch.path()).unwrap();
    assert_eq!(found(&text, Some(here)), (vec![(1, true)], false));
    assert_eq!(found(&text, Some(here.copied())), (vec![(1, false)], true));
}

#[test]
fn a_journal_that_does_not_say_where_it_was_written_is_read_as_before() {
    let text = text_of(&[pin(1, NOW)]);
    let here = Origin::here(Path::new("/"));
    assert!(here.is_some());
    assert_eq!(found(&text, here), (vec![(1, true)], false));
}

#[test]
fn every_beginning_of_a_journal_is_one_of_an_earlier_moment() {
    let book = Book::new();
    let (mut journal, _) = book.start(NOW, UNIX);
    for owner in 0..20 {
        block_on(
            journal
                .now(&pin(owner, NOW), Priority::Major)
                .unwrap()
                .wait(),
        );
    }
    drop(journal);
    let text = fs::read_to_string(book.path()).unwrap();
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
