//! Sockets for modules: those that systemd passed, or those of the flags.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

use super::Settings;
use crate::os::memory;
use crate::os::net::{self, TcpOptions};
use crate::os::systemd::Passed;

/// Open sockets, bound and listening.
#[derive(Default)]
pub(super) struct Sockets {
    pub(super) http: Vec<TcpListener>,
    /// Listeners for the protocol of the first edition over TCP.
    pub(super) tcp: Vec<TcpListener>,
    /// Sockets for the same protocol over UDP.
    pub(super) udp: Vec<UdpSocket>,
    /// Listener of the operator port, if systemd passed one.
    #[cfg(feature = "operator")]
    pub(super) operator: Option<TcpListener>,
}

impl Sockets {
    /// Opens all sockets. Sockets that systemd passed replace the flag of their kind. The error is a sentence with the
    /// flag to change.
    pub(super) fn open(settings: &Settings, passed: Passed) -> Result<Sockets, String> {
        let options = options(settings, memory::total());
        let mut sockets = Sockets::default();
        sockets.adopt(passed, &options)?;
        if sockets.http.is_empty() {
            for &address in &settings.http {
                let listener = with_fallback(address, |address| net::listen(address, &options))
                    .map_err(|error| sentence(address, "--http", &error))?;
                sockets.http.push(listener);
            }
        }
        if sockets.tcp.is_empty() && sockets.udp.is_empty() {
            for &address in &settings.udp {
                let (udp, tcp) = with_fallback(address, |address| pair(address, &options))
                    .map_err(|error| sentence(address, "--udp", &error))?;
                sockets.udp.push(udp);
                sockets.tcp.push(tcp);
            }
        }
        Ok(sockets)
    }

    fn adopt(&mut self, passed: Passed, options: &TcpOptions) -> Result<(), String> {
        let failed = |name: &str, error: io::Error| {
            format!("the socket {name:?} that systemd passed cannot be used: {error}")
        };
        for (name, listener) in passed.tcp {
            match name.as_str() {
                #[cfg(feature = "operator")]
                "operator" => self.operator = Some(listener),
                #[cfg(not(feature = "operator"))]
                "operator" => continue,
                "tcp" => {
                    net::adopt_listener(&listener, options).map_err(|e| failed(&name, e))?;
                    self.tcp.push(listener);
                }
                _ => {
                    net::adopt_listener(&listener, options).map_err(|e| failed(&name, e))?;
                    self.http.push(listener);
                }
            }
        }
        for (name, socket) in passed.udp {
            net::adopt_udp(&socket).map_err(|e| failed(&name, e))?;
            self.udp.push(socket);
        }
        Ok(())
    }

    /// Returns the protocol and the actual address of each socket.
    pub(super) fn addresses(&self) -> Vec<(&'static str, SocketAddr)> {
        let tcp = |protocol, listeners: &[TcpListener]| -> Vec<(&'static str, SocketAddr)> {
            listeners
                .iter()
                .filter_map(|listener| Some((protocol, listener.local_addr().ok()?)))
                .collect()
        };
        let mut addresses = tcp("http", &self.http);
        let udp = self
            .udp
            .iter()
            .filter_map(|socket| socket.local_addr().ok());
        addresses.extend(udp.map(|address| ("udp", address)));
        addresses.extend(tcp("tcp", &self.tcp));
        addresses
    }
}

/// Returns the options of the listeners, which accepted connections inherit (docs/hazards.md 13 to 15).
fn options(settings: &Settings, memory: u64) -> TcpOptions {
    TcpOptions {
        // A head has 8 KiB at most, and a body is read and discarded.
        receive_buffer: 8 * 1024,
        send_buffer: Some(match memory {
            0..=0x0800_0000 => 32 * 1024,
            // Enough for 400 KB/s with a round-trip time of a third of a second.
            _ => 128 * 1024,
        }),
        user_timeout: settings.limits.stall_timeout,
        defer_accept: Some(std::time::Duration::from_secs(2)),
    }
}

/// Opens a socket. On a machine without IPv6, all addresses over IPv4 replace the unspecified IPv6 address.
fn with_fallback<S>(
    address: SocketAddr,
    open: impl Fn(SocketAddr) -> io::Result<S>,
) -> io::Result<S> {
    let error = match open(address) {
        Ok(socket) => return Ok(socket),
        Err(error) => error,
    };
    let no_ipv6 = error.kind() == io::ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(libc::EAFNOSUPPORT);
    if !no_ipv6 || !address.is_ipv6() || !address.ip().is_unspecified() {
        return Err(error);
    }
    let instead = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), address.port());
    let socket = open(instead)?;
    log::info!(target: "listen", "this machine has no IPv6: {instead} instead of {address}");
    Ok(socket)
}

/// Opens UDP and TCP on the same port. For port 0, a port is chosen that is free for both.
fn pair(address: SocketAddr, options: &TcpOptions) -> io::Result<(UdpSocket, TcpListener)> {
    let mut tries = match address.port() {
        0 => 32,
        _ => 1_u32,
    };
    loop {
        let udp = net::bind_udp(address)?;
        match net::listen(udp.local_addr()?, options) {
            Ok(tcp) => return Ok((udp, tcp)),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries > 1 => {
                tries = tries.saturating_sub(1);
            }
            Err(error) => return Err(error),
        }
    }
}

fn sentence(address: SocketAddr, flag: &str, error: &io::Error) -> String {
    let why = match error.kind() {
        io::ErrorKind::AddrInUse => "address in use by another program".to_owned(),
        io::ErrorKind::AddrNotAvailable => "this machine has no such address".to_owned(),
        io::ErrorKind::PermissionDenied => format!(
            "not allowed (a port below 1024, like {}, may need CAP_NET_BIND_SERVICE)",
            address.port()
        ),
        _ => error.to_string(),
    };
    format!("cannot listen on {address}: {why}; choose another with {flag}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn without_ipv6_all_addresses_are_those_of_ipv4() {
        for error in [libc::EAFNOSUPPORT, libc::EADDRNOTAVAIL] {
            let tried = RefCell::new(Vec::new());
            let opened = with_fallback(address("[::]:8080"), |address| {
                tried.borrow_mut().push(address);
                match address.is_ipv6() {
                    true => Err(io::Error::from_raw_os_error(error)),
                    false => Ok(address),
                }
            });
            assert_eq!(opened.unwrap(), address("0.0.0.0:8080"));
            assert_eq!(tried.borrow().len(), 2);
        }
    }

    #[test]
    fn an_address_that_was_named_is_not_replaced_by_another() {
        for (text, error) in [
            ("[::1]:8080", libc::EADDRNOTAVAIL),
            ("1.2.3.4:8080", libc::EADDRNOTAVAIL),
            ("[::]:8080", libc::EADDRINUSE),
        ] {
            let tried = RefCell::new(0);
            let opened = with_fallback(address(text), |_| {
                *tried.borrow_mut() += 1;
                Err::<(), _>(io::Error::from_raw_os_error(error))
            });
            assert_eq!(opened.unwrap_err().raw_os_error(), Some(error));
            assert_eq!(tried.into_inner(), 1, "{text}");
        }
    }

    #[test]
    fn the_error_on_a_taken_port_names_the_flag_to_change() {
        let error = io::Error::from_raw_os_error(libc::EADDRINUSE);
        assert_eq!(
            sentence(address("[::]:8080"), "--http", &error),
            "cannot listen on [::]:8080: address in use by another program; choose another with \
             --http"
        );
    }
}
