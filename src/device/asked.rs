//! The way that every check takes, over HTTP, UDP and TCP: decide, and one line in the log.

use std::fmt;
use std::net::SocketAddr;

use super::{Service, unix_now};
use crate::decision::{Check, Known, Notes, Question, Refusal, Refused, Verdict, decide};
use crate::firmware::catalog::Catalog;

/// Characters of a text from the network that go into the log.
const LOGGED: usize = 128;

/// Who asked what.
pub(super) struct Asked<'a> {
    /// `http`, `udp` or `tcp`.
    pub proto: &'static str,
    /// The module's address, as far as we can know it.
    pub peer: SocketAddr,
    /// What it asks.
    pub check: &'a Check<'a>,
}

impl Asked<'_> {
    /// Decides and logs.
    pub fn walk<'c>(&self, service: &Service, catalog: &'c Catalog) -> Verdict<'c> {
        let verdict = self.decide(service, catalog);
        match &verdict {
            Verdict::Offer(offer) => {
                self.log("offer", &offer.release.version_text, &offer.package.path);
            }
            Verdict::Refuse(refused) => self.log_refused(refused),
        }
        verdict
    }

    /// Decides alone: the line is still to be written, since the verdict is not the whole answer.
    pub fn decide<'c>(&self, service: &Service, catalog: &'c Catalog) -> Verdict<'c> {
        if !service.ready.get() {
            // Never "unknown project" only because we have not looked yet.
            return Verdict::Refuse(Refused {
                refusal: Refusal::Full,
                release: None,
                rule: "the firmware folder is being read for the first time",
            });
        }
        let question = Question {
            catalog,
            known: Known::default(),
            check: self.check,
            unix: unix_now(),
        };
        let verdict = decide(&question, &mut Notes::off());
        match verdict {
            Verdict::Refuse(refused)
                if refused.refusal == Refusal::UnknownProject
                    && is_waited_for(catalog, self.check.project()) =>
            {
                Verdict::Refuse(Refused {
                    refusal: Refusal::Full,
                    release: None,
                    rule: "files of this project are being read",
                })
            }
            verdict => verdict,
        }
    }

    /// The check's line in the log.
    pub fn log(&self, verdict: &str, to: &str, reason: &str) {
        log::info!(
            target: "check",
            proto = self.proto,
            device = &*self.check.device_text,
            project = short(self.check.project()),
            from = short(&self.check.version),
            to = to,
            verdict = verdict,
            reason:% = self.reason(reason),
            peer:% = self.peer;
            ""
        );
    }

    /// A reason, and what is odd about the check.
    pub fn reason<'r>(&self, reason: &'r str) -> Reason<'r> {
        Reason(short(reason), self.check.hint)
    }

    /// The same for a refusal.
    pub fn log_refused(&self, refused: &Refused<'_>) {
        let to = refused.release.map_or("", |release| &release.version_text);
        self.log("refuse", to, &refused.to_string());
    }

    /// What a download's line says of its check.
    pub fn about(&self, to: &str) -> About {
        About {
            proto: self.proto,
            peer: self.peer,
            device: self.check.device_text.as_ref().into(),
            project: short(self.check.project()).into(),
            from: short(&self.check.version).into(),
            to: to.into(),
        }
    }
}

/// See [`Asked::reason`].
pub(super) struct Reason<'r>(&'r str, &'static str);

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Reason(reason, hint) = self;
        let then = if hint.is_empty() { "" } else { "; " };
        write!(f, "{reason}{then}{hint}")
    }
}

/// Whose download it is, for its line in the log.
#[derive(Clone, Debug)]
pub(super) struct About {
    pub proto: &'static str,
    pub peer: SocketAddr,
    pub device: Box<str>,
    pub project: Box<str>,
    pub from: Box<str>,
    pub to: Box<str>,
}

impl About {
    /// A download of which only the peer is known.
    pub fn nobody(proto: &'static str, peer: SocketAddr) -> About {
        About {
            proto,
            peer,
            device: "".into(),
            project: "".into(),
            from: "".into(),
            to: "".into(),
        }
    }

    /// The line of its check, with a reason that may stand in the log as it is.
    pub fn log_check(&self, verdict: &str, reason: &str) {
        log::info!(
            target: "check",
            proto = self.proto,
            device = &*self.device,
            project = &*self.project,
            from = &*self.from,
            to = &*self.to,
            verdict = verdict,
            reason = reason,
            peer:% = self.peer;
            ""
        );
    }

    /// The line of a download that has ended; `bytes` of the file reached the module.
    pub fn log(&self, bytes: u64, seconds: f64, result: &str) {
        let tenths = (seconds * 10.0).round() / 10.0;
        log::info!(
            target: "download",
            proto = self.proto,
            device = &*self.device,
            project = &*self.project,
            from = &*self.from,
            to = &*self.to,
            bytes = bytes,
            seconds = tenths,
            result = result,
            peer:% = self.peer;
            ""
        );
    }
}

/// Are there files of this project that are not read yet? It is none in the catalogue then: its folder
/// is `PROJECT/`, and a file of its own begins with `PROJECT_`.
fn is_waited_for(catalog: &Catalog, project: &str) -> bool {
    let waiting = &catalog.waiting;
    let start = waiting.partition_point(|path| &**path < project);
    let from_here = waiting.iter().skip(start);
    from_here
        .map_while(|path| path.strip_prefix(project))
        .any(|rest| !project.is_empty() && rest.starts_with(['/', '_']))
}

/// The beginning of a text: nobody fills the disk with one check.
fn short(text: &str) -> &str {
    match text.char_indices().nth(LOGGED) {
        Some((end, _)) => text.get(..end).unwrap_or_default(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_is_waited_for_by_its_folder_or_its_files() {
        let mut catalog = Catalog::default();
        catalog.waiting = [
            "AIR/1.0.1/u.bin",
            "AIR9_1.0.1.bin",
            "P.Q/1.0.0/u.bin",
            "P/1/u.bin",
        ]
        .map(String::from)
        .into();
        for project in ["AIR", "AIR9", "P", "P.Q"] {
            assert!(is_waited_for(&catalog, project), "{project}");
        }
        for project in ["", "AI", "AIR9_1.0.1.bin", "Q", "1.0.1", "Z"] {
            assert!(!is_waited_for(&catalog, project), "{project}");
        }
    }
}
