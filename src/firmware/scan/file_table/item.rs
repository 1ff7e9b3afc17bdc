//! The items of the file table.

use std::sync::Arc;
use std::time::Instant;

use super::group::GroupFile;
use super::{MOST_TRIES, Patience};
use crate::firmware::package::Inspected;
use crate::firmware::rules::{self, Rules};
use crate::firmware::scan::checksum::{self, Checksum};
use crate::firmware::scan::reading;
use crate::firmware::settle::Settling;
use crate::os::fs::{FileStamp, Folder};

/// One file or folder that the catalogue is told of.
#[derive(Debug)]
pub enum Item {
    Firmware(Box<FirmwareFile>),
    Checksum(ChecksumFile),
    Rules(RulesFile),
    Group(GroupFile),
    /// Only a sentence.
    Remark(RemarkKind, String),
}

/// What a remark is about.
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
    /// The firmware file's state, if it is still to be read.
    pub fn pending(&self) -> Option<&PendingFile> {
        match self {
            Item::Firmware(file) => match &file.state {
                ReadState::Pending(pending) => Some(pending),
                _ => None,
            },
            _ => None,
        }
    }

    /// When it is to be read again: a checksum file, a release.json or a group.
    pub fn again(&self) -> Option<Instant> {
        match self {
            Item::Checksum(sum) => sum.again,
            Item::Rules(rules) => rules.again,
            Item::Group(group) => group.again,
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
    /// Never read: its path means nothing, or it is far too large.
    Refused(String),
    /// Not read yet, or not stable when it was read.
    Pending(Box<PendingFile>),
    /// The result of the reading.
    Read(Result<Inspected, String>),
}

/// What the catalogue says of a firmware file.
#[derive(Clone, Debug, PartialEq)]
pub enum Listing {
    Waiting,
    Offered(Inspected),
    Refused(String),
}

/// A firmware file that is still to be read.
#[derive(Debug)]
pub struct PendingFile {
    pub settling: Settling,
    /// The reader has it.
    pub reading: bool,
    /// Why it could not be read.
    pub trouble: Option<String>,
    /// A readable checksum lies beside it.
    pub provable: bool,
    /// Result of an early reading, which proves nothing without a checksum that agrees.
    pub early: Option<Inspected>,
    /// The log was told that a writer does not close it.
    pub told: bool,
    tries: u32,
}

impl ReadState {
    /// A file that is still to be read.
    pub fn pending(settling: Settling) -> ReadState {
        ReadState::Pending(Box::new(PendingFile {
            settling,
            reading: false,
            trouble: None,
            provable: false,
            early: None,
            told: false,
            tries: 0,
        }))
    }
}

impl PendingFile {
    /// It was seen with this stamp (perhaps the same as before).
    pub fn seen(&mut self, stamp: FileStamp, now: Instant) {
        if stamp != self.settling.stamp() {
            self.early = None;
            self.told = false;
        }
        self.settling.seen(stamp, now);
    }

    /// Counts a reading in vain. Without patience only a few are made.
    pub fn failed_try(&mut self, patience: Patience) {
        self.tries = self.tries.saturating_add(1);
        if patience == Patience::None && self.tries >= MOST_TRIES {
            self.trouble = Some("It changes while it is read: some program is writing it.".into());
        }
    }
}

/// A checksum file.
#[derive(Clone, Debug)]
pub struct ChecksumFile {
    /// `None`: it is no regular file, or could not be read.
    pub stamp: Option<FileStamp>,
    pub says: Result<Checksum, String>,
    /// When it is to be read again.
    pub again: Option<Instant>,
}

impl ChecksumFile {
    pub fn new(stamp: Result<FileStamp, String>, again: Option<Instant>) -> ChecksumFile {
        ChecksumFile {
            stamp: stamp.as_ref().ok().copied(),
            says: Err(stamp.err().map(unusable).unwrap_or_default()),
            again,
        }
    }

    pub fn read(&mut self, root: &Folder, path: &str) {
        if self.stamp.is_none() {
            return;
        }
        self.says = match reading::small(root, path, checksum::MOST) {
            Ok(bytes) => checksum::read(path, &bytes.unwrap_or_default()),
            Err(error) => {
                // The next walk takes it for another file and reads it again.
                self.stamp = None;
                Err(unusable(reading::unreadable(&error)))
            }
        };
    }
}

fn unusable(why: String) -> String {
    format!("The checksum file beside it cannot be used. {why}")
}

/// A release.json.
#[derive(Debug, Default)]
pub struct RulesFile {
    /// `None`: it is no regular file, could not be read, or is gone.
    pub stamp: Option<FileStamp>,
    /// The last good reading.
    pub good: Option<Arc<Rules>>,
    /// What is wrong with it.
    pub error: Option<String>,
    /// When it is to be read again (or, if it is gone, forgotten).
    pub again: Option<Instant>,
    pub gone: bool,
}

impl RulesFile {
    /// Reads it. True: it says something else than before. An error while it may still be being written
    /// does not replace good rules.
    pub fn read(&mut self, root: &Folder, path: &str) -> bool {
        let read = match reading::small(root, path, rules::MOST_BYTES) {
            Ok(Some(bytes)) => Rules::parse(&bytes),
            Ok(None) => Err("It is larger than 16 MiB.".into()),
            Err(error) => {
                // The next walk takes it for another file and reads it again.
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
            Err(_) if self.good.is_some() && self.again.is_some() => false,
            Err(text) => self.set_error(text),
        }
    }

    /// True: it is another error than before.
    pub fn set_error(&mut self, text: String) -> bool {
        let same = self.error.as_ref() == Some(&text);
        self.error = Some(text);
        !same
    }
}
