//! Chooses the package of a release that fits a device (docs/decision.md "Package and core").

use super::evaluation::Evaluation;
use super::refusal::Refusal;
use super::verdict::{Notes, Rejection};
use crate::firmware::catalog::{Package, Release};

/// The refusal of a core-specific release to a module that does not report its core; names both remedies.
pub const CORE_UNKNOWN: &str = "it is for one core, but the module sends no core: let it send \
    firmware_name and version as libfota2 does, or set any_core";

/// The refusal of platform-specific files to a module that does not report its platform.
const PLATFORM_UNKNOWN: &str = "each of its files is for one platform, and the module does not send its \
    platform in firmware_name";

/// Returns the smallest package for the device's exact platform, or, if there is none, the smallest package for every
/// module. Fails if no package fits.
pub(super) fn fitting<'c>(
    device: &Evaluation<'c, '_>,
    release: &'c Release,
    notes: &mut Notes,
) -> Result<&'c Package, Rejection<'c>> {
    let mut rule = match device.platform {
        Some(_) => "no package for its platform",
        None => PLATFORM_UNKNOWN,
    };
    let only = only_platform(device, release);
    for exact in [true, false] {
        let mut best: Option<&Package> = None;
        for package in &release.packages {
            let is_for_device = match (&package.platform, device.platform) {
                (None, _) => !exact,
                (Some(wanted), Some(said)) => exact && wanted.eq_ignore_ascii_case(said),
                (Some(_), None) => exact && only,
            };
            if !is_for_device {
                continue;
            }
            match fits(device, release, package) {
                Ok(()) if best.is_none_or(|best| package.size < best.size) => {
                    best = Some(package);
                }
                Ok(()) => {}
                Err(why) => {
                    notes.add(Some(release), || format!("{}: {why}", package.path));
                    rule = why;
                }
            }
        }
        if let Some(package) = best {
            return Ok(package);
        }
    }
    Err(Rejection::new(Refusal::NoPackage, rule))
}

/// Whether the module reports no platform but may have a platform-specific file: with `any_core`, if all files of the
/// release are for the same platform.
fn only_platform(device: &Evaluation<'_, '_>, release: &Release) -> bool {
    let mut platforms = release.packages.iter().map(|p| p.platform.as_deref());
    let first = platforms.next().flatten();
    device.platform.is_none()
        && release.rules.any_core == Some(true)
        && first.is_some_and(|first| {
            platforms.all(|other| other.is_some_and(|other| other.eq_ignore_ascii_case(first)))
        })
}

fn fits(
    device: &Evaluation<'_, '_>,
    release: &Release,
    package: &Package,
) -> Result<(), &'static str> {
    if !package.kind.fits(device.family()) {
        return Err("the package is for another kind of chip");
    }
    let largest = device.check.largest;
    if largest.is_some_and(|largest| package.size > largest) {
        return Err("the file is too large for UDP; it is offered over HTTP");
    }
    let core = device.core;
    if let Some(base) = package.base_core {
        return match core {
            Some(core) if core == base => Ok(()),
            Some(_) => Err("the core delta was made from another core"),
            // An exact `from` implies the base core.
            None if device.is_named_by_from(release) => Ok(()),
            None => Err(
                "the core delta fits only one core, and the module did not send its core version",
            ),
        };
    }
    let (running, Some(named)) = device.forms(release.version) else {
        return Ok(());
    };
    // The version rule has excluded a higher core of the module.
    if core == Some(named.core) || (core.is_some() && device.brings_core(package)) {
        return Ok(());
    }
    if release.rules.any_core != Some(true) {
        return Err(match core {
            Some(_) => "a script package fits only the same core (any_core)",
            None => CORE_UNKNOWN,
        });
    }
    match running {
        // A script package does not change the core, so the release would be offered at every check.
        Some(running) if running.cmp_script(&named).is_ge() => {
            Err("it contains only the script, and the module's script is as new")
        }
        _ => Ok(()),
    }
}
