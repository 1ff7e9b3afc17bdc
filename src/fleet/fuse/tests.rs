use std::time::Instant;

use super::*;
use crate::firmware::ContentId;
use crate::firmware::catalog::{ScanResult, ScannedFile, ScannedRules};
use crate::firmware::package::{Inspected, PackageKind};
use crate::fleet::targets::OutcomeCounts;
use crate::os::fs::Stamp as FileStamp;

const NOW: Stamp = Stamp(1 << 31);

/// A folder with release 2.0.0 of project P and these rules.
fn folder(rules: &str) -> Catalog {
    let file = ScannedFile {
        path: "P/2.0.0/u.bin".to_owned(),
        stamp: FileStamp {
            dev: 1,
            ino: 1,
            size: 1000,
            mtime: 0,
            ctime: 0,
        },
        inspected: Inspected {
            content: ContentId([1; 32]),
            md5: [0; 16],
            size: 1000,
            kind: PackageKind::Generic,
        },
    };
    let rules = ScannedRules {
        path: "P/2.0.0/release.json".to_owned(),
        rules: Some(Arc::new(Rules::parse(rules.as_bytes()).unwrap())),
        error: None,
    };
    let found = ScanResult {
        files: vec![file],
        rules: vec![rules],
        ..ScanResult::default()
    };
    Catalog::build(found, None, Instant::now())
}

fn heard(confirmed: u32, reverted: u32) -> Group {
    Group {
        outcomes: OutcomeCounts {
            confirmed,
            reverted,
            silent: 0,
        },
        admitted: confirmed + reverted,
        spread: true,
        reverted_spread: true,
    }
}

/// Judges a release as the fleet does.
fn judge(fuses: &mut Fuses, version: &str, group: Group, now: Stamp) -> Judged {
    let reverted = group.outcomes.reverted;
    let Some(rules) = fuses.may_trip("P", version, reverted, now) else {
        return Judged::Fine;
    };
    let census = Census {
        established: 0,
        groups: vec![group],
    };
    fuses.judge(("P", version), &rules, &census, now)
}

fn fuses(rules: &str) -> Fuses {
    let mut fuses = Fuses::default();
    assert!(fuses.catalog(&folder(rules), NOW).is_empty());
    fuses
}

fn trips(rules: &str, heard: Group) -> bool {
    let mut fuses = fuses(rules);
    matches!(judge(&mut fuses, "2.0.0", heard, NOW), Judged::Tripped(_))
}

/// A release of which three of nine devices came back.
fn tripped() -> (Fuses, Fused) {
    let mut fuses = fuses("{}");
    let Judged::Tripped(fused) = judge(&mut fuses, "2.0.0", heard(6, 3), NOW) else {
        panic!("it holds");
    };
    (fuses, fused)
}

fn device(number: u64) -> DeviceId {
    DeviceId::Imei(number)
}

#[test]
fn it_takes_so_many_devices_and_so_large_a_share() {
    assert!(trips("{}", heard(0, 3)));
    assert!(trips("{}", heard(12, 3)));
    assert!(!trips("{}", heard(13, 3)));
    assert!(!trips("{}", heard(0, 2)));
    assert!(trips("{}", heard(400, 100)));
    let rules = r#"{ "fuse": { "devices": 10, "percent": 50 } }"#;
    assert!(!trips(rules, heard(0, 9)));
    assert!(trips(rules, heard(10, 10)));
    assert!(!trips(rules, heard(11, 10)));
    let zero = r#"{ "fuse": { "devices": 1, "percent": 0 } }"#;
    assert!(!trips(zero, heard(10, 0)));
    assert!(trips(zero, heard(1000, 1)));
    // Nobody gets it as it is.
    assert!(!trips(r#"{ "paused": true }"#, heard(0, 9)));
    let mut others = fuses("{}");
    let other = judge(&mut others, "2.0.1", heard(0, 9), NOW);
    assert_eq!(other, Judged::Fine);
}

#[test]
fn it_waits_until_sixteen_or_all_that_may_come_were_heard() {
    let waiting = |admitted, heard: Group| Group { admitted, ..heard };
    assert!(!trips("{}", waiting(23, heard(0, 3))));
    assert!(!trips("{}", waiting(300, heard(0, 15))));
    assert!(trips("{}", waiting(300, heard(0, 16))));
    assert!(!trips("{}", waiting(4, heard(0, 3))));
    let mut silent = waiting(4, heard(0, 3));
    silent.outcomes.silent = 1;
    assert!(trips("{}", silent));
    // Silence counts as heard, and for nothing else.
    let mut silent = waiting(16, heard(0, 3));
    silent.outcomes.silent = 13;
    assert!(!trips("{}", silent));
}

#[test]
fn one_network_alone_is_only_suspect_and_that_is_said_once() {
    let mut fuses = fuses("{}");
    let alone = Group {
        reverted_spread: false,
        ..heard(0, 9)
    };
    let Judged::Suspect(sentence) = judge(&mut fuses, "2.0.0", alone.clone(), NOW) else {
        panic!("nothing is said");
    };
    assert!(sentence.contains("P 2.0.0: 9 of 9"), "{sentence}");
    assert_eq!(
        judge(&mut fuses, "2.0.0", alone.clone(), NOW.plus(1)),
        Judged::Fine
    );
    // Where all devices sit in one network, that is no sign of one person's doing.
    let everyone = Group {
        spread: false,
        ..alone
    };
    let trips = judge(&mut fuses, "2.0.0", everyone, NOW.plus(2));
    assert!(matches!(trips, Judged::Tripped(_)));
    let mut fuses = self::fuses("{}");
    let spread = judge(&mut fuses, "2.0.0", heard(0, 9), NOW);
    assert!(matches!(spread, Judged::Tripped(_)));
}

#[test]
fn it_holds_from_the_moment_that_it_trips() {
    let (mut fuses, fused) = tripped();
    assert_eq!(
        &*fused.sentence,
        "fuse: 3 of 9 devices that had 2.0.0 came back with their old version; set this to false to go on"
    );
    assert_eq!(fuses.kept(), std::slice::from_ref(&fused));
    // Written, and still kept here until the scan has seen it.
    fuses.written(&fused, true, NOW);
    assert_eq!(fuses.kept(), std::slice::from_ref(&fused));
    let paused = format!("{{ \"paused\": \"{}\" }}", fused.sentence);
    assert!(fuses.catalog(&folder(&paused), NOW.plus(2)).is_empty());
    assert!(fuses.kept().is_empty());
    assert_eq!(judge(&mut fuses, "2.0.0", heard(0, 9), NOW), Judged::Fine);
    // A person says that it is not paused.
    let edited = folder("{ \"paused\": false }");
    assert_eq!(fuses.catalog(&edited, NOW.plus(9)), [fused]);
    let again = judge(&mut fuses, "2.0.0", heard(0, 3), NOW.plus(9));
    assert!(matches!(again, Judged::Tripped(_)));
}

// Case 59.
#[test]
fn a_mirror_that_puts_the_old_release_json_back_ends_no_pause() {
    for before in ["{}", "{ \"paused\": false }", "{ \"percent\": 100 }"] {
        let mut fuses = fuses(before);
        let Judged::Tripped(fused) = judge(&mut fuses, "2.0.0", heard(6, 3), NOW) else {
            panic!("{before}");
        };
        let of_before = fuses.before("P", "2.0.0");
        assert!(of_before.is_some());
        fuses.written(&fused, true, NOW);
        let paused = format!("{{ \"paused\": \"{}\" }}", fused.sentence);
        // Before the pause was seen, after it, without any file, and with another one.
        let others = [
            before,
            &paused,
            before,
            "{}",
            "{ \"percent\": 5 }",
            "{ \"paused\": true }",
        ];
        for (seconds, rules) in (0..).zip(others) {
            assert!(fuses.catalog(&folder(rules), NOW.plus(seconds)).is_empty());
            let is_kept = fuses.kept() == std::slice::from_ref(&fused);
            assert_eq!(is_kept, rules != paused, "{before}, then {rules}");
        }
        fuses.catalog(&Catalog::default(), NOW.plus(20));
        assert!(fuses.catalog(&folder(before), NOW.plus(21)).is_empty());
        assert_eq!(fuses.due(), None);
        // So it is after a restart.
        let mut loaded = Fuses::default();
        loaded.load(fused.clone(), of_before, NOW);
        assert!(loaded.catalog(&folder(before), NOW).is_empty());
        assert_eq!(loaded.kept(), std::slice::from_ref(&fused));
        let edited = folder("{\"paused\": false}");
        assert_eq!(loaded.catalog(&edited, NOW), std::slice::from_ref(&fused));
        assert!(loaded.kept().is_empty());
        // A person needs no file.
        assert!(fuses.resume("P", "2.0.0") && fuses.kept().is_empty());
        assert!(!fuses.resume("P", "2.0.0"));
    }
}

#[test]
fn a_read_only_folder_is_tried_again_and_what_was_taken_back_stays_so() {
    let (mut fuses, fused) = tripped();
    fuses.written(&fused, false, NOW);
    assert_eq!(fuses.kept(), std::slice::from_ref(&fused));
    assert_eq!(fuses.due(), Some(NOW.plus(AGAIN)));
    assert_eq!(fuses.tick(NOW.plus(AGAIN - 1)), []);
    assert_eq!(fuses.tick(NOW.plus(AGAIN)), std::slice::from_ref(&fused));
    assert_eq!(fuses.due(), Some(NOW.plus(2 * AGAIN)));
    assert_eq!(fuses.tick(NOW.plus(AGAIN + 1)), []);
    let mut loaded = Fuses::default();
    loaded.load(fused.clone(), None, NOW);
    loaded.unload(&fused.project, &fused.version);
    assert!(loaded.kept().is_empty());
    assert_eq!(loaded.tick(NOW.plus(100_000)), []);
}

#[test]
fn one_device_every_ten_minutes_may_try_it() {
    let (mut fuses, fused) = tripped();
    fuses.written(&fused, true, NOW);
    let paused = format!("{{ \"paused\": \"{}\" }}", fused.sentence);
    fuses.catalog(&folder(&paused), NOW.plus(2));
    assert!(!fuses.may_try("P", device(1), NOW.plus(599)));
    assert!(fuses.may_try("P", device(1), NOW.plus(600)));
    assert!(!fuses.may_try("Q", device(1), NOW.plus(600)));
    fuses.offered("P", "2.0.0", device(1), NOW.plus(700));
    assert!(!fuses.may_try("P", device(2), NOW.plus(1299)));
    // The same one begins again, which gives it no more time.
    assert!(fuses.may_try("P", device(1), NOW.plus(1000)));
    fuses.offered("P", "2.0.0", device(1), NOW.plus(1000));
    assert!(fuses.may_try("P", device(2), NOW.plus(1300)));
    // Another release is no trial.
    fuses.offered("P", "1.0.0", device(3), NOW.plus(1300));
    assert!(fuses.may_try("P", device(2), NOW.plus(1300)));
}

#[test]
fn a_pause_of_an_earlier_run_is_one() {
    let paused = folder("{ \"paused\": \"fuse: 3 of 9 devices\" }");
    let mut fuses = Fuses::default();
    fuses.catalog(&paused, NOW);
    assert!(fuses.kept().is_empty());
    assert!(fuses.may_try("P", device(1), NOW.plus(600)));
    assert_eq!(fuses.catalog(&folder("{}"), NOW.plus(700)).len(), 1);
    assert_eq!(fuses.catalog(&folder("{}"), NOW.plus(701)).len(), 0);
}

#[test]
fn the_pause_of_a_release_that_is_gone_is_kept() {
    let (mut fuses, fused) = tripped();
    let empty = Catalog::default();
    fuses.catalog(&empty, NOW);
    assert_eq!(
        fuses.kept(),
        std::slice::from_ref(&fused),
        "only we know of it"
    );
    fuses.written(&fused, true, NOW);
    fuses.catalog(&empty, NOW);
    assert_eq!(fuses.kept(), [fused]);
    assert!(fuses.resume("P", "2.0.0"));
    fuses.catalog(&empty, NOW);
    assert!(fuses.releases.is_empty());
}
