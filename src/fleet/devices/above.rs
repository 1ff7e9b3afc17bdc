//! Versions that devices run above every release that is left (docs/cases.md 56).

use std::collections::{BTreeMap, HashMap};

use super::Devices;
use super::record::DeviceRecord;
use crate::decision::Check;
use crate::firmware::catalog::Catalog;
use crate::firmware::version::{Standing, Version, standing};

/// A version that devices run above every release that their project has left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Above {
    /// The project.
    pub project: Box<str>,
    /// The version, as the devices report it.
    pub version: Box<str>,
    /// How many devices report it.
    pub devices: u32,
}

impl Devices {
    /// The versions above all that is left, by project and version. Reads every record once. A project without
    /// any release has none: somebody removed the project.
    pub fn above(&self, catalog: &Catalog) -> Vec<Above> {
        let mut reported: HashMap<_, (&DeviceRecord, u32)> = HashMap::new();
        for (_, record) in self.table.from(0) {
            let key = (record.project, record.profile, record.version.as_str());
            let (_, devices) = reported.entry(key).or_insert((record, 0));
            *devices += 1;
        }
        let mut above: BTreeMap<(&str, &str), u32> = BTreeMap::new();
        for (record, devices) in reported.into_values() {
            if let Some(project) = self.is_above(record, catalog) {
                let sum = above.entry((project, record.version.as_str())).or_default();
                *sum += devices;
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

    /// The project of a device, if it runs a version above all of its releases.
    fn is_above(&self, record: &DeviceRecord, catalog: &Catalog) -> Option<&str> {
        let name = &*self.releases.project(record.project)?.name;
        let releases = &catalog.project(name)?.releases;
        let running = Version::parse(record.version.as_str())?;
        let mut check = Check::default();
        if let Some(profile) = self.profiles.get(record.profile) {
            profile.clone().fill(&mut check);
        }
        let is_older = |version| standing(running, version, check.first_field()) == Standing::Older;
        let is_above = !releases.is_empty() && releases.iter().all(|r| is_older(r.version));
        is_above.then_some(name)
    }
}
