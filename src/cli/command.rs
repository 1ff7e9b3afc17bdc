//! Table of the commands, each with its help.

use std::fmt;

/// A command of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Serve,
    Check,
    Explain,
    Devices,
    Lift,
    Resume,
    Drain,
    #[cfg(feature = "lab")]
    Probe,
    #[cfg(feature = "lab")]
    Simulate,
    #[cfg(feature = "pack")]
    Pack,
    #[cfg(feature = "packages")]
    Health,
    #[cfg(feature = "packages")]
    Completions,
    #[cfg(feature = "packages")]
    Man,
}

/// Object that a command works on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// The server that the command runs.
    Serving,
    /// Folders of a server, which may be running.
    Folders,
    /// Emulated modules, which send requests to a server at any address.
    #[cfg(feature = "lab")]
    Modules,
    /// Packages, which the command builds.
    #[cfg(feature = "pack")]
    Building,
    /// Installation packages of this program: the command is needed by a container, a shell or the manual.
    #[cfg(feature = "packages")]
    Packages,
}

/// A command with its description.
struct Description {
    command: Command,
    name: &'static str,
    scope: Scope,
    /// Synopsis in the program's help.
    usage: &'static str,
    /// Description in the program's help.
    summary: &'static str,
    /// The command's own help: its synopsis up to an empty line, then its description, with indented examples.
    help: &'static str,
}

/// Table of commands, in the order of the program's help.
static COMMANDS: &[Description] = &[
    Description {
        command: Command::Serve,
        name: "serve",
        scope: Scope::Serving,
        usage: "[serve] [DIR]",
        summary: "serves the firmware folder DIR over HTTP, UDP and TCP",
        help: SERVE,
    },
    Description {
        command: Command::Check,
        name: "check",
        scope: Scope::Folders,
        usage: "check [DIR]",
        summary: "shows what the server would offer, and what it would not and why",
        help: CHECK,
    },
    Description {
        command: Command::Explain,
        name: "explain",
        scope: Scope::Folders,
        usage: "explain [DIR]",
        summary: "shows what a module would get, and why",
        help: EXPLAIN,
    },
    Description {
        command: Command::Devices,
        name: "devices",
        scope: Scope::Folders,
        usage: "devices [DIR]",
        summary: "shows the known devices and their update progress",
        help: DEVICES,
    },
    Description {
        command: Command::Lift,
        name: "lift",
        scope: Scope::Folders,
        usage: "lift [DIR]",
        summary: "lifts all holds of a device",
        help: LIFT,
    },
    Description {
        command: Command::Resume,
        name: "resume",
        scope: Scope::Folders,
        usage: "resume RELEASE",
        summary: "ends the pause of a release",
        help: RESUME,
    },
    Description {
        command: Command::Drain,
        name: "drain",
        scope: Scope::Folders,
        usage: "drain [DIR]",
        summary: "lets a load balancer send requests to other servers",
        help: DRAIN,
    },
    #[cfg(feature = "lab")]
    Description {
        command: Command::Probe,
        name: "probe",
        scope: Scope::Modules,
        usage: "probe",
        summary: "tests a server with the clients of all module generations",
        help: PROBE,
    },
    #[cfg(feature = "lab")]
    Description {
        command: Command::Simulate,
        name: "simulate",
        scope: Scope::Modules,
        usage: "simulate",
        summary: "sends the requests of a fleet of simulated modules to a server",
        help: SIMULATE,
    },
    #[cfg(feature = "pack")]
    Description {
        command: Command::Pack,
        name: "pack",
        scope: Scope::Building,
        usage: "pack FILE.soc",
        summary: "builds a script package of a .soc file or of scripts",
        help: PACK,
    },
    #[cfg(feature = "packages")]
    Description {
        command: Command::Health,
        name: "health",
        scope: Scope::Packages,
        usage: "health",
        summary: "checks whether the server on this machine answers",
        help: HEALTH,
    },
    #[cfg(feature = "packages")]
    Description {
        command: Command::Completions,
        name: "completions",
        scope: Scope::Packages,
        usage: "completions",
        summary: "prints the completion script for a shell",
        help: COMPLETIONS,
    },
    #[cfg(feature = "packages")]
    Description {
        command: Command::Man,
        name: "man",
        scope: Scope::Packages,
        usage: "man",
        summary: "prints the manual page",
        help: MAN,
    },
];

/// Description of the program in the first line of its help.
pub(super) const ABOUT: &str = "the update server for Luat / LuatOS cellular modules";

impl Command {
    /// Returns all commands of this build.
    pub fn all() -> impl Iterator<Item = Command> {
        COMMANDS.iter().map(|description| description.command)
    }

    /// Returns the command of this name.
    pub fn named(name: &str) -> Option<Command> {
        Command::all().find(|command| command.name() == name)
    }

    fn description(self) -> &'static Description {
        let is_this = |description: &&Description| description.command == self;
        match COMMANDS.iter().find(is_this) {
            Some(description) => description,
            None => unreachable!("every command is described"),
        }
    }

    /// Name of the command, as it is typed.
    pub fn name(self) -> &'static str {
        self.description().name
    }

    /// Synopsis of the command in the program's help.
    pub fn usage(self) -> &'static str {
        self.description().usage
    }

    /// Description of the command in the program's help.
    pub fn summary(self) -> &'static str {
        self.description().summary
    }

    /// Help of the command without its flags: the synopsis up to an empty line, then the description, with indented
    /// examples.
    pub fn help(self) -> &'static str {
        self.description().help
    }

    /// Whether the command plays modules and does not use the firmware folder.
    pub fn emulates_modules(self) -> bool {
        #[cfg(feature = "lab")]
        return self.description().scope == Scope::Modules;
        #[cfg(not(feature = "lab"))]
        false
    }

    /// Whether the command builds packages.
    pub fn builds_packages(self) -> bool {
        #[cfg(feature = "pack")]
        return self.description().scope == Scope::Building;
        #[cfg(not(feature = "pack"))]
        false
    }

    /// Whether the names of the command's environment variables contain its name.
    pub fn has_own_variables(self) -> bool {
        self.emulates_modules() || self.builds_packages()
    }

    /// Whether the command works on the folders of a server, which may be an installed one.
    pub fn uses_server_folders(self) -> bool {
        self.description().scope == Scope::Folders
    }

    /// Whether the firmware folder may be an argument of the command.
    pub fn takes_folder(self) -> bool {
        self == Command::Serve || self.uses_server_folders()
    }

    /// Whether the command has its own flag `--version`, for the version of the module.
    pub fn has_version_flag(self) -> bool {
        self == Command::Explain || self.has_own_variables()
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "luat-ota {}", self.name())
    }
}

const SERVE: &str = "\
luat-ota [serve] [DIR]

Serves the firmware folder DIR over HTTP, UDP and TCP, and watches it. If the folder does not exist,
it is created.

Signals: after SIGTERM or SIGINT, running downloads finish (--grace) and the server ends. SIGHUP
scans the folder at once.
Exit status: 0 after a signal, 1 if it cannot serve, 2 wrong usage.
";

const CHECK: &str = "\
luat-ota check [DIR] [--json | --csv]

Reads the firmware folder DIR and shows its releases as a table, then quarantined files with the
reason, ignored files, and warnings. Serves nothing and changes nothing. --json and --csv print one
row for each file and each remark.

Exit status: 0 success, 1 if anything is quarantined or the folder cannot be read, 2 wrong usage.
";

const EXPLAIN: &str = "\
luat-ota explain [DIR] --imei N --firmware-name NAME --version V
luat-ota explain [DIR] REQUEST

Shows what a module would get if it asked now, and every rule that was evaluated, in order. --json
prints the object that the API shows. REQUEST is a URL, a request line from the log of a module, or
a message of the UDP protocol, in quotes:

  luat-ota explain 'GET /luat/update?imei=862991443753386&firmware_name=ALIYUN_Luat_V0007_ASR1802&version=2.0.0 HTTP/1.1'
  luat-ota explain '862991443753386,ALIYUN_Luat_V0035_8955,2.0.0'

Exit status: 0 if a file is offered, 3 if the check is refused, 1 if the folder cannot be read,
2 wrong usage.
";

const DEVICES: &str = "\
luat-ota devices [DIR] [--imei PREFIX] [--json | --csv]

Shows the devices that a server on the firmware folder DIR remembers: the version that each runs,
its update progress and since when, and whether it is held. Reads the journal in the state folder.
The server can be running; its last seconds may be missing. --json and --csv print what the API
shows, in the order of the journal.

Exit status: 0 success, 1 if the journal cannot be read, 2 wrong usage.
";

const LIFT: &str = "\
luat-ota lift [DIR] --imei N

Lifts all holds of a device, so that it can get the same file again. The command puts a request into
the state folder, and the running server executes it within a few seconds. If no server is running,
the next server that starts executes it.

Exit status: 0 success, 1 if there is no such device or the server cannot be asked, 2 wrong usage.
";

const RESUME: &str = "\
luat-ota resume PROJECT/VERSION [DIR]

Ends the pause of a release, including a pause by the fuse that is only in the state folder. The
command puts a request into the state folder, and the running server executes it: if release.json
contains a pause, it writes \"paused\": false there. If no server is running, the next server that
starts executes it.

Exit status: 0 success, 1 if there is no such release or the server cannot be asked, 2 wrong usage.
";

const DRAIN: &str = "\
luat-ota drain [DIR] [--undo]

Lets /readyz of the running server answer 503, so that a load balancer sends requests to other
servers. The server answers everything else as before. --undo or a restart ends that. The command
puts a request into the state folder and waits until the server has taken it.

Exit status: 0 success, 1 if no server is running or it cannot be asked, 2 wrong usage.
";

#[cfg(feature = "lab")]
const PROBE: &str = "\
luat-ota probe [--http URL] [--udp HOST:PORT] [--tcp HOST:PORT]

Tests a running server (this one or any other) with the clients of all module generations. Shows
which update, which understand \"no update\", and which fail, with what the server must change for
each failure. Waits of a module are skipped: a hang of ten minutes takes seconds. Colours are used
only on a terminal, and not if NO_COLOR is set.

  luat-ota probe --http http://127.0.0.1:8080/luat/update --udp 127.0.0.1:2234 --tcp 127.0.0.1:2234

Exit status: 0 if no client fails, 1 if one does, 2 wrong usage. A bug of a client that no server
can avoid is shown and does not count.
";

#[cfg(feature = "lab")]
const SIMULATE: &str = "\
luat-ota simulate --devices N [--http URL] [--udp HOST:PORT]

Sends the requests of a fleet of simulated modules, each with its own IMEI, to a server, and reports
the results. It ends when every module is updated, or was refused or failed --rounds times, or after
--duration. It sends requests only to the given addresses, and without --yes-really only to this
machine.

  luat-ota simulate --devices 5000 --http http://127.0.0.1:8080/luat/update --cut 10 --fail 2

Exit status: 0 if every module finished, none failed, the server made no error and no image is
corrupt; 1 otherwise; 2 wrong usage.
";

#[cfg(feature = "pack")]
const PACK: &str = "\
luat-ota pack FILE.soc
luat-ota pack --core FILE.soc SCRIPT...
luat-ota pack --show FILE

Builds a package with the script in a .soc file, or with the named scripts and folders of
scripts for the core in it, and names it as Luatools does. For EC7xx (EC718, Air780EP*, Air8000),
EC618 and Air8101. Lua files are packed as they are, compiled (.luac) or source.

  luat-ota pack core_with_script.soc
  luat-ota pack --core LuatOS-SoC_V2020_Air780EPM.soc src/
  luat-ota pack --show demo_2020.1.2_LuatOS-SoC_Air780EPM.bin

A new core is not included. Its format is closed: let Luatools make the delta of the old and the new
.soc file, and put it into PROJECT/VERSION/from-OLDCORE/ in the firmware folder.

Exit status: 0 fine, 1 if no package can be built (then nothing is written), 2 wrong usage.
";

#[cfg(feature = "packages")]
const HEALTH: &str = "\
luat-ota health [--http ADDR]

Requests /healthz from the server at ADDR, for the health check of a container. If ADDR means all
addresses, it uses the loopback address. Of several addresses it uses the first.

Exit status: 0 if the reply is 200 within five seconds, 1 otherwise, 2 wrong usage.
";

#[cfg(feature = "packages")]
const COMPLETIONS: &str = "\
luat-ota completions bash|zsh|fish

Prints the script with which this shell completes commands and flags:

  luat-ota completions bash >/usr/share/bash-completion/completions/luat-ota
  luat-ota completions zsh >/usr/share/zsh/vendor-completions/_luat-ota
  luat-ota completions fish >/usr/share/fish/vendor_completions.d/luat-ota.fish

Exit status: 0 success, 2 wrong usage.
";

#[cfg(feature = "packages")]
const MAN: &str = "\
luat-ota man

Prints the manual page, for man -l - or /usr/local/share/man/man1/luat-ota.1.

Exit status: 0 success, 2 wrong usage.
";
