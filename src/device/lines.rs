//! What is said of a check, and of a download that has ended: one line in the log, one count in the
//! tally, and an event for whoever looks on. Used wherever the public side answers or ends something.
//!
//! What would surprise you: the log, the tally and the events say different words of one thing. The log's
//! are for people and may grow; the tally's are the labels of a metric, and what is not among them counts
//! as "other".

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::Service;
use crate::fleet::clock::unix_now;
use crate::fleet::events::Event;
use crate::fleet::requester::Requester;

/// Characters of a text from the network that go into the log.
const LOGGED: usize = 128;

/// Bytes of a target of which [`LOGGED`] characters go into the log.
const LONGEST_ASKED: usize = 4 * LOGGED;

/// A check that was answered.
pub(super) struct CheckLine<'a> {
    /// `http`, `udp` or `tcp`.
    pub proto: &'static str,
    /// The module's address, as far as we can know it.
    pub peer: SocketAddr,
    /// The id, empty if it has none.
    pub device: &'a str,
    /// The project asked for, as it was written.
    pub project: &'a str,
    /// The version that the module runs, as it was written.
    pub from: &'a str,
    /// The version that it is about, if any.
    pub to: &'a str,
    /// `offer`, `resume` or `refuse`.
    pub verdict: &'static str,
    /// One of [`Tally::VERDICTS`](crate::fleet::tally::Tally::VERDICTS).
    pub counted: &'static str,
    /// In a few words, in pieces.
    pub reason: [&'a str; 5],
    /// When it was answered.
    pub now: Instant,
}

impl CheckLine<'_> {
    /// Says it.
    pub fn say(&self, service: &Service) {
        let [a, b, c, d, e] = self.reason;
        log::info!(
            target: "check",
            proto = self.proto,
            device = self.device,
            project = short(self.project),
            from = short(self.from),
            to = self.to,
            verdict = self.verdict,
            reason:% = format_args!("{a}{b}{c}{d}{e}"),
            peer:% = self.peer;
            ""
        );
        let fleet = &mut *service.fleet.borrow_mut();
        let now = fleet.stamp(self.now);
        fleet.tally.check(self.proto, self.counted, now.0);
        fleet.events.publish(|| Event::Check {
            unix: unix_now(),
            proto: self.proto,
            device: self.device.into(),
            project: short(self.project).into(),
            from: short(self.from).into(),
            to: short(self.to).into(),
            verdict: self.verdict,
            reason: short(&self.reason.concat()).into(),
            peer: self.peer.to_string().into(),
        });
    }
}

/// The line of a request for something that there is not: what was asked for, and why that is nothing. One line
/// each, as for a check.
pub(super) fn log_unknown(
    proto: &'static str,
    asked: &[u8],
    (answer, reason): (&'static str, &'static str),
    peer: SocketAddr,
) {
    let asked = asked.get(..LONGEST_ASKED).unwrap_or(asked);
    let asked = String::from_utf8_lossy(asked);
    log::info!(
        target: "request",
        proto, asked = short(&asked), answer, reason, peer:% = peer;
        ""
    );
}

/// Why a message of the UDP protocol is answered with `unknown function`.
pub(super) const NO_MESSAGE: &str = "no message of the protocol, which begins with the module's id";

/// Whose download it is.
#[derive(Clone, Debug)]
pub(super) struct About {
    /// `http`, `udp` or `tcp`.
    pub proto: &'static str,
    /// The module's address, as far as we can know it.
    pub peer: SocketAddr,
    /// Who is remembered for it; `None` if the module has no id.
    pub who: Option<Requester>,
    /// The id, empty if it has none.
    pub device: Box<str>,
    /// The project, or the path of a file with a fixed address.
    pub project: Box<str>,
    /// The version that the module runs.
    pub from: Box<str>,
    /// The version that it gets.
    pub to: Box<str>,
}

impl About {
    /// A download of which only the peer is known.
    pub fn nobody(proto: &'static str, peer: SocketAddr) -> About {
        About {
            proto,
            peer,
            who: None,
            device: "".into(),
            project: "".into(),
            from: "".into(),
            to: "".into(),
        }
    }

    /// The line of its check, with a reason that may stand in the log as it is.
    pub fn check_line<'a>(
        &'a self,
        verdict: &'static str,
        counted: &'static str,
        reason: &'a str,
    ) -> CheckLine<'a> {
        CheckLine {
            proto: self.proto,
            peer: self.peer,
            device: &self.device,
            project: &self.project,
            from: &self.from,
            to: &self.to,
            verdict,
            counted,
            reason: [reason, "", "", "", ""],
            now: Instant::now(),
        }
    }

    /// A download has ended `now`; `bytes` of the file reached the module. `number`: see [`Progress`].
    pub fn ended(&self, service: &Service, ended: &Ended, number: u32, now: Instant) {
        // Half a tenth up, and down to whole tenths.
        let tenths = ended
            .took
            .saturating_add(Duration::from_millis(50))
            .as_millis()
            / 100;
        log::info!(
            target: "download",
            proto = self.proto,
            device = &*self.device,
            project = &*self.project,
            from = &*self.from,
            to = &*self.to,
            bytes = ended.bytes,
            seconds = tenths as f64 / 10.0,
            result = ended.result,
            peer:% = self.peer;
            ""
        );
        let fleet = &mut *service.fleet.borrow_mut();
        let now = fleet.stamp(now);
        let ending = match ended.result {
            "replaced by cap" => "replaced",
            other => other,
        };
        fleet.tally.download(self.proto, ending, ended.bytes, now.0);
        let result = Some(ended.result);
        fleet
            .events
            .publish(|| self.event(number, ended.reached, ended.size, result));
    }

    fn event(&self, number: u32, bytes: u64, size: u64, result: Option<&'static str>) -> Event {
        Event::Download {
            unix: unix_now(),
            number,
            proto: self.proto,
            device: self.device.clone(),
            project: self.project.clone(),
            from: self.from.clone(),
            to: short(&self.to).into(),
            bytes,
            size,
            result,
        }
    }
}

/// What is to be said of a download that has ended.
pub(super) struct Ended {
    /// Bytes of the file that reached the module in this download.
    pub bytes: u64,
    /// The module has the file's bytes before this one.
    pub reached: u64,
    /// Bytes of the whole file.
    pub size: u64,
    /// How long it took.
    pub took: Duration,
    /// How it ended.
    pub result: &'static str,
}

/// Tells those who look on how a download comes along, at most once a second.
#[derive(Debug)]
pub(super) struct Progress {
    /// The same in all events of the download.
    pub number: u32,
    said: Instant,
}

impl Progress {
    /// Of a download that begins.
    pub fn new(service: &Service, now: Instant) -> Progress {
        Progress {
            number: service.fleet.borrow_mut().events.number(),
            said: now,
        }
    }

    /// The module has the file's bytes before `reached`, of `size`.
    pub fn reached(
        &mut self,
        service: &Service,
        about: &About,
        (reached, size): (u64, u64),
        now: Instant,
    ) {
        if now.saturating_duration_since(self.said).as_secs() == 0 {
            return;
        }
        self.said = now;
        let mut fleet = service.fleet.borrow_mut();
        fleet
            .events
            .publish(|| about.event(self.number, reached, size, None));
    }
}

/// The beginning of a text: nobody fills the disk with one check.
pub(super) fn short(text: &str) -> &str {
    if text.len() <= LOGGED {
        return text;
    }
    match text.char_indices().nth(LOGGED) {
        Some((end, _)) => text.get(..end).unwrap_or_default(),
        None => text,
    }
}
