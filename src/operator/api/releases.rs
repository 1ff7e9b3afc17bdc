//! `GET /api/v1/releases`: the releases of the folder, their rules, and the progress of their devices.

use std::io::Read;
use std::time::Instant;

use serde_json::{Map, Value, json};

use super::changes::known;
use crate::decision::{FUSE, percent_in_force, reached_by};
use crate::export::{self, Export, ExportFormat, RELEASE};
use crate::firmware::catalog::{Catalog, Package, Project, Release};
use crate::firmware::name::{self, RulesOwner};
use crate::firmware::rules::Paused;
use crate::firmware::rules::edit::tag_of;
use crate::firmware::version::Version;
use crate::firmware::words;
use crate::fleet::Fleet;
use crate::fleet::clock::unix_now;
use crate::fleet::devices::EstablishedWalk;
use crate::fleet::progress::State;
use crate::fleet::shared::SHARED_STATES;
use crate::logging::Civil;
use crate::operator::blocking::unblock;
use crate::operator::context::OperatorContext;
use crate::operator::head::RequestHead;
use crate::operator::response::{ApiResult, ExportedList, JSON, ListExport, Response, etag};
use crate::operator::slice::{SLOTS, Slice};
use crate::os::fs::Folder;

/// Length of the longest rules that a list shows, in bytes: rules may name a hundred thousand devices.
const SHOWN: usize = 64 * 1024;

/// Length of the longest rules file, in bytes.
const LONGEST: u64 = 16 << 20;

/// Number of releases whose rules are read from the disk together.
pub(super) const BATCH: usize = 32;

/// Returns a page of releases (`?project=&after=&limit=`), or the whole list (`format=`).
pub(super) async fn list(context: &OperatorContext, head: &RequestHead) -> ApiResult {
    let wanted = head.target.query("project");
    if let Some(format) = super::format(head)? {
        let list = ExportedList::Releases(wanted.map(str::to_owned));
        return Ok(ListExport::response(format, list));
    }
    let limit = super::limit(head)?;
    let after = super::after(head, |after| {
        let (project, version) = after.rsplit_once('/')?;
        Some((project, Version::parse(version)?))
    })?;
    let catalog = (context.catalog)();
    let mut page: Vec<(&Project, &Release)> = all(&catalog)
        .filter(|(project, _)| wanted.is_none_or(|wanted| wanted == &*project.name))
        .filter(|(project, release)| {
            after.is_none_or(|(name, version)| (&*project.name, version) > (name, release.version))
        })
        .take(limit + 1)
        .collect();
    let has_more = page.len() > limit;
    page.truncate(limit);
    let last = page.last().filter(|_| has_more);
    let next = last.map(|(project, release)| format!("{}/{}", project.name, release.version_text));
    let mut slice = Slice::begin();
    let projects = names(&catalog, wanted);
    let established = established(context, projects, &mut slice).await;
    let mut text = String::new();
    let mut rows = Export::new(ExportFormat::Json, "releases", RELEASE);
    rows.begin(&mut text);
    for batch in page.chunks(BATCH) {
        let row = |row: &Value| rows.row(&mut text, row);
        show(context, batch, &established, &mut slice, row).await?;
    }
    rows.end(&mut text, &[("next", next.into())]);
    Ok(Response::ok(JSON, text))
}

/// Returns the names of all projects, or of the wanted one.
pub(super) fn names<'a>(
    catalog: &'a Catalog,
    wanted: Option<&str>,
) -> impl Iterator<Item = &'a str> {
    let projects = catalog.projects().iter().map(|project| &*project.name);
    projects.filter(move |project| wanted.is_none_or(|wanted| wanted == *project))
}

/// Counts the established devices of some projects, for [`show`].
pub(super) async fn established<'p>(
    context: &OperatorContext,
    projects: impl Iterator<Item = &'p str>,
    slice: &mut Slice,
) -> EstablishedWalk {
    let mut walk = context.fleet.borrow().established_walk(projects);
    while !context.fleet.borrow().walk_established(&mut walk, SLOTS) {
        slice.pause_if_over().await;
    }
    walk
}

/// Returns all releases, sorted by project and from the newest to the oldest.
pub(super) fn all(catalog: &Catalog) -> impl Iterator<Item = (&Project, &Release)> {
    let projects = catalog.projects().iter();
    projects.flat_map(|project| {
        project
            .releases
            .iter()
            .map(move |release| (project, release))
    })
}

/// Calls `row` with each of these releases and its own rules, which are read from the disk. Fails if no thread can be
/// started.
pub(super) async fn show(
    context: &OperatorContext,
    releases: &[(&Project, &Release)],
    established: &EstablishedWalk,
    slice: &mut Slice,
    mut row: impl FnMut(&Value),
) -> ApiResult<()> {
    let paths = releases
        .iter()
        .map(|(project, release)| rules_paths(project, release));
    let paths: Vec<_> = paths.collect();
    let root = context.folder.clone();
    let rules = unblock(move || {
        let folder = Folder::open(&root).ok();
        let rules = |paths: &Vec<String>| {
            let found = paths.iter().find_map(|path| read(folder.as_ref()?, path));
            match found {
                Some(bytes) => (parsed(&bytes), etag(tag_of(&bytes))),
                None => (json!({}), String::new()),
            }
        };
        paths.iter().map(rules).collect::<Vec<_>>()
    })
    .await?;
    for ((project, release), rules) in releases.iter().zip(rules) {
        let shown = {
            let fleet = context.fleet.borrow();
            let unknown = fleet.few_established_after(established, &project.name);
            one(project, release, rules, unknown, &fleet, unix_now())
        };
        row(&shown);
        slice.pause_if_over().await;
    }
    Ok(())
}

/// Returns the bytes of a file in the folder; `None` if it cannot be read.
fn read(folder: &Folder, path: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = folder.open_file(path).ok()?;
    file.take(LONGEST).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// Returns the rules as they are written; `null` if they are too long to be shown, or not an object.
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

/// Returns the paths that a release's own release.json may have, the most likely first.
fn rules_paths(project: &Project, release: &Release) -> Vec<String> {
    let mut paths: Vec<String> = Vec::new();
    let beside = release.packages.iter().filter_map(|package| {
        let (folder, _) = package.path.rsplit_once('/')?;
        // The folder of a core is inside that of the release.
        Some([
            Some(folder),
            folder.rsplit_once('/').map(|(above, _)| above),
        ])
    });
    let folders = beside.flatten().flatten().map(str::to_owned);
    let usual = format!("{}/{}", project.name, release.version_text);
    for folder in folders.chain([usual]) {
        let path = format!("{folder}/release.json");
        let own = RulesOwner {
            project: &project.name,
            version: Some(release.version),
        };
        if name::rules_owner(&path) == Ok(own) && !paths.contains(&path) {
            paths.push(path);
        }
    }
    paths
}

/// Returns a release for the API. `rules`: its own rules and their entity tag. `unknown`: [`Fleet::few_established`].
fn one(
    project: &Project,
    release: &Release,
    (rules, etag): (Value, String),
    unknown: Option<String>,
    fleet: &Fleet,
    now: i64,
) -> Value {
    let (state, reason) = state(project, release, fleet, now);
    let counts = fleet.counts(&project.name, &release.version_text);
    let counts: Map<String, Value> = State::ALL
        .into_iter()
        .map(|state| (state.word().to_owned(), counts.of(state).into()))
        .collect();
    let shared = fleet.shared_counts(&project.name, &release.version_text);
    let shared = shared.map(|counts| {
        let counts = SHARED_STATES.map(|state| (state.word().to_owned(), counts.of(state).into()));
        Map::from_iter(counts)
    });
    let mut audience = vec![words::audience_text(release)];
    let conditions = words::conditions(release);
    audience.extend(conditions.iter().map(|(_, text)| text.clone()));
    let conditions: Value = conditions
        .into_iter()
        .map(|(key, text)| json!({ "key": key, "text": text }))
        .collect();
    let authors = fleet.authors(&project.name, &release.version_text);
    let is_paused = matches!(state, "paused" | "fused");
    json!({
        "project": &*project.name,
        "version": &*release.version_text,
        "state": state,
        "reason": reason,
        "published_by": known(&authors.published),
        "paused_by": known(&authors.paused).filter(|_| is_paused),
        "percent": percent(project, release, fleet),
        "stage": stage(project, release, fleet, now),
        "for": audience,
        "conditions": conditions,
        "packages": release.packages.iter().map(package).collect::<Value>(),
        "counts": counts,
        "fleet": shared,
        "devices": fleet.devices_of(&project.name),
        "unknown": unknown,
        "rules": rules,
        "rules_etag": etag,
    })
}

fn package(package: &Package) -> Value {
    json!({
        "path": &*package.path,
        "platform": package.platform.as_deref(),
        "base_core": package.base_core,
        "size": package.size,
        "sha256": package.content.to_string(),
        "kind": package.kind.label(),
    })
}

/// Returns the smallest percent of the devices that may have a package of a release now; `None`: all devices.
fn percent(project: &Project, release: &Release, fleet: &Fleet) -> Option<f64> {
    let of = |package: &Package| {
        let reached = reached_by(fleet.reached(), &project.name, release, package.content);
        percent_in_force(&release.rules, reached)
    };
    release
        .packages
        .iter()
        .filter_map(of)
        .min_by(f64::total_cmp)
}

/// Returns the stage that the release has reached; `null` without stages.
fn stage(project: &Project, release: &Release, fleet: &Fleet, now: i64) -> Value {
    let (name, instant) = ((&*project.name, &*release.version_text), Instant::now());
    // The fleet may not have seen rules that were just written.
    let view = release.rules.stages.as_ref();
    let view = view.and_then(|_| fleet.stage(name, instant, now));
    view.map_or(Value::Null, |view| export::stage(&view))
}

/// Returns the state of a release in a word, and the reason.
pub(super) fn state(
    project: &Project,
    release: &Release,
    fleet: &Fleet,
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
    if let Some(fused) = fleet
        .fused()
        .iter()
        .find(|fused| fused.is_for(project, release))
    {
        return ("fused", Some(fused.shown_reason()));
    }
    if let Some(moment) = rules.not_before.filter(|moment| now < *moment) {
        let moment = Civil::of(u64::try_from(moment).unwrap_or_default());
        return ("scheduled", Some(format!("not before {moment}Z")));
    }
    if let Some(window) = rules.window.filter(|window| !window.contains(now)) {
        return ("windowed", Some(format!("only {window}")));
    }
    match percent(project, release, fleet) {
        Some(percent) if percent < 100.0 => (
            "rolling_out",
            Some(format!("{percent} percent of the devices")),
        ),
        _ => ("live", None),
    }
}
