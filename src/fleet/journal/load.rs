//! Reader of the journal, for the start of the server, and for `luat-ota devices` while a server writes the journal.
//!
//! The journal is read twice. The age of a line depends on the lines after it, because the machine's clock may have
//! been stepped since. Therefore the first pass adds up the time that passed from line to line. Time only counts
//! forward and within limits: at most two hours between two lines of one run (there is at least one line every hour),
//! at most thirty days while no server ran, and nothing while the clock was not set.

use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::{Mutex, mpsc};
use std::thread;

use super::line::{self, ClockLine, DecodedLine, MAX_LINE, ParsedLine};
use super::origin::Origin;
use crate::fleet::clock::{Stamp, Wall, is_trusted};
use crate::fleet::entry::fields::LineTime;
use crate::fleet::entry::{Commons, JournalEntry};
use crate::fleet::pins;
use crate::os::fs::{Content, open_to_read};

/// Size from which a journal is read by two threads, in bytes.
const MIN_THREADED: u64 = 4 * 1024 * 1024;

/// Number of lines that the reading thread hands over at once.
const BLOCK_LINES: usize = 512;

/// Largest number of blocks that wait for the receiving thread.
const MAX_BLOCKS: usize = 4;

/// Longest time that counts between two lines of one run, in seconds.
const MAX_GAP: i64 = 2 * 3600;

/// Number of bytes without an intact line after which the rest is not read, because the file is not a journal.
const MAX_DAMAGED_RUN: u64 = 16 * 1024 * 1024;

/// Longest time that counts while no server ran, in seconds.
const MAX_DOWNTIME: i64 = 30 * 86_400;

/// Result of reading a journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Number of entries.
    pub entries: u64,
    /// Number of lines that are torn or damaged.
    pub damaged: u64,
    /// Number of intact lines of an unknown kind, which a later version writes.
    pub unknown: u64,
    /// Size of the journal in bytes.
    pub bytes: u64,
    /// Version of the format, if this build does not support it. In this case nothing was read.
    pub newer: Option<u32>,
    /// Seconds from the last line to now.
    pub downtime: u32,
    /// Whether lines may be missing at the end of the journal, and with them the start of downloads.
    pub may_lack_lines: bool,
    /// Whether the journal could not be read, so that there may be one when the folder becomes usable.
    pub unread: bool,
}

/// Passes all entries of a journal to `each`, oldest first. Their times are stamps before `now`, at which the machine's
/// clock says `unix`. A missing journal counts as empty. Fails if the journal cannot be read.
pub fn load(
    path: &Path,
    now: Stamp,
    unix: i64,
    each: &mut dyn FnMut(JournalEntry),
) -> io::Result<Loaded> {
    load_in(path, None, Wall { stamp: now, unix }, each)
}

/// Loads a journal like [`load`], for a run that continues it. `here` is the origin of that run.
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

/// Reads a journal that `rewind` can move back to its start.
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
        first.add(line);
        let version = line::version(line);
        newer = newer.or(version.filter(|version| *version > line::VERSION));
    })?;
    if newer.is_some() {
        return Ok(Loaded { newer, ..loaded });
    }
    loaded.downtime = first.downtime(now.unix);
    loaded.may_lack_lines = first.may_lack_lines(here);
    let cut = match loaded.may_lack_lines {
        true => u64::MAX,
        false => first.cut,
    };
    let end = now.stamp.minus(loaded.downtime);
    let mut second = Timeline::default();
    let parse = |found: Option<&str>| {
        let line = found.inspect(|line| second.add(line));
        let time = LineTime {
            stamp: end.minus(first.elapsed.saturating_sub(second.elapsed)),
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
                // The missing lines may record that the device began another content. The pin therefore permits no
                // resume, and only prevents the resume of other contents.
                pin.used = pin.used.min(now.stamp.minus(pins::LIFETIME));
            }
            each(entry);
        }
        DecodedLine::Meta => {}
        DecodedLine::Unknown => loaded.unknown += 1,
        DecodedLine::Damaged => loaded.damaged += 1,
    };
    rewind(file)?;
    // Ignore what a running server has written since the first pass, which does not include it.
    let file = file.take(bytes);
    match bytes < MIN_THREADED {
        true => each_line(file, parse, take)?,
        false => each_line_threaded(file, parse, take)?,
    }
    Ok(loaded)
}

/// Calls `take` with the result of `parse` for each line.
fn each_line<T>(
    mut file: impl Read,
    mut parse: impl FnMut(Option<&str>) -> T,
    mut take: impl FnMut(T),
) -> io::Result<()> {
    lines(&mut file, |found| take(parse(found))).map(drop)
}

/// Works like [`each_line`], while another thread parses the lines that follow.
fn each_line_threaded<T: Send>(
    file: impl Read + Send,
    parse: impl FnMut(Option<&str>) -> T + Send,
    mut take: impl FnMut(T),
) -> io::Result<()> {
    let work = Mutex::new(Some((file, parse)));
    let work = || work.lock().ok().and_then(|mut work| work.take());
    thread::scope(|scope| {
        let (sender, blocks) = mpsc::sync_channel(MAX_BLOCKS);
        let read = move || {
            let Some((file, parse)) = work() else {
                return Ok(());
            };
            let mut block = Vec::with_capacity(BLOCK_LINES);
            let read = each_line(file, parse, |line| {
                block.push(line);
                if block.len() == BLOCK_LINES {
                    let full = std::mem::replace(&mut block, Vec::with_capacity(BLOCK_LINES));
                    // Sending does not fail, because the receiver takes all blocks.
                    sender.send(full).ok();
                }
            });
            sender.send(block).ok();
            read
        };
        let reader = thread::Builder::new().name("journal-read".to_owned());
        let Ok(reader) = reader.spawn_scoped(scope, read) else {
            // No further thread can be started.
            return work().map_or(Ok(()), |(file, parse)| each_line(file, parse, take));
        };
        blocks.into_iter().flatten().for_each(&mut take);
        let panicked = |_| Err(io::ErrorKind::Other.into());
        reader.join().unwrap_or_else(panicked)
    })
}

/// Time that passed from line to line, and the places at which lines may be missing.
#[derive(Debug, Default)]
struct Timeline {
    /// Number of intact lines.
    lines: u64,
    /// Number of intact lines before the last place at which lines may be missing.
    cut: u64,
    /// Origin of the last run, if its lines state one.
    origin: Option<Origin>,
    /// Whether the last run ended in good order.
    is_stopped: bool,
    /// Seconds from the first line to the last.
    elapsed: u32,
    /// Unix time of the last line.
    last: Option<i64>,
}

impl Timeline {
    fn add(&mut self, line: &str) {
        let clock = line::clock_line(line);
        if let Some((event, origin)) = clock {
            if event == ClockLine::Start && self.may_lack_lines(origin) {
                self.cut = self.lines;
            }
            self.is_stopped = event == ClockLine::Stop;
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
        self.elapsed = self.elapsed.saturating_add(gap);
        self.last = Some(at);
    }

    /// Whether lines of the last run may be missing before a run that begins at `there`. Lines of builds that do not
    /// state an origin count as complete.
    fn may_lack_lines(&self, there: Option<Origin>) -> bool {
        let pair = self.origin.zip(there);
        pair.is_some_and(|(before, there)| !there.has_all_lines(before, self.is_stopped))
    }

    /// Seconds from the last line to a time in the same run.
    fn gap(&self, at: i64) -> u32 {
        let gap = self.last.map_or(0, |last| at.saturating_sub(last));
        u32::try_from(gap.clamp(0, MAX_GAP)).unwrap_or(0)
    }

    /// Seconds from the last line to a time in the next run; 0 if the clock was not set at one of these times.
    fn downtime(&self, at: i64) -> u32 {
        match self.last {
            Some(last) if is_trusted(last) && is_trusted(at) => {
                let gap = at.saturating_sub(last).clamp(0, MAX_DOWNTIME);
                u32::try_from(gap).unwrap_or(0)
            }
            _ => 0,
        }
    }
}

/// Calls `each` with every line, or with `None` for one that is damaged. Returns the number of bytes.
fn lines(file: &mut impl Read, mut each: impl FnMut(Option<&str>)) -> io::Result<u64> {
    let mut file = BufReader::with_capacity(MAX_LINE, file);
    let mut line: Vec<u8> = Vec::new();
    let mut bytes: u64 = 0;
    let mut intact_until: u64 = 0;
    // A line that is too long counts as damaged once, even if it is read in several pieces.
    let mut within = false;
    loop {
        line.clear();
        let read = file
            .by_ref()
            .take(MAX_LINE as u64)
            .read_until(b'\n', &mut line)?;
        if read == 0 || bytes - intact_until > MAX_DAMAGED_RUN {
            return Ok(bytes);
        }
        bytes += read as u64;
        let (is_end, text) = match line.strip_suffix(b"\n") {
            Some(text) => (true, text),
            None => (read < MAX_LINE, &*line),
        };
        let is_rest = std::mem::replace(&mut within, !is_end);
        if text.is_empty() {
            continue;
        }
        if let Some(line) = line::intact_text(text) {
            intact_until = bytes;
            each(Some(line));
            continue;
        }
        if !is_rest {
            each(None);
        }
        for line in line::intact_lines(text) {
            intact_until = bytes;
            each(Some(line));
        }
    }
}
