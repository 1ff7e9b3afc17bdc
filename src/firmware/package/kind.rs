//! Kinds of package, and which module can use each.

use super::ChipFamily;
use crate::firmware::rules::Rules;

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

/// Every kind, with a word or two for tables and for the state file.
pub(super) const LABELS: [(PackageKind, &str); 16] = [
    (PackageKind::Ec7xx { delta: false }, "EC7xx script"),
    (PackageKind::Ec7xx { delta: true }, "EC7xx core delta"),
    (PackageKind::Ec618 { delta: false }, "EC618 script"),
    (PackageKind::Ec618 { delta: true }, "EC618 core delta"),
    (PackageKind::Rda8910 { core: false }, "RDA8910 script"),
    (PackageKind::Rda8910 { core: true }, "RDA8910 core"),
    (PackageKind::Air1601 { core: false }, "Air1601 script"),
    (PackageKind::Air1601 { core: true }, "Air1601 core"),
    (PackageKind::Air8101 { script: false }, "Air8101 image"),
    (PackageKind::Air8101 { script: true }, "Air8101 script"),
    (PackageKind::Air105, "Air105 image"),
    (PackageKind::W800 { script: false }, "W800 image"),
    (PackageKind::W800 { script: true }, "W800 script"),
    (PackageKind::Esp32, "ESP32 image"),
    (PackageKind::LuaDb, "LuaDB script"),
    (PackageKind::Generic, "generic"),
];

impl PackageKind {
    /// A word or two for tables and for the state file; [`PackageKind::from_label`] reads it back.
    pub fn label(self) -> &'static str {
        let own = LABELS.iter().find(|(kind, _)| *kind == self);
        own.map_or("generic", |(_, label)| label)
    }

    /// The kind with this label.
    pub fn from_label(label: &str) -> Option<PackageKind> {
        let own = LABELS.iter().find(|(_, other)| *other == label);
        own.map(|(kind, _)| *kind)
    }

    /// The only family of chips that can use it; `None`: more than one can.
    fn family(self) -> Option<ChipFamily> {
        match self {
            PackageKind::Ec7xx { .. } => Some(ChipFamily::Ec7xx),
            PackageKind::Ec618 { .. } => Some(ChipFamily::Ec618),
            PackageKind::Rda8910 { .. } => Some(ChipFamily::Rda8910),
            PackageKind::Air1601 { .. } => Some(ChipFamily::Air1601),
            PackageKind::Air8101 { .. } => Some(ChipFamily::Air8101),
            PackageKind::Air105 => Some(ChipFamily::Air105),
            PackageKind::W800 { .. } => Some(ChipFamily::W800),
            PackageKind::Esp32 => Some(ChipFamily::Esp32),
            PackageKind::LuaDb | PackageKind::Generic => None,
        }
    }

    /// Whether a module of this family can use it. True where the family is not known.
    pub fn fits(self, family: Option<ChipFamily>) -> bool {
        let Some(family) = family else { return true };
        match self {
            // Those two want their script in a container (docs/protocol.md 5b).
            PackageKind::LuaDb => !matches!(family, ChipFamily::Ec7xx | ChipFamily::Ec618),
            _ => self.family().is_none_or(|own| own == family),
        }
    }

    /// Whether it holds the whole core, so that it fits any lower one. `family`: the module's, which tells it
    /// for a file of no known layout.
    pub fn carries_core(self, family: Option<ChipFamily>) -> bool {
        match self {
            PackageKind::Generic => family.is_some_and(ChipFamily::updates_whole),
            _ => matches!(
                self,
                PackageKind::Air105
                    | PackageKind::Esp32
                    | PackageKind::W800 { script: false }
                    | PackageKind::Air8101 { script: false }
                    | PackageKind::Air1601 { core: true }
            ),
        }
    }

    /// The sentence for a package that no module of the platform in its name can use. `None`: some can, or
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

    /// The sentence for a file without the header of the packages of its platform, where their layout is
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
                "does not begin like a package for {platform}: no module of that platform can take it"
            )
        })
    }

    /// Whether it has a core delta: it fits exactly one base core, which its bytes do not say.
    pub fn needs_base(self) -> bool {
        matches!(
            self,
            PackageKind::Ec7xx { delta: true } | PackageKind::Ec618 { delta: true }
        )
    }

    /// The base core of a package: by its path (`in_path`), or else by the rules, if it may hold a core delta.
    /// (A script fits without one.)
    pub fn base_core(self, in_path: Option<u32>, rules: &Rules) -> Option<u32> {
        let may_have_base = self.needs_base() || self == PackageKind::Generic;
        in_path.or(rules.base_core.filter(|_| may_have_base))
    }
}
