//! libfota3 (LOS app_engine/factory/libs/libfota3.lua; v1.0 of 2026-05-27, v2.0 of 2026-06-18 in
//! module/*/project; docs/protocol.md 7): a check that is answered with JSON, a download from the
//! URL in that JSON, and a report of the result.
//!
//! Its rules are the opposite of libfota2's. The reply to the check must be a 200 with JSON, and a
//! 404 is an error, not "no update". The paths are fixed in the library; only the server's address
//! can be changed (by DNS or an edited constant), so the path of the [`Endpoint`] is ignored.
//!
//! After the restart the module compares the reply to the check with what it runs, and reports 1
//! only if `core_id`, `core_version` and `script_version` all agree (9d). A module that reports 2
//! does run the new script, but its owner sees a failure: the emulation counts that as a failure of
//! the server. The new script's VERSION is known only if it was given (`--to`). Otherwise the reply
//! must write the version with as many fields and digits as the request, because all versions of
//! one script are written alike.
//!
//! Where docs/protocol.md says nothing, the emulation does this: `size` is not checked, nothing is
//! reported without an update or a download, and the POST has a Content-Length after its
//! Content-Type.

use super::libfota;
use super::luatos::{Client, Core, Ended};
use super::{Action, Attempt, Endpoint, Event, Failure, Identity, Outcome};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::time::Duration;

/// Path of the check.
const CHECK: &str = "/api/site/turnkey_fota";

/// Path of the report.
const REPORT: &str = "/api/site/turnkey_fota_result";

const CHECK_TIME: Duration = Duration::from_secs(120);
const DOWNLOAD_TIME: Duration = Duration::from_secs(600);
const REPORT_TIME: Duration = Duration::from_secs(30);

/// Second result of rtos.version(true) on the platforms in the field.
const CORE_ID: i64 = 1;

/// Start of the outcome of a module that will report 2.
pub(super) const REPORTS_FAILURE: &str = "reports result_code 2 after the restart: ";

/// Maximum number of tries to report.
const REPORTS: u32 = 2;

/// Edition of the library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Libfota3 {
    /// v1.0: compares `core_version` as text.
    V1,
    /// v2.0: compares `core_version` as a number.
    V2,
}

impl Libfota3 {
    /// All editions, the oldest first.
    pub const ALL: [Libfota3; 2] = [Libfota3::V1, Libfota3::V2];

    /// Returns the edition's version.
    pub fn since(self) -> &'static str {
        match self {
            Libfota3::V1 => "v1.0",
            Libfota3::V2 => "v2.0",
        }
    }

    /// Creates an update on this core (the one of the library's time is [`Core::D2026_05_08`]) at
    /// this server. The path of `server` is not used.
    ///
    /// `to`: VERSION of the new script, if known.
    pub fn update(
        self,
        core: Core,
        identity: &Identity,
        to: Option<&str>,
        server: Endpoint,
    ) -> Update {
        let query = format!(
            "?{}&project_key={}&model={}&core_id={CORE_ID}&core_version={:04}&script_name={}\
             &script_version={}",
            libfota::id_by_platform(identity),
            escaped(&identity.key),
            escaped(libfota::model(libfota::bsp(identity))),
            identity.core,
            escaped(&identity.project),
            escaped(&identity.version),
        );
        let check = Endpoint {
            path: format!("{CHECK}{query}"),
            ..server.clone()
        };
        Update {
            edition: self,
            core,
            client: Client::new(core, check).for_text().within(CHECK_TIME),
            server,
            running: Running {
                core: identity.core,
                script: identity.version.clone(),
                to: to.map(str::to_owned),
            },
            step: Step::Check,
            report_error: None,
        }
    }
}

/// State of the update.
#[derive(Debug)]
enum Step {
    Check,
    Download(Offer),
    Report {
        offer: Offer,
        bytes: Vec<u8>,
        tries: u32,
    },
    Over,
}

/// Offer in the JSON of the check.
#[derive(Debug, PartialEq)]
struct Offer {
    url: Endpoint,
    sha256: Option<String>,
    serial: Value,
    /// Reason why the module will report 2 after the restart, if it will.
    mismatch: Option<String>,
}

/// Versions that the module runs, and the script version that it will run, if known.
#[derive(Debug)]
struct Running {
    core: u32,
    script: String,
    to: Option<String>,
}

impl Running {
    /// Returns why the module will report 2 after this reply, if it will (docs/protocol.md 9d).
    fn mismatch(&self, edition: Libfota3, json: &Value) -> Option<String> {
        let shown = |name: &str| {
            json.get(name)
                .map_or("nothing".to_owned(), Value::to_string)
        };
        if json.get("core_id").and_then(Value::as_i64) != Some(CORE_ID) {
            return Some(format!(
                "core_id must be the number {CORE_ID}, as in the request; it is {}",
                shown("core_id")
            ));
        }
        // The core in the package is unknown here. Without one, the module keeps its core.
        let core = json.get("core_version");
        let text = core.and_then(Value::as_str);
        let number = text.and_then(|text| text.parse().ok());
        let number: Option<u64> = number.or_else(|| core.and_then(Value::as_u64));
        let matches = number.is_some_and(|number| number >= u64::from(self.core))
            && (edition == Libfota3::V2 || text.is_some());
        if !matches {
            return Some(format!(
                "core_version must be the text \"{:04}\", or that of the core in the package; it is {}",
                self.core,
                shown("core_version")
            ));
        }
        let script = json.get("script_version").and_then(Value::as_str);
        let matches = script.is_some_and(|script| match &self.to {
            Some(to) => script == to,
            None => is_written_like(script, &self.script),
        });
        (!matches).then(|| {
            let expected = match &self.to {
                Some(to) => format!("\"{to}\""),
                None => format!("written like \"{}\"", self.script),
            };
            format!(
                "script_version must be {expected}; it is {}",
                shown("script_version")
            )
        })
    }
}

/// Whether both can be versions of one script. If `other` is padded with zeros, each field must
/// have as many digits in both. Otherwise `version` must not be padded either, and must not begin
/// with a core version.
fn is_written_like(version: &str, other: &str) -> bool {
    let widths = |version: &str| -> Vec<usize> { version.split('.').map(str::len).collect() };
    let is_padded = |version: &str| {
        let mut fields = version.split('.');
        fields.any(|field| field.len() > 1 && field.starts_with('0'))
    };
    match is_padded(other) {
        true => widths(version) == widths(other),
        false => !is_padded(version) && widths(version).first().is_some_and(|first| *first < 4),
    }
}

/// One update by libfota3.
#[derive(Debug)]
pub struct Update {
    edition: Libfota3,
    core: Core,
    server: Endpoint,
    client: Client,
    running: Running,
    step: Step,
    report_error: Option<String>,
}

impl Update {
    /// Returns the failure of the report, if any. The outcome stays the same: the module is
    /// updated.
    pub fn report_error(&self) -> Option<&str> {
        self.report_error.as_deref()
    }

    /// Handles the end of a request: starts the next one, or finishes.
    fn next(&mut self, now: Duration, ended: Ended) -> Vec<Action> {
        match std::mem::replace(&mut self.step, Step::Over) {
            Step::Check => {
                match parse_answer(ended, |json| self.running.mismatch(self.edition, json)) {
                    Ok(offer) => {
                        self.client = Client::new(self.core, offer.url.clone())
                            .into_file()
                            .within(DOWNLOAD_TIME);
                        self.step = Step::Download(offer);
                        self.begin(now)
                    }
                    Err(outcome) => vec![Action::Finish(outcome)],
                }
            }
            Step::Download(offer) => match check_download(ended, offer.sha256.as_deref()) {
                Ok(bytes) => self.report(now, offer, bytes, 1),
                Err(outcome) => vec![Action::Finish(outcome)],
            },
            Step::Report {
                offer,
                bytes,
                tries,
            } => {
                self.report_error = report_failure(ended);
                if self.report_error.is_some() && tries < REPORTS {
                    return self.report(now, offer, bytes, tries.saturating_add(1));
                }
                let outcome = match offer.mismatch {
                    Some(why) => gave_up(format!("{REPORTS_FAILURE}{why}")),
                    None => Outcome::Updated(bytes),
                };
                vec![Action::Finish(outcome)]
            }
            Step::Over => Vec::new(),
        }
    }

    fn report(&mut self, now: Duration, offer: Offer, bytes: Vec<u8>, tries: u32) -> Vec<Action> {
        let code = match offer.mismatch {
            None => 1,
            Some(_) => 2,
        };
        let serial = &offer.serial;
        let body = format!("{{\"fota_sn\":{serial},\"result_code\":{code}}}");
        let server = Endpoint {
            path: REPORT.to_owned(),
            ..self.server.clone()
        };
        self.client = Client::new(self.core, server)
            .for_text()
            .posting("application/json", body.into_bytes())
            .within(REPORT_TIME);
        self.step = Step::Report {
            offer,
            bytes,
            tries,
        };
        self.begin(now)
    }

    fn begin(&mut self, now: Duration) -> Vec<Action> {
        self.client.advance(now, Event::Start).0
    }
}

impl Attempt for Update {
    fn step(&mut self, now: Duration, event: Event<'_>) -> Vec<Action> {
        let (mut actions, ended) = self.client.advance(now, event);
        if let Some(ended) = ended {
            actions.extend(self.next(now, ended));
        }
        actions
    }
}

fn gave_up(why: String) -> Outcome {
    Outcome::Failed(Failure::GaveUp(why))
}

fn code(code: i32) -> String {
    format!("code {code}")
}

/// Parses the reply to the check: an offer, or the outcome that ends the update.
fn parse_answer(
    ended: Ended,
    mismatch: impl FnOnce(&Value) -> Option<String>,
) -> Result<Offer, Outcome> {
    let Ended::Received { status, bytes, .. } = ended else {
        return Err(ended.outcome(code));
    };
    if status != 200 {
        return Err(gave_up(format!(
            "check: status {status}; libfota3 needs a 200 with JSON even for \"no update\""
        )));
    }
    let json: Value = serde_json::from_slice(&bytes)
        .map_err(|error| gave_up(format!("check: status 200, but not JSON: {error}")))?;
    match json.get("code").and_then(Value::as_i64) {
        Some(0) => {}
        Some(code) => {
            let msg = json.get("msg").and_then(Value::as_str).unwrap_or_default();
            return Err(Outcome::NoUpdate(format!("code {code}: {msg}")));
        }
        None => return Err(gave_up("check: the JSON has no code".to_owned())),
    }
    let text = |name: &str| json.get(name).and_then(Value::as_str);
    let url = text("url").ok_or_else(|| gave_up("check: code 0 without a url".to_owned()))?;
    Ok(Offer {
        url: endpoint(url).ok_or_else(|| gave_up(format!("check: not an http:// URL: {url}")))?,
        sha256: text("sha256")
            .filter(|sum| !sum.is_empty())
            .map(str::to_owned),
        serial: json.get("fota_sn").cloned().unwrap_or_default(),
        mismatch: mismatch(&json),
    })
}

/// Checks the download: the status must be exactly 200, and the SHA-256 must match if there is one.
fn check_download(ended: Ended, sha256: Option<&str>) -> Result<Vec<u8>, Outcome> {
    let (bytes, flaw) = match ended {
        Ended::Received {
            status: 200,
            bytes,
            flaw,
        } => (bytes, flaw),
        Ended::Received { status, .. } => {
            return Err(gave_up(format!(
                "download: status {status}, and libfota3 accepts only 200"
            )));
        }
        // A refusal here does not mean "no update", because the check has offered one.
        Ended::Failed {
            code,
            why,
            hung: None,
            ..
        } => return Err(gave_up(format!("download: code {code}: {why}"))),
        other => return Err(other.outcome(code)),
    };
    if let Some(sum) = sha256 {
        if !sum.eq_ignore_ascii_case(&hex(&Sha256::digest(&bytes))) {
            return Err(gave_up(
                "download: the file's SHA-256 does not match the reply to the check".to_owned(),
            ));
        }
        return Ok(bytes);
    }
    match flaw {
        Some(flaw) => Err(Outcome::Failed(Failure::FlashedGarbage(bytes, flaw))),
        None => Ok(bytes),
    }
}

/// Returns why the report was not accepted; `None` if it was.
fn report_failure(ended: Ended) -> Option<String> {
    let (status, bytes) = match ended {
        Ended::Received { status, bytes, .. } => (status, bytes),
        Ended::Failed { code, why, .. } => return Some(format!("report: code {code}: {why}")),
        Ended::Never { why, .. } => return Some(format!("report: {why}")),
    };
    let code = serde_json::from_slice::<Value>(&bytes)
        .ok()
        .and_then(|json| json.get("code").and_then(Value::as_i64));
    if status == 200 && code == Some(0) {
        return None;
    }
    let code = code.map_or("no code".to_owned(), |code| format!("code {code}"));
    Some(format!(
        "report: status {status}, {code}; libfota3 needs 200 {{\"code\":0}}"
    ))
}

/// Parses `http://host[:port]/path`.
fn endpoint(url: &str) -> Option<Endpoint> {
    let rest = url.strip_prefix("http://")?;
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().ok()?),
        None => (authority, 80),
    };
    let slash = if path.starts_with('/') { "" } else { "/" };
    (!host.is_empty()).then(|| Endpoint {
        host: host.to_owned(),
        port,
        path: format!("{slash}{path}"),
    })
}

/// Escapes as the library does: only `% space # & = +` and line ends.
fn escaped(value: &str) -> String {
    let mut text = String::new();
    for sign in value.chars() {
        match sign {
            '%' => text.push_str("%25"),
            ' ' => text.push_str("%20"),
            '#' => text.push_str("%23"),
            '&' => text.push_str("%26"),
            '=' => text.push_str("%3D"),
            '+' => text.push_str("%2B"),
            '\r' => text.push_str("%0D"),
            '\n' => text.push_str("%0A"),
            _ => text.push(sign),
        }
    }
    text
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests;
