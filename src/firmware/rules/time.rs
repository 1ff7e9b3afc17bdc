//! Moments and times of day in release.json (nom).

use nom::branch::alt;
use nom::bytes::complete::take_while_m_n;
use nom::character::complete::{char, digit1, one_of};
use nom::combinator::{all_consuming, map, map_opt, opt, value};
use nom::sequence::{preceded, separated_pair};
use nom::{IResult, Parser};

/// A daily window of time, minutes after midnight in its own offset from UTC. May cross midnight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// First minute inside, 0..1440.
    pub start: u16,
    /// First minute outside, 0..=1440.
    pub end: u16,
    /// Offset of the local time from UTC, in minutes.
    pub offset: i16,
}

/// Minutes in a day.
const DAY: u16 = 24 * 60;

impl Window {
    /// Reads `01:00-05:00+08:00` or `22:00-24:00Z`.
    pub(super) fn parse(text: &str) -> Result<Window, String> {
        let (_, window) = all_consuming(window).parse(text).map_err(|_| {
            format!(
                "`{}` is no time of day: write it with its offset from UTC, such as `01:00-05:00+08:00` or \
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

    /// Is this moment (Unix seconds, UTC) inside?
    pub fn contains(&self, unix: i64) -> bool {
        let local = unix.saturating_add(i64::from(self.offset).saturating_mul(60));
        let minute = local.rem_euclid(i64::from(DAY) * 60).div_euclid(60);
        let (start, end) = (i64::from(self.start), i64::from(self.end));
        if start < end {
            (start..end).contains(&minute)
        } else {
            minute >= start || minute < end
        }
    }
}

/// `2026-12-01T02:00:00+08:00` (RFC 3339) → Unix seconds; a fraction of a second is dropped.
pub(super) fn moment(text: &str) -> Result<i64, String> {
    all_consuming(date_time)
        .parse(text)
        .map(|(_, unix)| unix)
        .map_err(|_| {
            format!(
                "`{}` is no date and time: write it with its offset from UTC, such as \
                 `2026-12-01T02:00:00+08:00` or `2026-11-30T18:00:00Z`",
                text.escape_debug()
            )
        })
}

/// `01:00-05:00+08:00`
fn window(input: &str) -> IResult<&str, Window> {
    let start = (clock, char('-'), clock, offset);
    map_opt(start, |(start, _, end, offset)| {
        (start < DAY).then_some(Window { start, end, offset })
    })
    .parse(input)
}

/// `05:30` → 330 minutes; up to `24:00`.
fn clock(input: &str) -> IResult<&str, u16> {
    map_opt(
        separated_pair(two_digits, char(':'), two_digits),
        |(hour, minute)| {
            let time = hour * 60 + minute;
            (minute < 60 && time <= DAY).then_some(time)
        },
    )
    .parse(input)
}

/// `Z` → 0, `+08:00` → 480, `-03:30` → -210 (RFC 3339 section 5.6, time-offset).
fn offset(input: &str) -> IResult<&str, i16> {
    let minutes = map_opt(clock, |time| {
        i16::try_from(time).ok().filter(|_| time < DAY)
    });
    alt((
        value(0, one_of("Zz")),
        map((one_of("+-"), minutes), |(sign, minutes)| {
            if sign == '-' { -minutes } else { minutes }
        }),
    ))
    .parse(input)
}

/// RFC 3339 section 5.6, date-time.
fn date_time(input: &str) -> IResult<&str, i64> {
    let parts = (date, one_of("Tt "), time, offset);
    map(parts, |(days, _, seconds, offset)| {
        days * 86_400 + seconds - i64::from(offset) * 60
    })
    .parse(input)
}

/// `2026-12-01` → days since 1970-01-01.
fn date(input: &str) -> IResult<&str, i64> {
    let parts = (
        four_digits,
        preceded(char('-'), two_digits),
        preceded(char('-'), two_digits),
    );
    map_opt(parts, |(year, month, day)| days_to(year, month, day)).parse(input)
}

/// `02:00:00.5` → seconds after midnight; a leap second (`:60`) is the next minute's first.
fn time(input: &str) -> IResult<&str, i64> {
    let fraction = opt(preceded(char('.'), digit1));
    let parts = (clock, preceded(char(':'), two_digits), fraction);
    map_opt(parts, |(minutes, seconds, _)| {
        (minutes < DAY && seconds <= 60).then(|| i64::from(minutes) * 60 + i64::from(seconds))
    })
    .parse(input)
}

/// `07` → 7
fn two_digits(input: &str) -> IResult<&str, u16> {
    digits(2, input)
}

/// `2026` → 2026
fn four_digits(input: &str) -> IResult<&str, u16> {
    digits(4, input)
}

/// Exactly so many digits; at most four.
fn digits(count: usize, input: &str) -> IResult<&str, u16> {
    map_opt(
        take_while_m_n(count, count, |c: char| c.is_ascii_digit()),
        |text: &str| text.parse().ok(),
    )
    .parse(input)
}

/// Days from 1970-01-01 to a day of the Gregorian calendar, if there is such a day.
fn days_to(year: u16, month: u16, day: u16) -> Option<i64> {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let lengths: [u16; 12] = [
        31,
        if leap { 29 } else { 28 },
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ];
    let index = usize::from(month.checked_sub(1)?);
    let (before, this) = lengths.split_at_checked(index)?;
    if !(1..=*this.first()?).contains(&day) {
        return None;
    }
    // Leap days before this year, counted from the year 0, which was one.
    let past = i64::from(year) - 1;
    let leaps = past.div_euclid(4) - past.div_euclid(100) + past.div_euclid(400) + 1;
    let of_year: u16 = before.iter().sum::<u16>() + day - 1;
    // 1970-01-01 is day 719,528 from 0000-01-01.
    Some(i64::from(year) * 365 + leaps + i64::from(of_year) - 719_528)
}
