//! A heap of moments and who waits for them.
//!
//! Most timers never fire: a wait ends before its time. So one that is dropped leaves the heap at once, for
//! which each knows its place in it.

use std::marker::PhantomData;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::Reactor;

/// A thread's timers.
#[derive(Default)]
pub(super) struct Timers {
    /// Moments and whose they are (indexes of `slots`), as a binary heap: none is earlier than the one above
    /// it, at half its place.
    heap: Vec<(Instant, usize)>,
    slots: Vec<Slot>,
    /// Indexes of `slots` that nobody uses.
    free: Vec<usize>,
}

struct Slot {
    /// `None`: it has fired, or nobody uses the slot.
    waker: Option<Waker>,
    /// Where it is in the heap, while it has not fired.
    place: usize,
}

impl Timers {
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// The time until the first; `None` without one.
    pub fn left(&self, now: impl FnOnce() -> Instant) -> Option<Duration> {
        let (moment, _) = self.heap.first()?;
        Some(moment.saturating_duration_since(now()))
    }

    /// Takes out one whose moment has come.
    pub fn due(&mut self, now: Instant) -> Option<Waker> {
        let (moment, slot) = *self.heap.first()?;
        if moment > now {
            return None;
        }
        self.leave_heap(0);
        self.slots.get_mut(slot).and_then(|slot| slot.waker.take())
    }

    pub fn add(&mut self, moment: Instant, waker: Waker) -> usize {
        let place = self.heap.len();
        let new = Slot {
            waker: Some(waker),
            place,
        };
        let slot = self.free.pop().unwrap_or(self.slots.len());
        match self.slots.get_mut(slot) {
            Some(free) => *free = new,
            None => self.slots.push(new),
        }
        self.heap.push((moment, slot));
        self.rise(place);
        slot
    }

    /// Takes one out, fired or not. Its waker is for the caller to drop, when nothing is borrowed.
    pub fn remove(&mut self, slot: usize) -> Option<Waker> {
        let left = self.slots.get_mut(slot)?;
        let (place, waker) = (left.place, left.waker.take());
        if waker.is_some() {
            self.leave_heap(place);
        }
        self.free.push(slot);
        waker
    }

    fn leave_heap(&mut self, place: usize) {
        let Some(last) = self.heap.len().checked_sub(1) else {
            return;
        };
        self.swap(place, last);
        self.heap.pop();
        self.rise(place);
        self.sink(place);
    }

    fn swap(&mut self, one: usize, other: usize) {
        if one.max(other) >= self.heap.len() {
            return;
        }
        self.heap.swap(one, other);
        for place in [one, other] {
            let slot = self.heap.get(place).map(|(_, slot)| *slot);
            if let Some(slot) = slot.and_then(|slot| self.slots.get_mut(slot)) {
                slot.place = place;
            }
        }
    }

    /// Is the first place's moment before the second's?
    fn earlier(&self, one: usize, other: usize) -> bool {
        match (self.heap.get(one), self.heap.get(other)) {
            (Some((one, _)), Some((other, _))) => one < other,
            _ => false,
        }
    }

    fn rise(&mut self, mut place: usize) {
        while let Some(above) = place.checked_sub(1).map(|place| place / 2)
            && self.earlier(place, above)
        {
            self.swap(place, above);
            place = above;
        }
    }

    fn sink(&mut self, mut place: usize) {
        loop {
            let left = place.saturating_mul(2).saturating_add(1);
            let right = left.saturating_add(1);
            let below = if self.earlier(right, left) {
                right
            } else {
                left
            };
            if !self.earlier(below, place) {
                return;
            }
            self.swap(place, below);
            place = below;
        }
    }
}

/// A future that is ready once its moment has come. Costs nothing until it is polled.
pub struct Timer {
    /// `None`: never.
    moment: Option<Instant>,
    /// Where it is among the thread's timers.
    slot: Option<usize>,
    /// It stays on the thread.
    here: PhantomData<Rc<()>>,
}

impl Timer {
    /// Ready after this time.
    pub fn after(time: Duration) -> Timer {
        Timer {
            // So far away that it cannot be said: never.
            moment: Instant::now().checked_add(time),
            slot: None,
            here: PhantomData,
        }
    }

    /// Ready at this moment.
    pub fn at(moment: Instant) -> Timer {
        Timer {
            moment: Some(moment),
            slot: None,
            here: PhantomData,
        }
    }

    /// Never ready, until it is set.
    pub fn never() -> Timer {
        Timer {
            moment: None,
            slot: None,
            here: PhantomData,
        }
    }

    /// Ready after this time instead.
    pub fn set_after(&mut self, time: Duration) {
        self.leave();
        self.moment = Instant::now().checked_add(time);
    }

    fn leave(&mut self) {
        let Some(slot) = self.slot.take() else {
            return;
        };
        if let Ok(reactor) = Reactor::here() {
            let waker = reactor.timers.borrow_mut().remove(slot);
            drop(waker);
        }
    }
}

impl Future for Timer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let (Some(moment), Ok(reactor)) = (self.moment, Reactor::here()) else {
            return Poll::Pending;
        };
        let mut timers = reactor.timers.borrow_mut();
        let Some(slot) = self.slot else {
            // Is it due already? The next wait sees that, without another look at the clock.
            self.slot = Some(timers.add(moment, context.waker().clone()));
            return Poll::Pending;
        };
        match timers.slots.get_mut(slot).map(|slot| &mut slot.waker) {
            Some(Some(waker)) => {
                let before = (!waker.will_wake(context.waker()))
                    .then(|| std::mem::replace(waker, context.waker().clone()));
                drop(timers);
                // Not while they are borrowed: it may have been a task's last.
                drop(before);
                Poll::Pending
            }
            _ => {
                drop(timers);
                self.leave();
                Poll::Ready(())
            }
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
impl Timers {
    /// It has not fired.
    pub fn waits(&self, slot: usize) -> bool {
        self.slots
            .get(slot)
            .is_some_and(|slot| slot.waker.is_some())
    }

    /// Every one is where it says, and none before the one above it.
    pub fn check(&self) {
        for (place, (_, slot)) in self.heap.iter().enumerate() {
            assert_eq!(self.slots.get(*slot).map(|slot| slot.place), Some(place));
            let above = place.saturating_sub(1) / 2;
            assert!(!self.earlier(place, above));
        }
        let free = self.slots.len().saturating_sub(self.free.len());
        assert!(self.heap.len() <= free);
    }
}
