use std::path::Path;

use sha2::{Digest, Sha256};
use smol::future::{poll_once, zip};

use super::*;
use crate::os::scratch::Scratch;

const MB: u64 = 1 << 20;

/// A firmware folder, a state folder, and snapshots with a budget.
struct TestFolders {
    firmware: Scratch,
    state: Scratch,
    snapshots: Snapshots,
}

impl TestFolders {
    fn new(budget: u64) -> TestFolders {
        TestFolders::with_state(budget, Some)
    }

    fn without_state(budget: u64) -> TestFolders {
        TestFolders::with_state(budget, |_| None)
    }

    fn with_state(budget: u64, spill: impl Fn(PathBuf) -> Option<PathBuf>) -> TestFolders {
        let (firmware, state) = (Scratch::new(), Scratch::new());
        let spill = spill(state.path().to_owned());
        let snapshots = Snapshots::new(firmware.path().to_owned(), budget, spill);
        TestFolders {
            firmware,
            state,
            snapshots,
        }
    }

    /// Writes a file into the firmware folder.
    fn file(&self, path: &str, bytes: &[u8]) -> (ContentId, ContentSource) {
        let stamp = crate::os::fs::stamp(&File::open(self.firmware.write(path, bytes)).unwrap());
        let source = ContentSource {
            content: id_of(bytes),
            path: path.into(),
            stamp: stamp.unwrap(),
            size: bytes.len() as u64,
        };
        (id_of(bytes), source)
    }

    fn load(&self, file: &(ContentId, ContentSource)) -> Result<Arc<Snapshot>, LoadError> {
        let (id, source) = file;
        smol::block_on(self.snapshots.load(*id, std::slice::from_ref(source)))
    }

    /// Writes a file and loads it.
    fn loaded(&self, path: &str, bytes: &[u8]) -> Arc<Snapshot> {
        let file = self.file(path, bytes);
        self.load(&file).unwrap()
    }

    fn gone(&self, file: &(ContentId, ContentSource)) -> String {
        match self.load(file) {
            Err(LoadError::Gone(text)) => text,
            other => panic!("not gone: {other:?}"),
        }
    }

    fn full(&self, file: &(ContentId, ContentSource)) -> String {
        match self.load(file) {
            Err(LoadError::Full(text)) => text,
            other => panic!("not full: {other:?}"),
        }
    }

    fn is_loaded(&self, snapshot: ContentId) -> bool {
        self.snapshots.loaded.borrow().contains_key(&snapshot)
    }
}

fn id_of(bytes: &[u8]) -> ContentId {
    ContentId(Sha256::digest(bytes).into())
}

/// Returns bytes that differ from seed to seed and are more than one chunk.
fn image(seed: u8) -> Vec<u8> {
    (0..150_001u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8 ^ seed)
        .collect()
}

/// Returns a budget for `count` images.
fn images(count: u64) -> u64 {
    whole_pages(150_001) * count
}

fn read_all(snapshot: &Snapshot) -> Vec<u8> {
    let mut bytes = vec![0; snapshot.size() as usize + 1];
    let count = snapshot.read_at(&mut bytes, 0).unwrap();
    bytes.truncate(count);
    bytes
}

#[test]
fn a_snapshot_keeps_its_bytes_when_the_file_is_overwritten_truncated_or_deleted() {
    for budget in [64 * MB, 0] {
        let test = TestFolders::new(budget);
        let snapshot = test.loaded("P/1.0.0/update.bin", &image(1));
        assert_eq!(snapshot.bytes().is_some(), budget > 0);
        assert_eq!(
            (snapshot.id(), snapshot.size()),
            (id_of(&image(1)), 150_001)
        );
        let path = test.firmware.path().join("P/1.0.0/update.bin");
        // Write in place: the inode stays the same.
        std::fs::write(&path, image(2)).unwrap();
        assert_eq!(read_all(&snapshot), image(1));
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(10)
            .unwrap();
        assert_eq!(read_all(&snapshot), image(1));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(read_all(&snapshot), image(1));
        if let Some(bytes) = snapshot.bytes() {
            assert_eq!(bytes, image(1));
        }
    }
}

#[test]
fn any_part_of_a_snapshot_can_be_read() {
    for budget in [64 * MB, 0] {
        let test = TestFolders::new(budget);
        let snapshot = test.loaded("a.bin", &image(1));
        for (offset, length, expected) in [
            (0, 10, 10),
            (149_991, 10, 10),
            (149_991, 11, 10),
            (150_001, 1, 0),
            (u64::MAX, 1, 0),
        ] {
            let mut part = vec![0; length];
            assert_eq!(snapshot.read_at(&mut part, offset).unwrap(), expected);
            if expected > 0 {
                let start = offset as usize;
                assert_eq!(part[..expected], image(1)[start..start + expected]);
            }
        }
        let mut part = [0; 5];
        rustix::io::pread(snapshot.file(), &mut part, 100).unwrap();
        assert_eq!(part, image(1)[100..105]);
    }
}

#[test]
fn two_simultaneous_loads_of_a_content_share_one_copy() {
    let test = TestFolders::new(images(2));
    let (id, source) = test.file("a.bin", &image(1));
    let sources = [source];
    let load = || test.snapshots.load(id, &sources);
    let (one, two) = smol::block_on(zip(load(), load()));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert!(Arc::ptr_eq(&one, &two));
    assert!(Arc::ptr_eq(&one, &test.snapshots.get(id).unwrap()));
    assert_eq!(test.snapshots.held(), images(1));
}

#[test]
fn a_cancelled_load_is_completed_for_the_next_request() {
    let test = TestFolders::new(64 * MB);
    let (id, source) = test.file("a.bin", &image(1));
    let path = test.firmware.path().join("a.bin");
    smol::block_on(async {
        let sources = [source];
        // The first poll starts the copy, and then its client is dropped. If the copy was completed
        // before the poll ended, the test tries again.
        while let Some(done) = poll_once(test.snapshots.load(id, &sources)).await {
            done.unwrap();
            test.snapshots.loaded.borrow_mut().clear();
        }
        assert!(!test.is_loaded(id));
        // The lock is free only after the copy.
        drop(test.snapshots.loader.lock_arc().await);
        std::fs::remove_file(&path).unwrap();
        let snapshot = test.snapshots.load(id, &sources).await.unwrap();
        assert_eq!(read_all(&snapshot), image(1));
    });
}

#[test]
fn a_content_above_the_budget_goes_to_an_unnamed_file() {
    let test = TestFolders::new(images(1) - 1);
    let snapshot = test.loaded("a.bin", &image(1));
    assert_eq!(snapshot.bytes(), None);
    assert_eq!(test.snapshots.held(), 0);
    assert_eq!(read_all(&snapshot), image(1));
    assert_eq!(std::fs::read_dir(test.state.path()).unwrap().count(), 0);
}

#[test]
fn a_kernel_without_memfd_uses_a_file() {
    let mut test = TestFolders::new(64 * MB);
    test.snapshots.memfd = || Err(io::Error::from_raw_os_error(libc::ENOSYS));
    let snapshot = test.loaded("a.bin", &image(1));
    assert_eq!(snapshot.bytes(), None);
    assert_eq!(read_all(&snapshot), image(1));

    let mut test = TestFolders::without_state(64 * MB);
    test.snapshots.memfd = || Err(io::Error::from_raw_os_error(libc::EPERM));
    let file = test.file("a.bin", &image(1));
    let text = test.full(&file);
    assert!(text.contains("memory cannot be allocated"), "{text}");
}

#[test]
fn a_load_above_the_budget_fails_without_a_folder_for_files() {
    let test = TestFolders::without_state(images(1) - 1);
    let file = test.file("a.bin", &image(1));
    let text = test.full(&file);
    assert!(text.contains("--state"), "{text}");

    let test = TestFolders::with_state(0, |folder| Some(folder.join("missing")));
    let file = test.file("a.bin", &image(1));
    let text = test.full(&file);
    assert!(text.contains("missing"), "{text}");
}

#[test]
fn snapshots_in_use_count_and_are_never_dropped() {
    let test = TestFolders::without_state(images(2));
    let one = test.loaded("1.bin", &image(1));
    let two = test.loaded("2.bin", &image(2));
    let three = test.file("3.bin", &image(3));
    test.full(&three);
    assert_eq!(test.snapshots.held(), images(2));
    drop(one);
    let three = test.load(&three).unwrap();
    assert_eq!(test.snapshots.held(), images(2));
    assert!(!test.is_loaded(id_of(&image(1))));
    assert_eq!(read_all(&two), image(2));
    assert_eq!(read_all(&three), image(3));
}

/// Two snapshots take a huge page each (2 MiB here). The others take only as much as they need.
#[test]
fn a_quarter_of_the_budget_may_be_taken_for_huge_pages() {
    let test = TestFolders::without_state(20 * MB);
    for seed in 1..=12 {
        test.loaded(&format!("{seed}.bin"), &image(seed));
        assert!(test.is_loaded(id_of(&image(1))));
    }
    let held = test.snapshots.held();
    assert!((images(12)..5 * MB + images(12)).contains(&held), "{held}");
    assert!((1..=12).all(|seed| test.is_loaded(id_of(&image(seed)))));
}

#[test]
fn the_least_recently_used_snapshot_is_dropped_first() {
    let test = TestFolders::without_state(images(3));
    for seed in 1..=3 {
        test.loaded(&format!("{seed}.bin"), &image(seed));
    }
    test.snapshots.get(id_of(&image(1))).unwrap();
    test.loaded("4.bin", &image(4));
    let loaded: Vec<_> = (1..=4)
        .filter(|s| test.is_loaded(id_of(&image(*s))))
        .collect();
    assert_eq!(loaded, [1, 3, 4]);
}

#[test]
fn nothing_is_dropped_for_a_content_that_does_not_fit_anyway() {
    let test = TestFolders::without_state(images(2));
    test.loaded("1.bin", &image(1));
    test.loaded("2.bin", &image(2));
    let huge = test.file("huge.bin", &vec![7; images(2) as usize + 1]);
    test.full(&huge);
    assert_eq!(test.snapshots.held(), images(2));
}

#[test]
fn unused_snapshots_are_limited_in_number() {
    let mut test = TestFolders::without_state(64 * MB);
    test.snapshots.most = 3;
    for seed in 1..=5 {
        test.loaded(&format!("{seed}.bin"), &[seed]);
    }
    assert_eq!(test.snapshots.loaded.borrow().len(), 3);
    assert!(test.is_loaded(id_of(&[5])));
    // Snapshots in use are not limited, because the connections that use them are limited already.
    let held: Vec<_> = (1..=5).map(|s| test.loaded("x.bin", &[s])).collect();
    assert_eq!(test.snapshots.loaded.borrow().len(), held.len());
}

#[test]
fn a_file_whose_bytes_changed_is_gone() {
    let test = TestFolders::new(64 * MB);
    let file = test.file("a.bin", &image(1));
    test.firmware.write("a.bin", &image(2));
    assert!(test.gone(&file).contains("a.bin has changed"));
    test.firmware.write("a.bin", b"short");
    assert!(test.gone(&file).contains("a.bin has changed"));
    std::fs::remove_file(test.firmware.path().join("a.bin")).unwrap();
    assert!(test.gone(&file).contains("a.bin cannot be opened"));
    assert_eq!(test.snapshots.held(), 0);
}

#[test]
fn a_file_that_was_only_touched_is_still_valid() {
    let test = TestFolders::new(64 * MB);
    let file = test.file("a.bin", &image(1));
    std::fs::remove_file(test.firmware.path().join("a.bin")).unwrap();
    test.firmware.write("a.bin", &image(1));
    assert_eq!(read_all(&test.load(&file).unwrap()), image(1));
}

#[test]
fn another_file_with_the_same_bytes_is_also_valid() {
    let test = TestFolders::new(64 * MB);
    let (id, one) = test.file("1.bin", &image(1));
    let (_, two) = test.file("2.bin", &image(1));
    test.firmware.write("1.bin", &image(2));
    let snapshot = smol::block_on(test.snapshots.load(id, &[one, two])).unwrap();
    assert_eq!(read_all(&snapshot), image(1));
}

#[test]
fn links_and_pipes_put_in_the_place_of_a_file_are_refused_at_once() {
    let test = TestFolders::new(64 * MB);
    let file = test.file("P/a.bin", &image(1));
    let path = test.firmware.path().join("P/a.bin");
    let outside = test.state.write("a.bin", &image(1));
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(outside, &path).unwrap();
    test.gone(&file);
    std::fs::remove_file(&path).unwrap();
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    test.gone(&file);
    std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(test.state.path(), path.parent().unwrap()).unwrap();
    test.gone(&file);
}

#[test]
fn an_unreadable_medium_is_reported_as_such_with_the_reason() {
    // `/proc/self/mem` is a regular file that can be opened but not read at its beginning.
    let snapshots = Snapshots::new(Path::new("/proc/self").into(), MB, None);
    let test = TestFolders::new(MB);
    let (_, mut source) = test.file("mem", b"");
    source.path = "mem".into();
    let error = smol::block_on(snapshots.load(id_of(b""), &[source])).unwrap_err();
    let LoadError::Unread(text) = error else {
        panic!("{error}")
    };
    assert!(text.starts_with("mem cannot be read: "), "{text}");
}

#[test]
fn a_content_without_a_file_is_gone() {
    let test = TestFolders::new(MB);
    let loaded = smol::block_on(test.snapshots.load(id_of(b"x"), &[]));
    assert!(matches!(loaded, Err(LoadError::Gone(_))));
    assert!(test.snapshots.get(id_of(b"x")).is_none());
}

#[test]
fn contents_are_found_by_their_first_twelve_bits() {
    let test = TestFolders::new(64 * MB);
    let mut all = Vec::new();
    for number in 0..50u32 {
        let bytes = number.to_le_bytes();
        all.push(test.loaded(&format!("{number}.bin"), &bytes));
    }
    for snapshot in &all {
        let short = snapshot.id().short();
        let mut expected: Vec<_> = all.iter().map(|s| s.id()).collect();
        expected.retain(|id| id.short() == short);
        expected.sort();
        let found: Vec<_> = test.snapshots.with_short(short, |found| found.collect());
        assert_eq!(found, expected);
    }
    let free = (0..4096).find(|short| all.iter().all(|s| s.id().short() != *short));
    assert_eq!(
        test.snapshots
            .with_short(free.unwrap(), |found| found.count()),
        0
    );
}

#[test]
fn a_content_that_is_no_longer_offered_is_dropped_an_hour_after_its_last_use() {
    let test = TestFolders::new(64 * MB);
    let old = test.loaded("old.bin", &image(1)).id();
    let new = test.loaded("new.bin", &image(2)).id();
    let start = Instant::now();
    let sweep = |minutes: u64| {
        let now = start + Duration::from_secs(minutes * 60);
        test.snapshots.sweep_at(now, |id| id == new);
    };
    sweep(50);
    // As by a GetN request: the snapshot counts as used when the next sweep runs.
    test.snapshots.get(old).unwrap();
    sweep(90);
    sweep(149);
    assert!(test.is_loaded(old));
    let held = test.snapshots.get(old).unwrap();
    sweep(160);
    sweep(230);
    assert!(test.is_loaded(old));
    drop(held);
    sweep(231);
    assert!(test.is_loaded(old));
    sweep(291);
    assert!(!test.is_loaded(old));
    assert!(test.is_loaded(new));
}

#[test]
fn a_temporary_file_is_dropped_when_it_is_no_longer_used() {
    let test = TestFolders::new(0);
    let id = test.loaded("a.bin", &image(1)).id();
    let later = Instant::now() + KEEP_TIME;
    test.snapshots.sweep_at(later, |_| true);
    assert!(!test.is_loaded(id));
}

#[test]
fn an_empty_catalogue_offers_nothing() {
    let test = TestFolders::new(64 * MB);
    let id = test.loaded("a.bin", &image(1)).id();
    let nothing = Catalog::default();
    assert!(test.snapshots.may_free_memory(&nothing));
    test.snapshots.sweep(&nothing);
    assert!(test.is_loaded(id));
    test.snapshots
        .sweep_at(Instant::now() + KEEP_TIME, |_| false);
    assert!(!test.is_loaded(id) && !test.snapshots.may_free_memory(&nothing));
}
