//! Sockets: listeners with the options that keep stalled clients cheap (docs/hazards.md 13–15), and the
//! few calls that the standard library does not have.
//!
//! Options are set on the listener: Linux gives every connection the options of the listener it came from, so an
//! accept costs one call.
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

/// Connections that may wait to be accepted; the kernel lowers it to net.core.somaxconn.
const BACKLOG: i32 = 4096;

/// Options of a listener, inherited by what it accepts.
#[derive(Clone, Copy, Debug)]
pub struct TcpOptions {
    /// SO_RCVBUF in bytes.
    pub receive_buffer: usize,
    /// SO_SNDBUF in bytes; `None` leaves the kernel's.
    pub send_buffer: Option<usize>,
    /// TCP_USER_TIMEOUT.
    pub user_timeout: Duration,
    /// TCP_DEFER_ACCEPT, set only where tcp_syncookies is on.
    pub defer_accept: Option<Duration>,
}

/// A non-blocking listener (SO_REUSEADDR; an IPv6 wildcard takes IPv4 as well; a large backlog).
/// Options that the kernel does not know are left out.
pub fn listen(address: SocketAddr, options: &TcpOptions) -> io::Result<TcpListener> {
    let socket = socket(address, SocketType::STREAM)?;
    // Without it a restart has to wait for the last connections of the old server.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    set_options(&socket, options);
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(TcpListener::from(socket))
}

/// Sets the same options on a listener that came from elsewhere (systemd).
pub fn adopt_listener(listener: &TcpListener, options: &TcpOptions) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    set_options(listener, options);
    // To listen once more only changes the backlog.
    rustix::net::listen(listener, BACKLOG)?;
    Ok(())
}

/// A new non-blocking socket for this address.
fn socket(address: SocketAddr, kind: SocketType) -> io::Result<OwnedFd> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, kind, flags, None)?;
    if let SocketAddr::V6(address) = address {
        // Said both ways, because the default is a setting of the machine.
        let only = !address.ip().is_unspecified() && address.ip().to_ipv4_mapped().is_none();
        sockopt::set_ipv6_v6only(&socket, only)?;
    }
    Ok(socket)
}

/// Every option is worth having alone, so one that is refused does not keep the others out. They
/// come before listen(): the window scale is agreed on in the handshake.
fn set_options(socket: impl AsFd, options: &TcpOptions) {
    let socket = socket.as_fd();
    sockopt::set_socket_recv_buffer_size(socket, options.receive_buffer).ok();
    if let Some(size) = options.send_buffer {
        sockopt::set_socket_send_buffer_size(socket, size).ok();
    }
    let timeout = u32::try_from(options.user_timeout.as_millis()).unwrap_or(u32::MAX);
    sockopt::set_tcp_user_timeout(socket, timeout).ok();
    // A reply is written whole; holding its last part back until the one before it is acknowledged
    // only costs a module a round trip.
    sockopt::set_tcp_nodelay(socket, true).ok();
    if let Some(wait) = options.defer_accept
        && Feature::DeferAccept.available().is_ok()
        && syncookies()
    {
        let seconds = libc::c_int::try_from(wait.as_secs()).unwrap_or(3).max(1);
        set_int(socket, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, seconds).ok();
    }
}

/// Without SYN cookies, deferred connections that stay silent fill the queue and keep everyone else
/// out (docs/hazards.md 15).
fn syncookies() -> bool {
    std::fs::read_to_string("/proc/sys/net/ipv4/tcp_syncookies")
        .is_ok_and(|text| !matches!(text.trim(), "0" | ""))
}

/// Whether the call may succeed later: it would have blocked, or was interrupted.
pub fn is_early(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

/// A socket option that is one int and that rustix does not know.
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

/// A non-blocking UDP socket that reports to which address a datagram came (IP_PKTINFO and
/// IPV6_RECVPKTINFO).
pub fn bind_udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = socket(address, SocketType::DGRAM)?;
    report_addresses(&socket)?;
    // No SO_REUSEADDR: with it a second server would silently take the datagrams of the first.
    rustix::net::bind(&socket, &address)?;
    Ok(UdpSocket::from(socket))
}

/// Sets the same options on a socket that came from elsewhere (systemd).
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

/// accept4: the stream is non-blocking and close-on-exec, the address [`unmapped`]. `WouldBlock`: nothing waits.
/// `Interrupted`: the connection that waited has ended or may not be taken (accept(2), "Error handling"); the next one
/// may be well.
pub fn accept(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let interrupted = || io::ErrorKind::Interrupted.into();
    match rustix::net::acceptfrom_with(listener, flags) {
        Ok((stream, peer)) => {
            // Always there for TCP; a connection from nowhere is dropped.
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

/// Sends `head` and then `body` in one call; how many bytes of both were taken. `more`: more
/// follows at once (MSG_MORE). Never raises SIGPIPE.
pub fn send(stream: &TcpStream, head: &[u8], body: &[u8], more: bool) -> io::Result<usize> {
    let mut flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    flags.set(SendFlags::MORE, more);
    let parts = [IoSlice::new(head), IoSlice::new(body)];
    loop {
        let mut control = SendAncillaryBuffer::default();
        let sent = match body {
            // What is in one piece costs the kernel less so.
            [] => rustix::net::send(stream, head, flags),
            _ => rustix::net::sendmsg(stream, &parts, &mut control, flags),
        };
        match sent {
            Err(Errno::INTR) => continue,
            other => return Ok(other?),
        }
    }
}

/// TCP_CORK for all connections that this listener will accept: what is sent leaves in full segments, and the
/// rest of it together with the FIN. It saves the kernel, here and there, a fifth of the work of a short connection.
/// Only for a protocol where every reply ends in a close or a shutdown: without one, the rest waits for 200 ms.
pub fn cork(listener: &TcpListener) -> io::Result<()> {
    sockopt::set_tcp_cork(listener, true)?;
    Ok(())
}

/// Takes back what [`cork`] has set, for one connection: what is sent leaves at once.
pub fn uncork(stream: &TcpStream) -> io::Result<()> {
    sockopt::set_tcp_cork(stream, false)?;
    Ok(())
}

/// sendfile: up to `count` bytes of `file` from `offset` on; how many were taken (0: the file ended).
/// SIGPIPE must be ignored, as [`super::process::Signals::catch`] does: sendfile cannot be told.
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

/// Bytes that were written and are not acknowledged yet (SIOCOUTQ). After our FIN it counts as one
/// more, until the peer has acknowledged that as well.
pub fn unacknowledged(stream: &TcpStream) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the descriptor is open as long as the borrowed stream; SIOCOUTQ (which is TIOCOUTQ by
    // another name) writes one int to the address it is given, and that is where `bytes` is.
    let result = unsafe { libc::ioctl(stream.as_raw_fd(), libc::TIOCOUTQ as _, &raw mut bytes) };
    match result {
        0 => Ok(usize::try_from(bytes).unwrap_or(0)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether the peer's kernel answers (TCP_INFO): false while what was sent is sent again and no acknowledgement came for
/// it. A peer with a closed window answers, also where it throws away what it had room for before.
pub fn answers(stream: &TcpStream) -> io::Result<bool> {
    /// `struct tcp_info` up to `tcpi_last_ack_recv`: eight single bytes, then numbers of four.
    const ROOM: usize = 60;
    /// An acknowledgement may take this many milliseconds.
    const ON_ITS_WAY: u32 = 3000;
    let mut info = [0_u8; ROOM];
    let mut size = ROOM as libc::socklen_t;
    // SAFETY: the descriptor is open as long as the borrowed stream; the kernel writes at most `size` bytes to
    // the address of `info`, which has as many, and the number of those to `size`.
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
    Ok(retransmits == 0 || acknowledged <= sent || sent < ON_ITS_WAY)
}

/// Sends bytes at once on a connection that holds back what does not fill a segment ([`cork`]). How many were
/// taken.
pub fn send_at_once(stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let sent = send(stream, bytes, &[], false);
    // Taking the cork out pushes what it held.
    sockopt::set_tcp_cork(stream, false)?;
    sockopt::set_tcp_cork(stream, true)?;
    sent
}

/// Bytes that have arrived and are not read yet (FIONREAD).
pub fn unread(stream: &TcpStream) -> io::Result<usize> {
    let bytes = rustix::io::ioctl_fionread(stream)?;
    Ok(usize::try_from(bytes).unwrap_or(usize::MAX))
}

/// SO_KEEPALIVE with this idle time (whole seconds, at least one).
pub fn keep_alive(stream: &TcpStream, idle: Duration) -> io::Result<()> {
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, idle.max(Duration::from_secs(1)))?;
    Ok(())
}

/// SO_SNDBUF (the kernel takes twice as much), of all connections that this listener will accept.
pub fn send_buffer(listener: &TcpListener, bytes: usize) -> io::Result<()> {
    sockopt::set_socket_send_buffer_size(listener, bytes)?;
    Ok(())
}

/// Gives a connection a send buffer of `bytes` (as far as net.core.wmem_max goes), which the kernel may make
/// as large as the connection is fast (SO_BUF_LOCK). The error ENOPROTOOPT: it cannot (before Linux 5.15), and keeps
/// that size.
pub fn free_send_buffer(stream: &TcpStream, bytes: u64) -> io::Result<()> {
    // The kernel takes twice as much.
    let half = usize::try_from(bytes / 2).unwrap_or(usize::MAX);
    sockopt::set_socket_send_buffer_size(stream, half)?;
    /// Not in the libc crate; the same number on all machines that we are built for.
    const SO_BUF_LOCK: libc::c_int = 72;
    /// The receive buffer alone stays as it was set.
    const RECEIVE: libc::c_int = 2;
    set_int(stream.as_fd(), libc::SOL_SOCKET, SO_BUF_LOCK, RECEIVE)
}

/// TCP_USER_TIMEOUT of this connection alone: a shorter one before the close (docs/hazards.md 14).
pub fn user_timeout(stream: &TcpStream, timeout: Duration) -> io::Result<()> {
    let milliseconds = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
    sockopt::set_tcp_user_timeout(stream, milliseconds)?;
    Ok(())
}

/// SO_MAX_PACING_RATE: the kernel sends at most this many bytes per second on this connection. The error
/// ENOPROTOOPT: it cannot (before Linux 3.13).
pub fn pace(stream: &TcpStream, bytes_per_second: u64) -> io::Result<()> {
    // All bits set would mean: no limit.
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

/// The next close resets the connection: what was not acknowledged is thrown away at once instead of
/// being held by the kernel for minutes. For connections that are given up, never for one that ends.
pub fn reset_on_close(stream: &TcpStream) -> io::Result<()> {
    sockopt::set_socket_linger(stream, Some(Duration::ZERO))?;
    Ok(())
}

/// Un-maps `::ffff:a.b.c.d` (docs/hazards.md 6).
pub fn unmapped(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// The addresses of this machine's interfaces, loopback left out: for the line that says where
/// modules can reach us. Left out as well are those that are good on one link only (169.254/16,
/// fe80::/10). IPv4 first; empty if the kernel will not say.
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

/// Every address of every interface that is up.
fn interface_addresses() -> Vec<IpAddr> {
    let mut first: *mut libc::ifaddrs = std::ptr::null_mut();
    let mut addresses = Vec::new();
    // SAFETY: getifaddrs writes one pointer to the address it is given. If it succeeded, that is null or the first entry
    // of a list that stays until freeifaddrs; nothing of the list is kept after it. ifa_addr of an entry is null or a
    // whole address of the family that it begins with; it is read as if unaligned, because nobody promises more.
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
