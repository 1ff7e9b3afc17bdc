//! Tests of files and folders that are added, changed and removed.

use super::*;

#[test]
fn a_file_that_is_copied_in_is_offered() {
    let dir = Scratch::new();
    let test = TestWatcher::new(dir.path()).ready(dir.path());
    let bytes = image(1, 1 << 20);
    let begun = Instant::now();
    dir.write(PATH, &bytes);
    let closed = Instant::now();
    let catalog = test.until_offered(PATH, &bytes);
    // 1.5 s on an idle machine.
    assert!(closed.elapsed() < Duration::from_secs(8));
    // The file counts as unchanged since its last byte, which may be written long before `closed`.
    assert!(begun.elapsed() > Duration::from_millis(1000));
    println!("offered after {:?}", closed.elapsed());
    let project = catalog.project("ALIYUN").unwrap();
    assert_eq!(&*project.releases[0].version_text, "2.0.1");
    assert_eq!(test.watcher.files_read(), 1);
}

#[test]
fn a_file_that_is_moved_in_is_offered() {
    let dir = Scratch::new();
    fs::create_dir_all(dir.path().join("root/ALIYUN/2.0.1")).unwrap();
    let bytes = image(1, 5000);
    let outside = dir.write("outside.bin", &bytes);
    let root = dir.path().join("root");
    let test = TestWatcher::new(&root).ready(&root);
    fs::rename(outside, root.join(PATH)).unwrap();
    test.until_offered(PATH, &bytes);
}

#[test]
fn a_part_file_is_offered_when_it_gets_its_name() {
    let dir = Scratch::new();
    let test = TestWatcher::new(dir.path()).ready(dir.path());
    let bytes = image(1, 5000);
    let part = dir.write("ALIYUN/2.0.1/update.bin.part", &bytes);
    let marker = image(2, 5000);
    dir.write("OTHER/1.0.0/update.bin", &marker);
    let catalog = test.until_offered("OTHER/1.0.0/update.bin", &marker);
    assert!(catalog.project("ALIYUN").is_none() && catalog.waiting.is_empty());
    fs::rename(part, dir.path().join(PATH)).unwrap();
    test.until_offered(PATH, &bytes);
}

#[test]
fn a_tree_that_is_moved_in_and_within_and_out_is_followed() {
    let dir = Scratch::new();
    let bytes = image(1, 5000);
    dir.write("outside/2.0.1/update.bin", &bytes);
    dir.write("outside/2.0.2/update.bin", &image(2, 5000));
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    let test = TestWatcher::new(&root).ready(&root);
    fs::rename(dir.path().join("outside"), root.join("ALIYUN")).unwrap();
    test.until_offered(PATH, &bytes);
    test.until_offered("ALIYUN/2.0.2/update.bin", &image(2, 5000));

    // A file is seen in a folder that arrived with the tree.
    let later = image(3, 5000);
    fs::create_dir(root.join("ALIYUN/2.0.3")).unwrap();
    fs::write(root.join("ALIYUN/2.0.3/update.bin"), &later).unwrap();
    test.until_offered("ALIYUN/2.0.3/update.bin", &later);

    // The hashes of moved files are known, because their stamps are unchanged.
    let reads = test.watcher.files_read();
    fs::rename(root.join("ALIYUN"), root.join("OTHER")).unwrap();
    let catalog = test.until_offered("OTHER/2.0.1/update.bin", &bytes);
    assert!(catalog.project("ALIYUN").is_none());
    assert_eq!(test.watcher.files_read(), reads);
    let again = image(4, 5000);
    fs::write(root.join("OTHER/2.0.3/update.bin"), &again).unwrap();
    test.until_offered("OTHER/2.0.3/update.bin", &again);

    fs::rename(root.join("OTHER"), dir.path().join("out")).unwrap();
    test.until("all is gone", |c| c.release_count() == 0);
}

#[test]
fn a_file_that_is_rewritten_in_place_is_withdrawn_until_it_is_complete() {
    let dir = Scratch::new();
    let test = TestWatcher::new(dir.path()).ready(dir.path());
    let (old, new) = (image(1, 5000), image(2, 5000));
    let path = dir.write(PATH, &old);
    test.until_offered(PATH, &old);
    let mut file = OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all(&new[..2500]).unwrap();
    test.until("it is withdrawn", |c| {
        c.release_count() == 0 && c.waiting == [PATH]
    });
    file.write_all(&new[2500..]).unwrap();
    drop(file);
    let catalog = test.until_offered(PATH, &new);
    assert!(catalog.sources(id(&old)).is_empty());
    assert_eq!(test.watcher.files_read(), 2);
}

#[test]
fn a_file_is_not_offered_while_a_writer_has_it_open() {
    let dir = Scratch::new();
    let test = TestWatcher::new(dir.path()).ready(dir.path());
    let bytes = image(1, 5000);
    let path = dir.write(PATH, &bytes[..10]);
    let mut writer = OpenOptions::new().append(true).open(path).unwrap();
    // Each marker is complete more than a second after the writer's last byte.
    for number in 0..3u8 {
        let from = 10 + usize::from(number) * 100;
        writer.write_all(&bytes[from..from + 100]).unwrap();
        let marker = image(10 + number, 100);
        let name = format!("MARKER/1.0.{number}/update.bin");
        dir.write(&name, &marker);
        let catalog = test.until_offered(&name, &marker);
        assert!(catalog.project("ALIYUN").is_none());
        assert_eq!(catalog.waiting, [PATH]);
    }
    writer.write_all(&bytes[310..]).unwrap();
    drop(writer);
    let closed = Instant::now();
    test.until_offered(PATH, &bytes);
    println!("offered after {:?}", closed.elapsed());
}

#[test]
fn the_folder_itself_may_be_deleted_and_created_again() {
    let dir = Scratch::new();
    let root = dir.path().join("root");
    let bytes = image(1, 5000);
    dir.write("root/ALIYUN/2.0.1/update.bin", &bytes);
    let test = TestWatcher::new(&root);
    test.until_offered(PATH, &bytes);
    fs::remove_dir_all(&root).unwrap();
    let catalog = test.until("nothing is offered", |c| reason(c, ".").is_some());
    assert_eq!(catalog.release_count(), 0);
    let text = reason(&catalog, ".").unwrap();
    assert!(text.contains(&root.display().to_string()), "{text}");

    dir.write("root/ALIYUN/2.0.1/update.bin", &bytes);
    let catalog = test.until_offered(PATH, &bytes);
    assert_eq!(reason(&catalog, "."), None);
    // The folder is watched again.
    let later = image(2, 5000);
    dir.write("root/ALIYUN/2.0.2/update.bin", &later);
    test.until_offered("ALIYUN/2.0.2/update.bin", &later);

    // Put another folder in its place.
    let other = image(3, 5000);
    dir.write("other/OTHER/1.0.0/update.bin", &other);
    fs::rename(&root, dir.path().join("away")).unwrap();
    fs::rename(dir.path().join("other"), &root).unwrap();
    let catalog = test.until_offered("OTHER/1.0.0/update.bin", &other);
    assert!(catalog.project("ALIYUN").is_none());
}

#[test]
fn a_folder_that_is_not_there_yet_is_waited_for() {
    let dir = Scratch::new();
    let root = dir.path().join("root");
    let test = TestWatcher::new(&root);
    test.until("it is missing", |c| reason(c, ".").is_some());
    let bytes = image(1, 5000);
    dir.write("root/ALIYUN/2.0.1/update.bin", &bytes);
    test.until_offered(PATH, &bytes);
}

#[test]
fn the_folder_may_be_named_by_a_link() {
    let dir = Scratch::new();
    let bytes = image(1, 5000);
    dir.write("real/ALIYUN/2.0.1/update.bin", &bytes);
    let link = dir.path().join("link");
    symlink("real", &link).unwrap();
    let test = TestWatcher::new(&link);
    test.until_offered(PATH, &bytes);
    let later = image(2, 5000);
    dir.write("real/ALIYUN/2.0.2/update.bin", &later);
    test.until_offered("ALIYUN/2.0.2/update.bin", &later);
}

#[test]
fn thousands_of_files_at_once_are_all_found() {
    let dir = Scratch::new();
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    let test = TestWatcher::new(&root).ready(&root);
    for number in 0..2000u32 {
        let mut bytes = image(7, 60);
        bytes.extend(number.to_le_bytes());
        let path = format!("root/P{}/1.0.{}/update.bin", number % 20, number / 20);
        dir.write(&path, &bytes);
    }
    let catalog = test.until("all are offered", |c| c.release_count() == 2000);
    assert!(catalog.waiting.is_empty() && catalog.quarantined.is_empty());
    fs::remove_dir_all(root.join("P3")).unwrap();
    test.until("a hundred are gone", |c| c.release_count() == 1900);

    // After this number of changes each folder is still watched.
    let (new, changed) = (image(8, 100), image(9, 100));
    dir.write("root/P3/1.0.0/update.bin", &new);
    dir.write("root/P7/1.0.50/update.bin", &changed);
    test.until_offered("P3/1.0.0/update.bin", &new);
    test.until_offered("P7/1.0.50/update.bin", &changed);
}

#[test]
fn random_changes_end_in_a_correct_catalogue() {
    let dir = Scratch::new();
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    fs::create_dir(dir.path().join("away")).unwrap();
    let test = TestWatcher::new(&root).ready(&root);
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
        // Most of these operations fail where the path does not exist, which is intended.
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
            // Wait until the watcher has seen a part of the changes.
            let marker = image(2, 100 + step as usize);
            dir.write(&format!("root/M/1.0.{step}/update.bin"), &marker);
            test.until("the marker waits", |c| {
                c.waiting.iter().any(|path| path.starts_with("M/"))
            });
        }
    }
    let truth = scan::catalog(&root, &mut KnownFiles::open(None)).unwrap();
    assert!(truth.release_count() > 8);
    test.until("it is as the folder is", |c| *c == truth);
}

/// Runs the loop in the test's thread, so that the test decides when a file was read.
#[test]
fn the_folder_counts_as_read_when_every_readable_file_was_read() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("firmware");
    let path = "LUAT-OTA-SAMPLE/1.0.1/update.bin";
    // The file may be from a fresh checkout.
    let is_old = || {
        let stamp = crate::os::fs::stamp(&File::open(root.join(path)).unwrap()).unwrap();
        stamp.mtime.max(stamp.ctime) < scan::old_before()
    };
    while !is_old() {
        std::thread::sleep(Duration::from_millis(100));
    }
    let (messages, _inbox) = mpsc::channel();
    let (jobs, given) = mpsc::channel();
    let (sender, catalogs) = smol::channel::bounded(1);
    let options = WatchOptions {
        root,
        known: KnownFiles::open(None),
        rescan: Duration::from_secs(30),
        skip: None,
    };
    let mut watch = WatchLoop::new(options, messages, jobs, sender);
    watch.step();
    assert!(catalogs.try_recv().unwrap().reading);
    // As if a program had the file open for writing.
    let mut given: Vec<Job> = given.try_recv().unwrap();
    let later = WatchMessage::Read(given.remove(0), ReadOutcome::Later);
    assert!(given.is_empty());
    watch.receive(later);
    watch.no_catalog_before = Instant::now();
    watch.step();
    let catalog = catalogs.try_recv().unwrap();
    assert!(!catalog.reading);
    assert_eq!(catalog.waiting, [path]);
}
