//! Determines how a file that is not in the folder yet would be treated. Used before a file is accepted.

use std::sync::Arc;

use super::{Catalog, Groups, Package, Project, Release};
use crate::firmware::ContentId;
use crate::firmware::name::{self, FileKind, FirmwarePath, Marker};
use crate::firmware::package::PackageKind;
use crate::firmware::rules::Rules;
use crate::firmware::version::{Standing, Version, standing};

/// A file that may be added to the firmware folder.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Path that the file would have, relative to the firmware folder.
    pub path: &'a str,
    /// Kind of the package.
    pub kind: PackageKind,
    /// Hash of the file's bytes, once all of them are known.
    pub content: Option<ContentId>,
}

/// Length in bytes of the longest name that file systems accept.
const LONGEST_NAME: usize = 255;

/// Parses the path of a firmware file. The error is a sentence; a path at which the scan would take no file for
/// firmware is an error too.
pub fn candidate_path(path: &str) -> Result<FirmwarePath<'_>, String> {
    let place = name::firmware_path(path)?;
    let file = path.rsplit('/').next().unwrap_or(path);
    let kind = name::file_kind(file);
    match kind {
        FileKind::Firmware => {}
        FileKind::Mistake(_) | FileKind::Soc => return Err(kind.mistake(file).unwrap_or_default()),
        FileKind::Ignored => {
            return Err(format!(
                "`{file}` has the name of a hidden file, or of one that is still being copied"
            ));
        }
        FileKind::Conflict => {
            return Err(format!(
                "`{file}` has the name of a copy that a program made because two machines changed the file at the same time"
            ));
        }
        FileKind::Rules | FileKind::Checksum | FileKind::Group | FileKind::Other => {
            return Err(format!(
                "`{file}` is not named as firmware: the name must end in .bin, .ota, .fota, .sota or .img"
            ));
        }
    }
    for part in path.split('/') {
        if name::file_kind(part) == FileKind::Ignored {
            return Err(format!("`{part}` is a name that the server ignores"));
        }
        if part.len() > LONGEST_NAME {
            return Err("a name has more than 255 bytes".to_owned());
        }
    }
    Ok(place)
}

impl Catalog {
    /// Fails with a sentence if the file would be quarantined, or would cause another file to be quarantined. `rules`
    /// are the rules in force for the release.
    pub fn check_candidate(&self, candidate: Candidate<'_>, rules: &Rules) -> Result<(), String> {
        let place = candidate_path(candidate.path)?;
        let kind = candidate.kind;
        if let Some(sentence) = kind.platform_conflict(place.platform) {
            return Err(sentence);
        }
        let base = kind.base_core(place.base_core, rules);
        if kind.needs_base() && base.is_none() {
            return Err(
                "it holds a core delta, which fits exactly one base core, but the core is not given: put \
                 it into a folder from-CORE (like from-2008), or set base_core in release.json"
                    .to_owned(),
            );
        }
        let claim = (place.platform.map(str::to_ascii_lowercase), base);
        let rival = self.release_at(&place).and_then(|release| {
            release.packages.iter().find(|package| {
                package.claim() == claim
                    && &*package.path != candidate.path
                    && candidate
                        .content
                        .is_none_or(|content| content != package.content)
            })
        });
        match rival {
            // The bytes of the candidate are unknown yet; they may be the same.
            Some(_) if candidate.content.is_none() => Ok(()),
            Some(rival) => Err(format!(
                "{} exists for the same release and platform with other content, and neither would \
                 be served: raise the version, or remove that file first",
                rival.path
            )),
            None => Ok(()),
        }
    }

    /// Returns a catalogue of the file's project as it would be with the file, of `size` bytes, to decide which devices
    /// would get it. `rules` are the rules in force for the release.
    pub fn with_candidate(
        &self,
        candidate: Candidate<'_>,
        size: u64,
        rules: Rules,
    ) -> Result<Catalog, String> {
        let place = candidate_path(candidate.path)?;
        let kind = candidate.kind;
        let package = Package {
            path: candidate.path.into(),
            content: candidate.content.unwrap_or(ContentId([0; 32])),
            size,
            kind,
            platform: place.platform.map(Into::into),
            base_core: kind.base_core(place.base_core, &rules),
        };
        let project = self.project(place.project);
        let mut releases = project
            .map(|project| project.releases.clone())
            .unwrap_or_default();
        // Releases are sorted newest first.
        let at = releases.partition_point(|release| release.version > place.version);
        match releases
            .get_mut(at)
            .filter(|release| release.version == place.version)
        {
            Some(release) => {
                release
                    .packages
                    .retain(|other| *other.path != *package.path);
                release.packages.push(package);
            }
            None => releases.insert(
                at,
                Release {
                    version: place.version,
                    version_text: place.version_text.into(),
                    rules: Arc::new(rules),
                    held_back: None,
                    packages: vec![package],
                },
            ),
        }
        Ok(Catalog::of_project(place.project, releases))
    }

    /// Returns a catalogue of one project as it would be with these rules of some releases. `None` in place of rules
    /// removes the release.
    pub fn with_rules(
        groups: &Groups,
        project: &Project,
        edits: &[(Version, Option<Arc<Rules>>)],
    ) -> Catalog {
        let changed = |release: &Release| {
            let edit = edits
                .iter()
                .find(|(version, _)| *version == release.version);
            let Some((_, rules)) = edit else {
                return Some(release.clone());
            };
            let rules = rules.as_ref()?;
            let applied = groups.apply(rules);
            let mut release = Release {
                rules: applied.rules,
                held_back: applied.held_back,
                ..release.clone()
            };
            for package in &mut release.packages {
                if let Ok(place) = name::firmware_path(&package.path) {
                    package.base_core = package.kind.base_core(place.base_core, rules);
                }
            }
            Some(release)
        };
        let releases: Vec<Release> = project.releases.iter().filter_map(changed).collect();
        match releases.is_empty() {
            true => Catalog::default(),
            false => Catalog::of_project(&project.name, releases),
        }
    }

    /// A catalogue of one project.
    fn of_project(name: &str, releases: Vec<Release>) -> Catalog {
        let mut catalog = Catalog {
            projects: vec![Project::new(name.into(), releases)],
            ..Catalog::default()
        };
        catalog.index_keys();
        catalog
    }

    /// The release that a path belongs to, if it exists.
    pub fn release_at(&self, place: &FirmwarePath<'_>) -> Option<&Release> {
        let project = self.project(place.project)?;
        project
            .releases
            .iter()
            .find(|release| release.version == place.version)
    }

    /// Describes what looks like a mistake in a file that is accepted nevertheless.
    pub fn warnings_about(&self, candidate: Candidate<'_>) -> Vec<String> {
        let mut warnings = Vec::new();
        let Ok(place) = candidate_path(candidate.path) else {
            return warnings;
        };
        warnings.extend(candidate.kind.missing_header(place.platform));
        let newest = self.project(place.project).and_then(|p| p.releases.first());
        let first = Marker::first_field(place.marker);
        let is_above =
            |newest: &&Release| standing(newest.version, place.version, first) == Standing::Older;
        if let Some(newest) = newest.filter(is_above) {
            warnings.push(format!(
                "version {} exists and is higher: modules that have it will not take this one",
                newest.version_text
            ));
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firmware::catalog::{ScanResult, ScannedFile};
    use crate::firmware::package::Inspected;
    use crate::os::fs::FileStamp;

    fn catalog(files: &[(&str, u8)]) -> Catalog {
        let files = files
            .iter()
            .map(|(path, byte)| ScannedFile {
                path: (*path).to_owned(),
                stamp: FileStamp {
                    dev: 1,
                    ino: u64::from(*byte),
                    size: 1,
                    mtime: 0,
                    ctime: 0,
                },
                inspected: Inspected {
                    content: ContentId([*byte; 32]),
                    md5: [0; 16],
                    size: 1,
                    kind: PackageKind::Generic,
                },
            })
            .collect();
        let found = ScanResult {
            files,
            ..ScanResult::default()
        };
        Catalog::build(found)
    }

    fn generic(path: &str, byte: u8) -> Candidate<'_> {
        Candidate {
            path,
            kind: PackageKind::Generic,
            content: Some(ContentId([byte; 32])),
        }
    }

    #[test]
    fn only_firmware_with_a_valid_path_is_accepted() {
        for (path, part) in [
            ("P/2.0.1/u.soc", "factory file"),
            ("P/2.0.1/release.json", "not named as firmware"),
            ("P/2.0.1/u.bin.sha256", "not named as firmware"),
            ("P/2.0.1/.u.bin", "hidden"),
            ("P/2.0.1/u.bin.part", "hidden"),
            ("u.bin", "Luatools"),
            ("P/u.bin", "names no version"),
            ("P/x/u.bin", "is not a version"),
            (".luat-ota/2.0.1/u.bin", "the server ignores"),
            ("P/2.0.1/x/u.bin", "from-CORE"),
            ("A,B/2.0.1/u.bin", "comma"),
        ] {
            let sentence = candidate_path(path).unwrap_err();
            assert!(sentence.contains(part), "{path}: {sentence}");
        }
        assert!(candidate_path("P/2.0.1/u.bin").is_ok());
        assert!(candidate_path("P_2012.001.004_LuatOS-SoC_Air780EPM.bin").is_ok());
    }

    #[test]
    fn a_conflicting_file_is_refused_and_an_identical_one_is_not() {
        let catalog = catalog(&[("P/2.0.1/u.bin", 1)]);
        let rules = Rules::default();
        let sentence = catalog
            .check_candidate(generic("P/2.0.1/v.bin", 2), &rules)
            .unwrap_err();
        assert!(sentence.contains("P/2.0.1/u.bin"), "{sentence}");
        let beside = generic("P_2.0.1/v.bin", 2);
        assert!(catalog.check_candidate(beside, &rules).is_err());
        for good in [
            generic("P/2.0.1/v.bin", 1),
            generic("P/2.0.1/from-2008/v.bin", 2),
            generic("P/2.0.2/v.bin", 2),
            generic("P/2.0.1/P_2.0.1_LuatOS-SoC_EC618.bin", 2),
        ] {
            assert_eq!(
                catalog.check_candidate(good, &rules),
                Ok(()),
                "{}",
                good.path
            );
        }
    }

    #[test]
    fn a_core_delta_needs_its_base() {
        let delta = |path| Candidate {
            path,
            kind: PackageKind::Ec7xx { delta: true },
            content: None,
        };
        let catalog = Catalog::default();
        let rules = Rules::default();
        assert!(
            catalog
                .check_candidate(delta("P/2012.1.4/u.bin"), &rules)
                .is_err()
        );
        assert!(
            catalog
                .check_candidate(delta("P/2012.1.4/from-2008/u.bin"), &rules)
                .is_ok()
        );
        let named = Rules::parse(br#"{"base_core": 2008}"#).unwrap();
        assert!(
            catalog
                .check_candidate(delta("P/2012.1.4/u.bin"), &named)
                .is_ok()
        );
    }

    #[test]
    fn an_older_version_than_the_newest_causes_a_warning() {
        let catalog = catalog(&[("P/2.0.1/u.bin", 1)]);
        assert_eq!(catalog.warnings_about(generic("P/2.0.0/u.bin", 2)).len(), 1);
        assert!(
            catalog
                .warnings_about(generic("P/2.0.2/u.bin", 2))
                .is_empty()
        );
        // The file lacks the header of its platform. Its script is newer than 2.0.1, or older.
        let ec = generic("P_2012.3.4_LuatOS-SoC_EC618.bin", 2);
        assert_eq!(catalog.warnings_about(ec).len(), 1);
        let ec = generic("P_2012.1.4_LuatOS-SoC_EC618.bin", 2);
        assert_eq!(catalog.warnings_about(ec).len(), 2);
    }

    // Case 41.
    #[test]
    fn a_plain_version_beside_core_forms_causes_a_warning_only_if_its_script_is_older() {
        let catalog = catalog(&[("P/2012.001.002/u.bin", 1)]);
        assert!(
            catalog
                .warnings_about(generic("P/1.0.9/u.bin", 2))
                .is_empty()
        );
        assert_eq!(catalog.warnings_about(generic("P/1.0.1/u.bin", 2)).len(), 1);
    }
}
