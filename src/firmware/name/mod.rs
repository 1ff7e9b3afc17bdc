//! Grammar of names (nom): parses the firmware names that modules send, and the paths in the firmware folder
//! (docs/decision.md "Folder grammar", docs/protocol.md 5c). `decision` parses the names that modules send, `scan` and
//! `catalog` the paths of files.
//!
//! A project name may contain any character except a comma, so underscores too. Therefore every name is parsed from the
//! right.

use std::borrow::Cow;
use std::ops::Deref;

use nom::branch::alt;
use nom::bytes::complete::tag;
use nom::character::complete::{digit1, one_of};
use nom::combinator::{eof, opt};
use nom::sequence::{preceded, terminated};
use nom::{IResult, Parser};

mod path;
#[cfg(test)]
mod tests;

pub use path::{FirmwarePath, RulesOwner, firmware_path, rules_owner};

use super::audience::group_of_file;
use super::date::{is_date, is_time};
use super::version::{FirstField, Version};

/// Separator between project and core in a firmware name (docs/protocol.md 9a).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Marker {
    /// `_LuatOS-SoC_`: LuatOS on EC618, EC7xx, ESP32, … The only marker with versions that begin with the core version.
    SoC,
    /// `_LuatOS-Air_`: Air724U since core V3104.
    Air,
    /// `_LuatOS-HMI_`: Air724U with a display.
    Hmi,
    /// `_Luat_`: first edition and LuaTask.
    Luat,
    /// `_CSDK_`: C firmware on the same modules.
    Csdk,
}

impl Marker {
    /// All markers.
    pub const ALL: [Marker; 5] = [
        Marker::SoC,
        Marker::Air,
        Marker::Hmi,
        Marker::Luat,
        Marker::Csdk,
    ];

    /// The text of the marker.
    pub fn text(self) -> &'static str {
        match self {
            Marker::SoC => "_LuatOS-SoC_",
            Marker::Air => "_LuatOS-Air_",
            Marker::Hmi => "_LuatOS-HMI_",
            Marker::Luat => "_Luat_",
            Marker::Csdk => "_CSDK_",
        }
    }

    /// The meaning of a first version field of 1000 or more for this marker, or without a marker.
    pub fn first_field(marker: Option<Marker>) -> FirstField {
        match marker {
            Some(Marker::SoC) => FirstField::Core,
            Some(_) => FirstField::Number,
            None => FirstField::Unstated,
        }
    }
}

/// Parts of a module's `firmware_name` (or of the equivalent UDP field), split at the rightmost marker
/// (docs/protocol.md 1, "Encoding and formats").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FirmwareName<'a> {
    /// Project: the text before the marker, or the whole text if there is no marker.
    pub project: &'a str,
    /// Marker; `None` if there is none.
    pub marker: Option<Marker>,
    /// Version in front of the project: `1.0.1_P_CSDK_EC618` → `1.0.1`.
    pub version: Option<&'a str>,
    /// Core version: `V0035_8955` → 35. RDA8910 and LuatOS send it elsewhere.
    pub core: Option<u32>,
    /// Platform: `8955`, `RDA8910_FLOAT`, `EC618`, `Air780EPM`, …
    pub platform: Option<&'a str>,
}

/// Firmware name as a module sent it. The marker is searched once, on creation, because the parts of a name are read
/// many times during a check.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SentName<'a> {
    text: Cow<'a, str>,
    marker: Option<MarkerPosition>,
}

/// Position of the rightmost marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct MarkerPosition {
    at: usize,
    marker: Marker,
}

impl MarkerPosition {
    /// Returns the text before and after the marker.
    fn cut(self, text: &str) -> (&str, &str) {
        let (left, rest) = text.split_at_checked(self.at).unwrap_or((text, ""));
        let behind = rest.get(self.marker.text().len()..);
        (left, behind.unwrap_or_default())
    }

    /// Returns the version and project before the marker: `1.0.1_P_CSDK_EC618` → `1.0.1` and `P`. Only CSDK names have
    /// a version there.
    fn version_and_project(self, text: &str) -> (Option<&str>, &str) {
        let left = text.get(..self.at).unwrap_or(text);
        if self.marker != Marker::Csdk {
            return (None, left);
        }
        let first = left.split_once('_').filter(|(version, project)| {
            let reads_so = version.contains('.') && Version::parse(version).is_some();
            reads_so && !project.is_empty()
        });
        match first {
            Some((version, project)) => (Some(version), project),
            None => (None, left),
        }
    }
}

impl SentName<'_> {
    /// Makes the whole name the project, although a part of it looks like a marker.
    pub fn treat_as_project(&mut self) {
        self.marker = None;
    }

    /// The project: [`FirmwareName::project`].
    pub fn project(&self) -> &str {
        match self.marker {
            Some(found) => found.version_and_project(&self.text).1,
            None => &self.text,
        }
    }

    /// The marker: [`FirmwareName::marker`].
    pub fn marker(&self) -> Option<Marker> {
        self.marker.map(|found| found.marker)
    }

    /// Splits the name into its parts. Never fails: a text without a marker is only a project.
    ///
    /// `USER_SERVER_Luat_V0035_8955` → project `USER_SERVER`, core 35, platform `8955`; `X_LuatOS-SoC_Air780EPM` →
    /// project `X`, no core, platform `Air780EPM`.
    pub fn parts(&self) -> FirmwareName<'_> {
        let Some(found) = self.marker else {
            return FirmwareName {
                project: &self.text,
                ..FirmwareName::default()
            };
        };
        let (version, project) = found.version_and_project(&self.text);
        let (core, platform) = core_and_platform(found.cut(&self.text).1, found.marker);
        FirmwareName {
            project,
            marker: Some(found.marker),
            version,
            core,
            platform,
        }
    }
}

impl<'a, T: Into<Cow<'a, str>>> From<T> for SentName<'a> {
    fn from(text: T) -> SentName<'a> {
        let text = text.into();
        let marker = marker(&text);
        SentName { text, marker }
    }
}

impl Deref for SentName<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}

/// Finds the rightmost marker: `A_Luat_V0035_8955` → at 1. Each marker contains `_` only at its beginning and end, so
/// the marker that begins last also ends last. Only markers with `LuatOS-` are case-insensitive, because `_luat_` may
/// be part of a project name.
fn marker(text: &str) -> Option<MarkerPosition> {
    text.rmatch_indices('_').find_map(|(at, _)| {
        let rest = text.as_bytes().get(at..)?;
        let begins = |marker: &Marker| {
            let text = marker.text().as_bytes();
            let start = rest.get(..text.len());
            start.is_some_and(|start| match marker {
                Marker::Luat | Marker::Csdk => start == text,
                Marker::SoC | Marker::Air | Marker::Hmi => start.eq_ignore_ascii_case(text),
            })
        };
        let marker = Marker::ALL.into_iter().find(begins)?;
        Some(MarkerPosition { at, marker })
    })
}

/// Splits the text after the marker: `V0035_8955_SSL` → core 35, platform `8955_SSL`; `EC618` → no core, platform
/// `EC618`; `V1004` → core 1004, no platform. libfota2 cuts the platform at the first `-` (docs/protocol.md 1g), so the
/// platform of a LuatOS name is always cut there. A build stamp is no part of the platform.
fn core_and_platform(text: &str, marker: Marker) -> (Option<u32>, Option<&str>) {
    let (platform, digits) = opt(core_digits).parse(text).unwrap_or((text, None));
    let platform = match marker {
        Marker::SoC => platform.split('-').next().unwrap_or(platform),
        _ => platform,
    };
    let platform = without_stamp(platform);
    // A number that does not fit into a u32 is no core version, but still no part of the platform.
    let core = digits.and_then(|digits| digits.parse().ok());
    (core, Some(platform).filter(|platform| !platform.is_empty()))
}

/// Removes a build stamp: `Air780EPM_202509011200` → `Air780EPM`. Date and time may be two parts
/// (`Air780EPM_20250901_1200`). Other endings (`_8`, `_FOTA`) are kept.
fn without_stamp(platform: &str) -> &str {
    let cut = |text: &str, is_stamp: fn(&str) -> bool| {
        text.rsplit_once('_')
            .filter(|(before, last)| !before.is_empty() && is_stamp(last))
            .map(|(before, _)| before.len())
    };
    let whole = cut(platform, is_date).or_else(|| {
        let date = platform.get(..cut(platform, is_time)?)?;
        cut(date, is_date)
    });
    whole
        .and_then(|end| platform.get(..end))
        .unwrap_or(platform)
}

/// Parses the digits of a core: `V0035_`, or `V0035` at the end → `0035`.
fn core_digits(input: &str) -> IResult<&str, &str> {
    terminated(preceded(one_of("Vv"), digit1), alt((tag("_"), eof))).parse(input)
}

/// Kind of a file, judging by its name only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// `.bin .ota .fota .sota .img` (`.dfota.bin` too).
    Firmware,
    /// `release.json`.
    Rules,
    /// `X.sha256` or `X.md5` of a firmware file X.
    Checksum,
    /// `@NAME.txt`: a group of devices.
    Group,
    /// A kind of file that people put into the folder by mistake. The sentence says which file to use instead.
    Mistake(&'static str),
    /// `.soc`: a factory file of LuatOS. `luat-ota pack` builds a package of the script in it.
    Soc,
    /// Name of a hidden file (starts with `.`) or of an unfinished copy (`*.part`, `*.partial`, `*.tmp`, `*.filepart`,
    /// `*.crdownload`, `*~`).
    Ignored,
    /// Conflict copy that a synchronisation program makes of a file that two machines changed at the same time.
    Conflict,
    /// A file that is no firmware; ignored, and listed by `luat-ota check`.
    Other,
}

impl FileKind {
    /// Returns the sentence about a file that was put into the folder by mistake. `path` is shown in the sentence.
    pub fn mistake(self, path: &str) -> Option<String> {
        match self {
            FileKind::Mistake(sentence) => Some(sentence.to_owned()),
            FileKind::Soc => Some(format!(
                "this is a factory file, made for flashing over a cable: build the package of its script \
                 with `{}`, or in Luatools choose 生成差分/升级文件 (export the FOTA/upgrade file), and use the .bin",
                pack_command(path)
            )),
            _ => None,
        }
    }
}

/// Returns the command that builds the package of a `.soc` file.
pub fn pack_command(path: &str) -> String {
    format!("luat-ota pack {}", shell_word(path))
}

/// Quotes a text as one word for a shell, if it needs quotes.
pub fn shell_word(text: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./+=,".contains(c);
    match !text.starts_with('-') && text.chars().all(is_plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

/// Endings of firmware files; a longer ending comes before a shorter one that it contains.
const FIRMWARE: [&str; 6] = [".dfota.bin", ".bin", ".ota", ".fota", ".sota", ".img"];

/// Endings of checksum files.
const CHECKSUM: [&str; 2] = [".sha256", ".md5"];

/// Endings of files that are still being copied.
const UNFINISHED: [&str; 6] = [".part", ".partial", ".tmp", ".filepart", ".crdownload", "~"];

/// Lower-case parts of the names of conflict copies: that of Syncthing, and that of Dropbox and Nextcloud.
const CONFLICT: [&str; 2] = [".sync-conflict-2", "conflicted copy"];

const FACTORY: &str = "this is a factory file, made for flashing over a cable: in Luatools choose \
    生成差分/升级文件 (export the FOTA/upgrade file) and use the .bin that it makes";
const CORE: &str = "this is a core for flashing over a cable, not an update: in Luatools choose \
    生成差分/升级文件 (export the FOTA/upgrade file) and use the .bin that it makes";
const ARCHIVE: &str =
    "this is an archive, and modules cannot unpack one: unpack it and use the .bin in it";
const HEX: &str = "this is a text form of an image, which modules cannot read: use the binary (.bin) of the \
    update";
const STAMPED: &str = "a server or a browser has added something to the end of the name: rename it so that it \
    ends in `.bin` (or its former ending) again";
const PROGRAM: &str = "this is a program for a PC: use the .bin of the update";
const NO_GROUP: &str = "a group of devices is read from a file `@NAME.txt`, whose name has only letters, digits, `_` \
    and `-` and ends in `.txt` in small letters: rename it";
const RULES_AS_TEXT: &str =
    "rules are only read from a file named release.json: remove the last ending from its name";

/// Endings of files that people put into the folder by mistake, each with the sentence about it.
const MISTAKES: [(&str, &str); 11] = [
    (".binpkg", FACTORY),
    (".lod", CORE),
    (".pac", CORE),
    (".blf", CORE),
    (".zip", ARCHIVE),
    (".7z", ARCHIVE),
    (".rar", ARCHIVE),
    (".gz", ARCHIVE),
    (".hex", HEX),
    (".exe", PROGRAM),
    // Windows hides the last ending and shows `release.json`.
    (".json.txt", RULES_AS_TEXT),
];

/// Classifies a file name (without its folders). Endings are case-insensitive.
///
/// `update.BIN` → firmware, `update.bin.sha256` → checksum, `x.zip` → a mistake.
pub fn file_kind(name: &str) -> FileKind {
    let ends = |ending: &&str| without_ending(name, ending).is_some();
    if name.starts_with('.') || UNFINISHED.iter().any(ends) {
        FileKind::Ignored
    } else if is_conflict(name) {
        FileKind::Conflict
    } else if name.eq_ignore_ascii_case("release.json") {
        // Case-insensitive, because rules that are ignored would restrict no device.
        FileKind::Rules
    } else if group_of_file(name).is_some() {
        FileKind::Group
    } else if firmware_stem(name).is_some() {
        FileKind::Firmware
    } else if CHECKSUM
        .iter()
        .filter_map(|ending| without_ending(name, ending))
        .any(|file| firmware_stem(file).is_some())
    {
        FileKind::Checksum
    } else if ends(&".soc") {
        FileKind::Soc
    } else if let Some((_, sentence)) = MISTAKES.iter().find(|(ending, _)| ends(ending)) {
        FileKind::Mistake(sentence)
    } else if name.starts_with('@') && ends(&".txt") {
        FileKind::Mistake(NO_GROUP)
    } else if is_stamped(name) {
        FileKind::Mistake(STAMPED)
    } else {
        FileKind::Other
    }
}

/// Whether the name is that of a conflict copy, such as `update.sync-conflict-20261129-120000-ABCDEFG.bin` or `update
/// (conflicted copy 2026-11-29).bin`.
fn is_conflict(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    CONFLICT.iter().any(|part| name.contains(part))
}

/// Whether the name is that of a firmware file with an added suffix, such as `x.bin_20250623184110381812`,
/// `x.bin_0f3a9c5e`, `x.bin.1`, `x.bin (2)` or `x.bin?sign=…`.
fn is_stamped(name: &str) -> bool {
    let added = |c: char| c.is_ascii_digit() || matches!(c, '_' | '-' | '.' | ' ' | '(' | ')');
    // A query may contain any character. Some programs write its `?` as `%3F`.
    let end = name.find(['?', '&', '=', '@', '%']);
    let whole = name.len();
    let (name, _) = name
        .split_at_checked(end.unwrap_or(whole))
        .unwrap_or((name, ""));
    let is_hash = |text: &str| text.len() >= 8 && text.bytes().all(|b| b.is_ascii_hexdigit());
    let kept = match name.rsplit_once(['_', '-', '.']) {
        Some((before, last)) if is_hash(last) => before,
        _ => name,
    };
    let kept = kept.trim_end_matches(added);
    kept.len() < whole && firmware_stem(kept).is_some()
}

/// Removes the ending of a firmware file: `x.dfota.bin` → `x`; `None` if the name is not that of firmware.
fn firmware_stem(name: &str) -> Option<&str> {
    FIRMWARE
        .iter()
        .find_map(|ending| without_ending(name, ending))
}

/// Removes an ending: `("x.BIN", ".bin")` → `x`; `None` if the name has another ending or nothing is left.
fn without_ending<'a>(name: &'a str, ending: &str) -> Option<&'a str> {
    let at = name.len().checked_sub(ending.len())?;
    let (stem, tail) = name.split_at_checked(at)?;
    (tail.eq_ignore_ascii_case(ending) && !stem.is_empty()).then_some(stem)
}
