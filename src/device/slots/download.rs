//! The running downloads of the service, and the guard that holds what a download uses: its slot, its share of the
//! uplink and its send buffer.

use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use smol::channel::{Sender, bounded};
use smol::future::or;

use super::{SlotState, Slots, Ticket, pacing};
use crate::device::{Limits, Service, Stop, Stream, within};
use crate::fleet::network::Network;
use crate::os;
use crate::os::notify::Notify;

/// Longest time between two searches for slow downloads while a download waits.
const SEARCH: Duration = Duration::from_secs(1);

/// Maximum size of a large send buffer in bytes: the default maximum of the kernel (tcp_wmem).
const MAX_SEND_BUFFER: u64 = 4 << 20;

/// All downloads, over HTTP, UDP and TCP.
pub(in crate::device) struct Downloads {
    pub slots: RefCell<Slots<Sender<()>>>,
    running: Cell<usize>,
    /// Notified when the last running download has ended.
    last_ended: Notify,
    /// Total size of the large send buffers in bytes.
    pub buffer_bytes: Cell<u64>,
    /// Maximum of `buffer_bytes`.
    pub max_buffer_bytes: u64,
}

impl Downloads {
    /// Creates the state without downloads. `memory`: memory of the machine in bytes.
    pub fn new(limits: &Limits, memory: u64) -> Downloads {
        let slots = Slots::new(pacing::download_cap(limits), limits.download_wait);
        Downloads {
            slots: RefCell::new(slots),
            running: Cell::new(0),
            last_ended: Notify::default(),
            buffer_bytes: Cell::new(0),
            max_buffer_bytes: Limits::large_buffers(memory),
        }
    }

    /// Number of running downloads. A download by packets counts until no packet was requested for 15 s.
    pub fn running(&self) -> usize {
        self.running.get()
    }

    /// Waits until no download runs.
    pub async fn all_ended(&self) {
        while self.running() > 0 {
            self.last_ended.notified().await;
        }
    }

    /// Whether a download from byte 0 could begin now.
    pub fn has_room(&self, network: Network) -> bool {
        self.slots.borrow().has_room(network)
    }

    /// Number of slots held.
    #[cfg(test)]
    pub fn slots_held(&self) -> usize {
        self.slots.borrow().held()
    }

    /// Gives free slots to downloads that wait.
    pub fn assign(&self, now: Instant) {
        wake(self.slots.borrow_mut().assign(now));
    }
}

/// A download, which ends when this is dropped.
pub(in crate::device) struct Download {
    service: Rc<Service>,
    ticket: Ticket,
    /// Whether the download counts as running; otherwise it waits.
    is_running: bool,
    /// Pacing rate that was last set on the socket, in bytes per second.
    pacing_rate: Cell<Option<u64>>,
    /// Part of `Downloads::buffer_bytes` that the send buffer takes up, in bytes; 0 if the buffer is not large.
    buffer_bytes: Cell<u64>,
}

impl Download {
    /// Begins a download from byte 0, which may have to wait. `None` if that takes too long, or if the server stops.
    pub async fn begin(
        service: &Rc<Service>,
        network: Network,
        stop: &Stop,
        now: Instant,
    ) -> Option<Download> {
        let slots = &service.downloads.slots;
        let taken = slots.borrow_mut().take(network, now);
        if let Some(ticket) = taken {
            return Some(Download::new(service, ticket).start());
        }
        let (waker, woken) = bounded(1);
        let ticket = slots.borrow_mut().enqueue(network, now, waker);
        let download = Download::new(service, ticket);
        loop {
            let assigned = slots.borrow_mut().assign_if_due(Instant::now());
            wake(assigned);
            let state = slots.borrow().state(ticket, Instant::now());
            let left = match state {
                SlotState::Held => return Some(download.start()),
                SlotState::NoSlot => return None,
                SlotState::Queued(left) => left,
            };
            let assigned = async {
                let _never_closed = woken.recv().await;
                false
            };
            let stopped = async {
                stop.raised().await;
                true
            };
            if within(left.min(SEARCH), pin!(or(assigned, stopped))).await == Some(true) {
                return None;
            }
        }
    }

    /// Continues a download that has begun before.
    pub fn resume(service: &Rc<Service>, network: Network, now: Instant) -> Download {
        let mut slots = service.downloads.slots.borrow_mut();
        let ticket = slots.take(network, now);
        let ticket = ticket.unwrap_or_else(|| slots.take_uncapped(network, now));
        Download::new(service, ticket).start()
    }

    fn new(service: &Rc<Service>, ticket: Ticket) -> Download {
        Download {
            service: Rc::clone(service),
            ticket,
            is_running: false,
            pacing_rate: Cell::new(None),
            buffer_bytes: Cell::new(0),
        }
    }

    fn start(mut self) -> Download {
        let running = &self.service.downloads.running;
        running.set(running.get() + 1);
        self.is_running = true;
        self
    }

    /// Records the bytes that were acknowledged by now.
    pub fn acknowledged(&self, bytes: u64, now: Instant) {
        let mut slots = self.service.downloads.slots.borrow_mut();
        slots.acknowledged(self.ticket, bytes, now);
    }

    /// Sets the connection's pacing rate to its current share of the uplink. To be called at the beginning and at
    /// intervals.
    pub fn pace(&self, stream: &Stream) {
        let Some(uplink) = self.service.limits.uplink else {
            return;
        };
        let slots = self.service.downloads.slots.borrow();
        let has_slot = slots.state(self.ticket, Instant::now()) == SlotState::Held;
        let share = pacing::share(uplink, slots.held(), has_slot);
        if self.pacing_rate.replace(Some(share)) != Some(share) {
            // Kernels before 4.13 pace only with the packet scheduler fq, and not at all with others.
            let _optional = os::net::pace(stream.get_ref(), share);
        }
    }

    /// Makes the send buffer large enough for these bytes, if there is memory for it. Then the kernel accepts all of
    /// them at once and sends them by itself. The buffer may also grow: if the kernel does not allow the full size at
    /// once (wmem_max), it enlarges the buffer itself on a fast path.
    pub fn enlarge_send_buffer(&self, stream: &Stream, bytes: u64) {
        let downloads = &self.service.downloads;
        // Includes the overhead that the kernel counts.
        let size = bytes.saturating_add(bytes / 8).min(MAX_SEND_BUFFER);
        let total = downloads.buffer_bytes.get() + size;
        if self.buffer_bytes.get() == 0 && total <= downloads.max_buffer_bytes {
            self.buffer_bytes.set(size);
            downloads.buffer_bytes.set(total);
            let _optional = os::net::free_send_buffer(stream.get_ref(), size);
        }
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        let downloads = &self.service.downloads;
        let has_queue = {
            let mut slots = downloads.slots.borrow_mut();
            slots.leave(self.ticket);
            slots.has_queue()
        };
        if has_queue {
            downloads.assign(Instant::now());
        }
        let left = downloads.buffer_bytes.get() - self.buffer_bytes.get();
        downloads.buffer_bytes.set(left);
        if self.is_running {
            downloads.running.set(downloads.running() - 1);
            if downloads.running() == 0 {
                downloads.last_ended.notify();
            }
        }
    }
}

fn wake(assigned: Vec<Sender<()>>) {
    for waker in assigned {
        let _receiver_gone = waker.try_send(());
    }
}
