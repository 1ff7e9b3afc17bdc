//! Everything that lies in the firmware folder, each with what is known of it so far: what the next
//! catalogue is made of. Fed by walks and by readings; says what is to be read next, and when.
//!
//! The surprise: a rules file that vanishes stays in force for a second. Editors save by deleting and
//! writing anew, and a paused release must not slip out in between.

mod item;
mod seen;

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use self::item::{Item, Open, State, View};
use super::checksum::{self, Checksum};
use super::reading::{self, Job, Outcome};
use super::{Seen, Walk};
use crate::firmware::catalog::{Found, FoundFile, FoundRules, Remark, Unlisted};
use crate::firmware::known::KnownFiles;
use crate::firmware::package::Inspected;
use crate::firmware::settle::{Attempt, Says, Settling, Trust};
use crate::order;
use crate::os::fs::{Folder, Stamp};
use crate::sorted::Sorted;

/// So many files are given out to be read at a time …
const JOBS: usize = 256;
/// … or so many bytes, whichever is less: a file that is dropped meanwhile comes next.
const JOB_BYTES: u64 = 8 * 1024 * 1024;

/// A file that could not be read for a passing reason is tried again after this …
const SOON: Duration = Duration::from_millis(200);
/// … and one that could not be read for a lasting one after this.
const LATER: Duration = Duration::from_secs(30);

/// A writer that keeps a file open without writing is worth a line in the log after this.
const PATIENT: Duration = Duration::from_secs(10);

/// Without patience: so many tries for a file that changes while it is read.
const TRIES: u32 = 3;

/// Items that are only a remark, at most, where single changes add some.
const MOST_REMARKS: usize = 4 * super::LISTED;

/// Does it wait for files to settle?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::firmware) enum Patience {
    /// Every file is read as it is (`luat-ota check`).
    None,
    /// A file is read when no writer is at work (the server).
    Settle,
}

/// All that lies in the folder.
pub(in crate::firmware) struct Shelf {
    patience: Patience,
    items: Sorted<String, Item>,
    /// The paths of items with something still to come.
    open: Sorted<String, ()>,
    /// Files that are counted and are no items.
    unlisted: Unlisted,
    /// What the next catalogue is made of is not what the last one was made of.
    changed: bool,
}

impl Shelf {
    /// An empty one.
    pub(in crate::firmware) fn new(patience: Patience) -> Shelf {
        Shelf {
            patience,
            items: Sorted::default(),
            open: Sorted::default(),
            unlisted: Unlisted::default(),
            changed: false,
        }
    }

    /// Takes everything off: the folder is gone.
    pub(in crate::firmware) fn clear(&mut self) {
        self.changed |= !self.items.is_empty();
        self.items.clear();
        self.open.clear();
        self.unlisted = Unlisted::default();
    }

    /// Would [`Shelf::found`] say something else than when [`Shelf::found`] was last asked?
    pub(in crate::firmware) fn changed(&self) -> bool {
        self.changed
    }

    /// Is any file not settled, or any rules file to be looked at again?
    pub(in crate::firmware) fn is_busy(&self) -> bool {
        !self.open.is_empty()
    }

    /// The stamps of all firmware files.
    pub(in crate::firmware) fn stamps(&self) -> Vec<Stamp> {
        self.items
            .iter()
            .filter_map(|(_, item)| match item {
                Item::Firmware(file) => Some(file.stamp),
                _ => None,
            })
            .collect()
    }

    /// What a walk saw. `scope`: the paths that were looked at, with all beneath them; `None`:
    /// everything.
    /// `old_before`: files whose times lie before this (nanoseconds since 1970) need no settling.
    pub(in crate::firmware) fn walked(
        &mut self,
        root: &Folder,
        scope: Option<&[String]>,
        walk: Walk,
        old_before: Option<i128>,
        now: Instant,
        known: &mut KnownFiles,
    ) {
        for path in self.in_scope(scope) {
            if super::at(&walk.seen, &path).is_some() {
                continue;
            }
            match walk.why_unknown(&path) {
                // The last good rules stay in force.
                Some(why) if matches!(self.items.get(&path), Some(Item::Rules(_))) => {
                    self.rules(root, path, Err(why.clone()), None);
                }
                _ => self.gone(&path, now),
            }
        }
        for (folder, why) in &walk.unread {
            self.perhaps_rules(root, folder, why);
        }
        let before = self.unlisted;
        let mut room = usize::MAX;
        if scope.is_none() {
            self.unlisted = walk.unlisted;
        } else {
            // Of single changes the numbers are not exact; the next walk of everything counts anew.
            self.unlisted.quarantined += walk.unlisted.quarantined;
            self.unlisted.ignored += walk.unlisted.ignored;
            let remarks = self.items.iter().filter(|(_, item)| item.is_remark());
            room = MOST_REMARKS.saturating_sub(remarks.count());
        }
        for (path, seen) in walk.seen {
            if matches!(seen, Seen::Quarantined(_) | Seen::Ignored(_))
                && !self.items.contains(&path)
            {
                if room == 0 {
                    match seen {
                        Seen::Ignored(_) => self.unlisted.ignored += 1,
                        _ => self.unlisted.quarantined += 1,
                    }
                    continue;
                }
                room -= 1;
            }
            match seen {
                Seen::Firmware(stamp) => self.firmware(path, stamp, old_before, now, known),
                Seen::Checksum(stamp) => {
                    let again = self.confirm(&stamp, old_before, now);
                    self.checksum(root, path, stamp, again, known);
                }
                Seen::Rules(stamp) => {
                    let again = self.confirm(&stamp, old_before, now);
                    self.rules(root, path, stamp, again);
                }
                Seen::Quarantined(text) => self.remark(path, Item::Quarantined(text)),
                Seen::Unread(text) => self.remark(path, Item::Unread(text)),
                Seen::Ignored(text) => self.remark(path, Item::Ignored(text)),
            }
        }
        self.changed |= self.unlisted != before;
    }

    /// What is to be read now: the smallest first, so that no large file keeps others waiting, and of
    /// equal ones the newest.
    pub(in crate::firmware) fn jobs(&mut self, now: Instant) -> Vec<Job> {
        let mut due: Vec<((u64, Reverse<Instant>), Job)> = self
            .open
            .iter()
            .filter_map(|(path, ())| {
                let open = self.items.get(path)?.open()?;
                let since = open.settling.since();
                let attempt = match self.patience {
                    Patience::Settle => open.settling.attempt(open.provable, now)?,
                    Patience::None if open.trouble.is_some() => return None,
                    Patience::None => Attempt {
                        trust: Trust::Any,
                        for_proof: false,
                    },
                };
                let job = Job {
                    path: path.clone(),
                    stamp: open.settling.stamp(),
                    attempt,
                };
                (!open.reading).then(|| ((job.bytes(), Reverse(since)), job))
            })
            .collect();
        order::sort_by(&mut due, |(a, _), (b, _)| a.cmp(b));
        let mut bytes = 0u64;
        let jobs: Vec<Job> = due
            .into_iter()
            .map(|(_, job)| job)
            .take(JOBS)
            .take_while(|job| {
                let first = bytes == 0;
                bytes = bytes.saturating_add(job.bytes());
                first || bytes <= JOB_BYTES
            })
            .collect();
        for job in &jobs {
            if let Some(open) = self.items.get_mut(&job.path).and_then(Item::open_mut) {
                open.reading = true;
            }
        }
        jobs
    }

    /// When [`Shelf::jobs`] or [`Shelf::again`] will have something to do, if nothing else happens.
    pub(in crate::firmware) fn due(&self) -> Option<Instant> {
        self.open
            .iter()
            .filter_map(|(path, ())| {
                let item = self.items.get(path)?;
                match item.open() {
                    Some(open) if open.reading => None,
                    Some(open) => Some(open.settling.due(open.provable)),
                    None => item.again(),
                }
            })
            .min()
    }

    /// What came of a job.
    pub(in crate::firmware) fn outcome(
        &mut self,
        job: &Job,
        outcome: Outcome,
        now: Instant,
        known: &mut KnownFiles,
    ) {
        let path = job.path.as_str();
        let patience = self.patience;
        let sums = self.sums(path);
        let Some(Item::Firmware(file)) = self.items.get_mut(path) else {
            return;
        };
        let State::Open(open) = &mut file.state else {
            return;
        };
        open.reading = false;
        if job.stamp != open.settling.stamp() {
            return;
        }
        let mut settled = None;
        match outcome {
            Outcome::Read {
                leased,
                found,
                took,
            } => {
                open.trouble = None;
                let for_proof = job.attempt.for_proof;
                let mut is_true = open.settling.read(for_proof, leased, &found, took, now);
                if for_proof {
                    open.early = found.as_ref().ok().copied();
                    is_true = proves(&sums, open.early.as_ref());
                }
                if is_true || patience == Patience::None {
                    settled = Some(found);
                }
            }
            Outcome::Granted => open.settling.granted(),
            Outcome::NotGranted(says) => {
                open.settling.not_granted(says, now);
                let still = now.saturating_duration_since(open.settling.since());
                let surely = matches!(says, Says::Writer { surely: true });
                if surely && still >= PATIENT && !open.told {
                    open.told = true;
                    log::info!(
                        target: "firmware",
                        "{path} is still open for writing in some program: it is offered when that closes it"
                    );
                }
            }
            Outcome::Changed(stamp) => {
                open.changed(stamp, now);
                file.stamp = stamp;
                open.give_up_after(patience);
            }
            Outcome::Gone if patience == Patience::None => {
                self.gone(path, now);
                return;
            }
            // The next walk says what is there now.
            Outcome::Gone => open.settling.put_off(now + SOON),
            Outcome::Later => {
                open.settling.put_off(now + SOON);
                open.give_up_after(patience);
            }
            Outcome::Unreadable(text) => {
                open.trouble = Some(text);
                open.settling.put_off(now + LATER);
            }
        }
        if let Some(found) = settled {
            // What was read without waiting may be half of a file, with the times of the whole.
            if patience == Patience::Settle || open.settling.is_old() {
                known.insert(&job.stamp, found.clone());
            }
            file.state = State::Read(found);
            self.open.remove(path);
        } else if let Err(text) = is_in_bounds(&file.stamp) {
            // It grew meanwhile.
            file.state = State::Refused(text);
            self.open.remove(path);
        }
        self.judge(path);
    }

    /// Reads those small files again that may have been read while they were being written.
    pub(in crate::firmware) fn again(
        &mut self,
        root: &Folder,
        now: Instant,
        known: &mut KnownFiles,
    ) {
        let is_due = |path: &&String| {
            let item = self.items.get(path.as_str());
            item.and_then(Item::again).is_some_and(|again| again <= now)
        };
        let open = self.open.iter().map(|(path, ())| path);
        let due: Vec<String> = open.filter(is_due).cloned().collect();
        for path in due {
            self.open.remove(&path);
            match self.items.get_mut(&path) {
                Some(Item::Checksum(sum)) => {
                    sum.read(root, &path);
                    sum.again = None;
                    self.check_again(&path, known);
                }
                Some(Item::Rules(rules)) if rules.gone => {
                    self.items.remove(&path);
                    self.changed = true;
                }
                Some(Item::Rules(rules)) => {
                    rules.again = None;
                    self.changed |= rules.read(root, &path);
                }
                _ => {}
            }
        }
    }

    /// Forgets what is known of a file: it is read again, as soon as no writer is at work.
    pub(in crate::firmware) fn reread(&mut self, path: &str, now: Instant, known: &mut KnownFiles) {
        let Some(Item::Firmware(file)) = self.items.get_mut(path) else {
            return;
        };
        known.forget(&file.stamp);
        if matches!(file.state, State::Read(_)) {
            file.state = State::Open(Box::new(Open::new(Settling::new(file.stamp, now, false))));
            self.open.insert(path.to_owned(), ());
            self.judge(path);
        }
    }

    /// What the next catalogue is made of.
    pub(in crate::firmware) fn found(&mut self) -> Found {
        self.changed = false;
        let mut found = Found {
            unlisted: self.unlisted,
            ..Found::default()
        };
        for (path, item) in &self.items {
            let remark = |text: &String| Remark {
                path: path.clone(),
                text: text.clone(),
            };
            match item {
                Item::Firmware(file) => match &file.view {
                    View::Waiting => found.waiting.push(path.clone()),
                    View::Refused(text) => found.quarantined.push(remark(text)),
                    View::Offered(inspected) => found.files.push(FoundFile {
                        path: path.clone(),
                        stamp: file.stamp,
                        inspected: *inspected,
                    }),
                },
                Item::Rules(rules) => found.rules.push(FoundRules {
                    path: path.clone(),
                    rules: rules.good.clone(),
                    error: rules.error.clone(),
                }),
                Item::Quarantined(text) => found.quarantined.push(remark(text)),
                Item::Unread(text) => {
                    found.quarantined.push(remark(text));
                    found.unread.push(path.clone());
                }
                Item::Ignored(text) => found.ignored.push(remark(text)),
                Item::Checksum(_) => {}
            }
        }
        found
    }

    /// The checksums beside a file, and whether each is still to be read again.
    fn sums(&self, path: &str) -> Vec<(Result<Checksum, String>, bool)> {
        checksum::ENDINGS
            .iter()
            .filter_map(|ending| match self.items.get(&format!("{path}{ending}")) {
                Some(Item::Checksum(sum)) => Some((sum.says.clone(), sum.again.is_some())),
                _ => None,
            })
            .collect()
    }

    /// Decides anew what the catalogue is to be told of a firmware file.
    fn judge(&mut self, path: &str) {
        let sums = self.sums(path);
        let Some(Item::Firmware(file)) = self.items.get_mut(path) else {
            return;
        };
        if let State::Open(open) = &mut file.state {
            open.provable = sums.iter().any(|(says, _)| says.is_ok());
        }
        let view = match &file.state {
            State::Refused(text) => View::Refused(text.clone()),
            State::Open(open) => match &open.trouble {
                Some(text) => View::Refused(text.clone()),
                None => View::Waiting,
            },
            State::Read(Err(text)) => View::Refused(text.clone()),
            State::Read(Ok(inspected)) => {
                let wrong = sums.iter().find_map(|(says, fresh)| {
                    let check = says.as_ref().map_err(String::clone);
                    let text = check.and_then(|sum| sum.check(inspected)).err()?;
                    Some((text, *fresh))
                });
                match wrong {
                    None => View::Offered(*inspected),
                    Some((text, false)) => View::Refused(text),
                    // The checksum is perhaps being written just now.
                    Some((_, true)) if file.view == View::Offered(*inspected) => return,
                    Some((_, true)) => View::Waiting,
                }
            }
        };
        self.changed |= file.view != view;
        file.view = view;
    }
}

/// Is it worth reading? The error is a sentence.
fn is_in_bounds(stamp: &Stamp) -> Result<(), String> {
    if stamp.size <= reading::MOST {
        return Ok(());
    }
    Err(format!(
        "It has {} bytes, and no module takes such a file (at most {} MiB are read): it is no \
         firmware, or not for this server. Move it away.",
        stamp.size,
        reading::MOST >> 20
    ))
}

/// Do these checksums prove that the file is whole?
fn proves(sums: &[(Result<Checksum, String>, bool)], file: Option<&Inspected>) -> bool {
    let agrees = |says: &Result<Checksum, String>, file| {
        says.as_ref().is_ok_and(|sum| sum.check(file).is_ok())
    };
    file.is_some_and(|file| !sums.is_empty() && sums.iter().all(|(says, _)| agrees(says, file)))
}
