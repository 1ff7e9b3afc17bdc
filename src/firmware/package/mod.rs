//! What kind of file is this? Headers, magic numbers, lengths, checksums (docs/protocol.md 5), and which
//! module can do anything with it. `scan` reads every file through an [`Inspector`] once; `decision`
//! asks whether a [`PackageKind`] fits a module's [`ChipFamily`].
//!
//! The surprise: a file of no known magic is a good package (2G, AT and LuatOS-Air updates have no
//! public layout), but a file that begins like a known one and then breaks is refused, because such
//! a file hangs old modules (docs/protocol.md 2c).

use md5::Md5;
use sha2::{Digest, Sha256};

use super::ContentId;
use super::name::{FileKind, file_kind};
use super::rules::Rules;

mod air105;
mod air8101;
mod eigen;
mod family;
mod mistaken;
#[cfg(test)]
mod tests;
mod w800;

pub use family::ChipFamily;

/// The kinds of package, by magic number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PackageKind {
    /// EC7xx container. `delta`: it has core data, which fit exactly one base core.
    Ec7xx {
        /// Has a core delta.
        delta: bool,
    },
    /// EC618 container, likewise.
    Ec618 {
        /// Has a core delta.
        delta: bool,
    },
    /// LuatOS on RDA8910, in the EC container. `core`: it has core data.
    Rda8910 {
        /// Has core data, whole or a delta.
        core: bool,
    },
    /// The EC container with a magic number that is not public: Air1601, Air1602. `core`: it has core data.
    Air1601 {
        /// Has the whole core.
        core: bool,
    },
    /// Air8101. `script`: only the script.
    Air8101 {
        /// Only the script.
        script: bool,
    },
    /// Air105: always the whole image.
    Air105,
    /// W800. `script`: only the script partition.
    W800 {
        /// Only the script partition.
        script: bool,
    },
    /// ESP32 application image.
    Esp32,
    /// LuaDB script image: for platforms without a FOTA container.
    LuaDb,
    /// No known magic number.
    Generic,
}

/// Every kind, for [`PackageKind::from_label`].
const KINDS: [PackageKind; 16] = [
    PackageKind::Ec7xx { delta: false },
    PackageKind::Ec7xx { delta: true },
    PackageKind::Ec618 { delta: false },
    PackageKind::Ec618 { delta: true },
    PackageKind::Rda8910 { core: false },
    PackageKind::Rda8910 { core: true },
    PackageKind::Air1601 { core: false },
    PackageKind::Air1601 { core: true },
    PackageKind::Air8101 { script: false },
    PackageKind::Air8101 { script: true },
    PackageKind::Air105,
    PackageKind::W800 { script: false },
    PackageKind::W800 { script: true },
    PackageKind::Esp32,
    PackageKind::LuaDb,
    PackageKind::Generic,
];

impl PackageKind {
    /// A word or two for tables and for the state file; [`PackageKind::from_label`] reads it back.
    pub fn label(self) -> &'static str {
        match self {
            PackageKind::Ec7xx { delta: false } => "EC7xx script",
            PackageKind::Ec7xx { delta: true } => "EC7xx core delta",
            PackageKind::Ec618 { delta: false } => "EC618 script",
            PackageKind::Ec618 { delta: true } => "EC618 core delta",
            PackageKind::Rda8910 { core: false } => "RDA8910 script",
            PackageKind::Rda8910 { core: true } => "RDA8910 core",
            PackageKind::Air1601 { core: false } => "Air1601 script",
            PackageKind::Air1601 { core: true } => "Air1601 core",
            PackageKind::Air8101 { script: false } => "Air8101 image",
            PackageKind::Air8101 { script: true } => "Air8101 script",
            PackageKind::Air105 => "Air105 image",
            PackageKind::W800 { script: false } => "W800 image",
            PackageKind::W800 { script: true } => "W800 script",
            PackageKind::Esp32 => "ESP32 image",
            PackageKind::LuaDb => "LuaDB script",
            PackageKind::Generic => "generic",
        }
    }

    /// The kind with this label.
    pub fn from_label(label: &str) -> Option<PackageKind> {
        KINDS.into_iter().find(|kind| kind.label() == label)
    }

    /// Can a module of this family do anything with it? Where the family is not known: yes.
    pub fn fits(self, family: Option<ChipFamily>) -> bool {
        let Some(family) = family else { return true };
        match self {
            PackageKind::Ec7xx { .. } => family == ChipFamily::Ec7xx,
            PackageKind::Ec618 { .. } => family == ChipFamily::Ec618,
            PackageKind::Rda8910 { .. } => family == ChipFamily::Rda8910,
            PackageKind::Air1601 { .. } => family == ChipFamily::Air1601,
            PackageKind::Air8101 { .. } => family == ChipFamily::Air8101,
            PackageKind::Air105 => family == ChipFamily::Air105,
            PackageKind::W800 { .. } => family == ChipFamily::W800,
            PackageKind::Esp32 => family == ChipFamily::Esp32,
            // Those two want their script in a container (docs/protocol.md 5b).
            PackageKind::LuaDb => !matches!(family, ChipFamily::Ec7xx | ChipFamily::Ec618),
            PackageKind::Generic => true,
        }
    }

    /// Whether it holds the whole core, so that it fits any lower one. `family`: the module's, which tells it
    /// for a file of no known layout.
    pub fn carries_core(self, family: Option<ChipFamily>) -> bool {
        match self {
            PackageKind::Air105
            | PackageKind::Esp32
            | PackageKind::W800 { script: false }
            | PackageKind::Air8101 { script: false }
            | PackageKind::Air1601 { core: true } => true,
            PackageKind::W800 { script: true }
            | PackageKind::Air8101 { script: true }
            | PackageKind::Air1601 { core: false }
            | PackageKind::Rda8910 { .. }
            | PackageKind::Ec7xx { .. }
            | PackageKind::Ec618 { .. }
            | PackageKind::LuaDb => false,
            PackageKind::Generic => family.is_some_and(ChipFamily::updates_whole),
        }
    }

    /// The sentence for a package that no module of the platform in its name can take. `None`: some can, or
    /// the platform's family is not known.
    pub fn contradicts(self, platform: Option<&str>) -> Option<String> {
        let platform = platform?;
        if self.fits(ChipFamily::of_platform(platform)) {
            return None;
        }
        Some(format!(
            "it is a package of the kind `{}`, but its name says {platform}: no module of that platform can \
             take it; export it for {platform}, or give it the name of its own platform",
            self.label()
        ))
    }

    /// The sentence for a file that has not the header of the packages of its platform, where their layout is
    /// known for certain.
    pub fn lacks_header(self, platform: Option<&str>) -> Option<String> {
        let platform = platform?;
        let known = matches!(
            ChipFamily::of_platform(platform)?,
            ChipFamily::Ec7xx
                | ChipFamily::Ec618
                | ChipFamily::Air8101
                | ChipFamily::Air1601
                | ChipFamily::Air105
                | ChipFamily::W800
        );
        (self == PackageKind::Generic && known).then(|| {
            format!(
                "does not begin like an update package for {platform}: no module of that platform can take it"
            )
        })
    }

    /// It has a core delta: it fits exactly one base core, which its name does not say.
    pub fn needs_base(self) -> bool {
        matches!(
            self,
            PackageKind::Ec7xx { delta: true } | PackageKind::Ec618 { delta: true }
        )
    }
}

impl PackageKind {
    /// The base core of a package: by its path (`in_path`), or else by the rules, if it may hold a core delta. (A
    /// script fits without one.)
    pub fn base_core(self, in_path: Option<u32>, rules: &Rules) -> Option<u32> {
        let may_have_base = self.needs_base() || self == PackageKind::Generic;
        in_path.or(rules.base_core.filter(|_| may_have_base))
    }
}

/// What one reading of a whole file found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inspected {
    /// SHA-256 of all bytes.
    pub content: ContentId,
    /// MD5 of all bytes, for a `.md5` beside the file.
    pub md5: [u8; 16],
    /// Size in bytes.
    pub size: u64,
    /// The kind of package.
    pub kind: PackageKind,
}

/// So many bytes of a file's beginning are kept: every header is shorter.
const HEAD: usize = 512;

/// Checks and hashes a file in one pass: feed it the bytes in order, then ask. It keeps the first 512
/// bytes and running hashes, never the file.
pub struct Inspector {
    /// The name alone says that this is no firmware.
    mistake: Option<&'static str>,
    size: u64,
    sha256: Sha256,
    md5: Md5,
    head: Vec<u8>,
    /// Follows the bytes once `head` is full; they say nothing before.
    body: Option<Body>,
    /// No byte so far that a text would not hold.
    text: bool,
}

impl Inspector {
    /// `name`: the file's name, for what only the ending tells.
    pub fn new(name: &str) -> Inspector {
        Inspector {
            mistake: match file_kind(name) {
                FileKind::Mistake(sentence) => Some(sentence),
                _ => None,
            },
            size: 0,
            sha256: Sha256::new(),
            md5: Md5::new(),
            head: Vec::with_capacity(HEAD),
            body: None,
            text: true,
        }
    }

    /// The next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.size = self.size.saturating_add(length(bytes));
        self.sha256.update(bytes);
        self.md5.update(bytes);
        self.text = self.text && mistaken::may_be_text(bytes);
        if let Some(body) = &mut self.body {
            body.follow(bytes);
            return;
        }
        let missing = HEAD.saturating_sub(self.head.len());
        let (first, rest) = bytes.split_at_checked(missing).unwrap_or((bytes, &[]));
        self.head.extend_from_slice(first);
        if self.head.len() >= HEAD {
            let body = self.body.insert(Body::begin(&self.head));
            body.follow(rest);
        }
    }

    /// The verdict on the whole file. The error is a sentence that says what is wrong and what to
    /// drop instead.
    pub fn finish(self) -> Result<Inspected, String> {
        let Inspector {
            mistake,
            size,
            sha256,
            md5,
            head,
            body,
            text,
        } = self;
        let kind = verdict(mistake, &head, body, text, size, true)?;
        Ok(Inspected {
            content: ContentId(sha256.finalize().into()),
            md5: md5.finalize().into(),
            size,
            kind,
        })
    }

    /// The same by the beginning alone of a file of `size` bytes: what only the rest can tell is not
    /// looked at. For who has not sent the rest yet.
    pub fn preview(self, size: u64) -> Result<PackageKind, String> {
        let whole = self.size >= size;
        verdict(self.mistake, &self.head, self.body, self.text, size, whole)
    }
}

/// The kind of a file that begins with `head`, or why it is refused.
fn verdict(
    mistake: Option<&'static str>,
    head: &[u8],
    body: Option<Body>,
    text: bool,
    size: u64,
    whole: bool,
) -> Result<PackageKind, String> {
    if let Some(sentence) = mistake {
        return Err(sentence.to_owned());
    }
    if size == 0 {
        return Err("the file is empty: copy it again".to_owned());
    }
    let body = body.unwrap_or_else(|| Body::begin(head));
    let kind = body.finish(size, whole)?;
    if kind == PackageKind::Generic {
        mistaken::refuse(head, text)?;
    }
    Ok(kind)
}

/// The part of the check that depends on the kind.
enum Body {
    Eigen(Box<eigen::Container>),
    Air8101Script(Box<air8101::Script>),
    Air8101Full(air8101::Full),
    Air105(air105::Image),
    W800(Result<w800::Header, String>),
    /// Nothing but its magic number is known.
    Plain(PackageKind),
}

impl Body {
    /// Looks at a file's beginning: all of it, or its first 512 bytes.
    fn begin(head: &[u8]) -> Body {
        match *head {
            [0x18, 0x72, 0xc3, 0xea, ..] => Body::eigen(eigen::Chip::Ec7xx, head),
            [0x16, 0x8c, 0xf1, 0xea, ..] => Body::eigen(eigen::Chip::Ec618, head),
            [0xda, 0x18, 0x88, 0x00, ..] => Body::eigen(eigen::Chip::Rda8910, head),
            [b'R', b'B', b'L', 0, ..] => Body::Air8101Full(air8101::Full::begin(head)),
            [0xb5, 0xf0, 0xe1, 0x5a, ..] => Body::Air105(air105::Image::begin(head)),
            [0x9f, 0xff, 0xff, 0xa0, ..] => Body::W800(w800::header(head)),
            [0x01, 0x04, 0x5a, 0xa5, 0x5a, 0xa5, ..] => Body::Plain(PackageKind::LuaDb),
            // One byte is no magic number: the number of segments and the flash mode must make sense
            // too.
            [0xe9, 1..=16, 0..=5, ..] => Body::Plain(PackageKind::Esp32),
            _ if head.iter().all(|byte| *byte == air8101::BLANK) => {
                Body::Air8101Script(Box::new(air8101::Script::begin(head)))
            }
            // The magic number of Air1601 is not public; the CRC of the header is proof enough.
            _ if eigen::is_signed(head) => Body::eigen(eigen::Chip::Air1601, head),
            _ => Body::Plain(PackageKind::Generic),
        }
    }

    fn eigen(chip: eigen::Chip, head: &[u8]) -> Body {
        Body::Eigen(Box::new(eigen::Container::begin(chip, head)))
    }

    /// The bytes after the head.
    fn follow(&mut self, bytes: &[u8]) {
        match self {
            Body::Eigen(container) => container.follow(bytes),
            Body::Air8101Script(script) => script.follow(bytes),
            Body::Air8101Full(full) => full.follow(bytes),
            Body::Air105(image) => image.follow(bytes),
            Body::W800(_) | Body::Plain(_) => {}
        }
    }

    /// The kind, if the file is whole.
    fn finish(self, size: u64, whole: bool) -> Result<PackageKind, String> {
        match self {
            Body::Eigen(container) => container.finish(size, whole),
            Body::Air8101Script(script) => script.finish(size, whole),
            Body::Air8101Full(full) => full.finish(size, whole),
            Body::Air105(image) => image.finish(size, whole),
            Body::W800(header) => header?.finish(size),
            Body::Plain(kind) => Ok(kind),
        }
    }
}

/// CRC-32 of zip without the final inversion, as in these headers (docs/protocol.md 5a).
fn crc32(bytes: &[u8]) -> u32 {
    !crc32fast::hash(bytes)
}

/// A length in bytes.
fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// The sentence for a file that is shorter than its header.
fn shorter_than_header(what: &str, header: usize, have: usize) -> String {
    format!(
        "the file has {have} bytes, but a whole {what} begins with a header of {header}: it was cut off, \
         copy it again"
    )
}

/// The sentence for a header whose CRC is wrong.
fn damaged_header(what: &str) -> String {
    format!(
        "the header of this {what} is damaged (its CRC does not match): export it again, and copy it \
         unchanged"
    )
}
