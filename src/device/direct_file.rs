//! A file of the firmware folder at a fixed address, `/firmware/PATH`, for tools and scripts. Touches no socket.

use std::net::SocketAddr;
use std::time::Instant;

use super::Service;
use super::check_log::{LogSubject, log_unknown};
use super::plan::{Answer, DeliveryPlan, content_begun};
use crate::decision::Refusal;
use crate::fleet::pins::Began;
use crate::fleet::requester::PinOwner;
use crate::wire::http_target::NamedContent;
use crate::wire::range::{RangeRequest, SelectedRange};
use crate::wire::reply::{self, Status};

/// Answers a request for a file at a fixed address, to which no rule applies except `direct` of its release.
/// `?sha256=HEX` names the content: the answer is that content or none, even if the path has another content by now.
pub(super) fn answer(
    service: &Service,
    (path, named): (&str, Option<NamedContent>),
    request: &RangeRequest<'_>,
    (peer, now): (SocketAddr, Instant),
) -> Answer {
    let catalog = service.catalog();
    let owner = PinOwner::of_file(path, peer.ip());
    let current = catalog.direct_content(path);
    let has_begun = |content| service.fleet.borrow().has_begun(&owner, content, now);
    let prefix = request.required_prefix();
    // The content, and whether bytes from the middle of it may be sent.
    let (content, is_certain) = match (named, prefix) {
        (Some(NamedContent(Some(content))), _) if current.is_some() || has_begun(content) => {
            (Some(content), true)
        }
        (Some(_), _) => (None, false),
        (None, None) => (current, false),
        (None, Some(from)) => match content_begun(service, &owner, request, from, now) {
            Began::With(content) => (Some(content), true),
            Began::Unclear => (None, false),
            Began::Unknown => (current, false),
        },
    };
    let found = content.and_then(|content| Some((content, service.size_of(content, &catalog)?)));
    let Some((content, size)) = found else {
        // Files that are not read yet or cannot be read are answered with 503, not as unknown.
        let project = path.split(['/', '_']).next().unwrap_or_default();
        if catalog.is_unread() || catalog.has_unread(project) {
            return Answer::Reply(reply::refusal(Refusal::Unread, request.head_only));
        }
        let is_waiting = catalog
            .waiting
            .binary_search_by(|it| (**it).cmp(path))
            .is_ok();
        if !service.ready.get() || is_waiting {
            return Answer::Reply(reply::refusal(Refusal::Full, request.head_only));
        }
        if let (Some(_), Some(refusal)) = (content, service.temporary_refusal(&catalog)) {
            return Answer::Reply(reply::refusal(refusal, request.head_only));
        }
        let is_there = content.is_some() || current.is_some() || named.is_some();
        if prefix.is_some() && is_there {
            return cannot_resume_file(path, peer);
        }
        let reason = "no such file or content, or its release does not set `direct`";
        log_unknown("http", path.as_bytes(), ("404", reason), peer);
        return Answer::Reply(reply::plain(Status::NotFound, request.head_only));
    };
    if request.if_none_match_names(content) {
        return Answer::Reply(reply::not_modified(content, size));
    }
    let part = match is_certain {
        true => request.part_of_named(content, size),
        false => request.part(content, size),
    };
    // `bytes=SIZE-` of a certain content comes from a tool that has the whole file, and 416 tells it so.
    if part == SelectedRange::Unsatisfiable && !(is_certain && prefix == Some(size)) {
        return cannot_resume_file(path, peer);
    }
    let mut subject = LogSubject::of_peer("http", peer);
    subject.project = path.to_owned().into();
    let plan = DeliveryPlan {
        direct: true,
        ..DeliveryPlan::whole(content, size, owner, subject)
    };
    plan.answer(service, part, request.head_only)
}

/// Answers 412. After a 416, `curl -C -` and `wget -c` take half a file for the whole.
fn cannot_resume_file(path: &str, peer: SocketAddr) -> Answer {
    log::info!(
        target: "file",
        path,
        peer:% = peer;
        "412: the request does not name the content to resume; start again, or add ?sha256= to the URL"
    );
    Answer::Reply(reply::precondition_failed())
}
