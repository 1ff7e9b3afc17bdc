//! Counts over time as rows: the counts of one release, and the number of devices that ran each version.

use serde_json::{Map, Value};

use crate::export::{Export, ExportFormat, rfc3339};
use crate::fleet::Fleet;
use crate::fleet::clock::unix_now;
use crate::fleet::history::{Samples, VersionKey};
use crate::fleet::progress::State;
use crate::fleet::releases::StateCounts;

const HOUR: i64 = 60 * 60;
const DAY: i64 = 24 * HOUR;

/// Returns the samples of both resolutions: the name of the resolution, the seconds between two samples, and the
/// samples.
pub fn resolutions(fleet: &Fleet) -> [(&'static str, i64, &Samples); 2] {
    let history = fleet.history();
    [
        ("hour", HOUR, history.hours()),
        ("day", DAY, history.days()),
    ]
}

/// The counts of a release at one moment.
#[derive(Clone, Debug)]
pub struct ReleaseSample {
    /// `hour`, `day` or `now`.
    pub span: &'static str,
    /// The time, in Unix seconds.
    pub unix: i64,
    /// Devices by state.
    pub states: StateCounts,
    /// Number of devices from which the loop guard holds back the release.
    pub held: u32,
}

impl ReleaseSample {
    /// Returns the counts as an object.
    pub fn json(&self) -> Map<String, Value> {
        let counts = State::ALL.map(|state| {
            let count = self.states.of(state);
            (state.word().to_owned(), count.into())
        });
        let mut row: Map<String, Value> = counts.into_iter().collect();
        row.insert("time".to_owned(), rfc3339(self.unix));
        row.insert("held".to_owned(), self.held.into());
        row
    }
}

/// The history of a release, for an export.
#[derive(Clone, Debug)]
pub struct ReleaseHistory {
    /// The project.
    pub project: String,
    /// The version, as its folder writes it.
    pub version: String,
    /// The counts, oldest first within a span.
    pub samples: Vec<ReleaseSample>,
}

impl ReleaseHistory {
    /// Adds the rows of `most` samples, starting at the index `from`; returns the index of the next sample.
    pub fn add(&self, from: u32, most: usize, rows: &mut Export, text: &mut String) -> Option<u32> {
        let samples = self.samples.iter().skip(from as usize);
        for sample in samples.take(most) {
            let mut row = sample.json();
            for (key, text) in [
                ("project", &*self.project),
                ("version", &*self.version),
                ("span", sample.span),
            ] {
                row.insert(key.to_owned(), text.into());
            }
            rows.row(text, &Value::Object(row));
        }
        let next = from.saturating_add(most as u32);
        ((next as usize) < self.samples.len()).then_some(next)
    }
}

/// The versions that devices run or ran, and the numbers of the samples, which all versions share.
#[derive(Clone, Debug)]
pub struct VersionHistory {
    /// The versions, sorted by project and version.
    pub versions: Vec<VersionRow>,
    /// The hourly samples, in hours since 1970.
    pub hours: Vec<u32>,
    /// The daily samples, in days since 1970.
    pub days: Vec<u32>,
    /// Lines of CSV that are still to be written for the version at the current index, the next one last: span, time
    /// and number of devices.
    pub left: Vec<(&'static str, i64, u32)>,
}

impl VersionHistory {
    /// Adds the counts of the version at the index `from`: an item of JSON, or at most `most` lines of CSV, one for
    /// each count. Returns the index to continue at.
    pub fn add(
        &mut self,
        fleet: &Fleet,
        (from, most): (u32, usize),
        rows: &mut Export,
        text: &mut String,
    ) -> Option<u32> {
        let version = self.versions.get(from as usize)?;
        let name = [
            ("project", &*version.project),
            ("version", version.key.version.as_str()),
        ];
        let name = name.map(|(key, text)| (key.to_owned(), Value::from(text)));
        let mut row = Map::from_iter(name);
        let resolutions = resolutions(fleet)
            .into_iter()
            .zip([&self.hours, &self.days]);
        if rows.format == ExportFormat::Json {
            row.insert("devices".to_owned(), version.devices.into());
            for ((span, _, taken), numbers) in resolutions {
                let counts = running(taken, version.key, numbers);
                row.insert(format!("{span}s"), counts.into());
            }
            rows.row(text, &Value::Object(row));
            return from.checked_add(1);
        }
        if self.left.is_empty() {
            self.left.push(("now", unix_now(), version.devices));
            for ((span, unit, taken), numbers) in resolutions.rev() {
                let counts = running(taken, version.key, numbers);
                let counts = numbers.iter().zip(counts).rev();
                // The count is `None` at times before the version was first seen.
                let counts = counts.filter_map(|(number, devices)| {
                    Some((span, i64::from(*number) * unit, devices?))
                });
                self.left.extend(counts);
            }
        }
        let next = self.left.len().saturating_sub(most);
        for (span, unix, devices) in self.left.drain(next..).rev() {
            row.insert("span".to_owned(), span.into());
            row.insert("time".to_owned(), rfc3339(unix));
            row.insert("devices".to_owned(), devices.into());
            let line = Value::Object(row);
            rows.row(text, &line);
            row = match line {
                Value::Object(row) => row,
                _ => break,
            };
        }
        match self.left.is_empty() {
            true => from.checked_add(1),
            false => Some(from),
        }
    }

    /// Returns the times of the samples.
    pub fn times(&self) -> [(&'static str, Value); 2] {
        let times = |numbers: &[u32], unit| -> Value {
            let times = numbers.iter().map(|number| i64::from(*number) * unit);
            times.map(rfc3339).collect()
        };
        [
            ("hours", times(&self.hours, HOUR)),
            ("days", times(&self.days, DAY)),
        ]
    }
}

/// A version that devices run or ran.
#[derive(Clone, Debug)]
pub struct VersionRow {
    /// The project.
    pub project: String,
    /// The version.
    pub key: VersionKey,
    /// Number of devices that run the version now.
    pub devices: u32,
}

/// Returns the numbers of all samples.
pub fn numbers(samples: &Samples) -> Vec<u32> {
    samples.from(0).map(|(number, _)| number).collect()
}

/// Returns the number of devices that ran a version, in the samples of these numbers.
fn running(samples: &Samples, key: VersionKey, numbers: &[u32]) -> Vec<Option<u32>> {
    let (Some(first), Some(last)) = (numbers.first(), numbers.last()) else {
        return Vec::new();
    };
    let counts = samples
        .of(key)
        .filter(|(at, _)| (first..=last).contains(&at));
    let counts: Vec<_> = counts.map(|(_, counts)| Some(counts?.running)).collect();
    // The oldest samples may have been dropped meanwhile.
    let missing = numbers.len().saturating_sub(counts.len());
    std::iter::repeat_n(None, missing).chain(counts).collect()
}
