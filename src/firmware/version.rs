//! Versions: numbers between dots, their two forms, and how a release's stands to a device's
//! (docs/protocol.md 4b, docs/decision.md "Version order"). Folder names, file names, rules and every check are
//! read with it.
//!
//! The surprise: there are two orders. Within one form a version is compared field by field; LuatOS
//! modules leave out the middle field of their script's version and put the core's in front, so
//! across the forms only [`standing`] knows.

use std::fmt;

/// Up to five numeric fields. `v`, leading zeros and trailing zero fields do not count, so
/// `v2.0.01` = `2.0.1` = `2.0.1.0`. Field by field from the left is a total order (`Ord`); it is the
/// order of the *plain* form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version([u32; 5]);

/// LuatOS's `CORE.A.C`: the core's version, then the first and the third field of the script's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoreForm {
    /// The core (firmware) version, at least 1000.
    pub core: u32,
    /// The script's version: its first and its third field.
    pub script: (u32, u32),
}

/// How a release stands to what the device runs, by version alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The release is newer.
    Newer,
    /// Both say the same.
    Same,
    /// The release is older, or neither newer nor older (script up, core down).
    Older,
    /// The release names a core and the device did not say its own: only `any_core` may offer it.
    CoreUnknown,
}

/// Core versions have four digits; no field of a script's version has more than three
/// (docs/protocol.md 4b).
const LEAST_CORE: u32 = 1000;

/// A field is below 10^9, so that it fits 32 bits whatever is done with it.
const LONGEST_FIELD: usize = 9;

/// No version that is worth reading is longer, even with fields full of leading zeros.
const LONGEST_TEXT: usize = 128;

impl Version {
    /// Reads a version as devices and folders write it: digits between dots, an optional `v` or `V`,
    /// spaces around it ignored, one to five fields of at most nine digits after leading zeros.
    /// Full-width digits and dots count as ASCII ones. Anything else is `None`: free text, which has
    /// no order.
    pub fn parse(text: &str) -> Option<Version> {
        if text.len() > LONGEST_TEXT {
            return None;
        }
        if let Some(version) = Version::plain(text.as_bytes()) {
            return Some(version);
        }
        let mut characters = text.trim().chars().map(narrow).peekable();
        characters.next_if(|&c| c == 'v' || c == 'V');
        let mut fields = [0; 5];
        let mut places = fields.iter_mut();
        loop {
            let place = places.next()?;
            *place = field(&mut characters)?;
            match characters.next() {
                Some('.') => {}
                Some(_) => return None,
                None => return Some(Version(fields)),
            }
        }
    }

    /// Nearly every version: ASCII digits and dots alone, no field longer than nine. (Each check asks for it more
    /// than once.) `None`: it is to be read with more care.
    fn plain(text: &[u8]) -> Option<Version> {
        let mut fields = [0_u32; 5];
        let mut places = fields.iter_mut();
        let mut place = places.next()?;
        let mut digits = 0;
        for byte in text {
            let digit = byte.wrapping_sub(b'0');
            if digit < 10 {
                digits += 1;
                *place = place.wrapping_mul(10).wrapping_add(u32::from(digit));
            } else if *byte == b'.' && digits > 0 {
                place = places.next()?;
                digits = 0;
            } else {
                return None;
            }
            if digits > LONGEST_FIELD {
                return None;
            }
        }
        (digits > 0).then_some(Version(fields))
    }

    /// The fields, most significant first, missing ones 0.
    pub fn fields(&self) -> [u32; 5] {
        self.0
    }

    /// The version in core form, if its first field is 1000 or more and it has three fields at most.
    pub fn core_form(&self) -> Option<CoreForm> {
        match self.0 {
            [core, a, c, 0, 0] if core >= LEAST_CORE => Some(CoreForm {
                core,
                script: (a, c),
            }),
            _ => None,
        }
    }

    /// The version's core form where `luatos` says that it may be one.
    fn core_form_if(&self, luatos: bool) -> Option<CoreForm> {
        self.core_form().filter(|_| luatos)
    }

    /// Of a plain version X.Y.Z what LuatOS would send: (X, Z).
    fn script(&self) -> (u32, u32) {
        let [x, _, z, ..] = self.0;
        (x, z)
    }

    /// The version that is written `CORE.A.C`.
    pub fn of_core_form(form: CoreForm) -> Version {
        let (a, c) = form.script;
        Version([form.core, a, c, 0, 0])
    }

    /// The script's version of a core form, as a plain one whose middle field is 0.
    pub fn script_alone(form: CoreForm) -> Version {
        let (a, c) = form.script;
        Version([a, 0, c, 0, 0])
    }

    /// A plain version as far as LuatOS sends it: X.0.Z.
    pub fn without_middle(&self) -> Version {
        let (x, z) = self.script();
        Version([x, 0, z, 0, 0])
    }

    /// What a device that runs `device` will report once it has installed `release`: the release's
    /// own version, but a module says CORE.A.C if it did so before (a plain `2.0.1` on core 2012
    /// comes back as `2012.2.1`), and a plain one that takes CORE.A.C comes back as A.0.C.
    pub fn after_installing(device: Version, release: Version, luatos: bool) -> Version {
        match (device.core_form_if(luatos), release.core_form_if(luatos)) {
            (Some(CoreForm { core, .. }), None) => {
                let (x, z) = release.script();
                Version([core, x, z, 0, 0])
            }
            (None, Some(CoreForm { script: (a, c), .. })) => Version([a, 0, c, 0, 0]),
            _ => release,
        }
    }
}

/// Three fields at least, and no zero fields after them: `2.0.1`, `2.0.0`, `2.0.1.7`.
impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [x, y, z, fourth, fifth] = self.0;
        write!(f, "{x}.{y}.{z}")?;
        match (fourth, fifth) {
            (0, 0) => Ok(()),
            (_, 0) => write!(f, ".{fourth}"),
            _ => write!(f, ".{fourth}.{fifth}"),
        }
    }
}

/// A character as its ASCII twin: an input method left in full-width mode writes `２．０．１`.
fn narrow(c: char) -> char {
    match c {
        '\u{ff01}'..='\u{ff5e}' => u32::from(c)
            .checked_sub(0xfee0)
            .and_then(char::from_u32)
            .unwrap_or(c),
        // The ideographic full stop is what the dot key gives while Chinese is typed.
        '\u{3002}' => '.',
        _ => c,
    }
}

/// One field: `007` → 7. At least one digit, at most nine after the leading zeros.
fn field(characters: &mut std::iter::Peekable<impl Iterator<Item = char>>) -> Option<u32> {
    let mut value = 0u32;
    let mut digits = 0usize;
    let mut significant = 0usize;
    while let Some(c) = characters.next_if(char::is_ascii_digit) {
        digits += 1;
        value = value.checked_mul(10)?.checked_add(c.to_digit(10)?)?;
        if value != 0 {
            significant += 1;
        }
    }
    (digits > 0 && significant <= LONGEST_FIELD).then_some(value)
}

/// How `release` stands to `device`, by docs/decision.md "Version order". `luatos`: the device's platform is a
/// LuatOS one (or not known), where a first field of 1000 or more is a core version.
pub fn standing(device: Version, release: Version, luatos: bool) -> Standing {
    use std::cmp::Ordering;
    match (device.core_form_if(luatos), release.core_form_if(luatos)) {
        (None, None) => match release.cmp(&device) {
            Ordering::Greater => Standing::Newer,
            Ordering::Equal => Standing::Same,
            Ordering::Less => Standing::Older,
        },
        (Some(device), Some(release)) => {
            if device == release {
                Standing::Same
            } else if release.core >= device.core && release.script >= device.script {
                Standing::Newer
            } else {
                Standing::Older
            }
        }
        (Some(device), None) => match release.script().cmp(&device.script) {
            Ordering::Greater => Standing::Newer,
            Ordering::Equal => Standing::Same,
            Ordering::Less => Standing::Older,
        },
        (None, Some(release)) => match release.script.cmp(&device.script()) {
            Ordering::Greater => Standing::CoreUnknown,
            Ordering::Equal => Standing::Same,
            Ordering::Less => Standing::Older,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn v(text: &str) -> Version {
        Version::parse(text).unwrap()
    }

    fn stands(device: &str, release: &str) -> Standing {
        standing(v(device), v(release), true)
    }

    #[test]
    fn what_devices_and_folders_write_is_read() {
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
    fn a_core_form_has_a_core_of_four_digits_and_three_fields_at_most() {
        let form = |text: &str| v(text).core_form();
        let core_form = |core, script| Some(CoreForm { core, script });
        assert_eq!(form("2012.001.004"), core_form(2012, (1, 4)));
        assert_eq!(form("1000"), core_form(1000, (0, 0)));
        assert_eq!(form("999.1.4"), None);
        assert_eq!(form("2012.1.4.1"), None);
        assert_eq!(form("2012.1.4.0.1"), None);
    }

    #[test]
    fn row_plain_plain_is_the_order_of_the_fields() {
        assert_eq!(stands("2.0.0", "2.0.1"), Standing::Newer);
        assert_eq!(stands("2.0.9", "2.0.10"), Standing::Newer);
        assert_eq!(stands("2.0.1", "v2.0.01"), Standing::Same);
        assert_eq!(stands("2.1.0", "2.0.9"), Standing::Older);
        assert_eq!(stands("2.1.0", "2.2.0"), Standing::Newer);
        assert_eq!(stands("1.0", "2012.1.4.1"), Standing::Newer);
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

    #[test]
    fn off_luatos_a_large_first_field_is_only_a_number() {
        let stands = |device, release| standing(v(device), v(release), false);
        assert_eq!(stands("2023.1.1", "2024.1.0"), Standing::Newer);
        assert_eq!(stands("2012.1.4", "2008.1.5"), Standing::Older);
        assert_eq!(stands("2008.1.5", "2012.1.4"), Standing::Newer);
        assert_eq!(stands("3.0.0", "2012.1.4"), Standing::Newer);
        assert_eq!(stands("2012.1.4", "2.0.9"), Standing::Older);
    }

    #[test]
    fn what_a_device_reports_afterwards_keeps_its_form() {
        let after = |device, release| Version::after_installing(v(device), v(release), true);
        assert_eq!(after("2012.2.0", "2.7.1"), v("2012.2.1"));
        assert_eq!(after("2008.1.1", "2012.1.4"), v("2012.1.4"));
        assert_eq!(after("2.0.0", "2012.2.1"), v("2.0.1"));
        assert_eq!(after("2.0.0", "2.0.1"), v("2.0.1"));
        let off_luatos = Version::after_installing(v("2012.2.0"), v("2013"), false);
        assert_eq!(off_luatos, v("2013"));
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
        // Small fields meet often; large first ones make core forms.
        let first = prop_oneof![0u32..4, 1000u32..1004, 999u32..1001];
        (first, 0u32..4, 0u32..4, 0u32..2, 0u32..2).prop_map(|(a, b, c, d, e)| {
            // Most versions have three fields.
            Version([a, b, c, d & e, d])
        })
    }

    proptest! {
        #[test]
        fn no_text_panics_and_what_is_read_is_read_back(text in "[ vV0-9.０-９．a。-]{0,20}|\\PC*") {
            if let Some(version) = Version::parse(&text) {
                prop_assert_eq!(Version::parse(&version.to_string()), Some(version));
            }
        }

        #[test]
        fn plain_versions_are_in_total_order(a in any_version(), b in any_version(), c in any_version()) {
            let s = |x, y| standing(x, y, false);
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
            let [a, b, c] = [a, b, c].map(|(core, x, z)| Version([core, x, z, 0, 0]));
            let newer = |x, y| standing(x, y, true) == Standing::Newer;
            prop_assert!(!newer(a, a));
            prop_assert!(!(newer(a, b) && newer(b, a)));
            prop_assert!(!(newer(a, b) && newer(b, c)) || newer(a, c));
            prop_assert_eq!(standing(a, b, true) == Standing::Same, a == b);
        }

        #[test]
        fn whoever_took_a_newer_release_is_not_offered_it_again(
            device in any_version(), release in any_version(), luatos: bool,
        ) {
            if standing(device, release, luatos) == Standing::Newer {
                let after = Version::after_installing(device, release, luatos);
                prop_assert_eq!(standing(after, release, luatos), Standing::Same);
            }
        }

        #[test]
        fn the_display_of_any_version_reads_back(version in any_version()) {
            prop_assert_eq!(Version::parse(&version.to_string()), Some(version));
        }
    }
}
