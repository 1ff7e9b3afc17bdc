//! Script packages of Air8101: erased flash, `TAUL`, a length, and the image with a CRC-16 after every 32 bytes
//! (docs/protocol.md 9f).

use super::{MAX_IMAGE, PackError};
use crate::firmware::package::crc16;

/// Number of bytes of erased flash at the beginning.
const BLANKS: usize = 1024;

/// Magic number after the erased flash.
const MAGIC: &[u8; 4] = b"TAUL";

/// Number of bytes in front of the image.
const HEADER: usize = BLANKS + 8;

/// Number of bytes of the image that have one CRC.
const BLOCK: usize = 32;

/// Number of bytes of a block with its CRC.
const CODED: usize = BLOCK + 2;

/// Adds the CRCs. The last block is padded with zeros.
pub fn encode(image: &[u8]) -> Vec<u8> {
    let mut coded = Vec::with_capacity(coded_length(image.len()));
    for block in image.chunks(BLOCK) {
        let start = coded.len();
        coded.extend(block);
        coded.resize(start + BLOCK, 0);
        let crc = crc16(coded.get(start..).unwrap_or_default());
        coded.extend(crc.to_be_bytes());
    }
    coded
}

/// Number of bytes of an image of `length` bytes with its CRCs.
pub fn coded_length(length: usize) -> usize {
    length.div_ceil(BLOCK).saturating_mul(CODED)
}

/// Removes the CRCs. Returns `None` if one of them is wrong, or if a block is incomplete.
pub fn decode(coded: &[u8]) -> Option<Vec<u8>> {
    if coded.is_empty() || !coded.len().is_multiple_of(CODED) {
        return None;
    }
    let mut image = Vec::with_capacity(coded.len() / CODED * BLOCK);
    for block in coded.chunks(CODED) {
        let (data, crc) = block.split_at_checked(BLOCK)?;
        if crc != crc16(data).to_be_bytes() {
            return None;
        }
        image.extend(data);
    }
    Some(image)
}

/// Builds a package from an image.
pub fn package(image: &[u8]) -> Result<Vec<u8>, PackError> {
    let coded = encode(image);
    let length = u32::try_from(coded.len()).map_err(|_| super::luadb::too_long(image.len()))?;
    let mut package = vec![0xff; BLANKS];
    package.extend(MAGIC);
    package.extend(length.to_le_bytes());
    package.extend(coded);
    Ok(package)
}

/// Whether these bytes begin like a package of Air8101.
pub fn is_package(bytes: &[u8]) -> bool {
    let magic = bytes.get(BLANKS..BLANKS + MAGIC.len());
    magic == Some(MAGIC) && bytes.iter().take(BLANKS).all(|byte| *byte == 0xff)
}

/// Returns the image in a package, with its padding.
pub fn unpack(bytes: &[u8]) -> Result<Vec<u8>, PackError> {
    let coded = bytes
        .split_at_checked(HEADER)
        .filter(|(_, coded)| is_package(bytes) && coded.len() <= coded_length(MAX_IMAGE))
        .map(|(_, coded)| coded);
    let image = coded.and_then(decode);
    image.ok_or_else(|| {
        PackError::new(
            "this Air8101 script package is damaged: its header or the CRC of a block is wrong; make it again",
        )
    })
}
