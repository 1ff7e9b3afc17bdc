//! What a command line says once it is understood.

#[cfg(any(feature = "lab", feature = "pack"))]
use std::path::PathBuf;
#[cfg(feature = "lab")]
use std::time::Duration;

use super::command::Command;
use crate::export::ExportFormat;
#[cfg(feature = "lab")]
use crate::modems::{Endpoint, simulate};
#[cfg(feature = "pack")]
use crate::pack::PlanOptions;
use crate::server::Settings;

/// A command with its arguments.
#[derive(Debug)]
pub(super) struct Args {
    pub command: Command,
    /// Settings of `serve`; of the other commands the folders, of `health` the addresses.
    pub settings: Settings,
    /// The firmware folder was named, on the command line or in the environment.
    pub has_folder: bool,
    pub query: ModuleQuery,
    /// For other programs instead of people, of `check`, `devices` and `explain`.
    pub format: Option<ExportFormat>,
    /// `PROJECT/VERSION`, of `resume`.
    pub release: Option<String>,
    /// Of `drain`.
    pub undo: bool,
    #[cfg(feature = "packages")]
    pub shell: Option<Shell>,
    #[cfg(feature = "lab")]
    pub lab: LabArgs,
    #[cfg(feature = "pack")]
    pub pack: PackArgs,
    /// Sentences about what looks like a mistake, but stops nothing.
    pub remarks: Vec<String>,
}

impl Args {
    /// Nothing given, without the defaults of the table of flags.
    pub fn new() -> Args {
        Args {
            command: Command::Serve,
            settings: Settings::new(),
            has_folder: false,
            query: ModuleQuery::default(),
            format: None,
            release: None,
            undo: false,
            #[cfg(feature = "packages")]
            shell: None,
            #[cfg(feature = "lab")]
            lab: LabArgs::default(),
            #[cfg(feature = "pack")]
            pack: PackArgs::default(),
            remarks: Vec::new(),
        }
    }
}

/// The module that `explain` is about; for `devices` and `lift` only `device`.
#[derive(Debug, Default)]
pub(super) struct ModuleQuery {
    pub device: Option<String>,
    pub firmware_name: Option<String>,
    pub version: Option<String>,
    pub project_key: Option<String>,
    pub core_version: Option<u32>,
    pub need_oss_url: bool,
    /// A request as a module's log shows it, instead of all of these.
    pub request: Option<Vec<u8>>,
}

/// A shell that completions can be made for.
#[cfg(feature = "packages")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// The first of the IMEIs that the sample in the repository is for.
#[cfg(feature = "lab")]
pub(super) const SAMPLE_IMEI: &str = "004999010640000";

/// Arguments of `probe` and `simulate`.
#[cfg(feature = "lab")]
#[derive(Debug, Default)]
pub(super) struct LabArgs {
    /// Of `probe` only `http`, `udp` and `module`, whose IMEI is empty if it was not given.
    pub options: simulate::Options,
    pub tcp: Option<Endpoint>,
    pub expect: Option<PathBuf>,
    pub json: bool,
    pub patience: Duration,
    pub yes_really: bool,
}

/// Arguments of `pack`.
#[cfg(feature = "pack")]
#[derive(Debug, Default)]
pub(super) struct PackArgs {
    pub core: Option<PathBuf>,
    /// A `.soc` file, or with `core` scripts and folders of scripts.
    pub inputs: Vec<PathBuf>,
    pub output: Option<PathBuf>,
    pub options: PlanOptions,
    pub show: Option<PathBuf>,
}
