//! Decides when a firmware file is stable, so that it may be read: no server can know that a file is
//! complete, and this is the nearest approach (docs/hazards.md 11).
//!
//! A state machine for one file, without files and without a clock: the caller tells it what was seen and
//! when, and it says when to try next and with how much trust. Used by [`super::scan::file_table`]. Change
//! times are never believed, because the clocks of removable media and of network servers are wrong too
//! often: only what was seen here, by our own clock, counts.

use std::time::{Duration, Instant};

use super::package::Inspected;
use crate::os::fs::FileStamp;

/// Under a lease: unchanged for at least this long …
const QUIET: Duration = Duration::from_millis(1100);
/// … or three times the longest pause that this writer was seen to make, up to this.
const QUIET_MOST: Duration = Duration::from_secs(10);
/// Without a lease: unchanged for at least this long, and then read twice.
const SLOW_QUIET: Duration = Duration::from_secs(4);
/// At least this long between the two readings.
const BETWEEN_READINGS: Duration = Duration::from_secs(1);
/// A file system that says "a writer has it" of every file is believed for this long.
const DOUBTED_WRITER: Duration = Duration::from_secs(10);
/// After this long without a change the kernel is asked whether a writer has it open: then its pauses
/// say nothing, for the end will be seen. (Else somebody may be appending to it again and again.)
const ASK: Duration = Duration::from_millis(300);
/// How often the kernel is asked again whether the writer is still there.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// With a checksum file beside it: unchanged for this long is worth a reading, for the checksum
/// proves that it is whole. (Longer than a tick of the clock that change times are taken from.)
const PROVABLE_QUIET: Duration = Duration::from_millis(100);

/// What the kernel said when a lease was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KernelAnswer {
    /// Somebody has the file open for writing. `surely`: on this file system that is known to be so.
    Writer {
        /// A local file system, where nobody else can answer for a writer.
        surely: bool,
    },
    /// It will not say.
    Unknown,
}

/// How a file may be read now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// Not at all: the kernel is only asked whether a writer has it.
    Ask,
    /// Only under a lease.
    Lease,
    /// Under a lease, or where the kernel will not say; not if it says that there is a writer.
    NoWriter,
    /// Whatever the kernel says.
    Any,
}

/// One try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ReadAttempt {
    /// What the kernel must say.
    pub(super) trust: Trust,
    /// It is too early for anything but a comparison with the checksum beside the file.
    pub(super) for_proof: bool,
}

/// A file that is not complete for certain.
#[derive(Clone, Debug)]
pub(super) struct Settling {
    stamp: FileStamp,
    /// Since when it has been seen as it is now.
    since: Instant,
    /// The longest pause between two changes of this file (of this inode).
    pause: Duration,
    /// It has lain there for long by its own times, and the server has only just started.
    old: bool,
    /// What the kernel said last, if it granted no lease.
    says: Option<KernelAnswer>,
    /// The kernel was asked about a writer since the last change.
    asked: bool,
    /// Not before this moment again.
    not_before: Instant,
    /// The slow way: what the first reading found, and when it ended.
    first: Option<(Result<Inspected, String>, Instant)>,
    /// A reading for the sake of the checksum was made of the file as it is now.
    tried: bool,
    /// No such reading before this moment: a large file that grows in steps must not keep the disk
    /// busy with being read from the start after each.
    no_proof_before: Instant,
}

impl Settling {
    /// A file seen for the first time. `old`: it was there when the server started, and its times say
    /// that it has long been as it is.
    pub(super) fn new(stamp: FileStamp, now: Instant, old: bool) -> Settling {
        Settling {
            stamp,
            since: now,
            pause: Duration::ZERO,
            old,
            says: None,
            asked: false,
            not_before: now,
            first: None,
            tried: false,
            no_proof_before: now,
        }
    }

    /// The file as it was seen last.
    pub(super) fn stamp(&self) -> FileStamp {
        self.stamp
    }

    /// Since when it is as it is.
    pub(super) fn since(&self) -> Instant {
        self.since
    }

    /// It was there when the server started and has not changed since.
    pub(super) fn is_old(&self) -> bool {
        self.old
    }

    /// It was seen again. An event for a file that did not change (its writer closed it) is worth
    /// asking the kernel again.
    pub(super) fn seen(&mut self, stamp: FileStamp, now: Instant) {
        if stamp == self.stamp {
            if matches!(self.says, Some(KernelAnswer::Writer { .. })) {
                self.not_before = now;
            }
            return;
        }
        let is_same_file = (stamp.dev, stamp.ino) == (self.stamp.dev, self.stamp.ino);
        let is_held_open = self.says == Some(KernelAnswer::Writer { surely: true });
        // A change of the inode alone (chmod) is no writing.
        let is_written = (stamp.size, stamp.mtime) != (self.stamp.size, self.stamp.mtime);
        if !is_same_file {
            self.pause = Duration::ZERO;
        } else if is_written && !is_held_open {
            self.pause = self.pause.max(now.saturating_duration_since(self.since));
        }
        self.stamp = stamp;
        self.since = now;
        self.old = false;
        // Whatever it was put off for, it is another file now.
        self.not_before = now;
        self.first = None;
        self.tried = false;
        // That there is no lease to be had stays true; a writer may have gone.
        self.says = self.says.filter(|says| *says == KernelAnswer::Unknown);
        self.asked = self.says.is_some();
    }

    /// When there is something to be tried. `provable`: a checksum file lies beside it.
    pub(super) fn due(&self, provable: bool) -> Instant {
        let ask = (!self.asked).then(|| self.since + ASK);
        [self.proof(provable), ask]
            .into_iter()
            .flatten()
            .fold(self.settled(), Instant::min)
            .max(self.not_before)
    }

    /// When it may be read to be believed.
    fn settled(&self) -> Instant {
        match &self.first {
            Some((_, ended)) => *ended + BETWEEN_READINGS,
            None if self.old => self.since,
            None => self.since + self.quiet(),
        }
    }

    /// When it may be read to be compared with its checksum.
    fn proof(&self, provable: bool) -> Option<Instant> {
        (provable && !self.tried).then(|| self.no_proof_before.max(self.since + PROVABLE_QUIET))
    }

    /// How it may be tried at this moment; `None`: not yet.
    pub(super) fn attempt(&self, provable: bool, now: Instant) -> Option<ReadAttempt> {
        if now < self.due(provable) {
            return None;
        }
        if now < self.settled() {
            let for_proof = self.proof(provable).is_some_and(|proof| proof <= now);
            let trust = if for_proof { Trust::Any } else { Trust::Ask };
            return Some(ReadAttempt { trust, for_proof });
        }
        let trust = match self.says {
            None if self.old => Trust::NoWriter,
            None => Trust::Lease,
            Some(KernelAnswer::Unknown) => Trust::NoWriter,
            Some(KernelAnswer::Writer { surely: true }) => Trust::Lease,
            Some(KernelAnswer::Writer { surely: false }) => {
                if now >= self.since + DOUBTED_WRITER {
                    Trust::Any
                } else {
                    Trust::Lease
                }
            }
        };
        Some(ReadAttempt {
            trust,
            for_proof: false,
        })
    }

    /// The kernel was only asked, and would grant a lease.
    pub(super) fn granted(&mut self) {
        self.asked = true;
        self.says = None;
    }

    /// The kernel granted no lease, and so it was not read.
    pub(super) fn not_granted(&mut self, says: KernelAnswer, now: Instant) {
        self.asked = true;
        self.says = Some(says);
        if matches!(says, KernelAnswer::Writer { .. }) {
            self.old = false;
            self.not_before = now + ASK_AGAIN;
        }
    }

    /// It was read to the end and had the same stamp before and after. True: what was found is what
    /// it is. (Whether a reading for the sake of a checksum agrees with that is for the caller to say.)
    pub(super) fn read(
        &mut self,
        for_proof: bool,
        leased: bool,
        found: &Result<Inspected, String>,
        took: Duration,
        now: Instant,
    ) -> bool {
        if for_proof {
            self.tried = true;
            self.no_proof_before = now + took.saturating_mul(10);
            return false;
        }
        if leased {
            return true;
        }
        match &self.first {
            Some((first, _)) if first == found => true,
            Some(_) => {
                // It changed, and its stamp did not: begin again.
                self.since = now;
                self.first = None;
                false
            }
            None => {
                self.first = Some((found.clone(), now));
                false
            }
        }
    }

    /// Could not be tried for a reason that is not the file's: again after this pause.
    pub(super) fn put_off(&mut self, until: Instant) {
        self.not_before = self.not_before.max(until);
    }

    fn quiet(&self) -> Duration {
        let quiet = QUIET.max(self.pause.saturating_mul(3).min(QUIET_MOST));
        match self.says {
            Some(KernelAnswer::Unknown) => quiet.max(SLOW_QUIET),
            _ => quiet,
        }
    }
}

#[cfg(test)]
mod tests;
