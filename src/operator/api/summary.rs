//! `/api/v1/summary`: what a page shows first.

use std::path::PathBuf;

use rustix::fs::{Access, access};
use serde_json::Value;

use super::{object, time};
use crate::firmware::catalog::Catalog;
use crate::operator::aside::aside;
use crate::operator::reply::Reply;
use crate::operator::{Desk, unix_now};

pub(super) async fn summary(desk: &Desk) -> Reply {
    let writable = match aside({
        let folder = desk.folder.clone();
        move || is_writable(folder)
    })
    .await
    {
        Ok(writable) => writable,
        Err(busy) => return busy,
    };
    let catalog = (desk.catalog)();
    let empty = catalog.projects().is_empty()
        && catalog.quarantined.is_empty()
        && catalog.waiting.is_empty();
    Reply::json(&object([
        ("version", env!("CARGO_PKG_VERSION").into()),
        ("started", time(desk.started)),
        ("releases", catalog.release_count().into()),
        ("quarantined", quarantined_files(&catalog).into()),
        ("waiting", catalog.waiting.len().into()),
        ("devices", desk.fleet.borrow().devices().into()),
        ("running", (desk.running)().into()),
        ("unix", unix_now().into()),
        ("writable", writable.into()),
        ("empty", empty.into()),
        ("above", above(desk)),
    ]))
}

/// Versions that devices run above every release that is left.
fn above(desk: &Desk) -> Value {
    let fleet = desk.fleet.borrow();
    let above = fleet.above().iter().map(|above| {
        object([
            ("project", (&*above.project).into()),
            ("version", (&*above.version).into()),
            ("devices", above.devices.into()),
        ])
    });
    above.collect()
}

/// Files that are not served because something is wrong with them.
pub(in crate::operator) fn quarantined_files(catalog: &Catalog) -> usize {
    let listed = catalog.quarantined.len();
    listed.saturating_add(catalog.unlisted.quarantined)
}

/// May we put a file into this folder?
fn is_writable(folder: PathBuf) -> bool {
    access(folder, Access::WRITE_OK | Access::EXEC_OK).is_ok()
}
