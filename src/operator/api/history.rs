//! `GET /api/v1/releases/{project}/{version}/history` and `GET /api/v1/versions`: counts over time, also as CSV with a
//! line for each count.

use std::collections::HashMap;
use std::time::Instant;

use serde_json::json;
use smol::future::yield_now;

use crate::export::{Export, ExportFormat};
use crate::fleet::Fleet;
use crate::fleet::clock::unix_now;
use crate::fleet::devices::VersionWalk;
use crate::fleet::history::VersionKey;
use crate::operator::codec::StatusCode;
use crate::operator::context::OperatorContext;
use crate::operator::head::RequestHead;
use crate::operator::histories::{
    ReleaseHistory, ReleaseSample, VersionHistory, VersionRow, numbers, resolutions,
};
use crate::operator::response::{ApiResult, ExportedList, JSON, ListExport, Response};

/// Slots of devices that are looked at before others may run: about a tenth of a millisecond.
const DEVICES: u32 = 2048;

/// The counts of one release; with `format=csv` as CSV.
pub(super) fn of_release(
    context: &OperatorContext,
    head: &RequestHead,
    project: &str,
    version: &str,
) -> ApiResult {
    let format = super::format(head)?;
    let catalog = (context.catalog)();
    let found = catalog.project(project);
    let is_in_folder = found.is_some_and(|found| {
        let mut releases = found.releases.iter();
        releases.any(|release| &*release.version_text == version)
    });
    let fleet = context.fleet.borrow();
    let key = fleet.version_key(project, version);
    let mut samples = Vec::new();
    for (span, unit, taken) in resolutions(&fleet) {
        let counted = key.into_iter().flat_map(|key| taken.of(key));
        samples.extend(counted.filter_map(|(number, counts)| {
            let counts = counts?;
            Some(ReleaseSample {
                span,
                unix: i64::from(number) * unit,
                states: counts.states,
                held: counts.held,
            })
        }));
    }
    if !is_in_folder && samples.is_empty() {
        let sentence = "there is no release of this version, and none is remembered";
        return Err(Response::problem(StatusCode::NotFound, sentence));
    }
    let held = key.map_or(0, |key| fleet.held_from(key, Instant::now()));
    samples.push(ReleaseSample {
        span: "now",
        unix: unix_now(),
        states: fleet.counts(project, version),
        held: u32::try_from(held).unwrap_or(u32::MAX),
    });
    let (project, version) = (project.to_owned(), version.to_owned());
    if format == Some(ExportFormat::Csv) {
        let history = ReleaseHistory {
            project,
            version,
            samples,
        };
        return Ok(ListExport::response(
            ExportFormat::Csv,
            ExportedList::History(history),
        ));
    }
    let of = |span| -> Vec<_> {
        let samples = samples.iter().filter(|sample| sample.span == span);
        samples.map(ReleaseSample::json).collect()
    };
    Ok(Response::json(&json!({
        "project": project,
        "version": version,
        "now": of("now").pop(),
        "hours": of("hour"),
        "days": of("day"),
    })))
}

/// `?project=&after=&limit=`, or with `format=` all: the versions that devices run or ran. All have their counts at the
/// same times.
pub(super) async fn versions(context: &OperatorContext, head: &RequestHead) -> ApiResult {
    let format = super::format(head)?;
    let limit = super::limit(head)?;
    let after = super::after(head, |after| after.split_once('/'))?;
    let project = head.target.query("project");
    let mut walk = VersionWalk::default();
    while !context.fleet.borrow().walk_versions(&mut walk, DEVICES) {
        // Devices do not wait for the rest.
        yield_now().await;
    }
    let mut history = {
        let fleet = context.fleet.borrow();
        let mut versions = all_versions(&fleet, walk);
        versions.retain(|version| {
            project.is_none_or(|project| project == version.project)
                && after
                    .is_none_or(|after| after < (&version.project, version.key.version.as_str()))
        });
        let [hours, days] = resolutions(&fleet).map(|(_, _, taken)| numbers(taken));
        VersionHistory {
            versions,
            hours,
            days,
        }
    };
    if let Some(format) = format {
        let list = ExportedList::Versions(history);
        return Ok(ListExport::response(format, list));
    }
    let page = &mut history.versions;
    let has_more = page.len() > limit;
    page.truncate(limit);
    let last = page.last().filter(|_| has_more);
    let next = last.map(|last| format!("{}/{}", last.project, last.key.version.as_str()));
    let mut rows = Export::new(ExportFormat::Json, "versions", &[]);
    let mut text = String::new();
    rows.begin(&mut text);
    let mut place = Some(0);
    while let Some(from) = place {
        place = history.add(&context.fleet.borrow(), from, &mut rows, &mut text);
        yield_now().await;
    }
    let mut rest = history.times().to_vec();
    rest.push(("next", next.into()));
    rows.end(&mut text, &rest);
    Ok(Response::ok(JSON, text))
}

/// All of them, by project and version.
fn all_versions(fleet: &Fleet, walk: VersionWalk) -> Vec<VersionRow> {
    let mut devices: HashMap<VersionKey, u32> = walk.running;
    for key in fleet.history().versions() {
        devices.entry(key).or_default();
    }
    let rows = devices.into_iter().filter_map(|(key, devices)| {
        Some(VersionRow {
            project: fleet.project_name(key.project)?.to_owned(),
            key,
            devices,
        })
    });
    let mut rows: Vec<_> = rows.collect();
    rows.sort_unstable_by(|a, b| (&a.project, a.key).cmp(&(&b.project, b.key)));
    rows
}
