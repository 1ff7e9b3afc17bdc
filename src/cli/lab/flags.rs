//! The flags of `probe` and `simulate`.

use std::path::PathBuf;
use std::time::Duration;

use super::super::Command;
use super::super::flags::{Default, FLAG, Flag, SECONDS, TEXT};
use super::super::values;
use crate::modems::Endpoint;
use crate::modems::simulate::Mix;

const URL: &str = "a URL without a query, like http://ota.example.com:8080/luat/update: each client \
                   appends its own";
const PLACE: &str = "a host and a port, like ota.example.com:2234";
const PERCENT: &str = "a number from 0 to 100";

/// The values that all of them are made from.
const PROBE: Flag = Flag {
    command: Command::Probe,
    ..FLAG
};

const TO: Flag = Flag {
    name: "to",
    value: "V",
    default: Default::Words("not known"),
    good: TEXT,
    help: "VERSION of the script in the update: libfota3 compares it with the answer's.",
    set: |line, value| {
        line.lab.to = Some(values::text(value)?.to_owned());
        Some(())
    },
    ..PROBE
};

const HTTP: Flag = Flag {
    name: "http",
    value: "URL",
    good: URL,
    help: "Where modules ask over HTTP: what a user writes into the script, without the `?`.",
    set: |line, value| {
        let (host, port, path) = values::url(value)?;
        line.lab.http = Some(Endpoint { host, port, path });
        Some(())
    },
    ..PROBE
};

const UDP: Flag = Flag {
    name: "udp",
    value: "HOST:PORT",
    good: PLACE,
    help: "Where modules of the first edition ask over UDP.",
    set: |line, value| {
        line.lab.udp = Some(place(values::host_port(value)?));
        Some(())
    },
    ..PROBE
};

const IMEI: Flag = Flag {
    name: "imei",
    value: "N",
    default: Default::Words("those of the sample, from 004999010640000 on"),
    good: "15 digits",
    help: "The module's IMEI. Without it each client is a device of its own, so that no server takes them \
           all for one that goes round in a loop.",
    set: |line, value| {
        let imei = values::text(value)?;
        let good = imei.len() == 15 && imei.bytes().all(|digit| digit.is_ascii_digit());
        line.lab.imei = good.then(|| imei.to_owned())?;
        Some(())
    },
    ..PROBE
};

const PROJECT: Flag = Flag {
    name: "project",
    value: "NAME",
    default: Default::Value("LUAT-OTA-SAMPLE"),
    good: "a text without a comma",
    help: "PROJECT of the module's script.",
    set: |line, value| {
        let project = values::text(value)?;
        line.lab.project = (!project.contains(',')).then(|| project.to_owned())?;
        Some(())
    },
    ..PROBE
};

const CORE: Flag = Flag {
    name: "core",
    value: "N",
    default: Default::Words("the usual one of each generation"),
    good: "a number from 1 to 9999",
    help: "The module's core, like 2012 for V2012; with --bsp only of the generations of that platform.",
    set: |line, value| {
        line.lab.core = Some(values::number(value, 1, 9999)?);
        Some(())
    },
    ..PROBE
};

const BSP: Flag = Flag {
    name: "bsp",
    value: "NAME",
    default: Default::Words("the usual one of each generation"),
    good: "a platform, like 8955, ASR1802, RDA8910, EC618, Air780EPM or Air8101",
    help: "The module's platform. It goes to the generations it belongs to; LuatOS modules then check \
           the package as that platform does.",
    set: |line, value| {
        line.lab.bsp = Some(values::text(value)?.to_owned());
        Some(())
    },
    ..PROBE
};

const VERSION: Flag = Flag {
    name: "version",
    value: "V",
    default: Default::Value("1.0.0"),
    good: TEXT,
    help: "VERSION of the module's script, before the update. Each generation sends it in its own \
           form (LuatOS: 2012.1.0).",
    set: |line, value| {
        line.lab.version = values::text(value)?.to_owned();
        Some(())
    },
    ..PROBE
};

const KEY: Flag = Flag {
    name: "key",
    value: "KEY",
    default: Default::Value("k"),
    good: "a text without a comma",
    help: "PRODUCT_KEY of the module's script.",
    set: |line, value| {
        let key = values::text(value)?;
        line.lab.key = (!key.contains(',')).then(|| key.to_owned())?;
        Some(())
    },
    ..PROBE
};

const EXPECT: Flag = Flag {
    name: "expect",
    value: "FILE",
    good: "a file",
    help: "The bytes that every module must end with; \"no update\" is then a failure, too.",
    set: |line, value| {
        line.lab.expect = (!value.is_empty()).then(|| PathBuf::from(value));
        line.lab.expect.is_some().then_some(())
    },
    ..PROBE
};

const JSON: Flag = Flag {
    name: "json",
    help: "Prints one JSON object in place of the table.",
    set: |line, value| {
        line.lab.json = values::yes(value)?;
        Some(())
    },
    ..PROBE
};

/// What `simulate` shares with `probe`.
const fn of_simulate(flag: Flag) -> Flag {
    Flag {
        command: Command::Simulate,
        ..flag
    }
}

const SIMULATE: Flag = of_simulate(FLAG);

/// The table, in the order of the help.
pub(in super::super) static FLAGS: &[Flag] = &[
    HTTP,
    UDP,
    Flag {
        name: "tcp",
        value: "HOST:PORT",
        good: PLACE,
        help: "Where modules of the first edition ask over TCP.",
        set: |line, value| {
            line.lab.tcp = Some(place(values::host_port(value)?));
            Some(())
        },
        ..PROBE
    },
    IMEI,
    PROJECT,
    CORE,
    BSP,
    VERSION,
    KEY,
    TO,
    EXPECT,
    Flag {
        name: "patience",
        value: "SECONDS",
        default: Default::Value("3"),
        good: "a number of seconds from 1 to 120",
        help: "Takes a server for silent when nothing came from it for so long (1 to 120). Longer \
               waits of a module are then jumped over.",
        set: |line, value| {
            let patience = values::seconds(value, 1)?;
            line.lab.patience = (patience <= Duration::from_secs(120)).then_some(patience)?;
            Some(())
        },
        ..PROBE
    },
    JSON,
    Flag {
        name: "devices",
        value: "N",
        default: Default::Value("100"),
        good: "a number from 1 to 100000",
        help: "So many modules (1 to 100000).",
        set: |line, value| {
            line.lab.devices = values::number(value, 1, 100_000)?;
            Some(())
        },
        ..SIMULATE
    },
    of_simulate(HTTP),
    of_simulate(UDP),
    Flag {
        default: Default::Value(super::SAMPLE_IMEI),
        help: "The IMEI of the first module; the others count it up.",
        ..of_simulate(IMEI)
    },
    of_simulate(PROJECT),
    of_simulate(CORE),
    of_simulate(BSP),
    of_simulate(VERSION),
    of_simulate(KEY),
    Flag {
        default: Default::Words("an updated module does not ask again"),
        help: "VERSION after the update: then each module asks once more, and must be told no.",
        ..of_simulate(TO)
    },
    Flag {
        name: "mix",
        value: "MIX",
        default: Default::Value("realistic"),
        good: "realistic, all, or generations with weights, like libfota2=60,luatask-8910=20,udp=5",
        help: "The generations of the fleet: realistic, all (each alike), or names with weights from 1 \
               to 1000, like libfota2=60,luatask-8910=20,udp=5.",
        set: |line, value| {
            line.lab.mix = Mix::read(values::text(value)?)?;
            Some(())
        },
        ..SIMULATE
    },
    Flag {
        name: "interval",
        value: "SECONDS",
        default: Default::Value("10"),
        good: SECONDS,
        help: "Each module asks this often (1 to 86400); the first checks are spread over it.",
        set: |line, value| {
            line.lab.interval = values::seconds(value, 1)?;
            Some(())
        },
        ..SIMULATE
    },
    Flag {
        name: "rounds",
        value: "N",
        default: Default::Value("3"),
        good: "a number from 1 to 1000",
        help: "Each module asks at most so often (1 to 1000).",
        set: |line, value| {
            line.lab.rounds = values::number(value, 1, 1000)?;
            Some(())
        },
        ..SIMULATE
    },
    Flag {
        name: "duration",
        value: "SECONDS",
        default: Default::Value("600"),
        good: SECONDS,
        help: "Ends after so long (1 to 86400), whatever the modules are at.",
        set: |line, value| {
            line.lab.duration = values::seconds(value, 1)?;
            Some(())
        },
        ..SIMULATE
    },
    Flag {
        name: "bandwidth",
        value: "BYTES",
        default: Default::Words("no limit"),
        good: "a number of bytes from 100 to 1G",
        help: "Each module takes so many bytes a second (100 to 1G).",
        set: |line, value| {
            line.lab.bandwidth = Some(values::size(value, 100, 1 << 30)?);
            Some(())
        },
        ..SIMULATE
    },
    Flag {
        name: "latency",
        value: "MS",
        default: Default::Value("0"),
        good: "a number of milliseconds from 0 to 60000",
        help: "From a question to its answer it takes so many milliseconds more (0 to 60000).",
        set: |line, value| {
            line.lab.latency = Duration::from_millis(values::number(value, 0, 60_000)?);
            Some(())
        },
        ..SIMULATE
    },
    Flag {
        name: "loss",
        value: "PERCENT",
        default: Default::Value("0"),
        good: PERCENT,
        help: "So many of a hundred datagrams get lost in each direction (0 to 100); TCP loses none.",
        set: |line, value| {
            line.lab.loss = values::number(value, 0, 100)?;
            Some(())
        },
        ..SIMULATE
    },
    Flag {
        name: "fail",
        value: "PERCENT",
        default: Default::Value("0"),
        good: PERCENT,
        help: "On so many of a hundred modules the new firmware fails: they fall back to the old version \
               and ask again (0 to 100).",
        set: |line, value| {
            line.lab.fail = values::number(value, 0, 100)?;
            Some(())
        },
        ..SIMULATE
    },
    Flag {
        name: "fallback-after-report",
        help: "The modules of --fail report the new version once before they fall back (needs --to).",
        set: |line, value| {
            line.lab.fallback_after_report = values::yes(value)?;
            Some(())
        },
        ..SIMULATE
    },
    Flag {
        name: "back-within",
        value: "SECONDS",
        default: Default::Words("--interval"),
        good: SECONDS,
        help: "After an update a module asks again within so long (1 to 86400), not after --interval.",
        set: |line, value| {
            line.lab.back_within = Some(values::seconds(value, 1)?);
            Some(())
        },
        ..SIMULATE
    },
    Flag {
        name: "cut",
        value: "PERCENT",
        default: Default::Value("0"),
        good: PERCENT,
        help: "So many of a hundred modules lose the link once in the middle of a download (0 to 100): \
               within the first 31 kB, or anywhere in the --expect file.",
        set: |line, value| {
            line.lab.cut = values::number(value, 0, 100)?;
            Some(())
        },
        ..SIMULATE
    },
    Flag {
        name: "speed",
        value: "N",
        default: Default::Value("1"),
        good: "a number from 1 to 1000",
        help: "Lets the fleet's clock run so many times faster (1 to 1000): all its times, also those \
               of these flags.",
        set: |line, value| {
            line.lab.speed = values::number(value, 1, 1000)?;
            Some(())
        },
        ..SIMULATE
    },
    Flag {
        name: "seed",
        value: "N",
        default: Default::Value("1"),
        good: "a number from 0 to 4294967295",
        help: "The same seed makes the same fleet again.",
        set: |line, value| {
            line.lab.seed = values::number(value, 0, u64::from(u32::MAX))?;
            Some(())
        },
        ..SIMULATE
    },
    Flag {
        help: "The bytes that every image must be.",
        default: Default::Words("all images of one ETag must be alike"),
        ..of_simulate(EXPECT)
    },
    of_simulate(JSON),
    Flag {
        name: "yes-really",
        help: "Asks a server that is not on this machine, too. Only where you may.",
        set: |line, value| {
            line.lab.yes_really = values::yes(value)?;
            Some(())
        },
        ..SIMULATE
    },
];

fn place((host, port): (String, u16)) -> Endpoint {
    Endpoint {
        host,
        port,
        path: String::new(),
    }
}
