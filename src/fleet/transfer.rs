//! Facts about one transfer of bytes of a file.

use super::short_version::ShortVersion;
use crate::firmware::ContentId;

/// A range of bytes of a release's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileRange {
    /// The file.
    pub content: ContentId,
    /// Version of the file's release; empty if unknown.
    pub to: ShortVersion,
    /// Size of the file in bytes.
    pub size: u64,
    /// The first byte of the range.
    pub start: u64,
    /// End of the range: one after its last byte.
    pub end: u64,
}

/// Outcome of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferOutcome {
    /// The transfer reached the end of the file, and the device acknowledged every byte and closed its side in good
    /// order (or, in the packet protocol, requested all packets in order).
    Whole,
    /// The transfer was `Whole`, but a trusted proxy acknowledged the bytes and closed its side. The number of bytes
    /// that the device has is unknown.
    Sent,
    /// Any other end of the transfer.
    Incomplete {
        /// Whether a trusted proxy acknowledged the bytes.
        proxied: bool,
    },
}
