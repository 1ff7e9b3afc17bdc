//! The input of a decision: the check and the recorded state of the device.

use super::check::Check;
use super::stages::Reached;
use crate::firmware::ContentId;
use crate::firmware::catalog::{Catalog, Project, Release};

/// The input of a decision. The verdict depends on nothing else.
#[derive(Clone, Copy, Debug)]
pub struct Question<'c, 'q> {
    /// The releases.
    pub catalog: &'c Catalog,
    /// The recorded state.
    pub known: Known<'q>,
    /// The check.
    pub check: &'q Check<'q>,
    /// The time, Unix seconds UTC.
    pub unix: i64,
}

/// State that the server has recorded and a decision uses: of the device, the fuse and the stages.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known<'q> {
    /// Whether only known devices are served and this device is not known.
    pub is_unknown_device: bool,
    /// Contents that the loop guard holds back from the device.
    pub held: HeldContents,
    /// Releases that the fuse has paused and whose release.json does not state the pause.
    pub fused: &'q [Fused],
    /// The stages that contents have reached, by content.
    pub reached: &'q [Reached],
    /// Whether the device may try a release that the fuse has paused.
    pub may_try_fused: bool,
    /// The content that the device has received completely and need not run yet.
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
pub struct HeldContents {
    /// The held contents, and whether each hold also applies to a device that `allow` names individually.
    contents: [Option<(ContentId, bool)>; HeldContents::MAX],
}

impl HeldContents {
    /// Largest number of contents per device.
    pub const MAX: usize = 8;

    /// Adds a content; does nothing if there are [`HeldContents::MAX`]. `named_too`: the hold also applies to a device
    /// that `allow` names individually.
    pub fn add(&mut self, content: ContentId, named_too: bool) {
        if let Some(free) = self.contents.iter_mut().find(|slot| slot.is_none()) {
            *free = Some((content, named_too));
        }
    }

    /// Whether the content is held. `named`: `allow` names the device individually.
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
    /// Whether this entry is for the given release.
    pub fn is_for(&self, project: &Project, release: &Release) -> bool {
        self.project == project.name && self.version == release.version_text
    }

    /// Returns the reason that operators are shown while release.json does not say that the release is paused.
    pub fn shown_reason(&self) -> String {
        let why = self.sentence.strip_suffix(SET_TO_FALSE);
        format!(
            "{}; release.json does not say so: resume it on the page or with luat-ota resume {}/{}",
            why.unwrap_or(&self.sentence),
            self.project,
            self.version
        )
    }
}

/// Prefix of the sentence that the fuse writes into `paused`; distinguishes it from a reason that an operator wrote.
pub const FUSE: &str = "fuse: ";

/// Suffix of the sentence that the fuse writes into `paused`: how to resume the release.
pub const SET_TO_FALSE: &str = "; set this to false to resume";
