//! A notification for a task of the serving thread, from that thread or any other.

use smol::channel::{Receiver, Sender, bounded};

/// One notification at most: those that nobody has waited for yet are one. Clones share it.
#[derive(Clone, Debug)]
pub struct Notify {
    sender: Sender<()>,
    receiver: Receiver<()>,
}

impl Notify {
    /// Notifies one that waits, or the next that will. Never blocks.
    pub fn notify(&self) {
        let _notified_already = self.sender.try_send(());
    }

    /// Waits for a notification and takes it.
    pub async fn notified(&self) {
        let _never_closed = self.receiver.recv().await;
    }
}

impl Default for Notify {
    fn default() -> Notify {
        let (sender, receiver) = bounded(1);
        Notify { sender, receiver }
    }
}
