//! `/metrics` in Prometheus's text form (exposition format 0.0.4).
//!
//! The surprise: no label ever holds what a module says. Projects and versions are those of the folder;
//! verdicts and results are lists in the code.

use std::fmt::{self, Display, Write};
use std::time::Instant;

use crate::firmware::catalog::Catalog;
use crate::fleet::Fleet;
use crate::fleet::journey::State;
use crate::fleet::tally::{ENDINGS, PROTOCOLS, Tally};

use super::api::{quarantined_files, state_of};
use super::unix_now;

/// Content-Type.
pub const KIND: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Numbers that neither the catalogue nor the fleet has.
#[derive(Clone, Copy, Debug, Default)]
pub struct Numbers {
    /// Downloads that run.
    pub running: usize,
    /// When the process began.
    pub began: Option<Instant>,
    /// Resident memory, bytes.
    pub resident: Option<u64>,
}

/// All metrics.
pub fn text(catalog: &Catalog, fleet: &Fleet, numbers: Numbers) -> String {
    let mut page = Page(String::new());
    let tally = &fleet.tally;
    page.family("build_info", "gauge", "What runs.");
    page.sample("build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    checks(&mut page, tally);
    page.family(
        "downloads_total",
        "counter",
        "Downloads that ended, by how.",
    );
    for (ending, count) in ENDINGS.iter().zip(tally.downloads) {
        page.sample("downloads_total", &[("result", ending)], count);
    }
    page.family(
        "download_bytes_total",
        "counter",
        "Bytes of firmware that modules acknowledged.",
    );
    for (proto, bytes) in PROTOCOLS.iter().zip(tally.bytes) {
        page.sample("download_bytes_total", &[("proto", proto)], bytes);
    }
    for (name, kind, help, value) in [
        (
            "malformed_requests_total",
            "counter",
            "Heads and datagrams that were no request.",
            tally.malformed,
        ),
        (
            "connections_refused_total",
            "counter",
            "Connections of modules for which there was no room.",
            tally.turned_away,
        ),
        (
            "repeated_downloads_total",
            "counter",
            "Downloads without an id of a file that the same network took again and again within a day.",
            tally.repeated,
        ),
        (
            "running_downloads",
            "gauge",
            "Downloads that run now.",
            number(numbers.running),
        ),
        (
            "pinned_downloads",
            "gauge",
            "Downloads that are remembered with what they began with.",
            number(fleet.pinned()),
        ),
        (
            "devices",
            "gauge",
            "Devices that are remembered.",
            number(fleet.devices()),
        ),
        (
            "projects",
            "gauge",
            "Projects in the folder.",
            number(catalog.projects().len()),
        ),
        (
            "releases",
            "gauge",
            "Releases in the folder.",
            number(catalog.release_count()),
        ),
        (
            "quarantined_files",
            "gauge",
            "Files that are not served because something is wrong with them.",
            number(quarantined_files(catalog)),
        ),
        (
            "waiting_files",
            "gauge",
            "Files that are still being written or read.",
            number(catalog.waiting.len()),
        ),
    ] {
        page.family(name, kind, help);
        page.sample(name, &[], value);
    }
    releases(&mut page, catalog, fleet);
    process(&mut page, numbers);
    page.0
}

fn checks(page: &mut Page, tally: &Tally) {
    page.family(
        "checks_total",
        "counter",
        "Checks that were answered, by how.",
    );
    for (proto, row) in PROTOCOLS.iter().zip(tally.checks) {
        for (verdict, count) in Tally::VERDICTS.iter().zip(row) {
            page.sample(
                "checks_total",
                &[("proto", proto), ("verdict", verdict)],
                count,
            );
        }
    }
}

/// Only what is not zero: a folder may have ten thousand releases.
fn releases(page: &mut Page, catalog: &Catalog, fleet: &Fleet) {
    page.family(
        "release_devices",
        "gauge",
        "Devices on their way to a release, by where they stand.",
    );
    let all = || {
        catalog.projects().iter().flat_map(|project| {
            project
                .releases
                .iter()
                .map(move |release| (project, release))
        })
    };
    for (project, release) in all() {
        let counts = fleet.counts(&project.name, &release.version_text);
        for state in State::ALL {
            let count = counts.of(state);
            if count > 0 {
                let labels = [
                    ("project", &*project.name),
                    ("version", &*release.version_text),
                    ("state", state.word()),
                ];
                page.sample("release_devices", &labels, count);
            }
        }
    }
    page.family(
        "release_paused",
        "gauge",
        "Releases that nobody gets now: paused, fused or held_back.",
    );
    let now = unix_now();
    for (project, release) in all() {
        let (state, _) = state_of(project, release, fleet.fused(), now);
        if matches!(state, "paused" | "fused" | "held_back") {
            let labels = [
                ("project", &*project.name),
                ("version", &*release.version_text),
                ("state", state),
            ];
            page.sample("release_paused", &labels, 1);
        }
    }
}

fn process(page: &mut Page, numbers: Numbers) {
    if let Some(began) = numbers.began {
        let seconds = i64::try_from(began.elapsed().as_secs()).unwrap_or(i64::MAX);
        let start = unix_now().saturating_sub(seconds);
        page.bare(
            "process_start_time_seconds",
            "When the process began, Unix seconds.",
            start,
        );
    }
    if let Some(bytes) = numbers.resident {
        page.bare(
            "process_resident_memory_bytes",
            "Memory that the process holds.",
            bytes,
        );
    }
}

/// Resident memory in bytes, where there is a /proc.
pub fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// The text so far. Writing to a String cannot fail.
struct Page(String);

impl Page {
    /// What a metric is, before its samples.
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(
            self.0,
            "# HELP luat_ota_{name} {help}\n# TYPE luat_ota_{name} {kind}"
        );
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let _ = write!(self.0, "luat_ota_{name}");
        for (at, (label, text)) in labels.iter().enumerate() {
            let before = if at == 0 { '{' } else { ',' };
            let _ = write!(self.0, "{before}{label}=\"{}\"", Label(text));
        }
        let after = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{after} {value}");
    }

    /// A gauge with a name of its own.
    fn bare(&mut self, name: &str, help: &str, value: impl Display) {
        let _ = writeln!(
            self.0,
            "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}"
        );
    }
}

/// A label's value: backslash, quote and line feed are escaped.
struct Label<'t>(&'t str);

impl Display for Label<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in self.0.chars() {
            match letter {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                letter => f.write_char(letter)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::Settings;

    #[test]
    fn counters_have_their_labels_and_nothing_else() {
        let mut fleet = Fleet::new(Settings::default(), Instant::now());
        fleet.tally.check("udp", "offer", 0);
        fleet.tally.download("http", "complete", 7, 0);
        let text = text(&Catalog::default(), &fleet, Numbers::default());
        for line in [
            "luat_ota_checks_total{proto=\"udp\",verdict=\"offer\"} 1\n",
            "luat_ota_downloads_total{result=\"complete\"} 1\n",
            "luat_ota_download_bytes_total{proto=\"http\"} 7\n",
            "# TYPE luat_ota_checks_total counter\n",
            "luat_ota_devices 0\n",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn a_label_is_escaped() {
        assert_eq!(Label("a\"b\\c\nd水").to_string(), "a\\\"b\\\\c\\nd水");
    }

    #[test]
    fn the_memory_of_this_process_is_known() {
        assert!(resident().unwrap() > 100_000);
    }
}
