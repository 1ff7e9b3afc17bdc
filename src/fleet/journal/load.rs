//! Reads a journal: at the start of the server, and for `luat-ota devices` while a server writes it.
//!
//! It is read twice. The age of a line depends on what follows it, because the machine's clock may have been stepped
//! since; so the first pass adds up the time that passed from line to line. That is believed within limits: forward, at
//! most two hours between two lines of one run (there is at least one line every hour), at most thirty days while no
//! server ran, and nothing while the clock was not set.

use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::{Mutex, mpsc};
use std::thread;

use super::line::{self, ClockLine, DecodedLine, LONGEST, ParsedLine};
use super::origin::Origin;
use crate::fleet::clock::{Stamp, Wall, is_trusted};
use crate::fleet::entry::fields::LineTime;
use crate::fleet::entry::{Commons, JournalEntry};
use crate::fleet::pins;
use crate::os::fs::{Content, open_to_read};

/// Length from which on a journal is read by two threads, in bytes.
const LONG: u64 = 4 * 1024 * 1024;

/// Lines that one of them hands to the other at once.
const BLOCK: usize = 512;

/// Blocks that may wait for the other one.
const AHEAD: usize = 4;

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
    /// Lines at its end may be missing, and with them downloads that were begun.
    pub is_cut: bool,
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
    load_in(path, None, Wall { stamp: now, unix }, each)
}

/// The same, for a run that goes on with it. `here`: where that runs.
pub(super) fn load_in(
    path: &Path,
    here: Option<Origin>,
    now: Wall,
    each: &mut dyn FnMut(JournalEntry),
) -> io::Result<Loaded> {
    match open_to_read(path) {
        Ok(file) => read(&mut Content::new(file), Content::rewind, here, now, each),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Loaded::default()),
        Err(error) => Err(error),
    }
}

/// Reads a journal that `rewind` can move back to its beginning.
pub(super) fn read<F: Read + Send>(
    file: &mut F,
    rewind: impl FnOnce(&mut F) -> io::Result<()>,
    here: Option<Origin>,
    now: Wall,
    each: &mut dyn FnMut(JournalEntry),
) -> io::Result<Loaded> {
    let mut loaded = Loaded::default();
    let mut first = Timeline::default();
    let mut newer = None;
    loaded.bytes = lines(file, |found| {
        let Some(line) = found else { return };
        first.follow(line);
        let version = line::version(line);
        newer = newer.or(version.filter(|version| *version > line::VERSION));
    })?;
    if newer.is_some() {
        return Ok(Loaded { newer, ..loaded });
    }
    loaded.downtime = first.downtime(now.unix);
    loaded.is_cut = first.lacks_lines_before(here);
    let cut = match loaded.is_cut {
        true => u64::MAX,
        false => first.cut,
    };
    let end = now.stamp.minus(loaded.downtime);
    let mut second = Timeline::default();
    let parse = |found: Option<&str>| {
        let line = found.inspect(|line| second.follow(line));
        let time = LineTime {
            stamp: end.minus(first.passed.saturating_sub(second.passed)),
            unix: second.last.unwrap_or_default(),
        };
        (
            line.map_or(ParsedLine::Damaged, |line| line::parse(line, time)),
            second.lines <= cut,
        )
    };
    let mut commons = Commons::default();
    let bytes = loaded.bytes;
    let take = |(line, is_before_cut): (ParsedLine, bool)| match line::decode(line, &mut commons) {
        DecodedLine::Entry(mut entry) => {
            loaded.entries += 1;
            if let JournalEntry::Pin(pin) = &mut entry
                && is_before_cut
            {
                // Its device may have begun another content since, of which nothing is known: the pin only speaks
                // against others.
                pin.used = pin.used.min(now.stamp.minus(pins::LIFETIME));
            }
            each(entry);
        }
        DecodedLine::Nothing => {}
        DecodedLine::Unknown => loaded.unknown += 1,
        DecodedLine::Damaged => loaded.damaged += 1,
    };
    rewind(file)?;
    // Without what a running server has written meanwhile: the first pass knows nothing of it.
    let file = file.take(bytes);
    match bytes < LONG {
        true => each_line(file, parse, take)?,
        false => each_line_beside(file, parse, take)?,
    }
    Ok(loaded)
}

/// Calls `take` with what `parse` makes of each line.
fn each_line<T>(
    mut file: impl Read,
    mut parse: impl FnMut(Option<&str>) -> T,
    mut take: impl FnMut(T),
) -> io::Result<()> {
    lines(&mut file, |found| take(parse(found))).map(drop)
}

/// The same, while another thread parses the lines that follow.
fn each_line_beside<T: Send>(
    file: impl Read + Send,
    parse: impl FnMut(Option<&str>) -> T + Send,
    mut take: impl FnMut(T),
) -> io::Result<()> {
    let work = Mutex::new(Some((file, parse)));
    let work = || work.lock().ok().and_then(|mut work| work.take());
    thread::scope(|scope| {
        let (sender, blocks) = mpsc::sync_channel(AHEAD);
        let read = move || {
            let Some((file, parse)) = work() else {
                return Ok(());
            };
            let mut block = Vec::with_capacity(BLOCK);
            let read = each_line(file, parse, |line| {
                block.push(line);
                if block.len() == BLOCK {
                    let full = std::mem::replace(&mut block, Vec::with_capacity(BLOCK));
                    // The other side takes all of them.
                    sender.send(full).ok();
                }
            });
            sender.send(block).ok();
            read
        };
        let reader = thread::Builder::new().name("journal-read".to_owned());
        let Ok(reader) = reader.spawn_scoped(scope, read) else {
            // There can be no more threads.
            return work().map_or(Ok(()), |(file, parse)| each_line(file, parse, take));
        };
        blocks.into_iter().flatten().for_each(&mut take);
        let panicked = |_| Err(io::ErrorKind::Other.into());
        reader.join().unwrap_or_else(panicked)
    })
}

/// The time that passed from line to line, and where lines may be missing.
#[derive(Debug, Default)]
struct Timeline {
    /// Number of intact lines.
    lines: u64,
    /// Number of those before the last place at which lines may be missing.
    cut: u64,
    /// Where the last run wrote, if it says so.
    origin: Option<Origin>,
    /// It ended in good order.
    stopped: bool,
    /// Seconds from the first line to the last.
    passed: u32,
    /// Unix time of the last line.
    last: Option<i64>,
}

impl Timeline {
    fn follow(&mut self, line: &str) {
        let clock = line::clock_line(line);
        if let Some((event, origin)) = clock {
            if event == ClockLine::Start && self.lacks_lines_before(origin) {
                self.cut = self.lines;
            }
            self.stopped = event == ClockLine::Stop;
            self.origin = origin;
        }
        self.lines = self.lines.saturating_add(1);
        let Some(at) = line::written_at(line) else {
            return;
        };
        let gap = match clock.map(|(event, _)| event) {
            Some(ClockLine::Start) => self.downtime(at),
            Some(ClockLine::Step(by)) => self.gap(at.saturating_sub(by)),
            _ => self.gap(at),
        };
        self.passed = self.passed.saturating_add(gap);
        self.last = Some(at);
    }

    /// Whether a run that begins there may lack lines of the last one. What earlier builds wrote counts as complete.
    fn lacks_lines_before(&self, there: Option<Origin>) -> bool {
        let pair = self.origin.zip(there);
        pair.is_some_and(|(before, there)| !there.has_all_of(before, self.stopped))
    }

    /// Seconds from the last line to a time in the same run.
    fn gap(&self, at: i64) -> u32 {
        let gap = self.last.map_or(0, |last| at.saturating_sub(last));
        u32::try_from(gap.clamp(0, LONGEST_GAP)).unwrap_or(0)
    }

    /// Seconds from the last line to a time in the next run; 0 if either clock was never set.
    fn downtime(&self, at: i64) -> u32 {
        match self.last {
            Some(last) if is_trusted(last) && is_trusted(at) => {
                let gap = at.saturating_sub(last).clamp(0, LONGEST_DOWNTIME);
                u32::try_from(gap).unwrap_or(0)
            }
            _ => 0,
        }
    }
}

/// Calls `each` with every line, or with `None` for one that is damaged. Returns the number of bytes.
fn lines(file: &mut impl Read, mut each: impl FnMut(Option<&str>)) -> io::Result<u64> {
    let mut file = BufReader::with_capacity(LONGEST, file);
    let mut line: Vec<u8> = Vec::new();
    let mut bytes: u64 = 0;
    let mut intact_until: u64 = 0;
    // A line that is too long is damaged once, however many pieces it comes in.
    let mut within = false;
    loop {
        line.clear();
        let read = file
            .by_ref()
            .take(LONGEST as u64)
            .read_until(b'\n', &mut line)?;
        if read == 0 || bytes - intact_until > NO_JOURNAL {
            return Ok(bytes);
        }
        bytes += read as u64;
        let (is_end, text) = match line.strip_suffix(b"\n") {
            Some(text) => (true, text),
            None => (read < LONGEST, &*line),
        };
        let is_rest = std::mem::replace(&mut within, !is_end);
        if text.is_empty() {
            continue;
        }
        if let Some(line) = line::intact(text) {
            intact_until = bytes;
            each(Some(line));
            continue;
        }
        if !is_rest {
            each(None);
        }
        for line in line::salvaged(text) {
            intact_until = bytes;
            each(Some(line));
        }
    }
}
