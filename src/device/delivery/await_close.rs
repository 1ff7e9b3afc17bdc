//! The end of a download of which every byte was acknowledged. The acknowledgements come from the module's network
//! stack; that the module itself has read to the end shows only when it closes its side (docs/hazards.md 19).

use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::MAX_CLIENT_BYTES;
use crate::device::seats::Seat;
use crate::device::stream::{Discarded, discard};
use crate::device::{Service, Stop, Stream, within};
use crate::fleet::{Transfer, TransferOutcome};

/// Longest wait for the client's FIN after the last ACK.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(60);

/// Whether the error is a reset. Some modules end a complete download with a reset instead of a FIN.
pub(super) fn is_reset(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}

/// A download of which every byte was acknowledged. Ends the transfer when dropped.
pub(in crate::device) struct AwaitClose {
    pub service: Rc<Service>,
    pub transfer: Option<Transfer>,
    /// Whether the file's last byte was sent.
    pub sent_last_byte: bool,
    /// Whether the peer is a trusted proxy, so that the close is the proxy's.
    pub proxied: bool,
    /// Whether the client has closed its side.
    pub client_closed: bool,
}

impl AwaitClose {
    /// Waits for the client's close if it is evidence for the fleet, for at most [`CLOSE_TIMEOUT`] and not beyond the
    /// signal to stop. Returns whether the client has closed its side: then both sides have everything that was sent.
    pub async fn wait(&mut self, stream: &Stream, seat: &Seat, stop: &Stop) -> bool {
        let is_evidence = self.transfer.as_ref().is_some_and(Transfer::is_to_a_device);
        if self.client_closed || !self.sent_last_byte || !is_evidence {
            return self.client_closed;
        }
        // From now on the connection is evicted as readily as one with an unfinished head.
        seat.end_download();
        let closed = async {
            let mut received: u64 = 0;
            while received < MAX_CLIENT_BYTES {
                match discard(stream) {
                    Discarded::Bytes(read) => received += read,
                    Discarded::Early => {
                        if stream.readable().await.is_err() {
                            return false;
                        }
                    }
                    Discarded::End => return true,
                    Discarded::Failed(error) => return is_reset(&error),
                }
            }
            false
        };
        let stopped = async {
            stop.raised().await;
            // The close may have arrived at the same moment.
            matches!(discard(stream), Discarded::End)
        };
        let closed = within(CLOSE_TIMEOUT, pin!(smol::future::or(closed, stopped))).await;
        self.client_closed = closed.unwrap_or(false);
        self.client_closed
    }
}

impl Drop for AwaitClose {
    fn drop(&mut self) {
        if let Some(transfer) = self.transfer.take() {
            let outcome = match (self.sent_last_byte && self.client_closed, self.proxied) {
                (true, false) => TransferOutcome::Whole,
                (true, true) => TransferOutcome::Sent,
                (false, proxied) => TransferOutcome::Incomplete { proxied },
            };
            let mut fleet = self.service.fleet.borrow_mut();
            fleet.end(transfer, outcome, Instant::now());
        }
    }
}
