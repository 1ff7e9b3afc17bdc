use std::fs;
use std::os::unix::fs::symlink;

use rustix::fs::{CWD, FileType, Mode};

use super::*;
use crate::os::scratch::Scratch;

/// Returns bytes that are no text and no known kind of package.
fn image(seed: u8) -> Vec<u8> {
    (0..3000u32).map(|n| (n * 7) as u8 ^ seed | 0x80).collect()
}

fn reason<'a>(catalog: &'a Catalog, path: &str) -> Option<&'a str> {
    let remark = catalog.quarantined.iter().find(|r| r.path == path)?;
    Some(&remark.text)
}

fn walked(dir: &Scratch) -> Vec<(String, Seen)> {
    let root = Folder::open(dir.path()).unwrap();
    walk(&root, None).unwrap().seen.into_iter().collect()
}

#[test]
fn a_single_scan_reads_everything_without_waiting() {
    let dir = Scratch::new();
    dir.write("A/1.0.0/update.bin", &image(1));
    dir.write("A_1.0.1.bin", &image(2));
    dir.write("A/1.0.2/update.soc", b"PK");
    dir.write("A/1.0.3/update.bin", b"<html>404 not found</html>");
    dir.write("A/not-a-version/update.bin", &image(4));
    dir.write("A/1.0.5/update.bin", &image(5));
    dir.write("A/1.0.5/update.bin.md5", "0".repeat(32).as_bytes());
    dir.write("A/1.0.6/notes.txt", b"notes");
    dir.write("A/1.0.6/update.bin.part", &image(6));
    let fifo = dir.path().join("A/1.0.6/update.bin");
    rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR, 0).unwrap();
    let mut known = KnownFiles::open(None);
    let catalog = catalog(dir.path(), &mut known).unwrap();
    assert!(catalog.waiting.is_empty());
    let project = catalog.project("A").unwrap();
    let versions: Vec<&str> = project.releases.iter().map(|r| &*r.version_text).collect();
    assert!(versions.contains(&"1.0.0"), "{versions:?}");
    for path in [
        "A/1.0.2/update.soc",
        "A/1.0.3/update.bin",
        "A/not-a-version/update.bin",
        "A/1.0.5/update.bin",
        "A/1.0.6/update.bin",
    ] {
        assert!(
            reason(&catalog, path).is_some(),
            "{path} is not quarantined"
        );
    }
    let ignored: Vec<&str> = catalog.ignored.iter().map(|r| &*r.path).collect();
    assert_eq!(ignored, ["A/1.0.6/notes.txt"]);
    // The files are too recent for the table of known hashes.
    assert!(known.is_empty());
}

#[test]
fn a_folder_that_is_not_there_is_an_error_with_its_name() {
    let dir = Scratch::new();
    let missing = dir.path().join("missing");
    let error = catalog(&missing, &mut KnownFiles::open(None)).unwrap_err();
    assert!(error.contains("missing cannot be read"), "{error}");
}

#[test]
fn very_deep_folders_are_not_walked() {
    let dir = Scratch::new();
    dir.write(&format!("{}update.bin", "a/".repeat(20)), &image(1));
    let seen = walked(&dir);
    let [(path, Seen::Quarantined(text))] = &seen[..] else {
        panic!("{seen:?}");
    };
    assert_eq!(path.split('/').count(), MAX_DEPTH);
    assert!(text.contains("deep"), "{text}");
}

#[test]
fn files_that_systems_and_programs_leave_behind_are_ignored() {
    let dir = Scratch::new();
    for path in [
        "lost+found/x.bin",
        "System Volume Information/x.bin",
        ".git/x.bin",
        "A/1.0.0/.x.bin.aB3dEf",
        "A/1.0.0/x.bin~",
        "A.tmp/1.0.0/x.bin",
    ] {
        dir.write(path, &image(1));
    }
    assert_eq!(walked(&dir), []);
}

#[test]
fn a_single_path_can_be_walked() {
    let dir = Scratch::new();
    dir.write("A/1.0.0/update.bin", &image(1));
    dir.write("A/1.0.1/update.bin", &image(2));
    dir.write("A/1.0.1/notes.md", b"");
    dir.write("AB/1.0.1/update.bin", &image(2));
    let root = Folder::open(dir.path()).unwrap();
    let at = |path: &str| {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        walk_entries(&root, parent, &BTreeSet::from([name.to_owned()]), None)
    };
    let paths = |path: &str| -> Vec<String> {
        let seen = at(path).unwrap().seen.into_iter();
        seen.map(|(path, _)| path).collect()
    };
    assert_eq!(paths("A/1.0.1/update.bin"), ["A/1.0.1/update.bin"]);
    let two = ["A/1.0.1/notes.md", "A/1.0.1/update.bin"];
    assert_eq!(paths("A/1.0.1"), two);
    assert_eq!(paths("A").len(), 3);
    assert_eq!(paths("missing"), [""; 0]);
    let folders = at("A").unwrap().folders;
    let names: Vec<&String> = folders.keys().collect();
    assert_eq!(names, ["A", "A/1.0.0", "A/1.0.1"]);
    assert!(is_gone(&at("A/1.0.9/update.bin").unwrap_err()));
    // A path through a link does not exist.
    symlink("A", dir.path().join("L")).unwrap();
    assert!(is_gone(&at("L/1.0.0/update.bin").unwrap_err()));
    fs::remove_file(dir.path().join("A/1.0.0/update.bin")).unwrap();
    assert_eq!(paths("A/1.0.0/update.bin"), [""; 0]);
}

#[test]
fn the_smallest_file_is_read_first() {
    let dir = Scratch::new();
    for (path, size) in [
        ("A/1.0.0/a.bin", 3000),
        ("A/1.0.1/b.bin", 10),
        ("A/1.0.2/c.bin", 200),
    ] {
        dir.write(path, &vec![0x80; size]);
    }
    let root = Folder::open(dir.path()).unwrap();
    let mut files = FileTable::new(Patience::None);
    let (now, mut known) = (Instant::now(), KnownFiles::open(None));
    files.add_walk(
        &root,
        None,
        walk(&root, None).unwrap(),
        None,
        now,
        &mut known,
    );
    let sizes: Vec<u64> = files.jobs(now).iter().map(|job| job.stamp.size).collect();
    assert_eq!(sizes, [10, 200, 3000]);
}

#[test]
fn a_reading_ends_when_the_file_is_removed() {
    use std::cell::Cell;

    let rename = |path: &Path| fs::rename(path, path.with_extension("part")).unwrap();
    let remove = |path: &Path| fs::remove_file(path).unwrap();
    let ways: [&dyn Fn(&Path); 2] = [&rename, &remove];
    for take_away in ways {
        let dir = Scratch::new();
        let path = dir.write("A/1.0.0/update.bin", b"");
        fs::File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(64 << 20)
            .unwrap();
        let root = Folder::open(dir.path()).unwrap();
        let mut files = FileTable::new(Patience::None);
        let (now, mut known) = (Instant::now(), KnownFiles::open(None));
        files.add_walk(
            &root,
            None,
            walk(&root, None).unwrap(),
            None,
            now,
            &mut known,
        );
        let job = files.jobs(now).remove(0);
        let blocks = Cell::new(0);
        let outcome = reading::read(&root, &job, &|| {
            if blocks.replace(blocks.get() + 1) == 0 {
                take_away(&path);
            }
            true
        });
        assert!(matches!(outcome, reading::ReadOutcome::Gone), "{outcome:?}");
        // The file has 512 blocks.
        assert!(blocks.get() <= 64, "{}", blocks.get());
    }
}

/// Returns the walk that would result if these folders could not be read.
fn walked_without(root: &Folder, folders: &[&str]) -> Walk {
    let mut seen = walk(root, None).unwrap();
    for folder in folders {
        let beneath = format!("{folder}/");
        seen.seen.retain(|path, _| !path.starts_with(&beneath));
        seen.add_unread((*folder).to_owned(), &io::Error::from(Errno::ACCESS));
    }
    seen
}

#[test]
fn the_rules_in_a_folder_that_cannot_be_read_stay_in_force() {
    let dir = Scratch::new();
    dir.write("P_1.0.1/update.bin", &image(1));
    dir.write("P_1.0.2/update.bin", &image(2));
    dir.write("P/release.json", br#"{"allow":["862991443753386"]}"#);
    dir.write("P/1.0.2/Release.json", br#"{"percent":5}"#);
    let root = Folder::open(dir.path()).unwrap();
    let mut files = FileTable::new(Patience::None);
    let (now, mut known) = (Instant::now(), KnownFiles::open(None));
    let mut catalog = |walk, now| {
        files.add_walk(&root, None, walk, None, now, &mut known);
        for job in files.jobs(now) {
            let outcome = reading::read(&root, &job, &|| true);
            files.add_outcome(&job, outcome, now, &mut known);
        }
        let later = now + Duration::from_secs(2);
        files.reread_due(&root, later, &mut known);
        Catalog::build(files.scan_result())
    };
    let is_ruled = |catalog: &Catalog| {
        let releases = &catalog.project("P").unwrap().releases;
        let allowed = releases.iter().all(|release| release.rules.allow.is_some());
        let percent: Vec<_> = releases
            .iter()
            .map(|release| release.rules.percent)
            .collect();
        let held_back = releases.iter().any(|release| release.held_back.is_some());
        allowed && percent == [Some(5.0), None] && !held_back
    };
    assert!(is_ruled(&catalog(walk(&root, None).unwrap(), now)));
    // Repeated scans do not forget the rules.
    for _ in 0..3 {
        let without = catalog(walked_without(&root, &["P"]), now);
        assert!(is_ruled(&without), "{without:#?}");
        assert!(reason(&without, "P").unwrap().contains("read and enter it"));
        let why = reason(&without, "P/release.json").unwrap();
        assert!(why.contains("The folder P cannot be read"), "{why}");
        assert!(why.contains("stay in force"), "{why}");
    }
    let without = catalog(walked_without(&root, &["P/1.0.2"]), now);
    assert!(is_ruled(&without), "{without:#?}");
    let back = catalog(walk(&root, None).unwrap(), now);
    assert!(is_ruled(&back) && back.quarantined.is_empty(), "{back:#?}");
    // The rules of a removed folder are removed with it.
    fs::remove_dir_all(dir.path().join("P")).unwrap();
    let gone = catalog(walk(&root, None).unwrap(), now);
    assert!(!is_ruled(&gone) && gone.quarantined.is_empty(), "{gone:#?}");
}

#[test]
fn releases_that_an_unread_folder_may_have_rules_for_are_held_back() {
    let dir = Scratch::new();
    for (path, seed) in [
        ("P_1.0.1/x.bin", 1),
        ("Q_1.0.1/x.bin", 2),
        ("Q_1.0.2/x.bin", 3),
    ] {
        dir.write(path, &image(seed));
    }
    for folder in ["P", "Q/1.0.2", "Q/1.0.1/from-2008", "notes, old", "R/1/2/3"] {
        fs::create_dir_all(dir.path().join(folder)).unwrap();
    }
    let root = Folder::open(dir.path()).unwrap();
    let mut files = FileTable::new(Patience::None);
    let (now, mut known) = (Instant::now(), KnownFiles::open(None));
    let unread = ["P", "Q/1.0.2", "Q/1.0.1/from-2008", "notes, old", "R/1/2/3"];
    let walk = walked_without(&root, &unread);
    files.add_walk(&root, None, walk, None, now, &mut known);
    for job in files.jobs(now) {
        let outcome = reading::read(&root, &job, &|| true);
        files.add_outcome(&job, outcome, now, &mut known);
    }
    let catalog = Catalog::build(files.scan_result());
    let held_back: Vec<(&str, &str)> = ["P", "Q"]
        .iter()
        .flat_map(|name| {
            catalog
                .project(name)
                .unwrap()
                .releases
                .iter()
                .map(move |r| (name, r))
        })
        .filter(|(_, release)| release.held_back.is_some())
        .map(|(name, release)| (*name, &*release.version_text))
        .collect();
    assert_eq!(held_back, [("P", "1.0.1"), ("Q", "1.0.2")]);
    // One remark for each folder, and one for each place where rules may be.
    assert_eq!(catalog.quarantined.len(), 7, "{catalog:#?}");
}

#[test]
fn a_folder_that_may_not_be_entered_exists_and_is_unread() {
    use std::os::unix::fs::PermissionsExt;

    if rustix::process::geteuid().is_root() {
        return; // Root can read everything.
    }
    let dir = Scratch::new();
    dir.write("P/1.0.1/release.json", b"{}");
    dir.write("Q/release.json", b"{}");
    // Without any access, and with access only to the names.
    for mode in [0o0, 0o400] {
        let set = |mode| {
            for folder in ["P/1.0.1", "Q"] {
                let mode = fs::Permissions::from_mode(mode);
                fs::set_permissions(dir.path().join(folder), mode).unwrap();
            }
        };
        set(mode);
        let root = Folder::open(dir.path()).unwrap();
        let seen = walk(&root, None).unwrap();
        set(0o755);
        let unread: Vec<&str> = seen.unread.keys().map(String::as_str).collect();
        assert_eq!(unread, ["P/1.0.1", "Q"]);
    }
}

#[test]
fn groups_are_only_read_at_the_top() {
    let dir = Scratch::new();
    dir.write("A/1.0.0/update.bin", &image(1));
    dir.write("A/release.json", br#"{"allow": ["@pilot"]}"#);
    dir.write("@pilot.txt", b"862991443753386\n");
    dir.write("@Field 7.txt", b"862991443753386\n");
    dir.write("A/@pilot.txt", b"862991443753387\n");
    let large = fs::File::create(dir.path().join("@large.txt")).unwrap();
    large.set_len((16 << 20) + 1).unwrap();
    symlink(dir.path().join("@pilot.txt"), dir.path().join("@link.txt")).unwrap();
    let catalog = catalog(dir.path(), &mut KnownFiles::open(None)).unwrap();
    let names: Vec<&str> = catalog.groups.iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["pilot"]);
    let quarantined: Vec<&str> = catalog.quarantined.iter().map(|r| &*r.path).collect();
    assert_eq!(quarantined, ["@Field 7.txt", "@large.txt", "@link.txt"]);
    assert!(
        reason(&catalog, "@large.txt")
            .unwrap()
            .contains("larger than 16 MiB")
    );
    assert!(
        reason(&catalog, "@link.txt")
            .unwrap()
            .contains("symbolic link")
    );
    let [ignored] = &catalog.ignored[..] else {
        panic!("{:?}", catalog.ignored);
    };
    assert!(ignored.path == "A/@pilot.txt" && ignored.text.contains("only read at the top"));
    assert!(catalog.waiting.is_empty() && catalog.warnings.is_empty());
}
