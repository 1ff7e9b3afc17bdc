//! `GET /api/v1/changes`: the last changes, newest first, and who made them.

use serde_json::{Value, json};

use crate::operator::context::OperatorContext;
use crate::operator::response::{Response, rfc3339};

pub(super) fn get(context: &OperatorContext) -> Response {
    let fleet = context.fleet.borrow();
    let changes = fleet.changes().newest_first().map(|change| {
        json!({
            "time": rfc3339(change.unix),
            "by": &*change.by,
            "action": &*change.action,
            "project": known(&change.project),
            "version": known(&change.version),
            "detail": known(&change.detail),
        })
    });
    Response::json(&json!({"changes": changes.collect::<Value>()}))
}

/// A text, or `null` if it is empty.
pub(super) fn known(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}
