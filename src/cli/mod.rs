//! The command line: `serve`, `check`, `explain`, `devices`, `lift`, `resume` and `drain`. The feature `lab` adds
//! `probe` and `simulate`, `pack` adds `pack`, and `packages` adds `health`, `completions` and `man`.
//!
//! [`command`] has the table of commands, [`flags`] the table of flags; help, manual page and completions are made from
//! both. [`parse`] parses a command line into [`args::Args`]. A first word that is not a command is the folder to serve
//! if it exists, is the default one or is a path (`./DIR`). Any other word is an error, so that a mistyped command does
//! not create and serve a folder. `--version` prints the program's version, except for commands that describe a module
//! (`explain`, `probe`, `simulate`, `pack`): there it sets the module's version.

mod args;
mod check;
mod command;
#[cfg(feature = "packages")]
mod completions;
mod devices;
mod explain;
mod flags;
#[cfg(feature = "packages")]
mod health;
mod help;
mod installed;
#[cfg(feature = "lab")]
mod lab;
#[cfg(feature = "packages")]
mod man;
#[cfg(feature = "pack")]
mod pack;
mod parse;
mod requests;
mod values;

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;

use args::Args;
use command::Command;
use installed::InstalledServer;
use parse::Request;

use crate::firmware::scan;
use crate::{server, state};

/// Output and exit status of a command, or a sentence about its failure.
type CommandResult = Result<(String, u8), String>;

/// Runs the program and returns its exit status: 0 success, 1 failure (for `check`: something is quarantined; for
/// `probe` and `simulate`: a module fails), 2 wrong usage, 3 `explain` found that the module is refused.
pub fn main() -> ExitCode {
    let environment: Vec<(OsString, OsString)> = std::env::vars_os()
        .filter(|(name, _)| name.as_bytes().starts_with(flags::ENV_PREFIX.as_bytes()))
        .collect();
    let is_folder = |word: &OsStr| Path::new(word).is_dir();
    match parse::parse(std::env::args_os().skip(1), &environment, &is_folder) {
        Ok(Request::Help(command)) => {
            print(&help::text(command));
            ExitCode::SUCCESS
        }
        Ok(Request::Version) => {
            print(concat!("luat-ota ", env!("CARGO_PKG_VERSION"), "\n"));
            ExitCode::SUCCESS
        }
        Ok(Request::Run(args)) => run(*args),
        Err(error) => {
            report_error(&error.sentence);
            let help = match error.command {
                Some(command) => format!("{command} --help"),
                None => "luat-ota --help".to_owned(),
            };
            let _ = writeln!(std::io::stderr(), "Try: {help}");
            ExitCode::from(2)
        }
    }
}

fn run(mut args: Args) -> ExitCode {
    if args.command == Command::Serve {
        args.settings.remarks = args.remarks;
        // The server has already logged the error.
        return match server::run(args.settings) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    args.remarks.iter().for_each(|remark| report_error(remark));
    if args.command.uses_server_folders() {
        let has_state = std::env::var_os("STATE_DIRECTORY").is_some_and(|path| !path.is_empty());
        find_server(&mut args, has_state, installed::server(), &|path| {
            path.is_dir()
        });
    }
    let folder = &args.settings.folder;
    let state = state::locate(args.settings.state.as_deref(), folder);
    let outcome = match args.command {
        Command::Serve | Command::Check => check::run(folder, &state, args.format),
        Command::Explain => explain::run(folder, &state, &args.query, args.format),
        Command::Devices => match args.format {
            None => devices::run(&state, &scan::groups(folder), &args.query),
            Some(format) => devices::export(&state, scan::groups(folder), &args.query, format),
        },
        Command::Lift => requests::clear_hold(&state, &args.query),
        Command::Resume => requests::resume(&state, args.release.as_deref().unwrap_or_default()),
        Command::Drain => requests::drain(&state, args.undo),
        #[cfg(feature = "lab")]
        Command::Probe => args.lab.probe(),
        #[cfg(feature = "lab")]
        Command::Simulate => args.lab.simulate(),
        #[cfg(feature = "pack")]
        Command::Pack => pack::run(&args.pack),
        #[cfg(feature = "packages")]
        Command::Health => health::run(&args.settings.http),
        #[cfg(feature = "packages")]
        Command::Completions => Ok((args.shell.map(completions::text).unwrap_or_default(), 0)),
        #[cfg(feature = "packages")]
        Command::Man => Ok((man::page(), 0)),
    };
    match outcome {
        Ok((text, status)) => {
            print(&text);
            ExitCode::from(status)
        }
        Err(sentence) => {
            report_error(&sentence);
            ExitCode::FAILURE
        }
    }
}

/// Completes the folders of the server that a command works on, if neither the command line nor the environment
/// (`has_state`: `$STATE_DIRECTORY` is set) names them: an existing default folder, otherwise the folder of the
/// installed server. If the firmware folder is that of the installed server, however it was named, so is the state
/// folder.
fn find_server(
    args: &mut Args,
    has_state: bool,
    installed: Option<InstalledServer>,
    is_folder: &dyn Fn(&Path) -> bool,
) {
    let Some(installed) = installed else { return };
    let settings = &mut args.settings;
    if !args.has_folder && !is_folder(&settings.folder) {
        settings.folder = installed.folder;
    } else if !is_same(&settings.folder, &installed.folder) {
        return;
    }
    if settings.state.is_none() && !has_state {
        settings.state = Some(installed.state);
    }
}

/// Whether two paths refer to the same folder.
fn is_same(one: &Path, other: &Path) -> bool {
    let resolved = (one.canonicalize(), other.canonicalize());
    one == other || matches!(resolved, (Ok(one), Ok(other)) if one == other)
}

/// Prints to stdout. A reader that closes the pipe early (`luat-ota --help | head -1`) is not an error.
fn print(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
}

fn report_error(sentence: &str) {
    let _ = writeln!(std::io::stderr(), "luat-ota: {sentence}");
}

#[cfg(test)]
mod tests;
