//! Records of answered checks and of finished downloads. Each record updates the access log, the counters of the
//! metrics, the events that the page shows, and for a download the fleet's data.
//!
//! The three name a result differently: the words of the log are for people, and more may be added. The words of the
//! counters are labels of a metric, and a result without a label counts as "other".

use std::borrow::Cow;
use std::fmt::{self, Display};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::Service;
use crate::decision::{Check, Refusal};
use crate::fleet::clock::unix_now;
use crate::fleet::events::{Event, EventSubject};
use crate::fleet::requester::Requester;
use crate::fleet::{Fleet, Transfer, TransferOutcome};
use crate::logging::log_named;

/// Maximum number of characters that the log takes of a text from the network.
const MAX_CHARS: usize = 128;

/// Number of bytes at the start of a target that contain at least [`MAX_CHARS`] characters.
const MAX_BYTES: usize = 4 * MAX_CHARS;

/// Reason in the log for the answer `unknown function` to a message of the UDP protocol.
pub(super) const NO_MESSAGE: &str =
    "not a message of the protocol, which begins with the module's id";

/// Subject of a record: borrowed from a check while it is answered, owned by its download.
#[derive(Clone, Debug)]
pub(super) struct LogSubject<'a> {
    /// `http`, `udp` or `tcp`.
    pub proto: &'static str,
    /// The module's address, as far as it is known.
    pub peer: SocketAddr,
    /// The device in the fleet; `None` if the module has no id.
    pub requester: Option<Requester>,
    /// The device's id; empty if the module has none.
    pub device: Cow<'a, str>,
    /// The project, or the path of a file with a fixed address.
    pub project: Cow<'a, str>,
    /// The version that the module runs.
    pub from: Cow<'a, str>,
    /// The version that the module gets, or that a refusal is about; empty if there is none.
    pub to: Cow<'a, str>,
}

/// Result of a check, in the words of the log and of the counters
/// ([`Tally::VERDICTS`](crate::fleet::tally::Tally::VERDICTS)).
#[derive(Clone, Copy, Debug)]
pub(super) struct CheckResult {
    verdict: &'static str,
    counted: &'static str,
}

impl CheckResult {
    /// The module is offered a file.
    pub const OFFER: CheckResult = CheckResult {
        verdict: "offer",
        counted: "offer",
    };

    /// The module gets the rest of a file.
    pub const RESUME: CheckResult = CheckResult {
        verdict: "resume",
        counted: "resume",
    };

    /// The module gets nothing.
    pub fn refused(refusal: Refusal) -> CheckResult {
        CheckResult {
            verdict: "refuse",
            counted: refusal.wording().label,
        }
    }
}

/// A download that has ended.
pub(super) struct EndedDownload {
    /// Number of the download, the same in all of its events ([`DownloadEvents`]).
    pub number: u32,
    /// Bytes of the file that reached the module in this download.
    pub bytes: u64,
    /// Offset in the file before which the module has all bytes.
    pub reached: u64,
    /// Size of the whole file in bytes.
    pub size: u64,
    /// Duration of the download.
    pub duration: Duration,
    /// Result of the download in the words of the log.
    pub result: &'static str,
    /// The transfer that the fleet records with this download; `None` if it records none, or not yet.
    pub transfer: Option<(Transfer, TransferOutcome)>,
}

impl<'a> LogSubject<'a> {
    /// The subject of a check that is about the version `to`.
    pub fn of_check(
        (proto, peer): (&'static str, SocketAddr),
        requester: Option<Requester>,
        check: &'a Check<'_>,
        to: &'a str,
    ) -> LogSubject<'a> {
        LogSubject {
            proto,
            peer,
            requester,
            device: Cow::Borrowed(&check.device_text),
            project: Cow::Borrowed(short(check.project())),
            from: Cow::Borrowed(short(&check.version)),
            to: Cow::Borrowed(to),
        }
    }

    /// The subject of a download of which only the peer is known.
    pub fn of_peer(proto: &'static str, peer: SocketAddr) -> LogSubject<'static> {
        LogSubject {
            proto,
            peer,
            requester: None,
            device: Cow::Borrowed(""),
            project: Cow::Borrowed(""),
            from: Cow::Borrowed(""),
            to: Cow::Borrowed(""),
        }
    }

    /// The same subject with owned texts.
    pub fn into_owned(self) -> LogSubject<'static> {
        let owned = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        LogSubject {
            device: owned(self.device),
            project: owned(self.project),
            from: owned(self.from),
            to: owned(self.to),
            ..self
        }
    }

    /// Records a check that was answered at `now`. `reason` is a short text.
    pub fn record_check(
        &self,
        service: &Service,
        result: CheckResult,
        reason: impl Display,
        now: Instant,
    ) {
        let fleet = &mut *service.fleet.borrow_mut();
        log_named!(
            info,
            fleet.device_name_of(self.requester.as_ref()),
            "",
            target: "check",
            proto = self.proto,
            device = &*self.device,
            project = &*self.project,
            from = &*self.from,
            to = &*self.to,
            verdict = result.verdict,
            reason:% = reason,
            peer:% = self.peer
        );
        let name = self.event_name(fleet);
        let now = fleet.stamp(now);
        fleet.tally.check(self.proto, result.counted, now.0);
        fleet.events.publish(|| Event::Check {
            unix: unix_now(),
            subject: self.event_subject(name),
            verdict: result.verdict,
            reason: short(&reason.to_string()).into(),
            peer: self.peer.to_string().into(),
        });
    }

    /// Records a download that ended at `now`.
    pub fn record_download(&self, service: &Service, ended: EndedDownload, now: Instant) {
        // Rounds to tenths of a second: adds half a tenth and cuts off the rest.
        let rounded = ended.duration.saturating_add(Duration::from_millis(50));
        let tenths = rounded.as_millis() / 100;
        let fleet = &mut *service.fleet.borrow_mut();
        log_named!(
            info,
            fleet.device_name_of(self.requester.as_ref()),
            "",
            target: "download",
            proto = self.proto,
            device = &*self.device,
            project = &*self.project,
            from = &*self.from,
            to = &*self.to,
            bytes = ended.bytes,
            seconds = tenths as f64 / 10.0,
            result = ended.result,
            peer:% = self.peer
        );
        let name = self.event_name(fleet);
        let counted = match ended.result {
            "replaced by cap" => "replaced",
            other => other,
        };
        let stamp = fleet.stamp(now);
        fleet
            .tally
            .download(self.proto, counted, ended.bytes, stamp.0);
        fleet.events.publish(|| {
            let result = Some(ended.result);
            self.download_event((ended.number, name), ended.reached, ended.size, result)
        });
        if let Some((transfer, outcome)) = ended.transfer {
            fleet.end(transfer, outcome, now);
        }
    }

    /// Name of the device for an event; empty if there is no reader of events.
    fn event_name(&self, fleet: &Fleet) -> Box<str> {
        let name = fleet.device_name_of(self.requester.as_ref());
        let name = name.filter(|_| fleet.events.wanted());
        name.unwrap_or_default().into()
    }

    fn event_subject(&self, name: Box<str>) -> EventSubject {
        EventSubject {
            proto: self.proto,
            device: (*self.device).into(),
            name,
            project: (*self.project).into(),
            from: (*self.from).into(),
            to: short(&self.to).into(),
        }
    }

    fn download_event(
        &self,
        (number, name): (u32, Box<str>),
        bytes: u64,
        size: u64,
        result: Option<&'static str>,
    ) -> Event {
        Event::Download {
            unix: unix_now(),
            number,
            subject: self.event_subject(name),
            bytes,
            size,
            result,
        }
    }
}

/// Events of a running download, at most one per second.
#[derive(Debug)]
pub(super) struct DownloadEvents {
    /// Number of the download, the same in all of its events.
    pub number: u32,
    last: Instant,
}

impl DownloadEvents {
    /// Creates the events of a download that begins.
    pub fn new(service: &Service, now: Instant) -> DownloadEvents {
        DownloadEvents {
            number: service.fleet.borrow_mut().events.number(),
            last: now,
        }
    }

    /// Publishes that the module has the file's bytes before offset `reached`, out of `size`.
    pub fn progress(
        &mut self,
        service: &Service,
        subject: &LogSubject<'_>,
        (reached, size): (u64, u64),
        now: Instant,
    ) {
        if now.saturating_duration_since(self.last).as_secs() == 0 {
            return;
        }
        self.last = now;
        let fleet = &mut *service.fleet.borrow_mut();
        let name = subject.event_name(fleet);
        fleet
            .events
            .publish(|| subject.download_event((self.number, name), reached, size, None));
    }
}

/// Logs a request for something that does not exist, in one line. `asked` is the target or the message.
pub(super) fn log_unknown(
    proto: &'static str,
    asked: &[u8],
    (answer, reason): (&'static str, &'static str),
    peer: SocketAddr,
) {
    let asked = asked.get(..MAX_BYTES).unwrap_or(asked);
    let asked = String::from_utf8_lossy(asked);
    log::info!(
        target: "request",
        proto, asked = short(&asked), answer, reason, peer:% = peer;
        ""
    );
}

/// Reason for the answer to a check, as the log shows it.
pub(super) struct Reason<'a> {
    /// Version of the release that the rule belongs to; empty if there is none.
    pub release: &'a str,
    /// The rule that decided.
    pub rule: &'a str,
    /// Remark about something unusual in the check; empty if there is none.
    pub hint: &'a str,
}

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let then = if self.release.is_empty() { "" } else { ": " };
        let and = if self.hint.is_empty() { "" } else { "; " };
        [self.release, then, short(self.rule), and, self.hint]
            .into_iter()
            .try_for_each(|part| f.write_str(part))
    }
}

/// The first [`MAX_CHARS`] characters of a text, so that no check can fill the disk.
fn short(text: &str) -> &str {
    if text.len() <= MAX_CHARS {
        return text;
    }
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => text.get(..end).unwrap_or_default(),
        None => text,
    }
}
