//! The grammar of names (nom): what a module calls its firmware, and what a path in the firmware
//! folder says about the file (docs/decision.md "Folder grammar", docs/protocol.md 5c). `decision` reads the
//! names that modules send with it, `scan` and `catalog` the paths of files.
//!
//! The surprise: a project's name may hold anything but a comma, underscores included, so every name
//! is taken apart from its right end, never from its left.

use std::borrow::Cow;
use std::ops::Deref;

use memchr::memrchr_iter;
use nom::branch::alt;
use nom::bytes::complete::tag;
use nom::character::complete::{digit1, one_of};
use nom::combinator::{eof, opt};
use nom::sequence::{preceded, terminated};
use nom::{IResult, Parser};

mod place;
#[cfg(test)]
mod tests;

pub use place::{Place, RulesPlace, place, rules_place};

/// What a module says in `firmware_name` (or in the UDP field of that meaning), taken apart at the
/// rightmost `_LuatOS-SoC_` or `_Luat_` (docs/protocol.md 1, "Encoding and formats").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FirmwareName<'a> {
    /// The project: what stands before the marker, or the whole text where there is none.
    pub project: &'a str,
    /// `Some(true)` with `_LuatOS-SoC_`, `Some(false)` with `_Luat_`, `None` with neither.
    pub luatos: Option<bool>,
    /// The core version: `V0035_8955` → 35. RDA8910 and LuatOS send it elsewhere.
    pub core: Option<u32>,
    /// The platform: `8955`, `RDA8910_FLOAT`, `EC618`, `Air780EPM`, …
    pub platform: Option<&'a str>,
}

/// A firmware name as a module sent it. Its marker is looked for once, when it is made: what a check says
/// is asked for many times.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SentName<'a> {
    text: Cow<'a, str>,
    marker: Option<Marker>,
}

/// Where the rightmost marker begins, and which it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Marker {
    at: usize,
    luatos: bool,
}

impl Marker {
    fn text(self) -> &'static str {
        if self.luatos { LUATOS } else { LUAT }
    }

    /// What stands before it and behind it.
    fn cut(self, text: &str) -> (&str, &str) {
        let (left, rest) = text.split_at_checked(self.at).unwrap_or((text, ""));
        (left, rest.get(self.text().len()..).unwrap_or_default())
    }
}

impl SentName<'_> {
    /// The project alone: [`FirmwareName::project`].
    pub fn project(&self) -> &str {
        match self.marker {
            Some(marker) => marker.cut(&self.text).0,
            None => &self.text,
        }
    }

    /// Which marker it has: [`FirmwareName::luatos`].
    pub fn luatos(&self) -> Option<bool> {
        self.marker.map(|marker| marker.luatos)
    }

    /// Takes it apart. Never fails: a text without a marker is all project.
    ///
    /// `USER_SERVER_Luat_V0035_8955` → project `USER_SERVER`, core 35, platform `8955`;
    /// `X_LuatOS-SoC_Air780EPM` → project `X`, no core, platform `Air780EPM`.
    pub fn parts(&self) -> FirmwareName<'_> {
        let (core, platform) = match self.marker {
            Some(marker) => core_and_platform(marker.cut(&self.text).1, marker.luatos),
            None => (None, None),
        };
        FirmwareName {
            project: self.project(),
            luatos: self.luatos(),
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

/// Marks a LuatOS name.
const LUATOS: &str = "_LuatOS-SoC_";
/// Marks a Luat name.
const LUAT: &str = "_Luat_";

/// The rightmost marker: `A_Luat_V0035_8955` → at 1. Both begin with `_`, and the one that begins last also
/// ends last.
fn marker(text: &str) -> Option<Marker> {
    let bytes = text.as_bytes();
    memrchr_iter(b'_', bytes).find_map(|at| {
        let rest = bytes.get(at..)?;
        let luatos = rest.starts_with(LUATOS.as_bytes());
        (luatos || rest.starts_with(LUAT.as_bytes())).then_some(Marker { at, luatos })
    })
}

/// What stands behind the marker: `V0035_8955_SSL` → core 35, platform `8955_SSL`; `EC618` → no core,
/// platform `EC618`; `V1004` → core 1004, no platform. libfota2 cuts the platform at the first `-`
/// (docs/protocol.md 1g), so a LuatOS name is cut there in any case.
fn core_and_platform(text: &str, luatos: bool) -> (Option<u32>, Option<&str>) {
    let (platform, digits) = opt(core_digits).parse(text).unwrap_or((text, None));
    let platform = if luatos {
        platform.split('-').next().unwrap_or(platform)
    } else {
        platform
    };
    // More digits than a u32 holds are no core version, but still no part of the platform.
    let core = digits.and_then(|digits| digits.parse().ok());
    (core, Some(platform).filter(|platform| !platform.is_empty()))
}

/// `V0035_` or a `V0035` at the end → `0035`.
fn core_digits(input: &str) -> IResult<&str, &str> {
    terminated(preceded(one_of("Vv"), digit1), alt((tag("_"), eof))).parse(input)
}

/// What a file is, by its name alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// `.bin .ota .fota .sota .img` (`.dfota.bin` too).
    Firmware,
    /// `release.json`.
    Rules,
    /// `X.sha256` or `X.md5` of a firmware file X.
    Checksum,
    /// A kind that people drop by mistake; the sentence says what to drop instead.
    Mistake(&'static str),
    /// Starts with `.`, or is being copied: `*.part *.tmp *.filepart *.crdownload *~`.
    Ignored,
    /// Not firmware; left alone, and listed by `check`.
    Other,
}

/// The endings of firmware; the longest that fits comes first.
const FIRMWARE: [&str; 6] = [".dfota.bin", ".bin", ".ota", ".fota", ".sota", ".img"];

/// The endings of checksum files.
const CHECKSUM: [&str; 2] = [".sha256", ".md5"];

/// The endings of files that are being copied.
const UNFINISHED: [&str; 5] = [".part", ".tmp", ".filepart", ".crdownload", "~"];

const FACTORY: &str = "this is a factory file, made for flashing over a cable: in Luatools choose \
    生成差分/升级文件 (export the FOTA/upgrade file) and drop the .bin that it makes";
const CORE: &str = "this is a core for flashing over a cable, no update: in Luatools choose \
    生成差分/升级文件 (export the FOTA/upgrade file) and drop the .bin that it makes";
const ARCHIVE: &str = "this is an archive, and modules cannot unpack one: unpack it and drop the .bin that \
    is in it";
const HEX: &str = "this is a text form of an image, which modules cannot read: drop the binary (.bin) of the \
    update";
const PROGRAM: &str = "this is a program for a PC: drop the .bin of the update";
const RULES_AS_TEXT: &str =
    "rules are only read from a file named release.json: take the last ending off its name";

/// What people drop by mistake.
const MISTAKES: [(&str, &str); 12] = [
    (".soc", FACTORY),
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
    // Windows hides the last ending, so its user sees `release.json`.
    (".json.txt", RULES_AS_TEXT),
];

/// Classifies a file name (without its folders). Endings are read in any case.
///
/// `update.BIN` → firmware, `update.bin.sha256` → checksum, `x.soc` → a mistake.
pub fn file_kind(name: &str) -> FileKind {
    let ends = |ending: &&str| without_ending(name, ending).is_some();
    if name.starts_with('.') || UNFINISHED.iter().any(ends) {
        FileKind::Ignored
    } else if name.eq_ignore_ascii_case("release.json") {
        // In any case: rules that are not read keep nobody out.
        FileKind::Rules
    } else if firmware_stem(name).is_some() {
        FileKind::Firmware
    } else if CHECKSUM
        .iter()
        .filter_map(|ending| without_ending(name, ending))
        .any(|file| firmware_stem(file).is_some())
    {
        FileKind::Checksum
    } else if let Some((_, sentence)) = MISTAKES.iter().find(|(ending, _)| ends(ending)) {
        FileKind::Mistake(sentence)
    } else {
        FileKind::Other
    }
}

/// `x.dfota.bin` → `x`; `None` if it is no firmware by its name.
fn firmware_stem(name: &str) -> Option<&str> {
    FIRMWARE
        .iter()
        .find_map(|ending| without_ending(name, ending))
}

/// `("x.BIN", ".bin")` → `x`, if something is left.
fn without_ending<'a>(name: &'a str, ending: &str) -> Option<&'a str> {
    let at = name.len().checked_sub(ending.len())?;
    let (stem, tail) = name.split_at_checked(at)?;
    (tail.eq_ignore_ascii_case(ending) && !stem.is_empty()).then_some(stem)
}
