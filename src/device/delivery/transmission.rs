//! Transmission of a file's bytes: sends them, measures the progress, and records the result.

use std::io;
use std::net::Shutdown;
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use smol::Timer;
use smol::future::yield_now;

use super::CHATTER;
use super::await_close::{AwaitClose, is_reset};
use crate::device::check_log::{DownloadEvents, EndedDownload};
use crate::device::plan::DeliveryPlan;
use crate::device::seats::Seat;
use crate::device::silence::Silence;
use crate::device::slots::Download;
use crate::device::stream::{Discarded, before_close, discard};
use crate::device::{Service, Stream, repeats, within};
use crate::firmware::snapshot::Snapshot;
use crate::fleet::journal::Written;
use crate::fleet::short_version::ShortVersion;
use crate::fleet::{FileRange, Transfer, TransferOutcome};
use crate::os;
use crate::os::net::is_early;

/// Maximum size in bytes of a file that is sent together with its head in one call.
const SMALL: u64 = 16 * 1024;

/// Maximum number of bytes of one sendfile call, after which other tasks run.
const CHUNK: u64 = 1024 * 1024;

/// Interval between two checks whether a head that must arrive alone was acknowledged. Therefore also the shortest
/// time between head and body.
const APART: Duration = Duration::from_millis(500);

/// Longest wait for the acknowledgement of a head that must arrive alone.
const APART_AT_MOST: Duration = Duration::from_secs(5);

/// Number of bytes above which a download gets a large send buffer.
const LARGE: u64 = 128 * 1024;

/// First wait for the last acknowledgements, which no event announces. Each further wait is twice as long.
const FIRST_LOOK: Duration = Duration::from_millis(40);

/// Result of a download.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DeliveryEnd {
    /// Every byte was acknowledged, by the module or by a trusted proxy.
    Complete,
    /// The client closed or lost the connection before every byte was acknowledged.
    Cut,
    /// No byte was acknowledged for the time of the stall limit.
    Stalled,
    /// The connection was evicted to make room for another one.
    Replaced,
    /// The bytes could not be read, because their medium is gone.
    Broken,
    /// The server stopped.
    Stopped,
}

impl DeliveryEnd {
    fn word(self) -> &'static str {
        match self {
            DeliveryEnd::Complete => "complete",
            DeliveryEnd::Cut => "cut",
            DeliveryEnd::Stalled => "stalled",
            DeliveryEnd::Replaced => "replaced by cap",
            DeliveryEnd::Broken => "medium gone",
            DeliveryEnd::Stopped => "stopped",
        }
    }
}

/// A running download. Recorded when dropped.
pub(in crate::device) struct Transmission<'a> {
    service: &'a Rc<Service>,
    stream: &'a Stream,
    seat: &'a Seat,
    plan: &'a DeliveryPlan,
    download: Download,
    transfer: Option<Transfer>,
    /// The record of the pin, which must be written before the first byte is sent.
    pub(in crate::device) written: Option<Written>,
    events: DownloadEvents,
    began: Instant,
    /// Bytes of the head.
    head: u64,
    /// Bytes of head and file that the kernel has accepted.
    taken: u64,
    /// Bytes of head and file that were acknowledged at the time `looked`.
    acknowledged: u64,
    /// Time of the last measurement.
    looked: Instant,
    silence: Silence,
    /// The stall limit that TCP_USER_TIMEOUT allows for. The kernel's time-out ends a connection whose window stays
    /// closed.
    kernel_limit: Duration,
    /// Whether our FIN was sent, which the kernel counts as a byte.
    shut: bool,
    /// Whether the client has closed its side.
    closed: bool,
    ending: DeliveryEnd,
}

impl<'a> Transmission<'a> {
    pub fn new(
        service: &'a Rc<Service>,
        stream: &'a Stream,
        seat: &'a Seat,
        plan: &'a DeliveryPlan,
        download: Download,
    ) -> Self {
        let now = Instant::now();
        let part = FileRange {
            content: plan.content,
            to: ShortVersion::of(&plan.subject.to),
            size: plan.size,
            start: plan.start,
            end: plan.end,
        };
        let holders = &service.holders;
        holders.borrow_mut().add(seat.id(), plan.content, now);
        let who = plan.subject.who.as_ref();
        let mut fleet = service.fleet.borrow_mut();
        let (transfer, written) = fleet.begin(who, Some(&plan.owner), part, now);
        drop(fleet);
        Transmission {
            service,
            stream,
            seat,
            plan,
            download,
            transfer: Some(transfer),
            written: Some(written),
            events: DownloadEvents::new(service, now),
            began: now,
            head: 0,
            taken: 0,
            acknowledged: 0,
            looked: now,
            silence: Silence::new(service.limits.stall_timeout, now),
            kernel_limit: service.limits.stall_timeout,
            shut: false,
            closed: false,
            ending: DeliveryEnd::Stopped,
        }
    }

    /// Sends all bytes and waits for their acknowledgement. Returns the remaining work if every byte was
    /// acknowledged.
    pub async fn run(&mut self, snapshot: &Snapshot) -> Option<AwaitClose> {
        if let Some(written) = self.written.take() {
            // Takes at most two seconds. Without the record, a restart may make a resume impossible; a module that
            // waits for longer may give up the download.
            written.wait().await;
            self.silence.excuse(Instant::now());
        }
        self.download.pace(self.stream);
        let bytes = self.plan.end - self.plan.start;
        if bytes > LARGE {
            self.download.widen(self.stream, bytes);
        }
        self.ending = match self.send(snapshot).await {
            Ok(()) => self.arrive().await,
            Err(ending) => ending,
        };
        (self.ending == DeliveryEnd::Complete).then(|| AwaitClose {
            service: Rc::clone(self.service),
            transfer: self.transfer.take(),
            // A range may be complete although the file is not.
            to_the_end: self.plan.end == self.plan.size,
            proxied: self.plan.proxied,
            closed: self.closed,
        })
    }

    async fn send(&mut self, snapshot: &Snapshot) -> Result<(), DeliveryEnd> {
        let head = self.plan.head();
        let mut head = head.bytes();
        self.head = head.len() as u64;
        if self.plan.apart {
            self.send_apart(head).await?;
            head = &[];
        }
        let mut small = self.small(snapshot).unwrap_or_default();
        let more = small.is_empty();
        while !(head.is_empty() && small.is_empty()) {
            match os::net::send(self.stream.get_ref(), head, small, more) {
                Ok(0) => return Err(DeliveryEnd::Cut),
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
                next_turn = self.taken + CHUNK;
                self.look();
                yield_now().await;
            }
            let count = usize::try_from(left).unwrap_or(usize::MAX);
            match os::net::send_file(self.stream.get_ref(), snapshot.file(), offset, count) {
                Ok(0) => return Err(self.broken("it is shorter than before")),
                Ok(sent) => self.took(sent),
                Err(error) => self.wait_or_fail(error).await?,
            }
        }
    }

    /// Sends the head in a segment of its own, and waits until the client's side has acknowledged it, but for no longer
    /// than [`APART_AT_MOST`] (docs/protocol.md 9g).
    async fn send_apart(&mut self, mut head: &[u8]) -> Result<(), DeliveryEnd> {
        let _slower_without = os::net::uncork(self.stream.get_ref());
        while !head.is_empty() {
            match os::net::send(self.stream.get_ref(), head, &[], false) {
                Ok(0) => return Err(DeliveryEnd::Cut),
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

    /// All bytes to send, if they are few and in memory.
    fn small<'s>(&self, snapshot: &'s Snapshot) -> Option<&'s [u8]> {
        let (start, end) = (self.plan.start, self.plan.end);
        if end - start > SMALL {
            return None;
        }
        let range = usize::try_from(start).ok()?..usize::try_from(end).ok()?;
        snapshot.bytes()?.get(range)
    }

    /// Counts bytes that the kernel accepted.
    fn took(&mut self, bytes: usize) {
        self.taken += bytes as u64;
        let high = self.sent_before();
        if let Some(transfer) = &mut self.transfer {
            let mut fleet = self.service.fleet.borrow_mut();
            fleet.sent(transfer, high);
        }
    }

    /// Offset in the file before which all bytes were accepted by the kernel.
    fn sent_before(&self) -> u64 {
        let of_file = self.taken.saturating_sub(self.head);
        self.plan.start + of_file
    }

    /// Interval between two measurements of the progress.
    fn tick(&self) -> Duration {
        let limits = &self.service.limits;
        // Where the uplink is shared, the share changes as other downloads begin and end.
        let longest = if limits.uplink.is_some() { 1 } else { 5 };
        let eighth = limits.stall_timeout / 8;
        eighth.clamp(Duration::from_millis(20), Duration::from_secs(longest))
    }

    /// Measures the progress and reports it.
    fn look(&mut self) {
        self.looked = Instant::now();
        let Ok(queued) = os::net::unacknowledged(self.stream.get_ref()) else {
            return;
        };
        let fin = u64::from(self.shut);
        let queued = queued as u64;
        let acknowledged = self.taken.saturating_sub(queued.saturating_sub(fin));
        if self.silence.look(acknowledged, self.looked) {
            self.acknowledged = acknowledged;
            let (moved, window) = (self.silence.moved(), self.silence.window_time());
            let mut holders = self.service.holders.borrow_mut();
            holders.moved(self.seat.id(), moved, window);
            drop(holders);
            self.seat.acknowledged(self.arrived());
            self.report();
        }
        let download = &self.download;
        download.acknowledged(self.arrived(), self.looked);
        download.pace(self.stream);
    }

    /// Reports the progress to the fleet and the events.
    fn report(&mut self) {
        let reached = self.reached();
        if let Some(transfer) = &mut self.transfer {
            let mut fleet = self.service.fleet.borrow_mut();
            fleet.acknowledged(transfer, reached, self.looked);
        }
        let (subject, of) = (&self.plan.subject, (reached, self.plan.size));
        self.events.progress(self.service, subject, of, self.looked);
    }

    /// Offset in the file before which the client has all bytes, if it has those before the start of this
    /// transmission.
    fn reached(&self) -> u64 {
        self.plan.start + self.arrived()
    }

    /// Bytes of the file that were acknowledged.
    fn arrived(&self) -> u64 {
        self.acknowledged.saturating_sub(self.head)
    }

    /// Returns an error if the download must end. To be called after a measurement (`look`).
    fn must_end(&mut self) -> Result<(), DeliveryEnd> {
        if !self.seat.is_held() {
            return Err(DeliveryEnd::Replaced);
        }
        let limit = self.silence.limit(true);
        if limit > self.kernel_limit {
            // The limit of this module decides; the kernel does not take the rate into account.
            self.kernel_limit = limit;
            let _as_it_was = os::net::user_timeout(self.stream.get_ref(), limit.saturating_mul(2));
        }
        let answers = || os::net::answers(self.stream.get_ref()).unwrap_or(true);
        match self.silence.is_over(false, self.looked)
            && self.silence.is_over(answers(), self.looked)
        {
            true => Err(DeliveryEnd::Stalled),
            false => Ok(()),
        }
    }

    /// Handles an error of a send: waits until the socket is writable again, or returns the result of the download.
    async fn wait_or_fail(&mut self, error: io::Error) -> Result<(), DeliveryEnd> {
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

    /// Sends the FIN after the last byte, and waits until the client has acknowledged it. Only this proves the
    /// arrival.
    async fn arrive(&mut self) -> DeliveryEnd {
        if self.stream.get_ref().shutdown(Shutdown::Write).is_ok() {
            self.shut = true;
        }
        let mut tick = FIRST_LOOK.min(self.tick());
        let mut listening = true;
        let mut chatter: u64 = 0;
        // The first measurement is after the first wait: the client's answer to the FIN cannot arrive earlier.
        loop {
            if self.acknowledged >= self.taken {
                return DeliveryEnd::Complete;
            }
            if let Err(ending) = self.must_end() {
                return ending;
            }
            // When the socket is no longer read, a reset shows only here.
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
                    chatter += read;
                    listening = chatter < CHATTER;
                }
                Some(Discarded::Early) => {}
                // The client may have closed only its own direction and still be receiving.
                Some(Discarded::End) => {
                    self.closed = true;
                    listening = false;
                }
                Some(Discarded::Failed(error)) => return self.failed(&error),
            }
            self.look();
        }
    }

    /// Returns the result after an error of the socket or of the file.
    fn failed(&mut self, error: &io::Error) -> DeliveryEnd {
        use io::ErrorKind::{
            BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable,
            NetworkDown, NetworkUnreachable, NotConnected, TimedOut,
        };
        self.look();
        if self.shut && self.acknowledged >= self.taken {
            self.closed = is_reset(error);
            return DeliveryEnd::Complete;
        }
        if !self.seat.is_held() {
            return DeliveryEnd::Replaced;
        }
        match error.kind() {
            TimedOut => DeliveryEnd::Stalled,
            BrokenPipe | ConnectionAborted | ConnectionRefused | ConnectionReset
            | HostUnreachable | NetworkDown | NetworkUnreachable | NotConnected => DeliveryEnd::Cut,
            _ => self.broken(&error.to_string()),
        }
    }

    fn broken(&mut self, why: &str) -> DeliveryEnd {
        log::error!(target: "device", "a snapshot cannot be read, so a download was cut: {why}");
        self.look();
        DeliveryEnd::Broken
    }
}

impl Drop for Transmission<'_> {
    fn drop(&mut self) {
        let holders = &self.service.holders;
        holders.borrow_mut().remove(self.seat.id());
        // An eviction ends the task at whatever point it waits.
        if self.ending == DeliveryEnd::Stopped && !self.seat.is_held() {
            self.ending = DeliveryEnd::Replaced;
        }
        match self.ending {
            DeliveryEnd::Stopped => {
                self.look();
                before_close(self.stream);
            }
            // Otherwise the kernel would hold the queued bytes of this download for minutes. After a read error, the
            // close must not look like the end of the file.
            DeliveryEnd::Stalled | DeliveryEnd::Replaced | DeliveryEnd::Broken => {
                self.look();
                let _no_matter = os::net::reset_on_close(self.stream.get_ref());
            }
            // The client may have closed only its own direction.
            DeliveryEnd::Cut => before_close(self.stream),
            DeliveryEnd::Complete => {}
        }
        let now = Instant::now();
        let outcome = TransferOutcome::Incomplete {
            proxied: self.plan.proxied,
        };
        let ended = EndedDownload {
            number: self.events.number,
            bytes: self.arrived(),
            reached: self.reached(),
            size: self.plan.size,
            took: now.saturating_duration_since(self.began),
            result: match self.ending {
                // The acknowledgements came from the proxy.
                DeliveryEnd::Complete if self.plan.proxied => "sent",
                ending => ending.word(),
            },
            // If every byte was acknowledged, `AwaitClose` ends the transfer.
            transfer: self.transfer.take().map(|transfer| (transfer, outcome)),
        };
        self.plan.subject.download_ended(self.service, ended, now);
        if self.plan.subject.who.is_none() {
            let file = (self.plan.content, self.plan.size);
            let service = self.service;
            repeats::record(service, &self.plan.subject, file, self.arrived(), now);
        }
    }
}
