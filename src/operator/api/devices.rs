//! Devices: a page of them, one, and its release from the loop guard.

use std::time::Instant;

use http_types::StatusCode;
use serde_json::Value;

use super::{limit, object, or_null, time};
use crate::explain::request_of;
use crate::firmware::audience::DeviceId;
use crate::fleet::journey::State;
use crate::fleet::report::Report;
use crate::fleet::view::{DeviceView, Filter};
use crate::operator::head::Asked;
use crate::operator::reply::Reply;
use crate::operator::{Desk, unix_now};

/// `?imei=&project=&version=&state=&held=1&after=&limit=`
pub(super) fn list(desk: &Desk, asked: &Asked) -> Reply {
    let wrong = |sentence| Reply::problem(StatusCode::BadRequest, sentence);
    let text = |name| asked.target.asked(name).map(str::to_owned);
    let state = match asked.target.asked("state").map(State::of_word) {
        Some(None) => return wrong(STATES),
        Some(state) => state,
        None => None,
    };
    let after = match asked.target.asked("after").map(str::parse::<u32>) {
        Some(Err(_)) => return wrong("after must be what a page before said in next"),
        Some(Ok(after)) => Some(after),
        None => None,
    };
    let limit = match limit(asked, 100, 500) {
        Ok(limit) => limit,
        Err(reply) => return reply,
    };
    let filter = Filter {
        prefix: text("imei")
            .map(|text| DeviceId::prefix(&text))
            .unwrap_or_default(),
        project: text("project"),
        version: text("version"),
        state,
        held: matches!(asked.target.asked("held"), Some("1" | "true")),
    };
    let fleet = desk.fleet.borrow();
    let page = fleet.page(&filter, after, limit, Instant::now(), unix_now());
    let devices: Vec<Value> = page.devices.iter().map(device).collect();
    Reply::json(&object([
        ("devices", devices.into()),
        ("next", or_null(page.next.map(|next| next.to_string()))),
        ("total", fleet.devices().into()),
    ]))
}

const STATES: &str = "state must be offered, downloading, delivered, confirmed, reverted, silent, sent or \
     waiting";

/// One device.
pub(super) fn one(desk: &Desk, id: &str) -> Reply {
    let found = DeviceId::parse(id).and_then(|id| {
        let fleet = desk.fleet.borrow();
        fleet.device(id, Instant::now(), unix_now())
    });
    match found {
        Some(view) => Reply::json(&device(&view)),
        None => unknown(),
    }
}

/// Lifts what the loop guard holds against a device.
pub(super) fn lift(desk: &Desk, id: &str) -> Reply {
    let Some(device) = DeviceId::parse(id) else {
        return unknown();
    };
    let now = Instant::now();
    if !desk.fleet.borrow().remembers(device, now) {
        return unknown();
    }
    let lifted = desk.fleet.borrow_mut().lift(device, now);
    log::info!(target: "operator", device = id, lifted = lifted; "released from the loop guard");
    Reply::json(&object([("lifted", lifted.into())]))
}

fn unknown() -> Reply {
    Reply::problem(StatusCode::NotFound, "no device of this id is remembered")
}

/// A device as the API shows it.
pub(super) fn device(view: &DeviceView) -> Value {
    let journey = view.journey.as_ref().map(|journey| {
        object([
            ("version", journey.version.as_str().into()),
            ("from", journey.from.as_str().into()),
            ("sha256", journey.content.as_str().into()),
            ("state", journey.state.word().into()),
            ("since", time(journey.since)),
            ("reached", journey.reached.into()),
            ("size", journey.size.into()),
            ("reported", or_null(journey.reported.map(Report::word))),
        ])
    });
    let held: Vec<Value> = view
        .held
        .iter()
        .map(|hold| {
            object([
                ("sha256", hold.content.as_str().into()),
                ("until", hold.until.map_or(Value::Null, time)),
                ("reverts", hold.reverts.into()),
                ("sent", hold.sent.into()),
            ])
        })
        .collect();
    object([
        ("id", view.id.as_str().into()),
        ("kind", view.kind.into()),
        ("project", view.project.as_str().into()),
        ("version", view.version.as_str().into()),
        ("first_seen", time(view.first)),
        ("last_seen", time(view.last)),
        (
            "interval_seconds",
            or_null(Some(view.interval).filter(|seconds| *seconds > 0)),
        ),
        ("probation", view.probation.into()),
        ("listed", view.listed.into()),
        ("journey", or_null(journey)),
        ("held", held.into()),
        (
            "network",
            or_null(view.network.map(|network| network.to_string())),
        ),
        (
            "firmware_name",
            or_null(view.check.firmware_name.as_deref()),
        ),
        ("platform", or_null(view.check.name().platform)),
        ("core", or_null(view.check.core())),
        ("request", request_of(&view.check).into()),
        ("request_known", view.is_whole.into()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::Check;
    use crate::fleet::network::Network;
    use crate::fleet::view::{HoldView, JourneyView};

    #[test]
    fn a_device_is_shown_with_what_is_known_of_it() {
        let mut view = DeviceView {
            id: "862991443753386".into(),
            kind: "imei",
            project: "P".into(),
            version: "1.0.0".into(),
            first: 1_795_420_800,
            last: 0,
            interval: 0,
            probation: true,
            listed: false,
            journey: None,
            network: Some(Network::V4([10, 0, 1])),
            check: Check::default(),
            is_whole: true,
            held: Vec::new(),
        };
        let shown = device(&view);
        assert_eq!(shown["first_seen"], "2026-11-23T08:00:00Z");
        assert_eq!(shown["last_seen"], Value::Null);
        assert_eq!(shown["interval_seconds"], Value::Null);
        assert_eq!(shown["journey"], Value::Null);
        view.interval = 60;
        view.journey = Some(JourneyView {
            version: "2.0.0".into(),
            content: "ab".into(),
            state: State::Downloading,
            since: 1_795_420_800,
            reached: 5,
            size: 10,
            from: "1.0.0".into(),
            reported: Some(Report::Failed),
        });
        view.held.push(HoldView {
            content: "ab".into(),
            until: None,
            reverts: 2,
            sent: 9,
        });
        let shown = device(&view);
        assert_eq!(shown["journey"]["state"], "downloading");
        assert_eq!(shown["journey"]["reported"], "failed");
        assert_eq!(shown["held"][0]["until"], Value::Null);
        assert_eq!(shown["interval_seconds"], 60);
    }
}
