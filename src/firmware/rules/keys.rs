//! The keys of release.json. Each has one entry here: its type, how it is read, and its words for people.
//! What a key means for a check is in `decision`.

use serde_json::Value;

use super::{FileDigest, FromVersions, FuseLimits, Paused, Redirect, Stage, Window, read, words};
use crate::firmware::audience::DeviceSet;

/// Makes [`Rules`] and all that is done with each of its keys.
macro_rules! rules {
    ($($(#[$doc:meta])* $key:ident: $type:ty = $read:path, $words:path;)*) => {
        /// One release.json, or two merged. `None` = the key is not there.
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct Rules {
            /// The release's own file.
            pub digest: FileDigest,
            $($(#[$doc])* pub $key: Option<$type>,)*
        }

        impl Rules {
            /// Every key, in the order of the documentation.
            pub const KEYS: &[&str] = &[$(stringify!($key)),*];

            /// Reads one key. The error is a sentence that names it.
            pub(super) fn set(&mut self, key: &str, value: &Value) -> Result<(), String> {
                match key {
                    $(stringify!($key) => self.$key = Some($read(key, value)?),)*
                    _ => return Err(read::unknown(key, Rules::KEYS)),
                }
                Ok(())
            }

            /// These rules of a release on top of its project's: key by key the release's own win, `deny`
            /// of both counts, and `percent` or `stages` of the release stands for both of the project's.
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

            /// The keys that restrict or change something, each with a few words for people.
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
    /// Nobody gets it for now.
    paused: Paused = read::paused, words::paused;
    /// The share of devices that may have it, 0..=100.
    percent: f64 = read::percent, words::percent;
    /// The shares of devices that may have it one after the other; not together with `percent`.
    stages: Vec<Stage> = read::stages, words::stages;
    /// Only these devices (an empty list: none).
    allow: DeviceSet = read::devices, words::count;
    /// Never these devices. Merging adds the project's.
    deny: DeviceSet = read::devices, words::count;
    /// Only from these versions.
    from: FromVersions = read::from, words::value;
    /// Only devices whose whole firmware_name is one of these.
    firmware_name: Vec<String> = read::texts, words::list;
    /// The core that a package with a core delta was made from.
    base_core: u32 = read::count, words::value;
    /// Not before this moment, Unix seconds.
    not_before: i64 = read::moment, words::moment;
    /// Only at these times of day.
    window: Window = read::window, words::value;
    /// Only devices that send this key.
    project_key: String = read::text, words::name;
    /// For devices that ask with need_oss_url=1.
    redirect: Redirect = read::redirect, words::name;
    /// The file is also at `/firmware/<path>`, outside all other rules.
    direct: bool = read::flag, words::flag;
    /// May replace a newer version.
    allow_downgrade: bool = read::flag, words::flag;
    /// May replace a version that cannot be read.
    any_version: bool = read::flag, words::flag;
    /// May be given to a module on another core than the package's, or that does not say its own.
    any_core: bool = read::flag, words::flag;
    /// When the release pauses itself.
    fuse: FuseLimits = read::fuse, words::value;
    /// Seconds after a whole download during which the old version is no failure: the module waits for its
    /// time to reboot.
    reboot_within: u32 = read::duration, words::minutes;
}
