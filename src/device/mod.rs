//! The public sockets that modules talk to: HTTP ([`http`]), UDP ([`udp`]) and TCP ([`tcp`]). Everything runs on one
//! thread, so nothing here is locked.
//!
//! A check takes the same path over every protocol: [`plan`] decides on it and plans the answer, and for UDP and TCP
//! [`message`] encodes the answer; neither touches a socket. [`delivery`] sends a file over HTTP, [`packets`] follows
//! a download by packets. [`check_log`] records checks and downloads. Every byte of firmware comes from a snapshot
//! ([`loading`]). A connection that cannot be answered in line holds one of the [`seats`], a download one of the
//! [`slots`].

mod accept;
pub mod buckets;
mod check_log;
mod client;
mod delivery;
mod direct_file;
pub mod http;
mod libfota3;
mod limits;
mod loading;
mod message;
mod network_counts;
mod packets;
mod plan;
mod repeats;
mod seats;
mod silence;
mod slots;
mod stop;
mod stream;
pub mod tcp;
pub mod udp;
pub mod upgrade_id;
mod weeks;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use self::buckets::RateLimits;
pub use self::limits::{Cidr, Limits};
use self::loading::SnapshotHolders;
use self::repeats::Repeats;
use self::seats::{SeatId, Seats};
use self::slots::Downloads;
pub use self::stop::Stop;
use self::upgrade_id::UpgradeIds;
use crate::firmware::catalog::Catalog;
use crate::firmware::snapshot::Snapshots;
use crate::fleet::Fleet;
use crate::os;
use crate::os::notify::Notify;
use crate::wire::reply::{Reply, Status};
use smol::{Async, Timer};

/// State of the public side, shared by its loops.
pub struct Service {
    /// The catalogue in force. Empty until the first one arrives.
    pub catalog: RefCell<Arc<Catalog>>,
    /// The loaded files.
    pub snapshots: Snapshots,
    /// The records of the devices.
    pub fleet: Rc<RefCell<Fleet>>,
    /// The ids of UDP downloads.
    pub ids: UpgradeIds,
    /// The limits in force.
    pub limits: Limits,
    /// Requests that a file of the folder is read again.
    reread: Box<dyn Fn(&str)>,
    /// Whether a catalogue has arrived.
    ready: Cell<bool>,
    /// Whether every file that was in the folder at the start and could be read has been read.
    complete: Cell<bool>,
    /// Whether `luat-ota drain` is in force.
    drained: Cell<bool>,
    seats: Seats,
    downloads: Downloads,
    /// Connections that download from a snapshot.
    holders: RefCell<SnapshotHolders<SeatId>>,
    repeats: RefCell<Repeats>,
    buckets: RefCell<RateLimits>,
    /// Notified when there may be snapshots to free, now or later.
    sweep_due: Notify,
    /// Buffer into which a socket is read; not borrowed across an await.
    scratch: RefCell<Vec<u8>>,
}

/// A connection's socket.
type Stream = Async<std::net::TcpStream>;

/// Minimum size in bytes of the buffer into which sockets are read.
const SCRATCH: usize = 16 * 1024;

impl Service {
    /// The state at the start: no catalogue yet, no connections. `secret` is the secret of the state folder, from
    /// which the UDP ids are derived. `reread` is called with the path of a file that is gone or does not have the
    /// expected bytes, and must not block.
    pub fn new(
        limits: Limits,
        snapshots: Snapshots,
        fleet: Rc<RefCell<Fleet>>,
        secret: &[u8; 32],
        reread: Box<dyn Fn(&str)>,
    ) -> Service {
        let memory = os::memory::total();
        let connections = limits.connections(os::process::raise_file_limit(), memory);
        // One byte more than a head may have: a full buffer shows that the head is too long.
        let scratch = limits.head_bytes.saturating_add(1).max(SCRATCH);
        Service {
            catalog: RefCell::default(),
            snapshots,
            fleet,
            ids: UpgradeIds::new(secret, limits.udp_roaming),
            reread,
            ready: Cell::new(false),
            complete: Cell::new(false),
            drained: Cell::new(false),
            seats: Seats::new(connections, limits.max_connections_per_address),
            buckets: RefCell::new(RateLimits::new(
                limits.udp_checks_per_second,
                limits.udp_errors_per_second,
                limits.udp_gets_per_second,
                Instant::now(),
            )),
            holders: RefCell::default(),
            repeats: RefCell::default(),
            downloads: Downloads::new(&limits, memory),
            sweep_due: Notify::default(),
            scratch: RefCell::new(vec![0; scratch]),
            limits,
        }
    }

    /// Replaces the catalogue, and drops the snapshots that are no longer needed.
    pub fn replace_catalog(&self, catalog: Arc<Catalog>) {
        self.snapshots.sweep(&catalog);
        self.sweep_due.notify();
        if !catalog.is_unread() {
            // A folder that cannot be read does not prove that its releases are gone.
            self.fleet.borrow_mut().catalog(&catalog, Instant::now());
        }
        if !catalog.is_unread() && !catalog.reading {
            self.complete.set(true);
        }
        *self.catalog.borrow_mut() = catalog;
        self.ids.forget();
        self.ready.set(true);
    }

    /// The answer to `/readyz`: whether a load balancer should send requests here. While the server stops, it accepts
    /// no connections.
    fn readiness(&self) -> Status {
        if !self.complete.get() {
            return Status::Reading;
        }
        match self.drained.get() {
            true => Status::Drained,
            false => Status::Healthy,
        }
    }

    /// Whether `/readyz` answers 200.
    pub fn is_ready(&self) -> bool {
        self.readiness() == Status::Healthy
    }

    /// Sets whether `/readyz` answers 503 because of a drain. Changes nothing else.
    pub fn set_drained(&self, is_drained: bool) {
        self.drained.set(is_drained);
    }

    /// Waits until a sweep of the snapshots may free some: something was loaded, or the folder has changed.
    pub async fn sweep_due(&self) {
        self.sweep_due.notified().await;
    }

    /// Number of downloads that run now. A download by packets counts until no packet was requested for 15 s.
    pub fn running_downloads(&self) -> usize {
        self.downloads.running()
    }

    /// Waits until no download runs.
    pub async fn downloads_done(&self) {
        self.downloads.all_ended().await;
    }

    /// Whether files are not read yet: then a project or an id that is unknown may still be valid.
    fn has_unread_files(&self) -> bool {
        let catalog = self.catalog.borrow();
        !self.ready.get() || !catalog.waiting.is_empty() || !catalog.unread.is_empty()
    }

    /// Waits until no connection has a seat. After the signal to stop, when the listeners have ended, downloading
    /// connections stay until they are done, all others only for a last reply.
    pub async fn connections_done(&self) {
        self.seats.all_freed().await;
    }

    /// The catalogue in force, in a form that can be held across an await.
    fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.catalog.borrow())
    }

    /// Counts a reply over HTTP.
    fn count_reply(&self, reply: &Reply) {
        self.fleet.borrow_mut().tally.reply(reply.status());
    }

    /// Counts a head or a datagram that is not a request.
    fn count_malformed(&self) {
        let tally = &mut self.fleet.borrow_mut().tally;
        tally.malformed = tally.malformed.wrapping_add(1);
    }
}

/// Returns the output of `future`, or `None` if it takes longer than `time`. The caller pins the future: passed by
/// value, it would take up its space three times in every connection that waits.
async fn within<T>(time: Duration, mut future: impl Future<Output = T> + Unpin) -> Option<T> {
    let mut timer = Timer::after(time);
    poll_fn(|context| match pin!(&mut future).poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => pin!(&mut timer).poll(context).map(|_| None),
    })
    .await
}

#[cfg(test)]
mod tests;
