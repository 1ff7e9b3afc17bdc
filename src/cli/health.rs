//! `luat-ota health`: asks the server on this machine whether it is alive. A container may have no other HTTP client.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use super::CommandResult;

/// Time-out of connecting, reading and writing. The health checks of containers have limits of their own.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Asks the server at the first of the addresses that it listens on.
pub(super) fn run(listens: &[SocketAddr]) -> CommandResult {
    let listens = listens.first().ok_or("--http has no address")?;
    let mut last = String::new();
    for address in reachable_addresses(*listens) {
        match ask(address) {
            Ok(()) => return Ok((format!("the server at {address} answers\n"), 0)),
            Err(error) => last = format!("the server at {address} does not answer: {error}"),
        }
    }
    Err(last)
}

/// Returns the addresses at which this machine reaches a listener on this address.
fn reachable_addresses(listens: SocketAddr) -> Vec<SocketAddr> {
    let (v4, v6) = (
        IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::LOCALHOST),
    );
    let addresses = match listens.ip() {
        // An unspecified IPv6 address includes all IPv4 addresses; without IPv6 on the machine, only IPv4 works.
        IpAddr::V6(ip) if ip.is_unspecified() => vec![v4, v6],
        IpAddr::V4(ip) if ip.is_unspecified() => vec![v4],
        _ => return vec![listens],
    };
    let at_port = |ip| SocketAddr::new(ip, listens.port());
    addresses.into_iter().map(at_port).collect()
}

/// Sends one request, and fails unless the status of the reply is 200.
fn ask(address: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let expected = b"HTTP/1.1 200 ";
    let mut begins = [0; 13];
    stream.read_exact(&mut begins)?;
    if &begins != expected {
        let said = String::from_utf8_lossy(&begins).into_owned();
        return Err(io::Error::other(format!("it answered {said:?}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// Starts a server that sends one reply.
    fn start_server(answer: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = [0; 512];
            let length = stream.read(&mut head).unwrap();
            assert!(head[..length].starts_with(b"GET /healthz HTTP/1.1\r\n"));
            stream.write_all(answer).unwrap();
        });
        address
    }

    #[test]
    fn only_a_server_that_answers_200_is_healthy() {
        let well = start_server(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        assert_eq!(run(&[well]).unwrap().1, 0);
        let busy = start_server(b"HTTP/1.1 503 Service Unavailable\r\n\r\n");
        assert!(run(&[busy]).unwrap_err().contains("503"));
        let mute = start_server(b"HTTP");
        assert!(run(&[mute]).is_err());
        let closed = TcpListener::bind("127.0.0.1:0").unwrap();
        let closed_address = closed.local_addr().unwrap();
        drop(closed);
        let sentence = run(&[closed_address]).unwrap_err();
        assert!(sentence.contains(&closed_address.to_string()), "{sentence}");
    }

    #[test]
    fn a_server_on_all_addresses_is_asked_through_the_loopback() {
        let port = start_server(b"HTTP/1.1 200 OK\r\n\r\n").port();
        assert!(run(&[SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))]).is_ok());
        let port = start_server(b"HTTP/1.1 200 OK\r\n\r\n").port();
        assert!(run(&[SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))]).is_ok());
    }
}
