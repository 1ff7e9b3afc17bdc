//! What packages need beside the server: `luat-ota man` and `completions`, made from the same table and
//! texts as `--help`, and `health` for a container, in which there is nothing else that could ask.
//!
//! A feature of its own, because a router has no use for it: there the package brings neither manual
//! nor completions, and procd watches the process itself.

mod completions;
mod health;
mod man;

pub(super) use completions::{Shell, completions};
pub(super) use health::health;
pub(super) use man::man;

use super::flags::{Default, FLAG, Flag};
use super::{Command, help, values};

/// What stands in the help of the program.
pub(super) const PROGRAM: &str =
    "  luat-ota health          says whether the server on this machine answers
  luat-ota completions     prints what makes a shell complete these words
  luat-ota man             prints the manual page
";

/// The help of `health`.
pub(super) const HEALTH: &str = "\
luat-ota health [--http ADDR]

Asks the server at ADDR for /healthz, as what watches over a container does. Of an address that
means all addresses it asks this machine's own; of several addresses the first.

Exit status: 0 if it answers 200 within five seconds, else 1; 2 wrong usage.
";

/// The help of `completions`.
pub(super) const COMPLETIONS: &str = "\
luat-ota completions bash|zsh|fish

Prints what makes this shell complete commands and flags:

  luat-ota completions bash >/usr/share/bash-completion/completions/luat-ota
  luat-ota completions zsh >/usr/share/zsh/vendor-completions/_luat-ota
  luat-ota completions fish >/usr/share/fish/vendor_completions.d/luat-ota.fish

Exit status: 0 fine, 2 wrong usage.
";

/// The help of `man`.
pub(super) const MAN: &str = "\
luat-ota man

Prints the manual page, for man -l - or /usr/local/share/man/man1/luat-ota.1.

Exit status: 0 fine, 2 wrong usage.
";

/// The flags of these commands.
pub(super) static FLAGS: &[Flag] = &[Flag {
    name: "http",
    value: "ADDR",
    default: Default::Value("[::]:8080"),
    repeatable: true,
    command: Command::Health,
    good: "an address that the server listens on, like 8080 or 192.168.1.2:8080",
    help: "Where the server answers modules: the same as its own --http.",
    set: |line, value| {
        line.settings.http.push(values::address(value)?);
        Some(())
    },
    ..FLAG
}];

/// What a command does, in the words of the list in the program's help.
fn summary(command: Command) -> &'static str {
    let lists = std::iter::once(help::prose(None)).chain(help::OTHERS.iter().copied());
    lists
        .flat_map(str::lines)
        .find_map(|line| {
            let words = line.strip_prefix("  luat-ota ")?;
            let (called, does) = words.split_once("  ")?;
            let name = called.split(' ').next()?.trim_matches(['[', ']']);
            (name == command.name()).then(|| does.trim_start())
        })
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_of_the_program_says_what_each_command_does() {
        for command in Command::ALL {
            assert!(summary(*command).len() > 10, "{command}");
        }
        assert!(summary(Command::Check).starts_with("shows what would be served"));
    }
}
