//! Work that may wait for a disk, on a thread of its own: the thread that serves modules must not.

use http_types::StatusCode;
use smol::channel::bounded;

use super::reply::Reply;
use crate::os::process::start_thread;

/// Does it elsewhere and waits for it. The error: there is no thread to be had.
pub async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Reply> {
    let (sender, receiver) = bounded(1);
    let run = move || {
        let _nobody_waits_any_more = sender.try_send(work());
    };
    let busy = || {
        Reply::problem(
            StatusCode::ServiceUnavailable,
            "the machine has no thread to spare: try again",
        )
    };
    start_thread("operator", Box::new(run)).map_err(|_| busy())?;
    receiver.recv().await.map_err(|_| busy())
}
