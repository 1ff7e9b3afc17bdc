//! The PUBLIC sockets that modules talk to: HTTP ([`http`]), UDP ([`udp`]) and TCP ([`tcp`]). Started by
//! the server room; everything runs on one thread, so nothing here is locked.
//!
//! A check takes the same way whatever it arrives by: [`asked`] decides and writes its line in the log.
//! What goes out in answer is planned in [`answer`] (HTTP) and [`message`] (UDP, TCP), which touch no
//! socket, and sent by the loops. Every byte of firmware comes out of a snapshot; every connection that
//! could not be answered in line has a seat in [`seats`].

mod accept;
pub mod buckets;
mod check_log;
mod client;
mod delivery;
mod direct_file;
pub mod http;
mod libfota3;
mod limits;
mod message;
mod network_counts;
mod packets;
mod plan;
mod pressure;
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

use self::buckets::Limiters;
pub use self::limits::{Cidr, Limits};
use self::pressure::Holders;
use self::repeats::Repeats;
use self::seats::{SeatId, Seats};
use self::slots::Downloads;
pub use self::stop::Stop;
use self::upgrade_id::UpgradeIds;
use crate::decision::Refusal;
use crate::firmware::ContentId;
use crate::firmware::catalog::Catalog;
use crate::firmware::snapshot::{LoadError, Snapshot, Snapshots};
use crate::fleet::Fleet;
use crate::os;
use crate::os::notify::Notify;
use smol::future::yield_now;
use smol::{Async, Timer};

/// All that the public side needs, shared by its loops.
pub struct Service {
    /// What there is. Empty until the first catalogue arrives.
    pub catalog: RefCell<Arc<Catalog>>,
    /// The bytes.
    pub snapshots: Snapshots,
    /// What is remembered of the devices.
    pub fleet: Rc<RefCell<Fleet>>,
    /// The ids of UDP downloads.
    pub ids: UpgradeIds,
    /// The limits in force.
    pub limits: Limits,
    /// Asks for a file of the folder to be read again.
    reread: Box<dyn Fn(&str)>,
    /// A catalogue has arrived.
    ready: Cell<bool>,
    seats: Seats,
    downloads: Downloads,
    /// Who downloads from which snapshot.
    holders: RefCell<Holders<SeatId>>,
    repeats: RefCell<Repeats>,
    buckets: RefCell<Limiters>,
    /// Sooner or later there may be snapshots to give back.
    unswept: Notify,
    /// Where a socket is read into when nobody waits in between.
    scratch: RefCell<Vec<u8>>,
}

/// A connection's socket.
type Stream = Async<std::net::TcpStream>;

/// The longest wait for a file to be loaded. Whoever waits holds a connection, or has a question that
/// grows stale; the copy itself is finished all the same, for whoever asks next.
const LOAD: Duration = Duration::from_secs(30);

/// The longest wait for a download to have stood still for long enough (30 s, and up to 5 s until that is seen).
const ROOM: Duration = Duration::from_secs(40);

/// Who waits for room looks no more often than this.
const FIRST_RETRY: Duration = Duration::from_millis(100);

/// The most that is read at once, in bytes, where nothing else bounds it.
const SCRATCH: usize = 16 * 1024;

impl Service {
    /// Everything at its beginning: no catalogue yet, nobody connected. `secret` is the state's, behind
    /// the UDP ids; `reread` is called with the path of a file that does not have the bytes it should have (or is
    /// gone), and must not block.
    pub fn new(
        limits: Limits,
        snapshots: Snapshots,
        fleet: Rc<RefCell<Fleet>>,
        secret: &[u8; 32],
        reread: Box<dyn Fn(&str)>,
    ) -> Service {
        let memory = os::memory::total();
        let connections = limits.connections(os::process::raise_file_limit(), memory);
        // One byte more than a head may have, so that a full buffer means that it is too long.
        let scratch = limits.head_bytes.saturating_add(1).max(SCRATCH);
        Service {
            catalog: RefCell::default(),
            snapshots,
            fleet,
            ids: UpgradeIds::new(secret, limits.udp_roaming),
            reread,
            ready: Cell::new(false),
            seats: Seats::new(connections, limits.max_connections_per_address),
            buckets: RefCell::new(Limiters::new(
                limits.udp_checks_per_second,
                limits.udp_errors_per_second,
                limits.udp_gets_per_second,
                Instant::now(),
            )),
            holders: RefCell::new(Holders::new()),
            repeats: RefCell::default(),
            downloads: Downloads::new(&limits, memory),
            unswept: Notify::default(),
            scratch: RefCell::new(vec![0; scratch]),
            limits,
        }
    }

    /// From now on this is what there is. Drops the snapshots that nobody needs any more.
    pub fn replace_catalog(&self, catalog: Arc<Catalog>) {
        self.snapshots.sweep(&catalog);
        self.unswept.notify();
        if !catalog.is_unread() {
            // What is not known to be there is not gone.
            self.fleet.borrow_mut().catalog(&catalog, Instant::now());
        }
        *self.catalog.borrow_mut() = catalog;
        self.ids.forget();
        self.ready.set(true);
    }

    /// Waits until the snapshots are worth a sweep: something was loaded, or the folder has changed.
    pub async fn may_be_swept(&self) {
        self.unswept.notified().await;
    }

    /// Downloads that run now, over HTTP, UDP and TCP. One over UDP counts until no packet was asked
    /// for in a while.
    pub fn running_downloads(&self) -> usize {
        self.downloads.running()
    }

    /// Waits until no download runs.
    pub async fn downloads_done(&self) {
        self.downloads.all_ended().await;
    }

    /// Are there files that we have not read yet? Then what we do not know may still be right.
    fn still_reads(&self) -> bool {
        let catalog = self.catalog.borrow();
        !self.ready.get() || !catalog.waiting.is_empty() || !catalog.unread.is_empty()
    }

    /// Waits until no connection has a seat. After the signal to stop, those that download stay until
    /// they are done, and all others only for their last words.
    pub async fn connections_done(&self) {
        // The loops must have heard of the stop before there can be none.
        yield_now().await;
        self.seats.all_left().await;
    }

    /// What there is now, to be held over an await.
    fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.catalog.borrow())
    }

    /// The size in bytes of a content that we can still serve.
    fn size_of(&self, content: ContentId, catalog: &Catalog) -> Option<u64> {
        let loaded = self.snapshots.get(content).map(|snapshot| snapshot.size());
        loaded.or_else(|| catalog.sources(content).first().map(|source| source.size))
    }

    /// The bytes of a content, unless that takes longer than [`LOAD`]. Where there is no room, downloads that stand
    /// still make it.
    async fn load(&self, content: ContentId) -> Result<Arc<Snapshot>, LoadError> {
        loop {
            match self.load_as_it_is(content).await {
                Err(LoadError::Full(_)) if self.evict_still_ones().await => {}
                Err(LoadError::Full(why)) => {
                    log::warn!(target: "device", "no room for a snapshot: {why}");
                    return Err(LoadError::Full(why));
                }
                loaded => return loaded,
            }
        }
    }

    /// The same for who can wait: also until a download has stood still for long enough, within [`ROOM`].
    async fn load_patiently(&self, content: ContentId) -> Result<Arc<Snapshot>, LoadError> {
        let began = Instant::now();
        loop {
            let loaded = self.load(content).await;
            let soonest = self.holders.borrow().soonest(Instant::now());
            match (&loaded, soonest) {
                (Err(LoadError::Full(_)), Some(wait)) if began.elapsed() + wait < ROOM => {
                    Timer::after(wait.max(FIRST_RETRY)).await;
                }
                _ => return loaded,
            }
        }
    }

    /// Ends the downloads of the content that stands still for longest. False if there is none.
    async fn evict_still_ones(&self) -> bool {
        let found = self.holders.borrow().longest_still(Instant::now());
        let Some((silent, downloads)) = found else {
            return false;
        };
        log::warn!(
            target: "device",
            downloads = downloads.len(), silent = silent.as_secs();
            "downloads that stand still make room for another file (--snapshot-memory)"
        );
        for (number, seat) in downloads {
            self.seats.evict(seat);
            while self.holders.borrow().holds(number) {
                yield_now().await;
            }
        }
        true
    }

    async fn load_as_it_is(&self, content: ContentId) -> Result<Arc<Snapshot>, LoadError> {
        if let Some(snapshot) = self.snapshots.get(content) {
            return Ok(snapshot);
        }
        // Before: whoever waits for it may go.
        self.unswept.notify();
        let catalog = self.catalog();
        let sources = catalog.sources(content);
        // In a box: nearly every download finds it loaded, and need not hold the room for this.
        let loading = Box::pin(self.snapshots.load(content, sources));
        let loaded = within(LOAD, loading).await.unwrap_or_else(|| {
            let why = format!("it is not loaded after {} s", LOAD.as_secs());
            Err(LoadError::Full(why))
        });
        match &loaded {
            Ok(_) | Err(LoadError::Full(_)) => {}
            Err(LoadError::Unread(why)) => {
                log::warn!(target: "device", "the firmware folder cannot be read: {why}");
            }
            Err(LoadError::Gone(why)) => {
                log::warn!(target: "device", "a file of the catalogue cannot be read: {why}");
                // Not only looked at: its stamp may be the old one.
                for source in sources {
                    (self.reread)(&source.path);
                }
            }
        }
        match loaded {
            // Its medium may have gone since the folder was last scanned.
            Err(LoadError::Gone(why))
                if !sources.is_empty() || self.out_of_reach(&self.catalog()).is_some() =>
            {
                Err(LoadError::Unread(why))
            }
            loaded => loaded,
        }
    }

    /// The refusal of a content that the catalogue does not have, if it may only be out of reach for now. A module
    /// that hears anything else throws away what it has of it.
    fn out_of_reach(&self, catalog: &Catalog) -> Option<Refusal> {
        if !catalog.unread.is_empty() {
            return Some(Refusal::Unread);
        }
        self.still_reads().then_some(Refusal::Full)
    }

    /// A head or a datagram was no request.
    fn malformed(&self) {
        let tally = &mut self.fleet.borrow_mut().tally;
        tally.malformed = tally.malformed.wrapping_add(1);
    }
}

/// The future's output, or `None` if it takes longer. (Pinned where it is: handed over as a whole, it would be held
/// three times by every connection that waits.)
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
