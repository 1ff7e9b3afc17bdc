//! `GET /api/v1/releases/{project}/{version}/history` and `GET /api/v1/versions`: counts over time.

use std::collections::HashMap;
use std::time::Instant;

use serde_json::{Map, Value, json};
use smol::future::yield_now;

use crate::fleet::Fleet;
use crate::fleet::clock::unix_now;
use crate::fleet::devices::VersionWalk;
use crate::fleet::history::{Samples, VersionKey};
use crate::fleet::journey::State;
use crate::fleet::releases::StateCounts;
use crate::operator::codec::StatusCode;
use crate::operator::context::OperatorContext;
use crate::operator::head::RequestHead;
use crate::operator::response::{ApiResult, JSON, Response, rfc3339};

const HOUR: i64 = 60 * 60;
const DAY: i64 = 24 * HOUR;

/// Slots of devices that are looked at before others may run: about a tenth of a millisecond.
const DEVICES: u32 = 2048;

/// The counts of one release.
pub(super) fn of_release(context: &OperatorContext, project: &str, version: &str) -> ApiResult {
    let catalog = (context.catalog)();
    let found = catalog.project(project);
    let is_in_folder = found.is_some_and(|found| {
        let mut releases = found.releases.iter();
        releases.any(|release| &*release.version_text == version)
    });
    let fleet = context.fleet.borrow();
    let key = fleet.version_key(project, version);
    let samples = |samples: &Samples, unit| match key {
        Some(key) => rows(samples, key, unit),
        None => Vec::new(),
    };
    let (hours, days) = (
        samples(fleet.history().hours(), HOUR),
        samples(fleet.history().days(), DAY),
    );
    if !is_in_folder && hours.is_empty() && days.is_empty() {
        let sentence = "there is no release of this version, and none is remembered";
        return Err(Response::problem(StatusCode::NotFound, sentence));
    }
    let held = key.map_or(0, |key| fleet.held_from(key, Instant::now()));
    let now = fleet.counts(project, version);
    Ok(Response::json(&json!({
        "project": project,
        "version": version,
        "now": row(unix_now(), now, u32::try_from(held).unwrap_or(u32::MAX)),
        "hours": hours,
        "days": days,
    })))
}

/// The samples of a release, oldest first. `unit`: seconds between them.
fn rows(samples: &Samples, key: VersionKey, unit: i64) -> Vec<Value> {
    let rows = samples.of(key).filter_map(|(number, counts)| {
        let counts = counts?;
        Some(row(i64::from(number) * unit, counts.states, counts.held))
    });
    rows.collect()
}

fn row(unix: i64, states: StateCounts, held: u32) -> Value {
    let counts = State::ALL.map(|state| (state.word().to_owned(), states.of(state).into()));
    let mut row: Map<String, Value> = counts.into_iter().collect();
    row.insert("time".to_owned(), rfc3339(unix));
    row.insert("held".to_owned(), held.into());
    Value::Object(row)
}

/// `?project=&after=&limit=`: the versions that devices run or ran. All have their counts at the same times.
pub(super) async fn versions(context: &OperatorContext, head: &RequestHead) -> ApiResult {
    let limit = super::limit(head)?;
    let after = super::after(head, |after| after.split_once('/'))?;
    let project = head.target.query("project");
    let mut walk = VersionWalk::default();
    while !context.fleet.borrow().walk_versions(&mut walk, DEVICES) {
        // Devices do not wait for the rest.
        yield_now().await;
    }
    let (mut page, hours, days) = {
        let fleet = context.fleet.borrow();
        let mut all = all_versions(&fleet, walk);
        all.retain(|version| {
            project.is_none_or(|project| project == version.project)
                && after
                    .is_none_or(|after| after < (&version.project, version.key.version.as_str()))
        });
        let history = fleet.history();
        (all, numbers(history.hours()), numbers(history.days()))
    };
    let has_more = page.len() > limit;
    page.truncate(limit);
    let last = page.last().filter(|_| has_more);
    let next = last.map(|last| format!("{}/{}", last.project, last.key.version.as_str()));
    let mut versions = String::new();
    for version in page {
        let row = {
            let fleet = context.fleet.borrow();
            let history = fleet.history();
            json!({
                "project": version.project,
                "version": version.key.version.as_str(),
                "devices": version.devices,
                "hours": running(history.hours(), version.key, &hours),
                "days": running(history.days(), version.key, &days),
            })
        };
        let comma = if versions.is_empty() { "" } else { "," };
        versions.push_str(comma);
        versions.push_str(&row.to_string());
        yield_now().await;
    }
    let times = |numbers: Vec<u32>, unit| -> Value {
        let times = numbers
            .into_iter()
            .map(|number| rfc3339(i64::from(number) * unit));
        times.collect()
    };
    let (hours, days, next) = (times(hours, HOUR), times(days, DAY), Value::from(next));
    let text =
        format!("{{\"versions\":[{versions}],\"hours\":{hours},\"days\":{days},\"next\":{next}}}");
    Ok(Response::ok(JSON, text))
}

/// A version that devices run or ran.
struct VersionRow {
    project: String,
    key: VersionKey,
    /// How many run it now.
    devices: u32,
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

fn numbers(samples: &Samples) -> Vec<u32> {
    samples.from(0).map(|(number, _)| number).collect()
}

/// The devices that ran a version, in the samples of these numbers.
fn running(samples: &Samples, key: VersionKey, numbers: &[u32]) -> Vec<Option<u32>> {
    let (Some(first), Some(last)) = (numbers.first(), numbers.last()) else {
        return Vec::new();
    };
    let counts = samples
        .of(key)
        .filter(|(at, _)| (first..=last).contains(&at));
    let counts: Vec<_> = counts.map(|(_, counts)| Some(counts?.running)).collect();
    // The oldest may have been dropped meanwhile.
    let missing = numbers.len().saturating_sub(counts.len());
    std::iter::repeat_n(None, missing).chain(counts).collect()
}
