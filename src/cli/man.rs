//! `luat-ota man`: generates the manual page, in the format of man(7). The page has no date, so that the same program
//! always generates the same page.

use std::fmt::Write;

use super::command::{ABOUT, Command};
use super::flags::{self, Default, FOLDER_ENV_VAR, Flag};

/// Returns the page.
pub(super) fn page() -> String {
    // Writing to a String cannot fail, here and below.
    let mut page = format!(
        ".TH LUAT\\-OTA 1 \"\" \"luat\\-ota {}\" \"User Commands\"\n.SH NAME\nluat\\-ota \\- {}\n\
         .SH SYNOPSIS\n",
        env!("CARGO_PKG_VERSION"),
        escaped(ABOUT)
    );
    for command in Command::all() {
        let (usage, _) = usage_and_body(command);
        for line in usage.lines() {
            let _ = writeln!(page, ".B {}\n.br", escaped(line));
        }
    }
    page.push_str(
        ".SH DESCRIPTION\nOne program with the server and its tools. Each command shows this text with \\fB\\-\\-help\\fR.\n",
    );
    for command in Command::all() {
        let title = format!("{}: {}", command.name(), command.summary());
        let _ = writeln!(page, ".SS {}", escaped(&title));
        let (_, text) = usage_and_body(command);
        body(&mut page, text);
        flags::visible(command).for_each(|flag| describe(&mut page, flag));
    }
    let _ = writeln!(
        page,
        ".SH ENVIRONMENT\nA flag takes precedence over the environment variable, and that over the default. The variable of a repeatable flag has values separated by commas.\n.TP\n.B {FOLDER_ENV_VAR}\nThe firmware folder; the default \
         is \\fBfirmware\\fR."
    );
    for flag in flags::visible(Command::Serve) {
        let _ = writeln!(
            page,
            ".TP\n.B {}\nThe same as \\fB\\-\\-{}\\fR.",
            flag.env_var(Command::Serve),
            escaped(flag.name)
        );
    }
    page
}

/// Splits the help of a command into its synopsis and its description.
fn usage_and_body(command: Command) -> (&'static str, &'static str) {
    let help = command.help();
    help.split_once("\n\n").unwrap_or((help, ""))
}

/// Writes the description of a command. Indented lines are examples, whose line breaks are kept.
fn body(page: &mut String, text: &str) {
    let mut is_example = false;
    for line in text.lines() {
        let indented = line.starts_with("  ");
        if indented != is_example && !line.is_empty() {
            page.push_str(if indented { ".nf\n" } else { ".fi\n" });
            is_example = indented;
        }
        match line {
            "" => page.push_str(".PP\n"),
            line => {
                let _ = writeln!(page, "{}", escaped(line));
            }
        }
    }
    if is_example {
        page.push_str(".fi\n");
    }
}

fn describe(page: &mut String, flag: &Flag) {
    let value = match flag.is_switch() {
        true => String::new(),
        false => format!(" \\fI{}\\fR", escaped(flag.value)),
    };
    let repeatable = if flag.repeatable { " (repeatable)" } else { "" };
    let (name, help) = (escaped(flag.name), escaped(flag.help));
    let short = match flag.short {
        Some(letter) => format!("\\fB\\-{letter}\\fR, "),
        None => String::new(),
    };
    let _ = writeln!(
        page,
        ".TP\n{short}\\fB\\-\\-{name}\\fR{value}{repeatable}\n{help}"
    );
    if let Default::Value(text) | Default::Words(text) = flag.default {
        let _ = writeln!(page, "Default: {}.", escaped(text));
    }
}

/// Escapes the characters that have a meaning in man(7).
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
    fn the_page_has_every_command_and_flag_and_no_accidental_request() {
        let page = page();
        for command in Command::all() {
            assert!(
                page.contains(&format!("\n.SS {}: ", command.name())),
                "{command}"
            );
        }
        for (_, flag) in flags::all() {
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
    fn special_characters_are_escaped() {
        assert_eq!(escaped(".luat-ota \\n"), "\\&.luat\\-ota \\en");
    }
}
