//! Advice on what a server must change, in one sentence. Used by `probe`: it examines the raw bytes
//! of a reply more strictly than any one client, and picks the flaw that makes this client fail.
//!
//! No flaw is a matter of taste or of the RFC. docs/protocol.md lists each one with the generations
//! that it breaks, and [`Flaw::breaks`] is that table.

mod datagrams;
mod http;

use super::driver::{Exchange, Played};
use super::generations::Client;
use super::libfota3::REPORTS_FAILURE;
use super::luatask::Generation;
use super::luatos::Core;
use super::{Failure, Outcome};

pub use self::http::flaws;

/// A property of a reply that makes some generation fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// No connection could be made; contains the reason.
    NotReached(String),
    /// The server sent nothing, and the connection stayed open.
    Silent,
    /// The connection ended before a byte was received.
    ClosedSilently,
    /// The received bytes are not HTTP.
    NotHttp,
    /// The status is 400 or 5xx.
    Error(u16),
    /// A 200 with an empty body.
    EmptyBody,
    /// A 200 with text instead of firmware; contains the start of the text.
    TextBody(String),
    /// The connection ended before the body was complete; contains the bytes received and promised.
    CutShort(u64, u64),
    /// The status line begins with `HTTP/1.0`.
    Http10,
    /// The reason phrase is missing; contains the status.
    NoReason(u16),
    /// A header name differs from the form that clients need; contains the received and the right
    /// form.
    NameCase(String, &'static str),
    /// The colon of this header is not followed by exactly one space.
    Spaces(&'static str),
    /// A header without a value; contains its name.
    EmptyValue(String),
    /// The body is chunked.
    Chunked,
    /// A 200 without Content-Length.
    NoLength,
    /// The body is compressed.
    Encoded,
    /// The head arrived in several pieces.
    HeadSplit,
    /// The head is longer than is safe; contains its size in bytes.
    HeadLong(usize),
    /// The reply to `bytes=N-` is the whole file; contains N.
    RangeIgnored(u64),
    /// The reply to `bytes=N-` is another part; contains N.
    RangeWrong(u64),
    /// A redirect to a client that did not ask for one.
    Redirect(u16),
    /// A redirect without an absolute Location.
    Location,
    /// The body contains `"code": 43`.
    Code43,
    /// `msg` contains something other than \uXXXX escapes.
    Message,
    /// The whole reply arrived in one recv.
    OneRecv,
    /// The connection stays open after the reply.
    NotClosed,
}

impl Flaw {
    /// Returns what the server must change.
    pub fn sentence(&self) -> String {
        match self {
            Flaw::NotReached(why) => {
                format!("make the server reachable here: no connection could be made ({why})")
            }
            Flaw::Silent => "answer every request: there was no reply".into(),
            Flaw::ClosedSilently => {
                "answer before closing: the connection ended without a byte".into()
            }
            Flaw::NotHttp => "answer with HTTP: a reply begins with `HTTP/1.1 `".into(),
            Flaw::Error(400) => {
                "accept the request as it is instead of answering 400: modules do not encode it, \
                                 and send nothing more"
                    .into()
            }
            Flaw::Error(status) => format!(
                "find out why the server answers {status}: to a module that is \"no update\""
            ),
            Flaw::EmptyBody => "answer 404 instead of 200 with an empty body".into(),
            Flaw::TextBody(text) => {
                format!("answer 404 instead of 200 with a text body (\"{text}\")")
            }
            Flaw::CutShort(got, of) => {
                format!("send all bytes of Content-Length: {got} of {of} were received")
            }
            Flaw::Http10 => "write `HTTP/1.1` into the status line, not `HTTP/1.0`".into(),
            Flaw::NoReason(status) => {
                format!("send a reason phrase: `HTTP/1.1 {status} OK`, not `HTTP/1.1 {status}`")
            }
            Flaw::NameCase(is, expected) => {
                format!("write header names as `{expected}`, not `{is}`")
            }
            Flaw::Spaces(name) => format!("put exactly one space after the colon of `{name}:`"),
            Flaw::EmptyValue(name) => {
                format!("leave out the header `{name}`: with an empty value, the next line is lost")
            }
            Flaw::Chunked => {
                "send Content-Length and no chunks (`Transfer-Encoding: chunked`)".into()
            }
            Flaw::NoLength => "send `Content-Length`".into(),
            Flaw::Encoded => "do not compress: no module decodes `Content-Encoding`".into(),
            Flaw::HeadSplit => "send all headers in one write (one TCP segment)".into(),
            Flaw::HeadLong(bytes) => {
                format!(
                    "send shorter headers: they have {bytes} bytes; 1400 are safe, 8191 is the limit"
                )
            }
            Flaw::RangeIgnored(from) => format!(
                "honour Range: answer `bytes={from}-` with 206 and the rest, or with 416, not with the whole file"
            ),
            Flaw::RangeWrong(from) => {
                format!("honour Range: `bytes={from}-` was answered with another part")
            }
            Flaw::Redirect(status) => format!(
                "answer with the file itself instead of {status}: only modules that send \
                 need_oss_url=1 follow a redirect"
            ),
            Flaw::Location => "redirect with an absolute `Location: http://host:port/path`".into(),
            Flaw::Code43 => {
                "never send `\"code\": 43`: the module waits 30 s and asks again, endlessly".into()
            }
            Flaw::Message => {
                "write `msg` as \\uXXXX escapes alone (letters too), or leave it out".into()
            }
            Flaw::OneRecv => {
                "send the end of the file in a write of its own: a reply that arrives \
                              in one piece (under 1.2 kB) is never recognised as complete"
                    .into()
            }
            Flaw::NotClosed => "close the connection after the reply".into(),
        }
    }

    /// Whether this flaw makes the client fail (docs/protocol.md 2).
    pub fn breaks(&self, client: Client) -> bool {
        let updatehttp = client == Client::UpdateHttp;
        let luatask = matches!(client, Client::LuaTask(_) | Client::LuaTaskRedirect);
        let on_4g = luatask && client != Client::LuaTask(Generation::Gen2g);
        let core = client.luatos_core();
        let since = |from: Core| core.is_some_and(|core| core >= from);
        let within = |from: Core, to: Core| core.is_some_and(|core| from <= core && core < to);
        match self {
            Flaw::NotReached(_)
            | Flaw::Silent
            | Flaw::ClosedSilently
            | Flaw::NotHttp
            | Flaw::Error(_)
            | Flaw::EmptyBody
            | Flaw::TextBody(_)
            | Flaw::CutShort(..)
            | Flaw::Encoded => true,
            Flaw::Http10 | Flaw::Message | Flaw::OneRecv => updatehttp,
            Flaw::NoReason(_) | Flaw::EmptyValue(_) => luatask,
            Flaw::NameCase(..) => updatehttp || luatask,
            Flaw::Spaces(_) => {
                updatehttp
                    || within(Core::D2025_12_02, Core::D2025_12_04)
                    || within(Core::D2025_12_19, Core::D2026_02_02)
            }
            Flaw::Chunked => {
                updatehttp
                    || on_4g
                    || within(Core::D2025_12_02, Core::D2025_12_04)
                    || within(Core::D2025_12_19, Core::D2026_01_14)
            }
            Flaw::NoLength => {
                updatehttp
                    || on_4g
                    || core.is_some_and(|core| core < Core::D2025_12_04)
                    || within(Core::D2025_12_19, Core::D2026_02_02)
                    || since(Core::D2026_03_10)
            }
            Flaw::HeadSplit => core.is_some_and(|core| core < Core::D2024_06_27),
            Flaw::HeadLong(bytes) => core.is_some() && *bytes > 8191,
            Flaw::RangeIgnored(_) | Flaw::RangeWrong(_) => {
                on_4g || core.is_some_and(|core| core < Core::D2025_01_27)
            }
            Flaw::Redirect(_) => updatehttp || core.is_some(),
            Flaw::Location => luatask,
            Flaw::Code43 => on_4g && client != Client::LuaTask(Generation::Asr1802),
            Flaw::NotClosed => since(Core::D2026_02_02),
        }
    }
}

/// Whether the failure is a bug of the client that no server can avoid: the core of 2025-11-12
/// never reports a reply without a file. A redirect does not count, because the server could send
/// the file.
pub fn is_known_bug(client: Client, played: &Played) -> bool {
    let refusal = |exchange: &Exchange| {
        exchange
            .status()
            .is_some_and(|status| !matches!(status, 200 | 206 | 301..=303 | 307 | 308))
    };
    client.luatos_core() == Some(Core::D2025_11_12)
        && matches!(
            played.outcome,
            Outcome::Failed(Failure::Hung { .. } | Failure::GaveUp(_))
        )
        && played.exchanges.last().is_some_and(refusal)
}

/// Returns one sentence on what the server must change so that this client no longer fails like
/// this.
pub fn sentence(client: Client, failure: &Failure, played: &Played) -> String {
    if let Failure::GaveUp(why) = failure
        && let Some(why) = why.strip_prefix(REPORTS_FAILURE)
    {
        return format!("answer the check as the module compares it after its restart: {why}");
    }
    let found = match client {
        Client::First(_, over_udp) => datagrams::sentence(&played.exchanges, over_udp),
        _ => http_sentence(client, played),
    };
    found.unwrap_or_else(|| {
        format!(
            "no change is known to help; the client: {}",
            describe(failure)
        )
    })
}

fn http_sentence(client: Client, played: &Played) -> Option<String> {
    // The last reply comes first, because the client failed at it. An earlier one may be the cause.
    let mut all = played.exchanges.iter().rev().flat_map(flaws);
    let fatal = all.find(|flaw| flaw.breaks(client))?;
    Some(fatal.sentence())
}

/// Returns a short description of what happened to the client.
pub fn describe(failure: &Failure) -> String {
    match failure {
        Failure::Hung { after, waiting_for } => {
            format!("hangs {} s, waiting for {waiting_for}", after.as_secs())
        }
        Failure::ScriptError(why) => format!("script error, restart: {why}"),
        Failure::FlashedGarbage(bytes, why) => {
            format!("flashes {} bytes of garbage: {why}", bytes.len())
        }
        Failure::RebootLoop(why) => format!("restarts endlessly: {why}"),
        Failure::AsksEndlessly(why) => format!("asks endlessly: {why}"),
        Failure::GaveUp(why) => format!("gives up: {why}"),
    }
}
