//! Tests of groups of devices in a watched folder.

use super::*;
use crate::firmware::audience::DeviceId;

const ONE: &str = "862991443753386";
const OTHER: &str = "862991443753387";

fn id(text: &str) -> DeviceId {
    DeviceId::parse(text).unwrap()
}

/// Watches a folder with a release for the group `pilot`.
fn start(dir: &Scratch) -> TestWatcher {
    dir.write(PATH, &image(1, 5000));
    dir.write("ALIYUN/release.json", br#"{"allow": ["@pilot"]}"#);
    TestWatcher::new(dir.path())
}

fn admits(catalog: &Catalog, device: &str) -> bool {
    let release = catalog.project("ALIYUN").and_then(|p| p.releases.first());
    let allow = release.and_then(|release| release.rules.allow.as_ref());
    allow.is_some_and(|allow| allow.contains(id(device)))
}

#[test]
fn an_edited_group_is_in_force_without_a_restart_and_a_lost_one_matches_no_device() {
    let dir = Scratch::new();
    let test = start(&dir);
    let catalog = test.until("the release", |c| {
        c.release_count() == 1 && !c.warnings.is_empty()
    });
    assert!(!admits(&catalog, ONE) && catalog.warnings[0].text.contains("@pilot.txt"));
    dir.write("@pilot.txt", ONE.as_bytes());
    let catalog = test.until("the group is in force", |c| admits(c, ONE));
    assert!(catalog.warnings.is_empty() && catalog.quarantined.is_empty());
    dir.write("@pilot.txt", format!("{ONE}\n{OTHER} # pump\n").as_bytes());
    let catalog = test.until("the edit is in force", |c| admits(c, OTHER));
    assert_eq!(catalog.groups.device_name(id(OTHER)), Some("pump"));
    dir.write("@pilot.txt", b"862991443753386, pump\n");
    let catalog = test.until("it is bad", |c| reason(c, "@pilot.txt").is_some());
    assert!(!admits(&catalog, ONE) && !catalog.warnings.is_empty());
    dir.write("@pilot.txt", OTHER.as_bytes());
    test.until("it is good again", |c| {
        admits(c, OTHER) && c.quarantined.is_empty()
    });
    fs::remove_file(dir.path().join("@pilot.txt")).unwrap();
    test.until("it is gone", |c| {
        !admits(c, OTHER) && !c.warnings.is_empty()
    });
}

#[test]
fn a_group_that_an_editor_deletes_and_writes_anew_stays_in_force_meanwhile() {
    let dir = Scratch::new();
    let path = dir.write("@pilot.txt", ONE.as_bytes());
    let test = start(&dir);
    test.until("the group is in force", |c| admits(c, ONE));
    fs::remove_file(&path).unwrap();
    dir.write("@pilot.txt", format!("{ONE}\n{OTHER}\n").as_bytes());
    test.until("the new one, and never none", |c| {
        assert!(admits(c, ONE), "the group was not in force for a while");
        admits(c, OTHER)
    });
}

#[test]
fn half_a_group_is_never_in_force() {
    let dir = Scratch::new();
    let path = dir.write("@pilot.txt", format!("{ONE}\n{OTHER}\n").as_bytes());
    let file = File::open(&path).unwrap();
    if !matches!(
        crate::os::lease::request(&file),
        crate::os::lease::Lease::Granted(_)
    ) {
        return; // No leases here, so a writer cannot be detected.
    }
    let test = start(&dir);
    test.until("the group is in force", |c| {
        admits(c, ONE) && admits(c, OTHER)
    });
    // A writer rewrites the same file from its start and stops in the middle.
    let mut writer = OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(&path)
        .unwrap();
    writer.write_all(format!("{ONE}\n").as_bytes()).unwrap();
    // Other files are seen long after the group's file would have settled.
    let began = Instant::now();
    let mut number = 0;
    while began.elapsed() < Duration::from_secs(3) {
        number += 1;
        let name = format!("marker{number}.soc");
        dir.write(&name, b"");
        let catalog = test.until("a marker", |c| reason(c, &name).is_some());
        assert!(admits(&catalog, OTHER), "half a group is in force");
    }
    writer
        .write_all(b"862991440000000-862991440000009\n")
        .unwrap();
    drop(writer);
    let catalog = test.until("the whole group", |c| !admits(c, OTHER));
    assert!(admits(&catalog, ONE) && admits(&catalog, "862991440000003"));
}

#[test]
fn a_group_that_was_there_long_before_the_start_is_in_the_first_catalogue() {
    let dir = Scratch::new();
    dir.write("@pilot.txt", ONE.as_bytes());
    let root = Folder::open(dir.path()).unwrap();
    let (start, mut known) = (Instant::now(), KnownFiles::open(None));
    for (later, is_known) in [(3_600_000_000_000, true), (0, false)] {
        let mut files = FileTable::new(Patience::Settle);
        let old = Some(scan::old_before() + later);
        let seen = scan::walk(&root, None).unwrap();
        files.add_walk(&root, None, seen, old, start, &mut known);
        let groups = files.scan_result().groups;
        assert_eq!(groups[0].group.is_ok(), is_known);
        assert_eq!(files.is_busy(), !is_known);
    }
}
