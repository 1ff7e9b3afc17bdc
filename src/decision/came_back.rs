//! The result of an update by the version in the next check: the new one, the old one, or an unrelated one.
//!
//! The new version is rarely the text of the release: a LuatOS module reports `2.0.1` as `2012.2.1`, a script package
//! keeps the core version, and the device may have got a newer release meanwhile (docs/decision.md "Version order").

use super::check::Check;
use crate::firmware::version::{FirstField, Standing, Version, standing};

/// Result of an update, as a later check shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Back {
    /// The device came back with the new version or a later one.
    New,
    /// The device came back with the version that it ran before or an older one.
    Old,
    /// The version shows neither: it is missing, or the device was flashed with an unrelated one.
    Other,
}

/// Returns the result for a device that ran `before`, was offered the release `target` (both as written), and now sends
/// this check.
pub fn came_back(before: &str, check: &Check<'_>, target: &str) -> Back {
    compare(before, &check.version, check.first_field(), target)
}

/// Returns the same as [`came_back`], for the version `reported` as written. `first`: the meaning of a first field of
/// 1000 or more.
pub fn compare(before: &str, reported: &str, first: FirstField, target: &str) -> Back {
    if reported.is_empty() {
        return Back::Other;
    }
    if reported == before {
        return Back::Old;
    }
    let (Some(running), Some(wanted)) = (Version::parse(reported), Version::parse(target)) else {
        return match reported == target {
            true => Back::New,
            false => Back::Other,
        };
    };
    let Some(before) = Version::parse(before) else {
        // The previous version has no order. Any version that is as new as the release counts as a success.
        return match reaches(running, wanted, first) {
            true => Back::New,
            false => Back::Other,
        };
    };
    if running == before {
        return Back::Old;
    }
    match standing(before, wanted, first) {
        Standing::Older => {
            // After a downgrade by allow_downgrade, only the exact version of the release is a success.
            match standing(running, wanted, first) == Standing::Same {
                true => Back::New,
                false => Back::Other,
            }
        }
        Standing::Newer | Standing::CoreUnknown | Standing::Same => {
            if reaches(running, wanted, first) || has_new_script(before, running, wanted, first) {
                Back::New
            } else if matches!(
                standing(running, before, first),
                Standing::Newer | Standing::Same
            ) {
                Back::Old
            } else {
                Back::Other
            }
        }
    }
}

/// Whether the running version is as new as the release, in all of its parts.
fn reaches(running: Version, wanted: Version, first: FirstField) -> bool {
    match first.forms(running, wanted) {
        (Some(has), Some(wants)) => has.core >= wants.core && has.cmp_script(&wants).is_ge(),
        _ => matches!(
            standing(running, wanted, first),
            Standing::Same | Standing::Older
        ),
    }
}

/// Whether the device took the script of a package that contains only the script. Such a package leaves the core
/// unchanged, whatever core the release's name states.
fn has_new_script(before: Version, running: Version, wanted: Version, first: FirstField) -> bool {
    match (first.forms(before, running), first.forms(running, wanted)) {
        ((Some(had), Some(has)), (Some(_), Some(wants))) => {
            has.core == had.core && has.cmp_script(&had).is_gt() && has.cmp_script(&wants).is_ge()
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use proptest::prelude::*;

    use super::*;

    fn back(before: &str, reported: &str, target: &str) -> Back {
        back_as("PROJECT_LuatOS-SoC_Air780E", before, reported, target)
    }

    fn back_as(firmware_name: &str, before: &str, reported: &str, target: &str) -> Back {
        let check = Check {
            firmware_name: Some(firmware_name.into()),
            version: Cow::Borrowed(reported),
            ..Check::default()
        };
        came_back(before, &check, target)
    }

    #[test]
    fn a_plain_version_is_new_from_the_release_on_and_old_up_to_the_previous_one() {
        for (reported, expected) in [
            ("2.0.0", Back::New),
            ("v2.0", Back::New),
            ("2.0.1", Back::New),
            ("3", Back::New),
            ("1.0.0", Back::Old),
            ("1.0", Back::Old),
            ("0.9.9", Back::Old),
            ("1.5.0", Back::Other),
            ("factory", Back::Other),
            ("", Back::Other),
        ] {
            assert_eq!(back("1.0.0", reported, "2.0.0"), expected, "{reported}");
        }
    }

    #[test]
    fn a_module_in_core_form_reports_a_plain_release_behind_its_core() {
        for (reported, expected) in [
            ("2012.2.1", Back::New),
            ("2012.2.2", Back::New),
            ("2014.2.1", Back::New),
            ("2012.1.9", Back::Old),
            ("2012.1.8", Back::Old),
            ("2.0.1", Back::New),
            // The device was flashed with another core and the previous script.
            ("2014.1.9", Back::Other),
        ] {
            assert_eq!(back("2012.1.9", reported, "2.0.1"), expected, "{reported}");
        }
    }

    #[test]
    fn a_release_in_core_form_may_have_changed_only_the_script() {
        for (reported, expected) in [
            ("2014.2.1", Back::New),
            ("2014.2.2", Back::New),
            ("2015.2.1", Back::New),
            // any_core, and a package without a core.
            ("2012.2.1", Back::New),
            ("2012.1.9", Back::Old),
            ("2008.1.9", Back::Old),
            ("2014.1.9", Back::Other),
        ] {
            assert_eq!(
                back("2012.1.9", reported, "2014.2.1"),
                expected,
                "{reported}"
            );
        }
        // The same script, reported in the other form.
        assert_eq!(back("1.0.9", "2012.1.9", "2.0.1"), Back::Old);
        assert_eq!(back("2012.1.9", "1.0.9", "2.0.1"), Back::Old);
        // Only the core is new here.
        assert_eq!(back("2012.2.1", "2012.2.1", "2014.2.1"), Back::Old);
        assert_eq!(back("2012.2.1", "2014.2.1", "2014.2.1"), Back::New);
        // A module that reports no core, updated by any_core.
        assert_eq!(back("1.0.9", "2.0.1", "2014.2.1"), Back::New);
        assert_eq!(back("1.0.9", "1.0.9", "2014.2.1"), Back::Old);
        assert_eq!(back("1.0.9", "1.0.8", "2014.2.1"), Back::Old);
    }

    #[test]
    fn a_first_field_of_four_digits_is_no_core_to_a_module_that_is_not_luatos() {
        let module = "PROJECT_Luat_V0035_8955";
        assert_eq!(
            back_as(module, "2012.1.9", "2013.0.0", "2013.0.0"),
            Back::New
        );
        assert_eq!(
            back_as(module, "2012.1.9", "2012.2.0", "2013.0.0"),
            Back::Other
        );
        assert_eq!(
            back_as(module, "2012.1.9", "2012.1.8", "2013.0.0"),
            Back::Old
        );
    }

    // Cases 5, 8.
    #[test]
    fn a_device_comes_back_in_its_own_form() {
        for (before, reported, target, expected) in [
            // CORE.A.B.C as libfota sent it in 2023.
            ("1103.1.0.1", "1103.1.0.2", "1.0.2", Back::New),
            ("1103.1.0.1", "1103.1.1.0", "1.1.0", Back::New),
            ("1103.1.0.1", "1103.1.0.1", "1.0.2", Back::Old),
            ("1103.1.0.1", "1103.1.0.0", "1.0.2", Back::Old),
            ("1103.1.0.1", "1103.1.0.2", "1103.1.2", Back::New),
            ("1103.1.0.1", "1103.1.9.2", "1103.1.2", Back::New),
            ("1103.1.0.1", "1103.1.0.1", "1103.1.2", Back::Old),
        ] {
            assert_eq!(
                back(before, reported, target),
                expected,
                "{before} {reported}"
            );
        }
        for (before, reported, target, expected) in [
            ("2024.12.31", "2025.01.01", "2025.01.01", Back::New),
            ("2024.12.31", "2025.1.1", "2025.01.01", Back::New),
            ("2024.12.31", "2024.12.30", "2025.01.01", Back::Old),
            ("20231231", "20240101", "20240101", Back::New),
            ("1.0.0", "1.0.1", "2012.1.1", Back::New),
            ("1103.1.0.1", "1103.1.0.2", "1.0.2", Back::New),
        ] {
            assert_eq!(
                back_as("DATEP", before, reported, target),
                expected,
                "{before} {reported}"
            );
        }
    }

    #[test]
    fn a_text_version_is_new_only_if_it_is_the_text_of_the_release() {
        assert_eq!(back("factory", "factory", "2.0.0"), Back::Old);
        assert_eq!(back("factory", "2.0.0", "2.0.0"), Back::New);
        assert_eq!(back("factory", "2.1.0", "2.0.0"), Back::New);
        assert_eq!(back("factory", "1.0.0", "2.0.0"), Back::Other);
        assert_eq!(back("factory", "beta", "2.0.0"), Back::Other);
        assert_eq!(back("1.0.0", "gamma", "gamma"), Back::New);
        assert_eq!(back("1.0.0", "2.0.0", "gamma"), Back::Other);
    }

    #[test]
    fn a_downgrade_is_new_only_with_the_exact_version() {
        for (reported, expected) in [
            ("1.0.0", Back::New),
            ("2.0.0", Back::Old),
            ("1.5.0", Back::Other),
            ("0.9.0", Back::Other),
            ("2.1.0", Back::Other),
        ] {
            assert_eq!(back("2.0.0", reported, "1.0.0"), expected, "{reported}");
        }
        assert_eq!(back("2012.2.1", "2012.1.9", "1.0.9"), Back::New);
        assert_eq!(back("2012.2.1", "2012.2.1", "1.0.9"), Back::Old);
    }

    fn any_version() -> impl Strategy<Value = String> {
        prop_oneof![
            (0u32..4, 0u32..3, 0u32..3).prop_map(|(x, y, z)| format!("{x}.{y}.{z}")),
            (2010u32..2013, 0u32..4, 0u32..3).prop_map(|(core, a, c)| format!("{core}.{a}.{c}")),
            "[a-c]{1,2}",
        ]
    }

    proptest! {
        #[test]
        fn the_same_version_is_never_new_and_an_installed_one_always_is(
            before in any_version(), target in any_version()
        ) {
            prop_assert_eq!(back(&before, &before, &target), Back::Old);
            if let (Some(ran), Some(wanted)) = (Version::parse(&before), Version::parse(&target)) {
                let after = Version::after_installing(ran, wanted, FirstField::Core);
                let is_update = standing(ran, wanted, FirstField::Core) != Standing::Same
                    && after != ran;
                // A release that is up in one part and down in the other is never offered.
                let comparable = match (ran.core_form(), wanted.core_form()) {
                    (Some(a), Some(b)) => {
                        (a.core <= b.core && a.script <= b.script) || standing(ran, wanted, FirstField::Core) == Standing::Older
                    }
                    _ => true,
                };
                if is_update && comparable {
                    prop_assert_eq!(back(&before, &after.to_string(), &target), Back::New);
                }
            }
        }
    }
}
