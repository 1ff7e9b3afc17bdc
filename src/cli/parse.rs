//! Parses a command line and the environment.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

#[cfg(feature = "pack")]
use super::args::PackArgs;
#[cfg(feature = "packages")]
use super::args::Shell;
use super::args::{Args, ModuleQuery};
use super::command::Command;
use super::flags::{self, Default, ENV_PREFIX, FOLDER_ENV_VAR, Flag};
use crate::firmware::name::shell_word;
use crate::server;

/// Request that a command line makes.
#[derive(Debug)]
pub(super) enum Request {
    Run(Box<Args>),
    Help(Option<Command>),
    Version,
}

/// Wrong usage.
#[derive(Debug)]
pub(super) struct UsageError {
    /// The command whose help has the right usage.
    pub command: Option<Command>,
    pub sentence: String,
}

/// Parses a command line. `words`: the arguments without the program's name. `environment`: only the variables that
/// begin with [`ENV_PREFIX`].
pub(super) fn parse(
    words: impl Iterator<Item = OsString>,
    environment: &[(OsString, OsString)],
    is_folder: &dyn Fn(&OsStr) -> bool,
) -> Result<Request, UsageError> {
    let mut line = CommandLine::default();
    let request = match line.read(words, is_folder) {
        Ok(None) => line
            .evaluate(environment)
            .map(|args| Request::Run(Box::new(args))),
        Ok(Some(request)) => Ok(request),
        Err(sentence) => Err(sentence),
    };
    request.map_err(|sentence| UsageError {
        command: line.command,
        sentence,
    })
}

/// The words of a command line, sorted by kind.
#[derive(Default)]
struct CommandLine {
    command: Option<Command>,
    folder: Option<OsString>,
    release: Option<String>,
    /// The words of a request to explain.
    request: Vec<Vec<u8>>,
    #[cfg(feature = "packages")]
    shell: Option<Shell>,
    /// The `.soc` file or the scripts of `pack`.
    #[cfg(feature = "pack")]
    inputs: Vec<PathBuf>,
    /// Given flags, each with its command and its value.
    flags: Vec<(Command, &'static Flag, OsString)>,
}

impl CommandLine {
    /// Parses all words, up to a flag that asks for the help or the version.
    fn read(
        &mut self,
        words: impl Iterator<Item = OsString>,
        is_folder: &dyn Fn(&OsStr) -> bool,
    ) -> Result<Option<Request>, String> {
        use lexopt::Arg::{Long, Short, Value};

        let mut parser = lexopt::Parser::from_args(words.collect::<Vec<_>>());
        let has_version_flag =
            |command: Option<Command>| command.is_some_and(Command::has_version_flag);
        while let Some(argument) = parser.next().map_err(sentence)? {
            match argument {
                Short('h') | Long("help") => return Ok(Some(Request::Help(self.command))),
                Short('V') => return Ok(Some(Request::Version)),
                Long("version") if !has_version_flag(self.command) => {
                    return Ok(Some(Request::Version));
                }
                Short('v') => {
                    return Err("unknown flag -v: -V or --version prints the version".to_owned());
                }
                Short(_) | Long(_) => {
                    let (command, flag) = match argument {
                        Short(letter) => short_flag(self.command, letter)?,
                        Long(name) => known_flag(self.command, name)?,
                        Value(_) => continue,
                    };
                    let value = match flag.is_switch() {
                        true => parser.optional_value().unwrap_or_else(|| "yes".into()),
                        false => parser.value().map_err(|_| {
                            format!("--{} needs a value: {}", flag.name, flag.expects)
                        })?,
                    };
                    self.flags.push((command, flag, value));
                }
                Value(word) if word.is_empty() => {
                    return Err("the folder name is empty".to_owned());
                }
                Value(word) => match self.command {
                    Some(command) => self.read_word(command, word, is_folder)?,
                    None => match first_word(&word, is_folder)? {
                        FirstWord::Command(command) => self.command = Some(command),
                        FirstWord::Folder => {
                            self.command = Some(Command::Serve);
                            self.folder = Some(word);
                        }
                        FirstWord::Help => {
                            let Ok(Some(Value(word))) = parser.next() else {
                                return Ok(Some(Request::Help(None)));
                            };
                            return match first_word(&word, is_folder)? {
                                FirstWord::Command(of) => Ok(Some(Request::Help(Some(of)))),
                                _ => Err(no_command(&word.to_string_lossy(), "")),
                            };
                        }
                    },
                },
            }
        }
        Ok(None)
    }

    /// Parses an argument of the command.
    fn read_word(
        &mut self,
        command: Command,
        word: OsString,
        is_folder: &dyn Fn(&OsStr) -> bool,
    ) -> Result<(), String> {
        match command {
            Command::Explain
                if self.request.first().is_some_and(|first| is_method(first))
                    || (self.request.is_empty() && is_request(&word, is_folder)) =>
            {
                self.request.push(word.into_vec());
            }
            Command::Resume if self.release.is_none() => self.release = Some(release(&word)?),
            #[cfg(feature = "packages")]
            Command::Completions if self.shell.is_none() => {
                self.shell = Some(match word.to_str() {
                    Some("bash") => Shell::Bash,
                    Some("zsh") => Shell::Zsh,
                    Some("fish") => Shell::Fish,
                    _ => {
                        return Err(format!("unknown shell {word:?}: use bash, zsh or fish"));
                    }
                });
            }
            #[cfg(feature = "pack")]
            Command::Pack => self.inputs.push(word.into()),
            command if command.emulates_modules() => {
                return Err(format!(
                    "{command} takes only flags: remove {word:?}, and give the server with --http \
                     URL or --udp HOST:PORT"
                ));
            }
            command if !command.takes_folder() => {
                return Err(format!("{command} takes no folder: remove {word:?}"));
            }
            command => {
                if let Some(first) = &self.folder {
                    return Err(format!(
                        "{command} takes one folder, but {first:?} and {word:?} are given"
                    ));
                }
                self.folder = Some(word);
            }
        }
        Ok(())
    }

    /// Combines the words with the environment and the defaults.
    fn evaluate(&mut self, environment: &[(OsString, OsString)]) -> Result<Args, String> {
        let command = *self.command.get_or_insert(Command::Serve);
        let mut args = Args::new();
        args.command = command;
        args.release = self.release.take();
        if command == Command::Resume && args.release.is_none() {
            return Err("no release: give PROJECT/VERSION".to_owned());
        }
        if !self.request.is_empty() {
            args.query.request = Some(self.request.join(&b' '));
        }
        for (owner, flag, value) in &self.flags {
            if *owner != command {
                return Err(format!(
                    "--{} is a flag of {owner}, not of {command}",
                    flag.name
                ));
            }
            if args.query.request.is_some() && !matches!(flag.name, "state" | "json" | "csv") {
                return Err(format!(
                    "--{} is part of the request already: give one of the two",
                    flag.name
                ));
            }
            store(&mut args, flag, &format!("--{}", flag.name), value)?;
        }
        // A flag has precedence over the environment, and the environment over the table.
        let variable = |name: &str| {
            let found = environment.iter().find(|(given, _)| given == name);
            found
                .map(|(_, value)| value)
                .filter(|value| !value.is_empty())
        };
        for flag in flags::of(command) {
            let is_given = self
                .flags
                .iter()
                .any(|(_, given, _)| given.name == flag.name);
            if is_given || args.query.request.is_some() {
                continue;
            }
            let env_var = flag.env_var(command);
            if let Some(value) = variable(&env_var) {
                store_all(&mut args, flag, &env_var, value)?;
            } else if let Default::Value(value) = flag.default {
                store_all(&mut args, flag, flag.name, OsStr::new(value))?;
            }
        }
        if let Some(folder) = self.folder.as_ref().or(variable(FOLDER_ENV_VAR)) {
            args.settings.folder = PathBuf::from(folder);
            args.has_folder = true;
        }
        args.remarks.extend(unknown_variables(environment));
        match command {
            Command::Explain => check_query(&args.query)?,
            Command::Lift if args.query.device.is_none() => {
                return Err("no device: give --imei N".to_owned());
            }
            #[cfg(feature = "packages")]
            Command::Completions => {
                args.shell = self.shell;
                if args.shell.is_none() {
                    return Err("no shell: give bash, zsh or fish".to_owned());
                }
            }
            #[cfg(feature = "pack")]
            Command::Pack => {
                args.pack.inputs = std::mem::take(&mut self.inputs);
                check_pack(&args.pack)?;
            }
            #[cfg(feature = "lab")]
            Command::Probe | Command::Simulate => args.lab.complete(command)?,
            _ => {}
        }
        Ok(args)
    }
}

/// Fails if the arguments of `pack` are incomplete or contradict each other.
#[cfg(feature = "pack")]
fn check_pack(args: &PackArgs) -> Result<(), String> {
    match (&args.show, &args.core, args.inputs.len()) {
        (Some(_), None, 0) | (None, None, 1) | (None, Some(_), 1..) => Ok(()),
        (Some(_), ..) => Err("--show only lists one file: remove the other arguments".to_owned()),
        (None, None, 0) => Err("no .soc file: give one".to_owned()),
        (None, Some(_), 0) => Err("no scripts: give files or folders".to_owned()),
        (None, None, _) => {
            Err("the core of these scripts is unknown: give its .soc file with --core".to_owned())
        }
    }
}

/// Parses `PROJECT/VERSION`.
fn release(word: &OsStr) -> Result<String, String> {
    let text = word.to_str().map(|text| text.trim_end_matches('/'));
    text.and_then(|text| text.split_once('/'))
        .filter(|(project, version)| {
            !project.is_empty() && !version.is_empty() && !version.contains('/')
        })
        .map(|(project, version)| format!("{project}/{version}"))
        .ok_or_else(|| format!("{word:?} is not PROJECT/VERSION, as in the firmware folder"))
}

/// Meaning of the first word.
enum FirstWord {
    Command(Command),
    Help,
    Folder,
}

fn first_word(word: &OsStr, is_folder: &dyn Fn(&OsStr) -> bool) -> Result<FirstWord, String> {
    let text = word.to_string_lossy();
    if let Some(command) = Command::named(&text) {
        return Ok(FirstWord::Command(command));
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
    #[cfg(not(feature = "pack"))]
    if text == "pack" {
        return Err(format!(
            "this build has no command {text:?}: it was made without the feature \"pack\". (A folder \
             of this name would be \"./{text}\".)"
        ));
    }
    // A folder that does not exist is created, so a mistyped command must not be taken for a folder.
    match flags::nearest(&text.to_lowercase(), Command::all().map(Command::name)) {
        Some(command) => Err(no_command(&text, &format!(" did you mean {command:?}?"))),
        None if text.contains('/') => Ok(FirstWord::Folder),
        None => Err(no_command(&text, "")),
    }
}

/// Returns the error for an unknown command. `hint`: a suggestion that begins with a space, or nothing.
fn no_command(word: &str, hint: &str) -> String {
    let names: Vec<&str> = Command::all().map(Command::name).collect();
    let version = match word.eq_ignore_ascii_case("version") {
        true => " luat-ota --version prints the version.",
        false => "",
    };
    let typed = shell_word(word);
    format!(
        "unknown command {word:?}:{hint} The commands are {}.{version} There is no folder of this \
         name either: luat-ota serve {typed} creates and serves it.",
        names.join(", "),
    )
}

/// Returns the flag of this letter, with its command.
fn short_flag(command: Option<Command>, letter: char) -> Result<(Command, &'static Flag), String> {
    let own = command.and_then(|command| {
        let flag = flags::of(command)
            .iter()
            .find(|flag| flag.short == Some(letter));
        Some((command, flag?))
    });
    own.ok_or_else(|| {
        format!("unknown flag -{letter}: flags are words with two dashes, like --http")
    })
}

/// Returns the flag of this name and its command. If the command has no such flag (or is unknown yet), returns that of
/// any command.
fn known_flag(command: Option<Command>, name: &str) -> Result<(Command, &'static Flag), String> {
    let own = command.and_then(|command| Some((command, flags::find(command, name)?)));
    if let Some(found) = own.or_else(|| flags::all().find(|(_, flag)| flag.name == name)) {
        return Ok(found);
    }
    let names = flags::all()
        .filter(|(of, flag)| !flag.hidden && command.is_none_or(|command| *of == command))
        .map(|(_, flag)| flag.name)
        .chain(["help", "version"]);
    Err(match flags::nearest(name, names) {
        Some(near) => format!("unknown flag --{name}: did you mean --{near}?"),
        None => format!("unknown flag --{name}"),
    })
}

/// Stores the value of a flag. `source`: the flag or the variable as it was written.
fn store(args: &mut Args, flag: &Flag, source: &str, value: &OsStr) -> Result<(), String> {
    (flag.store)(args, value).ok_or_else(|| format!("{source}: {value:?} is not {}", flag.expects))
}

/// Stores a value, or the values between commas if the flag is repeatable.
fn store_all(args: &mut Args, flag: &Flag, source: &str, value: &OsStr) -> Result<(), String> {
    if !flag.repeatable {
        return store(args, flag, source, value);
    }
    value
        .as_bytes()
        .split(|&byte| byte == b',')
        .filter(|part| !part.trim_ascii().is_empty())
        .try_for_each(|part| store(args, flag, source, OsStr::from_bytes(part)))
}

/// Whether this argument of `explain` is a request and not the folder.
fn is_request(word: &OsStr, is_folder: &dyn Fn(&OsStr) -> bool) -> bool {
    let text = word.to_string_lossy();
    let method = text.split(' ').next();
    let method = method.is_some_and(|method| is_method(method.as_bytes()));
    let url = text.contains("://") || text.contains(['?', '&', '=']);
    // A UDP message such as `862991443753386,ALIYUN_Luat_V0035_8955,2.0.0`.
    let message = text.contains(',') && !text.contains('/');
    method || ((url || message) && !is_folder(word))
}

/// Whether this is the method of a request line. The words after a method belong to the request line, also without
/// quotes.
fn is_method(word: &[u8]) -> bool {
    matches!(
        word,
        b"GET" | b"POST" | b"HEAD" | b"PUT" | b"DELETE" | b"PATCH"
    )
}

/// Fails if the arguments of `explain` describe the check incompletely.
fn check_query(query: &ModuleQuery) -> Result<(), String> {
    let missing: Vec<&str> = [
        ("--imei", &query.device),
        ("--firmware-name", &query.firmware_name),
        ("--version", &query.version),
    ]
    .into_iter()
    .filter_map(|(name, value)| value.is_none().then_some(name))
    .collect();
    match missing.len() {
        _ if query.request.is_some() => Ok(()),
        0 => Ok(()),
        3 => Err("no request: give one from a module's log in quotes, or \
             --imei, --firmware-name and --version"
            .to_owned()),
        _ => Err(format!("missing: {}", missing.join(" and "))),
    }
}

/// Returns remarks on variables that have the program's prefix and belong to no flag.
fn unknown_variables(environment: &[(OsString, OsString)]) -> impl Iterator<Item = String> {
    let is_known = |name: &str| {
        name == FOLDER_ENV_VAR || flags::all().any(|(command, flag)| flag.env_var(command) == name)
    };
    environment.iter().filter_map(move |(name, _)| {
        let name = name.to_string_lossy();
        let short = name.strip_prefix(ENV_PREFIX)?;
        if is_known(&name) {
            return None;
        }
        let names = flags::all().filter(|(_, flag)| !flag.hidden);
        let near = flags::nearest(short, names.map(|(_, flag)| flag.name));
        let near = near.and_then(|near| flags::all().find(|(_, flag)| flag.name == near));
        let hint = near.map(|(command, flag)| format!(": did you mean {}?", flag.env_var(command)));
        Some(format!(
            "{name} is set, but no flag has this name{}",
            hint.unwrap_or_default()
        ))
    })
}

fn sentence(error: lexopt::Error) -> String {
    match error {
        lexopt::Error::UnexpectedValue { option, .. } => format!("{option} has no value"),
        other => other.to_string(),
    }
}
