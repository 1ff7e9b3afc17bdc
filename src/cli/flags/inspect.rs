//! The flags of the commands that work on a server or its folders.

use std::ffi::OsStr;

use super::{Flag, TEXT};
use crate::cli::args::Args;
use crate::cli::values::*;
use crate::export::ExportFormat;
use crate::firmware::audience::DeviceId;

/// The state folder, for every command that uses one.
pub(super) const STATE: Flag = Flag::new("state", "DIR")
    .help("State folder of the server.")
    .default_words("$STATE_DIRECTORY, else .luat-ota in the firmware folder")
    .expects("a folder")
    .store(|args, v| put_some(&mut args.settings.state, path(v)));

const ID: &str = "an IMEI (or a mac or uid) as the module sends it, like 862991443753386";

const JSON: Flag = Flag::switch("json")
    .help("Prints one JSON object instead of text.")
    .store(|args, v| format(args, v, ExportFormat::Json));

const CSV: Flag = Flag::switch("csv")
    .help("Prints CSV (RFC 4180) instead of text.")
    .store(|args, v| format(args, v, ExportFormat::Csv));

/// Stores the format of a switch, if the switch is on and no other format was given.
fn format(args: &mut Args, value: &OsStr, format: ExportFormat) -> Option<()> {
    if yes(value)? {
        args.format.get_or_insert(format);
    }
    Some(())
}

pub(super) static CHECK: &[Flag] = &[STATE, JSON, CSV];

pub(super) static EXPLAIN: &[Flag] = &[
    Flag::new("imei", "N")
        .help("IMEI of the module, or its mac or uid if it has no IMEI.")
        .expects(ID)
        .store(|args, v| put_some(&mut args.query.device, owned(v))),
    Flag::new("firmware-name", "NAME")
        .help(
            "firmware_name that the module sends, such as ALIYUN_Luat_V0035_8955 or \
             DEMO_LuatOS-SoC_Air780EPM.",
        )
        .expects(TEXT)
        .store(|args, v| put_some(&mut args.query.firmware_name, owned(v))),
    Flag::new("version", "V")
        .help("Version that the module sends, such as 2.0.0 or 2012.001.003.")
        .expects(TEXT)
        .store(|args, v| put_some(&mut args.query.version, owned(v))),
    Flag::new("project-key", "K")
        .help("project_key that the module sends.")
        .expects(TEXT)
        .store(|args, v| put_some(&mut args.query.project_key, owned(v))),
    Flag::new("core-version", "N")
        .help("core_version that the module sends (RDA8910 and Air724U).")
        .expects("a number, like 3033")
        .store(|args, v| put_some(&mut args.query.core_version, number(v, 0, 999_999_999))),
    Flag::switch("need-oss-url")
        .help("The module sends need_oss_url=1, which means that it can follow a redirect.")
        .store(|args, v| put(&mut args.query.need_oss_url, yes(v))),
    STATE.help("State folder of the server, with the holds of the device. It is only read."),
    JSON,
    CSV,
];

pub(super) static DEVICES: &[Flag] = &[
    STATE,
    Flag::new("imei", "PREFIX")
        .help("Shows only devices whose id begins with this text.")
        .expects("the beginning of an IMEI (or of a mac or uid), like 8629914437")
        .store(|args, v| put_some(&mut args.query.device, text(v).map(DeviceId::prefix))),
    JSON,
    CSV,
];

pub(super) static LIFT: &[Flag] = &[
    STATE,
    Flag::new("imei", "N")
        .help("IMEI of the device, or its mac or uid if it has no IMEI.")
        .expects(ID)
        .store(|args, v| {
            let (_, text) = DeviceId::read(text(v)?)?;
            put_some(&mut args.query.device, Some(text.into_owned()))
        }),
];

pub(super) static RESUME: &[Flag] = &[STATE];

pub(super) static DRAIN: &[Flag] = &[
    STATE,
    Flag::switch("undo")
        .help("Lets /readyz answer 200 again.")
        .store(|args, v| put(&mut args.undo, yes(v))),
];

#[cfg(feature = "packages")]
pub(super) static HEALTH: &[Flag] = &[Flag::new("http", "ADDR")
    .help("Address at which the server listens for modules: the same as its own --http.")
    .default("[::]:8080")
    .repeatable()
    .expects("an address that the server listens on, like 8080 or 192.168.1.2:8080")
    .store(|args, v| push(&mut args.settings.http, address(v)))];
