//! Parses dates, times and times of day in release.json.

/// A daily period in minutes after midnight, with its own offset from UTC. May cross midnight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// First minute inside the period, 0..1440.
    pub start: u16,
    /// First minute after the period, 0..=1440.
    pub end: u16,
    /// Offset of the local time from UTC, in minutes.
    pub offset: i16,
}

/// Minutes in a day.
const DAY: u16 = 24 * 60;

impl Window {
    /// Parses `01:00-05:00+08:00` or `22:00-24:00Z`.
    pub(super) fn parse(text: &str) -> Result<Window, String> {
        let window = window(&mut Cursor(text)).ok_or_else(|| {
            format!(
                "`{}` is not a time of day: write it with its offset from UTC, such as `01:00-05:00+08:00` or \
                 `22:00-24:00Z`",
                text.escape_debug()
            )
        })?;
        if window.start == window.end {
            return Err(format!(
                "`{text}` ends when it begins: for the whole day leave the key out"
            ));
        }
        Ok(window)
    }

    /// Whether this time (Unix seconds, UTC) is inside the period.
    pub fn contains(&self, unix: i64) -> bool {
        let local = unix.saturating_add(i64::from(self.offset) * 60);
        let minute = local.rem_euclid(i64::from(DAY) * 60) / 60;
        let (start, end) = (i64::from(self.start), i64::from(self.end));
        if start < end {
            (start..end).contains(&minute)
        } else {
            minute >= start || minute < end
        }
    }
}

/// Parses `2026-12-01T02:00:00+08:00` (RFC 3339) into Unix seconds. A fraction of a second is dropped.
pub(super) fn moment(text: &str) -> Result<i64, String> {
    date_time(&mut Cursor(text)).ok_or_else(|| {
        format!(
            "`{}` is not a date and time: write it with its offset from UTC, such as \
             `2026-12-01T02:00:00+08:00` or `2026-11-30T18:00:00Z`",
            text.escape_debug()
        )
    })
}

/// The rest of a text that is being parsed.
struct Cursor<'t>(&'t str);

impl Cursor<'_> {
    /// Parses a number of exactly `count` digits, at most four.
    fn digits(&mut self, count: usize) -> Option<u16> {
        let (digits, rest) = self.0.split_at_checked(count)?;
        let number = digits.bytes().all(|byte| byte.is_ascii_digit());
        self.0 = rest;
        number.then(|| digits.parse().ok()).flatten()
    }

    /// Parses one of these characters.
    fn one_of(&mut self, characters: &[char]) -> Option<char> {
        let first = self.0.chars().next()?;
        self.0 = self.0.strip_prefix(characters)?;
        Some(first)
    }

    fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

/// Parses `01:00-05:00+08:00`.
fn window(text: &mut Cursor<'_>) -> Option<Window> {
    let start = clock(text).filter(|start| *start < DAY)?;
    text.one_of(&['-'])?;
    let end = clock(text)?;
    let offset = offset(text)?;
    text.end()?;
    Some(Window { start, end, offset })
}

/// Parses `05:30` → 330 minutes; at most `24:00`.
fn clock(text: &mut Cursor<'_>) -> Option<u16> {
    let hour = text.digits(2)?;
    text.one_of(&[':'])?;
    let minute = text.digits(2)?;
    let time = hour * 60 + minute;
    (minute < 60 && time <= DAY).then_some(time)
}

/// Parses `Z` → 0, `+08:00` → 480, `-03:30` → -210 (RFC 3339 section 5.6, time-offset).
fn offset(text: &mut Cursor<'_>) -> Option<i16> {
    let sign = text.one_of(&['Z', 'z', '+', '-'])?;
    if sign.eq_ignore_ascii_case(&'z') {
        return Some(0);
    }
    let minutes = i16::try_from(clock(text).filter(|time| *time < DAY)?).ok()?;
    Some(if sign == '-' { -minutes } else { minutes })
}

/// Parses a date-time of RFC 3339 section 5.6. A leap second (`:60`) is the first second of the next minute.
fn date_time(text: &mut Cursor<'_>) -> Option<i64> {
    let year = text.digits(4)?;
    text.one_of(&['-'])?;
    let month = text.digits(2)?;
    text.one_of(&['-'])?;
    let days = days_to(year, month, text.digits(2)?)?;
    text.one_of(&['T', 't', ' '])?;
    let minutes = clock(text).filter(|time| *time < DAY)?;
    text.one_of(&[':'])?;
    let seconds = text.digits(2).filter(|seconds| *seconds <= 60)?;
    if text.one_of(&['.']).is_some() {
        text.digits(1)?;
        text.0 = text.0.trim_start_matches(|c: char| c.is_ascii_digit());
    }
    let minutes = i64::from(minutes) - i64::from(offset(text)?);
    text.end()?;
    Some(days * 86_400 + minutes * 60 + i64::from(seconds))
}

/// Returns the days from 1970-01-01 to a day of the Gregorian calendar, if the day exists.
fn days_to(year: u16, month: u16, day: u16) -> Option<i64> {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let length = match month {
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=length).contains(&day) {
        return None;
    }
    // Years begin in March here, so that a leap day is the last day of its year. Year 0 began 719,468 days before 1970.
    let (year, month) = match month {
        ..3 => (i64::from(year) - 1, i64::from(month) + 9),
        _ => (i64::from(year), i64::from(month) - 3),
    };
    let leaps = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    Some(year * 365 + leaps + (month * 153 + 2) / 5 + i64::from(day) - 1 - 719_468)
}
