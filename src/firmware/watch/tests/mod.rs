//! Tests with real folders that are watched.

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

mod files;
mod groups;
mod quarantine;

/// Long, because the machines that run tests are busy.
const DEADLINE: Duration = Duration::from_secs(60);

/// Returns bytes that are no text and no known kind of package.
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

struct TestWatcher {
    watcher: Watcher,
    catalogs: smol::channel::Receiver<Arc<Catalog>>,
    last: RefCell<Option<Arc<Catalog>>>,
}

impl TestWatcher {
    fn new(root: &Path) -> TestWatcher {
        TestWatcher::with(root, None, None)
    }

    fn with(root: &Path, known: Option<PathBuf>, skip: Option<PathBuf>) -> TestWatcher {
        let (watcher, catalogs) = Watcher::start(WatchOptions {
            root: root.to_owned(),
            known: KnownFiles::open(known),
            // Longer than a test waits, so that only events are found.
            rescan: Duration::from_secs(600),
            skip,
        })
        .unwrap();
        TestWatcher {
            watcher,
            catalogs,
            last: RefCell::new(None),
        }
    }

    /// Waits for a catalogue that meets the condition. The current catalogue may meet it already.
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

    /// Waits until the folder is watched, so that every later change causes an event.
    fn ready(self, root: &Path) -> TestWatcher {
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
fn after_a_restart_no_file_is_read_that_did_not_change() {
    let dir = Scratch::new();
    let root = dir.path().join("root");
    let known = dir.path().join("hashes.jsonl");
    let (first, second) = (image(1, 5000), image(2, 5000));
    dir.write("root/A/1.0.0/update.bin", &first);
    dir.write("root/B/1.0.0/update.bin", &second);
    dir.write("root/C/1.0.0/update.bin", b"<html>404</html>");
    let test = TestWatcher::with(&root, Some(known.clone()), None);
    test.until("all were read", |c| {
        c.release_count() == 2 && !c.quarantined.is_empty()
    });
    test.watcher.stop();

    let test = TestWatcher::with(&root, Some(known.clone()), None);
    let catalog = test.until("the first catalogue", |_| true);
    assert!(offers(&catalog, "A/1.0.0/update.bin", &first));
    assert!(offers(&catalog, "B/1.0.0/update.bin", &second));
    assert!(reason(&catalog, "C/1.0.0/update.bin").is_some());
    assert_eq!(test.watcher.files_read(), 0);

    // A file with other bytes than those recorded is read again when the server requests it.
    test.watcher.reread("A/1.0.0/update.bin");
    test.until("it waits", |c| !c.waiting.is_empty());
    test.until_offered("A/1.0.0/update.bin", &first);
    assert_eq!(test.watcher.files_read(), 1);
    test.watcher.stop();

    // A file that changed while no server ran is read.
    let changed = image(3, 5000);
    dir.write("root/B/1.0.0/update.bin", &changed);
    let test = TestWatcher::with(&root, Some(known), None);
    test.until_offered("B/1.0.0/update.bin", &changed);
    assert_eq!(test.watcher.files_read(), 1);
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
    // As if it were an hour later.
    let hour = 3_600_000_000_000;
    let old = Some(scan::old_before() + hour);
    let seen = scan::walk(&root, None).unwrap();
    files.add_walk(&root, None, seen, old, start, &mut known);
    assert_eq!(files.jobs(start).len(), 1);
    // With a clock that is an hour slow.
    let mut files = FileTable::new(Patience::Settle);
    let late = Some(scan::old_before() - hour);
    let seen = scan::walk(&root, None).unwrap();
    files.add_walk(&root, None, seen, late, start, &mut known);
    assert!(files.jobs(start).is_empty());
    assert!(files.due().is_some_and(|due| due > start));
}

#[test]
fn the_servers_own_reading_causes_no_further_reading() {
    let dir = Scratch::new();
    let test = TestWatcher::new(dir.path()).ready(dir.path());
    let bytes = image(1, 5000);
    dir.write(PATH, &bytes);
    test.until_offered(PATH, &bytes);
    let other = image(2, 5000);
    dir.write("OTHER/1.0.0/update.bin", &other);
    test.until_offered("OTHER/1.0.0/update.bin", &other);
    assert_eq!(test.watcher.files_read(), 2);
}

#[test]
fn the_state_folder_is_not_walked() {
    let dir = Scratch::new();
    let bytes = image(1, 5000);
    dir.write(PATH, &bytes);
    let state = dir.path().join("state");
    dir.write("state/1.0.0/update.bin", &bytes);
    let test = TestWatcher::with(dir.path(), None, Some(state));
    let catalog = test.until_offered(PATH, &bytes);
    assert!(catalog.project("state").is_none() && catalog.waiting.is_empty());
}

#[test]
fn a_slow_receiver_gets_the_latest_catalogue_and_a_missing_one_ends_the_thread() {
    let dir = Scratch::new();
    let TestWatcher {
        watcher, catalogs, ..
    } = TestWatcher::new(dir.path()).ready(dir.path());
    drop(catalogs);
    dir.write(PATH, &image(1, 5000));
    watcher.rescan();
    let ended = watcher.ended.recv_timeout(DEADLINE);
    let disconnected = mpsc::RecvTimeoutError::Disconnected;
    assert_eq!(ended, Err(disconnected), "it runs without a receiver");
}
