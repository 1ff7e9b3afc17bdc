//! `luat-ota completions`: generates the script with which a shell completes commands, the flags of each, folders and
//! files as values, and the words that a flag takes where they are few.

use std::fmt::Write;

use super::args::Shell;
use super::command::Command;
use super::flags::{self, Flag};

/// Returns the script that the shell reads.
pub(super) fn text(shell: Shell) -> String {
    match shell {
        Shell::Bash => bash(),
        Shell::Zsh => zsh(),
        Shell::Fish => fish(),
    }
}

/// Values that a shell can suggest for a flag.
enum ValueHint {
    Folder,
    File,
    OneOf(Vec<&'static str>),
    Anything,
}

fn hint(flag: &Flag) -> ValueHint {
    match flag.value {
        "DIR" => ValueHint::Folder,
        "FILE" | "PATH" => ValueHint::File,
        // The text is a list such as `error, warn, info or debug`.
        "FORMAT" | "LEVEL" => {
            let parts = flag.expects.split(", ").flat_map(|part| part.split(" or "));
            ValueHint::OneOf(parts.collect())
        }
        _ => ValueHint::Anything,
    }
}

/// Returns the names of all commands except `serve`, which is also the default.
fn commands_except_serve() -> impl Iterator<Item = &'static str> {
    let others = Command::all().filter(|command| *command != Command::Serve);
    others.map(Command::name)
}

fn joined<'a>(words: impl Iterator<Item = &'a str>, between: &str) -> String {
    words.collect::<Vec<_>>().join(between)
}

fn bash() -> String {
    let commands = joined(Command::all().map(Command::name), " ");
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
        joined(commands_except_serve(), " | ")
    );
    for command in Command::all() {
        for flag in flags::visible(command) {
            let does = match hint(flag) {
                _ if flag.is_switch() => continue,
                ValueHint::Folder => {
                    "compopt -o filenames; mapfile -t COMPREPLY < <(compgen -d -- \"$word\")"
                        .to_owned()
                }
                ValueHint::File => {
                    "compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- \"$word\")"
                        .to_owned()
                }
                ValueHint::OneOf(words) => format!(
                    "mapfile -t COMPREPLY < <(compgen -W '{}' -- \"$word\")",
                    words.join(" ")
                ),
                ValueHint::Anything => ":".to_owned(),
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
    for command in Command::all() {
        let names = flags::visible(command).map(|flag| format!("--{} ", flag.name));
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
        pack,*) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- \"$word\") ;;
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
    for command in Command::all() {
        let says = quoted(&format!("{}:{}", command.name(), command.summary()));
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
        joined(commands_except_serve(), "|")
    );
    for command in Command::all() {
        let _ = writeln!(
            out,
            "        {})\n            _arguments \\",
            command.name()
        );
        for flag in flags::visible(command) {
            let star = if flag.repeatable { "*" } else { "" };
            let help = flag.help.replace(['[', ']'], "").replace(':', "\\:");
            let mut spec = format!("{star}--{}[{help}]", flag.name);
            if !flag.is_switch() {
                let value = flag.value.replace(':', "\\:");
                let action = match hint(flag) {
                    ValueHint::Folder => "_files -/".to_owned(),
                    ValueHint::File => "_files".to_owned(),
                    ValueHint::OneOf(words) => format!("({})", words.join(" ")),
                    ValueHint::Anything => " ".to_owned(),
                };
                let _ = write!(spec, ":{value}:{action}");
            }
            let _ = writeln!(out, "                {} \\", quoted(&spec));
        }
        let last = match command {
            Command::Completions => "1:shell:(bash zsh fish)",
            command if command.builds_packages() => "*:file:_files",
            command if command.takes_folder() => "1:firmware folder:_files -/",
            _ => "--help[shows the help]",
        };
        let _ = writeln!(out, "                {} ;;", quoted(last));
    }
    out.push_str("    esac\n}\n_luat_ota \"$@\"\n");
    out
}

/// Quotes a text for bash and zsh, which interpret nothing between single quotes.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

fn fish() -> String {
    let mut out = "# luat-ota completions fish\ncomplete -c luat-ota -f\n".to_owned();
    for command in Command::all() {
        let _ = writeln!(
            out,
            "complete -c luat-ota -n __fish_use_subcommand -a {} -d {}",
            command.name(),
            quoted_for_fish(command.summary())
        );
    }
    let others = joined(commands_except_serve(), " ");
    for command in Command::all() {
        let when = match command {
            // These flags are also valid without a command.
            Command::Serve => format!("not __fish_seen_subcommand_from {others}"),
            command => format!("__fish_seen_subcommand_from {}", command.name()),
        };
        if command.takes_folder() {
            let _ = writeln!(
                out,
                "complete -c luat-ota -n '{when}' -a '(__fish_complete_directories)'"
            );
        }
        if command.builds_packages() {
            let _ = writeln!(out, "complete -c luat-ota -n '{when}' -F");
        }
        if command == Command::Completions {
            let _ = writeln!(out, "complete -c luat-ota -n '{when}' -a 'bash zsh fish'");
        }
        for flag in flags::visible(command) {
            let _ = write!(out, "complete -c luat-ota -n '{when}' -l {}", flag.name);
            if let Some(letter) = flag.short {
                let _ = write!(out, " -s {letter}");
            }
            if !flag.is_switch() {
                out.push_str(match hint(flag) {
                    ValueHint::Folder => " -x -a '(__fish_complete_directories)'",
                    ValueHint::File => " -r -F",
                    ValueHint::OneOf(_) | ValueHint::Anything => " -x",
                });
                if let ValueHint::OneOf(words) = hint(flag) {
                    let _ = write!(out, " -a '{}'", words.join(" "));
                }
            }
            let _ = writeln!(out, " -d {}", quoted_for_fish(flag.help));
        }
    }
    out
}

/// Quotes a text for fish, which interprets backslashes between single quotes.
fn quoted_for_fish(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;
    use crate::cli::args::Args;

    #[test]
    fn every_shell_completes_each_visible_command_and_flag() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let text = text(shell);
            for command in Command::all() {
                assert!(text.contains(command.name()), "{shell:?}: {command}");
            }
            for (_, flag) in flags::all() {
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
    fn a_flag_accepts_each_word_that_is_completed() {
        let counted = flags::all().filter_map(|(_, flag)| match hint(flag) {
            ValueHint::OneOf(words) => Some((flag, words)),
            _ => None,
        });
        let mut count = 0;
        for (flag, words) in counted {
            for word in words {
                let stored = (flag.store)(&mut Args::new(), OsStr::new(word));
                assert!(stored.is_some(), "{} {word}", flag.name);
                count += 1;
            }
        }
        assert_eq!(count, 6);
    }
}
