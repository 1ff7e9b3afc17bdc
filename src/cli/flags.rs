//! The table of flags. Parsing, the `LUAT_OTA_*` twins, the help and the suggestion for a mistyped
//! name are all made from it, so they cannot disagree: a new flag is one new entry here.

use std::ffi::OsStr;
use std::path::PathBuf;

use super::values;
use super::{Command, Line};
use crate::firmware::audience::DeviceId;
use crate::logging::Format;
use crate::os::without::Feature;

/// What goes for a flag that is not given.
#[derive(Clone, Copy, Debug)]
pub(super) enum Default {
    /// This value (values between commas, if the flag is repeatable), read as if it were given.
    Value(&'static str),
    /// What these words say; the value stays as [`Line::new`] has it.
    Words(&'static str),
    /// Nothing: it may be left out, and the help has no word on it.
    Nothing,
}

/// One flag.
pub(super) struct Flag {
    /// Its name, without `--`.
    pub name: &'static str,
    /// What its value is called in the help; empty for a switch.
    pub value: &'static str,
    /// What goes without it.
    pub default: Default,
    /// May be given several times; values between commas in the environment.
    pub repeatable: bool,
    /// For who works in the house: neither in the help nor suggested.
    pub hidden: bool,
    /// Whose flag it is.
    pub command: Command,
    /// What a good value looks like: ends the sentence "--http: "x" is not …".
    pub good: &'static str,
    /// A sentence for the help.
    pub help: &'static str,
    /// Takes over one value; `None` if it is not a good one.
    pub set: fn(&mut Line, &OsStr) -> Option<()>,
}

impl Flag {
    /// The name of its twin in the environment. Those of `probe` and `simulate` have the command in
    /// it: `--http` means another thing to `serve`.
    pub fn twin(&self) -> String {
        let name = self.name.to_ascii_uppercase().replace('-', "_");
        if self.command.is_of_the_lab() {
            let command = self.command.name().to_ascii_uppercase();
            return format!("{TWINS}{command}_{name}");
        }
        format!("{TWINS}{name}")
    }

    /// It is there or not, and has no value.
    pub fn is_switch(&self) -> bool {
        self.value.is_empty()
    }
}

/// How the names of all twins begin.
pub(super) const TWINS: &str = "LUAT_OTA_";

/// The twin of the folder, which is no flag.
pub(super) const FOLDER_TWIN: &str = "LUAT_OTA_DIR";

/// The values that most flags are made from.
pub(super) const FLAG: Flag = Flag {
    name: "",
    value: "",
    default: Default::Nothing,
    repeatable: false,
    hidden: false,
    command: Command::Serve,
    good: "",
    help: "",
    set: |_, _| None,
};

const ADDRESS: &str = "an address to listen on, like 8080, 192.168.1.2:8080 or [::]:8080";
const COUNT_OF_DEVICES: &str = "a number from 100 to 10000000";
const COUNT: &str = "a number from 1 to 1000000";
const FOLDER: &str = "a folder";
const STATE_DEFAULT: &str = "$STATE_DIRECTORY, else .luat-ota in the firmware folder";
const RATE: &str = "a number from 0 (no limit) to 1000000";
pub(super) const SECONDS: &str = "a number of seconds from 1 to 86400";
pub(super) const TEXT: &str = "a text (UTF-8) that is not empty";

/// The table, in the order of the help; the laboratory and what packages need have their own.
static FLAGS: &[Flag] = &[
    Flag {
        name: "http",
        value: "ADDR",
        default: Default::Value("[::]:8080"),
        repeatable: true,
        good: ADDRESS,
        help: "Answers modules over HTTP at this address; a port alone means all addresses.",
        set: |line, value| {
            line.settings.http.push(values::address(value)?);
            Some(())
        },
        ..FLAG
    },
    Flag {
        name: "udp",
        value: "ADDR",
        default: Default::Value("[::]:2234"),
        repeatable: true,
        good: "an address to listen on, like 2234, 192.168.1.2:2234 or [::]:2234",
        help: "Answers modules of the first edition at this address, over UDP and over TCP.",
        set: |line, value| {
            line.settings.udp.push(values::address(value)?);
            Some(())
        },
        ..FLAG
    },
    Flag {
        name: "operator",
        value: "ADDR",
        default: Default::Value("127.0.0.1:8081"),
        good: "an address to listen on, like 127.0.0.1:8081, or off",
        help: "Answers people (page, API, metrics) at this address; off: nowhere. On anything but \
               this machine's own 127.0.0.1 or ::1 it needs --operator-token-file.",
        set: |line, value| {
            line.settings.operator.address = match values::text(value)? {
                "off" => None,
                _ => Some(values::address(value)?),
            };
            Some(())
        },
        ..FLAG
    },
    Flag {
        name: "operator-token",
        value: "TEXT",
        default: Default::Words("made at the first start, kept in the state folder"),
        good: "8 to 256 ASCII letters, digits or signs without spaces",
        help: "Lets in who sends this as a bearer token. Other users of this machine can read a \
               command line; better is --operator-token-file.",
        set: |line, value| {
            let token = values::text(value).filter(|text| values::is_token(text))?;
            line.settings.operator.token = Some(token.to_owned());
            Some(())
        },
        ..FLAG
    },
    Flag {
        name: "operator-token-file",
        value: "FILE",
        default: Default::Words("none"),
        good: "a file",
        help: "Reads that token from this file.",
        set: |line, value| {
            line.settings.operator.token_file = Some(path(value)?);
            Some(())
        },
        ..FLAG
    },
    Flag {
        name: "operator-host",
        value: "NAME",
        default: Default::Words("none"),
        repeatable: true,
        good: "a host, like ota.example.com or ota.example.com:8443",
        help: "Answers people under this name, too: that of a proxy in front, or of this machine in \
               its network.",
        set: |line, value| {
            let host = values::text(value).filter(|text| values::is_host_name(text))?;
            line.settings.operator.hosts.push(host.to_owned());
            Some(())
        },
        ..FLAG
    },
    Flag {
        name: "state",
        value: "DIR",
        default: Default::Words(STATE_DEFAULT),
        good: FOLDER,
        help: "Keeps here what must outlive a restart (what is remembered of the devices, the secret \
               behind the UDP ids, the known hashes), and temporary files.",
        set: |line, value| {
            line.settings.state = Some(path(value)?);
            Some(())
        },
        ..FLAG
    },
    Flag {
        name: "trusted-proxy",
        value: "CIDR",
        default: Default::Words("none"),
        repeatable: true,
        good: "a network, like 10.0.0.0/8, 192.168.1.2 or fd00::/8",
        help: "Takes a module's address from X-Forwarded-For when the connection comes from this \
               network.",
        set: |line, value| {
            let network = values::text(value)?.parse().ok()?;
            line.settings.limits.trusted_proxies.push(network);
            Some(())
        },
        ..FLAG
    },
    Flag {
        name: "grace",
        value: "SECONDS",
        default: Default::Value("30"),
        good: "a number of seconds from 0 to 86400",
        help: "Lets running downloads go on for so long after SIGTERM or SIGINT; a second signal \
               ends them at once.",
        set: |line, value| {
            line.settings.grace = values::seconds(value, 0)?;
            Some(())
        },
        ..FLAG
    },
    Flag {
        name: "rescan",
        value: "SECONDS",
        default: Default::Value("30"),
        good: SECONDS,
        help: "Looks through the whole folder this often, whatever the kernel reports of changes \
               (network drives report none).",
        set: |line, value| {
            line.settings.rescan = values::seconds(value, 1)?;
            Some(())
        },
        ..FLAG
    },
    Flag {
        name: "udp-roaming",
        help: "Lets a module go on with a UDP download from another network than it asked from. \
               Its upgrade id is then worth something to whoever overhears it.",
        set: |line, value| {
            line.settings.limits.udp_roaming = values::yes(value)?;
            Some(())
        },
        ..FLAG
    },
    Flag {
        name: "log-format",
        value: "FORMAT",
        default: Default::Value("text"),
        good: "text or json",
        help: "Writes log lines (on stderr) as text or as json, one object a line.",
        set: |line, value| {
            line.settings.log_format = match values::text(value)? {
                "text" => Format::Text,
                "json" => Format::Json,
                _ => return None,
            };
            Some(())
        },
        ..FLAG
    },
    Flag {
        name: "log-level",
        value: "LEVEL",
        default: Default::Value("info"),
        good: "error, warn, info or debug",
        help: "Writes lines of this importance and above: error, warn, info or debug.",
        set: |line, value| {
            line.settings.log_level = match values::text(value)? {
                "error" => log::LevelFilter::Error,
                "warn" => log::LevelFilter::Warn,
                "info" => log::LevelFilter::Info,
                "debug" => log::LevelFilter::Debug,
                _ => return None,
            };
            Some(())
        },
        ..FLAG
    },
    Flag {
        name: "max-head",
        value: "BYTES",
        default: Default::Value("8K"),
        good: "a number of bytes from 1K to 64K",
        help: "Answers 431 to an HTTP head that is longer.",
        set: |line, value| {
            let bytes = values::size(value, 1 << 10, 64 << 10)?;
            line.settings.limits.head_bytes = usize::try_from(bytes).ok()?;
            Some(())
        },
        ..FLAG
    },
    Flag {
        name: "max-headers",
        value: "N",
        default: Default::Value("64"),
        good: "a number from 8 to 1000",
        help: "Answers 431 to an HTTP head with more header lines.",
        set: |line, value| {
            line.settings.limits.head_lines = values::number(value, 8, 1000)?;
            Some(())
        },
        ..FLAG
    },
    Flag {
        name: "head-timeout",
        value: "SECONDS",
        default: Default::Value("20"),
        good: SECONDS,
        help: "Answers 408 to a head that is not complete by then.",
        set: |line, value| {
            line.settings.limits.head_timeout = values::seconds(value, 1)?;
            Some(())
        },
        ..FLAG
    },
    Flag {
        name: "stall-timeout",
        value: "SECONDS",
        default: Default::Value("120"),
        good: SECONDS,
        help: "Gives up a download when no byte of it was acknowledged for so long, or for as long as one \
               window takes at the rate seen so far, if that is longer. There is no limit for the whole: a \
               slow module takes its time.",
        set: |line, value| {
            line.settings.limits.stall_timeout = values::seconds(value, 1)?;
            Some(())
        },
        ..FLAG
    },
    Flag {
        name: "max-connections",
        value: "N",
        default: Default::Words("as many as open files and memory allow"),
        good: COUNT,
        help: "Has no more connections open at a time.",
        set: |line, value| {
            line.settings.limits.max_connections = Some(values::number(value, 1, 1_000_000)?);
            Some(())
        },
        ..FLAG
    },
    Flag {
        name: "max-connections-per-address",
        value: "N",
        default: Default::Value("4096"),
        good: COUNT,
        help: "Has no more connections from one address open at a time. Carriers put thousands of \
               modules behind one.",
        set: |line, value| {
            line.settings.limits.max_connections_per_address = values::number(value, 1, 1_000_000)?;
            Some(())
        },
        ..FLAG
    },
    Flag {
        name: "max-downloads",
        value: "N",
        default: Default::Value("4096"),
        good: COUNT,
        help: "Lets so many downloads run at a time; beyond that a new one waits for up to 10 s and is \
               then told to come back. One that goes on with what it began never waits.",
        set: |line, value| {
            line.settings.limits.max_downloads = values::number(value, 1, 1_000_000)?;
            Some(())
        },
        ..FLAG
    },
    Flag {
        name: "uplink",
        value: "BYTES_PER_SECOND",
        default: Default::Words("not shared out"),
        good: "a number of bytes a second from 4K on, like 250000, 250K or 12M",
        help: "Shares so many bytes a second among all downloads, and lets no more run at a time than \
               get 4 KB a second each: a module's timeout is for the whole file.",
        set: |line, value| {
            line.settings.limits.uplink = Some(values::size(value, 4096, u64::MAX)?);
            Some(())
        },
        ..FLAG
    },
    Flag {
        name: "udp-checks",
        value: "N",
        default: Default::Value("2000"),
        good: RATE,
        help: "Answers so many checks a second over UDP and port 2234's TCP from one network (an IPv4 \
               /24, an IPv6 /48), in bursts five times as many; 0: no limit.",
        set: |line, value| {
            line.settings.limits.udp_checks_per_second = values::number(value, 0, 1_000_000)?;
            Some(())
        },
        ..FLAG
    },
    Flag {
        name: "udp-errors",
        value: "N",
        default: Default::Value("10"),
        good: RATE,
        help: "Answers so many wrong requests a second likewise; 0: no limit.",
        set: |line, value| {
            line.settings.limits.udp_errors_per_second = values::number(value, 0, 1_000_000)?;
            Some(())
        },
        ..FLAG
    },
    Flag {
        name: "udp-gets",
        value: "N",
        default: Default::Value("20000"),
        good: RATE,
        help: "Sends so many packets of files a second likewise; 0: no limit.",
        set: |line, value| {
            line.settings.limits.udp_gets_per_second = values::number(value, 0, 1_000_000)?;
            Some(())
        },
        ..FLAG
    },
    Flag {
        name: "snapshot-memory",
        value: "BYTES",
        default: Default::Words("a quarter of the memory"),
        good: "a number of bytes, like 67108864, 65536K or 64M",
        help: "Holds at most so many bytes of firmware in memory; what has no room there is served \
               from a temporary file in the state folder.",
        set: |line, value| {
            line.settings.snapshot_memory = Some(values::size(value, 0, u64::MAX)?);
            Some(())
        },
        ..FLAG
    },
    Flag {
        name: "without",
        value: "FEATURE",
        repeatable: true,
        hidden: true,
        good: "memfd, leases, defer-accept, inotify or joining",
        help: "Does without this, as if the machine did not have it.",
        set: |line, value| {
            let name = values::text(value)?;
            let feature = Feature::ALL.iter().find(|feature| feature.name() == name)?;
            line.settings.without.push(*feature);
            Some(())
        },
        ..FLAG
    },
    Flag {
        name: "max-devices",
        value: "N",
        default: Default::Value("200000"),
        good: COUNT_OF_DEVICES,
        help: "Remembers so many devices, at about 128 bytes of memory each; when there are more, those \
               that were not seen for the longest time are forgotten.",
        set: |line, value| {
            line.settings.fleet.max_devices = values::number(value, 100, 10_000_000)?;
            Some(())
        },
        ..FLAG
    },
    Flag {
        name: "attempts",
        value: "N",
        default: Default::Value("3"),
        good: "a number from 1 to 1000",
        help: "Lets a module have the same file so many times and come back with its old version; then \
               the file is held back from it for 1 h, 6 h, and 24 h from then on.",
        set: |line, value| {
            line.settings.fleet.attempts = values::number(value, 1, 1000)?;
            Some(())
        },
        ..FLAG
    },
    Flag {
        name: "known-devices-only",
        help: "Answers 403 with code 3 to modules that neither were seen before nor stand in \
               known-devices.txt in the state folder (one id a line).",
        set: |line, value| {
            line.settings.fleet.known_only = values::yes(value)?;
            Some(())
        },
        ..FLAG
    },
    Flag {
        name: "imei",
        value: "N",
        command: Command::Explain,
        good: "an IMEI (or a mac or uid) as the module sends it, like 862991443753386",
        help: "The module: its IMEI, or its mac or uid where it has none.",
        set: |line, value| {
            line.asked.device = Some(values::text(value)?.to_owned());
            Some(())
        },
        ..FLAG
    },
    Flag {
        name: "firmware-name",
        value: "NAME",
        command: Command::Explain,
        good: TEXT,
        help: "What the module calls its firmware, like ALIYUN_Luat_V0035_8955 or \
               DEMO_LuatOS-SoC_Air780EPM.",
        set: |line, value| {
            line.asked.firmware_name = Some(values::text(value)?.to_owned());
            Some(())
        },
        ..FLAG
    },
    Flag {
        name: "version",
        value: "V",
        command: Command::Explain,
        good: TEXT,
        help: "The version that the module says it runs, like 2.0.0 or 2012.001.003.",
        set: |line, value| {
            line.asked.version = Some(values::text(value)?.to_owned());
            Some(())
        },
        ..FLAG
    },
    Flag {
        name: "project-key",
        value: "K",
        command: Command::Explain,
        good: TEXT,
        help: "The project_key that the module sends.",
        set: |line, value| {
            line.asked.project_key = Some(values::text(value)?.to_owned());
            Some(())
        },
        ..FLAG
    },
    Flag {
        name: "core-version",
        value: "N",
        command: Command::Explain,
        good: "a number, like 3033",
        help: "The core_version that the module sends (RDA8910 and Air724U).",
        set: |line, value| {
            line.asked.core_version = Some(values::number(value, 0, 999_999_999)?);
            Some(())
        },
        ..FLAG
    },
    Flag {
        name: "need-oss-url",
        command: Command::Explain,
        help: "The module sends need_oss_url=1: it can follow a redirect.",
        set: |line, value| {
            line.asked.need_oss_url = values::yes(value)?;
            Some(())
        },
        ..FLAG
    },
    Flag {
        name: "state",
        value: "DIR",
        default: Default::Words(STATE_DEFAULT),
        command: Command::Explain,
        good: FOLDER,
        help: "The state folder of the server, which knows what the device is held back from. It is only read.",
        set: |line, value| {
            line.settings.state = Some(path(value)?);
            Some(())
        },
        ..FLAG
    },
    Flag {
        name: "state",
        value: "DIR",
        default: Default::Words(STATE_DEFAULT),
        command: Command::Devices,
        good: FOLDER,
        help: "The state folder of the server.",
        set: |line, value| {
            line.settings.state = Some(path(value)?);
            Some(())
        },
        ..FLAG
    },
    Flag {
        name: "imei",
        value: "PREFIX",
        command: Command::Devices,
        good: "the beginning of an IMEI (or of a mac or uid), like 8629914437",
        help: "Only devices whose id begins like this.",
        set: |line, value| {
            line.asked.device = Some(DeviceId::prefix(values::text(value)?));
            Some(())
        },
        ..FLAG
    },
    Flag {
        name: "state",
        value: "DIR",
        default: Default::Words(STATE_DEFAULT),
        command: Command::Lift,
        good: FOLDER,
        help: "The state folder of the server.",
        set: |line, value| {
            line.settings.state = Some(path(value)?);
            Some(())
        },
        ..FLAG
    },
    Flag {
        name: "state",
        value: "DIR",
        default: Default::Words(STATE_DEFAULT),
        command: Command::Resume,
        good: FOLDER,
        help: "The state folder of the server.",
        set: |line, value| {
            line.settings.state = Some(path(value)?);
            Some(())
        },
        ..FLAG
    },
    Flag {
        name: "imei",
        value: "N",
        command: Command::Lift,
        good: "an IMEI (or a mac or uid) as the module sends it, like 862991443753386",
        help: "The device: its IMEI, or its mac or uid where it has none.",
        set: |line, value| {
            let id = values::text(value)?;
            let (_, text) = DeviceId::read(id)?;
            line.asked.device = Some(text.into_owned());
            Some(())
        },
        ..FLAG
    },
];

/// All flags.
pub(super) fn all() -> impl Iterator<Item = &'static Flag> {
    #[cfg(feature = "lab")]
    let lab = super::lab::FLAGS;
    #[cfg(not(feature = "lab"))]
    let lab: &[Flag] = &[];
    #[cfg(feature = "packages")]
    let packages = super::packages::FLAGS;
    #[cfg(not(feature = "packages"))]
    let packages: &[Flag] = &[];
    FLAGS.iter().chain(lab).chain(packages)
}

/// The flags of a command.
pub(super) fn of(command: Command) -> impl Iterator<Item = &'static Flag> {
    all().filter(move |flag| flag.command == command)
}

/// The flag of this name that the command has.
pub(super) fn find(command: Command, name: &str) -> Option<&'static Flag> {
    of(command).find(|flag| flag.name == name)
}

fn path(value: &OsStr) -> Option<PathBuf> {
    (!value.is_empty()).then(|| PathBuf::from(value))
}

/// The name that a mistyped one was probably meant to be: few letters apart, or a beginning.
pub(super) fn nearest<'n>(typed: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let typed = typed.to_ascii_lowercase().replace('_', "-");
    let bound = match typed.chars().count() {
        0..=2 => 1,
        3..=8 => 2,
        _ => 3,
    };
    names
        .filter_map(|name| {
            let apart = strsim::osa_distance(&typed, name);
            // All letters of a short name wrong is no near miss.
            if apart <= bound && apart < name.len().min(typed.len()).max(2) {
                Some((apart, name))
            } else if typed.len() >= 3 && name.starts_with(&typed) {
                Some((bound.saturating_add(1), name))
            } else {
                None
            }
        })
        .min_by_key(|&(apart, _)| apart)
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_is_there_once_for_each_command() {
        for (i, flag) in all().enumerate() {
            assert!(
                all()
                    .take(i)
                    .all(|other| other.name != flag.name || other.command != flag.command),
                "{} is there twice",
                flag.name
            );
            assert!(
                !flag.help.is_empty() && flag.help.ends_with('.'),
                "{}",
                flag.name
            );
            assert_eq!(flag.good.is_empty(), flag.is_switch(), "{}", flag.name);
            assert_ne!(flag.twin(), FOLDER_TWIN);
        }
    }

    #[test]
    fn a_twin_is_the_name_in_capitals() {
        let flag = find(Command::Serve, "max-connections-per-address").unwrap();
        assert_eq!(flag.twin(), "LUAT_OTA_MAX_CONNECTIONS_PER_ADDRESS");
    }

    #[test]
    fn every_default_is_a_good_value() {
        for flag in all() {
            if let Default::Value(value) = flag.default {
                let mut line = Line::new();
                assert!(
                    (flag.set)(&mut line, OsStr::new(value)).is_some(),
                    "{}",
                    flag.name
                );
            }
        }
    }

    #[test]
    fn the_defaults_of_the_table_are_those_of_the_limits() {
        let mut line = Line::new();
        for flag in of(Command::Serve) {
            if let Default::Value(value) = flag.default {
                (flag.set)(&mut line, OsStr::new(value)).unwrap();
            }
        }
        let fleet = crate::fleet::Settings::default();
        assert_eq!(format!("{:?}", line.settings.fleet), format!("{fleet:?}"));
        let limits = crate::device::Limits::default();
        assert_eq!(format!("{:?}", line.settings.limits), format!("{limits:?}"));
    }

    #[test]
    fn a_near_miss_is_found_and_a_far_one_is_not() {
        let names = || of(Command::Serve).map(|flag| flag.name);
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
