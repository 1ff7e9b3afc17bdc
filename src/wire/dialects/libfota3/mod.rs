//! The dialect of libfota3 (docs/protocol.md 7): the check, the file that its answer names, and the report of the
//! result.
//!
//! Every answer is 200 with JSON, "no update" too, and the file must be sent as exactly 200. The check becomes the
//! one that libfota2 would have sent, plus the middle number of the script's version.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::id;
use super::parameters::{fields, given, pair, without_authority, without_slashes};
use crate::decision::{Check, Offer};
use crate::firmware::ContentId;
use crate::firmware::audience::DeviceId;
use crate::firmware::catalog::{Package, Release};
use crate::firmware::package::ChipFamily;
use crate::wire::text::decode;

mod versions;

/// Where the check goes.
const CHECK: &[u8] = b"api/site/turnkey_fota";

/// Where the file is: our own choice, since the check's answer names it.
const FILE: &str = "api/site/turnkey_fota_file";

/// Where the report goes.
const RESULT: &[u8] = b"api/site/turnkey_fota_result";

/// The longest report, in bytes.
pub const LONGEST_REPORT: u64 = 4096;

/// The longest URL that we give away, in bytes.
const LONGEST_URL: usize = 1200;

/// One of the three.
#[derive(Clone, Debug, PartialEq)]
pub enum Libfota3Request<'a> {
    /// Is there something for me?
    Check(Libfota3Check<'a>),
    /// The file.
    File(Libfota3File<'a>),
    /// A report, in the body.
    Report,
}

/// A check, with what stands in it beside what libfota2 says.
#[derive(Clone, Debug, PartialEq)]
pub struct Libfota3Check<'a> {
    /// As libfota2 would ask, with the whole version of the script.
    pub check: Check<'a>,
    /// `imei`, `mac` or `uid`.
    kind: &'static str,
    /// The second result of `rtos.version(true)`, an integer of Lua; `None`: missing, or no number.
    core_id: Option<i64>,
    script_name: Cow<'a, str>,
    model: Cow<'a, str>,
    core_version: Cow<'a, str>,
    script_version: Cow<'a, str>,
}

/// What a URL of ours asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Libfota3File<'a> {
    /// The check whose answer it was in.
    pub asked: Libfota3Check<'a>,
    /// The file.
    pub content: ContentId,
    /// The proof that it was.
    pub mark: u64,
}

/// A module's word on an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reported {
    /// Who.
    pub device: DeviceId,
    /// What it got.
    pub content: ContentId,
    /// The proof that it was offered that.
    pub mark: u64,
    /// 1: it runs the new version; 2: it does not; else nobody knows.
    pub result: i64,
}

/// Reads a target as it stands in the request line; `None`: it is none of these.
pub fn read(target: &[u8]) -> Option<Libfota3Request<'_>> {
    let target = target.trim_ascii();
    let target = without_authority(target);
    let target = without_slashes(target);
    let at = memchr::memchr(b'?', target);
    let (path, query) = target.split_at(at.unwrap_or(target.len()));
    let path = path.strip_suffix(b"/").unwrap_or(path);
    if path == CHECK {
        Some(Libfota3Request::Check(asked(query)))
    } else if path == RESULT {
        Some(Libfota3Request::Report)
    } else if path == FILE.as_bytes() {
        let text = |name| value(query, name).and_then(|raw| std::str::from_utf8(raw).ok());
        Some(Libfota3Request::File(Libfota3File {
            asked: asked(query),
            content: ContentId::parse(text("content")?)?,
            mark: u64::from_str_radix(text("mark")?, 16).ok()?,
        }))
    } else {
        None
    }
}

/// The first value of this key that is not empty, as sent.
fn value<'a>(query: &'a [u8], name: &str) -> Option<&'a [u8]> {
    fields(query)
        .filter_map(pair)
        .filter(|(key, _)| key.trim_ascii().eq_ignore_ascii_case(name.as_bytes()))
        .find_map(|(_, value)| given(Some(value)))
}

/// The value that begins so, up to the next `&`.
fn raw_value<'a>(query: &'a [u8], begin: &[u8]) -> Option<&'a [u8]> {
    let query = query.strip_prefix(b"?").unwrap_or(query);
    query
        .split(|byte| *byte == b'&')
        .find_map(|field| given(field.strip_prefix(begin)))
}

fn asked(query: &[u8]) -> Libfota3Check<'_> {
    let text = |name| value(query, name).map(decode).unwrap_or_default();
    let device = ["imei", "mac", "uid"].into_iter().find_map(|kind| {
        let raw = match kind {
            // Its raw bytes may hold a `?`.
            "uid" => raw_value(query, b"uid=")?,
            _ => value(query, kind)?,
        };
        let (device, text) = id::read(raw, kind == "uid")?;
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
            // Without a name, too: then the project_key names the project.
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

/// `CORE.A.B.C` of core `2012` and script `001.000.003`, digits as they are written: libfota3 says all of the
/// script's version (docs/protocol.md 9d), of which libfota2 drops the middle number. The script's version alone
/// where that cannot be, then with the core beside it.
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
    /// The URL of a file that is offered; `base` is `http://host`. `None`: it would be too long.
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

    /// The core that the module will run after this package, as far as it is another one than now or the
    /// module did not say its own. A script-only package leaves the core as it is.
    fn new_core(&self, release: &Release, package: &Package) -> Option<u32> {
        let family = self.check.name().platform.and_then(ChipFamily::of_platform);
        if !package.brings_core(family) && !self.core_version.is_empty() {
            return None;
        }
        release.version.core_form().map(|form| form.core)
    }

    /// The answer to a check that is offered something. `mark`: proves the report. The module compares
    /// `core_id`, `core_version` and `script_version` after its restart with what it runs (docs/protocol.md 9d).
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
        // A field that is missing equals nothing for the module; a null is no better.
        if let Some(fields) = answer.as_object_mut() {
            let id = self.core_id.map(|id| ("core_id".to_owned(), id.into()));
            let core = (!core.is_empty()).then(|| ("core_version".to_owned(), core.into()));
            fields.extend(id.into_iter().chain(core));
        }
        // Not by its Display, here or elsewhere: that one has two ways to write it, and brings both.
        serde_json::to_string(&answer).unwrap_or_default()
    }
}

/// The letters of the kinds of id in a serial.
const KINDS: [char; 3] = ['i', 'm', 'o'];

/// What a module sends back with its report.
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

/// Reads a report: `{"fota_sn":"…","result_code":1}`.
pub fn report(body: &[u8]) -> Option<Reported> {
    let json: Value = serde_json::from_str(str::from_utf8(body).ok()?).ok()?;
    let (device, content, mark) = read_serial(json.get("fota_sn")?.as_str()?)?;
    Some(Reported {
        device,
        content,
        mark,
        result: json.get("result_code")?.as_i64()?,
    })
}

#[cfg(test)]
mod tests;
