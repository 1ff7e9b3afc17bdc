//! Live events: checks, downloads, refusals with their reasons, changes of the folder. Published by the device and
//! server modules, read by the operator's page.
//!
//! Nothing is built while there is no reader, and a reader that is too slow loses events, never the server its memory.

use std::rc::Rc;
use std::sync::Arc;

use smol::channel::{Receiver, Sender, TrySendError, bounded};

use super::notices::{Notice, ProgramCounts, ProgramQueue};

/// Capacity of a reader's queue; further events are dropped for it.
const WAITING: usize = 256;

/// Readers at a time, at most.
const READERS: usize = 16;

/// An event. The publisher bounds all texts (128 characters).
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A check was answered.
    Check {
        /// Unix seconds.
        unix: i64,
        /// `http`, `udp` or `tcp`.
        proto: &'static str,
        /// The id, empty if it has none.
        device: Box<str>,
        /// The name that a group gives it, or empty.
        name: Box<str>,
        /// The project asked for.
        project: Box<str>,
        /// The version that the module runs.
        from: Box<str>,
        /// The version that it is about, if any.
        to: Box<str>,
        /// `offer`, `resume` or `refuse`.
        verdict: &'static str,
        /// In a few words.
        reason: Box<str>,
        /// The module's address.
        peer: Box<str>,
    },
    /// A download has come so far, or has ended.
    Download {
        /// Unix seconds.
        unix: i64,
        /// The same number in all events of one download.
        number: u32,
        /// `http`, `udp` or `tcp`.
        proto: &'static str,
        /// The id, empty if it has none.
        device: Box<str>,
        /// The name that a group gives it, or empty.
        name: Box<str>,
        /// The project (or the path, for a fixed URL).
        project: Box<str>,
        /// The version that the module runs.
        from: Box<str>,
        /// The version that it gets.
        to: Box<str>,
        /// Bytes of the file that the module has.
        bytes: u64,
        /// Bytes of the whole file.
        size: u64,
        /// `None` while it runs, then how it ended.
        result: Option<&'static str>,
    },
    /// A notice.
    Notice {
        /// Unix seconds.
        unix: i64,
        /// The notice.
        notice: Notice,
    },
    /// The folder changed: what is offered may be another.
    Catalog {
        /// Unix seconds.
        unix: i64,
    },
}

/// The readers.
#[derive(Debug, Default)]
pub struct Events {
    readers: Vec<Sender<Rc<Event>>>,
    /// Given to downloads, one each.
    next: u32,
    /// The program of `--on-event`.
    program: Option<ProgramQueue>,
}

impl Events {
    /// Whether there are readers. Without any, no event need be built.
    pub fn wanted(&self) -> bool {
        !self.readers.is_empty()
    }

    /// Adds a reader; `None` if there are too many. It leaves by dropping the receiver.
    pub fn subscribe(&mut self) -> Option<Receiver<Rc<Event>>> {
        self.readers.retain(|reader| !reader.is_closed());
        if self.readers.len() >= READERS {
            return None;
        }
        let (sender, receiver) = bounded(WAITING);
        self.readers.push(sender);
        Some(receiver)
    }

    /// Sends an event to all readers.
    pub fn publish(&mut self, event: impl FnOnce() -> Event) {
        if self.readers.is_empty() {
            return;
        }
        let event = Rc::new(event());
        self.readers.retain(|reader| {
            !matches!(
                reader.try_send(Rc::clone(&event)),
                Err(TrySendError::Closed(_))
            )
        });
    }

    /// Sends a notice to the log, to all readers and to the program. `unix`: the time, in Unix seconds.
    pub fn notify(&mut self, notice: Notice, unix: i64) {
        notice.log();
        if let Some(program) = &self.program {
            program.offer(notice.json(unix));
        }
        self.publish(|| Event::Notice { unix, notice });
    }

    /// Sets the program that gets the notices from now on; `None`: its thread ends after those that wait.
    pub fn set_program(&mut self, program: Option<ProgramQueue>) {
        self.program = program;
    }

    /// What went wrong with the program; `None`: there is none.
    pub fn program_counts(&self) -> Option<&Arc<ProgramCounts>> {
        self.program.as_ref().map(|program| &program.counts)
    }

    /// A number for a new download.
    pub fn number(&mut self) -> u32 {
        self.next = self.next.wrapping_add(1);
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_built_while_nobody_looks_on() {
        let mut events = Events::default();
        events.publish(|| panic!("nobody asked for it"));
        let reader = events.subscribe().unwrap();
        events.publish(|| Event::Catalog { unix: 1 });
        assert_eq!(*reader.try_recv().unwrap(), Event::Catalog { unix: 1 });
        drop(reader);
        events.publish(|| Event::Catalog { unix: 2 });
        assert!(!events.wanted());
    }

    #[test]
    fn a_slow_reader_misses_events_and_stays() {
        let mut events = Events::default();
        let reader = events.subscribe().unwrap();
        for unix in 0..1000 {
            events.publish(|| Event::Catalog { unix });
        }
        assert_eq!(reader.len(), WAITING);
        assert!(events.wanted());
        let others: Vec<_> = (0..READERS).filter_map(|_| events.subscribe()).collect();
        assert_eq!(others.len(), READERS - 1);
    }
}
