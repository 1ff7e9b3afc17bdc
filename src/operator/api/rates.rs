//! `GET /api/v1/rates`: the rates of the last hour, for each minute.

use std::time::Instant;

use serde_json::{Value, json};

use crate::fleet::tally::{Minute, SLOT};
use crate::operator::context::OperatorContext;
use crate::operator::response::Response;

/// Number of minutes; those before the server's start are zero.
const SHOWN: usize = 60;

pub(super) fn get(context: &OperatorContext) -> Response {
    let mut fleet = context.fleet.borrow_mut();
    let now = fleet.stamp(Instant::now());
    let minutes = fleet.tally.rates(now.0);
    let missing = SHOWN.saturating_sub(minutes.len());
    let minutes = std::iter::repeat_n(Minute::default(), missing).chain(minutes);
    let slots: Value = minutes
        .map(|minute| {
            json!({
                "checks": minute.checks,
                "offers": minute.offers,
                "bytes": minute.bytes,
            })
        })
        .collect();
    Response::json(&json!({"slot_seconds": SLOT, "slots": slots}))
}
