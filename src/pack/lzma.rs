//! Blocks of LZMA data with the properties that EC7xx and EC618 modules unpack (docs/protocol.md 9f).
//!
//! The encoder needs about 4 MiB of memory for a block. The decoder's memory is bounded before it is allocated.

use std::io::{Read, Write};

use lzma_rust2::{EncodeMode, LzmaOptions, LzmaReader, LzmaWriter, MfType};

use super::PackError;

/// Maximum number of unpacked bytes of a block, and size of the dictionary in bytes.
pub(super) const BLOCK: u32 = 0x40000;

/// Maximum size of the dictionary of a block to unpack, in bytes.
const MAX_DICTIONARY: u32 = 1 << 20;

/// Returns the properties: lc 3, lp 1, pb 2, then the size of the dictionary.
pub(super) fn properties() -> [u8; 5] {
    let [a, b, c, d] = BLOCK.to_le_bytes();
    [0x66, a, b, c, d]
}

/// Packs a block: raw LZMA1 without an end mark. The same input gives the same bytes.
pub(super) fn compress(block: &[u8]) -> Result<Vec<u8>, PackError> {
    let options = LzmaOptions {
        dict_size: BLOCK,
        lc: 3,
        lp: 1,
        pb: 2,
        mode: EncodeMode::Normal,
        // These are the values of the vendor's tool.
        nice_len: 32,
        mf: MfType::Bt4,
        depth_limit: 0,
        preset_dict: None,
    };
    let pack = || -> std::io::Result<Vec<u8>> {
        let mut writer = LzmaWriter::new_no_header(Vec::new(), &options, false)?;
        writer.write_all(block)?;
        writer.finish()
    };
    pack().map_err(|error| PackError::new(format!("LZMA cannot pack the script: {error}")))
}

/// Unpacks a block of `length` bytes. `properties` has the layout of [`properties`].
pub(super) fn decompress(
    properties: [u8; 5],
    packed: &[u8],
    length: usize,
) -> Result<Vec<u8>, PackError> {
    let [first, dictionary @ ..] = properties;
    let dictionary = u32::from_le_bytes(dictionary);
    if dictionary > MAX_DICTIONARY {
        return Err(PackError::new(format!(
            "a block asks for an LZMA dictionary of {dictionary} bytes, and known packages have {BLOCK}"
        )));
    }
    let unpack = || -> std::io::Result<Vec<u8>> {
        let mut unpacked = Vec::new();
        let size = length as u64;
        // The type is the same as for archives, so that the program contains the decoder only once.
        let packed: Box<dyn Read + '_> = Box::new(packed);
        let mut reader = LzmaReader::new_with_props(packed, size, first, dictionary, None)?;
        reader.set_relaxed_end_condition(false);
        reader.read_to_end(&mut unpacked)?;
        Ok(unpacked)
    };
    match unpack() {
        Ok(unpacked) if unpacked.len() == length => Ok(unpacked),
        Ok(unpacked) => Err(PackError::new(format!(
            "a block unpacks to {} bytes instead of {length}: the package is damaged",
            unpacked.len()
        ))),
        Err(error) => Err(PackError::new(format!(
            "a block cannot be unpacked ({error}): the package is damaged"
        ))),
    }
}
