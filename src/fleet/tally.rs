//! Counters since the start, and the rates of the last hour, for the operator's metrics and page. Updated where the log
//! lines are written.
//!
//! No counter belongs to a single device: the code bounds the number of counters, not the requests.

use super::notices::NoticeKind;
use crate::decision::Refusal;

/// Time that one item of [`Tally::rates`] covers, in seconds.
pub const SLOT: u32 = 60;

/// Number of items in [`Tally::rates`]: one hour.
pub const SLOTS: usize = 60;

/// The protocols, in the order of the first index of [`Tally::checks`].
pub const PROTOCOLS: [&str; 3] = ["http", "udp", "tcp"];

/// Endings of downloads, in the order of [`Tally::downloads`].
pub const ENDINGS: [&str; 9] = [
    "complete", "sent", "cut", "stalled", "replaced", "gone", "full", "stopped", "other",
];

/// HTTP statuses that are counted in [`Tally::refusals`].
pub const REFUSALS: [u16; 2] = [416, 503];

/// Reasons why a file could not be loaded, in the order of [`Tally::snapshots`].
pub const LOAD_FAILURES: [&str; 3] = ["gone", "unread", "full"];

/// Counts of one minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Minute {
    /// Checks answered, whatever the verdict.
    pub checks: u32,
    /// Checks that ended in an offer.
    pub offers: u32,
    /// Bytes of firmware sent.
    pub bytes: u64,
}

/// All counters. They wrap around on overflow, as Prometheus expects of counters.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Checks by protocol, and by verdict word (see [`Tally::VERDICTS`]).
    pub checks: [[u64; Tally::VERDICTS.len()]; PROTOCOLS.len()],
    /// Downloads that ended, by [`ENDINGS`].
    pub downloads: [u64; ENDINGS.len()],
    /// Bytes of firmware that were acknowledged, by protocol.
    pub bytes: [u64; PROTOCOLS.len()],
    /// Replies over HTTP with a status of [`REFUSALS`], in the same order; without replies to `/readyz`.
    pub refusals: [u64; REFUSALS.len()],
    /// Files that could not be loaded, by [`LOAD_FAILURES`].
    pub snapshots: [u64; LOAD_FAILURES.len()],
    /// HTTP heads and datagrams that were not valid requests.
    pub malformed: u64,
    /// Connections that were refused for lack of a seat.
    pub turned_away: u64,
    /// Downloads, by modules without an id, of a file that their network had downloaded five times already within a
    /// day.
    pub repeated: u64,
    /// Notices, in the order of [`NoticeKind::ALL`].
    pub notices: [u64; NoticeKind::ALL.len()],
    /// Counts of the last hour, current minute last.
    minutes: [Minute; SLOTS],
    /// Number of the current minute on a monotonic clock.
    minute: u32,
}

impl Default for Tally {
    fn default() -> Tally {
        Tally {
            checks: Default::default(),
            downloads: Default::default(),
            bytes: Default::default(),
            refusals: Default::default(),
            snapshots: Default::default(),
            malformed: 0,
            turned_away: 0,
            repeated: 0,
            notices: Default::default(),
            minutes: [Minute::default(); SLOTS],
            minute: 0,
        }
    }
}

impl Tally {
    /// Labels of the verdicts that are counted separately; the last one is for all others.
    #[allow(clippy::indexing_slicing)] // Evaluated by the compiler.
    pub const VERDICTS: [&'static str; Refusal::LABELS.len() + 3] = {
        let mut labels = ["other"; Refusal::LABELS.len() + 3];
        (labels[0], labels[1]) = ("offer", "resume");
        let mut at = 0;
        while at < Refusal::LABELS.len() {
            labels[at + 2] = Refusal::LABELS[at];
            at += 1;
        }
        labels
    };

    /// Counts a check that was answered. `now`: seconds of a monotonic clock.
    pub fn check(&mut self, proto: &str, verdict: &str, now: u32) {
        let verdict_at = place(&Tally::VERDICTS, verdict);
        let count = self
            .checks
            .get_mut(place(&PROTOCOLS, proto))
            .and_then(|row| row.get_mut(verdict_at));
        if let Some(count) = count {
            *count = count.wrapping_add(1);
        }
        let minute = self.minute(now);
        minute.checks = minute.checks.saturating_add(1);
        if verdict == "offer" {
            minute.offers = minute.offers.saturating_add(1);
        }
    }

    /// Counts a download that ended, with its acknowledged bytes.
    pub fn download(&mut self, proto: &str, ending: &str, bytes: u64, now: u32) {
        if let Some(count) = self.downloads.get_mut(place(&ENDINGS, ending)) {
            *count = count.wrapping_add(1);
        }
        if let Some(sum) = self.bytes.get_mut(place(&PROTOCOLS, proto)) {
            *sum = sum.wrapping_add(bytes);
        }
        let minute = self.minute(now);
        minute.bytes = minute.bytes.saturating_add(bytes);
    }

    /// Counts a reply over HTTP.
    pub fn reply(&mut self, status: u16) {
        let at = REFUSALS.iter().position(|known| *known == status);
        if let Some(count) = at.and_then(|at| self.refusals.get_mut(at)) {
            *count = count.wrapping_add(1);
        }
    }

    /// Counts a file that could not be loaded.
    pub fn load_failure(&mut self, why: &str) {
        if let Some(count) = self.snapshots.get_mut(place(&LOAD_FAILURES, why)) {
            *count = count.wrapping_add(1);
        }
    }

    /// Counts a notice.
    pub fn notice(&mut self, kind: NoticeKind) {
        let at = NoticeKind::ALL.iter().position(|known| *known == kind);
        if let Some(count) = at.and_then(|at| self.notices.get_mut(at)) {
            *count = count.wrapping_add(1);
        }
    }

    /// Counts of the last hour, oldest minute first, current minute last. `now`: seconds of a monotonic clock.
    pub fn rates(&mut self, now: u32) -> Vec<Minute> {
        self.minute(now);
        self.minutes.to_vec()
    }

    /// Advances to the minute of `now`, and returns its counts.
    fn minute(&mut self, now: u32) -> &mut Minute {
        let minute = now / SLOT;
        let begun = minute.saturating_sub(self.minute);
        self.minute = self.minute.max(minute);
        let begun = usize::try_from(begun).map_or(SLOTS, |begun| begun.min(SLOTS));
        self.minutes.rotate_left(begun);
        for new in self.minutes.iter_mut().rev().take(begun) {
            *new = Minute::default();
        }
        let [.., running] = &mut self.minutes;
        running
    }
}

/// Index of a word in a list; the last index if the list does not contain the word.
fn place(words: &[&str], word: &str) -> usize {
    words
        .iter()
        .position(|known| *known == word)
        .unwrap_or(words.len().saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_without_counts_are_listed() {
        let mut tally = Tally::default();
        tally.check("http", "offer", 6000);
        tally.check("udp", "not_now", 6000 + 3 * SLOT);
        let rates = tally.rates(6000 + 4 * SLOT);
        let checks: Vec<u32> = rates.iter().rev().take(5).map(|m| m.checks).collect();
        assert_eq!(checks, [0, 1, 0, 0, 1]);
        assert_eq!(rates.iter().map(|m| m.offers).sum::<u32>(), 1);
        assert!(tally.rates(60 * 60 * 24).len() == SLOTS);
    }

    #[test]
    fn an_unlisted_word_counts_as_other() {
        let mut tally = Tally::default();
        tally.download("tcp", "medium gone", 5, 0);
        assert_eq!(tally.downloads.last(), Some(&1));
        assert_eq!(tally.bytes, [0, 0, 5]);
    }
}
