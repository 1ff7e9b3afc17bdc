//! Tests of the modules that can use each kind.

use super::*;

fn all_kinds() -> [PackageKind; 16] {
    kind::LABELS.map(|(kind, _)| kind)
}

// Case 37.
#[test]
fn a_package_contradicts_the_name_of_a_platform_that_cannot_take_it() {
    let ec7xx = PackageKind::Ec7xx { delta: false };
    let sentence = ec7xx.platform_conflict(Some("Air8101")).unwrap();
    for part in [
        "EC7xx script",
        "Air8101",
        "no module of that platform can take it",
    ] {
        assert!(sentence.contains(part), "{sentence}");
    }
    for (kind, platform) in [
        (ec7xx, "Air780EPM"),
        (ec7xx, "Air780E"),
        (ec7xx, "水表"),
        (PackageKind::Generic, "Air8101"),
        (PackageKind::Air8101 { script: true }, "Air8101"),
        (PackageKind::LuaDb, "ESP32C3"),
    ] {
        assert_eq!(
            kind.platform_conflict(Some(platform)),
            None,
            "{kind:?} {platform}"
        );
    }
    for (kind, platform) in [
        (PackageKind::Ec618 { delta: true }, "Air780EPM"),
        (PackageKind::Air8101 { script: true }, "Air780EPM"),
        (PackageKind::Air8101 { script: false }, "ESP32C3"),
        (PackageKind::Rda8910 { core: false }, "EC618"),
        (PackageKind::W800 { script: true }, "Air8101"),
    ] {
        assert!(
            kind.platform_conflict(Some(platform)).is_some(),
            "{kind:?} {platform}"
        );
    }
    for platform in ["Air780EPM", "EC618", "Air8101", "Air1602"] {
        let sentence = PackageKind::Generic.missing_header(Some(platform)).unwrap();
        assert!(
            sentence.contains("no module of that platform"),
            "{sentence}"
        );
    }
    // No layout is known for certain for these platforms.
    for platform in [
        "RDA8910_FLOAT",
        "8955",
        "ASR1802",
        "ESP32C3",
        "Air780E",
        "水表",
    ] {
        assert_eq!(
            PackageKind::Generic.missing_header(Some(platform)),
            None,
            "{platform}"
        );
    }
    for kind in all_kinds() {
        assert_eq!(
            (kind.platform_conflict(None), kind.missing_header(None)),
            (None, None)
        );
    }
}

const FAMILIES: [ChipFamily; 10] = [
    ChipFamily::Ec7xx,
    ChipFamily::Ec618,
    ChipFamily::Air105,
    ChipFamily::W800,
    ChipFamily::Esp32,
    ChipFamily::Air8101,
    ChipFamily::Air1601,
    ChipFamily::Rda8955,
    ChipFamily::Asr1802,
    ChipFamily::Rda8910,
];

#[test]
fn a_package_fits_only_modules_that_can_read_it() {
    for kind in all_kinds() {
        assert!(kind.fits(None), "{kind:?}");
        let fitting: Vec<ChipFamily> = FAMILIES
            .into_iter()
            .filter(|&family| kind.fits(Some(family)))
            .collect();
        match kind {
            PackageKind::Ec7xx { .. } => assert_eq!(fitting, [ChipFamily::Ec7xx]),
            PackageKind::Ec618 { .. } => assert_eq!(fitting, [ChipFamily::Ec618]),
            PackageKind::Rda8910 { .. } => assert_eq!(fitting, [ChipFamily::Rda8910]),
            PackageKind::Air1601 { .. } => assert_eq!(fitting, [ChipFamily::Air1601]),
            PackageKind::Air8101 { .. } => assert_eq!(fitting, [ChipFamily::Air8101]),
            PackageKind::Air105 => assert_eq!(fitting, [ChipFamily::Air105]),
            PackageKind::W800 { .. } => assert_eq!(fitting, [ChipFamily::W800]),
            PackageKind::Esp32 => assert_eq!(fitting, [ChipFamily::Esp32]),
            PackageKind::LuaDb => assert_eq!(fitting, FAMILIES[2..]),
            PackageKind::Generic => assert_eq!(fitting, FAMILIES),
        }
    }
}

#[test]
fn only_a_core_delta_needs_a_base() {
    let needing: Vec<PackageKind> = all_kinds()
        .into_iter()
        .filter(|kind| kind.needs_base())
        .collect();
    assert_eq!(
        needing,
        [
            PackageKind::Ec7xx { delta: true },
            PackageKind::Ec618 { delta: true }
        ]
    );
}

#[test]
fn every_label_is_read_back() {
    for kind in all_kinds() {
        assert_eq!(PackageKind::from_label(kind.label()), Some(kind));
    }
    assert_eq!(PackageKind::from_label("EC7xx"), None);
}
