//! The accept loop of the HTTP listener and of the TCP listener.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::pin::pin;
use std::time::{Duration, Instant};

use super::{Service, Stop, within};
use crate::os;
use smol::Async;
use smol::future::yield_now;

/// Connections accepted before other tasks run. The server polls several tasks before it looks at the sockets again
/// (`process::POLLS`), and each time that this loop yields counts as one. So in a flood of checks a packet waits for
/// up to that number of batches.
const BATCH: usize = 8;

/// Pause after a connection could not be accepted, unless another connection ends earlier.
const PAUSE: Duration = Duration::from_millis(100);

/// Interval at which a persistent error is logged.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Passes every connection to `serve_connection`, which must not block, until the signal to stop.
pub(super) async fn accept(
    listener: TcpListener,
    service: &Service,
    stop: &Stop,
    mut serve_connection: impl FnMut(TcpStream, SocketAddr),
) {
    let listener = match Async::new_nonblocking(listener) {
        Ok(listener) => listener,
        Err(error) => {
            log::error!(target: "device", "cannot wait for connections: {error}");
            return;
        }
    };
    let mut logged: Option<Instant> = None;
    // One future for all waits: a new one for each wait would be an allocation.
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
                        // Never polled again after this: the loop ends.
                        raised.as_mut().await;
                        true
                    };
                    if !smol::future::or(ready, stopped).await {
                        within(PAUSE, pin!(service.seats.freed())).await;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    // The process is out of files or memory. The connection stays in the backlog, and another attempt
                    // before one has ended would only use CPU time.
                    if logged.is_none_or(|logged| logged.elapsed() >= LOG_INTERVAL) {
                        logged = Some(Instant::now());
                        log::error!(
                            target: "device",
                            "connections cannot be accepted: {error}; raise the limit of open files \
                             (LimitNOFILE, ulimit -n) if this lasts"
                        );
                    }
                    service.seats.evict_any();
                    within(PAUSE, pin!(service.seats.freed())).await;
                }
            }
        }
        yield_now().await;
    }
}
