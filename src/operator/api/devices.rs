//! `/api/v1/devices`: a page of devices, one device, and its hold by the loop guard.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};

use super::explain::explanation;
use crate::export::{DEVICE, Export, ExportFormat, STEP, device, steps};
use crate::firmware::audience::DeviceId;
use crate::fleet::clock::unix_now;
use crate::fleet::devices::{DeviceColumn, DevicePlace, DeviceSearch};
use crate::fleet::entry::ChangeEntry;
use crate::fleet::progress::State;
use crate::fleet::view::Filter;
use crate::operator::codec::StatusCode;
use crate::operator::context::OperatorContext;
use crate::operator::head::RequestHead;
use crate::operator::response::{
    ApiResult, Effect, ExportedList, JSON, ListExport, Response, ResponseBody,
};
use crate::operator::slice::Slice;

const STATES: &str = "state must be offered, downloading, delivered, confirmed, reverted, silent, sent or \
     waiting";

const SORTS: &str = "sort must be id, project, version, platform, state, first_seen or last_seen, with a - in front \
     for the opposite order";

/// Number of devices that are shown between two reads of the clock.
const BATCH: usize = 4;

/// Returns a page of devices (`?search=&imei=&project=&version=&platform=&to=&state=&held=1&sort=&after=&limit=`), or
/// the whole list (`format=`).
pub(super) async fn list(context: &OperatorContext, head: &RequestHead) -> ApiResult {
    let filter = filter(context, head)?;
    if let Some(format) = super::format(head)? {
        return Ok(ListExport::response(format, ExportedList::Devices(filter)));
    }
    let order = match head.target.query("sort").map(order_of) {
        None => None,
        Some(order) => Some(order.ok_or_else(|| Response::bad_request(SORTS))?),
    };
    let after = super::after(head, place_of)?;
    let mut search = DeviceSearch::new(filter, order, after, super::limit(head)?);
    let mut slice = Slice::begin();
    while context.fleet.borrow().search(&mut search, Instant::now()) {
        slice.pause_if_over().await;
    }
    let (slots, next) = search.found();
    let mut text = String::new();
    let mut rows = Export::new(ExportFormat::Json, "devices", DEVICE);
    rows.begin(&mut text);
    for slots in slots.chunks(BATCH) {
        let (now, unix) = (Instant::now(), unix_now());
        for slot in slots {
            if let Some(view) = context.fleet.borrow().device_at(*slot, now, unix) {
                rows.row(&mut text, &device(&view));
            }
        }
        slice.pause_if_over().await;
    }
    let rest = [
        ("next", next.map(place_text).into()),
        ("matching", search.matching.into()),
        ("total", context.fleet.borrow().devices().into()),
    ];
    rows.end(&mut text, &rest);
    Ok(Response::ok(JSON, text))
}

fn filter(context: &OperatorContext, head: &RequestHead) -> ApiResult<Filter> {
    let query = |name| head.target.query(name);
    let owned = |name| query(name).map(str::to_owned);
    let state = match query("state") {
        None => None,
        Some(word) => Some(State::of_word(word).ok_or_else(|| Response::bad_request(STATES))?),
    };
    Ok(Filter {
        prefix: query("imei").map(DeviceId::prefix).unwrap_or_default(),
        search: query("search").map(DeviceId::prefix).unwrap_or_default(),
        names: query("search").map(|_| Arc::clone(&(context.catalog)().groups)),
        project: owned("project"),
        version: owned("version"),
        platform: owned("platform"),
        to: owned("to"),
        state,
        held: matches!(query("held"), Some("1" | "true")),
    })
}

/// Parses an order such as `-last_seen`. Returns the column, and whether the order is descending.
fn order_of(text: &str) -> Option<(DeviceColumn, bool)> {
    let column = text.strip_prefix('-');
    let is_descending = column.is_some();
    Some((
        DeviceColumn::of_word(column.unwrap_or(text))?,
        is_descending,
    ))
}

/// Encodes the end of a page for the API: the key in hexadecimal digits without trailing zeros, and the slot.
fn place_text((key, slot): DevicePlace) -> String {
    let mut text = String::new();
    for byte in key {
        let _ = write!(text, "{byte:02x}");
    }
    let key = text.trim_end_matches('0');
    format!("{key}-{slot}")
}

fn place_of(text: &str) -> Option<DevicePlace> {
    let (digits, slot) = text.split_once('-')?;
    let (mut key, _) = DevicePlace::default();
    if digits.len() > 2 * key.len() {
        return None;
    }
    for (at, digit) in digits.chars().enumerate() {
        let digit = u8::try_from(digit.to_digit(16)?).ok()?;
        let shift = if at % 2 == 0 { 4 } else { 0 };
        *key.get_mut(at / 2)? |= digit << shift;
    }
    Some((key, slot.parse().ok()?))
}

/// Returns one device with its last steps and the current decision on its check; with `format=` only the steps.
pub(super) async fn get(context: &OperatorContext, head: &RequestHead, id: &str) -> ApiResult {
    let id = DeviceId::parse(id).ok_or_else(unknown)?;
    let (view, own) = {
        let fleet = context.fleet.borrow();
        let view = fleet.device(id, Instant::now(), unix_now());
        view.zip(fleet.steps(id)).ok_or_else(unknown)?
    };
    let [list, since, refusal] = steps(&own, view.wall);
    if let Some(format) = super::format(head)? {
        let mut rows = Export::new(format, "steps", STEP);
        let mut out = String::new();
        rows.begin(&mut out);
        let list = list.as_array().into_iter().flatten();
        list.for_each(|step| rows.row(&mut out, step));
        rows.end(&mut out, &[("steps_since", since)]);
        let body = ResponseBody::Bytes(out.into_bytes());
        return Ok(Response::file(&rows, body));
    }
    let mut shown = device(&view);
    let is_known = shown.get("request_known") == Some(&Value::Bool(true));
    let now = match is_known {
        true => Some(explanation(context, view.entry.check()).await),
        false => None,
    };
    let rest = [
        ("steps", list),
        ("steps_since", since),
        ("last_refusal", refusal),
        ("now", now.into()),
    ];
    if let Some(shown) = shown.as_object_mut() {
        shown.extend(rest.map(|(key, value)| (key.to_owned(), value)));
    }
    Ok(Response::json(&shown))
}

/// Clears the hold of the loop guard on a device.
pub(super) fn clear_hold(context: &OperatorContext, id: &str) -> ApiResult {
    let device = DeviceId::parse(id).ok_or_else(unknown)?;
    let now = Instant::now();
    let mut fleet = context.fleet.borrow_mut();
    if !fleet.remembers(device) {
        return Err(unknown());
    }
    let lifted = fleet.clear_hold(device, now);
    let change = ChangeEntry::new(ChangeEntry::LIFT, "", "", id);
    Ok(Response::json(&json!({"lifted": lifted})).with_effect(Effect::Change(Box::new(change))))
}

fn unknown() -> Response {
    Response::problem(StatusCode::NotFound, "no device of this id is remembered")
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::time::Duration;

    use rustix::time::{ClockId, clock_gettime};

    use super::*;
    use crate::fleet::{Fleet, FleetSettings};
    use crate::operator::head;

    /// Creates the context of a server that knows this many devices.
    fn context(devices: u64) -> OperatorContext {
        let now = Instant::now();
        let mut fleet = Fleet::new(FleetSettings::default(), now);
        fleet.refuse_devices(devices, "1.0.0", now);
        OperatorContext::of_fleet(fleet)
    }

    #[test]
    fn other_tasks_run_while_a_long_page_is_made() {
        let context = context(1000);
        let request = b"GET /api/v1/devices?limit=500&sort=-id HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let (head, _) = head::read(request).unwrap().unwrap();
        let cpu = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap();
        let (mut all, mut longest) = (Duration::ZERO, Duration::ZERO);
        let mut page = pin!(list(&context, &head));
        let page = std::future::poll_fn(|task| {
            let start = cpu();
            let polled = page.as_mut().poll(task);
            let took = cpu() - start;
            (all, longest) = (all + took, longest.max(took));
            polled
        });
        let page = smol::block_on(page).unwrap();
        let page = String::from_utf8_lossy(&page.encode(false, false)).into_owned();
        assert_eq!(page.matches("\"kind\":\"imei\"").count(), 500);
        assert!(longest * 4 < all, "{longest:?} of {all:?} at a stretch");
    }

    #[test]
    fn the_end_of_a_page_is_parsed_as_it_was_written() {
        let mut key = DevicePlace::default().0;
        for (text, again) in [("-5", "-5"), ("8a-0", "8a-0"), ("80-7", "8-7")] {
            assert_eq!(place_text(place_of(text).unwrap()), again);
        }
        for byte in 0..24 {
            key[byte] = 0x10 + byte as u8;
            let place = (key, 77);
            assert_eq!(place_of(&place_text(place)), Some(place));
        }
        let long = format!("{}-1", "1".repeat(49));
        for text in ["", "5", "g-5", "1-", "1-x", "ä-1", &long] {
            assert_eq!(place_of(text), None, "{text}");
        }
    }

    #[test]
    fn an_order_is_a_column_and_its_direction() {
        assert_eq!(order_of("id"), Some((DeviceColumn::Id, false)));
        assert_eq!(order_of("-last_seen"), Some((DeviceColumn::LastSeen, true)));
        assert_eq!(order_of("--id"), None);
        assert_eq!(order_of("size"), None);
    }
}
