//! The modules themselves, emulated: one faithful, *strict* client per generation, written from
//! docs/protocol.md. They are our own tests, and what `luat-ota probe` and `luat-ota simulate` play.
//!
//! Each client is a state machine that touches no socket: it is fed what happened (connected, these
//! bytes in one recv, closed, this time has come) and says what the module does next. So it is tested
//! with bytes and a clock. Nothing here is shared with the server: an emulation that used the server's
//! parsers would share its mistakes.

pub mod diagnose;
mod dice;
pub mod driver;
pub mod first_edition;
pub mod generations;
pub mod libfota;
pub mod libfota3;
mod lua;
pub mod luatask;
pub mod luatos;
pub mod probe;
pub mod simulate;
pub mod updatehttp;

use std::time::Duration;

/// What a module is and says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// 15 digits.
    pub imei: String,
    /// PROJECT of the script.
    pub project: String,
    /// VERSION of the script, as the script has it (`1.0.0`, `001.000.000`); each client puts it into
    /// its own form.
    pub version: String,
    /// The core's version number (`V0035`, `V2012`): 35, 2012.
    pub core: u32,
    /// The platform: what stands behind `_Luat_V0035_` or `_LuatOS-SoC_`. `None`: the usual one of the
    /// generation.
    pub bsp: Option<String>,
    /// PRODUCT_KEY.
    pub key: String,
    /// The serial number (device_key, SN); may be empty.
    pub serial: String,
}

/// Where the server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Host name or address, as the user wrote it.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path (with a leading `/`) for HTTP clients; empty for UDP and TCP.
    pub path: String,
}

/// What happened to the module.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// It begins.
    Start,
    /// The connection that it asked for is there (a UDP socket: at once).
    Connected,
    /// The connection could not be made.
    ConnectFailed,
    /// One recv returned these bytes (not empty); over UDP one datagram.
    Received(&'a [u8]),
    /// The server closed the connection in order (FIN).
    Closed,
    /// The connection was reset.
    Reset,
    /// The moment of the last [`Action::WakeAt`] has come.
    Wake,
}

/// What the module does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Opens a connection (closing the one it has).
    Connect {
        /// UDP, or TCP.
        datagrams: bool,
        /// Host.
        host: String,
        /// Port.
        port: u16,
    },
    /// One send() of these bytes.
    Send(Vec<u8>),
    /// Closes its connection.
    Close,
    /// Wants [`Event::Wake`] at this moment; replaces the wish before it. `None`: at no moment.
    WakeAt(Option<Duration>),
    /// It is over.
    Finish(Outcome),
}

/// How an attempt to update ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The module took these bytes for its new firmware and restarts with them.
    Updated(Vec<u8>),
    /// It takes the answer for "no update" and goes on as before; what it logs.
    NoUpdate(String),
    /// It failed, in this way.
    Failed(Failure),
}

/// The ways of failing, as the field knows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It waited this long for something that never came, and gave up.
    Hung {
        /// How long, from the start.
        after: Duration,
        /// What it waited for.
        waiting_for: String,
    },
    /// Its script raised an error: the module restarts.
    ScriptError(String),
    /// It wrote bytes that are no firmware into its flash, and believes that they are one.
    FlashedGarbage(Vec<u8>, String),
    /// It restarts, finds nothing new, and asks again, for ever.
    RebootLoop(String),
    /// It asks again and again without an end.
    AsksForEver(String),
    /// It gave up; what it reports (its result code, its log line).
    GaveUp(String),
}

/// The IMEI of device `number` of a fleet that begins with `first`.
fn counted_up(first: &str, number: u32) -> String {
    match first.parse::<u64>() {
        Ok(value) => {
            let value = value.saturating_add(u64::from(number));
            format!("{value:0width$}", width = first.len())
        }
        Err(_) => format!("{first}{number}"),
    }
}

/// One attempt of one module to update. `now` is the time since any fixed moment and never goes back.
pub trait Attempt {
    /// Something happened; what the module does, in order. After [`Action::Finish`] it does nothing.
    fn step(&mut self, now: Duration, event: Event<'_>) -> Vec<Action>;
}
