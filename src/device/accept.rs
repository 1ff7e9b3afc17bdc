//! The accept loop of both TCP sockets.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::pin::pin;
use std::time::{Duration, Instant};

use super::{Service, Stop, within};
use crate::os;
use smol::Async;
use smol::future::yield_now;

/// Connections taken before other tasks run. The server polls several tasks before it looks at the sockets again
/// (`process::POLLS`), and a task that yields counts each time: in a flood of checks a packet waits for as many batches.
const BATCH: usize = 8;

/// Pause where a connection cannot be accepted, unless one ends before.
const PAUSE: Duration = Duration::from_millis(100);

/// Interval in which an error that lasts is logged.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Hands every connection to `serve_connection`, which must not wait, until the signal to stop.
pub(super) async fn accept(
    listener: TcpListener,
    service: &Service,
    stop: &Stop,
    mut serve_connection: impl FnMut(TcpStream, SocketAddr),
) {
    let listener = match Async::new_nonblocking(listener) {
        Ok(listener) => listener,
        Err(error) => {
            log::error!(target: "device", "a listener cannot be waited for: {error}");
            return;
        }
    };
    let mut logged: Option<Instant> = None;
    // One for all waits: each new one would be an allocation.
    let mut raised = pin!(stop.raised());
    loop {
        for _ in 0..BATCH {
            if stop.is_raised() {
                return;
            }
            match os::net::accept(listener.get_ref()) {
                Ok((stream, peer)) => serve_connection(stream, peer),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let ready = async { listener.readable().await.is_ok() };
                    let stopped = async {
                        // Not asked again: the loop ends.
                        raised.as_mut().await;
                        true
                    };
                    if !smol::future::or(ready, stopped).await {
                        within(PAUSE, pin!(service.seats.left())).await;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    // Out of files or memory. The connection stays in the queue, and asking again
                    // before another one has ended would only burn time.
                    if logged.is_none_or(|logged| logged.elapsed() >= LOG_INTERVAL) {
                        logged = Some(Instant::now());
                        log::error!(
                            target: "device",
                            "connections cannot be accepted: {error}; raise the limit of open files \
                             (LimitNOFILE, ulimit -n) if this lasts"
                        );
                    }
                    service.seats.evict_any();
                    within(PAUSE, pin!(service.seats.left())).await;
                }
            }
        }
        yield_now().await;
    }
}
