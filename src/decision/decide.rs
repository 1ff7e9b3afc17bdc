//! The decision: walks the project's releases from the newest to the oldest and offers the first that passes all
//! [`rules`].
//!
//! A refused release does not hide an older one, except where the rule stops the walk ("looping", and "not now" by
//! `reboot_within`, window or percent): those devices will get the newest release later.

use super::check::Check;
use super::evaluation::Evaluation;
use super::facts::FactLog;
use super::question::Question;
use super::refusal::Refusal;
use super::rules;
use super::verdict::{Notes, Offer, RefusedCheck, Verdict};
use crate::firmware::catalog::{Catalog, KeyOwner, Project, Release};

/// Number of downgrades that would be undone after which the walk ends, since each costs a walk over all releases.
const MAX_UNDONE: u32 = 16;

/// Decides on a check. This is a pure function: the same question always gets the same verdict.
///
/// Without an offer the verdict is the refusal of the release that stopped the walk. If none did, it is the refusal of
/// the newest release that is refused for another reason than "not newer".
pub fn decide<'c>(question: &Question<'c, '_>, notes: &mut Notes) -> Verdict<'c> {
    decide_and_log(question, notes, None)
}

/// Returns the release that the rules give to a check at some time of the day: all windows count as open.
pub fn release_at_any_time<'c>(question: &Question<'c, '_>) -> Option<&'c Release> {
    let notes = &mut Notes::off();
    let evaluation = Evaluation {
        hypothetical: true,
        ..Evaluation::new(question, question.check, project(question, notes).ok()?)
    };
    match walk(&evaluation, notes) {
        Verdict::Offer(offer) => Some(offer.release),
        Verdict::Refuse(_) => None,
    }
}

/// Decides like [`decide`], and logs the facts about the device alone on which the verdict depends.
#[cfg(feature = "operator")]
pub fn decide_with_facts<'c>(question: &Question<'c, '_>, log: &FactLog<'c>) -> Verdict<'c> {
    decide_and_log(question, &mut Notes::off(), Some(log))
}

fn decide_and_log<'c>(
    question: &Question<'c, '_>,
    notes: &mut Notes,
    log: Option<&FactLog<'c>>,
) -> Verdict<'c> {
    match project(question, notes) {
        Ok(project) => {
            let evaluation = Evaluation {
                log,
                ..Evaluation::new(question, question.check, project)
            };
            walk(&evaluation, notes)
        }
        Err((refusal, rule)) => refuse(refusal, rule),
    }
}

/// Decides like [`decide`], but does not refuse a project as unknown while its files are not read yet or cannot be
/// read. The refusal then tells the device to retry later.
pub fn decide_if_read<'c>(question: &Question<'c, '_>, notes: &mut Notes) -> Verdict<'c> {
    let (catalog, check) = (question.catalog, question.check);
    let unread = |refusal, rule: &'static str, notes: &mut Notes| {
        notes.add(None, || rule.to_owned());
        refuse(refusal, rule)
    };
    if catalog.is_unread() {
        let rule = "the firmware folder cannot be read";
        return unread(Refusal::Unread, rule, notes);
    }
    let verdict = decide(question, notes);
    let Verdict::Refuse(RefusedCheck {
        refusal,
        release: None,
        ..
    }) = verdict
    else {
        return verdict;
    };
    if is_being_read(check, refusal, catalog) {
        let rule = "files of this project are being read";
        return unread(Refusal::Full, rule, notes);
    }
    // A project whose folder cannot be read is not unknown.
    let is_missing = matches!(refusal, Refusal::UnknownProject | Refusal::NoPackage);
    if is_missing && catalog.has_unread(check.project()) {
        let rule = "a folder of this project cannot be read";
        return unread(Refusal::Unread, rule, notes);
    }
    verdict
}

/// Whether the project may be among those whose files are not read yet: by its name, or, if only a `project_key` is
/// known, because the files of any project are not read yet.
fn is_being_read(check: &Check<'_>, refusal: Refusal, catalog: &Catalog) -> bool {
    match refusal {
        Refusal::UnknownProject => catalog.has_waiting(check.project()),
        Refusal::NoProject => check.project_key.is_some() && !catalog.waiting.is_empty(),
        _ => false,
    }
}

fn refuse(refusal: Refusal, rule: &'static str) -> Verdict<'static> {
    Verdict::Refuse(RefusedCheck {
        refusal,
        release: None,
        rule,
    })
}

/// Returns the project of the check. Fails if the device is not served, or if the project is not named, unknown or
/// without releases.
fn project<'c>(
    question: &Question<'c, '_>,
    notes: &mut Notes,
) -> Result<&'c Project, (Refusal, &'static str)> {
    let check = question.check;
    let catalog = question.catalog;
    if question.known.is_unknown_device {
        notes.add(None, || "only known devices are served".to_owned());
        return Err((Refusal::UnknownDevice, "not a known device"));
    }
    if check.project().is_empty() {
        let rule = match check
            .project_key
            .as_deref()
            .map(|key| catalog.key_owner(key))
        {
            None => "it names no project: it has neither firmware_name nor project_key",
            Some(KeyOwner::Several) => {
                "several projects have this project_key: let the module send firmware_name"
            }
            Some(KeyOwner::None | KeyOwner::One(_)) => {
                "it names no project, and no project has this project_key"
            }
        };
        notes.add(None, || rule.to_owned());
        return Err((Refusal::NoProject, rule));
    }
    let project = catalog.project(check.project());
    if project.is_none() && !catalog.has_quarantined(check.project()) {
        notes.add(None, || {
            format!("there is no project {:?} with a release", check.project())
        });
        return Err((Refusal::UnknownProject, "no such project"));
    }
    if let Some(project) = project {
        notes.add(None, || {
            format!(
                "project {:?}, platform {}, core {}, version {:?}",
                project.name,
                check.name().platform.unwrap_or("not sent"),
                check
                    .core()
                    .map_or("not sent".to_owned(), |core| core.to_string()),
                check.version,
            )
        });
    }
    project
        .filter(|project| !project.releases.is_empty())
        .ok_or_else(|| {
            let rule = "all files of the project are quarantined";
            notes.add(None, || rule.to_owned());
            (Refusal::NoPackage, rule)
        })
}

fn walk<'c>(evaluation: &Evaluation<'c, '_>, notes: &mut Notes) -> Verdict<'c> {
    let mut nearest = None;
    let mut undone = 0;
    for release in evaluation.newest_first() {
        match rules::package_of(evaluation, release, notes) {
            Ok(package) if rules::would_be_undone(evaluation, release, package) => {
                let rule =
                    "a downgrade, but the next check would offer another release: pause that one";
                notes.add(Some(release), || format!("refused: {rule}"));
                undone += 1;
                if undone == MAX_UNDONE {
                    break;
                }
            }
            Ok(package) => {
                notes.add(Some(release), || format!("offered: {}", package.path));
                return Verdict::Offer(Offer {
                    project: evaluation.project,
                    release,
                    package,
                });
            }
            Err(rejection) => {
                let refused = RefusedCheck {
                    refusal: rejection.refusal,
                    release: Some(release),
                    rule: rejection.rule,
                };
                if rejection.stops {
                    return Verdict::Refuse(refused);
                }
                if rejection.refusal != Refusal::NothingNewer {
                    nearest.get_or_insert(refused);
                }
                if evaluation.none_newer_after(release) {
                    notes.add(None, || "older releases are not evaluated".to_owned());
                    break;
                }
            }
        }
    }
    match nearest {
        Some(refused) => Verdict::Refuse(refused),
        None => refuse(Refusal::NothingNewer, "nothing newer"),
    }
}
