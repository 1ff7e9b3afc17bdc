//! A request's body, streamed by our own code: never more than was announced, never more than the route
//! takes, and never waited for without end. Used by the routes that take one.

use std::io::Read;
use std::time::Duration;

use http_types::StatusCode;
use smol::future::or;

use super::head::Length;
use super::plane::Stream;
use super::reply::Reply;
use crate::os;
use crate::os::net::is_early;
use smol::Timer;

/// A body that does not get on for so long is given up.
pub const STALL: Duration = Duration::from_secs(30);

/// A short body (JSON) must be there within this time, however it comes.
const SHORT: Duration = Duration::from_secs(30);

/// Bytes that are read at once.
const PIECE: usize = 64 * 1024;

/// A body on its way in.
pub struct Incoming<'c> {
    stream: &'c Stream,
    /// Bytes that came with the head.
    early: Vec<u8>,
    length: Length,
    left: u64,
    /// The client waits for a word before it sends it.
    expects: bool,
    stall: Duration,
}

/// Why a body is not complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The client has gone.
    Gone,
    /// Nothing came for too long.
    Stalled,
}

impl<'c> Incoming<'c> {
    /// `early`: what was read after the head; what exceeds the body is dropped.
    pub(super) fn new(
        stream: &'c Stream,
        mut early: Vec<u8>,
        length: Length,
        expects: bool,
        stall: Duration,
    ) -> Incoming<'c> {
        let whole = match length {
            Length::Missing => 0,
            Length::Bytes(bytes) => bytes,
        };
        early.truncate(usize::try_from(whole).unwrap_or(usize::MAX));
        Incoming {
            stream,
            left: whole.saturating_sub(count(&early)),
            early,
            length,
            expects,
            stall,
        }
    }

    /// Bytes of the whole, if the head says so.
    pub fn length(&self) -> Length {
        self.length
    }

    /// Bytes that the client has not sent yet (or we have not read). 0 if it still waits for our word:
    /// then it sends none of them.
    pub(super) fn outstanding(&self) -> u64 {
        match self.expects {
            true => 0,
            false => self.left,
        }
    }

    /// The next piece; empty at the end.
    pub async fn next(&mut self) -> Result<Vec<u8>, Cut> {
        if !self.early.is_empty() {
            return Ok(std::mem::take(&mut self.early));
        }
        if self.left == 0 {
            return Ok(Vec::new());
        }
        if std::mem::take(&mut self.expects) {
            let word = b"HTTP/1.1 100 Continue\r\n\r\n";
            // A client that does not take 25 bytes is no client.
            match os::net::send(self.stream.get_ref(), word, &[], false) {
                Ok(sent) if sent == word.len() => {}
                _ => return Err(Cut::Gone),
            }
        }
        let most = usize::try_from(self.left).unwrap_or(PIECE).min(PIECE);
        let mut piece = vec![0; most];
        loop {
            match self.stream.get_ref().read(&mut piece) {
                Ok(0) => return Err(Cut::Gone),
                Ok(got) => {
                    piece.truncate(got);
                    self.left = self.left.saturating_sub(count(&piece));
                    return Ok(piece);
                }
                Err(error) if is_early(&error) => {
                    let readable = async { self.stream.readable().await.map_err(|_| Cut::Gone) };
                    let late = async {
                        Timer::after(self.stall).await;
                        Err(Cut::Stalled)
                    };
                    or(readable, late).await?;
                }
                Err(_) => return Err(Cut::Gone),
            }
        }
    }

    /// A short body as a whole. The error is the reply.
    pub async fn all(&mut self, most: usize) -> Result<Vec<u8>, Reply> {
        let whole = match self.length {
            Length::Missing => 0,
            Length::Bytes(bytes) => bytes,
        };
        if usize::try_from(whole).map_or(true, |whole| whole > most) {
            return Err(Reply::problem(
                StatusCode::PayloadTooLarge,
                format!("the body may have {most} bytes at most"),
            ));
        }
        let mut body = Vec::new();
        let reading = async {
            loop {
                match self.next().await {
                    Ok(piece) if piece.is_empty() => return Ok(()),
                    Ok(piece) => body.extend_from_slice(&piece),
                    Err(cut) => return Err(cut),
                }
            }
        };
        let late = async {
            Timer::after(SHORT).await;
            Err(Cut::Stalled)
        };
        match or(reading, late).await {
            Ok(()) => Ok(body),
            Err(cut) => Err(cut.reply()),
        }
    }
}

impl Cut {
    /// What is said to a client that may still be there.
    pub fn reply(self) -> Reply {
        Reply::problem(
            StatusCode::RequestTimeout,
            match self {
                Cut::Gone => "the body ended before its announced length",
                Cut::Stalled => "nothing more of the body came",
            },
        )
    }
}

fn count(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}
