//! `GET /metrics` in the text format of Prometheus (exposition format 0.0.4). No label contains text from a device:
//! projects and versions are those of the folder, and verdicts and results are fixed lists.

use std::fmt::{Display, Write};
use std::sync::atomic::Ordering;

use super::quarantine::quarantined_files;
use super::releases::{all, state};
use crate::firmware::catalog::{Catalog, Project, Release};
use crate::fleet::Fleet;
use crate::fleet::clock::unix_now;
use crate::fleet::notices::NoticeKind;
use crate::fleet::progress::State;
use crate::fleet::shared::SHARED_STATES;
use crate::fleet::tally::{ENDINGS, LOAD_FAILURES, PROTOCOLS, REFUSALS, Tally};
use crate::operator::context::OperatorContext;
use crate::operator::response::Response;
use crate::operator::slice::Slice;

const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Returns all metrics.
pub(super) async fn get(context: &OperatorContext) -> Response {
    let catalog = (context.catalog)();
    let public_side = (context.public_side)();
    let mut text = fleet_metrics(&catalog, &context.fleet.borrow(), public_side.running);
    releases(&mut text, context, &catalog).await;
    text.gauge(
        "ready",
        "1 if /readyz on the port for modules answers 200, otherwise 0.",
    );
    text.sample(&[], u8::from(public_side.is_ready));
    let uptime = i64::try_from(context.start.elapsed().as_secs()).unwrap_or(i64::MAX);
    text.process(
        "process_start_time_seconds",
        "Start time of the process in Unix seconds.",
        unix_now().saturating_sub(uptime),
    );
    if let Some(bytes) = resident_memory() {
        text.process(
            "process_resident_memory_bytes",
            "Resident memory of the process.",
            bytes,
        );
    }
    Response::ok(CONTENT_TYPE, text.text)
}

/// Returns the metrics of the catalogue and the fleet, except those of releases. `running`: number of downloads.
fn fleet_metrics(catalog: &Catalog, fleet: &Fleet, running: usize) -> MetricsText {
    let mut text = MetricsText::default();
    let tally = &fleet.tally;
    text.gauge("build_info", "Version of the server.");
    text.sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    text.counter("checks_total", "Answered checks, by protocol and verdict.");
    for (proto, row) in PROTOCOLS.iter().zip(tally.checks) {
        for (verdict, count) in Tally::VERDICTS.iter().zip(row) {
            text.sample(&[("proto", proto), ("verdict", verdict)], count);
        }
    }
    text.counter("downloads_total", "Ended downloads, by result.");
    for (ending, count) in ENDINGS.iter().zip(tally.downloads) {
        text.sample(&[("result", ending)], count);
    }
    text.counter(
        "download_bytes_total",
        "Bytes of firmware that modules acknowledged.",
    );
    for (proto, bytes) in PROTOCOLS.iter().zip(tally.bytes) {
        text.sample(&[("proto", proto)], bytes);
    }
    text.counter(
        "updates_total",
        "Updates of devices that had a result: confirmed, reverted, or no further check.",
    );
    for (state, count) in fleet.results() {
        text.sample(&[("result", state.word())], count);
    }
    text.counter(
        "http_refusals_total",
        "Replies over HTTP with these statuses, without those to /readyz.",
    );
    for (status, count) in REFUSALS.iter().zip(tally.refusals) {
        text.sample(&[("status", &status.to_string())], count);
    }
    text.counter(
        "snapshot_failures_total",
        "Attempts to load a firmware file that failed, by reason.",
    );
    for (reason, count) in LOAD_FAILURES.iter().zip(tally.snapshots) {
        text.sample(&[("reason", reason)], count);
    }
    text.counter(
        "malformed_requests_total",
        "Malformed request heads and datagrams.",
    );
    text.sample(&[], tally.malformed);
    text.counter(
        "connections_refused_total",
        "Connections of modules refused because a limit was reached.",
    );
    text.sample(&[], tally.turned_away);
    text.counter(
        "repeated_downloads_total",
        "Downloads without an id of a file that the same network downloaded repeatedly within a day.",
    );
    text.sample(&[], tally.repeated);
    text.counter("events_total", "Events of docs/events.md.");
    for (kind, count) in NoticeKind::ALL.iter().zip(tally.notices) {
        text.sample(&[("event", kind.word())], count);
    }
    if let Some(counts) = fleet.events.program_counts() {
        text.counter(
            "events_dropped_total",
            "Events dropped because too many were waiting for the program of --on-event.",
        );
        text.sample(&[], counts.dropped.load(Ordering::Relaxed));
        text.counter(
            "event_program_failures_total",
            "Runs of the program of --on-event that failed.",
        );
        text.sample(&[], counts.failed.load(Ordering::Relaxed));
    }
    text.gauge("running_downloads", "Running downloads.");
    text.sample(&[], running);
    text.gauge(
        "pinned_downloads",
        "Downloads whose content is recorded, so that they can resume.",
    );
    text.sample(&[], fleet.pinned());
    text.gauge("devices", "Devices that are remembered.");
    text.sample(&[], fleet.devices());
    text.gauge("projects", "Projects in the folder.");
    text.sample(&[], catalog.projects().len());
    text.gauge("releases", "Releases in the folder.");
    text.sample(&[], catalog.release_count());
    text.gauge(
        "quarantined_files",
        "Files that are not served because something is wrong with them.",
    );
    text.sample(&[], quarantined_files(catalog));
    text.gauge(
        "waiting_files",
        "Files that are still being written or read.",
    );
    text.sample(&[], catalog.waiting.len());
    text
}

/// Adds the metrics of releases, without zeros, because a folder may have ten thousand releases.
async fn releases(text: &mut MetricsText, context: &OperatorContext, catalog: &Catalog) {
    let mut slice = Slice::begin();
    text.gauge(
        "release_devices",
        "Devices of a release, by state of their update progress.",
    );
    for (project, release) in all(catalog) {
        let (project_name, version) = (&project.name, &release.version_text);
        let counts = context.fleet.borrow().counts(project_name, version);
        for state in State::ALL {
            let count = counts.of(state);
            if count > 0 {
                text.sample(&labels(project, release, state.word()), count);
            }
        }
        slice.pause_if_over().await;
    }
    let peers = context.fleet.borrow().peer_states();
    if let Some(peers) = peers {
        text.gauge(
            "fleet_release_devices",
            "The same for all servers that share outcomes (--fleet).",
        );
        for (project, release) in all(catalog) {
            let (project_name, version) = (&project.name, &release.version_text);
            let counts = context.fleet.borrow().shared_counts(project_name, version);
            let counts = counts.unwrap_or_default();
            for state in SHARED_STATES {
                let count = counts.of(state);
                if count > 0 {
                    text.sample(&labels(project, release, state.word()), count);
                }
            }
            slice.pause_if_over().await;
        }
        text.gauge(
            "fleet_servers",
            "Files of other servers in the folder of --fleet: live, silent or unusable.",
        );
        for (state, count) in [
            ("live", peers.live),
            ("silent", peers.silent),
            ("unusable", peers.unusable),
        ] {
            text.sample(&[("state", state)], count);
        }
    }
    text.gauge(
        "release_paused",
        "Releases that are not offered now: paused, fused or held_back.",
    );
    let now = unix_now();
    for (project, release) in all(catalog) {
        let (state, _) = state(project, release, &context.fleet.borrow(), now);
        if matches!(state, "paused" | "fused" | "held_back") {
            text.sample(&labels(project, release, state), 1);
        }
        slice.pause_if_over().await;
    }
}

fn labels<'a>(
    project: &'a Project,
    release: &'a Release,
    state: &'a str,
) -> [(&'static str, &'a str); 3] {
    [
        ("project", &project.name),
        ("version", &release.version_text),
        ("state", state),
    ]
}

/// Returns the resident memory in bytes, if there is a /proc.
fn resident_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let mut lines = status.lines();
    let line = lines.find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// Writer of metrics as text. Writing to a String cannot fail.
#[derive(Default)]
struct MetricsText {
    text: String,
    /// The current metric.
    name: &'static str,
}

impl MetricsText {
    /// Begins a counter.
    fn counter(&mut self, name: &'static str, help: &str) {
        self.begin(name, "counter", help);
    }

    /// Begins a gauge.
    fn gauge(&mut self, name: &'static str, help: &str) {
        self.begin(name, "gauge", help);
    }

    fn begin(&mut self, name: &'static str, kind: &str, help: &str) {
        self.name = name;
        let _ = writeln!(
            self.text,
            "# HELP luat_ota_{name} {help}\n# TYPE luat_ota_{name} {kind}"
        );
    }

    /// Adds a sample of the current metric.
    fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        let labels = labels.iter();
        let labels = labels.map(|(label, text)| format!("{label}=\"{}\"", escaped(text)));
        let labels: Vec<String> = labels.collect();
        let name = self.name;
        let _ = match labels.is_empty() {
            true => writeln!(self.text, "luat_ota_{name} {value}"),
            false => writeln!(self.text, "luat_ota_{name}{{{}}} {value}", labels.join(",")),
        };
    }

    /// Adds a gauge of the process, without the prefix of this program.
    fn process(&mut self, name: &str, help: &str, value: impl Display) {
        let _ = writeln!(
            self.text,
            "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}"
        );
    }
}

/// Escapes the value of a label.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('"', "\\\"");
    text.replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::FleetSettings;
    use std::time::Instant;

    #[test]
    fn counters_have_their_labels_and_nothing_else() {
        let mut fleet = Fleet::new(FleetSettings::default(), Instant::now());
        fleet.tally.check("udp", "offer", 0);
        fleet.tally.download("http", "complete", 7, 0);
        let MetricsText { text, .. } = fleet_metrics(&Catalog::default(), &fleet, 0);
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
        assert_eq!(escaped("a\"b\\c\nd水"), "a\\\"b\\\\c\\nd水");
    }

    #[test]
    fn the_memory_of_this_process_is_known() {
        assert!(resident_memory().unwrap() > 100_000);
    }
}
