//! What an update check is answered with, over whatever protocol it arrived: the decision, and over HTTP the bytes to
//! send. Touches no socket and waits for nothing, so that the accept loop can call it in line.
//!
//! An error in [`resume`] corrupts a module's image: bytes that a module appends to what it has must be of the same
//! content. They are only sent if a pin, an If-Range or the URL names the content (docs/hazards.md 23, 24).

use std::net::SocketAddr;
use std::time::Instant;

use super::Service;
use super::check_log::{CheckResult, LogSubject, Reason};
use crate::decision::{
    Back, Check, Known, Notes, Offer, Question, Refusal, RefusedCheck, Verdict, came_back, decide,
    decide_if_read,
};
use crate::firmware::ContentId;
use crate::firmware::catalog::{Catalog, Release};
use crate::fleet::clock::unix_now;
use crate::fleet::network::Network;
use crate::fleet::pins::Began;
use crate::fleet::requester::{PinOwner, Requester};
use crate::wire::range::{IfRange, RangeRequest, SelectedRange};
use crate::wire::reply::{self, Reply};

/// Why no download may begin now, for the log.
pub(super) const NO_ROOM: &str = "no room for another download (--max-downloads, --uplink)";

/// The answer to an HTTP request.
pub(super) enum Answer {
    /// A reply that is complete.
    Reply(Reply),
    /// Bytes of a file, to be loaded and sent.
    Deliver(Box<DeliveryPlan>),
}

/// Bytes of a file that are to be sent.
#[derive(Debug)]
pub(super) struct DeliveryPlan {
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
    /// The head must arrive alone: the client cannot handle both at once.
    pub apart: bool,
    /// The key under which the download is pinned.
    pub owner: PinOwner,
    /// It is a file under `/firmware/`, for tools.
    pub direct: bool,
    /// The receiver, for the log.
    pub subject: LogSubject<'static>,
    /// The result of the check and its reason, not recorded yet: there may be no room for a connection.
    pub check: Option<(CheckResult, String)>,
}

impl DeliveryPlan {
    /// All of a file.
    pub fn whole(
        content: ContentId,
        size: u64,
        owner: PinOwner,
        subject: LogSubject<'static>,
    ) -> DeliveryPlan {
        DeliveryPlan {
            content,
            size,
            start: 0,
            end: size,
            partial: false,
            proxied: false,
            apart: false,
            owner,
            direct: false,
            subject,
            check: None,
        }
    }

    /// Records the answer to the check. To be called when the connection has its seat.
    pub fn record_check(&self, service: &Service) {
        if let Some((result, reason)) = &self.check {
            self.subject
                .check_answered(service, *result, reason, Instant::now());
        }
    }

    /// Records in place of it that there is no room.
    pub fn record_no_room(&self, service: &Service, why: &str) {
        if self.check.is_some() {
            let result = CheckResult::refused(Refusal::Full);
            self.subject
                .check_answered(service, result, why, Instant::now());
        }
    }

    /// The head of the reply.
    pub fn head(&self) -> Reply {
        let part = self.partial.then_some((self.start, self.end));
        reply::file(self.content, self.size, part)
    }

    /// The answer with this part of the file, or to a HEAD request.
    pub fn answer(mut self, service: &Service, part: SelectedRange, head_only: bool) -> Answer {
        match part {
            _ if head_only => {
                self.record_check(service);
                return Answer::Reply(self.head());
            }
            SelectedRange::Whole => {}
            SelectedRange::Bytes { start, end } => {
                (self.start, self.end, self.partial) = (start, end, true);
            }
            SelectedRange::Unsatisfiable => {
                return Answer::Reply(reply::unsatisfiable(Some(self.size)));
            }
        }
        Answer::Deliver(Box::new(self))
    }
}

/// A check that arrived.
pub(super) struct IncomingCheck<'a> {
    /// `http`, `udp` or `tcp`.
    pub proto: &'static str,
    /// The module's address, as far as it can be known.
    pub peer: SocketAddr,
    /// What it asks.
    pub check: &'a Check<'a>,
    /// The device in the fleet; `None` without an id.
    pub who: Option<Requester>,
    /// When it arrived.
    pub now: Instant,
}

impl<'a> IncomingCheck<'a> {
    /// A check that arrived by `proto` from `peer`.
    pub fn new(
        proto: &'static str,
        peer: SocketAddr,
        check: &'a Check<'a>,
        now: Instant,
    ) -> IncomingCheck<'a> {
        let mut who = Requester::of(check, peer.ip());
        if let (Some(who), true) = (&mut who, proto != "http") {
            who.session = peer.port();
        }
        IncomingCheck {
            proto,
            peer,
            check,
            who,
            now,
        }
    }

    /// The key under which its downloads are pinned.
    pub fn owner(&self) -> PinOwner {
        PinOwner::of_check(self.check, self.who.as_ref(), self.peer.ip())
    }

    /// Decides on the check. `remember`: records the check, the result of an earlier update and the verdict in the fleet.
    /// Not for a check that continues a download, nor for a tool that asks what the answer would be.
    pub fn decide<'c>(
        &self,
        service: &Service,
        catalog: &'c Catalog,
        remember: bool,
    ) -> Verdict<'c> {
        let verdict = self.verdict_if_ready(service, catalog);
        // What is not read yet may be of a project that does not exist.
        let is_unknown = matches!(
            &verdict,
            Verdict::Refuse(RefusedCheck {
                refusal: Refusal::Full | Refusal::Unread,
                release: None,
                ..
            })
        );
        if remember && !is_unknown {
            let is_given = self.is_offered_rollback(service, catalog);
            let mut fleet = service.fleet.borrow_mut();
            fleet.checked(self.check, self.who.as_ref(), &verdict, is_given, self.now);
        }
        verdict
    }

    /// The verdict of [`decide_if_read`], or the refusal of what finds no slot.
    fn verdict_if_ready<'c>(&self, service: &Service, catalog: &'c Catalog) -> Verdict<'c> {
        let refuse = |refusal, release, rule| {
            Verdict::Refuse(RefusedCheck {
                refusal,
                release,
                rule,
            })
        };
        if !service.ready.get() {
            // Never "unknown project" only because the folder was not read yet.
            let rule = "the firmware folder is being read for the first time";
            return refuse(Refusal::Full, None, rule);
        }
        let fleet = service.fleet.borrow();
        let question = Question {
            catalog,
            known: fleet.known(self.check, self.who.as_ref(), self.now),
            check: self.check,
            unix: unix_now(),
        };
        match decide_if_read(&question, &mut Notes::off()) {
            // Over UDP and TCP a module does not wait: without an answer it asks again, and after an answer that it does
            // not know it gives up.
            Verdict::Offer(offer) if self.proto != "http" => {
                match service.downloads.has_room(Network::of(self.peer.ip())) {
                    true => Verdict::Offer(offer),
                    false => refuse(Refusal::Full, Some(offer.release), NO_ROOM),
                }
            }
            verdict => verdict,
        }
    }

    /// Whether the device reports the version before its confirmed one, and the rules offer that version to devices
    /// with the confirmed one: then it was rolled back and has not fallen back.
    fn is_offered_rollback(&self, service: &Service, catalog: &Catalog) -> bool {
        let before = service
            .fleet
            .borrow()
            .fallen_from(self.check, self.who.as_ref());
        let Some(before) = before else {
            return false;
        };
        let check = Check {
            version: before.as_str().into(),
            ..self.check.clone()
        };
        let question = Question {
            catalog,
            known: Known::default(),
            check: &check,
            unix: unix_now(),
        };
        match decide(&question, &mut Notes::off()) {
            Verdict::Offer(offer) => {
                came_back(&check.version, self.check, &offer.release.version_text) == Back::New
            }
            Verdict::Refuse(_) => false,
        }
    }

    /// Records the answer.
    pub fn record(&self, service: &Service, result: CheckResult, to: &str, reason: &str) {
        let reason = self.reason("", reason);
        self.subject(to)
            .check_answered(service, result, reason, self.now);
    }

    /// Records a refusal.
    pub fn record_refused(&self, service: &Service, refused: &RefusedCheck<'_>) {
        let to = refused.release.map_or("", |release| &release.version_text);
        let reason = self.reason(to, refused.rule);
        let result = CheckResult::refused(refused.refusal);
        self.subject(to)
            .check_answered(service, result, reason, self.now);
    }

    fn reason<'r>(&'r self, release: &'r str, rule: &'r str) -> Reason<'r> {
        Reason {
            release,
            rule,
            hint: self.check.hint,
        }
    }

    /// What the records say of it; `to`: the version that it is about.
    pub fn subject<'b>(&'b self, to: &'b str) -> LogSubject<'b> {
        LogSubject::of_check((self.proto, self.peer), self.who, self.check, to)
    }

    /// The plan for all of a file of the version `to`.
    fn plan(
        &self,
        (content, size): (ContentId, u64),
        to: &str,
        result: CheckResult,
        reason: &str,
    ) -> DeliveryPlan {
        let subject = self.subject(to).into_owned();
        let reason = self.reason("", reason).to_string();
        DeliveryPlan {
            check: Some((result, reason)),
            ..DeliveryPlan::whole(content, size, self.owner(), subject)
        }
    }
}

/// Answers a check over HTTP.
pub(super) fn answer(
    service: &Service,
    incoming: &IncomingCheck<'_>,
    request: &RangeRequest<'_>,
) -> Answer {
    let catalog = service.catalog();
    if let Some(answer) = resume(service, &catalog, incoming, request) {
        return answer;
    }
    // A module that has come back from an update begins at byte 0.
    let remember = request.beyond().is_none() && !request.head_only;
    match incoming.decide(service, &catalog, remember) {
        Verdict::Refuse(refused) => {
            incoming.record_refused(service, &refused);
            Answer::Reply(reply::refusal(refused.refusal, request.head_only))
        }
        Verdict::Offer(offer) => answer_offer(service, incoming, &offer, request),
    }
}

/// The content that a client which has the first `from` bytes began with, by its pins and an If-Range.
pub(super) fn content_begun(
    service: &Service,
    owner: &PinOwner,
    request: &RangeRequest<'_>,
    from: u64,
    now: Instant,
) -> Began {
    let fleet = service.fleet.borrow();
    match request.if_range {
        IfRange::Absent => fleet.began(owner, from, now),
        IfRange::Names(named) if fleet.has_begun(owner, named, now) => Began::With(named),
        IfRange::Names(_) | IfRange::Other => Began::Unknown,
    }
}

/// Answers a request for the rest of a download from the content that it began with, whatever the verdict is now.
/// `None`: it asks for the beginning, or nothing is known of its download; the verdict counts.
fn resume(
    service: &Service,
    catalog: &Catalog,
    incoming: &IncomingCheck<'_>,
    request: &RangeRequest<'_>,
) -> Option<Answer> {
    let from = request.beyond()?;
    let content = match content_begun(service, &incoming.owner(), request, from, incoming.now) {
        Began::With(content) => content,
        Began::Unknown => return None,
        Began::Unclear => {
            let why =
                "several files were begun under this id and reach this far: which one is resumed?";
            return Some(cannot_resume(service, incoming, None, why));
        }
    };
    let Some(size) = service.size_of(content, catalog) else {
        if let Some(refusal) = service.out_of_reach(catalog) {
            let refused = RefusedCheck {
                refusal,
                release: None,
                rule: "the bytes that its download began with cannot be read now",
            };
            incoming.record_refused(service, &refused);
            return Some(Answer::Reply(reply::refusal(refusal, false)));
        }
        let why = "the bytes that its download began with are gone";
        return Some(cannot_resume(service, incoming, None, why));
    };
    match request.range.of(size) {
        part @ SelectedRange::Bytes { .. } => {
            let to = version_of(catalog, incoming.check.project(), content);
            let why = "it resumes what it began with";
            let plan = incoming.plan((content, size), to, CheckResult::RESUME, why);
            Some(plan.answer(service, part, false))
        }
        SelectedRange::Whole | SelectedRange::Unsatisfiable => {
            let why = "it asks for bytes after the end of what it began with";
            Some(cannot_resume(service, incoming, Some(size), why))
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

fn cannot_resume(
    service: &Service,
    incoming: &IncomingCheck<'_>,
    size: Option<u64>,
    why: &str,
) -> Answer {
    let result = CheckResult::refused(Refusal::CannotResume);
    incoming.record(service, result, "", why);
    Answer::Reply(reply::unsatisfiable(size))
}

fn answer_offer(
    service: &Service,
    incoming: &IncomingCheck<'_>,
    offer: &Offer<'_>,
    request: &RangeRequest<'_>,
) -> Answer {
    let (content, size) = (offer.package.content, offer.package.size);
    let to = &*offer.release.version_text;
    if request.has(content) {
        incoming.record(service, CheckResult::OFFER, to, "it has this file already");
        return Answer::Reply(reply::not_modified(content, size));
    }
    let part = request.part(content, size);
    if part == SelectedRange::Unsatisfiable {
        let why = "nothing is known of the download that it resumes: it is older than a day, was lost, or began \
                   elsewhere";
        let result = CheckResult::refused(Refusal::CannotResume);
        incoming.record(service, result, to, why);
        return Answer::Reply(reply::unsatisfiable(Some(size)));
    }
    // The target of a redirect need not have the content that an If-Range names.
    if request.beyond().is_none()
        && let Some(reply) = redirect(incoming.check, offer)
    {
        incoming.record(service, CheckResult::OFFER, to, "redirected");
        if let Some(who) = &incoming.who
            && !request.head_only
        {
            let mut fleet = service.fleet.borrow_mut();
            fleet.redirected(who, content, to, incoming.now);
        }
        return Answer::Reply(reply);
    }
    let reason = &offer.package.path;
    let plan = incoming.plan((content, size), to, CheckResult::OFFER, reason);
    plan.answer(service, part, request.head_only)
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
