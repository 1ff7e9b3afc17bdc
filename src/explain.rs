//! Explanation of a check: its verdict, the replies over HTTP and UDP, and the rules that were evaluated. Shown by
//! `luat-ota explain` and by the operator page. The verdict is that of [`decide_if_read`], as in the server.

use std::borrow::Cow;
use std::fmt::Write;

use crate::decision::{Check, Known, Notes, Offer, Question, Verdict, decide_if_read};
use crate::firmware::audience::DeviceId;
use crate::firmware::catalog::Catalog;
use crate::wire::dialects::datagram::{self, Datagram};
use crate::wire::dialects::libfota3::Libfota3Request;
use crate::wire::http_target::{HttpTarget, http_target};

/// Description of a device and its check by a person.
#[derive(Clone, Copy, Debug, Default)]
pub struct CheckFields<'a> {
    /// IMEI, mac or uid.
    pub device: &'a str,
    /// `firmware_name`.
    pub firmware_name: Option<&'a str>,
    /// Version that the device reports.
    pub version: &'a str,
    /// `core_version`.
    pub core_version: Option<u32>,
    /// `project_key`.
    pub project_key: Option<&'a str>,
    /// Whether the device follows redirects.
    pub need_oss_url: bool,
}

impl<'a> CheckFields<'a> {
    /// Returns the check that such a device sends.
    pub fn check(self) -> Check<'a> {
        let (device, device_text) = DeviceId::read(self.device).unzip();
        Check {
            device,
            device_text: device_text.unwrap_or_default(),
            firmware_name: self.firmware_name.map(Into::into),
            path_project: None,
            version: Cow::Borrowed(self.version),
            core_version: self.core_version,
            project_key: self.project_key.map(Cow::Borrowed),
            need_oss_url: self.need_oss_url,
            ..Check::default()
        }
    }
}

/// Parses a request from a log into a check: a URL, a request line, a target, or a UDP message.
pub fn from_request(request: &[u8]) -> Result<Check<'_>, String> {
    let request = request.trim_ascii();
    let target = target(request);
    if !target.contains(&b'/') && !target.contains(&b'=') {
        return match datagram::parse(request) {
            Datagram::Check(check) => Ok(check),
            Datagram::Get(_) => Err(
                "this message requests a packet of a download; explain the message before it, \
                 which begins with the IMEI"
                    .to_owned(),
            ),
            Datagram::Unknown | Datagram::NoReply => Err(format!(
                "{:?} is neither a URL nor a message of the UDP protocol",
                String::from_utf8_lossy(request)
            )),
        };
    }
    match http_target(target) {
        HttpTarget::Check(check) => Ok(check),
        HttpTarget::Libfota3(Libfota3Request::Check(asked)) => Ok(asked.check),
        HttpTarget::Libfota3(Libfota3Request::File(wanted)) => Ok(wanted.origin.check),
        HttpTarget::Libfota3(Libfota3Request::Report) => {
            Err("this is a result report; explain the check before it".to_owned())
        }
        HttpTarget::Health | HttpTarget::Ready => {
            Err("this is a health check of the server, not a check of a module".to_owned())
        }
        HttpTarget::File(path, _) => Err(format!(
            "this requests the file {path:?} itself, to which only the rule \"direct\" applies"
        )),
        HttpTarget::Unknown => Err(format!(
            "{:?} is not a check: it has neither firmware_name and version nor a path of this \
             server. Put it in quotes",
            String::from_utf8_lossy(target)
        )),
    }
}

/// Returns the request that sends this check: a UDP message for a check over the packet protocol, otherwise an HTTP
/// target. [`from_request`] parses both.
pub fn request_of(check: &Check<'_>) -> String {
    let name = check.firmware_name.as_deref().unwrap_or_default();
    let (id, version) = (&check.device_text, &check.version);
    if check.largest.is_some() {
        return match &check.project_key {
            Some(key) => format!("0,{key},{id},,{name},{version}"),
            None => format!("{id},{name},{version}"),
        };
    }
    let project = match &check.path_project {
        Some(project) => format!("/{}", percent_encoded(project)),
        None => String::new(),
    };
    let key = match check.device {
        Some(DeviceId::Mac(_)) => "mac",
        Some(DeviceId::Other(_)) => "uid",
        Some(DeviceId::Imei(_)) | None => "imei",
    };
    let core = check.core_version.map(|core| core.to_string());
    let fields = [
        ("project_key", check.project_key.as_deref()),
        (key, Some(&**id)),
        ("firmware_name", check.firmware_name.as_deref()),
        ("core_version", core.as_deref()),
        ("need_oss_url", check.need_oss_url.then_some("1")),
        ("version", Some(&**version)),
    ];
    let fields = fields
        .into_iter()
        .flat_map(|(field, value)| Some((field, value?)));
    let fields = fields.map(|(field, value)| format!("{field}={}", percent_encoded(value)));
    let query: Vec<String> = fields.collect();
    format!("/luat/update{project}?{}", query.join("&"))
}

/// Percent-encodes a text (RFC 3986 section 2.1).
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'.' | b'_' | b'-' | b'~' => {
                encoded.push(char::from(byte));
            }
            byte => {
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
    }
    encoded
}

/// Returns the target without the method and version of a request line, and without the scheme and host of a URL.
fn target(request: &[u8]) -> &[u8] {
    let mut target = request;
    if let Some(space) = target.iter().position(|&b| b == b' ')
        && let Some((method, rest)) = target.split_at_checked(space)
        && !method.is_empty()
        && method.iter().all(u8::is_ascii_uppercase)
    {
        target = rest.trim_ascii_start();
    }
    // The last match counts, as in a request head, since a target may contain anything.
    if let Some(at) = target.windows(6).rposition(|six| six == b" HTTP/") {
        target = target.get(..at).unwrap_or(target);
    }
    if let Some(at) = target.windows(3).position(|three| three == b"://")
        && target.iter().take(at).all(u8::is_ascii_alphabetic)
    {
        let rest = target.get(at.saturating_add(3)..).unwrap_or_default();
        let end = rest.iter().position(|b| matches!(b, b'/' | b'?'));
        target = end.and_then(|end| rest.get(end..)).unwrap_or(b"/");
    }
    target
}

/// The explanation of a check.
pub struct Explanation<'c> {
    /// The verdict.
    pub verdict: Verdict<'c>,
    /// The status of the reply over HTTP.
    pub status: u16,
    /// The code in the body of a refusal.
    pub code: Option<u32>,
    /// The reply over UDP, with its reason if only the reply over UDP is a refusal.
    pub udp: String,
    /// The rules that were evaluated, in order.
    pub notes: Notes,
}

/// Explains a check. `known`: recorded state of the device. `unix`: the time in Unix seconds.
pub fn explain<'c>(
    catalog: &'c Catalog,
    known: Known<'_>,
    check: &Check<'_>,
    unix: i64,
) -> Explanation<'c> {
    let mut check = check.clone();
    check.complete(catalog);
    let question = |check| Question {
        catalog,
        known,
        check,
        unix,
    };
    let mut notes = Notes::collecting();
    let verdict = decide_if_read(&question(&check), &mut notes);
    // A file may be too large for UDP.
    let small = Check {
        largest: Some(datagram::LARGEST),
        ..check.clone()
    };
    let over_udp = decide_if_read(&question(&small), &mut Notes::off());
    let (status, code) = match &verdict {
        Verdict::Offer(Offer { release, .. }) => match &release.rules.redirect {
            Some(_) if check.need_oss_url => (302, None),
            _ => (200, None),
        },
        Verdict::Refuse(refused) => {
            let wording = refused.refusal.wording();
            (wording.status, wording.body.map(|(code, _)| code))
        }
    };
    let udp = match &over_udp {
        Verdict::Offer(Offer { package, .. }) => match datagram::packets(package.size) {
            Some((count, last)) => format!("LUAUPDATE,<id>,{count},{last}"),
            None => "the file is too large for it".to_owned(),
        },
        Verdict::Refuse(refused) => {
            let text = refused.refusal.wording().packet;
            match &verdict {
                Verdict::Offer(_) => format!("{text} ({refused})"),
                Verdict::Refuse(_) => text.to_string(),
            }
        }
    };
    Explanation {
        verdict,
        status,
        code,
        udp,
        notes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_found_in_any_form_of_a_log() {
        for (request, expected) in [
            ("/luat/update?a=1", "/luat/update?a=1"),
            ("GET /luat/update?a=1 HTTP/1.1", "/luat/update?a=1"),
            ("POST /luat/update?a=1 HTTP/1.0", "/luat/update?a=1"),
            ("GET /u?a=x y HTTP/1.1&b HTTP/1.1", "/u?a=x y HTTP/1.1&b"),
            ("http://1.2.3.4:8080/luat/update?a=1", "/luat/update?a=1"),
            ("GET http://h/u?a=1 HTTP/1.1", "/u?a=1"),
            ("https://h?a=1", "?a=1"),
            ("http://h", "/"),
            ("/u?next=http://h/x", "/u?next=http://h/x"),
            ("/u?a=x y", "/u?a=x y"),
            ("862991443753386,A,1.0.0", "862991443753386,A,1.0.0"),
            ("", ""),
        ] {
            assert_eq!(target(request.as_bytes()), expected.as_bytes(), "{request}");
        }
    }

    // Case 42.
    #[test]
    fn the_request_of_a_check_asks_that_check_again() {
        for request in [
            "/luat/update?project_key=k%20%26&imei=862991443753386&firmware_name=X_LuatOS-SoC_Air780E&version=2012.1.2",
            "/luat/update?imei=862991443753386&firmware_name=P_Luat_V0017_ASR1802&version=1.0.0&need_oss_url=1",
            "/luat/update/P?imei=862991443753386&version=1.0.0",
            "/luat/update/%E6%B0%B4%E8%A1%A8?mac=A1B2C3D4E5F6&version=1.0.0",
            "/api/site/firmware_upgrade?imei=862991443753386&firmware_name=A_LuatOS-Air_RDA8910&core_version=4035&version=1.0.0",
            "/api/site/turnkey_fota?imei=862991443753386&project_key=k&model=Air780EPM&core_id=1&core_version=2046&script_name=T&script_version=001.999.000",
            "862991443753386,USER_SERVER_Luat_V0035_8955,1.0.0",
            "0,KEY,862991443753386,SN,A_Luat_V0035_8955,1.0.0",
        ] {
            let mut check = from_request(request.as_bytes()).unwrap();
            check.hint = "";
            let again = request_of(&check);
            let mut asked_again = from_request(again.as_bytes()).unwrap();
            asked_again.hint = "";
            assert_eq!(asked_again, check, "{request} is asked again as {again}");
        }
    }

    #[test]
    fn a_message_of_the_udp_protocol_is_a_request_too() {
        let check = from_request(b"862991443753386,ALIYUN_Luat_V0035_8955,2.0.0").unwrap();
        assert_eq!(check.project(), "ALIYUN");
        assert_eq!(check.version, "2.0.0");
        for (request, why) in [
            ("Get5,7", "begins with the IMEI"),
            ("hello", "neither a URL nor a message"),
            ("/healthz", "health check of the server"),
            ("/firmware/A/1.0.0/u.bin", "to which only the rule"),
            ("/index.html", "is not a check"),
        ] {
            let error = from_request(request.as_bytes()).unwrap_err();
            assert!(error.contains(why), "{request}: {error}");
        }
    }
}
