//! The tables of docs/decision.md, row by row, and what must hold for any question.

use std::sync::Arc;
use std::time::Instant;

use proptest::prelude::*;

use super::*;
use crate::firmware::ContentId;
use crate::firmware::audience::DeviceId;
use crate::firmware::catalog::{Catalog, Remark, ScanResult, ScannedFile, ScannedRules};
use crate::firmware::package::{Inspected, PackageKind};
use crate::firmware::rules::Rules;
use crate::firmware::version::{FirstField, Version};
use crate::os::fs::Stamp;

const IMEI: &str = "862991443753386";
const NOON: i64 = 1_795_435_200; // 2026-11-23T12:00:00Z

/// A folder in memory: files with their kinds, and release.json files. A file's bytes are its path,
/// as far as its content id goes; its size is 100,000 bytes.
fn folder(files: &[(&str, PackageKind)], rules: &[(&str, &str)]) -> Catalog {
    let files = files.iter().enumerate().map(|(position, (path, kind))| {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&(position as u64 + 1).to_be_bytes());
        ScannedFile {
            path: (*path).to_owned(),
            stamp: Stamp {
                dev: 1,
                ino: position as u64,
                size: 100_000,
                mtime: 0,
                ctime: 0,
            },
            inspected: Inspected {
                content: ContentId(id),
                md5: [0; 16],
                size: 100_000,
                kind: *kind,
            },
        }
    });
    let rules = rules.iter().map(|(path, json)| ScannedRules {
        path: (*path).to_owned(),
        rules: Some(Arc::new(Rules::parse(json.as_bytes()).unwrap())),
        error: None,
    });
    let found = ScanResult {
        files: files.collect(),
        rules: rules.collect(),
        ..ScanResult::default()
    };
    Catalog::build(found, None, Instant::now())
}

fn generic(paths: &[&str], rules: &[(&str, &str)]) -> Catalog {
    let files: Vec<_> = paths
        .iter()
        .map(|path| (*path, PackageKind::Generic))
        .collect();
    folder(&files, rules)
}

fn check<'a>(firmware_name: &'a str, version: &'a str) -> Check<'a> {
    Check {
        device: DeviceId::parse(IMEI),
        device_text: IMEI.into(),
        firmware_name: Some(firmware_name.into()),
        version: version.into(),
        ..Check::default()
    }
}

fn ask_at<'c>(catalog: &'c Catalog, check: &Check<'_>, unix: i64) -> Verdict<'c> {
    let question = Question {
        catalog,
        known: Known::default(),
        check,
        unix,
    };
    decide(&question, &mut Notes::off())
}

fn ask<'c>(catalog: &'c Catalog, check: &Check<'_>) -> Verdict<'c> {
    ask_at(catalog, check, NOON)
}

/// The path that is offered, or the refusal.
fn answer(verdict: Verdict<'_>) -> Result<&str, Refusal> {
    match verdict {
        Verdict::Offer(offer) => Ok(&offer.package.path),
        Verdict::Refuse(refused) => Err(refused.refusal),
    }
}

fn assert_offer(catalog: &Catalog, check: &Check<'_>, path: &str) {
    assert_eq!(answer(ask(catalog, check)), Ok(path), "{check:?}");
}

fn assert_no(catalog: &Catalog, check: &Check<'_>, refusal: Refusal) {
    assert_eq!(answer(ask(catalog, check)), Err(refusal), "{check:?}");
}

const SCRIPT: PackageKind = PackageKind::Ec7xx { delta: false };
const DELTA: PackageKind = PackageKind::Ec7xx { delta: true };

mod version_order {
    use super::*;

    #[test]
    fn plain_to_plain_needs_a_higher_release() {
        let catalog = generic(&["P/1.10.0/u.bin"], &[]);
        for older in ["1.9.0", "1.9.9", "001.009.000", "v1.9", "0.0.1"] {
            assert_offer(
                &catalog,
                &check("P_Luat_V0035_8955", older),
                "P/1.10.0/u.bin",
            );
        }
        for not_older in ["1.10.0", "1.10", "01.010.0", "1.10.1", "2.0.0"] {
            let check = check("P_Luat_V0035_8955", not_older);
            assert_no(&catalog, &check, Refusal::NothingNewer);
        }
    }

    #[test]
    fn core_form_to_core_form_goes_up_in_one_and_down_in_none() {
        let catalog = folder(&[("P_2012.001.004_LuatOS-SoC_EC718P.bin", SCRIPT)], &[]);
        let name = "P_LuatOS-SoC_EC718P";
        assert_offer(
            &catalog,
            &check(name, "2012.1.3"),
            "P_2012.001.004_LuatOS-SoC_EC718P.bin",
        );
        for no in [
            "2012.001.004",
            "2012.1.5",
            "2014.1.4",
            "2014.1.3",
            "2008.1.5",
        ] {
            assert_no(&catalog, &check(name, no), Refusal::NothingNewer);
        }
        // Script up and core up, but the package brings no core.
        assert_no(&catalog, &check(name, "2008.1.3"), Refusal::NoPackage);
    }

    #[test]
    fn core_form_to_plain_compares_the_first_and_third_field() {
        let catalog = folder(&[("P/2.5.1/u.bin", SCRIPT)], &[]);
        let name = "P_LuatOS-SoC_EC718P";
        for older in ["2012.2.0", "2008.1.9"] {
            assert_offer(&catalog, &check(name, older), "P/2.5.1/u.bin");
        }
        for not_older in ["2012.2.1", "2012.002.002", "2012.3.0"] {
            assert_no(&catalog, &check(name, not_older), Refusal::NothingNewer);
        }
    }

    #[test]
    fn the_newest_plain_release_is_the_one_that_luatos_takes_for_it() {
        let files = [
            ("P/2.1.0/u.bin", SCRIPT),
            ("P/2.0.1/u.bin", SCRIPT),
            ("P/2012.2.0/u.bin", SCRIPT),
        ];
        let catalog = folder(&files, &[]);
        let luatos = check("P_LuatOS-SoC_EC718P", "2012.1.0");
        assert_offer(&catalog, &luatos, "P/2.0.1/u.bin");
        assert_offer(
            &catalog,
            &check("P_Luat_V1_XX", "1.0.0"),
            "P/2012.2.0/u.bin",
        );
    }

    // Case 20: libfota3 says the middle number, a release CORE.A.C does not.
    #[test]
    fn a_module_keeps_its_middle_number_where_the_release_names_none() {
        let path = "P_2046.001.001_LuatOS-SoC_EC718P.bin";
        let name = "P_LuatOS-SoC_EC718P";
        let catalog = generic(&[path], &[]);
        for version in ["2046.1.999.0", "2046.1.0.0", "2046.0.5.9"] {
            assert_offer(&catalog, &check(name, version), path);
        }
        for version in ["2046.1.999.1", "2046.1.0.1", "2046.2.0.0"] {
            assert_no(&catalog, &check(name, version), Refusal::NothingNewer);
        }
        let (ran, takes) = (Version::parse("2046.1.999.0"), Version::parse("2050.1.1"));
        let after = Version::after_installing(ran.unwrap(), takes.unwrap(), FirstField::Core);
        assert_eq!(after.to_string(), "2050.1.999.1");
    }

    #[test]
    fn plain_to_core_form_only_with_any_core() {
        let path = "P/2012.001.004/u.bin";
        let asks = check("P_LuatOS-SoC_ESP32C3", "1.0.3");
        assert_no(&generic(&[path], &[]), &asks, Refusal::NoPackage);
        let any_core = [("P/2012.001.004/release.json", r#"{"any_core": true}"#)];
        let catalog = generic(&[path], &any_core);
        assert_offer(&catalog, &asks, path);
        let same = check("P_LuatOS-SoC_ESP32C3", "1.7.4");
        assert_no(&catalog, &same, Refusal::NothingNewer);
    }

    #[test]
    fn text_only_by_from_or_any_version_and_if_different() {
        let path = "P/1.0.0/u.bin";
        let rules = |json| generic(&[path], &[("P/1.0.0/release.json", json)]);
        let factory = check("P_Luat_V1_8955", "factory");
        assert_no(&generic(&[path], &[]), &factory, Refusal::VersionUnreadable);
        assert_offer(&rules(r#"{"from": ["factory"]}"#), &factory, path);
        assert_offer(&rules(r#"{"any_version": true}"#), &factory, path);
        let other = rules(r#"{"from": ["beta"]}"#);
        assert_no(&other, &factory, Refusal::NotThisDevice);
        let nothing = check("P_Luat_V1_8955", "");
        let any = rules(r#"{"any_version": true}"#);
        assert_no(&any, &nothing, Refusal::VersionUnreadable);
    }

    #[test]
    fn a_version_over_999_on_a_platform_that_is_not_luatos_is_plain() {
        let catalog = generic(&["P/2026.11.1/u.bin"], &[]);
        let name = "P_Luat_V0035_8955";
        assert_offer(&catalog, &check(name, "2025.12.9"), "P/2026.11.1/u.bin");
        assert_no(&catalog, &check(name, "2026.12.0"), Refusal::NothingNewer);
    }
}

mod packages {
    use super::*;

    const NAME: &str = "P_LuatOS-SoC_EC718P";

    #[test]
    fn script_only_fits_the_same_core_unless_the_release_is_plain_or_says_any_core() {
        let path = "P/2012.001.004/u.bin";
        let catalog = folder(&[(path, SCRIPT)], &[]);
        assert_offer(&catalog, &check(NAME, "2012.1.3"), path);
        assert_no(&catalog, &check(NAME, "2008.1.3"), Refusal::NoPackage);
        let any = folder(
            &[(path, SCRIPT)],
            &[("P/release.json", r#"{"any_core": true}"#)],
        );
        assert_offer(&any, &check(NAME, "2008.1.3"), path);
        let plain = folder(&[("P/1.0.4/u.bin", SCRIPT)], &[]);
        assert_offer(&plain, &check(NAME, "2008.1.3"), "P/1.0.4/u.bin");
    }

    #[test]
    fn a_script_on_another_core_is_not_offered_to_a_module_that_has_it() {
        let path = "P/2012.001.004/u.bin";
        let catalog = folder(
            &[(path, SCRIPT)],
            &[(
                "P/release.json",
                r#"{"any_core": true, "allow_downgrade": true}"#,
            )],
        );
        assert_offer(&catalog, &check(NAME, "2008.1.3"), path);
        // What it reports after that: its core has not moved.
        assert_no(&catalog, &check(NAME, "2008.1.4"), Refusal::NoPackage);
    }

    #[test]
    fn a_core_delta_fits_exactly_its_base() {
        let from = "P/2012.1.4/from-2008/P_2012.1.4_LuatOS-SoC_EC718P.bin";
        let catalog = folder(&[(from, DELTA)], &[]);
        assert_offer(&catalog, &check(NAME, "2008.1.4"), from);
        assert_offer(&catalog, &check(NAME, "2008.1.3"), from);
        for other in ["2007.1.3", "2009.1.3", "2012.1.3"] {
            assert_no(&catalog, &check(NAME, other), Refusal::NoPackage);
        }
        let by_rule = folder(
            &[("P/2012.1.4/u.bin", DELTA)],
            &[(
                "P/2012.1.4/release.json",
                r#"{"base_core": 2008, "any_core": true}"#,
            )],
        );
        assert_offer(&by_rule, &check(NAME, "2008.1.3"), "P/2012.1.4/u.bin");
        assert_no(&by_rule, &check(NAME, "2009.1.3"), Refusal::NoPackage);
    }

    #[test]
    fn a_core_delta_without_a_base_is_quarantined() {
        let catalog = folder(&[("P/2012.1.4/u.bin", DELTA)], &[]);
        assert_no(&catalog, &check(NAME, "2008.1.3"), Refusal::NoPackage);
        assert!(catalog.quarantined[0].text.contains("from-CORE"));
    }

    #[test]
    fn the_package_for_its_core_is_chosen_among_several() {
        let files = [
            ("P/2012.1.4/P_2012.1.4_LuatOS-SoC_EC718P.bin", SCRIPT),
            ("P/2012.1.4/from-2008/u.bin", DELTA),
            ("P/2012.1.4/from-2010/u.bin", DELTA),
        ];
        let catalog = folder(&files, &[]);
        for (version, (path, _)) in ["2012.1.3", "2008.1.3", "2010.1.3"].iter().zip(files) {
            assert_offer(&catalog, &check(NAME, version), path);
        }
    }

    #[test]
    fn a_whole_image_fits_any_lower_core() {
        for (platform, kind) in [
            ("AIR101", PackageKind::W800 { script: false }),
            ("Air105", PackageKind::Air105),
            ("ESP32C3", PackageKind::Esp32),
            ("Air8101", PackageKind::Generic),
        ] {
            let catalog = folder(&[("P/2012.1.4/u.bin", kind)], &[]);
            let name = format!("P_LuatOS-SoC_{platform}");
            assert_offer(&catalog, &check(&name, "1003.1.4"), "P/2012.1.4/u.bin");
        }
        let script = folder(
            &[("P/2012.1.4/u.bin", PackageKind::W800 { script: true })],
            &[],
        );
        let air101 = check("P_LuatOS-SoC_AIR101", "1003.1.3");
        assert_no(&script, &air101, Refusal::NoPackage);
    }

    #[test]
    fn a_package_for_another_family_is_never_offered() {
        let catalog = folder(&[("P/2.0.0/u.bin", SCRIPT)], &[]);
        assert_offer(&catalog, &check(NAME, "2012.1.0"), "P/2.0.0/u.bin");
        for other in [
            "P_Luat_V0035_8955",
            "P_LuatOS-SoC_EC618",
            "P_LuatOS-SoC_AIR101",
        ] {
            assert_no(&catalog, &check(other, "1.0.0"), Refusal::NoPackage);
        }
    }

    #[test]
    fn the_exact_platform_wins_over_the_generic_package() {
        let files = [
            ("P/2.0.0/P_2.0.0_LuatOS-SoC_EC718P.bin", SCRIPT),
            ("P/2.0.0/u.bin", SCRIPT),
        ];
        let catalog = folder(&files, &[]);
        assert_offer(&catalog, &check(NAME, "1.0.0"), files[0].0);
        let other = check("P_LuatOS-SoC_EC718U", "1.0.0");
        assert_offer(&catalog, &other, files[1].0);
        assert_offer(&catalog, &check("P", "1.0.0"), files[1].0);
    }

    #[test]
    fn a_file_too_large_for_udp_is_refused_there_alone() {
        let catalog = generic(&["P/2.0.0/u.bin"], &[]);
        let over_http = check("P", "1.0.0");
        let over_udp = Check {
            largest: Some(99_999),
            ..over_http.clone()
        };
        assert_offer(&catalog, &over_http, "P/2.0.0/u.bin");
        assert_no(&catalog, &over_udp, Refusal::NoPackage);
    }
}

mod rules {
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
    fn each_rule_lets_through_whom_it_names() {
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
            // The middle number counts where both say it.
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
            let is_offered =
                |version: &&str| answer(ask(&catalog, &check("P", version))) == Ok(PATH);
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
    fn a_device_without_an_id_passes_only_rules_that_everyone_passes() {
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
                stamp: Stamp {
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
        let catalog = Catalog::build(found, None, Instant::now());
        assert_offer(&catalog, &old(), "P/1.5.0/u.bin");
        assert_no(&catalog, &check("P", "1.5.0"), Refusal::NotNow);
        assert!(catalog.quarantined[0].text.contains("not JSON"));
    }

    /// Nothing of it is in the catalogue then, and still it is not "no such project".
    #[test]
    fn a_project_of_which_no_file_is_whole_has_no_package() {
        let found = ScanResult {
            quarantined: vec![Remark {
                path: "P/2.0.0/u.bin".to_owned(),
                text: "it is not what its .sha256 says".to_owned(),
            }],
            ..ScanResult::default()
        };
        let catalog = Catalog::build(found, None, Instant::now());
        assert_no(&catalog, &check("P", "1.0.0"), Refusal::NoPackage);
        assert_no(&catalog, &check("Q", "1.0.0"), Refusal::UnknownProject);
    }

    #[test]
    fn what_hides_an_older_release_and_what_does_not() {
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

    #[test]
    fn a_looping_content_ends_the_matter() {
        let catalog = generic(&["P/1.5.0/u.bin", PATH], &[]);
        let Verdict::Offer(offer) = ask(&catalog, &old()) else {
            panic!("not offered");
        };
        let question = Question {
            catalog: &catalog,
            known: Known {
                looping: {
                    let mut looping = Looping::default();
                    looping.add(ContentId([9; 32]), false);
                    looping.add(offer.package.content, false);
                    looping
                },
                ..Known::default()
            },
            check: &old(),
            unix: NOON,
        };
        let verdict = decide(&question, &mut Notes::off());
        assert_eq!(answer(verdict), Err(Refusal::Looping));
        let known = Known {
            stranger: true,
            ..Known::default()
        };
        let verdict = decide(&Question { known, ..question }, &mut Notes::off());
        assert_eq!(answer(verdict), Err(Refusal::UnknownDevice));
    }

    #[test]
    fn a_release_that_the_fuse_paused_is_for_trials_alone() {
        let asked = |rules: &str, fused: &[Fused], trial: bool| {
            let catalog = generic(&["P/1.5.0/u.bin", PATH], &[("P/2.0.0/release.json", rules)]);
            let check = old();
            let question = Question {
                catalog: &catalog,
                known: Known {
                    fused,
                    trial,
                    ..Known::default()
                },
                check: &check,
                unix: NOON,
            };
            answer(decide(&question, &mut Notes::off())).map(str::to_owned)
        };
        let older = Ok("P/1.5.0/u.bin".to_owned());
        let newest = Ok(PATH.to_owned());
        let by_fuse = format!("{{\"paused\": \"{FUSE}3 of 9 devices came back\"}}");
        assert_eq!(asked(&by_fuse, &[], false), older);
        assert_eq!(asked(&by_fuse, &[], true), newest);
        // A person's pause is for everybody.
        for paused in ["true", "\"the fuse: has tripped\""] {
            let by_hand = format!("{{\"paused\": {paused}}}");
            assert_eq!(asked(&by_hand, &[], true), older);
        }
        let kept = |version: &str| {
            [Fused {
                project: "P".into(),
                version: version.into(),
                sentence: format!("{FUSE}3 of 9").into(),
            }]
        };
        assert_eq!(asked("{}", &kept("2.0.0"), false), older);
        assert_eq!(asked("{}", &kept("2.0.0"), true), newest);
        assert_eq!(asked("{}", &kept("2.0.1"), false), newest);
    }

    #[test]
    fn a_downgrade_is_offered_only_if_asked_for_and_nothing_would_bring_it_back() {
        let newer = check("P", "3.0.0");
        assert_no(&with("{}"), &newer, Refusal::NothingNewer);
        let back = with(r#"{"allow_downgrade": true}"#);
        assert_offer(&back, &newer, PATH);
        assert_no(&back, &check("P", "2.0.0"), Refusal::NothingNewer);
        let both = |json| {
            generic(
                &[PATH, "P/3.0.0/u.bin"],
                &[
                    ("P/2.0.0/release.json", r#"{"allow_downgrade": true}"#),
                    ("P/3.0.0/release.json", json),
                ],
            )
        };
        assert_no(&both("{}"), &newer, Refusal::NothingNewer);
        // A window that is closed now opens again tomorrow.
        let shut = both(r#"{"window": "01:00-05:00Z"}"#);
        assert_no(&shut, &newer, Refusal::NothingNewer);
        assert_offer(&both(r#"{"paused": true}"#), &newer, PATH);
    }

    #[test]
    fn an_unknown_project_is_refused() {
        assert_no(&with("{}"), &check("Q", "1.0.0"), Refusal::UnknownProject);
        assert_no(&with("{}"), &check("", "1.0.0"), Refusal::NoProject);
    }

    #[test]
    fn notes_name_every_release_that_was_looked_at() {
        let catalog = generic(
            &["P/1.5.0/u.bin", PATH],
            &[("P/2.0.0/release.json", r#"{"paused": "waiting for Li"}"#)],
        );
        let mut notes = Notes::kept();
        let question = Question {
            catalog: &catalog,
            known: Known::default(),
            check: &old(),
            unix: NOON,
        };
        decide(&question, &mut notes);
        let text: Vec<String> = notes
            .list()
            .iter()
            .map(|note| format!("{} {}", note.release, note.text))
            .collect();
        let text = text.join("\n");
        assert!(text.contains("2.0.0 refused: waiting for Li"), "{text}");
        assert!(text.contains("1.5.0 offered: P/1.5.0/u.bin"), "{text}");
    }
}

proptest! {
    #[test]
    fn more_percent_never_takes_a_device_out(imei in 100_000_000_000_000u64..1_000_000_000_000_000, low in 0u32..100, more in 0u32..100) {
        let high = (low + more).min(100);
        let imei = imei.to_string();
        let check = Check { device: DeviceId::parse(&imei), ..check("P", "1.0.0") };
        let at = |percent: u32| {
            let rule = format!(r#"{{"percent": {percent}}}"#);
            let catalog = generic(&["P/2.0.0/u.bin"], &[("P/release.json", &rule)]);
            answer(ask(&catalog, &check)).is_ok()
        };
        prop_assert!(!at(low) || at(high));
    }

    #[test]
    fn whoever_takes_an_offer_is_not_offered_the_same_again(
        versions in proptest::collection::vec((0u32..3, 0u32..3, 0u32..3), 1..6),
        cored in any::<bool>(),
        device in (0u32..3, 0u32..3, 0u32..3),
        downgrade in any::<bool>(),
    ) {
        let paths: Vec<String> = versions.iter().map(|(a, b, c)| {
            if cored { format!("P/{}.{b}.{c}/u.bin", 2000 + a) } else { format!("P/{a}.{b}.{c}/u.bin") }
        }).collect();
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        let rule = format!(r#"{{"any_core": true, "allow_downgrade": {downgrade}}}"#);
        let catalog = generic(&paths, &[("P/release.json", &rule)]);
        let mut running = format!("{}.{}.{}", 2000 + device.0, device.1, device.2);
        let mut offers = 0;
        loop {
            let check = check("P_LuatOS-SoC_EC718P", &running);
            let Verdict::Offer(offer) = ask(&catalog, &check) else { break };
            // A generic package on this platform holds the script alone: the core stays.
            let [core, ..] = check.running().unwrap().fields();
            let [first, second, third, ..] = offer.release.version.fields();
            let (a, c) = if cored { (second, third) } else { (first, third) };
            running = format!("{core}.{a}.{c}");
            offers += 1;
            prop_assert!(offers <= paths.len(), "for ever: {running}");
        }
    }

    #[test]
    fn explain_says_what_decide_says(version in "[0-9.]{0,8}", name in "P(_Luat_V1_8955|_LuatOS-SoC_EC718P)?") {
        let catalog = generic(
            &["P/1.5.0/u.bin", "P/2.0.0/u.bin", "P/2012.1.1/u.bin"],
            &[("P/2.0.0/release.json", r#"{"percent": 50}"#)],
        );
        let check = check(&name, &version);
        let question = Question { catalog: &catalog, known: Known::default(), check: &check, unix: NOON };
        let silent = answer(decide(&question, &mut Notes::off()));
        let told = answer(decide(&question, &mut Notes::kept()));
        prop_assert_eq!(silent, told);
    }
}
