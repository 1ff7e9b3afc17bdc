//! Tests of the version order (docs/decision.md "Version order").

use super::*;

#[test]
fn a_plain_version_needs_a_higher_plain_release() {
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
fn a_release_in_core_form_must_be_higher_in_one_part_and_lower_in_none() {
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
fn a_plain_release_is_compared_with_a_core_form_by_the_first_and_third_field() {
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
fn the_newest_plain_release_is_chosen_in_the_order_of_luatos() {
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

// Case 20: libfota3 reports the middle number, but a release CORE.A.C does not contain it.
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
fn a_plain_version_gets_a_release_in_core_form_only_with_any_core() {
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
fn a_text_version_passes_only_by_from_or_any_version_and_if_different() {
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
