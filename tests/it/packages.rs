//! Promise: packages of every family are recognised by their bytes, checked as far as their layout is
//! known, and not offered to platforms that cannot install them; `luat-ota check` states the kind of each.

use crate::common;

use common::packages::{EC7XX, EC618, air8101_script, noise, package_of, sample, script_package};
use common::{Place, luat_ota};

const AIR8101: &str = "A_1005.001.002_LuatOS-SoC_Air8101.bin";
const AIR780EPM: &str = "A_2012.001.002_LuatOS-SoC_Air780EPM.bin";

/// The output of `check` for a folder with only this file, and its exit status.
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

/// The vendor's package, if it is available, and one with the same layout.
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

// Case 35.
#[test]
fn a_package_whose_sectors_do_not_add_up_to_the_length_in_its_header_is_quarantined() {
    let part = "the lengths of the sectors in this";
    for (magic, path) in [
        (EC7XX, AIR780EPM),
        (EC618, "A_1103.001.002_LuatOS-SoC_EC618.bin"),
    ] {
        let sector = |says: u32, bytes: usize| {
            let mut sector = magic.to_le_bytes().to_vec();
            sector.extend_from_slice(&says.to_le_bytes());
            sector.extend_from_slice(&noise(35, 28));
            sector.extend_from_slice(&noise(36, bytes));
            sector
        };
        let package = |sectors: &[Vec<u8>]| package_of(magic, &sectors.concat(), &[]);
        for whole in [
            vec![sector(1000, 1000)],
            vec![sector(1000, 1000), sector(600, 600)],
            vec![sector(0, 0), sector(600, 600)],
        ] {
            served(path, &package(&whole), &["script"]);
        }
        for torn in [
            vec![sector(1000, 999)],
            vec![sector(1000, 1001)],
            vec![sector(1000, 1000), sector(600, 599)],
            vec![sector(1000, 1000), sector(600, 600)[..35].to_vec()],
            vec![sector(u32::MAX, 1000)],
            vec![sector(1000, 0)[..20].to_vec()],
        ] {
            quarantined(path, &package(&torn), &[part]);
        }
    }
    for (name, path) in [
        ("ec7xx-script-air780epm.bin", AIR780EPM),
        (
            "ec618-script-air780e.bin",
            "A_1103.001.002_LuatOS-SoC_EC618.bin",
        ),
    ] {
        if let Some(bytes) = sample(name) {
            let mut common = bytes[92..].to_vec();
            common[4] ^= 1;
            let magic = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            quarantined(path, &package_of(magic, &common, &[]), &[part]);
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
    for path in [
        AIR780EPM,
        AIR8101,
        "A_1103.001.002_LuatOS-SoC_EC618.bin",
        "A_1004.001.002_LuatOS-SoC_AIR105.bin",
        "A_1004.001.002_LuatOS-SoC_AIR101.bin",
    ] {
        let part = "no module of that platform can take it";
        served(path, &bytes, &["looks like a mistake", part]);
    }
}

#[test]
fn an_unknown_platform_is_never_a_reason_for_quarantine() {
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
