//! Tests of the rules of release.json, one by one.

use super::*;

const PATH: &str = "P/2.0.0/u.bin";

fn with(json: &str) -> Catalog {
    generic(&[PATH], &[("P/2.0.0/release.json", json)])
}

fn old() -> Check<'static> {
    check("P_Luat_V0035_8955", "1.0.0")
}

#[test]
fn each_rule_refuses_with_its_own_verdict() {
    use Refusal::*;
    for (json, refusal) in [
        (r#"{"paused": true}"#, NotNow),
        (r#"{"paused": "waiting for Li"}"#, NotNow),
        (r#"{"not_before": "2026-12-01T02:00:00+08:00"}"#, NotNow),
        (r#"{"window": "01:00-05:00Z"}"#, NotNow),
        (r#"{"percent": 0}"#, NotNow),
        (r#"{"allow": ["862991443753387"]}"#, NotThisDevice),
        (r#"{"allow": []}"#, NotThisDevice),
        (
            r#"{"allow": ["862991440000000-862991443753385"]}"#,
            NotThisDevice,
        ),
        (r#"{"deny": ["862991443753386"]}"#, NotThisDevice),
        (r#"{"from": "1.0.1"}"#, NotThisDevice),
        (r#"{"from": "1.0.1-1.9.9"}"#, NotThisDevice),
        (r#"{"from": ["1.0"]}"#, NotThisDevice),
        (r#"{"firmware_name": ["P_Luat_V0036_8955"]}"#, NotThisDevice),
        (r#"{"project_key": "secret"}"#, WrongKey),
        (r#"{"base_core": 36}"#, NoPackage),
    ] {
        assert_eq!(answer(ask(&with(json), &old())), Err(refusal), "{json}");
    }
}

#[test]
fn each_rule_lets_through_the_devices_that_it_names() {
    for json in [
        r#"{"paused": false}"#,
        r#"{"not_before": "2026-11-23T12:00:00Z"}"#,
        r#"{"window": "11:00-13:00Z"}"#,
        r#"{"window": "19:30-20:30+08:00"}"#,
        r#"{"percent": 100}"#,
        r#"{"percent": 0, "allow": ["862991443753386"]}"#,
        r#"{"allow": ["862991440000000-862991449999999"]}"#,
        r#"{"deny": ["862991443753387"]}"#,
        r#"{"from": "v1.0"}"#,
        r#"{"from": "0.9.0-1.0.0"}"#,
        r#"{"from": ["1.0.0"]}"#,
        r#"{"firmware_name": ["P_Luat_V0035_8955"]}"#,
        r#"{"base_core": 35}"#,
    ] {
        assert_eq!(answer(ask(&with(json), &old())), Ok(PATH), "{json}");
    }
    let keyed = Check {
        project_key: Some("secret".into()),
        ..old()
    };
    assert_offer(&with(r#"{"project_key": "secret"}"#), &keyed, PATH);
}

#[test]
fn a_plain_from_is_compared_with_the_script_of_a_core_form() {
    let name = "P_LuatOS-SoC_EC718P";
    for (json, version, expected) in [
        (r#"{"from": "1.7.2"}"#, "2012.1.2", Ok(PATH)),
        (
            r#"{"from": "1.7.2"}"#,
            "2012.1.3",
            Err(Refusal::NotThisDevice),
        ),
        (r#"{"from": "1.0.0-1.0.9"}"#, "2012.1.2", Ok(PATH)),
        (
            r#"{"from": "1.0.3-1.0.9"}"#,
            "2012.1.2",
            Err(Refusal::NotThisDevice),
        ),
        (r#"{"from": "2012.1.2"}"#, "2012.001.002", Ok(PATH)),
        (
            r#"{"from": "2012.1.2"}"#,
            "2011.1.2",
            Err(Refusal::NotThisDevice),
        ),
        // The middle number counts if both versions contain it.
        (r#"{"from": "2012.1.2"}"#, "2012.1.7.2", Ok(PATH)),
        (r#"{"from": "2012.1.1-2012.1.3"}"#, "2012.1.7.2", Ok(PATH)),
        (
            r#"{"from": "2012.1.0.2"}"#,
            "2012.1.7.2",
            Err(Refusal::NotThisDevice),
        ),
    ] {
        let catalog = with(json);
        let verdict = answer(ask(&catalog, &check(name, version)));
        assert_eq!(verdict, expected, "{json} {version}");
    }
}

#[test]
fn from_compares_versions_by_number_and_texts_exactly() {
    for (json, versions, others) in [
        (
            r#"{"from": "0.9"}"#,
            &["v0.09.0", "0.9"][..],
            &["0.9.1", "x"][..],
        ),
        (
            r#"{"from": "0.9-1.0"}"#,
            &["0.9", "0.10", "1.0.0"],
            &["1.0.1", "0.8.9"],
        ),
        (
            r#"{"from": ["factory", "0.9"]}"#,
            &["factory", "0.9"],
            &["0.9.0", "Factory"],
        ),
    ] {
        let catalog = with(json);
        let is_offered = |version: &&str| answer(ask(&catalog, &check("P", version))) == Ok(PATH);
        assert!(versions.iter().all(is_offered), "{json}");
        assert!(!others.iter().any(is_offered), "{json}");
    }
}

#[test]
fn a_range_in_allow_does_not_lift_percent() {
    let json = r#"{"percent": 0, "allow": ["862991440000000-862991449999999"]}"#;
    assert_no(&with(json), &old(), Refusal::NotNow);
}

#[test]
fn a_device_without_an_id_passes_only_rules_that_every_device_passes() {
    let nobody = Check {
        device: None,
        device_text: "".into(),
        ..old()
    };
    assert_offer(&with("{}"), &nobody, PATH);
    assert_offer(&with(r#"{"percent": 100}"#), &nobody, PATH);
    assert_no(&with(r#"{"percent": 99}"#), &nobody, Refusal::NotNow);
    let range = r#"{"allow": ["862991440000000-862991449999999"]}"#;
    assert_no(&with(range), &nobody, Refusal::NotThisDevice);
}

#[test]
fn the_releases_own_rules_win_and_deny_of_both_counts() {
    let rules = |own| {
        generic(
            &[PATH],
            &[
                (
                    "P/release.json",
                    r#"{"paused": true, "deny": ["862991443753386"]}"#,
                ),
                ("P/2.0.0/release.json", own),
            ],
        )
    };
    let other = Check {
        device: DeviceId::parse("862991443753387"),
        ..old()
    };
    assert_no(&rules("{}"), &other, Refusal::NotNow);
    let own = rules(r#"{"paused": false, "deny": ["862991443753388"]}"#);
    assert_offer(&own, &other, PATH);
    assert_no(&own, &old(), Refusal::NotThisDevice);
}

#[test]
fn rules_that_cannot_be_read_hold_their_release_back() {
    let files = ["P/1.5.0/u.bin", PATH];
    let mut found = ScanResult {
        rules: vec![ScannedRules {
            path: "P/2.0.0/release.json".to_owned(),
            rules: None,
            error: Some("line 1: not JSON".to_owned()),
        }],
        ..ScanResult::default()
    };
    for (position, path) in files.iter().enumerate() {
        let mut id = [0; 32];
        id[0] = position as u8;
        found.files.push(ScannedFile {
            path: (*path).to_owned(),
            stamp: FileStamp {
                dev: 1,
                ino: position as u64,
                size: 1,
                mtime: 0,
                ctime: 0,
            },
            inspected: Inspected {
                content: ContentId(id),
                md5: [0; 16],
                size: 1,
                kind: PackageKind::Generic,
            },
        });
    }
    let catalog = Catalog::build(found);
    assert_offer(&catalog, &old(), "P/1.5.0/u.bin");
    assert_no(&catalog, &check("P", "1.5.0"), Refusal::NotNow);
    assert!(catalog.quarantined[0].text.contains("not JSON"));
}

/// The catalogue contains nothing of this project, but the refusal is not "no such project".
#[test]
fn a_project_without_a_whole_file_has_no_package() {
    let found = ScanResult {
        quarantined: vec![Remark {
            path: "P/2.0.0/u.bin".to_owned(),
            text: "it is not what its .sha256 says".to_owned(),
        }],
        ..ScanResult::default()
    };
    let catalog = Catalog::build(found);
    assert_no(&catalog, &check("P", "1.0.0"), Refusal::NoPackage);
    assert_no(&catalog, &check("Q", "1.0.0"), Refusal::UnknownProject);
}

#[test]
fn only_some_refusals_hide_an_older_release() {
    let older = "P/1.5.0/u.bin";
    for (json, expected) in [
        (r#"{"paused": true}"#, Ok(older)),
        (r#"{"not_before": "2027-01-01T00:00:00Z"}"#, Ok(older)),
        (r#"{"allow": []}"#, Ok(older)),
        (r#"{"from": "1.5.0"}"#, Ok(older)),
        (r#"{"base_core": 36}"#, Ok(older)),
        (r#"{"percent": 0}"#, Err(Refusal::NotNow)),
        (r#"{"window": "01:00-05:00Z"}"#, Err(Refusal::NotNow)),
    ] {
        let catalog = generic(&[older, PATH], &[("P/2.0.0/release.json", json)]);
        assert_eq!(answer(ask(&catalog, &old())), expected, "{json}");
    }
}
