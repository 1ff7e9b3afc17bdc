//! LuaDB images: the read-only file system that holds a module's scripts (docs/protocol.md 9f).

use std::borrow::Cow;
use std::collections::HashSet;

use md5::{Digest, Md5};
use nom::bytes::complete::{tag, take};
use nom::combinator::consumed;
use nom::multi::length_data;
use nom::number::complete::{le_u16, le_u32, u8};
use nom::sequence::{preceded, terminated};
use nom::{IResult, Parser};

use super::{MAX_IMAGE, PackError};

/// The first bytes of the image and of each file in it.
pub const MAGIC: [u8; 6] = [0x01, 0x04, 0x5a, 0xa5, 0x5a, 0xa5];

/// Maximum length of a file name in bytes. LuatOS copies a name into 32 bytes without checking its length.
pub const MAX_NAME: usize = 31;

/// Maximum number of files in an image, including the checksum. LuatOS mounts no image with more.
pub const MAX_FILES: usize = 1024;

/// Name of the last file: the MD5 of every byte of the image before those 16 bytes.
pub const CHECKSUM: &str = ".airm2m_all_crc#.bin";

/// Size of the header of the image in bytes.
const HEADER: u32 = 24;

/// Check value that some tools write instead of the sum.
const NO_CHECK: u16 = 0xffff;

/// A file in an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageFile<'a> {
    /// Name of the file, without folders.
    pub name: Cow<'a, str>,
    /// Content of the file.
    pub data: &'a [u8],
}

/// A parsed LuaDB image.
#[derive(Clone, Debug)]
pub struct LuaDb<'a> {
    /// The files in the order of the image, without the checksum.
    pub files: Vec<ImageFile<'a>>,
    /// Length of the image in bytes. Bytes after the image do not belong to it.
    pub length: usize,
    /// Whether the image has a checksum, which was then compared.
    pub has_checksum: bool,
}

/// Builds an image in the order of Luatools: scripts by name, then all other files by name, then the checksum. The
/// names are compared as bytes.
pub fn build(files: &[ImageFile<'_>]) -> Result<Vec<u8>, PackError> {
    check_files(files)?;
    let mut files: Vec<&ImageFile<'_>> = files.iter().collect();
    files.sort_by_key(|file| (!is_script(&file.name), file.name.as_bytes()));
    let count = u16::try_from(files.len() + 1).unwrap_or(u16::MAX);
    let mut image = Vec::new();
    image.extend(MAGIC);
    image.extend([0x02, 0x02, 0x02, 0x00, 0x03, 0x04]);
    image.extend(HEADER.to_le_bytes());
    image.extend([0x04, 0x02]);
    image.extend(count.to_le_bytes());
    end_header(&mut image, 0);
    for file in files {
        add_header(&mut image, &file.name, file.data.len());
        image.extend(file.data);
    }
    add_header(&mut image, CHECKSUM, 16);
    let checksum = Md5::digest(&image);
    image.extend(checksum);
    match image.len() {
        0..=MAX_IMAGE => Ok(image),
        length => Err(too_long(length)),
    }
}

/// Whether a file is a script, source or compiled.
pub fn is_script(name: &str) -> bool {
    name.ends_with(".lua") || name.ends_with(".luac")
}

/// Returns the error for an image that is too large for every module.
pub(super) fn too_long(length: usize) -> PackError {
    PackError::new(format!(
        "the script image has {length} bytes, and more than {MAX_IMAGE} fit no module: leave files out"
    ))
}

fn check_files(files: &[ImageFile<'_>]) -> Result<(), PackError> {
    if files.len() >= MAX_FILES {
        return Err(PackError::new(format!(
            "there are {} files, and LuatOS mounts no image with more than {}: leave files out",
            files.len(),
            MAX_FILES - 1
        )));
    }
    let total: usize = files.iter().map(|file| file.data.len()).sum();
    if total > MAX_IMAGE {
        return Err(too_long(total));
    }
    let mut seen = HashSet::new();
    for ImageFile { name, .. } in files {
        let problem = match name.len() {
            0 => Some("has no name"),
            _ if name.len() > MAX_NAME => {
                return Err(PackError::new(format!(
                    "the name `{name}` has {} bytes, and LuatOS reads at most {MAX_NAME}: give the file a \
                     shorter name",
                    name.len()
                )));
            }
            _ if name.contains('/') => {
                Some("has a folder in its name, and an image has no folders")
            }
            _ if **name == *CHECKSUM => Some("has the name of the checksum, which is added"),
            _ if !seen.insert(name.as_bytes()) => Some("appears twice: remove one of them"),
            _ => None,
        };
        if let Some(problem) = problem {
            return Err(PackError::new(format!("the file `{name}` {problem}")));
        }
    }
    for name in &seen {
        let compiled = [name, &b"c"[..]].concat();
        if name.ends_with(b".lua") && seen.contains(compiled.as_slice()) {
            let name = String::from_utf8_lossy(name);
            return Err(PackError::new(format!(
                "both `{name}` and `{name}c` are there, and a module runs only the compiled one: leave one of them \
                 out"
            )));
        }
    }
    Ok(())
}

/// Appends the header of a file.
fn add_header(image: &mut Vec<u8>, name: &str, length: usize) {
    let start = image.len();
    image.extend(MAGIC);
    // `check_files` limits both lengths.
    image.extend([0x02, u8::try_from(name.len()).unwrap_or(u8::MAX)]);
    image.extend(name.as_bytes());
    image.extend([0x03, 0x04]);
    image.extend(u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    end_header(image, start);
}

/// Appends the check value of the header that begins at `start`.
fn end_header(image: &mut Vec<u8>, start: usize) {
    image.extend([0xfe, 0x02]);
    let check = sum(image.get(start..).unwrap_or_default());
    image.extend(check.to_le_bytes());
}

/// Returns the sum of all bytes modulo 65536.
fn sum(bytes: &[u8]) -> u16 {
    bytes
        .iter()
        .fold(0, |sum: u16, byte| sum.wrapping_add((*byte).into()))
}

/// Parses an image and compares its check values. Bytes after the image are not an error.
pub fn read(bytes: &[u8]) -> Result<LuaDb<'_>, PackError> {
    let (mut rest, count) = checked(bytes, image_header).map_err(|problem| match problem {
        HeaderProblem::Layout => PackError::new(
            "this is not a LuaDB image: its header is not that of version 1 or 2. Let Luatools export it again",
        ),
        HeaderProblem::Check => damaged("the header of the image", 0),
    })?;
    let mut files = Vec::new();
    let mut checksum = None;
    for number in 1..=count {
        let at = bytes.len() - rest.len();
        let (after, (name, size)) = checked(rest, file_header).map_err(|problem| match problem {
            HeaderProblem::Layout => PackError::new(format!(
                "the LuaDB image says that it has {count} files, but at byte {at} no file {number} begins: it was \
                 cut off or damaged"
            )),
            HeaderProblem::Check => damaged(&format!("the header of file {number}"), at),
        })?;
        let name = String::from_utf8_lossy(name);
        let data_at = bytes.len() - after.len();
        let (after, data) = take::<_, _, nom::error::Error<_>>(size)(after).map_err(|_| {
            PackError::new(format!(
                "the LuaDB image was cut off: `{}` says {size} bytes, but {} follow",
                name.escape_debug(),
                after.len()
            ))
        })?;
        rest = after;
        match name == CHECKSUM {
            true => checksum = Some((data_at, data)),
            false => files.push(ImageFile { name, data }),
        }
    }
    if let Some((at, expected)) = checksum
        && Md5::digest(bytes.get(..at).unwrap_or_default()).as_slice() != expected
    {
        return Err(damaged("the MD5 of the whole image", at));
    }
    Ok(LuaDb {
        files,
        length: bytes.len() - rest.len(),
        has_checksum: checksum.is_some(),
    })
}

fn damaged(what: &str, at: usize) -> PackError {
    PackError::new(format!(
        "the LuaDB image is damaged: {what} does not match (at byte {at}). Let Luatools export it again"
    ))
}

/// Reason why a header cannot be used.
enum HeaderProblem {
    Layout,
    Check,
}

/// Parses a header and the check value after it.
fn checked<'a, T>(
    bytes: &'a [u8],
    header: impl Fn(&'a [u8]) -> IResult<&'a [u8], T>,
) -> Result<(&'a [u8], T), HeaderProblem> {
    let parsed = (consumed(header), le_u16).parse(bytes);
    let (rest, ((header, value), check)) = parsed.map_err(|_| HeaderProblem::Layout)?;
    match check == sum(header) || check == NO_CHECK {
        true => Ok((rest, value)),
        false => Err(HeaderProblem::Check),
    }
}

/// Parses the image's header without its check value; returns the number of files.
fn image_header(input: &[u8]) -> IResult<&[u8], u16> {
    let version = nom::branch::alt((tag(&[0x02, 0x02, 1, 0][..]), tag(&[0x02, 0x02, 2, 0][..])));
    let length = preceded(tag(&[0x03, 0x04][..]), le_u32);
    let count = preceded(tag(&[0x04, 0x02][..]), le_u16);
    let end = tag(&[0xfe, 0x02][..]);
    let start = (tag(&MAGIC[..]), version, length);
    terminated(preceded(start, count), end).parse(input)
}

/// Parses a file's header without its check value; returns the file's name and the length of its content.
fn file_header(input: &[u8]) -> IResult<&[u8], (&[u8], u32)> {
    let name = preceded(tag(&[0x02][..]), length_data(u8));
    let size = preceded(tag(&[0x03, 0x04][..]), le_u32);
    let end = tag(&[0xfe, 0x02][..]);
    terminated(preceded(tag(&MAGIC[..]), (name, size)), end).parse(input)
}
