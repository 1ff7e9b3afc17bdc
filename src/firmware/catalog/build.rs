//! From what a scan found to a catalogue.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use super::{
    Catalog, ContentSource, Package, Project, Release, Remark, ScanResult, ScannedFile,
    ScannedRules,
};
use crate::firmware::audience::DeviceSet;
use crate::firmware::name::{self, Marker, RulesPlace};
use crate::firmware::package::{ChipFamily, PackageKind};
use crate::firmware::rules::Rules;
use crate::firmware::version::Version;
use crate::os::fs::Stamp;

/// A 2G module has room for an update of this many bytes at most on its smaller cores
/// (docs/protocol.md 5b).
const ROOM_ON_2G: u64 = 800_000;

/// What 65535 packets of 1022 bytes carry (docs/protocol.md 6): a larger file is not offered over UDP.
const ROOM_IN_PACKETS: u64 = 65_535 * 1022;

impl Catalog {
    /// Builds the catalogue. `previous` is the one before it: a project that says the same as there
    /// keeps its `since`, any other has changed `now`.
    pub fn build(found: ScanResult, previous: Option<&Catalog>, now: Instant) -> Catalog {
        let mut catalog = Catalog {
            quarantined: found.quarantined,
            ignored: found.ignored,
            waiting: found.waiting,
            unread: found.unread,
            unlisted: found.unlisted,
            ..Catalog::default()
        };
        for ScannedRules { path, rules, .. } in &found.rules {
            warn_about_ids(path, rules.as_deref(), &mut catalog.warnings);
        }
        let paths = found.files.iter().map(|file| &file.path);
        let paths = paths.chain(found.rules.iter().map(|rules| &rules.path));
        warn_about_unicode(paths.map(String::as_str), &mut catalog.warnings);
        let rules = RulesByPlace::read(found.rules, &mut catalog.quarantined);
        let mut candidates = Vec::new();
        for file in found.files {
            match Candidate::of(file, &rules) {
                Ok(candidate) => candidates.push(candidate),
                Err(remark) => catalog.quarantined.push(remark),
            }
        }
        // By project, the newest first.
        candidates.sort_by(|a, b| (&a.project, b.version).cmp(&(&b.project, a.version)));
        warn_about_names(&candidates, &mut catalog.warnings);
        for candidates in candidates.chunk_by(|a, b| a.project == b.project) {
            catalog.add(candidates, &rules, previous, now);
        }
        catalog.index_keys();
        // Equal folders must make equal catalogues.
        catalog.sources.sort();
        for list in [
            &mut catalog.quarantined,
            &mut catalog.ignored,
            &mut catalog.warnings,
        ] {
            list.sort();
        }
        catalog.waiting.sort();
        catalog.unread.sort();
        catalog
    }

    /// Adds the project of these candidates, the newest of which come first.
    fn add(
        &mut self,
        candidates: &[Candidate],
        rules: &RulesByPlace,
        previous: Option<&Catalog>,
        now: Instant,
    ) {
        let Some(Candidate { project: name, .. }) = candidates.first() else {
            return;
        };
        let releases: Vec<Release> = candidates
            .chunk_by(|a, b| a.version == b.version)
            .filter_map(|candidates| release(candidates, rules, &mut self.quarantined))
            .collect();
        for candidate in candidates {
            let package = &candidate.package;
            let release = releases.binary_search_by(|r| candidate.version.cmp(&r.version));
            let release = release.ok().and_then(|at| releases.get(at));
            if release.is_some_and(|r| r.packages.iter().any(|p| p.path == package.path)) {
                self.sources.push(ContentSource {
                    content: package.content,
                    path: package.path.clone(),
                    stamp: candidate.stamp,
                    size: package.size,
                });
            }
        }
        let since = previous
            .and_then(|catalog| catalog.project(name))
            .filter(|project| project.releases == releases)
            .map_or(now, |project| project.since);
        let project = Project::new(name.clone(), releases, since);
        let luatos = candidates.iter().any(|candidate| candidate.luatos);
        warn_about(&project, luatos, &mut self.warnings);
        self.projects.push(project);
    }
}

/// A file that may become a package of a release.
struct Candidate {
    project: Box<str>,
    version: Version,
    version_text: Box<str>,
    /// By its name or its kind it is for LuatOS.
    luatos: bool,
    /// The marker in its name.
    marker: Option<Marker>,
    package: Package,
    stamp: Stamp,
}

impl Candidate {
    fn of(file: ScannedFile, rules: &RulesByPlace) -> Result<Candidate, Remark> {
        let place = match name::place(&file.path) {
            Ok(place) => place,
            Err(text) => {
                return Err(Remark {
                    path: file.path,
                    text,
                });
            }
        };
        if rules.is_misplaced_in(folder_of(&file.path)) {
            return Err(Remark {
                text: "the release.json beside it is not read there, so nobody knows who may have \
                       the file: move the rules to the project or the release"
                    .to_owned(),
                path: file.path,
            });
        }
        let kind = file.inspected.kind;
        if let Some(text) = kind.contradicts(place.platform) {
            return Err(Remark {
                path: file.path,
                text,
            });
        }
        Ok(Candidate {
            project: place.project.into(),
            version: place.version,
            version_text: place.version_text.into(),
            marker: place.marker,
            luatos: place.marker == Some(Marker::SoC)
                || !matches!(kind, PackageKind::Generic | PackageKind::LuaDb),
            package: Package {
                path: file.path.as_str().into(),
                content: file.inspected.content,
                size: file.inspected.size,
                kind,
                platform: place.platform.map(Into::into),
                base_core: place.base_core,
            },
            stamp: file.stamp,
        })
    }
}

/// The release of these candidates: applies its rules and quarantines what cannot be told apart; `None`
/// if nothing is left.
fn release(
    candidates: &[Candidate],
    rules: &RulesByPlace,
    quarantined: &mut Vec<Remark>,
) -> Option<Release> {
    let first = candidates.first()?;
    let (rules, held_back) = rules.of(&first.project, first.version);
    let mut packages: Vec<Package> = candidates.iter().map(|c| c.package.clone()).collect();
    for package in &mut packages {
        // A script-only package fits without a base; what may hold a core delta takes the rule's.
        if package.kind.needs_base() || package.kind == PackageKind::Generic {
            package.base_core = package.base_core.or(rules.base_core);
        }
    }
    let no_base = |package: &Package| package.kind.needs_base() && package.base_core.is_none();
    // While its rules cannot be read, nobody knows whether they name the base.
    if held_back.is_none() {
        packages.retain(|package| {
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
    let mut packages = without_rivals(packages, quarantined);
    if packages.is_empty() {
        return None;
    }
    // Those for a platform first, then by path: the order in which they are tried and shown.
    packages.sort_by(|a, b| (a.platform.is_none(), &a.path).cmp(&(b.platform.is_none(), &b.path)));
    Some(Release {
        version: first.version,
        version_text: first.version_text.clone(),
        rules,
        held_back,
        packages,
    })
}

/// Two files for the same platform and base with different bytes: nobody can say which is meant, so
/// neither is served. With the same bytes, the first by path stands for both.
fn without_rivals(mut packages: Vec<Package>, quarantined: &mut Vec<Remark>) -> Vec<Package> {
    let claim = |package: &Package| {
        let platform = package.platform.as_deref().map(str::to_ascii_lowercase);
        (platform, package.base_core)
    };
    packages.sort_by(|a, b| (claim(a), &a.path).cmp(&(claim(b), &b.path)));
    let mut left = Vec::new();
    for rivals in packages.chunk_by(|a, b| claim(a) == claim(b)) {
        if let Some(first) = rivals.first()
            && rivals.iter().all(|rival| rival.content == first.content)
        {
            left.push(first.clone());
            continue;
        }
        for package in rivals {
            let other = rivals
                .iter()
                .find(|other| other.path != package.path)
                .map_or("another file", |other| &other.path);
            quarantined.push(Remark {
                path: package.path.to_string(),
                text: format!(
                    "{other} claims the same release and platform with other bytes: keep one of them"
                ),
            });
        }
    }
    left
}

/// The rules that were found, by whose they are.
#[derive(Default)]
struct RulesByPlace {
    /// Sorted by project and version, no two for the same.
    states: Vec<Ruling>,
    /// Folders with a release.json where none has a meaning; sorted.
    misplaced: Vec<String>,
}

/// What one rules file says.
struct Ruling {
    project: String,
    /// `None`: of the project as a whole.
    version: Option<Version>,
    path: String,
    state: RulesState,
}

impl Ruling {
    fn place(&self) -> (&str, Option<Version>) {
        (&self.project, self.version)
    }
}

/// The rules in force at one place, or why there are none.
type RulesState = Result<Arc<Rules>, Box<str>>;

impl RulesByPlace {
    fn read(found: Vec<ScannedRules>, quarantined: &mut Vec<Remark>) -> RulesByPlace {
        let mut by_place = RulesByPlace::default();
        for ScannedRules { path, rules, error } in found {
            let place = match name::rules_place(&path) {
                Ok(place) => place,
                Err(text) => {
                    by_place.misplaced.push(folder_of(&path).to_owned());
                    quarantined.push(Remark { path, text });
                    continue;
                }
            };
            let state = match (&rules, &error) {
                (Some(rules), _) => Ok(Arc::clone(rules)),
                (None, Some(error)) => Err(format!("{path}: {error}").into()),
                (None, None) => Err(format!("{path} is not read yet").into()),
            };
            let (project, version) = match place {
                RulesPlace::Project(project) => (project, None),
                RulesPlace::Release(project, version) => (project, Some(version)),
            };
            by_place.states.push(Ruling {
                project: project.to_owned(),
                version,
                path: path.clone(),
                state,
            });
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
        by_place.misplaced.sort();
        by_place.states.sort_by(|a, b| a.place().cmp(&b.place()));
        by_place.states.dedup_by(|second, first| {
            let is_second = second.place() == first.place();
            if is_second {
                quarantined.extend(rivals(first, second));
                first.state = Err(format!(
                    "{} and {} both rule it, and nobody knows which is meant",
                    first.path, second.path
                )
                .into());
            }
            is_second
        });
        by_place
    }

    fn is_misplaced_in(&self, folder: &str) -> bool {
        let place = |misplaced: &String| misplaced.as_str().cmp(folder);
        self.misplaced.binary_search_by(place).is_ok()
    }

    /// What was read for a release, or with no version for its project.
    fn state(&self, project: &str, version: Option<Version>) -> Option<&RulesState> {
        let place = |ruling: &Ruling| ruling.place().cmp(&(project, version));
        let at = self.states.binary_search_by(place).ok()?;
        self.states.get(at).map(|ruling| &ruling.state)
    }

    /// The merged rules of a release, and why it is held back if they cannot be read.
    fn of(&self, project: &str, version: Version) -> (Arc<Rules>, Option<Box<str>>) {
        let own = self.state(project, Some(version));
        match (own, self.state(project, None)) {
            (None, None) => (Arc::default(), None),
            (Some(Err(why)), _) | (_, Some(Err(why))) => (Arc::default(), Some(why.clone())),
            // Shared, not copied: a project of ten thousand releases has one list of devices.
            (None, Some(Ok(rules))) | (Some(Ok(rules)), None) => (Arc::clone(rules), None),
            (Some(Ok(own)), Some(Ok(project))) => (Arc::new(own.over(project)), None),
        }
    }
}

/// Two rules files for one place, each with the other's name.
fn rivals(first: &Ruling, second: &Ruling) -> [Remark; 2] {
    [(first, second), (second, first)].map(|(one, other)| Remark {
        path: one.path.clone(),
        text: format!(
            "{} rules the same: nobody gets what they rule until one of them is gone",
            other.path
        ),
    })
}

/// The folder of a path; empty at the top.
fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// Warns of platforms that no module names: with something behind their name that is no build stamp.
fn warn_about_names(candidates: &[Candidate], warnings: &mut Vec<Remark>) {
    let is_added = |marker: Marker, platform: &str| match platform.rsplit_once('_') {
        // Platforms of LuatOS-SoC have no `_`; others do (`RDA8910_TTS`).
        Some(_) if marker == Marker::SoC => true,
        Some((_, last)) => {
            let words = ["FOTA", "OTA", "DFOTA", "UPDATE"];
            let is_number = last.len() >= 8 && last.bytes().all(|byte| byte.is_ascii_digit());
            is_number || words.iter().any(|word| last.eq_ignore_ascii_case(word))
        }
        None => false,
    };
    for candidate in candidates {
        if let (Some(marker), Some(platform)) = (candidate.marker, &candidate.package.platform)
            && is_added(marker, platform)
        {
            warnings.push(Remark {
                path: candidate.package.path.to_string(),
                text: format!(
                    "is for the platform `{platform}`, and only a module that calls its own so gets it: take \
                     what stands behind the platform's name off the file's"
                ),
            });
        }
    }
}

/// Warns of entries of `allow` and `deny` that no device can match.
fn warn_about_ids(path: &str, rules: Option<&Rules>, warnings: &mut Vec<Remark>) {
    let lists = rules.map(|rules| [("allow", &rules.allow), ("deny", &rules.deny)]);
    for (name, list) in lists.into_iter().flatten() {
        for (entry, digits) in list.iter().flat_map(DeviceSet::odd) {
            warnings.push(Remark {
                path: path.to_owned(),
                text: format!(
                    "`{entry}` in {name} has {digits} digits: an IMEI has 15, so one has been lost or added"
                ),
            });
        }
    }
}

/// Warns of folders and files whose names are decomposed Unicode: `é` as `e` and an accent, as macOS writes it.
/// Modules and other computers write the same name with other bytes.
fn warn_about_unicode<'p>(paths: impl Iterator<Item = &'p str>, warnings: &mut Vec<Remark>) {
    let mut odd = BTreeSet::new();
    for path in paths.filter(|path| !path.is_ascii()) {
        let Some(at) = path.find(is_combining) else {
            continue;
        };
        let end = path.get(at..).and_then(|rest| rest.find('/'));
        let end = end.map_or(path.len(), |end| at.saturating_add(end));
        odd.extend(path.get(..end));
    }
    warnings.extend(odd.into_iter().map(|path| Remark {
        path: path.to_owned(),
        text: "its name is decomposed Unicode, as macOS writes it: no module asks for a project of this name. \
               Rename it on another computer, or type the name anew"
            .to_owned(),
    }));
}

/// A mark or letter that composed Unicode joins with the one before it: an accent, a voiced mark of kana, or the
/// vowel or end of a Hangul syllable.
fn is_combining(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36f}' | '\u{3099}' | '\u{309a}' | '\u{1161}'..='\u{11ff}')
}

/// Says what is served but looks like a mistake.
fn warn_about(project: &Project, luatos: bool, warnings: &mut Vec<Remark>) {
    let mut warn = |path: &str, text: String| {
        warnings.push(Remark {
            path: path.to_owned(),
            text,
        });
    };
    let name = &project.name;
    let releases = project.releases.iter();
    let mut packages: Vec<(&Release, &Package)> = releases
        .flat_map(|release| release.packages.iter().map(move |p| (release, p)))
        .collect();
    packages.sort_by(|(_, a), (_, b)| a.content.cmp(&b.content));
    for twins in packages.chunk_by(|(_, a), (_, b)| a.content == b.content) {
        let Some((newest, _)) = twins.first() else {
            continue;
        };
        for (_, package) in twins.iter().filter(|(r, _)| r.version != newest.version) {
            warn(
                &package.path,
                format!(
                    "has the same bytes as release {} of {name}: was VERSION raised in the script? A \
                     module that comes back with its old version asks again for ever",
                    newest.version_text
                ),
            );
        }
    }
    for (_, package) in packages {
        let platform = package.platform.as_deref();
        let family = platform.and_then(ChipFamily::of_platform);
        if let Some(text) = package.kind.lacks_header(platform) {
            warn(&package.path, text);
        }
        if family == Some(ChipFamily::Rda8955) && package.size > ROOM_ON_2G {
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
    if !luatos {
        return;
    }
    let newer = project.by_script();
    for (other, release) in newer.zip(project.by_script().skip(1)) {
        if other.version.without_middle() == release.version.without_middle() {
            let [_, middle, ..] = release.version.fields();
            warn(
                &format!("{name}/{}", release.version_text),
                format!(
                    "differs from release {} only in its middle number ({middle}), which LuatOS modules \
                     do not send: they take the two for the same",
                    other.version_text
                ),
            );
        }
    }
}
