//! From what a scan found to a catalogue.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use super::{Catalog, Found, FoundRules, Package, Project, Release, Remark, Source};
use crate::firmware::ContentId;
use crate::firmware::name::{self, RulesPlace};
use crate::firmware::package::{Family, Kind};
use crate::firmware::rules::Rules;
use crate::firmware::version::Version;

/// A 2G module has room for an update of this many bytes at most on its smaller cores
/// (protocol.md 5b).
const ROOM_ON_2G: u64 = 800_000;

/// What 65535 packets of 1022 bytes carry (protocol.md 6): a larger file is not offered over UDP.
const ROOM_IN_PACKETS: u64 = 65_535 * 1022;

impl Catalog {
    /// Builds the catalogue. `previous` is the one before it: a project that says the same as there
    /// keeps its `since`, any other has changed `now`.
    pub fn build(found: Found, previous: Option<&Catalog>, now: Instant) -> Catalog {
        let mut catalog = Catalog {
            quarantined: found.quarantined,
            ignored: found.ignored,
            waiting: found.waiting,
            ..Catalog::default()
        };
        let rules = RulesByPlace::read(found.rules, &mut catalog.quarantined);
        let mut drafts: BTreeMap<String, BTreeMap<Version, Draft>> = BTreeMap::new();
        let mut stamps = HashMap::new();
        for file in found.files {
            let place = match name::place(&file.path) {
                Ok(place) => place,
                Err(text) => {
                    catalog.quarantined.push(Remark {
                        path: file.path,
                        text,
                    });
                    continue;
                }
            };
            let package = Package {
                path: file.path.as_str().into(),
                content: file.inspected.content,
                size: file.inspected.size,
                kind: file.inspected.kind,
                platform: place.platform.map(Into::into),
                base_core: place.base_core,
            };
            if rules.misplaced.contains(folder_of(&file.path)) {
                catalog.quarantined.push(Remark {
                    text: "the release.json beside it is not read there, so nobody knows who may have \
                           the file: move the rules to the project or the release"
                        .to_owned(),
                    path: file.path,
                });
                continue;
            }
            stamps.insert(package.path.clone(), file.stamp);
            let draft = drafts
                .entry(place.project.to_owned())
                .or_default()
                .entry(place.version)
                .or_insert_with(|| Draft::named(place.version_text));
            draft.luatos |= place.luatos == Some(true);
            draft.packages.push(package);
        }
        for (name, drafts) in drafts {
            let luatos = drafts.values().any(Draft::is_luatos);
            let releases: Vec<Release> = drafts
                .into_iter()
                .rev()
                .filter_map(|(version, draft)| {
                    let (merged, held_back) = rules.of(&name, version);
                    draft.finish(version, merged, held_back, &mut catalog.quarantined)
                })
                .collect();
            warn_about(&name, &releases, luatos, &mut catalog.warnings);
            let since = previous
                .and_then(|catalog| catalog.project(&name))
                .filter(|project| project.releases == releases)
                .map_or(now, |project| project.since);
            let name: Box<str> = name.into();
            let project = Project::new(name.clone(), releases, since);
            catalog.projects.insert(name, project);
        }
        let packages = catalog
            .projects
            .values()
            .flat_map(|project| &project.releases)
            .flat_map(|release| release.packages.iter().map(move |p| (release, p)));
        for (release, package) in packages {
            if release.rules.direct == Some(true) && release.held_back.is_none() {
                catalog.direct.insert(package.path.clone(), package.content);
            }
            if let Some(&stamp) = stamps.get(&package.path) {
                let source = Source {
                    path: package.path.clone(),
                    stamp,
                    size: package.size,
                };
                catalog
                    .sources
                    .entry(package.content)
                    .or_default()
                    .push(source);
            }
        }
        // Maps have no order; equal folders must make equal catalogues.
        for sources in catalog.sources.values_mut() {
            sources.sort_by(|a, b| a.path.cmp(&b.path));
        }
        catalog.by_short = catalog.sources.keys().map(|id| (id.short(), *id)).collect();
        catalog.by_short.sort_unstable();
        for list in [
            &mut catalog.quarantined,
            &mut catalog.ignored,
            &mut catalog.warnings,
        ] {
            list.sort_by(|a, b| (&a.path, &a.text).cmp(&(&b.path, &b.text)));
        }
        catalog.waiting.sort();
        catalog
    }
}

/// A release while its packages are gathered.
struct Draft {
    version_text: Box<str>,
    /// A file's name says that the platform is a LuatOS one.
    luatos: bool,
    packages: Vec<Package>,
}

impl Draft {
    fn named(version_text: &str) -> Draft {
        Draft {
            version_text: version_text.into(),
            luatos: false,
            packages: Vec::new(),
        }
    }

    fn is_luatos(&self) -> bool {
        let by_kind = |package: &Package| !matches!(package.kind, Kind::Generic | Kind::LuaDb);
        self.luatos || self.packages.iter().any(by_kind)
    }

    /// Applies the rules and quarantines what cannot be told apart; `None` if nothing is left.
    fn finish(
        mut self,
        version: Version,
        rules: Arc<Rules>,
        held_back: Option<Box<str>>,
        quarantined: &mut Vec<Remark>,
    ) -> Option<Release> {
        for package in &mut self.packages {
            // A script-only package fits without a base; what may hold a core delta takes the rule's.
            if package.kind.needs_base() || package.kind == Kind::Generic {
                package.base_core = package.base_core.or(rules.base_core);
            }
        }
        let no_base = |package: &Package| package.kind.needs_base() && package.base_core.is_none();
        // While its rules cannot be read, nobody knows whether they name the base.
        if held_back.is_none() {
            self.packages.retain(|package| {
                if no_base(package) {
                    quarantined.push(Remark {
                        path: package.path.to_string(),
                        text: "holds a core delta, which fits exactly one base core, and nothing says \
                               which: put it into a folder from-CORE (like from-2008), or say base_core \
                               in release.json"
                            .to_owned(),
                    });
                }
                !no_base(package)
            });
        }
        self.quarantine_rivals(quarantined);
        if self.packages.is_empty() {
            return None;
        }
        // Those for a platform first, then by path: the order in which they are tried and shown.
        self.packages
            .sort_by(|a, b| (a.platform.is_none(), &a.path).cmp(&(b.platform.is_none(), &b.path)));
        Some(Release {
            version,
            version_text: self.version_text,
            rules,
            held_back,
            packages: self.packages,
        })
    }

    /// Two files for the same platform and base with different bytes: nobody can say which is meant,
    /// so neither is served. With the same bytes, the first by path stands for both.
    fn quarantine_rivals(&mut self, quarantined: &mut Vec<Remark>) {
        self.packages.sort_by(|a, b| a.path.cmp(&b.path));
        let claim = |package: &Package| {
            let platform = package.platform.as_deref().map(str::to_lowercase);
            (platform, package.base_core)
        };
        let mut by_claim: HashMap<_, Vec<Package>> = HashMap::new();
        for package in self.packages.drain(..) {
            by_claim.entry(claim(&package)).or_default().push(package);
        }
        for mut rivals in by_claim.into_values() {
            let contents: HashSet<ContentId> = rivals.iter().map(|p| p.content).collect();
            if contents.len() == 1 {
                rivals.truncate(1);
                self.packages.append(&mut rivals);
                continue;
            }
            let paths: Vec<&str> = rivals.iter().map(|p| &*p.path).collect();
            for (position, package) in rivals.iter().enumerate() {
                let other = paths
                    .iter()
                    .enumerate()
                    .find(|(other, _)| *other != position)
                    .map_or("another file", |(_, path)| path);
                quarantined.push(Remark {
                    path: package.path.to_string(),
                    text: format!(
                        "{other} claims the same release and platform with other bytes: keep one of them"
                    ),
                });
            }
        }
    }
}

/// The rules that were found, by whose they are.
#[derive(Default)]
struct RulesByPlace {
    projects: HashMap<String, RulesState>,
    releases: HashMap<(String, Version), RulesState>,
    /// Folders with a release.json where none has a meaning.
    misplaced: HashSet<String>,
}

/// The rules in force at one place, or why there are none.
type RulesState = Result<Arc<Rules>, Box<str>>;

impl RulesByPlace {
    fn read(found: Vec<FoundRules>, quarantined: &mut Vec<Remark>) -> RulesByPlace {
        let mut by_place = RulesByPlace::default();
        for FoundRules { path, rules, error } in found {
            let place = match name::rules_place(&path) {
                Ok(place) => place,
                Err(text) => {
                    by_place.misplaced.insert(folder_of(&path).to_owned());
                    quarantined.push(Remark { path, text });
                    continue;
                }
            };
            let state = match (&rules, &error) {
                (Some(rules), _) => Ok(Arc::clone(rules)),
                (None, Some(error)) => Err(format!("{path}: {error}").into()),
                (None, None) => Err(format!("{path} is not read yet").into()),
            };
            match place {
                RulesPlace::Project(project) => {
                    by_place.projects.insert(project.to_owned(), state);
                }
                RulesPlace::Release(project, version) => {
                    by_place
                        .releases
                        .insert((project.to_owned(), version), state);
                }
            }
            if let Some(error) = error {
                let consequence = match rules {
                    Some(_) => "the last good rules stay in force",
                    None => "nobody gets what it rules until it can be read",
                };
                quarantined.push(Remark {
                    path,
                    text: format!("{error} ({consequence})"),
                });
            }
        }
        by_place
    }

    /// The merged rules of a release, and why it is held back if they cannot be read.
    fn of(&self, project: &str, version: Version) -> (Arc<Rules>, Option<Box<str>>) {
        let own = self.releases.get(&(project.to_owned(), version));
        match (own, self.projects.get(project)) {
            (None, None) => (Arc::default(), None),
            (Some(Err(why)), _) | (_, Some(Err(why))) => (Arc::default(), Some(why.clone())),
            // Shared, not copied: a project of ten thousand releases has one list of devices.
            (None, Some(Ok(rules))) | (Some(Ok(rules)), None) => (Arc::clone(rules), None),
            (Some(Ok(own)), Some(Ok(project))) => (Arc::new(own.over(project)), None),
        }
    }
}

/// The folder of a path; empty at the top.
fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// Says what is served but looks like a mistake.
fn warn_about(project: &str, releases: &[Release], luatos: bool, warnings: &mut Vec<Remark>) {
    let mut warn = |path: &str, text: String| {
        warnings.push(Remark {
            path: path.to_owned(),
            text,
        });
    };
    let mut by_content: HashMap<ContentId, &Release> = HashMap::new();
    let mut by_script: HashMap<(u32, u32), &Release> = HashMap::new();
    for release in releases {
        for package in &release.packages {
            let family = package.platform.as_deref().and_then(Family::of_platform);
            match by_content.get(&package.content) {
                Some(other) if other.version != release.version => warn(
                    &package.path,
                    format!(
                        "has the same bytes as release {} of {project}: was VERSION raised in the script? A \
                         module that comes back with its old version asks again for ever",
                        other.version_text
                    ),
                ),
                _ => {
                    by_content.insert(package.content, release);
                }
            }
            if package.kind == Kind::Generic
                && matches!(family, Some(Family::Ec7xx | Family::Ec618))
            {
                warn(
                    &package.path,
                    "does not begin like an update package of its platform: modules with an EC7xx or \
                     EC618 refuse it"
                        .to_owned(),
                );
            }
            if family == Some(Family::Rda8955) && package.size > ROOM_ON_2G {
                warn(
                    &package.path,
                    format!(
                        "has {} bytes: a 2G module has room for 132 to 860 kB, depending on its core",
                        package.size
                    ),
                );
            }
            if package.size > ROOM_IN_PACKETS {
                warn(
                    &package.path,
                    format!(
                        "has {} bytes: over UDP, which carries {ROOM_IN_PACKETS} at most, it is not offered",
                        package.size
                    ),
                );
            }
        }
        let [x, y, z, ..] = release.version.fields();
        if !luatos || release.version.core_form().is_some() {
            continue;
        }
        if let Some(other) = by_script.insert((x, z), release) {
            warn(
                &format!("{project}/{}", release.version_text),
                format!(
                    "differs from release {} only in its middle number ({y}), which LuatOS modules do not \
                     send: they take the two for the same",
                    other.version_text
                ),
            );
        }
    }
}
