//! Explains a check: the verdict on it, what that becomes on the wire, and every rule that was looked at.
//! Shown by `luat-ota explain` and by the operator's page, each in its own way.
//!
//! The surprise: there is nothing here that decides. It asks the same [`decide`] as the server, and sends
//! the same replies to a string.

use std::borrow::Cow;

use crate::decision::{Check, Known, Notes, Offer, Question, Verdict, decide};
use crate::firmware::audience::DeviceId;
use crate::firmware::catalog::Catalog;
use crate::wire::datagram::{self, Message};
use crate::wire::query::{self, Route};
use crate::wire::{reply, turnkey};

/// A module in the words of a person.
#[derive(Clone, Copy, Debug, Default)]
pub struct Described<'a> {
    /// Its IMEI, or mac or uid.
    pub device: &'a str,
    /// What it calls its firmware.
    pub firmware_name: Option<&'a str>,
    /// The version that it says it runs.
    pub version: &'a str,
    /// `core_version`.
    pub core_version: Option<u32>,
    /// `project_key`.
    pub project_key: Option<&'a str>,
    /// It can follow a redirect.
    pub need_oss_url: bool,
}

impl<'a> Described<'a> {
    /// The check that such a module sends.
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

/// The check in a request as a log shows it: a URL, a request line, a target, or a UDP message.
pub fn from_request(request: &[u8]) -> Result<Check<'_>, String> {
    let request = request.trim_ascii();
    let target = target(request);
    if !target.contains(&b'/') && !target.contains(&b'=') {
        return match datagram::parse(request) {
            Message::Check(check) => Ok(check),
            Message::Get(_) => Err(
                "that asks for a packet of a download; explain the message before it, which begins \
                 with the IMEI"
                    .to_owned(),
            ),
            Message::Unknown | Message::Silence => Err(format!(
                "{:?} is neither a URL nor a message of the UDP protocol",
                String::from_utf8_lossy(request)
            )),
        };
    }
    match query::route(target) {
        Route::Check(check) => Ok(check),
        Route::Turnkey(turnkey::Request::Check(asked)) => Ok(asked.check),
        Route::Turnkey(turnkey::Request::File(wanted)) => Ok(wanted.asked.check),
        Route::Turnkey(turnkey::Request::Report) => {
            Err("that reports what became of an update; explain the check before it".to_owned())
        }
        Route::Health => Err("that asks whether the server is well, not for an update".to_owned()),
        Route::File(path) => Err(format!(
            "that asks for the file {path:?} itself; no rule but \"direct\" is looked at for that"
        )),
        Route::Nothing => Err(format!(
            "{:?} is no update check: it has neither firmware_name and version nor a path of ours. \
             Is it between quotes?",
            String::from_utf8_lossy(target)
        )),
    }
}

/// Cuts what is around the target: the method and the version of a request line, the scheme and the
/// host of a URL.
fn target(request: &[u8]) -> &[u8] {
    let mut target = request;
    if let Some(space) = target.iter().position(|&b| b == b' ')
        && let Some((method, rest)) = target.split_at_checked(space)
        && !method.is_empty()
        && method.iter().all(u8::is_ascii_uppercase)
    {
        target = rest.trim_ascii_start();
    }
    // The last one, as in a head: a target may hold anything.
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

/// What there is to be said of a check.
pub struct Explanation<'c> {
    /// The verdict.
    pub verdict: Verdict<'c>,
    /// The status over HTTP.
    pub status: u16,
    /// The platform's code in a refusal's body.
    pub code: Option<u32>,
    /// What is said over UDP.
    pub udp: String,
    /// Why that is another verdict, if it is.
    pub udp_reason: Option<String>,
    /// The rules that were looked at, in order.
    pub notes: Notes,
}

/// Explains a check. `known`: what is known of the device; `unix`: the time, Unix seconds UTC.
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
    let mut notes = Notes::kept();
    let verdict = decide(&question(&check), &mut notes);
    // The same question over UDP: a file may be too large for it.
    let small = Check {
        largest: Some(datagram::LARGEST),
        ..check.clone()
    };
    let over_udp = decide(&question(&small), &mut Notes::off());
    let (status, code) = match &verdict {
        Verdict::Offer(Offer { release, .. }) => match &release.rules.redirect {
            Some(_) if check.need_oss_url => (302, None),
            _ => (200, None),
        },
        Verdict::Refuse(refused) => {
            let reply = reply::refusal(refused.refusal, false);
            (reply.status(), code(reply.bytes()))
        }
    };
    let (udp, udp_reason) = match &over_udp {
        Verdict::Offer(Offer { package, .. }) => match datagram::packets(package.size) {
            Some((count, last)) => (format!("LUAUPDATE,<id>,{count},{last}"), None),
            None => ("the file is too large for it".to_owned(), None),
        },
        Verdict::Refuse(refused) => {
            let text = reply::refusal_text(refused.refusal).to_string();
            match &verdict {
                Verdict::Offer(_) => (text, Some(refused.to_string())),
                Verdict::Refuse(_) => (text, None),
            }
        }
    };
    Explanation {
        verdict,
        status,
        code,
        udp,
        udp_reason,
        notes,
    }
}

/// The code in a refusal's body.
fn code(reply: &[u8]) -> Option<u32> {
    let (_, rest) = std::str::from_utf8(reply).ok()?.split_once("\"code\":")?;
    let end = rest.find(|c: char| !c.is_ascii_digit())?;
    rest.get(..end)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_found_in_whatever_a_log_shows() {
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

    #[test]
    fn the_code_of_a_refusal_is_read_from_its_body() {
        assert_eq!(
            code(b"HTTP/1.1 404 Not Found\r\n\r\n{\"code\":27,\"msg\":\"\"}"),
            Some(27)
        );
        assert_eq!(code(b"HTTP/1.1 416 Range Not Satisfiable\r\n\r\n"), None);
    }

    #[test]
    fn a_message_of_the_udp_protocol_is_a_request_too() {
        let check = from_request(b"862991443753386,ALIYUN_Luat_V0035_8955,2.0.0").unwrap();
        assert_eq!(check.project(), "ALIYUN");
        assert_eq!(check.version, "2.0.0");
        for (request, why) in [
            ("Get5,7", "begins with the IMEI"),
            ("hello", "neither a URL nor a message"),
            ("/healthz", "whether the server is well"),
            ("/firmware/A/1.0.0/u.bin", "no rule but"),
            ("/index.html", "no update check"),
        ] {
            let error = from_request(request.as_bytes()).unwrap_err();
            assert!(error.contains(why), "{request}: {error}");
        }
    }
}
