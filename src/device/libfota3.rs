//! Answers to libfota3 (docs/protocol.md 7) in JSON, with the same decision and update progress as for any other check.
//! Touches no socket.
//!
//! The file's URL and the serial of the report carry a keyed mark. So there is no table of them, a restart changes
//! nothing, and they cannot be forged: a client can neither fetch a file that was not offered to it, nor report on
//! another module's update without knowing its serial.

use std::net::SocketAddr;
use std::time::Instant;

use super::Service;
use super::check_log::CheckResult;
use super::plan::{Answer, DeliveryPlan, IncomingCheck, version_of};
use crate::decision::{HELD_RULE, Refusal, RefusedCheck, Verdict};
use crate::firmware::ContentId;
use crate::firmware::audience::DeviceId;
use crate::firmware::catalog::Catalog;
use crate::fleet::clock::unix_now;
use crate::fleet::report::Report;
use crate::fleet::requester::Requester;
use crate::logging::log_named;
use crate::wire::dialects::libfota3::{self, Libfota3File, Libfota3Request};
use crate::wire::head::Head;
use crate::wire::range::RangeRequest;
use crate::wire::reply::{self, Reply, Status};

/// Purpose of a mark in the URL of a file; [`SERIAL`] is that of a mark in the serial of a report.
const FILE: &[u8; 8] = b"lf3-file";
const SERIAL: &[u8; 8] = b"lf3-sn\0\0";

/// Maximum length in bytes of a Host that is put into a URL.
const LONGEST_HOST: usize = 255;

/// An HTTP request as it arrived.
pub(super) struct HttpRequest<'a> {
    pub head: &'a Head<'a>,
    /// Bytes that were read after the head; for a report the whole body.
    pub body: &'a [u8],
    /// The client's address behind trusted proxies.
    pub client: SocketAddr,
    /// The address at the other end of the connection.
    pub peer: SocketAddr,
    /// The server's own address of the connection, if it is known.
    pub local: Option<SocketAddr>,
    /// Time of arrival.
    pub now: Instant,
}

/// Whether this is a report whose body is not complete yet, so that it cannot be answered.
pub(super) fn waits_for_body(head: &Head<'_>, body: &[u8]) -> bool {
    let is_report = || matches!(libfota3::read(head.target), Some(Libfota3Request::Report));
    let read = u64::try_from(body.len()).unwrap_or(u64::MAX);
    head.method == b"POST" && is_report() && length(head).is_ok_and(|length| read < length)
}

/// Length of a report's body in bytes. The error is the status that answers a missing, bad or too large length.
fn length(head: &Head<'_>) -> Result<u64, Status> {
    if head.header("transfer-encoding").is_some() {
        return Err(Status::NotImplemented);
    }
    let value = head
        .header("content-length")
        .ok_or(Status::LengthRequired)?;
    let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(value).ok().filter(|_| is_number);
    match text.ok_or(Status::BadRequest)?.parse() {
        Ok(length) if length <= libfota3::LONGEST_REPORT => Ok(length),
        _ => Err(Status::BodyTooLarge),
    }
}

/// Answers one of the three requests of libfota3.
pub(super) fn answer(
    service: &Service,
    request: Libfota3Request<'_>,
    http: &HttpRequest<'_>,
    range: &RangeRequest<'_>,
) -> Answer {
    match request {
        Libfota3Request::Check(mut asked) => {
            asked.check.complete(&service.catalog());
            Answer::Reply(check(service, &asked, http, range))
        }
        Libfota3Request::File(mut wanted) => {
            wanted.origin.check.complete(&service.catalog());
            file(service, &wanted, http, range)
        }
        Libfota3Request::Report if http.head.method != b"POST" => {
            Answer::Reply(reply::plain(Status::MethodNotAllowed, range.head_only))
        }
        Libfota3Request::Report => Answer::Reply(report(service, http)),
    }
}

fn check(
    service: &Service,
    module: &libfota3::Libfota3Check<'_>,
    http: &HttpRequest<'_>,
    range: &RangeRequest<'_>,
) -> Reply {
    let incoming = IncomingCheck::new("http", http.client, &module.check, http.now);
    let catalog = service.catalog();
    let verdict = incoming.decide(service, &catalog, !range.head_only);
    let refuse = |refused: RefusedCheck<'_>| {
        incoming.record_refused(service, &refused);
        reply::refusal_in_json(refused.refusal, range.head_only)
    };
    let offer = match verdict {
        Verdict::Refuse(refused) => return refuse(refused),
        Verdict::Offer(offer) => offer,
    };
    let content = offer.package.content;
    let week = service.ids.week(unix_now());
    let url = base_url(service, http).and_then(|base| {
        let mark = file_mark(service, incoming.requester.as_ref(), content, week);
        module.url(&base, content, mark)
    });
    let Some(url) = url else {
        return refuse(RefusedCheck {
            refusal: Refusal::NoPackage,
            release: Some(offer.release),
            rule: "no URL can be made for it: the names are too long, or Host is missing or invalid",
        });
    };
    let to = &*offer.release.version_text;
    incoming.record(service, CheckResult::OFFER, to, &offer.package.path);
    let mark = incoming
        .requester
        .map_or(0, |requester| serial_mark(service, &requester, content));
    reply::json(&module.offer(&offer, &url, mark), range.head_only)
}

fn file(
    service: &Service,
    wanted: &Libfota3File<'_>,
    http: &HttpRequest<'_>,
    range: &RangeRequest<'_>,
) -> Answer {
    let content = wanted.content;
    let incoming = IncomingCheck::new("http", http.client, &wanted.origin.check, http.now);
    let mut weeks = service.ids.valid_weeks(unix_now());
    let is_valid =
        |week| file_mark(service, incoming.requester.as_ref(), content, week) == wanted.mark;
    let catalog = service.catalog();
    if !weeks.any(is_valid) {
        return Answer::Reply(reply::plain(Status::NotFound, range.head_only));
    }
    let Some(size) = service.size_of(content, &catalog) else {
        return Answer::Reply(match service.temporary_refusal(&catalog) {
            Some(refusal) => reply::refusal(refusal, range.head_only),
            None => reply::plain(Status::NotFound, range.head_only),
        });
    };
    let to = version_of(&catalog, incoming.check.project(), content);
    // The URL names the content, so any part is a part of the right file.
    let part = range.part_of_named(content, size);
    let known = |requester: &Requester| {
        let fleet = service.fleet.borrow();
        let known = fleet.known(incoming.check, Some(requester), incoming.now);
        known
            .held
            .contains(content, is_named(&catalog, &incoming, content))
    };
    if range.required_prefix().is_none() && incoming.requester.as_ref().is_some_and(known) {
        let result = CheckResult::refused(Refusal::Looping);
        incoming.record(service, result, to, HELD_RULE);
        return Answer::Reply(reply::refusal(Refusal::Looping, range.head_only));
    }
    let subject = incoming.subject(to).into_owned();
    DeliveryPlan::whole(content, size, incoming.owner(), subject).answer(
        service,
        part,
        range.head_only,
    )
}

/// Whether the `allow` of a release with this content lists the device individually.
fn is_named(catalog: &Catalog, incoming: &IncomingCheck<'_>, content: ContentId) -> bool {
    let project = catalog.project(incoming.check.project());
    let releases = project.into_iter().flat_map(|project| &project.releases);
    let mut of_content = releases.filter(|r| r.packages.iter().any(|p| p.content == content));
    of_content.any(|release| {
        let allow = release.rules.allow.as_ref();
        let device = incoming.check.device;
        device.is_some_and(|device| allow.is_some_and(|allow| allow.lists_singly(device)))
    })
}

/// Records a report. The answer is always the same, so that an invented report reveals nothing.
fn report(service: &Service, http: &HttpRequest<'_>) -> Reply {
    let length = match length(http.head) {
        Ok(length) => usize::try_from(length).unwrap_or(usize::MAX),
        Err(status) => return reply::plain(status, false),
    };
    let body = http.body.get(..length).unwrap_or(http.body);
    let verified = libfota3::report(body).filter(|report| {
        let (kind, number) = report.device.parts();
        report.mark
            == service
                .ids
                .mark(SERIAL, report.content, &[kind.into(), number])
    });
    match verified {
        Some(report) => {
            let outcome = Report::of_code(report.result);
            let mut fleet = service.fleet.borrow_mut();
            fleet.reported(report.device, report.content, outcome);
            let content = report.content.to_string();
            log_named!(
                info,
                fleet.device_name(report.device),
                "",
                target: "report",
                device = &*id_text(report.device),
                content = content.get(..16).unwrap_or_default(),
                result = report.result,
                means = outcome.word(),
                peer:% = http.client
            );
        }
        None => log::info!(
            target: "report",
            device = "",
            result = "not one of ours",
            peer:% = http.client;
            ""
        ),
    }
    reply::json("{\"code\":0}", false)
}

/// Text of an id. Of an id that is neither IMEI nor MAC, only a hash is known here.
fn id_text(device: DeviceId) -> String {
    match device {
        DeviceId::Imei(number) => format!("{number:015}"),
        DeviceId::Mac(number) => format!("{number:012X}"),
        DeviceId::Other(hash) => format!("{hash:016x}"),
    }
}

fn file_mark(service: &Service, device: Option<&Requester>, content: ContentId, week: i64) -> u64 {
    let identity = device.map_or(0, |device| device.identity.number());
    let week = u64::try_from(week).unwrap_or(0);
    service.ids.mark(FILE, content, &[identity, week])
}

fn serial_mark(service: &Service, requester: &Requester, content: ContentId) -> u64 {
    let (kind, number) = requester.device.parts();
    service.ids.mark(SERIAL, content, &[kind.into(), number])
}

/// `http://host` as the module requested it, which also works behind a proxy or a forwarded port; `None` if no host is
/// valid.
fn base_url(service: &Service, http: &HttpRequest<'_>) -> Option<String> {
    let head = http.head;
    let forwarded = |name| {
        // The last value was written by the trusted proxy.
        let values = head.headers().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        let value = values.last().map(|(_, value)| value)?;
        let value = value.rsplit(|byte| *byte == b',').next()?.trim_ascii();
        service.limits.trusts(http.peer.ip()).then_some(value)
    };
    let scheme = match forwarded(b"x-forwarded-proto") {
        Some(proto) if proto.eq_ignore_ascii_case(b"https") => "https",
        _ => "http",
    };
    let host = forwarded(b"x-forwarded-host").or_else(|| head.header("host"));
    let host = match host {
        Some(host) if !host.is_empty() => checked_host(host)?.to_owned(),
        _ => {
            let local = http.local?;
            SocketAddr::new(local.ip().to_canonical(), local.port()).to_string()
        }
    };
    Some(format!("{scheme}://{host}"))
}

/// Returns a host with or without a port; `None` if it contains anything with a special meaning in a URL.
fn checked_host(host: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(host).ok()?;
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            let is_address = address.parse::<std::net::Ipv6Addr>().is_ok();
            (is_address.then_some(address)?, port)
        }
        None => {
            let at = text.find(':').unwrap_or(text.len());
            let (name, port) = text.split_at(at);
            (name.bytes().all(letter).then_some(name)?, port)
        }
    };
    let digits = port.strip_prefix(':').unwrap_or_default();
    let is_port = port.is_empty()
        || digits.bytes().all(|byte| byte.is_ascii_digit())
            && digits.parse::<u16>().is_ok_and(|port| port > 0);
    (!name.is_empty() && is_port && text.len() <= LONGEST_HOST).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address_with_or_without_a_port() {
        for good in [
            "ota.example.com",
            "ota.example.com:8080",
            "192.0.2.7:80",
            "[2001:db8::1]:80",
            "[::1]",
            "a_b",
        ] {
            assert_eq!(checked_host(good.as_bytes()), Some(good));
        }
        for bad in [
            "",
            ":80",
            "a:",
            "a:0",
            "a:80:80",
            "a:+8",
            "a/b",
            "a?b",
            "a@b",
            "a b",
            "a\"b",
            "[a]",
            "[::1",
            "[::1]x",
            "é",
            &"a".repeat(300),
        ] {
            assert_eq!(checked_host(bad.as_bytes()), None, "{bad}");
        }
    }
}
