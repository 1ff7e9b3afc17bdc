//! A client's socket, as its connection and its download use it: sends short replies, reads what the client sends
//! unasked, and closes.
//!
//! Closing a socket that has unread bytes resets the connection, and the reset can destroy the last bytes of the reply
//! on their way. [`close`] avoids this.

use std::io::Read;
use std::net::Shutdown;
use std::pin::pin;
use std::time::Duration;

use super::{Service, Stream, within};
use crate::os;
use crate::os::net::is_retryable;
use crate::wire::head::Head;

/// Maximum number of bytes of a body that are read before the connection is closed in any case.
const LINGER_BYTES: u64 = 64 * 1024;

/// Longest time for which a body is read.
const LINGER_TIME: Duration = Duration::from_secs(5);

/// Time that the kernel keeps retransmitting unacknowledged data of a closed connection.
const CLOSED_USER_TIMEOUT: Duration = Duration::from_secs(60);

/// Bytes of a request after its head that were not read yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UnreadBody {
    /// No bytes.
    None,
    /// The given number of bytes.
    Bytes(u64),
    /// An unknown number of bytes.
    Unknown,
}

impl UnreadBody {
    /// The unread part of the body of a request. `beyond`: number of bytes that were read after the head.
    pub fn of(head: &Head<'_>, beyond: usize) -> UnreadBody {
        if head.header("transfer-encoding").is_some() {
            return UnreadBody::Unknown;
        }
        let Some(length) = head.header("content-length") else {
            return UnreadBody::None;
        };
        let length: Option<u64> = std::str::from_utf8(length)
            .ok()
            .and_then(|text| text.parse().ok());
        let read = u64::try_from(beyond).unwrap_or(u64::MAX);
        match length.map(|length| length.saturating_sub(read)) {
            Some(0) => UnreadBody::None,
            Some(left) => UnreadBody::Bytes(left),
            None => UnreadBody::Unknown,
        }
    }
}

/// Sends a short reply. Returns false if the client is gone or accepts nothing for the time of the stall limit.
pub(super) async fn send_all(service: &Service, stream: &Stream, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        match os::net::send(stream.get_ref(), bytes, &[], false) {
            Ok(0) => return false,
            Ok(sent) => bytes = bytes.get(sent..).unwrap_or_default(),
            Err(error) if is_retryable(&error) => {
                let writable = within(service.limits.stall_timeout, pin!(stream.writable())).await;
                if !matches!(writable, Some(Ok(()))) {
                    return false;
                }
            }
            Err(_) => return false,
        }
    }
    true
}

/// Ends a connection so that the client gets everything that was sent: sends the FIN and, if the client may still be
/// sending, reads that within bounds. The socket itself closes when it is dropped.
pub(super) async fn close(stream: &Stream, body: UnreadBody) {
    before_close(stream);
    let unread = os::net::unread(stream.get_ref()).unwrap_or(0);
    if body == UnreadBody::None && unread == 0 {
        return;
    }
    let _gone_already = stream.get_ref().shutdown(Shutdown::Write);
    read_body(stream, UnreadBody::Unknown).await;
}

/// Ends a connection without waiting. What was sent leaves together with the FIN. What has arrived is read first,
/// because closing with unread bytes would discard what a corked socket still holds.
pub(super) fn close_at_once(stream: &Stream) {
    before_close(stream);
    let _gone_already = stream.get_ref().shutdown(Shutdown::Write);
    let mut read = 0;
    while read < LINGER_BYTES
        && let Discarded::Bytes(bytes) = discard(stream)
    {
        read += bytes;
    }
}

/// Limits the time for which the kernel keeps what it still holds for a connection after our close (docs/hazards.md
/// 14). Must not be called while the download may continue: silence of this length is no reason to end it.
pub(super) fn before_close(stream: &Stream) {
    let _gone_already = os::net::user_timeout(stream.get_ref(), CLOSED_USER_TIMEOUT);
}

/// Reads and ignores what the client still sends, within bounds: the whole body if its length is known, otherwise until
/// the client closes its side.
pub(super) async fn read_body(stream: &Stream, body: UnreadBody) {
    let mut left = match body {
        UnreadBody::None => return,
        UnreadBody::Bytes(left) => left.min(LINGER_BYTES),
        UnreadBody::Unknown => LINGER_BYTES,
    };
    let reading = async {
        while left > 0 {
            match discard(stream) {
                Discarded::Bytes(read) => left = left.saturating_sub(read),
                Discarded::Early => {
                    if stream.readable().await.is_err() {
                        return;
                    }
                }
                Discarded::End | Discarded::Failed(_) => return,
            }
        }
    };
    within(LINGER_TIME, pin!(reading)).await;
}

/// Result of a read whose bytes are ignored.
pub(super) enum Discarded {
    Bytes(u64),
    Early,
    End,
    Failed(std::io::Error),
}

/// Reads once, and ignores the bytes that have arrived.
pub(super) fn discard(stream: &Stream) -> Discarded {
    let mut discarded = [0; 2048];
    match stream.get_ref().read(&mut discarded) {
        Ok(0) => Discarded::End,
        Ok(read) => Discarded::Bytes(read as u64),
        Err(error) if is_retryable(&error) => Discarded::Early,
        Err(error) => Discarded::Failed(error),
    }
}
