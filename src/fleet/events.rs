//! Live events: checks, downloads, refusals with their reasons, changes of the folder. Published by the device and
//! server modules, read by the operator's page.
//!
//! No event is built while there is no reader. A reader that is too slow loses events, so that the server's memory
//! stays bounded.

use std::rc::Rc;
use std::sync::Arc;

use smol::channel::{Receiver, Sender, TrySendError, bounded};

use super::notices::{Notice, ProgramCounts, ProgramQueue};

/// Capacity of a reader's queue; further events are dropped for that reader.
const CAPACITY: usize = 256;

/// Maximum number of simultaneous readers.
const READERS: usize = 16;

/// The device and the update that an event is about.
#[derive(Clone, Debug, PartialEq)]
pub struct EventSubject {
    /// `http`, `udp` or `tcp`.
    pub proto: &'static str,
    /// Device id; empty if the module has none.
    pub device: Box<str>,
    /// Name that a group gives the device; empty if there is none.
    pub name: Box<str>,
    /// The project asked for, or the path of a file with a fixed URL.
    pub project: Box<str>,
    /// The version that the module runs.
    pub from: Box<str>,
    /// Version that the verdict is about, or that the module downloads; empty if there is none.
    pub to: Box<str>,
}

/// An event. The publisher bounds all texts to 128 characters.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A check was answered.
    Check {
        /// Time in Unix seconds.
        unix: i64,
        /// The device and the update.
        subject: EventSubject,
        /// `offer`, `resume` or `refuse`.
        verdict: &'static str,
        /// Short reason for the verdict.
        reason: Box<str>,
        /// The module's address.
        peer: Box<str>,
    },
    /// A download has made progress, or has ended.
    Download {
        /// Time in Unix seconds.
        unix: i64,
        /// Number of the download, the same in all of its events.
        number: u32,
        /// The device and the update.
        subject: EventSubject,
        /// Bytes of the file that the module has.
        bytes: u64,
        /// Size of the file in bytes.
        size: u64,
        /// Result of the download; `None` while the download is running.
        result: Option<&'static str>,
    },
    /// A notice.
    Notice {
        /// Time in Unix seconds.
        unix: i64,
        /// The notice.
        notice: Notice,
    },
    /// The firmware folder has changed, so that offers may change.
    Catalog {
        /// Time in Unix seconds.
        unix: i64,
    },
}

/// Readers of events, and the program of `--on-event`.
#[derive(Debug, Default)]
pub struct Events {
    readers: Vec<Sender<Rc<Event>>>,
    /// Number that was given to the last download.
    next: u32,
    /// Queue of the program of `--on-event`.
    program: Option<ProgramQueue>,
}

impl Events {
    /// Whether there are readers. Without readers, no event need be built.
    pub fn wanted(&self) -> bool {
        !self.readers.is_empty()
    }

    /// Adds a reader; `None` if there are too many. A reader unsubscribes by dropping the receiver.
    pub fn subscribe(&mut self) -> Option<Receiver<Rc<Event>>> {
        self.readers.retain(|reader| !reader.is_closed());
        if self.readers.len() >= READERS {
            return None;
        }
        let (sender, receiver) = bounded(CAPACITY);
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

    /// Sets the program that gets the notices from now on. `None`: the thread of the former program ends after the
    /// notices in its queue.
    pub fn set_program(&mut self, program: Option<ProgramQueue>) {
        self.program = program;
    }

    /// Failure counters of the program; `None` if there is no program.
    pub fn program_counts(&self) -> Option<&Arc<ProgramCounts>> {
        self.program.as_ref().map(|program| &program.counts)
    }

    /// Returns a number for a new download.
    pub fn number(&mut self) -> u32 {
        self.next = self.next.wrapping_add(1);
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_event_is_built_without_a_reader() {
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
        assert_eq!(reader.len(), CAPACITY);
        assert!(events.wanted());
        let others: Vec<_> = (0..READERS).filter_map(|_| events.subscribe()).collect();
        assert_eq!(others.len(), READERS - 1);
    }
}
