//! Transmission of a file's bytes: sends them, measures the progress, and records the result.

use std::io;
use std::net::Shutdown;
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use smol::Timer;
use smol::future::yield_now;

use super::MAX_CLIENT_BYTES;
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
use crate::os::net::is_retryable;

/// Maximum size in bytes of a file that is sent together with its head in one call.
const SMALL: u64 = 16 * 1024;

/// Maximum number of bytes of one sendfile call, after which other tasks run.
const CHUNK: u64 = 1024 * 1024;

/// Interval between two checks whether a head that must arrive alone was acknowledged. Therefore also the shortest
/// time between head and body.
const HEAD_ACK_POLL: Duration = Duration::from_millis(500);

/// Longest wait for the acknowledgement of a head that must arrive alone.
const HEAD_ACK_TIMEOUT: Duration = Duration::from_secs(5);

/// Number of bytes above which a download gets a large send buffer.
const LARGE: u64 = 128 * 1024;

/// First wait for the last acknowledgements, which no event announces. Each further wait is twice as long.
const FIRST_ACK_WAIT: Duration = Duration::from_millis(40);

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
    accepted: u64,
    /// Bytes of head and file that were acknowledged at the time `measured_at`.
    acknowledged: u64,
    /// Time of the last measurement.
    measured_at: Instant,
    silence: Silence,
    /// The stall limit that TCP_USER_TIMEOUT allows for. The kernel's time-out ends a connection whose window stays
    /// closed.
    kernel_limit: Duration,
    /// Whether our FIN was sent, which the kernel counts as a byte.
    fin_sent: bool,
    /// Whether the client has closed its side.
    client_closed: bool,
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
        let requester = plan.subject.requester.as_ref();
        let mut fleet = service.fleet.borrow_mut();
        let (transfer, written) = fleet.begin(requester, Some(&plan.owner), part, now);
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
            accepted: 0,
            acknowledged: 0,
            measured_at: now,
            silence: Silence::new(service.limits.stall_timeout, now),
            kernel_limit: service.limits.stall_timeout,
            fin_sent: false,
            client_closed: false,
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
            self.silence.restart(Instant::now());
        }
        self.download.pace(self.stream);
        let bytes = self.plan.end - self.plan.start;
        if bytes > LARGE {
            self.download.enlarge_send_buffer(self.stream, bytes);
        }
        self.ending = match self.send(snapshot).await {
            Ok(()) => self.await_acks().await,
            Err(ending) => ending,
        };
        (self.ending == DeliveryEnd::Complete).then(|| AwaitClose {
            service: Rc::clone(self.service),
            transfer: self.transfer.take(),
            // A range may be complete although the file is not.
            sent_last_byte: self.plan.end == self.plan.size,
            proxied: self.plan.proxied,
            client_closed: self.client_closed,
        })
    }

    async fn send(&mut self, snapshot: &Snapshot) -> Result<(), DeliveryEnd> {
        let head = self.plan.head();
        let mut head = head.bytes();
        self.head = head.len() as u64;
        if self.plan.head_alone {
            self.send_head_alone(head).await?;
            head = &[];
        }
        let mut small = self.small(snapshot).unwrap_or_default();
        let more = small.is_empty();
        while !(head.is_empty() && small.is_empty()) {
            match os::net::send(self.stream.get_ref(), head, small, more) {
                Ok(0) => return Err(DeliveryEnd::Cut),
                Ok(sent) => {
                    self.count_accepted(sent);
                    let of_body = sent.saturating_sub(head.len());
                    head = head.get(sent..).unwrap_or_default();
                    small = small.get(of_body..).unwrap_or_default();
                }
                Err(error) => self.wait_or_fail(error).await?,
            }
        }
        let mut next_yield = CHUNK;
        loop {
            let offset = self.accepted_offset();
            let left = self.plan.end.saturating_sub(offset).min(CHUNK);
            if left == 0 {
                return Ok(());
            }
            if self.accepted >= next_yield {
                next_yield = self.accepted + CHUNK;
                self.measure();
                yield_now().await;
            }
            let count = usize::try_from(left).unwrap_or(usize::MAX);
            match os::net::send_file(self.stream.get_ref(), snapshot.file(), offset, count) {
                Ok(0) => return Err(self.broken("it is shorter than before")),
                Ok(sent) => self.count_accepted(sent),
                Err(error) => self.wait_or_fail(error).await?,
            }
        }
    }

    /// Sends the head in a segment of its own, and waits until the client's side has acknowledged it, but for no longer
    /// than [`HEAD_ACK_TIMEOUT`] (docs/protocol.md 9g).
    async fn send_head_alone(&mut self, mut head: &[u8]) -> Result<(), DeliveryEnd> {
        let _optional = os::net::uncork(self.stream.get_ref());
        while !head.is_empty() {
            match os::net::send(self.stream.get_ref(), head, &[], false) {
                Ok(0) => return Err(DeliveryEnd::Cut),
                Ok(sent) => {
                    self.count_accepted(sent);
                    head = head.get(sent..).unwrap_or_default();
                }
                Err(error) => self.wait_or_fail(error).await?,
            }
        }
        let end = Instant::now() + HEAD_ACK_TIMEOUT;
        loop {
            Timer::after(HEAD_ACK_POLL).await;
            self.measure();
            self.ensure_alive()?;
            if self.acknowledged >= self.accepted || Instant::now() >= end {
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
    fn count_accepted(&mut self, bytes: usize) {
        self.accepted += bytes as u64;
        let high = self.accepted_offset();
        if let Some(transfer) = &mut self.transfer {
            let mut fleet = self.service.fleet.borrow_mut();
            fleet.sent(transfer, high);
        }
    }

    /// Offset in the file before which all bytes were accepted by the kernel.
    fn accepted_offset(&self) -> u64 {
        let of_file = self.accepted.saturating_sub(self.head);
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
    fn measure(&mut self) {
        self.measured_at = Instant::now();
        let Ok(queued) = os::net::unacknowledged(self.stream.get_ref()) else {
            return;
        };
        let fin = u64::from(self.fin_sent);
        let queued = queued as u64;
        let acknowledged = self.accepted.saturating_sub(queued.saturating_sub(fin));
        if self.silence.record(acknowledged, self.measured_at) {
            self.acknowledged = acknowledged;
            let (last_ack, window) = (self.silence.last_ack(), self.silence.window_time());
            let mut holders = self.service.holders.borrow_mut();
            holders.record_progress(self.seat.id(), last_ack, window);
            drop(holders);
            self.seat.acknowledged(self.acked_bytes());
            self.report();
        }
        let download = &self.download;
        download.acknowledged(self.acked_bytes(), self.measured_at);
        download.pace(self.stream);
    }

    /// Reports the progress to the fleet and the events.
    fn report(&mut self) {
        let reached = self.reached();
        if let Some(transfer) = &mut self.transfer {
            let mut fleet = self.service.fleet.borrow_mut();
            fleet.acknowledged(transfer, reached, self.measured_at);
        }
        let (subject, of) = (&self.plan.subject, (reached, self.plan.size));
        self.events
            .progress(self.service, subject, of, self.measured_at);
    }

    /// Offset in the file before which the client has all bytes, if it has those before the start of this
    /// transmission.
    fn reached(&self) -> u64 {
        self.plan.start + self.acked_bytes()
    }

    /// Bytes of the file that were acknowledged.
    fn acked_bytes(&self) -> u64 {
        self.acknowledged.saturating_sub(self.head)
    }

    /// Returns an error if the download must end. To be called after a measurement (`measure`).
    fn ensure_alive(&mut self) -> Result<(), DeliveryEnd> {
        if !self.seat.is_held() {
            return Err(DeliveryEnd::Replaced);
        }
        let limit = self.silence.limit(true);
        if limit > self.kernel_limit {
            // `silence` decides; the kernel does not take the rate into account.
            self.kernel_limit = limit;
            let _optional = os::net::user_timeout(self.stream.get_ref(), limit.saturating_mul(2));
        }
        let answers = || os::net::peer_acknowledges(self.stream.get_ref()).unwrap_or(true);
        match self.silence.is_over(false, self.measured_at)
            && self.silence.is_over(answers(), self.measured_at)
        {
            true => Err(DeliveryEnd::Stalled),
            false => Ok(()),
        }
    }

    /// Handles an error of a send: waits until the socket is writable again, or returns the result of the download.
    async fn wait_or_fail(&mut self, error: io::Error) -> Result<(), DeliveryEnd> {
        if !is_retryable(&error) {
            return Err(self.failed(&error));
        }
        let tick = self.tick();
        loop {
            let writable = within(tick, pin!(self.stream.writable())).await;
            if writable.is_none() || self.measured_at.elapsed() >= tick {
                self.measure();
                self.ensure_alive()?;
            }
            match writable {
                Some(Ok(())) => return Ok(()),
                Some(Err(error)) => return Err(self.failed(&error)),
                None => {}
            }
        }
    }

    /// Sends the FIN after the last byte, and waits until the client has acknowledged every byte before it. Only this
    /// proves the arrival.
    async fn await_acks(&mut self) -> DeliveryEnd {
        if self.stream.get_ref().shutdown(Shutdown::Write).is_ok() {
            self.fin_sent = true;
        }
        let mut tick = FIRST_ACK_WAIT.min(self.tick());
        let mut is_reading = true;
        let mut received: u64 = 0;
        // The first measurement is after the first wait: the client's answer to the FIN cannot arrive earlier.
        loop {
            if self.acknowledged >= self.accepted {
                return DeliveryEnd::Complete;
            }
            if let Err(ending) = self.ensure_alive() {
                return ending;
            }
            // When the socket is no longer read, a reset shows only here.
            if !is_reading && let Ok(Some(error)) = self.stream.get_ref().take_error() {
                return self.failed(&error);
            }
            let readable = async {
                match is_reading {
                    true => self.stream.readable().await.is_ok(),
                    false => smol::future::pending().await,
                }
            };
            let readable = within(tick, pin!(readable)).await;
            match readable.map(|_| discard(self.stream)) {
                None => tick = tick.saturating_mul(2).min(self.tick()),
                Some(Discarded::Bytes(read)) => {
                    received += read;
                    is_reading = received < MAX_CLIENT_BYTES;
                }
                Some(Discarded::Early) => {}
                // The client may have closed only its own direction and still be receiving.
                Some(Discarded::End) => {
                    self.client_closed = true;
                    is_reading = false;
                }
                Some(Discarded::Failed(error)) => return self.failed(&error),
            }
            self.measure();
        }
    }

    /// Returns the result after an error of the socket or of the file.
    fn failed(&mut self, error: &io::Error) -> DeliveryEnd {
        use io::ErrorKind::{
            BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable,
            NetworkDown, NetworkUnreachable, NotConnected, TimedOut,
        };
        self.measure();
        if self.fin_sent && self.acknowledged >= self.accepted {
            self.client_closed = is_reset(error);
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
        log::error!(target: "device", "a download was cut, because its snapshot or its socket failed: {why}");
        self.measure();
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
                self.measure();
                before_close(self.stream);
            }
            // Otherwise the kernel would hold the queued bytes of this download for minutes. After a read error, the
            // close must not look like the end of the file.
            DeliveryEnd::Stalled | DeliveryEnd::Replaced | DeliveryEnd::Broken => {
                self.measure();
                let _optional = os::net::reset_on_close(self.stream.get_ref());
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
            bytes: self.acked_bytes(),
            reached: self.reached(),
            size: self.plan.size,
            duration: now.saturating_duration_since(self.began),
            result: match self.ending {
                // The acknowledgements came from the proxy.
                DeliveryEnd::Complete if self.plan.proxied => "sent",
                ending => ending.word(),
            },
            // If every byte was acknowledged, `AwaitClose` ends the transfer.
            transfer: self.transfer.take().map(|transfer| (transfer, outcome)),
        };
        self.plan.subject.record_download(self.service, ended, now);
        if self.plan.subject.requester.is_none() {
            let file = (self.plan.content, self.plan.size);
            let service = self.service;
            repeats::record(service, &self.plan.subject, file, self.acked_bytes(), now);
        }
    }
}
