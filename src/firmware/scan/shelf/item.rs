//! The kinds of thing on the shelf, and what is known of each.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Patience, TRIES};
use crate::firmware::package::Inspected;
use crate::firmware::rules::Rules;
use crate::firmware::scan::checksum::{self, Checksum};
use crate::firmware::scan::reading;
use crate::firmware::settle::Settling;
use crate::os::fs::{Folder, Stamp};

/// A small file is read again so long after it changed: the first time it may have been read while it
/// was being written.
pub(super) const CONFIRM: Duration = Duration::from_secs(1);

/// A release.json is at most so many bytes long.
const RULES_MOST: u64 = 16 * 1024 * 1024;

/// One thing that lies in the folder.
#[derive(Debug, PartialEq)]
pub(super) enum Item {
    Firmware(Box<Firmware>),
    Checksum(Sum),
    Rules(Rulebook),
    Quarantined(String),
    Unread(String),
    Ignored(String),
}

impl Item {
    /// Is there nothing but a sentence to be said of it?
    pub(super) fn is_remark(&self) -> bool {
        matches!(self, Item::Quarantined(_) | Item::Ignored(_))
    }

    /// The firmware file that this is, if it is one that is not read for certain.
    pub(super) fn open(&self) -> Option<&Open> {
        match self {
            Item::Firmware(file) => match &file.state {
                State::Open(open) => Some(open),
                _ => None,
            },
            _ => None,
        }
    }

    /// The same, to be changed.
    pub(super) fn open_mut(&mut self) -> Option<&mut Open> {
        match self {
            Item::Firmware(file) => match &mut file.state {
                State::Open(open) => Some(open),
                _ => None,
            },
            _ => None,
        }
    }

    /// When it is to be looked at again: a checksum file or a release.json.
    pub(super) fn again(&self) -> Option<Instant> {
        match self {
            Item::Checksum(sum) => sum.again,
            Item::Rules(rules) => rules.again,
            _ => None,
        }
    }
}

/// A firmware file.
#[derive(Debug)]
pub(super) struct Firmware {
    pub(super) stamp: Stamp,
    pub(super) state: State,
    /// What the catalogue is told of it.
    pub(super) view: View,
}

/// Two files are never the same; only remarks are compared.
impl PartialEq for Firmware {
    fn eq(&self, _: &Firmware) -> bool {
        false
    }
}

/// How far we are with a file.
#[derive(Debug)]
pub(super) enum State {
    /// Its path means nothing, or it is far too large: it is not read.
    Refused(String),
    /// Not read, or not for certain.
    Open(Box<Open>),
    /// What it is.
    Read(Result<Inspected, String>),
}

/// A file that is not read for certain.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) settling: Settling,
    /// It has been given out to be read.
    pub(super) reading: bool,
    /// Why it could not be read.
    pub(super) trouble: Option<String>,
    /// A checksum lies beside it.
    pub(super) provable: bool,
    /// What an early reading found, which proves nothing without a checksum that agrees.
    pub(super) early: Option<Inspected>,
    /// The log was told that a writer does not close it.
    pub(super) told: bool,
    tries: u32,
}

/// What the catalogue is told of a file.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum View {
    Waiting,
    Offered(Inspected),
    Refused(String),
}

impl Open {
    pub(super) fn new(settling: Settling) -> Open {
        Open {
            settling,
            reading: false,
            trouble: None,
            provable: false,
            early: None,
            told: false,
            tries: 0,
        }
    }

    /// It was seen with this stamp (perhaps the same as before).
    pub(super) fn changed(&mut self, stamp: Stamp, now: Instant) {
        if stamp != self.settling.stamp() {
            self.early = None;
            self.told = false;
        }
        self.settling.seen(stamp, now);
    }

    /// One more try was in vain: without patience there are only so many.
    pub(super) fn give_up_after(&mut self, patience: Patience) {
        self.tries = self.tries.saturating_add(1);
        if patience == Patience::None && self.tries >= TRIES {
            self.trouble = Some("It changes while it is read: some program is writing it.".into());
        }
    }
}

/// A checksum file.
#[derive(Debug, PartialEq)]
pub(super) struct Sum {
    /// `None`: it is no regular file, or could not be read.
    pub(super) stamp: Option<Stamp>,
    pub(super) says: Result<Checksum, String>,
    /// When it is to be read again.
    pub(super) again: Option<Instant>,
}

impl Sum {
    pub(super) fn new(stamp: Result<Stamp, String>) -> Sum {
        let (stamp, error) = match stamp {
            Ok(stamp) => (Some(stamp), String::new()),
            Err(text) => (
                None,
                format!("The checksum file beside it cannot be used. {text}"),
            ),
        };
        Sum {
            stamp,
            says: Err(error),
            again: None,
        }
    }

    pub(super) fn read(&mut self, root: &Folder, path: &str) {
        if self.stamp.is_none() {
            return;
        }
        self.says = match reading::small(root, path, checksum::MOST) {
            Ok(Some(bytes)) => checksum::read(path, &bytes),
            Ok(None) => checksum::read(path, b""),
            Err(error) => {
                // The next walk takes it for another one and reads it again.
                self.stamp = None;
                let why = reading::unreadable(&error);
                Err(format!("The checksum file beside it cannot be used. {why}"))
            }
        };
    }
}

/// A release.json.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Rulebook {
    /// `None`: it is no regular file, could not be read, or is gone.
    pub(super) stamp: Option<Stamp>,
    /// The last good reading.
    pub(super) good: Option<Arc<Rules>>,
    /// What is wrong with it.
    pub(super) error: Option<String>,
    /// When it is to be read again (or, if it is gone, forgotten).
    pub(super) again: Option<Instant>,
    pub(super) gone: bool,
}

impl Rulebook {
    /// Reads it; true: it says something else than before. What cannot be read while it may still be
    /// being written is not held against rules that were good.
    pub(super) fn read(&mut self, root: &Folder, path: &str) -> bool {
        let read = match reading::small(root, path, RULES_MOST) {
            Ok(Some(bytes)) => Rules::parse(&bytes),
            Ok(None) => Err("It is larger than 16 MiB.".into()),
            Err(error) => {
                // The next walk takes it for another one and reads it again.
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
            Err(text) => {
                let same = self.error.as_ref() == Some(&text);
                self.error = Some(text);
                !same
            }
        }
    }
}
