use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;
use std::thread;

use smol::LocalExecutor;
use smol::future::{or, poll_once};

use super::*;

/// Far longer than anything here takes, and short enough to wait for.
const LATE: Duration = Duration::from_secs(30);

fn pair() -> (Async<UnixStream>, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    (Async::new(ours).unwrap(), theirs)
}

/// The future's output; a panic if it takes too long.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    or(future, async {
        Timer::after(LATE).await;
        panic!("nobody was woken")
    })
    .await
}

/// Polls it as a task that looks once, after all that has happened by now was dispatched.
async fn is_ready(future: impl Future) -> bool {
    let mut future = pin!(future);
    for _ in 0..3 {
        if poll_once(&mut future).await.is_some() {
            return true;
        }
        yield_now().await;
    }
    false
}

#[test]
fn what_has_arrived_before_anyone_waits_is_told_of() {
    block_on(async {
        let (ours, mut theirs) = pair();
        theirs.write_all(b"x").unwrap();
        soon(ours.arrival()).await.unwrap();
        soon(ours.readable()).await.unwrap();
        soon(ours.writable()).await.unwrap();
    });
}

#[test]
fn a_socket_that_still_has_something_unread_is_readable_again_and_again() {
    block_on(async {
        let (ours, mut theirs) = pair();
        theirs.write_all(b"xyz").unwrap();
        for _ in 0..3 {
            soon(ours.readable()).await.unwrap();
            let mut one = [0];
            ours.get_ref().read_exact(&mut one).unwrap();
        }
        assert!(!is_ready(ours.readable()).await);
        theirs.write_all(b"x").unwrap();
        assert!(is_ready(ours.readable()).await);
    });
}

#[test]
fn every_arrival_after_the_socket_was_drained_is_told_of() {
    block_on(async {
        let (ours, mut theirs) = pair();
        let mut room = [0; 16];
        for _ in 0..1000 {
            assert!(!is_ready(ours.arrival()).await);
            theirs.write_all(b"x").unwrap();
            soon(ours.arrival()).await.unwrap();
            // The second comes while nobody waits, after the first was told of.
            theirs.write_all(b"y").unwrap();
            assert!((1..=2).contains(&ours.get_ref().read(&mut room).unwrap()));
            while ours.get_ref().read(&mut room).is_ok() {}
            // It may be told of, or not: there is nothing left.
            let _told = is_ready(ours.arrival()).await;
        }
    });
}

#[test]
fn no_arrival_is_lost_however_it_falls_between_a_read_and_the_wait() {
    const BYTES: usize = 10_000;
    let (ours, mut theirs) = pair_across();
    let writer = thread::spawn(move || {
        for number in 0..BYTES {
            theirs.write_all(b"x").unwrap();
            if number % 7 == 0 {
                thread::yield_now();
            }
        }
        theirs
    });
    block_on(soon(async move {
        let ours = Async::new(ours).unwrap();
        let mut room = [0; 3];
        let mut read = 0;
        while read < BYTES {
            match ours.get_ref().read(&mut room) {
                Ok(got) => read += got,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ours.arrival().await.unwrap();
                }
                Err(error) => panic!("{error}"),
            }
        }
    }));
    drop(writer.join().unwrap());
}

fn pair_across() -> (UnixStream, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    (ours, theirs)
}

#[test]
fn no_wake_from_another_thread_is_lost_however_it_falls_before_the_sleep() {
    // On a busy machine each round waits for its turn twice.
    const TIMES: usize = 50_000;
    let end = Instant::now() + Duration::from_secs(3);
    let (to_us, ours) = smol::channel::bounded::<usize>(1);
    let (to_them, theirs) = smol::channel::bounded::<usize>(1);
    let other = thread::spawn(move || {
        // Answers at once, so that the answer meets the other side on its way to sleep.
        while let Ok(number) = smol::block_on(theirs.recv()) {
            if number % 3 == 0 {
                thread::yield_now();
            }
            to_us.try_send(number).unwrap();
        }
    });
    let executor = LocalExecutor::new();
    block_on(executor.run(async {
        for number in (0..TIMES).take_while(|_| Instant::now() < end) {
            to_them.try_send(number).unwrap();
            // In a task, so that the wake goes through the executor as well.
            let ours = ours.clone();
            let heard = executor.spawn(async move { ours.recv().await.unwrap() });
            assert_eq!(soon(heard).await, number);
        }
    }));
    drop(to_them);
    other.join().unwrap();
}

#[test]
fn a_future_that_wakes_itself_is_polled_again_and_again() {
    let mut left = 1000;
    block_on(std::future::poll_fn(|context| {
        left -= 1;
        context.waker().wake_by_ref();
        match left {
            0 => Poll::Ready(()),
            _ => Poll::Pending,
        }
    }));
}

#[test]
fn timers_fire_in_the_order_of_their_moments_and_not_before_them() {
    let fired = RefCell::new(Vec::new());
    let executor = LocalExecutor::new();
    let began = Instant::now();
    block_on(executor.run(async {
        let tasks: Vec<_> = [40_u64, 5, 20, 5, 30, 0, 10]
            .into_iter()
            .map(|milliseconds| {
                let fired = &fired;
                executor.spawn(async move {
                    Timer::after(Duration::from_millis(milliseconds)).await;
                    assert!(began.elapsed() >= Duration::from_millis(milliseconds));
                    fired.borrow_mut().push(milliseconds);
                })
            })
            .collect();
        for task in tasks {
            soon(task).await;
        }
    }));
    assert_eq!(*fired.borrow(), [0, 5, 5, 10, 20, 30, 40]);
}

#[test]
fn a_timer_that_is_set_again_or_dropped_leaves_nothing_behind() {
    block_on(async {
        let reactor = Reactor::here().unwrap();
        let mut timer = Timer::after(LATE);
        assert!(!is_ready(&mut timer).await);
        timer.set_after(Duration::ZERO);
        assert!(reactor.timers.borrow().is_empty());
        assert!(is_ready(&mut timer).await);
        timer.set_after(LATE);
        assert!(!is_ready(&mut timer).await);
        drop(timer);
        assert!(reactor.timers.borrow().is_empty());
        assert!(!is_ready(Timer::never()).await);
        assert!(!is_ready(Timer::after(Duration::MAX)).await);
        assert!(is_ready(Timer::at(Instant::now())).await);
    });
}

#[test]
fn the_heap_of_timers_holds_whatever_comes_and_goes() {
    let began = Instant::now();
    let mut timers = Timers::default();
    let mut model: BTreeSet<(Instant, usize)> = BTreeSet::new();
    let mut random: u32 = 7;
    let mut next = |below: usize| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (random >> 8) as usize % below
    };
    let at = |milliseconds: usize| began + Duration::from_millis(milliseconds as u64);
    for turn in 0..20_000 {
        match next(5) {
            0..=2 => {
                let moment = at(turn / 10 + next(500));
                let slot = timers.add(moment, Waker::noop().clone());
                assert!(model.insert((moment, slot)));
            }
            3 if !model.is_empty() => {
                let gone = *model.iter().nth(next(model.len())).unwrap();
                model.remove(&gone);
                assert!(timers.remove(gone.1).is_some());
            }
            _ => {
                let now = at(turn / 10);
                while timers.due(now).is_some() {
                    let first = *model.first().unwrap();
                    assert!(first.0 <= now);
                    // Of two at the same moment either may be the one.
                    let fired = |(_, slot): &&(Instant, usize)| !timers.waits(*slot);
                    let fired = *model.iter().find(fired).unwrap();
                    assert_eq!(fired.0, first.0);
                    model.remove(&fired);
                    assert!(timers.remove(fired.1).is_none());
                }
                assert!(model.first().is_none_or(|(moment, _)| *moment > now));
            }
        }
        timers.check();
        let left = model.first().map(|(moment, _)| *moment);
        let said = timers.left(|| began);
        assert_eq!(said, left.map(|moment| moment - began));
    }
}

#[test]
fn one_that_always_has_something_to_do_starves_nobody() {
    let turns = Cell::new(0_usize);
    let executor = LocalExecutor::new();
    block_on(executor.run(soon(async {
        let busy = executor.spawn(async {
            loop {
                turns.set(turns.get() + 1);
                yield_now().await;
            }
        });
        // A socket and a timer get their turn after each of its turns.
        let (ours, mut theirs) = pair();
        for _ in 0..100 {
            let before = turns.get();
            theirs.write_all(b"x").unwrap();
            ours.readable().await.unwrap();
            ours.get_ref().read_exact(&mut [0]).unwrap();
            assert!(turns.get() - before <= 3, "{} turns", turns.get() - before);
        }
        Timer::after(Duration::from_millis(1)).await;
        drop(busy);
    })));
    assert!(turns.get() > 0);
}

#[test]
fn a_socket_flooded_without_end_leaves_the_others_their_turn() {
    let flooded = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    flooded.set_nonblocking(true).unwrap();
    let to = flooded.local_addr().unwrap();
    let flood = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let executor = LocalExecutor::new();
    block_on(executor.run(soon(async {
        let drain = executor.spawn(async move {
            let flooded = Async::new(flooded).unwrap();
            loop {
                // Never empty: what is taken out comes again.
                flood.send_to(b"x", to).unwrap();
                match flooded.get_ref().recv(&mut [0; 4]) {
                    Ok(_) => yield_now().await,
                    Err(_) => flooded.arrival().await.unwrap(),
                }
            }
        });
        let (ours, mut theirs) = pair();
        for _ in 0..200 {
            theirs.write_all(b"x").unwrap();
            ours.readable().await.unwrap();
            ours.get_ref().read_exact(&mut [0]).unwrap();
        }
        drop(drain);
    })));
}

/// Counts how often it is woken.
#[derive(Default)]
struct Counter(AtomicUsize);

impl Wake for Counter {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn an_event_of_a_socket_that_is_gone_wakes_nobody_who_has_its_number_now() {
    block_on(async {
        let reactor = Reactor::here().unwrap();
        let mut sources = Sources::default();
        // Two sockets with the same number, one after the other, unless another test takes the number.
        let mut both = None;
        for _ in 0..1000 {
            let (ours, theirs) = pair();
            assert!(!is_ready(ours.arrival()).await);
            let number = std::os::fd::AsRawFd::as_raw_fd(ours.get_ref());
            drop((ours, theirs));
            let (next, writer) = pair();
            if std::os::fd::AsRawFd::as_raw_fd(next.get_ref()) == number {
                both = Some((u64::try_from(number).unwrap(), next, writer));
                break;
            }
        }
        let (stale, next, mut writer) = both.unwrap();
        let counter = Arc::new(Counter::default());
        let waker = Waker::from(Arc::clone(&counter));
        let mut waiting = pin!(next.arrival());
        let mut context = Context::from_waker(&waker);
        assert!(waiting.as_mut().poll(&mut context).is_pending());
        let woken = reactor
            .sources
            .borrow_mut()
            .happened(stale, EventFlags::IN | EventFlags::HUP);
        assert!(woken.iter().all(Option::is_none));
        assert_eq!(counter.0.load(Ordering::SeqCst), 0);
        writer.write_all(b"x").unwrap();
        yield_now().await;
        assert_eq!(counter.0.load(Ordering::SeqCst), 1);
        soon(waiting).await.unwrap();
        // A number that was never registered.
        assert!(sources.happened(4096, EventFlags::IN)[0].is_none());
    });
}

#[test]
fn a_task_that_is_dropped_while_it_waits_takes_its_socket_with_it() {
    let executor = LocalExecutor::new();
    block_on(executor.run(soon(async {
        for _ in 0..100 {
            let (ours, mut theirs) = pair();
            let waiting = executor.spawn(async move { ours.arrival().await });
            yield_now().await;
            // Its event may be on the way already.
            theirs.write_all(b"x").unwrap();
            drop(waiting);
            yield_now().await;
            assert!(theirs.write_all(b"x").is_err(), "its socket is still open");
        }
    })));
}

#[test]
fn both_directions_of_a_socket_are_waited_for_at_once() {
    let executor = LocalExecutor::new();
    block_on(executor.run(soon(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (ours, _) = listener.accept().unwrap();
        ours.set_nonblocking(true).unwrap();
        let ours = Rc::new(Async::new(ours).unwrap());
        let full = vec![0; 65_536];
        let mut written = 0;
        while let Ok(more) = ours.get_ref().write(&full) {
            written += more;
        }
        let (out, inward) = (Rc::clone(&ours), Rc::clone(&ours));
        let writable = executor.spawn(async move { out.writable().await });
        let readable = executor.spawn(async move { inward.readable().await });
        yield_now().await;
        theirs.write_all(b"x").unwrap();
        readable.await.unwrap();
        // A close with something unread would cut off what was written.
        ours.get_ref().read_exact(&mut [0]).unwrap();
        assert!(!writable.is_finished());
        let reader = thread::spawn(move || {
            let mut room = vec![0; written];
            theirs.read_exact(&mut room).unwrap();
            theirs
        });
        writable.await.unwrap();
        reader.join().unwrap();
    })));
}

#[test]
fn the_end_of_a_connection_ends_every_wait() {
    block_on(soon(async {
        let (ours, theirs) = pair();
        while ours.get_ref().write(&[0; 4096]).is_ok() {}
        assert!(!is_ready(ours.writable()).await);
        drop(theirs);
        ours.writable().await.unwrap();
        ours.readable().await.unwrap();
    }));
}

#[test]
fn a_wait_within_a_wait_loses_nothing_of_the_outer_one() {
    let (sender, receiver) = smol::channel::bounded(1);
    block_on(soon(async {
        let sent = async {
            // The inner one takes the bell's ring that is meant for the outer one.
            block_on(async {
                sender.try_send(()).unwrap();
                yield_now().await;
            });
            std::future::pending::<()>().await;
        };
        or(async { receiver.recv().await.unwrap() }, sent).await;
    }));
}

#[test]
fn an_idle_thread_sleeps() {
    // The thread's processor time, not the wall's.
    let processor = || rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let before = processor();
    block_on(async {
        let (ours, _theirs) = pair();
        or(
            async {
                let _never = ours.arrival().await;
            },
            async { Timer::after(Duration::from_millis(300)).await },
        )
        .await;
    });
    let after = processor();
    let used = (after.tv_sec - before.tv_sec) * 1_000_000_000 + (after.tv_nsec - before.tv_nsec);
    assert!(used < 50_000_000, "{used} ns");
}
