//! Facts about one transfer of bytes of a file.

use super::short_version::ShortVersion;
use crate::firmware::ContentId;

/// A range of bytes of a release's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileRange {
    /// The file.
    pub content: ContentId,
    /// The version of its release; empty: not known.
    pub to: ShortVersion,
    /// Size of the file in bytes.
    pub size: u64,
    /// The first byte of the range.
    pub start: u64,
    /// One after its last byte.
    pub end: u64,
}

/// How a transfer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferOutcome {
    /// It went to the end of the file, the device acknowledged every byte and closed its side in good order (or, by
    /// packets, asked for all of them in order).
    Whole,
    /// The same, but a trusted proxy acknowledged and closed: how much of it the device has is not known.
    Sent,
    /// Anything else.
    Incomplete {
        /// A trusted proxy acknowledged the bytes.
        proxied: bool,
    },
}
