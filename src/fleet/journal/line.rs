//! Format of one line of the journal: a JSON object whose first key is its kind, and whose last two fields are `at`
//! (the time at which it was written, in Unix seconds) and `crc` (the CRC-32 of everything before it). docs/state.md
//! shows each kind.
//!
//! Neither `{"` nor `,"crc":"` can occur inside a line, because quotes in a text are escaped with a backslash, and a
//! brace at the end of a text is written as `\u007b`. Therefore a line that was joined to a torn one can be found.

use std::fmt::Write;

use super::origin::Origin;
use crate::fleet::clock::{Stamp, Wall, is_trusted};
use crate::fleet::entry::fields::{Fields, LineTime, LineWriter};
use crate::fleet::entry::{Commons, DeviceEntry, IndividualFields, JournalEntry, WrittenCommons};

/// Version of the format, in the first line.
///
/// Version 2 has common lines, which a reader of version 1 cannot parse.
pub(super) const VERSION: u32 = 2;

/// Key of the first line.
const HEADER: &str = "luat-ota-journal";

/// Key of a common line: a line with the fields that devices have in common.
const COMMON: &str = "common";

/// Longest line, in bytes. A longer one counts as damaged.
pub(super) const MAX_LINE: usize = 64 * 1024;

const CHECK: &str = ",\"crc\":\"";

/// Length of `,"crc":"0123abcd"}`.
const TAIL: usize = CHECK.len() + 8 + 2;

/// Event that a line about the clock records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClockLine {
    /// Start of a run. Before it the server did not listen.
    Start,
    /// Step of the machine's clock, in seconds.
    Step(i64),
    /// An hour in which nothing else was written.
    Hour,
    /// Regular end of a run.
    Stop,
}

/// Writes the first line of a journal.
pub(super) fn write_header(out: &mut String) {
    // The first line contains no time.
    let mut line = LineWriter::new(out, Wall::default());
    line.plain(HEADER, VERSION);
    write_check(line);
}

/// Writes one entry.
pub(super) fn write_entry(out: &mut String, wall: Wall, at: Stamp, entry: &JournalEntry) {
    let mut line = LineWriter::new(out, wall);
    entry.write(&mut line);
    line.time("at", at);
    write_check(line);
}

/// Writes one entry of a compaction. The fields that a device has in common with others are written once.
pub(super) fn write_record(
    out: &mut String,
    wall: Wall,
    at: Stamp,
    entry: &JournalEntry,
    commons: &mut WrittenCommons,
) {
    let before = out.len();
    let common = match entry {
        JournalEntry::Device(device) => commons.check(device, |common| {
            let mut line = LineWriter::new(out, wall);
            common.write_common(&mut line, COMMON);
            line.time("at", at);
            write_check(line)
        }),
        _ => None,
    };
    match (entry, common) {
        (JournalEntry::Device(device), Some(check)) => {
            let mut line = LineWriter::new(out, wall);
            device.write_individual(&mut line);
            line.word("as", format_args!("{check:08x}"));
            line.time("at", at);
            write_check(line);
        }
        _ => {
            out.truncate(before);
            write_entry(out, wall, at, entry);
        }
    }
}

/// Writes a line about the clock.
pub(super) fn write_clock(
    out: &mut String,
    wall: Wall,
    at: Stamp,
    event: ClockLine,
    origin: Option<Origin>,
) {
    let mut line = LineWriter::new(out, wall);
    line.word(
        "clock",
        match event {
            ClockLine::Start => "start",
            ClockLine::Step(_) => "step",
            ClockLine::Hour => "hour",
            ClockLine::Stop => "stop",
        },
    );
    if let ClockLine::Step(by) = event {
        line.plain("step", by);
    }
    line.plain("trusted", is_trusted(wall.unix_of(at)));
    if let Some(origin) = origin {
        origin.write(&mut line);
    }
    line.time("at", at);
    write_check(line);
}

/// Ends a line with its checksum, and returns the checksum.
fn write_check(line: LineWriter<'_>) -> u32 {
    let crc = crc32fast::hash(line.written().as_bytes());
    // Writing to a String does not fail.
    let _ = writeln!(line.finish(), "{CHECK}{crc:08x}\"}}");
    crc
}

/// Returns the text of a line without its newline; `None` if the line is damaged.
pub(super) fn intact_text(line: &[u8]) -> Option<&str> {
    let (body, tail) = line.split_at_checked(line.len().checked_sub(TAIL)?)?;
    let digits = tail.strip_prefix(CHECK.as_bytes())?.strip_suffix(b"\"}")?;
    let is_hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if !digits.iter().all(is_hex) {
        return None;
    }
    let crc = u32::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?;
    if crc32fast::hash(body) != crc {
        return None;
    }
    str::from_utf8(line).ok()
}

/// Returns the intact lines inside a damaged one, which a short write or a lost newline has joined.
pub(super) fn intact_lines(glued: &[u8]) -> impl Iterator<Item = &str> {
    let mut rest = glued;
    std::iter::from_fn(move || {
        loop {
            let check = find(rest, CHECK.as_bytes())?;
            let piece = rest.get(..check.checked_add(TAIL)?)?;
            // If this checksum is torn, the next line may begin within it.
            rest = rest.get(check.checked_add(CHECK.len())?..)?;
            // Take the last `{"` before the checksum: an earlier one belongs to a torn line.
            let start = piece.windows(2).rposition(|pair| pair == b"{\"")?;
            if let Some(line) = piece.get(start..).and_then(intact_text) {
                return Some(line);
            }
        }
    })
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|here| here == what)
}

/// Returns the kind of an intact line, which is its first key.
fn kind(line: &str) -> &str {
    let key = line
        .strip_prefix("{\"")
        .and_then(|rest| rest.split('"').next());
    key.unwrap_or_default()
}

/// Returns the time at which an intact line was written, in Unix seconds: the field before the checksum.
pub(super) fn written_at(line: &str) -> Option<i64> {
    let body = line.get(..line.len().checked_sub(TAIL)?)?;
    let (rest, at) = body.rsplit_once(':')?;
    match rest.ends_with(",\"at\"") {
        true => at.parse().ok(),
        false => None,
    }
}

/// Returns the version of the format if `line` is the first line of a journal.
pub(super) fn version(line: &str) -> Option<u32> {
    let fields = || Fields::read(line, LineTime::default());
    (kind(line) == HEADER).then(fields)??.number(HEADER)
}

/// Returns the event that a line about the clock records, and the origin if the line states it; `None` for any other
/// line.
pub(super) fn clock_line(line: &str) -> Option<(ClockLine, Option<Origin>)> {
    let fields = || Fields::read(line, LineTime::default());
    let fields = (kind(line) == "clock").then(fields)??;
    let event = match fields.text("clock")? {
        "start" => ClockLine::Start,
        "step" => ClockLine::Step(fields.signed("step")?),
        "stop" => ClockLine::Stop,
        _ => ClockLine::Hour,
    };
    Some((event, Origin::read(&fields)))
}

/// An intact line, parsed as far as possible without the lines before it.
#[derive(Debug)]
pub(super) enum ParsedLine {
    /// A device's own fields, and the checksum of its common line.
    Individual(IndividualFields, u64),
    /// Any other line, and the time at which it was written.
    Other(Box<str>, LineTime),
    /// A line with a field that is missing or invalid.
    Damaged,
}

/// Parses an intact line that was written at `time`.
pub(super) fn parse(line: &str, time: LineTime) -> ParsedLine {
    // Quotes within a text are always escaped with a backslash.
    if kind(line) != "device" || !line.contains(",\"as\":\"") {
        return ParsedLine::Other(line.into(), time);
    }
    let individual = Fields::read(line, time)
        .and_then(|fields| Some((IndividualFields::read(&fields)?, fields.hash("as")?)));
    individual.map_or(ParsedLine::Damaged, |(individual, check)| {
        ParsedLine::Individual(individual, check)
    })
}

/// Content of an intact line.
#[derive(Debug, PartialEq)]
pub(super) enum DecodedLine {
    /// An entry of the fleet.
    Entry(JournalEntry),
    /// A line about the journal itself.
    Meta,
    /// A line of a kind that a later version writes.
    Unknown,
    /// A line with a field that is missing or invalid.
    Damaged,
}

/// Decodes a line; `commons` contains the common lines before it.
pub(super) fn decode(line: ParsedLine, commons: &mut Commons) -> DecodedLine {
    let (line, time) = match line {
        ParsedLine::Individual(individual, check) => {
            let common = commons.get(check).cloned();
            return match common.and_then(|common| individual.with(common)) {
                Some(entry) => DecodedLine::Entry(JournalEntry::Device(entry)),
                None => DecodedLine::Damaged,
            };
        }
        ParsedLine::Other(line, time) => (line, time),
        ParsedLine::Damaged => return DecodedLine::Damaged,
    };
    let Some(fields) = Fields::read(&line, time) else {
        return DecodedLine::Damaged;
    };
    match kind(&line) {
        "clock" | HEADER => DecodedLine::Meta,
        COMMON => {
            let common = DeviceEntry::read_common(&fields, COMMON);
            match common.zip(fields.hash("crc")) {
                Some((common, check)) => {
                    commons.define(check, common);
                    DecodedLine::Meta
                }
                None => DecodedLine::Damaged,
            }
        }
        // Builds before 0.1.0 ended the pin of one content for one network. The other pins of the key remain valid for
        // their day.
        "unpinned" if fields.has("network") => DecodedLine::Meta,
        kind if JournalEntry::KINDS.contains(&kind) => match JournalEntry::read(kind, &fields) {
            Some(entry) => DecodedLine::Entry(entry),
            None => DecodedLine::Damaged,
        },
        _ => DecodedLine::Unknown,
    }
}
