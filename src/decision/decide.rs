//! The one function that decides.
//!
//! It walks the project's releases from the newest to the oldest and offers the first that is
//! admissible. A release is looked at in the order in which [`Asker::admit`] is written; the first rule
//! that refuses it is what the verdict says. A refused release does not hide an older one, except "not now
//! by window or percent" and "looping", which end the matter: those devices will get the newest, only
//! later.

use std::cmp::Ordering;

use super::check::Check;
use super::verdict::{Notes, Offer, Refusal, RefusedCheck, Verdict};
use crate::firmware::ContentId;
use crate::firmware::audience::cohort;
use crate::firmware::catalog::{Catalog, KeyOwner, Package, Project, Release};
use crate::firmware::name::Marker;
use crate::firmware::package::ChipFamily;
use crate::firmware::rules::{From, Paused, Window};
use crate::firmware::version::{CoreForm, FirstField, Standing, Version, standing};

/// What the server knows of a device besides its check.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known<'q> {
    /// Only known devices are served, and this is none of them.
    pub stranger: bool,
    /// What it is not to be given again for now.
    pub looping: Looping,
    /// Releases that the fuse has paused and whose release.json could not be written.
    pub fused: &'q [Fused],
    /// It may try a release that the fuse has paused.
    pub trial: bool,
    /// What it has all of, and may not run yet.
    pub fetched: Option<Fetched>,
}

/// A content that was delivered to a device which still says its old version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// The content.
    pub content: ContentId,
    /// Seconds since the delivery.
    pub seconds: u32,
}

/// The contents that a device got again and again and came back as before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Looping {
    /// With each content: it is held from a device that `allow` names singly, too.
    contents: [Option<(ContentId, bool)>; Looping::MOST],
}

impl Looping {
    /// More than so many are not told apart for one device.
    pub const MOST: usize = 8;

    /// One more; beyond [`Looping::MOST`] it is left out. `named_too`: also from a device that `allow`
    /// names singly.
    pub fn add(&mut self, content: ContentId, named_too: bool) {
        if let Some(free) = self.contents.iter_mut().find(|place| place.is_none()) {
            *free = Some((content, named_too));
        }
    }

    /// Is it one of them? `named`: the device is named singly in `allow`.
    pub fn contains(&self, content: ContentId, named: bool) -> bool {
        let mut all = self.contents.iter().flatten();
        all.any(|(held, named_too)| *held == content && (*named_too || !named))
    }

    /// None at all.
    pub fn is_empty(&self) -> bool {
        self.contents.iter().all(Option::is_none)
    }
}

/// A release that paused itself: too many devices came back from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fused {
    /// The project.
    pub project: Box<str>,
    /// The version, as its folder writes it.
    pub version: Box<str>,
    /// The reason, for `paused`; it begins with [`FUSE`].
    pub sentence: Box<str>,
}

impl Fused {
    /// Whether it is this release.
    pub fn is(&self, project: &Project, release: &Release) -> bool {
        self.project == project.name && self.version == release.version_text
    }

    /// The reason for people, where release.json does not say that the release is paused.
    pub fn kept_reason(&self) -> String {
        let why = self.sentence.strip_suffix(SET_TO_FALSE);
        format!(
            "{}; release.json does not say so: resume it on the page or with luat-ota resume {}/{}",
            why.unwrap_or(&self.sentence),
            self.project,
            self.version
        )
    }
}

/// How the sentence begins that the fuse writes into `paused`, so that it is told from a person's.
pub const FUSE: &str = "fuse: ";

/// How that sentence ends: what to do with `paused`.
pub const SET_TO_FALSE: &str = "; set this to false to go on";

/// Everything that the verdict depends on.
#[derive(Clone, Copy, Debug)]
pub struct Question<'c, 'q> {
    /// What there is.
    pub catalog: &'c Catalog,
    /// What is known of the device.
    pub known: Known<'q>,
    /// What it asks.
    pub check: &'q Check<'q>,
    /// The time, Unix seconds UTC.
    pub unix: i64,
}

/// A release that was refused: what kind of no, which rule, and whether older ones may still be
/// looked at.
struct No<'c> {
    refusal: Refusal,
    rule: &'c str,
    ends: bool,
}

impl<'c> No<'c> {
    fn because(refusal: Refusal, rule: &'c str) -> No<'c> {
        No {
            refusal,
            rule,
            ends: false,
        }
    }

    fn and_that_is_that(self) -> No<'c> {
        No { ends: true, ..self }
    }
}

/// Decides. Pure: the same question always gets the same verdict.
///
/// Without an offer the verdict is the refusal of the newest release that has anything to say besides
/// "not newer".
pub fn decide<'c>(question: &Question<'c, '_>, notes: &mut Notes) -> Verdict<'c> {
    let refuse = |refusal, rule| {
        Verdict::Refuse(RefusedCheck {
            refusal,
            release: None,
            rule,
        })
    };
    let check = question.check;
    if question.known.stranger {
        notes.add(None, || "only known devices are served".to_owned());
        return refuse(Refusal::UnknownDevice, "not a known device");
    }
    if check.project().is_empty() {
        let rule = match check.project_key.as_deref() {
            None => "it names no project: it has neither firmware_name nor project_key",
            Some(key) => match question.catalog.with_key(key) {
                KeyOwner::Several => {
                    "several projects have this project_key: let the module send firmware_name"
                }
                KeyOwner::None | KeyOwner::One(_) => {
                    "it names no project, and no project has this project_key"
                }
            },
        };
        notes.add(None, || rule.to_owned());
        return refuse(Refusal::NoProject, rule);
    }
    let quarantined = "all files of the project are quarantined";
    let Some(project) = question.catalog.project(check.project()) else {
        if question.catalog.quarantines(check.project()) {
            notes.add(None, || quarantined.to_owned());
            return refuse(Refusal::NoPackage, quarantined);
        }
        notes.add(None, || {
            format!("there is no project {:?} with a release", check.project())
        });
        return refuse(Refusal::UnknownProject, "no such project");
    };
    notes.add(None, || {
        format!(
            "project {:?}, platform {}, core {}, version {:?}",
            project.name,
            check.name().platform.unwrap_or("not said"),
            check
                .core()
                .map_or("not said".to_owned(), |core| core.to_string()),
            check.version,
        )
    });
    if project.releases.is_empty() {
        notes.add(None, || quarantined.to_owned());
        return refuse(Refusal::NoPackage, quarantined);
    }
    let asker = Asker::new(question, check, project);
    let mut verdict = None;
    let mut unstable = 0;
    for release in asker.newest_first() {
        match asker.admit(release, notes) {
            Ok(package) if asker.would_come_back(release, package) => {
                let rule = "a downgrade, but another release would follow it: pause that one";
                notes.add(Some(release), || format!("refused: {rule}"));
                unstable += 1;
                if unstable == UNSTABLE {
                    break;
                }
            }
            Ok(package) => {
                notes.add(Some(release), || format!("offered: {}", package.path));
                return Verdict::Offer(Offer {
                    project,
                    release,
                    package,
                });
            }
            Err(no) => {
                let refused = RefusedCheck {
                    refusal: no.refusal,
                    release: Some(release),
                    rule: no.rule,
                };
                if no.ends {
                    return Verdict::Refuse(refused);
                }
                if no.refusal != Refusal::NothingNewer {
                    verdict.get_or_insert(refused);
                }
                if asker.is_past(release) {
                    notes.add(None, || "older releases are not looked at".to_owned());
                    break;
                }
            }
        }
    }
    match verdict {
        Some(refused) => Verdict::Refuse(refused),
        None => refuse(Refusal::NothingNewer, "nothing newer"),
    }
}

/// The refusal of a release whose content the loop guard holds back from the device.
pub const HELD: &str = "held: it got this again and again and came back as before";

/// The refusal of a release that is for one core to a module that does not say its own, with both cures.
pub const CORE_UNSAID: &str = "it is for one core, and the module does not say its own: let it send \
    firmware_name and version as libfota2 does, or set any_core";

/// The refusal of a release whose files are for platforms to a module that does not say its own.
const PLATFORM_UNSAID: &str = "its files are for a platform each, and the module does not say its own in \
    firmware_name";

/// After so many releases to which a downgrade could not stay, no other is tried: each costs a look
/// at all releases.
const UNSTABLE: u32 = 16;

/// The device that asks, in one project; what it says of itself is taken apart once.
struct Asker<'c, 'q> {
    question: &'q Question<'c, 'q>,
    check: &'q Check<'q>,
    project: &'c Project,
    /// What a first field of 1000 or more in a version means.
    first: FirstField,
    platform: Option<&'q str>,
    running: Option<Version>,
    core: Option<u32>,
    /// It is only asked what would follow a downgrade, some day.
    imagined: bool,
}

impl<'c, 'q> Asker<'c, 'q> {
    fn new(question: &'q Question<'c, 'q>, check: &'q Check<'q>, project: &'c Project) -> Self {
        let name = check.name();
        let (platform, running) = (name.platform, check.running());
        Asker {
            question,
            check,
            project,
            first: Marker::first_field(name.marker),
            platform,
            running,
            core: check.core_in(&name, running),
            imagined: false,
        }
    }

    /// The family of its platform. (Nearly every check ends before anybody asks.)
    fn family(&self) -> Option<ChipFamily> {
        self.platform.and_then(ChipFamily::of_platform)
    }

    /// The core forms of a release and of what runs, as they are compared.
    fn forms(&self, release: Version) -> (Option<CoreForm>, Option<CoreForm>) {
        match self.running {
            Some(running) => self.first.forms(running, release),
            None => (None, self.first.form(release)),
        }
    }

    /// What the device will report once it has installed this package. One that holds the script alone
    /// leaves the core as it is, whatever the release's name says.
    fn after(&self, running: Version, release: &Release, package: &Package) -> Version {
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

    /// Does the package change the core that it is installed on?
    fn brings_core(&self, package: &Package) -> bool {
        package.brings_core(self.family())
    }

    /// After this one [`newest_first`](Asker::newest_first) brings nothing that is newer, and nothing
    /// of the project may replace a newer version.
    fn is_past(&self, release: &Release) -> bool {
        let Some(running) = self.running else {
            return false;
        };
        // To a module that says no core, releases in core form are not in the order of their scripts.
        let ordered = !matches!(self.forms(release.version), (None, Some(_)));
        ordered
            && !self.project.has_downgrades()
            && Version::after_installing(running, release.version, self.first) <= running
    }

    /// The releases from the newest to the oldest, as the device would report them: to one that says
    /// CORE.A.C, plain releases are ordered without their middle number.
    fn newest_first(&self) -> impl Iterator<Item = &'c Release> + use<'c> {
        let first = self.first;
        let form = |running: &Version| first.form(*running);
        let running = self.running.filter(|running| form(running).is_some());
        let says_middle = running
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
            .filter(|_| !says_middle)
            .map(|_| self.project.by_script());
        let in_order = running.filter(|_| says_middle);
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

    /// The package of this release that the device may have now.
    fn admit(&self, release: &'c Release, notes: &mut Notes) -> Result<&'c Package, No<'c>> {
        let verdict = self
            .may_have(release, notes)
            .and_then(|()| self.fitting(release, notes))
            .and_then(|package| self.may_have_now(release, package).map(|()| package));
        if let Err(no) = &verdict {
            notes.add(Some(release), || {
                let then = if no.ends {
                    "; older ones are not looked at"
                } else {
                    ""
                };
                format!("refused: {}{then}", no.rule)
            });
        }
        verdict
    }

    /// The rules about who may have it.
    fn may_have(&self, release: &'c Release, notes: &mut Notes) -> Result<(), No<'c>> {
        if let Some(why) = &release.held_back {
            return Err(No::because(Refusal::NotNow, why));
        }
        let rules = &*release.rules;
        let check = self.check;
        if let Some(key) = &rules.project_key
            && check.project_key.as_deref() != Some(key)
        {
            return Err(No::because(Refusal::WrongKey, "the project_key is another"));
        }
        self.version_allows(release, notes)?;
        let not_this_device = |rule| Err(No::because(Refusal::NotThisDevice, rule));
        if let Some(names) = &rules.firmware_name {
            let said = check.firmware_name.as_deref().unwrap_or_default();
            if !names.iter().any(|name| name == said) {
                return not_this_device("its firmware_name is not in the rule");
            }
        }
        if let (Some(deny), Some(device)) = (&rules.deny, check.device)
            && deny.contains(device)
        {
            return not_this_device("it is in deny");
        }
        if let Some(allow) = &rules.allow
            && !check.device.is_some_and(|device| allow.contains(device))
        {
            return not_this_device("it is not in allow");
        }
        Ok(())
    }

    /// The version rules: docs/decision.md "Version order", `from`, `any_version`, `any_core`,
    /// `allow_downgrade`.
    fn version_allows(&self, release: &'c Release, notes: &mut Notes) -> Result<(), No<'c>> {
        let rules = &*release.rules;
        let check = self.check;
        let Some(running) = self.running else {
            return self.text_version_allows(release);
        };
        let stands = standing(running, release.version, self.first);
        notes.add(Some(release), || {
            let word = match stands {
                Standing::Newer => "newer than",
                Standing::Same => "the same as",
                Standing::Older => "not newer than",
                Standing::CoreUnknown => "newer, but on a core that the module did not say, than",
            };
            format!("{} is {word} {}", release.version_text, check.version)
        });
        match stands {
            Standing::Newer => {}
            Standing::CoreUnknown if rules.any_core == Some(true) => {}
            // A package without a core in it is left out below.
            Standing::CoreUnknown if self.is_named_by_from(release) => {}
            Standing::CoreUnknown => return Err(No::because(Refusal::NoPackage, CORE_UNSAID)),
            Standing::Older if rules.allow_downgrade == Some(true) => {}
            Standing::Same | Standing::Older => {
                return Err(No::because(Refusal::NothingNewer, "not newer"));
            }
        }
        if !rules
            .from
            .as_ref()
            .is_none_or(|from| self.runs_one_of(from))
        {
            let rule = "its version is not in from";
            return Err(No::because(Refusal::NotThisDevice, rule));
        }
        Ok(())
    }

    /// A version that is free text, or missing: it has no order, so only `from` with this very text
    /// or `any_version` reach it.
    fn text_version_allows(&self, release: &'c Release) -> Result<(), No<'c>> {
        let said = &*self.check.version;
        if said.is_empty() {
            return Err(No::because(
                Refusal::VersionUnreadable,
                "the module said no version",
            ));
        }
        if said == &*release.version_text {
            return Err(No::because(Refusal::NothingNewer, "the same text"));
        }
        match &release.rules.from {
            Some(From::Texts(texts)) if texts.iter().any(|text| text == said) => Ok(()),
            Some(_) => Err(No::because(
                Refusal::NotThisDevice,
                "its version is not in from",
            )),
            None if release.rules.any_version == Some(true) => Ok(()),
            None => {
                let rule = "its version is not a number between dots (from, any_version)";
                Err(No::because(Refusal::VersionUnreadable, rule))
            }
        }
    }

    /// Does the device run what `from` names? A LuatOS module says CORE.A.C: where `from` is plain,
    /// its script's version is what counts, as in the version order.
    fn runs_one_of(&self, from: &From) -> bool {
        // What runs, compared with this version.
        let order = |one: Version| match (self.forms(one), self.running) {
            ((Some(running), None), _) => Some(running.cmp_plain(one)),
            ((Some(running), Some(one)), _) => {
                let by_core = running.core.cmp(&one.core);
                Some(by_core.then_with(|| running.cmp_script(&one)))
            }
            (_, running) => running.map(|running| running.cmp(&one)),
        };
        match *from {
            From::One(one) => order(one).is_some_and(Ordering::is_eq),
            From::Range(first, last) => {
                order(first).is_some_and(Ordering::is_ge)
                    && order(last).is_some_and(Ordering::is_le)
            }
            From::Texts(ref texts) => texts.iter().any(|text| *text == self.check.version),
        }
    }

    /// Does the release's `from` name exactly what runs, by one version or by its text? Then the person who
    /// wrote it knows on which core that is.
    fn is_named_by_from(&self, release: &Release) -> bool {
        match &release.rules.from {
            Some(from @ (From::One(_) | From::Texts(_))) => self.runs_one_of(from),
            Some(From::Range(..)) | None => false,
        }
    }

    /// Is this a downgrade after which the device would be offered something newer, or a release that
    /// stands before it in the project's list? Then it could go back and forth for ever. This way a
    /// downgrade is followed by nothing but downgrades further down that one list, which ends.
    fn would_come_back(&self, target: &Release, package: &Package) -> bool {
        let Some(running) = self.running else {
            return false;
        };
        if standing(running, target.version, self.first) != Standing::Older {
            return false;
        }
        let after = self.after(running, target, package);
        let later = Check {
            version: after.to_string().into(),
            ..self.check.clone()
        };
        let later = Asker {
            imagined: true,
            ..Asker::new(self.question, &later, self.project)
        };
        let mut before = true;
        self.project.releases.iter().any(|release| {
            before &= release.version != target.version;
            let newer = standing(after, release.version, self.first) == Standing::Newer;
            (before || newer) && later.admit(release, &mut Notes::off()).is_ok()
        })
    }

    /// The package that fits: for the exact platform before one for every module; among those the
    /// smallest.
    fn fitting(&self, release: &'c Release, notes: &mut Notes) -> Result<&'c Package, No<'c>> {
        let nothing = match self.platform {
            Some(_) => "no package for its platform",
            None => PLATFORM_UNSAID,
        };
        let mut nearest = No::because(Refusal::NoPackage, nothing);
        let only = self.only_platform(release);
        for exact in [true, false] {
            let mut best: Option<&Package> = None;
            for package in &release.packages {
                let for_it = match (&package.platform, self.platform) {
                    (None, _) => !exact,
                    (Some(wanted), Some(said)) => exact && wanted.eq_ignore_ascii_case(said),
                    (Some(_), None) => exact && only,
                };
                if !for_it {
                    continue;
                }
                match self.package_fits(release, package) {
                    Ok(()) if best.is_none_or(|best| package.size < best.size) => {
                        best = Some(package);
                    }
                    Ok(()) => {}
                    Err(rule) => {
                        notes.add(Some(release), || format!("{}: {rule}", package.path));
                        nearest = No::because(Refusal::NoPackage, rule);
                    }
                }
            }
            if let Some(package) = best {
                return Ok(package);
            }
        }
        Err(nearest)
    }

    /// May a module that says no platform have a file for one? With `any_core`, if all files of the release
    /// are for the same.
    fn only_platform(&self, release: &Release) -> bool {
        let mut platforms = release.packages.iter().map(|p| p.platform.as_deref());
        let first = platforms.next().flatten();
        self.platform.is_none()
            && release.rules.any_core == Some(true)
            && first.is_some_and(|first| {
                platforms.all(|other| other.is_some_and(|other| other.eq_ignore_ascii_case(first)))
            })
    }

    /// docs/decision.md "Package and core".
    fn package_fits(&self, release: &Release, package: &Package) -> Result<(), &'static str> {
        let check = self.check;
        if !package.kind.fits(self.family()) {
            return Err("the package is for another kind of chip");
        }
        if check.largest.is_some_and(|largest| package.size > largest) {
            return Err("the file is too large for UDP; it is offered over HTTP");
        }
        let core = self.core;
        if let Some(base) = package.base_core {
            return match core {
                Some(core) if core == base => Ok(()),
                Some(_) => Err("the core delta was made from another core"),
                // An exact `from` names the base.
                None if self.is_named_by_from(release) => Ok(()),
                None => Err("the core delta fits one core, and the module did not say its own"),
            };
        }
        let (running, Some(named)) = self.forms(release.version) else {
            return Ok(());
        };
        // The version rule has seen to it that the module's core is not a higher one.
        if core == Some(named.core) || (core.is_some() && self.brings_core(package)) {
            return Ok(());
        }
        if release.rules.any_core != Some(true) {
            return Err(match core {
                Some(_) => "a script-only package fits the same core alone (any_core)",
                None => CORE_UNSAID,
            });
        }
        match running {
            // Or it would be offered again and again: the core stays as it is.
            Some(running) if running.cmp_script(&named).is_ge() => {
                Err("it brings the script alone, and the module's is as new")
            }
            _ => Ok(()),
        }
    }

    /// The rules about when.
    fn may_have_now(&self, release: &'c Release, package: &Package) -> Result<(), No<'c>> {
        let rules = &*release.rules;
        let not_now = |rule| No::because(Refusal::NotNow, rule);
        let known = &self.question.known;
        match &rules.paused {
            None | Some(Paused::No) => {}
            Some(Paused::Yes) => return Err(not_now("paused")),
            Some(Paused::Because(why)) if known.trial && why.starts_with(FUSE) => {}
            Some(Paused::Because(why)) => return Err(not_now(why)),
        }
        if !known.trial && known.fused.iter().any(|f| f.is(self.project, release)) {
            return Err(not_now("fuse: too many devices came back with it"));
        }
        if rules
            .not_before
            .is_some_and(|moment| self.question.unix < moment)
        {
            return Err(not_now("not_before is still to come"));
        }
        if let (Some(within), Some(fetched)) = (rules.reboot_within, known.fetched)
            && fetched.content == package.content
            && fetched.seconds < within
        {
            let rule = "waiting to reboot: it has this release already (reboot_within)";
            return Err(not_now(rule).and_that_is_that());
        }
        if known
            .looping
            .contains(package.content, self.is_named(release))
        {
            return Err(No::because(Refusal::Looping, HELD).and_that_is_that());
        }
        // A window opens again, so it keeps nothing from following a downgrade.
        let open = |window: Window| self.imagined || window.contains(self.question.unix);
        if !rules.window.is_none_or(open) {
            return Err(not_now("outside its window").and_that_is_that());
        }
        if !self.in_rollout(release) {
            return Err(not_now("not among the percent that may have it yet").and_that_is_that());
        }
        Ok(())
    }

    /// Does `allow` name the device singly?
    fn is_named(&self, release: &Release) -> bool {
        let allow = release.rules.allow.as_ref();
        let device = self.check.device;
        device.is_some_and(|device| allow.is_some_and(|allow| allow.names(device)))
    }

    /// Is the device among `percent`? One without an id is only if that is everyone.
    fn in_rollout(&self, release: &Release) -> bool {
        let Some(percent) = release.rules.percent else {
            return true;
        };
        let Some(device) = self.check.device else {
            return percent >= 100.0;
        };
        let place = cohort(&self.project.name, release.version, device);
        self.is_named(release) || f64::from(place) < percent * 100.0
    }
}
