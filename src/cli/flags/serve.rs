//! The flags of `serve`.

use super::{Flag, SECONDS};
use crate::cli::values::*;
use crate::logging::Format;
use crate::os::without::Feature;

const COUNT: &str = "a number from 1 to 1000000";
const RATE: &str = "a number from 0 (no limit) to 1000000";

/// The table, in the order of the help.
pub(super) static SERVE: &[Flag] = &[
    Flag::new("http", "ADDR")
        .help("Answers modules over HTTP at this address; a port alone means all addresses.")
        .default("[::]:8080")
        .repeatable()
        .expects("an address to listen on, like 8080, 192.168.1.2:8080 or [::]:8080")
        .store(|args, v| push(&mut args.settings.http, address(v))),
    Flag::new("udp", "ADDR")
        .help("Answers modules of the first edition at this address, over UDP and over TCP.")
        .default("[::]:2234")
        .repeatable()
        .expects("an address to listen on, like 2234, 192.168.1.2:2234 or [::]:2234")
        .store(|args, v| push(&mut args.settings.udp, address(v))),
    Flag::new("operator", "ADDR")
        .help(
            "Answers people (page, API, metrics) at this address; off: nowhere. On anything \
             but this machine's own 127.0.0.1 or ::1 it needs --operator-token-file.",
        )
        .default("127.0.0.1:8081")
        .expects("an address to listen on, like 127.0.0.1:8081, or off")
        .store(|args, v| {
            args.settings.operator.address = match text(v)? {
                "off" => None,
                _ => Some(address(v)?),
            };
            Some(())
        }),
    Flag::new("operator-token", "TEXT")
        .help(
            "Lets in who sends this as a bearer token. Other users of this machine can read a \
             command line; better is --operator-token-file.",
        )
        .default_words("made at the first start, kept in the state folder")
        .expects("8 to 256 ASCII letters, digits or signs without spaces")
        .store(|args, v| {
            put_some(
                &mut args.settings.operator.token,
                owned(v).filter(|text| is_token(text)),
            )
        }),
    Flag::new("operator-token-file", "FILE")
        .help("Reads that token from this file.")
        .default_words("none")
        .expects("a file")
        .store(|args, v| put_some(&mut args.settings.operator.token_file, path(v))),
    Flag::new("operator-host", "NAME")
        .help(
            "Answers people under this name, too: that of a proxy in front, or of this \
             machine in its network.",
        )
        .default_words("none")
        .repeatable()
        .expects("a host, like ota.example.com or ota.example.com:8443")
        .store(|args, v| {
            push(
                &mut args.settings.operator.hosts,
                owned(v).filter(|text| is_host_name(text)),
            )
        }),
    super::inspect::STATE.help(
        "Keeps here what must outlive a restart (what is remembered of the devices, the \
         secret behind the UDP ids, the known hashes), and temporary files.",
    ),
    Flag::new("trusted-proxy", "CIDR")
        .help(
            "Takes a module's address from X-Forwarded-For when the connection comes from \
             this network.",
        )
        .default_words("none")
        .repeatable()
        .expects("a network, like 10.0.0.0/8, 192.168.1.2 or fd00::/8")
        .store(|args, v| {
            push(
                &mut args.settings.limits.trusted_proxies,
                text(v)?.parse().ok(),
            )
        }),
    Flag::new("grace", "SECONDS")
        .help(
            "Lets running downloads go on for so long after SIGTERM or SIGINT; a second \
             signal ends them at once.",
        )
        .default("30")
        .expects("a number of seconds from 0 to 86400")
        .store(|args, v| put(&mut args.settings.grace, seconds(v, 0))),
    Flag::new("rescan", "SECONDS")
        .help(
            "Looks through the whole folder this often, whatever the kernel reports of \
             changes (network drives report none).",
        )
        .default("30")
        .expects(SECONDS)
        .store(|args, v| put(&mut args.settings.rescan, seconds(v, 1))),
    Flag::switch("udp-roaming")
        .help(
            "Lets a module go on with a UDP download from another network than it asked from. \
             Its upgrade id is then worth something to whoever overhears it.",
        )
        .store(|args, v| put(&mut args.settings.limits.udp_roaming, yes(v))),
    Flag::new("log-format", "FORMAT")
        .help("Writes log lines (on stderr) as text or as json, one object a line.")
        .default("text")
        .expects("text or json")
        .store(|args, v| {
            args.settings.log_format = match text(v)? {
                "text" => Format::Text,
                "json" => Format::Json,
                _ => return None,
            };
            Some(())
        }),
    Flag::new("log-level", "LEVEL")
        .help("Writes lines of this importance and above: error, warn, info or debug.")
        .default("info")
        .expects("error, warn, info or debug")
        .store(|args, v| {
            args.settings.log_level = match text(v)? {
                "error" => log::LevelFilter::Error,
                "warn" => log::LevelFilter::Warn,
                "info" => log::LevelFilter::Info,
                "debug" => log::LevelFilter::Debug,
                _ => return None,
            };
            Some(())
        }),
    Flag::new("max-head", "BYTES")
        .help("Answers 431 to an HTTP head that is longer.")
        .default("8K")
        .expects("a number of bytes from 1K to 64K")
        .store(|args, v| {
            put(
                &mut args.settings.limits.head_bytes,
                usize::try_from(size(v, 1 << 10, 64 << 10)?).ok(),
            )
        }),
    Flag::new("max-headers", "N")
        .help("Answers 431 to an HTTP head with more header lines.")
        .default("64")
        .expects("a number from 8 to 1000")
        .store(|args, v| put(&mut args.settings.limits.head_lines, number(v, 8, 1000))),
    Flag::new("head-timeout", "SECONDS")
        .help("Answers 408 to a head that is not complete by then.")
        .default("20")
        .expects(SECONDS)
        .store(|args, v| put(&mut args.settings.limits.head_timeout, seconds(v, 1))),
    Flag::new("stall-timeout", "SECONDS")
        .help(
            "Gives up a download when no byte of it was acknowledged for so long, or for as \
             long as one window takes at the rate seen so far, if that is longer. There is no \
             limit for the whole: a slow module takes its time.",
        )
        .default("120")
        .expects(SECONDS)
        .store(|args, v| put(&mut args.settings.limits.stall_timeout, seconds(v, 1))),
    Flag::new("max-connections", "N")
        .help("Has no more connections open at a time.")
        .default_words("as many as open files and memory allow")
        .expects(COUNT)
        .store(|args, v| {
            put_some(
                &mut args.settings.limits.max_connections,
                number(v, 1, 1_000_000),
            )
        }),
    Flag::new("max-connections-per-address", "N")
        .help(
            "Has no more connections from one address open at a time. Carriers put thousands \
             of modules behind one.",
        )
        .default("4096")
        .expects(COUNT)
        .store(|args, v| {
            put(
                &mut args.settings.limits.max_connections_per_address,
                number(v, 1, 1_000_000),
            )
        }),
    Flag::new("max-downloads", "N")
        .help(
            "Lets so many downloads run at a time; beyond that a new one waits for up to 10 s \
             and is then told to come back. One that goes on with what it began never waits.",
        )
        .default("4096")
        .expects(COUNT)
        .store(|args, v| {
            put(
                &mut args.settings.limits.max_downloads,
                number(v, 1, 1_000_000),
            )
        }),
    Flag::new("uplink", "BYTES_PER_SECOND")
        .help(
            "Shares so many bytes a second among all downloads, and lets no more run at a \
             time than get 4 KB a second each: a module's timeout is for the whole file.",
        )
        .default_words("not shared out")
        .expects("a number of bytes a second from 4K on, like 250000, 250K or 12M")
        .store(|args, v| put_some(&mut args.settings.limits.uplink, size(v, 4096, u64::MAX))),
    Flag::new("udp-checks", "N")
        .help(
            "Answers so many checks a second over UDP and port 2234's TCP from one network \
             (an IPv4 /24, an IPv6 /48), in bursts five times as many; 0: no limit.",
        )
        .default("2000")
        .expects(RATE)
        .store(|args, v| {
            put(
                &mut args.settings.limits.udp_checks_per_second,
                number(v, 0, 1_000_000),
            )
        }),
    Flag::new("udp-errors", "N")
        .help("Answers so many wrong requests a second likewise; 0: no limit.")
        .default("10")
        .expects(RATE)
        .store(|args, v| {
            put(
                &mut args.settings.limits.udp_errors_per_second,
                number(v, 0, 1_000_000),
            )
        }),
    Flag::new("udp-gets", "N")
        .help("Sends so many packets of files a second likewise; 0: no limit.")
        .default("20000")
        .expects(RATE)
        .store(|args, v| {
            put(
                &mut args.settings.limits.udp_gets_per_second,
                number(v, 0, 1_000_000),
            )
        }),
    Flag::new("snapshot-memory", "BYTES")
        .help(
            "Holds at most so many bytes of firmware in memory; what has no room there is \
             served from a temporary file in the state folder.",
        )
        .default_words("a quarter of the memory")
        .expects("a number of bytes, like 67108864, 65536K or 64M")
        .store(|args, v| put_some(&mut args.settings.snapshot_memory, size(v, 0, u64::MAX))),
    Flag::new("without", "FEATURE")
        .help("Does without this, as if the machine did not have it.")
        .repeatable()
        .hidden()
        .expects("memfd, leases, defer-accept or inotify")
        .store(|args, v| {
            let name = text(v)?;
            let feature = Feature::ALL.iter().find(|feature| feature.name() == name);
            push(&mut args.settings.without, feature.copied())
        }),
    Flag::new("max-devices", "N")
        .help(
            "Remembers so many devices, at about 160 bytes of memory each; when there are \
             more, those that were not seen for the longest time are forgotten.",
        )
        .default("200000")
        .expects("a number from 100 to 10000000")
        .store(|args, v| {
            put(
                &mut args.settings.fleet.max_devices,
                number(v, 100, 10_000_000),
            )
        }),
    Flag::new("attempts", "N")
        .help(
            "Lets a module have the same file so many times and come back with its old \
             version; then the file is held back from it for 1 h, 6 h, and 24 h from then on.",
        )
        .default("3")
        .expects("a number from 1 to 1000")
        .store(|args, v| put(&mut args.settings.fleet.attempts, number(v, 1, 1000))),
    Flag::switch("known-devices-only")
        .help(
            "Answers 403 with code 3 to modules that neither were seen before nor stand in \
             known-devices.txt in the state folder (one id a line).",
        )
        .store(|args, v| put(&mut args.settings.fleet.known_only, yes(v))),
];
