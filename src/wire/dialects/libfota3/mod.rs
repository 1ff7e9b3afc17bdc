//! The dialect of libfota3 (docs/protocol.md 7): the check, the file that the reply names, and the result report.
//!
//! Every reply is 200 with JSON, also "no update", and the file must be sent as exactly 200. The check is converted to
//! the one that libfota2 would have sent, plus the middle number of the script's version.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::device_id;
use super::parameters::{fields, non_empty, pair, without_authority, without_slashes};
use crate::decision::{Check, Offer};
use crate::firmware::ContentId;
use crate::firmware::audience::DeviceId;
use crate::firmware::catalog::{Package, Release};
use crate::firmware::package::ChipFamily;
use crate::wire::text::decode;

mod versions;

/// Path of the check.
const CHECK: &[u8] = b"api/site/turnkey_fota";

/// Path of the file. The server is free to choose this path, since the reply to the check contains the URL.
const FILE: &str = "api/site/turnkey_fota_file";

/// Path of the result report.
const RESULT: &[u8] = b"api/site/turnkey_fota_result";

/// Length of the longest result report, in bytes.
pub const LONGEST_REPORT: u64 = 4096;

/// Length of the longest URL in a reply, in bytes.
const LONGEST_URL: usize = 1200;

/// A request of libfota3.
#[derive(Clone, Debug, PartialEq)]
pub enum Libfota3Request<'a> {
    /// A check.
    Check(Libfota3Check<'a>),
    /// A request for the offered file.
    File(Libfota3File<'a>),
    /// A result report, which is in the body.
    Report,
}

/// A check, with the values that it contains besides those of libfota2.
#[derive(Clone, Debug, PartialEq)]
pub struct Libfota3Check<'a> {
    /// The check as libfota2 would send it, with the whole version of the script.
    pub check: Check<'a>,
    /// Kind of the id: `imei`, `mac` or `uid`.
    kind: &'static str,
    /// The second result of `rtos.version(true)`, a Lua integer; `None` if it is missing or not a number.
    core_id: Option<i64>,
    script_name: Cow<'a, str>,
    model: Cow<'a, str>,
    core_version: Cow<'a, str>,
    script_version: Cow<'a, str>,
}

/// A request for a URL from a reply of this server.
#[derive(Clone, Debug, PartialEq)]
pub struct Libfota3File<'a> {
    /// The check whose reply contained the URL.
    pub origin: Libfota3Check<'a>,
    /// The content of the offered package.
    pub content: ContentId,
    /// Proof that the reply contained the URL.
    pub mark: u64,
}

/// A module's report of the result of an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResultReport {
    /// The device.
    pub device: DeviceId,
    /// The content that the device received.
    pub content: ContentId,
    /// Proof that the device was offered the content.
    pub mark: u64,
    /// 1: the device runs the new version; 2: it does not; any other number: unknown.
    pub result: i64,
}

/// Parses a target as written in the request line; `None` if it is not a request of libfota3.
pub fn read(target: &[u8]) -> Option<Libfota3Request<'_>> {
    let target = target.trim_ascii();
    let target = without_authority(target);
    let target = without_slashes(target);
    let at = memchr::memchr(b'?', target);
    let (path, query) = target.split_at(at.unwrap_or(target.len()));
    let path = path.strip_suffix(b"/").unwrap_or(path);
    if path == CHECK {
        Some(Libfota3Request::Check(parse_check(query)))
    } else if path == RESULT {
        Some(Libfota3Request::Report)
    } else if path == FILE.as_bytes() {
        let text = |name| value(query, name).and_then(|raw| std::str::from_utf8(raw).ok());
        Some(Libfota3Request::File(Libfota3File {
            origin: parse_check(query),
            content: ContentId::parse(text("content")?)?,
            mark: u64::from_str_radix(text("mark")?, 16).ok()?,
        }))
    } else {
        None
    }
}

/// Returns the first value of this key that is not empty, as sent.
fn value<'a>(query: &'a [u8], name: &str) -> Option<&'a [u8]> {
    fields(query)
        .filter_map(pair)
        .filter(|(key, _)| key.trim_ascii().eq_ignore_ascii_case(name.as_bytes()))
        .find_map(|(_, value)| non_empty(Some(value)))
}

/// Returns the value, not empty, of a field that starts with `begin`, up to the next `&`.
fn raw_value<'a>(query: &'a [u8], begin: &[u8]) -> Option<&'a [u8]> {
    let query = query.strip_prefix(b"?").unwrap_or(query);
    query
        .split(|byte| *byte == b'&')
        .find_map(|field| non_empty(field.strip_prefix(begin)))
}

fn parse_check(query: &[u8]) -> Libfota3Check<'_> {
    let text = |name| value(query, name).map(decode).unwrap_or_default();
    let device = ["imei", "mac", "uid"].into_iter().find_map(|kind| {
        let raw = match kind {
            // The raw bytes of a uid may contain a `?`.
            "uid" => raw_value(query, b"uid=")?,
            _ => value(query, kind)?,
        };
        let (device, text) = device_id::read(raw, kind == "uid")?;
        Some((kind, device, text))
    });
    let (kind, device, device_text) = match device {
        Some((kind, device, text)) => (kind, Some(device), text),
        None => ("imei", None, Cow::default()),
    };
    let (script_name, model) = (text("script_name"), text("model"));
    let (core_version, script_version) = (text("core_version"), text("script_version"));
    let (version, core) = version(&core_version, &script_version);
    Libfota3Check {
        check: Check {
            device,
            device_text,
            // Also set without a script name, because the project_key then names the project.
            firmware_name: Some(format!("{script_name}_LuatOS-SoC_{model}").into()),
            version: version.into(),
            core_version: core,
            project_key: value(query, "project_key").map(decode),
            ..Check::default()
        },
        kind,
        core_id: text("core_id").trim().parse().ok(),
        script_name,
        model,
        core_version,
        script_version,
    }
}

/// Returns `CORE.A.B.C` for core `2012` and script `001.000.003`, with the digits as written. libfota3 reports the
/// whole version of the script (docs/protocol.md 9d), of which libfota2 drops the middle number. If that form is
/// impossible, returns the script's version alone, and the core version separately.
fn version(core: &str, script: &str) -> (String, Option<u32>) {
    let core = core.trim().trim_start_matches(['V', 'v']);
    let number = core.parse().ok();
    let is_number = |field: &str| !field.is_empty() && field.bytes().all(|b| b.is_ascii_digit());
    let script_is_numeric = script.trim().split('.').all(is_number);
    match (number, script.trim().split('.').count()) {
        (Some(_), 3 | 4) if script_is_numeric => (format!("{core}.{}", script.trim()), None),
        _ => (script.to_owned(), number),
    }
}

impl Libfota3Check<'_> {
    /// Returns the URL of an offered file; `base` is `http://host`. `None` if the URL would be too long.
    pub fn url(&self, base: &str, content: ContentId, mark: u64) -> Option<String> {
        let mut url = format!("{base}/{FILE}?");
        let fields = [
            (self.kind, &self.check.device_text),
            ("model", &self.model),
            ("core_version", &self.core_version),
            ("script_name", &self.script_name),
            ("script_version", &self.script_version),
        ];
        for (name, value) in fields {
            // Writing to a String cannot fail.
            let _ = write!(url, "{name}=");
            for byte in value.bytes() {
                let _ = match byte {
                    b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'.' | b'_' | b'-' => {
                        url.push(char::from(byte));
                        Ok(())
                    }
                    _ => write!(url, "%{byte:02X}"),
                };
            }
            url.push('&');
        }
        let _ = write!(url, "content={content}&mark={mark:016x}");
        (url.len() <= LONGEST_URL).then_some(url)
    }

    /// Returns the core version that the module will run after this package, if the package contains a core or the
    /// module did not report its own; `None` otherwise. A script package leaves the core unchanged.
    fn new_core(&self, release: &Release, package: &Package) -> Option<u32> {
        let family = self.check.name().platform.and_then(ChipFamily::of_platform);
        if !package.brings_core(family) && !self.core_version.is_empty() {
            return None;
        }
        release.version.core_form().map(|form| form.core)
    }

    /// Returns the reply to a check with an offer. `mark`: proves the report. After its restart the module compares
    /// `core_id`, `core_version` and `script_version` with the versions that it runs (docs/protocol.md 9d).
    pub fn offer(&self, offer: &Offer<'_>, url: &str, mark: u64) -> String {
        let Offer {
            release, package, ..
        } = offer;
        let form = release.version.core_form();
        let script =
            versions::script_version(&self.script_version, &release.version_text, form.is_some());
        let core = versions::core_version(&self.core_version, self.new_core(release, package));
        let device = self.check.device;
        let mut answer = json!({
            "code": 0,
            "msg": "ok",
            "script_version": script,
            "size": package.size,
            "sha256": package.content.to_string(),
            "fota_sn": device.map(|device| serial(device, package.content, mark)).unwrap_or_default(),
            "url": url,
        });
        // A field without a value is left out: for the module a missing field equals nothing, and a null is not better.
        if let Some(fields) = answer.as_object_mut() {
            let id = self.core_id.map(|id| ("core_id".to_owned(), id.into()));
            let core = (!core.is_empty()).then(|| ("core_version".to_owned(), core.into()));
            fields.extend(id.into_iter().chain(core));
        }
        // Display is not used, here or elsewhere, because it links both the compact and the indented serialiser.
        serde_json::to_string(&answer).unwrap_or_default()
    }
}

/// Letters for the kinds of id in a serial.
const KINDS: [char; 3] = ['i', 'm', 'o'];

/// Returns the serial, which the module sends back with its report.
fn serial(device: DeviceId, content: ContentId, mark: u64) -> String {
    let (kind, number) = device.parts();
    let kind = KINDS.get(usize::from(kind)).copied().unwrap_or('o');
    format!("{kind}{number:x}-{content}-{mark:016x}")
}

fn read_serial(text: &str) -> Option<(DeviceId, ContentId, u64)> {
    let mut parts = text.split('-');
    let (device, content, mark) = (parts.next()?, parts.next()?, parts.next()?);
    let mut letters = device.chars();
    let kind = letters.next()?;
    let hex = |text: &str| -> Option<u64> {
        let digits = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        digits.then(|| u64::from_str_radix(text, 16).ok()).flatten()
    };
    let number = hex(letters.as_str())?;
    let device = match kind {
        'i' => DeviceId::Imei(number),
        'm' => DeviceId::Mac(number),
        'o' => DeviceId::Other(number),
        _ => return None,
    };
    let end = parts.next().is_none();
    Some((device, ContentId::parse(content)?, hex(mark)?)).filter(|_| end)
}

/// Parses a report: `{"fota_sn":"…","result_code":1}`.
pub fn report(body: &[u8]) -> Option<ResultReport> {
    let json: Value = serde_json::from_str(str::from_utf8(body).ok()?).ok()?;
    let (device, content, mark) = read_serial(json.get("fota_sn")?.as_str()?)?;
    Some(ResultReport {
        device,
        content,
        mark,
        result: json.get("result_code")?.as_i64()?,
    })
}

#[cfg(test)]
mod tests;
