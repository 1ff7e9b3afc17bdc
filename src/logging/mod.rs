//! Log lines as text or JSON, on stderr, written in batches.
//!
//! All code logs through the `log` crate with key-value pairs:
//! `log::info!(target: "check", proto = "http", device = …, verdict = "offer"; "")`. The target is the event, the
//! message may be empty. The events `check` and `download` are the access log: one line for each answered check and
//! each finished download.
//!
//! A line is only added to a buffer. A thread writes the buffer 200 ms later (at once from 64 KiB on, and after a
//! warning), so that neither a slow disk nor a stopped terminal delays the serving thread. When the buffer is full,
//! lines are dropped, and a later line states their number. The thread sleeps while the buffer is empty.

mod line;

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, SystemTime};

use line::TimestampCache;

pub(crate) use line::Civil;
pub use line::Printable;

/// Logs a line about a device, with the device's name if a group gives it one.
macro_rules! log_named {
    ($level:ident, $name:expr, $message:literal, $($line:tt)*) => {
        match $name {
            Some(name) => log::$level!($($line)*, name = name; $message),
            None => log::$level!($($line)*; $message),
        }
    };
}
pub(crate) use log_named;

/// Time that a line may wait for further lines.
const BATCH_DELAY: Duration = Duration::from_millis(200);

/// Number of bytes from which on a batch is written at once.
const BATCH_BYTES: usize = 64 * 1024;

/// Maximum number of bytes that wait while stderr accepts nothing. Further lines are dropped.
const MAX_PENDING: usize = 256 * 1024;

/// Time that [`flush`] waits, and during which a write that would block is retried.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Format of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `2026-11-23T08:00:00.000Z INFO  check proto=http device=862… verdict=offer`
    Text,
    /// One JSON object per line: `time`, `level`, `event`, `message` if there is one, then the pairs.
    Json,
}

/// Lines that are not written yet.
struct Pending {
    lines: Vec<u8>,
    clock: TimestampCache,
    /// Number of lines in `lines`.
    count: u32,
    /// Number of lines dropped since the last line that reports dropped ones.
    dropped: u32,
    /// Whether to write without waiting for more lines.
    urgent: bool,
    /// Whether the thread has taken lines and is writing them.
    writing: bool,
    /// Whether there is a thread that writes. Without one, the logging thread writes urgent lines.
    threaded: bool,
}

static PENDING: Mutex<Pending> = Mutex::new(Pending {
    lines: Vec::new(),
    clock: TimestampCache::new(),
    count: 0,
    dropped: 0,
    urgent: false,
    writing: false,
    threaded: false,
});

/// Signals that there are lines to write.
static LINES_PENDING: Condvar = Condvar::new();

/// Signals that a batch has been written.
static WRITTEN: Condvar = Condvar::new();

/// Whether lines are JSON objects.
static JSON: AtomicBool = AtomicBool::new(false);

struct Logger;

static LOGGER: Logger = Logger;

/// Starts logging and its thread, so signals must be caught before. To be called once; a second call changes the format
/// and the level.
pub fn start(format: Format, level: log::LevelFilter) {
    JSON.store(format == Format::Json, Ordering::Relaxed);
    log::set_max_level(level);
    if log::set_logger(&LOGGER).is_err() {
        return;
    }
    let thread = std::thread::Builder::new()
        .name("log".to_owned())
        .stack_size(64 * 1024)
        .spawn(run_writer);
    lock().threaded = thread.is_ok();
    // A panic ends the process (panic = abort), so the lines that led to it must be on stderr before.
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        flush_in_panic();
        default(panic);
    }));
}

/// Writes the pending lines and returns when that is done, or after one second if stderr accepts nothing. For the end
/// of the start and the end of the process.
pub fn flush() {
    let mut pending = lock();
    if !pending.threaded {
        write_here(&mut pending);
        return;
    }
    if pending.lines.is_empty() && !pending.writing {
        return;
    }
    pending.urgent = true;
    LINES_PENDING.notify_one();
    // A time-out is not an error: stderr accepts nothing, and the lines stay in the buffer.
    drop(
        WRITTEN.wait_timeout_while(pending, FLUSH_TIMEOUT, |pending| {
            pending.writing || !pending.lines.is_empty()
        }),
    );
}

fn format() -> Format {
    match JSON.load(Ordering::Relaxed) {
        true => Format::Json,
        false => Format::Text,
    }
}

/// Locks the pending lines. A panic elsewhere does not end logging.
fn lock() -> MutexGuard<'static, Pending> {
    PENDING.lock().unwrap_or_else(PoisonError::into_inner)
}

impl log::Log for Logger {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        // Warnings of these crates (for example that a watch is gone with its folder) do not concern the operator.
        let ours = !matches!(
            metadata.target().split(':').next(),
            Some("notify" | "notify_types" | "polling" | "async_io")
        );
        metadata.level() <= log::max_level() && (ours || metadata.level() == log::Level::Error)
    }

    fn log(&self, record: &log::Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let now = SystemTime::now();
        let mut guard = lock();
        let pending = &mut *guard;
        if pending.lines.len() >= MAX_PENDING {
            pending.dropped = pending.dropped.saturating_add(1);
            return;
        }
        let is_first = pending.lines.is_empty();
        line::write(
            &mut pending.lines,
            format(),
            (&mut pending.clock, now),
            record,
        );
        pending.count = pending.count.saturating_add(1);
        let urgent = record.level() <= log::Level::Warn || pending.lines.len() >= BATCH_BYTES;
        if is_first || (urgent && !pending.urgent) {
            pending.urgent |= urgent;
            LINES_PENDING.notify_one();
        }
        if urgent && !pending.threaded {
            write_here(pending);
        }
    }

    fn flush(&self) {
        flush();
    }
}

/// Runs the loop of the thread that writes.
fn run_writer() {
    let mut batch = Vec::new();
    let mut out = BatchWriter::default();
    loop {
        let mut pending = LINES_PENDING
            .wait_while(lock(), |pending| pending.lines.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        if !pending.urgent {
            (pending, _) = LINES_PENDING
                .wait_timeout_while(pending, BATCH_DELAY, |pending| !pending.urgent)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let count = take(&mut pending, &mut batch);
        pending.writing = true;
        drop(pending);

        let lost = match out.write(&mut io::stderr().lock(), &batch) {
            Ok(()) => 0,
            Err(_) => count,
        };
        batch.clear();
        batch.shrink_to(BATCH_BYTES);

        let mut pending = lock();
        pending.writing = false;
        pending.dropped = pending.dropped.saturating_add(lost);
        WRITTEN.notify_all();
    }
}

/// Moves the pending lines into an empty `batch`, after a line that states how many were dropped. Returns the number of
/// lines that the batch contains or accounts for.
fn take(pending: &mut Pending, batch: &mut Vec<u8>) -> u32 {
    let dropped = std::mem::take(&mut pending.dropped);
    if dropped > 0 {
        line::write(
            batch,
            format(),
            (&mut TimestampCache::new(), SystemTime::now()),
            &log::Record::builder()
                .level(log::Level::Warn)
                .target("log")
                .args(format_args!(
                    "{dropped} log lines before this one were dropped: stderr did not accept them"
                ))
                .build(),
        );
    }
    batch.append(&mut pending.lines);
    pending.lines.shrink_to(BATCH_BYTES);
    pending.urgent = false;
    dropped.saturating_add(std::mem::take(&mut pending.count))
}

/// Writes the pending lines on the calling thread.
fn write_here(pending: &mut Pending) {
    let mut batch = Vec::new();
    let count = take(pending, &mut batch);
    if BatchWriter::default()
        .write(&mut io::stderr().lock(), &batch)
        .is_err()
    {
        pending.dropped = pending.dropped.saturating_add(count);
    }
}

/// Flushes while a panic ends the process. The panic may have come while this thread held the lock, so this only tries
/// to lock, and the writing thread gets 200 ms to finish.
fn flush_in_panic() {
    for _ in 0..20 {
        let pending = match PENDING.try_lock() {
            Ok(pending) => Some(pending),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        };
        if let Some(mut pending) = pending
            && !pending.writing
        {
            write_here(&mut pending);
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Writes batches to stderr.
#[derive(Default)]
struct BatchWriter {
    /// Whether the last write ended in the middle of a line.
    torn: bool,
}

impl BatchWriter {
    /// Writes a batch of whole lines. A write that would block (stderr may be a non-blocking pipe) is retried
    /// for a second. An error means that lines were lost.
    fn write(&mut self, stderr: &mut impl Write, batch: &[u8]) -> io::Result<()> {
        if self.torn {
            // The next complete line must not be appended to the incomplete one.
            self.write_rest(stderr, b"\n")?;
            self.torn = false;
        }
        self.write_rest(stderr, batch)
    }

    fn write_rest(&mut self, stderr: &mut impl Write, mut rest: &[u8]) -> io::Result<()> {
        let mut tried = Duration::ZERO;
        while !rest.is_empty() {
            match stderr.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(taken) => {
                    let (done, left) = rest.split_at_checked(taken).unwrap_or((rest, &[]));
                    self.torn = done.last() != Some(&b'\n');
                    rest = left;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error)
                    if error.kind() == io::ErrorKind::WouldBlock && tried < FLUSH_TIMEOUT =>
                {
                    let pause = Duration::from_millis(10);
                    std::thread::sleep(pause);
                    tried = tried.saturating_add(pause);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A writer that accepts `room` bytes and then fails.
    struct Disk {
        room: usize,
        written: Vec<u8>,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.room == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let taken = bytes.len().min(self.room);
            self.room -= taken;
            self.written.extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_after_a_full_disk_begins_on_a_new_line() {
        let mut out = BatchWriter::default();
        let mut disk = Disk {
            room: 6,
            written: Vec::new(),
        };
        assert!(out.write(&mut disk, b"one\ntwo\n").is_err());
        disk.room = 100;
        out.write(&mut disk, b"three\n").unwrap();
        out.write(&mut disk, b"four\n").unwrap();
        assert_eq!(disk.written, b"one\ntw\nthree\nfour\n");
    }

    #[test]
    fn dropped_lines_are_counted_in_a_line_of_their_own() {
        let mut pending = Pending {
            lines: b"a line\n".to_vec(),
            clock: TimestampCache::new(),
            count: 1,
            dropped: 41,
            urgent: true,
            writing: false,
            threaded: false,
        };
        let mut batch = Vec::new();
        assert_eq!(take(&mut pending, &mut batch), 42);
        let text = String::from_utf8(batch).unwrap();
        let (first, second) = text.split_once('\n').unwrap();
        assert!(first.contains("41 log lines"), "{first}");
        assert_eq!(second, "a line\n");
        assert!(pending.lines.is_empty() && pending.dropped == 0 && !pending.urgent);
    }
}
