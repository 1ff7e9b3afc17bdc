//! The seats of the service, and the guard that holds one for a connection.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use smol::{LocalExecutor, Task};

use super::{SeatId, SeatTable};
use crate::device::Service;
use crate::os::notify::Notify;

/// The seats of the service. When a connection loses its seat, its task ends at whatever point it waits.
pub(in crate::device) struct Seats {
    table: RefCell<SeatTable<Option<Task<()>>>>,
    /// Notified when a seat is freed.
    freed: Notify,
    /// Notified when the last seat is freed.
    empty: Notify,
    /// Connections refused since the last warning.
    refused: Cell<u32>,
    /// Time of the last warning.
    last_warning: Cell<Option<Instant>>,
}

impl Seats {
    /// Creates free seats: `max` in all, `max_per_address` for one address.
    pub fn new(max: usize, max_per_address: usize) -> Seats {
        Seats {
            table: RefCell::new(SeatTable::new(max, max_per_address)),
            freed: Notify::default(),
            empty: Notify::default(),
            refused: Cell::new(0),
            last_warning: Cell::new(None),
        }
    }

    /// Number of seats taken.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.table.borrow().len()
    }

    /// Whether no seat is taken.
    pub fn is_empty(&self) -> bool {
        self.table.borrow().is_empty()
    }

    /// Ends a connection, unless it has ended already.
    pub fn evict(&self, id: SeatId) {
        let evicted = self.table.borrow_mut().remove(id);
        drop(evicted);
    }

    /// Evicts a connection for one that cannot be accepted, because file descriptors ran out before the cap was
    /// reached.
    pub fn evict_any(&self) {
        let evicted = self.table.borrow_mut().evict_any(Instant::now());
        drop(evicted);
    }

    /// Waits until a seat is freed.
    pub async fn freed(&self) {
        self.freed.notified().await;
    }

    /// Waits until no seat is taken.
    pub async fn all_freed(&self) {
        while !self.is_empty() {
            self.empty.notified().await;
        }
    }

    /// Counts a connection that was refused. Logs a warning once a minute.
    fn record_refused(&self) {
        self.refused.set(self.refused.get().saturating_add(1));
        let recent = |at: Instant| at.elapsed() < Duration::from_secs(60);
        if !self.last_warning.get().is_some_and(recent) {
            self.last_warning.set(Some(Instant::now()));
            log::warn!(
                target: "device",
                connections = self.refused.take();
                "a limit of connections is reached, in total or for one address \
                 (--max-connections, --max-connections-per-address)"
            );
        }
    }
}

/// A connection's seat, freed on drop.
pub(in crate::device) struct Seat {
    service: Rc<Service>,
    id: SeatId,
}

impl Seat {
    /// Takes a seat for a connection that has to wait; `None` if it is refused. Another connection may be evicted for
    /// it.
    pub fn take(service: &Rc<Service>, peer: SocketAddr) -> Option<Seat> {
        let (address, now) = (peer.ip(), Instant::now());
        let shared = service.limits.trusts(address);
        let taken = service
            .seats
            .table
            .borrow_mut()
            .take(address, shared, now, None);
        let Some((id, evicted)) = taken else {
            service.seats.record_refused();
            let tally = &mut service.fleet.borrow_mut().tally;
            tally.turned_away = tally.turned_away.wrapping_add(1);
            return None;
        };
        drop(evicted);
        Some(Seat {
            service: Rc::clone(service),
            id,
        })
    }

    /// Runs the connection's task, which holds the seat, until it ends or the seat is given to another connection.
    pub fn run<F: Future<Output = ()> + 'static>(
        self,
        executor: &LocalExecutor<'static>,
        task: impl FnOnce(Seat) -> F,
    ) {
        let (id, service) = (self.id, Rc::clone(&self.service));
        let task = executor.spawn(task(self));
        let before = service.seats.table.borrow_mut().set_handle(id, Some(task));
        drop(before);
    }

    /// The seat's id.
    pub fn id(&self) -> SeatId {
        self.id
    }

    /// Whether the connection still has its seat; false once it was evicted.
    pub fn is_held(&self) -> bool {
        self.service.seats.table.borrow().contains(self.id)
    }

    /// Records that bytes are sent from now on.
    pub fn begin_download(&self, now: Instant) {
        let mut table = self.service.seats.table.borrow_mut();
        table.begin_download(self.id, now);
    }

    /// Records the bytes that were acknowledged since the download began.
    pub fn acknowledged(&self, bytes: u64) {
        let mut table = self.service.seats.table.borrow_mut();
        table.acknowledged(self.id, bytes);
    }

    /// Records that the connection waits: it is evicted as readily as one with an unfinished head.
    pub fn end_download(&self) {
        self.service.seats.table.borrow_mut().end_download(self.id);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let seats = &self.service.seats;
        let task = seats.table.borrow_mut().remove(self.id);
        // Dropped outside of the borrow. Usually this runs within the task itself, which is ending.
        drop(task);
        seats.freed.notify();
        if seats.is_empty() {
            seats.empty.notify();
        }
    }
}
