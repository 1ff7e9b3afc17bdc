//! The command line: `serve`, `check`, `explain`, `devices`, `lift`, `resume`; with the feature `lab` `probe` and
//! `simulate`, with `packages` `health`, `completions` and `man`; their flags with the `LUAT_OTA_*` twins.
//!
//! [`flags`] is the one table that everything about flags is made from. A first word that is no command
//! is the folder to serve, if it exists, is the default one or is a path (`./DIR`); a bare word that is none of these is an error, so
//! that a mistyped command creates and serves nothing. `--version` prints ours, but where a module is
//! described (`explain`, `probe`, `simulate`) it is the module's.

mod check;
mod devices;
mod explain;
mod flags;
mod help;
mod installed;
#[cfg(feature = "lab")]
mod lab;
mod lift;
#[cfg(feature = "packages")]
mod packages;
mod resume;
mod values;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use flags::{Default, FOLDER_TWIN, Flag, TWINS};
use installed::Installed;

use crate::server::{self, Settings};
use crate::state;

/// What the program can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    Serve,
    Check,
    Explain,
    Devices,
    Lift,
    Resume,
    #[cfg(feature = "lab")]
    Probe,
    #[cfg(feature = "lab")]
    Simulate,
    #[cfg(feature = "packages")]
    Health,
    #[cfg(feature = "packages")]
    Completions,
    #[cfg(feature = "packages")]
    Man,
}

impl Command {
    const ALL: &[Command] = &[
        Command::Serve,
        Command::Check,
        Command::Explain,
        Command::Devices,
        Command::Lift,
        Command::Resume,
        #[cfg(feature = "lab")]
        Command::Probe,
        #[cfg(feature = "lab")]
        Command::Simulate,
        #[cfg(feature = "packages")]
        Command::Health,
        #[cfg(feature = "packages")]
        Command::Completions,
        #[cfg(feature = "packages")]
        Command::Man,
    ];

    fn name(self) -> &'static str {
        match self {
            Command::Serve => "serve",
            Command::Check => "check",
            Command::Explain => "explain",
            Command::Devices => "devices",
            Command::Lift => "lift",
            Command::Resume => "resume",
            #[cfg(feature = "lab")]
            Command::Probe => "probe",
            #[cfg(feature = "lab")]
            Command::Simulate => "simulate",
            #[cfg(feature = "packages")]
            Command::Health => "health",
            #[cfg(feature = "packages")]
            Command::Completions => "completions",
            #[cfg(feature = "packages")]
            Command::Man => "man",
        }
    }

    /// They play modules.
    const OF_THE_LAB: &[Command] = &[
        #[cfg(feature = "lab")]
        Command::Probe,
        #[cfg(feature = "lab")]
        Command::Simulate,
    ];

    /// They are for packages.
    const FOR_PACKAGES: &[Command] = &[
        #[cfg(feature = "packages")]
        Command::Health,
        #[cfg(feature = "packages")]
        Command::Completions,
        #[cfg(feature = "packages")]
        Command::Man,
    ];

    /// It plays modules, and has nothing to do with the folder.
    fn is_of_the_lab(self) -> bool {
        Command::OF_THE_LAB.contains(&self)
    }

    /// A word may follow that is the firmware folder.
    fn takes_a_folder(self) -> bool {
        !self.is_of_the_lab() && !Command::FOR_PACKAGES.contains(&self)
    }

    /// It looks at the folders of a server, which may be an installed one.
    fn looks_at_a_server(self) -> bool {
        self != Command::Serve && self.takes_a_folder()
    }

    /// It has a `--version` of its own, the module's.
    fn has_a_version(self) -> bool {
        self == Command::Explain || self.is_of_the_lab()
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "luat-ota {}", self.name())
    }
}

/// A command line that was understood.
#[derive(Debug)]
struct Line {
    command: Command,
    settings: Settings,
    /// The firmware folder was named, on the line or in the environment.
    has_folder: bool,
    asked: Asked,
    #[cfg(feature = "lab")]
    lab: lab::Asked,
    /// Sentences about what looks like a mistake, but stops nothing.
    remarks: Vec<String>,
}

/// What `explain` is to explain; of `devices` and `lift` only `device`.
#[derive(Debug, std::default::Default)]
struct Asked {
    device: Option<String>,
    firmware_name: Option<String>,
    version: Option<String>,
    project_key: Option<String>,
    core_version: Option<u32>,
    need_oss_url: bool,
    /// `PROJECT/VERSION`, of `resume`.
    release: Option<String>,
    /// A request as a module's log shows it, instead of all of these.
    request: Option<Vec<u8>>,
}

impl Line {
    /// As if nothing was given, and without the defaults of the table.
    fn new() -> Line {
        Line {
            command: Command::Serve,
            settings: Settings::new(),
            has_folder: false,
            asked: Asked::default(),
            #[cfg(feature = "lab")]
            lab: lab::Asked::default(),
            remarks: Vec::new(),
        }
    }
}

/// What the person wants.
#[derive(Debug)]
enum Wanted {
    Run(Box<Line>),
    Help(Option<Command>),
    /// A text that is made from the table of flags.
    #[cfg(feature = "packages")]
    Text(String),
    Version,
}

/// Wrong usage: a sentence, and the command whose help has the right one.
#[derive(Debug)]
struct Wrong {
    command: Option<Command>,
    sentence: String,
}

/// Runs the program; its exit status: 0 fine, 1 trouble (for `check`: something is quarantined; for
/// `probe` and `simulate`: a module fails), 2 wrong usage, 3 `explain` found that the module is refused.
pub fn main() -> ExitCode {
    let environment: Vec<(OsString, OsString)> = std::env::vars_os()
        .filter(|(name, _)| name.as_bytes().starts_with(TWINS.as_bytes()))
        .collect();
    let is_folder = |word: &OsStr| Path::new(word).is_dir();
    match read(std::env::args_os().skip(1), &environment, &is_folder) {
        Ok(Wanted::Help(command)) => {
            print(&help::text(command));
            ExitCode::SUCCESS
        }
        #[cfg(feature = "packages")]
        Ok(Wanted::Text(text)) => {
            print(&text);
            ExitCode::SUCCESS
        }
        Ok(Wanted::Version) => {
            print(concat!("luat-ota ", env!("CARGO_PKG_VERSION"), "\n"));
            ExitCode::SUCCESS
        }
        Ok(Wanted::Run(line)) => run(*line),
        Err(wrong) => {
            complain(&wrong.sentence);
            let help = match wrong.command {
                Some(command) => format!("{command} --help"),
                None => "luat-ota --help".to_owned(),
            };
            let _ = writeln!(std::io::stderr(), "Try: {help}");
            ExitCode::from(2)
        }
    }
}

fn run(mut line: Line) -> ExitCode {
    if line.command == Command::Serve {
        line.settings.remarks = line.remarks;
        // The server says in its log what went wrong.
        return match server::run(line.settings) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    line.remarks.iter().for_each(|remark| complain(remark));
    if line.command.looks_at_a_server() {
        let is_folder = |path: &Path| path.is_dir();
        let has_state = std::env::var_os("STATE_DIRECTORY").is_some_and(|path| !path.is_empty());
        find_server(&mut line, has_state, installed::server(), &is_folder);
    }
    let done = match line.command {
        #[cfg(feature = "lab")]
        Command::Probe => lab::probe(&line.lab),
        #[cfg(feature = "lab")]
        Command::Simulate => lab::simulate(&line.lab),
        #[cfg(feature = "packages")]
        Command::Health => packages::health(&line.settings.http),
        Command::Explain => {
            let state = state_folder(&line.settings);
            explain::run(&line.settings.folder, &state, &line.asked)
        }
        Command::Devices => devices::run(&state_folder(&line.settings), &line.asked),
        Command::Lift => lift::run(&state_folder(&line.settings), &line.asked),
        Command::Resume => {
            let release = line.asked.release.as_deref().unwrap_or_default();
            resume::run(&state_folder(&line.settings), release)
        }
        _ => check::run(&line.settings.folder, &state_folder(&line.settings)),
    };
    match done {
        Ok((text, code)) => {
            print(&text);
            ExitCode::from(code)
        }
        Err(sentence) => {
            complain(&sentence);
            ExitCode::FAILURE
        }
    }
}

/// Completes what neither the line nor the environment (`has_state`: `$STATE_DIRECTORY`) says of the
/// server that a command is about: a folder that lies here, else the installed server. The state of the
/// installed server goes with its firmware folder, however that was named.
fn find_server(
    line: &mut Line,
    has_state: bool,
    installed: Option<Installed>,
    is_folder: &dyn Fn(&Path) -> bool,
) {
    let Some(installed) = installed else { return };
    let settings = &mut line.settings;
    let names_state = settings.state.is_some() || has_state;
    if !line.has_folder && !is_folder(&settings.folder) {
        settings.folder = installed.folder;
    } else if !is_same(&settings.folder, &installed.folder) {
        return;
    }
    if !names_state {
        settings.state = Some(installed.state);
    }
}

/// Whether two paths lead to the same folder.
fn is_same(one: &Path, other: &Path) -> bool {
    let (one_is, other_is) = (one.canonicalize(), other.canonicalize());
    one == other || matches!((one_is, other_is), (Ok(one), Ok(other)) if one == other)
}

/// Where a server with these settings keeps its state.
fn state_folder(settings: &Settings) -> PathBuf {
    state::locate(settings.state.as_deref(), &settings.folder)
}

/// To stdout. Nobody may be there to read it (`luat-ota --help | head -1`); that is no trouble of ours.
fn print(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
}

fn complain(sentence: &str) {
    let _ = writeln!(std::io::stderr(), "luat-ota: {sentence}");
}

/// Reads a command line: `words` without the program's name, `environment` only the variables that
/// begin with [`TWINS`].
fn read(
    words: impl Iterator<Item = OsString>,
    environment: &[(OsString, OsString)],
    is_folder: &dyn Fn(&OsStr) -> bool,
) -> Result<Wanted, Wrong> {
    let mut parser = lexopt::Parser::from_args(words.collect::<Vec<_>>());
    let mut command = None;
    let mut folder: Option<OsString> = None;
    let mut release: Option<String> = None;
    let mut request: Vec<Vec<u8>> = Vec::new();
    #[cfg(feature = "packages")]
    let mut shell = None;
    let mut given: Vec<(&'static Flag, OsString)> = Vec::new();

    loop {
        let wrong = |sentence: String| Wrong { command, sentence };
        let argument = parser.next().map_err(|error| wrong(in_words(error)))?;
        match argument {
            None => break,
            Some(lexopt::Arg::Short('h') | lexopt::Arg::Long("help")) => {
                return Ok(Wanted::Help(command));
            }
            Some(lexopt::Arg::Short('V')) => return Ok(Wanted::Version),
            Some(lexopt::Arg::Long("version")) if !command.is_some_and(Command::has_a_version) => {
                return Ok(Wanted::Version);
            }
            Some(lexopt::Arg::Short('v')) => {
                return Err(wrong(
                    "unknown flag -v: -V or --version prints the version".to_owned(),
                ));
            }
            Some(lexopt::Arg::Short(letter)) => {
                return Err(wrong(format!(
                    "unknown flag -{letter}: flags are words with two dashes, like --http"
                )));
            }
            Some(lexopt::Arg::Long(name)) => {
                let flag = known(command, name).map_err(wrong)?;
                let value = if flag.is_switch() {
                    parser.optional_value().unwrap_or_else(|| "yes".into())
                } else {
                    parser.value().map_err(|_| {
                        wrong(format!("--{} needs a value: {}", flag.name, flag.good))
                    })?
                };
                given.push((flag, value));
            }
            Some(lexopt::Arg::Value(word)) if word.is_empty() => {
                return Err(wrong("an empty word is no folder".to_owned()));
            }
            Some(lexopt::Arg::Value(word)) => match command {
                Some(Command::Explain)
                    if request.first().is_some_and(|first| is_method(first))
                        || (request.is_empty() && is_request(&word, is_folder)) =>
                {
                    request.push(word.into_vec());
                }
                Some(Command::Resume) if release.is_none() => {
                    release = Some(release_of(&word).map_err(wrong)?);
                }
                Some(command) if command.is_of_the_lab() => {
                    return Err(wrong(format!(
                        "{command} takes flags alone: what is {word:?}? The server is named by --http \
                         URL or --udp HOST:PORT"
                    )));
                }
                #[cfg(feature = "packages")]
                Some(Command::Completions) if shell.is_none() => {
                    let known = packages::Shell::named(&word).ok_or_else(|| {
                        wrong(format!(
                            "{word:?} is no shell that is known: bash, zsh or fish"
                        ))
                    })?;
                    shell = Some(known);
                }
                Some(command) if !command.takes_a_folder() => {
                    return Err(wrong(format!(
                        "{command} takes no folder: what is {word:?}?"
                    )));
                }
                Some(command) => {
                    if let Some(first) = &folder {
                        return Err(wrong(format!(
                            "{command} takes one folder, and {first:?} is one already: what is {word:?}?"
                        )));
                    }
                    folder = Some(word);
                }
                None => match first_word(&word, is_folder).map_err(wrong)? {
                    FirstWord::Command(first) => command = Some(first),
                    FirstWord::Help => match parser.next() {
                        Ok(Some(lexopt::Arg::Value(word))) => {
                            let of = first_word(&word, is_folder).map_err(wrong)?;
                            let FirstWord::Command(of) = of else {
                                return Err(wrong(no_command(&word.to_string_lossy(), "")));
                            };
                            return Ok(Wanted::Help(Some(of)));
                        }
                        _ => return Ok(Wanted::Help(None)),
                    },
                    FirstWord::Folder => {
                        command = Some(Command::Serve);
                        folder = Some(word);
                    }
                },
            },
        }
    }

    let command = command.unwrap_or(Command::Serve);
    let wrong = |sentence: String| Wrong {
        command: Some(command),
        sentence,
    };
    let mut line = Line::new();
    line.command = command;
    line.asked.release = release;
    if command == Command::Resume && line.asked.release.is_none() {
        return Err(wrong("which release? Give PROJECT/VERSION".to_owned()));
    }
    if !request.is_empty() {
        line.asked.request = Some(request.join(&b' '));
    }
    for (flag, value) in &given {
        if flag.command != command {
            return Err(wrong(format!(
                "--{} is a flag of {}, not of {command}",
                flag.name, flag.command
            )));
        }
        if line.asked.request.is_some() && flag.name != "state" {
            return Err(wrong(format!(
                "the request says all that --{} could say: give one or the other",
                flag.name
            )));
        }
        set(&mut line, flag, &format!("--{}", flag.name), value).map_err(wrong)?;
    }
    // What the command line does not say, the environment may say; else the table does.
    let variable = |name: &str| {
        let same = |(given, _): &&(OsString, OsString)| given.to_str() == Some(name);
        let found = environment.iter().find(same).map(|(_, value)| value);
        found.filter(|value| !value.is_empty())
    };
    for flag in flags::of(command) {
        let said = given.iter().any(|(other, _)| std::ptr::eq(*other, flag));
        if said || line.asked.request.is_some() {
            continue;
        }
        let twin = flag.twin();
        if let Some(value) = variable(&twin) {
            set_all(&mut line, flag, &twin, value).map_err(wrong)?;
        } else if let Default::Value(value) = flag.default {
            set_all(&mut line, flag, flag.name, OsStr::new(value)).map_err(wrong)?;
        }
    }
    if let Some(folder) = folder.as_ref().or(variable(FOLDER_TWIN)) {
        line.settings.folder = PathBuf::from(folder);
        line.has_folder = true;
    }
    line.remarks.extend(strange_variables(environment));
    if command == Command::Explain {
        line.asked.complete().map_err(wrong)?;
    }
    if command == Command::Lift && line.asked.device.is_none() {
        return Err(wrong("which device? Give --imei N".to_owned()));
    }
    #[cfg(feature = "packages")]
    match (command, shell) {
        (Command::Man, _) => return Ok(Wanted::Text(packages::man())),
        (Command::Completions, Some(shell)) => {
            return Ok(Wanted::Text(packages::completions(shell)));
        }
        (Command::Completions, None) => {
            return Err(wrong("for which shell? bash, zsh or fish".to_owned()));
        }
        _ => (),
    }
    #[cfg(feature = "lab")]
    if command.is_of_the_lab() {
        line.lab.complete(command).map_err(wrong)?;
    }
    Ok(Wanted::Run(Box::new(line)))
}

/// `PROJECT/VERSION`.
fn release_of(word: &OsStr) -> Result<String, String> {
    let text = word.to_str().map(|text| text.trim_end_matches('/'));
    text.and_then(|text| text.split_once('/'))
        .filter(|(project, version)| {
            !project.is_empty() && !version.is_empty() && !version.contains('/')
        })
        .map(|(project, version)| format!("{project}/{version}"))
        .ok_or_else(|| format!("{word:?} is not PROJECT/VERSION, as in the firmware folder"))
}

/// What a first word is.
enum FirstWord {
    Command(Command),
    Help,
    Folder,
}

fn first_word(word: &OsStr, is_folder: &dyn Fn(&OsStr) -> bool) -> Result<FirstWord, String> {
    let text = word.to_string_lossy();
    if let Some(command) = Command::ALL.iter().find(|command| command.name() == text) {
        return Ok(FirstWord::Command(*command));
    }
    if is_folder(word) || text == server::DEFAULT_FOLDER {
        return Ok(FirstWord::Folder);
    }
    if text == "help" {
        return Ok(FirstWord::Help);
    }
    #[cfg(not(feature = "lab"))]
    if text == "probe" || text == "simulate" {
        return Err(format!(
            "this build has no command {text:?}: it was made without the feature \"lab\". (A folder \
             of this name would be \"./{text}\".)"
        ));
    }
    // The folder is created if it is not there, so a mistyped command must not become one.
    let names = Command::ALL.iter().map(|command| command.name());
    match flags::nearest(&text.to_lowercase(), names) {
        Some(command) => Err(no_command(&text, &format!(" did you mean {command:?}?"))),
        None if text.contains('/') => Ok(FirstWord::Folder),
        None => Err(no_command(&text, "")),
    }
}

/// `hint`: what it may have been, with a space before it.
fn no_command(word: &str, hint: &str) -> String {
    let names: Vec<&str> = Command::ALL.iter().map(|command| command.name()).collect();
    let version = match word.eq_ignore_ascii_case("version") {
        true => " luat-ota --version prints the version.",
        false => "",
    };
    format!(
        "there is no command {word:?}:{hint} The commands are {}.{version} Nor is there a folder of this \
         name: luat-ota serve {} creates and serves one.",
        names.join(", "),
        in_a_shell(word)
    )
}

/// A word as it is typed into a shell.
fn in_a_shell(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./".contains(c);
    match word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

/// The flag of this name. Before the command is known, that of any command.
fn known(command: Option<Command>, name: &str) -> Result<&'static Flag, String> {
    let found = match command {
        Some(command) => flags::find(command, name),
        None => None,
    };
    // One of another command gets its own sentence later.
    if let Some(flag) = found.or_else(|| flags::all().find(|flag| flag.name == name)) {
        return Ok(flag);
    }
    let names = flags::all()
        .filter(|flag| !flag.hidden && command.is_none_or(|command| flag.command == command))
        .map(|flag| flag.name)
        .chain(["help", "version"]);
    match flags::nearest(name, names) {
        Some(near) => Err(format!("unknown flag --{name}: did you mean --{near}?")),
        None => Err(format!("unknown flag --{name}")),
    }
}

/// `source`: the flag or the variable that the person wrote.
fn set(line: &mut Line, flag: &Flag, source: &str, value: &OsStr) -> Result<(), String> {
    (flag.set)(line, value).ok_or_else(|| {
        let good = match flag.is_switch() {
            true => "yes or no",
            false => flag.good,
        };
        format!("{source}: {value:?} is not {good}")
    })
}

/// The same for a value that holds several between commas, if the flag is repeatable.
fn set_all(line: &mut Line, flag: &Flag, source: &str, value: &OsStr) -> Result<(), String> {
    if !flag.repeatable {
        return set(line, flag, source, value);
    }
    value
        .as_bytes()
        .split(|&byte| byte == b',')
        .filter(|part| !part.trim_ascii().is_empty())
        .try_for_each(|part| set(line, flag, source, OsStr::from_bytes(part)))
}

/// Is this word of `explain` a request, or the folder?
fn is_request(word: &OsStr, is_folder: &dyn Fn(&OsStr) -> bool) -> bool {
    let text = word.to_string_lossy();
    let method = text.split(' ').next();
    let method = method.is_some_and(|method| is_method(method.as_bytes()));
    let url = text.contains("://") || text.contains(['?', '&', '=']);
    // `862991443753386,ALIYUN_Luat_V0035_8955,2.0.0`
    let message = text.contains(',') && !text.contains('/');
    method || ((url || message) && !is_folder(word))
}

/// The first word of a request line. What follows it belongs to it, also without quotes.
fn is_method(word: &[u8]) -> bool {
    matches!(
        word,
        b"GET" | b"POST" | b"HEAD" | b"PUT" | b"DELETE" | b"PATCH"
    )
}

impl Asked {
    /// Is there enough to ask with?
    fn complete(&self) -> Result<(), String> {
        if self.request.is_some() {
            return Ok(());
        }
        let missing = |name, value: &Option<String>| value.is_none().then_some(name);
        let missing: Vec<&str> = [
            missing("--imei", &self.device),
            missing("--firmware-name", &self.firmware_name),
            missing("--version", &self.version),
        ]
        .into_iter()
        .flatten()
        .collect();
        match missing.len() {
            0 => Ok(()),
            3 => Err(
                "what shall be explained? Give a request out of a module's log between quotes, or \
                 --imei, --firmware-name and --version"
                    .to_owned(),
            ),
            _ => Err(format!("missing: {}", missing.join(" and "))),
        }
    }
}

/// Variables that look like twins and are none.
fn strange_variables(environment: &[(OsString, OsString)]) -> impl Iterator<Item = String> {
    environment.iter().filter_map(|(name, _)| {
        let name = name.to_string_lossy();
        let short = name.strip_prefix(TWINS)?;
        if name == FOLDER_TWIN || flags::all().any(|flag| flag.twin() == name) {
            return None;
        }
        let names = flags::all().filter(|flag| !flag.hidden);
        let near = flags::nearest(short, names.map(|flag| flag.name));
        let near = near.and_then(|near| flags::all().find(|flag| flag.name == near));
        Some(match near {
            Some(flag) => format!(
                "{name} is set, but no flag has this name: did you mean {}?",
                flag.twin()
            ),
            None => format!("{name} is set, but no flag has this name"),
        })
    })
}

fn in_words(error: lexopt::Error) -> String {
    match error {
        lexopt::Error::UnexpectedValue { option, .. } => format!("{option} has no value"),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
