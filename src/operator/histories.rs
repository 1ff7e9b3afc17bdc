//! Counts over time as rows: those of one release, and the devices that ran each version.

use serde_json::{Map, Value};

use crate::export::{Export, ExportFormat, rfc3339};
use crate::fleet::Fleet;
use crate::fleet::clock::unix_now;
use crate::fleet::history::{Samples, VersionKey};
use crate::fleet::progress::State;
use crate::fleet::releases::StateCounts;

const HOUR: i64 = 60 * 60;
const DAY: i64 = 24 * HOUR;

/// The samples of both resolutions: the name of one, seconds between two, and the samples themselves.
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
    /// Devices that the loop guard holds from it.
    pub held: u32,
}

impl ReleaseSample {
    /// The counts as an object.
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

/// The history of a release as it is exported.
#[derive(Clone, Debug)]
pub struct ReleaseHistory {
    /// The project.
    pub project: String,
    /// The version, as its folder writes it.
    pub version: String,
    /// Its counts, oldest first within a span.
    pub samples: Vec<ReleaseSample>,
}

impl ReleaseHistory {
    /// Adds the rows of `most` samples from a place on; returns the place of the next one.
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

/// The versions that devices run or ran, and the numbers of the samples that all have.
#[derive(Clone, Debug)]
pub struct VersionHistory {
    /// The versions, by project and version.
    pub versions: Vec<VersionRow>,
    /// Hours since 1970.
    pub hours: Vec<u32>,
    /// Days since 1970.
    pub days: Vec<u32>,
    /// Lines of CSV of the version at the current place that are still to be written, the next one last: span, time and
    /// devices.
    pub left: Vec<(&'static str, i64, u32)>,
}

impl VersionHistory {
    /// Adds what is known of the version at a place: an item of JSON, or at most `most` lines of CSV, one for each count.
    /// Returns the place to go on at.
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
                // `None`: the version was not seen before.
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

    /// The times of the samples.
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
    /// How many devices run it now.
    pub devices: u32,
}

/// The numbers of all samples.
pub fn numbers(samples: &Samples) -> Vec<u32> {
    samples.from(0).map(|(number, _)| number).collect()
}

/// The devices that ran a version, in the samples of these numbers.
fn running(samples: &Samples, key: VersionKey, numbers: &[u32]) -> Vec<Option<u32>> {
    let (Some(first), Some(last)) = (numbers.first(), numbers.last()) else {
        return Vec::new();
    };
    let counts = samples
        .of(key)
        .filter(|(at, _)| (first..=last).contains(&at));
    let counts: Vec<_> = counts.map(|(_, counts)| Some(counts?.running)).collect();
    // The oldest may have been dropped meanwhile.
    let missing = numbers.len().saturating_sub(counts.len());
    std::iter::repeat_n(None, missing).chain(counts).collect()
}
