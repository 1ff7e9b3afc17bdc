//! The container of EC7xx and EC618 modules (the chips' maker is Eigencomm), which RDA8910 and Air1601 use
//! with another magic number: a header of 92 bytes,
//! then the common data (the script), then the SDK data (a delta of the core) (docs/protocol.md 5a).
//!
//! The surprise: modules themselves do not compare all that the header says, so a damaged script
//! would be flashed. All of it is compared here.

use md5::{Digest, Md5};
use nom::bytes::complete::take;
use nom::number::complete::le_u32;
use nom::{IResult, Parser};

use super::{PackageKind, crc32, damaged_header, shorter_than_header};

/// Bytes in the header.
const HEADER: usize = 92;

/// Bytes in front of the data of a sector: magic, TotalLen, DataLen, MD5 (16 bytes), BlockLen, StartAddress.
const SECTOR_HEADER: usize = 36;

/// What the header says, little-endian, in its order.
struct Header {
    crc: u32,
    common_len: u32,
    sdk_len: u32,
    common_md5: [u8; 16],
    sdk_md5: [u8; 16],
}

/// Reads the 92 bytes: magic, CRC32 of what follows, MainVersion (20 bytes), AppVersion (4),
/// STDVersion (20), two lengths, two MD5.
fn header(input: &[u8]) -> IResult<&[u8], Header> {
    let (input, (_magic, crc, _versions)) = (le_u32, le_u32, take(44usize)).parse(input)?;
    let (input, (common_len, sdk_len)) = (le_u32, le_u32).parse(input)?;
    let (input, (common_md5, sdk_md5)) = (md5_field, md5_field).parse(input)?;
    let header = Header {
        crc,
        common_len,
        sdk_len,
        common_md5,
        sdk_md5,
    };
    Ok((input, header))
}

/// Whether this is a header whose CRC matches, whatever the magic number.
pub(super) fn is_signed(head: &[u8]) -> bool {
    header(head).is_ok_and(|(_, header)| head.get(8..HEADER).map(crc32) == Some(header.crc))
}

/// Sixteen bytes.
fn md5_field(input: &[u8]) -> IResult<&[u8], [u8; 16]> {
    let mut md5 = [0; 16];
    let (input, bytes) = take(md5.len()).parse(input)?;
    md5.copy_from_slice(bytes);
    Ok((input, md5))
}

/// Which chip the container is for; the header is the same but for the magic number.
#[derive(Clone, Copy)]
pub(super) enum Chip {
    Ec7xx,
    Ec618,
    /// LuatOS on it; the updates of LuatOS-Air have another layout.
    Rda8910,
    /// Air1601 and Air1602.
    Air1601,
}

impl Chip {
    fn kind(self, delta: bool) -> PackageKind {
        match self {
            Chip::Ec7xx => PackageKind::Ec7xx { delta },
            Chip::Ec618 => PackageKind::Ec618 { delta },
            Chip::Rda8910 => PackageKind::Rda8910 { core: delta },
            Chip::Air1601 => PackageKind::Air1601 { core: delta },
        }
    }

    /// The magic number of its sectors, where their layout is known (docs/protocol.md 5a).
    fn sector_magic(self) -> Option<[u8; 4]> {
        match self {
            Chip::Ec7xx => Some([0x18, 0x72, 0xc3, 0xea]),
            Chip::Ec618 => Some([0x16, 0x8c, 0xf1, 0xea]),
            Chip::Rda8910 | Chip::Air1601 => None,
        }
    }

    fn package(self) -> &'static str {
        match self {
            Chip::Ec7xx => "EC7xx package",
            Chip::Ec618 => "EC618 package",
            Chip::Rda8910 => "RDA8910 package",
            Chip::Air1601 => "Air1601 package",
        }
    }
}

/// A file that begins with the magic number of such a container.
pub(super) struct Container {
    chip: Chip,
    header: Result<Header, String>,
    common: Part,
    sectors: Option<Sectors>,
    sdk: Part,
}

impl Container {
    /// `head`: the file's first 512 bytes, or all of it.
    pub(super) fn begin(chip: Chip, head: &[u8]) -> Container {
        let what = chip.package();
        let (header, body) = match header(head) {
            Ok((body, header)) => {
                if head.get(8..HEADER).map(crc32) == Some(header.crc) {
                    (Ok(header), body)
                } else {
                    (Err(damaged_header(what)), body)
                }
            }
            Err(_) => (Err(shorter_than_header(what, HEADER, head.len())), &[][..]),
        };
        let lengths = header
            .as_ref()
            .map_or((0, 0), |header| (header.common_len, header.sdk_len));
        let mut container = Container {
            chip,
            header,
            common: Part::new(lengths.0),
            sectors: chip.sector_magic().map(Sectors::new),
            sdk: Part::new(lengths.1),
        };
        container.follow(body);
        container
    }

    /// The bytes after those given to `begin`.
    pub(super) fn follow(&mut self, bytes: &[u8]) {
        let (common, rest) = self.common.take(bytes);
        if let Some(sectors) = &mut self.sectors {
            sectors.follow(common);
        }
        // What is left over after this makes the file too long; `finish` says so.
        self.sdk.take(rest);
    }

    /// `size`: of the whole file. `whole`: all of it was seen, not only its beginning.
    pub(super) fn finish(self, size: u64, whole: bool) -> Result<PackageKind, String> {
        let what = self.chip.package();
        let header = self.header?;
        let data = u64::from(header.common_len) + u64::from(header.sdk_len);
        let expected = HEADER as u64 + data;
        if size != expected {
            let remedy = if size < expected {
                "it was cut off, copy it again"
            } else {
                "something was added to it, export it again"
            };
            return Err(format!(
                "the header of this {what} says {expected} bytes, but the file has {size}: {remedy}"
            ));
        }
        if data == 0 {
            return Err(format!(
                "this {what} is a header with nothing behind it: export it again"
            ));
        }
        for (part, md5, data) in [
            (self.common, header.common_md5, "script"),
            (self.sdk, header.sdk_md5, "core"),
        ] {
            if whole && part.length > 0 && part.md5() != md5 {
                return Err(format!(
                    "the {data} data in this {what} are damaged (their MD5 does not match the \
                     header's): copy the file again"
                ));
            }
        }
        if whole && self.sectors.is_some_and(|sectors| !sectors.end_here()) {
            return Err(format!(
                "the lengths of the sectors in this {what} do not add up to the {} bytes of script data that \
                 its header says: export it again",
                header.common_len
            ));
        }
        Ok(self.chip.kind(header.sdk_len > 0))
    }
}

/// One of the two parts behind the header.
struct Part {
    length: u32,
    left: usize,
    md5: Md5,
}

impl Part {
    fn new(length: u32) -> Part {
        Part {
            length,
            left: usize::try_from(length).unwrap_or(usize::MAX),
            md5: Md5::new(),
        }
    }

    /// Takes what belongs to this part; returns that and the rest.
    fn take<'b>(&mut self, bytes: &'b [u8]) -> (&'b [u8], &'b [u8]) {
        let (mine, rest) = bytes.split_at_checked(self.left).unwrap_or((bytes, &[]));
        self.left = self.left.saturating_sub(mine.len());
        self.md5.update(mine);
        (mine, rest)
    }

    fn md5(self) -> [u8; 16] {
        self.md5.finalize().into()
    }
}

/// The sectors of the common data, followed by their lengths. Data that do not begin with the magic number of a
/// sector have another layout, of which nothing is known.
struct Sectors {
    magic: [u8; 4],
    /// The header of the sector that is under way, as far as it was seen.
    header: Vec<u8>,
    /// Bytes of its data that are still to come.
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

    /// The next bytes of the common data.
    fn follow(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.is_known {
            let in_data = self.left > 0;
            let wanted = match in_data {
                true => self.left,
                false => SECTOR_HEADER.saturating_sub(self.header.len()),
            };
            let (mine, rest) = bytes.split_at_checked(wanted).unwrap_or((bytes, &[]));
            bytes = rest;
            if in_data {
                self.left = self.left.saturating_sub(mine.len());
            } else {
                self.header.extend_from_slice(mine);
                self.read_header();
            }
        }
    }

    /// Goes on with the data, if the header is complete.
    fn read_header(&mut self) {
        let start = self.header.get(..self.magic.len());
        if self.is_first && start.is_some_and(|start| start != self.magic) {
            self.is_known = false;
        }
        if self.header.len() < SECTOR_HEADER {
            return;
        }
        let total = self.header.get(4..8).and_then(|bytes| bytes.first_chunk());
        let total = total.map_or(0, |bytes| u32::from_le_bytes(*bytes));
        self.left = usize::try_from(total).unwrap_or(usize::MAX);
        self.header.clear();
        self.is_first = false;
    }

    /// Whether the last sector ends where the data end.
    fn end_here(&self) -> bool {
        let is_short = self.is_first && self.header.len() < self.magic.len();
        !self.is_known || is_short || (self.header.is_empty() && self.left == 0)
    }
}
