//! Releases: what is in the folder, for whom, and how far their devices have come; and what is not
//! served.

use std::io::Read;
use std::path::PathBuf;

use http_types::StatusCode;
use serde_json::{Map, Value};

use super::{limit, object, or_null};
use crate::decision::{FUSE, Fused};
use crate::firmware::catalog::{Package, Project, Release};
use crate::firmware::name::{self, RulesPlace};
use crate::firmware::rules::Paused;
use crate::firmware::rules::edit::tag_of;
use crate::firmware::version::Version;
use crate::firmware::words;
use crate::fleet::Fleet;
use crate::fleet::journey::State;
use crate::logging::Civil;
use crate::operator::aside::aside;
use crate::operator::head::Asked;
use crate::operator::reply::Reply;
use crate::operator::{Desk, unix_now};
use crate::os::fs::Folder;

/// Of a rules file that is longer than this, a list shows none of the rules: it may have a hundred
/// thousand devices in it.
const SHOWN: usize = 64 * 1024;

/// The longest rules file.
const LONGEST: u64 = 16 << 20;

/// `?project=&after=&limit=`
pub(super) async fn list(desk: &Desk, asked: &Asked) -> Reply {
    let limit = match limit(asked, 100, 500) {
        Ok(limit) => limit,
        Err(reply) => return reply,
    };
    let catalog = (desk.catalog)();
    let wanted = asked.target.asked("project");
    let after = asked.target.asked("after").and_then(|after| {
        let (project, version) = after.rsplit_once('/')?;
        Some((project, Version::parse(version)?))
    });
    if after.is_none() && asked.target.asked("after").is_some() {
        return Reply::problem(
            StatusCode::BadRequest,
            "after must be what a page before said in next",
        );
    }
    let all = catalog
        .projects()
        .iter()
        .filter(|project| wanted.is_none_or(|wanted| wanted == &*project.name))
        .flat_map(|project| {
            project
                .releases
                .iter()
                .map(move |release| (project, release))
        })
        // Releases come newest first.
        .filter(|(project, release)| {
            after.is_none_or(|(name, version)| (&*project.name, version) > (name, release.version))
        });
    let mut page: Vec<(&Project, &Release)> = all.take(limit.saturating_add(1)).collect();
    let more = page.len() > limit;
    page.truncate(limit);
    let next = match page.last() {
        Some((project, release)) if more => {
            Value::from(format!("{}/{}", project.name, release.version_text))
        }
        _ => Value::Null,
    };
    let shown = show(desk, &page).await;
    match shown {
        Ok(shown) => Reply::json(&object([("releases", shown.into()), ("next", next)])),
        Err(busy) => busy,
    }
}

/// These releases with their own rules, which are read from the disk.
pub(super) async fn show(
    desk: &Desk,
    releases: &[(&Project, &Release)],
) -> Result<Vec<Value>, Reply> {
    let places: Vec<Vec<String>> = releases
        .iter()
        .map(|(project, release)| rules_paths(project, release))
        .collect();
    let rules = read_all(desk.folder.clone(), places).await?;
    let fleet = desk.fleet.borrow();
    let now = unix_now();
    Ok(releases
        .iter()
        .zip(rules)
        .map(|((project, release), rules)| one(project, release, rules, &fleet, now))
        .collect())
}

/// What a person wrote about a release.
struct Own {
    rules: Value,
    etag: String,
}

/// Reads, of each list, the first file that is there.
async fn read_all(folder: PathBuf, places: Vec<Vec<String>>) -> Result<Vec<Own>, Reply> {
    aside(move || {
        let folder = Folder::open(&folder).ok();
        places
            .iter()
            .map(|paths| {
                let folder = folder.as_ref();
                let found = paths.iter().find_map(|path| read(folder?, path));
                match found {
                    None => Own {
                        rules: Value::Object(Map::new()),
                        etag: String::new(),
                    },
                    Some(bytes) => Own {
                        etag: super::rules::etag(tag_of(&bytes)),
                        rules: parsed(&bytes),
                    },
                }
            })
            .collect()
    })
    .await
}

/// The bytes of a file beneath the folder; `None` if there is none that can be read.
pub(super) fn read(folder: &Folder, path: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = folder.open_file(path).ok()?;
    file.take(LONGEST).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// The rules as they are written; `null` if they are too long to be shown, or no object.
fn parsed(bytes: &[u8]) -> Value {
    if bytes.len() > SHOWN {
        return Value::Null;
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(rules)) => Value::Object(rules),
        _ => Value::Null,
    }
}

/// Where a release's own release.json may lie, the likeliest place first.
fn rules_paths(project: &Project, release: &Release) -> Vec<String> {
    let mut paths: Vec<String> = Vec::new();
    let beside = release.packages.iter().filter_map(|package| {
        let (folder, _) = package.path.rsplit_once('/')?;
        // A core's folder lies in the release's.
        Some([
            Some(folder),
            folder.rsplit_once('/').map(|(above, _)| above),
        ])
    });
    let folders = beside.flatten().flatten().map(str::to_owned);
    let usual = format!("{}/{}", project.name, release.version_text);
    for folder in folders.chain([usual]) {
        let path = format!("{folder}/release.json");
        let own = RulesPlace::Release(&project.name, release.version);
        if name::rules_place(&path) == Ok(own) && !paths.contains(&path) {
            paths.push(path);
        }
    }
    paths
}

fn one(project: &Project, release: &Release, own: Own, fleet: &Fleet, now: i64) -> Value {
    let (state, reason) = state(project, release, fleet.fused(), now);
    let counts = fleet.counts(&project.name, &release.version_text);
    let counts: Map<String, Value> = State::ALL
        .into_iter()
        .map(|state| (state.word().to_owned(), counts.of(state).into()))
        .collect();
    let packages: Vec<Value> = release.packages.iter().map(package).collect();
    let mut whom = vec![words::whom(release)];
    whom.extend(words::rules(release));
    object([
        ("project", project.name.as_ref().into()),
        ("version", release.version_text.as_ref().into()),
        ("state", state.into()),
        ("reason", or_null(reason)),
        ("percent", or_null(release.rules.percent)),
        ("for", whom.into()),
        ("packages", packages.into()),
        ("counts", counts.into()),
        ("devices", fleet.devices_of(&project.name).into()),
        ("unknown", or_null(fleet.unknown(&project.name))),
        ("rules", own.rules),
        ("rules_etag", own.etag.into()),
    ])
}

fn package(package: &Package) -> Value {
    object([
        ("path", package.path.as_ref().into()),
        ("platform", or_null(package.platform.as_deref())),
        ("base_core", or_null(package.base_core)),
        ("size", package.size.into()),
        ("sha256", package.content.to_string().into()),
        ("kind", package.kind.label().into()),
    ])
}

/// What becomes of a release now, in a word, and why. `fused`: the pauses that release.json does not say.
pub(in crate::operator) fn state(
    project: &Project,
    release: &Release,
    fused: &[Fused],
    now: i64,
) -> (&'static str, Option<String>) {
    let rules = &release.rules;
    if let Some(why) = &release.held_back {
        return ("held_back", Some(why.to_string()));
    }
    match &rules.paused {
        Some(Paused::Yes) => return ("paused", None),
        Some(Paused::Because(why)) if why.starts_with(FUSE) => {
            return ("fused", Some(why.clone()));
        }
        Some(Paused::Because(why)) => return ("paused", Some(why.clone())),
        Some(Paused::No) | None => {}
    }
    if let Some(kept) = fused.iter().find(|fused| fused.is(project, release)) {
        return ("fused", Some(kept.kept_reason()));
    }
    if let Some(moment) = rules.not_before.filter(|moment| now < *moment) {
        let moment = Civil::of(u64::try_from(moment).unwrap_or_default());
        return ("scheduled", Some(format!("not before {moment}Z")));
    }
    if let Some(window) = rules.window.filter(|window| !window.contains(now)) {
        return ("windowed", Some(format!("only {}", words::daily(&window))));
    }
    match rules.percent {
        Some(percent) if percent < 100.0 => (
            "rolling_out",
            Some(format!("{percent} percent of the devices")),
        ),
        _ => ("live", None),
    }
}
