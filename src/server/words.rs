//! What there is, in words for people: in the lines at the start and in `luat-ota check`.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use crate::firmware::catalog::Release;
use crate::firmware::rules::{From, Paused, Window};
use crate::logging::Civil;

/// The rules of a release, in a few words each; `-` where there are none.
pub fn rules(release: &Release) -> String {
    let mut words = Words::default();
    if let Some(reason) = &release.held_back {
        words.add(format_args!("held back: {reason}"));
    }
    let rules = &release.rules;
    match &rules.paused {
        Some(Paused::Yes) => words.add(format_args!("paused")),
        Some(Paused::Because(reason)) => words.add(format_args!("paused: {reason}")),
        Some(Paused::No) | None => {}
    }
    if let Some(percent) = rules.percent {
        words.add(format_args!("{percent} percent"));
    }
    if let Some(allow) = &rules.allow {
        words.add(format_args!("allow {}", allow.len()));
    }
    if let Some(deny) = &rules.deny {
        words.add(format_args!("deny {}", deny.len()));
    }
    match &rules.from {
        Some(From::One(version)) => words.add(format_args!("from {version}")),
        Some(From::Range(first, last)) => words.add(format_args!("from {first}-{last}")),
        Some(From::Texts(texts)) => words.add(format_args!("from {}", some_of(texts))),
        None => {}
    }
    if let Some(names) = &rules.firmware_name {
        words.add(format_args!("firmware_name {}", some_of(names)));
    }
    if let Some(core) = rules.base_core {
        words.add(format_args!("base_core {core}"));
    }
    if let Some(moment) = rules.not_before {
        let moment = Civil::of(u64::try_from(moment).unwrap_or(0));
        words.add(format_args!("not before {moment}Z"));
    }
    if let Some(window) = &rules.window {
        words.add(format_args!("window {}", daily(window)));
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
            words.add(format_args!("{name}"));
        }
    }
    if let Some(fuse) = &rules.fuse {
        words.add(format_args!(
            "fuse {} and {} percent",
            fuse.devices, fuse.percent
        ));
    }
    match words.0.is_empty() {
        true => "-".to_owned(),
        false => words.0,
    }
}

/// The modules that a release is for.
pub(super) fn audience(release: &Release) -> String {
    let mut platforms: Vec<&str> = Vec::new();
    let mut everyone = false;
    for package in &release.packages {
        match package.platform.as_deref() {
            Some(platform) if !platforms.contains(&platform) => platforms.push(platform),
            Some(_) => {}
            None => everyone = true,
        }
    }
    let whom = match everyone || platforms.is_empty() {
        true => "every module of the project".to_owned(),
        false => format!("modules on {}", platforms.join(", ")),
    };
    match rules(release).as_str() {
        "-" => whom,
        rules => format!("{whom}; {rules}"),
    }
}

/// Texts between commas.
#[derive(Default)]
struct Words(String);

impl Words {
    fn add(&mut self, words: std::fmt::Arguments<'_>) {
        if !self.0.is_empty() {
            self.0.push_str(", ");
        }
        // Writing to a String cannot fail.
        let _ = self.0.write_fmt(words);
    }
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
fn daily(window: &Window) -> String {
    let time = |minutes: u16| format!("{:02}:{:02}", minutes / 60, minutes % 60);
    let sign = if window.offset < 0 { '-' } else { '+' };
    format!(
        "{}-{}{sign}{}",
        time(window.start),
        time(window.end),
        time(window.offset.unsigned_abs())
    )
}

/// Where a listener can be reached from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    ThisMachine,
    ThisNetwork,
    World,
}

fn reach(address: IpAddr) -> Reach {
    match address.to_canonical() {
        address if address.is_loopback() => Reach::ThisMachine,
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            // 100.64.0.0/10 lies behind a carrier's NAT.
            let carrier = a == 100 && (64..128).contains(&b);
            match v4.is_private() || v4.is_link_local() || carrier {
                true => Reach::ThisNetwork,
                false => Reach::World,
            }
        }
        IpAddr::V6(v6) => match v6.is_unique_local() || v6.is_unicast_link_local() {
            true => Reach::ThisNetwork,
            false => Reach::World,
        },
    }
}

/// A sentence, if no cellular module can reach any of these listeners as they are. `own`: this
/// machine's addresses, for the listeners on all of them.
pub(super) fn out_of_reach(listeners: &[SocketAddr], own: &[IpAddr]) -> Option<String> {
    let mut best: Option<(Reach, SocketAddr)> = None;
    for listener in listeners {
        let wildcard = listener.ip().to_canonical().is_unspecified();
        // 0.0.0.0 is not reached over IPv6.
        let fits = |address: &&IpAddr| listener.is_ipv6() || address.is_ipv4();
        let at = match wildcard {
            true => own.iter().filter(fits).copied().max_by_key(|ip| reach(*ip)),
            false => Some(listener.ip()),
        };
        let (reach, ip) = match at {
            Some(ip) => (reach(ip), ip),
            None => (Reach::ThisMachine, listener.ip()),
        };
        if best.is_none_or(|(known, _)| reach > known) {
            best = Some((reach, SocketAddr::new(ip, listener.port())));
        }
    }
    match best? {
        (Reach::World, _) => None,
        (Reach::ThisNetwork, at) => Some(format!(
            "a cellular module cannot reach {at}: it needs a public address or a port forwarded from \
             one"
        )),
        (Reach::ThisMachine, at) => Some(format!(
            "a cellular module cannot reach {at}, nor can any other machine: it needs a public \
             address or a port forwarded from one"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sentence(listeners: &[&str], own: &[&str]) -> String {
        let listeners: Vec<SocketAddr> = listeners.iter().map(|a| a.parse().unwrap()).collect();
        let own: Vec<IpAddr> = own.iter().map(|a| a.parse().unwrap()).collect();
        out_of_reach(&listeners, &own).unwrap_or_default()
    }

    #[test]
    fn a_listener_that_modules_cannot_reach_is_warned_of() {
        for (listeners, own, place) in [
            (
                &["127.0.0.1:8080"][..],
                &["8.8.8.8"][..],
                "127.0.0.1:8080, nor",
            ),
            (&["[::1]:8080"], &["8.8.8.8"], "[::1]:8080, nor"),
            (&["192.168.1.2:8080"], &[], "192.168.1.2:8080:"),
            (&["[::]:8080"], &["192.168.1.2"], "192.168.1.2:8080:"),
            (&["[::]:8080"], &["172.17.0.2", "fe80::1"], "fe80::1]:8080:"),
            (
                &["0.0.0.0:8080"],
                &["10.0.0.1", "2a00::1"],
                "10.0.0.1:8080:",
            ),
            (&["0.0.0.0:8080"], &[], "0.0.0.0:8080, nor"),
            (&["100.64.0.1:80"], &[], "100.64.0.1:80:"),
            (&["[fd00::1]:80", "127.0.0.1:80"], &[], "[fd00::1]:80:"),
        ] {
            let sentence = sentence(listeners, own);
            assert!(
                sentence.contains(place),
                "{listeners:?} {own:?}: {sentence}"
            );
        }
    }

    #[test]
    fn a_listener_that_modules_can_reach_is_not() {
        for (listeners, own) in [
            (&["[::]:8080"][..], &["192.168.1.2", "8.8.8.8"][..]),
            (&["[::]:8080"], &["2a00::1"]),
            (&["0.0.0.0:8080"], &["8.8.8.8"]),
            (&["8.8.8.8:8080", "127.0.0.1:80"], &[]),
            (&[], &[]),
        ] {
            assert_eq!(sentence(listeners, own), "", "{listeners:?} {own:?}");
        }
    }

    #[test]
    fn a_window_is_shown_as_it_is_written() {
        let window = |start, end, offset| daily(&Window { start, end, offset });
        assert_eq!(window(60, 300, 480), "01:00-05:00+08:00");
        assert_eq!(window(1410, 1440, -210), "23:30-24:00-03:30");
    }
}
