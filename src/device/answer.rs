//! What a complete HTTP head is answered with. Touches no socket and waits for nothing, so that the
//! accept loop can ask it in line.
//!
//! The part that strands hardware if it is wrong is [`resumed`] and [`to_file`]: bytes that a module appends to what
//! it has must be of the same content. They are only sent if a pin, an If-Range or the URL names the content
//! (docs/hazards.md 23, 24).

use std::net::SocketAddr;
use std::time::Instant;

use super::asked::Asked;
use super::client::client_of;
use super::lines::{About, log_unknown};
use super::{Service, libfota3};
use crate::decision::{Check, Offer, Refusal, RefusedCheck, Verdict};
use crate::firmware::ContentId;
use crate::firmware::catalog::{Catalog, Release};
use crate::fleet::pins::Began;
use crate::fleet::requester::PinOwner;
use crate::wire::dialects::updatehttp;
use crate::wire::head::{BadHead, Head};
use crate::wire::http_target::{HttpTarget, NamedContent, http_target};
use crate::wire::range::{IfRange, RangeRequest, SelectedRange};
use crate::wire::reply::{self, Reply, Status};

/// All of them ask the same; what only some of them may send is ignored.
const METHODS: [&[u8]; 6] = [b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"PATCH"];

/// The words of an offer, for the log and for the tally.
const OFFER: (&str, &str) = ("offer", "offer");

/// Those of a 416.
const CANNOT_RESUME: (&str, &str) = ("refuse", "cannot_resume");

/// How to answer.
pub(super) enum Answer {
    /// With this, as it stands.
    Reply(Reply),
    /// With bytes of a file, once they are loaded.
    Deliver(Box<Plan>),
}

/// Bytes of a file that are to be sent.
#[derive(Debug)]
pub(super) struct Plan {
    /// The file.
    pub content: ContentId,
    /// Its size in bytes.
    pub size: u64,
    /// The first byte to send.
    pub start: u64,
    /// One after the last byte to send.
    pub end: u64,
    /// As 206.
    pub partial: bool,
    /// The peer is a trusted proxy: what is acknowledged is the proxy's, not the module's.
    pub proxied: bool,
    /// The head must arrive alone: the client cannot do with both at once.
    pub apart: bool,
    /// Under whose key the download is pinned.
    pub owner: PinOwner,
    /// It is a file under `/firmware/`, for tools.
    pub direct: bool,
    /// Who gets them.
    pub about: About,
    /// The check's verdict and reason, not in the log yet: there may be no room for a connection.
    pub decided: Option<(&'static str, Box<str>)>,
}

impl Plan {
    /// The check's line in the log. To be called when the connection has its seat.
    pub fn log_check(&self, service: &Service) {
        if let Some((verdict, reason)) = &self.decided {
            // Both of its verdicts are words of the tally.
            self.about.check_line(verdict, verdict, reason).say(service);
        }
    }

    /// The same where it has none.
    pub fn log_refused(&self, service: &Service, why: &str) {
        if self.decided.is_some() {
            let full = Refusal::Full.wording().label;
            self.about.check_line("refuse", full, why).say(service);
        }
    }

    /// The head of the reply.
    pub fn head(&self) -> Reply {
        let part = self.partial.then_some((self.start, self.end));
        reply::file(self.content, self.size, part)
    }
}

/// The reply to bytes that will never be a head.
pub(super) fn to_bad_head(service: &Service, bad: BadHead) -> Reply {
    service.malformed();
    let status = match bad {
        BadHead::Malformed => Status::BadRequest,
        BadHead::TooLarge => Status::HeadTooLarge,
        BadHead::Version => Status::Version,
    };
    reply::plain(status, false)
}

/// The answer to a head that arrived from `peer` at `local`, and to what of its body came with it. `now`: the time of
/// its arrival.
pub(super) fn answer(
    service: &Service,
    head: &Head<'_>,
    body: &[u8],
    (peer, local): (SocketAddr, Option<SocketAddr>),
    now: Instant,
) -> Answer {
    let head_only = head.method == b"HEAD";
    if !METHODS.contains(&head.method) {
        return Answer::Reply(reply::plain(Status::MethodNotAllowed, false));
    }
    let plain = |status| Answer::Reply(reply::plain(status, head_only));
    let requested = RangeRequest::of(head, head_only);
    let client = client_of(&service.limits, head, peer);
    let mut answer = match http_target(head.target) {
        HttpTarget::Libfota3(request) => {
            let arrived = libfota3::Arrived {
                head,
                body,
                client,
                peer,
                local,
                now,
            };
            libfota3::answer(service, request, &arrived, &requested)
        }
        HttpTarget::Health => plain(Status::Healthy),
        HttpTarget::Unknown => {
            log_nothing(head, client);
            plain(Status::NotFound)
        }
        HttpTarget::File(path, named) => {
            to_file(service, (&path, named), &requested, (client, now))
        }
        HttpTarget::Check(mut check) => {
            check.complete(&service.catalog());
            let asked = Asked::new("http", client, &check, now);
            to_check(service, &asked, &requested)
        }
    };
    if let Answer::Deliver(plan) = &mut answer {
        plan.proxied = service.limits.trusts(peer.ip());
        plan.apart = updatehttp::is_from_updatehttp(head);
    }
    answer
}

/// The line of a request for nothing that there is: an update check may have a mistake in its path.
fn log_nothing(head: &Head<'_>, peer: SocketAddr) {
    let reason = "no path of ours, and no check that names a project";
    log_unknown("http", head.target, ("404", reason), peer);
}

fn to_check(service: &Service, asked: &Asked<'_>, requested: &RangeRequest<'_>) -> Answer {
    let catalog = service.catalog();
    if let Some(answer) = resumed(service, &catalog, asked, requested) {
        return answer;
    }
    let verdict = asked.decide(service, &catalog);
    // A module that has come back from an update begins at byte 0.
    if requested.beyond().is_none() && !requested.head_only {
        asked.tell(service, &verdict);
    }
    match verdict {
        Verdict::Refuse(refused) => {
            asked.log_refused(service, &refused);
            Answer::Reply(reply::refusal(refused.refusal, requested.head_only))
        }
        Verdict::Offer(offer) => to_offer(service, asked, &offer, requested),
    }
}

/// The content that a client which has the first `from` bytes began with, by its pins and an If-Range.
fn began(
    service: &Service,
    owner: &PinOwner,
    requested: &RangeRequest<'_>,
    from: u64,
    now: Instant,
) -> Began {
    let fleet = service.fleet.borrow();
    match requested.if_range {
        IfRange::Absent => fleet.began(owner, from, now),
        IfRange::Names(named) if fleet.has_begun(owner, named, now) => Began::With(named),
        IfRange::Names(_) | IfRange::Other => Began::Unknown,
    }
}

/// Answers a request for the rest of a download from the content that it began with, whatever the verdict is now.
/// `None`: it asks for the beginning, or nothing is known of its download; the verdict counts.
fn resumed(
    service: &Service,
    catalog: &Catalog,
    asked: &Asked<'_>,
    requested: &RangeRequest<'_>,
) -> Option<Answer> {
    let from = requested.beyond()?;
    let content = match began(service, &asked.owner, requested, from, asked.now) {
        Began::With(content) => content,
        Began::Unknown => return None,
        Began::Unclear => {
            let why = "several files were begun under this id and reach as far: which one goes on?";
            return Some(cannot_resume(service, asked, None, why));
        }
    };
    let Some(size) = service.size_of(content, catalog) else {
        if let Some(refusal) = service.out_of_reach(catalog) {
            let refused = RefusedCheck {
                refusal,
                release: None,
                rule: "the bytes that its download began with cannot be read now",
            };
            asked.log_refused(service, &refused);
            return Some(Answer::Reply(reply::refusal(refusal, false)));
        }
        let why = "the bytes that its download began with are gone";
        return Some(cannot_resume(service, asked, None, why));
    };
    match requested.range.of(size) {
        SelectedRange::Bytes { start, end } => {
            let to = version_of(catalog, asked.check.project(), content);
            let decided = ("resume", "it goes on with what it began with");
            let mut plan = plan(asked, content, size, to, decided);
            (plan.start, plan.end, plan.partial) = (start, end, true);
            Some(Answer::Deliver(Box::new(plan)))
        }
        SelectedRange::Whole | SelectedRange::Unsatisfiable => {
            let why = "it asks for bytes after the end of what it began with";
            Some(cannot_resume(service, asked, Some(size), why))
        }
    }
}

/// The version of a content, for the log; empty if its release is gone.
pub(super) fn version_of<'c>(catalog: &'c Catalog, project: &str, content: ContentId) -> &'c str {
    let is_of = |release: &&Release| release.packages.iter().any(|p| p.content == content);
    let project = catalog.project(project);
    let release = project.and_then(|project| project.releases.iter().find(is_of));
    release.map_or("", |release| &release.version_text)
}

fn cannot_resume(service: &Service, asked: &Asked<'_>, size: Option<u64>, why: &str) -> Answer {
    asked.log(service, CANNOT_RESUME, "", why);
    Answer::Reply(reply::unsatisfiable(size))
}

fn to_offer(
    service: &Service,
    asked: &Asked<'_>,
    offer: &Offer<'_>,
    requested: &RangeRequest<'_>,
) -> Answer {
    let (content, size) = (offer.package.content, offer.package.size);
    let to = &*offer.release.version_text;
    if requested.has(content) {
        asked.log(service, OFFER, to, "it has this file already");
        return Answer::Reply(reply::not_modified(content, size));
    }
    let part = requested.part(content, size);
    if part == SelectedRange::Unsatisfiable {
        let why = "nothing is known of the download that it wants to go on with: older than a day, lost, or begun \
                   elsewhere";
        asked.log(service, CANNOT_RESUME, to, why);
        return Answer::Reply(reply::unsatisfiable(Some(size)));
    }
    // The target of a redirect need not have the content that an If-Range names.
    if requested.beyond().is_none()
        && let Some(reply) = redirect(asked.check, offer)
    {
        asked.log(service, OFFER, to, "redirected");
        if let Some(who) = &asked.who
            && !requested.head_only
        {
            let mut fleet = service.fleet.borrow_mut();
            fleet.redirected(who, content, to, asked.now);
        }
        return Answer::Reply(reply);
    }
    let plan = plan(asked, content, size, to, ("offer", &offer.package.path));
    deliver(service, plan, part, requested.head_only)
}

/// All of a file, for the device that asks.
fn plan(
    asked: &Asked<'_>,
    content: ContentId,
    size: u64,
    to: &str,
    (verdict, reason): (&'static str, &str),
) -> Plan {
    Plan {
        content,
        size,
        start: 0,
        end: size,
        partial: false,
        proxied: false,
        apart: false,
        owner: asked.owner,
        direct: false,
        about: asked.about(to),
        decided: Some((verdict, asked.reason(["", "", reason]).concat().into())),
    }
}

pub(super) fn deliver(
    service: &Service,
    mut plan: Plan,
    part: SelectedRange,
    head_only: bool,
) -> Answer {
    match part {
        _ if head_only => {
            plan.log_check(service);
            return Answer::Reply(plan.head());
        }
        SelectedRange::Whole => {}
        SelectedRange::Bytes { start, end } => {
            (plan.start, plan.end, plan.partial) = (start, end, true);
        }
        SelectedRange::Unsatisfiable => {
            return Answer::Reply(reply::unsatisfiable(Some(plan.size)));
        }
    }
    Answer::Deliver(Box::new(plan))
}

/// The CDN's reply, for a device that can follow it there. A URL that is not fit to be sent leaves the
/// file to us.
fn redirect(check: &Check<'_>, offer: &Offer<'_>) -> Option<Reply> {
    let template = offer.release.rules.redirect.as_ref()?;
    if !check.need_oss_url {
        return None;
    }
    let url = template.fill(|name| match name {
        "project" => (&*offer.project.name).into(),
        "version" => (&*offer.release.version_text).into(),
        "file" => offer.package.file_name().into(),
        "sha256" => offer.package.content.to_string().into(),
        "imei" => (&*check.device_text).into(),
        "from" => (&*check.version).into(),
        _ => "".into(),
    });
    let reply = reply::redirect(&url);
    if reply.is_none() {
        log::warn!(
            target: "device",
            "the redirect of {} {} makes no URL that can be sent: {url}",
            offer.project.name,
            offer.release.version_text
        );
    }
    reply
}

/// A file at a fixed address, outside all rules but its release's `direct`. `?sha256=HEX` names its content: the
/// answer is that content or none, also where the path has another one by now.
fn to_file(
    service: &Service,
    (path, named): (&str, Option<NamedContent>),
    requested: &RangeRequest<'_>,
    (peer, now): (SocketAddr, Instant),
) -> Answer {
    let catalog = service.catalog();
    let owner = PinOwner::of_file(path, peer.ip());
    let current = catalog.direct(path);
    let has_begun = |content| service.fleet.borrow().has_begun(&owner, content, now);
    let beyond = requested.beyond();
    // The content, and whether bytes from the middle of it may be sent.
    let (content, is_certain) = match (named, beyond) {
        (Some(NamedContent(Some(content))), _) if current.is_some() || has_begun(content) => {
            (Some(content), true)
        }
        (Some(_), _) => (None, false),
        (None, None) => (current, false),
        (None, Some(from)) => match began(service, &owner, requested, from, now) {
            Began::With(content) => (Some(content), true),
            Began::Unclear => (None, false),
            Began::Unknown => (current, false),
        },
    };
    let found = content.and_then(|content| Some((content, service.size_of(content, &catalog)?)));
    let Some((content, size)) = found else {
        // What is not known is not unknown.
        let project = path.split(['/', '_']).next().unwrap_or_default();
        if catalog.is_unread() || catalog.cannot_read(project) {
            return Answer::Reply(reply::refusal(Refusal::Unread, requested.head_only));
        }
        let is_waiting = catalog
            .waiting
            .binary_search_by(|it| (**it).cmp(path))
            .is_ok();
        if !service.ready.get() || is_waiting {
            return Answer::Reply(reply::refusal(Refusal::Full, requested.head_only));
        }
        if let (Some(_), Some(refusal)) = (content, service.out_of_reach(&catalog)) {
            return Answer::Reply(reply::refusal(refusal, requested.head_only));
        }
        let is_there = content.is_some() || current.is_some() || named.is_some();
        if beyond.is_some() && is_there {
            return cannot_resume_file(path, peer);
        }
        let reason = "no such file or content, or its release does not say direct";
        log_unknown("http", path.as_bytes(), ("404", reason), peer);
        return Answer::Reply(reply::plain(Status::NotFound, requested.head_only));
    };
    if requested.has(content) {
        return Answer::Reply(reply::not_modified(content, size));
    }
    let part = match is_certain {
        true => requested.part_of_named(content, size),
        false => requested.part(content, size),
    };
    // `bytes=SIZE-` of the certain content is a tool that has all of it, which 416 tells it.
    if part == SelectedRange::Unsatisfiable && !(is_certain && beyond == Some(size)) {
        return cannot_resume_file(path, peer);
    }
    let mut about = About::nobody("http", peer);
    about.project = path.into();
    let plan = Plan {
        content,
        size,
        start: 0,
        end: size,
        partial: false,
        proxied: false,
        apart: false,
        owner,
        direct: true,
        about,
        decided: None,
    };
    deliver(service, plan, part, requested.head_only)
}

/// 412 and not 416, by which `curl -C -` and `wget -c` take half a file for the whole.
fn cannot_resume_file(path: &str, peer: SocketAddr) -> Answer {
    log::info!(
        target: "file",
        path,
        peer:% = peer;
        "412: nothing says which content the rest is requested of; begin again, or add ?sha256= to the URL"
    );
    Answer::Reply(reply::precondition_failed())
}
