//! Answers to checks of all protocols: the decision, and over HTTP the bytes to send. Touches no socket and waits for
//! nothing, so that the accept loop can call it in line.
//!
//! An error in [`resume`] corrupts a module's image: bytes that a module appends must be of the same content as those
//! that it has. They are sent only if a pin, an If-Range or the URL names the content (docs/hazards.md 23, 24).

use std::net::SocketAddr;
use std::time::Instant;

use super::Service;
use super::check_log::{CheckResult, LogSubject, Reason};
use crate::decision::{
    Back, Check, Known, Notes, Offer, Question, Refusal, RefusedCheck, Verdict, came_back,
    decide_if_read, release_at_any_time,
};
use crate::firmware::ContentId;
use crate::firmware::catalog::{Catalog, Release};
use crate::fleet::clock::unix_now;
use crate::fleet::network::Network;
use crate::fleet::pins::Began;
use crate::fleet::requester::{PinOwner, Requester};
use crate::wire::range::{IfRange, RangeRequest, SelectedRange};
use crate::wire::reply::{self, Reply};

/// Reason in the log if no download may begin now.
pub(super) const NO_ROOM: &str = "no room for another download (--max-downloads, --uplink)";

/// The answer to an HTTP request.
pub(super) enum Answer {
    /// A complete reply.
    Reply(Reply),
    /// Bytes of a file, to be loaded and sent.
    Deliver(Box<DeliveryPlan>),
}

/// A range of a file that is to be sent.
#[derive(Debug)]
pub(super) struct DeliveryPlan {
    /// Content of the file.
    pub content: ContentId,
    /// Size of the file in bytes.
    pub size: u64,
    /// Offset of the first byte to send.
    pub start: u64,
    /// Offset after the last byte to send.
    pub end: u64,
    /// Whether the reply is a 206 with a part of the file.
    pub partial: bool,
    /// Whether the peer is a trusted proxy, so that acknowledgements are the proxy's and not the module's.
    pub proxied: bool,
    /// Whether the head must arrive alone, because the client cannot handle head and body at once.
    pub head_alone: bool,
    /// The key under which the download is pinned.
    pub owner: PinOwner,
    /// Whether the file was requested under `/firmware/`, by a tool.
    pub direct: bool,
    /// The receiver, for the log.
    pub subject: LogSubject<'static>,
    /// The result of the check and its reason. Not recorded yet, since there may be no room for a connection.
    pub check: Option<(CheckResult, String)>,
}

impl DeliveryPlan {
    /// The plan for all of a file.
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
            head_alone: false,
            owner,
            direct: false,
            subject,
            check: None,
        }
    }

    /// Records the answer to the check. To be called when the download has its slot, or when the head is the whole reply.
    pub fn record_check(&self, service: &Service) {
        if let Some((result, reason)) = &self.check {
            self.subject
                .record_check(service, *result, reason, Instant::now());
        }
    }

    /// Records, instead of the answer, that there is no room.
    pub fn record_no_room(&self, service: &Service, why: &str) {
        if self.check.is_some() {
            let result = CheckResult::refused(Refusal::Full);
            self.subject
                .record_check(service, result, why, Instant::now());
        }
    }

    /// The head of the reply.
    pub fn head(&self) -> Reply {
        let part = self.partial.then_some((self.start, self.end));
        reply::file(self.content, self.size, part)
    }

    /// Returns the answer with this part of the file, or the answer to a HEAD request.
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
    /// The module's address, as far as it is known.
    pub peer: SocketAddr,
    /// The parsed check.
    pub check: &'a Check<'a>,
    /// The device in the fleet; `None` if the module has no id.
    pub requester: Option<Requester>,
    /// Time of arrival.
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
        let mut requester = Requester::of(check, peer.ip());
        if let (Some(requester), true) = (&mut requester, proto != "http") {
            requester.session = peer.port();
        }
        IncomingCheck {
            proto,
            peer,
            check,
            requester,
            now,
        }
    }

    /// The key under which downloads of this check are pinned.
    pub fn owner(&self) -> PinOwner {
        PinOwner::of_check(self.check, self.requester.as_ref(), self.peer.ip())
    }

    /// Decides on the check. `remember`: records the check, the result of an earlier update and the verdict in the
    /// fleet. Must be false for a check that continues a download, and for a tool that asks what the answer would be.
    pub fn decide<'c>(
        &self,
        service: &Service,
        catalog: &'c Catalog,
        remember: bool,
    ) -> Verdict<'c> {
        let verdict = self.verdict_if_ready(service, catalog);
        // While files are not read yet, the project may turn out not to exist.
        let is_unknown = matches!(
            &verdict,
            Verdict::Refuse(RefusedCheck {
                refusal: Refusal::Full | Refusal::Unread,
                release: None,
                ..
            })
        );
        if remember && !is_unknown {
            let is_rollback = self.is_offered_rollback(service, catalog);
            let mut fleet = service.fleet.borrow_mut();
            let requester = self.requester.as_ref();
            fleet.record_check(self.check, requester, &verdict, is_rollback, self.now);
        }
        verdict
    }

    /// The verdict of [`decide_if_read`], or a refusal if no catalogue has arrived or no slot is free.
    fn verdict_if_ready<'c>(&self, service: &Service, catalog: &'c Catalog) -> Verdict<'c> {
        let refuse = |refusal, release, rule| {
            Verdict::Refuse(RefusedCheck {
                refusal,
                release,
                rule,
            })
        };
        if !service.ready.get() {
            // Never "unknown project" only because the folder is not read yet.
            let rule = "the firmware folder is being read for the first time";
            return refuse(Refusal::Full, None, rule);
        }
        let fleet = service.fleet.borrow();
        let question = Question {
            catalog,
            known: fleet.known(self.check, self.requester.as_ref(), self.now),
            check: self.check,
            unix: unix_now(),
        };
        match decide_if_read(&question, &mut Notes::off()) {
            // Over UDP and TCP a module does not wait for a slot: without an answer it asks again, and after an unknown
            // answer it gives up.
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
    /// with the confirmed one, now or at another time of the day: then it was rolled back and has not reverted.
    fn is_offered_rollback(&self, service: &Service, catalog: &Catalog) -> bool {
        let before = service
            .fleet
            .borrow()
            .fallen_from(self.check, self.requester.as_ref());
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
        release_at_any_time(&question).is_some_and(|release| {
            came_back(&check.version, self.check, &release.version_text) == Back::New
        })
    }

    /// Records the answer to the check.
    pub fn record(&self, service: &Service, result: CheckResult, to: &str, reason: &str) {
        let reason = self.reason("", reason);
        self.subject(to)
            .record_check(service, result, reason, self.now);
    }

    /// Records a refusal.
    pub fn record_refused(&self, service: &Service, refused: &RefusedCheck<'_>) {
        let to = refused.release.map_or("", |release| &release.version_text);
        let reason = self.reason(to, refused.rule);
        let result = CheckResult::refused(refused.refusal);
        self.subject(to)
            .record_check(service, result, reason, self.now);
    }

    fn reason<'r>(&'r self, release: &'r str, rule: &'r str) -> Reason<'r> {
        Reason {
            release,
            rule,
            hint: self.check.hint,
        }
    }

    /// Subject of the records about this check. `to`: the version that the answer is about.
    pub fn subject<'b>(&'b self, to: &'b str) -> LogSubject<'b> {
        LogSubject::of_check((self.proto, self.peer), self.requester, self.check, to)
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
    // A module that comes back from an update asks for byte 0. Other requests say nothing about an update.
    let remember = request.required_prefix().is_none() && !request.head_only;
    match incoming.decide(service, &catalog, remember) {
        Verdict::Refuse(refused) => {
            incoming.record_refused(service, &refused);
            Answer::Reply(reply::refusal(refused.refusal, request.head_only))
        }
        Verdict::Offer(offer) => answer_offer(service, incoming, &offer, request),
    }
}

/// The content that a client which has the first `from` bytes began with, according to its pins and an If-Range.
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

/// Answers a request for the rest of a download with the content that it began with, whatever the verdict is now.
/// `None` if the request asks for the beginning, or if its download is unknown: then the verdict applies.
fn resume(
    service: &Service,
    catalog: &Catalog,
    incoming: &IncomingCheck<'_>,
    request: &RangeRequest<'_>,
) -> Option<Answer> {
    let from = request.required_prefix()?;
    let content = match content_begun(service, &incoming.owner(), request, from, incoming.now) {
        Began::With(content) => content,
        Began::Unknown => return None,
        Began::Unclear => {
            let why = "several downloads of this id have reached this byte, so the one to resume is unknown";
            return Some(cannot_resume(service, incoming, None, why));
        }
    };
    let Some(size) = service.size_of(content, catalog) else {
        if let Some(refusal) = service.temporary_refusal(catalog) {
            let refused = RefusedCheck {
                refusal,
                release: None,
                rule: "the content of its download cannot be read now",
            };
            incoming.record_refused(service, &refused);
            return Some(Answer::Reply(reply::refusal(refusal, false)));
        }
        let why = "the content of its download no longer exists";
        return Some(cannot_resume(service, incoming, None, why));
    };
    match request.range.of(size) {
        part @ SelectedRange::Bytes { .. } => {
            let to = version_of(catalog, incoming.check.project(), content);
            let why = "it resumes its download";
            let plan = incoming.plan((content, size), to, CheckResult::RESUME, why);
            Some(plan.answer(service, part, false))
        }
        SelectedRange::Whole | SelectedRange::Unsatisfiable => {
            let why = "it requests bytes after the end of its file";
            Some(cannot_resume(service, incoming, Some(size), why))
        }
    }
}

/// Version of the release with this content, for the log; empty if the release is gone.
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
    if request.if_none_match_names(content) {
        incoming.record(service, CheckResult::OFFER, to, "it has this file already");
        return Answer::Reply(reply::not_modified(content, size));
    }
    let part = request.part(content, size);
    if part == SelectedRange::Unsatisfiable {
        let why = "the download that it resumes is unknown: it is older than a day, was lost, or began on \
                   another server";
        let result = CheckResult::refused(Refusal::CannotResume);
        incoming.record(service, result, to, why);
        return Answer::Reply(reply::unsatisfiable(Some(size)));
    }
    // The target of a redirect may not have the content that an If-Range names.
    if request.required_prefix().is_none()
        && let Some(reply) = redirect(incoming.check, offer)
    {
        incoming.record(service, CheckResult::OFFER, to, "redirected");
        if let Some(requester) = &incoming.requester
            && !request.head_only
        {
            let mut fleet = service.fleet.borrow_mut();
            fleet.record_redirect(requester, content, to, incoming.now);
        }
        return Answer::Reply(reply);
    }
    let reason = &offer.package.path;
    let plan = incoming.plan((content, size), to, CheckResult::OFFER, reason);
    plan.answer(service, part, request.head_only)
}

/// Returns the redirect to the CDN for a device that can follow it. If its URL cannot be sent, the server sends the
/// file.
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
            "the redirect of {} {} gives an invalid URL: {url}",
            offer.project.name,
            offer.release.version_text
        );
    }
    reply
}
