//! The journal: what must outlive the process, as JSON lines in the state folder, written by a thread of
//! its own.

use smol::channel::{Receiver, Sender, bounded};

use super::entry::Entry;

/// The way to the journal's thread. Without a state folder everything here does nothing.
#[derive(Debug, Default)]
pub struct Journal {}

impl Journal {
    /// No journal: nothing outlives the process.
    pub fn none() -> Journal {
        Journal {}
    }

    /// To be written in a batch, within 5 s.
    pub fn later(&mut self, _entry: &Entry) {}

    /// To be written at once. The answer tells when it is.
    pub fn now(&mut self, _entry: &Entry) -> Written {
        Written::already()
    }
}

/// Tells when an entry has been handed to the file system.
#[derive(Debug)]
pub struct Written {
    receiver: Option<Receiver<()>>,
}

impl Written {
    /// Nothing to wait for.
    pub fn already() -> Written {
        Written { receiver: None }
    }

    /// One that is still to come: it has when something is sent, or the sender is dropped.
    pub fn promise() -> (Sender<()>, Written) {
        let (sender, receiver) = bounded(1);
        (
            sender,
            Written {
                receiver: Some(receiver),
            },
        )
    }

    /// Waits for it. Returns as well if it could not be written: that costs history, never service.
    pub async fn wait(self) {
        if let Some(receiver) = self.receiver {
            let _written_or_given_up = receiver.recv().await;
        }
    }
}
