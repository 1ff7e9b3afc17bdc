//! Rules: a release.json as it is, written whole, or changed by a key. What is written lies next to the
//! firmware, and the watcher finds it there like what a person wrote.

use std::sync::Arc;

use http_types::StatusCode;
use serde_json::Value;

use super::{object, releases};
use crate::firmware::ContentId;
use crate::firmware::catalog::{Catalog, Project, Release};
use crate::firmware::name;
use crate::firmware::plain;
use crate::firmware::rules::edit::{self, Edit, Edited, Expected, Place, Present, Refused};
use crate::firmware::rules::{Paused, Rules};
use crate::firmware::version::Version;
use crate::operator::Desk;
use crate::operator::aside::aside;
use crate::operator::body::Incoming;
use crate::operator::head::Asked;
use crate::operator::reply::{Body, JSON, Reply};
use crate::operator::route::{Change, Of};

/// The longest rules that are taken here, in bytes.
const LONGEST: usize = 4 << 20;

/// The rules as they lie there.
pub(super) async fn get(desk: &Desk, asked: &Asked, of: Of<'_>) -> Reply {
    let present = match read(desk, of).await {
        Ok(Some(present)) => present,
        Ok(None) => {
            return Reply::problem(StatusCode::NotFound, "there are no rules of its own there");
        }
        Err(reply) => return reply,
    };
    let etag = etag(present.tag);
    let known = asked.header("if-none-match").unwrap_or_default();
    let reply = match known == Some(etag.as_str()) {
        true => Reply::ok(JSON, Body::Fixed(b"")).with_status(StatusCode::NotModified),
        false => Reply::ok(JSON, Body::Bytes(present.bytes)),
    };
    reply.with("etag", etag)
}

/// Writes them whole.
pub(super) async fn put(desk: &Desk, asked: &Asked, of: Of<'_>, body: &mut Incoming<'_>) -> Reply {
    match write(desk, asked, of, body).await {
        Ok(reply) | Err(reply) => reply,
    }
}

async fn write(
    desk: &Desk,
    asked: &Asked,
    of: Of<'_>,
    body: &mut Incoming<'_>,
) -> Result<Reply, Reply> {
    let expected = expected(desk, asked, of).await?;
    if !is_known(&(desk.catalog)(), of) {
        // Rules may come before the release; then they make its folder.
        let named = plain::name(of.project);
        named
            .and_then(|()| of.version.map_or(Ok(()), plain::name))
            .map_err(wrong)?;
    }
    let bytes = body.all(LONGEST).await?;
    if let Ok(Some(Paused::Because(why))) = Rules::parse(&bytes).map(|rules| rules.paused) {
        plain::text(&why).map_err(wrong)?;
    }
    let says_no = Rules::parse(&bytes).is_ok_and(|rules| rules.paused == Some(Paused::No));
    let edited = edit(desk, of, New::Whole(bytes), expected).await?;
    if let (true, Some(version)) = (says_no, of.version) {
        let now = std::time::Instant::now();
        let mut fleet = desk.fleet.borrow_mut();
        fleet.resume_release(of.project, version, now);
    }
    let status = match edited.created {
        true => StatusCode::Created,
        false => StatusCode::Ok,
    };
    let etag = etag(edited.file.tag);
    Ok(Reply::json(&object([
        ("path", edited.file.path.into()),
        ("etag", etag.as_str().into()),
    ]))
    .with_status(status)
    .with("etag", etag))
}

/// What `If-Match` or `If-None-Match: *` expects. One of them must be there: who has not read the rules
/// would overwrite what somebody else wrote.
async fn expected(desk: &Desk, asked: &Asked, of: Of<'_>) -> Result<Expected, Reply> {
    let changed = || {
        Reply::problem(
            StatusCode::PreconditionFailed,
            "the rules are not those that If-Match names: read them again",
        )
    };
    let present = asked.header("if-match").map_err(Reply::bad)?;
    let absent = asked.header("if-none-match").map_err(Reply::bad)?;
    match (present.map(str::trim), absent.map(str::trim)) {
        (None, Some("*")) => Ok(Expected::Nothing),
        (Some("*"), None) => match read(desk, of).await? {
            Some(present) => Ok(Expected::Tag(present.tag)),
            None => Err(changed()),
        },
        (Some(tag), None) => tag
            .strip_prefix('"')
            .and_then(|tag| tag.strip_suffix('"'))
            .and_then(ContentId::parse)
            .map(Expected::Tag)
            .ok_or_else(changed),
        _ => Err(Reply::problem(
            StatusCode::PreconditionRequired,
            "say what is to be replaced: If-Match with the ETag of what was read, or If-None-Match: * \
             where there was nothing",
        )),
    }
}

/// Pauses a release, resumes it, or sets its percentage; answers with the release as it will be.
pub(super) async fn change(
    desk: &Desk,
    of: Of<'_>,
    change: Change,
    body: &mut Incoming<'_>,
) -> Reply {
    match changed(desk, of, change, body).await {
        Ok(reply) | Err(reply) => reply,
    }
}

async fn changed(
    desk: &Desk,
    of: Of<'_>,
    change: Change,
    body: &mut Incoming<'_>,
) -> Result<Reply, Reply> {
    let said = super::json(body).await?;
    let catalog = (desk.catalog)();
    let (project, release) = find(&catalog, of).ok_or_else(unknown)?;
    let of_project = Of {
        version: None,
        ..of
    };
    let above = match read(desk, of_project).await? {
        Some(present) => Rules::parse(&present.bytes).ok(),
        None => None,
    };
    let (key, value) = match change {
        Change::Pause => match said.get("reason") {
            None | Some(Value::Null) => ("paused", Some(Value::Bool(true))),
            Some(Value::String(reason)) if reason.trim().is_empty() => {
                ("paused", Some(Value::Bool(true)))
            }
            Some(Value::String(reason)) => {
                plain::text(reason).map_err(wrong)?;
                ("paused", Some(Value::from(reason.as_str())))
            }
            Some(_) => return Err(wrong("reason must be a text")),
        },
        // Where the whole project is paused this release must say that it is not.
        Change::Resume if above.as_ref().is_some_and(|rules| rules.paused.is_some()) => {
            ("paused", Some(Value::Bool(false)))
        }
        Change::Resume => ("paused", None),
        Change::Percent => match said.get("percent") {
            Some(percent @ Value::Number(_)) => ("percent", Some(percent.clone())),
            Some(Value::Null) => ("percent", None),
            _ => return Err(wrong("percent must be a number from 0 to 100, or null")),
        },
    };
    let edited = edit(desk, of, New::Key(key, value), Expected::Anything).await;
    if change == Change::Resume {
        let now = std::time::Instant::now();
        let mut fleet = desk.fleet.borrow_mut();
        fleet.resume_release(&project.name, &release.version_text, now);
    }
    let merged = |bytes: &[u8]| {
        let own = Rules::parse(bytes).unwrap_or_default();
        match &above {
            Some(above) => own.over(above),
            None => own,
        }
    };
    // The watcher needs a moment; who asked is shown what it will find.
    let rules = match edited {
        Ok(edited) => {
            log::info!(
                target: "operator",
                project = &*project.name, version = &*release.version_text,
                change:? = change;
                "{} was written", edited.file.path
            );
            merged(&edited.file.bytes)
        }
        // A pause that only the state says has ended, whether the folder can be written or not.
        Err(refused) if change == Change::Resume => {
            let bytes = read(desk, of).await?.map(|present| present.bytes);
            let rules = merged(bytes.as_deref().unwrap_or(b"{}"));
            if matches!(rules.paused, Some(Paused::Yes | Paused::Because(_))) {
                return Err(refused);
            }
            log::info!(
                target: "operator",
                project = &*project.name, version = &*release.version_text;
                "resumed; release.json did not say that it was paused, and was not written"
            );
            rules
        }
        Err(refused) => return Err(refused),
    };
    let release = Release {
        rules: Arc::new(rules),
        ..release.clone()
    };
    let mut shown = releases::show(desk, &[(project, &release)]).await?;
    Ok(match shown.pop() {
        Some(shown) => Reply::json(&shown),
        None => unknown(),
    })
}

fn wrong(sentence: impl AsRef<str>) -> Reply {
    Reply::problem(StatusCode::UnprocessableEntity, sentence)
}

/// What is written.
enum New {
    Whole(Vec<u8>),
    Key(&'static str, Option<Value>),
}

async fn edit(desk: &Desk, of: Of<'_>, new: New, expected: Expected) -> Result<Edited, Reply> {
    let root = desk.folder.clone();
    let (project, version) = owned(of);
    let edited = aside(move || {
        let place = Place {
            project: &project,
            version: version.as_deref(),
        };
        match new {
            New::Whole(bytes) => edit::edit(&root, place, Edit::Whole(&bytes), expected),
            New::Key(key, value) => edit::edit(&root, place, Edit::Keys(&[(key, value)]), expected),
        }
    })
    .await?
    .map_err(refuse)?;
    (desk.rescan)();
    Ok(edited)
}

async fn read(desk: &Desk, of: Of<'_>) -> Result<Option<Present>, Reply> {
    let root = desk.folder.clone();
    let (project, version) = owned(of);
    aside(move || {
        let place = Place {
            project: &project,
            version: version.as_deref(),
        };
        edit::read(&root, place)
    })
    .await?
    .map_err(refuse)
}

fn owned(of: Of<'_>) -> (String, Option<String>) {
    (of.project.to_owned(), of.version.map(str::to_owned))
}

fn refuse(refused: Refused) -> Reply {
    let status = match refused {
        Refused::Changed => StatusCode::PreconditionFailed,
        Refused::Wrong(_) => StatusCode::UnprocessableEntity,
        Refused::Unwritable(_) => StatusCode::InternalServerError,
    };
    Reply::problem(status, refused.to_string())
}

fn unknown() -> Reply {
    Reply::problem(StatusCode::NotFound, "there is no such project or release")
}

/// The release of this name.
fn find<'c>(catalog: &'c Catalog, of: Of<'_>) -> Option<(&'c Project, &'c Release)> {
    let project = catalog.project(of.project)?;
    let version = Version::parse(of.version?)?;
    let release = project.releases.iter().find(|r| r.version == version)?;
    Some((project, release))
}

/// Is there a release or a project of this name? What is quarantined counts.
fn is_known(catalog: &Catalog, of: Of<'_>) -> bool {
    let Some(version) = of.version else {
        return catalog.project(of.project).is_some();
    };
    let Some(version) = Version::parse(version) else {
        return false;
    };
    let waits = |path: &str| {
        name::place(path).is_ok_and(|place| place.project == of.project && place.version == version)
    };
    find(catalog, of).is_some()
        || catalog.quarantined.iter().any(|remark| waits(&remark.path))
        || catalog.waiting.iter().any(|path| waits(path))
}

/// An entity tag.
pub(super) fn etag(tag: ContentId) -> String {
    format!("\"{tag}\"")
}
