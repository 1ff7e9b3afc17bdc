//! The table of flags. Parsing, the environment variables, the help, the manual page, the completions and the
//! suggestion for a mistyped name are all made from it: a new flag is one new entry.

mod inspect;
#[cfg(feature = "lab")]
mod lab;
#[cfg(feature = "pack")]
mod pack;
mod serve;

use std::ffi::OsStr;

use super::args::Args;
use super::command::Command;

/// Prefix of the environment variables.
pub(super) const ENV_PREFIX: &str = "LUAT_OTA_";

/// The environment variable of the firmware folder, which is not a flag.
pub(super) const FOLDER_ENV_VAR: &str = "LUAT_OTA_DIR";

/// Default of a flag.
#[derive(Clone, Copy, Debug)]
pub(super) enum Default {
    /// A value (separated by commas if the flag is repeatable), which is parsed as if it were given.
    Value(&'static str),
    /// The initial value in [`Args`], described by these words in the help.
    Words(&'static str),
    /// The initial value in [`Args`], which the help does not mention.
    Nothing,
}

/// One flag.
#[derive(Clone, Copy)]
pub(super) struct Flag {
    /// Name of the flag, without `--`.
    pub name: &'static str,
    /// Letter of the short form, after one dash.
    pub short: Option<char>,
    /// Placeholder of the value in the help; empty for a switch.
    pub value: &'static str,
    /// Default if the flag is not given.
    pub default: Default,
    /// Whether the flag may be given several times. In the environment its values are separated by commas.
    pub repeatable: bool,
    /// Whether the flag is for developers: neither in the help nor suggested.
    pub hidden: bool,
    /// Description of a valid value, which ends the sentence "--http: "x" is not …".
    pub expects: &'static str,
    /// Sentence for the help.
    pub help: &'static str,
    /// Stores one value; `None` if the value is invalid.
    pub store: fn(&mut Args, &OsStr) -> Option<()>,
}

impl Flag {
    /// Creates a flag with a value.
    const fn new(name: &'static str, value: &'static str) -> Flag {
        Flag {
            name,
            short: None,
            value,
            default: Default::Nothing,
            repeatable: false,
            hidden: false,
            expects: "",
            help: "",
            store: |_, _| None,
        }
    }

    /// Creates a flag without a value.
    const fn switch(name: &'static str) -> Flag {
        Flag::new(name, "").expects("yes or no")
    }

    #[cfg(feature = "pack")]
    const fn short(self, letter: char) -> Flag {
        Flag {
            short: Some(letter),
            ..self
        }
    }

    const fn expects(self, expects: &'static str) -> Flag {
        Flag { expects, ..self }
    }

    const fn store(self, store: fn(&mut Args, &OsStr) -> Option<()>) -> Flag {
        Flag { store, ..self }
    }

    const fn help(self, help: &'static str) -> Flag {
        Flag { help, ..self }
    }

    const fn default(self, value: &'static str) -> Flag {
        Flag {
            default: Default::Value(value),
            ..self
        }
    }

    const fn default_words(self, words: &'static str) -> Flag {
        Flag {
            default: Default::Words(words),
            ..self
        }
    }

    const fn repeatable(self) -> Flag {
        Flag {
            repeatable: true,
            ..self
        }
    }

    const fn hidden(self) -> Flag {
        Flag {
            hidden: true,
            ..self
        }
    }

    /// Name of the flag's environment variable. The variables of `probe`, `simulate` and `pack` contain the command,
    /// since `--http` has another meaning for `serve`.
    pub fn env_var(&self, command: Command) -> String {
        let name = self.name.to_ascii_uppercase().replace('-', "_");
        match command.has_own_variables() {
            true => format!("{ENV_PREFIX}{}_{name}", command.name().to_ascii_uppercase()),
            false => format!("{ENV_PREFIX}{name}"),
        }
    }

    /// Whether the flag has no value.
    pub fn is_switch(&self) -> bool {
        self.value.is_empty()
    }
}

/// Descriptions of values that several flags expect.
const SECONDS: &str = "a number of seconds from 1 to 86400";
const TEXT: &str = "a text (UTF-8) that is not empty";

/// Returns the flags of a command, in the order of its help.
pub(super) fn of(command: Command) -> &'static [Flag] {
    match command {
        Command::Serve => serve::SERVE,
        Command::Check => inspect::CHECK,
        Command::Explain => inspect::EXPLAIN,
        Command::Devices => inspect::DEVICES,
        Command::Lift => inspect::LIFT,
        Command::Resume => inspect::RESUME,
        Command::Drain => inspect::DRAIN,
        #[cfg(feature = "lab")]
        Command::Probe => lab::PROBE,
        #[cfg(feature = "lab")]
        Command::Simulate => lab::SIMULATE,
        #[cfg(feature = "pack")]
        Command::Pack => pack::PACK,
        #[cfg(feature = "packages")]
        Command::Health => inspect::HEALTH,
        #[cfg(feature = "packages")]
        Command::Completions | Command::Man => &[],
    }
}

/// Returns the flags of a command that its help shows.
pub(super) fn visible(command: Command) -> impl Iterator<Item = &'static Flag> {
    of(command).iter().filter(|flag| !flag.hidden)
}

/// Returns all flags, each with its command.
pub(super) fn all() -> impl Iterator<Item = (Command, &'static Flag)> {
    Command::all().flat_map(|command| of(command).iter().map(move |flag| (command, flag)))
}

/// Returns the flag of this name that the command has.
pub(super) fn find(command: Command, name: &str) -> Option<&'static Flag> {
    of(command).iter().find(|flag| flag.name == name)
}

/// Returns the name that a mistyped one probably stands for: a few letters differ, or it begins with the mistyped one.
pub(super) fn nearest<'n>(typed: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let typed = typed.to_ascii_lowercase().replace('_', "-");
    let bound = match typed.chars().count() {
        0..=2 => 1,
        3..=8 => 2,
        _ => 3,
    };
    names
        .filter_map(|name| {
            let distance = strsim::osa_distance(&typed, name);
            // A short name in which all letters differ is not suggested.
            if distance <= bound && distance < name.len().min(typed.len()).max(2) {
                Some((distance, name))
            } else if typed.len() >= 3 && name.starts_with(&typed) {
                Some((bound + 1, name))
            } else {
                None
            }
        })
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_flag_name_is_unique_in_its_command() {
        for command in Command::all() {
            for (i, flag) in of(command).iter().enumerate() {
                let name = flag.name;
                assert!(
                    of(command)[..i].iter().all(|other| other.name != name),
                    "{name} is there twice"
                );
                assert!(!flag.help.is_empty() && flag.help.ends_with('.'), "{name}");
                assert!(!flag.expects.is_empty(), "{name}");
                assert_eq!(flag.expects == "yes or no", flag.is_switch(), "{name}");
                assert_ne!(flag.env_var(command), FOLDER_ENV_VAR);
            }
        }
    }

    #[test]
    fn an_environment_variable_is_the_name_in_capitals() {
        let flag = find(Command::Serve, "max-connections-per-address").unwrap();
        assert_eq!(
            flag.env_var(Command::Serve),
            "LUAT_OTA_MAX_CONNECTIONS_PER_ADDRESS"
        );
    }

    #[test]
    fn every_default_is_a_good_value() {
        for (_, flag) in all() {
            if let Default::Value(value) = flag.default {
                let stored = (flag.store)(&mut Args::new(), OsStr::new(value));
                assert!(stored.is_some(), "{}", flag.name);
            }
        }
    }

    #[test]
    fn the_defaults_of_the_table_are_those_of_the_limits() {
        let mut args = Args::new();
        for flag in of(Command::Serve) {
            if let Default::Value(value) = flag.default {
                (flag.store)(&mut args, OsStr::new(value)).unwrap();
            }
        }
        let fleet = crate::fleet::FleetSettings::default();
        assert_eq!(format!("{:?}", args.settings.fleet), format!("{fleet:?}"));
        let limits = crate::device::Limits::default();
        assert_eq!(format!("{:?}", args.settings.limits), format!("{limits:?}"));
    }

    #[test]
    fn only_a_similar_name_is_suggested() {
        let names = || of(Command::Serve).iter().map(|flag| flag.name);
        for (typed, meant) in [
            ("htpp", Some("http")),
            ("upd", Some("udp")),
            ("HTTP", Some("http")),
            ("log_format", Some("log-format")),
            ("logformat", Some("log-format")),
            ("trusted-proxies", Some("trusted-proxy")),
            ("snapshot", Some("snapshot-memory")),
            ("max-connection", Some("max-connections")),
            ("colour", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(typed, names()), meant, "{typed}");
        }
        let commands = || ["serve", "check", "explain"].into_iter();
        assert_eq!(nearest("sevre", commands()), Some("serve"));
        assert_eq!(nearest("chekc", commands()), Some("check"));
        assert_eq!(nearest("explian", commands()), Some("explain"));
        assert_eq!(nearest("firmware", commands()), None);
        assert_eq!(nearest("fw", commands()), None);
    }
}
