//! The flags of `probe` and `simulate`.

use std::ffi::OsStr;
use std::time::Duration;

use super::{Flag, SECONDS, TEXT};
use crate::cli::args::SAMPLE_IMEI;
use crate::cli::values::*;
use crate::modems::simulate::Mix;

const PLACE: &str = "a host and a port, like ota.example.com:2234";
const PERCENT: &str = "a number from 0 to 100";
const NO_COMMA: &str = "a text without a comma";

const HTTP: Flag = Flag::new("http", "URL")
    .help(
        "Address of the server over HTTP, as a user writes it into the script, without the \
             `?`.",
    )
    .expects(
        "a URL without a query, like http://ota.example.com:8080/luat/update: each client \
         appends its own",
    )
    .store(|args, v| put_some(&mut args.lab.options.http, url(v)));

const UDP: Flag = Flag::new("udp", "HOST:PORT")
    .help("Address of the server over UDP, for modules of the first edition.")
    .expects(PLACE)
    .store(|args, v| put_some(&mut args.lab.options.udp, host_port(v)));

const IMEI: Flag = Flag::new("imei", "N")
    .help(
        "IMEI of the module. Without it, each client is a separate device, so that no server \
             takes them for one device in an update loop.",
    )
    .default_words("those of the sample, from 004999010640000 on")
    .expects("15 digits")
    .store(|args, v| {
        let is_imei = |text: &String| text.len() == 15 && text.bytes().all(|b| b.is_ascii_digit());
        let imei = owned(v).filter(is_imei);
        put(&mut args.lab.options.module.imei, imei)
    });

const PROJECT: Flag = Flag::new("project", "NAME")
    .help("PROJECT of the script.")
    .default("LUAT-OTA-SAMPLE")
    .expects(NO_COMMA)
    .store(|args, v| put(&mut args.lab.options.module.project, without_comma(v)));

const CORE: Flag = Flag::new("core", "N")
    .help(
        "Core version, such as 2012 for V2012. With --bsp, it applies only to generations of \
             that platform.",
    )
    .default_words("the usual one of each generation")
    .expects("a number from 1 to 9999")
    .store(|args, v| put_some(&mut args.lab.options.module.core, number(v, 1, 9999)));

const BSP: Flag = Flag::new("bsp", "NAME")
    .help(
        "Platform of the module, for the generations that have it. LuatOS modules then check \
             the package as that platform does.",
    )
    .default_words("the usual one of each generation")
    .expects("a platform, like 8955, ASR1802, RDA8910, EC618, Air780EPM or Air8101")
    .store(|args, v| put_some(&mut args.lab.options.module.bsp, owned(v)));

const VERSION: Flag = Flag::new("version", "V")
    .help(
        "VERSION of the script before the update. Each generation sends it in its own form \
             (LuatOS: 2012.1.0).",
    )
    .default("1.0.0")
    .expects(TEXT)
    .store(|args, v| put(&mut args.lab.options.module.version, owned(v)));

const KEY: Flag = Flag::new("key", "KEY")
    .help("PRODUCT_KEY of the script.")
    .default("k")
    .expects(NO_COMMA)
    .store(|args, v| put(&mut args.lab.options.module.key, without_comma(v)));

const TO: Flag = Flag::new("to", "V")
    .help("VERSION of the script in the update. libfota3 compares it with the reply.")
    .default_words("not known")
    .expects(TEXT)
    .store(|args, v| put_some(&mut args.lab.options.module.to, owned(v)));

const EXPECT: Flag = Flag::new("expect", "FILE")
    .help(
        "File with the bytes that every module must end up with. \"no update\" then also \
             counts as a failure.",
    )
    .expects("a file")
    .store(|args, v| put_some(&mut args.lab.expect, path(v)));

const JSON: Flag = Flag::switch("json")
    .help("Prints one JSON object instead of the table.")
    .store(|args, v| put(&mut args.lab.json, yes(v)));

fn without_comma(value: &OsStr) -> Option<String> {
    owned(value).filter(|text| !text.contains(','))
}

/// The flags of `probe`, in the order of the help.
pub(super) static PROBE: &[Flag] = &[
    HTTP,
    UDP,
    Flag::new("tcp", "HOST:PORT")
        .help("Address of the server over TCP, for modules of the first edition.")
        .expects(PLACE)
        .store(|args, v| put_some(&mut args.lab.tcp, host_port(v))),
    IMEI,
    PROJECT,
    CORE,
    BSP,
    VERSION,
    KEY,
    TO,
    EXPECT,
    Flag::new("patience", "SECONDS")
        .help(
            "Time without data after which the server counts as silent (1 to 120). Longer waits \
             of a module are then skipped.",
        )
        .default("3")
        .expects("a number of seconds from 1 to 120")
        .store(|args, v| {
            put(
                &mut args.lab.patience,
                seconds(v, 1).filter(|time| *time <= Duration::from_secs(120)),
            )
        }),
    JSON,
];

/// The flags of `simulate`, in the order of the help.
pub(super) static SIMULATE: &[Flag] = &[
    Flag::new("devices", "N")
        .help("Number of modules (1 to 100000).")
        .default("100")
        .expects("a number from 1 to 100000")
        .store(|args, v| put(&mut args.lab.options.devices, number(v, 1, 100_000))),
    HTTP,
    UDP,
    IMEI.default(SAMPLE_IMEI)
        .help("IMEI of the first module. Each further module has the next number."),
    PROJECT,
    CORE,
    BSP,
    VERSION,
    KEY,
    TO.default_words("an updated module does not ask again")
        .help(
            "VERSION after the update. Each module then asks once more, and must get \"no \
             update\".",
        ),
    Flag::new("mix", "MIX")
        .help(
            "Generations of the fleet: realistic, all (equal shares), or names with weights from \
             1 to 1000, such as libfota2=60,luatask-8910=20,udp=5.",
        )
        .default("realistic")
        .expects(
            "realistic, all, or generations with weights, like libfota2=60,luatask-8910=20,udp=5",
        )
        .store(|args, v| put(&mut args.lab.options.mix, Mix::read(text(v)?))),
    Flag::new("interval", "SECONDS")
        .help(
            "Time between two checks of a module (1 to 86400). The first checks are spread over \
             this time.",
        )
        .default("10")
        .expects(SECONDS)
        .store(|args, v| put(&mut args.lab.options.interval, seconds(v, 1))),
    Flag::new("rounds", "N")
        .help("Highest number of checks per module (1 to 1000).")
        .default("3")
        .expects("a number from 1 to 1000")
        .store(|args, v| put(&mut args.lab.options.rounds, number(v, 1, 1000))),
    Flag::new("duration", "SECONDS")
        .help(
            "Time after which the simulation ends (1 to 86400), whatever the state of the \
             modules.",
        )
        .default("600")
        .expects(SECONDS)
        .store(|args, v| put(&mut args.lab.options.duration, seconds(v, 1))),
    Flag::new("bandwidth", "BYTES")
        .help("Bytes per second that each module receives (100 to 1G).")
        .default_words("no limit")
        .expects("a number of bytes from 100 to 1G")
        .store(|args, v| put_some(&mut args.lab.options.bandwidth, size(v, 100, 1 << 30))),
    Flag::new("latency", "MS")
        .help("Delay that is added between a request and its reply, in milliseconds (0 to 60000).")
        .default("0")
        .expects("a number of milliseconds from 0 to 60000")
        .store(|args, v| {
            put(
                &mut args.lab.options.latency,
                number(v, 0, 60_000).map(Duration::from_millis),
            )
        }),
    Flag::new("loss", "PERCENT")
        .help("Percentage of datagrams that are lost in each direction (0 to 100). TCP loses none.")
        .default("0")
        .expects(PERCENT)
        .store(|args, v| put(&mut args.lab.options.loss, number(v, 0, 100))),
    Flag::new("fail", "PERCENT")
        .help(
            "Percentage of modules on which the new firmware fails (0 to 100). They fall back to \
             the old version and ask again.",
        )
        .default("0")
        .expects(PERCENT)
        .store(|args, v| put(&mut args.lab.options.fail, number(v, 0, 100))),
    Flag::switch("fallback-after-report")
        .help(
            "Modules of --fail report the new version once before they fall back. This requires \
             --to.",
        )
        .store(|args, v| put(&mut args.lab.options.fallback_after_report, yes(v))),
    Flag::new("back-within", "SECONDS")
        .help(
            "Time within which a module asks again after an update (1 to 86400), instead of \
             --interval.",
        )
        .default_words("--interval")
        .expects(SECONDS)
        .store(|args, v| put_some(&mut args.lab.options.back_within, seconds(v, 1))),
    Flag::new("cut", "PERCENT")
        .help(
            "Percentage of modules that lose the connection once during a download (0 to 100): \
             within the first 31 kB, or anywhere in the --expect file.",
        )
        .default("0")
        .expects(PERCENT)
        .store(|args, v| put(&mut args.lab.options.cut, number(v, 0, 100))),
    Flag::new("speed", "N")
        .help(
            "Factor by which the clock of the fleet runs faster (1 to 1000). It applies to all \
             times, also to those of these flags.",
        )
        .default("1")
        .expects("a number from 1 to 1000")
        .store(|args, v| put(&mut args.lab.options.speed, number(v, 1, 1000))),
    Flag::new("seed", "N")
        .help("Number that selects the fleet. The same seed gives the same fleet.")
        .default("1")
        .expects("a number from 0 to 4294967295")
        .store(|args, v| {
            put(
                &mut args.lab.options.seed,
                number(v, 0, u64::from(u32::MAX)),
            )
        }),
    EXPECT
        .help("File with the bytes that every image must have.")
        .default_words("all images of one ETag must be equal"),
    JSON,
    Flag::switch("yes-really")
        .help(
            "Allows requests to a server that is not on this machine. Use it only with the \
             permission of its operator.",
        )
        .store(|args, v| put(&mut args.lab.yes_really, yes(v))),
];
