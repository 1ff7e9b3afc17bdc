//! Responses and their encoding. No other module builds a response.

use std::rc::Rc;

use serde_json::{Value, json};
use smol::channel::Receiver;

use super::codec::{self, StatusCode};
use super::histories::{ReleaseHistory, VersionHistory};
pub use crate::export::rfc3339;
use crate::export::{DEVICE, Export, ExportFormat, HISTORY, RELEASE, VERSION};
use crate::firmware::ContentId;
use crate::fleet::entry::ChangeEntry;
use crate::fleet::events::Event;
use crate::fleet::view::Filter;

/// A response that was not sent yet.
#[derive(Debug)]
pub struct Response {
    /// The HTTP status.
    pub status: StatusCode,
    /// The Content-Type.
    pub kind: &'static str,
    /// Other headers. A value that is not printable ASCII is omitted.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: ResponseBody,
    /// The change that the request made.
    pub effect: Effect,
}

/// The change that a request made.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// The route did not state a change. The request counts as a change if it may change something and
    /// succeeds.
    Unstated,
    /// No change.
    Nothing,
    /// The given change.
    Change(Box<ChangeEntry>),
}

/// A value, or the response that states why there is no value.
pub type ApiResult<T = Response> = Result<T, Response>;

/// The body of a response.
#[derive(Clone, Debug)]
pub enum ResponseBody {
    /// A body that consists of these bytes.
    Bytes(Vec<u8>),
    /// A stream of events, sent after the head when they happen.
    Events(Receiver<Rc<Event>>),
    /// A whole list, sent after the head in pieces.
    Export(Box<ListExport>),
}

/// A whole list that is sent in pieces.
#[derive(Clone, Debug)]
pub struct ListExport {
    /// The list.
    pub list: ExportedList,
    /// The writer of the rows.
    pub rows: Export,
}

impl ListExport {
    /// Creates the response that sends a list.
    pub fn response(format: ExportFormat, list: ExportedList) -> Response {
        let rows = match &list {
            ExportedList::Devices(_) => Export::new(format, "devices", DEVICE),
            ExportedList::Releases(_) => Export::new(format, "releases", RELEASE),
            ExportedList::History(_) => Export::new(format, "history", HISTORY),
            ExportedList::Versions(_) => Export::new(format, "versions", VERSION),
        };
        let body = ResponseBody::Export(Box::new(ListExport {
            list,
            rows: rows.clone(),
        }));
        Response::file(&rows, body)
    }
}

/// A list that can be exported.
#[derive(Clone, Debug)]
pub enum ExportedList {
    /// The devices that pass a filter.
    Devices(Filter),
    /// The releases of all projects or of the named one.
    Releases(Option<String>),
    /// The counts of one release over time, as CSV.
    History(ReleaseHistory),
    /// The versions that devices run or ran, over time.
    Versions(VersionHistory),
}

/// Headers of every response: the page runs only its own scripts and is never framed, and browsers do not
/// guess types.
const COMMON_HEADERS: [(&str, &str); 6] = [
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
         connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    ("connection", "close"),
];

/// The Content-Type of JSON.
pub const JSON: &str = "application/json";

impl Response {
    /// Creates a response 200 with these bytes.
    pub fn ok(kind: &'static str, body: impl Into<Vec<u8>>) -> Response {
        Response {
            status: StatusCode::Ok,
            kind,
            headers: Vec::new(),
            body: ResponseBody::Bytes(body.into()),
            effect: Effect::Unstated,
        }
    }

    /// Creates a response 200 with plain text.
    pub fn text(text: &str) -> Response {
        Response::ok("text/plain; charset=utf-8", text)
    }

    /// Creates a response 200 with JSON.
    pub fn json(value: &Value) -> Response {
        Response::ok(JSON, value.to_string())
    }

    /// Creates a response 200 with an export, as a file.
    pub fn file(rows: &Export, body: ResponseBody) -> Response {
        let (kind, ending) = match rows.format {
            ExportFormat::Json => (JSON, "json"),
            ExportFormat::Csv => ("text/csv; charset=utf-8; header=present", "csv"),
        };
        let file = format!("attachment; filename=\"{}.{ending}\"", rows.name);
        Response {
            body,
            ..Response::ok(kind, "")
        }
        .with("content-disposition", file)
        .with("vary", "accept")
    }

    /// Creates an error (RFC 9457); `detail` is a sentence.
    pub fn problem(status: StatusCode, detail: impl AsRef<str>) -> Response {
        let value = json!({
            "type": "about:blank",
            "title": status.canonical_reason(),
            "status": u16::from(status),
            "detail": detail.as_ref(),
        });
        Response {
            status,
            kind: "application/problem+json",
            ..Response::json(&value)
        }
    }

    /// Creates a response 400 with this sentence.
    pub fn bad_request(detail: impl AsRef<str>) -> Response {
        Response::problem(StatusCode::BadRequest, detail)
    }

    /// Creates a response 422 with this sentence.
    pub fn unprocessable(detail: impl AsRef<str>) -> Response {
        Response::problem(StatusCode::UnprocessableEntity, detail)
    }

    /// Creates a response 503 with this sentence.
    pub fn unavailable(detail: impl AsRef<str>) -> Response {
        Response::problem(StatusCode::ServiceUnavailable, detail)
    }

    /// Replaces the status.
    pub fn with_status(self, status: StatusCode) -> Response {
        Response { status, ..self }
    }

    /// Replaces the change that the request made.
    pub fn with_effect(self, effect: Effect) -> Response {
        Response { effect, ..self }
    }

    /// Adds a header.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Response {
        self.headers.push((name, value.into()));
        self
    }

    /// Encodes the response: the head and, except for a stream, the body. `head_only`: only the head of
    /// any response. `is_http10`: for HTTP/1.0, where a stream ends with the connection.
    pub fn encode(self, head_only: bool, is_http10: bool) -> Vec<u8> {
        let is_cached = self
            .headers
            .iter()
            .any(|(name, _)| *name == "cache-control");
        let headers = COMMON_HEADERS
            .into_iter()
            .chain([("content-type", self.kind)])
            .chain((!is_cached).then_some(("cache-control", "no-store")))
            .chain(self.headers.iter().map(|(name, value)| (*name, &**value)));
        let body = match self.body {
            ResponseBody::Bytes(bytes) => Some(bytes),
            ResponseBody::Events(_) | ResponseBody::Export(_) => None,
        };
        codec::encode(self.status, headers, body, head_only, is_http10)
    }
}

/// Returns the strong entity tag of a content (RFC 9110 section 8.8.3).
pub fn etag(content: ContentId) -> String {
    format!("\"{content}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(response: Response, head_only: bool, is_http10: bool) -> String {
        String::from_utf8(response.encode(head_only, is_http10)).unwrap()
    }

    #[test]
    fn a_problem_has_its_status_and_detail() {
        let response = Response::problem(StatusCode::NotFound, "there is no project \"é\"");
        let text = text(response, false, false);
        assert!(text.starts_with("HTTP/1.1 404 Not Found\r\n"), "{text}");
        for line in [
            "content-type: application/problem+json\r\n",
            "cache-control: no-store\r\n",
            "x-content-type-options: nosniff\r\n",
            "connection: close\r\n",
            "referrer-policy: no-referrer\r\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}", body.len())));
        let body: Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["status"], 404);
        assert_eq!(body["detail"], "there is no project \"é\"");
    }

    #[test]
    fn a_value_that_could_break_a_head_is_left_out() {
        for value in ["a\r\nset-cookie: b", "é", "a\0", "a\n"] {
            let response = Response::ok("text/plain", "x").with("etag", value);
            let text = text(response, false, false);
            assert!(!text.contains("etag") && !text.contains("cookie"), "{text}");
        }
        let response = Response::ok("text/plain", "x").with("etag", "\"a b\"");
        assert!(text(response, false, false).contains("etag: \"a b\"\r\n"));
    }

    #[test]
    fn a_head_alone_has_the_length_of_the_body() {
        let response = Response::ok("text/plain", "12345");
        let text = text(response, true, false);
        assert!(text.contains("content-length: 5\r\n") && text.ends_with("\r\n\r\n"));
    }

    #[test]
    fn a_stream_has_chunks_only_in_http_1_1() {
        let stream = || Response {
            body: ResponseBody::Events(smol::channel::bounded(1).1),
            ..Response::ok("text/event-stream", "")
        };
        let new = text(stream(), false, false);
        assert!(new.contains("transfer-encoding: chunked\r\n") && new.ends_with("\r\n\r\n"));
        let old = text(stream(), false, true);
        assert!(!old.contains("transfer-encoding") && !old.contains("content-length"));
        assert!(old.ends_with("\r\n\r\n"));
    }
}
