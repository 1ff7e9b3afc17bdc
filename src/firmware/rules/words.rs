//! Descriptions of the values in release.json for people, used in the log at the start, by `luat-ota check` and on the
//! operator page.

use std::fmt;

use super::{FromVersions, FuseLimits, Paused, Stage, Window};
use crate::firmware::audience::DeviceSet;
use crate::logging::Civil;

pub(super) fn paused(_: &str, paused: &Paused) -> Option<String> {
    match paused {
        Paused::No => None,
        Paused::Yes => Some("paused".to_owned()),
        Paused::Because(reason) => Some(format!("paused: {reason}")),
    }
}

pub(super) fn percent(_: &str, percent: &f64) -> Option<String> {
    Some(format!("{percent} percent"))
}

/// Returns, for example, `stages 1, 10, 100 percent`.
pub(super) fn stages(key: &str, stages: &[Stage]) -> Option<String> {
    let percents: Vec<String> = stages
        .iter()
        .map(|stage| stage.percent.to_string())
        .collect();
    Some(format!("{key} {} percent", percents.join(", ")))
}

/// Returns, for example, `allow 14 (@pilot 12, @lab 0)`.
pub(super) fn count(key: &str, devices: &DeviceSet) -> Option<String> {
    let groups = devices.groups();
    let groups: Vec<String> = groups
        .map(|(name, count)| format!("@{name} {count}"))
        .collect();
    let all = devices.len();
    Some(match groups.is_empty() {
        true => format!("{key} {all}"),
        false => format!("{key} {all} ({})", groups.join(", ")),
    })
}

pub(super) fn value(key: &str, value: &impl fmt::Display) -> Option<String> {
    Some(format!("{key} {value}"))
}

pub(super) fn list(key: &str, texts: &[String]) -> Option<String> {
    Some(format!("{key} {}", some_of(texts)))
}

pub(super) fn moment(_: &str, unix: &i64) -> Option<String> {
    let moment = Civil::of(u64::try_from(*unix).unwrap_or(0));
    Some(format!("not before {moment}Z"))
}

pub(super) fn name<T: ?Sized>(key: &str, _: &T) -> Option<String> {
    Some(key.to_owned())
}

pub(super) fn flag(key: &str, flag: &bool) -> Option<String> {
    flag.then(|| key.to_owned())
}

pub(super) fn minutes(key: &str, seconds: &u32) -> Option<String> {
    Some(format!("{key} {} min", seconds.div_ceil(60)))
}

impl fmt::Display for FromVersions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FromVersions::One(version) => write!(f, "{version}"),
            FromVersions::Range(first, last) => write!(f, "{first}-{last}"),
            FromVersions::Texts(texts) => f.write_str(&some_of(texts)),
        }
    }
}

impl fmt::Display for FuseLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} and {} percent", self.devices, self.percent)
    }
}

/// Writes, for example, `01:00-05:00+08:00`.
impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |minutes: u16| format!("{:02}:{:02}", minutes / 60, minutes % 60);
        let sign = if self.offset < 0 { '-' } else { '+' };
        let offset = time(self.offset.unsigned_abs());
        write!(f, "{}-{}{sign}{offset}", time(self.start), time(self.end))
    }
}

/// Returns the first two texts of a list, and the number of the others.
fn some_of(texts: &[String]) -> String {
    match texts {
        [] => "none".to_owned(),
        [one] => one.clone(),
        [one, two] => format!("{one} or {two}"),
        [one, two, more @ ..] => format!("{one}, {two} or {} more", more.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_shown_as_it_is_written() {
        let window = |start, end, offset| Window { start, end, offset }.to_string();
        assert_eq!(window(60, 300, 480), "01:00-05:00+08:00");
        assert_eq!(window(1410, 1440, -210), "23:30-24:00-03:30");
    }
}
