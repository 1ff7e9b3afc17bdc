use super::*;
use crate::firmware::ContentId;
use crate::firmware::catalog::{Catalog, sample};
use crate::fleet::progress::{Outcome, Progress};
use crate::fleet::short_version::ShortVersion;

const NOW: Stamp = Stamp(1 << 31);

/// A folder with release 2.0.0 of project P and these rules.
fn folder(rules: &str) -> Catalog {
    sample::release(1, rules)
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
fn judge(releases: &mut Releases, version: &str, group: Group, now: Stamp) -> FuseVerdict {
    let reverted = group.outcomes.reverted;
    let release = releases.release_mut("P", version);
    if release.is_none_or(|release| release.fuse.may_trip(reverted, now).is_none()) {
        return FuseVerdict::Fine;
    }
    let census = Census {
        established: 0,
        groups: vec![group],
    };
    releases.judge("P", version, &census, now)
}

fn releases(rules: &str) -> Releases {
    let mut releases = Releases::default();
    assert!(resumed(&mut releases, &folder(rules), NOW).is_empty());
    releases
}

fn trips(rules: &str, heard: Group) -> bool {
    let mut releases = releases(rules);
    matches!(
        judge(&mut releases, "2.0.0", heard, NOW),
        FuseVerdict::Tripped(_)
    )
}

/// A release from which three of nine devices came back.
fn tripped() -> (Releases, Fused) {
    let mut releases = releases("{}");
    let FuseVerdict::Tripped(fused) = judge(&mut releases, "2.0.0", heard(6, 3), NOW) else {
        panic!("it holds");
    };
    (releases, fused)
}

/// Takes over a folder, and returns the releases that a person has resumed.
fn resumed(releases: &mut Releases, catalog: &Catalog, now: Stamp) -> Vec<String> {
    let resumed = releases.catalog(catalog, now).resumed.into_iter();
    resumed
        .map(|entry| format!("{} {}", entry.project, entry.version))
        .collect()
}

fn device(number: u64) -> DeviceId {
    DeviceId::Imei(number)
}

#[test]
fn a_release_is_suspect_by_the_reverts_of_all_of_its_files() {
    let mut releases = releases(r#"{ "fuse": { "devices": 2, "percent": 0 } }"#);
    let project = releases.project_id("P").unwrap();
    let outcomes = [Outcome::Reverted, Outcome::Reverted, Outcome::Confirmed];
    for (content, outcome) in (1..).zip(outcomes) {
        let now = NOW.plus(content.into());
        assert_eq!(releases.suspects(now).len(), usize::from(content > 2));
        let id = releases
            .intern(project, "2.0.0", ContentId([content; 32]), 1000, now)
            .unwrap();
        let progress = Progress {
            outcome: Some(outcome),
            ..Progress::offered(id, ShortVersion::of("1.0.0"), now)
        };
        releases.count_progress(None, Some(progress));
    }
    let suspects = releases.suspects(NOW.plus(9));
    let names: Vec<_> = suspects
        .iter()
        .map(|s| (&*s.project, &*s.version))
        .collect();
    assert_eq!(names, [("P", "2.0.0")]);
    assert!(releases.suspects(NOW.plus(9)).is_empty(), "once a second");
}

#[test]
fn the_fuse_needs_a_number_and_a_share_of_devices() {
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
    // A release that is paused already is not judged.
    assert!(!trips(r#"{ "paused": true }"#, heard(0, 9)));
    let mut others = releases("{}");
    let other = judge(&mut others, "2.0.1", heard(0, 9), NOW);
    assert_eq!(other, FuseVerdict::Fine);
}

#[test]
fn the_fuse_waits_until_sixteen_or_all_devices_were_heard() {
    let waiting = |admitted, heard: Group| Group { admitted, ..heard };
    assert!(!trips("{}", waiting(23, heard(0, 3))));
    assert!(!trips("{}", waiting(300, heard(0, 15))));
    assert!(trips("{}", waiting(300, heard(0, 16))));
    assert!(!trips("{}", waiting(4, heard(0, 3))));
    let mut silent = waiting(4, heard(0, 3));
    silent.outcomes.silent = 1;
    assert!(trips("{}", silent));
    // Silent devices count as heard, but not as reverted.
    let mut silent = waiting(16, heard(0, 3));
    silent.outcomes.silent = 13;
    assert!(!trips("{}", silent));
}

#[test]
fn reverts_from_one_network_are_only_reported_and_only_once() {
    let mut releases = releases("{}");
    let alone = Group {
        reverted_spread: false,
        ..heard(0, 9)
    };
    let FuseVerdict::Suspect(sentence) = judge(&mut releases, "2.0.0", alone.clone(), NOW) else {
        panic!("nothing is said");
    };
    assert!(sentence.contains("P 2.0.0: 9 of 9"), "{sentence}");
    assert_eq!(
        judge(&mut releases, "2.0.0", alone.clone(), NOW.plus(1)),
        FuseVerdict::Fine
    );
    // If all devices are in one network, a single network does not show that one person caused the reverts.
    let everyone = Group {
        spread: false,
        ..alone
    };
    let trips = judge(&mut releases, "2.0.0", everyone, NOW.plus(2));
    assert!(matches!(trips, FuseVerdict::Tripped(_)));
    let mut releases = self::releases("{}");
    let spread = judge(&mut releases, "2.0.0", heard(0, 9), NOW);
    assert!(matches!(spread, FuseVerdict::Tripped(_)));
}

#[test]
fn a_pause_applies_from_the_moment_that_the_fuse_trips() {
    let (mut releases, fused) = tripped();
    assert_eq!(
        &*fused.sentence,
        "fuse: 3 of 9 devices that had 2.0.0 came back with their old version; set this to false to resume"
    );
    assert_eq!(releases.unstated_pauses(), std::slice::from_ref(&fused));
    // The pause is written, and still kept here until the scan has seen it.
    releases.pause_written(&fused, true, NOW);
    assert_eq!(releases.unstated_pauses(), std::slice::from_ref(&fused));
    let paused = format!("{{ \"paused\": \"{}\" }}", fused.sentence);
    assert!(resumed(&mut releases, &folder(&paused), NOW.plus(2)).is_empty());
    assert!(releases.unstated_pauses().is_empty());
    assert_eq!(
        judge(&mut releases, "2.0.0", heard(0, 9), NOW),
        FuseVerdict::Fine
    );
    // A person sets `paused` to false.
    let edited = folder("{ \"paused\": false }");
    assert_eq!(resumed(&mut releases, &edited, NOW.plus(9)), ["P 2.0.0"]);
    let again = judge(&mut releases, "2.0.0", heard(0, 3), NOW.plus(9));
    assert!(matches!(again, FuseVerdict::Tripped(_)));
}

// Case 59.
#[test]
fn a_mirror_that_puts_the_old_release_json_back_ends_no_pause() {
    for before in ["{}", "{ \"paused\": false }", "{ \"percent\": 100 }"] {
        let mut releases = releases(before);
        let FuseVerdict::Tripped(fused) = judge(&mut releases, "2.0.0", heard(6, 3), NOW) else {
            panic!("{before}");
        };
        let entry = releases.entry("P", "2.0.0").unwrap();
        assert!(entry.fused.is_some() && entry.before.is_some());
        releases.pause_written(&fused, true, NOW);
        let paused = format!("{{ \"paused\": \"{}\" }}", fused.sentence);
        // The old file before the pause was seen, the pause, the old file after that, and files with other content.
        let others = [
            before,
            &paused,
            before,
            "{}",
            "{ \"percent\": 5 }",
            "{ \"paused\": true }",
        ];
        for (seconds, rules) in (0..).zip(others) {
            assert!(resumed(&mut releases, &folder(rules), NOW.plus(seconds)).is_empty());
            let is_kept = releases.unstated_pauses() == std::slice::from_ref(&fused);
            assert_eq!(is_kept, rules != paused, "{before}, then {rules}");
        }
        releases.catalog(&Catalog::default(), NOW.plus(20));
        assert!(resumed(&mut releases, &folder(before), NOW.plus(21)).is_empty());
        assert_eq!(releases.due(), None);
        // The same holds after a restart.
        let mut loaded = Releases::default();
        loaded.load(entry, NOW);
        assert!(resumed(&mut loaded, &folder(before), NOW).is_empty());
        assert_eq!(loaded.unstated_pauses(), std::slice::from_ref(&fused));
        let edited = folder("{\"paused\": false}");
        assert_eq!(resumed(&mut loaded, &edited, NOW), ["P 2.0.0"]);
        assert!(loaded.unstated_pauses().is_empty());
        // A person can resume the release without a file.
        assert!(releases.resume("P", "2.0.0", NOW).is_some());
        assert!(releases.unstated_pauses().is_empty());
        assert!(releases.resume("P", "2.0.0", NOW).is_none());
    }
}

#[test]
fn a_read_only_folder_is_tried_again_and_an_ended_pause_is_not() {
    let (mut releases, fused) = tripped();
    releases.pause_written(&fused, false, NOW);
    assert_eq!(releases.unstated_pauses(), std::slice::from_ref(&fused));
    assert_eq!(releases.due(), Some(NOW.plus(RETRY_INTERVAL)));
    assert_eq!(releases.pauses_to_retry(NOW.plus(RETRY_INTERVAL - 1)), []);
    assert_eq!(
        releases.pauses_to_retry(NOW.plus(RETRY_INTERVAL)),
        std::slice::from_ref(&fused)
    );
    assert_eq!(releases.due(), Some(NOW.plus(2 * RETRY_INTERVAL)));
    assert_eq!(releases.pauses_to_retry(NOW.plus(RETRY_INTERVAL + 1)), []);
    let mut loaded = Releases::default();
    let entry = releases.entry("P", "2.0.0").unwrap();
    loaded.load(entry.clone(), NOW);
    assert_eq!(loaded.unstated_pauses(), std::slice::from_ref(&fused));
    let over = ReleaseEntry {
        fused: None,
        ..entry
    };
    loaded.load(over, NOW);
    assert!(loaded.unstated_pauses().is_empty());
    assert_eq!(loaded.pauses_to_retry(NOW.plus(100_000)), []);
}

#[test]
fn one_device_every_ten_minutes_may_try_a_paused_release() {
    let (mut releases, fused) = tripped();
    releases.pause_written(&fused, true, NOW);
    let paused = format!("{{ \"paused\": \"{}\" }}", fused.sentence);
    releases.catalog(&folder(&paused), NOW.plus(2));
    assert!(!releases.may_try("P", device(1), NOW.plus(599)));
    assert!(releases.may_try("P", device(1), NOW.plus(600)));
    assert!(!releases.may_try("Q", device(1), NOW.plus(600)));
    releases.record_offer("P", "2.0.0", device(1), NOW.plus(700));
    assert!(!releases.may_try("P", device(2), NOW.plus(1299)));
    // The same device begins again, which does not extend its trial.
    assert!(releases.may_try("P", device(1), NOW.plus(1000)));
    releases.record_offer("P", "2.0.0", device(1), NOW.plus(1000));
    assert!(releases.may_try("P", device(2), NOW.plus(1300)));
    // An offer of another release is not a trial.
    releases.record_offer("P", "1.0.0", device(3), NOW.plus(1300));
    assert!(releases.may_try("P", device(2), NOW.plus(1300)));
}

#[test]
fn a_pause_of_an_earlier_run_is_kept() {
    let paused = folder("{ \"paused\": \"fuse: 3 of 9 devices\" }");
    let mut releases = Releases::default();
    releases.catalog(&paused, NOW);
    assert!(releases.unstated_pauses().is_empty());
    assert!(releases.may_try("P", device(1), NOW.plus(600)));
    assert_eq!(
        resumed(&mut releases, &folder("{}"), NOW.plus(700)).len(),
        1
    );
    assert_eq!(
        resumed(&mut releases, &folder("{}"), NOW.plus(701)).len(),
        0
    );
}

#[test]
fn the_pause_of_a_release_that_is_gone_is_kept() {
    let (mut releases, fused) = tripped();
    let empty = Catalog::default();
    releases.catalog(&empty, NOW);
    assert_eq!(
        releases.unstated_pauses(),
        std::slice::from_ref(&fused),
        "only we know of it"
    );
    releases.pause_written(&fused, true, NOW);
    releases.catalog(&empty, NOW);
    assert_eq!(releases.unstated_pauses(), [fused]);
    assert!(releases.resume("P", "2.0.0", NOW).is_some());
    releases.catalog(&empty, NOW);
    assert!(releases.is_empty());
}
