//! Group files in the file table. Half a group is also a valid group, so the file must settle like firmware before it
//! is read. Until then the last group stays in force. After an error it no longer does: an unreadable group matches no
//! device.

use std::sync::Arc;
use std::time::Instant;

use sha2::{Digest, Sha256};

use super::{CONFIRM, LONG_RETRY, MAX_TRIES, Patience, SHORT_RETRY};
use crate::firmware::ContentId;
use crate::firmware::audience::Group;
use crate::firmware::package::{Inspected, PackageKind};
use crate::firmware::scan::reading::{self, Job, ReadOutcome};
use crate::firmware::settle::{ReadAttempt, Settling, Trust};
use crate::os::fs::{FileStamp, Folder};

/// A file `@NAME.txt`.
#[derive(Debug)]
pub struct GroupFile {
    /// The group in force. The error is empty if the file was not read yet.
    pub group: Result<Arc<Group>, String>,
    /// Time at which the file is examined again, or forgotten if it is gone.
    pub reread_at: Option<Instant>,
    pub gone: bool,
    /// Stamp of the file; `None` if it is no regular file.
    stamp: Option<FileStamp>,
    /// State of settling; `None` if the file was read, or is no regular file.
    settling: Option<Settling>,
}

impl GroupFile {
    pub fn new() -> GroupFile {
        GroupFile {
            group: Err(String::new()),
            reread_at: None,
            gone: false,
            stamp: None,
            settling: None,
        }
    }

    /// Records that the file was seen with this stamp, or is no regular file. `old` means that it need not settle.
    /// Returns `true` if another group is in force.
    pub fn seen(
        &mut self,
        (root, path): (&Folder, &str),
        stamp: Result<FileStamp, String>,
        (patience, old): (Patience, bool),
        now: Instant,
    ) -> bool {
        self.gone = false;
        let stamp = match stamp {
            Ok(stamp) => stamp,
            Err(text) => {
                (self.stamp, self.settling, self.reread_at) = (None, None, None);
                return self.set(Err(text));
            }
        };
        match &mut self.settling {
            Some(settling) => settling.seen(stamp, now),
            None if self.stamp == Some(stamp) => {
                self.reread_at = None;
                return false;
            }
            None => self.settling = Some(Settling::new(stamp, now, old)),
        }
        self.stamp = Some(stamp);
        match patience {
            Patience::Settle => self.step(root, path, now),
            Patience::None => {
                let attempt = ReadAttempt {
                    trust: Trust::Any,
                    for_proof: false,
                };
                let mut tries = 0..MAX_TRIES;
                while self.settling.is_some() && tries.next().is_some() {
                    self.read(root, path, (attempt, patience), now);
                }
                if self.group == Err(String::new()) {
                    let text = "It changed while it was read: a program is writing it.";
                    self.group = Err(text.into());
                }
                true
            }
        }
    }

    /// Marks the file to be forgotten after [`CONFIRM`], because editors save by deleting and rewriting a file.
    pub fn mark_gone(&mut self, now: Instant) {
        if !self.gone {
            (self.gone, self.stamp, self.settling) = (true, None, None);
            self.reread_at = Some(now + CONFIRM);
        }
    }

    /// Reads the file if it has settled. Returns `true` if another group is in force.
    pub fn step(&mut self, root: &Folder, path: &str, now: Instant) -> bool {
        let mut changed = false;
        while let Some(attempt) = self.settling.as_ref().and_then(|s| s.attempt(false, now)) {
            changed |= self.read(root, path, (attempt, Patience::Settle), now);
        }
        self.reread_at = self.settling.as_ref().map(|settling| settling.due(false));
        changed
    }

    /// Makes one attempt, after which the next one is due later. Returns `true` if another group is in force.
    fn read(
        &mut self,
        root: &Folder,
        path: &str,
        (attempt, patience): (ReadAttempt, Patience),
        now: Instant,
    ) -> bool {
        let Some(settling) = &mut self.settling else {
            return false;
        };
        let job = Job {
            path: path.to_owned(),
            stamp: settling.stamp(),
            attempt,
        };
        if job.stamp.size > Group::MAX_BYTES {
            self.settling = None;
            let text = "It is larger than 16 MiB: write ranges instead of single ids.";
            return self.set(Err(text.into()));
        }
        let mut bytes = Vec::new();
        let take = &mut |block: &[u8]| bytes.extend_from_slice(block);
        match reading::read_into(root, &job, &|| true, take) {
            Ok(read) => {
                let found = Ok(Inspected {
                    content: ContentId(Sha256::digest(&bytes).into()),
                    md5: [0; 16],
                    size: job.stamp.size,
                    kind: PackageKind::Generic,
                });
                let is_true = patience == Patience::None
                    || settling.is_old()
                    || settling.read(false, read.leased, &found, read.time, now);
                if !is_true {
                    return false;
                }
                self.settling = None;
                return self.set(Group::parse(&bytes).map(Arc::new));
            }
            Err(ReadOutcome::Granted) => settling.granted(),
            Err(ReadOutcome::NotGranted(answer)) => settling.not_granted(answer, now),
            Err(ReadOutcome::Changed(stamp)) => {
                settling.seen(stamp, now);
                settling.delay(now + SHORT_RETRY);
            }
            Err(ReadOutcome::Unreadable(text)) => {
                settling.delay(now + LONG_RETRY);
                return self.set(Err(text));
            }
            Err(ReadOutcome::Gone | ReadOutcome::Later | ReadOutcome::Read { .. }) => {
                settling.delay(now + SHORT_RETRY);
            }
        }
        false
    }

    fn set(&mut self, group: Result<Arc<Group>, String>) -> bool {
        let changed = self.group != group;
        self.group = group;
        changed
    }
}
