//! Rules in release.json: which devices may have a release, and when (docs/rules.md). `scan` reads the files, `catalog`
//! merges a release's rules with those of its project, and `decision` applies each key.
//!
//! No part of such a file is ignored. A misspelt `deny` or a percentage in quotes would otherwise admit a whole fleet.
//! Therefore an unknown key or a value of the wrong type makes the file invalid, and the last valid rules stay in
//! force.

use super::version::Version;

pub mod edit;
mod keys;
mod read;
mod redirect;
#[cfg(test)]
mod tests;
mod time;
mod words;

pub use keys::Rules;
pub use redirect::Redirect;
pub use time::Window;

/// Maximum size of a release.json in bytes, enough for 400,000 IMEI ranges.
pub const MAX_BYTES: u64 = 16 << 20;

/// SHA-256 of a rules file; `None` without a file. All digests compare as equal, because rules are compared by their
/// meaning and not by their text.
#[derive(Clone, Copy, Debug, Default)]
pub struct FileDigest(pub Option<super::ContentId>);

impl PartialEq for FileDigest {
    fn eq(&self, _: &FileDigest) -> bool {
        true
    }
}

/// State of the pause of a release, in which no device gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Paused {
    /// The release is not paused (`false`).
    No,
    /// The release is paused (`true`).
    Yes,
    /// The release is paused, and this sentence is shown as the reason.
    Because(String),
}

/// Versions that a release may be offered to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromVersions {
    /// `"1.9.0"`: this version only, in any notation.
    One(Version),
    /// `"1.9.0-2.0.0"`: versions from the first to the last, both included.
    Range(Version, Version),
    /// `["factory", "1.0-beta"]`: one of these exact texts.
    Texts(Vec<String>),
}

/// A stage of a rollout.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stage {
    /// Share of the devices that may have the release, 0..=100.
    pub percent: f64,
    /// Shortest time in seconds that the previous stage lasts; 0 for the first stage.
    pub after: u32,
}

/// Limits at which a release pauses itself. Used by the fuse.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FuseLimits {
    /// Smallest number of devices that came back with the old version.
    pub devices: u32,
    /// Smallest share (0..=100) of these devices among all devices with a result (confirmed, reverted or silent).
    pub percent: f64,
}

impl Rules {
    /// Parses a release.json (at most 16 MiB; a UTF-8 BOM is ignored). An unknown key, or a value of the wrong type or
    /// outside its bounds, is an error. The error is a sentence that names the key and the fault, and for an unknown
    /// key the nearest known one.
    pub fn parse(json: &[u8]) -> Result<Rules, String> {
        let mut rules = read::rules(json)?;
        rules.digest = FileDigest(Some(edit::tag_of(json)));
        Ok(rules)
    }

    /// Returns all faults of such a file: the key, if the fault is in one, and the sentence.
    pub fn problems(json: &[u8]) -> Vec<(Option<String>, String)> {
        read::problems(json)
    }

    /// The first time from `unix` (seconds) at which neither `not_before` nor `window` prevents offers of the release.
    pub fn opening_time(&self, unix: i64) -> i64 {
        let start = self.not_before.map_or(unix, |moment| moment.max(unix));
        let Some(window) = self.window else {
            return start;
        };
        let mut minutes = (0..=24 * 60).map(|minute| start.saturating_add(minute * 60));
        minutes
            .find(|moment| window.contains(*moment))
            .unwrap_or(start)
    }

    /// Whether `paused` prevents offers to all devices.
    pub fn is_paused(&self) -> bool {
        matches!(self.paused, Some(Paused::Yes | Paused::Because(_)))
    }
}
