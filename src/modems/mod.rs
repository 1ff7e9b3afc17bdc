//! Emulated modules: one faithful, *strict* client per generation, written from docs/protocol.md.
//! Our own tests use them, and `luat-ota probe` and `luat-ota simulate` play them.
//!
//! Each client is a state machine without sockets. Its input is an event (connected, bytes of one
//! recv, closed, time reached), its output the next actions of the module. So a test needs only
//! bytes and a clock. The clients share no code with the server: an emulation that used the
//! server's parsers would share its mistakes.

pub mod diagnose;
pub mod driver;
pub mod first_edition;
pub mod generations;
pub mod libfota;
pub mod libfota3;
mod lua;
pub mod luatask;
pub mod luatos;
pub mod probe;
mod rng;
pub mod simulate;
pub mod updatehttp;

use std::time::Duration;

/// Properties of a module that its requests state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// IMEI, 15 digits.
    pub imei: String,
    /// PROJECT of the script.
    pub project: String,
    /// VERSION of the script, as written there (`1.0.0`, `001.000.000`). Each client sends it in
    /// its own form.
    pub version: String,
    /// Core version: 35 for `V0035`, 2012 for `V2012`.
    pub core: u32,
    /// Platform: the text after `_Luat_V0035_` or `_LuatOS-SoC_`. `None` is the usual platform of
    /// the generation.
    pub bsp: Option<String>,
    /// PRODUCT_KEY.
    pub key: String,
    /// Serial number (device_key, SN); may be empty.
    pub serial: String,
}

/// Address of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Host name or address, as the user wrote it.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path (with a leading `/`) for HTTP clients; empty for UDP and TCP.
    pub path: String,
}

/// Input of a client: an event on the module.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// The attempt starts.
    Start,
    /// The requested connection is established (a UDP socket: immediately).
    Connected,
    /// The requested connection could not be established.
    ConnectFailed,
    /// Bytes that one recv returned, at least one; over UDP one datagram.
    Received(&'a [u8]),
    /// The server closed the connection with a FIN.
    Closed,
    /// The connection was reset.
    Reset,
    /// The moment of the last [`Action::WakeAt`] is reached.
    Wake,
}

/// Output of a client: an action of the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Opens a connection, after closing the current one.
    Connect {
        /// UDP if true, otherwise TCP.
        datagrams: bool,
        /// Host.
        host: String,
        /// Port.
        port: u16,
    },
    /// Sends these bytes with one send().
    Send(Vec<u8>),
    /// Closes the connection.
    Close,
    /// Requests [`Event::Wake`] at this moment, or not at all; replaces the previous request.
    WakeAt(Option<Duration>),
    /// The attempt ends with this outcome.
    Finish(Outcome),
}

/// Result of an attempt to update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The module takes these bytes for its new firmware and restarts with them.
    Updated(Vec<u8>),
    /// The module takes the reply for "no update" and continues as before. Contains its log text.
    NoUpdate(String),
    /// The attempt failed in this way.
    Failed(Failure),
}

/// Failures that modules show in the field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The module waited for something that never came, and gave up.
    Hung {
        /// Time since the start of the attempt.
        after: Duration,
        /// Description of what the module waited for.
        waiting_for: String,
    },
    /// The script raised an error, so the module restarts.
    ScriptError(String),
    /// The module wrote bytes that are no firmware into its flash and takes them for one. Contains
    /// the bytes and the reason.
    FlashedGarbage(Vec<u8>, String),
    /// The module restarts, finds nothing new, and asks again, endlessly.
    RebootLoop(String),
    /// The module asks again endlessly.
    AsksEndlessly(String),
    /// The module gave up. Contains what it reports (result code, log line).
    GaveUp(String),
}

/// Returns the IMEI of device `number` of a fleet whose first IMEI is `first`.
fn nth_imei(first: &str, number: u32) -> String {
    match first.parse::<u64>() {
        Ok(value) => {
            let value = value.saturating_add(u64::from(number));
            format!("{value:0width$}", width = first.len())
        }
        Err(_) => format!("{first}{number}"),
    }
}

/// One attempt of one module to update. `now` is the time since any fixed moment; it never
/// decreases.
pub trait Attempt {
    /// Returns the actions of the module after an event, in order; none after [`Action::Finish`].
    fn step(&mut self, now: Duration, event: Event<'_>) -> Vec<Action>;
}
