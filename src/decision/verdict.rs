//! What a check comes to, and why.

use std::fmt;

use crate::firmware::catalog::{Package, Project, Release};

/// The answer to a check.
#[derive(Clone, Copy, Debug)]
pub enum Verdict<'c> {
    /// This package.
    Offer(Offer<'c>),
    /// Nothing, for this reason.
    Refuse(RefusedCheck<'c>),
}

/// What is offered.
#[derive(Clone, Copy, Debug)]
pub struct Offer<'c> {
    /// The project.
    pub project: &'c Project,
    /// The release.
    pub release: &'c Release,
    /// The file.
    pub package: &'c Package,
}

/// The kinds of no: the rows of docs/decision.md "Verdict on the wire".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The device has the newest there is for it.
    NothingNewer,
    /// Paused, not_before, window or percent.
    NotNow,
    /// allow, deny, from or firmware_name leave it out.
    NotThisDevice,
    /// Only known devices are served, and this is none.
    UnknownDevice,
    /// The check names no project, and its project_key is not that of exactly one.
    NoProject,
    /// No such project.
    UnknownProject,
    /// The project_key is not the release's.
    WrongKey,
    /// No package for this platform or core, or none that this way of asking can carry.
    NoPackage,
    /// The version is missing or cannot be read.
    VersionUnreadable,
    /// It got this content again and again and came back as before.
    Looping,
    /// No room now; come back.
    Full,
    /// The firmware folder, or the project's, cannot be read now.
    Unread,
    /// The bytes that its download began with are gone.
    CannotResume,
}

/// A no, with the release that came nearest.
#[derive(Clone, Copy, Debug)]
pub struct RefusedCheck<'c> {
    /// What kind of no.
    pub refusal: Refusal,
    /// The release that was refused, where it was one.
    pub release: Option<&'c Release>,
    /// Which rule said so, in a few words.
    pub rule: &'c str,
}

impl fmt::Display for RefusedCheck<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.release {
            Some(release) => write!(f, "{}: {}", release.version_text, self.rule),
            None => f.write_str(self.rule),
        }
    }
}

/// One rule that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The release it was looked at for; empty for the check as a whole.
    pub release: String,
    /// What the rule said, in a sentence.
    pub text: String,
}

/// Where the reasons go: nowhere while serving, into a list for `explain`.
#[derive(Debug, Default)]
pub struct Notes {
    list: Option<Vec<Note>>,
}

impl Notes {
    /// Reasons are not wanted.
    pub fn off() -> Notes {
        Notes { list: None }
    }

    /// Reasons are kept, in order.
    pub fn kept() -> Notes {
        Notes {
            list: Some(Vec::new()),
        }
    }

    /// The reasons so far.
    pub fn list(&self) -> &[Note] {
        self.list.as_deref().unwrap_or_default()
    }

    /// Adds one; `text` is only called if reasons are wanted.
    pub fn add(&mut self, release: Option<&Release>, text: impl FnOnce() -> String) {
        if let Some(list) = &mut self.list {
            list.push(Note {
                release: release
                    .map(|r| r.version_text.to_string())
                    .unwrap_or_default(),
                text: text(),
            });
        }
    }
}
