//! `luat-ota completions`. Each shell gets the same: the commands, the flags of each, folders and files
//! where one is wanted, and the words that a flag takes where they can be counted.

use std::ffi::OsStr;
use std::fmt::Write;

use super::super::Command;
use super::super::flags::{self, Flag};
use super::summary;

/// A shell that can be told what to complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Shell {
    /// The shell of this name.
    pub fn named(name: &OsStr) -> Option<Shell> {
        Some(match name.to_str()? {
            "bash" => Shell::Bash,
            "zsh" => Shell::Zsh,
            "fish" => Shell::Fish,
            _ => return None,
        })
    }
}

/// What the shell is to read.
pub(in crate::cli) fn completions(shell: Shell) -> String {
    match shell {
        Shell::Bash => bash(),
        Shell::Zsh => zsh(),
        Shell::Fish => fish(),
    }
}

/// What a value can be, as far as a shell can know.
enum Kind {
    Folder,
    File,
    OneOf(Vec<&'static str>),
    Anything,
}

fn kind(flag: &Flag) -> Kind {
    match flag.value {
        "DIR" => Kind::Folder,
        "FILE" => Kind::File,
        // `error, warn, info or debug`
        "FORMAT" | "LEVEL" => {
            let parts = flag.good.split(", ").flat_map(|part| part.split(" or "));
            Kind::OneOf(parts.collect())
        }
        _ => Kind::Anything,
    }
}

fn shown(command: Command) -> impl Iterator<Item = &'static Flag> {
    flags::of(command).filter(|flag| !flag.hidden)
}

/// All but `serve`, which also is what goes without a word.
fn others() -> impl Iterator<Item = &'static str> {
    let others = Command::ALL.iter().filter(|it| **it != Command::Serve);
    others.map(|command| command.name())
}

fn joined<'a>(words: impl Iterator<Item = &'a str>, between: &str) -> String {
    words.collect::<Vec<_>>().join(between)
}

fn bash() -> String {
    let commands = joined(Command::ALL.iter().map(|command| command.name()), " ");
    let mut out = format!(
        "# luat-ota completions bash
_luat_ota() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD - 1]}} command=serve flags=
    COMPREPLY=()
    case ${{COMP_WORDS[1]}} in
        {}) command=${{COMP_WORDS[1]}} ;;
    esac
    case $command,$before in
",
        joined(others(), " | ")
    );
    for command in Command::ALL {
        for flag in shown(*command) {
            let does = match kind(flag) {
                _ if flag.is_switch() => continue,
                Kind::Folder => {
                    "compopt -o filenames; mapfile -t COMPREPLY < <(compgen -d -- \"$word\")"
                        .to_owned()
                }
                Kind::File => {
                    "compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- \"$word\")"
                        .to_owned()
                }
                Kind::OneOf(words) => format!(
                    "mapfile -t COMPREPLY < <(compgen -W '{}' -- \"$word\")",
                    words.join(" ")
                ),
                Kind::Anything => ":".to_owned(),
            };
            let _ = writeln!(
                out,
                "        {},--{}) {does}; return ;;",
                command.name(),
                flag.name
            );
        }
    }
    out.push_str("    esac\n    case $command in\n");
    for command in Command::ALL {
        let names = shown(*command).map(|flag| format!("--{} ", flag.name));
        let _ = writeln!(
            out,
            "        {}) flags='{}--help' ;;",
            command.name(),
            names.collect::<String>()
        );
    }
    let _ = write!(
        out,
        "    esac
    case $command,$word in
        *,-*) mapfile -t COMPREPLY < <(compgen -W \"$flags\" -- \"$word\") ;;
        completions,*) mapfile -t COMPREPLY < <(compgen -W 'bash zsh fish' -- \"$word\") ;;
        *)
            compopt -o filenames
            mapfile -t COMPREPLY < <(compgen -d -- \"$word\")
            [ \"$COMP_CWORD\" != 1 ] || mapfile -t -O \"${{#COMPREPLY[@]}}\" COMPREPLY < <(compgen -W '{commands}' -- \"$word\")
            ;;
    esac
}}
complete -F _luat_ota luat-ota
"
    );
    out
}

fn zsh() -> String {
    let mut out = "#compdef luat-ota
# luat-ota completions zsh
_luat_ota() {
    local -a commands
    commands=(
"
    .to_owned();
    for command in Command::ALL {
        let says = quoted(&format!("{}:{}", command.name(), summary(*command)));
        let _ = writeln!(out, "        {says}");
    }
    let _ = write!(
        out,
        "    )
    local command=serve
    case ${{words[2]}} in
        serve|{}) command=${{words[2]}}; shift words; (( CURRENT-- )) ;;
        *) (( CURRENT == 2 )) && [[ ${{words[2]}} != -* ]] && _describe command commands ;;
    esac
    case $command in
",
        joined(others(), "|")
    );
    for command in Command::ALL {
        let _ = writeln!(
            out,
            "        {})\n            _arguments \\",
            command.name()
        );
        for flag in shown(*command) {
            let star = if flag.repeatable { "*" } else { "" };
            let help = flag.help.replace(['[', ']'], "").replace(':', "\\:");
            let mut spec = format!("{star}--{}[{help}]", flag.name);
            if !flag.is_switch() {
                let value = flag.value.replace(':', "\\:");
                let action = match kind(flag) {
                    Kind::Folder => "_files -/".to_owned(),
                    Kind::File => "_files".to_owned(),
                    Kind::OneOf(words) => format!("({})", words.join(" ")),
                    Kind::Anything => " ".to_owned(),
                };
                let _ = write!(spec, ":{value}:{action}");
            }
            let _ = writeln!(out, "                {} \\", quoted(&spec));
        }
        let last = match command {
            Command::Completions => "1:shell:(bash zsh fish)",
            command if command.takes_a_folder() => "1:firmware folder:_files -/",
            _ => "--help[shows the help]",
        };
        let _ = writeln!(out, "                {} ;;", quoted(last));
    }
    out.push_str("    esac\n}\n_luat_ota \"$@\"\n");
    out
}

/// Between the quotes of a shell, which take everything for itself.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

fn fish() -> String {
    let mut out = "# luat-ota completions fish\ncomplete -c luat-ota -f\n".to_owned();
    for command in Command::ALL {
        let _ = writeln!(
            out,
            "complete -c luat-ota -n __fish_use_subcommand -a {} -d {}",
            command.name(),
            quoted_for_fish(summary(*command))
        );
    }
    let others = joined(others(), " ");
    for command in Command::ALL {
        let when = match command {
            // Also without its name.
            Command::Serve => format!("not __fish_seen_subcommand_from {others}"),
            command => format!("__fish_seen_subcommand_from {}", command.name()),
        };
        if command.takes_a_folder() {
            let _ = writeln!(
                out,
                "complete -c luat-ota -n '{when}' -a '(__fish_complete_directories)'"
            );
        }
        if *command == Command::Completions {
            let _ = writeln!(out, "complete -c luat-ota -n '{when}' -a 'bash zsh fish'");
        }
        for flag in shown(*command) {
            let _ = write!(out, "complete -c luat-ota -n '{when}' -l {}", flag.name);
            if !flag.is_switch() {
                out.push_str(match kind(flag) {
                    Kind::Folder => " -x -a '(__fish_complete_directories)'",
                    Kind::File => " -r -F",
                    Kind::OneOf(_) | Kind::Anything => " -x",
                });
                if let Kind::OneOf(words) = kind(flag) {
                    let _ = write!(out, " -a '{}'", words.join(" "));
                }
            }
            let _ = writeln!(out, " -d {}", quoted_for_fish(flag.help));
        }
    }
    out
}

/// The same between fish's quotes, in which a backslash is none.
fn quoted_for_fish(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_knows_every_command_and_flag_and_none_that_is_hidden() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let text = completions(shell);
            for command in Command::ALL {
                assert!(text.contains(command.name()), "{shell:?}: {command}");
            }
            for flag in flags::all() {
                let name = match shell {
                    Shell::Bash | Shell::Zsh => format!("--{}", flag.name),
                    Shell::Fish => format!("-l {} ", flag.name),
                };
                assert_eq!(
                    text.contains(&name),
                    !flag.hidden,
                    "{shell:?}: {}",
                    flag.name
                );
            }
        }
    }

    #[test]
    fn the_words_of_a_flag_are_those_that_it_takes() {
        let counted = flags::all().filter_map(|flag| match kind(flag) {
            Kind::OneOf(words) => Some((flag, words)),
            _ => None,
        });
        let mut count = 0;
        for (flag, words) in counted {
            for word in words {
                let mut line = super::super::super::Line::new();
                assert!(
                    (flag.set)(&mut line, OsStr::new(word)).is_some(),
                    "{} {word}",
                    flag.name
                );
                count += 1;
            }
        }
        assert_eq!(count, 6);
    }
}
