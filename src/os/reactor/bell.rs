//! How other threads wake one that sleeps in epoll_wait, and how its own tasks keep it from falling asleep.
//!
//! One word says how the thread stands, so that a ring can never fall between its last look and its sleep: who
//! rings an awake thread leaves a mark that keeps it awake, who rings a sleeping one writes to the eventfd.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Wake;

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

/// The thread runs, and was not rung for since it last began to.
const AWAKE: u32 = 0;
/// It was rung for.
const RUNG: u32 = 1;
/// It is in epoll_wait, or on its way there.
const ASLEEP: u32 = 2;

/// One thread's bell.
pub(super) struct Bell {
    state: AtomicU32,
    event: OwnedFd,
}

impl Bell {
    pub fn new() -> Result<Bell, Errno> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Bell {
            state: AtomicU32::new(AWAKE),
            event,
        })
    }

    /// May the thread sleep? If so it counts as asleep from now on, until [`Bell::wake_up`].
    pub fn fall_asleep(&self) -> bool {
        self.state
            .compare_exchange(AWAKE, ASLEEP, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// The thread is awake, and will look at everything that it was rung for before now.
    pub fn wake_up(&self) {
        self.state.swap(AWAKE, Ordering::AcqRel);
    }

    fn ring(&self) {
        if self.state.swap(RUNG, Ordering::AcqRel) == ASLEEP {
            // It fails only if the counter is full: then the sleeper has an event already.
            let _full = rustix::io::write(&self.event, &1_u64.to_ne_bytes());
        }
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}
