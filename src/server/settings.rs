//! Settings of the server.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::device::Limits;
use crate::fleet;
use crate::logging::Format;
use crate::os::without::Feature;

/// Default path of the firmware folder.
pub const DEFAULT_FOLDER: &str = "firmware";

/// Settings of the server.
#[derive(Debug)]
pub struct Settings {
    /// The firmware folder.
    pub folder: PathBuf,
    /// Addresses that serve HTTP.
    pub http: Vec<SocketAddr>,
    /// Addresses that serve UDP, and TCP on the same port.
    pub udp: Vec<SocketAddr>,
    /// The operator's interface.
    pub operator: OperatorSettings,
    /// The state folder, if one was named.
    pub state: Option<PathBuf>,
    /// The file of the secret that several servers share.
    pub secret_file: Option<PathBuf>,
    /// The folder in which several servers share outcomes.
    pub fleet_folder: Option<PathBuf>,
    /// Time for running downloads after the signal to stop.
    pub grace: Duration,
    /// Maximum time between two full scans.
    pub rescan: Duration,
    /// Format of the log lines.
    pub log_format: Format,
    /// Least important level that is logged.
    pub log_level: log::LevelFilter,
    /// The limits of the public sockets.
    pub limits: Limits,
    /// Limits of the recorded state of devices.
    pub fleet: fleet::FleetSettings,
    /// Maximum number of bytes of memory for snapshots; `None` for a quarter of the memory of the machine.
    pub snapshot_memory: Option<u64>,
    /// The program that gets each notice, and its arguments, separated by spaces.
    pub on_event: Option<String>,
    /// Kernel features not to use, to test the fallbacks.
    pub without: Vec<Feature>,
    /// Sentences to log at the start about apparent mistakes on the command line.
    pub remarks: Vec<String>,
}

/// Settings of the operator's interface.
#[derive(Clone, Debug)]
pub struct OperatorSettings {
    /// Address to listen on; `None` if the interface is off.
    pub address: Option<SocketAddr>,
    /// The token.
    pub token: Option<String>,
    /// The file that contains the token.
    pub token_file: Option<PathBuf>,
    /// Host names to accept besides this machine's own.
    pub hosts: Vec<String>,
}

impl Settings {
    /// Creates the defaults, without public listeners.
    pub fn new() -> Settings {
        Settings {
            folder: PathBuf::from(DEFAULT_FOLDER),
            http: Vec::new(),
            udp: Vec::new(),
            operator: OperatorSettings {
                address: Some(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 8081)),
                token: None,
                token_file: None,
                hosts: Vec::new(),
            },
            state: None,
            secret_file: None,
            fleet_folder: None,
            grace: Duration::from_secs(30),
            rescan: Duration::from_secs(30),
            log_format: Format::Text,
            log_level: log::LevelFilter::Info,
            limits: Limits::default(),
            fleet: fleet::FleetSettings::default(),
            snapshot_memory: None,
            on_event: None,
            without: Vec::new(),
            remarks: Vec::new(),
        }
    }

    /// Turns off the features in `without`, and warns of settings that look like mistakes.
    pub(super) fn apply_and_warn(&self) {
        for remark in &self.remarks {
            log::warn!(target: "flags", "{remark}");
        }
        let stall = self.limits.stall_timeout;
        if stall < Limits::default().stall_timeout {
            log::warn!(
                target: "flags",
                "--stall-timeout {} is below the default of {} s: slow modules are silent for longer than that, since \
                 a receiver acknowledges in steps of its window",
                stall.as_secs(),
                Limits::default().stall_timeout.as_secs()
            );
        }
        for feature in &self.without {
            feature.disable();
            log::warn!(target: "flags", "{} is disabled by --without", feature.name());
        }
        #[cfg(not(feature = "operator"))]
        if self.fleet_folder.is_some() {
            log::warn!(target: "flags", "--fleet does nothing in this build (feature \"operator\")");
        }
        #[cfg(not(feature = "operator"))]
        log::debug!(target: "operator", "this build has no operator port (feature \"operator\")");
    }
}

impl Default for Settings {
    fn default() -> Settings {
        Settings::new()
    }
}
