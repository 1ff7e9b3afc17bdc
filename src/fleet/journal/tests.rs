use std::borrow::Cow;
use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;

use super::batcher::{BUDGET, SHORT};
use super::line::{DecodedLine, decode};
use super::writer::{COPIED, FAILED};
use super::*;
use crate::firmware::ContentId;
use crate::firmware::audience::DeviceId;
use crate::fleet::clock::TRUSTED_FROM;
use crate::fleet::entry::fields::LineTime;
use crate::fleet::entry::*;
use crate::fleet::journey::{Outcome, State};
use crate::fleet::network::{CoarseNetwork, Network};
use crate::fleet::profiles::Profile;
use crate::fleet::requester::{IdentityHash, PinKey};
use crate::os::scratch::Scratch;
use crate::state::StateFolder;
use smol::block_on;

const NOW: Stamp = Stamp(1 << 31);
const UNIX: i64 = TRUSTED_FROM + 30_000_000;
const HOME: Network = Network::V4([192, 0, 2]);
const A: ContentId = ContentId([1; 32]);

fn pin(owner: u64, used: Stamp) -> JournalEntry {
    JournalEntry::Pin(PinEntry {
        owner: PinKey(owner),
        said: 0,
        content: A,
        used,
        reach: 0,
        worth: 0,
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
        .prop_filter_map("what stands for no id", |text| {
            Some((DeviceId::parse(&text)?, text.into_boxed_str()))
        })
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

fn downloaders() -> impl Strategy<Value = IdentityHash> {
    any::<u64>().prop_map(IdentityHash)
}

fn journeys() -> impl Strategy<Value = JourneyEntry> {
    (
        (texts(), texts(), texts(), contents()),
        (any::<u64>(), 0..State::ALL.len(), stamps(), any::<u64>()),
        (0..4u8, 0..4u8, any::<bool>()),
    )
        .prop_map(
            |(
                (project, version, from, content),
                (size, state, since, reached),
                (outcome, weak, by_proxy),
            )| JourneyEntry {
                project,
                version,
                content,
                size,
                state: State::ALL[state],
                since,
                reached,
                outcome: [
                    None,
                    Some(Outcome::Confirmed),
                    Some(Outcome::Reverted),
                    Some(Outcome::FellBack),
                ][usize::from(outcome)],
                weak,
                by_proxy,
                from,
            },
        )
}

fn profiles() -> impl Strategy<Value = Profile<'static>> {
    let text = || proptest::option::of(texts().prop_map(|text| Cow::Owned(text.into_string())));
    let name = texts().prop_map(|text| Some(Cow::Owned(text.into_string())));
    (
        name,
        text(),
        text(),
        any::<(Option<u32>, bool, Option<u64>)>(),
    )
        .prop_map(
            |(firmware_name, path_project, project_key, (core_version, need_oss_url, largest))| {
                Profile {
                    firmware_name,
                    path_project,
                    core_version,
                    project_key,
                    need_oss_url,
                    largest,
                }
            },
        )
}

fn confirmed() -> impl Strategy<Value = Vec<(Box<str>, Box<str>)>> {
    let release = ("[A-Z_]{1,5}", "[0-9.]{1,5}");
    let release = release.prop_map(|(project, version)| (project.into(), version.into()));
    proptest::collection::vec(release, 0..4)
}

fn devices() -> impl Strategy<Value = JournalEntry> {
    (
        (ids(), texts(), texts(), stamps(), stamps()),
        (any::<u32>(), proptest::option::of(networks())),
        proptest::option::of(journeys()),
        (proptest::option::of(profiles()), confirmed()),
    )
        .prop_map(
            |(
                ((device, text), project, version, first, last),
                (interval, network),
                journey,
                (profile, confirmed),
            )| {
                JournalEntry::Device(DeviceEntry {
                    device,
                    text,
                    project,
                    version,
                    first,
                    last,
                    interval,
                    network,
                    profile,
                    confirmed,
                    journey,
                })
            },
        )
}

fn guards() -> impl Strategy<Value = JournalEntry> {
    (
        (ids(), downloaders(), any::<u64>(), contents(), any::<u64>()),
        (any::<u32>(), any::<u32>(), any::<u64>(), any::<u32>()),
        (
            proptest::option::of((0..NOW.0 + 86_400).prop_map(Stamp)),
            proptest::option::of(stamps()),
            stamps(),
        ),
        (
            (any::<bool>(), any::<bool>(), any::<u64>()),
            proptest::option::of(stamps()),
            proptest::option::of(stamps()),
            proptest::collection::vec((stamps(), any::<bool>()), 0..10),
            (texts(), texts()),
        ),
    )
        .prop_map(
            |(
                ((device, _), identity_without_version, coarse_network, content, version),
                (reverts, redirects, sent, level),
                (held_until, delivered, used),
                ((by_proxy, reverted, before), redirected, confirmed, rounds, (from, to)),
            )| {
                JournalEntry::Guard(GuardEntry {
                    device,
                    identity_without_version,
                    coarse_network: CoarseNetwork(coarse_network),
                    content,
                    version,
                    reverts,
                    redirects,
                    sent,
                    level,
                    held_until,
                    delivered,
                    by_proxy,
                    redirected,
                    confirmed,
                    reverted,
                    rounds: rounds
                        .into_iter()
                        .map(|(at, weak)| Round { at, weak })
                        .collect(),
                    from,
                    to,
                    before,
                    used,
                })
            },
        )
}

fn entries() -> impl Strategy<Value = JournalEntry> {
    prop_oneof![
        devices(),
        guards(),
        ids().prop_map(|(device, _)| JournalEntry::Forgotten(device)),
        (
            (any::<u64>(), any::<u64>()),
            contents(),
            stamps(),
            any::<u64>(),
            any::<u8>()
        )
            .prop_map(
                |((owner, said), content, used, reach, worth)| JournalEntry::Pin(PinEntry {
                    owner: PinKey(owner),
                    said,
                    content,
                    used,
                    reach,
                    worth
                })
            ),
        any::<u64>().prop_map(|owner| JournalEntry::Unpinned(PinKey(owner))),
        (downloaders(), any::<u64>()).prop_map(|(identity_without_version, coarse_network)| {
            JournalEntry::Unguarded(identity_without_version, CoarseNetwork(coarse_network))
        }),
        (
            texts(),
            texts(),
            stamps(),
            proptest::option::of(texts()),
            proptest::option::of(any::<[u8; 32]>()),
            proptest::option::of(stamps()),
            any::<u32>()
        )
            .prop_map(
                |(project, version, first, fused, before, resumed, confirmed)| {
                    JournalEntry::Release(ReleaseEntry {
                        before: before.map(ContentId),
                        project,
                        version,
                        first,
                        fused,
                        resumed,
                        confirmed,
                    })
                }
            ),
    ]
}

proptest! {
    #[test]
    fn every_entry_comes_back(entry in entries(), unix in prop_oneof![Just(0_i64), Just(UNIX)]) {
        let mut text = String::new();
        line::write_entry(&mut text, Wall { stamp: NOW, unix }, NOW, &entry);
        prop_assert_eq!(text.matches('\n').count(), 1);
        prop_assert_eq!(text.matches("{\"").count(), 1, "{}", &text);
        serde_json::from_str::<serde_json::Value>(&text).unwrap();
        let line = line::intact(text.trim_end_matches('\n').as_bytes()).unwrap();
        let time = LineTime { stamp: NOW, unix };
        prop_assert_eq!(decode(line, time), DecodedLine::Entry(entry));
    }
}

struct Book {
    scratch: Scratch,
    folder: StateFolder,
}

impl Book {
    fn new() -> Book {
        let scratch = Scratch::new();
        let folder = StateFolder::new(scratch.path());
        folder.claim().unwrap();
        Book { scratch, folder }
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

    /// Opens as the server does.
    fn start(&self, now: Stamp, unix: i64) -> (Journal, Vec<JournalEntry>) {
        let mut entries = Vec::new();
        let loaded = open(&self.folder, now, unix, &mut |entry| entries.push(entry));
        let live = entries.len();
        let wall = Wall { stamp: now, unix };
        (go_on(&self.folder, wall, &loaded, live), entries)
    }
}

#[test]
fn what_was_written_at_once_and_in_batches_is_there_after_a_restart() {
    let book = Book::new();
    let (mut journal, entries) = book.start(NOW, UNIX);
    assert!(entries.is_empty());
    journal.later(&pin(1, NOW), Priority::Minor);
    let written = journal.now(&pin(2, NOW), Priority::Major).unwrap();
    block_on(written.wait());
    assert_eq!(book.load(), [pin(1, NOW), pin(2, NOW)]);
    journal.later(&pin(3, NOW), Priority::Minor);
    journal.stop();
    assert_eq!(book.load().len(), 3);
    assert!(journal.now(&pin(4, NOW), Priority::Major).is_none());
    let text = fs::read_to_string(book.path()).unwrap();
    assert!(
        text.starts_with("{\"luat-ota-journal\":1,\"crc\":\""),
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

/// One of each kind, and a text that tries to look like a line.
/// A line with its check.
fn sealed(body: &str) -> String {
    format!(
        "{body},\"crc\":\"{:08x}\"}}\n",
        crc32fast::hash(body.as_bytes())
    )
}

fn samples() -> Vec<JournalEntry> {
    let device = DeviceId::Imei(862_991_443_753_386);
    vec![
        JournalEntry::Device(DeviceEntry {
            device,
            text: "862991443753386".into(),
            project: "P\",\"crc\":\"00000000\"}\n{".into(),
            version: "1.0.0".into(),
            first: NOW,
            last: NOW,
            interval: 3600,
            network: Some(HOME),
            profile: None,
            confirmed: Vec::new(),
            journey: None,
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
        }),
        JournalEntry::Unpinned(PinKey(1)),
    ]
}

fn read(journal: &[u8]) -> (Loaded, Vec<JournalEntry>) {
    let mut entries = Vec::new();
    let mut journal = io::Cursor::new(journal);
    let each = &mut |entry| entries.push(entry);
    let loaded = load::read(&mut journal, io::Seek::rewind, NOW, UNIX, each).unwrap();
    (loaded, entries)
}

/// Is `some` what is left of `all` when some were taken out?
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
            // The header is no entry; a newline that is lost touches two lines, and costs none.
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
fn a_journal_that_ends_anywhere_has_all_the_lines_before() {
    let all = samples();
    let text = text_of(&all).into_bytes();
    for end in 0..=text.len() {
        let complete = text[..end].iter().filter(|byte| **byte == b'\n').count();
        let (_, entries) = read(&text[..end]);
        // The header is a line; a line without its newline is complete, too.
        let at_end = text.get(end) == Some(&b'\n');
        let expected = (complete + usize::from(at_end)).saturating_sub(1);
        assert_eq!(entries, all[..expected], "{end}");
    }
}

#[test]
fn a_line_that_was_glued_to_a_torn_one_is_found() {
    let book = Book::new();
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
        fs::write(book.path(), glued).unwrap();
        let (loaded, entries) = book.load_at(NOW, UNIX);
        assert_eq!(entries, all[1..3], "{cut}");
        assert_eq!(loaded.damaged, 1);
    }
    // Two whole ones, whose newline was lost.
    fs::write(book.path(), text.replace('\n', "\0")).unwrap();
    assert_eq!(book.load(), all);
}

#[test]
fn a_line_without_end_is_one_damaged_line_and_takes_no_memory() {
    let book = Book::new();
    let all = samples();
    let mut text = vec![b'{'; 10 * line::LONGEST + 7];
    text.push(b'\n');
    text.extend_from_slice(text_of(&all).as_bytes());
    text.extend(std::iter::repeat_n(0, 3 * line::LONGEST));
    fs::write(book.path(), &text).unwrap();
    let (loaded, entries) = book.load_at(NOW, UNIX);
    assert_eq!((loaded.damaged, entries), (2, all));
}

#[test]
fn kinds_of_a_later_version_are_counted_apart_and_a_later_format_is_put_aside() {
    let book = Book::new();
    let mut text = text_of(&[pin(1, NOW)]);
    text += &sealed(&format!("{{\"weather\":[\"{{\"],\"at\":{UNIX}"));
    text += &sealed(&format!("{{\"pin\":\"no\",\"at\":{UNIX}"));
    text += text_of(&[pin(2, NOW)]).lines().nth(1).unwrap();
    fs::write(book.path(), &text).unwrap();
    let (loaded, entries) = book.load_at(NOW, UNIX);
    assert_eq!(entries, [pin(1, NOW), pin(2, NOW)]);
    assert_eq!((loaded.unknown, loaded.damaged, loaded.newer), (1, 1, None));

    let later = sealed("{\"luat-ota-journal\":2") + &text;
    fs::write(book.path(), &later).unwrap();
    let (mut journal, entries) = book.start(NOW, UNIX);
    assert!(entries.is_empty());
    journal.later(&pin(3, NOW), Priority::Minor);
    journal.stop();
    let aside = book.scratch.path().join("journal.version-2.jsonl");
    assert_eq!(fs::read_to_string(aside).unwrap(), later);
    assert_eq!(book.load(), [pin(3, NOW)]);
}

/// How long before now the pins of a journal were last used.
fn ages(entries: &[JournalEntry], now: Stamp) -> Vec<u32> {
    let used = |entry: &JournalEntry| match entry {
        JournalEntry::Pin(pin) => now.since(pin.used),
        other => panic!("{other:?}"),
    };
    entries.iter().map(used).collect()
}

#[test]
fn while_the_server_is_down_time_goes_on_for_thirty_days_at_most() {
    let book = Book::new();
    let (mut journal, _) = book.start(NOW, UNIX);
    journal.later(&pin(1, NOW), Priority::Minor);
    journal.tick(NOW.plus(100), UNIX + 100);
    journal.stop();
    for (down, counted) in [(0, 0), (50, 50), (100 * 86_400, 30 * 86_400), (-5000, 0)] {
        let (loaded, entries) = book.load_at(NOW, UNIX + 100 + down);
        assert_eq!(ages(&entries, NOW), [100 + counted], "{down}");
        assert_eq!(loaded.downtime, counted);
    }
    // And by a clock that was never set nobody knows how long it was.
    assert_eq!(ages(&book.load_at(NOW, 1000).1, NOW), [100]);
}

#[test]
fn a_clock_that_jumps_fifty_six_years_makes_nothing_older() {
    let book = Book::new();
    // A run by a good clock.
    let (mut journal, _) = book.start(NOW, UNIX);
    journal.later(&pin(1, NOW), Priority::Minor);
    journal.stop();
    // A Pi without a battery: 1970, and later it hears of the time.
    let (mut journal, entries) = book.start(NOW, 30);
    assert_eq!(ages(&entries, NOW), [0]);
    journal.later(&pin(2, NOW.plus(10)), Priority::Minor);
    journal.tick(NOW.plus(60), 90);
    journal.tick(NOW.plus(100), UNIX + 5000);
    journal.later(&pin(3, NOW.plus(100)), Priority::Minor);
    journal.tick(NOW.plus(101), UNIX + 5001);
    // And backwards, by a year.
    journal.tick(NOW.plus(110), UNIX + 5010 - 31_536_000);
    journal.later(&pin(4, NOW.plus(120)), Priority::Minor);
    journal.tick(NOW.plus(130), UNIX + 5030 - 31_536_000);
    journal.stop();
    let text = fs::read_to_string(book.path()).unwrap();
    assert_eq!(text.matches("\"clock\":\"step\"").count(), 2, "{text}");
    assert!(text.contains("\"trusted\":false") && text.contains("\"trusted\":true"));
    let (_, entries) = book.load_at(NOW, UNIX + 5030 - 31_536_000);
    assert_eq!(ages(&entries, NOW), [130, 120, 30, 10]);
    // Whatever is lost of it: nobody is years older for that.
    let lines: Vec<&str> = text.lines().collect();
    for lost in 0..lines.len() {
        let mut some = lines.clone();
        some.remove(lost);
        fs::write(book.path(), some.join("\n")).unwrap();
        let (_, entries) = book.load_at(NOW, UNIX + 5030 - 31_536_000);
        for age in ages(&entries, NOW) {
            assert!(age <= 2 * 7200 + 200, "without line {lost}: {age}");
        }
    }
}

#[test]
fn a_run_in_1970_that_was_killed_before_it_knew_the_time_holds_nobody_for_56_years() {
    let book = Book::new();
    let held = |until: Stamp| {
        JournalEntry::Guard(GuardEntry {
            device: DeviceId::Imei(862_991_443_753_386),
            identity_without_version: IdentityHash(1),
            coarse_network: CoarseNetwork(2),
            content: A,
            version: 3,
            reverts: 3,
            redirects: 0,
            sent: 0,
            level: 1,
            held_until: Some(until),
            delivered: None,
            by_proxy: false,
            redirected: None,
            confirmed: None,
            reverted: false,
            rounds: Vec::new(),
            from: "".into(),
            to: "".into(),
            before: 0,
            used: NOW,
        })
    };
    for (before, after) in [
        (30, UNIX),
        (UNIX, 30),
        (UNIX + 1_000_000_000, UNIX),
        (30, 30),
    ] {
        let book_path = book.path();
        let _ = fs::remove_file(book_path);
        let (mut journal, _) = book.start(NOW, before);
        block_on(
            journal
                .now(&held(NOW.plus(3600)), Priority::Major)
                .unwrap()
                .wait(),
        );
        // Killed.
        drop(journal);
        let (_, entries) = book.load_at(NOW, after);
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
    let book = Book::new();
    let (mut journal, _) = book.start(NOW, UNIX);
    journal.later(&pin(1, NOW), Priority::Minor);
    for minute in 1..=24 * 60 {
        journal.tick(NOW.plus(minute * 60), UNIX + i64::from(minute) * 60);
    }
    journal.stop();
    assert_eq!(ages(&book.load_at(NOW, UNIX + 86_400).1, NOW), [86_400]);
    let text = fs::read_to_string(book.path()).unwrap();
    assert!(text.matches("\"hour\"").count() >= 23, "{text}");
}

#[test]
fn a_quiet_journal_is_due_when_a_line_waits_and_after_an_hour() {
    let book = Book::new();
    let (mut journal, _) = book.start(NOW, UNIX);
    let at_rest = |journal: &Journal| {
        let due = wait_for(|| journal.due().filter(|due| *due > NOW));
        due.since(NOW)
    };
    assert_eq!(at_rest(&journal), 3600);
    journal.passed(NOW.plus(100));
    journal.later(&pin(1, NOW.plus(100)), Priority::Minor);
    assert_eq!(at_rest(&journal), 105);
    journal.tick(NOW.plus(105), UNIX + 105);
    assert_eq!(at_rest(&journal), 3705);
    journal.tick(NOW.plus(3705), UNIX + 3705);
    assert_eq!(at_rest(&journal), 7305);
    // Something may be missing in it: it is written anew, until when there is always something to do.
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

#[test]
fn a_journal_that_is_removed_rings_without_being_asked() {
    let book = Book::new();
    let (mut journal, _) = book.start(NOW, UNIX);
    let notify = Notify::default();
    journal.notifies(notify.clone());
    block_on(journal.now(&pin(1, NOW), Priority::Major).unwrap().wait());
    fs::remove_file(book.path()).unwrap();
    block_on(notify.notified());
    assert!(journal.due().is_some_and(|due| due <= NOW));
    assert_eq!(journal.wants_records(), Some(0));
}

#[test]
fn a_flood_of_sightings_leaves_room_for_pins() {
    let book = Book::new();
    let (mut journal, _) = book.start(NOW, UNIX);
    let mut device = samples().remove(0);
    let JournalEntry::Device(seen) = &mut device else {
        panic!()
    };
    seen.project = "P".into();
    for n in 0..50_000 {
        seen.device = DeviceId::Imei(862_991_000_000_000 + n);
        let entry = JournalEntry::Device(seen.clone());
        journal.later(&entry, Priority::Seen);
        if n % 100 == 0 {
            journal.tick(NOW, UNIX);
        }
    }
    assert!(journal.now(&pin(1, NOW), Priority::Major).is_some());
    journal.tick(NOW.plus(61), UNIX + 61);
    journal.later(&device, Priority::Seen);
    journal.stop();
    let (_, entries) = book.load_at(NOW.plus(61), UNIX + 61);
    let size = fs::metadata(book.path()).unwrap().len();
    assert!(size <= BUDGET as u64 / 2 + 4096, "{size}");
    assert!(entries.contains(&pin(1, NOW)), "{}", entries.len());
    assert_eq!(entries.last(), Some(&device));
}

#[test]
fn a_flood_of_strangers_leaves_room_for_the_pins_of_the_fleet() {
    let book = Book::new();
    let (mut journal, _) = book.start(NOW, UNIX);
    let strangers = (0..60_000).filter(|n| {
        if n % 100 == 0 {
            journal.tick(NOW, UNIX);
        }
        journal.later(&pin(200_000 + n, NOW), Priority::Minor);
        journal
            .now(&pin(100_000 + n, NOW), Priority::Minor)
            .is_some()
    });
    let taken = strangers.count();
    assert!((1000..60_000).contains(&taken), "{taken}");
    let ours = journal.now(&pin(1, NOW), Priority::Major);
    assert!(ours.is_some());
    journal.stop();
    let size = fs::metadata(book.path()).unwrap().len();
    assert!(size <= BUDGET as u64 / 4 * 3 + 4096, "{size}");
    assert!(book.load().contains(&pin(1, NOW)));
}

/// Gives all of these, some at a time, until the journal has what it wanted; false: it wanted nothing.
fn compact(journal: &mut Journal, entries: &[JournalEntry]) -> bool {
    let Some(mut from) = journal.wants_records() else {
        return false;
    };
    loop {
        let at = from as usize;
        let some = &entries[at..entries.len().min(at + 100)];
        let next = at + some.len();
        journal.give(some, (next < entries.len()).then_some(next as u64));
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

/// A journal that is full of what is over.
fn long_book() -> (Book, Vec<JournalEntry>) {
    let book = Book::new();
    let mut entries: Vec<JournalEntry> = (0..10_000).map(|n| pin(n % 300, NOW)).collect();
    fs::write(book.path(), text_of(&entries)).unwrap();
    entries.truncate(300);
    (book, entries)
}

#[test]
fn a_journal_that_is_mostly_over_is_made_shorter_and_loses_nothing() {
    let (book, live) = long_book();
    let before = fs::metadata(book.path()).unwrap().len();
    assert!(before > SHORT as u64);
    let (mut journal, _) = book.start(NOW, UNIX);
    // The test's `start` counts every line as live.
    journal.batcher.as_mut().unwrap().set_live(300 * 150);
    let from = journal.wants_records().unwrap();
    assert_eq!(from, 0);
    journal.give(&live[..100], Some(100));
    // Something happens meanwhile: one that was given already, and a new one.
    journal.later(&pin(7, NOW.plus(5)), Priority::Minor);
    block_on(
        journal
            .now(&pin(1000, NOW.plus(5)), Priority::Major)
            .unwrap()
            .wait(),
    );
    wait_for(|| journal.wants_records());
    journal.give(&live[100..], None);
    journal.tick(NOW.plus(5), UNIX + 5);
    wait_for(|| (fs::metadata(book.path()).unwrap().len() < before / 4).then_some(()));
    journal.later(&pin(1001, NOW.plus(6)), Priority::Minor);
    journal.tick(NOW.plus(6), UNIX + 6);
    assert_eq!(journal.wants_records(), None);
    journal.stop();
    assert!(!book.scratch.path().join(COPY_FILE).exists());
    let mut used = std::collections::HashMap::new();
    for entry in book.load_at(NOW.plus(6), UNIX + 6).1 {
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
fn a_small_or_a_live_journal_is_left_alone() {
    let (book, _) = long_book();
    let (mut journal, _) = book.start(NOW, UNIX);
    assert_eq!(journal.wants_records(), None);
    journal.stop();
    let small = Book::new();
    let (mut journal, _) = small.start(NOW, UNIX);
    assert!(!compact(&mut journal, &[]));
    journal.stop();
}

#[test]
fn a_kill_at_any_moment_of_a_compaction_leaves_a_complete_journal() {
    use super::writer::Writer;
    let (book, live) = long_book();
    let shared = Arc::new(Shared::default());
    let mut writer = Writer::new(book.scratch.path(), Arc::clone(&shared));
    // What a server that starts now would know: both what was there and what happened meanwhile.
    let mut expected: std::collections::BTreeSet<u64> = (0..300).collect();
    let check = |expected: &std::collections::BTreeSet<u64>| {
        let killed = Book::new();
        for name in [FILE, COPY_FILE] {
            let from = book.scratch.path().join(name);
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
        writer.copied(&lines_of(some));
        check(&expected);
        let new = 1000 + n as u64;
        writer.lines(&lines_of(&[pin(new, NOW)]), 1);
        expected.insert(new);
        check(&expected);
    }
    writer.finish(&mut |_| {
        check(&expected);
        Ok(())
    });
    check(&expected);
    writer.lines(&lines_of(&[pin(2000, NOW)]), 1);
    expected.insert(2000);
    check(&expected);
    assert_eq!(shared.copy.load(Ordering::Relaxed), COPIED);
}

#[test]
fn a_compaction_that_fails_at_any_step_leaves_the_journal_as_it_was() {
    use super::writer::Writer;
    for failing in ["sync the copy", "rename it"] {
        let (book, _) = long_book();
        let shared = Arc::new(Shared::default());
        let mut writer = Writer::new(book.scratch.path(), Arc::clone(&shared));
        writer.begin_copy();
        writer.finish(&mut |step| match step == failing {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        });
        assert_eq!(shared.copy.load(Ordering::Relaxed), FAILED);
        writer.lines(&text_of(&[pin(999, NOW)]), 1);
        assert!(!book.scratch.path().join(COPY_FILE).exists());
        let entries = book.load();
        assert_eq!(
            (entries.len(), entries.last()),
            (10_001, Some(&pin(999, NOW)))
        );
    }
}

#[test]
fn after_a_full_disk_the_next_line_is_whole_and_what_was_lost_is_wanted_again() {
    use super::writer::Writer;
    let book = Book::new();
    let shared = Arc::new(Shared::default());
    let mut writer = Writer::new(book.scratch.path(), Arc::clone(&shared));
    writer.lines(&lines_of(&[pin(1, NOW)]), 1);
    // The disk takes half a line, and then nothing.
    let half = lines_of(&[pin(2, NOW)]);
    let mut text = fs::read_to_string(book.path()).unwrap();
    text.push_str(&half[..half.len() - 20]);
    fs::write(book.path(), text).unwrap();
    writer.fill_the_disk();
    writer.lines(&lines_of(&[pin(3, NOW)]), 1);
    assert!(!shared.torn.load(Ordering::Relaxed));
    writer.empty_the_disk();
    writer.lines(&lines_of(&[pin(4, NOW)]), 1);
    assert!(shared.torn.load(Ordering::Relaxed));
    let text = fs::read_to_string(book.path()).unwrap();
    assert_eq!(
        text.lines()
            .filter(|line| line::intact(line.as_bytes()).is_some())
            .count(),
        3
    );
    assert_eq!(book.load(), [pin(1, NOW), pin(4, NOW)]);
}

#[test]
fn a_folder_that_takes_no_file_costs_history_and_nothing_else() {
    let book = Book::new();
    let nowhere = StateFolder::new(&book.scratch.write("file", b"").join("is not there"));
    let loaded = open(&nowhere, NOW, UNIX, &mut |_| panic!());
    assert!(loaded.unread);
    let wall = Wall {
        stamp: NOW,
        unix: UNIX,
    };
    let mut journal = go_on(&nowhere, wall, &loaded, 0);
    let written = journal.now(&pin(1, NOW), Priority::Major).unwrap();
    let began = Instant::now();
    block_on(written.wait());
    assert!(began.elapsed() < GIVE_UP);
    journal.stop();
}

// Case 50.
#[test]
fn what_has_the_journals_name_and_is_none_is_set_aside() {
    let fifo = |path: &std::path::Path| {
        let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU);
        rustix::fs::mknodat(rustix::fs::CWD, path, kind, mode, 0).unwrap();
    };
    let folder = |path: &std::path::Path| fs::create_dir(path).unwrap();
    let device = |path: &std::path::Path| std::os::unix::fs::symlink("/dev/zero", path).unwrap();
    let kinds: [&dyn Fn(&std::path::Path); 3] = [&fifo, &folder, &device];
    for make in kinds {
        for name in [FILE, COPY_FILE] {
            let book = Book::new();
            make(&book.scratch.path().join(name));
            let (mut journal, entries) = book.start(NOW, UNIX);
            assert!(entries.is_empty());
            let written = journal.now(&pin(1, NOW), Priority::Major).unwrap();
            block_on(written.wait());
            journal.rewrite();
            compact(&mut journal, &[pin(1, NOW)]);
            journal.stop();
            assert_eq!(book.load(), [pin(1, NOW)]);
        }
    }
}

#[test]
fn a_journal_of_holes_or_noise_is_read_in_no_time() {
    let book = Book::new();
    fs::write(book.path(), text_of(&[pin(1, NOW)])).unwrap();
    let file = fs::OpenOptions::new()
        .write(true)
        .open(book.path())
        .unwrap();
    if file.set_len(1 << 40).is_err() {
        return;
    }
    drop(file);
    let began = Instant::now();
    let (mut journal, entries) = book.start(NOW, UNIX);
    assert_eq!(entries, [pin(1, NOW)]);
    assert!(began.elapsed() < GIVE_UP, "{:?}", began.elapsed());
    journal.stop();
    // Zeros that are stored: the rest of it is not read.
    let mut bytes = text_of(&[pin(1, NOW)]).into_bytes();
    bytes.resize(40 << 20, 0);
    bytes.extend_from_slice(lines_of(&[pin(2, NOW)]).as_bytes());
    fs::write(book.path(), bytes).unwrap();
    assert_eq!(book.load(), [pin(1, NOW)]);
}

#[test]
fn a_journal_that_appears_when_the_folder_can_be_used_is_kept() {
    let book = Book::new();
    let file = book.scratch.write("state", b"in the way");
    let folder = StateFolder::new(&file);
    let loaded = open(&folder, NOW, UNIX, &mut |_| panic!());
    let wall = Wall {
        stamp: NOW,
        unix: UNIX,
    };
    let mut journal = go_on(&folder, wall, &loaded, 0);
    // No promise once the writer has found that there is no folder.
    if let Some(written) = journal.now(&pin(2, NOW), Priority::Major) {
        block_on(written.wait());
    }
    fs::remove_file(&file).unwrap();
    let path = book
        .scratch
        .write("state/journal.jsonl", text_of(&[pin(1, NOW)]).as_bytes());
    // One second at most until it is tried again.
    let end = Instant::now() + GIVE_UP;
    while !folder.is_claimed() && Instant::now() < end {
        if let Some(written) = journal.now(&pin(3, NOW), Priority::Major) {
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

#[test]
fn pins_of_version_0_1_0_load_and_speak_for_any_byte() {
    let line = |kind: &str| {
        sealed(&format!(
            "{{\"{kind}\":\"00000000000000a7\",\"network\":\"192.0.2.0/24\",\"content\":\"{A}\",\
             \"used\":{UNIX},\"complete\":true,\"at\":{UNIX}"
        ))
    };
    let mut text = text_of(&[]);
    text += &line("pin");
    // That one of its networks was over does not mean that its bytes are gone from the device.
    text += &line("unpinned");
    let (loaded, entries) = read(text.as_bytes());
    assert_eq!(loaded.damaged, 0);
    let pin = PinEntry {
        owner: PinKey(0xa7),
        said: 0xa7,
        content: A,
        used: NOW,
        reach: u64::MAX,
        worth: crate::fleet::pins::PinWorth::Established as u8,
    };
    assert_eq!(entries, [JournalEntry::Pin(pin)]);
}
