//! Reads a journal: at the start of the server, and for `luat-ota devices` while a server writes it.
//!
//! What would surprise you: it is read twice. How old a line is depends on what comes after it, because
//! the machine's clock may have been stepped since; so the first reading only adds up the time that
//! passed from line to line. That is believed as far as it can be: forward, two hours at most between two
//! lines of one run (there is one at least every hour), thirty days at most while no server ran, and
//! nothing at all while the clock was not set.

use std::io::{self, BufRead, BufReader, Read, Seek};
use std::path::Path;

use super::json::Fields;
use super::line::{self, LONGEST, Said, Tick, When};
use crate::fleet::clock::{Stamp, is_trusted};
use crate::fleet::entry::JournalEntry;
use crate::os::fs::{Content, open_to_read};

/// Between two lines of one run.
const LONGEST_GAP: i64 = 2 * 3600;

/// Bytes without an intact line in between, after which the rest is not read: it is no journal.
const NO_JOURNAL: u64 = 16 * 1024 * 1024;

/// While no server ran.
const LONGEST_DOWNTIME: i64 = 30 * 86_400;

/// What was found in a journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Entries.
    pub entries: u64,
    /// Lines that are torn or damaged.
    pub damaged: u64,
    /// Intact lines of a kind that is not known here: a later version's.
    pub unknown: u64,
    /// Bytes of the whole.
    pub bytes: u64,
    /// The version of the format, if it is one that is not known here. Nothing was read then.
    pub newer: Option<u32>,
    /// Seconds from the last line to now.
    pub downtime: u32,
    /// It could not be read, and there may be one when the folder can be used.
    pub unread: bool,
}

/// Gives all entries of a journal, oldest first, their times as stamps before `now`, which is `unix` by
/// the machine's clock. A journal that is not there is an empty one; the error is that it cannot be read.
pub fn load(
    path: &Path,
    now: Stamp,
    unix: i64,
    each: &mut dyn FnMut(JournalEntry),
) -> io::Result<Loaded> {
    match open_to_read(path) {
        Ok(file) => read(&mut Content::new(file), now, unix, each),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Loaded::default()),
        Err(error) => Err(error),
    }
}

/// What can be read twice.
pub(super) trait Twice: Read {
    /// Begins again.
    fn again(&mut self) -> io::Result<()>;
}

impl Twice for Content {
    fn again(&mut self) -> io::Result<()> {
        self.rewind()
    }
}

impl<T: AsRef<[u8]>> Twice for io::Cursor<T> {
    fn again(&mut self) -> io::Result<()> {
        Seek::rewind(self)
    }
}

pub(super) fn read(
    mut file: &mut dyn Twice,
    now: Stamp,
    unix: i64,
    each: &mut dyn FnMut(JournalEntry),
) -> io::Result<Loaded> {
    let mut loaded = Loaded::default();
    let mut first = Timeline::default();
    let mut newer = None;
    loaded.bytes = lines(&mut file, &mut |found| {
        let Some(body) = found else { return };
        first.follow(body);
        // The header is the only line that is read whole here; an object is never that short.
        if body.starts_with("{\"luat-ota-journal\"") {
            let version = Fields::read(body).and_then(|fields| line::version(&fields));
            newer = newer.or(version.filter(|version| *version > line::VERSION));
        }
    })?;
    if newer.is_some() {
        return Ok(Loaded { newer, ..loaded });
    }
    loaded.downtime = first.until(unix);
    let end = now.minus(loaded.downtime);
    let mut second = Timeline::default();
    file.again()?;
    // Not what a running server has written meanwhile: the first reading knows nothing of it.
    lines(&mut file.take(loaded.bytes), &mut |found| {
        let Some(body) = found else {
            loaded.damaged = loaded.damaged.saturating_add(1);
            return;
        };
        second.follow(body);
        let when = When {
            stamp: end.minus(first.passed.saturating_sub(second.passed)),
            unix: second.last.unwrap_or_default(),
        };
        let fields = Fields::read(body);
        match fields.and_then(|fields| line::said(&fields, when)) {
            Some(Said::JournalEntry(entry)) => {
                loaded.entries = loaded.entries.saturating_add(1);
                each(entry);
            }
            Some(Said::Nothing) => {}
            Some(Said::Unknown) => loaded.unknown = loaded.unknown.saturating_add(1),
            None => loaded.damaged = loaded.damaged.saturating_add(1),
        }
    })?;
    Ok(loaded)
}

/// The time that passed from line to line.
#[derive(Debug, Default)]
struct Timeline {
    /// Seconds from the first line to the last.
    passed: u32,
    /// What the clock said at the last.
    last: Option<i64>,
}

impl Timeline {
    fn follow(&mut self, body: &str) {
        let Some(at) = at(body) else { return };
        let tick = match body.starts_with("{\"clock\"") {
            true => Fields::read(body).and_then(|fields| line::tick_of(&fields)),
            false => None,
        };
        let gap = match tick {
            Some(Tick::Start) => self.downtime(at),
            Some(Tick::Step(by)) => self.gap(at.saturating_sub(by)),
            _ => self.gap(at),
        };
        self.passed = self.passed.saturating_add(gap);
        self.last = Some(at);
    }

    /// Within a run.
    fn gap(&self, at: i64) -> u32 {
        let gap = self.last.map_or(0, |last| at.saturating_sub(last));
        u32::try_from(gap.clamp(0, LONGEST_GAP)).unwrap_or(0)
    }

    /// Between two runs. Who cannot tell how long it was says that it was no time at all.
    fn downtime(&self, at: i64) -> u32 {
        match self.last {
            Some(last) if is_trusted(last) && is_trusted(at) => {
                let gap = at.saturating_sub(last).clamp(0, LONGEST_DOWNTIME);
                u32::try_from(gap).unwrap_or(0)
            }
            _ => 0,
        }
    }

    /// From the last line to now, in a run of its own.
    fn until(&self, unix: i64) -> u32 {
        self.downtime(unix)
    }
}

/// When a line was written: its last field.
fn at(body: &str) -> Option<i64> {
    let (rest, at) = body.rsplit_once(':')?;
    match rest.ends_with(",\"at\"") {
        true => at.parse().ok(),
        false => None,
    }
}

/// Calls with the body of each line, or with `None` for one that is damaged; how many bytes there were.
fn lines(file: &mut dyn Read, each: &mut dyn FnMut(Option<&str>)) -> io::Result<u64> {
    let mut file = BufReader::with_capacity(LONGEST, file);
    let mut line: Vec<u8> = Vec::new();
    let mut bytes: u64 = 0;
    let mut intact_until: u64 = 0;
    // A line that is too long is damaged once, however many pieces it comes in.
    let mut within = false;
    loop {
        line.clear();
        let most = u64::try_from(LONGEST).unwrap_or(u64::MAX);
        let read = file.by_ref().take(most).read_until(b'\n', &mut line)?;
        if read == 0 || bytes.saturating_sub(intact_until) > NO_JOURNAL {
            return Ok(bytes);
        }
        bytes = bytes.saturating_add(u64::try_from(read).unwrap_or(0));
        let (is_end, text) = match line.strip_suffix(b"\n") {
            Some(text) => (true, text),
            None => (read < LONGEST, &*line),
        };
        let is_rest = std::mem::replace(&mut within, !is_end);
        if text.is_empty() {
            continue;
        }
        match line::intact(text) {
            Some(body) => {
                intact_until = bytes;
                each(Some(body));
            }
            None => {
                if !is_rest {
                    each(None);
                }
                line::salvaged(text).for_each(|body| {
                    intact_until = bytes;
                    each(Some(body));
                });
            }
        }
    }
}
