//! When is a file complete? No server can know; this is how we come closest (docs/hazards.md 11).
//!
//! A state machine for one file, without files and without a clock: the caller tells it what was seen
//! and when, and it says when to try next and with how much trust. Used by the shelf of
//! [`super::scan`]. The surprise is that it never believes a change time: clocks of sticks and of
//! network servers lie, so only what was seen here, by our own clock, counts.

use std::time::{Duration, Instant};

use super::package::Inspected;
use crate::os::fs::Stamp;

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
    stamp: Stamp,
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
    pub(super) fn new(stamp: Stamp, now: Instant, old: bool) -> Settling {
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
    pub(super) fn stamp(&self) -> Stamp {
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
    pub(super) fn seen(&mut self, stamp: Stamp, now: Instant) {
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
mod tests {
    use super::*;
    use crate::firmware::ContentId;
    use crate::firmware::package::PackageKind;

    fn stamp(size: u64) -> Stamp {
        Stamp {
            dev: 1,
            ino: 2,
            size,
            mtime: i128::from(size),
            ctime: i128::from(size),
        }
    }

    fn found(byte: u8) -> Result<Inspected, String> {
        Ok(Inspected {
            content: ContentId([byte; 32]),
            md5: [byte; 16],
            size: 1,
            kind: PackageKind::Generic,
        })
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// With how much trust it may be read.
    fn trust(file: &Settling, now: Instant) -> Option<Trust> {
        let trust = file.attempt(false, now)?.trust;
        (trust != Trust::Ask).then_some(trust)
    }

    /// A file that the kernel was asked about, and that nobody has open.
    fn asked(stamp: Stamp, now: Instant) -> Settling {
        let mut file = Settling::new(stamp, now, false);
        file.granted();
        file
    }

    const SURE: KernelAnswer = KernelAnswer::Writer { surely: true };
    const DOUBTED: KernelAnswer = KernelAnswer::Writer { surely: false };

    #[test]
    fn under_a_lease_a_file_is_read_once_when_it_was_still_for_a_second() {
        let start = Instant::now();
        let mut file = Settling::new(stamp(1), start, false);
        assert_eq!(trust(&file, start + ms(1099)), None);
        assert_eq!(trust(&file, start + ms(1100)), Some(Trust::Lease));
        assert!(file.read(false, true, &found(1), ms(10), start + ms(1100)));
    }

    #[test]
    fn each_change_starts_the_second_again() {
        let start = Instant::now();
        let mut file = Settling::new(stamp(1), start, false);
        file.seen(stamp(2), start + ms(300));
        file.seen(stamp(2), start + ms(900));
        file.granted();
        assert_eq!(file.due(false), start + ms(1400));
        assert_eq!(file.stamp(), stamp(2));
    }

    #[test]
    fn a_slow_writer_is_waited_for_three_of_its_pauses_and_ten_seconds_at_most() {
        let start = Instant::now();
        let mut file = Settling::new(stamp(1), start, false);
        file.seen(stamp(2), start + ms(1000));
        file.granted();
        assert_eq!(file.due(false), start + ms(4000));
        file.seen(stamp(3), start + ms(9000));
        file.granted();
        assert_eq!(file.due(false), start + ms(19_000));
    }

    #[test]
    fn the_pauses_of_a_writer_who_is_seen_to_have_it_open_do_not_count() {
        let start = Instant::now();
        let mut file = Settling::new(stamp(1), start, false);
        for second in 1..10 {
            let now = start + ms(1000 * second);
            let asking = now - ms(700);
            assert_eq!(file.due(false), asking);
            assert_eq!(file.attempt(false, asking).unwrap().trust, Trust::Ask);
            file.not_granted(SURE, asking);
            file.seen(stamp(1 + second), now);
        }
        file.granted();
        assert_eq!(file.due(false), start + ms(9000 + 1100));
    }

    #[test]
    fn the_pauses_of_a_file_that_was_replaced_do_not_count() {
        let start = Instant::now();
        let mut file = Settling::new(stamp(1), start, false);
        let other = Stamp { ino: 3, ..stamp(1) };
        file.seen(other, start + ms(8000));
        file.granted();
        assert_eq!(file.due(false), start + ms(9100));
    }

    #[test]
    fn a_chmod_is_no_pause_of_a_writer() {
        let start = Instant::now();
        let mut file = Settling::new(stamp(1), start, false);
        let other = Stamp {
            ctime: 99,
            ..stamp(1)
        };
        file.seen(other, start + ms(8000));
        file.granted();
        assert_eq!(file.due(false), start + ms(9100));
    }

    #[test]
    fn a_writer_on_a_local_disk_is_waited_for_without_end() {
        let start = Instant::now();
        let mut file = asked(stamp(1), start);
        let mut now = start;
        for _ in 0..1000 {
            now = file.due(false).max(now);
            assert_eq!(trust(&file, now), Some(Trust::Lease));
            file.not_granted(SURE, now);
            assert_eq!(file.due(false), now + ms(500));
        }
        // It closes the file: an event, and the stamp is as it was.
        file.seen(stamp(1), now + ms(10));
        assert_eq!(trust(&file, now + ms(10)), Some(Trust::Lease));
    }

    #[test]
    fn a_file_system_that_always_says_writer_is_read_twice_after_ten_seconds() {
        let start = Instant::now();
        let mut file = asked(stamp(1), start);
        let mut now = start;
        loop {
            now = file.due(false).max(now);
            if trust(&file, now) == Some(Trust::Any) {
                break;
            }
            file.not_granted(DOUBTED, now);
        }
        assert!(now >= start + ms(10_000) && now < start + ms(10_600));
        assert!(!file.read(false, false, &found(1), ms(10), now));
        assert_eq!(trust(&file, now + ms(999)), None);
        assert_eq!(trust(&file, now + ms(1000)), Some(Trust::Any));
        assert!(file.read(false, false, &found(1), ms(10), now + ms(1000)));
    }

    #[test]
    fn without_a_lease_a_file_is_still_for_four_seconds_and_read_twice() {
        let start = Instant::now();
        let mut file = Settling::new(stamp(1), start, false);
        file.not_granted(KernelAnswer::Unknown, start + ms(1100));
        assert_eq!(trust(&file, start + ms(3999)), None);
        assert_eq!(trust(&file, start + ms(4000)), Some(Trust::NoWriter));
        assert!(!file.read(false, false, &found(1), ms(10), start + ms(4100)));
        assert_eq!(trust(&file, start + ms(5099)), None);
        assert_eq!(trust(&file, start + ms(5100)), Some(Trust::NoWriter));
        assert!(file.read(false, false, &found(1), ms(10), start + ms(5200)));
    }

    #[test]
    fn two_readings_that_differ_begin_the_slow_way_again() {
        let start = Instant::now();
        let mut file = Settling::new(stamp(1), start, false);
        file.not_granted(KernelAnswer::Unknown, start + ms(1100));
        assert!(!file.read(false, false, &found(1), ms(10), start + ms(4000)));
        assert!(!file.read(false, false, &found(2), ms(10), start + ms(5000)));
        assert_eq!(trust(&file, start + ms(8999)), None);
        assert!(!file.read(false, false, &found(2), ms(10), start + ms(9000)));
        assert!(file.read(false, false, &found(2), ms(10), start + ms(10_000)));
    }

    #[test]
    fn a_change_between_the_readings_begins_the_slow_way_again_without_asking_for_a_lease() {
        let start = Instant::now();
        let mut file = Settling::new(stamp(1), start, false);
        file.not_granted(KernelAnswer::Unknown, start + ms(1100));
        assert!(!file.read(false, false, &found(1), ms(10), start + ms(4000)));
        file.seen(stamp(2), start + ms(4500));
        assert!(file.due(false) >= start + ms(8500));
    }

    #[test]
    fn a_file_that_was_there_at_the_start_is_read_at_once_and_without_a_lease_twice() {
        let start = Instant::now();
        let mut file = Settling::new(stamp(1), start, true);
        assert_eq!(trust(&file, start), Some(Trust::NoWriter));
        assert!(file.clone().read(false, true, &found(1), ms(10), start));
        // Without a lease nobody knows whether an upload only paused while the server was restarted.
        let mut unleased = file.clone();
        assert!(!unleased.read(false, false, &found(1), ms(10), start));
        assert_eq!(trust(&unleased, start + ms(999)), None);
        assert!(unleased.read(false, false, &found(1), ms(10), start + ms(1000)));
        // Unless somebody writes to it.
        file.not_granted(SURE, start);
        assert_eq!(trust(&file, start + ms(500)), None);
        assert_eq!(trust(&file, start + ms(1100)), Some(Trust::Lease));
    }

    #[test]
    fn a_checksum_is_worth_one_early_reading_of_each_state() {
        let start = Instant::now();
        let mut file = Settling::new(stamp(1), start, false);
        assert_eq!(file.attempt(true, start + ms(99)), None);
        let early = ReadAttempt {
            trust: Trust::Any,
            for_proof: true,
        };
        assert_eq!(file.attempt(true, start + ms(100)), Some(early));
        assert!(!file.read(true, true, &found(1), ms(10), start + ms(150)));
        file.granted();
        assert_eq!(file.attempt(true, start + ms(1099)), None);
        assert_eq!(trust(&file, start + ms(1100)), Some(Trust::Lease));
        file.seen(stamp(2), start + ms(2000));
        assert_eq!(file.attempt(true, start + ms(2100)), Some(early));
        assert!(!file.read(true, true, &found(1), ms(100), start + ms(2200)));
        // The reading took a tenth of a second: not again within one.
        file.seen(stamp(3), start + ms(2300));
        file.granted();
        assert_eq!(file.due(true), start + ms(3200));
    }

    #[test]
    fn what_is_put_off_is_not_due_before() {
        let start = Instant::now();
        let mut file = Settling::new(stamp(1), start, true);
        file.put_off(start + ms(30_000));
        assert_eq!(file.due(true), start + ms(30_000));
        file.seen(stamp(2), start + ms(1000));
        assert!(file.due(false) < start + ms(3000));
    }
}
