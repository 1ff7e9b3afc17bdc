//! The way that every check takes, over HTTP, UDP and TCP: what is known of the device, the decision, what
//! the fleet is told of it, and one line in the log.

use std::net::SocketAddr;
use std::time::Instant;

use super::Service;
use super::lines::{About, CheckLine, short};
use crate::decision::{
    Back, Check, Known, Notes, Question, Refusal, RefusedCheck, Verdict, came_back, decide,
};
use crate::firmware::catalog::Catalog;
use crate::fleet::clock::unix_now;
use crate::fleet::requester::{PinOwner, Requester};

/// Who asked what.
pub(super) struct Asked<'a> {
    /// `http`, `udp` or `tcp`.
    pub proto: &'static str,
    /// The module's address, as far as we can know it.
    pub peer: SocketAddr,
    /// What it asks.
    pub check: &'a Check<'a>,
    /// Who it is to the fleet; `None` without an id.
    pub who: Option<Requester>,
    /// Under whose key its downloads are pinned.
    pub owner: PinOwner,
    /// When it arrived.
    pub now: Instant,
}

impl<'a> Asked<'a> {
    /// A check that arrived by `proto` from `peer`.
    pub fn new(
        proto: &'static str,
        peer: SocketAddr,
        check: &'a Check<'a>,
        now: Instant,
    ) -> Asked<'a> {
        let mut who = Requester::of(check, peer.ip());
        if let (Some(who), true) = (&mut who, proto != "http") {
            who.session = peer.port();
        }
        Asked {
            proto,
            peer,
            check,
            owner: PinOwner::of_check(check, who.as_ref(), peer.ip()),
            who,
            now,
        }
    }

    /// Decides. The line is still to be written, since the verdict is not the whole answer; and the
    /// fleet is still to be told.
    pub fn decide<'c>(&self, service: &Service, catalog: &'c Catalog) -> Verdict<'c> {
        if !service.ready.get() {
            // Never "unknown project" only because we have not looked yet.
            return Verdict::Refuse(full("the firmware folder is being read for the first time"));
        }
        if catalog.is_unread() {
            return unread("the firmware folder cannot be read");
        }
        let fleet = service.fleet.borrow();
        let question = Question {
            catalog,
            known: fleet.known(self.check, self.who.as_ref(), self.now),
            check: self.check,
            unix: unix_now(),
        };
        let verdict = decide(&question, &mut Notes::off());
        match verdict {
            Verdict::Refuse(refused) if self.may_be_waited_for(refused.refusal, catalog) => {
                Verdict::Refuse(full("files of this project are being read"))
            }
            // Nor what cannot be read.
            Verdict::Refuse(refused)
                if matches!(
                    refused.refusal,
                    Refusal::UnknownProject | Refusal::NoPackage
                ) && refused.release.is_none()
                    && catalog.cannot_read(self.check.project()) =>
            {
                unread("a folder of this project cannot be read")
            }
            verdict => verdict,
        }
    }

    /// Is the project, as far as that can be known, among those whose files are not read yet?
    fn may_be_waited_for(&self, refusal: Refusal, catalog: &Catalog) -> bool {
        match refusal {
            Refusal::UnknownProject => catalog.waits_for(self.check.project()),
            Refusal::NoProject => self.check.project_key.is_some() && !catalog.waiting.is_empty(),
            _ => false,
        }
    }

    /// Tells the fleet: the device was seen, it has come back from whatever it was given, and this is
    /// what it hears. Not for a check that goes on with a download, nor for one of a tool that wants to
    /// know what the answer would be.
    pub fn tell(&self, service: &Service, verdict: &Verdict<'_>) {
        // What is not read yet may be of a project that does not exist.
        if let Verdict::Refuse(refused) = verdict
            && matches!(refused.refusal, Refusal::Full | Refusal::Unread)
            && refused.release.is_none()
        {
            return;
        }
        let is_given = self.is_given(service);
        let mut fleet = service.fleet.borrow_mut();
        fleet.checked(self.check, self.who.as_ref(), verdict, is_given, self.now);
    }

    /// Says the device the version before the one that it was confirmed with, and do the rules give that to
    /// devices which run the latter? Then it was rolled back, and has not fallen back.
    fn is_given(&self, service: &Service) -> bool {
        let ran = service.fleet.borrow().ran(self.check, self.who.as_ref());
        let Some(ran) = ran else {
            return false;
        };
        let check = Check {
            version: ran.as_str().into(),
            ..self.check.clone()
        };
        let catalog = service.catalog();
        let question = Question {
            catalog: &catalog,
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

    /// The check's line. `counted`: one of the tally's words.
    pub fn log(
        &self,
        service: &Service,
        (verdict, counted): (&'static str, &'static str),
        to: &str,
        reason: &str,
    ) {
        self.log_pieces(service, (verdict, counted), to, ["", "", reason]);
    }

    /// The same with a reason in pieces, of which the last may be long.
    fn log_pieces(
        &self,
        service: &Service,
        (verdict, counted): (&'static str, &'static str),
        to: &str,
        reason: [&str; 3],
    ) {
        let line = CheckLine {
            proto: self.proto,
            peer: self.peer,
            device: &self.check.device_text,
            project: self.check.project(),
            from: &self.check.version,
            to,
            verdict,
            counted,
            reason: self.reason(reason),
            now: self.now,
        };
        line.say(service);
    }

    /// A reason, and what is odd about the check.
    pub fn reason<'r>(&self, [release, then, rule]: [&'r str; 3]) -> [&'r str; 5] {
        let hint = self.check.hint;
        let and = if hint.is_empty() { "" } else { "; " };
        [release, then, short(rule), and, hint]
    }

    /// The same for a refusal.
    pub fn log_refused(&self, service: &Service, refused: &RefusedCheck<'_>) {
        let to = refused.release.map_or("", |release| &release.version_text);
        let counted = refused.refusal.wording().label;
        // In pieces, as it would be displayed: nothing is allocated for it.
        let then = if to.is_empty() { "" } else { ": " };
        self.log_pieces(service, ("refuse", counted), to, [to, then, refused.rule]);
    }

    /// What a download's line says of its check.
    pub fn about(&self, to: &str) -> About {
        About {
            proto: self.proto,
            peer: self.peer,
            who: self.who,
            device: self.check.device_text.as_ref().into(),
            project: short(self.check.project()).into(),
            from: short(&self.check.version).into(),
            to: to.into(),
        }
    }
}

/// Come back, when the folder can be read again.
pub(super) fn unread(rule: &str) -> Verdict<'_> {
    Verdict::Refuse(RefusedCheck {
        refusal: Refusal::Unread,
        release: None,
        rule,
    })
}

/// Come back.
fn full(rule: &str) -> RefusedCheck<'_> {
    RefusedCheck {
        refusal: Refusal::Full,
        release: None,
        rule,
    }
}
