//! Work that may wait for a disk, on separate threads.

use super::response::{ApiResult, Response};
use crate::os::process;

/// Runs `work` on a separate thread and waits for the result, so that the thread that serves devices never waits for a
/// disk. Fails if no thread can be started.
pub async fn unblock<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> ApiResult<T> {
    let result = process::unblock("operator", work).await;
    result.map_err(|_| no_thread())
}

/// Starts a thread. Fails if the machine has no thread left.
pub fn start_thread(name: &str, run: impl FnOnce() + Send + 'static) -> ApiResult<()> {
    process::start_thread(name, Box::new(run)).map_err(|_| no_thread())
}

fn no_thread() -> Response {
    Response::unavailable("no thread is available: try again")
}
