//! Items of the file table.

use std::sync::Arc;
use std::time::Instant;

use super::group::GroupFile;
use super::{MAX_TRIES, Patience};
use crate::firmware::package::Inspected;
use crate::firmware::rules::{self, Rules};
use crate::firmware::scan::checksum::{self, Checksum};
use crate::firmware::scan::reading;
use crate::firmware::settle::Settling;
use crate::os::fs::{FileStamp, Folder};

/// A file or folder that appears in the catalogue.
#[derive(Debug)]
pub enum Item {
    Firmware(Box<FirmwareFile>),
    Checksum(ChecksumFile),
    Rules(RulesFile),
    Group(GroupFile),
    /// A sentence about the path.
    Remark(RemarkKind, String),
}

/// Subject of a remark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemarkKind {
    /// A file that is not served.
    Quarantined,
    /// A folder that cannot be read.
    Unread,
    /// A file that is no firmware.
    Ignored,
}

impl Item {
    /// State of a firmware file that must still be read.
    pub fn pending(&self) -> Option<&PendingFile> {
        match self {
            Item::Firmware(file) => match &file.state {
                ReadState::Pending(pending) => Some(pending),
                _ => None,
            },
            _ => None,
        }
    }

    /// Time at which a checksum file, a release.json or a group is read again.
    pub fn reread_at(&self) -> Option<Instant> {
        match self {
            Item::Checksum(sum) => sum.reread_at,
            Item::Rules(rules) => rules.reread_at,
            Item::Group(group) => group.reread_at,
            _ => None,
        }
    }
}

/// A firmware file.
#[derive(Debug)]
pub struct FirmwareFile {
    pub stamp: FileStamp,
    pub state: ReadState,
    pub listing: Listing,
}

/// Progress of reading a firmware file.
#[derive(Debug)]
pub enum ReadState {
    /// Never read, because the path is invalid or the file is far too large.
    Refused(String),
    /// File that was not read yet, or that was not stable when read.
    Pending(Box<PendingFile>),
    /// Result of reading the file.
    Read(Result<Inspected, String>),
}

/// State of a firmware file in the catalogue.
#[derive(Clone, Debug, PartialEq)]
pub enum Listing {
    Waiting,
    Offered(Inspected),
    Refused(String),
}

/// A firmware file that must still be read.
#[derive(Debug)]
pub struct PendingFile {
    pub settling: Settling,
    /// Whether the reader has the file.
    pub reading: bool,
    /// Reason why the file could not be read.
    pub error: Option<String>,
    /// Whether there is a valid checksum file beside the file.
    pub has_checksum: bool,
    /// Result of an early reading, which is valid only with a matching checksum.
    pub early: Option<Inspected>,
    /// Whether it was logged that a writer keeps the file open.
    pub logged: bool,
    tries: u32,
}

impl ReadState {
    /// Creates the state of a file that must still be read.
    pub fn pending(settling: Settling) -> ReadState {
        ReadState::Pending(Box::new(PendingFile {
            settling,
            reading: false,
            error: None,
            has_checksum: false,
            early: None,
            logged: false,
            tries: 0,
        }))
    }
}

impl PendingFile {
    /// Records that the file was seen with this stamp, which may be unchanged.
    pub fn seen(&mut self, stamp: FileStamp, now: Instant) {
        if stamp != self.settling.stamp() {
            self.early = None;
            self.logged = false;
        }
        self.settling.seen(stamp, now);
    }

    /// Counts a failed reading. With [`Patience::None`] the number of readings is limited.
    pub fn count_failure(&mut self, patience: Patience) {
        self.tries = self.tries.saturating_add(1);
        if patience == Patience::None && self.tries >= MAX_TRIES {
            self.error = Some("It changed while it was read: a program is writing it.".into());
        }
    }
}

/// A checksum file.
#[derive(Clone, Debug)]
pub struct ChecksumFile {
    /// Stamp of the file; `None` if it is no regular file or could not be read.
    pub stamp: Option<FileStamp>,
    pub checksum: Result<Checksum, String>,
    /// Time at which the file is read again.
    pub reread_at: Option<Instant>,
}

impl ChecksumFile {
    pub fn new(stamp: Result<FileStamp, String>, reread_at: Option<Instant>) -> ChecksumFile {
        ChecksumFile {
            stamp: stamp.as_ref().ok().copied(),
            checksum: Err(stamp.err().map(unusable).unwrap_or_default()),
            reread_at,
        }
    }

    pub fn read(&mut self, root: &Folder, path: &str) {
        if self.stamp.is_none() {
            return;
        }
        self.checksum = match reading::read_small(root, path, checksum::MAX_BYTES) {
            Ok(bytes) => checksum::read(path, &bytes.unwrap_or_default()),
            Err(error) => {
                // The next walk sees a changed stamp and reads the file again.
                self.stamp = None;
                Err(unusable(reading::unreadable(&error)))
            }
        };
    }
}

fn unusable(why: String) -> String {
    format!("The checksum file beside it cannot be used. {why}")
}

/// A rules file (release.json).
#[derive(Debug, Default)]
pub struct RulesFile {
    /// Stamp of the file; `None` if it is no regular file, could not be read, or is gone.
    pub stamp: Option<FileStamp>,
    /// The last valid rules.
    pub good: Option<Arc<Rules>>,
    /// The error in the file at present.
    pub error: Option<String>,
    /// Time at which the file is read again, or forgotten if it is gone.
    pub reread_at: Option<Instant>,
    pub gone: bool,
}

impl RulesFile {
    /// Reads the file. Returns `true` if its contents have changed. An error does not replace valid rules while the
    /// file may still be being written.
    pub fn read(&mut self, root: &Folder, path: &str) -> bool {
        let read = match reading::read_small(root, path, rules::MAX_BYTES) {
            Ok(Some(bytes)) => Rules::parse(&bytes),
            Ok(None) => Err("It is larger than 16 MiB.".into()),
            Err(error) => {
                // The next walk sees a changed stamp and reads the file again.
                self.stamp = None;
                Err(reading::unreadable(&error))
            }
        };
        match read {
            Ok(rules) => {
                let same = self.error.is_none() && self.good.as_deref() == Some(&rules);
                self.error = None;
                if !same {
                    self.good = Some(Arc::new(rules));
                }
                !same
            }
            Err(_) if self.good.is_some() && self.reread_at.is_some() => false,
            Err(text) => self.set_error(text),
        }
    }

    /// Records an error. Returns `true` if it differs from the previous one.
    pub fn set_error(&mut self, text: String) -> bool {
        let same = self.error.as_ref() == Some(&text);
        self.error = Some(text);
        !same
    }
}
