//! Reader of zip archives: the central directory, and files that are stored or deflated.
//!
//! Not supported: zip64, several volumes, encryption. No `.soc` file has them.

use std::io::SeekFrom;

use miniz_oxide::inflate::decompress_to_vec_with_limit;
use nom::bytes::complete::{tag, take};
use nom::number::complete::{le_u16, le_u32};
use nom::sequence::preceded;
use nom::{IResult, Parser};

use super::{MAX_ENTRIES, MAX_IMAGE, MAX_TABLE, PackError};
use super::{Source, damaged, read_bytes, too_long, unreadable};

/// First bytes of the first file in an archive.
pub(super) const MAGIC: &[u8; 4] = b"PK\x03\x04";

/// Size of the end record without its comment, and maximum length of the comment, in bytes.
const END: u64 = 22;
const MAX_COMMENT: u64 = 65_535;

/// Maximum length of a packed file, in bytes. Deflate makes no data much longer than it was.
const MAX_PACKED: usize = MAX_IMAGE + (64 << 10);

/// The central directory.
pub(super) struct Contents {
    entries: Vec<ZipEntry>,
}

struct ZipEntry {
    name: String,
    flags: u16,
    method: u16,
    crc: u32,
    packed: u32,
    length: u32,
    offset: u32,
}

impl Contents {
    pub fn read(source: &mut dyn Source) -> Result<Contents, PackError> {
        let size = source.seek(SeekFrom::End(0)).map_err(unreadable)?;
        let length = size.min(END + MAX_COMMENT);
        source
            .seek(SeekFrom::Start(size - length))
            .map_err(unreadable)?;
        // The length is at most about 64 KiB.
        let tail = read_bytes(source, length as usize)?;
        let end = tail
            .windows(4)
            .rposition(|bytes| bytes == b"PK\x05\x06")
            .and_then(|at| end_record(tail.get(at..)?).ok());
        let Some((_, (count, length, offset))) = end else {
            return Err(PackError::new(
                "this zip archive was cut off: its directory, which is at the end, is missing. Copy the .soc file again",
            ));
        };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if usize::from(count) > MAX_ENTRIES || length > MAX_TABLE {
            return Err(PackError::new(format!(
                "this zip archive says that it has {count} files and a directory of {length} bytes, which is more than \
                 any .soc file has: it is not read"
            )));
        }
        source
            .seek(SeekFrom::Start(offset.into()))
            .map_err(unreadable)?;
        let directory = read_bytes(source, length)?;
        let mut rest = directory.as_slice();
        let mut entries = Vec::new();
        for _ in 0..count {
            let (after, entry) = entry(rest).map_err(|_| damaged("its directory"))?;
            entries.push(entry);
            rest = after;
        }
        Ok(Contents { entries })
    }

    pub fn names(&self) -> Vec<String> {
        self.entries
            .iter()
            .map(|entry| entry.name.clone())
            .collect()
    }

    pub fn extract(
        &self,
        source: &mut dyn Source,
        name: &str,
        most: usize,
    ) -> Result<Option<Vec<u8>>, PackError> {
        let Some(entry) = self.entries.iter().find(|entry| entry.name == name) else {
            return Ok(None);
        };
        let packed = usize::try_from(entry.packed).unwrap_or(usize::MAX);
        let length = usize::try_from(entry.length).unwrap_or(usize::MAX);
        if entry.flags & 1 != 0 {
            return Err(PackError::new(
                "this zip archive is encrypted: no .soc file is",
            ));
        }
        if length > most || packed > MAX_PACKED {
            return Err(too_long(name, entry.length.max(entry.packed).into(), most));
        }
        source
            .seek(SeekFrom::Start(entry.offset.into()))
            .map_err(unreadable)?;
        let header = read_bytes(source, 30)?;
        let lengths = local_lengths(&header).map_err(|_| damaged("a header"))?.1;
        let behind = i64::from(lengths.0) + i64::from(lengths.1);
        source.seek(SeekFrom::Current(behind)).map_err(unreadable)?;
        let packed = read_bytes(source, packed)?;
        let data = match entry.method {
            0 => packed,
            8 => decompress_to_vec_with_limit(&packed, length).map_err(|_| damaged(name))?,
            other => {
                return Err(PackError::new(format!(
                    "`{name}` is packed with method {other} of zip: only deflate is read. Make the .soc file again"
                )));
            }
        };
        match data.len() == length && crc32fast::hash(&data) == entry.crc {
            true => Ok(Some(data)),
            false => Err(damaged(name)),
        }
    }
}

/// Parses the end record: number of entries, length and position of the directory.
fn end_record(input: &[u8]) -> IResult<&[u8], (u16, u32, u32)> {
    let start = (tag(&b"PK\x05\x06"[..]), le_u16, le_u16, le_u16);
    preceded(start, (le_u16, le_u32, le_u32)).parse(input)
}

/// Parses a file of the directory.
fn entry(input: &[u8]) -> IResult<&[u8], ZipEntry> {
    let start = (tag(&b"PK\x01\x02"[..]), le_u16, le_u16);
    let (rest, (_, flags, method, _time, crc)) =
        (start, le_u16, le_u16, le_u32, le_u32).parse(input)?;
    let (rest, (packed, length)) = (le_u32, le_u32).parse(rest)?;
    let (rest, (name, extra, comment)) = (le_u16, le_u16, le_u16).parse(rest)?;
    // Volume and attributes.
    let (rest, (_, offset)) = (take(8_usize), le_u32).parse(rest)?;
    let (rest, (name, _, _)) = (take(name), take(extra), take(comment)).parse(rest)?;
    let name = String::from_utf8_lossy(name).into_owned();
    let entry = ZipEntry {
        name,
        flags,
        method,
        crc,
        packed,
        length,
        offset,
    };
    Ok((rest, entry))
}

/// Parses the lengths of the name and of the extra field in a local header of 30 bytes.
fn local_lengths(input: &[u8]) -> IResult<&[u8], (u16, u16)> {
    preceded((tag(&MAGIC[..]), take(22_usize)), (le_u16, le_u16)).parse(input)
}
