//! Sockets: listeners with the options that keep stalled clients cheap (docs/hazards.md 13–15), and the few calls that
//! the standard library does not have.
//!
//! Options are set on the listener: on Linux every connection inherits the options of its listener, so an accept costs
//! one call.
#![allow(unsafe_code)]

use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendFlags, SocketFlags, SocketType, sockopt,
};

use super::without::Feature;

/// Number of connections that may wait to be accepted. The kernel lowers it to net.core.somaxconn.
const BACKLOG: i32 = 4096;

/// Options of a listener, inherited by the connections that it accepts.
#[derive(Clone, Copy, Debug)]
pub struct TcpOptions {
    /// Size of the receive buffer in bytes (SO_RCVBUF).
    pub receive_buffer: usize,
    /// Size of the send buffer in bytes (SO_SNDBUF); `None` leaves the kernel's default.
    pub send_buffer: Option<usize>,
    /// Time-out for unacknowledged data (TCP_USER_TIMEOUT).
    pub user_timeout: Duration,
    /// Time to wait for the first data before accepting (TCP_DEFER_ACCEPT), set only if tcp_syncookies is on.
    pub defer_accept: Option<Duration>,
}

/// Creates a non-blocking listener (SO_REUSEADDR; an IPv6 wildcard takes IPv4 as well; a large backlog). Options that
/// the kernel does not support are left out.
pub fn listen(address: SocketAddr, options: &TcpOptions) -> io::Result<TcpListener> {
    let socket = socket(address, SocketType::STREAM)?;
    // Without SO_REUSEADDR a restart has to wait for the last connections of the old server.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    set_options(&socket, options);
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(TcpListener::from(socket))
}

/// Sets these options on a listener that this process did not open (systemd).
pub fn adopt_listener(listener: &TcpListener, options: &TcpOptions) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    set_options(listener, options);
    // A second listen() only changes the backlog.
    rustix::net::listen(listener, BACKLOG)?;
    Ok(())
}

/// Creates a non-blocking socket for this address.
fn socket(address: SocketAddr, kind: SocketType) -> io::Result<OwnedFd> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, kind, flags, None)?;
    if let SocketAddr::V6(address) = address {
        // Set in both cases, because the default is a setting of the machine.
        let only = !address.ip().is_unspecified() && address.ip().to_ipv4_mapped().is_none();
        sockopt::set_ipv6_v6only(&socket, only)?;
    }
    Ok(socket)
}

/// Sets the options of a listener. Each one is useful alone, so a refused option does not prevent the others. They must
/// be set before listen(), because the window scale is negotiated in the handshake.
fn set_options(socket: impl AsFd, options: &TcpOptions) {
    let socket = socket.as_fd();
    sockopt::set_socket_recv_buffer_size(socket, options.receive_buffer).ok();
    if let Some(size) = options.send_buffer {
        sockopt::set_socket_send_buffer_size(socket, size).ok();
    }
    let timeout = u32::try_from(options.user_timeout.as_millis()).unwrap_or(u32::MAX);
    sockopt::set_tcp_user_timeout(socket, timeout).ok();
    // A reply is written as a whole. Delaying its last part until the one before is acknowledged would only cost a
    // module a round trip.
    sockopt::set_tcp_nodelay(socket, true).ok();
    if let Some(wait) = options.defer_accept
        && Feature::DeferAccept.available().is_ok()
        && syncookies()
    {
        let seconds = libc::c_int::try_from(wait.as_secs()).unwrap_or(3).max(1);
        set_int(socket, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, seconds).ok();
    }
}

/// Whether SYN cookies are on. Without them, deferred connections that stay silent fill the queue and keep all other
/// clients out (docs/hazards.md 15).
fn syncookies() -> bool {
    std::fs::read_to_string("/proc/sys/net/ipv4/tcp_syncookies")
        .is_ok_and(|text| !matches!(text.trim(), "0" | ""))
}

/// Whether the call may succeed later: it would have blocked, or was interrupted.
pub fn is_retryable(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

/// Sets a socket option that is one int and that rustix does not support.
pub(super) fn set_int(
    socket: BorrowedFd<'_>,
    level: i32,
    option: i32,
    value: libc::c_int,
) -> io::Result<()> {
    let size = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the descriptor is borrowed, so it is open; the kernel reads `size` bytes from the
    // address of `value`, which is a c_int and lives until the call returns.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Creates a non-blocking UDP socket that reports the address to which a datagram was sent (IP_PKTINFO and
/// IPV6_RECVPKTINFO).
pub fn bind_udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = socket(address, SocketType::DGRAM)?;
    report_addresses(&socket)?;
    // SO_REUSEADDR is not set: with it a second server would silently take the datagrams of the first.
    rustix::net::bind(&socket, &address)?;
    Ok(UdpSocket::from(socket))
}

/// Prepares a UDP socket like [`bind_udp`] that this process did not open (systemd).
pub fn adopt_udp(socket: &UdpSocket) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    report_addresses(socket)
}

fn report_addresses(socket: impl AsFd) -> io::Result<()> {
    let socket = socket.as_fd();
    // An IPv6 socket reports IPv4 datagrams too, as mapped addresses.
    if sockopt::socket_domain(socket)? == AddressFamily::INET6 {
        set_int(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)
    } else {
        set_int(socket, libc::IPPROTO_IP, libc::IP_PKTINFO, 1)
    }
}

/// Accepts a connection (accept4): the stream is non-blocking and close-on-exec, the address [`unmapped`]. Fails with
/// `WouldBlock` if no connection waits, and with `Interrupted` if the waiting connection has ended or may not be
/// accepted (accept(2), "Error handling"); the next one may succeed.
pub fn accept(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let interrupted = || io::ErrorKind::Interrupted.into();
    match rustix::net::acceptfrom_with(listener, flags) {
        Ok((stream, peer)) => {
            // TCP always reports an address. A connection without one is dropped.
            let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
            let peer = peer.ok_or_else(interrupted)?;
            Ok((TcpStream::from(stream), unmapped(peer)))
        }
        Err(
            Errno::INTR
            | Errno::CONNABORTED
            | Errno::PERM
            | Errno::PROTO
            | Errno::NETDOWN
            | Errno::NOPROTOOPT
            | Errno::HOSTDOWN
            | Errno::NONET
            | Errno::HOSTUNREACH
            | Errno::NETUNREACH,
        ) => Err(interrupted()),
        Err(error) => Err(error.into()),
    }
}

/// Sends `head` and then `body` in one call; returns the number of bytes of both that were taken. `more`: more data
/// follows at once (MSG_MORE). Never raises SIGPIPE.
pub fn send(stream: &TcpStream, head: &[u8], body: &[u8], more: bool) -> io::Result<usize> {
    let mut flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    flags.set(SendFlags::MORE, more);
    let parts = [IoSlice::new(head), IoSlice::new(body)];
    loop {
        let mut control = SendAncillaryBuffer::default();
        let sent = match body {
            // For a single piece of data, send costs the kernel less than sendmsg.
            [] => rustix::net::send(stream, head, flags),
            _ => rustix::net::sendmsg(stream, &parts, &mut control, flags),
        };
        match sent {
            Err(Errno::INTR) => continue,
            other => return Ok(other?),
        }
    }
}

/// Sets TCP_CORK for all connections that this listener will accept: data is sent in full segments, and the rest
/// together with the FIN. This saves the kernel about a fifth of the work of a short connection. Only for a protocol in
/// which every reply ends with a close or a shutdown: otherwise the rest waits for 200 ms.
pub fn cork(listener: &TcpListener) -> io::Result<()> {
    sockopt::set_tcp_cork(listener, true)?;
    Ok(())
}

/// Removes TCP_CORK ([`cork`]) from one connection: data is sent at once.
pub fn uncork(stream: &TcpStream) -> io::Result<()> {
    sockopt::set_tcp_cork(stream, false)?;
    Ok(())
}

/// Sends up to `count` bytes of `file` from `offset` on (sendfile); returns the number of bytes taken (0: the file
/// ended). SIGPIPE must be ignored, as [`super::process::Signals::catch`] does: sendfile has no flag for it.
pub fn send_file(
    stream: &TcpStream,
    file: BorrowedFd<'_>,
    offset: u64,
    count: usize,
) -> io::Result<usize> {
    loop {
        let mut offset = offset;
        match rustix::fs::sendfile(stream, file, Some(&mut offset), count) {
            Err(Errno::INTR) => continue,
            other => return Ok(other?),
        }
    }
}

/// Number of bytes that were written and are not acknowledged yet (SIOCOUTQ). Our FIN counts as one more, until the
/// peer has acknowledged it as well.
pub fn unacknowledged(stream: &TcpStream) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the descriptor is open as long as the borrowed stream; SIOCOUTQ (another name of TIOCOUTQ) writes one int
    // to the address that it is given, which is the address of `bytes`.
    let result = unsafe { libc::ioctl(stream.as_raw_fd(), libc::TIOCOUTQ as _, &raw mut bytes) };
    match result {
        0 => Ok(usize::try_from(bytes).unwrap_or(0)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether the peer's kernel answers (TCP_INFO): false while data is retransmitted without an acknowledgement. A peer
/// with a closed window answers, even if it discards data for which it had room before.
pub fn peer_acknowledges(stream: &TcpStream) -> io::Result<bool> {
    /// Size of `struct tcp_info` up to `tcpi_last_ack_recv`: eight single bytes, then numbers of four bytes.
    const INFO_LENGTH: usize = 60;
    /// Time that an acknowledgement may take, in milliseconds.
    const ACK_TIME_MS: u32 = 3000;
    let mut info = [0_u8; INFO_LENGTH];
    let mut size = INFO_LENGTH as libc::socklen_t;
    // SAFETY: the descriptor is open as long as the borrowed stream; the kernel writes at most `size` bytes to the
    // address of `info`, which has that size, and the number of bytes written to `size`.
    let result = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut size,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    let milliseconds = |at: usize| {
        let bytes = info.get(at..).and_then(|rest| rest.first_chunk());
        bytes.copied().map_or(0, u32::from_ne_bytes)
    };
    let (sent, acknowledged) = (milliseconds(44), milliseconds(56));
    let [_, _, retransmits, ..] = info;
    Ok(retransmits == 0 || acknowledged <= sent || sent < ACK_TIME_MS)
}

/// Sends bytes at once on a connection that holds back incomplete segments ([`cork`]). Returns the number of bytes
/// taken.
pub fn send_at_once(stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let sent = send(stream, bytes, &[], false);
    // Removing TCP_CORK sends the data that was held back.
    sockopt::set_tcp_cork(stream, false)?;
    sockopt::set_tcp_cork(stream, true)?;
    sent
}

/// Number of bytes that have arrived and are not read yet (FIONREAD).
pub fn unread(stream: &TcpStream) -> io::Result<usize> {
    let bytes = rustix::io::ioctl_fionread(stream)?;
    Ok(usize::try_from(bytes).unwrap_or(usize::MAX))
}

/// Turns on keep-alive (SO_KEEPALIVE) with this idle time (whole seconds, at least one).
pub fn keep_alive(stream: &TcpStream, idle: Duration) -> io::Result<()> {
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, idle.max(Duration::from_secs(1)))?;
    Ok(())
}

/// Sets the send buffer of all connections that this listener will accept (SO_SNDBUF; the kernel doubles the size).
pub fn send_buffer(listener: &TcpListener, bytes: usize) -> io::Result<()> {
    sockopt::set_socket_send_buffer_size(listener, bytes)?;
    Ok(())
}

/// Gives a connection a send buffer of `bytes` (limited by net.core.wmem_max), which the kernel may enlarge according
/// to the speed of the connection (SO_BUF_LOCK). Fails with ENOPROTOOPT before Linux 5.15: the buffer then keeps this
/// size.
pub fn free_send_buffer(stream: &TcpStream, bytes: u64) -> io::Result<()> {
    // The kernel doubles the size.
    let half = usize::try_from(bytes / 2).unwrap_or(usize::MAX);
    sockopt::set_socket_send_buffer_size(stream, half)?;
    /// Number of the option, which the libc crate does not have. It is the same on all supported machines.
    const SO_BUF_LOCK: libc::c_int = 72;
    /// Value that locks only the receive buffer at its size.
    const RECEIVE: libc::c_int = 2;
    set_int(stream.as_fd(), libc::SOL_SOCKET, SO_BUF_LOCK, RECEIVE)
}

/// Sets TCP_USER_TIMEOUT of this connection alone: a shorter one before the close (docs/hazards.md 14).
pub fn user_timeout(stream: &TcpStream, timeout: Duration) -> io::Result<()> {
    let milliseconds = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
    sockopt::set_tcp_user_timeout(stream, milliseconds)?;
    Ok(())
}

/// Limits the rate of this connection to `bytes_per_second` (SO_MAX_PACING_RATE). Fails with ENOPROTOOPT before Linux
/// 3.13.
pub fn pace(stream: &TcpStream, bytes_per_second: u64) -> io::Result<()> {
    // All bits set would mean no limit.
    let most = u32::MAX.saturating_sub(1);
    let rate = u32::try_from(bytes_per_second).unwrap_or(most).min(most);
    let level = libc::SOL_SOCKET;
    set_int(
        stream.as_fd(),
        level,
        libc::SO_MAX_PACING_RATE,
        rate.cast_signed(),
    )
}

/// Makes the next close reset the connection: unacknowledged data is discarded at once, and not held by the kernel for
/// minutes. For connections that are given up, never for one that ends normally.
pub fn reset_on_close(stream: &TcpStream) -> io::Result<()> {
    sockopt::set_socket_linger(stream, Some(Duration::ZERO))?;
    Ok(())
}

/// Un-maps `::ffff:a.b.c.d` (docs/hazards.md 6).
pub fn unmapped(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Returns the addresses of this machine's interfaces, for the log line on where modules can reach the server. Loopback
/// and link-local addresses (169.254/16, fe80::/10) are left out. IPv4 first; empty if the kernel does not tell.
pub fn own_addresses() -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = interface_addresses()
        .into_iter()
        .filter(|address| match address {
            IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local() && !v4.is_unspecified(),
            IpAddr::V6(v6) => {
                !v6.is_loopback() && !v6.is_unicast_link_local() && !v6.is_unspecified()
            }
        })
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

/// Returns every address of every interface that is up.
fn interface_addresses() -> Vec<IpAddr> {
    let mut first: *mut libc::ifaddrs = std::ptr::null_mut();
    let mut addresses = Vec::new();
    // SAFETY: getifaddrs writes one pointer to the address that it is given. If it succeeds, that pointer is null or
    // the first entry of a list that is valid until freeifaddrs; nothing of the list is kept after that. ifa_addr of an
    // entry is null or a whole address of the family that it begins with; it is read as unaligned, because nothing
    // guarantees more.
    unsafe {
        if libc::getifaddrs(&raw mut first) != 0 {
            return addresses;
        }
        let mut next = first;
        while let Some(entry) = next.as_ref() {
            next = entry.ifa_next;
            let address = entry.ifa_addr;
            if entry.ifa_flags & libc::IFF_UP as libc::c_uint == 0 || address.is_null() {
                continue;
            }
            match i32::from((&raw const (*address).sa_family).read_unaligned()) {
                libc::AF_INET => {
                    let v4 = address.cast::<libc::sockaddr_in>().read_unaligned();
                    addresses.push(Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes()).into());
                }
                libc::AF_INET6 => {
                    let v6 = address.cast::<libc::sockaddr_in6>().read_unaligned();
                    addresses.push(Ipv6Addr::from(v6.sin6_addr.s6_addr).into());
                }
                _ => {}
            }
        }
        libc::freeifaddrs(first);
    }
    addresses
}

#[cfg(test)]
mod tests;
