//! One record as one line. Pure: record and time in, bytes out; nothing is allocated but the buffer
//! that all lines share.
//!
//! Whatever a module or a file name puts into a value, a line stays one line and shows what it holds:
//! control characters, quotes and characters that turn the direction of writing are escaped, and a
//! long text is cut.

use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use log::kv::{Error, Key, Value, VisitSource, VisitValue};

use super::Format;
use crate::decimal::{self, decimal};

/// Characters of a value that are shown.
pub(super) const VALUE: usize = 256;

/// Characters of a message that are shown: messages are ours, and some quote a path.
const MESSAGE: usize = 1024;

/// Appends the record as one line.
pub(super) fn write(
    buffer: &mut Vec<u8>,
    format: Format,
    (clock, time): (&mut Clock, SystemTime),
    record: &log::Record<'_>,
) {
    let event = record.target();
    let event = event.strip_prefix("luat_ota::").unwrap_or(event);
    let message = *record.args();
    match format {
        Format::Text => {
            clock.write(buffer, time);
            // Writing to a Vec cannot fail, here and below.
            let _ = write!(buffer, " {:<5} {event}", record.level());
            let start = buffer.len();
            buffer.push(b' ');
            let _ = Escape::new(buffer, Format::Text, MESSAGE).write_fmt(message);
            if buffer.len() == start.saturating_add(1) {
                buffer.truncate(start);
            }
        }
        Format::Json => {
            buffer.extend_from_slice(b"{\"time\":\"");
            clock.write(buffer, time);
            let level = match record.level() {
                log::Level::Error => "error",
                log::Level::Warn => "warn",
                log::Level::Info => "info",
                log::Level::Debug => "debug",
                log::Level::Trace => "trace",
            };
            let _ = write!(buffer, "\",\"level\":\"{level}\",\"event\":");
            write_json_text(buffer, VALUE, format_args!("{event}"));
            let start = buffer.len();
            buffer.extend_from_slice(b",\"message\":");
            write_json_text(buffer, MESSAGE, message);
            if buffer.ends_with(b":\"\"") {
                buffer.truncate(start);
            }
        }
    }
    // A value that cannot say what it is leaves its pair short; the line goes on.
    let _ = record.key_values().visit(&mut Pairs { buffer, format });
    if format == Format::Json {
        buffer.push(b'}');
    }
    buffer.push(b'\n');
}

pub(super) fn write_json_text(buffer: &mut Vec<u8>, most: usize, text: fmt::Arguments<'_>) {
    buffer.push(b'"');
    let _ = Escape::new(buffer, Format::Json, most).write_fmt(text);
    buffer.push(b'"');
}

struct Pairs<'b> {
    buffer: &'b mut Vec<u8>,
    format: Format,
}

impl<'kvs> VisitSource<'kvs> for Pairs<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        let (buffer, format) = (&mut *self.buffer, self.format);
        match format {
            Format::Text => {
                buffer.push(b' ');
                buffer.extend_from_slice(key.as_str().as_bytes());
                buffer.push(b'=');
            }
            Format::Json => {
                buffer.push(b',');
                write_json_text(buffer, VALUE, format_args!("{key}"));
                buffer.push(b':');
            }
        }
        value.visit(Field { buffer, format })
    }
}

/// Writes one value.
struct Field<'b> {
    buffer: &'b mut Vec<u8>,
    format: Format,
}

impl Field<'_> {
    fn plain(&mut self, value: impl fmt::Display) -> Result<(), Error> {
        let _ = write!(self.buffer, "{value}");
        Ok(())
    }

    fn text(&mut self, write: impl FnOnce(&mut Escape<'_>) -> fmt::Result) -> Result<(), Error> {
        let start = self.buffer.len();
        let mut escape = Escape::new(self.buffer, self.format, VALUE);
        let _ = write(&mut escape);
        let bare = escape.bare && self.format == Format::Text;
        if !bare || self.buffer.len() == start {
            self.buffer.insert(start, b'"');
            self.buffer.push(b'"');
        }
        Ok(())
    }
}

impl<'v> VisitValue<'v> for Field<'_> {
    fn visit_any(&mut self, value: Value<'_>) -> Result<(), Error> {
        self.text(|escape| write!(escape, "{value}"))
    }

    fn visit_null(&mut self) -> Result<(), Error> {
        match self.format {
            Format::Text => self.plain("-"),
            Format::Json => self.plain("null"),
        }
    }

    fn visit_u64(&mut self, value: u64) -> Result<(), Error> {
        self.plain(value)
    }

    fn visit_i64(&mut self, value: i64) -> Result<(), Error> {
        self.plain(value)
    }

    fn visit_u128(&mut self, value: u128) -> Result<(), Error> {
        self.plain(value)
    }

    fn visit_i128(&mut self, value: i128) -> Result<(), Error> {
        self.plain(value)
    }

    /// Seconds and shares: three decimals say all.
    fn visit_f64(&mut self, value: f64) -> Result<(), Error> {
        if !value.is_finite() {
            return self.visit_null();
        }
        let start = self.buffer.len();
        let _ = write!(self.buffer, "{value:.3}");
        while self.buffer.len() > start && self.buffer.last() == Some(&b'0') {
            self.buffer.pop();
        }
        if self.buffer.last() == Some(&b'.') {
            self.buffer.pop();
        }
        Ok(())
    }

    fn visit_bool(&mut self, value: bool) -> Result<(), Error> {
        self.plain(value)
    }

    fn visit_str(&mut self, value: &str) -> Result<(), Error> {
        self.text(|escape| escape.write_str(value))
    }
}

/// Writes a text so that it stays within its line and within its quotes.
pub(super) struct Escape<'b> {
    buffer: &'b mut Vec<u8>,
    format: Format,
    /// Characters that may still come.
    left: usize,
    /// It needs no quotes in the text format.
    pub bare: bool,
}

impl<'b> Escape<'b> {
    pub fn new(buffer: &'b mut Vec<u8>, format: Format, most: usize) -> Escape<'b> {
        Escape {
            buffer,
            format,
            left: most,
            bare: true,
        }
    }
}

impl fmt::Write for Escape<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut text = text;
        while !text.is_empty() {
            // What needs no look at each character goes out as a whole: that is nearly everything.
            let most = text.len().min(self.left);
            let plain = text.bytes().position(|b| !is_plain(b)).unwrap_or(most);
            let (plain, rest) = text.split_at_checked(plain.min(most)).unwrap_or(("", text));
            self.buffer.extend_from_slice(plain.as_bytes());
            self.left = self.left.saturating_sub(plain.len());
            let mut rest = rest.chars();
            if let Some(c) = rest.next() {
                self.character(c)?;
            }
            text = rest.as_str();
        }
        Ok(())
    }
}

/// A character of one byte that stands for itself, and needs no quotes. (A table: every byte of every line is
/// asked for.)
#[allow(clippy::indexing_slicing)] // While the table is made, when the program is compiled.
fn is_plain(byte: u8) -> bool {
    static PLAIN: [bool; 256] = {
        let mut plain = [false; 256];
        let mut byte = 0;
        while byte < plain.len() {
            let b = byte as u8;
            plain[byte] = b.is_ascii_graphic() && !matches!(b, b'"' | b'\\' | b'=');
            byte += 1;
        }
        plain
    };
    PLAIN.get(usize::from(byte)).copied().unwrap_or(false)
}

impl Escape<'_> {
    fn character(&mut self, c: char) -> fmt::Result {
        if self.left == 0 {
            // Said once: the error ends the writing of this value.
            self.buffer.extend_from_slice("…".as_bytes());
            return Err(fmt::Error);
        }
        self.left = self.left.saturating_sub(1);
        match c {
            '"' | '\\' => {
                // A message in the text format stands without quotes, but is escaped alike.
                self.bare = false;
                self.buffer.push(b'\\');
                self.buffer.push(c as u8);
            }
            '\n' => self.escaped("\\n"),
            '\r' => self.escaped("\\r"),
            '\t' => self.escaped("\\t"),
            c if treacherous(c) => {
                self.bare = false;
                let code = u32::from(c);
                let _ = match self.format {
                    Format::Text => write!(self.buffer, "\\u{{{code:x}}}"),
                    Format::Json => write!(self.buffer, "\\u{code:04x}"),
                };
            }
            c => {
                if matches!(c, ' ' | '=') {
                    self.bare = false;
                }
                let mut bytes = [0; 4];
                self.buffer
                    .extend_from_slice(c.encode_utf8(&mut bytes).as_bytes());
            }
        }
        Ok(())
    }

    fn escaped(&mut self, sequence: &str) {
        self.bare = false;
        self.buffer.extend_from_slice(sequence.as_bytes());
    }
}

/// A character that would end the line, be taken as a command by a terminal, or make a text look like
/// another: control characters, line separators, and what is invisible or turns the direction. All
/// are below U+10000, so that four digits of JSON's `\u` hold them.
fn treacherous(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

/// A text from a file name or from the net, fit for a terminal: what a log line would escape is
/// escaped, quotes and backslashes are left alone.
pub struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match treacherous(c) {
            true => write!(f, "\\u{{{:x}}}", u32::from(c)),
            false => f.write_char(c),
        })
    }
}

/// Writes times, and keeps the last second that it wrote: the lines of one second begin alike.
#[derive(Default)]
pub(super) struct Clock {
    second: u64,
    /// That second, up to the dot; empty before the first.
    text: Vec<u8>,
}

impl Clock {
    pub const fn new() -> Clock {
        Clock {
            second: 0,
            text: Vec::new(),
        }
    }

    /// RFC 3339, UTC, with milliseconds.
    pub fn write(&mut self, buffer: &mut Vec<u8>, time: SystemTime) {
        // A clock before 1970 shows 1970.
        let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        if self.second != since.as_secs() || self.text.is_empty() {
            self.second = since.as_secs();
            self.text.clear();
            let _ = write!(self.text, "{}.", Civil::of(self.second));
        }
        buffer.extend_from_slice(&self.text);
        // With a thousand more there are three digits behind the first.
        let millis = u64::from(since.subsec_millis()).saturating_add(1000);
        let mut room = [0; decimal::ROOM];
        let digits = decimal(millis, &mut room).as_bytes().get(1..);
        buffer.extend_from_slice(digits.unwrap_or_default());
        buffer.push(b'Z');
    }
}

/// A moment in UTC by the calendar; shown as RFC 3339 without the zone.
pub(crate) struct Civil {
    year: u64,
    month: u64,
    day: u64,
    second: u64,
}

impl Civil {
    /// Days into years, months and days without a loop: years that begin in March put the leap day
    /// last, and 400 years are always 146,097 days.
    pub(crate) fn of(unix: u64) -> Civil {
        let days = (unix / 86_400).saturating_add(719_468); // since 0000-03-01
        let (era, day_of_era) = (days / 146_097, days % 146_097);
        let year_of_era =
            (day_of_era + day_of_era / 36_524 - day_of_era / 1_460 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * day_of_year + 2) / 153; // 0: March
        let month = match from_march {
            0..10 => from_march + 3,
            _ => from_march - 9,
        };
        Civil {
            year: era * 400 + year_of_era + u64::from(month <= 2),
            month,
            day: day_of_year - (153 * from_march + 2) / 5 + 1,
            second: unix % 86_400,
        }
    }
}

impl fmt::Display for Civil {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = (self.year, self.month, self.day);
        let (hour, minute, second) = (self.second / 3600, self.second / 60 % 60, self.second % 60);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Duration = Duration::from_millis(1_795_420_800_007); // 2026-11-23T08:00:00.007Z

    fn line(format: Format, pairs: &[(&str, Value<'_>)], message: &str) -> String {
        let mut buffer = Vec::new();
        write(
            &mut buffer,
            format,
            (&mut Clock::default(), UNIX_EPOCH + NOW),
            &log::Record::builder()
                .level(log::Level::Info)
                .target("check")
                .args(format_args!("{message}"))
                .key_values(&pairs)
                .build(),
        );
        String::from_utf8(buffer).unwrap()
    }

    fn value(format: Format, text: &str) -> String {
        let line = line(format, &[("x", Value::from(text))], "m");
        let (_, value) = line.split_once("x\":").or(line.split_once("x=")).unwrap();
        value
            .trim_end_matches('\n')
            .trim_end_matches('}')
            .to_owned()
    }

    #[test]
    fn times_are_by_the_calendar() {
        for (unix, text) in [
            (0, "1970-01-01T00:00:00"),
            (951_782_399, "2000-02-28T23:59:59"),
            (951_782_400, "2000-02-29T00:00:00"),
            (951_868_800, "2000-03-01T00:00:00"),
            (1_078_012_800, "2004-02-29T00:00:00"),
            (1_767_225_599, "2025-12-31T23:59:59"),
            (1_767_225_600, "2026-01-01T00:00:00"),
            (1_795_420_800, "2026-11-23T08:00:00"),
            (4_107_542_400, "2100-03-01T00:00:00"),
            (4_107_542_399, "2100-02-28T23:59:59"),
            (253_402_300_799, "9999-12-31T23:59:59"),
        ] {
            assert_eq!(Civil::of(unix).to_string(), text, "{unix}");
        }
        // Far beyond any clock, and still no overflow.
        let _ = Civil::of(u64::MAX).to_string();
    }

    #[test]
    fn a_text_line_has_time_level_event_and_pairs() {
        let pairs = [
            ("proto", Value::from("http")),
            ("bytes", Value::from(1234_u64)),
            ("seconds", Value::from(1.5_f64)),
            ("reason", Value::from("two words")),
            ("empty", Value::from("")),
        ];
        assert_eq!(
            line(Format::Text, &pairs, ""),
            "2026-11-23T08:00:00.007Z INFO  check proto=http bytes=1234 seconds=1.5 \
             reason=\"two words\" empty=\"\"\n"
        );
        assert_eq!(
            line(Format::Text, &[], "a message"),
            "2026-11-23T08:00:00.007Z INFO  check a message\n"
        );
    }

    #[test]
    fn a_json_line_has_numbers_as_numbers_and_no_empty_message() {
        let shown = std::net::Ipv4Addr::LOCALHOST;
        let pairs = [
            ("proto", Value::from("http")),
            ("bytes", Value::from(1234_u64)),
            ("offset", Value::from(-5_i64)),
            ("seconds", Value::from(0.12345_f64)),
            ("nan", Value::from(f64::NAN)),
            ("whole", Value::from(100.0_f64)),
            ("good", Value::from(true)),
            ("peer", Value::from_display(&shown)),
        ];
        assert_eq!(
            line(Format::Json, &pairs, ""),
            "{\"time\":\"2026-11-23T08:00:00.007Z\",\"level\":\"info\",\"event\":\"check\",\
             \"proto\":\"http\",\"bytes\":1234,\"offset\":-5,\"seconds\":0.123,\"nan\":null,\
             \"whole\":100,\"good\":true,\"peer\":\"127.0.0.1\"}\n"
        );
        assert!(line(Format::Json, &[], "hello").contains(",\"message\":\"hello\"}"));
    }

    #[test]
    fn what_comes_from_the_net_cannot_leave_its_value() {
        for (raw, text, json) in [
            ("plain", "plain", r#""plain""#),
            ("升级", "升级", r#""升级""#),
            ("a=b", "\"a=b\"", r#""a=b""#),
            ("a\nb\r\t", r#""a\nb\r\t""#, r#""a\nb\r\t""#),
            ("say \"no\"\\", r#""say \"no\"\\""#, r#""say \"no\"\\""#),
            ("\0\x1b[2J", r#""\u{0}\u{1b}[2J""#, r#""\u0000\u001b[2J""#),
            ("\u{7f}\u{9b}", r#""\u{7f}\u{9b}""#, r#""\u007f\u009b""#),
            ("\u{202e}nib.a", r#""\u{202e}nib.a""#, r#""\u202enib.a""#),
            ("\u{2028}", r#""\u{2028}""#, r#""\u2028""#),
        ] {
            assert_eq!(value(Format::Text, raw), text, "{raw:?}");
            assert_eq!(value(Format::Json, raw), json, "{raw:?}");
        }
    }

    #[test]
    fn a_long_value_is_cut() {
        let long = "x".repeat(VALUE);
        assert_eq!(value(Format::Text, &long), long);
        let cut = value(Format::Text, &format!("{long}y"));
        assert_eq!(cut, format!("{long}…"));
        // Cut within a Display that writes in pieces, too.
        let pieces = format_args!("{long}{long}{long}").to_string();
        assert_eq!(
            value(Format::Json, &pieces),
            format!("\"{}…\"", "x".repeat(VALUE))
        );
    }

    #[test]
    fn a_path_on_a_terminal_shows_its_control_characters() {
        assert_eq!(
            Escaped("a\u{1b}[2J升\n\"").to_string(),
            "a\\u{1b}[2J升\\u{a}\""
        );
    }

    proptest! {
        #[test]
        fn a_json_line_is_always_one_line_of_json(text in any::<String>(), message in any::<String>()) {
            let line = line(Format::Json, &[("x", Value::from(text.as_str()))], &message);
            prop_assert_eq!(line.matches('\n').count(), 1);
            let read: serde_json::Value = serde_json::from_str(&line).unwrap();
            let whole: String = text.chars().take(VALUE).collect();
            prop_assert!(read["x"].as_str().unwrap().starts_with(&whole));
        }

        #[test]
        fn a_text_line_is_always_one_line(text in any::<String>(), message in any::<String>()) {
            let line = line(Format::Text, &[("x", Value::from(text.as_str()))], &message);
            prop_assert_eq!(line.chars().filter(|c| c.is_control()).count(), 1);
        }
    }
}
