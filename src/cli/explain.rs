//! `luat-ota explain`: the verdict on one check, what it becomes on the wire, and every rule that was
//! looked at. It asks the same [`decide`] as the server and sends the same replies to a string.

use std::borrow::Cow;
use std::fmt::Write;
use std::path::Path;
use std::time::SystemTime;

use super::Asked;
use super::check::catalogue;
use crate::decision::{Check, Known, Notes, Offer, Question, Refused, Verdict, decide};
use crate::firmware::audience::DeviceId;
use crate::firmware::catalog::Catalog;
use crate::logging::Escaped;
use crate::wire::datagram::{self, Message};
use crate::wire::query::{self, Route};
use crate::wire::{reply, turnkey};

/// What to print, and the exit status.
pub(super) fn run(folder: &Path, asked: &Asked) -> Result<(String, u8), String> {
    let check = match &asked.request {
        Some(request) => from_request(request)?,
        None => from_flags(asked),
    };
    let catalog = catalogue(folder)?;
    let unix = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| {
            i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
        });
    Ok(explain(&catalog, &check, unix))
}

/// The check that the flags describe.
fn from_flags(asked: &Asked) -> Check<'_> {
    let text = asked.device.as_deref().unwrap_or_default();
    let device = DeviceId::parse(text);
    Check {
        device,
        device_text: match device {
            Some(_) => Cow::Borrowed(text),
            None => Cow::default(),
        },
        firmware_name: asked.firmware_name.as_deref().map(Cow::Borrowed),
        path_project: None,
        version: Cow::Borrowed(asked.version.as_deref().unwrap_or_default()),
        core_version: asked.core_version,
        project_key: asked.project_key.as_deref().map(Cow::Borrowed),
        need_oss_url: asked.need_oss_url,
        ..Check::default()
    }
}

/// The check in a request as a log shows it: a URL, a request line, a target, or a UDP message.
fn from_request(request: &[u8]) -> Result<Check<'_>, String> {
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

fn explain(catalog: &Catalog, check: &Check<'_>, unix: i64) -> (String, u8) {
    let question = |check| Question {
        catalog,
        known: Known::default(),
        check,
        unix,
    };
    let mut notes = Notes::kept();
    let verdict = decide(&question(check), &mut notes);
    // The same question over UDP: a file may be too large for it.
    let small = Check {
        largest: Some(datagram::LARGEST),
        ..check.clone()
    };
    let over_udp = decide(&question(&small), &mut Notes::off());

    let mut out = String::new();
    // Writing to a String cannot fail, here and below.
    let _ = match &verdict {
        Verdict::Offer(offer) => offered(&mut out, offer, check),
        Verdict::Refuse(refused) => refusal(&mut out, refused),
    };
    let _ = match &over_udp {
        Verdict::Offer(Offer { package, .. }) => match datagram::packets(package.size) {
            Some((count, last)) => writeln!(out, "  UDP      LUAUPDATE,<id>,{count},{last}"),
            None => writeln!(out, "  UDP      the file is too large for it"),
        },
        Verdict::Refuse(refused) => {
            let text = reply::refusal_text(refused.refusal);
            match &verdict {
                Verdict::Offer(_) => writeln!(out, "  UDP      {text} ({refused})"),
                Verdict::Refuse(_) => writeln!(out, "  UDP      {text}"),
            }
        }
    };
    if check.device.is_none() {
        let _ = writeln!(
            out,
            "  note     the check has no id that a module can have, so rules on single modules, and \
             percent, see none"
        );
    }
    let _ = writeln!(out, "\nRules that were looked at, in order:");
    for (i, note) in notes.list().iter().enumerate() {
        let (number, text) = (i.saturating_add(1), Escaped(&note.text));
        let _ = match note.release.as_str() {
            "" => writeln!(out, "{number:4}. {text}"),
            release => writeln!(out, "{number:4}. {}: {text}", Escaped(release)),
        };
    }
    let code = match verdict {
        Verdict::Offer(_) => 0,
        Verdict::Refuse(_) => 3,
    };
    (out, code)
}

fn offered(out: &mut String, offer: &Offer<'_>, check: &Check<'_>) -> std::fmt::Result {
    let Offer {
        project,
        release,
        package,
    } = offer;
    writeln!(
        out,
        "offered: {} {}",
        Escaped(&project.name),
        Escaped(&release.version_text)
    )?;
    writeln!(out, "  file     {}", Escaped(&package.path))?;
    writeln!(out, "  size     {} bytes", package.size)?;
    writeln!(out, "  sha256   {}", package.content)?;
    match &release.rules.redirect {
        Some(_) if check.need_oss_url => {
            writeln!(out, "  HTTP     302, to the redirect of the release")
        }
        _ => writeln!(out, "  HTTP     200"),
    }
}

fn refusal(out: &mut String, refused: &Refused<'_>) -> std::fmt::Result {
    let reply = reply::refusal(refused.refusal, false);
    writeln!(out, "refused: {}", Escaped(&refused.to_string()))?;
    match code(reply.bytes()) {
        Some(code) => writeln!(out, "  HTTP     {}, code {code}", reply.status()),
        None => writeln!(out, "  HTTP     {}", reply.status()),
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
    use std::sync::Arc;
    use std::time::Instant;

    use crate::firmware::ContentId;
    use crate::firmware::catalog::{Found, FoundFile, FoundRules};
    use crate::firmware::package::{Inspected, Kind};
    use crate::firmware::rules::Rules;
    use crate::os::fs::Stamp;

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

    /// One release of ALIYUN, 2.0.1, of 2044 bytes, with these rules.
    fn catalogue_with(rules: &str) -> Catalog {
        let found = Found {
            files: vec![FoundFile {
                path: "ALIYUN/2.0.1/update.bin".to_owned(),
                stamp: Stamp {
                    dev: 1,
                    ino: 1,
                    size: 2044,
                    mtime: 0,
                    ctime: 0,
                },
                inspected: Inspected {
                    content: ContentId([0xab; 32]),
                    md5: [0; 16],
                    size: 2044,
                    kind: Kind::Generic,
                },
            }],
            rules: vec![FoundRules {
                path: "ALIYUN/2.0.1/release.json".to_owned(),
                rules: Some(Arc::new(Rules::parse(rules.as_bytes()).unwrap())),
                error: None,
            }],
            ..Found::default()
        };
        Catalog::build(found, None, Instant::now())
    }

    const REQUEST: &[u8] = b"GET /luat/update?project_key=k&imei=862991443753386&firmware_name=\
        ALIYUN_Luat_V0007_ASR1802&version=2.0.0&need_oss_url=1 HTTP/1.1";

    #[test]
    fn an_offer_names_the_file_and_both_replies() {
        let check = from_request(REQUEST).unwrap();
        let (text, code) = explain(&catalogue_with("{}"), &check, 0);
        assert_eq!(code, 0);
        for line in [
            "offered: ALIYUN 2.0.1\n",
            "  file     ALIYUN/2.0.1/update.bin\n",
            "  size     2044 bytes\n",
            "  sha256   abababab",
            "  HTTP     200\n",
            "  UDP      LUAUPDATE,<id>,2,1022\n",
            "   1. ",
        ] {
            assert!(text.contains(line), "{line:?} is not in\n{text}");
        }
        let rules = catalogue_with(r#"{"redirect": "http://cdn.example.com/{file}"}"#);
        let (text, _) = explain(&rules, &check, 0);
        assert!(text.contains("  HTTP     302"), "{text}");
    }

    #[test]
    fn a_refusal_shows_its_code_and_its_reasons_in_order() {
        let check = from_request(REQUEST).unwrap();
        let rules = catalogue_with(r#"{"deny": ["862991443753386"]}"#);
        let (text, code) = explain(&rules, &check, 0);
        assert_eq!(code, 3);
        for line in [
            "refused: 2.0.1: it is in deny\n",
            "  HTTP     403, code 21\n",
            "  UDP      imei range error\n",
            "\nRules that were looked at, in order:\n   1. ",
        ] {
            assert!(text.contains(line), "{line:?} is not in\n{text}");
        }
    }

    #[test]
    fn the_flags_ask_the_same_as_the_request() {
        let asked = Asked {
            device: Some("862991443753386".to_owned()),
            firmware_name: Some("ALIYUN_Luat_V0007_ASR1802".to_owned()),
            version: Some("2.0.0".to_owned()),
            project_key: Some("k".to_owned()),
            need_oss_url: true,
            ..Asked::default()
        };
        assert_eq!(from_flags(&asked), from_request(REQUEST).unwrap());
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

    #[test]
    fn a_module_without_a_good_id_is_noted() {
        let asked = Asked {
            device: Some("no id!".to_owned()),
            firmware_name: Some("ALIYUN".to_owned()),
            version: Some("2.0.0".to_owned()),
            ..Asked::default()
        };
        let (text, _) = explain(&catalogue_with("{}"), &from_flags(&asked), 0);
        assert!(text.contains("  note     the check has no id"), "{text}");
    }
}
