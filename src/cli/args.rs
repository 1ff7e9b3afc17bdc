//! Arguments of a parsed command line.

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
    /// Settings of `serve`. The other commands use only the folders, and `health` only the addresses.
    pub settings: Settings,
    /// Whether the firmware folder was named, on the command line or in the environment.
    pub has_folder: bool,
    pub query: ModuleQuery,
    /// Output format for other programs, of `check`, `devices` and `explain`; `None` for text.
    pub format: Option<ExportFormat>,
    /// Argument `PROJECT/VERSION` of `resume`.
    pub release: Option<String>,
    /// Flag `--undo` of `drain`.
    pub undo: bool,
    #[cfg(feature = "packages")]
    pub shell: Option<Shell>,
    #[cfg(feature = "lab")]
    pub lab: LabArgs,
    #[cfg(feature = "pack")]
    pub pack: PackArgs,
    /// Sentences about arguments that look like mistakes but do not stop the command.
    pub remarks: Vec<String>,
}

impl Args {
    /// Creates arguments with nothing given, without the defaults of the table of flags.
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

/// Description of the module that `explain` is about. `devices` and `lift` use only `device`.
#[derive(Debug, Default)]
pub(super) struct ModuleQuery {
    pub device: Option<String>,
    pub firmware_name: Option<String>,
    pub version: Option<String>,
    pub project_key: Option<String>,
    pub core_version: Option<u32>,
    pub need_oss_url: bool,
    /// A request copied from a module's log, which replaces all other fields.
    pub request: Option<Vec<u8>>,
}

/// A shell for which completions can be generated.
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
    /// Options of `simulate`. `probe` uses only `http`, `udp` and `module`, whose IMEI is empty if it was not given.
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
