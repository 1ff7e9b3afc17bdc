//! `GET /api/v1/changes`: the last changes, newest first, and who made them.

use serde_json::{Value, json};

use crate::firmware::audience::DeviceId;
use crate::fleet::entry::ChangeEntry;
use crate::operator::context::OperatorContext;
use crate::operator::response::{Response, rfc3339};

pub(super) fn get(context: &OperatorContext) -> Response {
    let fleet = context.fleet.borrow();
    let changes = fleet.changes().newest_first().map(|change| {
        let is_lift = *change.action == *ChangeEntry::LIFT;
        let device = is_lift.then(|| DeviceId::parse(&change.detail)).flatten();
        json!({
            "time": rfc3339(change.unix),
            "by": &*change.by,
            "action": &*change.action,
            "project": known(&change.project),
            "version": known(&change.version),
            "detail": known(&change.detail),
            "name": device.and_then(|device| fleet.device_name(device)),
        })
    });
    Response::json(&json!({"changes": changes.collect::<Value>()}))
}

/// Returns a text; `None`, shown as `null`, if it is empty.
pub(super) fn known(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}
