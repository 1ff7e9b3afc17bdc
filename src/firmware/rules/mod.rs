//! release.json: who may have a release, when, and how many (docs/rules.md). `scan` reads
//! the files, `catalog` merges a release's rules with its project's, `decision` looks at each key.
//!
//! The surprise: nothing in such a file is passed over. A misspelt `deny` or a percentage in quotes
//! would otherwise let in a whole fleet, so an unknown key or a value of the wrong type makes the
//! file invalid, and the last good rules stay in force.

use super::audience::DeviceSet;
use super::version::Version;

pub mod edit;
mod read;
mod redirect;
#[cfg(test)]
mod tests;
mod time;

pub use redirect::Redirect;
pub use time::Window;

/// The longest release.json, in bytes: room for 400,000 IMEI ranges.
pub const MOST_BYTES: u64 = 16 << 20;

/// The SHA-256 of a file of rules; `None` without a file. All are equal, because rules are compared by what
/// they say and not by how they are written.
#[derive(Clone, Copy, Debug, Default)]
pub struct Digest(pub Option<super::ContentId>);

impl PartialEq for Digest {
    fn eq(&self, _: &Digest) -> bool {
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
pub enum From {
    /// `"1.9.0"`: this version only, in whatever way it is written.
    One(Version),
    /// `"1.9.0-2.0.0"`: inclusive.
    Range(Version, Version),
    /// `["factory", "1.0-beta"]`: one of these exact texts.
    Texts(Vec<String>),
}

/// When a release pauses itself; read now, used by the release fuse.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fuse {
    /// At least so many devices came back with the old version …
    pub devices: u32,
    /// … and at least this share (0..=100) of those delivered.
    pub percent: f64,
}

/// One release.json, or two merged. `None` = the key is not there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    /// The release's own file.
    pub digest: Digest,
    /// Nobody gets it for now.
    pub paused: Option<Paused>,
    /// The share of devices that may have it, 0..=100.
    pub percent: Option<f64>,
    /// Only these devices (an empty list: none).
    pub allow: Option<DeviceSet>,
    /// Never these devices. Merging adds the project's.
    pub deny: Option<DeviceSet>,
    /// Only from these versions.
    pub from: Option<From>,
    /// Only devices whose whole firmware_name is one of these.
    pub firmware_name: Option<Vec<String>>,
    /// The core that a package with a core delta was made from.
    pub base_core: Option<u32>,
    /// Not before this moment, Unix seconds.
    pub not_before: Option<i64>,
    /// Only at these times of day.
    pub window: Option<Window>,
    /// Only devices that send this key.
    pub project_key: Option<String>,
    /// For devices that ask with need_oss_url=1.
    pub redirect: Option<Redirect>,
    /// The file is also at `/firmware/<path>`, outside all other rules.
    pub direct: Option<bool>,
    /// May replace a newer version.
    pub allow_downgrade: Option<bool>,
    /// May replace a version that cannot be read.
    pub any_version: Option<bool>,
    /// May be given to a module on another core than the package's, or that does not say its own.
    pub any_core: Option<bool>,
    /// When the release pauses itself.
    pub fuse: Option<Fuse>,
    /// For so many seconds after a whole download the old version is no failure: the module waits for
    /// its time to reboot.
    pub reboot_within: Option<u32>,
}

impl Rules {
    /// Reads a release.json (at most 16 MiB; a UTF-8 BOM is ignored). An unknown key, a value of the
    /// wrong type or out of its bounds is an error: a sentence that names the key, what is wrong, and
    /// for an unknown key the nearest known one.
    pub fn parse(json: &[u8]) -> Result<Rules, String> {
        let mut rules = read::rules(json)?;
        rules.digest = Digest(Some(edit::tag_of(json)));
        Ok(rules)
    }

    /// These rules of a release on top of its project's: key by key the release's own win, `deny` of
    /// both counts.
    pub fn over(&self, project: &Rules) -> Rules {
        /// The release's own, else the project's.
        fn own<T: Clone>(release: &Option<T>, project: &Option<T>) -> Option<T> {
            release.as_ref().or(project.as_ref()).cloned()
        }
        Rules {
            digest: self.digest,
            paused: own(&self.paused, &project.paused),
            percent: own(&self.percent, &project.percent),
            allow: own(&self.allow, &project.allow),
            deny: match (&self.deny, &project.deny) {
                (Some(release), Some(project)) => Some(release.union(project)),
                (release, project) => own(release, project),
            },
            from: own(&self.from, &project.from),
            firmware_name: own(&self.firmware_name, &project.firmware_name),
            base_core: own(&self.base_core, &project.base_core),
            not_before: own(&self.not_before, &project.not_before),
            window: own(&self.window, &project.window),
            project_key: own(&self.project_key, &project.project_key),
            redirect: own(&self.redirect, &project.redirect),
            direct: own(&self.direct, &project.direct),
            allow_downgrade: own(&self.allow_downgrade, &project.allow_downgrade),
            any_version: own(&self.any_version, &project.any_version),
            any_core: own(&self.any_core, &project.any_core),
            fuse: own(&self.fuse, &project.fuse),
            reboot_within: own(&self.reboot_within, &project.reboot_within),
        }
    }
}
