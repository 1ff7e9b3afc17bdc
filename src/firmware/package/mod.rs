//! Recognises and validates packages: headers, magic numbers, lengths, checksums (docs/protocol.md 5); and determines
//! which modules can install which package. `scan` reads every file through an [`Inspector`] once; `decision` asks
//! whether a [`PackageKind`] fits a module's [`ChipFamily`].
//!
//! A file without a known magic number is accepted (packages for 2G, AT and LuatOS-Air have no public layout). A file
//! that begins like a known layout and then differs from it is refused, because such a file hangs old modules
//! (docs/protocol.md 2c).

use md5::Md5;
use sha2::{Digest, Sha256};

use super::ContentId;
use super::name::file_kind;

mod air8101;
mod eigen;
mod family;
mod image;
mod kind;
mod mistaken;
#[cfg(test)]
mod tests;

pub use air8101::crc16;
pub use family::ChipFamily;
pub use kind::PackageKind;

/// Result of reading a whole file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inspected {
    /// SHA-256 of all bytes.
    pub content: ContentId,
    /// MD5 of all bytes, for a `.md5` file beside the file.
    pub md5: [u8; 16],
    /// Size in bytes.
    pub size: u64,
    /// The kind of package.
    pub kind: PackageKind,
}

/// Number of bytes kept from the beginning of a file. Every header except that of an Air8101 script is shorter.
const HEAD: usize = 512;

/// Validation of one layout. Created from the first [`HEAD`] bytes of a file, or from all bytes of a shorter one.
trait FormatCheck: Send {
    /// Adds the bytes after the first [`HEAD`].
    fn update(&mut self, bytes: &[u8]);

    /// Returns the kind if the file is valid. `size` is the size of the whole file. `whole` is false if only its
    /// beginning was seen.
    fn finish(self: Box<Self>, size: u64, whole: bool) -> Result<PackageKind, String>;
}

/// Validation of a file of which only the magic number is known.
impl FormatCheck for PackageKind {
    fn update(&mut self, _: &[u8]) {}

    fn finish(self: Box<Self>, _: u64, _: bool) -> Result<PackageKind, String> {
        Ok(*self)
    }
}

/// Returns the validation for a file that begins with `head`.
fn check_for(head: &[u8]) -> Box<dyn FormatCheck> {
    if let Some(check) = image::ImageCheck::begin(head) {
        return Box::new(check);
    }
    if let Some(check) = eigen::ContainerCheck::begin(head) {
        return Box::new(check);
    }
    match *head {
        [0x01, 0x04, 0x5a, 0xa5, 0x5a, 0xa5, ..] => Box::new(PackageKind::LuaDb),
        // One byte is no magic number, so the number of segments and the flash mode must be valid too.
        [0xe9, 1..=16, 0..=5, ..] => Box::new(PackageKind::Esp32),
        _ if head.iter().all(|byte| *byte == air8101::BLANK) => {
            Box::new(air8101::ScriptCheck::begin(head))
        }
        _ => match eigen::ContainerCheck::begin_signed(head) {
            Some(check) => Box::new(check),
            None => Box::new(PackageKind::Generic),
        },
    }
}

/// Validates and hashes a file in one pass. Receives the bytes in order and then returns the result. Keeps the first
/// 512 bytes and running hashes, never the whole file.
pub struct Inspector {
    name: String,
    size: u64,
    sha256: Sha256,
    md5: Md5,
    head: Vec<u8>,
    /// Receives the bytes once `head` is full.
    check: Option<Box<dyn FormatCheck>>,
    /// Whether all bytes so far may be part of a text.
    text: bool,
}

impl Inspector {
    /// Creates an inspector. `name` is the file name, for kinds that only the ending reveals.
    pub fn new(name: &str) -> Inspector {
        Inspector {
            name: name.to_owned(),
            size: 0,
            sha256: Sha256::new(),
            md5: Md5::new(),
            head: Vec::with_capacity(HEAD),
            check: None,
            text: true,
        }
    }

    /// Adds the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.size = self.size.saturating_add(bytes.len() as u64);
        self.sha256.update(bytes);
        self.md5.update(bytes);
        self.text = self.text && mistaken::may_be_text(bytes);
        let (first, rest) = split(bytes, HEAD - self.head.len());
        self.head.extend_from_slice(first);
        if self.head.len() == HEAD {
            let check = self.check.get_or_insert_with(|| check_for(&self.head));
            check.update(rest);
        }
    }

    /// Returns the result for the whole file. The error is a sentence that names the fault and the file to use instead.
    pub fn finish(mut self) -> Result<Inspected, String> {
        let kind = self.kind(self.size, true)?;
        Ok(Inspected {
            content: ContentId(self.sha256.finalize().into()),
            md5: self.md5.finalize().into(),
            size: self.size,
            kind,
        })
    }

    /// Returns the kind of a file of `size` bytes by its beginning, before the rest was sent. Faults in the rest are
    /// not detected.
    pub fn preview(mut self, size: u64) -> Result<PackageKind, String> {
        let whole = self.size >= size;
        self.kind(size, whole)
    }

    fn kind(&mut self, size: u64, whole: bool) -> Result<PackageKind, String> {
        // The name may show that the file is no firmware.
        if let Some(sentence) = file_kind(&self.name).mistake(&self.name) {
            return Err(sentence);
        }
        if size == 0 {
            return Err("the file is empty: copy it again".to_owned());
        }
        let check = self.check.take();
        let check = check.unwrap_or_else(|| check_for(&self.head));
        let kind = check.finish(size, whole)?;
        if kind == PackageKind::Generic {
            mistaken::refuse(&self.name, &self.head, self.text)?;
        }
        Ok(kind)
    }
}

/// Returns the first `most` bytes, and the rest.
fn split(bytes: &[u8], most: usize) -> (&[u8], &[u8]) {
    bytes.split_at_checked(most).unwrap_or((bytes, &[]))
}

/// Returns the little-endian number at this position of a header; 0 beyond its end.
fn u32_at(header: &[u8], at: usize) -> u32 {
    let bytes = header.get(at..).and_then(|rest| rest.first_chunk());
    bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

/// CRC32 as used in these headers: that of zip without the final inversion (docs/protocol.md 5a).
pub fn crc32(bytes: &[u8]) -> u32 {
    !crc32fast::hash(bytes)
}

/// Returns the header at the beginning of a file. The error is the sentence about a file that is shorter.
fn header<'h>(label: &str, length: usize, head: &'h [u8]) -> Result<&'h [u8], String> {
    head.get(..length).ok_or_else(|| {
        format!(
            "the file has {} bytes, but a complete {label} begins with a header of {length}: it was cut off, \
             copy it again",
            head.len()
        )
    })
}

/// Returns the sentence about a header whose CRC is wrong.
fn damaged_header(label: &str) -> String {
    format!(
        "the header of this {label} is damaged (its CRC does not match): export it again, and copy it \
         unchanged"
    )
}

/// Compares the length in a header with the file's size. Some layouts `may_be_longer`, because they are padded or
/// signed.
fn check_length(label: &str, expected: u64, size: u64, may_be_longer: bool) -> Result<(), String> {
    let remedy = match size < expected {
        true => "it was cut off, copy it again",
        false if size == expected || may_be_longer => return Ok(()),
        false => "something was added to it, export it again",
    };
    Err(format!(
        "the header of this {label} says {expected} bytes, but the file has {size}: {remedy}"
    ))
}

/// Returns the sentence about a header without data after it.
fn missing_data(label: &str) -> String {
    format!("this {label} has a header but no data: export it again")
}
