use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;

use super::json::Fields;
use super::line::{Said, When};
use super::*;
use crate::firmware::ContentId;
use crate::firmware::audience::DeviceId;
use crate::fleet::clock::TRUSTED_FROM;
use crate::fleet::entry::*;
use crate::fleet::network::{Network, Wide};
use crate::fleet::pins::Downloader;
use crate::os::scratch::Scratch;

const NOW: Stamp = Stamp(1 << 31);
const UNIX: i64 = TRUSTED_FROM + 30_000_000;
const HOME: Network = Network::V4([192, 0, 2]);
const A: ContentId = ContentId([1; 32]);

fn pin(who: u64, used: Stamp) -> Entry {
    Entry::Pin(PinEntry {
        who: Downloader(who),
        network: HOME,
        content: A,
        used,
        complete: false,
    })
}

fn texts() -> impl Strategy<Value = Box<str>> {
    prop_oneof!["[0-9A-Za-z_.-]{1,20}", "\\PC{0,12}", "[\\x00-\\x7f]{0,12}"]
        .prop_map(String::into_boxed_str)
}

fn stamps() -> impl Strategy<Value = Stamp> {
    (0..=NOW.0).prop_map(Stamp)
}

fn ids() -> impl Strategy<Value = (DeviceId, Box<str>)> {
    prop_oneof!["[0-9]{14,17}", "[0-9a-fA-F]{12}", "[0-9A-Za-z_-]{1,64}"]
        .prop_map(|text| (DeviceId::parse(&text).unwrap(), text.into_boxed_str()))
}

fn networks() -> impl Strategy<Value = Network> {
    prop_oneof![
        any::<[u8; 3]>().prop_map(Network::V4),
        // Not a mapped one, which is IPv4.
        any::<[u8; 6]>().prop_map(|[_, b, c, d, e, f]| Network::V6([0x20, b, c, d, e, f])),
    ]
}

fn contents() -> impl Strategy<Value = ContentId> {
    any::<[u8; 32]>().prop_map(ContentId)
}

fn downloaders() -> impl Strategy<Value = Downloader> {
    any::<u64>().prop_map(Downloader)
}

fn journeys() -> impl Strategy<Value = JourneyEntry> {
    (
        (texts(), texts(), texts(), contents()),
        (any::<u64>(), 0..State::ALL.len(), stamps(), any::<u64>()),
    )
        .prop_map(
            |((project, version, from, content), (size, state, since, reached))| JourneyEntry {
                project,
                version,
                content,
                size,
                state: State::ALL[state],
                since,
                reached,
                from,
            },
        )
}

fn devices() -> impl Strategy<Value = Entry> {
    (
        (ids(), texts(), texts(), stamps(), stamps()),
        (any::<u32>(), proptest::option::of(networks())),
        proptest::option::of(journeys()),
    )
        .prop_map(
            |(((device, text), project, version, first, last), (interval, network), journey)| {
                Entry::Device(DeviceEntry {
                    device,
                    text,
                    project,
                    version,
                    first,
                    last,
                    interval,
                    network,
                    journey,
                })
            },
        )
}

fn guards() -> impl Strategy<Value = Entry> {
    (
        (ids(), downloaders(), any::<u64>(), contents(), any::<u64>()),
        (any::<u32>(), any::<u32>(), any::<u64>(), any::<u32>()),
        (
            proptest::option::of((0..NOW.0 + 86_400).prop_map(Stamp)),
            proptest::option::of(stamps()),
            stamps(),
        ),
    )
        .prop_map(
            |(
                ((device, _), unit, wide, content, version),
                (reverts, redirects, sent, level),
                (held_until, delivered, used),
            )| {
                Entry::Guard(GuardEntry {
                    device,
                    unit,
                    wide: Wide(wide),
                    content,
                    version,
                    reverts,
                    redirects,
                    sent,
                    level,
                    held_until,
                    delivered,
                    used,
                })
            },
        )
}

fn entries() -> impl Strategy<Value = Entry> {
    prop_oneof![
        devices(),
        guards(),
        ids().prop_map(|(device, _)| Entry::Forgotten(device)),
        (
            downloaders(),
            networks(),
            contents(),
            stamps(),
            any::<bool>()
        )
            .prop_map(
                |(who, network, content, used, complete)| Entry::Pin(PinEntry {
                    who,
                    network,
                    content,
                    used,
                    complete
                })
            ),
        (downloaders(), networks(), contents())
            .prop_map(|(who, network, content)| Entry::Unpinned(who, network, content)),
        (downloaders(), any::<u64>()).prop_map(|(unit, wide)| Entry::Unguarded(unit, Wide(wide))),
        (
            texts(),
            texts(),
            stamps(),
            proptest::option::of(texts()),
            proptest::option::of(stamps())
        )
            .prop_map(|(project, version, first, fused, resumed)| Entry::Release(
                ReleaseEntry {
                    project,
                    version,
                    first,
                    fused,
                    resumed
                }
            )),
    ]
}

proptest! {
    #[test]
    fn every_entry_comes_back(entry in entries(), unix in prop_oneof![Just(0_i64), Just(UNIX)]) {
        let mut text = String::new();
        line::entry(&mut text, Wall { stamp: NOW, unix }, NOW, &entry);
        prop_assert_eq!(text.matches('\n').count(), 1);
        prop_assert_eq!(text.matches("{\"").count(), 1, "{}", &text);
        serde_json::from_str::<serde_json::Value>(&text).unwrap();
        let body = line::intact(text.trim_end_matches('\n').as_bytes()).unwrap();
        let when = When { stamp: NOW, unix };
        let said = line::said(&Fields::read(body).unwrap(), when);
        prop_assert_eq!(said, Some(Said::Entry(entry)));
    }
}

struct Book {
    scratch: Scratch,
}

impl Book {
    fn new() -> Book {
        Book {
            scratch: Scratch::new(),
        }
    }

    fn path(&self) -> PathBuf {
        self.scratch.path().join(FILE)
    }

    fn load_at(&self, now: Stamp, unix: i64) -> (Loaded, Vec<Entry>) {
        let mut entries = Vec::new();
        let loaded = load(&self.path(), now, unix, &mut |entry| entries.push(entry)).unwrap();
        (loaded, entries)
    }

    fn load(&self) -> Vec<Entry> {
        self.load_at(NOW, UNIX).1
    }

    /// Opens as the server does.
    fn start(&self, now: Stamp, unix: i64) -> (Journal, Vec<Entry>) {
        let mut entries = Vec::new();
        let loaded = open(self.scratch.path(), now, unix, &mut |entry| {
            entries.push(entry)
        });
        let live = entries.len();
        (go_on(self.scratch.path(), now, unix, loaded, live), entries)
    }
}

#[test]
fn what_was_written_at_once_and_in_batches_is_there_after_a_restart() {
    let book = Book::new();
    let (mut journal, entries) = book.start(NOW, UNIX);
    assert!(entries.is_empty());
    journal.later(&pin(1, NOW));
    let written = journal.now(&pin(2, NOW)).unwrap();
    smol::block_on(written.wait());
    assert_eq!(book.load(), [pin(1, NOW), pin(2, NOW)]);
    journal.later(&pin(3, NOW));
    journal.stop();
    assert_eq!(book.load().len(), 3);
    assert!(journal.now(&pin(4, NOW)).is_none());
    let text = fs::read_to_string(book.path()).unwrap();
    assert!(
        text.starts_with("{\"luat-ota-journal\":1,\"crc\":\""),
        "{text}"
    );
    assert!(text.ends_with('\n'), "{text}");
}
