//! The thread that writes the journal, so that no disk ever blocks the serving thread; and a second one that only calls
//! fsync, so that a slow card does not delay a pin that a download waits for.
//!
//! Errors are never final. A full or read-only disk loses the lines of that time, which is logged once a minute, and is
//! tried again with the next line. When it accepts lines again, the whole journal is rewritten, which restores what was
//! lost.

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

/// Between two fsyncs, at least.
const SYNC: Duration = Duration::from_secs(5);

/// Between two lines in the log about the same trouble.
const SAY: Duration = Duration::from_secs(60);

/// After a file could not be opened it is not tried again before.
const RETRY: Duration = Duration::from_secs(1);

/// Bytes that are written at once, at most; and on their way from which on the records of a compaction
/// have to wait.
pub(super) const COPY: usize = 1024 * 1024;

/// Bytes that are kept of a journal that could not be read at the start.
pub(super) const MOST_UNREAD: u64 = 256 * 1024 * 1024;

/// Commands of the serving thread.
#[derive(Debug)]
pub(super) enum WriterCommand {
    /// Lines to write, their number, and whom to notify afterwards.
    Lines(String, u32, Option<Sender<()>>),
    /// Begins a copy of everything that is not superseded.
    BeginCopy,
    /// Appends to the copy.
    Copy(String),
    /// Puts the copy on the disk, and then sends [`WriterCommand::CopySynced`] there.
    FinishCopy(mpsc::Sender<WriterCommand>),
    /// Replaces the journal with the copy of this number, unless it could not be put on the disk.
    CopySynced(u32, io::Result<()>),
    /// Ends the run: the sender is dropped when everything is on the disk.
    Stop(mpsc::Sender<()>),
}

/// State that both threads see.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Bytes on their way to the writing thread.
    pub waiting: AtomicUsize,
    /// Bytes of the journal's file.
    pub size: AtomicUsize,
    /// Where the copy stands: one of the numbers below.
    pub copy: AtomicU8,
    /// Lines were lost, and now the disk takes them again: a copy is wanted.
    pub torn: AtomicBool,
    /// Notified when that was found at a moment at which nobody looks.
    pub notify: OnceLock<Notify>,
}

/// There is no copy under way.
pub(super) const NO_COPY: u8 = 0;
/// There is.
pub(super) const COPYING: u8 = 1;
/// It has become the journal.
pub(super) const COPIED: u8 = 2;
/// It could not be written.
pub(super) const FAILED: u8 = 3;
/// It could not even be begun, so it may be tried again soon.
pub(super) const NOT_BEGUN: u8 = 4;

/// What is written when.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) folder: PathBuf,
    /// Claimed before the journal is opened; `None`: the caller has it to itself.
    lock: Option<StateFolder>,
    /// The journal that is there was not read at the start: what it holds must not be lost.
    pub(super) is_unread: bool,
    pub(super) file: Option<File>,
    /// The file may end in the middle of a line.
    pub(super) is_torn: bool,
    pub(super) copy: Option<File>,
    /// Number of copies that were begun.
    pub(super) copies: u32,
    /// The copy has all records; it is being synced.
    pub(super) is_copy_whole: bool,
    pub(super) shared: Arc<Shared>,
    /// Lines that were lost since the last line in the log.
    lost: u32,
    /// Lines were lost since the last good one.
    is_losing: bool,
    said: Option<Instant>,
    /// Opening it failed, for this reason; not to be tried before.
    retry: Option<(Instant, ErrorKind)>,
    /// When to say fsync.
    sync: Option<Instant>,
    syncer: Option<SyncSender<File>>,
}

/// Starts the thread. The error: there can be no more of them.
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
            said: None,
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
                self.sync_beside();
            }
        }
    }

    /// Executes a command; all lines that wait behind it in the queue are written at once.
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
                    self.copied(&text);
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
                        Ok(()) => self.finish(&mut |_| Ok(())),
                        Err(error) => self.copy_failed(&error),
                    }
                    continue;
                }
                WriterCommand::Stop(done) => {
                    if self.is_copy_whole {
                        self.finish(&mut |_| Ok(()));
                    }
                    self.abandon(NO_COPY);
                    if let Some(file) = &self.file {
                        // The process ends: an error has no consequence.
                        file.sync_data().ok();
                    }
                    drop(done);
                    continue;
                }
            };
            let mut waiting: Vec<Sender<()>> = waiter.into_iter().collect();
            while text.len() < COPY && next.is_none() {
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
            self.lines(&text, count);
            self.shared.waiting.fetch_sub(text.len(), Ordering::Release);
            for waiter in waiting {
                // The download may be over by now.
                waiter.try_send(()).ok();
            }
        }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.join(super::FILE)
    }

    /// Lines of what happens go into the journal, and into its copy while that is being made.
    pub(super) fn lines(&mut self, text: &str, count: u32) {
        if let Some(copy) = &mut self.copy
            && let Err(error) = copy.write_all(text.as_bytes())
        {
            self.copy_failed(&error);
        }
        match self.append(text) {
            Ok(()) => {
                if std::mem::take(&mut self.is_losing) {
                    self.shared.torn.store(true, Ordering::Relaxed);
                    log::info!(target: "journal", "the journal can be written again");
                }
                self.lost = 0;
                let due = || Instant::now().checked_add(SYNC);
                self.sync = self.sync.or_else(due);
            }
            Err(error) => {
                self.is_losing = true;
                self.lost += count;
                let lost = self.lost;
                self.say(&error, &format!("{lost} lines of it are lost"));
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
        // Whatever happens in between: what follows must not be glued to half a line.
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
            // A full disk may have room again for this very file; a stick that was pulled comes back as
            // another.
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

    /// Sees to it that this process may write the journal, and that what is there is one.
    fn claim(&self) -> io::Result<()> {
        if let Some(lock) = &self.lock {
            lock.claim()?;
        }
        let path = self.path();
        match std::fs::symlink_metadata(&path) {
            Ok(about) if !about.is_file() => {
                self.replace(&path, "is no regular file")?;
            }
            Ok(_) if self.is_unread => {
                let found = super::load(&path, Stamp::default(), 0, &mut |_| {});
                if found.is_ok_and(|found| found.newer.is_some()) {
                    self.replace(&path, "was written by a later luat-ota")?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn replace(&self, path: &Path, why: &str) -> io::Result<()> {
        let aside = state::set_aside(path)?;
        log::warn!(
            target: "journal",
            "{} {why}: it is now called {}, and a new one was begun",
            path.display(),
            aside.display()
        );
        Ok(())
    }

    /// Hands the file to the thread that says fsync; if that is still at it, later.
    fn sync_beside(&mut self) {
        self.sync = None;
        let Some(file) = &self.file else { return };
        let is_gone = |stat: rustix::fs::Stat| stat.st_nlink == 0;
        if rustix::fs::fstat(file).is_ok_and(is_gone) {
            log::warn!(
                target: "journal",
                "somebody has removed {}: it is written anew",
                self.path().display()
            );
            self.file = None;
            self.shared.torn.store(true, Ordering::Relaxed);
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
            self.sync = Instant::now().checked_add(SYNC);
        }
    }

    /// Says what is wrong, but not all the time.
    pub(super) fn say(&mut self, error: &io::Error, what: &str) {
        if self.said.is_some_and(|said| said.elapsed() < SAY) {
            return;
        }
        self.said = Some(Instant::now());
        log::warn!(
            target: "journal",
            "{} cannot be written: {error}. The server continues; {what}, and a restart forgets what was in them. Free some space there, or let the server's user write.",
            self.path().display()
        );
    }
}

/// Opens a file to append to it; only its owner may read it.
pub(super) fn create(path: &Path, anew: bool) -> io::Result<File> {
    if anew {
        match std::fs::remove_file(path) {
            // A folder, say.
            Err(error) if error.kind() != ErrorKind::NotFound => {
                state::set_aside(path)?;
            }
            _ => {}
        }
    }
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .create_new(anew)
        .mode(0o600)
        // Opening a FIFO would wait for a reader.
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(not_regular()),
    }
}

/// Starts the thread that calls fsync. `None`: there can be no more threads; then the writing one does.
fn start_syncer() -> Option<SyncSender<File>> {
    // One file may wait while another is synced.
    let (sender, files) = mpsc::sync_channel::<File>(1);
    let run = move || {
        for file in files {
            // The next write reports what is wrong with the disk.
            file.sync_data().ok();
        }
    };
    process::start_thread("journal-sync", Box::new(run)).ok()?;
    Some(sender)
}

#[cfg(test)]
impl Writer {
    /// From now on the disk takes nothing.
    pub(super) fn fill_the_disk(&mut self) {
        self.file = OpenOptions::new().append(true).open("/dev/full").ok();
    }

    /// There is room again.
    pub(super) fn empty_the_disk(&mut self) {
        self.file = OpenOptions::new().append(true).open(self.path()).ok();
    }
}
