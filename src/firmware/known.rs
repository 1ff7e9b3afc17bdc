//! Table of known hashes: the result of reading the file with a given stamp, so that a restart does not read every file
//! again. Used by [`super::scan::file_table`].
//!
//! The device number counts only for disks. The number of a btrfs, NFS or overlay file system changes at each boot and
//! would invalidate the table at every reboot. A wrong entry never causes wrong bytes to be served: a snapshot is
//! served only if it has the recorded hash.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read};
use std::path::PathBuf;

use serde_json::Value;

use super::ContentId;
use super::package::{Inspected, PackageKind};
use crate::os::fs::{Content, FileStamp, open_to_read};
use crate::state::{self, StateFolder};

/// Maximum number of files in the table.
const MAX_FILES: usize = 200_000;

/// Length in bytes of the longest line that is read.
const LONGEST_LINE: u64 = 4096;

/// Format version. It is raised when the validation of packages or the format of the lines changes. Every file is then
/// read again.
const VERSION: u64 = 2;

/// Name of the table's file in the state folder.
pub const FILE: &str = "hashes.jsonl";

/// Maps a file stamp to what the file contains, or to the reason why the file is refused. Stored as JSON lines.
pub struct KnownFiles {
    file: Option<PathBuf>,
    /// State folder to claim before the file is written; `None` if the caller has exclusive access to the file.
    lock: Option<StateFolder>,
    table: HashMap<FileStamp, Result<Inspected, String>>,
    changed: bool,
}

impl KnownFiles {
    /// Reads the table from this file and skips lines that cannot be parsed. With `None`, the table is only kept in
    /// memory.
    pub fn open(file: Option<PathBuf>) -> KnownFiles {
        let table = match file.as_deref().map(open_to_read) {
            Some(Ok(file)) => read(BufReader::new(Content::new(file))),
            _ => HashMap::new(),
        };
        KnownFiles {
            file,
            lock: None,
            table,
            changed: false,
        }
    }

    /// Opens the table in this state folder, for the server that uses the folder.
    pub fn open_in(folder: &StateFolder) -> KnownFiles {
        let path = folder.path().join(FILE);
        // A folder in place of the file would make every save fail. A damaged file is replaced by the next save.
        if folder.is_claimed() && std::fs::symlink_metadata(&path).is_ok_and(|about| about.is_dir())
        {
            const COST: &str = "the firmware files are read again";
            state::set_aside_damaged(&path, &"is a folder", COST);
        }
        KnownFiles {
            lock: Some(folder.clone()),
            ..KnownFiles::open(Some(path))
        }
    }

    /// Returns the contents of the file with this stamp, or the reason why it is refused; `None` if unknown.
    pub fn get(&self, stamp: &FileStamp) -> Option<&Result<Inspected, String>> {
        self.table.get(&stable_stamp(stamp))
    }

    /// Records the contents of the file with this stamp, or the reason why it is refused.
    pub fn insert(&mut self, stamp: &FileStamp, found: Result<Inspected, String>) {
        let stamp = stable_stamp(stamp);
        if self.table.len() >= MAX_FILES && !self.table.contains_key(&stamp) {
            return;
        }
        if self.table.get(&stamp) != Some(&found) {
            self.table.insert(stamp, found);
            self.changed = true;
        }
    }

    /// Removes a file from the table, so that it is read again.
    pub fn forget(&mut self, stamp: &FileStamp) {
        self.changed |= self.table.remove(&stable_stamp(stamp)).is_some();
    }

    /// Removes the files that a scan did not see. Files on devices of which the scan saw no file are kept, because a
    /// removable medium may be mounted again; but not if the table is half full.
    pub fn keep_only(&mut self, seen: &[FileStamp]) {
        let mut seen: Vec<FileStamp> = seen.iter().map(stable_stamp).collect();
        seen.sort();
        let mut devices: Vec<u64> = seen.iter().map(|stamp| stamp.dev).collect();
        devices.dedup();
        let before = self.table.len();
        let room = before < MAX_FILES / 2;
        self.table.retain(|stamp, _| {
            seen.binary_search(stamp).is_ok() || (room && !devices.contains(&stamp.dev))
        });
        self.changed |= self.table.len() != before;
    }

    /// The device number of the files in the table, if it is the same for all.
    pub fn device(&self) -> Option<u64> {
        let mut devices = self.table.keys().map(|stamp| stamp.dev);
        let first = devices.next()?;
        // 0 replaces a number that may change at a remount (see `stable_stamp`).
        (first != 0 && devices.all(|device| device == first)).then_some(first)
    }

    /// Whether the table has changes that are not in its file yet.
    pub fn is_unsaved(&self) -> bool {
        self.changed && self.file.is_some()
    }

    /// Number of known files.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether no file is known.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Writes the file atomically if it is out of date.
    pub fn save(&mut self) -> io::Result<()> {
        let Some(file) = self.file.as_ref().filter(|_| self.changed) else {
            return Ok(());
        };
        if let Some(lock) = &self.lock {
            lock.claim()?;
        }
        let mut text = format!("{{\"luat-ota\":\"hashes\",\"version\":{VERSION}}}\n");
        let mut lines: Vec<_> = self.table.iter().collect();
        lines.sort_by_key(|(stamp, _)| **stamp);
        for (stamp, found) in lines {
            write_line(&mut text, stamp, found);
        }
        state::write_atomically(file, text.as_bytes())?;
        self.changed = false;
        Ok(())
    }
}

/// Returns the stamp without the part that may change from boot to boot, which is the number of a device that is not a
/// disk (its major number is 0).
fn stable_stamp(stamp: &FileStamp) -> FileStamp {
    let major = (stamp.dev >> 8 & 0xfff) | (stamp.dev >> 32 & 0xffff_f000);
    FileStamp {
        dev: if major == 0 { 0 } else { stamp.dev },
        ..*stamp
    }
}

/// Appends one line. Appends nothing if a time does not fit into 64 bits, which happens on no file system.
fn write_line(text: &mut String, stamp: &FileStamp, found: &Result<Inspected, String>) {
    let (Ok(mtime), Ok(ctime)) = (i64::try_from(stamp.mtime), i64::try_from(stamp.ctime)) else {
        return;
    };
    let FileStamp { dev, ino, size, .. } = stamp;
    let what = match found {
        Ok(file) => {
            let md5: String = file.md5.iter().map(|byte| format!("{byte:02x}")).collect();
            let (content, kind) = (file.content, quoted(file.kind.label()));
            format!("\"sha256\":\"{content}\",\"md5\":\"{md5}\",\"kind\":{kind}")
        }
        Err(sentence) => format!("\"refused\":{}", quoted(sentence)),
    };
    // Writing to a String does not fail.
    let _ = writeln!(
        text,
        "{{\"dev\":{dev},\"ino\":{ino},\"size\":{size},\"mtime\":{mtime},\"ctime\":{ctime},{what}}}"
    );
}

fn read(mut file: impl BufRead) -> HashMap<FileStamp, Result<Inspected, String>> {
    let mut table = HashMap::new();
    let mut line = Vec::new();
    let ours = next_line(&mut file, &mut line)
        && parse(&line).is_some_and(|header| {
            header.get("luat-ota") == Some(&Value::from("hashes"))
                && header.get("version") == Some(&Value::from(VERSION))
        });
    if !ours {
        return table;
    }
    while table.len() < MAX_FILES && next_line(&mut file, &mut line) {
        if let Some((stamp, found)) = read_line(&line) {
            table.insert(stamp, found);
        }
    }
    table
}

/// Reads the next line; returns `false` at the end of the file. A line longer than [`LONGEST_LINE`] arrives in pieces, none
/// of which can be parsed.
fn next_line(file: &mut impl BufRead, line: &mut Vec<u8>) -> bool {
    line.clear();
    matches!(file.by_ref().take(LONGEST_LINE).read_until(b'\n', line), Ok(n) if n > 0)
}

fn parse(line: &[u8]) -> Option<Value> {
    serde_json::from_str(str::from_utf8(line).ok()?).ok()
}

/// Encodes a text as a JSON string.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

fn read_line(line: &[u8]) -> Option<(FileStamp, Result<Inspected, String>)> {
    let line = parse(line)?;
    let number = |key| line.get(key)?.as_u64();
    let time = |key| line.get(key)?.as_i64().map(i128::from);
    let text = |key| line.get(key)?.as_str();
    let stamp = FileStamp {
        dev: number("dev")?,
        ino: number("ino")?,
        size: number("size")?,
        mtime: time("mtime")?,
        ctime: time("ctime")?,
    };
    if let Some(sentence) = text("refused") {
        return Some((stamp, Err(sentence.to_owned())));
    }
    let found = Inspected {
        content: ContentId::parse(text("sha256")?)?,
        md5: md5(text("md5")?)?,
        size: stamp.size,
        kind: PackageKind::from_label(text("kind")?)?,
    };
    Some((stamp, Ok(found)))
}

/// Parses 32 hexadecimal digits.
pub(super) fn md5(hex: &str) -> Option<[u8; 16]> {
    // Repeated twice, an MD5 has the length of a content id, so the parser of content ids can read it.
    let ContentId(twice) = ContentId::parse(&hex.repeat(2))?;
    twice.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(dev: u64, ino: u64) -> FileStamp {
        FileStamp {
            dev,
            ino,
            size: 7,
            mtime: 1_700_000_000_123_456_789,
            ctime: -5,
        }
    }

    fn inspected(byte: u8) -> Inspected {
        Inspected {
            content: ContentId([byte; 32]),
            md5: [byte; 16],
            size: 7,
            kind: PackageKind::Ec7xx { delta: true },
        }
    }

    /// Device number of a disk as Linux encodes it: major 8, minor 1.
    const DISK: u64 = 0x801;

    fn folder(name: &str) -> PathBuf {
        let folder =
            std::env::temp_dir().join(format!("luat-ota-known-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn results_are_known_after_a_restart() {
        let folder = folder("restart");
        let file = folder.join("hashes.jsonl");
        let mut known = KnownFiles::open(Some(file.clone()));
        assert!(known.is_empty() && !known.is_unsaved());
        known.insert(&stamp(DISK, 1), Ok(inspected(1)));
        known.insert(&stamp(DISK, 2), Err("is a \"zip\" archive,\nnot".into()));
        assert!(known.is_unsaved());
        known.save().unwrap();
        assert!(!known.is_unsaved());
        let known = KnownFiles::open(Some(file));
        assert_eq!(known.len(), 2);
        assert_eq!(known.get(&stamp(DISK, 1)), Some(&Ok(inspected(1))));
        let refused = known.get(&stamp(DISK, 2)).unwrap().as_ref().unwrap_err();
        assert_eq!(refused, "is a \"zip\" archive,\nnot");
        assert_eq!(known.get(&stamp(DISK, 3)), None);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_damaged_line_does_not_affect_the_others() {
        let folder = folder("damaged");
        let file = folder.join("hashes.jsonl");
        let mut known = KnownFiles::open(Some(file.clone()));
        for ino in 0..5 {
            known.insert(&stamp(DISK, ino), Ok(inspected(ino as u8)));
        }
        known.save().unwrap();
        let mut lines: Vec<String> = std::fs::read_to_string(&file)
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect();
        lines[2] = lines[2].replace("\"kind\":\"", "\"kind\":\"un");
        lines[3].truncate(40);
        lines[4] = "x".repeat(3 * LONGEST_LINE as usize);
        std::fs::write(&file, lines.join("\n")).unwrap();
        assert_eq!(KnownFiles::open(Some(file)).len(), 2);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_file_of_another_version_or_program_is_ignored() {
        for header in ["{\"luat-ota\":\"hashes\",\"version\":999}", "[]", "\u{0}"] {
            let mut text = format!("{header}\n");
            write_line(&mut text, &stamp(DISK, 1), &Ok(inspected(1)));
            assert!(read(text.as_bytes()).is_empty(), "{header}");
        }
    }

    #[test]
    fn the_device_number_counts_only_for_disks() {
        let mut known = KnownFiles::open(None);
        known.insert(&stamp(DISK, 1), Ok(inspected(1)));
        known.insert(&stamp(0x2d, 1), Ok(inspected(2)));
        assert_eq!(known.get(&stamp(DISK, 1)), Some(&Ok(inspected(1))));
        assert_eq!(known.get(&stamp(0x802, 1)), None);
        assert_eq!(known.get(&stamp(0x31, 1)), Some(&Ok(inspected(2))));
    }

    #[test]
    fn files_on_a_removed_medium_are_kept() {
        let mut known = KnownFiles::open(None);
        known.insert(&stamp(DISK, 1), Ok(inspected(1)));
        known.insert(&stamp(DISK, 2), Ok(inspected(2)));
        known.insert(&stamp(0x811, 3), Ok(inspected(3)));
        known.keep_only(&[stamp(DISK, 1)]);
        assert!(known.get(&stamp(DISK, 1)).is_some());
        assert!(known.get(&stamp(DISK, 2)).is_none());
        assert!(known.get(&stamp(0x811, 3)).is_some());
    }

    #[test]
    fn a_forgotten_file_is_not_known() {
        let mut known = KnownFiles::open(None);
        known.insert(&stamp(DISK, 1), Ok(inspected(1)));
        known.forget(&stamp(DISK, 1));
        assert!(known.is_empty());
    }

    #[test]
    fn only_32_hexadecimal_digits_are_an_md5() {
        assert_eq!(md5(&"0F".repeat(16)), Some([15; 16]));
        assert_eq!(md5(&"0f".repeat(15)), None);
        assert_eq!(md5(&"0f".repeat(32)), None);
        assert_eq!(md5(&"xf".repeat(16)), None);
    }
}
