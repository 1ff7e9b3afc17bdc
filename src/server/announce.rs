//! Log lines on the served releases and their audience: all at the start, then the changes. Also the notices about
//! files and rules that changed. The watcher logs single files.

use std::net::SocketAddr;
use std::sync::Arc;

use super::reachability;
use crate::decision::FUSE;
use crate::firmware::catalog::{Catalog, Package, Project, Release, Remark};
use crate::firmware::rules::Paused;
use crate::firmware::words;
use crate::fleet::notices::{Notice, NoticeKind};
use crate::os::net;

/// Maximum number of releases logged at a time. `luat-ota check` shows the rest.
const MAX_LOGGED: usize = 20;

/// Maximum number of quarantined files for which notices are raised at a time.
const MAX_QUARANTINED: usize = 40;

/// Logs the listeners, with a warning if no module can reach them.
pub(super) fn log_listeners(listeners: &[(&'static str, SocketAddr)]) {
    for (protocol, address) in listeners {
        log::info!(target: "listen", proto = *protocol, address:% = address; "");
    }
    let addresses: Vec<SocketAddr> = listeners.iter().map(|&(_, address)| address).collect();
    // The kernel is asked only if the answer matters. (Under qemu-user for the other byte order, the C library never
    // finishes: the last word of a list of interfaces has the wrong byte order.)
    let own = match addresses
        .iter()
        .any(|a| a.ip().to_canonical().is_unspecified())
    {
        true => net::own_addresses(),
        false => Vec::new(),
    };
    if let Some(sentence) = reachability::warning(&addresses, &own) {
        log::warn!(target: "listen", "{sentence}");
    }
}

/// Logs the first catalogue.
pub(super) fn log_catalog(catalog: &Catalog) {
    log::info!(
        target: "folder",
        projects = catalog.projects().len(), releases = catalog.release_count(),
        quarantined = catalog.quarantined.len(), waiting = catalog.waiting.len();
        "the firmware folder was scanned"
    );
    log_changes(&Catalog::default(), catalog);
    for notice in notices(&Catalog::default(), catalog) {
        notice.log();
    }
}

/// Logs releases that are new or have other files or other rules.
pub(super) fn log_changes(before: &Catalog, now: &Catalog) {
    let changed = changed(before, now);
    for &(project, release) in changed.iter().take(MAX_LOGGED) {
        let audience = audience(release);
        log::info!(
            target: "release",
            project = &*project.name, version = &*release.version_text,
            files = release.packages.len(), audience = audience.as_str();
            ""
        );
    }
    let more = changed.len().saturating_sub(MAX_LOGGED);
    if more > 0 {
        log::info!(target: "release", "and {more} more: `luat-ota check` lists them");
    }
}

/// Returns the notices about changes: files that are quarantined now, and pauses that people have ended. The fleet
/// raises the notices about the pauses of its fuse.
pub(super) fn notices(before: &Catalog, now: &Catalog) -> Vec<Notice> {
    let is_new = |remark: &&Remark| before.quarantined.binary_search(remark).is_err();
    let mut new = now.quarantined.iter().filter(is_new);
    let mut notices: Vec<Notice> = new
        .by_ref()
        .take(MAX_QUARANTINED)
        .map(quarantined)
        .collect();
    let more = new.count();
    if more > 0 {
        log::warn!(target: "firmware", "{more} more are quarantined: `luat-ota check` lists them");
    }
    for (project, release) in changed(before, now) {
        let old = earlier(before, project, release);
        if old.is_some_and(is_paused_by_person) && !is_paused(release) {
            let (project, version) = (&project.name, &release.version_text);
            notices.push(Notice::new(NoticeKind::Resumed, project, version, ""));
        }
    }
    notices
}

/// Returns the notice about a quarantined file. The first two folders of its path are usually project and version.
fn quarantined(remark: &Remark) -> Notice {
    let mut folders = remark.path.split('/');
    folders.next_back();
    let project = folders.next().unwrap_or_default();
    let version = folders.next().unwrap_or_default();
    let reason = format!("{}: {}", remark.path, remark.text);
    Notice::new(NoticeKind::Quarantined, project, version, &reason)
}

fn is_paused(release: &Release) -> bool {
    matches!(release.rules.paused, Some(Paused::Yes | Paused::Because(_)))
}

fn is_paused_by_person(release: &Release) -> bool {
    let by_fuse =
        matches!(&release.rules.paused, Some(Paused::Because(why)) if why.starts_with(FUSE));
    is_paused(release) && !by_fuse
}

/// Returns the release of the same version in an earlier catalogue.
fn earlier<'c>(before: &'c Catalog, project: &Project, release: &Release) -> Option<&'c Release> {
    let old = &before.project(&project.name)?.releases;
    // The newest releases come first.
    let at = old.binary_search_by(|old| release.version.cmp(&old.version));
    old.get(at.ok()?)
}

/// Returns releases that differ. Creates no text, because modules wait meanwhile.
fn changed<'c>(before: &Catalog, now: &'c Catalog) -> Vec<(&'c Project, &'c Release)> {
    let mut changed = Vec::new();
    for project in now.projects() {
        for release in &project.releases {
            let earlier = earlier(before, project, release);
            if !earlier.is_some_and(|earlier| is_same(earlier, release)) {
                changed.push((project, release));
            }
        }
    }
    changed
}

/// Whether the log lines of both releases would be the same.
fn is_same(old: &Release, new: &Release) -> bool {
    let files = |(old, new): (&Package, &Package)| {
        (old.content, &old.platform) == (new.content, &new.platform)
    };
    // Most releases share the rules of their project, and long lists of devices are slow to compare.
    (Arc::ptr_eq(&old.rules, &new.rules) || old.rules == new.rules)
        && old.held_back.is_some() == new.held_back.is_some()
        && old.version_text == new.version_text
        && old.packages.len() == new.packages.len()
        && old.packages.iter().zip(&new.packages).all(files)
}

/// Describes the modules that a release is for.
fn audience(release: &Release) -> String {
    let (audience, rules) = (words::audience_text(release), words::rules(release));
    match rules.is_empty() {
        true => audience,
        false => format!("{audience}; {}", rules.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firmware::catalog::{ScanResult, sample};

    fn catalogue(files: &[(&str, u8)], rules: &str) -> Catalog {
        sample::catalogue(files, 1, ("A/1.0.0/release.json", rules))
    }

    fn versions(before: &Catalog, now: &Catalog) -> Vec<String> {
        let mut versions: Vec<String> = changed(before, now)
            .into_iter()
            .map(|(_, release)| release.version_text.to_string())
            .collect();
        versions.sort();
        versions
    }

    #[test]
    fn only_changed_releases_are_logged() {
        let two = [("A/1.0.0/u.bin", 1), ("A/1.0.1/u.bin", 2)];
        let first = catalogue(&two, "{}");
        assert_eq!(versions(&Catalog::default(), &first), ["1.0.0", "1.0.1"]);

        let same = catalogue(&two, "{}");
        assert!(versions(&first, &same).is_empty());

        let one_replaced = [("A/1.0.0/u.bin", 1), ("A/1.0.1/u.bin", 3)];
        let next = catalogue(&one_replaced, "{}");
        assert_eq!(versions(&same, &next), ["1.0.1"]);

        let paused = catalogue(&one_replaced, r#"{"paused": true}"#);
        assert_eq!(versions(&next, &paused), ["1.0.0"]);

        let gone = catalogue(&[], "{}");
        assert!(versions(&paused, &gone).is_empty());
    }

    #[test]
    fn only_the_end_of_a_pause_by_a_person_is_a_notice() {
        let with = |rules: &str| catalogue(&[("A/1.0.0/u.bin", 1)], rules);
        for (before, now, is_told) in [
            (r#"{"paused": true}"#, "{}", true),
            (r#"{"paused": "wait"}"#, r#"{"paused": false}"#, true),
            (r#"{"paused": "wait"}"#, r#"{"paused": true}"#, false),
            (r#"{"paused": "fuse: 3 of 9"}"#, "{}", false),
            ("{}", r#"{"percent": 5}"#, false),
        ] {
            let found = notices(&with(before), &with(now));
            let expected = Notice::new(NoticeKind::Resumed, "A", "1.0.0", "");
            let expected = is_told.then_some(expected);
            assert_eq!(found, Vec::from_iter(expected), "{before} {now}");
        }
    }

    #[test]
    fn each_quarantined_file_is_one_notice_up_to_the_limit() {
        let with = |paths: &[&str]| {
            let quarantined = paths.iter().map(|path| Remark::new(*path, "damaged"));
            Catalog::build(ScanResult {
                quarantined: quarantined.collect(),
                ..ScanResult::default()
            })
        };
        let one = with(&["P/1.0.0/a.bin"]);
        let found = notices(&Catalog::default(), &one);
        let expected = Notice::new(
            NoticeKind::Quarantined,
            "P",
            "1.0.0",
            "P/1.0.0/a.bin: damaged",
        );
        assert_eq!(found, [expected]);
        assert_eq!(notices(&one, &one), []);
        let two = with(&["P/1.0.0/a.bin", "b.soc"]);
        let expected = Notice::new(NoticeKind::Quarantined, "", "", "b.soc: damaged");
        assert_eq!(notices(&one, &two), [expected]);
        let names: Vec<String> = (0..100).map(|number| format!("{number}.soc")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(notices(&one, &with(&names)).len(), MAX_QUARANTINED);
    }
}
