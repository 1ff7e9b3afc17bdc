//! `/api/v1/devices`: a page of devices, one device, and its hold by the loop guard.

use std::time::Instant;

use serde_json::{Value, json};

use crate::export::device;
use crate::firmware::audience::DeviceId;
use crate::fleet::clock::unix_now;
use crate::fleet::journey::State;
use crate::fleet::view::Filter;
use crate::operator::codec::StatusCode;
use crate::operator::context::OperatorContext;
use crate::operator::head::RequestHead;
use crate::operator::response::{ApiResult, ExportedList, ListExport, Response};

const STATES: &str = "state must be offered, downloading, delivered, confirmed, reverted, silent, sent or \
     waiting";

/// `?imei=&project=&version=&state=&held=1&after=&limit=`, or with `format=` the whole list
pub(super) fn list(context: &OperatorContext, head: &RequestHead) -> ApiResult {
    let query = |name| head.target.query(name);
    let state = match query("state") {
        None => None,
        Some(word) => Some(State::of_word(word).ok_or_else(|| Response::bad_request(STATES))?),
    };
    let filter = Filter {
        prefix: query("imei").map(DeviceId::prefix).unwrap_or_default(),
        project: query("project").map(str::to_owned),
        version: query("version").map(str::to_owned),
        state,
        held: matches!(query("held"), Some("1" | "true")),
    };
    if let Some(format) = super::format(head)? {
        return Ok(ListExport::response(format, ExportedList::Devices(filter)));
    }
    let after = super::after(head, |after| after.parse().ok())?;
    let limit = super::limit(head)?;
    let fleet = context.fleet.borrow();
    let page = fleet.page(&filter, after, limit, Instant::now(), unix_now());
    let devices: Value = page.devices.iter().map(device).collect();
    Ok(Response::json(&json!({
        "devices": devices,
        "next": page.next.map(|next| next.to_string()),
        "total": fleet.devices(),
    })))
}

/// One device.
pub(super) fn get(context: &OperatorContext, id: &str) -> ApiResult {
    let id = DeviceId::parse(id).ok_or_else(unknown)?;
    let fleet = context.fleet.borrow();
    let view = fleet.device(id, Instant::now(), unix_now());
    let view = view.ok_or_else(unknown)?;
    Ok(Response::json(&device(&view)))
}

/// Clears the hold of the loop guard.
pub(super) fn clear_hold(context: &OperatorContext, id: &str) -> ApiResult {
    let device = DeviceId::parse(id).ok_or_else(unknown)?;
    let now = Instant::now();
    let mut fleet = context.fleet.borrow_mut();
    if !fleet.remembers(device) {
        return Err(unknown());
    }
    let lifted = fleet.clear_hold(device, now);
    log::info!(target: "operator", device = id, lifted = lifted; "released from the loop guard");
    Ok(Response::json(&json!({"lifted": lifted})))
}

fn unknown() -> Response {
    Response::problem(StatusCode::NotFound, "no device of this id is remembered")
}
