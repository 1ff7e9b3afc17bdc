//! The body of a request, read in pieces, with a bound on its length and on every wait.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::time::Duration;

use smol::Async;
use smol::future::or;

use super::codec::StatusCode;
use super::head::RequestHead;
use super::response::{ApiResult, Response};
use super::stream::{receive, send, timeout};

/// Time-out for a body of which no byte arrives. A short body (JSON) must be complete within this time.
const STALL: Duration = Duration::from_secs(30);

/// Maximum number of bytes that are read at once.
const PIECE: u64 = 64 * 1024;

/// A body that is being received.
pub struct RequestBody<'c> {
    stream: &'c Async<TcpStream>,
    /// Bytes of the body that arrived with the head.
    early: Vec<u8>,
    length: Option<u64>,
    /// Number of bytes that were not read yet, without `early`.
    left: u64,
    /// Whether the client waits for `100 Continue` before it sends the body.
    expects_continue: bool,
}

impl<'c> RequestBody<'c> {
    /// Creates the body that follows `head`. `early`: bytes that were read after the head; those beyond the body are
    /// dropped.
    pub fn new(
        stream: &'c Async<TcpStream>,
        head: &RequestHead,
        mut early: Vec<u8>,
    ) -> RequestBody<'c> {
        let length = head.content_length.unwrap_or(0);
        early.truncate(usize::try_from(length).unwrap_or(usize::MAX));
        RequestBody {
            stream,
            left: length - early.len() as u64,
            early,
            length: head.content_length,
            expects_continue: head.expects_continue,
        }
    }

    /// Returns the announced length in bytes, if there is one.
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// Returns the number of bytes that the client may still send: 0 while it waits for `100 Continue`.
    pub fn outstanding(&self) -> u64 {
        match self.expects_continue {
            true => 0,
            false => self.left,
        }
    }

    /// Reads the next piece; empty at the end. The error is the response to a body that ended early or stalled.
    pub async fn next(&mut self) -> ApiResult<Vec<u8>> {
        if !self.early.is_empty() {
            return Ok(std::mem::take(&mut self.early));
        }
        if self.left == 0 {
            return Ok(Vec::new());
        }
        if std::mem::take(&mut self.expects_continue) {
            let sent = send(self.stream, b"HTTP/1.1 100 Continue\r\n\r\n").await;
            sent.map_err(|error| incomplete(error.kind()))?;
        }
        let mut piece = vec![0; self.left.min(PIECE) as usize];
        let received = or(receive(self.stream, &mut piece), timeout(STALL)).await;
        let count = match received {
            Ok(0) => return Err(incomplete(ErrorKind::UnexpectedEof)),
            Ok(count) => count,
            Err(error) => return Err(incomplete(error.kind())),
        };
        piece.truncate(count);
        self.left -= count as u64;
        Ok(piece)
    }

    /// Reads the whole body of at most `most` bytes. The error is the response.
    pub async fn all(&mut self, most: usize) -> ApiResult<Vec<u8>> {
        if self.length.is_some_and(|length| length > most as u64) {
            return Err(Response::problem(
                StatusCode::PayloadTooLarge,
                format!("the body may have {most} bytes at most"),
            ));
        }
        let read = async {
            let mut body = Vec::new();
            loop {
                let piece = self.next().await?;
                if piece.is_empty() {
                    return Ok(body);
                }
                body.extend(piece);
            }
        };
        let late = async {
            let late = timeout(STALL).await;
            late.map_err(|error| incomplete(error.kind()))
        };
        or(read, late).await
    }
}

/// Returns the response to an incomplete body, for a client that may still be connected.
fn incomplete(error: ErrorKind) -> Response {
    let sentence = match error {
        ErrorKind::TimedOut => "the rest of the body did not arrive",
        _ => "the body ended before its announced length",
    };
    Response::problem(StatusCode::RequestTimeout, sentence)
}
