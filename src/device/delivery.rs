//! Sends the bytes of a file to one module, and knows how far they have come.
//!
//! Progress is what the module's side has acknowledged (SIOCOUTQ), never what the socket took: a buffer
//! that drains at 175 bytes a second is writable every twenty minutes, and that module is alive
//! (docs/hazards.md 13). A download has no limit on its time, only on silence.

use std::io;
use std::net::Shutdown;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::answer::Plan;
use super::lines::{Ended, Progress};
use super::seats::Seat;
use super::silence::Silence;
use super::slots::Download;
use super::stream::{Body, Discarded, before_close, close, discard, send_all};
use super::{Service, Stop, Stream, within};
use crate::decision::Refusal;
use crate::firmware::snapshot::{LoadError, Snapshot};
use crate::fleet::journal::Written;
use crate::fleet::network::Network;
use crate::fleet::short_version::ShortVersion;
use crate::fleet::{FileRange, Transfer, TransferOutcome};
use crate::os;
use crate::os::net::is_early;
use crate::wire::reply::{self, Reply};
use smol::Timer;
use smol::future::yield_now;

/// Files up to this size go out with their head in one call.
const SMALL: u64 = 16 * 1024;

/// Bytes for one sendfile, after which others get their turn.
const CHUNK: u64 = 1024 * 1024;

/// Between two looks whether a head that must arrive alone was acknowledged; so the shortest time between
/// head and body.
const APART: Duration = Duration::from_millis(500);

/// The longest wait for that.
const APART_AT_MOST: Duration = Duration::from_secs(5);

/// Beyond so many bytes a download is one for a large send buffer.
const LARGE: u64 = 128 * 1024;

/// The first wait for an acknowledgement that nothing tells of; each that follows is twice as long.
const FIRST_LOOK: Duration = Duration::from_millis(40);

/// Bytes that a client may send while it downloads before we stop reading them.
const CHATTER: u64 = 64 * 1024;

/// Why nobody else is admitted, for the log.
pub(super) const NO_ROOM: &str = "no room for another download (--max-downloads, --uplink)";

/// How long a module may take to close its side when it has everything.
const CONTENT: Duration = Duration::from_secs(60);

/// Sends what was planned, to the end of the connection.
pub(super) async fn deliver(
    service: &Rc<Service>,
    stream: &Stream,
    seat: &Seat,
    plan: &Plan,
    stop: &Stop,
) {
    let instead = match begin(service, seat, plan, stop).await {
        Ok((download, snapshot)) => {
            let mut arrived = {
                let mut sending = Sending::new(service, stream, seat, plan, download);
                sending.run(&snapshot).await
            };
            // Others may need the room while the client's end is waited for.
            drop(snapshot);
            if let Some(arrived) = &mut arrived
                && !arrived.until_closed(stream, seat, stop).await
            {
                close(stream, Body::None).await;
            }
            return;
        }
        Err(reply) => reply,
    };
    if send_all(service, stream, instead.bytes()).await {
        close(stream, Body::None).await;
    }
}

/// Waits for its turn, and loads the file. The error is what to answer instead; then all is logged.
async fn begin(
    service: &Rc<Service>,
    seat: &Seat,
    plan: &Plan,
    stop: &Stop,
) -> Result<(Download, Arc<Snapshot>), Reply> {
    let network = Network::of(plan.about.peer.ip());
    let began = Instant::now();
    let mut unsaid = Unsaid {
        service,
        plan,
        instead: Some("its connection had to make room for another one"),
    };
    let download = match plan.start {
        0 => Download::begin(service, network, stop, began).await,
        // It has waited for its slot when it began.
        _ => Some(Download::resume(service, network, began)),
    };
    let Some(download) = download else {
        unsaid.instead = Some(match stop.is_raised() {
            true => "the server stops",
            false => NO_ROOM,
        });
        drop(unsaid);
        if plan.decided.is_none() {
            // It has no check that would say so.
            nothing_sent(service, plan, began, "full");
        }
        return Err(reply::refusal(Refusal::Full, false));
    };
    unsaid.instead = None;
    drop(unsaid);
    seat.begin_download(Instant::now());
    let instead = match service.load_patiently(plan.content).await {
        Ok(snapshot) if snapshot.size() == plan.size => return Ok((download, snapshot)),
        Ok(_) | Err(LoadError::Gone(_)) => Refusal::NotNow,
        Err(LoadError::Unread(_)) => Refusal::Unread,
        Err(LoadError::Full(_)) => Refusal::Full,
    };
    let (reply, result) = match instead {
        Refusal::Full => (reply::refusal(Refusal::Full, false), "full"),
        Refusal::Unread => (reply::refusal(Refusal::Unread, false), "gone"),
        _ if plan.start > 0 && plan.direct => (reply::precondition_failed(), "gone"),
        _ if plan.start > 0 => (reply::unsatisfiable(None), "gone"),
        refusal => (reply::refusal(refusal, false), "gone"),
    };
    nothing_sent(service, plan, began, result);
    Err(reply)
}

/// A check whose line is not in the log yet, since it is not known whether there will be room. It goes
/// there when this is dropped, wherever that happens.
struct Unsaid<'a> {
    service: &'a Service,
    plan: &'a Plan,
    /// Why it gets nothing.
    instead: Option<&'static str>,
}

impl Drop for Unsaid<'_> {
    fn drop(&mut self) {
        match self.instead {
            Some(why) => self.plan.log_refused(self.service, why),
            None => self.plan.log_check(self.service),
        }
    }
}

/// The line of a download that never began.
fn nothing_sent(service: &Service, plan: &Plan, began: Instant, result: &'static str) {
    let now = Instant::now();
    let ended = Ended {
        bytes: 0,
        reached: plan.start,
        size: plan.size,
        took: now.saturating_duration_since(began),
        result,
    };
    let number = service.fleet.borrow_mut().events.number();
    plan.about.ended(service, &ended, number, now);
}

/// How a download ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// Every byte was acknowledged, by the module or by a trusted proxy.
    Complete,
    /// The client went before that.
    Cut,
    /// Nothing was acknowledged for too long.
    Stalled,
    /// It had to make room for another connection.
    Replaced,
    /// The bytes could not be read: the medium has gone.
    Broken,
    /// The server stopped.
    Stopped,
}

impl Ending {
    fn word(self) -> &'static str {
        match self {
            Ending::Complete => "complete",
            Ending::Cut => "cut",
            Ending::Stalled => "stalled",
            Ending::Replaced => "replaced by cap",
            Ending::Broken => "medium gone",
            Ending::Stopped => "stopped",
        }
    }
}

/// A download on its way. Writes its line in the log, and ends its transfer, when it is dropped.
pub(super) struct Sending<'a> {
    service: &'a Rc<Service>,
    stream: &'a Stream,
    seat: &'a Seat,
    plan: &'a Plan,
    download: Download,
    transfer: Option<Transfer>,
    /// What must be waited for before the first byte leaves.
    pub(super) written: Option<Written>,
    progress: Progress,
    began: Instant,
    /// Bytes of the head.
    head: u64,
    /// Bytes of head and file that the kernel took.
    taken: u64,
    /// How many of them were acknowledged at the last look.
    acknowledged: u64,
    /// When that was.
    looked: Instant,
    silence: Silence,
    /// Its number among those that hold a snapshot.
    holder: u64,
    /// TCP_USER_TIMEOUT, which ends a connection whose window stays closed.
    kernel_limit: Duration,
    /// We have sent our FIN, which counts as a byte.
    shut: bool,
    /// The client has closed its side.
    closed: bool,
    ending: Ending,
}

impl<'a> Sending<'a> {
    pub(super) fn new(
        service: &'a Rc<Service>,
        stream: &'a Stream,
        seat: &'a Seat,
        plan: &'a Plan,
        download: Download,
    ) -> Self {
        let now = Instant::now();
        let part = FileRange {
            content: plan.content,
            to: ShortVersion::of(&plan.about.to),
            size: plan.size,
            start: plan.start,
            end: plan.end,
        };
        let who = plan.about.who.as_ref();
        let mut fleet = service.fleet.borrow_mut();
        let (transfer, written) = fleet.begin(who, Some(&plan.owner), part, now);
        drop(fleet);
        Sending {
            service,
            stream,
            seat,
            plan,
            download,
            transfer: Some(transfer),
            written: Some(written),
            progress: Progress::new(service, now),
            began: now,
            head: 0,
            taken: 0,
            acknowledged: 0,
            looked: now,
            holder: service
                .holders
                .borrow_mut()
                .add(plan.content, seat.id(), now),
            silence: Silence::new(service.limits.stall_timeout, now),
            kernel_limit: service.limits.stall_timeout,
            shut: false,
            closed: false,
            ending: Ending::Stopped,
        }
    }

    /// To the end; what is left to do if every byte arrived.
    pub(super) async fn run(&mut self, snapshot: &Snapshot) -> Option<Arrived> {
        if let Some(written) = self.written.take() {
            // Two seconds at most. Without it a restart may cost a resume; a module that is kept waiting
            // costs the download.
            written.wait().await;
            self.silence.excuse(Instant::now());
        }
        self.download.pace(self.stream);
        let bytes = self.plan.end.saturating_sub(self.plan.start);
        if bytes > LARGE {
            self.download.widen(self.stream, bytes);
        }
        self.ending = match self.send(snapshot).await {
            Ok(()) => self.arrive().await,
            Err(ending) => ending,
        };
        (self.ending == Ending::Complete).then(|| Arrived {
            service: Rc::clone(self.service),
            transfer: self.transfer.take(),
            // A range may be complete where the file is not.
            to_the_end: self.plan.end == self.plan.size,
            proxied: self.plan.proxied,
            closed: self.closed,
        })
    }

    async fn send(&mut self, snapshot: &Snapshot) -> Result<(), Ending> {
        let head = self.plan.head();
        let mut head = head.bytes();
        self.head = u64::try_from(head.len()).unwrap_or(u64::MAX);
        if self.plan.apart {
            self.send_apart(head).await?;
            head = &[];
        }
        let mut small = self.small(snapshot).unwrap_or_default();
        let more = small.is_empty();
        while !(head.is_empty() && small.is_empty()) {
            match os::net::send(self.stream.get_ref(), head, small, more) {
                Ok(0) => return Err(Ending::Cut),
                Ok(sent) => {
                    self.took(sent);
                    let of_body = sent.saturating_sub(head.len());
                    head = head.get(sent..).unwrap_or_default();
                    small = small.get(of_body..).unwrap_or_default();
                }
                Err(error) => self.wait_or_fail(error).await?,
            }
        }
        let mut next_turn = CHUNK;
        loop {
            let offset = self.sent_before();
            let left = self.plan.end.saturating_sub(offset).min(CHUNK);
            if left == 0 {
                return Ok(());
            }
            if self.taken >= next_turn {
                next_turn = self.taken.saturating_add(CHUNK);
                self.look();
                yield_now().await;
            }
            let count = usize::try_from(left).unwrap_or(usize::MAX);
            match os::net::send_file(self.stream.get_ref(), snapshot.file(), offset, count) {
                Ok(0) => return Err(self.broken("it is shorter than it was")),
                Ok(sent) => self.took(sent),
                Err(error) => self.wait_or_fail(error).await?,
            }
        }
    }

    /// Sends the head in a segment of its own, and waits until the client's side has it (docs/protocol.md 9g).
    async fn send_apart(&mut self, mut head: &[u8]) -> Result<(), Ending> {
        let _then_it_waits_200_ms = os::net::uncork(self.stream.get_ref());
        while !head.is_empty() {
            match os::net::send(self.stream.get_ref(), head, &[], false) {
                Ok(0) => return Err(Ending::Cut),
                Ok(sent) => {
                    self.took(sent);
                    head = head.get(sent..).unwrap_or_default();
                }
                Err(error) => self.wait_or_fail(error).await?,
            }
        }
        let end = Instant::now() + APART_AT_MOST;
        loop {
            Timer::after(APART).await;
            self.look();
            self.must_end()?;
            if self.acknowledged >= self.taken || Instant::now() >= end {
                return Ok(());
            }
        }
    }

    /// All the bytes to send, if they are few and in memory.
    fn small<'s>(&self, snapshot: &'s Snapshot) -> Option<&'s [u8]> {
        let (start, end) = (self.plan.start, self.plan.end);
        if end.saturating_sub(start) > SMALL {
            return None;
        }
        let range = usize::try_from(start).ok()?..usize::try_from(end).ok()?;
        snapshot.bytes()?.get(range)
    }

    /// The kernel took so many bytes.
    fn took(&mut self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(0);
        self.taken = self.taken.saturating_add(bytes);
        let high = self.sent_before();
        if let Some(transfer) = &mut self.transfer {
            let mut fleet = self.service.fleet.borrow_mut();
            fleet.sent(transfer, high);
        }
    }

    /// The file's bytes before this one are the kernel's or the client's.
    fn sent_before(&self) -> u64 {
        let of_file = self.taken.saturating_sub(self.head);
        self.plan.start.saturating_add(of_file)
    }

    /// Between two looks at how far the bytes have come.
    fn tick(&self) -> Duration {
        let limits = &self.service.limits;
        // Where the uplink is shared, others come and go meanwhile.
        let longest = if limits.uplink.is_some() { 1 } else { 5 };
        let eighth = limits.stall_timeout / 8;
        eighth.clamp(Duration::from_millis(20), Duration::from_secs(longest))
    }

    /// Looks how far the bytes have come.
    fn look(&mut self) {
        self.looked = Instant::now();
        let Ok(queued) = os::net::unacknowledged(self.stream.get_ref()) else {
            return;
        };
        let fin = u64::from(self.shut);
        let queued = u64::try_from(queued).unwrap_or(u64::MAX);
        let acknowledged = self.taken.saturating_sub(queued.saturating_sub(fin));
        if self.silence.look(acknowledged, self.looked) {
            self.acknowledged = acknowledged;
            let (moved, window) = (self.silence.moved(), self.silence.window_time());
            let mut holders = self.service.holders.borrow_mut();
            holders.moved(self.holder, moved, window);
            drop(holders);
            self.seat.acknowledged(self.arrived());
            self.tell();
        }
        let download = &self.download;
        download.acknowledged(self.arrived(), self.looked);
        download.pace(self.stream);
    }

    /// Tells the fleet and those who look on how far it has come.
    fn tell(&mut self) {
        let reached = self.reached();
        if let Some(transfer) = &mut self.transfer {
            let mut fleet = self.service.fleet.borrow_mut();
            fleet.acknowledged(transfer, reached, self.looked);
        }
        let (about, of) = (&self.plan.about, (reached, self.plan.size));
        self.progress.reached(self.service, about, of, self.looked);
    }

    /// The client has the file's bytes before this one, if it has those before the first that we sent.
    fn reached(&self) -> u64 {
        self.plan.start.saturating_add(self.arrived())
    }

    /// Bytes of the file that were acknowledged.
    fn arrived(&self) -> u64 {
        self.acknowledged.saturating_sub(self.head)
    }

    /// To be asked after a look.
    fn must_end(&mut self) -> Result<(), Ending> {
        if !self.seat.is_held() {
            return Err(Ending::Replaced);
        }
        let limit = self.silence.limit(true);
        if limit > self.kernel_limit {
            // Our own limit decides; the kernel knows no rates.
            self.kernel_limit = limit;
            let _as_it_was = os::net::user_timeout(self.stream.get_ref(), limit.saturating_mul(2));
        }
        let answers = || os::net::answers(self.stream.get_ref()).unwrap_or(true);
        match self.silence.is_over(false, self.looked)
            && self.silence.is_over(answers(), self.looked)
        {
            true => Err(Ending::Stalled),
            false => Ok(()),
        }
    }

    /// After an error of a send: waits until there is room again, or says how the download ended.
    async fn wait_or_fail(&mut self, error: io::Error) -> Result<(), Ending> {
        if !is_early(&error) {
            return Err(self.failed(&error));
        }
        let tick = self.tick();
        loop {
            let writable = within(tick, pin!(self.stream.writable())).await;
            if writable.is_none() || self.looked.elapsed() >= tick {
                self.look();
                self.must_end()?;
            }
            match writable {
                Some(Ok(())) => return Ok(()),
                Some(Err(error)) => return Err(self.failed(&error)),
                None => {}
            }
        }
    }

    /// All is sent: FIN, and wait until the client has it. Only then do we know that it does.
    async fn arrive(&mut self) -> Ending {
        if self.stream.get_ref().shutdown(Shutdown::Write).is_ok() {
            self.shut = true;
        }
        let mut tick = FIRST_LOOK.min(self.tick());
        let mut listening = true;
        let mut chatter: u64 = 0;
        // The first look is after the first wait: the client's answer to the FIN cannot be there yet.
        loop {
            if self.acknowledged >= self.taken {
                return Ending::Complete;
            }
            if let Err(ending) = self.must_end() {
                return ending;
            }
            // Where we do not read any more, this is how a reset shows.
            if !listening && let Ok(Some(error)) = self.stream.get_ref().take_error() {
                return self.failed(&error);
            }
            let readable = async {
                match listening {
                    true => self.stream.readable().await.is_ok(),
                    false => smol::future::pending().await,
                }
            };
            let heard = within(tick, pin!(readable)).await;
            match heard.map(|_| discard(self.stream)) {
                None => tick = tick.saturating_mul(2).min(self.tick()),
                Some(Discarded::Bytes(read)) => {
                    chatter = chatter.saturating_add(read);
                    listening = chatter < CHATTER;
                }
                Some(Discarded::Early) => {}
                // It may have closed only its own direction and still be taking ours.
                Some(Discarded::End) => {
                    self.closed = true;
                    listening = false;
                }
                Some(Discarded::Failed(error)) => return self.failed(&error),
            }
            self.look();
        }
    }

    /// The socket, or the file, gave an error.
    fn failed(&mut self, error: &io::Error) -> Ending {
        use io::ErrorKind::{
            BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable,
            NetworkDown, NetworkUnreachable, NotConnected, TimedOut,
        };
        self.look();
        if self.shut && self.acknowledged >= self.taken {
            self.closed = is_reset(error);
            return Ending::Complete;
        }
        if !self.seat.is_held() {
            return Ending::Replaced;
        }
        match error.kind() {
            TimedOut => Ending::Stalled,
            BrokenPipe | ConnectionAborted | ConnectionRefused | ConnectionReset
            | HostUnreachable | NetworkDown | NetworkUnreachable | NotConnected => Ending::Cut,
            _ => self.broken(&error.to_string()),
        }
    }

    /// Counts it if this network takes the same file again and again, and nobody knows which module it
    /// is.
    fn count_repeats(&self, now: Instant) {
        let about = &self.plan.about;
        let network = Network::of(about.peer.ip());
        let file = (self.plan.content, self.plan.size);
        let mut repeats = self.service.repeats.borrow_mut();
        let Some(repeated) = repeats.sent(network, file, self.arrived(), now) else {
            return;
        };
        let tally = &mut self.service.fleet.borrow_mut().tally;
        tally.repeated = tally.repeated.wrapping_add(1);
        if repeated.is_news {
            log::warn!(
                target: "repeats",
                network:% = network,
                project = &*about.project,
                bytes = repeated.bytes,
                size = self.plan.size;
                "one network was sent the same file again and again within a day: a module without an \
                 id, or with a fixed address, loads it anew after each start"
            );
        }
    }

    fn broken(&mut self, why: &str) -> Ending {
        log::error!(target: "device", "a snapshot cannot be read, a download is cut: {why}");
        self.look();
        Ending::Broken
    }
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        self.service.holders.borrow_mut().remove(self.holder);
        // An eviction ends the task wherever it waits.
        if self.ending == Ending::Stopped && !self.seat.is_held() {
            self.ending = Ending::Replaced;
        }
        match self.ending {
            Ending::Stopped => {
                self.look();
                before_close(self.stream);
            }
            // Given up: what is queued for it would be held for minutes by the kernel, and after a
            // broken file it must not look like an end.
            Ending::Stalled | Ending::Replaced | Ending::Broken => {
                self.look();
                let _no_matter = os::net::reset_on_close(self.stream.get_ref());
            }
            // It may have closed its own direction alone.
            Ending::Cut => before_close(self.stream),
            Ending::Complete => {}
        }
        let now = Instant::now();
        // After the last look. Where all has arrived, somebody else ends it.
        if let Some(transfer) = self.transfer.take() {
            let mut fleet = self.service.fleet.borrow_mut();
            fleet.end(
                transfer,
                TransferOutcome::Incomplete {
                    proxied: self.plan.proxied,
                },
                now,
            );
        }
        let ended = Ended {
            bytes: self.arrived(),
            reached: self.reached(),
            size: self.plan.size,
            took: now.saturating_duration_since(self.began),
            result: match self.ending {
                // The acknowledgements were the proxy's.
                Ending::Complete if self.plan.proxied => "sent",
                ending => ending.word(),
            },
        };
        let number = self.progress.number;
        self.plan.about.ended(self.service, &ended, number, now);
        if self.plan.about.who.is_none() {
            self.count_repeats(now);
        }
    }
}

/// A reset: after everything was acknowledged a way of some modules to say that they are content.
fn is_reset(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}

/// A download of which every byte was acknowledged. Acknowledged by the module's network stack: that the
/// module itself has read to the end shows when it closes its side (docs/hazards.md 19). Ends the transfer
/// when it is dropped.
pub(super) struct Arrived {
    service: Rc<Service>,
    transfer: Option<Transfer>,
    to_the_end: bool,
    /// The peer is a trusted proxy, and so is its close.
    proxied: bool,
    closed: bool,
}

impl Arrived {
    /// Waits for the client's close, if it matters to anybody; not for long, and not beyond the stop. Has it
    /// closed? Then both sides have all that was sent.
    async fn until_closed(&mut self, stream: &Stream, seat: &Seat, stop: &Stop) -> bool {
        let is_evidence = self.transfer.as_ref().is_some_and(Transfer::is_to_a_device);
        if self.closed || !self.to_the_end || !is_evidence {
            return self.closed;
        }
        // As little worth as an unfinished head, where others need the place.
        seat.end_download();
        let closed = async {
            let mut chatter: u64 = 0;
            while chatter < CHATTER {
                match discard(stream) {
                    Discarded::Bytes(read) => chatter = chatter.saturating_add(read),
                    Discarded::Early => {
                        if stream.readable().await.is_err() {
                            return false;
                        }
                    }
                    Discarded::End => return true,
                    Discarded::Failed(error) => return is_reset(&error),
                }
            }
            false
        };
        let stopped = async {
            stop.raised().await;
            // It may have come in the same moment.
            matches!(discard(stream), Discarded::End)
        };
        let closed = within(CONTENT, pin!(smol::future::or(closed, stopped))).await;
        self.closed = closed.unwrap_or(false);
        self.closed
    }
}

impl Drop for Arrived {
    fn drop(&mut self) {
        if let Some(transfer) = self.transfer.take() {
            let outcome = match (self.to_the_end && self.closed, self.proxied) {
                (true, false) => TransferOutcome::Whole,
                (true, true) => TransferOutcome::Sent,
                (false, proxied) => TransferOutcome::Incomplete { proxied },
            };
            let mut fleet = self.service.fleet.borrow_mut();
            fleet.end(transfer, outcome, Instant::now());
        }
    }
}
