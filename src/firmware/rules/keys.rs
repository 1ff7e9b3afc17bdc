//! Keys of release.json. Each has one entry here: its type, its parser, and its description for people. `decision`
//! applies the keys to a check.

use serde_json::Value;

use super::{FileDigest, FromVersions, FuseLimits, Paused, Redirect, Stage, Window, read, words};
use crate::firmware::audience::DeviceSet;

/// Defines [`Rules`] and all functions that handle each key.
macro_rules! rules {
    ($($(#[$doc:meta])* $key:ident: $type:ty = $read:path, $words:path;)*) => {
        /// One release.json, or two merged. `None` means that the key is absent.
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct Rules {
            /// Digest of the release's own file.
            pub digest: FileDigest,
            $($(#[$doc])* pub $key: Option<$type>,)*
        }

        impl Rules {
            /// All keys, in the order of the documentation.
            pub const KEYS: &[&str] = &[$(stringify!($key)),*];

            /// Parses one key. The error is a sentence that names the key.
            pub(super) fn set(&mut self, key: &str, value: &Value) -> Result<(), String> {
                match key {
                    $(stringify!($key) => self.$key = Some($read(key, value)?),)*
                    _ => return Err(read::unknown_key(key, Rules::KEYS)),
                }
                Ok(())
            }

            /// Merges these rules of a release over those of its project. The release's own keys take precedence.
            /// `deny` of both applies, and `percent` or `stages` of the release replaces both keys of the project.
            pub fn over(&self, project: &Rules) -> Rules {
                let deny = match (&self.deny, &project.deny) {
                    (Some(release), Some(project)) => Some(release.union(project)),
                    (release, project) => release.as_ref().or(project.as_ref()).cloned(),
                };
                let merged = Rules {
                    digest: self.digest,
                    $($key: self.$key.as_ref().or(project.$key.as_ref()).cloned(),)*
                };
                let (percent, stages) = match (&self.percent, &self.stages) {
                    (None, None) => (project.percent, project.stages.clone()),
                    (percent, stages) => (*percent, stages.clone()),
                };
                Rules {
                    deny,
                    percent,
                    stages,
                    ..merged
                }
            }

            /// The keys that restrict or change something, each with a short description for people.
            pub fn words(&self) -> Vec<(&'static str, String)> {
                let mut all = Vec::new();
                $(
                    let words = self.$key.as_ref().and_then(|value| $words(stringify!($key), value));
                    all.extend(words.map(|words| (stringify!($key), words)));
                )*
                all
            }
        }
    };
}

rules! {
    /// No device gets the release for now.
    paused: Paused = read::paused, words::paused;
    /// Share of devices that may have the release, 0..=100.
    percent: f64 = read::percent, words::percent;
    /// Shares of devices that may have the release, one after the other; not together with `percent`.
    stages: Vec<Stage> = read::stages, words::stages;
    /// The only devices that may have the release (none if the list is empty).
    allow: DeviceSet = read::devices, words::count;
    /// Devices that never get the release. Merging adds those of the project.
    deny: DeviceSet = read::devices, words::count;
    /// The only versions that devices may update from.
    from: FromVersions = read::from, words::value;
    /// Firmware names of devices that may have the release; the whole firmware_name must be equal to one of them.
    firmware_name: Vec<String> = read::texts, words::list;
    /// Core that a package with a core delta was made from.
    base_core: u32 = read::count, words::value;
    /// Time before which the release is not offered, in Unix seconds.
    not_before: i64 = read::moment, words::moment;
    /// Times of day at which the release is offered.
    window: Window = read::window, words::value;
    /// Key that devices must send to get the release.
    project_key: String = read::text, words::name;
    /// Address for devices that ask with need_oss_url=1.
    redirect: Redirect = read::redirect, words::name;
    /// Whether the file is also served at `/firmware/<path>`, regardless of all other rules.
    direct: bool = read::flag, words::flag;
    /// Whether the release may replace a newer version.
    allow_downgrade: bool = read::flag, words::flag;
    /// Whether the release may replace a version that cannot be parsed.
    any_version: bool = read::flag, words::flag;
    /// Whether the release may be offered to a module with another core than the package's, or with an unknown core.
    any_core: bool = read::flag, words::flag;
    /// Limits at which the release pauses itself.
    fuse: FuseLimits = read::fuse, words::value;
    /// Seconds after a complete download during which the old version is no failure, because the module waits for its
    /// time to reboot.
    reboot_within: u32 = read::duration, words::minutes;
}
