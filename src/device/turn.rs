//! A download's turn: waits for one of the [`slots`](super::slots), holds it, and shares the uplink among
//! those who hold one.
//!
//! The uplink is shared by the kernel (SO_MAX_PACING_RATE): each download may send at the uplink divided
//! by the number of slots that are held. Who goes on without a slot gets what everybody is sure of.

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use smol::channel::{Sender, bounded};
use smol::future::or;

use super::slots::{Place, Ticket};
use super::{Service, Stop, Stream, within};
use crate::fleet::network::Network;
use crate::os;

/// Bytes a second that each download is sure of: a module's timeout is for the whole of it
/// (docs/protocol.md 2c).
const SURE: u64 = 4096;

/// How often somebody who waits has those looked at who hold a slot.
const LOOK: Duration = Duration::from_secs(1);

/// How many downloads may run at once.
pub(super) fn most(limits: &super::Limits) -> usize {
    let by_uplink = limits.uplink.map_or(u64::MAX, |uplink| uplink / SURE);
    let by_uplink = usize::try_from(by_uplink).unwrap_or(usize::MAX);
    limits.max_downloads.min(by_uplink).max(1)
}

/// A place among the slots, or in the queue; given back on drop.
pub(super) struct Turn {
    service: Rc<Service>,
    ticket: Ticket,
    /// Bytes a second that the socket was told last.
    paced: Cell<Option<u64>>,
}

impl Turn {
    /// For a download from byte 0: waits in the queue. `None`: it took too long, or the server stops.
    pub async fn wait(
        service: &Rc<Service>,
        network: Network,
        stop: &Stop,
        now: Instant,
    ) -> Option<Turn> {
        let entered = service.slots.borrow_mut().enter(network, now);
        if let Some(ticket) = entered {
            return Some(Turn::of(service, ticket));
        }
        let (waker, woken) = bounded(1);
        let ticket = service.slots.borrow_mut().wait(network, now, waker);
        let turn = Turn::of(service, ticket);
        loop {
            let called = service.slots.borrow_mut().look(Instant::now());
            wake(called);
            let place = service.slots.borrow().place(ticket, Instant::now());
            let left = match place {
                Place::Holds => return Some(turn),
                Place::Nowhere => return None,
                Place::Waits(left) => left,
            };
            let called = async {
                let _my_turn = woken.recv().await;
                false
            };
            let stopped = async {
                stop.raised().await;
                true
            };
            if within(left.min(LOOK), pin!(or(called, stopped))).await == Some(true) {
                return None;
            }
        }
    }

    /// For a download that has begun.
    pub fn at_once(service: &Rc<Service>, network: Network, now: Instant) -> Turn {
        let mut slots = service.slots.borrow_mut();
        let ticket = slots.enter(network, now);
        let ticket = ticket.unwrap_or_else(|| slots.go_on(network, now));
        Turn::of(service, ticket)
    }

    fn of(service: &Rc<Service>, ticket: Ticket) -> Turn {
        Turn {
            service: Rc::clone(service),
            ticket,
            paced: Cell::new(None),
        }
    }

    /// So many bytes were acknowledged by now.
    pub fn acknowledged(&self, bytes: u64, now: Instant) {
        let mut slots = self.service.slots.borrow_mut();
        slots.acknowledged(self.ticket, bytes, now);
    }

    /// Gives the connection its share of the uplink as it is now. To be called at the beginning, and now
    /// and then.
    pub fn pace(&self, stream: &Stream) {
        let Some(uplink) = self.service.limits.uplink else {
            return;
        };
        let slots = self.service.slots.borrow();
        let held = u64::try_from(slots.held().max(1)).unwrap_or(u64::MAX);
        let share = match slots.place(self.ticket, Instant::now()) {
            Place::Holds => uplink.checked_div(held).unwrap_or(SURE).max(SURE),
            _ => SURE,
        };
        if self.paced.replace(Some(share)) != Some(share) {
            // Kernels before 4.13 do it only with the packet scheduler fq, others not at all.
            let _as_far_as_it_can = os::net::pace(stream.get_ref(), share);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut slots = self.service.slots.borrow_mut();
        slots.leave(self.ticket);
        if slots.is_waited_for() {
            wake(slots.call(Instant::now()));
        }
    }
}

fn wake(called: Vec<Sender<()>>) {
    for waker in called {
        let _gone_meanwhile = waker.try_send(());
    }
}

#[cfg(test)]
mod tests {
    use super::super::Limits;
    use super::*;

    #[test]
    fn the_uplink_bounds_the_downloads() {
        let with = |max_downloads, uplink| {
            most(&Limits {
                max_downloads,
                uplink,
                ..Limits::default()
            })
        };
        assert_eq!(with(4096, None), 4096);
        assert_eq!(with(4096, Some(1 << 20)), 256);
        assert_eq!(with(100, Some(1 << 20)), 100);
        assert_eq!(with(100, Some(1)), 1);
    }
}
