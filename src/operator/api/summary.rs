//! `GET /api/v1/summary`: the numbers that the page shows first.

use rustix::fs::{Access, access};
use serde_json::{Value, json};

use super::quarantine::quarantined_files;
use crate::fleet::clock::unix_now;
use crate::operator::blocking::unblock;
use crate::operator::context::OperatorContext;
use crate::operator::response::{ApiResult, Response, rfc3339};

pub(super) async fn get(context: &OperatorContext) -> ApiResult {
    let folder = context.folder.clone();
    let is_writable = move || access(folder, Access::WRITE_OK | Access::EXEC_OK).is_ok();
    let is_writable = unblock(is_writable).await?;
    let catalog = (context.catalog)();
    let is_empty = catalog.projects().is_empty()
        && catalog.quarantined.is_empty()
        && catalog.waiting.is_empty();
    let fleet = context.fleet.borrow();
    // Versions that devices run and that are higher than every release.
    let above: Value = fleet
        .versions_above()
        .iter()
        .map(|above| {
            json!({
                "project": above.project,
                "version": above.version,
                "devices": above.devices,
            })
        })
        .collect();
    Ok(Response::json(&json!({
        "version": env!("CARGO_PKG_VERSION"),
        "started": rfc3339(context.started),
        "releases": catalog.release_count(),
        "quarantined": quarantined_files(&catalog),
        "waiting": catalog.waiting.len(),
        "devices": fleet.devices(),
        "running": (context.public_side)().running,
        "unix": unix_now(),
        "writable": is_writable,
        "empty": is_empty,
        "above": above,
    })))
}
