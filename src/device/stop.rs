//! The signal to stop. The server raises it; each loop of this room waits for it beside its socket.

use std::convert::Infallible;

use smol::channel::{Receiver, Sender, bounded};

/// Raised once, seen by all clones, for good.
#[derive(Clone, Debug)]
pub struct Stop {
    /// Nothing is ever sent: closing the channel is the signal.
    sender: Sender<Infallible>,
    receiver: Receiver<Infallible>,
}

impl Stop {
    /// Not raised yet.
    pub fn new() -> Stop {
        let (sender, receiver) = bounded(1);
        Stop { sender, receiver }
    }

    /// Listeners stop accepting and idle connections close; running downloads go on.
    pub fn raise(&self) {
        self.sender.close();
    }

    /// Was it raised?
    pub fn is_raised(&self) -> bool {
        self.sender.is_closed()
    }

    /// Waits until it is raised.
    pub async fn raised(&self) {
        let _closed = self.receiver.recv().await;
    }
}

impl Default for Stop {
    fn default() -> Stop {
        Stop::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_clone_hears_of_it() {
        let stop = Stop::new();
        let clone = stop.clone();
        assert!(!clone.is_raised());
        stop.raise();
        assert!(clone.is_raised());
        smol::block_on(clone.raised());
    }
}
