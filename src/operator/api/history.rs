//! `GET /api/v1/releases/{project}/{version}/history` and `GET /api/v1/versions`: counts over time, also as CSV with a
//! line for each count.

use std::collections::HashMap;
use std::time::Instant;

use serde_json::Value;

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
use crate::operator::slice::{SLOTS, Slice};

/// Returns the counts of one release; with `format=csv` as CSV.
pub(super) async fn of_release(
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
    let (mut samples, now) = samples(&context.fleet.borrow(), project, version);
    if !is_in_folder && samples.is_empty() {
        let sentence = "there is no release of this version, and none is remembered";
        return Err(Response::problem(StatusCode::NotFound, sentence));
    }
    let (project, version) = (project.to_owned(), version.to_owned());
    if format == Some(ExportFormat::Csv) {
        samples.push(now);
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
    let mut slice = Slice::begin();
    let (project, version) = (Value::from(project), Value::from(version));
    let mut text = format!("{{\"project\":{project},\"version\":{version}");
    for (key, span) in [("hours", "hour"), ("days", "day")] {
        text.extend([",\"", key, "\":["]);
        let of_span = samples.iter().filter(|sample| sample.span == span);
        for (at, sample) in of_span.enumerate() {
            let comma = if at > 0 { "," } else { "" };
            text.extend([comma, &Value::Object(sample.json()).to_string()]);
            slice.pause_if_over().await;
        }
        text.push(']');
    }
    text += &format!(",\"now\":{}}}", Value::Object(now.json()));
    Ok(Response::ok(JSON, text))
}

/// Returns the counts of a release over time, and the current ones.
fn samples(fleet: &Fleet, project: &str, version: &str) -> (Vec<ReleaseSample>, ReleaseSample) {
    let key = fleet.version_key(project, version);
    let mut samples = Vec::new();
    for (span, unit, taken) in resolutions(fleet) {
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
    let held = key.map_or(0, |key| fleet.held_from(key, Instant::now()));
    let now = ReleaseSample {
        span: "now",
        unix: unix_now(),
        states: fleet.counts(project, version),
        held: u32::try_from(held).unwrap_or(u32::MAX),
    };
    (samples, now)
}

/// Returns a page of the versions that devices run or ran (`?project=&after=&limit=`), or all of them (`format=`). All
/// versions have their counts at the same times.
pub(super) async fn versions(context: &OperatorContext, head: &RequestHead) -> ApiResult {
    let format = super::format(head)?;
    let limit = super::limit(head)?;
    let after = super::after(head, |after| after.split_once('/'))?;
    let project = head.target.query("project");
    let mut walk = VersionWalk::default();
    let mut slice = Slice::begin();
    while !context.fleet.borrow().walk_versions(&mut walk, SLOTS) {
        slice.pause_if_over().await;
    }
    let mut devices = walk.running;
    for (_, _, taken) in resolutions(&context.fleet.borrow()) {
        for key in taken.run_versions() {
            devices.entry(key).or_default();
        }
    }
    slice.pause_if_over().await;
    let mut history = {
        let fleet = context.fleet.borrow();
        let mut versions = all_versions(&fleet, devices);
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
            left: Vec::new(),
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
        place = history.add(&context.fleet.borrow(), (from, 1), &mut rows, &mut text);
        slice.pause_if_over().await;
    }
    let mut rest = history.times().to_vec();
    rest.push(("next", next.into()));
    rows.end(&mut text, &rest);
    Ok(Response::ok(JSON, text))
}

/// Returns the rows of all versions, sorted by project and version.
fn all_versions(fleet: &Fleet, devices: HashMap<VersionKey, u32>) -> Vec<VersionRow> {
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
