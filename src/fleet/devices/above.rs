//! Versions that devices run and that are higher than every remaining release (docs/cases.md 56).

use std::collections::{BTreeMap, HashMap};

use super::Devices;
use super::record::DeviceRecord;
use crate::decision::Check;
use crate::firmware::catalog::Catalog;
use crate::firmware::version::{Standing, Version, standing};
use crate::fleet::profiles::ProfileId;
use crate::fleet::releases::ProjectId;
use crate::fleet::short_version::ShortVersion;

/// A version that devices run, higher than every remaining release of their project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Above {
    /// The project.
    pub project: Box<str>,
    /// The version, as the devices report it.
    pub version: Box<str>,
    /// Number of devices that report the version.
    pub devices: u32,
}

/// Size of `found` up to which combinations that are not above are cached, so that each is compared only once.
const MAX_CACHED: usize = 65_536;

/// A walk over the devices, some at a time, that counts those whose version is higher than all releases of a catalogue.
#[derive(Debug)]
pub struct AboveWalk {
    /// Slot at which the next call continues.
    next: u32,
    /// Versions of each project's releases.
    releases: HashMap<ProjectId, Vec<Version>>,
    /// Number of devices by project, profile and version; `None`: the version is not above the releases.
    found: HashMap<(ProjectId, ProfileId, ShortVersion), Option<u32>>,
}

impl Devices {
    /// Begins a walk for the releases of a catalogue. Skips projects without releases, because a person removed them.
    pub fn above_walk(&self, catalog: &Catalog) -> AboveWalk {
        let projects = catalog.projects().iter();
        let projects = projects.filter(|project| !project.releases.is_empty());
        let releases = projects.filter_map(|project| {
            let versions = project.releases.iter().map(|release| release.version);
            Some((self.releases.project_id(&project.name)?, versions.collect()))
        });
        AboveWalk {
            next: 0,
            releases: releases.collect(),
            found: HashMap::new(),
        }
    }

    /// Examines `most` more slots. Returns whether the walk has ended.
    pub fn walk_above(&self, walk: &mut AboveWalk, most: u32) -> bool {
        let end = walk.next.saturating_add(most);
        for (slot, record) in self.table.from(walk.next) {
            if slot >= end {
                break;
            }
            let key = (record.project, record.profile, record.version);
            if let Some(found) = walk.found.get_mut(&key) {
                if let Some(devices) = found {
                    *devices += 1;
                }
                continue;
            }
            let releases = walk.releases.get(&record.project);
            let is_above = releases.is_some_and(|releases| self.is_above(record, releases));
            if is_above || walk.found.len() < MAX_CACHED {
                walk.found.insert(key, is_above.then_some(1));
            }
        }
        walk.next = end;
        end >= self.table.end()
    }

    /// Returns the versions above all remaining releases that a walk has found, by project and version.
    pub fn above(&self, walk: &AboveWalk) -> Vec<Above> {
        let mut above: BTreeMap<(&str, &str), u32> = BTreeMap::new();
        for ((project, _, version), devices) in &walk.found {
            if let (Some(devices), Some(project)) = (devices, self.releases.project(*project)) {
                *above.entry((&project.name, version.as_str())).or_default() += devices;
            }
        }
        let above = above.into_iter();
        above
            .map(|((project, version), devices)| Above {
                project: project.into(),
                version: version.into(),
                devices,
            })
            .collect()
    }

    /// Whether a device runs a version that is higher than all `releases`.
    fn is_above(&self, record: &DeviceRecord, releases: &[Version]) -> bool {
        let mut check = Check::default();
        if let Some(profile) = self.profiles.get(record.profile) {
            profile.clone().fill(&mut check);
        }
        let is_older = |running: Version| {
            let first = check.first_field();
            let mut releases = releases.iter();
            releases.all(|release| standing(running, *release, first) == Standing::Older)
        };
        Version::parse(record.version.as_str()).is_some_and(is_older)
    }
}
