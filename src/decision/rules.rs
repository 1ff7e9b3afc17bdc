//! The rules that a release has to pass, in order. The first that refuses decides which refusal the device gets.

use super::check::Check;
use super::evaluation::Evaluation;
use super::known::FUSE;
use super::package::{CORE_UNSAID, fitting};
use super::refusal::Refusal;
use super::verdict::Notes;
use crate::firmware::audience::cohort;
use crate::firmware::catalog::{Package, Release};
use crate::firmware::rules::{From, Paused};
use crate::firmware::version::Standing;

/// A rule on a release and the device.
type DeviceRule = for<'c> fn(&Evaluation<'c, '_>, &'c Release, &mut Notes) -> RuleResult<'c>;

/// A rule on the package that [`fitting`] chose.
type PackageRule = for<'c> fn(&Evaluation<'c, '_>, &'c Release, &Package) -> RuleResult<'c>;

type RuleResult<'c> = Result<(), Rejection<'c>>;

/// Rules on who may have the release, in order; they precede [`fitting`].
const WHO: [DeviceRule; 6] = [held_back, project_key, version, firmware_name, deny, allow];

/// Rules on when the device may have the package, in order; they follow [`fitting`].
const WHEN: [PackageRule; 7] = [
    paused,
    fuse,
    not_before,
    reboot_within,
    loop_guard,
    window,
    percent,
];

/// The refusal of a content that the loop guard holds back from the device.
pub const HELD: &str = "held: it got this again and again and came back as before";

/// The refusal of one release by one rule.
pub(super) struct Rejection<'c> {
    pub refusal: Refusal,
    /// The rule, in a few words.
    pub rule: &'c str,
    /// Older releases are not considered either.
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
}

/// The package of this release that the device may have now.
pub(super) fn package_of<'c>(
    device: &Evaluation<'c, '_>,
    release: &'c Release,
    notes: &mut Notes,
) -> Result<&'c Package, Rejection<'c>> {
    let mut check = || {
        WHO.iter()
            .try_for_each(|rule| rule(device, release, notes))?;
        let package = fitting(device, release, notes)?;
        WHEN.iter()
            .try_for_each(|rule| rule(device, release, package))?;
        Ok(package)
    };
    let result: Result<_, Rejection<'c>> = check();
    if let Err(rejection) = &result {
        notes.add(Some(release), || {
            let then = match rejection.stops {
                true => "; older ones are not looked at",
                false => "",
            };
            format!("refused: {}{then}", rejection.rule)
        });
    }
    result
}

/// Whether this is a downgrade after which the next check would be offered a newer release, or one that precedes it
/// in the project's list; the device could then alternate for ever. So a downgrade is followed only by downgrades
/// further down that list, which ends.
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
        imagined: true,
        ..Evaluation::new(device.question, &check, device.project)
    };
    let mut precedes = true;
    device.project.releases.iter().any(|release| {
        precedes &= release.version != target.version;
        (precedes || later.standing(release) == Some(Standing::Newer))
            && package_of(&later, release, &mut Notes::off()).is_ok()
    })
}

fn held_back<'c>(_: &Evaluation<'c, '_>, release: &'c Release, _: &mut Notes) -> RuleResult<'c> {
    match &release.held_back {
        Some(why) => refuse(Refusal::NotNow, why),
        None => Ok(()),
    }
}

fn project_key<'c>(
    device: &Evaluation<'c, '_>,
    release: &'c Release,
    _: &mut Notes,
) -> RuleResult<'c> {
    match &release.rules.project_key {
        Some(key) if device.check.project_key.as_deref() != Some(key) => {
            refuse(Refusal::WrongKey, "the project_key is another")
        }
        _ => Ok(()),
    }
}

/// docs/decision.md "Version order", `from`, `any_version`, `any_core`, `allow_downgrade`.
fn version<'c>(
    device: &Evaluation<'c, '_>,
    release: &'c Release,
    notes: &mut Notes,
) -> RuleResult<'c> {
    let Some(standing) = device.standing(release) else {
        return text_version(device, release);
    };
    notes.add(Some(release), || {
        let word = match standing {
            Standing::Newer => "newer than",
            Standing::Same => "the same as",
            Standing::Older => "not newer than",
            Standing::CoreUnknown => "newer, but on a core that the module did not say, than",
        };
        let running = &device.check.version;
        format!("{} is {word} {running}", release.version_text)
    });
    let rules = &*release.rules;
    match standing {
        Standing::Newer => {}
        Standing::CoreUnknown if rules.any_core == Some(true) => {}
        // A package without a core is excluded later.
        Standing::CoreUnknown if device.is_named_by_from(release) => {}
        Standing::CoreUnknown => return refuse(Refusal::NoPackage, CORE_UNSAID),
        Standing::Older if rules.allow_downgrade == Some(true) => {}
        Standing::Same | Standing::Older => return refuse(Refusal::NothingNewer, "not newer"),
    }
    match &rules.from {
        Some(from) if !device.runs_one_of(from) => {
            refuse(Refusal::NotThisDevice, "its version is not in from")
        }
        _ => Ok(()),
    }
}

/// A version without an order: only its text in `from`, or `any_version`, lets it through.
fn text_version<'c>(device: &Evaluation<'c, '_>, release: &'c Release) -> RuleResult<'c> {
    let running = &*device.check.version;
    if running.is_empty() {
        return refuse(Refusal::VersionUnreadable, "the module said no version");
    }
    if running == &*release.version_text {
        return refuse(Refusal::NothingNewer, "the same text");
    }
    match &release.rules.from {
        Some(From::Texts(texts)) if texts.iter().any(|text| text == running) => Ok(()),
        Some(_) => refuse(Refusal::NotThisDevice, "its version is not in from"),
        None if release.rules.any_version == Some(true) => Ok(()),
        None => refuse(
            Refusal::VersionUnreadable,
            "its version is not a number between dots (from, any_version)",
        ),
    }
}

fn firmware_name<'c>(
    device: &Evaluation<'c, '_>,
    release: &'c Release,
    _: &mut Notes,
) -> RuleResult<'c> {
    let name = device.check.firmware_name.as_deref().unwrap_or_default();
    match &release.rules.firmware_name {
        Some(names) if !names.iter().any(|one| one == name) => refuse(
            Refusal::NotThisDevice,
            "its firmware_name is not in the rule",
        ),
        _ => Ok(()),
    }
}

fn deny<'c>(device: &Evaluation<'c, '_>, release: &'c Release, _: &mut Notes) -> RuleResult<'c> {
    match (&release.rules.deny, device.check.device) {
        (Some(deny), Some(id)) if deny.contains(id) => {
            refuse(Refusal::NotThisDevice, "it is in deny")
        }
        _ => Ok(()),
    }
}

fn allow<'c>(device: &Evaluation<'c, '_>, release: &'c Release, _: &mut Notes) -> RuleResult<'c> {
    match &release.rules.allow {
        Some(allow) if !device.check.device.is_some_and(|id| allow.contains(id)) => {
            refuse(Refusal::NotThisDevice, "it is not in allow")
        }
        _ => Ok(()),
    }
}

fn paused<'c>(device: &Evaluation<'c, '_>, release: &'c Release, _: &Package) -> RuleResult<'c> {
    match &release.rules.paused {
        None | Some(Paused::No) => Ok(()),
        Some(Paused::Yes) => refuse(Refusal::NotNow, "paused"),
        Some(Paused::Because(why)) if is_trial(device) && why.starts_with(FUSE) => Ok(()),
        Some(Paused::Because(why)) => refuse(Refusal::NotNow, why),
    }
}

fn fuse<'c>(device: &Evaluation<'c, '_>, release: &'c Release, _: &Package) -> RuleResult<'c> {
    let mut fused = device.question.known.fused.iter();
    if !is_trial(device) && fused.any(|fused| fused.is(device.project, release)) {
        return refuse(Refusal::NotNow, "fuse: too many devices came back with it");
    }
    Ok(())
}

fn is_trial(device: &Evaluation<'_, '_>) -> bool {
    device.question.known.trial
}

fn not_before<'c>(
    device: &Evaluation<'c, '_>,
    release: &'c Release,
    _: &Package,
) -> RuleResult<'c> {
    match release.rules.not_before {
        Some(moment) if device.question.unix < moment => {
            refuse(Refusal::NotNow, "not_before is still to come")
        }
        _ => Ok(()),
    }
}

fn reboot_within<'c>(
    device: &Evaluation<'c, '_>,
    release: &'c Release,
    package: &Package,
) -> RuleResult<'c> {
    match (release.rules.reboot_within, device.question.known.fetched) {
        (Some(within), Some(fetched))
            if fetched.content == package.content && fetched.seconds < within =>
        {
            refuse_and_stop(
                Refusal::NotNow,
                "waiting to reboot: it has this release already (reboot_within)",
            )
        }
        _ => Ok(()),
    }
}

fn loop_guard<'c>(
    device: &Evaluation<'c, '_>,
    release: &'c Release,
    package: &Package,
) -> RuleResult<'c> {
    let named = device.is_named_by_allow(release);
    match device
        .question
        .known
        .looping
        .contains(package.content, named)
    {
        true => refuse_and_stop(Refusal::Looping, HELD),
        false => Ok(()),
    }
}

/// A window opens again, so it does not keep a release from undoing a downgrade.
fn window<'c>(device: &Evaluation<'c, '_>, release: &'c Release, _: &Package) -> RuleResult<'c> {
    match release.rules.window {
        Some(window) if !device.imagined && !window.contains(device.question.unix) => {
            refuse_and_stop(Refusal::NotNow, "outside its window")
        }
        _ => Ok(()),
    }
}

/// The cohort of the rollout. A device without an id is in it only at 100 percent.
fn percent<'c>(device: &Evaluation<'c, '_>, release: &'c Release, _: &Package) -> RuleResult<'c> {
    let in_rollout = match (release.rules.percent, device.check.device) {
        (None, _) => true,
        (Some(percent), None) => percent >= 100.0,
        (Some(percent), Some(id)) => {
            let place = cohort(&device.project.name, release.version, id);
            device.is_named_by_allow(release) || f64::from(place) < percent * 100.0
        }
    };
    match in_rollout {
        true => Ok(()),
        false => refuse_and_stop(
            Refusal::NotNow,
            "not among the percent that may have it yet",
        ),
    }
}

fn refuse(refusal: Refusal, rule: &str) -> RuleResult<'_> {
    Err(Rejection::new(refusal, rule))
}

fn refuse_and_stop(refusal: Refusal, rule: &str) -> RuleResult<'_> {
    Err(Rejection {
        stops: true,
        ..Rejection::new(refusal, rule)
    })
}
