//! Versions: numbers separated by dots, in two forms, and the comparison of a release's version with that of a device
//! (docs/protocol.md 4b, docs/decision.md "Version order"). Used for folder names, file names, rules and every check.
//!
//! There are two orders. Versions of the same form are compared field by field. LuatOS modules put the core version in
//! front of the script version and omit the script's middle field, so only [`standing`] compares versions of different
//! forms.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

use super::date::is_date;

/// Up to five numeric fields. `v`, leading zeros and trailing zero fields are not significant, so `v2.0.01` = `2.0.1` =
/// `2.0.1.0`. The total order (`Ord`) compares field by field from the left; it is the order of the *plain* form.
#[derive(Clone, Copy, Debug)]
pub struct Version {
    /// Missing fields are 0.
    fields: [u32; 5],
    /// Number of fields that were written, 1 to 5. Not part of the order: only [`Version::core_form`] and the text
    /// depend on this number.
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

/// A core version and the version of the script on that core: `CORE.A.C` as libfota2 sends it, or `CORE.A.B.C` as
/// libfota sent it in 2023 (docs/protocol.md 9b).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoreForm {
    /// Core version, at least 1000.
    pub core: u32,
    /// First and third field of the script version.
    pub script: (u32, u32),
    /// The script version with all fields, if the middle field is known.
    pub full: Option<Version>,
}

impl CoreForm {
    /// Compares the scripts of two forms by all fields if both have them, otherwise by the first and third.
    pub fn cmp_script(&self, other: &CoreForm) -> Ordering {
        match (self.full, other.full) {
            (Some(this), Some(other)) => this.cmp(&other),
            _ => self.script.cmp(&other.script),
        }
    }

    /// Returns this form as reported by a module that ran `before`. A middle number that only `before` has is kept.
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

    /// Compares the script of this form with a plain version.
    pub fn cmp_plain(&self, plain: Version) -> Ordering {
        match self.full {
            // A module sends at most four fields of its script version.
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

/// Meaning of the first field of a module's versions if that field is 1000 or more. Depends on the marker in the
/// firmware name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstField {
    /// The core version (`_LuatOS-SoC_`).
    Core,
    /// A number without special meaning (every other marker).
    Number,
    /// Unknown, because there is no marker. If two versions have the same form (two dates, two core forms, two plain
    /// ones), the field is a number. If only one of them can be in core form, that version is.
    Unstated,
}

impl FirstField {
    /// Returns the core forms in which two versions of one module are compared.
    pub fn forms(self, one: Version, other: Version) -> (Option<CoreForm>, Option<CoreForm>) {
        // A date such as 20240101 is no core version.
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

    /// Returns the core form of a version if there is no second version to compare it with.
    pub fn form(self, version: Version) -> Option<CoreForm> {
        version.core_form().filter(|_| self != FirstField::Number)
    }
}

/// Result of comparing a release with what the device runs, by version only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The release is newer.
    Newer,
    /// The versions are equal.
    Same,
    /// The release is older, or neither newer nor older (script up, core down).
    Older,
    /// The release names a core and the device did not report its own: only `any_core` may offer the release.
    CoreUnknown,
}

/// Lowest core version. Core versions have four digits, and no field of a script version has more than three
/// (docs/protocol.md 4b).
const LEAST_CORE: u32 = 1000;

/// The highest core version of four digits.
const MOST_LIKELY_CORE: u32 = 9999;

/// Maximum number of significant digits of a field. Every field is below 10^9 and fits 32 bits.
const LONGEST_FIELD: usize = 9;

/// Maximum length of a version in bytes. No useful version is longer, even with fields full of leading zeros.
const LONGEST_TEXT: usize = 128;

impl Version {
    /// Parses a version as devices and folders write it: digits separated by dots, an optional `v` or `V`, surrounding
    /// spaces, one to five fields of at most nine digits after leading zeros. Full-width digits and dots count as
    /// ASCII. A date may be written `2024-12-31`, and with a time (`202412311200`) it is two fields, `20241231.120000`.
    /// Returns `None` for any other text, which has no order.
    pub fn parse(text: &str) -> Option<Version> {
        if text.len() > LONGEST_TEXT {
            return None;
        }
        if let Some(version) = Version::date(text.trim()) {
            return Some(version);
        }
        let mut characters = text.trim().chars().map(to_half_width).peekable();
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

    /// Parses a date in a form that other versions do not have: `2024-12-31`, `202412311200`.
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

    /// Creates a version of these fields, written with as many fields as necessary and at least three.
    fn of(fields: [u32; 5]) -> Version {
        let written = match fields {
            [.., 0, 0] => 3,
            [.., 0] => 4,
            _ => 5,
        };
        Version { fields, written }
    }

    /// The fields, most significant first; missing fields are 0.
    pub fn fields(&self) -> [u32; 5] {
        self.fields
    }

    /// The version in core form, if its first field is 1000 or more: `CORE.A.C` if at most three fields were written,
    /// otherwise `CORE.A.B.C` (or `CORE.A.B.C.D`).
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

    /// The part of a plain version X.Y.Z that LuatOS would send: (X, Z).
    fn script(&self) -> (u32, u32) {
        let [x, _, z, ..] = self.fields;
        (x, z)
    }

    /// Creates the version that is written `CORE.A.C`, or `CORE.A.B.C` if the middle field is known.
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

    /// The script version of a core form as a plain version, with 0 as the middle field.
    pub fn script_version(form: CoreForm) -> Version {
        let (a, c) = form.script;
        Version::of([a, 0, c, 0, 0])
    }

    /// The part of a plain version that LuatOS sends, as a version: X.0.Z.
    pub fn without_middle(&self) -> Version {
        let (x, z) = self.script();
        Version::of([x, 0, z, 0, 0])
    }

    /// Version that a device running `device` will report after it has installed `release`. This is the release's own
    /// version, with two exceptions: a module that reported CORE.A.C (or CORE.A.B.C) reports a plain version in that
    /// form (`2.0.1` on core 2012 as `2012.2.1`), and a module with a plain version that installs CORE.A.C reports
    /// A.0.C.
    pub fn after_installing(device: Version, release: Version, first: FirstField) -> Version {
        match first.forms(device, release) {
            (Some(form), None) => Version::of_core_form(CoreForm {
                core: form.core,
                script: release.script(),
                full: form.full.map(|_| release),
            }),
            (None, Some(form)) => form.full.unwrap_or_else(|| Version::script_version(form)),
            (Some(before), Some(form)) if before.full.is_some() => {
                Version::of_core_form(form.with_middle_of(before))
            }
            _ => release,
        }
    }
}

/// Writes as many fields as were written, and at least three: `2.0.1`, `2.0.0`, `2.0.1.7`.
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

/// Converts a full-width character to ASCII: an input method left in full-width mode writes `２．０．１`.
fn to_half_width(c: char) -> char {
    match c {
        '\u{ff01}'..='\u{ff5e}' => u32::from(c)
            .checked_sub(0xfee0)
            .and_then(char::from_u32)
            .unwrap_or(c),
        // The dot key produces the ideographic full stop while Chinese is typed.
        '\u{3002}' => '.',
        _ => c,
    }
}

/// Parses one field: `007` → 7. At least one digit, and at most nine after the leading zeros.
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

/// Compares `release` with `device` by docs/decision.md "Version order". `first` is the meaning of a first field of
/// 1000 or more for this device.
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
mod tests;
