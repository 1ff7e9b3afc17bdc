//! What happens now, as a stream of events (`text/event-stream`, HTML Living Standard 9.2).
//!
//! The surprise: it is read with fetch, not with an EventSource, which cannot send a token.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::rc::Rc;
use std::time::Duration;

use serde_json::Value;
use smol::channel::Receiver;
use smol::future::or;

use super::api::{object, or_null, time};
use super::plane::{self, Stream};
use super::reply::{Body, Reply};
use crate::fleet::events::Event;
use crate::os::net::is_early;
use smol::Timer;

/// A word that keeps proxies from taking silence for the end.
const PING: Duration = Duration::from_secs(15);

/// Sends events until one side ends it. `old`: without chunks.
pub(super) async fn send(
    stream: &Stream,
    events: Receiver<Rc<Event>>,
    old: bool,
    ended: &Receiver<Infallible>,
) {
    let head = Reply::ok("text/event-stream", Body::Stream)
        // nginx would collect events otherwise.
        .with("x-accel-buffering", "no")
        .encode(false, old)
        .await;
    let framed = |text: &str| match old {
        true => text.as_bytes().to_vec(),
        false => format!("{:x}\r\n{text}\r\n", text.len()).into_bytes(),
    };
    // A first word, so that whoever reads knows that it stands.
    if !plane::send(stream, &[head, framed(": hello\n\n")].concat()).await {
        return;
    }
    loop {
        let text = match next(stream, &events, ended).await {
            Next::Event(event) => text(&event),
            Next::Quiet => ": ping\n\n".to_owned(),
            Next::Gone => return,
            Next::Ended => {
                if !old {
                    plane::send(stream, b"0\r\n\r\n").await;
                }
                return;
            }
        };
        if !plane::send(stream, &framed(&text)).await {
            return;
        }
    }
}

enum Next {
    Event(Rc<Event>),
    Quiet,
    Gone,
    Ended,
}

async fn next(stream: &Stream, events: &Receiver<Rc<Event>>, ended: &Receiver<Infallible>) -> Next {
    let event = async {
        match events.recv().await {
            Ok(event) => Next::Event(event),
            Err(_) => Next::Ended,
        }
    };
    let stopped = async {
        let _closed = ended.recv().await;
        Next::Ended
    };
    let quiet = async {
        Timer::after(PING).await;
        Next::Quiet
    };
    or(stopped, or(gone(stream), or(event, quiet))).await
}

/// Waits until the reader has gone. One that goes on talking after its request has nothing to say to us:
/// its stream is over.
async fn gone(stream: &Stream) -> Next {
    use std::io::Read as _;
    let mut nowhere = [0; 512];
    loop {
        match stream.get_ref().read(&mut nowhere) {
            Ok(_) => return Next::Gone,
            Err(error) if is_early(&error) => {
                if stream.readable().await.is_err() {
                    return Next::Gone;
                }
            }
            Err(_) => return Next::Gone,
        }
    }
}

/// An event as the stream has it.
fn text(event: &Event) -> String {
    let (name, data) = match event {
        Event::Check {
            unix,
            proto,
            device,
            project,
            from,
            to,
            verdict,
            reason,
            peer,
        } => (
            "check",
            object([
                ("time", time(*unix)),
                ("proto", (*proto).into()),
                ("device", device.as_ref().into()),
                ("project", project.as_ref().into()),
                ("from", from.as_ref().into()),
                ("to", to.as_ref().into()),
                ("verdict", (*verdict).into()),
                ("reason", reason.as_ref().into()),
                ("peer", peer.as_ref().into()),
            ]),
        ),
        Event::Download {
            unix,
            number,
            proto,
            device,
            project,
            from,
            to,
            bytes,
            size,
            result,
        } => (
            "download",
            object([
                ("time", time(*unix)),
                ("number", (*number).into()),
                ("proto", (*proto).into()),
                ("device", device.as_ref().into()),
                ("project", project.as_ref().into()),
                ("from", from.as_ref().into()),
                ("to", to.as_ref().into()),
                ("bytes", (*bytes).into()),
                ("size", (*size).into()),
                ("result", or_null(*result)),
            ]),
        ),
        Event::Catalog { unix } => ("catalog", object([("time", time(*unix))])),
    };
    written(name, &data)
}

/// JSON has no line feeds of its own, so it is one line whatever is in it.
fn written(name: &str, data: &Value) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write!(text, "event: {name}\ndata: {data}\n\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_two_lines_whatever_a_module_says() {
        let event = Event::Check {
            unix: 1_795_420_800,
            proto: "http",
            device: "862991443753386".into(),
            project: "P\n\ndata: x\r\u{2028}".into(),
            from: "1.0.0".into(),
            to: "".into(),
            verdict: "refuse",
            reason: "\"quoted\"".into(),
            peer: "[::1]:5".into(),
        };
        let text = text(&event);
        assert!(text.starts_with("event: check\ndata: {") && text.ends_with("}\n\n"));
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(!text.contains('\r'));
        let data = text.lines().nth(1).unwrap().strip_prefix("data: ").unwrap();
        let data: Value = serde_json::from_str(data).unwrap();
        assert_eq!(data["project"], "P\n\ndata: x\r\u{2028}");
        assert_eq!(data["time"], "2026-11-23T08:00:00Z");
    }
}
