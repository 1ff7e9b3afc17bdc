//! `/api/v1/rates`: the last hour, a minute each.

use std::time::Instant;

use serde_json::Value;

use super::object;
use crate::fleet::tally::{Minute, SLOT};
use crate::operator::Desk;
use crate::operator::reply::Reply;

/// Minutes that are shown; what there was not is nothing.
const SHOWN: usize = 60;

pub(super) fn rates(desk: &Desk) -> Reply {
    let mut fleet = desk.fleet.borrow_mut();
    let now = fleet.stamp(Instant::now());
    let minutes = fleet.tally.rates(now.0);
    let missing = SHOWN.saturating_sub(minutes.len());
    let slots: Vec<Value> = std::iter::repeat_n(Minute::default(), missing)
        .chain(minutes)
        .map(|minute| {
            object([
                ("checks", minute.checks.into()),
                ("offers", minute.offers.into()),
                ("bytes", minute.bytes.into()),
            ])
        })
        .collect();
    Reply::json(&object([
        ("slot_seconds", SLOT.into()),
        ("slots", slots.into()),
    ]))
}
