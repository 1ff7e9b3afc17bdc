//! Tests of groups of devices. A group that cannot be used fails closed.

use super::*;
use crate::firmware::audience::DeviceId;

const IMEI: &str = "862991443753386";

fn id(text: &str) -> DeviceId {
    DeviceId::parse(text).unwrap()
}

fn group(name: &str, text: &str) -> ScannedGroup {
    ScannedGroup {
        path: format!("@{name}.txt"),
        group: Group::parse(text.as_bytes()).map(Arc::new),
    }
}

fn catalog(rules: Vec<ScannedRules>, groups: Vec<ScannedGroup>) -> Catalog {
    Catalog::build(ScanResult {
        files: vec![generic("P/1.0/u.bin", 1), generic("P/2.0/u.bin", 2)],
        rules,
        groups,
        ..ScanResult::default()
    })
}

/// Releases 2.0 and 1.0.
fn releases(catalog: &Catalog) -> (&Release, &Release) {
    match &catalog.project("P").unwrap().releases[..] {
        [newest, oldest] => (newest, oldest),
        other => panic!("{other:?}"),
    }
}

#[test]
fn rules_have_the_devices_of_their_groups() {
    let catalog = catalog(
        vec![
            rules("P/release.json", r#"{"deny": ["@field"]}"#),
            rules(
                "P/2.0/release.json",
                r#"{"allow": ["@pilot", "sensor-7"], "deny": ["sensor-8"]}"#,
            ),
        ],
        vec![
            group(
                "pilot",
                "862991443753386 # pump 7\n862991440000000-862991440000009\n",
            ),
            group("field", "862991440000001\nsensor-8 # roof\n"),
        ],
    );
    let (newest, oldest) = releases(&catalog);
    let allow = newest.rules.allow.as_ref().unwrap();
    for device in [IMEI, "862991440000001", "sensor-7"] {
        assert!(allow.contains(id(device)), "{device}");
    }
    assert!(allow.lists_singly(id("sensor-7")) && !allow.lists_singly(id(IMEI)));
    for (release, denied) in [(newest, true), (oldest, false)] {
        let deny = release.rules.deny.as_ref().unwrap();
        assert!(deny.contains(id("862991440000001")) && release.held_back.is_none());
        assert_eq!(deny.lists_singly(id("sensor-8")), denied);
    }
    let words: Vec<_> = newest
        .rules
        .words()
        .into_iter()
        .map(|(_, words)| words)
        .collect();
    assert_eq!(words, ["allow 3 (@pilot 2)", "deny 3 (@field 2)"]);
    assert_eq!(catalog.groups.device_name(id(IMEI)), Some("pump 7"));
    assert_eq!(catalog.groups.device_name(id("sensor-8")), Some("roof"));
    assert_eq!(catalog.groups.device_name(id("sensor-7")), None);
    assert!(catalog.quarantined.is_empty() && catalog.warnings.is_empty());
}

#[test]
fn an_unusable_group_matches_no_device_and_holds_back_releases_that_deny_it() {
    let broken = || vec![group("lost", "nonsense, 1\n"), group("empty", "# later\n")];
    for (name, why) in [
        ("gone", "there is no file @gone.txt at the top"),
        ("lost", "@lost.txt cannot be used"),
        ("empty", "@empty.txt cannot be used"),
    ] {
        let list = format!(r#"["@{name}", "{IMEI}"]"#);
        let allow = rules("P/2.0/release.json", &format!(r#"{{"allow": {list}}}"#));
        let allowing = catalog(vec![allow], broken());
        let (newest, _) = releases(&allowing);
        let allow = newest.rules.allow.as_ref().unwrap();
        assert!(allow.contains(id(IMEI)) && !allow.contains(id("sensor-7")));
        assert!(newest.held_back.is_none());
        let [warning] = &allowing.warnings[..] else {
            panic!("{:?}", allowing.warnings);
        };
        assert_eq!(warning.path, "P/2.0/release.json");
        assert!(warning.text.contains(why) && warning.text.contains("no device matches"));

        for (path, held) in [
            ("P/2.0/release.json", [true, false]),
            ("P/release.json", [true; 2]),
        ] {
            let deny = rules(path, &format!(r#"{{"deny": {list}, "percent": 5}}"#));
            let denying = catalog(vec![deny], broken());
            let (newest, oldest) = releases(&denying);
            assert_eq!(
                [newest, oldest].map(|release| release.held_back.is_some()),
                held
            );
            let sentence = newest.held_back.as_ref().unwrap();
            assert!(sentence.contains(why), "{sentence}");
            // The other rules remain known.
            assert_eq!(newest.rules.percent, Some(5.0));
            let remark = denying
                .quarantined
                .iter()
                .find(|remark| remark.path == path);
            assert!(
                remark
                    .unwrap()
                    .text
                    .contains("its releases are not offered")
            );
        }
    }
    let catalog = catalog(vec![], broken());
    let quarantined: Vec<_> = catalog
        .quarantined
        .iter()
        .map(|remark| &*remark.path)
        .collect();
    assert_eq!(quarantined, ["@empty.txt", "@lost.txt"]);
    assert!(
        catalog.quarantined[0]
            .text
            .starts_with("it names no device (no device matches")
    );
    assert!(
        catalog.quarantined[1]
            .text
            .starts_with("line 1: `nonsense, 1`")
    );
}

#[test]
fn a_group_that_is_not_read_yet_causes_no_warning() {
    let waiting = || ScannedGroup {
        path: "@pilot.txt".to_owned(),
        group: Err(String::new()),
    };
    let allow = rules("P/release.json", r#"{"allow": ["@pilot"]}"#);
    let allowing = catalog(vec![allow], vec![waiting()]);
    assert_eq!(allowing.waiting, ["@pilot.txt"]);
    assert!(allowing.warnings.is_empty() && allowing.quarantined.is_empty());
    let allow = releases(&allowing).0.rules.allow.clone().unwrap();
    assert!(!allow.contains(id(IMEI)) && !allow.is_empty());
    let deny = rules("P/release.json", r#"{"deny": ["@pilot"]}"#);
    let denying = catalog(vec![deny], vec![waiting()]);
    let sentence = releases(&denying).0.held_back.clone().unwrap();
    assert!(sentence.contains("not read yet"), "{sentence}");
}

#[test]
fn an_entry_of_a_group_that_no_device_can_match_causes_a_warning() {
    let catalog = catalog(
        vec![],
        vec![group("pilot", "8629914437533\n862991443753386\n")],
    );
    let [warning] = &catalog.warnings[..] else {
        panic!("{:?}", catalog.warnings);
    };
    assert_eq!(warning.path, "@pilot.txt");
    assert!(
        warning.text.contains("`8629914437533` has 13 digits"),
        "{}",
        warning.text
    );
}
