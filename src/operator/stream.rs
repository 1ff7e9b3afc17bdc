//! Reading from and writing to a connection of the operator's interface.

use std::io::{self, ErrorKind};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use smol::future::{or, yield_now};
use smol::io::{AsyncReadExt as _, AsyncWriteExt as _};
use smol::{Async, Timer};

use crate::os::net::unread;

/// The time for a client that takes no byte of a response.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);

/// Reads what arrives next; 0 bytes at the end.
pub async fn receive(mut stream: &Async<TcpStream>, buffer: &mut [u8]) -> io::Result<usize> {
    stream.read(buffer).await
}

/// Sends all bytes. [`ErrorKind::TimedOut`] if the client takes none for half a minute.
pub async fn send(mut stream: &Async<TcpStream>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let count = or(stream.write(bytes), timeout(SEND_TIMEOUT)).await?;
        bytes = bytes.get(count..).unwrap_or_default();
    }
    Ok(())
}

/// Sends a piece of a body without a length. `is_http10`: without chunks (RFC 9112 section 7.1).
pub async fn send_piece(stream: &Async<TcpStream>, text: &str, is_http10: bool) -> io::Result<()> {
    match is_http10 {
        _ if text.is_empty() => Ok(()),
        true => send(stream, text.as_bytes()).await,
        false => {
            let chunk = format!("{:x}\r\n{text}\r\n", text.len());
            send(stream, chunk.as_bytes()).await
        }
    }
}

/// Ends a body without a length.
pub async fn end_pieces(stream: &Async<TcpStream>, is_http10: bool) -> io::Result<()> {
    match is_http10 {
        true => Ok(()),
        false => send(stream, b"0\r\n\r\n").await,
    }
}

/// Ends a connection so that the client reads everything that was sent: a close with unread bytes resets the
/// connection, which can destroy the response. Reads up to `outstanding` bytes that the client may still send, for
/// at most `time`.
pub async fn close(stream: &Async<TcpStream>, outstanding: u64, time: Duration) {
    // The client may have gone.
    let _ = stream.get_ref().shutdown(Shutdown::Write);
    let mut left = match outstanding {
        0 if unread(stream.get_ref()).unwrap_or(0) == 0 => return,
        // Whatever it sent after its request.
        0 => 64 * 1024,
        outstanding => outstanding,
    };
    let drain = async {
        let mut buffer = vec![0; 16 * 1024];
        while left > 0 {
            match receive(stream, &mut buffer).await? {
                0 => break,
                count => left = left.saturating_sub(count as u64),
            }
            // However fast it sends, other tasks run in between.
            yield_now().await;
        }
        Ok(())
    };
    let _ = or(drain, timeout(time)).await;
}

/// Fails with [`ErrorKind::TimedOut`] after `time`.
pub async fn timeout<T>(time: Duration) -> io::Result<T> {
    Timer::after(time).await;
    Err(ErrorKind::TimedOut.into())
}
