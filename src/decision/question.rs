//! The input of a decision: the check, and what is known of the device.

use super::check::Check;
use super::stages::Reached;
use crate::firmware::ContentId;
use crate::firmware::catalog::{Catalog, Project, Release};

/// Everything that a verdict depends on.
#[derive(Clone, Copy, Debug)]
pub struct Question<'c, 'q> {
    /// The releases.
    pub catalog: &'c Catalog,
    /// What is known of the device.
    pub known: Known<'q>,
    /// The check.
    pub check: &'q Check<'q>,
    /// The time, Unix seconds UTC.
    pub unix: i64,
}

/// What is known of a device besides its check.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known<'q> {
    /// Only known devices are served, and this is none of them.
    pub is_unknown_device: bool,
    /// Contents that the loop guard holds back.
    pub looping: Looping,
    /// Releases that the fuse has paused and whose release.json could not be written.
    pub fused: &'q [Fused],
    /// The stages that contents have reached, by content.
    pub reached: &'q [Reached],
    /// The device may try a release that the fuse has paused.
    pub may_try_fused: bool,
    /// The content that the device has received completely and may not run yet.
    pub fetched: Option<Fetched>,
}

/// A content that was delivered to a device which still reports its old version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// The content.
    pub content: ContentId,
    /// Seconds since the delivery.
    pub seconds: u32,
}

/// Contents that a device received repeatedly without running them afterwards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Looping {
    /// Each content, and whether it is also held from a device that `allow` names singly.
    contents: [Option<(ContentId, bool)>; Looping::MOST],
}

impl Looping {
    /// Largest number of contents per device.
    pub const MOST: usize = 8;

    /// Adds a content; ignored beyond [`Looping::MOST`]. `named_too`: also held from a device that `allow` names
    /// singly.
    pub fn add(&mut self, content: ContentId, named_too: bool) {
        if let Some(free) = self.contents.iter_mut().find(|slot| slot.is_none()) {
            *free = Some((content, named_too));
        }
    }

    /// Whether the content is held. `named`: `allow` names the device singly.
    pub fn contains(&self, content: ContentId, named: bool) -> bool {
        let mut all = self.contents.iter().flatten();
        all.any(|(held, named_too)| *held == content && (*named_too || !named))
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.contents.iter().all(Option::is_none)
    }
}

/// A release that the fuse has paused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fused {
    /// The project.
    pub project: Box<str>,
    /// The version, as its folder writes it.
    pub version: Box<str>,
    /// The reason, for `paused`; begins with [`FUSE`].
    pub sentence: Box<str>,
}

impl Fused {
    /// Whether it is this release.
    pub fn is(&self, project: &Project, release: &Release) -> bool {
        self.project == project.name && self.version == release.version_text
    }

    /// The reason for people, where release.json does not say that the release is paused.
    pub fn kept_reason(&self) -> String {
        let why = self.sentence.strip_suffix(SET_TO_FALSE);
        format!(
            "{}; release.json does not say so: resume it on the page or with luat-ota resume {}/{}",
            why.unwrap_or(&self.sentence),
            self.project,
            self.version
        )
    }
}

/// Prefix of the sentence that the fuse writes into `paused`; tells it from a person's.
pub const FUSE: &str = "fuse: ";

/// Suffix of that sentence: how to resume.
pub const SET_TO_FALSE: &str = "; set this to false to resume";
