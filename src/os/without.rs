//! Kernel features that this process does not use, as if the kernel, the file system or a sandbox did not have them.
//! This allows every fallback to be tested on any machine (`serve --without`, which is not in the help). The features
//! are chosen once, before anything is opened; from then on the callers get the errors of a machine that lacks the
//! feature.

use std::io;
use std::sync::atomic::{AtomicU8, Ordering};

/// A feature that not every machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// memfd_create: missing before 3.17, and forbidden by sandboxes.
    Memfd,
    /// Read leases: many network file systems have none, and they are refused for files of other users.
    Leases,
    /// TCP_DEFER_ACCEPT.
    DeferAccept,
    /// File system events: network drives and bind mounts from other systems have none, and a user may have too many.
    Inotify,
}

impl Feature {
    /// All features.
    pub const ALL: [Feature; 4] = [
        Feature::Memfd,
        Feature::Leases,
        Feature::DeferAccept,
        Feature::Inotify,
    ];

    /// Name of the feature on the command line.
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

    /// Stops the use of this feature in this process.
    pub fn disable(self) {
        DISABLED.fetch_or(self.bit(), Ordering::Relaxed);
    }

    /// Fails with the error of a kernel without the feature (ENOSYS), if this process does not use it.
    pub fn available(self) -> io::Result<()> {
        match DISABLED.load(Ordering::Relaxed) & self.bit() {
            0 => Ok(()),
            _ => Err(io::Error::from_raw_os_error(libc::ENOSYS)),
        }
    }
}

static DISABLED: AtomicU8 = AtomicU8::new(0);

#[cfg(test)]
mod tests {
    use super::*;

    // The end-to-end tests check that a disabled feature is unavailable: in this process it would be unavailable for all
    // other tests as well.
    #[test]
    fn each_feature_is_available_and_has_its_own_bit_and_name() {
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
