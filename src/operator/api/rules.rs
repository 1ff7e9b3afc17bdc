//! `/api/v1/rules` and `/api/v1/releases/…/pause`, `resume`, `percent` and `retire`: reads, writes and retires the
//! files of releases. The watcher finds such a change like one that a person made.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Map, Value, json};

use super::releases;
use crate::firmware::ContentId;
use crate::firmware::catalog::{Catalog, Project, Release};
use crate::firmware::name;
use crate::firmware::plain;
use crate::firmware::retire;
use crate::firmware::rules::edit::{self, Edit, EditError, Expected, Present, RulesScope};
use crate::firmware::rules::{Paused, Rules};
use crate::firmware::version::Version;
use crate::fleet::entry::ChangeEntry;
use crate::operator::blocking::unblock;
use crate::operator::body::RequestBody;
use crate::operator::codec::StatusCode;
use crate::operator::context::OperatorContext;
use crate::operator::head::RequestHead;
use crate::operator::response::{ApiResult, Effect, JSON, Response, etag};
use crate::operator::route::Change;
use crate::operator::slice::Slice;

/// Length of the longest accepted rules, in bytes.
const LONGEST: usize = 4 << 20;

/// Returns the rules in the folder.
pub(super) async fn get(
    context: &OperatorContext,
    head: &RequestHead,
    scope: RulesScope<'_>,
) -> ApiResult {
    let present = read(context, scope).await?.ok_or_else(|| {
        Response::problem(StatusCode::NotFound, "this scope has no rules of its own")
    })?;
    let etag = etag(present.tag);
    let known = head.header("if-none-match").unwrap_or_default();
    let response = match known == Some(etag.as_str()) {
        true => Response::ok(JSON, "").with_status(StatusCode::NotModified),
        false => Response::ok(JSON, present.bytes),
    };
    Ok(response.with("etag", etag))
}

/// Writes all rules.
pub(super) async fn put(
    context: &OperatorContext,
    head: &RequestHead,
    scope: RulesScope<'_>,
    body: &mut RequestBody<'_>,
) -> ApiResult {
    let expected = expected(context, head, scope).await?;
    if !is_known(&(context.catalog)(), scope) {
        // Rules may be written before the release, and then create its folder.
        for name in [Some(scope.project), scope.version].into_iter().flatten() {
            plain::name(name).map_err(Response::unprocessable)?;
        }
    }
    let bytes = body.all(LONGEST).await?;
    // The edit refuses invalid rules.
    let paused = Rules::parse(&bytes).ok().and_then(|rules| rules.paused);
    if let Some(Paused::Because(reason)) = &paused {
        plain::text(reason).map_err(Response::unprocessable)?;
    }
    // The edit is refused unless these are the bytes that If-Match names.
    let before = read(context, scope).await?.map(|present| present.bytes);
    let before = before.unwrap_or_default();
    let edited = in_folder(context, scope, move |root, scope| {
        edit::edit(root, scope, Edit::Whole(&bytes), expected)
    });
    let edited = edited.await?;
    let change = change_of_rules(&(context.catalog)(), scope, &before, &edited.file.bytes);
    (context.rescan)();
    if let (Some(Paused::No), Some(version)) = (paused, scope.version) {
        let mut fleet = context.fleet.borrow_mut();
        fleet.resume_release(scope.project, version, Instant::now());
    }
    let status = match edited.created {
        true => StatusCode::Created,
        false => StatusCode::Ok,
    };
    let etag = etag(edited.file.tag);
    let response = Response::json(&json!({"path": edited.file.path, "etag": etag}));
    let response = response.with_effect(Effect::Change(Box::new(change)));
    Ok(response.with_status(status).with("etag", etag))
}

/// Describes new rules as a change, with the keys that they set and remove. The start or end of a pause has its own
/// action.
fn change_of_rules(
    catalog: &Catalog,
    scope: RulesScope<'_>,
    before: &[u8],
    after: &[u8],
) -> ChangeEntry {
    let (old, new) = (object(before), object(after));
    let set = new
        .iter()
        .filter(|(key, value)| old.get(*key) != Some(value));
    let set: Vec<&str> = set.map(|(key, _)| key.as_str()).collect();
    let removed = old.keys().filter(|key| !new.contains_key(*key));
    let removed: Vec<&str> = removed.map(String::as_str).collect();
    let detail = match (set.is_empty(), removed.is_empty()) {
        (true, true) => "rules: no other keys".to_owned(),
        (false, true) => format!("rules: set {}", set.join(", ")),
        (true, false) => format!("rules: removed {}", removed.join(", ")),
        (false, false) => format!(
            "rules: set {}; removed {}",
            set.join(", "),
            removed.join(", ")
        ),
    };
    let is_paused = |rules: &Map<String, Value>| {
        let paused = rules.get("paused").unwrap_or(&Value::Null);
        !matches!(paused, Value::Null | Value::Bool(false))
    };
    let action = match (is_paused(&old), is_paused(&new)) {
        (false, true) => ChangeEntry::PAUSE,
        (true, false) => ChangeEntry::RESUME,
        _ => "rules",
    };
    let version = match find(catalog, scope) {
        Some((_, release)) => &*release.version_text,
        None => scope.version.unwrap_or_default(),
    };
    ChangeEntry::new(action, scope.project, version, &detail)
}

/// Returns the object in a release.json; empty if the file contains no object.
fn object(bytes: &[u8]) -> Map<String, Value> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    serde_json::from_slice(bytes).unwrap_or_default()
}

/// Returns the condition of `If-Match` or `If-None-Match: *`. One of them is required, because a client that has not
/// read the rules would overwrite the changes of another client.
async fn expected(
    context: &OperatorContext,
    head: &RequestHead,
    scope: RulesScope<'_>,
) -> ApiResult<Expected> {
    let changed = || {
        Response::problem(
            StatusCode::PreconditionFailed,
            "the rules do not match If-Match: read them again",
        )
    };
    let present = head.header("if-match")?;
    let absent = head.header("if-none-match")?;
    match (present.map(str::trim), absent.map(str::trim)) {
        (None, Some("*")) => Ok(Expected::Nothing),
        (Some("*"), None) => {
            let present = read(context, scope).await?.ok_or_else(changed)?;
            Ok(Expected::Tag(present.tag))
        }
        (Some(tag), None) => tag
            .strip_prefix('"')
            .and_then(|tag| tag.strip_suffix('"'))
            .and_then(ContentId::parse)
            .map(Expected::Tag)
            .ok_or_else(changed),
        _ => Err(Response::problem(
            StatusCode::PreconditionRequired,
            "send If-Match with the ETag of the rules to replace, or If-None-Match: * if there are \
             none",
        )),
    }
}

/// Pauses or resumes a release, or sets its percentage. Responds with the release as the watcher will find it.
pub(super) async fn change(
    context: &OperatorContext,
    scope: RulesScope<'_>,
    change: Change,
    body: &mut RequestBody<'_>,
) -> ApiResult {
    let body = super::json_object(body).await?;
    let catalog = (context.catalog)();
    let (project, release) = find(&catalog, scope).ok_or_else(unknown)?;
    let of_project = RulesScope {
        version: None,
        ..scope
    };
    let project_rules = read(context, of_project).await?;
    let project_rules = project_rules.and_then(|present| Rules::parse(&present.bytes).ok());
    let is_project_paused = project_rules
        .as_ref()
        .is_some_and(|rules| rules.paused.is_some());
    let keys = match change {
        Change::Pause => vec![("paused", Some(pause_value(body.get("reason"))?))],
        // If the project is paused, the release must contradict it.
        Change::Resume => vec![("paused", is_project_paused.then_some(Value::Bool(false)))],
        // The percent replaces the stages.
        Change::Percent => match body.get("percent") {
            Some(percent @ Value::Number(_)) => {
                vec![("percent", Some(percent.clone())), ("stages", None)]
            }
            Some(Value::Null) => vec![("percent", None), ("stages", None)],
            _ => {
                return Err(Response::unprocessable(
                    "percent must be a number from 0 to 100, or null",
                ));
            }
        },
    };
    let value = keys.first().and_then(|(_, value)| value.as_ref());
    let (action, detail) = match (change, value) {
        (Change::Pause, Some(Value::String(reason))) => (ChangeEntry::PAUSE, reason.clone()),
        (Change::Pause, _) => (ChangeEntry::PAUSE, String::new()),
        (Change::Resume, _) => (ChangeEntry::RESUME, String::new()),
        (Change::Percent, Some(percent)) => ("percent", percent.to_string()),
        (Change::Percent, None) => ("percent", "removed".to_owned()),
    };
    let entry = ChangeEntry::new(action, &project.name, &release.version_text, &detail);
    let edited = in_folder(context, scope, move |root, scope| {
        let edit = Edit::Keys(&keys);
        edit::edit(root, scope, edit, Expected::Anything)
    });
    let edited = edited.await;
    if change == Change::Resume {
        let mut fleet = context.fleet.borrow_mut();
        fleet.resume_release(&project.name, &release.version_text, Instant::now());
    }
    let merged = |bytes: &[u8]| {
        let own = Rules::parse(bytes).unwrap_or_default();
        match &project_rules {
            Some(above) => own.over(above),
            None => own,
        }
    };
    let rules = match edited {
        Ok(edited) => {
            (context.rescan)();
            merged(&edited.file.bytes)
        }
        // A pause that only the state folder contains has ended even if the firmware folder cannot be written.
        Err(refused) if change == Change::Resume => {
            let bytes = read(context, scope).await?.map(|present| present.bytes);
            let rules = merged(bytes.as_deref().unwrap_or(b"{}"));
            if matches!(rules.paused, Some(Paused::Yes | Paused::Because(_))) {
                return Err(refused);
            }
            rules
        }
        Err(refused) => return Err(refused),
    };
    let release = Release {
        rules: catalog.groups.apply(&Arc::new(rules)).rules,
        ..release.clone()
    };
    let mut slice = Slice::begin();
    let names = std::iter::once(&*project.name);
    let established = releases::established(context, names, &mut slice).await;
    let mut response = Err(unknown());
    let row = |shown: &Value| response = Ok(Response::json(shown));
    releases::show(
        context,
        &[(project, &release)],
        &established,
        &mut slice,
        row,
    )
    .await?;
    Ok(response?.with_effect(Effect::Change(Box::new(entry))))
}

/// Retires a release: moves it aside. Responds with the paths.
pub(super) async fn retire(context: &OperatorContext, scope: RulesScope<'_>) -> ApiResult {
    let catalog = (context.catalog)();
    let (project, release) = find(&catalog, scope).ok_or_else(unknown)?;
    let retired = release.clone();
    let moved = in_folder(context, scope, move |root, scope| {
        retire::retire(root, scope.project, &retired)
    });
    let moved = moved.await?;
    (context.rescan)();
    let paths: Vec<String> = moved
        .iter()
        .map(|one| format!("{} is now {}", one.from, one.to))
        .collect();
    let (project, version) = (&project.name, &release.version_text);
    let change = ChangeEntry::new("retire", project, version, &paths.join("; "));
    let moved = moved
        .iter()
        .map(|one| json!({"from": one.from, "to": one.to}));
    let response = Response::json(&json!({"moved": moved.collect::<Value>()}));
    Ok(response.with_effect(Effect::Change(Box::new(change))))
}

/// Returns the value of `paused` for a reason.
fn pause_value(reason: Option<&Value>) -> ApiResult<Value> {
    match reason {
        None | Some(Value::Null) => Ok(Value::Bool(true)),
        Some(Value::String(reason)) if reason.trim().is_empty() => Ok(Value::Bool(true)),
        Some(Value::String(reason)) => {
            plain::text(reason).map_err(Response::unprocessable)?;
            Ok(Value::from(reason.as_str()))
        }
        Some(_) => Err(Response::unprocessable("reason must be a text")),
    }
}

async fn read(context: &OperatorContext, scope: RulesScope<'_>) -> ApiResult<Option<Present>> {
    in_folder(context, scope, edit::read).await
}

/// Runs `work` with the firmware folder on a separate thread.
async fn in_folder<T: Send + 'static>(
    context: &OperatorContext,
    scope: RulesScope<'_>,
    work: impl FnOnce(&Path, RulesScope<'_>) -> Result<T, EditError> + Send + 'static,
) -> ApiResult<T> {
    let root = context.folder.clone();
    let (project, version) = (scope.project.to_owned(), scope.version.map(str::to_owned));
    let result = unblock(move || {
        let scope = RulesScope {
            project: &project,
            version: version.as_deref(),
        };
        work(&root, scope)
    });
    result.await?.map_err(|refused| {
        let status = match refused {
            EditError::Changed => StatusCode::PreconditionFailed,
            EditError::Wrong(_) => StatusCode::UnprocessableEntity,
            EditError::Unwritable(_) => StatusCode::InternalServerError,
        };
        Response::problem(status, refused.to_string())
    })
}

fn unknown() -> Response {
    Response::problem(StatusCode::NotFound, "there is no such project or release")
}

/// Returns the release of this project and version.
fn find<'c>(catalog: &'c Catalog, scope: RulesScope<'_>) -> Option<(&'c Project, &'c Release)> {
    let project = catalog.project(scope.project)?;
    let version = Version::parse(scope.version?)?;
    let release = project.releases.iter().find(|r| r.version == version)?;
    Some((project, release))
}

/// Whether there is a release or project of this name, including quarantined and unread ones.
fn is_known(catalog: &Catalog, scope: RulesScope<'_>) -> bool {
    let Some(version) = scope.version else {
        return catalog.project(scope.project).is_some();
    };
    let Some(version) = Version::parse(version) else {
        return false;
    };
    let is_its = |path: &str| {
        name::firmware_path(path)
            .is_ok_and(|found| found.project == scope.project && found.version == version)
    };
    find(catalog, scope).is_some()
        || catalog
            .quarantined
            .iter()
            .any(|remark| is_its(&remark.path))
        || catalog.waiting.iter().any(|path| is_its(path))
}
