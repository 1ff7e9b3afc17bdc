//! The PUBLIC sockets that modules talk to: HTTP ([`http`]), UDP ([`udp`]) and TCP ([`tcp`]). Started by
//! the server room; everything runs on one thread, so nothing here is locked.
//!
//! A check takes the same way whatever it arrives by: [`asked`] decides and writes its line in the log.
//! What goes out in answer is planned in [`answer`] (HTTP) and [`message`] (UDP, TCP), which touch no
//! socket, and sent by the loops. Every byte of firmware comes out of a snapshot; every connection that
//! could not be answered in line has a seat in [`admission`].

mod accept;
pub mod admission;
mod answer;
mod asked;
pub mod buckets;
mod client;
mod connection;
mod delivery;
mod eviction;
pub mod http;
mod libfota3;
mod limits;
mod lines;
mod message;
mod packets;
mod pressure;
mod ranking;
mod repeats;
mod silence;
mod slots;
mod stop;
mod stream;
pub mod tcp;
mod turn;
pub mod udp;
pub mod upgrade_id;
mod weeks;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use smol::channel::Sender;

use self::admission::{Admission, SeatId};
use self::buckets::Limiters;
use self::eviction::Eviction;
pub use self::limits::{Cidr, Limits};
use self::pressure::Holders;
use self::repeats::Repeats;
use self::slots::Slots;
pub use self::stop::Stop;
use self::turn::Turn;
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
    admission: RefCell<Admission<Rc<Eviction>>>,
    turned_away: TurnedAway,
    slots: RefCell<Slots<Sender<()>>>,
    /// Who downloads from which snapshot.
    holders: RefCell<Holders<SeatId>>,
    repeats: RefCell<Repeats>,
    buckets: RefCell<Limiters>,
    running: Running,
    /// Sooner or later there may be snapshots to give back.
    unswept: Notify,
    /// Somebody left a seat.
    left: Notify,
    /// Somebody left the last one.
    empty: Notify,
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

/// The largest send buffer, in bytes: what the kernel leaves it at (tcp_wmem).
const WIDEST: u64 = 4 << 20;

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
            admission: RefCell::new(Admission::new(
                connections,
                limits.max_connections_per_address,
            )),
            buckets: RefCell::new(Limiters::new(
                limits.udp_checks_per_second,
                limits.udp_errors_per_second,
                limits.udp_gets_per_second,
                Instant::now(),
            )),
            turned_away: TurnedAway::default(),
            holders: RefCell::new(Holders::new()),
            repeats: RefCell::default(),
            slots: RefCell::new(Slots::new(turn::most(&limits), limits.download_wait)),
            running: Running {
                most_wide: Limits::wide_buffers(memory),
                ..Running::default()
            },
            unswept: Notify::default(),
            left: Notify::default(),
            empty: Notify::default(),
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
        self.running.count.get()
    }

    /// Waits until no download runs.
    pub async fn downloads_done(&self) {
        while self.running_downloads() > 0 {
            self.running.none.notified().await;
        }
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
        while !self.admission.borrow().is_empty() {
            self.empty.notified().await;
        }
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
            let dropped = self.admission.borrow_mut().evict(seat);
            if let Some(dropped) = dropped {
                dropped.raise();
            }
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

    /// A seat for a connection that has to wait; `None` if there is no room.
    fn seat(self: &Rc<Self>, peer: SocketAddr) -> Option<Seat> {
        let eviction = Rc::new(Eviction::default());
        let admitted = self.admission.borrow_mut().enter(
            peer.ip(),
            self.limits.trusts(peer.ip()),
            Instant::now(),
            Rc::clone(&eviction),
        );
        let Some(admitted) = admitted else {
            self.turned_away.count();
            let tally = &mut self.fleet.borrow_mut().tally;
            tally.turned_away = tally.turned_away.wrapping_add(1);
            return None;
        };
        if let Some(dropped) = admitted.dropped {
            dropped.raise();
        }
        Some(Seat {
            service: Rc::clone(self),
            id: admitted.seat,
            eviction,
        })
    }

    /// Files ran out before the cap was reached: somebody has to go, as at the cap.
    fn make_room(&self) {
        let dropped = self.admission.borrow_mut().drop_one(Instant::now());
        if let Some(dropped) = dropped {
            dropped.raise();
        }
    }

    /// A head or a datagram was no request.
    fn malformed(&self) {
        let tally = &mut self.fleet.borrow_mut().tally;
        tally.malformed = tally.malformed.wrapping_add(1);
    }

    fn download_begins(self: &Rc<Self>, turn: Turn) -> Download {
        let count = &self.running.count;
        count.set(count.get().saturating_add(1));
        Download {
            service: Rc::clone(self),
            turn,
            wide: Cell::new(0),
        }
    }
}

/// Connections that found no room.
#[derive(Default)]
struct TurnedAway {
    count: Cell<u32>,
    /// When they last were in the log.
    said: Cell<Option<Instant>>,
}

impl TurnedAway {
    /// One more; in the log once a minute.
    fn count(&self) {
        self.count.set(self.count.get().saturating_add(1));
        let recent = |said: Instant| said.elapsed() < Duration::from_secs(60);
        if !self.said.get().is_some_and(recent) {
            self.said.set(Some(Instant::now()));
            log::warn!(
                target: "device",
                connections = self.count.take();
                "no room for connections: every one there is, or every one of an address, is taken \
                 (--max-connections, --max-connections-per-address)"
            );
        }
    }
}

/// A place among the connections, given back on drop.
struct Seat {
    service: Rc<Service>,
    id: SeatId,
    eviction: Rc<Eviction>,
}

impl Seat {
    /// Still ours? Else the connection had to make room for another one.
    fn is_held(&self) -> bool {
        self.service.admission.borrow().holds(self.id)
    }

    /// To race the connection's task against, as a whole.
    fn eviction(&self) -> Rc<Eviction> {
        Rc::clone(&self.eviction)
    }

    fn downloads(&self, now: Instant) {
        let mut admission = self.service.admission.borrow_mut();
        admission.downloads(self.id, now);
    }

    fn acknowledged(&self, bytes: u64) {
        let mut admission = self.service.admission.borrow_mut();
        admission.acknowledged(self.id, bytes);
    }

    fn waits(&self) {
        self.service.admission.borrow_mut().waits(self.id);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut admission = self.service.admission.borrow_mut();
        admission.leave(self.id);
        self.service.left.notify();
        if admission.is_empty() {
            self.service.empty.notify();
        }
    }
}

/// Counts as a running download until it is dropped.
struct Download {
    service: Rc<Service>,
    turn: Turn,
    /// What its send buffer may take beyond that of every connection, in bytes.
    wide: Cell<u64>,
}

impl Download {
    /// Makes the send buffer large enough for these bytes, if there is memory for it: then all of them go to the
    /// kernel at once, and it goes on by itself. It may grow, too: where the kernel does not let us have as much at
    /// once (wmem_max), it does so itself on a fast way.
    fn widen(&self, stream: &Stream, bytes: u64) {
        let running = &self.service.running;
        // With what the kernel counts beside the bytes.
        let room = bytes.saturating_add(bytes / 8).min(WIDEST);
        let wide = running.wide.get().saturating_add(room);
        if self.wide.get() == 0 && wide <= running.most_wide {
            self.wide.set(room);
            running.wide.set(wide);
            let _as_far_as_it_can = os::net::free_send_buffer(stream.get_ref(), room);
        }
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        let running = &self.service.running;
        let wide = running.wide.get().saturating_sub(self.wide.get());
        running.wide.set(wide);
        running.count.set(running.count.get().saturating_sub(1));
        if running.count.get() == 0 {
            running.none.notify();
        }
    }
}

#[derive(Default)]
struct Running {
    count: Cell<usize>,
    /// Bytes of large send buffers, and the most there may be.
    wide: Cell<u64>,
    most_wide: u64,
    none: Notify,
}

/// The time, Unix seconds UTC.
fn unix_now() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        Err(before) => {
            i64::try_from(before.duration().as_secs()).map_or(i64::MIN, |seconds| -seconds)
        }
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
