//! Limits of the public sockets. Each has a flag of the command line, except [`Limits::download_wait`].

use std::net::IpAddr;
use std::time::Duration;

/// Limits for one client, for one network and for all of them together. The defaults are generous, because a limit that
/// an honest fleet reaches strands its devices.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Maximum size of an HTTP request head in bytes, including the request line.
    pub head_bytes: usize,
    /// Maximum number of header lines of an HTTP request.
    pub head_lines: usize,
    /// Time after the accept within which the head must be complete.
    pub head_timeout: Duration,
    /// Time without an acknowledged byte after which a download ends. The whole duration of a download is not limited:
    /// ten minutes at 2 KB/s are normal.
    pub stall_timeout: Duration,
    /// Maximum number of connections, HTTP and TCP together. `None`: [`Limits::automatic_connections`] computes it from
    /// the file limit and the memory.
    pub max_connections: Option<usize>,
    /// Maximum number of connections from one address. Carriers put thousands of modules behind one.
    pub max_connections_per_address: usize,
    /// Maximum number of downloads at once. Beyond that, downloads from byte 0 wait for a slot.
    pub max_downloads: usize,
    /// Longest wait for a slot before the download is refused.
    pub download_wait: Duration,
    /// Bytes per second that all downloads share. Also limits the number of downloads at once. `None`: no limit.
    pub uplink: Option<u64>,
    /// Checks per second over UDP and TCP 2234 from one IPv4 /24 or IPv6 /48, with bursts of five times that number; 0:
    /// no limit.
    pub udp_checks_per_second: u32,
    /// Errors per second (a wrong upgrade id, an unknown text), with the same scope and bursts.
    pub udp_errors_per_second: u32,
    /// Packets per second of downloads with a valid upgrade id, with the same scope and bursts.
    pub udp_gets_per_second: u32,
    /// Proxies whose X-Forwarded-For is trusted.
    pub trusted_proxies: Vec<Cidr>,
    /// Whether a UDP download may continue from another network than the one that it was offered to.
    pub udp_roaming: bool,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            head_bytes: 8192,
            head_lines: 64,
            head_timeout: Duration::from_secs(20),
            stall_timeout: Duration::from_secs(120),
            max_connections: None,
            max_connections_per_address: 4096,
            max_downloads: 4096,
            download_wait: Duration::from_secs(10),
            uplink: None,
            udp_checks_per_second: 2000,
            udp_errors_per_second: 10,
            udp_gets_per_second: 20_000,
            trusted_proxies: Vec::new(),
            udp_roaming: false,
        }
    }
}

/// File descriptors reserved for everything that is neither a connection nor a snapshot: listeners, the scan of the
/// folder, and connections that are being accepted or closed (a batch of each listener).
const RESERVED_FILES: u64 = 192;

/// Minimum number of connections, whatever the other limits are.
const MIN_CONNECTIONS: u64 = 16;

/// Kernel memory that is budgeted for a stalled connection, in bytes.
const BYTES_PER_CONNECTION: u64 = 32 * 1024;

impl Limits {
    /// Maximum total size of large send buffers in bytes: 1/256 of `memory` (bytes).
    pub fn large_buffers(memory: u64) -> u64 {
        memory / 256
    }

    /// Number of connections that this machine can bear (docs/hazards.md 16): the smallest of what the file limit
    /// allows, a quarter of `memory` (bytes) at 32 KiB each, and 65,536; at least 16.
    pub fn automatic_connections(file_limit: u64, memory: u64) -> usize {
        let by_memory = memory / 4 / BYTES_PER_CONNECTION;
        let connections = by_memory.clamp(MIN_CONNECTIONS, 65_536);
        usize::try_from(connections)
            .unwrap_or(usize::MAX)
            .min(Limits::connections_by_files(file_limit))
    }

    /// Number of connections that the limit of open files allows, after a reserve and after the files of snapshots (an
    /// eighth, 16 to 256; see [`Snapshots::new`]); at least 16.
    ///
    /// [`Snapshots::new`]: crate::firmware::snapshot::Snapshots::new
    pub fn connections_by_files(file_limit: u64) -> usize {
        let snapshots = (file_limit / 8).clamp(16, 256);
        // With a small limit, half of it is left for connections.
        let reserved = RESERVED_FILES.saturating_add(snapshots).min(file_limit / 2);
        let connections = file_limit.saturating_sub(reserved).max(MIN_CONNECTIONS);
        usize::try_from(connections).unwrap_or(usize::MAX)
    }

    /// The cap in force. A given cap is lowered, with a line in the log, to what the limit of open files allows: beyond
    /// that, connections could not even be refused.
    pub(super) fn connections(&self, file_limit: u64, memory: u64) -> usize {
        let Some(given) = self.max_connections else {
            return Limits::automatic_connections(file_limit, memory);
        };
        let most = Limits::connections_by_files(file_limit);
        if given > most {
            log::warn!(
                target: "flags",
                "--max-connections {given} is more than the limit of open files ({file_limit}) allows: \
                 {most} connections at once; raise it (LimitNOFILE, ulimit -n) for more"
            );
        }
        given.min(most)
    }

    /// Whether the address is a trusted proxy's.
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.trusted_proxies
            .iter()
            .any(|cidr| cidr.contains(address))
    }
}

/// A block of addresses: `10.0.0.0/8`, `fd00::/8`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    address: IpAddr,
    bits: u8,
}

impl Cidr {
    /// Parses a block. Bits after the prefix are ignored. The error is a sentence that contains the text.
    pub fn parse(text: &str) -> Result<Cidr, String> {
        let wrong = |what: &str| {
            format!(
                "`{text}` is not a block of addresses: {what}; \
                 write it like 10.0.0.0/8, fd00::/8 or 192.0.2.7"
            )
        };
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address
            .trim()
            .parse()
            .map_err(|_| wrong("the part before the `/` is not an IP address"))?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => longest,
            Some(bits) => bits
                .trim()
                .parse()
                .ok()
                .filter(|&bits: &u8| bits <= longest)
                .ok_or_else(|| wrong(&format!("the prefix length must be 0 to {longest}")))?,
        };
        // A mapped IPv4 block becomes an IPv4 block, since addresses are un-mapped before they are compared.
        match (address, address.to_canonical()) {
            (IpAddr::V6(_), v4 @ IpAddr::V4(_)) if bits >= 96 => Ok(Cidr {
                address: v4,
                bits: bits.saturating_sub(96),
            }),
            _ => Ok(Cidr { address, bits }),
        }
    }

    /// Whether the block contains the address, which is un-mapped first.
    pub fn contains(&self, address: IpAddr) -> bool {
        let same = |ours: u128, theirs: u128, width: u32| {
            let rest = width.saturating_sub(u32::from(self.bits));
            // A shift by the whole width leaves nothing to compare.
            ours.checked_shr(rest) == theirs.checked_shr(rest)
        };
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => {
                same(ours.to_bits().into(), theirs.to_bits().into(), 32)
            }
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => same(ours.to_bits(), theirs.to_bits(), 128),
            _ => false,
        }
    }
}

impl std::str::FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Cidr, String> {
        Cidr::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(cidr: &str, address: &str) -> bool {
        Cidr::parse(cidr)
            .unwrap()
            .contains(address.parse().unwrap())
    }

    #[test]
    fn a_block_holds_the_addresses_that_share_its_prefix() {
        assert!(holds("10.0.0.0/8", "10.255.1.2"));
        assert!(!holds("10.0.0.0/8", "11.0.0.0"));
        assert!(holds("0.0.0.0/0", "203.0.113.9"));
        assert!(holds("::/0", "2001:db8::1"));
        assert!(!holds("::/0", "203.0.113.9"));
        assert!(holds("192.0.2.7", "192.0.2.7"));
        assert!(!holds("192.0.2.7", "192.0.2.8"));
        assert!(holds("fd00::/8", "fdff::1"));
        assert!(holds("2001:db8::1", "2001:db8::1"));
        assert!(!holds("2001:db8::1/128", "2001:db8::2"));
    }

    #[test]
    fn mapped_addresses_count_as_ipv4() {
        assert!(holds("10.0.0.0/8", "::ffff:10.1.2.3"));
        assert!(holds("::ffff:10.0.0.0/104", "10.1.2.3"));
    }

    #[test]
    fn a_block_that_cannot_be_read_is_named_in_the_error() {
        for text in [
            "",
            "10.0.0.0/33",
            "::1/129",
            "10.0.0/8",
            "localhost",
            "10.0.0.0/",
        ] {
            let error = Cidr::parse(text).unwrap_err();
            assert!(error.contains(&format!("`{text}`")), "{error}");
        }
    }

    #[test]
    fn the_smallest_of_files_and_memory_bounds_the_connections() {
        let gib = 1 << 30;
        assert_eq!(Limits::automatic_connections(1024, gib), 704);
        assert_eq!(Limits::automatic_connections(128, gib), 64);
        assert_eq!(Limits::automatic_connections(1 << 40, 64 << 20), 512);
        assert_eq!(Limits::automatic_connections(1 << 40, 64 * gib), 65_536);
        assert_eq!(Limits::automatic_connections(20, gib), 16);
    }

    #[test]
    fn a_cap_that_was_given_is_lowered_to_what_the_files_allow() {
        let given = |max| Limits {
            max_connections: Some(max),
            ..Limits::default()
        };
        assert_eq!(given(500).connections(1024, 1 << 20), 500);
        assert_eq!(given(5000).connections(1024, 1 << 20), 704);
        assert_eq!(given(1).connections(1024, 1 << 20), 1);
    }
}
