//! Tests of the choice of the package that fits (docs/decision.md "Package and core").

use super::*;

const NAME: &str = "P_LuatOS-SoC_EC718P";

#[test]
fn a_script_package_fits_only_its_core_unless_the_release_is_plain_or_has_any_core() {
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
    // The check after that update reports an unchanged core.
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
fn a_file_too_large_for_udp_is_refused_only_over_udp() {
    let catalog = generic(&["P/2.0.0/u.bin"], &[]);
    let over_http = check("P", "1.0.0");
    let over_udp = Check {
        largest: Some(99_999),
        ..over_http.clone()
    };
    assert_offer(&catalog, &over_http, "P/2.0.0/u.bin");
    assert_no(&catalog, &over_udp, Refusal::NoPackage);
}
