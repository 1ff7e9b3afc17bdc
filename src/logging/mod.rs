//! Log lines as text or JSON, on stderr, written in batches.
//!
//! The rooms log through the `log` crate with key-value pairs:
//! `log::info!(target: "check", proto = "http", device = …, verdict = "offer"; "")`. The target is the
//! event, the message may be empty.
//!
//! What would surprise you: a line is only put into a buffer; a thread of its own writes the buffer
//! out a fifth of a second later (at once from 64 KiB on, and after a warning). So neither a slow
//! disk nor a terminal that somebody has stopped ever holds up the thread that serves: when the
//! buffer is full, lines are dropped, and a line says how many. The thread sleeps while there is
//! nothing to write.

mod line;
mod pairs;

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, SystemTime};

pub(crate) use line::Civil;
pub use line::Escaped;
pub use pairs::{Shown, info};

/// How long a line may wait for others.
const PATIENCE: Duration = Duration::from_millis(200);

/// Bytes from which on nothing waits.
const BATCH: usize = 64 * 1024;

/// Bytes that may wait while stderr takes nothing. What comes then is dropped.
const MOST: usize = 256 * 1024;

/// How long [`flush`] waits, and how long a write that would block is tried again.
const GIVE_UP: Duration = Duration::from_secs(1);

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `2026-11-23T08:00:00.000Z INFO  check proto=http device=862… verdict=offer`
    Text,
    /// One JSON object a line: `time`, `level`, `event`, `message` where there is one, then the pairs.
    Json,
}

/// Lines on their way out.
struct Waiting {
    lines: Vec<u8>,
    clock: line::Clock,
    /// How many lines those are.
    count: u32,
    /// Lines that were dropped since the last line that says so.
    dropped: u32,
    /// Do not wait for more.
    urgent: bool,
    /// The thread has taken lines and is writing them.
    writing: bool,
    /// There is a thread that writes. Without one, whoever finds the lines urgent writes them.
    threaded: bool,
}

static WAITING: Mutex<Waiting> = Mutex::new(Waiting {
    lines: Vec::new(),
    clock: line::Clock::new(),
    count: 0,
    dropped: 0,
    urgent: false,
    writing: false,
    threaded: false,
});

/// There is something to write.
static ARRIVED: Condvar = Condvar::new();

/// A batch has been written.
static WRITTEN: Condvar = Condvar::new();

/// Lines are JSON objects.
static JSON: AtomicBool = AtomicBool::new(false);

struct Logger;

static LOGGER: Logger = Logger;

/// Starts logging. Starts a thread, so signals must be caught before. To be called once; a second
/// call changes the format and the level.
pub fn start(format: Format, level: log::LevelFilter) {
    JSON.store(format == Format::Json, Ordering::Relaxed);
    log::set_max_level(level);
    if log::set_logger(&LOGGER).is_err() {
        return;
    }
    let thread = std::thread::Builder::new()
        .name("log".to_owned())
        .stack_size(64 * 1024)
        .spawn(write_for_ever);
    lock().threaded = thread.is_ok();
    // A panic ends the process (panic = abort): what led to it must be on stderr before.
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        flush_in_panic();
        default(panic);
    }));
}

/// Writes what is waiting, and returns when that is done; after a second at most, if stderr takes
/// nothing. For the end of the start and the end of the process.
pub fn flush() {
    let mut waiting = lock();
    if !waiting.threaded {
        write_here(&mut waiting);
        return;
    }
    if waiting.lines.is_empty() && !waiting.writing {
        return;
    }
    waiting.urgent = true;
    ARRIVED.notify_one();
    // A timeout is no error: then stderr takes nothing, and the lines stay where they are.
    drop(WRITTEN.wait_timeout_while(waiting, GIVE_UP, |waiting| {
        waiting.writing || !waiting.lines.is_empty()
    }));
}

fn format() -> Format {
    match JSON.load(Ordering::Relaxed) {
        true => Format::Json,
        false => Format::Text,
    }
}

/// A panic elsewhere does not end logging.
fn lock() -> MutexGuard<'static, Waiting> {
    WAITING.lock().unwrap_or_else(PoisonError::into_inner)
}

impl log::Log for Logger {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        // What a crate of ours finds worth a warning (a watch that is gone with its folder) is not
        // worth one to the person who runs the server.
        let ours = !matches!(
            metadata.target().split("::").next(),
            Some("notify" | "notify_types" | "polling" | "async_io")
        );
        metadata.level() <= log::max_level() && (ours || metadata.level() == log::Level::Error)
    }

    fn log(&self, record: &log::Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        put(record.level(), |lines, clock| {
            line::write(lines, format(), clock, record);
        });
    }

    fn flush(&self) {
        flush();
    }
}

/// Puts a line into the buffer.
fn put(level: log::Level, write: impl FnOnce(&mut Vec<u8>, (&mut line::Clock, SystemTime))) {
    let now = SystemTime::now();
    let mut guard = lock();
    let waiting = &mut *guard;
    if waiting.lines.len() >= MOST {
        waiting.dropped = waiting.dropped.saturating_add(1);
        return;
    }
    let first = waiting.lines.is_empty();
    write(&mut waiting.lines, (&mut waiting.clock, now));
    waiting.count = waiting.count.saturating_add(1);
    let urgent = level <= log::Level::Warn || waiting.lines.len() >= BATCH;
    if first || (urgent && !waiting.urgent) {
        waiting.urgent |= urgent;
        ARRIVED.notify_one();
    }
    if urgent && !waiting.threaded {
        write_here(waiting);
    }
}

/// The thread that writes.
fn write_for_ever() {
    let mut batch = Vec::new();
    let mut out = Out::default();
    loop {
        let mut waiting = lock();
        while waiting.lines.is_empty() {
            waiting = ARRIVED
                .wait(waiting)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if !waiting.urgent {
            (waiting, _) = ARRIVED
                .wait_timeout_while(waiting, PATIENCE, |waiting| !waiting.urgent)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let count = take(&mut waiting, &mut batch);
        waiting.writing = true;
        drop(waiting);

        let lost = match out.write(&mut io::stderr().lock(), &batch) {
            Ok(()) => 0,
            Err(_) => count,
        };
        batch.clear();
        batch.shrink_to(BATCH);

        let mut waiting = lock();
        waiting.writing = false;
        waiting.dropped = waiting.dropped.saturating_add(lost);
        WRITTEN.notify_all();
    }
}

/// Moves the waiting lines into an empty `batch`, with a line before them that says what was dropped;
/// how many lines it now holds or stands for.
fn take(waiting: &mut Waiting, batch: &mut Vec<u8>) -> u32 {
    let dropped = std::mem::take(&mut waiting.dropped);
    if dropped > 0 {
        line::write(
            batch,
            format(),
            (&mut line::Clock::new(), SystemTime::now()),
            &log::Record::builder()
                .level(log::Level::Warn)
                .target("log")
                .args(format_args!(
                    "{dropped} log lines before this one were dropped: stderr did not take them"
                ))
                .build(),
        );
    }
    if batch.is_empty() {
        std::mem::swap(batch, &mut waiting.lines);
    } else {
        batch.append(&mut waiting.lines);
    }
    waiting.urgent = false;
    dropped.saturating_add(std::mem::take(&mut waiting.count))
}

/// Writes what is waiting on the thread that asks.
fn write_here(waiting: &mut Waiting) {
    let mut batch = Vec::new();
    let count = take(waiting, &mut batch);
    if Out::default()
        .write(&mut io::stderr().lock(), &batch)
        .is_err()
    {
        waiting.dropped = waiting.dropped.saturating_add(count);
    }
}

/// The same while a panic ends the process: the panic may have come while this thread held the lock,
/// so it is only tried for, and the writing thread gets a moment to finish.
fn flush_in_panic() {
    for _ in 0..20 {
        let waiting = match WAITING.try_lock() {
            Ok(waiting) => Some(waiting),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        };
        if let Some(mut waiting) = waiting
            && !waiting.writing
        {
            write_here(&mut waiting);
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The end of the way out.
#[derive(Default)]
struct Out {
    /// The last write ended in the middle of a line.
    torn: bool,
}

impl Out {
    /// Writes a batch of whole lines. One that would block (stderr may be a non-blocking pipe) is
    /// tried again for a second. The error says only that lines were lost.
    fn write(&mut self, stderr: &mut impl Write, batch: &[u8]) -> io::Result<()> {
        if self.torn {
            // The next good line must not be glued to the torn one.
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
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && tried < GIVE_UP => {
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

    /// Takes as many bytes as it is told, then fails.
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
    fn a_line_after_a_full_disk_is_not_glued_to_the_torn_one() {
        let mut out = Out::default();
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
        let mut waiting = Waiting {
            lines: b"a line\n".to_vec(),
            clock: line::Clock::new(),
            count: 1,
            dropped: 41,
            urgent: true,
            writing: false,
            threaded: false,
        };
        let mut batch = Vec::new();
        assert_eq!(take(&mut waiting, &mut batch), 42);
        let text = String::from_utf8(batch).unwrap();
        let (first, second) = text.split_once('\n').unwrap();
        assert!(first.contains("41 log lines"), "{first}");
        assert_eq!(second, "a line\n");
        assert!(waiting.lines.is_empty() && waiting.dropped == 0 && !waiting.urgent);
    }
}
