//! The signal to stop. The server raises it; each loop of the public sockets waits for it as well as for its socket.

use std::convert::Infallible;

use smol::channel::{Receiver, Sender, bounded};

/// A signal that is raised once, is seen by all clones, and stays raised.
#[derive(Clone, Debug)]
pub struct Stop {
    /// Never used to send: closing the channel is the signal.
    sender: Sender<Infallible>,
    receiver: Receiver<Infallible>,
}

impl Stop {
    /// Creates a signal that is not raised.
    pub fn new() -> Stop {
        let (sender, receiver) = bounded(1);
        Stop { sender, receiver }
    }

    /// Raises the signal. Listeners stop accepting and idle connections close; running downloads continue.
    pub fn raise(&self) {
        self.sender.close();
    }

    /// Whether the signal was raised.
    pub fn is_raised(&self) -> bool {
        self.sender.is_closed()
    }

    /// Waits until the signal is raised.
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
    fn every_clone_sees_the_signal() {
        let stop = Stop::new();
        let clone = stop.clone();
        assert!(!clone.is_raised());
        stop.raise();
        assert!(clone.is_raised());
        smol::block_on(clone.raised());
    }
}
