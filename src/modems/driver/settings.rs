//! Settings of an attempt: link, clock and limits.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::RecordLimits;

/// Settings of an attempt.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Time on the wall clock after which a server that sends nothing counts as silent, and the
    /// module's clock jumps. Halved after each silence of an attempt. `None` disables jumps.
    pub quiet: Option<Duration>,
    /// Longest wait after the end of a connection that is not skipped, on the module's clock. The
    /// server cannot notice a skipped wait. Applies if `quiet` is `None`.
    pub idle: Duration,
    /// Speed of the module's clock relative to the wall clock; at least 1.
    pub speed: u32,
    /// Time on the wall clock after which the attempt is stopped.
    pub cap: Duration,
    /// Bytes per second, on the module's clock.
    pub bandwidth: Option<u64>,
    /// Time from a request to its reply, and for connecting, on the module's clock.
    pub latency: Duration,
    /// Percentage of datagrams that are lost, in each direction. TCP loses none.
    pub loss: u32,
    /// Number of received bytes after which the link breaks, once.
    pub cut_after: Option<u64>,
    /// Seed of the random loss.
    pub seed: u64,
    /// Limits of what is recorded.
    pub record: RecordLimits,
    /// Local address of the module.
    pub source: Option<IpAddr>,
    /// Host names with known addresses.
    pub names: Arc<[(String, IpAddr)]>,
    /// Whether to connect only to hosts in `names`, even if a server refers to another host.
    pub only_names: bool,
}

impl Settings {
    /// Returns the settings of a probe: clock jumps skip waits, and enough is kept for a diagnosis.
    pub fn probing(quiet: Duration) -> Settings {
        Settings {
            quiet: Some(quiet),
            idle: Duration::ZERO,
            speed: 1,
            cap: Duration::from_secs(120),
            bandwidth: None,
            latency: Duration::ZERO,
            loss: 0,
            cut_after: None,
            seed: 0,
            record: RecordLimits {
                exchanges: 40,
                bytes: 10_000,
            },
            source: None,
            names: Arc::new([]),
            only_names: false,
        }
    }
}
