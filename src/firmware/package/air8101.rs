//! Script package of Air8101 (`TAUL`; docs/protocol.md 9f). The full package is an [`image`](super::image).

use super::{FormatCheck, PackageKind, check_length, header, missing_data, split, u32_at};

/// Byte of erased flash. A script package begins with these bytes.
pub(super) const BLANK: u8 = 0xff;

/// Number of blank bytes at the beginning.
const BLANKS: usize = 1024;

/// Magic number after the blank bytes, before a length of 4 bytes.
const MAGIC: &[u8; 4] = b"TAUL";

/// Number of bytes before the script.
const HEADER: usize = BLANKS + 8;

/// Number of script bytes that each CRC-16 covers.
const BLOCK: usize = 32;

/// First bytes of the script, which is a LuaDB image.
const LUADB: [u8; 6] = [0x01, 0x04, 0x5a, 0xa5, 0x5a, 0xa5];

const SCRIPT: &str = "Air8101 script package";

/// CRC of a block: polynomial 0x8005, initial value 0xffff, not reflected, no final exclusive or.
pub fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xffff, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte) << 8, |crc: u16, _| match crc >> 15 {
            0 => crc << 1,
            _ => crc << 1 ^ 0x8005,
        })
    })
}

/// Validation of a file whose first 512 bytes (or all bytes) are blank: a script package, unless the later bytes
/// differ.
pub(super) struct ScriptCheck {
    /// The part of the header that was seen.
    header: Vec<u8>,
    /// The current block with its CRC.
    block: Vec<u8>,
    /// Position in the file of the first damaged block.
    damaged: Option<u64>,
    /// Number of bytes in complete blocks.
    seen: u64,
    is_luadb: bool,
}

impl ScriptCheck {
    pub(super) fn begin(head: &[u8]) -> ScriptCheck {
        let mut script = ScriptCheck {
            header: Vec::with_capacity(HEADER),
            block: Vec::with_capacity(BLOCK + 2),
            damaged: None,
            seen: 0,
            is_luadb: true,
        };
        script.update(head);
        script
    }

    fn check_block(&mut self) {
        let (data, crc) = split(&self.block, BLOCK);
        if self.seen == 0 {
            self.is_luadb = data.starts_with(&LUADB);
        }
        if crc != crc16(data).to_be_bytes() {
            self.damaged.get_or_insert(HEADER as u64 + self.seen);
        }
        self.seen += self.block.len() as u64;
        self.block.clear();
    }
}

impl FormatCheck for ScriptCheck {
    fn update(&mut self, bytes: &[u8]) {
        let (first, mut rest) = split(bytes, HEADER - self.header.len());
        self.header.extend_from_slice(first);
        while !rest.is_empty() {
            let (first, others) = split(rest, BLOCK + 2 - self.block.len());
            self.block.extend_from_slice(first);
            rest = others;
            if self.block.len() == BLOCK + 2 {
                self.check_block();
            }
        }
    }

    fn finish(self: Box<Self>, size: u64, whole: bool) -> Result<PackageKind, String> {
        let (blanks, rest) = split(&self.header, BLANKS);
        let has_magic = MAGIC.starts_with(rest.get(..MAGIC.len()).unwrap_or(rest));
        if !blanks.iter().all(|byte| *byte == BLANK) || !has_magic {
            return Ok(PackageKind::Generic);
        }
        let header = match header(SCRIPT, HEADER, &self.header) {
            Ok(header) => header,
            Err(_) if !whole => return Ok(PackageKind::Generic),
            Err(sentence) => return Err(sentence),
        };
        let length = u32_at(header, HEADER - 4);
        check_length(SCRIPT, HEADER as u64 + u64::from(length), size, false)?;
        if length == 0 {
            return Err(missing_data(SCRIPT));
        }
        if let Some(at) = self.damaged {
            return Err(format!(
                "this {SCRIPT} is damaged at byte {at} (the CRC of that block does not match): copy the \
                 file again"
            ));
        }
        if !self.is_luadb {
            return Err(format!(
                "this {SCRIPT} contains no LuaDB image: export it again"
            ));
        }
        Ok(PackageKind::Air8101 { script: true })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crc_of_a_block_is_that_of_the_packages() {
        // CRC-16/CMS of the standard check string.
        assert_eq!(crc16(b"123456789"), 0xaee7);
    }
}
