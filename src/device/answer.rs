//! What a complete HTTP head is answered with. Touches no socket and waits for nothing, so that the
//! accept loop can ask it in line.
//!
//! The part that strands hardware if it is wrong is [`beyond_the_beginning`]: bytes that a module
//! appends to what it has must be of the same file (docs/design.md "A download never changes its file").

use std::net::SocketAddr;
use std::time::Duration;

use super::asked::Asked;
use super::client::client_of;
use super::lines::{About, counted, log_unknown};
use super::{Service, turnkey, unix_now};
use crate::decision::{Check, Offer, Refusal, Verdict};
use crate::firmware::ContentId;
use crate::firmware::catalog::{Catalog, Project, Release};
use crate::fleet::pins::Began;
use crate::wire::head::{BadHead, Head};
use crate::wire::query::{self, Route};
use crate::wire::range::{Part, Range};
use crate::wire::reply::{self, Reply, Status};
use crate::wire::updatehttp;

/// A device of which nothing is known may go on with what has been the offer for so long.
const STANDS: Duration = Duration::from_secs(60 * 60);

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

/// The answer to a head that arrived from `peer` at `local`, and to what of its body came with it.
pub(super) fn answer(
    service: &Service,
    head: &Head<'_>,
    body: &[u8],
    (peer, local): (SocketAddr, Option<SocketAddr>),
) -> Answer {
    let head_only = head.method == b"HEAD";
    if !METHODS.contains(&head.method) {
        return Answer::Reply(reply::plain(Status::MethodNotAllowed, false));
    }
    let plain = |status| Answer::Reply(reply::plain(status, head_only));
    let wish = Wish::of(head, head_only);
    let client = client_of(&service.limits, head, peer);
    let mut answer = match query::route(head.target) {
        Route::Turnkey(request) => {
            let arrived = turnkey::Arrived {
                head,
                body,
                client,
                peer,
                local,
            };
            turnkey::answer(service, request, &arrived, &wish)
        }
        Route::Health => plain(Status::Healthy),
        Route::Nothing => {
            log_nothing(head, client);
            plain(Status::NotFound)
        }
        Route::File(path) => to_file(service, &path, &wish, client),
        Route::Check(mut check) => {
            check.complete(&service.catalog());
            to_check(service, &check, &wish, client)
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

    /// Which part of the current file this client may have. `stands`: it has been the current one for
    /// long enough.
    fn part(&self, content: ContentId, size: u64, stands: impl FnOnce() -> bool) -> Part {
        match self.if_range {
            IfRange::Names(named) if named == content => self.range.of(size),
            IfRange::Names(_) | IfRange::Other => Part::Whole,
            IfRange::Absent if self.beyond().is_none() || stands() => self.range.of(size),
            IfRange::Absent => Part::Unsatisfiable,
        }
    }
}

/// Our ETags are the content's hash in quotes.
fn content_of_tag(tag: &[u8]) -> Option<ContentId> {
    let tag = tag.trim_ascii().strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    ContentId::parse(std::str::from_utf8(tag).ok()?)
}

fn to_check(service: &Service, check: &Check<'_>, wish: &Wish<'_>, peer: SocketAddr) -> Answer {
    let asked = Asked::new("http", peer, check);
    let catalog = service.catalog();
    if let Some(answer) = beyond_the_beginning(service, &catalog, &asked, wish) {
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
        Verdict::Offer(offer) => to_offer(service, &asked, &offer, wish),
    }
}

/// A device that has the beginning of a file and wants the rest gets it of the content that it was
/// given at byte 0, whatever the verdict is now. `None`: nothing is known of that, or it does not want
/// to go on; the verdict counts.
fn beyond_the_beginning(
    service: &Service,
    catalog: &Catalog,
    asked: &Asked<'_>,
    wish: &Wish<'_>,
) -> Option<Answer> {
    let from = wish.beyond()?;
    let who = asked.who?;
    let began = service.fleet.borrow().began(&who, from, asked.now);
    let content = match (began, wish.if_range) {
        (Began::With(content), IfRange::Absent) => content,
        (Began::With(content), IfRange::Names(named)) if named == content => content,
        (Began::Unclear, IfRange::Absent) => {
            return Some(cannot_resume(
                service,
                asked,
                None,
                "several downloads under this id reach as far: which one goes on?",
            ));
        }
        (Began::Forgotten, IfRange::Absent) => {
            let why = "too many downloads ran since: what it began with had to make room";
            return Some(cannot_resume(service, asked, None, why));
        }
        _ => return None,
    };
    let Some(size) = service.size_of(content, catalog) else {
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
    let part = wish.part(content, size, || stands(offer.project, offer.release));
    if part == Part::Unsatisfiable {
        let why = "nothing is known of the download that it wants to go on with";
        asked.log(service, CANNOT_RESUME, to, why);
        return Answer::Reply(reply::unsatisfiable(Some(size)));
    }
    if let Some(reply) = redirect(asked.check, offer) {
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

/// Has this been the offer for over an hour? Then whoever asks for the rest of something most likely
/// began with it.
fn stands(project: &Project, release: &Release) -> bool {
    let open = release
        .rules
        .not_before
        .is_none_or(|begin| unix_now().saturating_sub(begin) > STANDS.as_secs() as i64);
    open && project.since.elapsed() > STANDS
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

/// A file at a fixed address, outside all rules but its release's `direct`.
fn to_file(service: &Service, path: &str, wish: &Wish<'_>, peer: SocketAddr) -> Answer {
    let catalog = service.catalog();
    let found = catalog
        .direct(path)
        .and_then(|content| Some((content, service.size_of(content, &catalog)?)));
    let Some((content, size)) = found else {
        // What is not known is not unknown.
        let project = path.split(['/', '_']).next().unwrap_or_default();
        if catalog.is_unread() || catalog.cannot_read(project) {
            return Answer::Reply(reply::refusal(Refusal::Unread, wish.head_only));
        }
        let reason = "no such file, or its release does not say direct";
        log_unknown("http", path.as_bytes(), ("404", reason), peer);
        return Answer::Reply(reply::plain(Status::NotFound, wish.head_only));
    };
    if wish.has(content) {
        return Answer::Reply(reply::not_modified(content, size));
    }
    let part = wish.part(content, size, || {
        releases(&catalog).any(|(project, release)| {
            let here = release.packages.iter().any(|p| &*p.path == path);
            here && stands(project, release)
        })
    });
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
        about,
        decided: None,
    };
    deliver(service, plan, part, wish.head_only)
}

fn releases(catalog: &Catalog) -> impl Iterator<Item = (&Project, &Release)> {
    catalog.projects().iter().flat_map(|project| {
        project
            .releases
            .iter()
            .map(move |release| (project, release))
    })
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

    fn part(range: Range, if_range: IfRange, stands: bool) -> Part {
        wish(range, if_range).part(A, 1000, || stands)
    }

    #[test]
    fn the_beginning_is_for_everyone() {
        let from_0 = Part::Bytes {
            start: 0,
            end: 1000,
        };
        assert_eq!(part(Range::Whole, IfRange::Absent, false), Part::Whole);
        assert_eq!(part(Range::From(0, None), IfRange::Absent, false), from_0);
    }

    #[test]
    fn the_rest_is_for_those_who_name_the_content() {
        let rest = Part::Bytes {
            start: 9,
            end: 1000,
        };
        assert_eq!(part(Range::From(9, None), IfRange::Names(A), false), rest);
        for other in [IfRange::Names(B), IfRange::Other] {
            assert_eq!(part(Range::From(9, None), other, true), Part::Whole);
        }
    }

    #[test]
    fn the_rest_is_for_anyone_once_the_offer_has_stood_for_an_hour() {
        let rest = Part::Bytes {
            start: 9,
            end: 1000,
        };
        assert_eq!(part(Range::From(9, None), IfRange::Absent, true), rest);
        let refused = Part::Unsatisfiable;
        assert_eq!(part(Range::From(9, None), IfRange::Absent, false), refused);
        assert_eq!(part(Range::Suffix(9), IfRange::Absent, false), refused);
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
