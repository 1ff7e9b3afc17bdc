//! The LuaTask update client: 2G (Air202, Air800), 4G on ASR1802 (Air720), 4G on RDA8910 (Air724U).
//!
//! Follows script_LuaTask/lib/update.lua and http.lua of Luat_2G_RDA_8955, Luat_4G_ASR_1802 and
//! Luat_4G_RDA_8910, and lib/update.lua and http.lua of Luat_Lua_Air724U, as described in
//! docs/protocol.md 1c, 1d, 1e and 2b (\[H\]). It is one state machine with three variants: 2G
//! writes the body into a file and starts from byte 0 after a cut; 4G passes the body to
//! rtos.fota_process as it arrives and requests the rest with Range.
//!
//! `%s*` in the header pattern matches CR and LF, so an empty header value swallows the next
//! header. Without a reason phrase the status pattern swallows the first header.
//!
//! The module flashes the body of every 200. The emulation calls a finished image garbage if it is
//! text (no control character except tab, CR and LF: HTML, JSON, "no update"), if a 4G client was
//! sent chunks, or if a reply to `bytes=N-` did not begin at N. It does not notice a file that was
//! replaced between two parts: compare the bytes.
//!
//! Where docs/protocol.md says nothing, the emulation does this \[I\]:
//! - the head is parsed when its blank line has been received;
//! - an invalid status line, a `Content-Length` that is no number, or a broken chunk is a transport error;
//! - 2G also retries immediately, and drops what exceeds `Content-Length`;
//! - the reply to a redirect or a refusal is received completely before it counts;
//! - a 200 with an empty body on 4G ends as on 2G: success, restart, nothing new;
//! - a 4G reply that ends before its total is a failure without a retry;
//! - `user:pass@` in a Location is dropped, and a Location with https ends the attempt, because the
//!   emulation has no TLS.

use super::{Action, Attempt, Endpoint, Event, Failure, Identity, Outcome, lua};
use std::time::Duration;

mod complete;
mod http;

use http::{Answer, Target, chunk};

/// Time-out of http.lua for a connection; [`RECV_LIMIT`] is that for a recv.
const CONNECT_LIMIT: Duration = Duration::from_secs(120);
const RECV_LIMIT: Duration = Duration::from_secs(60);

/// Pause of update.lua before it follows a redirect; [`CODE_43_PAUSE`] is that after code 43.
const REDIRECT_PAUSE: Duration = Duration::from_secs(2);
const CODE_43_PAUSE: Duration = Duration::from_secs(30);

/// Number of rounds of code 43, or of redirects, after which the emulation calls them endless.
pub const ROUNDS: u32 = 10;

/// Generation of LuaTask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generation {
    /// Air202 and Air800: docs/protocol.md 1c. Usual platform `8955`.
    Gen2g,
    /// Air720: docs/protocol.md 1d. Usual platform `ASR1802`.
    Asr1802,
    /// RDA8910 and Air724U: docs/protocol.md 1e. Usual platform `RDA8910`.
    Rda8910,
}

impl Generation {
    /// Returns the maximum number of tries.
    fn tries(self) -> u32 {
        match self {
            Generation::Gen2g => 3,
            Generation::Asr1802 | Generation::Rda8910 => 31,
        }
    }

    /// Whether the client sends Range and passes the body to rtos.fota_process.
    fn is_4g(self) -> bool {
        self != Generation::Gen2g
    }
}

/// Differences between modules of one generation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Whether `&need_oss_url=1` is appended, as by `update.request(.., redir)`.
    pub need_oss_url: bool,
    /// Seed for the order of the headers, which is random in reality (Lua's pairs()). 0 is the
    /// order of docs/protocol.md (`Range`, `Host`, `Connection`). Any other number selects an order
    /// that stays the same throughout the attempt.
    pub header_seed: u64,
}

#[derive(Debug)]
enum Stage {
    Idle,
    Connecting,
    /// The request has been sent. Contains the received part of the head.
    Head(Vec<u8>),
    Body(Answer),
    /// Pauses, then sends the request again.
    Sleeping,
    /// Pauses, then requests a Location that names no host.
    UnreachableLocation(String),
    Over,
}

/// One attempt of a LuaTask client.
#[derive(Debug)]
pub struct LuaTask {
    generation: Generation,
    header_seed: u64,
    target: Target,
    stage: Stage,
    begun: Duration,
    deadline: Option<Duration>,
    /// Number of transport errors so far.
    failures: u32,
    /// Number of replies with code 43 so far.
    rounds: u32,
    /// Number of redirects so far.
    hops: u32,
    /// 4G: bytes passed to rtos.fota_process so far; their number is "processed".
    image: Vec<u8>,
    /// 4G: reason why `image` cannot be the file.
    flaw: Option<String>,
}

impl LuaTask {
    /// Creates a client with this identity. Nothing is encoded; the version is sent unchanged.
    pub fn new(
        identity: &Identity,
        endpoint: &Endpoint,
        generation: Generation,
        options: Options,
    ) -> LuaTask {
        let Identity {
            imei,
            project,
            version,
            core,
            key,
            serial,
            ..
        } = identity;
        let bsp = identity.bsp.as_deref().unwrap_or(match generation {
            Generation::Gen2g => "8955",
            Generation::Asr1802 => "ASR1802",
            Generation::Rda8910 => "RDA8910",
        });
        let mut path = match endpoint.path.as_str() {
            "" => "/".into(),
            path => path.to_owned(),
        };
        path.push_str(&match generation {
            Generation::Gen2g | Generation::Asr1802 => format!(
                "?project_key={key}&imei={imei}&device_key={serial}\
                 &firmware_name={project}_Luat_V{core:04}_{bsp}&version={version}"
            ),
            Generation::Rda8910 => format!(
                "?project_key={key}&imei={imei}&firmware_name={project}_Luat_{bsp}\
                 &core_version={core}&dfota=1&version={version}"
            ),
        });
        if options.need_oss_url {
            path.push_str("&need_oss_url=1");
        }
        LuaTask {
            generation,
            header_seed: options.header_seed,
            target: Target {
                host: endpoint.host.clone(),
                port: endpoint.port,
                path: path.into_bytes(),
            },
            stage: Stage::Idle,
            begun: Duration::ZERO,
            deadline: None,
            failures: 0,
            rounds: 0,
            hops: 0,
            image: Vec::new(),
            flaw: None,
        }
    }

    /// Returns the request, which is sent with one send.
    fn request(&self) -> Vec<u8> {
        let mut headers = Vec::with_capacity(3);
        if self.generation.is_4g() {
            headers.push(format!("Range: bytes={}-\r\n", self.image.len()));
        }
        headers.push(format!("Host: {}\r\n", self.target.host));
        headers.push("Connection: short\r\n".into());
        http::shuffle(&mut headers, self.header_seed);
        let mut request = b"GET ".to_vec();
        request.extend_from_slice(&self.target.path);
        request.extend_from_slice(b" HTTP/1.1\r\n");
        for header in headers {
            request.extend_from_slice(header.as_bytes());
        }
        request.extend_from_slice(b"\r\n");
        request
    }

    fn connect(&mut self, now: Duration) -> Vec<Action> {
        self.stage = Stage::Connecting;
        let connect = Action::Connect {
            datagrams: false,
            host: self.target.host.clone(),
            port: self.target.port,
        };
        vec![connect, self.wait(now, CONNECT_LIMIT)]
    }

    fn wait(&mut self, now: Duration, span: Duration) -> Action {
        self.deadline = now.checked_add(span);
        Action::WakeAt(self.deadline)
    }

    fn sleep(&mut self, now: Duration, stage: Stage, span: Duration) -> Vec<Action> {
        self.stage = stage;
        vec![Action::Close, self.wait(now, span)]
    }

    fn finish(&mut self, outcome: Outcome) -> Vec<Action> {
        self.stage = Stage::Over;
        self.deadline = None;
        vec![Action::WakeAt(None), Action::Close, Action::Finish(outcome)]
    }

    fn fail(&mut self, failure: Failure) -> Vec<Action> {
        self.finish(Outcome::Failed(failure))
    }

    /// Handles a transport error: 2G deletes its file and starts again, 4G continues at its
    /// position. Both do so immediately, until no tries are left.
    fn transport_error(&mut self, now: Duration, cause: &str, timed_out: bool) -> Vec<Action> {
        self.failures = self.failures.saturating_add(1);
        let tries = self.generation.tries();
        if self.failures < tries {
            let mut actions = vec![Action::Close];
            actions.extend(self.connect(now));
            return actions;
        }
        if timed_out {
            let after = now.saturating_sub(self.begun);
            return self.fail(Failure::Hung {
                after,
                waiting_for: cause.to_owned(),
            });
        }
        let kept = if self.generation.is_4g() {
            format!(", with {} bytes taken", self.image.len())
        } else {
            String::new()
        };
        self.fail(Failure::GaveUp(format!(
            "tried {tries} times{kept}; last error: {cause}"
        )))
    }

    fn on_received(&mut self, now: Duration, data: &[u8]) -> Vec<Action> {
        match std::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Head(mut buffer) => {
                buffer.extend_from_slice(data);
                let Some(end) = lua::find(&buffer, b"\r\n\r\n", 0) else {
                    self.stage = Stage::Head(buffer);
                    return vec![self.wait(now, RECV_LIMIT)];
                };
                let body = end
                    .checked_add(4)
                    .and_then(|start| buffer.get(start..))
                    .unwrap_or_default();
                match Answer::read(&buffer, end) {
                    Ok(answer) => self.take_body(now, answer, body, data),
                    Err(why) => self.transport_error(now, why, false),
                }
            }
            Stage::Body(answer) => self.take_body(now, answer, data, data),
            other => {
                self.stage = other;
                Vec::new()
            }
        }
    }

    /// Handles `bytes` of the body, which arrived in the recv `raw`. `raw` can begin with the head.
    fn take_body(
        &mut self,
        now: Duration,
        mut answer: Answer,
        bytes: &[u8],
        raw: &[u8],
    ) -> Vec<Action> {
        if !bytes.is_empty() {
            answer.pieces = answer.pieces.saturating_add(1);
        }
        if answer.chunked {
            return self.take_chunks(now, answer, bytes, raw);
        }
        let bytes = match answer.length {
            Some(length) => {
                let room = length.saturating_sub(answer.got);
                bytes.get(..to_usize(room)).unwrap_or(bytes)
            }
            None => bytes,
        };
        if self.generation.is_4g() && answer.is_200_or_206() {
            if let Some(actions) = self.process(&answer, bytes) {
                return actions;
            }
        } else {
            answer.store(bytes);
        }
        answer.got = answer.got.saturating_add(to_u64(bytes.len()));
        if answer.length.is_some_and(|length| answer.got >= length) {
            return self.complete(now, answer);
        }
        self.stage = Stage::Body(answer);
        vec![self.wait(now, RECV_LIMIT)]
    }

    /// 4G: passes `bytes` to rtos.fota_process. At 100 % the download ends, whatever else arrives.
    fn process(&mut self, answer: &Answer, bytes: &[u8]) -> Option<Vec<Action>> {
        if bytes.is_empty() {
            return None;
        }
        let processed = to_u64(self.image.len());
        let offset = answer.starts_at().saturating_add(answer.got);
        if self.flaw.is_none() && offset != processed {
            self.flaw = Some(format!(
                "asked for bytes={processed}-, answered {} from byte {offset}: the parts do not join",
                answer.status
            ));
        }
        let Some(total) = answer.total() else {
            self.image.extend_from_slice(bytes);
            return None;
        };
        let room = total.saturating_sub(processed);
        let taken = bytes.get(..to_usize(room)).unwrap_or(bytes);
        self.image.extend_from_slice(taken);
        (to_u64(self.image.len()) >= total).then(|| self.end_flashed())
    }

    fn take_chunks(
        &mut self,
        now: Duration,
        mut answer: Answer,
        bytes: &[u8],
        raw: &[u8],
    ) -> Vec<Action> {
        answer.undecoded.extend_from_slice(bytes);
        loop {
            let (content, used) = match chunk(&answer.undecoded) {
                Err(why) => return self.transport_error(now, why, false),
                Ok(None) => {
                    self.stage = Stage::Body(answer);
                    return vec![self.wait(now, RECV_LIMIT)];
                }
                Ok(Some((content, used))) => (content.to_vec(), used),
            };
            if content.is_empty() {
                return self.complete(now, answer);
            }
            if !self.generation.is_4g() {
                answer.store(&content);
            } else if answer.is_200_or_206() {
                // A fault of the library: the callback gets the last recv instead of the chunk.
                self.image.extend_from_slice(raw);
            } else {
                answer.store(raw);
            }
            answer.undecoded.drain(..used.min(answer.undecoded.len()));
        }
    }

    /// Handles the server's close or reset of the connection, or the time-out of a recv.
    fn on_end(&mut self, now: Duration, how: &str, timed_out: bool) -> Vec<Action> {
        match std::mem::replace(&mut self.stage, Stage::Idle) {
            // http.lua cannot distinguish this end from the right one.
            Stage::Body(answer) if !answer.chunked && answer.length.is_none() => {
                self.complete(now, answer)
            }
            Stage::Body(answer) => {
                let cause = match answer.length {
                    Some(length) => format!("{how} at {} of {length} bytes", answer.got),
                    None => format!("{how} before the last chunk"),
                };
                self.transport_error(now, &cause, timed_out)
            }
            Stage::Head(_) => {
                self.transport_error(now, &format!("{how} before the head's end"), timed_out)
            }
            other => {
                self.stage = other;
                Vec::new()
            }
        }
    }

    fn on_wake(&mut self, now: Duration) -> Vec<Action> {
        if self.deadline.is_none_or(|deadline| now < deadline) {
            return Vec::new();
        }
        match &self.stage {
            Stage::Connecting => self.transport_error(now, "could not connect within 120 s", true),
            Stage::Head(_) | Stage::Body(_) => self.on_end(now, "no data for 60 s", true),
            Stage::Sleeping => self.connect(now),
            Stage::UnreachableLocation(location) => {
                let useless = self.generation.tries().saturating_sub(self.failures);
                let why = format!(
                    "Location {location} has no host: {useless} failed attempts to connect"
                );
                self.fail(Failure::GaveUp(why))
            }
            Stage::Idle | Stage::Over => Vec::new(),
        }
    }
}

impl Attempt for LuaTask {
    fn step(&mut self, now: Duration, event: Event<'_>) -> Vec<Action> {
        match (event, &self.stage) {
            (Event::Start, Stage::Idle) => {
                self.begun = now;
                self.connect(now)
            }
            (Event::Connected, Stage::Connecting) => {
                let request = self.request();
                self.stage = Stage::Head(Vec::new());
                vec![Action::Send(request), self.wait(now, RECV_LIMIT)]
            }
            (Event::ConnectFailed, Stage::Connecting) => {
                self.transport_error(now, "could not connect", false)
            }
            (Event::Received(data), _) => self.on_received(now, data),
            (Event::Closed, _) => self.on_end(now, "the server closed", false),
            (Event::Reset, _) => self.on_end(now, "the connection was reset", false),
            (Event::Wake, _) => self.on_wake(now),
            _ => Vec::new(),
        }
    }
}

fn to_u64(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

fn to_usize(length: u64) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
