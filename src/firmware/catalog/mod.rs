//! The folder as it stands: projects, their releases newest first, the packages of each, and what is
//! quarantined and why. Immutable; a change in the folder makes a new one.

use std::collections::HashMap;
use std::sync::Arc;

pub use self::groups::{Applied, Groups};
use super::ContentId;
use super::audience::Group;
use super::name;
use super::package::{ChipFamily, Inspected, PackageKind};
use super::rules::Rules;
use super::version::Version;
use crate::os::fs::FileStamp;

mod build;
pub mod candidate;
mod groups;
#[cfg(test)]
pub mod sample;
#[cfg(test)]
mod tests;
mod warnings;

/// One file that may be offered.
#[derive(Clone, Debug, PartialEq)]
pub struct Package {
    /// Where it lies, relative to the firmware folder, parts between `/`.
    pub path: Box<str>,
    /// The hash of its bytes.
    pub content: ContentId,
    /// Its size in bytes.
    pub size: u64,
    /// What kind of package it is.
    pub kind: PackageKind,
    /// The platform that its name says; `None` = every module of the project.
    pub platform: Option<Box<str>>,
    /// The only core that it can be applied to.
    pub base_core: Option<u32>,
}

impl Package {
    /// The file's name without its folders.
    pub fn file_name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    /// What it is for within its release: no two packages have the same platform (in lower case) and base core.
    pub(crate) fn claim(&self) -> (Option<String>, Option<u32>) {
        let platform = self.platform.as_deref().map(str::to_ascii_lowercase);
        (platform, self.base_core)
    }

    /// Whether a module of this family runs another core after installing it: it holds a delta of the core
    /// or the whole core.
    pub fn brings_core(&self, family: Option<ChipFamily>) -> bool {
        self.base_core.is_some() || self.kind.carries_core(family)
    }
}

/// One version of a project.
#[derive(Clone, Debug, PartialEq)]
pub struct Release {
    /// Its version.
    pub version: Version,
    /// The version as the folder or the file writes it.
    pub version_text: Box<str>,
    /// Its own rules on top of its project's.
    pub rules: Arc<Rules>,
    /// Its rules cannot be read and never could be: nobody gets it. The sentence says why.
    pub held_back: Option<Box<str>>,
    /// Its packages, those for a platform first.
    pub packages: Vec<Package>,
}

/// One project.
#[derive(Clone, Debug, PartialEq)]
pub struct Project {
    /// Its name.
    pub name: Box<str>,
    /// Its releases, newest first; empty if all its files are quarantined.
    pub releases: Vec<Release>,
    /// Where in `releases` those are that are not in core form, by what LuatOS sends of them.
    by_script: Vec<usize>,
    has_downgrades: bool,
}

impl Project {
    fn new(name: Box<str>, releases: Vec<Release>) -> Project {
        let mut by_script: Vec<(Version, usize)> = releases
            .iter()
            .enumerate()
            .filter(|(_, release)| release.version.core_form().is_none())
            .map(|(at, release)| (release.version.without_middle(), at))
            .collect();
        // Stable: of two that differ only in the middle number, the higher one stays first.
        by_script.sort_by(|(a, _), (b, _)| b.cmp(a));
        Project {
            name,
            has_downgrades: releases
                .iter()
                .any(|release| release.rules.allow_downgrade == Some(true)),
            releases,
            by_script: by_script.into_iter().map(|(_, at)| at).collect(),
        }
    }

    /// The releases that are not in core form, newest first by the first and third number: as a
    /// LuatOS module sees them.
    pub fn by_script(&self) -> impl Iterator<Item = &Release> {
        self.by_script
            .iter()
            .filter_map(|&at| self.releases.get(at))
    }

    /// Does any release say `allow_downgrade`?
    pub fn has_downgrades(&self) -> bool {
        self.has_downgrades
    }
}

/// Where a content lies.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContentSource {
    /// The hash of its bytes.
    pub content: ContentId,
    /// Relative to the firmware folder.
    pub path: Box<str>,
    /// The file that was hashed.
    pub stamp: FileStamp,
    /// Its size in bytes.
    pub size: u64,
}

/// Whose a `project_key` is.
#[derive(Clone, Copy, Debug)]
pub enum KeyOwner<'c> {
    /// No project has it.
    None,
    /// Exactly one has it.
    One(&'c Project),
    /// More than one has it.
    Several,
}

/// Something about one path that a person should know.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Remark {
    /// Relative to the firmware folder.
    pub path: String,
    /// A sentence.
    pub text: String,
}

impl Remark {
    /// A remark about this path.
    pub fn new(path: impl Into<String>, text: impl Into<String>) -> Remark {
        Remark {
            path: path.into(),
            text: text.into(),
        }
    }
}

/// How many files are counted and not listed, because there are very many like them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unlisted {
    /// Of those that are not served.
    pub quarantined: usize,
    /// Of those that are no firmware.
    pub ignored: usize,
}

/// What a scan found: the input to [`Catalog::build`].
#[derive(Debug, Default)]
pub struct ScanResult {
    /// Firmware files that were read and are whole.
    pub files: Vec<ScannedFile>,
    /// release.json files.
    pub rules: Vec<ScannedRules>,
    /// Groups of devices.
    pub groups: Vec<ScannedGroup>,
    /// What is not served, and why.
    pub quarantined: Vec<Remark>,
    /// What is no firmware and was left alone.
    pub ignored: Vec<Remark>,
    /// Firmware files that are not settled or not read yet.
    pub waiting: Vec<String>,
    /// Folders that cannot be read now.
    pub unread: Vec<String>,
    /// See [`Catalog::reading`].
    pub reading: bool,
    /// Files that are in none of the lists.
    pub unlisted: Unlisted,
}

/// A firmware file that was read to the end.
#[derive(Debug)]
pub struct ScannedFile {
    /// Relative to the firmware folder, parts between `/`.
    pub path: String,
    /// Which file that was.
    pub stamp: FileStamp,
    /// What it is.
    pub inspected: Inspected,
}

/// A release.json.
#[derive(Debug)]
pub struct ScannedRules {
    /// Relative to the firmware folder, parts between `/`.
    pub path: String,
    /// The last good reading, if there ever was one.
    pub rules: Option<Arc<Rules>>,
    /// What is wrong with it now.
    pub error: Option<String>,
}

/// A group of devices.
#[derive(Debug)]
pub struct ScannedGroup {
    /// Its file at the top of the firmware folder.
    pub path: String,
    /// The group, or what is wrong with the file; an empty sentence: it was not read yet.
    pub group: Result<Arc<Group>, String>,
}

impl ScannedGroup {
    fn is_waiting(&self) -> bool {
        self.group.as_ref().is_err_and(String::is_empty)
    }
}

/// The folder as it stands.
#[derive(Debug, Default, PartialEq)]
pub struct Catalog {
    /// Sorted by name.
    projects: Vec<Project>,
    /// The project of each `project_key`, by its position; `None` if several have the key.
    by_key: HashMap<Box<str>, Option<usize>>,
    /// Sorted by content, and so by [`ContentId::short`] as well; those of one content by path.
    sources: Vec<ContentSource>,
    /// The groups of devices.
    pub groups: Arc<Groups>,
    /// What is not served, and why; sorted by path.
    pub quarantined: Vec<Remark>,
    /// What is no firmware and was left alone; sorted by path.
    pub ignored: Vec<Remark>,
    /// What is served but looks like a mistake; sorted by path.
    pub warnings: Vec<Remark>,
    /// Files that are not settled or not read yet; sorted.
    pub waiting: Vec<String>,
    /// Folders that cannot be read now; sorted. Empty text: the firmware folder itself, or its medium is gone.
    pub unread: Vec<String>,
    /// Files that lay in the folder at the start, and could be read at once, are still being read.
    pub reading: bool,
    /// Files that are in none of the lists.
    pub unlisted: Unlisted,
}

impl Catalog {
    /// The project of this name (case matters).
    pub fn project(&self, name: &str) -> Option<&Project> {
        let at = self.projects.binary_search_by(|p| (*p.name).cmp(name));
        self.projects.get(at.ok()?)
    }

    /// The project that has this `project_key` in its rules or in those of a release.
    pub fn with_key(&self, key: &str) -> KeyOwner<'_> {
        match self.by_key.get(key) {
            None => KeyOwner::None,
            Some(None) => KeyOwner::Several,
            Some(Some(at)) => self.projects.get(*at).map_or(KeyOwner::None, KeyOwner::One),
        }
    }

    /// Notes which project has which key. Called when all projects are there.
    fn index_keys(&mut self) {
        for (at, project) in self.projects.iter().enumerate() {
            let keys = project.releases.iter();
            for key in keys.filter_map(|release| release.rules.project_key.as_deref()) {
                match self.by_key.get_mut(key) {
                    None => {
                        self.by_key.insert(key.into(), Some(at));
                    }
                    Some(owner) if *owner != Some(at) => *owner = None,
                    Some(_) => {}
                }
            }
        }
    }

    /// All projects, by name.
    pub fn projects(&self) -> &[Project] {
        &self.projects
    }

    /// Where this content lies; empty if it is not in the folder (any more).
    pub fn sources(&self, content: ContentId) -> &[ContentSource] {
        let sources = self.sources_from(|source| source.content < content);
        let count = sources.partition_point(|source| source.content == content);
        sources.get(..count).unwrap_or_default()
    }

    /// The sources after those for which this is true.
    fn sources_from(&self, is_before: impl Fn(&ContentSource) -> bool) -> &[ContentSource] {
        let start = self.sources.partition_point(is_before);
        self.sources.get(start..).unwrap_or_default()
    }

    /// The contents whose [`ContentId::short`] is this.
    pub fn with_short(&self, short: u16) -> impl Iterator<Item = ContentId> + '_ {
        self.sources_from(|source| source.content.short() < short)
            .chunk_by(|a, b| a.content == b.content)
            .filter_map(|of_one| of_one.first())
            .map(|source| source.content)
            .take_while(move |content| content.short() == short)
    }

    /// The content of the file at this path (parts between `/`), if its release says `direct`.
    pub fn direct(&self, path: &str) -> Option<ContentId> {
        let release = self.release_at(&name::firmware_path(path).ok()?)?;
        let package = release.packages.iter().find(|p| &*p.path == path)?;
        let is_direct = release.rules.direct == Some(true) && release.held_back.is_none();
        is_direct.then_some(package.content)
    }

    /// Are there files of this project, which may be none in the catalogue, that are not read yet?
    pub fn waits_for(&self, project: &str) -> bool {
        any_of(project, &self.waiting, |path| path)
    }

    /// Are there files of this project, which may be none in the catalogue, that are quarantined?
    pub fn quarantines(&self, project: &str) -> bool {
        any_of(project, &self.quarantined, |remark| &remark.path)
    }

    /// Is nothing known of the firmware folder, since it cannot be read or its medium is gone?
    pub fn is_unread(&self) -> bool {
        self.unread.first().is_some_and(String::is_empty)
    }

    /// Is something of this project, which may not be in the catalogue, in a folder that cannot be read?
    pub fn cannot_read(&self, project: &str) -> bool {
        let is_its = |folder: &String| folder == project;
        self.is_unread()
            || self.unread.iter().any(is_its)
            || any_of(project, &self.unread, |folder| folder)
    }

    /// How many releases there are.
    pub fn release_count(&self) -> usize {
        self.projects.iter().map(|p| p.releases.len()).sum()
    }
}

/// Is one of these paths, in their order, one of the project's? Its folder is `PROJECT/`, and a file of its own
/// begins with `PROJECT_`.
fn any_of<T>(project: &str, sorted: &[T], path: impl Fn(&T) -> &str) -> bool {
    let start = sorted.partition_point(|item| path(item) < project);
    let from_here = sorted.iter().skip(start);
    from_here
        .map_while(|item| path(item).strip_prefix(project))
        .any(|rest| !project.is_empty() && rest.starts_with(['/', '_']))
}
