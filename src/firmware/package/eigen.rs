//! Container of EC7xx and EC618 modules (the maker of the chips is Eigencomm), which RDA8910 and Air1601 use with
//! another magic number: a header of 92 bytes, then the common data (the script), then the SDK data (a delta of the
//! core) (docs/protocol.md 5a).
//!
//! Modules do not compare everything that the header states, so they would flash a damaged script. Here everything is
//! compared.

use md5::{Digest, Md5};

use super::{
    FormatCheck, PackageKind, check_length, crc32, damaged_header, header, missing_data, split,
    u32_at,
};

/// Size of the header in bytes: magic, CRC32 of the following bytes, MainVersion (20 bytes), AppVersion (4), STDVersion
/// (20), two lengths, two MD5.
const HEADER: usize = 92;

/// Positions of the length and the MD5 of the common data and of the SDK data.
const COMMON: (usize, usize) = (52, 60);
const SDK: (usize, usize) = (56, 76);

/// Number of bytes before the data of a sector: magic, TotalLen, DataLen, MD5 (16 bytes), BlockLen, StartAddress.
const SECTOR_HEADER: usize = 36;

/// Modules that a container is for. The headers differ only in the magic number.
struct ContainerKind {
    label: &'static str,
    magic: [u8; 4],
    /// Whether the sectors have the same magic number. Otherwise their layout is unknown.
    has_sectors: bool,
    /// Returns the kind; the argument is whether there are SDK data.
    kind: fn(bool) -> PackageKind,
}

static KINDS: [ContainerKind; 3] = [
    ContainerKind {
        label: "EC7xx package",
        magic: [0x18, 0x72, 0xc3, 0xea],
        has_sectors: true,
        kind: |delta| PackageKind::Ec7xx { delta },
    },
    ContainerKind {
        label: "EC618 package",
        magic: [0x16, 0x8c, 0xf1, 0xea],
        has_sectors: true,
        kind: |delta| PackageKind::Ec618 { delta },
    },
    // LuatOS on RDA8910. The packages of LuatOS-Air have another layout.
    ContainerKind {
        label: "RDA8910 package",
        magic: [0xda, 0x18, 0x88, 0x00],
        has_sectors: false,
        kind: |core| PackageKind::Rda8910 { core },
    },
];

/// The magic number is not public. A header whose CRC matches is sufficient.
static AIR1601: ContainerKind = ContainerKind {
    label: "Air1601 package",
    magic: [0; 4],
    has_sectors: false,
    kind: |core| PackageKind::Air1601 { core },
};

/// Whether the header's CRC matches.
fn is_signed(header: &[u8]) -> bool {
    header.get(8..).map(crc32) == Some(u32_at(header, 4))
}

/// Validation of such a container.
pub(super) struct ContainerCheck {
    kind: &'static ContainerKind,
    header: Result<(), String>,
    common: DigestedPart,
    sectors: Option<Sectors>,
    sdk: DigestedPart,
}

impl ContainerCheck {
    /// Returns `None` if the file has no magic number of a container.
    pub(super) fn begin(head: &[u8]) -> Option<ContainerCheck> {
        let kind = KINDS.iter().find(|kind| head.starts_with(&kind.magic))?;
        Some(ContainerCheck::new(kind, head))
    }

    /// Returns `None` if the file is no container with any magic number.
    pub(super) fn begin_signed(head: &[u8]) -> Option<ContainerCheck> {
        let is_one = head.get(..HEADER).is_some_and(is_signed);
        is_one.then(|| ContainerCheck::new(&AIR1601, head))
    }

    fn new(kind: &'static ContainerKind, head: &[u8]) -> ContainerCheck {
        let header = header(kind.label, HEADER, head).and_then(|header| {
            let damaged = || damaged_header(kind.label);
            is_signed(header).then_some(header).ok_or_else(damaged)
        });
        let fields = header.as_ref().map_or(&[][..], |header| header);
        let mut check = ContainerCheck {
            kind,
            common: DigestedPart::new(fields, COMMON),
            sectors: kind.has_sectors.then(|| Sectors::new(kind.magic)),
            sdk: DigestedPart::new(fields, SDK),
            header: header.map(drop),
        };
        let (_, body) = split(head, HEADER);
        check.update(body);
        check
    }
}

impl FormatCheck for ContainerCheck {
    fn update(&mut self, bytes: &[u8]) {
        let (common, rest) = self.common.take(bytes);
        if let Some(sectors) = &mut self.sectors {
            sectors.update(common);
        }
        // Bytes after both parts make the file too long, which `finish` reports.
        self.sdk.take(rest);
    }

    fn finish(self: Box<Self>, size: u64, whole: bool) -> Result<PackageKind, String> {
        let ContainerKind { label, kind, .. } = self.kind;
        self.header?;
        let (common, sdk) = (self.common.length, self.sdk.length);
        let data = u64::from(common) + u64::from(sdk);
        check_length(label, HEADER as u64 + data, size, false)?;
        if data == 0 {
            return Err(missing_data(label));
        }
        for (part, data) in [(self.common, "script"), (self.sdk, "core")] {
            if whole && !part.intact() {
                return Err(format!(
                    "the {data} data in this {label} are damaged (their MD5 does not match the \
                     header's): copy the file again"
                ));
            }
        }
        if whole && self.sectors.is_some_and(|sectors| !sectors.end_here()) {
            return Err(format!(
                "the lengths of the sectors in this {label} do not add up to the {common} bytes of script data \
                 that its header states: export it again"
            ));
        }
        Ok(kind(sdk > 0))
    }
}

/// One of the two parts after the header.
struct DigestedPart {
    length: u32,
    /// Number of bytes that are still to come.
    left: usize,
    md5: Md5,
    expected: Vec<u8>,
}

impl DigestedPart {
    fn new(header: &[u8], (length, md5): (usize, usize)) -> DigestedPart {
        let length = u32_at(header, length);
        DigestedPart {
            length,
            left: usize::try_from(length).unwrap_or(usize::MAX),
            md5: Md5::new(),
            expected: header
                .get(md5..)
                .unwrap_or_default()
                .iter()
                .take(16)
                .copied()
                .collect(),
        }
    }

    /// Takes the bytes that belong to this part. Returns them and the rest.
    fn take<'b>(&mut self, bytes: &'b [u8]) -> (&'b [u8], &'b [u8]) {
        let (mine, rest) = split(bytes, self.left);
        self.left -= mine.len();
        self.md5.update(mine);
        (mine, rest)
    }

    fn intact(self) -> bool {
        self.length == 0 || self.md5.finalize().as_slice() == self.expected
    }
}

/// Sectors of the common data, with their lengths. Data that do not begin with the magic number of a sector have
/// another, unknown layout.
struct Sectors {
    magic: [u8; 4],
    /// The part of the current sector's header that was seen.
    header: Vec<u8>,
    /// Number of bytes of the sector's data that are still to come.
    left: usize,
    is_first: bool,
    is_known: bool,
}

impl Sectors {
    fn new(magic: [u8; 4]) -> Sectors {
        Sectors {
            magic,
            header: Vec::with_capacity(SECTOR_HEADER),
            left: 0,
            is_first: true,
            is_known: true,
        }
    }

    /// Adds the next bytes of the common data.
    fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.is_known {
            if self.left > 0 {
                let (data, rest) = split(bytes, self.left);
                self.left -= data.len();
                bytes = rest;
            } else {
                let (header, rest) = split(bytes, SECTOR_HEADER - self.header.len());
                self.header.extend_from_slice(header);
                bytes = rest;
                self.read_header();
            }
        }
    }

    /// Continues with the data if the header is complete.
    fn read_header(&mut self) {
        let start = self.header.get(..self.magic.len());
        if self.is_first && start.is_some_and(|start| start != self.magic) {
            self.is_known = false;
        }
        if self.header.len() == SECTOR_HEADER {
            self.left = usize::try_from(u32_at(&self.header, 4)).unwrap_or(usize::MAX);
            self.header.clear();
            self.is_first = false;
        }
    }

    /// Whether the last sector ends at the end of the data.
    fn end_here(&self) -> bool {
        let is_short = self.is_first && self.header.len() < self.magic.len();
        !self.is_known || is_short || (self.header.is_empty() && self.left == 0)
    }
}
