//! release.json: who may have a release, when, and how many (docs/rules.md). `scan` reads
//! the files, `catalog` merges a release's rules with its project's, `decision` looks at each key.
//!
//! Nothing in such a file is passed over. A misspelt `deny` or a percentage in quotes would otherwise let in
//! a whole fleet, so an unknown key or a value of the wrong type makes the file invalid, and the last good
//! rules stay in force.

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

/// The longest release.json, in bytes: room for 400,000 IMEI ranges.
pub const MOST_BYTES: u64 = 16 << 20;

/// The SHA-256 of a file of rules; `None` without a file. All are equal, because rules are compared by what
/// they say and not by how they are written.
#[derive(Clone, Copy, Debug, Default)]
pub struct FileDigest(pub Option<super::ContentId>);

impl PartialEq for FileDigest {
    fn eq(&self, _: &FileDigest) -> bool {
        true
    }
}

/// Why nobody gets the release now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Paused {
    /// `false`: it is not paused.
    No,
    /// `true`.
    Yes,
    /// A sentence, which is the reason shown.
    Because(String),
}

/// Which versions a release may be offered to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromVersions {
    /// `"1.9.0"`: this version only, in whatever way it is written.
    One(Version),
    /// `"1.9.0-2.0.0"`: inclusive.
    Range(Version, Version),
    /// `["factory", "1.0-beta"]`: one of these exact texts.
    Texts(Vec<String>),
}

/// A stage of a rollout.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stage {
    /// The share of the devices that may have the release, 0..=100.
    pub percent: f64,
    /// Seconds that the stage before it lasts at least; 0 for the first.
    pub after: u32,
}

/// When a release pauses itself; read now, used by the release fuse.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FuseLimits {
    /// Least number of devices that came back with the old version …
    pub devices: u32,
    /// … and at least this share (0..=100) of those delivered.
    pub percent: f64,
}

impl Rules {
    /// Reads a release.json (at most 16 MiB; a UTF-8 BOM is ignored). An unknown key, a value of the
    /// wrong type or out of its bounds is an error: a sentence that names the key, what is wrong, and
    /// for an unknown key the nearest known one.
    pub fn parse(json: &[u8]) -> Result<Rules, String> {
        let mut rules = read::rules(json)?;
        rules.digest = FileDigest(Some(edit::tag_of(json)));
        Ok(rules)
    }

    /// Everything that is wrong with such a file: the key, if it is about one, and the sentence.
    pub fn problems(json: &[u8]) -> Vec<(Option<String>, String)> {
        read::problems(json)
    }

    /// The first moment from `unix` (seconds) on at which neither `not_before` nor `window` keeps devices from the
    /// release.
    pub fn opens(&self, unix: i64) -> i64 {
        let start = self.not_before.map_or(unix, |moment| moment.max(unix));
        let Some(window) = self.window else {
            return start;
        };
        let mut minutes = (0..=24 * 60).map(|minute| start.saturating_add(minute * 60));
        minutes
            .find(|moment| window.contains(*moment))
            .unwrap_or(start)
    }

    /// Whether `paused` keeps all devices from the release.
    pub fn is_paused(&self) -> bool {
        matches!(self.paused, Some(Paused::Yes | Paused::Because(_)))
    }
}
