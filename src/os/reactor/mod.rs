//! What the serving thread waits with: one epoll for its sockets, one heap of timers, one system call a
//! wait. smol's executor, channels and futures run on top of it; [`Async`], [`Timer`], [`yield_now`] and
//! [`block_on`] take the place of smol's own, whose reactor makes seven calls for each wait and wants a thread
//! beside.
//!
//! Each thread that calls [`block_on`] has a reactor of its own, so nothing here is locked. What belongs to it
//! stays on its thread; a [`Waker`] may go anywhere (the log, the watcher and the copying of files wake the
//! serving thread).
//!
//! What would surprise you: sockets are registered once and edge-triggered. The kernel tells of each arrival
//! once, whoever listens or not, and the source remembers it. So a loop that has drained its socket waits with
//! [`Async::arrival`], which asks the kernel nothing; only who may have left something unread or unsaid waits
//! with [`Async::readable`] or [`Async::writable`], which look again.
//!
//! Only what every kernel since 2.6.30 has is used: epoll_create1, epoll_ctl, epoll_wait with milliseconds, and
//! eventfd. (timerfd is not: on emulated MIPS its flags are refused.)

mod bell;
mod source;
mod timers;

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;

use bell::Bell;
pub use source::Async;
use source::Sources;
pub use timers::Timer;
use timers::Timers;

/// Events taken with one call. More wait in the kernel, in order, for the next.
const EVENTS: usize = 128;

/// The bell's key among the events. No source has it: descriptors are no larger than an i32.
const BELL: u64 = u64::MAX;

thread_local! {
    static REACTOR: Result<Rc<Reactor>, Errno> = Reactor::new().map(Rc::new);
}

/// What one thread waits with.
struct Reactor {
    epoll: OwnedFd,
    bell: Arc<Bell>,
    sources: RefCell<Sources>,
    timers: RefCell<Timers>,
    /// Who let others have their turn, and goes on after the next look at the sockets.
    yielded: RefCell<Vec<Waker>>,
    events: RefCell<Vec<Event>>,
}

impl Reactor {
    fn new() -> Result<Reactor, Errno> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let bell = Arc::new(Bell::new()?);
        // Edge-triggered, each ring is an event of its own, and nobody needs to read the counter.
        let flags = EventFlags::IN | EventFlags::ET;
        epoll::add(&epoll, bell.as_fd(), EventData::new_u64(BELL), flags)?;
        Ok(Reactor {
            epoll,
            bell,
            sources: RefCell::default(),
            timers: RefCell::default(),
            yielded: RefCell::default(),
            events: RefCell::new(Vec::with_capacity(EVENTS)),
        })
    }

    /// This thread's.
    fn here() -> io::Result<Rc<Reactor>> {
        let gone = |_| io::Error::other("the thread is ending");
        let reactor = REACTOR.try_with(Clone::clone).map_err(gone)?;
        Ok(reactor?)
    }

    /// Waits until something happens that somebody waits for, and wakes those. Only looks, if it must not sleep.
    fn wait(&self) {
        let idle = self.yielded.borrow().is_empty() && self.bell.fall_asleep();
        let timeout = match idle {
            true => self.timers.borrow().left(Instant::now),
            false => Some(Duration::ZERO),
        };
        let mut events = self.events.take();
        events.clear();
        let timeout = timeout.map(whole_milliseconds);
        let room = rustix::buffer::spare_capacity(&mut events);
        // EINTR, the only error that a good epoll knows, is no event.
        let _interrupted = epoll::wait(&self.epoll, room, timeout.as_ref());
        self.bell.wake_up();
        for event in events.drain(..) {
            let key = event.data.u64();
            if key != BELL {
                // Woken when nothing is borrowed any more: a waker may drop a task with sockets in it.
                let woken = self.sources.borrow_mut().happened(key, event.flags);
                woken.into_iter().flatten().for_each(Waker::wake);
            }
        }
        self.events.replace(events);
        self.fire();
        let mut yielded = self.yielded.take();
        yielded.drain(..).for_each(Waker::wake);
        if self.yielded.borrow().is_empty() {
            // With the room that it has.
            self.yielded.replace(yielded);
        }
    }

    /// Wakes those whose time has come.
    fn fire(&self) {
        if self.timers.borrow().is_empty() {
            return;
        }
        let now = Instant::now();
        loop {
            let due = self.timers.borrow_mut().due(now);
            match due {
                Some(waker) => waker.wake(),
                None => return,
            }
        }
    }
}

/// Rounded up, so that nobody is woken before the time; at most a day, after which one looks again.
fn whole_milliseconds(time: Duration) -> Timespec {
    const DAY: Duration = Duration::from_secs(86_400);
    let nearly = Duration::from_nanos(999_999);
    let time = time.min(DAY).saturating_add(nearly);
    Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(0),
        tv_nsec: i64::from(time.subsec_millis()).saturating_mul(1_000_000) as _,
    }
}

/// Runs a future to its end on this thread, and with it all that waits on this thread's sockets and timers.
///
/// # Panics
/// Where the kernel gives no epoll. Whoever has an [`Async`] knows that it does.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let reactor = match Reactor::here() {
        Ok(reactor) => reactor,
        Err(error) => panic!("nothing can be waited for: {error}"),
    };
    let waker = Waker::from(Arc::clone(&reactor.bell));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        reactor.bell.wake_up();
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            // Who runs around us may have been rung for meanwhile.
            waker.wake();
            return output;
        }
        reactor.wait();
    }
}

/// Lets others have their turn: goes on after the sockets were looked at once more. (A task that only
/// rescheduled itself would keep the executor from ever looking.) Only under [`block_on`].
pub fn yield_now() -> impl Future<Output = ()> {
    YieldNow(Cell::new(false))
}

struct YieldNow(Cell<bool>);

impl Future for YieldNow {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        match (self.0.replace(true), Reactor::here()) {
            (false, Ok(reactor)) => {
                let waker = context.waker().clone();
                reactor.yielded.borrow_mut().push(waker);
                Poll::Pending
            }
            _ => Poll::Ready(()),
        }
    }
}

#[cfg(test)]
mod tests;
