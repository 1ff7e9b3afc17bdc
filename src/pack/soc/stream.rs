//! Chained decoders of a 7z folder: LZMA, LZMA2, the filter for x86 programs, and copy.

use std::io::Read;

use lzma_rust2::filter::bcj::BcjReader;
use lzma_rust2::{Lzma2Reader, LzmaReader};

use super::{PackError, damaged};

/// Maximum dictionary that an archive may ask for, in bytes. 7-Zip's highest level asks for 64 MiB.
const MAX_DICTIONARY: u64 = 128 << 20;

/// Maximum dictionary that is allocated, in bytes. A dictionary need not be larger than the unpacked data.
const MAX_ALLOCATED: u64 = 40 << 20;

/// Number of bytes that a decoder may unpack beyond the requested ones.
const MARGIN: u64 = 64 << 10;

/// A step of unpacking.
pub(super) struct Coder<'a> {
    pub method: &'a [u8],
    pub properties: &'a [u8],
    /// Length of the step's output in bytes.
    pub length: u64,
}

/// Adds a decoder after `packed`. At most `wanted` bytes will be read from the decoder.
pub(super) fn decoder<'r>(
    packed: Box<dyn Read + 'r>,
    coder: &Coder<'_>,
    wanted: u64,
) -> Result<Box<dyn Read + 'r>, PackError> {
    let unpacked = coder.length.min(wanted.saturating_add(MARGIN));
    match *coder.method {
        [0x00] => Ok(packed),
        [0x21] => {
            let [bits] = *coder.properties else {
                return Err(damaged("properties of LZMA2"));
            };
            let declared = match bits {
                0..=40 => (2 | u64::from(bits & 1)) << (bits / 2 + 11),
                _ => return Err(damaged("properties of LZMA2")),
            };
            let dictionary = dictionary(declared, unpacked)?;
            Ok(Box::new(Lzma2Reader::new(packed, dictionary, None)))
        }
        [0x03, 0x01, 0x01] => {
            let [first, declared @ ..] = coder.properties else {
                return Err(damaged("properties of LZMA"));
            };
            let declared = declared
                .try_into()
                .map_err(|_| damaged("properties of LZMA"))?;
            let dictionary = dictionary(u32::from_le_bytes(declared).into(), unpacked)?;
            let reader = LzmaReader::new_with_props(packed, unpacked, *first, dictionary, None);
            Ok(Box::new(reader.map_err(|_| damaged("LZMA data"))?))
        }
        [0x03, 0x03, 0x01, 0x03] => Ok(Box::new(BcjReader::new_x86(packed, 0))),
        _ => Err(PackError::new(format!(
            "the script in this 7z archive is packed with method {:02x?}: only LZMA and LZMA2 are read. Pack it again \
             as 7z with LZMA2, or as zip",
            coder.method
        ))),
    }
}

/// Returns the number of bytes of dictionary to allocate.
fn dictionary(declared: u64, unpacked: u64) -> Result<u32, PackError> {
    if declared > MAX_DICTIONARY {
        return Err(PackError::new(format!(
            "this 7z archive asks for a dictionary of {} MiB, and no .soc file needs more than {}: it is not unpacked",
            declared >> 20,
            MAX_DICTIONARY >> 20
        )));
    }
    let needed = declared.min(unpacked).max(4096);
    match u32::try_from(needed) {
        Ok(needed) if u64::from(needed) <= MAX_ALLOCATED => Ok(needed),
        _ => Err(PackError::new(format!(
            "unpacking this 7z archive needs a dictionary of {} MiB, and at most {} are allowed: pack it again with a \
             smaller dictionary (7z a -md=16m), or as zip",
            needed >> 20,
            MAX_ALLOCATED >> 20
        ))),
    }
}
