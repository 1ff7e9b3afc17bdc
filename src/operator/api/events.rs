//! `GET /api/v1/events`: a stream of events (`text/event-stream`, HTML Living Standard 9.2). The page reads it with
//! fetch, because an EventSource cannot send a token.

use std::convert::Infallible;
use std::io;
use std::net::TcpStream;
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};
use smol::channel::Receiver;
use smol::future::or;
use smol::{Async, Timer};

use crate::fleet::events::{Event, EventSubject};
use crate::operator::codec::StatusCode;
use crate::operator::context::OperatorContext;
use crate::operator::head::RequestHead;
use crate::operator::response::{ApiResult, Response, ResponseBody, rfc3339};
use crate::operator::stream::{end_pieces, receive, send_piece};

/// Interval of the comments that keep proxies from closing a quiet stream.
const PING: Duration = Duration::from_secs(15);

/// Opens a stream of the events from now on. Fails if too many streams are open.
pub(super) fn subscribe(context: &OperatorContext, head: &RequestHead) -> ApiResult {
    if head.head_only() {
        let response = Response::problem(StatusCode::MethodNotAllowed, "this path takes GET");
        return Err(response.with("allow", "GET"));
    }
    let events = context.fleet.borrow_mut().events.subscribe();
    let events = events.ok_or_else(|| {
        Response::unavailable("too many event streams are open: close another window")
    })?;
    let response = Response {
        body: ResponseBody::Events(events),
        ..Response::ok("text/event-stream", "")
    };
    // Otherwise nginx would buffer the events.
    Ok(response.with("x-accel-buffering", "no"))
}

/// Sends events until the client has disconnected or `stopped` is closed. `is_http10`: do not use chunks.
pub(in crate::operator) async fn send_events(
    stream: &Async<TcpStream>,
    events: Receiver<Rc<Event>>,
    is_http10: bool,
    stopped: &Receiver<Infallible>,
) -> io::Result<()> {
    // A first comment tells the client that the stream is open.
    let mut next = Some(": hello\n\n".to_owned());
    while let Some(text) = next {
        send_piece(stream, &text, is_http10).await?;
        let event =
            async { io::Result::Ok(events.recv().await.ok().map(|event| event_text(&event))) };
        let quiet = async {
            Timer::after(PING).await;
            Ok(Some(": ping\n\n".to_owned()))
        };
        // Data after the request violates the protocol, and ends the stream like a close.
        let gone = async {
            receive(stream, &mut [0; 512]).await?;
            Err(io::ErrorKind::ConnectionAborted.into())
        };
        let stop = async {
            let _ = stopped.recv().await;
            Ok(None)
        };
        next = or(stop, or(gone, or(event, quiet))).await?;
    }
    end_pieces(stream, is_http10).await
}

/// Encodes an event for the stream. JSON contains no line feeds.
fn event_text(event: &Event) -> String {
    let (name, data) = match event {
        Event::Check {
            unix,
            subject,
            verdict,
            reason,
            peer,
        } => {
            let own = [
                ("verdict", json!(verdict)),
                ("reason", json!(reason)),
                ("peer", json!(peer)),
            ];
            ("check", event_json(*unix, subject, own))
        }
        Event::Download {
            unix,
            number,
            subject,
            bytes,
            size,
            result,
        } => {
            let own = [
                ("number", json!(number)),
                ("bytes", json!(bytes)),
                ("size", json!(size)),
                ("result", json!(result)),
            ];
            ("download", event_json(*unix, subject, own))
        }
        Event::Catalog { unix } => ("catalog", json!({"time": rfc3339(*unix)})),
        Event::Notice { unix, notice } => {
            let (name, data) = (notice.kind.word(), notice.json(*unix));
            return format!("event: {name}\ndata: {data}\n\n");
        }
    };
    format!("event: {name}\ndata: {data}\n\n")
}

/// The data of an event. `own`: what the subject does not state.
fn event_json<const N: usize>(unix: i64, subject: &EventSubject, own: [(&str, Value); N]) -> Value {
    let common = [
        ("time", json!(rfc3339(unix))),
        ("proto", json!(subject.proto)),
        ("device", json!(subject.device)),
        ("name", json!(subject.name)),
        ("project", json!(subject.project)),
        ("from", json!(subject.from)),
        ("to", json!(subject.to)),
    ];
    common.into_iter().chain(own).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_two_lines_whatever_a_module_sends() {
        let event = Event::Check {
            unix: 1_795_420_800,
            subject: EventSubject {
                proto: "http",
                device: "862991443753386".into(),
                name: "".into(),
                project: "P\n\ndata: x\r\u{2028}".into(),
                from: "1.0.0".into(),
                to: "".into(),
            },
            verdict: "refuse",
            reason: "\"quoted\"".into(),
            peer: "[::1]:5".into(),
        };
        let text = event_text(&event);
        assert!(text.starts_with("event: check\ndata: {") && text.ends_with("}\n\n"));
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(!text.contains('\r'));
        let data = text.lines().nth(1).unwrap().strip_prefix("data: ").unwrap();
        let data: Value = serde_json::from_str(data).unwrap();
        assert_eq!(data["project"], "P\n\ndata: x\r\u{2028}");
        assert_eq!(data["time"], "2026-11-23T08:00:00Z");
    }
}
