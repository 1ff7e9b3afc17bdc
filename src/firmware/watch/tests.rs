//! Real folders, watched.

use std::cell::RefCell;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode};
use sha2::{Digest, Sha256};

use super::*;
use crate::firmware::{ContentId, scan};
use crate::os::scratch::Scratch;

/// Generous: the machines that run tests are busy.
const DEADLINE: Duration = Duration::from_secs(20);

/// Bytes that are no text and no known kind of package.
fn image(seed: u8, size: usize) -> Vec<u8> {
    let mut state = u32::from(seed) + 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8 | 0x80
    };
    (0..size).map(|_| next()).collect()
}

fn id(bytes: &[u8]) -> ContentId {
    ContentId(Sha256::digest(bytes).into())
}

fn offers(catalog: &Catalog, path: &str, bytes: &[u8]) -> bool {
    let sources = catalog.sources(id(bytes));
    sources.iter().any(|source| &*source.path == path)
}

fn reason(catalog: &Catalog, path: &str) -> Option<String> {
    let remark = catalog.quarantined.iter().find(|r| r.path == path)?;
    Some(remark.text.clone())
}

struct Bed {
    watcher: Watcher,
    catalogs: smol::channel::Receiver<Arc<Catalog>>,
    last: RefCell<Option<Arc<Catalog>>>,
}

impl Bed {
    fn new(root: &Path) -> Bed {
        Bed::with(root, None, None)
    }

    fn with(root: &Path, known: Option<PathBuf>, skip: Option<PathBuf>) -> Bed {
        let (watcher, catalogs) = Watcher::start(WatchOptions {
            root: root.to_owned(),
            known: KnownFiles::open(known),
            rescan: Duration::from_secs(30),
            skip,
        })
        .unwrap();
        Bed {
            watcher,
            catalogs,
            last: RefCell::new(None),
        }
    }

    /// Waits for a catalogue like this (perhaps it is the one there is).
    fn until(&self, what: &str, is_so: impl Fn(&Catalog) -> bool) -> Arc<Catalog> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(last) = &*self.last.borrow()
                && is_so(last)
            {
                return last.clone();
            }
            let next = smol::block_on(smol::future::or(
                async { self.catalogs.recv().await.ok() },
                async {
                    smol::Timer::at(deadline).await;
                    None
                },
            ));
            let Some(next) = next else {
                panic!("not in time: {what}; last: {:#?}", self.last.borrow());
            };
            *self.last.borrow_mut() = Some(next);
        }
    }

    fn until_offered(&self, path: &str, bytes: &[u8]) -> Arc<Catalog> {
        self.until(&format!("{path} is offered"), |c| offers(c, path, bytes))
    }

    /// Waits until the folder is watched: what changes from now on comes as an event.
    fn ready(self, root: &Path) -> Bed {
        self.until("the first walk", |_| true);
        let marker = root.join("marker.soc");
        fs::write(&marker, "").unwrap();
        self.until("the marker is seen", |c| reason(c, "marker.soc").is_some());
        fs::remove_file(&marker).unwrap();
        self.until("the marker is gone", |c| c.quarantined.is_empty());
        self
    }
}

const PATH: &str = "ALIYUN/2.0.1/update.bin";

#[test]
fn a_file_that_is_copied_in_is_offered() {
    let dir = Scratch::new();
    let bed = Bed::new(dir.path()).ready(dir.path());
    let bytes = image(1, 1 << 20);
    dir.write(PATH, &bytes);
    let closed = Instant::now();
    let catalog = bed.until_offered(PATH, &bytes);
    // 1.5 s on a machine with nothing else to do.
    assert!(closed.elapsed() < Duration::from_secs(8));
    assert!(closed.elapsed() > Duration::from_millis(1000));
    println!("offered after {:?}", closed.elapsed());
    let project = catalog.project("ALIYUN").unwrap();
    assert_eq!(&*project.releases[0].version_text, "2.0.1");
    assert_eq!(bed.watcher.files_read(), 1);
}

#[test]
fn a_file_that_is_moved_in_is_offered() {
    let dir = Scratch::new();
    fs::create_dir_all(dir.path().join("root/ALIYUN/2.0.1")).unwrap();
    let bytes = image(1, 5000);
    let outside = dir.write("outside.bin", &bytes);
    let root = dir.path().join("root");
    let bed = Bed::new(&root).ready(&root);
    fs::rename(outside, root.join(PATH)).unwrap();
    bed.until_offered(PATH, &bytes);
}

#[test]
fn a_part_file_is_offered_when_it_gets_its_name() {
    let dir = Scratch::new();
    let bed = Bed::new(dir.path()).ready(dir.path());
    let bytes = image(1, 5000);
    let part = dir.write("ALIYUN/2.0.1/update.bin.part", &bytes);
    let marker = image(2, 5000);
    dir.write("OTHER/1.0.0/update.bin", &marker);
    let catalog = bed.until_offered("OTHER/1.0.0/update.bin", &marker);
    assert!(catalog.project("ALIYUN").is_none() && catalog.waiting.is_empty());
    fs::rename(part, dir.path().join(PATH)).unwrap();
    bed.until_offered(PATH, &bytes);
}

#[test]
fn a_tree_that_is_moved_in_and_within_and_out_is_followed() {
    let dir = Scratch::new();
    let bytes = image(1, 5000);
    dir.write("outside/2.0.1/update.bin", &bytes);
    dir.write("outside/2.0.2/update.bin", &image(2, 5000));
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    let bed = Bed::new(&root).ready(&root);
    fs::rename(dir.path().join("outside"), root.join("ALIYUN")).unwrap();
    bed.until_offered(PATH, &bytes);
    bed.until_offered("ALIYUN/2.0.2/update.bin", &image(2, 5000));

    // What lands in a folder that came with the tree is seen.
    let later = image(3, 5000);
    fs::create_dir(root.join("ALIYUN/2.0.3")).unwrap();
    fs::write(root.join("ALIYUN/2.0.3/update.bin"), &later).unwrap();
    bed.until_offered("ALIYUN/2.0.3/update.bin", &later);

    // The hashes of moved files are known, as their stamps are the same.
    let reads = bed.watcher.files_read();
    fs::rename(root.join("ALIYUN"), root.join("OTHER")).unwrap();
    let catalog = bed.until_offered("OTHER/2.0.1/update.bin", &bytes);
    assert!(catalog.project("ALIYUN").is_none());
    assert_eq!(bed.watcher.files_read(), reads);
    let again = image(4, 5000);
    fs::write(root.join("OTHER/2.0.3/update.bin"), &again).unwrap();
    bed.until_offered("OTHER/2.0.3/update.bin", &again);

    fs::rename(root.join("OTHER"), dir.path().join("out")).unwrap();
    bed.until("all is gone", |c| c.release_count() == 0);
}

#[test]
fn a_file_that_is_rewritten_in_place_is_withdrawn_until_it_is_complete() {
    let dir = Scratch::new();
    let bed = Bed::new(dir.path()).ready(dir.path());
    let (old, new) = (image(1, 5000), image(2, 5000));
    let path = dir.write(PATH, &old);
    bed.until_offered(PATH, &old);
    let mut file = OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all(&new[..2500]).unwrap();
    bed.until("it is withdrawn", |c| {
        c.release_count() == 0 && c.waiting == [PATH]
    });
    file.write_all(&new[2500..]).unwrap();
    drop(file);
    let catalog = bed.until_offered(PATH, &new);
    assert!(catalog.sources(id(&old)).is_empty());
    assert_eq!(bed.watcher.files_read(), 2);
}

#[test]
fn a_file_is_not_offered_while_a_writer_has_it_open() {
    let dir = Scratch::new();
    let bed = Bed::new(dir.path()).ready(dir.path());
    let bytes = image(1, 5000);
    let path = dir.write(PATH, &bytes[..10]);
    let mut writer = OpenOptions::new().append(true).open(path).unwrap();
    // Each of these is complete more than a second after the writer's last byte.
    for number in 0..3u8 {
        let from = 10 + usize::from(number) * 100;
        writer.write_all(&bytes[from..from + 100]).unwrap();
        let marker = image(10 + number, 100);
        let name = format!("MARKER/1.0.{number}/update.bin");
        dir.write(&name, &marker);
        let catalog = bed.until_offered(&name, &marker);
        assert!(catalog.project("ALIYUN").is_none());
        assert_eq!(catalog.waiting, [PATH]);
    }
    writer.write_all(&bytes[310..]).unwrap();
    drop(writer);
    let closed = Instant::now();
    bed.until_offered(PATH, &bytes);
    println!("offered after {:?}", closed.elapsed());
}

#[test]
fn the_folder_itself_may_be_deleted_and_come_back() {
    let dir = Scratch::new();
    let root = dir.path().join("root");
    let bytes = image(1, 5000);
    dir.write("root/ALIYUN/2.0.1/update.bin", &bytes);
    let bed = Bed::new(&root);
    bed.until_offered(PATH, &bytes);
    fs::remove_dir_all(&root).unwrap();
    let catalog = bed.until("nothing is offered", |c| reason(c, ".").is_some());
    assert_eq!(catalog.release_count(), 0);
    let text = reason(&catalog, ".").unwrap();
    assert!(text.contains(&root.display().to_string()), "{text}");

    dir.write("root/ALIYUN/2.0.1/update.bin", &bytes);
    let catalog = bed.until_offered(PATH, &bytes);
    assert_eq!(reason(&catalog, "."), None);
    // It is watched again.
    let later = image(2, 5000);
    dir.write("root/ALIYUN/2.0.2/update.bin", &later);
    bed.until_offered("ALIYUN/2.0.2/update.bin", &later);

    // Another folder in its place.
    let other = image(3, 5000);
    dir.write("other/OTHER/1.0.0/update.bin", &other);
    fs::rename(&root, dir.path().join("away")).unwrap();
    fs::rename(dir.path().join("other"), &root).unwrap();
    let catalog = bed.until_offered("OTHER/1.0.0/update.bin", &other);
    assert!(catalog.project("ALIYUN").is_none());
}

#[test]
fn a_folder_that_is_not_there_yet_is_waited_for() {
    let dir = Scratch::new();
    let root = dir.path().join("root");
    let bed = Bed::new(&root);
    bed.until("it is missing", |c| reason(c, ".").is_some());
    let bytes = image(1, 5000);
    dir.write("root/ALIYUN/2.0.1/update.bin", &bytes);
    bed.until_offered(PATH, &bytes);
}

#[test]
fn the_folder_may_be_named_by_a_link() {
    let dir = Scratch::new();
    let bytes = image(1, 5000);
    dir.write("real/ALIYUN/2.0.1/update.bin", &bytes);
    let link = dir.path().join("link");
    symlink("real", &link).unwrap();
    let bed = Bed::new(&link);
    bed.until_offered(PATH, &bytes);
    let later = image(2, 5000);
    dir.write("real/ALIYUN/2.0.2/update.bin", &later);
    bed.until_offered("ALIYUN/2.0.2/update.bin", &later);
}

#[test]
fn thousands_of_files_at_once_are_all_found() {
    let dir = Scratch::new();
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    let bed = Bed::new(&root).ready(&root);
    for number in 0..2000u32 {
        let mut bytes = image(7, 60);
        bytes.extend(number.to_le_bytes());
        let path = format!("root/P{}/1.0.{}/update.bin", number % 20, number / 20);
        dir.write(&path, &bytes);
    }
    let catalog = bed.until("all are offered", |c| c.release_count() == 2000);
    assert!(catalog.waiting.is_empty() && catalog.quarantined.is_empty());
    fs::remove_dir_all(root.join("P3")).unwrap();
    bed.until("a hundred are gone", |c| c.release_count() == 1900);

    // After such a flood each folder is still watched.
    let (new, changed) = (image(8, 100), image(9, 100));
    dir.write("root/P3/1.0.0/update.bin", &new);
    dir.write("root/P7/1.0.50/update.bin", &changed);
    bed.until_offered("P3/1.0.0/update.bin", &new);
    bed.until_offered("P7/1.0.50/update.bin", &changed);
}

#[test]
fn links_and_fifos_are_quarantined_and_never_opened() {
    let dir = Scratch::new();
    let bytes = image(1, 5000);
    dir.write("outside/update.bin", &bytes);
    dir.write("root/ALIYUN/2.0.1/update.bin", &bytes);
    let root = dir.path().join("root");
    fs::create_dir_all(root.join("FIFO/1.0.0")).unwrap();
    let fifo = root.join("FIFO/1.0.0/update.bin");
    rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    symlink("../outside", root.join("OUT")).unwrap();
    symlink("ALIYUN", root.join("IN")).unwrap();
    symlink("nowhere", root.join("release.bin")).unwrap();
    symlink("/", root.join(".hidden")).unwrap();
    let bed = Bed::new(&root);
    let catalog = bed.until_offered(PATH, &bytes);
    for path in ["OUT", "IN", "release.bin"] {
        let text = reason(&catalog, path).unwrap();
        assert!(text.contains("symbolic link"), "{text}");
    }
    assert!(
        reason(&catalog, "FIFO/1.0.0/update.bin")
            .unwrap()
            .contains("FIFO")
    );
    assert_eq!(catalog.quarantined.len(), 4);
    assert_eq!(catalog.release_count(), 1);
}

#[test]
fn rules_or_checksums_that_are_links_hold_back_what_they_are_about() {
    let dir = Scratch::new();
    let (first, second) = (image(1, 5000), image(2, 5000));
    dir.write("A/1.0.0/update.bin", &first);
    dir.write("B/1.0.0/update.bin", &second);
    symlink("/dev/null", dir.path().join("A/1.0.0/update.bin.sha256")).unwrap();
    symlink("/dev/null", dir.path().join("B/1.0.0/release.json")).unwrap();
    let bed = Bed::new(dir.path());
    let catalog = bed.until("both were read", |c| {
        c.waiting.is_empty() && c.project("B").is_some()
    });
    assert!(catalog.project("A").is_none());
    assert!(
        reason(&catalog, "A/1.0.0/update.bin")
            .unwrap()
            .contains("checksum")
    );
    let release = &catalog.project("B").unwrap().releases[0];
    assert!(release.held_back.is_some());
    // The link goes, and so does what it held back.
    fs::remove_file(dir.path().join("B/1.0.0/release.json")).unwrap();
    bed.until("it is offered", |c| {
        c.project("B")
            .is_some_and(|p| p.releases[0].held_back.is_none())
    });
}

#[test]
fn names_that_are_not_utf8_are_quarantined() {
    use std::os::unix::ffi::OsStrExt;
    let dir = Scratch::new();
    let name = std::ffi::OsStr::from_bytes(b"\xb0\xa1.bin");
    fs::write(dir.path().join(name), image(1, 100)).unwrap();
    let bed = Bed::new(dir.path());
    let shown = name.to_string_lossy().into_owned();
    let catalog = bed.until("it is quarantined", |c| reason(c, &shown).is_some());
    assert!(reason(&catalog, &shown).unwrap().contains("UTF-8"));
    fs::remove_file(dir.path().join(name)).unwrap();
    bed.until("it is gone", |c| c.quarantined.is_empty());
}

#[test]
fn unreadable_files_and_folders_are_quarantined_and_the_rest_is_offered() {
    if rustix::process::geteuid().is_root() {
        return; // Root may read everything.
    }
    let dir = Scratch::new();
    let bytes = image(1, 5000);
    dir.write(PATH, &bytes);
    let file = dir.write("B/1.0.0/update.bin", &image(2, 5000));
    dir.write("C/1.0.0/update.bin", &image(3, 5000));
    let folder = dir.path().join("C");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o0)).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o0)).unwrap();
    let bed = Bed::new(dir.path());
    let catalog = bed.until("the readable one is offered", |c| {
        offers(c, PATH, &bytes) && c.waiting.is_empty()
    });
    assert!(
        reason(&catalog, "B/1.0.0/update.bin")
            .unwrap()
            .contains("chmod")
    );
    assert!(reason(&catalog, "C").is_some());
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    bed.until("all are offered", |c| c.release_count() == 3);
}

#[test]
fn a_checksum_that_does_not_match_holds_a_file_back_until_it_does() {
    let dir = Scratch::new();
    let bytes = image(1, 5000);
    dir.write(
        "ALIYUN/2.0.1/update.bin.sha256",
        id(&image(9, 9)).to_string().as_bytes(),
    );
    dir.write(PATH, &bytes);
    let bed = Bed::new(dir.path());
    let catalog = bed.until("it is quarantined", |c| reason(c, PATH).is_some());
    let text = reason(&catalog, PATH).unwrap();
    assert!(text.contains(&id(&bytes).to_string()[..12]), "{text}");
    assert!(text.contains(&id(&image(9, 9)).to_string()[..12]), "{text}");
    let reads = bed.watcher.files_read();
    let line = format!("{}  update.bin\n", id(&bytes));
    dir.write("ALIYUN/2.0.1/update.bin.sha256", line.as_bytes());
    bed.until_offered(PATH, &bytes);
    // The other checksum was compared with what is known of the file.
    assert_eq!(bed.watcher.files_read(), reads);
    // A second one must match as well.
    dir.write("ALIYUN/2.0.1/update.bin.md5", "0".repeat(32).as_bytes());
    bed.until("it is quarantined", |c| reason(c, PATH).is_some());
    fs::remove_file(dir.path().join("ALIYUN/2.0.1/update.bin.md5")).unwrap();
    bed.until_offered(PATH, &bytes);
    assert_eq!(bed.watcher.files_read(), reads);
}

#[test]
fn a_checksum_that_matches_makes_a_file_available_without_waiting() {
    let dir = Scratch::new();
    let bed = Bed::new(dir.path()).ready(dir.path());
    let bytes = image(1, 5000);
    dir.write(
        "ALIYUN/2.0.1/update.bin.sha256",
        id(&bytes).to_string().as_bytes(),
    );
    // Even while the writer still has it open.
    let mut writer = File::create(dir.path().join(PATH)).unwrap();
    writer.write_all(&bytes).unwrap();
    bed.until_offered(PATH, &bytes);
    drop(writer);
}

#[test]
fn an_invalid_edit_keeps_the_last_good_rules() {
    let dir = Scratch::new();
    let bytes = image(1, 5000);
    dir.write(PATH, &bytes);
    let rules = "ALIYUN/2.0.1/release.json";
    dir.write(rules, br#"{"percent": 10}"#);
    let percent = |c: &Catalog| {
        c.project("ALIYUN")
            .and_then(|p| p.releases[0].rules.percent)
    };
    let bed = Bed::new(dir.path());
    bed.until("10 percent", |c| percent(c) == Some(10.0));
    dir.write(rules, br#"{"percent": 20"#);
    let catalog = bed.until("the error is reported", |c| reason(c, rules).is_some());
    assert_eq!(percent(&catalog), Some(10.0));
    dir.write(rules, br#"{"percent": 30}"#);
    let catalog = bed.until("30 percent", |c| percent(c) == Some(30.0));
    assert_eq!(reason(&catalog, rules), None);
    fs::remove_file(dir.path().join(rules)).unwrap();
    bed.until("no rules", |c| {
        c.project("ALIYUN")
            .is_some_and(|p| p.releases[0].rules.percent.is_none())
    });
}

#[test]
fn rules_that_an_editor_deletes_and_writes_anew_stay_in_force_meanwhile() {
    let dir = Scratch::new();
    let bytes = image(1, 5000);
    dir.write(PATH, &bytes);
    let rules = dir.write("ALIYUN/release.json", br#"{"percent": 10}"#);
    let percent = |c: &Catalog| {
        c.project("ALIYUN")
            .and_then(|p| p.releases[0].rules.percent)
    };
    let bed = Bed::new(dir.path());
    bed.until("10 percent", |c| percent(c) == Some(10.0));
    fs::remove_file(&rules).unwrap();
    dir.write("ALIYUN/release.json", br#"{"percent": 20}"#);
    bed.until("20 percent, and never all", |c| {
        assert!(
            percent(c).is_some(),
            "the rules were not in force for a while"
        );
        percent(c) == Some(20.0)
    });
}

#[test]
fn rules_that_were_never_good_hold_their_release_back() {
    let dir = Scratch::new();
    let bytes = image(1, 5000);
    dir.write(PATH, &bytes);
    dir.write("ALIYUN/2.0.1/release.json", b"{");
    let bed = Bed::new(dir.path());
    let catalog = bed.until("it was read", |c| c.project("ALIYUN").is_some());
    assert!(
        catalog.project("ALIYUN").unwrap().releases[0]
            .held_back
            .is_some()
    );
}

#[test]
fn after_a_restart_no_file_is_read_that_did_not_change() {
    let dir = Scratch::new();
    let root = dir.path().join("root");
    let known = dir.path().join("hashes.jsonl");
    let (first, second) = (image(1, 5000), image(2, 5000));
    dir.write("root/A/1.0.0/update.bin", &first);
    dir.write("root/B/1.0.0/update.bin", &second);
    dir.write("root/C/1.0.0/update.bin", b"<html>404</html>");
    let bed = Bed::with(&root, Some(known.clone()), None);
    bed.until("all were read", |c| {
        c.release_count() == 2 && !c.quarantined.is_empty()
    });
    bed.watcher.stop();

    let bed = Bed::with(&root, Some(known.clone()), None);
    let catalog = bed.until("the first catalogue", |_| true);
    assert!(offers(&catalog, "A/1.0.0/update.bin", &first));
    assert!(offers(&catalog, "B/1.0.0/update.bin", &second));
    assert!(reason(&catalog, "C/1.0.0/update.bin").is_some());
    assert_eq!(bed.watcher.files_read(), 0);

    // One that has other bytes than recorded is read again when the server says so.
    bed.watcher.reread("A/1.0.0/update.bin");
    bed.until("it waits", |c| !c.waiting.is_empty());
    bed.until_offered("A/1.0.0/update.bin", &first);
    assert_eq!(bed.watcher.files_read(), 1);
    bed.watcher.stop();

    // One that changed while no server ran is read.
    let changed = image(3, 5000);
    dir.write("root/B/1.0.0/update.bin", &changed);
    let bed = Bed::with(&root, Some(known), None);
    bed.until_offered("B/1.0.0/update.bin", &changed);
    assert_eq!(bed.watcher.files_read(), 1);
}

#[test]
fn files_that_were_there_long_before_the_start_need_no_settling() {
    let dir = Scratch::new();
    let root = Folder::open(dir.path()).unwrap();
    let bytes = image(1, 5000);
    dir.write(PATH, &bytes);
    let mut known = KnownFiles::open(None);
    let mut files = FileTable::new(Patience::Settle);
    let start = Instant::now();
    // As if this were an hour later.
    let hour = 3_600_000_000_000;
    let old = Some(scan::old_before() + hour);
    let seen = scan::walk(&root, None).unwrap();
    files.walked(&root, None, seen, old, start, &mut known);
    assert_eq!(files.jobs(start).len(), 1);
    // And with a clock that is an hour late.
    let mut files = FileTable::new(Patience::Settle);
    let late = Some(scan::old_before() - hour);
    let seen = scan::walk(&root, None).unwrap();
    files.walked(&root, None, seen, late, start, &mut known);
    assert!(files.jobs(start).is_empty());
    assert!(files.due().is_some_and(|due| due > start));
}

#[test]
fn our_own_reading_does_not_make_us_look_again() {
    let dir = Scratch::new();
    let bed = Bed::new(dir.path()).ready(dir.path());
    let bytes = image(1, 5000);
    dir.write(PATH, &bytes);
    bed.until_offered(PATH, &bytes);
    let other = image(2, 5000);
    dir.write("OTHER/1.0.0/update.bin", &other);
    bed.until_offered("OTHER/1.0.0/update.bin", &other);
    assert_eq!(bed.watcher.files_read(), 2);
}

#[test]
fn the_state_folder_is_not_walked_into() {
    let dir = Scratch::new();
    let bytes = image(1, 5000);
    dir.write(PATH, &bytes);
    let state = dir.path().join("state");
    dir.write("state/1.0.0/update.bin", &bytes);
    let bed = Bed::with(dir.path(), None, Some(state));
    let catalog = bed.until_offered(PATH, &bytes);
    assert!(catalog.project("state").is_none() && catalog.waiting.is_empty());
}

#[test]
fn a_slow_receiver_gets_the_latest_catalogue_and_a_missing_one_ends_the_thread() {
    let dir = Scratch::new();
    let Bed {
        watcher, catalogs, ..
    } = Bed::new(dir.path()).ready(dir.path());
    drop(catalogs);
    dir.write(PATH, &image(1, 5000));
    watcher.rescan();
    let ended = watcher.ended.recv_timeout(DEADLINE);
    let disconnected = mpsc::RecvTimeoutError::Disconnected;
    assert_eq!(ended, Err(disconnected), "it goes on for nobody");
}

#[test]
fn whatever_happens_the_catalogue_ends_as_the_folder_is() {
    let dir = Scratch::new();
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    fs::create_dir(dir.path().join("away")).unwrap();
    let bed = Bed::new(&root).ready(&root);
    let mut state = 0x2545_f491u32;
    let mut below = |n: u32| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state % n
    };
    for step in 0..400u32 {
        let project = format!("P{}", below(4));
        let version = format!("{project}/1.0.{}", below(4));
        let path = format!("{version}/update.bin");
        let (folder, file) = (root.join(&version), root.join(&path));
        // Most of these fail where there is nothing: all the better.
        match below(10) {
            0..4 => {
                let mut bytes = image(1, 2000);
                bytes.extend(step.to_le_bytes());
                dir.write(&format!("root/{path}"), &bytes);
            }
            4 => drop(fs::remove_file(file)),
            5 => drop(fs::remove_dir_all(folder)),
            6 => drop(fs::rename(
                root.join(&project),
                root.join(format!("P{}", below(4))),
            )),
            7 => drop(fs::rename(&folder, dir.path().join("away").join(&project))),
            8 => drop(fs::rename(dir.path().join("away").join(&project), &folder)),
            _ => drop(OpenOptions::new().append(true).open(file).map(|mut file| {
                file.write_all(&step.to_le_bytes()).unwrap();
            })),
        }
        if step % 50 == 0 {
            // Let it see something of what goes on.
            let marker = image(2, 100 + step as usize);
            dir.write(&format!("root/M/1.0.{step}/update.bin"), &marker);
            bed.until("the marker waits", |c| {
                c.waiting.iter().any(|path| path.starts_with("M/"))
            });
        }
    }
    let truth = scan::now(&root, &mut KnownFiles::open(None)).unwrap();
    assert!(truth.release_count() > 8);
    bed.until("it is as the folder is", |c| c.says_the_same(&truth));
}

/// A file with a size and nothing in it.
fn sparse(path: &Path, size: u64) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    File::create(path).unwrap().set_len(size).unwrap();
}

#[test]
fn a_disk_image_among_the_firmware_keeps_nothing_waiting() {
    let dir = Scratch::new();
    let path = dir.path().join("BIG/1.0.0/raspios.img");
    sparse(&path, 300 << 30);
    let bed = Bed::new(dir.path());
    let bytes = image(1, 6000);
    dir.write(PATH, &bytes);
    let catalog = bed.until_offered(PATH, &bytes);
    let why = reason(&catalog, "BIG/1.0.0/raspios.img").unwrap();
    assert!(why.contains("322122547200 bytes"), "{why}");
    assert!(catalog.waiting.is_empty());
    assert_eq!(bed.watcher.files_read(), 1);
    // Cut to a size that a module may take, it is read like any other.
    fs::write(&path, image(2, 6000)).unwrap();
    bed.until_offered("BIG/1.0.0/raspios.img", &image(2, 6000));
}

#[test]
fn a_file_that_grows_too_large_while_it_is_read_is_refused() {
    let dir = Scratch::new();
    let path = dir.path().join(PATH);
    sparse(&path, 200 << 20);
    let bed = Bed::new(dir.path());
    bed.until("it is seen", |c| c.waiting == [PATH]);
    sparse(&path, 300 << 20);
    bed.until("it is refused", |c| {
        reason(c, PATH).is_some() && c.waiting.is_empty()
    });
}

#[test]
fn a_project_folder_that_becomes_unreadable_does_not_free_its_releases() {
    if rustix::process::geteuid().is_root() {
        return; // Root may read everything.
    }
    let dir = Scratch::new();
    let bytes = image(1, 5000);
    dir.write("P_1.0.1/update.bin", &bytes);
    dir.write("P/release.json", br#"{"allow":["862991443753386"]}"#);
    let folder = dir.path().join("P");
    let bed = Bed::new(dir.path()).ready(dir.path());
    bed.until_offered("P_1.0.1/update.bin", &bytes);
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o0)).unwrap();
    bed.watcher.rescan();
    bed.until("it is told", |c| reason(c, "P").is_some());
    // Until this is offered, the rules of a file that is gone would be forgotten.
    let marker = image(2, 5000);
    dir.write("M/1.0.0/update.bin", &marker);
    let catalog = bed.until_offered("M/1.0.0/update.bin", &marker);
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    let release = &catalog.project("P").unwrap().releases[0];
    assert!(release.rules.allow.is_some() && release.held_back.is_none());
    bed.watcher.rescan();
    bed.until("it is read again", |c| c.quarantined.is_empty());
}
