//! The thread that writes the journal, so that no disk ever blocks the serving thread, and a second thread that only
//! calls fsync, so that a slow card does not delay a pin that a download waits for.
//!
//! The writer never gives up after an error. While the disk is full or read-only, lines are lost, which is logged once
//! a minute; each new line is tried again. When the disk accepts lines again, the whole journal is rewritten, which
//! restores the lost records.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use smol::channel::Sender;

use super::line;
use crate::fleet::clock::Stamp;
use crate::os::fs::not_regular;
use crate::os::notify::Notify;
use crate::os::process;
use crate::state::{self, StateFolder};

/// Shortest time between two fsyncs.
const SYNC_INTERVAL: Duration = Duration::from_secs(5);

/// Shortest time between two lines in the log about write errors.
const LOG_PAUSE: Duration = Duration::from_secs(60);

/// Time after a failed open until the file is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Largest number of bytes that are written at once. Also the number of waiting bytes from which on the records of a
/// compaction must wait.
pub(super) const MAX_WRITE: usize = 1024 * 1024;

/// Largest number of bytes that are kept of a journal that could not be read at the start.
pub(super) const MAX_UNREAD: u64 = 256 * 1024 * 1024;

/// Commands for the writing thread.
#[derive(Debug)]
pub(super) enum WriterCommand {
    /// Lines to write, their number, and the sender that is notified afterwards.
    Lines(String, u32, Option<Sender<()>>),
    /// Begins a copy of everything that is not superseded.
    BeginCopy,
    /// Appends records to the copy.
    Copy(String),
    /// Syncs the copy, and then sends [`WriterCommand::CopySynced`] to this sender.
    FinishCopy(mpsc::Sender<WriterCommand>),
    /// Replaces the journal with the copy of this number, unless syncing the copy failed.
    CopySynced(u32, io::Result<()>),
    /// Ends the run. The sender is dropped when everything is on the disk.
    Stop(mpsc::Sender<()>),
}

/// State that the serving thread and the writing thread share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Number of bytes that wait for the writing thread.
    pub waiting: AtomicUsize,
    /// Size of the journal's file in bytes.
    pub size: AtomicUsize,
    /// State of the copy: one of the constants below.
    pub copy: AtomicU8,
    /// Whether lines were lost and the disk accepts lines again, so that a copy is wanted.
    pub wants_copy: AtomicBool,
    /// Flag that wakes the serving thread when the journal was found to be removed, which can happen while it is idle.
    pub notify: OnceLock<Notify>,
}

/// No copy is being made.
pub(super) const NO_COPY: u8 = 0;
/// A copy is being made.
pub(super) const COPYING: u8 = 1;
/// The copy has replaced the journal.
pub(super) const COPIED: u8 = 2;
/// The copy could not be written.
pub(super) const FAILED: u8 = 3;
/// The copy could not be created, so a retry may follow soon.
pub(super) const NOT_BEGUN: u8 = 4;

/// State of the writing thread.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) folder: PathBuf,
    /// State folder, which is claimed before the journal is opened; `None`: only the caller uses the folder.
    lock: Option<StateFolder>,
    /// Whether the existing journal was not read at the start, so that its content must be kept.
    pub(super) is_unread: bool,
    pub(super) file: Option<File>,
    /// Whether the file may end in the middle of a line.
    pub(super) is_torn: bool,
    pub(super) copy: Option<File>,
    /// Number of copies that were begun.
    pub(super) copies: u32,
    /// Whether the copy has all records and is being synced.
    pub(super) is_copy_whole: bool,
    pub(super) shared: Arc<Shared>,
    /// Number of lines that were lost since the last successful write.
    lost: u32,
    /// Whether lines were lost since the last successful write.
    is_losing: bool,
    /// Time of the last line in the log about a write error.
    last_logged: Option<Instant>,
    /// Time before which the file is not opened again, and the error of the failed open.
    retry: Option<(Instant, ErrorKind)>,
    /// Time at which fsync is due.
    sync: Option<Instant>,
    syncer: Option<SyncSender<File>>,
}

/// Starts the thread. Fails if no thread can be started.
pub(super) fn start(
    folder: &Path,
    lock: Option<StateFolder>,
    is_unread: bool,
    shared: Arc<Shared>,
    commands: Receiver<WriterCommand>,
) -> io::Result<()> {
    let mut writer = Writer {
        lock,
        is_unread,
        ..Writer::new(folder, shared)
    };
    process::start_thread("journal", Box::new(move || writer.run(&commands)))
}

impl Writer {
    pub(super) fn new(folder: &Path, shared: Arc<Shared>) -> Writer {
        Writer {
            folder: folder.to_owned(),
            lock: None,
            is_unread: false,
            file: None,
            is_torn: false,
            copy: None,
            copies: 0,
            is_copy_whole: false,
            shared,
            lost: 0,
            is_losing: false,
            last_logged: None,
            retry: None,
            sync: None,
            syncer: None,
        }
    }

    fn run(&mut self, commands: &Receiver<WriterCommand>) {
        self.syncer = start_syncer();
        loop {
            let next = match self.sync {
                Some(due) => commands.recv_timeout(due.saturating_duration_since(Instant::now())),
                None => commands.recv().map_err(RecvTimeoutError::from),
            };
            match next {
                Ok(command) => self.execute(command, commands),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if self.sync.is_some_and(|due| due <= Instant::now()) {
                self.start_sync();
            }
        }
    }

    /// Executes a command. All lines that wait behind it in the queue are written at once.
    fn execute(&mut self, command: WriterCommand, commands: &Receiver<WriterCommand>) {
        let mut next = Some(command);
        while let Some(command) = next.take() {
            let (mut text, mut count, waiter) = match command {
                WriterCommand::Lines(text, count, waiter) => (text, count, waiter),
                WriterCommand::BeginCopy => {
                    self.begin_copy();
                    continue;
                }
                WriterCommand::Copy(text) => {
                    self.append_to_copy(&text);
                    self.shared.waiting.fetch_sub(text.len(), Ordering::Release);
                    continue;
                }
                WriterCommand::FinishCopy(back) => {
                    self.sync_copy(back);
                    continue;
                }
                WriterCommand::CopySynced(number, synced) => {
                    match synced {
                        _ if number != self.copies => {}
                        Ok(()) => self.replace_journal(&mut |_| Ok(())),
                        Err(error) => self.copy_failed(&error),
                    }
                    continue;
                }
                WriterCommand::Stop(done) => {
                    if self.is_copy_whole {
                        self.replace_journal(&mut |_| Ok(()));
                    }
                    self.end_copy(NO_COPY);
                    if let Some(file) = &self.file {
                        // The process ends, so an error has no consequence.
                        file.sync_data().ok();
                    }
                    drop(done);
                    continue;
                }
            };
            let mut waiting: Vec<Sender<()>> = waiter.into_iter().collect();
            while text.len() < MAX_WRITE && next.is_none() {
                match commands.try_recv() {
                    Ok(WriterCommand::Lines(more, lines, waiter)) => {
                        text.push_str(&more);
                        count += lines;
                        waiting.extend(waiter);
                    }
                    Ok(other) => next = Some(other),
                    Err(_) => break,
                }
            }
            self.write_lines(&text, count);
            self.shared.waiting.fetch_sub(text.len(), Ordering::Release);
            for waiter in waiting {
                // The download may have ended in the meantime.
                waiter.try_send(()).ok();
            }
        }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.join(super::FILE)
    }

    /// Writes lines about changes into the journal, and into its copy while that is being made.
    pub(super) fn write_lines(&mut self, text: &str, count: u32) {
        if let Some(copy) = &mut self.copy
            && let Err(error) = copy.write_all(text.as_bytes())
        {
            self.copy_failed(&error);
        }
        match self.append(text) {
            Ok(()) => {
                if std::mem::take(&mut self.is_losing) {
                    self.shared.wants_copy.store(true, Ordering::Relaxed);
                    log::info!(target: "journal", "the journal can be written again");
                }
                self.lost = 0;
                let due = || Instant::now().checked_add(SYNC_INTERVAL);
                self.sync = self.sync.or_else(due);
            }
            Err(error) => {
                self.is_losing = true;
                self.lost += count;
                let lost = self.lost;
                self.log_error(&error, &format!("{lost} lines of it are lost"));
            }
        }
    }

    fn append(&mut self, text: &str) -> io::Result<()> {
        if self.file.is_none() {
            self.open()?;
        }
        let Some(file) = &mut self.file else {
            return Err(ErrorKind::NotFound.into());
        };
        // Until the write has succeeded, the file counts as torn: the next line must not be joined to half a line.
        let was_torn = std::mem::replace(&mut self.is_torn, true);
        let newline: &[u8] = if was_torn { b"\n" } else { b"" };
        let written = file
            .write_all(newline)
            .and_then(|()| file.write_all(text.as_bytes()));
        let size = file.metadata().map_or(0, |metadata| metadata.len());
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        self.shared.size.store(size, Ordering::Relaxed);
        match &written {
            Ok(()) => self.is_torn = false,
            // A full disk may have space again for the same file. A USB stick that was removed needs a new file handle.
            Err(error) if error.kind() == ErrorKind::StorageFull => {}
            Err(_) => self.file = None,
        }
        written
    }

    fn open(&mut self) -> io::Result<()> {
        match self.retry {
            Some((at, why)) if at > Instant::now() => return Err(why.into()),
            _ => {}
        }
        let opened = self.claim().and_then(|()| create(&self.path(), false));
        let mut file = opened.inspect_err(|error| {
            let again = Instant::now().checked_add(RETRY);
            self.retry = again.map(|at| (at, error.kind()));
        })?;
        self.is_torn = file.metadata()?.len() > 0;
        if !self.is_torn {
            let mut first = String::new();
            line::write_header(&mut first);
            self.is_torn = true;
            file.write_all(first.as_bytes())?;
            self.is_torn = false;
        }
        self.file = Some(file);
        Ok(())
    }

    /// Makes sure that this process may write the journal, and that the existing file is a journal.
    fn claim(&self) -> io::Result<()> {
        if let Some(lock) = &self.lock {
            lock.claim()?;
        }
        let path = self.path();
        match std::fs::symlink_metadata(&path) {
            Ok(about) if !about.is_file() => {
                self.set_aside(&path, "is not a regular file")?;
            }
            Ok(_) if self.is_unread => {
                let found = super::load(&path, Stamp::default(), 0, &mut |_| {});
                if found.is_ok_and(|found| found.newer.is_some()) {
                    self.set_aside(&path, "was written by a later luat-ota")?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn set_aside(&self, path: &Path, why: &str) -> io::Result<()> {
        let aside = state::set_aside(path)?;
        log::warn!(
            target: "journal",
            "{} {why}: it was renamed to {}, and a new one was created",
            path.display(),
            aside.display()
        );
        Ok(())
    }

    /// Hands the file to the thread that calls fsync, or tries again later if that thread is still busy.
    fn start_sync(&mut self) {
        self.sync = None;
        let Some(file) = &self.file else { return };
        let is_gone = |stat: rustix::fs::Stat| stat.st_nlink == 0;
        if rustix::fs::fstat(file).is_ok_and(is_gone) {
            log::warn!(
                target: "journal",
                "{} was removed: it is written again",
                self.path().display()
            );
            self.file = None;
            self.shared.wants_copy.store(true, Ordering::Relaxed);
            if let Some(notify) = self.shared.notify.get() {
                notify.notify();
            }
            return;
        }
        let handed = match (&self.syncer, file.try_clone()) {
            (Some(syncer), Ok(again)) => syncer.try_send(again).is_ok(),
            _ => file.sync_data().is_ok(),
        };
        if !handed {
            self.sync = Instant::now().checked_add(SYNC_INTERVAL);
        }
    }

    /// Logs a write error, at most once per [`LOG_PAUSE`].
    pub(super) fn log_error(&mut self, error: &io::Error, what: &str) {
        if self.last_logged.is_some_and(|at| at.elapsed() < LOG_PAUSE) {
            return;
        }
        self.last_logged = Some(Instant::now());
        log::warn!(
            target: "journal",
            "{} cannot be written: {error}. The server continues; {what}, and a restart forgets what was in them. Free some space there, or let the server's user write.",
            self.path().display()
        );
    }
}

/// Opens a file to append to it. Only its owner may read it. With `replace`, replaces whatever has this name.
pub(super) fn create(path: &Path, replace: bool) -> io::Result<File> {
    if replace {
        match std::fs::remove_file(path) {
            // The name may belong to a folder, for example.
            Err(error) if error.kind() != ErrorKind::NotFound => {
                state::set_aside(path)?;
            }
            _ => {}
        }
    }
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .create_new(replace)
        .mode(0o600)
        // Without O_NONBLOCK, opening a FIFO would wait for a reader.
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(not_regular()),
    }
}

/// Starts the thread that calls fsync. `None` if no thread can be started: then the writing thread calls fsync.
fn start_syncer() -> Option<SyncSender<File>> {
    // One file may wait while another is synced.
    let (sender, files) = mpsc::sync_channel::<File>(1);
    let run = move || {
        for file in files {
            // The next write reports an error of the disk.
            file.sync_data().ok();
        }
    };
    process::start_thread("journal-sync", Box::new(run)).ok()?;
    Some(sender)
}

#[cfg(test)]
impl Writer {
    /// Makes every write fail as on a full disk.
    pub(super) fn fill_disk(&mut self) {
        self.file = OpenOptions::new().append(true).open("/dev/full").ok();
    }

    /// Makes the disk accept lines again.
    pub(super) fn free_disk(&mut self) {
        self.file = OpenOptions::new().append(true).open(self.path()).ok();
    }
}
