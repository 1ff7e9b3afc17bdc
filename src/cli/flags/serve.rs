//! The flags of `serve`.

use super::{Flag, SECONDS};
use crate::cli::values::*;
use crate::logging::Format;
use crate::os::without::Feature;

const COUNT: &str = "a number from 1 to 1000000";
const RATE: &str = "a number from 0 (no limit) to 1000000";

/// The flags of `serve`, in the order of the help.
pub(super) static SERVE: &[Flag] = &[
    Flag::new("http", "ADDR")
        .help("Listens for modules over HTTP at this address. A port alone means all addresses.")
        .default("[::]:8080")
        .repeatable()
        .expects("an address to listen on, like 8080, 192.168.1.2:8080 or [::]:8080")
        .store(|args, v| push(&mut args.settings.http, address(v))),
    Flag::new("udp", "ADDR")
        .help("Listens for modules of the first edition at this address, over UDP and TCP.")
        .default("[::]:2234")
        .repeatable()
        .expects("an address to listen on, like 2234, 192.168.1.2:2234 or [::]:2234")
        .store(|args, v| push(&mut args.settings.udp, address(v))),
    Flag::new("operator", "ADDR")
        .help(
            "Serves the operator page, the API and the metrics at this address; off disables \
             them. An address that is not loopback requires --operator-token-file.",
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
            "Sets the operator token, the bearer token that allows everything. Other users of \
             this machine can read a command line, so prefer --operator-token-file.",
        )
        .default_words("created at the first start, kept in the state folder")
        .expects("8 to 256 ASCII letters, digits or signs without spaces")
        .store(|args, v| {
            put_some(
                &mut args.settings.operator.token,
                owned(v).filter(|text| is_token(text)),
            )
        }),
    Flag::new("operator-token-file", "FILE")
        .help("Reads the operator token from this file.")
        .default_words("none")
        .expects("a file")
        .store(|args, v| put_some(&mut args.settings.operator.token_file, path(v))),
    Flag::new("operator-host", "NAME")
        .help(
            "Accepts this host name on the operator port: the name of a proxy in front, or of \
             this machine in its network.",
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
        "Uses this state folder for what must survive a restart (records of devices, the \
             secret of the UDP upgrade ids, known hashes), and for temporary files.",
    ),
    Flag::new("secret-file", "FILE")
        .help(
            "Reads the secret of the UDP upgrade ids and of libfota3's URLs from this file, so that several servers \
             share them. If it does not exist, it is created.",
        )
        .default_words("the secret in the state folder")
        .expects("a file")
        .store(|args, v| put_some(&mut args.settings.secret_file, path(v))),
    Flag::new("fleet", "DIR")
        .help(
            "Shares with other servers, through this folder, whether devices came back from their updates. All of \
             them must have the same --secret-file. The folder must exist, outside the firmware folder.",
        )
        .default_words("none")
        .expects("a folder")
        .store(|args, v| put_some(&mut args.settings.fleet_folder, path(v))),
    Flag::new("trusted-proxy", "CIDR")
        .help(
            "Takes the address of a module from X-Forwarded-For if the connection comes from this \
             network.",
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
            "Time for running downloads to finish after SIGTERM or SIGINT. A second signal ends \
             them at once.",
        )
        .default("30")
        .expects("a number of seconds from 0 to 86400")
        .store(|args, v| put(&mut args.settings.grace, seconds(v, 0))),
    Flag::new("rescan", "SECONDS")
        .help(
            "Interval between scans of the whole folder, in addition to file events (network \
             drives report none).",
        )
        .default("30")
        .expects(SECONDS)
        .store(|args, v| put(&mut args.settings.rescan, seconds(v, 1))),
    Flag::switch("udp-roaming")
        .help(
            "Lets a module continue a UDP download from another network. An eavesdropper can then \
             use its upgrade id.",
        )
        .store(|args, v| put(&mut args.settings.limits.udp_roaming, yes(v))),
    Flag::new("on-event", "COMMAND")
        .help(
            "Starts this program for each event (a release is found, paused by its fuse and so on) with \
             a JSON object on its standard input. Spaces separate its arguments; there is no shell.",
        )
        .default_words("none")
        .expects("a program and its arguments, separated by spaces")
        .store(|args, v| put_some(&mut args.settings.on_event, owned(v))),
    Flag::new("log-format", "FORMAT")
        .help("Format of the log on stderr: text, or json with one object per line.")
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
        .help("Lowest level that is logged: error, warn, info or debug.")
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
        .help("Answers 431 if the head of an HTTP request is longer than this.")
        .default("8K")
        .expects("a number of bytes from 1K to 64K")
        .store(|args, v| {
            put(
                &mut args.settings.limits.head_bytes,
                usize::try_from(size(v, 1 << 10, 64 << 10)?).ok(),
            )
        }),
    Flag::new("max-headers", "N")
        .help("Answers 431 if the head of an HTTP request has more header lines than this.")
        .default("64")
        .expects("a number from 8 to 1000")
        .store(|args, v| put(&mut args.settings.limits.head_lines, number(v, 8, 1000))),
    Flag::new("head-timeout", "SECONDS")
        .help("Answers 408 if the head of an HTTP request is incomplete after this time.")
        .default("20")
        .expects(SECONDS)
        .store(|args, v| put(&mut args.settings.limits.head_timeout, seconds(v, 1))),
    Flag::new("stall-timeout", "SECONDS")
        .help(
            "Ends a download if none of its bytes is acknowledged for this time, or for the time \
             that one window takes at the rate seen so far, if that is longer. The whole download \
             has no time limit.",
        )
        .default("120")
        .expects(SECONDS)
        .store(|args, v| put(&mut args.settings.limits.stall_timeout, seconds(v, 1))),
    Flag::new("max-connections", "N")
        .help("Limits the connections that are open at the same time.")
        .default_words("as open files and memory allow")
        .expects(COUNT)
        .store(|args, v| {
            put_some(
                &mut args.settings.limits.max_connections,
                number(v, 1, 1_000_000),
            )
        }),
    Flag::new("max-connections-per-address", "N")
        .help(
            "Limits the connections from one address. Carriers put thousands of modules behind \
             one address.",
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
            "Limits the downloads that run at the same time. A further download waits for up to \
             10 s, and then gets 503. A resumed download never waits.",
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
            "Bandwidth that all downloads share. It also limits the number of downloads, so that \
             each gets at least 4 KB per second: the timeout of a module covers the whole file.",
        )
        .default_words("no limit")
        .expects("a number of bytes a second from 4K on, like 250000, 250K or 12M")
        .store(|args, v| put_some(&mut args.settings.limits.uplink, size(v, 4096, u64::MAX))),
    Flag::new("udp-checks", "N")
        .help(
            "Limits the checks per second over UDP, and over TCP on the same port, from one \
             network (an IPv4 /24, an IPv6 /48). A burst may be five times as large; 0 means no \
             limit.",
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
        .help("Limits the wrong requests per second in the same way; 0 means no limit.")
        .default("10")
        .expects(RATE)
        .store(|args, v| {
            put(
                &mut args.settings.limits.udp_errors_per_second,
                number(v, 0, 1_000_000),
            )
        }),
    Flag::new("udp-gets", "N")
        .help("Limits the packets of files per second in the same way; 0 means no limit.")
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
            "Limits the memory for snapshots of firmware. A snapshot that does not fit is served \
             from a temporary file in the state folder.",
        )
        .default_words("a quarter of the memory")
        .expects("a number of bytes, like 67108864, 65536K or 64M")
        .store(|args, v| put_some(&mut args.settings.snapshot_memory, size(v, 0, u64::MAX))),
    Flag::new("without", "FEATURE")
        .help("Disables this kernel feature, as if the machine did not have it.")
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
            "Limits the devices that the server remembers, at about 160 bytes of memory each. \
             Beyond the limit, it forgets the device that was not seen for the longest time.",
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
            "Number of times that a module may get the same file and come back with its old \
             version. The file is then held for 1 h, then for 6 h, then for 24 h each time.",
        )
        .default("3")
        .expects("a number from 1 to 1000")
        .store(|args, v| put(&mut args.settings.fleet.attempts, number(v, 1, 1000))),
    Flag::switch("known-devices-only")
        .help(
            "Answers 403 with code 3 to modules that were never seen before and are not in \
             known-devices.txt in the state folder (one id per line).",
        )
        .store(|args, v| put(&mut args.settings.fleet.known_only, yes(v))),
];
