//! Script packages of EC7xx and EC618 modules: a header of 92 bytes, then one sector of LZMA blocks (docs/protocol.md
//! 5a, 9f).

use std::borrow::Cow;

use md5::{Digest, Md5};
use nom::bytes::complete::take;
use nom::multi::length_data;
use nom::number::complete::{le_u32, u8};
use nom::{IResult, Parser};

use super::{MAX_IMAGE, PackError, luadb, lzma};
use crate::firmware::package::crc32;

/// Magic number of EC7xx packages.
pub const EC7XX: [u8; 4] = [0x18, 0x72, 0xc3, 0xea];

/// Magic number of EC618 packages.
pub const EC618: [u8; 4] = [0x16, 0x8c, 0xf1, 0xea];

/// Size of the package's header in bytes.
const HEADER: usize = 92;

/// Size of MainVersion, AppVersion and STDVersion in bytes. All are zero.
const VERSIONS: usize = 44;

/// Maximum number of sectors that are unpacked.
const MAX_SECTORS: usize = 16;

/// Number of properties in front of a packed block.
const PROPERTIES: u8 = 5;

/// A sector of a package: an image and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sector {
    /// Address in the module's flash.
    pub start: u32,
    /// The unpacked data; empty for a delta, whose format is closed.
    pub image: Vec<u8>,
    /// Size of the packed data in bytes.
    pub packed: usize,
}

/// Builds a package from an image that goes to the address `start`.
///
/// A module treats a sector whose packed and unpacked lengths are equal as not packed (bsp_common.h), so an image
/// for which they would be equal is padded with more zeros.
pub fn package(magic: [u8; 4], start: u32, image: &[u8]) -> Result<Vec<u8>, PackError> {
    let mut image = Cow::Borrowed(image);
    let mut blocks = pack(&image)?;
    if blocks
        .as_ref()
        .is_none_or(|blocks| blocks.len() == image.len())
    {
        let length = image.len() + 1024;
        image.to_mut().resize(length, 0);
        blocks = pack(&image)?;
    }
    let blocks = blocks.ok_or_else(|| {
        PackError::new(
            "256 KiB of this script image cannot be compressed at all, and how a module reads such a block is not \
             known: let Luatools make this package, or leave compressed files (pictures, sounds) out",
        )
    })?;
    let mut sector = magic.to_vec();
    sector.extend(length(&blocks)?);
    sector.extend(length(&image)?);
    sector.extend(Md5::digest(&image));
    sector.extend(lzma::BLOCK.to_le_bytes());
    sector.extend(start.to_le_bytes());
    sector.extend(blocks);
    let mut checked = vec![0; VERSIONS];
    checked.extend(length(&sector)?);
    checked.extend([0; 4]);
    checked.extend(Md5::digest(&sector));
    // There is no core data; its MD5 stays zero.
    checked.extend([0; 16]);
    let mut package = magic.to_vec();
    package.extend(crc32(&checked).to_le_bytes());
    package.extend(checked);
    package.extend(sector);
    Ok(package)
}

/// Returns the length of some data in the form that headers have.
fn length(data: &[u8]) -> Result<[u8; 4], PackError> {
    let length = u32::try_from(data.len()).map_err(|_| luadb::too_long(data.len()))?;
    Ok(length.to_le_bytes())
}

/// Packs an image block by block. Returns `None` if a block does not get shorter.
fn pack(image: &[u8]) -> Result<Option<Vec<u8>>, PackError> {
    let mut blocks = Vec::new();
    for block in image.chunks(lzma::BLOCK as usize) {
        let packed = lzma::compress(block)?;
        if packed.len() >= block.len() {
            return Ok(None);
        }
        blocks.push(PROPERTIES);
        blocks.extend(lzma::properties());
        blocks.extend(length(&packed)?);
        blocks.extend(packed);
    }
    Ok(Some(blocks))
}

/// Whether these bytes begin like a package of EC7xx or EC618.
pub fn is_package(bytes: &[u8]) -> bool {
    bytes.starts_with(&EC7XX) || bytes.starts_with(&EC618)
}

/// Unpacks the sectors of a package and compares their MD5. The package's header is checked by
/// [`Inspector`](crate::firmware::package::Inspector).
pub fn unpack(bytes: &[u8]) -> Result<Vec<Sector>, PackError> {
    let damaged = || PackError::new("the sectors of this package are damaged: make it again");
    let header = bytes.get(..HEADER).ok_or_else(damaged)?;
    let common = header.get(52..56).and_then(|field| field.first_chunk());
    let common = common.map_or(0, |field| u32::from_le_bytes(*field));
    let common = usize::try_from(common).ok();
    let body = bytes.get(HEADER..).unwrap_or_default();
    let mut rest = common
        .and_then(|common| body.get(..common))
        .ok_or_else(damaged)?;
    let mut sectors = Vec::new();
    let mut total = 0;
    while !rest.is_empty() {
        let (after, header) = sector_header(rest).map_err(|_| damaged())?;
        let packed = usize::try_from(header.packed).unwrap_or(usize::MAX);
        let (packed, after) = after.split_at_checked(packed).ok_or_else(damaged)?;
        let length = usize::try_from(header.length).unwrap_or(usize::MAX);
        total = length.saturating_add(total);
        if total > MAX_IMAGE || sectors.len() == MAX_SECTORS {
            return Err(luadb::too_long(total));
        }
        let image = unpack_blocks(packed, length, header.block)?;
        if length > 0 && Md5::digest(&image).as_slice() != header.md5 {
            return Err(damaged());
        }
        sectors.push(Sector {
            start: header.start,
            image,
            packed: packed.len(),
        });
        rest = after;
    }
    Ok(sectors)
}

/// The header of a sector.
struct SectorHeader<'a> {
    packed: u32,
    /// Unpacked length; 0 for a delta.
    length: u32,
    md5: &'a [u8],
    block: u32,
    start: u32,
}

fn sector_header(input: &[u8]) -> IResult<&[u8], SectorHeader<'_>> {
    let (rest, (_magic, packed, length, md5, block, start)) =
        (le_u32, le_u32, le_u32, take(16_usize), le_u32, le_u32).parse(input)?;
    let header = SectorHeader {
        packed,
        length,
        md5,
        block,
        start,
    };
    Ok((rest, header))
}

/// Unpacks the blocks of an image of `length` bytes.
fn unpack_blocks(mut packed: &[u8], length: usize, block: u32) -> Result<Vec<u8>, PackError> {
    let block = usize::try_from(block).unwrap_or(usize::MAX);
    let mut image = Vec::new();
    while !packed.is_empty() && image.len() < length {
        let damaged = |_| PackError::new("a block of this package is damaged: make it again");
        let (rest, (properties, data)) = block_data(packed).map_err(damaged)?;
        let left = length.saturating_sub(image.len());
        match properties.try_into() {
            Ok(properties) => {
                image.extend(lzma::decompress(properties, data, left.min(block))?);
            }
            Err(_) => {
                return Err(PackError::new(format!(
                    "a block has {} bytes of LZMA properties, and known packages have {PROPERTIES}",
                    properties.len()
                )));
            }
        }
        packed = rest;
    }
    Ok(image)
}

/// Parses the properties of a block and its packed data.
fn block_data(input: &[u8]) -> IResult<&[u8], (&[u8], &[u8])> {
    (length_data(u8), length_data(le_u32)).parse(input)
}
