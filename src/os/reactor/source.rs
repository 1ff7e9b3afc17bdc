//! Sockets (and other descriptors) that can be waited for.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use rustix::event::epoll::{self, EventData, EventFlags};

use super::Reactor;

/// Which way.
#[derive(Clone, Copy)]
enum Direction {
    In,
    Out,
}

impl Direction {
    fn flag(self) -> EventFlags {
        match self {
            Direction::In => EventFlags::IN,
            Direction::Out => EventFlags::OUT,
        }
    }
}

/// Events that end every wait: the error, or the end, shows when the socket is used.
const ENDS: EventFlags = EventFlags::ERR.union(EventFlags::HUP);

/// What a thread's descriptors are registered with, and who waits for them; by the descriptor's number, of
/// which the kernel always gives the lowest that is free.
#[derive(Default)]
pub(super) struct Sources {
    list: Vec<Source>,
}

/// A place for one descriptor after another.
struct Source {
    /// Counts those that had this number: an event of one that is gone means nothing to the next.
    generation: u32,
    /// What the kernel was asked to tell.
    asked: EventFlags,
    /// What it told since somebody last waited for it.
    told: EventFlags,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Source {
    const EMPTY: Source = Source {
        generation: 0,
        asked: EventFlags::empty(),
        told: EventFlags::empty(),
        reader: None,
        writer: None,
    };

    fn waker(&mut self, direction: Direction) -> &mut Option<Waker> {
        match direction {
            Direction::In => &mut self.reader,
            Direction::Out => &mut self.writer,
        }
    }

    /// Takes note that the kernel told of this direction.
    fn take(&mut self, direction: Direction) -> bool {
        let told = self.told.intersects(direction.flag());
        self.told.remove(direction.flag());
        told
    }
}

impl Sources {
    /// An event: remembered, and who waits for it is to be woken.
    pub fn happened(&mut self, key: u64, flags: EventFlags) -> [Option<Waker>; 2] {
        let number = usize::try_from(key & u64::from(u32::MAX));
        let source = number.ok().and_then(|number| self.list.get_mut(number));
        // One that is gone, after its last event was taken out of the kernel.
        let Some(source) = source.filter(|source| u64::from(source.generation) == key >> 32) else {
            return [None, None];
        };
        let happened = |flag| flags.intersects(ENDS.union(flag));
        let mut woken = [None, None];
        if happened(EventFlags::IN) {
            source.told.insert(EventFlags::IN);
            woken[0] = source.reader.take();
        }
        if happened(EventFlags::OUT) {
            source.told.insert(EventFlags::OUT);
            woken[1] = source.writer.take();
        }
        woken
    }
}

/// A descriptor that can be waited for by one task in each direction. Must be non-blocking; the calls are made
/// on [`Async::get_ref`], and what would have blocked is waited for here. Nobody else may hold a copy of
/// the descriptor: closing it is what takes it out of the epoll.
pub struct Async<T> {
    io: T,
    /// Where it is registered, from the first wait on.
    place: Cell<Option<Place>>,
    reactor: Rc<Reactor>,
}

#[derive(Clone, Copy)]
struct Place {
    number: usize,
    generation: u32,
}

impl Place {
    fn key(self) -> u64 {
        // A descriptor is at most an i32.
        let number = u64::try_from(self.number).unwrap_or(u64::from(u32::MAX));
        u64::from(self.generation) << 32 | number
    }
}

impl<T: AsFd> Async<T> {
    /// Takes a descriptor that is non-blocking already. Costs no system call: it is registered when it is
    /// waited for. The error: this thread can have no epoll.
    pub fn new(io: T) -> io::Result<Async<T>> {
        Ok(Async {
            io,
            place: Cell::new(None),
            reactor: Reactor::here()?,
        })
    }

    /// Waits until there is something to read, an end or an error. Others get their turn before it returns.
    pub async fn readable(&self) -> io::Result<()> {
        self.ready(Direction::In).await
    }

    /// Waits until there is room to write, or an error. Others get their turn before it returns.
    pub async fn writable(&self) -> io::Result<()> {
        self.ready(Direction::Out).await
    }

    /// Waits for something new to read: only to be awaited after a read that would have blocked, for what
    /// was there before is not told of again. Returns at once if it has come meanwhile.
    pub async fn arrival(&self) -> io::Result<()> {
        std::future::poll_fn(|context| {
            if self.poll_told(Direction::In, context) {
                return Poll::Ready(Ok(()));
            }
            match self.is_asked(Direction::In) {
                true => Poll::Pending,
                // Tells of what is there now as well.
                false => match self.ask() {
                    Ok(()) => Poll::Pending,
                    Err(error) => Poll::Ready(Err(error)),
                },
            }
        })
        .await
    }

    fn ready(&self, direction: Direction) -> Ready<'_, T> {
        Ready {
            source: self,
            direction,
            asked: false,
        }
    }

    fn with_source<R>(&self, use_it: impl FnOnce(&mut Source) -> R) -> Option<R> {
        let place = self.place.get()?;
        let mut sources = self.reactor.sources.borrow_mut();
        sources.list.get_mut(place.number).map(use_it)
    }

    fn is_asked(&self, direction: Direction) -> bool {
        let asked = |source: &mut Source| source.asked.intersects(direction.flag());
        self.with_source(asked).unwrap_or(false)
    }

    /// Was it told of? Else this task hears when it is.
    fn poll_told(&self, direction: Direction, context: &Context<'_>) -> bool {
        self.settle();
        let mut before = None;
        let told = self.with_source(|source| {
            let told = source.take(direction);
            let waker = source.waker(direction);
            if !told && !waker.as_ref().is_some_and(|w| w.will_wake(context.waker())) {
                before = waker.replace(context.waker().clone());
            }
            told
        });
        // Not while the list is borrowed: it may have been a task's last.
        drop(before);
        told.unwrap_or(false)
    }

    /// Has a place from now on.
    fn settle(&self) {
        if self.place.get().is_some() {
            return;
        }
        let Ok(number) = usize::try_from(self.io.as_fd().as_raw_fd()) else {
            return;
        };
        let mut sources = self.reactor.sources.borrow_mut();
        if sources.list.len() <= number {
            sources
                .list
                .resize_with(number.saturating_add(1), || Source::EMPTY);
        }
        if let Some(source) = sources.list.get_mut(number) {
            let generation = source.generation;
            self.place.set(Some(Place { number, generation }));
        }
    }

    /// Asks the kernel to tell of all that somebody waits for, also if it is so already.
    fn ask(&self) -> io::Result<()> {
        let Some(place) = self.place.get() else {
            return Ok(());
        };
        let asked = self.with_source(|source| {
            let before = source.asked;
            let mut flags = EventFlags::ET;
            flags.set(EventFlags::IN, source.reader.is_some());
            flags.set(EventFlags::OUT, source.writer.is_some());
            source.asked = flags;
            (before, flags)
        });
        let Some((before, flags)) = asked else {
            return Ok(());
        };
        let (epoll, data) = (&self.reactor.epoll, EventData::new_u64(place.key()));
        let done = match before.is_empty() {
            true => epoll::add(epoll, &self.io, data, flags),
            false => epoll::modify(epoll, &self.io, data, flags),
        };
        if done.is_err() {
            self.with_source(|source| source.asked = before);
        }
        Ok(done?)
    }
}

impl<T> Async<T> {
    /// The descriptor itself.
    pub fn get_ref(&self) -> &T {
        &self.io
    }
}

impl<T> Drop for Async<T> {
    fn drop(&mut self) {
        let Some(place) = self.place.get() else {
            return;
        };
        let mut left = Source::EMPTY;
        if let Some(source) = self.reactor.sources.borrow_mut().list.get_mut(place.number) {
            left.generation = source.generation.wrapping_add(1);
            std::mem::swap(source, &mut left);
        }
        // Its wakers go when nothing is borrowed any more.
        drop(left);
    }
}

impl<T: std::fmt::Debug> std::fmt::Debug for Async<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.io.fmt(f)
    }
}

/// A wait that asks the kernel anew.
struct Ready<'a, T> {
    source: &'a Async<T>,
    direction: Direction,
    asked: bool,
}

impl<T: AsFd> Future for Ready<'_, T> {
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let told = self.source.poll_told(self.direction, context);
        if self.asked {
            return match told {
                true => Poll::Ready(Ok(())),
                false => Poll::Pending,
            };
        }
        self.asked = true;
        if told {
            // What was told before may be over: only what the kernel says now counts.
            self.source.poll_told(self.direction, context);
        }
        match self.source.ask() {
            Ok(()) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}
