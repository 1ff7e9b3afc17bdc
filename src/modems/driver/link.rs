//! One socket of a module, UDP or TCP, on this thread's reactor. The receive buffer is set before
//! the connection is made, because the window that the server sees is negotiated then.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use smol::Async;

/// An open socket.
#[derive(Debug)]
pub(super) enum Link {
    Datagrams(Async<UdpSocket>),
    Stream(Async<TcpStream>),
}

/// Options for opening a socket.
#[derive(Clone, Copy, Debug)]
pub(super) struct LinkOptions {
    pub datagrams: bool,
    /// Local address of the module; `None` lets the kernel choose.
    pub source: Option<IpAddr>,
    /// Size of the receive buffer (SO_RCVBUF) in bytes; `None` keeps the kernel's default.
    pub receive_buffer: Option<usize>,
}

impl Link {
    pub async fn open(to: SocketAddr, options: LinkOptions) -> io::Result<Link> {
        let socket = socket(to, options)?;
        if options.datagrams {
            rustix::net::connect(&socket, &to)?;
            return Ok(Link::Datagrams(Async::new_nonblocking(UdpSocket::from(
                socket,
            ))?));
        }
        match rustix::net::connect(&socket, &to) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        let stream = Async::new_nonblocking(TcpStream::from(socket))?;
        stream.writable().await?;
        if let Some(error) = stream.get_ref().take_error()? {
            return Err(error);
        }
        // A module's stack sends each send() at once.
        stream.get_ref().set_nodelay(true)?;
        Ok(Link::Stream(stream))
    }

    pub fn datagrams(&self) -> bool {
        matches!(self, Link::Datagrams(_))
    }

    /// Receives once; 0 is the end of a stream.
    pub async fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Link::Datagrams(socket) => loop {
                match socket.get_ref().recv(buffer) {
                    Err(error) if is_retryable(&error) => socket.readable().await?,
                    other => return other,
                }
            },
            Link::Stream(stream) => loop {
                match stream.get_ref().read(buffer) {
                    Err(error) if is_retryable(&error) => stream.readable().await?,
                    other => return other,
                }
            },
        }
    }

    pub async fn send(&self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Link::Datagrams(socket) => {
                // The first failure may report only that the previous datagram met a closed port.
                let mut refused = false;
                loop {
                    match socket.get_ref().send(bytes) {
                        Ok(_) => return Ok(()),
                        Err(error) if is_retryable(&error) => socket.writable().await?,
                        Err(error) if refused => return Err(error),
                        Err(_) => refused = true,
                    }
                }
            }
            Link::Stream(stream) => {
                let mut rest = bytes;
                while !rest.is_empty() {
                    match stream.get_ref().write(rest) {
                        Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                        Err(error) if is_retryable(&error) => stream.writable().await?,
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        Ok(())
    }
}

/// Whether the operation can succeed later.
fn is_retryable(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

fn socket(to: SocketAddr, options: LinkOptions) -> io::Result<OwnedFd> {
    let (family, any) = match to {
        SocketAddr::V4(_) => (AddressFamily::INET, IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        SocketAddr::V6(_) => (AddressFamily::INET6, IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
    };
    let kind = if options.datagrams {
        SocketType::DGRAM
    } else {
        SocketType::STREAM
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, kind, flags, None)?;
    if let Some(size) = options.receive_buffer {
        sockopt::set_socket_recv_buffer_size(&socket, size)?;
    }
    let source = options
        .source
        .filter(|source| source.is_ipv4() == to.is_ipv4());
    if options.datagrams || source.is_some() {
        rustix::net::bind(&socket, &SocketAddr::new(source.unwrap_or(any), 0))?;
    }
    Ok(socket)
}
