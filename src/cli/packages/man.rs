//! `luat-ota man`: the manual page, in the language of man(7), without a date, so that the same
//! program gives the same page.

use std::fmt::Write;

use super::super::flags::{self, Default, FOLDER_TWIN, Flag};
use super::super::{Command, help};
use super::summary;

/// The page.
pub(in crate::cli) fn man() -> String {
    let mut page = String::new();
    let version = env!("CARGO_PKG_VERSION");
    let _ = writeln!(
        page,
        ".TH LUAT\\-OTA 1 \"\" \"luat\\-ota {version}\" \"User Commands\""
    );
    let about = help::prose(None).lines().next().unwrap_or_default();
    let about = about.split_once(": ").map_or(about, |(_, about)| about);
    let _ = writeln!(page, ".SH NAME\nluat\\-ota \\- {}", escaped(about));
    page.push_str(".SH SYNOPSIS\n");
    for command in Command::ALL {
        for line in usage(*command) {
            let _ = writeln!(page, ".B {}\n.br", escaped(line));
        }
    }
    page.push_str(
        ".SH DESCRIPTION\nOne program that is the server, and what goes with it. Each command says the \
         same with \\fB\\-\\-help\\fR.\n",
    );
    for command in Command::ALL {
        let _ = writeln!(
            page,
            ".SS {}",
            escaped(&format!("{}: {}", command.name(), summary(*command)))
        );
        body(&mut page, help::prose(Some(*command)));
        flags::of(*command)
            .filter(|flag| !flag.hidden)
            .for_each(|flag| describe(&mut page, flag));
    }
    let _ = writeln!(
        page,
        ".SH ENVIRONMENT\nA flag wins over the environment, the environment over the default. A repeatable \
         flag has its values between commas there.\n.TP\n.B {FOLDER_TWIN}\nThe firmware folder; the default \
         is \\fBfirmware\\fR."
    );
    for flag in flags::all().filter(|flag| flag.command == Command::Serve && !flag.hidden) {
        let _ = writeln!(
            page,
            ".TP\n.B {}\nThe same as \\fB\\-\\-{}\\fR.",
            flag.twin(),
            escaped(flag.name)
        );
    }
    page
}

/// How a command is called: the first paragraph of its help.
fn usage(command: Command) -> impl Iterator<Item = &'static str> {
    help::prose(Some(command))
        .lines()
        .take_while(|line| !line.is_empty())
}

/// What follows it. Indented lines are examples, and stay as they are.
fn body(page: &mut String, prose: &str) {
    let mut example = false;
    for line in prose.lines().skip_while(|line| !line.is_empty()).skip(1) {
        let indented = line.starts_with("  ");
        if indented != example && !line.is_empty() {
            page.push_str(if indented { ".nf\n" } else { ".fi\n" });
            example = indented;
        }
        match line {
            "" => page.push_str(".PP\n"),
            line => {
                let _ = writeln!(page, "{}", escaped(line));
            }
        }
    }
    if example {
        page.push_str(".fi\n");
    }
}

fn describe(page: &mut String, flag: &Flag) {
    let _ = write!(page, ".TP\n\\fB\\-\\-{}\\fR", escaped(flag.name));
    if !flag.is_switch() {
        let _ = write!(page, " \\fI{}\\fR", escaped(flag.value));
    }
    page.push_str(if flag.repeatable {
        " (repeatable)\n"
    } else {
        "\n"
    });
    let _ = writeln!(page, "{}", escaped(flag.help));
    if let Default::Value(text) | Default::Words(text) = flag.default {
        let _ = writeln!(page, "Default: {}.", escaped(text));
    }
}

/// A text with what would be a sign of the language taken for itself.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    if text.starts_with(['.', '\'']) {
        out.push_str("\\&");
    }
    for letter in text.chars() {
        match letter {
            '\\' => out.push_str("\\e"),
            '-' => out.push_str("\\-"),
            '`' => out.push_str("\\(ga"),
            '~' => out.push_str("\\(ti"),
            '^' => out.push_str("\\(ha"),
            '\u{a0}' => out.push_str("\\ "),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_every_command_and_flag_and_no_line_that_is_taken_for_a_request() {
        let page = man();
        for command in Command::ALL {
            assert!(
                page.contains(&format!("\n.SS {}: ", command.name())),
                "{command}"
            );
        }
        for flag in flags::all() {
            let name = format!("\\fB\\-\\-{}\\fR", escaped(flag.name));
            assert_eq!(page.contains(&name), !flag.hidden, "{}", flag.name);
        }
        for line in page.lines().filter(|line| line.starts_with(['.', '\''])) {
            let request = line.split(' ').next().unwrap();
            let ours = [".TH", ".SH", ".SS", ".B", ".br", ".TP", ".PP", ".nf", ".fi"];
            assert!(ours.contains(&request), "{line}");
        }
        assert!(page.is_ascii());
    }

    #[test]
    fn signs_of_the_language_are_taken_for_themselves() {
        assert_eq!(escaped(".luat-ota \\n"), "\\&.luat\\-ota \\en");
    }
}
