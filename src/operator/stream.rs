//! Functions that read from and write to a connection of the operator's interface.

use std::io::{self, ErrorKind};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use smol::future::{or, yield_now};
use smol::io::{AsyncReadExt as _, AsyncWriteExt as _};
use smol::{Async, Timer};

use crate::os::net::unread;

/// Time-out for a client that accepts no byte of a response.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);

/// Reads the bytes that arrive next; returns 0 at the end.
pub async fn receive(mut stream: &Async<TcpStream>, buffer: &mut [u8]) -> io::Result<usize> {
    stream.read(buffer).await
}

/// Sends all bytes. Fails with [`ErrorKind::TimedOut`] if the client accepts none for 30 seconds.
pub async fn send(mut stream: &Async<TcpStream>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let count = or(stream.write(bytes), timeout(SEND_TIMEOUT)).await?;
        bytes = bytes.get(count..).unwrap_or_default();
    }
    Ok(())
}

/// Sends a piece of a body without a length. `is_http10`: do not use chunks (RFC 9112 section 7.1).
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

/// Shuts a connection down so that the client can read everything that was sent. A close with unread bytes resets the
/// connection, which can destroy the response, so this reads up to `outstanding` bytes that the client may still send,
/// for at most `time`.
pub async fn close(stream: &Async<TcpStream>, outstanding: u64, time: Duration) {
    // Fails if the client has disconnected.
    let _ = stream.get_ref().shutdown(Shutdown::Write);
    let mut left = match outstanding {
        0 if unread(stream.get_ref()).unwrap_or(0) == 0 => return,
        // Bytes that the client has sent after the request.
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
            // Other tasks must run even if the client sends without a pause.
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
