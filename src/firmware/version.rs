//! Versions: numbers between dots, their two forms, and how a release's stands to a device's
//! (docs/protocol.md 4b, docs/decision.md "Version order"). Folder names, file names, rules and every check are
//! read with it.
//!
//! The surprise: there are two orders. Within one form a version is compared field by field; LuatOS
//! modules put the core's version in front of their script's and leave out the script's middle field, so
//! across the forms only [`standing`] knows.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

use super::date::is_date;

/// Up to five numeric fields. `v`, leading zeros and trailing zero fields do not count, so
/// `v2.0.01` = `2.0.1` = `2.0.1.0`. Field by field from the left is a total order (`Ord`); it is the
/// order of the *plain* form.
#[derive(Clone, Copy, Debug)]
pub struct Version {
    /// Missing fields are 0.
    fields: [u32; 5],
    /// The number of fields that were written, 1 to 5. Not part of the order: only [`Version::core_form`]
    /// and the text depend on it.
    written: u8,
}

impl PartialEq for Version {
    fn eq(&self, other: &Version) -> bool {
        self.fields == other.fields
    }
}

impl Eq for Version {}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Version) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Version) -> Ordering {
        self.fields.cmp(&other.fields)
    }
}

impl Hash for Version {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.fields.hash(state);
    }
}

/// A core version and the version of the script on it: `CORE.A.C` as libfota2 sends it, or `CORE.A.B.C` as
/// libfota sent it in 2023 (docs/protocol.md 9b).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoreForm {
    /// The core (firmware) version, at least 1000.
    pub core: u32,
    /// The script's version: its first and its third field.
    pub script: (u32, u32),
    /// The script's version with all of its fields, where the middle one is known.
    pub full: Option<Version>,
}

impl CoreForm {
    /// The order of the scripts of two forms: of all fields if both know them, else of the first and the third.
    pub fn cmp_script(&self, other: &CoreForm) -> Ordering {
        match (self.full, other.full) {
            (Some(this), Some(other)) => this.cmp(&other),
            _ => self.script.cmp(&other.script),
        }
    }

    /// This form as a module reports it that ran `before`: where only that one knows its middle number, it keeps it.
    pub fn with_middle_of(self, before: CoreForm) -> CoreForm {
        let (a, c) = self.script;
        let kept = before.full.map(|script| {
            let [_, middle, _, fourth, _] = script.fields;
            Version::of([a, middle, c, fourth, 0])
        });
        CoreForm {
            full: self.full.or(kept),
            ..self
        }
    }

    /// The order of this form's script and a plain version.
    pub fn cmp_plain(&self, plain: Version) -> Ordering {
        match self.full {
            // A module sends four fields of its script's version at most.
            Some(Version {
                fields: [a, b, c, d, _],
                ..
            }) => {
                let [w, x, y, z, _] = plain.fields;
                [a, b, c, d].cmp(&[w, x, y, z])
            }
            None => self.script.cmp(&plain.script()),
        }
    }
}

/// What the first field of a module's versions means if it is 1000 or more. It follows from the marker in
/// its firmware name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstField {
    /// The core's version (`_LuatOS-SoC_`).
    Core,
    /// A number like any other (every other marker).
    Number,
    /// Not known: there is no marker. Of two versions of the same form (two dates, two core forms, two plain
    /// ones) it is a number; where only one of them can be in core form, that one is.
    Unstated,
}

impl FirstField {
    /// The core forms of two versions of one module, as they are compared.
    pub fn forms(self, one: Version, other: Version) -> (Option<CoreForm>, Option<CoreForm>) {
        // A date like 20240101 is not a core's version.
        let likely = |version: Version| {
            let form = version.core_form();
            form.filter(|form| form.core <= MOST_LIKELY_CORE)
        };
        match self {
            FirstField::Core => (one.core_form(), other.core_form()),
            FirstField::Number => (None, None),
            FirstField::Unstated => match (likely(one), likely(other)) {
                (Some(_), Some(_)) => (None, None),
                forms => forms,
            },
        }
    }

    /// The core form of a version of which only this one is known.
    pub fn form(self, version: Version) -> Option<CoreForm> {
        version.core_form().filter(|_| self != FirstField::Number)
    }
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

/// The highest core version of four digits.
const MOST_LIKELY_CORE: u32 = 9999;

/// A field is below 10^9, so that it fits 32 bits whatever is done with it.
const LONGEST_FIELD: usize = 9;

/// No version that is worth reading is longer, even with fields full of leading zeros.
const LONGEST_TEXT: usize = 128;

impl Version {
    /// Reads a version as devices and folders write it: digits between dots, an optional `v` or `V`,
    /// spaces around it ignored, one to five fields of at most nine digits after leading zeros.
    /// Full-width digits and dots count as ASCII ones. A date may be written `2024-12-31`, and with a time
    /// (`202412311200`) it is two fields, `20241231.120000`. Anything else is `None`: free text, which has no
    /// order.
    pub fn parse(text: &str) -> Option<Version> {
        if text.len() > LONGEST_TEXT {
            return None;
        }
        if let Some(version) = Version::plain(text.as_bytes()) {
            return Some(version);
        }
        if let Some(version) = Version::date(text.trim()) {
            return Some(version);
        }
        let mut characters = text.trim().chars().map(narrow).peekable();
        characters.next_if(|&c| c == 'v' || c == 'V');
        let mut fields = [0; 5];
        let mut places = fields.iter_mut();
        let mut written = 0_u8;
        loop {
            let place = places.next()?;
            *place = field(&mut characters)?;
            written = written.saturating_add(1);
            match characters.next() {
                Some('.') => {}
                Some(_) => return None,
                None => return Some(Version { fields, written }),
            }
        }
    }

    /// A date in a form that other versions do not have: `2024-12-31`, `202412311200`.
    fn date(text: &str) -> Option<Version> {
        let text = text.strip_prefix(['v', 'V']).unwrap_or(text);
        let number = |text: &str| text.parse::<u32>().ok();
        if let Some((year, rest)) = text.split_once('-') {
            let (month, day) = rest.split_once('-')?;
            let lengths = [year, month, day].map(str::len);
            let is_one = lengths == [4, 2, 2] && is_date(&[year, month, day].concat());
            let fields = [number(year)?, number(month)?, number(day)?, 0, 0];
            return is_one.then(|| Version::of(fields));
        }
        let (date, time) = text.split_at_checked(8)?;
        if time.is_empty() || !is_date(text) {
            return None;
        }
        Some(Version::of([
            number(date)?,
            number(&format!("{time:0<6}"))?,
            0,
            0,
            0,
        ]))
    }

    /// The version of these fields, written with as many as are needed and three at least.
    fn of(fields: [u32; 5]) -> Version {
        let written = match fields {
            [.., 0, 0] => 3,
            [.., 0] => 4,
            _ => 5,
        };
        Version { fields, written }
    }

    /// Nearly every version: ASCII digits and dots alone, no field longer than nine. (Each check asks for it more
    /// than once.) `None`: it is to be read with more care.
    fn plain(text: &[u8]) -> Option<Version> {
        let mut fields = [0_u32; 5];
        let mut places = fields.iter_mut();
        let mut place = places.next()?;
        let mut digits = 0;
        let mut written = 1_u8;
        for byte in text {
            let digit = byte.wrapping_sub(b'0');
            if digit < 10 {
                digits += 1;
                *place = place.wrapping_mul(10).wrapping_add(u32::from(digit));
            } else if *byte == b'.' && digits > 0 {
                place = places.next()?;
                digits = 0;
                written = written.saturating_add(1);
            } else {
                return None;
            }
            if digits > LONGEST_FIELD {
                return None;
            }
        }
        (digits > 0).then_some(Version { fields, written })
    }

    /// The fields, most significant first, missing ones 0.
    pub fn fields(&self) -> [u32; 5] {
        self.fields
    }

    /// The version in core form, if its first field is 1000 or more: `CORE.A.C` with three fields at most,
    /// `CORE.A.B.C` (and `CORE.A.B.C.D`) with more.
    pub fn core_form(&self) -> Option<CoreForm> {
        let [core, a, b, c, d] = self.fields;
        if core < LEAST_CORE {
            return None;
        }
        Some(match self.written {
            ..=3 => CoreForm {
                core,
                script: (a, b),
                full: None,
            },
            _ => CoreForm {
                core,
                script: (a, c),
                full: Some(Version::of([a, b, c, d, 0])),
            },
        })
    }

    /// Of a plain version X.Y.Z what LuatOS would send: (X, Z).
    fn script(&self) -> (u32, u32) {
        let [x, _, z, ..] = self.fields;
        (x, z)
    }

    /// The version that is written `CORE.A.C`, or `CORE.A.B.C` if the middle field is known.
    pub fn of_core_form(form: CoreForm) -> Version {
        match (form.full.map(|script| script.fields), form.script) {
            (Some([a, b, c, d, _]), _) => {
                let fields = [form.core, a, b, c, d];
                let written = Version::of(fields).written.max(4);
                Version { fields, written }
            }
            (None, (a, c)) => Version::of([form.core, a, c, 0, 0]),
        }
    }

    /// The script's version of a core form, as a plain one whose middle field is 0.
    pub fn script_alone(form: CoreForm) -> Version {
        let (a, c) = form.script;
        Version::of([a, 0, c, 0, 0])
    }

    /// A plain version as far as LuatOS sends it: X.0.Z.
    pub fn without_middle(&self) -> Version {
        let (x, z) = self.script();
        Version::of([x, 0, z, 0, 0])
    }

    /// What a device that runs `device` will report once it has installed `release`: the release's
    /// own version, but a module says CORE.A.C (or CORE.A.B.C) if it did so before (a plain `2.0.1` on core
    /// 2012 comes back as `2012.2.1`), and a plain one that takes CORE.A.C comes back as A.0.C.
    pub fn after_installing(device: Version, release: Version, first: FirstField) -> Version {
        match first.forms(device, release) {
            (Some(form), None) => Version::of_core_form(CoreForm {
                core: form.core,
                script: release.script(),
                full: form.full.map(|_| release),
            }),
            (None, Some(form)) => form.full.unwrap_or_else(|| Version::script_alone(form)),
            (Some(before), Some(form)) if before.full.is_some() => {
                Version::of_core_form(form.with_middle_of(before))
            }
            _ => release,
        }
    }
}

/// As many fields as were written, and three at least: `2.0.1`, `2.0.0`, `2.0.1.7`.
impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [x, y, z, fourth, fifth] = self.fields;
        write!(f, "{x}.{y}.{z}")?;
        match self.written {
            ..=3 => Ok(()),
            4 => write!(f, ".{fourth}"),
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

/// How `release` stands to `device`, by docs/decision.md "Version order". `first`: what a first field
/// of 1000 or more means to this device.
pub fn standing(device: Version, release: Version, first: FirstField) -> Standing {
    let by_order = |order| match order {
        Ordering::Greater => Standing::Newer,
        Ordering::Equal => Standing::Same,
        Ordering::Less => Standing::Older,
    };
    match first.forms(device, release) {
        (None, None) => by_order(release.cmp(&device)),
        (Some(device), Some(release)) => {
            match (release.core.cmp(&device.core), release.cmp_script(&device)) {
                (Ordering::Equal, Ordering::Equal) => Standing::Same,
                (Ordering::Less, _) | (_, Ordering::Less) => Standing::Older,
                _ => Standing::Newer,
            }
        }
        (Some(device), None) => by_order(device.cmp_plain(release).reverse()),
        (None, Some(release)) => match release.cmp_plain(device) {
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
        standing(v(device), v(release), FirstField::Core)
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
        // Four fields say the script's middle number too (docs/protocol.md 9b), even where the last is 0.
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
    fn what_a_device_reports_afterwards_keeps_its_form() {
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
        // Small fields meet often; large first ones make core forms.
        let first = prop_oneof![0u32..4, 1000u32..1004, 999u32..1001];
        (first, 0u32..4, 0u32..4, 0u32..2, 0u32..2).prop_map(|(a, b, c, d, e)| {
            // Most versions have three fields.
            Version::of([a, b, c, d & e, d])
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
        fn whoever_took_a_newer_release_is_not_offered_it_again(
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
}
