//! `.soc` files, the factory files of LuatOS: an archive (7z or zip) with `info.json` and the script image
//! (docs/protocol.md 9f).
//!
//! Only these two files are unpacked, into memory; no name in the archive is used as a path. Limits are checked before
//! memory is allocated: reading any file needs less than 64 MiB.

mod info;
mod seven_zip;
mod stream;
mod zip;

use std::io::{Read, Seek};

use super::{MAX_IMAGE, PackError};

pub use info::SocInfo;

/// Maximum length of `info.json` in bytes.
const MAX_INFO: usize = 256 << 10;

/// Maximum number of files in an archive.
const MAX_ENTRIES: usize = 4096;

/// Maximum length of a table of contents in bytes.
const MAX_TABLE: usize = 1 << 20;

/// Source of an archive. There is one type for all, so that the program contains the readers only once.
trait Source: Read + Seek {}

impl<T: Read + Seek> Source for T {}

/// A parsed `.soc` file.
#[derive(Clone, Debug)]
pub struct Soc {
    /// Values of `info.json`.
    pub info: SocInfo,
    /// The script image; `None` if the archive has none.
    pub image: Option<Vec<u8>>,
    /// Names of all files in the archive.
    pub names: Vec<String>,
}

/// An archive with its parsed table of contents.
enum Archive {
    SevenZip(seven_zip::Contents),
    Zip(zip::Contents),
}

impl Soc {
    /// Whether these bytes begin like an archive.
    pub fn is_archive(bytes: &[u8]) -> bool {
        bytes.starts_with(&seven_zip::MAGIC) || bytes.starts_with(zip::MAGIC)
    }

    /// Reads a `.soc` file.
    pub fn read(mut source: impl Read + Seek) -> Result<Soc, PackError> {
        Soc::read_from(&mut source)
    }

    fn read_from(source: &mut dyn Source) -> Result<Soc, PackError> {
        let archive = Archive::open(source)?;
        let names = archive.names();
        check_names(&names)?;
        let text = archive.extract(source, "info.json", MAX_INFO)?;
        let text = text.ok_or_else(|| {
            PackError::new(
                "this archive has no info.json, so it is not a .soc file: give the .soc that Luatools or the vendor made",
            )
        })?;
        let info = SocInfo::read(&text)?;
        let image = archive.extract(source, &info.script_file, MAX_IMAGE)?;
        Ok(Soc { info, image, names })
    }
}

impl Archive {
    fn open(source: &mut dyn Source) -> Result<Archive, PackError> {
        let mut start = [0; 6];
        source.rewind().map_err(unreadable)?;
        source.read_exact(&mut start).map_err(unreadable)?;
        let begins = |magic: &[u8]| start.starts_with(magic);
        if begins(&seven_zip::MAGIC) {
            Ok(Archive::SevenZip(seven_zip::Contents::read(source)?))
        } else if begins(zip::MAGIC) {
            Ok(Archive::Zip(zip::Contents::read(source)?))
        } else {
            Err(PackError::new(
                "this is not a .soc file: it begins neither like a 7z nor like a zip archive",
            ))
        }
    }

    fn names(&self) -> Vec<String> {
        match self {
            Archive::SevenZip(contents) => contents.names(),
            Archive::Zip(contents) => contents.names(),
        }
    }

    /// Unpacks a file of at most `most` bytes. Returns `None` if there is no such file.
    fn extract(
        &self,
        source: &mut dyn Source,
        name: &str,
        most: usize,
    ) -> Result<Option<Vec<u8>>, PackError> {
        match self {
            Archive::SevenZip(contents) => contents.extract(source, name, most),
            Archive::Zip(contents) => contents.extract(source, name, most),
        }
    }
}

/// Refuses an archive with a name that leads out of the folder in which it is unpacked, or with a name twice.
fn check_names(names: &[String]) -> Result<(), PackError> {
    let mut seen = std::collections::HashSet::new();
    for name in names {
        let parts = || name.split(['/', '\\']);
        let leaves = parts().any(|part| part == "..") || name.starts_with(['/', '\\']);
        let problem = if leaves || name.contains(':') {
            "points outside the archive"
        } else if name.chars().any(char::is_control) {
            "has a control character in its name"
        } else if !seen.insert(name) {
            "appears twice"
        } else {
            continue;
        };
        return Err(PackError::new(format!(
            "the file `{}` in this archive {problem}: no tool makes such a .soc file, so it is not read",
            name.escape_debug()
        )));
    }
    Ok(())
}

/// Returns the error for an archive that ends too early or cannot be read.
fn unreadable(error: std::io::Error) -> PackError {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => {
            PackError::new("this archive was cut off: copy the .soc file again")
        }
        _ => PackError::new(format!("this archive cannot be read: {error}")),
    }
}

/// Returns the error for an archive whose parts contradict each other.
fn damaged(what: &str) -> PackError {
    PackError::new(format!(
        "this archive is damaged ({what}): copy the .soc file again"
    ))
}

/// Returns the error for a file that is longer than permitted.
fn too_long(name: &str, length: u64, most: usize) -> PackError {
    PackError::new(format!(
        "`{}` unpacks to {length} bytes, and no .soc file has more than {most} there: it is not unpacked",
        name.escape_debug()
    ))
}

/// Reads `length` bytes.
fn read_bytes(source: &mut dyn Source, length: usize) -> Result<Vec<u8>, PackError> {
    let mut bytes = vec![0; length];
    source.read_exact(&mut bytes).map_err(unreadable)?;
    Ok(bytes)
}
