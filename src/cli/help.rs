//! The help, made from the table of flags.

use std::fmt::Write;

use super::Command;
use super::flags::{self, Default, FOLDER_TWIN, Flag};

/// Columns of a line.
const WIDTH: usize = 100;

/// Columns before what a flag is for.
const INDENT: usize = 10;

/// The help of a command, or of the program.
pub(super) fn text(command: Option<Command>) -> String {
    let mut out = prose(command).to_owned();
    if command.is_none() {
        OTHERS.iter().for_each(|list| out.push_str(list));
        out.push_str(PROGRAM_END);
    }
    let command = command.unwrap_or(Command::Serve);
    for (i, flag) in flags::of(command).filter(|flag| !flag.hidden).enumerate() {
        if i == 0 {
            let _ = writeln!(out, "\nFlags of {command}:");
        }
        describe(&mut out, flag);
    }
    if flags::of(command).next().is_some() {
        paragraph(
            &mut out,
            0,
            "\nA flag wins over the environment, the environment over the default. A repeatable flag \
             is given several times, and in the environment has its values between commas.",
        );
    }
    out.push('\n');
    if command.takes_a_folder() {
        let _ = writeln!(out, "  DIR  [env: {FOLDER_TWIN}] [default: firmware]");
        if command.looks_at_a_server() {
            out.push_str(INSTALLED);
        }
    }
    out.push_str("  -h, --help     this page\n");
    out.push_str(match command.has_a_version() {
        true => "  -V             prints the name and the version\n",
        false => "  -V, --version  prints the name and the version\n",
    });
    out
}

/// What is said of a command, or of the program: first how it is called, up to an empty line; then
/// what it does, examples being indented.
pub(super) fn prose(command: Option<Command>) -> &'static str {
    match command {
        None => PROGRAM,
        Some(Command::Serve) => SERVE,
        Some(Command::Check) => CHECK,
        Some(Command::Explain) => EXPLAIN,
        Some(Command::Devices) => DEVICES,
        Some(Command::Lift) => LIFT,
        Some(Command::Resume) => RESUME,
        #[cfg(feature = "lab")]
        Some(Command::Probe) => super::lab::PROBE,
        #[cfg(feature = "lab")]
        Some(Command::Simulate) => super::lab::SIMULATE,
        #[cfg(feature = "packages")]
        Some(Command::Health) => super::packages::HEALTH,
        #[cfg(feature = "packages")]
        Some(Command::Completions) => super::packages::COMPLETIONS,
        #[cfg(feature = "packages")]
        Some(Command::Man) => super::packages::MAN,
    }
}

/// The commands that not every build has, as the program's help lists them.
pub(super) const OTHERS: &[&str] = &[
    #[cfg(feature = "lab")]
    super::lab::PROGRAM,
    #[cfg(feature = "packages")]
    super::packages::PROGRAM,
];

const PROGRAM: &str = "\
luat-ota: the update server for Luat / LuatOS cellular modules

  luat-ota [serve] [DIR]   serves the firmware folder DIR over HTTP, UDP and TCP
  luat-ota check [DIR]     shows what would be served, and what would not and why
  luat-ota explain [DIR]   shows what a module would be told, and why
  luat-ota devices [DIR]   shows the devices that the server remembers, and how far each has come
  luat-ota lift [DIR]      takes back what the server holds against a device
  luat-ota resume RELEASE  ends the pause of a release
";

/// Where a command finds a server whose folder nobody names.
const INSTALLED: &str = "\
       If there is no folder named firmware here: the folders of the installed server
       (/etc/default/luat-ota).
";

const PROGRAM_END: &str = "\
  luat-ota COMMAND --help  shows the flags of a command

Exit status: 0 fine, 1 trouble, 2 wrong usage; each command's help has the rest.
";

const SERVE: &str = "\
luat-ota [serve] [DIR]

Serves the firmware folder DIR over HTTP, UDP and TCP, and watches it. The folder is created if it
is not there.

Signals: SIGTERM and SIGINT let running downloads finish (--grace) and end the server; SIGHUP looks
through the folder at once.
Exit status: 0 after a signal, 1 if it cannot serve, 2 wrong usage.
";

const CHECK: &str = "\
luat-ota check [DIR]

Reads the firmware folder DIR and shows the catalogue as a table, then what is quarantined and why,
what is ignored, and what looks like a mistake. Serves nothing and changes nothing.

Exit status: 0 fine, 1 if anything is quarantined or the folder cannot be read, 2 wrong usage.
";

const EXPLAIN: &str = "\
luat-ota explain [DIR] --imei N --firmware-name NAME --version V
luat-ota explain [DIR] REQUEST

Shows what a module would be told that asks now, and every rule that was looked at, in order.
REQUEST is a URL, a request line out of a module's log, or a message of the UDP protocol, between
quotes:

  luat-ota explain 'GET /luat/update?imei=862991443753386&firmware_name=ALIYUN_Luat_V0007_ASR1802&version=2.0.0 HTTP/1.1'
  luat-ota explain '862991443753386,ALIYUN_Luat_V0035_8955,2.0.0'

Exit status: 0 if it is offered a file, 3 if it is refused, 1 if the folder cannot be read, 2 wrong
usage.
";

const DEVICES: &str = "\
luat-ota devices [DIR] [--imei PREFIX]

Shows the devices that a server on the firmware folder DIR remembers: what each runs, how far it has
come on its way to a release and since when, and whether that release is held back from it. Reads
the journal in the state folder; a server may be running, and may know of some seconds more.

Exit status: 0 fine, 1 if the journal cannot be read, 2 wrong usage.
";

const RESUME: &str = "\
luat-ota resume PROJECT/VERSION [DIR]

Ends the pause of a release, also one that the fuse keeps although release.json does not say it. The
running server is asked by a file in its state folder, and writes \"paused\": false into release.json
where that says that the release is paused. If none is running the next one that starts does it.

Exit status: 0 fine, 1 if there is no such release or the server cannot be asked, 2 wrong usage.
";

const LIFT: &str = "\
luat-ota lift [DIR] --imei N

Takes back what the loop guard holds against a device, so that it is offered the same file again.
The running server is asked by a file in its state folder, and does it within some seconds; if none
is running the next one that starts does it.

Exit status: 0 fine, 1 if there is no such device or the server cannot be asked, 2 wrong usage.
";

fn describe(out: &mut String, flag: &Flag) {
    let _ = write!(out, "  --{}", flag.name);
    if !flag.is_switch() {
        let _ = write!(out, " {}", flag.value);
    }
    out.push_str(if flag.repeatable {
        "  (repeatable)\n"
    } else {
        "\n"
    });
    paragraph(out, INDENT, flag.help);
    let default = match flag.default {
        Default::Value(text) | Default::Words(text) => format!("[default: {text}] "),
        Default::Nothing => String::new(),
    };
    // The space within must not become the end of a line.
    paragraph(
        out,
        INDENT,
        &format!("{default}[env:\u{a0}{}]", flag.twin()),
    );
}

/// Writes a text in lines of at most [`WIDTH`] columns.
fn paragraph(out: &mut String, indent: usize, text: &str) {
    for line in text.lines() {
        let mut column = 0_usize;
        for word in line.split(' ').filter(|word| !word.is_empty()) {
            let end = column.saturating_add(1).saturating_add(word.len());
            if column > 0 && end <= WIDTH {
                out.push(' ');
                column = end;
            } else {
                if column > 0 {
                    out.push('\n');
                }
                out.extend(std::iter::repeat_n(' ', indent));
                column = indent.saturating_add(word.len());
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
    fn the_help_of_a_command_has_all_its_flags_with_default_and_twin() {
        for command in Command::ALL {
            let text = text(Some(*command));
            for flag in flags::of(*command) {
                if flag.hidden {
                    assert!(!text.contains(&format!("--{}", flag.name)), "{}", flag.name);
                    continue;
                }
                assert!(
                    text.contains(&format!("  --{}", flag.name)),
                    "{}",
                    flag.name
                );
                assert!(
                    text.contains(&format!("[env: {}]", flag.twin())),
                    "{}",
                    flag.name
                );
                if let Default::Value(default) = flag.default {
                    assert!(
                        text.contains(&format!("[default: {default}]")),
                        "{}",
                        flag.name
                    );
                }
            }
        }
        assert!(text(None).contains("--max-connections-per-address"));
        assert!(!text(Some(Command::Check)).contains("--http"));
    }

    #[test]
    fn no_line_is_too_long_but_an_example() {
        let all = Command::ALL.iter().map(|command| Some(*command));
        for command in all.chain([None]) {
            for line in text(command).lines() {
                let example = line.starts_with("  luat-ota explain");
                assert!(line.chars().count() <= WIDTH || example, "{line}");
            }
        }
    }
}
