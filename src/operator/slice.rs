//! Long work of requests, in slices: the thread that does it also serves the devices.

use std::time::{Duration, Instant};

use smol::future::yield_now;

use crate::os::process::POLLS;

/// Time after which other tasks run.
const SLICE: Duration = Duration::from_micros(500);

/// Slots of devices that a walk looks at between two looks at the clock: about a tenth of a millisecond.
pub const SLOTS: u32 = 2048;

/// A slice of work that has begun.
pub struct Slice {
    began: Instant,
}

impl Slice {
    /// Begins the first one.
    pub fn begin() -> Slice {
        Slice {
            began: Instant::now(),
        }
    }

    /// Ends the slice if its time has passed, and begins the next one when the devices that asked meanwhile were served.
    /// To be called at least every tenth of a millisecond, and never while something is borrowed.
    pub async fn pause_if_over(&mut self) {
        if self.began.elapsed() < SLICE {
            return;
        }
        // A task that yields once is polled again before the sockets are looked at. The last time lets those run that the
        // look has woken.
        for _ in 0..=POLLS {
            yield_now().await;
        }
        self.began = Instant::now();
    }
}
