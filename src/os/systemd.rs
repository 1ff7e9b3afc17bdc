//! Interface to systemd: the sockets that it opened for this process, and notifications of readiness. Nothing is done
//! if systemd did not start this process. The protocols are sd_listen_fds(3) and sd_notify(3); both consist of a few
//! environment variables, so no library is needed.
#![allow(unsafe_code)]

use std::ffi::OsStr;
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::FdFlags;
use rustix::net::{AddressFamily, SocketType, sockopt};
use rustix::time::{ClockId, clock_gettime};

/// Sockets that systemd passed (LISTEN_FDS), by kind. FileDescriptorName=operator marks the listener of the operator
/// port.
#[derive(Debug, Default)]
pub struct Passed {
    /// Stream listeners, with their names.
    pub tcp: Vec<(String, TcpListener)>,
    /// Datagram sockets, with their names.
    pub udp: Vec<(String, UdpSocket)>,
}

/// Number of the first passed descriptor (SD_LISTEN_FDS_START).
const FIRST_FD: RawFd = 3;

/// Maximum number of descriptors that are taken.
const MAX_SOCKETS: usize = 256;

/// Takes the passed sockets, once. They are announced in environment variables, where LISTEN_PID must be this process.
/// They are set non-blocking and close-on-exec. Descriptors that are neither a listener nor a datagram socket of the
/// internet are closed, with a line in the log.
pub fn passed_sockets() -> Passed {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let variable = |name| std::env::var(name).ok();
    let names = socket_names(
        variable("LISTEN_PID").as_deref(),
        variable("LISTEN_FDS").as_deref(),
        variable("LISTEN_FDNAMES").as_deref(),
        std::process::id(),
    );
    if names.is_empty() || TAKEN.swap(true, Ordering::Relaxed) {
        return Passed::default();
    }
    let mut passed = Passed::default();
    for (fd, name) in (FIRST_FD..).zip(names) {
        // SAFETY: only fcntl uses the descriptor: one that is not open gives EBADF.
        let open = rustix::io::fcntl_getfd(unsafe { BorrowedFd::borrow_raw(fd) });
        if open.is_err() {
            log::warn!("systemd says that it passed {name:?} as file {fd}, but that is not open");
            continue;
        }
        // SAFETY: the descriptor is open, and systemd passed it to this process (LISTEN_PID) to own; it is taken only
        // once (TAKEN), and no other code here takes descriptors that it did not open.
        passed.add(name, unsafe { OwnedFd::from_raw_fd(fd) });
    }
    passed
}

/// Returns the names of the passed sockets, in order; none if they are for another process.
fn socket_names(
    pid: Option<&str>,
    count: Option<&str>,
    names: Option<&str>,
    own_pid: u32,
) -> Vec<String> {
    if pid.and_then(|pid| pid.parse().ok()) != Some(own_pid) {
        return Vec::new();
    }
    let count = count.and_then(|count| count.parse().ok()).unwrap_or(0);
    let names = names.unwrap_or_default().split(':').map(str::to_owned);
    names
        .chain(std::iter::repeat(String::new()))
        .take(usize::min(count, MAX_SOCKETS))
        .collect()
}

impl Passed {
    /// Adds a socket to the list of its kind.
    fn add(&mut self, name: String, fd: OwnedFd) {
        match SocketKind::of(&fd) {
            Ok(SocketKind::Listener) => self.tcp.push((name, TcpListener::from(fd))),
            Ok(SocketKind::Datagrams) => self.udp.push((name, UdpSocket::from(fd))),
            Ok(SocketKind::Other) => log::warn!(
                "the socket {name:?} from systemd is neither ListenStream= nor ListenDatagram= of an internet address; it is not used"
            ),
            Err(error) => {
                log::warn!("the socket {name:?} from systemd cannot be used: {error}");
            }
        }
    }
}

/// Kind of a passed socket.
enum SocketKind {
    Listener,
    Datagrams,
    Other,
}

impl SocketKind {
    fn of(fd: &OwnedFd) -> io::Result<SocketKind> {
        rustix::io::fcntl_setfd(fd, FdFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(fd, true)?;
        let family = sockopt::socket_domain(fd)?;
        if family != AddressFamily::INET && family != AddressFamily::INET6 {
            return Ok(SocketKind::Other);
        }
        let kind = sockopt::socket_type(fd)?;
        Ok(if kind == SocketType::DGRAM {
            SocketKind::Datagrams
        } else if kind == SocketType::STREAM && sockopt::socket_acceptconn(fd)? {
            SocketKind::Listener
        } else {
            SocketKind::Other
        })
    }
}

/// Notifies systemd of a state (`READY=1`, `STOPPING=1`, `RELOADING=1`), if it asked for notifications. `RELOADING=1`
/// gets the MONOTONIC_USEC that Type=notify-reload requires.
pub fn notify(state: &str) {
    let Some(address) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    let now = clock_gettime(ClockId::Monotonic);
    let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
    let notified = if state == "RELOADING=1" {
        send_state(&address, &format!("{state}\nMONOTONIC_USEC={micros}"))
    } else {
        send_state(&address, state)
    };
    if let Err(error) = notified {
        log::warn!("cannot tell systemd {state:?}: {error}");
    }
}

/// Sends one datagram to a path, or to an abstract name written with a leading `@`.
fn send_state(address: &OsStr, state: &str) -> io::Result<()> {
    let to = match address.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(address)?,
    };
    let socket = UnixDatagram::unbound()?;
    // If systemd does not read, the server must not block.
    socket.set_nonblocking(true)?;
    socket.send_to_addr(state.as_bytes(), &to)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::scratch::Scratch;
    use std::time::Duration;

    #[test]
    fn sockets_are_announced_only_to_the_process_they_are_for() {
        let names = socket_names(Some("7"), Some("3"), Some("http:operator"), 7);
        assert_eq!(names, ["http", "operator", ""]);
        assert_eq!(socket_names(Some("7"), Some("2"), None, 7), ["", ""]);
        for (pid, count) in [
            (Some("8"), Some("1")),
            (None, Some("1")),
            (Some("x"), Some("1")),
            (Some("7"), None),
            (Some("7"), Some("-1")),
            (Some("7"), Some("0")),
        ] {
            assert!(socket_names(pid, count, Some("a:b"), 7).is_empty());
        }
        assert_eq!(
            socket_names(Some("7"), Some("999999999"), None, 7).len(),
            MAX_SOCKETS
        );
    }

    #[test]
    fn passed_sockets_are_sorted_by_kind_and_made_non_blocking() {
        let mut passed = Passed::default();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = tcp.local_addr().unwrap().port();
        passed.add("http".into(), tcp.into());
        passed.add("u".into(), UdpSocket::bind("127.0.0.1:0").unwrap().into());
        passed.add("unix".into(), UnixDatagram::unbound().unwrap().into());
        let connected = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        passed.add("not a listener".into(), connected.into());
        let file = std::fs::File::open("/dev/null").unwrap();
        passed.add("no socket".into(), file.into());

        assert_eq!((passed.tcp.len(), passed.udp.len()), (1, 1));
        let (name, listener) = &passed.tcp[0];
        assert_eq!(name, "http");
        listener.accept().unwrap(); // The connection from above.
        let error = listener.accept().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        let flags = rustix::io::fcntl_getfd(listener).unwrap();
        assert!(flags.contains(FdFlags::CLOEXEC));
        assert_eq!(passed.udp[0].0, "u");
    }

    #[test]
    fn nothing_is_passed_where_systemd_did_not_start_us() {
        let passed = passed_sockets();
        assert!(passed.tcp.is_empty() && passed.udp.is_empty());
    }

    #[test]
    fn a_state_reaches_a_path_and_an_abstract_name() {
        let dir = Scratch::new();
        let path = dir.path().join("notify");
        let name = format!("luat-ota-test-{}", std::process::id());
        let abstract_address = SocketAddr::from_abstract_name(&name).unwrap();
        for (socket, address) in [
            (UnixDatagram::bind(&path).unwrap(), path.into_os_string()),
            (
                UnixDatagram::bind_addr(&abstract_address).unwrap(),
                format!("@{name}").into(),
            ),
        ] {
            socket
                .set_read_timeout(Some(Duration::from_secs(5)))
                .unwrap();
            send_state(&address, "READY=1").unwrap();
            let mut buffer = [0; 64];
            let count = socket.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..count], b"READY=1");
        }
        assert!(send_state(OsStr::new("/nowhere/at/all"), "READY=1").is_err());
    }
}
