//! Limits, threads, signals and random bytes of this process.
//!
//! Signals are blocked for every thread and read from a signalfd, so no handler ever interrupts other code.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::rand::{GetRandomFlags, getrandom};

use smol::Async;

/// Number of polls of tasks between two checks of the sockets. After the 200 of the executor's own loop, the reactor's
/// second thread takes over in between, and both threads wake each other for every event.
pub const POLLS: usize = 16;

/// Raises the soft limit of open files to the hard one; returns the limit then in force.
pub fn raise_file_limit() -> u64 {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    // Only a sandbox may refuse this; then the old limit stays in force.
    setrlimit(Resource::Nofile, raised).ok();
    file_limit()
}

/// Number of files and sockets that this process may have open (the soft limit now in force).
pub fn file_limit() -> u64 {
    // No process may have more than fs.nr_open, even if the limit is "unlimited". Its default is a million everywhere.
    getrlimit(Resource::Nofile).current.unwrap_or(1 << 20)
}

/// Starts a thread that is never joined. Fails if the system has no more threads.
pub fn start_thread(name: &str, run: Box<dyn FnOnce() + Send>) -> io::Result<()> {
    let thread = std::thread::Builder::new().name(name.to_owned());
    thread.spawn(run).map(drop)
}

/// Runs `work`, which may block, on its own thread, and waits for the result. Fails if the system has no more threads.
/// (`smol::unblock` keeps threads that wake up twice a second when there is nothing to do.)
pub async fn unblock<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let (sender, receiver) = smol::channel::bounded(1);
    // The receiver may already be dropped.
    start_thread(name, Box::new(move || drop(sender.try_send(work()))))?;
    receiver.recv().await.map_err(io::Error::other)
}

/// Request of a person or the service manager, sent as a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM or SIGINT.
    Stop,
    /// SIGHUP.
    Rescan,
}

/// Source of signals that can be awaited (signalfd).
#[derive(Debug)]
pub struct Signals {
    fd: Async<OwnedFd>,
}

/// Size of one struct signalfd_siginfo in bytes; the first four are the signal's number.
const SIGINFO: usize = 128;

impl Signals {
    /// Blocks SIGTERM, SIGINT and SIGHUP for this thread and all that it starts; ignores SIGPIPE, SIGIO and SIGXFSZ.
    /// Must be called before the first thread is started.
    pub fn catch() -> io::Result<Signals> {
        for signal in [libc::SIGPIPE, libc::SIGIO, libc::SIGXFSZ] {
            ignore(signal);
        }
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigemptyset initialises the whole set that it is given; sigaddset and the two calls after it are
        // given that initialised set; the old mask is not asked for (null is allowed). No other code knows the
        // descriptor that signalfd returns.
        let fd = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
                libc::sigaddset(set.as_mut_ptr(), signal);
            }
            let error = libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut());
            if error != 0 {
                return Err(io::Error::from_raw_os_error(error));
            }
            match libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) {
                fd if fd < 0 => return Err(io::Error::last_os_error()),
                fd => OwnedFd::from_raw_fd(fd),
            }
        };
        let fd = Async::new_nonblocking(fd)?;
        Ok(Signals { fd })
    }

    /// Waits for the next signal. Must be awaited on the thread that called [`Signals::catch`].
    pub async fn next(&self) -> io::Result<Signal> {
        loop {
            match read_signal(self.fd.get_ref()) {
                Ok(libc::SIGTERM | libc::SIGINT) => return Ok(Signal::Stop),
                Ok(libc::SIGHUP) => return Ok(Signal::Rescan),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.fd.readable().await?;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

fn read_signal(fd: &OwnedFd) -> io::Result<libc::c_int> {
    let mut info = [0; SIGINFO];
    rustix::io::read(fd, &mut info)?;
    let [a, b, c, d, ..] = info;
    Ok(libc::c_int::from_ne_bytes([a, b, c, d]))
}

/// Ignores a signal, for the whole process.
pub(super) fn ignore(signal: libc::c_int) {
    // SAFETY: SIG_IGN runs no code of ours; a number that is no signal is refused with an error.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

/// Fills the buffer with random bytes. Does not block: if the kernel's pool is not ready yet, it fails. Kernels before
/// 3.17 have no getrandom: there /dev/urandom is read, which never blocks.
pub fn random(buffer: &mut [u8]) -> io::Result<()> {
    let mut rest = buffer;
    while !rest.is_empty() {
        match getrandom(&mut *rest, GetRandomFlags::NONBLOCK) {
            Ok(count) => {
                let (_, after) = rest.split_at_mut_checked(count).unwrap_or_default();
                rest = after;
            }
            Err(Errno::INTR) => {}
            Err(Errno::NOSYS) => return File::open("/dev/urandom")?.read_exact(rest),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Signal as Raised, getpid};
    use smol::block_on;
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    #[test]
    fn the_file_limit_is_raised_to_the_hard_one() {
        let limit = raise_file_limit();
        assert!(limit > 0);
        assert_eq!(limit, file_limit());
        let now = getrlimit(Resource::Nofile);
        assert_eq!(now.current, now.maximum);
    }

    #[test]
    fn random_bytes_fill_the_whole_buffer_and_differ() {
        // Longer than what one getrandom returns without being interrupted (256 bytes).
        let mut one = vec![0; 5000];
        let mut two = vec![0; 5000];
        random(&mut one).unwrap();
        random(&mut two).unwrap();
        assert_ne!(one, two);
        assert!(one.iter().rev().take(100).any(|&byte| byte != 0));
        random(&mut []).unwrap();
    }

    const CHILD: &str = "LUAT_OTA_TEST_SIGNALS_CHILD";

    /// Runs this test again in a child process. Blocked signals stay blocked over exec, so every thread of the child
    /// has them blocked, as in the server, where `catch` comes before the first thread.
    #[test]
    fn signals_are_received_and_do_not_end_the_process() {
        if std::env::var_os(CHILD).is_some() {
            let signals = Signals::catch().unwrap();
            let raise = |signal| rustix::process::kill_process(getpid(), signal).unwrap();
            block_on(async {
                raise(Raised::PIPE);
                raise(Raised::IO);
                raise(Raised::XFSZ);
                raise(Raised::HUP);
                assert_eq!(signals.next().await.unwrap(), Signal::Rescan);
                raise(Raised::TERM);
                assert_eq!(signals.next().await.unwrap(), Signal::Stop);
                // A signal that arrives while it is being awaited.
                let later = std::thread::spawn(move || raise(Raised::INT));
                assert_eq!(signals.next().await.unwrap(), Signal::Stop);
                later.join().unwrap();
            });
            return;
        }
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "--nocapture"]);
        child.arg("os::process::tests::signals_are_received_and_do_not_end_the_process");
        child.env(CHILD, "1");
        // SAFETY: between fork and exec only sigset and mask calls, which are async-signal-safe.
        unsafe {
            child.pre_exec(|| {
                let mut set = MaybeUninit::<libc::sigset_t>::uninit();
                libc::sigfillset(set.as_mut_ptr());
                libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut());
                Ok(())
            });
        }
        let output = child.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{:?}: {text}", output.status);
        assert!(text.contains("1 passed"), "{text}");
    }
}
