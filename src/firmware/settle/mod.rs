//! Decides when a firmware file is stable and may be read. A server cannot know that a file is complete; this is an
//! approximation (docs/hazards.md 11).
//!
//! A state machine for one file, without file access and without a clock. The caller reports what was seen and when;
//! the state machine returns the time of the next attempt and the trust to read with. Used by
//! [`super::scan::file_table`]. Modification times are never trusted, because the clocks of removable media and of
//! network servers are wrong too often: only observations by the server's own clock count.

use std::time::{Duration, Instant};

use super::package::Inspected;
use crate::os::fs::FileStamp;

/// Time without a change before a file is read under a lease.
const QUIET: Duration = Duration::from_millis(1100);
/// Upper bound of that time if the writer pauses: it is then three times the longest pause that was observed.
const LONGEST_QUIET: Duration = Duration::from_secs(10);
/// Time without a change before a file is read without a lease. It is then read twice.
const SLOW_QUIET: Duration = Duration::from_secs(4);
/// Shortest time between the two readings.
const BETWEEN_READINGS: Duration = Duration::from_secs(1);
/// Time after which the answer "has a writer" is ignored on a file system where it may be wrong.
const DOUBTED_WRITER: Duration = Duration::from_secs(10);
/// Time without a change before the kernel is asked whether a writer has the file open. If so, pauses are ignored,
/// because the closing of the file will be seen. If not, a program may be appending to the file again and again.
const ASK_AFTER: Duration = Duration::from_millis(300);
/// Interval at which the kernel is asked whether the writer still has the file open.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// Time without a change before a file with a checksum file is read. The checksum proves that the file is complete.
/// Longer than a tick of the clock that modification times are taken from.
const PROOF_QUIET: Duration = Duration::from_millis(100);

/// Answer of the kernel to the request for a lease, if it was not granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KernelAnswer {
    /// A program has the file open for writing.
    Writer {
        /// Whether the answer is certain: the file is on a local file system, which gives it for no other reason.
        is_certain: bool,
    },
    /// The kernel gives no answer.
    Unknown,
}

/// Condition under which a file may be read at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// No reading: the kernel is only asked whether a writer has the file open.
    Ask,
    /// Reading only under a lease.
    Lease,
    /// Reading under a lease, or if the kernel gives no answer; not if there is a writer.
    NoWriter,
    /// Reading regardless of the kernel's answer.
    Any,
}

/// One attempt to read the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ReadAttempt {
    /// Required answer of the kernel.
    pub(super) trust: Trust,
    /// Whether it is too early for any use of the result except the comparison with the checksum beside the file.
    pub(super) for_proof: bool,
}

/// A file that may not be complete.
#[derive(Clone, Debug)]
pub(super) struct Settling {
    stamp: FileStamp,
    /// Time since which the file has been seen unchanged.
    since: Instant,
    /// Longest pause between two changes of this file (of this inode).
    pause: Duration,
    /// Whether the file's own times are old and the server has only just started.
    old: bool,
    /// The last answer of the kernel, if it granted no lease.
    answer: Option<KernelAnswer>,
    /// Whether the kernel was asked about a writer since the last change.
    asked: bool,
    /// Time before which there is no attempt.
    not_before: Instant,
    /// Result and end of the first of the two readings without a lease.
    first_reading: Option<(Result<Inspected, String>, Instant)>,
    /// Whether the file in its present state was read for the comparison with the checksum.
    tried: bool,
    /// Time before which there is no reading for the checksum. A large file that grows in steps must not keep the disk
    /// busy with a reading from the start after each step.
    no_proof_before: Instant,
}

impl Settling {
    /// Creates the state of a file that is seen for the first time. `old` means that it was there when the server
    /// started and that its times are old.
    pub(super) fn new(stamp: FileStamp, now: Instant, old: bool) -> Settling {
        Settling {
            stamp,
            since: now,
            pause: Duration::ZERO,
            old,
            answer: None,
            asked: false,
            not_before: now,
            first_reading: None,
            tried: false,
            no_proof_before: now,
        }
    }

    /// Stamp of the file when it was last seen.
    pub(super) fn stamp(&self) -> FileStamp {
        self.stamp
    }

    /// Time since which the file has been unchanged.
    pub(super) fn since(&self) -> Instant {
        self.since
    }

    /// Whether the file was there when the server started and has not changed since.
    pub(super) fn is_old(&self) -> bool {
        self.old
    }

    /// Records that the file was seen again. After an event for an unchanged file (its writer closed it), the kernel is
    /// asked again.
    pub(super) fn seen(&mut self, stamp: FileStamp, now: Instant) {
        if stamp == self.stamp {
            if matches!(self.answer, Some(KernelAnswer::Writer { .. })) {
                self.not_before = now;
            }
            return;
        }
        let is_same_file = (stamp.dev, stamp.ino) == (self.stamp.dev, self.stamp.ino);
        let is_held_open = self.answer == Some(KernelAnswer::Writer { is_certain: true });
        // A change of only the inode (chmod) is no write.
        let is_written = (stamp.size, stamp.mtime) != (self.stamp.size, self.stamp.mtime);
        if !is_same_file {
            self.pause = Duration::ZERO;
        } else if is_written && !is_held_open {
            self.pause = self.pause.max(now.saturating_duration_since(self.since));
        }
        self.stamp = stamp;
        self.since = now;
        self.old = false;
        // The reasons for a delay do not apply to the changed file.
        self.not_before = now;
        self.first_reading = None;
        self.tried = false;
        // If the file system has no leases, this remains so; a writer may be gone.
        self.answer = self.answer.filter(|last| *last == KernelAnswer::Unknown);
        self.asked = self.answer.is_some();
    }

    /// Time of the next attempt. `has_checksum` means that a checksum file exists.
    pub(super) fn due(&self, has_checksum: bool) -> Instant {
        let ask = (!self.asked).then(|| self.since + ASK_AFTER);
        [self.proof_due(has_checksum), ask]
            .into_iter()
            .flatten()
            .fold(self.settled_at(), Instant::min)
            .max(self.not_before)
    }

    /// Time from which the result of a reading may be used.
    fn settled_at(&self) -> Instant {
        match &self.first_reading {
            Some((_, ended)) => *ended + BETWEEN_READINGS,
            None if self.old => self.since,
            None => self.since + self.quiet_time(),
        }
    }

    /// Time from which the file may be read for the comparison with its checksum.
    fn proof_due(&self, has_checksum: bool) -> Option<Instant> {
        (has_checksum && !self.tried).then(|| self.no_proof_before.max(self.since + PROOF_QUIET))
    }

    /// The attempt that may be made at present; `None` if it is too early.
    pub(super) fn attempt(&self, has_checksum: bool, now: Instant) -> Option<ReadAttempt> {
        if now < self.due(has_checksum) {
            return None;
        }
        if now < self.settled_at() {
            let for_proof = self.proof_due(has_checksum).is_some_and(|due| due <= now);
            let trust = if for_proof { Trust::Any } else { Trust::Ask };
            return Some(ReadAttempt { trust, for_proof });
        }
        let trust = match self.answer {
            None if self.old => Trust::NoWriter,
            None => Trust::Lease,
            Some(KernelAnswer::Unknown) => Trust::NoWriter,
            Some(KernelAnswer::Writer { is_certain: true }) => Trust::Lease,
            Some(KernelAnswer::Writer { is_certain: false }) => {
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

    /// Records that the kernel was only asked, and would grant a lease.
    pub(super) fn granted(&mut self) {
        self.asked = true;
        self.answer = None;
    }

    /// Records that the kernel granted no lease, so the file was not read.
    pub(super) fn not_granted(&mut self, answer: KernelAnswer, now: Instant) {
        self.asked = true;
        self.answer = Some(answer);
        if matches!(answer, KernelAnswer::Writer { .. }) {
            self.old = false;
            self.not_before = now + ASK_AGAIN;
        }
    }

    /// Records that the file was read to the end and had the same stamp before and after. Returns `true` if the result
    /// is final. After a reading for the checksum, the caller decides by comparing it.
    pub(super) fn read(
        &mut self,
        for_proof: bool,
        leased: bool,
        found: &Result<Inspected, String>,
        time: Duration,
        now: Instant,
    ) -> bool {
        if for_proof {
            self.tried = true;
            self.no_proof_before = now + time.saturating_mul(10);
            return false;
        }
        if leased {
            return true;
        }
        match &self.first_reading {
            Some((first, _)) if first == found => true,
            Some(_) => {
                // The bytes changed although the stamp did not: start again.
                self.since = now;
                self.first_reading = None;
                false
            }
            None => {
                self.first_reading = Some((found.clone(), now));
                false
            }
        }
    }

    /// Delays the next attempt, because of a reason that is not the file's.
    pub(super) fn delay(&mut self, until: Instant) {
        self.not_before = self.not_before.max(until);
    }

    fn quiet_time(&self) -> Duration {
        let quiet = QUIET.max(self.pause.saturating_mul(3).min(LONGEST_QUIET));
        match self.answer {
            Some(KernelAnswer::Unknown) => quiet.max(SLOW_QUIET),
            _ => quiet,
        }
    }
}

#[cfg(test)]
mod tests;
