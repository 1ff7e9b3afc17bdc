//! Update client of the first edition of Luat: UDP, or the same strings over TCP.
//!
//! Follows 2G script/lib/update.lua (2017-06 to 2018-05, four versions, one wire format) and the C
//! client of the RDA "user.h" monitor firmware, as described in docs/protocol.md 1a and 6 (\[H\]
//! for the Lua client; \[S\] for the C client: 3 x 30 s, exact comparison of the field, less than
//! 256 bytes).
//!
//! The client never reports an error to the server. After a reply that does not fit, it waits ten
//! seconds and asks again; after the fifth time it deletes what it has received.
//!
//! Where docs/protocol.md says nothing, the emulation does this \[I\]: a TCP connection that cannot
//! be made is retried as in updatehttp.lua (5 times, 10 s apart); a packet that does not fit
//! restarts the time-out; a number above 2147483647 becomes 2147483647. The ten seconds between
//! boot and the first check of the official dialect are omitted.

use super::{Action, Attempt, Endpoint, Event, Failure, Identity, Outcome, lua};
use std::time::Duration;

/// Data bytes in a full packet; two bytes of packet number precede them.
const DATA: usize = 1022;

/// Greatest number in the firmware's integer Lua and in its strtol of C.
const GREATEST: u64 = 2_147_483_647;

/// Pause between two tries to connect over TCP; [`CONNECT_TRIES`] is their number.
const CONNECT_PAUSE: Duration = Duration::from_secs(10);
const CONNECT_TRIES: u32 = 5;

/// Message format of the client (docs/protocol.md 6, the table).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// The Lua client after `update.setup`: `IMEI,PROJECT_COREVER,VERSION`, then for example
    /// `Get5,7`: packet 5 of the offer with id 7.
    UserServer,
    /// The Lua client without setup: `0,KEY,IMEI,SN,PROJECT_COREVER,VERSION`, then the same
    /// followed by `,Get5,7`. The VERSION of its script must have the form `1.0.0`.
    Official,
    /// The C client: the official strings, but 3 tries 30 s apart.
    OfficialC,
}

impl Dialect {
    /// Returns the time-out for a reply and the number of tries.
    fn retry_limits(self) -> (Duration, u32) {
        match self {
            Dialect::UserServer | Dialect::Official => (Duration::from_secs(10), 5),
            Dialect::OfficialC => (Duration::from_secs(30), 3),
        }
    }
}

/// State of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Idle,
    Connecting,
    /// Waits between two tries to connect.
    Pausing,
    Checking,
    /// Waits for the packet with this number, counted from 1.
    Fetching(u64),
    Over,
}

/// The numbers of `LUAUPDATE,<id>,<count>,<last>`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Offer {
    id: u64,
    count: u64,
    last: u64,
}

/// One attempt of a first-edition client.
#[derive(Debug)]
pub struct FirstEdition {
    host: String,
    port: u16,
    datagrams: bool,
    dialect: Dialect,
    /// The check, or the message of the script's assert, which fails before anything is sent.
    check: Result<String, String>,
    stage: Stage,
    begun: Duration,
    deadline: Option<Duration>,
    connects: u32,
    /// Number of times that the current request was sent.
    tries: u32,
    /// Reason why the last reply to the current request was not accepted.
    rejection: Option<String>,
    offer: Offer,
    image: Vec<u8>,
}

impl FirstEdition {
    /// Creates a client with this identity, for UDP if `datagrams`, otherwise for TCP. `bsp: None`
    /// is `8955`. The version is sent as the script has it. Only [`Dialect::Official`] requires a
    /// form, `X.X.X` with single digits: leading zeros are removed (`001.000.003` becomes `1.0.3`),
    /// and a version that still has another form causes the script error of the client's assert.
    pub fn new(
        identity: &Identity,
        endpoint: &Endpoint,
        dialect: Dialect,
        datagrams: bool,
    ) -> FirstEdition {
        let bsp = identity.bsp.as_deref().unwrap_or("8955");
        let name = format!("{}_Luat_V{:04}_{bsp}", identity.project, identity.core);
        let official = |version: &str| {
            format!(
                "0,{},{},{},{name},{version}",
                identity.key, identity.imei, identity.serial
            )
        };
        let check = match dialect {
            Dialect::UserServer => Ok(format!("{},{name},{}", identity.imei, identity.version)),
            Dialect::OfficialC => Ok(official(&identity.version)),
            Dialect::Official => single_digits(&identity.version)
                .map(|version| official(&version))
                .ok_or_else(|| {
                    format!(
                        "update.lua asserts a VERSION of the form X.X.X for the official server; the \
                         script has {}",
                        identity.version
                    )
                }),
        };
        FirstEdition {
            host: endpoint.host.clone(),
            port: endpoint.port,
            datagrams,
            dialect,
            check,
            stage: Stage::Idle,
            begun: Duration::ZERO,
            deadline: None,
            connects: 0,
            tries: 0,
            rejection: None,
            offer: Offer::default(),
            image: Vec::new(),
        }
    }

    fn connect(&mut self) -> Vec<Action> {
        self.stage = Stage::Connecting;
        self.connects = self.connects.saturating_add(1);
        self.deadline = None;
        vec![
            Action::Connect {
                datagrams: self.datagrams,
                host: self.host.clone(),
                port: self.port,
            },
            Action::WakeAt(None),
        ]
    }

    /// Sends the request of the current state, and starts the time-out.
    fn send_request(&mut self, now: Duration) -> Vec<Action> {
        let check = self.check.clone().unwrap_or_default();
        let request = match self.stage {
            Stage::Fetching(packet) => {
                let get = format!("Get{packet},{}", self.offer.id);
                match self.dialect {
                    Dialect::UserServer => get,
                    Dialect::Official | Dialect::OfficialC => format!("{check},{get}"),
                }
            }
            _ => check,
        };
        self.tries = self.tries.saturating_add(1);
        vec![Action::Send(request.into_bytes()), self.wait(now)]
    }

    fn wait(&mut self, now: Duration) -> Action {
        let (timeout, _) = self.dialect.retry_limits();
        self.deadline = now.checked_add(timeout);
        Action::WakeAt(self.deadline)
    }

    fn finish(&mut self, outcome: Outcome) -> Vec<Action> {
        self.stage = Stage::Over;
        self.deadline = None;
        vec![Action::WakeAt(None), Action::Close, Action::Finish(outcome)]
    }

    fn give_up(&mut self, why: String) -> Vec<Action> {
        self.finish(Outcome::Failed(Failure::GaveUp(why)))
    }

    fn on_received(&mut self, now: Duration, data: &[u8]) -> Vec<Action> {
        match self.stage {
            Stage::Checking => {
                let offer = match self.dialect {
                    Dialect::UserServer | Dialect::Official => parse_offer_lua(data),
                    Dialect::OfficialC => parse_offer_c(data),
                };
                let Some(offer) = offer else {
                    return self.finish(Outcome::NoUpdate(lua::excerpt(data)));
                };
                self.offer = offer;
                self.stage = Stage::Fetching(1);
                self.tries = 0;
                self.rejection = None;
                self.send_request(now)
            }
            Stage::Fetching(_) if data == b"ERR" => {
                self.give_up("the server answered ERR to a Get".into())
            }
            Stage::Fetching(packet) => match self.check_packet(packet, data) {
                Ok(bytes) => {
                    self.image.extend_from_slice(bytes);
                    if packet == self.offer.count {
                        let image = std::mem::take(&mut self.image);
                        return self.finish(Outcome::Updated(image));
                    }
                    self.stage = Stage::Fetching(packet.saturating_add(1));
                    self.tries = 0;
                    self.rejection = None;
                    self.send_request(now)
                }
                Err(why) => {
                    self.rejection = Some(why);
                    vec![self.wait(now)]
                }
            },
            Stage::Idle | Stage::Connecting | Stage::Pausing | Stage::Over => Vec::new(),
        }
    }

    /// Returns the data bytes of `packet`, or why `data` is not that packet: checks length, then
    /// number.
    fn check_packet<'d>(&self, packet: u64, data: &'d [u8]) -> Result<&'d [u8], String> {
        let Some((number, bytes)) = data.split_first_chunk::<2>() else {
            return Err(format!("received {} bytes for packet {packet}", data.len()));
        };
        let expected = if packet < self.offer.count {
            DATA
        } else {
            usize::try_from(self.offer.last).unwrap_or(usize::MAX)
        };
        if bytes.len() != expected {
            return Err(format!(
                "packet {packet} of {} must have {expected} data bytes, the answer has {}",
                self.offer.count,
                bytes.len()
            ));
        }
        let number = u64::from(u16::from_be_bytes(*number));
        if number != packet {
            return Err(format!("received packet {number} instead of {packet}"));
        }
        Ok(bytes)
    }

    fn on_wake(&mut self, now: Duration) -> Vec<Action> {
        if self.deadline.is_none_or(|deadline| now < deadline) {
            return Vec::new();
        }
        let (_, tries) = self.dialect.retry_limits();
        match self.stage {
            Stage::Pausing => self.connect(),
            Stage::Checking | Stage::Fetching(_) if self.tries < tries => self.send_request(now),
            Stage::Checking | Stage::Fetching(_) => {
                let awaited = match self.stage {
                    Stage::Fetching(packet) => format!("packet {packet} of {}", self.offer.count),
                    _ => "an answer to its check".into(),
                };
                match self.rejection.take() {
                    Some(why) => self.give_up(format!(
                        "asked {tries} times for {awaited} and deleted the file: {why}"
                    )),
                    None => {
                        let after = now.saturating_sub(self.begun);
                        self.finish(Outcome::Failed(Failure::Hung {
                            after,
                            waiting_for: awaited,
                        }))
                    }
                }
            }
            Stage::Idle | Stage::Connecting | Stage::Over => Vec::new(),
        }
    }

    fn on_connect_failed(&mut self, now: Duration) -> Vec<Action> {
        if self.stage != Stage::Connecting {
            return Vec::new();
        }
        if self.connects >= CONNECT_TRIES {
            return self.give_up(format!("could not connect, {CONNECT_TRIES} times"));
        }
        self.stage = Stage::Pausing;
        self.deadline = now.checked_add(CONNECT_PAUSE);
        vec![Action::WakeAt(self.deadline)]
    }
}

impl Attempt for FirstEdition {
    fn step(&mut self, now: Duration, event: Event<'_>) -> Vec<Action> {
        match (event, self.stage) {
            (Event::Start, Stage::Idle) => {
                self.begun = now;
                match &self.check {
                    Ok(_) => self.connect(),
                    Err(why) => {
                        let why = why.clone();
                        self.finish(Outcome::Failed(Failure::ScriptError(why)))
                    }
                }
            }
            (Event::Connected, Stage::Connecting) => {
                self.stage = Stage::Checking;
                self.tries = 0;
                self.send_request(now)
            }
            (Event::ConnectFailed, _) => self.on_connect_failed(now),
            (Event::Received(data), _) => self.on_received(now, data),
            // A datagram socket has no end: the script never sees the errors that the network
            // reports.
            (Event::Closed | Event::Reset, Stage::Checking | Stage::Fetching(_))
                if !self.datagrams =>
            {
                let what = match self.rejection.take() {
                    Some(why) => format!("; before that, {why}"),
                    None => String::new(),
                };
                self.give_up(format!("the server closed the connection{what}"))
            }
            (Event::Wake, _) => self.on_wake(now),
            _ => Vec::new(),
        }
    }
}

/// Returns the version as `X.X.X` with single digits, after removing leading zeros.
fn single_digits(version: &str) -> Option<String> {
    let fields: Vec<&str> = version
        .split('.')
        .map(|field| match field.trim_start_matches('0') {
            "" if !field.is_empty() => "0",
            rest => rest,
        })
        .collect();
    let single = |field: &&str| field.len() == 1 && field.bytes().all(|byte| byte.is_ascii_digit());
    (fields.len() == 3 && fields.iter().all(single)).then(|| fields.join("."))
}

/// Parses as Lua does: `string.find(data,"LUAUPDATE") == 1`, then the first match of
/// `"LUAUPDATE,(%d+),(%d+),(%d+)"`.
fn parse_offer_lua(data: &[u8]) -> Option<Offer> {
    if !data.starts_with(b"LUAUPDATE") {
        return None;
    }
    let word = b"LUAUPDATE,";
    let mut from = 0;
    loop {
        let at = lua::find(data, word, from)?;
        let behind = data.get(at.checked_add(word.len())?..)?;
        if let Some(offer) = three_numbers(behind) {
            return Some(offer);
        }
        from = at.checked_add(1)?;
    }
}

fn three_numbers(text: &[u8]) -> Option<Offer> {
    let (id, text) = lua::digits(text)?;
    let (count, text) = lua::digits(text.strip_prefix(b",")?)?;
    let (last, _) = lua::digits(text.strip_prefix(b",")?)?;
    let clamped = |digits| lua::number(digits).min(GREATEST);
    Some(Offer {
        id: clamped(id),
        count: clamped(count),
        last: clamped(last),
    })
}

/// Parses as the C client does: less than 256 bytes; the first field must be equal as a whole, and
/// strtol reads the next three.
fn parse_offer_c(data: &[u8]) -> Option<Offer> {
    if data.len() >= 256 {
        return None;
    }
    let mut fields = data.split(|&byte| byte == b',');
    if fields.next() != Some(b"LUAUPDATE") {
        return None;
    }
    let strtol = |field: &[u8]| {
        let digits = lua::digits(lua::skip_space(field)).map_or(&[][..], |(digits, _)| digits);
        lua::number(digits).min(GREATEST)
    };
    Some(Offer {
        id: strtol(fields.next()?),
        count: strtol(fields.next()?),
        last: strtol(fields.next()?),
    })
}

#[cfg(test)]
mod tests;
