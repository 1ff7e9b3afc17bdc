//! Promise: packages of every family are known by their bytes, checked as far as their layout is known, and
//! kept away from platforms that cannot take them. `luat-ota check` says what each one is.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![allow(missing_docs)]

mod common;

use common::packages::{EC7XX, air8101_script, noise, sample, script_package};
use common::{Place, luat_ota};

const AIR8101: &str = "A_1005.001.002_LuatOS-SoC_Air8101.bin";
const AIR780EPM: &str = "A_2012.001.002_LuatOS-SoC_Air780EPM.bin";

/// What `check` says of a folder with this one file, and its exit status.
fn check(path: &str, bytes: &[u8]) -> (String, i32) {
    let place = Place::new();
    place.drop_firmware(path, bytes);
    let output = luat_ota()
        .arg("check")
        .arg(place.firmware())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    (text, output.status.code().unwrap())
}

fn quarantined(path: &str, bytes: &[u8], parts: &[&str]) {
    let (text, code) = check(path, bytes);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("Quarantined"), "{text}");
    for part in parts {
        assert!(text.contains(part), "no `{part}` in: {text}");
    }
}

fn served(path: &str, bytes: &[u8], parts: &[&str]) {
    let (text, code) = check(path, bytes);
    assert_eq!(code, 0, "{text}");
    for part in parts {
        assert!(text.contains(part), "no `{part}` in: {text}");
    }
}

/// The vendor's package, if it is there, and one made by the same layout.
fn scripts_for_air8101() -> Vec<Vec<u8>> {
    let made = air8101_script(35, 1000);
    sample("air8101-script.bin")
        .into_iter()
        .chain([made])
        .collect()
}

// Case 35.
#[test]
fn an_air8101_package_that_was_cut_off_is_quarantined_with_both_lengths() {
    for whole in scripts_for_air8101() {
        for length in [13_000, 1032, whole.len() - 1] {
            let says = format!("says {} bytes", whole.len());
            let has = format!("the file has {length}");
            quarantined(AIR8101, &whole[..length], &[&says, &has]);
        }
        let mut torn = whole.clone();
        torn[20_000] ^= 1;
        quarantined(AIR8101, &torn, &["damaged"]);
    }
}

// Case 36.
#[test]
fn check_names_kind_size_and_family_of_a_whole_package() {
    for whole in scripts_for_air8101() {
        let size = whole.len().to_string();
        served(AIR8101, &whole, &["Air8101 script", &size, "Air8101"]);
    }
    for (name, path, kind) in [
        ("ec7xx-script-air780epm.bin", AIR780EPM, "EC7xx script"),
        (
            "ec7xx-script-air8000.bin",
            "A_2012.001.002_LuatOS-SoC_Air8000.bin",
            "EC7xx script",
        ),
        (
            "ec618-script-air780e.bin",
            "A_1103.001.002_LuatOS-SoC_EC618.bin",
            "EC618 script",
        ),
    ] {
        if let Some(bytes) = sample(name) {
            served(path, &bytes, &[kind, &bytes.len().to_string()]);
        }
    }
}

// Case 37.
#[test]
fn a_package_under_the_name_of_another_platform_is_quarantined() {
    let part = "no module of that platform can take it";
    let made = script_package(EC7XX, 37);
    for bytes in sample("ec7xx-script-air780epm.bin")
        .into_iter()
        .chain([made])
    {
        quarantined(AIR8101, &bytes, &["EC7xx script", "Air8101", part]);
    }
    for bytes in scripts_for_air8101() {
        quarantined(AIR780EPM, &bytes, &["Air8101 script", "Air780EPM", part]);
    }
}

// Case 37.
#[test]
fn bytes_of_no_known_layout_under_the_name_of_a_platform_with_a_known_one_are_warned_about() {
    let bytes = noise(37, 5000);
    for path in [AIR780EPM, AIR8101, "A_1103.001.002_LuatOS-SoC_EC618.bin"] {
        let part = "no module of that platform can take it";
        served(path, &bytes, &["looks like a mistake", part]);
    }
}

#[test]
fn a_platform_that_nobody_knows_is_never_quarantined_for_it() {
    for platform in ["Air780E", "AirXYZ", "CORE9000"] {
        let path = format!("A_2012.001.002_LuatOS-SoC_{platform}.bin");
        for bytes in [
            noise(1, 5000),
            script_package(EC7XX, 1),
            air8101_script(1, 100),
        ] {
            let (text, code) = check(&path, &bytes);
            assert_eq!(code, 0, "{text}");
            assert!(!text.contains("platform can take"), "{text}");
        }
    }
}
