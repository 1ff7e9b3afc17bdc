//! A notification for a task of the serving thread, from that thread or any other.

use smol::channel::{Receiver, Sender, bounded};

/// A coalescing notification: several notifications count as one until a task has waited for them. Clones share it.
#[derive(Clone, Debug)]
pub struct Notify {
    sender: Sender<()>,
    receiver: Receiver<()>,
}

impl Notify {
    /// Notifies one waiting task, or the next that waits. Never blocks.
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
