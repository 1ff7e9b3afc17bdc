//! The journal's entry of a sample of counts ([`super::super::history`]).

use super::fields::{Fields, LineWriter};

/// Largest number of counts that are read.
const MAX_COUNTS: usize = 32;

const HOUR: u32 = 60 * 60;
const DAY: u32 = 24 * HOUR;

/// A sample, or one version whose counts changed with it.
#[derive(Clone, Debug, PartialEq)]
pub struct SampleEntry {
    /// Number of the hour, or day, since 1970.
    pub number: u32,
    /// Whether this is the last sample of a day.
    pub is_day: bool,
    /// Version whose counts changed; `None`: the entry only states that the sample was taken.
    pub change: Option<SampleChange>,
}

/// A version whose counts changed.
#[derive(Clone, Debug, PartialEq)]
pub struct SampleChange {
    /// The project.
    pub project: Box<str>,
    /// The version.
    pub version: Box<str>,
    /// The counts; [`VersionCounts`](super::super::history::VersionCounts) states their order.
    pub counts: Vec<u32>,
}

impl SampleEntry {
    fn seconds(is_day: bool) -> u32 {
        if is_day { DAY } else { HOUR }
    }

    pub(super) fn write(&self, line: &mut LineWriter<'_>) {
        let unix = u64::from(self.number) * u64::from(SampleEntry::seconds(self.is_day));
        line.plain("sample", unix);
        line.flag("day", self.is_day);
        if let Some(change) = &self.change {
            line.text("project", &change.project);
            line.text("version", &change.version);
            let counts: Vec<String> = change.counts.iter().map(u32::to_string).collect();
            line.word("counts", counts.join(" "));
        }
    }

    pub(super) fn read(fields: &Fields<'_>) -> Option<SampleEntry> {
        let is_day = fields.flag("day");
        let unix: u64 = fields.number("sample")?;
        let number = u32::try_from(unix / u64::from(SampleEntry::seconds(is_day))).ok()?;
        let change = match fields.text("project") {
            None => None,
            Some(project) => {
                let counts = fields.text("counts")?.split(' ').take(MAX_COUNTS);
                Some(SampleChange {
                    project: project.into(),
                    version: fields.text("version")?.into(),
                    counts: counts.map(|n| n.parse().ok()).collect::<Option<_>>()?,
                })
            }
        };
        Some(SampleEntry {
            number,
            is_day,
            change,
        })
    }
}
