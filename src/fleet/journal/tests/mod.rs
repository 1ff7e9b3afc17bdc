mod common;
mod compaction;
mod damage;
mod entries;
mod origin;
mod time;

use super::batcher::{BUDGET, MIN_COMPACTED};
use super::line::{DecodedLine, decode, parse};
use super::writer::{COPIED, FAILED};
use super::*;
use crate::firmware::ContentId;
use crate::firmware::audience::DeviceId;
use crate::fleet::clock::TRUSTED_FROM;
use crate::fleet::entry::fields::LineTime;
use crate::fleet::entry::*;
use crate::fleet::network::{CoarseNetwork, Network};
use crate::fleet::profiles::Profile;
use crate::fleet::progress::{Outcome, State};
use crate::fleet::requester::{IdentityHash, PinKey};
use crate::os::scratch::Scratch;
use crate::state::StateFolder;
use proptest::prelude::*;
use smol::block_on;
use std::borrow::Cow;
use std::fs;
use std::path::PathBuf;
use std::rc::Rc;

const NOW: Stamp = Stamp(1 << 31);

const UNIX: i64 = TRUSTED_FROM + 30_000_000;

const HOME: Network = Network::V4([192, 0, 2]);

const A: ContentId = ContentId([1; 32]);

fn pin(owner: u64, used: Stamp) -> JournalEntry {
    JournalEntry::Pin(PinEntry {
        owner: PinKey(owner),
        statement: 0,
        content: A,
        used,
        reach: 0,
        worth: 0,
    })
}

struct TestJournal {
    scratch: Scratch,
    folder: StateFolder,
}

impl TestJournal {
    fn new() -> TestJournal {
        let scratch = Scratch::new();
        let folder = StateFolder::new(scratch.path());
        folder.claim().unwrap();
        TestJournal { scratch, folder }
    }

    fn path(&self) -> PathBuf {
        self.scratch.path().join(FILE)
    }

    fn load_at(&self, now: Stamp, unix: i64) -> (Loaded, Vec<JournalEntry>) {
        let mut entries = Vec::new();
        let loaded = load(&self.path(), now, unix, &mut |entry| entries.push(entry)).unwrap();
        (loaded, entries)
    }

    fn load(&self) -> Vec<JournalEntry> {
        self.load_at(NOW, UNIX).1
    }

    /// Opens the journal as the server does.
    fn start(&self, now: Stamp, unix: i64) -> (Journal, Vec<JournalEntry>) {
        let mut entries = Vec::new();
        let loaded = open(&self.folder, now, unix, &mut |entry| entries.push(entry));
        let live = entries.len();
        let wall = Wall { stamp: now, unix };
        (continue_journal(&self.folder, wall, &loaded, live), entries)
    }
}

#[test]
fn what_was_written_at_once_and_in_batches_is_there_after_a_restart() {
    let test = TestJournal::new();
    let (mut journal, entries) = test.start(NOW, UNIX);
    assert!(entries.is_empty());
    journal.write_later(&pin(1, NOW), Priority::Minor);
    let written = journal.write_now(&pin(2, NOW), Priority::Major).unwrap();
    block_on(written.wait());
    assert_eq!(test.load(), [pin(1, NOW), pin(2, NOW)]);
    journal.write_later(&pin(3, NOW), Priority::Minor);
    journal.stop();
    assert_eq!(test.load().len(), 3);
    assert!(journal.write_now(&pin(4, NOW), Priority::Major).is_none());
    let text = fs::read_to_string(test.path()).unwrap();
    assert!(
        text.starts_with("{\"luat-ota-journal\":2,\"crc\":\""),
        "{text}"
    );
    assert!(text.ends_with('\n'), "{text}");
}

/// The text of a journal with these entries.
fn text_of(entries: &[JournalEntry]) -> String {
    let mut text = String::new();
    line::write_header(&mut text);
    text + &lines_of(entries)
}

fn lines_of(entries: &[JournalEntry]) -> String {
    let mut text = String::new();
    let wall = Wall {
        stamp: NOW,
        unix: UNIX,
    };
    for entry in entries {
        line::write_entry(&mut text, wall, NOW, entry);
    }
    text
}

/// A line with its checksum.
fn with_checksum(body: &str) -> String {
    format!(
        "{body},\"crc\":\"{:08x}\"}}\n",
        crc32fast::hash(body.as_bytes())
    )
}

/// One entry of most kinds, with a text that resembles a line.
fn samples() -> Vec<JournalEntry> {
    let device = DeviceId::Imei(862_991_443_753_386);
    vec![
        JournalEntry::Device(DeviceEntry {
            interval: 3600,
            network: Some(HOME),
            ..DeviceEntry::new(
                device,
                "862991443753386",
                "P\",\"crc\":\"00000000\"}\n{",
                "1.0.0",
                NOW,
            )
        }),
        pin(1, NOW),
        JournalEntry::Forgotten(device),
        JournalEntry::Release(ReleaseEntry {
            project: "水表".into(),
            version: "2.0.0".into(),
            first: NOW,
            before: None,
            fused: Some("fuse: 3 of 9".into()),
            resumed: Some(NOW),
            confirmed: 0,
            noticed: Noticed::default(),
            authors: Authors::default(),
        }),
        JournalEntry::Change(ChangeEntry::new(
            ChangeEntry::PAUSE,
            "水表",
            "2.0.0",
            "a reason\nof {\"two\"} lines",
        )),
        JournalEntry::Unpinned(PinKey(1)),
    ]
}

fn read(journal: &[u8]) -> (Loaded, Vec<JournalEntry>) {
    let mut entries = Vec::new();
    let mut journal = io::Cursor::new(journal);
    let each = &mut |entry| entries.push(entry);
    let now = Wall {
        stamp: NOW,
        unix: UNIX,
    };
    let loaded = load::read(&mut journal, io::Seek::rewind, None, now, each).unwrap();
    (loaded, entries)
}

#[test]
fn a_removed_journal_wakes_the_server_and_is_written_again() {
    let test = TestJournal::new();
    let (mut journal, _) = test.start(NOW, UNIX);
    let notify = Notify::default();
    journal.set_notify(notify.clone());
    let written = journal.write_now(&pin(1, NOW), Priority::Major).unwrap();
    block_on(written.wait());
    fs::remove_file(test.path()).unwrap();
    block_on(notify.notified());
    assert!(journal.due().is_some_and(|due| due <= NOW));
    assert_eq!(journal.wants_records(), Some(0));
}

#[test]
fn a_flood_of_sightings_leaves_room_for_pins() {
    let test = TestJournal::new();
    let (mut journal, _) = test.start(NOW, UNIX);
    let mut device = samples().remove(0);
    let JournalEntry::Device(seen) = &mut device else {
        panic!()
    };
    seen.project = "P".into();
    for n in 0..50_000 {
        seen.device = DeviceId::Imei(862_991_000_000_000 + n);
        let entry = JournalEntry::Device(seen.clone());
        journal.write_later(&entry, Priority::Seen);
        if n % 100 == 0 {
            journal.tick(NOW, UNIX);
        }
    }
    assert!(journal.write_now(&pin(1, NOW), Priority::Major).is_some());
    journal.tick(NOW.plus(61), UNIX + 61);
    journal.write_later(&device, Priority::Seen);
    journal.stop();
    let (_, entries) = test.load_at(NOW.plus(61), UNIX + 61);
    let size = fs::metadata(test.path()).unwrap().len();
    assert!(size <= BUDGET as u64 / 2 + 4096, "{size}");
    assert!(entries.contains(&pin(1, NOW)), "{}", entries.len());
    assert_eq!(entries.last(), Some(&device));
}

#[test]
fn a_flood_of_strangers_leaves_room_for_the_pins_of_the_fleet() {
    let test = TestJournal::new();
    let (mut journal, _) = test.start(NOW, UNIX);
    let strangers = (0..60_000).filter(|n| {
        if n % 100 == 0 {
            journal.tick(NOW, UNIX);
        }
        journal.write_later(&pin(200_000 + n, NOW), Priority::Minor);
        journal
            .write_now(&pin(100_000 + n, NOW), Priority::Minor)
            .is_some()
    });
    let taken = strangers.count();
    assert!((1000..60_000).contains(&taken), "{taken}");
    let ours = journal.write_now(&pin(1, NOW), Priority::Major);
    assert!(ours.is_some());
    journal.stop();
    let size = fs::metadata(test.path()).unwrap().len();
    assert!(size <= BUDGET as u64 / 4 * 3 + 4096, "{size}");
    assert!(test.load().contains(&pin(1, NOW)));
}

/// Gives all entries, some at a time, until the compaction has all records. Returns `false` if none was wanted.
fn compact(journal: &mut Journal, entries: &[JournalEntry]) -> bool {
    let Some(mut from) = journal.wants_records() else {
        return false;
    };
    loop {
        let at = from as usize;
        let some = &entries[at..entries.len().min(at + 100)];
        let next = at + some.len();
        journal.add_records(some, (next < entries.len()).then_some(next as u64));
        if next >= entries.len() {
            break;
        }
        from = wait_for(|| journal.wants_records());
    }
    true
}

#[track_caller]
fn wait_for<T>(mut so: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = so() {
            return found;
        }
        let caller = std::panic::Location::caller();
        assert!(Instant::now() < end, "never so: what {caller} waits for");
        std::thread::sleep(Duration::from_millis(5));
    }
}
