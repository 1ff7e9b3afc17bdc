//! Help texts, generated from the tables of commands and flags.

use std::fmt::Write;

use super::command::{ABOUT, Command};
use super::flags::{self, Default, FOLDER_ENV_VAR, Flag};

/// Number of columns of a line.
const WIDTH: usize = 100;

/// Number of columns before the description of a flag.
const INDENT: usize = 10;

/// Note on the folders that a command uses if none is named.
const INSTALLED: &str = "\
       If there is no ./firmware, the folders of the installed server are used
       (/etc/default/luat-ota).
";

const PROGRAM_END: &str = "  luat-ota COMMAND --help  shows the flags of a command

Exit status: 0 success, 1 failure, 2 wrong usage. The help of each command has the details.
";

/// Returns the help of a command, or of the program.
pub(super) fn text(command: Option<Command>) -> String {
    // Writing to a String cannot fail, here and below.
    let mut out = match command {
        Some(command) => command.help().to_owned(),
        None => {
            let mut out = format!("luat-ota: {ABOUT}\n\n");
            for command in Command::all() {
                let _ = writeln!(
                    out,
                    "  luat-ota {:<16}{}",
                    command.usage(),
                    command.summary()
                );
            }
            out + PROGRAM_END
        }
    };
    let command = command.unwrap_or(Command::Serve);
    for (i, flag) in flags::visible(command).enumerate() {
        if i == 0 {
            let _ = writeln!(out, "\nFlags of {command}:");
        }
        describe(&mut out, command, flag);
    }
    if !flags::of(command).is_empty() {
        paragraph(
            &mut out,
            0,
            "\nA flag takes precedence over the environment variable, and that over the default. A \
             repeatable flag can be given several times; its environment variable has values \
             separated by commas.",
        );
    }
    out.push('\n');
    if command.takes_folder() {
        let _ = writeln!(out, "  DIR  [env: {FOLDER_ENV_VAR}] [default: firmware]");
        if command.uses_server_folders() {
            out.push_str(INSTALLED);
        }
    }
    out.push_str("  -h, --help     shows this help\n");
    out.push_str(match command.has_version_flag() {
        true => "  -V             prints the name and the version\n",
        false => "  -V, --version  prints the name and the version\n",
    });
    out
}

fn describe(out: &mut String, command: Command, flag: &Flag) {
    let value = match flag.is_switch() {
        true => String::new(),
        false => format!(" {}", flag.value),
    };
    let repeatable = if flag.repeatable {
        "  (repeatable)"
    } else {
        ""
    };
    let _ = match flag.short {
        Some(letter) => writeln!(out, "  -{letter}, --{}{value}{repeatable}", flag.name),
        None => writeln!(out, "  --{}{value}{repeatable}", flag.name),
    };
    paragraph(out, INDENT, flag.help);
    let default = match flag.default {
        Default::Value(text) | Default::Words(text) => format!("[default: {text}] "),
        Default::Nothing => String::new(),
    };
    // A no-break space prevents a line break here.
    let origin = format!("{default}[env:\u{a0}{}]", flag.env_var(command));
    paragraph(out, INDENT, &origin);
}

/// Writes a text in lines of at most [`WIDTH`] columns.
fn paragraph(out: &mut String, indent: usize, text: &str) {
    for line in text.lines() {
        let mut column = 0;
        for word in line.split(' ').filter(|word| !word.is_empty()) {
            if column > 0 && column + 1 + word.len() <= WIDTH {
                out.push(' ');
                column += 1 + word.len();
            } else {
                if column > 0 {
                    out.push('\n');
                }
                out.extend(std::iter::repeat_n(' ', indent));
                column = indent + word.len();
            }
            out.push_str(&word.replace('\u{a0}', " "));
        }
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_of_a_command_has_all_its_flags_with_default_and_environment_variable() {
        for command in Command::all() {
            let text = text(Some(command));
            for flag in flags::of(command) {
                let name = flag.name;
                if flag.hidden {
                    assert!(!text.contains(&format!("--{name}")), "{name}");
                    continue;
                }
                assert!(text.contains(&format!(" --{name}")), "{name}");
                let env_var = flag.env_var(command);
                assert!(text.contains(&format!("[env: {env_var}]")), "{name}");
                if let Default::Value(default) = flag.default {
                    assert!(text.contains(&format!("[default: {default}]")), "{name}");
                }
            }
        }
        assert!(text(None).contains("--max-connections-per-address"));
        assert!(!text(Some(Command::Check)).contains("--http"));
    }

    #[test]
    fn only_examples_have_long_lines() {
        for command in Command::all().map(Some).chain([None]) {
            for line in text(command).lines() {
                let example = line.starts_with("  luat-ota explain");
                assert!(line.chars().count() <= WIDTH || example, "{line}");
            }
        }
    }

    #[test]
    fn the_help_of_the_program_says_what_each_command_does() {
        for command in Command::all() {
            assert!(command.summary().len() > 10, "{command}");
            assert!(
                command
                    .help()
                    .starts_with(&format!("luat-ota {}", command.name()))
                    || command == Command::Serve
            );
        }
        assert!(text(None).contains("\n  luat-ota check [DIR]     shows what the server would"));
    }
}
