//! Warnings about files that are served but look like a mistake.

use std::collections::BTreeSet;

use super::{Package, Project, Release, Remark, ScannedGroup, ScannedRules};
use crate::firmware::audience::DeviceSet;
use crate::firmware::name::Marker;
use crate::firmware::package::ChipFamily;

/// Number of bytes for which a 2G module has room on its smaller cores (docs/protocol.md 5b).
const MOST_ON_2G: u64 = 800_000;

/// Number of bytes in 65535 packets of 1022 bytes (docs/protocol.md 6). A larger file is not offered over UDP.
const MAX_IN_PACKETS: u64 = 65_535 * 1022;

/// Warns of platforms that no module reports, because their name in the file name has a suffix that is no build stamp.
pub(super) fn about_platforms<'p>(
    packages: impl Iterator<Item = (Option<Marker>, &'p Package)>,
    warnings: &mut Vec<Remark>,
) {
    let is_added = |marker: Marker, platform: &str| match platform.rsplit_once('_') {
        // Platform names of LuatOS-SoC contain no `_`; others do (`RDA8910_TTS`).
        Some(_) if marker == Marker::SoC => true,
        Some((_, last)) => {
            let words = ["FOTA", "OTA", "DFOTA", "UPDATE"];
            let is_number = last.len() >= 8 && last.bytes().all(|byte| byte.is_ascii_digit());
            is_number || words.iter().any(|word| last.eq_ignore_ascii_case(word))
        }
        None => false,
    };
    for (marker, package) in packages {
        if let (Some(marker), Some(platform)) = (marker, &package.platform)
            && is_added(marker, platform)
        {
            warnings.push(Remark::new(
                &*package.path,
                format!(
                    "is for the platform `{platform}`, and only a module that reports this platform gets it: \
                     remove the part after the platform from the file name"
                ),
            ));
        }
    }
}

/// Warns of entries of `allow` and `deny` that no device can match.
pub(super) fn about_rules(found: &[ScannedRules], warnings: &mut Vec<Remark>) {
    for ScannedRules { path, rules, .. } in found {
        let Some(rules) = rules else { continue };
        for (name, list) in [("allow", &rules.allow), ("deny", &rules.deny)] {
            for (entry, digits) in list.iter().flat_map(DeviceSet::suspicious) {
                warnings.push(about_entry(path, &format!("`{entry}` in {name}"), digits));
            }
        }
    }
}

/// Warns of entries of groups that no device can match.
pub(super) fn about_groups(found: &[ScannedGroup], warnings: &mut Vec<Remark>) {
    for ScannedGroup { path, group } in found {
        let devices = group.iter().flat_map(|group| group.devices.suspicious());
        let all = devices.map(|(entry, digits)| about_entry(path, &format!("`{entry}`"), digits));
        warnings.extend(all);
    }
}

fn about_entry(path: &str, entry: &str, digits: usize) -> Remark {
    let text = format!("{entry} has {digits} digits: an IMEI has 15, so one is missing or extra");
    Remark::new(path, text)
}

/// Warns of folders and files whose names are decomposed Unicode, such as `é` as `e` and an accent, as macOS writes it.
/// Modules and other computers encode the same name in other bytes.
pub(super) fn about_unicode<'p>(paths: impl Iterator<Item = &'p str>, warnings: &mut Vec<Remark>) {
    let mut decomposed = BTreeSet::new();
    for path in paths.filter(|path| !path.is_ascii()) {
        let Some(at) = path.find(is_combining) else {
            continue;
        };
        let end = path.get(at..).and_then(|rest| rest.find('/'));
        let end = end.map_or(path.len(), |end| at.saturating_add(end));
        decomposed.extend(path.get(..end));
    }
    warnings.extend(decomposed.into_iter().map(|path| {
        Remark::new(
            path,
            "its name is decomposed Unicode, as macOS writes it: no module asks for a project of this name. \
             Rename it on another computer, or type the name again",
        )
    }));
}

/// Whether a character is joined with the preceding one in composed Unicode: an accent, a voiced sound mark of kana, or
/// the vowel or final consonant of a Hangul syllable.
fn is_combining(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36f}' | '\u{3099}' | '\u{309a}' | '\u{1161}'..='\u{11ff}')
}

/// Warns of packages that are served but look like a mistake.
pub(super) fn about_packages(project: &Project, luatos: bool, warnings: &mut Vec<Remark>) {
    let name = &project.name;
    let releases = project.releases.iter();
    let mut packages: Vec<(&Release, &Package)> = releases
        .flat_map(|release| release.packages.iter().map(move |p| (release, p)))
        .collect();
    packages.sort_by_key(|(_, package)| package.content);
    for twins in packages.chunk_by(|(_, a), (_, b)| a.content == b.content) {
        let Some((newest, _)) = twins.first() else {
            continue;
        };
        for (_, package) in twins.iter().filter(|(r, _)| r.version != newest.version) {
            warnings.push(Remark::new(
                &*package.path,
                format!(
                    "has the same bytes as release {} of {name}: was VERSION raised in the script? A \
                     module that comes back with its old version asks again endlessly",
                    newest.version_text
                ),
            ));
        }
    }
    for (_, package) in packages {
        let size = package.size;
        let platform = package.platform.as_deref();
        let family = platform.and_then(ChipFamily::of_platform);
        let mut warn = |text: String| warnings.push(Remark::new(&*package.path, text));
        if let Some(text) = package.kind.missing_header(platform) {
            warn(text);
        }
        if family == Some(ChipFamily::Rda8955) && size > MOST_ON_2G {
            warn(format!(
                "has {size} bytes: a 2G module has room for 132 to 860 kB, depending on its core"
            ));
        }
        if size > MAX_IN_PACKETS {
            warn(format!(
                "has {size} bytes: over UDP, which carries {MAX_IN_PACKETS} at most, it is not offered"
            ));
        }
    }
    if !luatos {
        return;
    }
    let newer = project.by_script();
    for (other, release) in newer.zip(project.by_script().skip(1)) {
        if other.version.without_middle() == release.version.without_middle() {
            let [_, middle, ..] = release.version.fields();
            warnings.push(Remark::new(
                format!("{name}/{}", release.version_text),
                format!(
                    "differs from release {} only in its middle number ({middle}), which LuatOS modules \
                     do not send: to them, the two are the same",
                    other.version_text
                ),
            ));
        }
    }
}
