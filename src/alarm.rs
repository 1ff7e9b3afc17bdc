//! Something happened, once or more often, since somebody last waited for it: for one who waits on the serving
//! thread, from there or from any other thread.

use smol::channel::{Receiver, Sender, bounded};

/// Once rung, rung until somebody has heard it. Copies are the same one.
#[derive(Clone, Debug)]
pub struct Alarm {
    sender: Sender<()>,
    receiver: Receiver<()>,
}

impl Alarm {
    /// Rings. Never blocks.
    pub fn ring(&self) {
        let _rung_already = self.sender.try_send(());
    }

    /// Waits until it is rung, or hears that it was. One at a time hears it.
    pub async fn rung(&self) {
        let _never_closed = self.receiver.recv().await;
    }
}

impl Default for Alarm {
    fn default() -> Alarm {
        let (sender, receiver) = bounded(1);
        Alarm { sender, receiver }
    }
}
