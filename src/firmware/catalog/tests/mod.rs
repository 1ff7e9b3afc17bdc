//! Tests of catalogues built from the result of a scan.

use super::sample::{file, rules};
use super::*;

mod groups;

fn build(files: Vec<ScannedFile>, rules: Vec<ScannedRules>) -> Catalog {
    let found = ScanResult {
        files,
        rules,
        ..ScanResult::default()
    };
    Catalog::build(found)
}

fn generic(path: &str, content: u8) -> ScannedFile {
    file(path, content, PackageKind::Generic, 10)
}

#[test]
fn all_layouts_mean_the_same() {
    for path in [
        "P/1.2.3/update.bin",
        "P/1.2.3/P_1.2.3_LuatOS-SoC_EC718P.bin",
        "P_1.2.3/update.bin",
        "P_1.2.3_LuatOS-SoC_EC718P.bin",
        "P/P_1.2.3_LuatOS-SoC_EC718P.bin",
    ] {
        let catalog = build(vec![generic(path, 1)], vec![]);
        let releases = &catalog.project("P").expect(path).releases;
        assert_eq!(
            releases[0].version,
            Version::parse("1.2.3").unwrap(),
            "{path}"
        );
        assert_eq!(&*releases[0].packages[0].path, path);
        let platform = path.contains("LuatOS").then_some("EC718P");
        assert_eq!(releases[0].packages[0].platform.as_deref(), platform);
    }
}

#[test]
fn releases_are_newest_first_and_one_version_is_one_release() {
    let catalog = build(
        vec![
            generic("P/1.9/u.bin", 1),
            generic("P/1.10.0/u.bin", 2),
            generic("P_1.10/P_1.10.0_LuatOS-SoC_EC718P.bin", 3),
            generic("P/v1.2/u.bin", 4),
        ],
        vec![],
    );
    let releases = &catalog.project("P").unwrap().releases;
    let shape: Vec<_> = releases
        .iter()
        .map(|r| (&*r.version_text, r.packages.len()))
        .collect();
    assert_eq!(shape, [("1.10.0", 2), ("1.9", 1), ("v1.2", 1)]);
    assert_eq!(catalog.release_count(), 3);
    // The package for a platform comes first.
    assert_eq!(releases[0].packages[0].platform.as_deref(), Some("EC718P"));
}

#[test]
fn two_files_for_the_same_modules_with_other_bytes_are_both_quarantined() {
    let catalog = build(
        vec![
            generic("P/1.0/a.bin", 1),
            generic("P_1.0/b.bin", 2),
            generic("P/0.9/u.bin", 3),
        ],
        vec![],
    );
    let releases = &catalog.project("P").unwrap().releases;
    assert_eq!(releases.len(), 1);
    let named: Vec<_> = catalog.quarantined.iter().map(|r| &*r.path).collect();
    assert_eq!(named, ["P/1.0/a.bin", "P_1.0/b.bin"]);
    assert!(catalog.quarantined[0].text.contains("P_1.0/b.bin"));
}

#[test]
fn a_second_rules_file_holds_its_release_back() {
    let paused = r#"{"paused": true}"#;
    for (one, other, held) in [
        ("P/1.0/release.json", "P_1.0/release.json", "1.0"),
        ("P/1.0/RELEASE.JSON", "P/1.0/release.json", "1.0"),
        ("P/1.0/release.json", "P/v1.0.0/release.json", "1.0"),
        ("P/Release.json", "P/release.json", "1.0 0.9"),
    ] {
        for (first, second) in [(paused, "{}"), ("{}", paused)] {
            let files = vec![generic("P/1.0/u.bin", 1), generic("P/0.9/u.bin", 2)];
            let catalog = build(files, vec![rules(one, first), rules(other, second)]);
            for release in &catalog.project("P").unwrap().releases {
                let is_held = held.contains(&*release.version_text);
                assert_eq!(release.held_back.is_some(), is_held, "{one} {other}");
            }
            let [first, second] = &catalog.quarantined[..] else {
                panic!("{:?}", catalog.quarantined);
            };
            assert_eq!((&*first.path, &*second.path), (one, other));
            assert!(first.text.contains(other) && second.text.contains(one));
        }
    }
}

#[test]
fn two_files_with_the_same_bytes_are_one_package() {
    let catalog = build(
        vec![generic("P/1.0/a.bin", 1), generic("P_1.0/b.bin", 1)],
        vec![],
    );
    assert_eq!(catalog.project("P").unwrap().releases[0].packages.len(), 1);
    assert!(catalog.quarantined.is_empty());
}

#[test]
fn rules_in_a_wrong_place_are_quarantined() {
    let catalog = build(vec![], vec![rules("release.json", "{}")]);
    assert_eq!(catalog.quarantined[0].path, "release.json");
}

#[test]
fn a_file_beside_rules_in_a_wrong_place_is_not_served_without_them() {
    let catalog = build(
        vec![
            generic("P/1.0/from-2008/u.bin", 1),
            generic("P/1.0/u.bin", 2),
        ],
        vec![rules("P/1.0/from-2008/release.json", r#"{"paused": true}"#)],
    );
    let packages = &catalog.project("P").unwrap().releases[0].packages;
    assert_eq!(packages.len(), 1);
    assert_eq!(&*packages[0].path, "P/1.0/u.bin");
    assert_eq!(catalog.quarantined.len(), 2);
}

#[test]
fn last_good_rules_stay_in_force_and_the_error_is_shown() {
    let bad_edit = ScannedRules {
        error: Some("line 3: not JSON".to_owned()),
        ..rules("P/release.json", r#"{"percent": 5}"#)
    };
    let catalog = build(vec![generic("P/1.0/u.bin", 1)], vec![bad_edit]);
    let release = &catalog.project("P").unwrap().releases[0];
    assert_eq!(release.rules.percent, Some(5.0));
    assert_eq!(release.held_back, None);
    assert!(catalog.quarantined[0].text.contains("last valid rules"));
}

#[test]
fn catalogues_are_equal_exactly_if_nothing_changed() {
    let found = |second: u8| ScanResult {
        files: vec![generic("P/1.0/u.bin", 1), generic("Q/1.0/u.bin", second)],
        ..ScanResult::default()
    };
    let first = Catalog::build(found(2));
    let next = Catalog::build(found(3));
    assert!(next != first);
    assert!(next == Catalog::build(found(3)));
}

#[test]
fn contents_are_found_by_their_id_and_by_its_first_bits() {
    let catalog = build(
        vec![
            generic("P/1.0/u.bin", 1),
            generic("Q/1.0/u.bin", 1),
            generic("Q/1.1/u.bin", 2),
        ],
        vec![],
    );
    let id = ContentId([1; 32]);
    let paths: Vec<_> = catalog.sources(id).iter().map(|s| &*s.path).collect();
    assert_eq!(paths, ["P/1.0/u.bin", "Q/1.0/u.bin"]);
    assert_eq!(catalog.with_short(id.short()).collect::<Vec<_>>(), [id]);
    assert_eq!(catalog.with_short(0xfff).count(), 0);
    assert!(catalog.sources(ContentId([9; 32])).is_empty());
}

#[test]
fn only_a_release_with_the_rule_direct_is_direct() {
    let catalog = build(
        vec![generic("P/1.0/u.bin", 1), generic("P/1.1/u.bin", 2)],
        vec![rules("P/1.0/release.json", r#"{"direct": true}"#)],
    );
    assert_eq!(
        catalog.direct_content("P/1.0/u.bin"),
        Some(ContentId([1; 32]))
    );
    assert_eq!(catalog.direct_content("P/1.1/u.bin"), None);
}

#[test]
fn likely_mistakes_cause_warnings() {
    let script = PackageKind::Ec7xx { delta: false };
    let catalog = build(
        vec![
            file("P/1.0.1/u.bin", 1, script, 1000),
            file("P/1.1.1/u.bin", 2, script, 1000),
            file("Q/1.0/u.bin", 3, PackageKind::Generic, 1000),
            file("Q/1.1/u.bin", 3, PackageKind::Generic, 1000),
            file("R_1.0_LuatOS-SoC_EC718P.bin", 4, PackageKind::Generic, 1000),
            file(
                "S_1.0_Luat_V0035_8955.bin",
                5,
                PackageKind::Generic,
                900_000,
            ),
            file("T/1.0/u.bin", 6, PackageKind::Generic, 70_000_000),
        ],
        vec![],
    );
    let said: Vec<_> = catalog.warnings.iter().map(|r| r.text.as_str()).collect();
    for (words, times) in [
        ("only in its middle number", 1),
        ("has the same bytes as release 1.1", 1),
        ("does not begin like a package", 1),
        ("a 2G module has room", 1),
        ("over UDP", 1),
    ] {
        let found = said.iter().filter(|text| text.contains(words)).count();
        assert_eq!(found, times, "{words}: {said:?}");
    }
    assert_eq!(said.len(), 5);
}

#[test]
fn a_file_belongs_to_a_project_by_its_folder_or_its_name() {
    let paths = [
        "AIR/1.0.1/u.bin",
        "AIR9_1.0.1.bin",
        "P.Q/1.0.0/u.bin",
        "P/1/u.bin",
    ];
    let remark = |path: &str| Remark {
        path: path.to_owned(),
        text: "it is torn".to_owned(),
    };
    let catalog = Catalog {
        waiting: paths.map(String::from).into(),
        quarantined: paths.map(remark).into(),
        ..Catalog::default()
    };
    for project in ["AIR", "AIR9", "P", "P.Q"] {
        assert!(catalog.has_waiting(project), "{project}");
        assert!(catalog.has_quarantined(project), "{project}");
    }
    for project in ["", "AI", "AIR9_1.0.1.bin", "Q", "1.0.1", "Z"] {
        assert!(!catalog.has_waiting(project), "{project}");
        assert!(!catalog.has_quarantined(project), "{project}");
    }
}
