//! The numbers by which a device's record names its project and what it is on its way to: names are long,
//! and there are many records. Given by [`super::targets`], which alone knows what they stand for.

/// A project, interned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProjectId(pub(super) u16);

/// One content of a release, interned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TargetId(pub(super) u16);

impl TargetId {
    /// No target.
    pub const NONE: TargetId = TargetId(u16::MAX);
}
