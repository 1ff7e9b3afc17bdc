//! Runs one [`Attempt`] of a module over real sockets, for `probe` and `simulate`.
//!
//! A module waits ten seconds for a lost datagram, and ten minutes for a server that does not
//! close. Therefore, when nothing more can happen in a probe (no connection, or a server that is
//! silent for [`Settings::quiet`]), the module's clock jumps to the moment that the module waits
//! for. A simulation really waits, but its clock may run faster than the wall clock
//! ([`Settings::speed`]).

mod link;
mod names;
mod record;
mod settings;

pub use names::resolve;
pub use record::{End, Exchange, RecordLimits};
pub use settings::Settings;

use self::link::{Link, LinkOptions};
use self::record::Record;
use super::rng::Rng;
use super::{Action, Attempt, Event, Failure, Outcome};
use smol::Timer;
use std::io;
use std::time::{Duration, Instant};

/// Maximum number of bytes that one recv of a module returns.
pub const RECV: usize = 1400;

/// Time-out of a connection attempt, on the module's clock.
const CONNECT_LIMIT: Duration = Duration::from_secs(120);

/// Lower bound of the wait for a silent server, which is halved after each silence.
const MIN_QUIET: Duration = Duration::from_millis(50);

/// Maximum delay of the pacing that is caught up.
const MAX_CATCH_UP: Duration = Duration::from_millis(50);

/// Number of consecutive datagrams that a cut link loses.
const LOSSES_PER_CUT: u32 = 2;

/// Result and record of an attempt.
#[derive(Debug)]
pub struct Played {
    /// Outcome of the attempt.
    pub outcome: Outcome,
    /// Duration of the attempt, on the module's clock.
    pub duration: Duration,
    /// Exchanges with the server; of a long attempt only the first and the last ones.
    pub exchanges: Vec<Exchange>,
    /// Number of bytes received.
    pub received: u64,
    /// Number of received bytes that belong to a file.
    pub body: u64,
    /// Replies with a status of 500 and above.
    pub server_errors: u32,
    /// Number of connections (over UDP: sockets) that the module requested.
    pub connects: u32,
    /// Whether the link was cut as the settings demand.
    pub was_cut: bool,
}

/// Plays an attempt until it ends, and returns its result.
pub async fn play(attempt: &mut dyn Attempt, settings: &Settings) -> Played {
    let mut run = Run::new(settings);
    let mut actions = attempt.step(run.now(), Event::Start);
    let outcome = loop {
        if let Some(outcome) = run.perform(actions).await {
            break outcome;
        }
        let occurrence = run.next().await;
        let now = run.now();
        actions = match occurrence {
            Occurrence::Connected => attempt.step(now, Event::Connected),
            Occurrence::ConnectFailed => attempt.step(now, Event::ConnectFailed),
            Occurrence::Received(count) => {
                let bytes = run.buffer.get(..count).unwrap_or_default();
                attempt.step(now, Event::Received(bytes))
            }
            Occurrence::Closed => attempt.step(now, Event::Closed),
            Occurrence::Reset => attempt.step(now, Event::Reset),
            Occurrence::Wake => attempt.step(now, Event::Wake),
            Occurrence::Nothing(waiting_for) => {
                break Outcome::Failed(Failure::Hung {
                    after: now,
                    waiting_for: waiting_for.to_owned(),
                });
            }
        };
    };
    Played {
        outcome,
        duration: run.now(),
        exchanges: run.record.finish(),
        received: run.record.received,
        body: run.record.body,
        server_errors: run.record.server_errors,
        connects: run.connects,
        was_cut: run.cut == Cut::Done,
    }
}

enum Occurrence {
    Connected,
    ConnectFailed,
    Received(usize),
    Closed,
    Reset,
    Wake,
    /// No event, now or later; contains what the module waits for.
    Nothing(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    Never,
    After(u64),
    Done,
}

struct Run<'s> {
    settings: &'s Settings,
    begun: Instant,
    cap: Instant,
    /// Sum of the jumps of the module's clock.
    skipped: Duration,
    wake: Option<Duration>,
    wanted: Option<(bool, String, u16)>,
    link: Option<Link>,
    buffer: Vec<u8>,
    record: Record,
    rng: Rng,
    quiet: Option<Duration>,
    /// The last datagram was lost, so nothing will arrive before the module asks again.
    lost: bool,
    /// The connection has ended, and the module has not reacted yet.
    ended_unhandled: bool,
    cut: Cut,
    datagrams_to_lose: u32,
    connects: u32,
    /// Moment before which no reply (latency), and the one before which no byte (bandwidth) is
    /// received.
    answer_at: Option<Instant>,
    paced_until: Option<Instant>,
}

impl Run<'_> {
    fn new(settings: &Settings) -> Run<'_> {
        let begun = Instant::now();
        Run {
            settings,
            begun,
            cap: begun.checked_add(settings.cap).unwrap_or(begun),
            skipped: Duration::ZERO,
            wake: None,
            wanted: None,
            link: None,
            buffer: vec![0; RECV],
            record: Record::new(settings.record),
            rng: Rng::new(settings.seed),
            quiet: settings.quiet,
            lost: false,
            ended_unhandled: false,
            cut: settings.cut_after.map_or(Cut::Never, Cut::After),
            datagrams_to_lose: 0,
            connects: 0,
            answer_at: None,
            paced_until: None,
        }
    }

    fn speed(&self) -> u32 {
        self.settings.speed.max(1)
    }

    /// Returns the time on the module's clock, since its start.
    fn now(&self) -> Duration {
        self.begun
            .elapsed()
            .saturating_mul(self.speed())
            .saturating_add(self.skipped)
    }

    /// Returns the moment on the wall clock at which `span` of the module's clock has passed, at
    /// most `cap`.
    fn wall_time(&self, span: Duration) -> Instant {
        let now = Instant::now();
        let span = span.checked_div(self.speed()).unwrap_or(span);
        now.checked_add(span)
            .map_or(self.cap, |at| at.min(self.cap))
    }

    /// Sets the module's clock forward to this moment, if it is earlier.
    fn jump(&mut self, to: Duration) {
        let missing = to.saturating_sub(self.now());
        self.skipped = self.skipped.saturating_add(missing);
    }

    async fn perform(&mut self, actions: Vec<Action>) -> Option<Outcome> {
        for action in actions {
            match action {
                Action::Connect {
                    datagrams,
                    host,
                    port,
                } => {
                    self.link = None;
                    self.ended_unhandled = false;
                    self.connects = self.connects.saturating_add(1);
                    self.record.begin(datagrams, format!("{host}:{port}"));
                    self.wanted = Some((datagrams, host, port));
                }
                Action::Send(bytes) => self.send(&bytes).await,
                Action::Close => {
                    self.link = None;
                    self.ended_unhandled = false;
                    self.wanted = None;
                }
                Action::WakeAt(moment) => self.wake = moment,
                Action::Finish(outcome) => return Some(outcome),
            }
        }
        None
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.record.add_sent(bytes);
        let Some(link) = &self.link else {
            return;
        };
        if self.settings.latency > Duration::ZERO {
            self.answer_at = Some(self.wall_time(self.settings.latency));
        }
        self.lost = false;
        if link.datagrams() && self.rng.chance(self.settings.loss) {
            self.lost = true;
            return;
        }
        // An error of the connection shows at the next recv.
        let _ = smol::future::or(link.send(bytes), async {
            Timer::at(self.cap).await;
            Ok(())
        })
        .await;
    }

    /// Waits for the next event of the module.
    async fn next(&mut self) -> Occurrence {
        if Instant::now() >= self.cap {
            return Occurrence::Nothing("its end; the attempt took too long and was stopped");
        }
        if let Some((datagrams, host, port)) = self.wanted.take() {
            return self.connect(datagrams, &host, port).await;
        }
        if self.link.is_some() {
            return self.listen().await;
        }
        let Some(wake) = self.wake else {
            return Occurrence::Nothing("data, but it has no connection");
        };
        let span = wake.saturating_sub(self.now());
        let skips = self.ended_unhandled && span > self.settings.idle;
        if self.quiet.is_none() && !skips {
            Timer::at(self.wall_time(span)).await;
        }
        self.on_wake(wake)
    }

    fn on_wake(&mut self, wake: Duration) -> Occurrence {
        self.jump(wake);
        self.wake = None;
        Occurrence::Wake
    }

    async fn connect(&mut self, datagrams: bool, host: &str, port: u16) -> Occurrence {
        let left = self
            .wake
            .map_or(CONNECT_LIMIT, |wake| wake.saturating_sub(self.now()))
            .min(CONNECT_LIMIT);
        let mut until = self.wall_time(left);
        if let Some(quiet) = self.quiet {
            let quiet = Instant::now().checked_add(quiet.saturating_mul(2));
            until = quiet.map_or(until, |quiet| until.min(quiet));
        }
        let options = LinkOptions {
            datagrams,
            source: self.settings.source,
            // A small window makes the sender follow the pace of the reader.
            receive_buffer: self.settings.bandwidth.filter(|_| !datagrams).map(|bytes| {
                usize::try_from(bytes / 2)
                    .unwrap_or(usize::MAX)
                    .clamp(4 << 10, 64 << 10)
            }),
        };
        let settings = self.settings;
        let latency = self.wall_time(settings.latency);
        let opened = smol::future::or(
            async {
                let link = Link::open(names::lookup(settings, host, port).await?, options).await?;
                if !datagrams && settings.latency > Duration::ZERO {
                    Timer::at(latency).await;
                }
                Ok(Some(link))
            },
            async {
                Timer::at(until).await;
                Ok::<_, io::Error>(None)
            },
        )
        .await;
        let why = match opened {
            Ok(Some(link)) => {
                self.link = Some(link);
                self.lost = false;
                return Occurrence::Connected;
            }
            Ok(None) => {
                self.halve_quiet();
                let limit = self.now().saturating_add(left);
                match self.wake {
                    // The module has a time-out of its own for this.
                    Some(wake) if wake <= limit => {
                        self.record
                            .set_end(End::NotConnected("no reply".to_owned()));
                        return self.on_wake(wake);
                    }
                    _ => {
                        self.jump(limit);
                        "no reply".to_owned()
                    }
                }
            }
            Err(error) => error.to_string(),
        };
        self.record.set_end(End::NotConnected(why));
        Occurrence::ConnectFailed
    }

    /// Halves the time that a silent server is waited for.
    fn halve_quiet(&mut self) {
        self.quiet = self.quiet.map(|quiet| (quiet / 2).max(MIN_QUIET));
    }

    /// Waits for data from the connection, or for the time-out of the module.
    async fn listen(&mut self) -> Occurrence {
        if let Cut::After(bytes) = self.cut
            && self.record.received >= bytes
        {
            self.cut = Cut::Done;
            if self.link.as_ref().is_some_and(Link::datagrams) {
                self.datagrams_to_lose = LOSSES_PER_CUT;
            } else {
                self.link = None;
                self.ended_unhandled = true;
                self.record.set_end(End::Reset);
                return Occurrence::Reset;
            }
        }
        loop {
            if let Some(moment) = self.answer_at.take().max(self.paced_until)
                && moment > Instant::now()
            {
                Timer::at(moment.min(self.cap)).await;
            }
            let received = self.recv().await;
            match received {
                Some(Ok(0)) if !self.link.as_ref().is_some_and(Link::datagrams) => {
                    self.link = None;
                    self.ended_unhandled = true;
                    self.record.set_end(End::Closed);
                    return Occurrence::Closed;
                }
                Some(Ok(count)) => {
                    if self.is_lost() {
                        self.lost = true;
                        continue;
                    }
                    let bytes = self.buffer.get(..count).unwrap_or_default();
                    self.record.add_received(bytes);
                    self.pace(count);
                    return Occurrence::Received(count);
                }
                Some(Err(_)) => {
                    self.record.set_end(End::Reset);
                    if self.link.as_ref().is_some_and(Link::datagrams) {
                        // The port is closed: nothing arrives until the module asks again.
                        self.lost = true;
                    } else {
                        self.link = None;
                        self.ended_unhandled = true;
                    }
                    return Occurrence::Reset;
                }
                None if Instant::now() >= self.cap => {
                    return Occurrence::Nothing(
                        "its end; the attempt took too long and was stopped",
                    );
                }
                None => {
                    let Some(wake) = self.wake else {
                        return Occurrence::Nothing("data that did not arrive");
                    };
                    if self.now() < wake && !self.lost {
                        self.halve_quiet();
                    }
                    return self.on_wake(wake);
                }
            }
        }
    }

    /// Receives once; `None` when the wait is over.
    async fn recv(&mut self) -> Option<io::Result<usize>> {
        let left = self.wake.map(|wake| wake.saturating_sub(self.now()));
        let mut until = left.map_or(self.cap, |left| self.wall_time(left));
        if let Some(quiet) = self.quiet {
            if self.lost {
                return None;
            }
            let quiet = Instant::now().checked_add(quiet);
            until = quiet.map_or(until, |quiet| until.min(quiet));
        }
        let link = self.link.as_ref()?;
        let buffer = self.buffer.as_mut_slice();
        smol::future::or(async { Some(link.recv(buffer).await) }, async {
            Timer::at(until).await;
            None
        })
        .await
    }

    /// Whether this datagram is lost.
    fn is_lost(&mut self) -> bool {
        if !self.link.as_ref().is_some_and(Link::datagrams) {
            return false;
        }
        if self.datagrams_to_lose > 0 {
            self.datagrams_to_lose = self.datagrams_to_lose.saturating_sub(1);
            return true;
        }
        self.rng.chance(self.settings.loss)
    }

    fn pace(&mut self, count: usize) {
        let Some(bandwidth) = self.settings.bandwidth else {
            return;
        };
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        let nanos = count
            .saturating_mul(1_000_000_000)
            .checked_div(bandwidth)
            .unwrap_or(0);
        let span = Duration::from_nanos(nanos);
        let span = span.checked_div(self.speed()).unwrap_or(span);
        // The delay of a timer that fires late is caught up, a long pause is not.
        let now = Instant::now();
        let from = match self.paced_until {
            Some(until) if now.saturating_duration_since(until) < MAX_CATCH_UP => until,
            _ => now,
        };
        self.paced_until = from.checked_add(span);
    }
}

#[cfg(test)]
mod tests;
