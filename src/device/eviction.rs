//! How a connection hears that it had to make room for another one. Whatever it waits for, it waits for
//! this as well: its task is raced against it as a whole, so that no await can be forgotten.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Poll, Waker};

/// Raised at most once, for one connection; waited for by its task alone. A channel would do the same
/// with ten times the memory, and there is one for every connection.
#[derive(Debug, Default)]
pub(super) struct Eviction {
    raised: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Eviction {
    /// The connection has to go.
    pub fn raise(&self) {
        self.raised.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Waits until it has.
    pub async fn raised(&self) {
        poll_fn(|context| match self.raised.get() {
            true => Poll::Ready(()),
            false => {
                self.waker.replace(Some(context.waker().clone()));
                Poll::Pending
            }
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smol::future::{or, poll_once};
    use std::rc::Rc;

    #[test]
    fn a_task_that_waits_for_something_else_hears_of_it() {
        let eviction = Rc::new(Eviction::default());
        let executor = smol::LocalExecutor::new();
        let mut task = executor.spawn({
            let eviction = Rc::clone(&eviction);
            async move { or(eviction.raised(), smol::future::pending()).await }
        });
        smol::block_on(executor.run(async {
            smol::future::yield_now().await;
            assert!(poll_once(&mut task).await.is_none());
            eviction.raise();
            task.await;
        }));
    }
}
