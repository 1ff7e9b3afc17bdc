//! Tests of files that are not served, and of rules and checksums that hold files back.

use super::*;

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
    let test = TestWatcher::new(&root);
    let catalog = test.until_offered(PATH, &bytes);
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
fn rules_or_checksums_that_are_links_hold_back_their_firmware() {
    let dir = Scratch::new();
    let (first, second) = (image(1, 5000), image(2, 5000));
    dir.write("A/1.0.0/update.bin", &first);
    dir.write("B/1.0.0/update.bin", &second);
    symlink("/dev/null", dir.path().join("A/1.0.0/update.bin.sha256")).unwrap();
    symlink("/dev/null", dir.path().join("B/1.0.0/release.json")).unwrap();
    let test = TestWatcher::new(dir.path());
    let catalog = test.until("both were read", |c| {
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
    // The link is removed, so the release is not held back any longer.
    fs::remove_file(dir.path().join("B/1.0.0/release.json")).unwrap();
    test.until("it is offered", |c| {
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
    let test = TestWatcher::new(dir.path());
    let shown = name.to_string_lossy().into_owned();
    let catalog = test.until("it is quarantined", |c| reason(c, &shown).is_some());
    assert!(reason(&catalog, &shown).unwrap().contains("UTF-8"));
    fs::remove_file(dir.path().join(name)).unwrap();
    test.until("it is gone", |c| c.quarantined.is_empty());
}

#[test]
fn unreadable_files_and_folders_are_quarantined_and_the_rest_is_offered() {
    if rustix::process::geteuid().is_root() {
        return; // Root can read everything.
    }
    let dir = Scratch::new();
    let bytes = image(1, 5000);
    dir.write(PATH, &bytes);
    let file = dir.write("B/1.0.0/update.bin", &image(2, 5000));
    dir.write("C/1.0.0/update.bin", &image(3, 5000));
    let folder = dir.path().join("C");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o0)).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o0)).unwrap();
    let test = TestWatcher::new(dir.path());
    let catalog = test.until("the readable one is offered", |c| {
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
    test.until("all are offered", |c| c.release_count() == 3);
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
    let test = TestWatcher::new(dir.path());
    let catalog = test.until("it is quarantined", |c| reason(c, PATH).is_some());
    let text = reason(&catalog, PATH).unwrap();
    assert!(text.contains(&id(&bytes).to_string()[..12]), "{text}");
    assert!(text.contains(&id(&image(9, 9)).to_string()[..12]), "{text}");
    let reads = test.watcher.files_read();
    let line = format!("{}  update.bin\n", id(&bytes));
    dir.write("ALIYUN/2.0.1/update.bin.sha256", line.as_bytes());
    test.until_offered(PATH, &bytes);
    // The new checksum was compared with the known hash of the file.
    assert_eq!(test.watcher.files_read(), reads);
    // A second checksum must match as well.
    dir.write("ALIYUN/2.0.1/update.bin.md5", "0".repeat(32).as_bytes());
    test.until("it is quarantined", |c| reason(c, PATH).is_some());
    fs::remove_file(dir.path().join("ALIYUN/2.0.1/update.bin.md5")).unwrap();
    test.until_offered(PATH, &bytes);
    assert_eq!(test.watcher.files_read(), reads);
}

#[test]
fn a_checksum_that_matches_makes_a_file_available_without_waiting() {
    let dir = Scratch::new();
    let test = TestWatcher::new(dir.path()).ready(dir.path());
    let bytes = image(1, 5000);
    dir.write(
        "ALIYUN/2.0.1/update.bin.sha256",
        id(&bytes).to_string().as_bytes(),
    );
    // The checksum is sufficient even while the writer still has the file open.
    let mut writer = File::create(dir.path().join(PATH)).unwrap();
    writer.write_all(&bytes).unwrap();
    test.until_offered(PATH, &bytes);
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
    let test = TestWatcher::new(dir.path());
    test.until("10 percent", |c| percent(c) == Some(10.0));
    dir.write(rules, br#"{"percent": 20"#);
    let catalog = test.until("the error is reported", |c| reason(c, rules).is_some());
    assert_eq!(percent(&catalog), Some(10.0));
    dir.write(rules, br#"{"percent": 30}"#);
    let catalog = test.until("30 percent", |c| percent(c) == Some(30.0));
    assert_eq!(reason(&catalog, rules), None);
    fs::remove_file(dir.path().join(rules)).unwrap();
    test.until("no rules", |c| {
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
    let test = TestWatcher::new(dir.path());
    test.until("10 percent", |c| percent(c) == Some(10.0));
    fs::remove_file(&rules).unwrap();
    dir.write("ALIYUN/release.json", br#"{"percent": 20}"#);
    test.until("20 percent, and never all", |c| {
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
    let test = TestWatcher::new(dir.path());
    let catalog = test.until("it was read", |c| c.project("ALIYUN").is_some());
    assert!(
        catalog.project("ALIYUN").unwrap().releases[0]
            .held_back
            .is_some()
    );
}

/// Creates a file with a size and without data.
fn sparse(path: &Path, size: u64) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    File::create(path).unwrap().set_len(size).unwrap();
}

#[test]
fn a_disk_image_does_not_delay_the_firmware() {
    let dir = Scratch::new();
    let path = dir.path().join("BIG/1.0.0/raspios.img");
    sparse(&path, 300 << 30);
    let test = TestWatcher::new(dir.path());
    let bytes = image(1, 6000);
    dir.write(PATH, &bytes);
    let catalog = test.until_offered(PATH, &bytes);
    let why = reason(&catalog, "BIG/1.0.0/raspios.img").unwrap();
    assert!(why.contains("322122547200 bytes"), "{why}");
    assert!(catalog.waiting.is_empty());
    assert_eq!(test.watcher.files_read(), 1);
    // After truncation to a size that a module accepts, the file is read like any other.
    fs::write(&path, image(2, 6000)).unwrap();
    test.until_offered("BIG/1.0.0/raspios.img", &image(2, 6000));
}

#[test]
fn a_file_that_grows_too_large_while_it_is_read_is_refused() {
    let dir = Scratch::new();
    let path = dir.path().join(PATH);
    sparse(&path, 200 << 20);
    let test = TestWatcher::new(dir.path());
    test.until("it is seen", |c| c.waiting == [PATH]);
    sparse(&path, 300 << 20);
    test.until("it is refused", |c| {
        reason(c, PATH).is_some() && c.waiting.is_empty()
    });
}

#[test]
fn a_project_folder_that_becomes_unreadable_does_not_free_its_releases() {
    if rustix::process::geteuid().is_root() {
        return; // Root can read everything.
    }
    let dir = Scratch::new();
    let bytes = image(1, 5000);
    dir.write("P_1.0.1/update.bin", &bytes);
    dir.write("P/release.json", br#"{"allow":["862991443753386"]}"#);
    let folder = dir.path().join("P");
    let test = TestWatcher::new(dir.path()).ready(dir.path());
    test.until_offered("P_1.0.1/update.bin", &bytes);
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o0)).unwrap();
    test.watcher.rescan();
    test.until("it is told", |c| reason(c, "P").is_some());
    // This file is offered only after a scan that would have forgotten the rules of a removed file.
    let marker = image(2, 5000);
    dir.write("M/1.0.0/update.bin", &marker);
    let catalog = test.until_offered("M/1.0.0/update.bin", &marker);
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    let release = &catalog.project("P").unwrap().releases[0];
    assert!(release.rules.allow.is_some() && release.held_back.is_none());
    test.watcher.rescan();
    test.until("it is read again", |c| c.quarantined.is_empty());
}
