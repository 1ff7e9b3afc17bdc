//! The limits of the public sockets. Each is a flag of the command line.

use std::net::IpAddr;
use std::time::Duration;

/// What one client, one network and all of them together may have. The defaults are generous: a limit
/// that an honest fleet meets strands it. ([`Limits::download_wait`] alone has no flag.)
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of an HTTP request head, request line included.
    pub head_bytes: usize,
    /// Header lines of an HTTP request.
    pub head_lines: usize,
    /// A head must be complete so long after the connection was accepted.
    pub head_timeout: Duration,
    /// A download ends if no byte of it was acknowledged for so long. There is no limit on its whole
    /// time: 2 KB/s for ten minutes is normal.
    pub stall_timeout: Duration,
    /// Connections at once, HTTP and TCP together. `None`: as many as the file limit, the memory and
    /// [`Limits::automatic_connections`] allow.
    pub max_connections: Option<usize>,
    /// Connections at once from one address. Carriers put thousands of modules behind one.
    pub max_connections_per_address: usize,
    /// Downloads at once; beyond that those from byte 0 wait for their turn.
    pub max_downloads: usize,
    /// How long one may wait for that before it is refused.
    pub download_wait: Duration,
    /// Bytes a second that all downloads share, and that bound how many there are at once; `None`: no
    /// limit.
    pub uplink: Option<u64>,
    /// Checks a second over UDP and TCP 2234 from one IPv4 /24 or IPv6 /48, with bursts of five times
    /// as many; 0: no limit.
    pub udp_checks_per_second: u32,
    /// Errors a second (a wrong upgrade id, an unknown text) likewise.
    pub udp_errors_per_second: u32,
    /// Packets a second of downloads with a good upgrade id likewise.
    pub udp_gets_per_second: u32,
    /// Proxies whose X-Forwarded-For is believed.
    pub trusted_proxies: Vec<Cidr>,
    /// A UDP download may go on from another network than it was offered to.
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

/// File descriptors kept for everything that is neither a connection nor a snapshot: listeners, the
/// folder being read, and connections on their way in and out (a batch of each listener).
const RESERVED_FILES: u64 = 192;

/// No limit leaves fewer connections than this.
const FEWEST: u64 = 16;

/// What a stalled connection may cost, in bytes of kernel memory.
const BYTES_PER_CONNECTION: u64 = 32 * 1024;

impl Limits {
    /// The bytes that large send buffers may take together: 1/256 of the memory (bytes).
    pub fn wide_buffers(memory: u64) -> u64 {
        memory / 256
    }

    /// How many connections this machine bears (docs/hazards.md 16): what the file limit leaves, a quarter
    /// of the memory (bytes) at 32 KiB each, 65,536; at least 16.
    pub fn automatic_connections(file_limit: u64, memory: u64) -> usize {
        let by_memory = memory / 4 / BYTES_PER_CONNECTION;
        let connections = by_memory.clamp(FEWEST, 65_536);
        usize::try_from(connections)
            .unwrap_or(usize::MAX)
            .min(Limits::connections_by_files(file_limit))
    }

    /// How many connections the limit of open files leaves room for: less a reserve, and less what
    /// snapshots take (an eighth, at most 256; see [`Snapshots::new`]); at least 16.
    ///
    /// [`Snapshots::new`]: crate::firmware::snapshot::Snapshots::new
    pub fn connections_by_files(file_limit: u64) -> usize {
        let snapshots = (file_limit / 8).clamp(16, 256);
        // A small limit is shared out: half for connections.
        let reserved = RESERVED_FILES.saturating_add(snapshots).min(file_limit / 2);
        let connections = file_limit.saturating_sub(reserved).max(FEWEST);
        usize::try_from(connections).unwrap_or(usize::MAX)
    }

    /// The cap in force. One that was given is lowered, with a line in the log, to what the limit of
    /// open files allows: beyond that, connections could not even be refused.
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

    /// Is this the address of a trusted proxy?
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
    /// Reads a block. Bits after the prefix do not matter. The error is a sentence that names the text.
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
            .map_err(|_| wrong("what stands before the `/` is no IP address"))?;
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
        // An IPv4 block in mapped form: addresses are un-mapped before they are compared.
        match (address, address.to_canonical()) {
            (IpAddr::V6(_), v4 @ IpAddr::V4(_)) if bits >= 96 => Ok(Cidr {
                address: v4,
                bits: bits.saturating_sub(96),
            }),
            _ => Ok(Cidr { address, bits }),
        }
    }

    /// Is the address (un-mapped first) in the block?
    pub fn contains(&self, address: IpAddr) -> bool {
        let same = |ours: u128, theirs: u128, width: u32| {
            let rest = width.saturating_sub(u32::from(self.bits));
            // Shifting by the whole width leaves nothing to compare.
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
