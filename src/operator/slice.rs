//! Slices of a request's long work, between which the same thread serves the devices.

use std::time::{Duration, Instant};

use smol::future::yield_now;

use crate::os::process::POLLS;

/// Length of a slice, after which other tasks run.
const SLICE: Duration = Duration::from_micros(500);

/// Number of device slots that a walk visits between two reads of the clock: about a tenth of a millisecond of work.
pub const SLOTS: u32 = 2048;

/// A slice of work that has started.
pub struct Slice {
    began: Instant,
}

impl Slice {
    /// Begins the first slice.
    pub fn begin() -> Slice {
        Slice {
            began: Instant::now(),
        }
    }

    /// Ends the slice if its time has passed, and begins the next one when the checks that arrived meanwhile were
    /// served. Must be called at least every tenth of a millisecond, and never while something is borrowed.
    pub async fn pause_if_over(&mut self) {
        if self.began.elapsed() < SLICE {
            return;
        }
        // A task that yields only once is polled again before the sockets are polled. The last yield runs the tasks
        // that the poll of the sockets has woken.
        for _ in 0..=POLLS {
            yield_now().await;
        }
        self.began = Instant::now();
    }
}
