use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};

use serde_json::json;

use super::*;
use crate::decision::FUSE;
use crate::firmware::catalog::Catalog;
use crate::firmware::known::KnownFiles;
use crate::firmware::scan;
use crate::firmware::version::Version;
use crate::os::scratch::Scratch;

/// Returns bytes that are no text and no known kind of package.
fn image() -> Vec<u8> {
    (0..3000u32).map(|n| (n * 7) as u8 | 0x80).collect()
}

fn release<'a>(project: &'a str, version: &'a str) -> RulesScope<'a> {
    RulesScope {
        project,
        version: Some(version),
    }
}

fn set(dir: &Scratch, place: RulesScope<'_>, key: &str, value: Value) -> Result<Edited, EditError> {
    let keys = [(key, Some(value))];
    edit(dir.path(), place, Edit::Keys(&keys), Expected::Anything)
}

fn scanned(dir: &Scratch) -> Catalog {
    scan::catalog(dir.path(), &mut KnownFiles::open(None)).unwrap()
}

/// Returns the rules that the scan reads for a release.
fn rules(dir: &Scratch, project: &str, version: &str) -> Rules {
    let catalog = scanned(dir);
    assert!(catalog.quarantined.is_empty(), "{:?}", catalog.quarantined);
    let releases = &catalog.project(project).unwrap().releases;
    let wanted = Version::parse(version).unwrap();
    let release = releases.iter().find(|r| r.version == wanted).unwrap();
    assert_eq!(release.held_back, None);
    (*release.rules).clone()
}

/// Returns the paths of all files below the folder, including those that the scan ignores.
fn files(dir: &Scratch) -> Vec<String> {
    fn walk(folder: &Path, to: &mut Vec<String>, from: &Path) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.is_symlink() {
                walk(&path, to, from);
            } else {
                to.push(
                    path.strip_prefix(from)
                        .unwrap()
                        .to_str()
                        .unwrap()
                        .to_owned(),
                );
            }
        }
    }
    let mut files = Vec::new();
    walk(dir.path(), &mut files, dir.path());
    files.sort();
    files
}

#[test]
fn the_scan_reads_the_rules_that_were_written() {
    let dir = Scratch::new();
    for path in [
        "A/2.0.0/update.bin",
        "A/v2.0.1/from-2008/update.bin",
        "B_1.0/update.bin",
        "C_2012.001.004_LuatOS-SoC_Air780EPM.bin",
        "D/D_1.2_Luat_RDA8910.bin",
        "E_1.0_2.0_Luat_RDA8910.bin",
        "F_1.0_7_Luat_RDA8910.bin",
        "lost+found_1.0_Luat_RDA8910.bin",
    ] {
        dir.write(path, &image());
    }
    for (project, version, file) in [
        ("A", "2.0.0", "A/2.0.0/release.json"),
        ("A", "2.0.1", "A/v2.0.1/release.json"),
        ("B", "1.0.0", "B_1.0/release.json"),
        ("C", "2012.001.004", "C/2012.001.004/release.json"),
        ("D", "1.2", "D/1.2/release.json"),
        ("E_1.0", "2.0", "E_1.0_2.0/release.json"),
        ("F_1.0", "7", "F_1.0_v7/release.json"),
        ("lost+found", "1.0", "lost+found_1.0/release.json"),
    ] {
        let place = release(project, version);
        assert_eq!(read(dir.path(), place), Ok(None));
        let edited = set(&dir, place, "percent", json!(10)).unwrap();
        assert!(edited.created);
        assert_eq!(edited.file.path, file);
        assert_eq!(rules(&dir, project, version).percent, Some(10.0));
        let again = set(&dir, place, "paused", json!("wait")).unwrap();
        assert!(!again.created);
        let read_back = rules(&dir, project, version);
        assert_eq!(read_back.percent, Some(10.0));
        assert_eq!(read_back.paused, Some(Paused::Because("wait".into())));
        assert_eq!(read(dir.path(), place), Ok(Some(again.file)));
    }
    let project = RulesScope {
        project: "A",
        version: None,
    };
    let edited = set(&dir, project, "project_key", json!("k")).unwrap();
    assert_eq!(edited.file.path, "A/release.json");
    assert_eq!(rules(&dir, "A", "2.0.0").project_key, Some("k".into()));
    assert_eq!(files(&dir).len(), 8 + 9);
}

#[test]
fn the_other_keys_stay_as_they_are_written() {
    let dir = Scratch::new();
    dir.write("A/1.0/update.bin", &image());
    let written = "\u{feff}{ \"percent\": 5.0,\r\n  \"deny\": [ \"862991443753386\" ] }\r\n";
    dir.write("A/1.0/Release.JSON", written.as_bytes());
    let edited = set(&dir, release("A", "1"), "paused", json!(true)).unwrap();
    assert_eq!(edited.file.path, "A/1.0/Release.JSON");
    let text = String::from_utf8(edited.file.bytes).unwrap();
    assert_eq!(
        text,
        "{ \"percent\": 5.0,\r\n  \"deny\": [ \"862991443753386\" ],\r\n  \"paused\": true }\r\n"
    );
    let keys = [("paused", None), ("percent", Some(json!(50)))];
    let place = release("A", "1");
    edit(dir.path(), place, Edit::Keys(&keys), Expected::Anything).unwrap();
    let rules = rules(&dir, "A", "1.0");
    assert_eq!((rules.paused, rules.percent), (None, Some(50.0)));
    assert!(rules.deny.is_some());
    assert_eq!(files(&dir), ["A/1.0/Release.JSON", "A/1.0/update.bin"]);
}

#[test]
fn only_the_expected_file_is_overwritten() {
    let dir = Scratch::new();
    let place = release("A", "1.0");
    let put = |bytes: &str, expected| {
        let edited = edit(dir.path(), place, Edit::Whole(bytes.as_bytes()), expected);
        edited.map(|edited| edited.file.tag)
    };
    let nobody = Expected::Tag(tag_of(b"{}"));
    assert_eq!(put("{}", nobody), Err(EditError::Changed));
    let first = put("{ \"percent\": 1 }", Expected::Nothing).unwrap();
    assert_eq!(first, tag_of(b"{ \"percent\": 1 }"));
    assert_eq!(put("{}", Expected::Nothing), Err(EditError::Changed));
    let second = put("{ \"percent\": 2 }", Expected::Tag(first)).unwrap();
    assert_eq!(put("{}", Expected::Tag(first)), Err(EditError::Changed));
    let there = read(dir.path(), place).unwrap().unwrap();
    assert_eq!(
        (there.tag, &there.bytes[..]),
        (second, &b"{ \"percent\": 2 }"[..])
    );
}

#[test]
fn invalid_rules_are_not_written() {
    let dir = Scratch::new();
    let place = release("A", "1.0");
    let wrong = |edited: Result<Edited, EditError>, part: &str| match edited {
        Err(EditError::Wrong(sentence)) => assert!(sentence.contains(part), "{sentence}"),
        other => panic!("{other:?}"),
    };
    wrong(set(&dir, place, "percent", json!("10")), "`percent`");
    wrong(set(&dir, place, "pecent", json!(10)), "nearest");
    let whole = Edit::Whole(b"{ \"paused\": 1 }");
    wrong(
        edit(dir.path(), place, whole, Expected::Anything),
        "`paused`",
    );
    wrong(
        set(&dir, release("A", "beta"), "percent", json!(1)),
        "version",
    );
    for (project, version) in [
        ("", "1.0"),
        ("..", "1.0"),
        (".a", "1.0"),
        ("a/b", "1.0"),
        ("a\n", "1.0"),
        ("a,b", "1.0"),
        ("a", "1.0/../2.0"),
    ] {
        let edited = set(&dir, release(project, version), "percent", json!(1));
        assert!(
            matches!(edited, Err(EditError::Wrong(_))),
            "{project:?} {version:?}"
        );
    }
    assert!(files(&dir).is_empty());
    assert_eq!(
        fs::read_dir(dir.path()).unwrap().count(),
        0,
        "no folder stays"
    );
}

#[test]
fn an_invalid_file_is_only_replaced_as_a_whole() {
    let dir = Scratch::new();
    dir.write("A/1.0/release.json", b"{ \"percent\": 10, }");
    let place = release("A", "1.0");
    let edited = set(&dir, place, "paused", json!(true));
    assert!(matches!(edited, Err(EditError::Wrong(_))), "{edited:?}");
    // A wrong value may be corrected by its key.
    dir.write("A/1.0/release.json", b"{ \"percent\": \"10\" }");
    assert!(set(&dir, place, "paused", json!(true)).is_err());
    set(&dir, place, "percent", json!(10)).unwrap();
    dir.write("A/1.0/release.json", b"nonsense");
    let tag = read(dir.path(), place).unwrap().unwrap().tag;
    let whole = Edit::Whole(b"{}");
    edit(dir.path(), place, whole, Expected::Tag(tag)).unwrap();
}

#[test]
fn a_link_in_the_way_is_neither_followed_nor_replaced() {
    let dir = Scratch::new();
    let outside = Scratch::new();
    outside.write("release.json", b"{}");
    dir.write("A/1.0/update.bin", &image());
    symlink(
        outside.path().join("release.json"),
        dir.path().join("A/1.0/release.json"),
    )
    .unwrap();
    symlink(outside.path(), dir.path().join("B")).unwrap();
    fs::create_dir(dir.path().join("C")).unwrap();
    symlink(outside.path(), dir.path().join("C/1.0")).unwrap();
    for project in ["A", "B", "C"] {
        let place = release(project, "1.0");
        let edited = set(&dir, place, "paused", json!(true));
        assert!(
            matches!(edited, Err(EditError::Unwritable(_))),
            "{edited:?}"
        );
    }
    assert!(read(dir.path(), release("A", "1.0")).is_err());
    assert_eq!(files(&outside), ["release.json"]);
    assert_eq!(
        fs::read(outside.path().join("release.json")).unwrap(),
        b"{}"
    );
    assert_eq!(
        files(&dir),
        ["A/1.0/release.json", "A/1.0/update.bin", "B", "C/1.0"]
    );
}

#[test]
fn an_unwritable_folder_is_reported() {
    // Not even root can create folders there.
    let nowhere = Path::new("/proc/self");
    let keys = [("paused", Some(json!(true)))];
    let place = release("A", "1.0");
    let edited = edit(nowhere, place, Edit::Keys(&keys), Expected::Anything);
    assert!(
        matches!(edited, Err(EditError::Unwritable(_))),
        "{edited:?}"
    );
    let missing = Path::new("/proc/self/missing");
    assert!(read(missing, place).is_err());
    if rustix::process::geteuid().is_root() {
        eprintln!("root may read and write everything: the rest is not tried");
        return;
    }
    let dir = Scratch::new();
    let path = dir.write("A/1.0/release.json", b"{}");
    let folder = dir.path().join("A/1.0");
    fs::set_permissions(&folder, Permissions::from_mode(0o555)).unwrap();
    let read_only = set(&dir, place, "paused", json!(true));
    fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
    assert!(
        matches!(read_only, Err(EditError::Unwritable(_))),
        "{read_only:?}"
    );
    fs::set_permissions(&path, Permissions::from_mode(0o000)).unwrap();
    let unreadable = set(&dir, place, "paused", json!(true));
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    assert!(
        matches!(unreadable, Err(EditError::Unwritable(_))),
        "{unreadable:?}"
    );
    assert_eq!(fs::read(path).unwrap(), b"{}");
    fs::set_permissions(dir.path(), Permissions::from_mode(0o555)).unwrap();
    let no_folder = set(&dir, release("B", "1.0"), "paused", json!(true));
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    assert!(
        matches!(no_folder, Err(EditError::Unwritable(_))),
        "{no_folder:?}"
    );
}

#[test]
fn two_files_for_one_release_are_not_made_three() {
    let dir = Scratch::new();
    dir.write("A/1.0/release.json", b"{}");
    dir.write("A_1.0/release.json", b"{}");
    let edited = set(&dir, release("A", "1.0"), "paused", json!(true));
    assert!(matches!(edited, Err(EditError::Wrong(_))), "{edited:?}");
    // The same for a version's folder in two notations, of which only one has rules.
    dir.write("B/1.0/update.bin", &image());
    dir.write("B/v1.0.0/release.json", b"{}");
    let edited = set(&dir, release("B", "1"), "paused", json!(true)).unwrap();
    assert_eq!(edited.file.path, "B/v1.0.0/release.json");
}

#[test]
fn the_fuse_does_not_replace_a_persons_pause() {
    let dir = Scratch::new();
    dir.write("A/1.0/update.bin", &image());
    let sentence = format!("{FUSE}3 of 9 devices came back with 1.0");
    pause(dir.path(), "A", "1.0", &sentence).unwrap();
    let because = |text: &str| Some(Paused::Because(text.to_owned()));
    assert_eq!(rules(&dir, "A", "1.0").paused, because(&sentence));
    set(&dir, release("A", "1.0"), "paused", json!("by hand")).unwrap();
    pause(dir.path(), "A", "1.0", &sentence).unwrap();
    assert_eq!(rules(&dir, "A", "1.0").paused, because("by hand"));
    set(&dir, release("A", "1.0"), "paused", json!(false)).unwrap();
    pause(dir.path(), "A", "1.0", &sentence).unwrap();
    assert_eq!(rules(&dir, "A", "1.0").paused, because(&sentence));
}
