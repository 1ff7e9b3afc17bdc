//! The package check of the cores for EC7xx and EC618 (luat_fota_write and luat_fota_done): the
//! only protection of the flash against a wrong body. Used by the [client](super) only. It checks
//! nothing before 93 bytes have arrived, and calls a file that is shorter than its header says
//! "busy", not wrong.

/// Package check of a platform (docs/protocol.md 2c, 5a).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Package {
    /// No check: every body is accepted as firmware.
    Unchecked,
    /// SOC23 interface/src/luat_fota_ec7xx.c: magic 0xEAC37218 (EC716, EC718; Air780E*, Air8000).
    Ec7xx,
    /// The same check for EC618: magic 0xEAF18C16.
    Ec618,
}

/// Number of bytes before the check starts: the header and one byte.
const CHECK_START: usize = 93;
const HEADER: u64 = 92;

impl Package {
    /// Returns the check of a platform, by its bsp (such as `EC618`, `EC718P`, `Air780EPM`,
    /// `Air8000`).
    pub fn of(bsp: &str) -> Package {
        let bsp = bsp.to_ascii_uppercase();
        if ["EC618", "AIR780E", "AIR780EG", "AIR780EX", "AIR700E"].contains(&bsp.as_str()) {
            Package::Ec618
        } else if ["EC71", "AIR780E", "AIR700", "AIR8000"]
            .iter()
            .any(|family| bsp.starts_with(family))
        {
            Package::Ec7xx
        } else {
            Package::Unchecked
        }
    }

    /// Returns why luat_fota_write rejects the bytes received so far; `None` if it does not.
    pub(super) fn rejection(self, bytes: &[u8]) -> Option<String> {
        let magic: u32 = match self {
            Package::Unchecked => return None,
            Package::Ec7xx => 0xEAC3_7218,
            Package::Ec618 => 0xEAF1_8C16,
        };
        if bytes.len() < CHECK_START {
            return None;
        }
        if word(bytes, 0) != Some(magic) {
            return Some("the package has a wrong magic number".to_owned());
        }
        // The CRC is the usual CRC-32 without its final inversion.
        let sum = crc32fast::hash(bytes.get(8..92).unwrap_or_default()) ^ u32::MAX;
        (word(bytes, 4) != Some(sum))
            .then(|| "the package's header does not match its CRC".to_owned())
    }

    /// Whether the file ended before the check could start.
    pub(super) fn is_too_short(self, bytes: &[u8]) -> bool {
        self != Package::Unchecked && bytes.len() < CHECK_START
    }

    /// Returns the promised size if the file is shorter, which makes luat_fota_done busy.
    pub(super) fn promised_if_short(self, bytes: &[u8]) -> Option<u64> {
        if self == Package::Unchecked {
            return None;
        }
        let promised = HEADER
            .saturating_add(u64::from(word(bytes, 52)?))
            .saturating_add(u64::from(word(bytes, 56)?));
        let there = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        (there < promised).then_some(promised)
    }

    /// Whether the bytes are a complete package of one of the platforms.
    pub(super) fn is_whole(bytes: &[u8]) -> bool {
        [Package::Ec7xx, Package::Ec618].into_iter().any(|package| {
            !package.is_too_short(bytes)
                && package.rejection(bytes).is_none()
                && package.promised_if_short(bytes).is_none()
        })
    }
}

/// Reads four bytes at `at`, little-endian.
fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(four.try_into().ok()?))
}

/// Returns a package of EC7xx with a body of `body` bytes. All that the check examines is correct.
#[cfg(test)]
pub(crate) fn sample(body: usize) -> Vec<u8> {
    let mut bytes = vec![0_u8; 92];
    bytes[..4].copy_from_slice(&0xEAC3_7218_u32.to_le_bytes());
    bytes[52..56].copy_from_slice(&u32::try_from(body).unwrap().to_le_bytes());
    let sum = crc32fast::hash(&bytes[8..92]) ^ u32::MAX;
    bytes[4..8].copy_from_slice(&sum.to_le_bytes());
    bytes.extend((0..body).map(|n| u8::try_from(n * 7 % 251).unwrap()));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_checked_from_93_bytes_on() {
        let right = sample(500);
        assert_eq!(Package::Ec7xx.rejection(&right), None);
        assert_eq!(Package::Ec7xx.promised_if_short(&right), None);
        assert!(Package::is_whole(&right));
        assert!(Package::Ec618.rejection(&right).is_some());
        let mut other = right.clone();
        other[60] ^= 1;
        assert_eq!(Package::Ec7xx.rejection(&other[..92]), None);
        assert!(Package::Ec7xx.rejection(&other[..93]).is_some());
        assert_eq!(Package::Ec7xx.promised_if_short(&right[..591]), Some(592));
        assert_eq!(Package::Unchecked.rejection(&other), None);
    }

    #[test]
    fn each_platform_has_its_own_magic() {
        assert_eq!(Package::of("Air780EPM"), Package::Ec7xx);
        assert_eq!(Package::of("EC718P"), Package::Ec7xx);
        assert_eq!(Package::of("EC618"), Package::Ec618);
        assert_eq!(Package::of("ESP32C3"), Package::Unchecked);
    }
}
