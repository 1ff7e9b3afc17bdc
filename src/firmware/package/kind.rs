//! Kinds of package, and the modules that can install each.

use super::ChipFamily;
use crate::firmware::rules::Rules;

/// The kinds of package, by magic number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PackageKind {
    /// EC7xx container. With `delta` it has core data, which fit exactly one base core.
    Ec7xx {
        /// Whether the container has a core delta.
        delta: bool,
    },
    /// EC618 container, with core data as in an EC7xx container.
    Ec618 {
        /// Whether the container has a core delta.
        delta: bool,
    },
    /// LuatOS on RDA8910, in the EC container.
    Rda8910 {
        /// Whether the container has core data, whole or a delta.
        core: bool,
    },
    /// EC container with a magic number that is not public: Air1601, Air1602.
    Air1601 {
        /// Whether the container has the whole core.
        core: bool,
    },
    /// Air8101 package.
    Air8101 {
        /// Whether the package has only the script.
        script: bool,
    },
    /// Air105 image, always whole.
    Air105,
    /// W800 image.
    W800 {
        /// Whether the image has only the script partition.
        script: bool,
    },
    /// ESP32 application image.
    Esp32,
    /// LuaDB image with a script, for platforms without a FOTA container.
    LuaDb,
    /// File without a known magic number.
    Generic,
}

/// All kinds, each with a short label for tables and for the state file.
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
    /// A short label for tables and for the state file. [`PackageKind::from_label`] parses it.
    pub fn label(self) -> &'static str {
        let own = LABELS.iter().find(|(kind, _)| *kind == self);
        own.map_or("generic", |(_, label)| label)
    }

    /// The kind with this label.
    pub fn from_label(label: &str) -> Option<PackageKind> {
        let own = LABELS.iter().find(|(_, other)| *other == label);
        own.map(|(kind, _)| *kind)
    }

    /// The only chip family that can use the package; `None` if several can.
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

    /// Whether a module of this family can use the package. True if the family is unknown.
    pub fn fits(self, family: Option<ChipFamily>) -> bool {
        let Some(family) = family else { return true };
        match self {
            // Both families need the script in a container (docs/protocol.md 5b).
            PackageKind::LuaDb => !matches!(family, ChipFamily::Ec7xx | ChipFamily::Ec618),
            _ => self.family().is_none_or(|own| own == family),
        }
    }

    /// Whether the package contains the whole core, so that it fits any lower core. `family` is that of the module; it
    /// decides for a file without a known layout.
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

    /// Returns the sentence about a package that no module of the platform in its name can use; `None` if some can, or
    /// if the platform's family is unknown.
    pub fn platform_conflict(self, platform: Option<&str>) -> Option<String> {
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

    /// Returns the sentence about a file without the header of its platform's packages, if their layout is certain.
    pub fn missing_header(self, platform: Option<&str>) -> Option<String> {
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

    /// Whether the package has a core delta. It then fits exactly one base core, which its bytes do not contain.
    pub fn needs_base(self) -> bool {
        matches!(
            self,
            PackageKind::Ec7xx { delta: true } | PackageKind::Ec618 { delta: true }
        )
    }

    /// The base core of a package: from its path (`in_path`), otherwise from the rules if the package may contain a
    /// core delta. A script fits any core.
    pub fn base_core(self, in_path: Option<u32>, rules: &Rules) -> Option<u32> {
        let may_have_base = self.needs_base() || self == PackageKind::Generic;
        in_path.or(rules.base_core.filter(|_| may_have_base))
    }
}
