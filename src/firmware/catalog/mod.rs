//! Catalogue of the firmware folder: the projects, their releases newest first, the packages of each release, and the
//! quarantined files with the reasons. Immutable; a change in the folder produces a new catalogue.

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
    /// Path relative to the firmware folder, with `/` as separator.
    pub path: Box<str>,
    /// Hash of the file's bytes.
    pub content: ContentId,
    /// Size in bytes.
    pub size: u64,
    /// Kind of the package.
    pub kind: PackageKind,
    /// Platform that the file name contains; `None` if the package is for every module of the project.
    pub platform: Option<Box<str>>,
    /// The only core that the package can be applied to; `None` if it fits any core.
    pub base_core: Option<u32>,
}

impl Package {
    /// The file name without its folders.
    pub fn file_name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    /// Lower-case platform and base core. No two packages of a release have the same pair.
    pub(crate) fn claim(&self) -> (Option<String>, Option<u32>) {
        let platform = self.platform.as_deref().map(str::to_ascii_lowercase);
        (platform, self.base_core)
    }

    /// Whether a module of this family runs another core after installing the package, because the package holds a core
    /// delta or a whole core.
    pub fn brings_core(&self, family: Option<ChipFamily>) -> bool {
        self.base_core.is_some() || self.kind.carries_core(family)
    }
}

/// One version of a project.
#[derive(Clone, Debug, PartialEq)]
pub struct Release {
    /// Version of the release.
    pub version: Version,
    /// Version as written in the folder or file name.
    pub version_text: Box<str>,
    /// Rules of the release, merged over the rules of its project.
    pub rules: Arc<Rules>,
    /// Reason why no device gets the release, if its rules cannot be parsed and never could, or if it denies a group
    /// that cannot be used. A sentence.
    pub held_back: Option<Box<str>>,
    /// Packages of the release, those for a platform first.
    pub packages: Vec<Package>,
}

/// One project.
#[derive(Clone, Debug, PartialEq)]
pub struct Project {
    /// Name of the project.
    pub name: Box<str>,
    /// Releases, newest first; empty if all files of the project are quarantined.
    pub releases: Vec<Release>,
    /// Positions in `releases` of the releases not in core form, sorted by what LuatOS reports of their versions.
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
        // The sort is stable: of two versions that differ only in the middle number, the higher one stays first.
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

    /// The releases that are not in core form, sorted as a LuatOS module compares them: by the first and third number,
    /// newest first.
    pub fn by_script(&self) -> impl Iterator<Item = &Release> {
        self.by_script
            .iter()
            .filter_map(|&at| self.releases.get(at))
    }

    /// Whether any release has the rule `allow_downgrade`.
    pub fn has_downgrades(&self) -> bool {
        self.has_downgrades
    }
}

/// A file that holds a certain content.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContentSource {
    /// Hash of the file's bytes.
    pub content: ContentId,
    /// Path relative to the firmware folder.
    pub path: Box<str>,
    /// Stamp of the file that was hashed.
    pub stamp: FileStamp,
    /// Size in bytes.
    pub size: u64,
}

/// Owner of a `project_key`.
#[derive(Clone, Copy, Debug)]
pub enum KeyOwner<'c> {
    /// No project has the key.
    None,
    /// Exactly one project has the key.
    One(&'c Project),
    /// Several projects have the key.
    Several,
}

/// Remark for the operator about one path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Remark {
    /// Path relative to the firmware folder.
    pub path: String,
    /// Text of the remark, a sentence.
    pub text: String,
}

impl Remark {
    /// Creates a remark about this path.
    pub fn new(path: impl Into<String>, text: impl Into<String>) -> Remark {
        Remark {
            path: path.into(),
            text: text.into(),
        }
    }
}

/// Number of files that are counted and not listed, because there are very many of their kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unlisted {
    /// Files that are not served.
    pub quarantined: usize,
    /// Files that are no firmware.
    pub ignored: usize,
}

/// Result of a scan, the input to [`Catalog::build`].
#[derive(Debug, Default)]
pub struct ScanResult {
    /// Firmware files that were read and are valid.
    pub files: Vec<ScannedFile>,
    /// Rules files (release.json).
    pub rules: Vec<ScannedRules>,
    /// Groups of devices.
    pub groups: Vec<ScannedGroup>,
    /// Files that are not served, with the reasons.
    pub quarantined: Vec<Remark>,
    /// Files that are no firmware and are ignored.
    pub ignored: Vec<Remark>,
    /// Firmware files that are not settled or not read yet.
    pub waiting: Vec<String>,
    /// Folders that cannot be read at present.
    pub unread: Vec<String>,
    /// See [`Catalog::reading`].
    pub reading: bool,
    /// Numbers of files that are in none of the lists.
    pub unlisted: Unlisted,
}

/// A firmware file that was read to the end.
#[derive(Debug)]
pub struct ScannedFile {
    /// Path relative to the firmware folder, with `/` as separator.
    pub path: String,
    /// Stamp of the file that was read.
    pub stamp: FileStamp,
    /// Result of the validation.
    pub inspected: Inspected,
}

/// A rules file (release.json).
#[derive(Debug)]
pub struct ScannedRules {
    /// Path relative to the firmware folder, with `/` as separator.
    pub path: String,
    /// The last valid rules, if the file ever had any.
    pub rules: Option<Arc<Rules>>,
    /// The error in the file at present.
    pub error: Option<String>,
}

/// A group of devices.
#[derive(Debug)]
pub struct ScannedGroup {
    /// Path of the group's file, which is at the top of the firmware folder.
    pub path: String,
    /// The group, or the error in its file. The error is empty if the file was not read yet.
    pub group: Result<Arc<Group>, String>,
}

impl ScannedGroup {
    fn is_waiting(&self) -> bool {
        self.group.as_ref().is_err_and(String::is_empty)
    }
}

/// Contents of the firmware folder at one time.
#[derive(Debug, Default, PartialEq)]
pub struct Catalog {
    /// Sorted by name.
    projects: Vec<Project>,
    /// Position of the project of each `project_key`; `None` if several projects have the key.
    by_key: HashMap<Box<str>, Option<usize>>,
    /// Sorted by content, and therefore by [`ContentId::short`] as well. Sources of the same content are sorted by
    /// path.
    sources: Vec<ContentSource>,
    /// The groups of devices.
    pub groups: Arc<Groups>,
    /// Files that are not served, with the reasons; sorted by path.
    pub quarantined: Vec<Remark>,
    /// Files that are no firmware and are ignored; sorted by path.
    pub ignored: Vec<Remark>,
    /// Files that are served but look like a mistake; sorted by path.
    pub warnings: Vec<Remark>,
    /// Files that are not settled or not read yet; sorted.
    pub waiting: Vec<String>,
    /// Folders that cannot be read at present; sorted. An empty path is the firmware folder itself, or means that its
    /// medium is missing.
    pub unread: Vec<String>,
    /// Whether files are still being read that were in the folder at the start and needed no settling.
    pub reading: bool,
    /// Numbers of files that are in none of the lists.
    pub unlisted: Unlisted,
}

impl Catalog {
    /// The project of this name, which is case-sensitive.
    pub fn project(&self, name: &str) -> Option<&Project> {
        let at = self.projects.binary_search_by(|p| (*p.name).cmp(name));
        self.projects.get(at.ok()?)
    }

    /// The project that has this `project_key` in its rules or in those of a release.
    pub fn key_owner(&self, key: &str) -> KeyOwner<'_> {
        match self.by_key.get(key) {
            None => KeyOwner::None,
            Some(None) => KeyOwner::Several,
            Some(Some(at)) => self.projects.get(*at).map_or(KeyOwner::None, KeyOwner::One),
        }
    }

    /// Records the owner of each key. Called when all projects have been added.
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

    /// All projects, sorted by name.
    pub fn projects(&self) -> &[Project] {
        &self.projects
    }

    /// Files that hold this content; empty if the content is not in the folder, or no longer.
    pub fn sources(&self, content: ContentId) -> &[ContentSource] {
        let sources = self.sources_from(|source| source.content < content);
        let count = sources.partition_point(|source| source.content == content);
        sources.get(..count).unwrap_or_default()
    }

    /// The sources after those for which `is_before` is true.
    fn sources_from(&self, is_before: impl Fn(&ContentSource) -> bool) -> &[ContentSource] {
        let start = self.sources.partition_point(is_before);
        self.sources.get(start..).unwrap_or_default()
    }

    /// The contents with this [`ContentId::short`].
    pub fn with_short(&self, short: u16) -> impl Iterator<Item = ContentId> + '_ {
        self.sources_from(|source| source.content.short() < short)
            .chunk_by(|a, b| a.content == b.content)
            .filter_map(|of_one| of_one.first())
            .map(|source| source.content)
            .take_while(move |content| content.short() == short)
    }

    /// The content of the file at this path (with `/` as separator), if the rules of its release say `direct`.
    pub fn direct_content(&self, path: &str) -> Option<ContentId> {
        let release = self.release_at(&name::firmware_path(path).ok()?)?;
        let package = release.packages.iter().find(|p| &*p.path == path)?;
        let is_direct = release.rules.direct == Some(true) && release.held_back.is_none();
        is_direct.then_some(package.content)
    }

    /// Whether files of this project are not read yet. The project need not be in the catalogue.
    pub fn has_waiting(&self, project: &str) -> bool {
        has_path_of(project, &self.waiting, |path| path)
    }

    /// Whether files of this project are quarantined. The project need not be in the catalogue.
    pub fn has_quarantined(&self, project: &str) -> bool {
        has_path_of(project, &self.quarantined, |remark| &remark.path)
    }

    /// Whether the contents of the firmware folder are unknown, because it cannot be read or its medium is missing.
    pub fn is_unread(&self) -> bool {
        self.unread.first().is_some_and(String::is_empty)
    }

    /// Whether files of this project may be in a folder that cannot be read. The project need not be in the catalogue.
    pub fn has_unread(&self, project: &str) -> bool {
        let is_its = |folder: &String| folder == project;
        self.is_unread()
            || self.unread.iter().any(is_its)
            || has_path_of(project, &self.unread, |folder| folder)
    }

    /// Number of releases of all projects.
    pub fn release_count(&self) -> usize {
        self.projects.iter().map(|p| p.releases.len()).sum()
    }
}

/// Whether one of these sorted paths belongs to the project. Its folder is `PROJECT/`, and its files outside that
/// folder begin with `PROJECT_`.
fn has_path_of<T>(project: &str, sorted: &[T], path: impl Fn(&T) -> &str) -> bool {
    let start = sorted.partition_point(|item| path(item) < project);
    let from_here = sorted.iter().skip(start);
    from_here
        .map_while(|item| path(item).strip_prefix(project))
        .any(|rest| !project.is_empty() && rest.starts_with(['/', '_']))
}
