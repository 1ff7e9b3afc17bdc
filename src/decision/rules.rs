//! The rules that a release has to pass, in order. The first that refuses decides which refusal the device gets for this
//! release; `decide` chooses among the refusals of several releases.

use super::check::Check;
use super::evaluation::Evaluation;
use super::facts::{DeviceFact, SharedList};
use super::package::{CORE_UNKNOWN, fitting};
use super::question::{FUSE, Fused};
use super::refusal::Refusal;
use super::stages::{percent_in_force, reached_by};
use super::verdict::{Notes, Rejection};
use crate::firmware::audience::DeviceSet;
use crate::firmware::catalog::{Package, Release};
use crate::firmware::rules::{FromVersions, Paused, Window};
use crate::firmware::version::Standing;

/// A rule on a release and the device.
type DeviceRule<'c, 'q> = fn(&Evaluation<'c, 'q>, &'c Release, &mut Notes) -> RuleResult<'c>;

/// A rule on the package that [`fitting`] chose.
type PackageRule<'c, 'q> = fn(&Evaluation<'c, 'q>, &'c Release, &Package) -> RuleResult<'c>;

type RuleResult<'c> = Result<(), Rejection<'c>>;

impl<'c, 'q> Evaluation<'c, 'q> {
    /// Rules on which devices may have the release, in order; they precede [`fitting`].
    const BEFORE_PACKAGE: [DeviceRule<'c, 'q>; 6] = [
        Self::held_back,
        Self::project_key,
        Self::version,
        Self::firmware_name,
        Self::deny,
        Self::allow,
    ];

    /// Rules on when the device may have the package, in order; they follow [`fitting`].
    const AFTER_PACKAGE: [PackageRule<'c, 'q>; 7] = [
        Self::paused,
        Self::fuse,
        Self::not_before,
        Self::reboot_within,
        Self::loop_guard,
        Self::window,
        Self::percent,
    ];
}

/// The refusal of a content that the loop guard holds back from the device.
pub const HELD_RULE: &str = "held: it got this file repeatedly and still runs its old version";

/// Returns the package of this release that the device may have now.
pub(super) fn package_of<'c>(
    device: &Evaluation<'c, '_>,
    release: &'c Release,
    notes: &mut Notes,
) -> Result<&'c Package, Rejection<'c>> {
    let mut check = || {
        Evaluation::BEFORE_PACKAGE
            .iter()
            .try_for_each(|rule| rule(device, release, notes))?;
        let package = fitting(device, release, notes)?;
        if release.rules.stages.is_some()
            && let Some(percent) = device.percent_of(release, package)
        {
            notes.add(Some(release), || {
                format!("it is in the stage of {percent} percent of the devices")
            });
        }
        Evaluation::AFTER_PACKAGE
            .iter()
            .try_for_each(|rule| rule(device, release, package))?;
        Ok(package)
    };
    let result: Result<_, Rejection<'c>> = check();
    if let Err(rejection) = &result {
        notes.add(Some(release), || {
            let then = match rejection.stops {
                true => "; older ones are not evaluated",
                false => "",
            };
            format!("refused: {}{then}", rejection.rule)
        });
    }
    result
}

/// Whether this is a downgrade after which the next check would be offered a newer release, or one that precedes it in
/// the project's list. The device could then alternate between the two without end. So a downgrade is followed only by
/// downgrades further down that list, which ends.
pub(super) fn would_be_undone(
    device: &Evaluation<'_, '_>,
    target: &Release,
    package: &Package,
) -> bool {
    let (Some(running), Some(Standing::Older)) = (device.running, device.standing(target)) else {
        return false;
    };
    let after = device.after_installing(running, target, package);
    let check = Check {
        version: after.to_string().into(),
        ..device.check.clone()
    };
    let later = Evaluation {
        hypothetical: true,
        log: device.log,
        ..Evaluation::new(device.question, &check, device.project)
    };
    let mut precedes = true;
    device.project.releases.iter().any(|release| {
        precedes &= release.version != target.version;
        (precedes || later.standing(release) == Some(Standing::Newer))
            && package_of(&later, release, &mut Notes::off()).is_ok()
    })
}

impl<'c> Evaluation<'c, '_> {
    fn held_back(&self, release: &'c Release, _: &mut Notes) -> RuleResult<'c> {
        match &release.held_back {
            Some(why) => refuse(Refusal::NotNow, why),
            None => Ok(()),
        }
    }

    fn project_key(&self, release: &'c Release, _: &mut Notes) -> RuleResult<'c> {
        let sent = self.check.project_key.as_deref();
        let wrong = |key: &String| sent != Some(key);
        let wrong = release.rules.project_key.as_ref().is_some_and(wrong);
        refuse_if(wrong, Refusal::WrongKey, "the project_key does not match")
    }

    /// The version rule, with `from`, `any_version`, `any_core` and `allow_downgrade` (docs/decision.md "Version
    /// order").
    fn version(&self, release: &'c Release, notes: &mut Notes) -> RuleResult<'c> {
        let Some(standing) = self.standing(release) else {
            return self.text_version(release);
        };
        notes.add(Some(release), || {
            let word = match standing {
                Standing::Newer => "newer than",
                Standing::Same => "the same as",
                Standing::Older => "not newer than",
                Standing::CoreUnknown => "newer, but for a core that the module did not send, than",
            };
            let running = &self.check.version;
            format!("{} is {word} {running}", release.version_text)
        });
        let rules = &*release.rules;
        match standing {
            Standing::Newer => {}
            Standing::CoreUnknown if rules.any_core == Some(true) => {}
            // `fitting` excludes all packages except core deltas later.
            Standing::CoreUnknown if self.is_named_by_from(release) => {}
            Standing::CoreUnknown => return refuse(Refusal::NoPackage, CORE_UNKNOWN),
            Standing::Older if rules.allow_downgrade == Some(true) => {}
            Standing::Same | Standing::Older => return refuse(Refusal::NothingNewer, "not newer"),
        }
        match &rules.from {
            Some(from) if !self.runs_one_of(from) => {
                refuse(Refusal::NotThisDevice, "its version is not in from")
            }
            _ => Ok(()),
        }
    }

    /// The version rule for a version without an order. Such a device passes only with its text in `from`, or by
    /// `any_version`.
    fn text_version(&self, release: &'c Release) -> RuleResult<'c> {
        let running = &*self.check.version;
        if running.is_empty() {
            return refuse(Refusal::VersionUnreadable, "the module sent no version");
        }
        if running == &*release.version_text {
            return refuse(Refusal::NothingNewer, "the same text");
        }
        match &release.rules.from {
            Some(FromVersions::Texts(texts)) if texts.iter().any(|text| text == running) => Ok(()),
            Some(_) => refuse(Refusal::NotThisDevice, "its version is not in from"),
            None if release.rules.any_version == Some(true) => Ok(()),
            None => refuse(
                Refusal::VersionUnreadable,
                "its version is not numbers with dots (from, any_version)",
            ),
        }
    }

    fn firmware_name(&self, release: &'c Release, _: &mut Notes) -> RuleResult<'c> {
        let name = self.check.firmware_name.as_deref().unwrap_or_default();
        let names = release.rules.firmware_name.as_ref();
        let missing = names.is_some_and(|names| !names.iter().any(|one| one == name));
        let rule = "its firmware_name is not in the rule";
        refuse_if(missing, Refusal::NotThisDevice, rule)
    }

    fn deny(&self, release: &'c Release, notes: &mut Notes) -> RuleResult<'c> {
        let deny = release.rules.deny.as_ref();
        let denied = deny.is_some_and(|deny| self.is_true(DeviceFact::Listed(SharedList(deny))));
        self.note_group(release, deny, notes);
        refuse_if(denied, Refusal::NotThisDevice, "it is in deny")
    }

    fn allow(&self, release: &'c Release, notes: &mut Notes) -> RuleResult<'c> {
        let allow = release.rules.allow.as_ref();
        self.note_group(release, allow, notes);
        let missing =
            allow.is_some_and(|allow| !self.is_true(DeviceFact::Listed(SharedList(allow))));
        refuse_if(missing, Refusal::NotThisDevice, "it is not in allow")
    }

    /// Notes the group by which the device is in the list.
    fn note_group(&self, release: &'c Release, list: Option<&DeviceSet>, notes: &mut Notes) {
        let group = || list?.group_of(self.check.device?);
        if notes.are_collected()
            && let Some(group) = group()
        {
            notes.add(Some(release), || format!("it is in the group @{group}"));
        }
    }

    fn paused(&self, release: &'c Release, _: &Package) -> RuleResult<'c> {
        match &release.rules.paused {
            None | Some(Paused::No) => Ok(()),
            Some(Paused::Yes) => refuse(Refusal::NotNow, "paused"),
            Some(Paused::Because(why)) => {
                let ignored = why.starts_with(FUSE) && self.is_true(DeviceFact::MayTryFused);
                refuse_if(!ignored, Refusal::NotNow, why)
            }
        }
    }

    fn fuse(&self, release: &'c Release, _: &Package) -> RuleResult<'c> {
        let is_fused = |fused: &Fused| fused.is_for(self.project, release);
        let fused = self.question.known.fused.iter().any(is_fused)
            && !self.is_true(DeviceFact::MayTryFused);
        let rule = "fuse: too many devices reverted";
        refuse_if(fused, Refusal::NotNow, rule)
    }

    fn not_before(&self, release: &'c Release, _: &Package) -> RuleResult<'c> {
        let moment = release.rules.not_before;
        let early = moment.is_some_and(|moment| self.question.unix < moment);
        refuse_if(early, Refusal::NotNow, "it is earlier than not_before")
    }

    fn reboot_within(&self, release: &'c Release, package: &Package) -> RuleResult<'c> {
        let content = package.content;
        let within = release.rules.reboot_within;
        let waits =
            within.is_some_and(|within| self.is_true(DeviceFact::Fetched { content, within }));
        let rule = "waiting to reboot: it has this release already (reboot_within)";
        refuse_if(waits, Refusal::NotNow, rule).map_err(Rejection::stop_here)
    }

    fn loop_guard(&self, release: &'c Release, package: &Package) -> RuleResult<'c> {
        let content = package.content;
        let named = self.is_named_by_allow(release);
        let held = self.is_true(DeviceFact::Held { content, named });
        refuse_if(held, Refusal::Looping, HELD_RULE).map_err(Rejection::stop_here)
    }

    /// The rule `window`. An imagined check passes, because a closed window opens again: a window does not keep a
    /// release from undoing a downgrade.
    fn window(&self, release: &'c Release, _: &Package) -> RuleResult<'c> {
        let closed = |window: Window| !self.hypothetical && !window.contains(self.question.unix);
        let closed = release.rules.window.is_some_and(closed);
        refuse_if(closed, Refusal::NotNow, "outside its window").map_err(Rejection::stop_here)
    }

    /// Returns the percent of the devices that may have the package now; `None`: all devices.
    fn percent_of(&self, release: &Release, package: &Package) -> Option<f64> {
        let all = self.question.known.reached;
        let reached = || reached_by(all, &self.project.name, release, package.content);
        percent_in_force(
            &release.rules,
            release.rules.stages.as_ref().and_then(|_| reached()),
        )
    }

    /// The rule `percent`: the cohort of the rollout. A device without an id is in the cohort only at 100 percent.
    fn percent(&self, release: &'c Release, package: &Package) -> RuleResult<'c> {
        let percent = self.percent_of(release, package);
        let in_rollout = percent.is_none_or(|percent| {
            let cohort = DeviceFact::Cohort {
                project: &self.project.name,
                version: release.version,
                percent,
            };
            self.is_named_by_allow(release) || self.is_true(cohort)
        });
        let rule = "not in the percent that may have it yet";
        refuse_if(!in_rollout, Refusal::NotNow, rule).map_err(Rejection::stop_here)
    }
}

fn refuse(refusal: Refusal, rule: &str) -> RuleResult<'_> {
    Err(Rejection::new(refusal, rule))
}

fn refuse_if(condition: bool, refusal: Refusal, rule: &str) -> RuleResult<'_> {
    match condition {
        true => refuse(refusal, rule),
        false => Ok(()),
    }
}
