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
use super::lines::{About, counted, log_unknown};
use super::{Service, libfota3};
use crate::decision::{Check, Offer, Refusal, Refused, Verdict};
use crate::firmware::ContentId;
use crate::firmware::catalog::{Catalog, Release};
use crate::fleet::pins::Began;
use crate::fleet::requester::PinOwner;
use crate::wire::head::{BadHead, Head};
use crate::wire::query::{self, NamedContent, Route};
use crate::wire::range::{Part, Range};
use crate::wire::reply::{self, Reply, Status};
use crate::wire::updatehttp;

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
            let full = counted(Refusal::Full);
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
    let wish = Wish::of(head, head_only);
    let client = client_of(&service.limits, head, peer);
    let mut answer = match query::route(head.target) {
        Route::Libfota3(request) => {
            let arrived = libfota3::Arrived {
                head,
                body,
                client,
                peer,
                local,
                now,
            };
            libfota3::answer(service, request, &arrived, &wish)
        }
        Route::Health => plain(Status::Healthy),
        Route::Nothing => {
            log_nothing(head, client);
            plain(Status::NotFound)
        }
        Route::File(path, named) => to_file(service, (&path, named), &wish, (client, now)),
        Route::Check(mut check) => {
            check.complete(&service.catalog());
            let asked = Asked::new("http", client, &check, now);
            to_check(service, &asked, &wish)
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

/// What the head says about how much of the file is wanted.
pub(super) struct Wish<'a> {
    pub head_only: bool,
    pub range: Range,
    if_range: IfRange,
    if_none_match: Option<&'a [u8]>,
}

/// If-Range: only the same content may be gone on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum IfRange {
    Absent,
    Names(ContentId),
    /// A date, a weak tag or one that is not ours: never the same.
    Other,
}

impl<'a> Wish<'a> {
    fn of(head: &Head<'a>, head_only: bool) -> Wish<'a> {
        let range = match head_only {
            true => Range::Whole,
            false => Range::parse(head.header("range")),
        };
        let if_range = match head.header("if-range") {
            None => IfRange::Absent,
            Some(tag) => content_of_tag(tag).map_or(IfRange::Other, IfRange::Names),
        };
        Wish {
            head_only,
            range,
            if_range,
            if_none_match: head.header("if-none-match"),
        }
    }

    /// The bytes that the client must have already for this to make sense; `None` if it wants the
    /// beginning. A suffix may begin anywhere.
    pub fn beyond(&self) -> Option<u64> {
        match self.range {
            Range::Whole | Range::From(0, _) => None,
            Range::From(first, _) => Some(first),
            Range::Suffix(_) => Some(0),
        }
    }

    /// Does the client have this content already?
    fn has(&self, content: ContentId) -> bool {
        self.if_none_match.is_some_and(|tags| {
            tags.trim_ascii() == b"*"
                || tags.split(|byte| *byte == b',').any(|tag| {
                    let tag = tag.trim_ascii();
                    content_of_tag(tag.strip_prefix(b"W/").unwrap_or(tag)) == Some(content)
                })
        })
    }

    /// Which part of a content to send that the URL names. An If-Range that names another one asks for all of it.
    pub fn part_of_named(&self, content: ContentId, size: u64) -> Part {
        match self.if_range {
            IfRange::Absent => self.range.of(size),
            IfRange::Names(named) if named == content => self.range.of(size),
            IfRange::Names(_) | IfRange::Other => Part::Whole,
        }
    }

    /// Which part of the current file to send to a client of whose download nothing is known: any if an If-Range
    /// names it, else no other than the beginning.
    fn part(&self, content: ContentId, size: u64) -> Part {
        match self.if_range {
            IfRange::Absent if self.beyond().is_some() => Part::Unsatisfiable,
            _ => self.part_of_named(content, size),
        }
    }
}

/// Our ETags are the content's hash in quotes.
fn content_of_tag(tag: &[u8]) -> Option<ContentId> {
    let tag = tag.trim_ascii().strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    ContentId::parse(std::str::from_utf8(tag).ok()?)
}

fn to_check(service: &Service, asked: &Asked<'_>, wish: &Wish<'_>) -> Answer {
    let catalog = service.catalog();
    if let Some(answer) = resumed(service, &catalog, asked, wish) {
        return answer;
    }
    let verdict = asked.decide(service, &catalog);
    // A module that has come back from an update begins at byte 0.
    if wish.beyond().is_none() && !wish.head_only {
        asked.tell(service, &verdict);
    }
    match verdict {
        Verdict::Refuse(refused) => {
            asked.log_refused(service, &refused);
            Answer::Reply(reply::refusal(refused.refusal, wish.head_only))
        }
        Verdict::Offer(offer) => to_offer(service, asked, &offer, wish),
    }
}

/// The content that a client which has the first `from` bytes began with, by its pins and an If-Range.
fn began(service: &Service, owner: &PinOwner, wish: &Wish<'_>, from: u64, now: Instant) -> Began {
    let fleet = service.fleet.borrow();
    match wish.if_range {
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
    wish: &Wish<'_>,
) -> Option<Answer> {
    let from = wish.beyond()?;
    let content = match began(service, &asked.owner, wish, from, asked.now) {
        Began::With(content) => content,
        Began::Unknown => return None,
        Began::Unclear => {
            let why = "several files were begun under this id and reach as far: which one goes on?";
            return Some(cannot_resume(service, asked, None, why));
        }
    };
    let Some(size) = service.size_of(content, catalog) else {
        if let Some(refusal) = service.out_of_reach(catalog) {
            let refused = Refused {
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
    match wish.range.of(size) {
        Part::Bytes { start, end } => {
            let to = version_of(catalog, asked.check.project(), content);
            let decided = ("resume", "it goes on with what it began with");
            let mut plan = plan(asked, content, size, to, decided);
            (plan.start, plan.end, plan.partial) = (start, end, true);
            Some(Answer::Deliver(Box::new(plan)))
        }
        Part::Whole | Part::Unsatisfiable => {
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

fn to_offer(service: &Service, asked: &Asked<'_>, offer: &Offer<'_>, wish: &Wish<'_>) -> Answer {
    let (content, size) = (offer.package.content, offer.package.size);
    let to = &*offer.release.version_text;
    if wish.has(content) {
        asked.log(service, OFFER, to, "it has this file already");
        return Answer::Reply(reply::not_modified(content, size));
    }
    let part = wish.part(content, size);
    if part == Part::Unsatisfiable {
        let why = "nothing is known of the download that it wants to go on with: older than a day, lost, or begun \
                   elsewhere";
        asked.log(service, CANNOT_RESUME, to, why);
        return Answer::Reply(reply::unsatisfiable(Some(size)));
    }
    // The target of a redirect need not have the content that an If-Range names.
    if wish.beyond().is_none()
        && let Some(reply) = redirect(asked.check, offer)
    {
        asked.log(service, OFFER, to, "redirected");
        if let Some(who) = &asked.who
            && !wish.head_only
        {
            let mut fleet = service.fleet.borrow_mut();
            fleet.redirected(who, content, to, asked.now);
        }
        return Answer::Reply(reply);
    }
    let plan = plan(asked, content, size, to, ("offer", &offer.package.path));
    deliver(service, plan, part, wish.head_only)
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

pub(super) fn deliver(service: &Service, mut plan: Plan, part: Part, head_only: bool) -> Answer {
    match part {
        _ if head_only => {
            plan.log_check(service);
            return Answer::Reply(plan.head());
        }
        Part::Whole => {}
        Part::Bytes { start, end } => {
            (plan.start, plan.end, plan.partial) = (start, end, true);
        }
        Part::Unsatisfiable => return Answer::Reply(reply::unsatisfiable(Some(plan.size))),
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
    wish: &Wish<'_>,
    (peer, now): (SocketAddr, Instant),
) -> Answer {
    let catalog = service.catalog();
    let owner = PinOwner::of_file(path, peer.ip());
    let current = catalog.direct(path);
    let has_begun = |content| service.fleet.borrow().has_begun(&owner, content, now);
    let beyond = wish.beyond();
    // The content, and whether bytes from the middle of it may be sent.
    let (content, is_certain) = match (named, beyond) {
        (Some(NamedContent(Some(content))), _) if current.is_some() || has_begun(content) => {
            (Some(content), true)
        }
        (Some(_), _) => (None, false),
        (None, None) => (current, false),
        (None, Some(from)) => match began(service, &owner, wish, from, now) {
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
            return Answer::Reply(reply::refusal(Refusal::Unread, wish.head_only));
        }
        let is_waiting = catalog
            .waiting
            .binary_search_by(|it| (**it).cmp(path))
            .is_ok();
        if !service.ready.get() || is_waiting {
            return Answer::Reply(reply::refusal(Refusal::Full, wish.head_only));
        }
        if let (Some(_), Some(refusal)) = (content, service.out_of_reach(&catalog)) {
            return Answer::Reply(reply::refusal(refusal, wish.head_only));
        }
        let is_there = content.is_some() || current.is_some() || named.is_some();
        if beyond.is_some() && is_there {
            return cannot_resume_file(path, peer);
        }
        let reason = "no such file or content, or its release does not say direct";
        log_unknown("http", path.as_bytes(), ("404", reason), peer);
        return Answer::Reply(reply::plain(Status::NotFound, wish.head_only));
    };
    if wish.has(content) {
        return Answer::Reply(reply::not_modified(content, size));
    }
    let part = match is_certain {
        true => wish.part_of_named(content, size),
        false => wish.part(content, size),
    };
    // `bytes=SIZE-` of the certain content is a tool that has all of it, which 416 tells it.
    if part == Part::Unsatisfiable && !(is_certain && beyond == Some(size)) {
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
    deliver(service, plan, part, wish.head_only)
}

/// 412 and not 416, by which `curl -C -` and `wget -c` take half a file for the whole.
fn cannot_resume_file(path: &str, peer: SocketAddr) -> Answer {
    log::info!(
        target: "file",
        path,
        peer:% = peer;
        "412: nothing says which content the rest is wanted of; begin again, or add ?sha256= to the URL"
    );
    Answer::Reply(reply::precondition_failed())
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ContentId = ContentId([0xaa; 32]);
    const B: ContentId = ContentId([0xbb; 32]);

    fn wish(range: Range, if_range: IfRange) -> Wish<'static> {
        Wish {
            head_only: false,
            range,
            if_range,
            if_none_match: None,
        }
    }

    fn part(range: Range, if_range: IfRange) -> Part {
        wish(range, if_range).part(A, 1000)
    }

    fn part_of_named(range: Range, if_range: IfRange) -> Part {
        wish(range, if_range).part_of_named(A, 1000)
    }

    #[test]
    fn the_beginning_is_for_everyone() {
        let from_0 = Part::Bytes {
            start: 0,
            end: 1000,
        };
        assert_eq!(part(Range::Whole, IfRange::Absent), Part::Whole);
        assert_eq!(part(Range::From(0, None), IfRange::Absent), from_0);
    }

    #[test]
    fn the_rest_is_for_those_who_name_the_content() {
        let rest = Part::Bytes {
            start: 9,
            end: 1000,
        };
        assert_eq!(part(Range::From(9, None), IfRange::Names(A)), rest);
        assert_eq!(part_of_named(Range::From(9, None), IfRange::Absent), rest);
        for other in [IfRange::Names(B), IfRange::Other] {
            assert_eq!(part(Range::From(9, None), other), Part::Whole);
            assert_eq!(part_of_named(Range::From(9, None), other), Part::Whole);
        }
    }

    #[test]
    fn the_rest_is_for_nobody_of_whom_nothing_is_known() {
        let refused = Part::Unsatisfiable;
        assert_eq!(part(Range::From(9, None), IfRange::Absent), refused);
        assert_eq!(part(Range::Suffix(9), IfRange::Absent), refused);
    }

    #[test]
    fn a_tag_that_is_known_spares_the_file() {
        let has = |tags: &str| {
            let mut wish = wish(Range::Whole, IfRange::Absent);
            let tags = tags
                .replace('A', &A.to_string())
                .replace('B', &B.to_string());
            wish.if_none_match = Some(tags.leak().as_bytes());
            wish.has(A)
        };
        assert!(has("\"A\""));
        assert!(has("*"));
        assert!(has("\"B\" , W/\"A\""));
        assert!(!has("\"B\""));
        assert!(!has("A"));
        assert!(!has(""));
    }

    #[test]
    fn only_a_strong_tag_names_a_content() {
        assert_eq!(content_of_tag(format!("\"{A}\"").as_bytes()), Some(A));
        assert_eq!(content_of_tag(format!("W/\"{A}\"").as_bytes()), None);
        assert_eq!(content_of_tag(b"Wed, 21 Oct 2026 07:28:00 GMT"), None);
        assert_eq!(content_of_tag(b"\xff\""), None);
    }
}
