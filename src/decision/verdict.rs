//! The result of a decision, and the notes on how it was reached.

use std::fmt;

use super::refusal::Refusal;
use crate::firmware::catalog::{Package, Project, Release};

/// The decision on a check.
#[derive(Clone, Copy, Debug)]
pub enum Verdict<'c> {
    /// A package is offered.
    Offer(Offer<'c>),
    /// The check is refused.
    Refuse(RefusedCheck<'c>),
}

/// An offered package.
#[derive(Clone, Copy, Debug)]
pub struct Offer<'c> {
    /// The project.
    pub project: &'c Project,
    /// The release.
    pub release: &'c Release,
    /// The file.
    pub package: &'c Package,
}

/// A refused check, with the release that came nearest to an offer.
#[derive(Clone, Copy, Debug)]
pub struct RefusedCheck<'c> {
    /// The kind of refusal.
    pub refusal: Refusal,
    /// The release that was refused, if the refusal is about one.
    pub release: Option<&'c Release>,
    /// The rule that refused, in a few words.
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

/// The refusal of one release by one rule.
pub(super) struct Rejection<'c> {
    pub refusal: Refusal,
    /// The rule, in a few words.
    pub rule: &'c str,
    /// Whether the walk ends here, so that older releases are not considered.
    pub stops: bool,
}

impl<'c> Rejection<'c> {
    pub fn new(refusal: Refusal, rule: &'c str) -> Rejection<'c> {
        Rejection {
            refusal,
            rule,
            stops: false,
        }
    }

    /// Makes the rejection end the walk, so that older releases are not considered.
    pub fn stop_here(self) -> Rejection<'c> {
        Rejection {
            stops: true,
            ..self
        }
    }
}

/// The result of one rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Version of the release; empty for the check as a whole.
    pub release: String,
    /// The result, in a sentence.
    pub text: String,
}

/// Collects the results of all rules for `explain`; ignores them while serving.
#[derive(Debug, Default)]
pub struct Notes {
    list: Option<Vec<Note>>,
}

impl Notes {
    /// Creates a collector that ignores all notes.
    pub fn off() -> Notes {
        Notes { list: None }
    }

    /// Creates a collector that keeps all notes, in order.
    pub fn collecting() -> Notes {
        Notes {
            list: Some(Vec::new()),
        }
    }

    /// Whether notes are collected.
    pub fn are_collected(&self) -> bool {
        self.list.is_some()
    }

    /// The notes so far.
    pub fn list(&self) -> &[Note] {
        self.list.as_deref().unwrap_or_default()
    }

    /// Adds a note; `text` is only called if notes are collected.
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
