//! The packages of Air8101 (docs/protocol.md 9f): the script package (`TAUL`) and the full package (`RBL`).

use crc32fast::Hasher;
use nom::bytes::complete::{tag, take};
use nom::number::complete::le_u32;
use nom::{IResult, Parser};

use super::{PackageKind, damaged_header, length, shorter_than_header};

/// The byte of erased flash, with which a script package begins.
pub(super) const BLANK: u8 = 0xff;

/// How many of those there are.
const BLANKS: usize = 1024;

/// What stands behind them, before a length of 4 bytes.
const MAGIC: &[u8; 4] = b"TAUL";

/// Bytes before the script.
const HEADER: usize = BLANKS + 8;

/// Bytes of the script that one CRC-16 is of.
const BLOCK: usize = 32;

/// The first bytes of the script: a LuaDB image.
const LUADB: [u8; 6] = [0x01, 0x04, 0x5a, 0xa5, 0x5a, 0xa5];

const SCRIPT: &str = "Air8101 script package";

/// The CRC of a block: polynomial 0x8005, start 0xffff, not reflected, no final exclusive or.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xffff, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte) << 8, |crc: u16, _| match crc >> 15 {
            0 => crc << 1,
            _ => crc << 1 ^ 0x8005,
        })
    })
}

/// A file whose first 512 bytes (or all of it) are blank: a script package, unless it goes on otherwise.
pub(super) struct Script {
    /// The header, as far as it was seen.
    header: Vec<u8>,
    /// The block that is under way, with its CRC.
    block: Vec<u8>,
    /// Where the first damaged block begins, counted from the start of the file.
    damaged: Option<u64>,
    /// Bytes seen behind the header.
    seen: u64,
    is_luadb: bool,
}

impl Script {
    pub(super) fn begin(head: &[u8]) -> Script {
        let mut script = Script {
            header: Vec::with_capacity(HEADER),
            block: Vec::with_capacity(BLOCK + 2),
            damaged: None,
            seen: 0,
            is_luadb: true,
        };
        script.follow(head);
        script
    }

    /// The bytes after those given to `begin`.
    pub(super) fn follow(&mut self, bytes: &[u8]) {
        let missing = HEADER.saturating_sub(self.header.len());
        let (first, mut rest) = bytes.split_at_checked(missing).unwrap_or((bytes, &[]));
        self.header.extend_from_slice(first);
        while !rest.is_empty() {
            let missing = (BLOCK + 2).saturating_sub(self.block.len());
            let (first, others) = rest.split_at_checked(missing).unwrap_or((rest, &[]));
            self.block.extend_from_slice(first);
            rest = others;
            if self.block.len() == BLOCK + 2 {
                self.check_block();
            }
        }
    }

    fn check_block(&mut self) {
        let (data, crc) = self.block.split_at_checked(BLOCK).unwrap_or_default();
        if self.seen == 0 {
            self.is_luadb = data.starts_with(&LUADB);
        }
        if crc != crc16(data).to_be_bytes() {
            self.damaged.get_or_insert(length(&self.header) + self.seen);
        }
        self.seen = self.seen.saturating_add(length(&self.block));
        self.block.clear();
    }

    /// `size`: of the whole file. `whole`: all of it was seen, not only its beginning.
    pub(super) fn finish(self, size: u64, whole: bool) -> Result<PackageKind, String> {
        let (blanks, rest) = match self.header.split_at_checked(BLANKS) {
            Some((blanks, rest)) => (blanks, rest),
            None => (&*self.header, &[][..]),
        };
        let begins_so = MAGIC.starts_with(rest.get(..MAGIC.len()).unwrap_or(rest));
        if !blanks.iter().all(|byte| *byte == BLANK) || !begins_so {
            return Ok(PackageKind::Generic);
        }
        let Some(bytes) = rest.get(MAGIC.len()..).and_then(|rest| rest.first_chunk()) else {
            return match whole {
                true => Err(shorter_than_header(SCRIPT, HEADER, self.header.len())),
                false => Ok(PackageKind::Generic),
            };
        };
        let expected = (HEADER as u64).saturating_add(u32::from_le_bytes(*bytes).into());
        if size != expected {
            let remedy = match size < expected {
                true => "it was cut off, copy it again",
                false => "something was added to it, export it again",
            };
            return Err(format!(
                "the header of this {SCRIPT} says {expected} bytes, but the file has {size}: {remedy}"
            ));
        }
        if expected == HEADER as u64 {
            return Err(format!(
                "this {SCRIPT} is a header with nothing behind it: export it again"
            ));
        }
        if let Some(at) = self.damaged {
            return Err(format!(
                "this {SCRIPT} is damaged at byte {at} (the CRC of that block does not match): copy the \
                 file again"
            ));
        }
        if !self.is_luadb {
            return Err(format!(
                "this {SCRIPT} holds no LuaDB image: export it again"
            ));
        }
        Ok(PackageKind::Air8101 { script: true })
    }
}

/// Bytes in the header of a full package.
const RBL_HEADER: usize = 96;

/// The header's CRC is of the bytes before it.
const RBL_CHECKED: usize = 92;

const FULL: &str = "Air8101 full package";

/// What the header of a full package says that can be checked.
struct Rbl {
    body_crc: u32,
    body_len: u32,
    crc: u32,
}

/// Reads the 96 bytes: magic, 72 bytes that only the module understands, CRC32 of the body, 8 more such
/// bytes, length of the body, CRC32 of all before it.
fn rbl(input: &[u8]) -> IResult<&[u8], Rbl> {
    let (input, (_magic, _names)) = (tag(&b"RBL\0"[..]), take(72usize)).parse(input)?;
    let (input, (body_crc, _raw)) = (le_u32, take(8usize)).parse(input)?;
    let (input, (body_len, crc)) = (le_u32, le_u32).parse(input)?;
    let header = Rbl {
        body_crc,
        body_len,
        crc,
    };
    Ok((input, header))
}

/// A file that begins with the magic number of a full package.
pub(super) struct Full {
    header: Result<Rbl, String>,
    body: Hasher,
    /// Bytes of the body that are still to come.
    left: usize,
}

impl Full {
    /// `head`: the file's first 512 bytes, or all of it.
    pub(super) fn begin(head: &[u8]) -> Full {
        let (header, body) = match rbl(head) {
            Ok((body, header)) => match head.get(..RBL_CHECKED).map(sum) {
                Some(sum) if is_sum(sum, header.crc) => (Ok(header), body),
                _ => (Err(damaged_header(FULL)), body),
            },
            Err(_) => (
                Err(shorter_than_header(FULL, RBL_HEADER, head.len())),
                &[][..],
            ),
        };
        let left = header.as_ref().map_or(0, |header| header.body_len);
        let mut full = Full {
            header,
            body: Hasher::new(),
            left: usize::try_from(left).unwrap_or(usize::MAX),
        };
        full.follow(body);
        full
    }

    /// The bytes after those given to `begin`.
    pub(super) fn follow(&mut self, bytes: &[u8]) {
        let mine = bytes.get(..self.left).unwrap_or(bytes);
        self.left = self.left.saturating_sub(mine.len());
        self.body.update(mine);
    }

    /// `size`: of the whole file. `whole`: all of it was seen, not only its beginning. A longer file may be
    /// padded.
    pub(super) fn finish(self, size: u64, whole: bool) -> Result<PackageKind, String> {
        let header = self.header?;
        let expected = (RBL_HEADER as u64).saturating_add(header.body_len.into());
        if size < expected {
            return Err(format!(
                "the header of this {FULL} says {expected} bytes, but the file has {size}: it was cut off, \
                 copy it again"
            ));
        }
        if header.body_len == 0 {
            return Err(format!(
                "this {FULL} is a header with nothing behind it: export it again"
            ));
        }
        if whole && !is_sum(!self.body.finalize(), header.body_crc) {
            return Err(format!(
                "the data in this {FULL} are damaged (their CRC does not match the header's): copy the \
                 file again"
            ));
        }
        Ok(PackageKind::Air8101 { script: false })
    }
}

fn sum(bytes: &[u8]) -> u32 {
    super::crc32(bytes)
}

/// Is `said` the CRC32 whose sum without the final inversion is `bare`? The sources do not say whether these
/// headers have that inversion, so both are taken.
fn is_sum(bare: u32, said: u32) -> bool {
    said == bare || said == !bare
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crc_of_a_block_is_that_of_the_packages() {
        // CRC-16/CMS of the check string.
        assert_eq!(crc16(b"123456789"), 0xaee7);
    }
}
