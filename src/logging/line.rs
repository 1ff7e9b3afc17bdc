//! Formats one record as one line. There is no input or output. Nothing is allocated except the buffer that all lines
//! share.
//!
//! Whatever a module or a file name puts into a value, a line stays one line and shows the value: control characters,
//! quotes and characters that change the direction of writing are escaped, and a long text is truncated.

use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use log::kv::{Error, Key, Value, VisitSource, VisitValue};

use super::Format;

/// Maximum number of characters of a value that are shown.
const MAX_VALUE: usize = 256;

/// Maximum number of characters of a message that are shown. Messages are the program's own, and some quote a path.
const MAX_MESSAGE: usize = 1024;

/// Appends the record as one line.
pub(super) fn write(
    buffer: &mut Vec<u8>,
    format: Format,
    (clock, time): (&mut TimestampCache, SystemTime),
    record: &log::Record<'_>,
) {
    let event = record.target();
    let event = event.strip_prefix("luat_ota::").unwrap_or(event);
    let mut writer = RecordWriter { buffer, format };
    // Writing to a Vec cannot fail, here and below.
    match format {
        Format::Text => {
            clock.write(writer.buffer, time);
            let level = record.level().as_str();
            let gap = if level.len() < 5 { "  " } else { " " };
            let parts = [" ", level, gap, event];
            parts.into_iter().for_each(|part| writer.plain(part));
            let start = writer.buffer.len();
            writer.buffer.push(b' ');
            writer.escaped(MAX_MESSAGE, |escape| escape.write_fmt(*record.args()));
            if writer.buffer.len() == start + 1 {
                writer.buffer.truncate(start);
            }
        }
        Format::Json => {
            writer.buffer.extend_from_slice(b"{\"time\":\"");
            clock.write(writer.buffer, time);
            let level = match record.level() {
                log::Level::Error => "error",
                log::Level::Warn => "warn",
                log::Level::Info => "info",
                log::Level::Debug => "debug",
                log::Level::Trace => "trace",
            };
            let _ = write!(writer.buffer, "\",\"level\":\"{level}\",\"event\":");
            writer.text(MAX_VALUE, |escape| escape.write_str(event));
            let start = writer.buffer.len();
            writer.buffer.extend_from_slice(b",\"message\":");
            writer.text(MAX_MESSAGE, |escape| escape.write_fmt(*record.args()));
            if writer.buffer.ends_with(b":\"\"") {
                writer.buffer.truncate(start);
            }
        }
    }
    // A value that fails to format truncates its pair; the line is still completed.
    let _ = record.key_values().visit(&mut writer);
    if format == Format::Json {
        writer.buffer.push(b'}');
    }
    writer.buffer.push(b'\n');
}

/// Writes the pairs of a record and their values.
struct RecordWriter<'b> {
    buffer: &'b mut Vec<u8>,
    format: Format,
}

impl RecordWriter<'_> {
    /// Writes a text without quotes. Returns whether the text needs no quotes in the text format.
    fn escaped(&mut self, most: usize, write: impl FnOnce(&mut Escape<'_>) -> fmt::Result) -> bool {
        let mut escape = Escape {
            buffer: self.buffer,
            format: self.format,
            left: most,
            is_bare: true,
        };
        // An error only means that the text was truncated.
        let _ = write(&mut escape);
        escape.is_bare
    }

    /// Writes a text, between quotes if needed.
    fn text(&mut self, most: usize, write: impl FnOnce(&mut Escape<'_>) -> fmt::Result) {
        let start = self.buffer.len();
        let is_bare = self.escaped(most, write) && self.format == Format::Text;
        if !is_bare || self.buffer.len() == start {
            self.buffer.insert(start, b'"');
            self.buffer.push(b'"');
        }
    }

    /// Writes a text without changes.
    fn plain(&mut self, text: &str) {
        self.buffer.extend_from_slice(text.as_bytes());
    }

    fn number(&mut self, value: impl fmt::Display) -> Result<(), Error> {
        let _ = write!(self.buffer, "{value}");
        Ok(())
    }
}

impl<'kvs> VisitSource<'kvs> for RecordWriter<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        match self.format {
            Format::Text => {
                self.buffer.push(b' ');
                self.plain(key.as_str());
                self.buffer.push(b'=');
            }
            Format::Json => {
                self.buffer.push(b',');
                self.text(MAX_VALUE, |escape| escape.write_str(key.as_str()));
                self.buffer.push(b':');
            }
        }
        value.visit(self)
    }
}

impl<'v> VisitValue<'v> for RecordWriter<'_> {
    fn visit_any(&mut self, value: Value<'_>) -> Result<(), Error> {
        self.text(MAX_VALUE, |escape| write!(escape, "{value}"));
        Ok(())
    }

    fn visit_null(&mut self) -> Result<(), Error> {
        self.plain(match self.format {
            Format::Text => "-",
            Format::Json => "null",
        });
        Ok(())
    }

    fn visit_u64(&mut self, value: u64) -> Result<(), Error> {
        self.number(value)
    }

    fn visit_i64(&mut self, value: i64) -> Result<(), Error> {
        self.number(value)
    }

    fn visit_u128(&mut self, value: u128) -> Result<(), Error> {
        self.number(value)
    }

    fn visit_i128(&mut self, value: i128) -> Result<(), Error> {
        self.number(value)
    }

    /// Writes seconds and shares with up to three decimals.
    fn visit_f64(&mut self, value: f64) -> Result<(), Error> {
        if !value.is_finite() {
            return self.visit_null();
        }
        let text = format!("{value:.3}");
        self.plain(text.trim_end_matches('0').trim_end_matches('.'));
        Ok(())
    }

    fn visit_bool(&mut self, value: bool) -> Result<(), Error> {
        self.number(value)
    }

    fn visit_str(&mut self, value: &str) -> Result<(), Error> {
        self.text(MAX_VALUE, |escape| escape.write_str(value));
        Ok(())
    }
}

/// Writes a text so that it stays within its line and within its quotes.
struct Escape<'b> {
    buffer: &'b mut Vec<u8>,
    format: Format,
    /// Number of characters that may still be written.
    left: usize,
    /// Whether the text needs no quotes in the text format.
    is_bare: bool,
}

impl fmt::Write for Escape<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let is_unchanged = |b: u8| matches!(b, b' '..=b'~') && !matches!(b, b'"' | b'\\');
        let is_bare = text
            .bytes()
            .all(|b| is_unchanged(b) && !matches!(b, b' ' | b'='));
        if text.len() <= self.left && (is_bare || text.bytes().all(is_unchanged)) {
            self.left -= text.len();
            self.is_bare &= is_bare;
            self.buffer.extend_from_slice(text.as_bytes());
            return Ok(());
        }
        text.chars().try_for_each(|c| self.write_char(c))
    }

    fn write_char(&mut self, c: char) -> fmt::Result {
        if self.left == 0 {
            // Written once, because the error ends the writing of this value.
            self.buffer.extend_from_slice("…".as_bytes());
            return Err(fmt::Error);
        }
        self.left -= 1;
        self.is_bare &= !matches!(c, ' ' | '=' | '"' | '\\') && !is_deceptive(c);
        // Writing to a Vec cannot fail.
        let _ = match (c, self.format) {
            // A message in the text format has no quotes, but is escaped in the same way.
            ('"' | '\\', _) => write!(self.buffer, "\\{c}"),
            ('\n', _) => write!(self.buffer, "\\n"),
            ('\r', _) => write!(self.buffer, "\\r"),
            ('\t', _) => write!(self.buffer, "\\t"),
            (c, Format::Text) if is_deceptive(c) => {
                write!(self.buffer, "\\u{{{:x}}}", u32::from(c))
            }
            (c, Format::Json) if is_deceptive(c) => {
                write!(self.buffer, "\\u{:04x}", u32::from(c))
            }
            (c, _) => self.buffer.write_all(c.encode_utf8(&mut [0; 4]).as_bytes()),
        };
        Ok(())
    }
}

/// Whether a character would end the line, be interpreted as a command by a terminal, or make a text look like another:
/// control characters, line separators, and characters that are invisible or change the direction. All are below
/// U+10000, so that four digits of JSON's `\u` are enough.
fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

/// A text from a file name or from the network, made safe for a terminal: escaped as in a log line, except quotes and
/// backslashes.
pub struct Printable<'a>(pub &'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return f.write_str(self.0);
        }
        self.0.chars().try_for_each(|c| match is_deceptive(c) {
            true => write!(f, "\\u{{{:x}}}", u32::from(c)),
            false => f.write_char(c),
        })
    }
}

/// Writes times, and caches the text of the last second: the lines of one second begin in the same way.
pub(super) struct TimestampCache {
    second: u64,
    /// Text of that second, up to the dot; empty before the first time.
    text: String,
}

impl TimestampCache {
    pub const fn new() -> TimestampCache {
        TimestampCache {
            second: 0,
            text: String::new(),
        }
    }

    /// Writes a time in UTC as RFC 3339 with milliseconds.
    fn write(&mut self, buffer: &mut Vec<u8>, time: SystemTime) {
        // A clock before 1970 is shown as 1970.
        let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        if self.second != since.as_secs() || self.text.is_empty() {
            self.second = since.as_secs();
            self.text = format!("{}.", Civil::of(self.second));
        }
        buffer.extend_from_slice(self.text.as_bytes());
        let _ = write!(buffer, "{:03}Z", since.subsec_millis());
    }
}

/// A calendar time in UTC, which is shown as RFC 3339 without the zone.
pub(crate) struct Civil {
    year: u64,
    month: u64,
    day: u64,
    second: u64,
}

impl Civil {
    /// Converts days into years, months and days without a loop: if years begin in March, the leap day is the last day,
    /// and 400 years are always 146,097 days.
    pub(crate) fn of(unix: u64) -> Civil {
        let days = (unix / 86_400) + 719_468; // since 0000-03-01
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
            (&mut TimestampCache::new(), UNIX_EPOCH + NOW),
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
    fn times_follow_the_calendar() {
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
        // Far later than any clock, but without overflow.
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
    fn text_of_a_module_cannot_leave_its_value() {
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
        let long = "x".repeat(MAX_VALUE);
        assert_eq!(value(Format::Text, &long), long);
        let cut = value(Format::Text, &format!("{long}y"));
        assert_eq!(cut, format!("{long}…"));
        // A Display that writes in pieces is truncated, too.
        let pieces = format_args!("{long}{long}{long}").to_string();
        assert_eq!(
            value(Format::Json, &pieces),
            format!("\"{}…\"", "x".repeat(MAX_VALUE))
        );
    }

    #[test]
    fn a_path_on_a_terminal_shows_its_control_characters() {
        assert_eq!(
            Printable("a\u{1b}[2J升\n\"").to_string(),
            "a\\u{1b}[2J升\\u{a}\""
        );
    }

    proptest! {
        #[test]
        fn a_json_line_is_always_one_line_of_json(text in any::<String>(), message in any::<String>()) {
            let line = line(Format::Json, &[("x", Value::from(text.as_str()))], &message);
            prop_assert_eq!(line.matches('\n').count(), 1);
            let read: serde_json::Value = serde_json::from_str(&line).unwrap();
            let whole: String = text.chars().take(MAX_VALUE).collect();
            prop_assert!(read["x"].as_str().unwrap().starts_with(&whole));
        }

        #[test]
        fn a_text_line_is_always_one_line(text in any::<String>(), message in any::<String>()) {
            let line = line(Format::Text, &[("x", Value::from(text.as_str()))], &message);
            prop_assert_eq!(line.chars().filter(|c| c.is_control()).count(), 1);
        }
    }
}
