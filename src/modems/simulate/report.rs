//! Counters of a simulation, and their report.

use super::{FinalState, Options};
use crate::modems::driver::{Exchange, Played};
use crate::modems::generations::Client;
use crate::modems::{Failure, diagnose};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::time::Duration;

/// Maximum number of causes of failure that are counted separately.
const CAUSES: usize = 12;

/// Counters that grow while the fleet runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Modules that ended with the new version.
    pub updated: u32,
    /// Modules that were updated, failed with the new firmware and fell back.
    pub fell_back: u32,
    /// Modules that were refused.
    pub refused: u32,
    /// Modules that ended with a failure, without a file.
    pub failed: u32,
    /// Modules that have the new version, and were sent it again.
    pub looping: u32,
    /// Attempts, with any outcome.
    pub attempts: u32,
    /// Attempts that ended with a new firmware.
    pub updates: u32,
    /// Attempts that failed.
    pub failures: u32,
    /// Links that were cut as the options demand.
    pub cut: u32,
    /// Bytes received.
    pub received: u64,
    /// Bytes of files that were received but are finally in no module.
    pub wasted: u64,
    /// Replies with a status of 500 and above.
    pub server_errors: u32,
    /// Images with wrong content.
    pub corrupt: u32,
    /// Attempts that had to wait for memory or open files of this machine.
    pub held_back: u32,
}

impl Counts {
    /// Returns the number of modules that have finished.
    pub fn finished(&self) -> u32 {
        self.updated
            .saturating_add(self.fell_back)
            .saturating_add(self.refused)
            .saturating_add(self.failed)
            .saturating_add(self.looping)
    }
}

#[derive(Debug, Default)]
pub(super) struct Tally {
    pub counts: Counts,
    /// Times of the updates, on the fleet's clock.
    pub times: Vec<Duration>,
    causes: BTreeMap<String, u32>,
}

impl Tally {
    pub fn count_state(&mut self, state: FinalState) {
        let counts = &mut self.counts;
        let count = match state {
            FinalState::Updated => &mut counts.updated,
            FinalState::FellBack => &mut counts.fell_back,
            FinalState::Refused => &mut counts.refused,
            FinalState::Failed => &mut counts.failed,
            FinalState::Loops => &mut counts.looping,
        };
        *count = count.saturating_add(1);
    }

    pub fn count(&mut self, played: &Played) {
        let counts = &mut self.counts;
        counts.attempts = counts.attempts.saturating_add(1);
        counts.received = counts.received.saturating_add(played.received);
        counts.server_errors = counts.server_errors.saturating_add(played.server_errors);
        counts.cut = counts.cut.saturating_add(u32::from(played.was_cut));
    }

    pub fn count_held_back(&mut self) {
        self.counts.held_back = self.counts.held_back.saturating_add(1);
    }

    pub fn add_wasted(&mut self, bytes: u64) {
        self.counts.wasted = self.counts.wasted.saturating_add(bytes);
    }

    pub fn fail(&mut self, client: Client, failure: &Failure, flashed: bool) {
        self.counts.failures = self.counts.failures.saturating_add(1);
        // Numbers differ from module to module. The rest of the sentence is the cause.
        let words = match failure {
            Failure::FlashedGarbage(..) if !flashed => {
                "takes a cut file for the whole file; its package check rejects it".to_owned()
            }
            _ => without_numbers(&diagnose::describe(failure)),
        };
        let family = client.slug();
        let family = family.split("-core-").next().unwrap_or_default();
        let cause = format!("{family}: {words}");
        if self.causes.len() < CAUSES || self.causes.contains_key(&cause) {
            let count = self.causes.entry(cause).or_default();
            *count = count.saturating_add(1);
        }
    }
}

/// Returns the text with N instead of every number.
fn without_numbers(text: &str) -> String {
    let mut out = String::new();
    let mut in_number = false;
    for sign in text.chars() {
        let digit = sign.is_ascii_digit();
        if digit && !in_number {
            out.push('N');
        } else if !digit {
            out.push(sign);
        }
        in_number = digit;
    }
    out
}

/// Received images: those with the same ETag must be equal.
#[derive(Debug)]
pub(super) struct Images {
    expect: Option<Vec<u8>>,
    /// Size and SHA-256 by ETag; all images over UDP have the empty ETag.
    known: HashMap<String, (usize, [u8; 32])>,
    pub size_known: bool,
}

impl Images {
    pub fn new(expect: Option<Vec<u8>>) -> Images {
        Images {
            expect,
            known: HashMap::new(),
            size_known: false,
        }
    }

    /// Whether the content of this image is right.
    pub fn is_correct(&mut self, played: &Played, bytes: &[u8]) -> bool {
        if let Some(expected) = &self.expect {
            return expected == bytes;
        }
        let name = played.exchanges.last().and_then(etag).unwrap_or_default();
        let this = (bytes.len(), Sha256::digest(bytes).into());
        *self.known.entry(name).or_insert(this) == this
    }
}

fn etag(exchange: &Exchange) -> Option<String> {
    let (head, _) = exchange.http()?;
    let head = std::str::from_utf8(head).ok()?;
    head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("etag")
            .then(|| value.trim().to_owned())
    })
}

/// Result of a simulation.
#[derive(Clone, Debug)]
pub struct Report {
    /// Number of modules.
    pub devices: u32,
    /// Counters.
    pub counts: Counts,
    /// Times until half, 95 % and all of the updated modules were updated, on the fleet's clock.
    pub times: Option<[Duration; 3]>,
    /// Duration on the fleet's clock and on the wall clock.
    pub durations: (Duration, Duration),
    /// Causes of failures, and how often each occurred.
    pub causes: Vec<(String, u32)>,
    seed: u64,
}

impl Report {
    pub(super) fn new(options: &Options, mut tally: Tally, elapsed: Duration) -> Report {
        tally.times.sort_unstable();
        let count = tally.times.len();
        let at = |percent: usize| {
            let rank = count
                .saturating_mul(percent)
                .div_ceil(100)
                .saturating_sub(1);
            tally.times.get(rank).copied()
        };
        let times = match (at(50), at(95), at(100)) {
            (Some(half), Some(most), Some(all)) => Some([half, most, all]),
            _ => None,
        };
        let mut causes: Vec<(String, u32)> = tally.causes.into_iter().collect();
        causes.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        Report {
            devices: options.devices,
            counts: tally.counts,
            times,
            durations: (elapsed.saturating_mul(options.speed.max(1)), elapsed),
            causes,
            seed: options.seed,
        }
    }

    fn unfinished(&self) -> u32 {
        self.devices.saturating_sub(self.counts.finished())
    }

    /// Whether the result is good: no corrupt image, no server error, and no module that failed,
    /// loops or is unfinished.
    pub fn is_good(&self) -> bool {
        let counts = &self.counts;
        counts.corrupt == 0
            && counts.server_errors == 0
            && counts.failed == 0
            && counts.looping == 0
            && self.unfinished() == 0
    }

    /// Returns the report as text for people.
    pub fn text(&self) -> String {
        let counts = &self.counts;
        let mut out = String::new();
        let mut line = |name: &str, value: String| {
            let _ = writeln!(out, "{name:16}{value}");
        };
        line("devices", format!("{} (seed {})", self.devices, self.seed));
        line("updated", counts.updated.to_string());
        line("refused", counts.refused.to_string());
        line("failed", counts.failed.to_string());
        for (name, count) in [
            ("fell back", counts.fell_back),
            ("update again", counts.looping),
            ("unfinished", self.unfinished()),
            ("links cut", counts.cut),
            ("held back", counts.held_back),
        ] {
            if count > 0 {
                line(name, count.to_string());
            }
        }
        line(
            "attempts",
            format!(
                "{}, of which {} updated and {} failed",
                counts.attempts, counts.updates, counts.failures
            ),
        );
        let seconds = |span: Duration| format!("{:.1} s", span.as_secs_f64());
        if let Some([half, most, all]) = self.times {
            line(
                "time",
                format!(
                    "50 % {}, 95 % {}, 100 % {}",
                    seconds(half),
                    seconds(most),
                    seconds(all)
                ),
            );
        }
        let (fleet, wall) = self.durations;
        line(
            "took",
            match fleet == wall {
                true => seconds(wall),
                false => format!(
                    "{} simulated, {} in real time",
                    seconds(fleet),
                    seconds(wall)
                ),
            },
        );
        line(
            "bytes",
            format!(
                "{} received, {} wasted",
                bytes(counts.received),
                bytes(counts.wasted)
            ),
        );
        line("server errors", counts.server_errors.to_string());
        line("corrupt images", counts.corrupt.to_string());
        if !self.causes.is_empty() {
            out.push_str("\nHow attempts failed:\n");
            for (cause, count) in &self.causes {
                let _ = writeln!(out, "{count:8}  {cause}");
            }
        }
        out
    }

    /// Returns the report as one JSON object.
    pub fn json(&self) -> Value {
        let counts = &self.counts;
        let seconds = |at: usize| {
            let times = self.times.as_ref()?;
            times.get(at).map(Duration::as_secs_f64)
        };
        json!({
            "ok": self.is_good(),
            "seed": self.seed,
            "devices": self.devices,
            "updated": counts.updated,
            "refused": counts.refused,
            "failed": counts.failed,
            "fell_back": counts.fell_back,
            "update_again": counts.looping,
            "unfinished": self.unfinished(),
            "attempts": counts.attempts,
            "updates": counts.updates,
            "failures": counts.failures,
            "cut": counts.cut,
            "held_back": counts.held_back,
            "received_bytes": counts.received,
            "wasted_bytes": counts.wasted,
            "server_errors": counts.server_errors,
            "corrupt_images": counts.corrupt,
            "seconds_to_50": seconds(0),
            "seconds_to_95": seconds(1),
            "seconds_to_100": seconds(2),
            "seconds": self.durations.0.as_secs_f64(),
            "wall_seconds": self.durations.1.as_secs_f64(),
        })
    }
}

/// Formats a number of bytes for people, in powers of 1000.
fn bytes(count: u64) -> String {
    let scaled = |unit: u64| (count / unit, count % unit * 10 / unit);
    match count {
        0..10_000 => format!("{count} B"),
        10_000..10_000_000 => format!("{} kB", count / 1000),
        10_000_000..10_000_000_000 => {
            let (whole, tenth) = scaled(1_000_000);
            format!("{whole}.{tenth} MB")
        }
        _ => {
            let (whole, tenth) = scaled(1_000_000_000);
            format!("{whole}.{tenth} GB")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_that_differ_only_in_numbers_are_one() {
        assert_eq!(
            without_numbers("result 4 (code -9): 1234"),
            "result N (code -N): N"
        );
    }

    #[test]
    fn bytes_are_written_for_people() {
        for (count, text) in [
            (0, "0 B"),
            (9_999, "9999 B"),
            (10_000, "10 kB"),
            (12_345_678, "12.3 MB"),
            (98_765_432_109, "98.7 GB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }
}
