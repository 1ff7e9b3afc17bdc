//! Tests of the tables of docs/decision.md, row by row, and of what must hold for any question.

use proptest::prelude::*;
use std::sync::Arc;

use super::*;
use crate::firmware::ContentId;
use crate::firmware::audience::DeviceId;
use crate::firmware::catalog::{Catalog, Remark, ScanResult, ScannedFile, ScannedRules};
use crate::firmware::package::{Inspected, PackageKind};
use crate::firmware::rules::Rules;
use crate::firmware::version::{FirstField, Version};
use crate::os::fs::FileStamp;

mod packages;
mod rules;
mod version_order;
mod walk;

const IMEI: &str = "862991443753386";
const NOON: i64 = 1_795_435_200; // 2026-11-23T12:00:00Z

/// Builds the catalogue of a folder in memory: files with their kinds, and release.json files. Each
/// file has a content id of its own and a size of 100,000 bytes.
fn folder(files: &[(&str, PackageKind)], rules: &[(&str, &str)]) -> Catalog {
    let files = files.iter().enumerate().map(|(position, (path, kind))| {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&(position as u64 + 1).to_be_bytes());
        ScannedFile {
            path: (*path).to_owned(),
            stamp: FileStamp {
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
    Catalog::build(found)
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

/// Returns the path of the offered package, or the refusal.
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

proptest! {
    #[test]
    fn a_higher_percent_never_excludes_a_device(imei in 100_000_000_000_000u64..1_000_000_000_000_000, low in 0u32..100, more in 0u32..100) {
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
    fn a_device_that_takes_an_offer_is_not_offered_the_same_again(
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
            // A generic package on this platform contains only the script, so the core stays.
            let [core, ..] = check.running().unwrap().fields();
            let [first, second, third, ..] = offer.release.version.fields();
            let (a, c) = if cored { (second, third) } else { (first, third) };
            running = format!("{core}.{a}.{c}");
            offers += 1;
            prop_assert!(offers <= paths.len(), "for ever: {running}");
        }
    }

    #[test]
    fn collecting_notes_does_not_change_the_verdict(version in "[0-9.]{0,8}", name in "P(_Luat_V1_8955|_LuatOS-SoC_EC718P)?") {
        let catalog = generic(
            &["P/1.5.0/u.bin", "P/2.0.0/u.bin", "P/2012.1.1/u.bin"],
            &[("P/2.0.0/release.json", r#"{"percent": 50}"#)],
        );
        let check = check(&name, &version);
        let question = Question { catalog: &catalog, known: Known::default(), check: &check, unix: NOON };
        let without_notes = answer(decide(&question, &mut Notes::off()));
        let with_notes = answer(decide(&question, &mut Notes::collecting()));
        prop_assert_eq!(without_notes, with_notes);
    }
}

#[test]
fn every_refusal_is_counted_under_one_of_the_labels() {
    for (at, refusal) in Refusal::ALL.into_iter().enumerate() {
        assert_eq!(refusal as usize, at);
        assert!(Refusal::LABELS.contains(&refusal.wording().label));
    }
    let mut labels = Refusal::LABELS.to_vec();
    labels.sort_unstable();
    labels.dedup();
    assert_eq!(labels.len(), Refusal::LABELS.len());
}
