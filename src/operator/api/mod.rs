//! The responses of the routes: JSON, lists also as CSV, errors as problems (RFC 9457), times as RFC 3339 in UTC,
//! `null` for unknown values. `openapi.json` describes them, and a test compares every response with it.

mod base64;
mod changes;
mod counting;
mod devices;
pub mod events;
mod explain;
mod export;
mod history;
mod metrics;
#[cfg(feature = "pack")]
mod pack;
mod pages;
mod preview;
mod quarantine;
mod rates;
mod recognise;
mod releases;
mod rules;
mod summary;
mod upload;

use serde_json::{Map, Value};

use super::blocking::unblock;
use super::body::RequestBody;
use super::codec::StatusCode;
use super::context::OperatorContext;
use super::head::RequestHead;
use super::response::{ApiResult, Effect, JSON, Response};
use super::route::OperatorRoute;
use crate::export::ExportFormat;
use crate::firmware::json as strict;
use crate::os::fs::Folder;

/// The description of the API.
const OPENAPI: &[u8] = include_bytes!("../openapi.json");

/// Length of the longest JSON body, in bytes.
const LONGEST: usize = 64 * 1024;

/// Maximum number of entries on a page.
const MAX_LIMIT: usize = 500;

/// Returns the response to an allowed request.
pub async fn answer(
    context: &OperatorContext,
    head: &RequestHead,
    route: OperatorRoute<'_>,
    body: &mut RequestBody<'_>,
) -> Response {
    let response = match route {
        OperatorRoute::Page(name) => pages::get(name, head).ok_or_else(not_found),
        OperatorRoute::Healthz => Ok(Response::text("ok\n")),
        OperatorRoute::Readyz => ready(context).await,
        OperatorRoute::Metrics => Ok(metrics::get(context).await),
        OperatorRoute::OpenApi => Ok(Response::ok(JSON, OPENAPI)),
        OperatorRoute::Summary => summary::get(context).await,
        OperatorRoute::Releases => releases::list(context, head).await,
        OperatorRoute::History(project, version) => {
            history::of_release(context, head, project, version).await
        }
        OperatorRoute::Versions => history::versions(context, head).await,
        OperatorRoute::Quarantine => quarantine::list(context, head),
        OperatorRoute::Devices => devices::list(context, head).await,
        OperatorRoute::Device(id) => devices::get(context, head, id).await,
        OperatorRoute::Lift(id) => devices::clear_hold(context, id),
        OperatorRoute::Rates => Ok(rates::get(context)),
        OperatorRoute::Changes => Ok(changes::get(context)),
        OperatorRoute::Events => events::subscribe(context, head),
        OperatorRoute::Rules(scope) => rules::get(context, head, scope).await,
        OperatorRoute::PutRules(scope) => rules::put(context, head, scope, body).await,
        OperatorRoute::Change(scope, change) => rules::change(context, scope, change, body).await,
        OperatorRoute::Retire(scope) => rules::retire(context, scope).await,
        OperatorRoute::Explain => explain::post(context, body).await,
        OperatorRoute::Preview => preview::post(context, body).await,
        OperatorRoute::Recognise => recognise::post(context, body).await,
        OperatorRoute::Upload(parts) => upload::put(context, head, parts, body).await,
        #[cfg(feature = "pack")]
        OperatorRoute::Pack(name) => {
            let made = pack::post(context, head, name, body).await;
            // The package is sent and not stored.
            made.map(|response| response.with_effect(Effect::Nothing))
        }
        #[cfg(not(feature = "pack"))]
        OperatorRoute::Pack(_) => Err(Response::problem(
            StatusCode::NotImplemented,
            "this build of luat-ota makes no packages: run `luat-ota pack` of a full build on another machine, and \
             upload the .bin that it writes",
        )),
    };
    match response {
        Ok(response) | Err(response) => response,
    }
}

/// Returns the response to an unknown path.
pub fn not_found() -> Response {
    Response::problem(StatusCode::NotFound, "there is nothing at this path")
}

/// Checks that the firmware folder can be read: it may be on a disk that was removed.
async fn ready(context: &OperatorContext) -> ApiResult {
    let folder = context.folder.clone();
    match unblock(move || Folder::open(&folder).is_ok()).await? {
        true => Ok(Response::text("ok\n")),
        false => Err(Response::unavailable("the firmware folder cannot be read")),
    }
}

/// Reads the JSON object of a body; an empty body is an empty object.
async fn json_object(body: &mut RequestBody<'_>) -> ApiResult<Map<String, Value>> {
    let bytes = body.all(LONGEST).await?;
    if bytes.trim_ascii().is_empty() {
        return Ok(Map::new());
    }
    let text = str::from_utf8(&bytes);
    let text = text.map_err(|_| Response::bad_request("the body is not UTF-8"))?;
    match strict::parse(text) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(Response::bad_request("the body must be a JSON object")),
        Err(why) => Err(Response::bad_request(format!("the body: {why}"))),
    }
}

/// Parses `limit` of the query: the number of entries on a page, by default 100.
fn limit(head: &RequestHead) -> ApiResult<usize> {
    let Some(text) = head.target.query("limit") else {
        return Ok(100);
    };
    match text.parse() {
        Ok(limit @ 1..=MAX_LIMIT) if !text.starts_with('+') => Ok(limit),
        _ => Err(Response::bad_request(format!(
            "limit must be a number from 1 to {MAX_LIMIT}"
        ))),
    }
}

/// Returns the format of an export, from `format` in the query or `Accept`; `None` if the request is for a page.
fn format(head: &RequestHead) -> ApiResult<Option<ExportFormat>> {
    let wants_csv = |accepted: &str| {
        let mut kinds = accepted.split([',', ';']).map(str::trim);
        kinds.any(|kind| kind.eq_ignore_ascii_case("text/csv"))
    };
    let format = match head.target.query("format") {
        Some("csv") => ExportFormat::Csv,
        Some("json") => ExportFormat::Json,
        Some(_) => return Err(Response::bad_request("format must be csv or json")),
        None if head.header("accept")?.is_some_and(wants_csv) => ExportFormat::Csv,
        None => return Ok(None),
    };
    let is_paged = ["after", "limit", "sort"]
        .iter()
        .any(|name| head.target.query(name).is_some());
    match is_paged {
        true => Err(Response::bad_request(
            "an export is the whole list: omit after, limit and sort",
        )),
        false => Ok(Some(format)),
    }
}

/// Parses `after` of the query with `parse`: the end of the previous page.
fn after<'h, T>(
    head: &'h RequestHead,
    parse: impl FnOnce(&'h str) -> Option<T>,
) -> ApiResult<Option<T>> {
    match head.target.query("after").map(parse) {
        None => Ok(None),
        Some(Some(after)) => Ok(Some(after)),
        Some(None) => Err(Response::bad_request(
            "after must be the next of an earlier page",
        )),
    }
}
