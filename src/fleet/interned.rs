//! The numbers by which a device's record names its project, what it is on its way to and what it states of
//! itself: texts are long, and there are many records. Given by [`super::targets`] and [`super::profiles`],
//! which alone know what they stand for.

/// A project, interned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProjectId(pub(super) u16);

/// One content of a release, interned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetId(pub(super) u16);

impl TargetId {
    /// No target.
    pub const NONE: TargetId = TargetId(u16::MAX);
}

/// What a device states of itself, interned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProfileId(pub(super) u16);

impl ProfileId {
    /// No profile: it is not known what the device states.
    pub const NONE: ProfileId = ProfileId(u16::MAX);
}
