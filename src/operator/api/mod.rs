//! What each route answers. All of it is JSON, errors are problems (RFC 9457), times RFC 3339 in UTC, and
//! `null` is what nobody knows. `openapi.json` describes it, and a test holds every reply to that.

mod devices;
mod explain;
mod quarantine;
mod rates;
mod recognise;
mod releases;
mod rules;
mod summary;
mod upload;

use std::rc::Rc;

use http_types::StatusCode;
use serde_json::{Map, Value};
use smol::channel::Receiver;

use super::aside::aside;
use super::body::Incoming;
use super::head::Asked;
use super::metrics::{self, Numbers};
use super::reply::{Body, JSON, Reply};
use super::route::Route;
use super::{Desk, pages};
use crate::firmware::json as strict;
use crate::fleet::events::Event;
use crate::logging::Civil;
use crate::os::fs::Folder;

pub(super) use releases::state as state_of;
pub(super) use summary::quarantined_files;

/// The description of all this.
const OPENAPI: &[u8] = include_bytes!("../openapi.json");

/// The longest JSON body, in bytes.
const LONGEST: usize = 64 * 1024;

/// What a request gets.
pub(super) enum Answer {
    /// This.
    Reply(Reply),
    /// What happens, as it happens.
    Events(Receiver<Rc<Event>>),
}

/// Answers a request that is allowed.
pub(super) async fn answer(
    desk: &Desk,
    asked: &Asked,
    route: Route<'_>,
    body: &mut Incoming<'_>,
) -> Answer {
    let reply = match route {
        Route::Page(name) => page(name, asked),
        Route::Healthz => plain("ok\n"),
        Route::Readyz => ready(desk).await,
        Route::Metrics => metrics(desk),
        Route::OpenApi => Reply::ok(JSON, Body::Fixed(OPENAPI)),
        Route::Summary => summary::summary(desk).await,
        Route::Releases => releases::list(desk, asked).await,
        Route::Quarantine => quarantine::list(desk, asked),
        Route::Devices => devices::list(desk, asked),
        Route::Device(id) => devices::one(desk, id),
        Route::Lift(id) => devices::lift(desk, id),
        Route::Rates => rates::rates(desk),
        Route::Events if asked.head_only() => {
            Reply::problem(StatusCode::MethodNotAllowed, "this path takes GET").with("allow", "GET")
        }
        Route::Events => {
            let reader = desk.fleet.borrow_mut().events.subscribe();
            match reader {
                Some(reader) => return Answer::Events(reader),
                None => Reply::problem(
                    StatusCode::ServiceUnavailable,
                    "as many look on already as may: close another window",
                ),
            }
        }
        Route::Rules(of) => rules::get(desk, asked, of).await,
        Route::PutRules(of) => rules::put(desk, asked, of, body).await,
        Route::Change(of, change) => rules::change(desk, of, change, body).await,
        Route::Explain => explain::answer(desk, body).await,
        Route::Recognise => recognise::answer(desk, body).await,
        Route::Upload(parts) => upload::upload(desk, asked, parts, body).await,
    };
    Answer::Reply(reply)
}

fn page(name: &str, asked: &Asked) -> Reply {
    let known = asked.header("if-none-match").unwrap_or_default();
    let takes = asked.header("accept-encoding").unwrap_or_default();
    pages::page(name, known, takes).unwrap_or_else(nothing_here)
}

pub(super) fn nothing_here() -> Reply {
    Reply::problem(StatusCode::NotFound, "there is nothing at this path")
}

/// Can it be served from? The folder may be a stick that was pulled.
async fn ready(desk: &Desk) -> Reply {
    let folder = desk.folder.clone();
    match aside(move || Folder::open(&folder).is_ok()).await {
        Ok(true) => plain("ok\n"),
        Ok(false) => Reply::problem(
            StatusCode::ServiceUnavailable,
            "the firmware folder cannot be read",
        ),
        Err(busy) => busy,
    }
}

fn metrics(desk: &Desk) -> Reply {
    let numbers = Numbers {
        running: (desk.running)(),
        began: Some(desk.began),
        resident: metrics::resident(),
    };
    let text = metrics::text(&(desk.catalog)(), &desk.fleet.borrow(), numbers);
    Reply::ok(metrics::KIND, Body::Bytes(text.into_bytes()))
}

/// A JSON object out of a body; an empty body is an empty object.
async fn json(body: &mut Incoming<'_>) -> Result<Map<String, Value>, Reply> {
    let bytes = body.all(LONGEST).await?;
    if bytes.trim_ascii().is_empty() {
        return Ok(Map::new());
    }
    let wrong = |sentence: &str| Reply::problem(StatusCode::BadRequest, sentence);
    let text = str::from_utf8(&bytes).map_err(|_| wrong("the body is not UTF-8"))?;
    match strict::parse(text) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(wrong("the body must be a JSON object")),
        Err(why) => Err(wrong(&format!("the body: {why}"))),
    }
}

fn plain(text: &'static str) -> Reply {
    Reply::ok("text/plain; charset=utf-8", Body::Fixed(text.as_bytes()))
}

/// A moment as RFC 3339; `null` where it is not known.
pub(super) fn time(unix: i64) -> Value {
    match u64::try_from(unix) {
        Ok(unix @ 1..) => Value::from(format!("{}Z", Civil::of(unix))),
        _ => Value::Null,
    }
}

/// An object of these pairs.
pub(super) fn object<const N: usize>(pairs: [(&str, Value); N]) -> Value {
    let mut map = Map::new();
    for (key, value) in pairs {
        map.insert(key.to_owned(), value);
    }
    Value::Object(map)
}

/// The value, or `null`.
pub(super) fn or_null<T: Into<Value>>(value: Option<T>) -> Value {
    value.map_or(Value::Null, Into::into)
}

/// `limit` in the query: at most `most`.
pub(super) fn limit(asked: &Asked, usual: usize, most: usize) -> Result<usize, Reply> {
    let Some(text) = asked.target.asked("limit") else {
        return Ok(usual);
    };
    match text.parse() {
        Ok(limit) if (1..=most).contains(&limit) && !text.starts_with('+') => Ok(limit),
        _ => Err(Reply::problem(
            StatusCode::BadRequest,
            format!("limit must be a number from 1 to {most}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_rfc_3339_or_not_known() {
        assert_eq!(time(1_795_420_800), "2026-11-23T08:00:00Z");
        assert_eq!(time(0), Value::Null);
        assert_eq!(time(-5), Value::Null);
    }
}
