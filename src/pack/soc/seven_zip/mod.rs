//! Reader of 7z archives: the header, and files of folders whose decoders form a chain.
//!
//! Written from 7zFormat.txt of the 7-Zip SDK. Not supported: encryption, several volumes, BCJ2 (7-Zip uses it for
//! Windows programs, which it puts into a folder of their own).

use std::io::{Read, SeekFrom};

use nom::bytes::complete::{tag, take};
use nom::number::complete::{le_u32, le_u64};
use nom::{IResult, Parser};

use super::stream::{Coder, decoder};
use super::{MAX_ENTRIES, MAX_TABLE, PackError};
use super::{Source, damaged, read_bytes, too_long, unreadable};

mod table;

use table::{contents, streams};

/// First bytes of an archive.
pub(super) const MAGIC: [u8; 6] = [0x37, 0x7a, 0xbc, 0xaf, 0x27, 0x1c];

/// Number of bytes in front of the packed data.
const START: u64 = 32;

/// Maximum number of bytes that are unpacked to reach the end of one file.
const MAX_UNPACKED: u64 = 256 << 20;

/// Maximum number of decoders in a folder.
const MAX_CODERS: usize = 4;

/// The table of contents.
#[derive(Default)]
pub(super) struct Contents {
    files: Vec<SevenZipFile>,
    streams: Streams,
}

struct SevenZipFile {
    name: String,
    /// Whether the file has data. The files with data are in the order of the streams.
    has_stream: bool,
}

/// The packed streams, the folders that unpack them, and the streams of the files in those folders.
#[derive(Default)]
struct Streams {
    position: u64,
    packed: Vec<u64>,
    folders: Vec<Folder>,
}

/// Packed streams with the decoders that unpack them into consecutive files.
#[derive(Default)]
struct Folder {
    coders: Vec<FolderCoder>,
    /// Pairs of a decoder's input and the output that it reads.
    bonds: Vec<(u64, u64)>,
    /// The inputs that read packed streams.
    inputs: Vec<u64>,
    /// Length of each output in bytes.
    lengths: Vec<u64>,
    crc: Option<u32>,
    files: Vec<(u64, Option<u32>)>,
}

struct FolderCoder {
    method: Vec<u8>,
    properties: Vec<u8>,
    inputs: u64,
    outputs: u64,
}

impl Contents {
    pub fn read(source: &mut dyn Source) -> Result<Contents, PackError> {
        let size = source.seek(SeekFrom::End(0)).map_err(unreadable)?;
        source.rewind().map_err(unreadable)?;
        let start = read_bytes(source, START as usize)?;
        let parts: IResult<&[u8], _> = (
            tag(&MAGIC[..]),
            take(2_usize),
            le_u32,
            le_u64,
            le_u64,
            le_u32,
        )
            .parse(&start);
        let (_, (_, _version, start_crc, offset, length, crc)) =
            parts.map_err(|_| damaged("its first bytes"))?;
        if crc32fast::hash(start.get(12..).unwrap_or_default()) != start_crc {
            return Err(damaged("its first bytes"));
        }
        let end = START
            .checked_add(offset)
            .and_then(|at| at.checked_add(length));
        if end.is_none_or(|end| end > size) {
            return Err(PackError::new(format!(
                "this 7z archive was cut off: its table of contents should be at byte {}, and the file has {size} \
                 bytes. Copy the .soc file again",
                START.saturating_add(offset)
            )));
        }
        source
            .seek(SeekFrom::Start(START + offset))
            .map_err(unreadable)?;
        let mut table = read_bytes(source, table_length(length)?)?;
        if crc32fast::hash(&table) != crc {
            return Err(damaged("its table of contents"));
        }
        // A packed table may contain a packed one. No tool nests them deeper.
        for _ in 0..2 {
            let Some((0x17, packed)) = table.split_first().map(|(id, rest)| (*id, rest)) else {
                break;
            };
            let (_, streams) = streams(packed).map_err(|_| unknown_table())?;
            let folder = streams.folders.first().ok_or_else(unknown_table)?;
            let length = table_length(folder.length())?;
            table = streams.unpack(source, 0, 0, length)?;
        }
        let (_, contents) = contents(&table).map_err(|_| unknown_table())?;
        Ok(contents)
    }

    pub fn names(&self) -> Vec<String> {
        self.files.iter().map(|file| file.name.clone()).collect()
    }

    pub fn extract(
        &self,
        source: &mut dyn Source,
        name: &str,
        most: usize,
    ) -> Result<Option<Vec<u8>>, PackError> {
        let Some(at) = self.files.iter().position(|file| file.name == name) else {
            return Ok(None);
        };
        let before = self.files.iter().take(at).filter(|file| file.has_stream);
        let mut number = before.count();
        if self.files.get(at).is_some_and(|file| !file.has_stream) {
            return Ok(Some(Vec::new()));
        }
        for (at, folder) in self.streams.folders.iter().enumerate() {
            let Some((length, crc)) = folder.files.get(number) else {
                number -= folder.files.len();
                continue;
            };
            let before = folder.files.iter().take(number).map(|(length, _)| length);
            let offset = before.fold(0_u64, |sum, length| sum.saturating_add(*length));
            let length = match usize::try_from(*length) {
                Ok(length) if length <= most => length,
                _ => return Err(too_long(name, *length, most)),
            };
            let data = self.streams.unpack(source, at, offset, length)?;
            return match crc {
                Some(crc) if *crc != crc32fast::hash(&data) => Err(damaged(name)),
                _ => Ok(Some(data)),
            };
        }
        Err(damaged("its table of contents"))
    }
}

fn table_length(length: u64) -> Result<usize, PackError> {
    match usize::try_from(length) {
        Ok(length) if length <= MAX_TABLE => Ok(length),
        _ => Err(too_long("the table of contents", length, MAX_TABLE)),
    }
}

fn unknown_table() -> PackError {
    PackError::new(
        "the table of contents of this 7z archive is damaged, or has more files than a .soc file has: copy it again, \
         or pack it again as zip",
    )
}

impl Streams {
    /// Unpacks `length` bytes of a folder from `offset` on.
    fn unpack(
        &self,
        source: &mut dyn Source,
        number: usize,
        offset: u64,
        length: usize,
    ) -> Result<Vec<u8>, PackError> {
        let folder = self.folders.get(number).ok_or_else(unknown_table)?;
        let wanted = offset.saturating_add(length as u64);
        if wanted > MAX_UNPACKED {
            return Err(PackError::new(format!(
                "{} MiB of this 7z archive must be unpacked to reach the script, and at most {} are: pack the .soc file \
                 again without the other files, or as zip",
                wanted >> 20,
                MAX_UNPACKED >> 20
            )));
        }
        let first: usize = self
            .folders
            .iter()
            .take(number)
            .map(|folder| folder.inputs.len())
            .sum();
        let before = self.packed.iter().take(first);
        let at = before.fold(self.position.saturating_add(START), |sum, size| {
            sum.saturating_add(*size)
        });
        let packed = *self.packed.get(first).ok_or_else(unknown_table)?;
        source.seek(SeekFrom::Start(at)).map_err(unreadable)?;
        let mut stream: Box<dyn Read + '_> = Box::new(Read::take(&mut *source, packed));
        for (coder, length) in folder.chain()? {
            let coder = Coder {
                method: &coder.method,
                properties: &coder.properties,
                length,
            };
            stream = decoder(stream, &coder, wanted)?;
        }
        let failed = |error: std::io::Error| damaged(&format!("its packed data: {error}"));
        let skipped = std::io::copy(&mut stream.by_ref().take(offset), &mut std::io::sink());
        if skipped.map_err(failed)? != offset {
            return Err(damaged("its packed data end too early"));
        }
        let mut data = vec![0; length];
        stream.read_exact(&mut data).map_err(failed)?;
        Ok(data)
    }
}

impl Folder {
    /// Length of the unpacked folder in bytes: that of the output that no decoder reads.
    fn length(&self) -> u64 {
        let is_taken = |output: usize| self.bonds.iter().any(|(_, taken)| *taken == output as u64);
        let last = self
            .lengths
            .iter()
            .enumerate()
            .find(|(output, _)| !is_taken(*output));
        last.map_or(0, |(_, length)| *length)
    }

    /// Returns the decoders in order from the packed stream on, each with the length of its output in bytes.
    fn chain(&self) -> Result<Vec<(&FolderCoder, u64)>, PackError> {
        let is_chain = self
            .coders
            .iter()
            .all(|coder| coder.inputs == 1 && coder.outputs == 1);
        let (&[mut at], true) = (self.inputs.as_slice(), is_chain) else {
            return Err(PackError::new(
                "the script in this 7z archive is packed with several streams (BCJ2): pack it again with LZMA2 alone \
                 (7z a -m0=lzma2), or as zip",
            ));
        };
        let mut chain = Vec::new();
        // At most as many steps as there are decoders, so that a cycle ends.
        for _ in &self.coders {
            let number = usize::try_from(at).unwrap_or(usize::MAX);
            let step = self.coders.get(number).zip(self.lengths.get(number));
            let (coder, length) = step.ok_or_else(unknown_table)?;
            chain.push((coder, *length));
            match self.bonds.iter().find(|(_, output)| *output == at) {
                Some((input, _)) => at = *input,
                None => return Ok(chain),
            }
        }
        Err(unknown_table())
    }
}
