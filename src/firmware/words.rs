//! A release's rules in words for people: in the lines at the start, in `luat-ota check`, and on the
//! operator's page.

use crate::firmware::catalog::Release;
use crate::firmware::rules::{From, Paused, Window};
use crate::logging::Civil;

/// The modules that a release has packages for.
pub fn whom(release: &Release) -> String {
    let mut platforms: Vec<&str> = Vec::new();
    let mut everyone = false;
    for package in &release.packages {
        match package.platform.as_deref() {
            Some(platform) if !platforms.contains(&platform) => platforms.push(platform),
            Some(_) => {}
            None => everyone = true,
        }
    }
    match everyone || platforms.is_empty() {
        true => "every module of the project".to_owned(),
        false => format!("modules on {}", platforms.join(", ")),
    }
}

/// The rules of a release, in a few words each.
pub fn rules(release: &Release) -> Vec<String> {
    let mut words = Vec::new();
    if let Some(reason) = &release.held_back {
        words.push(format!("held back: {reason}"));
    }
    let rules = &release.rules;
    match &rules.paused {
        Some(Paused::Yes) => words.push("paused".to_owned()),
        Some(Paused::Because(reason)) => words.push(format!("paused: {reason}")),
        Some(Paused::No) | None => {}
    }
    if let Some(percent) = rules.percent {
        words.push(format!("{percent} percent"));
    }
    if let Some(allow) = &rules.allow {
        words.push(format!("allow {}", allow.len()));
    }
    if let Some(deny) = &rules.deny {
        words.push(format!("deny {}", deny.len()));
    }
    match &rules.from {
        Some(From::One(version)) => words.push(format!("from {version}")),
        Some(From::Range(first, last)) => words.push(format!("from {first}-{last}")),
        Some(From::Texts(texts)) => words.push(format!("from {}", some_of(texts))),
        None => {}
    }
    if let Some(names) = &rules.firmware_name {
        words.push(format!("firmware_name {}", some_of(names)));
    }
    if let Some(core) = rules.base_core {
        words.push(format!("base_core {core}"));
    }
    if let Some(moment) = rules.not_before {
        let moment = Civil::of(u64::try_from(moment).unwrap_or(0));
        words.push(format!("not before {moment}Z"));
    }
    if let Some(window) = &rules.window {
        words.push(format!("window {}", daily(window)));
    }
    for (there, name) in [
        (rules.project_key.is_some(), "project_key"),
        (rules.redirect.is_some(), "redirect"),
        (rules.direct == Some(true), "direct"),
        (rules.allow_downgrade == Some(true), "allow_downgrade"),
        (rules.any_version == Some(true), "any_version"),
        (rules.any_core == Some(true), "any_core"),
    ] {
        if there {
            words.push(name.to_owned());
        }
    }
    if let Some(fuse) = &rules.fuse {
        words.push(format!(
            "fuse {} and {} percent",
            fuse.devices, fuse.percent
        ));
    }
    if let Some(seconds) = rules.reboot_within {
        words.push(format!("reboot_within {} min", seconds.div_ceil(60)));
    }
    words
}

/// The first two of a list.
fn some_of(texts: &[String]) -> String {
    match texts {
        [] => "none".to_owned(),
        [one] => one.clone(),
        [one, two] => format!("{one} or {two}"),
        [one, two, more @ ..] => format!("{one}, {two} or {} more", more.len()),
    }
}

/// `01:00-05:00+08:00`
pub fn daily(window: &Window) -> String {
    let time = |minutes: u16| format!("{:02}:{:02}", minutes / 60, minutes % 60);
    let sign = if window.offset < 0 { '-' } else { '+' };
    format!(
        "{}-{}{sign}{}",
        time(window.start),
        time(window.end),
        time(window.offset.unsigned_abs())
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_shown_as_it_is_written() {
        let window = |start, end, offset| daily(&Window { start, end, offset });
        assert_eq!(window(60, 300, 480), "01:00-05:00+08:00");
        assert_eq!(window(1410, 1440, -210), "23:30-24:00-03:30");
    }
}
