//! notify is a hint, the scan is the truth: turns what happens in the folder into the next catalogue.
//! Runs on a thread of its own, with a second one beside it that reads files. Used by `server`.
//!
//! The surprise: it keeps no descriptor of the firmware folder. The folder may be a stick, and a stick
//! in use cannot be unmounted.

mod hints;
mod look;
mod news;
mod queue;
mod reader;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use self::hints::{Hints, Watches};
use self::news::News;
use self::queue::Queue;
use self::reader::Reader;
use super::catalog::{Catalog, Remark};
use super::known::KnownFiles;
use super::scan::Identity;
use super::scan::reading::{Job, Outcome};
use super::scan::shelf::{Patience, Shelf};
use crate::os::fs::Folder;
use crate::os::process::start_thread;

/// No two full scans are further apart than this, whatever is asked for.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// From the first hint to the look: the rest of a burst comes meanwhile.
const DEBOUNCE: Duration = Duration::from_millis(50);
/// While files are being read a new catalogue goes out this often.
const PUBLISH: Duration = Duration::from_millis(500);
/// Walking and building take one part in so many of this thread's time at most.
const SHARE: u32 = 10;
/// What a missing folder, or a shortage of descriptors, is waited out with.
const RETRY: Duration = Duration::from_secs(1);
/// New hashes are written after this …
const SAVE: Duration = Duration::from_secs(5);
/// … or, while files are still being read or written, after this.
const SAVE_BUSY: Duration = Duration::from_secs(30);
/// The same trouble is told to the log this often.
const TELL: Duration = Duration::from_secs(60);
/// How long [`Watcher::stop`] waits for a disk that does not answer.
const STOP: Duration = Duration::from_secs(5);

/// What to watch, and how.
pub struct Options {
    /// The firmware folder.
    pub root: PathBuf,
    /// The table of known hashes.
    pub known: KnownFiles,
    /// A full scan at least this often, whatever notify says.
    pub rescan: Duration,
    /// Never walk into this folder (the state folder, if it lies inside).
    pub skip: Option<PathBuf>,
}

/// The running watcher. Dropping it stops its thread.
pub struct Watcher {
    inbox: Arc<Queue<Message>>,
    /// Closed when the thread has ended.
    ended: Arc<Queue<()>>,
    reads: Arc<AtomicUsize>,
    stopping: Arc<AtomicBool>,
}

/// What the watcher's thread is told.
enum Message {
    /// There are hints to take.
    Hint,
    Read(Job, Outcome),
    Rescan,
    Reread(String),
    Stop,
}

impl Watcher {
    /// Starts the thread. Each new catalogue arrives in the channel (the first one as soon as the
    /// folder was walked once, with every file whose hash is known); only the latest matters, and only
    /// the latest is kept. The error: no thread can be started.
    pub fn start(options: Options) -> io::Result<(Watcher, smol::channel::Receiver<Arc<Catalog>>)> {
        let inbox = Arc::new(Queue::new());
        let jobs = Arc::new(Queue::new());
        let ended = Arc::new(Queue::new());
        let (catalogs, receiver) = smol::channel::bounded(1);
        let reads = Arc::new(AtomicUsize::new(0));
        let stopping = Arc::new(AtomicBool::new(false));
        let reader = Reader {
            root: options.root.clone(),
            todo: jobs.clone(),
            done: inbox.clone(),
            reads: reads.clone(),
            stopping: stopping.clone(),
        };
        let hint = inbox.clone();
        let hints = Arc::new(Hints::new(move || hint.send(Message::Hint)));
        let now = Instant::now();
        let device = options.known.device();
        let watch = Watch {
            root: options.root,
            rescan: options.rescan.min(LONGEST),
            skip: options.skip,
            known: options.known,
            shelf: Shelf::new(Patience::Settle),
            news: News::default(),
            hints,
            watches: None,
            jobs,
            outstanding: 0,
            catalogs,
            last: None,
            identity: None,
            device,
            missing: None,
            told_missing: None,
            everything: true,
            hinted: None,
            next_scan: now,
            no_look_before: now,
            no_scan_before: now,
            no_catalog_before: now,
            published: now,
            unsaved: None,
            no_reading_before: now,
            no_save_before: now,
            told_no_events: false,
            told_shortage: None,
            stopped: false,
        };
        let (messages, end) = (inbox.clone(), ended.clone());
        let watching = move || {
            watch.run(&messages);
            end.close();
        };
        start_thread("reading", Box::new(move || reader.run()))?;
        start_thread("firmware", Box::new(watching))?;
        let watcher = Watcher {
            inbox,
            ended,
            reads,
            stopping,
        };
        Ok((watcher, receiver))
    }

    /// Asks for a scan now (SIGHUP, or a file was found changed while it was loaded). Never blocks.
    pub fn rescan(&self) {
        self.inbox.send(Message::Rescan);
    }

    /// A file (relative to the firmware folder) turned out not to have the bytes that were recorded,
    /// though its times say so: forgets its hash and reads it again. Never blocks.
    pub fn reread(&self, path: &str) {
        self.inbox.send(Message::Reread(path.to_owned()));
    }

    /// How many times a firmware file was read to the end since the start.
    pub fn files_read(&self) -> usize {
        self.reads.load(Ordering::Relaxed)
    }

    /// Writes what is not yet written of the table of hashes and stops the thread. Gives up waiting
    /// for a disk that does not answer after five seconds.
    pub fn stop(self) {
        self.tell_to_stop();
        self.ended.take(STOP);
    }

    fn tell_to_stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.inbox.send(Message::Stop);
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.tell_to_stop();
    }
}

/// The thread that watches.
struct Watch {
    root: PathBuf,
    rescan: Duration,
    skip: Option<PathBuf>,
    known: KnownFiles,
    shelf: Shelf,
    news: News,
    hints: Arc<Hints>,
    watches: Option<Watches>,
    jobs: Arc<Queue<Vec<Job>>>,
    /// Jobs given out whose outcome has not come yet.
    outstanding: usize,
    catalogs: smol::channel::Sender<Arc<Catalog>>,
    /// The last catalogue sent.
    last: Option<Arc<Catalog>>,
    /// Which folder the root was when it was walked last.
    identity: Option<Identity>,
    /// The device number of the root at the last good look.
    device: Option<u64>,
    /// Why the root cannot be walked.
    missing: Option<String>,
    /// The same in the last catalogue.
    told_missing: Option<String>,
    /// A full scan is wanted.
    everything: bool,
    /// Since when there are hints to take.
    hinted: Option<Instant>,
    next_scan: Instant,
    no_look_before: Instant,
    no_scan_before: Instant,
    no_catalog_before: Instant,
    published: Instant,
    /// Since when there are hashes to be written.
    unsaved: Option<Instant>,
    no_reading_before: Instant,
    no_save_before: Instant,
    told_no_events: bool,
    told_shortage: Option<Instant>,
    stopped: bool,
}

impl Watch {
    fn run(mut self, messages: &Queue<Message>) {
        while self.step() {
            let pause = self.wake().saturating_duration_since(Instant::now());
            for message in messages.take(pause) {
                self.take(message);
            }
        }
        self.save();
        self.jobs.close();
    }

    fn take(&mut self, message: Message) {
        let now = Instant::now();
        match message {
            Message::Hint => {
                self.hinted.get_or_insert(now);
            }
            Message::Read(job, outcome) => {
                self.outstanding = self.outstanding.saturating_sub(1);
                if matches!(outcome, Outcome::Gone) {
                    // Where there are no events nothing else tells.
                    self.next_scan = self.next_scan.min(now + RETRY);
                }
                self.shelf.outcome(&job, outcome, now, &mut self.known);
            }
            Message::Rescan => self.everything = true,
            Message::Reread(path) => self.shelf.reread(&path, now, &mut self.known),
            Message::Stop => self.stopped = true,
        }
    }

    /// Does all that is due; false: it is to stop, or nobody wants catalogues any more.
    fn step(&mut self) -> bool {
        if self.stopped {
            return false;
        }
        let now = Instant::now();
        if now >= self.next_scan {
            self.everything = true;
        }
        if self.hint_due().is_some_and(|due| due <= now) {
            self.hinted = None;
            let dirty = self.hints.take();
            self.look(dirty);
        }
        if self.everything && now >= self.no_scan_before {
            self.everything = false;
            self.hinted = None;
            let dirty = self.hints.take();
            self.distrust(&dirty);
            self.scan();
        }
        let now = Instant::now();
        if self.reading_due().is_some_and(|due| due <= now) {
            match Folder::open(&self.root) {
                Ok(root) => {
                    self.shelf.again(&root, now, &mut self.known);
                    let jobs = self.shelf.jobs(now);
                    self.outstanding = jobs.len();
                    if self.outstanding > 0 {
                        self.jobs.send(jobs);
                    }
                }
                Err(_) => {
                    self.everything = true;
                    self.no_reading_before = now + RETRY;
                }
            }
        }
        if self.catalog_due().is_some_and(|due| due <= now) && !self.publish() {
            return false;
        }
        if self.known.changed() {
            self.unsaved.get_or_insert(now);
        }
        if self.save_due().is_some_and(|due| due <= now) {
            self.save();
        }
        true
    }

    /// When [`Watch::step`] will have something to do, if no message comes.
    fn wake(&self) -> Instant {
        let scan = if self.everything {
            self.no_scan_before
        } else {
            self.next_scan
        };
        [
            self.hint_due(),
            self.reading_due(),
            self.catalog_due(),
            self.save_due(),
        ]
        .into_iter()
        .flatten()
        .fold(scan, Instant::min)
    }

    fn hint_due(&self) -> Option<Instant> {
        self.hinted
            .map(|hinted| (hinted + DEBOUNCE).max(self.no_look_before))
    }

    fn reading_due(&self) -> Option<Instant> {
        let due = self.shelf.due().filter(|_| self.outstanding == 0)?;
        Some(due.max(self.no_reading_before))
    }

    fn catalog_due(&self) -> Option<Instant> {
        let is_told =
            self.last.is_some() && !self.shelf.changed() && self.missing == self.told_missing;
        let patience = if self.outstanding > 0 {
            PUBLISH
        } else {
            Duration::ZERO
        };
        (!is_told).then(|| self.no_catalog_before.max(self.published + patience))
    }

    fn save_due(&self) -> Option<Instant> {
        let is_busy = self.outstanding > 0 || self.shelf.is_busy();
        let patience = if is_busy { SAVE_BUSY } else { SAVE };
        self.unsaved
            .map(|since| (since + patience).max(self.no_save_before))
    }

    /// Sends the next catalogue, if it says anything new; false: nobody wants it.
    fn publish(&mut self) -> bool {
        let start = Instant::now();
        let mut found = self.shelf.found();
        self.told_missing.clone_from(&self.missing);
        if let Some(text) = &self.missing {
            found.quarantined.push(Remark {
                path: ".".into(),
                text: text.clone(),
            });
            found.unread.push(String::new());
        }
        let catalog = Catalog::build(found, self.last.as_deref(), start);
        self.published = Instant::now();
        self.no_catalog_before = rest(start);
        if let Some(last) = &self.last
            && last.says_the_same(&catalog)
        {
            return true;
        }
        self.news.tell(&catalog);
        let catalog = Arc::new(catalog);
        self.last = Some(catalog.clone());
        self.catalogs.force_send(catalog).is_ok()
    }

    /// Writes the table of hashes, if it is out of date.
    fn save(&mut self) {
        self.unsaved = None;
        if !self.known.changed() {
            return;
        }
        if self.missing.is_none() {
            self.known.keep_only(&self.shelf.stamps());
        }
        if let Err(error) = self.known.save() {
            self.no_save_before = Instant::now() + TELL;
            log::warn!(
                target: "firmware",
                "the hashes of the firmware files cannot be written to the state folder: {error}; \
                 after a restart the files are read again"
            );
        }
    }
}

/// What began at `start` took its time until now: not again before it is a small share of all.
fn rest(start: Instant) -> Instant {
    let now = Instant::now();
    now + now.saturating_duration_since(start).saturating_mul(SHARE)
}

#[cfg(test)]
mod tests;
