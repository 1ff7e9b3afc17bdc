//! Watches the firmware folder and publishes a new catalogue after each change. Runs on its own thread; a second thread
//! reads files. File system events only show what to scan; the scan determines what changed.
//!
//! No descriptor of the firmware folder is kept open, because a removable medium could not be unmounted otherwise.

mod catalog_log;
mod changes;
mod reader;
mod scanning;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use self::catalog_log::CatalogLog;
use self::changes::{ChangeCollector, FolderWatches};
use self::reader::Reader;
use super::catalog::{Catalog, Remark};
use super::known::KnownFiles;
use super::scan::FolderId;
use super::scan::file_table::{FileTable, Patience};
use super::scan::reading::{Job, ReadOutcome};
use crate::os::fs::Folder;
use crate::os::process::start_thread;

/// Longest time between two full scans, regardless of the configuration.
const LONGEST_RESCAN: Duration = Duration::from_secs(24 * 3600);
/// Time from the first event to the partial scan, so that one scan covers a whole burst of events.
const DEBOUNCE: Duration = Duration::from_millis(50);
/// Time between two catalogues while files are being read.
const PUBLISH_INTERVAL: Duration = Duration::from_millis(500);
/// Walks and builds take at most one part in this many of the thread's time.
const SHARE: u32 = 10;
/// Time until the next attempt after a missing folder or a shortage of descriptors.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// Time until new hashes are written.
const SAVE_DELAY: Duration = Duration::from_secs(5);
/// Time until new hashes are written while files are still being read or written.
const BUSY_SAVE_DELAY: Duration = Duration::from_secs(30);
/// Shortest time between two log lines about the same fault.
const LOG_PAUSE: Duration = Duration::from_secs(60);
/// Time that [`Watcher::stop`] waits for a disk that does not respond.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Options of the watcher.
pub struct WatchOptions {
    /// The firmware folder.
    pub root: PathBuf,
    /// Table of known hashes.
    pub known: KnownFiles,
    /// Longest time between two full scans.
    pub rescan: Duration,
    /// Folder that walks skip (the state folder, if it is inside the firmware folder).
    pub skip: Option<PathBuf>,
}

/// Handle of the running watcher. Dropping it stops the threads.
pub struct Watcher {
    messages: Sender<WatchMessage>,
    /// Disconnected once the thread has ended.
    ended: Receiver<()>,
    reads: Arc<AtomicUsize>,
    stopping: Arc<AtomicBool>,
}

/// A message to the watching thread.
enum WatchMessage {
    /// The collector has changes.
    Changed,
    Read(Job, ReadOutcome),
    Rescan,
    Reread(String),
    Stop,
}

impl Watcher {
    /// Starts the threads. Each new catalogue is sent to the channel, which keeps only the latest. The first one is
    /// sent after the first walk, with every file whose hash is known. Fails if no thread can be started.
    pub fn start(
        options: WatchOptions,
    ) -> io::Result<(Watcher, smol::channel::Receiver<Arc<Catalog>>)> {
        let (messages, inbox) = mpsc::channel();
        let (job_sender, jobs) = mpsc::channel();
        let (end, ended) = mpsc::channel::<()>();
        let (catalogs, receiver) = smol::channel::bounded(1);
        let reads = Arc::new(AtomicUsize::new(0));
        let stopping = Arc::new(AtomicBool::new(false));
        let reader = Reader {
            root: options.root.clone(),
            jobs,
            done: messages.clone(),
            reads: reads.clone(),
            stopping: stopping.clone(),
        };
        let watch = WatchLoop::new(options, messages.clone(), job_sender, catalogs);
        let watching = move || {
            watch.run(&inbox);
            drop(end);
        };
        start_thread("reading", Box::new(move || reader.run()))?;
        start_thread("firmware", Box::new(watching))?;
        let watcher = Watcher {
            messages,
            ended,
            reads,
            stopping,
        };
        Ok((watcher, receiver))
    }

    /// Requests a full scan (after SIGHUP, or when a file was found changed while being loaded). Never blocks.
    pub fn rescan(&self) {
        self.send(WatchMessage::Rescan);
    }

    /// Forgets the hash of a file (relative to the firmware folder) whose bytes differ from those recorded, and reads
    /// the file again. Never blocks.
    pub fn reread(&self, path: &str) {
        self.send(WatchMessage::Reread(path.to_owned()));
    }

    /// Number of complete readings of firmware files since the start.
    pub fn files_read(&self) -> usize {
        self.reads.load(Ordering::Relaxed)
    }

    /// Writes new hashes to the state folder and stops the threads. Waits up to five seconds for a disk that does not
    /// respond.
    pub fn stop(self) {
        self.request_stop();
        // Nothing is ever sent. The receiver returns when the sender is dropped.
        self.ended.recv_timeout(STOP_TIMEOUT).ok();
    }

    fn request_stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.send(WatchMessage::Stop);
    }

    fn send(&self, message: WatchMessage) {
        // Fails only if the thread has ended.
        self.messages.send(message).ok();
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.request_stop();
    }
}

/// State of the watching thread.
struct WatchLoop {
    root: PathBuf,
    rescan: Duration,
    skip: Option<PathBuf>,
    known: KnownFiles,
    files: FileTable,
    log: CatalogLog,
    changes: Arc<ChangeCollector>,
    watches: Option<FolderWatches>,
    jobs: Sender<Vec<Job>>,
    /// Number of jobs whose outcome has not arrived yet.
    outstanding: usize,
    catalogs: smol::channel::Sender<Arc<Catalog>>,
    /// The last catalogue that was sent.
    last: Option<Arc<Catalog>>,
    /// Identity of the root folder at the last walk.
    root_id: Option<FolderId>,
    /// Device number of the root at the last successful scan.
    device: Option<u64>,
    /// Reason why the root cannot be walked.
    missing: Option<String>,
    /// `missing` as stated in the last catalogue.
    published_missing: Option<String>,
    /// [`Catalog::reading`] of the last catalogue.
    reading: bool,
    /// Whether a full scan is requested.
    scan_wanted: bool,
    /// Time of the first change that was not examined yet.
    changed_since: Option<Instant>,
    next_scan: Instant,
    no_partial_scan_before: Instant,
    no_scan_before: Instant,
    no_catalog_before: Instant,
    published: Instant,
    /// Time of the first hash that was not saved yet.
    unsaved_since: Option<Instant>,
    no_reading_before: Instant,
    no_save_before: Instant,
    logged_no_events: bool,
    logged_shortage: Option<Instant>,
    stopped: bool,
}

impl WatchLoop {
    fn new(
        options: WatchOptions,
        messages: Sender<WatchMessage>,
        jobs: Sender<Vec<Job>>,
        catalogs: smol::channel::Sender<Arc<Catalog>>,
    ) -> WatchLoop {
        let now = Instant::now();
        let wake = move || drop(messages.send(WatchMessage::Changed));
        WatchLoop {
            root: options.root,
            rescan: options.rescan.min(LONGEST_RESCAN),
            skip: options.skip,
            device: options.known.device(),
            known: options.known,
            files: FileTable::new(Patience::Settle),
            log: CatalogLog::default(),
            changes: Arc::new(ChangeCollector::new(wake)),
            watches: None,
            jobs,
            outstanding: 0,
            catalogs,
            last: None,
            root_id: None,
            missing: None,
            published_missing: None,
            reading: true,
            scan_wanted: true,
            changed_since: None,
            next_scan: now,
            no_partial_scan_before: now,
            no_scan_before: now,
            no_catalog_before: now,
            published: now,
            unsaved_since: None,
            no_reading_before: now,
            no_save_before: now,
            logged_no_events: false,
            logged_shortage: None,
            stopped: false,
        }
    }

    fn run(mut self, inbox: &Receiver<WatchMessage>) {
        while self.step() {
            let pause = self.wake_time().saturating_duration_since(Instant::now());
            if let Ok(message) = inbox.recv_timeout(pause) {
                self.receive(message);
                // Take all queued messages, so that one step handles them together.
                for message in inbox.try_iter() {
                    self.receive(message);
                }
            }
        }
        self.save();
    }

    fn receive(&mut self, message: WatchMessage) {
        let now = Instant::now();
        match message {
            WatchMessage::Changed => {
                self.changed_since.get_or_insert(now);
            }
            WatchMessage::Read(job, outcome) => {
                debug_assert!(self.outstanding > 0, "an outcome without a job");
                self.outstanding -= 1;
                if matches!(outcome, ReadOutcome::Gone) {
                    // Without file system events, only a scan shows what happened.
                    self.next_scan = self.next_scan.min(now + RETRY_DELAY);
                }
                self.files.add_outcome(&job, outcome, now, &mut self.known);
            }
            WatchMessage::Rescan => self.scan_wanted = true,
            WatchMessage::Reread(path) => self.files.reread(&path, now, &mut self.known),
            WatchMessage::Stop => self.stopped = true,
        }
    }

    /// Performs all due work. Returns `false` if the thread is to stop, or if the receiver of catalogues is gone.
    fn step(&mut self) -> bool {
        if self.stopped {
            return false;
        }
        let now = Instant::now();
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        self.scan_wanted |= now >= self.next_scan;
        if is_due(self.partial_scan_due()) {
            self.changed_since = None;
            let changes = self.changes.take();
            self.partial_scan(changes);
        }
        if self.scan_wanted && now >= self.no_scan_before {
            self.scan_wanted = false;
            self.changed_since = None;
            let changes = self.changes.take();
            self.invalidate_watches(&changes);
            self.full_scan();
        }
        let now = Instant::now();
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if is_due(self.reading_due()) {
            self.start_reading(now);
        }
        if is_due(self.catalog_due()) && !self.publish() {
            return false;
        }
        if self.known.is_unsaved() {
            self.unsaved_since.get_or_insert(now);
        }
        if is_due(self.save_due()) {
            self.save();
        }
        true
    }

    fn start_reading(&mut self, now: Instant) {
        let Ok(root) = Folder::open(&self.root) else {
            self.scan_wanted = true;
            self.no_reading_before = now + RETRY_DELAY;
            return;
        };
        self.files.reread_due(&root, now, &mut self.known);
        let jobs = self.files.jobs(now);
        self.outstanding = jobs.len();
        if !jobs.is_empty() {
            // Cannot fail, because the reader ends after this thread.
            self.jobs.send(jobs).ok();
        }
    }

    /// Whether files that were in the folder at the start are still being read. Files that are being written, or cannot
    /// be read at present, are tried again later and not waited for.
    fn is_reading(&self) -> bool {
        let is_due = || self.files.due().is_some_and(|due| due <= Instant::now());
        self.reading && (self.missing.is_some() || self.outstanding > 0 || is_due())
    }

    /// Time at which [`WatchLoop::step`] will have something to do, if no message arrives.
    fn wake_time(&self) -> Instant {
        let scan = match self.scan_wanted {
            true => self.no_scan_before,
            false => self.next_scan,
        };
        [
            self.partial_scan_due(),
            self.reading_due(),
            self.catalog_due(),
            self.save_due(),
        ]
        .into_iter()
        .flatten()
        .fold(scan, Instant::min)
    }

    fn partial_scan_due(&self) -> Option<Instant> {
        let since = self.changed_since?;
        Some((since + DEBOUNCE).max(self.no_partial_scan_before))
    }

    fn reading_due(&self) -> Option<Instant> {
        let due = self.files.due().filter(|_| self.outstanding == 0)?;
        Some(due.max(self.no_reading_before))
    }

    fn catalog_due(&self) -> Option<Instant> {
        let is_published = self.last.is_some()
            && self.reading == self.is_reading()
            && !self.files.is_changed()
            && self.missing == self.published_missing;
        let patience = match self.outstanding {
            0 => Duration::ZERO,
            _ => PUBLISH_INTERVAL,
        };
        (!is_published).then(|| self.no_catalog_before.max(self.published + patience))
    }

    fn save_due(&self) -> Option<Instant> {
        let is_busy = self.outstanding > 0 || self.files.is_busy();
        let patience = if is_busy { BUSY_SAVE_DELAY } else { SAVE_DELAY };
        let since = self.unsaved_since?;
        Some((since + patience).max(self.no_save_before))
    }

    /// Sends the next catalogue if it differs from the last one. Returns `false` if the receiver is gone.
    fn publish(&mut self) -> bool {
        let start = Instant::now();
        let mut found = self.files.scan_result();
        self.published_missing.clone_from(&self.missing);
        self.reading = self.is_reading();
        found.reading = self.reading;
        if let Some(text) = &self.missing {
            found.quarantined.push(Remark::new(".", text));
            found.unread.push(String::new());
        }
        let catalog = Catalog::build(found);
        self.published = Instant::now();
        self.no_catalog_before = pause_until(start);
        if self.last.as_deref() == Some(&catalog) {
            return true;
        }
        self.log.log_changes(&catalog);
        let catalog = Arc::new(catalog);
        self.last = Some(catalog.clone());
        self.catalogs.force_send(catalog).is_ok()
    }

    /// Writes the table of hashes if it is out of date.
    fn save(&mut self) {
        self.unsaved_since = None;
        if !self.known.is_unsaved() {
            return;
        }
        if self.missing.is_none() {
            self.known.keep_only(&self.files.stamps());
        }
        if let Err(error) = self.known.save() {
            self.no_save_before = Instant::now() + LOG_PAUSE;
            log::warn!(
                target: "firmware",
                "the hashes of the firmware files cannot be written to the state folder: {error}; \
                 after a restart the files are read again"
            );
        }
    }
}

/// Returns the end of the pause after work that began at `start`. The pause limits the work to a small share of time.
fn pause_until(start: Instant) -> Instant {
    let now = Instant::now();
    now + now.saturating_duration_since(start).saturating_mul(SHARE)
}

#[cfg(test)]
mod tests;
