//! Table of all files in the firmware folder with the information about each, from which the next catalogue is built.
//! Updated by walks and readings; determines which files are read next, and when.
//!
//! A deleted rules file stays in force for a second, because editors save by deleting and rewriting a file, and a
//! paused release must not be offered in between.

mod group;
mod item;
mod update;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use self::item::{ChecksumFile, Item, Listing, ReadState, RemarkKind};
use super::checksum;
use super::reading::{self, Job, ReadOutcome};
use crate::firmware::catalog::{
    Remark, ScanResult, ScannedFile, ScannedGroup, ScannedRules, Unlisted,
};
use crate::firmware::known::KnownFiles;
use crate::firmware::package::Inspected;
use crate::firmware::settle::{KernelAnswer, ReadAttempt, Settling, Trust};
use crate::os::fs::{FileStamp, Folder};

/// Maximum number of files that are given to the reader at a time.
const MAX_JOBS: usize = 256;
/// Maximum number of bytes given to the reader at a time, except for the first file, so that a small new file is soon
/// read.
const MAX_JOB_BYTES: u64 = 8 * 1024 * 1024;

/// Time until the next attempt with a file that could not be read for a temporary reason.
const SHORT_RETRY: Duration = Duration::from_millis(200);
/// Time until the next attempt with a file that could not be read for a lasting reason.
const LONG_RETRY: Duration = Duration::from_secs(30);

/// Time without a change after which it is logged that a writer keeps a file open.
const LOG_WRITER_AFTER: Duration = Duration::from_secs(10);

/// Time after which a changed small file is read again, because it may still have been written at the first reading.
const CONFIRM: Duration = Duration::from_secs(1);

/// Maximum number of readings of a file that changes during each, with [`Patience::None`].
const MAX_TRIES: u32 = 3;

/// Maximum number of remarks to which single changes may add.
const MAX_REMARKS: usize = 4 * super::MAX_LISTED;

/// Whether files must be stable before they are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Every file is read at once (`luat-ota check`).
    None,
    /// A file is read when no program writes to it (the server).
    Settle,
}

/// The table of all files in the folder.
pub struct FileTable {
    patience: Patience,
    items: BTreeMap<String, Item>,
    /// Paths of items that must be read, or read again.
    pending: BTreeSet<String>,
    /// Numbers of files that are counted and are no items.
    unlisted: Unlisted,
    /// Whether the next catalogue will differ from the last one.
    changed: bool,
}

impl FileTable {
    /// Creates an empty table.
    pub fn new(patience: Patience) -> FileTable {
        FileTable {
            patience,
            items: BTreeMap::new(),
            pending: BTreeSet::new(),
            unlisted: Unlisted::default(),
            changed: false,
        }
    }

    /// Removes all items, because the folder is gone.
    pub fn clear(&mut self) {
        let changed = self.changed || !self.items.is_empty();
        *self = FileTable {
            changed,
            ..FileTable::new(self.patience)
        };
    }

    /// Whether the result of [`FileTable::scan_result`] would differ from that of its last call.
    pub fn is_changed(&self) -> bool {
        self.changed
    }

    /// Whether any file must be read, or read again.
    pub fn is_busy(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Stamps of all firmware files.
    pub fn stamps(&self) -> Vec<FileStamp> {
        let stamp = |item: &Item| match item {
            Item::Firmware(file) => Some(file.stamp),
            _ => None,
        };
        self.items.values().filter_map(stamp).collect()
    }

    /// Returns the files to be read now: the smallest first, so that no large file delays others, and of equal size the
    /// newest first.
    pub fn jobs(&mut self, now: Instant) -> Vec<Job> {
        let mut due: Vec<(Reverse<Instant>, Job)> = Vec::new();
        for path in &self.pending {
            let Some(pending) = self.items.get(path).and_then(Item::pending) else {
                continue;
            };
            let attempt = match self.patience {
                _ if pending.reading => None,
                Patience::Settle => pending.settling.attempt(pending.has_checksum, now),
                Patience::None => pending.error.is_none().then_some(ReadAttempt {
                    trust: Trust::Any,
                    for_proof: false,
                }),
            };
            if let Some(attempt) = attempt {
                let job = Job {
                    path: path.clone(),
                    stamp: pending.settling.stamp(),
                    attempt,
                };
                due.push((Reverse(pending.settling.since()), job));
            }
        }
        due.sort_by_key(|(since, job)| (job.bytes(), *since));
        let mut bytes = 0;
        let jobs: Vec<Job> = due
            .into_iter()
            .map(|(_, job)| job)
            .take(MAX_JOBS)
            .take_while(|job| {
                let first = bytes == 0;
                bytes += job.bytes();
                first || bytes <= MAX_JOB_BYTES
            })
            .collect();
        for job in &jobs {
            if let Some(Item::Firmware(file)) = self.items.get_mut(&job.path)
                && let ReadState::Pending(pending) = &mut file.state
            {
                pending.reading = true;
            }
        }
        jobs
    }

    /// Time at which [`FileTable::jobs`] or [`FileTable::reread_due`] will have something to do, if nothing else
    /// happens.
    pub fn due(&self) -> Option<Instant> {
        let items = self.pending.iter().filter_map(|path| self.items.get(path));
        items
            .filter_map(|item| match item.pending() {
                Some(pending) if pending.reading => None,
                Some(pending) => Some(pending.settling.due(pending.has_checksum)),
                None => item.reread_at(),
            })
            .min()
    }

    /// Records the outcome of a job.
    pub fn add_outcome(
        &mut self,
        job: &Job,
        outcome: ReadOutcome,
        now: Instant,
        known: &mut KnownFiles,
    ) {
        let path = job.path.as_str();
        let patience = self.patience;
        let checksums = self.checksum_files(path);
        let Some(Item::Firmware(file)) = self.items.get_mut(path) else {
            return;
        };
        let ReadState::Pending(pending) = &mut file.state else {
            return;
        };
        pending.reading = false;
        if job.stamp != pending.settling.stamp() {
            return;
        }
        let mut settled = None;
        match outcome {
            ReadOutcome::Read {
                leased,
                found,
                time,
            } => {
                pending.error = None;
                let for_proof = job.attempt.for_proof;
                let mut is_true = pending.settling.read(for_proof, leased, &found, time, now);
                if for_proof {
                    pending.early = found.as_ref().ok().copied();
                    is_true = pending
                        .early
                        .is_some_and(|early| proves(&checksums, &early));
                }
                if is_true || patience == Patience::None {
                    settled = Some(found);
                }
            }
            ReadOutcome::Granted => pending.settling.granted(),
            ReadOutcome::NotGranted(answer) => {
                pending.settling.not_granted(answer, now);
                let stable_for = now.saturating_duration_since(pending.settling.since());
                let is_certain = matches!(answer, KernelAnswer::Writer { is_certain: true });
                if is_certain && stable_for >= LOG_WRITER_AFTER && !pending.logged {
                    pending.logged = true;
                    log::info!(
                        target: "firmware",
                        "{path} is still open for writing in a program: it is offered when the program closes it"
                    );
                }
            }
            ReadOutcome::Changed(stamp) => {
                pending.seen(stamp, now);
                file.stamp = stamp;
                pending.count_failure(patience);
            }
            ReadOutcome::Gone if patience == Patience::None => {
                self.mark_gone(path, now);
                return;
            }
            // The next walk will show what is at this path.
            ReadOutcome::Gone => pending.settling.delay(now + SHORT_RETRY),
            ReadOutcome::Later => {
                pending.settling.delay(now + SHORT_RETRY);
                pending.count_failure(patience);
            }
            ReadOutcome::Unreadable(text) => {
                pending.error = Some(text);
                pending.settling.delay(now + LONG_RETRY);
            }
        }
        if let Some(found) = settled {
            // A file that was read without waiting may be half written and have its final times already.
            if patience == Patience::Settle || pending.settling.is_old() {
                known.insert(&job.stamp, found.clone());
            }
            file.state = ReadState::Read(found);
            self.pending.remove(path);
        } else if let Err(text) = is_in_bounds(&file.stamp) {
            // The file has grown in the meantime.
            file.state = ReadState::Refused(text);
            self.pending.remove(path);
        }
        self.update_listing(path);
    }

    /// Reads small files again that may have been read while they were being written.
    pub fn reread_due(&mut self, root: &Folder, now: Instant, known: &mut KnownFiles) {
        let is_due = |path: &&String| {
            let reread_at = self.items.get(*path).and_then(Item::reread_at);
            reread_at.is_some_and(|at| at <= now)
        };
        let due: Vec<String> = self.pending.iter().filter(is_due).cloned().collect();
        for path in due {
            self.pending.remove(&path);
            match self.items.get_mut(&path) {
                Some(Item::Checksum(sum)) => {
                    sum.read(root, &path);
                    sum.reread_at = None;
                    self.recheck(&path, known);
                }
                Some(Item::Rules(rules)) if rules.gone => {
                    self.items.remove(&path);
                    self.changed = true;
                }
                Some(Item::Rules(rules)) => {
                    rules.reread_at = None;
                    self.changed |= rules.read(root, &path);
                }
                Some(Item::Group(group)) if group.gone => {
                    self.items.remove(&path);
                    self.changed = true;
                }
                Some(Item::Group(group)) => {
                    self.changed |= group.step(root, &path, now);
                    if group.reread_at.is_some() {
                        self.pending.insert(path);
                    }
                }
                _ => {}
            }
        }
    }

    /// Forgets the contents of a file, so that it is read again when no program writes to it.
    pub fn reread(&mut self, path: &str, now: Instant, known: &mut KnownFiles) {
        let Some(Item::Firmware(file)) = self.items.get_mut(path) else {
            return;
        };
        known.forget(&file.stamp);
        if matches!(file.state, ReadState::Read(_)) {
            file.state = ReadState::pending(Settling::new(file.stamp, now, false));
            self.pending.insert(path.to_owned());
            self.update_listing(path);
        }
    }

    /// Returns the input for the next catalogue.
    pub fn scan_result(&mut self) -> ScanResult {
        self.changed = false;
        let mut found = ScanResult {
            unlisted: self.unlisted,
            ..ScanResult::default()
        };
        for (path, item) in &self.items {
            match item {
                Item::Firmware(file) => match &file.listing {
                    Listing::Waiting => found.waiting.push(path.clone()),
                    Listing::Refused(text) => found.quarantined.push(Remark::new(path, text)),
                    Listing::Offered(inspected) => found.files.push(ScannedFile {
                        path: path.clone(),
                        stamp: file.stamp,
                        inspected: *inspected,
                    }),
                },
                Item::Rules(rules) => found.rules.push(ScannedRules {
                    path: path.clone(),
                    rules: rules.good.clone(),
                    error: rules.error.clone(),
                }),
                Item::Group(file) => found.groups.push(ScannedGroup {
                    path: path.clone(),
                    group: file.group.clone(),
                }),
                Item::Remark(RemarkKind::Ignored, text) => {
                    found.ignored.push(Remark::new(path, text));
                }
                Item::Remark(kind, text) => {
                    found.quarantined.push(Remark::new(path, text));
                    if *kind == RemarkKind::Unread {
                        found.unread.push(path.clone());
                    }
                }
                Item::Checksum(_) => {}
            }
        }
        found
    }

    /// Returns the checksum files beside a file.
    fn checksum_files(&self, path: &str) -> Vec<ChecksumFile> {
        let sum = |ending: &&str| match self.items.get(&format!("{path}{ending}")) {
            Some(Item::Checksum(sum)) => Some(sum.clone()),
            _ => None,
        };
        checksum::ENDINGS.iter().filter_map(sum).collect()
    }

    /// Updates the catalogue's entry for a firmware file.
    fn update_listing(&mut self, path: &str) {
        let checksums = self.checksum_files(path);
        let Some(Item::Firmware(file)) = self.items.get_mut(path) else {
            return;
        };
        if let ReadState::Pending(pending) = &mut file.state {
            pending.has_checksum = checksums.iter().any(|sum| sum.checksum.is_ok());
        }
        let listing = match &file.state {
            ReadState::Refused(text) | ReadState::Read(Err(text)) => Listing::Refused(text.clone()),
            ReadState::Pending(pending) => match &pending.error {
                Some(text) => Listing::Refused(text.clone()),
                None => Listing::Waiting,
            },
            ReadState::Read(Ok(inspected)) => {
                let wrong = checksums.iter().find_map(|sum| {
                    let check = sum.checksum.as_ref().map_err(String::clone);
                    let text = check.and_then(|sum| sum.check(inspected)).err()?;
                    Some((text, sum.reread_at.is_some()))
                });
                match wrong {
                    None => Listing::Offered(*inspected),
                    Some((text, false)) => Listing::Refused(text),
                    // The checksum file may be written just now.
                    Some((_, true)) if file.listing == Listing::Offered(*inspected) => return,
                    Some((_, true)) => Listing::Waiting,
                }
            }
        };
        self.changed |= file.listing != listing;
        file.listing = listing;
    }
}

/// Whether the file is small enough to be read. The error is a sentence.
fn is_in_bounds(stamp: &FileStamp) -> Result<(), String> {
    if stamp.size <= reading::MAX_BYTES {
        return Ok(());
    }
    Err(format!(
        "It has {} bytes, and no module takes such a file (at most {} MiB are read): it is not \
         firmware, or not for this server. Move it away.",
        stamp.size,
        reading::MAX_BYTES >> 20
    ))
}

/// Whether there are checksums and all of them match the file.
fn proves(checksums: &[ChecksumFile], file: &Inspected) -> bool {
    let agrees = |sum: &ChecksumFile| sum.checksum.as_ref().is_ok_and(|c| c.check(file).is_ok());
    !checksums.is_empty() && checksums.iter().all(agrees)
}
