//! Kernel features that this process does without, as if the kernel, the file system or a sandbox did not have
//! them: so that each fallback can be tried on any machine (`serve --without`, which is not in the help). Chosen once,
//! before anything is opened; from then on the callers meet the errors of a machine that lacks the feature.

use std::io;
use std::sync::atomic::{AtomicU8, Ordering};

/// Something that not every machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// memfd_create: before 3.17 there is none, and sandboxes forbid it.
    Memfd,
    /// Read leases: many network file systems have none, and nobody has one on another user's file.
    Leases,
    /// TCP_DEFER_ACCEPT.
    DeferAccept,
    /// File system events: network drives and bind mounts from other systems have none, and a user may
    /// have too many.
    Inotify,
}

impl Feature {
    /// All of them.
    pub const ALL: [Feature; 4] = [
        Feature::Memfd,
        Feature::Leases,
        Feature::DeferAccept,
        Feature::Inotify,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Feature::Memfd => "memfd",
            Feature::Leases => "leases",
            Feature::DeferAccept => "defer-accept",
            Feature::Inotify => "inotify",
        }
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }

    /// From here on this process does without it.
    pub fn forgo(self) {
        FORGONE.fetch_or(self.bit(), Ordering::Relaxed);
    }

    /// The error of a kernel that does not have it (ENOSYS), if this process does without it.
    pub fn available(self) -> io::Result<()> {
        match FORGONE.load(Ordering::Relaxed) & self.bit() {
            0 => Ok(()),
            _ => Err(io::Error::from_raw_os_error(libc::ENOSYS)),
        }
    }
}

static FORGONE: AtomicU8 = AtomicU8::new(0);

#[cfg(test)]
mod tests {
    use super::*;

    // That a feature is gone once it is forgone is for the end-to-end tests: it would be gone for all
    // others in this process.
    #[test]
    fn everything_is_available_at_first_and_has_a_bit_and_a_name_of_its_own() {
        let mut bits = 0;
        let mut names = Vec::new();
        for feature in Feature::ALL {
            assert!(feature.available().is_ok());
            assert_eq!(bits & feature.bit(), 0);
            bits |= feature.bit();
            assert!(!names.contains(&feature.name()));
            names.push(feature.name());
        }
    }
}
