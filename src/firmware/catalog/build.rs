//! Builds a catalogue from the result of a scan.

use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry};
use std::sync::Arc;

use super::warnings;
use super::{
    Applied, Catalog, ContentSource, Groups, Package, Project, Release, Remark, ScanResult,
    ScannedFile, ScannedRules,
};
use crate::firmware::name::{self, Marker, RulesOwner};
use crate::firmware::package::PackageKind;
use crate::firmware::rules::Rules;
use crate::firmware::version::Version;
use crate::os::fs::FileStamp;

impl Catalog {
    /// Builds the catalogue from the result of a scan.
    pub fn build(found: ScanResult) -> Catalog {
        let mut catalog = Catalog {
            quarantined: found.quarantined,
            ignored: found.ignored,
            waiting: found.waiting,
            unread: found.unread,
            reading: found.reading,
            unlisted: found.unlisted,
            ..Catalog::default()
        };
        warnings::about_rules(&found.rules, &mut catalog.warnings);
        warnings::about_groups(&found.groups, &mut catalog.warnings);
        let paths = found.files.iter().map(|file| &file.path);
        let paths = paths.chain(found.rules.iter().map(|rules| &rules.path));
        let paths = paths.chain(found.groups.iter().map(|group| &group.path));
        warnings::about_unicode(paths.map(String::as_str), &mut catalog.warnings);
        let unread = found.groups.iter().filter(|group| group.is_waiting());
        catalog
            .waiting
            .extend(unread.map(|group| group.path.clone()));
        catalog.groups = Arc::new(Groups::read(found.groups, &mut catalog.quarantined));
        let rules = RulesByOwner::read(found.rules, &mut catalog);
        let mut files = Vec::new();
        for file in found.files {
            match PlacedFile::of(file, &rules) {
                Ok(file) => files.push(file),
                Err(remark) => catalog.quarantined.push(remark),
            }
        }
        // By project, newest version first.
        files.sort_by(|a, b| (&a.project, b.version).cmp(&(&b.project, a.version)));
        warnings::about_platforms(
            files.iter().map(|file| (file.marker, &file.package)),
            &mut catalog.warnings,
        );
        for files in files.chunk_by(|a, b| a.project == b.project) {
            catalog.add_project(files, &rules);
        }
        catalog.index_keys();
        // Equal folders must result in equal catalogues.
        catalog.sources.sort();
        catalog.quarantined.sort();
        catalog.ignored.sort();
        catalog.warnings.sort();
        catalog.waiting.sort();
        catalog.unread.sort();
        catalog
    }

    /// Adds the project of these files. There is at least one file, and the newest versions come first.
    fn add_project(&mut self, files: &[PlacedFile], rules: &RulesByOwner) {
        let Some(PlacedFile { project: name, .. }) = files.first() else {
            return;
        };
        let mut releases = Vec::new();
        for files in files.chunk_by(|a, b| a.version == b.version) {
            let Some(release) = release(files, rules, &mut self.quarantined) else {
                continue;
            };
            for PlacedFile { package, stamp, .. } in files {
                if release.packages.iter().any(|p| p.path == package.path) {
                    self.sources.push(ContentSource {
                        content: package.content,
                        path: package.path.clone(),
                        stamp: *stamp,
                        size: package.size,
                    });
                }
            }
            releases.push(release);
        }
        let project = Project::new(name.clone(), releases);
        let luatos = files.iter().any(|file| file.luatos);
        warnings::about_packages(&project, luatos, &mut self.warnings);
        self.projects.push(project);
    }
}

/// A firmware file with the information from its path.
struct PlacedFile {
    project: Box<str>,
    version: Version,
    version_text: Box<str>,
    /// Whether the file is for LuatOS, judging by its name or kind.
    luatos: bool,
    /// Marker in the file name.
    marker: Option<Marker>,
    package: Package,
    stamp: FileStamp,
}

impl PlacedFile {
    fn of(file: ScannedFile, rules: &RulesByOwner) -> Result<PlacedFile, Remark> {
        let refused = |text: String| Remark::new(&file.path, text);
        let path = name::firmware_path(&file.path).map_err(refused)?;
        if rules.misplaced.contains(folder_of(&file.path)) {
            let text = "the release.json beside it is ignored there, so the rules of the file are \
                        unknown: move the rules to the project or the release";
            return Err(refused(text.to_owned()));
        }
        let kind = file.inspected.kind;
        if let Some(text) = kind.platform_conflict(path.platform) {
            return Err(refused(text));
        }
        Ok(PlacedFile {
            project: path.project.into(),
            version: path.version,
            version_text: path.version_text.into(),
            marker: path.marker,
            luatos: path.marker == Some(Marker::SoC)
                || !matches!(kind, PackageKind::Generic | PackageKind::LuaDb),
            package: Package {
                path: file.path.as_str().into(),
                content: file.inspected.content,
                size: file.inspected.size,
                kind,
                platform: path.platform.map(Into::into),
                base_core: path.base_core,
            },
            stamp: file.stamp,
        })
    }
}

/// Creates the release of these files: applies the rules and quarantines ambiguous files. `None` if no file is left.
fn release(
    files: &[PlacedFile],
    rules: &RulesByOwner,
    quarantined: &mut Vec<Remark>,
) -> Option<Release> {
    let first = files.first()?;
    let (rules, held_back) = rules.of(&first.project, first.version);
    let mut packages: Vec<Package> = Vec::new();
    for PlacedFile { package, .. } in files {
        let base_core = package.kind.base_core(package.base_core, &rules);
        // While the rules cannot be parsed, it is unknown whether they name the base core.
        if held_back.is_none() && package.kind.needs_base() && base_core.is_none() {
            quarantined.push(Remark::new(
                &*package.path,
                "holds a core delta, which fits exactly one base core, but the core is not given: put \
                 it into a folder from-CORE (like from-2008), or set base_core in release.json",
            ));
        } else {
            packages.push(Package {
                base_core,
                ..package.clone()
            });
        }
    }
    let mut packages = quarantine_conflicts(packages, quarantined);
    if packages.is_empty() {
        return None;
    }
    // Packages for a platform come first, then by path: the order in which they are tried and shown.
    packages.sort_by(|a, b| (a.platform.is_none(), &a.path).cmp(&(b.platform.is_none(), &b.path)));
    Some(Release {
        version: first.version,
        version_text: first.version_text.clone(),
        rules,
        held_back,
        packages,
    })
}

/// Quarantines files for the same platform and base core that have different bytes, because it is unknown which of them
/// is meant. Of files with the same bytes, keeps the first by path.
fn quarantine_conflicts(packages: Vec<Package>, quarantined: &mut Vec<Remark>) -> Vec<Package> {
    let mut by_claim: BTreeMap<_, Vec<Package>> = BTreeMap::new();
    for package in packages {
        by_claim.entry(package.claim()).or_default().push(package);
    }
    let mut kept = Vec::new();
    for mut rivals in by_claim.into_values() {
        rivals.sort_by(|a, b| a.path.cmp(&b.path));
        let mut contents = rivals.iter().map(|rival| rival.content);
        let first = contents.next();
        if contents.all(|content| Some(content) == first) {
            kept.extend(rivals.into_iter().take(1));
            continue;
        }
        for package in &rivals {
            let other = rivals
                .iter()
                .find(|other| other.path != package.path)
                .map_or("another file", |other| &other.path);
            quarantined.push(Remark::new(
                &*package.path,
                format!(
                    "{other} claims the same release and platform with other bytes: keep one of them"
                ),
            ));
        }
    }
    kept
}

/// Rules files by their owner.
#[derive(Default)]
struct RulesByOwner {
    /// Rules of projects (without a version) and releases.
    files: BTreeMap<(String, Option<Version>), OwnedRules>,
    /// Folders with a release.json in a place where no rules are read.
    misplaced: BTreeSet<String>,
}

/// Content of one rules file.
struct OwnedRules {
    path: String,
    /// The rules in force, or the reason why there are none.
    rules: Result<Arc<Rules>, Box<str>>,
    /// Reason why no device may get the release, although the rules can be parsed.
    held_back: Option<Box<str>>,
}

impl RulesByOwner {
    fn read(found: Vec<ScannedRules>, catalog: &mut Catalog) -> RulesByOwner {
        let mut by_owner = RulesByOwner::default();
        let Catalog {
            groups,
            quarantined,
            warnings,
            ..
        } = catalog;
        for ScannedRules { path, rules, error } in found {
            let RulesOwner { project, version } = match name::rules_owner(&path) {
                Ok(owner) => owner,
                Err(text) => {
                    by_owner.misplaced.insert(folder_of(&path).to_owned());
                    quarantined.push(Remark::new(path, text));
                    continue;
                }
            };
            if let Some(error) = &error {
                let consequence = match rules {
                    Some(_) => "the last valid rules stay in force",
                    None => "its releases are not offered until it can be read",
                };
                quarantined.push(Remark::new(&path, format!("{error} ({consequence})")));
            }
            let rules = match (rules, error) {
                (Some(rules), _) => Ok(rules),
                (None, Some(error)) => Err(format!("{path}: {error}").into()),
                (None, None) => Err(format!("{path} is not read yet").into()),
            };
            let applied = rules.map(|rules| groups.apply(&rules));
            let mut held_back = None;
            let rules = applied.map(|applied: Applied| {
                let remarks = applied.remarks.into_iter();
                warnings.extend(remarks.map(|text| Remark::new(&path, text)));
                held_back = applied.held_back;
                applied.rules
            });
            match by_owner.files.entry((project.to_owned(), version)) {
                Entry::Vacant(entry) => {
                    if let Some(why) = &held_back {
                        let text =
                            format!("{why}: its releases are not offered until it can be used");
                        quarantined.push(Remark::new(&path, text));
                    }
                    entry.insert(OwnedRules {
                        path,
                        rules,
                        held_back,
                    });
                }
                Entry::Occupied(mut entry) => entry.get_mut().add_rival(&path, quarantined),
            }
        }
        by_owner
    }

    /// Returns the merged rules of a release, and the reason why the release is held back, if it is.
    fn of(&self, project: &str, version: Version) -> (Arc<Rules>, Option<Box<str>>) {
        let of = |version| self.files.get(&(project.to_owned(), version));
        let (own, project) = (of(Some(version)), of(None));
        let mut held_back = [own, project].into_iter().flatten();
        let held_back = held_back.find_map(|owned| owned.held_back.clone());
        let [own, project] = [own, project].map(|owned| owned.map(|owned| &owned.rules));
        match (own, project) {
            (None, None) => (Arc::default(), None),
            (Some(Err(why)), _) | (_, Some(Err(why))) => (Arc::default(), Some(why.clone())),
            // Shared, not copied, so that a project of ten thousand releases has one list of devices.
            (None, Some(Ok(rules))) | (Some(Ok(rules)), None) => (Arc::clone(rules), held_back),
            (Some(Ok(own)), Some(Ok(project))) => (Arc::new(own.over(project)), held_back),
        }
    }
}

impl OwnedRules {
    /// Records that another file has the same owner, so that neither is in force.
    fn add_rival(&mut self, other: &str, quarantined: &mut Vec<Remark>) {
        for (path, rival) in [(self.path.as_str(), other), (other, self.path.as_str())] {
            let text = format!(
                "{rival} is for the same releases: they are not offered until one of the two files is removed"
            );
            quarantined.push(Remark::new(path, text));
        }
        self.rules = Err(format!(
            "{} and {other} both have rules for it: remove one of them",
            self.path
        )
        .into());
    }
}

/// Returns the folder of a path; empty for a file at the top.
fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}
