//! A check in one project, parsed once: the versions that the device runs, and the order of releases for it.

use std::cmp::Ordering;

use super::check::Check;
use super::facts::{DeviceFact, FactLog, SharedList};
use super::question::Question;
use crate::firmware::catalog::{Package, Project, Release};
use crate::firmware::name::Marker;
use crate::firmware::package::ChipFamily;
use crate::firmware::rules::FromVersions;
use crate::firmware::version::{CoreForm, FirstField, Standing, Version, standing};

/// The check that is decided on, and the project that it asks for.
pub(super) struct Evaluation<'c, 'q> {
    pub question: &'q Question<'c, 'q>,
    pub check: &'q Check<'q>,
    pub project: &'c Project,
    /// Meaning of a first version field of 1000 or more.
    pub first: FirstField,
    pub platform: Option<&'q str>,
    /// The version that the device runs, if it is numeric.
    pub running: Option<Version>,
    pub core: Option<u32>,
    /// Whether the check is one that may follow later, not one that was received. All windows then count as open.
    pub hypothetical: bool,
    /// Log of the facts about the device alone that the rules ask for.
    pub log: Option<&'q FactLog<'c>>,
}

impl<'c, 'q> Evaluation<'c, 'q> {
    pub fn new(question: &'q Question<'c, 'q>, check: &'q Check<'q>, project: &'c Project) -> Self {
        let name = check.name();
        let running = check.running();
        Evaluation {
            question,
            check,
            project,
            first: Marker::first_field(name.marker),
            platform: name.platform,
            running,
            core: check.core_in(&name, running),
            hypothetical: false,
            log: None,
        }
    }

    /// Returns the chip family of the device's platform.
    pub fn family(&self) -> Option<ChipFamily> {
        self.platform.and_then(ChipFamily::of_platform)
    }

    /// Returns how the release's version compares with the running one; `None` if the running version is not numeric.
    pub fn standing(&self, release: &Release) -> Option<Standing> {
        self.running
            .map(|running| standing(running, release.version, self.first))
    }

    /// Returns the core forms of the running version and of the release's, as they are compared.
    pub fn forms(&self, release: Version) -> (Option<CoreForm>, Option<CoreForm>) {
        match self.running {
            Some(running) => self.first.forms(running, release),
            None => (None, self.first.form(release)),
        }
    }

    /// Whether the package replaces the core.
    pub fn brings_core(&self, package: &Package) -> bool {
        package.brings_core(self.family())
    }

    /// Returns the version that the device will report with this package installed. A script package does not change
    /// the core, whatever core the release's name states.
    pub fn after_installing(
        &self,
        running: Version,
        release: &Release,
        package: &Package,
    ) -> Version {
        match self.first.forms(running, release.version) {
            (Some(before), Some(named)) if !self.brings_core(package) => {
                Version::of_core_form(CoreForm {
                    core: before.core,
                    ..named.with_middle_of(before)
                })
            }
            _ => Version::after_installing(running, release.version, self.first),
        }
    }

    /// Whether `from` includes the running version. A plain version in `from` is compared with the script version of a
    /// LuatOS module (CORE.A.C), as in the version order.
    pub fn runs_one_of(&self, from: &FromVersions) -> bool {
        let running_against = |one: Version| match (self.forms(one), self.running) {
            ((Some(running), None), _) => Some(running.cmp_plain(one)),
            ((Some(running), Some(one)), _) => {
                let by_core = running.core.cmp(&one.core);
                Some(by_core.then_with(|| running.cmp_script(&one)))
            }
            (_, running) => running.map(|running| running.cmp(&one)),
        };
        match *from {
            FromVersions::One(one) => running_against(one).is_some_and(Ordering::is_eq),
            FromVersions::Range(first, last) => {
                running_against(first).is_some_and(Ordering::is_ge)
                    && running_against(last).is_some_and(Ordering::is_le)
            }
            FromVersions::Texts(ref texts) => texts.iter().any(|text| *text == self.check.version),
        }
    }

    /// Whether the release's `from` names exactly the running version, by one version or by its text. The author of the
    /// rule then knows the core.
    pub fn is_named_by_from(&self, release: &Release) -> bool {
        match &release.rules.from {
            Some(from @ (FromVersions::One(_) | FromVersions::Texts(_))) => self.runs_one_of(from),
            Some(FromVersions::Range(..)) | None => false,
        }
    }

    /// Whether a fact is true of the device. A rule must use this function for every fact that does not follow from the
    /// rest of the check; otherwise the log is incomplete.
    pub fn is_true(&self, fact: DeviceFact<'c>) -> bool {
        let by_id = fact.of_id(self.check.device);
        let is_true = by_id.unwrap_or_else(|| fact.of_known(&self.question.known));
        if let Some(log) = self.log {
            log.add(fact, is_true);
        }
        is_true
    }

    /// Whether `allow` names the device individually.
    pub fn is_named_by_allow(&self, release: &'c Release) -> bool {
        let allow = release.rules.allow.as_ref();
        allow.is_some_and(|allow| self.is_true(DeviceFact::Named(SharedList(allow))))
    }

    /// Whether no release that follows this one in [`newest_first`](Evaluation::newest_first) can be offered.
    pub fn none_newer_after(&self, release: &Release) -> bool {
        let Some(running) = self.running else {
            return false;
        };
        // For a module that reports no core, releases in core form are not in the order of their scripts.
        let ordered = !matches!(self.forms(release.version), (None, Some(_)));
        ordered
            && !self.project.has_downgrades()
            && Version::after_installing(running, release.version, self.first) <= running
    }

    /// Returns the releases from the newest to the oldest, ordered by the version that the device would report after
    /// the update. For a module that reports CORE.A.C, plain releases are ordered without their middle number.
    pub fn newest_first(&self) -> impl Iterator<Item = &'c Release> + use<'c> {
        let first = self.first;
        let form = |running: &Version| first.form(*running);
        let running = self.running.filter(|running| form(running).is_some());
        let has_middle = running
            .as_ref()
            .and_then(form)
            .is_some_and(|form| form.full.is_some());
        let is_plain = |release: &&Release| release.version.core_form().is_none();
        let releases = &self.project.releases;
        let mut listed = releases
            .iter()
            .filter(move |release| running.is_none() || !is_plain(release))
            .peekable();
        let by_script = running
            .filter(|_| !has_middle)
            .map(|_| self.project.by_script());
        let in_order = running.filter(|_| has_middle);
        let in_order = in_order.map(|_| releases.iter().filter(is_plain));
        let mut plain = by_script
            .into_iter()
            .flatten()
            .chain(in_order.into_iter().flatten())
            .peekable();
        std::iter::from_fn(move || {
            let reported = |release: &Release| {
                running.map(|running| Version::after_installing(running, release.version, first))
            };
            match (listed.peek(), plain.peek()) {
                (Some(a), Some(b)) if reported(a) < reported(b) => plain.next(),
                (Some(_), _) => listed.next(),
                (None, _) => plain.next(),
            }
        })
    }
}
