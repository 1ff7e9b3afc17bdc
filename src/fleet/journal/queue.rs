//! A queue from one thread to another that waits, with a time limit if it likes: to the journal's writer, and from that
//! to the thread that says fsync. The standard library's channels do the same in three ways, 5 kB each.
//!
//! What would surprise you: there is a lock, and the serving thread takes it. It is held for one push or one pop,
//! never while anything is written, and the kernel is only asked to wake who sleeps.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Room for so many stays when the queue is empty; what a flood took beyond it is given back.
const SPARE: usize = 64;

/// A new queue: where things go in, and where they come out.
pub(super) fn queue<T>() -> (Sender<T>, Receiver<T>) {
    let queue = Arc::new(Queue {
        inside: Mutex::new(Inside {
            waiting: VecDeque::new(),
            sleeps: false,
            over: false,
        }),
        changed: Condvar::new(),
    });
    (Sender(Arc::clone(&queue)), Receiver(queue))
}

/// Where things go in. When it is dropped the other side hears of it, after all that waits.
#[derive(Debug)]
pub(super) struct Sender<T>(Arc<Queue<T>>);

/// Where they come out, in the same order.
#[derive(Debug)]
pub(super) struct Receiver<T>(Arc<Queue<T>>);

#[derive(Debug)]
struct Queue<T> {
    inside: Mutex<Inside<T>>,
    changed: Condvar,
}

#[derive(Debug)]
struct Inside<T> {
    waiting: VecDeque<T>,
    /// The other side waits for something, and was not woken yet.
    sleeps: bool,
    /// Nothing more comes.
    over: bool,
}

/// What came out.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next<T> {
    /// The next thing.
    Is(T),
    /// Nothing came in time.
    Late,
    /// Nothing waits and nothing more comes.
    Over,
}

impl<T> Sender<T> {
    /// It waits behind all others.
    pub(super) fn send(&self, thing: T) {
        let mut inside = self.0.lock();
        inside.waiting.push_back(thing);
        self.0.wake(inside);
    }

    /// The same, unless another waits already; false: one does.
    pub(super) fn send_alone(&self, thing: T) -> bool {
        let mut inside = self.0.lock();
        let is_alone = inside.waiting.is_empty();
        if is_alone {
            inside.waiting.push_back(thing);
            self.0.wake(inside);
        }
        is_alone
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut inside = self.0.lock();
        inside.over = true;
        self.0.wake(inside);
    }
}

impl<T> Receiver<T> {
    /// Waits for the next one, until this moment at most.
    pub(super) fn next(&self, until: Option<Instant>) -> Next<T> {
        let mut inside = self.0.lock();
        loop {
            if let Some(thing) = inside.pop() {
                return Next::Is(thing);
            }
            if inside.over {
                return Next::Over;
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Next::Late;
            }
            let changed = &self.0.changed;
            inside.sleeps = true;
            inside = match left {
                None => changed.wait(inside).unwrap_or_else(PoisonError::into_inner),
                Some(left) => {
                    let waited = changed.wait_timeout(inside, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
            inside.sleeps = false;
        }
    }

    /// The next one, if it is there.
    pub(super) fn next_now(&self) -> Option<T> {
        self.0.lock().pop()
    }
}

impl<T> Queue<T> {
    fn lock(&self) -> MutexGuard<'_, Inside<T>> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be called when something has changed.
    fn wake(&self, mut inside: MutexGuard<'_, Inside<T>>) {
        let sleeps = std::mem::take(&mut inside.sleeps);
        drop(inside);
        if sleeps {
            self.changed.notify_one();
        }
    }
}

impl<T> Inside<T> {
    fn pop(&mut self) -> Option<T> {
        let thing = self.waiting.pop_front();
        if self.waiting.is_empty() && self.waiting.capacity() > SPARE {
            self.waiting = VecDeque::new();
        }
        thing
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn things_come_out_as_they_went_in_and_then_it_is_over() {
        let (sender, receiver) = queue();
        let thread = thread::spawn(move || {
            let next = || match receiver.next(None) {
                Next::Is(number) => Some(number),
                Next::Late | Next::Over => None,
            };
            let all: Vec<u32> = std::iter::from_fn(next).collect();
            (all, receiver.next(None), receiver.next_now())
        });
        for number in 0..10_000 {
            sender.send(number);
        }
        drop(sender);
        let (all, over, now) = thread.join().unwrap();
        assert_eq!(all, Vec::from_iter(0..10_000));
        assert_eq!((over, now), (Next::Over, None));
    }

    #[test]
    fn who_waits_is_woken_by_what_comes_and_by_the_time() {
        let (sender, receiver) = queue();
        let soon = Instant::now() + Duration::from_millis(20);
        assert_eq!(receiver.next(Some(soon)), Next::Late);
        assert!(Instant::now() >= soon);
        let thread = thread::spawn(move || {
            let far = Instant::now() + Duration::from_secs(60);
            (receiver.next(Some(far)), receiver.next(Some(far)))
        });
        thread::sleep(Duration::from_millis(20));
        sender.send("come");
        thread::sleep(Duration::from_millis(20));
        drop(sender);
        assert_eq!(thread.join().unwrap(), (Next::Is("come"), Next::Over));
    }

    #[test]
    fn no_thing_is_slept_over_however_it_falls() {
        let (sender, receiver) = queue();
        let (answers, answer) = queue();
        let thread = thread::spawn(move || {
            while let Next::Is(number) = receiver.next(None) {
                answers.send(number);
            }
        });
        for number in 0..20_000_u32 {
            sender.send(number);
            let late = Instant::now() + Duration::from_secs(20);
            assert_eq!(answer.next(Some(late)), Next::Is(number));
        }
        drop(sender);
        thread.join().unwrap();
    }

    #[test]
    fn what_waits_alone_is_not_joined() {
        let (sender, receiver) = queue();
        assert!(sender.send_alone(1) && !sender.send_alone(2));
        assert_eq!(receiver.next_now(), Some(1));
        assert!(sender.send_alone(3));
        // What is late already still comes if it is there.
        assert_eq!(receiver.next(Some(Instant::now())), Next::Is(3));
        assert_eq!(receiver.next_now(), None);
    }

    #[test]
    fn a_flood_that_is_over_leaves_no_room_behind() {
        let (sender, receiver) = queue();
        for number in 0..10_000 {
            sender.send(number);
        }
        while receiver.next_now().is_some() {}
        assert!(receiver.0.lock().waiting.capacity() <= SPARE);
    }
}
