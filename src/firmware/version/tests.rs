use super::*;
use proptest::prelude::*;

fn v(text: &str) -> Version {
    Version::parse(text).unwrap()
}

fn stands(device: &str, release: &str) -> Standing {
    standing(v(device), v(release), FirstField::Core)
}

#[test]
fn versions_of_devices_and_folders_are_parsed() {
    for (text, fields) in [
        ("2.0.1", [2, 0, 1, 0, 0]),
        ("v2.0.01", [2, 0, 1, 0, 0]),
        ("V2.0.1.0", [2, 0, 1, 0, 0]),
        (" 2.0.1\t", [2, 0, 1, 0, 0]),
        ("7", [7, 0, 0, 0, 0]),
        ("1.2.3.4.5", [1, 2, 3, 4, 5]),
        ("2012.001.004", [2012, 1, 4, 0, 0]),
        ("000000000000999999999", [999_999_999, 0, 0, 0, 0]),
        ("２．０．１", [2, 0, 1, 0, 0]),
        ("2。0。1", [2, 0, 1, 0, 0]),
        ("\u{3000}2.0\u{3000}", [2, 0, 0, 0, 0]),
    ] {
        assert_eq!(v(text).fields(), fields, "{text}");
    }
}

#[test]
fn free_text_has_no_order() {
    for text in [
        "",
        " ",
        "v",
        ".",
        "1.",
        ".1",
        "1..2",
        "1.2.3.4.5.6",
        "1000000000",
        "2024-1-1",
        "2024-13-01",
        "2024-12",
        "202413011200",
        "1.0-beta",
        "vv1",
        "-1",
        "1,2",
        "factory",
        "1.0 .2",
        "+1",
        "٣.١",
        "v 1",
    ] {
        assert_eq!(Version::parse(text), None, "{text}");
    }
    assert_eq!(Version::parse(&"0".repeat(129)), None);
}

#[test]
fn one_ten_is_above_one_nine_and_zeros_do_not_count() {
    assert!(v("1.10") > v("1.9"));
    assert_eq!(v("001"), v("1"));
    assert_eq!(v("1.0"), v("1"));
    assert_eq!(v("2012.1.4"), v("2012.001.004"));
}

#[test]
fn a_core_form_has_a_core_of_four_digits() {
    let form = |text: &str| v(text).core_form();
    let core_form = |core, script| {
        Some(CoreForm {
            core,
            script,
            full: None,
        })
    };
    assert_eq!(form("2012.001.004"), core_form(2012, (1, 4)));
    assert_eq!(form("1000"), core_form(1000, (0, 0)));
    assert_eq!(form("999.1.4"), None);
    // Four fields contain the script's middle number too (docs/protocol.md 9b), even if the last field is 0.
    for (text, script, full) in [
        ("1103.1.0.1", (1, 1), "1.0.1"),
        ("1103.1.2.0", (1, 0), "1.2.0"),
        ("1103.1.2.3.4", (1, 3), "1.2.3.4"),
    ] {
        let expected = CoreForm {
            core: 1103,
            script,
            full: Some(v(full)),
        };
        assert_eq!(form(text), Some(expected), "{text}");
        assert_eq!(Version::of_core_form(expected), v(text));
        assert_eq!(v(text).to_string(), text);
    }
}

#[test]
fn row_plain_plain_is_the_order_of_the_fields() {
    assert_eq!(stands("2.0.0", "2.0.1"), Standing::Newer);
    assert_eq!(stands("2.0.9", "2.0.10"), Standing::Newer);
    assert_eq!(stands("2.0.1", "v2.0.01"), Standing::Same);
    assert_eq!(stands("2.1.0", "2.0.9"), Standing::Older);
    assert_eq!(stands("2.1.0", "2.2.0"), Standing::Newer);
}

#[test]
fn row_core_core_wants_neither_lower_and_one_higher() {
    assert_eq!(stands("2012.1.3", "2012.1.4"), Standing::Newer);
    assert_eq!(stands("2008.1.4", "2012.1.4"), Standing::Newer);
    assert_eq!(stands("2008.1.3", "2012.1.4"), Standing::Newer);
    // Lexicographic, unlike the vendor's platform (docs/protocol.md 4b).
    assert_eq!(stands("2012.1.200", "2012.2.1"), Standing::Newer);
    assert_eq!(stands("2012.001.004", "2012.1.4"), Standing::Same);
    assert_eq!(stands("2012.1.4", "2008.1.5"), Standing::Older);
    assert_eq!(stands("2008.1.5", "2012.1.4"), Standing::Older);
    assert_eq!(stands("2012.2.1", "2012.1.9"), Standing::Older);
}

#[test]
fn row_core_plain_compares_the_first_and_third_field() {
    assert_eq!(stands("2012.2.0", "2.0.1"), Standing::Newer);
    assert_eq!(stands("2012.2.1", "2.0.1"), Standing::Same);
    assert_eq!(stands("2012.2.1", "2.7.1"), Standing::Same);
    assert_eq!(stands("2012.2.2", "2.9.1"), Standing::Older);
    assert_eq!(stands("2012.3.0", "2.0.9"), Standing::Older);
}

#[test]
fn row_plain_core_is_never_newer_by_itself() {
    assert_eq!(stands("2.0.0", "2012.2.1"), Standing::CoreUnknown);
    assert_eq!(stands("2.9.1", "2012.2.1"), Standing::Same);
    assert_eq!(stands("2.0.2", "2012.2.1"), Standing::Older);
}

// Cases 8, 9.
#[test]
fn a_core_form_of_four_fields_is_compared_with_every_form() {
    for (release, expected) in [
        ("1.0.2", Standing::Newer),
        ("1.1.0", Standing::Newer),
        ("1.0.1", Standing::Same),
        ("1.0.0", Standing::Older),
        ("0.9.9", Standing::Older),
        ("1103.1.2", Standing::Newer),
        ("1103.1.1", Standing::Same),
        ("1104.1.1", Standing::Newer),
        ("1102.1.9", Standing::Older),
        ("1103.1.0.2", Standing::Newer),
        ("1103.1.1.0", Standing::Newer),
        ("1103.1.0.1", Standing::Same),
        ("1103.1.0.0", Standing::Older),
    ] {
        assert_eq!(stands("1103.1.0.1", release), expected, "{release}");
    }
    assert_eq!(stands("1103.1.1", "1103.1.0.2"), Standing::Newer);
    assert_eq!(stands("1103.1.1", "1103.1.5.1"), Standing::Same);
    assert_eq!(stands("1.0.1", "1103.1.0.2"), Standing::CoreUnknown);
    assert_eq!(stands("1.0.1", "1103.1.0.1"), Standing::Same);
}

// Cases 5, 6, 7.
#[test]
fn without_a_marker_versions_of_one_form_are_compared_as_they_are() {
    let stands = |device, release| standing(v(device), v(release), FirstField::Unstated);
    for (device, release, expected) in [
        ("2024.12.31", "2025.01.01", Standing::Newer),
        ("2024.01.01", "2025.01.01", Standing::Newer),
        ("2025.01.01", "2024.12.31", Standing::Older),
        ("2025.01.01", "2025.1.1", Standing::Same),
        ("20231231", "20240101", Standing::Newer),
        ("20240101", "20231231", Standing::Older),
        ("20231231.1", "20240101", Standing::Newer),
        ("1.0.0", "20240101", Standing::Newer),
        ("2024-12-31", "2025-01-01", Standing::Newer),
        ("2024.12.31", "2025-01-01", Standing::Newer),
        ("202401011200", "202401011230", Standing::Newer),
        ("20240101", "202401011230", Standing::Newer),
        ("20240101120001", "202401011200", Standing::Older),
        ("2024010123", "20240102", Standing::Newer),
        ("1.0.0", "1.0.1", Standing::Newer),
        ("1.0.0", "2012.1.1", Standing::CoreUnknown),
        ("1103.1.0.1", "1.0.2", Standing::Newer),
        ("2012.1.1", "1.0.1", Standing::Same),
    ] {
        assert_eq!(stands(device, release), expected, "{device} {release}");
    }
}

#[test]
fn off_luatos_a_large_first_field_is_only_a_number() {
    let stands = |device, release| standing(v(device), v(release), FirstField::Number);
    assert_eq!(stands("2023.1.1", "2024.1.0"), Standing::Newer);
    assert_eq!(stands("2012.1.4", "2008.1.5"), Standing::Older);
    assert_eq!(stands("2008.1.5", "2012.1.4"), Standing::Newer);
    assert_eq!(stands("3.0.0", "2012.1.4"), Standing::Newer);
    assert_eq!(stands("2012.1.4", "2.0.9"), Standing::Older);
}

#[test]
fn the_version_after_an_update_keeps_the_devices_form() {
    let after =
        |device, release| Version::after_installing(v(device), v(release), FirstField::Core);
    assert_eq!(after("2012.2.0", "2.7.1"), v("2012.2.1"));
    assert_eq!(after("2008.1.1", "2012.1.4"), v("2012.1.4"));
    assert_eq!(after("2.0.0", "2012.2.1"), v("2.0.1"));
    assert_eq!(after("2.0.0", "2.0.1"), v("2.0.1"));
    let off_luatos = Version::after_installing(v("2012.2.0"), v("2013"), FirstField::Number);
    assert_eq!(off_luatos, v("2013"));
    assert_eq!(after("1103.1.0.1", "1.2.0").to_string(), "1103.1.2.0");
    assert_eq!(after("1.0.1", "1103.1.0.2"), v("1.0.2"));
}

#[test]
fn a_version_is_shown_with_three_fields_or_more() {
    for (text, shown) in [
        ("2", "2.0.0"),
        ("v02.0.1", "2.0.1"),
        ("1.2.3.4", "1.2.3.4"),
        ("1.0.0.0.5", "1.0.0.0.5"),
    ] {
        assert_eq!(v(text).to_string(), shown);
    }
}

fn any_version() -> impl Strategy<Value = Version> {
    // Small fields are often equal; large first fields result in core forms.
    let first = prop_oneof![0u32..4, 1000u32..1004, 999u32..1001];
    (first, 0u32..4, 0u32..4, 0u32..2, 0u32..2).prop_map(|(a, b, c, d, e)| {
        // Most versions have three fields.
        Version::of([a, b, c, d & e, d])
    })
}

proptest! {
    #[test]
    fn no_text_panics_and_a_parsed_version_is_parsed_back(text in "[ vV0-9.０-９．a。-]{0,20}|\\PC*") {
        if let Some(version) = Version::parse(&text) {
            prop_assert_eq!(Version::parse(&version.to_string()), Some(version));
        }
    }

    #[test]
    fn plain_versions_are_in_total_order(a in any_version(), b in any_version(), c in any_version()) {
        let s = |x, y| standing(x, y, FirstField::Number);
        prop_assert_eq!(s(a, a), Standing::Same);
        prop_assert_eq!(s(a, b) == Standing::Same, a == b);
        prop_assert_eq!(s(a, b) == Standing::Newer, s(b, a) == Standing::Older);
        if s(a, b) == Standing::Newer && s(b, c) == Standing::Newer {
            prop_assert_eq!(s(a, c), Standing::Newer);
        }
    }

    #[test]
    fn newer_is_antisymmetric_and_transitive_among_core_forms(
        a in (1000u32..1004, 0u32..3, 0u32..3),
        b in (1000u32..1004, 0u32..3, 0u32..3),
        c in (1000u32..1004, 0u32..3, 0u32..3),
    ) {
        let [a, b, c] = [a, b, c].map(|(core, x, z)| Version::of([core, x, z, 0, 0]));
        let newer = |x, y| standing(x, y, FirstField::Core) == Standing::Newer;
        prop_assert!(!newer(a, a));
        prop_assert!(!(newer(a, b) && newer(b, a)));
        prop_assert!(!(newer(a, b) && newer(b, c)) || newer(a, c));
        prop_assert_eq!(standing(a, b, FirstField::Core) == Standing::Same, a == b);
    }

    #[test]
    fn an_installed_release_is_not_offered_again(
        device in any_version(), release in any_version(),
        first in prop::sample::select(vec![FirstField::Core, FirstField::Number, FirstField::Unstated]),
    ) {
        if standing(device, release, first) == Standing::Newer {
            let after = Version::after_installing(device, release, first);
            prop_assert_eq!(standing(after, release, first), Standing::Same);
        }
    }

    #[test]
    fn the_display_of_any_version_reads_back(version in any_version()) {
        prop_assert_eq!(Version::parse(&version.to_string()), Some(version));
    }
}
