//! What one thread tells another. Used between the watcher, the thread that reads for it, and whoever
//! tells the watcher something.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A queue without a bound: sending never waits.
pub(super) struct Queue<T> {
    inside: Mutex<Inside<T>>,
    woken: Condvar,
}

struct Inside<T> {
    waiting: Vec<T>,
    closed: bool,
}

impl<T> Queue<T> {
    pub(super) fn new() -> Queue<T> {
        Queue {
            inside: Mutex::new(Inside {
                waiting: Vec::new(),
                closed: false,
            }),
            woken: Condvar::new(),
        }
    }

    pub(super) fn send(&self, message: T) {
        self.lock().waiting.push(message);
        self.woken.notify_one();
    }

    /// Nothing more will be sent: nobody waits for it.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.woken.notify_all();
    }

    /// All that was sent, in this order. Waits so long for something; empty if nothing came, or if the
    /// queue is closed.
    pub(super) fn take(&self, patience: Duration) -> Vec<T> {
        let is_quiet = |inside: &mut Inside<T>| inside.waiting.is_empty() && !inside.closed;
        let (mut inside, _) = self
            .woken
            .wait_timeout_while(self.lock(), patience, is_quiet)
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut inside.waiting)
    }

    #[cfg(test)]
    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    fn lock(&self) -> MutexGuard<'_, Inside<T>> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
