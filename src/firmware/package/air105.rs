//! The image of an Air105: a header of 28 bytes, then always the whole image (docs/protocol.md 5b).

use crc32fast::Hasher;
use nom::number::complete::le_u32;
use nom::{IResult, Parser};

use super::{PackageKind, crc32, damaged_header, shorter_than_header};

/// Bytes in the header.
const HEADER: usize = 28;

const WHAT: &str = "Air105 image";

/// What the header says that can be checked.
struct Header {
    crc: u32,
    data_len: u32,
    data_crc: u32,
}

/// Reads the 28 bytes: magic, CRC32 of what follows, MainVersion, AppVersion, STDVersion, DataLen,
/// DataCRC32.
fn header(input: &[u8]) -> IResult<&[u8], Header> {
    let (input, (_magic, crc)) = (le_u32, le_u32).parse(input)?;
    let (input, (_main, _app, _std)) = (le_u32, le_u32, le_u32).parse(input)?;
    let (input, (data_len, data_crc)) = (le_u32, le_u32).parse(input)?;
    let header = Header {
        crc,
        data_len,
        data_crc,
    };
    Ok((input, header))
}

/// A file that begins with the magic number of such an image.
pub(super) struct Image {
    header: Result<Header, String>,
    data: Hasher,
}

impl Image {
    /// `head`: the file's first 512 bytes, or all of it.
    pub(super) fn begin(head: &[u8]) -> Image {
        let (header, body) = match header(head) {
            Ok((body, header)) if head.get(8..HEADER).map(crc32) == Some(header.crc) => {
                (Ok(header), body)
            }
            Ok((body, _)) => (Err(damaged_header(WHAT)), body),
            Err(_) => (Err(shorter_than_header(WHAT, HEADER, head.len())), &[][..]),
        };
        let mut image = Image {
            header,
            data: Hasher::new(),
        };
        image.follow(body);
        image
    }

    /// The bytes after those given to `begin`.
    pub(super) fn follow(&mut self, bytes: &[u8]) {
        self.data.update(bytes);
    }

    /// `size`: of the whole file. `whole`: all of it was seen, not only its beginning.
    pub(super) fn finish(self, size: u64, whole: bool) -> Result<PackageKind, String> {
        let header = self.header?;
        let expected = (HEADER as u64).saturating_add(header.data_len.into());
        if size < expected {
            return Err(format!(
                "the header of this {WHAT} says {expected} bytes, but the file has {size}: it was cut off, \
                 copy it again"
            ));
        }
        // The vendor's comments name both ways to end a CRC. A longer file is padded; then the CRC of
        // the data alone is not what was counted here, and the module looks at it itself.
        let crc = !self.data.finalize();
        if whole && size == expected && header.data_crc != crc && header.data_crc != !crc {
            return Err(format!(
                "the data in this {WHAT} are damaged (their CRC does not match the header's): copy the file \
                 again"
            ));
        }
        Ok(PackageKind::Air105)
    }
}
