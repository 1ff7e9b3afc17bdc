//! Detection of a journal that may lack its last lines. After a kill no line is missing that was passed to the file
//! system; after a power cut, and in a copy of the state folder, lines may be missing (docs/hazards.md 44). Lines about
//! the clock therefore state the folder and the boot in which they are written.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::fleet::entry::fields::{Fields, LineWriter};

/// The state folder and the boot in which a run writes the journal, as hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Hash of the folder's device and inode.
    folder: u64,
    /// Hash of the kernel's boot id.
    boot: u64,
}

impl Origin {
    /// Returns the origin of this process; `None` if the folder or the boot id cannot be read.
    pub fn here(folder: &Path) -> Option<Origin> {
        let boot = fs::read("/proc/sys/kernel/random/boot_id").ok()?;
        let about = fs::metadata(folder).ok()?;
        Some(Origin::of(about.dev(), about.ino(), &boot))
    }

    fn of(device: u64, inode: u64, boot: &[u8]) -> Origin {
        let folder = [device.to_le_bytes(), inode.to_le_bytes()].concat();
        Origin {
            folder: crc32fast::hash(&folder).into(),
            boot: crc32fast::hash(boot).into(),
        }
    }

    /// Writes the origin into a line about the clock.
    pub fn write(self, line: &mut LineWriter<'_>) {
        line.hash("folder", self.folder);
        line.hash("boot", self.boot);
    }

    /// Reads the origin from a line about the clock.
    pub fn read(fields: &Fields<'_>) -> Option<Origin> {
        Some(Origin {
            folder: fields.hash("folder")?,
            boot: fields.hash("boot")?,
        })
    }

    /// Whether a run at this origin has every line of the run before it at `before`. `stopped`: that run ended in good
    /// order, after an fsync. In another folder the journal is a copy, which may be older.
    pub fn has_all_lines(self, before: Origin, stopped: bool) -> bool {
        self.folder == before.folder && (stopped || self.boot == before.boot)
    }
}

#[cfg(test)]
impl Origin {
    /// Returns the origin of the same folder after a restart of the machine.
    pub fn next_boot(self) -> Origin {
        let boot = !self.boot;
        Origin { boot, ..self }
    }

    /// Returns the origin of a copy of the folder.
    pub fn in_copy(self) -> Origin {
        let folder = !self.folder;
        Origin { folder, ..self }
    }
}
