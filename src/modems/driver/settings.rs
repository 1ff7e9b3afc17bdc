//! How an attempt is run: the link, the clock and the limits.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::Keep;

/// How an attempt is run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// A server from which nothing comes for so long (on the wall's clock) is taken for silent, and
    /// the module's clock jumps; each time of one attempt it is given half as long. `None`: no jumps.
    pub quiet: Option<Duration>,
    /// Without `quiet`: where the connection has ended and the module still waits longer than this (on its
    /// clock), the wait is skipped, for the server sees nothing of it.
    pub idle: Duration,
    /// How many times faster than the wall's clock the module's runs; at least 1.
    pub speed: u32,
    /// After so long on the wall's clock the attempt is stopped.
    pub cap: Duration,
    /// Bytes a second, on the module's clock.
    pub bandwidth: Option<u64>,
    /// From a question to its answer, and for a connection, on the module's clock.
    pub latency: Duration,
    /// Percent of the datagrams that get lost, in each direction. TCP loses none.
    pub loss: u32,
    /// After so many bytes of the attempt the link breaks, once.
    pub cut_after: Option<u64>,
    /// For the loss.
    pub seed: u64,
    /// How much is kept of what passes.
    pub keep: Keep,
    /// The module's own address.
    pub source: Option<IpAddr>,
    /// Names that need no lookup.
    pub names: Arc<[(String, IpAddr)]>,
    /// Connects to those alone, and to none that a server sends it to.
    pub only_names: bool,
}

impl Settings {
    /// As a probe plays: jumps over what takes long, and keeps what is needed to judge the server.
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
            keep: Keep {
                exchanges: 40,
                bytes: 10_000,
            },
            source: None,
            names: Arc::new([]),
            only_names: false,
        }
    }
}
