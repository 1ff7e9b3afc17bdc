//! The image of a W800 (Air101, Air103, Air601, Air6208): a header of 64 bytes, then the image,
//! mostly compressed (docs/protocol.md 5b).

use nom::bytes::complete::take;
use nom::number::complete::le_u32;
use nom::{IResult, Parser};

use super::{PackageKind, crc32, damaged_header, shorter_than_header};

/// Bytes in the header.
const HEADER: usize = 64;

/// The header's CRC is of the bytes before it.
const CHECKED: usize = 60;

const WHAT: &str = "W800 image";

/// What the header says that matters here.
#[derive(Debug)]
pub(super) struct Header {
    attributes: u32,
    image_len: u32,
    crc: u32,
}

/// Reads the 64 bytes: magic, attributes, address, length, eleven words that only the module
/// understands, CRC32 of all before it.
fn fields(input: &[u8]) -> IResult<&[u8], Header> {
    let (input, (_magic, attributes)) = (le_u32, le_u32).parse(input)?;
    let (input, (_address, image_len)) = (le_u32, le_u32).parse(input)?;
    let (input, (_rest, crc)) = (take(44usize), le_u32).parse(input)?;
    let header = Header {
        attributes,
        image_len,
        crc,
    };
    Ok((input, header))
}

/// `head`: the file's first 512 bytes, or all of it.
pub(super) fn header(head: &[u8]) -> Result<Header, String> {
    match fields(head) {
        // The vendor's tool writes this CRC, and modules refuse an image without it.
        Ok((_, header)) if head.get(..CHECKED).map(crc32) == Some(header.crc) => Ok(header),
        Ok(_) => Err(damaged_header(WHAT)),
        Err(_) => Err(shorter_than_header(WHAT, HEADER, head.len())),
    }
}

impl Header {
    /// `size`: of the whole file. A longer one may hold a signature, or more images.
    pub(super) fn finish(self, size: u64) -> Result<PackageKind, String> {
        let expected = (HEADER as u64).saturating_add(self.image_len.into());
        if size < expected {
            return Err(format!(
                "the header of this {WHAT} says {expected} bytes, but the file has {size}: it was cut off, \
                 copy it again"
            ));
        }
        // The image's type is in the four lowest bits.
        match self.attributes & 0xf {
            0 => Err(
                "this begins with a W800 boot loader: it is for flashing over a cable; drop the .fota, .img \
                 or .bin that was exported for updates"
                    .to_owned(),
            ),
            1 => Ok(PackageKind::W800 { script: false }),
            _ => Ok(PackageKind::W800 { script: true }),
        }
    }
}
