//! Parser of the table of contents of a 7z archive.

use nom::bytes::complete::{tag, take};
use nom::combinator::{fail, map_opt, verify};
use nom::multi::{count as repeat, length_data};
use nom::number::complete::{le_u32, u8};
use nom::{IResult, Parser};

use super::{Contents, Folder, FolderCoder, MAX_CODERS, MAX_ENTRIES, SevenZipFile, Streams};

/// Parses a number of one to nine bytes: the leading one bits of the first byte count the bytes that follow.
fn number(input: &[u8]) -> IResult<&[u8], u64> {
    let (rest, first) = u8(input)?;
    let more = first.leading_ones();
    let (rest, bytes) = take(more)(rest)?;
    let low = bytes
        .iter()
        .rev()
        .fold(0, |value: u64, byte| value << 8 | u64::from(*byte));
    let high = match more {
        0..=6 => u64::from(first & 0x7f >> more) << (8 * more),
        _ => 0,
    };
    Ok((rest, low | high))
}

/// Parses a length in bytes and that many bytes.
fn sized(input: &[u8]) -> IResult<&[u8], &[u8]> {
    let length = map_opt(number, |length| usize::try_from(length).ok());
    length_data(length).parse(input)
}

/// Parses a count of items of a table, which must be at most [`MAX_ENTRIES`].
fn count(input: &[u8]) -> IResult<&[u8], usize> {
    let usual = |number| {
        usize::try_from(number)
            .ok()
            .filter(|number| *number <= MAX_ENTRIES)
    };
    map_opt(number, usual).parse(input)
}

/// Parses `length` bits, the highest of each byte first.
fn bits(input: &[u8], length: usize) -> IResult<&[u8], Vec<bool>> {
    let (rest, bytes) = take(length.div_ceil(8))(input)?;
    let bits = bytes
        .iter()
        .flat_map(|byte| (0..8).map(move |bit| byte << bit & 0x80 != 0));
    Ok((rest, bits.take(length).collect()))
}

/// Parses the CRCs of `length` items; `None` for an item without a CRC.
fn digests(input: &[u8], length: usize) -> IResult<&[u8], Vec<Option<u32>>> {
    let (rest, all) = u8(input)?;
    let (mut rest, is_given) = match all {
        0 => bits(rest, length)?,
        _ => (rest, vec![true; length]),
    };
    let mut digests = Vec::new();
    for is_given in is_given {
        digests.push(match is_given {
            true => {
                let (after, crc) = le_u32(rest)?;
                rest = after;
                Some(crc)
            }
            false => None,
        });
    }
    Ok((rest, digests))
}

/// Parses the whole table.
pub(super) fn contents(input: &[u8]) -> IResult<&[u8], Contents> {
    let (mut rest, _) = tag(&[0x01][..]).parse(input)?;
    let mut contents = Contents::default();
    loop {
        let (after, id) = u8(rest)?;
        rest = match id {
            0x00 => return Ok((after, contents)),
            0x04 => {
                let (after, streams) = streams(after)?;
                contents.streams = streams;
                after
            }
            0x05 => {
                let (after, files) = files(after)?;
                contents.files = files;
                after
            }
            _ => return fail().parse(rest),
        };
    }
}

/// Parses the description of the streams.
pub(super) fn streams(input: &[u8]) -> IResult<&[u8], Streams> {
    let mut rest = input;
    let mut streams = Streams::default();
    loop {
        let (after, id) = u8(rest)?;
        rest = match id {
            0x00 => break,
            0x06 => packed_streams(after, &mut streams)?.0,
            0x07 => folders(after, &mut streams)?.0,
            0x08 => file_streams(after, &mut streams.folders)?.0,
            _ => return fail().parse(rest),
        };
        if id == 0x07 {
            // A folder is one file, unless stated otherwise.
            for folder in &mut streams.folders {
                folder.files = vec![(folder.length(), folder.crc)];
            }
        }
    }
    let (rest, _) = u8(rest)?;
    Ok((rest, streams))
}

fn packed_streams<'a>(input: &'a [u8], streams: &mut Streams) -> IResult<&'a [u8], ()> {
    let (mut rest, (position, packed)) = (number, count).parse(input)?;
    streams.position = position;
    loop {
        let (after, id) = u8(rest)?;
        rest = match id {
            0x00 => return Ok((after, ())),
            0x09 => {
                let (after, sizes) = repeat(number, packed).parse(after)?;
                streams.packed = sizes;
                after
            }
            0x0a => digests(after, packed)?.0,
            _ => return fail().parse(rest),
        };
    }
}

fn folders<'a>(input: &'a [u8], streams: &mut Streams) -> IResult<&'a [u8], ()> {
    // The zero means: not in another stream.
    let (rest, (_, folders, _)) = (tag(&[0x0b][..]), count, tag(&[0][..])).parse(input)?;
    let (mut rest, mut folders) = repeat(folder, folders).parse(rest)?;
    loop {
        let (after, id) = u8(rest)?;
        rest = match id {
            0x00 => {
                streams.folders = folders;
                return Ok((after, ()));
            }
            0x0c => {
                let mut rest = after;
                for folder in &mut folders {
                    let outputs = folder.coders.len();
                    let (after, lengths) = repeat(number, outputs).parse(rest)?;
                    folder.lengths = lengths;
                    rest = after;
                }
                rest
            }
            0x0a => {
                let (after, crcs) = digests(after, folders.len())?;
                for (folder, crc) in folders.iter_mut().zip(crcs) {
                    folder.crc = crc;
                }
                after
            }
            _ => return fail().parse(rest),
        };
    }
}

fn folder(input: &[u8]) -> IResult<&[u8], Folder> {
    let few = |input| verify(count, |coders| (1..=MAX_CODERS).contains(coders)).parse(input);
    let (rest, coders) = few(input)?;
    let (rest, coders) = repeat(coder, coders).parse(rest)?;
    let inputs: u64 = coders.iter().map(|coder| coder.inputs).sum();
    let bonds = coders.len() - 1;
    let (rest, bonds) = repeat((number, number), bonds).parse(rest)?;
    let is_bound = |input: &u64| bonds.iter().any(|(bound, _)| bound == input);
    let free: Vec<u64> = (0..inputs).filter(|input| !is_bound(input)).collect();
    let (rest, inputs) = match free.len() {
        0 => return fail().parse(rest),
        1 => (rest, free),
        several => repeat(number, several).parse(rest)?,
    };
    let folder = Folder {
        coders,
        bonds,
        inputs,
        ..Folder::default()
    };
    Ok((rest, folder))
}

fn coder(input: &[u8]) -> IResult<&[u8], FolderCoder> {
    let (rest, flags) = u8(input)?;
    let (rest, method) = take(flags & 0x0f)(rest)?;
    let few = |input| verify(number, |streams| *streams <= MAX_CODERS as u64).parse(input);
    let (rest, (inputs, outputs)) = match flags & 0x10 {
        0 => (rest, (1, 1)),
        _ => (few, few).parse(rest)?,
    };
    let (rest, properties) = match flags & 0x20 {
        0 => (rest, &[][..]),
        _ => sized(rest)?,
    };
    // The highest bit is reserved; no decoder has more than one output.
    if flags & 0x80 != 0 || outputs != 1 {
        return fail().parse(rest);
    }
    let coder = FolderCoder {
        method: method.to_vec(),
        properties: properties.to_vec(),
        inputs,
        outputs,
    };
    Ok((rest, coder))
}

/// Parses the division of the folders into files.
fn file_streams<'a>(input: &'a [u8], folders: &mut [Folder]) -> IResult<&'a [u8], ()> {
    let mut rest = input;
    loop {
        let (after, id) = u8(rest)?;
        rest = match id {
            0x00 => return Ok((after, ())),
            0x0d => {
                let mut rest = after;
                let mut total = 0;
                for folder in &mut *folders {
                    let (after, files) = count(rest)?;
                    total += files;
                    if total > MAX_ENTRIES {
                        return fail().parse(rest);
                    }
                    let crc = folder.crc.filter(|_| files == 1);
                    // The last file gets the rest; `0x09` gives the lengths of the others.
                    folder.files = vec![(folder.length(), crc); files];
                    rest = after;
                }
                rest
            }
            0x09 => {
                let mut rest = after;
                for folder in &mut *folders {
                    let mut left = folder.length();
                    let Some((last, others)) = folder.files.split_last_mut() else {
                        continue;
                    };
                    for (length, _) in others {
                        let (after, size) = number(rest)?;
                        let Some(remaining) = left.checked_sub(size) else {
                            return fail().parse(rest);
                        };
                        (*length, left, rest) = (size, remaining, after);
                    }
                    last.0 = left;
                }
                rest
            }
            0x0a => {
                let files = folders.iter_mut().flat_map(|folder| &mut folder.files);
                let unknown: Vec<_> = files.filter(|(_, crc)| crc.is_none()).collect();
                let (after, crcs) = digests(after, unknown.len())?;
                for ((_, known), crc) in unknown.into_iter().zip(crcs) {
                    *known = crc;
                }
                after
            }
            _ => return fail().parse(rest),
        };
    }
}

/// Parses the files' names, and which of them have data.
fn files(input: &[u8]) -> IResult<&[u8], Vec<SevenZipFile>> {
    let (mut rest, files) = count(input)?;
    let mut has_stream = vec![true; files];
    let mut names = Vec::new();
    loop {
        let (after, id) = number(rest)?;
        if id == 0 {
            rest = after;
            break;
        }
        let (after, data) = sized(after)?;
        match id {
            0x0e => {
                let (_, empty) = bits(data, files)?;
                has_stream = empty.into_iter().map(|empty| !empty).collect();
            }
            0x11 => names = texts(data.strip_prefix(&[0]).unwrap_or_default()),
            _ => {}
        }
        rest = after;
    }
    match names.len() == files {
        true => {
            let files = names.into_iter().zip(has_stream);
            let files = files.map(|(name, has_stream)| SevenZipFile { name, has_stream });
            Ok((rest, files.collect()))
        }
        false => fail().parse(rest),
    }
}

/// Parses UTF-16 texts, each of which ends with a zero.
fn texts(bytes: &[u8]) -> Vec<String> {
    let units = bytes
        .as_chunks()
        .0
        .iter()
        .map(|unit| u16::from_le_bytes(*unit));
    let units: Vec<u16> = units.collect();
    let mut texts: Vec<String> = units
        .split(|unit| *unit == 0)
        .map(String::from_utf16_lossy)
        .collect();
    texts.pop();
    texts
}
